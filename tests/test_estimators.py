"""Every estimator at the edge: one sentence, or finite numbers with the estimate inside its interval."""

import contextlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit import BadRequest, grade
from labkit.grade import choice, growth, transference
from labkit.grade.intervals import Counts
from labkit.grade.peak import peak
from labkit.teach.judge import agreement, clustered

DIAL, VOLUMES = [0, 1, 2, 3, 4], [10, 100, 1000, 10_000]


def table(mark: float, rows: int, seeds: int, columns: int = 6) -> list[np.ndarray]:
    return [np.full((rows, columns), mark) for _ in range(seeds)]


def counts(mark: float, seeds: int) -> list[Counts]:
    return [Counts(np.full(6, mark), 1)] * seeds


def mapping(mark: float, seeds: int) -> dict[str, list[np.ndarray]]:
    return {name: [np.full(5, mark)] * seeds for name in "pq"}


# Each is called with one mark in every place (0, 1, NaN, infinity) and a number of trained models.
ESTIMATORS: dict[str, Callable[[float, int], Any]] = {
    "cluster_bootstrap": lambda mark, seeds: grade.cluster_bootstrap(np.full(6, mark), draws=200),
    "seed_cluster_bootstrap": lambda mark, seeds: grade.seed_cluster_bootstrap(counts(mark, seeds), draws=200),
    "same_rules": lambda mark, seeds: grade.seed_cluster_bootstrap(counts(mark, seeds), same_rules=True, draws=200),
    "asked": lambda mark, seeds: grade.cluster_bootstrap(np.zeros(6), np.full(6, mark), draws=200),
    "replicates": lambda mark, seeds: grade.replicates(counts(mark, seeds), draws=50).tolist(),
    "sweet_spot": lambda mark, seeds: grade.sweet_spot(DIAL, table(mark, 5, seeds), draws=200),
    "peak": lambda mark, seeds: peak([0, 0.4, 1], [counts(mark, seeds)] * 3, draws=100),
    "shares": lambda mark, seeds: peak([0, 0.4, 1 + mark], [counts(1, seeds)] * 3, draws=100),
    "dial": lambda mark, seeds: grade.sweet_spot([*DIAL[:-1], 4 + mark], table(1, 5, seeds), draws=200),
    "paired_difference": lambda mark, seeds: grade.paired_difference(table(mark, 2, seeds), 0, 1, draws=200),
    "fit_transition": lambda mark, seeds: grade.fit_transition(VOLUMES, [counts(mark, seeds)] * 4, draws=100),
    "transition_at": lambda mark, seeds: grade.fit_transition([1, 2, 3 + mark], [counts(1, seeds)] * 3, draws=100),
    "next_count": lambda mark, seeds: grade.next_count(VOLUMES, [counts(mark, seeds)] * 4, seeds),
    "next_count_at": lambda mark, seeds: grade.next_count([1, 2, 3 + mark], [counts(1, seeds)] * 3, seeds),
    "explained": lambda mark, seeds: grade.explained(VOLUMES, [counts(mark, seeds)] * 4, draws=100),
    "detectable": lambda mark, seeds: grade.detectable(-1.0, mark),
    "fit_growth": lambda mark, seeds: growth.fit_growth(VOLUMES, [counts(mark, seeds)] * 4),
    "growth_at": lambda mark, seeds: growth.fit_growth([1, 2, 3, 4 + mark], [counts(1, seeds)] * 4),
    "growth_chance": lambda mark, seeds: growth.fit_growth(VOLUMES, [counts(1, seeds)] * 4, chance=mark),
    "leave_one_out": lambda mark, seeds: transference.leave_one_out(
        mapping(mark, seeds), {"p": mapping(mark, seeds)}, draws=200
    ),
    "correct": lambda mark, seeds: choice.correct(mark, 0.5).tolist(),
    "chance": lambda mark, seeds: choice.correct(0.5, mark).tolist(),
    "chance_level": lambda mark, seeds: choice.chance_level([2, 2 + mark]),
    "gold_index": lambda mark, seeds: choice.gold_index([[mark, 0.0]]).tolist(),
    "agreement": lambda mark, seeds: agreement([1.0, 9.0, mark], [False, True, True]),
    "grades": lambda mark, seeds: agreement([1.0, 9.0, 5.0], [False, True, mark]),
    "threshold": lambda mark, seeds: agreement([1.0, 9.0], [False, True], threshold=mark),
    "clustered": lambda mark, seeds: clustered([0.5, mark], ["p", "q"]),
}
UNSCORED = {"agreement"}  # here NaN is what tables write for no rating


def test_no_public_estimator_is_left_out() -> None:
    kinds = {"Counts", "Estimate", "Explained", "SweetSpot", "Transition"}
    assert set(grade.__all__) - kinds <= set(ESTIMATORS)


