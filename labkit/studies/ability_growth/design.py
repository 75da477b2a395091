"""The design of the study of ability growth: parameters, cells, and the points of its two stages."""

from collections.abc import Mapping
from itertools import accumulate, pairwise
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, field_validator, model_validator

from labkit.errors import BadRequest, unknown
from labkit.grade import questions
from labkit.instructions import Example
from labkit.instructions.imperfect import Teacher
from labkit.lab import Record, Row
from labkit.learn import finetuning
from labkit.learn.learner import Learned, Learner, question
from labkit.studies import cell, language, learners
from labkit.studies.ability_growth import doit, families, plan, results
from labkit.studies.growing import Records, curves_of
from labkit.studies.lesson import Lesson
from labkit.studies.params import MODEL_GROUP
from labkit.studies.rows import GRADED, graded_line

if TYPE_CHECKING:
    import pandas as pd

COOLDOWN = 0.2  # steps of a ladder's branch, as a share of the trunk's
Width = Annotated[int, Field(ge=2, le=16384)]


class Params(language.LanguageParams):
    """What a person may set; see `scales.yaml` for the values each scale gives."""

    groups: ClassVar = {
        "plan": ("budget", "least", "mixes", "fresh_seeds"),
        "task": ("levels", "question", "answer", "passes", "alone_passes", "n_test"),
        "synthetic": ("wrong", "repertoire", "exponent"),
        "small": MODEL_GROUP,
        "tuned": ("model", "corpus", "tuning", "exams", "new_tokens"),
    }
    abilities: list[str] = Field(min_length=2, description="what is taught and examined: names of instructions.EVERY")
    volumes: list[Annotated[int, Field(ge=1, le=10**7)]] = Field(
        min_length=1, description="the ladder: examples of each ability"
    )
    sources: list[str] = Field(min_length=1, description="curated, synthetic")
    widths: list[Width] = Field(min_length=1, description="model sizes of the growth curves")
    width: int = Field(ge=2, le=16384, description="the main size, one of widths: sources, transference and the plan")
    fresh_seeds: list[int] = Field(min_length=1, description="seeds of the second stage, none of them in seeds")
    question: int = Field(ge=4, le=1000, description="the most pieces of a question; longer tasks are passed over")
    answer: int = Field(ge=4, le=1000, description="the most pieces of an answer, its end included")
    passes: float = Field(gt=0, le=10_000, description="how often a run reads its examples before it cools down")
    alone_passes: float = Field(gt=0, le=10_000, description="the same for an ability alone")
    steps: int = Field(ge=0, le=10**9, description="optimiser steps at the last rung, at least; 0: as passes say")
    transference: int = Field(ge=0, description="the volume at which abilities are left out or alone; 0: none are")
    budget: int = Field(ge=1, le=10**9, description="examples in all that are planned for")
    least: int = Field(ge=1, le=10**7, description="what the plan gives every ability")
    mixes: list[str] = Field(description="second stage: planned, baseline, reconstruct, maximum, mix-N; []: none")
    grading: Literal["likelihood", "generated"] = Field(description="the main score; both are measured")
    wrong: float = Field(ge=0, le=1, description="synthetic: the share of wrong answers")
    repertoire: int = Field(ge=1, le=10**6, description="synthetic: different instructions of an ability")
    exponent: float = Field(ge=0, lt=100, description="synthetic: of Zipf's law for how often each is asked for")
    model: str = Field(description="a Hugging Face id or folder to fine-tune; small: small models from scratch")
    corpus: str = Field(description="for it: doit (the hub) or a folder with a copy of it")
    tuning: dict[str, Any] = Field(description="for it: settings of `learn.qlora.Finetuning`")
    exams: list[str] = Field(description="for it: out-of-domain exams: files of CMMLU, AGIEval or DoIT")
    new_tokens: int = Field(ge=0, le=100_000, description="for it: the longest answer in tokens; 0: none is written")

    @field_validator("model", "corpus", "exams", mode="after")
    @classmethod
    def _files_by_their_whole_path(cls, value: Any) -> Any:
        """A notebook runs in another folder than the command that names a file."""
        parts = [one.partition("@") for one in ([value] if isinstance(value, str) else value)]
        whole = [f"{Path(at).resolve() if Path(at).exists() else at}{mark}{shots}" for at, mark, shots in parts]
        return whole[0] if isinstance(value, str) else whole

    @model_validator(mode="after")
    def _together(self) -> "Params":
        for ability in self.abilities:
            self.origin.known(ability)
        for source in self.sources:
            if source not in families.SOURCES:
                raise unknown("source", source, families.SOURCES)
        if self.volumes != sorted(self.volumes):
            raise BadRequest(f"volumes = {self.volumes} do not rise")
        if self.width not in self.widths:
            raise BadRequest(f"width = {self.width} is none of widths = {self.widths}")
        if odd := [width for width in self.widths if width % self.heads]:
            raise BadRequest(f"heads = {self.heads} does not divide width = {odd[0]}")
        if self.transference and self.transference not in self.volumes:
            raise BadRequest(f"transference = {self.transference} is none of volumes = {self.volumes}, nor 0")
        if both := set(self.seeds) & set(self.fresh_seeds):
            raise BadRequest(f"seed {min(both)} is in seeds and in fresh_seeds: fresh seeds are others")
        for mix in self.mixes:
            if mix not in plan.DESIGNS and not (mix.startswith("mix-") and mix[4:].isdecimal()):
                raise unknown("mix", mix, (*plan.DESIGNS, "mix-N"))
        floor, most = self.least * len(self.abilities), self.volumes[-1] * len(self.abilities)
        if self.mixes and self.budget < floor:
            raise BadRequest(f"budget = {self.budget} is too small: least = {self.least} of each ability make {floor}")
        if self.mixes and self.model == learners.SMALL and self.budget > most:
            raise BadRequest(f"budget = {self.budget} is more than the last volume of all abilities, {most}")
        self.teacher()
        if own := {"model", "seed"} & set(self.tuning):
            raise BadRequest(f"tuning sets '{min(own)}', which is a parameter of its own")
        finetuning.settings(self.model, "default", **self.tuning)
        return self

    @property
    def origin(self) -> ModuleType:
        """Where examples and exams come from: `families` or `doit`."""
        return families if self.model == learners.SMALL else doit

    def reading(self) -> language.Reading:
        """How small models read."""
        return language.Reading(tuple(self.abilities), self.question, self.answer)

    def teacher(self) -> Teacher:
        """The imperfect teacher of synthetic examples."""
        return Teacher(self.wrong, self.repertoire, self.exponent)

    def repeats(self) -> float:
        """How often a run reads its examples: `passes`, or more where `steps` ask for it."""
        return max(self.passes, self.steps * self.batch_size / (self.volumes[-1] * len(self.abilities)))


