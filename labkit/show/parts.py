"""What the charts share: checked rows, whole intervals, axes on the page, wrapped headings and legends.

Guaranteed: what cannot be drawn is refused in one sentence, and an interval is either whole or not drawn. Left open:
the width of a text is estimated (a page has no ruler before it is drawn), generously.
"""

import math
import re
import textwrap
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from labkit.errors import BadRequest, unknown
from labkit.show.theme import DASHES, GREYS, PALETTE, SHAPES

Record = Mapping[str, Any]
Rows = pd.DataFrame | Sequence[Record]

WIDTH, HEIGHT = 640, 300  # pixels of what is drawn inside the axes, where nothing says how much room there is
PAGE = 500  # pixels that a heading has on a narrow page
TITLE, LETTER = 8.8, 6.5  # pixels of an average letter of a title and of other words
LINES = "split(datum.label, '\\n')"  # a label of several lines


def check(
    frame: pd.DataFrame, columns: Sequence[str], *, positive: Sequence[str] = (), complete: Sequence[str] = ()
) -> None:
    """Refuse a frame without rows or a column, with gaps in `complete`, or with what a log axis cannot show."""
    if frame.empty:
        raise BadRequest("there is nothing to draw: the frame has no rows")
    only_known(columns, "column", list(map(str, frame.columns)))
    for column in complete:
        if frame[column].isna().any():
            raise BadRequest(f"a row has no '{column}': every row needs one")
    for column in positive:
        if not (frame[column] > 0).all():
            raise BadRequest(f"a log axis cannot show column '{column}': it holds zero or less")


def numbers_of(frame: pd.DataFrame, column: str, interval: str | None = None) -> pd.DataFrame:
    """A column as `y`, and a column of intervals ([lowest, highest] or None) as `lo` and `hi`: all finite, or NaN.

    Raises:
        BadRequest: for what is not a number, or an interval of other than two ends in order.
    """
    try:
        y = frame[column].astype(float)
    except (TypeError, ValueError):
        raise BadRequest(f"column '{column}' holds what is not a number") from None
    if np.isinf(y).any():
        raise BadRequest(f"column '{column}' holds an infinite number, which no page has room for")
    pairs = [_pair(value, interval) for value in frame[interval]] if interval else [(math.nan, math.nan)] * len(frame)
    return pd.DataFrame({"y": y.tolist(), "lo": [lo for lo, _ in pairs], "hi": [hi for _, hi in pairs]})


def _pair(value: Any, key: str) -> tuple[float, float]:
    if value is None or value is pd.NA or (isinstance(value, float) and value != value):
        return math.nan, math.nan
    try:
        lo, hi = (math.nan if end is None else float(end) for end in value)
    except (TypeError, ValueError):
        raise BadRequest(f"{key} = {value}: an interval is its lowest and highest value, or None") from None
    if lo > hi:
        raise BadRequest(f"{key} = {value}: an interval begins with its lowest value")
    return (lo, hi) if lo == lo and hi == hi else (math.nan, math.nan)


def once(frame: pd.DataFrame, columns: list[str], what: str) -> None:
    """Refuse lines that are alike in some columns, of which `what` is a format."""
    for repeated in frame.loc[frame.duplicated(columns), columns].itertuples(index=False):
        raise BadRequest(f"{what.format(*repeated)} is given twice")


def inside(values: Iterable[float], domain: Sequence[float], axis: str) -> None:
    """Refuse a domain that is no range, and a value that it would hide."""
    low, high = domain
    if not low < high:
        raise BadRequest(f"the {axis} axis from {low:g} to {high:g} has no room: its lowest value comes first")
    for number in values:
        if number < low or number > high:
            raise BadRequest(f"{number:g} lies outside the {axis} axis, which covers {low:g} to {high:g}")


def only_known(names: Iterable[str], kind: str, allowed: Sequence[str]) -> None:
    """Refuse the first name that is not among those allowed."""
    for name in names:
        if name not in allowed:
            raise unknown(kind, name, allowed)


