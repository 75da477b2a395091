"""Exercises of a study: questions as data, checked against what the lab answers, with a hint that fits a mistake.

They stand in `teaching/<study>.yaml` beside this module, with the figure of the study's idea. `{name}` in a text and
`$name` among the arguments is a parameter of the run, `n_name` how many values it has. `right` names a function of
`answers` and its arguments; `judged` one that finds a fault in what a person wrote.

Guaranteed: an answer is right exactly when the lab says so. Left open: a wrong answer that no mistake foresees gets the
next of the general hints.
"""

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict

from labkit.errors import BadRequest
from labkit.studies import answers

FOLDER = Path(__file__).with_name("teaching")
Call = dict[str, dict[str, Any]]  # a function of `answers`, and its arguments
RIGHT = "Right."


class Idea(BaseModel):
    """The figure of a study's idea in words: `arms` and `asked` map a name to words with blanks between."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    title: str
    arms: dict[str, str]
    then: str
    asked: dict[str, str]


class Exercise(BaseModel):
    """One question.

    Attributes:
        minutes: How long it takes.
        hints: From the first nudge to nearly the answer.
        right: What is right; None: `judged` says what is wrong with an answer.
        options: What may be chosen; none: any text.
        within: How far a number may lie off.
        mistakes: What somebody may answer, and what helps.
        solution: An answer that is right; "": `right` itself.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    question: str
    minutes: int
    hints: list[str]
    right: Call | None = None
    judged: Call | None = None
    options: list[str] = []
    within: float = 0
    mistakes: list[tuple[Call | str | float, str]] = []
    solution: str = ""

    def check(self, answer: str) -> str:
        """`RIGHT`, or a sentence that helps on; "" stands for a mistake that nobody foresaw."""
        answer = " ".join(answer.split())
        if not answer:
            return "Write an answer first."
        if self.judged:
            return self._judged(answer) or RIGHT
        right = called(self.right)
        if not isinstance(right, str) and number(answer) is None:
            return f"Write a number: '{answer}' is none."
        if self._equal(answer, right):
            return RIGHT
        return next((hint for mistake, hint in self.mistakes if self._equal(answer, called(mistake))), "")

    def solved(self) -> str:
        """An answer that is right."""
        right = self.solution or called(self.right)
        return right if isinstance(right, str) else f"{right:.6g}"

    def _judged(self, answer: str) -> str:
        ((name, given),) = (self.judged or {}).items()
        try:
            return str(getattr(answers, name)(answer, **given))
        except BadRequest as error:
            return str(error)

    def _equal(self, answer: str, other: Any) -> bool:
        if isinstance(other, str):
            return answer.casefold() == other.casefold()
        value = number(answer)
        return value is not None and abs(value - other) <= self.within + 1e-9


def number(text: str) -> float | None:
    """A number as people write it: `1,000`, `1/3`, `5 %`; None for what is none."""
    plain = text.replace(",", "").replace("−", "-").removesuffix("%")
    try:
        return float(Fraction(plain.replace(" ", ""))) / (100 if text.endswith("%") else 1)
    except (ValueError, ZeroDivisionError):
        return None


def called(value: Any) -> Any:
    """A value, or what a function of `answers` gives."""
    if not isinstance(value, dict):
        return value
    ((name, given),) = value.items()
    return getattr(answers, name)(**given)


def read(study: str, params: Any) -> tuple[Idea, list[Exercise]]:
    """A study's idea and its exercises, with the figures of a run.

    Raises:
        BadRequest: for a study without any.
    """
    path = FOLDER / f"{study}.yaml"
    if not path.exists():
        raise BadRequest(f"study '{study}' has no exercises: they are in {path.name}, which is not there")
    figures = {name: getattr(params, name) for name in type(params).model_fields}
    figures |= {f"n_{name}": len(value) for name, value in figures.items() if isinstance(value, list)}
    whole = _filled(yaml.safe_load(path.read_text("utf-8")), figures)
    return Idea(**whole["idea"]), [Exercise.model_validate(one) for one in whole["exercises"]]


def _filled(value: Any, figures: Mapping[str, Any]) -> Any:
    if isinstance(value, dict):
        return {key: _filled(item, figures) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, figures) for item in value]
    if isinstance(value, str):
        return figures[value[1:]] if value.startswith("$") else value.format_map(figures)
    return value
