"""What runs inside the sandbox: a server that grades one program after another, standard library only.

`sandbox.py` starts this file as a script and says what it protects; nothing imports it. The server (process 1 of
the sandbox) never sees a program. For each it forks two children, ends whatever is left of them, and wipes the
working folder; where a program leaves something behind, the server itself ends and a new sandbox takes over.

- The *solution's process* gets the solution's text, compiles and runs it, and answers requests about its names.
- The *judge* gets the test and runs it. A name that the test does not define is looked up in the solution's
  process, except modules of the standard library, which are the judge's own; values and calls cross as `wire.py` says.
  The reason why there is no verdict is noted where it arises, so a test that catches every error does not hide it.

Request of the host: the limits, a JSON list in the order of `Limits`. Answer: [outcome,
detail, seconds, whether the sandbox can be used again].
"""

import ast
import builtins
import contextlib
import ctypes
import gc
import importlib
import io
import itertools
import json
import linecache
import math
import operator
import os
import platform
import random
import resource
import select
import shutil
import signal
import socket
import sys
import time
import traceback
import types
import warnings
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labkit.grade import remote, wire
else:  # they lie beside this file, which is no part of a package here
    sys.path.insert(0, str(Path(__file__).parent))
    import remote
    import wire

    del sys.path[0]

# What programs import most: loaded once, before the forks.
OFTEN = ("bisect", "collections", "copy", "datetime", "functools", "hashlib", "heapq", "itertools", "random", "typing")
for _module in OFTEN:
    importlib.import_module(_module)

PR_SET_DUMPABLE = 4
JOIN_KEYRING = {"x86_64": 250, "aarch64": 219}  # the number of keyctl; its first operation is to join a new ring
MOST_WARNINGS = 1000  # of a call that are kept for a test to look at
MOST_FILES = 20_000  # in /tmp: each takes a kilobyte of the kernel's memory that no limit of a process counts
LOOK = 0.1  # seconds between looks at their number
LONGEST_OUTPUT = 1 << 20  # characters of a call that are kept for a test to read


