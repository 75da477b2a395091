"""A view that asks how well numbers of training sets rank the accuracy of the models that learn from them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from labkit import grade
from labkit.studies.ranks import spearman
from labkit.studies.rows import counts_of, records
from labkit.studies.views import Fit, Found, Records, View, ranged, signed

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

DRAWS = 2000
ABOVE = "above the baseline"  # the exam of a number's Spearman correlation less the baseline's
FEWEST = 8  # models below which nothing is ranked; nor are models that score alike


@dataclass(frozen=True, kw_only=True)
class Ranks(View):
    """Spearman's rank correlation of several numbers of a training set with its model's accuracy.

    Intervals resample models, each a training set of its own (percentiles; paired for differences). A number that some
    model lacks is correlated over those that have it.

    Attributes:
        numbers: Columns of the long rows, and how a person reads them.
        baseline: The number that the others are compared with.
        exam: What is graded, `exam_label` how a person reads it.
    """

    numbers: Mapping[str, str]
    baseline: str
    exam: str
    exam_label: str

    def measure(self, rows: "pd.DataFrame") -> Found:
        """Two lines per number: its correlation, and that less the baseline's."""
        import pandas as pd

        models = self.select(rows, [self.exam])
        accuracy = grade.intervals.accuracies(counts_of(models))
        if len(models) < FEWEST or np.ptp(accuracy) == 0:
            return Found(pd.DataFrame(), models)
        values = {name: models[name].to_numpy(float) for name in self.numbers}
        draws = np.random.default_rng(0).integers(len(models), size=(DRAWS, len(models)))
        draws = np.vstack([np.arange(len(models)), draws])  # the first is the sample itself
        found = {name: correlations(value, accuracy, draws) for name, value in values.items()}
        about = {"seeds": models["seed"].nunique(), "not_learned": int((~models["learned"].astype(bool)).sum()),
                 "over": "models, each with a training set of its own", "models": len(models)}  # fmt: skip
        lines = []
        for name, one in found.items():
            for exam, draw in ((self.exam, one), (ABOVE, one - found[self.baseline])):
                lo, hi = np.quantile(draw[1:], [0.025, 0.975])
                line = {"measure": name, "label": self.numbers[name], "exam": exam}
                lines.append(line | {"mean": float(draw[0]), "lo": float(lo), "hi": float(hi)} | about)
        return Found(pd.DataFrame(lines), models.assign(accuracy=accuracy), self._best(lines, found))

    def _best(self, lines: Records, found: Mapping[str, NDArray[np.float64]]) -> Fit:
        """The best number, and those that are not told apart from it."""
        own = sorted((line for line in lines if line["exam"] == self.exam), key=lambda line: -line["mean"])
        best = own[0]["measure"]
        tied = [name for name, one in found.items() if np.quantile((found[best] - one)[1:], 0.025) <= 0]
        words = (
            f"{own[0]['label']} ranks {self.exam_label} best (Spearman {ranged(own[0])} over {own[0]['models']} models)"
        )
        others = [line["label"] for line in own[1:] if line["measure"] in tied]
        words += f"; not told apart from it: {', '.join(others) or 'none'}"
        return Fit(words, {"best": best, "not told apart": tied})

    def table(self, found: Found) -> Records:
        lines = sorted(found.lines(self.exam), key=lambda line: -line["mean"])
        above = {line["measure"]: line for line in found.lines(ABOVE)}
        return [
            {"measure": line["label"], "Spearman [95 %]": ranged(line),
             f"less that of {self.numbers[self.baseline]}": "the baseline" if line["measure"] == self.baseline
             else signed(*(above[line["measure"]][end] for end in ("mean", "lo", "hi"))), "models": line["models"]}
            for line in lines
        ]  # fmt: skip

    def chart(self, found: Found, published: Sequence[Mapping[str, Any]] = (), title: str = "") -> "alt.TopLevelMixin":
        from labkit import show

        above = {line["measure"]: line for line in found.lines(ABOVE)}
        rows = [
            {"name": line["label"], "mean": line["mean"], "ci95": [line["lo"], line["hi"]],
             "difference": None if line["measure"] == self.baseline else above[line["measure"]]["mean"],
             "difference_ci95": None if line["measure"] == self.baseline
             else [above[line["measure"]]["lo"], above[line["measure"]]["hi"]]}
            for line in sorted(records(found.estimates), key=lambda line: -line["mean"]) if line["exam"] == self.exam
        ]  # fmt: skip
        return show.forest_chart(
            rows, name="name", difference="difference", difference_interval="difference_ci95",
            versus=self.numbers[self.baseline], x_label=f"Spearman correlation with {self.exam_label}",
            title=title or self.title,
        )  # fmt: skip


def correlations(one: NDArray[np.float64], other: NDArray[np.float64], draws: NDArray[np.int64]) -> NDArray[np.float64]:
    """Spearman correlations of two samples under resamples [r, n] of their places: [r]."""
    known = ~np.isnan(one)
    draws = np.where(known[draws], draws, np.flatnonzero(known)[draws % known.sum()])
    return spearman(one[draws], other[draws])
