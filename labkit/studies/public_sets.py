"""Where a curriculum's examples and exams come from: instruction families with oracles, or a corpus with MT-Bench.

Both say the same of a cell, and nothing else of the study knows which of them it has: the public set, the kinds of
tasks, what must not be trained on, the exams. Families give a public set with a long tail over kinds and over levels,
in which some answers are wrong; an exam of every kind and level on unseen instructions, as many of each, and one of
families that are never taught, graded by the likelihood of the right answer and as written. A corpus goes with
MT-Bench, all turns, scored by the judge.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel

from labkit.design import Decontaminator
from labkit.design import curriculum as design
from labkit.errors import BadRequest
from labkit.grade import questions
from labkit.instructions import Example
from labkit.instructions.families import EVERY
from labkit.instructions.family import LEVELS, Task
from labkit.instructions.recognise import held_out
from labkit.learn.learner import Learner
from labkit.studies import language, read_exams
from labkit.studies.lesson import Exam
from labkit.studies.levels import exams, lines_of
from labkit.teach import benchmarks, distil
from labkit.teach import judge as judging

LOOKED = 8  # questions of each kind and level after every round
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

    def named_kinds(self, kinds: Sequence[str | None]) -> list[str | None]:
        """The kinds that a classifier named; None for what is of none that is asked for."""
        return [None if kind == OTHER else kind for kind in kinds]

    def guard(self) -> Decontaminator | None:
        """What keeps texts of the exam out; None: its instructions are told by their keys."""
        return None

    def look(self, learner: Learner, spec: Any, seed: int) -> list[dict[str, Any]]:
        """A quick glance: graded lines by kind; empty: the exam is sat at the end alone."""
        return []

    def learned(self, learner: Learner, examples: Sequence[Example]) -> list[int]:
        """Of some of a round's examples: is the final answer the one that was taught? 0 or 1."""
        last = lambda text: text.strip().rpartition("\n")[2].strip()  # noqa: E731
        pairs = zip(learner.answer(examples), examples, strict=True)
        return [int(last(answer) == last(one.output)) for answer, one in pairs]

    def trust(self, public: Sequence[Known], kinds: Sequence[str | None], scores: Sequence[float | None],
              answers: list[str]) -> dict[str, Any]:  # fmt: skip
        """How far judge and classifier agree with the oracles: columns of the row; empty: there is no oracle."""
        return {}


class FamilySource(_PublicSet, frozen=True):
    """Tasks of the instruction families; `shares` and `level_shares` are those of the public set, `wrong` the share of
    wrong answers, `outside` the families that are only examined."""

    source: Literal["families"] = "families"
    shares: tuple[float, ...]
    level_shares: tuple[float, ...]
    outside: tuple[str, ...]
    wrong: float
    n_test: int

    def kinds(self) -> dict[str, str]:
        """The kinds of tasks that a classifier chooses from, with descriptions."""
        return {name: EVERY[name].task_type for name in self.tasks}

    def task_type(self, kind: str | None) -> str:
        return EVERY[kind].task_type if kind in EVERY else kind or ""

    def public_set(self, spec: Any, seed: int) -> list[Known]:
        """The public set in training order."""
        parts = [(name, level) for name in self.tasks for level in LEVELS]
        each = [share * of_level for share in self.shares for of_level in self.level_shares]
        numbers = dict(zip(parts, design.apportion(each, self.public), strict=True))
        drawn = language.published(numbers, spec.layout(), wrong=self.wrong, seed=seed)
        return [Known(example, example.source, task) for example, task in drawn]

    def forbidden(self) -> Forbidden:
        """Says why a new question must not be trained on: it asks for an instruction of the exam."""
        return held_out

    def graded(self, learner: Learner, asker: judging.Asker, cell: Any, folder: Path) -> Graded:
        """The lines of the exams, by kind and level, of equal seeds the same for all arms."""
        sat = exams(cell.spec, cell.seed, self.tasks, self.outside, LEVELS, self.n_test)
        return lines_of(learner, sat, questions.GRADINGS, folder), {}

    def look(self, learner: Learner, spec: Any, seed: int) -> list[dict[str, Any]]:
        sat = exams(spec, seed, self.tasks, (), LEVELS, self.n_test)
        quick = [one._replace(questions=one.questions[:LOOKED]) for one in sat]
        lines = dict[str, dict[str, Any]]()
        for one in lines_of(learner, quick, questions.GRADINGS[:1], Path()):
            name = one["kind"].split()[0]
            own = lines.setdefault(name, {**one, "exam": "look", "kind": name, "right": [], "asked": []})
            own["right"] += one["right"]
            own["asked"] += one["asked"]
        return list(lines.values())

    def trust(self, public: Sequence[Known], kinds: Sequence[str | None], scores: Sequence[float | None],
              answers: list[str]) -> dict[str, Any]:  # fmt: skip
        tasks = [known.task for known in public[: len(answers)] if known.task is not None]
        right = language.taken(tasks, answers).tolist()
        agreed = judging.agreement(scores, right, [task.instruction.key for task in tasks])
        right_kinds = [kind == known.kind for kind, known in zip(kinds, public, strict=False)]
        return {**agreed.as_dict(), "kinds_right": float(np.mean(right_kinds))}


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
        records = [example for example in read_exams.answered(self.corpus) if not keep.overlaps(example)]
        if len(records) < self.public:
            there = f"'{self.corpus}' has {len(records)} records that share nothing with the exams"
            raise BadRequest(f"public = {self.public}, but {there}")
        return [Known(example) for example in Random(seed).sample(records, self.public)]

    def forbidden(self) -> Forbidden:
        asked = {distil.normal(text) for one in benchmarks.read_questions(self.questions) for text in one.turns}
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
        return [line | {"chance": 0.0} for line in lines if line["kind"]], {
            "same_questions": True,
            "unscored": sat.unscored,
        }
