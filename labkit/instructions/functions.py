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
from functools import lru_cache, partial
from hashlib import sha256
from random import Random
from typing import Any, NamedTuple

from labkit.instructions.family import Family, Instruction, Task, combined, phrasings

Part = tuple[str, Any]  # a name in one of the tables below, and its number or letter
NOTHING: Part = ("", 0)


class Entry(NamedTuple):
    """One part: its wordings, its code, the same as a function, and the values it may have."""

    text: str
    code: str
    do: Callable[..., Any]
    values: Sequence[Any] = (0,)


class Source(NamedTuple):
    """What a program goes through: the kind of x, the kind of its items, and how they are had from x."""

    takes: str
    domain: str
    text: str
    code: str
    as_list: str
    do: Callable[[Any], Any]

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
    """A part with its value: a function, code and wordings."""

    entry: Entry
    n: Any

    @property
    def do(self) -> Callable[..., Any]:
        return partial(self.entry.do, n=self.n)

    def code(self, **names: str) -> str:
        return self.entry.code.format(n=self.n, **names)

    def texts(self, template: str = "{0}", **names: str) -> tuple[str, ...]:
        return tuple(text.format(n=self.n, **names) for text in phrasings(template.replace("{0}", self.entry.text)))


class Built(NamedTuple):
    """A program carried out: the wordings of its parts, the lines of its body, and what it returns for x."""

    texts: list[tuple[str, ...]]
    body: str
    run: Callable[[Any], Any]


SOURCES = {
    "list": Source("list of numbers", "numbers", "", "x", "x", list),
    "range": Source(
        "whole number",
        "numbers",
        "[count up to x|go from 1 to x]",
        "range(1, x + 1)",
        "list(range(1, x + 1))",
        lambda x: range(1, x + 1),
    ),
    "digits": Source(
        "whole number",
        "numbers",
        "[split x into digits|take the single digits]",
        "map(int, str(x))",
        "list(map(int, str(x)))",
        lambda x: map(int, str(x)),
    ),
    "lengths": Source(
        "text",
        "numbers",
        "[take|list] word lengths",
        "map(len, x.split())",
        "list(map(len, x.split()))",
        lambda x: map(len, x.split()),
    ),
    "letters": Source("text", "letters", "", "x", "x", list),
    "words": Source("text", "words", "[take|list] the words", "x.split()", "x.split()", str.split),
}
_N, _K, _SOME = range(10), range(3, 8), "bdglmprs"

