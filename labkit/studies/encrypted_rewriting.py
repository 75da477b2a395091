"""Encrypted rewriting: how many rules must fine-tuning data hold, when the model was pre-trained before?

A model is fine-tuned by QLoRA on rewriting whose result is encrypted (`labkit.instructions.encrypted`), with a fixed
number of training sequences spread over more or fewer rules, and graded on unseen rules: where the rule applies
(`op`) and where it does not (`noop`), apart. At laptop scale the model is the lab's own, pre-trained on plain
rewriting (`labkit.studies.base_model`): it can rewrite and has never seen the cipher, whose key is told nowhere. With
`model`, any Hugging Face model; it is told rule and key in words.

*Sub-sampling to half*, as read here: half as many training sequences of the same rules, at equal optimiser steps.
`even half`: every rule has half as many. `uneven half`: the same number follows a power law over the rules, each with
one at least (`labkit.design.long_tail`, exponent `exponent`). How uneven the paper's own is, is not known here.

Rules of all seeds are picked from one pool, whose test rules share no x and no y with any training rule, of fine-tuning
or of pre-training.

Source: Zhang, Wang, Charton, arXiv 2402.10891, Figure 5.
"""

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, Field, model_validator

from labkit import learn
from labkit.design import allocate, allocate_long_tail
from labkit.errors import BadRequest
from labkit.instructions import Example, RewritingTask, Rules, draw_rules
from labkit.instructions.encrypted import EncryptedTask, draw_encrypted, encrypted_examples
from labkit.instructions.rewriting import Split
from labkit.lab import Point, Record, Store
from labkit.learn import qlora
from labkit.studies import symbolic
from labkit.studies.base_model import RULES_SEED, Base, base_of, pretrained
from labkit.studies.contract import Study
from labkit.studies.rewriting import SEEN, TRAINING, UNSEEN, spread
from labkit.studies.symbolic import interval
from labkit.studies.tuned import tune

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

NAME = "encrypted_rewriting"
LEARNED = 0.9  # seen accuracy from which a run counts as having learned; the base model itself is right on about .95
SOLVED, NOT_SOLVED, HARM = 0.9, 0.1, 0.05  # accuracies, and a loss of accuracy, that the published statements turn on
POOL = 200_000  # rules that the seeds pick from; fewer where there are fewer
EXAMS = ("unseen", "unseen_op", "unseen_noop", "seen")

Sampling = Literal["whole", "even half", "uneven half"]

# The lab's own base is small: LoRA's usual regularisation, made for models of another size, is off. At twice the
# learning rate and above, some seeds forget rewriting and have not found it again when training ends.
OWN: dict[str, Any] = {
    "dropout": 0.0,
    "schedule": "linear",
    "warmup_ratio": 0.05,
    "max_grad_norm": 1.0,
    "gradient_checkpointing": False,
}
SMALL: dict[str, Any] = {
    "n_instructions": [10, 100, 300, 1000],
    "halved": [100, 300],
    "exponent": 0.1,
    "seeds": [0, 1],
    "model": None,
    "quantisation": "nf4",
    "rank": 32,
    "alpha": 64,
    "learning_rate": 1e-3,
    "steps": 500,
    "batch_size": 32,
    "budget": 16_000,
    "noop_share": 0.4,
    "alphabet": "abcdefghijklmnopqrstuvwxyz",
    "pattern_length": 3,
    "input_length": 8,
    "shift": 3,
    "test_rules": 500,
    "n_test": 1000,
    "base_layers": 4,
    "base_width": 64,
    "base_heads": 4,
    "base_rules": 20_000,
    "base_steps": 1200,
}
PAPER: dict[str, Any] = {
    **SMALL,
    **qlora.PRESETS["encrypted_rewriting"],
    "n_instructions": [10, 30, 100, 300, 1000, 3000, 10_000, 40_000],
    "halved": [1000, 10_000],
    "model": "meta-llama/Llama-2-7b-hf",
    "seeds": [0],
    "budget": 40_000,
    "pattern_length": 20,
    "input_length": 50,
    "test_rules": 5000,
    "n_test": 5000,
}
SCALES: dict[str, dict[str, Any]] = {
    "smoke": {
        **SMALL,
        "n_instructions": [4, 40],
        "halved": [40],
        "seeds": [0],
        "rank": 8,
        "alpha": 16,
        "steps": 8,
        "budget": 320,
        "test_rules": 20,
        "n_test": 40,
        "base_layers": 2,
        "base_width": 16,
        "base_heads": 2,
        "base_rules": 100,
        "base_steps": 20,
    },
    "laptop": SMALL,
    "qlora": {**PAPER, "quantisation": "nf4", "rank": 64, "alpha": 16, "learning_rate": 2e-4, "batch_size": 16},
    "paper": PAPER,
}


