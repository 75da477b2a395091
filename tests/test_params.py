"""Parameter files: the published ones are in step with the studies, a person's own are checked as `--set` is."""

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import nbformat
import pytest
import yaml
from command import labkit

from labkit import BadRequest, studies
from labkit.studies import run as runs

NINE = [f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in pairwise("abcdefghi")]
LAUGHS = "a: &a [0, 0, 0]\n" + "".join(NINE)  # a file of a few lines that stands for 100 million values
PUBLISHED = Path(__file__).parent.parent / "papermill_runs" / "params"
SETS = [(study.name, scale) for study in studies.every().values() for scale in study.scales]


def test_the_published_files_are_those_of_the_studies_and_scales() -> None:
    """`labkit params` makes them: run it again where this fails."""
    assert {path.name for path in PUBLISHED.iterdir()} == {f"{name}.{scale}.yaml" for name, scale in SETS}


@pytest.mark.parametrize(("name", "scale"), SETS)
def test_a_published_file_sets_what_the_scale_sets(name: str, scale: str) -> None:
    study, path = studies.find(name), PUBLISHED / f"{name}.{scale}.yaml"
    assert path.read_text("utf-8") == study.params_file(scale)
    given = studies.read_params(path)
    assert set(given) == set(study.names())  # so papermill takes it, too
    assert given == yaml.safe_load(path.read_text("utf-8"))  # by papermill's reader as by ours
    assert study.resolve(given) == study.resolve({"scale": scale})


def test_one_command_writes_them(tmp_path: Path, own_store: Path) -> None:
    done = labkit("params", "--out", tmp_path / "sets")
    assert (done.returncode, done.stdout.split()[0]) == (0, str(len(SETS)))
    for path in PUBLISHED.iterdir():
        assert (tmp_path / "sets" / path.name).read_text() == path.read_text()
    assert labkit("params").returncode == 0
    assert len(list((own_store / "params").iterdir())) == len(SETS)


def test_git_keeps_the_published_files_and_no_other_results() -> None:
    root = PUBLISHED.parent.parent
    if not (root / ".git").exists():
        pytest.skip("not a git checkout")
    names = ["papermill_runs/params/x.yaml", "papermill_runs/x/points/y"]
    done = subprocess.run(["git", "-C", root, "check-ignore", *names], capture_output=True, text=True)
    assert done.stdout.split() == names[1:]


def started(monkeypatch: pytest.MonkeyPatch, *words: str | Path) -> dict:
    """The parameters that `labkit run` would give to the notebook."""
    found = {}

    def execute(notebook: Path, folder: Path, params: dict, **_: object) -> None:
        found.update(params)
        result = {"table": [], "finding": "none"}
        (folder / "result.json").write_text(json.dumps(result))

    monkeypatch.setattr("labkit.lab.execute", execute)
    done = labkit("run", *words)
    assert done.returncode == 0, done.stderr
    return found


def test_a_file_sets_parameters_and_the_command_line_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "own.yaml"
    file.write_text("scale: smoke\nseeds: &seeds [3, 4]\nmodel: {steps: 7, layers: 1}\nbudget: 20000\nn_test: null\n")
    params = started(monkeypatch, "diversity_sweep", "--params", file)
    assert (params["scale"], params["seeds"], params["task"]["budget"]) == ("smoke", [3, 4], 20000)
    assert (params["model"]["steps"], params["model"]["layers"], params["task"]["n_test"]) == (7, 1, 100)
    params = started(monkeypatch, "diversity_sweep", "--params", file, "--set", "steps=9", "--set", "seeds=[0]")
    assert (params["model"]["steps"], params["model"]["layers"], params["seeds"]) == (9, 1, [0])
    params = started(monkeypatch, "diversity_sweep", "--params", file, "--scale", "laptop")
    assert (params["scale"], params["seeds"], params["model"]["width"]) == ("laptop", [3, 4], 64)


