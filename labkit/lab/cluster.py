"""Sweeps on a Ray cluster: the one that `RAY_ADDRESS` names, or a local one of `jobs` CPUs.

Every group of points is a task of one CPU, and of as many GPUs as the sweep was told. The nodes need no folder in
common with the driver: what a point needs is sent with it, and its finished folder is sent back and put into the
driver's store, which holds the locks. A lost worker or node costs the points in flight there, which are tried once
more. A killed driver takes its tasks with it; its store says what is left to do.

Limits: what a point keeps for its next attempt (`Record.lasting`) stays on its node, and is lost with it. All nodes
need labkit; a study of one's own has to be found on their `PYTHONPATH`, or be sent by `ray job submit --working-dir`.
"""

import io
import os
import re
import socket
import tarfile
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from labkit.design.scratch import scratch_folder
from labkit.errors import BadRequest, first_line
from labkit.lab.store import Point, Store
from labkit.lab.work import PAUSE, Agenda, Group, Outcome, Work, attempt

SETTINGS = b"\x04"  # the kind of the first frame that either side of HTTP/2 sends, and so of gRPC, which Ray speaks
GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0" + SETTINGS + b"\0" * 5
ANSWER = 8.0  # seconds until a greeting is answered
PATIENCE = 15  # seconds without a result, and without a free CPU, until a word is said


def on_ray(agenda: Agenda, work: Work, jobs: int) -> Generator[Outcome, None, None]:
    """Measure an agenda on a cluster.

    Raises:
        BadRequest: for an address at which no cluster answers, or a cluster that can never take a point.
    """
    import ray

    address = os.environ.get("RAY_ADDRESS")
    where = {"address": address} if address else {"num_cpus": jobs, "include_dashboard": False}
    try:
        ray.init(log_to_driver=False, ignore_reinit_error=True, **where)
    except (ConnectionError, ValueError, RuntimeError) as error:
        if not address:
            raise
        raise no_cluster(address, first_line(error)) from None
    flight = _Flight(agenda, work)
    try:
        flight.check()
        while agenda or flight.groups:
            yield from flight.fill()
            yield from flight.land()
    finally:
        flight.locks.close()
        ray.shutdown()


