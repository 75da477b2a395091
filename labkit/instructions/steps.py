"""What the general families are made of: a lexicon, conditions and orders, and instructions given as tables of steps.

A family is a table of kinds, a kind a row of pools of steps; an instruction settles a step of each pool and its values.
"""

import re
from collections.abc import Callable, Sequence
from functools import cache
from random import Random
from typing import Any, NamedTuple

from labkit.instructions.family import Family, Instruction, TaskType, combined, phrasings

# Words, indentations, the operators of code, single letters, digits and marks.
PIECE = re.compile(r"[a-z]*[aeiouy][a-z]*|\n *|(?<= )[^\w\s]{2}(?= )|\S")


def _split(text: str) -> list[str]:
    return text.split()


CATEGORIES = {
    "animals": _split("cat dog fox horse lion mouse sheep wolf"),
    "foods": _split("apple bread cheese lemon onion plum rice soup"),
    "colours": _split("black blue brown green pink red white yellow"),
    "tools": _split("axe brush hammer knife rope saw shovel spoon"),
    "clothes": _split("belt boot coat dress glove hat scarf shirt"),
    "towns": _split("berlin cairo lima london oslo paris rome tokyo"),
    "plants": _split("daisy fern ivy oak pine rose tulip willow"),
    "vehicles": _split("bike boat bus car plane ship train truck"),
}
WORDS = [word for words in CATEGORIES.values() for word in words]
NAMES = _split("anna ben clara david emma frank greta hans ida jack kate leo maria nina otto paul rosa sam tom vera")
_TOLD = {"like": "foods", "visit": "towns", "wear": "colours"}  # with the category of the things they go with
_TOLD_WITH_THE = {"feed": "animals", "drive": "vehicles", "water": "plants", "need": "tools"}
THINGS = {verb: CATEGORIES[category] for verb, category in _TOLD.items()}
THINGS |= {verb: [f"the {word}" for word in CATEGORIES[category]] for verb, category in _TOLD_WITH_THE.items()}
_HIGH = _split("taller older faster richer heavier stronger")
_LOW = _split("shorter younger slower poorer lighter weaker")
OPPOSITES = dict(zip(_HIGH + _LOW, _LOW + _HIGH, strict=True))
_MONTHS = _split("january february march april may june july august september october november december")
MONTHS = dict(zip(_MONTHS, (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31), strict=True))
DATES = [f"{month} {day}" for month, days in MONTHS.items() for day in range(1, days + 1)]
WEEKDAYS = _split("monday tuesday wednesday thursday friday saturday sunday")
ORDINALS = ("first", "second", "third", "fourth", "fifth")
CONSONANTS = "bcdfghjklmnpqrstvwxz"
LETTERS = "abcdefghijklmnopqrstuvwxyz"
NUMBERS = [str(number) for number in range(10, 100)]
MARKS = ",;:/|-+=&#~*!%@^"

Values = tuple[Any, ...]
Fact = tuple[str, str, str]


class Rule(NamedTuple):
    """A condition or an order, such as `are above 30`: its name in `RULES` and its value."""

    name: str
    value: Any

    def __str__(self) -> str:
        return self.name.format(self.value)

    def __call__(self, item: Any) -> Any:
        return RULES[self.name](item, self.value)


def _vowels(word: str) -> int:
    return sum(letter in "aeiou" for letter in word)


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
    "number of vowels": lambda word, _: _vowels(word),
    "count of {}": lambda word, value: word.count(value),
    "size": lambda n, _: int(n),
    "last digit": lambda n, _: int(n[-1]),
    "digit sum": lambda n, _: sum(map(int, n)),
    "distance from {}": lambda n, value: abs(int(n) - value),
}


def _rules(values: dict[str, Sequence[Any]]) -> Callable[[Random, int], Rule]:
    """Draws a rule by name, then its value."""
    names = list(values)

    def draw(rng: Random, level: int) -> Rule:
        name = rng.choice(names)
        return Rule(name, rng.choice(values[name]))

    return draw


NUMBER_TESTS: dict[str, Sequence[Any]] = {
    "are even": "-",
    "are odd": "-",
    "are above {}": range(15, 95),
    "are below {}": range(15, 95),
    "end in {}": range(10),
}
WORD_TESTS: dict[str, Sequence[Any]] = {
    "start with {}": "abcdfghlprst",
    "end in {}": "defkmnprtwy",
    "contain {}": "abcdefhiklmnoprstuvwy",
    "have {} letters": (3, 4, 5, 6),
    "name {}": list(CATEGORIES),
}
TEST_NAMES = {*NUMBER_TESTS, *WORD_TESTS}
TESTS = {"numbers": _rules(NUMBER_TESTS), "words": _rules(WORD_TESTS)}
ORDERS = {
    "numbers": _rules({"size": "-", "last digit": "-", "digit sum": "-", "distance from {}": range(10, 99)}),
    "words": _rules(
        {
            "the alphabet": "-",
            "length": "-",
            "last letter": "-",
            "{} letter": ORDINALS[1:3],
            "number of vowels": "-",
            "count of {}": "abcdefhiklmnoprstuvwy",
        }
    ),
}


