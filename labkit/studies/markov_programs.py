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

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, model_validator

from labkit import grade, learn
from labkit.design import allocate
from labkit.instructions import decode
from labkit.instructions.programs import Programs, ProgramTask, able_runs, draw_programs
from labkit.instructions.rewriting import Split
from labkit.studies.cell import ModelCell, cells
from labkit.studies.lesson import Exam, Lesson
from labkit.studies.params import MODEL_GROUP, ModelParams, about, check_asked, check_counts, drawn_note
from labkit.studies.rewriting import SEEN, TRAINING, UNSEEN, spread
from labkit.studies.rows import counts_of
from labkit.studies.study import Results, Study
from labkit.studies.views import Curve, Fit, Found

if TYPE_CHECKING:
    import pandas as pd

BEYOND = 13  # the stream of a seed that runs of other lengths come from
KINDS = {
    "plain": "neither of the two",
    "ordered": "the order of the rules decides",
    "rewritten": "a step rewrites what another wrote",
}


RunSteps = int | Literal["halt"]
Rules = Annotated[int, Field(ge=1, le=100)]


class Dials(BaseModel):
    """What parameters and cells share."""

    alphabet: str = Field(description="the symbols of programs and inputs")
    pattern_length: int = Field(ge=1, le=10000, description="symbols in a rule's left side, and in its right side")
    input_length: int = Field(ge=1, le=10000, description="symbols in the input, and in the answer")
    longest: int = Field(ge=1, le=1000, description='the most steps of a run to "halt"')
    order_share: float = Field(ge=0, le=1, description="share of inputs whose answer the order of the rules decides")
    budget: int = Field(ge=1, le=100000000, description="training examples of a model, spread over its programs")
    test_programs: int = Field(ge=2, le=10000000, description="unseen programs to grade on")


class Params(Dials, ModelParams):
    """What a person may set; see `catalogue.yaml` for the values each scale gives."""

    groups: ClassVar = {
        "runs": ("longest", "order_share"), "model": MODEL_GROUP,
        "task": ("alphabet", "pattern_length", "input_length", "budget", "test_programs", "n_test"),
    }  # fmt: skip
    n_programs: list[int] = Field(min_length=1, description="numbers of training programs I, one model each")
    rules: list[Rules] = Field(min_length=1, description="rules per program R; the first is the steps dial's")
    run_steps: list[RunSteps] = Field(min_length=1, description='steps, or "halt"; the first is the rules dial\'s')
    n_beside: list[int] = Field(description="the numbers of programs that the other rules and steps are tried at")

    @model_validator(mode="after")
    def _together(self) -> "Params":
        check_counts("n_programs", self.n_programs + self.n_beside, self.budget)
        check_asked(self.n_test, test_programs=self.test_programs)
        for rules, steps in _settings(self):
            layout_of(self, rules)
            task_of(self, rules, steps)
        wanted = {"train": max(self.n_programs + self.n_beside), "test": self.test_programs}
        for seed, rules, split in product(self.seeds, self.rules, get_args(Split)):
            task = ProgramTask(rules, 1, self.pattern_length, self.input_length, order_share=0, alphabet=self.alphabet)
            if task.rewriting.capacity(split, seed) < 10 * rules * wanted[split]:  # else there are enough
                draw_programs(task, wanted[split], seed=seed, split=split)  # refuses more than there are
        return self


