"""The command line: the contract of names, exit codes and files, tried from outside as a person would."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import Request, urlopen

import pytest
from command import labkit

from labkit import __version__, studies
from labkit.lab import RUN_FILES

SMOKE = [
    "--scale",
    "smoke",
    "--set",
    "noop_shares=[]",
    "--set",
    "n_instructions=[4,40]",
    "--set",
    "steps=5",
    "--jobs",
    "1",
]


def process(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command as a process of its own, where that is what is tried."""
    return subprocess.run(
        [sys.executable, "-m", "labkit", *words],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, **environment},
    )


def refused(*words: str) -> str:
    """The one sentence with which a bad request is refused."""
    done = labkit(*words)
    assert done.returncode == 2, done
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, subprocess.CompletedProcess[str]]:
    """One smoke run, shared: its store, its folder and what it printed."""
    root = tmp_path_factory.mktemp("cli")
    done = process("run", "diversity_sweep", *SMOKE, "--out", str(root / "out"), LABKIT_RUNS=str(root / "runs"))
    assert done.returncode == 0, done.stdout + done.stderr
    return root / "runs", root / "out", done


def test_studies_are_listed_a_line_each() -> None:
    lines = {line.split(":")[0]: line for line in labkit("studies").stdout.strip().splitlines()}
    assert list(lines) == list(studies.every())
    assert lines["diversity_sweep"].startswith("diversity_sweep: How many different instructions")
    for words in ("2402.10891", "smoke", "laptop", "paper"):
        assert words in lines["diversity_sweep"]


@pytest.mark.slow
def test_a_run_leaves_its_files_and_says_what_it_found(
    run: tuple[Path, Path, subprocess.CompletedProcess[str]],
) -> None:
    _, out, done = run
    assert sorted(path.name for path in out.iterdir()) == sorted(RUN_FILES)
    result = json.loads((out / "result.json").read_text())
    assert {"study", "scale", "params", "points", "summary", "published"} <= set(result)
    assert result["study"] == "diversity_sweep"
    assert result["scale"] == "smoke"
    assert result["params"]["n_instructions"] == [4, 40]
    for point in result["points"]:
        for name in (
            *("n_instructions", "examples_per_instruction", "seed", "accuracy_seen", "accuracy_unseen"),
            *("n_test", "steps", "tokens", "train_seconds"),
        ):
            assert isinstance(point[name], int | float), name
    growth = result["summary"]["growth"]
    assert {"midpoint", "ci95"} <= set(growth["fit"])
    assert all({"n_instructions", "mean", "lo", "hi"} <= set(row) for row in growth["estimates"])
    assert result["finding"] in done.stdout
    assert "unseen rules [95 %]" in done.stdout
    assert all(str(out / name) in done.stdout for name in RUN_FILES)
    provenance = json.loads((out / "provenance.json").read_text())
    assert provenance["labkit"] == __version__
    assert provenance["packages"]["torch"]
    executed = json.loads((out / "notebook.ipynb").read_text())
    assert any(
        "image/png" in output.get("data", {}) for cell in executed["cells"] for output in cell.get("outputs", [])
    )


@pytest.mark.slow
def test_a_rerun_trains_nothing(run: tuple[Path, Path, subprocess.CompletedProcess[str]]) -> None:
    store, out, _ = run
    before = {path: path.stat().st_mtime_ns for path in store.glob("*/points/*/result.json")}
    again = labkit("run", "diversity_sweep", *SMOKE, "--out", str(out), LABKIT_RUNS=str(store))
    assert again.returncode == 0
    assert "2 points, 2 of them already in the store" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in store.glob("*/points/*/result.json")} == before


@pytest.mark.slow
def test_results_as_table_csv_json_and_sql(run: tuple[Path, Path, subprocess.CompletedProcess[str]]) -> None:
    store = {"LABKIT_RUNS": str(run[0])}
    table = labkit("results", "diversity_sweep", **store)
    assert table.returncode == 0
    assert "accuracy_unseen" in table.stdout
    assert len(labkit("results", "--format", "csv", **store).stdout.splitlines()) == 3
    rows = json.loads(labkit("results", "--format", "json", **store).stdout)
    assert sorted(row["n_instructions"] for row in rows) == [4, 40]
    query = "select max(n_instructions) as most from points"
    assert json.loads(labkit("results", "--sql", query, "--format", "json", **store).stdout) == [{"most": 40}]
    wrong = labkit("results", "--sql", "select nothing from nowhere", **store)
    assert (wrong.returncode, "Traceback" in wrong.stderr) == (2, False)


