"""Demands on the form of an answer that a program can check: it begins, or ends, with a given word.

A demand goes with an instruction of any family: `sort words by length, end with "aha"` asks for the sorted words and,
on a line of its own after them, `aha`.
"""

from dataclasses import replace
from random import Random
from typing import NamedTuple

from labkit.instructions.family import Task
from labkit.instructions.lexicon import CRIES

PLACES = ("begin", "end")


class Constraint(NamedTuple):
    """Where an answer has a word on a line of its own: `begin` or `end`."""

    place: str
    word: str

    def of(self, task: Task) -> Task:
        """The task with this demand beside its own."""
        example, lines = task.example, [task.example.output, self.word]
        output = "\n".join(lines[::-1] if self.place == "begin" else lines)
        asked = f'{example.instruction}, {self.place} with "{self.word}"'
        return task._replace(example=replace(example, instruction=asked, output=output))

    def rest(self, answer: str) -> str | None:
        """What an answer says beside the word; None where the word is not in its place.

        >>> Constraint("end", "aha").rest("b a\\naha"), Constraint("end", "aha").rest("b a")
        ('b a', None)
        """
        one, _, other = answer.partition("\n") if self.place == "begin" else answer.rpartition("\n")[::-1]
        return other if one == self.word else None


def any_constraint(rng: Random) -> Constraint:
    """A demand, each alike."""
    return Constraint(rng.choice(PLACES), rng.choice(CRIES))
