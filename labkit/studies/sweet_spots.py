"""A view of paired gains along a share that says whether a sweet spot is established; see `labkit.grade.sweet_spot`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from labkit import grade
from labkit.studies.views import Fit, Found, Gains, same_questions, signed

if TYPE_CHECKING:
    import pandas as pd

FEWEST = 4  # shares, to look for a sweet spot


Decision = Literal["supports", "contradicts", "cannot tell"]


@dataclass(frozen=True, kw_only=True)
class SweetSpots(Gains):
    """What each share gains over the lowest on the same questions, and whether some share is best.

    Attributes:
        mains: Exams or pools of exams, and how a person reads them; the first that was sat is looked at.
        least: The smallest gain that matters.
    """

    mains: Mapping[str, str]
    least: float

    def measure(self, rows: "pd.DataFrame") -> Found:
        sat = set(rows["exam"])
        main = next((exam for exam in self.mains if sat.issuperset(self.pools.get(exam, [exam]))), "")
        view = replace(self, exam=main, exam_label=self.mains.get(main, ""))
        found = super(SweetSpots, view).measure(rows)
        spots: dict[str, dict[str, Any]] = {}
        for size, block in view.select(rows, [main]).groupby("size", sort=False):
            shares, scores = view.paired(block)
            enough, same = len(shares) >= FEWEST and bool(scores), same_questions(block)
            spot = grade.sweet_spot(shares, scores, same_problems=same) if enough else None
            uppers = found.estimates.loc[found.estimates["size"] == size, "hi"].tolist() if enough else []
            decision = decide(spot, uppers, self.least) if spot else "cannot tell"
            about = {"lowest": shares[0], "last": shares[-1], "paired_seeds": len(scores), "shares": len(shares)}
            spots[str(size)] = {**about, "spot": spot.as_dict() if spot else None, "decision": decision}
        if not spots:
            return found
        widest = max(reversed(spots.values()), key=lambda one: one["shares"])
        ends = [widest["lowest"], widest["last"]]
        read = {**(widest["spot"] or {}), "decision": widest["decision"], "last": ends[1], "sizes": spots}
        if widest["spot"]:  # what a claim reads: where the best share lies by the decision, and not by the fit alone
            end = ends[read["verdict"] == "highest is best"]
            by = {"supports": read["peak_ci95"], "contradicts": [end, end], "cannot tell": ends}
            read["peak_ci95"] = by[widest["decision"]]
        return found._replace(fit=Fit(". ".join(f"{size}: {verdict(one)}" for size, one in spots.items()), read))


def decide(spot: grade.SweetSpot, uppers: Sequence[float], least: float) -> Decision:
    """Does a sweet spot speak for itself?

    `supports` where a share inside the range is located as the best and beats both ends; `contradicts` where an end is
    the best, or where no share gains as much as `least`: the upper ends of all gains' intervals lie below it. One seed
    decides nothing.
    """
    if spot.seeds == 1:
        return "cannot tell"
    if spot.verdict == "located":
        return "supports"
    return "contradicts" if spot.verdict.endswith("is best") or max(uppers) < least else "cannot tell"


def verdict(one: dict[str, Any]) -> str:
    """Whether there is a sweet spot, in words."""
    spot = one["spot"]
    if spot is None:
        return f"fewer than {FEWEST} shares in every seed, so no sweet spot was looked for"
    low, high = spot["peak_ci95"]
    where = f"{spot['peak']:.0%} [{low:.0%}, {high:.0%}]"
    gain = signed(spot["gain"], *spot["gain_ci95"])
    if spot["verdict"] == "located":
        return f"the sweet spot lies at {where} general data, worth {gain} at the nearest share tried"
    if spot["verdict"] == "lowest is best":
        return f"there is no sweet spot: the smallest share of general data is best, the fit's peak is {where}"
    if spot["verdict"] == "highest is best":
        return f"there is no sweet spot within the range: the largest share is best, the fit's peak is {where}"
    why = " (from one seed, training noise is not known)" if spot["seeds"] == 1 else ""
    worth = f", where the nearest share tried gains {gain}" if spot["nearest"] > one["lowest"] else ""
    return f"no sweet spot is established{why}: the fit's peak is {where}{worth}"
