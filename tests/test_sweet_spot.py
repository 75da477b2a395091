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


def steps(*levels: float):
    return lambda x: levels[DIAL.index(x)]


@pytest.mark.parametrize(
    "curve",
    [
        lambda x: 0.5,
        lambda x: 0.6 - 0.5 * max(0.0, x - 0.25),
        steps(0.3, 0.5, 0.6, 0.6, 0.6, 0.6),
        steps(0.3, 0.36, 0.42, 0.6, 0.6, 0.6),
    ],
)
def test_flat_arms_a_late_fall_and_a_plateau_are_no_sweet_spot(curve) -> None:
    """All but the first are what a parabola alone would take for one."""
    assert np.mean([spot.verdict == "located" for spot in verdicts(curve)]) <= 0.15


def test_an_end_is_not_best_where_an_arm_beats_it() -> None:
    for levels in ((0.60, 0.66, 0.62, 0.55, 0.43, 0.30), (0.30, 0.43, 0.55, 0.62, 0.66, 0.60)):
        assert np.mean([spot.verdict.endswith("is best") for spot in verdicts(steps(*levels))]) < 0.05


def test_one_seed_decides_nothing() -> None:
    rng = np.random.default_rng(0)
    assert sweet_spot(DIAL, draw(lambda x: 0.7 - 0.8 * (x - 0.3) ** 2, rng, seeds=1)).verdict == "not decided"


def test_problems_that_all_seeds_share_are_resampled_once() -> None:
    """Where all seeds answer alike, three of them know no more of the problems than one does."""
    rng = np.random.default_rng(0)
    (table,) = draw(lambda x: 0.7 - 0.4 * x, rng, seeds=1, problems=100)
    table = np.where(rng.uniform(size=table.shape) < 0.3, 1 - table, table)
    spans = []
    for scores, same in (([table], False), ([table] * 3, True), ([table] * 3, False)):
        _, lo, hi = paired_difference(scores, 5, 0, same_problems=same)
        spans.append(hi - lo)
    assert spans[1] == pytest.approx(spans[0], rel=0.1)
    assert spans[2] < 0.85 * spans[0]


def test_no_interval_has_zero_width() -> None:
    assert paired_difference([np.ones((2, 50))] * 3, 1, 0)[1] < 0


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
