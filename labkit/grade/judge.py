"""What runs inside the sandbox: a server that grades one program after another, standard library only.

`sandbox.py` starts this file as a script and says what it protects; nothing imports it. The server (process 1 of
the sandbox) never sees a program. For each it forks two children, ends whatever is left of them, and wipes the
working folder; where a program leaves something behind, the server itself ends and a new sandbox takes over.

- The *solution's process* gets the solution's text, compiles and runs it, and answers requests about its names.
- The *judge* gets the test and runs it. A name that the test does not define is looked up in the solution's
  process: a function or an object there is a `Remote` here, called over a socket. Values cross as JSON, so the
  judge never unpickles or runs anything that the solution made: answers arrive as plain numbers, strings, lists,
  tuples, sets and dictionaries (of a subclass, its base: equality is never the solution's own), or as a `Remote`,
  equal to itself alone. After a call, lists, dictionaries and sets among the arguments are brought up to date.

Request of the host: the limits, a JSON list in the order of `Limits`. Answer: [outcome,
detail, seconds, whether the sandbox can be used again].
"""

import builtins
import contextlib
import ctypes
import gc
import importlib
import json
import linecache
import math
import os
import resource
import select
import shutil
import signal
import socket
import sys
import time
import traceback
import types
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

# What programs import most: loaded once, before the forks.
MODULES = (
    "bisect",
    "collections",
    "copy",
    "datetime",
    "functools",
    "hashlib",
    "heapq",
    "itertools",
    "random",
    "typing",
)
for _module in MODULES:
    importlib.import_module(_module)

# Plain data. Values of other types stay where they are; those of a subclass cross as what they derive from.
BASES = (bool, int, float, str, list, tuple, dict, set, frozenset, complex, bytes, bytearray, range)
NAMED: dict[str, Callable] = {base.__name__: base for base in BASES}
PARTS: dict[type, Callable[[Any], list]] = {
    complex: lambda value: [value.real, value.imag],
    range: lambda value: [value.start, value.stop, value.step],
}
LARGEST_MESSAGE = 1 << 26  # bytes
PR_SET_DUMPABLE = 4


def serve(control: Connection, programs: Connection, folder: str, alone: bool, uids: list[int]) -> None:
    """Grade one program a request until the host hangs up; `alone`: this is process 1 of a sandbox."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)  # which process 1 never receives from inside
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0)  # no child may trace this process or read its memory
    unpack(json.loads(json.dumps(pack([1.5, ("warm", {2})]))), int)  # done once here, this costs no child 3 ms
    compile("def f(x):\n    return [i for i in x]\nassert f('a') == ['a']", "<warm>", "exec")
    gc.freeze()
    control.send_bytes(b"ready")
    clean = True
    while clean:
        try:
            limits = json.loads(control.recv_bytes())
        except EOFError:
            return
        started = time.monotonic()
        outcome, detail, reported = grade(limits, programs, folder, alone, uids)
        seconds = time.monotonic() - started
        clean = wiped(folder) and reported  # a judge that said nothing may have left its program unread
        control.send_bytes(json.dumps([outcome, detail, seconds, clean]).encode())


def grade(limits: list, programs: Connection, folder: str, alone: bool, uids: list[int]) -> tuple[str, str, bool]:
    deadline = time.monotonic() + limits[1]
    (ours, theirs), (result, report), (output, writes) = socket.socketpair(), os.pipe(), os.pipe()
    answering = fork(lambda: answer(Connection(theirs.fileno())), [theirs.fileno()], writes, folder, limits, uids[:1])
    kept = [programs.fileno(), ours.fileno(), report]
    judging = fork(lambda: judge(programs, Connection(ours.fileno()), report), kept, writes, folder, limits, uids[1:])
    for fd in (ours.detach(), theirs.detach(), report, writes):
        os.close(fd)
    said = watch(result, output, deadline, limits[5])
    ended = end(answering, judging, alone)
    os.close(result)
    os.close(output)
    if said and said[0] != "gone":
        return *said, True
    return *classify(said, ended, answering, limits), bool(said)


def classify(said: tuple | None, ended: dict[int, tuple], answering: int, limits: list) -> tuple[str, str]:
    """Why a test did not come to its end."""
    if said is None:
        return "timeout", f"more than {limits[1]:g} s"
    signals = {os.WTERMSIG(status) for status, _ in ended.values() if os.WIFSIGNALED(status)}
    if signal.SIGXCPU in signals or any(usage.ru_utime + usage.ru_stime >= limits[0] for _, usage in ended.values()):
        return "timeout", f"more than {limits[0]:g} s of CPU time"
    status = ended[answering][0]
    if os.WIFEXITED(status):
        return "crash", f"left with status {os.WEXITSTATUS(status)} before its test was over"
    names = [signal.strsignal(number) or str(number) for number in signals - {signal.SIGKILL}]
    return "crash", f"ended by a signal: {', '.join(names)}" if names else said[1] if said else "ended its judge"


def fork(body: Callable[[], object], keep: list[int], output: int, folder: str, limits: list, uid: list[int]) -> int:
    """A child that holds `keep` and `output` and nothing else, in `folder`, under the limits, as user `uid`."""
    if pid := os.fork():
        return pid
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for stream, fd in enumerate((null, output, output)):
            os.dup2(fd, stream)
        start = 3
        for fd in sorted(keep):
            os.closerange(start, fd)
            start = fd + 1
        os.closerange(start, os.sysconf("SC_OPEN_MAX"))
        os.chdir(folder)
        cpu, _, memory, processes, file_bytes, _ = limits
        for what, most in (
            (resource.RLIMIT_CPU, math.ceil(cpu)),
            (resource.RLIMIT_AS, memory),
            (resource.RLIMIT_NPROC, processes + 2),  # the server and the judge count where they share a user
            (resource.RLIMIT_FSIZE, file_bytes),
            (resource.RLIMIT_NOFILE, 64),
            (resource.RLIMIT_CORE, 0),
            (resource.RLIMIT_MSGQUEUE, 0),
        ):
            # One second after SIGXCPU, which can be ignored, comes SIGKILL, which cannot.
            resource.setrlimit(what, (most, most + 1 if what == resource.RLIMIT_CPU else most))
        for number in uid:
            os.setgroups([])
            os.setresgid(number, number, number)
            os.setresuid(number, number, number)
        body()
        os._exit(0)
    except SystemExit:
        os._exit(0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


def watch(result: int, output: int, deadline: float, most_output: int) -> tuple[str, str] | None:
    """What the judge reports; () if it dies first; None at the deadline. Output is counted and thrown away."""
    poll, written = select.poll(), 0
    poll.register(result)
    poll.register(output)
    while (left := deadline - time.monotonic()) > 0:
        for fd, _ in poll.poll(1000 * left):
            data = os.read(fd, 1 << 16)
            if fd == result:
                return tuple(json.loads(data)) if data else ()
            written += len(data)
            if written > most_output:
                return "crash", f"wrote more than {most_output:,} bytes of output"
            if not data:
                poll.unregister(output)
    return None


def end(answering: int, judging: int, alone: bool) -> dict[int, tuple]:
    """End all that is left; {pid: (status, resources used)}."""
    for group in (answering, judging):
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1 if alone else group, signal.SIGKILL)
        if not alone:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
    ended: dict[int, tuple] = {}
    while True:
        try:
            pid, status, usage = os.wait4(-1, 0)
        except ChildProcessError:
            return ended
        ended[pid] = (status, usage)


def wiped(folder: str) -> bool:
    for entry in Path(folder).iterdir():
        try:
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
        except (OSError, RecursionError):
            return False
    return True


# The judge


class Gone(BaseException):
    """The solution's process ended, or sent what is no answer. No `Exception`: no test should catch it."""


