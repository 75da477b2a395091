"""Examples by an imperfect teacher: some answers wrong, few different instructions, one wording of each.

Synthetic instruction data differ from curated ones in two ways that can be modelled: what a teacher asks for is little
varied, because it comes back to what it likes to ask, and some of its answers are wrong. `Teacher` is that model:
- *diversity*: of a family it knows `instructions` different ones, each in a single wording, and asks for the one of
  rank r with a weight of r^-`exponent` (Zipf);
- *noise*: with probability `wrong` an answer is one of the family's distractors: wrong, and of the right one's form.

Guarantees of `draw_imperfect`: equal seeds give equal tasks, and the first k of n are the k drawn alone; instructions
belong to the training split; inputs vary as in `family.draw`; the family's oracle knows which answers are wrong.
Left open: a real teacher's mistakes are not spread evenly, but sit where a task is hard; its favourite instructions are
not a random choice of all. A model trained in this lab can be such a teacher, at the price of training it.
"""

from dataclasses import dataclass
from itertools import accumulate
from random import Random

from labkit.errors import BadRequest
from labkit.instructions.example import Example
from labkit.instructions.family import LEVELS, Family, Task, draw_instructions


@dataclass(frozen=True)
class Teacher:
    """How imperfect a teacher is.

    Attributes:
        wrong: The probability of a wrong answer.
        instructions: How many different instructions of a family it knows.
        exponent: Of Zipf's law for how often it asks for each; 0: all alike.

    Raises:
        BadRequest: for a probability outside 0 to 1, no instructions, or an exponent below 0.
    """

    wrong: float = 0.2
    instructions: int = 24
    exponent: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.wrong <= 1:
            raise BadRequest(f"wrong = {self.wrong:g} is no probability: it lies in 0 to 1")
        if self.instructions < 1:
            raise BadRequest(f"instructions = {self.instructions}: a teacher knows 1 or more of a family")
        if not 0 <= self.exponent < 100:
            raise BadRequest(f"exponent = {self.exponent:g}: of Zipf's law it is 0 or more, and below 100")


def draw_imperfect(family: Family, n: int, teacher: Teacher, *, levels: tuple[int, ...] = LEVELS,
                   seed: int = 0) -> list[Task]:  # fmt: skip
    """`n` training tasks of a family as the teacher would write them.

    Raises:
        BadRequest: for a level that there is not, or where the family has fewer instructions than the teacher knows.
    """
    known = draw_instructions(family, teacher.instructions, split="train", levels=levels, seed=seed)
    rng = Random(f"{family.name} {seed} imperfect")
    wordings = [rng.choice(instruction.phrasings) for instruction in known]
    weights = list(accumulate(rank**-teacher.exponent for rank in range(1, len(known) + 1)))
    order = rng.sample(range(len(known)), len(known))  # ranks know nothing of levels
    tasks = []
    for _ in range(n):
        (place,) = rng.choices(order, cum_weights=weights)
        instruction, level = known[place], levels[place % len(levels)]
        text = family.input(instruction, rng, level)
        answer = family.answer(instruction, text)
        if rng.random() < teacher.wrong:
            (answer,) = family.distractors(instruction, text, rng, 1)
        example = Example(wordings[place], text, answer, family.name, instruction.key)
        tasks.append(Task(example, instruction, level))
    return tasks
