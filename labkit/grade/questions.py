"""Exams of questions with answers to choose from, and two graders of every question.

    likelihood  closed: the option with the highest log-likelihood (chance 1 / options);
                open: the right answer has a lower perplexity per token than the others (chance 1 / answers)
    generated   closed: the option that the written answer names, by text or letter (chance 1 / options);
                open: the written answer is accepted (no chance)

Questions are tasks of the lab's families (`of_task`) or those of published exams (`of_exam`). Guaranteed: exactly one
answer to a task is right by its oracle. Left open: code that is written is graded by its text, so that a program in
other words counts as wrong; of published open questions without a final answer only the very words are right.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np

from labkit.errors import BadRequest
from labkit.grade import choice
from labkit.grade.intervals import Counts
from labkit.grade.naming import named_option
from labkit.instructions import Example, exams
from labkit.instructions.families import EVERY
from labkit.instructions.family import Task
from labkit.learn.learner import Learner

GRADINGS = ("likelihood", "generated")
DISTRACTORS = 2  # that the right answer to an open task is ranked against
TRIES = 40  # times that distractors are drawn before there are none


class Question(NamedTuple):
    """A question.

    Attributes:
        example: Its prompt; the output is what people read as the right answer.
        answers: What may be answered.
        right: Which of them is right.
        closed: Whether these are all choices.
        accepts: Whether a written answer is right.
        cluster: The instruction, or the question itself, that its interval is clustered by.
    """

    example: Example
    answers: tuple[str, ...]
    right: int
    closed: bool
    accepts: Callable[[str], bool]
    cluster: str


class Exam(NamedTuple):
    """Questions of one kind; `about` is what a result should say of them."""

    name: str
    kind: str
    questions: Sequence[Question]
    about: Mapping[str, Any]

    def chance(self, grading: str) -> float:
        """The accuracy of guessing, a mean over the questions."""
        free = grading == "generated"
        return choice.chance_level([0 if free and not q.closed else len(q.answers) for q in self.questions])

    def fitting(self, learner: Learner) -> "Exam":
        """The exam without questions that the model has no room for.

        Raises:
            BadRequest: where none is left.
        """
        room = learner.room_for([q.example for q in self.questions], [q.answers for q in self.questions])
        kept = [question for question, fits in zip(self.questions, room.tolist(), strict=True) if fits]
        if not kept:
            raise BadRequest(f"no question of {self.kind} fits into the positions of the model")
        return self._replace(questions=kept, about={**self.about, "too_long": len(self.questions) - len(kept)})


class Graded(NamedTuple):
    """Right answers to an exam by cluster, in one grading; `about` says by what chance, and what gold costs in nats."""

    exam: Exam
    grading: str
    counts: Counts
    about: dict[str, Any]


def graded(learner: Learner, exams: Sequence[Exam], gradings: Sequence[str], keep: Path) -> list[Graded]:
    """Every question in every grading; written answers are kept in a file."""
    questions = [question for exam in exams for question in exam.questions]
    prompts, gold = [q.example for q in questions], np.array([q.right for q in questions])
    scores = learner.likelihood(prompts, [q.answers for q in questions])
    closed = np.array([q.closed for q in questions])
    verdicts = {"likelihood": np.where(closed, choice.pick(scores.total), choice.pick(*scores)) == gold}
    if "generated" in gradings:
        written = learner.answer(prompts)
        verdicts["generated"] = np.array([q.accepts(text) for q, text in zip(questions, written, strict=True)])
        texts = ({"exam": e.source, "gold": e.output, "answer": a} for e, a in zip(prompts, written, strict=True))
        keep.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in texts), "utf-8")
    nats, tokens = (table[np.arange(len(gold)), gold] for table in (-scores.total, scores.tokens))
    results, end = list[Graded](), 0
    for exam in exams:
        own = slice(end, end + len(exam.questions))  # the exams lie one after the other in every array
        end = own.stop
        keys = list(dict.fromkeys(question.cluster for question in exam.questions))
        cluster = np.array([keys.index(question.cluster) for question in exam.questions])
        costs = {
            "nats": np.bincount(cluster, nats[own]).round(3).tolist(),
            "nats_tokens": np.bincount(cluster, tokens[own]).astype(int).tolist(),
        }
        for grading, right in verdicts.items():
            counts = Counts(np.bincount(cluster[right[own]], minlength=len(keys)), np.bincount(cluster))
            more = costs if grading == "likelihood" else {}
            results.append(Graded(exam, grading, counts, {"chance": exam.chance(grading), **more, **exam.about}))
    return results


def of_task(task: Task, rng: Random, fits: Callable[[str], bool]) -> Question:
    """A task with its options, or with distractors that fit into an answer.

    Raises:
        BadRequest: where not exactly one of the answers is right, or distractors are too few.
    """
    example, key, family = task.example, task.instruction.key, EVERY[task.example.source]
    if options := family.options(task.instruction, example.input):
        marks = [[family.accepts(task.instruction, example.input, option) for option in options]]
        right = int(choice.gold_index(marks)[0])
        return Question(example, options, right, True, partial(_accepted, task, options, right), key)
    answers = {example.output: None}
    for _ in range(TRIES):
        for text in family.distractors(task.instruction, example.input, rng, DISTRACTORS):
            if len(answers) <= DISTRACTORS and fits(text):
                answers[text] = None
        if len(answers) > DISTRACTORS:
            return Question(example, tuple(answers), 0, False, partial(_accepted, task, (), 0), key)
    raise BadRequest(f"'{example.source}' has no {DISTRACTORS} wrong answers that fit, to {example.instruction!r}")


def _accepted(task: Task, options: tuple[str, ...], right: int, text: str) -> bool:
    """Is a written answer right: does it name the right option, or does the oracle accept it?"""
    family = EVERY[task.example.source]
    if family.accepts(task.instruction, task.example.input, text):
        return True
    final = family.final(text)  # an answer that is an option's text is that option, also where the text is a letter
    return bool(options) and final not in options and named_option(final, options) == right


def of_exam(name: str, given: exams.Exam, n: int) -> Exam:
    """A published exam, or `n` of its questions, the same ones whenever it is sat; each is a cluster of its own."""
    questions = []
    for i in np.sort(np.random.default_rng(0).permutation(len(given.questions))[:n]).tolist():
        source = given.questions[i]
        example = replace(given.ask(source), output=source.final or source.gold)
        closed, accepts = source.kind != "open", partial(comes_to, source)
        questions.append(Question(example, source.answers, source.right, closed, accepts, str(i)))
    return Exam(name, given.name, questions, {"bad": given.bad.total()})


def comes_to(question: exams.Question, answer: str) -> bool:
    """Whether a written answer to a published question is right: it names the option, or comes to the final answer."""
    said = answer.strip()
    if question.kind == "sets":
        return "".join(sorted(set(re.findall("[A-H]", "".join(said.splitlines()[-1:]))))) == question.gold
    if question.kind == "open":
        return _ends_in(said, question.final) if question.final else said == question.gold.strip()
    options = question.options
    if len({" ".join(option.casefold().split()) for option in options}) < len(options):
        options = question.answers  # `Aa` and `aa` are different answers: only their letters tell them apart
    return named_option(said, options) == question.right


def _ends_in(text: str, final: str) -> bool:
    """Whether a worked answer ends in `final`: as its last boxed expression, else after its last `答案` or `answer`, or
    as its last number."""
    ends = re.findall(r"\\boxed\{((?:[^{}]|\{[^{}]*\})*)\}", text)[-1:]
    if not ends:
        tail = re.sub(r"^\s*(?:是|为|is)?\s*[:：]?", "", re.split("答案|[Aa]nswer", text)[-1])
        ends = [tail.strip().split("\n")[0], *re.findall(r"-?\d[\d,]*(?:\.\d+)?(?:/\d+)?", tail)[-1:]]
    return _plain(final) in map(_plain, ends)


def _plain(text: str) -> str:
    return re.sub(r"[\s,，$]|[.。]$", "", text)
