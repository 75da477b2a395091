"""What a class uses: exercises, the figure of the idea, the glossary, slides."""

import json
import os
import re
from html import escape
from pathlib import Path
from typing import Any

import nbformat
import pytest

pytest.importorskip("altair", reason="labkit[lab] is not installed")
pytest.importorskip("anywidget", reason="labkit[lab] is not installed")

import tidy_notebooks
from browser import Browser, chromium, jupyterlab, opened
from command import labkit

from labkit import show, studies
from labkit.commands.teaching import MOST, light
from labkit.errors import BadRequest
from labkit.show import glossary, slides, teaching
from labkit.show.idea import Idea
from labkit.studies import answers, exercises

NAMES = list(studies.every())
ROOT = Path(__file__).parent.parent
PARAMS = [(name, scale) for name, study in studies.every().items() for scale in study.scales if scale != "qlora"]


def read(name: str, scale: str = "laptop") -> tuple[exercises.Idea, list[exercises.Exercise]]:
    study = studies.find(name)
    return exercises.read(name, study.resolve({"scale": scale}))


# Exercises


@pytest.mark.parametrize("name", NAMES)
def test_each_notebook_has_three_exercises_with_hints_in_steps(name: str) -> None:
    found = read(name)[1]
    assert len(found) == 3
    assert all(one.minutes >= 1 and len(one.hints) >= 2 for one in found)
    assert all((one.right is None) != (one.judged is None) for one in found)
    assert f'"{name}"' in (source := (ROOT / "notebooks" / f"{name}.ipynb").read_text()).replace("\\", "")
    assert '"run.exercises()"' in source


@pytest.mark.parametrize(("name", "scale"), PARAMS)
def test_solutions_are_right_and_mistakes_get_the_hint_that_fits(name: str, scale: str) -> None:
    for one in read(name, scale)[1]:
        assert one.check(one.solved()) == exercises.RIGHT, one.question
        assert not one.options or one.solved() in one.options
        for mistake, hint in one.mistakes:
            value = exercises.called(mistake)
            text = value if isinstance(value, str) else f"{value:.10g}"
            assert one.check(text) == hint, (one.question, text)


def test_every_function_of_the_answers_is_used() -> None:
    text = "".join(path.read_text() for path in exercises.FOLDER.glob("*.yaml"))
    named = {name for name in vars(answers) if re.search(rf"\b{name}: \{{", text)}
    defined = {
        name
        for name, one in vars(answers).items()
        if callable(one) and getattr(one, "__module__", "") == answers.__name__
    }
    assert {name for name in defined if not name.startswith("_")} == named


@pytest.mark.parametrize(
    ("name", "place", "answer", "says"),
    [
        ("diversity_sweep", 0, "", "Write an answer first"),
        ("diversity_sweep", 1, "many", "Write a number: 'many' is none"),
        ("diversity_sweep", 1, "1,600/10", "Right"),
        ("long_tail", 1, "3 3 3 3", "equal parts"),
        ("long_tail", 1, "9 1 1 1", "worth 1.71 rules: too uneven"),
        ("long_tail", 1, "4 4 4 1", "add up to 13"),
        ("long_tail", 1, "six", "4 whole numbers"),
        ("input_variety", 1, "aabb", "both give bbbb"),
        ("input_variety", 1, "bbb", "does not occur"),
        ("input_variety", 1, "aaaaaaa", "6 at most"),
        ("semantic_diversity", 0, "abcabcabc", "That is periodic, not mirror"),
        ("semantic_diversity", 0, "abaabaaba", "periodic as well"),
        ("semantic_diversity", 0, "abc", "Write 9 letters"),
        ("abstraction", 0, "+c-^a^b", "the expression itself"),
        ("abstraction", 0, "+c*+ab+ab", "not equal"),
        ("abstraction", 0, "c+ab", "not"),
        ("markov_programs", 2, "xyz", "In both orders the answer is xyz"),
        ("ability_growth", 0, "40 %", "Right"),
        ("ability_growth", 0, "0.7", ""),
    ],
)
def test_what_an_answer_is_told(name: str, place: int, answer: str, says: str) -> None:
    told = read(name)[1][place].check(answer)
    assert says in told
    assert bool(told) == bool(says)


def test_a_study_without_exercises_says_so() -> None:
    with pytest.raises(BadRequest, match="'swaps' has no exercises"):
        exercises.read("swaps", studies.find("diversity_sweep").resolve({}))


