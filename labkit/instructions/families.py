"""General instruction families: everyday requests of ten kinds, each with its oracle, three levels and held-out keys.

    rewriting       a rule applied to a string         sorting         letters, words, numbers by many orders
    counting        what meets conditions              arithmetic      an operation with settled numbers, by digits
    dates           days, weekdays, formats            editing         words of a line moved, dropped, replaced
    reading         questions on a given passage       deduction       comparisons chained
    classification  labels that the request defines    formatting      marks, pairs, numbering

An instruction is a few *steps* with settled values, each in several wordings; the key is its canonical text. Levels
differ in the number of steps and in the length of inputs.

Guaranteed: text is lower-case ASCII on one line; strings of random letters hold no vowel, and words always do, so that
no string is ever mistaken for a word (`PIECE` splits text into words, single letters, digits and marks); years have
365 days; sorting keeps ties in their order. Left open: two keys of a family may ask for the same thing (dropping word
1 twice, dropping words 1 and 2); functions closes that for code alone. Capital letters do not occur.
"""

import re
from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise, permutations
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


def _step(template: str, do: Callable[..., Any], *values: Any) -> Step:
    """A step; each value is drawn from a sequence, or by a function of the generator and the level.

    One function that returns a tuple draws all values together.
    """

    def draw(rng: Random, level: int) -> Values:
        drawn = tuple(one(rng, level) if callable(one) else rng.choice(one) for one in values)
        return drawn[0] if len(drawn) == 1 and type(drawn[0]) is tuple else drawn

    return Step(phrasings(re.sub("<([a-z]+)>", lambda name: f"[{SYNONYMS[name[1]]}]", template)), draw, do)


def _string(low: int, high: int) -> Callable[[Random, int], str]:
    return lambda rng, level: "".join(rng.choices(CONSONANTS, k=rng.randint(low, high)))


def _distinct(pool: Sequence[Any], n: int) -> Callable[[Random, int], Values]:
    return lambda rng, level: tuple(rng.sample(pool, n))


def _items(rng: Random, noun: str, n: int, tests: Sequence[Rule] = ()) -> str:
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


def _tests(noun: str, n: int) -> Callable[[Random, int], Values]:
    """n tests; the last two meet on some items, and each fails on some that the other takes, or leaves."""

    def draw(rng: Random, level: int) -> Values:
        while True:
            *others, one, two = (TESTS[noun](rng, level) for _ in range(n))
            a, b = set(_meeting(noun, one)), set(_meeting(noun, two))
            if a & b and b - a and len(a | b) < len(WORDS if noun == "words" else NUMBERS):
                return *others, one, two

    return draw


# Rewriting


def _replace(text: str, which: str, x: str, y: str) -> str:
    if which == "every":
        return text.replace(x, y)
    before, found, after = text.partition(x) if which == "first" else text.rpartition(x)
    return before + (y if found else "") + after


def _rewrite(low: int, high: int) -> Step:
    return _step(
        '[replace the {0} "{1}" by "{2}"|change the {0} "{1}" to "{2}"|turn the {0} "{1}" into "{2}"|'
        'put "{2}" in place of the {0} "{1}"|write "{2}" for the {0} "{1}"]',
        _replace,
        ("first", "last", "every"),
        _string(low, high),
        _string(high, high + 1),
    )


def _planted(rng: Random, level: int, steps: list[Values]) -> str:
    """Random letters that hold the left side of each rule, mostly twice."""
    parts = [x for _, x, _ in steps for _ in range(rng.choice((1, 2, 2)))]
    parts += rng.choices(CONSONANTS, k=max(2, (7, 10, 13)[level - 1] - len("".join(parts))))
    rng.shuffle(parts)
    return "".join(parts)


def _rewriting(level: int, *steps: Step) -> Kind:
    return Kind((level,), tuple((step,) for step in steps), _planted, str, str)


# Sorting


def _sort(noun: str) -> Step:
    return _step(
        f"<sort> {noun} by {{0}}, {{1}}",
        lambda items, order, way: sorted(items, key=order, reverse=way == "descending"),
        ORDERS[noun],
        ("ascending", "descending"),
    )


def _filter(noun: str) -> Step:
    return _step(
        f"<keep> {noun} that {{0}}",
        lambda items, test: [item for item in items if test(item)],
        TESTS[noun],
    )


def _only(items: list[str], ordinal: str) -> list[str]:
    place = ORDINALS.index(ordinal)
    return items[place : place + 1]


