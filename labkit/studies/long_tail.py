"""Long tail: how unevenly may examples be spread over the rules before unseen rules are no longer followed?

The number of training examples is fixed, and so is the number of rules; what varies is how unevenly the examples are
spread over them, by a power law (`labkit.design.long_tail`). Each model is graded on unseen rules as in the diversity
sweep. If generalisation hangs on diversity, accuracy should depend on how many rules the set *amounts to*, however it
was spread: the effective number of rules, in several definitions, is put to that test.

Source: Zhang, Wang, Charton, arXiv 2402.10891, section 4 and Figure 3 (also 2405.19787).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from labkit import grade
from labkit.design import allocate_long_tail, hill_number, shares
from labkit.errors import BadRequest
from labkit.instructions import draw_rules
from labkit.lab import Record
from labkit.studies import symbolic
from labkit.studies.contract import Study
from labkit.studies.rewriting import (
    PAPER,
    SMALL,
    RewritingCell,
    RewritingParams,
    check_rules,
    draw_exam,
    lesson,
    simplest,
    spread,
    task_of,
)
from labkit.studies.symbolic import interval

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

NAME = "long_tail"
RARE = 14  # stream of a seed
GENERALISES = 0.5  # accuracy on unseen rules from which an even spread is said to generalise

EFFECTIVE: Mapping[str, Callable[[Any], float]] = {
    "rules with any example": lambda counts: hill_number(counts, 0),
    "rules with 2 examples or more": lambda counts: int((counts >= 2).sum()),
    "rules with 5 examples or more": lambda counts: int((counts >= 5).sum()),
    "Hill number of order 1/2": lambda counts: hill_number(counts, 0.5),
    "Hill number of order 1 (exponential of the entropy)": lambda counts: hill_number(counts, 1),
    "Hill number of order 2 (1 / chance that two examples share a rule)": lambda counts: hill_number(counts, 2),
}

LAW = {"law": "weight", "floor": 1, "occurrences": 1}
SCALES: dict[str, dict[str, Any]] = {
    "smoke": {
        **SMALL,
        **LAW,
        "n_instructions": [20, 200],
        "alphas": ["uniform", 0.1],
        "even": [50],
        "seeds": [0],
        "budget": 600,
        "steps": 20,
        "batch_size": 32,
        "test_rules": 50,
        "n_test": 100,
    },
    "laptop": {
        **SMALL,
        **LAW,
        "n_instructions": [300, 1000, 10_000],
        "alphas": ["uniform", 0.3, 0.1, 0.03],
        "even": [100, 200],
        "seeds": [0, 1],
    },
    "paper": {
        **PAPER,
        **LAW,
        "n_instructions": [1000, 10_000, 100_000],
        "alphas": ["uniform", 2, 1, 0.5, 0.2, 0.1, 0.07, 0.03],
        "even": [200, 300, 500],
        "seeds": [0, 1, 2],
    },
}


class Params(RewritingParams):
    """What a person may set; see `SCALES` for the values each scale gives."""

    n_instructions: list[int] = Field(min_length=1, description="numbers of training rules I")
    alphas: list[float | Literal["uniform"]] = Field(min_length=1, description="exponents of the power law, or uniform")
    even: list[int] = Field(description="numbers of rules tried evenly spread only, to compare the others with")
    law: Literal["weight", "rank"] = Field(description="what the power law is a density of: rules' weights, or ranks")
    floor: int = Field(ge=0, description="examples that each rule gets before the law shares out the rest")
    occurrences: int | tuple[int, ...] = Field(description="how often x occurs in z; a list mixes them evenly")
    noop_share: float = Field(default=0.0, ge=0, le=1, description="share of examples in which x does not occur")

    @model_validator(mode="after")
    def _together(self) -> "Params":
        check_rules(self, task_of(self), max(self.n_instructions + self.even))
        for n, alpha in _sets(self):
            if n < 1:
                raise BadRequest(f"n_instructions = {n}: at least 1 is needed")
            allocate_long_tail(self.budget, n, alpha, law=self.law, floor=self.floor)
        return self


class Cell(RewritingCell):
    """One model: everything its result depends on."""

    study: Literal["long_tail"] = "long_tail"
    version: Literal[2] = 2
    alpha: float | Literal["uniform"]
    law: Literal["weight", "rank"]
    floor: int


def _sets(params: Params) -> list[tuple[int, float | Literal["uniform"]]]:
    """The number of rules and the exponent of each training set, from even to uneven."""
    alphas = sorted(params.alphas, key=lambda alpha: -np.inf if alpha == "uniform" else -alpha)
    sets = [(n, alpha) for n in sorted(params.n_instructions, reverse=True) for alpha in alphas]
    return list(dict.fromkeys([*sets, *((n, "uniform") for n in sorted(params.even, reverse=True))]))


def points(params: Params) -> list[Cell]:
    """A cell for each number of rules, exponent and seed; seeds outermost."""
    dials = [
        {"n_instructions": n, "alpha": alpha, "seed": seed, "occurrences": simplest(params.occurrences)}
        for seed in params.seeds
        for n, alpha in _sets(params)
    ]
    return symbolic.cells(Cell, params, dials)


def lesson_of(cell: Cell) -> symbolic.Lesson:
    """The budget spread by the law.

    The seen exam asks each rule as often as training did, the rare exam the rarer half of the rules equally often.
    """
    counts = allocate_long_tail(cell.budget, cell.n_instructions, cell.alpha, law=cell.law, floor=cell.floor)
    about = {"most_frequent": int(counts[0]), "rarest": int(counts[-1]), "median": float(np.median(counts))}
    numbers = np.arange(cell.n_instructions)
    usual = np.repeat(numbers, counts)[np.linspace(0, cell.budget - 1, cell.n_test).round().astype(np.int64)]
    drawn = lesson(cell, counts, seen=usual)
    task = task_of(cell)
    rules = draw_rules(task, cell.n_instructions, seed=cell.seed)
    rare = draw_exam(task, rules, spread(numbers[cell.n_instructions // 2 :], cell.n_test), cell.seed, RARE)
    return drawn._replace(exams={**drawn.exams, "rare": rare}, about={**drawn.about, **about})


def measure(cell: Cell, record: Record) -> dict[str, Any]:
    """Train one model and grade it on seen and unseen rules; see `symbolic.measure_many`."""
    return symbolic.measure(cell, record, lesson_of)


def measure_many(cells: Sequence[Cell], records: Sequence[Record]) -> list[dict[str, Any]]:
    """The same for a fleet."""
    return symbolic.measure_many(cells, records, lesson_of)


def summarise(frame: "pd.DataFrame") -> dict[str, Any]:
    """Accuracies by number of rules and exponent, and how well each effective number explains them.

    For each definition of the effective number, a logistic in its log10 is fitted to all sets, as in the diversity
    sweep (`labkit.grade.fit_transition`, `labkit.grade.explained`).
    """
    rows, votes = [], []
    dials: Any
    for dials, group in frame.assign(alpha=frame["alpha"].map(str)).groupby(["n_instructions", "alpha"], sort=False):
        n, alpha = dials
        tail = {name: float(group[name].iloc[0]) for name in ("most_frequent", "median", "rarest")}
        found = symbolic.estimates(group, ("unseen", "seen", "rare"))
        rows.append(
            {"n_instructions": n, "alpha": alpha, "effective": _effective(group.iloc[0].to_dict()), **tail, **found}
        )
        votes.append(symbolic.counts(group, "unseen"))
    explained = {}
    for name in EFFECTIVE:
        numbers = [max(1, round(row["effective"][name])) for row in rows]
        explained[name] = {
            **grade.fit_transition(numbers, votes).as_dict(),
            **grade.explained(numbers, votes)._asdict(),
        }
    known = [name for name, row in explained.items() if row["share"] is not None]
    best = max(known, key=lambda name: explained[name]["share"], default=next(iter(EFFECTIVE)))
    return {"cells": rows, "effective": explained, "best": best}


def _effective(row: Mapping[Any, Any]) -> dict[str, float]:
    """How many rules a set amounts to, by each definition."""
    alpha = row["alpha"] if row["alpha"] == "uniform" else float(row["alpha"])
    counts = allocate_long_tail(
        int(row["budget"]), int(row["n_instructions"]), alpha, law=row["law"], floor=int(row["floor"])
    )
    return {name: round(float(count(counts)), 1) for name, count in EFFECTIVE.items()}


def chart(frame: "pd.DataFrame", summary: dict[str, Any], published: list[dict[str, Any]]) -> "alt.TopLevelMixin":
    """Unseen accuracy against the effective number of rules that explains it best, a curve a number of rules."""
    from labkit import show

    best = summary["best"]
    worth = [max(1.0, _effective(row)[best]) for row in frame.to_dict("records")]
    drawn = symbolic.families(frame.assign(worth=worth), "worth", "n_instructions", label=lambda n: f"{n:,} rules")
    return show.growth_chart(
        drawn.frame,
        drawn.curve,
        summary["effective"][best],
        x="worth",
        series=drawn.series[:6],
        x_label=f"{best[0].upper()}{best[1:]} (log scale)",
        y_label="Accuracy on unseen rules (share of test examples)",
        title=_explains(summary, best).capitalize(),
    )


def _explains(summary: dict[str, Any], name: str) -> str:
    row = summary["effective"][name]
    if row["share"] is None:
        return "no curve was fitted"
    told = interval(row["share"], row["share_ci95"])
    return f"one curve over the {name} explains {told} of the variance between sets"


def alpha_chart(frame: "pd.DataFrame", summary: dict[str, Any], published: list[dict[str, Any]]) -> "alt.TopLevelMixin":
    """Unseen accuracy against the exponent, a curve a number of rules; uniform stands at the right end."""
    from labkit import show

    several = frame.groupby("n_instructions")["alpha"].transform("nunique") > 1
    frame = frame[several] if several.any() else frame
    numbers = [float(alpha) for alpha in frame["alpha"] if alpha != "uniform"]
    end = 4 * max(numbers, default=0.25)
    placed = frame.assign(place=[end if alpha == "uniform" else float(alpha) for alpha in frame["alpha"]])
    drawn = symbolic.families(placed, "place", "n_instructions", label=lambda n: f"{n:,} rules")
    marks = [record | {"place": record["alpha"]} for record in published if "alpha" in record]
    return show.growth_chart(
        drawn.frame,
        drawn.curve,
        published=marks,
        x="place",
        series=drawn.series,
        x_label=f"Exponent alpha of the power law (log scale; uniform is drawn at {end:g})",
        y_label="Accuracy on unseen rules (share of test examples)",
        title="From even (right) to uneven (left): " + _ends(summary),
    )


def _ends(summary: dict[str, Any]) -> str:
    """By number of rules, the accuracy at the most and at the least even spread."""
    told = []
    for n in dict.fromkeys(row["n_instructions"] for row in summary["cells"]):
        even, *_, least = [row for row in summary["cells"] if row["n_instructions"] == n] * 2
        if even is not least:
            told.append(f"{even['unseen']:.2f} to {least['unseen']:.2f} with {n:,} rules")
    return "; ".join(told)


def finding(summary: dict[str, Any]) -> str:
    """What the study shows, in one sentence with its interval."""
    words = []
    for n in sorted({row["n_instructions"] for row in summary["cells"]}):
        even, *_, least = [row for row in summary["cells"] if row["n_instructions"] == n] * 2
        if even["alpha"] != least["alpha"]:
            words.append(
                f"{n:,} rules: {interval(even['unseen'], even['unseen_ci95'])} at alpha {even['alpha']}, "
                f"{interval(least['unseen'], least['unseen_ci95'])} at {least['alpha']}"
            )
    lazy = sum(row["not_learned"] for row in summary["cells"])
    warning = f" ({lazy} models have not learned their own training rules)" if lazy else ""
    shares = {name: row["share"] for name, row in summary["effective"].items() if row["share"] is not None}
    _, *others = sorted(shares, key=lambda name: -shares[name]) or [""]
    second = f" (next best: {others[0]}, {shares[others[0]]:.3f})" if others else ""
    told = f"Accuracy on unseen rules, {'; '.join(words)}. " if words else ""
    return (
        f"{told}Of {len(EFFECTIVE)} ways to count what a set is worth, {_explains(summary, summary['best'])}"
        f"{second}{warning}"
    )


def compare(summary: dict[str, Any], published: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The published statements beside ours; a set collapses where it falls below half of its most even spread.

    Where that spread itself does not generalise (half of the unseen answers right), nothing can collapse. The whole
    interval must lie on one side of the half for a verdict.
    """
    rows = []
    for record in published:
        n, collapse = record["n_instructions"], record["side"] == "below"
        of = [r for r in summary["cells"] if (r["n_instructions"] == n if collapse else r["n_instructions"] >= n)]
        tried = [r for r in of if r["alpha"] != "uniform" and float(r["alpha"]) < record.get("alpha", np.inf)]
        even: dict[int, float] = {}
        for r in summary["cells"]:  # from even to uneven
            even.setdefault(r["n_instructions"], r["unseen"])
        tried = [r for r in tried if even[r["n_instructions"]] >= GENERALISES]
        fell = [r["unseen_ci95"][1] < even[r["n_instructions"]] / 2 for r in tried]
        held = [r["unseen_ci95"][0] >= even[r["n_instructions"]] / 2 for r in tried]
        yes, no = (all(fell), any(held)) if collapse else (all(held), any(fell))
        told = "; ".join(
            f"{r['n_instructions']:,} at {r['alpha']}: {interval(r['unseen'], r['unseen_ci95'])}" for r in tried
        )
        agrees = "not tested here" if not tried else "yes" if yes else "no" if no else "not decided"
        rows.append(
            {
                "published": record["statement"],
                "ours": told or "not tried",
                "agrees": agrees,
                "source": f"{record['source']}, {record['figure']}",
            }
        )
    return rows


