"""Kinds of questions about one rewriting rule: which a question is of, and more of the same kind.

A question is a rule x -> y and an input z. A model that follows nearly every rule may still fail on a kind that its
training held little of: rules are drawn letter by letter, so that `aaa` is one x in 676. A question can be of several
kinds; of none, it is plain.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from labkit.errors import BadRequest
from labkit.instructions.rewriting import Rule

PLAIN = "none of these"


class Question(NamedTuple):
    """A rule's two sides and an input."""

    x: str
    y: str
    z: str

    @property
    def answer(self) -> str:
        """What is right."""
        return Rule(self.x, self.y).apply(self.z)


class _Drawn:
    """Letters of one random source, and a question of given sizes."""

    def __init__(self, alphabet: str, pattern: int, length: int, rng: np.random.Generator) -> None:
        self.letters, self.pattern, self.length, self.rng = list(alphabet), pattern, length, rng

    def text(self, n: int) -> str:
        return "".join(self.rng.choice(self.letters, n))

    def one(self, n: int) -> str:
        return str(self.rng.choice(self.letters)) * n

    def around(self, middle: str) -> str:
        """An input of the whole length that holds a text."""
        before = int(self.rng.integers(self.length - len(middle) + 1))
        return self.text(before) + middle + self.text(self.length - len(middle) - before)

    def question(self, x: str | None = None, y: str | None = None, middle: str | None = None) -> Question:
        x = x or self.text(self.pattern)
        return Question(x, y or self.text(self.pattern), self.around(x if middle is None else middle))

    def twice(self) -> Question:
        x = self.text(self.pattern)
        return self.question(x, middle=x + self.text(int(self.rng.integers(self.length - 2 * self.pattern + 1))) + x)

    def false_start(self) -> Question:
        x = self.text(self.pattern)
        return self.question(x, middle=x[:-1] + self.text(1) + x)

    def one_letter(self) -> Question:
        x = self.one(self.pattern)
        return Question(x, self.text(self.pattern), x[0] * self.length)


KINDS: dict[str, tuple[Callable[[Question], bool], Callable[[_Drawn], Question]]] = {
    "the input is one letter, repeated": (lambda q: len(set(q.z)) == 1, _Drawn.one_letter),
    "x is one letter, repeated": (lambda q: len(set(q.x)) == 1, lambda d: d.question(x=d.one(d.pattern))),
    "y is one letter, repeated": (lambda q: len(set(q.y)) == 1, lambda d: d.question(y=d.one(d.pattern))),
    "x occurs several times": (lambda q: q.z.count(q.x) > 1, _Drawn.twice),
    "x begins, breaks off, and comes later": (lambda q: -1 < q.z.find(q.x[:-1]) < q.z.find(q.x), _Drawn.false_start),
    "x does not occur": (lambda q: q.x not in q.z, lambda d: d.question(middle="")),
    PLAIN: (lambda q: not any(holds(q) for holds, _ in list(KINDS.values())[:-1]), _Drawn.question),
}


def kinds_of(question: Question) -> list[str]:
    """The kinds that a question is of; `PLAIN` alone for one of none."""
    return [name for name, (holds, _) in KINDS.items() if holds(question)]


def draw_kind(kind: str, n: int, *, alphabet: str, pattern: int, length: int, seed: int) -> Sequence[Question]:
    """So many questions of a kind, with x and y of `pattern` letters and inputs of `length`.

    Raises:
        BadRequest: for sizes that leave the kind no room: some need two x in an input, or an x of two letters.
    """
    if pattern < 2 or length < 2 * pattern:
        raise BadRequest(f"x of {pattern} letters in inputs of {length}: kinds need two letters or more, twice")
    holds, draw = KINDS[kind]
    drawn, found = _Drawn(alphabet, pattern, length, np.random.default_rng(seed)), list[Question]()
    while len(found) < n:  # nearly all hold: letters that were drawn may by chance spoil the kind
        question = draw(drawn)
        found += [question] if holds(question) else []
    return found