class Cell(Dials, ModelCell):
    """One model: everything its result depends on."""

    study: Literal["markov_programs"] = "markov_programs"
    version: Literal[2] = 2
    n_programs: int
    rules: int
    run_steps: RunSteps

    def layout(self) -> learn.Layout:
        return layout_of(self, self.rules)

    def lesson(self) -> Lesson:
        """Training examples spread evenly over the programs, and the exams.

        The seen exam asks at most `test_programs` of the training programs, evenly spaced; every exam asks each of its
        programs equally often, and tells the kinds of runs apart (`KINDS`).
        """
        task, n = task_of(self, self.rules, self.run_steps), self.n_programs
        programs = draw_programs(task, n, seed=self.seed)
        unseen = draw_programs(task, self.test_programs, seed=self.seed, split="test")
        asked = np.unique(np.linspace(0, n - 1, min(n, self.test_programs)).round().astype(np.int64))
        every = spread(np.arange(self.test_programs), self.n_test)
        exams = {"seen": _exam(self, task, programs, spread(asked, self.n_test), SEEN)}
        exams["unseen"] = _exam(self, task, unseen, every, UNSEEN)
        fewest = 1 if task.halts else task.steps
        for name, steps in (("shorter", fewest - 1), ("longer", task.steps + 1)):
            room = self.rules * (self.input_length // self.pattern_length)
            if (task.halts or name == "shorter") and 1 <= steps <= room:  # after n steps, nothing longer is asked
                other = replace(task, halts=True, steps=steps, fewest=steps)
                exams[name] = _exam(self, other, unseen, every, BEYOND, partly=True)
        training = _exam(self, task, programs, np.repeat(np.arange(n), allocate(self.budget, n)), TRAINING)
        about = {f"share_{kind}": float(which.mean()) for kind, which in training.kinds.items()}
        return Lesson(training.data, exams, about)


def layout_of(settings: Dials, rules: int) -> learn.Layout:
    """How a program of so many rules, its input and the answer become tokens."""
    widths = 2 * settings.pattern_length * rules, settings.input_length
    return learn.Layout(settings.alphabet, widths, settings.input_length, names=("program", "input"))


def task_of(settings: Dials, rules: int, run_steps: RunSteps) -> ProgramTask:
    """The task at so many rules and steps; BadRequest for settings that contradict each other."""
    halts = run_steps == "halt"
    steps = settings.longest if run_steps == "halt" else run_steps
    names = ("pattern_length", "input_length", "order_share", "alphabet")
    return ProgramTask(rules, steps, halts=halts, **{name: getattr(settings, name) for name in names})


def _settings(params: Params) -> list[tuple[int, RunSteps]]:
    """Rules and steps that are tried, the first of both in front."""
    rules, steps = params.rules, params.run_steps
    return [*((n, steps[0]) for n in rules), *((rules[0], n) for n in steps[1:])]


def points(params: Params) -> list[Cell]:
    """A cell for each number of programs at the first rules and steps, then at the others; seeds outermost."""
    first, *others = _settings(params)
    dials = [
        {"n_programs": n, "rules": rules, "run_steps": steps, "seed": seed}
        for seed in params.seeds
        for settings, counts in (([first], params.n_programs), (others, params.n_beside))
        for rules, steps in settings
        for n in sorted(counts, reverse=True)
    ]
    return cells(Cell, params, dials)


def _exam(cell: Cell, task: ProgramTask, programs: Programs, index: NDArray[np.int64], stream: int,
          partly: bool = False) -> Exam:  # fmt: skip
    """An example per program number; `partly` leaves out a program that chance gives no run of the length asked for."""
    drawing = np.random.SeedSequence(cell.seed, spawn_key=(stream,))
    able, runs = able_runs(task, programs, index, seed=drawing, partly=partly)
    texts = list(map(programs.text, range(len(programs))))
    inputs, outputs = ([decode(text, cell.alphabet) for text in of] for of in (runs.input, runs.output))
    data = cell.layout().encode([(texts[i], z) for i, z in zip(able, inputs, strict=True)], outputs)
    kinds = {"plain": ~(runs.ordered | runs.rewritten), "ordered": runs.ordered, "rewritten": runs.rewritten}
    return Exam(data, able, len(programs), kinds)


def setting(rules: int, run_steps: int | str) -> str:
    """How a person reads a setting of rules and steps."""
    return f"R = {rules}, " + ("to halt" if run_steps == "halt" else f"{run_steps} step{'s' * (run_steps != 1)}")


def columns(rows: "pd.DataFrame") -> "pd.DataFrame":
    """The setting of each row in words; in order of rules, then steps."""
    named = [setting(*one) for one in zip(rows["rules"], rows["run_steps"], strict=True)]
    order = rows.assign(setting=named, run_steps=rows["run_steps"].astype(str))
    return order.sort_values(["rules", "run_steps"], kind="stable")


@dataclass(frozen=True, kw_only=True)
class Settings(Curve):
    """Curves along the number of programs, one per setting; where generalisation sets in at each of them."""

    def measure(self, rows: "pd.DataFrame") -> Found:
        found = super().measure(rows)
        main = self.select(rows, ["unseen"])
        fits: dict[str, Any] = {}
        for name, rows_of in main.groupby("setting", sort=False):
            groups = [group for _, group in rows_of.groupby("n_programs")]
            places, answers = [int(group["n_programs"].iloc[0]) for group in groups], [*map(counts_of, groups)]
            one_seed = max(map(len, answers)) == 1  # a model per number of programs
            fits[str(name)] = grade.fit_transition(places, answers).as_dict() | {"one_seed": one_seed}
        parts = [f"{name}: {_located(fit)}" for name, fit in fits.items()]
        words = "half of the plateau on unseen programs is reached at so many training programs: " + "; ".join(parts)
        return found._replace(fit=Fit(words, {"settings": fits, "located": False}))


def _located(fit: Mapping[str, Any]) -> str:
    words = "{:,.0f}" + " [{:,.0f}, {:,.0f}]" * (not fit["one_seed"])
    return words.format(fit["midpoint"], *fit["ci95"]) if fit["midpoint"] else "not located"


def curves(title: str, exams: Mapping[str, str], where: Any = None) -> Settings:
    return Settings(
        title=title, exams=exams, where=where, x="n_programs", x_label="Number of training programs",
        by="setting", by_name="rules R and steps",
    )  # fmt: skip


VIEWS = {
    "growth": curves(
        "Unseen programs, by rules per program and steps",
        {"unseen": "unseen programs", "seen": "training programs", "shorter": "one step sooner", "longer": "later"},
    ),
    "kinds": curves("Unseen programs, by kind of run", {f"unseen:{kind}": words for kind, words in KINDS.items()}),
}


def finding(results: Results) -> str:
    """Where generalisation sets in at each setting, in one sentence with intervals."""
    return f"By rules R and steps, {results.fit('growth').sentence}"


def notes(params: Params) -> list[str]:
    """What was decided for the person."""
    paper = ["no paper has this task: `paper` scale is the diversity papers' model, budget and recipe, sizes are ours"]
    return drawn_note(params, params.budget) + paper * (params.scale == "paper")


STUDY = Study(
    **about("markov_programs"), Params=Params, points=points,
    dials={"n_programs": "programs", "rules": "rules", "run_steps": "steps"}, views=VIEWS, finding=finding,
    notes=notes, columns=columns,
)  # fmt: skip
