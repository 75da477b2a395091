"""Which teacher: whose answers to the same questions should students of three sizes learn from?

Is it the teacher that is most often right, the one whose answers the student finds least surprising before training, or
the best ratio of the two (the compatibility-adjusted reward of Xu et al. 2025, arXiv 2411.07133, in its simplest form)?
Teachers are ranked by each, and the ranks are correlated with those of their students' scores. `teach.imperfect` names
teachers and filters; `weak` is a trained weaker model (`abilities.WeakTeacher`). Students of a seed and width
learn for equally many steps from the same text base.
"""

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator
from sacrebleu.metrics import CHRF

from labkit.errors import BadRequest
from labkit.instructions import Example
from labkit.instructions.families import EVERY
from labkit.instructions.family import Task
from labkit.lab import Record, Row
from labkit.studies import abilities, language, scores
from labkit.studies.params import MODEL_GROUP, about
from labkit.studies.ranks import Ranks
from labkit.studies.rows import GRADED, flag_line, records
from labkit.studies.scores import MACRO
from labkit.studies.study import Results, Study
from labkit.studies.views import Gains, Matrix, Records, View, signed
from labkit.teach.imperfect import FLAWED, answers, flawed, kept, parts

if TYPE_CHECKING:
    import pandas as pd

LOOKED = 200  # examples that the loss before training is a mean over
NUMBERS = {"accuracy": "the teacher's accuracy", "ease": "a low loss on its answers", "ratio": "accuracy over loss"}
KNOWN = {
    "teacher_right": "right among the kept", "right_kept": "right and kept, of all", "wrong_kept": "wrong and kept",
    "loss_before": "loss before, nats per token", "chrf": "chrF of translations", "score": "macro score",
}  # fmt: skip


class Params(abilities.AbilityParams):
    """What a person may set; see `catalogue.yaml` for the values each scale gives."""

    groups: ClassVar = {
        "task": ("outside", "levels", "question", "answer", "n_test", "grading"),
        "weak": ("teacher_width", "teacher_steps", "repertoire"),
        "small": MODEL_GROUP,
        "base": ("loss", "base_steps", "base_batch", "base_tokens", "base_answered", "base_gate"),
    }
    teachers: list[str] = Field(min_length=2, description="right (always), worked, wrong:share, weak, flaw:share")
    filtered: list[str] = Field(description="teachers with a filter, asked at the main width: flaw:0.3+agree and so on")
    widths: list[int] = Field(min_length=1, description="the students' sizes")
    volume: int = Field(ge=1, le=10**7, description="questions of each ability")
    teacher_width: int = Field(ge=2, le=16384, description="width of the weak teacher")
    teacher_steps: int = Field(ge=1, le=10**9, description="optimiser steps of the weak teacher")
    repertoire: int = Field(ge=1, le=10**6, description="instructions of each ability that the weak teacher knows")

    @model_validator(mode="after")
    def _teachers(self) -> "Params":
        for teacher in (*self.teachers, *self.filtered):
            parts(teacher)
        if "right" not in self.teachers:
            raise BadRequest(f"teachers = {self.teachers}: 'right' is what the others are compared with")
        return self


class Taught(abilities.FamilyTask):
    """The same questions for all; the source of an example is the teacher who answers it."""

    def told(
        self, spec: Any, seed: int, name: str, source: str, end: int, record: Record
    ) -> list[tuple[Task, str | None]]:
        """The questions of an ability with the teacher's answers, before and after its filter."""
        kind, _, how = parts(source)
        tasks = language.tasks(name, end, "train", self.levels, seed, spec.reading())
        weak = super().examples(spec, seed, name, "answered", end, record) if kind == "weak" else []
        given = [example.output for example in weak] or answers(source, tasks, seed)
        return list(zip(tasks, kept(how, given, tasks, seed), strict=True))

    def examples(self, spec: Any, seed: int, name: str, source: str, end: int, record: Record) -> list[Example]:
        told = self.told(spec, seed, name, source, end, record)
        return [replace(task.example, output=text) for task, text in told if text is not None]


