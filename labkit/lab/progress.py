"""Progress of a sweep: a bar when a person watches, plain lines in batch.

A person watches when standard error is a terminal, or when the code runs in a notebook that is not executed in batch
(`labkit run` sets `LABKIT_BATCH=1` for the kernel it starts).
"""

import os
import sys
import time
from collections.abc import Callable
from typing import Any

Describe = Callable[[dict[str, Any]], str]


class Progress:
    """Done/total, points per minute, time left and, for each point, one short line of its result.

    Args:
        bar: Draw a tqdm bar; otherwise print one line per point.
        describe: From a row to its few words (say, `I=300 seed=1: unseen 0.41`).
    """

    def __init__(self, *, bar: bool, describe: Describe | None = None) -> None:
        self.bar = bar
        self.describe = describe or (lambda row: str(row["address"]))
        self._tqdm: Any = None

    @classmethod
    def default(cls, describe: Describe | None = None) -> "Progress":
        """A bar when a person watches, lines in batch."""
        watched = sys.stderr.isatty() or _in_a_notebook()
        return cls(bar=watched and os.environ.get("LABKIT_BATCH") != "1", describe=describe)

    def start(self, *, total: int, already: int, what: str = "points") -> None:
        self.total, self.done, self.already, self.started = total, already, already, time.monotonic()
        if self.bar:
            from tqdm.auto import tqdm

            self._tqdm = tqdm(total=total, initial=already, unit=what.removesuffix("s"), dynamic_ncols=True)
        elif total:
            print(f"{total} {what}, {already} of them already in the store", flush=True)

    def step(self, row: dict[str, Any] | None, error: str | None = None, ours: bool = True) -> None:
        """One more point; one that is not `ours` was measured by another process, and tells nothing of our speed."""
        self.done += 1
        self.already += not ours
        words = (self.describe(row) if row is not None else f"FAILED {error}") + ", elsewhere" * (not ours)
        if self.bar:
            self._tqdm.set_postfix_str(words, refresh=False)
            self._tqdm.update()
            return
        new, seconds = self.done - self.already, time.monotonic() - self.started
        left = seconds / max(new, 1) * (self.total - self.done)
        print(
            f"[{self.done:>{len(str(self.total))}}/{self.total}] {60 * new / seconds:.1f} points/min, "
            f"{left // 60:.0f}:{left % 60:02.0f} left | {words}",
            flush=True,
        )

    def close(self) -> None:
        if self._tqdm is not None:
            self._tqdm.close()


def _in_a_notebook() -> bool:
    """Is this the process of a notebook's kernel?"""
    ipython = sys.modules.get("IPython")
    return hasattr(ipython.get_ipython(), "kernel") if ipython else False
