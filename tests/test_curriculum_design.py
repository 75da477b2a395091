"""Curricula: exact sizes and shares for any pool, nothing lost silently, and the same draw every time."""

import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit import BadRequest
from labkit.design import curriculum
from labkit.instructions.family import TASK_TYPES

NAMES = ["code", "editing", "knowledge", "mathematics", "writing"]
pools = st.lists(st.sampled_from([*NAMES, None]), min_size=1, max_size=60).filter(any)
parts = st.lists(st.integers(0, 20), min_size=5, max_size=5)


def target_of(kinds: list[str | None], numbers: list[int]) -> dict[str, float]:
    """Shares in whole numbers of a total; types that do not occur have none."""
    wanted = {name: number if name in kinds else 0 for name, number in zip(NAMES, numbers, strict=True)}
    if not sum(wanted.values()):
        wanted[next(kind for kind in kinds if kind)] = 1
    return {name: number / sum(wanted.values()) for name, number in wanted.items()}


@given(st.lists(st.none() | st.integers(-9, 9), min_size=1, max_size=50), st.integers(-9, 9))
def test_selection_is_the_definition(mfd: list[int | None], delta: int) -> None:
    hard = [i for i, value in enumerate(mfd) if value is not None and -value > delta]
    rest = [i for i, value in enumerate(mfd) if value is not None and -value <= delta]
    if not hard or not rest:
        with pytest.raises(BadRequest, match=rf"delta = {delta} would select|none of the \d+ pairs has an MFD"):
            curriculum.select(mfd, delta)
        return
    found = curriculum.select(mfd, delta)
    assert (found.hard.tolist(), found.rest.tolist()) == (hard, rest)
    assert found.counts == {
        "pairs": len(mfd),
        "scored": len(hard) + len(rest),
        "unscored": mfd.count(None),
        "selected": len(hard),
    }


def test_a_refused_delta_names_one_that_works() -> None:
    mfd = [-3.0, None, 0.0, 2.0]
    with pytest.raises(BadRequest) as high:
        curriculum.select(mfd, 3)
    assert str(high.value) == (
        "delta = 3 would select 0 of 3 scored pairs: their MFD runs from -3 to 2, "
        "so a delta from -2 to below 3 selects some but not all"
    )
    with pytest.raises(BadRequest, match="would select 3 of 3"):
        curriculum.select(mfd, -2.5)
    assert curriculum.select(mfd, -2).hard.tolist() == [0, 2]
    assert curriculum.select(mfd, 2.9).hard.tolist() == [0]
    with pytest.raises(BadRequest, match="their MFD runs from -1 to -1, so no delta tells them apart"):
        curriculum.select([-1, -1], 0)
    with pytest.raises(BadRequest, match="none of the 2 pairs has an MFD"):
        curriculum.select([None, None], 0)
    with pytest.raises(BadRequest, match="must be finite"):
        curriculum.select([math.nan, 0], 0)


@given(pools, parts, st.integers(0, 100), st.integers(1, 200), st.integers(0, 3))
def test_a_rising_round_meets_the_target_and_the_share_of_hard_examples(
    kinds: list[str | None], numbers: list[int], percent: int, n: int, seed: int
) -> None:
    """Kinds are exact by largest remainders; of each a share alpha is hard, where both sides have enough to repeat."""
    target, places = target_of(kinds, numbers), [i for i, kind in enumerate(kinds) if kind]
    hard, rest = places[::2], places[1::2]
    found = curriculum.rising_round(kinds, hard, rest, target, percent / 100, n, repeats=n, seed=seed)
    among = curriculum.among(target, [kinds[i] for i in places])
    wanted = dict(zip(among, curriculum.apportion(list(among.values()), n), strict=True))
    drawn = Counter(kinds[i] for i in found.indices.tolist())
    assert {name: drawn[name] for name in among} == wanted
    for name, size in wanted.items():
        own = [i for i in found.indices.tolist() if kinds[i] == name]
        sides = [any(kinds[i] == name for i in side) for side in (hard, rest)]
        share = Fraction(percent, 100) if all(sides) else Fraction(int(sides[0]))
        assert sum(i in hard for i in own) == math.floor(share * size + Fraction(1, 2))
    again = curriculum.rising_round(kinds, hard, rest, target, percent / 100, n, repeats=n, seed=seed)
    assert np.array_equal(found.indices, again.indices)


scores = st.lists(st.tuples(st.sampled_from([*NAMES, None]), st.none() | st.integers(-9, 9)), min_size=1, max_size=60)