def _without(items: list[str], ordinal: str) -> list[str]:
    place = ORDINALS.index(ordinal)
    return items[:place] + items[place + 1 :]


TAKE = (
    _step("<keep> the first {0}", lambda items, n: items[:n], (2, 3, 4)),
    _step("<keep> the last {0}", lambda items, n: items[-n:], (2, 3, 4)),
    _step("<drop> the {0}", _without, ORDINALS[:4]),
    _step("<keep> only the {0}", _only, ORDINALS[:3]),
)
LETTER_SORT = _step(
    "<sort> the letters by the order {0}",
    lambda letters, order: sorted(letters, key=order.split().index),
    lambda rng, level: " ".join(rng.sample(LETTERS[:8], 4)),
)


def _listed(noun: str) -> Input:
    """Items, more at higher levels, of which about half meet the tests."""

    def draw(rng: Random, level: int, steps: list[Values]) -> str:
        tests = [value for values in steps for value in values if isinstance(value, Rule) and value.name in TEST_NAMES]
        return _items(rng, noun, 2 * level + rng.choice((2, 3)), tests)

    return draw


def _sortings(noun: str) -> list[Kind]:
    draw = _listed(noun)
    return [
        Kind((1,), ((_sort(noun),),), draw),
        Kind((2,), ((_sort(noun),), TAKE), draw),
        Kind((3,), ((_filter(noun),), (_sort(noun),), TAKE[:2]), draw),
    ]


# Counting


def _count(items: list[str], *tests: Callable[[str], bool]) -> list[str]:
    return [str(sum(map(test, items))) for test in tests]


def _countings(noun: str) -> list[Kind]:
    test, draw = TESTS[noun], _listed(noun)
    count = f"[how many {noun}|count {noun} that|tell how many {noun}|say how many {noun}] {{0}}"
    then = count + ", [then|next] how many {1}"
    one = _step(count, _count, test)
    both = _step(count + " and {1}", lambda items, a, b: _count(items, lambda i: a(i) and b(i)), _tests(noun, 2))
    either = _step(count + " or {1}", lambda items, a, b: _count(items, lambda i: a(i) or b(i)), _tests(noun, 2))
    two = _step(then, _count, _tests(noun, 2))
    three = _step(then + " and {2}", lambda w, a, b, c: _count(w, a, lambda i: b(i) and c(i)), _tests(noun, 3))
    return [Kind((1,), ((one,),), draw), Kind((2,), ((both, either),), draw), Kind((3,), ((two, three),), draw)]


LETTER_COUNT = _step(
    "[how many letters are|count letters that are|tell how many letters are|find how many letters are] {0} or {1}",
    lambda letters, one, other: _count(letters, lambda letter: letter in (one, other)),
    _distinct(LETTERS, 2),
)


def _letters(rng: Random, level: int, steps: list[Values]) -> str:
    return " ".join(rng.choice(rng.choice((steps[0], LETTERS))) for _ in range(6))


# Arithmetic

