"""What the charts share: checked rows, intervals, a heading wrapped to its page, names beside rows, a drawn legend.

Guaranteed: what cannot be drawn is refused in one sentence, and an interval is either whole or not drawn. Left open:
the width of a text is estimated (a page has no ruler before it is drawn), generously. Positions are pixels.
"""

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import altair as alt
import pandas as pd

from labkit.errors import BadRequest, unknown
from labkit.show.theme import INK, QUIET

Record = Mapping[str, Any]
Rows = pd.DataFrame | Sequence[Record]

USUAL = "ci95"  # the key of an interval that rows may lack altogether
LETTER = 0.54  # width of an average letter in sizes of its font
NARROW, WIDE = set("fijlrt.,:;|'()[]! -–·/"), set("mwMW%@")
LINE = 18  # pixels from one line of a name to the next
FRAME = "#c9c9c9"  # of a panel, and between groups of rows


class Page(NamedTuple):
    """An axis on the page: its ends, whether it is logarithmic, and its length in pixels."""

    lo: float
    hi: float
    log: bool
    width: float

    def pixels(self, value: float) -> float:
        """Distance from the left edge."""
        lo, hi, at = (math.log10(v) if self.log else v for v in (self.lo, self.hi, value))
        return self.width * (at - lo) / (hi - lo)

    def moved(self, value: float, pixels: float) -> float:
        """The value so many pixels to the right."""
        share = pixels / self.width
        return value * (self.hi / self.lo) ** share if self.log else value + (self.hi - self.lo) * share


def page_of(values: Iterable[float], width: float, margin: float, log: bool = False) -> Page:
    """The page that shows all values with so many pixels to spare at either end."""
    known = [float(value) for value in values if value == value]
    lo, hi = (min(known), max(known)) if known else (1.0, 1.0)
    if lo == hi:
        lo, hi = (lo / 2, hi * 2) if log else (lo - 1, hi + 1)
    inner = Page(lo, hi, log, width - 2 * margin)
    return Page(inner.moved(lo, -margin), inner.moved(hi, margin), log, width)


def check(frame: pd.DataFrame, columns: Sequence[str], positive: Sequence[str] = ()) -> None:
    """Refuse a frame without rows or a column, or with what a log axis cannot show."""
    if frame.empty:
        raise BadRequest("there is nothing to draw: the frame has no rows")
    for column in columns:
        if column not in frame:
            raise unknown("column", column, map(str, frame.columns))
    for column in positive:
        if not (frame[column] > 0).all():
            raise BadRequest(f"a log axis cannot show column '{column}': it holds zero or less")


def drawn_rows(rows: Rows, names: Mapping[str, str | None], numbers: Mapping[str, str], interval: str | None = None, *,
               log: bool = False) -> pd.DataFrame:  # fmt: skip
    """The rows under our own keys: names as text ('' where the key is None), numbers, and `lo` and `hi` (or NaN).

    `names` and `numbers` map our keys to those of `rows`. Raises `BadRequest` for no rows, a key that no row has, a
    name that is missing, what is not a number, an interval of other than two ends in order, or x <= 0 on a log axis.
    """
    given = pd.DataFrame(rows)
    needed = [*names.values(), *numbers.values(), interval if interval != USUAL else None]
    check(given, [key for key in needed if key is not None])
    ours: dict[str, Any] = {}
    for our, key in names.items():
        if key is not None and given[key].isna().any():
            raise BadRequest(f"a row has no '{key}': every row needs one")
        ours[our] = [""] * len(given) if key is None else given[key].astype(str).tolist()
    for our, key in numbers.items():
        try:
            ours[our] = given[key].astype(float).tolist()
        except (TypeError, ValueError):
            raise BadRequest(f"column '{key}' holds what is not a number") from None
        if any(math.isinf(number) for number in ours[our]):
            raise BadRequest(f"column '{key}' holds an infinite number, which no page has room for")
    pairs = [_pair(one, interval) for one in (given[interval] if interval in given else [None] * len(given))]
    frame = pd.DataFrame(ours | {"lo": [lo for lo, _ in pairs], "hi": [hi for _, hi in pairs]})
    if "x" in numbers:
        if frame["x"].isna().any():
            raise BadRequest(f"a row has no '{numbers['x']}': every row needs one")
        check(frame.rename(columns={"x": numbers["x"]}), [], [numbers["x"]] if log else [])
    return frame


def _pair(value: Any, key: str | None) -> tuple[float, float]:
    if value is None or value is pd.NA or (isinstance(value, float) and value != value):
        return math.nan, math.nan
    try:
        lo, hi = (math.nan if end is None else float(end) for end in value)
    except (TypeError, ValueError):
        raise BadRequest(f"{key} = {value}: an interval is its lowest and highest value, or None") from None
    if lo > hi:
        raise BadRequest(f"{key} = {value}: an interval begins with its lowest value")
    return (lo, hi) if lo == lo and hi == hi else (math.nan, math.nan)


