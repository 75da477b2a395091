"""Semantic diversity: does training on constrained kinds of rules teach to follow rules that are not constrained?

Training rules come from one, two or three constrained spaces (`labkit.instructions.spaces`: repeated, periodic,
mirror) at some k; each model is graded on unseen rules of every class at lower, the same and higher k, and on rules
without any constraint. The result is a matrix: trained on (rows) against tested on (columns).

Source: Zhang, Wang, Charton, arXiv 2410.04717, Figure 4; 2402.10891. What differs at `laptop` scale: patterns of 6
and inputs of 8 letters (paper: 60 and 500); training from k = 2 on (paper: 3), so that three or two letters are free
(paper: twenty or fewer) and the only k below is no constraint at all; this lab's learner. At every scale k divides the
pattern length (the papers do not say what they do with one that does not), and the number of training examples, the
batch size and the part of the mixture that each k gets are ours.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field, field_validator, model_validator

from labkit import learn
from labkit.design import allocate
from labkit.errors import BadRequest
from labkit.instructions.rewriting import Split
from labkit.instructions.spaces import (
    KINDS,
    UNCONSTRAINED,
    Space,
    capacity,
    divisors,
    draw_space_rules,
    mixture,
    shares,
)
from labkit.lab import Record
from labkit.studies import symbolic
from labkit.studies.contract import Study
from labkit.studies.rewriting import SEEN, TRAINING, UNSEEN, RewritingCell, RewritingParams, draw_exam, spread, task_of
from labkit.studies.symbolic import interval

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

NAME = "semantic_diversity"
GENERALISES = 0.5  # accuracy outside the trained k, from which a mixture is said to generalise
DIALS = ("n_instructions", "k_low", "k_high")
BANDS = ("lower", "same", "higher")
OUTSIDE = [*(f"{kind}_lower" for kind in KINDS), "unconstrained"]  # what the paper asks about
COLUMNS = {"seen": "training rules"} | {f"{kind}_{band}": f"{kind}, {band} k" for kind in KINDS for band in BANDS}
COLUMNS |= {"one_letter": "one letter, k = length", "unconstrained": "unconstrained"}

ALL = ["+".join(kinds) for size in (1, 2, 3) for kinds in combinations(KINDS, size)]
SMALL = {
    **symbolic.MODEL,
    "alphabet": "abcdefghijklmnopqrstuvwxyz",
    "mixtures": ALL,
    "k_ranges": [(2, 3), (3, 3)],
    "n_instructions": [5000, 500],
    "crossed": [],
    "varied": ALL[-1:],
    "pattern_length": 6,
    "input_length": 8,
    "occurrences": 1,
    "budget": 60_000,
    "steps": 1250,
    "batch_size": 48,
    "test_rules": 200,
    "n_test": 400,
}
SCALES: dict[str, dict[str, Any]] = {
    "smoke": {
        **SMALL,
        "mixtures": [ALL[0], ALL[-1]],
        "k_ranges": [(2, 3)],
        "n_instructions": [60],
        "seeds": [0],
        "budget": 600,
        "steps": 20,
        "test_rules": 20,
        "n_test": 40,
    },
    "laptop": {**SMALL, "seeds": [0, 1]},
    "paper": {
        **SMALL,
        **symbolic.PAPER_MODEL,
        "k_ranges": [(3, 60), (3, 30), (3, 20), (3, 12), (3, 6), (3, 4)],
        "n_instructions": [10_000, 5000, 1000, 500],
        "crossed": ALL,
        "varied": [],
        "seeds": [0],
        "pattern_length": 60,
        "input_length": 500,
        "budget": 1_000_000,
        "steps": 50 * 1_000_000 // 512,
        "test_rules": 1000,
        "n_test": 10_000,
    },
}


class Params(RewritingParams):
    """What a person may set; see `SCALES` for the values each scale gives."""

    mixtures: list[str] = Field(min_length=1, description="the classes trained on, joined by +: a row each")
    k_ranges: list[tuple[int, int]] = Field(min_length=1, description="lowest and highest k in training")
    n_instructions: list[int] = Field(min_length=1, description="numbers of training rules I")
    crossed: list[str] = Field(description="mixtures tried at every range with every number; others at the first ones")
    varied: list[str] = Field(description="mixtures tried at every range and at every number, one of the two at a time")
    occurrences: int = Field(description="how often x occurs in z")

    @field_validator("mixtures", "crossed", "varied")
    @classmethod
    def _in_one_order(cls, names: list[str]) -> list[str]:
        """`mirror+periodic` is `periodic+mirror`."""
        return ["+".join(dict.fromkeys(space.kind for space in mixture(name.split("+"), [1]))) for name in names]

    @model_validator(mode="after")
    def _together(self) -> "Params":
        task = task_of(self)
        learn.rewriting_layout(task)
        allowed = divisors(self.pattern_length, 2)
        for name in self.crossed + self.varied:
            if name not in self.mixtures:
                raise BadRequest(f"crossed and varied: '{name}' is none of the mixtures {', '.join(self.mixtures)}")
        for low, high in self.k_ranges:
            if strange := [k for k in (low, high) if k not in allowed]:
                raise BadRequest(
                    f"k_ranges: k = {strange[0]} does not divide pattern_length = {self.pattern_length} into blocks; "
                    f"use {', '.join(map(str, allowed))}"
                )
            if low > high:
                raise BadRequest(f"k_ranges = {self.k_ranges}: ({low}, {high}) must go up, as ({high}, {low}) does")
        if self.n_test < self.test_rules:
            raise BadRequest(
                f"n_test = {self.n_test} is fewer than one example for each of test_rules = {self.test_rules}"
            )
        for dials in _dials(self):
            if dials["n_instructions"] < 1:
                raise BadRequest(f"n_instructions = {dials['n_instructions']}: at least 1 is needed")
            allocate(self.budget, dials["n_instructions"])
            shares(task, _spaces(dials, self.pattern_length), dials["n_instructions"], seed=dials["seed"])
        return self


class Cell(RewritingCell):
    """One model: everything its result depends on."""

    study: Literal["semantic_diversity"] = "semantic_diversity"
    version: Literal[2] = 2
    mixture: str
    k_low: int
    k_high: int
    noop_share: float = 0.0


def _dials(params: Params) -> list[dict[str, Any]]:
    """The design: every mixture at the first range and number, some at others too; seeds outermost."""
    return [
        {"mixture": name, "k_low": low, "k_high": high, "n_instructions": n, "seed": seed}
        for seed in params.seeds
        for i, n in enumerate(params.n_instructions)
        for j, (low, high) in enumerate(params.k_ranges)
        for name in params.mixtures
        if i == j == 0 or name in params.crossed or (0 in (i, j) and name in params.varied)
    ]


def _spaces(dials: Mapping[str, Any], pattern_length: int) -> tuple[Space, ...]:
    """The spaces that training rules come from."""
    return mixture(dials["mixture"].split("+"), divisors(pattern_length, dials["k_low"], dials["k_high"]))


def points(params: Params) -> list[Cell]:
    """A cell for each mixture, range of k, number of rules and seed that the design asks for."""
    return symbolic.cells(Cell, params, _dials(params))


def lesson_of(cell: Cell) -> symbolic.Lesson:
    """The budget spread evenly over the rules; exams on training rules (seen), unconstrained ones, and every column.

    At a k that is trained on, unseen rules are those of the test split, for classes that are not trained on too; the
    other spaces share no string with the trained ones.
    """
    task, p, seed = task_of(cell), cell.pattern_length, cell.seed
    rules = draw_space_rules(task, _spaces(dict(cell), p), cell.n_instructions, seed=seed).rules
    budget = np.repeat(np.arange(len(rules)), allocate(cell.budget, len(rules)))
    asked = spread(np.arange(min(len(rules), cell.test_rules)), cell.n_test)
    exams = {"seen": draw_exam(task, rules, asked, seed, SEEN)}
    columns: dict[str, tuple[tuple[Space, ...], Split | None]] = {"unconstrained": ((UNCONSTRAINED,), None)}
    for kind in KINDS:
        ends = (2, cell.k_low - 1), (cell.k_low, cell.k_high), (cell.k_high + 1, p)
        for band, (low, high) in zip(BANDS, ends, strict=True):
            if ks := [k for k in divisors(p, low, high) if band == "same" or k < p]:
                columns[f"{kind}_{band}"] = (mixture([kind], ks), "test" if band == "same" else None)
    if cell.k_high < p:  # one letter over and over: the same strings in every class
        columns["one_letter"] = ((Space("repeated", p),), None)
    for stream, (name, (spaces, split)) in enumerate(columns.items(), UNSEEN):
        there = sum(capacity(task, space, split, seed) for space in spaces)
        if there:
            unseen = draw_space_rules(task, spaces, min(there, cell.test_rules), seed=seed, split=split).rules
            exam = draw_exam(task, unseen, spread(np.arange(len(unseen)), cell.n_test), seed, stream)
            strings, of = np.unique(unseen.x, axis=0, return_inverse=True)  # rules of one x are not independent
            exams[name] = exam._replace(instruction=of.reshape(-1)[exam.instruction], n_instructions=len(strings))
    return symbolic.Lesson(draw_exam(task, rules, budget, seed, TRAINING).data, exams)


def measure(cell: Cell, record: Record) -> dict[str, Any]:
    """Train one model and grade it on every column; see `symbolic.measure_many`."""
    return symbolic.measure(cell, record, lesson_of)


def measure_many(cells: Sequence[Cell], records: Sequence[Record]) -> list[dict[str, Any]]:
    """The same for a fleet."""
    return symbolic.measure_many(cells, records, lesson_of)


def summarise(frame: "pd.DataFrame") -> dict[str, Any]:
    """The matrix: for every row of the design and every column the mean accuracy with its 95 % interval.

    `outside` pools a row's columns at lower k, of every class, and the unconstrained one: what the paper asks about.
    Intervals resample seeds and, within a seed, rules (`labkit.grade.intervals`).
    """
    rows, cells = [], []
    for _, group in frame.groupby([*DIALS, "mixture"], sort=False):
        row = {name: group[name].tolist()[0] for name in (*DIALS, "mixture")}
        row |= {"classes": row["mixture"].count("+") + 1, "label": _label(row)}
        exams = [exam for exam in COLUMNS if f"accuracy_{exam}" in group and group[f"accuracy_{exam}"].notna().all()]
        outside = [exam for exam in OUTSIDE if exam in exams]
        pooled = {f"outside_{n}": group[[f"{exam}_{n}" for exam in outside]].sum(axis=1) for n in ("right", "asked")}
        found = symbolic.estimates(group.assign(**pooled), [*exams, "outside"])
        rows.append(row | found | {"lower_k": len(outside) > 1})
        for exam in exams:
            kind, _, band = exam.partition("_")
            cell = {"row": row["label"], "column": COLUMNS[exam], "own": band == "same" and kind in row["mixture"]}
            lo, hi = found[f"{exam}_ci95"]
            cells.append(cell | {"mean": found[exam], "lo": lo, "hi": hi})
    return {"rows": rows, "cells": cells}


def _label(row: Mapping[str, Any]) -> str:
    """A row's name in the picture."""
    names = "all three" if row["mixture"] == ALL[-1] else row["mixture"].replace("+", " + ")
    ks = "–".join(dict.fromkeys((str(row["k_low"]), str(row["k_high"]))))
    return f"{names}, k {ks}, I = {row['n_instructions']:,}"


