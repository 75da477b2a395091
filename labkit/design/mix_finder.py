"""From runs at some shares to the mix that scores best: laws fitted, the posterior of the optimum, or "no plan".

Scores (higher is better) were measured at shares of k sources. Five laws say how a score depends on shares:

    linear     each source adds in proportion to its share
    growth     each source adds by its own, with diminishing returns (the square root): independent growth curves
    log        each source is needed: linear in the logarithms of shares (a Cobb-Douglas law)
    transfer   what a source adds depends on every other's share (Scheffé's quadratic for mixtures, 1958)
    smooth     a Gaussian process: nearby mixes score alike

The first four are Bayesian linear regressions on features of the shares (MacKay 1992). Cross-validation weighs the laws
(pseudo-BMA+, Yao et al. 2018): each part of the runs is predicted from all others; the weights are means over Bayesian
bootstraps of the predictive densities, so that no law wins by a few lucky runs. Draws from the weighted posterior of
all runs say where the optimum is and what it scores.

Guaranteed: the found mix is equal parts, with the reason, where the 95 % interval of what it gains over them reaches 0,
or where no law predicts runs that it has not seen better than the mean of the others does. Where laws miss such runs by
more than they say, all intervals are widened by that factor, and by that of Student's t. It is measured on the quarter
of runs furthest from equal parts, where optima are sought. Left open: a score that jumps between neighbouring mixes;
more than about eight sources for a few dozen runs.

Sources: Ye et al. 2024, arXiv 2403.16952 (data mixing laws), Liu et al. 2024, arXiv 2407.01492 (RegMix), Yao et al.
2018, arXiv 1704.02030 (weights, section 3.2).
"""

import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax
from scipy.stats import t

from labkit.errors import BadRequest

Floats = NDArray[np.float64]

LEAST_RUNS = 8  # runs below which no law is fitted
PARTS = 8  # of the runs, each predicted from the others
CANDIDATES, DRAWS = 300, 400
SMALL = 0.02  # what the log law adds to every share
NO_WORSE = 0.9  # a law's error on unseen runs, as a share of the error of the others' mean, from which it is no law


class Range(NamedTuple):
    """A number with its 95 % interval."""

    mean: float
    lo: float
    hi: float

    @classmethod
    def of(cls, draws: Floats) -> "Range":
        return cls(float(draws.mean()), *(float(end) for end in np.quantile(draws, [0.025, 0.975])))


class Runs(NamedTuple):
    """Measured mixes: shares [n, k] that sum to 1 each, and scores [n]."""

    shares: Floats
    scores: Floats


class Plan(NamedTuple):
    """What was found; see the module.

    Attributes:
        shares: The mix to train on [k]; equal parts where there is no plan.
        reason: Why there is no plan; "" where there is one.
        score: Predicted for it.
        gain: Predicted for it over equal parts.
        best: The mix that was sought and perhaps not trusted [k].
        optimum: Draws of the best mix [draws, k].
        laws: By law its error on runs that it has not seen, and its weight.
        noise: Standard deviation of one mix's score over seeds; None where it was not measured.
    """

    shares: Floats
    reason: str
    score: Range
    gain: Range
    best: Floats
    optimum: Floats
    laws: dict[str, dict[str, float]]
    noise: float | None

    def as_dict(self) -> dict[str, Any]:
        """For a result file."""
        ends = np.quantile(self.optimum, [0.025, 0.975], axis=0)
        return {"shares": self.shares.tolist(), "reason": self.reason, "predicted": self.score._asdict(),
                "gain_over_equal_parts": self.gain._asdict(), "sought": self.best.tolist(),
                "optimum_ci95": ends.T.tolist(), "laws": self.laws, "noise": self.noise}  # fmt: skip


def dirichlet(n: int, k: int, seed: int, concentration: float = 1.0) -> Floats:
    """n random mixes of k sources [n, k]."""
    if k < 2:
        raise BadRequest("a mix of one source leaves nothing to find: at least two sources are needed")
    return np.random.default_rng(seed).dirichlet([concentration] * k, n)


