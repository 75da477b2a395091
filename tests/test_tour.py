"""The tour: training that stops and goes on, a prediction that is kept, sentences for bad input, and the notebook."""

import os
import re
import sys
import time
from collections.abc import Callable
from html import unescape
from pathlib import Path
from threading import Event
from typing import Any

import ipywidgets
import nbformat
import pytest
from browser import PATIENCE, Browser, chromium, jupyterlab
from browser import opened as page
from command import labkit

from labkit import BadRequest
from labkit.instructions import Rule
from labkit.learn import live as live_module
from labkit.learn.live import BATCH, Live
from labkit.show import theme, tour

NOTEBOOK = Path(__file__).parent.parent / "notebooks" / "00_tour.ipynb"


def finished(live: Live) -> Live:
    live.go()
    live.wait(PATIENCE)
    assert live.state == "finished", live.problem
    return live


def until(true: Callable[[], Any]) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, "never came true"
        time.sleep(0.02)


# Training that is watched


def test_a_training_starts_stops_goes_on_and_finishes_as_if_it_had_never_stopped() -> None:
    stood = Event()

    def tell(live: Live) -> None:
        if len(live.looks[2]) == 1:
            live.stop()
            stood.set()

    live = Live([2, 5], steps=3, every=1, tell=tell)
    assert (live.state, live.looks) == ("ready", {2: [], 5: []})
    live.stop()
    assert live.state == "ready"
    live.go()
    assert stood.wait(PATIENCE)
    live.wait(0.2)  # it stands, so there is nothing to wait for
    assert live.state == "stopped"
    assert [len(looks) for looks in live.looks.values()] == [1, 1]
    finished(live)
    assert [look.step for look in live.looks[5]] == [1, 2, 3]
    assert all(len(look.answer) == len(live.right) and 0 <= look.followed <= 1 for look in live.looks[2])
    assert live.looks == finished(Live([2, 5], steps=3, every=1)).looks
    live.go()
    live.stop()
    assert live.state == "finished"


def test_a_closed_training_ends_though_it_was_stopped() -> None:
    live = Live([2], steps=1000, every=1, tell=lambda live: live.stop())
    live.go()
    until(lambda: live.state == "stopped")
    live.close()
    live.wait(PATIENCE)
    assert not live._thread.is_alive()
    assert len(live.looks[2]) == 1


def test_what_fails_is_said_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def diverge(*_: Any, **__: Any) -> None:
        raise BadRequest("training diverged")

    monkeypatch.setattr(live_module, "train_fleet", diverge)
    told: list[str] = []
    live = Live([2], steps=1, tell=lambda live: told.append(live.state))
    live.go()
    live.wait(PATIENCE)
    assert (live.state, live.problem, told) == ("failed", "training diverged", ["failed"])
    assert tour.progress(live, 2) == "training diverged"


def test_the_question_that_is_shown_is_one_of_the_unseen_and_right() -> None:
    live = Live([2], steps=1)
    assert live.rule.apply(live.text) == live.right != live.text


@pytest.mark.parametrize(("counts", "steps"), [([0], 1), ([BATCH + 1], 1), ([2], 0), ([2], 10**9)])
def test_what_cannot_be_trained_is_refused(counts: list[int], steps: int) -> None:
    with pytest.raises(BadRequest):
        tour.Tour(counts, steps)


@pytest.mark.parametrize(
    ("given", "says"),
    [(("x",), "counts = 'x'"), ((5,), "counts = 5"), (([1.5],), "a list of whole numbers"),
     (([],), "counts = "), ((["10"],), "counts"), ((None,), "counts = None"), (([2], "x"), "steps = 'x'"),
     (([2], None), "steps = None"), (([0],), "0 rules")],
)  # fmt: skip
def test_what_is_no_number_is_a_sentence(given: Any, says: str) -> None:
    with pytest.raises(BadRequest, match=says):
        tour.Tour(*given)


@pytest.mark.parametrize("watched", [False, True])
def test_stations_refuse_wrong_types_in_a_sentence(watched: bool) -> None:
    visit = tour.Tour([2], steps=2, watched=watched)
    for n in ("x", None, 1.5, [1], 0, 10**6):
        with pytest.raises(BadRequest, match=r"n = |rules:"):
            visit.slide(n)
    for rule, text in ((5, "a"), (None, "a"), ("a -> b", 5), ("a -> b", ["a"])):
        with pytest.raises(BadRequest, match=r"5|None|'\['"):
            visit.answer(rule, text)


