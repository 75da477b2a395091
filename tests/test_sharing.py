"""Several sweeps on one store share the work and wait for nobody; no start of a point looks at the whole store."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from filelock import FileLock
from toy import ToyPoint, rows_of, square

from labkit.lab import Progress, Store, run_points
from labkit.lab.work import Agenda, Outcome
from labkit.lab.workers import _idle

HERE = Path(__file__).parent
SWEEP = (
    "import sys; from pathlib import Path; from toy import *; from labkit.lab import *\n"
    "ready, go = Path(sys.argv[1]), Path(sys.argv[2])\n"
    "run_points([ToyPoint(number=-os.getpid())], square, jobs=0)\n"  # all that is imported late is there
    "ready.touch()\n"
    "while not go.exists(): time.sleep(.01)\n"
    "done = run_points([ToyPoint(number=n, traces=sys.argv[3]) for n in range(24)], square_slowly, jobs=0)\n"
    "print('ours', sum(outcome.ours for outcome in done), sum(outcome.row is not None for outcome in done))\n"
)


@pytest.fixture
def store(own_store: Path) -> Store:
    return Store(own_store)


@pytest.mark.parametrize("sweeps", [2, 4])
def test_sweeps_of_one_store_share_its_points(store: Store, tmp_path: Path, sweeps: int) -> None:
    """Each does a part, none waits while a point is free: a point sleeps so long that all are at work at once."""
    traces, go = tmp_path / "traces", tmp_path / "go"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), *sys.path])}
    words = [[str(tmp_path / f"ready {n}"), str(go), str(traces)] for n in range(sweeps)]
    running = [
        subprocess.Popen([sys.executable, "-c", SWEEP, *more], env=environment, stdout=subprocess.PIPE, text=True)
        for more in words
    ]
    while not all(Path(more[0]).exists() for more in words):
        assert all(process.poll() is None for process in running)
    go.touch()
    said = [process.communicate(timeout=180)[0] for process in running]
    parts = [line.split() for text in said for line in text.splitlines() if line.startswith("ours")]
    assert [int(part[2]) for part in parts] == [24] * sweeps  # each has all rows at the end
    assert sum(int(part[1]) for part in parts) == 24
    assert min(int(part[1]) for part in parts) >= 2
    assert Counter(traces.read_text().split()) == Counter(map(str, range(24)))
    squares = {row["number"]: row["squared"] for row in rows_of(store) if row["number"] >= 0}
    assert squares == {n: n * n for n in range(24)}
    assert not list(store.points_folder("toy").glob(".tmp-*"))
    assert not list((store.points_folder("toy") / ".locks").iterdir())


def test_a_point_that_another_process_is_at_comes_last(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    points = [ToyPoint(number=n) for n in range(5)]
    locks = store.points_folder("toy") / ".locks"
    locks.mkdir(parents=True)
    other = FileLock(locks / f"{points[0].address}.lock")
    other.acquire()
    order = []

    def describe(row: dict) -> str:
        order.append(row["number"])
        if len(order) == 4:
            other.release()
        return ""

    outcomes = run_points(points, square, store=store, jobs=0, progress=Progress(bar=False, describe=describe))
    assert order[-1] == 0
    assert all(outcome.ours for outcome in outcomes)
    assert "waiting for points that another process measures" not in capsys.readouterr().out.split("[4/5]")[0]


def test_a_sweep_alone_keeps_the_order_and_one_that_meets_another_takes_its_own(store: Store) -> None:
    groups = [[ToyPoint(number=n)] for n in range(200)]
    alone = Agenda(groups, store)
    for group in groups:
        assert alone.next() == group
        alone.settle(group, [Outcome(group[0], {})])
    assert not alone
    met = Agenda(groups, store)
    first = met.next()
    assert first
    met.settle(first, [])
    rest = [met.next() for _ in range(199)]
    assert met.next() is None  # not yet: the other process is at it
    assert sorted(group[0].number for group in rest if group) == list(range(1, 200))
    assert rest != groups[1:]
    assert met


def test_workers_stay_warm_for_the_next_sweep_of_the_same_surroundings(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), *sys.path]))

    def processes(*numbers: int) -> set[int]:
        run_points([ToyPoint(number=n) for n in numbers], square, store=store, jobs=1)
        return {worker.process.pid or 0 for worker in _idle if worker.usable()}

    first = processes(1, 2)
    assert processes(3, 4) == first
    monkeypatch.setenv("LABKIT_TEACHER_URL", "http://127.0.0.1:1")  # of which the warm one knows nothing
    assert len(processes(5) - first) == 1


def test_the_start_of_a_point_does_not_grow_with_the_store(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between a point's start and its end nothing lists the study's folder, whatever it holds."""
    listed = []
    for name in ("listdir", "scandir"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda path=".", real=real: listed.append(str(path)) or real(path))
    store.measure(ToyPoint(number=1), square)
    listed.clear()
    store.measure(ToyPoint(number=2), square)
    assert [path for path in listed if Path(path) == store.points_folder("toy")] == []
