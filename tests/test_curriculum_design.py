"""Curricula: exact sizes and shares for any pool, nothing lost silently, and the same draw every time."""

import json
import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit import BadRequest
from labkit.design import curriculum
from labkit.design.curriculum import Competence, LearningProgress
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


@given(pools, parts, st.integers(1, 300), st.integers(0, 5))
def test_rebalancing_is_exact(kinds: list[str | None], numbers: list[int], n: int, seed: int) -> None:
    target = target_of(kinds, numbers)
    found = curriculum.rebalance(kinds, target, n, seed)
    assert len(found.indices) == n == sum(row["drawn"] for row in found.manifest["types"].values())
    drawn = Counter(kinds[i] for i in found.indices)
    for name, share in target.items():
        row = found.manifest["types"][name]
        members = [i for i, kind in enumerate(kinds) if kind == name]
        used = {i for i in found.indices.tolist() if kinds[i] == name}
        assert drawn[name] == row["drawn"]
        assert abs(row["drawn"] - Fraction(repr(share)) * n) < 1 + Fraction(1, 10**9)
        assert row["repeats"] == row["drawn"] - len(used)
        assert row["left_out"] == len(members) - len(used)
        if members:
            times = Counter(i for i in found.indices.tolist() if kinds[i] == name)
            assert max(times.values(), default=0) - min(times[i] for i in members) <= 1
    assert found.manifest["untyped"] == kinds.count(None)
    again = curriculum.rebalance(kinds, target, n, seed)
    assert np.array_equal(found.indices, again.indices)
    assert json.loads(json.dumps(found.manifest)) == again.manifest


@given(pools, parts, st.integers(1, 80), st.integers(1, 80))
def test_a_larger_share_holds_a_smaller_one(kinds: list[str | None], numbers: list[int], one: int, more: int) -> None:
    target = target_of(kinds, numbers)
    small, large = (curriculum.rebalance(kinds, target, n, 3) for n in sorted((one, one + more)))
    shrunk = [
        name for name, row in small.manifest["types"].items() if row["drawn"] <= large.manifest["types"][name]["drawn"]
    ]
    held = Counter(large.indices.tolist())
    for place, times in Counter(small.indices.tolist()).items():
        if kinds[place] in shrunk:
            assert held[place] >= times


@given(pools, parts, st.integers(1, 100))
def test_the_order_of_the_target_changes_only_ties_and_other_types_change_nothing(
    kinds: list[str | None], numbers: list[int], n: int
) -> None:
    target = target_of(kinds, numbers)
    turned = dict(reversed(target.items()))
    here, there = (curriculum.rebalance(kinds, t, n).manifest["types"] for t in (target, turned))
    assert all(abs(here[name]["drawn"] - there[name]["drawn"]) <= 1 for name in target)
    name = next(kind for kind in kinds if kind)
    alone = curriculum.rebalance([k if k == name else None for k in kinds], {name: 1.0}, n)
    other = curriculum.rebalance([k if k == name else "other" for k in kinds] + ["other"], {name: 1.0, "other": 0.0}, n)
    assert sorted(alone.indices.tolist()) == sorted(other.indices.tolist())


def test_rebalancing_known_answers() -> None:
    kinds = ["code"] * 2 + ["writing"] * 8 + [None]
    found = curriculum.rebalance(kinds, {"code": 0.6, "writing": 0.4}, 10)
    assert found.manifest["types"] == {
        "code": {"target": 0.6, "seeds": 2, "drawn": 6, "repeats": 4, "left_out": 0},
        "writing": {"target": 0.4, "seeds": 8, "drawn": 4, "repeats": 0, "left_out": 4},
    }
    assert (found.manifest["repeats"], found.manifest["left_out"], found.manifest["untyped"]) == (4, 4, 1)
    assert curriculum.apportion([0.1] * 3, 10) == [4, 3, 3]
    assert curriculum.apportion([0.25, 0.35, 0.4], 10) == [3, 3, 4]  # the classic: equal remainders go to the first
    assert curriculum.apportion([0.47, 0.16, 0.158, 0.12, 0.061, 0.031], 10) == [5, 2, 1, 1, 1, 0]


def test_what_rebalancing_refuses() -> None:
    kinds = ["code", "writing"]
    for target, n, said in [
        ({"code": 1.0, "writng": 0.0}, 4, "unknown task type 'writing': did you mean 'writng'?"),
        ({"code": 0.5, "writing": 0.4}, 4, "the shares of the target sum to 0.9, not to 1"),
        ({"code": 1.5, "writing": -0.5}, 4, "the share of the task type 'writing' is -0.5: a share is 0 or more"),
        ({"code": 1.0, "writing": 0.0}, 0, "n = 0: a re-balanced set has at least one example"),
        (
            {"code": 0.5, "writing": 0.3, "editing": 0.2},
            4,
            "the task type 'editing' has a share of 0.2 but no example among 2: give it some, "
            "or restrict the target to the types that occur (`among`)",
        ),
    ]:
        with pytest.raises(BadRequest) as refused:
            curriculum.rebalance(kinds, target, n)
        assert str(refused.value).startswith(said)


def test_the_default_target_is_a_distribution_over_every_task_type() -> None:
    target = curriculum.TARGET
    assert set(TASK_TYPES) <= set(target)
    assert sum(map(Fraction, map(str, target.values()))) == 1
    low = max(target["writing"], target["role-play"])
    assert all(target[name] > 1 / len(target) > low for name in ("reasoning", "mathematics", "code"))
    assert [target[name] for name in ("mathematics", "reasoning", "code")] == [0.167, 0.167, 0.083 + 0.083]
    some = curriculum.among(target, ["code", None, "writing", "code"])
    assert some == pytest.approx({"code": 0.166 / 0.2285, "writing": 0.0625 / 0.2285})
    assert len(curriculum.rebalance(["code", "writing"], some, 23).indices) == 23
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


