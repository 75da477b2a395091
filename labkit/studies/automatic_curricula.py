"""Automatic curricula: does a bandit on learning progress come up to the best fixed mix that hindsight would choose?

A run is a number of rounds of equally many steps. Of each round's examples one half is of all tasks in equal parts, the
other of one task, which is chosen by

    exp3, thompson   a bandit (`design.bandits`), whose reward is how far the loss on other training questions of the
                     task that it chose fell in the round; of the other tasks it hears nothing
    uniform          all tasks: the other half is in equal parts, too
    always:TASK      always the same task
    learned          a scorer (`design.scorer`) that foretells progress on a task from its losses. It was fitted on the
                     rounds of the other tasks in the fixed mixes, at other seeds: every task is new to it

Uniform and always are fixed mixes. The best of them in hindsight is the one that scored best on the other seeds, so
that no seed's luck chooses it. What an arm scores below it is its regret. In all arms the optimiser begins anew in
every round.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from labkit.design import scorer
from labkit.design.bandits import BANDITS
from labkit.errors import BadRequest
from labkit.instructions import Example
from labkit.lab import Record
from labkit.learn.learner import Learned, Learner
from labkit.studies import abilities, language, scores
from labkit.studies.foretelling import ALWAYS, UNIFORM, fixed_rounds, foretold, scorers
from labkit.studies.params import about
from labkit.studies.scores import MACRO
from labkit.studies.study import Results, Study
from labkit.studies.views import Gains, Records, View, signed

if TYPE_CHECKING:
    import pandas as pd

LEARNED, HINDSIGHT = "learned", "best fixed mix in hindsight"
CHOOSING = (*BANDITS, LEARNED)  # all others are fixed mixes


class Params(abilities.AbilityParams):
    """What a person may set; see `catalogue.yaml` for the values each scale gives."""

    groups: ClassVar = abilities.AbilityParams.groups | {
        "task": ("outside", "levels", "question", "answer", "n_test", "grading"),
    }
    bandits: list[Literal["exp3", "thompson"]] = Field(min_length=1, description="what chooses the task of a round")
    rounds: int = Field(ge=2, le=10_000, description="rounds; each takes `steps` optimiser steps")
    volume: int = Field(ge=1, le=10**7, description="different examples of each task")
    probe: int = Field(ge=1, le=10**6, description="other training questions of a task that progress is measured on")


class Cell(abilities.TogetherCell):
    """One run: everything its result depends on. `arm` is what chooses."""

    study: Literal["automatic_curricula"] = "automatic_curricula"
    version: Literal[2] = 2
    rounds: int
    probe: int
    weights: tuple[tuple[float, ...], ...] = ()  # of the scorer, one for each task

    def train(self, learner: Learner, data: list[Example], record: Record) -> Learned:
        """Round after round; `chosen` says of each its task, `losses` those of all tasks before, between and after."""
        pools = [[example for example in data if example.source == name] for name in self.abilities]
        probes, parts, chosen = (
            [self._probe(name) for name in self.abilities],
            list[Learned](),
            list[tuple[int, float]](),
        )
        losses = [[_loss(learner, probe) for probe in probes]]
        for number in range(self.rounds):
            task = self._choice(chosen, losses)
            examples = self._examples(pools, task, number)
            parts.append(learner.learn(examples, steps=self.steps, seed=self.seed * self.rounds + number,
                                       folder=record.lasting / str(number)))  # fmt: skip
            losses.append([_loss(learner, probe) for probe in probes])
            reward = losses[-2][task] - losses[-1][task] if task is not None else 0.0
            chosen.append((-1 if task is None else task, reward))
            record.log(step=(number + 1) * self.steps, chosen=chosen[-1][0], reward=reward, loss=parts[-1].loss)
        names = [UNIFORM if task < 0 else self.abilities[task] for task, _ in chosen]
        steps, tokens, seconds, *_ = (sum(values) for values in zip(*(one[:3] for one in parts), strict=True))
        return Learned(int(steps), int(tokens), seconds, parts[-1].loss, {"chosen": names, "losses": losses})

    def _choice(self, chosen: Sequence[tuple[int, float]], losses: Sequence[Sequence[float]]) -> int | None:
        if self.arm in BANDITS:
            return BANDITS[self.arm](chosen, len(self.abilities), self.seed)
        if self.arm == LEARNED:
            shown = [scorer.shown(task, self.rounds) for task in zip(*losses, strict=True)]
            return int(np.argmax([scorer.worth(*pair) for pair in zip(self.weights, shown, strict=True)]))
        return None if self.arm == UNIFORM else self.abilities.index(self.arm.removeprefix(ALWAYS))

    def _examples(self, pools: Sequence[Sequence[Example]], task: int | None, number: int) -> list[Example]:
        """As many as a round takes, of each pool those that are next in turn."""
        n, found = self.steps * self.spec.batch_size, list[Example]()
        for place, pool in enumerate(pools):
            share = n // len(pools) if task is None else n // 2 // len(pools) + (n // 2 if place == task else 0)
            order = np.random.default_rng([self.seed, place, number]).permutation(len(pool))
            found += [pool[i] for i in np.resize(order, share).tolist()]
        return found

    def _probe(self, name: str) -> list[Example]:
        volume, read = self.counts[name]["curated"], self.spec.reading()
        drawn = language.tasks(name, volume + self.probe, "train", self.task.levels, self.seed, read)
        return language.examples(drawn[volume:])


def _loss(learner: Learner, asked: Sequence[Example]) -> float:
    """Nats per token of the right answers."""
    found = learner.likelihood(asked, [[example.output] for example in asked])
    return -float(found.total.sum()) / float(found.tokens.sum())


def points(params: Params) -> list[Cell]:
    """A run per arm and seed, but for the scorer's.

    Raises:
        BadRequest: for more examples than a task has, or rounds too short for an example of each.
    """
    abilities.enough(params, params.volume + params.probe)
    if params.steps * params.batch_size < 2 * len(params.abilities):
        raise BadRequest(f"steps = {params.steps} of {params.batch_size} are too few examples for a round of all tasks")
    arms = (*params.bandits, UNIFORM, *(ALWAYS + name for name in params.abilities))
    return [_cell(params, seed, arm) for seed in params.seeds for arm in arms]


def _cell(params: Params, seed: int, arm: str, weights: tuple[tuple[float, ...], ...] = ()) -> Cell:
    return Cell(
        seed=seed, spec=abilities.spec(params, 0), arm=arm, rounds=params.rounds, probe=params.probe, weights=weights,
        **abilities.shared(params, params.abilities),
    )  # fmt: skip


def learned(params: Params, rows: "pd.DataFrame") -> list[Cell]:
    """The second stage: a run per seed in which a scorer chooses, every task being new to it."""
    known = scorers(fixed_rounds(rows))
    return [
        _cell(params, seed, LEARNED, tuple(known[seed, name] for name in params.abilities)) for seed in params.seeds
    ]


def columns(rows: "pd.DataFrame") -> "pd.DataFrame":
    """The rows with their scores (`scores.scored`), and per seed once more those of the best fixed mix in hindsight."""
    import pandas as pd

    known = scores.scored(rows)
    macro: Any = known[(known["key"] == "score") & (known["ability"] == MACRO)]
    fixed = macro[~macro["arm"].isin(CHOOSING)]
    fixed = fixed.assign(score=[float(np.mean(right)) for right in fixed["right"]])
    parts = [known]
    for seed, group in fixed.groupby("seed"):
        others = fixed[fixed["seed"] != seed]
        best = (others if len(others) else fixed).groupby("arm", sort=False)["score"].mean().idxmax()
        same = group[group["arm"] == best]
        parts.append(same.assign(arm=HINDSIGHT, mix=best, address=same["address"] + " in hindsight"))
    return pd.concat(parts, ignore_index=True)


VIEWS: dict[str, View] = {
    "gains": Gains(
        title="What each arm scores above the best fixed mix in hindsight (below 0: its regret), in pairs", arm="arm",
        baseline=HINDSIGHT, exam="score", exam_label="macro score", where=lambda rows: rows["ability"] == MACRO,
    ),
}  # fmt: skip


def finding(found: Results) -> str:
    """The regret of the bandits, of the scorer and of equal parts."""
    if "gains" not in found.views():
        return "Every arm at one seed is needed for a comparison"
    lines = {line["arm"]: line for line in found["gains"].lines("score")}
    told = [f"{arm} {signed(line['mean'], line['lo'], line['hi'])}" for arm, line in lines.items() if ":" not in arm]
    seeds = found["gains"].estimates["seeds"].max()
    told += ["hindsight from the seed itself: one seed decides nothing"] * bool(seeds == 1)
    return f"Macro score above the best fixed mix in hindsight: {'; '.join(told)}"


def choices(found: Results) -> Records:
    """The share of rounds that a bandit or the scorer gave to each task, in the first and the last half of its run."""
    models, lines = found.rows.drop_duplicates("address"), Records()
    for arm, group in models[models["arm"].isin(CHOOSING)].groupby("arm", sort=False):
        for half, words in ((0, "first half"), (1, "last half")):
            cut = [list(one)[: len(one) // 2] if half == 0 else list(one)[len(one) // 2 :] for one in group["chosen"]]
            named = [name for part in cut for name in part]
            shares = {name: round(named.count(name) / len(named), 3) for name in group["abilities"].iloc[0]}
            lines.append({"chosen by": arm, "rounds": words} | shares)
    return lines


STUDY = Study(
    **about("automatic_curricula"), Params=Params, points=points, views=VIEWS, finding=finding, columns=columns,
    dials={"arm": "chosen by"}, measure_many=None, stages=[learned],
    tables={"What was chosen": choices, "How well the scorer foretells": foretold},
    marks=lambda params: {"scored_by": params.grading},
)  # fmt: skip
