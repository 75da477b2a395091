"""Small multiples: one panel a task, one curve a series, all panels on the same two axes.

Guaranteed: every mean that is given is drawn, with its interval where it has one, and every single model; series differ
by colour, dash and mark, and stand a few pixels apart so that none hides another. Fits are drawn as they are given.
"""

import math
import textwrap
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import altair as alt
import pandas as pd

from labkit.errors import BadRequest
from labkit.show.parts import (
    FRAME,
    LETTER,
    Key,
    Page,
    Rows,
    drawn_rows,
    heading,
    inside,
    legend,
    only_known,
    page_of,
)  # fmt: skip
from labkit.show.theme import DASHES, INK, PALETTE, QUIET, SHAPES

PAGE = 1080  # pixels of panels and gaps; the y axis takes about 70 more
GAP, HEIGHT = 22, 172
SIDE, TOP = 20, 9  # pixels between the outermost values and the frame
CHANCE_DASH = [2, 4]
BLANK = "\u00a0"


def panel_chart(
    curves: Rows,
    *,
    panel: str,
    x: str,
    series: str | None = None,
    mean: str = "mean",
    interval: str = "ci95",
    models: Rows | None = None,
    value: str = "value",
    fits: Rows | None = None,
    chance: float | Mapping[str, float] | None = None,
    verdicts: Mapping[str, str] | None = None,
    columns: int = 5,
    bands: bool = False,
    x_label: str = "",
    y_label: str = "Exact-match accuracy (share of test examples)",
    log_x: bool = False,
    y_domain: tuple[float, float] | None = (0.0, 1.0),
    title: str = "",
    subtitle: str = "",
) -> alt.VConcatChart:
    """A panel a task, in rows of `columns`: how each series rises along x, with intervals, models, fits and chance.

    Args:
        curves: a row a panel, series and x: `mean` and `interval` ([lo, hi] or None).
        series: the key of the curve's name, six at most; one curve a panel if None.
        models: a row a single model: `panel`, `x`, `series` and `value`; hollow marks.
        fits: fitted curves on a fine grid of x: the keys of `curves`; the interval becomes a pale band. A series with
            a fit in a panel shows its means as marks on it, the others join theirs by lines.
        chance: the score of guessing, for all panels or by panel; a dotted line.
        verdicts: by panel, what its title is followed by ('saturated').
        bands: draw the intervals of curves as pale bands instead of bars.
        y_domain: the lowest and highest value that y can take; None: what is drawn.

    Raises:
        BadRequest: for no rows, a missing key, a panel or series that `curves` lacks, more than six series, a value
            outside `y_domain`, an interval that is none, or what a log axis cannot show.
    """
    if columns < 1:
        raise BadRequest(f"columns = {columns}: a row holds one panel at least")
    names = {"panel": panel, "series": series}
    means = drawn_rows(curves, names, {"x": x, "y": mean}, interval, log=log_x)
    order, kinds = list(dict.fromkeys(means["panel"])), list(dict.fromkeys(means["series"]))
    if len(kinds) > len(PALETTE):
        raise BadRequest(f"{len(kinds)} series are more than the {len(PALETTE)} that can be told apart")
    fitted = _beside(fits, names, {"x": x, "y": mean}, interval, log_x, order, kinds)
    single = _beside(models, names, {"x": x, "y": value}, None, log_x, order, kinds)
    guess = dict.fromkeys(order, chance) if chance is None or isinstance(chance, int | float) else dict(chance)
    only_known(guess, "panel in chance", order)
    only_known(verdicts or {}, "panel in verdicts", order)

    columns = min(columns, len(order))
    wide = min((PAGE - GAP * (columns - 1)) / columns, 529)
    high_as = max(HEIGHT, min(0.6 * wide, 300))
    across = page_of([*means["x"], *single["x"], *fitted["x"]], wide, SIDE, log_x)
    guesses = [one for one in guess.values() if one is not None]
    low, high = y_domain or _range([*(means[c] for c in ("y", "lo", "hi")), single["y"], fitted["y"]], guesses)
    for rows in (means, single, pd.DataFrame({"y": guesses})):
        inside(rows, "y", (low, high), "y")
    pixel = (high - low) / (high_as - 2 * TOP)
    look = _Look(across, kinds, bands, (low - TOP * pixel, high + TOP * pixel))

    below = {name: textwrap.wrap((verdicts or {}).get(name, ""), int(wide / (14 * LETTER))) for name in order}
    above = {name: textwrap.wrap(name, int(wide / (17 * (LETTER + 0.04)))) for name in order}
    deepest = max(map(len, below.values()))
    below = {name: [*lines, *[BLANK] * (deepest - len(lines))] for name, lines in below.items()}  # names on one height
    between = 20 * max(map(len, above.values())) + 17 * deepest + 40  # titles, and the labels of an axis that ends
    grid = [order[i : i + columns] for i in range(0, len(order), columns)]
    last, tall = len(grid) - 1, high_as * len(grid) + (len(grid) - 1) * between
    ticks = _ticks(across, sorted(means["x"].unique()), log_x)
    height_ticks = {"values": [low + (high - low) * i / 5 for i in range(6)]} if y_domain else {"tickCount": 5}

    charts = []
    for i, row in enumerate(grid):
        for j, name in enumerate(row):
            outer = i == last or (i == last - 1 and j >= len(grid[last]))  # nothing below it
            middle = {"title": None, "titleAnchor": "start", "titleAlign": "center"}  # of all panels, if it has a title
            x_axis = alt.Axis(grid=False, labels=outer, labelFlush=False, labelOverlap=True, **middle, **ticks)
            digits = ".1f" if (low, high) == (0, 1) else "~r"
            y_axis = alt.Axis(labels=j == 0, domain=False, ticks=False, format=digits, **middle, **height_ticks)
            if i == last and j == 0:
                x_axis.title, x_axis.titleX = x_label, (wide * len(row) + GAP * (len(row) - 1)) / 2
            if i == j == 0:
                y_axis.title, y_axis.titleY = textwrap.wrap(y_label, int(tall / (16 * 0.48))), tall / 2
            own = [rows[rows["panel"] == name] for rows in (means, fitted, single)]
            layers = _layers(look, own, guess.get(name), (x_axis, y_axis))
            words = alt.TitleParams(
                above[name], fontSize=17, subtitleFontSize=14, subtitleColor=INK, subtitlePadding=3, offset=8,
                subtitleFontStyle="italic", **({"subtitle": below[name]} if deepest else {}),
            )  # fmt: skip
            box = {"width": wide, "height": high_as, "view": alt.ViewBackground(stroke=FRAME)}
            charts.append(alt.layer(*layers).properties(title=words, **box))
    keys = _keys(look, kinds, means, fitted, single, bool(guesses))
    panels = alt.concat(*charts, columns=columns, spacing={"row": between, "column": GAP}, bounds="flush")
    lines = heading(title, subtitle, PAGE + 60, frame="bounds")
    return alt.vconcat(legend(keys, PAGE), panels, spacing=12).properties(title=lines)