class Cell(cell.Cell):
    """One training run: everything its result depends on."""

    study: Literal["ability_growth"] = "ability_growth"
    version: Literal[2] = 2
    spec: learners.Spec
    task: Annotated[families.FamilyTask | doit.DoitTask, Field(discriminator="kind")]
    design: Literal["ladder", "without", "alone", "mix", "untrained"]
    arm: str
    source: str
    size: str
    abilities: tuple[str, ...]
    rungs: tuple[int, ...]  # examples of each ability; none for a mix
    counts: dict[str, dict[str, int]] | None
    predicted: dict[str, Any] | None
    passes: float
    gradings: tuple[str, ...]
    n_test: int

    def learner(self, record: Record) -> Learner:
        return self.spec.make(self.seed, record)

    def sets(self) -> list[dict[str, dict[str, tuple[int, int]]]]:
        """For each rung which examples it adds: {ability: {source: (from, to)}}."""
        if self.counts is not None:
            return [{name: {of: (0, n) for of, n in sources.items() if n} for name, sources in self.counts.items()}]
        names = {"without": [name for name in self.abilities if name != self.arm], "alone": [self.arm]}
        rungs = pairwise([0, *self.rungs])
        return [{n: {self.source: part} for n in names.get(self.design, self.abilities)} for part in rungs] or [{}]

    def data(self) -> list[list[Example]]:
        """The examples that each rung adds."""
        give = self.task.examples
        return [
            [
                example
                for name, sources in part.items()
                for source, (begin, end) in sources.items()
                for example in give(self.spec, self.seed, name, source, end)[begin:]
            ]
            for part in self.sets()
        ]

    def lesson(self) -> Lesson:
        """All examples; the exams are `task.exams`, which have graders of their own."""
        return Lesson([example for rung in self.data() for example in rung], {}, self._about())

    def _about(self) -> dict[str, Any]:
        return self.task.about({(n, source) for part in self.sets() for n, of in part.items() for source in of})

    def measured(self, record: Record) -> Row:
        """Train one model and grade it at its rungs: all of a ladder, else the last."""
        learner, data = self.learner(record), self.data()
        sizes, seen = list(accumulate(map(len, data))), {question(example) for rung in data for example in rung}
        first, lines = 0 if self.design == "ladder" else len(data) - 1, Records()
        exams = self.task.exams(self.spec, self.seed, self.abilities, self.n_test)

        def look(number: int, now: Learner, done: Learned) -> None:
            if number < first:
                return
            sat = [exam.fitting(now) for exam in exams]
            at = {"volume": sizes[number] / max(1, len(self.sets()[number])), "examples": sizes[number]}
            for one in questions.graded(now, sat, self.gradings, record.folder / "answers.jsonl"):
                met = sum(question(asked.example) in seen for asked in one.exam.questions)
                line = graded_line(one.exam.name, one.exam.kind, one.grading, one.counts)
                lines.append({**line, **one.about, **at, "seen_questions": met})
            record.log(step=done.steps, rung=number, loss=done.loss, **at, **self._accuracies(lines, at))

        done = learner.learn_ladder(
            data, passes=self.passes, cooldown=COOLDOWN, seed=self.seed, folder=record.lasting, on_rung=look,
            look=lambda _, step, loss, seconds: record.log(step=step, loss=loss),
        )  # fmt: skip
        if seen:
            learner.save(record.folder)
        costs = {name: [getattr(one, name) for one in done[first:]] for name in ("tokens", "loss")}
        costs["steps_taken"] = [one.steps for one in done[first:]]
        seconds = {"train_seconds": round(sum(one.seconds for one in done), 2), "learned": True}
        row = {**self._about(), **learner.about(), **done[-1].about, **costs, **seconds}
        return row | self._accuracies(lines, lines[-1]) | {GRADED: lines}

    def _accuracies(self, lines: Records, at: Mapping[str, Any]) -> dict[str, float]:
        """The mean accuracy over abilities at a volume, by grading."""
        now = [one for one in lines if one["volume"] == at["volume"] and one["exam"] == "unseen"]
        rates = [(one["grading"], sum(one["right"]) / sum(one["asked"])) for one in now]
        return {f"accuracy_{g}": float(np.mean([rate for own, rate in rates if own == g])) for g in self.gradings}


