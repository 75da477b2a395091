"""The playground: answers, heads, kinds, further training, and the panel in a real JupyterLab."""

from html import unescape
from pathlib import Path
from typing import Any

import nbformat
import pytest
from browser import PATIENCE, chromium, jupyterlab, opened

from labkit import BadRequest, studies
from labkit.instructions.kinds import KINDS
from labkit.lab import Store
from labkit.studies import playing, wall
from labkit.studies.run import Run

NOTEBOOK = Path(__file__).parent.parent / "notebooks" / "playground.ipynb"
TINY = {
    "scale": "smoke",
    "n_instructions": [2, 40],
    "noop_shares": [],
    "steps": 100,
    "width": 16,
    "layers": 2,
    "budget": 600,
}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two models, shared and never changed."""
    root = tmp_path_factory.mktemp("playground") / "papermill_runs"
    study = studies.find("diversity_sweep")
    Run(study, study.resolve(TINY), Store(root)).measure(jobs=0)
    return root


@pytest.fixture
def ground(kept: Path, monkeypatch: pytest.MonkeyPatch) -> playing.Playground:
    monkeypatch.setenv("LABKIT_RUNS", str(kept))
    return studies.playground()


def test_it_offers_the_models_of_the_store(ground: playing.Playground) -> None:
    assert list(ground.names.values()) == ["40 rules", "2 rules"]


def test_an_empty_store_gets_models_first(own_store: Path) -> None:
    made = studies.playground(**TINY)
    assert list(made.names.values()) == ["40 rules", "2 rules"]
    assert len(list(own_store.glob("diversity_sweep/points/*/result.json"))) == 2


def test_answers_stand_beside_the_run(ground: playing.Playground) -> None:
    page = unescape(ground.answers("aab -> xyz\nx -> c", "aabcaabd").data)
    for words in ("aab -> xyz", "2 rules", "40 rules", "4 steps; no rule applies", "cyzccyzd", "✗"):
        assert words in page
    assert "the pattern 'x' has 1 symbols; this model was trained on 3" in page
    assert "first 12 are shown; limit" in ground.answers("a -> aa", "a").data
    with pytest.raises(BadRequest, match="not a rule"):
        ground.answers("a b", "a")


def test_accuracy_is_the_share_of_right_answers(ground: playing.Playground) -> None:
    address = next(iter(ground.names))
    asked = wall.questions(ground.rows[address])
    one_by_one = [ground.learner(address).answer(one[:3]) == one[3] for one in asked]
    assert ground.accuracy(address, asked) == sum(one_by_one)
    whole, *less = ground.heads(address)
    assert [line["head off"] for line in (whole, *less)][:2] == ["none", "layer 1, head 1"]
    assert len(less) == 2 * 2
    assert whole["unseen rules followed"] == sum(one_by_one) / len(asked)


def test_mistakes_are_counted_by_kind(ground: playing.Playground) -> None:
    address = list(ground.names)[-1]
    lines = ground.mistakes_by_kind(address)
    assert {line["kind"] for line in lines} == set(KINDS)
    assert [line["wrong"] for line in lines] == sorted((line["wrong"] for line in lines), reverse=True)
    assert all(bool(line["wrong"]) == bool(line["such as (right answer)"]) for line in lines)


def test_a_copy_trains_on_a_kind(ground: playing.Playground) -> None:
    address, told = next(iter(ground.names)), list[str]()
    before = {name: weight.clone() for name, weight in ground.learner(address).model.state_dict().items()}
    made, name = ground.practise(address, "x does not occur", 3, told.append)
    assert name == "40 rules, then on “x does not occur”"
    assert all((weight == before[key]).all() for key, weight in ground.learner(address).model.state_dict().items())
    assert any((weight != before[key]).any() for key, weight in ground.learner(made).model.state_dict().items())
    assert "of 40 right before" in told[-1]
    assert ground.practise(address, "x does not occur", 1, told.append)[0] not in (address, made)
    with pytest.raises(BadRequest, match="kind"):
        ground.practise(address, "x is nice", 1)
    with pytest.raises(BadRequest, match="model"):
        ground.practise("nobody", "x does not occur", 1)


@pytest.mark.parametrize("given", [{"nonsense": 1}, {"scale": "labtop"}, {"scale": 5}, {"steps": "x"}, {"seeds": []}])
def test_wrong_settings_are_a_sentence_though_there_are_models(kept: Path, monkeypatch: Any, given: Any) -> None:
    monkeypatch.setenv("LABKIT_RUNS", str(kept))
    with pytest.raises(BadRequest, match=next(iter(given))):
        studies.playground(**given)


def test_wrong_types_are_a_sentence(ground: playing.Playground) -> None:
    address = next(iter(ground.names))
    for ask, named in [
        (lambda: ground.answers(5, "aab"), "5"),
        (lambda: ground.answers("aab -> xyz", None), "'N' in the input"),
        (lambda: ground.answers("aab -> xyz", 5), "'5' in the input"),
        (lambda: ground.panel(["a"], "aab"), "not a rule"),
        (lambda: ground.learner(5), "unknown model '5'"),
        (lambda: ground.heads("nobody"), "unknown model 'nobody'"),
        (lambda: ground.heads([1]), "unknown model"),
        (lambda: ground.mistakes_by_kind(None), "unknown model 'None'"),
        (lambda: ground.portable("nobody"), "unknown model"),
        (lambda: ground.practise(address, 5), "unknown kind '5'"),
        (lambda: ground.practise(address, next(iter(KINDS)), "x"), "steps = 'x'"),
        (lambda: ground.practise(address, next(iter(KINDS)), 0), "steps = 0"),
    ]:
        with pytest.raises(BadRequest, match=named):
            ask()


def test_the_panel_speaks_in_sentences_and_leaves_a_picture(ground: playing.Playground) -> None:
    panel, sent = ground.panel("aab -> xyz", "aabcaabd"), list[Any]()
    panel.send = sent.append
    address = next(iter(ground.names))
    for wish in ({"want": "model", "address": address}, {"want": "model", "address": "nobody"},
                 {"want": "practise", "address": address, "kind": "nice"}):  # fmt: skip
        panel._heard(panel, wish, [])
    assert set(sent[0]["parts"]) == {"about", "weights", "asked", "kinds"}
    assert "unknown model" in sent[1]["problem"]
    assert "unknown kind" in panel.said
    bundle = panel._repr_mimebundle_()
    data = bundle[0] if isinstance(bundle, tuple) else bundle
    assert "aab -&gt; xyz" in data["text/html"]  # what a saved copy shows


def quick() -> Any:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    (cell,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    cell.source = cell.source.replace("steps = 150", "steps = 2")
    return notebook


@pytest.mark.slow
def test_a_person_plays_in_jupyterlab(kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys in the panel neither leave it nor move the notebook; one click trains a model, which joins."""
    chromium()
    monkeypatch.setenv("LABKIT_RUNS", str(kept))
    folder = tmp_path / "notebooks"
    folder.mkdir()
    nbformat.write(quick(), folder / "playground.ipynb")
    with jupyterlab(folder, "playground.ipynb", tmp_path / "jupyter") as url, opened(url, tmp_path / "profile") as page:
        page.size(1280, 900)
        page.wait("document.querySelectorAll('.jp-MarkdownCell').length > 2")
        page.wait("document.body.innerText.includes('| Idle')")
        page.click("document.querySelector('.jp-MarkdownCell')")
        page.press(*["Enter"] * len(quick().cells), shift=True)
        page.wait("document.querySelectorAll('.ask .trace button.letter').length >= 16")
        page.wait("document.querySelector('.jp-OutputArea-output pre')")  # what is printed breaks between words
        printed = "getComputedStyle(document.querySelector('.jp-OutputArea-output pre')).wordBreak"
        assert page.js(printed) == "normal"
        page.click("document.querySelector('.ask textarea')")
        selected = (
            "[...document.querySelectorAll('.jp-Notebook .jp-Cell')].findIndex((e) => e.matches('.jp-mod-active'))"
        )
        before = page.js(selected)
        page.press("ArrowUp", "ArrowDown", "Enter")
        page.type("bbb -> ccc")
        page.wait("document.querySelectorAll('.ask .step').length > 3")
        assert page.js("document.activeElement.matches('.ask textarea')"), "JupyterLab took the keys"
        assert page.js(selected) == before
        page.click("document.querySelector('.ask button.letter')")
        page.wait("document.querySelector('.ask .said')?.textContent.includes('all heads')")
        page.click("document.querySelector('.ask button.fool')")
        page.wait(f"document.querySelectorAll('.ask .practise').length === {len(KINDS)}")
        page.click("document.querySelector('.ask .practise')")
        page.wait("document.querySelectorAll('.ask fieldset input').length === 3")
        page.wait("[...document.querySelectorAll('.ask')].some((e) => e.textContent.includes('right before'))")


