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
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator
from torch import Tensor, nn

from labkit import grade, learn
from labkit.design import allocate
from labkit.errors import BadRequest
from labkit.instructions import Inputs, RewritingTask, Rules, draw_inputs, draw_rules
from labkit.lab import Point, Record
from labkit.studies.contract import Study, StudyParams

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

NAME = "diversity_sweep"
LEARNED = 0.95  # seen accuracy from which a run counts as having learned its training rules
LOOKS, QUICK = 6, 300  # points on a learning curve, and the graded examples of each

# One dictionary a scale; every resolved value is printed by the notebook.
SMALL = {
    "alphabet": "abcdefghijklmnopqrstuvwxyz",
    "pattern_length": 3,
    "input_length": 8,
    "occurrences": 1,
    "budget": 48_000,
    "recipe": "fast",
    "layers": 4,
    "width": 64,
    "heads": 2,
    "steps": 750,
    "batch_size": 64,
    "test_rules": 1000,
    "n_test": 2000,
}
SCALES: dict[str, dict[str, Any]] = {
    "smoke": {
        **SMALL,
        "n_instructions": [2, 20, 200],
        "seeds": [0],
        "budget": 600,
        "steps": 20,
        "batch_size": 32,
        "test_rules": 50,
        "n_test": 100,
    },
    "laptop": {**SMALL, "n_instructions": [10, 30, 100, 200, 300, 1000, 10_000], "seeds": [0, 1, 2]},
    "paper": {
        **SMALL,
        "n_instructions": [
            10, 20, 50, 100, 200, 300, 400, 500, 600, 1000, 2000, 2500, 5000, 10_000, 100_000, 1_000_000,
        ],
        "seeds": [0, 1, 2],
        "pattern_length": 20,
        "input_length": 50,
        "budget": 1_000_000,
        "recipe": "paper",
        "layers": 6,
        "width": 256,
        "heads": 4,
        "steps": 50 * 1_000_000 // 512,
        "batch_size": 512,
        "test_rules": 100_000,
        "n_test": 100_000,
    },
}  # fmt: skip


