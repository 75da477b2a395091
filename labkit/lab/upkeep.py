"""Care of a store: what in it is damaged, what another store adds to it, what no run refers to.

Guarantees
- `merge` changes nothing that is there: what is new is copied whole or not at all, what differs is named.
- `unused` names nothing that a run shows, nor what was needed for it, nor a point that somebody is at.

Limits: a point says what it needed since `provenance.json` holds it. As long as a run shows an older one, every
finished point counts as used. The ledger of a teacher is not merged.
"""

import shutil
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

from filelock import Timeout

from labkit.design.scratch import HERE, SCRATCH, beside, in_use, tidy
from labkit.errors import BadRequest
from labkit.lab.runs import PastRun, differences, read_run
from labkit.lab.store import ELSEWHERE, Store


class Merged(NamedTuple):
    """What became of another store's points and runs: how many were copied or there already, and what was not."""

    copied: int
    equal: int
    conflicts: list[str]
    damaged: list[str]


class Unused(NamedTuple):
    """Something that no run refers to."""

    what: str
    path: Path
    size: int


def complaints(store: Store, study: str | None = None) -> list[str]:
    """A sentence for everything damaged: points with all their files, runs, and runs whose points are gone."""
    found = []
    points: dict[str, set[str]] = {}
    for name in [study] if study else store.studies():
        rows, troubles = store.read(name, files=True)
        points[name] = {row["address"] for row in rows}
        found += troubles
    for folder in _run_folders(store, study):
        if (folder / "result.json").exists():
            run = read_run(folder)
            if run is None:
                found.append(f"damaged run: {folder / 'result.json'} is not the result of a run")
            else:
                gone = [one for one in run.result["points"] if one["address"] not in points.get(_study(run, one), ())]
                found += [f"the run {folder} shows {len(gone)} points that cannot be read here"] * bool(gone)
    return found


def merge(store: Store, other: Store) -> Merged:
    """Copy what another store has and this one lacks: finished points, and whole runs."""
    copied, equal, conflicts, damaged = 0, 0, list[str](), list[str]()
    for study in other.studies():
        rows, troubles = other.read(study, files=True)
        ours, own_troubles = store.read(study)
        damaged += troubles + own_troubles
        known = {row["address"]: row for row in ours}
        for row in rows:
            address, at = row["address"], f"{study} {row['address']}"
            if address in known:
                first = next(differences(known[address], row), None)
                conflicts += [f"point {at}: {first}"] if first else []
                equal += not first
                continue
            source, target = (one.points_folder(study) / address for one in (other, store))
            if target.exists() and not (target / "error.json").exists():
                continue  # it is named already, as foreign or damaged, and stays
            with store.lock(study, address, timeout=-1):
                store.take_in(study, address, partial(shutil.copytree, source, dirs_exist_ok=True))
            copied += 1
    for folder in _run_folders(other):
        if (run := read_run(folder)) is None:
            continue
        target = store.root / folder.relative_to(other.root)
        if not target.exists():
            _copy(folder, target)
            copied += 1
        elif (there := read_run(target)) and (first := next(differences(there.result, run.result), None)) is None:
            equal += 1
        else:
            conflicts.append(f"run {target.name}: {first if there else 'it is not whole here'}")
    return Merged(copied, equal, conflicts, damaged)


def unused(store: Store, study: str | None = None) -> tuple[list[Unused], list[str]]:
    """What no run refers to, and remarks on what is kept all the same.

    Raises:
        BadRequest: for a run that cannot be read, or is under way: nobody knows what it refers to.
    """
    used: set[tuple[str, str]] = set()
    elsewhere = [Path(path.read_text("utf-8")) for path in store.root.glob(f"*/{ELSEWHERE}*")]
    for folder in [*_run_folders(store), *elsewhere]:
        if any(map(in_use, folder.glob(f"{SCRATCH}*"))):
            raise BadRequest(f"a run is under way in {folder}: nobody knows yet what it refers to")
        if (folder / "result.json").exists():
            if (run := read_run(folder)) is None:
                raise BadRequest(f"{folder / 'result.json'} cannot be read: nobody knows what that run refers to")
            used |= {(_study(run, point), point["address"]) for point in run.result["points"]}
    told = _with_needs(store, used)
    remarks = [] if told else ["runs show points that do not say what they needed: every finished point is kept"]
    return [Unused(what, path, _size(path)) for what, path in _unreferred(store, study, used, told)], remarks


def remove(store: Store, found: Unused) -> bool:
    """Remove something unused, in one step for whoever looks; False where somebody is at it by now."""
    study, address = found.path.parent.parent.name, found.path.name.removeprefix(".work-")
    aside = beside(found.path)
    with suppress(Timeout, FileNotFoundError):
        if found.path.parent.name == "runs":
            found.path.rename(aside)
        else:
            aside = aside.with_name(f".tmp-{address}-{HERE}-{aside.suffix[1:]}")  # as the store names its own
            with store.lock(study, address):
                found.path.rename(aside)
        shutil.rmtree(aside)
        return True
    return False


def _unreferred(store: Store, study: str | None, used: set[tuple[str, str]], told: bool) -> Iterator[tuple[str, Path]]:
    for name in [study] if study else store.studies():
        for path in sorted(store.points_folder(name).iterdir()):
            finished = (path / "result.json").exists()
            if path.name.startswith(".work-") and (name, path.name.removeprefix(".work-")) not in used:
                yield "checkpoint of an unfinished point", path
            elif path.name.startswith(".") or not (path / "point.json").exists():
                continue
            elif not finished:
                yield "failed point", path
            elif told and (name, path.name) not in used:
                yield "point of no run", path
    for folder in _run_folders(store, study):
        if not (folder / "result.json").exists():
            yield "run without a result", folder


def _with_needs(store: Store, used: set[tuple[str, str]]) -> bool:
    """Add to the used points what they needed; False where one does not say."""
    ahead = list(used)
    while ahead:
        study, address = ahead.pop()
        with suppress(OSError, ValueError):
            needs = store.provenance(study, address).get("needs")
            if needs is None:
                return False
            new = {(name, at) for name, _, at in (need.rpartition("/") for need in needs)} - used
            used |= new
            ahead += new
    return True


def _run_folders(store: Store, study: str | None = None) -> list[Path]:
    return sorted(path for path in store.root.glob(f"{study or '*'}/runs/*") if path.is_dir() and path.name[0] != ".")


def _study(run: PastRun, point: dict[str, str]) -> str:
    return point.get("study") or str(run.result["study"])


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = beside(target)
    try:
        shutil.copytree(source, aside)
        aside.rename(target)
        tidy(target.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
