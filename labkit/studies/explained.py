"""A view that sets explanations side by side: which number explains the accuracy of many training sets best?"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labkit import grade
from labkit.studies.rows import counts_of, records
from labkit.studies.views import SETTINGS, Curve, Fit, Found, Records, View, ranged

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class Explained(View):
    """Several numbers of a training set, each put to the test of explaining accuracy by one logistic in its logarithm.

    Attributes:
        numbers: Columns of the long rows, and how a person reads them.
        sets: The columns that tell training sets apart.
        exam: What is graded, `exam_label` how a person reads it.
        by: The column whose values are told apart in the picture; `by_label` says how a person reads a value.
    """

    numbers: Mapping[str, str]
    sets: Sequence[str]
    exam: str
    exam_label: str
    by: str
    by_name: str = ""
    by_label: Any = str

    def measure(self, rows: "pd.DataFrame") -> Found:
        """One line per number: the share of the variance between sets that it explains, and its transition."""
        import pandas as pd

        selected = self.select(rows, [self.exam])
        groups = [group for _, group in selected.groupby(list(self.sets), sort=False)]
        answers = [counts_of(group) for group in groups]
        lines = []
        for column in self.numbers:
            places = [max(1, round(float(group[column].iloc[0]))) for group in groups]
            explained = grade.explained(places, answers)
            lo, hi = explained.share_ci95 or (math.nan, math.nan)
            mean = math.nan if explained.share is None else explained.share
            fit = grade.fit_transition(places, answers).as_dict()
            about = {"fit": fit, "seeds": min(map(len, answers)), "not_learned": 0, "over": "seeds and rules"}
            lines.append({"number": column, "exam": self.exam, "mean": mean, "lo": lo, "hi": hi, **about})
        estimates = pd.DataFrame(lines)
        return Found(estimates, selected.assign(accuracy=0.0), self._best(estimates))

    def _best(self, estimates: "pd.DataFrame") -> Fit:
        known = records(estimates.dropna(subset="mean").sort_values("mean", ascending=False, kind="stable"))
        if not known:
            return Fit("no curve was fitted", {"best": next(iter(self.numbers)), "located": False})
        first, *others = known
        second = f" (next best: {self.numbers[others[0]['number']]}, {others[0]['mean']:.3f})" if others else ""
        words = (
            f"one curve over the {self.numbers[first['number']]} explains {ranged(first)} of the variance between sets"
        )
        return Fit(words + second, first["fit"] | {"best": first["number"]})

    def table(self, found: Found) -> Records:
        return [
            {
                "what a set is worth": self.numbers[line["number"]],
                "variance between sets explained [95 %]": ranged(line) if line["mean"] == line["mean"] else "no fit",
                "half of the plateau at": _half(line["fit"]),
                "note": line["fit"]["note"],
            }
            for line in records(found.estimates)
        ]

    def chart(self, found: Found, published: Sequence[Mapping[str, Any]] = (), title: str = "") -> "alt.TopLevelMixin":
        """Accuracy along the number that explains it best."""
        assert found.fit is not None
        best = found.fit.numbers["best"]
        heading, x_label = (text[0].upper() + text[1:] for text in (found.fit.sentence, self.numbers[best]))
        view = Curve(title=heading, x=best, x_label=x_label, exams={self.exam: self.exam_label}, by=self.by,
                     by_name=self.by_name, by_label=self.by_label)  # fmt: skip
        models = found.models.drop(columns=SETTINGS, errors="ignore")  # sets that are worth as much stand together
        drawn = view.measure(models.assign(**{best: models[best].clip(lower=1.0)}))
        return view.chart(drawn._replace(fit=found.fit), title=title)


def _half(fit: Mapping[str, Any]) -> str:
    """Where half of the plateau is reached, with its interval, for people."""
    if not fit["located"]:
        return "not located"
    midpoint, lo, hi = (f"{number:,.0f}" for number in (fit["midpoint"], *fit["ci95"]))
    return f"{midpoint} [{lo}, {hi}]"
