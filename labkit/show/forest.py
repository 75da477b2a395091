"""A forest chart: an arm a row, its mean with the interval as a horizontal line, and the numbers beside it.

Guaranteed: rows stay in the order given; every single model is drawn below its arm's mean; what has no interval shows
none; nothing is tested or computed here. Paired differences to a reference arm stand in a second panel, row by row.
"""

import textwrap
from collections.abc import Sequence
from typing import Any

import altair as alt
import pandas as pd

from labkit.errors import BadRequest, unknown
from labkit.show import parts
from labkit.show.theme import GRID, INK, PALETTE, PAPER, QUIET, shown

LETTERS = 30  # in a line of a name
REFERENCE = "the reference"
NAME = "split(split(datum.label, '\\t')[1], '\\n')"  # of a row, which is its group and its name


def forest_chart(
    rows: parts.Rows, *, name: str, mean: str = "mean", interval: str = "ci95", group: str | None = None,
    models: parts.Rows | None = None, value: str = "value", reference: float | None = None, reference_label: str = "",
    difference: str | None = None, difference_interval: str | None = None, versus: str | None = None,
    x_label: str = "", difference_label: str = "", title: str = "", subtitle: str = "",
) -> alt.TopLevelMixin:  # fmt: skip
    """Arms below each other: mean, interval and models, and beside them the paired differences to one of them.

    Args:
        rows: a row an arm: `name`, `mean`, `interval` ([lo, hi] or None), and where asked for `group`, `difference`
            and `difference_interval`.
        group: the key of a group; each run of rows of one group gets its heading. Names are unique within a group.
        models: a row a single model (a seed): `name`, `group`, and `value`; hollow marks.
        reference: where a dashed line stands in the first panel; the subtitle says what `reference_label` is.
        difference: the key of the paired difference, which opens the second panel; a row may have none.
        versus: the arm that the differences are to; its own row says so.

    Raises:
        BadRequest: for no rows, a missing key, an arm given twice, a model of no arm, or an interval that is none.
    """
    names = {"name": name, "group": group}
    arms = _keyed(parts.drawn_rows(rows, names, {"y": mean}, interval))
    if len(twice := arms.loc[arms.duplicated("key"), "name"]):
        raise BadRequest(f"the arm '{twice.iloc[0]}' is given twice")
    if versus is not None:
        parts.only_known([versus], f"{name} in versus", list(arms["name"]))
    single = arms.head(0)
    if models is not None and len(models):
        single = _keyed(parts.drawn_rows(models, names, {"y": value})).dropna(subset="y")
        for row in single[~single["key"].isin(arms["key"])].itertuples():
            strange = " / ".join(filter(None, (str(row.group), str(row.name))))
            raise unknown(f"{name} of a model", strange, list(arms["name"]))

    arms["text"] = [_number(*line) for line in arms[["y", "lo", "hi"]].itertuples(index=False)]
    panels = [(arms, single, x_label, reference, PALETTE[0], "circle")]
    if difference is not None:
        apart = _keyed(parts.drawn_rows(rows, names, {"y": difference}, difference_interval))
        apart["text"] = [
            REFERENCE if one == versus and y != y else ("+" if y > 0 else "") + _number(y, lo, hi)
            for one, y, lo, hi in apart[["name", "y", "lo", "hi"]].itertuples(index=False)
        ]
        label = difference_label or f"Difference to {versus or 'the reference'} (paired)"
        panels.append((apart, single.iloc[:0], label, 0.0, PALETTE[4], "diamond"))

    order = _order(arms)
    lines = max(one.count("\n") + 1 for one in arms["key"])
    slot = max(16.0 * lines + 4, 20.0, min(40.0, 330 / len(order)))
    room = parts.WIDTH - 140 if difference is None else parts.WIDTH / 2 - 70
    charts = [_panel(*panel, order, slot, room, first=not i) for i, panel in enumerate(panels)]
    clauses = [
        "Filled: means" + " with 95 % intervals" * bool(arms["lo"].notna().any()),
        "hollow: single models" * bool(len(single)),
        "diamonds: paired differences" * (difference is not None),
        f"dashed: {reference_label}" * bool(reference_label),
    ]
    words = parts.heading(title, [subtitle, "; ".join(filter(None, clauses)) + "."], parts.WIDTH)
    page = charts[0] if len(charts) == 1 else alt.hconcat(*charts, spacing=16)
    return parts.drawn(page, words, 1 if len(charts) == 1 else None)