# The stations


@pytest.fixture
def visit() -> tour.Tour:
    return tour.Tour([2, 5], steps=2, watched=True)


def parts_of(widget: Any, kind: type) -> list[Any]:
    found = [widget] if isinstance(widget, kind) else []
    return found + [part for child in getattr(widget, "children", ()) for part in parts_of(child, kind)]


@pytest.mark.parametrize(
    ("rule", "text", "answer", "sentences"),
    [
        ("iss art", "mississippi", "m", ["is not a rule", "", ""]),
        ("", "mississippi", "m", ["is not a rule", "", ""]),
        ("-> art", "mississippi", "m", ["empty left side", "", ""]),
        ("i5s -> art", "Mississippi", "m", ["'5' in the rule", "'M' in the input", ""]),
        ("iss -> art", "", " ", ["", "the input is empty", "the answer is empty"]),
        ("iss -> art", "<b>", "m" * 41, ["", "'<' in the input", "41 letters"]),
        ("iss -> art", "mississippi", "martissippi", ["", "", ""]),
    ],
)
def test_bad_input_is_a_sentence_beside_its_field(
    visit: tour.Tour, rule: str, text: str, answer: str, sentences: list[str]
) -> None:
    station = visit.answer()
    for box, value in zip(parts_of(station, ipywidgets.Text), (rule, text, answer), strict=True):
        box.value = value
    (button,) = parts_of(station, ipywidgets.Button)
    button.click()
    *beside, below = (html.value for html in parts_of(station, ipywidgets.HTML))
    for wanted, said in zip(sentences, beside, strict=True):
        assert wanted in unescape(said)
        assert bool(wanted) == bool(said)
        assert "<" not in said
    assert bool(below) == (not any(sentences))


def test_the_trace_tells_right_from_wrong_without_colour() -> None:
    rule = Rule.parse("iss -> art")
    right, wrong, short = (tour.trace(rule, "mississippi", answer) for answer in ("martissippi", "mississippi", "mart"))
    assert (right.count("✓"), right.count("✗"), right.count("dashed")) == (11, 0, 0)
    assert (wrong.count("✗"), wrong.count("dashed")) == (3, 3)
    assert (short.count("✓"), short.count("✗"), "Not right" in short) == (4, 7, True)
    assert "does not occur" in tour.trace(rule, "canada", "canada")


def test_a_prediction_is_kept_until_the_result(visit: tour.Tour) -> None:
    visit.predict().drawn = {"10": 0.0, "1000": 0.85}
    assert visit.prediction == {10: 0.0, 1000: 0.85}
    assert visit.predict().drawn == {"10": 0.0, "1000": 0.85}  # the cell is run again
    (drawn,) = visit.series()
    assert drawn["points"] == [(10, 0.0), (1000, 0.85)]
    plots = parts_of(visit.slide(), tour.Plot)
    assert plots[0].view["series"][0]["name"] == "your prediction"


def test_the_race_is_one_button_that_says_what_it_does(visit: tour.Tour) -> None:
    race = visit.race()
    (button,), (words,), (plot,) = (parts_of(race, k) for k in (ipywidgets.Button, ipywidgets.HTML, tour.Plot))
    assert (button.description, words.value.count("✓")) == ("Start", 0)
    button.click()
    visit.live.wait(PATIENCE)
    assert button.description == "Once more"
    assert words.value.count("step 2 of 2") == 2
    assert words.value.count("✓") + words.value.count("✗") == 2 * len(visit.live.right)
    assert [series["name"] for series in plot.view["series"]] == ["2 rules", "5 rules"]
    assert plot.view["series"][0]["kind"] != plot.view["series"][1]["kind"]
    first = visit.live
    button.click()
    assert visit.live is not first
    visit.live.wait(PATIENCE)


def test_a_race_that_stops_offers_to_go_on(visit: tour.Tour, monkeypatch: pytest.MonkeyPatch) -> None:
    race, gate = visit.race(), Event()
    learn = live_module.train_fleet
    monkeypatch.setattr(live_module, "train_fleet", lambda *a, **k: gate.wait(PATIENCE) and learn(*a, **k))
    (button,) = parts_of(race, ipywidgets.Button)
    labels = []
    for _ in range(3):
        button.click()
        labels.append(button.description)
    gate.set()
    visit.live.wait(PATIENCE)
    assert [*labels, button.description] == ["Stop", "Go on", "Stop", "Once more"]


