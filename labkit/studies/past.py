"""Runs that are over: what was asked of each, how two differ, and whether one comes out again.

Two runs are compared model by model: models of equal dials and seed make a pair. Its questions are paired in their
order, which holds as long as both models were asked equally many; an interval resamples seeds and questions of pairs
(`labkit.grade.paired_difference`). Where both runs show the very same models the difference is exactly 0.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from labkit.errors import BadRequest
from labkit.lab import Store
from labkit.lab.query import sort_key
from labkit.lab.runs import PastRun
from labkit.studies.rows import long_rows
from labkit.studies.study import Study
from labkit.studies.views import Curve, Pairs, verdict

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd


def off_scale(study: Study, params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that are not what their scale sets; all of them where the study no longer has the scale."""
    try:
        usual = study.resolve({"scale": params["scale"]}).model_dump(mode="json")
    except BadRequest:
        usual = {}
    return {name: value for name, value in params.items() if name not in usual or usual[name] != value}


def label_of(study: Study, params: Mapping[str, Any]) -> str:
    """What tells a run from others in the name of its folder: its scale, and what differs from it."""
    differs = [f"{name}={value}" for name, value in off_scale(study, params).items()]
    plain = re.sub(r"[^\w=.,-]+", "", " ".join(differs).replace(", ", ",").replace(" ", "-"))
    return "-".join([str(params["scale"]), plain[:80]]).strip("-")


def line_of(run: PastRun, study: Study | None) -> dict[str, Any]:
    """A run in a table of runs; without its study nobody knows what differs from the scale."""
    made = run.provenance
    own = off_scale(study, run.result["params"]) if study else {}
    differs = " ".join(f"{name}={value}" for name, value in own.items()) if study else "?"
    commit, changes, _ = str(made.get("git") or "-").partition("+changes")
    return {
        "run": run.folder.name, "scale": run.result["scale"], "differs": differs,
        "minutes": round(made["seconds"] / 60, 1) if "seconds" in made else None, "commit": commit[:8] + changes[:1],
        "finding": run.result["finding"], "study": run.result["study"],
        "time": str(made.get("time", "-"))[:16].replace("T", " "),
    }  # fmt: skip


@dataclass(frozen=True)
class Comparison:
    """Two runs of one study, A and B; see the module. `rows` are the long rows of both, told apart by `run`."""

    study: Study
    runs: Mapping[str, PastRun]
    rows: "pd.DataFrame"

    def parameters(self) -> list[dict[str, Any]]:
        """The parameters that differ, and the commits where these differ."""
        one, other = ({**run.result["params"], "commit": _commits(run)} for run in self.runs.values())
        names = [name for name in dict.fromkeys([*one, *other]) if one.get(name) != other.get(name)]
        return [{"differs": name, "A": one.get(name), "B": other.get(name)} for name in names]

    def differences(self) -> list[dict[str, Any]]:
        """One line per exam and setting of the dials: what B scores above A, on the seeds that both runs have.

        What cannot be paired is left out.
        """
        dials = [name for name in (*self.study.dials, "volume") if name in self.rows]
        whole = self.rows[self.rows["key"].eq(self.rows["exam"])].copy()
        for name in dials:  # a list as a value, such as several numbers of occurrences in one model, is no key
            whole[name] = whole[name].map(lambda at: str(at) if isinstance(at, list) else at)
        lines = []
        for at, group in whole.groupby(["exam", *dials], sort=False, dropna=False):
            shared = group[group.groupby("seed")["run"].transform("nunique").eq(2)]
            seeds = shared["seed"].nunique()
            if len(shared) != 2 * seeds or shared["asked"].map(len).nunique() != 1:
                continue  # no seed is shared, a seed has several models, or the exams are of different lengths
            gain = Pairs(title="", arm="run", pairs={}, exam="").gain(shared, "A", "B")
            assert gain is not None
            if same := shared["address"].nunique() == seeds:  # the very same models
                gain |= {"lo": 0.0, "hi": 0.0}
            numbers = {"B - A": gain["mean"], "95 % low": gain["lo"], "high": gain["hi"], "seeds": gain["seeds"]}
            what = {"verdict": "the same models" if same else verdict(gain)}
            lines.append(dict(zip(["exam", *dials], at, strict=True)) | numbers | what)
        return sorted(lines, key=lambda line: [sort_key(line[name]) for name in ("exam", *dials)])

    def chart(self) -> "alt.TopLevelMixin":
        """Both curves in one picture: the study's first view along a dial of which there is anything.

        Raises:
            BadRequest: for a study that has none.
        """
        for view in self.study.views.values():
            if isinstance(view, Curve) and len(view.select(self.rows, list(view.exams))):
                names = {label: f"{label} {run.folder.name}" for label, run in self.runs.items()}
                label = self.rows["run"].map(names if self.runs.keys() == {"A", "B"} else str)
                if view.by:
                    label += ", " + self.rows[view.by].map(view.by_label)
                both = replace(view, by="run", by_name="run", by_label=str, fit=None, beside={})
                return both.chart(both.measure(self.rows.assign(run=label)))
        raise BadRequest(f"{self.study.name} has no view along a dial: its differences are a table alone")


def compare(study: Study, runs: Mapping[str, PastRun], store: Store) -> Comparison:
    """The runs A and B side by side; their points are read from the store.

    Raises:
        BadRequest: for runs of two studies, or a point that the store does not have.
    """
    import pandas as pd

    if len(names := {run.result["study"] for run in runs.values()}) > 1:
        raise BadRequest(f"these are runs of {' and '.join(sorted(names))}: two runs of one study can be compared")
    parts = []
    for label, run in runs.items():
        points = run.result["points"]
        rows = long_rows([store.row(point.get("study", study.name), point["address"]) for point in points])
        marked = rows.assign(**study.marks(study.resolve(run.result["params"])))
        parts.append(study.summarise(marked).rows.assign(run=label))
    return Comparison(study, runs, pd.concat(parts, ignore_index=True))


def _commits(run: PastRun) -> str:
    made = run.provenance
    return ", ".join(made.get("points", {}).get("commits", {})) or str(made.get("git"))
