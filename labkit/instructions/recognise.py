"""From the wording of an instruction back to the instruction, so that an oracle can answer what it knows as text only.

Guaranteed: whatever the families of `EVERY` say is recognised, of every seed, split and level, in every phrasing, and
so are their wordings in other combinations; anything else is None. It is read, not looked up: a wording is a pattern in
which values stand, and what is read is put into words again and compared. Where a wording belongs to two instructions,
the input decides: functions say the same of lists and of texts.

Left open: values that are read may be some that are never drawn together (to swap words 2 and 2); the level is the
lowest that has such a request. The first call builds the patterns; the others take a tenth of a millisecond.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import chain, combinations
from string import Formatter
from typing import Any, NamedTuple

from labkit.instructions import functions
from labkit.instructions.draws import Domain, Values
from labkit.instructions.families import EVERY
from labkit.instructions.family import Instruction, split_of
from labkit.instructions.functions import NOTHING, SAYS, SHAPES, SOURCES, STARTS, Bound, Entry, Part, Program
from labkit.instructions.steps import Step, StepFamily

_JOIN = re.compile(r"[,;] (?:then|next) ")  # between the steps of one instruction


class Recognised(NamedTuple):
    """What a wording says.

    Attributes:
        family: A name in `EVERY`.
        instruction: Its key and phrasings are those that were drawn, and so are its answers by `EVERY[family]`.
        level: The lowest level at which the family has such a request.
    """

    family: str
    instruction: Instruction
    level: int


def recognise(text: str, input: str | None = None) -> Recognised | None:
    """The instruction that is worded like this, if any family says so.

    Args:
        text: The instruction alone.
        input: What it is to be carried out on; it decides where the wording does not.

    >>> recognise("delete word 2").instruction.key
    'editing: delete word 2'
    >>> recognise("delete the words")
    """
    parts = _JOIN.split(text)
    found = chain(_by_steps([text]), _by_steps(parts) if len(parts) > 1 else (), _by_program(parts, input))
    return next(found, None)


# Steps


def held_out(question: str) -> str | None:
    """Why a question must not be trained on, where exams ask for held-out instructions; None where it may be."""
    instruction, _, text = question.partition("\n")
    found = recognise(instruction, text.strip() or None)
    if found is None:
        return "not recognised"
    return "instruction of the exam" if split_of(found.instruction.key) == "test" else None


class _Wording(NamedTuple):
    """One wording of a step: its pattern with a group for each value, and where the step stands."""

    text: str
    pattern: re.Pattern[str]
    step: Step
    places: list[tuple[str, int, int, int]]  # family, kind, pool of the kind, step of the pool


def _by_steps(parts: Sequence[str]) -> Iterator[Recognised]:
    """What the parts say as the steps of a family, one after the other."""
    found = list[dict[tuple[str, int], tuple[int, Values]]]()  # of each part: its step and values, by family and kind
    for place, part in enumerate(parts):
        found.append({})
        for wording in _wordings().get(part.partition(" ")[0], ()):
            if (values := _values(wording, part)) is not None:
                found[-1].update({(name, kind): (i, values) for name, kind, pool, i in wording.places if pool == place})
    for name, number in found[0]:
        family = EVERY[name]
        assert isinstance(family, StepFamily)
        if len(family.kinds[number].pools) == len(parts) and all((name, number) in some for some in found):
            settled = [some[name, number] for some in found]
            yield Recognised(name, family.settle(number, settled), family.kinds[number].levels[0])


def _values(wording: _Wording, text: str) -> Values | None:
    match, step = wording.pattern.fullmatch(text), wording.step
    if match is None:
        return None
    values: list[Any] = [None] * len(step.domains)
    for name, said in match.groupdict().items():
        domain = step.domains[int(name[1:])]
        values[int(name[1:])] = said if isinstance(domain, str) else domain[said]
    complete = step.complete(tuple(values))
    return complete if complete is not None and wording.text.format(*complete) == text else None


@cache
def _wordings() -> dict[str, list[_Wording]]:
    """All wordings of all steps, by their first word."""
    places = dict[int, tuple[Step, list[tuple[str, int, int, int]]]]()
    for name, family in EVERY.items():
        for number, kind in enumerate(family.kinds if isinstance(family, StepFamily) else ()):
            for place, pool in enumerate(kind.pools):
                for i, step in enumerate(pool):
                    places.setdefault(id(step), (step, []))[1].append((name, number, place, i))
    found = dict[str, list[_Wording]]()
    for step, where in places.values():
        for text in step.wordings:
            wording = _Wording(text, _pattern(text, step.domains), step, where)
            found.setdefault(text.partition(" ")[0], []).append(wording)
    return found


def _pattern(text: str, domains: Sequence[Domain]) -> re.Pattern[str]:
    """A pattern with a group for each value, such as v0; where a value is said again, it must be the same."""
    pattern, known = "", set[str]()
    for literal, field, _, _ in Formatter().parse(text):
        pattern += re.escape(literal)
        if field in known:
            pattern += f"(?P=v{field})"
        elif field is not None:
            known.add(field)
            domain = domains[int(field)]
            pattern += f"(?P<v{field}>{domain if isinstance(domain, str) else _any_of(domain)})"
    return re.compile(pattern)


def _any_of(texts: Iterable[str]) -> str:
    return "|".join(map(re.escape, texts))


# Functions

_Slot = dict[str, tuple[tuple[int, Part], ...]]  # what may be said, and which parts of the program that settles


class _Segment:
    """One of the joined parts of a wording: what may be said in each of its slots, with a blank between them."""

    def __init__(self, *slots: _Slot) -> None:
        self.slots = slots
        self.pattern = re.compile(" ".join(f"({_any_of(slot)})" for slot in slots))

    def read(self, said: str) -> list[tuple[tuple[int, Part], ...]]:
        """What the words of each slot settle; nothing where they are no words of this segment."""
        match = self.pattern.fullmatch(said)
        return [slot[text] for slot, text in zip(self.slots, match.groups(), strict=True)] if match else []


_COMBINED = [(shape, source) for shape in ("chain", "split") for source in SOURCES]
_COMBINED += [("loop", "list"), ("loop", "digits"), ("loop", "lengths"), ("branch", "list"), ("branch", "letters")]
_COMBINED += [("countdown", "range")]


def _by_program(parts: Sequence[str], input: str | None) -> Iterator[Recognised]:
    """What the parts say as a function of any shape and source."""
    start = next((start for start in STARTS[1:] if parts[0].startswith(start)), "")
    parts = [parts[0].removeprefix(start), *parts[1:]]
    for shape, source in _COMBINED:
        segments = _segments(shape, source) if input is None or SOURCES[source].takes in input else ()
        for chosen in combinations(segments, len(parts)):  # any may be left out of a wording
            read = [segment.read(part) for segment, part in zip(chosen, parts, strict=True)]
            if not all(read):
                continue
            settled = dict(chain(*chain(*read)))
            program = Program(shape, source, tuple(settled.get(i, NOTHING) for i in range(len(SHAPES[shape]) - 1)))
            texts = functions.build(program).texts
            if len(texts) == len(parts) and all(part in some for part, some in zip(parts, texts, strict=True)):
                simple = source in ("list", "letters") and NOTHING in program.parts
                if instruction := functions.settle(program):
                    yield Recognised("functions", instruction, 3 if shape != "chain" else 1 if simple else 2)


@cache
def _segments(shape: str, name: str) -> list[_Segment]:
    """What the joined parts of a wording consist of."""
    source = SOURCES[name]
    tables = [functions.table_of(table, source) for table in SHAPES[shape][1:]]

    def slot(place: int, says: str = "{0}", o: str = source.items) -> _Slot:
        return {text: ((place, part),) for part, texts in _said(tables[place], says, o) for text in texts}

    head = [_Segment(dict.fromkeys(texts, ())) for texts in source.texts]
    if shape == "chain":
        change = slot(1, o="each") | slot(1, o=f"each {source.domain[:-1]}")
        return [*head, _Segment(slot(0, SAYS["keep"])), _Segment(change), _Segment(slot(2, SAYS["end"]))]
    if shape == "split":
        which: _Slot = {
            text: ((0, keep), (1, change))
            for keep, kept in _said(tables[0], "{0}", source.items)
            for change, texts in _said(tables[1], "{0}", kept[0])
            for text in texts
        }
        return [*head, _Segment(which, {"and": ()}, slot(2, o="others")), _Segment(slot(3, SAYS["end"]))]
    if shape == "loop":
        return [*head, _Segment(slot(3), slot(0, SAYS["at"]), slot(1), slot(2, SAYS["else"]))]
    if shape == "branch":
        return [_Segment(slot(0, SAYS["if"]), slot(1, SAYS["end"]), slot(2, SAYS["else end"]))]
    return [_Segment(slot(0, SAYS["while"]), slot(1)), _Segment(slot(2))]


def _said(table: dict[str, Entry], says: str, o: str) -> Iterator[tuple[Part, tuple[str, ...]]]:
    for name, entry in table.items():
        for n in entry.values:
            yield (name, n), Bound(entry, n).texts(says, o=o)
