"""The teacher's ledger: every reply that was paid for, what was spent, and what may still be spent. One SQLite file.

Guaranteed
- A reply is in the file as soon as it arrives; a killed process loses at most the requests in flight.
- Threads and processes of one machine share the file (SQLite's WAL mode): equal requests are asked once, and they share
  one budget. The budget is that of the *file*, for its lifetime, over all models and runs: a new file is a new budget.
- The budget stops *before* it is exceeded: a request is booked at its upper bound before it is sent (`claim`), and at
  what it cost afterwards (`book`). A request whose answer was lost may have been charged, so its bound stays booked.
- A killed process's claims do not hold up others: they are booked as lost once its process is gone, or after a lease,
  which the machine's clock cannot cut short: it is counted from where a process first sees the claim.

Limits: the bound is one of byte-level tokenizers, and of servers that keep `max_tokens`; what a server says it used is
booked even where it is more. Not for network file systems (WAL), nor across a fork. The text of a prompt is not kept,
only its hash.
"""

import json
import os
import socket
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import ceil, inf
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import psutil
from filelock import FileLock

from labkit.errors import BadRequest, first_line

NANO = 10**9  # money is counted in whole billionths, so that sums are exact
_APPLICATION, _VERSION = 0x6C61626B, 1  # "labk", in the file's header
_LOCKED = 60.0  # seconds to wait for another process's write
_UNWRITABLE = {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}
_CUT_OFF = {"length", "max_tokens", "max_output_tokens", "model_length", "content_filter"}  # as servers have it
_SCHEMA = """
CREATE TABLE reply (key TEXT PRIMARY KEY, text TEXT, prompt_tokens INT, completion_tokens INT, model TEXT,
    finish_reason TEXT, counted INT, cost INT, at REAL);
CREATE TABLE held (id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT, tokens INT, cost INT, host TEXT, pid INT,
    started REAL, until REAL);
CREATE TABLE total (replies INT, prompt_tokens INT, completion_tokens INT, lost_tokens INT, cost INT);
INSERT INTO total VALUES (0, 0, 0, 0, 0);
"""
_FIELDS = "text, prompt_tokens, completion_tokens, model, finish_reason, 1, counted"  # of a `Reply`


class BudgetSpent(BadRequest):
    """The next request might exceed the budget; everything answered so far is in the ledger."""


class Reply(NamedTuple):
    """An answer. `counted`: the server said how many tokens it used; otherwise they are upper bounds."""

    text: str
    prompt_tokens: int
    completion_tokens: int
    model: str
    finish_reason: str
    cached: bool = False
    counted: bool = True

    @property
    def truncated(self) -> bool:
        """The reply ended at its token limit or at a filter, not at its end."""
        return self.finish_reason.lower() in _CUT_OFF


