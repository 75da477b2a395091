"""Accuracy along a dial: means with intervals, every model behind them, fits, and the published marks.

Guaranteed: every mean, every interval and every single model is drawn, side by side where they would hide each other;
labels of published marks stand in a strip of their own above the data, one line each, so that they touch nothing.
Drawn by Altair's own means (layer, error bars, facet) from one long table, which is what a facet needs.
"""

import math
import textwrap
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import altair as alt
import numpy as np
import pandas as pd

from labkit.show import parts
from labkit.show.theme import INK, PAPER, QUIET, shown

STRIP = 17  # pixels per line of the labels above the data
APART = 7  # pixels between what stands at one place
TICK = "datum.value >= 1e5 ? format(datum.value, '.3~s') : format(datum.value, ',.4~r')"


def curve_chart(
    estimates: pd.DataFrame, models: pd.DataFrame | None = None, *, x: str, x_label: str,
    y_label: str = "Accuracy (share of test examples)", series_label: str = "", log: bool = True,
    fit: Mapping[str, Any] | None = None, lines: pd.DataFrame | None = None, chance: float | None = None,
    published: Sequence[parts.Record] = (), y_domain: tuple[float, float] | None = (0.0, 1.0), title: str = "",
    subtitle: str = "",
) -> alt.TopLevelMixin:  # fmt: skip
    """One curve per `series`, one panel per `panel`, all panels on the same two axes.

    Args:
        estimates: One line per mean: `x`, `series`, `panel`, `mean`, `lo`, `hi` (NaN: none), and `exam` where published
            values are to be found. A panel's name may go on after a line end, with a verdict for instance.
        models: One line per model: `x`, `series`, `panel`, `accuracy`, and `learned` where it is known.
        fit: `located`, `midpoint`, `ci95`, `plateau`: drawn at half the plateau where located; its `note` is said.
        lines: Fitted curves on a fine grid, like `estimates`; their means are not joined.
        chance: The score of guessing.
        published: Records of `published()`; thresholds, ranges and values that name the column `x` are drawn.
        y_domain: The lowest and highest value that y can take; None: what is drawn.

    Raises:
        BadRequest: for no rows, a missing column, a model or fit of no series, a value outside `y_domain`, or what a
            log axis cannot show.
    """
    positive = [x] if log else []
    parts.check(estimates, [x, "series", "panel", "mean", "lo", "hi"], positive=positive, complete=[x])
    estimates = estimates.assign(**{name: pd.to_numeric(estimates[name]) for name in (x, "mean", "lo", "hi")})
    names, panels = (list(dict.fromkeys(estimates[column])) for column in ("series", "panel"))
    models = _beside(models, [x, "series", "panel", "accuracy"], positive, names, panels)
    lines = _beside(lines, [x, "series", "panel", "mean"], positive, names, panels)
    cuts = [record for record in published if record["kind"] == "threshold" and x in record]
    values = _values(estimates, [r for r in published if r["kind"] == "value" and x in r], x, y_domain)
    fitted = set(zip(lines["panel"], lines["series"], strict=True))
    curves = zip(estimates["panel"], estimates["series"], strict=True)
    table = pd.concat([
        _part("mean", estimates, x, "mean").assign(joined=[curve not in fitted for curve in curves]),
        _part("model", models, x, "accuracy").assign(learned=models.get("learned", True)),
        _part("line", lines, x, "mean"),
        _part("published", values, x, "y"),
    ], ignore_index=True)  # fmt: skip
    guess = [] if chance is None else [chance]
    ends = y_domain or parts.ends_of([*table["y"], *table["lo"], *table["hi"], *guess])
    parts.inside([*estimates["mean"], *models["accuracy"], *guess], ends, "y")

    columns, faceted = _columns(len(panels)), len(panels) > 1
    wide = (parts.WIDTH - 14 * (columns - 1)) / columns
    tall = parts.HEIGHT if not faceted else 210 if len(panels) <= columns else 125
    marks = _marks(cuts, fit, x)
    tried = parts.ends_of([*table["x"], *(mark[end] for mark in marks for end in ("x", "to"))], log)
    across = parts.widened(tried, 0.04, log)
    table["at"] = table["x"]
    table["x"] = _apart(table, names, across, log, wide)
    pixel = (ends[1] - ends[0]) / (tall - 16 - STRIP * len(marks))
    for line, mark in enumerate(reversed(marks)):  # each label has a line of its own in the strip above the data
        mark |= {"height": ends[1] + (15 + STRIP * line) * pixel, "right": _share(mark["middle"], across, log) > 0.5}
    marked = pd.DataFrame([mark | {"what": "mark", "panel": panel} for mark in marks for panel in panels])
    table = pd.concat([table, marked], ignore_index=True)

    below = x_label + " (log scale)" * log
    x_axis = alt.Axis(title=None if faceted else below, grid=False, values=sorted(estimates[x].unique().tolist()),
                      labelExpr=TICK, labelOverlap="greedy", labelFlush=False)  # fmt: skip
    x_scale = alt.Scale(type="log" if log else "linear", domain=list(across), nice=False, zero=False)
    ticks: dict[str, Any] = {"values": np.linspace(*ends, 6).tolist()} if y_domain else {"tickCount": 5}
    words = textwrap.wrap(y_label, int(tall / parts.LETTER))
    y_axis = alt.Axis(title=words, domain=False, ticks=False, format="~r", **ticks)
    domain = [ends[0] - 7 * pixel, ends[1] + (9 + STRIP * len(marks)) * pixel]
    y_scale = alt.Scale(domain=domain, nice=False, zero=False)
    page = _Page({"scale": x_scale, "axis": x_axis}, {"scale": y_scale, "axis": y_axis}, 1.0 if tall > 150 else 0.5)
    layers = [*_data(page, names, series_label, x_label), *_said(page)]
    if chance is not None:
        layers.insert(0, alt.Chart().mark_rule(color=QUIET, strokeDash=[2, 4]).encode(y=alt.datum(chance)))
    title_lines = parts.heading(title, [subtitle, _notes(table, cuts, values, fit, title, chance)])
    if not faceted:
        return parts.drawn(alt.layer(*layers, data=table).properties(width=wide, height=tall), title_lines, 1)
    header = alt.Header(titleOrient="bottom", labelExpr=parts.LINES)
    facet = alt.Facet("panel:N", sort=panels, title=below, header=header)
    drawn = alt.layer(*layers).properties(width=wide, height=tall).facet(facet, data=table, columns=columns)
    return parts.drawn(drawn, title_lines, columns)


