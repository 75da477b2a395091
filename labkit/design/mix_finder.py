"""From runs at some shares to the mix that scores best: laws fitted, the posterior of the optimum, or "no plan".

Scores (higher is better) were measured at shares of k sources. Five laws say how a score depends on shares:

    linear     each source adds in proportion to its share
    growth     each source adds by its own, with diminishing returns (the square root): independent growth curves
    log        each source is needed: linear in the logarithms of shares (a Cobb-Douglas law)
    transfer   what a source adds depends on every other's share (Scheffé's quadratic for mixtures, 1958)
    smooth     a Gaussian process: nearby mixes score alike

The first four are Bayesian linear regressions on features of the shares (MacKay 1992). Further mixes, held out of the
fits, weigh the laws by their predictive density; all runs then refit them. Draws from the weighted posterior say where
the optimum is and what it scores.

Guaranteed: the found mix is equal parts, with the reason, where the 95 % interval of what it gains over them reaches 0,
or where no law predicts held-out mixes better than their mean does. Where laws miss held-out mixes by more than they
say, all intervals are widened by that factor, and by that of Student's t for so few of them. Left open: a score that
jumps between neighbouring mixes; more than about eight sources for a few dozen runs.

Sources: Ye et al. 2024, arXiv 2403.16952 (data mixing laws), Liu et al. 2024, arXiv 2407.01492 (RegMix).
"""

import warnings
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t

from labkit.errors import BadRequest

Floats = NDArray[np.float64]

LEAST_RUNS = 8  # runs below which no law is fitted
HELD_OUT = 4  # further mixes, the fewest that can weigh laws
CANDIDATES, DRAWS = 300, 400
SMALL = 0.02  # what the log law adds to every share
NO_WORSE = 0.9  # the root of the mean squared error on held-out mixes, by that of their mean, from which no law counts


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
        laws: By law its error on held-out mixes and its weight.
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


def within(shares: Floats, most: ArrayLike) -> Floats:
    """The mixes [n, k], those with more of a source than its `most` [k] drawn towards equal parts until they fit.

    Every source must be able to give an equal part.
    """
    equal = 1 / shares.shape[1]
    above = shares > equal
    reach = np.divide(np.asarray(most) - equal, shares - equal, out=np.ones_like(shares), where=above)
    reach = reach.min(axis=1, keepdims=True)
    return np.where(reach < 1, equal + reach * (shares - equal), shares)


def find(tried: Runs, held: Runs, floor: ArrayLike = (), *, most: ArrayLike = 1.0, seed: int = 0) -> Plan:
    """The mix to train on, from tried mixes, held-out mixes, and scores of one mix over seeds.

    No mix is sought that has more of a source than its `most`, a share [k]; see `within`.

    Raises:
        BadRequest: for too few runs, or what are no shares.
    """
    for runs, least, what in ((tried, LEAST_RUNS, "tried"), (held, HELD_OUT, "held-out")):
        if len(runs.scores) < least:
            raise BadRequest(f"{len(runs.scores)} {what} mixes are too few: at least {least}")
        if not np.allclose(runs.shares.sum(axis=1), 1) or (runs.shares < 0).any():
            raise BadRequest(f"shares of {what} mixes are 0 or more, and sum to 1")
    k, scores = tried.shares.shape[1], np.asarray(floor, float)
    noise = float(scores.std(ddof=1)) if len(scores) > 1 else None
    laws, misfit = _weighed(tried, held)
    both = Runs(np.vstack([tried.shares, held.shares]), np.concatenate([tried.scores, held.scores]))
    candidates = within(np.vstack([np.full(k, 1 / k), np.eye(k), dirichlet(CANDIDATES, k, seed), both.shares]), most)
    rng = np.random.default_rng(seed)
    counts = {name: round(DRAWS * law["weight"]) for name, law in laws.items()}
    drawn = [LAWS[name](both)(candidates).draw(n, rng) for name, n in counts.items() if n]
    curves = np.vstack(drawn)
    mean = curves.mean(axis=0)
    curves = mean + misfit * (curves - mean)
    best = int(mean.argmax())
    gain, reason = Range.of(curves[:, best] - curves[:, 0]), ""
    if min(law["error"] for law in laws.values()) > NO_WORSE * float(np.std(held.scores)):
        reason = "no law predicts held-out mixes better than their mean"
    elif gain.lo <= 0:
        reason = f"the gain over equal parts may be none: {gain.mean:+.3f} [{gain.lo:+.3f}, {gain.hi:+.3f}]"
    chosen = 0 if reason else best
    optimum = candidates[curves.argmax(axis=1)]
    return Plan(candidates[chosen], reason, Range.of(curves[:, chosen]), gain, candidates[best], optimum, laws, noise)


def _weighed(tried: Runs, held: Runs) -> tuple[dict[str, dict[str, float]], float]:
    """By law its error on held-out mixes and its weight; and by how much the best misses more than it says."""
    density, error, excess = {}, {}, {}
    for name, law in LAWS.items():
        told = law(tried)(held.shares)
        deviation = np.sqrt(told.variances + told.noise)
        apart = held.scores - told.mean
        density[name] = float((-0.5 * (apart / deviation) ** 2 - np.log(deviation)).sum())
        error[name], excess[name] = float(np.sqrt((apart**2).mean())), float(np.sqrt(((apart / deviation) ** 2).mean()))
    top = max(density.values())
    weights = {name: float(np.exp(value - top)) for name, value in density.items()}
    total = sum(weights.values())
    laws = {name: {"error": error[name], "weight": weights[name] / total} for name in LAWS}
    few = float(t.ppf(0.975, len(held.scores) - 1)) / 1.96  # the factor itself is known from so many mixes only
    return laws, few * max(1.0, sum(excess[name] * weights[name] for name in LAWS) / total)


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
