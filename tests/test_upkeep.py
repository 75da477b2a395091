"""The store looked after: damage named, two stores merged, what no run refers to removed; nothing else is touched."""

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from command import Done, labkit
from toy import ToyPoint, rows_of, square, square_but_not_13

from labkit import studies
from labkit.design.scratch import HERE
from labkit.lab import Point, Store, run_points
from labkit.studies.past import label_of


class Heir(ToyPoint):
    """A point that needs another one."""

    of: int

    def needs(self) -> Sequence[Point]:
        return [ToyPoint(number=self.of)]


@pytest.fixture
def store(own_store: Path) -> Store:
    """Points 1 to 5, of which a run shows 2 and one that needed 1; point 13 failed, 14 was interrupted."""
    store = Store(own_store)
    heir = Heir(number=6, of=1)
    run_points([heir, *(ToyPoint(number=n) for n in (1, 2, 3, 4, 5, 13))], square_but_not_13, store=store, jobs=0)
    run_at(store, "one", [ToyPoint(number=2), heir])
    (store.points_folder("toy") / f".work-{ToyPoint(number=14).address}").mkdir()
    (store.root / "toy" / "runs" / "broken").mkdir()
    (store.root / "toy" / "runs" / "broken" / "failed.ipynb").touch()
    return store


def run_at(store: Store, name: str, points: Sequence[Point], finding: str = "f") -> Path:
    folder = store.root / "toy" / "runs" / name
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{"study": "toy", "address": point.address} for point in points]
    result = {"study": "toy", "params": {}, "scale": "laptop", "finding": finding, "points": rows}
    (folder / "result.json").write_text(json.dumps(result))
    return folder


def contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def done(code: int, *words: str | Path) -> Done:
    found = labkit("store", *words)
    assert found.returncode == code, found
    assert "Traceback" not in found.stderr
    return found


def numbers(store: Store) -> set[int]:
    return {row["number"] for row in rows_of(store)}


def test_merge_leaves_what_is_no_point_of_ours(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with a point's name that holds something else: named, and still there."""
    other, address = Store(tmp_path / "other"), ToyPoint(number=9).address
    run_points([ToyPoint(number=9)], square, store=other, jobs=0)
    foreign = store.points_folder("toy") / address
    foreign.mkdir()
    (foreign / "notes.txt").write_text("precious")
    assert "is not the folder of a point" in done(1, "merge", other.root).stdout
    assert (foreign / "notes.txt").read_text() == "precious"
    assert [path.name for path in foreign.iterdir()] == ["notes.txt"]
    monkeypatch.setenv("LABKIT_RUNS", str(foreign / "notes.txt"))
    for what in ("check", "prune"):
        assert "notes.txt is no folder, and so no store" in done(2, what).stderr


def test_prune_lists_first_and_keeps_what_a_run_refers_to(store: Store) -> None:
    before = contents(store.root)
    listed = done(0, "prune")
    assert contents(store.root) == before
    assert (
        "would be removed (add --yes): 1 x checkpoint of an unfinished point, 1 x failed point, 3 x point of no run, "
    )
    assert "1 x run without a result" in listed.stdout
    assert "removed: " in done(0, "prune", "--yes").stdout
    assert numbers(store) == {1, 2, 6}  # 1 was needed for what the run shows
    assert sorted(path.name for path in store.points_folder("toy").iterdir() if path.name != ".locks") == sorted(
        point.address for point in (ToyPoint(number=1), ToyPoint(number=2), Heir(number=6, of=1))
    )
    assert [path.name for path in (store.root / "toy" / "runs").iterdir()] == ["one"]
    assert "removed: nothing" in done(0, "prune", "--yes").stdout
    done(0, "check")


def test_prune_leaves_a_point_that_somebody_is_at(store: Store) -> None:
    with store.lock("toy", ToyPoint(number=3).address):
        done(0, "prune", "--yes")
    assert numbers(store) == {1, 2, 3, 6}


def test_prune_refuses_where_nobody_knows_what_is_referred_to(store: Store) -> None:
    live = store.root / "toy" / "runs" / "live"
    live.mkdir()
    (live / f".tmp-{HERE}-{os.getpid()}.ipynb").touch()
    before = contents(store.root)
    assert "a run is under way" in done(2, "prune", "--yes").stderr
    (live / f".tmp-{HERE}-{os.getpid()}.ipynb").unlink()
    (live / "result.json").write_text("{")
    assert "cannot be read" in done(2, "prune", "--yes").stderr
    (live / "result.json").unlink()
    assert {**before, "x": b""}.keys() - contents(store.root).keys() == {
        "x",
        f"toy/runs/live/.tmp-{HERE}-{os.getpid()}.ipynb",
    }


def test_prune_keeps_every_finished_point_while_an_older_one_does_not_say_what_it_needed(store: Store) -> None:
    path = store.folder(Heir(number=6, of=1)) / "provenance.json"
    path.write_text(json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key != "needs"}))
    assert "every finished point is kept" in done(0, "prune", "--yes").stdout
    assert numbers(store) == {1, 2, 3, 4, 5, 6}
    assert not store.folder(ToyPoint(number=13)).exists()


