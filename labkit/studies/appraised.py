"""What models that have learned a little of a pool say of its records, kept for every method that wants to know."""

from itertools import chain
from typing import Any, Literal

import numpy as np

from labkit.instructions import Example
from labkit.lab import Record, Row
from labkit.learn import appraisal
from labkit.learn.learner import question
from labkit.studies import learners
from labkit.studies.pools import Pool
from labkit.teach.client import Settings
from labkit.teach.judge import Judge, difficulties
from labkit.teach.oracle import MODEL
from labkit.teach.teacher import CACHE, connect

FILE = "scores.npz"  # by method: a score per record [N], or the likeness of each of the target with each [m, N]


class Appraised(learners.SpecCell):
    """Two models, each after a few steps on one half of a seed's pool.

    Loss, IFD and MFD of a record are by the model that has not seen it (cross-fitted). What is like the target is said
    by the first model.
    """

    study: Literal["selection_scores"] = "selection_scores"
    version: Literal[1] = 1
    spec: learners.SmallSpec
    pool: Pool

    def measured(self, record: Record) -> Row:
        """The scores, in `FILE`."""
        examples = [known.example for known in self.pool.made(self.spec, self.seed)]
        halves = np.array_split(np.random.default_rng([self.seed, 5]).permutation(len(examples)), 2)
        found: dict[str, Any] = {name: np.zeros(len(examples)) for name in ("loss", "ifd", "mfd")}
        seconds = 0.0
        for number, (own, others) in enumerate((halves, halves[::-1])):
            model, unseen = self.learner(record), [examples[place] for place in others.tolist()]
            learned, folder = [examples[place] for place in own.tolist()], record.lasting / str(number)
            seconds += model.learn(learned, steps=self.steps, seed=self.seed, folder=folder).seconds
            found["loss"][others], found["ifd"][others] = appraisal.losses(model, unseen), appraisal.ifd(model, unseen)
            found["mfd"][others] = self._lacking(record, unseen, model.answer(unseen))
            if not number:
                aim = self.pool.aim(self.spec, self.seed)
                found["gradient"] = appraisal.gradient_likeness(model, examples, aim)
                found["representation"] = appraisal.state_likeness(model, examples, list(chain(*aim)))
        np.savez(record.folder / FILE, **found)
        return {"train_seconds": seconds, "learned": True}

    def _lacking(self, record: Record, asked: list[Example], answers: list[str]) -> list[float]:
        """How many points answers lack of the records' own, by the oracle as a judge: -MFD; -inf: not judged."""
        assert record.store is not None
        with connect(Settings(model=MODEL), record.store.root / CACHE) as client:
            scored = difficulties(Judge(client), list(map(question, asked)), answers, [one.output for one in asked])
        pairs = zip(scored.student.values, scored.public.values, strict=True)
        return [-np.inf if ours is None or theirs is None else theirs - ours for ours, theirs in pairs]
