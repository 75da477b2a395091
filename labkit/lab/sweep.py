"""The sweep: measure many points, one process per core, one thread each; here, or on a Ray cluster.

Guarantees
- A point that the store already holds is not measured again; what remains is measured in the order given.
- Several sweeps of one store share what they have in common: none waits for another one as long as there is a point
  that nobody is at.
- A point that raises is recorded with its traceback and does not stop the others. One whose process is lost is tried
  once more, then recorded. Where the first workers all die the sweep stops.
- Ctrl-C or a kill loses at most the points in flight: each finished one is in the store. When the parent is gone,
  its workers leave at once, and with them their hold on their points.
- A full disk, or one that has become read-only, ends the sweep at the first point that cannot be kept: what would be
  trained after it would be thrown away.
- Results do not depend on the number of workers: a measurement is pure up to its point, and every worker uses one
  thread.
- Where it pays (`default_fleet`), points of one shape are measured together, as the study's `measure_many` can. A
  fleet that fails is halved until the point that fails stands alone: the others are kept.

`jobs=0` measures in this process, for debugging. With `executor="ray"` every point is a task of `labkit.lab.cluster`.
"""

import os
import re
import time
from collections.abc import Generator, Sequence
from contextlib import closing
from importlib.util import find_spec
from typing import Any

from labkit.errors import BadRequest, unknown
from labkit.lab.cluster import check_address, on_ray
from labkit.lab.progress import Progress
from labkit.lab.provenance import cores
from labkit.lab.runs import told
from labkit.lab.store import Measure, MeasureMany, Point, Row, Store
from labkit.lab.tracking import checked_trackers
from labkit.lab.work import PAUSE, Agenda, Outcome, Work, attempt, fleets, full
from labkit.lab.workers import in_workers


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


def default_fleet(gpus: float = 0) -> int:
    """How many points of one shape are measured together: `$LABKIT_FLEET`, else 32 on a GPU and 1 on a CPU.

    `gpus` are those that a cluster gives to them, where this machine may have none.

    A GPU is idle most of the time while it trains one small model. A CPU core is not: its training steps are bound by
    memory traffic, which a fleet multiplies. There a fleet gained a tenth at best (LABLOG.md, "the fleet"), not worth
    that a kill costs all its members instead of one: so there is one process per core with one model each.
    """
    return _chosen("LABKIT_FLEET", least=1, on_gpu=32, on_cpu=32 if gpus else 1)


def _chosen(name: str, *, least: int, on_gpu: int, on_cpu: int) -> int:
    if given := os.environ.get(name):
        if not re.fullmatch("[0-9]{1,6}", given) or int(given) < least:
            raise BadRequest(f"{name} = {given!r} must be a whole number, {least} or more")
        return int(given)
    import torch

    return on_gpu if torch.cuda.is_available() else on_cpu


def checked_executor(name: str | None) -> str:
    """The executor of that name, default `$LABKIT_EXECUTOR` or `processes`.

    Raises:
        BadRequest: for an unknown one, `ray` without Ray, or a `RAY_ADDRESS` at which no cluster answers.
    """
    name = name or os.environ.get("LABKIT_EXECUTOR") or "processes"
    if name not in EXECUTORS:
        raise unknown("executor", name, EXECUTORS)
    if name == "ray" and find_spec("ray") is None:
        raise BadRequest("executor 'ray' needs Ray, which is not installed: pip install 'labkit[ray]'")
    if name == "ray":
        check_address(os.environ.get("RAY_ADDRESS"))
    return name


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
               executor: str | None = None, gpus: float = 0,
               progress: Progress | None = None) -> list[Outcome]:  # fmt: skip
    """`sweep`, with the failures told apart instead of raised.

    Args:
        points: The cells of a design; equal points are measured once.
        measure: A module-level function `(point, record) -> row`, pure up to its point.
        measure_many: The same for several points of one `shape`: `(points, records) -> rows`; default none.
        store: Where finished points are; default `Store.default()`.
        jobs: Worker processes; default `default_jobs()`; 0 measures in this process.
        fleet: Points of one shape measured together, at most; default `default_fleet()`.
        executor: `processes` or `ray`; default `$LABKIT_EXECUTOR` or `processes`.
        gpus: GPUs, or a part of one, that a point takes on a Ray cluster.
        progress: Shows done/total, rate and time left; default by `Progress.default()`.
    """
    store = store or Store.default()
    jobs = default_jobs() if jobs is None else jobs
    if jobs < 0:
        raise BadRequest(f"jobs = {jobs} must be 0 (in this process) or more")
    executor, trackers = checked_executor(executor), checked_trackers(None)
    size = (default_fleet(gpus) if fleet is None else fleet) if measure_many else 1
    unique = {point.address: point for point in points}
    finished: dict[str, Row] = {}
    for study in sorted({point.study for point in points}):
        finished |= store.check(study)
        store.tidy(study, unique.keys() - finished.keys())
    outcomes = {address: Outcome(point, finished[address]) for address, point in unique.items() if address in finished}
    work = Work(measure, measure_many, store, gpus)
    outcomes |= _unmet([point for address, point in unique.items() if address not in outcomes], work, jobs, executor)
    missing = [point for address, point in unique.items() if address not in outcomes]
    progress = progress or Progress.default()
    progress.start(total=len(unique), already=len(outcomes))
    if missing:
        progress.follow(store, missing)
    try:
        run = _here if jobs == 0 else EXECUTORS[executor]
        size = max(1, min(size, -(-len(missing) // max(jobs, 1))))  # no worker goes without
        with closing(run(Agenda(fleets(missing, size), store), work, jobs)) as measured:
            for outcome in measured if missing else ():
                outcomes[outcome.point.address] = outcome
                progress.step(outcome.row, outcome.error, ours=outcome.ours)
                if outcome.row is not None and outcome.ours:
                    trackers = told(trackers, store, outcome.point.study, outcome.point.address)
                if number := full(f"{outcome.error} {outcome.traceback}"):
                    _stop(number, len(unique) - len(outcomes), store)
    finally:
        progress.close()
        for study in sorted({point.study for point in missing}):
            store.tidy(study)  # of workers that were stopped half-way
    return [outcomes[point.address] for point in points]


def _unmet(missing: Sequence[Point], work: Work, jobs: int, executor: str) -> dict[str, Outcome]:
    """Measure what the points need; the outcomes of those that cannot be measured, since that failed."""
    needs = {need.address: need for point in missing for need in point.needs()}
    needs = {address: need for address, need in needs.items() if work.store.result(need) is None}
    if not needs:
        return {}
    done = run_points(
        list(needs.values()), work.measure, store=work.store, jobs=jobs, executor=executor, gpus=work.gpus
    )
    errors = {
        need.point.address: f"{need.point.study} {need.point.address}: {need.error}" for need in done if need.error
    }
    return {
        point.address: Outcome(point, None, f"what it needs failed: {errors[need.address]}")
        for point in missing
        for need in point.needs()
        if need.address in errors
    }


def _stop(number: int, left: int, store: Store) -> None:
    kept = f"the sweep stopped with {left} points to go, and those finished before are kept"
    raise OSError(number, f"{os.strerror(number)}; {kept}", str(store.root))


def _here(agenda: Agenda, work: Work, jobs: int) -> Generator[Outcome, None, None]:
    import torch  # noqa: F401 (a measurement that imports it late would not be on one thread)

    while agenda:
        if group := agenda.next():
            outcomes = attempt(group, work)
            agenda.settle(group, outcomes)
            yield from outcomes
        else:
            time.sleep(PAUSE)


EXECUTORS = {"processes": in_workers, "ray": on_ray}
