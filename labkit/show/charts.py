"""Charts of training: learning curves, frequencies by rank, and one example as the model meets it.

Every block takes the columns of its axes, labels with units and log flags. Nothing is computed here but positions on
the page.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import pandas as pd

from labkit.errors import BadRequest
from labkit.show.parts import HEIGHT, WIDTH, Record, check, drawn, heading, legend, looks
from labkit.show.theme import GRID, INK, PALETTE, QUIET

PROMPT, ANSWER = "prompt: read, not learned", "answer: the loss counts here"


def learning_curves(
    rows: pd.DataFrame | Sequence[Record], *, x: str = "step", y: str = "accuracy_unseen",
    colour: str = "n_instructions", run: str = "address", x_label: str = "Training step",
    y_label: str = "Exact-match accuracy (share of test examples)", colour_label: str = "Training instructions",
    title: str = "", subtitle: str = "", log_x: bool = False, log_y: bool = False,
) -> alt.Chart:  # fmt: skip
    """Progress during training, a line a model, from pale (few) to dark (many) along the dial of the design.

    `rows` has a row a logged step: `x`, `y`, `colour`, and `run` (or `seed`) where models of one colour must be
    told apart. Raises `BadRequest` for no rows, a missing column, or what a log axis cannot show.
    """
    log = pd.DataFrame(rows)
    check(log, [x, y, colour], positive=[c for c, is_log in ((x, log_x), (y, log_y)) if is_log])
    kind: dict[bool, Any] = {True: "log", False: "linear"}
    key = alt.Legend(title=colour_label, format=",~r", symbolStrokeWidth=5, columns=8)
    encoding = {
        "x": alt.X(f"{x}:Q", title=x_label).scale(type=kind[log_x], nice=False).axis(grid=False, tickCount=6),
        "y": alt.Y(f"{y}:Q", title=y_label).scale(type=kind[log_y]).axis(tickCount=3 if log_y else 5),
        "color": alt.Color(f"{colour}:O", legend=key).scale(scheme={"name": "viridis", "extent": [0.9, 0.15]}),
        "detail": [alt.Detail(f"{c}:N") for c in (run, "seed") if c in log],
        "tooltip": [c for c in dict.fromkeys((colour, "seed", run, x, y)) if c in log],
    }
    kept = log[[c for c in dict.fromkeys((x, y, colour, run, "seed")) if c in log]]
    lines = alt.Chart(kept).mark_line(strokeWidth=2.2).encode(**encoding)
    return drawn(lines.properties(width=WIDTH, height=HEIGHT), heading(title, subtitle), 1)


def rank_chart(
    realised: Mapping[str, Sequence[float]], theory: Mapping[str, Sequence[float]], *,
    x_label: str = "Rank of the rule, most frequent first (log scale)",
    y_label: str = "Training examples (log scale)", title: str = "",
    subtitle: str = "marks: as trained on; lines: the law itself", marks: int = 25,
) -> alt.LayerChart:  # fmt: skip
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
    key, scales = legend(list(realised)), looks(list(realised))
    base = alt.Chart(frame).encode(
        alt.X("rank:Q", title=x_label).scale(type="log", nice=False).axis(grid=False, format=",~r", tickCount=6),
        alt.Y("examples:Q", title=y_label).scale(type="log").axis(format=",~r", tickCount=5),
        alt.Color("label:N", legend=key, scale=scales["color"]),
    )
    points = base.transform_filter(alt.datum.kind == "realised").mark_point(size=60, filled=True, opacity=1)
    points = points.encode(shape=alt.Shape("label:N", legend=key, scale=scales["shape"]), tooltip=list(frame))
    lines = base.transform_filter(alt.datum.kind == "theory").mark_line(strokeWidth=1.8)
    return drawn(alt.layer(lines, points).properties(width=WIDTH, height=HEIGHT), heading(title, subtitle), 1)


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
        box: dict[str, Any] = {
            "text": text,
            "part": ANSWER if learned else PROMPT,
            "left": left,
            "right": left + wide - 3,
        }
        boxes.append(box | {"top": top, "bottom": top + 32, "x": left + wide / 2 - 1.5, "y": top + 16})
        left += wide
    base, across, down = alt.Chart(pd.DataFrame(boxes)), alt.X(scale=None), alt.Y(scale=None)  # in pixels
    key = alt.Legend(title=None, symbolType="square", symbolSize=250)
    fill = alt.Fill("part:N", legend=key).scale(domain=[PROMPT, ANSWER], range=[GRID, PALETTE[0]])
    ink = alt.when(alt.datum.part == ANSWER).then(alt.value("white")).otherwise(alt.value(INK))
    rect = base.mark_rect(cornerRadius=4, stroke=QUIET, strokeWidth=1)
    rect = rect.encode(across.field("left"), alt.X2("right"), down.field("top"), alt.Y2("bottom"), fill)
    text = base.mark_text(font="monospace", fontSize=17)
    text = text.encode(across.field("x"), down.field("y"), text="text:N", color=ink)
    return drawn(alt.layer(rect, text).properties(width=WIDTH, height=top + 38), heading(title, subtitle))
