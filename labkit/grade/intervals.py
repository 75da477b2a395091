"""An accuracy with the interval that goes with how it was measured.

Answers to one rule share that rule's difficulty, so the rule, not the answer, is the unit that is resampled:
a cluster bootstrap (Cameron & Miller 2015; for evaluations of language models, Miller 2024, arXiv
2411.00640). Models trained from several seeds add a level above it: a hierarchical bootstrap (Davison &
Hinkley 1997, ch. 3).

Guaranteed: no interval has zero width, and `Estimate.over` names what it covers. Assumed throughout: rules
are independent draws from the population spoken about, and how often a rule is asked says nothing of its
difficulty. Left open: an interval over a handful of seeds is too narrow (see `seed_cluster_bootstrap`), and
none covers a change of the task, of the recipe, or of a training set that all seeds shared.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labkit.errors import BadRequest

Floats = NDArray[np.float64]

ONE_SEED = "rules of one seed"
SEEDS_AND_RULES = "seeds and rules"
SCORED_ALIKE = "rules (every seed and rule scored alike)"


class Range(NamedTuple):
    """A number with its two-sided 95 % interval; an end is None where the data leave it open."""

    value: float | None
    lo: float | None
    hi: float | None

    def as_dict(self) -> dict[str, Any]:
        """For a result file: `{"value", "ci95": [lo, hi]}`."""
        return {"value": self.value, "ci95": [self.lo, self.hi]}


class Counts(NamedTuple):
    """One model's answers by rule: `right` [n_rules], and `asked`, [n_rules] or one number for every rule."""

    right: ArrayLike
    asked: ArrayLike = 1


class Estimate(NamedTuple):
    """An accuracy (a share, 0 to 1) and its two-sided interval; `over` says in words what that covers."""

    mean: float
    lo: float
    hi: float
    n_rules: int  # rules asked of one seed; the fewest, where seeds differ
    n_seeds: int
    over: str
    level: float = 0.95


def cluster_bootstrap(
    correct: ArrayLike, total: ArrayLike = 1, *, draws: int = 2000, level: float = 0.95, seed: int = 0
) -> Estimate:
    """The accuracy of one model, its interval clustered by rule.

    `correct` [n_rules] counts the right answers to a rule and `total` the questions (an array, or one number
    for all; rules never asked are left out). The mean is right / asked over all rules; the interval holds the
    percentiles of `draws` resamples of whole rules, so answers within a rule may be correlated in any way,
    and it is never narrower than `at_least` allows. It speaks of *this* model on new rules: another seed of
    the same recipe may well fall outside.

    Raises `BadRequest` for counts that are empty, not whole, negative or above `total`, and too few draws.
    """
    return seed_cluster_bootstrap([Counts(correct, total)], draws=draws, level=level, seed=seed)


def seed_cluster_bootstrap(per_seed: Sequence[Counts], *, same_rules: bool = False, draws: int = 2000,
                           level: float = 0.95, seed: int = 0) -> Estimate:  # fmt: skip
    """The accuracy of a recipe: the plain mean over its seeds, with the interval over seeds and rules.

    `per_seed` holds one `Counts` per trained model; the interval holds the percentiles of `replicates`. Assumes
    the seeds are independent runs.

    **With few seeds it is anti-conservative** where the seeds differ by more than their rules explain: from
    three seeds it is about their range, and the range of three covers a median with probability 3/4 (of two,
    1/2), not 0.95. Read it as "what these seeds show", and show the seeds. Where seeds hardly differ it errs
    the other way, since the rules vary at both levels. With one seed it covers that seed's rules only; where
    every seed and rule scored alike it is `at_least` for the rules of one seed. `over` says which it is.

    Raises `BadRequest` as `cluster_bootstrap` does, and where `same_rules` meets seeds asked differently.
    """
    means = replicates(per_seed, same_rules=same_rules, draws=draws, seed=seed)
    mean, n_rules = float(accuracies(per_seed).mean()), fewest_rules(per_seed)
    lo, hi = at_least(percentiles(means, level), mean, n_rules, level)
    over = ONE_SEED if len(per_seed) == 1 else SCORED_ALIKE if np.ptp(means) == 0 else SEEDS_AND_RULES
    return Estimate(mean, lo, hi, n_rules, len(per_seed), over, level)


