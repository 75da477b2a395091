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

EFFECTIVE: Mapping[str, tuple[str, Callable[[Any], float]]] = {
    "hill_0": ("rules with any example", lambda counts: hill_number(counts, 0)),
    "hill_1": ("exponential of the entropy", lambda counts: hill_number(counts, 1)),
    "hill_2": ("1 / chance of two examples sharing a rule", lambda counts: hill_number(counts, 2)),
}
SHOWN = "hill_2"  # the definition of the first chart; the table compares all

LAW = {"law": "weight", "floor": 1, "occurrences": 1}
SCALES: dict[str, dict[str, Any]] = {
    "smoke": {
        **SMALL,
        **LAW,
        "n_instructions": [20, 200],
        "alphas": ["uniform", 0.1],
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
        "alphas": ["uniform", 1, 0.3, 0.1, 0.03],
        "seeds": [0, 1],
    },
    "paper": {
        **PAPER,
        **LAW,
        "n_instructions": [1000, 10_000, 100_000],
        "alphas": ["uniform", 2, 1, 0.5, 0.2, 0.1, 0.07, 0.03],
        "seeds": [0, 1, 2],
    },
}


class Params(RewritingParams):
    """What a person may set; see `SCALES` for the values each scale gives."""

    n_instructions: list[int] = Field(min_length=1, description="numbers of training rules I")
    alphas: list[float | Literal["uniform"]] = Field(min_length=1, description="exponents of the power law, or uniform")
    law: Literal["weight", "rank"] = Field(description="what the power law is a density of: rules' weights, or ranks")
    floor: int = Field(ge=0, description="examples that each rule gets before the law shares out the rest")
    occurrences: int | tuple[int, ...] = Field(description="how often x occurs in z; a list mixes them evenly")
    noop_share: float = Field(default=0.0, ge=0, le=1, description="share of examples in which x does not occur")

    @model_validator(mode="after")
    def _together(self) -> "Params":
        check_rules(self, task_of(self), max(self.n_instructions))
        for n in self.n_instructions:
            if n < 1:
                raise BadRequest(f"n_instructions = {n}: at least 1 is needed")
            for alpha in self.alphas:
                allocate_long_tail(self.budget, n, alpha, law=self.law, floor=self.floor)
        return self


class Cell(RewritingCell):
    """One model: everything its result depends on."""

    study: Literal["long_tail"] = "long_tail"
    version: Literal[2] = 2
    alpha: float | Literal["uniform"]
    law: Literal["weight", "rank"]
    floor: int


def points(params: Params) -> list[Cell]:
    """A cell for each number of rules, exponent and seed; seeds outermost."""
    dials = [
        {"n_instructions": n, "alpha": alpha, "seed": seed, "occurrences": simplest(params.occurrences)}
        for seed in params.seeds
        for n in sorted(params.n_instructions, reverse=True)
        for alpha in params.alphas
    ]
    return symbolic.cells(Cell, params, dials)


def counts_of(cell: Cell | Params, n: int, alpha: float | Literal["uniform"]) -> Any:
    """Examples by rule, int64 [n]."""
    return allocate_long_tail(cell.budget, n, alpha, law=cell.law, floor=cell.floor)


