"""Families that work on what is given: strings and lists are rewritten, sorted, counted, edited, formatted.

See `labkit.instructions.families` for what they guarantee.
"""

from collections.abc import Callable
from random import Random

from labkit.instructions import draws
from labkit.instructions.draws import ORDERS, TEST_NAMES, TESTS, Draw, Rule, Values, by_text
from labkit.instructions.lexicon import CONSONANTS, LETTERS, MARKS, ORDINALS, WORDS
from labkit.instructions.steps import Input, Kind, Pool, Step, StepFamily, step_of

# Rewriting


def _replace(text: str, which: str, x: str, y: str) -> str:
    if which == "every":
        return text.replace(x, y)
    before, found, after = text.partition(x) if which == "first" else text.rpartition(x)
    return before + (y if found else "") + after


def rewrite(low: int, high: int) -> Step:
    return step_of(
        '[replace the {0} "{1}" by "{2}"|change the {0} "{1}" to "{2}"|turn the {0} "{1}" into "{2}"|'
        'put "{2}" in place of the {0} "{1}"|write "{2}" for the {0} "{1}"]',
        _replace, ("first", "last", "every"), draws.string(low, high), draws.string(high, high + 1))  # fmt: skip


def planted(rng: Random, level: int, steps: list[Values]) -> str:
    """Random letters that hold the left side of each rule, mostly twice."""
    parts = [x for _, x, _ in steps for _ in range(rng.choice((1, 2, 2)))]
    parts += rng.choices(CONSONANTS, k=max(2, (7, 10, 13)[level - 1] - len("".join(parts))))
    rng.shuffle(parts)
    return "".join(parts)


def _rewriting(level: int, *steps: Step) -> Kind:
    return Kind((level,), tuple((step,) for step in steps), planted, str, str)


# Sorting


def _sort(noun: str) -> Step:
    arrange = lambda items, order, way: sorted(items, key=order, reverse=way == "descending")  # noqa: E731
    return step_of(f"<sort> {noun} by {{0}}, {{1}}", arrange, ORDERS[noun], ("ascending", "descending"))


def _filter(noun: str) -> Step:
    return step_of(f"<keep> {noun} that {{0}}", lambda items, test: [item for item in items if test(item)], TESTS[noun])


def _without(items: list[str], ordinal: str) -> list[str]:
    place = ORDINALS.index(ordinal)
    return items[:place] + items[place + 1 :]


TAKE = (
    step_of("<keep> the first {0}", lambda items, n: items[:n], (2, 3, 4)),
    step_of("<keep> the last {0}", lambda items, n: items[-n:], (2, 3, 4)),
    step_of("<drop> the {0}", _without, ORDINALS[:4]),
    step_of("<keep> only the {0}", lambda items, which: items[ORDINALS.index(which) :][:1], ORDINALS[:3]),
)
_FOUR = Draw(lambda rng, level: " ".join(rng.sample(LETTERS[:8], 4)), ("[a-h](?: [a-h]){3}",))
LETTER_SORT = step_of("<sort> the letters by the order {0}",
                      lambda letters, order: sorted(letters, key=order.split().index), _FOUR)  # fmt: skip


def _listed(noun: str) -> Input:
    """Items, more at higher levels, of which about half meet the tests."""

    def draw(rng: Random, level: int, steps: list[Values]) -> str:
        tests = [value for values in steps for value in values if isinstance(value, Rule) and value.name in TEST_NAMES]
        return draws.items(rng, noun, 2 * level + rng.choice((2, 3)), tests)

    return draw


def _sortings(noun: str) -> list[Kind]:
    draw = _listed(noun)
    return [Kind((1,), ((_sort(noun),),), draw), Kind((2,), ((_sort(noun),), TAKE), draw),
            Kind((3,), ((_filter(noun),), (_sort(noun),), TAKE[:2]), draw)]  # fmt: skip


# Counting


Test = Callable[[str], bool]