def serve(control: Connection, programs: Connection, folder: str, alone: bool, uids: list[int]) -> None:
    """Grade one program per request until the host hangs up; `alone`: this is process 1 of a sandbox."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)  # which process 1 never receives from inside
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0)  # no child may trace this process or read its memory
    if platform.machine() in JOIN_KEYRING:  # an empty one, where this process holds its starter's
        ctypes.CDLL(None).syscall(JOIN_KEYRING[platform.machine()], 1, None)
    wire.Unpacker(wire.Peer(programs, {}, ""), [], json.loads('[["tuple", [1.5], null]]'))  # saves each child 3 ms
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
    verdict = watch(result, output, deadline, limits[5], folder)
    ended = end(answering, judging, alone)
    os.close(result)
    os.close(output)
    if verdict and verdict[0] != "gone":
        return *verdict, True
    return *classify(verdict, ended, answering, limits), bool(verdict)


def classify(verdict: tuple | None, ended: dict[int, tuple], answering: int, limits: list) -> tuple[str, str]:
    """Why a test did not come to its end."""
    if verdict is None:
        return "timeout", f"more than {limits[1]:g} s"
    signals = {os.WTERMSIG(status) for status, _ in ended.values() if os.WIFSIGNALED(status)}
    if signal.SIGXCPU in signals or any(usage.ru_utime + usage.ru_stime >= limits[0] for _, usage in ended.values()):
        return "timeout", f"more than {limits[0]:g} s of CPU time"
    status = ended[answering][0]
    if os.WIFEXITED(status):
        return "crash", f"left with status {os.WEXITSTATUS(status)} before its test was over"
    names = [signal.strsignal(number) or str(number) for number in signals - {signal.SIGKILL}]
    return "crash", f"ended by a signal: {', '.join(names)}" if names else verdict[1] if verdict else "ended its judge"


def fork(body: Callable[[], object], keep: list[int], output: int, folder: str, limits: list, uid: list[int]) -> int:
    """A child that holds `keep` and `output` and nothing else, in `folder`, under the limits, as user `uid`."""
    if pid := os.fork():
        return pid
    try:
        os.setsid()
        for stream, fd in enumerate((os.open(os.devnull, os.O_RDWR), output, output)):
            os.dup2(fd, stream)
        kept = [2, *sorted(keep), os.sysconf("SC_OPEN_MAX")]
        for below, above in itertools.pairwise(kept):
            os.closerange(below + 1, above)
        os.chdir(folder)
        cpu, _, memory, processes, file_bytes, _ = limits
        most = {"CPU": math.ceil(cpu), "AS": memory, "FSIZE": file_bytes, "NOFILE": 64, "CORE": 0, "MSGQUEUE": 0}
        most["NPROC"] = processes + 2  # the server and the judge count where they share a user
        for name, limit in most.items():
            # One second after SIGXCPU, which can be ignored, comes SIGKILL, which cannot.
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (limit, limit + (name == "CPU")))
        for number in uid:
            os.setgroups([])
            os.setresgid(number, number, number)
            os.setresuid(number, number, number)
        body()
        os._exit(0)
    except SystemExit as error:
        os._exit(exit_status(error))
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


def watch(result: int, output: int, deadline: float, most_output: int, folder: str) -> tuple[str, str] | None:
    """What the judge reports; () if it dies first; None at the deadline. Output is counted and thrown away."""
    before = files_below(folder)
    poll, written = select.poll(), 0
    poll.register(result)
    poll.register(output)
    while (left := deadline - time.monotonic()) > 0:
        if files_below(folder) > before + MOST_FILES:
            return "crash", f"made more than {MOST_FILES:,} files"
        for fd, _ in poll.poll(1000 * min(left, LOOK)):
            data = os.read(fd, 1 << 16)
            if fd == result:
                return tuple(json.loads(data)) if data else ()
            written += len(data)
            if written > most_output:
                return "crash", f"wrote more than {most_output:,} bytes of output"
            if not data:
                poll.unregister(output)
    return None


def files_below(folder: str) -> int:
    """How many files the file system of `folder` holds."""
    system = os.statvfs(folder)
    return system.f_files - system.f_ffree


def end(answering: int, judging: int, alone: bool) -> dict[int, tuple]:
    """End all that is left; {pid: (status, resources used)}."""
    for group in (answering, judging):
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1 if alone else group, signal.SIGKILL)
        if not alone:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
    ended: dict[int, tuple] = {}
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, *ended_as = os.wait4(-1, 0)
            ended[pid] = tuple(ended_as)
    return ended


def wiped(folder: str) -> bool:
    for entry in Path(folder).iterdir():
        try:
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
        except (OSError, RecursionError):
            return False
    return True


# The judge


class Judge(wire.Peer):
    """The judge's end: what it hands over and allows, and why there is no verdict."""

    view = remote.Answer

    def __init__(self, socket: Connection, names: dict[str, Any]) -> None:
        super().__init__(socket, names, "test")
        self.gone, self.reason = "", ""
        self.left: SystemExit | None = None
        self.input, self.stdin, self.random = builtins.input, sys.stdin, random.getstate()

    def unjudged(self, reason: str) -> Any:
        self.reason = self.reason or reason
        raise remote.Unjudged(reason)

    @contextlib.contextmanager
    def guarded(self) -> Iterator[None]:
        try:
            yield
        except MemoryError:
            raise
        except Exception as problem:
            self.gone = f"sent no answer ({type(problem).__name__})"
            raise remote.Gone from None

    def ask(self, operation: str, *operands: Any) -> Any:
        try:
            return super().ask(operation, *operands)
        except SystemExit as error:
            self.left = error
            raise
        except (StopIteration, StopAsyncIteration, GeneratorExit) as error:  # could end a loop of the test unseen
            raise ValueError(str(error)) from None

    def failed(self, error: BaseException) -> tuple[str, Any]:
        if isinstance(error, remote.Gone | remote.Unjudged):
            raise error
        return "error", error

    def stand_ins(self) -> dict | None:
        """What the test put in the place of the solution's input, and the random state that it set."""
        now = {"input": builtins.input, "stdin": sys.stdin, "random": random.getstate()}
        return {name: value for name, value in now.items() if value != getattr(self, name)} or None

    def show(self, printed: dict) -> None:
        """What the solution printed and warned of, where the test may look at it, and the random state it left."""
        for name in ("stdout", "stderr"):
            if name in printed and getattr(sys, name) is not getattr(sys, f"__{name}__"):
                getattr(sys, name).write(str(printed[name]))
        if "random" in printed:
            version, numbers, following = printed["random"]
            random.setstate((version, tuple(numbers), following))
            self.random = random.getstate()
        for kinds, text in printed.get("warnings", ()):
            found = (self.named(kind) or vars(builtins).get(kind) for kind in kinds)
            warnings.warn(str(text), next(filter(is_warning, found), UserWarning), stacklevel=2)

    def stays(self, value: Any) -> list:
        if standard := standard_name(value):
            return ["standard", [], *standard]
        if tests_own(value) or isinstance(value, Iterator) or callable(value) or type(value) is object:
            return ["mine", [], self.export(value), self.about(value)]
        return self.unjudged(f"the test hands over a value of type {type(value).__name__}")

    def permitted(self, operation: str, operands: list) -> None:
        """The solution asks for what was handed over, and for nothing that leads to the test or to this process."""
        sides = operands[: 2 if operation in EITHER else 1]  # either of these may be what was handed over
        handed = [value for value in sides if id(value) in self.indices]
        if not handed:
            self.unjudged(f"the solution asks for what was not handed over ({operation})")
        target = handed[0]
        if operation in ("get", "set", "delete"):
            allowed = attribute_open(target, operands[1], operation == "get")
        elif operation in ("call", "bool"):
            allowed = True
        else:
            allowed = tests_own(target) or (operation in ("next", "iter") and isinstance(target, Iterator))
            allowed |= not hasattr(type(target), f"__{operation}__")  # a TypeError, as in one process
        if not allowed or operation not in self.operations:
            self.unjudged(f"the solution uses what the test hands over ({operation} of a {type(target).__name__})")


