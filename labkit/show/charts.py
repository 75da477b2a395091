"""Charts a teacher can project as they are: building blocks that draw what they are given.

Every block takes the column of its x axis, labels with units and a log flag: a new study needs no new chart. What was
measured is drawn in full (a mark a model, an interval wherever there is one); what a paper published is grey, dashed
and labelled as published. Nothing is computed here but positions on the page.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import altair as alt
import pandas as pd

from labkit.errors import BadRequest
from labkit.show.parts import Page, Record, check, heading
from labkit.show.theme import DASHES, INK, PALETTE, QUIET, SHAPES, shown

Axes = Callable[..., tuple[alt.X, alt.Y]]

WIDTH, HEIGHT = 780, 430
STRIP = 44  # pixels above the highest value, for the labels of published marks
ONE_MODEL, NOT_LEARNED, PUBLISHED = "one model", "one model, training set not learned", "published value"
CROSS = "M-.7,-1L0,-.3L.7,-1L1,-.7L.3,0L1,.7L.7,1L0,.3L-.7,1L-1,.7L-.3,0L-1,-.7Z"
HOLLOW = {ONE_MODEL: "circle", NOT_LEARNED: CROSS, PUBLISHED: "diamond"}
PROMPT, ANSWER = "prompt: read, not learned", "answer: the loss counts here"


class Series(NamedTuple):
    """One curve of a growth chart: its name, its column of the frame, the keys of its mean and interval."""

    label: str
    column: str
    mean: str = "mean"
    interval: str = "ci95"


UNSEEN_AND_SEEN = (
    Series("unseen instructions", "accuracy_unseen"),
    Series("training instructions", "accuracy_seen", "seen_mean", "seen_ci95"),
)


def growth_chart(
    frame: pd.DataFrame,
    curve: Sequence[Record],
    transition: Record | None = None,
    published: Iterable[Record] = (),
    *,
    x: str = "n_instructions",
    series: Sequence[Series] = UNSEEN_AND_SEEN,
    x_label: str = "Number of training instructions (log scale)",
    y_label: str = "Exact-match accuracy (share of test examples)",
    title: str = "",
    subtitle: str = "",
    log_x: bool = True,
    y_domain: tuple[float, float] = (0.0, 1.0),
) -> alt.LayerChart:
    """How accuracy grows with the dial of a design: every model, means with intervals, the paper's marks.

    Args:
        frame: a row a trained model: `x`, the columns of `series`, and `learned` (bool) where it is known.
        curve: a row a value of `x`: mean and interval ([lo, hi] or None) under the keys that `series` names.
        transition: `located`, `midpoint` and `ci95` (units of `x`), `plateau` (units of y), `note`. Drawn at
            half the plateau if located; the note follows the subtitle unless the title holds it.
        published: records of `published()`; thresholds and values that name the column `x` are drawn.
        series: the curves in the order of the legend, six at most; the first lies on top.
        title: the finding, as a sentence.
        y_domain: the lowest and highest value that y can take.

    Raises:
        BadRequest: for a frame that is empty, lacks a column, or holds what a log axis cannot show.
    """
    check(frame, [x, *(s.column for s in series)], positive=[x] if log_x else [])
    drawn = [record for record in published if x in record and record["kind"] != "finding"]
    page = _page(frame[x], drawn, x, log_x)
    axes = _axes(page, x_label, y_label, y_domain, top=STRIP if any(r["kind"] == "threshold" for r in drawn) else 12)
    models = _models(frame, x, series, page)
    cells = [(r[x], r[s.column], PUBLISHED, r["source"], r["figure"]) for r in drawn for s in series if s.column in r]
    values = pd.DataFrame(cells, columns=["x", "y", "kind", "source", "figure"])
    looks = {s.label: (PALETTE[i], PALETTE[i], SHAPES[i]) for i, s in enumerate(series)}
    looks |= {
        kind: (QUIET, "white", shape) for kind, shape in HOLLOW.items() if kind in {*models["kind"], *values["kind"]}
    }

    layers = _threshold_marks(drawn, x, page, axes)
    for i, s in reversed(list(enumerate(series))):
        rows = [(row[x], row.get(s.mean), *(row.get(s.interval) or (None, None)), s.label) for row in curve]
        means = pd.DataFrame(rows, columns=["x", "y", "lo", "hi", "kind"]).dropna(subset="y")
        base = alt.Chart(means).encode(*axes())
        bars = alt.Chart(means.dropna(subset="lo")).encode(*axes("x", "lo"), alt.Y2("hi:Q"))
        layers += [
            base.mark_line(color=PALETTE[i], strokeDash=DASHES[i]),
            bars.mark_errorbar(color=PALETTE[i], opacity=1),
            base.mark_point(size=130, opacity=1).encode(*_by_kind(looks), tooltip=list(means)),
            _hollow(models[models["series"] == s.label], axes, looks, PALETTE[i]),
        ]
    layers += [_hollow(values, axes, looks, QUIET), *_midpoint_marks(transition, page, axes)]
    layers = [layer for layer in layers if not layer.data.empty]
    return alt.layer(*layers).properties(width=WIDTH, height=HEIGHT, title=_title(title, subtitle, transition))


def learning_curves(
    rows: pd.DataFrame | Sequence[Record],
    *,
    x: str = "step",
    y: str = "accuracy_unseen",
    colour: str = "n_instructions",
    run: str = "address",
    x_label: str = "Training step",
    y_label: str = "Exact-match accuracy (share of test examples)",
    colour_label: str = "Training instructions",
    title: str = "",
    subtitle: str = "",
    log_x: bool = False,
    log_y: bool = False,
) -> alt.Chart:
    """Progress during training, a line a model, from pale (few) to dark (many) along the dial of the design.

    `rows` has a row a logged step: `x`, `y`, `colour`, and `run` (or `seed`) where models of one colour must be
    told apart. Raises `BadRequest` for no rows, a missing column, or what a log axis cannot show.
    """
    log = pd.DataFrame(rows)
    check(log, [x, y, colour], positive=[c for c, is_log in ((x, log_x), (y, log_y)) if is_log])
    kind: dict[bool, Any] = {True: "log", False: "linear"}
    legend = alt.Legend(title=colour_label, format=",~r", symbolStrokeWidth=5)
    encoding = {
        "x": alt.X(f"{x}:Q", title=x_label).scale(type=kind[log_x], nice=False).axis(grid=False, tickCount=6),
        "y": alt.Y(f"{y}:Q", title=y_label).scale(type=kind[log_y]).axis(tickCount=3 if log_y else 5),
        "color": alt.Color(f"{colour}:O", legend=legend).scale(scheme={"name": "viridis", "extent": [1, 0]}),
        "detail": [alt.Detail(f"{c}:N") for c in (run, "seed") if c in log],
        "tooltip": [c for c in dict.fromkeys((colour, "seed", run, x, y)) if c in log],
    }
    drawn = log[[c for c in dict.fromkeys((x, y, colour, run, "seed")) if c in log]]
    lines = alt.Chart(drawn).mark_line(strokeWidth=2.2).encode(**encoding)
    return lines.properties(width=WIDTH, height=HEIGHT, title=_title(title, subtitle))


def rank_chart(
    realised: Mapping[str, Sequence[float]],
    theory: Mapping[str, Sequence[float]],
    *,
    x_label: str = "Rank of the rule, most frequent first (log scale)",
    y_label: str = "Training examples (log scale)",
    title: str = "",
    subtitle: str = "marks: as trained on; lines: the law itself",
    marks: int = 25,
) -> alt.LayerChart:
    """Frequencies by rank on two log axes: what was realised as marks, what a law asks for as lines.

    Both map a label to numbers sorted downwards, six labels at most. Ranks are thinned to about `marks` a curve, evenly
    on the log axis; the law is cut where it asks for less than a tenth. Raises `BadRequest` when there is nothing.
    """
    if not realised:
        raise BadRequest("there is nothing to draw: no frequencies were given")
    rows = []
    for kind, curves in (("realised", realised), ("theory", theory)):
        for label, counts in curves.items():
            ranks = sorted({round(len(counts) ** (i / (marks - 1))) for i in range(marks)})
            rows += [(label, kind, rank, float(counts[rank - 1])) for rank in ranks if counts[rank - 1] >= 0.1]
    frame = pd.DataFrame(rows, columns=["label", "kind", "rank", "examples"])
    legend = alt.Legend(title=None, orient="top", columnPadding=20, symbolOpacity=1)
    scale: dict[str, Any] = {"domain": list(realised), "range": list(PALETTE[: len(realised)])}
    shapes = {"domain": list(realised), "range": list(SHAPES[: len(realised)])}
    base = alt.Chart(frame).encode(
        alt.X("rank:Q", title=x_label).scale(type="log", nice=False).axis(grid=False, format=",~r", tickCount=6),
        alt.Y("examples:Q", title=y_label).scale(type="log").axis(format=",~r", tickCount=5),
        alt.Color("label:N", legend=legend).scale(**scale),
    )
    points = base.transform_filter(alt.datum.kind == "realised").mark_point(size=60, filled=True, opacity=1)
    points = points.encode(shape=alt.Shape("label:N", legend=legend).scale(**shapes), tooltip=list(frame))
    lines = base.transform_filter(alt.datum.kind == "theory").mark_line(strokeWidth=1.8)
    return alt.layer(lines, points).properties(width=WIDTH, height=HEIGHT, title=_title(title, subtitle))


def example_strip(tokens: Sequence[str], mask: Sequence[bool], title: str = "", subtitle: str = "") -> alt.LayerChart:
    """One encoded example as the model meets it: a box a token, dark where `mask` says that it is learned.

    Rows wrap at the width of the page; a blank is shown as a middle dot, a line end as a pilcrow. Raises
    `BadRequest` when there are no tokens, or tokens and mask differ in length.
    """
    if not tokens or len(tokens) != len(mask):
        raise BadRequest(f"a strip needs tokens and a mask entry for each: got {len(tokens)} and {len(mask)}")
    boxes, left, top = [], 0.0, 0
    for token, learned in zip(tokens, mask, strict=True):
        text = token.replace(" ", "·").replace("\n", "¶")
        wide = 14 + 10.5 * len(text)  # a margin, and the advance of a 17-pixel monospaced letter
        if left and left + wide > WIDTH:
            left, top = 0.0, top + 38
        box = {"text": text, "part": ANSWER if learned else PROMPT, "left": left, "right": left + wide - 3}
        boxes.append(box | {"top": top, "bottom": top + 32, "x": left + wide / 2 - 1.5, "y": top + 16})
        left += wide
    base, across, down = alt.Chart(pd.DataFrame(boxes)), alt.X(scale=None), alt.Y(scale=None)  # in pixels
    legend = alt.Legend(title=None, orient="bottom", symbolType="square", symbolSize=250)
    fill = alt.Fill("part:N", legend=legend).scale(domain=[PROMPT, ANSWER], range=["#eeeeee", PALETTE[0]])
    ink = alt.when(alt.datum.part == ANSWER).then(alt.value("white")).otherwise(alt.value(INK))
    rect = base.mark_rect(cornerRadius=4, stroke=QUIET, strokeWidth=1)
    rect = rect.encode(across.field("left"), alt.X2("right"), down.field("top"), alt.Y2("bottom"), fill)
    text = base.mark_text(font="monospace", fontSize=17)
    text = text.encode(across.field("x"), down.field("y"), text="text:N", color=ink)
    return alt.layer(rect, text).properties(width=WIDTH, height=top + 38, title=_title(title, subtitle))


def _page(tried: pd.Series, published: Sequence[Record], x: str, log: bool) -> Page:
    """Wide enough for everything that is drawn and for the labels of published marks near an edge."""
    values = [*tried, *(end for record in published for end in _ends(record[x]))]
    lo, hi = min(values), max(values)
    if lo == hi:
        lo, hi = (lo / 2, hi * 2) if log else (lo - 1, hi + 1)
    page = Page(lo, hi, log, WIDTH)
    page = Page(page.moved(lo, -36), page.moved(hi, 36), log, WIDTH)
    for record in published:
        at = page.pixels(_ends(record[x])[0])
        if record.get("side") == "above" and at > WIDTH - 130:
            page = page._replace(hi=page.moved(page.hi, 130))
        if record.get("side") == "below" and at < 130:
            page = page._replace(lo=page.moved(page.lo, -130))
    return page


def _axes(page: Page, x_label: str, y_label: str, y_domain: tuple[float, float], top: int) -> Axes:
    """The axes that all layers share: `axes("x", "y")` are the encodings of the columns x and y."""
    x_axis, (low, high) = alt.Axis(title=x_label, grid=False, tickCount=6), y_domain
    if page.log:
        decades = range(math.floor(math.log10(page.lo)), math.ceil(math.log10(page.hi)))
        steps = (1,) if page.hi / page.lo > 200 else (1, 2, 5)
        values = [at for decade in decades for step in steps if page.lo <= (at := step * 10.0**decade) <= page.hi]
        x_axis = alt.Axis(title=x_label, grid=False, format=",~r", values=values)
    x_scale = alt.Scale(type="log" if page.log else "linear", domain=[page.lo, page.hi], nice=False)
    pixel = (high - low) / (HEIGHT - top - 12)
    y_scale = alt.Scale(domain=[low - 12 * pixel, high + top * pixel], nice=False)
    fifths = [low + (high - low) * i / 5 for i in range(6)]
    y_axis = alt.Axis(title=y_label, values=fifths, format=".1f" if high <= 1 else "~r", domain=False, ticks=False)

    def axes(x: str = "x", y: str = "y") -> tuple[alt.X, alt.Y]:
        return alt.X(f"{x}:Q", scale=x_scale, axis=x_axis), alt.Y(f"{y}:Q", scale=y_scale, axis=y_axis)

    return axes


def _models(frame: pd.DataFrame, x: str, series: Sequence[Series], page: Page) -> pd.DataFrame:
    """A row a model and series; models of one x stand side by side so that each is seen."""
    places = sorted(page.pixels(value) for value in frame[x].unique())
    rank, crowd = frame.groupby(x).cumcount(), frame.groupby(x)[x].transform("size")
    gap = min((b - a for a, b in pairwise(places)), default=WIDTH)
    offsets = (rank - (crowd - 1) / 2) * min(9.0, 0.7 * gap / crowd.max())
    learned = frame["learned"] if "learned" in frame else [True] * len(frame)
    shared = frame[[c for c in ("seed", "steps", "examples_per_instruction") if c in frame]].assign(
        tried=frame[x],
        x=[page.moved(value, offset) for value, offset in zip(frame[x], offsets, strict=True)],
        kind=[ONE_MODEL if ok else NOT_LEARNED for ok in learned],
    )
    every = pd.concat([shared.assign(y=frame[s.column], series=s.label) for s in series])
    return every.dropna(subset="y")  # a series may be of some models only


def _by_kind(looks: Mapping[str, tuple[str, str, str]]) -> list[Any]:
    """Stroke, fill and shape by kind of mark, in one legend."""
    legend = alt.Legend(title=None, orient="top", columnPadding=20, offset=6)
    ranges = zip((alt.Stroke, alt.Fill, alt.Shape), zip(*looks.values(), strict=True), strict=True)
    scales = ((channel, alt.Scale(domain=list(looks), range=list(values))) for channel, values in ranges)
    return [channel("kind:N", scale=scale, legend=legend) for channel, scale in scales]


def _hollow(rows: pd.DataFrame, axes: Axes, looks: Mapping[str, Any], colour: str) -> alt.Chart:
    marks = alt.Chart(rows).mark_point(stroke=colour, strokeWidth=1.6, fill="white", opacity=1)
    size = alt.when(alt.datum.kind == ONE_MODEL).then(alt.value(48)).otherwise(alt.value(170))
    return marks.encode(*axes(), _by_kind(looks)[2], size=size, tooltip=[c for c in rows if c not in ("x", "kind")])


def _threshold_marks(published: Sequence[Record], x: str, page: Page, axes: Axes) -> list[alt.Chart]:
    """A dashed rule a threshold, a pale band for a range, and their labels in the strip above the data."""
    cuts = [record for record in published if record["kind"] == "threshold"]
    marks: list[alt.Chart] = []
    for record in cuts:
        lo, hi = _ends(record[x])
        middle = page.moved(lo, (page.pixels(hi) - page.pixels(lo)) / 2)
        at = pd.DataFrame([{"x": lo, "to": hi, "middle": middle, "label": record["label"]}])
        base = alt.Chart(at).encode(axes()[0], y=alt.value(STRIP - 8), y2=alt.value(HEIGHT))
        align, dx = {"below": ("right", -5), "above": ("left", 5)}.get(record.get("side", ""), ("center", 0))
        words = alt.Chart(at).mark_text(align=align, dx=dx, color=QUIET, fontSize=14)
        marks += [
            base.mark_rule(color=QUIET, strokeDash=[6, 5], strokeWidth=1.5)
            if lo == hi
            else base.mark_rect(color=QUIET, opacity=0.18).encode(alt.X2("to")),
            words.encode(axes("middle")[0], y=alt.value(STRIP - 18), text="label:N"),
        ]
    if cuts:
        centre = sum(page.pixels(end) for record in cuts for end in _ends(record[x])) / (2 * len(cuts))
        head = "published: " + "; ".join(dict.fromkeys(f"{record['source']}, {record['figure']}" for record in cuts))
        words = alt.Chart(pd.DataFrame({"text": [head]})).encode(x=alt.value(centre), y=alt.value(8), text="text:N")
        marks.append(words.mark_text(color=QUIET, fontSize=14, fontStyle="italic"))
    return marks


def _midpoint_marks(transition: Record | None, page: Page, axes: Axes) -> list[alt.Chart]:
    """The midpoint of our fit with its interval, at half the plateau; nothing where it was not located."""
    if not transition or not transition["located"]:
        return []
    middle, height = transition["midpoint"], transition["plateau"] / 2
    lo, hi = transition["ci95"] or (middle, middle)
    right = page.pixels(hi) < 0.65 * WIDTH  # the label goes below the bar's right end, if there is room
    label = f"our midpoint: {shown(middle, transition['ci95'])}"
    row = {"x": middle, "lo": lo, "hi": hi, "y": height, "edge": hi if right else lo, "text": label}
    base = alt.Chart(pd.DataFrame([row]))
    words, side = base.encode(*axes("edge"), text="text:N"), 1 if right else -1
    font = {"align": "left" if right else "right", "dx": 8 * side, "dy": 20 * side, "fontSize": 16}
    return [
        *([base.mark_errorbar(color=INK, opacity=1).encode(*axes("lo"), alt.X2("hi"))] if lo < hi else []),
        base.mark_point(shape="diamond", size=230, filled=True, color=INK, opacity=1).encode(*axes()),
        words.mark_text(stroke="white", strokeWidth=5, strokeJoin="round", fontWeight="bold", **font),  # a halo
        words.mark_text(color=INK, fontWeight="bold", **font),
    ]


def _title(title: str, subtitle: str, transition: Record | None = None) -> alt.TitleParams:
    """Wrapped to the page; what the fit has to say about itself comes last, unless the title says it."""
    note = (transition or {}).get("note") or ""
    lead = "Midpoint: " if (transition or {}).get("located") else "No midpoint located: "
    return heading(title, [subtitle, *([lead + note] if note not in title else [])], WIDTH)


def _ends(value: float | Sequence[float]) -> tuple[float, float]:
    return (value[0], value[1]) if isinstance(value, Sequence) else (value, value)
