"""Kill -9 of whatever a sweep or a run consists of, at random moments, again and again; then it is finished."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import nbformat
import psutil
import pytest
from killable import POINTS
from toy import ToyPoint, rows_of, square

from labkit.design.scratch import SCRATCH
from labkit.lab import Store, run_points, write_text
from labkit.lab.batch import Task, execute_all

HERE = Path(__file__).parent


class Series:
    """One command, started again and again; every process that it ever consisted of is remembered."""

    def __init__(self, store: Store, traces: Path, words: list[str]) -> None:
        self.store, self.traces, self.words = store, traces, [sys.executable, str(HERE / "killable.py"), *words]
        self.family: dict[int, psutil.Process] = {}
        self.measured: dict[int, int] = {}
        traces.touch()

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        path = os.pathsep.join([str(HERE), *sys.path])
        environment = {**os.environ, "PYTHONPATH": path, "KILLABLE": str(self.traces)}
        with subprocess.Popen(
            self.words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            yield process

    def kill(self, rng: random.Random, process: subprocess.Popen[bytes], parents: float) -> None:
        """Kill the command itself with the probability `parents`, else one of its other processes."""
        time.sleep(rng.uniform(0, 0.4))
        with suppress(psutil.NoSuchProcess):
            first = psutil.Process(process.pid)
            others = [
                child for child in first.children(recursive=True) if "resource_tracker" not in str(child.cmdline())
            ]
            self.family |= {child.pid: child for child in others}
            victim = first if not others or rng.random() < parents else rng.choice(others)
            victim.kill()
        self.look()

    def look(self) -> None:
        """How often each point that is recorded by now was measured until now."""
        recorded = {row["number"] for row in rows_of(self.store)}
        counts = Counter(map(int, self.traces.read_text().split()))
        self.measured = {number: counts[number] for number in recorded} | self.measured

    def check(self) -> None:
        """All is there, equal to what no kill disturbed, and nothing else is."""
        assert psutil.wait_procs(list(self.family.values()), timeout=60)[1] == []
        calm = {row["number"]: row["squared"] for row in rows_of(self.store)}
        assert calm == {n: n * n for n in range(len(POINTS))}
        self.look()
        assert self.measured == Counter(map(int, self.traces.read_text().split()))  # never again once it was recorded
        points = self.store.points_folder("toy")
        assert {path.name for path in points.iterdir()} == {*(point.address for point in POINTS), ".locks"}
        assert not list((points / ".locks").iterdir())


def test_what_a_killed_process_left_goes_with_the_next_write(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        pass
    (tmp_path / f"{SCRATCH}{gone.pid}.half").touch()
    (tmp_path / f"{SCRATCH}{gone.pid}.folder" / "within").mkdir(parents=True)
    kept = {f"{SCRATCH}{os.getpid()}.half", f".tmp-{'0' * 8}-{gone.pid}.half", "page.html"}  # at work, elsewhere, whole
    for name in kept:
        (tmp_path / name).touch()
    write_text(tmp_path / "page.html", "whole")
    assert {path.name for path in tmp_path.iterdir()} == kept


def test_a_sweep_that_is_killed_20_times_is_finished(own_store: Path, tmp_path: Path) -> None:
    series = Series(Store(own_store), tmp_path / "traces", [])
    rng, kills = random.Random(17), 0
    while kills < 20:
        with series.running() as process:
            while kills < 20 and process.poll() is None:
                series.kill(rng, process, parents=0.3)
                kills += 1
            process.kill() if kills == 20 else process.wait()
    with series.running() as process:
        assert process.wait() == 0
    series.check()


@pytest.mark.slow
def test_a_run_whose_kernel_or_parent_is_killed_is_finished(own_store: Path, tmp_path: Path) -> None:
    cells = [nbformat.v4.new_code_cell("scale = 'laptop'", metadata={"tags": ["parameters"]})]
    cells += [nbformat.v4.new_code_cell("import killable\nassert killable.swept()")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "n.ipynb")
    out, runtime = tmp_path / "out", tmp_path / "runtime"
    series = Series(Store(own_store), tmp_path / "traces", [str(tmp_path / "n.ipynb"), str(out)])
    rng = random.Random(4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_RUNTIME_DIR", str(runtime))
        patch.setenv("TMPDIR", str(tmp_path))
        for _ in range(4):
            with series.running() as process:
                while not psutil.Process(process.pid).children() and process.poll() is None:
                    time.sleep(0.05)  # until there is a kernel
                time.sleep(rng.uniform(0, 3))
                series.kill(rng, process, parents=0.5)
                process.kill() if rng.random() < 0.5 else process.wait()
        with series.running() as process:
            assert process.wait() == 0
    series.check()
    assert [path.name for path in out.iterdir()] == ["notebook.ipynb"]
    assert not list(runtime.glob("*.json"))


FATAL = """
import os, signal
from pathlib import Path
from killable import POINTS, square_after_a_moment
from labkit.lab import run_points, write_text

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def measured(point, record):
    if moment == f'in point {point.number}':
        die()
    if moment == f'before point {point.number} is there':
        os.fsync = die
    return square_after_a_moment(point, record)

