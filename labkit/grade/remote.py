"""Objects that stay in their process, and what the other may do with them; see `wire.py`, standard library only.

The judge trusts nothing that arrives. An `Answer` (its `Remote`) asks the solution for items, attributes, lengths and
the like, which are answers as good as a returned value; it does not hand over what an answer is compared to or
computed with: an object of the solution's own class equals no plain data, and where its own `__eq__`, `<` or `+`
would decide, the judge is `Unjudged`. A `Handed` is the solution's view of what the test hands over: it asks for all.
"""

import builtins
import copy
import itertools
import operator
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

OWN = ("solution", "test")  # modules of classes that one of the two texts defines


class Gone(BaseException):
    """The other process ended, or sent what is no answer. No `Exception`: no test should catch it."""


class Unjudged(BaseException):
    """What would have to cross cannot, so there is no verdict. No `Exception`: no test should catch it."""


class About(NamedTuple):
    """What is said of an object that stays."""

    name: str  # of its class
    module: str
    by_identity: bool  # its class has no equality of its own
    kind: str  # a key of `CLAIMED`, or ""
    cls: int | None = None  # index of its class


CLAIMED: dict[str, type] = {"function": types.FunctionType, "builtin": types.BuiltinFunctionType,
                            "method": types.MethodType, "generator": types.GeneratorType,
                            "coroutine": types.CoroutineType, "async_generator": types.AsyncGeneratorType,
                            "module": types.ModuleType, "type": type}  # fmt: skip


def _operation(name: str) -> Callable[..., Any]:
    return lambda self, *args: self._peer.ask(name, self, *args)


def _reflected(name: str) -> Callable[..., Any]:
    return lambda self, other: self._peer.ask(name, other, self)


class Remote:
    """An object of the other process, which `peer` (a `wire.Peer`) reaches."""

    __slots__ = ("_about", "_index", "_peer")

    def __init__(self, peer: Any, index: int, about: About) -> None:
        for name, value in (("_peer", peer), ("_index", index), ("_about", about)):
            object.__setattr__(self, name, value)

    @property  # type: ignore[misc]
    def __class__(self) -> type:  # a duck that the other side's `isinstance` knows
        return CLAIMED.get(self._about.kind) or self._peer.named(self._about.name) or type(self)

    __doc__ = property(lambda self: self._peer.ask("get", self, "__doc__"))
    __module__ = property(lambda self: self._peer.ask("get", self, "__module__"))

    def __call__(self, *args: Any, **named: Any) -> Any:
        return self._peer.ask("call", self, args, named, self._peer.stand_ins())

    def __getattr__(self, name: str) -> Any:
        return self._peer.ask("get", self, name)

    __setattr__ = _operation("set")
    __delattr__ = _operation("delete")
    __instancecheck__ = _reflected("isinstance")
    __subclasscheck__ = _reflected("issubclass")

    def __next__(self) -> Any:
        return _item(self._peer.ask("next", self), StopIteration)

    def __missing__(self, key: Any) -> Any:  # of a dictionary
        return self._peer.ask("getitem", self, key)

    async def __anext__(self) -> Any:
        return _item(self._peer.ask("anext", self), StopAsyncIteration)

    def __await__(self) -> Iterator:
        return awaiting(self).__await__()

    def __deepcopy__(self, memo: dict) -> Any:
        return self._peer.ask("deepcopy", self)


def _item(items: list, end: type[Exception]) -> Any:
    if not items:
        raise end
    return items[0]


async def awaiting(remote: Remote) -> Any:
    """A coroutine here for one that runs there."""
    return remote._peer.ask("await", remote)


def _undecided(dunder: str) -> Callable[..., Any]:
    def operate(self: "Answer", *_: Any) -> Any:
        reason = f"the test computes or compares ({dunder}) with an object of type {self._about.name}"
        return self._peer.unjudged(reason) if self._peer.ask("has", self, dunder) else NotImplemented

    return operate


KINDS = ("bool", "str", "int", "float", "complex", "bytes")
ANSWERED: dict[str, Callable[..., Any]] = {
    **{name: getattr(builtins, name) for name in (*KINDS, "len", "repr", "round", "abs", "reversed", "format", "dir")},
    "iter": iter,
    **{name: getattr(operator, name) for name in ("getitem", "setitem", "delitem", "neg", "pos", "invert", "index")},
    **{name: operator.methodcaller(f"__{name}__") for name in ("fspath", "trunc", "floor", "ceil")},
}
COMPARISONS = ("lt", "le", "gt", "ge")
BINARY = ("add", "sub", "mul", "matmul", "truediv", "floordiv", "mod", "pow", "lshift", "rshift", "and", "or", "xor")


