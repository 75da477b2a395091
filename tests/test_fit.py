"""What a notebook shows fits its place: in a real JupyterLab, from a small laptop to a large screen, and zoomed."""

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from browser import Browser, chromium, jupyterlab, opened
from nbformat.sign import NotebookNotary

pytest.importorskip("altair", reason="labkit[lab] is not installed")

import test_show
import test_show_panels

from labkit import show, studies
from labkit.show import teaching, theme
from labkit.show.idea import Idea
from labkit.studies import exercises

SIZES = [(700, 800), (853, 480), (1280, 720), (1366, 768), (1440, 900), (1920, 1080)]  # 853: 1280 at 150 %
KERNEL = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
STYLE = {"text/html": theme.FITTED}
SMALL, HIGH = 900, 480  # up to this width nothing drawn is higher
MAIN = {
    "Number of training rules": "10,000", "unseen rules [95 %]": "0.981 [0.974, 0.986]",
    "training rules [95 %]": "0.980 [0.971, 0.987]", "seeds": 3, "not learned": 0, "interval over": "seeds and rules",
}  # fmt: skip
WIDE = MAIN | {f"held-out log density, shape {n}": "-0.123 [-0.234, -0.012]" for n in range(6)}
LOOK = """(place) => {
  const svg = place.querySelector('svg.marks'), box = place.getBoundingClientRect();
  const drawn = svg ? [svg] : [...place.querySelectorAll('img, table, details')];
  const texts = svg ? [...svg.querySelectorAll('text')].filter((e) => e.getAttribute('opacity') !== '0') : [];
  const edge = svg?.getBoundingClientRect(), beyond = drawn.map((e) => e.getBoundingClientRect().right - box.right);
  return {
    room: Math.round(box.width),
    over: Math.round(Math.max(place.scrollWidth - place.clientWidth, ...beyond)),
    high: svg ? Math.round(edge.height) : 0,
    cut: texts.filter((e) => {
      const at = e.getBoundingClientRect();
      return at.width && (at.left < edge.left - 2 || at.right > edge.right + 2 ||
                          at.top < edge.top - 2 || at.bottom > edge.bottom + 2);
    }).map((e) => e.textContent),
  };
}"""
OUTPUTS = (
    "[...document.querySelectorAll('.jp-Notebook .jp-OutputArea-output')]"
    ".filter((e) => e.querySelector('svg.marks, img, table, details'))"
)


def charts() -> dict[str, Any]:
    """Charts of every kind, those with long names among them."""
    long = "Unseen rules are followed from about 157 training rules on (95 % interval 100 to 200), and no earlier"
    return {
        "curve": test_show.curve(title=long, published=show.published("diversity_sweep")),
        "strip": show.example_strip(list("abc|def|mississippi=martissippi"), [False] * 20 + [True] * 11, title=long),
        "matrix": show.heat_map(test_show_panels.transfer(), x="to", y="of", diverging=True, title=long),
        "ranks": show.rank_chart({"alpha 0.3": [90, 9, 1]}, {"alpha 0.3": [80.0, 8.0, 2.0]}, title=long),
        **test_show_panels.nasty(),
    }


def outputs() -> dict[str, dict[str, Any]]:
    """What a saved notebook holds of them, of an idea, of exercises and of a main table."""
    idea, asked = exercises.read("markov_programs", studies.find("markov_programs").resolve({}))
    found = {}
    for name, chart in charts().items():
        data, about = theme._mimebundle(theme.themed(chart))
        found[name] = {"data": data | {"image/png": base64.b64encode(data["image/png"]).decode()}, "metadata": about}
    pages = {
        "table": show.tidy([MAIN] * 3).to_html(),
        "wide": show.tidy([WIDE] * 3).to_html(),
        "exercises": teaching.pictured(asked),
    }
    found |= {name: {"data": {"text/html": html}, "metadata": {}} for name, html in pages.items()}
    return found | {"idea": {"data": Idea(**idea.model_dump())._repr_mimebundle_(), "metadata": {}}}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Browser, list[str]]]:
    """A JupyterLab with a saved notebook of these outputs, and their names; every cell is drawn, wherever it is."""
    chromium()
    root = tmp_path_factory.mktemp("fit")
    folder, settings = root / "notebooks", root / "jupyter"
    folder.mkdir()
    shown = [nbformat.v4.new_output("display_data", **one) for one in outputs().values()]
    cells = [nbformat.v4.new_code_cell("", outputs=[one]) for one in shown]
    cells.insert(0, nbformat.v4.new_code_cell("", outputs=[nbformat.v4.new_output("display_data", STYLE)]))
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=KERNEL)
    nbformat.write(notebook, folder / "fit.ipynb")
    tracker = settings / "user" / "@jupyterlab" / "notebook-extension" / "tracker.jupyterlab-settings"
    tracker.parent.mkdir(parents=True)
    tracker.write_text(json.dumps({"windowingMode": "none"}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_DATA_DIR", str(settings))
        notary = NotebookNotary(data_dir=str(settings))
        notary.sign(nbformat.read(folder / "fit.ipynb", as_version=4))  # as one's own notebook is
        notary.store.close()
        with jupyterlab(folder, "fit.ipynb", settings) as url, opened(url, root / "profile") as browser:
            browser.url = url
            yield browser, list(outputs())


def load(browser: Browser, width: int, height: int, n: int) -> None:
    browser.size(width, height)
    browser.js("window.before = true")
    browser.call("Page.navigate", url=browser.url)  # with `?reset`: panels are as wide as JupyterLab makes them
    browser.wait(f"!window.before && {OUTPUTS}.length === {n}")


@pytest.mark.slow
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_every_output_fits_its_place(lab: tuple[Browser, list[str]], size: tuple[int, int]) -> None:
    browser, names = lab
    load(browser, *size, len(names))
    if kept := os.environ.get("LABKIT_SCREENSHOTS"):
        for place, name in enumerate(names):
            browser.js(f"{OUTPUTS}[{place}].scrollIntoView({{block: 'start'}})")
            browser.picture(Path(kept) / f"{size[0]} {name}.png")
    told = browser.js(f"{OUTPUTS}.map({LOOK})")
    found = dict(zip(names, told, strict=True))
    assert {name: one["over"] for name, one in found.items() if one["over"] > 1} == {}
    assert {name: one["cut"] for name, one in found.items() if one["cut"]} == {}
    if size[0] <= SMALL:
        assert {name: one["high"] for name, one in found.items() if one["high"] > HIGH} == {}


@pytest.mark.slow
def test_a_report_shows_all_columns_of_its_main_table(tmp_path: Path) -> None:
    chromium()
    page = show.write_report(tmp_path / "r.html", title="T", question="Q?", finding="F", tables=[("Main", [MAIN] * 3)])
    with opened(page.as_uri(), tmp_path / "profile") as browser:
        browser.wait("document.querySelector('th')")
        for width, height in SIZES:
            browser.size(width, height)
            heads = "[...document.querySelectorAll('th')].filter((e) => e.getBoundingClientRect().right <= innerWidth)"
            assert browser.js(f"{heads}.map((e) => e.textContent.trim())") == list(MAIN), width
            assert browser.js("document.documentElement.scrollWidth") <= width
