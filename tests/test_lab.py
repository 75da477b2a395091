"""The store and the sweep: nothing finished is lost or done twice, whatever happens to the processes."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
from filelock import FileLock
from toy import (
    ShapedPoint,
    ToyPoint,
    rows_of,
    square,
    square_but_not_13,
    square_many,
    square_many_or_die,
    square_or_die,
    square_to_nan,
)

from labkit import BadRequest
from labkit.lab import NoWorker, Progress, Record, Row, Store, SweepFailed, default_fleet, fleets, run_points, sweep
from labkit.lab.marks import Marks
from labkit.lab.query import query
from labkit.lab.store import Measure
from labkit.lab.work import Outcome

HERE = Path(__file__).parent


@pytest.fixture
def store(own_store: Path) -> Store:
    return Store(own_store)


@pytest.fixture
def ray_here(in_ci: bool) -> None:
    if not in_ci and find_spec("ray") is None:
        pytest.skip("Ray is not installed (pip install 'labkit[ray]')")


@pytest.fixture
def worker_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HERE))  # spawned workers import `toy` too


def test_address_is_the_content() -> None:
    assert ToyPoint(number=3).address == ToyPoint(number=3).address
    assert ToyPoint(number=3).address != ToyPoint(number=4).address
    assert len(ToyPoint(number=3).address) == 16


@pytest.mark.parametrize("jobs", [0, 2])
def test_finished_points_are_never_measured_again(store: Store, tmp_path: Path, jobs: int, worker_path: None) -> None:
    traces = tmp_path / "traces"
    points = [ToyPoint(number=n, traces=str(traces)) for n in (1, 2, 3, 2)]
    first = sweep(points, square, store=store, jobs=jobs)
    again = sweep(points, square, store=store, jobs=jobs)
    assert [row["squared"] for row in first] == [1, 4, 9, 4]
    assert first == again
    assert sorted(traces.read_text().split()) == ["1", "2", "3"]


def test_workers_and_one_process_agree(store: Store, tmp_path: Path, worker_path: None) -> None:
    points = [ToyPoint(number=n) for n in range(5)]
    here = sweep(points, square, store=Store(tmp_path / "a"), jobs=0)
    there = sweep(points, square, store=Store(tmp_path / "b"), jobs=2)
    drop = lambda rows: [{k: v for k, v in row.items() if k != "finished"} for row in rows]  # noqa: E731
    assert drop(here) == drop(there)


@pytest.mark.parametrize("jobs", [0, 2])
def test_a_failing_point_is_recorded_and_stops_no_other(store: Store, jobs: int, worker_path: None) -> None:
    points = [ToyPoint(number=n) for n in (13, 1, 2)]
    with pytest.raises(SweepFailed, match="13 is not squared here"):
        sweep(points, square_but_not_13, store=store, jobs=jobs)
    assert store.result(points[1])["squared"] == 1
    assert store.result(points[2])["squared"] == 4
    error = json.loads((store.folder(points[0]) / "error.json").read_text())
    assert "square_but_not_13" in error["traceback"]
    assert sweep(points, square, store=store, jobs=jobs)[0]["squared"] == 169  # tried again, and replaced
    assert not (store.folder(points[0]) / "error.json").exists()


def on_ray(points: list[ToyPoint], measure: Measure, store: Store, attempts: int = 2) -> list[Outcome]:
    """On a busy machine Ray gives up its own start after 15 seconds that no setting reaches; then it starts again."""
    try:
        return run_points(points, measure, store=store, jobs=2, executor="ray")
    except Exception as error:
        if "timed out during startup" not in str(error) or attempts == 1:
            raise
        return on_ray(points, measure, store, attempts - 1)


@pytest.mark.slow
def test_ray_does_what_processes_do(store: Store, worker_path: None, ray_here: None) -> None:
    points = [ToyPoint(number=n) for n in (13, 1, 2)]
    outcomes = on_ray(points, square_but_not_13, store)
    assert [outcome.row and outcome.row["squared"] for outcome in outcomes] == [None, 1, 4]
    assert "13 is not squared here" in str(outcomes[0].error)
    died = on_ray(points, square_or_die, store)
    assert [outcome.row for outcome in died[1:]] == [outcome.row for outcome in outcomes[1:]]  # from the store
    assert "lost" in str(died[0].error)
    assert "lost" in json.loads((store.folder(points[0]) / "error.json").read_text())["error"]


def test_an_unknown_executor_is_refused(store: Store) -> None:
    with pytest.raises(BadRequest, match="unknown executor 'rai': did you mean 'ray'"):
        sweep([ToyPoint(number=6)], square, store=store, executor="rai")


@pytest.mark.parametrize(
    ("address", "sentence"),
    [("here", "named as host:port"), ("http://h:1/x", "named as host:port"), ("127.0.0.1:99999", "no Ray cluster"),
     ("ray://127.0.0.1:{port}", "no Ray cluster answers there")],
)  # fmt: skip
def test_an_address_without_a_cluster_is_one_sentence(
    address: str, sentence: str, store: Store, monkeypatch: pytest.MonkeyPatch, ray_here: None
) -> None:
    with socket.socket() as bound:  # nobody listens on it, and nobody else can
        bound.bind(("127.0.0.1", 0))
        monkeypatch.setenv("RAY_ADDRESS", address.format(port=bound.getsockname()[1]))
        with pytest.raises(BadRequest, match=sentence) as refusal:
            sweep([ToyPoint(number=6)], square, store=store, executor="ray")
    assert "\n" not in str(refusal.value)
    assert not list(store.root.glob("*/points/*/result.json"))


def test_a_killed_worker_costs_its_point_only(store: Store, worker_path: None) -> None:
    points = [ToyPoint(number=n) for n in (13, 1, 2, 3)]
    outcomes = run_points(points, square_or_die, store=store, jobs=2)
    assert [outcome.row is None for outcome in outcomes] == [True, False, False, False]
    assert "died" in str(outcomes[0].error)
    assert "died" in json.loads((store.folder(points[0]) / "error.json").read_text())["error"]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_killed_sweep_keeps_what_was_finished(store: Store, how: signal.Signals) -> None:
    script = (
        "from toy import *; from labkit.lab import *\n"
        "if __name__ == '__main__':\n"
        "    sweep([ToyPoint(number=n) for n in range(200)], square_slowly, jobs=2)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(HERE)},
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    points = [ToyPoint(number=n) for n in range(200)]
    while sum(store.result(point) is not None for point in points) < 3:
        assert process.poll() is None
        time.sleep(0.05)
    workers = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(how)
    process.wait(timeout=120)
    assert psutil.wait_procs(workers, timeout=120)[1] == []  # whose parent is killed finishes its point and leaves
    kept = [point for point in points if store.result(point) is not None]
    assert 3 <= len(kept) < 200
    rows = sweep(points, square, store=store, jobs=0)
    assert [row["squared"] for row in rows] == [n * n for n in range(200)]


def test_workers_that_cannot_start_stop_the_sweep(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.path", [path for path in sys.path if path != str(HERE)])
    monkeypatch.delenv("PYTHONPATH", raising=False)  # so that no worker can import `toy`
    points = [ToyPoint(number=n) for n in range(40)]
    with pytest.raises(NoWorker, match=r"3 workers died before the first result.* No module named 'toy'"):
        run_points(points, square, store=store, jobs=2)
    assert not list(store.points_folder("toy").glob("*"))  # no point is to blame
    outcomes = run_points(points[:1], square, store=store, jobs=2)  # too few to tell
    assert "No module named 'toy'" in str(outcomes[0].error)


def test_recording_a_dead_worker_leaves_the_work_of_others_alone(store: Store) -> None:
    point = ToyPoint(number=4)
    points = store.points_folder("toy")
    live = points / f".tmp-{point.address}-live"
    live.mkdir(parents=True)
    (points / ".locks").mkdir()
    with FileLock(points / ".locks" / f"{point.address}.lock"):  # another process is at it
        store.fail(point, "died", "")
    assert live.exists()
    assert not store.folder(point).exists()
    sweep([point], square, store=store, jobs=0)
    store.fail(point, "died", "")
    assert store.result(point)["squared"] == 16


def test_a_result_that_cannot_be_written_is_a_recorded_failure(store: Store) -> None:
    point = ToyPoint(number=4)
    with pytest.raises(SweepFailed, match="not JSON compliant"):
        sweep([point], square_to_nan, store=store, jobs=0)
    assert "not JSON compliant" in json.loads((store.folder(point) / "error.json").read_text())["error"]
    assert not list(store.points_folder("toy").glob(".tmp-*"))


def test_queries_see_finished_points_only(store: Store) -> None:
    sweep([ToyPoint(number=n) for n in (1, 2)], square, store=store, jobs=0)
    half = store.points_folder("toy") / ".tmp-0123456789abcdef-dead"
    half.mkdir()
    (half / "result.json").write_text('{"squared": ')
    assert sorted(query(store, "toy")["squared"]) == [1, 4]
    assert query(store, sql="select sum(squared) as total from toy")["total"].tolist() == [5]


def test_the_bar_shows_done_rate_and_time_left(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    points = [ToyPoint(number=n) for n in (1, 2, 3)]
    sweep(points, square, store=store, jobs=0, progress=Progress(bar=True, describe=lambda row: f"={row['squared']}"))
    last = capsys.readouterr().err.replace("\r", "\n").splitlines()[-1]
    assert "3/3" in last
    assert "point/s" in last
    assert "<00:00" in last


def test_two_processes_share_a_store(store: Store, tmp_path: Path) -> None:
    traces = tmp_path / "traces"
    script = (
        "from toy import *; from labkit.lab import *\n"
        f"sweep([ToyPoint(number=n, traces={str(traces)!r}) for n in range(6)], square_slowly, jobs=0)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(HERE)}
    both = [subprocess.Popen([sys.executable, "-c", script], env=environment) for _ in range(2)]
    assert [process.wait(timeout=180) for process in both] == [0, 0]
    assert sorted(traces.read_text().split()) == list("012345")


def test_half_written_points_are_ignored_and_redone(store: Store) -> None:
    point = ToyPoint(number=5)
    left = store.points_folder("toy") / f".tmp-{point.address}-dead"
    left.mkdir(parents=True)
    (left / "result.json").write_text('{"squared": ')
    assert store.result(point) is None
    assert sweep([point], square, store=store, jobs=0)[0]["squared"] == 25
    assert not left.exists()


@pytest.mark.parametrize("damage", ['{"squared": ', "[]", '{"address": "another"}'])
def test_a_damaged_result_is_named_and_left_alone(store: Store, damage: str) -> None:
    point = ToyPoint(number=5)
    sweep([point], square, store=store, jobs=0)
    path = store.folder(point) / "result.json"
    path.write_text(damage)
    with pytest.raises(BadRequest, match="damaged result") as refusal:
        sweep([point, ToyPoint(number=6)], square, store=store, jobs=0)
    assert str(path) in str(refusal.value)
    assert path.read_text() == damage
    assert store.result(ToyPoint(number=6)) is None


@pytest.mark.parametrize("name", ["result.json", "point.json"])
@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to(path)])
def test_what_is_no_file_is_damage_and_is_not_waited_for(store: Store, name: str, make: Callable[[Path], None]) -> None:
    sweep([ToyPoint(number=5), ToyPoint(number=6)], square, store=store, jobs=0)
    path = store.folder(ToyPoint(number=5)) / name
    path.unlink()
    make(path)
    rows, complaints = store.read("toy")
    assert ([row["number"] for row in rows], len(complaints)) == ([6], 1)


def test_a_foreign_file_is_named_before_any_work(store: Store) -> None:
    sweep([ToyPoint(number=5)], square, store=store, jobs=0)
    (store.points_folder("toy") / "holiday.jpg").touch()
    with pytest.raises(BadRequest, match=r"foreign entry.*holiday\.jpg"):
        sweep([ToyPoint(number=6)], square, store=store, jobs=0)


def test_an_unwritable_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadRequest, match="cannot write"):
        sweep([ToyPoint(number=6)], square, store=Store(tmp_path / "file" / "runs"), jobs=0)


def test_the_log_is_kept_beside_the_result(store: Store) -> None:
    point = ToyPoint(number=7)
    sweep([point], square, store=store, jobs=0)
    assert store.log("toy", point.address) == [{"step": 1, "number": 7}]
    assert store.find(point.address[:6]) == store.folder(point)
    with pytest.raises(BadRequest, match="no finished point"):
        store.find("zzz")


def test_batch_progress_is_plain_lines(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(bar=False, describe=lambda row: f"squared {row['squared']}")
    sweep([ToyPoint(number=1)], square, store=store, jobs=0)
    sweep([ToyPoint(number=n) for n in (1, 2, 3)], square, store=store, jobs=0, progress=progress)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "1 points, 0 of them already in the store"
    assert "3 points, 1 of them already in the store" in lines
    assert lines[-1].startswith("[3/3]")
    assert lines[-1].endswith("squared 9")


def test_points_of_one_shape_form_fleets() -> None:
    points = [ShapedPoint(number=n, colour=colour) for n in range(5) for colour in ("red", "blue")]
    groups = fleets(points, 3)
    assert [point for group in groups for point in group] != points
    assert sorted(len(group) for group in groups) == [2, 2, 3, 3]
    assert all(len({point.colour for point in group}) == 1 for group in groups)
    assert {point.address for group in groups for point in group} == {point.address for point in points}
    assert fleets([ToyPoint(number=n) for n in range(3)], 3) == [[ToyPoint(number=n)] for n in range(3)]  # no shape
    assert fleets(points, 1) == [[point] for point in points]


@pytest.mark.parametrize("jobs", [0, 2])
def test_a_sweep_measures_fleets_where_told_to(
    store: Store, jobs: int, worker_path: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABKIT_FLEET", "3")
    points = [ShapedPoint(number=n) for n in range(4)]
    sweep(points[:1], square, store=store, jobs=0)
    rows = sweep(points, square, measure_many=square_many, store=store, jobs=jobs)
    assert [row["squared"] for row in rows] == [0, 1, 4, 9]
    fleet = {0: [3, 3, 3], 2: [2, 2, None]}[jobs]  # of two workers none goes without
    assert [row.get("together") for row in rows] == [None, *fleet]
    assert rows == sweep(points, square, store=store, jobs=0)  # from the store
    assert len(store.log("toy", rows[1]["address"])) == 1


@pytest.mark.parametrize("jobs", [0, 2])
def test_a_fleet_that_fails_is_halved_until_the_culprit_stands_alone(
    store: Store, jobs: int, worker_path: None
) -> None:
    points = [ShapedPoint(number=n) for n in (1, 13, 2, 3, 4)]
    outcomes = run_points(points, square_but_not_13, measure_many=square_many, store=store, jobs=jobs, fleet=8)
    assert [outcome.row and outcome.row["squared"] for outcome in outcomes] == [1, None, 4, 9, 16]
    assert "13 is not squared here" in (outcomes[1].error or "")
    assert (store.folder(points[1]) / "error.json").exists()
    assert not list(store.points_folder("toy").glob(".tmp-*"))


def test_a_wrong_fleet_size_is_refused_before_anything_starts(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_FLEET", "0")
    with pytest.raises(BadRequest, match="LABKIT_FLEET = '0' must be a whole number, 1 or more"):
        sweep([ShapedPoint(number=1)], square, measure_many=square_many, store=store, jobs=0)
    assert rows_of(store) == []
    monkeypatch.delenv("LABKIT_FLEET")
    assert default_fleet() >= 1


def test_a_fleet_whose_process_dies_costs_the_culprit_alone(store: Store, worker_path: None) -> None:
    points = [ShapedPoint(number=n) for n in (1, 13, 2, 3)]
    outcomes = run_points(points, square_or_die, measure_many=square_many_or_die, store=store, jobs=1, fleet=4)
    assert [outcome.row and outcome.row["squared"] for outcome in outcomes] == [1, None, 4, 9]
    assert "the worker process died" in (outcomes[1].error or "")


def test_rows_written_before_a_bad_one_are_kept(store: Store) -> None:
    points = [ShapedPoint(number=n) for n in (1, 2, 3)]

    def third_is_nan(points: list[ShapedPoint], records: list[object]) -> list[dict]:
        return [{"squared": float("nan") if point.number == 3 else point.number**2} for point in points]

    with pytest.raises(ValueError, match="not JSON compliant"):
        store.measure_many(points, third_is_nan)
    assert [row["squared"] for row in rows_of(store)] in ([1, 4], [4, 1])
    assert not list(store.points_folder("toy").glob(".tmp-*"))


def test_what_a_failed_attempt_left_in_its_lasting_folder_is_there_for_the_next(store: Store) -> None:
    def interrupted(point: ToyPoint, record: Record) -> Row:
        record.lasting.mkdir()
        (record.lasting / "checkpoint").write_text("half way")
        raise RuntimeError("killed")

    def resumed(point: ToyPoint, record: Record) -> Row:
        return {"found": (record.lasting / "checkpoint").read_text()}

    with pytest.raises(RuntimeError):
        store.measure(ToyPoint(number=1), interrupted)
    assert store.measure(ToyPoint(number=1), resumed)["found"] == "half way"
    assert not list(store.points_folder("toy").glob(".work-*"))


# Progress for machines


class Marked(ToyPoint):
    steps: int = 20


def marking(point: Marked, record: Record) -> Row:
    """Logs one line at its start, and stays until that has been told, or for a minute."""
    record.log(step=1, loss=2.5, seconds=0.1)
    end = time.monotonic() + 60
    while not TOLD and time.monotonic() < end:
        time.sleep(0.01)
    return {"loss": 0.5, "squared": point.number**2}


TOLD: list[str] = []


def test_a_learning_curve_is_told_while_its_point_is_measured(
    store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first mark comes while the point is at work, and every event is one JSON object on standard error."""
    monkeypatch.setenv("LABKIT_PROGRESS", "json")
    monkeypatch.setattr("labkit.lab.marks.LOOK", 0.01)
    TOLD.clear()
    progress, mark = Progress.default(), Progress.mark
    monkeypatch.setattr(Progress, "mark", lambda self, *told: (mark(self, *told), TOLD.append("told"))[0])
    run_points([Marked(number=3), Marked(number=4)], marking, store=store, jobs=0, progress=progress)
    events = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [one["event"] for one in events][:3] == ["start", "mark", "point"]
    assert events[1] | {"elapsed": 0} == {
        "event": "mark", "point": Marked(number=3).address, "step": 1, "steps": 20, "loss": 2.5, "elapsed": 0
    }  # fmt: skip
    points = [one for one in events if one["event"] == "point"]
    assert [one["done"] for one in points] == [1, 2]
    assert points[0]["left"] == pytest.approx(points[0]["elapsed"], abs=0.2), "as long again for the second of two"
    assert points[0]["loss"] == 0.5
    assert events[-1]["event"] == "end"