def test_the_controls_check_hint_and_solve() -> None:
    box = teaching.exercises_box(read("diversity_sweep")[1])
    _, text, row, said = box.children[1].children
    check, hint, solution = row.children
    text.value = "banos"
    assert "✗" in said.value
    assert "last occurrence" in said.value
    text.value = "nothing of the kind"
    assert "Hint 1" in said.value
    hint.click()
    assert "Hint 2" in said.value
    solution.click()
    assert "bonas" in said.value
    text.value = "bonas"
    check.click()
    assert "✓" in said.value
    choice = box.children[3].children[1]
    choice.chosen = [1]
    box.children[3].children[2].children[0].click()
    assert "Only a whole interval decides" in box.children[3].children[3].value
    assert "<details>" in box._repr_mimebundle_()["text/html"]


# The figure of the idea


@pytest.mark.parametrize("name", NAMES)
def test_the_idea_is_a_picture_with_words(name: str) -> None:
    idea = read(name)[0]
    drawn = Idea(**idea.model_dump())
    bundle = drawn._repr_mimebundle_()
    assert f'alt="{escape(idea.title)}' in bundle["text/html"]
    assert all(words in drawn.words for words in (*idea.arms.values(), *idea.asked.values()))
    assert len(bundle["text/html"]) < 60_000


# The glossary


def test_the_glossary_is_whole_and_in_step() -> None:
    entries = glossary.glossary()
    assert len({entry.term.casefold() for entry in entries}) == len(entries) > 50
    assert all(entry.says and entry.source for entry in entries)
    assert (ROOT / "notebooks" / "GLOSSARY.md").read_text() == glossary.page(), (
        "labkit glossary --out notebooks/GLOSSARY.md"
    )
    files = [entry.source for entry in entries if entry.source.startswith("labkit/")]
    assert [source for source in files if not (ROOT / source).exists()] == []


def test_terms_are_explained_once_and_tags_left_alone() -> None:
    html = glossary.glossed('<a title="gate">Gates</a> and a gate of seeds; Hill numbers; investigate')
    assert html.count("<abbr") == 3
    assert html.startswith('<a title="gate"><abbr title="a score')
    assert ">Hill number" in html
    assert "<abbr" in show.tidy([{"seeds": 1}]).to_html()


def test_the_command_tells_a_word(tmp_path: Path) -> None:
    assert "equally frequent" in labkit("glossary", "hill").stdout
    assert labkit("glossary", "hil number").returncode == 2
    assert labkit("glossary", "--out", str(tmp_path / "g.md")).returncode == 0
    assert (tmp_path / "g.md").read_text() == glossary.page()


# Slides


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_are_committed_as_make_notebooks_leaves_them(path: Path) -> None:
    """Without outputs, and with what a presenter sees: a heading begins a slide."""
    assert path.read_text() == tidy_notebooks.tidy(json.loads(path.read_text())), "run: make notebooks"


WIDE = "<table><tr>" + "<th>a heading of a table</th>" * 14 + "</tr></table>"
LONG = "<p>line</p>" * 60


@pytest.fixture
def page(tmp_path: Path) -> Any:
    chromium()

    def cell(kind: str, *html: str) -> dict[str, Any]:
        outputs = [{"output_type": "display_data", "data": {"text/html": part}, "metadata": {}} for part in html]
        return {"cell_type": "code", "metadata": {"slideshow": {"slide_type": kind}}, "outputs": outputs, "source": []}

    title = {
        "cell_type": "markdown",
        "metadata": {"slideshow": {"slide_type": "slide"}},
        "source": ["# Title\n\nA gate."],
    }
    notebook = tmp_path / "notebook.ipynb"
    notebook.write_text(json.dumps({"cells": [title, cell("skip", "never"), cell("subslide", WIDE, LONG)]}))
    written = slides.write_slides(notebook, tmp_path / "slides.html")
    with opened(written.as_uri(), tmp_path / "profile") as browser:
        browser.wait("document.querySelector('section.on')")
        yield browser


@pytest.mark.slow
def test_no_slide_overflows_a_projector_and_keys_turn_them(page: Browser) -> None:
    assert page.js("document.querySelectorAll('section').length") == 3
    assert "never" not in page.js("document.body.innerHTML")
    for width, height in ((1280, 720), (1920, 1080), (853, 480)):
        page.size(width, height)
        for number in (1, 2, 3):
            page.js(f"location.hash = {number}")
            page.wait(f"document.querySelector('nav').textContent === '{number} / 3'")
            box = page.js("document.querySelector('section.on').getBoundingClientRect().toJSON()")
            assert box["left"] >= -1
            assert box["top"] >= -1
            assert box["right"] <= width + 1, (number, width)
            assert box["bottom"] <= height + 1, (number, width)
    page.press("ArrowLeft")
    page.wait("document.querySelector('nav').textContent === '2 / 3'")