def test_two_stores_become_one(store: Store, tmp_path: Path) -> None:
    other = Store(tmp_path / "other")
    run_points([ToyPoint(number=n) for n in (3, 4, 7, 8)], square, store=other, jobs=0)
    run_at(other, "two", [ToyPoint(number=7)])
    run_at(other, "one", [ToyPoint(number=2), Heir(number=6, of=1)])
    before, theirs = contents(store.root), contents(other.root)
    assert "3 points and runs copied, 3 were there already" in done(0, "merge", other.root).stdout
    assert numbers(store) == {1, 2, 3, 4, 5, 6, 7, 8}
    assert {name: data for name, data in contents(store.root).items() if name in before} == before
    assert contents(other.root) == theirs
    done(0, "check")
    assert "0 points and runs copied, 6 were" in done(0, "merge", other.root).stdout


def test_what_differs_or_is_damaged_is_named_and_left(store: Store, tmp_path: Path) -> None:
    other = Store(tmp_path / "other")
    points = [ToyPoint(number=n) for n in (3, 7, 8)]
    run_points(points, lambda point, record: {"squared": -1}, store=other, jobs=0)
    run_at(other, "one", [points[1]], finding="another")
    (other.folder(points[2]) / "provenance.json").write_text("")
    before = contents(store.root)
    merged = done(1, "merge", other.root)
    assert f"conflict: point toy {points[0].address}: squared: 9 before, -1 now" in merged.stdout
    assert "conflict: run one: finding: f before, another now" in merged.stdout
    assert f"{points[2].address}/provenance.json is empty, cut or missing" in merged.stdout
    assert contents(store.root).items() >= before.items()
    assert numbers(store) == {1, 2, 3, 4, 5, 6, 7}


def test_all_damage_is_named(store: Store) -> None:
    (store.folder(ToyPoint(number=2)) / "result.json").write_text("{")
    os.truncate(store.folder(ToyPoint(number=3)) / "log.jsonl", 2)
    (store.root / "toy" / "runs" / "one" / "result.json").write_text("[]")
    run_at(store, "two", [ToyPoint(number=2), ToyPoint(number=99)])
    checked = done(1, "check", "toy")
    for words in ("damaged result", "log.jsonl is empty, cut", "damaged run", "two shows 2 points that cannot be read"):
        assert words in checked.stdout
    assert "4 complaints" in checked.stderr
    assert "did you mean 'toy'" in done(2, "check", "toi").stderr
    assert "is no other store" in done(2, "merge", store.root).stderr


def test_a_run_is_known_by_the_name_of_its_folder() -> None:
    study = studies.find("diversity_sweep")
    chosen = study.resolve({"scale": "smoke", "n_instructions": [4, 40], "steps": 5}).model_dump(mode="json")
    assert label_of(study, chosen) == "smoke-steps=5-n_instructions=4,40"
    assert label_of(study, study.resolve({}).model_dump(mode="json")) == "laptop"


def test_a_store_whose_names_are_odd_is_looked_after_as_any_other(tmp_path: Path) -> None:
    odd, other = Store(tmp_path / "Läufe €  {x} 'a'"), Store(tmp_path / "日本 語")
    run_points([ToyPoint(number=1)], square, store=odd, jobs=0)
    run_points([ToyPoint(number=2)], square, store=other, jobs=0)
    for words in (["merge", str(other.root)], ["check"], ["prune", "--yes"]):
        found = labkit("store", *words, LABKIT_RUNS=str(odd.root))
        assert (found.returncode, found.stderr) == (0, "")
    assert numbers(odd) == set()  # no run refers to them
    assert numbers(other) == {2}
    shutil.rmtree(other.root)
