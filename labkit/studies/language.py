"""What the studies share whose small models learn several instruction families at once, as text.

The vocabulary is made from a fixed draw of the families that a study reads and written into the cell as a digest, so
that an address changes with it. Exams ask for training instructions (`seen`) or for those that no training set of any
seed holds.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from hashlib import sha256
from itertools import chain, islice
from random import Random
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from labkit import learn
from labkit.errors import BadRequest
from labkit.grade import sandbox
from labkit.instructions import Example, functions
from labkit.instructions.families import EVERY, READABLE
from labkit.instructions.families import FAMILIES as GENERAL
from labkit.instructions.family import LEVELS, Split, Task, draw, drawn
from labkit.instructions.functions import FUNCTIONS
from labkit.studies.lesson import Exam, Judge
from labkit.studies.params import MODEL, ModelParams

FAMILIES = (*GENERAL, FUNCTIONS.name)  # what a study reads unless it says otherwise
LIMITS = sandbox.Limits(cpu_seconds=2, wall_seconds=5)  # of a small function
QUESTION, ANSWER = 40, 48  # the most pieces of each; longer tasks are passed over
TRIES = 80  # times the number wanted that are drawn before a family counts as exhausted
SAMPLE, AT_LEAST = 150, 8  # tasks of each family and level that the vocabulary is made from; a piece's fewest texts

SMALL: dict[str, Any] = {**MODEL, "levels": [1, 2, 3], "steps": 0}


class LanguageParams(ModelParams):
    """What a person may set of any such study."""

    passes: float = Field(gt=0, le=10_000, description="how often a model sees its training set")
    steps: int = Field(ge=0, le=1000000000, description="optimiser steps of a model; 0: as many as the passes take")
    levels: list[Literal[1, 2, 3]] = Field(min_length=1, description="difficulties 1 to 3, in equal parts")


@lru_cache(maxsize=4)
def vocabulary(families: tuple[str, ...] = FAMILIES) -> tuple[str, ...]:
    """The pieces that the families' texts share."""
    tasks = chain.from_iterable(draw(READABLE[name], SAMPLE * len(LEVELS), seed=0) for name in families)
    return learn.pieces((text for task in tasks for text in (question_of(task), task.example.output)), AT_LEAST)


def reading(families: tuple[str, ...] = FAMILIES, question: int = QUESTION, answer: int = ANSWER) -> dict[str, Any]:
    """How a cell's model reads: the most pieces of questions and answers, and a name of the vocabulary."""
    digest = sha256("\0".join(vocabulary(families)).encode()).hexdigest()[:12]
    return {"question": question, "answer": answer, "vocabulary": digest}


class Reading(NamedTuple):
    """How a model reads: whose texts make the vocabulary, and the most pieces of questions and answers."""

    reads: tuple[str, ...]
    question: int
    answer: int

    def layout(self) -> learn.TextLayout:
        return _layout(self)


@lru_cache(maxsize=8)
def _layout(reading: Reading) -> learn.TextLayout:
    return learn.TextLayout(vocabulary(reading.reads), reading.question, reading.answer)


def question_of(task: Task) -> str:
    """The instruction, and below it what it is to be carried out on."""
    return task.example.instruction + (f"\n{task.example.input}" if task.example.input else "")


def tasks(name: str, n: int, split: Split, levels: tuple[int, ...], seed: int, reading: Reading,
          few: int | None = None) -> list[Task]:  # fmt: skip
    """`n` tasks of an ability that fit into a sequence; the first k of n are those of k.

    They ask different questions, or, with `few`, ask for so many different instructions in turn.

    Raises:
        BadRequest: when there are fewer; says how many.
    """
    layout, (drawing, found) = reading.layout(), _drawing(name, split, levels, seed, reading, few)
    for place, one in drawing if len(found) < n else ():
        question = question_of(one)
        if layout.fits(question, one.example.output):
            found.setdefault(place if few else question, one)
        if len(found) == n or place >= TRIES * n:
            break
    if len(found) < n:
        raise BadRequest(
            f"'{name}' has only {len(found):,} different {split} examples of levels {list(levels)} that fit into "
            f"{reading.question} and {reading.answer} pieces; {n:,} are asked"
        )
    return list(islice(found.values(), n))


