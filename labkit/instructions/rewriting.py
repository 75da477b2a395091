"""String rewriting: rules x -> y, and inputs z whose leftmost x becomes y.

The task of "Instruction Diversity Drives Generalization To Unseen Tasks" (arXiv 2402.10891, sec. 3; also
2405.19787 and 2410.04717): an instruction is a rule; where x does not occur the answer is z, a *no-op*.

Guaranteed: rules are distinct; under one seed no x or y of a training rule is an x or y of a test rule, and
the first k of n rules are the k rules drawn alone; x occurs in each input exactly as often as asked; every
answer comes from a search of the finished input. Left open: two inputs of one rule may be equal by chance.

`Rule.apply` and `draw_example_plain` say the same in plain Python; they are the oracle of the fast path.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from labkit.errors import BadRequest, unknown

Split = Literal["train", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
TEST_SHARE = 0.1  # of all strings of the pattern's length: only test rules are made of these
SHARES: dict[Split | None, float] = {"train": 1 - TEST_SHARE, "test": TEST_SHARE, None: 1}
_COUNTED = 2**20  # up to so many strings are counted, more are estimated
_BLOCK = 2**14  # strings per block of the rule stream; part of the stream's definition
_CHUNK = 2**18  # letters of inputs drawn at once, few enough to stay in the cache
_MAX_ROUNDS = 1_000  # redraws of an input before its rule is refused

Codes = NDArray[np.uint8]
Ints = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Rule:
    """The rewriting rule `pattern -> replacement`; BadRequest when the pattern is empty."""

    pattern: str
    replacement: str

    def __post_init__(self) -> None:
        if not self.pattern:
            raise BadRequest(f'the rule "{self}" has an empty left side: a rewriting rule must replace something')

    @classmethod
    def parse(cls, text: str) -> "Rule":
        """The rule written as `x -> y`; blanks around the arrow are ignored.

        >>> Rule.parse("iss -> art").apply("mississippi")
        'martissippi'
        """
        sides = [side.strip() for side in text.split("->")]
        if len(sides) != 2 or any(len(side.split()) > 1 for side in sides):
            raise BadRequest(f'"{text}" is not a rule: write x -> y, with one arrow and no blanks within a side')
        return cls(*sides)

    def __str__(self) -> str:
        return f"{self.pattern} -> {self.replacement}"

    def apply(self, z: str) -> str:
        """z with its leftmost occurrence of the pattern replaced, or z itself when there is none."""
        return z.replace(self.pattern, self.replacement, 1)


@dataclass(frozen=True)
class RewritingTask:
    """The settings of the task; BadRequest for settings that contradict each other.

    Attributes:
        pattern_length: letters of x and of y, so that an answer is as long as its input.
        input_length: letters of z.
        occurrences: how often x occurs in z, counted from left to right without overlap as `str.count` does;
            a tuple is a mixture in equal parts of the inputs that are no no-ops (2402.10891, Table 1).
        noop_share: the share of inputs in which x does not occur, 0 to 1 (2402.10891, Fig. 2b).
        alphabet: 2 to 64 different symbols.
    """

    pattern_length: int
    input_length: int
    occurrences: int | tuple[int, ...] = 1
    noop_share: float = 0.0
    alphabet: str = "abcdefghijklmnopqrstuvwxyz"

    def __post_init__(self) -> None:
        p, n = self.pattern_length, self.input_length
        _check_positive(pattern_length=p, input_length=n)
        if p > n:
            raise BadRequest(f"pattern_length {p} does not fit into input_length {n}: use {n} at most")
        if not self.mixture:
            raise BadRequest("occurrences is an empty tuple: give at least one number")
        for times in self.mixture:
            _check_positive(occurrences=times)
            if times * p > n:
                sizes = f"pattern_length {p} do not fit into input_length {n}"
                raise BadRequest(f"occurrences {times} of {sizes}: use {n // p} at most")
        if not isinstance(self.noop_share, Real) or not 0 <= self.noop_share <= 1:
            raise BadRequest(f"noop_share is {self.noop_share!r}: it must be a number from 0 to 1")
        if not 2 <= len(self.alphabet) <= 64:
            raise BadRequest(f"alphabet has {len(self.alphabet)} symbols: it must have 2 to 64")
        if repeated := [symbol for symbol in self.alphabet if self.alphabet.count(symbol) > 1]:
            raise BadRequest(f"alphabet holds {repeated[0]!r} more than once: its symbols must differ")

    @property
    def mixture(self) -> tuple[int, ...]:
        """`occurrences` as a tuple."""
        return self.occurrences if isinstance(self.occurrences, tuple) else (self.occurrences,)

    def capacity(self, split: Split, seed: int) -> int:
        """How many distinct rules the split holds.

        Exact up to 2**20 strings of the pattern's length. Beyond, a lower bound of some billions: the pool is
        taken for half of what 2**20 strings give, a hundred standard deviations below what to expect.
        """
        if split not in SPLITS:
            raise unknown("split", split, SPLITS)
        return self._pool(split, seed).capacity()

    def _pool(self, split: Split, seed: int) -> "Pool":
        """The strings of a split, of which its rules are made."""
        symbols = len(self.alphabet)

        def strings(letters: Codes) -> Codes:
            return letters[:, in_split(letters, symbols, split, seed)]

        return Pool(symbols, self.pattern_length, strings, SHARES[split], _COUNTED, _BLOCK)


@dataclass(frozen=True, eq=False)
class Rules:
    """n rules as symbol codes: x and y are uint8 [n, pattern_length], a code is a place in the alphabet."""

    x: Codes
    y: Codes
    alphabet: str

    @classmethod
    def of(cls, columns: Codes, alphabet: str) -> "Rules":
        """The rules in columns of codes, x above y: [2 pattern_length, n]."""
        x, y = np.split(columns.T, 2, axis=1)
        return cls(np.ascontiguousarray(x), np.ascontiguousarray(y), alphabet)

    def __len__(self) -> int:
        return len(self.x)

    def rule(self, i: int) -> Rule:
        return Rule(decode(self.x[i], self.alphabet), decode(self.y[i], self.alphabet))


@dataclass(frozen=True, eq=False)
class Inputs:
    """N inputs: rule numbers index [N], codes z and answer uint8 [N, input_length], and noop, bool [N]."""

    index: Ints
    z: Codes
    answer: Codes
    noop: NDArray[np.bool_]


def draw_rules(task: RewritingTask, n: int, *, seed: int, split: Split = "train") -> Rules:
    """The first n rules of a split's endless stream, x != y, no rule twice; BadRequest if it holds fewer.

    Every string of the pattern's length belongs to one split, decided by a hash of its letters under the seed,
    so that a test rule shares neither x nor y with a training rule of the same seed (2402.10891, sec. 3). x
    and y are uniform over the split's strings. A million rules of 20 letters take a second or two.
    """
    _check_positive(n=n)
    capacity = task.capacity(split, seed)
    if n > capacity:
        raise BadRequest(
            f"n is {n}, but the {split} split holds {capacity} rules of pattern_length {task.pattern_length} over "
            f"{len(task.alphabet)} symbols: use {capacity} at most, or longer patterns"
        )
    rng = _generator(seed, SPLITS.index(split))
    return Rules.of(task._pool(split, seed).draw(n, capacity, rng), task.alphabet)


def draw_inputs(task: RewritingTask, rules: Rules, index: Ints, *, seed: int | np.random.Generator) -> Inputs:
    """One input for each rule number in index [N], in its order; millions a second on one core.

    Exactly round(noop_share * N) are no-ops. They, and then the parts of a mixture of occurrences, are spread
    over the rules: each rule gets its share rounded up or down, at random places among its inputs.
    BadRequest when chance leaves a rule no room, such as an x of one letter that 50 others must all avoid.
    """
    if rules.alphabet != task.alphabet or rules.x.shape[1] != task.pattern_length:
        raise BadRequest("the rules were drawn for another alphabet or pattern_length than the task's")
    if not index.size or index.min() < 0 or index.max() >= len(rules):
        raise BadRequest(f"index must hold at least one rule number, and none outside 0 to {len(rules) - 1}")
    rng = _generator(seed, len(SPLITS))
    x, y = _as_strings(rules.x), _as_strings(rules.y)
    z, answer = np.empty((2, index.size), f"V{task.input_length}")
    wanted = _wanted_occurrences(task, index, rng)
    chunk = max(1, _CHUNK // task.input_length)
    for times in sorted({0, *task.mixture}):
        rows = np.flatnonzero(wanted == times)
        for start in range(0, rows.size, chunk):
            pending = rows[start : start + chunk]
            for _ in range(_MAX_ROUNDS):
                rule = index[pending]
                drawn = _arrange(task, x[rule], times, rng)
                count, first = _search(drawn, x[rule], len(task.alphabet))
                z[pending] = _as_strings(drawn)
                if times:  # then x is in every row
                    _windows(drawn, task.pattern_length)[first] = y[rule]
                answer[pending] = _as_strings(drawn)
                pending = pending[count != times]  # to be overwritten in the next round
                if not pending.size:
                    break
            else:
                raise _no_room(task, rules.rule(int(index[pending[0]])), times)
    return Inputs(index, _as_codes(z), _as_codes(answer), wanted == 0)


def draw_example_plain(task: RewritingTask, rule: Rule, rng: random.Random, noop: bool = False,
                       occurrences: int = 1) -> tuple[str, str]:  # fmt: skip
    """One input and its answer in plain Python, from the distribution that `draw_inputs` draws from."""
    times = 0 if noop else occurrences
    size = task.input_length - times * (task.pattern_length - 1)
    for _ in range(_MAX_ROUNDS):
        parts = rng.choices(task.alphabet, k=size)
        for place in rng.sample(range(size), times):
            parts[place] = rule.pattern
        z = "".join(parts)
        if z.count(rule.pattern) == times:
            return z, rule.apply(z)
    raise _no_room(task, rule, times)


def decode(codes: Codes, alphabet: str) -> str:
    """The text of one row of codes [length]."""
    return "".join([alphabet[code] for code in codes.tolist()])


# Rules, drawn in columns of codes, [letters, N], so that every step is one pass over a letter of all of them.


class Pool(NamedTuple):
    """The strings that may be sides of rules: x and y of a rule are different, and uniform over the pool.

    Attributes:
        symbols: How many different letters there are.
        free: How many letters are drawn for each string.
        strings: From drawn letters [free, N] to those strings [p, M] they make that are in the pool.
        share: About how many of all drawn strings that is.
        counted: Up to so many strings are counted, more are estimated.
        block: Strings per block of the stream of rules; part of the stream's definition.
    """

    symbols: int
    free: int
    strings: Callable[[Codes], Codes]
    share: float
    counted: int
    block: int

    def capacity(self) -> int:
        """How many distinct rules there are, or where more than `counted` strings may be drawn, a lower bound."""
        if self.symbols**self.free <= self.counted:
            every = np.indices((self.symbols,) * self.free, np.uint8).reshape(self.free, -1)
            size = self.strings(every).shape[1]
        else:
            size = int(self.counted * self.share / 2)
        return size * (size - 1)

    def draw(self, n: int, capacity: int, rng: np.random.Generator) -> Codes:
        """The first n different rules of a stream that has `capacity` of them, x above y: [2 p, n]."""
        kept = self._block(rng)
        while True:
            kept = kept[:, np.sort(np.unique(_numbers(kept, self.symbols), return_index=True)[1])]
            have = kept.shape[1]
            if have >= n:
                return kept[:, :n]
            blocks = [kept]
            needed = (n - have) * capacity // (capacity - have)  # on average: many to come are known already
            while sum(block.shape[1] for block in blocks) < have + needed:
                blocks.append(self._block(rng))
            kept = np.concatenate(blocks, axis=1)

    def _block(self, rng: np.random.Generator) -> Codes:
        """The next rules of the endless stream, of which some may be known already."""
        strings = self.strings(uniform_letters(rng, self.symbols, self.free * self.block).reshape(self.free, -1))
        half = strings.shape[1] // 2
        x, y = strings[:, :half], strings[:, half : 2 * half]
        return np.concatenate([x, y])[:, (x != y).any(axis=0)]


def in_split(strings: Codes, symbols: int, split: Split, seed: int) -> NDArray[np.bool_]:
    """Which strings [p, N] are the split's: test has the lowest TEST_SHARE of a hash keyed by the seed."""
    hashed = _mix(_numbers(strings, symbols) ^ _mix(np.array([seed % 2**64], np.uint64)))
    return (hashed < np.uint64(int(TEST_SHARE * 2**64))) == (split == "test")


