"""Work that several workers, and several sweeps, share: groups of points, tried where nobody else is at them.

A sweep alone takes its points in the order given. One that meets another sweep at a point puts it off, and goes on in
an order of its own, so that two seldom meet again; what the other one finishes is read from the store. A point whose
process is lost is tried once more: it may have been the machine. A fleet that is lost, or fails, is halved until the
point to blame stands alone.
"""

import errno
import gc
import os
import random
import sys
import time
import traceback
from collections import deque
from collections.abc import Hashable, Sequence
from typing import NamedTuple

from labkit.lab.store import Measure, MeasureMany, Point, Record, Row, Store

Group = list[Point]
PAUSE = 0.3  # seconds until a point that another process is at is tried again
FRUITLESS = 3  # workers lost before the first result: no further one is started


class Outcome(NamedTuple):
    """What became of one point: its row, or why there is none. `ours`: this sweep has measured it."""

    point: Point
    row: Row | None
    error: str | None = None  # the last line for people
    traceback: str | None = None
    ours: bool = True


class NoWorker(RuntimeError):
    """The workers of a sweep die before any of them has measured a point; the message says how."""


class Work(NamedTuple):
    """How points are measured, where the results go, and what a worker on a cluster takes for one."""

    measure: Measure
    measure_many: MeasureMany | None
    store: Store
    gpus: float = 0


def fleets(points: Sequence[Point], size: int) -> list[Group]:
    """The points in groups of one shape, at most `size` each, in the order of each group's first point."""
    groups: list[Group] = []
    filling: dict[Hashable, Group] = {}
    for point in points:
        group = filling.get((point.study, point.shape))
        if group is None or point.shape is None or len(group) == size:
            group = filling[point.study, point.shape] = []
            groups.append(group)
        group.append(point)
    return groups


class Agenda:
    """The groups that are still to be tried; see the module."""

    def __init__(self, groups: Sequence[Group], store: Store) -> None:
        self.store = store
        self.waiting, self.put_off = deque(groups), deque[tuple[float, Group]]()
        self.met = self.told = self.fruitful = False
        self.lost_once: set[str] = set()
        self.deaths = 0

    def __bool__(self) -> bool:
        return bool(self.waiting or self.put_off)

    def next(self) -> Group | None:
        """The group to try now; None: none is left, or those that are may be tried again after `PAUSE`."""
        if self.waiting:
            return self.waiting.popleft()
        if not self.put_off or self.put_off[0][0] > time.monotonic():
            return None
        if not self.told:
            self.told = True
            print(f"waiting for points that another process measures, {len(self.put_off)} at least", flush=True)
        return self.put_off.popleft()[1]

    def settle(self, group: Group, outcomes: Sequence[Outcome]) -> None:
        """A group came back: what is not among the outcomes is being measured by another process."""
        self.fruitful |= any(outcome.ours for outcome in outcomes)
        known = {outcome.point.address for outcome in outcomes}
        if left := [point for point in group if point.address not in known]:
            self.put_off.append((time.monotonic() + PAUSE, left))
            if not self.met:
                self.met = True
                random.Random(os.getpid()).shuffle(self.waiting)

    def lost(self, group: Group, error: str, detail: str = "") -> list[Outcome]:
        """The process of a group is gone; the outcome of a point that has failed by that.

        Raises:
            NoWorker: when the first workers all die.
        """
        addresses = {point.address for point in group}
        again, self.lost_once = bool(addresses & self.lost_once), self.lost_once | addresses
        self.deaths += not again
        if self.deaths == FRUITLESS and not self.fruitful:
            raise NoWorker(f"{FRUITLESS} workers died before the first result, and the sweep stopped: {error}")
        if len(group) > 1:
            self.waiting.extendleft(halves(group))
            return []
        if not again:
            self.waiting.append(group)
            return []
        self.store.fail(group[0], error, detail)
        return [Outcome(group[0], None, error)]


def halves(group: Group) -> list[Group]:
    """A fleet that failed as two: one of its points is to blame, or it was too large for the device."""
    return [group[: len(group) // 2], group[len(group) // 2 :]]


def attempt(group: Group, work: Work) -> list[Outcome]:
    """Measure those points of a group that nobody else is at, on one thread, wherever this runs."""
    torch = sys.modules.get("torch")
    threads = torch.get_num_threads() if torch else 1
    ours: set[str] = set()

    def measure(points: Group, records: Sequence[Record]) -> list[Row]:
        ours.update(point.address for point in points)
        if len(points) == 1 or work.measure_many is None:
            return [work.measure(point, record) for point, record in zip(points, records, strict=True)]
        return work.measure_many(points, records)

    try:
        if torch:
            torch.set_num_threads(1)
        rows = work.store.measure_free(group, measure)
        return [Outcome(point, rows[point.address], ours=point.address in ours) for point in group
                if point.address in rows]  # fmt: skip
    except Exception as error:
        trace = traceback.format_exc()
        if len(group) == 1 or full(trace):
            return [Outcome(point, None, f"{type(error).__name__}: {error}", trace) for point in group]
    finally:
        if torch:
            torch.set_num_threads(threads)
    gc.collect()  # the failed fleet is gone before its halves start: the device may have been too small for it
    if torch and torch.cuda.is_available():
        torch.cuda.empty_cache()
    return [outcome for half in halves(group) for outcome in attempt(half, work)]


def full(complaint: str) -> int | None:
    """The system's number of a full or read-only disk, whichever library met it, in whatever process."""
    numbers = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
    return next((number for number in numbers if os.strerror(number).lower() in complaint.lower()), None)
