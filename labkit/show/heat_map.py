"""A matrix of accuracies: what was trained on in rows, what was tested on in columns, the interval in every cell.

The colours run from white to a dark blue of one hue (lightness falls evenly): told apart by colour-blind readers and in
greyscale, with the number in every cell besides. A diverging map is white at 0, blue above and brown below it; in
greyscale the sign of every number, and a triangle in the corner of cells below 0, say which. Nothing is computed here.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import pandas as pd

from labkit.errors import BadRequest, unknown
from labkit.show.parts import LETTER, LINES, drawn, heading, wrapped
from labkit.show.theme import QUIET

SCALE = ("#ffffff", "#c6dbef", "#6aa5d3", "#2468ab", "#08264f")  # white to dark: equal steps of lightness
DIVERGING = ("#5a2a00", "#b8651b", "#f1c48f", "#ffffff", "#c6dbef", "#3f82bd", "#08264f")  # brown, white, blue
FRAME = "#c23b22"  # stands out from pale and dark cells, and from any page
CELL_WIDTH, CELL_HEIGHT = 88, 44  # pixels
MAP_WIDTH, MAP_HEIGHT = 720, 380  # pixels that many cells share
SWITCH = 0.65  # share of the domain above which white letters stand out better than dark ones


def heat_map(
    cells: Sequence[Mapping[str, Any]], *, x: str, y: str, value: str = "mean", lo: str = "lo", hi: str = "hi",
    x_order: Sequence[str] | None = None, y_order: Sequence[str] | None = None, outlined: str | None = None,
    x_label: str = "", y_label: str = "", label: str = "Accuracy", domain: tuple[float, float] | None = None,
    diverging: bool = False, digits: int = 2, title: str = "", subtitle: str = "",
) -> alt.LayerChart:  # fmt: skip
    """A cell a pair of row and column: coloured by its value, with the value in bold and its interval below.

    Args:
        cells: A mapping a cell: its column name `x`, its row name `y`, and `value`, `lo`, `hi` (None: no interval). A
            pair that is missing stays empty.
        x_order: The columns from left to right; as they first come up if None.
        y_order: The rows from top to bottom, likewise.
        outlined: The key of a flag; cells where it is true get a frame, such as a row's own columns.
        domain: The values of the palest and the darkest colour; 0 to 1 if None, or as far from 0 to either side as
            the values go where `diverging`.
        diverging: Two hues that meet in white at 0, and a sign before every number.
        digits: Decimals of the printed numbers.

    Raises:
        BadRequest: for no cells, a missing key, a pair given twice, a name outside an order, a value outside the
            domain, or a diverging domain that is not as wide below 0 as above.
    """
    frame = pd.DataFrame(list(cells))
    if frame.empty:
        raise BadRequest("there is nothing to draw: no cells are given")
    for key in (x, y, value, lo, hi, *([outlined] if outlined else [])):
        if key not in frame:
            raise unknown("key of a cell", key, map(str, frame.columns))
    orders = {}
    for key, order in ((x, x_order), (y, y_order)):
        orders[key] = list(order) if order is not None else list(dict.fromkeys(frame[key]))
        if strange := set(frame[key]) - set(orders[key]):
            raise unknown(f"name in '{key}'", str(min(strange)), orders[key])
    if twice := next(iter(frame.loc[frame.duplicated([x, y]), [x, y]].itertuples(index=False)), None):
        raise BadRequest(f"the cell of {x} '{twice[0]}' and {y} '{twice[1]}' is given twice")
    far = max((abs(number) for number in frame[value] if number == number), default=0.0) or 1.0
    low, high = domain or ((-far, far) if diverging else (0.0, 1.0))
    if diverging and low != -high:
        raise BadRequest(f"a diverging map is as wide below 0 as above: a domain from {low:g} to {high:g} is not")
    for number in frame[value]:
        if not low <= number <= high:
            raise BadRequest(f"{value} = {number}: the domain of the colours is {low:g} to {high:g}")

    wide, tall = min(CELL_WIDTH, MAP_WIDTH / len(orders[x])), min(CELL_HEIGHT, MAP_HEIGHT / len(orders[y]))
    has = frame[[lo, hi]].notna().all(axis=1)
    letters = max(6, int(wide / LETTER))
    columns, names = ([wrapped(name, n) for name in orders[key]] for key, n in ((x, letters), (y, 34)))
    table = pd.DataFrame({
        "column": [wrapped(name, letters) for name in frame[x]],
        "row": [wrapped(name, 34) for name in frame[y]],
        "value": frame[value],
        "text": [_number(number, digits, diverging) for number in frame[value]],
        "interval": [
            f"{_number(a, digits)} {'to' if diverging else '–'} {_number(b, digits)}" if both else ""
            for a, b, both in zip(frame[lo], frame[hi], has, strict=True)
        ],
        "outlined": frame[outlined].astype(bool) if outlined else False,
    })  # fmt: skip
    longest = max(len(line) for name in columns for line in name.split("\n"))
    fit = min(13, 13 * letters / longest)  # a single long word is written smaller
    # Vega sets a label of several lines from its bottom line on: room for the others.
    room = 5 + 15 * max(name.count("\n") for name in columns)
    x_axis = alt.Axis(title=x_label or None, orient="top", domain=False, ticks=False, labelExpr=LINES, labelAngle=0,
                      labelPadding=room, labelFontSize=fit)  # fmt: skip
    y_axis = alt.Axis(title=y_label or None, domain=False, ticks=False, labelExpr=LINES)
    across = alt.X("column:N", axis=x_axis).scale(domain=columns, paddingInner=0.03)
    down = alt.Y("row:N", axis=y_axis).scale(domain=names, paddingInner=0.05)
    hues = list(DIVERGING if diverging else SCALE)
    colour = alt.Color("value:Q", title=label).scale(domain=[low, high], range=hues, interpolate="lab")
    key = alt.Legend(gradientLength=200, gradientThickness=12, tickCount=5, titleOrient="left")
    switch = 0.62 * high if diverging else low + SWITCH * (high - low)
    dark = f"{'abs(datum.value)' if diverging else 'datum.value'} > {switch}"
    ink = alt.when(dark).then(alt.value("white")).otherwise(alt.value("black"))  # on its cell, whatever the page

    base = alt.Chart(table).encode(across, down)
    inner = {"width": {"band": 0.95}, "height": {"band": 0.92}} if diverging else {}  # neighbours stay two frames
    frames = base.transform_filter("datum.outlined").mark_rect(fill=None, stroke=FRAME, strokeWidth=3, **inner)
    up = -0.15 * tall if has.any() else 0
    below_zero = base.transform_filter("datum.text[0] == '−'").mark_point(
        shape="triangle-down", filled=True, size=45, opacity=1, xOffset=9 - wide / 2, yOffset=8 - tall / 2
    )
    sizes = [min(most, 0.4 * tall, (wide - 6) / (share * max(table[column].str.len().max(), 1)))
             for column, most, share in (("text", 18, 0.6), ("interval", 12, 0.53))]  # fmt: skip
    layers = [
        base.mark_rect(stroke=QUIET, strokeWidth=0.5).encode(colour.legend(key), tooltip=list(table)),
        *([frames] if outlined else []),
        *([below_zero.encode(color=ink)] if diverging else []),
        base.mark_text(fontSize=sizes[0], fontWeight="bold", dy=up).encode(text="text:N", color=ink),
        base.mark_text(fontSize=sizes[1], dy=0.24 * tall).encode(text="interval:N", color=ink),
    ]
    size = {"width": wide * len(columns), "height": tall * len(names)}
    beside = LETTER * max(len(line) for name in names for line in name.split("\n"))
    return drawn(alt.layer(*layers).properties(**size), heading(title, subtitle, max(420, size["width"] + beside)))


def _number(value: float, digits: int, signed: bool = False) -> str:
    """With a true minus sign, and none before a zero."""
    text = f"{abs(value):.{digits}f}"
    sign = "" if not float(text) else "−" if value < 0 else "+" if signed else ""
    return sign + text
