"""Instruction families: what a family is, and how examples are drawn from it.

A family draws *instructions* (an operation with its settings, in several phrasings), *inputs* for each, and knows the
right answer. Guarantees of `draw`:
- equal seeds give equal examples;
- inputs are of the level that their instruction was drawn at;
- an instruction belongs to one split: training and test share no `Instruction.key`, whatever the seeds;
- the answer is the oracle's, and `accepts` takes it;
- `worked` ends with the answer on a line of its own, and is the answer alone where there is only one step;
- options hold the right answer; distractors are wrong and different.
Left open: two instructions with different keys may agree on some inputs; a family whose keys are behaviours
(`labkit.instructions.functions`) closes that, too.
"""

from abc import ABC, abstractmethod
from collections.abc import Container, Iterator, Sequence
from functools import cache
from hashlib import sha256
from itertools import count, islice
from random import Random
from typing import Any, Literal, NamedTuple, get_args

from labkit.errors import BadRequest
from labkit.instructions.example import Example

Split = Literal["train", "test"]
SPLITS: tuple[Split, ...] = ("train", "test")
LEVELS = (1, 2, 3)
TaskType = Literal["reasoning", "mathematics", "code", "editing", "extraction", "classification", "formatting",
                   "knowledge", "dialogue", "role-play", "writing"]  # fmt: skip
TASK_TYPES: tuple[TaskType, ...] = get_args(TaskType)  # as task-aware re-balancing counts them (arXiv 2405.13448)
HELD_OUT = 5  # one key in so many belongs to the test split
_TRIES = 5000  # draws in a row without a new instruction, before a level counts as exhausted


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
        task_type: The kind of work, one of `TASK_TYPES`.
    """

    name: str
    task_type: TaskType

    @abstractmethod
    def instruction(self, rng: Random, level: int) -> Instruction:
        """An instruction of difficulty `level` (1, 2 or 3)."""

    @abstractmethod
    def input(self, instruction: Instruction, rng: Random, level: int) -> str:
        """Something to carry the instruction out on; empty where it says it all."""

    @abstractmethod
    def answer(self, instruction: Instruction, text: str) -> str:
        """The right answer: the oracle."""

    def worked(self, instruction: Instruction, text: str) -> str:
        """The intermediate results, one per line, and the answer on the last line."""
        return self.answer(instruction, text)

    def final(self, text: str) -> str:
        """The final answer of what a model wrote: its last line that is not empty."""
        return text.strip().rpartition("\n")[2].strip()

    def accepts(self, instruction: Instruction, text: str, answer: str) -> bool:
        """Is the final answer right? By default: the oracle's own."""
        return self.final(answer) == self.answer(instruction, text)

    def options(self, instruction: Instruction, text: str) -> tuple[str, ...]:
        """The choices of a closed question, the right one among them; none of an open one."""
        return ()

    def wrong(self, instruction: Instruction, text: str, rng: Random) -> str:
        """Something like an answer, for an open question; it may be right by chance, and varies."""
        raise BadRequest(f"the family '{self.name}' has no grader: it says neither options nor wrong answers")

    def distractors(self, instruction: Instruction, text: str, rng: Random, n: int = 2) -> tuple[str, ...]:
        """`n` different wrong answers of the right one's form; of a closed question the other options, at most `n`."""
        if options := self.options(instruction, text):
            others = [option for option in options if not self.accepts(instruction, text, option)]
            return tuple(rng.sample(others, min(n, len(others))))
        found = dict[str, None]()
        while len(found) < n:
            if not self.accepts(instruction, text, one := self.wrong(instruction, text, rng)):
                found[one] = None
        return tuple(found)

    def chance(self, instruction: Instruction, text: str, distractors: int = 0) -> float:
        """How often a guess is right: among the options, or where the answer is ranked against so many distractors.

        0 for an open question that is answered freely (no distractors).
        """
        choices = len(self.options(instruction, text)) or 1 + distractors
        return 1 / choices if choices > 1 else 0.0


def split_of(key: str) -> Split:
    """The split that an instruction belongs to, by a hash of its key: one in five is held out for the test.

    >>> sorted({split_of(str(number)) for number in range(50)})
    ['test', 'train']
    """
    return "test" if int.from_bytes(sha256(key.encode()).digest()[:8], "big") % HELD_OUT == 0 else "train"


