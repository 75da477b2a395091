"""Progress of a sweep: a bar when a person watches, plain lines in batch, or one JSON object per line for machines.

A person watches when standard error is a terminal, or when the code runs in a notebook that is not executed in batch
(`labkit run` sets `LABKIT_BATCH=1` for the kernel it starts). With `LABKIT_PROGRESS=json` (`--progress json`) each
event is a line on standard error that begins with `{`:

    {"event": "start", "total": 21, "already": 3, "what": "points"}
    {"event": "mark", "point": ADDRESS, "step": 125, "steps": 750, "loss": 0.41, ..., "elapsed": 4.0}
    {"event": "point", "point": ADDRESS, "done": 4, "total": 21, "words": ..., "loss", "accuracy_...", "elapsed": 17.2,
     "left": 292.4}
    {"event": "failed", "point": ADDRESS or null, "error": ..., "done": 5, "total": 21, "elapsed": ..., "left": ...}
    {"event": "end", "done": 21, "total": 21, "elapsed": 310.0}

Times are seconds; `left` is known from the first point on that this sweep has measured, and null before. Marks are the
lines of `log.jsonl` of points that are being measured on this machine: the learning curve as it grows.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any

from labkit.errors import unknown
from labkit.lab.store import Point, Store

Describe = Callable[[dict[str, Any]], str]
FORMS = ("auto", "json")
LOOK = 0.5  # seconds between two looks at what is being measured


class Progress:
    """Done/total, points per minute, time left and, for each point, one short line of its result.

    Args:
        bar: Draw a tqdm bar; otherwise print one line per point.
        describe: From a row to its few words (say, `I=300 seed=1: unseen 0.41`).
        machine: Neither: one JSON object per line; see the module.
    """

    def __init__(self, *, bar: bool, describe: Describe | None = None, machine: bool = False) -> None:
        self.bar, self.machine = bar and not machine, machine
        self.describe = describe or (lambda row: str(row["address"]))
        self._tqdm: Any = None
        self._over: Event | None = None
        self._follower: Thread | None = None

    @classmethod
    def default(cls, describe: Describe | None = None) -> "Progress":
        """A bar when a person watches, lines in batch, JSON where `$LABKIT_PROGRESS` says so."""
        watched = sys.stderr.isatty() or _in_a_notebook()
        form = checked_form(os.environ.get("LABKIT_PROGRESS"))
        return cls(bar=watched and os.environ.get("LABKIT_BATCH") != "1", describe=describe, machine=form == "json")

    def start(self, *, total: int, already: int, what: str = "points") -> None:
        self.total, self.done, self.already, self.started = total, already, already, time.monotonic()
        if self.machine:
            self._event("start", total=total, already=already, what=what)
        elif self.bar:
            from tqdm.auto import tqdm

            self._tqdm = tqdm(total=total, initial=already, unit=what.removesuffix("s"), dynamic_ncols=True)
        elif total:
            print(f"{total} {what}, {already} of them already in the store", flush=True)

    def follow(self, store: Store, points: Sequence[Point]) -> None:
        """Tell of the learning curves of these points while they are measured, until `close`."""
        over = self._over = Event()
        steps = {point.address: getattr(point, "steps", None) for point in points}
        marks, studies = Marks(store), sorted({point.study for point in points})

        def look() -> None:
            while not over.wait(LOOK):
                for address, line in marks.new(studies):
                    if address in steps:
                        self.mark(address, line, steps[address])

        self._follower = Thread(target=look, daemon=True)
        self._follower.start()

    def mark(self, address: str, line: Mapping[str, Any], steps: int | None = None) -> None:
        """One more mark of a learning curve; plain lines have them until the first point is finished."""
        numbers = {name: value for name, value in line.items() if name not in ("step", "seconds")}
        if self.machine:
            self._event("mark", point=address, step=line.get("step"), steps=steps, **numbers)
            return
        told = ", ".join(f"{name.removeprefix('accuracy_')} {value:.3g}" for name, value in numbers.items()
                         if isinstance(value, int | float))  # fmt: skip
        words = f"step {line.get('step')}{f' of {steps}' if steps else ''}: {told}"
        if self.bar:
            self._tqdm.set_postfix_str(words)
        elif self.done == self.already:
            print(f"  {address} {words}", flush=True)

    def step(self, row: dict[str, Any] | None, error: str | None = None, ours: bool = True) -> None:
        """One more point; one that is not `ours` was measured by another process, and tells nothing of our speed."""
        self.done += 1
        self.already += not ours
        words = (self.describe(row) if row is not None else f"FAILED {error}") + ", elsewhere" * (not ours)
        new, seconds = self.done - self.already, time.monotonic() - self.started
        left = seconds / new * (self.total - self.done) if new else None
        if self.machine:
            kept = {name: value for name, value in (row or {}).items() if name.startswith(("loss", "accuracy_"))}
            told = {"error": error} if row is None else {"words": words, **kept}
            self._event("failed" if row is None else "point", point=(row or {}).get("address"), done=self.done,
                        total=self.total, **told, left=None if left is None else round(left, 1))  # fmt: skip
            return
        if self.bar:
            self._tqdm.set_postfix_str(words, refresh=False)
            self._tqdm.update()
            return
        ahead = "? left" if left is None else f"{left // 60:.0f}:{left % 60:02.0f} left"
        place = f"[{self.done:>{len(str(self.total))}}/{self.total}]"
        print(f"{place} {60 * new / seconds:.1f} points/min, {ahead} | {words}", flush=True)

    def close(self) -> None:
        if self._over is not None and self._follower is not None:
            self._over.set()
            self._follower.join()  # what it has to say comes before the end
        if self._tqdm is not None:
            self._tqdm.close()
        if self.machine:
            self._event("end", done=self.done, total=self.total)

    def _event(self, event: str, **told: Any) -> None:
        elapsed = {} if event == "start" else {"elapsed": round(time.monotonic() - self.started, 1)}
        print(json.dumps({"event": event, **told, **elapsed}, default=str), file=sys.stderr, flush=True)


class Marks:
    """The lines of the logs of what is being measured on this machine, each told once."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.read: dict[Path, int] = {}

    def new(self, studies: Sequence[str]) -> list[tuple[str, dict[str, Any]]]:
        """Addresses and lines that have come since the last look."""
        found = []
        for address, path in (pair for study in studies for pair in self.store.being_measured(study)):
            with suppress(OSError):  # it was moved in meanwhile
                whole = path.read_text("utf-8").split("\n")[:-1]  # a line that is being written has no end yet
                found += [(address, json.loads(line)) for line in whole[self.read.get(path, 0) :]]
                self.read[path] = len(whole)
        return found


def checked_form(name: str | None) -> str:
    """The form of progress of that name, default `auto`.

    Raises:
        BadRequest: for an unknown one.
    """
    if (name or "auto") not in FORMS:
        raise unknown("progress", str(name), FORMS)
    return name or "auto"


def _in_a_notebook() -> bool:
    """Is this the process of a notebook's kernel?"""
    ipython = sys.modules.get("IPython")
    return hasattr(ipython.get_ipython(), "kernel") if ipython else False
