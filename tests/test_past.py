"""Runs that are over: repeated from their own record, and compared."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from command import Done, labkit
from golden import frozen, lengthened

from labkit import BadRequest, studies
from labkit.lab import Store
from labkit.lab.runs import PastRun, differences, past_runs
from labkit.studies import semantic_diversity
from labkit.studies.past import Comparison
from labkit.studies.views import Curve

SMALL = ["--scale", "smoke", "--set", "noop_shares=[]", "--set", "n_instructions=[4,40]", "--set", "seeds=[0,1]"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two runs, of 3 and of 5 steps, shared and never changed."""
    root = tmp_path_factory.mktemp("past") / "papermill_runs"
    for steps in (3, 5):
        done = labkit("run", "diversity_sweep", *SMALL, "--set", f"steps={steps}", LABKIT_RUNS=str(root))
        assert done.returncode == 0, done.stderr
    return root


@pytest.fixture
def runs(made: Path, own_store: Path) -> list[str]:
    """The names of the two runs, the first one first, in a store of this test's own."""
    shutil.copytree(made, own_store)
    return [run.folder.name for run in reversed(past_runs(Store(own_store)))]


@pytest.mark.parametrize(
    ("one", "other", "sentences"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": [1, {"b": 2.0}]}, {"a": [1, {"b": 2.5}]}, ["a[1].b: 2.0 before, 2.5 now"]),
        ({"a": 1, "b": 2}, {"b": 3, "c": 4}, ["a: 1 before, None now", "b: 2 before, 3 now", "c: None before, 4 now"]),
        ({"a": [1]}, {"a": [1, 2]}, ["a: [1] before, [1, 2] now"]),
        ({"train_seconds": 1, "finished": "x", "fleet": 1}, {"train_seconds": 2, "finished": "y", "fleet": 2}, []),
    ],
)
def test_differences_are_named_by_their_place(one: Any, other: Any, sentences: list[str]) -> None:
    assert list(differences(one, other)) == sentences


@pytest.mark.slow
@pytest.mark.parametrize("fresh", [[], ["--fresh"]])
def test_a_run_comes_out_again(runs: list[str], own_store: Path, fresh: list[str]) -> None:
    points = {path: path.stat().st_mtime_ns for path in own_store.glob("*/points/*/result.json")}
    done = labkit("rerun", runs[0], *fresh)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"4 points, {0 if fresh else 4} of them already in the store" in done.stdout
    assert "all is equal: 4 points, the estimates and the finding" in done.stdout
    assert {path: path.stat().st_mtime_ns for path in own_store.glob("*/points/*/result.json")} == points
    assert not list(own_store.glob(".fresh*"))
    assert len(past_runs(Store(own_store))) == 3  # the repetition is a run, too