def replicates(per_seed: Sequence[Counts], *, same_rules: bool = False, draws: int = 2000,
               seed: int | np.random.Generator = 0) -> Floats:  # fmt: skip
    """Replicates [draws] of the mean accuracy over seeds: seeds resampled and, within each, whole rules.

    Of S > 1 seeds S - 1 are drawn, with replacement: that makes the variance between seeds unbiased, where
    drawing S would shrink it by (S - 1) / S (Rao & Wu 1988). Each seed is taken to be tested on rules of its
    own; with `same_rules` all seeds answered the same rules in the same order, and one resample of the rules
    serves them all (the pigeonhole bootstrap for crossed factors, Owen 2007).
    """
    tables = [_table(counts) for counts in per_seed]
    if not tables:
        raise BadRequest("no seed to average over: give the counts of at least one trained model")
    if draws < 1:
        raise BadRequest(f"{draws} draws: an interval needs resamples, 1 or more")
    rng = np.random.default_rng(seed)
    if same_rules:
        asked = tables[0][:, 1]
        if any(not np.array_equal(table[:, 1], asked) for table in tables):
            raise BadRequest("same_rules needs seeds asked the same rules equally often: their counts differ")
        tables = [np.column_stack([asked, *(table[:, 0] for table in tables)])]

    def rates(table: Floats, n: int) -> Floats:
        sums = resample(table, n, rng)
        return (sums[:, 1:] / sums[:, :1] if same_rules else sums[:, :1] / sums[:, 1:])[..., None]

    return over_seeds(tables, len(per_seed), draws, rng, rates)[:, 0]


def over_seeds(tables: Sequence[Floats], n_seeds: int, draws: int, rng: np.random.Generator,
               scores: Callable[[Floats, int], Floats]) -> Floats:  # fmt: skip
    """Replicates [draws, k] of mean scores over seeds, of which all but one are drawn (see `replicates`).

    `scores(table, n)` makes n resamples of a table: [n, seeds in it, k]. There is a table for each seed, or a single
    one of all seeds, whose rows they share.
    """
    picks = rng.integers(n_seeds, size=(draws, max(1, n_seeds - 1)))
    if len(tables) < n_seeds:
        return np.take_along_axis(scores(tables[0], draws), picks[:, :, None], axis=1).mean(axis=1)
    by_seed = [(chosen := picks == index, scores(table, int(chosen.sum()))[:, 0]) for index, table in enumerate(tables)]
    drawn = np.empty((*picks.shape, by_seed[0][1].shape[-1]))
    for chosen, values in by_seed:
        drawn[chosen] = values
    return drawn.mean(axis=1)


def percentiles(values: Floats, level: float = 0.95) -> tuple[float, float]:
    """The equal-tailed interval (lo, hi) of replicates; `BadRequest` where they leave a tail empty, or one is NaN."""
    if np.isnan(values).any():
        raise BadRequest("a replicate is NaN: there is no interval")
    if not 0 < level < 1 or round(len(values) * (1 - level), 6) < 2:
        raise BadRequest(f"{len(values)} draws leave a tail empty at level {level:g}: draw more, or lower it")
    lo, hi = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(lo), float(hi)


def at_least(interval: tuple[float, float], mean: float, n_rules: int, level: float = 0.95) -> tuple[float, float]:
    """`interval` (lo, hi) widened to what `n_rules` rules leave open at the least, however alike they score.

    Where every rule scores alike, resamples do not vary and a width of zero would be a lie: up to a share

        e = 1 - ((1 - level) / 2) ** (1 / n_rules)

    of all rules may be of a kind the sample did not happen to show, so the interval reaches at least from
    (1 - e) mean to (1 - e) mean + e. For all right or all wrong this is exactly the limit of Clopper &
    Pearson (1934) with rules as trials: about 3.7 / n_rules at 95 %, the rule of three with half the error in
    each tail. It holds for any correlation within rules, because a rule is wholly right with a probability
    no greater than the mean accuracy. In between it is this module's own floor, and binds only while a
    handful of rules differ from the rest.
    """
    unseen = 1 - ((1 - level) / 2) ** (1 / n_rules)
    return min(interval[0], (1 - unseen) * mean), max(interval[1], (1 - unseen) * mean + unseen)


