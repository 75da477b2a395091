"""Growth curves: known plateaus and paces recovered, verdicts right on known curves, no number where none is due.

The simulations: the chance level is 1/4; each model answers 6 questions of each of 60 instructions, whose accuracies
are Beta-distributed around the model's (a correlation of 0.23 between answers to one instruction); a model's score is
its curve's with a standard deviation of 0.02 between seeds. With `shared` all models sit the same test: each
instruction keeps its place from easy to hard.
"""

import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.optimize import curve_fit

from labkit.errors import BadRequest
from labkit.grade.growth import MATTERS, RESPONDS, VERDICTS, Curves, fit_growth
from labkit.grade.intervals import Counts

CHANCE, ASKED, RULES, SPREAD = 0.25, 6, 60, 0.3


def ladder(rungs):
    return 16 * 4 ** np.arange(rungs)


def curve(plateau, pace, steepness, sudden=False):
    return Curves.of({"plateau": plateau, "pace": pace, "steepness": steepness, "sudden": sudden})


def simulated(rng, truth, volumes, seeds=3, noise=0.02, shared=False, rules=RULES):
    places = rng.uniform(size=rules)
    points = []
    for score in truth.at(volumes)[0]:
        models = []
        for _ in range(seeds):
            accuracy = np.clip(CHANCE + (1 - CHANCE) * np.clip(score + rng.normal(0, noise), 0, 1), 1e-4, 1 - 1e-4)
            shape = accuracy / SPREAD, (1 - accuracy) / SPREAD
            own = stats.beta.ppf(places, *shape) if shared else rng.beta(*shape, rules)
            models.append(Counts(rng.binomial(ASKED, own), ASKED))
        points.append(models)
    return points


def fits(truth, rungs=4, times=40, seed=0, **how):
    rng, volumes = np.random.default_rng(seed), ladder(rungs)
    same = how.get("shared", False)
    return [
        fit_growth(volumes, simulated(rng, truth, volumes, **how), chance=CHANCE, same_rules=same) for _ in range(times)
    ]


def within(known, truth):
    return (known.lo is None or known.lo <= truth) and (known.hi is None or truth <= known.hi)


@pytest.mark.parametrize("shared", [False, True])
def test_plateau_and_pace_lie_in_their_intervals(shared):
    """200 curves in all: ladders of 4 to 6 volumes from 16 on, 3 to 5 seeds; a plateau of 0.3 to 0.95, a pace from the
    first volume to an eighth of the last, exponents of 0.5 to 2: what such a ladder can tell."""
    rng = np.random.default_rng(7)
    plateaus, paces, gains, widths, factors = [], [], [], [], []
    for _ in range(100):
        volumes = ladder(rng.integers(4, 7))
        plateau, pace, power = (
            rng.uniform(0.3, 0.95),
            *np.exp(rng.uniform(np.log([volumes[0], 0.5]), np.log([volumes[-1] / 8, 2]))),
        )
        truth = curve(plateau, pace, power)
        sweep = simulated(rng, truth, volumes, seeds=rng.integers(3, 6), shared=shared)
        found = fit_growth(volumes, sweep, chance=CHANCE, same_rules=shared)
        plateaus.append(within(found.plateau, plateau))
        paces.append(within(found.pace, pace))
        gains.append(within(found.gain, np.diff(truth.at([volumes[-1], 4 * volumes[-1]])[0]).item()))
        widths.append(found.plateau.hi - found.plateau.lo)
        factors.append(found.pace.hi / found.pace.lo if found.pace.lo and found.pace.hi else np.inf)
    assert np.mean(plateaus) >= 0.9
    assert np.mean(paces) >= 0.9
    assert np.mean(gains) >= 0.9
    assert np.median(widths) < 0.18  # and they say something: about +- 0.07,
    assert np.median(factors) < 3  # and a factor of about 1.5 either way


