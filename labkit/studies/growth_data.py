"""What the study of ability growth teaches and tests: training examples of two sources, and an exam with two graders.

*Sources.* Curated examples are drawn from the family: right, of all its instructions and wordings. Synthetic ones come
from an imperfect teacher (`instructions.imperfect`): some wrong, few instructions, one wording each. Both are balanced
over abilities alike; of one seed a smaller set is the beginning of a larger one. Curated questions are all different.

*Exam.* For each ability so many different questions on held-out instructions, other ones for each seed (so that what
is said of a recipe does not hang on one draw of questions), the same ones for all models of a seed. Two graders:

    likelihood  closed: the option with the highest log-likelihood (chance 1 / options);
                open: the right answer has a lower perplexity a token than two distractors (chance 1 / 3)
    generated   closed: the option that the written answer names, by text or letter (chance 1 / options);
                open: the oracle accepts it (no chance)

Guaranteed: no training set holds an instruction of an exam, whatever the seeds; exactly one option of every question is
right by the oracle; how many different examples an ability has is found out before anything is trained.
Left open: code that is written is graded by its text, so that a program in other words counts as wrong (its unit tests
take longer than its training); texts that do not fit into a sequence are passed over, distractors too.
"""

from collections.abc import Sequence
from functools import lru_cache
from random import Random
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from labkit import learn
from labkit.errors import BadRequest, unknown
from labkit.grade import choice
from labkit.instructions.families import EVERY
from labkit.instructions.family import Family, Split, Task, draw
from labkit.instructions.imperfect import Teacher, draw_imperfect
from labkit.studies import language

SOURCES = ("curated", "synthetic")
GRADINGS = ("likelihood", "generated")
OPTIONS = 9  # more than any question has
DISTRACTORS = 2  # that the right answer to an open question is ranked against
GENERATED = 512  # questions answered at once
_TRIES = 40


class Reading(NamedTuple):
    """How a model reads: whose texts make the vocabulary, and the most pieces of questions and answers."""

    abilities: tuple[str, ...]
    question: int
    answer: int

    def layout(self) -> learn.TextLayout:
        return learn.TextLayout(language.vocabulary(self.abilities), self.question, self.answer)


def family(name: str) -> Family:
    """The ability of that name, with what grades it.

    Raises:
        BadRequest: for an unknown one, or one without a grader.
    """
    if name not in EVERY:
        raise unknown("ability", name, EVERY)
    found = EVERY[name]
    if type(found).wrong is Family.wrong and type(found).options is Family.options:
        raise BadRequest(f"the ability '{name}' has no grader: neither options nor wrong answers to rank against")
    return found


@lru_cache(maxsize=64)
def different(name: str, n: int, split: Split, levels: tuple[int, ...], seed: int, reading: Reading) -> list[Task]:
    """`n` tasks of an ability that fit into a sequence and ask different questions; the first k of n are those of k.

    Raises:
        BadRequest: when there are fewer; says how many.
    """
    layout, count = reading.layout(), n + n // 8 + 8
    while True:
        found: dict[str, Task] = {}
        for task in draw(family(name), count, split=split, levels=levels, seed=seed):
            question = language.question_of(task)
            if question not in found and layout.fits(question, task.example.output):
                found[question] = task
        if len(found) >= n:
            return list(found.values())[:n]
        if count > _TRIES * n:
            raise BadRequest(
                f"'{name}' has only {len(found):,} different {split} examples of levels {list(levels)} that fit into "
                f"{reading.question} and {reading.answer} pieces; {n:,} are asked"
            )
        count *= 2


def training(
    name: str, n: int, levels: tuple[int, ...], seed: int, reading: Reading, teacher: Teacher | None = None
) -> list[Task]:
    """`n` training tasks of an ability, curated, or by a teacher."""
    if teacher is None:
        return different(name, n, "train", levels, seed, reading)
    layout, count = reading.layout(), n + n // 8 + 8
    while True:
        tasks = draw_imperfect(family(name), count, teacher, levels=levels, seed=seed)
        found = [task for task in tasks if layout.fits(language.question_of(task), task.example.output)][:n]
        if len(found) == n:
            return found
        if count > _TRIES * n:
            raise BadRequest(f"'{name}': what the teacher asks for does not fit into {reading.question} pieces")
        count *= 2


class Question(NamedTuple):
    """A task as it is examined: what may be answered (the right one among it), and whether these are all choices."""

    task: Task
    answers: tuple[str, ...]
    right: int
    closed: bool


def question(task: Task, rng: Random, layout: learn.TextLayout) -> Question:
    """The task with its options, or with distractors that fit into a sequence.

    Raises:
        BadRequest: where not exactly one of the answers is right, or distractors are too few.
    """
    example, of = task.example, EVERY[task.example.source]
    if options := of.options(task.instruction, example.input):
        right = choice.gold_index([[of.accepts(task.instruction, example.input, one) for one in options]])
        return Question(task, options, int(right[0]), True)
    found = {example.output: None}
    for _ in range(_TRIES):
        for one in of.distractors(task.instruction, example.input, rng, DISTRACTORS):
            if len(found) <= DISTRACTORS and layout.fits("", one):
                found[one] = None
        if len(found) > DISTRACTORS:
            return Question(task, tuple(found), 0, False)
    raise BadRequest(f"'{example.source}' has no {DISTRACTORS} wrong answers that fit, to {example.instruction!r}")


