"""Exact budgets: how many examples each instruction or source gets when all together get a fixed number."""

import numpy as np
import numpy.typing as npt

from labkit.errors import BadRequest


def allocate(budget: int, n_instructions: int) -> npt.NDArray[np.int64]:
    """Share a budget evenly (the papers' I x S = N): int64 [n_instructions], summing to `budget` exactly.

    When the number of instructions does not divide the budget, the first `budget % n_instructions` instructions get
    one example more than the others.

    Raises:
        BadRequest: when some instruction would get no example.
    """
    if n_instructions > budget:
        raise BadRequest(f"n_instructions = {n_instructions} is more than budget = {budget} examples: "
                         f"{n_instructions - budget} instructions would have none; at most {budget} work")  # fmt: skip
    counts = np.full(n_instructions, budget // n_instructions, np.int64)
    counts[: budget % n_instructions] += 1
    return counts


def whole(shares: npt.ArrayLike, budget: int) -> npt.NDArray[np.int64]:
    """Share a budget by `shares` [k] that sum to 1: int64 [k], summing to `budget` exactly, by largest remainders."""
    wanted = np.asarray(shares, float) * budget
    counts = np.floor(wanted).astype(np.int64)
    counts[np.argsort(counts - wanted, kind="stable")[: budget - int(counts.sum())]] += 1
    return counts