def test_a_new_race_ends_the_one_before(visit: tour.Tour) -> None:
    visit.race()
    before = visit.live
    before.go()
    visit.race()
    before.wait(PATIENCE)
    assert not before._thread.is_alive()
    assert visit.live.state == "ready"


def test_the_slider_trains_the_last_number_that_was_asked_for(
    visit: tour.Tour, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tour, "SETTLED", 0.01)
    asked, busy, gate = [], Event(), Event()

    def train(n: int, tell: Any) -> float:
        asked.append(n)
        busy.set()
        assert gate.wait(PATIENCE)
        return 0.5

    monkeypatch.setattr(visit, "train", train)
    station = visit.slide()
    (slider,) = parts_of(station, tour.Slider)
    slider.value = 10
    assert busy.wait(PATIENCE)
    for value in (20, 30, 1000):
        slider.value = value
    gate.set()
    (said,) = parts_of(station, ipywidgets.HTML)
    until(lambda: said.value == "1,000 rules: 50 % of the unseen rules are followed.")
    assert asked == [10, 1000]


def test_a_point_lands_and_is_a_ghost_of_the_next_visit(visit: tour.Tour) -> None:
    told: list[str] = []
    visit.train(3, lambda live: told.append(live.state))
    visit.train(3)
    assert told[-1] == "finished"
    assert [n for n, _ in visit.trained] == [3, 3]
    rows = visit.store.read("tour")[0]
    assert sorted(row["seed"] for row in rows) == [0, 1]  # another model each time
    assert sorted(tour.Tour([2], steps=2).before["this tour"]) == sorted(visit.trained)
    assert tour.Tour([2], steps=3).before == {}


def test_a_number_that_cannot_be_trained_is_a_sentence(visit: tour.Tour, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tour, "SETTLED", 0.01)
    station = visit.slide()
    parts_of(station, tour.Slider)[0].value = 10_000
    (said,) = parts_of(station, ipywidgets.HTML)
    until(lambda: "128 rules" in said.value)
    assert visit.trained == []


def test_only_models_of_the_same_task_stand_behind() -> None:
    def row(**other: Any) -> dict[str, Any]:
        return tour.ALIKE | {"steps": 750, "n_instructions": 30, "accuracy_unseen": 0.1} | other

    class Kept:
        def read(self, study: str) -> Any:
            rows = [row(), row(noop_share=0.5), row(steps=20), row(input_length=50), row(recipe="paper")]
            return (rows if study == "diversity_sweep" else []), []

    assert tour.stored(Kept(), 200) == {"diversity sweep, 750 steps": [(30, 0.1)]}  # type: ignore[arg-type]


def test_every_station_has_a_picture(visit: tour.Tour) -> None:
    visit.watched = False
    for picture in (visit.predict(), visit.race(), visit.slide(n=3)):
        assert int.from_bytes(theme.png(picture, 1)[20:24], "big") <= 480  # pixels high
    assert "✓" in visit.answer().data


def test_a_saved_copy_of_every_station_has_a_picture(visit: tour.Tour) -> None:
    """Where no kernel is, the widget's own name would be all that is shown."""
    ipywidgets.Widget.close_all()
    for station in (visit.answer(), visit.predict(), visit.race(), visit.slide()):
        bundle = station._repr_mimebundle_()
        shown = (bundle[0] if isinstance(bundle, tuple) else bundle)["text/html"]
        assert "<img" in shown or "✓" in shown or "✗" in shown


# The command, the notebook, JupyterLab


def test_the_command_opens_jupyterlab(own_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda _, words: ran.append(words))
    assert labkit("tour").returncode == 0
    assert ran == [[sys.executable, "-m", "jupyterlab", str(NOTEBOOK)]]
    assert os.environ["LABKIT_RUNS"] == str(own_store.resolve())


def test_the_command_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "jupyterlab" else object())
    done = labkit("tour")
    assert done.returncode == 2
    assert done.stderr == "labkit: the tour needs what is not installed (jupyterlab): pip install 'labkit[lab]'\n"


