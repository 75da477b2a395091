"""What the general families are made of: a lexicon, conditions and orders, and instructions given as tables of steps.

A family is a table of kinds, a kind a row of pools of steps; an instruction settles a step of each pool and its values.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from itertools import chain
from random import Random
from typing import Any, NamedTuple

from labkit.errors import BadRequest
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
ROLES = _split("sailor miller baker king queen pilot farmer doctor")
CRIES = _split("ahoy aha oho alas hooray amen indeed oyez")
CONSONANTS = "bcdfghjklmnpqrstvwxz"
LETTERS = "abcdefghijklmnopqrstuvwxyz"
NUMBERS = [str(number) for number in range(10, 100)]
MARKS = ",;:/|-+=&#~*!%@^"
YES_NO = ("yes", "no")

Values = tuple[Any, ...]
Fact = tuple[str, str, str]
Domain = Mapping[str, Any] | str  # what a value may be: by its text, or any text of a pattern


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
TESTS = {"numbers": rules(NUMBER_TESTS), "words": rules(WORD_TESTS)}
ORDERS = {
    "numbers": rules({"size": "-", "last digit": "-", "digit sum": "-", "distance from {}": range(10, 99)}),
    "words": rules(
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
    """One operation.

    Attributes:
        texts: Its wordings, with places for values.
        values: How these are drawn.
        do: What it does: from what is given and the values to the result.
        domains: What each value may be.
        complete: See `Draw`.
        work: From the same as `do` to lines that lead to the result, where one step hides several.
        options: From the same to the choices of a closed question.
    """

    texts: tuple[str, ...]
    values: Callable[[Random, int], Values]
    do: Callable[..., Any]
    domains: tuple[Domain, ...]
    complete: Callable[[Values], Values | None]
    work: Callable[..., Sequence[str]] = lambda *_: ()
    options: Callable[..., tuple[str, ...]] = lambda *_: ()

    @property
    def wordings(self) -> tuple[str, ...]:
        """The texts in use."""
        return self.texts[:8]


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
        return self.settle(number, [(i, pool[i].values(rng, level)) for i, pool in zip(chosen, pools, strict=True)])

    def settle(self, number: int, settled: Sequence[tuple[int, Values]]) -> Instruction:
        """The instruction of a kind with a step of each pool, by its number there, and the step's values."""
        pools = self.kinds[number].pools
        texts = [
            [text.format(*values) for text in pool[i].wordings]
            for (i, values), pool in zip(settled, pools, strict=True)
        ]
        key = ", then ".join(wordings[0] for wordings in texts)
        return Instruction(f"{self.name}: {key}", combined(texts), (number, tuple(settled)), key)

    def input(self, instruction: Instruction, rng: Random, level: int) -> str:
        """See `Family`."""
        number, settled = instruction.setting
        return self.kinds[number].input(rng, level, [values for _, values in settled])

    def answer(self, instruction: Instruction, text: str) -> str:
        """See `Family`: the steps, carried out one after the other.

        Raises:
            BadRequest: for a text that is no input of this instruction, so far as that shows.
        """
        return self._lines(instruction, text, work=False)[-1]

    def worked(self, instruction: Instruction, text: str) -> str:
        """See `Family`: what there is after every step; raises as `answer` does."""
        return "\n".join(self._lines(instruction, text, work=True))

    def options(self, instruction: Instruction, text: str) -> tuple[str, ...]:
        """See `Family`; only requests of a single step are closed."""
        (step, values), *more = self._steps(instruction)
        return () if more else step.options(self.kinds[instruction.setting[0]].read(text), *values)

    def wrong(self, instruction: Instruction, text: str, rng: Random) -> str:
        """See `Family`: the answer to another request of the kind, or the right one with one thing changed."""
        number, settled = instruction.setting
        kind, right = self.kinds[number], self.answer(instruction, text)
        if rng.random() < 0.5:
            other = [(i, pool[i].values(rng, kind.levels[0])) for (i, _), pool in zip(settled, kind.pools, strict=True)]
            with suppress(BadRequest):  # the text may say nothing of the other's values
                if (found := self.answer(self.settle(number, other), text)) not in ("", right):
                    return found
        return perturbed(right, text, rng)

    def _lines(self, instruction: Instruction, text: str, work: bool) -> list[str]:
        kind, lines = self.kinds[instruction.setting[0]], list[str]()
        try:
            value = kind.read(text)
            for step, values in self._steps(instruction):
                lines += step.work(value, *values) if work else ()
                value = step.do(value, *values)
                lines.append(kind.show(value))
        except (LookupError, RuntimeError, StopIteration, ValueError):
            raise BadRequest(f"'{instruction.composition}' cannot be carried out on {text!r} ({self.name})") from None
        return lines

    def _steps(self, instruction: Instruction) -> Iterator[tuple[Step, Values]]:
        number, settled = instruction.setting
        return ((pool[i], values) for (i, values), pool in zip(settled, self.kinds[number].pools, strict=True))