@pytest.mark.slow
def test_a_trained_model_can_be_asked(run: tuple[Path, Path, subprocess.CompletedProcess[str]]) -> None:
    store = {"LABKIT_RUNS": str(run[0])}
    folder = next(run[0].glob("*/points/*/result.json")).parent
    for where in (str(folder), folder.name):
        done = labkit("ask", where, "--rule", "abc -> xyz", "--input", "aaabcaaa", **store)
        assert done.returncode == 0, done.stderr
        assert "oracle  aaxyzaaa" in done.stdout
        assert "model   " in done.stdout
    for rule, text in (("abc", "aaabcaaa"), ("abc -> xyz", "AAAAAAAA"), ("abcd -> xyz", "aaabcaaa")):
        assert labkit("ask", folder.name, "--rule", rule, "--input", text, **store).returncode == 2
    assert labkit("ask", "nowhere", "--rule", "abc -> xyz", "--input", "aaabcaaa", **store).returncode == 2
    assert labkit("ask", folder.name, **store).returncode == 2
    assert "a question of 1 parts" in labkit("ask", folder.name, "--instruction", "sort it", **store).stderr


@pytest.mark.slow
def test_a_sweep_crosses_its_grid_and_reuses_what_a_run_left(
    run: tuple[Path, Path, subprocess.CompletedProcess[str]],
) -> None:
    words = (
        "sweep",
        "diversity_sweep",
        "--grid",
        "n_instructions=4,40,80",
        *SMOKE[:4],
        "--set",
        "steps=5",
        "--jobs",
        "1",
    )
    done = labkit(*words, LABKIT_RUNS=str(run[0]))
    assert done.returncode == 0, done.stderr
    assert "3 points, 2 of them already in the store" in done.stdout
    assert "[3/3]" in done.stdout


def test_a_sweep_trains_fleets_where_told_to(own_store: Path) -> None:
    small = ["--scale", "smoke", "--set", "steps=3", "--set", "noop_shares=[]"]
    grid = ["--grid", "n_instructions=4,40", "--jobs", "0", "--fleet", "2"]
    done = labkit("sweep", "diversity_sweep", *small, *grid)
    assert done.returncode == 0, done.stderr
    rows = json.loads(labkit("results", "diversity_sweep", "--format", "json").stdout)
    assert [row["fleet"] for row in rows] == [2, 2]