@lru_cache(maxsize=128)
def _drawing(name: str, split: Split, levels: tuple[int, ...], seed: int, reading: Reading,
             few: int | None) -> tuple[Iterator[tuple[int, Task]], dict[Any, Task]]:  # fmt: skip
    """Tasks by their number, drawn as far as anybody asked, and those found so far that fit into `reading`."""
    return enumerate(drawn(EVERY[name], split=split, levels=levels, seed=seed, n_instructions=few)), {}


def encode(tasks: Sequence[Task], layout: learn.TextLayout) -> learn.Encoded:
    """The tasks as sequences of tokens."""
    return layout.encode([question_of(task) for task in tasks], [task.example.output for task in tasks])


def examples(tasks: Sequence[Task]) -> list[Example]:
    """The tasks as examples to learn from or to be asked."""
    return [task.example for task in tasks]


def exam(tasks: Sequence[Task], judge: Judge | None = None) -> Exam:
    """Tasks to be graded: exactly, or by a judge; their instructions are the clusters, their levels the kinds."""
    keys = {key: number for number, key in enumerate(dict.fromkeys(task.instruction.key for task in tasks))}
    levels = np.array([task.level for task in tasks])
    kinds = {f"level{level}": levels == level for level in sorted(set(levels.tolist()))}
    instruction = np.array([keys[task.instruction.key] for task in tasks])
    return Exam(examples(tasks), instruction, len(keys), kinds if len(kinds) > 1 else {}, judge)


def published(
    numbers: Mapping[tuple[str, int], int], layout: learn.TextLayout, *, wrong: float, seed: int
) -> list[tuple[Example, Task]]:
    """A public set in training order: so many tasks of each family and level, with the answers published for them.

    A share `wrong` of the answers is wrong. Tasks that do not fit into a sequence are passed over.

    Raises:
        BadRequest: when a family has not so many.
    """
    rng, found = Random(f"public {seed}"), list[tuple[Example, Task]]()
    for (name, level), n in numbers.items():
        family = EVERY[name]
        drawn = draw(family, 6 * n, levels=[level], seed=seed)
        tasks = [task for task in drawn if layout.fits(question_of(task), task.example.output)][:n]
        if len(tasks) < n:
            raise BadRequest(f"'{name}' has only {len(tasks)} tasks of level {level} that fit; {n} are asked")
        for task in tasks:
            example = task.example
            if rng.random() < wrong:
                (mistake,) = family.distractors(task.instruction, example.input, rng, 1)
                example = replace(example, output=mistake)
            found.append((example, task))
    rng.shuffle(found)
    return found


def runs(tasks: Sequence[Task], unsafe: bool) -> Judge:
    """A judge of small functions: each answer is run against unit tests; the reference's own text passes unrun."""

    def judge(answers: list[str]) -> Mapping[str, NDArray[np.bool_]]:
        passed = np.array([answer == task.example.output for answer, task in zip(answers, tasks, strict=True)])
        others = np.flatnonzero(~passed)
        programs = [sandbox.Program(answers[i], functions.tests(tasks[i].instruction), "f") for i in others.tolist()]
        outcomes = [verdict.outcome for verdict in sandbox.run(programs, LIMITS, workers=1, unsafe=unsafe)]
        passed[others] = [outcome == "passed" for outcome in outcomes]
        valid = np.ones(len(tasks), np.bool_)
        valid[others] = [outcome != "syntax" for outcome in outcomes]
        return {"": passed, "valid": valid}

    return judge


def taken(tasks: Sequence[Task], answers: Sequence[str]) -> NDArray[np.bool_]:
    """The families' oracles' verdicts on final answers, bool [N]; code by its text."""
    pairs = zip(tasks, answers, strict=True)
    right = [EVERY[one.example.source].accepts(one.instruction, one.example.input, answer) for one, answer in pairs]
    return np.array(right, np.bool_)
