"""Which learner a cell of a language study has: a small model or a fine-tuned one, as part of the cell's address.

A small model begins with random weights, or with those of a `TextBase`, which the lab pre-trains on plain text of the
families: a point that other cells need, measured once in the same store.
"""

from collections.abc import Sequence
from dataclasses import asdict
from itertools import islice
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_serializer

from labkit import learn
from labkit.errors import BadRequest
from labkit.instructions.functions import FUNCTIONS
from labkit.instructions.plain_text import plain_text
from labkit.lab import Point, Record, Row
from labkit.learn import finetuning, qlora
from labkit.learn.learner import Learner, SmallLearner, TunedLearner
from labkit.learn.memory import check_training_memory, training_dtype
from labkit.learn.text import END
from labkit.studies import cell, harness, language
from labkit.studies.lesson import Lesson
from labkit.studies.params import MODEL_GROUP, ModelParams

BASE_EXAMPLES, BASE_STEPS = 300, 200  # that a base is fine-tuned on and for, to sit its gate
LEARNED = 0.5  # the share of its training examples that a small model has to answer
SMALL = "small"  # the model of studies whose learner is a small transformer; any other name is a Hugging Face model


class SmallSpec(cell.SmallModel):
    """A small transformer that reads word pieces of some instruction families; `base`: what it begins with."""

    kind: Literal["small"] = "small"
    reads: tuple[str, ...]
    question: int
    answer: int
    vocabulary: str
    loss: learn.Loss = "token"
    base: "TextBase | None" = None

    def needs(self) -> "Sequence[Point]":
        """The base, which is measured first."""
        return [self.base] if self.base else []

    def reading(self) -> language.Reading:
        """What the model reads, and how much of it."""
        return language.Reading(self.reads, self.question, self.answer)

    def layout(self) -> learn.TextLayout:
        """Word pieces of the families; every question begins with its instruction."""
        return learn.TextLayout(language.vocabulary(self.reads), self.question, self.answer)

    def make(self, seed: int, record: Record) -> SmallLearner:
        """A fresh learner.

        Raises:
            BadRequest: where its base fails its gate.
        """
        learner = self.untrained(seed, self.loss)
        if self.base:
            self.base.check(record.row_of(self.base))
            learner.restore(record.folder_of(self.base))
        return learner