ADD = _step("[add {0}|count {0} more|go up by {0}|raise it by {0}]", lambda n, k: n + k, range(2, 200))
SUBTRACT = _step("[subtract {0}|take away {0}|go down by {0}|lower it by {0}]", lambda n, k: n - k, range(2, 200))
OPERATIONS = (
    ADD,
    SUBTRACT,
    _step("[multiply by {0}|take it {0} times|make it {0} times as large]", lambda n, k: n * k, range(3, 10)),
    _step("[double it|take it twice|multiply by 2]", lambda n: 2 * n),
    _step("[halve it|take half], rounding down", lambda n: n // 2),
)


def _number(rng: Random, level: int, steps: list[Values]) -> str:
    return str(rng.randrange(10, 100 if level == 1 else 1000))


# Dates


def _date_after(text: str, days: int) -> str:
    return DATES[(DATES.index(text) + days) % 365]


def _weekday_after(text: str, days: int) -> str:
    return WEEKDAYS[(WEEKDAYS.index(text) + days) % 7]


def _both_after(text: str, days: int) -> str:
    date, _, weekday = text.rpartition(" ")
    return f"{_date_after(date, days)} {_weekday_after(weekday, days)}"


def _reformat(text: str, order: str, mark: str) -> str:
    month, day, year = text.split()
    parts = {"day": day, "month": str(1 + list(MONTHS).index(month)), "year": year}
    return mark.join(parts[name] for name in order.split())


LATER = (("[later|after this]", 1), ("[earlier|before this]", -1))


def _days(what: str, after: Callable[[str, int], str]) -> Pool:
    return tuple(
        _step(
            f"[which {what} is|what {what} is|give the {what}|find the {what}] {{0}} days {words}",
            lambda text, n, sign=sign: after(text, sign * n),
            [n for n in range(2, 250) if n % 7],
        )
        for words, sign in LATER
    )


WEEKS = tuple(
    _step(
        f"[give|tell|find|write] the date and weekday {{0}} weeks and {{1}} days {words}",
        lambda text, weeks, days, sign=sign: _both_after(text, sign * (7 * weeks + days)),
        range(2, 26),
        range(2, 7),
    )
    for words, sign in LATER
)
REFORMAT = _step(
    "[write|give|show|format] the date as {0}, with {1} between",
    _reformat,
    [" ".join(order) for order in permutations(("day", "month", "year"))],
    "/-.:+=",
)
DAYS_SINCE = _step(
    "[how many|tell how many|count how many|give how many] days after {0} is [this|the date]",
    lambda text, since: str((DATES.index(text) - DATES.index(since)) % 365),
    DATES,
)


def _dated(level: int, pool: Pool, draw: Callable[[Random], str]) -> Kind:
    return Kind((level,), (pool,), lambda rng, level, steps: draw(rng), str, str)


# Editing


def _put(words: list[str], place: int, *new: str) -> list[str]:
    return words[: place - 1] + list(new) + words[place:]


def _swap(words: list[str], one: int, other: int) -> list[str]:
    return _put(_put(words, one, words[other - 1]), other, words[one - 1])


def _place(rng: Random, level: int) -> int:
    return rng.randint(1, 5 if level == 1 else 4)  # two steps may drop two of six words before the third


EDITS = (
    _step("<drop> word {0}", lambda w, k: _put(w, k), _place),
    _step("<double> word {0}", lambda w, k: _put(w, k, w[k - 1], w[k - 1]), _place),
    _step("[swap|exchange|switch] [words|the words] {0} and {1}", _swap, _distinct(range(1, 5), 2)),
    _step("<move> word {0} to the front", lambda w, k: [w[k - 1], *_put(w, k)], _place),
    _step("<move> word {0} to the end", lambda w, k: [*_put(w, k), w[k - 1]], _place),
    _step("<put> word {0} in brackets", lambda w, k: _put(w, k, f"({w[k - 1]})"), _place),
    _step("<put> word {0} in quotes", lambda w, k: _put(w, k, f'"{w[k - 1]}"'), _place),
    _step("[replace|change|exchange] word {0} [by|for] {1}", _put, _place, WORDS),
    _step("<put> {1} before word {0}", lambda w, k, new: _put(w, k, new, w[k - 1]), _place, WORDS),
    _step("<put> {1} after word {0}", lambda w, k, new: _put(w, k, w[k - 1], new), _place, WORDS),
    _step("[reverse|turn around] the [words|line]", lambda w: w[::-1]),
)


def _line(rng: Random, level: int, steps: list[Values]) -> str:
    return _items(rng, "words", level + 4 + rng.randrange(2))


# Reading: a fact is who, the verb, and what


def _facts(text: str) -> list[Fact]:
    return [(who, verb[:-1], what) for who, verb, what in (one.split(" ", 2) for one in text.rstrip(".").split(". "))]


def _who(text: str, verb: str, what: str) -> str:
    return next(fact[0] for fact in _facts(text) if fact[1:] == (verb, what))


def _what(text: str, who: str, verb: str) -> str:
    return next(fact[2] for fact in _facts(text) if fact[:2] == (who, verb))


def _who_same(text: str, verb: str, other: str, what: str) -> str:
    """Who does with `verb` the same as the one of whom the fact (other, what) is told."""
    one = _who(text, other, what)
    return next(
        who for who, did, thing in _facts(text) if (did, thing) == (verb, _what(text, one, verb)) and who != one
    )


def _who_but(text: str, verb: str, what: str, other: str, thing: str) -> str:
    facts = _facts(text)
    return next(who for who, *fact in facts if fact == [verb, what] and (who, other, thing) not in facts)


def _some(*names: str) -> Callable[[Random, int], Values]:
    """Values by name: who, verb or what (the last verb's)."""

    def draw(rng: Random, level: int) -> Values:
        verbs, people = rng.sample(list(THINGS), 2), rng.sample(NAMES, 2)
        values: list[str] = []
        for name in names:
            if name == "verb":
                verb = verbs.pop()
            values.append(people.pop() if name == "who" else verb if name == "verb" else rng.choice(THINGS[verb]))
        return tuple(values)

    return draw


def _question(level: int, text: str, do: Callable[..., str], names: str, facts: Callable[..., list[Fact]]) -> Kind:
    """Questions of one form; `facts` gives what has to be told, from people, a source of new things and the values."""

    def tell(rng: Random, level: int, steps: list[Values]) -> str:
        said = set(steps[0])

        def new(verb: str) -> str:
            said.add(thing := rng.choice([thing for thing in THINGS[verb] if thing not in said]))
            return thing

        people = [name for name in rng.sample(NAMES, len(NAMES)) if name not in said]
        told = facts(people, new, *steps[0])
        verbs = [verb for _, verb, _ in told]
        told += [(name, verb := rng.choice(verbs), new(verb)) for name in people[2 : 2 + min(2 + level, 4) - len(told)]]
        rng.shuffle(told)
        return ". ".join(f"{who} {verb}s {what}" for who, verb, what in told) + "."

    return Kind((level,), ((_step(text, do, _some(*names.split())),),), tell, str, str)


QUESTIONS = (
    _question(
        1,
        "[what does {0} {1}|find what {0} {1}s|tell what {0} {1}s|say what {0} {1}s]",
        _what,
        "who verb",
        lambda people, new, who, verb: [(who, verb, new(verb))],
    ),
    _question(
        1,
        "[who|find who|tell who|say who] {0}s {1}",
        _who,
        "verb what",
        lambda people, new, verb, what: [(people[0], verb, what)],
    ),
    _question(
        1,
        "[does {0} {1} {2}|tell whether {0} {1}s {2}|say whether {0} {1}s {2}|find whether {0} {1}s {2}]",
        lambda text, who, verb, what: "yes" if _what(text, who, verb) == what else "no",
        "who verb what",
        lambda people, new, who, verb, what: [(who, verb, what if ord(people[0][0]) % 2 else new(verb))],
    ),
    _question(
        2,
        "[what does the one who {0}s {1} {2}|find what the one who {0}s {1} {2}s|say what the one who {0}s {1} {2}s|"
        "tell what the one who {0}s {1} {2}s]",
        lambda text, verb, what, other: _what(text, _who(text, verb, what), other),
        "verb what verb",
        lambda p, new, verb, what, other: [(p[0], verb, what), (p[0], other, new(other)), (p[1], other, new(other))],
    ),
    _question(
        3,
        "[who|find who|tell who|say who] {0}s the same as the one who {1}s {2}",
        _who_same,
        "verb verb what",
        lambda p, new, verb, other, what: [(p[0], other, what), (p[0], verb, it := new(verb)), (p[1], verb, it)],
    ),
    _question(
        3,
        "[who|find who|tell who|say who] {0}s {1} but does not {2} {3}",
        _who_but,
        "verb what verb what",
        lambda p, new, verb, what, other, thing: [
            (p[0], verb, what),
            (p[0], other, new(other)),
            (p[1], verb, what),
            (p[1], other, thing),
        ],
    ),
)

# Deduction


def _pairs(text: str, adjective: str) -> set[tuple[str, str]]:
    """Who is taller (or older...) than whom, by all that follows."""
    facts = [fact.split() for fact in text.rstrip(".").split(". ")]
    pairs = {(fact[0], fact[4]) if fact[2] == adjective else (fact[4], fact[0]) for fact in facts}
    for _ in facts:
        pairs |= {(a, d) for a, b in pairs for c, d in pairs if b == c}
    return pairs


def _above(text: str, adjective: str, name: str) -> list[str]:
    """Who is taller than someone, the tallest first."""
    pairs = _pairs(text, adjective)
    return sorted((a for a, b in pairs if b == name), key=lambda a: sum(b == a for _, b in pairs))


def _compared(n: int) -> Callable[[Random, int], Values]:
    """An adjective, n names, and the adjective's superlative."""

    def draw(rng: Random, level: int) -> Values:
        adjective = rng.choice(list(OPPOSITES))
        return adjective, *rng.sample(NAMES, n), adjective[:-1] + "st"

    return draw


def _comparisons(rng: Random, level: int, steps: list[Values]) -> str:
    """Facts in any order and wording: two of four people who are compared (level 1), or a chain of them."""
    adjective, *names, _ = steps[0]
    others = [name for name in rng.sample(NAMES, 6) if name not in names]
    if level == 1:
        pairs = [tuple(rng.sample(names, 2)), (others[0], others[1])]
    else:
        chain = others[: 4 - len(names)]
        for name in names:
            chain.insert(rng.randint(min(1, 2 - len(names)) if level == 3 else 0, len(chain)), name)
        pairs = list(pairwise(chain))
    rng.shuffle(pairs)
    said = [(a, adjective, b) if rng.random() < 0.5 else (b, OPPOSITES[adjective], a) for a, b in pairs]
    return ". ".join(f"{a} is {word} than {b}" for a, word, b in said) + "."


def _puzzle(levels: tuple[int, ...], *steps: Step) -> Kind:
    return Kind(levels, (steps,), _comparisons, str, str)


WHO_IS = _step(
    "[who is {0}, {1} or {2}|find who is {0}, {1} or {2}|tell who is {0}, {1} or {2}|which of {1} and {2} is {0}]",
    lambda text, adjective, a, b, _: a if (a, b) in _pairs(text, adjective) else b,
    _compared(2),
)
WHETHER = _step(
    "[is {1}|tell whether {1} is|find whether {1} is|say whether {1} is] {0} than {2}",
    lambda text, adjective, a, b, _: "yes" if (a, b) in _pairs(text, adjective) else "no",
    _compared(2),
)
HOW_MANY = _step(
    "[how many are|count those who are|tell how many are|find how many are] {0} than {1}",
    lambda text, adjective, name, _: str(len(_above(text, adjective, name))),
    _compared(1),
)
LIST_ABOVE = _step(
    "[list|name|find|write] all who are {0} than {1}, the {2} first",
    lambda text, adjective, name, _: " ".join(_above(text, adjective, name)),
    _compared(1),
)
NEXT_ABOVE = _step(
    "[list|name|find|write] the one who is just {0} than {1}",
    lambda text, adjective, name, _: _above(text, adjective, name)[-1],
    _compared(1),
)

# Classification


def _label(item: str, *rule: Any) -> str:
    """The label of the first test that is met; the last label needs none. Labels come first, then tests."""
    tests = [part for part in rule if isinstance(part, Rule)]
    labels = [part for part in rule if not isinstance(part, Rule)]
    return next((label for label, test in zip(labels, tests, strict=False) if test(item)), labels[-1])


def _labels_and_tests(noun: str, n_tests: int) -> Callable[[Random, int], Values]:
    def draw(rng: Random, level: int) -> Values:
        tests = (TESTS[noun](rng, level),) if n_tests == 1 else _tests(noun, n_tests)(rng, level)
        return *rng.sample(WORDS, n_tests + 1), *tests

    return draw


def _one(noun: str) -> Input:
    """One item, the labels about equally likely."""

    def draw(rng: Random, level: int, steps: list[Values]) -> str:
        label = rng.choice([value for value in steps[0] if not isinstance(value, Rule)])
        items = rng.sample(WORDS if noun == "words" else NUMBERS, 12)
        return next((item for item in items if _label(item, *steps[0]) == label), items[0])

    return draw


def _labelling(noun: str) -> list[Kind]:
    two = _step(
        f"<answer> {{0}} for {noun} that {{2}}, [else|otherwise] {{1}}",
        _label,
        _labels_and_tests(noun, 1),
    )
    three = _step(
        f"<answer> {{0}} for {noun} that {{3}}, {{1}} for others that {{4}}, [else|otherwise] {{2}}",
        _label,
        _labels_and_tests(noun, 2),
    )
    return [Kind((2,), ((two,),), _one(noun), str, str), Kind((3,), ((three,),), _one(noun), str, str)]


def _two_categories(rng: Random, level: int) -> Values:
    one, other = rng.sample(list(CATEGORIES), 2)
    return *rng.sample(WORDS, 2), Rule("name {}", one), other


BY_CATEGORY = _step(
    "<answer> {0} for words that {2}, [and {1} for|{1} for] words that name {3}",
    lambda item, label, other, test, _: label if test(item) else other,
    _two_categories,
)


def _of_two(rng: Random, level: int, steps: list[Values]) -> str:
    _, _, test, other = steps[0]
    return rng.choice(CATEGORIES[rng.choice((test.value, other))])


# Formatting


def _paired(words: list[str], inner: str, outer: str) -> list[str]:
    return [outer.join(f"{a}{inner}{b}" for a, b in zip(words[::2], words[1::2], strict=True))]


JOIN = _step("<join> words with {0}", lambda words, mark: [mark.join(words)], MARKS)
WRAP = _step(
    "[wrap|set|put|write] words between {0} and {1}",
    lambda words, before, after: [f"{before}{word}{after}" for word in words],
    _distinct(MARKS, 2),
)
NUMBERED = _step(
    "[mark|start|label|begin] words with numbers and {0}",
    lambda words, mark: [f"{n}{mark}{word}" for n, word in enumerate(words, 1)],
    MARKS,
)
PAIRS = _step(
    "<join> pairs with {0}, these with {1}",
    _paired,
    _distinct(MARKS, 2),
)
FRAME = _step("<put> {0} at the start and {1} at the end", lambda words, a, b: [a, *words, b], _distinct(MARKS, 2))
REORDER = (
    _step("<sort> words by alphabet", sorted),
    _step("[reverse|turn around] the [words|order]", lambda words: words[::-1]),
    _step("<move> the last word first", lambda words: words[-1:] + words[:-1]),
    _step("<drop> the {0} word", _without, ORDINALS[:4]),
)


def _even_line(rng: Random, level: int, steps: list[Values]) -> str:
    return _items(rng, "words", rng.choice((4, 6)))


def _formatting(level: int, *pools: Pool) -> Kind:
    return Kind((level,), pools, _even_line)


_ALL = (
    StepFamily(
        "rewriting",
        "editing",
        _rewriting(1, _rewrite(1, 1)),
        _rewriting(2, _rewrite(2, 2)),
        _rewriting(3, _rewrite(2, 2), _rewrite(1, 1)),
    ),
    StepFamily(
        "sorting",
        "reasoning",
        Kind((1,), ((LETTER_SORT,),), lambda rng, level, steps: " ".join(rng.choices(steps[0][0].split(), k=6))),
        *_sortings("numbers"),
        *_sortings("words"),
    ),
    StepFamily(
        "counting",
        "mathematics",
        Kind((1,), ((LETTER_COUNT,),), _letters),
        *_countings("numbers"),
        *_countings("words"),
    ),
    StepFamily(
        "arithmetic",
        "mathematics",
        Kind((1,), ((ADD, SUBTRACT),), _number, int, str),
        Kind((2,), (OPERATIONS, (ADD, SUBTRACT)), _number, int, str),
        Kind((3,), (OPERATIONS, (ADD, SUBTRACT), OPERATIONS), _number, int, str),
    ),
    StepFamily(
        "dates",
        "reasoning",
        _dated(1, _days("weekday", _weekday_after), lambda rng: rng.choice(WEEKDAYS)),
        _dated(1, (REFORMAT,), lambda rng: f"{rng.choice(DATES)} {rng.randint(1950, 2049)}"),
        _dated(2, _days("date", _date_after), lambda rng: rng.choice(DATES)),
        _dated(2, (DAYS_SINCE,), lambda rng: rng.choice(DATES)),
        _dated(
            3, WEEKS + _days("date and weekday", _both_after), lambda rng: f"{rng.choice(DATES)} {rng.choice(WEEKDAYS)}"
        ),
    ),
    StepFamily("editing", "editing", *(Kind((n,), (EDITS,) * n, _line) for n in (1, 2, 3))),
    StepFamily("reading", "extraction", *QUESTIONS),
    StepFamily(
        "deduction", "reasoning", _puzzle((1, 2), WHO_IS, WHETHER), _puzzle((3,), HOW_MANY, LIST_ABOVE, NEXT_ABOVE)
    ),
    StepFamily(
        "classification",
        "classification",
        Kind((1,), ((BY_CATEGORY,),), _of_two, str, str),
        *_labelling("numbers"),
        *_labelling("words"),
    ),
    StepFamily(
        "formatting",
        "formatting",
        _formatting(1, (JOIN, WRAP, NUMBERED, PAIRS, FRAME)),
        _formatting(2, (WRAP, NUMBERED), (JOIN, PAIRS)),
        _formatting(3, REORDER[:3], (WRAP, NUMBERED), (JOIN, PAIRS)),
    ),
)
FAMILIES: dict[str, StepFamily] = {family.name: family for family in _ALL}
