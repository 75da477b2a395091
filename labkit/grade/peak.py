"""Where accuracy is highest along shares of a mix of fixed size, the mixes independent of one another.

`sweet_spot` compares arms in pairs; here each mix has models, and perhaps questions, of its own.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from labkit.grade.intervals import Counts, along, percentiles

FEWEST = 3  # mixes that a peak can be looked for between


class Peak(NamedTuple):
    """The best share.

    Attributes:
        located: Whether the interval holds neither end of the shares tried.
        note: Why not; "" where it is.
        share: The vertex of the parabola through the best mix and its two neighbours, or the best mix, at an end.
        ci95: Its 95 % percentile interval.
        best: The mix with the highest mean.
    """

    located: bool
    note: str
    share: float | None = None
    ci95: list[float] | None = None
    best: float | None = None


def peak(shares: Sequence[float], answers: Sequence[Sequence[Counts]], draws: int = 2000) -> Peak:
    """Where accuracy is highest along the shares (ascending).

    The interval refits the parabola to `replicates` of every mix (seeds and rules resampled, mixes independent, which
    for models that share their test rules errs on the wide side).
    """
    if len(shares) < FEWEST:
        return Peak(False, f"fewer than {FEWEST} mixes: no peak to locate")
    means, resampled = along(answers, draws, seed=0)
    x = np.array(shares)
    low, high = percentiles(np.array([_vertex(x, curve) for curve in resampled]))
    located = bool(shares[0] < low and high < shares[-1])
    note = "" if located else f"the best share may be an end: it lies between {low:.2f} and {high:.2f}"
    return Peak(located, note, _vertex(x, means), [low, high], shares[int(means.argmax())])


def _vertex(x: NDArray[np.float64], curve: NDArray[np.float64]) -> float:
    best = int(curve.argmax())
    if best in (0, len(x) - 1):
        return float(x[best])
    near = slice(best - 1, best + 2)
    bend, slope, _ = np.polyfit(x[near], curve[near], 2)
    return float(-slope / (2 * bend)) if bend < 0 else float(x[best])
