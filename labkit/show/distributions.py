"""How training sets are made up: shares by kind in several states of a set, and the distribution of a score.

Guaranteed: shares are drawn as given (0 to 1, printed in per cent); of a score only the counts per bar travel in the
chart, so that a set of any size can be shown. Nothing but this counting is computed.
"""

from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from labkit.errors import BadRequest
from labkit.show import parts
from labkit.show.theme import GRID, INK, PALETTE, PAPER, QUIET

LETTERS = 26  # in a line of a name
PALE = "#9fb6ca"  # what a threshold leaves out


def distribution_chart(shares: pd.DataFrame, *, target: str, title: str = "") -> alt.FacetChart:
    """Shares of kinds (task types) before and after: one row per kind, one column of bars per state, all on one scale.

    Args:
        shares: One line per `kind` and `state`, with its `share` from 0 to 1 (or None: no bar).
        target: The state that is drawn as a tick across the bars of all others, not as a column.

    Raises:
        BadRequest: for no rows, a missing column, a pair given twice, more than six states, a share outside 0 to 1, or
            a target that is no state.
    """
    parts.check(shares, ["kind", "state", "share"])
    parts.once(shares, ["kind", "state"], "the share of '{}' in '{}'")
    shares = shares.assign(share=pd.to_numeric(shares["share"]))
    for share in shares["share"]:
        if share < 0 or share > 1:
            raise BadRequest(f"share = {share:g}: a share lies between 0 and 1")
    kinds, states = list(shares["kind"].unique()), list(shares["state"].unique())
    parts.only_known([target], "target", states)
    states.remove(target)
    if not 0 < len(states) <= len(PALETTE):
        raise BadRequest(f"{len(states)} states are not the 1 to {len(PALETTE)} that a page has room for")

    width = (parts.WIDTH - 24 * (len(states) - 1)) / len(states)
    names = {name: parts.wrapped(name, LETTERS) for name in kinds}
    heads = {name: parts.wrapped(name, max(8, int(width / parts.LETTER))) for name in states}
    bars = shares[shares["state"] != target].assign(text=shares["share"].map(_per_cent))
    bars["aim"] = bars["kind"].map(shares[shares["state"] == target].set_index("kind")["share"])
    bars["end"] = bars[["share", "aim"]].max(axis=1).fillna(0)
    bars["kind"], bars["state"] = bars["kind"].map(names), bars["state"].map(heads)
    beside = min(0.6, parts.LETTER * (bars["text"].str.len().max() + 2) / width)  # what texts take of the axis
    domain = [0, max([*bars["end"], 0.01]) / (1 - beside)]

    per_cent = alt.Axis(title=None, labelExpr="format(100 * datum.value, '.4~r')", tickCount=max(2, int(width / 70)))
    down = alt.Y("kind:N").scale(domain=list(names.values())).axis(title=None, labelExpr=parts.LINES, ticks=False)
    tips = ["state:N", "kind:N", alt.Tooltip("share:Q", format=".2%")]

    def across(column: str) -> alt.X:
        return alt.X(f"{column}:Q", axis=per_cent, scale=alt.Scale(domain=domain, nice=False))

    base, fill = alt.Chart(), alt.Color("state:N", legend=None).scale(domain=list(heads.values()), range=list(PALETTE))
    aimed = base.transform_filter("isValid(datum.aim)").encode(across("aim"), down)
    page = alt.layer(
        base.transform_filter("isValid(datum.share)").mark_bar().encode(across("share"), down, fill, tooltip=tips),
        aimed.mark_tick(color=PAPER, thickness=7),
        aimed.mark_tick(color=INK, thickness=3),
        base.mark_text(align="left", dx=6, color=INK).encode(across("end"), down, text="text:N"),
    )
    height = parts.slot(names.values(), len(kinds)) * len(kinds)
    page = page.properties(width=width, height=height, view=alt.ViewBackground(stroke=GRID))
    header = alt.Header(titleOrient="bottom", labelExpr=parts.LINES)
    facet = alt.Facet("state:N", sort=list(heads.values()), title="Share of examples (%)", header=header)
    drawn = page.facet(facet, data=bars, columns=len(states), spacing=24)
    return parts.drawn(drawn, parts.heading(title, f"Upright strokes: {target}."))


