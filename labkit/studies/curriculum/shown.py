"""What came out of the curriculum study: views, the finding and tables.

All arms of a seed go on from one first student and sit one exam, so they are compared in pairs: seeds are resampled
and, within each, test instructions, the same ones for both arms (`grade.paired_difference`). An arm is said to beat
another only where the whole interval of their difference lies above zero and there are two seeds or more.
"""

from typing import TYPE_CHECKING, Any

from labkit.studies import views
from labkit.studies.curriculum.rounds import ARMS, INGREDIENTS
from labkit.studies.made_of import Distribution, Histogram, counted
from labkit.studies.study import Results

if TYPE_CHECKING:
    import pandas as pd

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


SCORE = "Right on unseen instructions, all kinds alike (MT-Bench: points of ten), share"
COSTS = {
    "training_tokens": "training tokens", "teacher_prompt_tokens": "teacher tokens of its own: read",
    "teacher_completion_tokens": "written",
}  # fmt: skip
ARM: dict[str, Any] = {"arm": "arm", "arm_label": label, "exam": "unseen"}
BY_ROUND, BY_KIND = "Every kind of task by round, on unseen instructions", "Unseen instructions by kind of task"
CURVES = views.Curve(
    title=BY_ROUND, exams={}, x="round", x_label="Round (0: first student)", log=False, by="arm", by_name="arm",
    by_label=label, y_label="Right answers (share)",
)  # fmt: skip
KINDS = views.Matrix(title=BY_KIND, exams={}, dials=("arm",), label=lambda row: label(row["arm"]), rows_name="arm")
LOOKS = "A quick look at a few questions of each kind, code by its text; the exam asks more."
SHORT = "Shortfall: judge's points for the public answer less those for the student's (-MFD)"
HARD = "What the first student finds hard"
SHARES = "Kinds of tasks: what is public, what is hard, what is trained on"
ONE = "Equal training tokens, one first student per seed, one exam"
VIEWS: dict[str, views.View] = {
    "arms": views.Forest(title=ONE, x_label=SCORE, versus="random", beside=COSTS, **ARM),
    "ingredients": views.Pairs(title="What each ingredient gains, in pairs", pairs=INGREDIENTS, **ARM),
    "difficulty": Histogram(title=HARD, counts="difficulty", over="delta", x_label=SHORT),
    "shares": Distribution(title=SHARES, first="public_shares", arm="arm", states=STATES, target="target_shares"),
    "rounds": views.ByKind(title=BY_ROUND, caption=LOOKS, where=drawn, exam="look", view=CURVES),
    "kinds": views.ByKind(title=BY_KIND, exam="unseen", view=KINDS),
}


def finding(results: Results) -> str:
    """Whether TAPIR beats a random subset at the same token budget, as measured; and the best arm."""
    best = max(views.records(results["arms"].estimates), key=lambda line: line["mean"])
    top = f"the highest mean is that of '{label(best['arm'])}', {views.ranged(best)}"
    pairs = results["ingredients"].lines("unseen") if "ingredients" in results.views() else []
    gains = {(line["from"], line["to"]): line for line in pairs}
    if (gain := gains.get(("random", "tapir"))) is None:
        return f"TAPIR and a random subset were not both run; {top}"
    what = {"better": "TAPIR beats", "worse": "TAPIR falls behind", "not decided": "TAPIR is not told apart from"}
    why = " (one seed decides nothing)" if gain["seeds"] == 1 else ""
    sentence = f"At equal training tokens {what[views.verdict(gain)]} a random subset: {views.signed_gain(gain)}{why}"
    if taught := gains.get(("taught", "tapir")):
        than = what[views.verdict(taught)].replace("TAPIR", "it")
        sentence += f"; {than} a random subset that the same teacher explains: {views.signed_gain(taught)}"
    return f"{sentence}; {top}"


def judged(results: Results) -> views.Records:
    """How far the judge agrees with exact grading, one row per seed; parse failures counted."""
    rows = []
    for row in results.rows.drop_duplicates("seed").sort_values("seed").to_dict("records"):
        first = row["first"]
        agreed = {name: views.interval(*ends) if ends else "" for name, ends in first.get("agreement", {}).items()}
        counts = {"kinds right": first.get("kinds_right")}
        for name, n in first["judging"].items():
            counts |= {f"{name} {part}": m for part, m in n.items()} if isinstance(n, dict) else {name: n}
        counts["not classified"] = first["classifying"]["unreadable"] + first["classifying"]["failed"]
        tokens = first.get("teacher_prompt_tokens", 0) + first.get("teacher_completion_tokens", 0)
        rows.append({"seed": row["seed"], **agreed, **counts, "teacher tokens, shared by all arms": tokens})
    return rows


ASKED = "What became of what was asked of the teacher"
TABLES = {ASKED: counted("distilled", "arm", label), "The judge beside exact grading": judged}