_ALIKE: list[Sequence[str]] = [*CATEGORIES.values(), NAMES, WEEKDAYS, _MONTHS, _HIGH, _LOW, YES_NO]
_ALIKE += [ROLES, CRIES, list(CATEGORIES), "0123456789", CONSONANTS, LETTERS, MARKS]
_KNOWN = {word for words in _ALIKE for word in words}
_PART = re.compile(r"\b(?:" + "|".join(word for word in _KNOWN if len(word) > 1) + r")\b|\S")


def perturbed(answer: str, text: str, rng: Random) -> str:
    """An answer with a word, letter, digit or mark changed for one of its kind, of the text's where it has some."""
    parts = [part for part in _PART.finditer(answer) if part[0] in _KNOWN]
    words = [part for part in parts if len(part[0]) > 1]
    if not parts:
        return answer + rng.choice(LETTERS)
    old = rng.choice(words or parts)
    others = [one for one in next(some for some in _ALIKE if old[0] in some) if one != old[0]]
    given = [one for one in _PART.findall(text) if one in others]
    new = rng.choice(given if given and rng.random() < 0.7 else others)
    return answer[: old.start()] + new + answer[old.end() :]


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


def step_of(
    template: str,
    do: Callable[..., Any],
    *values: Sequence[Any] | Draw,
    work: Callable[..., Sequence[str]] = lambda *_: (),
    options: Callable[..., tuple[str, ...]] = lambda *_: (),
) -> Step:
    """A step; each value is drawn from a sequence, or by a `Draw`; one `Draw` of a tuple draws all values together."""

    def draw(rng: Random, level: int) -> Values:
        drawn = tuple(one(rng, level) if isinstance(one, Draw) else rng.choice(one) for one in values)
        return drawn[0] if len(drawn) == 1 and type(drawn[0]) is tuple else drawn

    domains = [one.domains if isinstance(one, Draw) else (by_text(one),) for one in values]
    complete = values[0].complete if len(values) == 1 and isinstance(values[0], Draw) else lambda values: values
    texts = phrasings(re.sub("<([a-z]+)>", lambda name: f"[{SYNONYMS[name[1]]}]", template))
    return Step(texts, draw, do, tuple(chain(*domains)), complete, work, options)


def draw_string(low: int, high: int) -> Draw:
    return Draw(
        lambda rng, level: "".join(rng.choices(CONSONANTS, k=rng.randint(low, high))),
        (f"[{CONSONANTS}]{{{low},{high}}}",),
    )


def draw_distinct(pool: Sequence[Any], n: int) -> Draw:
    return Draw(lambda rng, level: tuple(rng.sample(pool, n)), (by_text(pool),) * n)


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


def draw_tests(noun: str, n: int) -> Draw:
    """n tests; the last two meet on some items, and each fails on some that the other takes, or leaves."""

    def draw(rng: Random, level: int) -> Values:
        while True:
            *others, one, two = (TESTS[noun](rng, level) for _ in range(n))
            a, b = set(_meeting(noun, one)), set(_meeting(noun, two))
            if a & b and b - a and len(a | b) < len(WORDS if noun == "words" else NUMBERS):
                return *others, one, two

    return Draw(draw, TESTS[noun].domains * n)