class Solution:
    """The judge's end of the socket."""

    def __init__(self, socket: Connection) -> None:
        self.socket, self.gone = socket, ""

    def ask(self, operation: str, *operands: Any) -> tuple[Any, list]:
        """One request: its value, and the arguments that it changed; raises what the solution raised."""
        try:
            self.socket.send_bytes(json.dumps([operation, *operands]).encode())
            kind, value, changed = json.loads(self.socket.recv_bytes(LARGEST_MESSAGE))
            if kind == "value":
                return unpack(value, self.remote), [(index, unpack(new, self.remote)) for index, new in changed]
            error, text = getattr(builtins, value[0]), str(value[1])
            if not issubclass(error, Exception):
                raise ValueError("raised what is no error")
        except MemoryError:
            raise
        except Exception as problem:
            self.gone = f"sent no answer ({type(problem).__name__})"
            raise Gone from None
        # A StopIteration could end a loop of the test unseen, and a UnicodeError takes five arguments.
        raise ValueError(text) if issubclass(error, StopIteration | UnicodeError) else error(text)

    def remote(self, index: int) -> "Remote":
        return Remote(self, int(index))


class Remote:
    """A function or an object of the solution's process."""

    def __init__(self, solution: Solution, index: int) -> None:
        self.__dict__.update(_solution=solution, _index=index)

    def __call__(self, *args: Any, **named: Any) -> Any:
        value, changed = self._solution.ask("call", self._index, pack([*args]), pack(named))
        for index, new in changed:
            old = args[index]
            if type(old) is type(new) and isinstance(old, list | bytearray | dict | set):
                old.clear()
                old.extend(new) if isinstance(old, list | bytearray) else old.update(new)
        return value

    def __getattr__(self, name: str) -> Any:
        return self._solution.ask("get", self._index, name)[0]

    def __setattr__(self, name: str, value: Any) -> None:
        self._solution.ask("set", self._index, name, pack(value))

    def __iter__(self) -> Iterator:
        return iter(self._solution.ask("list", self._index)[0])


def judge(programs: Connection, socket: Connection, report: int) -> None:
    solution, test, entry_point = json.loads(programs.recv_bytes())
    outcome, detail = run_test(Solution(socket), solution, test, entry_point)
    os.write(report, json.dumps([outcome, detail[:300]]).encode())


