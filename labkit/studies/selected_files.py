"""Selection on real data: a pool from a corpus or file, a target from another, a Hugging Face model that is fine-tuned.

The model that scores is the one that learns, as it comes: it learns nothing of the pool first. Some of the target's
records say what is asked for, others are the exam: how many tokens of their answers would the model write next?
Guaranteed: what shares words with the target is not in the pool (`design.decontamination`); all models are asked the
same; of one seed all arms choose from one pool. `quality` and `mfd` are the stand-ins of `studies.selecting`.
"""

from typing import Any, Literal

import numpy as np
from pydantic import BaseModel

from labkit.design import Decontaminator, selection
from labkit.errors import BadRequest
from labkit.instructions import Example
from labkit.lab import Record, Row
from labkit.learn.learner import Learner
from labkit.studies import harness, learners, read_exams, selecting
from labkit.studies.lesson import Lesson

EXAM = "answers_followed"


class Files(BaseModel, frozen=True):
    """Where pool and target come from; `size` records and `aims` of the target that say what is asked for."""

    corpus: str
    target: str
    size: int
    aims: int
    digests: dict[str, str]

    def pool(self, learner: Learner, seed: int) -> list[Example]:
        """The pool, in an order of its own.

        Raises:
            BadRequest: where too few records have room and share nothing with the target.
        """
        guard = Decontaminator([read_exams.source_of(self.target)["path"]])
        usable = [one for one in read_exams.answered(self.corpus) if not guard.overlaps(one)]
        order = np.random.default_rng([seed, self.size]).permutation(len(usable))[: read_exams.SPARE * self.size]
        found = learner.fitting([usable[place] for place in order.tolist()])[: self.size] if usable else []
        if len(found) < self.size:
            raise BadRequest(f"pool = {self.size}, but {self.corpus} gives {len(found)} records that fit")
        return found

    def asked(self, learner: Learner, n: int) -> tuple[list[Example], read_exams.Followed]:
        """The records that say what is asked for, and the exam on others; the same for all.

        Raises:
            BadRequest: where the target has too few.
        """
        drawn = learner.fitting(list(dict.fromkeys(read_exams.questions(self.target, self.aims + n))))
        if len(drawn) < self.aims + n:
            raise BadRequest(f"aims = {self.aims}, n_test = {n}: {self.target} gives {len(drawn)} questions that fit")
        return drawn[: self.aims], read_exams.Followed([drawn[self.aims :]], n)


class Cell(learners.Student):
    """One fine-tuned model: everything its result depends on. `arm` chooses; `steps` are left for training."""

    study: Literal["selection"] = "selection"
    version: Literal[1] = 1
    spec: learners.TunedSpec
    arm: str
    files: Files
    budget: int
    embedder: str
    spent: int
    n_test: int

    def lesson(self) -> Lesson:
        learner = self.spec.make(self.seed, None)
        pool, (aim, exam) = self.files.pool(learner, self.seed), self.files.asked(learner, self.n_test)
        places = selecting.places(self.arm, learner, pool, aim, self.budget, self.embedder, self.seed)
        own = [pool[place] for place in places.tolist()]
        share = self.spent / (self.spent + selection.TRAINED * self.steps * learner.batch)
        chosen = {"letters per answer": float(np.mean([len(one.output) for one in own]))}
        return Lesson(own, {EXAM: exam}, {"chosen": chosen, "selecting": share, "same_questions": True})

    def measured(self, record: Record) -> Row:
        """See `Cell`; there is no exam on the training set."""
        return harness.train_and_grade(self, record, 0.0)


def cells(params: Any) -> list[Cell]:
    """A model per arm and seed.

    Raises:
        BadRequest: for a corpus, target or model that is not there, and for settings that do not go together.
    """
    if not (params.corpus and params.target) or "path" not in read_exams.source_of(params.target):
        raise BadRequest(f"model = {params.model!r} needs a corpus to choose from, and a file as target")
    learners.check_tuning(params.model, "default", params.tuning, {"model", "seed", "steps"})
    spec = learners.tuned(params.model, "default", {"steps": params.steps, **params.tuning}, selecting.NEW_TOKENS)
    per_step = spec.settings["batch_size"] * spec.settings["accumulation"]
    if per_step != params.batch_size:
        raise BadRequest(f"batch_size = {params.batch_size}, but by tuning a step takes {per_step} examples")
    files = Files(corpus=params.corpus, target=params.target, size=params.pool, aims=params.aims,
                  digests=read_exams.digests([params.corpus, params.target]))  # fmt: skip
    learner = spec.make(0, None)
    files.asked(learner, params.n_test)
    for seed in params.seeds:
        files.pool(learner, seed)
    return [
        Cell(seed=seed, steps=params.trained(arm), spent=params.spent(arm), spec=spec, arm=arm, files=files,
             budget=params.budget, embedder=params.embedder, n_test=params.n_test)
        for seed in params.seeds for arm in params.arms
    ]  # fmt: skip
