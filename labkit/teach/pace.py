"""When a client may send its next request, and when it should send none.

The clock is handed in: with a clock of a test's own both are deterministic. Both are shared by the threads of one
client, and by nobody else.
"""

import threading
from collections.abc import Callable
from math import inf

REFUSALS = 20  # in a row, with no reply between: the requests are at fault, not one of them


class Pace:
    """Turns at a steady rate, across threads: never more than `a_minute` in a minute, plus one."""

    def __init__(self, a_minute: float | None, clock: Callable[[], float]) -> None:
        self._every = 60 / a_minute if a_minute else 0.0
        self._clock, self._next, self._lock = clock, -inf, threading.Lock()

    def turn(self) -> float:
        """Seconds to wait until this caller's turn."""
        if not self._every:
            return 0.0
        with self._lock:
            now = self._clock()
            turn = max(now, self._next)
            self._next = turn + self._every
        return turn - now


class Health:
    """Whether an endpoint answers: it is gone after 2 x `concurrency` failures in a row over `patience` seconds."""

    def __init__(self, concurrency: int, patience: float, clock: Callable[[], float]) -> None:
        self._most, self._patience, self._clock, self._lock = 2 * concurrency, patience, clock, threading.Lock()
        self.answered()

    def answered(self) -> None:
        with self._lock:
            self._failures, self._refusals, self._since = 0, 0, inf

    def failed(self) -> float | None:
        """Count a failure; the seconds without any answer, once they are too many. Then the count starts anew."""
        with self._lock:
            now = self._clock()
            self._since = min(self._since, now)
            self._failures += 1
            silent = now - self._since
            if self._failures < self._most or silent < self._patience:
                return None
            self._failures, self._since = 0, inf
            return silent

    def refused(self) -> bool:
        """Count a request that was refused; whether they are too many in a row."""
        with self._lock:
            self._refusals += 1
            return self._refusals >= REFUSALS
