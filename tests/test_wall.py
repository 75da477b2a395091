"""The wall: every number is the one of `result.json`; points land while a sweep runs; runs compared; models asked."""

import shutil
import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import pytest
from browser import Browser, chromium, opened
from command import labkit
from golden import frozen, reports

from labkit import show, studies
from labkit.lab import Record, Store, write_json
from labkit.lab.runs import past_runs
from labkit.show.wall import Server
from labkit.studies import wall
from labkit.studies.run import Run

READY = "document.documentElement?.dataset.ready"
SETTINGS = {"scale": "smoke", "n_instructions": [2, 20, 100, 200], "seeds": [0, 1, 2], "noop_shares": []}


def pretend(point: Any, record: Record) -> dict[str, Any]:
    """A row as of a trained model, in no time: the more rules, the better."""
    rng, asked = np.random.default_rng(point.seed), [4] * 10
    share = {"seen": 0.98, "unseen": min(0.95, point.n_instructions / 220)}
    lines = [{"exam": exam, "kind": "", "grading": "", "right": rng.binomial(4, p, 10).tolist(), "asked": asked}
             for exam, p in share.items()]  # fmt: skip
    record.log(step=point.steps, loss=0.1, accuracy_seen=0.9, accuracy_unseen=0.5)
    accuracies = {f"accuracy_{line['exam']}": sum(line["right"]) / 40 for line in lines}
    return {"graded": lines, "learned": True, "train_seconds": 0.0, "loss": 0.1, **accuracies}


def fill(store: Store, whole: bool = True, **settings: Any) -> Run:
    """Models of a diversity sweep in a store; `whole`: with the run that they are of."""
    study = studies.find("diversity_sweep")
    run = Run(study, study.resolve(SETTINGS | settings), store)
    for point in study.points(run.params):
        store.measure(point, pretend)
    if whole:
        run.finish(run.measure())
    return run


def data(store: Store) -> dict[str, Any]:
    return wall.wall(store, {"diversity_sweep": studies.find("diversity_sweep")})


