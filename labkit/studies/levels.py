"""Kinds of tasks by level: the exam of each, the gate of each, and scores that count all alike.

An exam of a kind at a level is graded by the likelihood of the right answer, and as written (`grade.questions`). A kind
and level that a model of a study's size and steps does not learn even alone fails its gate, and is left out of means.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from labkit.grade import choice, questions
from labkit.lab import Record, Row
from labkit.learn.learner import Learner
from labkit.studies import abilities, language, learners, scores
from labkit.studies.lesson import Lesson
from labkit.studies.registration import DEVELOPMENT
from labkit.studies.rows import GRADED, graded_line, records

if TYPE_CHECKING:
    import pandas as pd


def place(kind: str, level: int) -> str:
    """How an exam of one kind and level is named."""
    return f"{kind} {level}"


def exams(spec: Any, seed: int, names: Sequence[str], outside: Sequence[str], levels: Sequence[int],
          n: int) -> list[questions.Exam]:  # fmt: skip
    """An exam of each kind and level, of `n` questions; equal seeds ask the same."""
    named = tuple(names), tuple(outside)
    parts = [(level, abilities.exams(*named, n, (level,), seed, spec.reading())) for level in levels]
    return [one._replace(kind=place(one.kind, level)) for level, sat in parts for one in sat]


def lines_of(
    learner: Learner, sat: Sequence[questions.Exam], gradings: Sequence[str], folder: Path
) -> list[dict[str, Any]]:
    """The graded lines of some exams; the first grading has no name."""
    found = questions.graded(learner, sat, gradings, folder / "answers.jsonl")
    named = [(one, "" if one.grading == gradings[0] else one.grading) for one in found]
    return [graded_line(one.exam.name, one.exam.kind, name, one.counts) | {"chance": one.about["chance"]}
            for one, name in named]  # fmt: skip


class Gate(learners.Student):
    """Can a kind be learned at a level? A student of the same size and steps that learns it alone, with right answers.

    Gates are sat on a development seed, so that what counts is not decided on the questions of a report.
    """

    study: Literal["curriculum_gate"] = "curriculum_gate"
    version: Literal[1] = 1
    seed: int = DEVELOPMENT
    spec: learners.SmallSpec
    kind: str
    level: int
    examples: int
    n_test: int

    def lesson(self) -> Lesson:
        """As many examples as an arm has, all of one kind and level."""
        numbers = {(self.kind, self.level): self.examples}
        drawn = language.published(numbers, self.spec.layout(), wrong=0.0, seed=self.seed)
        return Lesson([example for example, _ in drawn], {})

    def measured(self, record: Record) -> Row:
        """Learn, and be examined; `score` has chance taken off."""
        student = self.learner(record)
        done = student.learn(self.lesson().data, steps=self.steps, seed=self.seed, folder=record.lasting)
        student.save(record.folder)
        sat = exams(self.spec, self.seed, [self.kind], (), [self.level], self.n_test)
        line, *others = lines_of(student, sat, questions.GRADINGS, record.folder)
        score = choice.correct([sum(line["right"]) / sum(line["asked"])], line["chance"]).tolist()[0]
        return {"train_seconds": done.seconds, "score": score, "learned": True, GRADED: [line, *others]}


def gates(rows: "pd.DataFrame") -> list[dict[str, Any]]:
    """What a model scores that learned a kind at a level alone, and whether that passes (the column `least`)."""
    found: dict[str, float] = next((gate for gate in rows["gate"] if gate), {})
    least = float(rows["least"].iloc[0])
    return [{"kind": kind, "score alone": round(score, 3), "asked": least, "passes": score >= least}
            for kind, score in found.items()]  # fmt: skip


def scored(rows: "pd.DataFrame") -> "pd.DataFrame":
    """The rows, with lines of exam `macro`: scores over all that passed, over each level, and over what is outside."""
    import pandas as pd

    failed, added = {line["kind"] for line in gates(rows) if not line["passes"]}, [rows]
    asked = rows[rows["grading"].eq("") & rows["kind"].ne("") & ~rows["kind"].isin(failed)]
    for (_, exam), group in asked[asked["exam"].isin(["unseen", "outside"])].groupby(["address", "exam"], sort=False):
        by_level = group.groupby(group["kind"].str.extract(r" (\d)$", expand=False))
        parts = {"": group, **{f"level {level}": part for level, part in by_level}}
        for kind, part in ({"outside": group} if exam == "outside" else parts).items():
            line: Any = part.iloc[:1].assign(exam="macro", kind=kind, key="macro" + f":{kind}" * bool(kind))
            own: Any = {"right": [scores.score(one) for one in records(part)]}
            right: Any = scores.macro(part.assign(**own))
            added.append(line.assign(right=[right], asked=[[1] * len(right)]))
    return pd.concat(added, ignore_index=True)