def tiny() -> Any:
    """The notebook, with models that train in no time."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    (cell,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    for name, value in {"counts": "[2, 5]", "steps": "10"}.items():
        cell.source, changed = re.subn(rf"(?m)^{name} = .*?  #", f"{name} = {value}  #", cell.source)
        assert changed == 1
    return notebook


@pytest.mark.slow
def test_the_notebook_runs_where_nobody_watches(own_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nbclient import NotebookClient

    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    notebook = tiny()
    NotebookClient(notebook, timeout=PATIENCE, resources={"metadata": {"path": str(NOTEBOOK.parent)}}).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert [output.output_type for output in shown] == ["execute_result"] * 4  # and nothing on stderr
    assert ["image/png" in output.data for output in shown] == [False, True, True, True]
    assert len(list(own_store.glob("tour/points/*/result.json"))) == 1


AXES, SAID = "document.querySelector('.jp-OutputArea svg[tabindex]')", "document.body.innerText"


@pytest.mark.slow
def test_a_person_takes_the_tour_in_jupyterlab(tmp_path: Path, own_store: Path) -> None:
    """Keys and mouse, in a real JupyterLab: nothing that is pressed on a station moves the notebook."""
    chromium()
    folder = tmp_path / "notebooks"
    folder.mkdir()
    nbformat.write(tiny(), folder / "tour.ipynb")
    with jupyterlab(folder, "tour.ipynb", tmp_path / "jupyter") as url, page(url, tmp_path / "profile") as browser:
        browser.size(1280, 720)
        browser.wait("document.querySelectorAll('.jp-MarkdownCell').length > 2")
        browser.wait(f"{SAID}.includes('| Idle')")
        browser.click("document.querySelector('.jp-MarkdownCell')")
        browser.press(*["Enter"] * len(tiny().cells), shift=True)
        browser.wait(AXES)
        check_the_prediction(browser)
        check_the_answer(browser)
        browser.click(button("Start"))
        browser.wait(button("Once more"))
        assert browser.js(f"{SAID}.split('step 10 of 10').length") == 3
        slider = "document.querySelector('.jp-OutputArea input[type=range]')"
        assert browser.js(f"{slider}.ariaLabel + {slider}.ariaValueText") == "number of rules100 rules"
        browser.js(f"{slider}.focus()")
        browser.press("ArrowRight")
        assert browser.js(f"{slider}.ariaValueText") == "107 rules"
        browser.wait(f"{SAID}.includes('of the unseen rules are followed.')")
        named = "[...document.querySelectorAll('.jp-OutputArea span')].map(e => e.innerText)"
        assert (
            browser.js(f"{named}.filter(name => name === 'your prediction').length") == 2
        )  # drawn, and beside the point
        assert browser.js(f"{named}.filter(name => name === 'trained here').length") == 1
        assert browser.js(f"document.activeElement === {slider}"), "the slider lost the focus"
        assert not browser.js("document.querySelector('.jp-mod-selected .jp-CodeMirrorEditor:focus-within')")


def button(label: str) -> str:
    return f"[...document.querySelectorAll('.jp-OutputArea button')].find(e => e.innerText.trim() === '{label}')"


def check_the_prediction(browser: Browser) -> None:
    box = browser.box(AXES)
    left, top, width = box["left"], box["top"], box["width"]
    assert width > 600
    browser.drag((left + 60, top + 200), (left + width - 20, top + 10))
    assert browser.js(f"{AXES}.querySelectorAll('circle').length") == 10  # also what the mouse jumped over
    browser.wait(f"{SAID}.includes('10,000 rules: 100 %')")
    browser.press("ArrowLeft", "ArrowDown")
    browser.press("ArrowLeft", "Delete")
    assert browser.js(f"{AXES}.querySelectorAll('circle').length") == 9
    assert browser.js(f"document.activeElement === {AXES}"), "JupyterLab took the keys"


def check_the_answer(browser: Browser) -> None:
    field = "document.querySelectorAll('.jp-OutputArea input[type=text]')[2]"
    browser.click(field)
    browser.type("miss1ssippi")
    browser.press("Enter")
    browser.wait(f"""{SAID}.includes("'1' in the answer is not one of the letters")""")
    browser.js(f"{field}.select()")
    browser.type("martissippi")
    browser.press("Enter")
    browser.wait(f"{SAID}.includes('becomes “art”')")
