"""Input variety: does it help to see the pattern occur often, or differently often, in the training inputs?

Only the leftmost x is to be replaced. Models differ in how often x occurs in their training inputs: a fixed number of
times, or a mixture in equal parts. Each is graded on unseen rules twice: on inputs like its own (`unseen`), and on
inputs in which x occurs as often as any of the designs lets it, in equal parts (`varied`), the same for all models and
also graded by how often x occurs. Where the mixture is of all these numbers, the varied exam is like its own training
inputs and unlike everyone else's: that it does best on the whole of it is then no surprise, but where it does worse or
better on single numbers than a design of just that number is.

At laptop scale four patterns of 3 fill an input of 12, so that the design of four occurrences sees nothing but x.

Source: Zhang, Wang, Charton, arXiv 2402.10891, Table 1. The paper states neither the input length nor how often x
occurs in its test inputs; `paper` scale takes inputs of 500, as its study of semantic diversity does.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from labkit.design import allocate
from labkit.errors import BadRequest
from labkit.instructions import draw_rules
from labkit.lab import Record
from labkit.studies import symbolic
from labkit.studies.contract import Study
from labkit.studies.rewriting import (
    PAPER,
    SMALL,
    RewritingCell,
    RewritingParams,
    check_rules,
    draw_exam,
    lesson,
    simplest,
    spread,
    task_of,
)
from labkit.studies.symbolic import interval

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

NAME = "input_variety"
VARIED = 13  # stream of a seed
SOME = 0.05  # accuracy from which any design can be said to be ahead

LONGER = {**SMALL, "input_length": 12}
SCALES: dict[str, dict[str, Any]] = {
    "smoke": {
        **LONGER,
        "n_instructions": [20, 200],
        "variety": [1, [1, 4]],
        "seeds": [0],
        "budget": 600,
        "steps": 20,
        "batch_size": 32,
        "test_rules": 50,
        "n_test": 100,
    },
    "laptop": {
        **LONGER,
        "n_instructions": [300, 1000],
        "variety": [1, 2, 4, [1, 2, 3, 4]],
        "seeds": [0, 1],
    },
    "paper": {
        **PAPER,
        "input_length": 500,
        "n_instructions": [200, 500, 1000, 2000],
        "variety": [1, 5, 10, 15, 20, [1, 5, 10, 15, 20]],
        "seeds": [0, 1, 2],
    },
}


class Params(RewritingParams):
    """What a person may set; see `SCALES` for the values each scale gives."""

    n_instructions: list[int] = Field(min_length=1, description="numbers of training rules I")
    variety: list[int | tuple[int, ...]] = Field(
        min_length=1, description="how often x occurs in the training inputs: numbers, or lists mixed in equal parts"
    )
    noop_share: float = Field(default=0.0, ge=0, lt=1, description="share of examples in which x does not occur")

    @field_validator("variety")
    @classmethod
    def _in_order(cls, variety: list[int | tuple[int, ...]]) -> list[int | tuple[int, ...]]:
        return [simplest(tuple(sorted(set(one))) if isinstance(one, tuple) else one) for one in variety]

    @model_validator(mode="after")
    def _together(self) -> "Params":
        for occurrences in self.variety:
            check_rules(self, task_of(self, occurrences), max(self.n_instructions))
        for n in self.n_instructions:
            if n < 1:
                raise BadRequest(f"n_instructions = {n}: at least 1 is needed")
            allocate(self.budget, n)
        return self


class Cell(RewritingCell):
    """One model: everything its result depends on; `varied` is the mixture of the exam that all models sit."""

    study: Literal["input_variety"] = "input_variety"
    version: Literal[1] = 1
    varied: tuple[int, ...]


def points(params: Params) -> list[Cell]:
    """A cell for each number of rules, occurrence and seed; seeds outermost."""
    every = sorted({n for one in params.variety for n in (one if isinstance(one, tuple) else (one,))})
    dials = [
        {"n_instructions": n, "occurrences": occurrences, "seed": seed, "varied": tuple(every)}
        for seed in params.seeds
        for n in sorted(params.n_instructions, reverse=True)
        for occurrences in params.variety
    ]
    return symbolic.cells(Cell, params, dials)


def lesson_of(cell: Cell) -> symbolic.Lesson:
    """The budget spread evenly over the rules, and the exam of varied inputs besides the usual two."""
    own = lesson(cell, allocate(cell.budget, cell.n_instructions))
    task = task_of(cell, cell.varied)
    unseen = draw_rules(task, cell.test_rules, seed=cell.seed, split="test")
    varied = draw_exam(task, unseen, spread(np.arange(cell.test_rules), cell.n_test), cell.seed, VARIED)
    kinds = {f"x{times}": _occurrences(varied, cell) == times for times in cell.varied}
    return own._replace(exams={**own.exams, "varied": varied._replace(kinds={**varied.kinds, **kinds})})


def _occurrences(exam: symbolic.Exam, cell: Cell) -> NDArray[np.int64]:
    """How often x occurs in each input, from left to right without overlap: [N]."""
    p, start = cell.pattern_length, 2 * cell.pattern_length + 2
    rows = [bytes(row) for row in exam.data.tokens]
    return np.array([row[start : start + cell.input_length].count(row[:p]) for row in rows])


def measure(cell: Cell, record: Record) -> dict[str, Any]:
    """Train one model and grade it on its three exams; see `symbolic.measure_many`."""
    return symbolic.measure(cell, record, lesson_of)


def measure_many(cells: Sequence[Cell], records: Sequence[Record]) -> list[dict[str, Any]]:
    """The same for a fleet."""
    return symbolic.measure_many(cells, records, lesson_of)


def named(occurrences: Any) -> str:
    """`1`, `10` or, of a mixture, `mixed 1, 5, 10`."""
    return f"mixed {', '.join(map(str, occurrences))}" if isinstance(occurrences, list | tuple) else str(occurrences)


def summarise(frame: "pd.DataFrame") -> dict[str, Any]:
    """Accuracies by occurrences in training and number of rules, on inputs like the training's and on varied ones."""
    rows = []
    for occurrences in frame["occurrences"].map(named).unique():
        of = frame[frame["occurrences"].map(named) == occurrences]
        for n, group in of.groupby("n_instructions"):
            kinds = [f"varied_x{times}" for times in group["varied"].iloc[0]]
            found = symbolic.estimates(group, ("varied", "unseen", "seen", *kinds))
            rows.append({"occurrences": occurrences, "n_instructions": n, **found})
    return {"cells": rows, "varied": frame["varied"].iloc[0]}


