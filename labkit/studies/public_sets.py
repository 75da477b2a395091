"""Where a curriculum's examples and exams come from: instruction families with oracles, or a corpus with MT-Bench.

Both say the same of a cell, and nothing else of the study knows which of them it has: the public set, the kinds of
tasks, what must not be trained on, the exam. Families give a public set in which some kinds are far more frequent than
others and some answers are wrong, and an exam on unseen instructions, as many of each kind, graded by the oracles
(small functions by running them). A corpus goes with MT-Bench, all turns, scored by the judge.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, Field

from labkit.design import Decontaminator
from labkit.design import curriculum as design
from labkit.design.mixture import digest
from labkit.errors import BadRequest
from labkit.instructions import Example
from labkit.instructions.corpora import CORPORA, read
from labkit.instructions.families import EVERY
from labkit.instructions.family import Task
from labkit.instructions.recognise import held_out
from labkit.learn.learner import Learner
from labkit.studies import language
from labkit.studies.lesson import Exam
from labkit.teach import benchmarks, distil
from labkit.teach import judge as judging

LOOKED = 20  # questions of each kind after every round
OTHER = "other"  # what is of no kind that is asked for
Forbidden = Callable[[str], str | None]
Graded = tuple[list[dict[str, Any]], dict[str, Any]]  # the lines of the exam, and what the row says of it


class Known(NamedTuple):
    """An example of the public set; its kind where it is known, and its task where it has an oracle."""

    example: Example
    kind: str | None = None
    task: Task | None = None


class _PublicSet(BaseModel, frozen=True):
    """What both say of a cell; what is written out here is what one of them leaves as it is."""

    tasks: tuple[str, ...]
    public: int

    def task_type(self, kind: str | None) -> str:
        """How a response of a kind is refined."""
        return kind or ""

    def guard(self) -> Decontaminator | None:
        """What keeps texts of the exam out; None: its instructions are told by their keys."""
        return None

    def look(self, learner: Learner, spec: Any, seed: int) -> dict[str, list[int]]:
        """A quick glance by kind at right answers, 0 or 1; empty: the exam is sat at the end alone."""
        return {}

    def trust(self, public: Sequence[Known], kinds: Sequence[str | None], scores: Sequence[float | None],
              answers: list[str]) -> dict[str, Any]:  # fmt: skip
        """How far judge and classifier agree with the oracles: columns of the row; empty: there is no oracle."""
        return {}


class FamilySource(_PublicSet, frozen=True):
    """Tasks of the instruction families; `shares` are those of the public set, `wrong` the share of wrong answers."""

    source: Literal["families"] = "families"
    shares: tuple[float, ...]
    levels: tuple[int, ...]
    wrong: float
    n_test: int
    confirm_unsafe: bool

    def kinds(self) -> dict[str, str]:
        """The kinds of tasks that a classifier chooses from, with descriptions."""
        return {name: EVERY[name].task_type for name in self.tasks}

    def task_type(self, kind: str | None) -> str:
        return EVERY[kind].task_type if kind in EVERY else kind or ""

    def public_set(self, spec: Any, seed: int) -> list[Known]:
        """The public set in training order."""
        numbers = dict(zip(self.tasks, design.apportion(self.shares, self.public), strict=True))
        drawn = language.published(numbers, spec.layout(), levels=self.levels, wrong=self.wrong, seed=seed)
        return [Known(example, example.source, task) for example, task in drawn]

    def forbidden(self) -> Forbidden:
        """Says why a new question must not be trained on: it asks for an instruction of the exam."""
        return held_out

    def graded(self, learner: Learner, asker: judging.Asker, cell: Any, folder: Path) -> Graded:
        """The lines of the exam: exact answers on unseen instructions, of equal seeds the same for all arms."""
        tasks = [task for part in _unseen(self, cell.spec, cell.seed).values() for task in part]
        sources = np.array([task.example.source for task in tasks])
        exam = language.exam(tasks, language.accepted(tasks, self.confirm_unsafe))
        exam = exam._replace(gold=False, kinds={name: sources == name for name in self.tasks})
        return exam.lines("unseen", exam.verdicts(learner)), {}

    def look(self, learner: Learner, spec: Any, seed: int) -> dict[str, list[int]]:
        """By the oracles, code by its text."""
        tasks = {name: part[:LOOKED] for name, part in _unseen(self, spec, seed).items()}
        flat = [task for part in tasks.values() for task in part]
        right = iter(language.taken(flat, learner.answer(language.examples(flat))))
        return {name: [int(next(right)) for _ in part] for name, part in tasks.items()}

    def trust(self, public: Sequence[Known], kinds: Sequence[str | None], scores: Sequence[float | None],
              answers: list[str]) -> dict[str, Any]:  # fmt: skip
        tasks = [known.task for known in public[: len(answers)] if known.task is not None]
        right = language.accepted(tasks, self.confirm_unsafe)(answers)[""].tolist()
        agreed = judging.agreement(scores, right, [task.instruction.key for task in tasks])
        right_kinds = [kind == known.kind for kind, known in zip(kinds, public, strict=False)]
        return {**agreed.as_dict(), "kinds_right": float(np.mean(right_kinds))}


@lru_cache(maxsize=4)
def _unseen(source: FamilySource, spec: Any, seed: int) -> dict[str, list[Task]]:
    """The exam's tasks by kind."""
    layout, levels, n = spec.layout(), source.levels, source.n_test
    return {name: language.held_out(name, n, layout, levels=levels, seed=seed) for name in source.tasks}


