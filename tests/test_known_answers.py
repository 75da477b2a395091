"""Decision rules on simulated studies whose truth is planted: each calls it right as often as it says.

A study has five seeds; two arms of a seed sit the same 150 problems, and their true difference varies a little from
seed to seed, as two trainings of one arm do. Registered is a smallest effect of 0.05.
"""

import numpy as np
import pytest

from labkit import grade
from labkit.grade.decision import ABOVE_ZERO, Evidence, decide
from labkit.studies.curriculum.shown import decided

STUDIES, SEEDS, PROBLEMS, SMALLEST = 200, 5, 150, 0.05
OUTSIDE = 0.15  # an interval from five seeds leaves out the truth at most so often (intervals.seed_cluster_bootstrap)


def study(rng: np.random.Generator, gain: float, spread: float) -> tuple[float, float]:
    """The interval of one simulated study's paired difference."""
    tables = []
    for _ in range(SEEDS):
        hard = rng.beta(2, 2, PROBLEMS)
        better = np.clip(hard + gain + rng.normal(0, spread), 0, 1)
        tables.append(np.stack([rng.random(PROBLEMS) < hard, rng.random(PROBLEMS) < better]).astype(float))
    _, lo, hi = grade.paired_difference(tables, 1, 0, draws=200, seed=int(rng.integers(2**31)))
    return lo, hi


def verdicts(gain: float, low: float, high: float, spread: float = 0.02) -> dict[str, float]:
    """How often each verdict falls on the claim that the difference lies in [low, high)."""
    rng = np.random.default_rng(int(1000 * (gain + 1)))
    found = [decide([Evidence(*study(rng, gain, spread), low, high, SEEDS)]) for _ in range(STUDIES)]
    return {outcome: found.count(outcome) / STUDIES for outcome in ("supports", "contradicts", "cannot tell")}


def test_a_planted_gain_is_found_and_never_denied() -> None:
    found = verdicts(0.15, ABOVE_ZERO, np.inf)
    assert found["supports"] >= 0.8
    assert found["contradicts"] == 0


def test_a_planted_null_is_called_a_gain_as_rarely_as_the_interval_says() -> None:
    found = verdicts(0.0, ABOVE_ZERO, np.inf)
    assert found["supports"] <= OUTSIDE / 2 + 0.05
    assert found["contradicts"] <= OUTSIDE / 2 + 0.05


def test_a_planted_null_in_a_wide_region_is_not_contradicted() -> None:
    """No effect of the smallest size: an interval within the region supports it, one beyond it contradicts."""
    found = verdicts(0.0, -3 * SMALLEST, 3 * SMALLEST)
    assert found["supports"] >= 0.8
    assert found["contradicts"] == 0
    assert verdicts(0.3, -SMALLEST, SMALLEST)["contradicts"] >= 0.8


@pytest.mark.parametrize("spread", [0.0, 0.05])
def test_the_printed_power_is_about_what_repetitions_give(spread: float) -> None:
    """A difference of the size that a null study calls detectable is told from 0 in most repetitions."""
    rng = np.random.default_rng(7)
    sizes = [grade.detectable(*study(rng, 0.0, spread)) for _ in range(50)]
    gain = float(np.median(sizes))
    found = [study(rng, gain, spread)[0] > 0 for _ in range(STUDIES)]
    assert 0.65 <= np.mean(found) <= 0.95


@pytest.mark.parametrize(
    ("gain", "outcome", "least", "other", "most"),
    [(0.15, "supports", 0.8, "contradicts", 0.0), (-0.1, "contradicts", 0.8, "supports", 0.0)],
)
def test_the_rule_of_the_curriculum_finds_planted_gains_and_losses(
    gain: float, outcome: str, least: float, other: str, most: float
) -> None:
    """A gain is supported above 0 and contradicted where it lies below the smallest effect."""
    rng = np.random.default_rng(13)
    ends = [study(rng, gain, 0.02) for _ in range(STUDIES)]
    found = [decided({"lo": lo, "hi": hi, "seeds": SEEDS}, SMALLEST) for lo, hi in ends]
    assert found.count(outcome) / STUDIES >= least
    assert found.count(other) / STUDIES <= most


def test_the_rule_of_the_curriculum_takes_a_planted_null_for_a_gain_as_rarely_as_the_interval_says() -> None:
    rng = np.random.default_rng(17)
    found = [decided(dict(zip(("lo", "hi"), study(rng, 0.0, 0.02), strict=True), seeds=SEEDS), SMALLEST)
             for _ in range(STUDIES)]  # fmt: skip
    assert found.count("supports") / STUDIES <= OUTSIDE / 2 + 0.05
