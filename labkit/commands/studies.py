"""Commands about studies: list and run them, and show what the store holds."""

import json
import sys
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from labkit import entry
from labkit.commands import RESUMED, Executor, Fleet, Form, Jobs, Settings, StudyName, Track, command, track, values_of
from labkit.entry import leave
from labkit.errors import BadRequest, unknown
from labkit.table import print_each, print_table

if TYPE_CHECKING:
    from labkit.lab import Store
    from labkit.studies import Study


@command("studies")
def list_studies() -> None:
    """One line per study: question, paper, expected minutes at each scale."""
    from labkit import studies

    for study in studies.every().values():
        minutes = ", ".join(f"{scale}: {text}" for scale, text in study.minutes.items())
        print(f"{study.name}: {study.question} [{study.paper}] {minutes}")


@command("run", RESUMED)
def run_study(
    name: StudyName,
    scale: Annotated[str | None, typer.Option(help="default: laptop; `labkit studies` names them all")] = None,
    file: Annotated[Path | None, typer.Option("--params", metavar="FILE.yaml", help="values by name, as for --set, "
                                              "which comes before them; `labkit params` makes some")] = None,
    settings: Settings = None,
    search: Annotated[int | None, typer.Option(metavar="N", help="of the diversity sweep: N models where the fit wants "
                                               "them, in the place of the grid")] = None,
    out: Annotated[Path | None, typer.Option(help="folder of this run; default: a new one in papermill_runs")] = None,
    jobs: Jobs = None, fleet: Fleet = None, executor: Executor = None, tracker: Track = None, progress: Form = None,
) -> None:  # fmt: skip
    """Execute a study's notebook with papermill and print what it found."""
    from labkit import lab, studies

    study = studies.find(name)
    track(tracker, progress)
    given = study.ungrouped(studies.read_params(file) if file else {})
    given |= study.ungrouped(values_of(settings, fixed="scale"))
    given |= {"search": search} if search is not None else {}
    params = study.resolve(given | ({"scale": scale} if scale else {}))
    folder = conduct(study, params, lab.Store.default(), out, jobs=jobs, fleet=fleet, executor=executor)
    result = json.loads((folder / "result.json").read_text("utf-8"))
    print()
    print_table(result["table"])
    print(f"\n{result['finding']}\n")
    print_each("  ", [folder / file for file in lab.RUN_FILES])


def conduct(study: "Study", params: Any, store: "Store", out: Path | None = None, home: "Store | None" = None,
            **options: Any) -> Path:  # fmt: skip
    """Execute a study's notebook over a store; its files go to `out`, default a new folder of the store `home`."""
    from labkit import lab, learn
    from labkit.studies.past import label_of

    lab.check_notebook(study.notebook())
    lab.check_surroundings(**options)
    points = study.points(params)  # what it refuses is refused before a notebook starts
    store.check(study.name)
    chosen, scale = params.model_dump(mode="json"), params.scale
    if out:
        lab.check_out(out, study.name)
    with study.serving(params, points, store):  # what it lacks is said before a folder is made
        folder = out or lab.run_folder(home or store, study.name, chosen, label_of(study, chosen))
        print(f"{study.name} at {scale} scale, expected: {study.minutes.get(scale, 'nobody has timed it')}", flush=True)
        if scale in ("paper", "qlora") and learn.best_device() == "cpu":
            note = f"note: no GPU was found; at {scale} scale this may take days"
            print(f"{note} (Ctrl-C loses only the points in flight)", flush=True)
        try:
            lab.execute(study.notebook(), folder, study.grouped(chosen), store=store, **options)
        except lab.RunFailed as failure:
            leave(str(failure), 1)
    return folder


@command("params")
def publish_params(out: Annotated[Path | None, typer.Option(help="default: papermill_runs/params")] = None) -> None:
    """Write what every scale of every study sets, as files for `labkit run --params` and `papermill -f`."""
    from labkit import lab, studies

    folder = out or lab.Store.default().root / "params"
    lab.ensure_writable(folder)
    sets = [(study, scale) for study in studies.every().values() for scale in study.scales]
    for study, scale in sets:
        lab.write_text(folder / f"{study.name}.{scale}.yaml", study.params_file(scale))
    print(f"{len(sets)} files in {folder}")


@command("results")
def show_results(
    name: Annotated[str | None, typer.Argument(metavar="[STUDY]", help="default: every study in the store")] = None,
    form: Annotated[str, typer.Option("--format", help="table, csv or json")] = "table",
    sql: Annotated[str | None, typer.Option(help="a query; the tables are `points` and one per study")] = None,
    run: Annotated[str | None, typer.Option(help="the points of one run alone; `labkit runs` lists them")] = None,
    scale: Annotated[str | None, typer.Option(help="the points of the runs at one scale alone")] = None,
    group: Annotated[list[str] | None, typer.Option(metavar="NAME", help="with --mean: one line per value "
                                                    "(repeatable)")] = None,
    mean: Annotated[str | None, typer.Option(metavar="METRIC", help="mean over each group, with its interval")] = None,
) -> None:  # fmt: skip
    """What the store holds, one row per point; or means over groups of points; or the answer to a query."""
    from labkit.lab import Store, query
    from labkit.lab.runs import find_run, past_runs

    damaged: list[str] = []
    if form not in ("table", "csv", "json"):
        raise unknown("format", form, ["table", "csv", "json"])
    if (group is None) != (mean is None) or (group and sql):
        raise BadRequest("--group and --mean belong together, and not to --sql: `--group n_instructions --mean loss`")
    store = Store.default()
    study = name
    if name and name not in store.studies():  # else no study has to be imported, which takes a second
        from labkit import studies

        study = studies.find(name).name
    runs = [find_run(store, run)] if run is not None else past_runs(store, study) if scale else []
    only = {address for past in runs for address in past.addresses if scale in (None, past.result["scale"])}
    wanted = only if run or scale else None
    rows: list[Any]
    columns: list[str] | None = None
    if group and mean:
        from labkit.studies.means import grouped_means

        found = query.rows_by_study(store, study, damaged.append, wanted)
        rows = grouped_means([*chain(*found.values())], group, mean, query.settings_of(store, found))
    elif sql or form != "table":
        columns, told = query.answer(store, study, sql, damaged.append, wanted)
        rows = [dict(zip(columns, values, strict=True)) for values in told]
    else:
        rows = query.shown_rows(store, query.rows_by_study(store, study, damaged.append, wanted))
    if form == "csv":
        import pandas as pd

        print(pd.DataFrame(rows, columns=columns, dtype=object).to_csv(index=False), end="")
    elif form == "json":
        print(json.dumps([entry.as_json(row) for row in rows], indent=1, default=str))
    elif not rows:
        print("no rows")
    else:
        print_table(rows)
    if damaged:
        sys.stdout.flush()
        others = f" (and {len(damaged) - 1} more)" if len(damaged) > 1 else ""
        leave(f"{damaged[0]}{others}; everything else is shown", 1)