@pytest.mark.slow
def test_the_notebook_runs_where_nobody_watches(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nbclient import NotebookClient

    monkeypatch.setenv("LABKIT_RUNS", str(kept))
    notebook = quick()
    NotebookClient(notebook, timeout=PATIENCE, resources={"metadata": {"path": str(NOTEBOOK.parent)}}).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert all("text/html" in output.data for output in shown if output.output_type == "execute_result")
    assert {output.output_type for output in shown} == {"execute_result", "stream"}


CHOICES = """
import pandas as pd
from labkit import show

show.enable()
frame = pd.DataFrame({"step": [1, 2, 1, 2], "n_instructions": 3, "seed": [0, 0, 1, 1], "right": 0.5, "wrong": 0.6})
show.explore(frame, lambda rows, column: show.learning_curves(rows, y=column), {"right": "right", "wrong": "wrong"})
"""


@pytest.mark.slow
def test_arrow_keys_choose_and_stay(tmp_path: Path) -> None:
    chromium()
    folder = tmp_path / "notebooks"
    folder.mkdir()
    cells = [
        nbformat.v4.new_markdown_cell("first"),
        nbformat.v4.new_code_cell(CHOICES),
        nbformat.v4.new_markdown_cell("last"),
    ]
    about = quick().metadata  # a notebook without a kernel's name makes JupyterLab ask for one
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=about), folder / "choice.ipynb")
    with jupyterlab(folder, "choice.ipynb", tmp_path / "jupyter") as url, opened(url, tmp_path / "profile") as page:
        page.size(1280, 900)
        page.wait("document.querySelectorAll('.jp-Cell').length === 3 && document.body.innerText.includes('| Idle')")
        page.click("document.querySelector('.jp-MarkdownCell')")
        page.press("Enter", "Enter", shift=True)
        page.wait("document.querySelectorAll('.jp-OutputArea fieldset').length === 2")
        page.js("document.querySelector('.jp-OutputArea input[type=radio]').focus()")
        active = "document.querySelectorAll('.jp-Cell.jp-mod-active, .jp-Cell.jp-mod-selected').length"
        before = page.js(active)
        page.press("ArrowDown")
        page.wait("document.querySelector('.jp-OutputArea img')?.alt === 'wrong'")
        assert page.js("document.activeElement.matches('.jp-OutputArea input[type=radio]:checked')")
        page.js("document.querySelector('.jp-OutputArea input[type=checkbox]').focus()")
        page.press(" ")
        page.wait("document.querySelectorAll('.jp-OutputArea input[type=checkbox]:checked').length === 1")
        assert page.js(active) == before
