"""Simulated problems on which the optimum of a mix is known: how good is a way of finding it?"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from labkit import grade
from labkit.design import mix_finder
from labkit.design.mix_finder import Runs, dirichlet

Floats = NDArray[np.float64]
Records = list[dict[str, Any]]


class Problem(NamedTuple):
    """A score as a function of shares [n, k], without noise, and the noise of one run."""

    sources: int
    score: Callable[[Floats], Floats]
    noise: float = 0.02


def _peak(*at: float) -> Callable[[Floats], Floats]:
    return lambda shares: 0.8 - 1.2 * ((shares - np.array(at)) ** 2).sum(axis=1)


def _saturating(rates: list[float]) -> Callable[[Floats], Floats]:
    return lambda shares: (1 - np.exp(-shares * np.array(rates))).mean(axis=1)


def _needed(weights: list[float]) -> Callable[[Floats], Floats]:
    return lambda shares: np.exp((np.log(shares + 0.01) * np.array(weights)).sum(axis=1))


def _transferred(table: list[list[float]]) -> Callable[[Floats], Floats]:
    return lambda shares: (1 - np.exp(-3 * shares @ np.array(table))).mean(axis=1)


PROBLEMS: Mapping[str, Problem] = {
    "one source is best": Problem(3, lambda s: 0.3 + 0.4 * s[:, 0] + 0.1 * s[:, 1]),
    "one source harms": Problem(4, lambda s: 0.7 - 0.5 * s[:, 3]),
    "peak inside": Problem(3, _peak(0.6, 0.3, 0.1)),
    "peak near a corner": Problem(4, _peak(0.85, 0.05, 0.05, 0.05)),
    "peak at equal parts": Problem(3, _peak(1 / 3, 1 / 3, 1 / 3)),
    "all saturate alike": Problem(4, _saturating([6, 6, 6, 6])),
    "some saturate early": Problem(4, _saturating([30, 30, 3, 2])),
    "all are needed, unevenly": Problem(3, _needed([0.7, 0.2, 0.1])),
    "one teaches the others": Problem(3, _transferred([[1, 0.8, 0.8], [0, 1, 0], [0, 0, 1]])),
    "nothing matters": Problem(5, lambda s: np.full(len(s), 0.5)),
    "a step": Problem(3, lambda s: 0.3 + 0.4 / (1 + np.exp(-25 * (s[:, 0] - 0.45)))),
    "much noise": Problem(3, _peak(0.6, 0.3, 0.1), 0.1),
}


def planned(problem: Problem, seed: int, tried: int = 32, floor: int = 5) -> mix_finder.Plan:
    """What the finder makes of so many noisy runs of a problem."""
    rng, k = np.random.default_rng([seed, 1]), problem.sources
    one, two = (_run(problem, shares, rng) for shares in (mix_finder.mixes(tried, k, seed), np.full((floor, k), 1 / k)))
    return mix_finder.find(one, two.scores, seed=seed)


def _run(problem: Problem, shares: Floats, rng: np.random.Generator) -> Runs:
    return Runs(shares, problem.score(shares) + rng.normal(0, problem.noise, len(shares)))


def solved(problem: Problem, seed: int, runs: int = 37) -> dict[str, Any]:
    """One solution of a problem, and what equal parts, and random search at as many runs, come to.

    Regrets are true scores below the best one. `covered`: the true score of the mix lies in its predicted interval;
    `gain_covered`: so does what the mix that was sought gains over equal parts.
    """
    k, plan = problem.sources, planned(problem, seed)
    equal, rng = np.full((1, k), 1 / k), np.random.default_rng([seed, 2])
    search = _run(problem, dirichlet(runs, k, seed + 2 * 10**6), rng)
    fine = np.vstack([dirichlet(20_000, k, 0), dirichlet(5_000, k, 1, 0.3), np.eye(k), equal])
    best = float(problem.score(fine).max())
    arms = {"found": plan.shares, "equal parts": equal[0], "random search": search.shares[search.scores.argmax()]}
    regret = {name: best - float(problem.score(shares[None])[0]) for name, shares in arms.items()}
    true, sought, base = (float(problem.score(shares)[0]) for shares in (plan.shares[None], plan.best[None], equal))
    return {"regret": regret, "covered": plan.score.lo <= true <= plan.score.hi, "planned": not plan.reason,
            "gain_covered": plan.gain.lo <= sought - base <= plan.gain.hi}  # fmt: skip


def table(seeds: int, names: Mapping[str, Problem] = PROBLEMS) -> Records:
    """One row per problem: mean regrets over seeds with their intervals, coverage, and how often there was a plan."""
    rows = []
    for name, problem in names.items():
        found = [solved(problem, seed) for seed in range(seeds)]
        row: dict[str, Any] = {"problem": name}
        for arm in found[0]["regret"]:
            values = np.array([one["regret"][arm] for one in found])
            draws = np.random.default_rng(0).choice(values, (1000, seeds)).mean(axis=1)
            lo, hi = grade.intervals.percentiles(draws)
            row |= {f"regret, {arm}": float(values.mean()), f"regret, {arm}_lo": lo, f"regret, {arm}_hi": hi}
        rows.append(row | {"score covered": f"{sum(one['covered'] for one in found)} of {seeds}",
                           "gain covered": f"{sum(one['gain_covered'] for one in found)} of {seeds}",
                           "a plan": f"{sum(one['planned'] for one in found)} of {seeds}"})  # fmt: skip
    return rows
