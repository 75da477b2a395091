"""Executing a notebook: which kernel, which parameters, which folder; and one sentence for whatever goes wrong."""

import errno
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import pytest
from command import labkit
from nbclient.exceptions import DeadKernelError
from papermill.exceptions import PapermillExecutionError

from labkit import BadRequest, lab, studies
from labkit.design.scratch import SCRATCH

PARAMETERS = "scale = 'laptop'  # one = two\nsteps: int = 3\n"


def notebook_at(path: Path, *sources: str, tagged: int = 1) -> Path:
    metadata = {"tags": ["parameters"]}
    cells = [nbformat.v4.new_code_cell(PARAMETERS, metadata=metadata) for _ in range(tagged)]
    cells += [nbformat.v4.new_code_cell(source) for source in sources]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    nbformat.write(notebook, path)
    return path


@pytest.fixture
def foreign_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another installation's kernel, found first under the usual name, which does not start."""
    folder = tmp_path / "jupyter" / "kernels" / "python3"
    folder.mkdir(parents=True)
    kernel = {"argv": ["/bin/false", "{connection_file}"], "display_name": "x", "language": "python"}
    (folder / "kernel.json").write_text(json.dumps(kernel))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))


def test_it_runs_in_this_python_in_the_folder_of_that_very_name(
    tmp_path: Path, foreign_kernel: None, capsys: pytest.CaptureFixture[str]
) -> None:
    notebook = notebook_at(tmp_path / "a {b}.ipynb", "import sys; print(sys.executable, scale)")
    folder = tmp_path / "{scale} {0} {{}} %s #1 'ü' $HOME"
    made = lab.execute(notebook, folder, {"scale": "smoke", "steps": 1}, store=lab.Store.default())
    assert made == folder / "notebook.ipynb"
    assert [path.name for path in folder.iterdir()] == ["notebook.ipynb"]
    assert {path.name for path in tmp_path.iterdir()} == {folder.name, notebook.name, "jupyter"}
    shown = capsys.readouterr()
    assert shown.out == f"{sys.executable} smoke\n"
    assert "unknown parameter" not in shown.err


def raised(error: Exception) -> Any:
    def execute_notebook(_: object, scratch: str, **__: object) -> None:
        Path(scratch).write_text("half of a notebook")
        raise error

    return execute_notebook


@pytest.mark.parametrize(
    ("error", "sentence", "kept"),
    [
        (PapermillExecutionError(1, 2, "", "ValueError", "bad", []), "cell 2 of n.ipynb raised ValueError: bad", True),
        (DeadKernelError("Kernel died"), "the kernel of n.ipynb died", True),
        (RuntimeError("Kernel died before replying to kernel_info"), "could not start", True),
        (OSError(errno.ENOSPC, "No space left on device", "x"), "n.ipynb stopped, No space left on device: x", False),
        (PermissionError(errno.EACCES, "Permission denied"), "n.ipynb stopped, Permission denied", False),
    ],
)
def test_whatever_stops_a_run_is_one_sentence(
    tmp_path: Path, error: Exception, sentence: str, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("papermill.execute_notebook", raised(error))
    with pytest.raises(lab.RunFailed, match=sentence):
        lab.execute(notebook_at(tmp_path / "n.ipynb"), tmp_path / "out", {}, store=lab.Store.default())
    left = [path.name for path in (tmp_path / "out").iterdir()] if (tmp_path / "out").exists() else []
    assert left == (["failed.ipynb"] if kept else [])  # half a notebook is none


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"cells": 3}', '{"cells": []}', '{"a":' * 10_000, "\x00"])
def test_a_broken_notebook_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "n.ipynb").write_text(text)
    with pytest.raises(BadRequest, match=r"n\.ipynb (is no notebook|has 0 cells)") as refusal:
        lab.execute(tmp_path / "n.ipynb", tmp_path / "out", {}, store=lab.Store.default())
    assert str(refusal.value).count("\n") == 0
    assert not (tmp_path / "out").exists()
    with pytest.raises(BadRequest, match="cannot read"):
        lab.check_notebook(tmp_path)


