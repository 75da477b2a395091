"""Published statements as data: each names what its study has, and the rules judge as they say."""

from collections.abc import Mapping
from functools import cache
from typing import Any

import golden
import pandas as pd
import pytest
from fabricated import around, estimates
from golden import lengthened, scales

from labkit import show, studies
from labkit.studies import code_mixing
from labkit.studies.claims import HALF, LAST, RULES, chosen, claims_of, judged
from labkit.studies.study import Results, Study
from labkit.studies.views import Fit, Found

EXAMS = {  # the exams of each study that frozen rows hold
    "diversity_sweep": ["unseen", "seen"],
    "long_tail": ["unseen", "seen", "rare"],
    "input_variety": ["varied", "unseen", "seen"],
    "semantic_diversity": [*studies.find("semantic_diversity").views["matrix"].exams, "seen"],
    "abstraction": ["unseen", "seen", "special", "deeper"],
    "encrypted_rewriting": ["unseen", "seen"],
    "code_mixing": ["seen", *code_mixing.STRATA, "general"],
}
CLAIMS = [
    pytest.param(study, claim, id=f"{study}: {record['statement'][:40]}")
    for study in EXAMS
    for name in studies.find(study).published or [study]
    for record in show.published(name)
    for claim in claims_of(record)
]


@cache
def frozen(study: str) -> Results:
    return studies.find(study).summarise(lengthened(golden.frozen(study, scales(study)[0])["rows"], EXAMS[study]))


@pytest.mark.parametrize(("study", "claim"), CLAIMS)
def test_a_claim_names_what_its_study_has(study: str, claim: Mapping[str, Any]) -> None:
    results = frozen(study)
    assert claim["view"] in results.study.views
    assert claim.get("fit_of", claim["view"]) in results.study.views
    lines = results[claim["view"]].estimates
    assert claim["rule"] in RULES
    assert claim.get("quantifier", "all") in ("all", "any")
    assert {"low", "high"} & set(claim)
    for end in ("low", "high"):
        assert isinstance(claim.get(end, 0), int | float) or claim[end] in (HALF, LAST, "above 0")
    if claim["rule"] == "fit":
        assert results[claim["view"]].fit is not None
        return
    named = {*claim.get("where", {}), *claim.get("against", {}), *claim.get("match", []), *claim.get("shown", [])}
    assert named <= set(lines.columns)
    assert {claim["exam"], claim.get("against_exam", claim["exam"])} <= set(lines["exam"])


@pytest.mark.parametrize("study", list(EXAMS))
def test_every_claim_of_a_frozen_run_gets_an_outcome(study: str) -> None:
    rows = frozen(study).claims
    assert len(rows) == len([record for record in frozen(study).published if "claim" in record])
    assert all(row["verdict"] in ("supports", "contradicts", "cannot tell", "not tested here") for row in rows)
    if scales(study)[0] == "smoke":  # of one seed
        assert {row["verdict"] for row in rows} <= {"cannot tell", "not tested here"}


# The rules, on estimates made by hand.


def line(n: int, mean: float, wide: float = 0.05, **more: Any) -> dict[str, Any]:
    return {"exam": "unseen", "n": n, **around(mean, wide), **more}


def verdict(found: Found | None, *claims: dict[str, Any]) -> str:
    record = {"statement": "s", "source": "somebody", "figure": "Fig. 1"}
    whole = [{"view": "growth", "exam": "unseen", **claim} for claim in claims]
    (row,) = judged([record | {"claim": whole if len(whole) > 1 else whole[0]}], {"growth": found} if found else {})
    return row["verdict"]


GROWTH = estimates(line(10, 0.1), line(100, 0.5, 0.2), line(1000, 0.9))
FITTED = GROWTH._replace(fit=Fit("it rises", {"ci95": [200.0, 300.0], "plateau": 0.9, "last": 1000}))


@pytest.mark.parametrize(
    ("claim", "outcome"),
    [
        ({"where": {"n": {"from": 1000}}, "low": 0.5}, "supports"),
        ({"where": {"n": {"from": 1000}}, "high": 0.5}, "contradicts"),
        ({"where": {"n": {"from": 100}}, "low": 0.5}, "cannot tell"),
        ({"where": {"n": {"from": 2000}}, "low": 0.5}, "not tested here"),
        ({"where": {"n": {"below": 100}}, "high": 0.5}, "supports"),
        ({"where": {"n": [10, 1000]}, "low": 0.5}, "contradicts"),
        ({"where": {"n": [10, 1000]}, "low": 0.5, "quantifier": "any"}, "supports"),
        ({"where": {"n": "most"}, "low": 0.5}, "supports"),
        ({"where": {"n": "fewest"}, "low": 0.5}, "contradicts"),
        ({"where": {"n": 10}, "low": "above 0"}, "supports"),
        ({"where": {"n": 1000}, "low": HALF}, "supports"),
        ({"exam": "seen", "low": 0.5}, "not tested here"),
    ],
)
def test_level(claim: dict[str, Any], outcome: str) -> None:
    assert verdict(FITTED, {"rule": "level", **claim}) == outcome


