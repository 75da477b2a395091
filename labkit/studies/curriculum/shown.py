"""What came out of the curriculum study: scores, views, the finding and tables.

Scores are by likelihood with chance taken off (of MT-Bench: judged), a mean over the kinds and levels that passed their
gate (`macro`). All arms of a seed go on from one first student and sit one exam, so they are compared in pairs: seeds
are resampled and, within each, test instructions, the same ones for both arms (`grade.paired_difference`).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from labkit.studies import levels, views
from labkit.studies.curriculum.rounds import ARMS, INGREDIENTS, SIZED
from labkit.studies.made_of import Distribution, Histogram, counted
from labkit.studies.study import Results

if TYPE_CHECKING:
    import pandas as pd

STATES = {"within": "hard within kind", "hard": "hard, as selected", "tapir": "TAPIR's rounds"}
MATTERS = 0.05  # a score by which arms have to differ, where nothing is registered
CLAIMS = {
    ("random", "taught"): "a teacher helps",
    ("taught", "within"): "hard examples help more than random ones of the same kinds",
    ("once", "tapir"): "more rounds help",
}


def label(arm: str) -> str:
    """An arm for people."""
    return ARMS[arm].label


def ordered(rows: "pd.DataFrame") -> "pd.DataFrame":
    """The rows in the order of `ARMS`, with lines of scores (`levels.scored`)."""
    in_order = rows.sort_values("arm", key=lambda arms: arms.map(list(ARMS).index), kind="stable", ignore_index=True)
    return levels.scored(in_order)


def main(rows: "pd.DataFrame") -> "pd.Series[bool]":
    """The students of the main size."""
    return rows["width"] == rows["main_width"]


SCORE = "Score on unseen instructions (0: chance, 1: all right), kinds and levels alike"
COSTS = {"training_tokens": "training tokens", "teacher_completion_tokens": "tokens that the teacher wrote for it"}
ARM: dict[str, Any] = {"arm": "arm", "arm_label": label, "where": main}
BY_ROUND, BY_KIND = "Every kind of task by round, on unseen instructions", "Unseen instructions by kind and level"
CURVES = views.Curve(
    title=BY_ROUND, exams={}, x="round", x_label="Round (0: first student)", log=False, by="arm", by_name="arm",
    by_label=label, y_label="Right answers (share)",
)  # fmt: skip
KINDS = views.Matrix(title=BY_KIND, exams={}, dials=("arm",), label=lambda row: label(row["arm"]), rows_name="arm",
                     diverging=True, colour_label="Score")  # fmt: skip
LOOKS = "A quick look at a few questions of each kind; the exam asks more."
SHORT = "Shortfall: judge's points for the teacher's answer less those for the student's (-MFD)"
HARD = "What the first student finds hard in the half that it has not seen"
SHARES = "Kinds of tasks: what is public, what is hard, what is trained on"
ONE = "Equal optimiser steps, one first student per seed, one exam"
SIZES = "What arms gain over random examples of the same teacher, by size of the student"
VIEWS: dict[str, views.View] = {
    "arms": views.Forest(title=ONE, x_label=SCORE, versus="random", beside=COSTS, exam="macro", **ARM),
    "ingredients": views.Pairs(title="What each ingredient gains, in pairs", pairs=INGREDIENTS, exam="macro", **ARM),
    "levels": views.ByKind(title="Scores by level, and on kinds never taught", exam="macro", view=KINDS, where=main),
    "outside": views.Pairs(title="The same on kinds never taught", pairs=INGREDIENTS, exam="macro:outside", **ARM),
    "sizes": views.Gains(title=SIZES, arm="arm", arm_label=label, baseline="taught", exam="macro", exam_label="score",
                         by="width", where=lambda rows: rows["arm"].isin(SIZED)),
    "difficulty": Histogram(title=HARD, counts="difficulty", over="delta", x_label=SHORT),
    "shares": Distribution(title=SHARES, first="public_shares", arm="arm", states=STATES, target="target_shares"),
    "rounds": views.ByKind(title=BY_ROUND, caption=LOOKS, where=main, exam="look", view=CURVES),
    "kinds": views.ByKind(title=BY_KIND, exam="unseen", view=KINDS, where=main),
}  # fmt: skip


def decided(gain: Mapping[str, Any], least: float) -> str:
    """The registered rule: supports, contradicts or cannot tell that an arm gains; one seed tells nothing."""
    if gain["seeds"] < 2:
        return "cannot tell"
    return "supports" if gain["lo"] > 0 else "contradicts" if gain["hi"] < least else "cannot tell"


def claims(results: Results) -> views.Records:
    """What was registered, and the decision on each statement."""
    least = results.promise.smallest_effect if results.promise else MATTERS
    pairs = results["ingredients"].lines("macro") if "ingredients" in results.views() else []
    found = {(line["from"], line["to"]): line for line in pairs}
    return [{"statement": CLAIMS[pair], "gain [95 %]": views.signed_gain(found[pair]), "smallest effect": least,
             "decision": decided(found[pair], least)} for pair in CLAIMS if pair in found]  # fmt: skip


def finding(results: Results) -> str:
    """The decision on each registered statement, and the best arm."""
    best = max(views.records(results["arms"].estimates), key=lambda line: line["mean"])
    failed = [line["kind"] for line in levels.gates(results.rows) if not line["passes"]]
    parts = [f"{line['decision']} that {line['statement']} ({line['gain [95 %]']})" for line in claims(results)]
    parts += [f"the highest mean is that of '{label(best['arm'])}', {views.ranged(best)}"]
    parts += [f"not learned even alone, and left out: {', '.join(failed)}"] * bool(failed)
    parts += ["one seed decides nothing"] * (best["seeds"] == 1)
    return "At equal optimiser steps: " + "; ".join(parts)


def judged(results: Results) -> views.Records:
    """How far the judge agrees with exact grading, one row per seed; parse failures counted."""
    seeds = results.rows.drop_duplicates("seed").sort_values("seed")
    return [
        {"seed": seed, **{name: views.interval(*ends) for name, ends in first.get("agreement", {}).items() if ends},
         "kinds right": first.get("kinds_right"), **first["judging"], **first["classifying"],
         "tokens that the teacher wrote for all arms": first.get("teacher_completion_tokens", 0)}
        for seed, first in zip(seeds["seed"], seeds["first"], strict=True)
    ]  # fmt: skip


TABLES = {
    "Registered statements, decided": claims,
    "Gates: each kind and level alone": lambda results: levels.gates(results.rows),
    "What became of what was asked of the teacher": counted("distilled", "arm", label),
    "The judge beside exact grading": judged,
}