@pytest.fixture
def store(own_store: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr("labkit.lab.store.sync", lambda path: None)  # hundreds of files that no power cut threatens
    clock = count()
    monkeypatch.setattr(
        "labkit.lab.store.time.strftime", lambda *_: f"2026-01-01T{next(clock):08}"
    )  # each its own time
    return Store(own_store)


@pytest.fixture
def page(store: Store, tmp_path: Path) -> Iterator[Browser]:
    """The wall of a store of 504 points, from a file."""
    chromium()
    fill(store, n_instructions=[2 * n for n in range(1, 43)], seeds=[*range(12)])
    file = wall.write_page(tmp_path / "out", data(store), lambda address: wall.model(store, address))
    (tmp_path / "profile").mkdir()
    with opened(f"file://{file}", tmp_path / "profile") as browser:
        browser.wait(READY)
        yield browser


@pytest.mark.slow
def test_every_number_is_the_one_of_the_result(page: Browser, store: Store) -> None:
    (run,) = past_runs(store)
    drawn = page.js("[...document.querySelectorAll('[data-mean]')].map((e) => ({...e.dataset}))")
    shown = sorted(tuple(float(one[name]) for name in ("mean", "lo", "hi")) for one in drawn)
    lines = run.result["summary"]["growth"]["estimates"]
    assert shown == sorted((line["mean"], line["lo"], line["hi"]) for line in lines)
    models = page.js("[...document.querySelectorAll('[data-address]')].map((e) => e.dataset.address)")
    assert sorted(models) == sorted(2 * [*run.addresses])  # each on seen and on unseen rules
    text = page.js("document.getElementById('diversity_sweep').innerText")
    assert run.result["finding"] in text
    assert all(claim["verdict"] in text and claim["published"] in text for claim in run.result["claims"])
    assert "Smoke scale: these numbers mean nothing" in text
    for width in (700, 853, 1280, 1440, 1920):
        page.size(width, 800)
        assert page.js("document.documentElement.scrollWidth") <= width
    assert page.js(
        "[...document.querySelectorAll('svg')].every((e) => e.getAttribute('aria-label') || e.closest('.legend'))"
    )


def restored(store: Store) -> dict[str, dict[str, Any]]:
    """The frozen report points in a store, and a run of each study over them; returns what was made of them."""
    made = {}
    for name, scale in reports():
        golden = frozen(name, f"{scale}-report")
        for point in golden["points"]:
            folder = store.points_folder(name) / point["address"]
            folder.mkdir(parents=True)
            write_json(folder / "point.json", {"study": name, "seed": point["seed"]})
            write_json(folder / "result.json", point | {"train_seconds": 0.0, "finished": "2026-12-01T00:00:00+0000"})
        params = studies.find(name).resolve({"scale": scale}).model_dump(mode="json")
        run = {"study": name, "scale": scale, "params": params, "points": golden["points"], **golden["made"]}
        run["summary"] = run.pop("views")
        folder = store.root / name / "runs" / name
        folder.mkdir(parents=True)
        write_json(folder / "result.json", run)
        made[name] = run
    return made


def numbers(data: Any) -> list[tuple[float, ...]]:
    """Every estimate in a figure's data."""
    if isinstance(data, list):
        return [found for one in data for found in numbers(one)]
    if not isinstance(data, dict):
        return []
    if "mean" in data:
        return [(data["mean"], data["lo"], data["hi"])]
    return [found for one in data.values() for found in numbers(one)]


@pytest.mark.slow
def test_five_hundred_points_are_a_light_page_that_draws_what_is_seen(store: Store, tmp_path: Path) -> None:
    """Bytes, marks drawn before the first scroll, and numbers: what makes the page fast, whatever the machine does."""
    chromium()
    made = restored(store)
    known = {name: studies.find(name) for name in made}
    told = wall.wall(store, known)
    assert told["points"] >= 500
    for study in told["studies"]:
        results, (run,) = made[study["name"]]["summary"], study["runs"]
        main = wall.main(known[study["name"]], list(results))
        assert main
        assert set(numbers(run["figure"])) <= set(numbers(results[main]["estimates"]))
        assert run["finding"] == made[study["name"]]["finding"]
    page = show.write_wall(tmp_path / "index.html", told, {})
    assert page.stat().st_size < 200_000
    (tmp_path / "profile").mkdir()
    with opened(page.as_uri(), tmp_path / "profile") as browser:
        browser.wait(READY)
        browser.size(1280, 720)
        marks = "document.querySelectorAll('[data-mean]').length"
        every = sum(len(numbers(run["figure"])) for study in told["studies"] for run in study["runs"])
        assert 0 < browser.js(marks) < 0.75 * every
        browser.js("[...document.querySelectorAll('article')].at(-1).scrollIntoView()")
        browser.wait("document.querySelector('article:last-child [data-mean]')")
        browser.js("dispatchEvent(new Event('beforeprint'))")
        drawn = browser.js("[...document.querySelectorAll('[data-mean]')].map((e) => ({...e.dataset}))")
        shown = sorted(tuple(float(one[name]) for name in ("mean", "lo", "hi")) for one in drawn)
        assert shown == sorted(numbers([run["figure"] for study in told["studies"] for run in study["runs"]]))


def test_what_belongs_to_no_run_is_shown_as_far_as_it_has_come(store: Store) -> None:
    fill(store, seeds=[0])
    fill(store, whole=False, seeds=[0, 1])
    fill(store, whole=False, seeds=[7], steps=99)  # another setting, older than the newest
    fill(store, whole=False, seeds=[2])
    (study,) = data(store)["studies"]
    assert (study["points"], len(study["runs"])) == (16, 1)
    assert study["open"]["points"] == 12  # those of the run among them, and none of 99 steps
    models = [model for series in study["open"]["figure"]["series"] for model in series["models"]]
    assert {seed for *_, seed, _ in models} == {0, 1, 2}
    (run,) = study["runs"]
    assert {point["seeds"] for series in run["figure"]["series"] for point in series["points"]} == {1}


def test_a_training_is_seen_while_it_runs(store: Store) -> None:
    study, seen = studies.find("diversity_sweep"), []

    def measure(point: Any, record: Record) -> dict[str, Any]:
        before, row = wall.version(store), pretend(point, record)
        seen.extend(wall.training(store, study))
        assert wall.version(store) != before
        return row

    store.measure(study.points(study.resolve(SETTINGS))[0], measure)
    (now,) = seen
    assert now["what"] == "rules 200, no-ops 0.0, input 8, seed 0"
    assert (now["step"], now["accuracy_unseen"]) == (20, 0.5)
    assert list(wall.training(store, study)) == []


def test_an_empty_store_and_a_damaged_point_are_no_obstacle(store: Store, tmp_path: Path) -> None:
    assert wall.write_page(tmp_path / "empty", data(store), lambda address: wall.model(store, address)).exists()
    fill(store, seeds=[0])
    folder = next((store.root / "diversity_sweep" / "points").glob("[0-9a-f]*"))
    (folder / "result.json").write_text("{")
    (study,) = data(store)["studies"]
    assert (study["points"], study["damaged"]) == (3, 1)


@pytest.mark.parametrize("name", [name for name, study in studies.every().items() if study.scales.get("smoke")])
def test_every_study_has_a_view_for_the_wall(name: str) -> None:
    study = studies.find(name)
    assert wall.main(study, list(study.views))


@pytest.mark.parametrize("name", ["which_teacher", "diversity_measures"])
def test_a_finding_about_ranks_has_their_figure(store: Store, name: str) -> None:
    """The finding's own numbers, the best first, each number once."""
    made = restored(store)[name]
    (study,) = wall.wall(store, {name: studies.find(name)})["studies"]
    ours = study["runs"][0]["figure"]["lines"]
    assert ours[0]["name"] in made["finding"]
    assert f"{ours[0]['mean']:.3f} [" in made["finding"].replace("+", "")
    lines = made["summary"]["ranks"]["estimates"]
    assert {line["name"] for line in ours} == {line["label"] for line in lines}
    assert len(ours) == len({line["label"] for line in lines})
    own = [line["mean"] for line in lines if line["exam"] == lines[0]["exam"]]
    assert [line["mean"] for line in ours][: len(own)] == sorted(own, reverse=True)


KINDS = ["diversity_sweep", "which_teacher", "semantic_diversity"]  # curves, lines, a grid


@pytest.mark.slow
def test_the_keyboard_reaches_what_the_mouse_shows(store: Store, tmp_path: Path) -> None:
    """One tab stop per figure; arrow keys go to every mark with a tooltip, whose words then stand there."""
    chromium()
    restored(store)
    page = show.write_wall(tmp_path / "index.html", wall.wall(store, {name: studies.find(name) for name in KINDS}), {})
    (tmp_path / "profile").mkdir()
    with opened(page.as_uri(), tmp_path / "profile") as browser:
        browser.wait(READY)
        browser.js("dispatchEvent(new Event('beforeprint'))")
        for name in KINDS:
            figure = f"document.querySelector('#{name} .figure')"
            assert browser.js(f"{figure}.querySelectorAll('[tabindex=\"0\"]').length") == 1
            tips = browser.js(f"""[...{figure}.querySelectorAll('title, td[title]')].filter((e) => !e.closest('text'))
                .map((e) => e.title || e.textContent)""")
            assert len(tips) >= 4
            browser.js(f"document.activeElement.blur(); {figure}.querySelector('[tabindex=\"0\"]').focus()")
            said = []
            for tip in tips:
                said.append(browser.js(f"{figure}.querySelector('.told:not([hidden])').textContent"))
                assert browser.js("document.activeElement.ariaLabel") == tip
                browser.press("ArrowRight")
            assert said == tips
            assert browser.js("document.activeElement.ariaLabel") == tips[-1]  # the last one stays
        cell = "document.activeElement.cellIndex + ' ' + document.activeElement.parentNode.rowIndex"
        column, row = map(int, browser.js(cell).split())
        browser.press("ArrowUp")
        assert browser.js(cell) == f"{column} {row - 1}"
        for key in ("Tab", "Escape"):  # out of the figure, and back to the very same cell
            assert browser.js("document.activeElement.matches('#semantic_diversity td')") == (key == "Tab")
            browser.call("Input.dispatchKeyEvent", type="keyDown", key=key, code=key, windowsVirtualKeyCode=9)


@pytest.fixture
def served(store: Store) -> Iterator[Server]:
    study = studies.find("diversity_sweep")
    server = Server(0, wall.Watched(store, {study.name: study}).data, lambda address: wall.model(store, address),
                    lambda one, other: studies.compare(one, other).differences())  # fmt: skip
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("path", "host", "status", "says"),
    [
        ("nix", "127.0.0.1", 404, "there is no nix here"),
        ("model/0123", "127.0.0.1", 400, "names no finished point"),
        ("compare/a/b", "127.0.0.1", 400, "names no run"),
        ("data", "elsewhere.example", 403, "for this machine"),
    ],
)
def test_the_server_answers_in_sentences(served: Server, path: str, host: str, status: int, says: str) -> None:
    with pytest.raises(HTTPError) as refused:
        urlopen(Request(served.address + path, headers={"Host": host}))
    assert refused.value.code == status
    assert says in refused.value.read().decode()


