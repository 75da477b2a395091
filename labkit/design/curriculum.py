"""Curricula: which examples of a pool are trained on, in which shares, round by round.

Data functions: indices and scores in, index arrays and counts out. The parts of task-aware curriculum planning (TAPIR,
Yue et al. 2024, arXiv 2405.13448) that need no teacher: choosing what a student fails at (`select`), re-balancing task
types (`rebalance`), the rising share of hard examples (`schedule`, `mixed_round`); two curricula that need no schedule
(`LearningProgress`, `Competence`).

Guaranteed:
- *Exact.* A re-balanced set, a mixed round and a drawn pool have the size asked for, and the shares asked for up to
  rounding by largest remainders.
- *Deterministic.* Equal arguments give equal arrays; what is drawn of one task type depends on its own examples and the
  seed alone, and a larger share of it holds all of a smaller one.
- *Counted.* What is repeated, left out or without a score or type is counted, never silently dropped.
Left open: the defaults of `schedule` are this lab's own, not published ones; how the published categories map to the
types of `TARGET` is ours; an index says nothing about near duplicates; a learner's progress is as noisy as the probe
set that it is measured on.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import yaml

from labkit.errors import BadRequest, unknown

Indices = npt.NDArray[np.int64]

_LISTED = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text("utf-8"))
TARGET: dict[str, float] = _LISTED["target"]  # published shares of task types, after re-balancing
KINDS: dict[str, str] = _LISTED["kinds"]  # what task types are, for a classifier


class Selected(NamedTuple):
    """Places of a pool, ascending: the `hard` pairs and the `rest`, scored but not hard; and counts."""

    hard: Indices
    rest: Indices
    counts: dict[str, int]


class Drawn(NamedTuple):
    """Places of a pool [n] in training order, repeats included; and how they came about, JSON."""

    indices: Indices
    manifest: dict[str, Any]


def select(mfd: Sequence[float | None], delta: float) -> Selected:
    """The pairs whose answer the student falls short of by more than `delta` points (TAPIR, seed selection).

        MFD(x_i) = f_J(x_i, ~y_i) - f_J(x_i, y_i);    hard = {i: -MFD(x_i) > delta}

    the Model Fitting Difficulty: the judge's score of the student's answer ~y_i less that of the public answer y_i, in
    points of its scale. A pair without a score (None) is neither hard nor rest; `counts` says how many there are.

    Raises:
        BadRequest: when the delta selects nothing or everything, no pair has a score, or a score is no number.
    """
    scored = [place for place, value in enumerate(mfd) if value is not None]
    values = np.array([value for value in mfd if value is not None], float)
    if not scored:
        raise BadRequest(f"none of the {len(mfd)} pairs has an MFD: nothing to select from")
    if not (np.isfinite(values).all() and math.isfinite(delta)):
        raise BadRequest(f"delta = {delta:g} and every MFD must be finite numbers; None stands for a missing score")
    short = -values > delta
    if short.all() or not short.any():
        lowest, highest = float(values.min()), float(values.max())
        way = (f"a delta from {-highest:g} to below {-lowest:g} selects some but not all" if lowest < highest
               else "no delta tells them apart")  # fmt: skip
        raise BadRequest(f"delta = {delta:g} would select {int(short.sum())} of {len(scored)} scored pairs: their MFD "
                         f"runs from {lowest:g} to {highest:g}, so {way}")  # fmt: skip
    places = np.array(scored, np.int64)
    n = len(mfd)
    counts = {"pairs": n, "scored": len(scored), "unscored": n - len(scored), "selected": int(short.sum())}
    return Selected(places[short], places[~short], counts)


def among(target: Mapping[str, float], kinds: Sequence[str | None]) -> dict[str, float]:
    """A target restricted to the task types that occur in `kinds`, divided by what is left of its sum.

    Raises:
        BadRequest: for a type that the target does not name, or when no type that occurs has a positive share.
    """
    present = set(kinds) - {None}
    _known(present, target)
    kept = {name: share for name, share in target.items() if name in present}
    if sum(kept.values()) <= 0:
        raise BadRequest(f"none of the task types that occur has a positive share: {sorted(map(str, present))}")
    total = sum(map(_exact, kept.values()))
    return {name: float(_exact(share) / total) for name, share in kept.items()}


def rebalance(kinds: Sequence[str | None], target: Mapping[str, float], n: int, seed: int = 0) -> Drawn:
    """Resample a pool so that its task types have the shares of `target` (TAPIR, task-aware re-balancing).

        n_T = n Pr(T), rounded by largest remainders so that the n_T sum to n

    Within a type every example is taken equally often, up to one: a type that has too few examples repeats them (up-
    sampling), of one that has more than its share the seed chooses (down-sampling).

    Args:
        kinds: The task type of each example of the pool; None (not classified) is never taken, and counted.
        target: The share of each task type; names every type that occurs, 0 leaves one out. Sums to 1.
        n: Size of the resampled set.
        seed: Decides which examples, and their order.

    Raises:
        BadRequest: for a type that the target does not name, a sum off 1, a negative share, a positive share of a type
            without examples, or n < 1.
    """
    counts = Counter(kind for kind in kinds if kind is not None)
    _known(set(counts), target)
    _is_distribution(target)
    if n < 1:
        raise BadRequest(f"n = {n}: a re-balanced set has at least one example")
    members = {name: np.array([i for i, kind in enumerate(kinds) if kind == name], np.int64) for name in target}
    for name, share in target.items():
        if share > 0 and not counts[name]:
            raise BadRequest(f"the task type '{name}' has a share of {share:g} but no example among {len(kinds)}: "
                             "give it some, or restrict the target to the types that occur (`among`)")  # fmt: skip
    quotas = apportion(list(target.values()), n)
    drawn, types = [], {}
    for (name, share), quota in zip(target.items(), quotas, strict=True):
        taken = _draw(members[name], quota, _generator(seed, name))
        used = len(np.unique(taken))
        types[name] = {"target": share, "seeds": len(members[name]), "drawn": quota, "repeats": quota - used,
                       "left_out": len(members[name]) - used}  # fmt: skip
        drawn.append(taken)
    indices = _generator(seed, "order").permutation(np.concatenate(drawn))
    repeats, left_out = (sum(row[name] for row in types.values()) for name in ("repeats", "left_out"))
    manifest = {"n": n, "seed": seed, "untyped": len(kinds) - counts.total(), "repeats": repeats, "left_out": left_out}
    return Drawn(indices, manifest | {"types": types})


def apportion(shares: Sequence[float], n: int) -> list[int]:
    """Whole numbers in the proportions of `shares` that sum to n: largest remainders, of equal ones the earlier first.

    Computed in fractions: each is within one of its share, and equal shares differ by one at most.
    """
    parts = [_exact(share) for share in shares]
    wanted = [part * n / sum(parts) for part in parts]
    counts = [math.floor(part) for part in wanted]
    order = sorted(range(len(parts)), key=lambda i: (counts[i] - wanted[i], i))
    for i in order[: n - sum(counts)]:
        counts[i] += 1
    return counts


def schedule(alpha_0: float = 0.3, delta_alpha: float = 0.2, rounds: int = 3) -> tuple[float, ...]:
    """The share of hard examples in each round (TAPIR, multi-round curriculum); the defaults are this lab's own.

        alpha_{r+1} = min(alpha_r + delta_alpha, 1)

    Raises:
        BadRequest: for an alpha_0 that is no share, a negative step, or no round.
    """
    if not 0 <= alpha_0 <= 1:
        raise BadRequest(f"alpha_0 = {alpha_0:g} is no share of hard examples: use 0 to 1")
    if not 0 <= delta_alpha < math.inf:
        raise BadRequest(f"delta_alpha = {delta_alpha:g}: the share of hard examples never falls, so use 0 or more")
    if rounds < 1:
        raise BadRequest(f"rounds = {rounds}: a curriculum has at least one")
    return tuple(float(min(_exact(alpha_0) + r * _exact(delta_alpha), Fraction(1))) for r in range(rounds))


def mixed_round(hard: Sequence[int] | Indices, rest: Sequence[int] | Indices, alpha: float, n: int, seed: int = 0,
                repeat: bool = False) -> Drawn:  # fmt: skip
    """What a round with a share alpha of hard examples trains on (TAPIR, multi-round curriculum).

        D_r = alpha n of the hard pool + (1 - alpha) n of the rest

    with alpha n rounded to a whole number (halves up). The seed orders each pool once, and a round takes the first of
    each: with equal pools and seed, a higher alpha keeps every hard example of a lower one.

    Args:
        hard: Places of the hard examples, each once.
        rest: Places of the others, each once.
        alpha: Share of the hard examples, 0 to 1.
        n: Examples of the round.
        seed: Decides which examples, and their order.
        repeat: Go through a pool again where it is too small (counted); else it is refused.

    Raises:
        BadRequest: for an alpha that is no share, n < 1, pools that share or repeat a place, or one that is too small.
    """
    if not 0 <= alpha <= 1:
        raise BadRequest(f"alpha = {alpha:g} is no share of hard examples: use 0 to 1")
    if n < 1:
        raise BadRequest(f"n = {n}: a round has at least one example")
    pools = {"hard": np.asarray(hard, np.int64), "rest": np.asarray(rest, np.int64)}
    both = np.concatenate([*pools.values()])
    if len(np.unique(both)) < len(both):
        raise BadRequest("the hard pool and the rest must hold every example once: some place is there twice")
    n_hard = math.floor(_exact(alpha) * n + Fraction(1, 2))
    taken, repeats = [], 0
    for (name, pool), quota in zip(pools.items(), (n_hard, n - n_hard), strict=True):
        if quota > len(pool) and not (repeat and len(pool)):
            way = "lower n, or let the pool repeat" if len(pool) else "choose another alpha"
            raise BadRequest(f"alpha = {alpha:g} of n = {n} takes {quota} {name} examples, and there are {len(pool)}: "
                             f"{way}")  # fmt: skip
        taken.append(_draw(pool, quota, _generator(seed, name)))
        repeats += max(0, quota - len(pool))
    manifest = {"n": n, "alpha": alpha, "seed": seed, "hard": n_hard, "rest": n - n_hard,
                "hard_pool": len(pools["hard"]), "rest_pool": len(pools["rest"]), "repeats": repeats}  # fmt: skip
    return Drawn(_generator(seed, "order").permutation(np.concatenate(taken)), manifest)


def rising_round(kinds: Sequence[str | None], hard: Sequence[int], rest: Sequence[int], target: Mapping[str, float],
                 alpha: float, n: int, *, repeats: int, seed: int = 0) -> Drawn:  # fmt: skip
    """A round by the target distribution over kinds, of every kind a share alpha hard (TAPIR); kind after kind.

    A kind with too few examples on one side to be repeated at most `repeats` times gets more of the other; one without
    any example gets none, and the others its share.
    """
    target = among(target, [kinds[i] for i in (*hard, *rest)])
    chosen, counts = list[int](), Counter[str]()
    for kind, size in zip(target, apportion(list(target.values()), n), strict=True):
        own_hard, own_rest = ([i for i in part if kinds[i] == kind] for part in (hard, rest))
        if size:
            share = max(min(alpha, repeats * len(own_hard) / size), 1 - repeats * len(own_rest) / size)
            own_alpha = min(1.0, max(0.0, share)) if own_hard else 0.0
            drawn = mixed_round(own_hard, own_rest, own_alpha, size, seed=seed, repeat=True)
            counts.update(drawn=size, hard=drawn.manifest["hard"], repeats=drawn.manifest["repeats"])
            chosen += drawn.indices.tolist()
    return Drawn(np.array(chosen, np.int64), dict(counts))


def competence_round(
    lacked: Sequence[float | None], n: int, number: int, rounds: int, *, c0: float, seeds: tuple[int, int]
) -> Indices:
    """`n` places from the easiest share `c0` in the first round to all that were judged in the last; see `Competence`.

    `lacked` is how hard each example is, None where it was not judged. Of `seeds` the first puts equally hard ones into
    an order that is fixed for all rounds, the second decides the round.
    """
    known = [i for i, value in enumerate(lacked) if value is not None]
    ties = np.random.default_rng([seeds[0], 11]).permutation(len(known)) / len(known)
    hardness = [(lacked[i] or 0) + tie for i, tie in zip(known, ties, strict=True)]
    state = Competence(total=max(1, rounds - 1), c0=c0, time=number)
    return np.array(known, np.int64)[state.draw(hardness, n, seed=seeds[1])]


def even_round(size: int, n: int, number: int, seed: int = 0) -> Indices:
    """`n` places of an endless stream of shuffled epochs over `size`, after `number` rounds of as many.

    Rounds together go through everything evenly.
    """
    rng = np.random.default_rng([seed, size])
    order = np.concatenate([rng.permutation(size) for _ in range(-(-n * (number + 1) // size))])
    return order[n * number : n * (number + 1)]


@dataclass(frozen=True)
class LearningProgress:
    """An automatic curriculum over tasks: train where scores move, up or down.

    The teacher of teacher-student curriculum learning (Matiisen et al. 2017, arXiv 1707.00183) with its online
    algorithm, in its batch form, where the teacher hands out a distribution over tasks:

        r_k = x_k(t) - x_k(t-1);    Q_k <- rate r_k + (1 - rate) Q_k
        p_k = exploration / K + (1 - exploration) |Q_k| / sum_j |Q_j|       (uniform while every Q is 0)

    The absolute value also gives more of a task that is being forgotten. Why this one and not EXP3.S on prediction gain
    (Graves et al. 2017, arXiv 1704.03003): a bandit sees the reward of the one task it chose and must weigh it by one
    over its probability. Here every task's score on a probe set is known before and after each round, also of tasks
    that had no share in it, so nothing needs to be weighed, and three or ten rounds would not let a bandit learn. Own
    choice: shares in proportion to |Q|, which needs no temperature and no scale of scores (the paper uses a Boltzmann
    distribution or epsilon-greedy).

    Attributes:
        tasks: Names, in a fixed order.
        rate: Weight of the newest progress, above 0 to 1.
        exploration: What is shared out evenly, 0 to 1.
        scores: The last score known of each task; None before the first.
        progress: Q of each task.
        rounds: Updates so far.
    """

    tasks: tuple[str, ...]
    rate: float = 0.5
    exploration: float = 0.1
    scores: tuple[float | None, ...] = ()
    progress: tuple[float, ...] = ()
    rounds: int = 0

    def __post_init__(self) -> None:
        if not self.tasks or len(set(self.tasks)) < len(self.tasks):
            raise BadRequest("a curriculum needs tasks with different names, at least one")
        if not (0 < self.rate <= 1 and 0 <= self.exploration <= 1):
            raise BadRequest(f"rate = {self.rate:g} must be above 0 and at most 1, exploration = {self.exploration:g} "
                             "from 0 to 1")  # fmt: skip
        object.__setattr__(self, "scores", self.scores or (None,) * len(self.tasks))
        object.__setattr__(self, "progress", self.progress or (0.0,) * len(self.tasks))

    @property
    def distribution(self) -> dict[str, float]:
        """The share of each task in the next round; sums to 1."""
        size = np.abs(np.array(self.progress))
        even = np.full(len(self.tasks), 1 / len(self.tasks))
        by_size = size / size.sum() if size.sum() > 0 else even
        shares = self.exploration * even + (1 - self.exploration) * by_size
        return dict(zip(self.tasks, (shares / shares.sum()).tolist(), strict=True))

    def update(self, scores: Mapping[str, float | None]) -> "LearningProgress":
        """The state after a probe of every task. A task that could not be scored (None) keeps what it had.

        Raises:
            BadRequest: for an unknown task, one that is missing, or a score that is no number.
        """
        for name in scores:
            if name not in self.tasks:
                raise unknown("task", name, self.tasks)
        if absent := [name for name in self.tasks if name not in scores]:
            raise BadRequest(f"no score of the task '{absent[0]}': a probe covers every task, with None for no score")
        after, moved = [], []
        for name, before, q in zip(self.tasks, self.scores, self.progress, strict=True):
            now = scores[name]
            if now is not None and not math.isfinite(now):
                raise BadRequest(f"the score of the task '{name}' is {now:g}: a score is a finite number, or None")
            moved.append(q if now is None or before is None else self.rate * (now - before) + (1 - self.rate) * q)
            after.append(before if now is None else float(now))
        return replace(self, scores=tuple(after), progress=tuple(moved), rounds=self.rounds + 1)

    def as_dict(self) -> dict[str, Any]:
        """The state for a checkpoint, JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> "LearningProgress":
        """The state of a checkpoint."""
        lists = {name: tuple(state[name]) for name in ("tasks", "scores", "progress")}
        return cls(**{**state, **lists})


