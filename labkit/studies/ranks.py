"""A view that ranks arms by numbers known before training, and asks how well each tells the ranks of the results."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from labkit.grade import intervals
from labkit.studies.rows import records
from labkit.studies.views import Found, Records, View, signed

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Ranks(View):
    """Spearman's correlation over arms between each number and the arms' scores, a mean over seeds and values of `by`.

    Seeds are resampled and, within each, the questions, the same for all models of a seed. The arms are the ones that
    there are: nothing is said of others. Where all scores are alike the interval is as wide as can be. Seeds without
    every arm at every value of `by` are left out, and fewer than three arms have no ranks.

    Attributes:
        numbers: Columns of the rows, and how a person reads them.
        arm: The column that tells arms apart.
        by: The column within whose values arms are ranked.
        less: Two of the numbers: what the first correlates more than the second is told, too (exam `difference`).
    """

    numbers: Mapping[str, str]
    arm: str
    by: str
    less: tuple[str, str]

    def measure(self, rows: "pd.DataFrame") -> Found:
        import pandas as pd

        chosen: Any = self.select(rows, ["score"])
        shape = (chosen[self.by].nunique(), chosen[self.arm].nunique())
        whole = [group for _, group in chosen.sort_values([self.by, self.arm], kind="stable").groupby("seed")
                 if len(group) == shape[0] * shape[1] and shape[1] > 2]  # fmt: skip
        if not whole:
            return Found(pd.DataFrame(), chosen)
        tables = [np.array(group["right"].tolist(), float).T for group in whole]  # [questions, models]
        known = [np.array([group[name].to_numpy(float).reshape(shape) for name in self.numbers]) for group in whole]
        place, rng = {id(table): number for number, table in enumerate(tables)}, np.random.default_rng(0)

        def told(number: int, scores: Floats) -> Floats:
            """The correlations [n, numbers] of n tables of scores [n, models] of a seed."""
            return np.stack([spearman(one, scores.reshape(-1, *shape)).mean(axis=-1) for one in known[number]], axis=-1)

        def resampled(table: Floats, n: int) -> Floats:
            return told(place[id(table)], intervals.resample(table, n, rng))[:, None]

        means = np.mean([told(i, table.sum(axis=0)[None])[0] for i, table in enumerate(tables)], axis=0)
        drawn, names = intervals.over_seeds(tables, len(tables), 2000, rng, resampled), list(self.numbers)
        first, second = map(names.index, self.less)
        lines = [self._line("rank", name, means[i], drawn[:, i]) for i, name in enumerate(names)]
        lines.append(self._line("difference", "", means[first] - means[second], drawn[:, first] - drawn[:, second]))
        lines = [line | {"seeds": len(tables)} for line in lines]
        return Found(pd.DataFrame(lines), chosen.drop(columns=["right", "asked"]))

    def _line(self, exam: str, name: str, mean: float, drawn: Floats) -> dict[str, Any]:
        lo, hi = intervals.percentiles(drawn)
        if lo == hi == 0:  # all scores alike, in every resample: nothing is known
            lo, hi = (-1.0, 1.0) if name else (-2.0, 2.0)
        label = self.numbers[name] if name else " less ".join(self.numbers[one] for one in self.less)
        return {"number": name, "label": label, "exam": exam, "mean": float(mean), "lo": lo, "hi": hi,
                "not_learned": 0, "over": "seeds and questions"}  # fmt: skip

    def table(self, found: Found) -> Records:
        return [
            {"ranked by": line["label"], "seeds": line["seeds"]}
            | {"rank correlation with the scores [95 %]": signed(line["mean"], line["lo"], line["hi"])}
            for line in records(found.estimates)
        ]

    def chart(self, found: Found, published: Sequence[Mapping[str, Any]] = (), title: str = "") -> "alt.TopLevelMixin":
        from labkit import show

        lines = [line | {"ci95": [line["lo"], line["hi"]]} for line in records(found.estimates)]
        return show.forest_chart(
            lines, name="label", reference=0.0, x_label="rank correlation", title=title or self.title,
            subtitle=self.title if title else "",
        )  # fmt: skip


def spearman(one: Floats, other: Floats) -> Floats:
    """Spearman's correlation along the last axis; ties share their mean rank. 0 where all of either are alike.

    >>> spearman(np.array([1.0, 2, 3]), np.array([[2.0, 4, 9], [3.0, 2, 1], [5.0, 5, 5]])).tolist()
    [1.0, -1.0, 0.0]
    """
    both = np.broadcast_to(one, other.shape), other
    a, b = (ranks - ranks.mean(axis=-1, keepdims=True) for ranks in (rankdata(values, axis=-1) for values in both))
    size = np.sqrt((a**2).sum(axis=-1) * (b**2).sum(axis=-1))
    return np.divide((a * b).sum(axis=-1), size, out=np.zeros_like(size), where=size > 0)
