"""Many notebooks, each executed whole, in processes of their own: at most so many at once, one thread each.

Guarantees
- Kernels start one after another, `STAGGER` seconds apart: starting is what costs memory and disk.
- A notebook that fails, is lost or takes too long stops no other, and is kept as `failed.ipynb`.
- When the parent is interrupted or gone, so are its notebooks and their kernels. What was executed to its end is not
  executed again; what their points left in the store is not measured again.
"""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple

from labkit.errors import BadRequest
from labkit.lab.execute import RunFailed, check_out, execute
from labkit.lab.store import Store
from labkit.lab.workers import leave_with_the_parent

STAGGER = 2.0
GRACE = 10  # seconds for a notebook to leave tidily


class Task(NamedTuple):
    """A notebook to execute, with its parameters, into a folder."""

    study: str
    notebook: Path
    folder: Path
    params: Mapping[str, Any]


class _Running(NamedTuple):
    task: Task
    process: Any
    began: float


def execute_all(
    tasks: Sequence[Task], store: Store, at_once: int, minutes: float | None = None
) -> Generator[tuple[Task, str | None, float], None, None]:
    """Execute notebooks; each that has ended comes with what went wrong, if anything, and its seconds."""
    ahead, running = list(reversed(tasks)), dict[Any, _Running]()
    last = -STAGGER
    try:
        while ahead or running:
            soon = max(0.0, last + STAGGER - time.monotonic())
            if ahead and len(running) < at_once and not soon:
                pipe, one = _started(ahead.pop(), store, minutes)
                running[pipe], last = one, one.began
                continue
            ready: list[Any] = wait(list(running), timeout=soon if ahead and len(running) < at_once else None)
            for pipe in ready:
                task, process, began = running.pop(pipe)
                try:
                    failure = pipe.recv()
                except (EOFError, OSError):
                    process.join()
                    failure = f"the process of the notebook died (exit code {process.exitcode}; out of memory?)"
                process.join()
                yield task, failure, time.monotonic() - began
    finally:
        for one in running.values():
            one.process.terminate()
        for one in running.values():
            one.process.join(GRACE)
            one.process.kill()


def _started(task: Task, store: Store, minutes: float | None) -> tuple[Any, _Running]:
    context = multiprocessing.get_context("spawn")
    pipe, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_execute, args=(theirs, task, store, minutes))
    process.start()
    theirs.close()
    return pipe, _Running(task, process, time.monotonic())


def _execute(pipe: "Connection[Any, Any]", task: Task, store: Store, minutes: float | None) -> None:
    """One notebook's process: it says what went wrong, or None. What the notebook prints is in the notebook."""
    leave_with_the_parent()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    os.environ["OMP_NUM_THREADS"] = "1"
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123 (for as long as this process is there)
    try:
        check_out(task.folder, task.study)
        execute(task.notebook, task.folder, task.params, store=store, jobs=0, minutes=minutes)
        pipe.send(None)
    except (RunFailed, BadRequest) as failure:
        pipe.send(str(failure))
    except KeyboardInterrupt:
        os._exit(130)
