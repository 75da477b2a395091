"""The sweep: measure many points, one process per core, one thread each; here, or on a Ray cluster.

Guarantees
- A point that the store already holds is not measured again; what remains is measured in the order given.
- A point that raises, or whose process is killed, is recorded with its traceback and does not stop the others.
- Ctrl-C or a kill loses at most the points in flight: each finished one is in the store. When the parent is gone,
  its workers leave at once, and with them their hold on their points.
- A full disk, or one that has become read-only, ends the sweep at the first point that cannot be kept: what would be
  trained after it would be thrown away.
- Results do not depend on the number of workers: a measurement is pure up to its point, and every worker uses one
  thread.
- Where it pays (`default_fleet`), points of one shape are measured together, as the study's `measure_many` can. A
  fleet that fails is halved until the point that fails stands alone: the others are kept.

`jobs=0` measures in this process, for debugging. With `executor="ray"` every point is a Ray task of one CPU, on the
cluster that `RAY_ADDRESS` names (all its machines must see the store's folder) or on a local one of `jobs` CPUs. The
workers of `processes` are spawned, not forked: a fork of a process that has used torch threads or CUDA is not safe.
"""

import errno
import gc
import multiprocessing
import os
import re
import signal
import socket
import threading
import traceback
from collections.abc import Generator, Hashable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from importlib.util import find_spec
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple

from labkit.errors import BadRequest, first_line, unknown
from labkit.lab.progress import Progress
from labkit.lab.provenance import cores
from labkit.lab.store import Measure, MeasureMany, Point, Row, Store


class Outcome(NamedTuple):
    """What became of one point: its row, or why there is none."""

    point: Point
    row: Row | None
    error: str | None = None  # the last line for people
    traceback: str | None = None


class SweepFailed(RuntimeError):
    """Some points failed. All others are in the store; the message names the first failure."""

    def __init__(self, outcomes: Sequence[Outcome]) -> None:
        self.failed = [outcome for outcome in outcomes if outcome.row is None]
        first = self.failed[0]
        super().__init__(
            f"{len(self.failed)} of {len(outcomes)} points failed (the others are kept); first, point "
            f"{first.point.address}: {first.error}\n{first.traceback or ''}"
        )


def default_jobs() -> int:
    """`$LABKIT_JOBS`, else one worker per core, or one alone where models train on a GPU."""
    return _chosen("LABKIT_JOBS", least=0, on_gpu=1, on_cpu=cores())


def default_fleet() -> int:
    """How many points of one shape are measured together: `$LABKIT_FLEET`, else 32 on a GPU and 1 on a CPU.

    A GPU is idle most of the time while it trains one small model. A CPU core is not: its training steps are bound by
    memory traffic, which a fleet multiplies. There a fleet gained a tenth at best (LABLOG.md, "the fleet"), not worth
    that a kill costs all its members instead of one: so there is one process per core with one model each.
    """
    return _chosen("LABKIT_FLEET", least=1, on_gpu=32, on_cpu=1)


def _chosen(name: str, *, least: int, on_gpu: int, on_cpu: int) -> int:
    if given := os.environ.get(name):
        if not re.fullmatch("[0-9]{1,6}", given) or int(given) < least:
            raise BadRequest(f"{name} = {given!r} must be a whole number, {least} or more")
        return int(given)
    import torch

    return on_gpu if torch.cuda.is_available() else on_cpu


def fleets(points: Sequence[Point], size: int) -> list[list[Point]]:
    """The points in groups of one shape, at most `size` each, in the order of each group's first point."""
    groups: list[list[Point]] = []
    filling: dict[Hashable, list[Point]] = {}
    for point in points:
        group = filling.get((point.study, point.shape))
        if group is None or point.shape is None or len(group) == size:
            group = filling[point.study, point.shape] = []
            groups.append(group)
        group.append(point)
    return groups


ANSWERS = 5  # seconds in which the address of a cluster must answer


def checked_executor(name: str | None) -> str:
    """The executor of that name, default `$LABKIT_EXECUTOR` or `processes`.

    Raises:
        BadRequest: for an unknown one, `ray` without Ray, or a `RAY_ADDRESS` at which nobody answers.
    """
    name = name or os.environ.get("LABKIT_EXECUTOR") or "processes"
    if name not in EXECUTORS:
        raise unknown("executor", name, EXECUTORS)
    if name == "ray" and find_spec("ray") is None:
        raise BadRequest("executor 'ray' needs Ray, which is not installed: pip install 'labkit[ray]'")
    if name == "ray":
        _check_address(os.environ.get("RAY_ADDRESS", ""))
    return name


