"""A learned scorer: how far a task's loss will fall in a round, told from what any task shows before the round.

It is fitted on rounds of some tasks and asked about others, so that nothing of it is about a task's own name. What a
task shows are its loss (nats per token), how far that fell in the last round, and the part of all rounds that is over.
Of these and 1, f, a Bayesian linear regression (MacKay 1992) says

    fall = b . f + share a . f

where `share` is the task's part of the round's examples. So a . f is what more examples of the task are worth.

Assumed: falls of different tasks compare, as they do for the bandits. Left open: what a task does to the others.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
SHOWN = 4


class Rounds(NamedTuple):
    """Rounds of training: what tasks showed before each [n, SHOWN], their shares [n], and how far losses fell [n]."""

    shown: Floats
    shares: Floats
    falls: Floats

    @classmethod
    def of(cls, losses: ArrayLike, shares: ArrayLike) -> "Rounds":
        """From one task's losses before, between and after r rounds [r + 1] and its shares [r]."""
        known, n = np.asarray(losses, float), len(np.asarray(shares))
        return cls(np.array([shown(known[: r + 1], n) for r in range(n)]), np.asarray(shares, float), -np.diff(known))


def shown(losses: Sequence[float] | Floats, rounds: int) -> tuple[float, ...]:
    """What a task shows after its losses so far, in a run of so many rounds: [SHOWN]."""
    last = losses[-2] - losses[-1] if len(losses) > 1 else 0.0
    return 1.0, float(losses[-1]), float(last), (len(losses) - 1) / rounds


def fit(rounds: Sequence[Rounds]) -> tuple[float, ...]:
    """The weights a, then b: [2 SHOWN], to four digits, so that no last bit decides what is trained."""
    from sklearn.linear_model import BayesianRidge

    design, falls = np.vstack([_design(one) for one in rounds]), np.concatenate([one.falls for one in rounds])
    size = design.std(axis=0)
    size[size == 0] = 1.0
    model = BayesianRidge(fit_intercept=False).fit(design / size, falls)
    return tuple(float(f"{weight:.4g}") for weight in model.coef_ / size)


def foretold(weights: ArrayLike, rounds: Rounds) -> Floats:
    """The falls that weights foretell: [n]."""
    return np.asarray(_design(rounds) @ np.asarray(weights, float), np.float64)


def worth(weights: Sequence[float], shown: Sequence[float]) -> float:
    """What more examples of a task are worth, in nats per token that its loss falls."""
    return float(np.dot(weights[:SHOWN], shown))


def _design(rounds: Rounds) -> Floats:
    return np.hstack([rounds.shares[:, None] * rounds.shown, rounds.shown])
