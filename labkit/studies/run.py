"""One run of a study, as a notebook conducts it: begin, measure, look, finish.

run = studies.begin("diversity_sweep", globals())  # the parameters that the notebook's first cell sets
results = run.measure()                            # what the store holds is not measured again
results.chart()
run.finish(results)                                # result.json, report.html, params.yaml, provenance.json
"""

import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from labkit.lab import Point, Progress, Row, Store, provenance, run_folder, sweep, write_json, write_text
from labkit.lab.store import ELSEWHERE
from labkit.studies.params import from_text
from labkit.studies.past import label_of
from labkit.studies.rows import long_rows, points_of
from labkit.studies.study import Results, Study

if TYPE_CHECKING:
    import pandas as pd


NO_PROMISE = "no registration for this study and scale: what comes out is exploratory"


@dataclass(frozen=True)
class Run:
    """See the module. `began` is the time of `time.perf_counter` at which the run began."""

    study: Study
    params: Any
    store: Store = field(default_factory=Store.default)
    began: float = field(default_factory=time.perf_counter)

    def measure(self, stages: int | None = None, jobs: int | None = None) -> Results:
        """Measure what the store does not hold yet, stage by stage.

        `stages` limits how many later stages follow the first one; default all.

        Raises:
            BadRequest: when something that the study needs is not there; nothing was started.
            SweepFailed: when a point failed; all others are in the store.
        """
        import pandas as pd

        rows = long_rows(self._swept(self.study.points(self.params), jobs))
        for stage in self.study.stages[:stages]:
            if points := stage(self.params, rows):
                rows = pd.concat([rows, long_rows(self._swept(points, jobs))], ignore_index=True)
        marked = rows.assign(**self.study.marks(self.params))
        return self.study.summarise(marked, self.study.registration(self.params), self.params.scale)

    def registered(self) -> list[dict[str, Any]]:
        """What was promised before the run, for people; without a registration the one line that says so."""
        promise = self.study.registration(self.params)
        return promise.lines() if promise else [{"registered before the run": "nothing", "what": NO_PROMISE}]

    def chosen(self) -> list[dict[str, Any]]:
        """What the parameters are, for people."""
        return [{"parameter": name, "value": value} for name, value in self.params]

    def idea(self) -> Any:
        """The study's idea in one figure.

        Raises:
            BadRequest: for a study without one.
        """
        from labkit.show.idea import Idea
        from labkit.studies import exercises

        return Idea(**exercises.read(self.study.name, self.params)[0].model_dump())

    def exercises(self) -> Any:
        """Three exercises with checks that help on; a saved copy shows them to unfold.

        Raises:
            BadRequest: for a study without any.
        """
        from labkit.show.teaching import exercises_box
        from labkit.studies import exercises

        return exercises_box(exercises.read(self.study.name, self.params)[1])

    def _swept(self, points: Sequence[Point], jobs: int | None) -> list[Row]:
        self.study.serving(self.params, points, self.store)
        progress, together = Progress.default(self.study.describe), self.study.measure_many
        return sweep(points, self.study.measure, measure_many=together, store=self.store, jobs=jobs, progress=progress)

    def logs(self, rows: "pd.DataFrame") -> "pd.DataFrame":
        """What the measurements of some rows logged: one row per line, with its point's settings and `address`."""
        import pandas as pd

        models = rows.drop_duplicates("address")
        plain = [name for name in models if not models[name].map(lambda value: isinstance(value, list)).any()]
        settings = models[plain].to_dict("records")
        logs = [self.store.log(str(one["study"]), str(one["address"])) for one in settings]
        return pd.DataFrame([{**one, **line} for one, lines in zip(settings, logs, strict=True) for line in lines])

    def finish(self, results: Results) -> Path:
        """Leave the run's files: `result.json`, `report.html`, `params.yaml`, `provenance.json`; return their folder.

        The folder is `$LABKIT_RUN_DIR` under `labkit run`, else a new one in the store. `result.json` comes last: a
        folder that holds it is a whole run.
        """
        chosen = self.params.model_dump(mode="json")
        named = os.environ.get("LABKIT_RUN_DIR")
        folder = Path(named or run_folder(self.store, self.study.name, chosen, label_of(self.study, chosen))).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        if not folder.is_relative_to(self.store.root.resolve()):  # so that `labkit store prune` knows what it shows
            write_text(self.store.root / self.study.name / f"{ELSEWHERE}{folder.stat().st_ino}", str(folder))
        made = {**provenance(), "seconds": round(time.perf_counter() - self.began, 1), "points": self._commits(results)}
        write_text(folder / "params.yaml", yaml.safe_dump(chosen, sort_keys=False))
        write_json(folder / "provenance.json", made)
        self._report(folder / "report.html", results, chosen, made)
        write_json(folder / "result.json", self._result(results, chosen))
        return folder

    def _commits(self, results: Results) -> dict[str, Any]:
        """How many of the run's points each commit measured; says so where there are several."""
        points = points_of(results.rows)
        made = [self.store.provenance(*at) for at in zip(points["study"], points["address"], strict=True)]
        commits = Counter(f"{one.get('commit') or 'unknown'}{'+changes' * one.get('dirty', False)}" for one in made)
        several = f"points of {len(commits)} commits: they may not have been measured by the same code"
        if len(commits) > 1:
            print(f"note: {several}")
        return {"commits": dict(commits)} | ({"note": several} if len(commits) > 1 else {})

    def _report(self, path: Path, results: Results, chosen: Mapping[str, Any], made: Mapping[str, Any]) -> None:
        from labkit import show

        views = {name: self.study.views[name] for name in results.views()}
        show.write_report(
            path,
            title=self.study.name.replace("_", " ").capitalize(),
            question=self.study.question,
            finding=results.finding,
            charts=[(view.caption or view.title, results.chart(name)) for name, view in views.items()],
            tables=[
                *((view.title, results.table(name)) for name, view in views.items()),
                *((caption, table(results)) for caption, table in self.study.tables.items()),
                ("Registered before the run", self.registered()),
                ("The registered endpoint, as measured", results.endpoint),
                ("Beside what was published", results.claims),
            ],
            notes=self.study.remarks(self.params),
            params=chosen,
            provenance=made,
            paper=self.study.paper,
        )

    def _result(self, results: Results, chosen: Mapping[str, Any]) -> dict[str, Any]:
        points = points_of(results.rows).to_dict("records")
        return {
            "study": self.study.name,
            "scale": self.params.scale,
            "params": chosen,
            "points": [{k: v for k, v in row.items() if v == v} for row in points],  # NaN: not of this row
            "summary": results.as_dict(),
            "table": results.table(),
            "finding": results.finding,
            "registered": self.registered(),
            "endpoint": results.endpoint,
            "published": results.published,
            "claims": results.claims,
        }


def begin(study: Study, namespace: Mapping[str, Any]) -> Run:
    """A run with the parameters that a notebook's first cell sets; says what was decided for the person.

    Charts of this process wear the lab's theme from here on.

    Raises:
        BadRequest: for a value that the study does not allow.
    """
    from labkit import show

    show.enable()
    show.fit()
    texts = {name for name, field in study.Params.model_fields.items() if field.annotation is str}
    given = {name: namespace[name] for name in study.names() if name in namespace}
    params = study.resolve({name: value if name in texts else from_text(value) for name, value in given.items()})
    for note in study.remarks(params):
        print(f"note: {note}")
    return Run(study, params)
