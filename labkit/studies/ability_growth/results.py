"""What became of the mixes of ability growth: predicted before they were trained, and measured."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from labkit import grade
from labkit.studies.scores import MACRO, OUTSIDE, corrected
from labkit.studies.views import Fit, Found, Matrix, same_questions

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class Designs(Matrix):
    """The mixes: what was predicted of each before the run, and what was measured."""

    dials: Sequence[str] = ("arm",)
    label: Callable[[Mapping[str, Any]], str] = str
    exams: Mapping[str, str] = field(default_factory=dict)
    rows_name: str = "design"
    diverging: bool = True

    def measure(self, rows: "pd.DataFrame") -> Found:
        import pandas as pd

        lines, about = [], {}
        mixes = rows[(rows["design"] == "mix") & (rows["counted"] | rows["ability"].isin([MACRO, OUTSIDE]))]
        for (arm, ability), group in mixes.groupby(["arm", "ability"], sort=False):
            counts, said = group["counts"].iloc[0], group["predicted"].iloc[0]
            said = said if isinstance(said, dict) else {}
            about[arm] = {"counts": counts, "predicted": said}
            if ability in (MACRO, OUTSIDE):
                tables = [np.stack([right, 0 * right]) for right in map(np.array, group["right"])]
                ends = grade.paired_difference(tables, 0, 1, same_problems=same_questions(group))
            else:
                ends = corrected(group)
            known = said.get(MACRO) if ability == MACRO else said.get("abilities", {}).get(ability)
            parts = {"predicted": [known["value"], *known["ci95"]]} if known else {}
            for what, (mean, lo, hi) in {**parts, "measured": ends}.items():
                lines.append((arm, f"{arm}, {what}", what, ability, mean, lo, hi, len(group)))
        columns = ["arm", "label", "what", "exam", "mean", "lo", "hi", "seeds"]
        estimates = pd.DataFrame(lines, columns=columns).assign(framed=False, not_learned=0, over="")
        return Found(estimates, mixes.drop(columns=["right", "asked"]), Fit("", {"designs": about}))
