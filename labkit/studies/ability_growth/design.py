"""The design of the study of ability growth: parameters, cells, and the points of its two stages."""

from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from labkit.errors import BadRequest, check_known, unknown
from labkit.grade import questions
from labkit.studies import abilities, learners, read_abilities, scores
from labkit.studies.abilities import AbilityCell, GatedParams
from labkit.studies.ability_growth import doit, plan
from labkit.studies.growing import Records
from labkit.studies.params import MODEL_GROUP, check_heads, whole_paths

if TYPE_CHECKING:
    import pandas as pd

Counts = dict[str, dict[str, int]]
Volume = Annotated[int, Field(ge=1, le=10**7)]


class Params(GatedParams):
    """What a person may set; see `catalogue.yaml` for the values each scale gives."""

    groups: ClassVar = {
        "plan": ("budget", "mixes", "fresh_seeds", "tried", "floor", "proxy_steps"),
        "task": ("outside", "levels", "question", "answer", "n_test"),
        "weak": ("compared", "repertoire", "teacher_width", "teacher_steps"),
        "small": MODEL_GROUP,
        "base": ("loss", "base_steps", "base_batch", "base_tokens", "base_answered", "base_gate"),
        "tuned": ("model", "corpus", "files", "tuning", "exams", "new_tokens"),
    }
    volumes: list[Volume] = Field(min_length=1, description="the ladder: examples of each ability")
    sources: list[str] = Field(min_length=1, description="curated, narrow, answered, synthetic (DoIT: the outer two)")
    compared: list[Volume] = Field(description="volumes at which sources but curated are tried; []: all of them")
    fresh_seeds: list[int] = Field(min_length=1, description="seeds of the second stage, none of them in seeds")
    budget: int = Field(ge=1, le=10**9, description="examples in all that are planned for")
    mixes: list[str] = Field(description="second stage: planned, baseline, reconstruct, maximum, mix-N; []: none")
    tried: int = Field(ge=8, le=1000, description="for the plan: mixes that laws are fitted to, more than abilities")
    floor: int = Field(ge=2, le=100, description="for the plan: runs of equal parts, for the noise of one run")
    proxy_steps: int = Field(ge=1, le=10**9, description="for the plan: optimiser steps of each of these runs")
    repertoire: int = Field(ge=1, le=10**6, description="different instructions of an ability that the weak one knows")
    teacher_width: int = Field(ge=2, le=16384, description="width of the weak teacher")
    teacher_steps: int = Field(ge=1, le=10**9, description="optimiser steps of the weak teacher")
    model: str = Field(description="a Hugging Face id or folder to fine-tune; small: small models of the lab")
    corpus: str = Field(description="for it: doit (the hub) or a folder with a copy of it")
    files: dict[str, tuple[str, str]] = Field(description="for it: of each ability data and exam, in DoIT's place")
    tuning: dict[str, Any] = Field(description="for it: settings of `learn.qlora.Finetuning`")
    exams: list[str] = Field(description="for it: out-of-domain exams: files of CMMLU, AGIEval or DoIT")
    new_tokens: int = Field(ge=0, le=100_000, description="for it: the longest answer in tokens; 0: none is written")

    _whole = field_validator("model", "corpus", "exams", mode="after")(whole_paths)

    @model_validator(mode="after")
    def _together(self) -> "Params":
        for name in (*self.abilities, *(self.outside if self.small else ())):
            self.origin.known(name)
        if twice := {*self.abilities} & {*self.outside}:
            raise BadRequest(f"'{min(twice)}' is in abilities and in outside: what is outside is never taught")
        check_known("source", self.sources, self.origin.SOURCES)
        if self.volumes != sorted(self.volumes):
            raise BadRequest(f"volumes = {self.volumes} do not rise")
        if odd := [volume for volume in self.compared if volume not in self.volumes]:
            raise BadRequest(f"compared = {odd[0]} is none of volumes = {self.volumes}")
        check_heads(self.heads, "teacher_width", [self.teacher_width])
        proxies = range(self.seeds[0], self.seeds[0] + max(self.tried, self.floor) * self.planned)
        if both := {*self.seeds, *proxies} & {*self.fresh_seeds}:
            raise BadRequest(f"seed {min(both)} is of the first stage and in fresh_seeds: fresh seeds are others")
        for mix in self.mixes:
            if mix not in plan.DESIGNS and not (mix.startswith("mix-") and mix[4:].isdecimal()):
                raise unknown("mix", mix, (*plan.DESIGNS, "mix-N"))
        least, most = len(self.abilities), self.volumes[-1] * len(self.abilities)
        if self.mixes and self.budget < least:
            raise BadRequest(f"budget = {self.budget} is too small for {least} abilities")
        if self.mixes and self.small and self.budget > most:
            raise BadRequest(f"budget = {self.budget} is more than the last volume of all abilities, {most}")
        learners.check_tuning(self.model, "default", self.tuning, {"model", "seed"})
        return self

    @property
    def small(self) -> bool:
        """Whether the models are small ones of the lab."""
        return self.model == learners.SMALL

    @property
    def planned(self) -> bool:
        """Whether a mix is planned, which takes proxy runs."""
        return "planned" in self.mixes and "curated" in self.sources

    @property
    def proxy(self) -> "Params":
        """The same for the steps of a proxy run."""
        tuning = {name: value for name, value in self.tuning.items() if name != "epochs"} | {"steps": self.proxy_steps}
        return self.model_copy(update={"steps": self.proxy_steps, "tuning": tuning})

    @property
    def last_compared(self) -> int:
        """The largest volume at which sources but curated are tried."""
        return max(self.compared or self.volumes)

    @property
    def origin(self) -> ModuleType:
        """Where examples and exams come from: `abilities`, `read_abilities` or `doit`."""
        return abilities if self.small else read_abilities if self.files else doit


