"""What came out of the study of ability growth: sources, sizes and designs in pairs, complexity, predictions.

Scores are corrected for chance; *macro* is their mean over abilities. Models of one seed sit one exam and are compared
in pairs: seeds are resampled and, within each, instructions (`grade.paired_difference`). Seeds may be asked questions
with different numbers of options: the chance level taken off is then their mean, which is exact to second order in how
far they differ.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from labkit import grade
from labkit.design.plan import Curves, Growth
from labkit.errors import BadRequest
from labkit.grade import choice, transference
from labkit.grade.questions import GRADINGS
from labkit.studies.growing import Growing, corrected, curves_of
from labkit.studies.transfers import effects
from labkit.studies.views import Fit, Found, Gains, Matrix, Records, same_questions

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

MACRO = "macro"
FEATURES = {
    "complexity": "complexity, nats per token",
    "transference_score": "transference, score",
    "transference_nats": "transference, nats per token",
}

GROWTH = Growing(
    title="How each ability grows with its data", where=lambda rows: rows["main_size"] & rows["main_source"]
)


def scored(rows: "pd.DataFrame") -> "pd.DataFrame":
    """The long rows, ready for the views: with columns that they choose by, and with lines of scores.

    `key` is the grading; `counted` marks the main one, named by the column `scored_by`. Added are lines of key `score`,
    one per ability and one of `macro`, and `nats` (log-likelihood of right answers per token): their right answers are
    numbers per instruction whose mean is the exam's.

    Raises:
        BadRequest: where there is no ladder.
    """
    import pandas as pd

    ladders = rows[rows["design"] == "ladder"]
    if ladders.empty:
        raise BadRequest("there is no ladder among these rows: nothing grows")
    sizes = ladders.sort_values("parameters", kind="stable")["size"].unique().tolist()
    apart = rows["design"].isin(["without", "alone", "mix"]) | (rows["source"] == "synthetic")
    main = next((size for size in rows[apart]["size"].iloc[:1] if size in sizes), sizes[len(sizes) // 2])
    source = "curated" if "curated" in set(ladders["source"]) else ladders["source"].iloc[0]
    wanted = next((name for name in rows.get("scored_by", [])[:1] if name in set(rows["grading"])), GRADINGS[0])
    rows = rows.assign(
        key=rows["grading"], ability=rows["kind"], counted=rows["grading"] == wanted,
        place=rows["size"].map(sizes.index),
        main_size=rows["size"] == main, main_source=rows["source"] == source,
        rank=rows["size"].map({sizes[0]: "smallest", sizes[-1]: "largest"}),
        last=rows["volume"] == rows.groupby(["design", "size", "source"])["volume"].transform("max"),
    ).sort_values(["place", "seed"], kind="stable")  # fmt: skip
    taught = rows[rows["exam"] == "unseen"]
    scores = _numbers(taught[taught["counted"]], "score", _score)
    groups = [group for _, group in scores.groupby(["address", "volume"], sort=False)]
    macro: Any = pd.concat([group.iloc[:1] for group in groups])
    macro = macro.assign(ability=MACRO, right=[_macro(group) for group in groups])
    nats = _numbers(taught[taught["key"] == GRADINGS[0]], "nats", _nats)
    return pd.concat([rows, macro.assign(asked=_ones(macro)), scores, nats], ignore_index=True)


def _numbers(rows: Any, key: str, number: Callable[[Mapping[str, Any]], Any]) -> Any:
    found = rows.assign(key=key, counted=False, right=[number(line).tolist() for line in rows.to_dict("records")])
    return found.assign(asked=_ones(found))


def _ones(rows: "pd.DataFrame") -> list[list[int]]:
    return [[1] * len(right) for right in rows["right"]]


def _score(line: Mapping[str, Any]) -> Any:
    return choice.correct(np.asarray(line["right"]) / np.asarray(line["asked"]).mean(), line["chance"])


def _nats(line: Mapping[str, Any]) -> Any:
    return -np.asarray(line["nats"]) / np.asarray(line["nats_tokens"]).mean()


def _macro(group: "pd.DataFrame") -> list[float]:
    """The scores of all abilities together, so weighed that their mean is the mean of the abilities' scores."""
    total, parts = group["right"].map(len).sum(), group["right"].map(np.asarray)
    return [score for part in parts for score in (part * total / (len(parts) * len(part))).tolist()]