def _keyed(frame: pd.DataFrame) -> pd.DataFrame:
    """With the row of the page that a name has: its group, then its name."""
    names = zip(frame["group"], frame["name"], strict=True)
    return frame.assign(key=[f"{group}\t{parts.wrapped(name, LETTERS)}" for group, name in names])


def _order(arms: pd.DataFrame) -> list[str]:
    """The rows of the page from the top: a heading before each run of rows of one group."""
    order: list[str] = []
    before = ""
    for group, key in zip(arms["group"], arms["key"], strict=True):
        order += [f"#{group}\t{parts.wrapped(group, LETTERS)}"] * (group != before) + [key]
        before = group
    return order


def _panel(
    rows: pd.DataFrame, models: pd.DataFrame, label: str, line: float | None,
    colour: str, shape: Any, order: Sequence[str], slot: float, width: float, *, first: bool,
) -> alt.LayerChart:  # fmt: skip
    """One quantity of all arms, with its numbers at the right."""
    ends = parts.ends_of([*rows["y"], *rows["lo"], *rows["hi"], *models["y"], *([] if line is None else [line])])
    words = textwrap.wrap(label, int(width / parts.LETTER))
    weight = alt.condition("datum.label[0] == '#'", alt.value("bold"), alt.value("normal"))
    axis_y = alt.Axis(title=None, labels=first, labelExpr=NAME, labelFontWeight=weight, domain=False, ticks=False,
                      grid=True, labelPadding=10)  # fmt: skip
    across = {"scale": alt.Scale(domain=list(parts.widened(ends, 0.04)), nice=False, zero=False)}
    across["axis"] = alt.Axis(title=words or None, tickCount=6, grid=False)
    down = alt.Y("key:N", axis=axis_y).scale(domain=list(order), type="point", padding=0.5)
    x, told = alt.X("y:Q", **across), [alt.Tooltip(f"{end}:Q", format=".3~f") for end in ("y", "lo", "hi")]
    base, number = alt.Chart(rows), {"align": "left", "dx": 10, "color": INK}
    layers: list[alt.Chart] = [
        base.mark_text(**number).encode(x=alt.value("width"), y=down, text="text:N"),
        alt.Chart(rows.dropna(subset=["y", "lo"])).mark_rule(color=colour, strokeWidth=3, clip=True)
        .encode(alt.X("lo:Q", **across), alt.X2("hi"), down),
        alt.Chart(rows.dropna(subset="y")).mark_point(shape=shape, filled=True, color=colour, opacity=1, size=105)
        .encode(x, down, tooltip=["name:N", *told]),
        alt.Chart(models).mark_point(stroke=colour, fill=PAPER, strokeWidth=1.5, opacity=1, size=32,
                                     yOffset=0.24 * slot).encode(x, down, tooltip=told[:1]),
    ]  # fmt: skip
    if line is not None:
        rule = alt.Chart(pd.DataFrame({"y": [line]})).mark_rule(color=QUIET, strokeDash=[6, 5], strokeWidth=1.5)
        layers.insert(0, rule.encode(x))
    layers = [layer for layer in layers if not layer.data.empty]
    return alt.layer(*layers).properties(width=width, height=slot * len(order), view=alt.ViewBackground(stroke=GRID))


def _number(value: float, lo: float, hi: float) -> str:
    return shown(value, [lo, hi]).replace("-", "−")
