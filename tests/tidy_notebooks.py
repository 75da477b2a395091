"""Notebooks as they are committed: without outputs, and each cell's metadata on one line. `make notebooks` runs this.

Which cells begin a slide follows from what they are, so that nobody sets it by hand: a heading begins a slide, code
goes one down from it, and the outline, the parameters and the last cell are left out.
"""

import json
import re
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent.parent / "notebooks"


def tidy(notebook: dict[str, Any]) -> str:
    """The text of a notebook's file."""
    cells = notebook["cells"]
    for place, cell in enumerate(cells):
        kept = {name: value for name, value in cell["metadata"].items() if name == "tags"}
        kind = "skip" if cell is cells[-1] and cell["cell_type"] == "code" else slide(cell)
        cell["metadata"] = {**kept, "slideshow": {"slide_type": kind}}
        cell["id"] = f"cell-{place:02}"
        if cell["cell_type"] == "code":
            cell |= {"outputs": [], "execution_count": None}
    about = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
             "language_info": {"name": "python"}}  # fmt: skip
    text = json.dumps(notebook | {"metadata": about}, indent=1, ensure_ascii=False, sort_keys=True)
    return re.sub(r'(?s)"metadata": \{\n    .*?\n   \}', lambda found: re.sub(r"\n +", "", found[0]), text) + "\n"


def slide(cell: dict[str, Any]) -> str:
    """What a presenter sees of a cell."""
    source = "".join(cell["source"])
    if cell["cell_type"] == "markdown":
        return "skip" if source.startswith("## Outline") else "slide" if source.startswith("#") else "subslide"
    if "parameters" in cell["metadata"].get("tags", []):
        return "skip"
    return "slide" if "studies.begin(" in source or source == "run.exercises()" else "subslide"


if __name__ == "__main__":
    for path in FOLDER.glob("*.ipynb"):
        path.write_text(tidy(json.loads(path.read_text("utf-8"))), "utf-8")
