"""Commands about what was run: list, repeat and compare runs, look at mistakes and at all figures."""

import shutil
from pathlib import Path
from typing import Annotated

import typer

from labkit.commands import RESUMED, Executor, Fleet, Jobs, Own, RunName, command
from labkit.commands.studies import conduct
from labkit.entry import leave
from labkit.errors import BadRequest
from labkit.table import print_each, print_table


@command("runs")
def list_runs(
    name: Annotated[str | None, typer.Argument(metavar="[STUDY]", help="default: every study")] = None,
) -> None:
    """One line per run, the newest first: what it was asked beside its scale, what it found, how long it took."""
    from labkit import studies
    from labkit.lab import Store
    from labkit.lab.runs import past_runs
    from labkit.studies.past import line_of

    study = studies.find(name) if name else None
    known = {**studies.every(), **({study.name: study} if study else {})}
    runs = past_runs(Store.default(), study.name if study else None)
    print_table([line_of(run, known.get(run.result["study"])) for run in runs], cut=["differs", "finding"])
    print_each("", [] if runs else ["no runs"])


@command("rerun", RESUMED)
def rerun_run(
    name: RunName,
    fresh: Annotated[bool, typer.Option("--fresh", help="measure every point anew, in a store of its own")] = False,
    own: Own = None, jobs: Jobs = None, fleet: Fleet = None, executor: Executor = None,
) -> None:  # fmt: skip
    """Repeat a run from the parameters it left, and name the first difference between the results."""
    from labkit import lab, studies
    from labkit.lab.runs import differences, find_run
    from labkit.lab.upkeep import merge

    store = lab.Store.default()
    past = find_run(store, name)
    study = studies.find(own or past.result["study"])
    params = study.resolve(studies.read_params(past.folder / "params.yaml"))
    anew = lab.Store(store.root / f".fresh-{past.folder.name}") if fresh else store
    folder = conduct(study, params, anew, home=store, jobs=jobs, fleet=fleet, executor=executor)
    now = find_run(store, str(folder))
    if fresh:  # kept till here, so that the same command goes on where an earlier one stopped
        merge(store, anew)  # points that only this run shows, as those of newer code
        shutil.rmtree(anew.root)
    for when, run in {"before": past, "now   ": now}.items():
        print(f"{when}  {run.folder}  {run.provenance.get('git')}")
    if found := list(differences(past.result, now.result)):
        leave(f"{len(found)} difference(s); the first: {found[0]}", 1)
    print(f"all is equal: {len(now.addresses)} points, the estimates and the finding")


@command("compare")
def compare_runs(
    one: RunName, other: RunName, own: Own = None,
    out: Annotated[Path | None, typer.Option(help="a page (FILE.html), or the picture alone (FILE.png)")] = None,
) -> None:  # fmt: skip
    """Two runs of one study: what differs between them, and by how much they differ, model by model."""
    from labkit import lab, show, studies

    if out and out.suffix not in (".html", ".png"):
        raise BadRequest(f"--out {out} ends neither in .html nor in .png")
    if out:
        lab.ensure_file(out)
    both = studies.compare(one, other, own)
    names = [f"{label}: {run.folder}" for label, run in both.runs.items()]
    print_each("", names)
    print_table(both.parameters(), cut=["A", "B"])
    print_table(both.differences())
    if out and out.suffix == ".png":
        out.write_bytes(show.png(both.chart()))
    elif out:
        tables = [("What differs", both.parameters()), ("Model by model", both.differences())]
        show.write_report(out, title="Two runs", question=both.study.question, finding=", ".join(names),
                          charts=[("", both.chart())], tables=tables)  # fmt: skip


@command("mistakes")
def list_mistakes(
    point: Annotated[str, typer.Argument(metavar="POINT", help="how its address begins; `results` has addresses")],
    exam: Annotated[str | None, typer.Option(help="default: unseen")] = None,
    most: Annotated[int, typer.Option(min=0, help="mistakes that are listed")] = 10,
    own: Own = None,
) -> None:
    """What a trained model gets wrong: the questions, what it wrote, what is right, and the kinds they are of."""
    from labkit import studies

    found = studies.mistakes(point, exam, own)
    print_table(found.by_kind(), cut=["such as"])
    print()
    print_table(found.wrong()[:most], cut=["question", "written"])


@command("wall")
def show_wall(
    out: Annotated[Path | None, typer.Option(help="a folder: leave the page there as index.html, and end")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: a free one")] = 0,
) -> None:
    """One page over the whole store: every study's figure, two runs compared, models to ask; live in a sweep."""
    from labkit import lab, studies
    from labkit.show.wall import Server
    from labkit.studies import wall

    store, known = lab.Store.default(), studies.every()
    if out:
        lab.ensure_writable(out)
        print(wall.write_page(out, wall.wall(store, known), lambda address: wall.model(store, address)))
        return
    server = Server(port, wall.Watched(store, known).data, lambda address: wall.model(store, address),
                    lambda one, other: studies.compare(one, other).differences())  # fmt: skip
    print(f"{server.address}  (Ctrl-C ends it)", flush=True)
    server.serve_forever()
