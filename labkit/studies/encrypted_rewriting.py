"""Encrypted rewriting: how many rules must fine-tuning data hold, when the model was pre-trained before?

A model is fine-tuned by QLoRA on rewriting whose result is encrypted (`labkit.instructions.encrypted`), with a fixed
number of training sequences spread over more or fewer rules, and graded on unseen rules: where the rule applies
(`op`) and where it does not (`noop`), apart. At laptop scale the model is the lab's own, pre-trained on plain
rewriting (`labkit.studies.base_model`): it can rewrite and has never seen the cipher, whose key is told nowhere. With
`model`, any Hugging Face model (at `real` scale SmolLM2); it is told rule and key in words, letters apart.

*Sub-sampling to half*, as read here: half as many training sequences of the same rules, at equal optimiser steps.
`even half`: every rule has half as many. `uneven half`: the same number follows a power law over the rules, each with
one at least (`labkit.design.long_tail`, exponent `exponent`). How uneven the paper's own is, is not known here.

Rules of all seeds are picked from one pool, whose test rules share no x and no y with any training rule, of fine-tuning
or of pre-training.

Source: Zhang, Wang, Charton, arXiv 2402.10891, Figure 5.
"""

from collections.abc import Sequence
from itertools import product
from operator import methodcaller
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, model_validator

from labkit import learn
from labkit.design import allocate, allocate_long_tail
from labkit.instructions import RewritingTask, Rules
from labkit.instructions.encrypted import EncryptedTask, draw_encrypted, encrypted_examples
from labkit.lab import Point, Record, Row
from labkit.learn import embedded, finetuning
from labkit.learn.learner import TunedLearner
from labkit.studies import cell as study_cell
from labkit.studies import harness
from labkit.studies.base_model import Base, base_of, check_pool, picked
from labkit.studies.lesson import Exam, Lesson
from labkit.studies.params import SeedParams, about, check_asked, check_counts
from labkit.studies.rewriting import SEEN, TRAINING, UNSEEN, spread
from labkit.studies.study import Results, Study
from labkit.studies.views import Curve, ranged

LEARNED = 0.9  # seen accuracy from which a run counts as having learned; the base model itself is right on about .95
OWN_BASE = "lab"
Sampling = Literal["whole", "even half", "uneven half"]

# The lab's own base is small: LoRA's usual regularisation, made for models of another size, is off. At twice the
# learning rate and above, some seeds forget rewriting and have not found it again when training ends.
OWN: dict[str, Any] = {"dropout": 0.0, "schedule": "linear", "warmup_ratio": 0.05, "max_grad_norm": 1.0}
OWN |= {"gradient_checkpointing": False}


class Dials(BaseModel):
    """What parameters and cells share."""

    exponent: float = Field(gt=0, le=1000, description="of the power law of the uneven half; the smaller the less even")
    model: str = Field(description="a Hugging Face id or path; lab: the lab's own base model, pre-trained here")
    quantisation: Literal["nf4", "int8", "none"] = Field(description="of the frozen base model")
    rank: int = Field(ge=1, le=65536, description="LoRA's r")
    alpha: float = Field(gt=0, le=1e6, description="LoRA's alpha")
    learning_rate: float = Field(gt=0, le=1000, description="of the adapters")
    steps: int = Field(ge=1, le=1000000000, description="optimiser steps of fine-tuning")
    batch_size: int = Field(ge=1, le=1000000, description="examples per step")
    budget: int = Field(ge=2, le=100000000, description="training sequences of a whole set")
    noop_share: float = Field(gt=0, lt=1, description="share of inputs in which x does not occur")
    alphabet: str = Field(description="the symbols of patterns and inputs")
    pattern_length: int = Field(ge=1, le=10000, description="symbols in x, and in y")
    input_length: int = Field(ge=1, le=10000, description="symbols in the input z, and in the answer")
    shift: int = Field(ge=1, description="the key: places that every letter of the result moves on")
    test_rules: int = Field(ge=2, le=10000000, description="unseen rules to grade on")
    n_test: int = Field(ge=2, le=10000000, description="graded examples, for each exam")


