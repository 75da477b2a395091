"""Small Python functions: what f(x) shall do in words, the reference code, and tests that tell it from all others.

A program takes a *source* (the list x, the letters of a text x, its words, the digits of a number...), may keep some
items, change each, and return them or one thing about them (level 1: one or two of these; level 2: more); at level 3
the change depends on a condition, or a loop keeps a total, a branch chooses, a count runs down.

Guaranteed: the key of an instruction is a hash of what its program returns on a fixed battery of inputs, so that
programs of equal behaviour are in one split, and training and test share neither a composition nor its behaviour;
the battery stands in the tests, so that code of any other key fails them; no program is constant, returns its input,
or behaves like itself without one of its parts. Left open: programs that differ on rare inputs alone count as
equal. `accepts` compares text: it is enough for being right, not needed; pass@1 runs `tests` (`labkit code-eval`).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import yaml

from labkit.instructions.family import Family, Instruction, Task, combined, phrasings

Part = tuple[str, Any]  # a name in one of the tables below, and its number or letter
NOTHING: Part = ("", 0)


class Entry(NamedTuple):
    """One part: its wordings, its code, the values it may have, and a wording that no drawn task uses, if any."""

    text: str
    code: str
    values: Sequence[Any] = (0,)
    held_out: str = ""


class Source(NamedTuple):
    """What a program goes through: the kind of x, the kind of its items, and how they are had from x."""

    takes: str
    domain: str
    text: str
    code: str
    as_list: str

    @property
    def texts(self) -> list[tuple[str, ...]]:
        return [phrasings(self.text)] if self.text else []

    @property
    def items(self) -> str:
        return "ones" if self.text else self.domain


class Program(NamedTuple):
    """A composition: its shape, what it goes through, and its parts in the order of the shape's tables."""

    shape: str
    source: str
    parts: tuple[Part, ...]


class Bound(NamedTuple):
    """A part with its value: code and wordings."""

    entry: Entry
    n: Any

    def code(self, **names: str) -> str:
        return self.entry.code.format(n=self.n, **names)

    def texts(self, template: str = "{0}", **names: str) -> tuple[str, ...]:
        return tuple(text.format(n=self.n, **names) for text in phrasings(template.replace("{0}", self.entry.text)))


class Built(NamedTuple):
    """A program carried out: the wordings of its parts, and the lines of its body."""

    texts: list[tuple[str, ...]]
    body: str

    @property
    def run(self) -> Callable[[Any], Any]:
        """The function that the body defines."""
        return _compiled(self.body)


_DATA = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text("utf-8"))
SOURCES = {name: Source(**fields) for name, fields in _DATA["sources"].items()}
SAYS: dict[str, str] = _DATA["says"]  # how parts are said
STARTS = ("", "let f ", "make f ", "have f ")  # before what has few wordings


def _entries(rows: dict[str, list[Any]]) -> dict[str, Entry]:
    return {name: Entry(*row) for name, row in rows.items()}


# Parts that differ by the domain of what they are applied to, and parts that do not.
KEEP, CHANGE, RETURN, CHECK = (
    {domain: _entries(rows) for domain, rows in _DATA[table].items()} for table in ("keep", "change", "return", "check")
)
UPDATE, START, LIMIT, SHRINK, TALLY = (_entries(_DATA[key]) for key in ("update", "start", "limit", "shrink", "tally"))


