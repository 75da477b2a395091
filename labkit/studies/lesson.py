"""A lesson: what a cell's model learns from, and the exams it sits. Nothing here knows what an instruction is."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from labkit import grade, learn
from labkit.studies.rows import graded_line

Flags = NDArray[np.bool_]
Judge = Callable[[list[str]], Mapping[str, Flags]]
AS_TEXT = "string"  # the grading by exact match, where an exam has a judge of its own


class Exam(NamedTuple):
    """Examples to be graded.

    Attributes:
        data: The questions with their right answers.
        instruction: The instruction each example belongs to, [N]: the clusters of the intervals.
        n_instructions: How many there are.
        kinds: Subsets of the examples, bool [N], that are also graded apart.
        judge: From the answers as texts to verdicts by grading, each bool [N]: "" is the exam's own, others are graded
            beside it, and exact match under `AS_TEXT`. Default: exact match alone.
    """

    data: learn.Encoded
    instruction: NDArray[np.int64]
    n_instructions: int
    kinds: Mapping[str, Flags] = {}
    judge: Judge | None = None

    def matches(self, model: nn.Module, device: str = "cpu", first: int | None = None) -> Tensor:
        """For each example (or the first few): is the whole answer the right one, token by token? Bool [N]."""
        data = self.data._replace(tokens=self.data.tokens[:first])
        answers = torch.from_numpy(data.tokens[:, data.prompt_length :]).long()
        ignore = -100 if data.filling is None else data.filling
        return grade.exact_match(learn.predict(model, data, device=device), answers, ignore=ignore)

    def verdicts(
        self, model: nn.Module, layout: learn.Layout | learn.TextLayout, device: str = "cpu"
    ) -> dict[str, Tensor]:
        """The verdict on every example by grading: bool [N] each; see `judge`."""
        matches = self.matches(model, device)
        if self.judge is None:
            return {"": matches}
        judged = self.judge(self._answers(model, layout, matches, device))
        return {AS_TEXT: matches} | {name: torch.from_numpy(right) for name, right in judged.items()}

    def _answers(
        self, model: nn.Module, layout: learn.Layout | learn.TextLayout, matches: Tensor, device: str
    ) -> list[str]:
        """The answers as texts; those that do not match are decoded greedily, as the model would write them."""
        tokens, start = torch.from_numpy(self.data.tokens).long(), self.data.prompt_length
        answers = [layout.text(row) for row in tokens[:, start:].tolist()]
        for places in torch.nonzero(~matches)[:, 0].split(512):
            if len(places):
                prompts = tokens[places, :start].to(device)
                written = learn.generate(model, prompts, layout.answer, layout.end).tolist()
                for place, row in zip(places.tolist(), written, strict=True):
                    answers[place] = layout.text(row)
        return answers

    def lines(self, name: str, verdicts: Mapping[str, Tensor]) -> list[dict[str, Any]]:
        """The graded lines of the exam: of all its examples, and of each kind that occurs; see `studies.rows`."""
        return [
            graded_line(name, kind, grading, self._counts(right, which))
            for grading, right in verdicts.items()
            for kind, which in {"": np.ones(len(right), np.bool_), **self.kinds}.items()
            if which.any()
        ]

    def _counts(self, right: Tensor, which: Flags) -> grade.Counts:
        chosen, instruction = torch.from_numpy(which), torch.from_numpy(self.instruction)
        return grade.per_rule_counts(right[chosen], instruction[chosen], self.n_instructions)


class Lesson(NamedTuple):
    """What a cell's model learns from, and its exams by name; the first decides whether it has learned.

    Learning curves follow the first two exams, by exact match. `about` is what the row shall say of the data. `steps`
    overrides the cell's, where data of one size in tokens are of several sizes in examples.
    """

    data: learn.Encoded
    exams: dict[str, Exam]
    about: Mapping[str, Any] = {}
    steps: int | None = None