@pytest.mark.slow
def test_points_land_and_runs_are_compared(served: Server, store: Store, tmp_path: Path) -> None:
    chromium()
    fill(store, seeds=[0])
    fill(store, seeds=[0, 1])
    (tmp_path / "profile").mkdir()
    with opened(served.address, tmp_path / "profile") as browser:
        browser.wait(READY)
        assert browser.js("document.querySelectorAll('.landed').length") == 0
        fill(store, whole=False, seeds=[2], n_instructions=[200])
        browser.wait("document.getElementById('store').textContent.startsWith('9 trained models')")
        for place in (1, 2):  # the newest run stands first, what is not finished before it
            browser.js(f"""(() => {{ const s = document.querySelector('article select');
                s.selectedIndex = {place}; s.dispatchEvent(new Event('change')); }})()""")
            browser.js("document.querySelector('article input').focus()")
            browser.press(" ")
        browser.wait("document.querySelector('#two table')")
        words = browser.js("document.getElementById('two').innerText")
        assert "seeds (A [0,1], B [0])" in words
        lines = studies.compare(*(run.folder.name for run in past_runs(store))).differences()
        assert browser.js("document.querySelectorAll('#two table tr').length") == len(lines) + 1
        assert "the same models" in words
        assert browser.js("document.querySelectorAll('#two .legend span').length") == 4