def test_learning_progress_known_answers() -> None:
    start = LearningProgress(("a", "b", "c"), rate=0.5, exploration=0.3)
    assert start.distribution == pytest.approx({"a": 1 / 3, "b": 1 / 3, "c": 1 / 3})
    first = start.update({"a": 0.1, "b": 0.5, "c": None})
    assert first.distribution == start.distribution  # one probe shows no progress
    second = first.update({"a": 0.3, "b": 0.4, "c": 0.2})
    assert second.progress == pytest.approx((0.1, -0.05, 0.0))
    # 2/3 and 1/3 of what is not shared out evenly: a task that gets worse counts as one that gets better
    assert second.distribution == pytest.approx({"a": 0.1 + 0.7 * 2 / 3, "b": 0.1 + 0.7 / 3, "c": 0.1})
    third = second.update({"a": None, "b": 0.4, "c": 0.6})
    assert third.progress == pytest.approx((0.1, -0.025, 0.2))  # not scored: kept
    assert third.update({"a": 0.3, "b": 0.4, "c": 0.6}).progress == pytest.approx((0.05, -0.0125, 0.1))
    assert third.rounds == 3
    assert LearningProgress.from_dict(json.loads(json.dumps(third.as_dict()))) == third
    assert LearningProgress.from_dict(json.loads(json.dumps(start.as_dict()))) == start


@given(st.lists(st.lists(st.none() | st.floats(0, 1), min_size=3, max_size=3), max_size=6), st.floats(0, 1))
def test_learning_progress_is_a_distribution_whatever_it_sees(probes: list[list[float | None]], epsilon: float) -> None:
    state = LearningProgress(("a", "b", "c"), exploration=epsilon)
    turned = LearningProgress(("c", "a", "b"), exploration=epsilon)
    for a, b, c in probes:
        state = state.update({"a": a, "b": b, "c": c})
        turned = turned.update({"b": b, "c": c, "a": a})
    assert sum(state.distribution.values()) == pytest.approx(1)
    assert min(state.distribution.values()) >= epsilon / 3 - 1e-9
    assert state.distribution == pytest.approx(turned.distribution)  # tasks have no order
    assert len(curriculum.rebalance(["a", "b", "c"], state.distribution, 50).indices) == 50


def test_progress_goes_to_the_task_that_moves_and_leaves_it_when_it_is_mastered() -> None:
    state = LearningProgress(("quick", "flat"))
    quick = [0.0, 0.4, 0.8, 1.0, 1.0, 1.0, 1.0, 1.0]
    shares = []
    for score in quick:
        state = state.update({"quick": score, "flat": 0.05 * len(shares)})
        shares.append(state.distribution["quick"])
    assert shares[2] > 0.8
    assert shares[-1] < 0.4


def test_what_learning_progress_refuses() -> None:
    state = LearningProgress(("code", "editing"))
    for make, said in [
        (lambda: state.update({"code": 1, "editng": 0}), "unknown task 'editng': did you mean 'editing'?"),
        (
            lambda: state.update({"code": 1}),
            "no score of the task 'editing': a probe covers every task, with None for no score",
        ),
        (
            lambda: state.update({"code": math.nan, "editing": 0}),
            "the score of the task 'code' is nan: a score is a finite number, or None",
        ),
        (lambda: LearningProgress(()), "a curriculum needs tasks with different names, at least one"),
        (
            lambda: LearningProgress(("a",), rate=0),
            "rate = 0 must be above 0 and at most 1, exploration = 0.1 from 0 to 1",
        ),
    ]:
        with pytest.raises(BadRequest) as refused:
            make()
        assert str(refused.value).startswith(said)


def test_competence_known_answers() -> None:
    values = [Competence(total=4, c0=0.1, time=time).value for time in range(6)]
    assert values == pytest.approx([0.1, math.sqrt(0.2575), math.sqrt(0.505), math.sqrt(0.7525), 1, 1])


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40), st.integers(1, 6), st.integers(1, 30), st.integers(0, 3))
def test_competence_admits_the_easy_first(difficulty: list[int], total: int, n: int, seed: int) -> None:
    ranks = [sum(other <= one for other in difficulty) / len(difficulty) for one in difficulty]
    before: set[int] = set()
    for time in range(total + 1):
        state = Competence(total, min(ranks), time)
        pool = set(state.pool(difficulty).tolist())
        assert pool == {i for i, rank in enumerate(ranks) if rank <= state.value + 1e-12}
        assert before <= pool
        drawn = Counter(state.draw(difficulty, n, seed).tolist())
        assert set(drawn) <= pool
        assert drawn.total() == n
        assert max(drawn.values()) - min(drawn[i] for i in pool) <= 1
        before = pool
    assert len(before) == len(difficulty)


def test_what_competence_refuses() -> None:
    for make, said in [
        (
            lambda: Competence(3, c0=0.1).pool([1, 1, 2]),
            "a competence of 0.1 admits none of 3 examples: the easiest are a share of 0.667, so c0 must be at least",
        ),
        (lambda: Competence(3).pool([]), "a competence needs finite difficulties, at least one"),
        (lambda: Competence(0), "a competence needs total >= 1, time >= 0 and c0 above 0 to 1; these are 0, 0, 0.1"),
        (lambda: Competence(3, c0=1.0).draw([1], 0), "n = 0: a round has at least one example"),
    ]:
        with pytest.raises(BadRequest) as refused:
            make()
        assert str(refused.value).startswith(said)
