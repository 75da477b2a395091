"""What was measured, told to TensorBoard, MLflow, Weights & Biases or trackio by accelerate's integrations.

Off unless `$LABKIT_TRACK` names trackers: then each point is told when it is finished. A finished run is told later by
`labkit export`. One point is one of a tracker's runs: its settings, its learning curve by step, its scores at the end.
What a tracker writes goes below `tracking/` of the store, and nothing leaves the machine, unless the tracker's own
variables (`MLFLOW_TRACKING_URI`, `WANDB_MODE=online`, `TRACKIO_SPACE_ID`) say otherwise.
"""

import logging
import os
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from labkit.errors import BadRequest, unknown

# what each tracker is imported as, and how it is installed
PACKAGES = {"tensorboard": ("tensorboardX", "tensorboardX"), "mlflow": ("mlflow", "mlflow"),
            "wandb": ("wandb", "wandb"), "trackio": ("trackio", "trackio")}  # fmt: skip


def checked_trackers(names: str | None) -> list[str]:
    """The trackers in a list with commas, default `$LABKIT_TRACK`.

    Raises:
        BadRequest: for one that is unknown, or not installed.
    """
    chosen = [name.strip() for name in (names or os.environ.get("LABKIT_TRACK", "")).split(",") if name.strip()]
    for name in chosen:
        if name not in PACKAGES:
            raise unknown("tracker", name, PACKAGES)
        module, package = PACKAGES[name]
        missing = [(wanted, how) for wanted, how in ((module, package), ("accelerate", "accelerate"))
                   if find_spec(wanted) is None]  # fmt: skip
        if missing:
            raise BadRequest(f"tracking with {name} needs {missing[0][0]}, which is not installed: "
                             f"pip install {missing[0][1]}")  # fmt: skip
    return chosen


def tell(tracker: str, place: Path, project: str, name: str, settings: Mapping[str, Any],
         curve: Sequence[Mapping[str, Any]], scores: Mapping[str, Any]) -> None:  # fmt: skip
    """Tell a tracker of one point: its settings, the lines of its log (with `step`), and what came out."""
    from accelerate import PartialState

    PartialState()  # its trackers ask it whether they are to speak
    one = _tracker(tracker, place, project, name)
    one.start()
    try:
        one.store_init_configuration({key: value if isinstance(value, int | float | str) else str(value)
                                      for key, value in settings.items()})  # fmt: skip
        steps = [int(line["step"]) for line in curve if "step" in line]
        for line in curve:
            one.log(_numbers(line), step=int(line.get("step", 0)))
        one.log(_numbers(scores), step=max(steps, default=0))
    finally:
        one.finish()


def _tracker(tracker: str, place: Path, project: str, name: str) -> Any:
    from accelerate import tracking

    place = (place / tracker).resolve()
    place.mkdir(parents=True, exist_ok=True)
    if tracker == "tensorboard":
        return tracking.TensorBoardTracker(f"{project}/{name}", logging_dir=place)
    if tracker == "mlflow":
        logging.getLogger("mlflow").setLevel(logging.ERROR)
        if find_spec("sqlalchemy"):
            os.environ.setdefault("MLFLOW_TRACKING_URI", f"sqlite:///{place}/mlflow.db")
        else:  # mlflow-skinny comes without a database
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
            os.environ.setdefault("MLFLOW_TRACKING_URI", place.as_uri())
        files = (place / "artifacts").as_uri()
        return tracking.MLflowTracker(experiment_name=project, run_name=name, logging_dir=files)
    if tracker == "wandb":
        mode = os.environ.get("WANDB_MODE", "offline")
        return tracking.WandBTracker(project, name=name, dir=str(place), mode=mode, settings={"silent": True})
    os.environ.setdefault("TRACKIO_DIR", str(place))
    return tracking.TrackioTracker(project, name=name)


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {key: float(value) for key, value in values.items() if isinstance(value, int | float) and key != "step"}
