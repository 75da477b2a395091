"""Accuracy along a dial: means with intervals, every model behind them, the fit and the published marks.

Drawn by Altair's own means (layer, error bars, facet); positions on the page are left to Vega.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import pandas as pd

from labkit.show.parts import check
from labkit.show.theme import INK, PALETTE, QUIET, SHAPES

WIDTH, HEIGHT = 680, 360


def curve_chart(
    estimates: pd.DataFrame,
    models: pd.DataFrame,
    *,
    x: str,
    x_label: str,
    y_label: str,
    series_label: str = "",
    log: bool = True,
    fit: Mapping[str, Any] | None = None,
    published: Sequence[Mapping[str, Any]] = (),
    title: str = "",
    subtitle: str = "",
) -> alt.TopLevelMixin:
    """One curve per `series`, one panel per `panel`.

    Args:
        estimates: One line per mean: `x`, `series`, `panel`, and `mean`, `lo`, `hi`.
        models: One line per model: `x`, `series`, `panel`, `accuracy`, `learned`, `seed`.
        fit: `located`, `midpoint`, `ci95` and `plateau`: drawn at half the plateau where it is located.
        published: Records of `published()`; thresholds and values that name the column `x` are drawn.

    Raises:
        BadRequest: for no rows, a missing column, or what a log axis cannot show.
    """
    check(estimates, [x, "series", "panel", "mean", "lo", "hi"], positive=[x] if log else [])
    names = list(dict.fromkeys(estimates["series"]))
    legend = alt.Legend(title=series_label or None, orient="top", columns=3)
    scale = alt.Scale(domain=names, range=list(PALETTE[: len(names)]))
    shapes = alt.Scale(domain=names, range=list(SHAPES[: len(names)]))
    across = alt.X(f"{x}:Q", title=x_label + (" (log scale)" if log else ""))
    across = across.scale(type="log" if log else "linear", nice=False, padding=20)
    across = across.axis(grid=False, values=sorted(estimates[x].unique().tolist()), format=",~r", labelOverlap="greedy")
    colour = alt.Color("series:N", scale=scale, legend=legend)
    base = alt.Chart(estimates)
    up = alt.Y("mean:Q", title=y_label).scale(domain=[0, 1])
    layers = [
        base.mark_line().encode(across, up, colour),
        base.mark_errorbar(ticks=True).encode(across, alt.Y("lo:Q", title=y_label), alt.Y2("hi:Q"), colour),
        base.mark_point(filled=True, size=90, opacity=1).encode(
            across, up, colour, alt.Shape("series:N", scale=shapes, legend=legend), tooltip=list(estimates)
        ),
        alt.Chart(models)
        .mark_point(size=40, opacity=0.8, fill="white")
        .encode(across, alt.Y("accuracy:Q", title=y_label), colour, tooltip=list(models)),
        *_marks(fit, published, x),
    ]
    drawn = alt.layer(*layers, data=estimates).properties(width=WIDTH, height=HEIGHT)
    heading = alt.TitleParams(title, subtitle=subtitle) if subtitle else alt.TitleParams(title)
    return drawn.properties(title=heading)


def _marks(fit: Mapping[str, Any] | None, published: Sequence[Mapping[str, Any]], x: str) -> list[alt.Chart]:
    """Our fitted midpoint, and the published thresholds."""
    marks = []
    if fit and fit.get("located"):
        row = pd.DataFrame(
            [{"x": fit["midpoint"], "lo": fit["ci95"][0], "hi": fit["ci95"][1], "y": fit["plateau"] / 2}]
        )
        base = alt.Chart(row).encode(y="y:Q")
        marks += [
            base.mark_rule(color=INK, strokeWidth=3).encode(alt.X("lo:Q"), alt.X2("hi:Q")),
            base.mark_point(shape="diamond", filled=True, size=200, color=INK, opacity=1).encode(alt.X("x:Q")),
        ]
    cuts = [record for record in published if record["kind"] == "threshold" and x in record]
    for record in cuts:
        ends = record[x] if isinstance(record[x], list) else [record[x], record[x]]
        at = pd.DataFrame([{"x": ends[0], "to": ends[1], "label": record["label"]}])
        base = alt.Chart(at).encode(alt.X("x:Q"))
        band = (
            base.mark_rule(color=QUIET, strokeDash=[6, 5])
            if ends[0] == ends[1]
            else base.mark_rect(color=QUIET, opacity=0.18).encode(alt.X2("to:Q"))
        )
        marks += [
            band,
            base.mark_text(color=QUIET, align="left", dx=4, baseline="top").encode(y=alt.value(4), text="label:N"),
        ]
    return marks