class Exam:
    """Questions of several abilities, `n` of each, and the two graders.

    Attributes:
        abilities: In order.
        questions: Those of the first ability, then those of the second, and so on.
        n: Of each.
    """

    def __init__(
        self, abilities: tuple[str, ...], n: int, levels: tuple[int, ...], seed: int, reading: Reading
    ) -> None:
        self.abilities, self.n, self.layout = abilities, n, reading.layout()
        rng = Random(f"exam {seed}")
        tasks = [task for name in abilities for task in different(name, n, "test", levels, seed, reading)]
        self.questions = [question(task, rng, self.layout) for task in tasks]
        self.closed = np.array([one.closed for one in self.questions])
        self.right = np.array([one.right for one in self.questions])
        self._asked = [language.question_of(task) for task in tasks]
        self._prompts = torch.from_numpy(np.concatenate([self.layout.prompt((text,)) for text in self._asked])).long()
        self._place = np.full((len(tasks), max(len(one.answers) for one in self.questions)), -1)
        pairs = [(i, k, text) for i, one in enumerate(self.questions) for k, text in enumerate(one.answers)]
        for number, (i, k, _) in enumerate(pairs):
            self._place[i, k] = number
        self._pairs = self.layout.encode([self._asked[i] for i, _, _ in pairs], [text for *_, text in pairs])
        parts = [self.questions[i * n : (i + 1) * n] for i in range(len(abilities))]
        keys = [list(dict.fromkeys(one.task.instruction.key for one in part)) for part in parts]
        self.instructions = [len(some) for some in keys]
        self.instruction = np.array(
            [some.index(one.task.instruction.key) for some, part in zip(keys, parts, strict=True) for one in part]
        )

    def write(self, model: nn.Module, device: str = "cpu") -> list[str]:
        """Greedy answers to all questions."""
        found: list[list[int]] = []
        for start in range(0, len(self._prompts), GENERATED):
            some = self._prompts[start : start + GENERATED].to(device)
            found += learn.generate(model, some, self.layout.answer, self.layout.end).tolist()
        return [self.layout.text(row) for row in found]

    def grade(self, model: nn.Module, device: str = "cpu") -> "Graded":
        """Both verdicts on every question."""
        found = learn.log_likelihood(model, self._pairs, device=device)
        there = self._place >= 0
        total = np.where(there, found.total.numpy()[self._place], np.nan)
        tokens = np.where(there, found.tokens.numpy()[self._place], 1)
        best = np.where(self.closed, choice.pick(total), choice.pick(total, tokens))
        written = [accepted(one, text) for one, text in zip(self.questions, self.write(model, device), strict=True)]
        own = np.arange(len(total)), self.right
        verdicts = {"likelihood": best == self.right, "generated": np.array(written)}
        return Graded(self, verdicts, -total[own], tokens[own])

    def chances(self, grading: str, which: slice) -> float:
        """The chance level of some questions."""
        free = 0 if grading == "generated" else 1 + DISTRACTORS
        return choice.chance_level([len(one.answers) if one.closed else free for one in self.questions[which]])


def accepted(asked: Question, text: str) -> bool:
    """Is a written answer right: does it name the right option, or does the oracle accept it?"""
    of, example = EVERY[asked.task.example.source], asked.task.example
    if of.accepts(asked.task.instruction, example.input, text):
        return True
    final = of.final(text)  # an answer that is an option's text is that option, also where the text is a letter
    return asked.closed and final not in asked.answers and choice.named_option(final, asked.answers) == asked.right


@lru_cache(maxsize=4)
def exam(abilities: tuple[str, ...], n: int, levels: tuple[int, ...], seed: int, reading: Reading) -> Exam:
    """The exam of a seed; a process keeps a few."""
    return Exam(abilities, n, levels, seed, reading)


class Graded(NamedTuple):
    """What became of an exam: verdicts bool [N] by grading; of the right answers, minus log-likelihood and tokens."""

    exam: Exam
    verdicts: dict[str, NDArray[np.bool_]]
    nats: NDArray[np.float64]
    tokens: NDArray[np.int64]

    def columns(self) -> dict[str, dict[str, Any]]:
        """For each ability what its columns of a row hold at this rung, by the end of their names."""
        found: dict[str, dict[str, Any]] = {}
        for number, ability in enumerate(self.exam.abilities):
            which = slice(number * self.exam.n, (number + 1) * self.exam.n)
            of, many = self.exam.instruction[which], self.exam.instructions[number]
            asked = np.bincount(of, minlength=many)
            row: dict[str, Any] = {
                "gold_nats": np.bincount(of, self.nats[which], many).round(3).tolist(),
                "gold_nats_tokens": np.bincount(of, self.tokens[which], many).astype(int).tolist(),
            }
            for grading, verdicts in self.verdicts.items():
                row |= {
                    f"{grading}_right": np.bincount(of[verdicts[which]], minlength=many).tolist(),
                    f"{grading}_asked": asked.tolist(),
                    f"{grading}_chance": self.exam.chances(grading, which),
                    f"accuracy_{grading}": float(verdicts[which].mean()),
                }
            found[ability] = row
        return found


def rows(rungs: Sequence[Graded]) -> dict[str, Any]:
    """The columns of a run that was graded at several rungs: right answers [R][I], all else of the last (or of all)."""
    parts, row = [graded.columns() for graded in rungs], dict[str, Any]()
    for ability, last in parts[-1].items():
        for name, value in last.items():
            if name.startswith("accuracy_"):
                row[f"accuracy_{ability}_{name.removeprefix('accuracy_')}"] = value
            elif name.endswith("_right") or name == "gold_nats":
                row[f"{ability}_{name}"] = [part[ability][name] for part in parts]
            else:
                row[f"{ability}_{name}"] = value
    return row
