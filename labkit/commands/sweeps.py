"""The command `sweep`: the points of a grid, or a whole notebook for each of its combinations."""

import hashlib
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import product
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Annotated, Any

import typer

from labkit.commands import (
    RESUMED,
    Executor,
    Fleet,
    Form,
    Jobs,
    Scale,
    Settings,
    StudyName,
    Track,
    command,
    track,
    values_of,
)  # fmt: skip
from labkit.entry import leave
from labkit.errors import BadRequest, unknown
from labkit.table import print_each, print_table

if TYPE_CHECKING:
    from labkit.lab import Store
    from labkit.lab.runs import PastRun
    from labkit.studies import Study

MANY = 1000  # combinations from which a person is asked first
DRAWN = 8  # runs that one picture still tells apart
Axes = Mapping[str, Sequence[Any]]


@command("sweep", RESUMED)
def sweep_study(
    name: StudyName,
    grid: Annotated[list[str] | None, typer.Option(metavar="NAME=V1,V2,...", help="values (repeatable)")] = None,
    scale: Scale = "laptop", settings: Settings = None,
    jobs: Jobs = None, fleet: Fleet = None, executor: Executor = None, tracker: Track = None, progress: Form = None,
    gpus: Annotated[float, typer.Option("--gpus-per-point", min=0, help="of a Ray cluster, for each point")] = 0,
    notebooks: Annotated[bool, typer.Option("--as-notebooks", help="execute the study's notebook for each combination, "
                                            "--jobs at once; one page and one CSV for all")] = False,
    minutes: Annotated[float | None, typer.Option(min=0.01, help="time limit of each notebook")] = None,
    yes: Annotated[bool, typer.Option("--yes", help=f"more than {MANY} combinations are meant")] = False,
) -> None:  # fmt: skip
    """Measure the points of a grid, without a notebook; what the store holds is not measured again."""
    from labkit import lab, studies

    study = studies.find(name)
    track(tracker, progress)
    if not grid:
        dials = [name for name in study.Params.model_fields if name != "scale"]
        example = next((name for name in dials if is_axis(study, name)), dials[0])
        raise BadRequest(f"--grid is missing: say what varies, for example --grid {example}=...")
    axes = {axis: grid_values(study, axis, text) for axis, text in studies.parse_settings(grid, "--grid").items()}
    given = {"scale": scale, **values_of(settings)}
    if both := axes.keys() & given.keys():
        raise BadRequest(f"'{min(both)}' is given by --grid and by --set: once is enough")
    if minutes and not notebooks:
        raise BadRequest("--minutes is the time of a notebook: it goes with --as-notebooks")
    if notebooks and (executor or gpus):
        raise BadRequest("--executor and --gpus-per-point do not go with --as-notebooks, which this machine executes")
    lab.check_surroundings(jobs, fleet, executor)
    store = lab.Store.default()
    if not yes:
        ask_first(study, axes, given, store)
    if notebooks:
        sweep_notebooks(study, axes, given, store, lab.default_jobs() if jobs is None else jobs, minutes)
        return
    points: dict[str, Any] = {}
    notes: dict[str, None] = {}
    with ExitStack() as services:
        for _, params in combinations(study, axes, given):
            notes |= dict.fromkeys(study.remarks(params))
            cells = study.points(params)
            services.enter_context(study.serving(params, cells, store))
            points |= {point.address: point for point in cells}
        print_each("note: ", notes)
        outcomes = lab.run_points(list(points.values()), study.measure, measure_many=study.measure_many, store=store,
                                  jobs=jobs, fleet=fleet, executor=executor, gpus=gpus,
                                  progress=lab.Progress.default(study.describe))  # fmt: skip
    failed = [outcome for outcome in outcomes if outcome.row is None]
    for point, row, *_ in outcomes:
        if row is not None:
            varied = "".join(f"{axis}={row[axis]} " for axis in axes if axis in row)
            print(f"{point.address}  {varied}{study.describe(row)}")
    for point, _, error, trace, _ in failed:
        print(f"{point.address}  FAILED {error}\n{trace or ''}", file=sys.stderr)
    if failed:
        leave(f"{len(failed)} of {len(outcomes)} points failed; the others are in {store.root}", 1)


def grid_values(study: "Study", axis: str, text: str) -> list[Any]:
    """The values of one axis. A parameter that is itself a list takes all of them at once: it is an axis already."""
    from labkit import studies

    dials = [field for field in study.Params.model_fields if field != "scale"]
    if axis not in dials:
        raise unknown("grid parameter", axis, dials)
    if not text.strip("[], "):
        raise BadRequest(f"--grid {axis}={text} is an axis without a value: name one at least")
    every = [studies.parse_value(value) for value in text.strip("[]").split(",")]
    values = [value for place, value in enumerate(every) if value not in every[:place]]
    return [values] if is_axis(study, axis) else values


def is_axis(study: "Study", name: str) -> bool:
    """Whether a parameter is itself a list of what is tried."""
    return any(isinstance(scale.get(name), list) for scale in study.scales.values())


