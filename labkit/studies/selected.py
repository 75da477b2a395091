"""Selection of a pool of which everything is known: a small model that learns what a method chooses."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from labkit.design import selection
from labkit.design.selection import METHODS, TRAINED
from labkit.instructions import Example
from labkit.lab import Point, Record, Row
from labkit.learn.embedders import embed
from labkit.learn.learner import question
from labkit.studies import abilities
from labkit.studies.appraised import FILE, Appraised
from labkit.studies.pools import Known, Pool

RANDOM, KNOWN = "random", "known"


class Cell(abilities.TogetherCell):
    """One model: everything its result depends on. `arm` is what chooses; `steps` are what is left for training."""

    study: Literal["selection"] = "selection"
    version: Literal[1] = 1
    pool: Pool
    budget: int
    noise: float
    embedder: str
    fitting: int
    spent: int

    def needs(self) -> list[Point]:
        """The base, and what models say of the pool."""
        wanted = self.arm != KNOWN and METHODS[self.arm].needs == "model"
        return [*super().needs(), *([self.appraised()] if wanted else [])]

    def appraised(self) -> Appraised:
        return Appraised(
            registration=self.registration, seed=self.seed, steps=self.fitting, spec=self.spec, pool=self.pool
        )

    def places(self, record: Record) -> NDArray[np.int64]:
        """The records that are chosen."""
        pool, rng, n = self.pool.made(self.spec, self.seed), np.random.default_rng([self.seed, 9]), self.budget
        right = np.array([known.right for known in pool], float)
        if self.arm in (RANDOM, KNOWN):
            good = [(known.right and known.on_target and not known.copied) or self.arm == RANDOM for known in pool]
            return selection.highest(np.array(good) + rng.random(len(pool)), n)
        if self.arm == "longest":
            return selection.highest([len(known.example.output) for known in pool], n)
        if METHODS[self.arm].needs == "embedder":
            vectors = embed([question(known.example) for known in pool], self.embedder)
            noisy = right + rng.normal(0, self.noise, len(pool))
            by_quality = self.arm == "quality"
            return selection.good_and_new(noisy, vectors, n) if by_quality else selection.facility_location(vectors, n)
        with np.load(record.folder_of(self.appraised()) / FILE) as found:
            return selection.by_model(self.arm, found[self.arm], n)

    def data(self, record: Record) -> list[Example]:
        """What was chosen."""
        pool = self.pool.made(self.spec, self.seed)
        return [pool[place].example for place in self.places(record).tolist()]

    def measured(self, record: Record) -> Row:
        """As any model of abilities, with what was chosen, and the share of its compute that selecting took."""
        pool, row = self.pool.made(self.spec, self.seed), super().measured(record)
        share = self.spent / (self.spent + TRAINED * self.steps * self.spec.batch_size)
        return row | {"chosen": described([pool[i] for i in self.places(record).tolist()]), "selecting": share}


def described(own: list[Known]) -> dict[str, float]:
    """What some records are like: shares, and the mean length of answers."""
    flags = {"on target": [one.on_target for one in own], "wrong": [not one.right for one in own],
             "level 2 or 3": [one.task.level > 1 for one in own]}  # fmt: skip
    means = {name: float(np.mean(marks)) for name, marks in flags.items()}
    means["different"] = len({one.example for one in own}) / len(own)
    return means | {"letters per answer": float(np.mean([len(one.example.output) for one in own]))}
