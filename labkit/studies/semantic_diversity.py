"""Semantic diversity: does training on constrained kinds of rules teach to follow rules that are not constrained?

Training rules come from one, two or three constrained spaces (`labkit.instructions.spaces`: repeated, periodic,
mirror) at some k; each model is graded on unseen rules of every class at lower, the same and higher k, and on rules
without any constraint. The result is a matrix: trained on (rows) against tested on (columns).

A model enters the matrix if it passes the gate: it answers fresh inputs of its own training rules (`LEARNED`). Of a row
that no seed passes the models are shown as not learned, and no claim rests on them.

Source: Zhang, Wang, Charton, arXiv 2410.04717, Figure 4; 2402.10891. What differs at `laptop` scale: patterns of 12
and inputs of 14 letters (paper: 60 and 500), so that at k = 3 to 6 four to two letters are free (paper: twenty or
fewer); this lab's learner. As in the paper, training starts at k = 3, and k = 2 and unconstrained rules are never
trained on. At every scale k divides the pattern length (the papers do not say what they do with one that does not), and
the number of training examples, the batch size and the part of the mixture that each k gets are ours.
"""

from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field, field_validator, model_validator

from labkit import learn
from labkit.design import allocate
from labkit.errors import BadRequest
from labkit.instructions import spaces
from labkit.instructions.rewriting import Split
from labkit.instructions.spaces import KINDS, Space, capacity, divisors, draw_space_rules, mixture, shares
from labkit.studies.cell import cells
from labkit.studies.lesson import Lesson
from labkit.studies.params import about, check_asked, check_counts, drawn_note
from labkit.studies.rewriting import UNSEEN, RewritingCell, RewritingParams, evenly, task_of, taught
from labkit.studies.study import Results, Study
from labkit.studies.views import Matrix, ranged

if TYPE_CHECKING:
    import pandas as pd

BANDS = ("lower", "same", "higher")
OUTSIDE = [*(f"{kind}_lower" for kind in KINDS), "unconstrained"]  # what the paper asks about
COLUMNS = {"seen": "training rules"} | {f"{kind}_{band}": f"{kind}, {band} k" for kind in KINDS for band in BANDS}
COLUMNS |= {"one_letter": "one letter, k = length", "unconstrained": "unconstrained"}

OUTSIDE_LABEL = "lower k (if any) and unconstrained"
ROW = ("n_instructions", "k_low", "k_high", "mixture")

ALL = ["+".join(kinds) for size in (1, 2, 3) for kinds in combinations(KINDS, size)]


class Params(RewritingParams):
    """What a person may set; see `catalogue.yaml` for the values each scale gives."""

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
        check_asked(self.n_test, test_rules=self.test_rules)
        check_counts("n_instructions", self.n_instructions, self.budget)
        for dials in _dials(self):
            shares(task, _spaces(dials, self.pattern_length), dials["n_instructions"], seed=dials["seed"])
        return self


class Cell(RewritingCell):
    """One model: everything its result depends on."""

    study: Literal["semantic_diversity"] = "semantic_diversity"
    version: Literal[3] = 3
    mixture: str
    k_low: int
    k_high: int
    noop_share: float = 0.0

    def lesson(self) -> Lesson:
        """The budget spread evenly over the rules; exams on training rules, unconstrained ones, and every column.

        At a k that is trained on, unseen rules are those of the test split, for classes that are not trained on, too;
        the other spaces share no string with the trained ones.
        """
        task, p, seed = task_of(self), self.pattern_length, self.seed
        rules = draw_space_rules(task, _spaces(dict(self), p), self.n_instructions, seed=seed).rules
        lesson = taught(self, rules, allocate(self.budget, len(rules)))
        exams = dict(lesson.exams)
        columns: dict[str, tuple[tuple[Space, ...], Split | None]] = {"unconstrained": ((spaces.UNCONSTRAINED,), None)}
        for kind in KINDS:
            ends = (2, self.k_low - 1), (self.k_low, self.k_high), (self.k_high + 1, p)
            for band, (low, high) in zip(BANDS, ends, strict=True):
                if ks := [k for k in divisors(p, low, high) if band == "same" or k < p]:
                    columns[f"{kind}_{band}"] = (mixture([kind], ks), "test" if band == "same" else None)
        if self.k_high < p:  # one letter over and over: the same strings in every class
            columns["one_letter"] = ((Space("repeated", p),), None)
        for stream, (name, (drawn_from, split)) in enumerate(columns.items(), UNSEEN):
            there = sum(capacity(task, space, split, seed) for space in drawn_from)
            if there:
                unseen = draw_space_rules(task, drawn_from, min(there, self.test_rules), seed=seed, split=split).rules
                exam = evenly(self, unseen, stream)
                strings, of = np.unique(unseen.x, axis=0, return_inverse=True)  # rules of one x are not independent
                exams[name] = exam._replace(instruction=of.reshape(-1)[exam.instruction], n_instructions=len(strings))
        return lesson._replace(exams=exams)


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
    return cells(Cell, params, _dials(params))


