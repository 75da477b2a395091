"""Hostile programs: each is contained, none is passed that answers wrongly, and the next program does not notice."""

import os
from pathlib import Path

import needs
import pytest

from labkit import BadRequest
from labkit.grade import sandbox
from labkit.grade.sandbox import OUTCOMES, Limits, Program, Verdict, run

TEST = "assert f(1) == 2\nassert f(5) == 6\n"
RIGHT = "def f(x):\n    return x + 1\n"
WRONG = "def f(x):\n    return 0\n"
SHORT = Limits(cpu_seconds=1, wall_seconds=2, memory_bytes=256 << 20)


@pytest.fixture(autouse=True, scope="module")
def _bubblewrap() -> None:
    needs.bubblewrap()


def graded(solution: str, test: str = TEST, limits: Limits = SHORT) -> Verdict:
    """The verdict on one program; a right one after it, in the same sandbox, must still pass."""
    verdict, after = run([Program(solution, test, "f"), Program(RIGHT, TEST, "f")], limits, workers=1)
    assert after.outcome == "passed", after
    assert verdict.outcome in OUTCOMES
    return verdict


ENDINGS = [
    (RIGHT, "passed", ""),
    (WRONG, "failed", "assert f(1) == 2"),
    ("def f(x:", "syntax", "never closed"),
    ("def f(x):\n return '\0'", "syntax", "null"),
    ("f = 1" + "+1" * 100_000, "syntax failed memory crash", ""),  # for some compilers too deep: not for the host's
    ("g = 1", "failed", "defines no 'f'"),
    ("import numpy_of_nobody", "failed", "ModuleNotFoundError"),
    ("def f(x):\n  while True: pass", "timeout", "more than"),
    ("while True: pass", "timeout", "more than"),
    ("import time\ndef f(x): time.sleep(60)", "timeout", "more than 2 s"),
    (
        "def f(x):\n  while True:\n    try:\n      while True: pass\n    except BaseException: pass",
        "timeout",
        "more than",
    ),
    (
        "import signal\nfor n in range(1, 65):\n  try: signal.signal(n, lambda *a: None)\n  except Exception: pass\n"
        "def f(x):\n  while True: pass",
        "timeout",
        "more than",
    ),
    ("import os\ndef f(x):\n  while True:\n    try: os.fork()\n    except OSError: pass", "timeout", "more than"),
    ("import os\ndef f(x):\n  while True: os.fork()", "failed crash timeout", ""),
    ("def f(x): return bytearray(1 << 40)", "memory", "MemoryError"),
    ("def f(x):\n  a = []\n  while True: a.append(' ' * 10_000_000)", "memory", "MemoryError"),
    ("def f(x): return 'a' * (1 << 28)", "memory crash timeout", ""),
    ("def f(x):\n  while True: print('x' * 100_000)", "crash", "of output"),
    ("def f(x): return f(x)", "failed", "RecursionError"),
    ("import sys\nsys.setrecursionlimit(10**9)\ndef f(x): return f(x)", "crash memory timeout", ""),
    ("def f(x):\n  a = []\n  for _ in range(10**5): a = [a]\n  return a", "failed crash", ""),
    ("import ctypes\ndef f(x): ctypes.string_at(0)", "crash", "signal"),
    ("import os\ndef f(x): os.kill(os.getpid(), 40)", "crash", "signal"),
]