class _Look(NamedTuple):
    """What all panels share: the x axis on the page, the series, and the ends of the y axis."""

    across: Page
    kinds: list[str]
    bands: bool
    domain: tuple[float, float]


def _layers(
    look: _Look, rows: Sequence[pd.DataFrame], chance: float | None, axes: tuple[alt.Axis, alt.Axis]
) -> list[alt.Chart]:
    """What one panel shows: its means, its fits and its single models, each in `rows`."""
    across, (means, fitted, single), (x_axis, y_axis) = look.across, rows, axes
    x_scale = alt.Scale(type="log" if across.log else "linear", domain=[across.lo, across.hi], nice=False, zero=False)
    y_scale = alt.Scale(domain=list(look.domain), nice=False, zero=False)

    def place(y: str = "y") -> list[Any]:
        return [alt.X("x:Q", scale=x_scale, axis=x_axis), alt.Y(f"{y}:Q", scale=y_scale, axis=y_axis)]

    layers = [alt.Chart(pd.DataFrame({"x": [across.lo], "y": [look.domain[0]]})).mark_point(opacity=0).encode(*place())]
    if chance is not None:
        ends = alt.Chart(pd.DataFrame({"x": [across.lo, across.hi], "y": [chance, chance]}))
        layers.append(ends.mark_line(color=QUIET, strokeDash=CHANCE_DASH, strokeWidth=2).encode(*place()))
    step, width = _slots(across, sorted(means["x"].unique()), len(look.kinds))
    for i, name in reversed(list(enumerate(look.kinds))):
        colour, shape, dash = PALETTE[i], SHAPES[i], DASHES[i]
        own = means[means["series"] == name].dropna(subset="y").sort_values("x")
        curve = fitted[fitted["series"] == name].dropna(subset="y").sort_values("x")
        models = single[single["series"] == name].dropna(subset="y")
        offset = step * (i - (len(look.kinds) - 1) / 2)
        own = own.assign(at=own["x"], x=[across.moved(at, offset) for at in own["x"]])
        rank, crowd = models.groupby("x").cumcount(), models.groupby("x")["x"].transform("size")
        spread = offset + (rank - (crowd - 1) / 2) * width / crowd
        models = models.assign(at=models["x"], x=[across.moved(a, d) for a, d in zip(models["x"], spread, strict=True)])
        line = curve if len(curve) else own
        shaded = curve if len(curve) else own if look.bands else own.iloc[:0]
        layers += [
            alt.Chart(shaded.dropna(subset="lo")).mark_area(color=colour, opacity=0.22, clip=True)
            .encode(*place("lo"), alt.Y2("hi")),
            alt.Chart(line).mark_line(color=colour, strokeDash=dash, strokeWidth=2.2, clip=True).encode(*place()),
        ]  # fmt: skip
        if not look.bands:
            bars = alt.Chart(own.dropna(subset="lo")).mark_rule(color=colour, strokeWidth=2.2, clip=True)
            layers.append(bars.encode(*place("lo"), alt.Y2("hi")))
        mark = alt.Chart(own).mark_point(shape=shape, color=colour, filled=True, size=70, opacity=1)
        hollow = alt.Chart(models).mark_point(shape=shape, stroke=colour, fill="white", strokeWidth=1.3, size=24)
        told = [alt.Tooltip("series:N"), alt.Tooltip("at:Q"), alt.Tooltip("y:Q", format=".3~f")]
        ends_told = [alt.Tooltip("lo:Q", format=".3~f"), alt.Tooltip("hi:Q", format=".3~f")]
        layers += [
            mark.encode(*place(), tooltip=told + ends_told),
            hollow.encode(*place(), tooltip=told, opacity=alt.value(1)),
        ]
    return [layer for layer in layers if not layer.data.empty]


