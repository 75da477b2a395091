"""What the lab computed before studies had views, frozen: rows of real runs, and what was made of them.

`tests/golden/<study>-<scale>.json.gz` holds the rows of every point (one wide dict each), the summary, the finding and
the published statements compared. The rebuilt lab must reproduce every estimate, interval and fit from the same rows.
`<study>-<scale>-report.json.gz` holds the points of the report seeds of a design of today, and what is made of them;
`python tests/golden.py STUDY SCALE STORE` writes one from the store of a finished run.
"""

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from labkit import grade, studies
from labkit.lab import Store
from labkit.studies.rows import graded_line, long_rows
from labkit.studies.study import Study

FOLDER = Path(__file__).parent / "golden"
GRADINGS = {"string", "equal", "valid", "met"}
SUFFIXES = ("_right", "_asked", "_lo", "_hi")


def frozen(study: str, scale: str) -> dict[str, Any]:
    """One frozen run."""
    return json.loads(gzip.decompress((FOLDER / f"{study}-{scale}.json.gz").read_bytes()))


def scales(study: str) -> list[str]:
    """The scales at which a study was frozen."""
    return sorted(
        path.name.split("-")[1].split(".")[0] for path in FOLDER.glob(f"{study}-*.json.gz") if "report" not in path.name
    )


def reports() -> list[tuple[str, str]]:
    """The studies, with their scale, of which a report was frozen."""
    names = [path.name.split(".")[0].removesuffix("-report") for path in sorted(FOLDER.glob("*-report.json.gz"))]
    return [(name.rsplit("-", 1)[0], name.rsplit("-", 1)[1]) for name in names]


def lengthened(rows: list[dict[str, Any]], exams: list[str]) -> pd.DataFrame:
    """Wide rows as long rows; a column `<exam>_<rest>_right` is of a kind or grading of the longest exam that fits."""
    points = []
    for row in rows:
        graded = []
        for name in [name.removesuffix("_right") for name in row if name.endswith("_right")]:
            exam = max((exam for exam in exams if f"{name}_".startswith(f"{exam}_")), key=len)
            rest = name[len(exam) + 1 :]
            kind, grading = ("", rest) if rest in GRADINGS else (rest, "")
            graded.append(graded_line(exam, kind, grading, grade.Counts(row[f"{name}_right"], row[f"{name}_asked"])))
        kept = {name: value for name, value in row.items() if not name.endswith(SUFFIXES)}
        points.append(kept | {"graded": graded})
    return long_rows(points)


def same(ours: Any, theirs: Any, where: str = "") -> None:
    """Numbers equal to 12 digits, all else equal."""
    if isinstance(theirs, dict):
        for name, value in theirs.items():
            same(ours[name], value, f"{where}.{name}")
    elif isinstance(theirs, list):
        assert len(ours) == len(theirs), where
        for place, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            same(one, other, f"{where}[{place}]")
    elif isinstance(theirs, float) and not isinstance(theirs, bool):
        assert abs(ours - theirs) <= 1e-12 * max(1, abs(theirs)) or ours == theirs, f"{where}: {ours} is not {theirs}"
    else:
        assert ours == theirs, f"{where}: {ours!r} is not {theirs!r}"


def made_of(study: Study, scale: str, points: list[dict[str, Any]]) -> dict[str, Any]:
    """All that is computed of finished points: estimates and fits by view, the finding, verdicts, the endpoint."""
    params = study.resolve({"scale": scale})
    results = study.summarise(long_rows(points).assign(**study.marks(params)), study.registration(params), params.scale)
    made = {
        "views": results.as_dict(),
        "finding": results.finding,
        "claims": results.claims,
        "endpoint": results.endpoint,
    }
    return json.loads(json.dumps(made, default=str))


def freeze(name: str, scale: str, store: str) -> None:
    """Keep the points of a finished run of a study, with all that the lab makes of them today."""
    study, kept = studies.find(name), Store(Path(store))
    params = study.resolve({"scale": scale})
    cells = list(study.points(params))
    for stage in study.stages:
        cells += stage(params, long_rows([kept.result(cell) for cell in cells]))
    volatile = {"seal", "finished", "train_seconds", "fleet"}
    points = [{key: value for key, value in kept.result(cell).items() if key not in volatile} for cell in cells]
    text = json.dumps({"points": points, "made": made_of(study, scale, points)})
    (FOLDER / f"{name}-{scale}-report.json.gz").write_bytes(gzip.compress(text.encode(), mtime=0))


if __name__ == "__main__":
    freeze(*sys.argv[1:])
