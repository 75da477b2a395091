"""Long tail: how unevenly may examples be spread over the rules before unseen rules are no longer followed?

The number of training examples is fixed, and so is the number of rules; what varies is how unevenly the examples are
spread over them, by a power law (`labkit.design.long_tail`). Each model is graded on unseen rules as in the diversity
sweep. If generalisation hangs on diversity, accuracy should depend on how many rules the set *amounts to*, however it
was spread: the effective number of rules, in several definitions, is put to that test.

A number of rules means little by itself: the paper's models need more rules than ours. So sizes are also told in
multiples of the *threshold*, the number of rules at which the diversity sweep of the same task reaches half of its
plateau, and what was published of a size is held against the size of ours that is nearest in these multiples.

Source: Zhang, Wang, Charton, arXiv 2402.10891, section 4 and Figure 3 (also 2405.19787).
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from labkit.design import allocate_long_tail, hill_number, shares
from labkit.errors import BadRequest
from labkit.instructions import draw_rules
from labkit.studies import rewriting
from labkit.studies.cell import cells
from labkit.studies.explained import Explained
from labkit.studies.lesson import Lesson
from labkit.studies.params import about, drawn_note
from labkit.studies.rewriting import RewritingCell, RewritingParams, check_rules, draw_exam, lesson, spread, task_of
from labkit.studies.study import Results, Study
from labkit.studies.views import Curve, ranged

if TYPE_CHECKING:
    import pandas as pd

RARE = 14  # stream of a seed

EFFECTIVE: Mapping[str, Callable[[Any], float]] = {
    "rules with any example": lambda counts: hill_number(counts, 0),
    "rules with 2 examples or more": lambda counts: int((counts >= 2).sum()),
    "rules with 5 examples or more": lambda counts: int((counts >= 5).sum()),
    "Hill number of order 1/2": lambda counts: hill_number(counts, 0.5),
    "Hill number of order 1 (exponential of the entropy)": lambda counts: hill_number(counts, 1),
    "Hill number of order 2 (1 / chance that two examples share a rule)": lambda counts: hill_number(counts, 2),
}

Alpha = float | Literal["uniform"]


class Params(RewritingParams):
    """What a person may set; see `catalogue.yaml` for the values each scale gives."""

    groups: ClassVar = RewritingParams.groups | {
        "inputs": ("occurrences", "noop_share"),
        "compared": ("threshold", "threshold_from"),
    }

    n_instructions: list[int] = Field(min_length=1, description="numbers of training rules I")
    alphas: list[Alpha] = Field(min_length=1, description="exponents of the power law, or uniform")
    even: list[int] = Field(description="numbers of rules tried evenly spread only, to compare the others with")
    law: Literal["weight", "rank"] = Field(description="what the power law is a density of: rules' weights, or ranks")
    floor: int = Field(ge=0, description="examples that each rule gets before the law shares out the rest")
    occurrences: int | tuple[int, ...] = Field(description="how often x occurs in z; a list mixes them evenly")
    noop_share: float = Field(default=0.0, ge=0, le=1, description="share of examples in which x does not occur")
    threshold: float = Field(gt=0, le=1e9, description="rules at half the plateau in the diversity sweep of this task")
    threshold_from: str = Field(description="where the threshold comes from")

    @model_validator(mode="after")
    def _together(self) -> "Params":
        check_rules(self, task_of(self), max(self.n_instructions + self.even))
        for n, alpha in _sets(self):
            if n < 1:
                raise BadRequest(f"n_instructions = {n}: at least 1 is needed")
            allocate_long_tail(self.budget, n, alpha, law=self.law, floor=self.floor)
        return self


class Cell(RewritingCell):
    """One model: everything its result depends on."""

    study: Literal["long_tail"] = "long_tail"
    version: Literal[3] = 3
    alpha: Alpha
    law: Literal["weight", "rank"]
    floor: int

    def lesson(self) -> Lesson:
        """The budget spread by the law.

        The seen exam asks each rule as often as training did, the rare exam the rarer half of the rules equally often.
        """
        counts = allocate_long_tail(self.budget, self.n_instructions, self.alpha, law=self.law, floor=self.floor)
        about = {"most_frequent": int(counts[0]), "rarest": int(counts[-1]), "median": float(np.median(counts))}
        numbers = np.arange(self.n_instructions)
        usual = np.repeat(numbers, counts)[np.linspace(0, self.budget - 1, self.n_test).round().astype(np.int64)]
        drawn, task = lesson(self, counts, seen=usual), task_of(self)
        rules = draw_rules(task, self.n_instructions, seed=self.seed)
        rare = draw_exam(task, rules, spread(numbers[self.n_instructions // 2 :], self.n_test), self.seed, RARE)
        return drawn._replace(exams={**drawn.exams, "rare": rare}, about={**drawn.about, **about})


def _sets(params: Params) -> list[tuple[int, Alpha]]:
    """The number of rules and the exponent of each training set, from even to uneven."""
    alphas = sorted(params.alphas, key=lambda alpha: -np.inf if alpha == "uniform" else -alpha)
    sets = [(n, alpha) for n in sorted(params.n_instructions, reverse=True) for alpha in alphas]
    return list(dict.fromkeys([*sets, *((n, "uniform") for n in sorted(params.even, reverse=True))]))


def points(params: Params) -> Sequence[Cell]:
    """A cell for each number of rules, exponent and seed; seeds outermost."""
    dials = [
        {"n_instructions": n, "alpha": alpha, "seed": seed, "occurrences": rewriting.simplest(params.occurrences)}
        for seed in params.seeds
        for n, alpha in _sets(params)
    ]
    return cells(Cell, params, dials)


@cache
def worth(budget: int, n: int, alpha: Alpha, law: Any, floor: int) -> dict[str, float]:
    """How many rules a set amounts to, by each definition."""
    counts = allocate_long_tail(budget, n, alpha, law=law, floor=floor)
    return {name: round(float(count(counts)), 1) for name, count in EFFECTIVE.items()}


def published_threshold() -> float:
    """The paper's threshold in rules: the (geometric) middle of the step that it states."""
    from labkit import show

    (step,) = [one["n_instructions"] for one in show.published("diversity_sweep") if one["label"] == "step"]
    return float(np.sqrt(np.prod(step)))


