"""The intervals of an accuracy: against simulation, scipy, and at the degenerate ends."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from labkit.errors import BadRequest
from labkit.grade import (
    Counts,
    cluster_bootstrap,
    replicates,
    seed_cluster_bootstrap,
)
from labkit.grade.intervals import ONE_SEED, SCORED_ALIKE, SEEDS_AND_RULES, percentiles

ASKED = 10


def beta_binomial(rng, mean, n_rules, spread=0.5):
    """Right answers out of 10 a rule, the rules' own accuracies Beta-distributed around `mean`."""
    return rng.binomial(ASKED, rng.beta(mean / spread, (1 - mean) / spread, n_rules))


# one model


@pytest.mark.parametrize("mean", [0.3, 0.9, 0.99])
def test_clustered_interval_covers_the_truth(mean):
    rng = np.random.default_rng(0)
    estimates = [cluster_bootstrap(beta_binomial(rng, mean, 200), ASKED, draws=400, seed=i) for i in range(200)]
    assert np.mean([e.lo <= mean <= e.hi for e in estimates]) >= 0.9


def test_wider_than_the_naive_binomial_by_the_design_effect():
    rng = np.random.default_rng(1)
    estimate = cluster_bootstrap(beta_binomial(rng, 0.5, 300), ASKED)
    naive = stats.binomtest(round(estimate.mean * 300 * ASKED), 300 * ASKED).proportion_ci(0.95)
    correlation = 1 / (1 + 1 / 0.5)  # of two answers to one rule
    design_effect = 1 + (ASKED - 1) * correlation
    ratio = (estimate.hi - estimate.lo) / (naive.high - naive.low)
    assert ratio == pytest.approx(np.sqrt(design_effect), rel=0.1)


def test_agrees_with_scipys_bootstrap_of_cluster_means():
    right = beta_binomial(np.random.default_rng(2), 0.6, 150)
    ours = cluster_bootstrap(right, ASKED, draws=20_000)
    theirs = stats.bootstrap(
        (right / ASKED,), np.mean, n_resamples=5_000, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    assert ours.mean == pytest.approx(right.mean() / ASKED)
    assert (ours.lo, ours.hi) == pytest.approx((theirs.low, theirs.high), abs=0.003)


@pytest.mark.parametrize("share", [0, 1])
@pytest.mark.parametrize("n_rules", [1, 20, 1000])
def test_all_right_or_all_wrong_is_clopper_pearson_over_rules(share, n_rules):
    estimate = cluster_bootstrap(np.full(n_rules, share * ASKED), ASKED)
    exact = stats.binomtest(share * n_rules, n_rules).proportion_ci(0.95, method="exact")
    assert estimate.mean == share
    assert (estimate.lo, estimate.hi) == pytest.approx((exact.low, exact.high))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=30), st.integers(0, 9))
def test_never_of_zero_width_and_blind_to_the_order_of_rules(pairs, seed):
    right, asked = np.array([(a, a + b) for a, b in pairs]).T
    if not asked.any():
        with pytest.raises(BadRequest, match="no rule was asked"):
            cluster_bootstrap(right, asked)
        return
    estimate = cluster_bootstrap(right, asked, draws=200, seed=seed)
    order = np.random.default_rng(seed).permutation(len(right))
    assert 0 <= estimate.lo <= estimate.mean <= estimate.hi <= 1
    assert estimate.hi > estimate.lo
    assert cluster_bootstrap(right[order], asked[order], draws=200, seed=seed) == estimate


def test_one_failing_rule_does_not_narrow_the_interval():
    perfect, flawed = np.ones(200), np.ones(200)
    flawed[0] = 0
    assert cluster_bootstrap(flawed).lo < cluster_bootstrap(perfect).lo


def test_the_same_seed_draws_the_same_interval_and_rules_never_asked_do_not_count():
    right = beta_binomial(np.random.default_rng(3), 0.6, 50)
    estimate = cluster_bootstrap(right, ASKED, seed=7)
    padded = cluster_bootstrap(np.append(right, 0), np.append(np.full(50, ASKED), 0), seed=7)
    assert estimate == cluster_bootstrap(right, ASKED, seed=7) == padded
    assert estimate != cluster_bootstrap(right, ASKED, seed=8)