def finite(value: Any) -> None:
    """No NaN in a result, and every estimate within its interval."""
    if isinstance(value, float | int | np.floating):
        assert math.isfinite(value)
    elif isinstance(value, dict):
        for item in value.values():
            finite(item)
    elif isinstance(value, list | tuple | np.ndarray):
        if {"lo", "hi"} <= set(getattr(value, "_fields", ())):
            middle = next(
                getattr(value, n)
                for n in ("peak", "midpoint", "mean", "score", "effect", "rho", "value")
                if hasattr(value, n)
            )
            ends = value.lo, value.hi
            assert middle is None or ends[0] is None or ends[0] <= middle + 1e-12
            assert middle is None or ends[1] is None or middle - 1e-12 <= ends[1]
        for item in value:
            finite(item)
    elif hasattr(value, "as_dict"):
        finite(value.as_dict())


@pytest.mark.parametrize("seeds", [1, 2])
@pytest.mark.parametrize("name", ESTIMATORS)
def test_equal_marks_give_finite_numbers_or_one_sentence(name: str, seeds: int) -> None:
    for mark in (0.0, 1.0):
        with contextlib.suppress(BadRequest):
            finite(ESTIMATORS[name](mark, seeds))


@pytest.mark.parametrize("mark", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ESTIMATORS)
def test_what_is_no_finite_number_is_refused_in_one_sentence(name: str, mark: float) -> None:
    if name in UNSCORED and math.isnan(mark):
        finite(ESTIMATORS[name](mark, 2))
        return
    with pytest.raises(BadRequest) as refusal:
        ESTIMATORS[name](mark, 2)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "call",
    [
        lambda: grade.cluster_bootstrap([]),
        lambda: grade.cluster_bootstrap(["one"]),
        lambda: grade.cluster_bootstrap([1], draws=-1),
        lambda: grade.seed_cluster_bootstrap([]),
        lambda: grade.replicates([Counts([1])], draws=0),
        lambda: grade.sweet_spot([], []),
        lambda: grade.sweet_spot(DIAL, []),
        lambda: grade.sweet_spot([0, 1, 1, 2, 3], table(1, 5, 2)),
        lambda: grade.sweet_spot(DIAL, [np.ones((5, 2)), np.ones((5, 3))], same_problems=True),
        lambda: grade.paired_difference([], 0, 1),
        lambda: grade.paired_difference(table(1, 2, 1), 0, 2),
        lambda: grade.cluster_bootstrap([10**400]),
        lambda: peak([0, 0.5, 0.5], [counts(1, 1)] * 3),
        lambda: peak([0, 0.5, 1], [counts(1, 1)] * 2),
        lambda: grade.fit_transition([1, 2], [counts(1, 1)]),
        lambda: grade.fit_transition([1.5, 2, 3], [counts(1, 1)] * 3),
        lambda: grade.explained([0, 1, 2, 3], [counts(1, 1)] * 4),
        lambda: grade.explained([1, 2, 3, 4], [counts(1, 1)] * 3),
        lambda: growth.fit_growth([], []),
        lambda: growth.fit_growth([1, 2, 3, 4.5], [counts(1, 2)] * 4),
        lambda: clustered([], []),
        lambda: clustered([2.0], ["p"]),
        lambda: clustered([0.5], []),
        lambda: agreement([], []),
        lambda: agreement([5.0], [True, False]),
        lambda: agreement([5.0], ["False"]),
    ],
)
def test_what_is_empty_or_does_not_pair_up_is_one_sentence(call: Callable[[], Any]) -> None:
    with pytest.raises(BadRequest) as refusal:
        call()
    assert "\n" not in str(refusal.value)


@given(st.lists(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=5, max_size=5), min_size=1, max_size=4),
       st.integers(1, 3))  # fmt: skip
@settings(max_examples=60)
def test_a_peak_lies_within_its_interval_and_the_interval_within_the_dial(columns: list, seeds: int) -> None:
    spot = grade.sweet_spot(DIAL, [np.array(columns).T] * seeds, draws=100)
    assert DIAL[0] <= spot.lo <= spot.peak <= spot.hi <= DIAL[-1]
    assert spot.lo < spot.hi
    if np.ptp(np.array(columns).mean(0)) == 0 or seeds == 1:
        assert spot.verdict == "not decided"


@pytest.mark.parametrize("arms", [[0.5] * 5, [1, 0, 0, 0, 1], [1, 0.5, 0, 0.5, 1]])
def test_ends_that_tie_are_no_best_place(arms: list[float]) -> None:
    spot = grade.sweet_spot(DIAL, [np.repeat(np.array(arms)[:, None], 8, axis=1)] * 3, draws=200)
    assert (spot.verdict, spot.lo, spot.hi) == ("not decided", DIAL[0], DIAL[-1])
    models = [[Counts(np.full(8, round(4 * arm)), 4)] * 3 for arm in arms]
    found = peak([float(place) for place in DIAL], models, draws=200)
    assert not found.located
    assert found.ci95 == [DIAL[0], DIAL[-1]]


def test_a_share_lies_within_an_interval_of_some_width() -> None:
    found = peak([0.0, 0.5, 1.0], [[Counts([1, 0, 0, 0])], [Counts([1, 1, 1, 1])], [Counts([0, 0, 0, 0])]], draws=100)
    assert found.ci95 is not None
    assert found.share is not None
    assert found.ci95[0] < found.share < found.ci95[1]
