"""Runs that are whole: what each run of a study left in its folder, read for tables, comparison and repetition.

A run is named by its folder, or by the first letters of the folder's name in the store.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labkit.errors import BadRequest, first_line
from labkit.lab.store import Store
from labkit.lab.tracking import tell

NOT_RESULTS = ("finished", "seconds", "fleet")  # ends of names that tell of time and machine: no run repeats them


@dataclass(frozen=True)
class PastRun:
    """One run: its folder, and what `result.json` and, where it is there, `provenance.json` say."""

    folder: Path
    result: Mapping[str, Any]
    provenance: Mapping[str, Any]

    @property
    def addresses(self) -> set[str]:
        """The points that it shows."""
        return {point["address"] for point in self.result["points"]}


def past_runs(store: Store, study: str | None = None) -> list[PastRun]:
    """The runs in a store that can be read, newest first."""
    found = [read_run(path.parent) for path in store.root.glob(f"{study or '*'}/runs/[!.]*/result.json")]
    runs = [run for run in found if run]
    return sorted(runs, key=lambda run: (run.provenance.get("time", ""), run.folder.name), reverse=True)


def find_run(store: Store, name: str) -> PastRun:
    """The run of that name.

    Raises:
        BadRequest: when there is none, or more than one.
    """
    begun = [path.parent for path in store.root.glob("*/runs/*/result.json") if path.parent.name.startswith(name)]
    exact = [Path(name)] * (Path(name) / "result.json").is_file() or [folder for folder in begun if folder.name == name]
    folders = exact or begun  # a whole name may begin another
    if len(folders) != 1 or not name:
        how_many = f"{len(folders)} runs" if folders else "no run"
        raise BadRequest(f"'{name}' names {how_many} in {store.root}: `labkit runs` lists them")
    if (run := read_run(folders[0])) is None:
        raise BadRequest(f"{folders[0] / 'result.json'} is not the result of a run")
    return run


def read_run(folder: Path) -> PastRun | None:
    """The run in that folder, where its result can be read."""
    made = folder / "provenance.json"
    try:
        result = json.loads((folder / "result.json").read_text("utf-8"))
        run = PastRun(folder, result, dict(json.loads(made.read_text("utf-8")) if made.exists() else {}))
        kinds = {"study": str, "params": dict, "scale": str, "finding": str}
        whole = all(isinstance(result[name], kind) for name, kind in kinds.items()) and run.addresses
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return run if whole else None


def tell_of_point(store: Store, tracker: str, study: str, address: str, run: PastRun | None = None) -> None:
    """Tell a tracker of a finished point, as one that `run` shows where there is one."""
    row = store.row(study, address)
    settings = {"address": address, **store.settings(study, address)}
    if run:
        settings |= {"run": run.folder.name, "finding": run.result["finding"][:400]}
    scores = {name: value for name, value in row.items() if name not in settings}
    tell(tracker, store.root / "tracking", study, address, settings, store.log(study, address), scores)


def told(trackers: list[str], store: Store, study: str, address: str) -> list[str]:
    """Tell trackers of a point that was just measured; those that took it in, since none is to stop a sweep."""
    still = []
    for tracker in trackers:
        try:
            tell_of_point(store, tracker, study, address)
            still.append(tracker)
        except Exception as error:
            print(f"note: {tracker} is told no more, since it failed: {type(error).__name__}: {first_line(error)}")
    return still


def differences(one: Any, other: Any, where: str = "") -> Iterator[str]:
    """Where two results differ, one sentence each, in their order; what tells of time or machine is no result."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for name in dict.fromkeys([*one, *other]):
            if not str(name).endswith(NOT_RESULTS):
                yield from differences(one.get(name), other.get(name), f"{where}.{name}".strip("."))
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for place, pair in enumerate(zip(one, other, strict=True)):
            yield from differences(*pair, f"{where}[{place}]")
    elif one != other:
        yield f"{where}: {str(one)[:200]} before, {str(other)[:200]} now"