def heading(title: str, subtitle: str | Sequence[str] = "", width: float = PAGE) -> alt.TitleParams:
    """A title of at most two lines; the rest of a longer one leads the subtitle, so that nothing is cut.

    It ends where a part of the sentence ends, if the first part fits: at a semicolon before a colon, at a colon before
    a comma. An interval stays on one line.
    """
    letters, opened = int(width / TITLE), np.cumsum([(mark in "([") - (mark in ")]") for mark in title])
    ends = [found.start() for found in re.finditer("[;,:] |$", title) if not opened[: found.start()][-1:].any()]
    cut = max((end for end in ends if len(_lines(title[:end], letters)) <= 2), default=len(title),
              key=lambda end: (",:;".find(title[end : end + 1] or ";"), end))  # fmt: skip
    lines = _lines(title[:1].upper() + title[1:cut], letters)
    rest = " ".join([*lines[2:], title[cut:].lstrip(";,: ")])
    below = [line for text in [rest, *([subtitle] if isinstance(subtitle, str) else subtitle)]
             for line in _lines(text, int(width / LETTER))]  # fmt: skip
    return alt.TitleParams(lines[:2] or "", **({"subtitle": below} if below else {}))


def _lines(text: str, letters: int) -> list[str]:
    held = re.sub(r"(\S+ )?\[[^]]*\]", lambda found: found[0].replace(" ", "\xa0"), text)
    return [line.replace("\xa0", " ") for line in textwrap.wrap(held, letters)]


def drawn(chart: Any, title: alt.TitleParams, columns: int | None = None) -> Any:
    """The chart under its title, which is also what a screen reader says of it.

    `columns` is the number of its panels side by side where their width may follow the page's (None: it may not).
    """
    words = title.text if isinstance(title.text, list) else [title.text]
    fluid = {} if columns is None else {"usermeta": {"columns": columns}}
    return chart.properties(title=title, description=" ".join(words) or "chart", **fluid)


def wrapped(name: str, letters: int) -> str:
    """A name on several lines, broken between words only; `LINES` makes an axis show them."""
    return "\n".join(textwrap.wrap(str(name), letters, break_on_hyphens=False, break_long_words=False))


def slot(names: Collection[str], rows: int) -> float:
    """Pixels that each of some rows gets: room for its wrapped name, and more where there are few."""
    lines = max(name.count("\n") + 1 for name in names)
    return max(16.0 * lines + 4, 20.0, min(40.0, 330 / rows))


def looks(names: Sequence[str]) -> dict[str, alt.Scale]:
    """Scales of colour, dash and shape that tell series apart; after six the palette goes on in greys."""
    places = range(len(names))
    ranges: dict[str, list[Any]] = {
        "color": [PALETTE[i] if i < len(PALETTE) else GREYS[i % len(GREYS)] for i in places],
        "strokeDash": [DASHES[(i + i // len(DASHES)) % len(DASHES)] for i in places],
        "shape": [SHAPES[i % len(SHAPES)] for i in places],
    }
    scales = {channel: alt.Scale(domain=list(names), range=values) for channel, values in ranges.items()}
    # Scales of one domain share a legend, whose marks dashes would blur: theirs has one name more.
    dashes = ranges["strokeDash"]
    return scales | {"strokeDash": alt.Scale(domain=[*names, "–"], range=dashes + dashes[:1])}


def legend(names: Sequence[str], title: str = "", width: float = WIDTH) -> alt.Legend | None:
    """Above the chart, in as many columns as its longest name leaves room for; none for one that has no name."""
    if not any(names):
        return None
    columns = max(1, min(len(names), int(width / (LETTER * max(map(len, names)) + 44))))
    return alt.Legend(title=title or None, columns=columns, symbolOpacity=1)


def ends_of(values: Iterable[float], log: bool = False) -> tuple[float, float]:
    """The lowest and highest of all values; of a single one, something to either side of it."""
    known = [float(value) for value in values if value == value]
    lo, hi = (min(known), max(known)) if known else (1.0, 1.0)
    if lo == hi:
        return (lo / 2, hi * 2) if log else (lo - 1, hi + 1)
    return lo, hi


def widened(ends: tuple[float, float], share: float, log: bool = False) -> tuple[float, float]:
    """Ends that leave a share of the axis free at either side."""
    lo, hi = ends
    return (moved(lo, -share, ends, log), moved(hi, share, ends, log))


def moved(value: float, share: float, ends: tuple[float, float], log: bool = False) -> float:
    """A value moved along an axis by a share of its length."""
    lo, hi = ends
    return float(value * (hi / lo) ** share if log else value + (hi - lo) * share)