class Params(Dials, SeedParams):
    """What a person may set; see `catalogue.yaml` for the values each scale gives."""

    groups: ClassVar = {
        "task": ("alphabet", "pattern_length", "input_length", "shift", "noop_share", "budget", "test_rules", "n_test"),
        "tuning": ("quantisation", "rank", "alpha", "learning_rate", "steps", "batch_size"),
        "base": ("base_layers", "base_width", "base_heads", "base_rules", "base_steps"),
    }
    n_instructions: list[int] = Field(min_length=1, description="numbers of training rules I")
    base_layers: int = Field(description="blocks of the lab's own base model")
    base_width: int = Field(description="its width")
    base_heads: int = Field(description="its attention heads")
    base_rules: int = Field(description="rules of its pre-training")
    base_steps: int = Field(description="steps of its pre-training")
    halved: list[int] = Field(description="numbers of rules at which the training set is also halved, in two ways")

    @model_validator(mode="after")
    def _together(self) -> "Params":
        if self.model == OWN_BASE:
            base_for(self)
        task = task_of(self).rewriting
        check_pool(task, "train", n_instructions=max(self.n_instructions + self.halved))
        check_pool(task, "test", test_rules=self.test_rules)
        check_asked(self.n_test, test_rules=self.test_rules)
        check_counts("n_instructions", self.n_instructions + self.halved, self.budget)
        for n, sampling in _sets(self):
            _counts(self.budget, n, sampling, self.exponent)
        return self


class Cell(Dials, study_cell.Cell):
    """One fine-tuned model: everything its result depends on.

    Attributes:
        bases: The lab's own base model that is fine-tuned; none where `model` names another.
        tuning: What the study sets of `learn.finetuning.Finetuning` beside its dials.
        words: Whether rule and key are told in words.
    """

    study: Literal["encrypted_rewriting"] = "encrypted_rewriting"
    version: Literal[2] = 2
    precision: str
    seed: int
    n_instructions: int
    sampling: Sampling
    bases: tuple[Base, ...] = ()
    tuning: dict[str, Any]
    words: bool = True

    def needs(self) -> Sequence[Point]:
        return self.bases

    def learner(self, record: Record) -> TunedLearner:
        (model, *_) = [*(str(record.folder_of(base).resolve()) for base in self.bases), self.model]
        names = ("quantisation", "rank", "alpha", "learning_rate", "batch_size", "steps", "seed")
        given = {name: getattr(self, name) for name in names} | self.tuning
        return TunedLearner(finetuning.settings(model, "encrypted_rewriting", **given), say=record.note)

    def lesson(self) -> Lesson:
        """Encrypted rewriting of the cell's own rules, and exams on them and on unseen ones."""
        task = task_of(self)
        rules = picked(task.rewriting, self.n_instructions, "train", self.seed)
        unseen = picked(task.rewriting, self.test_rules, "test", self.seed)
        counts = _counts(self.budget, self.n_instructions, self.sampling, self.exponent)
        asked = np.arange(self.n_instructions)

        def draw(rules: Rules, index: NDArray[np.int64], stream: int) -> Exam:
            rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(stream,)))
            inputs = draw_encrypted(task, rules, index, seed=rng)
            examples = list(encrypted_examples(task, rules, inputs, words=self.words))
            return Exam(examples, index, len(rules), {"op": ~inputs.noop, "noop": inputs.noop})

        exams = {"seen": draw(rules, spread(asked, self.n_test), SEEN)}
        exams["unseen"] = draw(unseen, spread(np.arange(self.test_rules), self.n_test), UNSEEN)
        return Lesson(draw(rules, np.repeat(asked, counts), TRAINING).data, exams, {"examples": int(counts.sum())})

    def measured(self, record: Record) -> Row:
        bases = {"base_accuracy": record.row_of(self.bases[0])["accuracy_unseen"]} if self.bases else {}
        return harness.train_and_grade(self, record, LEARNED) | bases