def _chart(frame: "pd.DataFrame", exam: str, title: str) -> "alt.TopLevelMixin":
    from labkit import show

    words = frame.assign(trained=["x occurs: " + named(value) for value in frame["occurrences"]])
    drawn = symbolic.families(words, "n_instructions", "trained", exam)
    return show.growth_chart(
        drawn.frame,
        drawn.curve,
        series=drawn.series,
        y_label="Accuracy on unseen rules (share of test examples)",
        title=title,
    )


def chart(frame: "pd.DataFrame", summary: dict[str, Any], published: list[dict[str, Any]]) -> "alt.TopLevelMixin":
    """Accuracy on varied inputs of unseen rules against the number of rules, a curve a kind of training input."""
    return _chart(frame, "varied", finding(summary))


def own_chart(frame: "pd.DataFrame", summary: dict[str, Any], published: list[dict[str, Any]]) -> "alt.TopLevelMixin":
    """The same on inputs like each model's own training inputs."""
    return _chart(frame, "unseen", "Unseen rules, on inputs like those of the model's training")


def finding(summary: dict[str, Any]) -> str:
    """What the study shows, in one sentence with its intervals."""
    most = max(row["n_instructions"] for row in summary["cells"])
    rows = sorted((r for r in summary["cells"] if r["n_instructions"] == most), key=lambda row: -row["varied"])
    told = "; ".join(f"{row['occurrences']}: {interval(row['varied'], row['varied_ci95'])}" for row in rows)
    lazy = sum(row["not_learned"] for row in summary["cells"])
    warning = f" ({lazy} models have not learned their own training rules)" if lazy else ""
    return f"Trained on {most:,} rules, accuracy on varied inputs of unseen rules by occurrences of x: {told}{warning}"


