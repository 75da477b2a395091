"""A forest chart: an arm a row, its mean with the interval as a horizontal line, and the numbers beside it.

Guaranteed: rows stay in the order given; every single model is drawn below its arm's mean; what has no interval shows
none; nothing is tested or computed here. Paired differences to a reference arm stand in a second panel, row by row.
"""

import textwrap
from collections.abc import Sequence
from typing import Any, NamedTuple

import altair as alt
import pandas as pd

from labkit.errors import BadRequest, unknown
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
    page_of,
    row_names,
    wrapped,
)  # fmt: skip
from labkit.show.theme import INK, PALETTE, QUIET, shown

PAGE = 1130  # pixels of names, panels and numbers
LETTERS = 34  # a line of a name
SIDE = 18  # pixels between the outermost value and the frame
REFERENCE = "the reference"


def forest_chart(
    rows: Rows,
    *,
    name: str,
    mean: str = "mean",
    interval: str = "ci95",
    group: str | None = None,
    models: Rows | None = None,
    value: str = "value",
    reference: float | None = None,
    reference_label: str = "",
    difference: str | None = None,
    difference_interval: str | None = None,
    versus: str | None = None,
    x_label: str = "",
    difference_label: str = "",
    x_domain: tuple[float, float] | None = None,
    difference_domain: tuple[float, float] | None = None,
    title: str = "",
    subtitle: str = "",
) -> alt.VConcatChart:
    """Arms below each other: mean, interval and models, and beside them the paired differences to one of them.

    Args:
        rows: a row an arm: `name`, `mean`, `interval` ([lo, hi] or None), and where asked for `group`, `difference`
            and `difference_interval`.
        group: the key of a group; each run of rows of one group gets its heading. Names are unique within a group.
        models: a row a single model (a seed): `name`, `group`, and `value`; hollow marks.
        reference: where a dashed line stands in the first panel, with `reference_label` above it.
        difference: the key of the paired difference, which opens the second panel; a row may have none.
        versus: the arm that the differences are to; its own row says so.
        x_domain, difference_domain: the ends of the two axes; None: all that is drawn.

    Raises:
        BadRequest: for no rows, a missing key, an arm given twice, a model of no arm, a mean outside its domain, or an
            interval that is none.
    """
    arms = drawn_rows(rows, {"name": name, "group": group}, {"y": mean}, interval)
    arms["key"] = list(zip(arms["group"], arms["name"], strict=True))
    if len(twice := arms.loc[arms.duplicated("key"), "name"]):
        raise BadRequest(f"the arm '{twice.iloc[0]}' is given twice")
    if versus is not None:
        only_known([versus], f"{name} in versus", list(arms["name"]))
    single = pd.DataFrame({"key": [], "y": [], "at": []})
    if models is not None and len(models):
        single = drawn_rows(models, {"name": name, "group": group}, {"y": value})
        single["key"] = list(zip(single["group"], single["name"], strict=True))
        single = single.dropna(subset="y")
        if strange := next((key for key in single["key"] if key not in set(arms["key"])), None):
            raise unknown(f"{name} of a model", " / ".join(filter(None, strange)), list(arms["name"]))

    slots = _slots(arms)
    n_slots = len(arms) + len(slots.heads)
    letters = LETTERS if n_slots < 15 else LETTERS + 10
    tallest = LINE * max(len(wrapped(one, letters)) for one in arms["name"])
    slot = max(min(44.0, max(25.0, 640 / n_slots)), tallest + 9.0)
    height = slot * n_slots
    arms["place"] = [slot * (i + 0.5) for i in slots.rows]
    lift = 0.13 * slot if len(single) else 0.0
    arms["at"] = arms["place"] - lift
    single["at"] = single["key"].map(dict(zip(arms["key"], arms["place"] + 0.25 * slot, strict=True)))
    names_wide = min(max(length(one) for one in arms["name"]), letters * 8.0) + 16
    arms["text"] = [
        shown(y, [lo, hi]).replace("-", "−") for y, lo, hi in arms[["y", "lo", "hi"]].itertuples(index=False)
    ]

    arms, single = arms.drop(columns="key"), single.drop(columns="key")
    panels = [_Panel(arms, single, x_label, x_domain, "circle", reference, reference_label)]
    if difference is not None:
        apart = drawn_rows(rows, {"name": name}, {"y": difference}, difference_interval)
        apart = apart.assign(place=arms["place"], at=arms["place"])
        apart["text"] = [
            REFERENCE if name == versus and y != y else _signed(y, lo, hi)
            for name, y, lo, hi in apart[["name", "y", "lo", "hi"]].itertuples(index=False)
        ]
        label = difference_label or f"Difference to {versus or 'the reference'} (paired)"
        panels.append(_Panel(apart, single.iloc[:0], label, difference_domain, "diamond", 0.0, "no difference"))
    texts = [max(length(text) for text in panel.rows["text"]) + 20 for panel in panels]
    room = PAGE - names_wide - sum(texts) - 14 * (len(panels) - 1)
    shares = [1.0] if len(panels) == 1 else [0.55, 0.45]
    names = row_names(list(arms["name"]), list(arms["place"]), letters)
    names += row_names([label for _, label in slots.heads], [slot * (i + 0.62) for i, _ in slots.heads], 60, bold=True)
    rules = [slot * i for i, _ in slots.heads if i]
    charts = [
        _drawn(panel, max(180.0, min(share * room, 800)), height, rules, [] if i else names)
        for i, (panel, share) in enumerate(zip(panels, shares, strict=True))
    ]
    keys = [Key("mean", PALETTE[0], "circle")]
    if arms["lo"].notna().any():
        keys[0] = Key("mean with its 95 % interval", PALETTE[0], "circle", [1, 0])
    if len(single):
        keys.append(Key("one model", PALETTE[0], "circle", hollow=True))
    if difference is not None:
        keys.append(Key("paired difference", PALETTE[4], "diamond", [1, 0]))
    page = alt.hconcat(*charts, spacing=14)
    words = heading(title, subtitle, PAGE, frame="bounds")
    return alt.vconcat(legend(keys, PAGE - names_wide), page, spacing=16).properties(title=words)