def test_the_parameters_that_a_run_left_start_it_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`params.yaml` of a run is a parameter file."""
    chosen = studies.find("diversity_sweep").resolve({"scale": "smoke", "recipe": "paper"}).model_dump(mode="json")
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(chosen, sort_keys=False))
    params = started(monkeypatch, "diversity_sweep", "--params", tmp_path / "params.yaml")
    assert studies.find("diversity_sweep").resolve(params).model_dump(mode="json") == chosen


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("sedes: [0]", "unknown parameter of diversity_sweep 'sedes': did you mean 'seeds'"),
        ("model: {stepps: 3}", "unknown parameter in model 'stepps': did you mean 'steps'"),
        ("model: 3", "model = 3: a dict of some of"),
        ("model: {1: 3}", "unknown parameter in model '1'"),
        ("model: {steps: 3}\nsteps: 4", "'steps' is given twice"),
        ("seeds: [0]\nseeds: [1]", "'seeds' is given twice"),
        ("steps: few", "steps = 'few'"),
        ("steps: yes", "true and false are no values of it"),
        ("seeds: 2024-01-01", "valid integer"),
        ("scale: labtop", "did you mean 'laptop'"),
        ("scale: [smoke]", "unknown scale"),
        ("seeds: *seeds", "undefined alias"),
        ("seeds: &seeds [*seeds]", "does an anchor repeat itself"),
        ("model: &m\n  layers: *m", "does an anchor repeat itself"),
        (LAUGHS, "does an anchor repeat itself"),
        ("[" * 200 + "]" * 200, "own.yaml"),
        ("- seeds", "is not a mapping from names"),
        ("1: 2", "is not a mapping from names"),
        ("", "is not a mapping from names"),
        ("seeds: [0", "cannot be read"),
        ("seeds: \x00", "cannot be read"),
        ("seeds: !!python/object:os.system [x]", "cannot be read"),
    ],
)  # fmt: skip
def test_a_file_that_says_no_parameters_is_one_sentence(
    text: str, complaint: str, tmp_path: Path, own_store: Path
) -> None:
    (tmp_path / "own.yaml").write_text(text)
    done = labkit("run", "diversity_sweep", "--params", tmp_path / "own.yaml")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert complaint in done.stderr
    assert not own_store.exists()


def test_a_file_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    for path in (tmp_path / "none.yaml", tmp_path, Path("/dev/null")):
        done = labkit("run", "diversity_sweep", "--params", path)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert str(path) in done.stderr


def test_papermill_s_texts_are_read_as_the_command_line_s() -> None:
    begun = runs.begin(studies.find("diversity_sweep"), {"scale": "smoke", "seeds": "[0, 1]", "model": '{"steps": 7}'})
    assert (begun.params.seeds, begun.params.steps) == ([0, 1], 7)
    begun = runs.begin(studies.find("diversity_sweep"), {"scale": "smoke", "seeds": "null", "n_instructions": "[4]"})
    assert (begun.params.seeds, begun.params.n_instructions) == ([0], [4])
    text = {"scale": "smoke", "task": {"alphabet": "0123456789"}}
    assert runs.begin(studies.find("diversity_sweep"), text).params.alphabet == "0123456789"
    for wrong in ("[0", "[zero]", "few", '{"a": 1}'):
        with pytest.raises(BadRequest, match="seeds"):
            runs.begin(studies.find("diversity_sweep"), {"scale": "smoke", "seeds": wrong})


@pytest.mark.slow
def test_papermill_s_own_command_sets_a_list(tmp_path: Path) -> None:
    begin = "from labkit import studies\nrun = studies.begin('diversity_sweep', globals())\n"
    cells = ["scale = 'smoke'\nseeds = None\nmodel = None\nnoop_shares = None\n"]
    cells.append(begin + "print(run.params.seeds, run.params.steps)")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    notebook.cells[0].metadata["tags"] = ["parameters"]
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, tmp_path / "in.ipynb")
    (tmp_path / "own.yaml").write_text("model: {steps: 9}\n")
    words = ["in.ipynb", "out.ipynb", "-p", "seeds", "[0, 5]", "-p", "noop_shares", "[]", "-f", "own.yaml"]
    done = subprocess.run([sys.executable, "-m", "papermill", *words], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    outputs = nbformat.read(tmp_path / "out.ipynb", as_version=4).cells[-1].outputs
    assert "[0, 5] 9\n" in "".join(output.get("text", "") for output in outputs)
