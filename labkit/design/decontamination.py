"""Decontamination: which training examples share text with a test.

An example overlaps a test when some n consecutive words of it (default 13) are words of the test's question or of an
answer to it: the n-gram overlap of GPT-3 (arXiv 2005.14165, app. C), where n = 13 too. A text of fewer than n words,
but at least 8 (GPT-3's least n), overlaps when all of it is found: most MBPP prompts are that short. A question of
fewer than 8 words overlaps when it is the whole of an example's question, input, output or turn. Together they find
what StarCoder (arXiv 2305.06161) and Magicoder (arXiv 2312.02120) look for, and parts of long docstrings and solutions.

Words are runs of letters, digits and `_`; each Chinese or Japanese character is one. Training texts and tests are
compared after one normalisation: Unicode NFKC (composed and decomposed letters, full width, ligatures), case folding,
no invisible characters (zero width, soft hyphens, variation selectors). Spaces, quotes, dashes and line ends of any
kind only part words.

Of a test's record every text is looked for that stands under a name of `QUESTION` or `ANSWER`, however deep: chats,
lists of parts, choices. Left out are system prompts, which many records share, and unit tests, whose data is common
(an alphabet, the first primes). `notes` says which tests are not, or not fully, looked for, and under which other names
longer texts stand.

Left open: paraphrase, translation, renamed variables; letters that look alike (Cyrillic а for a) or go without their
accent; digits of other scripts; escapes and entities (`&nbsp;`, `\\u00e9`); l e t t e r s spaced out, words parted by a
hyphen at a line end; a question of fewer than 8 words inside a longer text; an answer of fewer than 8 words; n words in
which fewer than half are different words with letters (`0, 0, 0, ...`).
"""

import os
import re
from bisect import bisect
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple
from unicodedata import category, normalize

from labkit.errors import BadRequest
from labkit.instructions import Example
from labkit.instructions.files import records, shown

DEFAULT_N = 13
LEAST_N = 8
# A column counts by the words in its name: `Correct Answer`, `promptText` and `reference_solutions` too.
QUESTION = ("prompt", "text", "question", "problem", "instruction", "input", "passage", "turn", "message",
            "conversation", "dialog", "dialogue", "query", "context", "ctx", "content", "statement", "description",
            "goal", "article", "premise", "hypothesis", "sentence", "story", "request", "body", "claim", "docstring",
            "document", "history", "q", "scenario", "specification", "user", "utterance")  # fmt: skip
ANSWER = ("solution", "code", "answer", "output", "target", "response", "completion", "reference", "choice", "option",
          "ideal", "gold", "truth", "expected", "explanation", "rationale", "reasoning", "ending", "distractor",
          "chosen", "sol", "assistant", "a", "b", "c", "d", "e")  # fmt: skip
# A text under a name with one of these words is about the test, not of it.
_ABOUT = {"id", "idx", "index", "type", "role", "from", "url", "source", "category", "level", "difficulty", "lang",
          "language", "name", "start", "key", "label"}  # fmt: skip
_IDS = ("task_id", "id", "question_id", "key", "idx")
_ASSISTANT = ("assistant", "gpt", "model", "bot", "chatbot", "ai")
_TURN = re.compile(r"^(?:system|user|human|tool|assistant|gpt|model|bot): ", re.MULTILINE)
_CJK = r"\u3005\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff"
_WORD = re.compile(rf"[{_CJK}]|[^\W{_CJK}]+")
# Invisible or mere length, but of no category of their own: joiners, tatweel, Hangul fillers, variation selectors.
_FILLERS = re.compile(
    "[\u034f\u0640\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\uffa0\ufe00-\ufe0f\U000e0100-\U000e01ef]"
)
_APOSTROPHES = re.compile("[\u02b9-\u02bd\u02c8\u055a\ua78b\ua78c]")  # letters to Unicode
_ODD = re.compile(r"[^\t-\r\x1c-~]")  # anything but printable ASCII and white space
_MARKS = str.maketrans(dict.fromkeys("‘’‚‛“”„‟«»‹›`´′″", "'") | {'"': "'"} | dict.fromkeys("‐‑‒–—―−", "-"))
_NAMED = 20  # tests named in a note

Match = Literal["question", "answer", "whole question"]


class Overlap(NamedTuple):
    """A test that an example shares words with, the first of those it shares, and what of the test they are."""

    test: str
    words: str
    test_set: str
    match: Match


class TestSet(NamedTuple):
    """What was made of a test file: its records, and the names of those that are not, or not fully, looked for.

    `passed_over` counts the records that hold a text of `LEAST_N` words or more in a column that is not looked at.
    """

    file: str
    records: int
    whole_only: list[str]
    unchecked: list[str]
    passed_over: Counter[str]