def histogram_chart(scores: pd.DataFrame, *, threshold: float, x_label: str = "", title: str = "") -> alt.FacetChart:
    """How a score is distributed: one row per kind, one bar per whole score, dark from the threshold on.

    Bars of a row are shares of its own examples, all rows on one scale; to the right of each row stand the share at or
    above the threshold, and the number of examples.

    Args:
        scores: One line per `kind` and `score`, with the `count` of its examples.
        threshold: The lowest score that counts as beyond.

    Raises:
        BadRequest: for no rows, a missing column or value, a count below 0, or a kind without examples.
    """
    parts.check(scores, ["kind", "score", "count"], complete=["kind", "score", "count"])
    if (scores["count"] < 0).any():
        raise BadRequest("column 'count' holds a count below 0")
    sizes = scores.groupby("kind", sort=False)["count"].sum()
    for kind in sizes[sizes == 0].index:
        raise BadRequest(f"kind '{kind}' has no examples")

    bars = scores.assign(left=np.floor(scores["score"] + 0.5) - 0.5)  # a bar is centred on its whole score
    bars = bars.groupby(["kind", "left"])["count"].sum().reset_index()
    bars["right"], bars["share"] = bars["left"] + 1, bars["count"] / bars["kind"].map(sizes)
    beyond = scores["count"].where(scores["score"] >= threshold, 0).groupby(scores["kind"]).sum() / sizes
    kinds: list[Any] = list(sizes.index)
    notes = {kind: _note(float(beyond.loc[kind]), float(sizes.loc[kind])) for kind in kinds}
    bars["text"] = bars["kind"].map(notes).where(~bars["kind"].duplicated(), "")
    bars["threshold"] = cut = threshold - 0.5
    ends = parts.widened(parts.ends_of([*bars["left"], *bars["right"], cut]), 0.01)
    heads = {kind: parts.wrapped(kind, LETTERS) for kind in kinds}
    bars["kind"] = bars["kind"].map(heads)
    tallest = float(bars["share"].max())

    size = min(220.0, max(28.0, 330 / len(sizes)))
    axis = alt.Axis(title=x_label or None, grid=False, tickCount=10, format="~r")
    across = {"scale": alt.Scale(domain=list(ends), nice=False, zero=False), "axis": axis}
    up = alt.Y("share:Q", axis=None, scale=alt.Scale(domain=[0, tallest / 0.88], nice=False))
    dark = alt.when("datum.left >= datum.threshold").then(alt.value(PALETTE[0])).otherwise(alt.value(PALE))
    tips: list[Any] = ["kind:N", alt.Tooltip("left:Q", title="from"), alt.Tooltip("right:Q", title="to"), "count:Q"]
    tips.append(alt.Tooltip("share:Q", format=".2%"))
    bar = alt.Chart().mark_rect(xOffset=0.6, x2Offset=-0.6)
    text = alt.Chart().mark_text(align="left", dx=12, color=INK, lineBreak="\n", baseline="middle")
    page = alt.layer(
        bar.encode(alt.X("left:Q", **across), alt.X2("right:Q"), up, alt.Y2(datum=0), fill=dark, tooltip=tips),
        alt.Chart().mark_rule(color=QUIET).encode(y=alt.value(size)),
        text.encode(x=alt.value("width"), y=alt.value(size / 2), text="text:N"),
        alt.Chart().mark_rule(color=INK, strokeDash=[6, 5], strokeWidth=1.5).encode(alt.X("threshold:Q", **across)),
    ).properties(width=parts.WIDTH - 120, height=size)
    note = f"Height of a bar: the share of the row's examples, the tallest {_per_cent(tallest)}; dashed: threshold: "
    note += f"{threshold:g}.".replace("-", "−")
    header = alt.Header(title=None, labelExpr=parts.LINES, labelAngle=0, labelAlign="left", labelFontWeight="normal")
    row = alt.Row("kind:N", sort=list(heads.values()), header=header)
    return parts.drawn(page.facet(row=row, data=bars, spacing=6), parts.heading(title, note))


def _note(beyond: float, size: float) -> str:
    return f"{_per_cent(beyond)} at or above\nof {size:,.0f} example{'s' if size != 1 else ''}"


def _per_cent(share: float) -> str:
    """'12 %', '1.2 %', and an en dash for a share that is not known."""
    if share != share:
        return "–"
    per_cent = 100 * share
    text = f"{per_cent:.0f}" if per_cent >= 9.95 or not share else f"{per_cent:.1f}" if per_cent >= 0.05 else "< 0.1"
    return f"{text} %"