def mixes(n: int, k: int, seed: int) -> Floats:
    """n mixes of k sources to try [n, k]: each source alone, so that nothing is extrapolated, and random ones."""
    if n <= k:
        raise BadRequest(f"{n} mixes are too few for {k} sources: each is tried alone, and some are mixed")
    return np.vstack([np.eye(k), dirichlet(n - k, k, seed)])


def within(shares: Floats, most: ArrayLike) -> Floats:
    """The mixes [n, k], those with more of a source than its `most` [k] drawn towards equal parts until they fit.

    Every source must be able to give an equal part.
    """
    equal = 1 / shares.shape[1]
    above = shares > equal
    reach = np.divide(np.asarray(most) - equal, shares - equal, out=np.ones_like(shares), where=above)
    reach = reach.min(axis=1, keepdims=True)
    return np.where(reach < 1, equal + reach * (shares - equal), shares)


def find(tried: Runs, floor: ArrayLike = (), *, most: ArrayLike = 1.0, seed: int = 0) -> Plan:
    """The mix to train on, from tried mixes, and scores of equal parts over seeds.

    No mix is sought that has more of a source than its `most`, a share [k]; see `within`.

    Raises:
        BadRequest: for too few runs, or what are no shares.
    """
    if len(tried.scores) < LEAST_RUNS:
        raise BadRequest(f"{len(tried.scores)} mixes are too few: at least {LEAST_RUNS}")
    if not np.allclose(tried.shares.sum(axis=1), 1) or (tried.shares < 0).any():
        raise BadRequest("shares of mixes are 0 or more, and sum to 1")
    k, scores = tried.shares.shape[1], np.asarray(floor, float)
    noise = float(scores.std(ddof=1)) if len(scores) > 1 else None
    equal = np.full((len(scores), k), 1 / k)
    runs = Runs(np.vstack([tried.shares, equal]), np.concatenate([tried.scores, scores]))
    laws, misfit, of_mean = _weighed(runs)
    candidates = within(np.vstack([np.full(k, 1 / k), np.eye(k), dirichlet(CANDIDATES, k, seed), tried.shares]), most)
    rng = np.random.default_rng(seed)
    counts = {name: round(DRAWS * law["weight"]) for name, law in laws.items()}
    drawn = [LAWS[name](runs)(candidates).draw(n, rng) for name, n in counts.items() if n]
    curves = np.vstack(drawn)
    mean = curves.mean(axis=0)
    curves = mean + misfit * (curves - mean)
    best = int(mean.argmax())
    gain, reason = Range.of(curves[:, best] - curves[:, 0]), ""
    if min(law["error"] for law in laws.values()) > NO_WORSE * of_mean:
        reason = "no law predicts runs that it has not seen better than the mean of the others"
    elif gain.lo <= 0:
        reason = f"the gain over equal parts may be none: {gain.mean:+.3f} [{gain.lo:+.3f}, {gain.hi:+.3f}]"
    chosen = 0 if reason else best
    optimum = candidates[curves.argmax(axis=1)]
    return Plan(candidates[chosen], reason, Range.of(curves[:, chosen]), gain, candidates[best], optimum, laws, noise)


