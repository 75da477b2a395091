"""What a study is: a design, cells that know their lesson, views, and claims; all that people see follows from these.

A study is one module and one notebook of the same name. The module defines
- `Params`: what a person may set, with a documented field for each (a `StudyParams`);
- `points(params)`: the cells of the design, each a frozen `Point` that holds everything its result depends on and says
  in `lesson()` what its model learns from and which exams it sits;
- `VIEWS`: what is looked at along which dial;
- `finding(results)`: one sentence that states what was found, intervals included,
and collects them, with its question, paper, scales and expected minutes, in a `Study` named `STUDY`.
"""

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import ValidationError

from labkit.errors import BadRequest, check_known, unknown
from labkit.lab import Measure, MeasureMany, Point, Store
from labkit.studies.cell import measure, measure_many
from labkit.studies.claims import claims_of, judged
from labkit.studies.params import StudyParams, leaves, sentence
from labkit.studies.registration import Registration, registered, stamped
from labkit.studies.views import SETTINGS, Fit, Found, View

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

NO_MEANING = "smoke scale: these numbers mean nothing, they show that the study runs"
NotebookPlaces = (Path(__file__).parents[2] / "notebooks", Path(__file__).parents[1] / "_notebooks")


@dataclass(frozen=True)
class Study:
    """A study as the lab sees it; see the module.

    Attributes:
        name: Also the name of its notebook and of its folder in the store.
        question: One line.
        paper: Citation.
        minutes: Expected minutes, by scale, as text with the hardware they are meant for.
        scales: The values each scale gives to the parameters.
        dials: What varies between cells, and how a person reads it; the progress display names them.
        views: What is looked at, by name; the first is the study's main picture and table.
        finding: From the results, one sentence that states what was found, intervals included.
        notes: From the parameters, sentences on what was decided for the person (say, an uneven budget).
        columns: From the long rows to the same with more columns, such as a share made from two counts.
        marks: From the parameters to columns that they add to all rows, such as which grading is the main one.
        published: Which entries of `show/published.json` hold its claims; default the one of its name.
        tables: More tables, by caption, from the results.
        check: Looks, before points are measured, for what they need and only measuring meets (an endpoint).
        stages: Later stages, each from the parameters and the long rows so far to the points that these decide.
        registrations: What was promised before the report seeds ran, by scale; see `studies.registration`.
        measure, measure_many: How a cell is measured, alone and several of one shape together.
    """

    name: str
    question: str
    paper: str
    minutes: Mapping[str, str]
    scales: Mapping[str, Mapping[str, Any]]
    Params: type[StudyParams]
    points: Callable[[Any], Sequence[Point]]
    dials: Mapping[str, str]
    views: Mapping[str, View]
    finding: Callable[["Results"], str]
    notes: Callable[[Any], list[str]] = lambda params: []
    columns: Callable[["pd.DataFrame"], "pd.DataFrame"] = lambda rows: rows
    marks: Callable[[Any], Mapping[str, Any]] = lambda params: {}
    published: Sequence[str] = ()
    tables: Mapping[str, Callable[["Results"], list[dict[str, Any]]]] = field(default_factory=dict)
    stages: Sequence[Callable[[Any, "pd.DataFrame"], Sequence[Point]]] = ()
    check: Callable[[Any, Store], None] = lambda params, store: None
    registrations: Mapping[str, Registration] = field(default_factory=dict)
    measure: Measure = measure
    measure_many: MeasureMany | None = measure_many

    def __post_init__(self) -> None:
        """The package's own registrations hold where none are given; every cell carries the digest of its own."""
        object.__setattr__(self, "registrations", self.registrations or registered(self.name))
        promised = lambda params: getattr(self.registration(params), "digest", "")  # noqa: E731
        object.__setattr__(self, "points", stamped(self.points, promised))
        object.__setattr__(self, "stages", [stamped(stage, promised) for stage in self.stages])

    def registration(self, params: Any) -> Registration | None:
        """What was registered for the scale of some parameters.

        Raises:
            BadRequest: where it does not fit the study, or the seeds mix report and development.
        """
        promise = self.registrations.get(params.scale)
        if promise:
            promise.check(self.name, list(self.views), params)
        return promise

    def resolve(self, given: Mapping[str, Any] | None = None) -> Any:
        """The parameters at `given["scale"]` (default `laptop`), with whatever else is given put over its values.

        A value of None means "as the scale says", so that a notebook can name every parameter without setting it.

        Raises:
            BadRequest: for an unknown name or scale, a wrong type, or a value out of range.
        """
        given = self.ungrouped(given or {})
        check_known(f"parameter of {self.name}", given, self.Params.model_fields)
        chosen = {name: value for name, value in given.items() if value is not None}
        for name, value in chosen.items():
            flags = "bool" in str(self.Params.model_fields[name].annotation)
            if not flags and any(isinstance(one, bool) for one in leaves(value)):
                raise BadRequest(f"{name} = {value!r}: true and false are no values of it")
        scale = chosen.setdefault("scale", "laptop")
        if not isinstance(scale, str) or scale not in self.scales:
            raise unknown("scale", str(scale), self.scales)
        try:
            return self.Params(**{**self.scales[scale], **chosen})
        except ValidationError as error:
            raise BadRequest(sentence(error)) from None

    def names(self) -> list[str]:
        """What the notebook's parameters cell sets: parameters, and groups in the place of theirs."""
        inside = {name for members in self.Params.groups.values() for name in members}
        return [name for name in self.Params.model_fields if name not in inside] + list(self.Params.groups)

    def grouped(self, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """Values by parameter as the notebook's parameters cell takes them."""
        groups = {group: {name: chosen[name] for name in members} for group, members in self.Params.groups.items()}
        return {name: groups[name] if name in groups else chosen[name] for name in self.names()}

    def ungrouped(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Values as the notebook's parameters cell, or a parameter file, has them, by parameter.

        Raises:
            BadRequest: for a group that is no dict, or a parameter that it does not hold, or one given twice.
        """
        flat = {name: value for name, value in given.items() if name not in self.Params.groups}
        for group, members in self.Params.groups.items():
            parts = given.get(group) or {}
            if not isinstance(parts, Mapping):
                raise BadRequest(f"{group} = {parts!r}: a dict of some of {', '.join(members)}")
            for name, value in parts.items():
                if name not in members:
                    raise unknown(f"parameter in {group}", str(name), members)
                if flat.get(name) is not None:
                    raise BadRequest(f"'{name}' is given twice, by itself and in {group}")
                flat[name] = value
        return flat

    def params_file(self, scale: str) -> str:
        """What a scale sets, as a file for `labkit run --params` and `papermill -f`: each value under what it means."""
        fields, given = self.Params.model_fields, {**self.scales[scale], "scale": scale}
        values = {name: given.get(name, field.default) for name, field in fields.items()}
        lines = [f"# {self.name} at {scale} scale, expected: {self.minutes.get(scale, 'nobody has timed it')}"]
        for name, value in self.grouped(values).items():
            grouped = name in self.Params.groups
            members = value if grouped else {name: value}
            lines += [f"{name}:"] * grouped
            lines += ["  " * grouped + line for member in members for line in _set(member, members[member], fields)]
        return "\n".join(lines) + "\n"

    def describe(self, row: Mapping[str, Any]) -> str:
        """A finished point in a few words, for the progress display."""
        dials = [f"{words} {_short(row[name])}" for name, words in self.dials.items() if name in row]
        graded = {name: name.removeprefix("accuracy_") for name in map(str, row) if name.startswith("accuracy_")}
        scores = [f"{exam} {row[name]:.3f}" for name, exam in graded.items()]
        dials.append(f"seed {row['seed']}")
        return f"{', '.join(dials)}: {', '.join(scores[:3])}, {row.get('train_seconds', 0.0):.0f} s"

    def serving(self, params: Any, points: Sequence[Point], store: Store) -> AbstractContextManager[None]:
        """Make the study's `check` where a point has still to be measured."""
        if any(store.result(point) is None for point in points):
            self.check(params, store)
        return nullcontext()

    def summarise(self, rows: "pd.DataFrame", promise: Registration | None = None, scale: str = "") -> "Results":
        """What the views show of long rows; see `labkit.studies.run`."""
        plain = [name for name in rows if not rows[name].map(lambda value: isinstance(value, list | dict)).any()]
        rows = self.columns(rows.drop_duplicates(plain).reset_index(drop=True))  # a model counts once
        return Results(self, rows.assign(**{SETTINGS: self._settings(rows)}), promise, scale)

    def _settings(self, rows: "pd.DataFrame") -> list[str]:
        """What each row's model was made with, but for its seed, as one text; see `View.estimate`."""
        names = sorted({name for kind in self.kinds for name in kind.model_fields} & set(rows) - {"seed"})
        lines = (dict(zip(names, row, strict=True)) for row in rows[names].itertuples(index=False))
        return [json.dumps(line, default=str) for line in lines]

    @cached_property
    def kinds(self) -> list[type[Point]]:
        """The classes of its cells, as its smallest scale has them."""
        scale = "smoke" if "smoke" in self.scales else next(iter(self.scales))
        return list({type(point) for point in self.points(self.resolve({"scale": scale}))})

    def remarks(self, params: Any) -> list[str]:
        """The study's notes on some parameters, after what holds for any study."""
        return [NO_MEANING] * (params.scale == "smoke") + self.notes(params)

    def notebook(self) -> Path:
        """The study's notebook: beside the package in a checkout, inside it when installed, or beside its module."""
        own = Path(inspect.getfile(inspect.unwrap(self.points))).parent
        paths = [place / f"{self.name}.ipynb" for place in (own, *NotebookPlaces)]
        found = next((path for path in paths if path.exists()), None)
        if found is None:
            raise BadRequest(f"study '{self.name}' has no notebook: {paths[0]} is not there")
        return found


@dataclass(frozen=True)
class Results:
    """What a study found: every view's estimates, the finding, and the published statements judged."""

    study: Study
    rows: "pd.DataFrame"
    promise: Registration | None = None
    scale: str = ""

    @cached_property
    def found(self) -> dict[str, Found]:
        """By view; a view of which no model was measured is left out."""
        views = {name: view.measure(self.rows) for name, view in self.study.views.items()}
        return {name: found for name, found in views.items() if len(found.estimates)}

    @cached_property
    def finding(self) -> str:
        """One sentence, with what every study warns of."""
        lazy = int(self.rows.drop_duplicates("address")["learned"].eq(False).sum())
        warnings = [
            f"{lazy} models have not learned their own training set" * bool(lazy),
            "one seed: no interval says anything of other seeds" * (self.rows["seed"].nunique() == 1),
            NO_MEANING * (self.scale == "smoke"),
        ]
        return self.study.finding(self) + "".join(f" ({warning})" for warning in warnings if warning)

    @cached_property
    def endpoint(self) -> list[dict[str, Any]]:
        """The registered endpoint as measured, with the smallest difference that would have been found."""
        return self.promise.measured(self.found) if self.promise else [{"primary endpoint": "nothing was registered"}]

    @cached_property
    def published(self) -> list[dict[str, Any]]:
        from labkit import show

        return [record for name in self.study.published or (self.study.name,) for record in show.published(name)]

    @cached_property
    def claims(self) -> list[dict[str, str]]:
        """A row per published statement: what was published, ours, the verdict, the source."""
        return judged(self.published, self.found)

    def __getitem__(self, view: str) -> Found:
        return self.found[view]

    def fit(self, view: str) -> Fit:
        """What was fitted to a view."""
        fit = self.found[view].fit
        assert fit is not None
        return fit

    def views(self) -> list[str]:
        """The views that there is something to show of."""
        return list(self.found)

    def table(self, view: str | None = None) -> list[dict[str, Any]]:
        """A view's table for people; default the first view's."""
        view = view or next(iter(self.found))
        return self.study.views[view].table(self.found[view])

    def chart(self, view: str | None = None) -> "alt.TopLevelMixin":
        """A view's picture; the first view's has the finding as its title."""
        main = next(iter(self.found))
        view = view or main
        drawn = [record for record in self.published if any(claim["view"] == view for claim in claims_of(record))]
        small = f"{self.study.views[view].title} ({NO_MEANING})" if self.scale == "smoke" else ""
        return self.study.views[view].chart(self.found[view], drawn, self.finding if view == main else small)

    def as_dict(self) -> dict[str, Any]:
        """For `result.json`: by view its estimates and the numbers of its fit."""
        return {name: found.as_dict() for name, found in self.found.items()}


def _set(name: str, value: Any, fields: Mapping[str, Any]) -> list[str]:
    """A line of YAML that sets a parameter, under a comment that says what it is."""
    line = yaml.safe_dump({name: value}, default_flow_style=True, allow_unicode=True, width=10**6)
    return [f"# {fields[name].description or 'what is not set otherwise is as at this scale'}", line.strip()[1:-1]]


def _short(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "+".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else str(value)
