"""Where accuracy is highest along shares of a mix of fixed size, the mixes independent of one another.

`sweet_spot` compares arms in pairs; here each mix has models, and perhaps questions, of its own. Mixes that tie for the
best leave open which it is, and no interval is narrower than so many questions allow (`intervals.at_least`).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from labkit.errors import BadRequest
from labkit.grade.intervals import Counts, along, at_least, fewest_rules, numbers, percentiles

FEWEST = 3  # mixes that a peak can be looked for between


class Peak(NamedTuple):
    """The best share.

    Attributes:
        located: Whether the interval holds neither end of the shares tried.
        note: Why not; "" where it is.
        share: The vertex of the parabola through the best mix and its two neighbours, or the best mix, at an end; of
            mixes that tie the lowest.
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

    Raises:
        BadRequest: for shares that do not rise, are no finite numbers, or do not pair up with answers.
    """
    x = numbers(shares, "shares of a mix")
    if x.shape != (len(answers),) or (np.diff(x) <= 0).any():
        raise BadRequest(
            f"every share of a mix, rising, goes with the answers of its models: {len(answers)} for {shares}"
        )
    if len(x) < FEWEST:
        return Peak(False, f"fewer than {FEWEST} mixes: no peak to locate")
    means, resampled = along(answers, draws, seed=0)
    lowest, highest = (np.array([_vertex(x, curve, last) for curve in resampled]) for last in (False, True))
    first, width, share = x[0], np.ptp(x), _vertex(x, means, False)
    span = min(percentiles(lowest)[0], share), max(percentiles(highest)[1], share)
    low, high, top = ((place - first) / width for place in (*span, share))
    low, high = (float(first + width * end) for end in at_least((low, high), top, min(map(fewest_rules, answers))))
    located = bool(x[0] < low and high < x[-1])
    note = "" if located else f"the best share may be an end: it lies between {low:.2f} and {high:.2f}"
    return Peak(located, note, share, [low, high], shares[int(means.argmax())])


def _vertex(x: NDArray[np.float64], curve: NDArray[np.float64], last: bool) -> float:
    """The vertex at the best mix; `last`: of mixes that tie, at the last of them."""
    best = len(curve) - 1 - int(curve[::-1].argmax()) if last else int(curve.argmax())
    if best in (0, len(x) - 1):
        return float(x[best])
    near = slice(best - 1, best + 2)
    bend, slope, _ = np.polyfit(x[near], curve[near], 2)
    return float(np.clip(-slope / (2 * bend), x[best - 1], x[best + 1])) if bend < 0 else float(x[best])
