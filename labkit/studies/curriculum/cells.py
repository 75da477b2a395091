"""The cells of the curriculum study: the first student of a seed, and the arms that go on from it."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from pydantic import Field

from labkit.grade import Counts
from labkit.lab import Point, Record, Row, write_json
from labkit.learn.learner import Learner
from labkit.studies import cell as study_cell
from labkit.studies import harness, learners
from labkit.studies.curriculum.rounds import Rounds, learn
from labkit.studies.lesson import Lesson
from labkit.studies.public_sets import OTHER, Source
from labkit.studies.rows import GRADED, graded_line
from labkit.teach import distil
from labkit.teach.client import Client
from labkit.teach.tapir import mine, shares
from labkit.teach.teacher import Counted, Teacher


class First(study_cell.Cell):
    """The first student of a seed, and what a judge thinks of it: what all its arms share.

    `asking` decides no reply (budgets, concurrency...), so it is no part of the address.
    """

    study: Literal["curriculum_first", "curriculum"] = "curriculum_first"
    version: Literal[2] = 2
    spec: learners.Spec
    task: Source
    teacher: Teacher
    mined: int
    asking: dict[str, Any] = Field(default_factory=dict, exclude=True)

    def learner(self, record: Record) -> Learner:
        return self.spec.make(self.seed, record)

    def lesson(self) -> Lesson:
        """The public set; what is graded of the student is told by the judge."""
        return Lesson([one.example for one in self.task.public_set(self.spec, self.seed)], {})

    def ask(self, record: Record) -> Client:
        """A client of the teacher, whose replies are kept in the record's store."""
        assert record.store is not None
        return self.teacher.connect(self.asking, record.store.root)

    def measured(self, record: Record) -> Row:
        """Train on the whole public set, and let the judge say what is hard."""
        student, public = self.learner(record), self.task.public_set(self.spec, self.seed)
        examples = student.fitting([one.example for one in public])
        done = learn(student, examples, self.steps, self.seed, record.lasting / "first")
        student.save(record.folder / "student")
        with self.ask(record) as client:
            asker = Counted(client)
            mined = mine(student.answer, [one.example for one in public[: self.mined]], asker)
            # The second half is probed by an automatic curriculum.
            questions = [distil.question_of(one.example) for one in public[: 2 * self.mined]]
            classified = distil.classify_all(asker, questions, self.task.kinds())
        kinds = [None if kind == OTHER else kind for kind in classified.kinds]
        write_json(record.folder / "mined.json", {**mined._asdict(), "kinds": kinds})
        took = {"tokens": done["tokens"], "train_seconds": round(done["seconds"], 2), "loss": done["loss"]}
        asked = {f"teacher_{name}": count for name, count in asker.counts.items()}
        trust = self.task.trust(public, kinds, mined.student, mined.answers)
        return {**took, "judging": mined.counts, "classifying": classified.counts, **asked, **trust}


class Cell(First):
    """One arm: everything its result depends on."""

    study: Literal["curriculum"] = "curriculum"
    arm: str
    target: tuple[float, ...]
    delta: float
    alpha_0: float
    delta_alpha: float
    rounds: int
    round_size: int
    expanded: int
    budget: int
    round_rate: float

    def needs(self) -> Sequence[Point]:
        """The first student that this arm goes on from."""
        return [First(**{name: value for name, value in self if name in First.model_fields and name != "study"})]

    def measured(self, record: Record) -> Row:
        """The rounds of the arm, from the first student on, and its exam."""
        (first,) = self.needs()
        about = {name: value for name, value in record.row_of(first).items() if name not in First.model_fields}
        with self.ask(record) as client:
            rounds = Rounds(self, self.learner(record), client, record.folder_of(first), record.lasting)
            state = rounds.run()
            rounds.student.save(record.folder)
            lines, of_exam = self.task.graded(rounds.student, Counted(client), self, record.folder)
        learned = state["rounds"][-1]["learned"]
        looks = [state["begun"], *(line.pop("looked") for line in state["rounds"])]
        lines.append(graded_line("seen", "", "", Counts(learned, [1] * len(learned))))
        for number, kinds in enumerate(looks):  # 0: the first student
            counts = {kind: Counts(right, [1] * len(right)) for kind, right in kinds.items()}
            lines += [graded_line("look", kind, "", count) | {"round": number} for kind, count in counts.items()]
        for line in state["rounds"]:
            del line["learned"]
            record.log(**line)
        costs = [(line["tokens"], line["steps"], line["seconds"]) for line in state["rounds"]]
        tokens, steps, seconds = map(sum, zip(*costs, strict=True))
        took = {"training_tokens": tokens, "optimiser_steps": steps, "train_seconds": round(seconds, 2)}
        asked = {f"teacher_{name}": count for name, count in rounds.teaching.asker.counts.items()}
        return {
            "label": rounds.arm.label,
            **of_exam,
            **harness.accuracies_of(lines),
            "learned": float(np.mean(learned)) >= harness.LEARNED,
            "rounds_of": state["rounds"],
            **took,
            "distilled": state["distilled"],
            "difficulty": rounds.mined.difficulty([item.kind for item in rounds.pool]),
            "public_shares": shares(rounds.pool),
            "target_shares": rounds.target,
            "first": about,
            **asked,
            GRADED: lines,
        }
