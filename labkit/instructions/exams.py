"""Exams: the questions of public benchmarks in one shape, asked in their own language, with or without examples.

What can be read, a file or a folder of them:
- CMMLU: `test/<subject>.csv`, its few-shot examples in `dev/` beside it (columns Question, A, B, C, D, Answer);
- AGIEval v1: `<name>.jsonl` (passage, question, options, label); it brings no few-shot examples;
- DoIT (arXiv 2310.19651): `curated/test/<ability>_test.json` and `ceval_*.json`, JSON lines.

Guaranteed: a question has exactly one right answer among different ones, or it is bad: bad questions are left out and
counted by their reason. In AGIEval the label names the option that is *marked* so,
wherever it stands: 19 questions each of logiqa-en and logiqa-zh list their options as (A), (C), (B), (D).
Left open: whether the published answer is true; two questions alike are two questions.

What is known of DoIT (nothing could be downloaded here). Seen in stored pages of the hub: the folders at the pinned
commit; the files in them, by name and size, at earlier ones (code and role play were replaced since, under their
names); the records of each ability, in all. Read off the authors' own scripts: JSON lines with `messages` (turns of
role and content, the last being the answer), `type`, `question_format` (0: parsed answer, 1: perplexity), for 1
`choices`, three answers with gold first, for mathematics `answer`; closed questions hold their options and are answered
by a letter, history's also by right or wrong, ethics' by a set of letters, some of Chinese by a word; code, creative
writing and role play are 1. Not seen: a record. Distractors of open questions without `choices` are here drawn from the
gold answers of others in the file.
"""

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, islice
from pathlib import Path
from random import Random
from string import ascii_uppercase
from typing import Any, Literal, NamedTuple

import yaml

from labkit.errors import BadRequest
from labkit.instructions.example import Example
from labkit.instructions.files import Broken, counted, records, utf8
from labkit.instructions.shapes import conversation, turns

_DATA = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text("utf-8"))
DOIT: tuple[str, ...] = tuple(_DATA["doit"])
Kind = Literal["listed", "given", "sets", "open"]
_RIGHT_OR_WRONG = list(zip(_DATA["right"], _DATA["wrong"], strict=True))  # the same word's two sides
_MARK = re.compile(r"\s*[(（]?([A-H])(?:([)）.．、:：。?？])|\s)\s*")
_INLINE = re.compile(r"(?<![A-Za-z])([A-H])\s*[.．、:：)）]")
# By language: what the question is introduced by, how it begins, and where the answer belongs.
_WORDS: dict[str, list[str]] = _DATA["words"]


class Question(NamedTuple):
    """A question and the answers to choose from.

    Attributes:
        text: What is asked, any passage before it.
        options: Different answers, at least two.
        right: Which of them is right.
        group: Its subject, file or ability.
        language: `zh` or `en`: in which it is introduced.
        kind: `listed`: the options are listed under the question and answered by letter. `given`: the question says
            what to choose from, and the options are the answers as written. `sets`: the same, an option being a set of
            letters (`AC`). `open`: the options are whole texts, to be ranked by perplexity.
        final: Of an open question: what a written answer must come to; empty: the whole right text.
    """

    text: str
    options: tuple[str, ...]
    right: int
    group: str
    language: Literal["zh", "en"]
    kind: Kind = "listed"
    final: str = ""

    @property
    def answers(self) -> tuple[str, ...]:
        """What stands after the prompt for each option."""
        return tuple(ascii_uppercase[: len(self.options)]) if self.kind == "listed" else self.options

    @property
    def gold(self) -> str:
        return self.answers[self.right]


class Exam(NamedTuple):
    """Questions; `bad` counts those left out by reason, `shots` holds answered examples by group."""

    name: str
    questions: tuple[Question, ...]
    bad: Counter[str]
    shots: Mapping[str, Sequence[Question]]

    def ask(self, question: Question) -> Example:
        """The question as a prompt, after the answered examples of its group, with its right answer."""
        text = question.text
        if question.kind == "listed":
            before = [f"{_block(shot)}{shot.gold}" for shot in self.shots.get(question.group, ())]
            text = "\n\n".join([_WORDS[question.language][0], *before, _block(question)]).rstrip()
        return Example(text, "", question.gold, self.name, question.group)