def accuracies(per_seed: Sequence[Counts]) -> Floats:
    """The accuracy of every trained model [n_seeds]: all its right answers over all its questions."""
    sums = np.array([_table(counts).sum(axis=0) for counts in per_seed])
    return sums[:, 0] / sums[:, 1]


def fewest_rules(per_seed: Sequence[Counts]) -> int:
    """How many rules were asked of the seed asked the fewest: the trials that `at_least` may count."""
    return min(len(_table(counts)) for counts in per_seed)


def paired(values: Sequence[int], per_point: Sequence[Sequence[Counts]],
           what: str) -> list[tuple[int, Sequence[Counts]]]:  # fmt: skip
    """Each value of a dial with the counts of its models, ascending; `BadRequest` where they do not pair up."""
    array = numbers(values, f"{what}s")
    if array.shape != (len(per_point),) or np.any(array < 1) or np.any(array % 1):
        raise BadRequest(f"every {what}, whole and 1 or more, is paired with the counts of its seeds")
    if not all(per_point):
        raise BadRequest(f"every {what} needs at least one trained model")
    return sorted(zip(map(int, values), per_point, strict=True), key=lambda point: point[0])


def along(points: Sequence[Sequence[Counts]], draws: int, seed: int) -> tuple[Floats, Floats]:
    """The mean accuracies of points along a dial [k], and `replicates` of them [draws, k], points independent."""
    rng = np.random.default_rng(seed)
    means = np.array([accuracies(models).mean() for models in points])
    return means, np.column_stack([replicates(models, draws=draws, seed=rng) for models in points])


def numbers(values: ArrayLike, what: str) -> Floats:
    """Finite numbers as an array; `BadRequest`, which names the place of the first that is none."""
    try:
        array = np.asarray(values, dtype=float)
    except (TypeError, ValueError, OverflowError):
        raise BadRequest(f"{what} must be numbers in rows of one length") from None
    if len(bad := np.argwhere(~np.isfinite(array))):
        place = f" at {', '.join(map(str, bad[0]))} (counted from 0)" if array.ndim else ""
        raise BadRequest(f"{what} must be finite numbers: there is {array[tuple(bad[0])]:g}{place}")
    return array


def resample(table: Floats, draws: int, rng: np.random.Generator) -> Floats:
    """Column sums [draws, c] of n rows drawn with replacement from `table` [n, c].

    Equal rows are pooled and their multiplicity drawn: the same distribution, and 100,000 rules that score 0
    or 1 cost two multinomial cells per draw.
    """
    kinds, multiplicity = np.unique(table, axis=0, return_counts=True)
    return rng.multinomial(len(table), multiplicity / len(table), size=draws) @ kinds


def _table(counts: Counts) -> Floats:
    """Counts as [n_rules, 2], right and asked, less rules never asked; `BadRequest` if they make no sense."""
    if len(counts) != 2:
        raise BadRequest("a seed's answers come as a pair: Counts(right, asked)")
    right, asked = numbers(counts[0], "right answers"), numbers(counts[1], "questions asked")
    if right.ndim != 1 or asked.shape not in ((), right.shape):
        raise BadRequest(f"counts must be one number per rule: right is {right.shape}, asked {asked.shape}")
    table = np.column_stack([right, np.broadcast_to(asked, right.shape)])
    if not np.array_equal(table, np.floor(table)) or np.any(right < 0) or np.any(right > asked):
        raise BadRequest("right answers must be whole numbers from 0 to the questions asked of their rule")
    table = table[table[:, 1] > 0]
    if not len(table):
        raise BadRequest("no rule was asked anything: an accuracy needs at least one answer")
    return table