CORNERS = [  # noisy seeds, few and many; a sudden rise; two too slow to show their plateau; two seeds
    (curve(0.8, 64, 1), {"noise": 0.06}),
    (curve(0.8, 64, 1), {"noise": 0.06, "rungs": 6, "seeds": 5}),
    (curve(0.9, 128, 4, sudden=True), {}),
    (curve(0.9, 512, 0.3), {}),
    (curve(0.8, 64, 0.5), {"shared": True}),
    (curve(0.8, 64, 1), {"seeds": 2}),
]


def test_intervals_hold_at_the_corners_too():
    """There curves are alike, not drawn from the prior: nowhere far below 95 %, and over all corners above 90."""
    plateaus, paces = [], []
    for truth, how in CORNERS:
        found = fits(truth, **how)
        plateaus.append(np.mean([within(fit.plateau, truth.plateau[0]) for fit in found]))
        paces.append(np.mean([within(fit.pace, truth.pace[0]) for fit in found]))
    assert min(plateaus + paces) >= 0.8
    assert np.mean(plateaus) >= 0.9
    assert np.mean(paces) >= 0.9


def test_where_the_plateau_is_not_reached_its_interval_spans_what_is_left_open():
    for fit in fits(curve(0.9, 1000, 0.5), times=20):
        assert fit.plateau.hi > 0.9
        assert fit.plateau.hi - fit.plateau.lo > 0.25
        assert "extrapolation" in fit.note
        assert fit.reached.lo < 0.8


def test_a_pace_outside_the_ladder_is_left_open():
    for fit in fits(curve(0.8, 0.5, 1), times=10):
        assert fit.pace.lo is None
        assert fit.pace.hi < 32
        assert "before the first volume" in fit.note


# verdicts


KNOWN = [  # flat at chance, flat above it, saturated early; steep, slow and sudden growth
    (curve(1e-6, 1, 1), {"still growing", "saturated"}, "not responding"),
    (curve(0.5, 1e-3, 3), {"still growing", "not responding"}, "saturated"),
    (curve(0.9, 1e-3, 3), {"still growing", "not responding"}, "saturated"),
    (curve(0.8, 16, 2), {"still growing", "not responding"}, "saturated"),
    (curve(0.9, 512, 0.7), {"saturated", "not responding"}, "still growing"),
    (curve(0.9, 512, 0.3), {"saturated", "not responding"}, "still growing"),
    (curve(0.9, 600, 6, sudden=True), {"saturated", "not responding"}, "still growing"),
]


@pytest.mark.parametrize("shared", [False, True])
def test_verdicts_are_seldom_wrong_and_mostly_given(shared):
    wrong = []
    for place, (truth, never, mostly) in enumerate(KNOWN):
        verdicts = [fit.verdict for fit in fits(truth, times=30, seed=place, shared=shared)]
        wrong += [verdict in never for verdict in verdicts]
        assert verdicts.count(mostly) >= 0.7 * 30
    assert np.mean(wrong) < 0.05


def test_flat_curves_are_rarely_called_growing():
    found = [fit for score in (1e-6, 0.3, 0.6) for fit in fits(curve(score, 1e-3, 3), times=70, seed=11)]
    assert np.mean([fit.verdict == "still growing" for fit in found]) < 0.05


def test_few_questions_decide_less():
    sure, unsure = (
        Counter(fit.verdict for fit in fits(curve(0.8, 64, 0.8), times=20, rules=rules)) for rules in (400, 15)
    )
    assert unsure["not decided"] > sure["not decided"]


@settings(max_examples=15, deadline=None)
@given(st.floats(0.05, 1), st.floats(2, 5000), st.floats(0.3, 6), st.booleans(), st.integers(0, 99))
def test_a_verdict_is_what_its_numbers_say(plateau, pace, steepness, sudden, seed):
    (fit,) = fits(curve(plateau, pace, steepness, sudden), times=1, seed=seed)
    assert fit.verdict in VERDICTS
    assert fit.plateau.lo <= fit.plateau.value <= fit.plateau.hi <= 1
    assert fit.gain.lo >= 0
    if fit.verdict == "not responding":
        assert fit.response.hi < RESPONDS
        assert fit.pace == (None, None, None)
    if fit.verdict == "saturated":
        assert fit.gain.hi < MATTERS  # and the last step is small, or everything is right already
        assert fit.step.value < MATTERS or fit.points[-1].score > 1 - MATTERS
    if fit.verdict == "still growing":
        assert fit.step.lo > 0 or fit.gain.lo > 0.01