class _Page(NamedTuple):
    """The two axes that all layers and panels share, and the size of marks (1: that of a large panel)."""

    x: dict[str, Any]
    y: dict[str, Any]
    size: float

    def place(self, x: str = "x", y: str | None = "y") -> list[Any]:
        """The encodings of two columns of the table."""
        return [alt.X(f"{x}:Q", **self.x), *([alt.Y(f"{y}:Q", **self.y)] if y else [])]


def _only(test: str) -> alt.Chart:
    """A layer of some lines of the one table."""
    return alt.Chart().transform_filter(test)


def _data(page: _Page, names: Sequence[str], label: str, x_label: str) -> list[alt.Chart]:
    """Bands and curves of fits, means with intervals, single models, published values."""
    scales, key = parts.looks(names), parts.legend(names, label)
    colour = alt.Color("series:N", scale=scales["color"], legend=key)
    dash = alt.StrokeDash("series:N", scale=scales["strokeDash"], legend=None)
    shape = alt.Shape("series:N", scale=scales["shape"], legend=key)
    numbers = [alt.Tooltip(f"{column}:Q", format=".3~f") for column in ("y", "lo", "hi")]
    tips = ["series:N", alt.Tooltip("at:Q", title=x_label), *numbers]
    mean, model = "datum.what == 'mean' && isValid(datum.y)", "datum.what == 'model'"
    look: Any = {"opacity": 1, "strokeWidth": 1.5}
    return [
        _only("datum.what == 'line' && isValid(datum.lo)").mark_area(opacity=0.2)
        .encode(*page.place(y="lo"), alt.Y2("hi:Q"), colour),
        _only(f"datum.what == 'line' || ({mean} && datum.joined)").mark_line().encode(*page.place(), colour, dash),
        _only("datum.what == 'mean' && isValid(datum.lo)").mark_rule(strokeWidth=2.2)
        .encode(*page.place(y="lo"), alt.Y2("hi:Q"), colour),
        _only(mean).mark_point(filled=True, size=85 * page.size, opacity=1)
        .encode(*page.place(), colour, shape, tooltip=tips),
        _only(f"{model} && datum.learned").mark_point(fill=PAPER, size=38 * page.size, **look)
        .encode(*page.place(), colour, shape, tooltip=tips),
        _only(f"{model} && !datum.learned").mark_point(shape="cross", angle=45, size=130 * page.size, **look)
        .encode(*page.place(), colour, tooltip=tips),
        _only("datum.what == 'published'").mark_point(shape="diamond", stroke=QUIET, fill=PAPER, size=110, **look)
        .encode(*page.place(), tooltip=["source:N", *tips]),
    ]  # fmt: skip


