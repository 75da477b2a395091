"""Runs that are over: what was asked of each, how two differ, and whether one comes out again.

Two runs are compared model by model: models of equal dials and seed make a pair. Its questions are paired in their
order, which holds as long as both models were asked equally many; an interval resamples seeds and questions of pairs
(`labkit.grade.paired_difference`). Where both runs show the very same models the difference is exactly 0.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from labkit.errors import BadRequest
from labkit.lab.runs import PastRun
from labkit.studies.study import Study

NOT_RESULTS = ("finished", "seconds", "fleet")  # ends of names that tell of time and machine: no run repeats them


def off_scale(study: Study, run: PastRun) -> dict[str, Any]:
    """The parameters of a run that are not what its scale sets; all of them where the study no longer has the scale."""
    try:
        usual = study.resolve({"scale": run.result["scale"]}).model_dump(mode="json")
    except BadRequest:
        usual = {}
    return {name: value for name, value in run.params.items() if name not in usual or usual[name] != value}


def line_of(run: PastRun, study: Study | None) -> dict[str, Any]:
    """A run in a table of runs; without its study nobody knows what differs from the scale."""
    made = run.provenance
    differs = " ".join(f"{name}={value}" for name, value in off_scale(study, run).items()) if study else "?"
    commit, changes, _ = str(made.get("git") or "-").partition("+changes")
    return {
        "run": run.folder.name, "study": run.study, "scale": run.result["scale"], "differs": differs,
        "minutes": round(made["seconds"] / 60, 1) if "seconds" in made else None, "commit": commit[:8] + changes[:1],
        "time": str(made.get("time", "-"))[:16].replace("T", " "), "finding": run.result["finding"],
    }  # fmt: skip


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
