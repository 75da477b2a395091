"""How training sets are made up: shares by kind in several states of a set, and the distribution of a score.

Guaranteed: shares are drawn as given (0 to 1, printed in per cent with their counts); of a score only the counts a bar
travel in the chart, so that a set of any size can be shown. Nothing but this counting is computed.
"""

import math
from typing import Any

import altair as alt
import pandas as pd

from labkit.errors import BadRequest
from labkit.show import parts
from labkit.show.theme import GRID, INK, PALETTE, PAPER, QUIET

LETTERS = 26  # in a line of a name
PALE = "#9fb6ca"  # what a threshold leaves out


def distribution_chart(
    rows: parts.Rows, *, kind: str, share: str, state: str, count: str | None = None, target: str | None = None,
    x_label: str = "Share of examples (%)", title: str = "", subtitle: str = "",
) -> alt.FacetChart:  # fmt: skip
    """Shares of kinds (task types) before and after: a row a kind, a column of bars a state, one scale for all.

    Args:
        rows: a row a kind and state: `share` from 0 to 1 (or None), and where asked for `count`. A pair that is missing
            has no bar.
        target: a state that is drawn as a tick across the bars of all others, not as a column.

    Raises:
        BadRequest: for no rows, a missing key, a pair given twice, more than six states, a share outside 0 to 1, or
            a state that is not there as target.
    """
    numbers = {"y": share} | ({"count": count} if count else {})
    cells = parts.drawn_rows(rows, {"kind": kind, "state": state}, numbers)
    if len(twice := cells.loc[cells.duplicated(["kind", "state"]), ["kind", "state"]]):
        raise BadRequest(f"the share of '{twice.iloc[0]['kind']}' in '{twice.iloc[0]['state']}' is given twice")
    for number in cells["y"]:
        if number < 0 or number > 1:
            raise BadRequest(f"{share} = {number:g}: a share lies between 0 and 1")
    kinds, states = (list(dict.fromkeys(cells[key])) for key in ("kind", "state"))
    if target is not None:
        parts.only_known([target], f"{state} as target", states)
        states.remove(target)
    if not 0 < len(states) <= len(PALETTE):
        raise BadRequest(f"{len(states)} states are not the 1 to {len(PALETTE)} that a page has room for")

    width = (parts.WIDTH - 24 * (len(states) - 1)) / len(states)
    names = {name: parts.wrapped(name, LETTERS) for name in kinds}
    heads = {name: parts.wrapped(name, max(8, int(width / parts.LETTER))) for name in states}
    aims = cells[cells["state"] == target].set_index("kind")["y"]
    bars = cells[cells["state"].isin(states)].copy()
    counts = bars["count"] if count else [math.nan] * len(bars)
    bars["text"] = [_per_cent(y, n) for y, n in zip(bars["y"], counts, strict=True)]
    bars["aim"] = bars["kind"].map(aims)
    bars["end"] = bars[["y", "aim"]].max(axis=1).fillna(0)
    bars["kind"], bars["state"] = bars["kind"].map(names), bars["state"].map(heads)
    beside = min(0.6, parts.LETTER * (bars["text"].str.len().max() + 2) / width)  # what texts take of the axis
    domain = [0, max([*bars["end"], 0.01]) / (1 - beside)]

    slot = max(15.0 * max(name.count("\n") + 1 for name in names.values()) + 4, 20.0, min(34.0, 330 / len(kinds)))
    per_cent = alt.Axis(title=None, labelExpr="format(100 * datum.value, '.4~r')", tickCount=max(2, int(width / 70)))
    down = alt.Y("kind:N").scale(domain=list(names.values())).axis(title=None, labelExpr=parts.LINES, ticks=False)
    told: list[Any] = ["state:N", "kind:N", alt.Tooltip("y:Q", format=".2%", title="share"), *["count:Q"] * bool(count)]

    def across(column: str) -> alt.X:
        return alt.X(f"{column}:Q", axis=per_cent, scale=alt.Scale(domain=domain, nice=False))

    base, fill = alt.Chart(), alt.Color("state:N", legend=None).scale(domain=list(heads.values()), range=list(PALETTE))
    aimed = base.transform_filter("isValid(datum.aim)")
    layers: list[alt.Chart] = [
        base.transform_filter("isValid(datum.y)").mark_bar().encode(across("y"), down, fill, tooltip=told),
        *(mark.encode(across("aim"), down)
          for mark in (aimed.mark_tick(color=PAPER, thickness=7), aimed.mark_tick(color=INK, thickness=3))),
        base.mark_text(align="left", dx=6, color=INK).encode(across("end"), down, text="text:N"),
    ]  # fmt: skip
    page = alt.layer(*layers).properties(width=width, height=slot * len(kinds), view=alt.ViewBackground(stroke=GRID))
    header = alt.Header(titleOrient="bottom", labelExpr=parts.LINES)
    facet = alt.Facet("state:N", sort=list(heads.values()), title=x_label, header=header)
    words = parts.heading(title, [subtitle, f"Upright strokes: {target}." * (target is not None)])
    return parts.drawn(page.facet(facet, data=bars, columns=len(states), spacing=24), words)