def summary_table(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """A row a number of rules and exponent."""
    return [
        {
            "rules": row["n_instructions"],
            "alpha": row["alpha"],
            "examples a rule (most, median, least)": ", ".join(
                f"{row[name]:,.0f}" for name in ("most_frequent", "median", "rarest")
            ),
            summary["best"]: f"{row['effective'][summary['best']]:,.0f}",
            "unseen accuracy [95 %]": interval(row["unseen"], row["unseen_ci95"]),
            "seen, as in training [95 %]": interval(row["seen"], row["seen_ci95"]),
            "seen, rarer half [95 %]": interval(row["rare"], row["rare_ci95"]),
            "seeds": row["seeds"],
            "not learned": row["not_learned"],
            "interval over": row["interval_over"],
        }
        for row in summary["cells"]
    ]


def effective_table(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """A row a definition of the effective number: how much of the accuracies it explains, and its transition."""
    return [
        {
            "what a set is worth": name,
            "variance between sets explained [95 %]": "no fit"
            if row["share"] is None
            else interval(row["share"], row["share_ci95"]),
            "half of the plateau at": f"{row['midpoint']:,.0f} [{row['ci95'][0]:,.0f}, {row['ci95'][1]:,.0f}]"
            if row["located"]
            else "not located",
            "note": row["note"],
        }
        for name, row in summary["effective"].items()
    ]


def describe(row: dict[str, Any]) -> str:
    """A row in a few words."""
    return (
        f"I={row['n_instructions']} alpha={row['alpha']} seed={row['seed']}: unseen {row['accuracy_unseen']:.3f}, "
        f"seen {row['accuracy_seen']:.3f}, {row['train_seconds']:.0f} s"
    )


def notes(params: Params) -> list[str]:
    """What was decided for the person."""
    raised = []
    for n, alpha in _sets(params):
        few = int((shares(n, alpha, params.law) * params.budget < 0.5).sum())
        if params.floor and few:
            raised.append(f"{few} of {n} rules at alpha = {alpha}")
    listed = (
        f"the law alone gives less than half an example to {'; '.join(raised)}: floor = {params.floor} gives each one"
    )
    return symbolic.drawn_note(params, params.budget) + [listed] * bool(raised)


STUDY = Study(
    name=NAME,
    question="How unevenly may examples be spread over rules before unseen rules are no longer followed?",
    paper="Zhang, Wang and Charton 2024: arXiv 2402.10891 (Fig. 3) and 2405.19787",
    minutes={
        "smoke": "under 1 minute",
        "laptop": "6 to 8 minutes on two cores",
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
    figures={"Accuracy on unseen rules by the exponent of the power law.": alpha_chart},
    tables={"Which effective number explains it": effective_table},
)