def label(row: Mapping[str, Any]) -> str:
    """A row's name in the picture."""
    names = "all three" if row["mixture"] == ALL[-1] else row["mixture"].replace("+", " + ")
    ks = "–".join(dict.fromkeys((str(row["k_low"]), str(row["k_high"]))))
    return f"{names}, k {ks}, I = {row['n_instructions']:,}"


def framed(row: Mapping[str, Any], exam: str) -> bool:
    """A cell of a class and of the k that the row was trained on."""
    kind, _, band = exam.partition("_")
    return band == "same" and kind in row["mixture"]


def passed(rows: "pd.DataFrame") -> "pd.Series[bool]":
    """The models that passed the gate; where no seed of a row did, all of them, so that the row is seen to fail."""
    learned = rows["learned"].astype(bool)
    return learned | ~learned.groupby([rows[dial] for dial in ROW]).transform("any")


def columns(rows: "pd.DataFrame") -> "pd.DataFrame":
    """How many classes a row was trained on."""
    return rows.assign(classes=rows["mixture"].str.count(r"\+") + 1)


VIEWS = {
    "matrix": Matrix(
        title="Trained on (rows) against tested on (columns)",
        caption="Framed: unseen rules of a class and of k that the row was trained on. Models that passed the gate.",
        where=passed, dials=(*ROW, "classes"), label=label, exams=COLUMNS, framed=framed, pools={"outside": OUTSIDE},
        main={"seen": "training rules", "outside": OUTSIDE_LABEL, "unconstrained": "unconstrained"},
        x_label="tested on fresh inputs of training rules, and on rules never seen",
    )
}  # fmt: skip
VIEWS["gate"] = replace(
    VIEWS["matrix"], title="The gate: fresh inputs of training rules, every model", caption="Every model.", where=None,
    exams={"seen": COLUMNS["seen"]}, main={}, x_label="tested on fresh inputs of training rules",
)  # fmt: skip


def finding(results: Results) -> str:
    """What the matrix shows at the first range and number of rules: the extremes of one, two and three classes.

    Of the models that passed the gate alone.
    """
    lines = results["matrix"].lines("outside")
    at = {dial: lines[0][dial] for dial in ROW[:-1]}
    first = [line for line in results["matrix"].lines("outside", **at) if not line["not_learned"]]
    parts = []
    for classes, name in enumerate(("one class", "two classes", "all three"), 1):
        if chosen := sorted((line for line in first if line["classes"] == classes), key=lambda line: line["mean"]):
            ends = dict.fromkeys(ranged(line) for line in (chosen[0], chosen[-1]))
            parts.append(f"{' to '.join(ends)} from {name}")
    lower = any(results["matrix"].lines(exam, **at) for exam in OUTSIDE[:-1])
    asked = "at lower k and on unconstrained rules" if lower else "on unconstrained rules"
    return f"Accuracy {asked}: {'; '.join(parts) or 'no model passed the gate'}"


def notes(params: Params) -> list[str]:
    """What was decided for the person: examples that are not seen, and spaces too small for an even share."""
    said = drawn_note(params, params.budget)
    for cell in points(params):
        given = shares(task_of(cell), _spaces(dict(cell), cell.pattern_length), cell.n_instructions, seed=cell.seed)
        most = max(given.values())
        if few := [f"{space}: {n}" for space, n in given.items() if n < most - 1]:
            said.append(
                f"{label(dict(cell))}, seed {cell.seed}: {', '.join(few)} rules, which is all that these spaces hold; "
                f"the others give {most} or one fewer each, so that the number is met exactly"
            )
    return said


STUDY = Study(
    **about("semantic_diversity"),
    Params=Params,
    points=points,
    dials={"mixture": "trained on", "k_low": "k from", "k_high": "to", "n_instructions": "rules"},
    views=VIEWS,
    finding=finding,
    notes=notes,
    columns=columns,
)
