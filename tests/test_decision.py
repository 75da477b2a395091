"""The one decision rule for published claims, as properties."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.grade.decision import ABOVE_ZERO, OUTCOMES, Evidence, decide, difference

NUMBERS = st.floats(-10, 10, allow_nan=False)
QUANTIFIERS = st.sampled_from(["all", "any"])
VERDICTS = {"supports", "contradicts"}


@st.composite
def evidence(draw: st.DrawFn, seeds: int = 1) -> Evidence:
    """An interval and a region, which may be open at either end."""
    lo, hi = sorted(draw(st.tuples(NUMBERS, NUMBERS)))
    low, high = sorted(draw(st.tuples(NUMBERS, NUMBERS)))
    low, high = draw(st.sampled_from([(low, high), (-math.inf, high), (low, math.inf)]))
    return Evidence(lo, hi, low, high, draw(st.integers(seeds, 4)), draw(st.booleans()) or seeds > 1)


MANY = st.lists(evidence(), max_size=5)


@given(MANY, QUANTIFIERS)
def test_nothing_is_both_inside_and_outside_and_every_outcome_is_named(pieces: list[Evidence], how: str) -> None:
    assert not any(piece.inside and piece.outside for piece in pieces)
    assert decide(pieces, how) in OUTCOMES
    assert (decide(pieces, how) == "not tested here") == (not pieces)


@given(st.lists(evidence(seeds=2), min_size=1, max_size=5), QUANTIFIERS)
def test_the_outcome_is_what_the_words_say(pieces: list[Evidence], how: str) -> None:
    """Plain loops over the definition: every interval inside, one wholly outside; or the other way round."""
    inside = [piece.low <= piece.lo and piece.hi < piece.high for piece in pieces]
    outside = [piece.hi < piece.low or piece.lo >= piece.high for piece in pieces]
    supported, contradicted = (all(inside), any(outside)) if how == "all" else (any(inside), all(outside))
    assert not (supported and contradicted)
    expected = "supports" if supported else "contradicts" if contradicted else "cannot tell"
    assert decide(pieces, how) == expected


@given(st.lists(st.tuples(evidence(), st.floats(0, 5), st.floats(0, 5)), min_size=1, max_size=5), QUANTIFIERS)
def test_wider_intervals_never_decide(pieces: list[tuple[Evidence, float, float]], how: str) -> None:
    before = decide([piece for piece, *_ in pieces], how)
    after = decide([piece._replace(lo=piece.lo - a, hi=piece.hi + b) for piece, a, b in pieces], how)
    assert after in (before, "cannot tell")


@given(st.lists(evidence(), min_size=1, max_size=5), QUANTIFIERS, st.booleans())
def test_one_seed_or_models_that_have_not_learned_decide_nothing(pieces: list[Evidence], how: str, lazy: bool) -> None:
    doubtful = [piece._replace(learned=False) if lazy else piece._replace(seeds=1) for piece in pieces]
    assert decide(doubtful, how) == "cannot tell"


@given(st.lists(evidence(seeds=2), min_size=1, max_size=4), evidence(), QUANTIFIERS)
def test_one_that_decides_nothing_takes_support_away_and_adds_none(
    pieces: list[Evidence], other: Evidence, how: str
) -> None:
    """Among several: of "all" it leaves a contradiction, of "any" a support; all else cannot be told."""
    lasting = "contradicts" if how == "all" else "supports"
    expected = lasting if decide(pieces, how) == lasting else "cannot tell"
    assert decide([*pieces, other._replace(seeds=1)], how) == expected


@given(NUMBERS, NUMBERS, NUMBERS)
def test_complement_regions_give_complement_verdicts(a: float, b: float, at: float) -> None:
    lo, hi = sorted((a, b))
    above, below = decide([Evidence(lo, hi, low=at)]), decide([Evidence(lo, hi, high=at)])
    assert {above, below} in ({"supports", "contradicts"}, {"cannot tell"})


@given(st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS), min_size=1, max_size=4))
def test_not_all_is_some_not(intervals: list[tuple[float, float, float]]) -> None:
    ordered = [(*sorted((a, b)), at) for a, b, at in intervals]
    every = decide([Evidence(lo, hi, low=at) for lo, hi, at in ordered], "all")
    some_not = decide([Evidence(lo, hi, high=at) for lo, hi, at in ordered], "any")
    opposite = {"supports": "contradicts", "contradicts": "supports", "cannot tell": "cannot tell"}
    assert some_not == opposite[every]


def test_an_interval_that_is_not_known_decides_nothing() -> None:
    for ends in ((math.nan, 1.0), (0.0, math.nan), (math.nan, math.nan)):
        assert decide([Evidence(*ends, low=-1, high=2)]) == "cannot tell"


@pytest.mark.parametrize(
    ("lo", "hi", "outcome"),
    [(0.0, 0.0, "contradicts"), (0.0, 0.1, "cannot tell"), (1e-300, 0.1, "supports"), (-0.1, -0.1, "contradicts")],
)
def test_above_zero_leaves_zero_out(lo: float, hi: float, outcome: str) -> None:
    assert decide([Evidence(lo, hi, low=ABOVE_ZERO)]) == outcome


@given(st.tuples(NUMBERS, NUMBERS).map(sorted), st.tuples(NUMBERS, NUMBERS).map(sorted))
def test_a_difference_holds_zero_where_intervals_meet(one: list[float], other: list[float]) -> None:
    low, high = difference((one[0], one[1]), (other[0], other[1]))
    assert low <= high
    assert (low <= 0 <= high) == (one[0] <= other[1] and other[0] <= one[1])
