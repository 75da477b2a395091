"""What the lab itself costs, printed by `labkit bench`: points that do nothing, two sweeps at once, a large store.

Wall times of a machine that may be busy: only the ratio of two that were taken in one run means something elsewhere.
"""

import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from labkit.lab.query import query, rows_by_study, shown_rows
from labkit.lab.store import Point, Record, Store
from labkit.lab.sweep import run_points


class Tiny(Point):
    """A point that costs `busy` seconds of a processor."""

    study: Literal["tiny"] = "tiny"
    version: Literal[1] = 1
    number: int
    busy: float = 0


def burn(point: Tiny, record: Record) -> dict[str, Any]:
    ends = time.process_time() + point.busy
    while time.process_time() < ends:
        pass
    return {"accuracy_burnt": 1.0, "seed": point.number}


def main(tiny: int = 1000, shared: int = 60, stored: int = 10_000) -> None:
    """Print all figures."""
    with TemporaryDirectory() as folder:
        seconds = overhead(Store(folder), tiny)
        print(f"overhead of a point, two workers, {tiny} points: {1000 * seconds / tiny:.1f} ms")
    one, two = (sweeps(n, shared) for n in (1, 2))
    print(
        f"{shared} points of 0.1 processor seconds, one worker per sweep: one sweep {one:.1f} s, two {two:.1f} s, ",
        end="",
    )
    print(f"ratio {two / one:.2f}")
    with TemporaryDirectory() as folder:
        store = Store(folder)
        overhead(store, stored)
        for what, seconds in of_a_store(store, stored).items():
            print(f"{what} over {stored} finished points: {seconds:.2f} s")


def overhead(store: Store, points: int) -> float:
    """Seconds for points that do nothing, on two workers that are there already."""
    _quiet(store, range(-8, 0), jobs=2)
    return _timed(lambda: _quiet(store, range(points), jobs=2))


def sweeps(at_once: int, points: int) -> float:
    """Seconds until that many sweeps of one store, in this process's children, are through the same points."""
    with TemporaryDirectory() as folder:
        words = [sys.executable, "-m", __name__, folder, str(points)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        running: list[Any] = [subprocess.Popen(words, **pipes) for _ in range(at_once)]  # type: ignore[call-overload]
        for process in running:
            process.stdout.readline()  # it is ready

        def through() -> None:
            for process in running:
                process.stdin.close()
            for process in running:
                process.wait()

        return _timed(through)


def of_a_store(store: Store, points: int) -> dict[str, float]:
    """Seconds of what a person waits for."""
    return {
        "start of a sweep": _timed(lambda: _quiet(store, range(points), jobs=2)),
        "table of results": _timed(lambda: shown_rows(store, rows_by_study(store, "tiny"))),
        "query": _timed(lambda: query(store, "tiny", "select avg(number) from points")),
    }


def _quiet(store: Store, numbers: range, jobs: int, busy: float = 0) -> None:
    with redirect_stdout(StringIO()):
        run_points([Tiny(number=n, busy=busy) for n in numbers], burn, store=store, jobs=jobs)


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    from labkit.lab import timing  # by its name, under which workers find it

    where, many = Store(Path(sys.argv[1])), int(sys.argv[2])
    timing._quiet(where, range(-1, 0), jobs=1)
    print("ready", flush=True)
    sys.stdin.read()
    timing._quiet(where, range(many), jobs=1, busy=0.1)
