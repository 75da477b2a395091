"""Scores of abilities: what they count from, which abilities are counted, and how arms differ, in pairs.

Scores are corrected for chance. *Macro* is their mean over the abilities that passed their gate, *outside* the mean
over families that were never taught. Models of one seed sit one exam and are compared in pairs: seeds are resampled
and, within each, instructions (`grade.paired_difference`). Seeds may be asked questions with different numbers of
options: the chance level taken off is then their mean, which is exact to second order in how far they differ.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from labkit import grade
from labkit.errors import BadRequest
from labkit.grade import choice
from labkit.grade.questions import GRADINGS
from labkit.studies.rows import counts_of
from labkit.studies.views import Found, Gains, Matrix, Records, ranged, same_questions

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

    from labkit.studies.study import Results

WHOLE, ALONE = ("ladder", "together"), ("gate", "alone")  # designs of all abilities, and of a single one
MACRO, OUTSIDE = "macro", "outside"
MEANS = {"unseen": MACRO, "outside": OUTSIDE}  # of an exam's kinds


def corrected(group: "pd.DataFrame") -> tuple[float, float, float]:
    """The mean score of some models that differ by seed, with its interval."""
    found = grade.seed_cluster_bootstrap(counts_of(group), same_rules=same_questions(group))
    mean, lo, hi = choice.correct([found.mean, found.lo, found.hi], chance_of(group)).tolist()
    return mean, lo, hi


def chance_of(group: "pd.DataFrame") -> float:
    """The accuracy of guessing, the mean over some models' exams."""
    return float(np.mean(group["chance"].tolist()))


def scored(rows: "pd.DataFrame") -> "pd.DataFrame":
    """The long rows, ready for the views: with columns that they choose by, and with lines of scores.

    `key` is the grading; `counted` marks the main one, named by the column `scored_by`. Added are lines of key `score`,
    one per ability and one for each of `MEANS`: their right answers are numbers per instruction whose mean is the
    exam's.

    Raises:
        BadRequest: where there is no ladder.
    """
    import pandas as pd

    ladders = rows[rows["design"].isin(WHOLE)]
    if ladders.empty:
        raise BadRequest("there is no ladder among these rows: nothing grows")
    source = "curated" if "curated" in set(ladders["source"]) else ladders["source"].iloc[0]
    wanted = next((name for name in rows.get("scored_by", [])[:1] if name in set(rows["grading"])), GRADINGS[0])
    rows = rows.assign(
        key=rows["grading"], ability=rows["kind"], counted=rows["grading"] == wanted,
        main_source=rows["source"] == source, last=rows["volume"] == ladders["volume"].max(),
    ).sort_values("seed", kind="stable")  # fmt: skip
    scores: Any = rows[rows["counted"]]
    scores = scores.assign(key="score", counted=False, right=[score(line) for line in scores.to_dict("records")])
    kept: Any = scores[~scores["ability"].isin(failing(rows)) & ~scores["design"].isin(ALONE)]
    means = [scores]
    for (_, exam), group in kept.groupby(["address", "exam"], sort=False):
        means.append(together(group, MEANS[str(exam)]))
    added: Any = pd.concat(means)
    return pd.concat([rows, added.assign(asked=[[1] * len(right) for right in added["right"]])], ignore_index=True)


def together(group: "pd.DataFrame", name: str) -> "pd.DataFrame":
    """A line, under a name in the place of an ability's, whose score is the mean of these abilities' scores."""
    right = macro(group)
    own: Any = {"right": [right], "asked": [[1] * len(right)]}
    return group.iloc[:1].assign(ability=name, **own)


def score(line: Mapping[str, Any]) -> list[float]:
    return list(choice.correct(np.asarray(line["right"]) / np.asarray(line["asked"]).mean(), line["chance"]).tolist())


def macro(group: "pd.DataFrame") -> list[float]:
    """The scores of all abilities together, so weighed that their mean is the mean of the abilities' scores."""
    total, parts = group["right"].map(len).sum(), group["right"].map(np.asarray)
    return [score for part in parts for score in (part * total / (len(parts) * len(part))).tolist()]


def gates(rows: "pd.DataFrame") -> Records:
    """What a model scores that was trained on an ability alone, at the last volume and for as many steps."""
    alone = rows[rows["design"].isin(ALONE) & rows["counted"] & (rows["arm"] == rows["ability"])]
    lines = Records()
    for name, group in alone.groupby("ability", sort=False):
        mean, lo, hi = corrected(group)
        least = float(group["least_alone"].iloc[0])
        lines.append({"ability": name, "mean": mean, "lo": lo, "hi": hi, "least": least, "passes": mean >= least})
    return lines


def alone(found: "Results") -> Records:
    """For people: what each ability reaches alone, and whether it counts in means."""
    return [{"ability": line["ability"], "score alone [95 %]": ranged(line), "asked": line["least"],
             "verdict": "passes" if line["passes"] else "fails: left out of means"}
            for line in gates(found.rows)]  # fmt: skip


def failing(rows: "pd.DataFrame") -> list[str]:
    """The abilities that failed their gate."""
    return [line["ability"] for line in gates(rows) if not line["passes"]]


@dataclass(frozen=True, kw_only=True)
class Paired(Gains):
    """What one arm scores above the baseline, in pairs: each mean and each ability's score; at every volume, or not."""

    exam: str = "score"
    exam_label: str = "score"
    by_volume: bool = True

    def measure(self, rows: "pd.DataFrame") -> Found:
        import pandas as pd

        chosen: Any = self.select(rows, [self.exam])
        place = chosen["volume"].round() if self.by_volume else 0 * chosen["volume"]
        parts = [pd.DataFrame()]
        for (volume, ability), block in chosen.groupby([place, "ability"], sort=False):
            parts.append(super().measure(block).estimates.assign(volume=int(volume), ability=ability))
        return Found(pd.concat(parts, ignore_index=True), chosen.drop(columns=["right", "asked"]))

    def ordered(self, lines: Records) -> Records:
        return lines  # abilities stand in the order of all their pictures

    def table(self, found: Found) -> Records:
        lines = zip(found.estimates.to_dict("records"), super().table(found), strict=True)
        each = lambda line: {"examples of each": f"{line['volume']:,}"} if self.by_volume else {}  # noqa: E731
        return [{"ability": line["ability"], **each(line)} | row for line, row in lines]

    def chart(self, found: Found, published: Sequence[Mapping[str, Any]] = (), title: str = "") -> "alt.TopLevelMixin":
        """The last volume."""
        last = found.estimates[found.estimates["volume"] == found.estimates["volume"].max()]
        named = last.assign(block=last[self.arm].map(self.arm_label), **{self.arm: last["ability"]})
        named = named.sort_values("block", kind="stable")
        return Gains.chart(replace(self, by="block", arm_label=str), found._replace(estimates=named), published, title)


class Graders(Matrix):
    """Accuracies with chance taken off."""

    def estimate(self, group: "pd.DataFrame") -> dict[str, Any]:
        return super().estimate(group) | dict(zip(("mean", "lo", "hi"), corrected(group), strict=True))
