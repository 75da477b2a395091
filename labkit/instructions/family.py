"""Instruction families: what a family is, and how examples are drawn from it.

A family draws *instructions* (an operation with its settings, in several phrasings), *inputs* for each, and knows the
right answer. Guarantees of `draw`:
- equal seeds give equal examples;
- an instruction belongs to one split: training and test share no `Instruction.key`, whatever the seeds;
- the answer is the oracle's, and `accepts` takes it.
Left open: two instructions with different keys may agree on some inputs; a family whose keys are behaviours
(`labkit.instructions.functions`) closes that, too.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from hashlib import sha256
from random import Random
from typing import Any, Literal, NamedTuple

from labkit.errors import BadRequest
from labkit.instructions.example import Example

Split = Literal["train", "test"]
SPLITS: tuple[Split, ...] = ("train", "test")
LEVELS = (1, 2, 3)
HELD_OUT = 5  # one key in so many belongs to the test split
_TRIES = 200  # draws for each instruction wanted, before a family counts as exhausted


class Instruction(NamedTuple):
    """One operation, settled.

    Attributes:
        key: What the splits separate: equal keys are equal instructions, whatever their phrasing.
        phrasings: The same request in different words.
        setting: What the family's oracle needs; the family alone looks inside.
        composition: The operation as short canonical text; equals `key` unless a family's keys are behaviours.
    """

    key: str
    phrasings: tuple[str, ...]
    setting: Any
    composition: str


class Task(NamedTuple):
    """An example with what grades it."""

    example: Example
    instruction: Instruction
    level: int


class Family(ABC):
    """A family of instructions with its oracle.

    Attributes:
        name: One lower-case word or two, such as `sorting`; the source of its examples.
        task_type: The kind of work, as task-aware re-balancing counts it.
    """

    name: str
    task_type: str

    @abstractmethod
    def instruction(self, rng: Random, level: int) -> Instruction:
        """An instruction of difficulty `level` (1, 2 or 3)."""

    @abstractmethod
    def input(self, instruction: Instruction, rng: Random, level: int) -> str:
        """Something to carry the instruction out on; empty where it says it all."""

    @abstractmethod
    def answer(self, instruction: Instruction, text: str) -> str:
        """The right answer: the oracle."""

    def accepts(self, instruction: Instruction, text: str, answer: str) -> bool:
        """Is this answer right? By default: the oracle's own, up to white space around it."""
        return answer.strip() == self.answer(instruction, text)


def split_of(key: str) -> Split:
    """The split that an instruction belongs to, by a hash of its key: one in five is held out for the test.

    >>> sorted({split_of(str(number)) for number in range(50)})
    ['test', 'train']
    """
    return "test" if int.from_bytes(sha256(key.encode()).digest()[:8], "big") % HELD_OUT == 0 else "train"


def draw_instructions(family: Family, n: int, *, split: Split, levels: Sequence[int], seed: int) -> list[Instruction]:
    """`n` different instructions of one split, their levels in turn.

    Raises:
        BadRequest: when the family has no `n` different ones; says how many were found.
    """
    rng = Random(f"{family.name} {seed} {split}")
    found: dict[str, Instruction] = {}
    for tries in range(_TRIES * n):
        if len(found) == n:
            break
        one = family.instruction(rng, levels[tries % len(levels)])
        if split_of(one.key) == split:
            found.setdefault(one.key, one)
    if len(found) < n:
        raise BadRequest(
            f"{n} different {split} instructions of the family '{family.name}' at levels {list(levels)}: "
            f"{len(found)} were found; at most {len(found)}"
        )
    return list(found.values())


def draw(
    family: Family,
    n: int,
    *,
    split: Split = "train",
    levels: Sequence[int] = LEVELS,
    seed: int = 0,
    n_instructions: int | None = None,
) -> list[Task]:
    """`n` tasks of one split; of `n_instructions` different instructions in turn, or each drawn afresh (None).

    Raises:
        BadRequest: for a level that is not 1, 2 or 3, or more instructions than the family has.
    """
    if foreign := set(levels) - set(LEVELS):
        raise BadRequest(f"level {min(foreign)} of the family '{family.name}' is not one of 1, 2, 3")
    rng = Random(f"{family.name} {seed} {split} inputs")
    some = None
    if n_instructions is not None:
        some = draw_instructions(family, n_instructions, split=split, levels=levels, seed=seed)
    tasks = []
    for number in range(n):
        level = levels[number % len(levels)]
        if some:
            instruction = some[number % len(some)]
        else:
            instruction = family.instruction(rng, level)
            while split_of(instruction.key) != split:
                instruction = family.instruction(rng, level)
        text = family.input(instruction, rng, level)
        example = Example(
            rng.choice(instruction.phrasings), text, family.answer(instruction, text), family.name, instruction.key
        )
        tasks.append(Task(example, instruction, level))
    return tasks
