"""How an ability grows with its data: its plateau, its pace, and whether more data would still help.

To chance-corrected scores at a ladder of volumes V (examples of the ability trained on) curves of two shapes are
fitted, both with a plateau in (0, 1] and a *pace*, the volume at which half the plateau is reached (`Curves`):

    saturating  plateau max(0, 1 - (V / pace)^-c / 2)    the power law A - B V^-c, with B = A pace^c / 2
    sudden      plateau / (1 + (V / pace)^-k)            a logistic in log V

The exponent alone is not reported as the pace: four rungs seldom tell it, and it is no speed without a scale.

*Inference.* Bayesian, on a grid, with flat priors that are these: plateau uniform on (0, 1]; pace log-uniform from 1/16
of the first volume to 16 times the last; c log-uniform on `SATURATING`, k on `SUDDEN`; both shapes alike. A bootstrap
from three seeds would be far too narrow (grade.intervals). The likelihood is normal in the mean scores, with two
sources of error: the questions (clustered by instruction; with `same_rules` correlated between volumes, as one test
served all) and the seeds, whose standard deviation is that of the logit's scale, unknown, flat on 0 to `SPREAD`, and
integrated out (Gelman 2006), which gives the tails that few seeds ask for. Intervals are 2.5 to 97.5 % of the
posterior, over both shapes by their weight in the data, so that they do not pretend the shape were known.
In simulation (tests/test_growth.py) they hold the true plateau and the true pace in 96 % of 400 curves with a plateau
of 0.3 to 0.95, a pace between the first volume and an eighth of the last, and an exponent of 0.5 to 2; for single
curves at the corners in about 90 % or more. Of 1,200 flat curves 1 % were called still growing, of
450 growing ones 2 % saturated (all of those with a true gain of exactly `MATTERS`).

*Which shape* is named by the density of each volume's mean given the other volumes (leave-one-volume-out log score,
Gneiting & Raftery 2007), the parameters integrated out: a flexible shape pays for its width. Two more compete there,
`constant` and `log-linear`, a + b log V, which has no plateau at all; the saturating one comes close to it. Four rungs
name the shape of a late rise wrongly as often as not; no interval and no verdict rests on the name.

Guaranteed: verdicts are statements of intervals, and the numbers they rest on are fields; where the plateau lies beyond
the data the interval reaches to what is possible, and a pace outside the ladder is left open, not extrapolated.
Left open: curves that fall, or rise twice, are described by none of these (`note` says where the misfit is beyond
chance); training runs at one volume and another are taken as independent although their sets may overlap; with many
abilities some verdicts are wrong by chance, about one in twenty.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaincc, log_ndtr, logsumexp, ndtri_exp

from labkit.errors import BadRequest
from labkit.grade import intervals
from labkit.grade.intervals import Counts, Floats, Range

VERDICTS = ("saturated", "still growing", "not responding", "not decided")
MATTERS = 0.05  # a gain, in chance-corrected score, that four times the data would have to be worth
RESPONDS = 0.1  # a score above the start that an ability must be able to reach to count as responding
OUTRIGHT = 0.01  # fitted curves never fall, so their gain is above 0 by construction: above this it is outright
FURTHER = 4  # times the last volume: the next rung

SATURATING = (0.25, 4.0)  # the power law's exponent
SUDDEN = (0.5, 12.0)  # the logistic's slope in log V; at 12 the rise from 10 to 90 % takes a factor of 1.4
SPREAD = 0.3  # largest standard deviation between seeds, of an accuracy of one half
BEYOND = 16  # how far outside the ladder, as a factor, a pace is thought possible
PACES, STEEPNESSES = 72, 14  # cells of the grid
DRAWS = 2000
FEWEST_VOLUMES, FEWEST_SEEDS = 4, 2


class Curves(NamedTuple):
    """A sample of growth curves, each array [draws]: what is known of one ability's growth, and how well.

    Of the chance-corrected score as a function of the volume V, the examples of the ability trained on, a curve is

        saturating  plateau max(0, 1 - (V / pace)^-steepness / 2)      a power law that has nothing left to learn
        sudden      plateau / (1 + (V / pace)^-steepness)              a logistic in log V

    so that `pace` is the volume at which half the plateau is reached, and without examples the score is 0: chance.
    """

    plateau: Floats
    pace: Floats
    steepness: Floats
    sudden: NDArray[np.bool_]

    def at(self, volumes: ArrayLike) -> Floats:
        """The scores at `volumes` [k], of every curve: [draws, k]."""
        with np.errstate(divide="ignore", over="ignore"):
            left = (np.asarray(volumes, float) / self.pace[:, None]) ** -self.steepness[:, None]
        shape = np.where(self.sudden[:, None], 1 / (1 + left), np.maximum(0, 1 - left / 2))
        return np.asarray(self.plateau[:, None] * shape, np.float64)

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Curves":
        """The curves of numbers, or of lists of them: one curve each."""
        plateau, pace, steepness = (np.atleast_1d(np.asarray(record[name], float)) for name in cls._fields[:3])
        return cls(plateau, pace, steepness, np.atleast_1d(np.asarray(record["sudden"], bool)))


class Point(NamedTuple):
    """The mean chance-corrected score at one volume, with its 95 % interval over seeds and instructions."""

    volume: int
    score: float
    lo: float
    hi: float
    seeds: list[float]  # the score of each


@dataclass(frozen=True)
class GrowthFit:
    """The growth of one ability.

    Attributes:
        verdict: One of `VERDICTS`; see `fit_growth`.
        reason: The statement that the verdict rests on, in words.
        plateau: The score that unlimited data of this kind would lead to.
        pace: Examples at which half the plateau is reached; an end outside the ladder's reach is None. All None where
            the ability does not respond.
        gain: What `FURTHER` times the last volume is predicted to add to the score there.
        step: The mean score at the last volume less that at the one before, whatever the curve.
        response: The score at the last volume less that of the untrained model (chance, where that was not measured).
        reached: The share of the plateau that the last volume reaches.
        shape: Which shape predicts left-out volumes best: `constant`, `log-linear`, `saturating` or `sudden`.
        held_out: That prediction's log density for each shape, the mean over volumes: higher is better.
        sudden: The posterior probability of the sudden shape against the saturating one.
        misfit: The probability of means so far from the best curve, were it the truth.
        points: The data.
        curves: A sample of the posterior.
        over: What the intervals cover; `n_rules` and `n_seeds` as in `Estimate`, the fewest at any volume.
        note: What should make a reader careful; may be empty.
    """

    verdict: str
    reason: str
    plateau: Range
    pace: Range
    gain: Range
    step: Range
    response: Range
    reached: Range
    shape: str
    held_out: dict[str, float]
    sudden: float
    misfit: float
    points: list[Point]
    curves: Curves
    over: str
    n_rules: int
    n_seeds: int
    note: str

    def at(self, volumes: ArrayLike) -> tuple[Floats, Floats, Floats]:
        """The curve to draw: mean, lower and upper 95 % limit at `volumes` [k], each [k]."""
        scores = self.curves.at(volumes)
        lo, hi = np.quantile(scores, [0.025, 0.975], axis=0)
        return scores.mean(axis=0), lo, hi

    def as_dict(self) -> dict[str, Any]:
        """The fit for a result file, without the sample."""
        fields = {name: value.as_dict() if isinstance(value, Range) else value for name, value in vars(self).items()}
        del fields["curves"]
        return fields | {"points": [point._asdict() for point in self.points]}


def fit_growth(volumes: Sequence[int], per_point: Sequence[Sequence[Counts]], *, chance: float = 0.0,
               same_rules: bool = False, untrained: Counts | None = None, seed: int = 0) -> GrowthFit:  # fmt: skip
    """Fit the growth of one ability and say where it stands.

    Args:
        volumes: Examples of the ability, one number for each point.
        per_point: For each point one `Counts` per trained model (a seed); points of one volume are pooled.
        chance: The accuracy of guessing, a mean over the questions asked (`choice.chance_level`).
        same_rules: All models of all volumes answered the same instructions in the same order.
        untrained: The answers of the model before any training; chance is the start where it is not given.
        seed: Of the posterior sample.

    The verdict is the first of these that holds, else `not decided`:
    - `not responding`: the response is below `RESPONDS` with the upper end of its interval;
    - `saturated`: the gain is below `MATTERS` with the upper end of its interval, and the last step is below `MATTERS`
      or the score is as good as all right (less than `MATTERS` is left);
    - `still growing`: the last step is above 0 with the lower end of its interval, or the gain above `OUTRIGHT`.
    No verdict but the last is given where no curve of these shapes fits (`misfit` below 0.01).

    Raises:
        BadRequest: for fewer than four different volumes or fewer than two seeds at one, volumes below 1, counts that
            make no sense, or a chance level outside [0, 1).
    """
    data = _data(volumes, per_point, chance, same_rules)
    cells = _cells(data.volumes)
    unit = cells.at(data.volumes)
    spreads = SPREAD * np.linspace(0, 1, 11) ** 2  # denser where it matters
    covariances = np.stack([data.covariance(spread) for spread in spreads])
    precision = np.asarray(np.linalg.inv(covariances), np.float64)
    of_spread = np.log(np.gradient(spreads)) + [data.spread_evidence(spread) for spread in spreads]
    weights = _marginal(unit, data.means, precision) + of_spread  # [cells, spreads]
    rng = np.random.default_rng(seed)
    curves, drawn = _sample(weights, cells, data, precision, rng)

    deviation = np.sqrt(np.diagonal(covariances, axis1=1, axis2=2))[drawn]
    noisy = data.means + deviation * rng.standard_normal((DRAWS, 1))  # one normal serves all volumes' intervals
    of_step = np.sqrt(covariances[:, -2:, -2:] @ [-1, 1] @ [-1, 1])[drawn]
    steps = data.means[-1] - data.means[-2] + of_step * rng.standard_normal(DRAWS)
    last, further = curves.at([data.volumes[-1], FURTHER * data.volumes[-1]]).T
    start = _start(untrained, chance, rng)
    known = {"plateau": _range(curves.plateau), "gain": _range(further - last),
             "step": _range(steps)._replace(value=float(data.means[-1] - data.means[-2])),
             "response": _range(last - start), "reached": _range(last / curves.plateau)}  # fmt: skip
    spread = float(spreads[drawn].mean())
    held_out = _held_out(cells, data, spread)
    misfit = _misfit(unit, data, spread)
    verdict, reason = _verdict(known, data.volumes, misfit, float(data.means[-1]))
    first, final = data.volumes[0] / FURTHER, data.volumes[-1] * FURTHER
    inside = (x if x is not None and first <= x <= final else None for x in _range(curves.pace))
    known["pace"] = Range(None, None, None) if verdict == "not responding" else Range(*inside)
    limits = np.quantile(noisy, [0.025, 0.975], axis=0).T.tolist()
    points = [
        Point(int(volume), float(mean), lo, hi, scores.tolist())
        for volume, mean, (lo, hi), scores in zip(data.volumes, data.means, limits, data.scores, strict=True)
    ]
    return GrowthFit(
        verdict=verdict, reason=reason, shape=max(held_out, key=held_out.__getitem__), held_out=held_out,
        sudden=float(curves.sudden.mean()), misfit=misfit, points=points, curves=curves, n_rules=data.n_rules,
        over=intervals.SEEDS_AND_RULES, n_seeds=min(map(len, data.scores)), note=_note(known, verdict, misfit), **known,
    )  # fmt: skip


class _Data(NamedTuple):
    """Mean scores [V] and what is known of their errors.

    `questions` [V, V] is the covariance of the means from the questions asked; `within` [V] the variance of one seed's
    score from its own questions, `bend` [V] the factor from the spread of seeds to the standard deviation of scores.
    """

    volumes: NDArray[np.int64]
    scores: list[Floats]
    means: Floats
    questions: Floats
    within: Floats
    bend: Floats
    n_rules: int

    def covariance(self, spread: float) -> Floats:
        seeds = np.array([len(scores) for scores in self.scores])
        alike = 1e-6 * self.within + 1e-12  # where every volume is answered alike, no direction is without error
        return np.asarray(self.questions + np.diag((spread * self.bend) ** 2 / seeds + alike), np.float64)

    def spread_evidence(self, spread: float) -> float:
        """The log-likelihood of how far seeds of one volume lie apart."""
        variance = self.within + (spread * self.bend) ** 2
        freedom = np.array([len(scores) - 1 for scores in self.scores])
        squares = np.array([np.square(scores - scores.mean()).sum() for scores in self.scores])
        return float(-0.5 * (freedom * np.log(variance) + squares / variance).sum())


def _data(volumes: Sequence[int], per_point: Sequence[Sequence[Counts]], chance: float, same_rules: bool) -> _Data:
    if not 0 <= chance < 1:
        raise BadRequest(f"a chance level of {chance:g} leaves nothing to measure: it lies in [0, 1)")
    ladder = defaultdict[int, list[Counts]](list)
    for volume, seeds in intervals.paired(volumes, per_point, "volume"):
        ladder[volume] += seeds
    if len(ladder) < FEWEST_VOLUMES:
        tried = f"not {len(ladder)}: {list(ladder)}"
        raise BadRequest(f"a growth curve needs {FEWEST_VOLUMES} different volumes at least, {tried}")
    points = list(ladder.values())
    fewest, volume = min((len(seeds), volume) for volume, seeds in ladder.items())
    if fewest < FEWEST_SEEDS:
        short = f"{volume} has {fewest}"
        raise BadRequest(f"a growth curve needs {FEWEST_SEEDS} seeds at each volume, for their spread: {short}")
    accuracies = [intervals.accuracies(seeds) for seeds in points]
    n_rules = min(intervals.fewest_rules(seeds) for seeds in points)
    means = np.array([rates.mean() for rates in accuracies])
    floor = (n_rules + 2.0) ** -2  # as if one rule more had been asked and scored the other way
    if same_rules:
        apart = [np.stack([_errors(counts) for counts in seeds]) for seeds in points]  # each [seeds, rules]
        if len({part.shape[1] for part in apart}) > 1:
            raise BadRequest("same_rules needs models asked the same rules: their numbers differ")
        correction = apart[0].shape[1] / max(1, apart[0].shape[1] - 1)
        shared = np.stack([part.mean(axis=0) for part in apart])
        questions = correction * shared @ shared.T
        questions += np.diag(np.maximum(0, floor - np.diag(questions)))
        own = [((part - part.mean(axis=0)) ** 2).sum(axis=1).mean() * len(part) / (len(part) - 1) for part in apart]
        within = np.maximum(correction * np.array(own), floor / n_rules)
    else:
        within = np.array([np.mean([_variance(counts) for counts in seeds]) for seeds in points])
        within = np.maximum(within, floor)
        questions = np.diag(within / [len(seeds) for seeds in points])
    scale, shrunk = 1 - chance, (n_rules * means + 1) / (n_rules + 2)
    return _Data(volumes=np.array(list(ladder)), scores=[(rates - chance) / scale for rates in accuracies],
                 means=(means - chance) / scale, questions=questions / scale**2, within=within / scale**2,
                 bend=2 * np.sqrt(shrunk * (1 - shrunk)) / scale, n_rules=n_rules)  # fmt: skip


def _errors(counts: Counts) -> Floats:
    """What each rule adds to the error of the accuracy, [n_rules]."""
    right = np.asarray(counts.right, float)
    asked = np.broadcast_to(np.asarray(counts.asked, float), right.shape)
    return np.asarray((right - right.sum() / asked.sum() * asked) / asked.sum(), np.float64)


def _variance(counts: Counts) -> float:
    """The variance of an accuracy, clustered by rule (Cochran's ratio estimate)."""
    errors = _errors(counts)
    return float((errors**2).sum() * len(errors) / max(1, len(errors) - 1))


def _start(untrained: Counts | None, chance: float, rng: np.random.Generator) -> Floats | float:
    if untrained is None:
        return 0.0
    rules = intervals.fewest_rules([untrained])
    deviation = np.sqrt(max(_variance(untrained), (rules + 2.0) ** -2))
    accuracy = intervals.accuracies([untrained])[0] + deviation * rng.standard_normal(DRAWS)
    return np.asarray((accuracy - chance) / (1 - chance), np.float64)


def _cells(volumes: NDArray[np.int64]) -> Curves:
    """The grid: curves of plateau 1, first the saturating ones, then as many sudden ones."""
    paces = np.geomspace(volumes[0] / BEYOND, volumes[-1] * BEYOND, PACES)
    pace = np.tile(np.repeat(paces, STEEPNESSES), 2)
    steepness = [np.tile(np.geomspace(*limits, STEEPNESSES), PACES) for limits in (SATURATING, SUDDEN)]
    sudden = np.repeat([False, True], PACES * STEEPNESSES)
    return Curves(np.ones_like(pace), pace, np.concatenate(steepness), sudden)


def _marginal(unit: Floats, means: Floats, precision: Floats) -> Floats:
    """The log density of the means, plateau integrated out: [cells, T], of `unit` [cells, V], `precision` [T, V, V].

    In the plateau the likelihood is a normal density, cut off at 0 and 1.
    """
    norm = np.stack([((unit @ matrix) * unit).sum(axis=1) for matrix in precision], axis=1)
    along = unit @ (precision @ means).T
    return np.asarray(_integral(along, np.maximum(norm, 1e-9)) + _constant(means, precision), np.float64)


def _integral(along: Floats, norm: Floats) -> Floats:
    centre, width = along / norm, norm**-0.5
    low, high = _mirrored(centre, width)
    return np.asarray(along * centre / 2 + np.log(width) + 0.5 * np.log(2 * np.pi) + _log_mass(low, high), np.float64)


def _mirrored(centre: Floats, width: Floats) -> tuple[Floats, Floats]:
    """0 and 1 in units of `width` from `centre`, mirrored where that puts them in the lower tail, which is exact."""
    low, high = -centre / width, (1 - centre) / width
    flip = low + high > 0
    return np.where(flip, -high, low), np.where(flip, -low, high)


def _log_mass(low: Floats, high: Floats) -> Floats:
    top = log_ndtr(high)
    return np.asarray(top + np.log1p(-np.exp(np.minimum(log_ndtr(low) - top, -1e-12))), np.float64)


def _constant(means: Floats, precision: Floats) -> Floats:
    squares = ((precision @ means) * means).sum(axis=-1)
    return np.asarray(0.5 * (np.linalg.slogdet(precision)[1] - len(means) * np.log(2 * np.pi) - squares), np.float64)


def _sample(
    weights: Floats, grid: Curves, data: _Data, precision: Floats, rng: np.random.Generator
) -> tuple[Curves, NDArray[np.int64]]:
    """A sample of the posterior, and which spread each curve goes with.

    Cells are drawn by weight, places within them evenly and, of twice as many, those kept that the likelihood there
    favours (sampling importance resampling, Rubin 1988): the grid then leaves no steps.
    """
    share = np.exp(weights - weights.max()).ravel()
    cells, spread = np.divmod(rng.choice(share.size, 2 * DRAWS, p=share / share.sum()), weights.shape[1])
    was = Curves(grid.plateau[cells], grid.pace[cells], grid.steepness[cells], grid.sudden[cells])
    sudden = was.sudden
    pace_step = (data.volumes[-1] / data.volumes[0] * BEYOND**2) ** (1 / (PACES - 1))
    steepness_step = np.where(sudden, SUDDEN[1] / SUDDEN[0], SATURATING[1] / SATURATING[0]) ** (1 / (STEEPNESSES - 1))
    pace = was.pace * pace_step ** rng.uniform(-0.5, 0.5, len(sudden))
    steepness = was.steepness * steepness_step ** rng.uniform(-0.5, 0.5, len(sudden))

    def moments(curves: Curves) -> tuple[Floats, Floats]:
        unit = curves.at(data.volumes)
        weighed = np.einsum("nv,nvw->nw", unit, precision[spread])
        return weighed @ data.means, np.maximum((weighed * unit).sum(axis=1), 1e-9)

    along, norm = moments(Curves(was.plateau, pace, steepness, sudden))
    favour = _integral(along, norm) - _integral(*moments(was))
    favour = np.exp(favour - favour.max())
    kept = rng.choice(len(favour), DRAWS, p=favour / favour.sum())
    centre, width = along[kept] / norm[kept], norm[kept] ** -0.5
    low, high = _mirrored(centre, width)
    log_place = np.logaddexp(log_ndtr(low), np.log(rng.uniform(size=DRAWS)) + _log_mass(low, high))
    units = ndtri_exp(np.minimum(log_place, -1e-300))
    units = np.where(-centre / width + (1 - centre) / width > 0, -units, units)
    plateau = np.clip(centre + width * units, 1e-6, 1)
    return Curves(plateau, pace[kept], steepness[kept], sudden[kept]), spread[kept]


def _held_out(cells: Curves, data: _Data, spread: float) -> dict[str, float]:
    """The mean log density of each volume's score given the others', by shape; of equals the simpler comes first."""
    covariance, decades, unit = data.covariance(spread), np.log(data.volumes), cells.at(data.volumes)
    along = (decades - decades[0]) / (decades[-1] - decades[0])
    start = np.linspace(-1, 1, 80)[:, None]  # the first volume's score as a share of the last one's
    shapes = {
        "constant": np.repeat([[0.0], [1.0]], len(along), axis=1),  # chance, or any score
        "log-linear": np.maximum(0, start + (1 - start) * along),
        "saturating": unit[~cells.sudden],
        "sudden": unit[cells.sudden],
    }

    def evidence(shape: Floats, kept: NDArray[np.bool_]) -> float:
        precision = np.asarray(np.linalg.inv(covariance[np.ix_(kept, kept)])[None], np.float64)
        return float(logsumexp(_marginal(shape[:, kept], data.means[kept], precision)))

    every, others = np.ones(len(along), bool), ~np.eye(len(along), dtype=bool)
    return {name: evidence(shape, every) - float(np.mean([evidence(shape, kept) for kept in others]))
            for name, shape in shapes.items()}  # fmt: skip


def _misfit(unit: Floats, data: _Data, spread: float) -> float:
    """The chi-square probability of the best curve's distance, three parameters spent."""
    precision = np.linalg.inv(data.covariance(spread))
    norm, along = ((unit @ precision) * unit).sum(axis=1), unit @ precision @ data.means
    plateau = np.clip(along / np.maximum(norm, 1e-9), 0, 1)
    distance = data.means @ precision @ data.means + (plateau * (plateau * norm - 2 * along)).min()
    return float(gammaincc(max(1, len(data.means) - 3) / 2, max(0.0, distance) / 2))


def _verdict(known: Mapping[str, Range], volumes: NDArray[np.int64], misfit: float, score: float) -> tuple[str, str]:
    ranges = (np.array(known[name], float).tolist() for name in ("gain", "step", "response"))
    (gain, gain_lo, gain_hi), (step, step_lo, step_hi), (_, _, response_hi) = ranges
    last, before = f"{volumes[-1]:,}", f"{volumes[-2]:,}"
    more = f"{FURTHER} times {last} examples are predicted to add {gain:.3f} ({gain_lo:.3f} to {gain_hi:.3f})"
    stepped = f"{last} examples score {step:+.3f} ({step_lo:+.3f} to {step_hi:+.3f}) against {before}"
    if misfit < 0.01:
        return "not decided", "no curve of the shapes tried goes through these scores"
    if response_hi < RESPONDS:
        return "not responding", f"at {last} examples the score is above the start by less than {response_hi:.3f}"
    if gain_hi < MATTERS and (step < MATTERS or score > 1 - MATTERS):
        return "saturated", f"{more}; {stepped}"
    if step_lo > 0 or gain_lo > OUTRIGHT:
        return "still growing", f"{stepped}; {more}"
    return "not decided", f"{more}; {stepped}"


def _note(known: Mapping[str, Range], verdict: str, misfit: float) -> str:
    pace, responds, reached = known["pace"], verdict != "not responding", known["reached"].lo
    short = reached is not None and reached < 0.8
    notes = {
        "the scores fall, or rise in a way that these curves do not: read the points, not the fit": misfit < 0.01,
        "the plateau is an extrapolation: the last volume may reach less than 80 % of it": responds and short,
        "half the plateau may be reached before the first volume: how early is left open": responds and pace.lo is None,
        "half the plateau may lie beyond the last volume: how far is left open": responds and pace.hi is None,
    }
    return "; ".join(note for note, holds in notes.items() if holds)


def _range(values: Floats) -> Range:
    lo, value, hi = (float(x) for x in np.quantile(values, [0.025, 0.5, 0.975]))
    return Range(value, lo, hi)