def _beside(
    rows: Rows | None, names: Mapping[str, str | None], numbers: Mapping[str, str], interval: str | None, log: bool,
    panels: list[str], kinds: list[str],
) -> pd.DataFrame:  # fmt: skip
    """Fits or models, of panels and series that the curves have; no rows at all are fine."""
    if rows is None or not len(rows):
        return pd.DataFrame({"panel": [], "series": [], "x": [], "y": [], "lo": [], "hi": []})
    frame = pd.DataFrame(rows)
    frame = drawn_rows(frame, names, numbers, interval if interval in frame else None, log=log)
    only_known(frame["panel"], "panel", panels)
    only_known(frame["series"], "series", kinds)
    return frame


def _range(columns: Sequence[pd.Series], more: Sequence[float]) -> tuple[float, float]:
    """The ends of all that is drawn."""
    page = page_of([*(value for column in columns for value in column), *more], 1, 0)
    return page.lo, page.hi


def _slots(across: Page, tried: Sequence[float], n_series: int) -> tuple[float, float]:
    """Pixels from one series to the next at one x, and those that the models of one series share."""
    places = [across.pixels(value) for value in tried]
    gap = min((b - a for a, b in pairwise(places)), default=across.width)
    step = min(5.0, 0.7 * gap / n_series) if n_series > 1 else 0.0
    return step, step or min(18.0, 0.5 * gap)


def _ticks(across: Page, tried: Sequence[float], log: bool) -> dict[str, Any]:
    """Ticks where was measured, if these are few and far enough apart for their labels, else round ones."""
    short = "datum.value >= 1e4 ? format(datum.value, '.3~s') : format(datum.value, ',.4~r')"
    places = [across.pixels(value) for value in tried]
    if len(tried) <= 5 and all(b - a >= 42 for a, b in pairwise(places)):
        return {"values": list(tried), "labelExpr": short}
    if not log:
        return {"tickCount": 4, "labelExpr": short}
    decades = range(math.floor(math.log10(across.lo)), math.ceil(math.log10(across.hi)) + 1)
    room = across.width / 44
    for every, steps in ((1, (1, 2, 5)), (1, (1, 3)), (1, (1,)), (2, (1,)), (3, (1,))):
        marks = [step * 10.0**decade for decade in decades if decade % every == 0 for step in steps]
        values = [mark for mark in marks if across.lo <= mark <= across.hi]
        if len(values) <= min(room, 4):
            break
    return {"values": values, "labelExpr": short}


def _keys(
    look: _Look, kinds: Sequence[str], means: pd.DataFrame, fitted: pd.DataFrame, single: pd.DataFrame, chance: bool
) -> list[Key]:
    keys = [Key(name, PALETTE[i], SHAPES[i], DASHES[i]) for i, name in enumerate(kinds) if name]
    plain = PALETTE[0] if not keys else QUIET
    if means["lo"].notna().any():
        keys.append(Key("95 % interval", plain, None if look.bands else SHAPES[0], None if look.bands else [1, 0],
                        band=look.bands, upright=not look.bands))  # fmt: skip
    if len(single):
        keys.append(Key("one model", plain, SHAPES[0], hollow=True))
    if len(fitted):
        keys.append(Key("fit with its 95 % interval" if fitted["lo"].notna().any() else "fit", plain, None, [1, 0],
                        band=bool(fitted["lo"].notna().any())))  # fmt: skip
    if chance:
        keys.append(Key("chance", QUIET, None, CHANCE_DASH))
    return keys or [Key("mean", PALETTE[0], SHAPES[0], DASHES[0])]
