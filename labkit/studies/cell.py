"""Cells: points of a design that say everything their result depends on, and know their learner and their lesson."""

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict

from labkit import learn
from labkit.lab import Point, Record, Row
from labkit.learn.learner import Learner, SmallLearner
from labkit.learn.memory import check_training_memory
from labkit.studies import harness
from labkit.studies.lesson import Lesson
from labkit.studies.params import ModelParams


class MeasuredCell(Point):
    """One model of a study: a study adds its dials, so that a cell holds everything its result depends on.

    `registration` is the digest of the promise that it is measured under (`studies.registration`); "": none.
    """

    registration: str = ""
    seed: int
    steps: int

    @abstractmethod
    def learner(self, record: Record) -> Learner:
        """A fresh learner; what it rests on (`needs`) is found by the record."""

    @abstractmethod
    def measured(self, record: Record) -> Row:
        """What is measured of it."""


class Cell(MeasuredCell):
    """A cell that is measured by its lesson."""

    @abstractmethod
    def lesson(self) -> Lesson:
        """What the learner learns from, and the exams it sits."""

    def measured(self, record: Record) -> Row:
        """The learner learns its lesson and is graded."""
        return harness.train_and_grade(self, record)


class SmallModel(BaseModel):
    """The sizes of a small transformer, and how it is trained."""

    model_config = ConfigDict(frozen=True)

    recipe: str
    recipe_version: int
    precision: str
    layers: int
    width: int
    heads: int
    expansion: int
    batch_size: int
    learning_rate: float

    @abstractmethod
    def layout(self) -> learn.Layout | learn.TextLayout:
        """How a question and its answer become tokens."""

    def model_shape(self) -> learn.Shape:
        """The sizes of the model."""
        layout = self.layout()
        return learn.Shape(len(layout.vocabulary), layout.length, self.layers, self.width, self.heads, self.expansion)

    def untrained(self, seed: int, loss: learn.Loss = "token") -> SmallLearner:
        """A fresh learner with random weights."""
        sizes, batch, rate = (self.model_shape(), self.layout()), self.batch_size, self.learning_rate
        return SmallLearner(self.recipe, *sizes, seed=seed, batch=batch, rate=rate, loss=loss)


class ModelCell(SmallModel, Cell):
    """A cell whose learner is a small transformer trained from scratch."""

    n_test: int

    def learner(self, record: Record) -> SmallLearner:
        return self.untrained(self.seed)

    @property
    def shape(self) -> tuple[Any, ...] | None:
        """Cells of equal shape can be trained as one fleet, where the recipe can."""
        if not learn.RECIPES[self.recipe].FLEET:
            return None
        return self.recipe, self.recipe_version, self.precision, self.batch_size, self.model_shape(), self.layout()


C = TypeVar("C", bound=ModelCell)


def cells(cell_class: type[C], params: ModelParams, dials: Iterable[Mapping[str, Any]]) -> list[C]:
    """A cell for each setting of the dials; its other fields are the parameters of the same names.

    The recipe's version and the machine's precision are written into the cell, so that its address changes with them.

    Raises:
        BadRequest: for a model that this machine's memory cannot train.
    """
    shared = {name: value for name, value in params if name in cell_class.model_fields}
    shared |= {
        "recipe_version": learn.RECIPES[params.recipe].VERSION,
        "precision": learn.precision_name(learn.best_device()),
    }
    made = [cell_class(**{**shared, **dial}) for dial in dials]
    for sizes in {(c.recipe, c.model_shape(), c.batch_size, c.layout().answer) for c in made}:
        check_training_memory("a model of these settings", *sizes)
    return made


def measure(cell: Any, record: Record) -> Row:
    """How a sweep measures any cell: the cell knows."""
    return cell.measured(record)


def measure_many(cells: Sequence[Any], records: Sequence[Record]) -> list[Row]:
    """The same for cells of one shape, together."""
    return harness.train_and_grade_together(cells, records)
