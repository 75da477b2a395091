"""Constrained rule spaces: rules whose two sides repeat themselves k times, in one of three ways.

The semantic diversity of "Only-IF: Revealing the Decisive Effect of Instruction Diversity on Generalization"
(arXiv 2410.04717, Fig. 4; also 2402.10891): a training set drawn from one narrow kind of instruction, or from
several. A string of p letters has p / k free letters and belongs to the space

    repeated    when each letter stands k times in a row       k = 3: aaabbbccc
    periodic    when a block stands k times                    k = 2: abcabc
    mirror      when a block is mirrored to and fro k times    k = 3: abccbaabc

and x and y of a rule are drawn from one space. k = 1 is no constraint at all (*unconstrained*).

Guaranteed: every drawn rule is checked to belong to its space; rules are distinct; spaces do not overlap, because a
string counts for a space only if it belongs to none that is narrower and to no other of the same k (k is exact,
`abaaba` is neither periodic nor mirror); under one seed no x or y of a training rule is an x or y of a test rule; the
first n of m rules are the n rules drawn alone. The one exception: k = p makes the same strings in all three spaces,
and a mixture counts them once.
"""

from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from labkit.errors import BadRequest, unknown
from labkit.instructions import rewriting
from labkit.instructions.rewriting import SHARES, Codes, Ints, Pool, RewritingTask, Rules, Split

