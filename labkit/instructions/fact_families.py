"""Families that draw a conclusion: from numbers, dates, a passage, comparisons, and what a label stands for.

See `labkit.instructions.families` for what they guarantee.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise, permutations
from random import Random
from typing import Any

from labkit.instructions import draws, lexicon
from labkit.instructions.draws import TESTS, Domain, Draw, Rule, Values, by_text
from labkit.instructions.lexicon import CATEGORIES, DATES, MONTHS, NAMES, OPPOSITES, THINGS, WEEKDAYS, WORDS, YES_NO
from labkit.instructions.steps import Fact, Input, Kind, Options, Pool, Step, StepFamily, step_of

# Arithmetic

ADD = step_of("[add {0}|count {0} more|go up by {0}|raise it by {0}]", lambda n, k: n + k, range(2, 200))
SUBTRACT = step_of("[subtract {0}|take away {0}|go down by {0}|lower it by {0}]", lambda n, k: n - k, range(2, 200))


def _columns(n: int, k: int) -> list[str]:
    """A sum or difference digit by digit from the right, as on paper: what is carried is added, what is lent returned.

    >>> _columns(168, 57), _columns(55, -112)
    (['8+7=15', '6+5+1=12', '1+0+1=2'], ['12-5=7', '10-5=5', '0-0=0'])
    """
    (n, k), sign = sorted((n, abs(k)), reverse=True), "+" if k > 0 else "-"
    lines, carried = list[str](), 0
    while n:
        (n, a), (k, b) = divmod(n, 10), divmod(k, 10)
        if sign == "+":
            total = a + b + carried
            lines.append(f"{a}+{b}{f'+{carried}' if carried else ''}={total}")
            carried = total // 10
        else:
            a -= carried
            carried = int(a < b)
            lines.append(f"{a + 10 * carried}-{b}={a + 10 * carried - b}")
    return lines


ADD_ALONE, SUBTRACT_ALONE = (
    step._replace(work=lambda n, k, sign=sign: _columns(n, sign * k)) for step, sign in ((ADD, 1), (SUBTRACT, -1))
)
OPERATIONS = (
    *(ADD, SUBTRACT),
    step_of("[multiply by {0}|take it {0} times|make it {0} times as large]", lambda n, k: n * k, range(3, 10)),
    step_of("[double it|take it twice|multiply by 2]", lambda n: 2 * n),
    step_of("[halve it|take half], rounding down", lambda n: n // 2),
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
    parts = {"day": day, "month": str(1 + MONTHS.index(month)), "year": year}
    return mark.join(parts[name] for name in order.split())


LATER = (("[later|after this]", 1), ("[earlier|before this]", -1))


def _days(what: str, after: Callable[[str, int], str]) -> Pool:
    return tuple(
        step_of(f"[which {what} is|what {what} is|give the {what}|find the {what}] {{0}} days {words}",
                lambda text, n, sign=sign: after(text, sign * n), [n for n in range(2, 250) if n % 7])
        for words, sign in LATER
    )  # fmt: skip


WEEKS = tuple(
    step_of(f"[give|tell|find|write] the date and weekday {{0}} weeks and {{1}} days {words}",
            lambda text, weeks, days, sign=sign: _both_after(text, sign * (7 * weeks + days)), range(2, 26),
            range(2, 7), work=lambda text, weeks, days, sign=sign: [_both_after(text, sign * 7 * weeks)])
    for words, sign in LATER
)  # fmt: skip
REFORMAT = step_of("[write|give|show|format] the date as {0}, with {1} between", _reformat,
                   [" ".join(order) for order in permutations(("day", "month", "year"))], "/-.:+=")  # fmt: skip
DAYS_SINCE = step_of("[how many|tell how many|count how many|give how many] days after {0} is [this|the date]",
                     lambda text, since: str((DATES.index(text) - DATES.index(since)) % 365), DATES)  # fmt: skip


def _dated(level: int, pool: Pool, draw: Callable[[Random], str]) -> Kind:
    return Kind((level,), (pool,), lambda rng, level, steps: draw(rng), str, str)


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
    same = (verb, _what(text, one, verb))
    return next(who for who, *fact in _facts(text) if tuple(fact) == same and who != one)


def _who_but(text: str, verb: str, what: str, other: str, thing: str) -> str:
    facts = _facts(text)
    return next(who for who, *fact in facts if fact == [verb, what] and (who, other, thing) not in facts)


_ANYTHING = by_text(thing for things in THINGS.values() for thing in things)
_SOMETHING: dict[str, Domain] = {"who": by_text(NAMES), "verb": by_text(THINGS), "what": _ANYTHING}


def _some(*names: str) -> Draw:
    """Values by name: who, verb or what (the last verb's)."""

    def draw(rng: Random, level: int) -> Values:
        verbs, people = rng.sample(list(THINGS), 2), rng.sample(NAMES, 2)
        values: list[str] = []
        for name in names:
            if name == "verb":
                verb = verbs.pop()
            values.append(people.pop() if name == "who" else verb if name == "verb" else rng.choice(THINGS[verb]))
        return tuple(values)

    return Draw(draw, tuple(_SOMETHING[name] for name in names))


def _question(level: int, form: str, names: str, do: Callable[..., str], facts: Callable[..., list[Fact]],
              work: Callable[..., Sequence[str]] = lambda *_: (), options: tuple[str, ...] = ()) -> Kind:  # fmt: skip
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

    step = step_of(lexicon.WORDINGS["reading"][form], do, _some(*names.split()), work=work, options=lambda *_: options)
    return Kind((level,), ((step,),), tell, str, str)


# fmt: off
QUESTIONS = (
    _question(1, "what", "who verb", _what, lambda people, new, who, verb: [(who, verb, new(verb))]),
    _question(1, "who", "verb what", _who, lambda people, new, verb, what: [(people[0], verb, what)]),
    _question(
        1, "whether", "who verb what",
        lambda text, who, verb, what: "yes" if _what(text, who, verb) == what else "no",
        lambda people, new, who, verb, what: [(who, verb, what if ord(people[0][0]) % 2 else new(verb))],
        options=YES_NO),
    _question(
        2, "what of whom", "verb what verb",
        lambda text, verb, what, other: _what(text, _who(text, verb, what), other),
        lambda p, new, verb, what, other: [(p[0], verb, what), (p[0], other, new(other)), (p[1], other, new(other))],
        lambda text, verb, what, other: [_who(text, verb, what)]),
    _question(
        3, "who the same", "verb verb what", _who_same,
        lambda p, new, verb, other, what: [(p[0], other, what), (p[0], verb, it := new(verb)), (p[1], verb, it)],
        lambda text, verb, other, what: [one := _who(text, other, what), _what(text, one, verb)]),
    _question(
        3, "who but not", "verb what verb what", _who_but,
        lambda p, new, verb, what, other, thing: [
            (p[0], verb, what), (p[0], other, new(other)), (p[1], verb, what), (p[1], other, thing)],
        lambda text, verb, what, other, thing: [" ".join(who for who, *did in _facts(text) if did == [verb, what])]),
)
# fmt: on


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


def _order(text: str, adjective: str, *_: str) -> list[str]:
    """All who are compared, the tallest first, if two pairs or more are chained: the line that leads to an answer."""
    pairs = _pairs(text, adjective)
    people = {name for pair in pairs for name in pair}
    chained = len(pairs) == len(people) * (len(people) - 1) // 2
    return [" ".join(sorted(people, key=lambda name: -sum(a == name for a, _ in pairs)))] if chained else []


def _compared(n: int) -> Draw:
    """An adjective, n names, and the adjective's superlative."""

    def draw(rng: Random, level: int) -> Values:
        adjective = rng.choice(list(OPPOSITES))
        return adjective, *rng.sample(NAMES, n), adjective[:-1] + "st"

    domains: tuple[Domain, ...] = (by_text(OPPOSITES), *[by_text(NAMES)] * n, "[a-z]+st")
    return Draw(draw, domains, lambda values: (*values[:-1], values[0][:-1] + "st"))


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


def _asked(form: str, do: Callable[..., str], names: int, options: Options = lambda *_: ()) -> Step:
    return step_of(lexicon.WORDINGS["deduction"][form], do, _compared(names), work=_order, options=options)


# fmt: off
WHO_IS = _asked(
    "who", lambda text, adjective, a, b, _: a if (a, b) in _pairs(text, adjective) else b, 2,
    lambda text, adjective, a, b, _: (a, b))
WHETHER = _asked(
    "whether", lambda text, adjective, a, b, _: "yes" if (a, b) in _pairs(text, adjective) else "no", 2,
    lambda *_: YES_NO)
HOW_MANY = _asked("how many", lambda text, adjective, name, _: str(len(_above(text, adjective, name))), 1)
LIST_ABOVE = _asked("all above", lambda text, adjective, name, _: " ".join(_above(text, adjective, name)), 1)
NEXT_ABOVE = _asked(
    "next above", lambda text, adjective, name, _: _above(text, adjective, name)[-1], 1,
    lambda text, adjective, name, _: tuple(one for one in _order(text, adjective)[0].split() if one != name))
# fmt: on


# Classification


def _label(item: str, *rule: Any) -> str:
    """The label of the first test that is met; the last label needs none. Labels come first, then tests."""
    tests = [part for part in rule if isinstance(part, Rule)]
    labels = [part for part in rule if not isinstance(part, Rule)]
    return next((label for label, test in zip(labels, tests, strict=False) if test(item)), labels[-1])


def _labels(item: str, *rule: Any) -> tuple[str, ...]:
    return tuple(part for part in rule if not isinstance(part, Rule))


def _labels_and_tests(noun: str, n_tests: int) -> Draw:
    def draw(rng: Random, level: int) -> Values:
        tests = (TESTS[noun](rng, level),) if n_tests == 1 else draws.tests(noun, n_tests)(rng, level)
        return *rng.sample(WORDS, n_tests + 1), *tests

    return Draw(draw, (*[by_text(WORDS)] * (n_tests + 1), *TESTS[noun].domains * n_tests))


def _one(noun: str) -> Input:
    """One item, the labels about equally likely."""

    def draw(rng: Random, level: int, steps: list[Values]) -> str:
        label = rng.choice([value for value in steps[0] if not isinstance(value, Rule)])
        items = rng.sample(draws.ITEMS[noun], 12)
        return next((item for item in items if _label(item, *steps[0]) == label), items[0])

    return draw


def _labelling(noun: str) -> list[Kind]:
    two = f"<answer> {{0}} for {noun} that {{2}}, [else|otherwise] {{1}}"
    three = f"<answer> {{0}} for {noun} that {{3}}, {{1}} for others that {{4}}, [else|otherwise] {{2}}"
    steps = [step_of(text, _label, _labels_and_tests(noun, n), options=_labels) for n, text in ((1, two), (2, three))]
    return [Kind((level,), ((step,),), _one(noun), str, str) for level, step in zip((2, 3), steps, strict=True)]


def _two_categories(rng: Random, level: int) -> Values:
    one, other = rng.sample(list(CATEGORIES), 2)
    return *rng.sample(WORDS, 2), Rule("name {}", one), other


_NAMES = by_text(Rule("name {}", category) for category in CATEGORIES)

BY_CATEGORY = step_of(
    "<answer> {0} for words that {2}, [and {1} for|{1} for] words that name {3}",
    lambda item, label, other, test, _: label if test(item) else other,
    Draw(_two_categories, (by_text(WORDS), by_text(WORDS), _NAMES, by_text(CATEGORIES))),
    options=lambda item, label, other, *_: (label, other))  # fmt: skip


def _of_two(rng: Random, level: int, steps: list[Values]) -> str:
    _, _, test, other = steps[0]
    return rng.choice(CATEGORIES[rng.choice((test.value, other))])


# fmt: off
FAMILIES = (
    StepFamily(
        "arithmetic", "mathematics",
        Kind((1,), ((ADD_ALONE, SUBTRACT_ALONE),), _number, int, str),
        Kind((2,), (OPERATIONS, (ADD, SUBTRACT)), _number, int, str),
        Kind((3,), (OPERATIONS, (ADD, SUBTRACT), OPERATIONS), _number, int, str)),
    StepFamily(
        "dates", "reasoning",
        _dated(1, _days("weekday", _weekday_after), lambda rng: rng.choice(WEEKDAYS)),
        _dated(1, (REFORMAT,), lambda rng: f"{rng.choice(DATES)} {rng.randint(1950, 2049)}"),
        _dated(2, _days("date", _date_after), lambda rng: rng.choice(DATES)),
        _dated(2, (DAYS_SINCE,), lambda rng: rng.choice(DATES)),
        _dated(3, WEEKS + _days("date and weekday", _both_after),
               lambda rng: f"{rng.choice(DATES)} {rng.choice(WEEKDAYS)}")),
    StepFamily("reading", "extraction", *QUESTIONS),
    StepFamily(
        "deduction", "reasoning",
        _puzzle((1, 2), WHO_IS, WHETHER), _puzzle((3,), HOW_MANY, LIST_ABOVE, NEXT_ABOVE)),
    StepFamily(
        "classification", "classification",
        Kind((1,), ((BY_CATEGORY,),), _of_two, str, str), *_labelling("numbers"), *_labelling("words")),
)
# fmt: on