class Functions(Family):
    """Small Python functions; an instruction's setting is its `Program`."""

    name, task_type = "functions", "code"

    def instruction(self, rng: Random, level: int) -> Instruction:
        """See `Family`; programs that equal a simpler one are passed over."""
        while True:
            if one := settle(_drawn(rng, level)):
                return one

    def input(self, instruction: Instruction, rng: Random, level: int) -> str:
        """What x is, in words."""
        return f"x is a {SOURCES[instruction.setting.source].takes}"

    def answer(self, instruction: Instruction, text: str) -> str:
        """The reference code. Other code may be as right: `tests` decide."""
        return f"def f(x):\n{build(instruction.setting).body}"

    def final(self, text: str) -> str:
        """See `Family`; code has lines."""
        return text.strip()

    def wrong(self, instruction: Instruction, text: str, rng: Random) -> str:
        """See `Family`: the code of a program of another behaviour, that differs in one part."""
        program: Program = instruction.setting
        while True:
            place, parts = rng.randrange(len(program.parts)), list(program.parts)
            name, entry = rng.choice(list(table_of(SHAPES[program.shape][1 + place], SOURCES[program.source]).items()))
            parts[place] = (name, rng.choice(entry.values))
            other = program._replace(parts=tuple(parts))
            if (key := fingerprint(other)) and not instruction.key.endswith(key):
                return self.answer(instruction._replace(setting=other), text)


FUNCTIONS = Functions()


def settle(program: Program) -> Instruction | None:
    """The instruction of a program; None when it is constant, its input, or a simpler program's equal."""
    if not (key := fingerprint(program)):
        return None
    parts = [f"{name} {n}" if n else name for name, n in program.parts if name]
    composition = " | ".join([program.shape, program.source, *parts])
    return Instruction(f"functions: {key}", _wordings(program), program, composition)


def reworded(task: Task, rng: Random) -> Task | None:
    """The same task with one part, any that has one, in its held-out wording; None where no part has one."""
    program: Program = task.instruction.setting
    tables = zip(SHAPES[program.shape][1:], program.parts, strict=True)
    entries = [table_of(table, SOURCES[program.source])[name] if name else None for table, (name, _) in tables]
    places = [place for place, entry in enumerate(entries) if entry and entry.held_out]
    if not places:
        return None
    wording = rng.choice(_wordings(program, rng.choice(places)))
    return task._replace(example=replace(task.example, instruction=wording))


def tests(instruction: Instruction) -> str:
    """Lines of `assert` on `f`: three edge cases, seven fresh inputs, and the battery behind the key."""
    takes, run = SOURCES[instruction.setting.source].takes, build(instruction.setting).run
    rng, battery = Random(instruction.key), BATTERY[takes]
    fresh = [x for x in (_input(rng, takes) for _ in range(60)) if x not in battery][:7]
    lines = [f"assert f({x!r}) == {run(x)!r}\n" for x in battery[:3] + fresh]
    return "".join([*lines, f"assert [f(x) for x in {battery!r}] == {list(map(run, battery))!r}\n"])


def problem(task: Task) -> dict[str, str]:
    """A task as a problem in the shape of HumanEval; its prompt with its canonical solution passes its test."""
    head, body = task.example.output.split("\n", 1)
    checks = "".join(f"    {line}\n" for line in tests(task.instruction).splitlines())
    return {"task_id": task.instruction.key.replace(": ", "/"),
            "prompt": f'{head}\n    """{task.example.instruction} ({task.example.input})"""\n', "entry_point": "f",
            "canonical_solution": body + "\n", "test": f"def check(f):\n{checks}"}  # fmt: skip


@lru_cache(maxsize=2**14)
def fingerprint(program: Program) -> str | None:
    """A hash of what a program returns on the battery; None when it is constant, its input, or a simpler program's."""
    takes = SOURCES[program.source].takes
    run = build(program).run
    returned = tuple(repr(run(x)) for x in BATTERY[takes])
    if len(set(returned)) == 1 or returned == tuple(map(repr, BATTERY[takes])):
        return None
    for simpler in map(build, _simpler(program)):
        if all(repr(simpler.run(x)) == one for x, one in zip(BATTERY[takes], returned, strict=True)):
            return None
    return sha256(f"{takes} {returned}".encode()).hexdigest()[:16]


@lru_cache(maxsize=2**14)
def _compiled(body: str) -> Callable[[Any], Any]:
    """The function of a body, which is made of this module's own tables alone."""
    names: dict[str, Any] = {}
    exec(f"def f(x):\n{body}", names)
    return names["f"]