def _counting(text: str, tests: Draw, of: Callable[..., tuple[Test, ...]] | None = None) -> Step:
    """Counts the items that meet a test, or each of several that are made of those drawn; then it lists them first."""
    each = of or (lambda test: (test,))
    return step_of(
        text, lambda items, *drawn: [str(sum(map(test, items))) for test in each(*drawn)], tests,
        work=lambda items, *drawn: [" ".join(filter(test, items)) or "none" for test in each(*drawn)] if of else (),
    )  # fmt: skip


def _both(one: Test, other: Test) -> Test:
    return lambda item: one(item) and other(item)


def _countings(noun: str) -> list[Kind]:
    two_tests, three_tests, draw = draws.tests(noun, 2), draws.tests(noun, 3), _listed(noun)
    count = f"[how many {noun}|count {noun} that|tell how many {noun}|say how many {noun}] {{0}}"
    then = count + ", [then|next] how many {1}"
    one = _counting(count, TESTS[noun])
    both = _counting(count + " and {1}", two_tests, lambda a, b: (_both(a, b),))
    either = _counting(count + " or {1}", two_tests, lambda a, b: (lambda item: a(item) or b(item),))
    two = _counting(then, two_tests, lambda a, b: (a, b))
    three = _counting(then + " and {2}", three_tests, lambda a, b, c: (a, _both(b, c)))
    return [Kind((1,), ((one,),), draw), Kind((2,), ((both, either),), draw), Kind((3,), ((two, three),), draw)]


LETTER_COUNT = step_of(
    "[how many letters are|count letters that are|tell how many letters are|find how many letters are] {0} or {1}",
    lambda letters, *which: [str(sum(letter in which for letter in letters))], draws.distinct(LETTERS, 2),
)  # fmt: skip


def _letters(rng: Random, level: int, steps: list[Values]) -> str:
    return " ".join(rng.choice(rng.choice((steps[0], LETTERS))) for _ in range(6))


# Editing


def _put(words: list[str], place: int, *new: str) -> list[str]:
    return words[: place - 1] + list(new) + words[place:]


def _swap(words: list[str], one: int, other: int) -> list[str]:
    return _put(_put(words, one, words[other - 1]), other, words[one - 1])


# Two steps may drop two of six words before the third.
_PLACE = Draw(lambda rng, level: rng.randint(1, 5 if level == 1 else 4), (by_text(range(1, 6)),))


EDITS = (
    step_of("<drop> word {0}", lambda w, k: _put(w, k), _PLACE),
    step_of("<double> word {0}", lambda w, k: _put(w, k, w[k - 1], w[k - 1]), _PLACE),
    step_of("[swap|exchange|switch] [words|the words] {0} and {1}", _swap, draws.distinct(range(1, 5), 2)),
    step_of("<move> word {0} to the front", lambda w, k: [w[k - 1], *_put(w, k)], _PLACE),
    step_of("<move> word {0} to the end", lambda w, k: [*_put(w, k), w[k - 1]], _PLACE),
    step_of("<put> word {0} in brackets", lambda w, k: _put(w, k, f"({w[k - 1]})"), _PLACE),
    step_of("<put> word {0} in quotes", lambda w, k: _put(w, k, f'"{w[k - 1]}"'), _PLACE),
    step_of("[replace|change|exchange] word {0} [by|for] {1}", _put, _PLACE, WORDS),
    step_of("<put> {1} before word {0}", lambda w, k, new: _put(w, k, new, w[k - 1]), _PLACE, WORDS),
    step_of("<put> {1} after word {0}", lambda w, k, new: _put(w, k, w[k - 1], new), _PLACE, WORDS),
    step_of("[reverse|turn around] the [words|line]", lambda w: w[::-1]),
)


def _line(rng: Random, level: int, steps: list[Values]) -> str:
    return draws.items(rng, "words", level + 4 + rng.randrange(2))


# Formatting


def _paired(words: list[str], inner: str, outer: str) -> list[str]:
    return [outer.join(f"{a}{inner}{b}" for a, b in zip(words[::2], words[1::2], strict=True))]