class Cell(abilities.TogetherCell):
    """One student: everything its result depends on. `arm` is its teacher."""

    study: Literal["which_teacher"] = "which_teacher"
    version: Literal[1] = 1
    task: Taught
    width: int

    def measured(self, record: Record) -> Row:
        """As any model of abilities, with the teacher's accuracy and the loss on its answers before training."""
        data = self.data(record)
        sample = data[:: -(-len(data) // LOOKED)]
        found = self.learner(record).likelihood(sample, [[example.output] for example in sample])
        loss = -float(np.nansum(found.total)) / float(found.tokens.sum())
        row = super().measured(record)
        near, flaws = self._translations(record)
        return row | self._teacher(record) | near | {"loss_before": loss, GRADED: row[GRADED] + flaws}

    def _teacher(self, record: Record) -> Row:
        """The share of right answers among those kept, and of all questions those kept with a right and a wrong one."""
        told = [pair for name, of in self.counts.items() for source, n in of.items()
                for pair in self.task.told(self.spec, self.seed, name, source, n, record)]  # fmt: skip
        held = [(task, text) for task, text in told if text is not None]
        right = int(language.taken([task for task, _ in held], [text for _, text in held]).sum())
        return {"teacher_right": right / len(held), "right_kept": right / len(told),
                "wrong_kept": (len(held) - right) / len(told)}  # fmt: skip

    def _translations(self, record: Record) -> tuple[Row, Records]:
        """How near translations come (chrF, 0 to 1), and of the wrong ones, which are the flaw's own answers."""
        if FLAWED not in self.abilities:
            return {"chrf": float("nan")}, []
        written = map(json.loads, (record.folder / "answers.jsonl").read_text("utf-8").splitlines())
        finals = [EVERY[FLAWED].final(line["answer"]) for line in written if line["exam"] == FLAWED]
        asked = language.tasks(FLAWED, self.n_test, "test", self.task.levels, self.seed, self.spec.reading())
        pairs = list(zip(finals, asked, strict=True))
        near = CHRF().corpus_score(finals, [[task.example.output for task in asked]]).score / 100
        own = [int(text == flawed(task, 1)) for text, task in pairs if text != task.example.output]
        return {"chrf": near}, [flag_line("flaw", FLAWED, own) | {"grading": "flawed"}] if own else []


def points(params: Params) -> list[Cell]:
    """A student per teacher, width and seed; per filter and seed at the main width.

    Raises:
        BadRequest: for more questions than an ability has.
    """
    abilities.enough(params, params.volume)
    dials = [(teacher, width) for width in params.widths for teacher in params.teachers]
    dials += [(teacher, params.width) for teacher in params.filtered]
    return [
        Cell(
            seed=seed, spec=abilities.spec(params, 0, width=width), arm=teacher, width=width,
            **abilities.shared(params, ()) | _taught(params, seed, teacher),
        )
        for seed in params.seeds
        for teacher, width in dials
    ]  # fmt: skip


def _taught(params: Params, seed: int, teacher: str) -> dict[str, Any]:
    """What a student of this teacher learns."""
    weak = abilities.weak_teacher(params, seed, params.volume) if parts(teacher)[0] == "weak" else None
    few = params.repertoire if weak else 0
    task = Taught(levels=tuple(params.levels), outside=tuple(params.outside), teacher=weak, repertoire=few)
    return {"task": task, "source": teacher, "counts": {name: {teacher: params.volume} for name in params.abilities}}


def columns(rows: "pd.DataFrame") -> "pd.DataFrame":
    """The rows with their scores (`scores.scored`) and what may predict them."""
    known = scores.scored(rows)
    ratio = known["teacher_right"] / known["loss_before"]
    return known.assign(accuracy=known["teacher_right"], ease=-known["loss_before"], ratio=ratio,
                        filtered=known["arm"].str.contains("+", regex=False))  # fmt: skip


VIEWS: dict[str, View] = {
    "ranks": Ranks(
        title="What tells before training which teacher is best", numbers=NUMBERS, arm="arm", by="width",
        less=("ratio", "accuracy"),
        where=lambda rows: (rows["ability"] == MACRO) & ~rows["filtered"],
    ),
    "gains": Gains(
        title="What students of each teacher score above those of the right and terse one, in pairs", arm="arm",
        arm_name="teacher", baseline="right", by="width", exam="score", exam_label="macro score",
        where=lambda rows: (rows["ability"] == MACRO) & ~rows["filtered"],
    ),
    "flaw": Matrix(
        title="Mistakes of the students that are the flaw's own answer", dials=("arm", "width"), rows_name="teacher",
        label=lambda row: f"{row['arm']}, width {row['width']}", exams={"flawed": "share of mistakes"},
        colour_label="Share", where=lambda rows: rows["arm"].str.startswith(("right", "flaw")),
    ),
}  # fmt: skip


def finding(found: Results) -> str:
    """How well each number ranks the teachers."""
    if "ranks" not in found.views():
        return "Three teachers at every width are needed to rank them"
    told = [f"{line['label']} {signed(line['mean'], line['lo'], line['hi'])}"
            for exam in ("rank", "difference") for line in found["ranks"].lines(exam)]  # fmt: skip
    return f"Rank correlation with the students' scores, over teachers: {'; '.join(told)}"


def teachers(found: Results) -> Records:
    """What was known of each teacher, and the macro score of its students."""
    macro = found.rows[(found.rows["key"] == "score") & (found.rows["ability"] == MACRO)]
    macro = macro.assign(score=[float(np.mean(right)) for right in macro["right"]])
    means = macro.groupby(["arm", "width"], sort=False)[[*KNOWN]].mean().round(3).reset_index()
    return records(means.rename(columns={"arm": "teacher", **KNOWN}))


STUDY = Study(
    **about("which_teacher"), Params=Params, points=points, views=VIEWS, finding=finding, columns=columns,
    dials={"arm": "teacher", "width": "width"}, marks=lambda params: {"scored_by": params.grading}, measure_many=None,
    tables={"What was known of the teachers": teachers},
)  # fmt: skip
