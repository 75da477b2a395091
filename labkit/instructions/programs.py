"""Programs of several rewriting rules: the answer is the text after n steps, or when no rule applies any more.

A program is a Markov algorithm (`labkit.instructions.markov`) of R rules x -> y with |x| = |y|: a step takes the first
rule whose x occurs and rewrites the leftmost x. Its rules are the links of a chain s0 -> s1 -> ... -> sR, so that each
rewrites what another wrote, and they stand in the program in a random order. No paper has this task: it continues the
task of arXiv 2402.10891 (one rule, one step) along two dials, rules per program and steps.

Guaranteed: programs are distinct; under one seed no link of a training program is a link of a test program, and the
first k of n programs are the k programs drawn alone; every run takes the steps asked, or halts within them: what
does not is drawn again, never cut off; the order of the rules decides the answer of exactly the share of inputs asked
(`Runs.ordered`), and of the others it does not. Left open: how often one rule rewrites letters that another wrote
is counted (`Runs.rewritten`), not prescribed; two inputs of one program may be equal by chance.

`run_programs` runs many programs at once; `labkit.instructions.markov.run` is its oracle.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from labkit.errors import BadRequest
from labkit.instructions.markov import MarkovAlgorithm, Production
from labkit.instructions.rewriting import Codes, RewritingTask, Split, decode, draw_rules

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

_MAX_ROUNDS = 1_000  # redraws of an input before its program is refused
_ORDER = 7  # the stream of a seed, beside those of `rewriting`, that shuffles the rules of programs
_SPARE = 1.2, 64  # chains drawn for every program wanted, and on top: chains that close are left out


@dataclass(frozen=True)
class ProgramTask:
    """The settings of the task; BadRequest for settings that contradict each other.

    Attributes:
        rules: R, the rules of a program.
        steps: the steps from the input to the answer; with `halts`, the most there are.
        pattern_length: p, letters of x and of y.
        input_length: letters of the input and of every text of its run.
        halts: the answer is the text that no rule applies to.
        fewest: with `halts`, the fewest steps.
        order_share: the share of inputs, 0 to 1, whose answer the order of the rules decides: to rewrite the leftmost
            x of any rule at every step would lead elsewhere. It is not asked of one rule, which has no order, nor with
            `halts`: a chain ends in the same text in nearly any order.
        alphabet: 2 to 64 different symbols.
    """

    rules: int
    steps: int
    pattern_length: int
    input_length: int
    halts: bool = False
    fewest: int = 1
    order_share: float = 0.3
    alphabet: str = "abcdefghijkl"

    def __post_init__(self) -> None:
        n, p, R = self.input_length, self.pattern_length, self.rules
        _ = self.rewriting  # which checks its own settings
        for name in ("rules", "steps", "fewest"):
            if getattr(self, name) < 1:
                raise BadRequest(f"{name} is {getattr(self, name)!r}: it must be 1 or more")
        if not 0 <= self.order_share <= 1:
            raise BadRequest(f"order_share is {self.order_share!r}: it must be a number from 0 to 1")
        places = n // p
        most = places if self.asks_order else places * R
        if (self.fewest if self.halts else self.steps) > most:
            raise BadRequest(f"{self.steps} steps of {R} rules with pattern_length {p} have no room in input_length "
                             f"{n}: use {most} steps at most")  # fmt: skip
        if self.halts and self.fewest > self.steps:
            raise BadRequest(f"fewest is {self.fewest}: use steps = {self.steps} at most")
        if self.asks_order and places < 2:
            raise BadRequest(f"{R} rules have no order in input_length {n}: use {2 * p} or more, or order_share 0")

    @property
    def rewriting(self) -> RewritingTask:
        """The task that the rules are drawn for."""
        return RewritingTask(self.pattern_length, self.input_length, alphabet=self.alphabet)

    @property
    def asks_order(self) -> bool:
        """Is a share of inputs asked whose answer the order of the rules decides?"""
        return self.rules > 1 and not self.halts and self.order_share > 0


@dataclass(frozen=True, eq=False)
class Programs:
    """n programs as symbol codes: x and y are uint8 [n, R, p], rules in their order."""

    x: Codes
    y: Codes
    alphabet: str

    def __len__(self) -> int:
        return len(self.x)

    def algorithm(self, i: int) -> MarkovAlgorithm:
        """Program i, for `labkit.instructions.markov`."""
        sides = ([decode(side, self.alphabet) for side in codes[i]] for codes in (self.x, self.y))
        return MarkovAlgorithm(tuple(Production(x, y) for x, y in zip(*sides, strict=True)))

    def text(self, i: int) -> str:
        """Program i as the letters of its rules, x before y: 2 p R symbols."""
        return decode(np.stack([self.x[i], self.y[i]], 1).ravel(), self.alphabet)


class Runs(NamedTuple):
    """N runs.

    Attributes:
        input: uint8 [N, input_length].
        output: uint8 [N, input_length].
        steps: steps taken, [N].
        halted: bool [N]: no rule applies to the output.
        rewritten: bool [N]: some step rewrote a letter that an earlier step wrote.
        ordered: bool [N]: the order of the rules decides the output, see `ProgramTask.order_share`.
    """

    input: Codes
    output: Codes
    steps: Ints
    halted: Flags
    rewritten: Flags
    ordered: Flags


def draw_programs(task: ProgramTask, n: int, *, seed: int, split: Split = "train") -> Programs:
    """The first n programs of a split's endless stream, made of rules that `draw_rules` draws from the split.

    The first of R consecutive rules gives s0 -> s1, the others their right sides; chains in which a text comes twice
    are left out, since their runs need not end. BadRequest if the split holds fewer programs; it says how many.
    """
    if n < 1:
        raise BadRequest(f"n is {n}: it must be a whole number, 1 or more")
    R, p = task.rules, task.pattern_length
    wanted = R * int(n * _SPARE[0] + _SPARE[1])
    most = task.rewriting.capacity(split, seed)
    while True:
        rules = draw_rules(task.rewriting, max(1, min(wanted, most)), seed=seed, split=split)
        chains = len(rules) // R
        x, y = (side[: chains * R].reshape(chains, R, p) for side in (rules.x, rules.y))
        links = np.concatenate([x[:, :1], y], axis=1)
        equal = (links[:, :, None] == links[:, None]).all(-1).sum((1, 2))
        open_ = np.flatnonzero(equal == R + 1)[:n]  # a link equals itself alone
        if len(open_) == n:
            break
        if wanted >= most:
            raise BadRequest(f"n is {n}, but the {split} split holds {len(open_)} programs of {R} rules of "
                             f"pattern_length {p} over {len(task.alphabet)} symbols: use {len(open_)} at most, or "
                             "longer patterns")  # fmt: skip
        wanted *= 2
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_ORDER, int(split == "test"))))
    order = np.argsort(rng.random((chains, R)), axis=1)[open_, :, None]
    x, y = (np.take_along_axis(side[open_], order, 1) for side in (links[:, :-1], links[:, 1:]))
    return Programs(x, y, task.alphabet)


def run_programs(programs: Programs, index: Ints, inputs: Codes, limit: int) -> Runs:
    """Run program index[i] on inputs[i], uint8 [N, n], until it halts or has taken `limit` steps."""
    output, steps, halted, rewritten = _run(programs, index, inputs, limit, by_rule=True)
    elsewhere = _run(programs, index, inputs, limit, by_rule=False)[0]
    return Runs(inputs, output, steps, halted, rewritten, (output != elsewhere).any(1))


def _run(programs: Programs, index: Ints, inputs: Codes, limit: int, by_rule: bool) -> tuple[Codes, Ints, Flags, Flags]:
    """Output, steps, halted and rewritten; `by_rule` False takes the leftmost x of any rule instead."""
    (N, n), (_, R, p) = inputs.shape, programs.x.shape
    z, steps, halted = inputs.copy(), np.zeros(N, np.int64), np.zeros(N, np.bool_)
    written, rewritten = np.zeros(z.shape, np.bool_), np.zeros(N, np.bool_)
    live = np.arange(N)
    for step in range(limit + 1):
        x = programs.x[index[live]]
        match = np.ones((len(live), R, n - p + 1), np.bool_)
        for letter in range(p):
            match &= z[live, None, letter : n - p + 1 + letter] == x[:, :, letter, None]
        applies = match.any((1, 2))
        halted[live[~applies]] = True
        live, match = live[applies], match[applies]
        if step == limit or not live.size:
            break
        axis = 2 if by_rule else 1  # the first rule that applies, or the first place where one does
        first, rows = match.any(axis).argmax(1), np.arange(len(live))
        rule, at = (first, match[rows, first].argmax(1)) if by_rule else (match[rows, :, first].argmax(1), first)
        place = live[:, None], at[:, None] + np.arange(p)
        rewritten[live] |= written[place].any(1)
        written[place] = True
        z[place] = programs.y[index[live], rule]
        steps[live] += 1
    return z, steps, halted, rewritten


def draw_runs(task: ProgramTask, programs: Programs, index: Ints, *, seed: int | np.random.SeedSequence) -> Runs:
    """A run for each program number in index [N], in its order.

    Into uniform letters one to n // p left sides of the program are planted, at uniform places that do not overlap;
    what the run then is, is found by running it. BadRequest when chance never gives a program the run asked for.
    """
    return able_runs(task, programs, index, seed=seed, partly=False)[1]


def able_runs(
    task: ProgramTask, programs: Programs, index: Ints, *, seed: int | np.random.SeedSequence, partly: bool
) -> tuple[Ints, Runs]:
    """The same; `partly` leaves out programs without such runs, unless all are: the numbers that are left, and runs."""
    rng = np.random.default_rng(seed)
    N = index.size
    ordered = rng.permutation(N) < round(task.order_share * N)
    pending, kept = np.arange(N), list[tuple[Ints, Runs]]()
    for _ in range(_MAX_ROUNDS):
        numbers = index[pending]
        runs = run_programs(programs, numbers, _planted(task, programs.x[numbers], rng), task.steps)
        right = runs.halted & (runs.steps >= task.fewest) if task.halts else runs.steps == task.steps
        if task.asks_order:
            right &= runs.ordered == ordered[pending]
        kept.append((pending[right], Runs._make(column[right] for column in runs)))
        pending = pending[~right]
        if not pending.size:
            break
    rows = np.concatenate([rows for rows, _ in kept])
    order = np.argsort(rows)
    able = order[~np.isin(index[rows[order]], index[pending])]
    if pending.size and not (partly and able.size):
        program = str(programs.algorithm(int(index[pending[0]]))).replace("\n", ", ")
        raise BadRequest(f'in {_MAX_ROUNDS} draws no input gave "{program}" the run asked for: use a longer input')
    columns = zip(*(runs for _, runs in kept), strict=True)
    return index[rows[able]], Runs._make(np.concatenate(column)[able] for column in columns)


def _planted(task: ProgramTask, x: Codes, rng: np.random.Generator) -> Codes:
    """Uniform letters [B, n] with one or more of the left sides x [B, R, p] planted."""
    (B, R, p), n = x.shape, task.input_length
    z = rng.integers(len(task.alphabet), size=(B, n), dtype=np.uint8)
    counts = rng.integers(1, n // p + 1, size=B)
    for count in range(1, n // p + 1):
        rows = np.flatnonzero(counts == count)
        free = rng.random((rows.size, n - count * (p - 1))).argsort(1)[:, :count]  # each x as one symbol
        places = np.sort(free, 1) + np.arange(count) * (p - 1)
        chosen = rng.integers(R, size=(rows.size, count))
        z[rows[:, None, None], places[..., None] + np.arange(p)] = x[rows[:, None], chosen]
    return z
