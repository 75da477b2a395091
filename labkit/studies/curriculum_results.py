"""What came out of the curriculum study: estimates with intervals, comparisons in pairs, charts and tables.

All arms of a seed go on from one first student and sit one exam, so they are compared in pairs: seeds are resampled
and, within each, test instructions, the same ones for both arms (`grade.paired_difference`). An arm is said to beat
another only where the whole interval of their difference lies above zero and there are two seeds or more.
"""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from labkit import grade
from labkit.studies import symbolic
from labkit.studies.curriculum_rounds import ARMS
from labkit.studies.symbolic import interval

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

REFERENCE = "random"
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
DRAWN = ("random", "taught", "balanced", "tapir", "progress", "competence")  # on the chart by round
ACCURACY, POINTS = "Accuracy on unseen instructions, mean of the kinds", "Judge's rating, as a share of 10"


def summarise(frame: "pd.DataFrame") -> dict[str, Any]:
    """Each arm's score on every kind of task, what each ingredient gains in pairs, and what was trained on."""
    order = [arm for arm in ARMS if arm in set(frame["arm"])]
    kinds = [kind for kind in frame["kinds"].iloc[0] if frame[f"unseen_{kind}_right"].notna().all()]
    small = bool(frame["model"].isna().all())
    arms = []
    for arm in order:
        rows = frame[frame["arm"] == arm]
        found = {kind: symbolic.estimate(rows, f"unseen_{kind}", not small) for kind in kinds}
        arms.append(
            {
                "arm": arm,
                "label": ARMS[arm].label,
                **symbolic.estimates(rows, ("unseen",), not small),
                "gain": _gain(frame, REFERENCE, arm, not small) if arm != REFERENCE else None,
                "kinds": {kind: [one.mean, [one.lo, one.hi]] for kind, one in found.items()},
                "training_tokens": float(rows["training_tokens"].mean()),
                "optimiser_steps": float(rows["optimiser_steps"].mean()),
                "different": float(np.mean([sum(line["different"] for line in one) for one in rows["rounds_of"]])),
                "teacher_requests": _mean(rows, "teacher_requests"),
                "teacher_tokens": _mean(rows, "teacher_prompt_tokens") + _mean(rows, "teacher_completion_tokens"),
                "teacher_failures": _mean(rows, "teacher_failures"),
                "shares": _mean_shares([line["shares"] for one in rows["rounds_of"] for line in one]),
                "distilled": _totals(list(rows["distilled"])),
            }
        )
    firsts = [frame[frame["seed"] == seed].iloc[0] for seed in sorted(set(frame["seed"]))]
    return {
        "arms": arms,
        "kinds": kinds,
        "reference": REFERENCE if REFERENCE in order else None,
        "ingredients": [
            {"from": one, "to": other, "what": what, "gain": _gain(frame, one, other, not small)}
            for (one, other), what in INGREDIENTS.items()
            if one in order and other in order
        ],
        "rounds": _by_round(frame, order, kinds),
        "difficulty": _totals([row["difficulty"] for row in firsts]),
        "delta": float(frame["delta"].iloc[0]),
        "shares": {
            "public": _mean_shares([row["public_shares"] for row in firsts]),
            "target": dict(zip(firsts[0]["tasks"], firsts[0]["target"], strict=True)),
        },
        "firsts": [dict(row["first"]) | {"seed": int(row["seed"])} for row in firsts],
        "small": small,
    }


def _mean(rows: "pd.DataFrame", column: str) -> float:
    return float(rows[column].fillna(0).mean()) if column in rows else 0.0


def _mean_shares(found: Sequence[dict[str, float]]) -> dict[str, float]:
    return {kind: float(np.mean([one.get(kind, 0.0) for one in found])) for kind in sorted(set().union(*found))}


def _totals(found: Sequence[dict[str, dict[str, int]]]) -> dict[str, dict[str, int]]:
    names = sorted(set().union(*found))
    return {name: dict(sum((Counter(one.get(name, {})) for one in found), Counter())) for name in names}


def _gain(frame: "pd.DataFrame", one: str, other: str, same: bool) -> dict[str, Any] | None:
    """What the second arm scores above the first, over the seeds that have both."""
    tables: list[NDArray[np.float64]] = []
    for _, group in frame[frame["arm"].isin([one, other])].groupby("seed"):
        if len(group) == 2:
            pair = [group[group["arm"] == arm] for arm in (one, other)]
            counts = [symbolic.counts(rows, "unseen")[0] for rows in pair]
            scale = [np.asarray(c.asked).mean() for c in counts]  # so that means are over questions
            tables.append(np.array([np.asarray(c.right) / s for c, s in zip(counts, scale, strict=True)]))
    if not tables:
        return None
    mean, lo, hi = grade.paired_difference(tables, 1, 0, same_problems=same)
    sure = len(tables) > 1
    verdict = "better" if sure and lo > 0 else "worse" if sure and hi < 0 else "not decided"
    return {"mean": mean, "ci95": [lo, hi], "seeds": len(tables), "verdict": verdict}