class _Flight:
    """The tasks that are on the cluster, each with its points, whose locks are held here."""

    def __init__(self, agenda: Agenda, work: Work) -> None:
        import ray

        self.agenda, self.work, self.locks = agenda, work, ExitStack()
        self.groups: dict[Any, tuple[Group, ExitStack]] = {}
        self.needed: dict[str, Any] = {}
        self.quiet_since = time.monotonic()
        self.task = ray.remote(num_cpus=1, num_gpus=work.gpus, max_retries=0)(_measure_here)

    def room(self) -> int:
        """The points that the cluster can have in work at once."""
        import ray

        there = ray.cluster_resources()
        gpus = there.get("GPU", 0) / self.work.gpus if self.work.gpus else there.get("CPU", 0)
        return int(min(there.get("CPU", 0), gpus))

    def check(self) -> None:
        import ray

        if not self.room():
            there = {name: ray.cluster_resources().get(name, 0) for name in ("CPU", "GPU")}
            offers = " and ".join(f"{amount:g} {name}s" for name, amount in there.items())
            wants = "1 CPU" + f" and {self.work.gpus:g} GPUs" * bool(self.work.gpus)
            raise BadRequest(f"the Ray cluster offers {offers}, and a point takes {wants}: it would wait for ever")

    def fill(self) -> Generator[Outcome, None, None]:
        """Start what there is room for, and a task more for each node to turn to; what is finished needs no task."""
        import ray

        room = self.room() + len(ray.nodes()) if self.agenda else 0
        while len(self.groups) < room and (group := self.agenda.next()):
            held = ExitStack()
            free = held.enter_context(self.work.store.holding(group))
            rows = {point.address: row for point in free if (row := self.work.store.result(point)) is not None}
            done = [Outcome(point, rows[point.address], ours=False) for point in free if point.address in rows]
            todo = [point for point in free if point.address not in rows]
            self.agenda.settle([point for point in group if point not in todo], done)
            yield from done
            if not todo:
                held.close()
                continue
            self.locks.push(held)
            needs = [self.put(need) for point in todo for need in _all_needs(point)]
            self.groups[self.task.remote(todo, self.work, *needs)] = todo, held

    def put(self, need: Point) -> Any:
        """A needed point in Ray's object store, once."""
        import ray

        if need.address not in self.needed:
            self.needed[need.address] = ray.put((need, packed(self.work.store.folder(need))))
        return self.needed[need.address]

    def land(self) -> Generator[Outcome, None, None]:
        """Take in what has come back, if anything has within `PAUSE`."""
        import ray

        if not self.groups:
            time.sleep(PAUSE)
            return
        ready, _ = ray.wait(list(self.groups), num_returns=1, timeout=PAUSE)
        for task in ready:
            self.quiet_since = time.monotonic()
            group, held = self.groups.pop(task)
            try:
                with held:
                    found = ray.get(task)
                    for outcome, folder in found:
                        at = outcome.point.study, outcome.point.address
                        self.work.store.take_in(*at, partial(unpack, folder))
            except ray.exceptions.RayError as lost:  # the task's process or machine is gone
                lines = str(lost).strip().splitlines()
                outcomes = self.agenda.lost(group, f"the Ray task was lost: {lines[-1]}", str(lost))
            else:
                outcomes = [outcome for outcome, _ in found]
                self.agenda.settle(group, outcomes)
            yield from outcomes
        if time.monotonic() - self.quiet_since > PATIENCE and not ray.available_resources().get("CPU", 0):
            self.quiet_since = time.monotonic() + 9 * PATIENCE
            print("the cluster has no free CPU: all are at work, or taken by others", flush=True)


def _measure_here(group: Group, work: Work, *needs: tuple[Point, bytes]) -> list[tuple[Outcome, bytes]]:
    """On a node: measure in a store that lasts as long as this task; each outcome with the folder it left."""
    with scratch_folder() as folder:
        store = Store(folder)
        for need, data in needs:
            unpack(data, store.folder(need))
        outcomes = attempt(group, work._replace(store=store))
        return [(outcome, packed(store.folder(outcome.point))) for outcome in outcomes]


def _all_needs(point: Point) -> list[Point]:
    return [one for need in point.needs() for one in (*_all_needs(need), need)]


def packed(folder: Path) -> bytes:
    """A folder as one string of bytes; empty where there is none."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        if folder.is_dir():
            archive.add(folder, arcname=".")
    return data.getvalue()


def unpack(data: bytes, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        archive.extractall(folder, filter="data")


def check_address(address: str | None) -> None:
    """Refuse (BadRequest) an address at which no cluster answers, within 20 seconds."""
    if address in (None, "", "local", "auto"):
        return
    place = re.fullmatch(r"(?:ray://)?\[?([^\[\]/]+?)\]?:(\d{1,5})", str(address))
    if not place:
        raise BadRequest(f"RAY_ADDRESS = '{address}': a Ray cluster is named as host:port, ray://host:port or auto")
    pool = ThreadPoolExecutor(1)
    try:  # looking up a name heeds no time limit
        talk = pool.submit(socket.create_connection, (place[1], int(place[2])), 4).result(timeout=6)
        with talk:
            talk.settimeout(ANSWER)
            talk.sendall(GREETING)
            answers = talk.recv(4)[3:] == SETTINGS
    except TimeoutError:
        raise no_cluster(address, "no answer in time") from None
    except (OSError, OverflowError) as error:
        raise no_cluster(address, str(error)) from None
    finally:
        pool.shutdown(wait=False)
    if not answers:
        raise no_cluster(address, "something else listens there")


def no_cluster(address: str | None, why: str) -> BadRequest:
    return BadRequest(f"RAY_ADDRESS = '{address}': no Ray cluster answers there ({why.rstrip('.')})")