class Decontaminator:
    """The n-grams of some test files, and which examples hold one.

    Args:
        tests: HumanEval- or MBPP-shaped files, or others in any format of `files`, relative to `base`.
        n: Words in a row that make an overlap.

    Attributes:
        short: How many questions and answers have too few (different) words for n in a row.
        test_sets: What was made of each file.

    Raises:
        BadRequest: for a missing or broken file, one of which nothing can be looked for, or n < 1.
    """

    def __init__(self, tests: Sequence[str | Path], n: int = DEFAULT_N, base: str | Path = ".") -> None:
        if n < 1:
            raise BadRequest(f"n = {n}: at least one word")
        self._n, self.short = n, 0
        self._grams: dict[str, dict[tuple[str, str], Match]] = {}
        self._whole: dict[str, dict[tuple[str, str], str]] = {}
        self.test_sets = [self._read(str(file), located(base, file)) for file in tests]
        self._longest = 4 * max(map(len, self._whole), default=0)  # room for spaces and what is invisible
        self._words = {word for gram in self._grams for word in gram.split()}
        self._lengths = sorted({gram.count(" ") + 1 for gram in self._grams})

    @property
    def notes(self) -> list[str]:
        """A sentence for each file and reason why tests of it are not, or not fully, looked for."""
        whole = f"fewer than {min(self._n, LEAST_N)} words: found only where they are the whole of a text"
        reasons = {"whole_only": f"ask in {whole}", "unchecked": "hold nothing to look for"}
        notes = [f"{tests.file}: {len(names)} of {tests.records} tests {why} ({_listed(names)})"
                 for tests in self.test_sets for kind, why in reasons.items()
                 if (names := getattr(tests, kind))]  # fmt: skip
        return notes + [f"{tests.file}: not looked for: {shown([name])} (tests: {count:,})"
                        for tests in self.test_sets for name, count in tests.passed_over.items()]  # fmt: skip

    def _read(self, test_set: str, file: Path) -> TestSet:
        read, passed_over = list[tuple[str, set[Match]]](), Counter[str]()
        for number, record in records(file):
            if not isinstance(record, dict):
                raise BadRequest(f"{file}: record {number} is broken: a test set is read whole or not at all")
            try:
                for place, test in _tests(record, str(number)):
                    key = next((test[key] for key in _IDS if isinstance(test.get(key), str | int)), place)
                    name = key if isinstance(key, str) and key != place else f"{file.name.split('.')[0]}/{key}"
                    read.append((name, self._add_record((test_set, name), test)))
                    passed_over.update(_passed_over(test))
            except RecursionError:
                raise BadRequest(f"{file}: record {number} is nested too deep to be read") from None
        unchecked = [name for name, matches in read if not matches]
        if len(unchecked) == len(read):
            raise BadRequest(f"{file} has none of the columns {', '.join(QUESTION + ANSWER)} with a text that can be "
                             f"looked for; its columns: {', '.join(map(str, record))}")  # fmt: skip
        whole_only = [name for name, kinds in read if kinds == {"whole question"}]
        return TestSet(test_set, len(read), whole_only, unchecked, passed_over)

    def _add_record(self, test: tuple[str, str], record: dict[str, Any]) -> set[Match]:
        """Which matches of a record are looked for: its questions and its answers, each alone and all together."""
        texts: dict[Match, list[str]] = {"question": [], "answer": []}
        for kind, text in dict.fromkeys(_texts(record, None)):
            texts[kind].append(text)
        matches = set[Match]()
        for kind, parts in texts.items():
            together = "\n".join(parts)
            added = [self._add(test, kind, text) for text in dict.fromkeys([*parts, together])]
            if any(added):
                matches.add(kind)
            elif parts:
                self.short += 1
                if kind == "question" and self._add_whole(test, together):
                    matches.add("whole question")
        return matches

    def _add(self, test: tuple[str, str], kind: Match, text: str) -> bool:
        """Keep the n-grams of a text, or all of one that is a little shorter; whether its words are enough for that."""
        added = False
        for reading, words in enumerate(_readings(text)):
            length = min(self._n, len(words))
            if length < min(self._n, LEAST_N):
                continue
            for start in range(len(words) - length + 1):
                gram = words[start : start + length]
                if 2 * len({word for word in gram if not word.isdigit()}) >= length:
                    self._grams.setdefault(" ".join(gram), {}).setdefault(test, kind)
                    added = added or reading == 0  # a word in pieces makes no text long enough
        return added

    def _add_whole(self, test: tuple[str, str], text: str) -> bool:
        words = _WORD.findall(_plain(text))
        if len(words) >= LEAST_N or all(map(str.isdigit, words)):
            return False
        self._whole.setdefault(_compact(text), {})[test] = " ".join(words)
        return True

    def overlaps(self, example: Example) -> list[Overlap]:
        """The tests that the example's instruction, input or output shares words with, in order of their names."""
        shared: dict[tuple[str, str], tuple[str, Match]] = {}
        asked = f"{example.instruction}\n{example.input}"
        for words in (*_readings(asked), *_readings(example.output)):
            run = 0  # words in a row that occur in the tests at all: what breaks it is in no n-gram
            for end, word in enumerate(words, 1):
                run = run + 1 if word in self._words else 0
                for length in self._lengths[: bisect(self._lengths, run)]:
                    gram = " ".join(words[end - length : end])
                    for test, kind in self._grams.get(gram, {}).items():
                        shared.setdefault(test, (gram, kind))
        for text in (asked, example.input, example.output, *_TURN.split(asked)) if self._whole else ():
            if len(text) <= self._longest:
                for test, question in self._whole.get(_compact(text), {}).items():
                    shared.setdefault(test, (question, "whole question"))
        by_test = sorted(shared.items(), key=lambda item: item[0][::-1])  # by the test's name, then the file's
        return [Overlap(test, gram, file, kind) for (file, test), (gram, kind) in by_test]