class _Slots(NamedTuple):
    """Where rows and headings stand, counted from the top."""

    rows: list[int]
    heads: list[tuple[int, str]]


def _slots(arms: pd.DataFrame) -> _Slots:
    rows: list[int] = []
    heads: list[tuple[int, str]] = []
    before = ""
    for group in arms["group"]:
        if group != before:
            heads.append((len(rows) + len(heads), group))
        before = group
        rows.append(len(rows) + len(heads))
    return _Slots(rows, heads)


class _Panel(NamedTuple):
    """One quantity of all arms: rows with `y`, `lo`, `hi`, `at` and `place` (pixels) and `text`."""

    rows: pd.DataFrame
    models: pd.DataFrame
    label: str
    domain: Sequence[float] | None
    shape: str
    line: float | None
    line_label: str


def _drawn(panel: _Panel, width: float, height: float, rules: Sequence[float], names: list[Any]) -> alt.LayerChart:
    everything = [*panel.rows["y"], *panel.rows["lo"], *panel.rows["hi"], *panel.models["y"]]
    lines = [panel.line] if panel.line is not None else []
    page = page_of(panel.domain or [*everything, *lines], width, SIDE)
    for rows in (panel.rows, panel.models, pd.DataFrame({"y": lines})):
        inside(rows, "y", panel.domain or (page.lo, page.hi), "x")
    colour = PALETTE[0] if panel.shape == "circle" else PALETTE[4]
    scale = alt.Scale(domain=[page.lo, page.hi], nice=False, zero=False)
    words = textwrap.wrap(panel.label, int((width + 100) / 7.7))
    axis = alt.Axis(title=words or None, tickCount=min(8, max(5, int(width / 60))))

    def place(x: str = "y", y: str = "at") -> list[Any]:
        return [alt.X(f"{x}:Q", scale=scale, axis=axis), in_pixels(alt.Y(f"{y}:Q"))]

    rows, known = alt.Chart(panel.rows), panel.rows.dropna(subset="y")
    layers: list[alt.Chart] = [
        rows.mark_rule(color="#ededed").encode(x=alt.value(0), x2=alt.value(width), y=place()[1]),
        alt.Chart(pd.DataFrame({"at": list(rules)}))
        .mark_rule(color=FRAME, strokeWidth=1.5)
        .encode(x=alt.value(0), x2=alt.value(width), y=place()[1]),
    ]
    if panel.line is not None:
        right = page.pixels(panel.line) > width - length(panel.line_label, 14) / 2
        align = "right" if right else "left" if page.pixels(panel.line) < length(panel.line_label, 14) / 2 else "center"
        base = alt.Chart(pd.DataFrame([{"y": panel.line, "text": panel.line_label}]))
        layers += [
            base.mark_rule(color=QUIET, strokeDash=[6, 5], strokeWidth=2).encode(place()[0]),
            base.mark_text(color=QUIET, fontSize=14, align=align).encode(place()[0], y=alt.value(-10), text="text:N"),
        ]
    bars = alt.Chart(panel.rows.dropna(subset=["y", "lo"]))
    told = ["name:N", *(alt.Tooltip(f"{column}:Q", format=".3~f") for column in ("y", "lo", "hi"))]
    ink = alt.Chart(panel.models).mark_point(stroke=colour, fill="white", strokeWidth=1.5, opacity=1)
    layers += [
        bars.mark_rule(color=colour, strokeWidth=3, clip=True).encode(*place("lo"), alt.X2("hi")),
        alt.Chart(known).mark_point(shape=panel.shape, filled=True, color=colour, opacity=1).encode(
            *place(), size=alt.value(120), tooltip=told
        ),
        ink.encode(*place(), size=alt.value(34), tooltip=[alt.Tooltip("y:Q", format=".3~f")]),
        rows.mark_text(align="left", fontSize=15, color=INK).encode(
            x=alt.value(width + 12), y=place(y="place")[1], text="text:N"
        ),
        *names,
    ]  # fmt: skip
    layers = [layer for layer in layers if not layer.data.empty]
    return alt.layer(*layers).properties(width=width, height=height, view=alt.ViewBackground(stroke=FRAME))


def _signed(value: float, lo: float, hi: float) -> str:
    text = shown(value, [lo, hi]).replace("-", "−")
    return f"+{text}" if value > 0 else text
