"""The study contract: what a study says about itself, and what the lab then does with it.

A study is one module and one notebook. The module defines
- `Params`: what a person may set, with a documented field for each (a `StudyParams`);
- `points(params)`: the cells of the design, each a frozen `Point` that holds everything its result depends on;
- `measure(point, record)`: one cell's result, pure up to its seed;
- `summarise(frame)`: estimates with intervals;
- `chart(frame, summary, published)`: the picture,
and collects them, with its question, paper, scales and expected minutes, in a `Study` named `STUDY`.
"""

import ast
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError

from labkit.errors import BadRequest, expanded, unknown
from labkit.lab import Measure, MeasureMany, Point, Store

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

Chart = Callable[["pd.DataFrame", dict[str, Any], list[dict[str, Any]]], "alt.TopLevelMixin"]
Figure = Callable[["pd.DataFrame", dict[str, Any], list[dict[str, Any]]], "alt.TopLevelMixin | None"]


class StudyParams(BaseModel):
    """What a person may set. Every field has a description; the notebook's parameters cell has the same names.

    `groups` names fields that the cell sets together, as a dict under the group's name, so that it stays short.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)
    groups: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    scale: str


@dataclass(frozen=True)
class Study:
    """A study as the lab sees it; see the module for the functions' meaning.

    Attributes:
        name: Also the name of its notebook and of its folder in the store.
        question: One line.
        paper: Citation.
        minutes: Expected minutes, by scale, as text with the hardware they are meant for.
        scales: The values each scale gives to the parameters.
        notes: From the resolved parameters, sentences on what was decided for the person (say, an uneven budget).
        describe: A few words for one row, for the progress display.
        finding: One sentence that states what was found, intervals included.
        compare: From the summary and the published records, a row a published statement: `published`, `ours` (with
            intervals), `agrees` ("yes", "no", "not decided" or "not tested here"), `source`.
        summary_table: The rows a person reads first.
        measure_many: `measure` for several points of one shape, where they can be measured together.
        figures: More pictures, by caption: as `chart`, or None where there is nothing to draw.
        tables: More tables, by caption: as `summary_table`.
        service: What must run while points are measured, such as a teacher: entered with the parameters before the
            first measurement, and not at all where the store holds every point. Refuses (BadRequest) what it lacks.
        later: A second stage, from the parameters and the rows of the first: the points that these decide, such as a
            plan that is to be tried; see `studies.run_later`. `summarise` takes rows with and without them.
    """

    name: str
    question: str
    paper: str
    minutes: Mapping[str, str]
    scales: Mapping[str, Mapping[str, Any]]
    Params: type[StudyParams]
    points: Callable[[Any], Sequence[Point]]
    measure: Measure
    summarise: Callable[["pd.DataFrame"], dict[str, Any]]
    chart: Chart
    finding: Callable[[dict[str, Any]], str]
    compare: Callable[[dict[str, Any], list[dict[str, Any]]], list[dict[str, Any]]]
    summary_table: Callable[[dict[str, Any]], list[dict[str, Any]]]
    describe: Callable[[dict[str, Any]], str]
    notes: Callable[[Any], list[str]]
    measure_many: MeasureMany | None = None
    figures: Mapping[str, Figure] = field(default_factory=dict)
    tables: Mapping[str, Callable[[dict[str, Any]], list[dict[str, Any]]]] = field(default_factory=dict)
    service: Callable[[Any], AbstractContextManager[object]] | None = None
    later: Callable[[Any, "pd.DataFrame"], Sequence[Point]] | None = None

    def resolve(self, given: Mapping[str, Any] | None = None) -> Any:
        """The parameters at `given["scale"]` (default `laptop`), with whatever else is given put over its values.

        A value of None means "as the scale says", so that a notebook can name every parameter without setting it.

        Raises:
            BadRequest: for an unknown name or scale, a wrong type, or a value out of range.
        """
        given = self._ungrouped(given or {})
        for name in given:
            if name not in self.Params.model_fields:
                raise unknown(f"parameter of {self.name}", name, self.Params.model_fields)
        chosen = {name: value for name, value in given.items() if value is not None}
        for name, value in chosen.items():
            flags = "bool" in str(self.Params.model_fields[name].annotation)
            if not flags and any(isinstance(one, bool) for one in _leaves(value)):
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

    def _ungrouped(self, given: Mapping[str, Any]) -> dict[str, Any]:
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

    def serving(self, params: Any, points: Sequence[Point], store: Store) -> AbstractContextManager[object]:
        """The study's service, where a point has still to be measured."""
        if self.service is None or all(store.result(point) is not None for point in points):
            return nullcontext()
        return self.service(params)

    def notebook(self) -> Path:
        """The study's notebook: beside the package in a checkout, inside it when installed from a wheel."""
        package = Path(__file__).parent.parent
        places = [package.parent / "notebooks", package / "_notebooks"]
        return next(path for path in (place / f"{self.name}.ipynb" for place in places) if path.exists())


def sentence(error: ValidationError) -> str:
    """Pydantic's first complaint, as one sentence that names the parameter, its value and what is allowed."""
    first = error.errors()[0]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, BadRequest):
        return str(cause)
    message = first["msg"].removesuffix(" after validation, not 0")
    name = f"{first['loc'][0]} = " if first["loc"] else ""
    return f"{name}{first['input']!r}: {message[0].lower()}{message[1:]}"


def _leaves(value: Any) -> Iterator[Any]:
    """What a value holds, lists in lists taken apart."""
    if isinstance(value, list | tuple):
        for one in value:
            yield from _leaves(one)
    else:
        yield value


def parse_value(text: str) -> Any:
    """A value from the command line: JSON, else a Python literal, else the text itself (`~/` is the home folder).

    Raises:
        BadRequest: for brackets in brackets, without end.

    >>> parse_value("[0, 1]"), parse_value("1e5"), parse_value("fast"), parse_value("(1, 2)")
    ([0, 1], 100000.0, 'fast', (1, 2))
    """
    for parse in (json.loads, ast.literal_eval):
        try:
            value = parse(text)
        except (ValueError, SyntaxError):
            continue
        except (RecursionError, MemoryError):  # what Python's parsers say of brackets in brackets
            raise BadRequest(f"'{text[:20]}...' is nested too deeply for a value") from None
        if _depth(value) > 20:
            raise BadRequest(f"'{text[:20]}...' is nested too deeply for a value")
        return value
    return expanded(text) if text.startswith("~/") else text


def _depth(value: Any) -> int:
    """How many lists, or dicts, lie in one another."""
    depth, layer = 0, [value]
    while layer:
        inside = [list(one.values()) if isinstance(one, dict) else one for one in layer]
        layer = [item for one in inside if isinstance(one, list | tuple | set) for item in one]
        depth += 1
    return depth - 1


def parse_settings(settings: Sequence[str], what: str = "--set") -> dict[str, str]:
    """`["name=value", ...]` as a dict of texts.

    Raises:
        BadRequest: for a text without `=`, or a name given twice.
    """
    found: dict[str, str] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not (equals and name and value):
            raise BadRequest(f"{what} {setting!r} is not of the form name=value")
        if name in found:
            raise BadRequest(f"{what} gives '{name}' twice")
        found[name] = value
    return found