@pytest.mark.parametrize("tagged", [0, 2])
def test_a_notebook_without_its_parameters_cell_is_refused_before_anything(
    tmp_path: Path, tagged: int, own_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = notebook_at(tmp_path / "n.ipynb", tagged=tagged)
    monkeypatch.setattr(studies.Study, "notebook", lambda _: path)
    done = labkit("run", "diversity_sweep", "--scale", "smoke")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"has {tagged} cells with the tag 'parameters'" in done.stderr
    assert not own_store.exists()


def test_a_parameter_that_the_cell_lacks_is_refused(tmp_path: Path) -> None:
    path = notebook_at(tmp_path / "n.ipynb")
    with pytest.raises(BadRequest, match="unknown parameter of the notebook 'stepps': did you mean 'steps'"):
        lab.execute(path, tmp_path / "out", {"stepps": 3}, store=lab.Store.default())


def in_a_kernel(monkeypatch: pytest.MonkeyPatch, *cells: str) -> None:
    """This process looks like a kernel in which these cells have run."""
    names: dict[str, Any] = {"In": ["", *cells]}
    for cell in cells:
        exec(cell, names)
    shell = SimpleNamespace(user_ns=names)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))


OWN = "scale = 'laptop'\nsteps = None\nmine = 1"


@pytest.mark.parametrize(
    ("cells", "complaint"),
    [
        ([OWN, "# Parameters\nscale = 'smoke'\nsteps = 3\n"], None),
        ([OWN, "# Parameters\nmine = 2\n"], None),  # of the notebook's own cell
        ([OWN, "# Parameters\nstepps = 3\n"], "unknown parameter of the notebook 'stepps': did you mean 'steps'"),
        ([OWN, "# Parameters\nscale = 'smoke'\nScale = 'smoke'\n"], "'Scale': did you mean 'scale'"),
        (["# Parameters\nscale = 'smoke'\n", OWN], "scale = 'smoke' was overwritten"),  # no cell with the tag
        (["# Parameters\nscale = 'laptop'\n", OWN], None),
        ([OWN, "stepps = 3"], None),  # a person's own variable
        ([OWN, "# Parameters\nscale = 'smoke'\n", "scale = 'laptop'"], None),  # a person's later mind
    ],
)
def test_what_papermill_has_set_is_compared_with_the_study(
    cells: list[str], complaint: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_a_kernel(monkeypatch, *cells)
    if complaint is None:
        assert studies.find("diversity_sweep").name == "diversity_sweep"
    else:
        with pytest.raises(BadRequest, match=complaint):
            studies.find("diversity_sweep")


def test_papermill_can_read_every_parameters_cell(caplog: pytest.LogCaptureFixture) -> None:
    import papermill

    for study in studies.every().values():
        assert set(papermill.inspect_notebook(study.notebook())) == set(study.names())
    assert "Unable to parse" not in caplog.text


def test_what_a_killed_run_left_is_swept_up(own_store: Path, tmp_path: Path) -> None:
    store, dead = lab.Store.default(), f"{SCRATCH}{2**22 + 1}.ipynb"  # beyond the largest process there can be
    first = lab.run_folder(store, "toy", {})
    (first / dead).touch()
    live = lab.run_folder(store, "toy", {"another": 1})
    (live / f"{SCRATCH}1.ipynb").touch()
    (live / dead).touch()
    lab.run_folder(store, "toy", {"third": 1})
    assert not first.exists()
    assert [path.name for path in live.iterdir()] == [f"{SCRATCH}1.ipynb"]
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / dead).touch()
    lab.check_out(tmp_path / "out", "toy")  # the same command goes on
    assert list((tmp_path / "out").iterdir()) == []