class Answer(Remote):
    """The judge's view of an object of the solution: it answers, and decides nothing."""

    __slots__ = ()

    def __eq__(self, other: object) -> Any:
        about = self._about
        if self is other:
            return True
        if issubclass(type(other), type):
            return getattr(other, "_answer_class", None) == self._index
        if isinstance(other, Answer) and not (about.by_identity and other._about.by_identity):
            self._peer.unjudged(f"the test compares two objects of the solution's own, of type {about.name}")
        if about.module not in OWN and not about.by_identity:
            self._peer.unjudged(f"the test compares an answer of type {about.module}.{about.name}")
        return NotImplemented

    def __hash__(self) -> int:
        if not self._about.by_identity:
            self._peer.unjudged(f"the test puts an object of type {self._about.name} into a set or dictionary")
        return hash(self._index)

    def __contains__(self, wanted: object) -> bool:
        return any(item is wanted or item == wanted for item in self)  # type: ignore[attr-defined]

    __enter__ = _operation("enter")

    def __exit__(self, *raised: Any) -> None:
        if self._peer.ask("exit", self, raised[1]) and raised[1]:
            self._peer.unjudged("the solution's context manager holds back an error of the test")

    async def __aenter__(self) -> Any:
        return await self._peer.ask("aenter", self)

    async def __aexit__(self, *raised: Any) -> None:
        if await self._peer.ask("aexit", self, raised[1]) and raised[1]:
            self._peer.unjudged("the solution's context manager holds back an error of the test")

    def __mro_entries__(self, bases: tuple) -> tuple:
        return self._peer.unjudged("the test derives a class from one of the solution's")

    def __getattr__(self, name: str) -> Any:
        if name in ("__code__", "__signature__"):
            self._peer.unjudged(f"the test looks at the {name} of a function")
        return super().__getattr__(name)


class Handed(Remote):
    """The solution's view of an object that the test handed over."""

    __slots__ = ()

    def __eq__(self, other: object) -> Any:
        return self is other or (not self._about.by_identity and self._peer.ask("eq", self, other))

    def __hash__(self) -> int:
        return hash(self._index) if self._about.by_identity else self._peer.ask("hash", self)

    __contains__ = _operation("contains")


for _name in (*ANSWERED, "aiter", "copy"):
    setattr(Remote, f"__{_name}__", _operation(_name))
for _name in (*COMPARISONS, *BINARY):
    setattr(Answer, f"__{_name}__", _undecided(f"__{_name}__"))
    setattr(Handed, f"__{_name}__", _operation(_name))
for _name in BINARY:
    setattr(Answer, f"__r{_name}__", _undecided(f"__r{_name}__"))
    setattr(Handed, f"__r{_name}__", _reflected(_name))


def rest_of(self: Any, name: str) -> Any:
    """Of an instance of the other side's subclass of plain data: what is not the data's."""
    remote = vars(self).get("_remote")
    if remote is None or (name[:2] == name[-2:] == "__"):
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")
    return getattr(remote, name)


# Special methods of a subclass of plain data that are asked for where they are; equality and membership are the data's.
SPECIAL = tuple(f"__{name}__" for name in (*ANSWERED, "call", "missing", "enter", "exit", *COMPARISONS, *BINARY,
                                           *(f"r{name}" for name in BINARY)))  # fmt: skip


def by_remote(method: Callable[..., Any], plain: Callable[..., Any] | None) -> Callable[..., Any]:
    """A special method of what stands for an object of the other side; `plain` is the data's, for copies made here."""

    def ask(self: Any, *args: Any, **named: Any) -> Any:
        remote = vars(self).get("_remote")
        return method(remote, *args, **named) if remote is not None else (plain or method)(self, *args, **named)

    return ask


def _next(items: Iterator) -> list:
    """[] at the end: an error could end a loop of the test."""
    return list(itertools.islice(items, 1))


def _call(function: Callable, args: tuple, named: dict, stand_ins: dict | None) -> Any:
    """Call it, with what the test puts in the place of `input` and of standard input."""
    before = builtins.input, sys.stdin
    if stand_ins:
        builtins.input, sys.stdin = stand_ins.get("input", before[0]), stand_ins.get("stdin", before[1])
    try:
        return function(*args, **named)
    finally:
        builtins.input, sys.stdin = before


OPERATIONS: dict[str, Callable[..., Any]] = {
    **ANSWERED,
    **{name: getattr(operator, name) for name in (*COMPARISONS, "eq", "contains")},
    **{name: getattr(operator, f"__{name}__") for name in BINARY},
    **{name: operator.methodcaller(f"__{name}__") for name in ("aiter", "anext")},
    "call": _call, "next": _next, "get": getattr, "set": setattr, "delete": delattr, "hash": hash,
    "isinstance": isinstance, "issubclass": issubclass, "copy": copy.copy, "deepcopy": copy.deepcopy,
    "has": lambda value, name: hasattr(type(value), name),
    "enter": lambda value: type(value).__enter__(value),
    "exit": lambda value, error: bool(type(value).__exit__(value, error and type(error), error, None)),
    "aenter": lambda value: type(value).__aenter__(value),
    "aexit": lambda value, error: type(value).__aexit__(value, error and type(error), error, None),
}  # fmt: skip
