"""Values and calls between the judge and the solution's process, standard library only.

Each process has a `Peer`, an end of one socket. What crosses is JSON: plain data and the types of `VALUES` cross by
value, each as the standard type itself, with aliases, cycles and `DEEPEST` levels; all else stays where it is and is a
`Remote` on the other side. Nothing is unpickled, and no code of one process runs in the other. The lists,
dictionaries and other containers of a request are brought up to date by its reply, wherever in it they are, and an
argument that comes back is the same object.

Objects that stay, and what each side may do with them: `remote.py`.

Left open: an argument that the solution keeps is a copy after the call; results are copies of what it keeps.
"""

import contextlib
import datetime
import decimal
import enum
import fractions
import gc
import graphlib
import io
import itertools
import json
import pathlib
import sys
import threading
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING or __package__:
    from labkit.grade.remote import CLAIMED, OPERATIONS, SPECIAL, About, Remote, Unjudged, awaiting, by_remote, rest_of
else:  # in the sandbox it lies beside this file
    from remote import CLAIMED, OPERATIONS, SPECIAL, About, Remote, Unjudged, awaiting, by_remote, rest_of

LARGEST_MESSAGE = 1 << 26  # bytes
DEEPEST = 10_000  # levels of a value
SMALL = 1 << 62  # integers below it are JSON numbers


# What crosses by value


class Value(NamedTuple):
    """How a type crosses: its parts, and how it is made of them; `update` changes one that is there (mutable types)."""

    kind: type
    parts: Callable[[Any], list]
    make: Callable[..., Any]
    update: Callable[[Any, list], object] | None = None


# Methods are looked up in the standard type: what a subclass made of them is the other program's code.


def _items(kind: type) -> Callable[[Any], list]:
    return lambda value: [*kind.__iter__(value)]  # type: ignore[attr-defined]


def _pairs(kind: type[dict]) -> Callable[[Any], list]:
    return lambda value: list(itertools.chain.from_iterable(kind.items(value)))


def _refill(kind: Any, add: str) -> Callable[[Any, list], None]:
    """An update that empties a container and adds the parts."""

    def fill(old: Any, parts: list) -> None:
        kind.clear(old)
        getattr(kind, add)(old, zip(parts[::2], parts[1::2], strict=True) if issubclass(kind, dict) else parts)

    return fill


def _fill_defaultdict(old: defaultdict, parts: list) -> None:
    old.default_factory = parts[0]
    _refill(dict, "update")(old, parts[1:])


def _fill_text(old: io.StringIO | io.BytesIO, parts: list) -> None:
    old.seek(0)
    old.truncate()
    old.write(parts[0])
    old.seek(parts[1])


def _fill_bytes(old: bytearray, parts: list) -> None:
    bytearray.__setitem__(old, slice(None), parts[0].encode("latin-1"))


DAY, MOMENT = ("year", "month", "day"), ("hour", "minute", "second", "microsecond", "tzinfo", "fold")


def _folded(kind: type) -> Callable[..., Any]:
    return lambda *parts: kind(*parts[:-1], fold=parts[-1])


def _text(value: Any) -> str:
    return bytes.decode(bytes(value), "latin-1")


def _attributes(*names: str) -> Callable[[Any], list]:
    return lambda value: [getattr(value, name) for name in names]