class Prices(NamedTuple):
    """Money per million tokens."""

    prompt: float = 0.0
    completion: float = 0.0

    def nano(self, prompt_tokens: int, completion_tokens: int) -> int:
        """The price of a request in billionths, rounded up."""
        return ceil((self.prompt * prompt_tokens + self.completion * completion_tokens) * (NANO // 10**6))


class Budget(NamedTuple):
    """What may be spent in the lifetime of a ledger; None: no limit."""

    tokens: int | None = None
    cost: float | None = None


class Bound(NamedTuple):
    """What a request may use at most, tokens."""

    prompt: int
    completion: int


class Claim(NamedTuple):
    """The right to send one request, once."""

    id: int
    key: str
    bound: Bound
    cost: int


class Spent(NamedTuple):
    """What a ledger's file has seen: replies, tokens they used, tokens of answers that were lost, and money for all."""

    replies: int
    prompt_tokens: int
    completion_tokens: int
    lost_tokens: int
    cost: float

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens + self.lost_tokens


class Ledger:
    """The ledger in the file at `path`, made when missing.

    Raises:
        BadRequest: by any method, where the file is damaged, foreign, or cannot be written; names it.
    """

    def __init__(self, path: str | os.PathLike[str], prices: Prices, budget: Budget) -> None:
        self.path, self._prices, self._budget = Path(path), prices, budget
        self._lock, self._open, self._closed = Lock(), dict[int, Claim](), False
        self._until: dict[int, float] = {}  # by claim, on the clock of this process that never jumps
        self._owner = (socket.gethostname(), os.getpid(), _started(psutil.Process()))
        with self._named():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{self.path}.lock"):  # two processes that make one file would find each other's halves
                self._db = sqlite3.connect(self.path, _LOCKED, isolation_level=None, check_same_thread=False)
                self._prepare()
        with self._writing():
            self._bury(inf)

    def __repr__(self) -> str:
        return f"Ledger({str(self.path)!r})"

    def close(self) -> None:
        """Close the file; claims that are still open are booked as lost, so that nobody waits for them."""
        if self._closed:
            return
        self._closed = True
        with self._writing():
            for claim in list(self._open.values()):
                self._end(claim)
                self._add(0, 0, 0, sum(claim.bound), claim.cost)
        with self._lock:
            self._db.close()

    def find(self, keys: Sequence[str]) -> dict[str, Reply]:
        """The replies that are known, by key."""
        wanted = f"SELECT key, {_FIELDS} FROM reply WHERE key IN (SELECT value FROM json_each(?))"
        with self._named(), self._lock:
            return {key: Reply(*row) for key, *row in self._db.execute(wanted, [json.dumps([*keys])])}

    def claim(self, key: str, bound: Bound, lease: float) -> Reply | Claim | None:
        """A reply that is known by now; else the right to ask, for `lease` seconds; None: try again in a moment, since
        an equal request is in flight, or what is in flight may yet leave enough of the budget.

        Raises:
            BudgetSpent: when the request might exceed the budget whatever becomes of those in flight.
        """
        claim = Claim(0, key, bound, self._prices.nano(*bound))
        with self._writing():
            row = self._db.execute(f"SELECT {_FIELDS} FROM reply WHERE key = ?", (key,)).fetchone()
            if row:
                return Reply(*row)
            if self._must_wait(claim):
                self._bury(lease)
                if self._must_wait(claim):
                    return None
            values = (None, key, sum(bound), claim.cost, *self._owner, time.time() + lease)
            added = self._db.execute("INSERT INTO held VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)
            claim = claim._replace(id=added.lastrowid or 0)
            self._open[claim.id], self._until[claim.id] = claim, time.monotonic() + lease
        return claim

    def book(self, claim: Claim, reply: Reply) -> Reply:
        """Keep the reply to a claim; returns the one that is kept: where another process was faster, that one's."""
        cost = self._prices.nano(reply.prompt_tokens, reply.completion_tokens)
        values = (claim.key, *reply[:5], int(reply.counted), cost, time.time())
        with self._writing():
            self._end(claim)
            kept = self._db.execute("INSERT OR IGNORE INTO reply VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", values).rowcount
            self._add(1, reply.prompt_tokens, reply.completion_tokens, 0, cost)
        return reply if kept else self.find([claim.key])[claim.key]

    def release(self, claim: Claim, *, lost: bool, used: Bound | None = None) -> None:
        """End a claim that brought no reply; `lost`: there may have been one, and it may have been charged; `used`: it
        was, and this is what for."""
        with self._writing():
            self._end(claim)
            if used or lost:
                tokens = used or claim.bound
                self._add(0, 0, 0, sum(tokens), self._prices.nano(*tokens))

    def spent(self) -> Spent:
        """What was spent so far, by every process; claims in flight are not in it."""
        with self._named(), self._lock:
            replies, prompt, completion, lost, cost = self._db.execute("SELECT * FROM total").fetchone()
        return Spent(replies, prompt, completion, lost, cost / NANO)

    def _must_wait(self, claim: Claim) -> bool:
        """Whether a claim has to wait for one in flight."""
        held = "SELECT COUNT(*) FILTER (WHERE key = ?), IFNULL(SUM(tokens), 0), IFNULL(SUM(cost), 0) FROM held"
        asked, held_tokens, held_cost = self._db.execute(held, (claim.key,)).fetchone()
        if asked:
            return True
        _, *used, cost = self._db.execute("SELECT * FROM total").fetchone()
        money = None if self._budget.cost is None else int(self._budget.cost * NANO)
        waits = self._has_to_wait("token", self._budget.tokens, sum(used), sum(claim.bound), held_tokens)
        # Both are asked: one that is spent ends the run even where the other has to wait.
        return waits | self._has_to_wait("cost", money, cost, claim.cost, held_cost)

    def _has_to_wait(self, kind: str, budget: int | None, used: int, following: int, held: int) -> bool:
        """Whether a budget, in tokens or in billionths of money, is enough only if what is in flight costs less."""
        if budget is None or used + following + held <= budget:
            return False
        if used + following <= budget:
            return True
        whole, spent, more = (f"{n:,}" if kind == "token" else f"{n / NANO:.6g}" for n in (budget, used, following))
        raise BudgetSpent(
            f"the teacher's budget of {whole} {'tokens' if kind == 'token' else 'of money'} is spent: {spent} used in "
            f"the lifetime of {self.path}, and the next request might cost {more}; raise {kind}_budget to go on, the "
            "replies so far are kept"
        )

    def _bury(self, lease: float) -> None:
        """Book the claims of processes that are gone, and those held for longer than their lease, or than ours."""
        here, now, seen = self._owner[0], time.monotonic(), self._until
        self._until = {}
        for claim, _, tokens, cost, host, pid, started, until in self._db.execute("SELECT * FROM held").fetchall():
            end = min(seen.get(claim, inf), now + lease)
            # Of another machine's process all we know is what it wrote.
            gone = end < now or not _alive(pid, started) if host == here else until < time.time()
            if gone:
                self._db.execute("DELETE FROM held WHERE id = ?", (claim,))
                self._add(0, 0, 0, tokens, cost)
            else:
                self._until[claim] = end

    def _end(self, claim: Claim) -> None:
        self._open.pop(claim.id, None)
        if self._db.execute("DELETE FROM held WHERE id = ?", (claim.id,)).rowcount == 0:
            # Somebody took this process for dead, and booked the claim as lost.
            self._add(0, 0, 0, -sum(claim.bound), -claim.cost)

    def _add(self, *amounts: int) -> None:
        names = ("replies", "prompt_tokens", "completion_tokens", "lost_tokens", "cost")
        self._db.execute(f"UPDATE total SET {', '.join(f'{name} = {name} + ?' for name in names)}", amounts)

    def _prepare(self) -> None:
        asked = ("PRAGMA application_id", "PRAGMA user_version", "SELECT COUNT(*) FROM sqlite_master")
        *header, tables = (self._db.execute(question).fetchone()[0] for question in asked)
        if tables and header != [_APPLICATION, _VERSION]:
            raise BadRequest(f"{self.path} is a database, but not one of a teacher's replies: name another file")
        if tables and self._db.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
            raise sqlite3.DatabaseError("its pages contradict each other")
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")  # safe from a killed process; a power cut may cost the last few
        if not tables:
            marks = f"PRAGMA application_id = {_APPLICATION}; PRAGMA user_version = {_VERSION};"
            self._db.executescript(f"BEGIN; {marks} {_SCHEMA} COMMIT;")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """One transaction, of this thread and this process alone."""
        with self._named(), self._lock, self._db:  # which commits, or rolls back what an error has left open
            self._db.execute("BEGIN IMMEDIATE")
            yield

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Errors of the file as one sentence that names it."""
        try:
            yield
        except sqlite3.ProgrammingError:  # closed: the program's fault, not the file's
            raise
        except (sqlite3.DatabaseError, OSError) as error:
            raise BadRequest(self._complaint(error)) from None

    def _complaint(self, error: Exception) -> str:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
        why = first_line(error)
        if isinstance(error, OSError) or code in _UNWRITABLE:
            return f"cannot write the teacher's replies to {self.path}: {why}; name a file in a writable folder"
        if code == sqlite3.SQLITE_BUSY:
            return f"another process has kept {self.path} locked for {_LOCKED:.0f} s: end it, and go on with this one"
        return f"damaged file of the teacher's replies: {self.path} cannot be read ({why}); move it away"


def _started(process: psutil.Process) -> float:
    """When a process started, counted from the machine's start, where setting the clock does not change it."""
    return process.create_time() - (psutil.boot_time() if psutil.LINUX else 0.0)


def _alive(pid: int, started: float) -> bool:
    try:
        return abs(_started(psutil.Process(pid)) - started) < 5  # seconds: the boot time is adjusted now and then
    except psutil.Error as error:
        return isinstance(error, psutil.AccessDenied)