def test_a_failing_run_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from labkit import lab

    notebook = tmp_path / "broken.ipynb"
    cell = {"cell_type": "code", "source": "1 / 0", "metadata": {"tags": ["parameters"]}, "outputs": [], "id": "a"}
    cell["execution_count"] = None
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook.write_text(json.dumps({"cells": [cell], "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}))
    with pytest.raises(lab.RunFailed, match="ZeroDivisionError: division by zero") as failure:
        lab.execute(notebook, tmp_path / "out", {}, store=lab.Store.default())
    assert "broken.ipynb" in str(failure.value)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["failed.ipynb"]
    assert "LABKIT_RUN_DIR" not in os.environ
    notebook.write_text(notebook.read_text().replace("1 / 0", "import os; os._exit(1)"))
    with pytest.raises(lab.RunFailed, match=r"the kernel of broken\.ipynb died"):
        lab.execute(notebook, tmp_path / "out", {}, store=lab.Store.default())


@pytest.mark.slow
def test_ctrl_c_says_what_is_kept(own_store: Path) -> None:
    """As a terminal does it: the signal goes to the command, its kernel and its workers alike."""
    words = ["run", "diversity_sweep", "--scale", "smoke", "--set", "seeds=[0,1,2,3,4,5]", "--set", "steps=200"]
    process = subprocess.Popen(
        [sys.executable, "-m", "labkit", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while not list(own_store.glob("*/points/[!.]*/result.json")):
        assert process.poll() is None
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    _, complaint = process.communicate(timeout=180)
    assert process.returncode == 130
    assert "interrupted; what was finished is in the store" in complaint
    assert list(own_store.glob("*/points/*/result.json"))
    assert not list(own_store.glob("*/runs/*"))


def test_markov() -> None:
    from labkit.instructions import markov

    done = process("markov", str(Path(markov.__file__).with_name("textbook") / "binary_to_unary.markov"), "101")
    assert (done.returncode, done.stdout, done.stderr) == (0, "|||||\n", "")


def test_markov_trace_and_errors(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.markov", tmp_path / "bad.markov"
    good.write_text("# swap\nab -> ba\n")
    bad.write_text("ab -> ba\nab = ba\n")
    lines = labkit("markov", str(good), "aab", "--trace").stdout.splitlines()
    assert lines[-1] == "baa"
    assert len(lines) == 4
    sentence = refused("markov", str(bad), "aab")
    assert "line 2" in sentence
    assert "ab = ba" in sentence
    assert "max_steps" in refused("markov", str(good), "abab", "--max-steps", "1")
    limited = labkit("markov", str(good), "abab", "--max-steps", "1", "--trace")
    assert (limited.returncode, len(limited.stdout.splitlines())) == (2, 2)  # the trace is there to be looked at
    assert "nowhere.markov" in refused("markov", "nowhere.markov", "x")


def test_doctor_names_every_piece(in_ci: bool) -> None:
    done = labkit("doctor")
    assert done.returncode == 0
    for name in (
        "python",
        "cpu",
        "memory",
        "gpu",
        "bf16",
        "4-bit",
        "sandbox",
        "hub",
        "teacher",
        "notebooks",
        "versions",
    ):
        assert any(line[4:].startswith(name) for line in done.stdout.splitlines()), name
    assert not in_ci or "ok  sandbox" in done.stdout  # .ci/run installs bubblewrap


def test_serve_teacher_answers_until_it_is_told_to_stop() -> None:
    command = [sys.executable, "-m", "labkit", "serve-teacher", "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    try:
        assert server.stdout is not None
        address = next(word for line in server.stdout for word in re.findall(r"http://\S+/v1", line))
        request = Request(f"{address}/models", headers={"Authorization": "Bearer any"})
        with urlopen(request, timeout=60) as reply:
            assert json.load(reply)["data"][0]["id"] == "oracle"
        port = address.rpartition(":")[2].partition("/")[0]
        taken = labkit("serve-teacher", "--port", port)
        assert (taken.returncode, taken.stderr.count("\n")) == (2, 1)
        assert port in taken.stderr
    finally:
        server.terminate()
    assert server.wait(timeout=60) == 0


def test_a_process_says_its_one_sentence_and_leaves_with_2() -> None:
    done = process("run", "diversity")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("labkit: unknown study 'diversity'")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["run", "diversity"], "did you mean 'diversity_sweep'"),
        (["run", "diversity_sweep", "--scale", "labtop"], "did you mean 'laptop'"),
        (["run", "diversity_sweep", "--set", "n_instruction=[3]"], "did you mean 'n_instructions'"),
        (["run", "diversity_sweep", "--set", "steps=few"], "steps = 'few'"),
        (["run", "diversity_sweep", "--set", "pattern_length=20"], "does not fit"),
        (["run", "diversity_sweep", "--set", "alphabet=ab"], "is more than the"),
        (["run", "diversity_sweep", "--set", "steps"], "not of the form name=value"),
        (["run", "diversity_sweep", "--out", "/proc/labkit"], "cannot write to"),
        (["run", "diversity_sweep", "--executor", "rai"], "unknown executor 'rai'"),
        (["run", "diversity_sweep", "--set", "alphabet=abc|"], "must not hold '|'"),
        (["run", "diversity_sweep", "--set", "learning_rate=Infinity"], "learning_rate = inf"),
        (["run", "long_tail", "--set", "floor=0"], "rules without examples at budget = 48000: at most"),
        (["run", "input_variety", "--set", "variety=[1,6]"], "do not fit into input_length 12: use 4 at most"),
        (["run", "semantic_diversity", "--set", "k_ranges=[[5,6]]"], "k = 5 does not divide pattern_length = 12"),
        (["run", "semantic_diversity", "--set", "alphabet=abc"], "is more than the"),
        (["run", "abstraction", "--set", "n_rules=[1000000]"], "at most"),
        (["run", "markov_programs", "--set", "run_steps=[9]"], "steps at most"),
        (["run", "curriculum", "--set", "arms=['tapyr']"], "did you mean 'tapir'"),
        (["run", "curriculum", "--set", "teacher=gpt-4o-mini"], "LABKIT_TEACHER_URL"),
        (["run", "ability_growth", "--set", "budget=5"], "budget = 5 is too small for 9 abilities"),
        (["run", "ability_growth", "--set", "abilities=['poetry','role']"], "unknown ability 'poetry'"),
        (["sweep", "diversity_sweep"], "--grid is missing"),
        (["sweep", "diversity_sweep", "--grid", "width=63,64"], "does not divide"),
        (["sweep", "diversity_sweep", "--grid", "widht=32"], "did you mean 'width'"),
        (["results"], "no finished points"),
        (["results", "--format", "xml"], "unknown format 'xml'"),
    ],
)
def test_a_bad_request_starts_nothing(words: list[str], complaint: str, own_store: Path) -> None:
    assert complaint in refused(*words)
    assert not list(own_store.glob("*/*/*"))


def test_a_run_refuses_a_folder_in_which_something_could_be_lost(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.docx").touch()
    assert "already holds 'thesis.docx'" in refused("run", "diversity_sweep", "--scale", "smoke", "--out", str(out))


def test_a_damaged_store_is_said_before_anything_starts(own_store: Path) -> None:
    folder = own_store / "diversity_sweep" / "points"
    folder.mkdir(parents=True)
    (folder / "notes.txt").write_text("mine")
    assert "notes.txt" in refused("run", "diversity_sweep", "--scale", "smoke")