def lesson_of(cell: Cell) -> symbolic.Lesson:
    """The budget spread by the law; the row says how many rules that amounts to.

    The seen exam asks each rule as often as training did, the rare exam the rarer half of the rules equally often.
    """
    counts = counts_of(cell, cell.n_instructions, cell.alpha)
    about = {name: round(measure(counts), 1) for name, (_, measure) in EFFECTIVE.items()}
    about |= {"most_frequent": int(counts[0]), "rarest": int(counts[-1]), "median": float(np.median(counts))}
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

    For each definition of the effective number, a logistic in its log10 is fitted to all cells (as in the diversity
    sweep, `labkit.grade.fit_transition`); `explained` is the share of the variance between cells that it leaves out.
    """
    rows, votes = [], []
    dials: Any
    for dials, group in frame.assign(alpha=frame["alpha"].map(str)).groupby(["n_instructions", "alpha"]):
        n, alpha = dials
        effective = {name: float(group[name].iloc[0]) for name in EFFECTIVE}
        tail = {name: float(group[name].iloc[0]) for name in ("most_frequent", "median", "rarest")}
        rows.append(
            {
                "n_instructions": n,
                "alpha": alpha,
                **effective,
                **tail,
                **symbolic.estimates(group, ("unseen", "seen", "rare")),
            }
        )
        votes.append(symbolic.counts(group, "unseen"))
    means = np.array([row["unseen"] for row in rows])
    explained = {}
    for name in EFFECTIVE:
        numbers = [max(1, round(row[name])) for row in rows]
        transition = grade.fit_transition(numbers, votes)
        fitted = grade.curve(transition, numbers)
        share = 1 - ((means - fitted) ** 2).sum() / max(((means - means.mean()) ** 2).sum(), 1e-12)
        explained[name] = {**transition.as_dict(), "explained": None if np.isnan(share) else float(share)}
    return {"cells": sorted(rows, key=lambda row: (row["n_instructions"], -row[SHOWN])), "effective": explained}


def chart(frame: "pd.DataFrame", summary: dict[str, Any], published: list[dict[str, Any]]) -> "alt.TopLevelMixin":
    """Unseen accuracy against the effective number of rules, a curve a number of rules."""
    from labkit import show

    drawn = symbolic.families(frame, SHOWN, "n_instructions", label=lambda n: f"{n:,} rules")
    return show.growth_chart(
        drawn.frame,
        drawn.curve,
        summary["effective"][SHOWN],
        x=SHOWN,
        series=drawn.series,
        x_label=f"Effective number of rules: {EFFECTIVE[SHOWN][0]} (log scale)",
        y_label="Accuracy on unseen rules (share of test examples)",
        title=finding(summary),
    )


def alpha_chart(frame: "pd.DataFrame", summary: dict[str, Any], published: list[dict[str, Any]]) -> "alt.TopLevelMixin":
    """Unseen accuracy against the exponent, a curve a number of rules; uniform stands at the right end."""
    from labkit import show

    numbers = [alpha for alpha in frame["alpha"] if alpha != "uniform"]
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
        title="The smaller alpha, the more unevenly the examples are spread over the rules",
    )


def finding(summary: dict[str, Any]) -> str:
    """What the study shows, in one sentence with its interval."""
    words = []
    for n in sorted({row["n_instructions"] for row in summary["cells"]}):
        rows = [row for row in summary["cells"] if row["n_instructions"] == n]
        least = min(rows, key=lambda row: row[SHOWN])
        even = max(rows, key=lambda row: row[SHOWN])
        words.append(
            f"{n:,} rules: {interval(even['unseen'], even['unseen_ci95'])} at alpha {even['alpha']}, "
            f"{interval(least['unseen'], least['unseen_ci95'])} at {least['alpha']}"
        )
    lazy = sum(row["not_learned"] for row in summary["cells"])
    warning = f" ({lazy} models have not learned their own training rules)" if lazy else ""
    return "Accuracy on unseen rules from the most to the least even spread. " + "; ".join(words) + warning


def compare(summary: dict[str, Any], published: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The published statements beside ours; a set collapses where it falls below half of its most even spread."""
    rows = []
    for record in published:
        n, collapse = record["n_instructions"], record["side"] == "below"
        of = [r for r in summary["cells"] if (r["n_instructions"] == n if collapse else r["n_instructions"] >= n)]
        tried = [r for r in of if r["alpha"] != "uniform" and float(r["alpha"]) < record.get("alpha", np.inf)]
        best = {
            r["n_instructions"]: max(q["unseen"] for q in of if q["n_instructions"] == r["n_instructions"]) for r in of
        }
        fell = [r["unseen"] < best[r["n_instructions"]] / 2 for r in tried]
        told = "; ".join(
            f"{r['n_instructions']:,} at {r['alpha']}: {interval(r['unseen'], r['unseen_ci95'])}" for r in tried
        )
        agrees = {True: "yes", False: "no"}[all(fell) if collapse else not any(fell)] if tried else "not tested here"
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
            **{f"effective ({name})": f"{row[name]:,.0f}" for name in EFFECTIVE},
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
            "effective number": f"{name}: {EFFECTIVE[name][0]}",
            "variance between cells explained": "no fit" if row["explained"] is None else f"{row['explained']:.2f}",
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
    for n in params.n_instructions:
        for alpha in params.alphas:
            wanted = shares(n, alpha, params.law) * params.budget
            if params.floor and (few := int((wanted < 0.5).sum())):
                raised.append(f"{few} of {n} rules at alpha = {alpha}")
    listed = (
        f"the law alone would leave without an example: {'; '.join(raised)}; floor = {params.floor} gives them theirs"
    )
    return symbolic.drawn_note(params, params.budget) + [listed] * bool(raised)


STUDY = Study(
    name=NAME,
    question="How unevenly may examples be spread over rules before unseen rules are no longer followed?",
    paper="Zhang, Wang and Charton 2024: arXiv 2402.10891 (Fig. 3) and 2405.19787",
    minutes={
        "smoke": "under 1 minute",
        "laptop": "5 to 8 minutes on two cores",
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
