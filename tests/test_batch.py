"""Grids of notebooks: bounded processes, a limit for each, one page and one CSV; killed and resumed."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pandas as pd
import psutil
import pytest
from command import labkit

from labkit import studies
from labkit.lab import Store
from labkit.lab.batch import Task, execute_all

HERE = Path(__file__).parent
SMALL = ["--scale", "smoke", "--set", "noop_shares=[]", "--set", "n_instructions=[4,40]", "--as-notebooks"]
CELL = """
import json, os, time
from pathlib import Path
if what == 'fail': 1 / 0
if what == 'die': os._exit(3)
if what == 'sleep': time.sleep(600)
about = {name: os.environ[name] for name in ('OMP_NUM_THREADS', 'LABKIT_JOBS')}
Path(os.environ['LABKIT_RUN_DIR'], 'result.json').write_text(json.dumps(about))
"""


def tasks(folder: Path, *whats: str) -> list[Task]:
    cells = [nbformat.v4.new_code_cell("what = 'nothing'", metadata={"tags": ["parameters"]})]
    nbformat.write(nbformat.v4.new_notebook(cells=[*cells, nbformat.v4.new_code_cell(CELL)]), folder / "n.ipynb")
    return [Task("toy", folder / "n.ipynb", folder / f"{i} {what}", {"what": what}) for i, what in enumerate(whats)]


@pytest.mark.slow
def test_what_goes_wrong_in_one_notebook_stops_no_other(tmp_path: Path, own_store: Path) -> None:
    given = tasks(tmp_path, "fail", "die", "nothing")
    said = {task.params["what"]: failure for task, failure, _ in execute_all(given, Store(own_store), 2)}
    assert said["nothing"] is None
    assert "cell 3 of n.ipynb raised ZeroDivisionError: division by zero\nsee " in str(said["fail"])
    assert "the kernel of n.ipynb died\nsee " in str(said["die"])
    for number, what in enumerate(["fail", "die"]):
        assert [path.name for path in (tmp_path / f"{number} {what}").iterdir()] == ["failed.ipynb"]
    result = json.loads((tmp_path / "2 nothing" / "result.json").read_text())
    assert result == {"OMP_NUM_THREADS": "1", "LABKIT_JOBS": "0"}
    ((_, failure, _),) = execute_all(tasks(tmp_path, "sleep"), Store(own_store), 1, minutes=0.1)
    assert "the kernel of n.ipynb was stopped: its 0.1 minutes were up" in str(failure)


@pytest.mark.slow
def test_a_grid_of_notebooks_is_one_page_and_one_table_and_is_resumed(own_store: Path) -> None:
    words = ["sweep", "diversity_sweep", *SMALL, "--grid", "steps=3,5,3", "--jobs", "2"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-m", "labkit", *words], env=environment) as process:
        while not (family := psutil.Process(process.pid).children(recursive=True)) or not list(
            own_store.glob("*/runs/batch-*/*.ipynb")
        ):
            assert process.poll() is None
            time.sleep(0.1)
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGKILL)
    assert psutil.wait_procs(family, timeout=60)[1] == []
    done = labkit(*words)
    assert done.returncode == 0, done.stderr
    assert "2 notebooks, " in done.stdout
    (folder,) = own_store.glob("diversity_sweep/batches/*")
    assert sorted(path.name for path in folder.iterdir()) == ["report.html", "results.csv"]
    table = pd.read_csv(folder / "results.csv")
    assert table["steps"].tolist() == [3, 3, 5, 5]
    runs = sorted(path.name for path in own_store.glob("*/runs/*"))
    assert [name.split("-", 2)[2] for name in runs if "steps=3" in name] == [
        "smoke-steps=3-n_instructions=4,40-noop_shares=[]".replace("[]", "")
    ]
    assert {path.name for path in own_store.glob("*/runs/*/*")} == {
        *("notebook.ipynb", "report.html", "params.yaml", "result.json", "provenance.json")
    }
    again = labkit(*words)
    assert "2 notebooks, 2 of them already in the store" in again.stdout
    assert sorted(path.name for path in own_store.glob("*/runs/*")) == runs
    assert len(list(own_store.glob("*/batches/*"))) == 1


@pytest.mark.slow
def test_the_cell_that_failed_is_named_at_the_end(
    own_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook = nbformat.read(studies.find("diversity_sweep").notebook(), as_version=4)
    place = next(i for i, cell in enumerate(notebook.cells) if "studies.begin" in cell.source)
    notebook.cells = notebook.cells[: place + 1]
    notebook.cells.append(
        nbformat.v4.new_code_cell("assert run.params.steps != 3, 'three steps'\nrun.finish(run.measure())")
    )
    nbformat.write(notebook, tmp_path / "n.ipynb")
    monkeypatch.setattr(studies.Study, "notebook", lambda _: tmp_path / "n.ipynb")
    done = labkit("sweep", "diversity_sweep", *SMALL, "--grid", "steps=3,5", "--jobs", "1")
    assert done.returncode == 1
    failed, told, sentence = done.stderr.strip().splitlines()[-3:]
    assert "FAILED steps=3: cell" in failed
    assert failed.endswith("raised AssertionError: three steps")
    assert Path(told.removeprefix("see ")).name == "failed.ipynb"
    assert Path(told.removeprefix("see ")).exists()
    assert sentence == "labkit: 1 of 2 notebooks failed; the same command tries these again"
    (page,) = own_store.glob("*/batches/*/report.html")
    assert "1 of 2 notebooks ran to their end" in page.read_text()
    assert "three steps" in page.read_text()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--grid", "stepps=3"], "unknown grid parameter 'stepps': did you mean 'steps'"),
        (["--grid", "steps=three"], "steps = 'three'"),
        (["--grid", "steps=3,,5"], "steps = ''"),
        (["--grid", "steps=3,true"], "true and false are no values"),
        (["--grid", "steps="], "is not of the form name=value"),
        (["--grid", "steps=[]"], "--grid steps=[] is an axis without a value"),
        (["--grid", "n_instructions=[]"], "--grid n_instructions=[] is an axis without a value"),
        (["--grid", "steps=3", "--set", "steps=4"], "'steps' is given by --grid and by --set"),
        (["--grid", "steps=3", "--grid", "steps=4"], "--grid gives 'steps' twice"),
        (["--grid", "scale=smoke,laptop"], "unknown grid parameter 'scale'"),
        (["--grid", "steps=3", "--minutes", "5"], "it goes with --as-notebooks"),
        (["--grid", "steps=3", "--as-notebooks", "--minutes", "0"], "minutes"),
        (["--grid", "steps=3", "--gpus-per-point", "-1"], "gpus-per-point"),
        (["--grid", "steps=1.5", "--as-notebooks"], "steps = 1.5: input should be a valid integer"),
        (["--grid", "steps=3", "--as-notebooks", "--executor", "ray"], "do not go with --as-notebooks"),
        (["--grid", "steps=3", "--executor", "ray"], "Ray"),
    ],
)
def test_a_grid_that_makes_no_sense_is_one_sentence(words: list[str], complaint: str, own_store: Path) -> None:
    with socket.socket() as bound:  # nobody listens on it, and nobody else can
        bound.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{bound.getsockname()[1]}"
        done = labkit("sweep", "diversity_sweep", "--scale", "smoke", *words, RAY_ADDRESS=address)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done
    assert complaint in done.stderr
    assert not own_store.exists()


def test_a_million_combinations_are_asked_for_first(own_store: Path) -> None:
    axes = [
        "--grid",
        "steps=" + ",".join(map(str, range(1, 1001))),
        "--grid",
        "budget=" + ",".join(map(str, range(500, 1500))),
    ]
    done = labkit("sweep", "diversity_sweep", "--scale", "smoke", "--set", "n_instructions=[4]", *axes)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done
    assert "1,000,000 combinations, 3,000,000 points (nobody has timed a point): add --yes" in done.stderr
    small = ["--set", "n_instructions=[4]", "--set", "noop_shares=[]", "--scale", "smoke"]
    assert labkit("sweep", "diversity_sweep", *small, "--grid", "steps=2", "--jobs", "0").returncode == 0
    assert "hours of one worker): add --yes" in labkit("sweep", "diversity_sweep", *small, *axes).stderr


def test_a_study_without_a_notebook_is_one_sentence(monkeypatch: pytest.MonkeyPatch, own_store: Path) -> None:
    monkeypatch.setattr("labkit.studies.study.NotebookPlaces", ())
    done = labkit("sweep", "diversity_sweep", *SMALL, "--grid", "steps=3")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "study 'diversity_sweep' has no notebook" in done.stderr
    assert not own_store.exists()
