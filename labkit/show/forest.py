"""A forest chart: one row per arm, its mean with the interval as a horizontal line, and the numbers beside it.

Guaranteed: rows stay in the order given; every single model is drawn below its arm's mean; what has no interval shows
none; nothing is tested or computed here. Paired differences to a reference arm stand in a second panel, row by row.
"""

import textwrap
from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

import altair as alt
import pandas as pd

from labkit.errors import unknown
from labkit.show import parts
from labkit.show.theme import GRID, INK, PALETTE, PAPER, QUIET, shown

LETTERS = 30  # in a line of a name
REFERENCE = "the reference"
NAME = "split(split(datum.label, '\\t')[1], '\\n')"  # of a row, which is its group and its name


def forest_chart(
    rows: parts.Rows, *, name: str, group: str | None = None, models: parts.Rows | None = None, value: str = "value",
    reference: float | None = None, difference: str | None = None, difference_interval: str | None = None,
    versus: str | None = None, x_label: str = "", title: str = "", subtitle: str = "",
) -> alt.TopLevelMixin:  # fmt: skip
    """Arms below each other: mean, interval and models, and beside them the paired differences to one of them.

    Args:
        rows: One row per arm: `name`, `mean`, perhaps `ci95` ([lo, hi] or None), and where asked for `group`,
            `difference` and `difference_interval`.
        group: The key of a group; each run of rows of one group gets its heading. Names are unique within a group.
        models: One row per single model (a seed): `name`, `group`, and `value`; hollow marks.
        reference: Where a dashed line stands in the first panel.
        difference: The key of the paired difference, which opens the second panel; a row may have none.
        versus: The arm that the differences are to; its own row says so.

    Raises:
        BadRequest: for no rows, a missing key, an arm given twice, a model of no arm, or an interval that is none.
    """
    frame = pd.DataFrame(rows)
    arms = _rows(frame, name, group, "mean", "ci95" if "ci95" in frame else None)
    parts.once(arms, ["key", "name"], "the arm '{1}'")
    if versus is not None:
        parts.only_known([versus], f"{name} in versus", list(arms["name"]))
    single = arms.head(0)
    if models is not None and len(models):
        single = _rows(pd.DataFrame(models), name, group, value).dropna(subset="y")
        for row in single[~single["key"].isin(arms["key"])].itertuples():
            raise unknown(f"{name} of a model", f"{row.group} / {row.name}".removeprefix(" / "), list(arms["name"]))

    arms["text"] = [_number(*row, plus=reference == 0) for row in arms[["y", "lo", "hi"]].itertuples(index=False)]
    panels = [(arms, single, x_label, reference, PALETTE[0], "circle")]
    if difference is not None:
        gains = _rows(frame, name, group, difference, difference_interval)
        gains["text"] = [
            REFERENCE if arm == versus and y != y else _number(y, lo, hi, plus=True)
            for arm, y, lo, hi in gains[["name", "y", "lo", "hi"]].itertuples(index=False)
        ]
        label = f"Difference to {versus or REFERENCE} (paired)"
        panels.append((gains, single.head(0), label, 0.0, PALETTE[4], "diamond"))

    order = _order(arms)
    slot = parts.slot(arms["key"], len(order))
    room = parts.WIDTH - 140 if difference is None else parts.WIDTH / 2 - 70
    charts = [_panel(*panel, order, slot, room, first=not place) for place, panel in enumerate(panels)]
    clauses = [
        "Filled: means" + " with 95 % intervals" * bool(arms["lo"].notna().any()),
        "hollow: single models" * bool(len(single)),
        "diamonds: paired differences" * (difference is not None),
    ]
    words = parts.heading(title, [subtitle, "; ".join(filter(None, clauses)) + "."], parts.WIDTH)
    if difference is None:
        return parts.drawn(charts[0], words, 1)
    return parts.drawn(alt.hconcat(*charts, spacing=16), words)


def _rows(frame: pd.DataFrame, name: str, group: str | None, number: str, interval: str | None = None) -> pd.DataFrame:
    """`group`, `name`, `y`, `lo`, `hi`, and as `key` the row of the page: its group, then its name."""
    names = [column for column in (name, group) if column]
    parts.check(frame, [*names, number, *([interval] if interval else [])], complete=names)
    rows = parts.numbers_of(frame, number, interval)
    rows["name"] = frame[name].astype(str).tolist()
    rows["group"] = frame[group].astype(str).tolist() if group else ""
    return rows.assign(key=rows["group"] + "\t" + rows["name"].map(lambda text: parts.wrapped(text, LETTERS)))


def _order(arms: pd.DataFrame) -> list[str]:
    """The rows of the page from the top: a heading before each run of rows of one group."""
    order: list[str] = []
    for group, run in groupby(zip(arms["group"], arms["key"], strict=True), key=itemgetter(0)):
        order += [f"#{group}\t{parts.wrapped(group, LETTERS)}"] * bool(group) + [key for _, key in run]
    return order


def _panel(
    rows: pd.DataFrame, models: pd.DataFrame, label: str, line: float | None,
    colour: str, shape: Any, order: Sequence[str], slot: float, width: float, *, first: bool,
) -> alt.LayerChart:  # fmt: skip
    """One quantity of all arms, with its numbers at the right."""
    ends = parts.ends_of([*rows["y"], *rows["lo"], *rows["hi"], *models["y"], *([] if line is None else [line])])
    weight = alt.condition("datum.label[0] == '#'", alt.value("bold"), alt.value("normal"))
    names = {"labels": first, "labelExpr": NAME, "labelFontWeight": weight, "labelPadding": 10}
    axis_y = alt.Axis(title=None, domain=False, ticks=False, grid=True, **names)
    down = alt.Y("key:N", axis=axis_y).scale(domain=list(order), type="point", padding=0.5)
    axis_x = alt.Axis(title=textwrap.wrap(label, int(width / parts.LETTER)) or None, tickCount=6, grid=False)
    scale = alt.Scale(domain=list(parts.widened(ends, 0.04)), nice=False, zero=False)
    x, low = (alt.X(f"{end}:Q", scale=scale, axis=axis_x) for end in ("y", "lo"))
    tips = [alt.Tooltip(f"{end}:Q", format=".3~f") for end in ("y", "lo", "hi")]
    zero = pd.DataFrame({"y": [] if line is None else [line]})
    bar = alt.Chart(rows.dropna(subset=["y", "lo"])).mark_rule(color=colour, strokeWidth=3, clip=True)
    mean = alt.Chart(rows.dropna(subset="y")).mark_point(shape=shape, filled=True, color=colour, opacity=1, size=105)
    model = alt.Chart(models).mark_point(
        stroke=colour, fill=PAPER, strokeWidth=1.5, opacity=1, size=32, yOffset=0.24 * slot
    )
    layers = [
        alt.Chart(zero).mark_rule(color=QUIET, strokeDash=[6, 5], strokeWidth=1.5).encode(x),
        alt.Chart(rows).mark_text(align="left", dx=10, color=INK).encode(x=alt.value("width"), y=down, text="text:N"),
        bar.encode(low, alt.X2("hi"), down),
        mean.encode(x, down, tooltip=["name:N", *tips]),
        model.encode(x, down, tooltip=tips[:1]),
    ]
    layers = [layer for layer in layers if not layer.data.empty]
    return alt.layer(*layers).properties(width=width, height=slot * len(order), view=alt.ViewBackground(stroke=GRID))


def _number(value: float, lo: float, hi: float, *, plus: bool = False) -> str:
    return "+" * (plus and value > 0) + shown(value, [lo, hi]).replace("-", "−")