@pytest.mark.slow
def test_what_is_measured_anew_comes_into_a_store_that_lacks_it(
    runs: list[str], own_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABKIT_RUNS", str(tmp_path / "empty"))
    (tmp_path / "empty").mkdir()
    done = labkit("rerun", str(own_store / "diversity_sweep" / "runs" / runs[0]), "--fresh")
    assert done.returncode == 0, done.stdout + done.stderr
    assert labkit("store", "check").returncode == 0
    assert len(list(tmp_path.glob("empty/*/points/*/result.json"))) == 4
    assert not list(tmp_path.glob("empty/.fresh*"))


@pytest.mark.slow
def test_prune_knows_of_a_run_that_was_written_elsewhere(own_store: Path, tmp_path: Path) -> None:
    done = labkit("run", "diversity_sweep", *SMALL, "--set", "steps=3", "--out", str(tmp_path / "mine"))
    assert done.returncode == 0, done.stderr
    assert "nothing, 0.0 MiB" in labkit("store", "prune").stdout
    shutil.rmtree(tmp_path / "mine")
    assert "4 x point of no run" in labkit("store", "prune").stdout


@pytest.mark.slow
def test_the_first_difference_is_named(runs: list[str], own_store: Path) -> None:
    path = own_store / "diversity_sweep" / "runs" / runs[0] / "result.json"
    result = json.loads(path.read_text())
    before = result["points"][1]["loss"]
    result["points"][1]["loss"] = 99.5
    path.write_text(json.dumps(result))
    done = labkit("rerun", str(path.parent))
    assert done.returncode == 1
    assert f"1 difference(s); the first: points[1].loss: 99.5 before, {before} now" in done.stderr


def refused(*words: str) -> str:
    done: Done = labkit(*words)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done
    return done.stderr


@pytest.mark.slow
def test_a_run_without_its_record_cannot_be_repeated(runs: list[str], own_store: Path) -> None:
    folder = own_store / "diversity_sweep" / "runs" / runs[0]
    assert "names 2 runs" in refused("rerun", "2")
    assert "names no run" in refused("rerun", "none")
    assert "unknown study" in refused("rerun", runs[0], "--study", "diversty")
    (folder / "params.yaml").write_text("sedes: [0]\n")
    assert "did you mean 'seeds'" in refused("rerun", runs[0])
    (folder / "params.yaml").unlink()
    assert "does not exist" in refused("rerun", runs[0])
    (folder / "result.json").write_text("[]")
    assert "is not the result of a run" in refused("rerun", str(folder))
    assert len(list(folder.parent.iterdir())) == 2


@pytest.mark.slow
def test_a_run_beside_itself_differs_by_exactly_0(runs: list[str]) -> None:
    both = studies.compare(runs[0], runs[0])
    assert both.parameters() == []
    lines = both.differences()
    assert {(line["exam"], line["n_instructions"]) for line in lines} == {
        (e, n) for e in ("seen", "unseen") for n in (4, 40)
    }
    for line in lines:
        assert (line["B - A"], line["95 % low"], line["high"], line["seeds"]) == (0, 0, 0, 2)
        assert line["verdict"] == "the same models"


@pytest.mark.slow
def test_two_runs_are_compared_model_by_model(runs: list[str], own_store: Path, tmp_path: Path) -> None:
    both = studies.compare(*runs)
    assert [line for line in both.parameters() if line["differs"] != "commit"] == [{"differs": "steps", "A": 3, "B": 5}]
    for line in both.differences():
        means = []
        for label in "AB":  # the mean over shared seeds, from the points themselves
            wanted = both.rows[
                both.rows["run"].eq(label) & both.rows["key"].eq(line["exam"])
                & both.rows["n_instructions"].eq(line["n_instructions"])
            ]  # fmt: skip
            means.append(np.mean([sum(r) / sum(a) for r, a in zip(wanted["right"], wanted["asked"], strict=True)]))
        assert line["B - A"] == pytest.approx(means[1] - means[0], abs=1e-12)
        assert line["95 % low"] <= line["B - A"] <= line["high"]
        assert line["95 % low"] < line["high"]  # the models differ: no interval without a width
        assert line["seeds"] == 2
    swapped = studies.compare(*reversed(runs)).differences()
    assert [line["B - A"] for line in swapped] == pytest.approx([-line["B - A"] for line in both.differences()])
    drawn = json.dumps(both.chart().to_dict())
    for label, run in zip("AB", runs, strict=True):
        assert f'"series": "{label} {run}"' in drawn


@pytest.mark.slow
def test_only_shared_seeds_and_settings_are_compared(runs: list[str], own_store: Path) -> None:
    folder = own_store / "diversity_sweep" / "runs"
    result = json.loads((folder / runs[1] / "result.json").read_text())
    result["points"] = [one for one in result["points"] if one["seed"] == 1 and one["n_instructions"] == 40]
    (folder / runs[1] / "result.json").write_text(json.dumps(result))
    lines = studies.compare(*runs).differences()
    assert {(line["n_instructions"], line["seeds"]) for line in lines} == {(40, 1)}


@pytest.mark.slow
def test_the_command_shows_both_and_leaves_a_picture(runs: list[str], tmp_path: Path) -> None:
    for name in ("both.html", "both.png"):
        done = labkit("compare", *runs, "--out", tmp_path / name, COLUMNS="100")
        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines()
        assert [line.split()[0] for line in lines[:2]] == ["A:", "B:"]
        assert any(line.split() == ["steps", "3", "5"] for line in lines)
        assert max(len(line) for line in lines[2:-1]) <= 100
    assert (tmp_path / "both.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "both.html").read_text()
    assert "vegaEmbed" in page
    assert not re.search(r'<(script|link)[^>]+(src|href)="http', page)  # opens offline


@pytest.mark.slow
def test_what_cannot_be_compared_is_one_sentence(runs: list[str], own_store: Path, tmp_path: Path) -> None:
    folder = own_store / "diversity_sweep" / "runs" / runs[0]
    other = own_store / "long_tail" / "runs" / "other"
    shutil.copytree(folder, other)
    result = json.loads((folder / "result.json").read_text())
    (other / "result.json").write_text(json.dumps(result | {"study": "long_tail"}))
    assert "these are runs of diversity_sweep and long_tail" in refused("compare", runs[0], "other")
    assert "names no run" in refused("compare", runs[0], "none")
    assert "ends neither in .html nor in .png" in refused("compare", *runs, "--out", str(tmp_path / "x.pdf"))
    shutil.rmtree(own_store / "diversity_sweep" / "points" / result["points"][0]["address"])
    assert f"no finished point {result['points'][0]['address']}" in refused("compare", *runs)


EXAMS = {
    "diversity_sweep": ["unseen", "seen"], "input_variety": ["varied", "unseen", "seen"],
    "long_tail": ["unseen", "seen", "rare"], "semantic_diversity": [*semantic_diversity.COLUMNS, "seen"],
    "markov_programs": ["unseen", "seen", "shorter", "longer"],
}  # fmt: skip


@pytest.mark.parametrize("name", EXAMS)
def test_runs_of_every_shape_can_be_compared(name: str) -> None:
    """Frozen rows beside themselves: every setting makes its pairs, and each of them is exactly 0."""
    study = studies.find(name)
    rows = study.summarise(lengthened(frozen(name, "smoke")["rows"], EXAMS[name])).rows
    runs = {label: PastRun(Path("one"), {"study": name, "params": {}, "points": []}, {}) for label in "AB"}
    both = Comparison(study, runs, pd.concat([rows.assign(run=label) for label in runs], ignore_index=True))
    lines = both.differences()
    whole = rows[rows["key"].eq(rows["exam"])]
    dials = ["exam", *study.dials, *(["volume"] if "volume" in rows else [])]
    assert len(lines) == len(whole[dials].map(str).drop_duplicates())
    assert {(line["B - A"], line["95 % low"], line["high"]) for line in lines} <= {(0, 0, 0)}
    if any(isinstance(view, Curve) for view in study.views.values()):
        assert both.chart().to_dict()
    else:
        with pytest.raises(BadRequest, match="has no view along a dial"):
            both.chart()