def read_exam(path: str | Path, *, shots: int = 0) -> Exam:
    """The exam in a file, or in all files of a folder (see the module).

    Args:
        shots: How many answered examples stand before each question, where the benchmark has them.

    Raises:
        BadRequest: for what is no exam, no usable question, or fewer examples than `shots`.
    """
    path = Path(path)
    files = _files(path)
    read = [question for file in files for _, question in _read(file)]
    golds = defaultdict[str, set[str]](set)  # the right answers of the open questions of each file
    for question in read:
        if isinstance(question, Question) and len(question.options) == 1:
            golds[question.group].add(question.gold)
    read = [_with_distractors(question, golds) for question in read]
    examples = {_group(file): _dev(file, shots) for file in files} if shots else {}
    questions = tuple(question for question in read if isinstance(question, Question))
    bad = Counter(reason for reason in read if isinstance(reason, str))
    if not questions:
        raise BadRequest(f"{path} holds no usable question: {counted(bad)}")
    name = re.sub(r"\W+", "_", _group(path))
    return Exam(f"{name}_{shots}_shot" if shots else name, questions, bad, examples)


def closed(text: Any, options: Sequence[Any], label: Any, group: str) -> Question | str:
    """A question with listed options and the letter of the right one; or, in a few words, why it is none."""
    texts, letters = tuple(" ".join(str(option or "").split()) for option in options), _letters(label)
    fault = (
        "no question" if not isinstance(text, str) or not text.strip()
        else "fewer than two options" if len(options) < 2
        else "an option is no text" if not all(isinstance(option, str | None) for option in options)
        else "an empty option" if not all(texts)
        else "duplicate options" if len(set(texts)) < len(texts)
        else "not UTF-8" if not utf8(text, *texts)
        else "several right options" if len(letters) > 1
        else "no right option" if not letters or letters not in ascii_uppercase[: len(texts)]
        else ""
    )  # fmt: skip
    if fault:
        return fault
    language: Literal["zh", "en"] = "zh" if re.search("[\u4e00-\u9fff]", text) else "en"
    return Question(text.strip(), texts, ascii_uppercase.index(letters), group, language)


def _letters(label: Any) -> str:
    """The different letters that a label is, brackets and separators aside; empty: it is none, nor a list of them."""
    said = label if isinstance(label, list) else [label]
    if not all(isinstance(letter, str) for letter in said):
        return ""
    text = unicodedata.normalize("NFKC", " ".join(said))
    return "".join(dict.fromkeys(re.findall("[A-Z]", text))) if re.fullmatch(r"[\W_]*([A-Z][\W_]*)+", text) else ""


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    for pattern in ("test/*.csv", "*.csv", "*.jsonl", "*.json"):
        if files := sorted(path.glob(pattern)):
            return files
    raise BadRequest(f"{path} is no exam: a .csv (CMMLU), .jsonl (AGIEval) or .json (DoIT) file, or a folder of them")


def _group(file: Path) -> str:
    """The subject or ability by the name of its file."""
    name = file.name.removesuffix(".gz").rsplit(".", 1)[0] if file.is_file() else file.name
    return re.sub(r"[\W_](test|valid)$", "", name)


def _read(file: Path) -> Iterator[tuple[int, Question | str]]:
    """The number of each record of a file, and its question; or, in a few words, why it has none."""
    readers = {".csv": _cmmlu, ".jsonl": _agieval, ".json": _doit}
    reader = readers.get(Path(file.name.removesuffix(".gz")).suffix.lower())
    if reader is None:
        raise BadRequest(f"{file} is no exam: .csv (CMMLU), .jsonl (AGIEval) and .json (DoIT) can be read")
    for number, record in records(file):
        bad = record.reason if isinstance(record, Broken) else "not an object"
        yield number, reader(record, _group(file)) if isinstance(record, dict) else bad


def _dev(file: Path, shots: int) -> list[Question]:
    """The first answered examples of a CMMLU subject."""
    dev = file.parent.parent / "dev" / file.name
    if ".csv" not in file.name or not dev.is_file():
        raise BadRequest(f"{file} has no few-shot examples beside it (CMMLU's are in dev/): ask it with shots = 0")
    read = list(islice(_read(dev), shots))
    if len(read) < shots:
        raise BadRequest(f"{dev} has {len(read)} few-shot examples, not {shots}")
    for number, question in read:
        if isinstance(question, str):
            raise BadRequest(f"{dev}: a few-shot example is bad: {dev.name}, record {number}: {question}")
    return [question for _, question in read if isinstance(question, Question)]


