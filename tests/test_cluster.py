"""Sweeps on Ray: nodes without a folder in common, nodes and workers that are lost, addresses that are no cluster."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from toy import ToyPoint, rows_of, square

from labkit import BadRequest
from labkit.design.scratch import SCRATCH, in_use
from labkit.lab import Point, Progress, Record, Row, Store, run_points
from labkit.lab.cluster import check_address, packed, unpack

HERE = Path(__file__).parent


class Heir(ToyPoint):
    """A point that needs another one."""

    def needs(self) -> Sequence[Point]:
        return [ToyPoint(number=self.number + 100)]


def square_and_tell(point: ToyPoint, record: Record) -> Row:
    """The square, where it was computed, and in which store."""
    import ray

    time.sleep(0.3)
    record.log(step=1, number=point.number)
    assert record.store
    needed = [record.row_of(need)["squared"] for need in point.needs()]
    needed += [len((record.folder_of(need) / "log.jsonl").read_text().splitlines()) for need in point.needs()]
    where = {"node": ray.get_runtime_context().get_node_id(), "store": str(record.store.root), "needed": needed}
    return {"squared": point.number**2, **where}


def node() -> dict[str, Any]:
    """A node of one CPU with ports of its own: for those that its helpers would choose Ray waits 15 seconds at most."""
    names = ("metrics_agent_port", "dashboard_agent_listen_port", "runtime_env_agent_port", "metrics_export_port")
    with ExitStack() as taken:
        ports = [taken.enter_context(socket.create_server(("", 0))).getsockname()[1] for _ in names]
    return {"num_cpus": 1, "include_dashboard": False, **dict(zip(names, ports, strict=True))}


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, in_ci: bool) -> Iterator[Any]:
    """A head of one CPU; the sweep finds it by its address."""
    if not in_ci and find_spec("ray") is None:
        pytest.skip("Ray is not installed (pip install 'labkit[ray]')")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")  # its sockets have no room for a long name
    made = Cluster(initialize_head=True, head_node_args=node())
    monkeypatch.setenv("RAY_ADDRESS", made.address)
    yield made
    made.shutdown()


@pytest.mark.slow
def test_a_node_without_our_folder_is_killed_in_the_middle_and_the_sweep_completes(
    own_store: Path, cluster: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    second = cluster.add_node(**node())
    nodes: list[str] = []

    def look(row: Row) -> str:
        nodes.append(row["node"])
        if len(set(nodes)) == 2 and not killed:
            killed.append(len(nodes))
            cluster.remove_node(second, allow_graceful=False)
        return ""

    killed: list[int] = []
    store, points = Store(own_store), [*(ToyPoint(number=n) for n in range(11)), Heir(number=20)]
    outcomes = run_points(points, square_and_tell, store=store, jobs=2, executor="ray",
                          progress=Progress(bar=False, describe=look))  # fmt: skip
    assert killed
    assert [outcome.row and outcome.row["squared"] for outcome in outcomes] == [n * n for n in (*range(11), 20)]
    rows = rows_of(store)
    assert len(rows) == 13  # with the one that was needed
    assert outcomes[-1].row
    assert outcomes[-1].row["needed"] == [120**2, 1]
    stores = {row["store"] for row in rows}
    assert str(own_store) not in stores
    assert not any(map(os.path.exists, stores))
    store.check()
    assert not list(store.points_folder("toy").glob(".tmp-*"))
    assert not list((store.points_folder("toy") / ".locks").iterdir())
    gpus = pytest.raises(BadRequest, match=r"offers [12] CPUs and 0 GPUs, and a point takes 1 CPU and 0\.5 GPUs")
    with gpus:
        run_points([ToyPoint(number=50)], square, store=store, jobs=1, executor="ray", gpus=0.5)


@pytest.mark.slow
def test_a_killed_driver_costs_its_points_in_flight(own_store: Path, tmp_path: Path, cluster: Any) -> None:
    store, traces = Store(own_store), tmp_path / "traces"
    points = [ToyPoint(number=n, traces=str(traces)) for n in range(30)]
    script = (
        "from toy import *; from labkit.lab import run_points\n"
        f"points = [ToyPoint(number=n, traces={str(traces)!r}) for n in range(30)]\n"
        "run_points(points, square_slowly, jobs=1, executor='ray')\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.DEVNULL) as process:
        while sum(store.result(point) is not None for point in points) < 3:
            assert process.poll() is None
            time.sleep(0.05)
        process.kill()
    recorded = [row["number"] for row in rows_of(store)]
    while any(map(in_use, tmp_path.glob(f"{SCRATCH}*"))):  # its tasks end, too
        time.sleep(0.05)
    outcomes = run_points(points, square, store=store, jobs=1, executor="ray")
    assert [outcome.row and outcome.row["squared"] for outcome in outcomes] == [n * n for n in range(30)]
    measured = Counter(map(int, traces.read_text().split()))
    assert set(measured) == set(range(30))
    assert {measured[number] for number in recorded} == {1}
    assert not list(tmp_path.glob(f"{SCRATCH}*"))
    assert {path.name for path in store.points_folder("toy").iterdir()} == {*(p.address for p in points), ".locks"}
    assert not list((store.points_folder("toy") / ".locks").iterdir())


@contextmanager
def listening(answer: bytes = b"") -> Iterator[int]:
    """A port on which somebody listens who is no cluster."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            talk, _ = server.accept()
            with talk:
                talk.sendall(answer)
                talk.recv(1000)
                done.wait()

        done = threading.Event()
        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1]
        done.set()


def test_somebody_else_who_listens_is_no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port, pytest.raises(BadRequest, match="something else"):
        check_address(f"127.0.0.1:{port}")
    monkeypatch.setattr("labkit.lab.cluster.ANSWER", 0.1)
    with listening() as port, pytest.raises(BadRequest, match="no answer in time"):
        check_address(f"127.0.0.1:{port}")


def test_a_folder_comes_back_as_it_was_sent(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "weights ü").write_bytes(bytes(range(256)) * 999)
    (tmp_path / "a" / "empty").touch()
    unpack(packed(tmp_path / "a"), tmp_path / "c")
    files = {
        path.relative_to(tmp_path / "c"): path.read_bytes() for path in (tmp_path / "c").rglob("*") if path.is_file()
    }
    assert files == {Path("b/weights ü"): bytes(range(256)) * 999, Path("empty"): b""}
    unpack(packed(tmp_path / "none"), tmp_path / "d")
    assert list((tmp_path / "d").iterdir()) == []