def _numbers(columns: Codes, symbols: int) -> NDArray[np.uint64]:
    """A number for each column of letters [L, N]: [N].

    Different for different rules wherever capacity is counted; elsewhere two agree once in about 2**64.
    """
    base = np.uint64(symbols | 1)  # an even base would shift the first letters of a long string out
    numbers = np.zeros(columns.shape[1], np.uint64)
    for letters in columns:
        numbers *= base
        numbers += letters
    return numbers


def _mix(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """One step of the generator splitmix64 from each number (Steele, Lea and Flood, 2014)."""
    z = numbers + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


# Inputs. A string of codes is also one numpy element of type void, so that taking, planting and comparing
# whole strings are single operations.


def _as_strings(codes: Codes) -> NDArray[np.void]:
    """Codes [N, length] as N elements."""
    return np.ascontiguousarray(codes).view(f"V{codes.shape[1]}")[:, 0]


def _as_codes(strings: NDArray[np.void]) -> Codes:
    """The inverse of `_as_strings`."""
    return strings.view(np.uint8).reshape(strings.size, strings.itemsize)


def _windows(z: Codes, length: int) -> NDArray[np.void]:
    """Every stretch of `length` letters of z [B, n], read as one long string: a view, open to writing."""
    return np.ndarray((z.size - length + 1,), f"V{length}", z, strides=(1,))


def _wanted_occurrences(task: RewritingTask, index: Ints, rng: np.random.Generator) -> Ints:
    """How often x shall occur in each input, 0 for a no-op: [N]."""
    N, noops, mixture = index.size, round(task.noop_share * index.size), np.array(task.mixture)
    if not noops and mixture.size == 1:
        return np.full(N, mixture[0])
    by_rule = rng.permutation(N)
    by_rule = by_rule[np.argsort(index[by_rule], kind="stable")]
    # Bresenham's line: of any c neighbours, such as a rule's inputs, noops * c / N are no-ops, rounded up or
    # down. The random start gives every rule the same chance of the one more.
    noop = np.diff((np.arange(N + 1) * noops + rng.integers(N)) // N).astype(bool)
    wanted = np.zeros(N, np.int64)
    wanted[by_rule[~noop]] = mixture[(np.arange(N - noops) + rng.integers(mixture.size)) % mixture.size]
    return wanted


def _arrange(task: RewritingTask, x: NDArray[np.void], times: int, rng: np.random.Generator) -> Codes:
    """Uniform letters [B, n] with x [B] planted at uniform places that do not overlap."""
    B, n, p = x.size, task.input_length, task.pattern_length
    z = uniform_letters(rng, len(task.alphabet), B * n).reshape(B, n)
    if times:
        # Subsets of the places that are left when each x is one symbol (Floyd's algorithm, Bentley 1987).
        places = np.empty((times, B), np.int64)
        for i, last in enumerate(range(n - times * p, n - times * (p - 1))):
            place = rng.integers(last + 1, size=B)
            places[i] = np.where((places[:i] == place).any(axis=0), last, place)
        places = np.sort(places, axis=0) + np.arange(times)[:, None] * (p - 1)
        _windows(z, p)[places + np.arange(B) * n] = x
    return z


def uniform_letters(rng: np.random.Generator, symbols: int, count: int) -> Codes:
    """Codes [count]: blocks of eight letters, drawn as one number each and halved down to single letters."""
    blocks: NDArray[Any] = rng.integers(symbols**8, size=-(-count // 8), dtype=np.uint64)
    for letters, dtype in ((4, np.uint32), (2, np.uint16), (1, np.uint8)):
        base = blocks.dtype.type(symbols**letters)
        high = blocks // base
        blocks = np.concatenate([high, blocks - high * base], dtype=dtype, casting="unsafe")
    return blocks[:count]


def _search(z: Codes, x: NDArray[np.void], symbols: int) -> tuple[Ints, Ints]:
    """How often x [B] occurs in z [B, n] from left to right without overlap, and where first: both [B].

    Places count letters from the start of all of z; -1 stands for no occurrence.
    """
    (B, n), p, pattern = z.shape, x.itemsize, _as_codes(x)
    # Letters are compared until chance leaves less than one candidate per row; then whole windows are.
    candidate = z == pattern[:, :1]
    for letter in range(1, p):
        if symbols**letter >= n:
            break
        candidate.ravel()[:-letter] &= (z == pattern[:, letter : letter + 1]).ravel()[letter:]
    candidate[:, n - p + 1 :] = False  # these windows run into the next row
    at = np.flatnonzero(candidate)
    row = at // n
    match = _windows(z, p)[at] == x[row]
    at, row = at[match], row[match]
    first, count, free_from = np.full(B, -1), np.zeros(B, np.int64), np.zeros(B, np.int64)
    first[row[::-1]] = at[::-1]  # the leftmost is written last
    while at.size:
        leading = np.append(True, row[1:] != row[:-1])
        led = row[leading]
        count[led] += 1
        free_from[led] = at[leading] + p
        apart = at >= free_from[row]
        at, row = at[apart], row[apart]
    return count, first


def _generator(seed: int | np.random.Generator, stream: int) -> np.random.Generator:
    """A generator as it is, or the seed's own for one of this module's independent streams."""
    if isinstance(seed, np.random.Generator):
        return seed
    if seed < 0:
        raise BadRequest(f"seed is {seed}: it must be 0 or more")
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(stream,)))


def _check_positive(**values: object) -> None:
    for name, value in values.items():
        if not isinstance(value, Integral) or value < 1:
            raise BadRequest(f"{name} is {value!r}: it must be a whole number, 1 or more")


def _no_room(task: RewritingTask, rule: Rule, times: int) -> BadRequest:
    return BadRequest(f'in {_MAX_ROUNDS} draws of {task.input_length} letters the left side of "{rule}" never occurred '
                      f"exactly {times} times: use a longer pattern, a larger alphabet or a shorter input")  # fmt: skip
