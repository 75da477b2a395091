"""Published statements beside ours: claims as data, judged by one decision rule.

A record of `show/published.json` may hold a `claim`: the view it speaks of, a rule, and the rule's settings. Three
rules gather the evidence, and `labkit.grade.decision` judges it; no verdict reads prose.

- `level`: estimates chosen by `where` lie in [`low`, `high`). An end may be "half the plateau" of the fit
  of the view `fit_of` (default its own), "above 0", or "the last place"
  that was tried.
- `against`: estimates chosen by `where`, less `times` (default 1) those chosen by `against` that agree in the columns
  `match`, lie in [`low`, `high`); only against those whose mean is `provided` or more.
- `fit`: the interval `interval` (default `ci95`) of the view's fit lies in [`low`, `high`).

`where` and `against` choose by column: a value, a list of values, {"from": v, "below": v} or one of the two, or "most"
and "fewest" for the highest and lowest value there is. `quantifier` "any" asks for one piece of evidence, not for all.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from labkit.grade.decision import ABOVE_ZERO, Evidence, decide, difference
from labkit.studies.rows import records
from labkit.studies.views import Found, ranged

if TYPE_CHECKING:
    import pandas as pd

HALF, LAST = "half the plateau", "the last place"
OPEN = (("low", float("-inf")), ("high", float("inf")))


def judged(records: Sequence[Mapping[str, Any]], found: Mapping[str, Found]) -> list[dict[str, str]]:
    """One row per published statement with a claim: `published`, `ours` (with intervals), `verdict`, `source`."""
    return [_judged(record, found) for record in records if "claim" in record]


def claims_of(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The claims of a record: none, one or several, all of whose evidence counts."""
    claims = record.get("claim", [])
    return claims if isinstance(claims, list) else [claims]


def _judged(record: Mapping[str, Any], found: Mapping[str, Found]) -> dict[str, str]:
    claims = claims_of(record)
    pieces: list[Evidence] = []
    ours: list[str] = []
    for claim in claims:
        view = found.get(claim["view"])
        if view is not None and len(view.estimates):
            ends = {
                end: _end(claim.get(end, none), found.get(claim.get("fit_of", claim["view"]))) for end, none in OPEN
            }
            own, words = RULES[claim["rule"]](view, {**claim, **ends})
            pieces += own
            ours += [words] * bool(words)
    return {
        "published": record["statement"],
        "ours": "; ".join(ours) or "not tried",
        "verdict": decide(pieces, claims[0].get("quantifier", "all")),
        "source": f"{record['source']}, {record['figure']}",
    }


def level(found: Found, claim: Mapping[str, Any]) -> tuple[list[Evidence], str]:
    """Every chosen estimate lies in the region.

    Models that have not learned their own training set might still rise: their upper end counts as unknown, so that
    they can show that something generalises, and never that it does not.
    """
    lines = chosen(found.estimates, claim.get("where", {}), claim["exam"])
    ends = [(line["lo"], float("inf") if line["not_learned"] else line["hi"]) for line in lines]
    pieces = [_evidence({**line, "not_learned": 0}, pair, claim) for line, pair in zip(lines, ends, strict=True)]
    return pieces, _listed(lines, claim)


def against(found: Found, claim: Mapping[str, Any]) -> tuple[list[Evidence], str]:
    """Every chosen estimate differs from those it is set against as the region says."""
    lines = chosen(found.estimates, claim.get("where", {}), claim["exam"])
    others = chosen(found.estimates, claim.get("against", {}), claim.get("against_exam", claim["exam"]))
    match, times = claim.get("match", []), claim.get("times", 1)
    pieces, used = [], []
    for line in lines:
        for other in others:
            if line == other or any(line[name] != other[name] for name in match):
                continue
            if other["mean"] < claim.get("provided", float("-inf")):
                continue
            gap = difference((line["lo"], line["hi"]), (times * other["lo"], times * other["hi"]))
            both = {"seeds": min, "not_learned": max}
            pieces.append(_evidence({name: of(line[name], other[name]) for name, of in both.items()}, gap, claim))
            used += [one for one in (line, other) if one not in used]
    return pieces, _listed(used, claim)


def fit(found: Found, claim: Mapping[str, Any]) -> tuple[list[Evidence], str]:
    """The fitted place lies in the region."""
    numbers = found.fit.numbers if found.fit else {}
    ends = numbers.get(claim.get("interval", "ci95"))
    if not ends:
        return [], found.fit.sentence if found.fit else ""
    whole = {"seeds": found.estimates["seeds"].min(), "not_learned": found.estimates["not_learned"].sum()}
    return [_evidence(whole, ends, claim)], found.fit.sentence if found.fit else ""


RULES = {"level": level, "against": against, "fit": fit}


def chosen(estimates: "pd.DataFrame", where: Mapping[str, Any], exam: str) -> list[dict[str, Any]]:
    """The estimates of an exam that a claim speaks of; see the module for what `where` may say."""
    lines = estimates[estimates["exam"] == exam]
    for column, wanted in where.items():
        values = lines[column]
        if isinstance(wanted, dict):
            lines = lines[(values >= wanted.get("from", -np.inf)) & (values < wanted.get("below", np.inf))]
        elif wanted in ("most", "fewest"):
            lines = lines[values == (values.max() if wanted == "most" else values.min())]
        else:
            lines = lines[values.isin(wanted if isinstance(wanted, list) else [wanted])]
    return records(lines)


def _evidence(line: Mapping[str, Any], ends: tuple[float, float], claim: Mapping[str, Any]) -> Evidence:
    lo, hi = ends
    return Evidence(lo, hi, claim["low"], claim["high"], int(line["seeds"]), not line["not_learned"])


def _end(value: float | str, fitted: Found | None) -> float:
    """The end of a region as a number."""
    numbers = fitted.fit.numbers if fitted and fitted.fit else {}
    if value == HALF:
        return (numbers.get("plateau") or 1.0) / 2
    if value == LAST:
        return numbers.get("last", float("inf"))
    return ABOVE_ZERO if value == "above 0" else float(value)


def _listed(lines: Sequence[Mapping[str, Any]], claim: Mapping[str, Any]) -> str:
    """The estimates in words: the columns that the claim names, then mean and interval."""
    named = list(claim.get("shown", [*claim.get("where", {}), *claim.get("match", [])]))
    told = []
    for line in lines:
        at = ", ".join(
            f"{line[name]:,}" if isinstance(line[name], int) else str(line[name]) for name in dict.fromkeys(named)
        )
        told.append(f"{at}: {ranged(line)}" if at else ranged(line))
    return "; ".join(told)
