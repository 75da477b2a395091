"""Shapes of records: which columns make an example, and what a column says that is not among them.

Guaranteed: a conversation is read by the roles of its turns, never by their places; of a detected shape no column is
left out whose name says that it changes what is asked or answered (`MEANING`), unless it repeats what is used.
Left open: what a column of another name holds: it is counted as not used.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from labkit.errors import BadRequest
from labkit.instructions.files import Broken, shown


class Fields(NamedTuple):
    """Which columns of a record make an example.

    Each of the three names a column (`question`; `instances.0.input` looks inside; `0` is the first column of a file
    without header) or is a template of columns (`"{rationale} The answer is {target}."`). Where `instruction` and
    `output` name one column, it is a conversation, a list of turns (`role` and `content`, or `from` and `value`): the
    last turn, the assistant's, is the output, and a record that marks it as not to be learned (`weight: 0`, `train:
    false`) is bad; the instruction is the turn before, or, of several, all of them as lines `role: content`. Where the
    two columns hold a list of turns each, it is the conversation of both. `input` may be missing, null or empty in a
    record, the other two may not; text is text: numbers, true and lists are refused.

    Attributes:
        rewrite: Regular expressions with what replaces them, applied to all three.
    """

    instruction: str
    output: str
    input: str = ""
    rewrite: Sequence[tuple[str, str]] = ()


_DATA = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text("utf-8"))
SHAPES = tuple(Fields(*columns) for columns in _DATA["shapes"])
INPUTS = ("input", "context")  # of a detected shape: whichever holds something, in each record
ROLES = {role: tuple(names.split()) for role, names in _DATA["roles"].items()}
_ROLE = {name: role for role, names in ROLES.items() for name in names}
_TEXTS, _WHO = ("content", "value", "text"), ("role", "from")
# Names, of which the last word counts: `system_prompt` is a prompt, `prompt_id` an id.
_LONG = 30  # characters; a shorter text stands in another by chance
_MEDIA = tuple(_DATA["media"].split())  # also where it is only a path
UNLEARNED = tuple(_DATA["unlearned"].split())  # of a turn: 0 or false says that it is not to be learned
MEANING = frozenset(_DATA["meaning"].split()) | {*_MEDIA}


def columns_of(fields: Fields) -> list[str]:
    return [column for spec in fields[:3] if spec for column in _named(spec)]


def _named(spec: str) -> list[str]:
    return re.findall(r"{([^{}]+)}", spec) or [spec]


def has(record: Mapping[str, Any], column: str) -> bool:
    return column in record or column.split(".")[0] in record


def detect(record: Mapping[str, Any]) -> "Shape | None":
    """The known shape of a record; where its input stands is found in each record (see `INPUTS`)."""
    fits = (fields for fields in SHAPES if fields.instruction in record and fields.output in record)
    return next((Shape(fields._replace(input=""), detected=True) for fields in fits), None)


def unknown_shape(record: Mapping[str, Any]) -> str:
    """What is said of a record of no known shape."""
    known = "; ".join(dict.fromkeys(" + ".join(dict.fromkeys(shape[:2])) for shape in SHAPES))
    return f"none of the known shapes ({known}); give `fields`; its columns: {shown(record)}{inside(record)}"


def inside(record: Mapping[str, Any]) -> str:
    """Where the records seem to be, when a whole file is one object."""
    lists = {name: value[0] for name, value in record.items() if isinstance(value, list) and value}
    if inner := [name for name, first in lists.items() if isinstance(first, dict) and not _is_turn(first)]:
        return f" (one JSON object, not a list of records: those in {shown(inner)} can be saved as a file of their own)"
    if record and all(isinstance(value, dict) and value for value in record.values()):
        return " (one JSON object of objects, not a list of records)"
    return ""


def column_wise(record: Mapping[str, Any]) -> bool:
    """Whether each column holds the values of all records, as pandas writes by default."""
    values = list(record.values())
    same = all(isinstance(v, dict) for v in values) or all(isinstance(v, list) and v and not _chat(v) for v in values)
    return len(values) > 1 and same and len({len(value) for value in values}) == 1


class Shape:
    """How the records of one source become examples: the fields, and what follows from them once for all.

    Args:
        detected: Whether the fields are of a known shape, and not named by a person or a corpus.
    """

    def __init__(self, fields: Fields, detected: bool) -> None:
        self.fields, self.detected = fields, detected
        self.columns = columns_of(fields)
        self.chat = fields.instruction == fields.output
        inputs = INPUTS if detected and not self.chat else ()
        self.used = {*self.columns, *(column.split(".")[0] for column in self.columns), *inputs}
        self.lists: dict[str, set[str]] = {}  # of which elements are named by place
        for match in (re.match(r"(.+?)\.(\d+)(\.|$)", column) for column in self.columns):
            if match:
                self.lists.setdefault(match[1], set()).add(match[2])

    def parts(self, record: Mapping[str, Any]) -> dict[str, Any] | str:
        """What stands in the columns of an example; or, in a few words, why there is none."""
        fields = self.fields
        if self.chat:
            listed = get(record, fields.output)
            return f"{shown([fields.output])} is missing" if listed is None else conversation(listed)
        if self.lists and (reason := self._wrong_turn(record)):
            return reason
        instruction, output = get(record, fields.instruction), get(record, fields.output)
        held = get(record, fields.input) if fields.input else None
        if self.detected:
            names = [name for name in INPUTS if record.get(name) is not None and record[name] != ""]
            held = record[names[0]] if names else None
            if len(names) > 1 and record[names[0]] != record[names[1]]:
                return f"{' and '.join(names)} both hold something: name `fields`"
        given = "" if held is None else held
        if not _chat(instruction) and not _chat(output):
            return {"instruction": instruction, "input": given, "output": output}
        if not _chat(instruction) or not _chat(output):
            return f"{'instruction' if _chat(instruction) else 'output'} is a list of turns, the other is none"
        return "an input beside a conversation" if given != "" else conversation([*instruction, *output])

    def _wrong_turn(self, record: Mapping[str, Any]) -> str | None:
        """Why columns that pick turns by their places would teach a turn of another role."""
        for name, spec, role in (("instruction", self.fields.instruction, "user"),
                                 ("output", self.fields.output, "assistant")):  # fmt: skip
            if spec in record or ("{" in spec and role == "user"):  # a template may put several turns into the question
                continue
            for column in _named(spec):
                turn = next((value for value in _walk(record, column) if _is_turn(value)), None)
                there = _role(turn) if turn else role
                if there in ROLES and there != role:
                    return f"{name} ({column}) is a turn of the {there}: name the whole conversation instead"
        return None

    def left_out(self, record: Mapping[str, Any], texts: Sequence[str]) -> tuple[list[str], list[str]]:
        """The columns that hold something and are not used; and those of them that must not be left out."""
        names = [name for name, value in record.items() if name not in self.used and not _empty(value)]
        wrong = [name for name in names if means(name, record[name])] if self.detected else []
        for path, named in self.lists.items():
            value = get(record, path)
            if isinstance(value, list) and len(value) > len(named):
                names.append(f"further elements of {path}")
        if self.chat:
            listed = get(record, self.fields.output)
            keys = {key for turn in listed for key, value in turn.items() if not _empty(value)}
            names += [f"{key} of a turn" for key in sorted(keys - {*_TEXTS, *_WHO})]
        return names, [name for name in wrong if not _repeats(record[name], texts)]


def get(record: Mapping[str, Any], spec: str) -> Any:
    """The value of a column, a path or a template."""
    if spec in record:
        return record[spec]
    if "{" in spec:
        pieces = {column: get(record, column) for column in _named(spec)}
        wrong = [piece for piece in pieces.values() if not isinstance(piece, str) or not piece.strip()]
        return wrong[0] if wrong else re.sub(r"{([^{}]+)}", lambda match: pieces[match[1]], spec)
    *_, value = _walk(record, spec)
    return value


def _walk(record: Any, path: str) -> Iterator[Any]:
    value = record
    yield value
    for step in path.split("."):
        if isinstance(value, list) and step.isdecimal() and int(step) < len(value):
            value = value[int(step)]
        else:
            value = value.get(step) if isinstance(value, dict) else None
        yield value


def _empty(value: Any) -> bool:
    bare = value.strip() if isinstance(value, str) else value
    return bare is None or (isinstance(bare, str | list | dict) and not bare)


def means(name: str, value: Any) -> bool:
    """Whether a column's name says that what it holds changes the question or the answer."""
    return not isinstance(value, bool | int | float) and _means(name)


@lru_cache(maxsize=4096)
def _means(name: str) -> bool:
    if re.fullmatch("[A-H]", name):
        return True  # the options of a multiple choice
    words = [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name) if len(word) > 1]
    words = [word if word in MEANING else word.removesuffix("s") for word in words]
    return bool(words and (words[-1] in MEANING or any(word in _MEDIA for word in words)))


def _repeats(value: Any, texts: Sequence[str]) -> bool:
    """Whether a column says nothing new: its text is, or at some length stands in, one that is used, or holds all."""
    if not isinstance(value, str):
        return False
    text, (instruction, *_, output) = value.strip(), (used.strip() for used in texts)
    inside = any(text == used.strip() or (len(text) >= _LONG and text in used) for used in texts)
    return inside or (instruction in text and output in text)


def _is_turn(value: Any) -> bool:
    return isinstance(value, dict) and any(key in value for key in _WHO) and any(key in value for key in _TEXTS)


def _chat(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(_is_turn(turn) for turn in value)


def _role(turn: Mapping[str, Any]) -> str:
    """The role of a turn by the name in `ROLES`; another name as it stands; empty: it has none."""
    name = next((turn[key] for key in _WHO if isinstance(turn.get(key), str)), "").strip()
    return _ROLE.get(name.lower().replace("-", "_"), name)


def turns(listed: Any) -> list[tuple[str, str]] | str:
    """Role and text of each turn; or, in a few words, why they cannot be read. An empty system turn is no turn."""
    if not isinstance(listed, list) or not listed:
        return "no turns" if isinstance(listed, list) else "a conversation that is no list of turns"
    read = []
    for turn in listed:
        if not isinstance(turn, dict):
            return turn.reason if isinstance(turn, Broken) else "a turn that is no object"
        role, text = _role(turn), _said(turn)
        if role not in ROLES:
            return f"unknown role '{shown([role])}'" if role else "a turn without a role"
        extra = (key for key, value in turn.items() if key not in (*_TEXTS, *_WHO) and not _empty(value))
        if key := next((key for key in extra if means(key, turn[key])), None):
            return f"a turn with {shown([key])}"
        if role == "tool":
            return "a turn of a tool"
        if isinstance(text, Broken):
            return text.reason
        if text.strip() or role != "system":
            read.append((role, text))
    return read


def _said(turn: Mapping[str, Any]) -> str | Broken:
    """The text of a turn, which may be a list of parts."""
    held = [turn[key] for key in _TEXTS if not _empty(turn.get(key))]
    if len(held) > 1:
        return Broken("a turn with two texts", "")
    content = held[0] if held else next((turn[key] for key in _TEXTS if turn.get(key) is not None), None)
    if isinstance(content, list):
        for part in content:
            fields = part if isinstance(part, dict) else {"type": type(part).__name__}
            if not isinstance(fields.get("text"), str) or not str(fields.get("type", "text")).endswith("text"):
                kind = fields.get("type")
                return Broken(f"a turn with a part of type '{shown([kind])}'", "")
        return "".join(part["text"] for part in content)
    unread = "a turn without text content" if content is None else "a turn whose content is no text"
    return content if isinstance(content, str) else Broken(unread, "")


def conversation(listed: Any) -> dict[str, Any] | str:
    """The parts of an example in a list of turns, as `Fields` says; or, in a few words, why it has none."""
    read = turns(listed)
    if isinstance(read, str):
        return read
    *before, last = read or [("", "")]
    if last[0] != "assistant":
        return f"the last turn is the {last[0]}'s, not the assistant's" if last[0] else "no turns"
    if mark := next((name for name in UNLEARNED if listed[-1].get(name, 1) in (0, "0")), None):
        return f"the last turn is marked as not to be learned ({mark}: {shown([listed[-1][mark]])})"
    if not before or before[-1][0] != "user":
        return "the turn before the last is not the user's"
    if len(before) > 1 and not all(text.strip() for _, text in before):
        return "an empty turn"
    lines = "\n".join(f"{role}: {text}" for role, text in before)
    return {"instruction": before[0][1] if len(before) == 1 else lines, "input": "", "output": last[1]}


def fields_of(given: Mapping[str, str | int]) -> Fields:
    """The fields that a person names."""
    if not {"instruction", "output"} <= given.keys() <= {"instruction", "output", "input"}:
        raise BadRequest(f"fields name {shown(given)}: instruction and output are needed, input may be added")
    return Fields(str(given["instruction"]), str(given["output"]), str(given.get("input", "")))
