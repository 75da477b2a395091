"""A lesson: what a cell's model learns from, and the exams it sits. Nothing here knows what an instruction is."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from labkit import grade
from labkit.learn.learner import Data, Flags, Learner, size_of, subset
from labkit.studies.rows import graded_line

Judge = Callable[[list[str]], Mapping[str, Flags]]
AS_TEXT = "string"  # the grading by exact match, where an exam has a judge of its own
NONE: Mapping[str, Any] = MappingProxyType({})


class Exam(NamedTuple):
    """Examples to be graded.

    Attributes:
        data: The questions with their right answers.
        instruction: The instruction each example belongs to, [N]: the clusters of the intervals.
        n_instructions: How many there are.
        kinds: Subsets of the examples, bool [N], that are also graded apart.
        judge: From the answers as texts to verdicts by grading, each bool [N]: "" is the exam's own, others are graded
            beside it, and exact match under `AS_TEXT`. What cannot be judged is masked (`numpy.ma`) and counts as not
            asked. Default: exact match alone.
        gold: Whether the examples hold right answers; without, everything is written and judged.
    """

    data: Data
    instruction: NDArray[np.int64]
    n_instructions: int
    kinds: Mapping[str, Flags] = NONE
    judge: Judge | None = None
    gold: bool = True

    def quick(self, learner: Learner, first: int) -> float:
        """The share of the first so many examples that are answered exactly."""
        places = np.arange(min(first, size_of(self.data)))
        return float(learner.right(subset(self.data, places)).mean())

    def verdicts(self, learner: Learner, keep: Path | None = None) -> dict[str, Flags]:
        """The verdict on every example by grading, bool [N] each; see `judge`. Judged answers are kept in a file."""
        right = {AS_TEXT: learner.right(self.data)} if self.gold else {}
        if self.judge is None:
            return {"": right[AS_TEXT]}
        answers = learner.written(self.data, right[AS_TEXT]) if self.gold else learner.answer(self.data)
        if keep is not None:
            keep.write_text("".join(json.dumps(answer) + "\n" for answer in answers), "utf-8")
        return {**right, **self.judge(answers)}

    def lines(self, name: str, verdicts: Mapping[str, Flags]) -> list[dict[str, Any]]:
        """The graded lines of the exam: of all its examples, and of each kind that occurs; see `studies.rows`."""
        return [
            graded_line(name, kind, grading, self._counts(right, which))
            for grading, right in verdicts.items()
            for kind, which in {"": np.ones(len(right), np.bool_), **self.kinds}.items()
            if (which & ~np.ma.getmaskarray(right)).any()
        ]

    def _counts(self, right: Flags, which: Flags) -> grade.Counts:
        which, n = which & ~np.ma.getmaskarray(right), self.n_instructions
        hit, asked = self.instruction[which & np.ma.getdata(right)], self.instruction[which]
        return grade.Counts(np.bincount(hit, minlength=n), np.bincount(asked, minlength=n))


class Lesson(NamedTuple):
    """What a cell's model learns from, and its exams by name; the first decides whether it has learned.

    Learning curves follow the first two exams, by exact match. `about` is what the row shall say of the data. `steps`
    holds where the cell's are 0: data of one size in tokens are of several sizes in examples.
    """

    data: Data
    exams: Mapping[str, Any]  # `Exam`, or what is graded like one (`studies.read_exams.Followed`)
    about: Mapping[str, Any] = NONE
    steps: int | None = None