def is_warning(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Warning)


EITHER = {*remote.COMPARISONS, *remote.BINARY, "eq", "isinstance", "issubclass"}


def tests_own(value: Any) -> bool:
    """Is it a class of the test, or an instance of one?"""
    kind = value if isinstance(value, type) else type(value)
    return type(kind) is not remote.Answer and vars(kind).get("__module__") == "test"


def attribute_open(target: Any, name: str, reading: bool) -> bool:
    """May the solution read or set it? Nothing by which it would reach the globals or the frames of the test."""
    if reading and (name in ("__name__", "__qualname__", "__doc__", "__module__", "__annotations__")):
        return True
    own = vars(target) if isinstance(target, types.FunctionType) else {}
    if reading and (name in own or (name == "__dict__" and own == {}) or not hasattr(target, name)):
        return True
    return tests_own(target) and type(name) is str and name[:2] != "__"


def standard_name(value: Any) -> tuple[str, str] | None:
    """(module, name) of what the standard library calls so, which the solution's process has, too."""
    if isinstance(value, types.ModuleType):
        return (value.__name__, "") if value.__name__.split(".")[0] in sys.stdlib_module_names else None
    module = getattr(value, "__module__", None) or getattr(getattr(value, "__objclass__", None), "__module__", None)
    name = getattr(value, "__qualname__", None)
    if not (isinstance(module, str) and isinstance(name, str) and module.split(".")[0] in sys.stdlib_module_names):
        return None
    with contextlib.suppress(ImportError, AttributeError):
        return (module, name) if find_standard(module, name) is value else None
    return None