@given(scores, st.integers(0, 5))
def test_halves_within_kinds_differ_in_difficulty_alone(pool: list[tuple[str | None, int | None]], seed: int) -> None:
    kinds, mfd = [kind for kind, _ in pool], [value for _, value in pool]
    halves = {hard: curriculum.within_kinds(mfd, kinds, hard, seed).tolist() for hard in (None, 0.75, 1.0)}
    sizes = Counter(kind for kind, value in pool if kind and value is not None)
    for hard, places in halves.items():
        assert places == sorted(set(places))
        assert Counter(kinds[i] for i in places) == {kind: (n + 1) // 2 for kind, n in sizes.items()}
        assert places == curriculum.within_kinds(mfd, kinds, hard, seed).tolist()
    for kind in sizes:
        values = sorted(value for other, value in pool if other == kind and value is not None)
        taken = {hard: [mfd[i] or 0 for i in places if kinds[i] == kind] for hard, places in halves.items()}
        assert sorted(taken[1.0]) == values[: len(taken[1.0])]  # the lowest MFD: the hardest
        assert sum(taken[0.75]) >= sum(taken[1.0])


def test_rehearsal_takes_its_share_of_the_rest() -> None:
    mfd, kinds = [float(-i) for i in range(16)], ["a"] * 16
    places = curriculum.within_kinds(mfd, kinds, 0.75)
    assert [(places >= 8).sum(), (places < 8).sum()] == [6, 2]


def test_the_published_shares_fall_to_kinds_by_their_types() -> None:
    types = {"sums": "mathematics", "dates": "reasoning", "order": "reasoning", "acting": "role-play"}
    total = 0.167 + 0.167 + 0.0625
    assert curriculum.published_target(types) == pytest.approx(
        {"sums": 0.167 / total, "dates": 0.0835 / total, "order": 0.0835 / total, "acting": 0.0625 / total}
    )
    with pytest.raises(BadRequest, match="unknown task type 'poetry'"):
        curriculum.published_target({"verses": "poetry"})


def test_apportioned_known_answers() -> None:
    assert curriculum.apportion([0.1] * 3, 10) == [4, 3, 3]
    assert curriculum.apportion([0.25, 0.35, 0.4], 10) == [3, 3, 4]  # the classic: equal remainders go to the first
    assert curriculum.apportion([0.47, 0.16, 0.158, 0.12, 0.061, 0.031], 10) == [5, 2, 1, 1, 1, 0]


def test_the_default_target_is_a_distribution_over_every_task_type() -> None:
    target = curriculum.TARGET
    assert set(TASK_TYPES) <= set(target)
    assert sum(map(Fraction, map(str, target.values()))) == 1
    low = max(target["writing"], target["role-play"])
    assert all(target[name] > 1 / len(target) > low for name in ("reasoning", "mathematics", "code"))
    assert [target[name] for name in ("mathematics", "reasoning", "code")] == [0.167, 0.167, 0.083 + 0.083]
    some = curriculum.among(target, ["code", None, "writing", "code"])
    assert some == pytest.approx({"code": 0.166 / 0.2285, "writing": 0.0625 / 0.2285})
    with pytest.raises(BadRequest, match="unknown task type 'poetry'"):
        curriculum.among(target, ["poetry"])
    with pytest.raises(BadRequest, match=r"none of the task types that occur has a positive share: \['code'\]"):
        curriculum.among({"code": 0.0, "writing": 1.0}, ["code"])


@given(st.integers(0, 100), st.integers(0, 100), st.integers(1, 12))
def test_the_share_of_hard_examples_rises_to_one(alpha: int, step: int, rounds: int) -> None:
    found = curriculum.schedule(alpha / 100, step / 100, rounds)
    assert found == tuple(min(100, alpha + r * step) / 100 for r in range(rounds))


def test_the_default_schedule_has_no_rounding_in_it() -> None:
    assert curriculum.schedule() == (0.3, 0.5, 0.7)
    assert curriculum.schedule(0.1, 0.2, 3) == (0.1, 0.3, 0.5)
    for bad, said in [
        ((1.2, 0.1, 2), "alpha_0 = 1.2 is no share of hard examples: use 0 to 1"),
        ((0.2, -0.1, 2), "delta_alpha = -0.1: the share of hard examples never falls, so use 0 or more"),
        ((0.2, 0.1, 0), "rounds = 0: a curriculum has at least one"),
    ]:
        with pytest.raises(BadRequest) as refused:
            curriculum.schedule(*bad)
        assert str(refused.value) == said


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 100), st.integers(1, 60), st.integers(0, 3))
def test_a_round_has_exactly_its_share(n_hard: int, n_rest: int, percent: int, n: int, seed: int) -> None:
    hard, rest, alpha = range(n_hard), range(100, 100 + n_rest), percent / 100
    wanted = math.floor(Fraction(percent, 100) * n + Fraction(1, 2))
    found = curriculum.mixed_round(hard, rest, alpha, n, seed, repeat=True)
    assert len(found.indices) == n
    assert (found.indices < 100).sum() == wanted == found.manifest["hard"]
    assert found.manifest["repeats"] == n - len(set(found.indices.tolist()))
    more = curriculum.mixed_round(hard, rest, 1.0, max(n, 1), seed, repeat=True)
    assert not Counter(i for i in found.indices.tolist() if i < 100) - Counter(more.indices.tolist())  # nested
    assert np.array_equal(found.indices, curriculum.mixed_round(hard, rest, alpha, n, seed, repeat=True).indices)
    if wanted > n_hard or n - wanted > n_rest:
        with pytest.raises(BadRequest, match=r"lower n, or let the pool repeat"):
            curriculum.mixed_round(hard, rest, alpha, n, seed)


def test_what_a_round_refuses() -> None:
    for hard, rest, alpha, n, said in [
        ([0], [1], 1.5, 2, "alpha = 1.5 is no share of hard examples: use 0 to 1"),
        ([0], [1], 0.5, 0, "n = 0: a round has at least one example"),
        ([0, 1], [1], 0.5, 2, "the hard pool and the rest must hold every example once: some place is there twice"),
        ([], [1], 0.5, 2, "alpha = 0.5 of n = 2 takes 1 hard examples, and there are 0: choose another alpha"),
        (
            [0],
            [1],
            1.0,
            2,
            "alpha = 1 of n = 2 takes 2 hard examples, and there are 1: lower n, or let the pool repeat",
        ),
    ]:
        with pytest.raises(BadRequest) as refused:
            curriculum.mixed_round(hard, rest, alpha, n)
        assert str(refused.value) == said
