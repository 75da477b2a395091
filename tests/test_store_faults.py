"""A store in trouble: one sentence, and what was recorded is still read, whatever the disk, the clock or the path."""

import json
import os
import time
from pathlib import Path

import pytest
from command import labkit
from toy import ToyPoint, rows_of, square

from labkit import BadRequest
from labkit.lab import Store, run_points
from labkit.lab.query import query


@pytest.fixture
def store(own_store: Path) -> Store:
    """With points 1 and 2."""
    store = Store(own_store)
    run_points([ToyPoint(number=n) for n in (1, 2)], square, store=store, jobs=0)
    return store


def shown(store: Store) -> list[int]:
    """What `labkit results` shows of it."""
    done = labkit("results", "toy", "--format", "json", LABKIT_RUNS=str(store.root))
    assert done.returncode == 0, done.stderr
    return sorted(row["squared"] for row in json.loads(done.stdout))


def test_a_read_only_store_is_read_and_not_written(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path, *_: object, **__: object) -> None:
        raise OSError(30, os.strerror(30), str(path))

    monkeypatch.setattr(Path, "touch", refused)  # root may write what is read-only to others: so the disk refuses
    monkeypatch.setattr(Path, "mkdir", refused)
    with pytest.raises(BadRequest, match="Read-only file system; name a writable folder") as refusal:
        run_points([ToyPoint(number=3)], square, store=store, jobs=0)
    assert str(store.root) in str(refusal.value)
    assert shown(store) == [1, 4]
    assert query(store, "toy", "select sum(squared) as total from toy")["total"].tolist() == [5]
    for words in (["check"], ["prune"]):
        assert labkit("store", *words).returncode == 0
    assert labkit("store", "prune", "--yes").returncode == 2


def test_a_point_of_a_newer_version_is_read_and_measured_anew_by_none(store: Store) -> None:
    folder = store.points_folder("toy") / "0123456789abcdef"
    folder.mkdir()
    point = {"study": "toy", "version": 9, "number": 7, "mystery": [1]}
    row = {"address": folder.name, **point, "squared": 50, "finished": "2030-01-01T00:00:00+0000", "seal": None}
    (folder / "point.json").write_text(json.dumps(point))
    (folder / "result.json").write_text(json.dumps(row))
    run_points([ToyPoint(number=7)], square, store=store, jobs=0)
    assert shown(store) == [1, 4, 49, 50]
    assert json.loads((folder / "result.json").read_text()) == row


def test_a_clock_that_goes_back_loses_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(10**9, 0, -(10**5)))
    for name in ("time", "monotonic"):
        monkeypatch.setattr(time, name, lambda: float(next(now)))
    run_points([ToyPoint(number=n) for n in (1, 2, 3)], square, store=store, jobs=0)
    monkeypatch.undo()
    assert sorted(row["squared"] for row in rows_of(store)) == [1, 4, 9]


@pytest.mark.parametrize("jobs", [0, 1])
@pytest.mark.parametrize("name", ["Läufe €  {x} 'a'", "日本 語\n*[ab]?", "$HOME #1 %s"])
def test_any_path_will_do(tmp_path: Path, name: str, jobs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    store = Store(tmp_path / name)
    run_points([ToyPoint(number=1)], square, store=store, jobs=jobs)
    (store.points_folder("toy") / f".tmp-{ToyPoint(number=1).address}-dead").mkdir()
    run_points([ToyPoint(number=n) for n in (1, 2)], square, store=store, jobs=jobs)
    assert shown(store) == [1, 4]
    assert [path.name for path in store.points_folder("toy").iterdir() if path.name.startswith(".")] in (
        [".locks"],
        [".locks", f".tmp-{ToyPoint(number=1).address}-dead"],
        [f".tmp-{ToyPoint(number=1).address}-dead", ".locks"],
    )
