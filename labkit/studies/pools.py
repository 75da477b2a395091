"""A pool of records of which everything is known: what is on target, which answers are wrong, what stands there twice.

The records are tasks of the lab's families, in an order that the seed decides. Guaranteed: no record asks for an
instruction of an exam; the target's own records are none of the pool's.
"""

from functools import lru_cache
from random import Random
from typing import Any, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict

from labkit.design.curriculum import apportion
from labkit.errors import BadRequest
from labkit.instructions import Example
from labkit.instructions.families import EVERY
from labkit.instructions.family import Task
from labkit.studies import language


class Known(NamedTuple):
    """A record: its task, the answer that it has, whether that is right, is on target, and stands there before."""

    example: Example
    task: Task
    right: bool
    on_target: bool
    copied: bool


class Pool(BaseModel):
    """What a pool is made of.

    Attributes:
        target, others: Kinds of tasks that are asked for, and that are not.
        size: Records.
        on_target, wrong, copies: Shares of the kinds asked for, of wrong answers, of exact copies of other records.
        aims: Records of each kind of the target that say what is asked for.
    """

    model_config = ConfigDict(frozen=True)

    target: tuple[str, ...]
    others: tuple[str, ...]
    levels: tuple[int, ...]
    size: int
    on_target: float
    wrong: float
    copies: float
    aims: int

    def parts(self) -> dict[str, int]:
        """How many records that are no copies each kind has."""
        of = [(names, share) for names, share in ((self.target, self.on_target), (self.others, 1 - self.on_target))]
        shares = {name: share / len(names) for names, share in of for name in names}
        counts = apportion(list(shares.values()), self.size - round(self.copies * self.size))
        return dict(zip(shares, counts, strict=True))

    def tasks(self, spec: Any, seed: int) -> dict[str, list[Task]]:
        """The tasks of each kind, of the target's those of `aim` first.

        Raises:
            BadRequest: where a kind has too few.
        """
        wanted = {name: n + self.aims * (name in self.target) for name, n in self.parts().items()}
        if short := [name for name, n in self.parts().items() if not n]:
            raise BadRequest(f"a pool of {self.size} records leaves none of '{short[0]}'")
        return {name: language.tasks(name, n, "train", self.levels, seed, spec.reading()) for name, n in wanted.items()}

    def aim(self, spec: Any, seed: int) -> list[list[Example]]:
        """The target: by kind, records with right answers that are not in the pool."""
        drawn = self.tasks(spec, seed)
        return [language.examples(drawn[name][: self.aims]) for name in self.target]

    def made(self, spec: Any, seed: int) -> list[Known]:
        """The pool."""
        return _made(self, spec, seed)


@lru_cache(maxsize=2)
def _made(pool: Pool, spec: Any, seed: int) -> list[Known]:
    rng, layout, found = Random(f"pool {seed}"), spec.reading().layout(), list[Known]()
    for name, tasks in pool.tasks(spec, seed).items():
        for task in tasks[pool.aims * (name in pool.target) :]:
            example = task.example
            mistake = EVERY[name].distractors(task.instruction, example.input, rng, 1)[0]
            right = rng.random() >= pool.wrong or not layout.fits("", mistake)
            given = example if right else Example(
                example.instruction, example.input, mistake, example.source, example.instruction_id
            )  # fmt: skip
            found.append(Known(given, task, right, name in pool.target, False))
    copies = rng.choices(found, k=pool.size - len(found))
    found += [known._replace(copied=True) for known in copies]
    order = np.random.default_rng([seed, pool.size]).permutation(len(found))
    return [found[place] for place in order.tolist()]
