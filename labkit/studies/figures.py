"""A study's main view as plain data, for pages that draw it themselves (`show/figure.js`).

Three kinds: a curve along a dial, one interval per line, and a grid of what was trained on against what was tested on.
Nothing is rounded: what a page draws are the numbers of `result.json`.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from labkit.studies.claims import claims_of
from labkit.studies.rows import records
from labkit.studies.scores import MACRO, Paired
from labkit.studies.study import Study
from labkit.studies.views import Curve, Forest, Gains, Matrix, Pairs, View, models_of

if TYPE_CHECKING:
    import pandas as pd

Lines = list[dict[str, Any]]


def main_view(study: Study, known: Sequence[str]) -> str | None:
    """The view that stands for a study, of those in `known`: its first curve, else the first that can be drawn."""
    for kinds in (Curve, (Matrix, Gains, Pairs, Forest)):
        for name, view in study.views.items():
            if isinstance(view, kinds) and name in known:
                return name
    return None


def figure(study: Study, name: str, summary: Mapping[str, Any], rows: "pd.DataFrame | None" = None) -> dict[str, Any]:
    """A view as data, from what `result.json` says of it (`Found.as_dict`); `rows` add its single models."""
    view, lines = study.views[name], list(summary["estimates"])
    if isinstance(view, Curve):
        return _curve(study, name, view, lines, summary.get("fit") or {}, rows)
    if isinstance(view, Matrix):
        return _grid(view, lines)
    return _lines(view, lines)


def _curve(study: Study, name: str, view: Curve, lines: Lines, fit: Mapping[str, Any],
           rows: "pd.DataFrame | None") -> dict[str, Any]:  # fmt: skip
    """With a second dial one curve per value of it, of the main exam; else one per exam."""
    from labkit import show

    main = next(iter(view.exams))
    exams = {main: view.exams[main]} if view.by else view.exams
    shown = [line for line in lines if line["exam"] in exams]
    models = records(models_of(view, rows)) if rows is not None and len(rows) else []

    def name_of(line: Mapping[str, Any]) -> str:
        return view.by_label(line[view.by]) if view.by else exams[line["exam"]]

    series = {
        words: {
            "name": words,
            "points": [_estimate(line) | {"x": line[view.x]} for line in shown if name_of(line) == words],
            "models": [(m[view.x], m["accuracy"], m["address"], m["seed"], bool(m["learned"]))
                       for m in models if m["exam"] in exams and name_of(m) == words],
        }
        for words in dict.fromkeys(map(name_of, shown))
    }  # fmt: skip
    published = [record for own in study.published or (study.name,) for record in show.published(own)]
    marks = [_mark(record, view.x) for record in published if record["kind"] == "threshold" and view.x in record
             if any(claim["view"] == name for claim in claims_of(record))]  # fmt: skip
    located = None
    if fit.get("located") and "midpoint" in fit:
        located = {name: fit[name] for name in ("midpoint", "plateau")}
        located["sentence"] = f"half of the plateau: {fit['midpoint']:,.0f}"
    y = view.y_label if not view.by else f"{exams[main]}: {view.y_label[0].lower()}{view.y_label[1:]}"
    return {
        "kind": "curve", "view": name, "title": view.title, "x": {"title": view.x_label, "log": view.log}, "y": y,
        "by": view.by_name if view.by else "", "series": list(series.values()), "marks": marks, "fit": located,
        "alt": f"{view.title}. {y} by {view.x_label}.",
    }  # fmt: skip


def _mark(record: Mapping[str, Any], x: str) -> dict[str, Any]:
    lo, hi = record[x] if isinstance(record[x], list) else (record[x], record[x])
    return {"lo": lo, "hi": hi, "label": f"published: {record['label']}"}


def _estimate(line: Mapping[str, Any]) -> dict[str, Any]:
    return {name: line.get(name) for name in ("mean", "lo", "hi", "seeds")}


def _grid(view: Matrix, lines: Lines) -> dict[str, Any]:
    columns = dict(view.exams) or {line["exam"]: line["exam"] for line in lines}
    columns = {exam: words for exam, words in columns.items() if any(line["exam"] == exam for line in lines)}
    cells = {(line["label"], line["exam"]): _estimate(line) | {"framed": bool(line["framed"])} for line in lines}
    rows = [{"name": name, "cells": [cells.get((name, exam)) for exam in columns]}
            for name in dict.fromkeys(line["label"] for line in lines)]  # fmt: skip
    return {"kind": "grid", "title": view.title, "columns": list(columns.values()), "rows": rows, "alt": view.title}


def _lines(view: View, lines: Lines) -> dict[str, Any]:
    """What an arm scores, or what it gains; of several arms whose abilities were graded, the means of all abilities."""
    if isinstance(view, Paired):
        alone = len({line[view.arm] for line in lines}) == 1
        lines = [line for line in lines if alone or line["ability"] == MACRO]
    ordered = view.ordered(lines) if isinstance(view, Gains) else lines
    named = [{"name": _name(view, line), **_estimate(line)} for line in ordered]
    words = view.x_label if isinstance(view, Forest) else "gain, in pairs (share)"
    return {"kind": "lines", "title": view.title, "x": {"title": words}, "lines": named, "alt": view.title,
            "gains": not isinstance(view, Forest)}  # fmt: skip


def _name(view: View, line: Mapping[str, Any]) -> str:
    if isinstance(view, Pairs):
        return f"{view.arm_label(line['from'])} -> {view.arm_label(line['to'])}"
    assert isinstance(view, Forest | Gains)
    if isinstance(view, Paired):
        of = f"{line['ability']}, {line['volume']:,} of each" if view.by_volume and line["volume"] else line["ability"]
        return f"{of}: {view.arm_label(line[view.arm])}"
    by = view.by if isinstance(view, Gains) else None
    where = line[by] if by else ""
    block = f"{where}: " if isinstance(where, str) else f"{by} {where}: "
    return block.removeprefix(": ") + view.arm_label(line[view.arm])
