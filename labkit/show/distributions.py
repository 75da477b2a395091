"""How training sets are made up: shares by kind in several states of a set, and the distribution of a score.

Guaranteed: shares are drawn as given (0 to 1, printed in per cent with their counts); of a score only the counts a bar
travel in the chart, so that a set of any size can be shown. Nothing but this counting is computed.
"""

import math
from collections.abc import Sequence
from typing import Any

import altair as alt
import pandas as pd

from labkit.errors import BadRequest
from labkit.show.parts import (
    FRAME,
    LINE,
    Key,
    Rows,
    drawn_rows,
    heading,
    in_pixels,
    inside,
    legend,
    length,
    only_known,
    ordered,
    page_of,
    row_names,
    wrapped,
)  # fmt: skip
from labkit.show.theme import INK, PALETTE, QUIET

PAGE = 1130  # pixels of names, bars and numbers
LETTERS = 30  # a line of a name
PALE = "#b4c3d1"  # what a threshold leaves out


def distribution_chart(
    rows: Rows,
    *,
    kind: str,
    share: str,
    state: str,
    count: str | None = None,
    interval: str | None = None,
    target: str | None = None,
    kind_order: Sequence[str] | None = None,
    state_order: Sequence[str] | None = None,
    x_label: str = "Share of examples (%)",
    title: str = "",
    subtitle: str = "",
) -> alt.VConcatChart:
    """Shares of kinds (task types) before and after: a row a kind, a column of bars a state, one scale for all.

    Args:
        rows: a row a kind and state: `share` from 0 to 1 (or None), and where asked for `count` and `interval`. A pair
            that is missing has no bar.
        target: a state that is drawn as a tick across the bars of all others, not as a column.
        kind_order, state_order: the rows from top to bottom, the columns from left to right; as they first come up.

    Raises:
        BadRequest: for no rows, a missing key, a pair given twice, a name outside an order, more than six states, a
            share outside 0 to 1, or a state that is not there as target.
    """
    numbers = {"y": share} | ({"count": count} if count else {})
    cells = drawn_rows(rows, {"kind": kind, "state": state}, numbers, interval)
    if len(twice := cells.loc[cells.duplicated(["kind", "state"]), ["kind", "state"]]):
        first = twice.astype(str).iloc[0]
        raise BadRequest(f"the share of '{first['kind']}' in '{first['state']}' is given twice")
    for number in cells["y"]:
        if number < 0 or number > 1:
            raise BadRequest(f"{share} = {number:g}: a share lies between 0 and 1")
    kinds = ordered(cells["kind"], kind_order, kind)
    there = set(cells["state"])
    states = [one for one in ordered(cells["state"], state_order, state) if one in there]
    if target is not None:
        only_known([target], f"{state} as target", states)
        states = [one for one in states if one != target]
    if not 0 < len(states) <= len(PALETTE):
        raise BadRequest(f"{len(states)} states are not the 1 to {len(PALETTE)} that a page has room for")

    letters = LETTERS if len(kinds) < 15 else LETTERS + 12
    tallest = LINE * max(len(wrapped(one, letters)) for one in kinds)
    slot = max(min(40.0, max(24.0, 560 / len(kinds))), tallest + 8.0)
    places = {name: slot * (i + 0.5) for i, name in enumerate(kinds)}
    cells["at"] = cells["kind"].map(places)
    cells["top"], cells["bottom"] = cells["at"] - 0.34 * slot, cells["at"] + 0.34 * slot
    cells["end"] = cells[["y", "hi"]].max(axis=1).fillna(0)
    counts = cells["count"] if count else [math.nan] * len(cells)
    cells["text"] = [_per_cent(y, n) for y, n in zip(cells["y"], counts, strict=True)]
    aims = cells[cells["state"] == target]
    bars = cells[cells["state"].isin(states)]
    if target is not None:
        bars = bars.assign(end=[max(e, aims.loc[aims["kind"] == k, "y"].max()) if k in set(aims["kind"]) else e
                                for k, e in zip(bars["kind"], bars["end"], strict=True)])  # fmt: skip

    names_wide = min(max(length(one) for one in kinds), letters * 8.0) + 16
    gap = 18
    width = min((PAGE - names_wide - gap * (len(states) - 1)) / len(states), 520)
    label = max(length(text) for text in bars["text"]) + 10
    longest = max([*bars["end"].dropna(), *aims["y"].dropna(), 0.01])
    scale = alt.Scale(domain=[0, longest * width / max(width - label, 0.3 * width)], nice=False)
    charts = []
    for i, name in enumerate(states):
        own = bars[bars["state"] == name]
        per_cent = "format(100 * datum.value, '.4~r')"
        axis = alt.Axis(tickCount=max(2, int(width / 90)), title=None, labelExpr=per_cent, labelFlush=False)
        if not i:
            across = width * len(states) + gap * (len(states) - 1)
            axis = alt.Axis(**axis.to_dict() | {"title": x_label, "titleX": across / 2, "titleAnchor": "start",
                            "titleAlign": "center"})  # fmt: skip
        x, x2 = alt.X("y:Q", scale=scale, axis=axis), alt.value(0)
        tall = [in_pixels(alt.Y("top:Q")), alt.Y2("bottom")]
        base, middle = alt.Chart(own), in_pixels(alt.Y("at:Q"))
        told: list[Any] = ["state:N", "kind:N", alt.Tooltip("y:Q", format=".2%", title="share"),
                           *(["count:Q"] if count else [])]  # fmt: skip
        ends = alt.Chart(own.dropna(subset="lo")).encode(alt.X("lo:Q", scale=scale, axis=axis), alt.X2("hi"), middle)
        layers: list[alt.Chart] = [
            base.mark_rect(fill=PALETTE[i], stroke=INK, strokeWidth=0.6).encode(x, *tall, x2=x2, tooltip=told),
            ends.mark_rule(color="white", strokeWidth=5),
            ends.mark_rule(color=INK, strokeWidth=2.2),
            alt.Chart(aims).mark_rule(color="white", strokeWidth=8).encode(x, *tall),
            alt.Chart(aims).mark_rule(color=INK, strokeWidth=4).encode(x, *tall),
            base.mark_text(align="left", dx=7, fontSize=15, color=INK).encode(
                alt.X("end:Q", scale=scale, axis=axis), middle, text="text:N"
            ),
            *([] if i else row_names(kinds, list(places.values()), letters)),
        ]  # fmt: skip
        words = alt.TitleParams(wrapped(name, int(width / 9.5)), fontSize=17, offset=6)
        box = {"width": width, "height": slot * len(kinds), "view": alt.ViewBackground(stroke=FRAME)}
        layers = [layer for layer in layers if not layer.data.empty]
        charts.append(alt.layer(*layers).properties(title=words, **box))
    page = alt.hconcat(*charts, spacing=gap, bounds="flush")
    keys = [Key(f"{target}", INK, None, [1, 0], upright=True)] if target is not None else []
    if bars["lo"].notna().any():
        keys.append(Key("95 % interval", INK, None, [1, 0]))
    parts = [legend(keys, PAGE - names_wide), page] if keys else [page]
    return alt.vconcat(*parts, spacing=12).properties(title=heading(title, subtitle, PAGE, frame="bounds"))