@pytest.mark.parametrize("text", [b"", b'{"cells": [{"cell_t', b"[]", b"\xff\xe8"])
def test_slides_of_half_a_notebook_are_refused(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "notebook.ipynb").write_bytes(text)
    with pytest.raises(BadRequest, match="is no whole notebook"):
        slides.write_slides(tmp_path / "notebook.ipynb", tmp_path / "out.html")


def test_slides_of_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="is not there"):
        slides.write_slides(tmp_path / "notebook.ipynb", tmp_path / "out.html")
    with pytest.raises(BadRequest, match="has no outputs"):
        slides.write_slides(ROOT / "notebooks" / "long_tail.ipynb", tmp_path / "out.html")


# What comes along with the project


def test_light_copies_hold_pictures_and_no_machinery() -> None:
    data = {"image/png": "cGljdHVyZQ==", "text/html": "<img>", "application/vnd.vega.v5+json": {}, "text/plain": "a"}
    chart = {"cell_type": "code", "source": ["results.chart()"], "metadata": {"tags": [], "papermill": {"x": "/home"}},
             "outputs": [{"data": dict(data)}, {"data": {"text/html": "<table>"}}]}  # fmt: skip
    idea = {"cell_type": "code", "source": ["run.idea()"], "metadata": {}, "outputs": [{"data": dict(data)}]}
    notebook, picture = light({"cells": [idea, chart], "metadata": {"widgets": {}, "kernelspec": {}}, "nbformat": 4})
    assert picture == b"picture"
    assert [sorted(one["data"]) for one in notebook["cells"][1]["outputs"]] == [
        ["image/png", "text/plain"],
        ["text/html"],
    ]
    assert notebook["cells"][1]["metadata"] == {"tags": []}
    assert notebook["metadata"] == {"kernelspec": {}}


def test_what_the_store_lacks_is_left_out_and_named(tmp_path: Path) -> None:
    done = labkit("reference", "long_tail", "--out", str(tmp_path))
    assert done.returncode == 1
    assert "long_tail: 28 of 28 points are not in" in done.stdout
    assert list(tmp_path.glob("*.ipynb")) == []


REFERENCE = sorted((ROOT / "papermill_runs" / "reference").glob("*.ipynb"))


@pytest.mark.parametrize("path", REFERENCE, ids=lambda path: path.stem)
def test_reference_notebooks_are_light_and_say_nothing_of_a_machine(path: Path) -> None:
    text = path.read_text("utf-8")
    assert len(text.encode()) <= MOST
    assert '"image/png"' in text
    assert not re.search(r"/(?:home|Users|root|tmp|work)/", text)
    assert path.with_suffix(".png").exists()


@pytest.mark.slow
def test_exercises_are_done_by_keyboard_in_a_dark_jupyterlab(tmp_path: Path) -> None:
    """Keys in a field or a choice neither leave it nor move the notebook, and each answer is told what fits."""
    chromium()
    folder, settings = tmp_path / "notebooks", tmp_path / "jupyter"
    dark = settings / "user" / "@jupyterlab" / "apputils-extension" / "themes.jupyterlab-settings"
    for path in (folder, dark.parent):
        path.mkdir(parents=True)
    dark.write_text('{"theme": "JupyterLab Dark"}')
    source = (
        "from labkit import studies\nrun = studies.begin('diversity_sweep', {})\ndisplay(run.idea())\nrun.exercises()"
    )
    cells = [nbformat.v4.new_code_cell(source), nbformat.v4.new_markdown_cell("below")]
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), folder / "one.ipynb")
    with jupyterlab(folder, "one.ipynb", settings) as url, opened(url, tmp_path / "profile") as page:
        page.size(1280, 900)
        page.wait("document.body.innerText.includes('| Idle')")
        page.click("document.querySelector('.jp-CodeCell .cm-content')")
        page.press("Enter", shift=True)
        page.wait("document.querySelectorAll('fieldset input').length === 3")
        page.click("document.querySelector('.jp-OutputArea input[type=text]')")
        page.type("banos")
        page.press("Enter")
        page.wait("document.body.innerText.includes('You replaced the last occurrence')")
        assert page.js("document.activeElement.matches('input[type=text]')"), "JupyterLab took the keys"
        page.js("document.querySelector('fieldset input').focus()")
        page.press("ArrowDown")
        assert page.js("document.activeElement.matches('fieldset input') && document.activeElement.checked")
        assert page.js("document.querySelector('img').alt").startswith("The same number of examples")
        if kept := os.environ.get("LABKIT_SCREENSHOTS"):
            page.js("document.querySelector('.jp-OutputArea img').scrollIntoView()")
            page.picture(Path(kept) / "dark exercises.png")
