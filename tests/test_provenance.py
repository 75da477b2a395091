"""What a point and a run were made with: beside the rows, which it does not change."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
from toy import ShapedPoint, ToyPoint, rows_of, square, square_many

from labkit import __version__, studies
from labkit.lab import Record, Row, Store, sweep
from labkit.lab.provenance import code
from labkit.studies.run import Run


@pytest.fixture
def store(own_store: Path) -> Store:
    return Store(own_store)


def test_every_point_says_what_it_was_made_with(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labkit.lab.store.code", lambda: {"labkit": __version__, "commit": "c0ffee", "dirty": True})
    (row,) = sweep([ToyPoint(number=3)], square, store=store, jobs=0)
    made = store.provenance("toy", row["address"])
    assert (made["commit"], made["dirty"], made["labkit"]) == ("c0ffee", True, __version__)
    assert made["device"]
    assert (made["threads"], made["points_measured_together"], made["precision"]) == (1, 1, None)
    assert made["wall_seconds"] >= 0
    assert made["processor_seconds"] >= 0
    assert made["peak_memory_mib"] > 0
    assert not set(made) & set(row) - {"precision"}  # nothing of it is in the row


def test_the_code_is_named_with_its_packages() -> None:
    found = code()
    assert set(found) == {"labkit", "commit", "dirty", "packages"}
    assert {"torch", "numpy", "transformers"} == set(found["packages"])
    assert found["commit"] is None or len(found["commit"]) == 40


def test_equal_points_have_equal_rows_whatever_they_cost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = []
    for commit in ("a", "b"):
        monkeypatch.setattr("labkit.lab.store.code", lambda commit=commit: {"commit": commit, "dirty": False})
        monkeypatch.setattr("labkit.lab.store.time.strftime", lambda _: "now")
        store = Store(tmp_path / commit)
        rows += sweep([ToyPoint(number=3)], square, store=store, jobs=0)
        rows += rows_of(store)
        store.check()
    assert all(row == rows[0] for row in rows)


def test_a_fleet_says_how_many_shared_its_seconds(store: Store) -> None:
    points = [ShapedPoint(number=n) for n in range(3)]
    rows = sweep(points, square, measure_many=square_many, store=store, jobs=0, fleet=3)
    assert [store.provenance("toy", row["address"])["points_measured_together"] for row in rows] == [3, 3, 3]


METER = """
import json, numpy as np
from labkit.lab.provenance import Meter
large = np.ones(300 << 17)  # 300 MiB, gone before the second meter starts
del large
small, second = Meter().read(), Meter()
large = np.ones(300 << 17)
sum(n * n for n in range(2_000_000))
print(json.dumps([small, second.read()]))
"""


def test_a_meter_sees_time_and_memory_of_its_own_span() -> None:
    """In a process of its own: one that has freed much takes new arrays from what it kept."""
    done = subprocess.run([sys.executable, "-c", METER], capture_output=True, text=True, check=True)
    small, spent = json.loads(done.stdout)
    assert spent["processor_seconds"] > 0
    assert spent["wall_seconds"] > 0
    if Path("/proc/self/clear_refs").exists():
        assert spent["peak_memory_mib"] >= small["peak_memory_mib"] + 250


def test_a_point_of_an_earlier_version_has_none(store: Store) -> None:
    (row,) = sweep([ToyPoint(number=3)], square, store=store, jobs=0)
    assert store.provenance("toy", row["address"])
    assert store.provenance("toy", "0" * 16) == {}


@pytest.mark.parametrize(
    ("made", "commits"),
    [
        ([("a", False), ("a", False)], {"a": 2}),
        ([("a", False), ("a", True), ("b", False)], {"a": 1, "a+changes": 1, "b": 1}),
        ([("a", False), None], {"a": 1, "unknown": 1}),
    ],
)
def test_a_run_lists_the_commits_of_its_points_and_says_when_there_are_several(
    store: Store, made: list[Any], commits: dict[str, int], capsys: pytest.CaptureFixture[str]
) -> None:
    def at_commit(point: ToyPoint, record: Record) -> Row:
        return square(point, record)

    with pytest.MonkeyPatch.context() as patch:
        for number, one in enumerate(made):
            patch.setattr(
                "labkit.lab.store.code", lambda one=one: {"commit": one and one[0], "dirty": bool(one and one[1])}
            )
            store.measure(ToyPoint(number=number), at_commit)
    rows = pd.DataFrame([{**row, "key": "", "exam": ""} for row in rows_of(store)])
    study = studies.find("diversity_sweep")
    found = Run(study, None, store)._commits(SimpleNamespace(rows=rows))  # type: ignore[arg-type]
    assert found["commits"] == commits
    several = f"points of {len(commits)} commits"
    assert (several in capsys.readouterr().out) == (several in found.get("note", "")) == (len(commits) > 1)
    json.dumps(found)
