"""Views of what training sets are made of: how hard their examples are, and which kinds of tasks they hold."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from labkit.studies.study import Results
from labkit.studies.views import Found, Records, View, records

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class Histogram(View):
    """How far answers fall short, by kind of task, over one model per seed.

    Attributes:
        counts: The column that says by kind how often which difference (a shortfall is below 0) occurred.
        over: The column with the shortfall above which an example is hard.
        x_label: The shortfall, with its unit.
    """

    counts: str
    over: str
    x_label: str

    def measure(self, rows: "pd.DataFrame") -> Found:
        import pandas as pd

        firsts = rows.drop_duplicates("seed")
        over = float(firsts[self.over].iloc[0])
        lines = [
            {
                "kind": kind,
                "shortfall": -int(points),
                "count": count,
                "hard": count * (-int(points) > over),
                "over": over,
            }
            for kind, counts in totals(firsts[self.counts].tolist()).items()
            for points, count in counts.items()
        ]
        return Found(pd.DataFrame(lines), firsts)

    def table(self, found: Found) -> Records:
        return records(found.estimates.groupby("kind")[["count", "hard"]].sum().reset_index())

    def chart(self, found: Found, published: Sequence[Mapping[str, Any]] = (), title: str = "") -> "alt.TopLevelMixin":
        from labkit import show

        over = float(found.estimates["over"].iloc[0])
        titled = f"{self.title}: a shortfall above {over:g} points"
        scores = found.estimates.rename(columns={"shortfall": "score"})
        return show.histogram_chart(scores, threshold=int(over) + 1, x_label=self.x_label, title=title or titled)


@dataclass(frozen=True, kw_only=True)
class Distribution(View):
    """The shares of kinds of tasks in several states of a training set, beside a target.

    Attributes:
        first: The column with the shares of the public set, alike for all arms of a seed.
        arm: The column that tells arms apart; `states` names those that are shown, by the shares of their rounds.
        target: The column with the target.
    """

    first: str
    arm: str
    states: Mapping[str, str]
    target: str

    def measure(self, rows: "pd.DataFrame") -> Found:
        import pandas as pd

        models = rows.drop_duplicates("address")
        states = {"public set": mean_shares(models.drop_duplicates("seed")[self.first].tolist())}
        for arm, words in self.states.items():
            rounds = [line["shares"] for lines in models.loc[models[self.arm] == arm, "rounds_of"] for line in lines]
            states |= {words: mean_shares(rounds)} if rounds else {}
        target = models[self.target].iloc[0]
        lines = [
            {"state": state, "kind": kind, "share": shares.get(kind, 0.0)}
            for state, shares in (states | {"target": target}).items()
            for kind in target
        ]
        return Found(pd.DataFrame(lines), models)

    def table(self, found: Found) -> Records:
        wide = found.estimates.pivot(index="kind", columns="state", values="share")
        return records(wide[list(dict.fromkeys(found.estimates["state"]))].round(3).reset_index())

    def chart(self, found: Found, published: Sequence[Mapping[str, Any]] = (), title: str = "") -> "alt.TopLevelMixin":
        from labkit import show

        return show.distribution_chart(found.estimates, target="target", title=title or self.title)


def mean_shares(sets: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean share of each kind."""
    kinds = sorted(set().union(*sets))
    return {kind: float(np.mean([shares.get(kind, 0.0) for shares in sets])) for kind in kinds}


def totals(models: Sequence[Mapping[str, Mapping[str, int]]]) -> dict[str, dict[str, int]]:
    """Counts by part and name, added up."""
    parts = sorted(set().union(*models))
    return {part: dict(sum((Counter(counts.get(part, {})) for counts in models), Counter())) for part in parts}


def counted(column: str, arm: str, arm_label: Callable[[str], str]) -> Callable[[Results], Records]:
    """A table of what a column counts by part, one line per arm and part, all seeds together."""

    def table(results: Results) -> Records:
        models = results.rows.drop_duplicates("address")
        return [
            {arm: arm_label(str(name)), "part": part, "count": ", ".join(f"{what} {n:,}" for what, n in counts.items())}
            for name, group in models.groupby(arm, sort=False)
            for part, counts in totals(group[column].tolist()).items()
        ]

    return table
