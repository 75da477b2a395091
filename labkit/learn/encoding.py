"""From examples to tokens: one symbol a token, fixed-length batches, loss on the answer only.

A rewriting example `abc -> xyz` on `..abc...` becomes the sequence

    a b c | x y z | . . a b c . . . = . . x y z . . .
                                      ^ the answer: the only tokens that are learned and graded

All sequences of one data set have one length and one answer length, so nothing is padded and the label mask is a
single number. The tokens are stored as uint8: a million examples at the paper's lengths are 143 MB.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from labkit.errors import BadRequest
from labkit.instructions import Inputs, RewritingTask, Rules, encode

SEPARATOR, ANSWER = "|", "="

Tokens = npt.NDArray[np.uint8]


class Encoded(NamedTuple):
    """Token sequences of one length.

    Attributes:
        tokens: uint8 [N, T].
        answer_length: The last `answer_length` tokens of each sequence are the answer.
        vocabulary: The symbol of each token, in order.
    """

    tokens: Tokens
    answer_length: int
    vocabulary: str

    @property
    def prompt_length(self) -> int:
        return int(self.tokens.shape[1]) - self.answer_length

    def decode(self, row: int) -> str:
        """The sequence as text."""
        return "".join(self.vocabulary[token] for token in self.tokens[row])

    def mask(self) -> list[bool]:
        """For each token of a sequence: is it learned and graded?"""
        return [False] * self.prompt_length + [True] * self.answer_length


def vocabulary(task: RewritingTask) -> str:
    """The alphabet, then the two markers.

    Raises:
        BadRequest: when the alphabet holds a marker.
    """
    if clash := {SEPARATOR, ANSWER} & set(task.alphabet):
        raise BadRequest(f"the alphabet must not hold '{min(clash)}', which marks the parts of a sequence")
    return task.alphabet + SEPARATOR + ANSWER


def encode_rewriting(task: RewritingTask, rules: Rules, inputs: Inputs) -> Encoded:
    """The sequences `x | y | z = answer`, uint8 [N, 2p + 2n + 3] for pattern length p and input length n."""
    symbols = vocabulary(task)
    p, n = task.pattern_length, task.input_length
    tokens = np.empty((len(inputs.index), 2 * p + 2 * n + 3), np.uint8)
    tokens[:, :p] = rules.x[inputs.index]
    tokens[:, p + 1 : 2 * p + 1] = rules.y[inputs.index]
    tokens[:, [p, 2 * p + 1]] = symbols.index(SEPARATOR)
    tokens[:, 2 * p + 2 : 2 * p + 2 + n] = inputs.z
    tokens[:, 2 * p + 2 + n] = symbols.index(ANSWER)
    tokens[:, 2 * p + 3 + n :] = inputs.answer
    return Encoded(tokens, n, symbols)


def encode_prompt(task: RewritingTask, pattern: str, replacement: str, text: str) -> Tokens:
    """The prompt `x | y | z =` of one question, uint8 [1, 2p + n + 3].

    Raises:
        BadRequest: for a symbol outside the alphabet, or lengths the model was not trained on.
    """
    expected = {
        "pattern": task.pattern_length,
        "replacement": task.pattern_length,
        "input": task.input_length,
    }
    for (name, length), given in zip(expected.items(), (pattern, replacement, text), strict=True):
        if len(given) != length:
            raise BadRequest(f"the {name} '{given}' has {len(given)} symbols; this model was trained on {length}")
    symbols = vocabulary(task)
    separator, equals = (np.array([symbols.index(mark)], np.uint8) for mark in (SEPARATOR, ANSWER))
    x, y, z = (encode(part, task.alphabet) for part in (pattern, replacement, text))
    return np.concatenate([x, separator, y, separator, z, equals])[None]
