"""Long tails: exact budgets whose examples per rule follow a power law, and how many rules such a set amounts to.

In arXiv 2402.10891 (sec. 4 and Fig. 3) the examples per rule follow the power law f(u) = alpha u^(alpha-1). Two
readings of that are offered, both as deterministic quantiles instead of random draws, so that a budget is one
allocation:

- `weight`: f is the density of the rules' weights: rule i of I weighs u = ((i + 1/2) / I)^(1/alpha), and gets its share
  of the examples in that proportion. The larger alpha the more even, with equal weights (`uniform`) as the limit: under
  this reading the published list "uniform, 2, 1, 0.5, ... 0.03" runs from even to uneven.
- `rank`: f is the density of the examples over the rules' ranks u: rule i gets the mass of its bin,
  ((i + 1) / I)^alpha - (i / I)^alpha. Here alpha = 1 is uniform.

Guaranteed: allocations sum to the budget exactly, are within one example of the law above the floor, and are ordered
from the most frequent rule to the rarest.
"""

from bisect import bisect_left
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from labkit.design.budget import whole
from labkit.errors import BadRequest, unknown

Law = Literal["weight", "rank"]
Alpha = float | Literal["uniform"]


def shares(n_instructions: int, alpha: Alpha, law: Law = "weight") -> npt.NDArray[np.float64]:
    """The law's share of the examples for each rule, most frequent first: float [n_instructions], summing to 1.

    Raises:
        BadRequest: for an alpha that is no positive number, or an unknown law.
    """
    if alpha != "uniform" and not (isinstance(alpha, int | float) and 0 < alpha < np.inf):
        raise BadRequest(f"alpha = {alpha!r}: a power law needs a number above 0, or 'uniform'")
    if law not in get_args(Law):
        raise unknown("law", law, get_args(Law))
    if alpha == "uniform":
        weights = np.ones(n_instructions)
    elif law == "rank":
        weights = np.diff((np.arange(n_instructions + 1) / n_instructions) ** alpha)
    else:
        logs = np.log((np.arange(n_instructions) + 0.5) / n_instructions)
        weights = np.exp((logs - logs[-1]) / alpha)  # the largest is 1, so that not all can underflow
    return np.asarray(np.sort(weights)[::-1] / weights.sum(), np.float64)


def allocate_long_tail(
    budget: int, n_instructions: int, alpha: Alpha, *, law: Law = "weight", floor: int = 0
) -> npt.NDArray[np.int64]:
    """Share a budget by a power law: int64 [n_instructions], most frequent first, summing to `budget` exactly.

    Every rule gets `floor` examples; what is left of the budget follows the law, rounded by largest remainders.

    Raises:
        BadRequest: when a rule is left without examples; says how many are, and how many rules would work.
    """
    if floor > budget:
        most = f"a floor of 1 works for {budget} rules at most"
        raise BadRequest(f"floor = {floor} is more than budget = {budget}: {most}")
    if floor * n_instructions > budget:
        raise BadRequest(f"floor = {floor} example(s) for each of n_instructions = {n_instructions} is more than "
                         f"budget = {budget}: at most {budget // floor} rules work")  # fmt: skip
    counts = _rounded(budget, n_instructions, alpha, law, floor)
    if empty := int((counts == 0).sum()):
        numbers = range(2, n_instructions)  # more rules never leave fewer empty
        works = 1 + bisect_left(numbers, 1, key=lambda n: not _rounded(budget, n, alpha, law, floor).all())
        raise BadRequest(f"alpha = {alpha} leaves {empty} of {n_instructions} rules without examples at budget = "
                         f"{budget}: at most {works} rules work, or a floor of 1")  # fmt: skip
    return counts


def _rounded(budget: int, n: int, alpha: Alpha, law: Law, floor: int) -> npt.NDArray[np.int64]:
    return np.sort(whole(shares(n, alpha, law), budget - floor * n) + floor)[::-1]


def hill_number(counts: npt.ArrayLike, order: float) -> float:
    """How many equally frequent rules would be as diverse as these counts (Hill 1973): from 1 to the number of rules.

    Order 0 counts the rules that occur; order 1 is the exponential of Shannon's entropy; order 2 one over the chance
    that two examples share a rule. The higher the order, the less rare rules count.
    """
    p = np.asarray(counts, float)
    p = p[p > 0] / p.sum()
    if order == 1:
        return float(np.exp(-(p * np.log(p)).sum()))
    return float((p**order).sum() ** (1 / (1 - order)))
