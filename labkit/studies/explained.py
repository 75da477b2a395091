"""A view that sets explanations side by side: which number explains the accuracy of many training sets best?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labkit import grade
from labkit.studies.rows import counts_of
from labkit.studies.views import Curve, Fit, Found, Records, View, interval

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
            share = grade.explained(places, answers)
            fit = grade.fit_transition(places, answers).as_dict()
            ends = share.share_ci95 or (float("nan"), float("nan"))
            mean = float("nan") if share.share is None else share.share
            line = {"number": column, "exam": self.exam, "mean": mean, "lo": ends[0], "hi": ends[1], "fit": fit}
            lines.append(line | {"seeds": min(map(len, answers)), "not_learned": 0, "over": "seeds and rules"})
        estimates = pd.DataFrame(lines)
        return Found(estimates, selected.assign(accuracy=0.0), self._best(estimates))

    def _best(self, estimates: "pd.DataFrame") -> Fit:
        known = estimates.dropna(subset="mean").sort_values("mean", ascending=False, kind="stable").to_dict("records")
        if not known:
            return Fit("no curve was fitted", {"best": next(iter(self.numbers)), "located": False})
        first, *others = known
        share = interval(first["mean"], first["lo"], first["hi"])
        second = f" (next best: {self.numbers[others[0]['number']]}, {others[0]['mean']:.3f})" if others else ""
        words = f"one curve over the {self.numbers[first['number']]} explains {share} of the variance between sets"
        return Fit(words + second, first["fit"] | {"best": first["number"]})

    def table(self, found: Found) -> Records:
        return [
            {
                "what a set is worth": self.numbers[line["number"]],
                "variance between sets explained [95 %]": "no fit"
                if line["mean"] != line["mean"]
                else interval(line["mean"], line["lo"], line["hi"]),
                "half of the plateau at": f"{line['fit']['midpoint']:,.0f} [{line['fit']['ci95'][0]:,.0f}, "
                f"{line['fit']['ci95'][1]:,.0f}]"
                if line["fit"]["located"]
                else "not located",
                "note": line["fit"]["note"],
            }
            for line in found.estimates.to_dict("records")
        ]

    def chart(self, found: Found, published: Sequence[Mapping[str, Any]] = (), title: str = "") -> "alt.TopLevelMixin":
        """Accuracy along the number that explains it best."""
        assert found.fit is not None
        best = found.fit.numbers["best"]
        view = Curve(
            title=f"{found.fit.sentence[0].upper()}{found.fit.sentence[1:]}",
            x=best,
            x_label=self.numbers[best][0].upper() + self.numbers[best][1:],
            exams={self.exam: self.exam_label},
            by=self.by,
            by_name=self.by_name,
            by_label=self.by_label,
        )
        drawn = view.measure(found.models.assign(**{best: found.models[best].clip(lower=1.0)}))
        return view.chart(drawn._replace(fit=found.fit), title=title)