@dataclass(frozen=True, kw_only=True)
class Paired(Gains):
    """What one arm scores above the baseline, in pairs: the macro score and each ability's, at every volume."""

    exam: str = "score"
    exam_label: str = "score"

    def measure(self, rows: "pd.DataFrame") -> Found:
        import pandas as pd

        chosen: Any = self.select(rows, [self.exam])
        parts = [pd.DataFrame()]
        for (volume, ability), block in chosen.groupby(["volume", "ability"], sort=False):
            parts.append(super().measure(block).estimates.assign(volume=round(volume), ability=ability))
        return Found(pd.concat(parts, ignore_index=True), chosen.drop(columns=["right", "asked"]))

    def table(self, found: Found) -> Records:
        lines = zip(found.estimates.to_dict("records"), super().table(found), strict=True)
        return [{"ability": line["ability"], "examples of each": f"{line['volume']:,.0f}"} | row for line, row in lines]

    def chart(self, found: Found, published: Sequence[Mapping[str, Any]] = (), title: str = "") -> "alt.TopLevelMixin":
        """The last volume."""
        last = found.estimates[found.estimates["volume"] == found.estimates["volume"].max()]
        named = last.assign(block=last[self.arm], **{self.arm: last["ability"]}).sort_values("block", kind="stable")
        return Gains.chart(replace(self, by="block"), found._replace(estimates=named), published, title)


class Graders(Matrix):
    """Accuracies with chance taken off."""

    def estimate(self, group: "pd.DataFrame") -> dict[str, Any]:
        return super().estimate(group) | dict(zip(("mean", "lo", "hi"), corrected(group), strict=True))


def growths(curves: Records, abilities: Sequence[str]) -> dict[str, Growth] | None:
    """What a plan needs of the growth curves of some abilities; None where one has no curve."""
    fits = {curve["ability"]: curve["fit"] for curve in curves if curve["ability"] in abilities}
    if not fits or not all(fits.values()):
        return None
    return {
        name: Growth(Curves.of(fit["curves"]), fit["points"][-1]["volume"], fit["verdict"] != "not responding")
        for name, fit in fits.items()
    }


def complexity(rows: "pd.DataFrame", ability: str) -> dict[str, Any] | None:
    """What a model pays for right answers that has not been trained for the ability: with the others, or not at all."""
    asked = rows[(rows["ability"] == ability) & (rows["key"] == GRADINGS[0])]
    apart = asked[(asked["design"] == "without") & (asked["arm"] == ability)]
    chosen = apart if len(apart) else asked[asked["design"] == "untrained"]
    if chosen.empty:
        return None
    nats, tokens = (np.concatenate(chosen[name].tolist()) for name in ("nats", "nats_tokens"))
    cluster = np.concatenate([np.arange(len(one)) + 10_000 * i for i, one in enumerate(chosen["nats"])])
    return transference.complexity(-nats, tokens, cluster).as_dict()