def draw_instructions(family: Family, n: int, *, split: Split, levels: Sequence[int], seed: int) -> list[Instruction]:
    """`n` different instructions of one split; number i is of level `levels[i % len(levels)]`.

    The first k of n are the k drawn alone.

    Raises:
        BadRequest: for a level that is not 1, 2 or 3, or when a level has no other instruction left.
    """
    _check_levels(family, levels)
    rng = Random(f"{family.name} {seed} {split}")
    found: dict[str, Instruction] = {}
    for number in range(n):
        one = _draw_one(family, rng, levels[number % len(levels)], split, found)
        found[one.key] = one
    return list(found.values())


def draw(family: Family, n: int, *, split: Split = "train", levels: Sequence[int] = LEVELS, seed: int = 0,
         n_instructions: int | None = None) -> list[Task]:  # fmt: skip
    """The first `n` tasks of `drawn`; raises as it does."""
    return list(islice(drawn(family, split=split, levels=levels, seed=seed, n_instructions=n_instructions), n))


def drawn(family: Family, *, split: Split, levels: Sequence[int], seed: int,
          n_instructions: int | None = None) -> Iterator[Task]:  # fmt: skip
    """Tasks of one split without end; of `n_instructions` different instructions in turn, or each drawn afresh (None).

    Inputs are of the level that their instruction was drawn at.

    Raises:
        BadRequest: for a level that is not 1, 2 or 3, or a number of instructions that the family does not have.
    """
    _check_levels(family, levels)
    rng = Random(f"{family.name} {seed} {split} inputs")
    some = None
    if n_instructions is not None:
        if n_instructions < 1:
            raise BadRequest(f"n_instructions = {n_instructions}: the family '{family.name}' needs 1 or more")
        some = draw_instructions(family, n_instructions, split=split, levels=levels, seed=seed)
    for number in count():
        place = number % len(some) if some else number
        level = levels[place % len(levels)]
        instruction = some[place] if some else _draw_one(family, rng, level, split)
        text = family.input(instruction, rng, level)
        wording, answer = rng.choice(instruction.phrasings), family.answer(instruction, text)
        yield Task(Example(wording, text, answer, family.name, instruction.key), instruction, level)


@cache
def phrasings(template: str) -> tuple[str, ...]:
    """Every wording of a template with alternatives in square brackets, in a fixed mixed order.

    >>> sorted(phrasings("[sort|order] the [words|items]"))
    ['order the items', 'order the words', 'sort the items', 'sort the words']
    """
    head, bracket, rest = template.partition("[")
    if not bracket:
        return (template,)
    choices, _, tail = rest.partition("]")
    texts = [head + choice + end for choice in choices.split("|") for end in phrasings(tail)]
    Random(template).shuffle(texts)
    return tuple(texts)


def combined(parts: Sequence[Sequence[str]], n: int = 6) -> tuple[str, ...]:
    """Wordings of several steps in turn, from the wordings of each; all there are of a single step."""
    if len(parts) == 1:
        return tuple(dict.fromkeys(parts[0]))
    joins = (", then ", "; then ", ", next ", "; next ")  # of one word each
    turns = ([wordings[(i + place) % len(wordings)] for place, wordings in enumerate(parts)] for i in range(n))
    return tuple(dict.fromkeys(joins[i % 4].join(turn) for i, turn in enumerate(turns)))


def _draw_one(family: Family, rng: Random, level: int, split: Split, but: Container[str] = ()) -> Instruction:
    """An instruction of a level and split whose key is not among `but`."""
    for _ in range(_TRIES):
        one = family.instruction(rng, level)
        if one.key not in but and split_of(one.key) == split:
            return one
    others = f" that are not among the {len(but)} drawn before" if isinstance(but, dict) and but else ""
    raise BadRequest(f"the family '{family.name}' has no {split} instructions of level {level}{others}: ask for fewer")


def _check_levels(family: Family, levels: Sequence[int]) -> None:
    if not levels or (foreign := set(levels) - set(LEVELS)):
        wrong = f"level {min(foreign)}" if levels else "no level"
        raise BadRequest(f"{wrong} of the family '{family.name}': use some of 1, 2, 3")