def task_of(settings: "Dials") -> EncryptedTask:
    """The task of parameters or of a cell; BadRequest for settings that contradict each other."""
    rewriting = RewritingTask(settings.pattern_length, settings.input_length, 1, settings.noop_share, settings.alphabet)
    return EncryptedTask(rewriting, settings.shift)


def base_for(params: "Params") -> Base:
    """The lab's own base model for these parameters; BadRequest as `base_of`."""
    shared = {name: getattr(params, name) for name in ("alphabet", "pattern_length", "input_length", "noop_share")}
    own = {name: getattr(params, f"base_{name}") for name in ("layers", "width", "heads", "rules", "steps")}
    return base_of({**shared, **own, "test_rules": params.test_rules, "n_test": params.n_test})


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


def points(params: Params) -> Sequence[Cell]:
    """A cell for each training set and seed; seeds outermost, most rules first."""
    shared = {name: value for name, value in params if name in Cell.model_fields}
    shared |= {"precision": learn.precision_name(learn.best_device()), "tuning": embedded.pins(params.model)}
    if params.model == OWN_BASE:
        length = 2 * (params.pattern_length + params.input_length) + 4
        tuning = {**OWN, "max_length": length, "save_every": params.steps}
        shared |= {"bases": (base_for(params),), "tuning": tuning, "words": False}
    sets = product(params.seeds, reversed(_sets(params)))
    return [Cell(**{**shared, "seed": seed, "n_instructions": n, "sampling": part}) for seed, (n, part) in sets]


EXAMS = {"unseen:op": "unseen rules that apply", "unseen:noop": "unseen rules, no-ops"}
in_order = methodcaller("sort_values", "sampling", kind="stable")  # even half, uneven half, whole
RULES: Any = {"x": "n_instructions", "x_label": "Number of training rules"}
RULES |= {"beside": {"examples": "training sequences"}}
VIEWS = {
    "rules": Curve(
        title="Accuracy on unseen rules, by the number of training rules", exams=EXAMS | {"seen": "training rules"},
        where=lambda rows: rows["sampling"] == "whole", **RULES,
    ),
    "halves": Curve(
        title="Half of the training sequences, taken evenly and unevenly", exams=EXAMS, by="sampling",
        by_name="training set", **RULES,
    ),
}  # fmt: skip


def finding(results: Results) -> str:
    """What the study shows, in one sentence with its intervals."""
    pairs = list(zip(*(results["rules"].lines(f"unseen:{kind}") for kind in ("op", "noop")), strict=True))
    parts = "; ".join(
        f"{op['n_instructions']:,} rules: {ranged(op)} where the rule applies, {ranged(noop)} of no-ops"
        for op, noop in pairs[:: max(1, len(pairs) - 1)]  # the fewest rules and the most
    )
    return f"Accuracy on unseen rules after fine-tuning on {parts}"


def notes(params: Params) -> list[str]:
    """What was decided for the person."""
    drawn = params.steps * params.batch_size
    short = [f"{params.steps} steps of {params.batch_size} draw {drawn} sequences, fewer than budget = {params.budget}"]
    own = "the lab's own base model, pre-trained on plain rewriting and kept in the store"
    model = own if params.model == OWN_BASE else f"'{params.model}', told rule and key in words"
    return [f"fine-tuned is {model}"] + short * (drawn < params.budget)


STUDY = Study(
    **about("encrypted_rewriting"), Params=Params, points=points,
    dials={"n_instructions": "rules", "sampling": "sampling"}, views=VIEWS, finding=finding, notes=notes,
    columns=in_order, measure_many=None,
)  # fmt: skip