def chart(frame: "pd.DataFrame", summary: dict[str, Any], published: list[dict[str, Any]]) -> "alt.TopLevelMixin":
    """Trained on (rows) against tested on (columns), the columns of a row's own classes and k framed."""
    from labkit import show

    drawn = {cell["column"] for cell in summary["cells"]}
    return show.heat_map(
        summary["cells"],
        x="column",
        y="row",
        outlined="own",
        x_order=[name for name in COLUMNS.values() if name in drawn],
        x_label="tested on fresh inputs of training rules, and on rules never seen (framed: of a trained class and k)",
        title=finding(summary),
        subtitle=f"Mean over {max(row['seeds'] for row in summary['rows'])} seed(s); below it the 95 % interval",
    )


def finding(summary: dict[str, Any]) -> str:
    """What the matrix shows at the first range and number of rules: the extremes of one, two and three classes."""
    first = summary["rows"][0]
    main = [row for row in summary["rows"] if all(row[dial] == first[dial] for dial in DIALS)]
    parts = []
    for classes, name in enumerate(("one class", "two classes", "all three"), 1):
        if rows := sorted((row for row in main if row["classes"] == classes), key=lambda row: row["outside"]):
            ends = dict.fromkeys(interval(row["outside"], row["outside_ci95"]) for row in (rows[0], rows[-1]))
            parts.append(f"{' to '.join(ends)} from {name}")
    lazy = sum(row["not_learned"] for row in summary["rows"])
    warning = f" ({lazy} models have not learned their own training rules)" if lazy else ""
    asked = "at lower k and on unconstrained rules" if any(row["lower_k"] for row in main) else "on unconstrained rules"
    return f"Accuracy {asked}: {'; '.join(parts)}{warning}"


