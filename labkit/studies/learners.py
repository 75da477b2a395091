"""Which learner a cell of a language study has: a small model or a fine-tuned one, as part of the cell's address."""

from dataclasses import asdict
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from labkit import learn
from labkit.lab import Record
from labkit.learn import finetuning, qlora
from labkit.learn.learner import Learner, SmallLearner, TunedLearner
from labkit.learn.memory import check_training_memory
from labkit.studies import language
from labkit.studies.params import MODEL_GROUP, ModelParams

SMALL = "small"  # the model of studies whose learner is a small transformer; any other name is a Hugging Face model


class SmallSpec(BaseModel):
    """A small transformer from scratch that reads word pieces of some instruction families."""

    model_config = ConfigDict(frozen=True)

    shares_run: ClassVar[bool] = SmallLearner.shares_run
    kind: Literal["small"] = "small"
    recipe: str
    recipe_version: int
    precision: str
    layers: int
    width: int
    heads: int
    expansion: int
    batch_size: int
    learning_rate: float
    reads: tuple[str, ...]
    question: int
    answer: int
    vocabulary: str

    def layout(self) -> learn.TextLayout:
        """Word pieces of the families; every question begins with its instruction."""
        return learn.TextLayout(language.vocabulary(self.reads), self.question, self.answer)

    def shape(self) -> learn.Shape:
        """The sizes of the model."""
        layout = self.layout()
        return learn.Shape(len(layout.vocabulary), layout.length, self.layers, self.width, self.heads, self.expansion)

    def make(self, seed: int, record: Record) -> Learner:
        shape, layout = self.shape(), self.layout()
        return SmallLearner(self.recipe, shape, layout, seed=seed, batch=self.batch_size, rate=self.learning_rate)


class TunedSpec(BaseModel):
    """A Hugging Face model that is fine-tuned; `settings` are those of `learn.finetuning.Finetuning`."""

    model_config = ConfigDict(frozen=True)

    shares_run: ClassVar[bool] = TunedLearner.shares_run
    kind: Literal["tuned"] = "tuned"
    precision: str
    settings: dict[str, Any]
    new_tokens: int

    def make(self, seed: int, record: Record) -> Learner:
        settings = finetuning.Finetuning(**{**self.settings, "seed": seed})
        return TunedLearner(settings, self.new_tokens, say=record.note)


Spec = Annotated[SmallSpec | TunedSpec, Field(discriminator="kind")]


def small(params: ModelParams, reads: tuple[str, ...], question: int, answer: int, **changes: Any) -> SmallSpec:
    """The small learner of a study's parameters, reading these families.

    Raises:
        BadRequest: for a model that this machine's memory cannot train.
    """
    own = {name: getattr(params, name) for name in MODEL_GROUP if name != "steps"}
    spec = SmallSpec(
        **own | changes,
        reads=reads,
        recipe_version=learn.RECIPES[params.recipe].VERSION,
        precision=learn.precision_name(learn.best_device()),
        **language.reading(reads, question, answer),
    )
    check_training_memory("a model of these settings", spec.recipe, spec.shape(), spec.batch_size, answer)
    return spec


def tuned(model: str, preset: str, tuning: dict[str, Any], new_tokens: int) -> TunedSpec:
    """The learner that fine-tunes a Hugging Face model.

    Raises:
        BadRequest: for a model that cannot be had, or a setting out of range.
    """
    qlora.load_config(model, tuning.get("revision"))
    settings = asdict(finetuning.settings(model, preset, **tuning))
    return TunedSpec(precision=learn.precision_name(learn.best_device()), settings=settings, new_tokens=new_tokens)
