"""Abilities of the lab: examples of four sources and the exams, from instruction families, and models of them.

    curated     the oracle's answers, all of a family's training instructions
    narrow      the oracle's answers, but a weak teacher's few instructions
    answered    curated instructions, but the weak teacher's answers
    synthetic   the weak teacher's few instructions and its own answers

so that correctness and repertoire are varied one at a time. The *weak teacher* is a smaller model with a smaller base,
trained on the few instructions; its mistakes are its own. All sources are balanced over abilities alike; of one seed a
smaller set is the beginning of a larger one. The exams ask for held-out instructions, other ones for each seed (so that
what is said of a recipe does not hang on one draw of questions), the same ones for all models of a seed.

Guaranteed: no training set holds an instruction of an exam, whatever the seeds; how many different examples an ability
has is found out before anything is trained. Left open: texts that do not fit into a sequence are passed over,
distractors too; an answer of the teacher that does not end counts as empty.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from labkit.design import named_mixes
from labkit.errors import BadRequest, unknown
from labkit.grade import questions
from labkit.grade.questions import Exam, of_task
from labkit.instructions import Example
from labkit.instructions.families import EVERY
from labkit.instructions.family import Family
from labkit.lab import Point, Record, Row, write_json
from labkit.learn.learner import Learned, Learner, question
from labkit.studies import language, learners
from labkit.studies.lesson import Lesson
from labkit.studies.params import MODEL_GROUP
from labkit.studies.rows import GRADED, graded_line

TAUGHT = ("answered", "synthetic")  # sources whose answers are the weak teacher's
FEW = ("narrow", "synthetic")  # sources of the weak teacher's few instructions
SOURCES = ("curated", "narrow", *TAUGHT)
SMALL = {  # the paper's early saturated abilities and our counterparts, with the examples that it leaves them
    "classification": named_mixes.SMALL["ethics"],
    "role": named_mixes.SMALL["role_play"],
    "formatting": named_mixes.SMALL["creative_writing"],
}


class AbilityParams(learners.BasedParams):
    """What a person may set of any study of abilities."""

    groups: ClassVar = {
        "task": ("outside", "levels", "question", "answer", "n_test"),
        "small": MODEL_GROUP,
        "base": ("loss", "base_steps", "base_batch", "base_tokens", "base_answered", "base_gate"),
    }
    abilities: list[str] = Field(min_length=2, description="what is taught and examined: names of instructions.EVERY")
    outside: list[str] = Field(description="families that are examined and never taught")
    levels: list[Literal[1, 2, 3]] = Field(min_length=1, description="difficulties 1 to 3, in equal parts")
    question: int = Field(ge=4, le=1000, description="the most pieces of a question; longer tasks are passed over")
    answer: int = Field(ge=4, le=1000, description="the most pieces of an answer, its end included")
    grading: Literal["likelihood", "generated"] = Field(description="the main score; both are measured")

    @model_validator(mode="after")
    def _together(self) -> "AbilityParams":
        """The families are known; a study with more to check has a validator of this name of its own."""
        for name in (*self.abilities, *self.outside):
            known(name)
        return self


class GatedParams(AbilityParams):
    """The same, where each ability is also taught alone."""

    gate: float = Field(ge=-1, le=1, description="score that an ability alone needs to count in means; 0: no gates")


class AbilityCell(learners.SpecCell):
    """One model: which examples it learns from, by ability and source; its exams, those of `task`, grade themselves."""

    task: Any
    design: str  # of the kind that a study has
    arm: str  # which of the design's models
    source: str
    abilities: tuple[str, ...]
    counts: dict[str, dict[str, int]]
    gradings: tuple[str, ...]
    n_test: int

    def needs(self) -> Sequence[Point]:
        """The base and the weak teacher, where there are any."""
        return [*super().needs(), *self.task.needs()]

    def data(self, record: Record) -> list[Example]:
        """The training set."""
        parts = [(name, source, n) for name, sources in self.counts.items() for source, n in sources.items() if n]
        return [example for part in parts for example in self.task.examples(self.spec, self.seed, *part, record)]

    def train(self, learner: Learner, data: list[Example], record: Record) -> Learned:
        """Let a learner learn its training set, at once."""
        look = lambda _, step, loss, seconds: record.log(step=step, loss=loss, seconds=seconds)  # noqa: E731
        every = max(1, self.steps // 10)
        return learner.learn(data, steps=self.steps, seed=self.seed, folder=record.lasting, look=look, every=every)

    def measured(self, record: Record) -> Row:
        """Train one model, or none where there are no examples, and grade it."""
        learner, data, done = self.learner(record), self.data(record), Learned(0, 0, 0.0, None)
        if data:
            done = self.train(learner, data, record)
            learner.save(record.folder)
        sat = [one.fitting(learner) for one in self.task.exams(self.spec, self.seed, self.abilities, self.n_test)]
        at, seen, lines = {"volume": len(data) / len(self.counts), "examples": len(data)}, {*map(question, data)}, []
        for one in questions.graded(learner, sat, self.gradings, record.folder / "answers.jsonl"):
            met = sum(question(asked.example) in seen for asked in one.exam.questions)
            line = graded_line(one.exam.name, one.exam.kind, one.grading, one.counts)
            lines.append({**line, **one.about, **at, "seen_questions": met})
        about = self.task.about({(name, of) for name, sources in self.counts.items() for of in sources}, record)
        costs = {"tokens": done.tokens, "loss": done.loss, "steps_taken": done.steps, "learned": True}
        row = {**about, **learner.about(), **done.about, **costs, "train_seconds": round(done.seconds, 2)}
        rates = [(one["grading"], sum(one["right"]) / sum(one["asked"])) for one in lines if one["exam"] == "unseen"]
        means = {f"accuracy_{g}": float(np.mean([rate for own, rate in rates if own == g])) for g in self.gradings}
        return row | means | {GRADED: lines}


class WeakTeacher(learners.Student):
    """A small model that knows few instructions, and what it answers to the training questions of its seed."""

    study: Literal["weak_teacher"] = "weak_teacher"
    version: Literal[1] = 1
    spec: learners.SmallSpec
    abilities: tuple[str, ...]
    levels: tuple[int, ...]
    repertoire: int
    volume: int  # examples of each ability that it learns from, and answers

    def lesson(self) -> Lesson:
        return Lesson([example for name in self.abilities for example in self._asked(name, "synthetic")], {})

    def _asked(self, name: str, source: str) -> list[Example]:
        few, reading = self.repertoire if source in FEW else None, self.spec.reading()
        return language.examples(language.tasks(name, self.volume, "train", self.levels, self.seed, reading, few))

    def measured(self, record: Record) -> Row:
        """Learn, be kept, and answer; `right` is the share of right answers by source and ability."""
        learner, layout = self.learner(record), self.spec.layout()
        done = learner.learn(self.lesson().data, steps=self.steps, seed=self.seed, folder=record.lasting)
        learner.save(record.folder)
        answers: dict[str, dict[str, list[str]]] = {source: {} for source in TAUGHT}
        right: dict[str, dict[str, float]] = {source: {} for source in TAUGHT}
        for source, name in [(source, name) for source in TAUGHT for name in self.abilities]:
            asked = self._asked(name, source)
            written = [text if layout.fits("", text) else "" for text in learner.answer(asked)]
            answers[source][name] = written
            same = [text == example.output for text, example in zip(written, asked, strict=True)]
            right[source][name] = round(float(np.mean(same)), 4)
        write_json(record.folder / "answers.json", answers)
        row = {"steps_taken": done.steps, "tokens": done.tokens, "train_seconds": done.seconds, "loss": done.loss}
        return row | learner.about() | {"right": right}


class FamilyTask(BaseModel):
    """What is taught and asked: the abilities' families at some levels, those that are only asked, and the teacher."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["families"] = "families"
    levels: tuple[int, ...]
    outside: tuple[str, ...]
    repertoire: int = 0
    teacher: WeakTeacher | None = None

    def needs(self) -> Sequence[Point]:
        """The weak teacher, which is measured first."""
        return [self.teacher] if self.teacher else []

    def examples(self, spec: Any, seed: int, name: str, source: str, end: int, record: Record) -> list[Example]:
        """The first so many examples of an ability from a source."""
        few = self.repertoire if source in FEW else None
        drawn = language.examples(language.tasks(name, end, "train", self.levels, seed, spec.reading(), few))
        if source not in TAUGHT:
            return drawn
        assert self.teacher is not None
        answers = _answers(str(record.folder_of(self.teacher)))[source][name]
        return [replace(example, output=text) for example, text in zip(drawn, answers, strict=False)]

    def exams(self, spec: Any, seed: int, abilities: tuple[str, ...], n: int) -> list[Exam]:
        """An exam per ability and per untrained family, of `n` questions each."""
        return exams(abilities, self.outside, n, self.levels, seed, spec.reading())

    def about(self, parts: set[tuple[str, str]], record: Record) -> dict[str, Any]:
        """What a row should say of the data: of the teacher's answers the share that is right, by ability."""
        taught = [source for _, source in parts if source in TAUGHT]
        return {"teacher_right": record.row_of(self.teacher)["right"][taught[0]]} if taught and self.teacher else {}