KEEP = {  # which items v; {o} is the plural of what they are
    "numbers": {
        "even": Entry("even {o}", "v % 2 == 0", lambda v, n: v % 2 == 0),
        "odd": Entry("odd {o}", "v % 2 == 1", lambda v, n: v % 2 == 1),
        "above": Entry("{o} [above|over] {n}", "v > {n}", lambda v, n: v > n, _N),
        "below": Entry("{o} [below|under] {n}", "v < {n}", lambda v, n: v < n, _N),
        "multiple": Entry("multiples of {n}", "v % {n} == 0", lambda v, n: v % n == 0, _K),
        "not": Entry("{o} not {n}", "v != {n}", lambda v, n: v != n, _N),
    },
    "letters": {
        "vowels": Entry("vowels", "v in 'aeiou'", lambda v, n: v in "aeiou"),
        "others": Entry("{o} not vowels", "v not in 'aeiou'", lambda v, n: v not in "aeiou"),
        "before": Entry("{o} before {n}", "v < '{n}'", lambda v, n: v < n, _SOME),
        "after": Entry("{o} after {n}", "v > '{n}'", lambda v, n: v > n, _SOME),
        "not": Entry("{o} not {n}", "v != '{n}'", lambda v, n: v != n, "aeiorst"),
    },
    "words": {
        "longer": Entry("{o} [longer than|over length] {n}", "len(v) > {n}", lambda v, n: len(v) > n, (2, 3, 4, 5)),
        "shorter": Entry("{o} [shorter than|under length] {n}", "len(v) < {n}", lambda v, n: len(v) < n, (3, 4, 5, 6)),
        "start": Entry("{o} starting with {n}", "v[0] == '{n}'", lambda v, n: v[0] == n, _SOME),
        "with": Entry("{o} with {n}", "'{n}' in v", lambda v, n: n in v, "aeiorst"),
        "without": Entry("{o} without {n}", "'{n}' not in v", lambda v, n: n not in v, "aeiorst"),
    },
}
CHANGE = {  # what becomes of an item v; {o} is "each" or which items; halving rounds down
    "numbers": {
        "double": Entry("double {o}", "2 * v", lambda v, n: 2 * v),
        "times": Entry("multiply {o} by {n}", "{n} * v", lambda v, n: n * v, range(3, 10)),
        "add": Entry("add {n} to {o}", "v + {n}", lambda v, n: v + n, range(1, 10)),
        "subtract": Entry("[subtract|take] {n} from {o}", "v - {n}", lambda v, n: v - n, range(1, 10)),
        "square": Entry("square {o}", "v * v", lambda v, n: v * v),
        "negate": Entry("[negate|change the sign of] {o}", "-v", lambda v, n: -v),
        "halve": Entry("halve {o}", "v // 2", lambda v, n: v // 2),
        "modulo": Entry("take {o} modulo {n}", "v % {n}", lambda v, n: v % n, range(2, 10)),
    },
    "letters": {
        "upper": Entry("[put|write] {o} in upper case", "v.upper()", lambda v, n: v.upper()),
        "double": Entry("[double|repeat] {o}", "2 * v", lambda v, n: 2 * v),
        "mark": Entry("[put|write] {n} after {o}", "v + '{n}'", lambda v, n: v + n, "-+.*"),
        "lead": Entry("[put|write] {n} before {o}", "'{n}' + v", lambda v, n: n + v, "-+.*"),
    },
    "words": {
        "reverse": Entry("reverse {o}", "v[::-1]", lambda v, n: v[::-1]),
        "upper": Entry("[put|write] {o} in upper case", "v.upper()", lambda v, n: v.upper()),
        "cut": Entry("[cut|shorten] {o} to {n} letters", "v[:{n}]", lambda v, n: v[:n], (2, 3)),
        "mark": Entry("[put|write] {n} after {o}", "v + '{n}'", lambda v, n: v + n, "-+.*"),
        "lead": Entry("[put|write] {n} before {o}", "'{n}' + v", lambda v, n: n + v, "-+.*"),
    },
}
_ANY = {  # what is returned: {all} items as x has them, {list} as a list, {bare} inside the brackets of a call
    "count": Entry("[the count|how many]", "len({list})", lambda v, n: len(v)),
    "different": Entry("[how many differ|the different count]", "len(set({bare}))", lambda v, n: len(set(v))),
    "reverse": Entry("them in reverse", "{all}[::-1]", lambda v, n: v[::-1]),
    "first": Entry("the first {n}", "{all}[:{n}]", lambda v, n: v[:n], (2, 3, 4)),
    "last": Entry("the last {n}", "{all}[-{n}:]", lambda v, n: v[-n:], (2, 3, 4)),
    "rest": Entry("all but the first {n}", "{all}[{n}:]", lambda v, n: v[n:], (1, 2, 3)),
    "second": Entry("every second one", "{all}[::2]", lambda v, n: v[::2]),
}
_LISTS = {
    "sorted": Entry("them [sorted|in order]", "sorted({bare})", lambda v, n: sorted(v)),
    "descending": Entry("them [descending|falling]", "sorted({bare})[::-1]", lambda v, n: sorted(v)[::-1]),
}
RETURN = {
    "numbers": _ANY
    | _LISTS
    | {
        "sum": Entry("the [sum|total]", "sum({bare})", lambda v, n: sum(v)),
        "max": Entry("the [largest|greatest] or 0", "max({list}, default=0)", lambda v, n: max(v, default=0)),
        "min": Entry("the [smallest|least] or 0", "min({list}, default=0)", lambda v, n: min(v, default=0)),
        "times": Entry("{n} times the sum", "{n} * sum({bare})", lambda v, n: n * sum(v), _K),
        "more": Entry("the sum plus {n}", "sum({bare}) + {n}", lambda v, n: sum(v) + n, range(1, 10)),
    },
    "letters": _ANY
    | {
        "sorted": Entry("them [sorted|in order]", "''.join(sorted({bare}))", lambda v, n: "".join(sorted(v))),
        "once": Entry("each only once", "''.join(dict.fromkeys({bare}))", lambda v, n: "".join(dict.fromkeys(v))),
    },
    "words": {name: _ANY[name] for name in ("count", "different")}
    | {
        "sorted": Entry("them [sorted|in order]", "' '.join(sorted({bare}))", lambda v, n: " ".join(sorted(v))),
        "longest": Entry("the longest", "max({list}, key=len, default='')", lambda v, n: max(v, key=len, default="")),
        "letters": Entry("the number of letters", "sum(len(w) for w in {list})", lambda v, n: sum(map(len, v))),
        "reverse": Entry("them in reverse", "' '.join({list}[::-1])", lambda v, n: " ".join(v[::-1])),
        "first": Entry("the first {n}", "' '.join({list}[:{n}])", lambda v, n: " ".join(v[:n]), (2, 3)),
    },
}
UPDATE = {  # what a loop does to its total t at an item v; None for "stop"
    "add": Entry("add it", "t += v", lambda t, v, n: t + v),
    "twice": Entry("add it twice", "t += 2 * v", lambda t, v, n: t + 2 * v),
    "subtract": Entry("subtract it", "t -= v", lambda t, v, n: t - v),
    "plus": Entry("add {n}", "t += {n}", lambda t, v, n: t + n, range(1, 10)),
    "minus": Entry("subtract {n}", "t -= {n}", lambda t, v, n: t - n, range(1, 10)),
    "double": Entry("double the total", "t *= 2", lambda t, v, n: 2 * t),
    "set": Entry("set total to it", "t = v", lambda t, v, n: v),
    "stop": Entry("stop", "break", lambda t, v, n: None),
}
START = {"start": Entry("[from|starting at] {n}", "t = {n}", lambda n: n, range(10))}
CHECK = {  # the condition of a branch on x itself
    "long": Entry("has [over|above] {n} items", "len(x) > {n}", lambda x, n: len(x) > n, range(1, 8)),
    "short": Entry("has [below|under] {n} items", "len(x) < {n}", lambda x, n: len(x) < n, range(2, 9)),
    "odd": Entry("has an odd number of items", "len(x) % 2 == 1", lambda x, n: len(x) % 2 == 1),
    "within": Entry("contains {n}", "{n} in x", lambda x, n: n in x, range(1, 10)),
}
CHECK_TEXT = CHECK | {"within": Entry("contains {n}", "'{n}' in x", lambda x, n: n in x, "aeiorst")}
LIMIT = {"above": Entry("is above {n}", "x > {n}", lambda x, n: x > n, range(20))}
SHRINK = {
    "divide": Entry("divide it by {n}, rounding down", "x //= {n}", lambda x, n: x // n, range(2, 10)),
    "subtract": Entry("[subtract|take away] {n}", "x -= {n}", lambda x, n: x - n, range(1, 10)),
}
TALLY = {
    "count": Entry("return how often", "t += 1", lambda t, x, n: t + 1),
    "add": Entry("return the sum of x before", "t += x", lambda t, x, n: t + x),
}


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
    return {
        "task_id": task.instruction.key.replace(": ", "/"),
        "prompt": f'{head}\n    """{task.example.instruction} ({task.example.input})"""\n',
        "entry_point": "f",
        "canonical_solution": body + "\n",
        "test": f"def check(f):\n{checks}",
    }


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
def build(program: Program) -> Built:
    """A program's wordings, code and function."""
    make, *tables = SHAPES[program.shape]
    source = SOURCES[program.source]
    bound = [
        Bound(table_of(table, source)[name], n) if name else None
        for table, (name, n) in zip(tables, program.parts, strict=True)
    ]
    return make(source, *bound)


def _wordings(program: Program) -> tuple[str, ...]:
    texts = build(program).texts
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
    if shape == "branch":
        return [Program("chain", source, (NOTHING, NOTHING, end)) for end in parts[1:]]
    return []


def _chain(source: Source, keep: Bound | None, change: Bound | None, end: Bound | None) -> Built:
    texts = source.texts
    if keep:
        texts.append(keep.texts(SAYS["keep"], o=source.items))
    if change:
        texts.append(change.texts(o="each" if keep or source.text else f"each {source.domain[:-1]}"))
    item, condition = change.code() if change else "v", f" if {keep.code()}" if keep else ""
    bare = f"{item} for v in {source.code}{condition}" if keep or change else ""
    meets, changed = keep and keep.do, change and change.do

    def items(x: Any) -> list[Any]:
        kept = [v for v in source.do(x) if meets(v)] if meets else source.do(x)
        return [changed(v) for v in kept] if changed else list(kept)

    return _ended(source, texts, bare, items, end)


def _split(source: Source, keep: Bound, one: Bound, other: Bound, end: Bound) -> Built:
    said = _said(one.texts(o=keep.texts(o=source.items)[0]), ("and",), other.texts(o="others"))
    bare = f"{one.code()} if {keep.code()} else {other.code()} for v in {source.code}"
    meets, first, second = keep.do, one.do, other.do
    items = lambda x: [first(v) if meets(v) else second(v) for v in source.do(x)]  # noqa: E731
    return _ended(source, [*source.texts, said], bare, items, end)


def _ended(
    source: Source, texts: list[tuple[str, ...]], bare: str, items: Callable[[Any], list[Any]], end: Bound | None
) -> Built:
    """A program that returns its items, or what its end makes of them; `bare` is a comprehension without brackets."""
    names = {"bare": bare or source.code, "list": f"[{bare}]" if bare else source.as_list}
    glue = {"numbers": None, "letters": "", "words": " "}[source.domain]
    joined = glue is not None and (end is None or "{all}" in end.entry.code)
    names["all"] = f"{glue!r}.join({names['bare']})" if joined and names["bare"] != "x" else names["list"]
    if end:
        texts = [*texts, end.texts(SAYS["end"])]

    finish = end and end.do

    def run(x: Any) -> Any:
        value: Any = items(x)
        if joined:
            value = str(glue).join(value)
        return finish(value) if finish else value

    return Built(texts, f"    return {end.code(**names) if end else names['all']}", run)


def _loop(source: Source, keep: Bound, one: Bound, other: Bound | None, start: Bound) -> Built:
    meets, first, second = keep.do, one.do, other.do if other else lambda t, v: t

    def run(x: Any) -> Any:
        t = start.n
        for v in source.do(x):
            new = (first if meets(v) else second)(t, v)
            if new is None:
                break
            t = new
        return t

    said = [start.texts(), keep.texts(SAYS["at"], o=source.items), one.texts()]
    body = f"    {start.code()}\n    for v in {source.code}:\n        if {keep.code()}:\n            {one.code()}\n"
    if other:
        said.append(other.texts(SAYS["else"]))
        body += f"        else:\n            {other.code()}\n"
    return Built([*source.texts, _said(*said)], body + "    return t", run)


def _branch(source: Source, check: Bound, one: Bound, other: Bound) -> Built:
    sides = [_chain(source, None, None, end) for end in (one, other)]
    said = [check.texts(SAYS["if"]), sides[0].texts[0], other.texts(SAYS["else end"])]
    body = f"    if {check.code()}:\n    {sides[0].body}\n{sides[1].body}"
    return Built([_said(*said)], body, lambda x: sides[0].run(x) if check.do(x) else sides[1].run(x))


def _countdown(source: Source, limit: Bound, shrink: Bound, tally: Bound) -> Built:
    def run(x: Any) -> Any:
        t = 0
        while x > limit.n:
            t, x = tally.do(t, x), shrink.do(x)
        return t

    said = _said(limit.texts(SAYS["while"]), shrink.texts())
    body = f"    t = 0\n    while {limit.code()}:\n        {tally.code()}\n        {shrink.code()}\n    return t"
    return Built([said, tally.texts()], body, run)


SAYS = {  # how parts are said
    "keep": "[keep|pick|take] {0}",
    "end": "[return|give|output] {0}",
    "at": "[at|for] {0}",
    "else": "[otherwise|else] {0}",
    "if": "[if|when] x {0}",
    "else end": "[otherwise|else] [return|give] {0}",
    "while": "[while|as long as] x {0}",
}
STARTS = ("", "let f ", "make f ", "have f ")  # before what has few wordings
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
    if table is CHECK and source.takes == "text":
        return CHECK_TEXT
    return table.get(source.domain, table)


def _input(rng: Random, takes: str) -> Any:
    if takes == "whole number":
        return rng.choice(
            (rng.randrange(12), rng.randrange(12), rng.randrange(40), rng.randrange(40), rng.randrange(100, 112))
        )
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
