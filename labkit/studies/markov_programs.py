"""Markov programs: how many programs must training hold before a program of several rules is followed for n steps?

An instruction is a program, R rewriting rules in order (`labkit.instructions.programs`); the answer is the text after n
steps, or when no rule applies any more ("halt"). The number of training examples is fixed and spread over I programs.
Three dials are turned: I everywhere; R at one number of steps; steps at one R. Each cell trains one model from scratch
and grades it on fresh inputs of its own programs (seen), on programs that share no rule's side with those (unseen), and
on runs of unseen programs that halt one step sooner (`shorter`) or later (`longer`) than any run it was trained on.

Left open: unseen programs are new as wholes and in every side of their rules, but share sides among one another (the
256 texts of two of 16 letters leave some 26 for them), so that intervals over programs err on the narrow side; a run is
not given its number of steps, so that a model of n steps cannot be asked for n + 1.

No paper has this task: it joins the rules and the diversity sweep of arXiv 2402.10891 to Markov's whole algorithms. So
`paper` scale is those papers' model, budget and recipe, with sizes of our own that give a run room for its steps.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from labkit import grade, learn
from labkit.design import allocate
from labkit.errors import BadRequest
from labkit.instructions import decode
from labkit.instructions.programs import Programs, ProgramTask, draw_programs, draw_runs
from labkit.instructions.rewriting import Split
from labkit.lab import Record
from labkit.studies import symbolic
from labkit.studies.contract import Study
from labkit.studies.rewriting import SEEN, TRAINING, UNSEEN, spread
from labkit.studies.symbolic import Exam, Lesson, ModelCell, ModelParams, interval

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

BEYOND = 13  # the stream of a seed that runs of other lengths come from
KINDS = {
    "plain": "neither of the two",
    "ordered": "the order of the rules decides",
    "rewritten": "a step rewrites what another wrote",
}

SMALL: dict[str, Any] = {
    **symbolic.MODEL,
    "rules": [2, 1, 3],
    "run_steps": [1, 2, "halt"],
    "longest": 3,
    "order_share": 0.3,
    "alphabet": "abcdefghijklmnop",
    "pattern_length": 2,
    "input_length": 4,
    "budget": 57_600,
    "steps": 900,
    "test_programs": 100,
    "n_test": 1000,
}
SCALES: dict[str, dict[str, Any]] = {
    "smoke": {
        **SMALL,
        "n_programs": [2, 20, 200],
        "n_beside": [200],
        "seeds": [0],
        "budget": 640,
        "steps": 20,
        "batch_size": 32,
        "test_programs": 40,
        "n_test": 100,
    },
    "laptop": {**SMALL, "n_programs": [30, 100, 300, 3000], "n_beside": [100, 300, 3000], "seeds": [0, 1]},
    "paper": {
        **SMALL,
        **symbolic.PAPER_MODEL,
        "n_programs": [10, 30, 100, 300, 1000, 3000, 10_000, 100_000],
        "n_beside": [10, 30, 100, 300, 1000, 3000, 10_000, 100_000],
        "run_steps": [1, 2, 3, "halt"],
        "seeds": [0, 1, 2],
        "longest": 6,
        "alphabet": "abcdefghijklmnopqrstuvwxyz",
        "pattern_length": 20,
        "input_length": 100,
        "budget": 1_000_000,
        "steps": 50 * 1_000_000 // 512,
        "test_programs": 10_000,
        "n_test": 100_000,
    },
}


class Params(ModelParams):
    """What a person may set; see `SCALES` for the values each scale gives."""

    n_programs: list[int] = Field(min_length=1, description="numbers of training programs I, one model each")
    rules: list[Annotated[int, Field(ge=1, le=100)]] = Field(
        min_length=1, description="rules a program R; the first is the steps dial's"
    )
    run_steps: list[int | Literal["halt"]] = Field(
        min_length=1, description='steps to the answer, or "halt"; the first is the rules dial\'s'
    )
    n_beside: list[int] = Field(description="the numbers of programs that the other rules and steps are tried at")
    longest: int = Field(ge=1, le=1000, description='the most steps of a run to "halt"')
    order_share: float = Field(ge=0, le=1, description="share of inputs whose answer the order of the rules decides")
    alphabet: str = Field(description="the symbols of programs and inputs")
    pattern_length: int = Field(ge=1, le=10000, description="symbols in a rule's left side, and in its right side")
    input_length: int = Field(ge=1, le=10000, description="symbols in the input, and in the answer")
    budget: int = Field(ge=1, le=100000000, description="training examples of a model, spread over its programs")
    test_programs: int = Field(ge=2, le=10000000, description="unseen programs to grade on")

    @model_validator(mode="after")
    def _together(self) -> "Params":
        for n in self.n_programs + self.n_beside:
            if n < 1:
                raise BadRequest(f"n_programs = {n}: at least 1 is needed")
            allocate(self.budget, n)
        if self.n_test < self.test_programs:
            raise BadRequest(f"n_test = {self.n_test} is fewer than test_programs = {self.test_programs}")
        for cell in points(self):
            cell.layout()
            task_of(cell)
        wanted = {"train": max(self.n_programs + self.n_beside), "test": self.test_programs}
        for seed, rules, split in product(self.seeds, self.rules, get_args(Split)):
            task = ProgramTask(rules, 1, self.pattern_length, self.input_length, order_share=0, alphabet=self.alphabet)
            if task.rewriting.capacity(split, seed) < 10 * rules * wanted[split]:  # else there are enough
                draw_programs(task, wanted[split], seed=seed, split=split)  # refuses more than there are
        return self


class Cell(ModelCell):
    """One model: everything its result depends on."""

    study: Literal["markov_programs"] = "markov_programs"
    version: Literal[1] = 1
    n_programs: int
    rules: int
    run_steps: int | Literal["halt"]
    longest: int
    order_share: float
    alphabet: str
    pattern_length: int
    input_length: int
    budget: int
    test_programs: int

    def layout(self) -> learn.Layout:
        widths = 2 * self.pattern_length * self.rules, self.input_length
        return learn.Layout(self.alphabet, widths, self.input_length, names=("program", "input"))


def task_of(cell: Cell) -> ProgramTask:
    """The task of a cell.

    Raises:
        BadRequest: for settings that contradict each other.
    """
    return ProgramTask(
        rules=cell.rules,
        steps=cell.longest if cell.run_steps == "halt" else cell.run_steps,
        pattern_length=cell.pattern_length,
        input_length=cell.input_length,
        halts=cell.run_steps == "halt",
        order_share=cell.order_share,
        alphabet=cell.alphabet,
    )


def points(params: Params) -> list[Cell]:
    """A cell for each number of programs at the first rules and steps, then at the others; seeds outermost."""
    first, *others = [(rules, params.run_steps[0]) for rules in params.rules] + [
        (params.rules[0], steps) for steps in params.run_steps[1:]
    ]
    dials = [
        {"n_programs": n, "rules": rules, "run_steps": steps, "seed": seed}
        for seed in params.seeds
        for settings, counts in (([first], params.n_programs), (others, params.n_beside))
        for rules, steps in settings
        for n in sorted(counts, reverse=True)
    ]
    return symbolic.cells(Cell, params, dials)


def lesson(cell: Cell) -> Lesson:
    """Training examples spread evenly over the programs, and the exams.

    The seen exam asks at most `test_programs` of the training programs, evenly spaced; every exam asks each of its
    programs equally often, and tells the kinds of runs apart (`KINDS`).
    """
    task, n = task_of(cell), cell.n_programs
    programs = draw_programs(task, n, seed=cell.seed)
    unseen = draw_programs(task, cell.test_programs, seed=cell.seed, split="test")
    asked = np.unique(np.linspace(0, n - 1, min(n, cell.test_programs)).round().astype(np.int64))
    every = spread(np.arange(cell.test_programs), cell.n_test)
    exams = {
        "seen": _exam(cell, task, programs, spread(asked, cell.n_test), SEEN),
        "unseen": _exam(cell, task, unseen, every, UNSEEN),
    }
    fewest = 1 if task.halts else task.steps
    for name, steps in (("shorter", fewest - 1), ("longer", task.steps + 1)):
        room = cell.rules * (cell.input_length // cell.pattern_length)
        asked_for = task.halts or name == "shorter"  # after n steps, nothing longer is
        if asked_for and 1 <= steps <= room:
            other = replace(task, halts=True, steps=steps, fewest=steps)
            exams[name] = _exam(cell, other, unseen, every, BEYOND)
    training = _exam(cell, task, programs, np.repeat(np.arange(n), allocate(cell.budget, n)), TRAINING)
    about = {f"share_{kind}": float(which.mean()) for kind, which in training.kinds.items()}
    return Lesson(training.data, exams, about)


def _exam(cell: Cell, task: ProgramTask, programs: Programs, index: NDArray[np.int64], stream: int) -> Exam:
    runs = draw_runs(task, programs, index, seed=np.random.SeedSequence(cell.seed, spawn_key=(stream,)))
    texts = [programs.text(i) for i in range(len(programs))]
    inputs, outputs = ([decode(text, cell.alphabet) for text in of] for of in (runs.input, runs.output))
    data = cell.layout().encode([(texts[i], z) for i, z in zip(index, inputs, strict=True)], outputs)
    plain = ~(runs.ordered | runs.rewritten)
    return Exam(data, index, len(programs), {"plain": plain, "ordered": runs.ordered, "rewritten": runs.rewritten})


def measure(cell: Cell, record: Record) -> dict[str, Any]:
    """Train one model and grade it on its exams; see `symbolic.measure_many`."""
    return symbolic.measure(cell, record, lesson)


def measure_many(cells: Sequence[Cell], records: Sequence[Record]) -> list[dict[str, Any]]:
    """The same for a fleet."""
    return symbolic.measure_many(cells, records, lesson)


def summarise(frame: "pd.DataFrame") -> dict[str, Any]:
    """For each setting of rules and steps: accuracies by number of programs, and where generalisation sets in.

    Intervals resample seeds, and programs within a seed; the transition is a logistic in log10 I.
    """
    settings, curve = [], []
    of_steps = frame["run_steps"].astype(str)
    for rules, steps in sorted(set(zip(frame["rules"].tolist(), of_steps, strict=True))):
        votes, here = [], frame[(frame["rules"] == rules) & (of_steps == steps)]
        tried = sorted(here["n_programs"].unique().tolist())
        for n in tried:
            group = here[here["n_programs"] == n]
            votes.append(symbolic.counts(group, "unseen"))
            exams = ["unseen", "seen", *(f"unseen_{kind}" for kind in KINDS), "shorter", "longer"]
            there = [exam for exam in exams if f"{exam}_right" in group and group[f"{exam}_right"].notna().all()]
            curve.append({"rules": rules, "run_steps": steps, "n_programs": n, **symbolic.estimates(group, there)})
        settings.append({"rules": rules, "run_steps": steps, **grade.fit_transition(tried, votes).as_dict()})
    centre = {"rules": int(frame["rules"].iloc[0]), "run_steps": of_steps.iloc[0]}  # `points` puts it first
    return {"centre": centre, "transitions": settings, "curve": curve}


def _named(row: Any) -> str:
    steps = row["run_steps"]
    return f"R = {row['rules']}, " + ("to halt" if steps == "halt" else f"{steps} step{'s' * (steps != '1')}")


def _told(transitions: list[dict[str, Any]]) -> str:
    """At how many programs each setting generalises, with the intervals."""
    found = [(_named(row), row["midpoint"], row["ci95"]) for row in transitions]
    told = [
        f"{name}: {at:,.0f} [{ci[0]:,.0f}, {ci[1]:,.0f}]" if at else f"{name}: not located" for name, at, ci in found
    ]
    return f"half of the plateau on unseen programs is reached at so many training programs: {'; '.join(told)}"


def chart(frame: "pd.DataFrame", summary: dict[str, Any], published: list[dict[str, Any]]) -> "alt.TopLevelMixin":
    """Unseen accuracy against the number of programs: a curve a number of rules above, of steps below."""
    import altair as alt

    from labkit import show

    panels = []
    rows = frame.assign(run_steps=frame["run_steps"].astype(str))
    rows["setting"] = rows.apply(_named, axis=1)
    for dial, fixed, words in (("rules", "run_steps", "rules a program"), ("run_steps", "rules", "steps")):
        centre = summary["centre"][fixed]
        of = rows[rows[fixed] == centre].sort_values([dial, "n_programs"])
        drawn = symbolic.families(of, "n_programs", "setting")
        told = _told([row for row in summary["transitions"] if row[fixed] == centre])
        panels.append(
            show.growth_chart(
                drawn.frame,
                drawn.curve,
                x="n_programs",
                series=drawn.series,
                x_label="Number of training programs (log scale)",
                y_label="Exact-match accuracy on unseen programs",
                title=f"By {words}, {told}",
            )
        )
    return alt.vconcat(*panels).resolve_scale(stroke="independent", fill="independent", shape="independent")


def finding(summary: dict[str, Any]) -> str:
    """Where generalisation sets in at each setting, in one sentence with intervals."""
    lazy = sum(row["not_learned"] for row in summary["curve"])
    warning = f" ({lazy} models have not learned their own training programs)" if lazy else ""
    return f"By rules R and steps, {_told(summary['transitions'])}{warning}"


def compare(summary: dict[str, Any], published: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Nothing: no paper has this task."""
    return []


