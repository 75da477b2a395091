"""The store under faults: whichever write, sync or rename fails, nothing half-written counts, and a rerun goes on."""

import errno
import json
import os
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest
from faulty_files import KINDS, faulty_files
from toy import ShapedPoint, ToyPoint, rows_of

from labkit import BadRequest
from labkit.lab import Record, Row, Store, run_points, write_text

WEIGHTS = "weights " * 9


def train(point: ToyPoint, record: Record) -> Row:
    (record.folder / "model.json").write_text(WEIGHTS)  # as a study does: without a sync
    (record.folder / "adapter").mkdir()
    (record.folder / "adapter" / "weights.safetensors").write_text(WEIGHTS)
    record.log(step=1)
    return {"squared": point.number**2, "by_rule": {1: point.number}}


def train_all(points: list[ToyPoint], records: list[Record]) -> list[Row]:
    return [train(point, record) for point, record in zip(points, records, strict=True)]


def every_fault(work: Callable[[Path], object], folder: Path, kind: str, check: Callable[[Path], None]) -> None:
    """Do a piece of work again and again, each time with the next operation failing, and look at what is left."""
    for nth in count(1):
        root = folder / f"{nth}"
        root.mkdir()
        with faulty_files(root, nth, kind) as layer, suppress(OSError):
            work(root)
        with faulty_files(root, 10**9, kind):  # none: but quicker than real files
            check(root)
        if not layer.reached:
            assert nth > 5  # the layer did see the work
            return


@pytest.mark.parametrize("kind", KINDS)
def test_a_point_is_whole_or_not_there_whatever_fails(tmp_path: Path, kind: str) -> None:
    point = ToyPoint(number=3)

    def check(root: Path) -> None:
        store = Store(root)
        store.check()
        rows = rows_of(store)
        assert [row["squared"] for row in rows] in ([], [9])
        assert store.measure(point, train)["squared"] == 9  # the same call goes on
        assert [row["squared"] for row in rows_of(store)] == [9]
        assert (store.folder(point) / "model.json").read_text() == WEIGHTS
        store.check()
        store.tidy("toy")
        assert not list(store.points_folder("toy").glob(".tmp-*"))

    every_fault(lambda root: Store(root).measure(point, train), tmp_path, kind, check)


@pytest.mark.parametrize("kind", ["full", "power cut"])
def test_a_failed_point_that_is_tried_again_is_whole_or_not_there(tmp_path: Path, kind: str) -> None:
    points = [ShapedPoint(number=n) for n in (1, 2)]

    def refuse(point: ToyPoint, record: Record) -> Row:
        raise ValueError("not today")

    def work(root: Path) -> None:
        with suppress(ValueError):
            Store(root).measure(points[0], refuse)
        Store(root).measure_many(points, train_all)

    def check(root: Path) -> None:
        store = Store(root)
        store.check()
        assert all(row["squared"] in (1, 4) for row in rows_of(store))
        assert [row["squared"] for row in store.measure_many(points, train_all)] == [1, 4]
        store.tidy("toy")
        assert not list(store.points_folder("toy").glob("*/error.json"))

    every_fault(work, tmp_path, kind, check)


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_is_the_old_or_the_new_one(tmp_path: Path, kind: str) -> None:
    def work(root: Path) -> None:
        for n in (1, 2, 3):
            write_text(root / "text", f"{n} " * 9)

    def check(root: Path) -> None:
        if (root / "text").exists():
            assert (root / "text").read_text() in [f"{n} " * 9 for n in (1, 2, 3)]
        if kind in ("full", "broken"):
            assert {path.name for path in root.iterdir()} <= {"text"}

    every_fault(work, tmp_path, kind, check)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_sweep_ends_at_the_first_point_that_cannot_be_kept(tmp_path: Path, number: int) -> None:
    tried = []

    def third_finds_the_disk_full(point: ToyPoint, record: Record) -> Row:
        tried.append(point.number)
        if len(tried) == 3:
            raise RuntimeError(f"a library says: {os.strerror(number)} (os error {number})")
        return train(point, record)

    store = Store(tmp_path / "runs")
    with pytest.raises(OSError, match="the sweep stopped with 2 points to go") as stop:
        run_points([ToyPoint(number=n) for n in range(5)], third_finds_the_disk_full, store=store, jobs=0)
    assert (stop.value.errno, len(tried), len(rows_of(store))) == (number, 3, 2)
    assert not list(store.points_folder("toy").glob(".tmp-*"))


def test_a_fleet_on_a_full_disk_is_not_trained_again_in_halves(tmp_path: Path) -> None:
    tried = []

    def full(points: list[ToyPoint], records: list[Record]) -> list[Row]:
        tried.append(len(points))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    points = [ShapedPoint(number=n) for n in range(4)]
    with pytest.raises(OSError, match="No space left"):
        run_points(points, train, measure_many=full, store=Store(tmp_path), jobs=0, fleet=4)
    assert tried == [4]


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """The folder of a finished point."""
    store = Store(tmp_path)
    store.measure(ToyPoint(number=3), train)
    return store.folder(ToyPoint(number=3))


@pytest.mark.parametrize("name", ["model.json", "adapter/weights.safetensors", "log.jsonl"])
@pytest.mark.parametrize("left", [None, 0, 3])
def test_a_file_that_is_missing_empty_or_cut_is_named_before_work(finished: Path, name: str, left: int | None) -> None:
    if left is None:
        (finished / name).unlink()
    else:
        os.truncate(finished / name, left)
    with pytest.raises(BadRequest, match=rf"{name} is empty, cut or missing"):
        Store(finished.parents[2]).check()
    assert len(rows_of(Store(finished.parents[2]))) == 1  # what was measured is right, though


def test_an_empty_file_of_a_point_without_a_seal_is_named(finished: Path) -> None:
    path = finished / "result.json"
    row = json.loads(path.read_text())
    del row["seal"]
    path.write_text(json.dumps(row))
    store = Store(finished.parents[2])
    store.check()
    assert rows_of(store)[0]["squared"] == 9
    os.truncate(finished / "model.json", 0)
    with pytest.raises(BadRequest, match=r"model\.json is empty"):
        store.check()


@pytest.mark.parametrize(
    "edit",
    [
        {"squared": 0.99},
        {"squared": float("nan")},
        {"squared": "nine"},
        {"squared": None},
        {"by_rule": {"1": 4}},
        {"more": 1},
        {"seal": []},
        {"seal": {"row": "0" * 64, "files": {}}},
    ],
)
def test_an_edited_measurement_is_named(finished: Path, edit: Row) -> None:
    path = finished / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | edit))
    store = Store(finished.parents[2])
    with pytest.raises(BadRequest, match="damaged result") as refusal:
        store.check()
    assert str(path) in str(refusal.value)
    assert store.read("toy") == ([], [str(refusal.value)])


def test_a_result_nested_without_end_is_damaged(finished: Path) -> None:
    (finished / "result.json").write_text('{"a":' * 100_000)
    with pytest.raises(BadRequest, match="damaged result"):
        Store(finished.parents[2]).check()


def test_scratch_folders_of_dead_processes_are_swept_up_and_others_left(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.measure(ToyPoint(number=1), train)
    dead = store._scratch(ToyPoint(number=2))
    elsewhere = dead.with_name(f".tmp-{ToyPoint(number=4).address}-{'0' * 8}-{'0' * 8}")  # of another machine
    elsewhere.mkdir()
    run_points([ToyPoint(number=1)], train, store=store, jobs=0)
    assert (dead.exists(), elsewhere.exists()) == (False, True)
