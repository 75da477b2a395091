"""What the wall shows of a store: every study's runs, what is being measured, and models that a page can ask.

Numbers of a run are those of its `result.json`, untouched. What is measured and belongs to no whole run yet is
summarised as far as it has come, over points that differ in dials and seed alone.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from labkit.errors import BadRequest, first_line
from labkit.instructions import RewritingTask, decode, draw_inputs, draw_rules
from labkit.instructions.kinds import KINDS, draw_kind
from labkit.lab import Row, Store
from labkit.lab.runs import PastRun, past_runs
from labkit.studies import correlated, ranks
from labkit.studies.figures import figure, main_view
from labkit.studies.past import off_scale
from labkit.studies.rows import long_rows
from labkit.studies.study import Study
from labkit.studies.views import Curve, View

if TYPE_CHECKING:
    import pandas as pd

RANKS = (correlated.Ranks, ranks.Ranks)
ASKED, OF_A_KIND, CARRIED = 200, 40, 8  # questions that a page asks a model; models that a page carries along


def wall(store: Store, studies: Mapping[str, Study]) -> dict[str, Any]:
    """The whole store as a page's data: the studies with results first, by the number of their points."""
    runs = past_runs(store)
    told = [_study(store, study, [run for run in runs if run.result["study"] == name])
            for name, study in studies.items()]  # fmt: skip
    told.sort(key=lambda one: -one["points"])
    return {"made": time.strftime("%Y-%m-%d %H:%M"), "points": sum(one["points"] for one in told), "studies": told}


def version(store: Store) -> str:
    """Changes whenever a point, a run or a look at a training is added to the store."""
    seen = [*store.root.glob("*/points"), *store.root.glob("*/runs/*/result.json"),
            *store.root.glob("*/points/.tmp-*/log.jsonl")]  # fmt: skip
    return str(max((path.stat().st_mtime_ns for path in seen if path.exists()), default=0))


class Watched:
    """The wall of a store that is being added to: looked over again when there is something new."""

    def __init__(self, store: Store, studies: Mapping[str, Study]) -> None:
        self.store, self.studies, self.lock, self.latest = store, studies, Lock(), dict[str, Any]()

    def data(self) -> dict[str, Any]:
        """The page's data, with their `version` and the models that it offers first."""
        with self.lock:
            if (now := version(self.store)) != self.latest.get("version"):
                data = wall(self.store, self.studies)
                self.latest = data | {"version": now, "carried": carried(data)}
            return self.latest


def _study(store: Store, study: Study, runs: Sequence[PastRun]) -> dict[str, Any]:
    rows, complaints = store.read(study.name)
    by_address = {str(row["address"]): row for row in rows}
    told = [_run(study, run, by_address) for run in runs]
    shown = {address for run in runs for address in run.addresses}
    return {
        "name": study.name, "question": study.question, "points": len(rows), "runs": told,
        "open": _open(store, study, rows, shown),
        "training": list(training(store, study)), "damaged": len(complaints),
        "models": {address: study.describe(row) for address, row in by_address.items() if asks_rules(row)},
    }  # fmt: skip


def _run(study: Study, run: PastRun, rows: Mapping[str, Row]) -> dict[str, Any]:
    result, made = run.result, run.provenance
    name = main(study, list(result.get("summary", {})))
    own = [rows[address] for address in sorted(run.addresses & rows.keys())]
    ours = _figure(study, name, result["summary"][name], _models(study, name, own, result["params"])) if name else None
    return {
        "id": run.folder.name, "scale": result["scale"], "finding": result["finding"], "figure": ours,
        "params": result["params"], "differs": off_scale(study, result["params"]), "points": len(own),
        "claims": result.get("claims", []), "endpoint": result.get("endpoint", []),
        "time": str(made.get("time", ""))[:16].replace("T", " "),
    }  # fmt: skip


def _figure(study: Study, name: str, summary: Any, rows: "pd.DataFrame | None") -> dict[str, Any] | None:
    """None for the run of an earlier version, whose estimates lack what the view names."""
    view = study.views[name]
    try:
        return _ranking(view, summary["estimates"]) if isinstance(view, RANKS) else figure(study, name, summary, rows)
    except (KeyError, TypeError):
        return None


def main(study: Study, known: Sequence[str]) -> str | None:
    """The view that a finding speaks of, of those in `known`: the first where it is a ranking, else the main one."""
    first = next((name for name in study.views if name in known), "")
    return first if isinstance(study.views.get(first), RANKS) else main_view(study, known)