def compare(summary: dict[str, Any], published: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The published claim that mixed inputs do best, number of rules by number of rules, beside ours.

    The paper's numbers of rules and of occurrences are not ours, so cell is not set against cell: what is compared is
    whether, at each number of rules, the mixture is ahead of every fixed number by more than the intervals.
    """
    theirs: dict[int, dict[str, float]] = {}
    for record in published:
        theirs.setdefault(record["n_instructions"], {})[record["occurrences"]] = record["accuracy_unseen"]
    told = "; ".join(
        f"{n:,} rules: " + ", ".join(f"{times} {score:.2f}" for times, score in scores.items())
        for n, scores in theirs.items()
    )
    verdicts, ours = [], []
    for n in sorted({row["n_instructions"] for row in summary["cells"]}, reverse=True):
        rows = {row["occurrences"]: row for row in summary["cells"] if row["n_instructions"] == n}
        mixed = [row for name, row in rows.items() if name.startswith("mixed")]
        fixed = [row for name, row in rows.items() if not name.startswith("mixed")]
        if mixed and fixed and max(row["varied"] for row in rows.values()) >= SOME:
            low, high = mixed[0]["varied_ci95"]
            verdicts.append(
                (low > max(r["varied_ci95"][1] for r in fixed), high < max(r["varied_ci95"][0] for r in fixed))
            )
            ours.append(f"{n:,} rules: " + ", ".join(f"{k} {r['varied']:.3f}" for k, r in rows.items()))
    ahead, behind = ([verdict[i] for verdict in verdicts] for i in (0, 1))
    agrees = "yes" if all(ahead) else "no" if any(behind) else "not decided"
    agrees = agrees if verdicts else "not tested here"
    source = f"{published[0]['source']}, {published[0]['figure']}" if published else ""
    claim = f"mixed occurrences do best wherever any are followed ({told})"
    return [{"published": claim, "ours": "; ".join(ours) or "not tried", "agrees": agrees, "source": source}]


def summary_table(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """A row a kind of training input and number of rules."""
    return [
        {
            "x occurs in training": row["occurrences"],
            "rules": row["n_instructions"],
            "unseen, varied inputs [95 %]": interval(row["varied"], row["varied_ci95"]),
            "unseen, inputs like its own [95 %]": interval(row["unseen"], row["unseen_ci95"]),
            "seen accuracy [95 %]": interval(row["seen"], row["seen_ci95"]),
            "seeds": row["seeds"],
            "not learned": row["not_learned"],
            "interval over": row["interval_over"],
        }
        for row in summary["cells"]
    ]


def by_number(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """A row a kind of training input and number of rules, a column a number of occurrences in the exam."""
    return [
        {
            "x occurs in training": row["occurrences"],
            "rules": row["n_instructions"],
            **{
                f"{times} in the exam": interval(row[f"varied_x{times}"], row[f"varied_x{times}_ci95"])
                for times in summary["varied"]
            },
        }
        for row in summary["cells"]
    ]


def side_by_side(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """Table 1 of the paper and ours in its form: a row a kind of training input, a column a number of rules."""
    from labkit import show

    tables: dict[tuple[str, str], dict[str, str]] = {}
    for record in show.published(NAME):
        row = tables.setdefault(("published", record["occurrences"]), {})
        row[f"I = {record['n_instructions']:,}"] = f"{record['accuracy_unseen']:.2f}"
    for cell in summary["cells"]:
        row = tables.setdefault(("ours, varied inputs", cell["occurrences"]), {})
        row[f"I = {cell['n_instructions']:,}"] = interval(cell["varied"], cell["varied_ci95"])
    columns = sorted(
        {name for row in tables.values() for name in row}, key=lambda name: -int(name[4:].replace(",", ""))
    )
    return [
        {"table": table, "x occurs in training": times, **{name: row.get(name, "") for name in columns}}
        for (table, times), row in tables.items()
    ]


def describe(row: dict[str, Any]) -> str:
    """A row in a few words."""
    return (
        f"I={row['n_instructions']} x occurs {named(row['occurrences'])} seed={row['seed']}: varied "
        f"{row['accuracy_varied']:.3f}, unseen {row['accuracy_unseen']:.3f}, seen {row['accuracy_seen']:.3f}, "
        f"{row['train_seconds']:.0f} s"
    )


def notes(params: Params) -> list[str]:
    """What was decided for the person."""
    return symbolic.drawn_note(params, params.budget)


STUDY = Study(
    name=NAME,
    question="Does it help to see the pattern occur often, or differently often, in the training inputs?",
    paper="Zhang, Wang and Charton 2024: arXiv 2402.10891 (Table 1)",
    minutes={
        "smoke": "under 1 minute",
        "laptop": "6 to 8 minutes on two cores (estimated)",
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
    figures={"Accuracy on unseen rules, on inputs like those of each model's own training.": own_chart},
    tables={"Ours beside Table 1 of the paper": side_by_side, "By how often x occurs in the exam": by_number},
)