TRICKS = [
    "import os\nos._exit(0)",
    "import os\ndef f(x): os._exit(0)",
    "import sys\ndef f(x): sys.exit(0)",
    "def f(x): raise SystemExit(0)",
    "raise KeyboardInterrupt",
    # its own equality
    "class Any:\n  def __eq__(s, o): return True\ndef f(x): return Any()",
    "class Any(int):\n  def __eq__(s, o): return True\ndef f(x): return Any(0)",
    # what the test is made of
    "import builtins\nclass A(Exception): pass\nbuiltins.AssertionError = A\n" + WRONG,
    "import builtins, sys\nsys.exit = builtins.exit = lambda *a: None\n" + WRONG,
    "def assert_equal(a, b): pass\nassertEqual = check = candidate = assert_equal\n" + WRONG,
    "import sys\nsys.settrace(lambda *a: None)\nsys.modules['builtins'] = None\n" + WRONG,
    # a printed or written verdict
    'print(\'["passed", ""]\', flush=True)\n' + WRONG,
    'import atexit\natexit.register(print, \'["passed", ""]\')\n' + WRONG,
    'import os\nfor fd in range(64):\n  try: os.write(fd, b\'["passed", ""]\')\n  except OSError: pass\n' + WRONG,
    "import os, struct\nm = b'[\"value\", 2, []]'\nfor fd in range(3, 64):\n"
    "  try: os.write(fd, (struct.pack('!i', len(m)) + m) * 9)\n  except OSError: pass\n" + WRONG,
    "import os\nos.closerange(0, 64)\n" + WRONG,
    "import os\ndef f(x):\n  os.closerange(0, 64)\n  return 0",
    "import sys\nsys.stdout.close()\nsys.stderr.close()\n" + WRONG,
    # the judge and the server
    "import os, signal\nfor p in [0, 1, -1, *range(2, 30)]:\n  for s in (2, 9, 15, 19):\n"
    "    try:\n      if p not in (0, os.getpid()): os.kill(p, s)\n    except OSError: pass\n" + WRONG,
    "import os\ndef f(x):\n  os.kill(os.getppid(), 9)\n  os._exit(0)",
    # a test's loop that ends early
    "def f(x): raise StopIteration",
    # a thread and a child that outlive the answer
    "import os, threading, time\nif os.fork() == 0:\n  time.sleep(60)\n" + WRONG,
    "import threading, os\nthreading.Timer(0.01, os._exit, (0,)).start()\nimport time\ndef f(x): time.sleep(1)",
    # an object that lies about its truth
    "class Zero:\n  def __bool__(s): return True\n  def __index__(s): return 2\ndef f(x): return Zero()",
]
TRICKED = """
def assert_equal(a, b): assert a == b
assert_equal(f(1), 2)
assert all(map(lambda y: y > 1, map(f, [1, 5])))
"""
LOOP = "assert all(map(f, [1, 5]))"  # an error may not end it early


@pytest.fixture(scope="module")
def verdicts() -> dict[tuple[str, str], Verdict]:
    """Of all hostile programs, run in one go: a right one follows each, in the same sandbox, and must pass."""
    cases = [(solution, TEST) for solution, _, _ in ENDINGS] + [(solution, TRICKED) for solution in TRICKS]
    cases += [("def f(x): raise StopIteration", LOOP)]
    found = run([Program(*program, "f") for case in cases for program in (case, (RIGHT, TEST))], SHORT)
    assert {verdict.outcome for verdict in found[1::2]} == {"passed"}
    return dict(zip(cases, found[::2], strict=True))


@pytest.mark.parametrize(("solution", "outcomes", "detail"), ENDINGS)
def test_every_way_to_end_has_its_outcome(
    verdicts: dict[tuple[str, str], Verdict], solution: str, outcomes: str, detail: str
) -> None:
    verdict = verdicts[solution, TEST]
    assert verdict.outcome in OUTCOMES
    assert verdict.outcome in outcomes.split(), verdict
    assert detail in verdict.detail


@pytest.mark.parametrize("solution", TRICKS)
def test_no_trick_passes(verdicts: dict[tuple[str, str], Verdict], solution: str) -> None:
    assert verdicts[solution, TRICKED].outcome in ("failed", "crash"), verdicts[solution, TRICKED]


def test_an_error_of_the_solution_does_not_end_a_loop_of_the_test(verdicts: dict[tuple[str, str], Verdict]) -> None:
    assert verdicts["def f(x): raise StopIteration", LOOP].outcome == "failed"