def _check_address(address: str) -> None:
    """Refuse an address at which nobody answers: Ray itself would try for minutes, and end in a traceback."""
    if address in ("", "auto", "local"):
        return
    place = re.fullmatch(r"(?:ray://)?\[?([^\[\]/]+?)\]?:(\d{1,5})", address)
    if not place:
        raise BadRequest(f"RAY_ADDRESS = '{address}': a Ray cluster is named as host:port, ray://host:port or auto")
    try:
        socket.create_connection((place[1], int(place[2])), timeout=ANSWERS).close()
    except (OSError, OverflowError) as error:
        raise BadRequest(f"RAY_ADDRESS = '{address}': no Ray cluster answers there ({error})") from None


def sweep(points: Sequence[Point], measure: Measure, **options: Any) -> list[Row]:
    """Measure every point, or read it from the store; the rows come in the order of `points`.

    `options` are those of `run_points`.

    Raises:
        BadRequest: when the store cannot be used; nothing was started.
        SweepFailed: at the end, when any point failed; the others are in the store.
    """
    outcomes = run_points(points, measure, **options)
    if any(outcome.row is None for outcome in outcomes):
        raise SweepFailed(outcomes)
    return [outcome.row for outcome in outcomes if outcome.row is not None]


def run_points(points: Sequence[Point], measure: Measure, *, measure_many: MeasureMany | None = None,
               store: Store | None = None, jobs: int | None = None, fleet: int | None = None,
               executor: str | None = None, progress: Progress | None = None) -> list[Outcome]:  # fmt: skip
    """`sweep`, with the failures told apart instead of raised.

    Args:
        points: The cells of a design; equal points are measured once.
        measure: A module-level function `(point, record) -> row`, pure up to its point.
        measure_many: The same for several points of one `shape`: `(points, records) -> rows`; default none.
        store: Where finished points are; default `Store.default()`.
        jobs: Worker processes; default `default_jobs()`; 0 measures in this process.
        fleet: Points of one shape measured together, at most; default `default_fleet()`.
        executor: `processes` or `ray`; default `$LABKIT_EXECUTOR` or `processes`.
        progress: Shows done/total, rate and time left; default by `Progress.default()`.
    """
    store = store or Store.default()
    jobs = default_jobs() if jobs is None else jobs
    if jobs < 0:
        raise BadRequest(f"jobs = {jobs} must be 0 (in this process) or more")
    executor = checked_executor(executor)
    size = (default_fleet() if fleet is None else fleet) if measure_many else 1
    for study in sorted({point.study for point in points}):
        store.check(study)
        store.tidy(study)
    unique = {point.address: point for point in points}
    finished = {address: store.result(point) for address, point in unique.items()}
    outcomes = {address: Outcome(unique[address], row) for address, row in finished.items() if row is not None}
    outcomes |= _unmet([point for address, point in unique.items() if address not in outcomes], measure, store, jobs,
                       executor)  # fmt: skip
    missing = [point for address, point in unique.items() if address not in outcomes]
    progress = progress or Progress.default()
    progress.start(total=len(unique), already=len(outcomes))
    try:
        run = _here if jobs == 0 else EXECUTORS[executor]
        size = max(1, min(size, -(-len(missing) // max(jobs, 1))))  # no worker goes without
        groups = fleets(missing, size)
        with closing(run(groups, Work(measure, measure_many, store), jobs)) as measured:
            for outcome in measured if groups else ():
                outcomes[outcome.point.address] = outcome
                progress.step(outcome.row, outcome.error)
                if number := _full(f"{outcome.error} {outcome.traceback}"):
                    _stop(number, len(unique) - len(outcomes), store)
    finally:
        progress.close()
        for study in sorted({point.study for point in missing}):
            store.tidy(study)  # of workers that were stopped half-way
    return [outcomes[point.address] for point in points]


def _unmet(missing: Sequence[Point], measure: Measure, store: Store, jobs: int, executor: str) -> dict[str, Outcome]:
    """Measure what the points need; the outcomes of those that cannot be measured, since that failed."""
    needs = {need.address: need for point in missing for need in point.needs() if store.result(need) is None}
    if not needs:
        return {}
    done = run_points(list(needs.values()), measure, store=store, jobs=jobs, executor=executor)
    errors = {
        need.point.address: f"{need.point.study} {need.point.address}: {need.error}" for need in done if need.error
    }
    return {
        point.address: Outcome(point, None, f"what it needs failed: {errors[need.address]}")
        for point in missing
        for need in point.needs()
        if need.address in errors
    }


def _full(complaint: str) -> int | None:
    """The system's number of a full or read-only disk, whichever library met it, in whatever process."""
    numbers = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
    return next((number for number in numbers if os.strerror(number).lower() in complaint.lower()), None)


def _stop(number: int, left: int, store: Store) -> None:
    kept = f"the sweep stopped with {left} points to go, and those finished before are kept"
    raise OSError(number, f"{os.strerror(number)}; {kept}", str(store.root))


class Work(NamedTuple):
    """How points are measured, and where the results go."""

    measure: Measure
    measure_many: MeasureMany | None
    store: Store


def _here(groups: Sequence[list[Point]], work: Work, jobs: int) -> Generator[Outcome, None, None]:
    for group in groups:
        yield from _attempt(group, work)


def _attempt(group: list[Point], work: Work) -> list[Outcome]:
    """Measure a group on one thread, wherever this runs."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        if len(group) == 1 or work.measure_many is None:
            return [Outcome(point, work.store.measure(point, work.measure)) for point in group]
        rows = work.store.measure_many(group, work.measure_many)
        return [Outcome(point, row) for point, row in zip(group, rows, strict=True)]
    except Exception as error:
        trace = traceback.format_exc()
        if len(group) == 1 or _full(trace):
            return [Outcome(point, None, f"{type(error).__name__}: {error}", trace) for point in group]
    finally:
        torch.set_num_threads(threads)
    gc.collect()  # the failed fleet is gone before its halves start: the device may have been too small for it
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return [outcome for half in _halves(group) for outcome in _attempt(half, work)]


def _halves(group: list[Point]) -> list[list[Point]]:
    """A fleet that failed as two: one of its points is to blame, or it was too large for the device."""
    return [group[: len(group) // 2], group[len(group) // 2 :]]


class _Worker:
    """A spawned process with a pipe: a group of points goes in, their outcomes come out."""

    def __init__(self, work: Work) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, work), daemon=True)
        with _deaf_to_ctrl_c():  # inherited by the child from its first moment: Ctrl-C is the parent's to handle
            self.process.start()
        theirs.close()
        self.group: list[Point] = []

    def give(self, group: list[Point]) -> None:
        self.group = group
        with suppress(OSError):  # a process that is gone already is noticed when its answer is read
            self.pipe.send(group)

    def stop(self) -> None:
        self.pipe.close()
        self.process.terminate()
        self.process.join()


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


def _serve(pipe: "Connection[Any, Any]", work: Work) -> None:
    """A worker's life: measure what comes through the pipe until the parent closes it, or is gone."""
    threading.Thread(target=_leave_with_the_parent, daemon=True).start()
    try:
        while True:
            pipe.send(_attempt(pipe.recv(), work))
    except (EOFError, OSError):  # the parent is gone
        return


def _leave_with_the_parent() -> None:
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


def _in_workers(groups: Sequence[list[Point]], work: Work, jobs: int) -> Generator[Outcome, None, None]:
    queue = list(reversed(groups))
    workers = [_Worker(work) for _ in range(min(jobs, len(queue)))]
    try:
        for worker in workers:
            worker.give(queue.pop())
        while busy := [worker for worker in workers if worker.group]:
            ready = wait([worker.pipe for worker in busy])
            for worker in [worker for worker in busy if worker.pipe in ready]:
                try:
                    outcomes = worker.pipe.recv()
                except (EOFError, OSError):  # the process is gone: killed, out of memory, or crashed in native code
                    worker.process.join()
                    error = f"the worker process died (exit code {worker.process.exitcode}; killed or out of memory?)"
                    again, outcomes = _after_loss(worker.group, error, "", work.store)
                    queue += again
                    workers.remove(worker)
                    if queue:
                        worker = _Worker(work)
                        workers.append(worker)
                worker.group = []
                if queue:
                    worker.give(queue.pop())
                yield from outcomes
    finally:
        for worker in workers:
            worker.stop()


def _after_loss(group: list[Point], error: str, detail: str, store: Store) -> tuple[list[list[Point]], list[Outcome]]:
    """What is still to be tried of a group whose process is gone, and what is settled: a point alone has failed."""
    if len(group) > 1:
        return _halves(group), []
    store.fail(group[0], error, detail)
    return [], [Outcome(group[0], None, error)]


def _on_ray(groups: Sequence[list[Point]], work: Work, jobs: int) -> Generator[Outcome, None, None]:
    import ray

    address = os.environ.get("RAY_ADDRESS")
    where = {"address": address} if address else {"num_cpus": jobs, "include_dashboard": False}
    try:
        ray.init(log_to_driver=False, ignore_reinit_error=True, **where)
    except (ConnectionError, ValueError, RuntimeError) as refused:
        if not address:
            raise
        raise BadRequest(f"RAY_ADDRESS = '{address}': no Ray cluster to join ({first_line(refused)})") from None
    task = ray.remote(num_cpus=1, max_retries=0)(_attempt)
    pending = {task.remote(group, work): group for group in groups}
    try:
        while pending:
            (ready,), _ = ray.wait(list(pending), num_returns=1)
            group = pending.pop(ready)
            try:
                yield from ray.get(ready)
            except ray.exceptions.RayError as lost:  # the task's process or machine is gone
                error = f"the Ray task was lost: {str(lost).splitlines()[0]}"
                again, outcomes = _after_loss(group, error, str(lost), work.store)
                pending |= {task.remote(half, work): half for half in again}
                yield from outcomes
    finally:
        ray.shutdown()


EXECUTORS = {"processes": _in_workers, "ray": _on_ray}