class TogetherCell(AbilityCell):
    """A small model that learns all abilities of the lab at once."""

    spec: learners.SmallSpec
    task: FamilyTask
    design: Literal["together"] = "together"


def shared(params: Any, taught: Sequence[str]) -> dict[str, Any]:
    """What the cells of a study share that teaches right answers of families, `volume` of each ability in `taught`."""
    own = {name: getattr(params, name) for name in ("steps", "n_test")}
    own |= {"source": "curated", "abilities": tuple(params.abilities), "gradings": questions.GRADINGS}
    own |= {"task": FamilyTask(levels=tuple(params.levels), outside=tuple(params.outside))}
    return own | {"counts": {name: {"curated": params.volume} for name in taught}}


@lru_cache(maxsize=2)
def _answers(folder: str) -> dict[str, dict[str, list[str]]]:
    return dict(json.loads(Path(folder, "answers.json").read_text("utf-8")))


def known(name: str) -> Family:
    """The ability of that name, with what grades it.

    Raises:
        BadRequest: for an unknown one, or one without a grader.
    """
    if name not in EVERY:
        raise unknown("ability", name, EVERY)
    family = EVERY[name]
    if type(family).wrong is Family.wrong and type(family).options is Family.options:
        raise BadRequest(f"the ability '{name}' has no grader: neither options nor wrong answers to rank against")
    return family