class TextBase(cell.Cell):
    """A small model that has read plain text of its families, code included, and no instruction's marks.

    Its gate: fine-tuned on `gate_examples` functions for `gate_steps` steps, it writes at least a share `least` of new
    functions for wordings of the training split exactly.
    """

    study: Literal["text_base"] = "text_base"
    version: Literal[1] = 1
    spec: SmallSpec
    levels: tuple[int, ...]
    text_tokens: int  # different ones
    least: float
    gate_examples: int
    gate_steps: int
    answered: bool = False  # see `instructions.plain_text`

    @model_serializer(mode="wrap")
    def _as_before(self, dump: Any) -> dict[str, Any]:
        """Bases of unanswered text keep the addresses that they had before there was a choice."""
        return {name: value for name, value in dump(self).items() if value or name != "answered"}

    def learner(self, record: Record) -> SmallLearner:
        return self.spec.make(self.seed, record)

    def lesson(self) -> Lesson:
        """Windows of the text, every token of which is predicted from those before it."""
        layout, length = self.spec.layout(), self.spec.layout().length
        stream = np.fromiter(islice(self._stream(layout), self.text_tokens // length * length), np.int16)
        return Lesson(learn.Encoded(stream.reshape(-1, length), length - 1, layout.vocabulary), {})

    def _stream(self, layout: learn.TextLayout) -> Any:
        for text in plain_text(self.spec.reads, levels=self.levels, seed=self.seed, answered=self.answered):
            yield from (*layout.split(text), END)

    def measured(self, record: Record) -> Row:
        """Read the text, and be kept; then sit the gate with a copy that is fine-tuned."""
        learner, text = self.learner(record), self.lesson().data
        look = lambda _, step, loss, seconds: record.log(step=step, loss=loss, seconds=seconds)  # noqa: E731
        done = learner.learn(
            text, steps=self.steps, seed=self.seed, folder=record.lasting, look=look, every=max(1, self.steps // 20)
        )
        learner.save(record.folder)
        row = {"steps_taken": done.steps, "tokens": done.tokens, "train_seconds": done.seconds, "loss": done.loss}
        return row | learner.about() | {"gate": self._sit(learner, record)}

    def _sit(self, learner: Learner, record: Record) -> float:
        """The share of functions that are written exactly, after a little fine-tuning."""
        n = self.gate_examples
        drawn = language.tasks(FUNCTIONS.name, 2 * n, "train", self.levels, self.seed, self.spec.reading())
        learner.learn(language.examples(drawn[:n]), steps=self.gate_steps, seed=self.seed, folder=record.lasting)
        return float(learner.right(language.examples(drawn[n:])).mean())

    def check(self, row: Row) -> None:
        """BadRequest where the gate was not passed."""
        if row["gate"] < self.least:
            raise BadRequest(
                f"the text base reaches {row['gate']:.2f} of its gate of {self.least:g} on small functions: raise "
                "base_steps, lower base_gate, or set base_steps = 0 to train from scratch"
            )


class TunedSpec(BaseModel):
    """A Hugging Face model that is fine-tuned; `settings` are those of `learn.finetuning.Finetuning`."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["tuned"] = "tuned"
    precision: str
    settings: dict[str, Any]
    new_tokens: int

    def needs(self) -> Sequence[Point]:
        """Nothing: the model is there."""
        return []

    def make(self, seed: int, record: Record | None) -> Learner:
        """A fresh learner; without a record it says nothing."""
        settings = finetuning.Finetuning(**{"precision": self.precision, **self.settings, "seed": seed})
        return TunedLearner(settings, self.new_tokens, say=record.note if record else lambda _: None)


Spec = Annotated[SmallSpec | TunedSpec, Field(discriminator="kind")]


class SpecCell(cell.MeasuredCell):
    """A cell whose learner is that of its spec, with its base where there is one."""

    spec: Spec

    def needs(self) -> Sequence[Point]:
        """The base."""
        return self.spec.needs()

    def learner(self, record: Record) -> Learner:
        return self.spec.make(self.seed, record)


class Student(SpecCell, cell.Cell):
    """The same, measured by a lesson."""


class MixStudent(Student):
    """A student of one training set of several; `task` says what is learned and asked."""

    task: Any  # of the kinds that a study has
    n_test: int

    def lesson(self) -> Lesson:
        return self.task.lesson(self.spec, self.seed, self.n_test)

    def measured(self, record: Record) -> Row:
        """See `cell.Cell`; a fine-tuned model has no exam on its training set."""
        return harness.train_and_grade(self, record, LEARNED if isinstance(self.spec, SmallSpec) else 0.0)


def small(params: ModelParams, reads: tuple[str, ...], question: int, answer: int, **changes: Any) -> SmallSpec:
    """The small learner of a study's parameters, reading these families.

    Raises:
        BadRequest: for a model that this machine's memory cannot train.
    """
    own = {name: getattr(params, name) for name in MODEL_GROUP if name != "steps"}
    spec = SmallSpec(
        **own | changes,
        reads=reads,
        recipe_version=learn.RECIPES[changes.get("recipe", params.recipe)].VERSION,
        precision=learn.precision_name(learn.best_device()),
        **language.reading(reads, question, answer),
    )
    check_training_memory("a model of these settings", spec.recipe, spec.model_shape(), spec.batch_size, answer)
    return spec


def check_tuning(
    model: str, preset: str, tuning: dict[str, Any], own: set[str], why: str = "is a parameter of its own"
) -> None:
    """BadRequest for a setting of fine-tuning that a study has as its `own`, or one that is out of range."""
    if both := own & set(tuning):
        raise BadRequest(f"tuning sets '{min(both)}', which {why}")
    finetuning.settings(model, preset, **tuning)


class BasedParams(ModelParams):
    """What a person may set of small models that begin with a text base."""

    loss: learn.Loss = Field(description="what a batch's loss is a mean over: tokens, or examples' own means")
    base_steps: int = Field(ge=0, le=10**9, description="optimiser steps of the base model; 0: none, from nothing")
    base_batch: int = Field(ge=1, le=10**6, description="windows of text per step")
    base_tokens: int = Field(ge=1000, le=10**10, description="different tokens of text")
    base_answered: bool = Field(default=False, description="requests stand over answers in the text, as over code")
    base_gate: float = Field(ge=0, le=1, description="share of functions that the base, fine-tuned, has to write")


def based(params: BasedParams, reads: tuple[str, ...], question: int, answer: int, levels: Sequence[int],
          gate_steps: int = BASE_STEPS, base_loss: learn.Loss = "token", **changes: Any) -> SmallSpec:  # fmt: skip
    """The same, with its text base unless `base_steps` is 0."""
    if not params.base_steps:
        return small(params, reads, question, answer, loss=params.loss, **changes)
    recipe = "fast" if params.recipe == "adamw" else params.recipe  # which is for fine-tuning
    own = {"recipe": recipe, "batch_size": params.base_batch, "learning_rate": learn.RECIPES[recipe].LEARNING_RATE}
    reader = small(params, reads, question, answer, **changes | own, loss=base_loss)
    base = TextBase(
        seed=0, steps=params.base_steps, spec=reader, levels=tuple(levels), text_tokens=params.base_tokens,
        least=params.base_gate, gate_examples=BASE_EXAMPLES, gate_steps=gate_steps,
        answered=params.base_answered,
    )  # fmt: skip
    return small(params, reads, question, answer, loss=params.loss, base=base, **changes)


def tuned(model: str, preset: str, tuning: dict[str, Any], new_tokens: int) -> TunedSpec:
    """The learner that fine-tunes a Hugging Face model.

    Raises:
        BadRequest: for a model that cannot be had, or a setting out of range.
    """
    config = qlora.load_config(model, tuning.get("revision"))
    chosen = finetuning.settings(model, preset, **tuning)
    precision = str(training_dtype(config, chosen.precision)).removeprefix("torch.")
    settings = {name: value for name, value in asdict(chosen).items() if name != "precision"}
    if chosen.loss == "token":
        del settings["loss"]  # cells keep the addresses that they had before there was a choice
    return TunedSpec(precision=precision, settings=settings, new_tokens=new_tokens)