def run_test(peer: Solution, solution: str, test: str, entry_point: str) -> tuple[str, str]:
    linecache.cache["<test>"] = (len(test), None, test.splitlines(keepends=True), "<test>")
    code = compile(test, "<test>", "exec", dont_inherit=True)
    try:
        try:
            wanted = {entry_point, *free_names(code)}
            defined = peer.ask("load", solution, sorted(wanted))[0]
        except SyntaxError as error:
            return "syntax", str(error)
        loaded = {name: defined[name] for name in wanted if name in defined}  # and nothing else: no built-ins
        if entry_point not in loaded:
            return "failed", f"defines no '{entry_point}'"
        exec(code, {**loaded, "candidate": loaded[entry_point], "__name__": "test"})
    except Gone:
        pass
    except BaseException as error:
        where = [frame.line for frame in traceback.extract_tb(error.__traceback__) if frame.filename == "<test>"]
        words = [type(error).__name__, str(error), *where[-1:]]
        return "memory" if isinstance(error, MemoryError) else "failed", ": ".join(filter(None, words))
    return ("gone", peer.gone) if peer.gone else ("passed", "")


def free_names(code: types.CodeType) -> set[str]:
    """The names that a test may want of the solution: those it uses that are not built in."""
    inner = (free_names(const) for const in code.co_consts if isinstance(const, types.CodeType))
    return {name for name in code.co_names if not hasattr(builtins, name) and name[:2] != "__"}.union(*inner)


# The solution's process


def answer(socket: Connection) -> None:
    """Answer the judge's requests until it hangs up."""
    objects: list[Any] = []
    module = types.ModuleType("solution")
    sys.modules["solution"] = module  # where dataclasses and pickle look for it

    def export(value: object) -> int:
        objects.append(value)
        return len(objects) - 1

    while True:
        operation, *operands = json.loads(socket.recv_bytes())
        changed = []
        try:
            if operation == "load":
                text, wanted = operands
                if "\0" in text:
                    raise SyntaxError("a null byte")  # before Python 3.12 a ValueError
                exec(compile(text, "<solution>", "exec", dont_inherit=True), vars(module))
                value: Any = {name: vars(module)[name] for name in wanted if name in vars(module)}
            elif operation == "call":
                args, named = (unpack(packed, objects.__getitem__) for packed in operands[1:])
                value = objects[operands[0]](*args, **named)
                after = [pack(arg, export) for arg in args]
                changed = [(index, new) for index, new in enumerate(after) if new != operands[1][index]]
            elif operation == "get":
                value = getattr(objects[operands[0]], operands[1])
            elif operation == "set":
                value = None
                setattr(objects[operands[0]], operands[1], unpack(operands[2], objects.__getitem__))
            else:
                value = list(objects[operands[0]])
            reply = json.dumps(("value", pack(value, export), changed))
        except Exception as error:
            kind = next(kind for kind in type(error).__mro__ if kind.__module__ == "builtins")
            reply = json.dumps(("error", (kind.__name__, str(error)[:1000]), []))
        socket.send_bytes(reply.encode())


# Values on the wire


def pack(value: Any, export: Callable[[object], int] | None = None) -> Any:
    """A value for JSON; what is no plain data is exported (by the solution) or refused (by the judge)."""
    if isinstance(value, Remote):
        return {"object": value._index}
    if isinstance(value, type) and value in BASES:
        return {"type": value.__name__}
    base = type(value) if type(value) in BASES else next((base for base in BASES if isinstance(value, base)), None)
    if value is None or base in (bool, float):
        return value if base is not float else float(value)
    if base is str:
        return str.__str__(value)
    if base is int:
        return int(value) if abs(value) < 1 << 64 else {"int": hex(value)}
    if base is list:
        return [pack(item, export) for item in value]
    if base is dict:
        return {"dict": [[pack(key, export), pack(item, export)] for key, item in value.items()]}
    if base is not None:
        items = PARTS[base](value) if base in PARTS else value
        return {base.__name__: [pack(item, export) for item in items]}
    if export is None:
        raise TypeError(f"a test can hand over plain data only, not {type(value).__name__}")
    return {"object": export(value)}


def unpack(packed: Any, resolve: Callable[[int], Any]) -> Any:
    """The value that was packed; `resolve` finds the object of an index."""
    if isinstance(packed, list):
        return [unpack(item, resolve) for item in packed]
    if not isinstance(packed, dict):
        return packed
    ((name, parts),) = packed.items()
    if name == "object":
        return resolve(parts)
    if name in ("int", "type"):
        return int(parts, 16) if name == "int" else NAMED[parts]
    items = unpack(parts, resolve)
    return NAMED[name](*items) if NAMED[name] in PARTS else NAMED[name](items)


if __name__ == "__main__":
    folder, alone, *uids = sys.argv[1:]
    serve(Connection(os.dup(1)), Connection(os.dup(0)), folder, alone == "alone", [int(uid) for uid in uids])