def test_marks_are_told_once_and_half_lines_not_yet(store: Store) -> None:
    folder = store.points_folder("toy") / f".tmp-{'a' * 16}-here-1"
    folder.mkdir(parents=True)
    (folder / "log.jsonl").write_text('{"step": 1}\n{"step": 2')
    marks = Marks(store)
    assert marks.new(["toy"]) == [("a" * 16, {"step": 1})]
    with (folder / "log.jsonl").open("a") as file:
        file.write("0}\n")
    assert marks.new(["toy"]) == [("a" * 16, {"step": 20})]
    assert marks.new(["toy"]) == []


def test_plain_lines_have_marks_until_the_first_point_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(bar=False)
    progress.start(total=2, already=0)
    progress.mark("abc", {"step": 1, "loss": 3.25891, "accuracy_unseen": 0.0, "seconds": 0.1}, 750)
    progress.step({"address": "abc"})
    progress.mark("def", {"step": 1, "loss": 3.2})
    assert "  abc step 1 of 750: loss 3.26, unseen 0\n" in (said := capsys.readouterr().out)
    assert "def" not in said


def test_points_of_others_tell_nothing_of_the_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress(bar=False)
    progress.start(total=3, already=0)
    progress.step({"address": "abc"}, ours=False)
    progress.step({"address": "def"})
    first, second = capsys.readouterr().out.splitlines()[1:]
    assert "? left" in first
    assert "0:00 left" in second


def test_an_unknown_form_of_progress_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_PROGRESS", "xml")
    with pytest.raises(BadRequest, match="unknown progress 'xml'"):
        Progress.default()
