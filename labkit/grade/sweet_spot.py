"""Where a dial does best: a sweet spot with its interval, or the plain statement that there is none.

The arms of one study share seeds and, within a seed, test problems, so they are compared in pairs: seeds are resampled
and, within each, problems, the same ones for all arms (see `intervals.replicates` for drawing S - 1 of S seeds). To the
mean scores of each replicate a parabola is fitted by least squares, in the dial or in its square root (an optimum near
zero is steep on its left), whichever predicts left-out arms better. Its peak within the range tried is the sweet spot.

Guaranteed: a spot counts as `located` only where the peak lies strictly inside the range in at least 97.5 % of the
replicates *and* the arm nearest to it beats the lowest arm outright, pair by pair; so neither a parabola that does not
fit nor noise between flat arms alone makes one. An end counts as best only where the peak lies at that end as surely
and some arm is worse outright. Left open: few seeds make the intervals too narrow, as everywhere; a
curve with two peaks is not described by this one.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labkit.errors import BadRequest
from labkit.grade.intervals import Floats, percentiles

SURE = 0.975  # share of the replicates that must agree
GRID = 401  # places of the dial at which the peak is looked for
SHAPES = {"parabola in the dial": 1.0, "parabola in its square root": 0.5}


class SweetSpot(NamedTuple):
    """The verdict on a dial's optimum.

    Attributes:
        verdict: `located`, `lowest is best`, `highest is best` or `not decided`.
        peak: The fit's best place on the dial, with `lo` and `hi`.
        gain: Mean score of the arm nearest to the peak less that of the lowest arm, with its interval.
        nearest: That arm's place on the dial.
        shape: Which curve was fitted.
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

    def as_dict(self) -> dict[str, Any]:
        """The verdict for a result file: intervals as [lo, hi]."""
        return {
            "verdict": self.verdict,
            "peak": self.peak,
            "peak_ci95": [self.lo, self.hi],
            "nearest": self.nearest,
            "gain": self.gain,
            "gain_ci95": [self.gain_lo, self.gain_hi],
            "shape": self.shape,
        }


def sweet_spot(dial: Sequence[float], scores: Sequence[ArrayLike], *, draws: int = 2000, seed: int = 0) -> SweetSpot:
    """Locate the best place of a dial.

    Args:
        dial: The arms' places, G different numbers of 0 or more, rising; at least four.
        scores: For each seed the score of each arm on each problem, [G, P]; P may differ between seeds.
        draws: Replicates.
        seed: Of the resampling.

    Raises:
        BadRequest: for fewer than four arms, arms out of order, or scores of another shape.
    """
    places = np.asarray(dial, float)
    tables = [np.asarray(table, float) for table in scores]
    if len(places) < 4 or (np.diff(places) <= 0).any() or places[0] < 0:
        raise BadRequest(f"a sweet spot needs four rising places or more, from 0 up; these are {list(dial)}")
    if not tables or any(table.ndim != 2 or len(table) != len(places) or not table.size for table in tables):
        raise BadRequest(f"every seed needs a score for each of the {len(places)} arms and each problem")
    rng = np.random.default_rng(seed)
    means = _replicates(tables, draws, rng)
    mean = np.mean([table.mean(axis=1) for table in tables], axis=0)
    shape = min(SHAPES, key=lambda name: _left_out_error(places ** SHAPES[name], mean))
    peaks, (peak,) = (_peaks(places, SHAPES[shape], values) for values in (means, mean[None]))
    nearest = int(np.abs(places - peak).argmin())
    gains = means[:, nearest] - means[:, 0]
    gain_lo, gain_hi = percentiles(gains)
    inside = float(((peaks > places[0]) & (peaks < places[-1])).mean())
    if inside >= SURE and gain_lo > 0:
        verdict = "located"
    elif (peaks == places[0]).mean() >= SURE and (np.quantile(means - means[:, :1], SURE, axis=0) < 0).any():
        verdict = "lowest is best"
    elif (peaks == places[-1]).mean() >= SURE and gain_lo > 0:
        verdict = "highest is best"
    else:
        verdict = "not decided"
    gain = float(mean[nearest] - mean[0])
    return SweetSpot(verdict, float(peak), *percentiles(peaks), float(places[nearest]), gain, gain_lo, gain_hi, shape)


def paired_difference(
    scores: Sequence[ArrayLike], one: int, other: int, *, draws: int = 2000, seed: int = 0
) -> tuple[float, float, float]:
    """Mean score of arm `one` less that of arm `other`, with its 95 % interval: (mean, lo, hi); see the module."""
    tables = [np.asarray(table, float)[[one, other]] for table in scores]
    differences = _replicates(tables, draws, np.random.default_rng(seed)) @ [1, -1]
    return float(np.mean([table[0].mean() - table[1].mean() for table in tables])), *percentiles(differences)


def _replicates(tables: Sequence[Floats], draws: int, rng: np.random.Generator) -> Floats:
    """Replicates of the arms' mean scores, [draws, G]: the same seeds and problems for all arms."""
    picks = rng.integers(len(tables), size=(draws, max(1, len(tables) - 1)))
    found = np.empty((*picks.shape, len(tables[0])))
    for index, table in enumerate(tables):
        chosen = picks == index
        # arms that score alike on a problem make it one of few kinds: their multiplicities are drawn, not the problems
        kinds, counts = np.unique(table, axis=1, return_counts=True)
        weights = rng.multinomial(table.shape[1], counts / table.shape[1], size=int(chosen.sum()))
        found[chosen] = weights @ kinds.T / table.shape[1]
    return found.mean(axis=1)


def _basis(u: Floats) -> NDArray[np.float64]:
    return np.stack([np.ones_like(u), u, u**2], axis=-1)


def _left_out_error(u: Floats, mean: Floats) -> float:
    """The mean squared error on each arm of a parabola fitted to the others."""
    keep = ~np.eye(len(u), dtype=bool)
    fits = [np.linalg.lstsq(_basis(u[k]), mean[k], rcond=None)[0] for k in keep]
    return float(np.mean([(_basis(x) @ fit - y) ** 2 for x, y, fit in zip(u, mean, fits, strict=True)]))


def _peaks(places: Floats, power: float, means: Floats) -> Floats:
    """The best place of the fit to each row of means, [draws]."""
    fits = means @ np.linalg.pinv(_basis(places**power)).T
    grid = np.linspace(places[0] ** power, places[-1] ** power, GRID)
    best = (fits @ _basis(grid).T).argmax(axis=1)
    # the ends as they are: a root and a square do not come back to the same number
    found = grid[best] ** (1 / power)
    found[best == 0], found[best == GRID - 1] = places[0], places[-1]
    return found