def _said(page: _Page) -> list[alt.Chart]:
    """Published thresholds and ranges, our midpoint, and the labels of all in their strip."""
    cut, ours = (_only(f"datum.what == 'mark' && datum.ours == {ours}") for ours in ("false", "true"))
    layers: list[alt.Chart] = [
        cut.transform_filter("datum.x < datum.to").mark_rect(color=QUIET, opacity=0.2)
        .encode(*page.place(y=None), alt.X2("to:Q")),
        cut.transform_filter("datum.x == datum.to").mark_rule(color=QUIET, strokeDash=[6, 5], strokeWidth=1.5)
        .encode(*page.place(y=None)),
        ours.mark_rule(color=INK, strokeWidth=2.5).encode(*page.place(), alt.X2("to:Q")),
        ours.mark_point(shape="diamond", filled=True, size=170, color=INK, opacity=1).encode(*page.place("middle")),
    ]  # fmt: skip
    ink = alt.when("datum.ours").then(alt.value(INK)).otherwise(alt.value(QUIET))
    for right, align, dx in (("false", "left", 5), ("true", "right", -5)):  # towards the middle of the page
        words = _only(f"datum.what == 'mark' && datum.right == {right}").mark_text(align=align, dx=dx)
        words = words.encode(*page.place("middle", "height"), text="text:N")
        halo = words.encode(stroke=alt.value(PAPER), strokeWidth=alt.value(6))  # no rule behind it crosses it
        layers += [halo, words.encode(color=ink)]
    return layers


def _beside(
    frame: pd.DataFrame | None, columns: list[str], positive: list[str], names: Sequence[str], panels: Sequence[str]
) -> pd.DataFrame:
    """Models or fits, of series and panels that have means; none at all are fine."""
    if frame is None or frame.empty:
        return pd.DataFrame(columns=columns)
    parts.check(frame, columns, positive=positive)
    parts.only_known(frame["series"], "series", names)
    parts.only_known(frame["panel"], "panel", panels)
    return frame


def _part(what: str, frame: pd.DataFrame, x: str, y: str) -> pd.DataFrame:
    """Some lines of the one long table."""
    kept = frame[[name for name in ("series", "panel", "seed", "source") if name in frame]]
    numbers = {"x": x, "y": y, "lo": "lo", "hi": "hi"}
    ours = {our: frame[key].astype(float) if key in frame else math.nan for our, key in numbers.items()}
    return kept.assign(what=what, **ours)


def _values(
    estimates: pd.DataFrame, records: Sequence[parts.Record], x: str, y_domain: tuple[float, float] | None
) -> pd.DataFrame:
    """Published values of the exams that are drawn, where they have the unit of the y axis."""
    lowest, highest = y_domain or (-math.inf, math.inf)
    exams = set(zip(estimates["exam"], estimates["panel"], strict=True)) if "exam" in estimates else set()
    rows = [
        {x: record[x], "y": record[key], "panel": panel, "source": _source(record)}
        for record in records
        for exam, panel in sorted(exams)
        for key in (f"accuracy_{exam}", exam)
        if key in record and lowest <= record[key] <= highest
    ]
    return pd.DataFrame(rows, columns=[x, "y", "panel", "source"])


