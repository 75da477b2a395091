"""Encrypted rewriting: apply a rule x -> y, then encrypt the result; a rewriting task no pre-trained model knows.

The task with which arXiv 2402.10891 (Fig. 5; also 2405.19787) fine-tunes a pre-trained model: the rule is rewriting's
own (`labkit.instructions.rewriting`), the answer is the *encrypted* result. Which cipher the paper uses is not known
here. The reading is the plainest: Caesar's, every letter of the whole result moved `shift` places on in the alphabet,
round its end; one key for a whole study, so that rules vary and the cipher does not. A no-op is encrypted as well: its
result is z. Alternatives are a key that each instruction names, and encrypting y alone; neither is offered.

Guaranteed: all that `draw_rules` and `draw_inputs` guarantee; answers come from the rewritten input. `encrypt_plain`
after `Rule.apply` says the same in plain Python; it is the oracle of the fast path.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from labkit.errors import BadRequest
from labkit.instructions.example import Example
from labkit.instructions.rewriting import Inputs, Ints, RewritingTask, Rules, decode, draw_inputs


@dataclass(frozen=True)
class EncryptedTask:
    """Rewriting with a key: places that each letter of the result moves on, 1 to one less than the alphabet has."""

    rewriting: RewritingTask
    shift: int

    def __post_init__(self) -> None:
        symbols = len(self.rewriting.alphabet)
        if not 0 < self.shift < symbols:
            raise BadRequest(f"shift = {self.shift}: with {symbols} symbols a key is 1 to {symbols - 1}")


def draw_encrypted(task: EncryptedTask, rules: Rules, index: Ints, *, seed: int | np.random.Generator) -> Inputs:
    """One input for each rule number in index [N], as `draw_inputs` draws it, its answer encrypted."""
    inputs = draw_inputs(task.rewriting, rules, index, seed=seed)
    return replace(inputs, answer=(inputs.answer + np.uint8(task.shift)) % np.uint8(len(task.rewriting.alphabet)))


def encrypt_plain(text: str, shift: int, alphabet: str) -> str:
    """The text with every letter moved on.

    >>> encrypt_plain("xyz", 3, "abcdefghijklmnopqrstuvwxyz")
    'abc'
    """
    return "".join(alphabet[(alphabet.index(letter) + shift) % len(alphabet)] for letter in text)


def encrypted_examples(task: EncryptedTask, rules: Rules, inputs: Inputs, *, words: bool = True) -> Iterator[Example]:
    """The inputs as examples in order: in words, or in the base model's notation `x|y` (`labkit.studies.base_model`).

    In words letters stand apart, so that a tokenizer of English makes a token of each. In the notation the key is told
    nowhere: the model has to learn it from the examples.
    """
    alphabet, apart = task.rewriting.alphabet, " ".join if words else "".join
    for i, z, answer in zip(inputs.index, inputs.z, inputs.answer, strict=True):
        rule = rules.rule(int(i))
        text = f'Replace the first "{apart(rule.pattern)}" with "{apart(rule.replacement)}". Then encrypt the result: '
        text += f"move every letter {task.shift} places on in the alphabet."
        instruction = text if words else f"{rule.pattern}|{rule.replacement}"
        told, wanted = apart(decode(z, alphabet)), apart(decode(answer, alphabet))
        yield Example(instruction, told, wanted, "encrypted", str(rule))