def points(params: Params) -> list[Cell]:
    """The first stage: ladders, the longest first, then runs without an ability and of one alone.

    Raises:
        BadRequest: for a volume beyond what an ability has, an exam longer than it has questions, a rung too small for
            an optimiser step, or files that are not there.
    """
    params.origin.check(params)
    every, main = tuple(params.volumes), params.width
    shared = params.origin.spec(params, main, 0).shares_run
    part = tuple(volume for volume in every if volume <= params.transference and shared)
    ladder = {"design": "ladder", "arm": "all"}
    dials: Records = [
        {**ladder, "width": width, "source": source, "seed": seed, "rungs": rungs}
        for width in (sorted(params.widths, reverse=True) if shared else [main])
        for source in params.sources
        for seed in params.seeds
        for rungs in ([every] if shared else [(volume,) for volume in every])
        if source == "curated" or width == main or "curated" not in params.sources
    ]
    first = "curated" if "curated" in params.sources else params.sources[0]
    own = {"width": main, "source": first}
    base = {**own, "design": "untrained", "arm": "", "seed": params.seeds[0], "rungs": ()}
    apart: Records = [
        {**own, "design": design, "arm": arm, "seed": seed, "rungs": rungs}
        for design, rungs in (("without", part), ("alone", part[-1:]))
        for seed in params.seeds
        for arm in params.abilities
        if part
    ]
    cells = _cells(params, [*([] if shared else [base]), *dials, *apart])
    for name in {*params.mixes} - {"planned"}:
        plan.named(params, name, params.origin.available(params))
    return cells


def later(params: Params, rows: "pd.DataFrame") -> list[Cell]:
    """The second stage: a run for each mix and fresh seed, its prediction in the point."""
    if "curated" not in params.sources:
        return []
    curves = curves_of(results.GROWTH.measure(results.scored(rows.assign(**marks(params)))))
    own = {"width": params.width, "design": "mix", "source": "curated", "rungs": ()}
    mixes = [{**own, "arm": name, **mix._asdict()} for name, mix in plan.designs(params, curves).items()]
    return _cells(params, [{**mix, "seed": seed} for seed in params.fresh_seeds for mix in mixes])


def _cells(params: Params, dials: Records) -> list[Cell]:
    """The cells of some dials.

    Raises:
        BadRequest: for examples that there are not.
    """
    origin, have, cells = params.origin, params.origin.available(params), list[Cell]()
    small = params.model == learners.SMALL
    for dial in dials:
        counts = dial.get("counts") or {}
        many = sum(sum(one.values()) for one in counts.values()) or len(params.abilities) * sum(dial["rungs"][-1:])
        synthetic = "synthetic" in {dial["source"], *(source for sources in counts.values() for source in sources)}
        cells.append(Cell(
            **{"counts": None, "predicted": None, **{name: dial[name] for name in dial if name != "width"}},
            steps=0, n_test=params.n_test, abilities=tuple(params.abilities), task=origin.task(params, synthetic),
            passes=params.alone_passes if dial["design"] == "alone" else params.repeats(),
            gradings=questions.GRADINGS[: 2 if small or params.new_tokens else 1],
            spec=origin.spec(params, dial["width"], many),
            size=f"width {dial['width']}" if small else Path(params.model).name,
        ))  # fmt: skip
        for name, sources in cells[-1].sets()[-1].items():
            for source, (_, end) in sources.items():
                if end > (there := have[name].get(source, 0)):
                    what = "volumes" if dial["design"] == "ladder" else dial["arm"]
                    raise BadRequest(f"{what}: '{name}' has {there} examples from '{source}', not {end}")
    return cells


def marks(params: Params) -> dict[str, Any]:
    """What the parameters say of all rows: which grading is the main one."""
    return {"scored_by": params.grading}
