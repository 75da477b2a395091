"""Worker processes: one thread each, started once, kept warm from one sweep of a process to its next.

They are spawned, not forked: a fork of a process that has used torch threads or CUDA is not safe. A worker leaves when
its parent is gone, or when nobody has given it anything for `WARM` seconds. It is used again only by a sweep that finds
the environment, the search path and the code on the disk as they were when it started. What a worker writes to its
standard error appears on the parent's, and its last line is told when it dies.
"""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Generator, Hashable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from typing import Any

from labkit.lab.work import PAUSE, Agenda, Group, Outcome, Work, attempt

WARM = 60.0
_idle: list["Worker"] = []


class Worker:
    """A process with a pipe: a group of points goes in, their outcomes come out."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self.group: Group = []
        self.last_line, self.surroundings, self.since = "", _surroundings(), time.monotonic()
        with _deaf_to_ctrl_c(), _heard() as words:  # Ctrl-C is the parent's to handle, from the first moment on
            self.process.start()
        theirs.close()
        self.listening = threading.Thread(target=self._listen, args=(words,), daemon=True)
        self.listening.start()

    def _listen(self, words: int) -> None:
        with os.fdopen(words, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                self.last_line = line.strip() or self.last_line
                sys.stderr.write(line)

    def usable(self) -> bool:
        """Whether it is at home, and will be when a group arrives."""
        return self.process.is_alive() and time.monotonic() - self.since < WARM / 2

    def give(self, group: Group, work: Work) -> None:
        self.group = group
        with suppress(OSError):  # a process that is gone already is noticed when its answer is read
            self.pipe.send((group, work))

    def take(self) -> list[Outcome]:
        """The outcomes of its group; EOFError or OSError where the process is gone."""
        outcomes = self.pipe.recv()
        self.since = time.monotonic()
        return list(outcomes)

    def end(self) -> str:
        """How a process that is gone has ended."""
        self.process.join()
        self.listening.join(timeout=5)
        killed = self.process.exitcode == -signal.SIGKILL or not self.last_line
        why = "killed or out of memory?" if killed else self.last_line
        return f"the worker process died (exit code {self.process.exitcode}; {why})"

    def stop(self) -> None:
        self.pipe.close()
        self.process.terminate()
        self.process.join()


def in_workers(agenda: Agenda, work: Work, jobs: int) -> Generator[Outcome, None, None]:
    """Measure an agenda with that many workers; those that are idle at the end stay warm."""
    around = _surroundings()
    workers = [worker for worker in _idle if worker.surroundings == around and worker.usable()][:jobs]
    for worker in workers:
        _idle.remove(worker)
    try:
        while agenda or any(worker.group for worker in workers):
            while sum(bool(worker.group) for worker in workers) < jobs and (group := agenda.next()):
                _free(workers).give(group, work)
            busy: dict[Any, Worker] = {worker.pipe: worker for worker in workers if worker.group}
            outcomes: list[Outcome] = []
            for worker in [busy[pipe] for pipe in wait(list(busy), timeout=PAUSE if agenda else None)]:
                group, worker.group = worker.group, []
                try:
                    found = worker.take()
                except (EOFError, OSError):  # the process is gone: killed, out of memory, or crashed in native code
                    workers.remove(worker)
                    outcomes += agenda.lost(group, worker.end())
                else:
                    outcomes += found
                    agenda.settle(group, found)
                    if agenda.waiting:  # none waits until the outcomes of the others have been looked at
                        worker.give(agenda.waiting.popleft(), work)
            yield from outcomes
    except BaseException:
        for worker in workers:
            worker.stop()
        raise
    _idle.extend(workers)


def _free(workers: list[Worker]) -> Worker:
    """A worker without a group, started where there is none."""
    for worker in [worker for worker in workers if not worker.group]:
        if worker.usable():
            return worker
        workers.remove(worker)
        worker.stop()
    workers.append(Worker())
    return workers[-1]


def _surroundings() -> Hashable:
    """What a worker depends on beside its work; code that was edited since is not what it has imported."""
    files = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    own = [file for file in files if file and not file.startswith((sys.prefix, sys.base_prefix))]
    times = {file: os.stat(file).st_mtime_ns for file in own if os.path.exists(file)}  # noqa: PTH110, PTH116 (speed)
    return tuple(sorted(os.environ.items())), tuple(sys.path), os.getcwd(), max(times.values(), default=0)  # noqa: PTH109


@contextmanager
def _heard() -> Iterator[int]:
    """Standard error of the process that is started here is a pipe, whose other end this gives."""
    resource_tracker.ensure_running()  # a process that multiprocessing starts once shall not hold this pipe open
    reading, writing = os.pipe()
    before = os.dup(2)
    try:
        os.dup2(writing, 2)
        yield reading
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(writing)


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # which alone may say so
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _serve(pipe: "Connection[Any, Any]") -> None:
    """A worker's life: measure what comes through the pipe until the parent closes it, or is gone."""
    leave_with_the_parent()
    os.environ["OMP_NUM_THREADS"] = "1"  # for what a measurement imports late
    with suppress(EOFError, OSError):  # the parent is gone
        while pipe.poll(WARM):
            pipe.send(attempt(*pipe.recv()))


def leave_with_the_parent() -> None:
    """From here on this process ends when the one that has spawned it is gone."""
    threading.Thread(target=_leave, daemon=True).start()


def _leave() -> None:
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)
