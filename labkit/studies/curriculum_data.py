"""What the curriculum study teaches and tests: the public set, the kinds of tasks, the exam.

Two worlds behind the same functions. Small students read tasks of the instruction families: a public set in which some
kinds are far more frequent than others and some answers are wrong, and an exam on unseen instructions, as many of each
kind, graded by the oracles (small functions by running them). Hugging Face students read a public corpus, and
their exam is MT-Bench, both turns, scored by the judge.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from labkit.design import Decontaminator
from labkit.design import curriculum as design
from labkit.errors import BadRequest
from labkit.instructions import Example, recognise
from labkit.instructions.corpora import read
from labkit.instructions.families import EVERY
from labkit.instructions.family import Task, draw, split_of
from labkit.studies import language, symbolic
from labkit.studies.students import Student
from labkit.teach import benchmarks, distil
from labkit.teach.judge import Judge

if TYPE_CHECKING:
    from labkit.studies.curriculum import First

LOOKED = 20  # questions of each kind after every round
OTHER = "other"  # what is of no kind that is asked for
DESCRIPTIONS = {  # of the kinds of public data
    "reasoning": "logic, puzzles, drawing conclusions",
    "mathematics": "calculation and mathematical problems",
    "code": "writing or explaining programs",
    "editing": "rewriting, correcting or translating a given text",
    "extraction": "finding or summarising what a given text says",
    "classification": "choosing a label or category",
    "formatting": "lists, tables and other fixed forms",
    "knowledge": "questions about facts of the world",
    "dialogue": "understanding or continuing a conversation",
    "role-play": "answering in a role or persona",
    "writing": "stories, poems, letters, essays, ideas",
}
Grade = Callable[[Student], dict[str, Any]]


class Known(NamedTuple):
    """An example of the public set; its kind where it is known, and its task where it has an oracle."""

    example: Example
    kind: str | None
    task: Task | None = None


def kinds(first: "First") -> dict[str, str]:
    """The kinds of tasks that a classifier chooses from, with descriptions."""
    if first.model is not None:
        return {kind: DESCRIPTIONS[kind] for kind in first.tasks} | {OTHER: "anything else"}
    return {name: EVERY[name].task_type for name in first.tasks}


def task_type(first: "First", kind: str | None) -> str:
    """How a response of a kind is refined."""
    return EVERY[kind].task_type if kind in EVERY and first.model is None else kind or ""


def fitting(examples: Sequence[Example], student: Student) -> list[Example]:
    """Those that are short enough for the student."""
    costs = student.costs(examples)
    return [example for example, cost in zip(examples, costs, strict=True) if cost is not None]


def public_set(first: "First") -> list[Known]:
    """The public set in training order: a record a place."""
    if first.model is not None:
        keep = Decontaminator([first.questions])
        records = [example for example in read(first.corpus, on_bad="skip") if not keep.overlaps(example)]
        if len(records) < first.public:
            raise BadRequest(
                f"public = {first.public}, but '{first.corpus}' has {len(records)} records that share nothing with "
                f"{first.questions}"
            )
        return [Known(example, None) for example in Random(first.seed).sample(records, first.public)]
    rng, layout = Random(f"public {first.seed}"), first.layout()
    found = []
    for name, n in zip(first.tasks, design.apportion(first.shares, first.public), strict=True):
        tasks = [task for task in draw(EVERY[name], 3 * n, levels=first.levels, seed=first.seed) if _fits(task, layout)]
        if len(tasks) < n:
            raise BadRequest(f"'{name}' has only {len(tasks)} tasks of levels {first.levels} that fit; {n} are asked")
        found += [_published(task, rng, first.wrong) for task in tasks[:n]]
    rng.shuffle(found)
    return found


def _fits(task: Task, layout: Any) -> bool:
    worked = EVERY[task.example.source].worked(task.instruction, task.example.input)
    return layout.fits(language.question_of(task), worked)


def _published(task: Task, rng: Random, wrong: float) -> Known:
    """A task as the public set has it: now and then with a wrong answer."""
    example, family = task.example, EVERY[task.example.source]
    if rng.random() < wrong:
        (mistake,) = family.distractors(task.instruction, example.input, rng, 1)
        example = Example(example.instruction, example.input, mistake, example.source, example.instruction_id)
    return Known(example, example.source, task)


def right(known: Sequence[Known], answers: Sequence[str]) -> list[bool]:
    """The oracles' verdicts on answers to examples that have one; code by its text."""
    return [
        one.task is not None and EVERY[one.example.source].accepts(one.task.instruction, one.example.input, answer)
        for one, answer in zip(known, answers, strict=True)
    ]