def _weighed(runs: Runs) -> tuple[dict[str, dict[str, float]], float, float]:
    """By law its error on unseen runs and its weight; by how much they miss more than they say; the mean's error."""
    n, k = runs.shares.shape
    part, names = np.arange(n) % PARTS, list(LAWS)
    apart, deviation, from_mean = np.zeros((len(names), n)), np.zeros((len(names), n)), np.zeros(n)
    for number in range(PARTS):
        out = part == number
        others = Runs(runs.shares[~out], runs.scores[~out])
        from_mean[out] = runs.scores[out] - others.scores.mean()
        for place, law in enumerate(LAWS.values()):
            told = law(others)(runs.shares[out])
            apart[place, out] = runs.scores[out] - told.mean
            deviation[place, out] = np.sqrt(told.variances + told.noise)
    missed = apart / deviation
    drawn = n * np.random.default_rng(0).dirichlet(np.ones(n), DRAWS) @ (-0.5 * missed**2 - np.log(deviation)).T
    weights = softmax(drawn, axis=1).mean(axis=0)
    far = np.argsort(-((runs.shares - 1 / k) ** 2).sum(axis=1), kind="stable")[: max(3, n // 4)]
    few = float(t.ppf(0.975, len(far) - 1)) / 1.96  # the factor itself is known from so many runs only
    misfit = few * max(1.0, *(float(weights @ _size(one)) for one in (missed, missed[:, far])))
    laws = {name: {"error": float(error), "weight": float(weight)}
            for name, error, weight in zip(names, _size(apart), weights, strict=True)}  # fmt: skip
    return laws, misfit, float(_size(from_mean))


def _size(values: Floats) -> Floats:
    """The root of the mean of the squares, over the last axis."""
    return np.asarray(np.sqrt((values**2).mean(axis=-1)))


class _Told(NamedTuple):
    """What a fitted law says of some mixes: mean [c], a root of their covariance [c, r], the variance of a run."""

    mean: Floats
    root: Floats
    noise: float

    @property
    def variances(self) -> Floats:
        return np.asarray((self.root**2).sum(axis=1), np.float64)

    def draw(self, n: int, rng: np.random.Generator) -> Floats:
        """Draws of the law's curve [n, c]."""
        return np.asarray(self.mean + rng.normal(size=(n, self.root.shape[1])) @ self.root.T, np.float64)


Law = Callable[[Runs], Callable[[Floats], _Told]]


def _on(features: Callable[[Floats], Floats]) -> Law:
    """A Bayesian linear regression on features of the shares."""
    from sklearn.linear_model import BayesianRidge

    def fitted(runs: Runs) -> Callable[[Floats], _Told]:
        design = features(runs.shares)
        centre, size = design.mean(axis=0), design.std(axis=0) + 1e-9
        model = BayesianRidge().fit((design - centre) / size, runs.scores)

        def told(shares: Floats) -> _Told:
            rows, noise = (features(shares) - centre) / size, 1 / model.alpha_
            level = np.full((len(rows), 1), np.sqrt(noise / len(design)))
            return _Told(model.predict(rows), np.hstack([rows @ _root(model.sigma_), level]), noise)

        return told

    return fitted


def _smooth(runs: Runs) -> Callable[[Floats], _Told]:
    """A Gaussian process over the shares, its length and noise fitted."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

    centre, size = runs.scores.mean(), runs.scores.std() + 1e-9
    kernel = ConstantKernel(1.0, (0.05, 50)) * RBF(0.5, (0.1, 5)) + WhiteKernel(0.1, (1e-3, 2))
    model = GaussianProcessRegressor(kernel, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the bounds are what is thought possible
        model.fit(runs.shares, (runs.scores - centre) / size)
    noise = float(model.kernel_.k2.noise_level)

    def told(shares: Floats) -> _Told:
        mean, covariance = model.predict(shares, return_cov=True)
        return _Told(mean * size + centre, _root(covariance - noise * np.eye(len(shares))) * size, noise * size**2)

    return told


def _root(covariance: Floats) -> Floats:
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0)), np.float64)


def _pairs(shares: Floats) -> Floats:
    one, other = np.triu_indices(shares.shape[1], 1)
    return np.hstack([shares, shares[:, one] * shares[:, other]])


LAWS: Mapping[str, Law] = {
    "linear": lambda runs: _on(lambda shares: shares)(runs),
    "growth": lambda runs: _on(np.sqrt)(runs),
    "log": lambda runs: _on(lambda shares: np.log(shares + SMALL))(runs),
    "transfer": lambda runs: _on(_pairs)(runs),
    "smooth": _smooth,
}