Kind = Literal["repeated", "periodic", "mirror"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_STREAM = 20  # this module's spawn key, apart from those of `rewriting`
_COUNTED = 2**16  # up to so many strings are counted, more are estimated
_BLOCK = 2**13  # strings per block of a space's stream; part of the stream's definition


class Space(NamedTuple):
    """The strings of one kind at one k; with k = 1 every string is in the space of every kind."""

    kind: Kind
    k: int

    def __str__(self) -> str:
        return "unconstrained" if self.k == 1 else f"{self.kind}, k = {self.k}"


UNCONSTRAINED = Space("repeated", 1)


class Drawn(NamedTuple):
    """Rules and, for each, its place in `spaces`: `of` [number of rules]."""

    rules: Rules
    of: Ints
    spaces: tuple[Space, ...]


def divisors(pattern_length: int, low: int = 1, high: int | None = None) -> list[int]:
    """The k from low to high (both included) that divide the pattern length, ascending."""
    return [k for k in range(low, min(high or pattern_length, pattern_length) + 1) if pattern_length % k == 0]


def mixture(kinds: Sequence[str], ks: Sequence[int]) -> tuple[Space, ...]:
    """Every kind at every k, by k and then by kind in the order of `KINDS`.

    Raises:
        BadRequest: for no kind or no k, or an unknown kind.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise unknown("rule space", kind, KINDS)
    if not kinds or not ks:
        raise BadRequest(f"a mixture needs a kind ({', '.join(KINDS)}) and a k: got {list(kinds)} and {list(ks)}")
    return tuple(Space(kind, k) for k in sorted(set(ks)) for kind in KINDS if kind in kinds)


def belongs(space: Space, strings: Codes) -> NDArray[np.bool_]:
    """Which strings [N, p] have the form of the space: [N].

    Raises:
        BadRequest: when k does not divide the length of the strings.
    """
    places = _places(space, strings.shape[1])
    first = np.unique(places, return_index=True)[1]  # where each free letter stands first
    return (strings == strings[:, first[places]]).all(axis=1)


def belongs_plain(space: Space, text: str) -> bool:
    """The same for one string in plain Python: the oracle of `belongs`.

    >>> belongs_plain(Space("mirror", 3), "abccbaabc"), belongs_plain(Space("periodic", 3), "abccbaabc")
    (True, False)
    """
    _check_k(space.k, len(text))
    block = text[: len(text) // space.k]
    if space.kind == "repeated":
        return text == "".join(letter * space.k for letter in text[:: space.k])
    return text == "".join(block[::-1] if space.kind == "mirror" and i % 2 else block for i in range(space.k))


@lru_cache(maxsize=1024)
def capacity(task: RewritingTask, space: Space, split: Split | None, seed: int) -> int:
    """How many distinct rules a space holds in a split, or in all (None).

    Exact up to 2**16 strings, beyond that a lower bound of some millions: half of what 2**16 strings give.
    """
    return _pool(task, space, split, seed).capacity()


def shares(task: RewritingTask, spaces: Sequence[Space], n: int, *, seed: int,
           split: Split | None = "train") -> dict[Space, int]:  # fmt: skip
    """How many of n rules each space of a mixture gives.

    Each space gives one rule in turn; a space that has run out (few strings: k near p) is passed over, and the others
    give its part. So they are even wherever each space holds enough, and they always sum to n.

    Raises:
        BadRequest: when the spaces together hold fewer than n rules, or a k does not divide the pattern length.
    """
    one_letter = [space for space in spaces if space.k == task.pattern_length]
    spaces = [space for space in spaces if space not in one_letter[1:]]
    most = np.array([capacity(task, space, split, seed) for space in spaces])
    if n > most.sum():
        kinds, ks = (", ".join(dict.fromkeys(str(space[i]) for space in spaces)) for i in (0, 1))
        raise BadRequest(f"n_instructions = {n} is more than the {most.sum()} rules of the spaces {kinds} with k = "
                         f"{ks} at pattern_length = {task.pattern_length} over {len(task.alphabet)} symbols (seed "
                         f"{seed}): use {most.sum()} at most, or a smaller k")  # fmt: skip
    turns = bisect_right(range(n + 1), n, key=lambda turns: np.minimum(most, turns).sum()) - 1  # that are whole
    counts = np.minimum(most, turns)
    counts[np.flatnonzero(most > turns)[: n - counts.sum()]] += 1
    return dict(zip(spaces, counts.tolist(), strict=True))


def draw_space_rules(task: RewritingTask, spaces: Sequence[Space], n: int, *, seed: int,
                     split: Split | None = "train") -> Drawn:  # fmt: skip
    """n rules of a mixture of spaces, as evenly over the spaces as `shares` says; raises as it does.

    x and y of a rule are different and uniform over the strings of its space and split, which a hash of the letters
    under the seed decides. `split=None` draws from all strings, for a space that is not trained on.
    """
    given = shares(task, spaces, n, seed=seed, split=split)
    parts = []
    for space, count in given.items():
        key = (_STREAM, list(SHARES).index(split), KINDS.index(space.kind), space.k)
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))
        columns = _pool(task, space, split, seed).draw(count, capacity(task, space, split, seed), rng)
        if not belongs(space, np.concatenate(np.split(columns, 2), axis=1).T).all():
            raise AssertionError(f"a rule drawn from the space {space} does not belong to it")
        parts.append(columns)
    turn = np.argsort(np.concatenate([np.arange(count) for count in given.values()]), kind="stable")
    of = np.repeat(np.arange(len(given)), list(given.values()))
    return Drawn(Rules.of(np.concatenate(parts, axis=1)[:, turn], task.alphabet), of[turn], tuple(given))


def _pool(task: RewritingTask, space: Space, split: Split | None, seed: int) -> Pool:
    """The strings that free letters make in a space, less those of narrower spaces and of other splits."""
    p, symbols = task.pattern_length, len(task.alphabet)
    places = _places(space, p)
    spaces = [Space(kind, k) for k in divisors(p, max(2, space.k)) for kind in KINDS]
    others = [other for other in spaces if other.k > space.k or other.kind != space.kind] if space.k < p else []

    def strings(letters: Codes) -> Codes:
        made = letters[places]
        for other in others:
            made = made[:, ~belongs(other, made.T)]
        return made[:, rewriting.in_split(made, symbols, split, seed)] if split else made

    return Pool(symbols, p // space.k, strings, SHARES[split], _COUNTED, _BLOCK)


def _places(space: Space, p: int) -> Ints:
    """Which free letter stands at each place of a string: [p]; BadRequest where k does not divide p."""
    _check_k(space.k, p)
    places, free = np.arange(p), p // space.k
    if space.kind == "repeated":
        return places // space.k
    block, within = np.divmod(places, free)
    return np.where((space.kind == "mirror") & (block % 2 == 1), free - 1 - within, within)


def _check_k(k: int, pattern_length: int) -> None:
    if k < 1 or pattern_length % k:
        allowed = ", ".join(map(str, divisors(pattern_length)))
        raise BadRequest(f"k = {k} does not divide pattern_length = {pattern_length}: use one of {allowed}")