def combinations(study: "Study", axes: Axes, given: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], Any]]:
    """Every combination of a grid, with the parameters that it stands for."""
    for values in product(*axes.values()):
        varied = dict(zip(axes, values, strict=True))
        yield varied, study.resolve({**given, **varied})


def ask_first(study: "Study", axes: Axes, given: Mapping[str, Any], store: "Store") -> None:
    """Refuse a grid that is larger than anybody types by intention, with its size and what it would take."""
    count = math.prod(map(len, axes.values()))
    if count > MANY:
        _, params = next(combinations(study, axes, given))
        points = count * len(study.points(params))
        known = [row["train_seconds"] for row in store.read(study.name)[0] if "train_seconds" in row]
        hours = f"about {mean(known) * points / 3600:,.0f} hours of one worker" if known else "nobody has timed a point"
        raise BadRequest(f"this grid has {count:,} combinations, {points:,} points ({hours}): add --yes if it is meant")


def sweep_notebooks(
    study: "Study", axes: Axes, given: Mapping[str, Any], store: "Store", jobs: int, minutes: float | None
) -> None:
    """A whole notebook for each combination, then one page and one CSV; what failed is named at the end."""
    from labkit import lab
    from labkit.lab.batch import Task, execute_all
    from labkit.lab.runs import read_run
    from labkit.studies.past import label_of

    lab.check_notebook(study.notebook())
    varied_of: dict[Path, dict[str, Any]] = {}
    tasks = []
    for varied, params in combinations(study, axes, given):
        study.serving(params, study.points(params), store)
        chosen = params.model_dump(mode="json")
        name = f"batch-{digest(chosen)}-{label_of(study, chosen)}"
        folder = store.root / study.name / "runs" / name
        varied_of[folder] = varied
        tasks.append(Task(study.name, study.notebook(), folder, study.grouped(chosen)))
    store.check(study.name)  # and whether it can be written
    new = [task for task in tasks if not (task.folder / "notebook.ipynb").exists() or read_run(task.folder) is None]
    progress = lab.Progress.default(lambda row: str(row["words"]))
    progress.start(total=len(tasks), already=len(tasks) - len(new), what="notebooks")
    failures = {}
    try:
        for task, failure, seconds in execute_all(new, store, max(1, jobs), minutes):
            words = f"{_words(varied_of[task.folder])}: {seconds:.0f} s"
            if failure:
                failures[task.folder] = failure
            progress.step({"words": words}, failure and f"{words}: {failure.splitlines()[0]}")
    finally:
        progress.close()
    runs = {folder: run for folder in varied_of if folder not in failures and (run := read_run(folder))}
    page = write_batch(study, store, varied_of, runs, failures)
    print_each("", [page, page.with_name("results.csv")])
    for folder, failure in failures.items():
        print(f"FAILED {_words(varied_of[folder])}: {failure}", file=sys.stderr)
    if failures:
        leave(f"{len(failures)} of {len(tasks)} notebooks failed; the same command tries these again", 1)


def write_batch(
    study: "Study", store: "Store", varied_of: Mapping[Path, Mapping[str, Any]], runs: Mapping[Path, "PastRun"],
    failures: Mapping[Path, str],
) -> Path:  # fmt: skip
    """The page and the CSV of a grid of notebooks; the folder's name follows from the grid."""
    import pandas as pd

    from labkit import show
    from labkit.lab import write_text
    from labkit.studies import past

    folder = store.root / study.name / "batches" / digest(sorted(run.name for run in varied_of))
    folder.mkdir(parents=True, exist_ok=True)
    lines = [{**_plain(varied_of[at]), **row} for at, run in runs.items() for row in run.result["table"]]
    write_text(folder / "results.csv", pd.DataFrame(lines).to_csv(index=False))
    overview = [{**_plain(varied), "finding": runs[at].result["finding"] if at in runs else "-", "run": at.name}
                for at, varied in varied_of.items()]  # fmt: skip
    charts: list[Any] = []
    if 0 < len(runs) <= DRAWN:
        labelled = {_words(varied_of[at]): run for at, run in runs.items()}
        charts = [("All runs in one picture", past.compare(study, labelled, store).chart())]
    page = show.write_report(
        folder / "report.html", title=f"{study.name.replace('_', ' ').capitalize()}: {len(varied_of)} notebooks",
        question=study.question, finding=f"{len(runs)} of {len(varied_of)} notebooks ran to their end", charts=charts,
        tables=[("Per notebook", overview), ("Every table", lines)], paper=study.paper,
        notes=[f"{_words(varied_of[at])}: {failure}" for at, failure in failures.items()],
    )  # fmt: skip
    print_table(overview, cut=["finding"])
    return page


def digest(value: Any) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:8]


def _words(varied: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in varied.items())


def _plain(varied: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as cells of a table."""
    return {name: str(value) if isinstance(value, list) else value for name, value in varied.items()}