class Params(StudyParams):
    """What a person may set; see `SCALES` for the values each scale gives."""

    n_instructions: list[int] = Field(min_length=1, description="numbers of training rules I, one model each")
    seeds: list[int] = Field(min_length=1, description="each seed draws its own rules, inputs and weights")
    budget: int = Field(ge=1, le=100000000, description="training examples of a model, spread evenly over its rules")
    alphabet: str = Field(description="the symbols of patterns and inputs")
    pattern_length: int = Field(ge=1, le=10000, description="symbols in x, and in y")
    input_length: int = Field(ge=1, le=10000, description="symbols in the input z, and in the answer")
    occurrences: int | tuple[int, ...] = Field(description="how often x occurs in z; a list mixes them evenly")
    noop_share: float = Field(default=0.0, ge=0, le=1, description="share of examples in which x does not occur")
    recipe: Literal["fast", "paper"] = Field(description="fast: this lab's; paper: GPT-2 and AdamW")
    layers: int = Field(ge=1, le=48, description="transformer blocks")
    width: int = Field(ge=2, le=16384, description="length of a token's vector")
    heads: int = Field(ge=1, le=1024, description="attention heads a block; must divide width")
    expansion: int | None = Field(
        default=None,
        ge=0,
        le=64,
        description="perceptron units a block, in widths; None: the recipe's own (fast 0, paper 4)",
    )
    steps: int = Field(ge=1, le=1000000000, description="optimiser steps of a model")
    batch_size: int = Field(ge=1, le=1000000, description="examples a step")
    learning_rate: float | None = Field(default=None, gt=0, allow_inf_nan=False, description="None: the recipe's own")
    test_rules: int = Field(ge=2, le=10000000, description="unseen rules to grade on")
    n_test: int = Field(ge=2, le=10000000, description="graded examples, for seen and for unseen rules each")

    @model_validator(mode="before")
    @classmethod
    def _what_the_recipe_decides(cls, given: dict[str, Any]) -> dict[str, Any]:
        recipe = learn.RECIPES.get(given.get("recipe", ""))
        own = {"expansion": recipe.EXPANSION, "learning_rate": recipe.LEARNING_RATE} if recipe else {}
        return own | {name: value for name, value in given.items() if value is not None}

    @field_validator("n_instructions", "seeds", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any) -> Any:
        return [value] if isinstance(value, int) else value

    @model_validator(mode="after")
    def _together(self) -> "Params":
        for name in ("n_instructions", "seeds"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise BadRequest(f"{name} = {values} names a value twice")
        if not 0 <= min(self.seeds) <= max(self.seeds) < 2**32:
            raise BadRequest(f"seeds = {self.seeds}: a seed is 0 or more, and below {2**32}")
        if self.width % self.heads:
            raise BadRequest(f"heads = {self.heads} does not divide width = {self.width}")
        if self.recipe == "paper" and self.expansion == 0:
            raise BadRequest("expansion = 0: the GPT-2 of the paper recipe has a perceptron in every block; at least 1")
        if self.n_test < self.test_rules:
            raise BadRequest(
                f"n_test = {self.n_test} is fewer than one example for each of test_rules = {self.test_rules}"
            )
        task = _task(self)
        learn.vocabulary(task)
        for seed in self.seeds:
            for name, wanted, most in (
                ("n_instructions", max(self.n_instructions), task.capacity("train", seed)),
                ("test_rules", self.test_rules, task.capacity("test", seed)),
            ):
                if wanted > most:
                    raise BadRequest(
                        f"{name} = {wanted} is more than the {most} rules that {len(self.alphabet)} symbols and "
                        f"pattern_length = {self.pattern_length} leave for it (seed {seed})"
                    )
        for n in self.n_instructions:
            if n < 1:
                raise BadRequest(f"n_instructions = {n}: at least 1 is needed")
            allocate(self.budget, n)
        return self


class Cell(Point):
    """One model: everything its result depends on."""

    study: Literal["diversity_sweep"] = "diversity_sweep"
    version: Literal[1] = 1
    n_instructions: int
    seed: int
    budget: int
    alphabet: str
    pattern_length: int
    input_length: int
    occurrences: int | tuple[int, ...]
    noop_share: float
    recipe: str
    recipe_version: int
    precision: str
    layers: int
    width: int
    heads: int
    expansion: int
    steps: int
    batch_size: int
    learning_rate: float
    test_rules: int
    n_test: int


def _task(of: Params | Cell) -> RewritingTask:
    return RewritingTask(
        alphabet=of.alphabet,
        pattern_length=of.pattern_length,
        input_length=of.input_length,
        occurrences=of.occurrences,
        noop_share=of.noop_share,
    )


def points(params: Params) -> list[Cell]:
    """A cell for each number of instructions and seed; seeds outermost, so that a first whole curve comes early.

    The recipe's version and the machine's precision are written into the cell, so that its address changes with them.
    """
    shared = {name: value for name, value in params.model_dump().items() if name in Cell.model_fields}
    del shared["n_instructions"]
    shared |= {
        "occurrences": params.occurrences if isinstance(params.occurrences, int) else _simplest(params.occurrences),
        "recipe_version": learn.RECIPES[params.recipe].VERSION,
        "precision": learn.precision_name(learn.best_device()),
    }
    return [
        Cell(n_instructions=n, seed=seed, **shared)
        for seed in params.seeds
        for n in sorted(params.n_instructions, reverse=True)
    ]


class Exam(NamedTuple):
    """Examples to be graded, and the rule each belongs to."""

    data: learn.Encoded
    inputs: Inputs
    n_rules: int

    def grade(self, model: nn.Module, device: str, first: int | None = None) -> Tensor:
        """For each example (or the first few): is the whole answer right?"""
        data = self.data._replace(tokens=self.data.tokens[:first])
        answers = torch.from_numpy(data.tokens[:, data.prompt_length :]).long()
        return grade.exact_match(learn.predict(model, data, device=device), answers)


def _simplest(occurrences: tuple[int, ...]) -> int | tuple[int, ...]:
    """A mixture of one is no mixture."""
    return occurrences[0] if len(occurrences) == 1 else occurrences


def measure(cell: Cell, record: Record) -> dict[str, Any]:
    """Train one model and grade it on fresh inputs of seen and of unseen rules.

    Returns:
        What the training cost; for `seen` and `unseen` the accuracy with its 95 % interval (rules resampled) and the
        right answers by rule; with no-ops also the accuracies of the two kinds of input.
    """
    data, exams = exams_of(cell)
    device = learn.best_device()
    shape = shape_of(cell, data)
    model = learn.build(cell.recipe, shape, cell.seed).to(device)

    def look(step: int, loss: float, seconds: float) -> None:
        quick = {
            f"accuracy_{name}": float(exam.grade(model, device, QUICK).float().mean()) for name, exam in exams.items()
        }
        record.log(step=step, loss=round(loss, 4) if math.isfinite(loss) else None, seconds=round(seconds, 2), **quick)

    trained = learn.train(
        model,
        learn.RECIPES[cell.recipe].Optimiser(model, cell.steps, cell.learning_rate),
        data,
        steps=cell.steps,
        batch_size=cell.batch_size,
        seed=cell.seed,
        device=device,
        every=max(1, cell.steps // LOOKS),
        on_step=look,
    )
    learn.save(record.folder, learn.Learner(model, cell.recipe, shape, _task(cell)))
    row: dict[str, Any] = {
        "examples_per_instruction": cell.budget / cell.n_instructions,
        "parameters": sum(p.numel() for p in model.parameters()),
        "tokens": trained.tokens,
        "epochs": trained.steps * cell.batch_size / cell.budget,
        "train_seconds": round(trained.seconds, 2),
        "loss": trained.loss if math.isfinite(trained.loss) else None,  # None: training diverged
        "device": device,
    }
    for name, exam in exams.items():
        right = exam.grade(model, device)
        counts = grade.per_rule_counts(right, torch.from_numpy(exam.inputs.index), exam.n_rules)
        estimate = grade.cluster_bootstrap(*counts)
        row |= {
            f"accuracy_{name}": estimate.mean,
            f"accuracy_{name}_lo": estimate.lo,
            f"accuracy_{name}_hi": estimate.hi,
            f"{name}_right": np.asarray(counts.right).tolist(),
            f"{name}_asked": np.asarray(counts.asked).tolist(),
        }
        if 0 < cell.noop_share < 1:
            noop = torch.from_numpy(exam.inputs.noop)
            for kind, of_kind in (("noop", noop), ("op", ~noop)):
                row[f"accuracy_{name}_{kind}"] = float(right[of_kind].float().mean())
    row["learned"] = row["accuracy_seen"] >= LEARNED
    return row


def exams_of(cell: Cell) -> tuple[learn.Encoded, dict[str, Exam]]:
    """The training examples of a cell, and its exams on `seen` and `unseen` rules."""
    task = _task(cell)
    rules = draw_rules(task, cell.n_instructions, seed=cell.seed)
    unseen = draw_rules(task, cell.test_rules, seed=cell.seed, split="test")
    training = np.repeat(np.arange(len(rules)), allocate(cell.budget, len(rules)))
    return _draw(task, rules, training, cell.seed, 10).data, {
        "seen": _draw(task, rules, _spread(min(len(rules), cell.test_rules), cell.n_test), cell.seed, 11),
        "unseen": _draw(task, unseen, _spread(cell.test_rules, cell.n_test), cell.seed, 12),
    }


def shape_of(cell: Cell, data: learn.Encoded) -> learn.Shape:
    """The sizes of a cell's model."""
    return learn.Shape(len(data.vocabulary), data.tokens.shape[1], cell.layers, cell.width, cell.heads, cell.expansion)


def _draw(task: RewritingTask, rules: Rules, index: NDArray[np.int64], seed: int, stream: int) -> Exam:
    inputs = draw_inputs(
        task, rules, index, seed=np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(stream,)))
    )
    return Exam(learn.encode_rewriting(task, rules, inputs), inputs, len(rules))


