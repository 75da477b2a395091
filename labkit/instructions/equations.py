"""Equational rules: true identities LHS = RHS, applied at one place inside an expression tree.

The task of "Only-IF" (arXiv 2410.04717, sec. 3): the instruction is a rule over metavariables A to D, the input an
expression that holds one instance of its left side, the answer the same expression with that instance rewritten.
Expressions stand in prefix notation, one symbol per node and no brackets: a² - b² is `-^a^b`, (a + b)(a - b) is
`*+ab-ab`. Depth counts levels, a single letter being 1, so that both have depth 3; that the paper counts alike is our
reading.

Guaranteed: rules are true identities of commutative rings, enumerated without gaps up to a number of symbols per side,
so that the size of a class is known; those that only change the order of operands are left out, since swapping operands
follows them without reading; no polynomial of a training rule is, up to renaming, one of a test rule of the same seed;
the first k of n rules are the k rules drawn alone; the left side matches at exactly one place of an input, which then
is leftmost and outermost. Left open: `equivalent` errs with a probability below 2**-100; inputs may repeat.
"""

import random
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from itertools import chain, islice, permutations, zip_longest
from typing import Literal, NamedTuple, TypeVar

import numpy as np

from labkit.errors import BadRequest

OPERATORS = {"+": 2, "-": 2, "*": 2, "^": 1}  # with their arities; ^ is the square
CONTEXT = "+-*"  # the operators around an instance and in groundings: squares come from rules alone
METAVARIABLES = "ABCD"
LONGEST_SIDE = 8  # symbols: 340,000 expressions over the metavariables, and five times as many for each one more
TEST_SHARE = 0.25  # of all polynomials: only test rules are made of these

_PRIME = 2**127 - 1  # so large that one random point tells polynomials apart
_draw = random.Random(0)
_POINT = {letter: _draw.randrange(_PRIME) for letter in METAVARIABLES + "abcdefghijklmnopqrstuvwxyz"}
_POINT |= {str(digit): digit for digit in range(10)}
_APPLY: dict[str, Callable[..., int]] = {"+": lambda a, b: (a + b) % _PRIME, "-": lambda a, b: (a - b) % _PRIME,
                                         "*": lambda a, b: a * b % _PRIME, "^": lambda a: a * a % _PRIME}  # fmt: skip
T = TypeVar("T")


def fold(expression: str, leaf: Callable[[str], T], node: Callable[[str, list[T]], T]) -> T:
    """An expression evaluated from its leaves up; BadRequest where the text is not one whole expression."""
    stack: list[T] = []
    for symbol in reversed(expression):
        arity = OPERATORS.get(symbol, 0)
        if len(stack) < arity or not (arity or symbol in _POINT):
            break
        stack.append(node(symbol, [stack.pop() for _ in range(arity)]) if arity else leaf(symbol))
    else:
        if len(stack) == 1:
            return stack[0]
    raise BadRequest(f'"{expression}" is not one expression in prefix notation over + - * ^, letters and digits')


def depth(expression: str) -> int:
    """Levels of the tree: 1 for a single symbol."""
    return fold(expression, lambda _: 1, lambda _, below: 1 + max(below))


def infix(expression: str) -> str:
    """The expression as people write it.

    >>> infix("-^a*bc"), infix("*+ab^-ab"), infix("+a+bc")
    ('a² - b·c', '(a + b)·(a - b)²', 'a + (b + c)')
    """

    def node(operator: str, parts: list[tuple[str, int]]) -> tuple[str, int]:  # with how loosely it binds
        loose = {"+": 3, "-": 3, "*": 2, "^": 1}[operator]
        limits = (loose, loose - 1) if len(parts) == 2 else (0,)  # what binds more loosely stands in brackets
        first, *rest = [f"({t})" if by > limit else t for (t, by), limit in zip(parts, limits, strict=True)]
        return f"{first}²" if not rest else f"{first}{'·' if operator == '*' else f' {operator} '}{rest[0]}", loose

    return fold(expression, lambda symbol: (symbol, 0), node)[0]


def equivalent(left: str, right: str) -> bool:
    """Are two expressions equal for all values of their letters?

    Decided by their values at one random point modulo 2**127 - 1 (Schwartz 1980; Zippel 1979): equal polynomials always
    agree, different ones of degree d with probability d / 2**127 at most. An expression of n symbols has a degree below
    2**n, so for up to 26 symbols that is less than 2**-100.
    """
    return _value(left) == _value(right)


