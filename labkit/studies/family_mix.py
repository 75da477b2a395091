"""Training sets of small functions and general instruction families, what small models begin with, and the exams.

See `labkit.studies.code_mixing` for the design.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain, product
from random import Random
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator

from labkit.errors import BadRequest, check_known
from labkit.grade import sandbox
from labkit.instructions import constraints, functions
from labkit.instructions.families import EVERY
from labkit.instructions.family import Split, Task, draw
from labkit.learn.learner import Flags
from labkit.studies import language, learners
from labkit.studies.lesson import Exam, Lesson

if TYPE_CHECKING:
    import pandas as pd

CODE = functions.FUNCTIONS.name
GENERAL = [name for name in EVERY if name != CODE]
QUESTION, ANSWER = 48, 48  # the most pieces of each
ROOM = 12  # pieces of a question that a constraint may take
GATE = 0.3  # the share of a general family's unseen instructions that a model trained on it alone has to follow
BASE_STEPS = 75  # that the base is fine-tuned for, to sit its gate
Size = Annotated[int, Field(ge=1, le=10**7)]
Share = Annotated[float, Field(ge=0, lt=1)]


class FamilyParams(language.LanguageParams, learners.BasedParams):
    """What a person may set of small models and what they learn."""

    budget: list[Size] = Field(min_length=1, description="sizes of training sets, in examples")
    general_levels: list[Literal[1, 2, 3]] = Field(min_length=1, description="difficulties of the general families")
    general_shares: list[Share] = Field(min_length=1, description="shares of the examples that are general")
    families: list[str] = Field(min_length=1, description="the general families, in equal parts")
    constrained: float = Field(ge=0, le=1, description="share of general examples that demand a word in a given place")
    confirm_unsafe: bool = Field(default=False, description="run the models' programs even without bubblewrap")

    @field_validator("families")
    @classmethod
    def _there_are(cls, names: list[str]) -> list[str]:
        check_known("general family", names, GENERAL)
        return names


class FamilyMix(BaseModel):
    """Small Python functions and general families, mixed by examples; a general example displaces one of code.

    A share `constrained` of the general examples also demands a word in a given place (`instructions.constraints`).
    """

    model_config = ConfigDict(frozen=True)

    kind: Literal["families"] = "families"
    budget: int
    passes: float
    levels: tuple[int, ...]
    general_share: float
    families: tuple[str, ...]
    general_levels: tuple[int, ...]
    constrained: float
    gate: bool = False  # one family alone: can it be learned?
    confirm_unsafe: bool

    def lesson(self, spec: Any, seed: int, n_test: int) -> Lesson:
        """A training set and its exams: training examples, code on three strata, and unseen general instructions."""
        reading, n_general = spec.reading(), self.general_examples
        code = language.tasks(CODE, self.budget, "train", self.levels, seed, reading)
        tasks = [*code[: self.budget - n_general], *self._general(reading, n_general, "train", seed)]
        unseen = self._general(reading, n_test, "test", seed)
        sources = np.array([task.example.source for task in unseen])
        kinds = {name: sources == name for name in self.families}
        exams = {"seen": language.exam(tasks[:: -(-self.budget // n_test)])}
        exams |= {} if self.gate else self._strata(reading, seed, n_test)
        exams |= {"general": language.exam(unseen)._replace(kinds=kinds)}
        steps = round(self.passes * self.budget / spec.batch_size) or 1
        return Lesson(language.examples(tasks), exams, self._about(), steps)

    @property
    def general_examples(self) -> int:
        """How many of the examples are general."""
        return round(self.general_share * self.budget)

    def _general(self, reading: language.Reading, n: int, split: Split, seed: int) -> list[Task]:
        """So many tasks, the families in turn; the first k of n are those of k."""
        if not n:
            return []
        rng, each = Random(f"constraints {seed} {split}"), -(-n // len(self.families))
        reading = reading._replace(question=reading.question - ROOM, answer=reading.answer - 2)
        drawn = [language.tasks(name, each, split, self.general_levels, seed, reading) for name in self.families]
        tasks = list(chain.from_iterable(zip(*drawn, strict=True)))[:n]
        return [constraints.any_constraint(rng).of(task) if rng.random() < self.constrained else task for task in tasks]

    def _strata(self, reading: language.Reading, seed: int, n: int) -> dict[str, Exam]:
        """Unseen compositions, others in each stratum: in trained wordings, in held-out ones, with a constraint."""
        rng, unseen = Random(f"strata {seed}"), compositions(self.levels, 5 * n, seed)
        blocks = [place // len(self.levels) % 3 for place in range(len(unseen))]  # every level in every stratum
        parts = [[task for task, block in zip(unseen, blocks, strict=True) if block == part] for part in range(3)]
        same = _fitting(reading, [(task, task) for task in parts[0]], n)
        reworded = _fitting(reading, [(functions.reworded(task, rng), task) for task in parts[1]], n)
        demands = {task.instruction.key: constraints.any_constraint(rng) for task in parts[2]}
        constrained = _fitting(reading, [(demands[task.instruction.key].of(task), task) for task in parts[2]], n)
        run = language.runs([task for _, task in constrained], self.confirm_unsafe)

        def judge(answers: list[str]) -> dict[str, Flags]:
            pairs = zip(constrained, answers, strict=True)
            rests = [demands[task.instruction.key].rest(answer) for (_, task), answer in pairs]
            met = np.array([rest is not None for rest in rests])
            return {"": met & run([rest or "" for rest in rests])[""], "met": met}

        plain = {"same": [task for task, _ in same], "reworded": [task for task, _ in reworded]}
        exams = {name: language.exam(tasks, language.runs(tasks, self.confirm_unsafe)) for name, tasks in plain.items()}
        return exams | {"constrained": language.exam([task for task, _ in constrained], judge)}

    def _about(self) -> dict[str, Any]:
        percent = f"{100 * (1 - self.general_share):.4g}% code, {100 * self.general_share:.4g}% general"
        return {"size": f"{self.budget:,} examples", "mix": f"{self.families[0]} alone" if self.gate else percent,
                "general_share": self.general_share, "two_way": not self.gate, "gate": self.gate,
                "code_examples": self.budget - self.general_examples, "general_examples": self.general_examples,
                "sandbox": sandbox.described(sandbox.available(self.confirm_unsafe))}  # fmt: skip


@lru_cache(maxsize=2)  # all arms of a seed ask for the same
def compositions(levels: tuple[int, ...], n: int, seed: int) -> list[Task]:
    """Functions of the test split, no two of which return the same."""
    return draw(functions.FUNCTIONS, n, split="test", levels=levels, seed=seed, n_instructions=n)


def _fitting(reading: language.Reading, pairs: Sequence[tuple[Task | None, Task]], n: int) -> list[tuple[Task, Task]]:
    """The first n tasks that can be asked so, and that fit into a sequence, each with its plain form.

    Raises:
        BadRequest: when there are fewer.
    """
    layout = reading.layout()
    fits = lambda task: layout.fits(language.question_of(task), task.example.output)  # noqa: E731
    found = [(task, plain) for task, plain in pairs if task and fits(task)][:n]
    if len(found) < n:
        raise BadRequest(f"only {len(found)} unseen functions of a stratum fit into a sequence; n_test = {n} are asked")
    return found


def family_mixes(params: FamilyParams) -> list[FamilyMix]:
    """A training set for each size and share."""
    dials = product(params.budget, sorted(params.general_shares))
    return [_mix(params, budget=budget, general_share=share) for budget, share in dials]


def gates(params: FamilyParams) -> list[FamilyMix]:
    """A training set of each general family alone, of the first size."""
    alone = {"budget": params.budget[0], "general_share": 1, "gate": True}
    return [_mix(params, families=(name,), **alone) for name in params.families]


def _mix(params: FamilyParams, **own: Any) -> FamilyMix:
    shared = {name: value for name, value in params if name in FamilyMix.model_fields}
    return FamilyMix(**shared | own)


def small_spec(params: FamilyParams) -> learners.SmallSpec:
    """The small learner of the parameters, with its base unless `base_steps` is 0."""
    reads = (*params.families, CODE)
    return learners.based(
        params, reads, QUESTION, ANSWER, params.levels, gate_steps=BASE_STEPS, base_loss=params.loss
    )  # of windows alike: it is in the addresses of models that were reported


def passed(rows: "pd.DataFrame") -> "pd.DataFrame":
    """The rows, `general` over the families that passed their gate alone."""
    import pandas as pd

    if "gate" not in rows or not rows["gate"].any():
        return rows
    failed = {f"general:{name}" for name in failing(rows)}
    kinds = rows["key"].str.startswith("general:")
    kept = rows[kinds & ~rows["key"].isin(failed)]
    joined = kept.groupby("address", sort=False).agg({"right": "sum", "asked": "sum"})  # lists are joined
    general = rows[rows["key"].eq("general") & rows["address"].isin(joined.index)].drop(columns=["right", "asked"])
    return pd.concat([rows[rows["key"] != "general"], general.merge(joined, on="address")], ignore_index=True)


def failing(rows: "pd.DataFrame") -> list[str]:
    """The general families that a model trained on them alone does not learn."""
    gates = rows[rows["gate"].eq(True) & rows["exam"].eq("general") & rows["kind"].ne("")]
    scores = gates["right"].map(sum) / gates["asked"].map(sum)
    return gates.loc[scores < GATE, "kind"].tolist()