def _source(record: parts.Record) -> str:
    return f"{record['source']}, {record['figure']}"


def _marks(cuts: Sequence[parts.Record], fit: parts.Record | None, x: str) -> list[dict[str, Any]]:
    """Published thresholds and ranges, and our fitted midpoint, with what each says."""
    marks: list[dict[str, Any]] = []
    for record in cuts:
        lo, hi = record[x] if isinstance(record[x], list) else (record[x], record[x])
        middle = math.sqrt(lo * hi) if lo > 0 else (lo + hi) / 2
        marks.append({"x": lo, "to": hi, "middle": middle, "text": record["label"], "ours": False})
    if fit and fit.get("located"):
        middle, (lo, hi) = fit["midpoint"], fit["ci95"] or (fit["midpoint"], fit["midpoint"])
        text = f"our midpoint: {shown(middle, fit['ci95'])}"
        marks.append({"x": lo, "to": hi, "middle": middle, "y": fit["plateau"] / 2, "text": text, "ours": True})
    return marks


def _notes(
    table: pd.DataFrame, cuts: Sequence[parts.Record], values: pd.DataFrame, fit: parts.Record | None, title: str,
    chance: float | None,
) -> str:  # fmt: skip
    """What the marks stand for, as far as they are drawn, and what the fit says of itself."""
    drawn = set(table["what"])
    learned = set(table.loc[table["what"] == "model", "learned"].astype(bool))
    sources = dict.fromkeys([*map(_source, cuts), *values["source"]])
    bars = ", bars: 95 % intervals" if table["lo"].notna().any() else ""
    grey = "grey" + ", dashed" * bool(cuts) + ", diamonds" * bool(len(values))
    clauses = {
        f"filled: means{bars}": "model" in drawn,
        "hollow: single models": True in learned,
        "crosses: models that have not learned their training set": False in learned,
        "curves: fits": "line" in drawn,
        "dotted: chance": chance is not None,
        f"{grey}: published, {'; '.join(sources)}": bool(sources),
    }
    said = "; ".join(clause for clause, is_drawn in clauses.items() if is_drawn)
    note = (fit or {}).get("note") or ""
    lead = "Midpoint: " if (fit or {}).get("located") else "No midpoint located: "
    return f"{said[:1].upper()}{said[1:]}." * bool(said) + f" {lead}{note}." * bool(note and note not in title)


def _columns(panels: int) -> int:
    """As many panels side by side as stay readable, in even rows."""
    rows = math.ceil(panels / 5)
    return 2 if panels == 4 else math.ceil(panels / (rows if panels > 6 or panels < 4 else 2))


def _share(value: float, ends: tuple[float, float], log: bool) -> float:
    low, high, at = (math.log(number) if log else number for number in (*ends, value))
    return (at - low) / (high - low)


def _apart(table: pd.DataFrame, names: Sequence[str], ends: tuple[float, float], log: bool, wide: float) -> list[float]:
    """Places on x, moved a little so that series, and models of one series, stand beside each other."""
    tried = sorted({_share(value, ends, log) for value in table.loc[table["what"] == "mean", "x"]})
    gap = min((b - a for a, b in pairwise(tried)), default=1.0)
    step = min(APART / wide, 0.7 * gap / len(names)) if len(names) > 1 else 0.0
    room = step or min(3 * APART / wide, 0.5 * gap)  # of the models of one series
    groups = table.groupby(["what", "series", "panel", "at"], dropna=False)["y"]
    rank, crowd = groups.cumcount(), groups.transform("size")
    places = {name: step * (i - (len(names) - 1) / 2) for i, name in enumerate(names)}
    lines = zip(table["what"], table["series"], table["at"], rank, crowd, strict=True)
    return [
        at if what in ("line", "published")
        else parts.moved(at, places[name] + (what == "model") * (r - (n - 1) / 2) * room / n, ends, log)
        for what, name, at, r, n in lines
    ]  # fmt: skip