def compare(summary: dict[str, Any], published: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each published statement beside the rows that it speaks of.

    "Generalises" means here an accuracy of at least `GENERALISES` over lower k and unconstrained rules (`outside`); the
    whole interval must lie on one side of it for a verdict. A row whose models have not learned their training rules
    does not show that it cannot. Of the mixtures that are said to generalise one row is enough, because ranges that are
    too narrow are excepted.
    """
    table = []
    for record in published:
        limit, never = record.get("n_instructions"), record.get("side") != "above"
        rows = [
            row
            for row in summary["rows"]
            if row["classes"] in record.get("classes", (1, 2, 3))
            and (limit is None or row["n_instructions"] == limit or (row["n_instructions"] < limit) == never)
        ]
        reached = any(row["outside_ci95"][0] >= GENERALISES for row in rows)
        missed = all(row["outside_ci95"][1] < GENERALISES and not row["not_learned"] for row in rows)
        verdict = "not decided" if reached == missed else ("no", "yes")[reached != never]
        if not reached and all(row["not_learned"] for row in rows):
            verdict = "not tested here"
        told = [f"{row['label']}: {interval(row['outside'], row['outside_ci95'])}" for row in rows]
        told = [words + " (not learned)" * (row["not_learned"] > 0) for words, row in zip(told, rows, strict=True)]
        table.append(
            {
                "published": record["statement"],
                "ours": "; ".join(told) or "not tried",
                "agrees": verdict,
                "source": f"{record['source']}, {record['figure']}",
            }
        )
    return table


def summary_table(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """A row a row of the matrix: accuracy on training rules, outside the trained spaces, and on unconstrained rules."""
    exams = {"training rules": "seen", "unconstrained, lower k (if any)": "outside", "unconstrained": "unconstrained"}
    rest = {"seeds": "seeds", "not learned": "not_learned", "interval over": "interval_over"}
    return [
        {
            "trained on": row["label"],
            **{f"{words} [95 %]": interval(row[exam], row[f"{exam}_ci95"]) for words, exam in exams.items()},
            **{words: row[name] for words, name in rest.items()},
        }
        for row in summary["rows"]
    ]


def describe(row: dict[str, Any]) -> str:
    """A row in a few words."""
    unseen, seen = row["accuracy_unconstrained"], row["accuracy_seen"]
    return (
        f"{_label(row)} seed={row['seed']}: unconstrained {unseen:.3f}, seen {seen:.3f}, {row['train_seconds']:.0f} s"
    )


def notes(params: Params) -> list[str]:
    """What was decided for the person: examples that are not seen, and spaces too small for an even share."""
    said = symbolic.drawn_note(params, params.budget)
    for cell in points(params):
        given = shares(task_of(cell), _spaces(dict(cell), cell.pattern_length), cell.n_instructions, seed=cell.seed)
        most = max(given.values())
        if few := [f"{space}: {n}" for space, n in given.items() if n < most - 1]:
            said.append(
                f"{_label(dict(cell))}, seed {cell.seed}: {', '.join(few)} rules, which is all that these spaces hold; "
                f"the others give {most} or one fewer each, so that the number is met exactly"
            )
    return said


STUDY = Study(
    name=NAME,
    question="Does training on constrained kinds of rules teach to follow rules that are not constrained?",
    paper="Zhang, Wang and Charton 2024: arXiv 2410.04717 (Fig. 4) and 2402.10891",
    minutes={
        "smoke": "under 1 minute",
        "laptop": "6 to 9 minutes on two cores (estimated)",
        "paper": "days of a GPU (estimated, not run)",
    },
    scales=SCALES,
    Params=Params,
    points=points,
    measure=measure,
    summarise=summarise,
    chart=chart,
    finding=finding,
    compare=compare,
    summary_table=summary_table,
    describe=describe,
    notes=notes,
    measure_many=measure_many,
)
