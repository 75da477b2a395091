"""The sweet spot: found where there is one, not found where there is none, and its interval covers."""

import numpy as np
import pytest

from labkit import BadRequest
from labkit.grade.sweet_spot import paired_difference, sweet_spot

DIAL = [0, 0.05, 0.1, 0.25, 0.5, 0.75]


def draw(curve, rng, seeds: int = 3, problems: int = 400, between: float = 0.01) -> list[np.ndarray]:
    """Scores of arms that share problems: each problem has a difficulty, each model a lucky or unlucky seed."""
    tables = []
    for _ in range(seeds):
        threshold = rng.uniform(size=problems)
        level = np.array([curve(x) for x in DIAL]) + rng.normal(0, between, len(DIAL))
        tables.append((threshold[None] < level[:, None]).astype(float))
    return tables


def verdicts(curve, times: int = 60):
    rng = np.random.default_rng(0)
    return [sweet_spot(DIAL, draw(curve, rng), draws=400) for _ in range(times)]


def test_a_clear_optimum_is_located_and_covered() -> None:
    found = verdicts(lambda x: 0.7 - 0.8 * (x - 0.3) ** 2)
    assert np.mean([spot.verdict == "located" for spot in found]) > 0.9
    assert np.mean([spot.lo <= 0.3 <= spot.hi for spot in found]) > 0.85


def test_a_decline_has_no_sweet_spot_above_nothing() -> None:
    found = verdicts(lambda x: 0.7 - 0.4 * x)
    assert np.mean([spot.verdict == "located" for spot in found]) < 0.05
    assert np.mean([spot.verdict == "lowest is best" for spot in found]) > 0.3


@pytest.mark.parametrize("curve", [lambda x: 0.5, lambda x: 0.6 - 0.5 * max(0.0, x - 0.25)])
def test_flat_arms_and_a_late_fall_are_no_sweet_spot(curve) -> None:
    """The second is what a parabola alone would take for one."""
    assert np.mean([spot.verdict == "located" for spot in verdicts(curve)]) <= 0.1


def test_where_nothing_is_learned_nothing_is_decided() -> None:
    assert sweet_spot(DIAL, [np.zeros((len(DIAL), 50))] * 3).verdict == "not decided"


def test_the_difference_is_taken_pair_by_pair() -> None:
    """Two arms that agree on all problems but a few: the interval is as narrow as that."""
    rng = np.random.default_rng(1)
    base = (rng.uniform(size=(3, 400)) < 0.5).astype(float)
    scores = [np.stack([np.maximum(row, np.arange(400) < 20), row]) for row in base]
    mean, lo, hi = paired_difference(scores, 0, 1)
    assert 0 < lo < mean < hi < 0.06
    assert paired_difference(scores, 1, 0)[0] == -mean


def test_bad_tables_are_refused() -> None:
    with pytest.raises(BadRequest, match="four rising places"):
        sweet_spot([0, 1, 2], [np.zeros((3, 5))])
    with pytest.raises(BadRequest, match="each of the 4 arms"):
        sweet_spot([0, 1, 2, 3], [np.zeros((3, 5))])
