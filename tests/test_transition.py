"""The transition: a known logistic recovered, a jump bracketed, no number where nothing is to be located."""

import json

import numpy as np
import pytest
from scipy.optimize import curve_fit, least_squares
from scipy.special import expit

from labkit.errors import BadRequest
from labkit.grade import Counts, explained, fit_transition, next_count
from labkit.grade.intervals import ONE_SEED, SEEDS_AND_RULES
from labkit.grade.transition import SLOPES, fit

TRIED = [10, 30, 60, 100, 200, 400, 1000, 3000]


def simulated(rng, midpoint, slope=5.0, plateau=0.95, spread=0.05, n_seeds=3, tried=TRIED):
    """A sweep of beta-binomial counts (100 rules x 10), every model's own midpoint `spread` decades off."""
    sweep = []
    for count in tried:
        off = rng.normal(0, spread, n_seeds)
        means = np.clip(plateau * expit(slope * (np.log10(count / midpoint) + off)), 1e-6, 1 - 1e-6)
        sweep.append([Counts(rng.binomial(10, rng.beta(2 * m, 2 * (1 - m), 100)), 10) for m in means])
    return sweep


def flat(accuracies, n_seeds=3):
    """A sweep whose models all score alike: ten rules, each asked 20 times."""
    return [[Counts(np.full(10, round(20 * accuracy)), 20)] * n_seeds for accuracy in accuracies]


def test_a_known_midpoint_lies_in_the_interval():
    rng = np.random.default_rng(0)
    hits, plateaus = [], []
    for i in range(60):
        midpoint = 10 ** rng.uniform(1.8, 2.6)
        found = fit_transition(TRIED, simulated(rng, midpoint), draws=200, seed=i)
        assert found.located
        assert found.lo <= found.midpoint <= found.hi
        hits.append(found.lo <= midpoint <= found.hi)
        plateaus.append(found.plateau_ci[0] <= 0.95 <= found.plateau_ci[1])
    assert np.mean(hits) >= 0.9
    assert np.mean(plateaus) >= 0.9


def test_the_fit_agrees_with_scipys_bounded_least_squares():
    rng = np.random.default_rng(1)
    decades, votes = np.log10(TRIED), np.array([3.0, 3, 3, 1, 3, 2, 3, 3])
    for _ in range(20):
        middle, slope, plateau = rng.uniform(1.5, 3), rng.uniform(2, 8), rng.uniform(0.6, 0.95)
        means = plateau * expit(slope * (decades - middle)) + rng.normal(0, 0.02, len(decades))

        def residuals(p, means=means):
            return np.sqrt(votes) * (p[2] * expit(p[1] * (decades - p[0])) - means)

        bounds = ([decades[0], SLOPES[0], 0], [decades[-1], SLOPES[1], 1])
        theirs = least_squares(residuals, (middle, slope, plateau), bounds=bounds, xtol=1e-12, ftol=1e-12)
        ours = np.array(fit(decades, means[None], votes))[:, 0]
        assert np.sum(residuals(ours) ** 2) <= 2 * theirs.cost * (1 + 1e-3)
        assert ours[0] == pytest.approx(theirs.x[0], abs=1e-3)


@pytest.mark.parametrize("plateau", [1.0, 0.9])
def test_a_bare_jump_is_as_wide_as_its_gap(plateau):
    found = fit_transition([100, 200, 300, 400, 500, 1000], flat([0, 0, 0, 0, plateau, plateau]))
    assert (found.lo, found.hi, found.bracket) == (400, 500, (400, 500))
    assert found.midpoint == pytest.approx(np.sqrt(400 * 500))
    assert found.plateau == pytest.approx(plateau)
    assert found.plateau_ci[1] > found.plateau_ci[0]
    assert "400 to 500" in found.note


def test_one_count_within_the_rise_does_not_narrow_the_bracket():
    rng = np.random.default_rng(2)
    sweep = flat([0, 0, 0.3, 0.9, 0.9])
    sweep[2] = [Counts(rng.binomial(20, 0.3, 10), 20) for _ in range(3)]
    found = fit_transition([10, 100, 200, 500, 1000], sweep)
    assert found.lo <= 200
    assert found.hi >= 500
    assert "too few counts" in found.note


def test_a_curve_that_wavers_is_bracketed_from_the_first_rise_to_the_last():
    found = fit_transition([10, 100, 200, 400, 1000], flat([0, 0.9, 0, 0.9, 0.9]))
    assert found.bracket == (10, 400)
    assert found.lo <= 10
    assert found.hi >= 400


@pytest.mark.parametrize(
    ("accuracies", "reason"),
    [
        ([0, 0.05, 0, 0.1, 0.1], "accuracy never reaches 0.5 in 10..10,000 instructions"),
        ([0, 0.1, 0.2, 0.3, 0.45], "accuracy never reaches 0.5"),
        ([0.8, 0.9, 0.9, 0.9, 0.9], "already above half the plateau at the smallest count (10)"),
        ([0, 0.9, 0.9, 0.9, 0], "back below half the plateau at the largest count (10,000)"),
        ([0, 0.6, 0, 0.2, 0.2], "reaches 0.5 but does not stay there"),
    ],
)
def test_no_transition_in_the_range_says_so(accuracies, reason):
    found = fit_transition([10, 100, 1000, 3000, 10_000], flat(accuracies))
    assert not found.located
    assert reason in found.note
    out = found.as_dict()
    assert out["midpoint"] is None
    assert out["ci95"] is None


def test_two_counts_make_no_curve():
    found = fit_transition([10, 10, 100], flat([0, 0, 1]))
    assert not found.located
    assert "fewer than 3" in found.note


