"""A run's notebook as slides: one page that opens offline, 16:9, turned by arrow keys.

Which cells begin a slide is in the notebook's metadata (`slideshow`), as Jupyter's own tools read it. Of code only what
it shows is on a slide. Guaranteed: nothing overflows, since a slide that is too high is made smaller; every picture is
in the page.
"""

import json
import re
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

import jinja2

from labkit.errors import BadRequest
from labkit.lab import write_text
from labkit.show.glossary import glossed
from labkit.show.theme import COLOURS


def write_slides(notebook: Path, out: Path) -> Path:
    """The slides of an executed notebook, as one file.

    Raises:
        BadRequest: when there is no notebook, or nothing in it has been executed.
    """
    if not notebook.exists():
        raise BadRequest(f"{notebook} is not there: name a run that was made by `labkit run`")
    try:
        cells = json.loads(notebook.read_text("utf-8"))["cells"]
    except (ValueError, KeyError, TypeError):
        raise BadRequest(f"{notebook} is no whole notebook: name another run, or `labkit rerun` it") from None
    slides: list[str] = []
    for cell in cells:
        kind = cell["metadata"].get("slideshow", {}).get("slide_type", "-")
        parts = [] if kind == "skip" else list(_parts(cell))
        for place, part in enumerate(parts):
            if kind in ("slide", "subslide") or place or not slides:
                slides.append(part)
            else:
                slides[-1] += part
    if not any("outputs" in cell and cell["outputs"] for cell in cells):
        raise BadRequest(f"{notebook} has no outputs: name a run that was executed")
    environment = jinja2.Environment(loader=jinja2.PackageLoader("labkit.show", ""), autoescape=True)
    title = re.sub("<[^>]*>", "", slides[0]).strip().splitlines()[0]
    text = environment.get_template("slides.html.j2").render(slides=slides, title=title, colours=COLOURS)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, text)
    return out


def _parts(cell: dict[str, Any]) -> Iterator[str]:
    """What is on the slides of a cell, a slide each: prose, or one output after the other."""
    from nbconvert.filters import markdown2html

    if cell["cell_type"] == "markdown":
        html = str(markdown2html("".join(cell["source"])))
        yield glossed(re.sub(r'<a class="anchor-link".*?</a>', "", html))
    printed = [output for output in cell.get("outputs", []) if output.get("name") == "stdout"]
    for output in cell.get("outputs", []):
        data = {kind: "".join(value) for kind, value in output.get("data", {}).items() if not isinstance(value, dict)}
        if printed[:1] == [output]:  # what is printed is one slide, however many pieces it came in
            yield f"<pre>{escape(''.join(text for one in printed for text in one['text']).strip())}</pre>"
        elif data.get("text/html", "").startswith("<style>"):
            continue
        elif "text/html" in data:
            yield data["text/html"]
        elif "image/png" in data:
            words = escape(data.get("text/plain", "chart"))
            yield f'<img alt="{words}" src="data:image/png;base64,{data["image/png"].strip()}">'