def test_the_start_is_the_untrained_models_where_it_is_known():
    """A model that could do it before has not responded to training, though it scores."""
    rng, volumes = np.random.default_rng(3), ladder(4)
    flat = simulated(rng, curve(0.5, 1e-3, 3), volumes)
    (before,) = simulated(rng, curve(0.5, 1e-3, 3), [1], seeds=1)
    known = fit_growth(volumes, flat, chance=CHANCE, untrained=before[0])
    assert known.response.lo < 0 < known.response.hi < 0.2
    assert fit_growth(volumes, flat, chance=CHANCE).response.lo > 0.4


def test_a_fall_is_called_a_misfit_and_nothing_else():
    falling = [simulated(np.random.default_rng(4), curve(score, 1e-3, 3), [1])[0] for score in (0.8, 0.6, 0.4, 0.2)]
    fit = fit_growth(ladder(4), falling, chance=CHANCE)
    assert fit.verdict == "not decided"
    assert fit.misfit < 0.01
    assert "read the points" in fit.note


# shapes


def test_left_out_volumes_tell_the_shapes_apart():
    for truth, shape in [
        (curve(0.5, 1e-3, 3), "constant"),
        (curve(0.9, 200, 2, sudden=True), "sudden"),
        (curve(0.9, 40, 0.6), "saturating"),
    ]:
        chosen = Counter(fit.shape for fit in fits(truth, rungs=6, times=20, rules=200))
        assert chosen.most_common(1)[0][0] == shape
    rng = np.random.default_rng(5)
    volumes = ladder(6)
    rising = [simulated(rng, curve(score, 1e-3, 9), [1], rules=400)[0] for score in np.linspace(0.05, 0.95, 6)]
    fit = fit_growth(volumes, rising, chance=CHANCE)
    assert fit.shape == "log-linear"
    assert fit.verdict == "still growing"


def test_the_best_curve_is_the_least_squares_one_where_data_abound():
    """Where the data decide, posterior and weighted least squares (scipy) are one."""
    truth, volumes = curve(0.7, 30, 0.9), ladder(6)
    rng = np.random.default_rng(6)
    points = simulated(rng, truth, volumes, seeds=5, noise=0, rules=4000)
    fit = fit_growth(volumes, points, chance=CHANCE)
    score = [point.score for point in fit.points]

    def power_law(v, plateau, pace, c):
        return plateau * np.maximum(0, 1 - (v / pace) ** -c / 2)

    (plateau, pace, _), _ = curve_fit(power_law, volumes, score, p0=(0.6, 50, 1))
    assert fit.plateau.value == pytest.approx(plateau, abs=0.005)
    assert fit.pace.value == pytest.approx(pace, rel=0.03)
    assert fit.shape == "saturating"
    assert fit.sudden < 0.05
    mean, lo, hi = fit.at(volumes)
    assert mean == pytest.approx(truth.at(volumes)[0], abs=0.01)
    assert np.all(lo < hi)


# data


def test_order_and_grouping_of_points_do_not_matter():
    volumes = ladder(4)
    sweep = simulated(np.random.default_rng(8), curve(0.8, 64, 1), volumes)
    fit = fit_growth(volumes, sweep, chance=CHANCE)
    split = [(volume, [counts]) for volume, seeds in zip(volumes, sweep, strict=True) for counts in seeds]
    assert fit_growth(*zip(*split, strict=True), chance=CHANCE).as_dict() == fit.as_dict()
    assert fit_growth(volumes[::-1], sweep[::-1], chance=CHANCE).as_dict() == fit.as_dict()
    assert fit_growth(volumes, sweep, chance=CHANCE, seed=1).plateau != fit.plateau
    assert fit_growth(volumes, sweep, chance=CHANCE, seed=1).plateau == pytest.approx(fit.plateau, abs=0.03)


