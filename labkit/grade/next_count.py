"""Where the next model of a search for the transition tells most."""

from collections.abc import Sequence

import numpy as np

from labkit.grade import intervals
from labkit.grade.intervals import Counts
from labkit.grade.transition import GENERALISES, fit, models_of, partial, pooled

AIMS, CLOSE = (0.25, 0.5, 0.75), 0.02  # shares of the plateau that are tried; decades that tell two counts apart
SPREAD = 6  # different counts that are tried before any is tried again


def next_count(n_instructions: Sequence[int], per_point: Sequence[Sequence[Counts]], most: int) -> int | None:
    """The number of instructions to train the next model at, so that few models locate the transition.

    First new counts, `SPREAD` in all: the geometric middle of the bracket while fewer than two lie in the rise, then
    the place of `AIMS` on the fitted curve that lies furthest, in decades, from every count tried (where a model tells
    most of midpoint and slope; compare Chaloner and Larntz 1989). After that, further seeds of the counts in the rise,
    the fewest first, up to `most` each. None when nothing is worth a model, or there is no rise to look for.

    Raises `BadRequest` as `fit_transition` does.
    """
    sweep = pooled(n_instructions, per_point)
    tried, decades = list(sweep), np.log10(list(sweep))
    means = np.array([intervals.accuracies(models).mean() for models in sweep.values()])
    (middle,), (slope,), (plateau,) = fit(decades, means[None], models_of(list(sweep.values())))
    observed = means / max(plateau, means[-1], 1e-9)
    above = np.flatnonzero(observed >= 0.5)
    if max(plateau, means[-1]) < GENERALISES or not len(above) or above[0] == 0:
        return None
    if len(tried) < SPREAD:
        places = [float(decades[above[0] - 1 : above[0] + 1].mean())]
        if np.sum(partial(observed)) >= 2:
            places = [float(middle + np.log(aim / (1 - aim)) / slope) for aim in AIMS]
        apart = [np.abs(decades - place).min() if decades[0] < place < decades[-1] else 0.0 for place in places]
        count = round(10 ** places[int(np.argmax(apart))])
        if max(apart) >= CLOSE and count not in tried:
            return count
    rise = {tried[place] for place in (above[0] - 1, above[0], *np.flatnonzero(partial(observed)))}
    open_ = [count for count in rise if len(sweep[count]) < most]
    return min(open_, key=lambda count: (len(sweep[count]), abs(observed[tried.index(count)] - 0.5)), default=None)
