"""What the string-rewriting studies share: their dials, a cell's task, and its lesson of seen and unseen rules."""

from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from labkit import learn
from labkit.errors import BadRequest
from labkit.instructions import RewritingTask, Rule, Rules, decode, draw_inputs, draw_rules
from labkit.studies.cell import ModelCell
from labkit.studies.lesson import Exam, Lesson
from labkit.studies.params import MODEL_GROUP, ModelParams, check_asked

TRAINING, SEEN, UNSEEN = 10, 11, 12  # streams of a seed


class RewritingParams(ModelParams):
    """What a person may set of any rewriting study."""

    groups: ClassVar = {
        "task": ("alphabet", "pattern_length", "input_length", "budget", "test_rules", "n_test"),
        "model": MODEL_GROUP,
    }

    budget: int = Field(ge=1, le=100000000, description="training examples of a model, spread over its rules")
    alphabet: str = Field(description="the symbols of patterns and inputs")
    pattern_length: int = Field(ge=1, le=10000, description="symbols in x, and in y")
    input_length: int = Field(ge=1, le=10000, description="symbols in the input z, and in the answer")
    test_rules: int = Field(ge=2, le=10000000, description="unseen rules to grade on")


class RewritingCell(ModelCell):
    """One model of a rewriting study."""

    n_instructions: int
    budget: int
    alphabet: str
    pattern_length: int
    input_length: int
    occurrences: int | tuple[int, ...]
    noop_share: float
    test_rules: int

    def layout(self) -> learn.Layout:
        return learn.rewriting_layout(task_of(self))


class Settings(Protocol):
    """Whatever names a rewriting task's settings."""

    @property
    def alphabet(self) -> str: ...
    @property
    def pattern_length(self) -> int: ...
    @property
    def input_length(self) -> int: ...


def task_of(
    settings: Settings, occurrences: int | tuple[int, ...] | None = None, noop_share: float | None = None
) -> RewritingTask:
    """The task of a cell or of parameters, or the same with other occurrences or no-ops.

    Raises:
        BadRequest: for settings that contradict each other.
    """
    times = occurrences if occurrences is not None else getattr(settings, "occurrences", 1)
    share = noop_share if noop_share is not None else getattr(settings, "noop_share", 0.0)
    return RewritingTask(settings.pattern_length, settings.input_length, times, share, settings.alphabet)


def simplest(occurrences: int | tuple[int, ...]) -> int | tuple[int, ...]:
    """A mixture of one is no mixture."""
    return occurrences[0] if isinstance(occurrences, tuple) and len(occurrences) == 1 else occurrences


def check_rules(params: RewritingParams, task: RewritingTask, most: int) -> None:
    """Are there so many training rules, and the test rules, under every seed?

    Raises:
        BadRequest: if not; says how many there are.
    """
    learn.rewriting_layout(task)
    check_asked(params.n_test, test_rules=params.test_rules)
    for seed in params.seeds:
        for name, wanted, there in (
            ("n_instructions", most, task.capacity("train", seed)),
            ("test_rules", params.test_rules, task.capacity("test", seed)),
        ):
            if wanted > there:
                raise BadRequest(
                    f"{name} = {wanted} is more than the {there} rules that {len(params.alphabet)} symbols and "
                    f"pattern_length = {params.pattern_length} leave for it (seed {seed})"
                )


def lesson(cell: RewritingCell, counts: NDArray[np.int64], seen: NDArray[np.int64] | None = None) -> Lesson:
    """Training examples, `counts` of each of the seed's first rules, and exams on `seen` and `unseen` rules.

    The seen exam asks the training rules numbered `seen`; by default at most `test_rules` of them, evenly spaced and
    equally often, as the unseen exam does. Both tell inputs in which x occurs (`op`) from those in which it does not
    (`noop`) where there are both.
    """
    task = task_of(cell)
    rules = draw_rules(task, len(counts), seed=cell.seed)
    if seen is None:
        sample = np.linspace(0, len(rules) - 1, min(len(rules), cell.test_rules)).round().astype(np.int64)
        seen = spread(sample, cell.n_test)
    unseen = evenly(cell, draw_rules(task, cell.test_rules, seed=cell.seed, split="test"), UNSEEN)
    data, exams, *_ = taught(cell, rules, counts, seen)
    return Lesson(data, {**exams, "unseen": unseen}, {"examples_per_instruction": cell.budget / cell.n_instructions})


def taught(
    cell: RewritingCell, rules: Rules, counts: NDArray[np.int64], seen: NDArray[np.int64] | None = None
) -> Lesson:
    """`counts` examples of each of some rules, and an exam on those numbered `seen`, by default the first of them."""
    task = task_of(cell)
    if seen is None:
        seen = spread(np.arange(min(len(rules), cell.test_rules)), cell.n_test)
    training = draw_exam(task, rules, np.repeat(np.arange(len(rules)), counts), cell.seed, TRAINING)
    return Lesson(training.data, {"seen": draw_exam(task, rules, seen, cell.seed, SEEN)})


def evenly(cell: RewritingCell, rules: Rules, stream: int, task: RewritingTask | None = None) -> Exam:
    """An exam that asks each of some rules equally often."""
    asked = spread(np.arange(len(rules)), cell.n_test)
    return draw_exam(task or task_of(cell), rules, asked, cell.seed, stream)


def draw_exam(task: RewritingTask, rules: Rules, index: NDArray[np.int64], seed: int, stream: int) -> Exam:
    """One input for each rule number in `index`, from one of the seed's streams."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(stream,)))
    inputs = draw_inputs(task, rules, index, seed=rng)
    kinds = {"op": ~inputs.noop, "noop": inputs.noop} if 0 < task.noop_share < 1 else {}
    return Exam(learn.encode_rewriting(task, rules, inputs), index, len(rules), kinds)


def spread(rules: NDArray[np.int64], n_examples: int) -> NDArray[np.int64]:
    """So many examples over those rules, each as often as any other or once more."""
    return np.resize(rules, n_examples)


def example(params: RewritingParams) -> tuple[learn.Encoded, tuple[Rule, str]]:
    """For a notebook: one training example as the model meets it, and an unseen rule with an input of its own."""
    task, seed = task_of(params), 0
    rules = draw_rules(task, 1, seed=seed)
    unseen = draw_rules(task, 1, seed=seed, split="test")
    one = np.zeros(1, np.int64)
    asked = draw_inputs(task, unseen, one, seed=1)
    shown = learn.encode_rewriting(task, rules, draw_inputs(task, rules, one, seed=0))
    return shown, (unseen.rule(0), decode(asked.z[0], task.alphabet))
