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
from functools import lru_cache
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from labkit.errors import BadRequest, unknown
from labkit.instructions import rewriting
from labkit.instructions.rewriting import SPLITS, TEST_SHARE, Codes, Ints, RewritingTask, Rules, Split

Kind = Literal["repeated", "periodic", "mirror"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_STREAM = 20  # this module's spawn key, apart from those of `rewriting`
_COUNTED = 2**16  # so many strings are counted, more are estimated
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
    (N, p), k = strings.shape, space.k
    _check_k(k, p)
    if space.kind == "repeated":
        groups = strings.reshape(N, p // k, k)
        return (groups == groups[:, :, :1]).all(axis=(1, 2))
    blocks = strings.reshape(N, k, p // k)
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


@lru_cache(maxsize=1024)
def capacity(task: RewritingTask, space: Space, split: Split | None, seed: int) -> int:
    """How many distinct rules a space holds in a split, or in all (None).

    Exact up to 2**16 strings, beyond that a lower bound of some millions: half of what 2**16 strings give.
    """
    p, symbols = task.pattern_length, len(task.alphabet)
    _check_k(space.k, p)
    free = p // space.k
    if symbols**free <= _COUNTED:
        letters = np.indices((symbols,) * free, np.uint8).reshape(free, -1)
        pool = _pool(task, space, letters, split, seed).shape[1]
    else:
        pool = int(_COUNTED * {"train": 1 - TEST_SHARE, "test": TEST_SHARE, None: 1}[split] / 2)
    return pool * (pool - 1)


def shares(task: RewritingTask, spaces: Sequence[Space], n: int, *, seed: int,
           split: Split | None = "train") -> dict[Space, int]:  # fmt: skip
    """How many of n rules each space of a mixture gives.

    One rule a space in turn; a space that has run out (few strings: k near p) is passed over, and the others give its
    part. So they are even wherever each space holds enough, and they always sum to n.

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
    full = np.sort(most)  # the spaces that run out, the smallest first
    given = np.concatenate([[0], np.cumsum(full)[:-1]])  # what they give together, before each
    level = max((n - given) // np.arange(len(full), 0, -1))  # the turns that all others take
    rest = n - np.minimum(most, level).sum()
    extra = np.flatnonzero(most > level)[:rest]
    counts = np.minimum(most, level)
    counts[extra] += 1
    return dict(zip(spaces, counts.tolist(), strict=True))


def draw_space_rules(task: RewritingTask, spaces: Sequence[Space], n: int, *, seed: int,
                     split: Split | None = "train") -> Drawn:  # fmt: skip
    """n rules of a mixture of spaces, as evenly over the spaces as `shares` says; raises as it does.

    x and y of a rule are different and uniform over the strings of its space and split, told by a hash of the letters
    under the seed. `split=None` draws from all strings, for a space that is not trained on.
    """
    given = shares(task, spaces, n, seed=seed, split=split)
    of = np.repeat(np.arange(len(given)), list(given.values()))
    parts = []
    for space, count in given.items():
        stream = _rule_stream(task, space, seed, split)
        most = capacity(task, space, split, seed)
        columns = rewriting.first_distinct(stream, count, most, len(task.alphabet)) if count else next(stream)[:, :0]
        sides = np.concatenate(np.split(columns, 2), axis=1).T
        if not belongs(space, np.ascontiguousarray(sides)).all():
            raise AssertionError(f"a rule drawn from the space {space} does not belong to it")
        parts.append(columns)
    turn = np.argsort(np.concatenate([np.arange(count) for count in given.values()]), kind="stable")
    x, y = (np.ascontiguousarray(side.T) for side in np.split(np.concatenate(parts, axis=1)[:, turn], 2))
    return Drawn(Rules(x, y, task.alphabet), of[turn], tuple(given))


def _rule_stream(task: RewritingTask, space: Space, seed: int, split: Split | None) -> Iterator[Codes]:
    """Blocks of rules without end, x above y: [2 p, rules of the block]."""
    key = (_STREAM, (*SPLITS, None).index(split), KINDS.index(space.kind), space.k)
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))
    free, symbols = task.pattern_length // space.k, len(task.alphabet)
    while True:
        letters = rewriting.uniform_letters(rng, symbols, free * _BLOCK).reshape(free, _BLOCK)
        strings = _pool(task, space, letters, split, seed)
        half = strings.shape[1] // 2
        x, y = strings[:, :half], strings[:, half : 2 * half]
        yield np.concatenate([x, y])[:, (x != y).any(axis=0)]


def _pool(task: RewritingTask, space: Space, letters: Codes, split: Split | None, seed: int) -> Codes:
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
    return strings[:, rewriting.in_split(strings, len(task.alphabet), split, seed)] if split else strings


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
