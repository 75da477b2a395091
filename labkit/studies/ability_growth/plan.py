"""The mixes of the second stage of ability growth.

A plan spends a budget by the growth curves of curated data (`design.plan`), which assumes that an ability's score
depends on its own examples alone. The named designs are the paper's; where they name an ability of theirs, ours stands
for it by analogy.
"""

from collections.abc import Collection
from typing import Any, NamedTuple

from labkit.design import plan
from labkit.design.plan import Curves, Growth
from labkit.studies.growing import Records

DESIGNS = ("planned", "baseline", "reconstruct", "maximum")  # and mix-N


class Design(NamedTuple):
    """A mix of the second stage: {ability: {source: examples}}, and what is predicted of it (None: nothing)."""

    counts: dict[str, dict[str, int]]
    predicted: dict[str, Any] | None


def growths(curves: Records, abilities: Collection[str]) -> dict[str, Growth] | None:
    """What a plan needs of the growth curves of some abilities; None where one has no curve."""
    fits = {curve["ability"]: curve["fit"] for curve in curves if curve["ability"] in abilities}
    if not fits or not all(fits.values()):
        return None
    return {
        name: Growth(Curves.of(fit["curves"]), fit["points"][-1]["volume"], fit["verdict"] != "not responding")
        for name, fit in fits.items()
    }


def designs(params: Any, curves: Records, failing: Collection[str] = ()) -> dict[str, Design]:
    """The mixes of `params.mixes`: planned from growth curves, or named; and what is predicted of each.

    Abilities that failed their gate get the plan's least, and no prediction counts them. Where an ability has no growth
    curve (fewer than four volumes, or one seed), nothing is planned or predicted.

    Raises:
        BadRequest: for a design that needs more examples than there are.
    """
    passing = [name for name in params.abilities if name not in failing]
    fits, have, made = growths(curves, passing), params.origin.available(params), dict[str, Design]()
    for mix in params.mixes:
        if mix != "planned":
            counts = named(params, mix, have)
            known = fits and all(set(sources) == {"curated"} for sources in counts.values())
            own = {name: counts[name]["curated"] for name in passing}
            made[mix] = Design(counts, _rounded(plan.predict(fits, own).as_dict()) if fits and known else None)
        elif fits:
            rest = {name: {"curated": params.least} for name in failing}
            most = {name: have[name]["curated"] for name in fits}
            budget = min(params.budget - params.least * len(rest), sum(most.values()))
            best = plan.allocate(fits, budget, available=most, least=params.least)
            predicted = best.planned.as_dict() | {"difference": best.difference.macro.as_dict()}
            made[mix] = Design(rest | {name: {"curated": n} for name, n in best.counts.items()}, _rounded(predicted))
    return made


def named(params: Any, mix: str, have: plan.Sources) -> dict[str, dict[str, int]]:
    """The counts of a named design; raises as `designs` does."""
    small = {name: min(n, have[name]["curated"]) for name, n in params.origin.SMALL.items() if name in have}
    if mix == "baseline":
        return plan.baseline(have, params.budget)
    if mix == "reconstruct":
        return plan.reconstruct(have, params.budget, small=small)
    return plan.mix_n(have, int(mix.removeprefix("mix-")) if mix != "maximum" else 0, small=small)


def _rounded(value: Any) -> Any:
    """Numbers to four digits, so that the last bit of a fit does not decide an address."""
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(one) for one in value]
    return round(value, 4) if isinstance(value, float) else value