def _by_round(frame: "pd.DataFrame", order: Sequence[str], kinds: Sequence[str]) -> list[dict[str, Any]]:
    """The quick look of every round, a row an arm, kind and round; round 0 is the first student."""
    found = []
    for arm in order:
        runs = [[{"round": 0, "looked": row["begun"]}, *row["rounds_of"]] for _, row in _rows(frame, arm)]
        for kind in kinds:
            for number in range(min(map(len, runs))):
                looked = [run[number]["looked"].get(kind) for run in runs]
                if all(looked):
                    one = grade.seed_cluster_bootstrap([grade.Counts(np.array(right), 1) for right in looked])
                    row = {"arm": arm, "kind": kind, "round": number, "mean": one.mean, "ci95": [one.lo, one.hi]}
                    found.append(row)
    return found


def _rows(frame: "pd.DataFrame", arm: str) -> Any:
    return frame[frame["arm"] == arm].iterrows()


def finding(summary: dict[str, Any]) -> str:
    """Whether TAPIR beats a random subset at the same token budget, as measured; and the best arm."""
    arms = {arm["arm"]: arm for arm in summary["arms"]}
    best = max(summary["arms"], key=lambda arm: arm["unseen"])
    top = f"the highest mean is that of '{best['label']}', {interval(best['unseen'], best['unseen_ci95'])}"
    gain = arms.get("tapir", {}).get("gain")
    if gain is None:
        return f"TAPIR and a random subset were not both run; {top}"
    what = {"better": "TAPIR beats", "worse": "TAPIR falls behind", "not decided": "TAPIR is not told apart from"}
    why = " (one seed decides nothing)" if gain["seeds"] == 1 else ""
    said = f"At equal training tokens {what[gain['verdict']]} a random subset: {signed(gain)}{why}"
    pairs = {(row["from"], row["to"]): row["gain"] for row in summary["ingredients"]}
    if taught := pairs.get(("taught", "tapir")):
        than = {"better": "it beats", "worse": "it falls behind", "not decided": "it is not told apart from"}
        said += f"; {than[taught['verdict']]} a random subset that the same teacher explains: {signed(taught)}"
    return f"{said}; {top}"


def signed(gain: dict[str, Any] | None) -> str:
    """A difference and its interval for people."""
    if gain is None:
        return ""
    lo, hi = gain["ci95"]
    return f"{gain['mean']:+.3f} [{lo:+.3f}, {hi:+.3f}]"


def chart(frame: "pd.DataFrame", summary: dict[str, Any], published: list[dict[str, Any]]) -> "alt.TopLevelMixin":
    """The arms' scores, and beside them what each gains over the random subset in pairs."""
    from labkit import show

    rows = [
        {
            "name": arm["label"],
            "mean": arm["unseen"],
            "ci95": arm["unseen_ci95"],
            "gain": (arm["gain"] or {}).get("mean"),
            "gain_ci95": (arm["gain"] or {}).get("ci95"),
        }
        for arm in summary["arms"]
    ]
    models = [{"name": ARMS[row["arm"]].label, "value": row["accuracy_unseen"]} for _, row in frame.iterrows()]
    pairs: dict[str, Any] = {}
    if summary["reference"] and len(rows) > 1:
        pairs = {
            "difference": "gain",
            "difference_interval": "gain_ci95",
            "versus": ARMS[REFERENCE].label,
            "difference_label": f"Gain over '{ARMS[REFERENCE].label}', in pairs",
        }
    return show.forest_chart(
        rows,
        name="name",
        models=models,
        x_label=ACCURACY if summary["small"] else POINTS,
        title=finding(summary),
        subtitle="Equal training tokens, one first student a seed, one exam",
        **pairs,
    )


def difficulty_chart(
    frame: "pd.DataFrame", summary: dict[str, Any], published: list[dict[str, Any]]
) -> "alt.TopLevelMixin | None":
    """How far the first students fall short of the public answers, by kind; None where nothing was judged."""
    from labkit import show

    if not summary["difficulty"]:
        return None

    rows = [
        {"kind": kind, "shortfall": -int(mfd), "count": count}
        for kind, counts in summary["difficulty"].items()
        for mfd, count in counts.items()
    ]
    return show.histogram_chart(
        rows,
        value="shortfall",
        group="kind",
        count="count",
        threshold=int(summary["delta"]) + 1,
        x_label="Shortfall: judge's points for the public answer less those for the student's (-MFD)",
        title=f"What the first student finds hard: a shortfall above {summary['delta']:g} points",
    )


def shares_chart(
    frame: "pd.DataFrame", summary: dict[str, Any], published: list[dict[str, Any]]
) -> "alt.TopLevelMixin":
    """The kinds of tasks before and after selection and re-balancing."""
    from labkit import show

    states = {"public set": summary["shares"]["public"]}
    states |= {
        {"hard": "hard, as selected", "balanced": "re-balanced", "tapir": "TAPIR's rounds"}[arm["arm"]]: arm["shares"]
        for arm in summary["arms"]
        if arm["arm"] in ("hard", "balanced", "tapir")
    }
    states["target"] = summary["shares"]["target"]
    rows = [
        {"state": state, "kind": kind, "share": share.get(kind, 0.0)}
        for state, share in states.items()
        for kind in summary["shares"]["target"]
    ]
    return show.distribution_chart(
        rows,
        kind="kind",
        share="share",
        state="state",
        target="target",
        title="Kinds of tasks: what is public, what is hard, what is trained on",
    )


