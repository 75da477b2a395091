"""The lab's own base model: a small Llama pre-trained on plain rewriting, in minutes, kept in the store.

It is a point like any other (`Base`), so that equal settings are trained once, whoever asks first, two processes wait
for one another, and a killed run leaves nothing half-written (it starts again: minutes are lost, not hours). Its folder
is a whole Hugging Face model with tokenizer and model card beside the store's own files.

Every training example is new: rules with and without no-ops as `noop_share` says, x once in the input. Rules are drawn
under `RULES_SEED`, as those of `labkit.studies.encrypted_rewriting` are, so that test rules of either share no x and no
y with any rule that the base model was pre-trained on.
"""

import shutil
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, ValidationError, model_validator

from labkit import grade, learn
from labkit.errors import BadRequest, check_known
from labkit.instructions import Inputs, RewritingTask, Rules, draw_inputs, draw_rules
from labkit.instructions.rewriting import Split
from labkit.lab import Record, Row, Store, write_text
from labkit.learn import llama
from labkit.learn.learner import SmallLearner
from labkit.learn.memory import check_training_memory
from labkit.studies.cell import Cell, measure
from labkit.studies.lesson import Exam, Lesson
from labkit.studies.params import sentence
from labkit.studies.rewriting import spread
from labkit.studies.rows import GRADED, key_of
from labkit.studies.views import interval

RULES_SEED = 0
POOL = 200_000  # rules that fine-tuning picks from; fewer where there are fewer


class Base(Cell):
    """What a base model depends on, and how it is made."""

    study: Literal["base_model"] = "base_model"
    version: Literal[2] = 2
    recipe_version: int = llama.VERSION
    precision: str = Field(default_factory=lambda: learn.precision_name(learn.best_device()))
    alphabet: str = "abcdefghijklmnopqrstuvwxyz"
    pattern_length: int = Field(default=3, ge=1, le=10000)
    input_length: int = Field(default=8, ge=1, le=10000)
    noop_share: float = Field(default=0.4, ge=0, lt=1)
    rules: int = Field(default=20_000, ge=1, le=10_000_000)
    layers: int = Field(default=4, ge=1, le=48)
    width: int = Field(default=64, ge=2, le=16384)
    heads: int = Field(default=4, ge=1, le=1024)
    expansion: int = Field(default=llama.EXPANSION, ge=1, le=64)
    steps: int = Field(default=1200, ge=1, le=1_000_000_000)
    batch_size: int = Field(default=64, ge=1, le=1_000_000)
    learning_rate: float = Field(default=llama.LEARNING_RATE, gt=0, le=1000)
    test_rules: int = Field(default=500, ge=2, le=10_000_000)
    n_test: int = Field(default=1000, ge=2, le=10_000_000)
    seed: int = Field(default=0, ge=0, lt=2**32)

    @model_validator(mode="after")
    def _together(self) -> "Base":
        if self.width % (2 * self.heads):
            raise BadRequest(f"width = {self.width} must be an even number of each of heads = {self.heads}")
        learn.rewriting_layout(self.task)
        capacity = self.task.capacity
        there_are = {"rules": capacity("train", RULES_SEED), "test_rules": capacity("test", RULES_SEED)}
        for name, there in there_are.items():
            if (wanted := getattr(self, name)) > there:
                raise BadRequest(f"{name} = {wanted}, but there are {there} such rules")
        return self

    @property
    def task(self) -> RewritingTask:
        return RewritingTask(self.pattern_length, self.input_length, 1, self.noop_share, self.alphabet)

    def lesson(self) -> Lesson:
        """Plain rewriting, every example new, and an exam on unseen rules."""
        rules = draw_rules(self.task, self.rules, seed=RULES_SEED)
        unseen = draw_rules(self.task, self.test_rules, seed=RULES_SEED, split="test")
        data = _exam(self.task, rules, self.steps * self.batch_size, self.seed, 0).data
        return Lesson(data, {"unseen": _exam(self.task, unseen, self.n_test, self.seed, 1)})

    def layout(self) -> learn.Layout:
        return learn.rewriting_layout(self.task)

    def model_shape(self) -> learn.Shape:
        """An end mark follows each answer, and one symbol is spare."""
        symbols, length = len(self.layout().vocabulary) + 2, self.layout().length + 1
        return learn.Shape(symbols, length, self.layers, self.width, self.heads, self.expansion)

    def learner(self, record: Record) -> SmallLearner:
        shape, layout = self.model_shape(), self.layout()
        return _Exported("llama", shape, layout, seed=self.seed, batch=self.batch_size, rate=self.learning_rate)

    def measured(self, record: Record) -> Row:
        row = super().measured(record)
        write_text(record.folder / "README.md", _card(self, row))
        return row