def available(params: Any) -> dict[str, dict[str, int]]:
    """Examples there are: as many as are tried, so that no plan goes beyond what was seen."""
    own = {"curated": params.volumes[-1]}
    return {name: dict.fromkeys(SOURCES, params.last_compared) | own for name in params.abilities}


def check(params: Any) -> None:
    """What the families must have, tried for one seed: the others differ little."""
    enough(params, params.volumes[-1])
    if {*FEW, *TAUGHT} & {*params.sources}:
        for name in params.abilities:
            read = spec(params, 0).reading()
            language.tasks(name, 1, "train", tuple(params.levels), params.seeds[0], read, params.repertoire)


def enough(params: Any, volume: int) -> None:
    """BadRequest where an ability has fewer examples, or a family fewer questions, than are asked."""
    levels, seed, reading = tuple(params.levels), params.seeds[0], spec(params, 0).reading()
    for name in params.abilities:
        language.tasks(name, volume, "train", levels, seed, reading)
    for name in (*params.abilities, *params.outside):
        language.tasks(name, params.n_test, "test", levels, seed, reading)


def task(params: Any, seed: int, sources: set[str]) -> FamilyTask:
    """What a cell of these parameters is taught and asked."""
    ungated = params.model_copy(update={"base_gate": 0})
    weak = weak_teacher(ungated, seed, params.last_compared) if sources & {*TAUGHT} else None
    few = params.repertoire if sources & {*FEW} else 0
    return FamilyTask(levels=tuple(params.levels), outside=tuple(params.outside), repertoire=few, teacher=weak)


def weak_teacher(params: Any, seed: int, volume: int) -> WeakTeacher:
    """The weak teacher of a seed, that answers `volume` questions of each ability."""
    return WeakTeacher(
        seed=seed, steps=params.teacher_steps, spec=spec(params, 0, width=params.teacher_width),
        abilities=tuple(params.abilities), levels=tuple(params.levels), repertoire=params.repertoire, volume=volume,
    )  # fmt: skip


def spec(params: Any, examples: int, **changes: Any) -> learners.SmallSpec:
    """The learner of a run; `examples` does not matter to it."""
    reads = (*params.abilities, *params.outside)
    return learners.based(params, reads, params.question, params.answer, params.levels, **changes)


@lru_cache(maxsize=4)
def exams(
    abilities: tuple[str, ...], outside: tuple[str, ...], n: int, levels: tuple[int, ...], seed: int,
    reading: language.Reading,
) -> list[Exam]:  # fmt: skip
    """The exams of a seed; a process keeps a few."""
    rng, layout = Random(f"exam {seed}"), reading.layout()
    fits = lambda text: layout.fits("", text)  # noqa: E731

    def asked(kind: str, name: str) -> Exam:
        drawn = language.tasks(name, n, "test", levels, seed, reading)
        return Exam(kind, name, [of_task(one, rng, fits) for one in drawn], {})

    return [*(asked("unseen", name) for name in abilities), *(asked("outside", name) for name in outside)]
