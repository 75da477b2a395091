"""`labkit results` and `labkit runs`: what fits the terminal, what varies first, filters, and means with intervals."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from command import labkit
from scipy import stats
from toy import ToyPoint, square

from labkit import grade, studies
from labkit.lab import Store, sweep
from labkit.table import print_table

SETTINGS = [(n, share, seed) for seed in (0, 1) for share in (0.5, 0.0) for n in (300, 20)]


@pytest.fixture
def store(own_store: Path) -> Store:
    return Store(own_store)


def put(store: Store, number: int, settings: dict[str, Any], **row: Any) -> str:
    """A finished point as an earlier version left it, without a seal."""
    folder = store.points_folder("diversity_sweep") / f"{number:016x}"
    folder.mkdir(parents=True)
    point = {"study": "diversity_sweep", "version": 1, **settings}
    (folder / "point.json").write_text(json.dumps(point))
    whole = {"address": folder.name, **point, **row, "finished": "2026-11-30T16:00:00+0000"}
    (folder / "result.json").write_text(json.dumps(whole))
    return folder.name


def graded(right: list[int]) -> dict[str, Any]:
    line = {"exam": "unseen", "kind": "", "grading": "", "right": right, "asked": [4] * len(right)}
    return {"graded": [line, line | {"kind": "long", "right": [0] * len(right)}], "accuracy_unseen": sum(right) / 16}


@pytest.fixture
def filled(store: Store) -> list[str]:
    return [
        put(store, number, {"seed": seed, "n": n, "share": share, "width": 64}, loss=number / 10, lists=[1],
            **graded([seed, n % 3, 2, 4]), tail="x" * 30)
        for number, (n, share, seed) in enumerate(SETTINGS)
    ]  # fmt: skip


def put_run(
    store: Store, name: str, scale: str, addresses: list[str], finding: str = "it grows", **params: Any
) -> Path:
    folder = store.root / "diversity_sweep" / "runs" / name
    folder.mkdir(parents=True)
    chosen = studies.find("diversity_sweep").resolve({"scale": scale, **params}).model_dump(mode="json")
    points = [{"address": address, "study": "diversity_sweep"} for address in addresses]
    result = {"study": "diversity_sweep", "scale": scale, "params": chosen, "points": points, "finding": finding}
    made = {"git": "0123456789abcdef+changes", "seconds": 90.0, "time": f"2026-11-30T{name[:2]}:00:00+0000"}
    (folder / "result.json").write_text(json.dumps(result))
    (folder / "provenance.json").write_text(json.dumps(made))
    return folder


def test_a_table_is_sorted_by_what_varies_and_shows_that_first(filled: list[str]) -> None:
    lines = labkit("results").stdout.splitlines()
    assert lines[0].split()[:4] == ["address", "n", "share", "seed"]  # neither width, which never varies, nor lists
    assert "width" not in lines[0]
    assert "lists" not in lines[0]
    assert lines[0].split()[4] == "accuracy_unseen"
    assert lines[0].split()[-2:] == ["tail", "finished"]  # which are constant
    rows = [tuple(float(word) for word in line.split()[1:4]) for line in lines[1:]]
    assert rows == sorted(SETTINGS)


@pytest.mark.parametrize("columns", [40, 60, 80, 120, 200])
def test_a_table_is_no_wider_than_the_terminal(filled: list[str], columns: int) -> None:
    *lines, last = labkit("results", COLUMNS=str(columns)).stdout.splitlines()
    complete = columns >= len(labkit("results").stdout.splitlines()[0])
    assert max(map(len, lines)) <= columns
    assert last.startswith("no room for") != complete
    for name in () if complete else labkit("results").stdout.split("\n")[0].split():
        assert (name in lines[0].split()) != (name in last.split("no room for ")[1].split(":")[0].split(", "))


def test_a_pipe_gets_everything(filled: list[str]) -> None:
    assert "no room" not in labkit("results").stdout
    assert len(labkit("results").stdout.splitlines()) == 1 + len(SETTINGS)


def test_the_points_of_a_run_or_of_a_scale_alone(store: Store, filled: list[str]) -> None:
    put_run(store, "10-a", "smoke", filled[:2])
    put_run(store, "11-b", "smoke", filled[1:4])
    folder = put_run(store, "12-c", "laptop", filled[5:6])
    for words, expected in (
        (["--run", "10-a"], filled[:2]),
        (["--run", "11"], filled[1:4]),
        (["--run", str(folder)], filled[5:6]),
        (["--scale", "smoke"], filled[:4]),
        (["--scale", "laptop"], filled[5:6]),
    ):
        for form in ("csv", "json"):
            found = labkit("results", *words, "--format", form).stdout
            rows = json.loads(found) if form == "json" else list(csv.DictReader(io.StringIO(found)))
            assert sorted(row["address"] for row in rows) == expected
        table = labkit("results", *words).stdout.splitlines()[1:]
        assert sorted(line.split()[0] for line in table) == expected
    counted = labkit("results", "--scale", "smoke", "--sql", "select count(*) as n from points", "--format", "json")
    assert json.loads(counted.stdout) == [{"n": 4}]


def test_accuracies_have_the_interval_that_views_give_them(filled: list[str]) -> None:
    rows = json.loads(labkit("results", "--group", "n", "--mean", "accuracy_unseen", "--format", "json").stdout)
    assert [row["n"] for row in rows] == [20, 300]
    for row in rows:
        counts = [grade.Counts([seed, n % 3, 2, 4], [4] * 4) for n, _, seed in SETTINGS if n == row["n"]]
        found = grade.seed_cluster_bootstrap(counts)
        assert (row["mean accuracy_unseen"], row["95 % low"], row["high"]) == (found.mean, found.lo, found.hi)
        assert (row["points"], row["also vary"], row["interval over"]) == (4, "share", "points and rules")


def test_other_numbers_have_student_s_interval(filled: list[str]) -> None:
    words = ["results", "--group", "n", "--group", "share", "--mean", "loss", "--format", "json"]
    rows = json.loads(labkit(*words).stdout)
    assert [(row["n"], row["share"]) for row in rows] == [(20, 0.0), (20, 0.5), (300, 0.0), (300, 0.5)]
    for row in rows:
        losses = [i / 10 for i, (n, share, _) in enumerate(SETTINGS) if (n, share) == (row["n"], row["share"])]
        lo, hi = stats.t.interval(0.95, len(losses) - 1, loc=sum(losses) / len(losses), scale=stats.sem(losses))
        assert [row["mean loss"], row["95 % low"], row["high"]] == pytest.approx([sum(losses) / len(losses), lo, hi])
        assert (row["points"], row["also vary"]) == (2, "")
    alone = labkit("results", "--group", "address", "--mean", "loss").stdout.splitlines()
    assert all("one point: none" in line for line in alone[1:])
    assert len(alone) == 1 + len(SETTINGS)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--group", "n"], "--group and --mean belong together"),
        (["--mean", "loss"], "--group and --mean belong together"),
        (["--group", "n", "--mean", "loss", "--sql", "select 1"], "--group and --mean belong together"),
        (["--group", "m", "--mean", "loss"], "unknown column 'm'"),
        (["--group", "n", "--mean", "los"], "unknown column 'los': did you mean 'loss'"),
        (["--group", "n", "--mean", "tail"], "no number"),
        (["--run", "none"], "'none' names no run"),
        (["--run", ""], "'' names"),
        (["--scale", "paper"], "no finished points among those asked for"),
    ],
)
def test_what_cannot_be_filtered_or_averaged_is_one_sentence(
    filled: list[str], store: Store, words: list[str], complaint: str
) -> None:
    put_run(store, "10-a", "smoke", filled)
    done = labkit("results", *words)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert complaint in done.stderr


def test_a_name_that_begins_several_runs_is_refused(filled: list[str], store: Store) -> None:
    for name in ("10-a", "10-b", "10-b+"):
        put_run(store, name, "smoke", filled)
    assert "'10' names 3 runs" in labkit("results", "--run", "10").stderr
    assert labkit("results", "--run", "10-b").returncode == 0  # a whole name, though another begins with it


def test_a_study_in_the_store_is_read_without_its_module(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep([ToyPoint(number=n) for n in (2, 1)], square, store=store, jobs=0)
    monkeypatch.setattr(studies, "find", None)
    done = labkit("results", "toy", "--format", "table")
    assert [line.split()[1] for line in done.stdout.splitlines()] == ["number", "1", "2"]


def test_tables_are_cut_before_they_are_left_out(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    print_table([{"a": 1, "b": "long " * 9}], cut=["b"])
    lines = capsys.readouterr().out.splitlines()
    assert (lines[1][:12], lines[1][-3:], len(lines[1])) == ("1  long long", "...", 30)
    print_table([{"a": "x" * 40, "b": 1}])
    assert capsys.readouterr().out.splitlines()[2] == "no room for b: a wider terminal has it"
    print_table([{"a": 1, "b": "b" * 90, "c": "c" * 90, "d": "d"}], cut=["b", "c"])
    assert [len(word) for word in capsys.readouterr().out.splitlines()[1].split()] == [1, 12, 13]
    print_table([{"a": "x"}, {"a": "y", "b": 2}])  # a matrix has cells that nothing was measured for
    assert capsys.readouterr().out.splitlines() == ["a  b", "x", "y  2"]
    print_table([], cut=["b"])
    assert capsys.readouterr().out == ""


def test_runs_are_listed_newest_first_with_what_is_special(store: Store, filled: list[str]) -> None:
    put_run(store, "10-a", "smoke", filled, seeds=[3], steps=7)
    put_run(store, "12-c", "laptop", filled, finding="a long finding " * 20)
    put_run(store, "11-b", "smoke", filled)
    (store.root / "diversity_sweep" / "runs" / "13-unfinished").mkdir()
    broken = put_run(store, "14-broken", "smoke", filled)
    (broken / "result.json").write_text("{")
    for number, text in enumerate(["{", "[3]", "7"]):  # nor what it was made with can be read
        (put_run(store, f"15-{number}", "smoke", filled) / "provenance.json").write_text(text)
    head, *lines = labkit("runs").stdout.splitlines()
    assert head.split() == ["run", "scale", "differs", "minutes", "commit", "finding", "study", "time"]
    assert [line.split()[0] for line in lines] == ["12-c", "11-b", "10-a"]
    assert "seeds=[3] steps=7" in lines[2]
    assert [line.split()[:5] for line in lines[:2]] == [
        ["12-c", "laptop", "1.5", "01234567+", "a"],  # nothing differs from the scale
        ["11-b", "smoke", "1.5", "01234567+", "it"],
    ]
    assert "2026-11-30 12:00" in lines[0]
    for columns in (80, 100, 140):
        shown = labkit("runs", "diversity_sweep", COLUMNS=str(columns)).stdout.splitlines()
        assert max(map(len, shown)) <= columns
        assert "finding" in shown[0]
    assert labkit("runs", "long_tail").stdout == "no runs\n"
    assert "unknown study 'toy'" in labkit("runs", "toy").stderr
