"""A matrix of accuracies: what was trained on in rows, what was tested on in columns, the interval in every cell.

The colours run from white to a dark blue of one hue (lightness falls evenly): told apart by colour-blind readers and in
greyscale, with the number in every cell besides. Nothing is computed here.
"""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import pandas as pd

from labkit.errors import BadRequest, unknown
from labkit.show.theme import INK, QUIET

SCALE = ("#ffffff", "#c6dbef", "#6aa5d3", "#2468ab", "#08264f")  # white to dark: equal steps of lightness
CELL_WIDTH, CELL_HEIGHT = 96, 58  # pixels
LONGEST = 11  # letters a line of a column's name
SWITCH = 0.65  # share of the domain above which white letters stand out better than dark ones


def heat_map(
    cells: Sequence[Mapping[str, Any]],
    *,
    x: str,
    y: str,
    value: str = "mean",
    lo: str = "lo",
    hi: str = "hi",
    x_order: Sequence[str] | None = None,
    y_order: Sequence[str] | None = None,
    outlined: str | None = None,
    x_label: str = "",
    y_label: str = "",
    label: str = "Accuracy",
    domain: tuple[float, float] = (0.0, 1.0),
    digits: int = 2,
    title: str = "",
    subtitle: str = "",
) -> alt.LayerChart:
    """A cell a pair of row and column: coloured by its value, with the value in bold and its interval below.

    Args:
        cells: A mapping a cell: its column name `x`, its row name `y`, and `value`, `lo`, `hi` (None: no interval). A
            pair that is missing stays empty.
        x_order: The columns from left to right; as they first come up if None.
        y_order: The rows from top to bottom, likewise.
        outlined: The key of a flag; cells where it is true get a frame, such as a row's own columns.
        domain: The values of the palest and the darkest colour.
        digits: Decimals of the printed numbers.

    Raises:
        BadRequest: for no cells, a missing key, a pair given twice, a name outside an order, or a value outside the
            domain.
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
    low, high = domain
    for number in frame[value]:
        if not low <= number <= high:
            raise BadRequest(f"{value} = {number}: the domain of the colours is {low:g} to {high:g}")

    has = frame[[lo, hi]].notna().all(axis=1)
    drawn = pd.DataFrame(
        {
            "column": [_wrapped(name) for name in frame[x]],
            "row": frame[y].astype(str),
            "value": frame[value],
            "interval": [
                f"{a:.{digits}f} – {b:.{digits}f}" if both else ""
                for a, b, both in zip(frame[lo], frame[hi], has, strict=True)
            ],
            "outlined": frame[outlined].astype(bool) if outlined else False,
        }
    )
    columns = [_wrapped(name) for name in orders[x]]
    more = 18 * max(name.count("\n") for name in columns)  # pixels of the lines below a name's first
    names = {"labelExpr": "split(datum.label, '\\n')", "labelPadding": 6 + more, "labelAngle": 0, "labelLimit": 0}
    x_axis = alt.Axis(title=x_label or None, orient="top", domain=False, ticks=False, **names)
    y_axis = alt.Axis(title=y_label or None, labelLimit=0, domain=False, ticks=False)
    across = alt.X("column:N", axis=x_axis).scale(domain=columns, paddingInner=0.03)
    down = alt.Y("row:N", axis=y_axis).scale(domain=[str(name) for name in orders[y]], paddingInner=0.05)
    colour = alt.Color("value:Q", title=label).scale(domain=list(domain), range=list(SCALE), interpolate="lab")
    legend = alt.Legend(orient="right", gradientLength=160, gradientThickness=16, tickCount=5)
    ink = alt.when(alt.datum.value > low + SWITCH * (high - low)).then(alt.value("white")).otherwise(alt.value(INK))

    base = alt.Chart(drawn).encode(across, down)
    frames = base.transform_filter("datum.outlined").mark_rect(fill=None, stroke=INK, strokeWidth=3)
    layers = [
        base.mark_rect(stroke=QUIET, strokeWidth=0.5).encode(colour.legend(legend), tooltip=list(drawn)),
        *([frames] if outlined else []),
        base.mark_text(fontSize=21, fontWeight="bold", dy=-8).encode(
            text=alt.Text("value:Q", format=f".{digits}f"), color=ink
        ),
        base.mark_text(fontSize=13, dy=14).encode(text="interval:N", color=ink),
    ]
    below = {"subtitle": textwrap.wrap(subtitle, 130)} if subtitle else {}
    heading = alt.TitleParams(textwrap.wrap(title, 90) or "", **below)
    size = {"width": CELL_WIDTH * len(columns), "height": CELL_HEIGHT * len(orders[y])}
    return alt.layer(*layers).properties(title=heading, **size)


def _wrapped(name: Any) -> str:
    return "\n".join(textwrap.wrap(str(name), LONGEST, break_long_words=False))
