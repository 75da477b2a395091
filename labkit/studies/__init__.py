"""The studies: one module each. `find` and `every` look them up, `run` measures one, `finish` leaves its files.

`run_later` measures the second stage of a study that has one: points that the rows of the first decide.

A module of this package that defines `STUDY` is a study; nothing else has to be registered.
"""

import importlib
import os
import pkgutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from labkit.errors import unknown
from labkit.lab import (
    Point,
    Progress,
    Row,
    Store,
    check_injected,
    provenance,
    run_folder,
    sweep,
    write_json,
    write_text,
)
from labkit.studies.contract import Study, StudyParams, parse_settings, parse_value

if TYPE_CHECKING:
    import pandas as pd

CAPTION = (
    "Filled marks are means with their 95 % intervals, hollow marks single trained models; grey and dashed is what was "
    "published, at the paper's own sizes."
)
LONG = ("_right", "_asked", "_nats", "_nats_tokens")  # columns with a number for every instruction: in the points alone

__all__ = [
    "Study",
    "StudyParams",
    "every",
    "find",
    "finish",
    "frame",
    "logs",
    "parse_settings",
    "parse_value",
    "run",
    "run_later",
]


def every() -> dict[str, Study]:
    """All studies by name."""
    modules = (importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__))
    return {module.STUDY.name: module.STUDY for module in modules if hasattr(module, "STUDY")}


def find(name: str) -> Study:
    """The study of that name.

    Raises:
        BadRequest: when there is none; suggests the nearest. In a notebook also for a parameter that papermill set
            and that the study does not have.
    """
    studies = every()
    if name not in studies:
        raise unknown("study", name, studies)
    check_injected(studies[name].names())  # in a notebook: this is where each of ours begins
    return studies[name]


def run(study: Study, params: Any, *, jobs: int | None = None, store: Store | None = None) -> "pd.DataFrame":
    """Measure what the store does not hold yet; one row a point.

    Raises:
        BadRequest: when something that the study needs is not there; nothing was started.
        SweepFailed: when a point failed; all others are in the store.
    """
    return _measured(study, params, study.points(params), jobs, store)


def run_later(
    study: Study, params: Any, rows: "pd.DataFrame", *, jobs: int | None = None, store: Store | None = None
) -> "pd.DataFrame":
    """Measure the study's second stage, which the rows of the first decide, and add its rows to them.

    Raises:
        BadRequest, SweepFailed: as `run`.
    """
    import pandas as pd

    points = study.later(params, rows) if study.later else []
    if not points:
        return rows
    return pd.concat([rows, _measured(study, params, points, jobs, store)], ignore_index=True)


def _measured(
    study: Study, params: Any, points: Sequence[Point], jobs: int | None, store: Store | None
) -> "pd.DataFrame":
    store = store or Store.default()
    with study.serving(params, points, store):
        rows = sweep(
            points,
            study.measure,
            measure_many=study.measure_many,
            store=store,
            jobs=jobs,
            progress=Progress.default(study.describe),
        )
    return frame(rows)


def frame(rows: Sequence[Row]) -> "pd.DataFrame":
    """Rows of the store as a data frame, one row a point."""
    import pandas as pd

    return pd.DataFrame(rows)


def logs(rows: "pd.DataFrame", store: Store | None = None) -> "pd.DataFrame":
    """What the measurements of some points logged, one row a line, each with its point's settings and `address`."""
    import pandas as pd

    store = store or Store.default()
    scalars = rows[[name for name in rows.columns if not rows[name].map(lambda value: isinstance(value, list)).any()]]
    lines = [
        {**settings, **line}
        for settings in scalars.to_dict("records")
        for line in store.log(str(settings["study"]), str(settings["address"]))
    ]
    return pd.DataFrame(lines)


def finish(study: Study, params: Any, rows: "pd.DataFrame", summary: Mapping[str, Any], seconds: float) -> Path:
    """Leave the run's files: `result.json`, `report.html`, `params.yaml`, `provenance.json`; return their folder.

    The folder is `$LABKIT_RUN_DIR` under `labkit run`, else a new one in the store. `result.json` comes last: a folder
    that holds it is a whole run.
    """
    from labkit import show

    chosen = params.model_dump(mode="json")
    folder = Path(os.environ.get("LABKIT_RUN_DIR") or run_folder(Store.default(), study.name, chosen))
    folder.mkdir(parents=True, exist_ok=True)
    published = show.published(study.name)
    made = {**provenance(), "seconds": round(seconds, 1)}
    result = {
        "study": study.name,
        "scale": params.scale,
        "params": chosen,
        "points": [
            {k: v for k, v in row.items() if not str(k).endswith(LONG) and v == v}  # NaN: not of this row
            for row in rows.to_dict("records")
        ],
        "summary": summary,
        "finding": study.finding(dict(summary)),
        "published": published,
        "compared": study.compare(dict(summary), published),
    }
    write_text(folder / "params.yaml", yaml.safe_dump(chosen, sort_keys=False))
    write_json(folder / "provenance.json", made)
    show.write_report(
        folder / "report.html",
        title=study.name.replace("_", " ").capitalize(),
        question=study.question,
        finding=result["finding"],
        charts=[
            (CAPTION, study.chart(rows, dict(summary), published)),
            *(
                (caption, drawn)
                for caption, draw in study.figures.items()
                if (drawn := draw(rows, dict(summary), published)) is not None
            ),
        ],
        tables=[
            ("What was measured", study.summary_table(dict(summary))),
            *((caption, table(dict(summary))) for caption, table in study.tables.items()),
            ("Beside what was published", result["compared"]),
        ],
        notes=study.notes(params),
        params=chosen,
        provenance=made,
        paper=study.paper,
    )
    write_json(folder / "result.json", result)
    return folder
