"""pass@k: the chance that at least one of k programs drawn for a problem passes its test.

Guaranteed: the unbiased estimate of Chen et al. 2021 (arXiv 2107.03374, eq. 1) from n >= k samples per problem, and an
interval clustered by problem. Assumed: problems are independent draws from those spoken of, and the samples of a
problem are independent draws of one model. Left open: another seed or prompt of the model, and a test that errs.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labkit.errors import BadRequest
from labkit.grade.intervals import Estimate, Floats, at_least, percentiles, resample

PROBLEMS = "problems, and the samples drawn for each"


def estimate(n: ArrayLike, c: ArrayLike, k: int, *, draws: int = 2000, level: float = 0.95, seed: int = 0) -> Estimate:
    """The mean pass@k over problems, of which `c` [n_problems] out of `n` [n_problems] samples passed.

    The interval holds the percentiles of `draws` resamples of whole problems, never narrower than `at_least` allows;
    `n_rules` of the estimate counts the problems. Raises `BadRequest` as `pass_at_k` does.
    """
    values = pass_at_k(n, c, k)
    drawn = resample(values[:, None], draws, np.random.default_rng(seed))[:, 0] / len(values)
    mean = float(values.mean())
    lo, hi = at_least(percentiles(drawn, level), mean, len(values), level)
    return Estimate(mean, lo, hi, len(values), 1, PROBLEMS, level)


def pass_at_k(n: ArrayLike, c: ArrayLike, k: int) -> Floats:
    """1 - C(n - c, k) / C(n, k) for every problem [n_problems]: `n` samples, of which `c` passed.

    >>> pass_at_k([5], [2], 1).round(3).tolist(), pass_at_k([5], [2], 3).round(3).tolist()
    ([0.4], [0.9])

    Raises `BadRequest` where there is no problem, a problem has fewer than `k` samples, or counts make no sense.
    """
    samples, passed = _counts(n), _counts(c)
    if samples.shape != passed.shape or not len(samples) or np.any(passed < 0) or np.any(passed > samples):
        raise BadRequest("pass@k needs at least one problem, and for each from 0 to all of its samples passed")
    if not isinstance(k, int | float | np.number) or k != np.floor(k):
        raise BadRequest(f"pass@k needs a whole number k, not {k!r}")
    if not 1 <= k <= samples.min():
        raise BadRequest(f"pass@{k} needs k from 1 to the samples per problem: the fewest are {samples.min()}")
    # C(n-c, k) / C(n, k) as a product: k factors below 1 cannot overflow, and a factor 0 says c > n - k.
    factors = np.clip(1 - passed[:, None] / (samples[:, None] - np.arange(k)), 0, 1)
    return 1 - factors.prod(axis=1)


def _counts(values: ArrayLike) -> NDArray[np.int64]:
    """Counts [n_problems]; `BadRequest` for what is no whole number, or no list of them."""
    try:
        given = np.atleast_1d(np.asarray(values))
    except ValueError:  # lists of several lengths
        given = np.empty((0, 0))
    numbers = given.ndim == 1 and given.dtype.kind in "biuf"
    if not numbers or not np.all(np.isfinite(given)) or np.any(given != np.floor(given)):
        raise BadRequest(f"pass@k counts samples with one whole number per problem, which {str(values)[:60]} are not")
    return given.astype(np.int64)
