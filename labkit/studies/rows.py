"""Long rows: one line per model, exam, kind of question and grading, with the right answers by cluster.

A finished point keeps what was graded as a list under `graded`; everything else that a person reads of it (means,
intervals, wide tables) is computed from these lines, in `labkit.studies.views`.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from labkit import grade

if TYPE_CHECKING:
    import pandas as pd

GRADED = "graded"
LINE = ("exam", "kind", "grading", "right", "asked")  # the keys of a graded line
MORE = ("volume", "examples", "chance", "nats", "nats_tokens")  # keys of its own that some study's line has, too


def graded_line(exam: str, kind: str, grading: str, counts: grade.Counts) -> dict[str, Any]:
    """One entry of a point's `graded`; `kind` and `grading` are "" for all questions and for the exam's own grading."""
    right, asked = np.asarray(counts.right), np.asarray(counts.asked)
    return {"exam": exam, "kind": kind, "grading": grading, "right": right.tolist(), "asked": asked.tolist()}


def flag_line(exam: str, kind: str, right: Sequence[int]) -> dict[str, Any]:
    """The same for questions that are clusters of their own: 0 or 1 each."""
    return graded_line(exam, kind, "", grade.Counts(right, [1] * len(right)))


def key_of(line: Mapping[str, Any]) -> str:
    """How a view names what was graded: `exam`, `exam:kind`, `exam/grading` or `exam:kind/grading`."""
    kind, grading = line["kind"], line["grading"]
    return line["exam"] + (f":{kind}" if kind else "") + (f"/{grading}" if grading else "")


def long_rows(points: Sequence[Mapping[str, Any]]) -> "pd.DataFrame":
    """The rows of finished points as long rows: their settings, measurements, `LINE` and `key`."""
    import pandas as pd

    lines = []
    for point in points:
        shared = {name: value for name, value in point.items() if name != GRADED}
        lines += [shared | line | {"key": key_of(line)} for line in point[GRADED]]
    return pd.DataFrame(lines)


def records(frame: "pd.DataFrame") -> list[dict[str, Any]]:
    """One dict per row, by column."""
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def points_of(rows: "pd.DataFrame") -> "pd.DataFrame":
    """One row per model: the long rows without what was graded."""
    return rows.drop_duplicates("address").drop(columns=[*LINE, *MORE, "key"], errors="ignore").reset_index(drop=True)


def counts_of(group: "pd.DataFrame") -> list[grade.Counts]:
    """Right answers by cluster, one `Counts` per row."""
    pairs = zip(group["right"], group["asked"], strict=True)
    return [grade.Counts(np.array(right), np.array(asked)) for right, asked in pairs]


def scores_of(right: ArrayLike, asked: ArrayLike) -> np.ndarray:
    """The share of right answers per cluster; for exams that ask each question once, a 0 or 1 per question."""
    return np.divide(np.asarray(right, float), np.asarray(asked, float))
