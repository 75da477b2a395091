"""Where a dial does best: a sweet spot with its interval, or the plain statement that there is none.

The arms of one study share seeds and, within a seed, test problems, so they are compared in pairs: seeds are resampled
and, within each, problems, the same ones for all arms (see `intervals.replicates` for drawing S - 1 of S seeds). To the
mean scores of each replicate a parabola is fitted by least squares, in the dial or in its square root (an optimum near
zero is steep on its left), whichever predicts left-out arms better. Its peak within the range tried is the sweet spot.

Guaranteed: a spot counts as `located` only where the peak lies strictly inside the range in at least 97.5 % of the
replicates *and* the arm nearest to it beats the arms at both ends outright, pair by pair; so neither a parabola that
does not fit (a plateau, a late fall) nor noise between flat arms often makes one: simulated with three seeds, at most
one time in seven. An end counts as best only where the
peak lies there as surely, some arm is worse outright and none is better. One seed decides nothing: how two trainings of
one arm differ is then unknown. No interval is narrower than so many problems allow, however alike arms score.
Left open: few seeds make the intervals too narrow, as everywhere; a
curve with two peaks is not described by this one.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.polynomial.polynomial import polyvander
from numpy.typing import ArrayLike

from labkit.errors import BadRequest
from labkit.grade.intervals import Floats, at_least, numbers, over_seeds, percentiles, resample

SURE = 0.975  # share of the replicates that must agree
GRID = 401  # places of the dial at which the peak is looked for
SHAPES = {"parabola in the dial": 1.0, "parabola in its square root": 0.5}


class SweetSpot(NamedTuple):
    """The verdict on a dial's optimum.

    Attributes:
        verdict: `located`, `lowest is best`, `highest is best` or `not decided`.
        peak: The fit's best place on the dial, with `lo` and `hi`; where the arms tie the lowest, and the whole range.
        gain: Mean score of the arm nearest to the peak less that of the lowest arm, with its interval.
        nearest: That arm's place on the dial.
        shape: Which curve was fitted.
        seeds: How many had every arm.
    """

    verdict: str
    peak: float
    lo: float
    hi: float
    nearest: float
    gain: float
    gain_lo: float
    gain_hi: float
    shape: str
    seeds: int

    def as_dict(self) -> dict[str, Any]:
        """The verdict for a result file: intervals as [lo, hi]."""
        plain = {name: getattr(self, name) for name in ("verdict", "peak", "nearest", "gain", "shape", "seeds")}
        return plain | {"peak_ci95": [self.lo, self.hi], "gain_ci95": [self.gain_lo, self.gain_hi]}


def sweet_spot(dial: Sequence[float], scores: Sequence[ArrayLike], *, same_problems: bool = False, draws: int = 2000,
               seed: int = 0) -> SweetSpot:  # fmt: skip
    """Locate the best place of a dial.

    Args:
        dial: The arms' places, G different numbers of 0 or more, rising; at least four.
        scores: For each seed the score of each arm on each problem, [G, P]; P may differ between seeds.
        same_problems: All seeds sat the same problems in the same order: one resample of them serves all seeds.
        draws: Replicates.
        seed: Of the resampling.

    Raises:
        BadRequest: for fewer than four arms, arms out of order, scores of another shape, or what is no finite number.
    """
    places, tables = numbers(dial, "the places of a dial"), _tables(scores, same_problems)
    if len(places) < 4 or (np.diff(places) <= 0).any() or places[0] < 0:
        raise BadRequest(f"a sweet spot needs four rising places or more, from 0 up; these are {list(dial)}")
    if any(len(table) != len(places) for table in tables):
        raise BadRequest(f"every seed needs a score for each of the {len(places)} arms and each problem")
    means = _replicates(tables, same_problems, draws, np.random.default_rng(seed))
    mean = np.mean([table.mean(axis=1) for table in tables], axis=0)
    shape = min(SHAPES, key=lambda name: _left_out_error(places ** SHAPES[name], mean))
    peaks, (peak,) = (_peaks(places, SHAPES[shape], values) for values in (means, mean[None]))
    nearest = 0 if np.isnan(peak) else int(np.abs(places - peak).argmin())

    def beats(one: int, other: int) -> bool:
        return _interval(means[:, one] - means[:, other], mean[one] - mean[other], tables)[0] > 0

    def best(end: int) -> bool:
        others = range(len(places))
        sure = (peaks == places[end]).mean() >= SURE
        return sure and any(beats(end, arm) for arm in others) and not any(beats(arm, end) for arm in others)

    inside = ((peaks > places[0]) & (peaks < places[-1])).mean()
    if len(tables) == 1:
        verdict = "not decided"
    elif inside >= SURE and beats(nearest, 0) and beats(nearest, -1):
        verdict = "located"
    else:
        verdict = "lowest is best" if best(0) else "highest is best" if best(-1) else "not decided"
    gain = float(mean[nearest] - mean[0])
    gain_lo, gain_hi = _interval(means[:, nearest] - means[:, 0], gain, tables)
    tied = np.isnan(peaks)  # in so many replicates, nothing is known of the peak but that it lies in the range
    if np.isnan(peak) or tied.mean() > 1 - SURE:
        lo, hi = float(places[0]), float(places[-1])
    else:
        lo, hi = percentiles(peaks[~tied])
    peak = float(places[0] if np.isnan(peak) else peak)
    first, width = float(places[0]), float(np.ptp(places))
    lo, hi, top = ((place - first) / width for place in (lo, hi, peak))  # as wide as so many problems allow
    lo, hi = at_least((min(lo, top), max(hi, top)), top, min(table.shape[1] for table in tables))
    interval, at = (first + width * lo, first + width * hi), float(places[nearest])
    return SweetSpot(verdict, peak, *interval, at, gain, gain_lo, gain_hi, shape, len(tables))


def paired_difference(scores: Sequence[ArrayLike], one: int, other: int, *, same_problems: bool = False,
                      draws: int = 2000, seed: int = 0) -> tuple[float, float, float]:  # fmt: skip
    """Mean score of arm `one` less that of arm `other`, with its 95 % interval: (mean, lo, hi); see `sweet_spot`.

    Raises:
        BadRequest: for scores of another shape, an arm that they have not, or what is no finite number.
    """
    whole = _tables(scores, same_problems)
    if not all(0 <= arm < len(table) for table in whole for arm in (one, other)):
        raise BadRequest(f"arms {one} and {other}: these scores have arms from 0 to {min(map(len, whole)) - 1}")
    tables = [table[[one, other]] for table in whole]
    differences = _replicates(tables, same_problems, draws, np.random.default_rng(seed)) @ [1, -1]
    mean = float(np.mean([table[0].mean() - table[1].mean() for table in tables]))
    return mean, *_interval(differences, mean, tables)


def _tables(scores: Sequence[ArrayLike], same_problems: bool) -> list[Floats]:
    """The scores of each seed, [G, P]."""
    tables = [numbers(table, f"the scores of seed {seed}") for seed, table in enumerate(scores)]
    if not tables or any(table.ndim != 2 or not table.size for table in tables):
        raise BadRequest("every seed needs a score for each arm and each problem, one seed at least")
    if same_problems and len({table.shape for table in tables}) > 1:
        raise BadRequest("same_problems needs seeds that sat equally many problems")
    return tables


def _interval(differences: Floats, mean: float, tables: Sequence[Floats]) -> tuple[float, float]:
    """Percentiles, at least as wide as so many problems allow where all resamples agree (see `intervals.at_least`)."""
    lo, hi = percentiles(differences)
    unseen = 1 - 0.025 ** (1 / min(table.shape[1] for table in tables))
    return min(lo, mean - unseen), max(hi, mean + unseen)


def _replicates(tables: Sequence[Floats], same_problems: bool, draws: int, rng: np.random.Generator) -> Floats:
    """Replicates of the arms' mean scores, [draws, G]: the same seeds and problems for all arms."""

    def scores(table: Floats, n: int) -> Floats:  # the means of its rows [G, problems] over resampled problems
        return (resample(table.T, n, rng) / table.shape[1]).reshape(n, -1, len(tables[0]))

    return over_seeds([np.concatenate(tables)] if same_problems else tables, len(tables), draws, rng, scores)


