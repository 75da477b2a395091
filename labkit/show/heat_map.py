"""A matrix of accuracies: what was trained on in rows, what was tested on in columns, the interval in every cell.

The colours run from white to a dark blue of one hue (lightness falls evenly): told apart by colour-blind readers and in
greyscale, with the number in every cell besides. A diverging map is white at 0, blue above and brown below it; in
greyscale the sign of every number, and a triangle in the corner of cells below 0, say which. Nothing is computed here.
"""

from collections.abc import Sequence
from typing import Any

import altair as alt
import pandas as pd

from labkit.errors import BadRequest
from labkit.show import parts
from labkit.show.parts import LETTER, LINES, wrapped
from labkit.show.theme import QUIET

SCALE = ("#ffffff", "#c6dbef", "#6aa5d3", "#2468ab", "#08264f")  # white to dark: equal steps of lightness
DIVERGING = ("#5a2a00", "#b8651b", "#f1c48f", "#ffffff", "#c6dbef", "#3f82bd", "#08264f")  # brown, white, blue
FRAME = "#c23b22"  # stands out from pale and dark cells, and from any page
CELL_WIDTH, CELL_HEIGHT = 88, 44  # pixels
MAP_WIDTH, MAP_HEIGHT = 720, 380  # pixels that many cells share
ROW_LETTERS = 34  # in a line of a row's name
NUMBER = 18, 0.6  # the largest font of a cell's number, and the width of its letters as a share of that
INTERVAL = 12, 0.53  # likewise of its interval


def heat_map(
    cells: Sequence[parts.Record], *, x: str, y: str, x_order: Sequence[str] | None = None, outlined: str | None = None,
    x_label: str = "", diverging: bool = False, title: str = "", subtitle: str = "", colour_label: str = "Accuracy",
) -> alt.LayerChart:  # fmt: skip
    """One cell per pair of row and column: coloured by its mean, with the mean in bold and its interval below.

    Args:
        cells: One mapping per cell: its column name `x`, its row name `y`, and `mean`, `lo`, `hi` (None: no interval).
            A pair that is missing stays empty.
        x_order: The columns from left to right; as they first come up if None.
        outlined: The key of a flag; cells where it is true get a frame, such as a row's own columns.
        diverging: Means may be below 0. Two hues meet in white at 0, as far to either side as the means go, and every
            mean has a sign; otherwise means lie between 0 and 1.
        colour_label: What the means are of.

    Raises:
        BadRequest: for no cells, a missing key, a pair given twice, a name outside the order, or a mean outside 0 to 1.
    """
    frame = pd.DataFrame(list(cells))
    parts.check(frame, [x, y, "mean", "lo", "hi", *([outlined] if outlined else [])])
    parts.once(frame, [x, y], f"the cell of {x} '{{}}' and {y} '{{}}'")
    order = list(frame[x].unique() if x_order is None else x_order)
    parts.only_known(frame[x], f"name in '{x}'", order)
    far = frame["mean"].abs().max()
    low, high = (-(far or 1.0), far or 1.0) if diverging else (0.0, 1.0)
    for mean in frame["mean"]:
        if not low <= mean <= high:
            raise BadRequest(f"mean = {mean}: the domain of the colours is {low:g} to {high:g}")

    wide, tall = min(CELL_WIDTH, MAP_WIDTH / len(order)), min(CELL_HEIGHT, MAP_HEIGHT / frame[y].nunique())
    letters = max(6, int(wide / LETTER))
    columns = [wrapped(name, letters) for name in order]
    names = [wrapped(name, ROW_LETTERS) for name in frame[y].unique()]
    to = "to" if diverging else "–"
    intervals = frame[["lo", "hi"]].itertuples(index=False)
    table = pd.DataFrame({
        "column": [wrapped(name, letters) for name in frame[x]],
        "row": [wrapped(name, ROW_LETTERS) for name in frame[y]],
        "value": frame["mean"],
        "text": [_number(mean, diverging) for mean in frame["mean"]],
        "interval": ["" if pd.isna([lo, hi]).any() else f"{_number(lo)} {to} {_number(hi)}" for lo, hi in intervals],
        "outlined": frame[outlined].astype(bool) if outlined else False,
    })  # fmt: skip
    lines = [line for name in columns for line in name.split("\n")]
    axis: dict[str, Any] = {"domain": False, "ticks": False, "labelExpr": LINES}
    # Vega sets a label of several lines from its bottom line on: room for the others. A long word is written smaller.
    room = 5 + 15 * max(name.count("\n") for name in columns)
    small = min(13, 13 * letters / max(map(len, lines)))
    x_axis = alt.Axis(title=x_label or None, orient="top", labelAngle=0, labelPadding=room, labelFontSize=small, **axis)
    across = alt.X("column:N", axis=x_axis).scale(domain=columns, paddingInner=0.03)
    down = alt.Y("row:N", axis=alt.Axis(title=None, **axis)).scale(domain=names, paddingInner=0.05)
    hues = list(DIVERGING if diverging else SCALE)
    colour = alt.Color("value:Q", title=colour_label).scale(domain=[low, high], range=hues, interpolate="lab")
    key = alt.Legend(gradientLength=200, gradientThickness=12, tickCount=5, titleOrient="left")
    # where white letters stand out better than dark ones, whatever the page
    dark = f"abs(datum.value) > {0.62 * high}" if diverging else "datum.value > 0.65"
    ink = alt.when(dark).then(alt.value("white")).otherwise(alt.value("black"))

    base = alt.Chart(table).encode(across, down)
    inner = {"width": {"band": 0.95}, "height": {"band": 0.92}} if diverging else {}  # neighbours stay two frames
    frames = base.transform_filter("datum.outlined").mark_rect(fill=None, stroke=FRAME, strokeWidth=3, **inner)
    below_zero = base.transform_filter("datum.text[0] == '−'").mark_point(
        shape="triangle-down", filled=True, size=45, opacity=1, xOffset=9 - wide / 2, yOffset=8 - tall / 2
    )

    def font(column: str, most: float, share: float) -> float:
        return min(most, 0.4 * tall, (wide - 6) / (share * max(table[column].str.len().max(), 1)))

    up = -0.15 * tall if table["interval"].any() else 0
    number = base.mark_text(fontSize=font("text", *NUMBER), fontWeight="bold", dy=up)
    page = alt.layer(
        base.mark_rect(stroke=QUIET, strokeWidth=0.5).encode(colour.legend(key), tooltip=list(table)),
        *([frames] if outlined else []),
        *([below_zero.encode(color=ink)] if diverging else []),
        number.encode(text="text:N", color=ink),
        base.mark_text(fontSize=font("interval", *INTERVAL), dy=0.24 * tall).encode(text="interval:N", color=ink),
    ).properties(width=wide * len(columns), height=tall * len(names))
    beside = LETTER * max(len(line) for name in names for line in name.split("\n"))
    return parts.drawn(page, parts.heading(title, subtitle, max(420, wide * len(columns) + beside)))


def _number(value: float, signed: bool = False) -> str:
    """With a true minus sign, and none before a zero."""
    text = f"{abs(value):.2f}"
    sign = "" if not float(text) else "−" if value < 0 else "+" if signed else ""
    return sign + text