@dataclass(frozen=True)
class Competence:
    """A curriculum from easy to hard that a learner's age sets (Platanios et al. 2019, arXiv 1903.09848).

        c(t) = min(1, sqrt(t (1 - c0^2) / T + c0^2))

    the square-root competence of its section on competence: at time t the learner sees the examples whose difficulty
    has an empirical distribution function of at most c(t), each as often as any other; from t = T on, all.

    Attributes:
        total: T, the rounds until everything is admitted.
        c0: The share admitted at the start, above 0 to 1.
        time: t, rounds so far.
    """

    total: int
    c0: float = 0.1
    time: int = 0

    def __post_init__(self) -> None:
        if self.total < 1 or self.time < 0 or not 0 < self.c0 <= 1:
            raise BadRequest(f"a competence needs total >= 1, time >= 0 and c0 above 0 to 1; these are {self.total}, "
                             f"{self.time}, {self.c0:g}")  # fmt: skip

    @property
    def value(self) -> float:
        """c(t), the share of the examples that is admitted."""
        return min(1.0, math.sqrt(self.time * (1 - self.c0**2) / self.total + self.c0**2))

    def pool(self, difficulty: Sequence[float]) -> Indices:
        """Places of the examples that are admitted, ascending; the higher `difficulty`, the harder.

        Raises:
            BadRequest: when even the easiest are not admitted, or a difficulty is no number.
        """
        values = np.asarray(difficulty, float)
        if not len(values) or not np.isfinite(values).all():
            raise BadRequest("a competence needs finite difficulties, at least one")
        ranks = np.searchsorted(np.sort(values), values, side="right") / len(values)
        admitted = np.flatnonzero(ranks <= self.value + 1e-12)
        if not len(admitted):
            raise BadRequest(f"a competence of {self.value:.3g} admits none of {len(values)} examples: the easiest are "
                             f"a share of {ranks.min():.3g}, so c0 must be at least that")  # fmt: skip
        return admitted.astype(np.int64)

    def draw(self, difficulty: Sequence[float], n: int, seed: int = 0) -> Indices:
        """`n` places, uniformly among those admitted: each equally often, up to one, in an order the seed decides."""
        if n < 1:
            raise BadRequest(f"n = {n}: a round has at least one example")
        rng = _generator(seed, f"competence {self.time}")
        return rng.permutation(_draw(self.pool(difficulty), n, rng))