def forbidden(first: "First") -> Callable[[str], str | None]:
    """Says why a new question must not be trained on: it asks for an instruction of the exam."""
    if first.model is not None:
        turns = (text for question in benchmarks.read_questions(first.questions) for text in question.turns)
        asked = {distil.normal(text) for text in turns}
        return lambda question: "question of the exam" if distil.normal(question) in asked else None

    def reason(question: str) -> str | None:
        instruction, _, text = question.partition("\n")
        found = recognise(instruction, text.strip() or None)
        if found is None:
            return "not recognised"
        return "instruction of the exam" if split_of(found.instruction.key) == "test" else None

    return reason


def guard(first: "First") -> Decontaminator | None:
    """Keeps out new pairs that share words with the exam's questions; instructions of the families are told by key."""
    return Decontaminator([first.questions]) if first.model is not None else None


class Test(NamedTuple):
    """An exam: `grade` gives a student's columns of the row, `look` a quick glance by kind (right answers, 0 or 1)."""

    kinds: tuple[str, ...]
    grade: Grade
    look: Callable[[Student], dict[str, list[int]]]


def exam(first: "First", judge: Judge, record: Path) -> Test:
    """The exam of a student; of equal seeds the same for all arms. What a student writes is left in `record`."""
    return _bench_exam(first, judge, record) if first.model is not None else _oracle_exam(first)


def _oracle_exam(first: "First") -> Test:
    layout = first.layout()
    tasks = {
        name: language.held_out(name, first.n_test, layout, levels=first.levels, seed=first.seed)
        for name in first.tasks
    }
    everything = [task for some in tasks.values() for task in some]
    keys = {key: number for number, key in enumerate(dict.fromkeys(task.instruction.key for task in everything))}
    cluster = np.array([keys[task.instruction.key] for task in everything])
    sources = np.array([task.example.source for task in everything])
    judge = language.accepted(everything, first.confirm_unsafe)

    def grade(student: Student) -> dict[str, Any]:
        verdicts = judge(student.answer([task.example for task in everything]))[""]
        of = {name: sources == name for name in first.tasks}
        return symbolic.graded("unseen", torch.from_numpy(verdicts), cluster, len(keys), of)

    def look(student: Student) -> dict[str, list[int]]:
        some = [Known(task.example, name, task) for name, part in tasks.items() for task in part[:LOOKED]]
        verdicts = right(some, student.answer([one.example for one in some]))
        return {
            name: [int(ok) for one, ok in zip(some, verdicts, strict=True) if one.kind == name] for name in first.tasks
        }

    return Test(first.tasks, grade, look)


def _bench_exam(first: "First", judge: Judge, record: Path) -> Test:
    """MT-Bench: a rating from 1 to 10 counts as so many right answers of ten; a question is a cluster of its turns."""
    questions = benchmarks.read_questions(first.questions)
    references = benchmarks.read_answers(first.references) if first.references else {}
    names = tuple(dict.fromkeys(question.category for question in questions))

    def grade(student: Student) -> dict[str, Any]:
        answers: dict[int, tuple[str, ...]] = {question.id: () for question in questions}
        for turn in range(max(len(question.turns) for question in questions)):
            some = [question for question in questions if len(question.turns) > turn]
            written = student.answer([_asked(question, answers[question.id]) for question in some])
            for question, text in zip(some, written, strict=True):
                answers[question.id] += (text,)
        name = f"{first.model}, {record.name}"
        judged = benchmarks.score_mt_bench(judge, questions, name, answers, references, first.teacher)
        benchmarks.write_answers(record / "mt_bench_answers.jsonl", name, answers)
        benchmarks.write_judgments(record / "mt_bench_judgments.jsonl", judged.judgments)
        firsts = [benchmarks.Output(q.turns[0], answers[q.id][0], name, "mt_bench") for q in questions]
        benchmarks.write_outputs(record / "alpaca_eval_outputs.json", firsts)
        place = {question.id: number for number, question in enumerate(questions)}
        scored = [one for one in judged.judgments if one.score is not None]
        points = np.array([round(one.score or 0) for one in scored])
        verdicts = torch.from_numpy(np.arange(10)[None, :] < points[:, None]).flatten()
        cluster = np.repeat([place[one.question_id] for one in scored], 10)
        of = {
            name: np.repeat([questions[place[one.question_id]].category == name for one in scored], 10)
            for name in names
        }
        unscored = len(judged.judgments) - len(scored)
        return symbolic.graded("unseen", verdicts, cluster, len(questions), of) | {"unscored": unscored}

    return Test(names, grade, lambda student: {})


def _asked(question: benchmarks.Question, before: Sequence[str]) -> Example:
    """A turn as one text: the conversation so far, then what is asked now."""
    said = [part for pair in zip(question.turns, before, strict=False) for part in pair]
    return Example("\n\n".join([*said, question.turns[len(before)]]), "", "", "mt_bench", str(question.id))
