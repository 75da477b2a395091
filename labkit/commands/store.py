"""Commands about the store: check it, merge another one into it, remove what no run refers to, export a run."""

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from labkit.commands import RunName, app, command
from labkit.entry import leave
from labkit.errors import BadRequest, unknown
from labkit.table import print_each

group = typer.Typer(help="Check, merge and prune the store.", rich_markup_mode=None)
app.add_typer(group, name="store")
StudyOfStore = Annotated[str | None, typer.Argument(metavar="[STUDY]", help="default: every study in the store")]


def _known(study: str | None) -> str | None:
    from labkit.lab import Store

    if not Store.default().root.is_dir():
        raise BadRequest(f"{Store.default().root} is no folder, and so no store")
    if study and study not in Store.default().studies():
        raise unknown("study in the store", study, Store.default().studies())
    return study


@command("check", of=group)
def check_store(study: StudyOfStore = None) -> None:
    """Name every damaged point and run, and every run that shows points which are gone."""
    from labkit.lab import Store
    from labkit.lab.upkeep import complaints

    store = Store.default()
    found = complaints(store, _known(study))
    print_each("", found)
    if found:
        leave(f"{len(found)} complaints about {store.root}; everything else is whole", 1)
    print(f"{store.root} is whole")


@command("merge", of=group)
def merge_stores(
    other: Annotated[Path, typer.Argument(metavar="OTHER", help="another store's folder; it is only read")],
) -> None:
    """Copy the points and runs of another store that this one lacks; what differs is named and left as it is."""
    from labkit import lab
    from labkit.lab.upkeep import merge

    store, source = lab.Store.default(), lab.Store(other)
    if not source.studies() or source.root.resolve() == store.root.resolve():
        raise BadRequest(f"{other} is no other store: it holds no points, or it is this one")
    lab.ensure_writable(store.root)
    copied, equal, conflicts, damaged = merge(store, source)
    print(f"{copied} points and runs copied, {equal} were there already")
    print_each("conflict: ", conflicts)
    print_each("", damaged)
    if conflicts or damaged:
        leave(f"{len(conflicts)} conflicts and {len(damaged)} damaged entries; {store.root} keeps what it had", 1)


@command("prune", of=group)
def prune_store(
    study: StudyOfStore = None,
    yes: Annotated[bool, typer.Option("--yes", help="remove it; without this it is only listed")] = False,
) -> None:
    """List, or remove, what no run refers to: points of sweeps alone, failed points, runs without a result."""
    from labkit import lab
    from labkit.lab.upkeep import remove, unused

    store = lab.Store.default()
    found, remarks = unused(store, _known(study))
    print_each("note: ", remarks)
    print_each("", [f"{one.what}: {one.path}" for one in found])
    if yes:
        lab.ensure_writable(store.root)
        found = [one for one in found if remove(store, one)]
    kinds = ", ".join(f"{n} x {what}" for what, n in Counter(one.what for one in found).items()) or "nothing"
    verb = "removed" if yes else "would be removed (add --yes)"
    print(f"{verb}: {kinds}, {sum(one.size for one in found) / 2**20:.1f} MiB")


@command("export")
def export_run(
    name: RunName,
    to: Annotated[str, typer.Option(help="tensorboard, mlflow, wandb or trackio")] = "mlflow",
) -> None:
    """Tell a tracker of every model that a run shows: settings, learning curve, scores. Nothing leaves this machine."""
    from labkit.lab import Store
    from labkit.lab.runs import find_run, tell_of_point
    from labkit.lab.tracking import PACKAGES, checked_trackers

    store = Store.default()
    run = find_run(store, name)
    if to not in PACKAGES:
        raise unknown("tracker", to, PACKAGES)
    checked_trackers(to)
    points = [(point.get("study", run.result["study"]), point["address"]) for point in run.result["points"]]
    for study, address in points:
        store.row(study, address)  # all are there before the first is told of
    for study, address in points:
        tell_of_point(store, to, study, address, run)
    print(f"{len(points)} models told to {to}: {store.root / 'tracking' / to}")
