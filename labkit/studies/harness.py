"""How cells are measured: a learner is made, learns its lesson and is graded, alone or in a fleet."""

from collections.abc import Sequence
from typing import Any, Protocol

from labkit.grade import Counts
from labkit.grade.intervals import accuracies
from labkit.lab import Record
from labkit.learn.learner import Learned, Learner, SmallLearner, size_of
from labkit.studies.lesson import Lesson
from labkit.studies.rows import GRADED

LEARNED = 0.95  # accuracy on the first exam from which a run counts as having learned its training instructions
LOOKS, QUICK = 6, 300  # points on a learning curve, and the graded examples of each
WATCHED = 2  # exams on the learning curve: the first ones


class Trainee(Protocol):
    """What the harness asks of a cell; see `labkit.studies.cell.Cell`."""

    @property
    def seed(self) -> int: ...
    @property
    def steps(self) -> int: ...
    def learner(self, record: Record) -> Learner: ...
    def lesson(self) -> Lesson: ...


def train_and_grade(cell: Trainee, record: Record, learned: float = LEARNED) -> dict[str, Any]:
    """Make a cell's learner, let it learn, keep it, and grade it on its exams.

    Returns:
        The cell's row: what learning cost; under `graded` the right answers by instruction for every exam, kind and
        grading (`studies.rows`); and each exam's accuracy as `accuracy_<exam>`, for a person who looks at the row.
    """
    lesson, learner = cell.lesson(), cell.learner(record)
    steps = cell.steps or lesson.steps or 0
    done = learner.learn(
        lesson.data,
        steps=steps,
        seed=cell.seed,
        folder=record.lasting,
        look=lambda now, step, loss, seconds: _look(record, lesson, now, step, loss, seconds),
        every=max(1, steps // LOOKS),
    )
    return _graded(lesson, learner, record, done, learned) | {"fleet": 1}


def train_and_grade_together(cells: Sequence[Trainee], records: Sequence[Record]) -> list[dict[str, Any]]:
    """The same for cells of small models of one shape, trained as a fleet."""
    lessons = [cell.lesson() for cell in cells]
    learners = [_small(cell.learner(record)) for cell, record in zip(cells, records, strict=True)]
    steps = [cell.steps or lesson.steps or 0 for cell, lesson in zip(cells, lessons, strict=True)]
    trained = SmallLearner.learn_together(
        learners,
        [learner.encode(lesson.data) for learner, lesson in zip(learners, lessons, strict=True)],
        steps=steps,
        seeds=[cell.seed for cell in cells],
        rates=[learner.rate for learner in learners],
        look=lambda number, *now: _look(records[number], lessons[number], *now),
        every=max(1, max(steps) // LOOKS),
    )
    return [
        _graded(lesson, learner, record, Learned(*done), LEARNED) | {"fleet": len(cells)}
        for lesson, learner, record, done in zip(lessons, learners, records, trained, strict=True)
    ]


def _small(learner: Learner) -> SmallLearner:
    assert isinstance(learner, SmallLearner)  # the sweep makes fleets of cells with a shape only
    return learner


def _look(record: Record, lesson: Lesson, learner: Learner, step: int, loss: float, seconds: float) -> None:
    """A point on the learning curve."""
    watched = [(name, exam) for name, exam in lesson.exams.items() if exam.gold and learner.shares_run][:WATCHED]
    quick = {f"accuracy_{name}": exam.quick(learner, QUICK) for name, exam in watched}
    record.log(step=step, loss=round(loss, 4), seconds=round(seconds, 2), **quick)


def _graded(lesson: Lesson, learner: Learner, record: Record, done: Learned, learned: float) -> dict[str, Any]:
    """Keep a learner, and its row."""
    learner.save(record.folder)
    lines = [
        line
        for name, exam in lesson.exams.items()
        for line in exam.lines(name, exam.verdicts(learner, record.folder / f"{name}.jsonl"))
    ]
    whole = accuracies_of(lines)
    return {
        **lesson.about,
        **learner.about(),
        **done.about,
        "tokens": done.tokens,
        "steps_taken": done.steps,
        "epochs": done.steps * learner.batch / size_of(lesson.data),
        "train_seconds": round(done.seconds, 2),
        "loss": done.loss,
        **whole,
        "learned": whole[f"accuracy_{next(iter(lesson.exams))}"] >= learned,
        GRADED: lines,
    }


def accuracies_of(lines: Sequence[dict[str, Any]]) -> dict[str, float]:
    """`accuracy_<exam>` of each exam as a whole, by its own grading."""
    return {
        f"accuracy_{line['exam']}": float(accuracies([Counts(line["right"], line["asked"])])[0])
        for line in lines
        if not line["kind"] and not line["grading"]
    }