class Step(NamedTuple):
    """One operation: its wordings with places for values, how values are drawn, and what it does."""

    texts: tuple[str, ...]
    values: Callable[[Random, int], Values]
    do: Callable[..., Any]


Pool = tuple[Step, ...]
Input = Callable[[Random, int, list[Values]], str]  # from the level and the steps' values


class Kind(NamedTuple):
    """Requests of one shape: a step of each pool in turn, with what draws, reads and shows their values."""

    levels: tuple[int, ...]
    pools: tuple[Pool, ...]
    input: Input
    read: Callable[[str], Any] = str.split
    show: Callable[[Any], str] = " ".join


class StepFamily(Family):
    """A family given as a table of kinds."""

    def __init__(self, name: str, task_type: TaskType, *kinds: Kind) -> None:
        self.name, self.task_type, self.kinds = name, task_type, kinds
        self._at = {level: [i for i, kind in enumerate(kinds) if level in kind.levels] for level in (1, 2, 3)}

    def instruction(self, rng: Random, level: int) -> Instruction:
        """See `Family`; the setting is the kind's number and what is settled for each pool."""
        number = rng.choice(self._at[level])
        pools = self.kinds[number].pools
        chosen = [rng.randrange(len(pool)) for pool in pools]
        settled = tuple((i, pool[i].values(rng, level)) for i, pool in zip(chosen, pools, strict=True))
        texts = [
            [text.format(*values) for text in pool[i].texts[:8]]
            for (i, values), pool in zip(settled, pools, strict=True)
        ]
        key = ", then ".join(wordings[0] for wordings in texts)
        return Instruction(f"{self.name}: {key}", combined(texts), (number, settled), key)

    def input(self, instruction: Instruction, rng: Random, level: int) -> str:
        """See `Family`."""
        number, settled = instruction.setting
        return self.kinds[number].input(rng, level, [values for _, values in settled])

    def answer(self, instruction: Instruction, text: str) -> str:
        """See `Family`: the steps, carried out one after the other."""
        number, settled = instruction.setting
        kind = self.kinds[number]
        value = kind.read(text)
        for (i, values), pool in zip(settled, kind.pools, strict=True):
            value = pool[i].do(value, *values)
        return kind.show(value)


SYNONYMS = {
    "find": "find|tell|say|give",
    "keep": "keep|take|pick|give",
    "put": "put|set|write|add",
    "drop": "drop|remove|delete|cut",
    "sort": "sort|order|arrange|rank",
    "join": "join|connect|link|glue",
    "answer": "answer|write|say|print",
    "move": "move|bring|shift|send",
    "double": "double|repeat|duplicate|copy",
}


def step_of(template: str, do: Callable[..., Any], *values: Any) -> Step:
    """A step; each value is drawn from a sequence, or by a function of the generator and the level.

    One function that returns a tuple draws all values together.
    """

    def draw(rng: Random, level: int) -> Values:
        drawn = tuple(one(rng, level) if callable(one) else rng.choice(one) for one in values)
        return drawn[0] if len(drawn) == 1 and type(drawn[0]) is tuple else drawn

    return Step(phrasings(re.sub("<([a-z]+)>", lambda name: f"[{SYNONYMS[name[1]]}]", template)), draw, do)


def draw_string(low: int, high: int) -> Callable[[Random, int], str]:
    return lambda rng, level: "".join(rng.choices(CONSONANTS, k=rng.randint(low, high)))


def draw_distinct(pool: Sequence[Any], n: int) -> Callable[[Random, int], Values]:
    return lambda rng, level: tuple(rng.sample(pool, n))


def draw_items(rng: Random, noun: str, n: int, tests: Sequence[Rule] = ()) -> str:
    """Different words or numbers from 10 to 99; the first meets a test, of the others more than half are meant to."""
    pool = WORDS if noun == "words" else NUMBERS
    items = rng.sample(pool, n)
    for place in range(n):
        if tests and (place == 0 or rng.random() < 0.5):
            item = rng.choice(_meeting(noun, rng.choice(tests)))
            items[place] = items[place] if item in items else item
    rng.shuffle(items)
    return " ".join(items)


@cache
def _meeting(noun: str, test: Rule) -> list[str]:
    return [item for item in (WORDS if noun == "words" else NUMBERS) if test(item)]


def draw_tests(noun: str, n: int) -> Callable[[Random, int], Values]:
    """n tests; the last two meet on some items, and each fails on some that the other takes, or leaves."""

    def draw(rng: Random, level: int) -> Values:
        while True:
            *others, one, two = (TESTS[noun](rng, level) for _ in range(n))
            a, b = set(_meeting(noun, one)), set(_meeting(noun, two))
            if a & b and b - a and len(a | b) < len(WORDS if noun == "words" else NUMBERS):
                return *others, one, two

    return draw
