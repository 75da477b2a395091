"""A view of paired gains along a share that says whether a sweet spot is established; see `labkit.grade.sweet_spot`."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from labkit import grade
from labkit.studies.views import Fit, Found, Gains, same_questions, signed

if TYPE_CHECKING:
    import pandas as pd

FEWEST = 4  # shares, to look for a sweet spot


@dataclass(frozen=True, kw_only=True)
class SweetSpots(Gains):
    """What each share gains over the lowest on the same questions, and whether some share is best.

    Attributes:
        mains: Exams, and how a person reads them; the first that was sat is looked at.
    """

    mains: Mapping[str, str]

    def measure(self, rows: "pd.DataFrame") -> Found:
        main = next(exam for exam in self.mains if exam in set(rows["exam"]))
        view = replace(self, exam=main, exam_label=self.mains[main])
        found = super(SweetSpots, view).measure(rows)
        spots: dict[str, dict[str, Any]] = {}
        for size, block in view.select(rows, [main]).groupby("size", sort=False):
            shares, scores = view.paired(block)
            enough, same = len(shares) >= FEWEST and bool(scores), same_questions(block)
            spot = grade.sweet_spot(shares, scores, same_problems=same).as_dict() if enough else None
            ends = {"lowest": shares[0], "last": shares[-1], "paired_seeds": len(scores)}
            spots[str(size)] = ends | {"shares": len(shares), "spot": spot}
        if not spots:
            return found
        widest = max(reversed(spots.values()), key=lambda one: one["shares"])
        spot = dict(widest["spot"] or {})
        if spot.get("verdict") == "not decided":  # the fit's own interval does not say that flat arms are flat
            spot["peak_ci95"] = [widest["lowest"], widest["last"]]
        sentence = ". ".join(f"{size}: {verdict(one)}" for size, one in spots.items())
        return found._replace(fit=Fit(sentence, spot | {"last": widest["last"], "sizes": spots}))


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