@pytest.mark.slow
def test_the_command_leaves_a_page_that_asks_its_models(own_store: Path, tmp_path: Path) -> None:
    chromium()
    study = studies.find("diversity_sweep")
    run = Run(study, study.resolve(SETTINGS | {"n_instructions": [2, 40], "seeds": [0], "steps": 2}))
    run.finish(run.measure(jobs=0))
    done = labkit("wall", "--out", tmp_path / "out")
    assert done.stdout == f"{tmp_path / 'out' / 'index.html'}\n"
    shutil.rmtree(own_store)  # the page needs it no more
    (tmp_path / "profile").mkdir()
    with opened(f"file://{tmp_path / 'out' / 'index.html'}", tmp_path / "profile") as browser:
        browser.call("Log.enable")
        browser.wait("document.querySelectorAll('#panel button.letter').length >= 16")
        names = browser.js("[...document.querySelectorAll('#panel fieldset label')].map((e) => e.innerText.trim())")
        assert sorted(names) == ["rules 2, no-ops 0.0, input 8, seed 0", "rules 40, no-ops 0.0, input 8, seed 0"]
        browser.click("document.querySelector('#panel button.letter')")
        browser.wait("document.querySelector('#panel .said')?.textContent.includes('of 50')")
        box = "document.querySelector('#panel fieldset input')"
        browser.js(f'{box}.click(); document.querySelector(`.picks[data-address="${{{box}.value}}"]`).focus()')
        assert browser.js("document.activeElement.getAttribute('role')") == "button"
        browser.press("Enter")  # on a mark: its model joins
        assert browser.js(f"{box}.checked && document.activeElement === {box}")


def test_a_folder_that_cannot_be_written_is_refused(own_store: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = labkit("wall", "--out", tmp_path / "file")
    assert (done.returncode, "cannot write" in done.stderr) == (2, True)
