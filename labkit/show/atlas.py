"""A map of instructions to explore: one file that opens offline, drawn by Plotly's WebGL scatter plot.

Guaranteed: the page loads nothing; every instruction is a mark whose text stands beside the mouse; a kind is hidden and
shown by a click on its name, and the wheel zooms. Nothing is computed here.
"""

import html
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from labkit.errors import BadRequest
from labkit.lab import write_text
from labkit.show.theme import PALETTE

LETTERS, LINE = 160, 60  # of an instruction beside the mouse, and in a line of it
SYMBOLS = ("circle", "square", "diamond", "cross")


def write_map(path: str | Path, places: ArrayLike, texts: Sequence[str], kinds: Sequence[str], title: str) -> Path:
    """Write the map: `places` [n, 2], the text of each mark, and its kind, by which marks are coloured.

    Raises:
        BadRequest: for no marks, or texts and kinds that are not one for each place.
    """
    import plotly.graph_objects as go

    where = np.asarray(places, float)
    if not len(texts) or where.shape != (len(texts), 2) or len(kinds) != len(texts):
        raise BadRequest(f"a map needs a text and a kind for each place: got {len(texts)}, {len(kinds)}, {len(where)}")
    figure, names = go.Figure(), list(dict.fromkeys(kinds))
    for number, name in enumerate(sorted(names, key=lambda name: -sum(kind == name for kind in kinds))):
        rows = [row for row, kind in enumerate(kinds) if kind == name]
        marker = {"color": PALETTE[number % len(PALETTE)], "size": 5, "opacity": 0.7,
                  "symbol": SYMBOLS[number // len(PALETTE) % len(SYMBOLS)]}  # fmt: skip
        figure.add_scattergl(
            x=where[rows, 0].round(2), y=where[rows, 1].round(2), mode="markers", marker=marker, hoverinfo="text",
            name=html.escape(f"{name} ({len(rows):,})"), hovertext=[_beside(texts[row]) for row in rows],
        )  # fmt: skip
    hidden = {"visible": False, "scaleanchor": None}
    figure.update_layout(
        title=html.escape(title), xaxis=hidden, yaxis=hidden, template="plotly_white", hovermode="closest",
        dragmode="pan", margin={"l": 10, "r": 10, "t": 50, "b": 10}, legend={"itemsizing": "constant"},
    )  # fmt: skip
    page = figure.to_html(include_plotlyjs=True, full_html=True, config={"scrollZoom": True, "displaylogo": False})
    write_text(Path(path), page)
    return Path(path)


def _beside(text: str) -> str:
    lines = textwrap.wrap(textwrap.shorten(text, LETTERS, placeholder=" ..."), LINE)
    return "<br>".join(map(html.escape, lines))