def _spread(n_rules: int, n_examples: int) -> NDArray[np.int64]:
    """The rule of each of `n_examples` examples; any prefix is spread over the rules as evenly as the whole."""
    return np.arange(n_examples) % n_rules


def summarise(frame: "pd.DataFrame") -> dict[str, Any]:
    """The curve of accuracy against I with 95 % intervals, and the transition located on it.

    Intervals resample seeds, and rules within a seed (`labkit.grade.intervals`); the transition is a logistic in
    log10 I (`labkit.grade.transition`).
    """
    curve, counts = [], []
    for n in sorted(frame["n_instructions"].unique().tolist()):
        group = frame[frame["n_instructions"] == n]
        estimates = {}
        for name in ("unseen", "seen"):
            per_seed = [
                grade.Counts(np.array(right), np.array(asked))
                for right, asked in zip(group[f"{name}_right"], group[f"{name}_asked"], strict=True)
            ]
            estimates[name] = grade.seed_cluster_bootstrap(per_seed)
            if name == "unseen":
                counts.append(per_seed)
        unseen, seen = estimates["unseen"], estimates["seen"]
        curve.append(
            {
                "n_instructions": n,
                "mean": unseen.mean,
                "ci95": [unseen.lo, unseen.hi],
                "seen_mean": seen.mean,
                "seen_ci95": [seen.lo, seen.hi],
                "seeds": len(group),
                "interval_over": unseen.over,
                "lowest_seed": float(group["accuracy_unseen"].min()),
                "not_learned": int((~group["learned"]).sum()),
            }
        )
    transition = grade.fit_transition([row["n_instructions"] for row in curve], counts)
    return {"transition": transition.as_dict(), "curve": curve}