@pytest.mark.parametrize(
    ("right", "asked"),
    [
        ([], 1),
        ([2], 1),
        ([-1], 1),
        ([0.5], 1),
        ([np.nan], 1),
        ([[1]], 1),
        ([1, 1], [1, 1, 1]),
        ([0], 0),
        (1, 1),
    ],
)
def test_senseless_counts_are_refused(right, asked):
    with pytest.raises(BadRequest):
        cluster_bootstrap(right, asked)


def test_too_few_draws_and_bare_arrays_are_refused():
    with pytest.raises(BadRequest, match="tail empty"):
        cluster_bootstrap([1, 0], draws=30)
    with pytest.raises(BadRequest, match="pair"):
        seed_cluster_bootstrap([np.ones(5)])
    with pytest.raises(BadRequest, match="no seed"):
        seed_cluster_bootstrap([])


# several seeds


def models(rng, n_seeds, spread, n_rules=100):
    centres = np.clip(rng.normal(0.6, spread, n_seeds), 0.01, 0.99)
    return [Counts(beta_binomial(rng, centre, n_rules), ASKED) for centre in centres]


def test_replicates_have_the_variance_of_a_mean_over_seeds():
    counts = models(np.random.default_rng(4), n_seeds=6, spread=0.15)
    rates = np.array([np.sum(right) / (100 * ASKED) for right, _ in counts])
    rules = np.array([np.var(np.asarray(right) / ASKED) / 100 for right, _ in counts])
    expected = np.var(rates, ddof=1) / 6 + rules.mean() / 5
    assert np.var(replicates(counts, draws=50_000)) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize(("n_seeds", "low", "high"), [(3, 0.65, 0.85), (10, 0.85, 0.97)])
def test_coverage_over_seeds_is_what_the_docstring_says(n_seeds, low, high):
    rng = np.random.default_rng(5)
    hits = []
    for i in range(300):
        lo, hi = percentiles(replicates(models(rng, n_seeds, spread=0.15), draws=200, seed=i))
        hits.append(lo <= 0.6 <= hi)
    assert low <= np.mean(hits) <= high


def test_one_seed_is_the_clustered_interval_and_says_so():
    right = beta_binomial(np.random.default_rng(6), 0.4, 80)
    estimate = seed_cluster_bootstrap([Counts(right, ASKED)], seed=1)
    assert estimate == cluster_bootstrap(right, ASKED, seed=1)
    assert (estimate.over, estimate.n_rules, estimate.n_seeds) == (ONE_SEED, 80, 1)


def test_the_mean_weighs_seeds_alike_and_says_what_is_covered():
    estimate = seed_cluster_bootstrap([Counts(np.ones(10), 1), Counts(np.zeros(30), 1)])
    assert (estimate.mean, estimate.n_rules, estimate.over) == (0.5, 10, SEEDS_AND_RULES)


def test_seeds_that_all_score_perfectly_are_bounded_by_the_rules_of_one():
    estimate = seed_cluster_bootstrap([Counts(np.ones(50), 1)] * 3)
    assert (estimate.hi, estimate.over) == (1, SCORED_ALIKE)
    assert estimate.lo == pytest.approx(0.025 ** (1 / 50))


def test_shared_rules_widen_the_interval_and_must_match():
    right = beta_binomial(np.random.default_rng(7), 0.5, 100)
    twins = [Counts(right, ASKED)] * 8  # every seed finds the same rules hard
    nested, crossed = (seed_cluster_bootstrap(twins, same_rules=same) for same in (False, True))
    assert crossed.hi - crossed.lo > 2 * (nested.hi - nested.lo)
    with pytest.raises(BadRequest, match="same_rules"):
        seed_cluster_bootstrap([Counts([1, 1], 1), Counts([1], 1)], same_rules=True)
