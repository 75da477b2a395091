"""The words that the instruction families are made of, from `lexicon.yaml`; random letters and marks beside them."""

from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path

import yaml

_DATA = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text("utf-8"))
CATEGORIES: dict[str, list[str]] = {name: words.split() for name, words in _DATA["categories"].items()}
WORDS = [word for words in CATEGORIES.values() for word in words]
NAMES: list[str] = _DATA["names"].split()
HIGH: list[str] = _DATA["high"].split()
LOW: list[str] = _DATA["low"].split()
OPPOSITES = dict(zip(HIGH + LOW, LOW + HIGH, strict=True))
MONTHS: list[str] = _DATA["months"].split()
WEEKDAYS: list[str] = _DATA["weekdays"].split()
ROLES: list[str] = _DATA["roles"].split()
CRIES: list[str] = _DATA["cries"].split()
SYNONYMS: dict[str, str] = {words.partition("|")[0]: words for words in _DATA["synonyms"]}
TOY: dict[str, tuple[tuple[str, ...], ...]] = {  # pairs of words of two toy languages
    symbol: tuple(tuple(pair.split(":")) for pair in pairs.split()) for symbol, pairs in _DATA["toy"].items()
}
WORDINGS: dict[str, dict[str, str]] = _DATA["wordings"]

_DAYS = (date(2023, 1, 1) + timedelta(day) for day in range(365))  # of no leap year
DATES = [f"{MONTHS[day.month - 1]} {day.day}" for day in _DAYS]
ORDINALS = ("first", "second", "third", "fourth", "fifth")
CONSONANTS = "bcdfghjklmnpqrstvwxz"
LETTERS = "abcdefghijklmnopqrstuvwxyz"
NUMBERS = [str(number) for number in range(10, 100)]
MARKS = ",;:/|-+=&#~*!%@^"
YES_NO = ("yes", "no")
# Of which one may stand for another: what `steps.perturbed` changes.
ALIKE: list[Sequence[str]] = [*CATEGORIES.values(), NAMES, WEEKDAYS, MONTHS, HIGH, LOW, YES_NO]
ALIKE += [ROLES, CRIES, list(CATEGORIES), "0123456789", CONSONANTS, LETTERS, MARKS]
ALIKE += [[pair[side] for pair in pairs] for pairs in TOY.values() for side in (0, 1)]


def _things(words: str) -> list[str]:
    """The words of a category; with the article where one stands before it, as in `the tools`."""
    article, _, category = words.rpartition(" ")
    return [f"{article} {word}".strip() for word in CATEGORIES[category]]


THINGS = {verb: _things(words) for verb, words in _DATA["things"].items()}