def _left_out_error(u: Floats, mean: Floats) -> float:
    """The mean squared error on each arm of a parabola fitted to the others."""
    basis, others = polyvander(u, 2), ~np.eye(len(u), dtype=bool)
    fits = [np.linalg.lstsq(basis[kept], mean[kept], rcond=None)[0] for kept in others]
    return float(np.mean([(row @ fit - y) ** 2 for row, fit, y in zip(basis, fits, mean, strict=True)]))


def _peaks(places: Floats, power: float, means: Floats) -> Floats:
    """The best place of the fit to each row of means, [draws]; NaN where all arms tie, or both ends on top."""
    fits = means @ np.linalg.pinv(polyvander(places**power, 2)).T
    grid = np.linspace(places[0] ** power, places[-1] ** power, GRID)
    curves = fits @ polyvander(grid, 2).T
    best = curves.argmax(axis=1)
    # the ends as they are: a root and a square do not come back to the same number
    peaks = grid[best] ** (1 / power)
    peaks[best == 0], peaks[best == GRID - 1] = places[0], places[-1]
    alike = 1e-9 * np.abs(means).max(axis=1)  # else rounding would name one
    ends = np.minimum(curves[:, 0], curves[:, -1]) >= curves.max(axis=1) - alike
    peaks[(np.ptp(means, axis=1) <= alike) | ends] = np.nan
    return peaks
