"""Trackers are told of points when they are asked for, by their own file formats; where one fails, no point does."""

import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from command import labkit
from toy import ToyPoint, rows_of, square

from labkit import BadRequest
from labkit.lab import Store, run_points
from labkit.lab.tracking import PACKAGES

TRACKERS = [
    pytest.param(name, marks=pytest.mark.skipif(find_spec(module) is None, reason=f"{name} is not installed"))
    for name, (module, _) in PACKAGES.items()
]


@pytest.fixture(autouse=True)
def own_places(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "TRACKIO_DIR", "LABKIT_TRACK"):  # which are set for a whole process
        monkeypatch.setenv(name, "x")
        monkeypatch.delenv(name)
    for name in [name for name in sys.modules if name.split(".")[0] == "trackio"]:  # it reads them on import
        monkeypatch.delitem(sys.modules, name)


def told(tracker: str, place: Path) -> list[dict[str, Any]]:
    """Of each point that a tracker has heard of: its number, and its last square, as the tracker itself reads them."""
    if tracker == "tensorboard":
        from tensorboardX.event_file_writer import EventFileWriter  # noqa: F401 (the format is its own)
        from tensorboardX.proto.event_pb2 import Event

        found = []
        for path in place.glob("toy/*/events*"):
            data, values = path.read_bytes(), {}
            while data:  # a record: its length in 8 bytes, a sum of 4, the event, another sum
                size = int.from_bytes(data[:8], "little")
                event = Event.FromString(data[12 : 12 + size])
                values |= {value.tag: value.simple_value for value in event.summary.value}
                data = data[16 + size :]
            found.append(values)
        return [{"number": values["number"], "squared": values["squared"]} for values in found if values]
    if tracker == "mlflow":
        import mlflow

        client = mlflow.MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
        runs = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
        return [{"number": float(run.data.params["number"]), "squared": run.data.metrics["squared"]} for run in runs]
    if tracker == "trackio":
        import sqlite3

        (database,) = place.glob("*.db")
        with sqlite3.connect(database) as connection:
            lines = [json.loads(line) for (line,) in connection.execute("select metrics from metrics order by id")]
        return [{"number": line["squared"] ** 0.5, "squared": line["squared"]} for line in lines if "squared" in line]
    return [{"number": 0, "squared": 0} for _ in place.glob("wandb/offline-run-*/run-*.wandb")]


@pytest.mark.parametrize("tracker", TRACKERS)
def test_a_sweep_tells_what_it_measures_and_nothing_else(
    tracker: str, own_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(own_store)
    run_points([ToyPoint(number=1)], square, store=store, jobs=0)
    assert not (own_store / "tracking").exists()  # off by default
    monkeypatch.setenv("LABKIT_TRACK", tracker)
    run_points([ToyPoint(number=n) for n in (1, 2, 3)], square, store=store, jobs=0)
    found = told(tracker, own_store / "tracking" / tracker)
    assert len(found) == 2
    if tracker != "wandb":  # whose files only its server reads
        assert sorted((one["number"], one["squared"]) for one in found) == [(2, 4), (3, 9)]


def test_a_tracker_that_fails_stops_nothing(
    own_store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LABKIT_TRACK", "tensorboard")
    own_store.mkdir()
    (own_store / "tracking").touch()  # where a folder should be
    run_points([ToyPoint(number=n) for n in (1, 2, 3)], square, store=Store(own_store), jobs=0)
    assert len(rows_of(Store(own_store))) == 3
    assert capsys.readouterr().out.count("note: tensorboard is told no more, since it failed: ") == 1


def test_an_unknown_or_missing_tracker_is_one_sentence(own_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grid = ["sweep", "diversity_sweep", "--scale", "smoke", "--grid", "steps=2"]
    done = labkit(*grid, "--track", "tensorbord")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "unknown tracker 'tensorbord': did you mean 'tensorboard'?" in done.stderr
    monkeypatch.setenv("LABKIT_TRACK", "mlflow")
    monkeypatch.setitem(PACKAGES, "mlflow", ("mlflow_that_is_not_there", "mlflow"))
    with pytest.raises(BadRequest, match=r"needs mlflow_that_is_not_there, which is not installed: pip install mlflow"):
        run_points([ToyPoint(number=1)], square, store=Store(own_store), jobs=0)
    assert not own_store.exists()


@pytest.mark.parametrize("tracker", TRACKERS)
def test_a_finished_run_is_exported(tracker: str, own_store: Path) -> None:
    points = [ToyPoint(number=n) for n in (2, 3)]
    run_points([*points, ToyPoint(number=9)], square, store=Store(own_store), jobs=0)
    folder = own_store / "toy" / "runs" / "one"
    folder.mkdir(parents=True)
    rows = [{"study": "toy", "address": point.address} for point in points]
    result = {"study": "toy", "params": {}, "scale": "laptop", "finding": "it squares", "points": rows}
    (folder / "result.json").write_text(json.dumps(result))
    done = labkit("export", "one", "--to", tracker)
    assert (done.returncode, f"2 models told to {tracker}" in done.stdout) == (0, True), done.stderr
    assert len(told(tracker, own_store / "tracking" / tracker)) == 2
    assert labkit("export", "two").returncode == 2
    for other in ("", f"{tracker},{tracker}"):
        assert "unknown tracker" in labkit("export", "one", "--to", other).stderr
    (folder / "result.json").write_text(json.dumps(result | {"params": 3}))
    assert "is not the result of a run" in labkit("export", "one", "--to", tracker).stderr
    assert os.environ.get("LABKIT_TRACK") is None