class Dials(BaseModel):
    """What parameters and cells share; what begins with `base_` plays no part, and is None in a cell, for a `model`."""

    exponent: float = Field(gt=0, le=1000, description="of the power law of the uneven half; the smaller the less even")
    model: str | None = Field(
        default=None, description="a Hugging Face id or path; None: the lab's own base model, pre-trained here"
    )
    quantisation: Literal["nf4", "int8", "none"] = Field(description="of the frozen base model")
    rank: int = Field(ge=1, le=65536, description="LoRA's r")
    alpha: float = Field(gt=0, le=1e6, description="LoRA's alpha")
    learning_rate: float = Field(gt=0, le=1000, description="of the adapters")
    steps: int = Field(ge=1, le=1000000000, description="optimiser steps of fine-tuning")
    batch_size: int = Field(ge=1, le=1000000, description="examples a step")
    budget: int = Field(ge=2, le=100000000, description="training sequences of a whole set")
    noop_share: float = Field(gt=0, lt=1, description="share of inputs in which x does not occur")
    alphabet: str = Field(description="the symbols of patterns and inputs")
    pattern_length: int = Field(ge=1, le=10000, description="symbols in x, and in y")
    input_length: int = Field(ge=1, le=10000, description="symbols in the input z, and in the answer")
    shift: int = Field(ge=1, description="the key: places that every letter of the result moves on")
    test_rules: int = Field(ge=2, le=10000000, description="unseen rules to grade on")
    n_test: int = Field(ge=2, le=10000000, description="graded examples, for each exam")
    base_layers: int | None = Field(description="blocks of the own base model")
    base_width: int | None = Field(description="its width")
    base_heads: int | None = Field(description="its attention heads")
    base_rules: int | None = Field(description="rules of its pre-training")
    base_steps: int | None = Field(description="steps of its pre-training")


class Params(Dials, symbolic.SeedParams):
    """What a person may set; see `SCALES` for the values each scale gives."""

    n_instructions: list[int] = Field(min_length=1, description="numbers of training rules I")
    halved: list[int] = Field(description="numbers of rules at which the training set is also halved, in two ways")

    @model_validator(mode="after")
    def _together(self) -> "Params":
        if self.model is None:
            base_for(self)
        task = task_of(self).rewriting
        for name, wanted, split in (
            ("n_instructions", max(self.n_instructions + self.halved), "train"),
            ("test_rules", self.test_rules, "test"),
        ):
            if wanted > (there := min(POOL, task.capacity(split, RULES_SEED))):  # type: ignore[arg-type]
                raise BadRequest(f"{name} = {wanted} is more than the {there} rules to choose from")
        if self.n_test < self.test_rules:
            raise BadRequest(
                f"n_test = {self.n_test} is fewer than one example a rule of test_rules = {self.test_rules}"
            )
        for n, sampling in _sets(self):
            if n < 1:
                raise BadRequest(f"n_instructions = {n}: at least 1 is needed")
            _counts(self.budget, n, sampling, self.exponent)
        return self


class Cell(Dials, Point):
    """One fine-tuned model: everything its result depends on."""

    study: Literal["encrypted_rewriting"] = "encrypted_rewriting"
    version: Literal[1] = 1
    precision: str
    seed: int
    n_instructions: int
    sampling: Sampling


class Exam(NamedTuple):
    """Examples with the rule each belongs to, [N] of `n_rules`, and which of them are no-ops, bool [N]."""

    examples: list[Example]
    rule: NDArray[np.int64]
    n_rules: int
    noop: NDArray[np.bool_]