assert all(outcome.row for outcome in run_points(POINTS[:6], measured, jobs=0))
if moment == 'in the result':
    os.fsync = die
write_text(Path(os.environ['LABKIT_RUN_DIR'], 'result.json'), '{"study": "toy"}')
"""


@pytest.mark.slow
def test_a_notebook_of_a_batch_whose_kernel_is_killed_at_the_worst_moments_goes_on(
    own_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), *sys.path]))
    monkeypatch.setenv("KILLABLE", str(tmp_path / "traces"))
    cells = [nbformat.v4.new_code_cell("moment = 'never'", metadata={"tags": ["parameters"]})]
    nbformat.write(nbformat.v4.new_notebook(cells=[*cells, nbformat.v4.new_code_cell(FATAL)]), tmp_path / "n.ipynb")
    for moment in ("in point 1", "before point 3 is there", "in the result", "never"):
        task = Task("toy", tmp_path / "n.ipynb", tmp_path / "out", {"moment": moment})
        ((_, failure, _),) = execute_all([task], Store(own_store), 1)
        assert failure is None if moment == "never" else "the kernel of n.ipynb died" in str(failure)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["notebook.ipynb", "result.json"]
    assert (tmp_path / "traces").read_text().split() == list("0123345")  # 3 was not recorded yet
    points = Store(own_store).points_folder("toy")
    assert {path.name for path in points.iterdir()} == {*(point.address for point in POINTS[:6]), ".locks"}
    assert not list((points / ".locks").iterdir())


def test_sigterm_ends_a_command_as_ctrl_c_does(own_store: Path) -> None:
    small = ["--scale", "smoke", "--set", "noop_shares=[]", "--grid", "seeds=1000,1001,1002,1003", "--jobs", "1"]
    words = [sys.executable, "-m", "labkit", "sweep", "diversity_sweep", *small, "--set", "steps=400"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        process.stdout.readline()  # the sweep has begun
        workers = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=120)[1]
    assert (process.returncode, said.splitlines()[-1].split(":")[0:2]) == (
        130,
        ["labkit", " interrupted; what was finished is in the store, and the same command goes on from there"],
    )
    assert psutil.wait_procs(workers, timeout=60)[1] == []
    assert not list(own_store.glob("*/points/.tmp-*"))


def test_the_look_before_a_sweep_bears_a_point_that_is_being_retried(own_store: Path, tmp_path: Path) -> None:
    """Another process fails at a point again and again, and at last measures it, while this one looks."""
    script = (
        "import sys; from toy import *\n"
        "store = Store(Path(sys.argv[1]))\n"
        "for _ in range(120):\n"
        "    try: store.measure(ToyPoint(number=13), square_but_not_13)\n"
        "    except ArithmeticError: pass\n"
        "store.measure(ToyPoint(number=13), square)\n"
    )
    store = Store(own_store)
    run_points([ToyPoint(number=1)], square, store=store, jobs=0)
    path = os.pathsep.join([str(HERE), *sys.path])
    looks = 0
    with subprocess.Popen(
        [sys.executable, "-c", script, str(own_store)], env={**os.environ, "PYTHONPATH": path}
    ) as process:
        while process.poll() is None:
            assert len(store.check("toy")) >= 1  # no word of anything foreign or damaged
            looks += 1
    assert process.returncode == 0
    assert looks > 1
    assert len(store.check("toy")) == 2