def inside(frame: pd.DataFrame, column: str, domain: Sequence[float], axis: str) -> None:
    """Refuse a domain that is no range, and a value that it would hide."""
    low, high = domain
    if not low < high:
        raise BadRequest(f"the {axis} axis from {low:g} to {high:g} has no room: its lowest value comes first")
    for number in frame[column]:
        if number < low or number > high:
            raise BadRequest(f"{number:g} lies outside the {axis} axis, which covers {low:g} to {high:g}")


def only_known(names: Iterable[str], kind: str, allowed: Sequence[str]) -> None:
    """Refuse the first name that is not among those allowed."""
    for name in names:
        if name not in allowed:
            raise unknown(kind, name, allowed)


def ordered(names: Iterable[str], order: Sequence[Any] | None, kind: str) -> list[str]:
    """The names in the order given, else as they first come up; refuses a name that the order lacks."""
    found = list(dict.fromkeys(names))
    if order is None:
        return found
    only_known(found, kind, [str(name) for name in order])
    return [str(name) for name in order]


def heading(title: str, subtitle: str | Sequence[str] = "", width: float = 780, **options: Any) -> alt.TitleParams:
    """A title and a subtitle (or several, a line each at least) wrapped to so many pixels."""
    parts = [subtitle] if isinstance(subtitle, str) else subtitle
    lines = [line for part in parts for line in textwrap.wrap(part, int(width / 7.2))]
    below = {"subtitle": lines} if lines else {}
    return alt.TitleParams(textwrap.wrap(title, int(width / 11)) or "", **below, **options)


def length(text: str, size: float = 15) -> float:
    """The estimated width of a text in pixels, some to spare."""
    return size * sum(0.31 if c in NARROW else 0.86 if c in WIDE else 0.7 if c.isupper() else 0.56 for c in text)


def wrapped(name: str, letters: int) -> list[str]:
    """Lines of a name, broken between words only."""
    return textwrap.wrap(name, letters, break_on_hyphens=False)


def in_pixels(channel: Any) -> Any:
    """A position that is a number of pixels, without an axis."""
    return channel.scale(None).axis(None)


def row_names(names: Sequence[str], heights: Sequence[float], letters: int, bold: bool = False) -> list[alt.Chart]:
    """Names to the left of their rows, wrapped at so many letters; nothing where all are empty."""
    lines = []
    for name, height in zip(names, heights, strict=True):
        parts = wrapped(name, letters)
        lines += [{"text": part, "y": height + LINE * (i - (len(parts) - 1) / 2)} for i, part in enumerate(parts)]
    if not lines:
        return []
    text = alt.Chart(pd.DataFrame(lines)).mark_text(
        align="right", fontSize=15, color=INK, fontWeight="bold" if bold else "normal"
    )
    return [text.encode(x=alt.value(-12), y=in_pixels(alt.Y("y:Q")), text="text:N")]


class Key(NamedTuple):
    """An entry of a legend: what it says, and the marks that stand for it."""

    label: str
    colour: str = QUIET
    shape: str | None = None  # of a mark; hollow if `hollow`
    dash: Sequence[int] | None = None  # of a line
    band: bool = False
    hollow: bool = False
    upright: bool = False  # the line stands: an interval bar, a tick


def legend(keys: Sequence[Key], width: float) -> alt.LayerChart:
    """The keys side by side in rows of at most so many pixels: their line, band and mark as drawn, then their label."""
    layers: list[alt.Chart] = []
    left, top, end = 0.0, 12.0, 0.0
    for key in keys:
        swatch = 44 if key.band or (key.dash is not None and not key.upright) else 18
        wide = swatch + 8 + length(key.label)
        if left and left + wide > width:
            left, top = 0.0, top + 24
        middle = left + swatch / 2
        place = {"left": left, "right": left + swatch, "x": middle, "y": top, "low": top - 10, "high": top + 10}
        base = alt.Chart(pd.DataFrame([place | {"at": left + swatch + 8, "text": key.label}]))
        x, y = in_pixels(alt.X("x:Q")), in_pixels(alt.Y("y:Q"))
        ends = [in_pixels(alt.X("left:Q")), alt.X2("right")]
        tall = [in_pixels(alt.Y("low:Q")), alt.Y2("high")]
        if key.band:
            layers.append(base.mark_rect(color=key.colour, opacity=0.25).encode(*ends, *tall))
        if key.dash is not None:
            rule = base.mark_rule(color=key.colour, strokeWidth=2.5, strokeDash=list(key.dash))
            layers.append(rule.encode(x, *tall) if key.upright else rule.encode(*ends, y))
        if key.shape is not None:
            fill = "white" if key.hollow else key.colour
            mark = base.mark_point(shape=key.shape, stroke=key.colour, fill=fill, opacity=1)
            layers.append(mark.encode(x, y, size=alt.value(44 if key.hollow else 50 if key.upright else 110)))
        layers.append(base.mark_text(align="left", fontSize=15, color=INK).encode(
            x=in_pixels(alt.X("at:Q")), y=y, text="text:N"
        ))  # fmt: skip
        end = max(end, left + wide)
        left += wide + 26
    return alt.layer(*layers).properties(width=end, height=top + 8)
