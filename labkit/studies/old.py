"""What studies without views still need; goes when the last of them has some."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from labkit.lab import Point, Progress, Row, Store, provenance, run_folder, sweep, write_json, write_text

CAPTION = (
    "Filled marks are means with their 95 % intervals, hollow marks single trained models; grey and dashed is what was "
    "published, at the paper's own sizes."
)
LONG = ("_right", "_asked", "_nats", "_nats_tokens")  # columns with a number for every instruction: in the points alone


def run(study: Any, params: Any, *, jobs: int | None = None, store: Store | None = None) -> Any:
    return _measured(study, params, study.points(params), jobs, store)


def run_later(study: Any, params: Any, rows: Any, *, jobs: int | None = None, store: Store | None = None) -> Any:
    import pandas as pd

    points = study.later(params, rows) if study.later else []
    if not points:
        return rows
    return pd.concat([rows, _measured(study, params, points, jobs, store)], ignore_index=True)


def _measured(study: Any, params: Any, points: Sequence[Point], jobs: int | None, store: Store | None) -> Any:
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


def frame(rows: Sequence[Row]) -> Any:
    """Rows of the store as a data frame, one row a point."""
    import pandas as pd

    return pd.DataFrame(rows)


def finish(study: Any, params: Any, rows: Any, summary: Mapping[str, Any], seconds: float) -> Path:
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
        "table": study.summary_table(dict(summary)),
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


def logs(rows: Any, store: Store | None = None) -> Any:
    import pandas as pd

    store = store or Store.default()
    scalars = rows[[name for name in rows.columns if not rows[name].map(lambda value: isinstance(value, list)).any()]]
    lines = [
        {**settings, **line}
        for settings in scalars.to_dict("records")
        for line in store.log(str(settings["study"]), str(settings["address"]))
    ]
    return pd.DataFrame(lines)