def _value(expression: str) -> int:
    return fold(expression, _POINT.__getitem__, lambda operator, below: _APPLY[operator](*below))


@cache
def ordered(expression: str) -> str:
    """The expression with the operands of every + and * in one order: equal for two that differ in that order alone."""
    return fold(expression, str, lambda op, parts: op + "".join(sorted(parts) if op in "+*" else parts))


def swapped(expression: str) -> str:
    """The expression with the operands of its last + or * swapped: an equal form that needs no rule to be found.

    It is the blind baseline of `Equation.equals`. Without such an operator the expression itself.
    """
    at = max(expression.rfind(operator) for operator in "+*")
    if at < 0:
        return expression
    first = _end(expression, at + 1)
    second = _end(expression, first)
    return expression[: at + 1] + expression[first:second] + expression[at + 1 : first] + expression[second:]


class Match(NamedTuple):
    """An instance of a pattern: expression[start:end], and what each metavariable stands for."""

    start: int
    end: int
    grounding: dict[str, str]


@dataclass(frozen=True)
class Equation:
    """The rule `lhs = rhs`; BadRequest for sides that are malformed, rewrite nothing, or are not always equal."""

    lhs: str
    rhs: str

    def __post_init__(self) -> None:
        if self.lhs == self.rhs or self.lhs[:1] not in OPERATORS or not _letters(self.rhs) <= _letters(self.lhs):
            raise BadRequest(f'"{self}" rewrites nothing: give different sides, the right one in letters of the left')
        if not equivalent(self.lhs, self.rhs):
            raise BadRequest(f'"{self}" is no identity: {infix(self.lhs)} and {infix(self.rhs)} differ')

    def __str__(self) -> str:
        return f"{self.lhs} = {self.rhs}"

    def matches(self, expression: str) -> list[Match]:
        """Every place where the left side matches, outermost first and from left to right."""
        starts = (start for start, symbol in enumerate(expression) if symbol == self.lhs[0])
        return [match for start in starts if (match := _match(self.lhs, expression, start))]

    def apply(self, expression: str) -> str:
        """The expression rewritten at the first match, or itself when there is none.

        >>> Equation("-^A^B", "*+AB-AB").apply("+c-^a^d")
        '+c*+ad-ad'
        """
        found = self.matches(expression)
        return self.rewritten(expression, found[0]) if found else expression

    def rewritten(self, expression: str, at: Match) -> str:
        """The expression rewritten at a match."""
        return expression[: at.start] + _grounded(self.rhs, at.grounding) + expression[at.end :]

    def follows(self, expression: str, answer: str) -> bool:
        """Does this answer to an expression with a match follow the rule, up to the order of operands?

        It keeps everything around the first match as it was, and in its place stands the right side's instance, or what
        differs from it in the order of operands of + and * alone; not what stood there before. Looser than equal text,
        stricter than `equals`.
        """
        match, new = self._replaced(expression, answer)
        return new is not None and ordered(new) == ordered(_grounded(self.rhs, match.grounding))

    def equals(self, expression: str, answer: str) -> bool:
        """Is this answer to an expression with a match right to algebra, whatever rule it took?

        It keeps everything around the first match as it was and holds in its place one expression that equals it for
        all values and is another text. To swap operands somewhere in the match will do (`swapped`), so that alone it
        does not tell whether a rule was followed.
        """
        match, new = self._replaced(expression, answer)
        return new is not None and equivalent(new, expression[match.start : match.end])

    def polynomial(self) -> int:
        """A number that two rules share exactly when they speak of one polynomial up to renaming; see `equivalent`."""
        names = ("".join(new) for new in permutations(METAVARIABLES))
        return min(_value(self.lhs.translate(str.maketrans(METAVARIABLES, new))) for new in names)

    def _replaced(self, expression: str, answer: str) -> tuple[Match, str | None]:
        """The first match, and what the answer holds in its place.

        None where it is no new expression, or where all else is not as it was.
        """
        match = self.matches(expression)[0]
        before, old, after = expression[: match.start], expression[match.start : match.end], expression[match.end :]
        new = answer[match.start : len(answer) - len(after)]
        if before + new + after == answer and new != old and not set(new) & set(METAVARIABLES):
            with suppress(BadRequest):  # malformed
                depth(new)
                return match, new
        return match, None