def histogram_chart(
    rows: Rows,
    *,
    value: str,
    group: str | None = None,
    count: str | None = None,
    threshold: float | None = None,
    step: float = 1.0,
    group_order: Sequence[str] | None = None,
    x_label: str = "",
    x_domain: tuple[float, float] | None = None,
    title: str = "",
    subtitle: str = "",
) -> alt.LayerChart:
    """How a score is distributed, a row a group (task): bars of width `step`, those from the threshold on dark.

    Scores that are all multiples of `step` get a bar each, centred on them; others are counted from one multiple to the
    next. A row's bars are shares of its own examples, all rows on one scale; at its right the share at or above the
    threshold, and the number of examples.

    Args:
        rows: a row an example, or a row a value with its `count`.
        threshold: the lowest score that counts as beyond.
        x_domain: the lowest and highest score that there can be; None: those there are.

    Raises:
        BadRequest: for no rows, a missing key, a score that is missing or outside `x_domain`, a count below 0, a group
            without examples, a name outside `group_order`, or a step of 0 or less.
    """
    if not 0 < step < math.inf:
        raise BadRequest(f"step = {step:g}: a bar has a width above 0")
    scores = drawn_rows(rows, {"group": group}, {"y": value} | ({"count": count} if count else {}))
    if scores["y"].isna().any():
        raise BadRequest(f"a row has no '{value}': every row needs one")
    if x_domain:
        inside(scores, "y", x_domain, "x")
    scores["count"] = scores["count"].fillna(0) if count else 1.0
    if (scores["count"] < 0).any():
        raise BadRequest(f"column '{count}' holds a count below 0")
    groups = ordered(scores["group"], group_order, group or "group")
    sizes = scores.groupby("group")["count"].sum()
    for name in groups:
        if not sizes.get(name, 0):
            raise BadRequest(f"group '{name}' has no examples")
    whole = all(abs(y / step - round(y / step)) < 1e-9 for y in scores["y"].unique())
    shift = step / 2 if whole else 0.0  # a whole score stands in the middle of its bar
    scores["left"] = [step * math.floor((y + shift) / step + 1e-9) - shift for y in scores["y"]]
    cut = None if threshold is None else threshold - shift
    size = min(260.0, max(30.0, 480 / len(groups)))
    names_wide = min(max(length(one) for one in groups), LETTERS * 8.0) + 16
    width = PAGE - names_wide - 190
    bars = scores.groupby(["group", "left"], as_index=False)["count"].sum()
    bars["share"] = bars["count"] / bars["group"].map(sizes)
    tallest = float(bars["share"].max())
    floors = {name: size * (i + 1) for i, name in enumerate(groups)}
    bars["floor"] = bars["group"].map(floors)
    bars["top"] = bars["floor"] - 0.88 * size * bars["share"] / tallest
    bars["right"] = bars["left"] + step
    notes = []
    for name in groups:
        own, text = scores[scores["group"] == name], f"{sizes[name]:,.0f} example{'s' if sizes[name] != 1 else ''}"
        beyond = 0.0 if threshold is None else own.loc[own["y"] >= threshold, "count"].sum() / sizes[name]
        lines = [text] if threshold is None else [f"{_per_cent(beyond)} at or above", f"of {text}"]
        lines = lines if size >= 40 or threshold is None else [f"{_per_cent(beyond)} of {text}"]
        middle = floors[name] - size / 2 - LINE * (len(lines) - 1) / 2
        notes += [{"text": line, "at": middle + LINE * i, "first": i == 0} for i, line in enumerate(lines)]

    if threshold is not None and size < 40:
        notes.append({"text": "at or above:", "at": -12.0, "first": False})

    ends = [*bars["left"], *bars["right"], *([low - shift for low in x_domain] if x_domain else [])]
    ends += [x_domain[1] + shift] if x_domain else []
    page = page_of([*ends, *([cut] if cut is not None else [])], width, 10)
    scale = alt.Scale(domain=[page.lo, page.hi], nice=False, zero=False)
    axis = alt.Axis(title=x_label or None, grid=False, tickCount=10, format="~r")
    base = alt.Chart(bars)
    x, top = alt.X("left:Q", scale=scale, axis=axis), in_pixels(alt.Y("top:Q"))
    told = ["group:N", alt.Tooltip("left:Q", title="from"), alt.Tooltip("right:Q", title="to"), "count:Q",
            alt.Tooltip("share:Q", format=".2%")]  # fmt: skip
    fill = alt.value(PALETTE[0]) if cut is None else (
        alt.when(alt.datum.left >= cut - 1e-9).then(alt.value(PALETTE[0])).otherwise(alt.value(PALE))
    )  # fmt: skip
    text = alt.Chart(pd.DataFrame(notes)).mark_text(align="left", fontSize=15)
    ink = alt.when(alt.datum.first).then(alt.value(INK)).otherwise(alt.value(QUIET))
    layers = [
        base.mark_rect(xOffset=0.6, x2Offset=-0.6).encode(
            x, alt.X2("right"), top, alt.Y2("floor"), fill=fill, tooltip=told
        ),
        alt.Chart(pd.DataFrame({"at": list(floors.values())}))
        .mark_rule(color=QUIET)
        .encode(x=alt.value(0), x2=alt.value(width), y=in_pixels(alt.Y("at:Q"))),
        text.encode(x=alt.value(width + 14), y=in_pixels(alt.Y("at:Q")), text="text:N", color=ink),
        *row_names(groups, [floor - size / 2 for floor in floors.values()], LETTERS),
    ]
    if cut is not None:
        line = alt.Chart(pd.DataFrame([{"left": cut, "text": f"threshold: {threshold:g}".replace("-", "−")}]))
        right = page.pixels(cut) > width - 80
        layers += [
            line.mark_rule(color=INK, strokeDash=[6, 5], strokeWidth=2).encode(x),
            line.mark_text(color=INK, fontSize=15, align="right" if right else "center").encode(
                x, y=alt.value(-12), text="text:N"
            ),
        ]
    each = "row's" if len(groups) > 1 else "set's"
    note = f"Height of a bar: the share of the {each} examples; the tallest is {_per_cent(tallest)}"
    box = {"width": width, "height": size * len(groups)}
    return alt.layer(*layers).properties(title=heading(title, [subtitle, note], PAGE, frame="bounds"), **box)


def _per_cent(share: float, count: float = math.nan) -> str:
    """'12 %', '1.2 % (340)', and an en dash for a share that is not known."""
    if share != share:
        return "–"
    per_cent = 100 * share
    text = f"{per_cent:.0f}" if per_cent >= 9.95 or not share else f"{per_cent:.1f}" if per_cent >= 0.05 else "< 0.1"
    return f"{text} %" + (f" ({count:,.0f})" if count == count else "")
