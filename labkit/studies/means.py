"""Means of one measurement over groups of finished points, with 95 % intervals, for `labkit results --group`.

An accuracy (`accuracy_<exam>`) gets the interval that views give it: models and, within each, instructions are
resampled (`labkit.grade.seed_cluster_bootstrap` says what that assumes). Any other number gets Student's t over the
points of a group, which takes them to be independent draws from one normal population; one point alone has no interval.
"""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from scipy import stats

from labkit import grade
from labkit.errors import BadRequest, check_known
from labkit.lab import Row
from labkit.lab.query import sort_key
from labkit.studies.rows import GRADED, key_of


def grouped_means(rows: Sequence[Row], names: Sequence[str], metric: str,
                  settings: Collection[str] = ()) -> list[dict[str, Any]]:  # fmt: skip
    """One line per group of rows that agree in the columns `names`; rows without the metric are left out.

    Args:
        settings: The columns that are settings: those that vary within a group, other than the seed, are named.

    Raises:
        BadRequest: for a column that no row has, or a metric that is no number.
    """
    columns = list(dict.fromkeys(name for row in rows for name in row))
    check_known("column", (*names, metric), columns)
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        if row.get(metric) is not None:
            groups.setdefault(tuple(str(row.get(name)) for name in names), []).append(row)
            if not isinstance(row[metric], int | float):
                raise BadRequest(f"--mean {metric}: point {row['address']} has {str(row[metric])[:40]!r}, no number")
    chosen = sorted(groups.values(), key=lambda group: [sort_key(group[0].get(name)) for name in names])
    lines = [{name: group[0].get(name) for name in names} | _mean(group, metric) for group in chosen]
    for line, group in zip(lines, chosen, strict=True):
        varying = [name for name in settings if name != "seed" and len({str(row.get(name)) for row in group}) > 1]
        line["also vary"] = ", ".join(varying)
    return lines


def _mean(group: Sequence[Row], metric: str) -> dict[str, Any]:
    lines = [line for row in group for line in row.get(GRADED, ()) if f"accuracy_{key_of(line)}" == metric]
    counts = [grade.Counts(line["right"], line["asked"]) for line in lines]
    if len(counts) == len(group):
        found = grade.seed_cluster_bootstrap(counts)
        mean, lo, hi, over = found.mean, found.lo, found.hi, found.over.replace("seed", "point")
    else:
        values = np.array([row[metric] for row in group], float)
        mean, lo, hi, over = float(values.mean()), None, None, "one point: none"
        if len(values) > 1:
            half = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
            lo, hi, over = mean - half, mean + half, "points (Student's t)"
    return {f"mean {metric}": mean, "95 % low": lo, "high": hi, "points": len(group), "interval over": over}
