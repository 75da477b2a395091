"""Diversity sweep: how many different instructions must training hold before unseen ones are followed?

The budget of examples is fixed and spread evenly over I rewriting rules x -> y; a small transformer is trained from
scratch for each I and seed, and graded twice: on fresh inputs of rules that it was trained on (*seen*), and on rules
whose x and y never occurred in training (*unseen*). Seen high and unseen low: it has learned, and does not generalise.
Seen low: it has not learned yet. Beside the main design, in whose inputs x always occurs, models learn from inputs of
which a share are *no-ops*: x does not occur, and the answer is the input. They are graded on both kinds apart. Further
models learn from longer inputs, at the numbers of rules in `length_counts`; each is graded on inputs of its own length.

Source: Zhang, Wang, Charton, arXiv 2402.10891, 2405.19787 and 2410.04717 (Figures 2a and 2b). What differs at `laptop`
scale: shorter patterns and inputs, fewer examples, and this lab's own learner (`labkit.learn.fast`). The paper's second
dial turns input and pattern together (50 and 20, 100 and 40, 200 and 50 letters), as `paper` scale does; at `laptop`
scale the input alone grows, so that one thing changes at a time.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from labkit import grade
from labkit.design import allocate
from labkit.errors import BadRequest
from labkit.studies import searched
from labkit.studies.cell import cells
from labkit.studies.lesson import Lesson
from labkit.studies.params import about, check_counts, drawn_note
from labkit.studies.rewriting import RewritingCell, RewritingParams, check_rules, lesson, simplest, task_of
from labkit.studies.study import Results, Study
from labkit.studies.views import Curve, Fit

if TYPE_CHECKING:
    import pandas as pd


class Params(RewritingParams):
    """What a person may set; see `catalogue.yaml` for the values each scale gives."""

    groups: ClassVar = RewritingParams.groups | {
        "noops": ("noop_share", "noop_shares", "noop_counts", "noop_seeds"),
        "longer": ("input_lengths", "length_counts", "length_seeds"),
    }

    n_instructions: list[int] = Field(min_length=1, description="numbers of training rules I, one model each")
    search: int = Field(default=0, ge=0, le=searched.MOST, description="models of a search for the step; 0: the grid")
    occurrences: int | tuple[int, ...] = Field(description="how often x occurs in z; a list mixes them evenly")
    noop_share: float = Field(default=0.0, ge=0, le=1, description="share of examples in which x does not occur")
    noop_shares: list[float] = Field(description="shares of no-ops that are tried beside; [] for none")
    noop_counts: list[int] = Field(description="the numbers of training rules that they are tried at")
    noop_seeds: int = Field(default=1, ge=1, description="how many of the seeds they are tried with")
    input_lengths: list[int | tuple[int, int]] = Field(
        description="further lengths of the input, or of input and pattern, that are tried beside; [] for none"
    )
    length_counts: list[int] = Field(description="the numbers of training rules that they are tried at")
    length_seeds: int = Field(default=1, ge=1, description="how many of the seeds they are tried with")

    @model_validator(mode="after")
    def _together(self) -> "Params":
        counts = self.n_instructions + (self.noop_counts if self.noop_shares else [])
        for share in [self.noop_share, *self.noop_shares]:
            if not 0 <= share <= 1:
                raise BadRequest(f"noop_shares = {self.noop_shares}: a share lies between 0 and 1")
            check_rules(self, task_of(self, noop_share=share), max(counts))
        lengths = [_sizes(self, length) for length in self.input_lengths]
        if lengths and not self.length_counts:
            raise BadRequest("length_counts = []: input_lengths need a number of training rules to be tried at")
        for sizes in lengths:
            longer = self.model_copy(update=sizes)
            check_rules(longer, task_of(longer), max(self.length_counts))
        check_counts("n_instructions", counts + self.length_counts * bool(lengths), self.budget)
        searched.check(self)
        return self


class Cell(RewritingCell):
    """One model: everything its result depends on."""

    study: Literal["diversity_sweep"] = "diversity_sweep"
    version: Literal[3] = 3

    def lesson(self) -> Lesson:
        """The budget spread evenly over the rules."""
        return lesson(self, allocate(self.budget, self.n_instructions))


def _sizes(params: Params, length: int | tuple[int, int]) -> dict[str, int]:
    """The sizes of a further length: the pattern stays, unless it is named."""
    both = length if isinstance(length, tuple) else (length, params.pattern_length)
    return dict(zip(("input_length", "pattern_length"), both, strict=True))


def points(params: Params) -> Sequence[Cell]:
    """A cell for each number of instructions and seed; then for each share of no-ops and each further length.

    Seeds are outermost and many instructions come first, so that a first whole curve comes early.
    """
    common = {"occurrences": simplest(params.occurrences)}
    if params.search:
        return _main(params, searched.first(params))
    main = [(n, seed) for seed in params.seeds for n in sorted(params.n_instructions, reverse=True)]
    noops = [
        {"n_instructions": n, "seed": seed, "noop_share": share, **common}
        for seed in params.seeds[: params.noop_seeds]
        for share in params.noop_shares
        for n in sorted(params.noop_counts, reverse=True)
    ]
    longer = [
        {"n_instructions": n, "seed": seed, "noop_share": params.noop_share, **common, **_sizes(params, length)}
        for seed in params.seeds[: params.length_seeds]
        for length in params.input_lengths
        for n in params.length_counts
    ]
    return list(dict.fromkeys(_main(params, main) + cells(Cell, params, noops + longer)))


def _main(params: Params, places: searched.Places) -> list[Cell]:
    """Cells of the main design at some numbers of rules and seeds."""
    shared = {"noop_share": params.noop_share, "occurrences": simplest(params.occurrences)}
    return cells(Cell, params, [{"n_instructions": n, "seed": seed, **shared} for n, seed in places])


def search(params: Params, rows: "pd.DataFrame") -> list[Cell]:
    """The next model of a search, a cell of the grid, too; none where none is asked for."""
    return _main(params, searched.following(params, rows))


def transition(counts: Sequence[float], answers: list[list[grade.Counts]]) -> Fit:
    """Where generalisation sets in: a logistic in log10 of the number of instructions (`grade.fit_transition`)."""
    fit = grade.fit_transition([int(n) for n in counts], answers)
    if not fit.located:
        return Fit(f"no transition is located: {fit.note}", fit.as_dict())
    low, high = fit.as_dict()["ci95"]
    where = f"half of the plateau is reached at about {fit.midpoint:,.0f} training rules"
    several = max(map(len, answers)) > 1  # models per number of rules, each of another seed
    return Fit(where + f" (95 % interval {low:,.0f} to {high:,.0f})" * several, fit.as_dict())


def main_design(rows: "pd.DataFrame") -> "pd.Series[bool]":
    """The rows of the first share of no-ops and the first sizes: `points` puts the main design first."""
    return _usual(rows, "noop_share") & _usual(rows, "input_length")


def _usual(rows: "pd.DataFrame", dial: str) -> "pd.Series[bool]":
    return rows[dial] == rows[dial].iloc[0]


def no_ops(rows: "pd.DataFrame") -> "pd.Series[bool]":
    """The rows at the numbers of rules at which no-ops were tried."""
    tried = rows.loc[rows["noop_share"] > 0, "n_instructions"]
    return _usual(rows, "input_length") & rows["n_instructions"].isin(tried.unique())


def lengths(rows: "pd.DataFrame") -> "pd.Series[bool]":
    """The rows at the numbers of rules at which further lengths were tried."""
    tried = rows.loc[~_usual(rows, "input_length"), "n_instructions"]
    return _usual(rows, "noop_share") & rows["n_instructions"].isin(tried.unique())


def kinds_apart(rows: "pd.DataFrame") -> "pd.DataFrame":
    """An exam of which all inputs hold x, or none does, is of one kind: it is listed under that kind, too."""
    import pandas as pd

    single = rows[(rows["key"] == "unseen") & rows["noop_share"].isin([0, 1])]
    kind = single["noop_share"].map({0: "op", 1: "noop"})
    return pd.concat([rows, single.assign(kind=kind, key="unseen:" + kind)], ignore_index=True)


RULES: dict[str, Any] = {"x": "n_instructions", "x_label": "Number of training rules"}
VIEWS = {
    "growth": Curve(
        title="Accuracy on training rules and on unseen rules",
        caption="Filled marks are means with their 95 % intervals, hollow marks single models.",
        exams={"unseen": "unseen rules", "seen": "training rules"},
        where=main_design,
        fit=transition,
        **RULES,
    ),
    "no-ops": Curve(
        title="Unseen rules, by the share of inputs in which x does not occur",
        exams={"unseen:op": "x occurs in the input", "unseen:noop": "x does not occur: a no-op"},
        by="noop_share",
        by_name="no-ops in training",
        by_label=lambda share: f"{share:.0%}",
        where=no_ops,
        **RULES,
    ),
    "lengths": Curve(
        title="Longer inputs",
        x="input_length",
        x_label="Letters in the input",
        exams={"unseen": "unseen rules", "seen": "training rules"},
        by="n_instructions",
        by_name="training rules",
        by_label="{:,}".format,
        beside={"pattern_length": "letters in x"},
        where=lengths,
    ),
}


def finding(results: Results) -> str:
    """What the sweep shows, in one sentence with its interval."""
    return f"On unseen rules, {results.fit('growth').sentence}"


def notes(params: Params) -> list[str]:
    """What was decided for the person."""
    uneven = [n for n in params.n_instructions if params.budget % n]
    return drawn_note(params, params.budget) + [
        f"budget = {params.budget} is not a multiple of {n} instructions: {params.budget % n} of them get "
        f"{params.budget // n + 1} examples and the others {params.budget // n}, so that the budget is met exactly"
        for n in uneven
    ]


STUDY = Study(
    **about("diversity_sweep"),
    Params=Params,
    points=points,
    dials={"n_instructions": "rules", "noop_share": "no-ops", "input_length": "input"},
    views=VIEWS,
    finding=finding,
    notes=notes,
    columns=kinds_apart,
    stages=[search] * searched.MOST,
    published=["diversity_sweep", "no_ops"],
)