VALUES = [  # a type before those it derives from
    Value(str, lambda v: [str.__str__(v)], str),
    Value(bool, lambda v: [v], bool),
    Value(float, lambda v: [float.__float__(v)], float),
    Value(int, lambda v: [hex(v)], lambda text: int(text, 16)),
    Value(complex, lambda v: [v.real, v.imag], complex),
    Value(bytes, lambda v: [_text(v)], lambda text: text.encode("latin-1")),
    Value(tuple, _items(tuple), lambda *parts: parts),
    Value(frozenset, _items(frozenset), lambda *parts: frozenset(parts)),
    *(Value(kind, _attributes("start", "stop", "step"), kind) for kind in (range, slice)),
    Value(fractions.Fraction, lambda v: [v.numerator, v.denominator], fractions.Fraction),
    Value(decimal.Decimal, lambda v: [decimal.Decimal.__str__(v)], decimal.Decimal),
    Value(datetime.datetime, _attributes(*DAY, *MOMENT), _folded(datetime.datetime)),
    Value(datetime.date, _attributes(*DAY), datetime.date),
    Value(datetime.time, _attributes(*MOMENT), _folded(datetime.time)),
    Value(datetime.timedelta, _attributes("days", "seconds", "microseconds"), datetime.timedelta),
    Value(datetime.timezone, lambda v: [v.utcoffset(None), v.tzname(None)], datetime.timezone),
    *(Value(kind, lambda v: [str(v)], kind) for kind in (pathlib.PurePosixPath, pathlib.PosixPath)),
    Value(type({}.keys()), list, lambda *parts: dict.fromkeys(parts).keys()),
    Value(type({}.items()), lambda v: [*v], lambda *parts: dict(parts).items()),
    Value(type(...), lambda v: [], lambda: ...),
    Value(type(NotImplemented), lambda v: [], lambda: NotImplemented),
    Value(list, _items(list), list, lambda old, parts: list.__setitem__(old, slice(None), parts)),
    Value(Counter, _pairs(dict), Counter, _refill(dict, "update")),
    Value(OrderedDict, _pairs(OrderedDict), OrderedDict, _refill(OrderedDict, "update")),
    Value(defaultdict, lambda v: [v.default_factory, *_pairs(dict)(v)], defaultdict, _fill_defaultdict),
    Value(dict, _pairs(dict), dict, _refill(dict, "update")),
    Value(set, _items(set), set, _refill(set, "update")),
    Value(bytearray, lambda v: [_text(v)], bytearray, _fill_bytes),
    Value(deque, _items(deque), deque, _refill(deque, "extend")),
    *(Value(kind, lambda v: [v.getvalue(), v.tell()], kind, _fill_text) for kind in (io.StringIO, io.BytesIO)),
]
PLAIN = tuple(value.kind for value in VALUES)
BY_TYPE = {value.kind: value for value in VALUES}
BY_NAME = {value.kind.__name__: value for value in VALUES}
AS_IT_IS = {str, float, bool, type(None)}  # in JSON
SHADOWED = (str, float, int, complex, bytes, tuple, frozenset)  # what cannot be changed, and is made of itself
NAMING = (ImportError, NameError, AttributeError)  # errors with a name beside their arguments
HASHED = (set, frozenset, dict, Counter, OrderedDict, defaultdict)

# Classes of the standard library that may be named to the judge: those of values, and errors that solutions raise.
ERROR_MODULES = {"builtins", "json.decoder", "decimal", "re", "struct", "binascii", "subprocess", "statistics", "queue"}
ERROR_MODULES |= {"_queue", "dataclasses", "shutil", "configparser", "_csv", "socket", "zlib", "asyncio.exceptions"}
ERROR_MODULES |= {"graphlib", "tomllib", "calendar", "ipaddress", "concurrent.futures._base", "pickle", "_pickle"}
ERROR_MODULES |= {"xml.etree.ElementTree", "urllib.error", "zoneinfo._common", "argparse", "copy", "string", "enum"}
NAMED_TYPES = {kind: kind.__name__ for kind in (*BY_TYPE, bool, float, str, object, type(None), type)}


def known_class(module: str, name: str) -> type | None:
    """The standard class of that name, where the judge may have it."""
    if module not in ERROR_MODULES or module not in sys.modules:
        return None
    kind = getattr(sys.modules[module], name, None)
    return kind if isinstance(kind, type) and issubclass(kind, BaseException) else None


# Values to JSON and back