def test_built_ins_of_the_test_cannot_be_replaced_over_the_wire() -> None:
    """The reply to the first request is forged: it defines more than was asked for."""
    forged = (
        "import sys, json\nframe = sys._getframe()\nwhile 'socket' not in frame.f_locals: frame = frame.f_back\n"
        "socket, at = frame.f_locals['socket'], 1\n"  # the request was one list: of the names that are wanted
        "f = ['mine', [], 0, ['function', 'builtins', True, 'function', None]]\n"
        "names = ['dict', ['f', [at + 1], 'abs', [at + 1], '__builtins__', [at + 2]], None]\n"
        "nodes = [names, f, ['dict', ['abs', [at + 1]], None]]\n"
        "socket.send_bytes(json.dumps(['value', [at], nodes, [], None]).encode())\n"
        "while True:\n  socket.recv_bytes()\n  socket.send_bytes(b'[\"value\", 0, [], [], null]')\n"
    )
    assert graded(forged, "assert abs(f(1) - 2) < 1\n").detail == "AssertionError: assert abs(f(1) - 2) < 1"


def test_the_solution_never_holds_the_test() -> None:
    """No frame, object or environment variable of its process has the expected answer."""
    spy = (
        "import gc, sys, os\ndef f(x):\n"
        "  seen = repr([*sys._current_frames().values()]) + repr(dict(os.environ))\n"
        "  frame = sys._getframe()\n  while frame:\n    seen += repr(frame.f_locals)\n    frame = frame.f_back\n"
        "  for thing in gc.get_objects():\n"
        "    try: seen += repr(thing) if isinstance(thing, (str, dict, list, tuple)) else ''\n"
        "    except Exception: pass\n"
        "  return ''.join(map(chr, [115, 101, 99, 114, 101, 116])) in seen\n"
    )
    assert graded(spy, "expected = 'secret_answer'\nassert f(1) is False\n", Limits(5, 10)).outcome == "passed"


def seen_by(*probes: str) -> list[str]:
    """What probes inside the sandbox report: the texts of the errors that they raise."""
    return [
        v.detail for v in run([Program(f"import os, sys, socket\ndef f(x): {p}", TEST, "f") for p in probes], SHORT)
    ]


def test_nothing_outside_is_reached() -> None:
    expected = [
        ("socket.create_connection(('1.1.1.1', 53), 1)", "OSError"),
        ("socket.getaddrinfo('example.org', 80)", "name resolution"),
        ("open('/usr/written', 'w')", "Error"),
        ("open('/written', 'w')", "OSError"),
        ("open('/dev/shm/written', 'w')", "OSError"),
        ("os.remove(os.__file__)", "Error"),
        ("os.setuid(0)", "PermissionError") if os.geteuid() == 0 else ("os.setgroups([0])", "PermissionError"),
        ("os.listdir('/proc')", "FileNotFoundError"),
        (f"os.listdir({str(Path(__file__).parent)!r})", "FileNotFoundError"),
        ("raise ValueError(sorted(os.environ))", "'HOME', 'LANG', 'OMP_NUM_THREADS', 'PATH'"),
        ("raise ValueError(os.getpid() > 1, os.getppid(), os.getcwd())", "(True, 1, '/tmp')"),
        ("raise ValueError(socket.gethostname())", "sandbox"),
        ("open('big', 'wb').write(bytes(20 << 20))", "OSError"),
    ]
    for (probe, words), seen in zip(expected, seen_by(*(probe for probe, _ in expected)), strict=True):
        assert words in seen, (probe, seen)


def test_the_environment_and_files_of_the_host_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = tmp_path / "kept"
    kept.write_text("kept")
    monkeypatch.setenv("LABKIT_SECRET", "hidden")
    deleting = (
        "import os, shutil\nfor path in ('/judge.py', os.__file__):\n  try: os.remove(path)\n  except OSError: pass\n"
    )
    deleting += f"for path in ('/tmp', '/dev', {str(tmp_path)!r}): shutil.rmtree(path, ignore_errors=True)\n"
    assert graded(deleting + RIGHT).outcome == "passed"
    assert kept.read_text() == "kept"
    (seen,) = seen_by("raise ValueError(str(dict(os.environ)))")
    assert "HOME" in seen
    assert "hidden" not in seen


