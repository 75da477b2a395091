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

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from labkit.errors import BadRequest, unknown
from labkit.instructions.rewriting import (
    _SMALL,
    _SPLITS,
    TEST_SHARE,
    Codes,
    Ints,
    RewritingTask,
    Rules,
    Split,
    _first_distinct,
    _in_split,
    _uniform_letters,
)

Kind = Literal["repeated", "periodic", "mirror"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_STREAM = 20  # this module's spawn key, apart from those of `rewriting`
_BLOCK = 2**13  # strings a block of a space's stream; part of the stream's definition


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

    def counts(self) -> dict[Space, int]:
        """How many rules each space of the mixture gave."""
        return dict(zip(self.spaces, np.bincount(self.of, minlength=len(self.spaces)).tolist(), strict=True))


def divisors(pattern_length: int, low: int = 1, high: int | None = None) -> list[int]:
    """The k from low to high (both included) that divide the pattern length, ascending."""
    return [k for k in range(low, min(high or pattern_length, pattern_length) + 1) if pattern_length % k == 0]


def mixture(kinds: Sequence[Kind], ks: Sequence[int]) -> tuple[Space, ...]:
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
    _check_k(space.k, strings.shape[1])
    if space.kind == "repeated":
        groups = strings.reshape(len(strings), -1, space.k)
        return (groups == groups[:, :, :1]).all(axis=(1, 2))
    blocks = strings.reshape(len(strings), space.k, -1)
    if space.kind == "mirror":
        blocks = blocks.copy()
        blocks[:, 1::2] = blocks[:, 1::2, ::-1]
    return (blocks == blocks[:, :1]).all(axis=(1, 2))


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


def capacity(task: RewritingTask, space: Space, split: Split, seed: int) -> int:
    """How many distinct rules the split holds in a space.

    Exact up to 2**20 strings, beyond that a lower bound of some billions: half of what 2**20 strings give.
    """
    p, symbols = task.pattern_length, len(task.alphabet)
    _check_k(space.k, p)
    free = p // space.k
    if symbols**free <= _SMALL:
        letters = np.indices((symbols,) * free, np.uint8).reshape(free, -1)
        pool = _pool(task, space, letters, split, seed).shape[1]
    else:
        pool = int(_SMALL * (TEST_SHARE if split == "test" else 1 - TEST_SHARE) / 2)
    return pool * (pool - 1)


def draw_space_rules(
    task: RewritingTask, spaces: Sequence[Space], n: int, *, seed: int, split: Split = "train"
) -> Drawn:
    """n rules of a mixture of spaces, as evenly over the spaces as these allow, x != y, no rule twice.

    One rule a space in turn; a space that has run out (few strings: k near p) is passed over, and the others give its
    part. x and y are uniform over the space's strings of the split, which a hash of the letters under the seed decides.

    Raises:
        BadRequest: when the spaces together hold fewer than n rules, or k does not divide the pattern length.
    """
    spaces = tuple(
        s for i, s in enumerate(spaces) if s.k != task.pattern_length or s.k not in [t.k for t in spaces[:i]]
    )
    capacities = [capacity(task, space, split, seed) for space in spaces]
    if n > sum(capacities):
        raise BadRequest(
            f"n is {n}, but {' and '.join(map(str, spaces))} hold {sum(capacities)} {split} rules of pattern_length "
            f"{task.pattern_length} over {len(task.alphabet)} symbols: use {sum(capacities)} at most, or smaller k"
        )
    rank = [np.arange(min(n, most)) for most in capacities]
    of = np.repeat(np.arange(len(spaces)), [len(ranks) for ranks in rank])
    of = of[np.argsort(np.concatenate(rank), kind="stable")][:n]
    columns = np.empty((2 * task.pattern_length, n), np.uint8)
    for i, space in enumerate(spaces):
        wanted = of == i
        if wanted.any():
            stream = _rule_stream(task, space, seed, split)
            columns[:, wanted] = _first_distinct(stream, int(wanted.sum()), capacities[i], len(task.alphabet))
    x, y = (np.ascontiguousarray(side.T) for side in np.split(columns, 2))
    for i, space in enumerate(spaces):
        if not belongs(space, np.concatenate([x[of == i], y[of == i]])).all():
            raise AssertionError(f"a rule drawn from the space {space} does not belong to it")
    return Drawn(Rules(x, y, task.alphabet), of, spaces)


def _rule_stream(task: RewritingTask, space: Space, seed: int, split: Split) -> Iterator[Codes]:
    """Blocks of rules without end, x above y: [2 p, rules of the block]."""
    key = (_STREAM, _SPLITS.index(split), KINDS.index(space.kind), space.k)
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))
    free, symbols = task.pattern_length // space.k, len(task.alphabet)
    while True:
        letters = _uniform_letters(rng, symbols, free * _BLOCK).reshape(free, _BLOCK)
        strings = _pool(task, space, letters, split, seed)
        half = strings.shape[1] // 2
        x, y = strings[:, :half], strings[:, half : 2 * half]
        yield np.concatenate([x, y])[:, (x != y).any(axis=0)]


def _pool(task: RewritingTask, space: Space, letters: Codes, split: Split, seed: int) -> Codes:
    """The strings [p, M] that free letters [p / k, N] make in a space, less those of other spaces and splits."""
    p = task.pattern_length
    strings = letters[_places(space, p)]
    other = np.zeros(strings.shape[1], bool)
    if space.k < p:
        for k in divisors(p, max(2, space.k)):
            for kind in KINDS:
                if k > space.k or kind != space.kind:
                    other |= belongs(Space(kind, k), np.ascontiguousarray(strings.T))
    strings = strings[:, ~other]
    return strings[:, _in_split(strings, len(task.alphabet), split, seed)]


def _places(space: Space, p: int) -> Ints:
    """Which free letter stands at each place of a string: [p]."""
    places, free = np.arange(p), p // space.k
    if space.kind == "repeated":
        return places // space.k
    block, within = np.divmod(places, free)
    return np.where((space.kind == "mirror") & (block % 2 == 1), free - 1 - within, within)


def _check_k(k: int, pattern_length: int) -> None:
    if k < 1 or pattern_length % k:
        allowed = ", ".join(map(str, divisors(pattern_length)))
        raise BadRequest(f"k = {k} does not divide pattern_length = {pattern_length}: use one of {allowed}")
