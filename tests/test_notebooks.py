"""Notebook hygiene: every notebook has the form that people and papermill rely on, and matches its study."""

import ast
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import pytest
import real_data
from public_exams import exam_folder, write

from labkit import studies

FOLDER = Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
OTHERS = {"00_tour", "audit_your_data", "playground"}  # of no study: tests of their own run them
STUDIES = [path for path in NOTEBOOKS if path.stem not in OTHERS]
ROOMS = {"instructions", "design", "learn", "grade", "teach", "studies", "lab", "show"}


def opened(path: Path) -> Any:
    found = nbformat.read(path, as_version=4)
    nbformat.validate(found)
    found.path = path
    return found


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def every_notebook(request: pytest.FixtureRequest) -> Any:
    return opened(request.param)


@pytest.fixture(params=STUDIES, ids=lambda path: path.stem)
def notebook(request: pytest.FixtureRequest) -> Any:
    return opened(request.param)


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def parameters_cell(notebook: Any) -> Any:
    tagged = [cell for cell in code_cells(notebook) if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    return tagged[0]


def test_every_study_has_its_notebook_and_the_other_way_round() -> None:
    assert {path.stem for path in STUDIES} == set(studies.every())
    assert all(study.notebook() == FOLDER / f"{name}.ipynb" for name, study in studies.every().items())


def test_it_is_committed_without_outputs(every_notebook: Any) -> None:
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code_cells(every_notebook))
    assert all(set(cell.metadata) <= {"tags", "slideshow"} for cell in every_notebook.cells)


def test_the_first_cell_says_what_it_is(notebook: Any) -> None:
    first = notebook.cells[0]
    study = studies.find(notebook.path.stem)
    assert first.cell_type == "markdown"
    assert first.source.startswith("# ")
    for words in ("**The question.**", "**The paper.**", "**Expected minutes.**"):
        assert words in first.source
    for scale in study.scales:
        assert f"`{scale}`: {study.minutes[scale]}" in first.source
    assert "## Outline" in notebook.cells[1].source


def test_the_parameters_cell_names_every_parameter_once_with_a_comment(notebook: Any) -> None:
    source = parameters_cell(notebook).source
    study = studies.find(notebook.path.stem)
    statements = ast.parse(source).body
    assert all(isinstance(statement, ast.Assign) for statement in statements)
    names = [statement.targets[0].id for statement in statements]
    assert names[0] == "scale"
    assert sorted(names) == sorted(study.names())  # the study's own dials may come first
    for group, members in study.Params.groups.items():  # a group says what it holds
        (line,) = [line for line in source.splitlines() if line.startswith(f"{group} = ")]
        assert all(f'"{name}"' in line for name in members), group
    for statement in statements:
        ast.literal_eval(statement.value)
    assert all(re.search(r"\S  # \S", line) for line in source.splitlines())
    assert len(source.splitlines()) <= 25


def test_cells_are_short_and_show_one_idea(every_notebook: Any) -> None:
    parameters = parameters_cell(every_notebook)
    long = [
        cell.source for cell in code_cells(every_notebook) if cell is not parameters and cell.source.count("\n") >= 15
    ]
    assert long == []


def test_it_imports_nothing_deeper_than_a_room(every_notebook: Any) -> None:
    for cell in code_cells(every_notebook):
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("labkit"):
                assert node.module == "labkit" or node.module.removeprefix("labkit.") in ROOMS
                if node.module == "labkit":
                    assert {alias.name for alias in node.names} <= ROOMS
            if isinstance(node, ast.Import):
                assert not any(alias.name.startswith("labkit.") for alias in node.names)


def test_a_prediction_comes_before_the_result(notebook: Any) -> None:
    texts = [cell.source for cell in notebook.cells]
    prediction = next(i for i, text in enumerate(texts) if "Before you run on" in text)
    run = next(i for i, text in enumerate(texts) if "run.measure(" in text)
    assert prediction < run


def test_the_last_cell_leaves_the_result(notebook: Any) -> None:
    assert notebook.cells[-1].cell_type == "code"
    assert "run.finish(" in notebook.cells[-1].source


def test_a_wrong_parameter_shows_its_sentence_and_no_source_of_ours() -> None:
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.utils.capture import capture_output

    shell = InteractiveShell()
    with capture_output() as shown:
        shell.run_cell("from labkit import studies\nscale = 'labtop'\nstudies.begin('diversity_sweep', globals())")
    assert "unknown scale 'labtop': did you mean 'laptop'?" in shown.stdout + shown.stderr
    assert "Traceback" not in shown.stdout + shown.stderr
    assert "labkit/studies" not in shown.stdout + shown.stderr


def test_it_begins_the_study_of_its_name(notebook: Any) -> None:
    begins = [cell.source for cell in code_cells(notebook) if "studies.begin(" in cell.source]
    assert len(begins) == 1
    assert f'run = studies.begin("{notebook.path.stem}", globals())' in begins[0]


def test_it_stays_short(every_notebook: Any) -> None:
    assert len(every_notebook.path.read_text().splitlines()) < 250