@pytest.mark.parametrize(
    ("claim", "outcome"),
    [
        ({"where": {"n": "most"}, "against": {"n": "fewest"}, "low": "above 0"}, "supports"),
        ({"where": {"n": "fewest"}, "against": {"n": "most"}, "low": "above 0"}, "contradicts"),
        ({"where": {"n": "most"}, "against": {"n": 100}, "low": 0.3}, "cannot tell"),
        ({"where": {"n": "most"}, "against": {"n": 100}, "times": 0.5, "low": 0.3}, "supports"),
        ({"where": {"n": 10}, "against": {"n": 10}, "low": 0}, "not tested here"),  # of itself nothing is said
        ({"where": {"n": "most"}, "against": {"n": "fewest"}, "provided": 0.5, "low": 0}, "not tested here"),
        ({"where": {"n": "most"}, "against": {"n": "fewest"}, "match": ["n"], "low": 0}, "not tested here"),
    ],
)
def test_against(claim: dict[str, Any], outcome: str) -> None:
    assert verdict(GROWTH, {"rule": "against", **claim}) == outcome


@pytest.mark.parametrize(
    ("found", "claim", "outcome"),
    [
        (FITTED, {"low": 150, "high": 400}, "supports"),
        (FITTED, {"low": 150, "high": 250}, "cannot tell"),
        (FITTED, {"low": 400, "high": 500}, "contradicts"),
        (FITTED, {"low": "above 0", "high": LAST}, "supports"),
        (FITTED, {"low": 0, "high": 500, "interval": "peak_ci95"}, "not tested here"),
        (GROWTH, {"low": 0, "high": 500}, "not tested here"),
        (None, {"low": 0, "high": 500}, "not tested here"),
    ],
)
def test_fit(found: Found | None, claim: dict[str, Any], outcome: str) -> None:
    assert verdict(found, {"rule": "fit", **claim}) == outcome


@pytest.mark.parametrize("place", [0, 2])
@pytest.mark.parametrize("doubt", [{"seeds": 1}, {"not_learned": 1}])
def test_doubt_in_either_half_of_the_evidence_counts(place: int, doubt: dict[str, int]) -> None:
    """One seed, or a model that has not learned, behind what is compared or what it is compared with."""
    lines = [{"seeds": 2, "not_learned": 0, **row} for row in GROWTH.estimates.to_dict("records")]
    lines[place] |= doubt
    found = Found(pd.DataFrame(lines), pd.DataFrame(), FITTED.fit)
    rises = {"rule": "against", "where": {"n": "most"}, "against": {"n": "fewest"}, "low": "above 0"}
    assert verdict(found, rises) == "cannot tell"
    assert verdict(found, {"rule": "fit", "low": 150, "high": 400}) == "cannot tell"


def test_several_claims_are_judged_together_and_ours_is_said() -> None:
    low, high = {"rule": "level", "where": {"n": 10}, "high": 0.5}, {"rule": "level", "where": {"n": 1000}, "low": 0.5}
    assert verdict(GROWTH, low, high) == "supports"
    assert verdict(GROWTH, low, {**high, "low": 0.99}) == "contradicts"
    record = {"statement": "s", "source": "Somebody 2024", "figure": "Fig. 1"}
    claim = {"view": "growth", "exam": "unseen", "shown": ["n"], **high}
    (row,) = judged([record | {"claim": claim}, record], {"growth": GROWTH})  # a record without a claim is left out
    assert row["ours"] == "1,000: 0.900 [0.850, 0.950]"
    assert row["source"] == "Somebody 2024, Fig. 1"


def test_chosen_keeps_the_order_of_the_estimates() -> None:
    assert [row["n"] for row in chosen(GROWTH.estimates, {"n": [1000, 10]}, "unseen")] == [10, 1000]


def test_studies_without_frozen_rows_are_named() -> None:
    """Every rebuilt study that has claims is tried above."""
    rebuilt = {name for name, study in studies.every().items() if isinstance(study, Study)}
    claiming = {name for name in rebuilt for part in studies.find(name).published or [name] if any(
        "claim" in record for record in show.published(part)
    )}  # fmt: skip
    named = {"curriculum", "ability_growth", "ability_transfer", "generalist_mix", "loss_weighting", "which_teacher"}
    assert claiming <= {*EXAMS, *named}
