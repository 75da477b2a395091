"""From questions and answers of any length to token sequences: word pieces for the small transformer.

A piece is a word, an operator, a digit or a run of white space that many texts share; whatever is rarer is spelled
letter by letter, so that random strings are seen symbol by symbol. Every text over `SYMBOLS` can be spelled, and a text
is exactly the join of its pieces.

A sequence has two fixed parts, so that models of one shape train together (`.` is the filling):

    . . . . [question in pieces] [answer mark] | [answer in pieces] [end] . . . .

The question is filled up on its left, so that every answer begins at the same place; the filling after the end is
neither learned nor graded. Left open: the filling is computed all the same, and the question's is attended to.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np

from labkit.errors import BadRequest
from labkit.learn.encoding import Encoded, Tokens

SYMBOLS = "\n " + "".join(map(chr, range(33, 127)))
MARKS = ("<pad>", "<end>", "<answer>")
PAD, END, ANSWER = range(len(MARKS))
WORD = re.compile(r" ?[A-Za-z_]+| ?\d| ?[^\w\s]+|\n *|.", re.DOTALL)


def pieces(texts: Iterable[str], at_least: int) -> tuple[str, ...]:
    """The pieces that occur in `at_least` of the texts, in alphabetical order, and every single symbol.

    >>> pieces(["sort it", "sort qx", "sort"], at_least=2)[-1]
    'sort'
    """
    counts = Counter(word for text in texts for word in set(WORD.findall(text)))
    return tuple(SYMBOLS) + tuple(sorted(w for w, n in counts.items() if n >= at_least and len(w) > 1))


@dataclass(frozen=True)
class TextLayout:
    """How a question and its answer, both texts, become one sequence of tokens.

    Attributes:
        pieces: The vocabulary, without the marks.
        question: The most pieces a question may have.
        answer: The most pieces an answer may have, its end mark included.
    """

    pieces: tuple[str, ...]
    question: int
    answer: int

    end: ClassVar[int | None] = END

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The marks, then the pieces."""
        return (*MARKS, *self.pieces)

    @property
    def length(self) -> int:
        """The tokens T of a sequence."""
        return self.question + 1 + self.answer

    @cached_property
    def _number(self) -> dict[str, int]:
        return {piece: number for number, piece in enumerate(self.vocabulary)}

    def split(self, text: str) -> list[int]:
        """The pieces of a text.

        Raises:
            BadRequest: for a symbol that no piece spells.
        """
        number, found = self._number, list[int]()
        for word in WORD.findall(text):
            if word in number:
                found.append(number[word])
                continue
            foreign = next((symbol for symbol in word if symbol not in number), None)
            if foreign:
                raise BadRequest(f"the symbol {foreign!r} in {text!r} is none this model knows: plain ASCII, no tabs")
            found += [number[symbol] for symbol in word]
        return found

    def fits(self, question: str, answer: str) -> bool:
        """Does an example fit into a sequence?"""
        return len(self.split(question)) <= self.question and len(self.split(answer)) < self.answer

    def encode(self, questions: Sequence[str], answers: Sequence[str]) -> Encoded:
        """Questions and answers as sequences, int16 [N, T].

        Raises:
            BadRequest: for a symbol that no piece spells, or a text that is too long.
        """
        tokens = np.full((len(questions), self.length), PAD, np.int16)
        for row, question, answer in zip(tokens, questions, answers, strict=True):
            row[: self.question + 1] = self._prompt(question)
            spelled = [*self.split(answer), END]
            if len(spelled) > self.answer:
                raise BadRequest(f"an answer of {len(spelled) - 1} pieces; at most {self.answer - 1}: {answer!r}")
            row[self.question + 1 :][: len(spelled)] = spelled
        return Encoded(tokens, self.answer, self.vocabulary, filling=PAD)

    def prompt(self, question: Sequence[str]) -> Tokens:
        """The tokens before the answer of one question (a single part), int16 [1, T - answer]; raises as `encode`."""
        if len(question) != 1:
            raise BadRequest(f"a question of {len(question)} parts; this model reads one text")
        return self._prompt(question[0])[None]

    def text(self, tokens: Sequence[int]) -> str:
        """What some answer tokens spell, up to the end mark."""
        tokens = list(tokens)
        whole = tokens[: tokens.index(END)] if END in tokens else tokens
        return "".join(self.vocabulary[token] for token in whole if token >= len(MARKS))

    def _prompt(self, question: str) -> Tokens:
        spelled = self.split(question)
        if len(spelled) > self.question:
            raise BadRequest(f"a question of {len(spelled)} pieces; at most {self.question}: {question!r}")
        return np.array([PAD] * (self.question - len(spelled)) + spelled + [ANSWER], np.int16)