def test_a_plateau_out_of_reach_is_called_an_extrapolation():
    found = fit_transition([10, 30, 100, 300, 1000], flat([0, 0, 0.1, 0.3, 0.6]))
    assert found.located
    assert "extrapolation" in found.note


def test_order_and_grouping_of_the_points_do_not_matter_but_the_seed_does():
    sweep = simulated(np.random.default_rng(3), 150)
    found = fit_transition(TRIED, sweep, seed=1)
    split = [(count, [seed]) for count, seeds in zip(TRIED, sweep, strict=True) for seed in seeds]
    assert fit_transition(*zip(*split, strict=True), seed=1) == found
    assert fit_transition(TRIED[::-1], sweep[::-1], seed=1) == found
    assert fit_transition(TRIED, sweep, seed=2) != found


def test_the_record_is_json_and_says_what_the_interval_covers():
    sweep = simulated(np.random.default_rng(4), 150)
    out = json.loads(json.dumps(fit_transition(TRIED, sweep).as_dict()))
    assert out["located"]
    assert out["over"] == SEEDS_AND_RULES
    assert out["ci95"][0] < out["midpoint"] < out["ci95"][1]
    assert fit_transition(TRIED, [seeds[:1] for seeds in sweep]).over == ONE_SEED


@pytest.mark.parametrize(
    ("counts", "sweep"), [([1, 2], flat([0])), ([0, 1, 2], flat([0, 0, 1])), ([1, 2, 3], [*flat([0, 1]), []])]
)
def test_a_sweep_that_does_not_pair_up_is_refused(counts, sweep):
    with pytest.raises(BadRequest):
        fit_transition(counts, sweep)


def test_what_a_curve_explains_is_scipys_r_squared_of_the_same_fit() -> None:
    rng = np.random.default_rng(0)
    numbers = [10, 30, 100, 300, 1000, 3000]
    truth = [0.9 / (1 + (200 / n) ** 2) for n in numbers]
    asked = np.full(400, 5)
    points = [[Counts(rng.binomial(asked, p), asked) for _ in range(3)] for p in truth]
    found = explained(numbers, points)
    means = [np.mean([counts.right.sum() / counts.asked.sum() for counts in seeds]) for seeds in points]
    model = lambda x, middle, slope, plateau: plateau * expit(slope * (x - middle))  # noqa: E731
    best, _ = curve_fit(model, np.log10(numbers), means, p0=[2.3, 4, 0.9])
    residual = np.square(means - model(np.log10(numbers), *best)).sum()
    assert found.share == pytest.approx(1 - residual / np.square(means - np.mean(means)).sum(), abs=1e-4)
    assert found.share_ci95[0] <= found.share <= found.share_ci95[1]
    assert found.share > 0.99
    shuffled = [points[i] for i in (3, 0, 5, 1, 4, 2)]
    assert explained(numbers, shuffled).share < 0.9
    assert explained([numbers[i] for i in (3, 0, 5, 1, 4, 2)], shuffled).share == pytest.approx(found.share, abs=0.01)


def test_nothing_is_explained_where_a_curve_goes_through_everything_or_nothing_differs() -> None:
    points = [[Counts(np.full(50, right), np.full(50, 4))] for right in (0, 1, 3)]
    assert explained([10, 100, 1000], points) == (None, None)
    assert explained([10, 100, 1000, 2000], [points[1]] * 4) == (None, None)


GRID = [10, 30, 100, 200, 300, 1000, 10000]  # the sweep's own, three seeds each: 21 models


def searched(rng, midpoint, slope, most=10):
    """What a search with so many models tries and sees, from the ends of the grid on."""
    seen = {count: simulated(rng, midpoint, slope, n_seeds=1, tried=[count])[0] for count in (GRID[0], GRID[-1])}
    while sum(map(len, seen.values())) < most:
        count = next_count(list(seen), list(seen.values()), 3)
        if count is None:
            break
        seen[count] = seen.get(count, []) + simulated(rng, midpoint, slope, n_seeds=1, tried=[count])[0]
    return seen


def test_a_search_with_half_of_the_models_is_as_sure_as_the_grid():
    rng, widths, hits = np.random.default_rng(0), [], []
    for i in range(60):
        midpoint, slope = 10 ** rng.uniform(1.7, 2.9), rng.uniform(3, 7)
        grid = fit_transition(GRID, simulated(rng, midpoint, slope, tried=GRID), draws=200, seed=i)
        seen = searched(rng, midpoint, slope)
        assert sum(map(len, seen.values())) <= 3 * len(GRID) / 2
        found = fit_transition(list(seen), list(seen.values()), draws=200, seed=i)
        assert found.located
        assert found.over == SEEDS_AND_RULES
        widths.append([np.log(fit.hi / fit.lo) for fit in (found, grid)])
        hits.append(found.lo <= midpoint <= found.hi)
    own, grids = np.mean(widths, axis=0)
    assert own <= 1.1 * grids
    assert np.mean(hits) >= 0.85


def test_a_search_stops_where_there_is_no_rise():
    assert next_count([10, 1000], flat([0.1, 0.1], 1), 3) is None
    assert next_count([10, 1000], flat([0.9, 0.9], 1), 3) is None


def test_a_search_asks_for_no_more_seeds_than_there_are():
    counts = [10, 100, 120, 140, 160, 1000]
    assert next_count(counts, flat([0, 0, 0.3, 0.6, 0.9, 0.9], 3), 3) is None
    assert next_count(counts, flat([0, 0, 0.3, 0.6, 0.9, 0.9], 2), 3) in (120, 140)