def find_standard(module: str, name: str) -> Any:
    place = importlib.import_module(module)
    return operator.attrgetter(name)(place) if name else place


def judge(programs: Connection, socket: Connection, report: int) -> None:
    solution, test, entry_point = json.loads(programs.recv_bytes())
    outcome, detail = run_test(Judge(socket, {}), solution, test, entry_point)
    os.write(report, json.dumps([outcome, detail[:300]]).encode())


def run_test(peer: Judge, solution: str, test: str, entry_point: str) -> tuple[str, str]:
    linecache.cache["<test>"] = (len(test), None, test.splitlines(keepends=True), "<test>")
    code = compile(test, "<test>", "exec", dont_inherit=True)
    outcome, detail = "passed", ""
    try:
        wanted = {entry_point, *free_names(code)}
        modules = standard_modules(test, wanted - {entry_point, "candidate"})
        wanted -= set(modules)
        try:
            defined = peer.ask("load", solution, sorted(wanted))
        except SyntaxError as error:
            return "syntax", str(error)
        loaded = {name: defined[name] for name in wanted if name in defined}  # and nothing else: no built-ins
        if entry_point not in loaded:
            return "failed", f"defines no '{entry_point}'"
        peer.names |= {**modules, **loaded, "candidate": loaded[entry_point], "__name__": "test"}
        exec(code, peer.names)
    except BaseException as error:
        outcome, detail = described(error, peer)
    if peer.gone:  # also where the test caught what was raised
        return "gone", peer.gone
    return ("unjudged", peer.reason) if peer.reason else (outcome, detail)


def described(error: BaseException, peer: Judge) -> tuple[str, str]:
    if peer.left is not None and error is peer.left:
        return "crash", f"left with status {exit_status(peer.left)} before its test was over"
    where = [frame.line for frame in traceback.extract_tb(error.__traceback__) if frame.filename == "<test>"]
    try:
        text = str(error)
    except BaseException:  # which the solution may hold up, where it is made of its objects
        text = ""
    words = [type(error).__name__, text, *where[-1:]]
    return "memory" if isinstance(error, MemoryError) else "failed", ": ".join(filter(None, words))


def exit_status(error: SystemExit) -> int:
    """What a program that raises it leaves with."""
    return error.code & 255 if isinstance(error.code, int) else int(error.code is not None)


def free_names(code: types.CodeType) -> set[str]:
    """The names that a test may want of the solution: those it uses that are not built in."""
    inner = (free_names(const) for const in code.co_consts if isinstance(const, types.CodeType))
    return {name for name in code.co_names if not hasattr(builtins, name) and name[:2] != "__"}.union(*inner)


