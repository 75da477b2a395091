"""In the dark, text has a contrast of at least 4.5 to 1 to its background, and a mark of at least 3 to 1 (WCAG 2.2)."""

import re
from itertools import product
from pathlib import Path

import pytest

from labkit.show import theme

FOLDER = Path(theme.__file__).parent
LIGHT, DARK = (dict(re.findall(r"--(\w+): (#\w+)", part)) for part in theme.COLOURS.split("@media"))
JUPYTERLAB = "#111111"  # what a cell stands on in JupyterLab's dark theme
PALETTE = re.findall(r"#\w{6}", re.search(r"PALETTE = \[(.*)\]", (FOLDER / "draw.js").read_text())[1])  # type: ignore[index]


def channels(colour: str) -> list[float]:
    digits = "".join(2 * digit for digit in colour[1:]) if len(colour) == 4 else colour[1:]
    return [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]


def contrast(one: list[float], other: list[float]) -> float:
    """The ratio of two colours' relative luminances, as WCAG has it."""
    lights = []
    for colour in (one, other):
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
        lights.append(sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True)) + 0.05)
    return max(lights) / min(lights)


def test_known_ratios() -> None:
    assert contrast(channels("#000"), channels("#ffffff")) == pytest.approx(21)
    assert contrast(channels("#777777"), channels("#fff")) == pytest.approx(4.48, abs=0.005)


@pytest.mark.parametrize(("page", "name"), list(product([LIGHT, DARK], ["ink", "quiet", "blue"])))
def test_text(page: dict[str, str], name: str) -> None:
    assert contrast(channels(page[name]), channels(page["paper"])) >= 4.5


@pytest.mark.parametrize(("colour", "paper"), list(product(PALETTE, [DARK["paper"], JUPYTERLAB])))
def test_marks(colour: str, paper: str) -> None:
    assert contrast(channels(colour), channels(paper)) >= 3


@pytest.mark.parametrize(("page", "shade"), list(product([LIGHT, DARK], PALETTE[:2])))
def test_numbers_in_the_darkest_cell_of_a_grid(page: dict[str, str], shade: str) -> None:
    cell = [0.6 * a + 0.4 * b for a, b in zip(channels(shade), channels(page["paper"]), strict=True)]
    assert contrast(channels(page["ink"]), cell) >= 4.5


@pytest.mark.parametrize("name", ["ask.css", "fitted.css", "wall.html.j2", "slides.html.j2"])
def test_what_a_page_names_itself(name: str) -> None:
    """Bars and the frame of what has the focus; a colour inside `var(...)` stands in for one that the page has."""
    text = re.sub(r"var\(.*?\)+", "", (FOLDER / name).read_text())
    for colour in re.findall(r"#(?:[0-9a-f]{6}|[0-9a-f]{3})\b", text):
        assert contrast(channels(colour), channels(DARK["paper"])) >= 3, colour