class _Exported(SmallLearner):
    """A Llama that is kept as a Hugging Face folder."""

    def save(self, folder: Path) -> None:
        assert isinstance(self.model, llama.Llama)
        assert isinstance(self.layout, learn.Layout)
        llama.export(self.model.cpu(), self.layout.vocabulary + llama.PAD, folder)
        self.model.to(self.device)


def pool(task: RewritingTask, split: Split) -> int:
    """How many rules of a split there are to pick from."""
    return min(POOL, task.capacity(split, RULES_SEED))


def check_pool(task: RewritingTask, split: Split, **wanted: int) -> None:
    """BadRequest for more rules than there are to pick from; `wanted` names who asks."""
    for name, n in wanted.items():
        if n > pool(task, split):
            raise BadRequest(f"{name} = {n} is more than the {pool(task, split)} rules to choose from")


def picked(task: RewritingTask, n: int, split: Split, seed: int) -> Rules:
    """A seed's own n rules of the pool; test rules share no side with what a base model was pre-trained on."""
    drawn = draw_rules(task, pool(task, split), seed=RULES_SEED, split=split)
    which = np.random.default_rng(seed).choice(len(drawn), n, replace=False)
    return Rules(drawn.x[which], drawn.y[which], drawn.alphabet)


def base_of(given: dict[str, Any]) -> Base:
    """The base model of some settings; the others keep their defaults.

    Raises:
        BadRequest: for an unknown setting, a value out of range, or a model that this machine's memory cannot train.
    """
    allowed = [name for name in Base.model_fields if name not in ("study", "version", "recipe_version", "precision")]
    check_known("setting of the base model", given, allowed)
    try:
        base = Base(**given)
    except ValidationError as error:
        raise BadRequest(sentence(error)) from None
    check_training_memory("the base model", "llama", base.model_shape(), base.batch_size, base.layout().answer + 1)
    return base


def pretrain_into(base: Base, out: Path, store: Store) -> str:
    """A copy of the base model in `out`; returns its card. Where it lies there already, nothing is done.

    Raises:
        BadRequest: when `out` holds anything else.
    """
    if out.exists() and not out.is_dir():
        raise BadRequest(f"{out} is a file: name an empty or a new folder for the base model")
    if out.exists() and any(out.iterdir()):
        try:
            there = Base.model_validate_json((out / "point.json").read_text("utf-8"))
        except (OSError, ValueError):
            there = None
        if there != base:
            raise BadRequest(f"{out} holds something other than this base model: name an empty folder")
    else:
        store.measure(base, measure)
        folder, partial = store.folder(base), out.with_name(f".tmp-{out.name}")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(folder, partial)
        if out.exists():
            out.rmdir()
        partial.rename(out)
    return (out / "README.md").read_text("utf-8")


def _exam(task: RewritingTask, rules: Rules, n: int, seed: int, stream: int) -> Exam:
    """So many examples of plain rewriting in the notation of the base model."""
    index = spread(np.arange(len(rules)), n)
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(stream,)))
    inputs = draw_inputs(task, rules, index, seed=rng)
    return Exam(encode_ended(task, rules, inputs), index, len(rules), {"op": ~inputs.noop, "noop": inputs.noop})


def encode_ended(task: RewritingTask, rules: Rules, inputs: Inputs) -> learn.Encoded:
    """`learn.encode_rewriting` with an end mark after each answer: uint8 [N, 2p + 2n + 4]."""
    plain = learn.encode_rewriting(task, rules, inputs)
    ends = np.full((len(plain.tokens), 1), len(plain.vocabulary), np.uint8)
    return learn.Encoded(np.hstack([plain.tokens, ends]), plain.answer_length + 1, [*plain.vocabulary, llama.PAD])


def _card(base: Base, row: dict[str, Any]) -> str:
    """The model card."""

    graded = {key_of(line): grade.cluster_bootstrap(line["right"], line["asked"]) for line in row[GRADED]}

    def accuracy_of(exam: str) -> str:
        found = graded.get(exam)
        return interval(found.mean, found.lo, found.hi) if found else "not asked"

    settings = "\n".join(f"- {name}: {value}" for name, value in base.model_dump(mode="json").items())
    return f"""---
license: mit
library_name: transformers
---
# A base model for string rewriting

A Llama of {row["parameters"]:,} parameters, pre-trained by labkit on {row["tokens"]:,} tokens of plain string
rewriting: `x|y|z=` is answered by z with its leftmost x replaced by y (z itself where x does not occur), and
`{llama.PAD}` at the end. It knows nothing else. Load it with `AutoModelForCausalLM` and `AutoTokenizer`.

Accuracy on {base.test_rules} rules never seen, whole answers, 95 % intervals over rules:
{accuracy_of("unseen")}; where x occurs {accuracy_of("unseen:op")}, no-ops {accuracy_of("unseen:noop")}.

{settings}

MIT licence, weights included.
"""