@dataclass(frozen=True, kw_only=True)
class Features(Matrix):
    """Complexity and transference of each ability, and below how they go with its pace, in ranks.

    Estimates named `<feature> and pace` say how strong that rank correlation is, whatever its sign.
    """

    dials: Sequence[str] = ("label",)
    label: Callable[[Mapping[str, Any]], str] = str
    exams: Mapping[str, str] = field(default_factory=FEATURES.copy)
    rows_name: str = "ability"
    x_label: str = ""
    diverging: bool = True

    def measure(self, rows: "pd.DataFrame") -> Found:
        import pandas as pd

        abilities = rows[rows["key"] == "nats"]["ability"].unique().tolist()
        found: dict[str, Any] = {"complexity": {name: complexity(rows, name) for name in abilities}}
        why: dict[str, str] = {}
        for key in ("score", "nats"):
            try:
                received = effects(rows, "without", key).received
            except BadRequest as refusal:
                received, why[f"transference_{key}"] = {}, str(refusal)
            found[f"transference_{key}"] = {name: one.as_dict() for name, one in received.items()}
        fits = {curve["ability"]: curve["fit"] for curve in curves_of(GROWTH.measure(rows)) if curve["fit"]}
        paces = {name: fits[name]["pace"]["value"] for name in abilities if name in fits}
        ranks = {name: np.inf if pace is None else pace for name, pace in paces.items()}  # beyond the ladder: slow
        lines, correlations = [], Records()
        for feature, values in found.items():
            known = {name: value for name, value in values.items() if value}
            lines += [(feature, name, value["value"], *value["ci95"]) for name, value in known.items()]
            try:
                one = transference.rank_correlation({name: value["value"] for name, value in known.items()}, ranks)
            except BadRequest as refusal:
                correlations.append({"feature": feature, "rho": None, "why": why.get(feature, str(refusal))})
            else:
                low, high = sorted([abs(one.lo), abs(one.hi)])
                lines.append((feature, "rank correlation with pace", one.rho, one.lo, one.hi))
                lines.append((f"{feature} and pace", "", abs(one.rho), 0.0 if one.lo <= 0 <= one.hi else low, high))
                correlations.append({"feature": feature, **one.as_dict(), "why": ""})
        estimates = pd.DataFrame(lines, columns=["exam", "label", "mean", "lo", "hi"]).astype(
            {"lo": float, "hi": float}
        )
        shared: Any = {"seeds": int(rows[rows["design"] == "ladder"]["seed"].nunique()), "not_learned": 0, "over": ""}
        numbers = {"correlations": correlations, "paces": paces, **found}
        return Found(estimates.assign(framed=False, **shared), rows.iloc[:0], Fit("", numbers))


@dataclass(frozen=True, kw_only=True)
class Designs(Matrix):
    """The designs of one budget: what was predicted of each before the run, and what was measured."""

    dials: Sequence[str] = ("arm",)
    label: Callable[[Mapping[str, Any]], str] = str
    exams: Mapping[str, str] = field(default_factory=dict)
    rows_name: str = "design"
    diverging: bool = True

    def measure(self, rows: "pd.DataFrame") -> Found:
        import pandas as pd

        lines, about = [], {}
        mixes = rows[(rows["design"] == "mix") & (rows["counted"] | (rows["ability"] == MACRO))]
        for (arm, ability), group in mixes.groupby(["arm", "ability"], sort=False):
            counts, said = group["counts"].iloc[0], group["predicted"].iloc[0]
            said = said if isinstance(said, dict) else {}
            about[arm] = {"counts": counts, "predicted": said}
            if ability == MACRO:
                tables = [np.stack([right, 0 * right]) for right in map(np.array, group["right"])]
                ends = grade.paired_difference(tables, 0, 1, same_problems=same_questions(group))
            else:
                ends = corrected(group)
            known = said.get(MACRO) if ability == MACRO else said.get("abilities", {}).get(ability)
            parts = {"predicted": [known["value"], *known["ci95"]]} if known else {}
            for what, (mean, lo, hi) in {**parts, "measured": ends}.items():
                lines.append((arm, f"{arm}, {what}", what, ability, mean, lo, hi, len(group)))
        columns = ["arm", "label", "what", "exam", "mean", "lo", "hi", "seeds"]
        estimates = pd.DataFrame(lines, columns=columns).assign(framed=False, not_learned=0, over="")
        return Found(estimates, mixes.drop(columns=["right", "asked"]), Fit("", {"designs": about}))