def rounds_chart(
    frame: "pd.DataFrame", summary: dict[str, Any], published: list[dict[str, Any]]
) -> "alt.TopLevelMixin | None":
    """Unseen accuracy of every kind by round; None where no looks between rounds were taken."""
    from labkit import show

    run = [arm["arm"] for arm in summary["arms"]]
    drawn = [arm for arm in DRAWN if arm in run] or run[:6]
    rows = [row | {"label": ARMS[row["arm"]].label} for row in summary["rounds"] if row["arm"] in drawn]
    if not rows:
        return None
    return show.panel_chart(
        rows,
        panel="kind",
        x="round",
        series="label",
        columns=5 if len(summary["kinds"]) > 4 else len(summary["kinds"]),
        x_label="Round (0: first student)",
        y_label="Right answers (share)",
        title="Every kind of task by round, on unseen instructions",
        subtitle="A quick look at a few questions of each kind, code by its text; the exam above asks more",
    )


def compare(summary: dict[str, Any], published: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The published claims, which are of 7B models, beside what was measured here."""
    tapir = next((arm for arm in summary["arms"] if arm["arm"] == "tapir"), None)
    ours = f"gain over an equal random subset: {signed(tapir['gain'])}" if tapir and tapir["gain"] else "not run"
    rows = []
    for record in published:
        said = record.get("statement") or f"{record['model']}: AlpacaEval 2.0 win rate {record['alpaca_eval_2']} %"
        source = f"{record['source']}, {record['figure']}"
        rows.append({"published": said, "ours": ours, "agrees": "not tested here", "source": source})
    return rows


def summary_table(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """A row an arm."""
    return [
        {
            "arm": arm["label"],
            "unseen [95 %]": interval(arm["unseen"], arm["unseen_ci95"]),
            "gain over random, in pairs [95 %]": signed(arm["gain"]),
            "verdict": (arm["gain"] or {}).get("verdict", ""),
            "training tokens": round(arm["training_tokens"]),
            "teacher tokens of its own": round(arm["teacher_tokens"]),
            "seeds": arm["seeds"],
            "interval over": arm["interval_over"],
        }
        for arm in summary["arms"]
    ]


def ingredients(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """What each ingredient gains, a row a pair of arms."""
    return [
        {
            "from": ARMS[row["from"]].label,
            "to": ARMS[row["to"]].label,
            "what is added": row["what"],
            "gain [95 %]": signed(row["gain"]),
            "verdict": (row["gain"] or {}).get("verdict", "no seed has both"),
        }
        for row in summary["ingredients"]
    ]


def by_kind(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """A row a kind of task, a column an arm; the macro average last."""
    rows = [
        {"kind": kind} | {arm["label"]: interval(*arm["kinds"][kind]) for arm in summary["arms"]}
        for kind in summary["kinds"]
    ]
    macro = {arm["label"]: interval(arm["unseen"], arm["unseen_ci95"]) for arm in summary["arms"]}
    return [*rows, {"kind": "macro average"} | macro]


def distilled(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """What was asked of the teacher and what became of it, all seeds together."""
    return [
        {"arm": arm["label"], "part": part, "count": ", ".join(f"{name} {n:,}" for name, n in counts.items())}
        for arm in summary["arms"]
        for part, counts in arm["distilled"].items()
    ]


def judged(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """How far the judge agrees with exact grading, a row a seed; parse failures counted."""
    rows = []
    for first in summary["firsts"]:
        agreed = first.get("agreement") or {}
        shown = {
            name: "" if not value else interval(value[0], value[1:])
            for name, value in agreed.items()
            if name in ("accuracy", "kappa", "auc")
        }
        tokens = first.get("teacher_prompt_tokens", 0) + first.get("teacher_completion_tokens", 0)
        rows.append(
            {
                "seed": first["seed"],
                **shown,
                "kinds right": first.get("kinds_right"),
                **_flat(first["judging"]),
                "not classified": first["classifying"]["unreadable"] + first["classifying"]["failed"],
                "teacher tokens, shared by all arms": tokens,
            }
        )
    return rows


def _flat(counts: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in counts.items():
        flat |= {f"{name} {key}": n for key, n in value.items()} if isinstance(value, dict) else {name: value}
    return flat


def describe(row: dict[str, Any]) -> str:
    """A row in a few words."""
    return (
        f"{row['label']}, seed={row['seed']}: unseen {row['accuracy_unseen']:.3f}, {row['training_tokens']:,} tokens, "
        f"{row.get('teacher_requests', 0):,} requests, {row['train_seconds']:.0f} s"
    )
