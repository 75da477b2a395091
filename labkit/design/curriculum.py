"""Curricula: which examples of a pool are trained on, in which shares, round by round.

Data functions: indices and scores in, index arrays and counts out. The parts of task-aware curriculum planning (TAPIR,
Yue et al. 2024, arXiv 2405.13448) that need no teacher: choosing what a student fails at (`select`, or kind by kind
`within_kinds`), the published shares of task types (`published_target`), and rounds that have them and a rising share
of hard examples (`schedule`, `mixed_round`, `rising_round`).

Guaranteed:
- *Exact.* A round has the size asked for, and the shares asked for up to rounding by largest remainders.
- *Deterministic.* Equal arguments give equal arrays; a round with more hard examples holds all of one with fewer.
- *Counted.* What is repeated, left out or without a score or type is counted, never silently dropped.
Left open: the defaults of `schedule` are this lab's own, not published ones; how the published categories map to the
types of `TARGET` is ours; an index says nothing about near duplicates.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
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


def published_target(types: Mapping[str, str]) -> dict[str, float]:
    """The published shares for some kinds, from each kind to its task type; kinds of one type share alike.

    Raises:
        BadRequest: for a task type that the published distribution does not name.
    """
    _known(set(types.values()), TARGET)
    shares = {kind: TARGET[name] / list(types.values()).count(name) for kind, name in types.items()}
    return {kind: share / sum(shares.values()) for kind, share in shares.items()}


def within_kinds(
    mfd: Sequence[float | None], kinds: Sequence[str | None], hard: float | None, seed: int = 0
) -> Indices:
    """Half of each kind's places, ascending: a share `hard` of them from its harder half, the others from the rest.

    So every `hard` gives as many of each kind, and None, which draws at random, as well: what differs is difficulty
    within kinds alone. Equally hard places are in an order that the seed decides. Places without an MFD or a kind are
    left out.
    """
    chosen = list[int]()
    for kind in sorted({kind for kind in kinds if kind is not None}):
        rng = _generator(seed, f"within {kind}")
        own = [i for i, other in enumerate(kinds) if other == kind and mfd[i] is not None]
        places, half = rng.permutation(np.array(own, np.int64)), (len(own) + 1) // 2
        if hard is None:
            chosen += places[:half].tolist()
            continue
        order = places[np.argsort([mfd[i] for i in places.tolist()], kind="stable")]  # the hardest first
        n_hard = max(round(hard * half), 2 * half - len(own))
        chosen += rng.permutation(order[:half])[:n_hard].tolist()
        chosen += rng.permutation(order[half:])[: half - n_hard].tolist()
    return np.array(sorted(chosen), np.int64)


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


def even_round(size: int, n: int, number: int, seed: int = 0) -> Indices:
    """`n` places of an endless stream of shuffled epochs over `size`, after `number` rounds of as many.

    Rounds together go through everything evenly.
    """
    rng = np.random.default_rng([seed, size])
    order = np.concatenate([rng.permutation(size) for _ in range(-(-n * (number + 1) // size))])
    return order[n * number : n * (number + 1)]


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
