"""What the studies share that train small transformers from scratch: a cell's settings, and how one is measured.

A study says of each cell which examples it learns from and which exams it sits (its `Lesson`); here the model is
built, trained and graded, alone or in a fleet, and every accuracy gets its interval. Nothing here knows what an
instruction is.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from labkit import grade, learn
from labkit.lab import Point, Record
from labkit.learn.memory import check_training_memory
from labkit.studies.params import MODEL, PAPER_MODEL, ModelParams, SeedParams, StudyParams, drawn_note  # noqa: F401

if TYPE_CHECKING:
    import pandas as pd

LEARNED = 0.95  # seen accuracy from which a run counts as having learned its training instructions
LOOKS, QUICK = 6, 300  # points on a learning curve, and the graded examples of each
WATCHED = 2  # exams on the learning curve: the first ones


class ModelCell(Point):
    """One model: a study adds its dials, so that a cell holds everything its result depends on."""

    seed: int
    recipe: str
    recipe_version: int
    precision: str
    layers: int
    width: int
    heads: int
    expansion: int
    steps: int
    batch_size: int
    learning_rate: float
    n_test: int

    @abstractmethod
    def layout(self) -> learn.Layout | learn.TextLayout:
        """How a question and its answer become tokens."""

    def model_shape(self) -> learn.Shape:
        """The sizes of the cell's model."""
        layout = self.layout()
        return learn.Shape(len(layout.vocabulary), layout.length, self.layers, self.width, self.heads, self.expansion)

    @property
    def shape(self) -> tuple[Any, ...] | None:
        """Cells of equal shape can be trained as one fleet, where the recipe can."""
        if not learn.RECIPES[self.recipe].FLEET:
            return None
        return self.recipe, self.recipe_version, self.precision, self.batch_size, self.model_shape(), self.layout()


C = TypeVar("C", bound=ModelCell)


def cells(cell_class: type[C], params: ModelParams, dials: Iterable[Mapping[str, Any]]) -> list[C]:
    """A cell for each setting of the dials; its other fields are the parameters of the same names.

    The recipe's version and the machine's precision are written into the cell, so that its address changes with them.

    Raises:
        BadRequest: for a model that this machine's memory cannot train.
    """
    shared = {name: value for name, value in params if name in cell_class.model_fields}
    shared |= {
        "recipe_version": learn.RECIPES[params.recipe].VERSION,
        "precision": learn.precision_name(learn.best_device()),
    }
    made = [cell_class(**{**shared, **dial}) for dial in dials]
    for recipe, shape, batch_size, answer in {
        (c.recipe, c.model_shape(), c.batch_size, c.layout().answer) for c in made
    }:
        check_training_memory("a model of these settings", recipe, shape, batch_size, answer)
    return made


class Exam(NamedTuple):
    """Examples to be graded.

    Attributes:
        data: The questions with their right answers.
        instruction: The instruction each example belongs to, [N]: the clusters of the intervals.
        n_instructions: How many there are.
        kinds: Subsets of the examples, bool [N], that are also graded apart.
        judge: From the answers as texts to verdicts by name, each bool [N]: the one named "" is the exam's, others go
            under `<exam>_<name>`, and those that match exactly under `<exam>_string`. Default: exact match alone.
    """

    data: learn.Encoded
    instruction: NDArray[np.int64]
    n_instructions: int
    kinds: Mapping[str, NDArray[np.bool_]] = {}
    judge: Callable[[list[str]], Mapping[str, NDArray[np.bool_]]] | None = None

    def matches(self, model: nn.Module, device: str = "cpu", first: int | None = None) -> Tensor:
        """For each example (or the first few): is the whole answer the right one, token by token? Bool [N]."""
        data = self.data._replace(tokens=self.data.tokens[:first])
        answers = torch.from_numpy(data.tokens[:, data.prompt_length :]).long()
        ignore = -100 if data.filling is None else data.filling
        return grade.exact_match(learn.predict(model, data, device=device), answers, ignore=ignore)

    def judged(
        self, model: nn.Module, layout: learn.Layout | learn.TextLayout, matches: Tensor, device: str = "cpu"
    ) -> Mapping[str, NDArray[np.bool_]]:
        """The judge's verdicts. Answers that do not match are decoded greedily first, as the model would write them."""
        assert self.judge is not None
        tokens, start = torch.from_numpy(self.data.tokens).long(), self.data.prompt_length
        answers = [layout.text(row) for row in tokens[:, start:].tolist()]
        for some in torch.nonzero(~matches)[:, 0].split(512):
            if len(some):
                prompts = tokens[some, :start].to(device)
                found = learn.generate(model, prompts, layout.answer, layout.end).tolist()
                for place, row in zip(some.tolist(), found, strict=True):
                    answers[place] = layout.text(row)
        return self.judge(answers)

    def graded(self, name: str, right: Tensor) -> dict[str, Any]:
        """The columns of the exam for verdicts on its examples, bool [N]; see `graded`."""
        return graded(name, right, self.instruction, self.n_instructions, self.kinds)


class Lesson(NamedTuple):
    """What a cell's model learns from, and its exams by name; the first, `seen`, decides whether it has learned.

    Learning curves follow the first two exams, by exact match. `about` is what the row shall say of the data. `steps`
    overrides the cell's, where data of one size in tokens are of several sizes in examples.
    """

    data: learn.Encoded
    exams: dict[str, Exam]
    about: Mapping[str, Any] = {}
    steps: int | None = None


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
        records[number].log(step=step, loss=round(loss, 4), seconds=round(seconds, 2), **quick)

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
            "loss": done.loss,
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
