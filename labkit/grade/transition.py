"""Where generalisation sets in: the number of instructions at half the plateau, and how well that is known.

The curve is a logistic in the decades of I,

    accuracy(I) = plateau / (1 + exp(-slope (log10 I - log10 midpoint))),

fitted by least squares with one vote per trained model: near the transition seeds differ by many times the
binomial noise, so binomial weights would hand the fit to the curve's flat ends. Intervals are 95 %
percentiles over `intervals.replicates` (seeds and rules, different I independent; Davison & Hinkley 1997,
ch. 3), the curve refitted to each.

Guaranteed: a position that the logistic's shape alone decides is not passed off as measured. Where accuracy
jumps between neighbouring counts the interval spans the jump; where no rise lies within the range tried,
`located` is False and no number is given. Left open: few seeds make it too narrow, as in `intervals` (three per
count: about 85-95 % in simulation); test rules shared by all models correlate the points; and a curve that is
no monotone rise to one plateau is not described by this one.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from labkit.grade import intervals
from labkit.grade.intervals import Counts, Floats, percentiles

GENERALISES = 0.5  # a recipe that never answers half of the unseen questions has no transition to locate
SLOPES = (0.2, 60.0)  # per decade; at 60 the rise from 10 % to 90 % of the plateau takes 0.07 decades: a step
PARTIAL = (0.1, 0.9)  # shares of the plateau between which a count tells of the shape of the rise


class Transition(NamedTuple):
    """A transition in numbers of instructions, or `located` False with the reason in `note` and no numbers.

    `bracket` runs from the largest count up to which all means stay below half the plateau to the smallest
    from which all stay above; `slope` is per decade of instructions, on the logit's scale; `over` is as in
    `Estimate`.
    """

    located: bool
    note: str
    over: str
    midpoint: float | None = None
    lo: float | None = None
    hi: float | None = None
    plateau: float | None = None
    plateau_ci: tuple[float, float] | None = None
    slope: float | None = None
    bracket: tuple[int, int] | None = None

    def as_dict(self) -> dict[str, Any]:
        """The transition for a result file: intervals as [lo, hi], whatever is unknown as None."""
        plateau_ci, bracket = (list(pair) if pair else None for pair in (self.plateau_ci, self.bracket))
        return {"midpoint": self.midpoint, "ci95": [self.lo, self.hi] if self.located else None,
                "plateau": self.plateau, "plateau_ci95": plateau_ci, "slope_per_decade": self.slope,
                "located": self.located, "note": self.note, "bracket": bracket, "over": self.over}  # fmt: skip


def fit_transition(
    n_instructions: Sequence[int], per_point: Sequence[Sequence[Counts]], *, draws: int = 500, seed: int = 0
) -> Transition:
    """Locate the transition in a sweep over the number of instructions.

    `per_point[i]` holds one `Counts` per model (a seed) trained on `n_instructions[i]` instructions. The
    interval covers new seeds and new rules at the counts tried, given that the curve is a logistic. That
    assumption is dropped where it would do the measuring: when fewer than two counts lie between 10 and 90 %
    of the plateau, or the slope's own interval reaches the steepest allowed, the data cannot tell the curve
    from a step; the interval is then widened to the bracket, and `note` says so. A bare jump is placed, by
    convention, at the geometric centre of its bracket.

    Raises `BadRequest` where counts and points do not pair up, or a count is below 1 or has no model.
    """
    sweep = pooled(n_instructions, per_point)
    several = all(len(seeds) > 1 for seeds in sweep.values())
    over = intervals.SEEDS_AND_RULES if several else intervals.ONE_SEED
    if len(sweep) < 3:
        return Transition(False, "fewer than 3 distinct numbers of instructions: no curve to fit", over)

    tried, points = list(sweep), list(sweep.values())
    decades, weights = np.log10(tried), models_of(points)
    means, resampled = intervals.along(points, draws, seed)
    (middle,), (slope,), (plateau,) = fit(decades, means[None], weights)
    above = means >= plateau / 2
    if reason := _unlocated(means, plateau, above, tried):
        return Transition(False, reason, over)

    rises, settles = int(np.argmax(above)), len(tried) - int(np.argmin(above[::-1]))
    bracket = tried[rises - 1], tried[settles]
    observed = means / plateau
    if not partial(observed).any():
        middle, slope = np.log10(bracket).mean(), SLOPES[1]
        plateau = np.average(means[settles:], weights=weights[settles:])
    fitted = expit(slope * (decades - middle))
    rise = [tried[rises - 1], tried[settles], *(n for n, share in zip(tried, observed, strict=True) if partial(share))]
    if all(len(sweep[count]) > 1 for count in rise):  # one model each is enough at the curve's flat ends
        over = intervals.SEEDS_AND_RULES

    middles, slopes, plateaus = fit(decades, resampled, weights)
    n_rules = min(map(intervals.fewest_rules, points))
    plateau_ci = intervals.at_least(percentiles(plateaus), float(plateau), n_rules)
    cut = percentiles(middles)
    lo, hi = 10.0 ** min(cut[0], middle), 10.0 ** max(cut[1], middle)
    notes = []
    if np.sum(partial(observed) & partial(fitted)) < 2 or percentiles(slopes)[1] > 0.98 * SLOPES[1]:
        lo, hi = min(lo, bracket[0]), max(hi, bracket[1])
        span = f"{bracket[0]:,} to {bracket[1]:,}"
        notes.append(f"too few counts in the rise to tell it from a step: the interval spans {span} at least")
    if fitted[-1] < PARTIAL[1]:
        notes.append("accuracy still rises at the largest count: the plateau is the logistic's extrapolation")
    if cut[0] <= decades[0] or cut[1] >= decades[-1]:
        notes.append("the interval is cut off at the range tried")
    numbers = float(10**middle), float(lo), float(hi), float(plateau), plateau_ci, float(slope), bracket
    return Transition(True, "; ".join(notes), over, *numbers)


def pooled(n_instructions: Sequence[int], per_point: Sequence[Sequence[Counts]]) -> dict[int, list[Counts]]:
    """The models of each number of instructions, ascending."""
    sweep = defaultdict[int, list[Counts]](list)
    for count, seeds in intervals.paired(n_instructions, per_point, "number of instructions"):
        sweep[count] += seeds
    return sweep


class Explained(NamedTuple):
    """The share of the variance between points that a curve explains, with its interval; None where there is none."""

    share: float | None = None
    share_ci95: tuple[float, float] | None = None


def explained(
    numbers: Sequence[int], per_point: Sequence[Sequence[Counts]], *, draws: int = 500, seed: int = 0
) -> Explained:
    """How well one logistic in log10 of `numbers` describes all points, whatever else they differ in.

    One less the squared distances of the points' means from the fitted curve over those from their own mean (R²),
    points weighted by their models. The interval refits every replicate of the points (`intervals.replicates`); noise
    within a point can only lower a share, so it errs on the low side.

    Nothing is returned for fewer than 4 distinct numbers, which a curve of three parameters goes through, or for points
    that do not differ. Raises `BadRequest` as `fit_transition` does.
    """
    places, points = zip(*intervals.paired(numbers, per_point, "number of instructions"), strict=True)
    means, resampled = intervals.along(points, draws, seed)
    if len(set(places)) < 4 or np.ptp(means) == 0:
        return Explained()
    decades, weights, curves = np.log10(places), models_of(points), np.vstack([means, resampled])
    middles, slopes, plateaus = fit(decades, curves, weights)
    fitted = plateaus[:, None] * expit(slopes[:, None] * (decades - middles[:, None]))
    centre = np.average(curves, axis=1, weights=weights)[:, None]
    spread = np.maximum(((curves - centre) ** 2) @ weights, 1e-12)
    share = 1 - ((curves - fitted) ** 2) @ weights / spread
    lo, hi = percentiles(share[1:])
    return Explained(float(share[0]), (min(lo, float(share[0])), max(hi, float(share[0]))))


def models_of(points: Sequence[Sequence[Counts]]) -> Floats:
    return np.array([float(len(seeds)) for seeds in points])


def _unlocated(means: Floats, plateau: float, above: NDArray[np.bool_], tried: list[int]) -> str:
    """Why no transition lies within the range tried, in one sentence; empty where one does."""
    if means.max() < GENERALISES:
        span = f"{tried[0]:,}..{tried[-1]:,}"
        return f"accuracy never reaches {GENERALISES:g} in {span} instructions: no transition located"
    if plateau < GENERALISES:
        return f"accuracy reaches {GENERALISES:g} but does not stay there: no transition located"
    if above[0]:
        return f"already above half the plateau at the smallest count ({tried[0]:,}): no transition located"
    if not above[-1]:
        return f"back below half the plateau at the largest count ({tried[-1]:,}): no transition located"
    return ""


def partial(share: Floats) -> NDArray[np.bool_]:
    return (share > PARTIAL[0]) & (share < PARTIAL[1])


def fit(decades: Floats, curves: Floats, weights: Floats) -> tuple[Floats, Floats, Floats]:
    """Weighted least squares for many curves [r, k] at once: log10 midpoint, slope and plateau, each [r].

    Given the other two the best plateau is a ratio of sums (variable projection), so two bounded parameters
    are left: one coarse grid over both, then ever finer 9 x 9 grids around each curve's best cell. There is
    no start to choose and no step to diverge; it agrees with scipy's bounded least squares
    (tests/test_transition.py).
    """
    low, high = np.array([decades[[0, -1]], np.log(SLOPES)]).T
    cells = low + np.mgrid[0:1:97j, 0:1:41j].reshape(2, -1).T[None] * (high - low)  # [1, cells, 2]
    around, reach = np.mgrid[-1:1:9j, -1:1:9j].reshape(2, -1).T, (high - low) / [48, 20]
    rows = np.arange(len(curves))
    for _ in range(16):
        shape = expit(np.exp(cells[..., 1:]) * (decades - cells[..., :1]))  # [1 or r, cells, k]
        along, norm = (shape @ (weights * curves)[..., None])[..., 0], shape**2 @ weights  # [r, cells]
        plateau = np.clip(along / norm, 0, 1)
        best = np.argmin(plateau * (plateau * norm - 2 * along), axis=1)
        centre = cells[rows % len(cells), best]
        cells = np.clip(centre[:, None] + reach * around, low, high)
        reach = 0.6 * reach
    return centre[:, 0], np.exp(centre[:, 1]), plateau[rows, best]
