"""Charts of training: learning curves, frequencies by rank, and one example as the model meets it.

Nothing is computed here but positions on the page.
"""

from collections.abc import Mapping, Sequence
from itertools import product

import altair as alt
import pandas as pd

from labkit.errors import BadRequest
from labkit.show.parts import HEIGHT, WIDTH, Record, check, drawn, heading, legend, looks
from labkit.show.theme import GRID, INK, PALETTE, QUIET

PROMPT, ANSWER = "prompt: read, not learned", "answer: the loss counts here"


def learning_curves(
    rows: pd.DataFrame | Sequence[Record], *, y: str = "accuracy_unseen", colour: str = "n_instructions",
    y_label: str = "Exact-match accuracy (share of test examples)", colour_label: str = "Training instructions",
    title: str = "",
) -> alt.Chart:  # fmt: skip
    """Progress during training, one line per model, from pale (few) to dark (many) along the dial of the design.

    `rows` has one row per logged step: `step`, `y`, `colour`, and `address` (or `seed`) where models of one colour must
    be told apart. Raises `BadRequest` for no rows or a missing column.
    """
    log = pd.DataFrame(rows)
    check(log, ["step", y, colour])
    kept = [column for column in dict.fromkeys((colour, "seed", "address", "step", y)) if column in log]
    key = alt.Legend(title=colour_label, format=",~r", symbolStrokeWidth=5, columns=8)
    lines = alt.Chart(log[kept]).mark_line(strokeWidth=2.2).encode(
        alt.X("step:Q", title="Training step").scale(nice=False).axis(grid=False, tickCount=6),
        alt.Y(f"{y}:Q", title=y_label).axis(tickCount=5),
        alt.Color(f"{colour}:O", legend=key).scale(scheme={"name": "viridis", "extent": [0.9, 0.15]}),
        detail=[alt.Detail(f"{column}:N") for column in ("address", "seed") if column in log],
        tooltip=kept,
    )  # fmt: skip
    return drawn(lines.properties(width=WIDTH, height=HEIGHT), heading(title), 1)


def rank_chart(
    realised: Mapping[str, Sequence[float]], theory: Mapping[str, Sequence[float]], *, title: str = ""
) -> alt.LayerChart:
    """Frequencies by rank on two log axes: what was realised as marks, what a law asks for as lines.

    Both map a label to numbers sorted downwards, six labels at most. Ranks are thinned to about 25 per curve, evenly
    on the log axis; the law is cut where it asks for less than a tenth. Raises `BadRequest` when there is nothing.
    """
    if not realised:
        raise BadRequest("there is nothing to draw: no frequencies were given")
    curves = [("realised", *curve) for curve in realised.items()] + [("theory", *curve) for curve in theory.items()]
    rows = []
    for (kind, label, counts), step in product(curves, range(25)):
        rank = round(len(counts) ** (step / 24))
        rows.append((label, kind, rank, float(counts[rank - 1])))
    frame = pd.DataFrame(rows, columns=["label", "kind", "rank", "examples"]).drop_duplicates()
    frame = frame[frame["examples"] >= 0.1]
    key, scales = legend(list(realised)), looks(list(realised))
    rule = alt.X("rank:Q", title="Rank of the rule, most frequent first (log scale)")
    base = alt.Chart(frame).encode(
        rule.scale(type="log", nice=False).axis(grid=False, format=",~r", tickCount=6),
        alt.Y("examples:Q", title="Training examples (log scale)").scale(type="log").axis(format=",~r", tickCount=5),
        alt.Color("label:N", legend=key, scale=scales["color"]),
    )
    points = base.transform_filter(alt.datum.kind == "realised").mark_point(size=60, filled=True, opacity=1)
    points = points.encode(shape=alt.Shape("label:N", legend=key, scale=scales["shape"]), tooltip=list(frame))
    lines = base.transform_filter(alt.datum.kind == "theory").mark_line(strokeWidth=1.8)
    words = heading(title, "marks: as trained on; lines: the law itself")
    return drawn(alt.layer(lines, points).properties(width=WIDTH, height=HEIGHT), words, 1)


def example_strip(tokens: Sequence[str], mask: Sequence[bool], title: str = "") -> alt.LayerChart:
    """One encoded example as the model meets it: one box per token, dark where `mask` says that it is learned.

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
        boxes.append((text, ANSWER if learned else PROMPT, left, left + wide - 3, top, top + 32))
        left += wide
    frame = pd.DataFrame(boxes, columns=["text", "part", "left", "right", "top", "bottom"])
    frame = frame.assign(x=(frame["left"] + frame["right"]) / 2, y=frame["top"] + 16)
    base, across, down = alt.Chart(frame), alt.X(scale=None), alt.Y(scale=None)  # in pixels
    key = alt.Legend(title=None, symbolType="square", symbolSize=250)
    fill = alt.Fill("part:N", legend=key).scale(domain=[PROMPT, ANSWER], range=[GRID, PALETTE[0]])
    ink = alt.when(alt.datum.part == ANSWER).then(alt.value("white")).otherwise(alt.value(INK))
    rect = base.mark_rect(cornerRadius=4, stroke=QUIET, strokeWidth=1)
    rect = rect.encode(across.field("left"), alt.X2("right"), down.field("top"), alt.Y2("bottom"), fill)
    words = base.mark_text(font="monospace", fontSize=17)
    words = words.encode(across.field("x"), down.field("y"), text="text:N", color=ink)
    return drawn(alt.layer(rect, words).properties(width=WIDTH, height=top + 38), heading(title))
