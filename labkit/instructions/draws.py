"""How values of instructions are drawn, and read back from a wording: conditions, orders, letters, items of a list."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from random import Random
from typing import Any, NamedTuple

from labkit.instructions.lexicon import CATEGORIES, CONSONANTS, NUMBERS, ORDINALS, WORDS

Values = tuple[Any, ...]
Domain = Mapping[str, Any] | str  # what a value may be: by its text, or any text of a pattern
ITEMS = {"words": WORDS, "numbers": NUMBERS}  # what lists are made of


class Rule(NamedTuple):
    """A condition or an order, such as `are above 30`: its name in `RULES` and its value."""

    name: str
    value: Any

    def __str__(self) -> str:
        return self.name.format(self.value)

    def __call__(self, item: Any) -> Any:
        return RULES[self.name](item, self.value)


RULES: dict[str, Callable[[Any, Any], Any]] = {  # items are words, or numbers as text
    "are even": lambda n, _: int(n) % 2 == 0,
    "are odd": lambda n, _: int(n) % 2 == 1,
    "are above {}": lambda n, value: int(n) > value,
    "are below {}": lambda n, value: int(n) < value,
    "end in {}": lambda item, value: item.endswith(str(value)),
    "start with {}": lambda word, value: word.startswith(value),
    "contain {}": lambda word, value: value in word,
    "have {} letters": lambda word, value: len(word) == value,
    "name {}": lambda word, value: word in CATEGORIES[value],
    "the alphabet": lambda word, _: word,
    "length": lambda word, _: len(word),
    "last letter": lambda word, _: word[-1],
    "{} letter": lambda word, value: word[ORDINALS.index(value)],
    "number of vowels": lambda word, _: sum(map(word.count, "aeiou")),
    "count of {}": lambda word, value: word.count(value),
    "size": lambda n, _: int(n),
    "last digit": lambda n, _: int(n[-1]),
    "digit sum": lambda n, _: sum(map(int, n)),
    "distance from {}": lambda n, value: abs(int(n) - value),
}


class Draw(NamedTuple):
    """How values are drawn together, and how they are read back from a wording.

    Attributes:
        draw: One value, or a tuple of several, from the generator and the level.
        domains: What each may be.
        complete: From the values read, None for those that the wording does not say, to all values; None when they are
            none that could be drawn.
    """

    draw: Callable[[Random, int], Any]
    domains: tuple[Domain, ...]
    complete: Callable[[Values], Values | None] = lambda values: values

    def __call__(self, rng: Random, level: int) -> Any:
        return self.draw(rng, level)


def by_text(values: Iterable[Any]) -> dict[str, Any]:
    return {str(value): value for value in values}


def rules(values: Mapping[str, Sequence[Any]]) -> Draw:
    """Draws a rule by name, then its value."""
    names = list(values)

    def draw(rng: Random, level: int) -> Rule:
        name = rng.choice(names)
        return Rule(name, rng.choice(values[name]))

    return Draw(draw, (by_text(Rule(name, value) for name, some in values.items() for value in some),))


NUMBER_TESTS: dict[str, Sequence[Any]] = {"are even": "-", "are odd": "-", "are above {}": range(15, 95),
                                          "are below {}": range(15, 95), "end in {}": range(10)}  # fmt: skip
WORD_TESTS: dict[str, Sequence[Any]] = {"start with {}": "abcdfghlprst", "end in {}": "defkmnprtwy",
                                        "contain {}": "abcdefhiklmnoprstuvwy", "have {} letters": (3, 4, 5, 6),
                                        "name {}": list(CATEGORIES)}  # fmt: skip
_NUMBER_ORDERS = {"size": "-", "last digit": "-", "digit sum": "-", "distance from {}": range(10, 99)}
_WORD_ORDERS: dict[str, Sequence[Any]] = {"the alphabet": "-", "length": "-", "last letter": "-",
                                          "{} letter": ORDINALS[1:3], "number of vowels": "-",
                                          "count of {}": "abcdefhiklmnoprstuvwy"}  # fmt: skip
TEST_NAMES = {*NUMBER_TESTS, *WORD_TESTS}
TESTS = {"numbers": rules(NUMBER_TESTS), "words": rules(WORD_TESTS)}
ORDERS = {"numbers": rules(_NUMBER_ORDERS), "words": rules(_WORD_ORDERS)}


def string(low: int, high: int) -> Draw:
    return Draw(lambda rng, level: "".join(rng.choices(CONSONANTS, k=rng.randint(low, high))),
                (f"[{CONSONANTS}]{{{low},{high}}}",))  # fmt: skip


def distinct(pool: Sequence[Any], n: int) -> Draw:
    return Draw(lambda rng, level: tuple(rng.sample(pool, n)), (by_text(pool),) * n)


def items(rng: Random, noun: str, n: int, conditions: Sequence[Rule] = ()) -> str:
    """Different words or numbers from 10 to 99; the first meets a test, of the others more than half are meant to."""
    chosen = rng.sample(ITEMS[noun], n)
    for place in range(n):
        if conditions and (place == 0 or rng.random() < 0.5):
            item = rng.choice(_meeting(noun, rng.choice(conditions)))
            chosen[place] = chosen[place] if item in chosen else item
    rng.shuffle(chosen)
    return " ".join(chosen)


@cache
def _meeting(noun: str, test: Rule) -> list[str]:
    return [item for item in ITEMS[noun] if test(item)]


def tests(noun: str, n: int) -> Draw:
    """n tests; the last two meet on some items, and each fails on some that the other takes, or leaves."""

    def draw(rng: Random, level: int) -> Values:
        while True:
            *others, one, two = (TESTS[noun](rng, level) for _ in range(n))
            a, b = set(_meeting(noun, one)), set(_meeting(noun, two))
            if a & b and b - a and len(a | b) < len(ITEMS[noun]):
                return *others, one, two

    return Draw(draw, TESTS[noun].domains * n)
