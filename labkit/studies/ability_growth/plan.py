"""The mixes of ability growth: proxy runs of the first stage, and what the second stage trains.

The planned mix is what `design.mix_finder` reads off the proxy runs: as much as there is of each ability, random mixes
of the plan's budget, and equal parts on several seeds, all for few steps. No mix holds more of an ability than there
is. The named mixes are the paper's; where they name an ability of theirs, ours stands for it by analogy.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from labkit.design import mix_finder, named_mixes, whole
from labkit.studies.growing import Records
from labkit.studies.scores import MACRO

if TYPE_CHECKING:
    import pandas as pd

DESIGNS = ("planned", "baseline", "reconstruct", "maximum")  # and mix-N
ARMS = ("tried", "floor")  # of the proxy runs


class Design(NamedTuple):
    """A mix of the second stage: {ability: {source: examples}}, and what is predicted of it (None: nothing)."""

    counts: dict[str, dict[str, int]]
    predicted: dict[str, Any] | None


def proxies(params: Any) -> Records:
    """The dials of the proxy runs, each with a seed of its own."""
    k, first = len(params.abilities), params.seeds[0]
    mixes = [mix_finder.mixes(params.tried, k, first), np.full((params.floor, k), 1 / k)]
    return [
        {"design": "proxy", "arm": arm, "source": "curated", "seed": seed, "counts": _counts(params, shares)}
        for arm, drawn in zip(ARMS, mixes, strict=True)
        for seed, shares in enumerate(mix_finder.within(drawn, _most(params)), first)
    ]


def designs(params: Any, rows: "pd.DataFrame") -> dict[str, Design]:
    """The mixes of `params.mixes`, from the scores of the first stage.

    Where there is no plan, equal parts (`baseline`) stand for it, with the reason, and are not trained twice.

    Raises:
        BadRequest: for a mix that needs more examples than there are.
    """
    have = params.origin.available(params)
    named = {mix: Design(named_mix(params, mix, have), None) for mix in params.mixes if mix != "planned"}
    if "planned" not in params.mixes:
        return named
    found = _found(params, rows[(rows["design"] == "proxy") & (rows["ability"] == MACRO)])
    arm = "baseline" if found.predicted and found.predicted["reason"] else "planned"
    return {arm: found} | {mix: design for mix, design in named.items() if mix != arm}


def named_mix(params: Any, mix: str, have: named_mixes.Sources) -> dict[str, dict[str, int]]:
    """The counts of a named mix; raises as `designs` does."""
    small = {name: min(n, have[name]["curated"]) for name, n in params.origin.SMALL.items() if name in have}
    if mix == "baseline":
        return named_mixes.baseline(have, params.budget)
    if mix == "reconstruct":
        return named_mixes.reconstruct(have, params.budget, small=small)
    return named_mixes.mix_n(have, int(mix.removeprefix("mix-")) if mix != "maximum" else 0, small=small)


def _found(params: Any, rows: "pd.DataFrame") -> Design:
    """The mix that is found from the macro scores of the proxy runs, and what is predicted of it."""
    if rows.empty:
        equal = named_mix(params, "baseline", params.origin.available(params))
        return Design(equal, {"reason": "no ability passed its gate"})
    tried, floor = (_runs(params, rows[rows["arm"] == arm]) for arm in ARMS)
    plan = mix_finder.find(tried, floor.scores, most=_most(params))
    told = {"score": plan.score, "gain": plan.gain, "noise of one run": [plan.noise or 0.0]}
    # to four digits, so that the last bit of a fit does not decide an address
    rounded = {name: [round(value, 4) for value in values] for name, values in told.items()}
    return Design(_counts(params, plan.shares), {**rounded, "reason": plan.reason})


def _runs(params: Any, rows: "pd.DataFrame") -> mix_finder.Runs:
    counts = [[counts[name]["curated"] for name in params.abilities] for counts in rows["counts"]]
    return mix_finder.Runs(np.array(counts) / params.budget, np.array(list(map(np.mean, rows["right"]))))


def _counts(params: Any, shares: ArrayLike) -> dict[str, dict[str, int]]:
    parts = zip(params.abilities, whole(shares, params.budget).tolist(), strict=True)
    return {name: {"curated": n} for name, n in parts}


def _most(params: Any) -> list[float]:
    """The largest share of each ability."""
    have = params.origin.available(params)
    return [have[name]["curated"] / params.budget for name in params.abilities]
