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

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from labkit.design import allocate
from labkit.instructions import draw_rules
from labkit.learn.learner import encoded
from labkit.studies.cell import cells
from labkit.studies.lesson import Exam, Lesson
from labkit.studies.params import about, check_counts, drawn_note
from labkit.studies.rewriting import RewritingCell, RewritingParams, check_rules, evenly, lesson, simplest, task_of
from labkit.studies.study import Results, Study
from labkit.studies.views import Curve, ranged

if TYPE_CHECKING:
    import pandas as pd

VARIED = 13  # stream of a seed


class Params(RewritingParams):
    """What a person may set; see `catalogue.yaml` for the values each scale gives."""

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
        check_counts("n_instructions", self.n_instructions, self.budget)
        return self


class Cell(RewritingCell):
    """One model: everything its result depends on; `varied` is the mixture of the exam that all models sit."""

    study: Literal["input_variety"] = "input_variety"
    version: Literal[2] = 2
    varied: tuple[int, ...]

    def lesson(self) -> Lesson:
        """The budget spread evenly over the rules, and the exam of varied inputs besides the usual two."""
        own = lesson(self, allocate(self.budget, self.n_instructions))
        task = task_of(self, self.varied)
        varied = evenly(self, draw_rules(task, self.test_rules, seed=self.seed, split="test"), VARIED, task)
        kinds = {f"x{times}": self._occurrences(varied) == times for times in self.varied}
        return own._replace(exams={**own.exams, "varied": varied._replace(kinds={**varied.kinds, **kinds})})

    def _occurrences(self, exam: Exam) -> NDArray[np.int64]:
        """How often x occurs in each input, from left to right without overlap: [N]."""
        p, start = self.pattern_length, 2 * self.pattern_length + 2
        rows = [bytes(row) for row in encoded(exam.data).tokens]
        return np.array([row[start : start + self.input_length].count(row[:p]) for row in rows])


def points(params: Params) -> Sequence[Cell]:
    """A cell for each number of rules, occurrence and seed; seeds outermost."""
    every = sorted({n for one in params.variety for n in (one if isinstance(one, tuple) else (one,))})
    dials = [
        {"n_instructions": n, "occurrences": occurrences, "seed": seed, "varied": tuple(every)}
        for seed in params.seeds
        for n in sorted(params.n_instructions, reverse=True)
        for occurrences in params.variety
    ]
    return cells(Cell, params, dials)


def named(occurrences: Any) -> str:
    """`1`, `10` or, of a mixture, `mixed 1, 5, 10`."""
    return f"mixed {', '.join(map(str, occurrences))}" if isinstance(occurrences, list | tuple) else str(occurrences)


def columns(rows: "pd.DataFrame") -> "pd.DataFrame":
    """Training inputs by their name, and whether they are a mixture."""
    trained = rows["occurrences"].map(named)
    return rows.assign(trained=trained, mixed=trained.str.startswith("mixed"))


def curve(title: str, exams: Mapping[str, str]) -> Curve:
    """Accuracy on unseen rules along the number of rules, a curve per kind of training input."""
    return Curve(
        title=title, exams=exams, x="n_instructions", x_label="Number of training rules", by="trained",
        by_name="x occurs in training", beside={"mixed": "a mixture"}, y_label="Accuracy on unseen rules",
    )  # fmt: skip


NUMBERS = {f"varied:x{times}": f"{times} in the exam" for times in range(1, 21)}
VIEWS = {
    "varied": curve("Unseen rules, on varied inputs", {"varied": "varied inputs"}),
    "own": curve("Unseen rules, on inputs like those of the model's training", {"unseen": "inputs like its own"}),
    "numbers": curve("Unseen rules, by how often x occurs in the exam", NUMBERS),
    "seen": curve("Training rules", {"seen": "training rules"}),
}


def finding(results: Results) -> str:
    """What the study shows, in one sentence with its intervals."""
    lines = results["varied"].lines("varied")
    most = max(line["n_instructions"] for line in lines)
    best = sorted((line for line in lines if line["n_instructions"] == most), key=lambda line: -line["mean"])
    parts = "; ".join(f"{line['trained']}: {ranged(line)}" for line in best)
    return f"Trained on {most:,} rules, accuracy on varied inputs of unseen rules by occurrences of x: {parts}"


def side_by_side(results: Results) -> list[dict[str, Any]]:
    """The paper's Table 1 and ours in its form: one row per kind of training input, one column per number of rules."""
    theirs = [
        ("published", record["occurrences"], record["n_instructions"], f"{record['accuracy_unseen']:.2f}")
        for record in results.published
        if record["kind"] == "value"
    ]
    lines = results["varied"].lines("varied")
    ours = [("ours, varied inputs", line["trained"], line["n_instructions"], ranged(line)) for line in lines]
    columns = [f"I = {n:,}" for n in sorted({n for *_, n, _ in theirs + ours}, reverse=True)]
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for table, trained, n, accuracy in theirs + ours:
        row = rows.setdefault((table, trained), dict.fromkeys(columns, ""))
        row[f"I = {n:,}"] = accuracy
    return [{"table": table, "x occurs in training": trained, **row} for (table, trained), row in rows.items()]


STUDY = Study(
    **about("input_variety"),
    Params=Params,
    points=points,
    dials={"n_instructions": "rules", "occurrences": "x occurs"},
    views=VIEWS,
    finding=finding,
    notes=lambda params: drawn_note(params, params.budget),
    columns=columns,
    tables={"Beside the paper's Table 1": side_by_side},
)