def summary_table(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """A row a setting and number of programs: accuracies with their intervals."""
    return _table(summary, {exam: f"{exam} [95 %]" for exam in ("unseen", "seen", "shorter", "longer")})


def kinds_table(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """A row a setting and number of programs: unseen accuracy by kind of run."""
    return _table(summary, {f"unseen_{kind}": words for kind, words in KINDS.items()})


def _table(summary: dict[str, Any], exams: dict[str, str]) -> list[dict[str, Any]]:
    return [
        {"setting": _named(row), "programs": row["n_programs"]}
        | {words: interval(row[exam], row[f"{exam}_ci95"]) if exam in row else "" for exam, words in exams.items()}
        | {"seeds": row["seeds"], "not learned": row["not_learned"]}
        for row in summary["curve"]
    ]


def describe(row: dict[str, Any]) -> str:
    """A row in a few words."""
    return (
        f"I={row['n_programs']} R={row['rules']} steps={row['run_steps']} seed={row['seed']}: unseen "
        f"{row['accuracy_unseen']:.3f}, seen {row['accuracy_seen']:.3f}, {row['train_seconds']:.0f} s"
    )


def notes(params: Params) -> list[str]:
    """What was decided for the person."""
    paper = ["no paper has this task: `paper` scale is the diversity papers' model, budget and recipe, sizes are ours"]
    return symbolic.drawn_note(params, params.budget) + paper * (params.scale == "paper")


STUDY = Study(
    name="markov_programs",
    question="How many programs must training hold before unseen ones are followed, and does that grow with their "
    "rules or with their steps?",
    paper="none has this task; after Zhang, Wang and Charton 2024 (arXiv 2402.10891) and Markov 1954",
    minutes={
        "smoke": "under 1 minute",
        "laptop": "6 to 8 minutes on two cores",
        "paper": "days of a GPU (estimated, not run; no paper has this task, the model is the diversity papers')",
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
    tables={"Kinds of runs: accuracy on unseen programs, apart": kinds_table},
)
