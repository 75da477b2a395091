"""What the general families are made of: instructions given as tables of steps.

A family is a table of kinds, and a kind is a row of pools of steps; an instruction settles one step of each pool, and
the step's values.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import chain
from random import Random
from typing import Any, NamedTuple

from labkit.errors import BadRequest
from labkit.instructions.draws import Domain, Draw, Values, by_text
from labkit.instructions.family import Family, Instruction, TaskType, combined, phrasings
from labkit.instructions.lexicon import ALIKE, LETTERS, SYNONYMS

# Words, indentations, the operators of code, single letters, digits and marks.
PIECE = re.compile(r"[a-z]*[aeiouy][a-z]*|\n *|(?<= )[^\w\s]{2}(?= )|\S")


Options = Callable[..., tuple[str, ...]]  # from what is given and the values to the choices of a closed question


class Step(NamedTuple):
    """One operation.

    Attributes:
        texts: Its wordings, with places for values.
        values: How these are drawn.
        do: What it does: from what is given and the values to the result.
        domains: What each value may be.
        complete: See `Draw`.
        work: From the same as `do` to lines that lead to the result, where one step hides several.
        options: From the same to the choices of a closed question.
    """

    texts: tuple[str, ...]
    values: Callable[[Random, int], Values]
    do: Callable[..., Any]
    domains: tuple[Domain, ...]
    complete: Callable[[Values], Values | None]
    work: Callable[..., Sequence[str]] = lambda *_: ()
    options: Options = lambda *_: ()

    @property
    def wordings(self) -> tuple[str, ...]:
        """The texts in use."""
        return self.texts[:8]


Pool = tuple[Step, ...]
Fact = tuple[str, str, str]
Input = Callable[[Random, int, list[Values]], str]  # from the level and the steps' values


class Kind(NamedTuple):
    """Requests of one shape: a step of each pool in turn, with what draws, reads and shows their values."""

    levels: tuple[int, ...]
    pools: tuple[Pool, ...]
    input: Input
    read: Callable[[str], Any] = str.split
    show: Callable[[Any], str] = " ".join


class StepFamily(Family):
    """A family given as a table of kinds."""

    def __init__(self, name: str, task_type: TaskType, *kinds: Kind) -> None:
        self.name, self.task_type, self.kinds = name, task_type, kinds
        self._at = {level: [i for i, kind in enumerate(kinds) if level in kind.levels] for level in (1, 2, 3)}

    def instruction(self, rng: Random, level: int) -> Instruction:
        """See `Family`; the setting is the kind's number and what is settled for each pool."""
        number = rng.choice(self._at[level])
        pools = self.kinds[number].pools
        chosen = [rng.randrange(len(pool)) for pool in pools]
        return self.settle(number, [(i, pool[i].values(rng, level)) for i, pool in zip(chosen, pools, strict=True)])

    def settle(self, number: int, settled: Sequence[tuple[int, Values]]) -> Instruction:
        """The instruction of a kind with a step of each pool, by its number there, and the step's values."""
        pools = self.kinds[number].pools
        steps = zip(settled, pools, strict=True)
        texts = [[text.format(*values) for text in pool[i].wordings] for (i, values), pool in steps]
        key = ", then ".join(wordings[0] for wordings in texts)
        return Instruction(f"{self.name}: {key}", combined(texts), (number, tuple(settled)), key)

    def input(self, instruction: Instruction, rng: Random, level: int) -> str:
        """See `Family`."""
        number, settled = instruction.setting
        return self.kinds[number].input(rng, level, [values for _, values in settled])

    def answer(self, instruction: Instruction, text: str) -> str:
        """See `Family`: the steps, carried out one after the other.

        Raises:
            BadRequest: for a text that is no input of this instruction, so far as that shows.
        """
        return self._lines(instruction, text, work=False)[-1]

    def worked(self, instruction: Instruction, text: str) -> str:
        """See `Family`: what there is after every step; raises as `answer` does."""
        return "\n".join(self._lines(instruction, text, work=True))

    def options(self, instruction: Instruction, text: str) -> tuple[str, ...]:
        """See `Family`; only requests of a single step are closed."""
        (step, values), *more = self._steps(instruction)
        return () if more else step.options(self.kinds[instruction.setting[0]].read(text), *values)

    def wrong(self, instruction: Instruction, text: str, rng: Random) -> str:
        """See `Family`: the answer to another request of the kind, or the right one with one thing changed."""
        number, settled = instruction.setting
        kind, right = self.kinds[number], self.answer(instruction, text)
        if rng.random() < 0.5:
            other = [(i, pool[i].values(rng, kind.levels[0])) for (i, _), pool in zip(settled, kind.pools, strict=True)]
            with suppress(BadRequest):  # the text may say nothing of the other's values
                if (found := self.answer(self.settle(number, other), text)) not in ("", right):
                    return found
        return perturbed(right, text, rng)

    def _lines(self, instruction: Instruction, text: str, work: bool) -> list[str]:
        kind, lines = self.kinds[instruction.setting[0]], list[str]()
        try:
            value = kind.read(text)
            for step, values in self._steps(instruction):
                lines += step.work(value, *values) if work else ()
                value = step.do(value, *values)
                lines.append(kind.show(value))
        except (LookupError, RuntimeError, StopIteration, ValueError):
            raise BadRequest(f"'{instruction.composition}' cannot be carried out on {text!r} ({self.name})") from None
        return lines

    def _steps(self, instruction: Instruction) -> Iterator[tuple[Step, Values]]:
        number, settled = instruction.setting
        return ((pool[i], values) for (i, values), pool in zip(settled, self.kinds[number].pools, strict=True))


_KNOWN = {word for words in ALIKE for word in words}
_PART = re.compile(r"\b(?:" + "|".join(word for word in _KNOWN if len(word) > 1) + r")\b|\S")


def perturbed(answer: str, text: str, rng: Random) -> str:
    """An answer with a word, letter, digit or mark changed for one of its kind, of the text's where it has some."""
    parts = [part for part in _PART.finditer(answer) if part[0] in _KNOWN]
    words = [part for part in parts if len(part[0]) > 1]
    if not parts:
        return answer + rng.choice(LETTERS)
    old = rng.choice(words or parts)
    others = [one for one in next(some for some in ALIKE if old[0] in some) if one != old[0]]
    given = [one for one in _PART.findall(text) if one in others]
    new = rng.choice(given if given and rng.random() < 0.7 else others)
    return answer[: old.start()] + new + answer[old.end() :]


def step_of(template: str, do: Callable[..., Any], *values: Sequence[Any] | Draw,
            work: Callable[..., Sequence[str]] = lambda *_: (),
            options: Options = lambda *_: ()) -> Step:  # fmt: skip
    """A step; each value is drawn from a sequence, or by a `Draw`; one `Draw` of a tuple draws all values together."""

    def draw(rng: Random, level: int) -> Values:
        drawn = tuple(one(rng, level) if isinstance(one, Draw) else rng.choice(one) for one in values)
        return drawn[0] if len(drawn) == 1 and type(drawn[0]) is tuple else drawn

    domains = [one.domains if isinstance(one, Draw) else (by_text(one),) for one in values]
    complete = values[0].complete if len(values) == 1 and isinstance(values[0], Draw) else lambda values: values
    texts = phrasings(re.sub("<([a-z]+)>", lambda name: f"[{SYNONYMS[name[1]]}]", template))
    return Step(texts, draw, do, tuple(chain(*domains)), complete, work, options)
