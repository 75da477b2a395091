"""Bandits that choose what to train on next, from the reward of the one task that they chose.

    exp3      exponential weights with importance-weighted rewards (Auer et al. 2002; of rewards scaled as in Graves et
              al. 2017, arXiv 1704.03003: their 20th and 80th percentiles so far become -1 and 1)
    thompson  a sample from a normal belief about each task's reward, of which old ones are discounted (as in
              Raj and Kalyani 2017, arXiv 1707.09727); each task is tried once first

Guaranteed: a choice depends on the seed and the rewards so far alone. Left open: learning changes the rewards, so that
no bound on the regret of either holds; a reward is as noisy as what it is measured on.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Chosen = Sequence[tuple[int, float]]  # the tasks so far, and their rewards
EXPLORATION, RATE, DISCOUNT = 0.2, 0.3, 0.9


def exp3(chosen: Chosen, tasks: int, seed: int) -> int:
    """The next of so many tasks."""
    weights = np.zeros(tasks)
    for place, (task, reward) in enumerate(chosen):
        low, high = np.quantile([r for _, r in chosen[: place + 1]], [0.2, 0.8])
        scaled = np.clip(2 * (reward - low) / (high - low) - 1, -1, 1) if high > low else 0.0
        weights[task] += RATE * scaled / _shares(weights)[task] / tasks
    return int(np.random.default_rng([seed, len(chosen)]).choice(tasks, p=_shares(weights)))


def _shares(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(weights - weights.max())
    shares: NDArray[np.float64] = (1 - EXPLORATION) * powers / powers.sum() + EXPLORATION / len(weights)
    return shares


def thompson(chosen: Chosen, tasks: int, seed: int) -> int:
    """The next of so many tasks."""
    rng, seen = np.random.default_rng([seed, len(chosen)]), np.zeros(tasks)
    total, spread = np.zeros(tasks), float(np.std([reward for _, reward in chosen])) if chosen else 0.0
    for task, reward in chosen:
        seen, total = DISCOUNT * seen, DISCOUNT * total
        seen[task] += 1
        total[task] += reward
    if new := [task for task in range(tasks) if not seen[task]]:
        return int(rng.choice(new))
    return int(np.argmax(rng.normal(total / seen, spread / np.sqrt(seen))))


BANDITS: dict[str, Callable[[Chosen, int, int], int]] = {"exp3": exp3, "thompson": thompson}