def questions(file: str | Path) -> list[str]:
    """The different questions of a test file, each as one text; of a record without any nothing.

    Raises:
        BadRequest: for a missing or broken file, or one without a question.
    """
    found: dict[str, None] = {}
    for number, record in records(Path(file)):
        if isinstance(record, dict):
            for _, test in _tests(record, str(number)):
                asked = "\n".join(dict.fromkeys(text for kind, text in _texts(test, None) if kind == "question"))
                found |= {asked: None} if asked else {}
    if not found:
        raise BadRequest(f"{file} has no instructions: none of its columns is named {', '.join(QUESTION)}")
    return list(found)


def located(base: str | Path, path: str | Path) -> Path:
    """A path that somebody wrote, relative to `base`; `~` is the home folder."""
    return Path(base) / os.path.expanduser(path)  # noqa: PTH111 (pathlib's fails where ~name is no user)


def _tests(record: dict[str, Any], place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The tests of a record and their places: itself, or those in its lists where the file is one object of them."""
    lists = [value for value in record.values() if isinstance(value, list) and value]
    known = any(_kind(name, None) for name in record)
    rows = [row for rows in lists for row in rows if isinstance(row, dict)] if not known else []
    if known and len(lists) == len(record) and len(set(map(len, lists))) == 1:  # column by column
        rows = [dict(zip(record, row, strict=True)) for row in zip(*lists, strict=True)]
    if len(rows) < 2:
        yield place, record
        return
    for number, row in enumerate(rows, 1):
        yield from _tests(row, f"{place}.{number}")


def _texts(value: Any, kind: Match | None) -> Iterator[tuple[Match, str]]:
    """The texts of a test's record, at any depth, each as part of its question or of an answer."""
    if isinstance(value, str) and kind and value.strip():
        yield kind, value
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item, kind)
    elif isinstance(value, dict):
        role = str(value.get("role") or value.get("from")).lower()
        for name, inner in value.items() if role not in ("system", "developer") else ():
            words = _name(name)
            if "test" not in words or words.intersection(QUESTION):
                within = _kind(name, kind)
                yield from _texts(inner, "answer" if within and role in _ASSISTANT else within)


def _passed_over(record: dict[str, Any]) -> Iterator[str]:
    """The columns of a record that hold a text of some length and are neither looked for nor left out on purpose."""
    for name, value in record.items():
        meant = _name(name) & {*QUESTION, *ANSWER, *_ABOUT, "test"}
        if not meant and isinstance(value, str) and len(_WORD.findall(value)) >= LEAST_N:
            yield name


def _kind(name: str, above: Match | None) -> Match | None:
    """What a column of this name holds, inside a column that holds `above`."""
    words = _name(name)
    if words & _ABOUT:
        return None
    if above == "answer" or words.intersection(ANSWER):
        return "answer"
    return "question" if words.intersection(QUESTION) else above


def _name(name: str) -> set[str]:
    """The words in a column's name, in lower case, plurals as singulars too."""
    words = [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name)]
    return {form for word in words for form in (word, word.removesuffix("s"))}


def _plain(text: str, invisible: str = "") -> str:
    """A text as it is compared, `invisible` in place of characters that nobody sees."""
    if not _ODD.search(text):
        return text.lower()
    hidden = {ord(c): invisible for c in set(text) if category(c) in ("Cf", "Cc") and not c.isspace()}
    text = text if invisible else re.sub("\u00ad[\r\n]+[ \t]*", "", text)  # a word goes on in the next line
    text = text.translate(hidden)
    text = normalize("NFKC", _APOSTROPHES.sub("'", _FILLERS.sub(invisible, text)))
    text = normalize("NFKC", text.casefold())
    # Marks that are left have no composed letter (vowel signs, the dot of a Turkish i): they part no word.
    return text.translate({ord(character): None for character in set(text) if category(character)[0] == "M"})


def _readings(text: str) -> list[list[str]]:
    """The words of a text; where it has invisible characters also those that these part."""
    plain = dict.fromkeys((_plain(text), _plain(text, " ")) if _ODD.search(text) else (_plain(text),))
    return [_WORD.findall(reading) for reading in plain]


def _compact(text: str) -> str:
    """A short question as it is compared: without spaces and outer punctuation, but `1 + 2` is not `1 - 2`."""
    return re.sub(r"^\W+|\W+$", "", "".join(_plain(text.translate(_MARKS)).split()))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