class RuleClass(NamedTuple):
    """Which rules: a seed's split, the longest side (symbols), the left sides' depths; `special` rules hold a square.

    `special` False asks for rules without squares, None for both.
    """

    seed: int
    split: Literal["train", "test"] = "train"
    pattern_length: int = 7
    depths: tuple[int, ...] = (3,)
    special: bool | None = None

    @property
    def capacity(self) -> int:
        """How many rules there are; BadRequest for sides too long to enumerate."""
        return sum(map(len, _rules(self)))

    def check(self, wanted: int, name: str) -> None:
        """BadRequest for fewer rules than `name` asks for; says how many there are, or a depth with enough."""
        if wanted <= self.capacity:
            return
        depths, kind = " or ".join(map(str, self.depths)), "with a square" if self.special else "without squares"
        others = [d for d in range(2, self.pattern_length + 1) if self._replace(depths=(d,)).capacity >= wanted]
        most = f"ask for {self.capacity}" if self.capacity else f"depth {max(others, default='?')}"
        raise BadRequest(
            f"{name} asks for {wanted} {self.split} rules {kind} of depth {depths}, and seed {self.seed} with "
            f"pattern_length = {self.pattern_length} has {self.capacity}: {most} at most"
        )


def draw_equations(rules: RuleClass, n: int) -> list[Equation]:
    """The first n rules of a class, in an order that goes round its polynomials, so that few rules differ most.

    Raises:
        BadRequest: when the class holds fewer.
    """
    if not 0 <= n <= rules.capacity:
        raise BadRequest(f"n = {n}: {rules} holds 0 to {rules.capacity} rules")
    rounds = chain.from_iterable(zip_longest(*_rules(rules)))
    return [Equation(*sides) for sides in islice(filter(None, rounds), n)]


@dataclass(frozen=True)
class InputTask:
    """The settings of the inputs; BadRequest for settings that contradict each other.

    Attributes:
        pattern_length: symbols of a rule's side, at most.
        input_length: symbols of an input, and of an answer, at most.
        expression_depth: levels of an input, at most (more where a single instance needs more).
        grounding_share: the chance that a metavariable stands for an operator over two leaves, not for one leaf.
        leaves: lower-case letters are variables, digits constants; 4 at least, and all different.
    """

    pattern_length: int
    input_length: int
    expression_depth: int
    grounding_share: float
    leaves: str

    def __post_init__(self) -> None:
        if len(set(self.leaves)) < max(len(self.leaves), 4) or not set(self.leaves) <= _POINT.keys() - {*METAVARIABLES}:
            raise BadRequest(f"leaves = {self.leaves!r}: give 4 different lower-case letters or digits at least")
        least = 2 * self.pattern_length + 1 if self.grounding_share else self.pattern_length
        if self.input_length < least:
            raise BadRequest(f"input_length = {self.input_length} is too short for sides of pattern_length = "
                             f"{self.pattern_length} with grounding_share = {self.grounding_share:g}: use {least} at "
                             "least")  # fmt: skip

    def draw(self, rule: Equation, rng: random.Random) -> tuple[str, str]:
        """An expression that the rule rewrites at exactly one place, and the other that it becomes.

        An instance, its metavariables grounded differently, is wrapped in operators towards a random root; each other
        branch is a leaf or, with even odds, an operator over two.
        """

        def branch(share: float) -> str:
            first, second = rng.choices(self.leaves, k=2)
            return rng.choice(CONTEXT) + first + second if rng.random() < share else first

        letters = sorted(_letters(rule.lhs))
        while True:
            grounding = {letter: branch(self.grounding_share) for letter in letters}
            text = _grounded(rule.lhs, grounding)
            for _ in range(rng.randint(0, max(0, self.expression_depth - depth(text)))):
                sides = (branch(0.5), text) if rng.random() < 0.5 else (text, branch(0.5))
                text = rng.choice(CONTEXT) + "".join(sides)
            if len(text) <= self.input_length and len(set(grounding.values())) == len(letters):
                found = rule.matches(text)
                answer = rule.rewritten(text, found[0])
                if answer != text and len(answer) <= self.input_length and len(found) == 1:
                    return text, answer