def test_a_shared_test_widens_the_plateau():
    """Where all models find the same instructions hard, more models tell no more of other instructions."""
    volumes = ladder(4)
    sweep = simulated(np.random.default_rng(9), curve(0.6, 1e-3, 3), volumes, seeds=5, noise=0, shared=True)
    apart, same = (fit_growth(volumes, sweep, chance=CHANCE, same_rules=same).plateau for same in (False, True))
    assert same.hi - same.lo > 1.7 * (apart.hi - apart.lo)


@pytest.mark.parametrize("right", [0, ASKED])
def test_scores_that_are_all_alike_leave_something_open(right):
    points = [[Counts(np.full(30, right), ASKED)] * 3] * 4
    for same in (False, True):
        fit = fit_growth(ladder(4), points, same_rules=same)
        assert fit.verdict == ("saturated" if right else "not responding")
        assert fit.plateau.lo < fit.plateau.hi
        assert all(point.lo < point.score < point.hi for point in fit.points)


def test_the_record_is_json() -> None:
    (found,) = fits(curve(0.8, 300, 1), times=1)
    out = json.loads(json.dumps(found.as_dict()))
    assert out["pace"]["ci95"][0] < out["pace"]["value"] < out["pace"]["ci95"][1]
    assert set(out["held_out"]) == {"constant", "log-linear", "saturating", "sudden"}
    assert out["points"][0]["volume"] == 16


def test_a_curve_is_chance_without_data_and_half_its_plateau_at_its_pace():
    curves = Curves(np.array([0.8, 0.6]), np.array([50.0, 200]), np.array([0.7, 5]), np.array([False, True]))
    assert np.diag(curves.at([50, 200])) == pytest.approx([0.4, 0.3])
    assert curves.at([0, 10**12]) == pytest.approx(np.array([[0, 0.8], [0, 0.6]]), abs=1e-4)
    assert (np.diff(curves.at(np.arange(1, 2000))) >= 0).all()


@pytest.mark.parametrize(
    ("volumes", "seeds", "change", "said"),
    [
        ([16, 64, 256], 3, {}, "4 different volumes at least, not 3"),
        ([16, 64, 256, 256], 3, {}, "4 different volumes at least, not 3"),
        ([16, 64, 256, 1024], 1, {}, "2 seeds at each volume, for their spread: 16 has 1"),
        ([0, 64, 256, 1024], 3, {}, "1 or more"),
        ([16, 64, 256, 1024], 3, {"chance": 1.0}, "leaves nothing to measure"),
        ([16, 64, 256], 3, {"points": 4}, "paired"),
    ],
)
def test_too_little_is_refused_in_one_sentence(volumes, seeds, change, said):
    points = [[Counts([3, 4, 5], ASKED)] * seeds] * change.pop("points", len(volumes))
    with pytest.raises(BadRequest, match=said) as refused:
        fit_growth(volumes, points, **change)
    assert "\n" not in str(refused.value)


def test_same_rules_needs_the_same_rules():
    points = [[Counts([3, 4, 5], ASKED)] * 3] * 3 + [[Counts([3, 4], ASKED)] * 3]
    with pytest.raises(BadRequest, match="same_rules"):
        fit_growth(ladder(4), points, same_rules=True)


def test_models_that_answer_alike_at_every_volume_have_a_fit() -> None:
    """Of one exam that does not move: differences between volumes have no error at all."""
    alike = [Counts(np.arange(60) % 2, 1), Counts((np.arange(60) + 1) % 3 // 2, 1)]
    fit = fit_growth([1, 4, 16, 64], [alike] * 4, chance=0.25, same_rules=True)
    assert fit.verdict in ("saturated", "not responding", "not decided")
    assert all(point.lo is not None and point.lo <= point.score <= point.hi for point in fit.points)


def test_a_score_without_anything_left_is_saturated_however_it_came_there() -> None:
    counts = [[Counts(np.full(60, right), 10)] * 3 for right in (3, 3, 6, 10)]
    assert fit_growth([16, 64, 256, 1024], counts, chance=0.25).verdict == "saturated"
