"""What a study promised before its report seeds ran: hypothesis, endpoint, decision, gates, seeds.

`registrations.yaml` holds one registration per study and scale. Its digest is part of every cell of that scale, so that
a result names the promise that it was measured under, and another promise means other cells. Seeds from `DEVELOPMENT`
on are for tuning; they are no report seeds, and no run mixes the two.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache, wraps
from hashlib import sha256
from importlib import resources
from itertools import takewhile
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from labkit import grade
from labkit.errors import BadRequest
from labkit.lab import Point
from labkit.studies.claims import chosen
from labkit.studies.params import StudyParams, sentence
from labkit.studies.views import Found, ranged

DEVELOPMENT = 1000  # the first seed for development


class Endpoint(BaseModel):
    """The estimates that decide: those of an exam of a view, chosen by column as in `studies.claims`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    view: str
    exam: str
    where: dict[str, Any] = {}


class Registration(BaseModel):
    """The promise of one study at one scale.

    Attributes:
        hypothesis: What is expected, as a statement that can turn out false.
        endpoint: What is looked at.
        smallest_effect: The smallest difference that matters, in units of the endpoint.
        rule: When the hypothesis counts as supported, as contradicted, and as neither.
        gates: What has to be reached before a model or a kind of task counts: what is scored, and the least score.
        seeds: The report seeds.
        stop: When no more is run.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    hypothesis: str = Field(min_length=1)
    endpoint: Endpoint
    smallest_effect: float = Field(gt=0)
    rule: str = Field(min_length=1)
    gates: dict[str, float] = {}
    seeds: tuple[int, ...] = Field(min_length=1)
    stop: str = "after the report seeds"

    @property
    def digest(self) -> str:
        """The first 12 hex digits of the SHA-256 of its canonical JSON."""
        return sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()[:12]

    def check(self, study: str, views: Sequence[str], params: StudyParams) -> None:
        """BadRequest where it does not fit the study, or names seeds that are for development."""
        if self.endpoint.view not in views:
            raise BadRequest(
                f"the registration of {study} looks at the view '{self.endpoint.view}', which the study does not have"
                f" (it has {', '.join(views)})"
            )
        if late := [seed for seed in self.seeds if seed >= DEVELOPMENT]:
            raise BadRequest(
                f"the registration of {study} reports seed {late[0]}: seeds from {DEVELOPMENT} on are for development"
            )
        seeds: list[int] = getattr(params, "seeds", [])
        if len({seed >= DEVELOPMENT for seed in seeds}) > 1:
            raise BadRequest(f"seeds = {seeds}: report seeds are below {DEVELOPMENT}, and never run with those above")

    def lines(self) -> list[dict[str, Any]]:
        """For people: one row per part."""
        at = ", ".join(f"{name} {value}" for name, value in self.endpoint.where.items())
        parts = {
            "hypothesis": self.hypothesis,
            "primary endpoint": f"{self.endpoint.exam} in the view '{self.endpoint.view}'" + f", at {at}" * bool(at),
            "smallest effect of interest": f"{self.smallest_effect:g}",
            "decision rule": self.rule,
            "gates": "; ".join(f"{name}: {least:g} or more" for name, least in self.gates.items()) or "none",
            "report seeds": ", ".join(map(str, self.seeds)),
            "stop": self.stop,
            "registered as": self.digest,
        }
        return [{"registered before the run": name, "what": text} for name, text in parts.items()]

    def measured(self, found: Mapping[str, Found]) -> list[dict[str, Any]]:
        """The endpoint as measured: one row per estimate, and the smallest difference that would have been found."""
        view = found.get(self.endpoint.view)
        lines = chosen(view.estimates, self.endpoint.where, self.endpoint.exam) if view else []
        return [
            {
                "primary endpoint": _place(line),
                "measured [95 %]": ranged(line),
                "smallest effect of interest": self.smallest_effect,
                "would be found in 80 of 100 cases": f"{grade.detectable(line['lo'], line['hi']):.3f}"
                if line["seeds"] > 1
                else "not known from one seed",
                "seeds": line["seeds"],
            }
            for line in lines
        ]


def _place(line: Mapping[str, Any]) -> str:
    """Where on the dials of its view an estimate lies: its label, or the columns that come before the exam's."""
    dials = takewhile(lambda item: item[0] != "exam", line.items())
    return str(line.get("label") or ", ".join(f"{name} {value}" for name, value in dials) or line["exam"])


@cache
def registered(study: str) -> Mapping[str, Registration]:
    """The registrations of a study, by scale; none of a study that the package does not have.

    Raises:
        BadRequest: for a registration with a part missing or out of range.
    """
    text = resources.files("labkit.studies").joinpath("registrations.yaml").read_text("utf-8")
    try:
        return {scale: Registration(**given) for scale, given in (yaml.safe_load(text) or {}).get(study, {}).items()}
    except ValidationError as error:
        raise BadRequest(f"the registration of {study}: {sentence(error)}") from None


def stamped(points: Callable[..., Sequence[Point]], digest: Callable[[Any], str]) -> Callable[..., Sequence[Point]]:
    """The same points, each with the digest of the registration that it falls under."""

    @wraps(points)
    def marked(params: Any, *rest: Any) -> Sequence[Point]:
        own = {"registration": digest(params)}
        return [
            point.model_copy(update=own) if "registration" in type(point).model_fields else point
            for point in points(params, *rest)
        ]

    return marked
