"""Runs that are whole: what each run of a study left in its folder, read for tables, comparison and repetition.

A run is named by its folder, or by the first letters of the folder's name in the store.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from labkit.errors import BadRequest
from labkit.lab.store import Store


@dataclass(frozen=True)
class PastRun:
    """One run: its folder and what `result.json` says."""

    folder: Path
    result: Mapping[str, Any]

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """What it was made with; empty where that cannot be read."""
        try:
            return dict(json.loads((self.folder / "provenance.json").read_text("utf-8")))
        except (OSError, ValueError, TypeError):
            return {}

    @property
    def study(self) -> str:
        return str(self.result["study"])

    @property
    def params(self) -> dict[str, Any]:
        return dict(self.result["params"])

    @property
    def addresses(self) -> set[str]:
        """The points that it shows."""
        return {point["address"] for point in self.result["points"]}


def past_runs(store: Store, study: str | None = None) -> list[PastRun]:
    """The runs in a store that can be read, newest first."""
    found = [_read(path.parent) for path in store.root.glob(f"{study or '*'}/runs/*/result.json")]
    return sorted((run for run in found if run), key=lambda run: (_time(run), run.folder.name), reverse=True)


def find_run(store: Store, name: str) -> PastRun:
    """The run of that name.

    Raises:
        BadRequest: when there is none, or more than one.
    """
    if (Path(name) / "result.json").is_file():
        folders = [Path(name)]
    else:
        folders = [path.parent for path in store.root.glob("*/runs/*/result.json") if path.parent.name.startswith(name)]
        folders = [folder for folder in folders if folder.name == name] or folders  # a name that begins another
    if len(folders) != 1 or not name:
        how_many = f"{len(folders)} runs" if folders else "no run"
        raise BadRequest(f"'{name}' names {how_many} in {store.root}: `labkit runs` lists them")
    if (run := _read(folders[0])) is None:
        raise BadRequest(f"{folders[0] / 'result.json'} is not the result of a run")
    return run


def _read(folder: Path) -> PastRun | None:
    try:
        run = PastRun(folder, json.loads((folder / "result.json").read_text("utf-8")))
        whole = (run.study, run.params, run.addresses, run.result["scale"], run.result["finding"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return run if whole else None


def _time(run: PastRun) -> str:
    return str(run.provenance.get("time") or run.folder.name)