def columns(rows: "pd.DataFrame") -> "pd.DataFrame":
    """What each set is worth, its exponent as a number (uniform beyond the largest), and the middle of its counts.

    And its size for people (`size`), in `thresholds`, and as the number of rules that is as many thresholds in the
    paper (`paper_size`). Rows without a threshold have a `paper_size` of 0, and no claim speaks of them.
    """
    import pandas as pd

    if "threshold" not in rows:
        rows = rows.assign(threshold=np.nan)
    dials = ["budget", "n_instructions", "alpha", "law", "floor"]
    sets = [worth(*one) for one in rows[dials].itertuples(index=False)]
    end = 4 * max((float(alpha) for alpha in rows["alpha"] if alpha != "uniform"), default=0.25)
    place = [end if alpha == "uniform" else float(alpha) for alpha in rows["alpha"]]
    spread = rows[["most_frequent", "median", "rarest"]].map("{:,.0f}".format).agg(", ".join, axis=1)
    times = rows["n_instructions"] / rows["threshold"]
    size = [
        f"{n:,} rules" + f" ({t:.1f} thresholds)" * (t > 0) for n, t in zip(rows["n_instructions"], times, strict=True)
    ]
    more = pd.DataFrame(sets, index=rows.index).assign(place=place, spread=spread, size=size, thresholds=times)
    more["paper_size"] = (times * published_threshold()).round().fillna(0).astype(int)
    return rows.assign(alpha=rows["alpha"].map(str)).join(more)


def several(rows: "pd.DataFrame") -> "pd.Series[bool]":
    """The rows at the numbers of rules that were spread in more than one way."""
    return rows.groupby("n_instructions")["alpha"].transform("nunique") > 1


def spread_curve(title: str, exams: Mapping[str, str], where: Any = None) -> Curve:
    """Accuracy along the exponent, a curve per number of rules; uniform stands at the right end."""
    return Curve(
        title=title, exams=exams, where=where, x="place", x_label="Exponent of the power law (uniform: far right)",
        by="size", by_name="size",
        beside={"n_instructions": "rules", "paper_size": "as many thresholds in the paper: rules",
                "alpha": "alpha", "spread": "examples per rule (most, median, least)"},
    )  # fmt: skip


VIEWS = {
    "worth": Explained(
        title="What a training set is worth", numbers={name: name for name in EFFECTIVE},
        sets=("n_instructions", "alpha"), exam="unseen", exam_label="unseen rules", by="size", by_name="size",
    ),
    "sets": spread_curve(
        "Training sets from even (right) to uneven (left)",
        {"unseen": "unseen rules", "seen": "training rules, as in training", "rare": "training rules, rarer half"},
    ),
    "exponent": spread_curve("Unseen rules by the exponent of the power law", {"unseen": "unseen rules"}, several),
}  # fmt: skip


def finding(results: Results) -> str:
    """What the study shows, in one sentence with its interval."""
    ends = []
    lines = results["sets"].lines("unseen")
    for n in sorted({line["n_instructions"] for line in lines}):
        own = sorted((line for line in lines if line["n_instructions"] == n), key=lambda line: -line["place"])
        if len(own) > 1:
            even, uneven = (f"{ranged(line)} at alpha {line['alpha']}" for line in (own[0], own[-1]))
            ends.append(f"{own[0]['size']}: {even}, {uneven}")
    begins = f"Accuracy on unseen rules, {'; '.join(ends)}. " if ends else ""
    return f"{begins}Of {len(EFFECTIVE)} ways to count what a set is worth, {results.fit('worth').sentence}"


def notes(params: Params) -> list[str]:
    """What was decided for the person."""
    raised = []
    for n, alpha in _sets(params):
        few = int((shares(n, alpha, params.law) * params.budget < 0.5).sum())
        if params.floor and few:
            raised.append(f"{few} of {n} rules at alpha = {alpha}")
    listed = (
        f"the law alone gives less than half an example to {'; '.join(raised)}: floor = {params.floor} gives each one"
    )
    ours, theirs = f"{params.threshold:,.0f} rules here ({params.threshold_from})", f"{published_threshold():,.0f}"
    told = f"a threshold is {ours} and {theirs} in the paper"
    return [told, *drawn_note(params, params.budget), *[listed] * bool(raised)]


STUDY = Study(
    **about("long_tail"),
    Params=Params,
    points=points,
    dials={"n_instructions": "rules", "alpha": "alpha"},
    views=VIEWS,
    finding=finding,
    notes=notes,
    columns=columns,
    marks=lambda params: {"threshold": params.threshold},
)