def _draw(pool: Indices, n: int, rng: np.random.Generator) -> Indices:
    """`n` of a pool: each equally often up to one, more beginning as fewer do."""
    order = rng.permutation(len(pool))
    return pool[np.resize(order, n)] if n else pool[:0]


def _generator(seed: int, name: str) -> np.random.Generator:
    if seed < 0:
        raise BadRequest(f"seed = {seed}: use 0 or more")
    return np.random.default_rng([seed, *name.encode()])


def _exact(share: float) -> Fraction:
    return Fraction(repr(float(share)))


def check_shares(name: str, shares: Sequence[float], tasks: Sequence[str]) -> None:
    """Refuse shares that are not as many as the tasks, or do not sum to 1."""
    if len(shares) != len(tasks):
        raise BadRequest(f"{name} has {len(shares)} numbers for {len(tasks)} tasks")
    if abs(sum(shares) - 1) > 1e-6:
        raise BadRequest(f"{name} = {shares} sums to {sum(shares):g}, not to 1")


def _known(kinds: set[Any], target: Mapping[str, float]) -> None:
    for kind in sorted(kinds):
        if kind not in target:
            raise unknown("task type", kind, target)


def _is_distribution(target: Mapping[str, float]) -> None:
    for name, share in target.items():
        if not 0 <= share < math.inf:
            raise BadRequest(f"the share of the task type '{name}' is {share:g}: a share is 0 or more")
    if abs(sum(target.values()) - 1) > 1e-6:
        raise BadRequest(f"the shares of the target sum to {sum(target.values()):g}, not to 1")
