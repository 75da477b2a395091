"""Mistakes: which questions of an exam a finished model gets wrong, what it wrote, and of which kinds they are.

Nothing of this is kept by a point: its lesson is drawn anew from the cell, and the kept model sits the exam once more.
Kinds are those that the exam itself tells apart, and for rules x -> y those of `instructions.kinds`.
"""

from typing import Any, NamedTuple

import numpy as np

from labkit.errors import BadRequest, unknown
from labkit.instructions.kinds import Question, kinds_of
from labkit.lab import Record, Store
from labkit.learn import Encoded
from labkit.learn.learner import Data
from labkit.studies.cell import Cell
from labkit.studies.lesson import Exam
from labkit.studies.study import Study

NAMES = ("pattern", "replacement", "input")  # the parts of a question whose kinds are known
EVERY = "all questions"


class Mistakes(NamedTuple):
    """What was asked, in the exam's order: the question, what is right, what was written, its kinds, the verdict."""

    asked: list[dict[str, Any]]

    def wrong(self) -> list[dict[str, Any]]:
        """The questions that were answered wrong."""
        shown = ("question", "right", "written", "kinds")
        return [{name: one[name] for name in shown} for one in self.asked if not one["correct"]]

    def by_kind(self) -> list[dict[str, Any]]:
        """How many questions of each kind are wrong: all of them, then the kind with the largest share first."""
        lines = []
        for kind in dict.fromkeys(kind for one in self.asked for kind in [EVERY, *one["kinds"].split("; ")] if kind):
            own = [one for one in self.asked if kind == EVERY or kind in one["kinds"].split("; ")]
            wrong = [one for one in own if not one["correct"]]
            example = "{question} {written}, right: {right}".format(**wrong[0]) if wrong else ""
            lines.append({"kind": kind, "wrong": len(wrong), "asked": len(own), "share": len(wrong) / len(own),
                          "such as": example})  # fmt: skip
        return sorted(lines, key=lambda line: (line["kind"] != EVERY, -line["share"]))


def mistakes(study: Study, store: Store, address: str, exam: str | None = None) -> Mistakes:
    """The exam (default the last of "unseen" and the lesson's own) of a finished point, question by question.

    Raises:
        BadRequest: for a point of another study, one whose model was not kept or does not sit exams, or an exam that
            it has not.
    """
    store.row(study.name, address)  # it is there, whole, and of this study
    settings = store.settings(study.name, address)
    kind = next(
        (kind for kind in study.kinds if issubclass(kind, Cell) and set(settings) <= set(kind.model_fields)), None
    )
    if kind is None:
        raise BadRequest(f"point {address} of {study.name} has no exams that its model could sit once more")
    cell, folder = kind.model_validate(settings), store.find(address)
    learner = cell.learner(Record(folder, store=store))
    learner.restore(folder)
    exams = cell.lesson().exams
    name = exam or ("unseen" if "unseen" in exams else [*exams][-1])
    if name not in exams:
        raise unknown(f"exam of {study.name}", name, exams)
    return Mistakes(_sat(learner, exams[name]))


def _sat(learner: Any, exam: Exam) -> list[dict[str, Any]]:
    """The exam, sat."""
    verdict = exam.verdicts(learner)[""]
    correct = np.ma.getdata(verdict) | np.ma.getmaskarray(verdict)  # what cannot be judged is no mistake
    written, gold = learner.written(exam.data, correct), learner.gold(exam.data)
    parts = getattr(learner.layout, "names", ()) if hasattr(learner, "layout") else ()
    lines = []
    for place, right in enumerate(correct.tolist()):
        question = _question(exam.data, place)
        kinds = [name for name, flags in exam.kinds.items() if flags[place]]
        if parts == NAMES:
            kinds += kinds_of(Question(*question.rstrip("=").split("|")))
        lines.append({"question": question, "right": gold[place], "written": written[place],
                      "kinds": "; ".join(kinds), "correct": right})  # fmt: skip
    return lines


def _question(data: Data, place: int) -> str:
    if isinstance(data, Encoded):
        return data.decode(place)[: data.prompt_length]
    example = data[place]
    return f"{example.instruction}\n{example.input}".strip()