def chart(frame: "pd.DataFrame", summary: dict[str, Any], published: list[dict[str, Any]]) -> "alt.TopLevelMixin":
    """Seen and unseen accuracy against the number of instructions, every seed visible, the published steps beside."""
    from labkit import show

    return show.growth_chart(
        frame,
        summary["curve"],
        summary["transition"],
        published,
        x="n_instructions",
        title=finding(summary),
    )


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
    half = (summary["transition"]["plateau"] or 1.0) / 2
    rows = []
    for record in published:
        limit = record["n_instructions"]
        if isinstance(limit, list):
            midpoint, ci = summary["transition"]["midpoint"], summary["transition"]["ci95"]
            ours = f"midpoint {midpoint:,.0f} [{ci[0]:,.0f}, {ci[1]:,.0f}]" if midpoint else "no transition located"
            agrees = None if midpoint is None else ci[0] <= limit[1] and limit[0] <= ci[1]
        else:
            below = record["side"] == "below"
            tried = [r for r in summary["curve"] if (r["n_instructions"] < limit) == below]
            agrees = all((r["mean"] < half) == below for r in tried) if tried else None
            ours = "; ".join(f"{r['n_instructions']:,}: {_interval(r['mean'], r['ci95'])}" for r in tried)
        rows.append(
            {
                "published": record["statement"],
                "ours": ours or "no such count tried",
                "agrees": {True: "yes", False: "no", None: "not tested here"}[agrees],
                "source": f"{record['source']}, {record['figure']}",
            }
        )
    return rows


def _interval(mean: float, ci: Sequence[float]) -> str:
    return f"{mean:.3f} [{ci[0]:.3f}, {ci[1]:.3f}]"


def summary_table(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """A row a number of instructions: unseen and seen accuracy with their intervals."""
    return [
        {
            "instructions": row["n_instructions"],
            "unseen accuracy [95 %]": _interval(row["mean"], row["ci95"]),
            "seen accuracy [95 %]": _interval(row["seen_mean"], row["seen_ci95"]),
            "lowest seed, unseen": f"{row['lowest_seed']:.3f}",
            "seeds": row["seeds"],
            "not learned": row["not_learned"],
            "interval over": row["interval_over"],
        }
        for row in summary["curve"]
    ]


def describe(row: dict[str, Any]) -> str:
    """A row in a few words."""
    return (
        f"I={row['n_instructions']} seed={row['seed']}: unseen {row['accuracy_unseen']:.3f}, "
        f"seen {row['accuracy_seen']:.3f}, {row['train_seconds']:.0f} s"
    )


def notes(params: Params) -> list[str]:
    """What was decided for the person."""
    uneven = [n for n in params.n_instructions if params.budget % n]
    drawn = params.steps * params.batch_size
    short = [
        f"{params.steps} steps of {params.batch_size} draw {drawn} examples, fewer than budget = {params.budget}: "
        f"{params.budget - drawn} examples of each model are never seen"
    ]
    return short * (drawn < params.budget) + [
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
        "laptop": "4 to 7 minutes on two cores",
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
)