@lru_cache(maxsize=2**14)
def build(program: Program, held_out: int | None = None) -> Built:
    """A program's wordings, code and function; the part of number `held_out` in its held-out wording."""
    make, *tables = SHAPES[program.shape]
    source = SOURCES[program.source]
    parts = zip(tables, program.parts, strict=True)
    bound = [Bound(table_of(table, source)[name], n) if name else None for table, (name, n) in parts]
    if held_out is not None and (part := bound[held_out]):
        bound[held_out] = part._replace(entry=part.entry._replace(text=part.entry.held_out))
    return make(source, *bound)


def _wordings(program: Program, held_out: int | None = None) -> tuple[str, ...]:
    texts = build(program, held_out).texts
    if len(texts[0]) * len(texts) < 6:
        texts = [tuple(start + text for start in STARTS for text in texts[0]), *texts[1:]]
    return combined(texts)[:8]


def _drawn(rng: Random, level: int) -> Program:
    """A program of a level, whatever it does."""
    shape = "chain" if level < 3 else rng.choice(("split", "split", "loop", "branch", "countdown"))
    if shape == "countdown":
        source = "range"
    elif shape == "branch" or level == 1:
        source = rng.choice(("list", "list", "letters"))
    elif shape == "loop":
        source = rng.choice(("list", "list", "digits", "lengths"))
    else:
        source = rng.choice(("list", "list", "list", "letters", "words", "digits", "range", "lengths"))
    parts = []
    for table in SHAPES[shape][1:]:
        name, entry = rng.choice(list(table_of(table, SOURCES[source]).items()))
        parts.append((name, rng.choice(entry.values)))
    if level == 1 and rng.random() < 0.8:
        parts[rng.randrange(3)] = NOTHING
    if level == 1 or (level == 2 and SOURCES[source].text and rng.random() < 0.5):
        parts[rng.randrange(3)] = NOTHING
    return Program(shape, source, tuple(parts))


def _simpler(program: Program) -> list[Program]:
    """The same program without one of its parts, and what is left of a choice when one side is taken always."""
    shape, source, parts = program
    if shape == "chain":
        less = [(*parts[:i], NOTHING, *parts[i + 1 :]) for i in range(3) if parts[i][0]]
        return [Program("chain", source, one) for one in less if any(name for name, _ in one) or SOURCES[source].text]
    if shape == "split":
        keep, one, other, end = parts
        sides = [Program("chain", source, (some, change, end)) for some in (keep, NOTHING) for change in (one, other)]
        return [*sides, Program("chain", source, (NOTHING, NOTHING, end))]
    if shape == "loop":
        keep, one, other, start = parts
        return [Program("loop", source, (keep, *two, start)) for two in ((one, one), (other, other), (one, NOTHING))]
    return [Program("chain", source, (NOTHING, NOTHING, end)) for end in parts[1:]] if shape == "branch" else []


def _chain(source: Source, keep: Bound | None, change: Bound | None, end: Bound | None) -> Built:
    texts = source.texts
    if keep:
        texts.append(keep.texts(SAYS["keep"], o=source.items))
    if change:
        texts.append(change.texts(o="each" if keep or source.text else f"each {source.domain[:-1]}"))
    item, condition = change.code() if change else "v", f" if {keep.code()}" if keep else ""
    bare = f"{item} for v in {source.code}{condition}" if keep or change else ""
    return _ended(source, texts, bare, end)


def _split(source: Source, keep: Bound, one: Bound, other: Bound, end: Bound) -> Built:
    said = _said(one.texts(o=keep.texts(o=source.items)[0]), ("and",), other.texts(o="others"))
    bare = f"{one.code()} if {keep.code()} else {other.code()} for v in {source.code}"
    return _ended(source, [*source.texts, said], bare, end)