def test_its_parameters_are_few_enough_to_choose_from(notebook: Any) -> None:
    """What people change stands alone, beside the scale; the rest is grouped."""
    study = studies.find(notebook.path.stem)
    alone = set(study.names()) - set(study.Params.groups) - {"scale"}
    assert 3 <= len(alone) <= 8


def test_figures_in_its_prose_are_not_typed_in_by_hand(notebook: Any) -> None:
    """A run with other parameters would make them wrong. Predictions and what a paper did are another matter."""
    params = studies.find(notebook.path.stem).resolve({}).model_dump()
    values = {f"{number:,}" for value in params.values() for number in (value if isinstance(value, list) else [value])
              if isinstance(number, int) and number > 9}  # fmt: skip
    prose = [line for cell in notebook.cells if cell.cell_type == "markdown" for line in cell.source.splitlines()]
    sentences = [part for line in prose if not line.startswith((">", "**Exp", "**The p")) for part in line.split(". ")]
    plain = [re.sub(r"\]\([^)]*\)|`[^`]*`|95 %", " ", part) for part in sentences if "publish" not in part]
    typed = [part for part in plain if "paper" not in part and values & set(re.findall(r"(?<!\w)\d[\d,]*\d", part))]
    assert typed == []
    assert [part for part in plain if re.search(r"\bfrom (?:two|three|four|five) seeds\b", part, re.IGNORECASE)] == []


@pytest.mark.parametrize("name", list(studies.every()))
def test_every_scale_of_every_study_resolves(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = studies.find(name)
    problems = tmp_path / "problems.jsonl"
    problems.touch()
    monkeypatch.setattr("labkit.grade.plus.find", lambda *_: problems)  # what the hub would be asked for
    monkeypatch.setattr("labkit.learn.qlora.load_config", lambda *_: None)
    for module in ("cell", "learners"):  # what this machine's memory holds is not the question
        monkeypatch.setattr(f"labkit.studies.{module}.check_training_memory", lambda *_: None)
    there = lambda params: {name: dict.fromkeys(params.sources, 10**6) for name in params.abilities}  # noqa: E731
    monkeypatch.setattr("labkit.studies.ability_growth.doit.available", there)
    monkeypatch.setattr("labkit.instructions.doit.exam", lambda _, entry: SimpleNamespace(name=entry))
    monkeypatch.setattr("labkit.studies.followed_sets.digests", lambda *_: {})
    data = exam_folder(tmp_path / "data")
    for source in studies.find("generalist_mix").scales["real"]["sources"]:
        write(data / source.rpartition("=")[2], "")
    monkeypatch.setenv("LABKIT_DATA", str(real_data.made(data, 300)))
    assert {"smoke", "laptop"} <= set(study.scales)
    assert {"paper", "qlora"} & set(study.scales)  # the published settings
    assert set(study.minutes) == set(study.scales)
    for scale in study.scales:
        params = study.resolve({"scale": scale})
        assert params.scale == scale
        points = study.points(params)
        assert len({point.address for point in points}) == len(points) > 0
    assert all(field.description for field in list(study.Params.model_fields.values())[1:])


def test_the_paper_scale_of_the_diversity_sweep_is_the_papers() -> None:
    params = studies.find("diversity_sweep").resolve({"scale": "paper"})
    assert (params.layers, params.heads, params.width, params.recipe) == (6, 4, 256, "paper")
    assert (params.input_length, params.pattern_length, params.budget, params.n_test) == (50, 20, 10**6, 10**5)
    assert params.steps * params.batch_size == pytest.approx(50 * 10**6, rel=1e-3)  # 50 epochs
    assert sorted(params.n_instructions) == [
        *(10, 20, 50, 100, 200, 300, 400, 500, 600, 1000, 2000, 2500, 5000, 10_000, 100_000, 1_000_000)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", list(studies.every()))
def test_it_runs_under_plain_nbclient_too(name: str, own_store: Path) -> None:
    """Without `labkit run`, as by hand in JupyterLab: widgets are built, and the files go into the store."""
    from nbclient import NotebookClient

    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    cell = parameters_cell(notebook)
    group = next(group for group, members in studies.find(name).Params.groups.items() if "steps" in members)
    for parameter, value in {"scale": "'smoke'", group: "{'steps': 5}"}.items():
        cell.source = re.sub(rf"(?m)^{parameter} = \S+", f"{parameter} = {value}", cell.source)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(FOLDER)}}).execute()
    (folder,) = own_store.glob(f"{name}/runs/*")
    assert {path.name for path in folder.iterdir()} == {"params.yaml", "provenance.json", "report.html", "result.json"}
    kinds = {kind for cell in code_cells(notebook) for output in cell.outputs for kind in output.get("data", {})}
    assert "image/png" in kinds
    if any("_widget(" in cell.source or "show.explore(" in cell.source for cell in code_cells(notebook)):
        assert "application/vnd.jupyter.widget-view+json" in kinds  # the progress bar is one, too