def _cmmlu(record: dict[str, Any], group: str) -> Question | str:
    columns = sorted(name for name in record if len(name) == 1 and name in ascii_uppercase)
    if "Question" not in record or "Answer" not in record:
        return "no columns Question and Answer"
    if columns != list(ascii_uppercase[: len(columns)]):
        return f"options {', '.join(columns)}: a letter is left out"
    return closed(record["Question"], [record[name] for name in columns], record["Answer"], group)


def _agieval(record: dict[str, Any], group: str) -> Question | str:
    question, options, passage = record.get("question"), record.get("options"), record.get("passage")
    if not isinstance(question, str) or not isinstance(options, list):
        return "no options" if isinstance(question, str) else "no question"
    if not isinstance(passage, str | None):
        return "passage is no text"
    marks = [_MARK.match(option) if isinstance(option, str) else None for option in options]
    letters = [mark[1] if mark else "" for mark in marks]
    if sorted(letters) == list(ascii_uppercase[: len(options)]):
        options = [o[mark.end() :] for _, o, mark in sorted(zip(letters, options, marks, strict=True)) if mark]
    else:  # marks that repeat or are missing say nothing: places count
        options = [o[mark.end() :] if mark and mark[2] else o for o, mark in zip(options, marks, strict=True)]
    text = f"{passage or ''}\n{question}".strip() if question.strip() else ""
    return closed(text, options, record.get("label"), group)


def _doit(record: dict[str, Any], group: str) -> Question | str:
    messages = record.get("messages")
    listed, parts = turns(messages), conversation(messages)
    if not messages or isinstance(parts, str) or isinstance(listed, str):
        return str(parts) if messages else "no question with its answer"
    text, label, form = parts["instruction"], parts["output"].strip(), record.get("question_format")
    if not text.strip() or not label:
        return "no question with its answer"
    choices: Any = record.get("choices") if form == 1 else []
    texts = isinstance(choices, list) and all(isinstance(choice, str) and choice.strip() for choice in choices)
    if not texts or (form == 1 and len(choices) < 2):
        return "no distractors"
    if not utf8(text, label, *choices):
        return "not UTF-8"
    if form == 1:
        distinct = len(set(choices)) == len(choices)
        return Question(text, tuple(choices), 0, group, "zh", "open") if distinct else "duplicate options"
    if form != 0:
        return "no question_format"
    if record.get("answer") is not None:
        final = _final(record["answer"])
        return Question(text, (label,), 0, group, "zh", "open", final) if final else "no right answer"
    options: Sequence[str] = list(_offered(listed[-2][1]))
    kind: Kind = "given"
    if record.get("type") == "ethics":
        label, kind = "".join(sorted(set(re.findall("[A-H]", label.splitlines()[-1])))), "sets"
        options = ["".join(letters) for letters in combinations(options, len(label))] if label else []
        if len(options) == 1 and label in options:
            return "nothing to choose from"
    elif label not in options:
        options = next((pair for pair in _RIGHT_OR_WRONG if label in pair), ())
        if not options and not re.fullmatch(r"[A-H]([\s,，、]*[A-H])*", label):
            return Question(text, (label,), 0, group, "zh", "open", label)
        if not options and len(label) > 1:
            return "several right options"
    if label not in options:
        return "no right option"
    return Question(text, tuple(options), options.index(label), group, "zh", kind)


def _final(answer: Any) -> str:
    """A parsed answer as text; empty: it is neither a text nor a finite number."""
    number = isinstance(answer, int | float) and not isinstance(answer, bool) and math.isfinite(answer)
    return str(answer).strip() if number or isinstance(answer, str) else ""


def _offered(text: str) -> str:
    """The letters that a question offers: as many as it marks from A on; the authors take four where none are found."""
    marked = set(_INLINE.findall(text))
    count = next((n for n, letter in enumerate(ascii_uppercase) if letter not in marked), 0)
    return ascii_uppercase[: count if count >= 2 else 4]


def _with_distractors(question: Question | str, golds: Mapping[str, set[str]]) -> Question | str:
    """An open question that has only its right answer gets two of others to be ranked against."""
    if isinstance(question, str) or len(question.options) > 1:
        return question
    others = sorted(golds[question.group] - {question.gold})
    if len(others) < 2:
        return "no two other answers to rank it against"
    # Seeded by the question: the same distractors in any order of the file.
    return question._replace(options=(question.gold, *Random(question.text).sample(others, 2)))


def _block(question: Question) -> str:
    _, ask, answer = _WORDS[question.language]
    options = "".join(f"\n{letter}. {text}" for letter, text in zip(ascii_uppercase, question.options, strict=False))
    return f"{ask}{question.text}{options}\n{answer}"
