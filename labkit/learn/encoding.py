"""From examples to tokens: one symbol per token, fixed-length sequences, loss on the answer only.

A question has parts (a rule's two sides and an input, say). A rewriting example `abc -> xyz` on `..abc...` becomes

    a b c | x y z | . . a b c . . . = . . x y z . . .
                                      ^ the answer: the only tokens that are learned and graded

All sequences of one data set have one length and one answer length, so the label mask is a single number. Where parts
differ in length, each is filled up on its right; the answer's filling is learned and graded like the rest. The tokens
are stored as uint8: a million examples at the paper's lengths are 143 MB.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from labkit.errors import BadRequest
from labkit.instructions import Inputs, RewritingTask, Rules

SEPARATOR, ANSWER, PAD = "|", "=", "."

Tokens = npt.NDArray[np.integer[Any]]


class Encoded(NamedTuple):
    """Token sequences of one length.

    Attributes:
        tokens: integers [N, T].
        answer_length: The last `answer_length` tokens of each sequence are the answer.
        vocabulary: The symbol of each token, in order.
        filling: The token behind a shorter answer's end, which is neither learned nor graded; None: there is none.
    """

    tokens: Tokens
    answer_length: int
    vocabulary: Sequence[str]
    filling: int | None = None

    @property
    def prompt_length(self) -> int:
        return int(self.tokens.shape[1]) - self.answer_length

    def decode(self, row: int) -> str:
        """The sequence as text."""
        return "".join(self.vocabulary[token] for token in self.tokens[row])

    def mask(self) -> list[bool]:
        """For each token of a sequence: is it learned and graded?"""
        return [False] * self.prompt_length + [True] * self.answer_length


@dataclass(frozen=True)
class Layout:
    """How the parts of a question and its answer become one sequence of tokens.

    Attributes:
        alphabet: The symbols of parts and answers.
        widths: The symbols of each part of the question.
        answer: The symbols of the answer.
        padded: Shorter parts and answers are filled up with `PAD` on their right.
        names: What the parts are called, for messages.

    Raises:
        BadRequest: when the alphabet holds one of the marks that a sequence needs.
    """

    alphabet: str
    widths: tuple[int, ...]
    answer: int
    padded: bool = False
    names: tuple[str, ...] = ()

    end: ClassVar[int | None] = None  # no token ends an answer: all are equally long

    def __post_init__(self) -> None:
        marks = SEPARATOR + ANSWER + PAD * self.padded
        if clash := set(marks) & set(self.alphabet):
            raise BadRequest(f"the alphabet must not hold '{min(clash)}', which marks the parts of a sequence")

    @property
    def vocabulary(self) -> str:
        """The alphabet, then the marks."""
        return self.alphabet + SEPARATOR + ANSWER + PAD * self.padded

    @property
    def length(self) -> int:
        """The tokens T of a sequence."""
        return sum(self.widths) + len(self.widths) + self.answer

    def encode(self, questions: Sequence[Sequence[str]], answers: Sequence[str]) -> Encoded:
        """Questions, each a tuple of its parts, and their answers as sequences `part|part=answer`, uint8 [N, T].

        Raises:
            BadRequest: for a symbol outside the alphabet, or a part or answer of the wrong length.
        """
        texts = [
            self.prompt_text(question) + self._fill("answer", answer, self.answer)
            for question, answer in zip(questions, answers, strict=True)
        ]
        return Encoded(self._tokens(texts), self.answer, self.vocabulary)

    def prompt(self, question: Sequence[str]) -> Tokens:
        """The tokens before the answer of one question, uint8 [1, T - answer]; raises as `encode` does."""
        return self._tokens([self.prompt_text(question)])

    def prompt_text(self, question: Sequence[str]) -> str:
        """One question as text, with its marks."""
        if len(question) != len(self.widths):
            raise BadRequest(f"a question of {len(question)} parts; this model was trained on {len(self.widths)}")
        names = self.names or [f"part {i + 1}" for i in range(len(question))]
        filled = [self._fill(*part) for part in zip(names, question, self.widths, strict=True)]
        return SEPARATOR.join(filled) + ANSWER

    def text(self, tokens: Sequence[int]) -> str:
        """The answer that some tokens spell, without the filling on its right."""
        answer = "".join(self.vocabulary[token] for token in tokens)
        return answer.rstrip(PAD) if self.padded else answer

    def _fill(self, name: str, text: str, width: int) -> str:
        if len(text) > width or (len(text) < width and not self.padded):
            raise BadRequest(f"the {name} '{text}' has {len(text)} symbols; this model was trained on {width}")
        if foreign := set(text) - set(self.alphabet):
            raise BadRequest(f"'{min(foreign)}' in the {name} '{text}' is not in the alphabet '{self.alphabet}'")
        return text.ljust(width, PAD)

    def _tokens(self, texts: Sequence[str]) -> Tokens:
        """Texts of one length, a token a symbol, uint8 [N, T]."""
        points = np.array(texts).view(np.uint32).reshape(len(texts), -1)
        table = np.zeros(max(map(ord, self.vocabulary)) + 1, np.uint8)
        table[[ord(symbol) for symbol in self.vocabulary]] = np.arange(len(self.vocabulary))
        return table[points]


def rewriting_layout(task: RewritingTask) -> Layout:
    """The layout `x | y | z = answer` of string rewriting."""
    p, n = task.pattern_length, task.input_length
    return Layout(task.alphabet, (p, p, n), n, names=("pattern", "replacement", "input"))


def encode_rewriting(task: RewritingTask, rules: Rules, inputs: Inputs) -> Encoded:
    """`Layout.encode` without the detour over texts: uint8 [N, 2p + 2n + 3] for pattern length p, input length n."""
    layout = rewriting_layout(task)
    p, n = task.pattern_length, task.input_length
    tokens = np.empty((len(inputs.index), layout.length), np.uint8)
    tokens[:, :p] = rules.x[inputs.index]
    tokens[:, p + 1 : 2 * p + 1] = rules.y[inputs.index]
    tokens[:, [p, 2 * p + 1]] = layout.vocabulary.index(SEPARATOR)
    tokens[:, 2 * p + 2 : 2 * p + 2 + n] = inputs.z
    tokens[:, 2 * p + 2 + n] = layout.vocabulary.index(ANSWER)
    tokens[:, 2 * p + 3 + n :] = inputs.answer
    return Encoded(tokens, n, layout.vocabulary)
