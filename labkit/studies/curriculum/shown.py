"""What came out of the curriculum study: views, the finding and tables.

All arms of a seed go on from one first student and sit one exam, so they are compared in pairs: seeds are resampled
and, within each, test instructions, the same ones for both arms (`grade.paired_difference`). An arm is said to beat
another only where the whole interval of their difference lies above zero and there are two seeds or more.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from labkit.studies.curriculum.rounds import ARMS
from labkit.studies.study import Results
from labkit.studies.views import (
    ByKind,
    Curve,
    Forest,
    Found,
    Matrix,
    Pairs,
    Records,
    View,
    interval,
    ranged,
    signed_gain,
    verdict,
)  # fmt: skip

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

INGREDIENTS = {  # two arms, and what the second has that the first has not
    ("random", "full"): "the whole public set instead of a subset",
    ("random", "taught"): "a teacher: new pairs, refined responses",
    ("taught", "hard"): "hard examples instead of random ones",
    ("hard", "balanced"): "kinds of tasks re-balanced",
    ("balanced", "tapir"): "rounds with a rising share of hard examples, mined anew, among easy ones",
    ("taught", "tapir"): "all of TAPIR but the teacher: selection, balance and rounds",
    ("taught", "progress"): "kinds of tasks by learning progress",
    ("taught", "competence"): "from easy to hard by competence",
    ("random", "tapir"): "all of TAPIR",
}
DRAWN = ("random", "taught", "balanced", "tapir", "progress", "competence")  # by round, of those that were run
STATES = {"hard": "hard, as selected", "balanced": "re-balanced", "tapir": "TAPIR's rounds"}


def label(arm: str) -> str:
    """An arm for people."""
    return ARMS[arm].label


def ordered(rows: "pd.DataFrame") -> "pd.DataFrame":
    """The rows in the order of `ARMS`."""
    return rows.sort_values("arm", key=lambda arms: arms.map(list(ARMS).index), kind="stable", ignore_index=True)


def drawn(rows: "pd.DataFrame") -> "pd.Series[bool]":
    """The arms on the chart by round."""
    there = list(dict.fromkeys(rows["arm"]))
    return rows["arm"].isin([arm for arm in DRAWN if arm in there] or there[:6])


@dataclass(frozen=True, kw_only=True)
class Difficulty(View):
    """How far the first students fall short of the public answers, by kind."""

    def measure(self, rows: "pd.DataFrame") -> Found:
        import pandas as pd

        firsts = rows.drop_duplicates("seed")
        points = totals(firsts["difficulty"])
        lines = [
            {"kind": kind, "shortfall": -int(mfd), "count": count, "delta": float(firsts["delta"].iloc[0])}
            for kind, counts in points.items()
            for mfd, count in counts.items()
        ]
        return Found(pd.DataFrame(lines), firsts)

    def table(self, found: Found) -> Records:
        lines = found.estimates.assign(
            hard=found.estimates["count"].where(found.estimates.eval("shortfall > delta"), 0)
        )
        counts = lines.groupby("kind")[["count", "hard"]].sum().rename(columns={"count": "judged"})
        return counts.reset_index().to_dict("records")

    def chart(self, found: Found, published: Sequence[Mapping[str, Any]] = (), title: str = "") -> "alt.TopLevelMixin":
        from labkit import show

        delta = found.estimates["delta"].iloc[0]
        return show.histogram_chart(
            found.estimates.to_dict("records"),
            value="shortfall",
            group="kind",
            count="count",
            threshold=int(delta) + 1,
            x_label="Shortfall: judge's points for the public answer less those for the student's (-MFD)",
            title=f"{self.title}: a shortfall above {delta:g} points",
        )


@dataclass(frozen=True, kw_only=True)
class Shares(View):
    """The kinds of tasks before and after selection and re-balancing."""

    def measure(self, rows: "pd.DataFrame") -> Found:
        import pandas as pd

        models = rows.drop_duplicates("address")
        target = models["target_shares"].iloc[0]
        rounds = {
            arm: [line["shares"] for one in group for line in one] for arm, group in models.groupby("arm")["rounds_of"]
        }
        states = {"public set": mean_shares(rows.drop_duplicates("seed")["public_shares"])}
        states |= {words: mean_shares(rounds[arm]) for arm, words in STATES.items() if arm in rounds}
        lines = [
            {"state": state, "kind": kind, "share": shares.get(kind, 0.0)}
            for state, shares in (states | {"target": target}).items()
            for kind in target
        ]
        return Found(pd.DataFrame(lines), models)

    def table(self, found: Found) -> Records:
        wide = found.estimates.pivot(index="kind", columns="state", values="share")
        return wide[list(dict.fromkeys(found.estimates["state"]))].round(3).reset_index().to_dict("records")

    def chart(self, found: Found, published: Sequence[Mapping[str, Any]] = (), title: str = "") -> "alt.TopLevelMixin":
        from labkit import show

        lines = found.estimates.to_dict("records")
        return show.distribution_chart(
            lines, kind="kind", share="share", state="state", target="target", title=self.title
        )


def mean_shares(found: "pd.Series[Any] | list[dict[str, float]]") -> dict[str, float]:
    """The mean share of each kind."""
    return {kind: float(np.mean([one.get(kind, 0.0) for one in found])) for kind in sorted(set().union(*found))}


def totals(found: "pd.Series[Any]") -> dict[str, dict[str, int]]:
    """Counts by part and name, added up."""
    names = sorted(set().union(*found))
    return {name: dict(sum((Counter(one.get(name, {})) for one in found), Counter())) for name in names}


SCORE = "Right on unseen instructions, all kinds alike (MT-Bench: points of ten), share"
COSTS = {
    "training_tokens": "training tokens",
    "teacher_prompt_tokens": "teacher tokens of its own: read",
    "teacher_completion_tokens": "written",
}
ARM: dict[str, Any] = {"arm": "arm", "arm_label": label, "exam": "unseen"}
BY_ROUND, BY_KIND = "Every kind of task by round, on unseen instructions", "Unseen instructions by kind of task"
CURVES = Curve(
    title=BY_ROUND, exams={}, x="round", x_label="Round (0: first student)", log=False, by="arm", by_name="arm",
    by_label=label, y_label="Right answers (share)",
)  # fmt: skip
KINDS = Matrix(title=BY_KIND, exams={}, dials=("arm",), label=lambda row: label(row["arm"]), rows_name="arm")
LOOKS = "A quick look at a few questions of each kind, code by its text; the exam asks more."
ONE = "Equal training tokens, one first student per seed, one exam"
VIEWS: dict[str, View] = {
    "arms": Forest(title=ONE, x_label=SCORE, versus="random", beside=COSTS, **ARM),
    "ingredients": Pairs(title="What each ingredient gains, in pairs", pairs=INGREDIENTS, **ARM),
    "difficulty": Difficulty(title="What the first student finds hard"),
    "shares": Shares(title="Kinds of tasks: what is public, what is hard, what is trained on"),
    "rounds": ByKind(title=BY_ROUND, caption=LOOKS, where=drawn, exam="look", view=CURVES),
    "kinds": ByKind(title=BY_KIND, exam="unseen", view=KINDS),
}


def finding(results: Results) -> str:
    """Whether TAPIR beats a random subset at the same token budget, as measured; and the best arm."""
    best = max(results["arms"].estimates.to_dict("records"), key=lambda line: line["mean"])
    top = f"the highest mean is that of '{label(best['arm'])}', {ranged(best)}"
    pairs = results["ingredients"].lines("unseen") if "ingredients" in results.views() else []
    gains = {(line["from"], line["to"]): line for line in pairs}
    if (gain := gains.get(("random", "tapir"))) is None:
        return f"TAPIR and a random subset were not both run; {top}"
    what = {"better": "TAPIR beats", "worse": "TAPIR falls behind", "not decided": "TAPIR is not told apart from"}
    why = " (one seed decides nothing)" if gain["seeds"] == 1 else ""
    sentence = f"At equal training tokens {what[verdict(gain)]} a random subset: {signed_gain(gain)}{why}"
    if taught := gains.get(("taught", "tapir")):
        than = what[verdict(taught)].replace("TAPIR", "it")
        sentence += f"; {than} a random subset that the same teacher explains: {signed_gain(taught)}"
    return f"{sentence}; {top}"


def distilled(results: Results) -> Records:
    """What was asked of the teacher and what became of it, all seeds together."""
    models = results.rows.drop_duplicates("address")
    return [
        {"arm": label(arm), "part": part, "count": ", ".join(f"{name} {n:,}" for name, n in counts.items())}
        for arm, group in models.groupby("arm", sort=False)
        for part, counts in totals(group["distilled"]).items()
    ]


def judged(results: Results) -> Records:
    """How far the judge agrees with exact grading, one row per seed; parse failures counted."""
    rows = []
    for row in results.rows.drop_duplicates("seed").sort_values("seed").to_dict("records"):
        first, counts = row["first"], row["first"]["judging"]
        agreed = {name: value for name, value in (first.get("agreement") or {}).items() if name != "table"}
        flat = {name: value for name, value in counts.items() if not isinstance(value, dict)}
        flat |= {f"{name} {key}": n for name, v in counts.items() if isinstance(v, dict) for key, n in v.items()}
        rows.append(
            {"seed": row["seed"]}
            | {name: interval(*value) if value else "" for name, value in agreed.items()}
            | {"kinds right": first.get("kinds_right"), **flat}
            | {"not classified": first["classifying"]["unreadable"] + first["classifying"]["failed"]}
            | {
                "teacher tokens, shared by all arms": first["teacher_prompt_tokens"]
                + first["teacher_completion_tokens"]
            }
        )
    return rows


TABLES = {"What became of what was asked of the teacher": distilled, "The judge beside exact grading": judged}