class Cell(AbilityCell):
    """One model: everything its result depends on."""

    study: Literal["ability_growth"] = "ability_growth"
    version: Literal[3] = 3
    task: Annotated[abilities.FamilyTask | read_abilities.FilesTask | doit.DoitTask, Field(discriminator="kind")]
    design: Literal["untrained", "gate", "ladder", "proxy", "mix"]
    predicted: dict[str, Any] | None


def points(params: Params) -> list[Cell]:
    """The first stage: the untrained model, the ladder of every source, each ability alone (its gate), and proxy runs.

    Raises:
        BadRequest: for a volume beyond what an ability has, an exam longer than it has questions, or files that are not
            there.
    """
    params.origin.check(params)
    first = "curated" if "curated" in params.sources else params.sources[0]
    seed, last = params.seeds[0], params.volumes[-1]
    dials: Records = [{"design": "untrained", "arm": "", "source": first, "seed": seed, "counts": _equal(params, {})}]
    dials += [
        {"design": "ladder", "arm": "all", "source": source, "seed": seed, "counts": _equal(params, {source: volume})}
        for volume in params.volumes
        for source in params.sources
        if source == first or volume in (params.compared or params.volumes)
        for seed in params.seeds
    ]
    dials += [
        {"design": "gate", "arm": name, "source": first, "seed": seed, "counts": {name: {first: last}}}
        for name in (params.abilities if params.small and params.gate else ())
    ]
    for name in params.mixes:
        plan.named_mix(params, "baseline" if name == "planned" else name, params.origin.available(params))
    return _cells(params, dials) + _cells(params.proxy, plan.proxies(params) if params.planned else [])


def later(params: Params, rows: "pd.DataFrame") -> list[Cell]:
    """The second stage: a run for each mix and fresh seed, the plan's prediction in the point.

    What the plan is sought for, and predicted of it, is the macro score: abilities that failed their gate do not count.
    """
    if "curated" not in params.sources:
        return []
    mixes = plan.designs(params, scores.scored(rows.assign(**marks(params))))
    shared = {"design": "mix", "source": "curated"}
    return _cells(params, [{**shared, "arm": name, "seed": seed, **mix._asdict()}
                           for seed in params.fresh_seeds for name, mix in mixes.items()])  # fmt: skip


def _equal(params: Params, each: dict[str, int]) -> Counts:
    return dict.fromkeys(params.abilities, each)


def _cells(params: Params, dials: Records) -> list[Cell]:
    """The cells of some dials.

    Raises:
        BadRequest: for examples that there are not.
    """
    origin, have, cells = params.origin, params.origin.available(params), list[Cell]()
    for dial in dials:
        parts = [(name, of, n) for name, sources in dial["counts"].items() for of, n in sources.items()]
        for name, source, n in parts:
            if n > (there := have[name].get(source, 0)):
                what = "volumes" if dial["design"] == "ladder" else dial["arm"]
                raise BadRequest(f"{what}: '{name}' has {there} examples from '{source}', not {n}")
        cells.append(Cell(
            **{"predicted": None, **dial}, abilities=tuple(params.abilities), n_test=params.n_test,
            task=origin.task(params, dial["seed"], {of for _, of, _ in parts}), steps=params.steps * params.small,
            spec=origin.spec(params, sum(n for *_, n in parts)),
            gradings=questions.GRADINGS[: 2 if params.small or params.new_tokens else 1],
        ))  # fmt: skip
    return cells


def marks(params: Params) -> Mapping[str, Any]:
    """What the parameters say of all rows: which grading is the main one, and what a gate asks for."""
    return {"scored_by": params.grading, "least_alone": params.gate}