def _ended(source: Source, texts: list[tuple[str, ...]], bare: str, end: Bound | None) -> Built:
    """A program that returns its items, or what its end makes of them; `bare` is a comprehension without brackets."""
    names = {"bare": bare or source.code, "list": f"[{bare}]" if bare else source.as_list}
    glue = {"numbers": None, "letters": "", "words": " "}[source.domain]
    joined = glue is not None and (end is None or "{all}" in end.entry.code)
    names["all"] = f"{glue!r}.join({names['bare']})" if joined and names["bare"] != "x" else names["list"]
    if end:
        texts = [*texts, end.texts(SAYS["end"])]
    return Built(texts, f"    return {end.code(**names) if end else names['all']}")


def _loop(source: Source, keep: Bound, one: Bound, other: Bound | None, start: Bound) -> Built:
    said = [start.texts(), keep.texts(SAYS["at"], o=source.items), one.texts()]
    body = f"    {start.code()}\n    for v in {source.code}:\n        if {keep.code()}:\n            {one.code()}\n"
    if other:
        said.append(other.texts(SAYS["else"]))
        body += f"        else:\n            {other.code()}\n"
    return Built([*source.texts, _said(*said)], body + "    return t")


def _branch(source: Source, check: Bound, one: Bound, other: Bound) -> Built:
    sides = [_chain(source, None, None, end) for end in (one, other)]
    said = [check.texts(SAYS["if"]), sides[0].texts[0], other.texts(SAYS["else end"])]
    body = f"    if {check.code()}:\n    {sides[0].body}\n{sides[1].body}"
    return Built([_said(*said)], body)


def _countdown(source: Source, limit: Bound, shrink: Bound, tally: Bound) -> Built:
    said = _said(limit.texts(SAYS["while"]), shrink.texts())
    body = f"    t = 0\n    while {limit.code()}:\n        {tally.code()}\n        {shrink.code()}\n    return t"
    return Built([said, tally.texts()], body)


SHAPES: dict[str, tuple[Any, ...]] = {  # what builds a program, and the table of each part
    "chain": (_chain, KEEP, CHANGE, RETURN),
    "split": (_split, KEEP, CHANGE, CHANGE, RETURN),
    "loop": (_loop, KEEP, UPDATE, UPDATE, START),
    "branch": (_branch, CHECK, RETURN, RETURN),
    "countdown": (_countdown, LIMIT, SHRINK, TALLY),
}


def _said(*parts: tuple[str, ...]) -> tuple[str, ...]:
    """Wordings that join those of several parts, each part in turn."""
    longest = max(map(len, parts))
    return tuple(" ".join(part[(i + place) % len(part)] for place, part in enumerate(parts)) for i in range(longest))


def table_of(table: dict[str, Any], source: Source) -> dict[str, Entry]:
    """A table of parts; those that differ by domain are given for one."""
    return table.get(source.domain, table)


def _input(rng: Random, takes: str) -> Any:
    if takes == "whole number":
        return rng.choice([*map(rng.randrange, (12, 12, 40, 40)), rng.randrange(100, 112)])
    if takes == "text":
        return " ".join("".join(rng.choices("aabdeegilmoprst", k=rng.randint(1, 7))) for _ in range(rng.randint(1, 5)))
    low, high = rng.choice(((-9, 20), (0, 12), (0, 6)))
    return [rng.randint(low, high) for _ in range(rng.randint(2, 9))]


def _battery(takes: str, *edges: Any) -> list[Any]:
    rng = Random(takes)
    return [*edges, *(_input(rng, takes) for _ in range(48 - len(edges)))]


BATTERY = {
    "list of numbers": _battery(
        "list of numbers", [], [0], [-3, -7], [7], [5, 5, 5], [*range(1, 10)], [*range(12, -4, -1)], [4, 2, 4, 6, 2]
    ),
    "text": _battery("text", *("sailor me"[:length] for length in range(10)), "eee", "to be or not to be", "spam spam"),
    "whole number": _battery("whole number", *range(21), 99, 100, 101),
}
