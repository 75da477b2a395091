"""Diversity sweep: how many different instructions must training hold before unseen ones are followed?

An instruction is a rewriting rule x -> y. The number of training examples is fixed; what varies is over how many rules
they are spread (I rules, S examples a rule, I x S = budget). Each cell trains one model from scratch and grades it on
fresh inputs of rules it was trained on (seen) and of rules that share neither x nor y with those (unseen).

Source: Zhang, Wang, Charton, arXiv 2402.10891, section 4 and Figure 2a; arXiv 2410.04717, section 2. At `laptop` scale
patterns and inputs are shorter and the learner is this lab's own; at `paper` scale sizes, budget, counts, epochs,
learning rate and schedule are the papers', batch size and regularisation are ours (see `labkit.learn.paper`).
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from labkit import grade
from labkit.design import allocate
from labkit.errors import BadRequest
from labkit.lab import Record
from labkit.studies import symbolic
from labkit.studies.contract import Study
from labkit.studies.rewriting import (
    PAPER,
    SMALL,
    RewritingCell,
    RewritingParams,
    check_rules,
    lesson,
    simplest,
    task_of,
)
from labkit.studies.symbolic import interval

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

NAME = "diversity_sweep"
HARDLY = 0.05  # accuracies that lie this near hardly differ

# One dictionary a scale; every resolved value is printed by the notebook.
SCALES: dict[str, dict[str, Any]] = {
    "smoke": {
        **SMALL,
        "occurrences": 1,
        "n_instructions": [2, 20, 200],
        "noop_shares": [0.5],
        "noop_counts": [20, 200],
        "seeds": [0],
        "budget": 600,
        "steps": 20,
        "batch_size": 32,
        "test_rules": 50,
        "n_test": 100,
    },
    "laptop": {
        **SMALL,
        "occurrences": 1,
        "n_instructions": [10, 30, 100, 200, 300, 1000, 10_000],
        "noop_shares": [0.2, 0.5],
        "noop_counts": [100, 300, 1000],
        "noop_seeds": 2,
        "seeds": [0, 1, 2],
    },
    "paper": {
        **PAPER,
        "occurrences": 1,
        "n_instructions": [
            10, 20, 50, 100, 200, 300, 400, 500, 600, 1000, 2000, 2500, 5000, 10_000, 100_000, 1_000_000,
        ],
        "noop_shares": [0.1, 0.2, 0.3, 0.4, 0.5],
        "noop_counts": [100, 200, 300, 400, 500, 600, 1000, 10_000],
        "noop_seeds": 3,
        "seeds": [0, 1, 2],
    },
}  # fmt: skip


class Params(RewritingParams):
    """What a person may set; see `SCALES` for the values each scale gives."""

    n_instructions: list[int] = Field(min_length=1, description="numbers of training rules I, one model each")
    occurrences: int | tuple[int, ...] = Field(description="how often x occurs in z; a list mixes them evenly")
    noop_share: float = Field(default=0.0, ge=0, le=1, description="share of examples in which x does not occur")
    noop_shares: list[float] = Field(description="shares of no-ops that are tried beside; [] for none")
    noop_counts: list[int] = Field(description="the numbers of training rules that they are tried at")
    noop_seeds: int = Field(default=1, ge=1, description="how many of the seeds they are tried with")

    @model_validator(mode="after")
    def _together(self) -> "Params":
        counts = self.n_instructions + (self.noop_counts if self.noop_shares else [])
        for share in [self.noop_share, *self.noop_shares]:
            if not 0 <= share <= 1:
                raise BadRequest(f"noop_shares = {self.noop_shares}: a share lies between 0 and 1")
            check_rules(self, task_of(self, noop_share=share), max(counts))
        for n in counts:
            if n < 1:
                raise BadRequest(f"n_instructions = {n}: at least 1 is needed")
            allocate(self.budget, n)
        return self


class Cell(RewritingCell):
    """One model: everything its result depends on."""

    study: Literal["diversity_sweep"] = "diversity_sweep"
    version: Literal[2] = 2


def points(params: Params) -> list[Cell]:
    """A cell for each number of instructions and seed, then for each share of no-ops, count and seed.

    Seeds are outermost and many instructions come first, so that a first whole curve comes early.
    """
    common = {"occurrences": simplest(params.occurrences)}
    main = [
        {"n_instructions": n, "seed": seed, "noop_share": params.noop_share, **common}
        for seed in params.seeds
        for n in sorted(params.n_instructions, reverse=True)
    ]
    noops = [
        {"n_instructions": n, "seed": seed, "noop_share": share, **common}
        for seed in params.seeds[: params.noop_seeds]
        for share in params.noop_shares
        for n in sorted(params.noop_counts, reverse=True)
    ]
    return symbolic.cells(Cell, params, main + [dials for dials in noops if dials not in main])


def lesson_of(cell: Cell) -> symbolic.Lesson:
    """The budget spread evenly over the rules."""
    return lesson(cell, allocate(cell.budget, cell.n_instructions))


def measure(cell: Cell, record: Record) -> dict[str, Any]:
    """Train one model and grade it on fresh inputs of seen and of unseen rules; see `symbolic.measure_many`."""
    return symbolic.measure(cell, record, lesson_of)


def measure_many(cells: Sequence[Cell], records: Sequence[Record]) -> list[dict[str, Any]]:
    """The same for a fleet."""
    return symbolic.measure_many(cells, records, lesson_of)


def summarise(frame: "pd.DataFrame") -> dict[str, Any]:
    """Mean accuracies by number of instructions, where generalisation sets in, and the same by share of no-ops.

    The curve and the transition are of the first row's share of no-ops: `points` puts the main design first. Intervals
    resample seeds, and rules within a seed (`labkit.grade.intervals`); the transition is a logistic in log10 I
    (`labkit.grade.transition`).
    """
    main = frame["noop_share"].iloc[0]
    curve, votes, noops = [], [], []
    for n, group in frame[frame["noop_share"] == main].groupby("n_instructions"):
        found = symbolic.estimates(group)
        curve.append(
            {
                "n_instructions": n,
                "mean": found["unseen"],
                "ci95": found["unseen_ci95"],
                "seen_mean": found["seen"],
                "seen_ci95": found["seen_ci95"],
                "seeds": found["seeds"],
                "interval_over": found["interval_over"],
                "lowest_seed": float(group["accuracy_unseen"].min()),
                "not_learned": found["not_learned"],
            }
        )
        votes.append(symbolic.counts(group, "unseen"))
    tried = frame[frame["noop_share"] > 0]["n_instructions"].unique()
    dials: Any
    for dials, group in frame[frame["n_instructions"].isin(tried)].groupby(["noop_share", "n_instructions"]):
        share, n = dials
        kinds = {"op": "unseen_op", "noop": "unseen_noop"} if 0 < share < 1 else {"noop" if share else "op": "unseen"}
        found = symbolic.estimates(group, list(kinds.values()))
        named = {kind: found[exam] for kind, exam in kinds.items()}
        named |= {f"{kind}_ci95": found[f"{exam}_ci95"] for kind, exam in kinds.items()}
        rest = {name: found[name] for name in ("seeds", "not_learned", "interval_over")}
        noops.append({"noop_share": share, "n_instructions": n, **named, **rest})
    transition = grade.fit_transition([row["n_instructions"] for row in curve], votes)
    return {"transition": transition.as_dict(), "curve": curve, "noops": noops}


def chart(frame: "pd.DataFrame", summary: dict[str, Any], published: list[dict[str, Any]]) -> "alt.TopLevelMixin":
    """Seen and unseen accuracy against the number of instructions, every seed visible, the published steps beside."""
    from labkit import show

    main = frame["noop_share"].iloc[0]
    return show.growth_chart(
        frame[frame["noop_share"] == main],
        summary["curve"],
        summary["transition"],
        published,
        x="n_instructions",
        title=finding(summary),
    )


def noop_chart(frame: "pd.DataFrame", summary: dict[str, Any], published: list[dict[str, Any]]) -> "alt.TopLevelMixin":
    """Accuracy on unseen rules against the number of instructions, a curve a share of no-ops: has-op, then no-op."""
    import altair as alt

    from labkit import show

    rows = frame[frame["n_instructions"].isin({row["n_instructions"] for row in summary["noops"]})]
    panels = []
    for kind, words in (("op", "x occurs in the input"), ("noop", "x does not occur: a no-op")):
        rows = rows.assign(**{f"accuracy_{kind}": rows.get(f"accuracy_unseen_{kind}", math.nan)})
        if kind == "op":
            rows["accuracy_op"] = rows["accuracy_op"].where(rows["noop_share"] > 0, rows["accuracy_unseen"])
        curve: dict[int, dict[str, Any]] = {}
        series = []
        for share in sorted(
            rows["noop_share"].unique(), key=lambda share: (share == 0, share)
        ):  # equal colours in both
            name = f"{share:.0%} no-ops"
            of = [row for row in summary["noops"] if row["noop_share"] == share and kind in row]
            if of:
                rows[name] = rows[f"accuracy_{kind}"].where(rows["noop_share"] == share)
                series.append(show.Series(name, name, f"{name} mean", f"{name} ci95"))
            for row in of:
                place = curve.setdefault(row["n_instructions"], {"n_instructions": row["n_instructions"]})
                place |= {f"{name} mean": row[kind], f"{name} ci95": row[f"{kind}_ci95"]}
        if series:
            title, marks = f"Unseen rules: {words}", show.published("no_ops")
            panels.append(show.growth_chart(rows, list(curve.values()), published=marks, series=series, title=title))
    return alt.vconcat(*panels).resolve_scale(stroke="independent", fill="independent", shape="independent")


def noop_table(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """A row a share of no-ops and number of instructions: unseen accuracy of the two kinds of input apart."""
    return [
        {
            "no-ops": f"{row['noop_share']:.0%}",
            "instructions": row["n_instructions"],
            **{
                f"unseen, {words} [95 %]": interval(row[kind], row[f"{kind}_ci95"]) if kind in row else ""
                for kind, words in (("op", "has x"), ("noop", "no-op"))
            },
            "seeds": row["seeds"],
            "not learned": row["not_learned"],
            "interval over": row["interval_over"],
        }
        for row in summary["noops"]
    ]


def finding(summary: dict[str, Any]) -> str:
    """What the sweep shows, in one sentence with its interval."""
    transition, curve = summary["transition"], summary["curve"]
    lazy = sum(row["not_learned"] for row in curve)
    warning = f" ({lazy} models have not learned their own training rules)" if lazy else ""
    if not transition["located"]:
        return f"No transition located: {transition['note']}{warning}"
    low, high = transition["ci95"]
    return (
        f"On unseen rules, half of the plateau is reached at about {transition['midpoint']:,.0f} training rules "
        f"(95 % interval {low:,.0f} to {high:,.0f}){warning}"
    )


def compare(summary: dict[str, Any], published: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each published threshold beside what was measured on its side of it.

    "Generalises" means here a mean unseen accuracy of at least half the plateau, as in the transition.
    """
    from labkit import show

    half = (summary["transition"]["plateau"] or 1.0) / 2
    rows = [_beside(record, summary["curve"], "mean", half, summary["transition"]) for record in published]
    mixed = [row for row in summary["noops"] if 0 < row["noop_share"] < 1]
    for record in show.published("no_ops"):
        if record["kind"] == "threshold":
            rows.append(_beside(record, mixed, "op", half))
            continue
        by_count: dict[int, list[dict[str, Any]]] = {}
        for row in summary["noops"]:
            if "op" in row:
                by_count.setdefault(row["n_instructions"], []).append(row)
        several = {n: of for n, of in by_count.items() if len(of) > 1}
        spans = {n: (min(r["op"] for r in of), max(r["op"] for r in of)) for n, of in several.items()}
        apart = [max(r["op_ci95"][0] for r in of) > min(r["op_ci95"][1] for r in of) for of in several.values()]
        alike = [hi - lo <= HARDLY for lo, hi in spans.values()]
        alone = any(row["seeds"] == 1 for of in several.values() for row in of)  # then seeds may be all that differs
        verdict = "not decided" if alone else "no" if any(apart) else "yes" if all(alike) else "not decided"
        told = "; ".join(f"{n:,} rules: has-op {lo:.3f} to {hi:.3f} over the shares" for n, (lo, hi) in spans.items())
        rows.append(_row(record, told, None) | ({"agrees": verdict} if spans else {}))
    return rows


