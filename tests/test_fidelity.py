"""Right programs are judged right, whatever they return, raise, change or print; what cannot be is 'unjudged'."""

import re
from typing import NamedTuple

import needs
import pytest

from labkit.grade.sandbox import Limits, Program, Verdict, run


class Case(NamedTuple):
    """A solution, its test, the outcomes that are right, and words of the detail."""

    name: str
    solution: str
    test: str
    outcomes: str = "passed"
    detail: str = ""


def cases(table: str) -> list[Case]:
    """Of blocks: a head (name, outcomes, words), the solution, a line `--`, the test."""
    blocks = re.split(r"^== ", table, flags=re.MULTILINE)[1:]
    split = [re.fullmatch(r"(\S+) ?([^:\n]*):? ?(.*)\n((?s:.*))\n--\n((?s:.*))", block) for block in blocks]
    return [Case(m[1], m[4], m[5], m[2] or "passed", m[3]) for m in split if m]


RETURNED = [
    Case(kind, f"{imports}\ndef f(): return {made}", f"{imports}\nassert f() == {made} and type(f()) is type({made})")
    for kind, imports, made in [
        ("fraction", "from fractions import Fraction", "Fraction(1, 3)"),
        ("decimal", "from decimal import Decimal", "(Decimal('1.10'), Decimal('-Infinity'))"),
        ("moments", "from datetime import *", "(date(2020, 2, 29), datetime(2020, 1, 1, 5, tzinfo=timezone.utc))"),
        ("spans", "from datetime import *", "[timedelta(days=2, microseconds=1), time(3, 4, fold=1)]"),
        ("counter", "from collections import Counter", "Counter('abca')"),
        ("ordered", "from collections import OrderedDict", "OrderedDict([('b', 1), ('a', 2)])"),
        ("deque", "from collections import deque", "deque([1, [2]], maxlen=2)"),
        ("path", "from pathlib import Path", "Path('/a/b')"),
        ("keys", "", "{'a': 1}.keys()"),
        ("nested", "", "{(1, frozenset({2})): [{3: b'x'}, range(4), 1 + 2j, 1 << 99, ...]}"),
    ]
]