def generator(seed: int, *stream: int) -> random.Random:
    """Python's generator, which draws single symbols faster than numpy's, for one of a seed's independent streams."""
    state = np.random.SeedSequence(seed, spawn_key=stream).generate_state(8)
    return random.Random(int.from_bytes(state.tobytes(), "little"))


def _letters(pattern: str) -> set[str]:
    return set(pattern) - OPERATORS.keys()


def _grounded(pattern: str, grounding: Mapping[str, str]) -> str:
    return "".join([grounding.get(symbol, symbol) for symbol in pattern])


def _match(pattern: str, expression: str, start: int) -> Match | None:
    """The pattern's instance at a place of a whole expression, if one stands there."""
    grounding: dict[str, str] = {}
    place = start
    for symbol in pattern:
        begin, place = place, place + 1 if symbol in OPERATORS else _end(expression, place)
        found = expression[begin:place]
        if not found or found != (symbol if symbol in OPERATORS else grounding.setdefault(symbol, found)):
            return None
    return Match(start, place, grounding)


def _end(expression: str, start: int) -> int:
    """Where the branch that starts at a place ends, or the text does."""
    place, open_branches = start, 1
    while open_branches and place < len(expression):
        open_branches += OPERATORS.get(expression[place], 0) - 1
        place += 1
    return place


def _renamed(expression: str) -> str:
    """The same with its metavariables named in the order in which they appear."""
    letters = dict.fromkeys(symbol for symbol in expression if symbol not in OPERATORS)
    return _grounded(expression, dict(zip(letters, METAVARIABLES, strict=False)))


@cache
def _polynomials(length: int) -> list[list[tuple[str, list[str]]]]:
    """For each polynomial, up to renaming: the left sides that write it (metavariables in order), with all right sides.

    Every expression of at most `length` symbols over the metavariables is written down, and those of one value are one
    polynomial. Sides with a metavariable that the polynomial does not depend on are left out.
    """
    sized: list[list[tuple[str, int]]] = [[], [(letter, _POINT[letter]) for letter in METAVARIABLES]]
    for size in range(2, length + 1):
        halves = [(sized[left], sized[size - 1 - left]) for left in range(1, size - 1)]
        pairs = [(a, b, value, other) for left, right in halves for a, value in left for b, other in right]
        squares = [("^" + a, _APPLY["^"](value)) for a, value in sized[size - 1]]
        sized.append(squares + [(op + a + b, _APPLY[op](x, y)) for op in CONTEXT for a, b, x, y in pairs])
    alike = defaultdict(list)
    for text, value in (pair for row in sized for pair in row):
        alike[value].append(text)
    found: defaultdict[str, list[tuple[str, list[str]]]] = defaultdict(list)
    for texts in alike.values():
        letters = set.intersection(*map(_letters, texts))
        whole = [text for text in texts if letters and _letters(text) == letters]
        sides = [text for text in whole if len(text) > 1 and _renamed(text) == text]
        if sides and len(whole) > 1:
            found[min(map(_renamed, whole))] += [(side, [text for text in whole if text != side]) for side in sides]
    return [found[key] for key in sorted(found)]


@cache
def _rules(rules: RuleClass) -> list[list[tuple[str, str]]]:
    """A class's rules by polynomial, both in the order in which they are drawn."""
    if not 3 <= rules.pattern_length <= LONGEST_SIDE:
        raise BadRequest(f"pattern_length = {rules.pattern_length}: a side may have 3 to {LONGEST_SIDE} symbols")
    polynomials, pools = _polynomials(rules.pattern_length), []
    order = np.random.default_rng(np.random.SeedSequence(rules.seed, spawn_key=(0,))).permutation(len(polynomials))
    tests = round(TEST_SHARE * len(order))
    for number in order[:tests] if rules.split == "test" else order[tests:]:
        sides = [(lhs, rhs) for lhs, others in polynomials[number] if depth(lhs) in rules.depths for rhs in others]
        sides = [(lhs, rhs) for lhs, rhs in sides if ordered(lhs) != ordered(rhs)]
        pool = [(lhs, rhs) for lhs, rhs in sides if rules.special in (None, "^" in lhs + rhs)]
        generator(rules.seed, 1, int(number)).shuffle(pool)
        pools += [pool] * bool(pool)
    return pools


TEXTBOOK = {"difference of squares": Equation("-^A^B", "*+AB-AB")}  # for a first look