JOIN = step_of("<join> words with {0}", lambda words, mark: [mark.join(words)], MARKS)
WRAP = step_of("[wrap|set|put|write] words between {0} and {1}",
               lambda words, a, b: [f"{a}{word}{b}" for word in words], draws.distinct(MARKS, 2))  # fmt: skip
NUMBERED = step_of("[mark|start|label|begin] words with numbers and {0}",
                   lambda words, mark: [f"{n}{mark}{word}" for n, word in enumerate(words, 1)], MARKS)  # fmt: skip
PAIRS = step_of("<join> pairs with {0}, these with {1}", _paired, draws.distinct(MARKS, 2))
FRAME = step_of("<put> {0} at the start and {1} at the end", lambda w, a, b: [a, *w, b], draws.distinct(MARKS, 2))
REORDER = (
    step_of("<sort> words by alphabet", sorted),
    step_of("[reverse|turn around] the [words|order]", lambda words: words[::-1]),
    step_of("<move> the last word first", lambda words: words[-1:] + words[:-1]),
    step_of("<drop> the {0} word", _without, ORDINALS[:4]),
)


def _even_line(rng: Random, level: int, steps: list[Values]) -> str:
    return draws.items(rng, "words", rng.choice((4, 6)))


def _formatting(level: int, *pools: Pool) -> Kind:
    return Kind((level,), pools, _even_line)


# Speaking


def _spoken(text: str, say: Callable[[str, str], tuple[str, ...]]) -> Step:
    """Says again what stands in quotes."""
    return step_of(text, lambda _, *words: ",".join(say(*words)), draws.distinct(WORDS, 2))


SPEAKING = (
    _spoken('[say|tell|repeat|write] "{0}" and "{1}"', lambda a, b: (a, b)),
    _spoken('[say|tell|repeat|turn around] "{0}" and "{1}" from last to first', lambda a, b: (b, a)),
    _spoken('[double|repeat|duplicate|copy] "{0}" and drop "{1}"', lambda a, b: (a, a)),
    _spoken('[say|tell|repeat|write] only the first of "{0}" and "{1}"', lambda a, b: (a,)),
    _spoken('[say|tell|repeat|write] only the last of "{0}" and "{1}"', lambda a, b: (b,)),
    _spoken('<drop> the first of "{0}" and "{1}"', lambda a, b: (b,)),
    _spoken('[say|tell|repeat|write] "{0}", add "{1}" at the end', lambda a, b: (a, b)),
    _spoken('[say|tell|repeat|write] "{0}", add "{1}" at the front', lambda a, b: (b, a)),
)


# fmt: off
FAMILIES = (
    StepFamily(
        "speaking", "formatting", Kind((1, 2, 3), (SPEAKING,), lambda rng, level, steps: "", str, str)),
    StepFamily(
        "rewriting", "editing",
        _rewriting(1, rewrite(1, 1)), _rewriting(2, rewrite(2, 2)), _rewriting(3, rewrite(2, 2), rewrite(1, 1))),
    StepFamily(
        "sorting", "reasoning",
        Kind((1,), ((LETTER_SORT,),), lambda rng, level, steps: " ".join(rng.choices(steps[0][0].split(), k=6))),
        *_sortings("numbers"), *_sortings("words")),
    StepFamily(
        "counting", "mathematics",
        Kind((1,), ((LETTER_COUNT,),), _letters), *_countings("numbers"), *_countings("words")),
    StepFamily("editing", "editing", *(Kind((n,), (EDITS,) * n, _line) for n in (1, 2, 3))),
    StepFamily(
        "formatting", "formatting",
        _formatting(1, (JOIN, WRAP, NUMBERED, PAIRS, FRAME)),
        _formatting(2, (WRAP, NUMBERED), (JOIN, PAIRS)),
        _formatting(3, REORDER[:3], (WRAP, NUMBERED), (JOIN, PAIRS))),
)
# fmt: on
