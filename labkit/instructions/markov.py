"""Whole Markov algorithms (normal algorithms): ordered rewrite rules, applied until they stop.

A. A. Markov's model of computation (Theory of Algorithms, 1954); the rewriting task of arXiv 2402.10891 is
one step of one rule. A step takes the first rule whose left side occurs in the string and replaces the
leftmost occurrence; the run ends after a stop rule, or when no rule applies. The model is Turing-complete, so
nothing tells a long run from an endless one: steps and length are limited instead.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

from labkit.errors import BadRequest, unknown

MAX_LENGTH = 1_000_000  # symbols that a string may grow to
_RULE = re.compile(r"\s*(\S*)\s*->(\.?)\s*(\S*)\s*")


@dataclass(frozen=True)
class Production:
    """One rule. An empty pattern occurs at the start of every string; after a stop rule the run ends."""

    pattern: str
    replacement: str
    stop: bool = False

    def __str__(self) -> str:
        return f"{self.pattern} {'->.' if self.stop else '->'} {self.replacement}".strip()


@dataclass(frozen=True)
class MarkovAlgorithm:
    """Rules in order of precedence."""

    productions: tuple[Production, ...]
    name: str = "<text>"

    def __str__(self) -> str:
        return "\n".join(map(str, self.productions))


@dataclass(frozen=True)
class Step:
    """One step: rule `rule_number` (from 1) replaced its pattern at `position` (from 0) of `before`."""

    rule_number: int
    production: Production
    before: str
    position: int
    after: str


@dataclass(frozen=True)
class Run:
    """A run's outcome: the string it ended with, how many steps it took, and why it ended."""

    algorithm: MarkovAlgorithm
    input: str
    output: str
    steps: int
    halted: Literal["stop", "no rule applies", "limit"]

    @property
    def trace(self) -> Iterator[Step]:
        """The steps one by one, from a replay: a run keeps none, as their strings may not fit into memory."""
        return islice(_steps(self.algorithm, self.input), self.steps)


def parse(text: str, source: str = "<text>") -> MarkovAlgorithm:
    """The algorithm written as one rule per line: `ab -> c`, or `ab ->. c` for a stop rule.

    Either side may be empty, blanks around the arrow are ignored, and `#` starts a comment. Raises BadRequest
    with the source and number of a line that is no rule, or when there is no rule at all.
    """
    productions = []
    for number, line in enumerate(text.split("\n"), start=1):
        rule = line.partition("#")[0]
        sides = _RULE.fullmatch(rule)
        if sides and rule.count("->") == 1:
            pattern, stop, replacement = sides.groups()
            productions.append(Production(pattern, replacement, bool(stop)))
        elif rule.strip():
            raise BadRequest(f'{source}, line {number}: "{line.strip()}" is not a rule: write x -> y, or x ->. y to '
                             "stop, no blanks within a side")  # fmt: skip
    if not productions:
        raise BadRequest(f"{source} holds no rule: write one per line, such as ab -> c")
    return MarkovAlgorithm(tuple(productions), Path(source).stem)


def _steps(algorithm: MarkovAlgorithm, text: str) -> Iterator[Step]:
    """Every step of the run, however long; BadRequest when the string outgrows `MAX_LENGTH` symbols."""
    rules = list(enumerate(algorithm.productions, start=1))
    while applicable := next(((number, rule) for number, rule in rules if rule.pattern in text), None):
        number, rule = applicable
        position = text.index(rule.pattern)
        after = text[:position] + rule.replacement + text[position + len(rule.pattern) :]
        if len(after) > MAX_LENGTH:
            raise BadRequest(f"{algorithm.name} has grown its string beyond {MAX_LENGTH:,} symbols: give it a shorter "
                            "input, or a smaller max_steps if it never stops")  # fmt: skip
        yield Step(number, rule, text, position, after)
        if rule.stop:
            return
        text = after


def run(algorithm: MarkovAlgorithm, text: str, max_steps: int = 10_000, *,
        on_limit: Literal["raise", "return"] = "raise") -> Run:  # fmt: skip
    """Run the algorithm on any string of symbols.

    A run that is not over after max_steps raises BadRequest, or with on_limit="return" is returned as it then
    stands, halted by "limit". BadRequest also when the string outgrows `MAX_LENGTH` symbols.

    >>> run(parse("ab -> ba"), "abab")  # doctest: +ELLIPSIS
    Run(..., input='abab', output='bbaa', steps=3, halted='no rule applies')
    """
    if max_steps < 0:
        raise BadRequest(f"max_steps is {max_steps}: it must be 0 or more")
    if on_limit not in ("raise", "return"):
        raise unknown("on_limit", on_limit, ["raise", "return"])
    output, taken, stopped = text, 0, False
    for step in _steps(algorithm, text):
        if taken == max_steps:
            if on_limit == "return":
                return Run(algorithm, text, output, taken, "limit")
            raise over_limit(algorithm, max_steps)
        output, taken, stopped = step.after, taken + 1, step.production.stop
    return Run(algorithm, text, output, taken, "stop" if stopped else "no rule applies")


def over_limit(algorithm: MarkovAlgorithm, max_steps: int) -> BadRequest:
    """The refusal of a run that is not over after max_steps."""
    return BadRequest(f"{algorithm.name} is not over after {max_steps:,} steps: raise max_steps if it needs more, "
                     "or look at the trace for a loop")  # fmt: skip


def format_trace(run: Run) -> Iterator[str]:
    r"""One line per string of the run: by which rule it goes on and what that replaces, in brackets; why it ended.

    >>> print("\n".join(format_trace(run(parse("ab -> ba"), "aab"))))
        0  rule 1: ab -> ba  a[ab]
        1  rule 1: ab -> ba  [ab]a
        2  no rule applies   baa
    """
    longest = max(len(f"rule {n}: {rule}") for n, rule in enumerate(run.algorithm.productions, start=1))
    width = max(longest, len("no rule applies"))
    for number, step in enumerate(run.trace):
        end = step.position + len(step.production.pattern)
        marked = f"{step.before[: step.position]}[{step.production.pattern}]{step.before[end:]}"
        yield f"{number:>5}  {f'rule {step.rule_number}: {step.production}':<{width}}  {marked}"
    yield f"{run.steps:>5}  {run.halted:<{width}}  {run.output}"


def load(path: str | Path) -> MarkovAlgorithm:
    """The algorithm in a file, named after it; BadRequest when the file cannot be read or parsed."""
    try:
        text = Path(path).read_text("utf-8-sig")
    except OSError as error:
        raise BadRequest(f"cannot read the Markov algorithm {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadRequest(f"cannot read the Markov algorithm {path}: it is not a text file in UTF-8") from None
    return parse(text, str(path))