def _beside(
    record: dict[str, Any],
    curve: list[dict[str, Any]],
    kind: str,
    half: float,
    transition: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """A published threshold or range beside the accuracies on its side of it."""
    limit, ci = record["n_instructions"], "ci95" if kind == "mean" else f"{kind}_ci95"
    if isinstance(limit, list) and transition is not None:
        if transition["midpoint"] is None:
            return _row(record, "no transition located", None)
        lo, hi = transition["ci95"]
        return _row(
            record, f"midpoint {transition['midpoint']:,.0f} [{lo:,.0f}, {hi:,.0f}]", lo <= limit[1] and limit[0] <= hi
        )
    below = record["side"] == "below"
    tried = [row for row in curve if (row["n_instructions"] < limit) == below]
    shares = {row.get("noop_share") for row in tried}
    told = "; ".join(
        f"{row['n_instructions']:,}"
        + (f" ({row['noop_share']:.0%} no-ops)" if len(shares) > 1 else "")
        + f": {interval(row[kind], row[ci])}"
        for row in tried
    )
    return _row(record, told, all((row[kind] < half) == below for row in tried) if tried else None)


def _row(record: dict[str, Any], ours: str, agrees: bool | None) -> dict[str, Any]:
    return {
        "published": record["statement"],
        "ours": ours or "not tried",
        "agrees": {True: "yes", False: "no", None: "not tested here"}[agrees],
        "source": f"{record['source']}, {record['figure']}",
    }


def summary_table(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """A row a number of instructions: unseen and seen accuracy with their intervals."""
    return [
        {
            "instructions": row["n_instructions"],
            "unseen accuracy [95 %]": interval(row["mean"], row["ci95"]),
            "seen accuracy [95 %]": interval(row["seen_mean"], row["seen_ci95"]),
            "lowest seed, unseen": f"{row['lowest_seed']:.3f}",
            "seeds": row["seeds"],
            "not learned": row["not_learned"],
            "interval over": row["interval_over"],
        }
        for row in summary["curve"]
    ]


def describe(row: dict[str, Any]) -> str:
    """A row in a few words."""
    share = f" no-ops={row['noop_share']:.0%}" if row["noop_share"] else ""
    return (
        f"I={row['n_instructions']} seed={row['seed']}{share}: unseen {row['accuracy_unseen']:.3f}, "
        f"seen {row['accuracy_seen']:.3f}, {row['train_seconds']:.0f} s"
    )


def notes(params: Params) -> list[str]:
    """What was decided for the person."""
    uneven = [n for n in params.n_instructions if params.budget % n]
    return symbolic.drawn_note(params, params.budget) + [
        f"budget = {params.budget} is not a multiple of {n} instructions: {params.budget % n} of them get "
        f"{params.budget // n + 1} examples and the others {params.budget // n}, so that the budget is met exactly"
        for n in uneven
    ]


STUDY = Study(
    name=NAME,
    question="How many different instructions must training hold before unseen ones are followed?",
    paper="Zhang, Wang and Charton 2024: arXiv 2402.10891, 2405.19787 and 2410.04717 (Fig. 2a)",
    minutes={
        "smoke": "under 1 minute",
        "laptop": "6 to 8 minutes on two cores (estimated)",
        "paper": "hours of a GPU (estimated, not run)",
    },
    scales=SCALES,
    Params=Params,
    points=points,
    measure=measure,
    summarise=summarise,
    chart=chart,
    finding=finding,
    compare=compare,
    summary_table=summary_table,
    describe=describe,
    notes=notes,
    measure_many=measure_many,
    figures={"No-ops: accuracy on unseen rules by the share of inputs in which x does not occur.": noop_chart},
    tables={"No-ops": noop_table},
)
