"""The idea of a study in one figure: what the arms hold, what is equal for all, and what is asked.

Drawn from words alone: every word stands in a box, and equal words have equal colours. The picture scales with its
place, has its own paper, light or dark, and a sentence for those who do not see it.
"""

import base64
import textwrap
from collections.abc import Mapping
from html import escape
from typing import Any

import altair as alt
import pandas as pd

from labkit.show.parts import drawn, heading
from labkit.show.theme import COLOURS, INK, PALETTE, QUIET, data_uri, png

WIDE, LETTER, ROW = 640, 8.4, 30  # pixels: the picture, a monospaced letter, and a row of boxes
ARMS, THEN, ASKED = (0, 298), (332, 426), (460, WIDE)  # from where to where the three columns reach
Sets = Mapping[str, str]  # from a name to its words, with blanks between


class Idea:
    """The figure; in a notebook an image with alternative text."""

    def __init__(self, title: str, arms: Sets, then: str, asked: Sets) -> None:
        told = "; ".join(f"{name}: {words}" for name, words in (*arms.items(), ("then", then), *asked.items()))
        self.words, self.chart = f"{title}. {told}", _chart(title, arms, then, asked)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        style = f"width: 100%; max-width: {WIDE + 60}px"
        image = f'<img src="{data_uri(self.chart, COLOURS)}" alt="{escape(self.words)}" style="{style}">'
        return {"text/html": image, "image/png": base64.b64encode(png(self.chart)).decode(), "text/plain": self.words}


def _chart(title: str, arms: Sets, then: str, asked: Sets) -> alt.LayerChart:
    every = [word for words in (*arms.values(), *asked.values()) for word in words.split()]
    colours = {word: PALETTE[place % len(PALETTE)] for place, word in enumerate(dict.fromkeys(every))}
    left, left_high = _placed(arms, *ARMS)
    right, right_high = _placed(asked, *ASKED)
    high = max(left_high, right_high, 80)
    middle = high / 2
    lines = textwrap.wrap(then, int((THEN[1] - THEN[0]) / 7))
    labels = left[1] + [(x, y + (high - right_high) / 2, text) for x, y, text in right[1]]
    boxes = left[0] + [(x, y + (high - right_high) / 2, x2, text) for x, y, x2, text in right[0]]
    labels += [(THEN[0], middle + 17 * (place - len(lines) / 2) + 8, line) for place, line in enumerate(lines)]
    frame = pd.DataFrame([(x, y, x2, y + ROW - 8, text, colours[text]) for x, y, x2, text in boxes],
                         columns=["x", "y", "x2", "y2", "text", "colour"])  # fmt: skip
    frame = frame.assign(middle=(frame["x"] + frame["x2"]) / 2, line=(frame["y"] + frame["y2"]) / 2)
    across, down = alt.X(scale=None, type="quantitative"), alt.Y(scale=None, type="quantitative")  # in pixels
    place = (across.field("x"), down.field("y"))
    fill, edge = alt.Fill("colour:N", scale=None), alt.Stroke("colour:N", scale=None)
    rects = alt.Chart(frame).mark_rect(fillOpacity=0.15, strokeWidth=1.5, cornerRadius=3)
    rects = rects.encode(*place, alt.X2("x2"), alt.Y2("y2"), fill, edge)
    words = alt.Chart(frame).mark_text(font="monospace", fontSize=14, color=INK)
    words = words.encode(across.field("middle"), down.field("line"), text="text:N")
    named = alt.Chart(pd.DataFrame(labels, columns=["x", "y", "text"])).mark_text(align="left", fontSize=14, color=INK)
    ways = [(ARMS[1] + 4, THEN[0] - 8), (THEN[1] + 4, ASKED[0] - 8)]
    arrows = alt.Chart(pd.DataFrame(ways, columns=["x", "x2"]).assign(y=middle))
    shafts = arrows.mark_rule(strokeWidth=2, color=QUIET).encode(*place, alt.X2("x2"))
    heads = arrows.mark_point(shape="triangle-right", filled=True, size=90, color=QUIET, opacity=1)
    heads = heads.encode(across.field("x2"), down.field("y"))
    named = named.encode(*place, text="text:N")
    chart = alt.layer(rects, words, named, shafts, heads).properties(width=WIDE, height=high)
    return drawn(chart, heading(title, width=WIDE))


def _placed(sets: Sets, start: float, end: float) -> tuple[tuple[list[Any], list[Any]], float]:
    """Boxes (left, top, right, word) and labels (left, middle, text) from where to where, and how high they stand."""
    boxes, labels, top = list[Any](), list[Any](), 0.0
    for name, words in sets.items():
        for line in textwrap.wrap(name, int((end - start) / 7)):
            labels.append((start, top + 9, line))
            top += 19
        at = start
        for word in words.split():
            wide = 12 + LETTER * len(word)
            if at > start and at + wide > end:
                at, top = start, top + ROW - 4
            boxes.append((at, top, at + wide, word))
            at += wide + 4
        top += ROW + 4
    return (boxes, labels), top