def task_of(of: Params | Cell) -> EncryptedTask:
    """The task of parameters or of a cell; BadRequest for settings that contradict each other."""
    return EncryptedTask(RewritingTask(of.pattern_length, of.input_length, 1, of.noop_share, of.alphabet), of.shift)


def base_for(of: Params | Cell) -> Base:
    """The lab's own base model for parameters or a cell; BadRequest as `base_of`."""
    shared = {name: getattr(of, name) for name in ("alphabet", "pattern_length", "input_length", "noop_share")}
    own = {name: getattr(of, f"base_{name}") for name in ("layers", "width", "heads", "rules", "steps")}
    return base_of({**shared, **own, "test_rules": of.test_rules, "n_test": of.n_test})


def _sets(params: Params) -> list[tuple[int, Sampling]]:
    """The training sets: whole ones, and halves."""
    halves: list[Sampling] = ["even half", "uneven half"]
    whole: list[tuple[int, Sampling]] = [(n, "whole") for n in sorted({*params.n_instructions, *params.halved})]
    return whole + [(n, half) for n in sorted(params.halved) for half in halves]


def _counts(budget: int, n: int, sampling: Sampling, exponent: float) -> NDArray[np.int64]:
    """Training sequences of each rule; BadRequest when one has none."""
    if sampling == "uneven half":
        return allocate_long_tail(budget // 2, n, exponent, floor=1)
    return allocate(budget if sampling == "whole" else budget // 2, n)


def points(params: Params) -> list[Cell]:
    """A cell for each training set and seed; seeds outermost, most rules first."""
    shared = {name: value for name, value in params if name in Cell.model_fields}
    if params.model is not None:
        shared |= {name: None for name in shared if name.startswith("base_")}
    shared["precision"] = learn.precision_name(learn.best_device())
    return [
        Cell(**{**shared, "seed": seed, "n_instructions": n, "sampling": sampling})
        for seed in params.seeds
        for n, sampling in reversed(_sets(params))
    ]


def exams(cell: Cell) -> tuple[Exam, Exam, Exam]:
    """The cell's training set, and its exams on seen and on unseen rules."""
    task = task_of(cell)
    rules = _picked(task.rewriting, cell.n_instructions, "train", cell.seed)
    unseen = _picked(task.rewriting, cell.test_rules, "test", cell.seed)
    counts = _counts(cell.budget, cell.n_instructions, cell.sampling, cell.exponent)
    asked = np.arange(cell.n_instructions)

    def draw(rules: Rules, index: NDArray[np.int64], stream: int) -> Exam:
        rng = np.random.default_rng(np.random.SeedSequence(cell.seed, spawn_key=(stream,)))
        inputs = draw_encrypted(task, rules, index, seed=rng)
        words = encrypted_examples(task, rules, inputs, words=cell.model is not None)
        return Exam(list(words), index, len(rules), inputs.noop)

    return (
        draw(rules, np.repeat(asked, counts), TRAINING),
        draw(rules, spread(asked, cell.n_test), SEEN),
        draw(unseen, spread(np.arange(cell.test_rules), cell.n_test), UNSEEN),
    )


def _picked(task: RewritingTask, n: int, split: Split, seed: int) -> Rules:
    """A seed's own n rules of the pool."""
    pool = draw_rules(task, min(POOL, task.capacity(split, RULES_SEED)), seed=RULES_SEED, split=split)
    which = np.random.default_rng(seed).choice(len(pool), n, replace=False)
    return Rules(pool.x[which], pool.y[which], pool.alphabet)


def finetuning(cell: Cell, model: str) -> qlora.Finetuning:
    """How a cell's model is fine-tuned; what the study does not set is as in the preset."""
    names = ("quantisation", "rank", "alpha", "learning_rate", "batch_size", "steps", "seed")
    given = {name: getattr(cell, name) for name in names}
    if cell.model is None:
        given |= {**OWN, "max_length": 2 * (cell.pattern_length + cell.input_length) + 4, "save_every": cell.steps}
    return qlora.settings(model, "encrypted_rewriting", **given)


def measure(cell: Cell, record: Record) -> dict[str, Any]:
    """Fine-tune one model and grade it on seen and unseen rules by exact match; its adapter stays beside the result.

    The own base model is taken from, or pre-trained into, the store that the record belongs to.
    """
    store = Store(record.folder.parents[2])
    about: dict[str, Any] = {}
    model = cell.model
    if model is None:
        model = str(pretrained(base_for(cell), store).resolve())
        about = {"base_accuracy": (store.result(base_for(cell)) or {})["accuracy_unseen"]}
    training, *asked = exams(cell)
    tuned = tune(training.examples, finetuning(cell, model), record)
    row = about | tuned.about | {"epochs": cell.steps * cell.batch_size / len(training.examples)}
    for name, exam in zip(("seen", "unseen"), asked, strict=True):
        right = torch.tensor(
            qlora.teacher_forced(tuned.model, tuned.tokenizer, exam.examples, batch_size=cell.batch_size)
        )
        kinds = {"op": ~exam.noop, "noop": exam.noop}
        row |= symbolic.graded(name, right, exam.rule, exam.n_rules, kinds)
    return row | {"learned": row["accuracy_seen"] >= LEARNED}


def summarise(frame: "pd.DataFrame") -> dict[str, Any]:
    """Accuracies by number of rules and sampling."""
    rows = []
    dials: Any
    for dials, group in frame.groupby(["n_instructions", "sampling"]):
        n, sampling = dials
        found = symbolic.estimates(group, EXAMS)
        rows.append({"n_instructions": n, "sampling": sampling, "examples": int(group["examples"].iloc[0]), **found})
    base = frame["base_accuracy"].dropna().tolist() if "base_accuracy" in frame else [None]
    return {"cells": rows, "base_accuracy": base[0]}


def chart(frame: "pd.DataFrame", summary: dict[str, Any], published: list[dict[str, Any]]) -> "alt.TopLevelMixin":
    """Whole sets: unseen accuracy against the number of rules, where the rule applies and where it does not."""
    from labkit import show

    curve = [
        {
            "n_instructions": row["n_instructions"],
            **{f"{exam} mean": row[exam] for exam in EXAMS},
            **{f"{exam} ci95": row[f"{exam}_ci95"] for exam in EXAMS},
        }
        for row in summary["cells"]
        if row["sampling"] == "whole"
    ]
    labels = {"unseen_op": "unseen rules that apply", "unseen_noop": "unseen rules, no-ops", "seen": "training rules"}
    return show.growth_chart(
        frame[frame["sampling"] == "whole"],
        curve,
        series=[
            show.Series(label, f"accuracy_{exam}", f"{exam} mean", f"{exam} ci95") for exam, label in labels.items()
        ],
        title=finding(summary),
    )


def halves_chart(
    frame: "pd.DataFrame", summary: dict[str, Any], published: list[dict[str, Any]]
) -> "alt.TopLevelMixin":
    """Whole sets and halves: accuracy on unseen rules that apply."""
    from labkit import show

    drawn = symbolic.families(frame.sort_values("sampling"), "n_instructions", "sampling", "unseen_op")
    return show.growth_chart(
        drawn.frame,
        drawn.curve,
        series=drawn.series,
        y_label="Accuracy on unseen rules that apply (share of test examples)",
        title="Half of the training sequences, taken evenly and unevenly",
    )


def finding(summary: dict[str, Any]) -> str:
    """What the study shows, in one sentence with its intervals."""
    whole = [row for row in summary["cells"] if row["sampling"] == "whole"]
    told = "; ".join(
        f"{row['n_instructions']:,} rules: {interval(row['unseen_op'], row['unseen_op_ci95'])} where the rule applies, "
        f"{interval(row['unseen_noop'], row['unseen_noop_ci95'])} of no-ops"
        for row in (whole if len(whole) < 2 else (whole[0], whole[-1]))
    )
    lazy = sum(row["not_learned"] for row in summary["cells"])
    warning = f" ({lazy} models have not learned their own training rules)" if lazy else ""
    return f"Accuracy on unseen rules after fine-tuning on {told}{warning}"


def compare(summary: dict[str, Any], published: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The published statements beside ours, by accuracy where the rule applies.

    `more`: at the most rules it is higher than at the fewest, the intervals apart. `few`: at the fewest rules no-ops
    are solved (.9) and the others are not (.1). Halves: harm is a loss of more than .05 against the whole set. A
    verdict needs the whole interval on one side, and two seeds.
    """
    cells = {(row["n_instructions"], row["sampling"]): row for row in summary["cells"]}
    whole = [row for (_, sampling), row in cells.items() if sampling == "whole"]
    few, most = whole[0], whole[-1]
    rows = []
    for record in published:
        about = record["about"]
        if about in ("more", "few"):
            used = [few] if about == "few" else [few, most][: len(whole)]
            (low, high), (lowest, highest) = few["unseen_op_ci95"], most["unseen_op_ci95"]
            if about == "more":
                yes, no, tested = lowest > high, highest < low, len(whole) > 1
            else:
                (noop_low, noop_high), tested = few["unseen_noop_ci95"], True
                yes, no = high < NOT_SOLVED and noop_low >= SOLVED, low >= NOT_SOLVED or noop_high < SOLVED
        else:
            used = [row for (_, sampling), row in cells.items() if sampling == about]
            limits = [cells[row["n_instructions"], "whole"]["unseen_op"] - HARM for row in used]
            harmed = [row["unseen_op_ci95"][1] < limit for row, limit in zip(used, limits, strict=True)]
            spared = [row["unseen_op_ci95"][0] >= limit for row, limit in zip(used, limits, strict=True)]
            yes, no = (all(spared), any(harmed)) if about == "even half" else (any(harmed), all(spared))
            tested = bool(used)
        alone = any(row["seeds"] < 2 for row in used)
        told = "; ".join(
            f"{row['n_instructions']:,} rules, {row['sampling']}: {interval(row['unseen_op'], row['unseen_op_ci95'])}, "
            f"no-ops {row['unseen_noop']:.3f}"
            for row in used
        )
        agrees = "not tested here" if not tested else "not decided" if alone else "yes" if yes else "no" if no else ""
        rows.append(
            {
                "published": record["statement"],
                "ours": told or "not tried",
                "agrees": agrees or "not decided",
                "source": f"{record['source']}, {record['figure']}",
            }
        )
    return rows


def summary_table(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """A row a number of rules and sampling."""
    return [
        {
            "rules": row["n_instructions"],
            "training set": f"{row['sampling']}, {row['examples']:,}",
            "unseen, rule applies [95 %]": interval(row["unseen_op"], row["unseen_op_ci95"]),
            "unseen, no-ops [95 %]": interval(row["unseen_noop"], row["unseen_noop_ci95"]),
            "seen accuracy [95 %]": interval(row["seen"], row["seen_ci95"]),
            "seeds": row["seeds"],
            "not learned": row["not_learned"],
            "interval over": row["interval_over"],
        }
        for row in summary["cells"]
    ]


def describe(row: dict[str, Any]) -> str:
    """A row in a few words."""
    return (
        f"I={row['n_instructions']} {row['sampling']} seed={row['seed']}: unseen op {row['accuracy_unseen_op']:.3f}, "
        f"no-op {row['accuracy_unseen_noop']:.3f}, seen {row['accuracy_seen']:.3f}, {row['train_seconds']:.0f} s"
    )


def notes(params: Params) -> list[str]:
    """What was decided for the person."""
    drawn = params.steps * params.batch_size
    short = [f"{params.steps} steps of {params.batch_size} draw {drawn} sequences, fewer than budget = {params.budget}"]
    own = "the lab's own base model, pre-trained on plain rewriting and kept in the store"
    model = own if params.model is None else f"'{params.model}', told rule and key in words"
    return [f"fine-tuned is {model}"] + short * (drawn < params.budget)


STUDY = Study(
    name=NAME,
    question="How many rules must fine-tuning hold, before a pre-trained model follows unseen ones in a new task?",
    paper="Zhang, Wang and Charton 2024: arXiv 2402.10891 (Fig. 5)",
    minutes={
        "smoke": "under 2 minutes",
        "laptop": "10 to 13 minutes on two cores, pre-training included",
        "qlora": "a day of a GPU (estimated, not run)",
        "paper": "days of a GPU (estimated, not run)",
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
    figures={"Half of the training sequences, taken evenly and unevenly.": halves_chart},
)
