"""What the studies share that train small transformers from scratch: a cell's settings, and how one is measured.

A study says of each cell which examples it learns from and which exams it sits (its `Lesson`); here the model is
built, trained and graded, alone or in a fleet, and every accuracy gets its interval. Nothing here knows what an
instruction is.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from labkit import grade, learn
from labkit.lab import Record
from labkit.studies.cell import C, ModelCell, cells  # noqa: F401
from labkit.studies.lesson import Exam as NewExam
from labkit.studies.lesson import Lesson
from labkit.studies.params import (  # noqa: F401
    MODEL,
    PAPER_MODEL,
    ModelParams,
    SeedParams,
    StudyParams,
    drawn_note,
)


if TYPE_CHECKING:
    import pandas as pd

LEARNED = 0.95  # seen accuracy from which a run counts as having learned its training instructions
LOOKS, QUICK = 6, 300  # points on a learning curve, and the graded examples of each
WATCHED = 2  # exams on the learning curve: the first ones


class Exam(NewExam):
    """As it was before studies had views: see `labkit.studies.lesson`."""

    def judged(self, model, layout, matches, device="cpu"):
        return self.judge(self._answers(model, layout, matches, device))

    def graded(self, name, right):
        return graded(name, right, self.instruction, self.n_instructions, self.kinds)


def measure(cell: C, record: Record, lesson_of: Callable[[C], Lesson]) -> dict[str, Any]:
    """Train one model and grade it: `measure_many` for one."""
    (row,) = measure_many([cell], [record], lesson_of)
    return row


def measure_many(
    cells: Sequence[C], records: Sequence[Record], lesson_of: Callable[[C], Lesson]
) -> list[dict[str, Any]]:
    """Train the models of cells of one shape as a fleet, and grade each on its exams.

    Returns:
        A row a cell: what the training cost; for every exam, and every kind of its examples, the accuracy with its
        95 % interval (instructions resampled) and the right answers by instruction.
    """
    device = learn.best_device()
    lessons = [lesson_of(cell) for cell in cells]
    models = [learn.build(cell.recipe, cell.model_shape(), cell.seed).to(device) for cell in cells]
    layout = cells[0].layout()

    def look(number: int, model: nn.Module, step: int, loss: float, seconds: float) -> None:
        watched = list(lessons[number].exams.items())[:WATCHED]
        quick = {f"accuracy_{name}": float(exam.matches(model, device, QUICK).float().mean()) for name, exam in watched}
        finite = round(loss, 4) if math.isfinite(loss) else None
        records[number].log(step=step, loss=finite, seconds=round(seconds, 2), **quick)

    trained = learn.train_fleet(
        models,
        cells[0].recipe,
        [
            learn.Member(lesson.data, cell.seed, lesson.steps or cell.steps, cell.learning_rate)
            for cell, lesson in zip(cells, lessons, strict=True)
        ],
        batch_size=cells[0].batch_size,
        device=device,
        every=max(1, max(lesson.steps or cell.steps for cell, lesson in zip(cells, lessons, strict=True)) // LOOKS),
        on_step=look,
    )
    rows = []
    for cell, record, lesson, model, done in zip(cells, records, lessons, models, trained, strict=True):
        learn.save(record.folder, learn.Learner(model, cell.recipe, cell.model_shape(), layout))
        row: dict[str, Any] = {
            **lesson.about,
            "parameters": sum(p.numel() for p in model.parameters()),
            "tokens": done.tokens,
            "epochs": done.steps * cell.batch_size / len(lesson.data.tokens),
            "train_seconds": round(done.seconds, 2),
            "fleet": len(cells),
            "loss": done.loss if math.isfinite(done.loss) else None,  # None: training diverged
            "device": device,
        }
        for name, exam in lesson.exams.items():
            matches = exam.matches(model, device)
            if exam.judge is None:
                row |= exam.graded(name, matches)
                continue
            row |= exam.graded(f"{name}_string", matches)
            for verdict, right in exam.judged(model, layout, matches, device).items():
                row |= exam.graded(f"{name}_{verdict}" if verdict else name, torch.from_numpy(right))
        rows.append(row | {"learned": row["accuracy_seen"] >= LEARNED})
    return rows


def graded(
    name: str,
    right: Tensor,
    instruction: NDArray[np.int64],
    n_instructions: int,
    kinds: Mapping[str, NDArray[np.bool_]],
) -> dict[str, Any]:
    """The columns of one exam, from its verdicts: of all its examples, and of each kind that occurs; see `Exam`."""
    of = torch.from_numpy(instruction)
    kinds_of = {f"{name}_{kind}": torch.from_numpy(which) for kind, which in kinds.items()}
    row: dict[str, Any] = {}
    for column, which in {name: torch.ones_like(right), **kinds_of}.items():
        if not which.any():
            continue
        counts = grade.per_rule_counts(right[which], of[which], n_instructions)
        estimate = grade.cluster_bootstrap(*counts)
        row |= {
            f"accuracy_{column}": estimate.mean,
            f"accuracy_{column}_lo": estimate.lo,
            f"accuracy_{column}_hi": estimate.hi,
            f"{column}_right": np.asarray(counts.right).tolist(),
            f"{column}_asked": np.asarray(counts.asked).tolist(),
        }
    return row


def counts(group: "pd.DataFrame", exam: str) -> list[grade.Counts]:
    """The right answers by instruction, of each model of some rows, for one exam (or `<exam>_<kind>`)."""
    columns = group[f"{exam}_right"], group[f"{exam}_asked"]
    return [grade.Counts(np.array(right), np.array(asked)) for right, asked in zip(*columns, strict=True)]


def estimate(group: "pd.DataFrame", exam: str, same_rules: bool = False) -> grade.Estimate:
    """The mean accuracy of some models that differ by seed, with its 95 % interval.

    Seeds are resampled and, within a seed, instructions; see `labkit.grade.seed_cluster_bootstrap` for what it assumes.
    """
    return grade.seed_cluster_bootstrap(counts(group, exam), same_rules=same_rules)


def estimates(
    group: "pd.DataFrame", exams: Sequence[str] = ("unseen", "seen"), same_rules: bool = False
) -> dict[str, Any]:
    """What a table says of some models that differ by seed: for each exam `<exam>` (mean) and `<exam>_ci95`.

    `interval_over` says what the first exam's interval covers.
    """
    row: dict[str, Any] = {}
    for exam in exams:
        found = estimate(group, exam, same_rules)
        row |= {exam: found.mean, f"{exam}_ci95": [found.lo, found.hi]}
        row.setdefault("interval_over", found.over)
    return row | {"seeds": len(group), "not_learned": int((~group["learned"]).sum())}


class Families(NamedTuple):
    """What `show.growth_chart` needs to draw a curve for each value of a second dial."""

    frame: "pd.DataFrame"
    curve: list[dict[str, Any]]
    series: list[Any]


def families(
    frame: "pd.DataFrame", x: str, by: str, exam: str = "unseen", label: Callable[[Any], str] = str
) -> Families:
    """One exam along the dial `x`, a series for each value of the dial `by`, in their order of appearance."""
    from labkit import show

    wide, curve, series = frame.copy(), dict[Any, dict[str, Any]](), []
    for value in frame[by].unique().tolist():
        name, rows = label(value), frame[frame[by] == value]
        wide[name] = rows[f"accuracy_{exam}"]
        series.append(show.Series(name, name, f"{name} mean", f"{name} ci95"))
        for at, group in rows.groupby(x):
            found = estimate(group, exam)
            row = curve.setdefault(at, {x: at})
            row |= {f"{name} mean": found.mean, f"{name} ci95": [found.lo, found.hi]}
    return Families(wide, [curve[at] for at in sorted(curve)], series)


def interval(mean: float, ci: Sequence[float]) -> str:
    """A mean and its interval for people."""
    return f"{mean:.3f} [{ci[0]:.3f}, {ci[1]:.3f}]"