def histogram_chart(
    rows: parts.Rows, *, value: str, group: str | None = None, count: str | None = None,
    threshold: float | None = None, step: float = 1.0, x_label: str = "", title: str = "", subtitle: str = "",
) -> alt.FacetChart:  # fmt: skip
    """How a score is distributed, a row a group (task): bars of width `step`, those from the threshold on dark.

    Scores that are all multiples of `step` get a bar each, centred on them; others are counted from one multiple to the
    next. A row's bars are shares of its own examples, all rows on one scale; at its right the share at or above the
    threshold, and the number of examples.

    Args:
        rows: a row an example, or a row a value with its `count`.
        threshold: the lowest score that counts as beyond.

    Raises:
        BadRequest: for no rows, a missing key, a score that is missing, a count below 0, a group without examples,
            or a step of 0 or less.
    """
    if not 0 < step < math.inf:
        raise BadRequest(f"step = {step:g}: a bar has a width above 0")
    scores = parts.drawn_rows(rows, {"group": group}, {"y": value} | ({"count": count} if count else {}))
    if scores["y"].isna().any():
        raise BadRequest(f"a row has no '{value}': every row needs one")
    scores["count"] = scores["count"].fillna(0) if count else 1.0
    if (scores["count"] < 0).any():
        raise BadRequest(f"column '{count}' holds a count below 0")
    groups = list(dict.fromkeys(scores["group"]))
    sizes = scores.groupby("group")["count"].sum()
    for name in groups:
        if not sizes.get(name, 0):
            raise BadRequest(f"group '{name}' has no examples")

    whole = all(abs(y / step - round(y / step)) < 1e-9 for y in scores["y"].unique())
    shift = step / 2 if whole else 0.0  # a whole score stands in the middle of its bar
    cut = None if threshold is None else threshold - shift
    scores["left"] = [step * math.floor((y + shift) / step + 1e-9) - shift for y in scores["y"]]
    bars = scores.groupby(["group", "left"], as_index=False)["count"].sum()
    bars["right"], bars["share"] = bars["left"] + step, bars["count"] / bars["group"].map(sizes)
    beyond = pd.Series(0.0, sizes.index)
    if threshold is not None:
        beyond += (
            scores[scores["y"] >= threshold].groupby("group")["count"].sum().reindex(sizes.index).fillna(0) / sizes
        )
    notes = {name: _note(beyond[name], sizes[name], threshold) for name in groups}
    bars["text"] = bars["group"].map(notes).where(~bars["group"].duplicated(), "")
    bars["threshold"] = math.nan if cut is None else cut
    ends = [*bars["left"], *bars["right"], *([] if cut is None else [cut])]
    margin = 0.01 * (max(ends) - min(ends))
    scale = alt.Scale(domain=[min(ends) - margin, max(ends) + margin], nice=False, zero=False)

    size = min(220.0, max(28.0, 330 / len(groups)))
    heads = {name: parts.wrapped(name, LETTERS) for name in groups}
    bars["group"] = bars["group"].map(heads)
    axis = alt.Axis(title=x_label or None, grid=False, tickCount=10, format="~r")
    tallest = float(bars["share"].max())
    up = alt.Y("share:Q", axis=None, scale=alt.Scale(domain=[0, tallest / 0.88], nice=False))
    told = ["group:N", alt.Tooltip("left:Q", title="from"), alt.Tooltip("right:Q", title="to"), "count:Q",
            alt.Tooltip("share:Q", format=".2%")]  # fmt: skip
    dark = alt.when("!isValid(datum.threshold) || datum.left >= datum.threshold - 1e-9")
    fill = dark.then(alt.value(PALETTE[0])).otherwise(alt.value(PALE))
    base, x = alt.Chart(), alt.X("left:Q", scale=scale, axis=axis)
    layers = [
        base.mark_rect(xOffset=0.6, x2Offset=-0.6).encode(
            x, alt.X2("right:Q"), up, alt.Y2(datum=0), fill=fill, tooltip=told
        ),
        base.mark_rule(color=QUIET).encode(y=alt.value(size)),
        base.mark_text(align="left", dx=12, color=INK, lineBreak="\n", baseline="middle").encode(
            x=alt.value("width"), y=alt.value(size / 2), text="text:N"
        ),
    ]
    if cut is not None:
        line = base.mark_rule(color=INK, strokeDash=[6, 5], strokeWidth=1.5)
        layers.append(line.encode(alt.X("threshold:Q", scale=scale, axis=axis)))
    each = "row's" if len(groups) > 1 else "set's"
    note = f"Height of a bar: the share of the {each} examples, the tallest {_per_cent(tallest)}"
    note += "" if threshold is None else f"; dashed: threshold: {threshold:g}".replace("-", "−")
    page = alt.layer(*layers).properties(width=parts.WIDTH - 120, height=size)
    header = alt.Header(title=None, labelExpr=parts.LINES, labelAngle=0, labelAlign="left", labelFontWeight="normal")
    facet = alt.Row("group:N", sort=list(heads.values()), header=header)
    return parts.drawn(page.facet(row=facet, data=bars, spacing=6), parts.heading(title, [subtitle, f"{note}."]))


def _note(beyond: float, size: float, threshold: float | None) -> str:
    examples = f"{size:,.0f} example{'s' if size != 1 else ''}"
    return examples if threshold is None else f"{_per_cent(beyond)} at or above\nof {examples}"


def _per_cent(share: float, count: float = math.nan) -> str:
    """'12 %', '1.2 % (340)', and an en dash for a share that is not known."""
    if share != share:
        return "–"
    per_cent = 100 * share
    text = f"{per_cent:.0f}" if per_cent >= 9.95 or not share else f"{per_cent:.1f}" if per_cent >= 0.05 else "< 0.1"
    return f"{text} %" + (f" ({count:,.0f})" if count == count else "")