@contextlib.contextmanager
def without_collections() -> Iterator[None]:
    """Many small lists at once make the collector of garbage look at all of them again and again."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.enable() if collecting else None


class Packer:
    """Values as nodes of a graph: a small value is itself, any other a list of the one number of its node.

    `seeds` are the first nodes, which the other side has.
    """

    def __init__(self, peer: "Peer", seeds: list | tuple = ()) -> None:
        self.peer, self.first, self.nodes = peer, len(seeds), list[list]()
        self.objects = [*seeds]  # which keeps them alive: their ids are not used again
        self.memo = {id(value): index for index, value in enumerate(seeds)}

    def ref(self, value: Any) -> Any:
        if type(value) in AS_IT_IS or (type(value) is int and -SMALL < value < SMALL):
            return value
        if id(value) not in self.memo:
            self.memo[id(value)] = len(self.objects)
            self.objects.append(value)
        return [self.memo[id(value)]]

    @without_collections()
    def finish(self) -> list[list]:
        nodes, objects, first = self.nodes, self.objects, self.first
        for _ in range(DEEPEST):  # level by level, not by recursion
            for index in range(first + len(nodes), len(objects)):
                nodes.append(self.node(objects[index]))
            if first + len(nodes) == len(objects):
                return nodes
        raise RecursionError(f"a value nested more than {DEEPEST:,} deep")

    def node(self, value: Any) -> list:
        kind = type(value)
        if kind is list or kind is tuple:  # most of them
            return [kind.__name__, [part if type(part) in AS_IT_IS else self.ref(part) for part in value], None]
        if kind in BY_TYPE and not (kind in HASHED and self.peer.keeps(value)) and not _elsewhere(value):
            return self._value(BY_TYPE[kind], value)
        if issubclass(kind, Remote):
            return ["yours", [], value._index]
        remote = self.peer.remote_of(value)
        if remote is not None:
            return ["yours", [], remote]
        if issubclass(kind, type) and value in NAMED_TYPES:
            return ["type", [], NAMED_TYPES[value]]
        if issubclass(kind, type) and issubclass(value, BaseException):
            return self._error_class(value)
        if issubclass(kind, BaseException):
            own = {name: part for name, part in vars(value).items() if name != "_remote"}
            own |= {name: getattr(value, name, None) for name in ("name", "path") if isinstance(value, NAMING)}
            args = value.args
            if isinstance(value, OSError) and value.filename is not None:
                args = (value.errno, value.strerror, value.filename, None, value.filename2)
            if isinstance(value, BaseExceptionGroup):
                args = (value.message, value.exceptions)
            parts = [kind, args, own, value.__cause__]
            return ["error", [self.ref(part) for part in parts], self.peer.shadow(value)]
        if issubclass(kind, enum.Enum):
            plain = next((how.make(*how.parts(value)) for how in VALUES if isinstance(value, how.kind)), None)
            return ["enum", [self.ref(plain)], kind.__name__, value.name, self.peer.shadow(value)]
        for how in VALUES:
            if issubclass(kind, how.kind) and kind not in BY_TYPE and not _elsewhere(value):
                return [*self._value(how, value), self.peer.shadow(value)]
        return self.peer.stays(value)

    def _value(self, how: Value, value: Any) -> list:
        most = value.maxlen if how.kind is deque else None  # which must be known when an empty one is made
        return [how.kind.__name__, [self.ref(part) for part in how.parts(value)], most]

    def _error_class(self, kind: type) -> list:
        if known_class(kind.__module__, kind.__name__) is kind:
            return ["known", [], kind.__module__, kind.__name__]
        bases = [self.ref(base) for base in kind.__bases__ if issubclass(base, BaseException)]
        return ["error class", bases, self.peer.export(kind), kind.__name__, self.peer.special(kind)]


def _elsewhere(value: Any) -> bool:
    """Is it a moment in a time zone of another kind than those of `VALUES`?"""
    zone = value.tzinfo if isinstance(value, datetime.datetime | datetime.time) else None
    return zone is not None and type(zone) is not datetime.timezone


def comparable(node: list) -> str:
    """Text that is equal for equal content, and tells 1 from 1.0 and True."""
    return json.dumps([node[0], sorted(map(json.dumps, node[1])), *node[2:3]] if node[0] == "set" else node[:3])


MISSING = object()


class Unpacker:
    """The values of nodes, after `seeds`. Raises any `Exception` where they are not what a `Packer` makes."""

    @without_collections()
    def __init__(self, peer: "Peer", seeds: list | tuple, nodes: list[list], changed: list | tuple = ()) -> None:
        self.peer, first = peer, len(seeds)
        self.values = [*seeds, *([MISSING] * len(nodes))]
        self.attributes: list[tuple[BaseException, dict]] = []  # of errors, which are set when all values are there
        # What can be changed is made empty first, since it may hold itself.
        for index, node in enumerate(nodes, first):
            if node[0] in BY_NAME and BY_NAME[node[0]].update:
                self.values[index] = self._empty(node)
        # What cannot be changed is made of its parts, so these first: mostly they come later in the list.
        waiting: dict[int, list[int]] = {}
        for index in reversed(range(first, len(self.values))):
            if self.values[index] is MISSING:
                node = nodes[index - first]
                refs = [ref[0] % len(self.values) for ref in node[1] if type(ref) is list]
                if missing := [ref for ref in refs if self.values[ref] is MISSING]:
                    waiting[index] = missing
                else:
                    self.values[index] = self._made(node)
        for index in graphlib.TopologicalSorter(waiting).static_order():
            if self.values[index] is MISSING:
                self.values[index] = self._made(nodes[index - first])
        filled = [(self.values[index], node) for index, node in enumerate(nodes, first)]
        for index, node in changed:
            if not isinstance(seeds[index], BY_NAME[node[0]].kind):
                raise TypeError("another type for an argument")
            filled.append((seeds[index], node))
        for value, node in filled:
            how = BY_NAME.get(node[0])
            if how and how.update:
                how.update(value, self._parts(node))
        for error, attributes in self.attributes:
            for name, value in attributes.items():
                if name[:2] != "__":
                    setattr(error, name, value)

    def value(self, ref: Any) -> Any:
        return self.values[ref[0]] if type(ref) is list else ref

    def _parts(self, node: list) -> list:
        return [self.values[ref[0]] if type(ref) is list else ref for ref in node[1]]

    def _empty(self, node: list) -> Any:
        how = BY_NAME[node[0]]
        kind = self.peer.shadow_class(how.kind, node[3]) if len(node) > 3 else how.kind
        made = kind(maxlen=node[2]) if how.kind is deque else kind()
        return self.peer.shadowed(made, node[3]) if len(node) > 3 else made

    def _made(self, node: list) -> Any:
        name, parts = node[0], self._parts(node)
        if name in BY_NAME:
            made, base = BY_NAME[name].make(*parts), BY_NAME[name].kind
            if len(node) < 4 or base not in SHADOWED:
                return made
            kind = self.peer.shadow_class(base, node[3])
            return self.peer.shadowed(base.__new__(kind, made), node[3])
        if name == "enum":
            return self.peer.enum(node, parts)
        if name == "error":
            error = new_error(error_type(parts[0]), parts[1])
            error.__cause__ = parts[3]
            self.attributes.append((error, parts[2]))
            return self.peer.shadowed(error, node[2])
        if name == "error class":
            return self.peer.error_class(node[2], node[3], [error_type(part) for part in parts], node[4])
        return self.peer.resolve(node)


def error_type(value: Any) -> type[BaseException]:
    """`value`, where it is a class of errors: anything else would be called with what the other side sent."""
    if type(value) is type and issubclass(value, BaseException):
        return value
    raise TypeError("no class of errors")


def new_error(kind: type, args: tuple) -> BaseException:
    try:
        return kind(*args)
    except Exception:  # its own `__init__` wants something else
        error: BaseException = kind.__new__(kind, *args)
        error.args = args
        return error


class Peer:
    """One end of the socket; subclasses say what it hands over and what it lets the other side do."""

    view: type[Remote] = Remote

    def __init__(self, socket: Connection, names: dict[str, Any], own: str) -> None:
        self.socket, self.names, self.own = socket, names, own
        self.lock, self.operations = threading.RLock(), {**OPERATIONS}
        self.mine, self.indices = list[Any](), dict[int, int]()
        self.theirs, self.classes = dict[int, Any](), dict[Any, type]()
        self.remembered: dict[int, tuple[Any, int]] = {}  # classes of errors here that stand for some there

    # What subclasses decide

    def stays(self, value: Any) -> list:
        raise NotImplementedError

    def permitted(self, operation: str, operands: list) -> None:
        raise NotImplementedError

    def unjudged(self, reason: str) -> Any:
        raise Unjudged(reason)

    def keeps(self, value: Any) -> bool:
        """Does a set or dictionary stay, because of what it holds?"""
        return False

    def stand_ins(self) -> dict | None:
        return None

    # Calls

    def ask(self, operation: str, *operands: Any) -> Any:
        """Have the other side do it; raises what it raises there."""
        with self.lock:
            packer = Packer(self)
            refs = [packer.ref(operand) for operand in operands]
            self.send(["do", operation, refs, packer.finish()])
            while (message := self.receive())[0] == "do":
                self.serve(message)
            with self.guarded():
                kind, value, printed = self.settle(message, packer.objects)
            self.show(printed)
        if kind == "error":
            raise value
        return value if kind == "value" else self.unjudged(value)

    def settle(self, message: list, seeds: list) -> tuple[str, Any, dict]:
        kind, ref, nodes, changed, printed = message
        if kind not in ("value", "error", "unjudged"):
            raise ValueError("no such reply")
        value = Unpacker(self, seeds, nodes, changed).value(ref)
        if kind == "error" and not isinstance(value, BaseException):
            raise ValueError("raised what is no error")
        return kind, value, dict(printed or {})

    def serve(self, message: list) -> None:
        """Do what the other side asks, and reply."""
        with self.guarded():
            _, operation, refs, nodes = message
            request = Unpacker(self, (), nodes)
            operands = [request.value(ref) for ref in refs]
        try:
            self.permitted(operation, operands)
            reply = self._reply("value", self.operations[operation](*operands), nodes, request.values)
        except BaseException as error:
            reply = self._reply(*self.failed(error), nodes, request.values)
        self.send(reply)

    def _reply(self, kind: str, value: Any, nodes: list, seeds: list) -> list:
        ref = (packer := Packer(self, seeds)).ref(value)
        changed = [[index, new] for index, old in enumerate(nodes) for new in self._changed(old, index, packer)]
        return [kind, ref, packer.finish(), changed, self.printed()]

    def failed(self, error: BaseException) -> tuple[str, Any]:
        """(kind, value) of the reply to what raised; raises what is not for the other side."""
        raise error

    @contextlib.contextmanager
    def guarded(self) -> Iterator[None]:
        """Around what depends on the other side alone."""
        yield

    def _changed(self, old: list, index: int, packer: Packer) -> Iterator[list]:
        if old[0] in BY_NAME and BY_NAME[old[0]].update:
            with contextlib.suppress(ValueError):  # a closed file
                new = packer.node(packer.objects[index])
                if comparable(new) != comparable(old):
                    yield new

    def printed(self) -> dict | None:
        """What a reply brings along beside its value."""
        return None

    def show(self, printed: dict) -> None:
        pass

    def send(self, message: list) -> None:
        with self.guarded():
            self.socket.send_bytes(json.dumps(message).encode())

    def receive(self) -> list:
        with self.guarded():
            return json.loads(self.socket.recv_bytes(LARGEST_MESSAGE))

    # Objects

    def named(self, name: str) -> type | None:
        """The class of that name that the text of this side defines."""
        kind = self.names.get(name)
        return kind if issubclass(type(kind), type) and kind.__module__ == self.own else None

    def export(self, value: Any) -> int:
        if id(value) not in self.indices:
            self.indices[id(value)] = len(self.mine)
            self.mine.append(value)
        return self.indices[id(value)]

    def about(self, value: Any) -> About:
        kind = type(value)
        claimed = next((name for name, base in CLAIMED.items() if issubclass(kind, base)), "")
        cls = self.export(kind) if kind.__module__ == self.own else None
        return About(kind.__name__, kind.__module__, kind.__eq__ is object.__eq__, claimed, cls)

    def shadow(self, value: Any) -> list:
        """What is said of an instance of a subclass of plain data, beside the data."""
        fields = getattr(value, "_fields", None) if isinstance(value, tuple) else None
        fields = [*map(str, fields)] if fields else None
        return [self.export(value), self.about(value), fields, self.special(type(value))]

    def special(self, kind: type) -> list[str]:
        """The special methods that this side's text gives to a class, of those that the other side looks for."""
        return [name for name in SPECIAL if getattr(getattr(kind, name, None), "__module__", None) == self.own]

    def remote_of(self, value: Any) -> int | None:
        """The other side's index of what a value here stands for."""
        if id(value) in self.remembered:
            return self.remembered[id(value)][1]
        remote = getattr(type(value), "_shadow", None) and vars(value).get("_remote")
        return remote._index if remote is not None and not isinstance(value, (*HASHED, list, bytearray)) else None

    def resolve(self, node: list) -> Any:
        name = node[0]
        if name == "yours":
            return self.mine[node[2]]
        if name == "type":
            return next(kind for kind, called in NAMED_TYPES.items() if called == node[2])
        if name == "known" and (kind := known_class(node[2], node[3])):
            return kind
        if name == "mine":
            return self.remote(node[2], About(*node[3]))
        raise ValueError("no such value")

    def remote(self, index: int, about: About) -> Any:
        if about.kind == "coroutine":
            return awaiting(self._viewed(index, about))
        if index not in self.theirs:
            self.theirs[index] = self._viewed(index, about)
        return self.theirs[index]

    def _viewed(self, index: int, about: About) -> Remote:
        key = (about.name, about.cls)
        if key not in self.classes:
            own = {"__slots__": (), "_answer_class": about.cls}
            own |= {name: Remote.__dict__[name] for name in ("__doc__", "__module__")}
            self.classes[key] = type(str(about.name), (self.view,), own)
        return self.classes[key](self, index, about)

    def shadow_class(self, base: type, shadow: list) -> type:
        _, about, fields, special = shadow
        named = self.named(about[0])
        if named and issubclass(named, tuple) and getattr(named, "_fields", None) == tuple(fields or ()):
            return named
        key = (base, *about, *(fields or ()), *special)
        if key not in self.classes:
            above = namedtuple(about[0], fields, rename=True) if fields and base is tuple else base
            self.classes[key] = type(str(about[0]), (above,), self._standing_in(special, base))
        return self.classes[key]

    def _standing_in(self, special: list[str], base: type) -> dict[str, Any]:
        """What a class has that stands for one of the other side."""
        known = [name for name in special if name in SPECIAL and hasattr(self.view, name)]
        asked = {name: by_remote(getattr(self.view, name), getattr(base, name, None)) for name in known}
        return {"_shadow": True, "__getattr__": rest_of, **asked}

    def shadowed(self, value: Any, shadow: list) -> Any:
        if getattr(type(value), "_shadow", False):
            value._remote = self.remote(shadow[0], About(*shadow[1]))
        return value

    def enum(self, node: list, parts: list) -> Any:
        _, _, name, member, shadow = node
        named = self.named(name)
        if named and issubclass(named, enum.Enum) and member in named.__members__:
            return named[member]
        if type(parts[0]) not in SHADOWED:
            return self.remote(shadow[0], About(*shadow[1]))
        return self.shadowed(self.shadow_class(type(parts[0]), shadow)(parts[0]), shadow)

    def error_class(self, index: int, name: str, bases: list[type], special: list[str]) -> type:
        named = self.named(name)
        if named and issubclass(named, BaseException):
            return named
        if ("error", index) not in self.classes:
            kind = type(str(name), tuple(dict.fromkeys(bases)), self._standing_in(special, BaseException))
            self.classes["error", index] = kind
            self.remembered[id(kind)] = (kind, index)
        return self.classes["error", index]
