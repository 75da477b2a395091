"""One decision rule for every published claim: whole intervals, at least two seeds, three outcomes and a fourth.

A claim names a region for each of some measured quantities, such as "accuracy below 0.5 at 300 rules or fewer", which
is a region for each number of rules that was tried. Each quantity has a 95 % interval. The claim is

- *supported* when every interval lies inside its region (`quantifier="any"`: when at least one does),
- *contradicted* when at least one lies wholly outside (`"any"`: when all do),
- otherwise it *cannot* be *told*.

Guaranteed: a claim is never both supported and contradicted, and a wider interval never turns "cannot tell" into a
verdict. A single seed, or models that have not learned their own training set, decide nothing. Assumes that each
interval is valid on its own: with many quantities some leave their region by chance, which makes "supports" the more
demanding outcome.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

Outcome = Literal["supports", "contradicts", "cannot tell", "not tested here"]
OUTCOMES: tuple[Outcome, ...] = ("supports", "contradicts", "cannot tell", "not tested here")
ABOVE_ZERO = math.nextafter(0.0, 1.0)  # the lower end of a region that leaves out 0
SEEDS = 2  # the fewest that can decide


class Evidence(NamedTuple):
    """One measured quantity beside what a claim says of it.

    Attributes:
        lo: Lower end of the quantity's 95 % interval.
        hi: Upper end.
        low: Lower end of the region that the claim names, included; -inf for none.
        high: Upper end of the region, left out; inf for none.
        seeds: How many independent runs the interval rests on.
        learned: Whether all of its models have learned their own training set.
    """

    lo: float
    hi: float
    low: float = -math.inf
    high: float = math.inf
    seeds: int = SEEDS
    learned: bool = True

    @property
    def decisive(self) -> bool:
        return self.seeds >= SEEDS and self.learned and not (math.isnan(self.lo) or math.isnan(self.hi))

    @property
    def inside(self) -> bool:
        """The whole interval lies in the region."""
        return self.decisive and self.low <= self.lo and (self.hi < self.high or self.high == math.inf)

    @property
    def outside(self) -> bool:
        """The whole interval lies out of the region, on one side of it."""
        return self.decisive and (self.hi < self.low or self.lo >= self.high)


def decide(evidence: Sequence[Evidence], quantifier: Literal["all", "any"] = "all") -> Outcome:
    """What the evidence says of a claim; see the module. No evidence: "not tested here"."""
    if not evidence:
        return "not tested here"
    inside, outside = [one.inside for one in evidence], [one.outside for one in evidence]
    supported, contradicted = (all(inside), any(outside)) if quantifier == "all" else (any(inside), all(outside))
    return "supports" if supported else "contradicts" if contradicted else "cannot tell"


def difference(one: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
    """The interval of one quantity less another that is independent of it, from their intervals.

    Conservative: it holds 0 wherever the two intervals meet.
    """
    return one[0] - other[1], one[1] - other[0]