def test_programs_of_one_sandbox_leave_each_other_nothing() -> None:
    leave = "import os\nos.makedirs('a/b')\nopen('a/b/c', 'w').close()\nos.chmod('a', 0)\nos.symlink('/', 'd')\n"
    leave += "if os.fork() == 0:\n  os.setsid()\n  import time\n  time.sleep(60)\n  os._exit(0)\n" + RIGHT
    look = "import os\ndef f(x):\n  alive = []\n  for p in range(2, 99):\n"
    look += "    try: os.kill(p, 0)\n    except ProcessLookupError: continue\n"
    look += "    except PermissionError: pass\n    alive.append(p)\n  return len(os.listdir('/tmp')), len(alive)\n"
    first, second = run([Program(leave, TEST, "f"), Program(look, "assert f(0) == (0, 2)", "f")], SHORT, workers=1)
    assert (first.outcome, second.outcome) == ("passed", "passed"), (first, second)


def test_the_test_sees_values_and_objects_as_if_it_were_there() -> None:
    solution = """
from dataclasses import dataclass
from collections import Counter, namedtuple
@dataclass
class Node:
    value: int
    left: 'Node' = None
class Odd(list):
    pass
def f(kind, *args):
    if kind == 'echo': return args[0]
    if kind == 'append': args[0].append(4); args[1]['k'] = {1}; args[2].add(5)
    if kind == 'total': return args[0].value + (args[0].left.value if args[0].left else 0)
    if kind == 'generator': return (i for i in range(3))
    if kind == 'subclass': return Odd([1]), namedtuple('P', 'x y')(1, 2), Counter('aab')
    if kind == 'raise': raise KeyError('gone')
    if kind == 'keep': return isinstance(args[0], args[1])
"""
    test = """
values = [None, True, 0, -3, 10**30, 1.5, float('inf'),
          'é\\ud800"', b'\\x00', (1, [2, {3: (4,)}]), {1, 2}, frozenset('a'),
          {'a': 1, (1, 2): None}, 1 + 2j, range(3), bytearray(b'a'), [], {}, set()]
for value in values:
    back = candidate('echo', value)
    assert back == value and type(back) is type(value), (back, value)
a, b, c = [3], {}, {4}
f('append', a, b, c)
assert (a, b, c) == ([3, 4], {'k': {1}}, {4, 5})
node = Node(1)
node.left = Node(2)
assert f('total', node) == 3 and node.left.value == 2
assert list(f('generator')) == [0, 1, 2]
assert f('subclass') == ([1], (1, 2), {'a': 2, 'b': 1})
assert f('keep', 3, int) and not f('keep', 'a', int)
try:
    f('raise')
    assert False
except KeyError as error:
    assert 'gone' in str(error)
"""
    verdict = graded(solution, test, Limits())
    assert verdict.outcome == "passed", verdict


def test_order_and_sandboxes_a_program_each() -> None:
    programs = [Program(RIGHT if i % 2 else WRONG, TEST, "f") for i in range(6)]
    for per_sandbox in (1, 2, 500):
        outcomes = [verdict.outcome for verdict in run(programs, per_sandbox=per_sandbox, workers=2)]
        assert outcomes == ["failed", "passed"] * 3
    assert run([]) == []


def test_without_bubblewrap_only_when_confirmed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox.shutil, "which", lambda name: None)
    with pytest.raises(BadRequest, match=r"install bubblewrap.*--confirm-unsafe"):
        run([Program(RIGHT, TEST, "f")])
    programs = [
        RIGHT,
        WRONG,
        "import os\nos._exit(0)",
        "while True: pass",
        "def f(x): return bytearray(1 << 40)",
        RIGHT,
    ]
    outcomes = [v.outcome for v in run([Program(text, TEST, "f") for text in programs], SHORT, workers=1, unsafe=True)]
    assert outcomes == ["passed", "failed", "crash", "timeout", "memory", "passed"]
    assert "none" in sandbox.described(False)


def test_a_sandbox_that_cannot_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "bubblewrap", lambda *binds: ["bwrap", "--no-such-option"])
    with pytest.raises(BadRequest, match=r"cannot start here: .*no-such-option"):
        run([Program(RIGHT, TEST, "f")])
