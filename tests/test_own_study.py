"""A study of a person's own: the README's example is built from its text and run; files and packages are found."""

import json
import re
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import nbformat
import pytest
from command import labkit
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from labkit import BadRequest, studies

README = (Path(__file__).parent.parent / "README.md").read_text()
MODULE, CELLS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def cells_of(text: str) -> Iterator[Any]:
    """The cells of a script in the percent format."""
    for block in re.split(r"(?m)^# %%", text)[1:]:
        head, _, source = block.partition("\n")
        if "[markdown]" in head:
            yield new_markdown_cell(re.sub(r"(?m)^# ?", "", source).strip())
        else:
            yield new_code_cell(source.strip(), metadata={"tags": ["parameters"]} if "parameters" in head else {})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the README's study and notebook; what Python remembers of it goes again."""
    place = tmp_path / "my studies"
    place.mkdir()
    (place / "swaps.py").write_text(MODULE)
    nbformat.write(new_notebook(cells=list(cells_of(CELLS))), place / "swaps.ipynb")
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield place
    for name in set(sys.modules) - before:
        if str(place) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def test_the_example_is_short() -> None:
    assert len(MODULE.splitlines()) < 100
    assert len(list(cells_of(CELLS))) < 15


@pytest.mark.slow
def test_the_readmes_study_runs(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = labkit("run", folder / "swaps.py", "--scale", "smoke", "--jobs", "0", "--out", out)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((out / "result.json").read_text())
    assert (result["study"], result["scale"], result["params"]["n_swaps"]) == ("swaps", "smoke", [2, 20])
    assert [point["n_swaps"] for point in result["points"]] == [2, 20]
    assert result["finding"] in done.stdout
    assert (out / "report.html").is_file()
    shown = labkit("results", folder / "swaps.py", "--format", "json")
    assert {row["n_swaps"] for row in json.loads(shown.stdout)} == {2, 20}


def test_it_is_swept_in_processes_of_its_own(folder: Path) -> None:
    words = ["--grid", "n_swaps=2,20", "--scale", "smoke", "--set", "steps=2", "--jobs", "2"]
    done = labkit("sweep", folder / "swaps.py", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "swaps 20, seed 0" in done.stdout


def test_its_exams_are_answered_by_the_rule(folder: Path) -> None:
    study = studies.find(str(folder / "swaps.py"))
    cell = study.points(study.resolve({"scale": "smoke"}))[0]
    exams = cell.lesson().exams
    asked = [exams[name].data.decode(0) for name in ("seen", "unseen")]
    for question, answer in (text.split("=") for text in asked):
        letter, other, word = question.split("|")
        assert answer == word.replace(letter, other) != word


def test_a_package_offers_a_study(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By an entry point: found by name, listed with the lab's own."""
    monkeypatch.syspath_prepend(folder)
    offered = [EntryPoint("swaps", "swaps:STUDY", studies.GROUP)]
    monkeypatch.setattr(studies, "entry_points", lambda group, name="swaps": offered if name == "swaps" else [])
    studies.every.cache_clear()
    try:
        assert studies.find("swaps").notebook() == folder / "swaps.ipynb"
        assert list(studies.every())[-1] == "swaps"
        assert "swaps: How many letter swaps" in labkit("studies").stdout
    finally:
        studies.every.cache_clear()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("STUDY = 1", "defines no STUDY"),
        ("import nothing_of_this_name", "cannot be imported: ModuleNotFoundError: No module named 'nothing_of_this"),
        ("def f(:", "cannot be imported: SyntaxError"),
        (None, "is not a file"),
    ],
)
def test_a_file_without_a_study_is_refused(text: str | None, complaint: str, folder: Path) -> None:
    file = folder / "no_study_at_all.py"
    if text is not None:
        file.write_text(text)
    with pytest.raises(BadRequest, match=re.escape(complaint)):
        studies.find(str(file))
    done = labkit("run", file)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def test_a_name_that_python_has_already_is_refused(folder: Path) -> None:
    (folder / "json.py").write_text(MODULE)
    with pytest.raises(BadRequest, match="a module named 'json' is there already"):
        studies.find(str(folder / "json.py"))


def test_a_study_without_its_notebook_says_where_it_was_looked_for(folder: Path) -> None:
    (folder / "swaps.ipynb").unlink()
    done = labkit("run", folder / "swaps.py", "--scale", "smoke")
    assert (done.returncode, str(folder / "swaps.ipynb") in done.stderr) == (2, True)