def _ranking(view: View, lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How well each number ranks, the best first, then how two differ; a number's own difference is left out."""
    named = {line["label"]: line for line in reversed(lines)}.values()
    ordered = sorted(named, key=lambda line: (line["exam"] != lines[0]["exam"], -line["mean"]))
    kept = [{"name": line["label"]} | {name: line[name] for name in ("mean", "lo", "hi", "seeds")} for line in ordered]
    return {"kind": "lines", "title": view.title, "x": {"title": "rank correlation"}, "lines": kept,
            "alt": view.title, "gains": True}  # fmt: skip


def _models(study: Study, name: str, rows: Sequence[Row], params: Mapping[str, Any]) -> "pd.DataFrame | None":
    """The long rows of a curve's single models; with a study's own columns, which take long, where it reads them."""
    if not isinstance(view := study.views[name], Curve):
        return None
    plain = None if view.where else _long(replace(study, columns=lambda lines: lines), rows, params)
    if plain is not None and {view.x, view.by or view.x} <= {*plain} and {*view.exams} <= {*plain["key"]}:
        return plain
    return _long(study, rows, params)


def _long(study: Study, rows: Sequence[Row], params: Mapping[str, Any]) -> "pd.DataFrame | None":
    """The long rows of some points, marked as the run's parameters say; None where these are of an earlier version."""
    try:
        return study.columns(long_rows(rows).assign(**study.marks(study.resolve(params)))) if rows else None
    except (BadRequest, KeyError):
        return None


def _open(store: Store, study: Study, rows: Sequence[Row], shown: set[str]) -> dict[str, Any] | None:
    """What belongs to no whole run yet: the newest such point, and all that differ from it in dials and seed alone."""
    loose = [row for row in rows if row["address"] not in shown]
    if not loose:
        return None
    newest = max(loose, key=lambda row: str(row["finished"]))
    same = [name for name in store.settings(study.name, newest["address"]) if name not in ("seed", *study.dials)]
    alike = [row for row in rows if all(row.get(name) == newest[name] for name in same)]
    scale, whole = _design(study, newest["address"])
    long = _long(study, alike, {"scale": scale})
    if long is None:
        return None
    found = {name: view.measure(long) for name, view in study.views.items() if name == main(study, [name])}
    name = main(study, [name for name, what in found.items() if len(what.estimates)])
    ours = _figure(study, name, found[name].as_dict(), long) if name else None
    return {"figure": ours, "points": len(alike), "of": whole, "scale": scale, "newest": newest["address"]}


def _design(study: Study, address: str) -> tuple[str, int | None]:
    """The scale whose design holds a point, and of how many points that is; "laptop" and None where none does."""
    for scale in study.scales:
        try:
            design = {point.address for point in study.points(study.resolve({"scale": scale}))}
        except BadRequest:  # this machine cannot train it
            continue
        if address in design:
            return scale, len(design)
    return "laptop", None


def training(store: Store, study: Study) -> Iterator[dict[str, Any]]:
    """What is being measured now: in words, and the last look at it."""
    for folder in store.points_folder(study.name).glob(".tmp-*"):
        try:
            point = json.loads((folder / "point.json").read_text("utf-8"))
            lines = (folder / "log.jsonl").read_text("utf-8").splitlines() if (folder / "log.jsonl").exists() else []
            look = json.loads(lines[-1]) if lines else {}
        except (OSError, ValueError):  # it was finished, or is being written
            continue
        dials = ", ".join(f"{words} {point[name]}" for name, words in study.dials.items() if name in point)
        yield {"what": f"{dials}, seed {point.get('seed')}", "steps": point.get("steps"), **look}


def asks_rules(row: Row) -> bool:
    """Whether a point's model reads rules x -> y, of this lab's own recipe."""
    return row.get("recipe") == "fast" and {"pattern_length", "input_length", "occurrences"} <= row.keys()


def questions(row: Row) -> list[list[str]]:
    """Rules that a model has not seen, with one input each: pattern, replacement, input, right answer."""
    times = row["occurrences"]
    task = RewritingTask(row["pattern_length"], row["input_length"], tuple(times) if isinstance(times, list) else times,
                         row.get("noop_share", 0.0), row["alphabet"])  # fmt: skip
    n = min(ASKED, row["test_rules"])
    rules = draw_rules(task, n, seed=row["seed"], split="test")
    asked = draw_inputs(task, rules, np.arange(n), seed=row["seed"])
    return [[decode(side, task.alphabet) for side in (rules.x[i], rules.y[i], asked.z[i], asked.answer[i])]
            for i in range(n)]  # fmt: skip


def model(store: Store, address: str) -> dict[str, Any]:
    """A model of the store as a page runs it, with its questions.

    Raises:
        BadRequest: where there is none that a page can run.
    """
    from labkit import learn
    from labkit.show.asking import portable

    folder = store.find(address)
    row = store.row(folder.parent.parent.name, folder.name)
    return portable(learn.load(folder)) | {"asked": questions(row), "kinds": kinds(row)}


def kinds(row: Row) -> dict[str, list[list[str]]]:
    """Questions of each kind, of the sizes that a model reads; none where these leave kinds no room."""
    sizes = {"alphabet": row["alphabet"], "pattern": row["pattern_length"], "length": row["input_length"]}
    try:
        drawn = {kind: draw_kind(kind, OF_A_KIND, **sizes, seed=row["seed"]) for kind in KINDS}
    except BadRequest:
        return {}
    return {kind: [[*question, question.answer] for question in some] for kind, some in drawn.items()}


def carried(data: Mapping[str, Any]) -> list[str]:
    """The addresses of models that a page without a server carries along: one seed's of the first curve of rules."""
    for study in data["studies"]:
        for part in (*study["runs"], study["open"]):
            series = ((part and part["figure"]) or {}).get("series", [])
            models = [model for one in series for model in one["models"] if model[2] in study["models"]]
            if models:
                first = sorted(model for model in models if model[3] == min(other[3] for other in models))
                by_place = list({place: address for place, _, address, *_ in first}.values())
                return by_place[:: -(-len(by_place) // CARRIED)]
    return []


def write_page(folder: Path, data: Mapping[str, Any], find: Callable[[str], Mapping[str, Any]]) -> Path:
    """The page with some models in it, as `index.html` of a folder."""
    from labkit import show

    models = {}
    for address in carried(data):
        try:
            models[address] = find(address)
        except BadRequest as problem:  # say, a store that was copied without its weights
            print(f"note: {first_line(problem)}")
    return show.write_wall(folder / "index.html", data, models)