ANSWERS = cases(r"""
== counter-missing
from collections import Counter
def f(): return Counter('a')
--
assert f()['z'] == 0
== factory-of-its-own
from collections import defaultdict
def f(): return defaultdict(lambda: [7])
--
d = f()
assert d['z'] == [7] and d == {'z': [7]}
== named-tuple
from typing import NamedTuple
class P(NamedTuple):
  x: int
  def twice(self): return 2 * self.x
def f(x): return P(x)
--
r = f(3)
assert r.x == 3 and r == P(3) == (3,) and r.twice() == 6 and r._asdict() == {'x': 3}
assert isinstance(r, P) and isinstance(r, tuple) and r._replace(x=4) == (4,)
== enum
from enum import Enum, IntEnum
class C(Enum):
  R = 1
  G = 2
class I(IntEnum):
  A = 3
def f(x): return (C.R, C.G, I.A)[x]
--
assert f(0) is C.R and f(0) == C.R != C.G and f(1).name == 'G' and f(2) == 3 and f(2).name == 'A'
== another-member failed
from enum import Enum, IntEnum
class C(Enum):
  R = 1
  G = 2
class I(IntEnum):
  A = 3
def f(x): return C.G
--
assert f(0) == C.R
== enum-of-both
from enum import Enum, IntEnum
class C(Enum):
  R = 1
  G = 2
class I(IntEnum):
  A = 3
def f(x): return C.G if x is C.R else None
--
from enum import Enum, IntEnum
class C(Enum):
  R = 1
  G = 2
class I(IntEnum):
  A = 3
assert f(C.R) is C.G
== own-object
from dataclasses import dataclass
@dataclass
class P:
  x: int
def f(x): return P(x)
--
r = f(1)
assert r.x == 1 and type(r).__name__ == 'P' and repr(r) == 'P(x=1)' and isinstance(r, P)
r.x = 5
assert r.x == 5 and vars(r) == {'x': 5}
== own-equality unjudged: type P
from dataclasses import dataclass
@dataclass
class P:
  x: int
def f(x): return P(x)
--
assert f(1) == P(1)
== own-hash unjudged
from dataclasses import dataclass
@dataclass(frozen=True)
class P:
  x: int
def f(x): return P(x)
--
{f(1)}
== own-against-plain failed
from dataclasses import dataclass
@dataclass
class P:
  x: int
def f(x): return P(x)
--
assert f(1) == 1
== class-of-both
from dataclasses import dataclass
@dataclass
class P:
  x: int
def f(p): return P(p.x + 1)
--
from dataclasses import dataclass
@dataclass
class P:
  x: int
assert f(P(1)) == P(2) != f(P(5))
== container
class S:
  def __init__(s): s.a = []
  def push(s, x): s.a.append(x)
  def __len__(s): return len(s.a)
  def __getitem__(s, i): return s.a[i]
  def __iter__(s): return iter(s.a)
--
s = S()
s.push(1)
s.push([2])
assert len(s) == 2 and s[1] == [2] and list(s) == [1, [2]] and 1 in s
== subclass
class L(list):
  def total(s): return sum(s)
def f(x): return L(x)
--
assert f([1, 2]) == [1, 2] and f([1, 2]).total() == 3
== subclass-with-special-methods
class L(list):
  def __getitem__(s, i): return list.__getitem__(s, i % len(s))
  def __call__(s): return 'called'
class D(dict):
  def __missing__(s, key): return key * 2
class N(str):
  def __format__(s, spec): return 'formatted'
def f(): return L([1, 2]), D(a=1), N('n')
--
l, d, n = f()
assert l == [1, 2] and l[5] == 2 and l() == 'called' and d['b'] == 'bb' and d == {'a': 1} and f'{n}' == 'formatted'
== named-tuple-with-a-text
from typing import NamedTuple
class P(NamedTuple):
  x: int
  def __str__(s): return f'<{s.x}>'
def f(): return P(1)
--
assert str(f()) == '<1>' and f() == (1,) and f()._replace(x=2) == (2,)
str(f()._replace(x=2))
== subclass-with-arithmetic unjudged: __add__
class V(tuple):
  def __add__(s, o): return V(map(sum, zip(s, o)))
def f(): return V((1, 2))
--
assert f() + f() == (2, 4)
== time-zone-of-its-own
import datetime as d
class Z(d.tzinfo):
  def utcoffset(s, moment): return d.timedelta(hours=1)
  def dst(s, moment): return None
def f(): return d.datetime(2020, 1, 1, tzinfo=Z())
--
assert f().utcoffset().seconds == 3600 and f().isoformat() == '2020-01-01T00:00:00+01:00'
== asynchronous-context
import contextlib
@contextlib.asynccontextmanager
async def f(x): yield x
--
import asyncio
async def m():
  async with f(3) as value: return value
assert asyncio.run(m()) == 3
== derived-by-the-test unjudged: derives
class S: pass
--
class T(S): pass
assert T()
== endless
def f(n):
  while True:
    yield n
    n += 1
--
g = f(1)
assert next(g) == 1
from itertools import islice
assert list(islice(g, 3)) == [2, 3, 4]
== sent
def f():
  got = yield 1
  yield got
--
g = f()
assert next(g) == 1 and g.send([2]) == [2] and not [*g]
== lazy
def f(xs): return map(str, xs)
--
assert [*f([1, 2])] == ['1', '2'] and f([1]) != ['1']
== coroutine
import asyncio
async def f(x):
  await asyncio.sleep(0)
  if x < 0: raise ValueError(x)
  return x + 1
--
import asyncio
async def all_of(): return await asyncio.gather(f(1), f(2))
assert asyncio.run(f(1)) == 2 and asyncio.run(all_of()) == [2, 3]
try: asyncio.run(f(-1))
except ValueError as error: assert error.args == (-1,)
else: assert False
== asynchronous-generator
async def f(n):
  for i in range(n): yield i
--
import asyncio
async def m(): return [i async for i in f(3)]
assert asyncio.run(m()) == [0, 1, 2]
== match
import re
def f(x): return re.match('(a)b', x)
--
assert f('ab').group(1) == 'a' and f('x') is None
== cache
from functools import cache
@cache
def f(x):
  'Says so.'
  return x
--
f(1), f(1)
assert f.cache_info().hits == 1 and f.__doc__ == 'Says so.' and f.__name__ == 'f'
== context
from contextlib import contextmanager
@contextmanager
def f(x): yield x
--
with f([5]) as value: assert value == [5]
== deep
def f(n, t=()):
  for _ in range(n): t = ([t],)
  return t
--
t, depth = f(1200), 0
while t: t, depth = t[0][0], depth + 1
assert depth == 1200
== ring
def f():
  r = [1]
  r.append({'r': r})
  return r
--
r = f()
assert r[1]['r'] is r and r[0] == 1
== types
def f(x): return type(x)
--
assert f(1) is int and f([]) is list and f(None) is type(None)
== own-arithmetic unjudged: __add__
class V:
  def __add__(s, o): return 3
def f(): return V()
--
assert f() + f() == 3
== no-arithmetic failed: TypeError
class V: pass
def f(): return V()
--
assert f() + 1 == 3
== signature unjudged: __signature__
def f(x): pass
--
import inspect
inspect.signature(f)
== semaphores unjudged passed
import multiprocessing as m
def f(): return m.Pool(1)
--
f()
""")
RAISED = cases(r"""
== arguments
def f(): raise KeyError('k', 3)
--
try: f()
except KeyError as e: assert e.args == ('k', 3)
else: assert False
== file
def f(): open('/none')
--
try: f()
except FileNotFoundError as e: assert (e.errno, e.filename) == (2, '/none')
else: assert False
== decoding
def f(): b'a\xff'.decode()
--
try: f()
except UnicodeDecodeError as e: assert e.start == 1
else: assert False
== of-a-module
import json
def f(): json.loads('{')
--
import json
try: f()
except json.JSONDecodeError as e: assert e.pos == 1
else: assert False
== own
class E(ValueError):
  def __init__(s, code): super().__init__('bad'); s.code = code
def f(): raise E(7)
--
try: f()
except E as e: assert e.code == 7 and str(e) == 'bad' and isinstance(e, ValueError)
else: assert False
== with-a-text-of-its-own
class E(Exception):
  def __str__(s): return 'said'
def f(): raise E(1)
--
try: f()
except Exception as e: assert str(e) == 'said' and e.args == (1,)
else: assert False
== of-both
class E(Exception): pass
def f(): raise E(1)
--
class E(Exception): pass
try: f()
except E as e: assert e.args == (1,)
else: assert False
== cause
def f():
  try: 1 / 0
  except ZeroDivisionError as e: raise OSError('v') from e
--
try: f()
except OSError as e: assert type(e.__cause__) is ZeroDivisionError
else: assert False
== group
def f(): raise ExceptionGroup('g', [ValueError(1)])
--
try: f()
except* ValueError as g: assert g.exceptions[0].args == (1,)
else: assert False
== exit
import sys
def f(): sys.exit(3)
--
try: f()
except SystemExit as e: assert e.code == 3
else: assert False
== exit-uncaught crash: status 3
def f(): exit(3)
--
f()
== exit-at-once crash: status 4
def f(): pass
exit(4)
--
f()
""")
CHANGED = cases(r"""
== keyword
def f(xs, **more): xs.sort(); more['d']['k'] = xs
--
x, d = [2, 1], {}
f(xs=x, d=d)
assert x == [1, 2] and d['k'] is x
== inside
def f(t): t[0].append(t[1].pop('k')); t[2][0].add(3)
--
a, b, c = [], {'k': 1}, {2}
f((a, b, [c]))
assert (a, b, c) == ([1], {}, {2, 3})
== alias
def f(m): m[0][0] = 9
--
row = [1]
m = [row, row]
f(m)
assert row == [9] and m[1] is m[0] is row
== standard
def f(c, d, q): c['a'] += 1; d['n'].append(1); q.rotate(); return q
--
from collections import *
c, d, q = Counter('b'), defaultdict(list), deque([1, 2])
assert f(c, d, q) is q
assert c == Counter('ab') and d == {'n': [1]} and q == deque([2, 1])
== field
def f(p): p.xs.append(p.y); return p._replace(y=0)
--
from collections import namedtuple
P = namedtuple('P', 'xs y')
p = P([], 4)
assert f(p) == P([4], 0) and p.xs == [4]
== same
def f(x): return x
--
for x in ([1], {}, (1, [2]), {3}, bytearray(b'a')): assert f(x) is x
== copied
def f(x): return list(x)
--
x = [1]
assert f(x) == x and f(x) is not x
== while-walked
def f(s): return len(s)
--
s, d = {1, 2}, {1: 2}
for x in s: assert f(s) == 2
for k in d: assert f(d) == 1
== raising
def f(x): x.append(1); raise ValueError
--
x = []
try: f(x)
except ValueError: assert x == [1]
== subclass-of-the-test
def f(x): x.append(1)
--
class L(list): pass
x = L()
f(x)
assert x == [1] and type(x) is L
""")
HANDED = cases(r"""
== lambda
def f(g, xs): return [g(x) for x in xs]
--
assert f(lambda x: x + 1, [1, 2]) == [2, 3] and f(len, ['ab']) == [2] and f(str.upper, ['a']) == ['A']
== key
def f(xs, key): return sorted(xs, key=key)
--
assert f([3, 1, 2], key=lambda v: -v) == [3, 2, 1]
== raising
def f(g):
  try: g()
  except E as e: return e.args
class E(Exception): pass
--
class E(Exception): pass
def g(): raise E(4)
assert f(g) == (4,)
== bound
def f(g): g(1); g(2)
--
seen = []
f(seen.append)
assert seen == [1, 2]
== decorated
import functools
def f(g):
  @functools.wraps(g)
  def h(*a): return g(*a) + 1
  return h
--
@f
def k(x):
  'Doc.'
  return x
assert k(1) == 2 and (k.__name__, k.__doc__) == ('k', 'Doc.')
== generator
def f(g): return next(g), list(g)
--
assert f(i * i for i in range(3)) == (0, [1, 4])
== sentinel
def f(s, x): return s if x is s else None
--
s = object()
assert f(s, s) is s and f(s, object()) is None
== file
def f(a, b): b.write(a.readline()[::-1])
--
import io
a, b = io.StringIO('xy\nz'), io.StringIO()
f(a, b)
assert b.getvalue() == '\nyx' and a.read() == 'z'
== tree
class T:
  def __init__(s, v, l=None, r=None): s.v, s.l, s.r = v, l, r
def f(t): return t and T(t.v, f(t.r), f(t.l)) if isinstance(t, T) else t
--
class T:
  def __init__(s, v, l=None, r=None): s.v, s.l, s.r = v, l, r
t = f(T(1, T(2), T(3)))
assert (t.v, t.l.v, t.r.v) == (1, 3, 2) and isinstance(t, T)
== tree-changed
def f(t): t.l, t.r = t.r, t.l; t.v += 1
--
class T:
  def __init__(s, v, l=None, r=None): s.v, s.l, s.r = v, l, r
a, b = T(2), T(3)
t = T(1, a, b)
f(t)
assert t.l is b and t.r is a and t.v == 2
== mock
def f(g): return g(2)
--
from unittest.mock import Mock
m = Mock(return_value=9)
assert f(m) == 9
m.assert_called_once_with(2)
== module
def f(m): return m.floor(2.5)
--
import math
assert f(math) == 2
== not-carried unjudged: hands over a value of type lock
def f(x): return 1
--
import threading
assert f(threading.Lock()) == 1
== frame unjudged: get of a generator
def f(g): return g.gi_frame.f_globals
--
f(x for x in [1])
== globals unjudged: get of a function
def f(g): return g.__globals__
--
f(lambda: 1)
""")
STREAMS = cases(r"""
== prints
import sys
def f(): print('a', 1); print('b', file=sys.stderr)
--
import io, contextlib
o, e = io.StringIO(), io.StringIO()
with contextlib.redirect_stdout(o), contextlib.redirect_stderr(e): f()
assert (o.getvalue(), e.getvalue()) == ('a 1\n', 'b\n')
== reads
def f(): return input('?') + input()
--
from unittest.mock import patch
with patch('builtins.input', side_effect=['a', 'b']): assert f() == 'ab'
== warns
import warnings
class W(UserWarning): pass
def f(): warnings.warn('old', DeprecationWarning); warnings.warn('own', W)
--
import warnings
with warnings.catch_warnings(record=True) as seen:
  warnings.simplefilter('always')
  f()
assert [(w.category, str(w.message)) for w in seen] == [(DeprecationWarning, 'old'), (UserWarning, 'own')]
warnings.simplefilter('error')
try: f()
except DeprecationWarning: pass
else: assert False
== random-state-of-the-test
import random
def f(): return random.random()
--
import random
random.seed(3)
drawn = [f(), random.random(), f()]
random.seed(3)
assert drawn == [random.random() for _ in drawn] and drawn[0] != drawn[2]
random.seed(3)
assert f() == drawn[0]
== standard-input
def f(): return input()
--
import io, sys
sys.stdin = io.StringIO('q\n')
assert f() == 'q'
""")
HOSTILE = cases(r"""
== lies-smaller failed unjudged
class V:
  def __lt__(s, o): return True
  __sub__ = __abs__ = lambda s, *o: s
def f(): return V()
--
assert abs(f() - 2.5) < 1e-6
== lies-equal failed
from dataclasses import dataclass
@dataclass
class P:
  x: int
P.__eq__ = lambda s, o: True
def f(p): return P(7)
--
from dataclasses import dataclass
@dataclass
class P:
  x: int
assert f(P(1)) == P(2)
== lies-in-a-subclass failed
class L(list):
  __eq__ = __contains__ = lambda s, o: True
  def __len__(s): return 1
  def __iter__(s): return iter([3])
def f(): return L([9])
--
assert f() == [3] or 3 in f()
== lies-inside failed
class V:
  def __contains__(s, o): return True
def f(): return V()
--
assert 3 in f()
== holds-back failed unjudged
class V:
  def __enter__(s): return 0
  def __exit__(s, *a): return True
def f(): return V()
--
with f() as value: assert value == 2
== swallowed unjudged
class V:
  def __lt__(s, o): return True
def f(): return V()
--
try: assert f() < 3
except BaseException: pass
== skips failed
import unittest
def f(): raise unittest.SkipTest('no')
--
import unittest
class T(unittest.TestCase):
  def test_a(self): self.assertEqual(f(), 2)
suite = unittest.defaultTestLoader.loadTestsFromTestCase(T)
assert unittest.TextTestRunner().run(suite).wasSuccessful()
== own-module failed
class sys:
  getsizeof = staticmethod(lambda x: 0)
def f(x): return 0
--
assert f((1,)) == sys.getsizeof((1,))
== right-module
import sys
def f(x): return sys.getsizeof(x)
--
assert f((1,)) == sys.getsizeof((1,))
""")
RAW = """
import sys, json
frame = sys._getframe()
while 'socket' not in frame.f_locals: frame = frame.f_back
socket = frame.f_locals['socket']
def f(*args):
    def say(*message):
        socket.send_bytes(json.dumps(message).encode())
        return json.loads(socket.recv_bytes())
    %s
    while True: say('value', 0, [], [], None)
"""
FORGED = [  # of what the judge would build or do: none makes `f(lambda: 0) == 2` true
    Case(f"forged-{index}", RAW % line, "assert f(lambda: 0, [1]) == 2", "failed crash unjudged")
    for index, line in enumerate(
        [
            "say('value', [6], [['error', [[7], [8], 0, 0], 0], ['type', [], 'type'], ['tuple', [], 0]], [], None)",
            "say('do', 'call', [[0], [1], None, None], [['known', [], 'builtins', 'eval'], ['tuple', ['1'], None]])",
            "say('do', 'get', [[0], '__globals__'], [['yours', [], 0]])",
            "say('do', 'get', [[0], ['__', 'x']], [['yours', [], 0]])",
            "say('do', 'call', [[1], [0], None, None], [['yours', [], 0], ['tuple', [], None]])",
            "say('do', 'load', ['x', []], [])",
            "say('value', [9], [], [], None)",
            "say('value', [6], [['tuple', [[6]], None]], [], None)",
            "say('value', 2.5, [], [[0, ['dict', [], None]]], None)",
            "say('value', [6], [['enum', [[7]], 'E', 'm', [0, ['E', 'm', 1, '', 0], 0]], ['list', [], 0]], [], 0)",
            "say('error', [6], [['error class', [[7]], 0, 'E'], ['type', [], 'int']], [], None)",
        ]
    )
]  # fmt: skip
CASES = [*RETURNED, *ANSWERS, *RAISED, *CHANGED, *HANDED, *STREAMS, *HOSTILE, *FORGED]


@pytest.fixture(scope="module")
def verdicts() -> list[Verdict]:
    needs.bubblewrap()
    programs = [Program(case.solution, case.test, "S" if "class S:" in case.solution else "f") for case in CASES]
    return run(programs, Limits(cpu_seconds=5, wall_seconds=20))


@pytest.mark.parametrize("index", range(len(CASES)), ids=[case.name for case in CASES])
def test_each_program_has_the_outcome_that_is_right(verdicts: list[Verdict], index: int) -> None:
    case, verdict = CASES[index], verdicts[index]
    assert verdict.outcome in case.outcomes.split(), verdict
    assert case.detail in verdict.detail