def standard_modules(test: str, wanted: set[str]) -> dict[str, types.ModuleType]:
    """The modules that a test uses by name and does not import: they are not the solution's to make."""
    used: dict[str, set[str]] = {}
    for node in ast.walk(ast.parse(test)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            used.setdefault(node.value.id, set()).add(node.attr)
    names = used.keys() & sys.stdlib_module_names & wanted
    modules = {name: importlib.import_module(name) for name in names}
    return {name: module for name, module in modules.items() if all(hasattr(module, part) for part in used[name])}


# The solution's process


class Answering(wire.Peer):
    """The solution's end: it does all that the judge asks."""

    view = remote.Handed

    def __init__(self, socket: Connection) -> None:
        self.module = types.ModuleType("solution")
        sys.modules["solution"] = self.module  # where dataclasses and pickle look for it
        super().__init__(socket, vars(self.module), "solution")
        self.operations |= {"load": self.load, "call": self.call, "await": self.wait, "anext": self.next_awaited}
        self.loop: Any = None
        builtins.exit = builtins.quit = sys.exit  # type: ignore[assignment]  # as `site` has it
        sys.stdout, sys.stderr = self.streams = Recorder(1), Recorder(2)
        self.warned, self.seeded = list[tuple[list[str], str]](), False
        warnings.simplefilter("always")  # the test's own filters decide
        warnings.showwarning = self.warn  # type: ignore[assignment]

    def load(self, text: str, wanted: list[str]) -> dict[str, Any]:
        if "\0" in text:
            raise SyntaxError("a null byte")  # before Python 3.12 a ValueError
        try:
            exec(compile(text, "<solution>", "exec", dont_inherit=True), vars(self.module))
        except SystemExit as error:
            os._exit(exit_status(error))
        return {name: vars(self.module)[name] for name in wanted if name in vars(self.module)}

    def call(self, function: Callable, args: tuple, named: dict, stand_ins: dict | None) -> Any:
        """From here on the random state goes both ways, where the test has set it."""
        if state := (stand_ins or {}).pop("random", None):
            random.setstate(state)
            self.seeded = True
        return remote.OPERATIONS["call"](function, args, named, stand_ins)

    def wait(self, awaitable: Any) -> Any:
        import asyncio

        self.loop = self.loop or asyncio.new_event_loop()
        return self.loop.run_until_complete(asyncio.wait_for(awaitable, None))

    def next_awaited(self, items: Any) -> list:
        """[] at the end, as for an iterator that need not be waited for."""
        try:
            return [self.wait(items.__anext__())]
        except StopAsyncIteration:
            return []

    def failed(self, error: BaseException) -> tuple[str, Any]:
        if isinstance(error, remote.Unjudged):
            return "unjudged", str(error)
        files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
        if isinstance(error, OSError) and any(file.endswith("multiprocessing/synchronize.py") for file in files):
            return "unjudged", "the solution uses semaphores of processes, which need /dev/shm"
        return "error", error

    def permitted(self, operation: str, operands: list) -> None:
        pass

    def stays(self, value: Any) -> list:
        if type(value).__module__ == "numpy" and getattr(value, "ndim", 1) == 0:
            how = wire.BY_TYPE[type(value.item())]
            return [how.kind.__name__, how.parts(value.item()), None]
        return ["mine", [], self.export(value), self.about(value)]

    def keeps(self, value: Any) -> bool:
        own = (v for v in value if type(v).__module__ == "solution" and type(v).__eq__ is not object.__eq__)
        return not all(isinstance(item, wire.PLAIN) for item in own)

    def resolve(self, node: list) -> Any:
        return find_standard(*node[2:]) if node[0] == "standard" else super().resolve(node)

    def warn(self, message: Warning, category: type, *_: Any, **__: Any) -> None:
        if len(self.warned) < MOST_WARNINGS:
            self.warned.append(([kind.__name__ for kind in category.__mro__], str(message)))

    def printed(self) -> dict | None:
        streams = zip(("stdout", "stderr"), self.streams, strict=True)
        brought: dict[str, Any] = {name: text for name, stream in streams if (text := stream.taken())}
        if self.warned:
            brought["warnings"], self.warned = self.warned, []
        if self.seeded:
            brought["random"] = random.getstate()
        return brought or None


class Recorder(io.TextIOWrapper):
    """A standard stream that also keeps what was written since it was last taken."""

    def __init__(self, fd: int) -> None:
        super().__init__(io.FileIO(fd, "w", closefd=False), encoding="utf-8", errors="backslashreplace")
        self.parts: list[str] = []
        self.room = LONGEST_OUTPUT

    def write(self, text: str) -> int:
        if self.room > 0:
            self.parts.append(text)
            self.room -= len(text)
        return super().write(text)

    def taken(self) -> str:
        text, self.parts, self.room = "".join(self.parts), [], LONGEST_OUTPUT
        return text


def answer(socket: Connection) -> None:
    """Answer the judge's requests until it hangs up."""
    peer = Answering(socket)
    while True:
        peer.serve(peer.receive())


if __name__ == "__main__":
    folder, alone, *uids = sys.argv[1:]
    serve(Connection(os.dup(1)), Connection(os.dup(0)), folder, alone == "alone", [int(uid) for uid in uids])