class CorpusSource(_PublicSet, frozen=True):
    """A public corpus or file, with MT-Bench; files are named, and part of the address by content (`digests`)."""

    source: Literal["corpus"] = "corpus"
    corpus: str
    questions: str
    references: str | None
    digests: dict[str, str]

    def kinds(self) -> dict[str, str]:
        return {kind: design.KINDS[kind] for kind in self.tasks} | {OTHER: "anything else"}

    def public_set(self, spec: Any, seed: int) -> list[Known]:
        keep = self.guard()
        records = [example for example in read(self.corpus, on_bad="skip") if not keep.overlaps(example)]
        if len(records) < self.public:
            there = f"'{self.corpus}' has {len(records)} records that share nothing with {self.questions}"
            raise BadRequest(f"public = {self.public}, but {there}")
        return [Known(example) for example in Random(seed).sample(records, self.public)]

    def forbidden(self) -> Forbidden:
        questions = benchmarks.read_questions(self.questions)
        asked = {distil.normal(text) for question in questions for text in question.turns}
        return lambda question: "question of the exam" if distil.normal(question) in asked else None

    def guard(self) -> Decontaminator:
        """Keeps out what shares words with the exam's questions."""
        return Decontaminator([self.questions])

    def graded(self, learner: Learner, asker: judging.Asker, cell: Any, folder: Path) -> Graded:
        """The lines of MT-Bench: a rating from 1 to 10 counts as so many right answers of ten."""
        files, name = (self.questions, self.references), f"{cell.spec.settings['model']}, {folder.name}"
        sat = benchmarks.sit(judging.Judge(asker), *files, learner.answer, name, cell.teacher.name, folder)
        right = (np.arange(10) < sat.points[:, None]).flatten()
        kinds = {kind: np.repeat(sat.category == kind, 10) for kind in dict.fromkeys(sat.category.tolist())}
        lines = Exam([], np.repeat(sat.question, 10), sat.questions, kinds).lines("unseen", {"": right})
        return lines, {"same_questions": True, "unscored": sat.unscored}


Source = Annotated[FamilySource | CorpusSource, Field(discriminator="source")]


def digests(given: Mapping[str, Any]) -> dict[str, str]:
    """The files that the result of a model on a corpus depends on, by content.

    Raises:
        BadRequest: for a corpus, or a file of MT-Bench's, that is not there.
    """
    corpus, references = given["corpus"], given["references"]
    if corpus not in CORPORA and not Path(corpus).exists():
        raise BadRequest(f"{corpus} is neither a corpus ({', '.join(CORPORA)}) nor a file")
    benchmarks.read_questions(given["questions"])
    if references:
        benchmarks.read_answers(references)
    names = [given["questions"], references, corpus, given["model"]]
    files = {name: digest(Path(name)) for name in names if name and Path(name).exists()}
    return files | ({corpus: CORPORA[corpus].revision} if corpus in CORPORA else {})
