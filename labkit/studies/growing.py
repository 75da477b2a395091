"""A view of growth curves: how the score of every ability grows with its data, with fits and verdicts.

Scores have chance taken off: 0 is a guess, 1 is all right (`grade.choice`); fits and verdicts are those of
`grade.growth`. Rows need the columns `ability`, `volume`, `chance`, `design` (`ladder` or `untrained`), `source`,
`counted` (of the main grading) and `main_source`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from labkit import grade
from labkit.errors import BadRequest
from labkit.grade import choice, growth
from labkit.studies.scores import chance_of, corrected
from labkit.studies.views import Fit, Found, Records, View, ranged, same_questions

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

SCORE, VOLUME = "Score (0: chance, 1: all right)", "Training examples of each ability"
KNOWN = ("plateau", "pace", "gain", "step", "response", "reached")  # what a fit says, each with its interval
AT = ("ability", "source")  # what tells curves apart
ESTIMATE = ("exam", "volume", "mean", "lo", "hi")


@dataclass(frozen=True, kw_only=True)
class Growing(View):
    """A panel per ability; `by` tells the curves of a panel apart.

    Estimates are scores by volume (`score`), and under the names in `KNOWN` what the fits say.
    """

    by: str | None = None

    def measure(self, rows: "pd.DataFrame") -> Found:
        import pandas as pd

        ladder = rows[(rows["design"] == "ladder") & rows["counted"] & (self.where(rows) if self.where else True)]
        start = rows[(rows["design"] == "untrained") & rows["counted"]]
        lines, curves = Records(), Records()
        models = [ladder.iloc[:0]]
        for at, group in ladder.groupby(list(AT), sort=False):
            own = dict(zip(AT, at, strict=True))
            points, about = _curve(group, start[start["ability"] == own["ability"]])
            shared = {"seeds": int(group.groupby("volume").size().min()), "not_learned": 0}
            lines += [own | dict(zip(ESTIMATE, point, strict=True)) | shared for point in points]
            curves.append(own | about)
            models.append(group.assign(value=_scores(group)))
        single = pd.concat(models).drop(columns=["right", "asked"])
        return Found(pd.DataFrame(lines), single, Fit(_verdicts(curves), {"curves": curves}))

    def table(self, found: Found) -> Records:
        lines = Records()
        for curve in curves_of(found):
            fit, last = curve["fit"] or {}, found.lines("score", **{name: curve[name] for name in AT})[-1]
            lines.append({
                "ability": curve["ability"], **({self.by: curve[self.by]} if self.by else {}),
                f"score at {last['volume']:,} [95 %]": ranged(last),
                "plateau [95 %]": open_ended(fit.get("plateau")),
                "pace: examples to half of it [95 %]": open_ended(fit.get("pace"), 0),
                "verdict": fit.get("verdict", "no curve"), "why": fit.get("reason", curve["why"]),
            })  # fmt: skip
        return lines

    def chart(self, found: Found, published: Sequence[Mapping[str, Any]] = (), title: str = "") -> "alt.TopLevelMixin":
        import pandas as pd

        from labkit import show

        curves = curves_of(found)
        said = {curve["ability"]: (curve["fit"] or {}).get("verdict", "no curve") for curve in curves}

        def placed(lines: Any) -> Any:
            panel = lines["ability"] + ("" if self.by else "\n" + lines["ability"].map(said))
            return lines.assign(panel=panel, series=lines[self.by] if self.by else "curated")

        fits = [curve | point for curve in curves if curve["fit"] for point in curve["fit"]["line"]]
        for point in fits:  # bands over bands would hide each other
            point["lo"], point["hi"] = (float("nan"), float("nan")) if self.by else point["ci95"]
        return show.curve_chart(
            placed(found.estimates[found.estimates["exam"] == "score"]),
            None if self.by else placed(found.models.assign(accuracy=found.models["value"])),
            x="volume", x_label=VOLUME, y_label=SCORE, series_label=self.by or "", chance=0.0, y_domain=None,
            lines=placed(pd.DataFrame(fits)) if fits else None, title=title or self.title,
            subtitle="" if self.by else f"{curves[0]['source']} data",
        )  # fmt: skip


GROWTH = Growing(
    title="How each ability grows with its data", where=lambda rows: rows["main_source"] & rows["exam"].eq("unseen")
)


def curves_of(found: Found) -> Records:
    """The curves of a view: each with ability and source, `chance`, `fit` (or None), and `why` there is none."""
    return list(found.fit.numbers["curves"]) if found.fit else []


def open_ended(known: Mapping[str, Any] | None, digits: int = 3) -> str:
    """A number with its interval for people; ends that are open say so."""
    if not known:
        return ""
    value, lo, hi = ("open" if x is None else f"{x:,.{digits}f}" for x in (known["value"], *known["ci95"]))
    return f"{value} [{lo}, {hi}]"


def _curve(group: Any, start: "pd.DataFrame") -> tuple[list[tuple[Any, ...]], dict[str, Any]]:
    """The estimates of one curve, and its fit, or why there is none."""
    chance = chance_of(group)
    volumes, parts = zip(*((int(volume), part) for volume, part in group.groupby("volume")), strict=True)
    answers = tuple(map(_answers, parts))
    try:
        fit = _fitted(volumes, answers, chance, same_questions(group), _answers(start))
    except BadRequest as refusal:
        points = [("score", volume, *corrected(part)) for volume, part in zip(volumes, parts, strict=True)]
        return points, {"chance": chance, "fit": None, "why": str(refusal)}
    least = -chance / (1 - chance)  # a score's ends: nothing right, and all
    points = [("score", p.volume, p.score, max(p.lo, least), min(p.hi, 1.0)) for p in fit.points]
    points += [(name, volumes[-1], *getattr(fit, name)) for name in KNOWN]
    grid = np.geomspace(volumes[0], volumes[-1], 25)
    line = zip(*(numbers.tolist() for numbers in (grid, *fit.at(grid))), strict=True)
    drawn = {"line": [{"volume": x, "mean": mean, "ci95": [lo, hi]} for x, mean, lo, hi in line]}
    return points, {"chance": chance, "fit": fit.as_dict() | drawn, "why": ""}


@lru_cache(maxsize=512)
def _fitted(volumes: Any, answers: Any, chance: float, same: bool, start: Any) -> growth.GrowthFit:
    """A fit; views that share a curve share its fit."""
    untrained, *counts = [[grade.Counts(*map(np.array, one)) for one in group] for group in (start, *answers)]
    before = untrained[0] if untrained else None
    return growth.fit_growth(volumes, counts, chance=chance, same_rules=same, untrained=before)


def _answers(group: "pd.DataFrame") -> tuple[Any, ...]:
    return tuple((tuple(r), tuple(a)) for r, a in zip(group["right"], group["asked"], strict=True))


def _scores(group: "pd.DataFrame") -> list[float]:
    accuracies = [sum(right) / sum(asked) for right, asked in zip(group["right"], group["asked"], strict=True)]
    return list(choice.correct(accuracies, chance_of(group)).tolist())


def _verdicts(curves: Records) -> str:
    verdicts = {curve["ability"]: (curve["fit"] or {}).get("verdict", "no curve") for curve in curves}
    named = {kind: ", ".join(n for n, v in verdicts.items() if v == kind) for kind in (*growth.VERDICTS, "no curve")}
    return "; ".join(f"{kind}: {names}" for kind, names in named.items() if names)
