"""How cells of small models are measured: built, trained on their lessons and graded, alone or in a fleet."""

import math
from collections.abc import Sequence
from typing import Any, Protocol

from torch import nn

from labkit import learn
from labkit.grade import Counts
from labkit.grade.intervals import accuracies
from labkit.lab import Record
from labkit.studies.lesson import Lesson
from labkit.studies.rows import GRADED

LEARNED = 0.95  # accuracy on the first exam from which a run counts as having learned its training instructions
LOOKS, QUICK = 6, 300  # points on a learning curve, and the graded examples of each
WATCHED = 2  # exams on the learning curve: the first ones


class Trainee(Protocol):
    """What the harness asks of a cell; see `labkit.studies.cell.ModelCell`."""

    @property
    def seed(self) -> int: ...
    @property
    def recipe(self) -> str: ...
    @property
    def steps(self) -> int: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def learning_rate(self) -> float: ...
    def layout(self) -> learn.Layout | learn.TextLayout: ...
    def model_shape(self) -> learn.Shape: ...
    def lesson(self) -> Lesson: ...


def train_and_grade(cells: Sequence[Trainee], records: Sequence[Record]) -> list[dict[str, Any]]:
    """Train the models of cells of one shape as a fleet, and grade each on its exams.

    Returns:
        A row per cell: what the training cost; under `graded` the right answers by instruction for every exam, kind and
        grading (`studies.rows`); and each exam's accuracy as `accuracy_<exam>`, for a person who looks at the row.
    """
    device = learn.best_device()
    lessons = [cell.lesson() for cell in cells]
    models = [learn.build(cell.recipe, cell.model_shape(), cell.seed).to(device) for cell in cells]
    trained = _train(cells, lessons, models, records, device)
    return [
        _graded(cell, lesson, model, record, done, device) | {"fleet": len(cells)}
        for cell, lesson, model, record, done in zip(cells, lessons, models, records, trained, strict=True)
    ]


def _train(
    cells: Sequence[Trainee],
    lessons: Sequence[Lesson],
    models: Sequence[nn.Module],
    records: Sequence[Record],
    device: str,
) -> list[learn.Trained]:
    """Train the models; learning curves go to the records' logs."""

    def look(number: int, model: nn.Module, step: int, loss: float, seconds: float) -> None:
        watched = list(lessons[number].exams.items())[:WATCHED]
        quick = {f"accuracy_{name}": float(exam.matches(model, device, QUICK).float().mean()) for name, exam in watched}
        finite = round(loss, 4) if math.isfinite(loss) else None
        records[number].log(step=step, loss=finite, seconds=round(seconds, 2), **quick)

    steps = [lesson.steps or cell.steps for cell, lesson in zip(cells, lessons, strict=True)]
    members = [
        learn.Member(lesson.data, cell.seed, n, cell.learning_rate)
        for cell, lesson, n in zip(cells, lessons, steps, strict=True)
    ]
    return learn.train_fleet(
        models,
        cells[0].recipe,
        members,
        batch_size=cells[0].batch_size,
        device=device,
        every=max(1, max(steps) // LOOKS),
        on_step=look,
    )


def _graded(
    cell: Trainee, lesson: Lesson, model: nn.Module, record: Record, done: learn.Trained, device: str
) -> dict[str, Any]:
    """Keep a trained model, and its row."""
    layout = cell.layout()
    learn.save(record.folder, learn.Learner(model, cell.recipe, cell.model_shape(), layout))
    lines = [
        line for name, exam in lesson.exams.items() for line in exam.lines(name, exam.verdicts(model, layout, device))
    ]
    whole = {
        f"accuracy_{line['exam']}": float(accuracies([Counts(line["right"], line["asked"])])[0])
        for line in lines
        if not line["kind"] and not line["grading"]
    }
    return {
        **lesson.about,
        "parameters": sum(p.numel() for p in model.parameters()),
        "tokens": done.tokens,
        "epochs": done.steps * cell.batch_size / len(lesson.data.tokens),
        "train_seconds": round(done.seconds, 2),
        "loss": done.loss,
        "device": device,
        **whole,
        "learned": whole[f"accuracy_{next(iter(lesson.exams))}"] >= LEARNED,
        GRADED: lines,
    }
