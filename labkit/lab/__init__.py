"""Running and remembering: the store, the sweep over points, papermill execution, provenance. Knows no study."""

from labkit.design.durable import write_text  # noqa: I001
from labkit.lab.execute import (
    RUN_FILES, RunFailed, check_injected, check_notebook, check_out, check_surroundings, execute, run_folder,
)  # fmt: skip
from labkit.lab.places import ensure_file, ensure_writable
from labkit.lab.progress import Progress
from labkit.lab.provenance import cores, provenance
from labkit.lab.store import Measure, MeasureMany, Point, Record, Row, Store, write_json
from labkit.lab.sweep import SweepFailed, checked_executor, default_fleet, default_jobs, run_points, sweep
from labkit.lab.work import NoWorker, Outcome, fleets

__all__ = [
    "RUN_FILES", "Measure", "MeasureMany", "NoWorker", "Outcome", "Point", "Progress", "Record", "Row", "RunFailed",
    "Store", "SweepFailed", "check_injected", "check_notebook", "check_out", "check_surroundings", "checked_executor",
    "cores", "default_fleet", "default_jobs", "ensure_file", "ensure_writable", "execute",
    "fleets", "provenance", "run_folder", "run_points", "sweep", "write_json", "write_text",
]  # fmt: skip
