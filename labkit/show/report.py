"""A run on one page: a self-contained HTML file that opens offline, prints, and fits projector and phone.

Guaranteed: the page loads nothing; Vega is inside it, once, and every chart is also there as a plain picture,
which stays wherever scripts do not run. Everything given is escaped. The file appears whole or not at all.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import altair as alt
import jinja2

from labkit.lab import write_text
from labkit.show.glossary import glossed
from labkit.show.theme import COLOURS, ROOMS, data_uri, javascript, shown, themed, with_variables

if TYPE_CHECKING:
    import pandas as pd
    from pandas.io.formats.style import Styler


def write_report(
    path: str | Path, *, title: str, question: str, finding: str,
    charts: Iterable[tuple[str, alt.TopLevelMixin]] = (),
    tables: Iterable[tuple[str, "pd.DataFrame | Sequence[Mapping[str, Any]]"]] = (), notes: Iterable[str] = (),
    params: Mapping[str, Any] | None = None, provenance: Mapping[str, Any] | None = None, paper: str = "",
) -> Path:  # fmt: skip
    """Write the report of a run and return its path; folders on the way are made.

    `charts` and `tables` come with their captions. In a table an interval joins its column, as in
    '0.96 [0.94, 0.98]': pairs in a column `...ci95` join the column before it, `x_lo` and `x_hi` join `x`.
    arXiv numbers in `paper` become links.
    """
    drawn = [(caption, json.loads(with_variables(json.dumps(themed(chart)))), data_uri(chart, COLOURS))
             for caption, chart in charts]  # fmt: skip
    environment = jinja2.Environment(loader=jinja2.PackageLoader("labkit.show", ""), autoescape=True)
    environment.filters["glossed"] = lambda words: glossed(escape(words))
    text = environment.get_template("report.html.j2").render(
        title=title,
        question=question,
        finding=finding,
        charts=drawn,
        tables=[(caption, *table(rows)) for caption, rows in tables],
        notes=list(notes),
        settings={"Parameters": params or {}, "Provenance": provenance or {}},
        paper=re.split(r"\b(\d{4}\.\d{5})\b", paper),  # every second part is an arXiv number
        colours=COLOURS,
        vega=javascript() if drawn else "",
        shown=shown,
        numeric=re.compile(r"[-–+.,\d\s\[\]e%]+").fullmatch,
    )
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)
    return path


def tidy(rows: "pd.DataFrame | Sequence[Mapping[str, Any]]") -> "Styler":
    """The same table for a notebook: text to the left, no index, the head's terms explained under the mouse.

    Where there is no room for all columns, a row is a block of lines, each after its column's name (`theme.FITTED`).
    """
    import pandas as pd

    head, body = table(rows)
    words = [[word for text in column for word in text.split()] for column in zip(head, *body, strict=True)]
    need = sum(7.6 * max(map(len, column), default=0) + 9 for column in words)  # pixels, of words that do not break
    looks: Any = [{"selector": "th, td", "props": "text-align: left; vertical-align: top; padding: .3em .7em .3em 0"}]
    for place, name in enumerate(head):
        said = json.dumps(f"{name}: ", ensure_ascii=False).replace("<", r"\3c ")
        looks.append({"selector": f"td.col{place}", "props": [("--name", said)]})
    whole = pd.DataFrame(body, columns=head).style.hide(axis="index").set_table_styles(looks)
    whole.set_table_attributes(f'class="fits{min((room for room in ROOMS if room >= need), default=ROOMS[-1])}"')
    return whole.format_index(lambda name: glossed(escape(str(name))), axis="columns")


def table(rows: "pd.DataFrame | Sequence[Mapping[str, Any]]") -> tuple[list[str], list[list[str]]]:
    """The head and the body of a table as text, intervals joined to their columns."""
    records: list[Any] = list(rows) if isinstance(rows, Sequence) else rows.to_dict("records")
    columns = list(dict.fromkeys(column for record in records for column in record))
    bounds = {before: [name] for before, name in pairwise(columns) if name.endswith("ci95")}
    bounds |= {name: ends for name in columns if {*(ends := [f"{name}_lo", f"{name}_hi"])} <= {*columns}}
    kept = [column for column in columns if not any(column in names for names in bounds.values())]

    def cell(record: Mapping[str, Any], column: str) -> str:
        ends: Any = [record.get(name) for name in bounds.get(column, [])]
        return shown(record.get(column), ends[0] if len(ends) == 1 else ends)

    return [column.replace("_", " ") for column in kept], [[cell(r, c) for c in kept] for r in records]
