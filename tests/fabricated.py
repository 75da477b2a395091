"""Models that nobody trained, and estimates made by hand: for tests of what is made of results."""

from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

import numpy as np
import pandas as pd

from labkit import grade, show
from labkit.studies.claims import judged
from labkit.studies.rows import GRADED, graded_line, long_rows
from labkit.studies.study import Study
from labkit.studies.views import Found

NUMBERS = count()


def model(exams: Mapping[str, tuple[Any, Any]], **row: Any) -> dict[str, Any]:
    """A finished point: right and asked by cluster per exam (`exam`, `exam:kind`, `exam/grading`), and its settings."""
    lines = []
    for key, counts in exams.items():
        name, _, grading = key.partition("/")
        exam, _, kind = name.partition(":")
        lines.append(graded_line(exam, kind, grading, grade.Counts(*map(np.asarray, counts))))
    return {"address": f"made up {next(NUMBERS)}", "learned": True, **row, GRADED: lines}


def estimates(*lines: Mapping[str, Any]) -> Found:
    """A view's estimates made by hand; each has two seeds that have learned, unless it says otherwise."""
    return Found(pd.DataFrame([{"seeds": 2, "not_learned": 0, **line} for line in lines]), pd.DataFrame())


def around(mean: float, wide: float) -> dict[str, float]:
    """An estimate's mean and interval."""
    return {"mean": mean, "lo": mean - wide, "hi": mean + wide}


def verdicts(study: Study, found: Mapping[str, Found]) -> list[str]:
    """The verdict on each published statement of a study, from estimates made by hand."""
    names = study.published or [study.name]
    return [row["verdict"] for row in judged([record for name in names for record in show.published(name)], found)]


def accuracies(rows: Sequence[Mapping[str, Any]], place: int = 0) -> dict[str, float]:
    """The accuracy of one finished point by everything that was graded, such as `unseen:op`."""
    lines = long_rows([rows[place]])
    return {key: sum(r) / sum(a) for key, r, a in zip(lines["key"], lines["right"], lines["asked"], strict=True)}
