"""A plain interpreter of the programs of `labkit.instructions.functions`: it knows their parts by name alone."""

from collections.abc import Callable
from typing import Any

from labkit.instructions.functions import Program

SOURCES: dict[str, Callable[[Any], Any]] = {
    "list": list,
    "range": lambda x: range(1, x + 1),
    "digits": lambda x: map(int, str(x)),
    "lengths": lambda x: map(len, x.split()),
    "letters": list,
    "words": str.split,
}
DOMAINS = {"letters": "letters", "words": "words"}  # of a source's items; all others are numbers
Table = dict[str, Callable[..., Any]]
KEEP: Table = {
    "even": lambda v, n: v % 2 == 0,
    "odd": lambda v, n: v % 2 == 1,
    "above": lambda v, n: v > n,
    "below": lambda v, n: v < n,
    "multiple": lambda v, n: v % n == 0,
    "not": lambda v, n: v != n,
    "vowels": lambda v, n: v in "aeiou",
    "others": lambda v, n: v not in "aeiou",
    "before": lambda v, n: v < n,
    "after": lambda v, n: v > n,
    "longer": lambda v, n: len(v) > n,
    "shorter": lambda v, n: len(v) < n,
    "start": lambda v, n: v[0] == n,
    "with": lambda v, n: n in v,
    "without": lambda v, n: n not in v,
}
CHANGE: Table = {
    "double": lambda v, n: 2 * v,
    "times": lambda v, n: n * v,
    "add": lambda v, n: v + n,
    "subtract": lambda v, n: v - n,
    "square": lambda v, n: v * v,
    "negate": lambda v, n: -v,
    "halve": lambda v, n: v // 2,
    "modulo": lambda v, n: v % n,
    "upper": lambda v, n: v.upper(),
    "mark": lambda v, n: v + n,
    "lead": lambda v, n: n + v,
    "reverse": lambda v, n: v[::-1],
    "cut": lambda v, n: v[:n],
}
ANY: Table = {
    "count": lambda v, n: len(v),
    "different": lambda v, n: len(set(v)),
    "reverse": lambda v, n: v[::-1],
    "first": lambda v, n: v[:n],
    "last": lambda v, n: v[-n:],
    "rest": lambda v, n: v[n:],
    "second": lambda v, n: v[::2],
}
END: dict[str, Table] = {
    "numbers": ANY
    | {
        "sorted": lambda v, n: sorted(v),
        "descending": lambda v, n: sorted(v)[::-1],
        "sum": lambda v, n: sum(v),
        "max": lambda v, n: max(v, default=0),
        "min": lambda v, n: min(v, default=0),
        "times": lambda v, n: n * sum(v),
        "more": lambda v, n: sum(v) + n,
    },
    "letters": ANY | {"sorted": lambda v, n: "".join(sorted(v)), "once": lambda v, n: "".join(dict.fromkeys(v))},
    "words": {
        "count": ANY["count"],
        "different": ANY["different"],
        "sorted": lambda v, n: " ".join(sorted(v)),
        "longest": lambda v, n: max(v, key=len, default=""),
        "letters": lambda v, n: sum(map(len, v)),
        "reverse": lambda v, n: " ".join(v[::-1]),
        "first": lambda v, n: " ".join(v[:n]),
    },
}
JOINED = ("", "reverse", "first", "last", "rest", "second")  # ends that see letters as a text
UPDATE: Table = {  # None for "stop"
    "": lambda t, v, n: t,
    "add": lambda t, v, n: t + v,
    "twice": lambda t, v, n: t + 2 * v,
    "subtract": lambda t, v, n: t - v,
    "plus": lambda t, v, n: t + n,
    "minus": lambda t, v, n: t - n,
    "double": lambda t, v, n: 2 * t,
    "set": lambda t, v, n: v,
    "stop": lambda t, v, n: None,
}
CHECK: Table = {
    "long": lambda x, n: len(x) > n,
    "short": lambda x, n: len(x) < n,
    "odd": lambda x, n: len(x) % 2 == 1,
    "within": lambda x, n: n in x,
}
SHRINK: Table = {"divide": lambda x, n: x // n, "subtract": lambda x, n: x - n}
TALLY: Table = {"count": lambda t, x: t + 1, "add": lambda t, x: t + x}


def interpret(program: Program, x: Any) -> Any:
    """What a program returns for x."""
    shape, source, parts = program
    if shape == "branch":
        (check, n), *ends = parts
        return _ended(source, SOURCES[source](x), ends[0] if CHECK[check](x, n) else ends[1])
    if shape == "countdown":
        (_, limit), (shrink, n), (tally, _) = parts
        t = 0
        while x > limit:
            t, x = TALLY[tally](t, x), SHRINK[shrink](x, n)
        return t
    (keep, k), *others = parts
    items = [(v, not keep or KEEP[keep](v, k)) for v in SOURCES[source](x)]
    if shape == "chain":
        (change, c), end = others
        return _ended(source, [CHANGE[change](v, c) if change else v for v, kept in items if kept], end)
    (one, n), (other, m), end = others
    if shape == "split":
        return _ended(source, [CHANGE[one](v, n) if kept else CHANGE[other](v, m) for v, kept in items], end)
    t = end[1]
    for v, kept in items:
        new = UPDATE[one](t, v, n) if kept else UPDATE[other](t, v, m)
        if new is None:
            break
        t = new
    return t


def _ended(source: str, items: Any, end: tuple[str, Any]) -> Any:
    (name, n), domain = end, DOMAINS.get(source, "numbers")
    value = list(items)
    if domain == "letters" and name in JOINED:
        value = "".join(value)
    if domain == "words" and not name:
        value = " ".join(value)
    return END[domain][name](value, n) if name else value
