"""Decontamination: which training examples share text with a test.

An example overlaps a test when some n consecutive words of it (default 13) are words of the test's prompt or reference
solution: the n-gram overlap of GPT-3 (arXiv 2005.14165, app. C), where n = 13 too. A text of fewer than n words, but at
least 8 (GPT-3's least n), overlaps when all of it is found: most MBPP prompts are that short. Both together find what
StarCoder (arXiv 2305.06161) and Magicoder (arXiv 2312.02120) look for, whole docstrings and solutions, and parts of
long ones. Words are runs of letters, digits and `_`, in lower case; each Chinese or Japanese character is one.
Left open: a paraphrase or a renamed solution is not found; a text of fewer than 8 words is not looked for (`short`
counts them); n words in which fewer than half are different words with letters (`0, 0, 0, ...`) do not count.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from labkit.errors import BadRequest
from labkit.instructions import Example
from labkit.instructions.corpora import records

DEFAULT_N = 13
LEAST_N = 8
COLUMNS = (
    *("prompt", "text", "question", "Question", "problem", "instruction", "Instruction", "input", "passage", "turns"),
    *("canonical_solution", "code", "solution"),
)
_IDS = ("task_id", "id", "question_id", "key", "idx")
_CJK = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_WORD = re.compile(rf"[{_CJK}]|[^\W{_CJK}]+")


class Overlap(NamedTuple):
    """A test that an example shares words with, and the first of those it shares."""

    test: str
    words: str


class Decontaminator:
    """The n-grams of some test files, and which examples hold one.

    Args:
        tests: HumanEval- or MBPP-shaped files, or others in any format of `corpora`; of each record the columns among
            `COLUMNS` are looked for, or those given.
        n: Words in a row that make an overlap.

    Attributes:
        short: How many texts are too short to be looked for.

    Raises:
        BadRequest: for a missing or broken file, one without such a column, or n < 1.
    """

    def __init__(self, tests: Sequence[str | Path], n: int = DEFAULT_N, columns: Sequence[str] | None = None) -> None:
        if n < 1:
            raise BadRequest(f"n = {n}: at least one word")
        self.short = 0
        self._grams: dict[str, set[str]] = {}
        for file in map(Path, tests):
            found = False
            for number, record in records(file):
                if not isinstance(record, dict):
                    raise BadRequest(f"{file}: record {number} is broken: a test set is read whole or not at all")
                name = next((record[key] for key in _IDS if key in record), number)
                test = name if isinstance(name, str) else f"{file.name.split('.')[0]}/{name}"
                for column in columns or COLUMNS:
                    for text in _texts(record.get(column)):
                        found = True
                        self._add(test, _WORD.findall(text.lower()), n)
            if not found:
                raise BadRequest(
                    f"{file} has none of the columns {', '.join(columns or COLUMNS)}; its columns: {', '.join(record)}"
                )
        self._words = {word for gram in self._grams for word in gram.split()}
        # Lengths of n-grams by their last words, as many as every n-gram has: one look-up a word rules most out.
        self._last = min((gram.count(" ") + 1 for gram in self._grams), default=1)
        self._lengths: dict[str, set[int]] = {}
        for words in map(str.split, self._grams):
            self._lengths.setdefault(" ".join(words[-self._last :]), set()).add(len(words))

    def _add(self, test: str, words: list[str], n: int) -> None:
        if len(words) < min(n, LEAST_N):
            self.short += 1
            return
        length = min(n, len(words))
        for start in range(len(words) - length + 1):
            gram = words[start : start + length]
            if 2 * len({word for word in gram if not word.isdigit()}) >= length:
                self._grams.setdefault(" ".join(gram), set()).add(test)

    def overlaps(self, example: Example) -> list[Overlap]:
        """The tests that the example's instruction, input or output shares words with, in order of their names."""
        found: dict[str, str] = {}
        for text in (f"{example.instruction}\n{example.input}", example.output):
            words = _WORD.findall(text.lower())
            run = 0  # words in a row that occur in the tests at all: what breaks it is in no n-gram
            for end, word in enumerate(words, 1):
                run = run + 1 if word in self._words else 0
                if run < self._last:
                    continue
                for length in self._lengths.get(" ".join(words[end - self._last : end]), ()):
                    gram = " ".join(words[max(0, end - length) : end])
                    for test in self._grams.get(gram, ()):
                        found.setdefault(test, gram)
        return [Overlap(test, found[test]) for test in sorted(found)]


def _texts(value: Any) -> list[str]:
    return [text for text in (value if isinstance(value, list) else [value]) if isinstance(text, str)]
