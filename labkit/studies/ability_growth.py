"""Ability growth: how each ability grows with data volume, model size and data source, and the mix that follows.

The dynamics of instruction tuning (Song et al., COLING 2025, arXiv 2310.19651) as a study, with what its reviewers
missed: uncertainty, scores with chance taken off, evidence of convergence, a transference matrix, and a plan for the
next data set that is written down before it is tried. `growth_data` says what is taught and tested, `growth_results`
what came out.

*First stage.* A ladder of volumes of every ability, for each model size, source and seed; then, at one volume and the
main size, every ability left out, and every ability alone. *Second stage* (`later`): from the growth curves a plan for
a budget; the planned mix and named designs of the same budget are trained on fresh seeds, whose exams ask fresh
questions. What is predicted of them is part of their points, and so lies in the store before anything is measured.

*What is shared.* A ladder is one training run (`learn.train_ladder`): its rungs share the trunk, weights and data, and
differ in their annealed branches, so that errors of one seed's rungs are correlated; intervals come from other seeds.
Curated and synthetic runs, sizes, and runs with an ability left out share the seed, so the weights they begin with and
the exam, and are compared in pairs; a set without an ability is the whole set without its examples. Steps grow with
the volume, as the paper's epochs do: more data and longer training are not told apart. Runs of an ability alone are
one rung, read `alone_passes` times, because a tenth of the steps teaches a small model nothing.

Small models (`model = None`) are trained from scratch on ten abilities of the instruction families. With `model`, a
Hugging Face model is fine-tuned on DoIT's abilities (`tuned_growth`), each volume a run of its own, without runs that
leave an ability out. A model from scratch has no knowledge to be elicited: that its abilities resemble those of the
paper is an analogy.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from labkit import learn
from labkit.errors import BadRequest, unknown
from labkit.instructions.exams import DOIT
from labkit.instructions.families import ABILITIES
from labkit.instructions.imperfect import Teacher
from labkit.lab import Record
from labkit.learn import qlora
from labkit.studies import growth_data as data
from labkit.studies import growth_plan, language, symbolic, tuned_growth
from labkit.studies import growth_results as results
from labkit.studies import growth_shown as shown
from labkit.studies.contract import Study
from labkit.studies.tuned_growth import TunedCell

if TYPE_CHECKING:
    import pandas as pd

COOLDOWN = 0.2  # steps of a ladder's branch, as a share of the trunk's

SMALL: dict[str, Any] = {
    **symbolic.MODEL,
    "abilities": list(ABILITIES),
    "volumes": [64, 256, 1024, 4096],
    "sources": ["curated", "synthetic"],
    "widths": [24, 48, 96],
    "width": 48,
    "seeds": [0, 1, 2],
    "fresh_seeds": [100, 101, 102, 103, 104],
    "levels": [1],
    "question": 24,
    "answer": 24,
    "steps": 0,
    "passes": 1.5,
    "alone_passes": 6,
    "n_test": 150,
    "transference": 1024,
    "budget": 10_240,
    "least": 64,
    "mixes": ["planned", "baseline", "reconstruct"],
    "grading": "likelihood",
    "wrong": 0.2,
    "repertoire": 24,
    "exponent": 1.0,
}
TUNED: dict[str, Any] = {"corpus": "doit", "tuning": {}, "exams": [], "new_tokens": 512}  # of models fine-tuned
SCALES: dict[str, dict[str, Any]] = {
    "smoke": {
        **SMALL,
        **TUNED,
        "abilities": ["classification", "knowledge", "role", "functions"],
        "volumes": [4, 8, 16, 32],
        "widths": [16, 32],
        "width": 32,
        "layers": 2,
        "seeds": [0, 1],
        "fresh_seeds": [100, 101],
        "passes": 2,
        "batch_size": 16,
        "n_test": 10,
        "transference": 16,
        "budget": 64,
        "least": 4,
        "repertoire": 6,
    },
    "laptop": {**SMALL, **TUNED},
    "qlora": {
        **SMALL,
        **TUNED,
        "model": "huggyllama/llama-7b",
        "abilities": list(DOIT),
        "volumes": [1, 4, 16, 64, 256, 1000],
        "budget": 10_000,
        "transference": 0,
        "n_test": 200,
        "exams": list(tuned_growth.OUTSIDE),
        "tuning": {"overlong": "drop"},
    },
}
Volume = Annotated[int, Field(ge=1, le=10**7)]
Width = Annotated[int, Field(ge=2, le=16384)]


class Params(symbolic.ModelParams):
    """What a person may set; see `SCALES` for the values each scale gives."""

    groups: ClassVar = {
        "plan": ("budget", "least", "mixes", "fresh_seeds"),
        "synthetic": ("wrong", "repertoire", "exponent"),
        "tuned": ("model", "corpus", "tuning", "exams", "new_tokens"),
    }
    abilities: list[str] = Field(min_length=2, description="what is taught and examined: names of instructions.EVERY")
    volumes: list[Volume] = Field(min_length=1, description="the ladder: examples of each ability")
    sources: list[str] = Field(min_length=1, description="curated, synthetic")
    widths: list[Width] = Field(min_length=1, description="model sizes of the growth curves")
    width: int = Field(ge=2, le=16384, description="the main size, one of widths: sources, transference and the plan")
    fresh_seeds: list[int] = Field(min_length=1, description="seeds of the second stage, none of them in seeds")
    levels: list[Literal[1, 2, 3]] = Field(min_length=1, description="difficulties 1 to 3, in equal parts")
    question: int = Field(ge=4, le=1000, description="the most pieces of a question; longer tasks are passed over")
    answer: int = Field(ge=4, le=1000, description="the most pieces of an answer, its end included")
    passes: float = Field(gt=0, le=10_000, description="how often a run reads its examples before it cools down")
    alone_passes: float = Field(gt=0, le=10_000, description="the same for an ability alone")
    steps: int = Field(
        ge=0, le=10**9, description="at least so many optimiser steps at the last rung; 0: as passes say"
    )
    transference: int = Field(ge=0, description="the volume at which abilities are left out or alone; 0: none are")
    budget: int = Field(ge=1, le=10**9, description="examples in all that are planned for")
    least: int = Field(ge=1, le=10**7, description="what the plan gives every ability")
    mixes: list[str] = Field(description="second stage: planned, baseline, reconstruct, maximum, mix-N; []: none")
    grading: Literal["likelihood", "generated"] = Field(description="the main score; both are measured")
    wrong: float = Field(ge=0, le=1, description="synthetic: the share of wrong answers")
    repertoire: int = Field(ge=1, le=10**6, description="synthetic: different instructions of an ability")
    exponent: float = Field(ge=0, lt=100, description="synthetic: of Zipf's law for how often each is asked for")
    model: str | None = Field(default=None, description="a Hugging Face model to fine-tune; None: small models")
    corpus: str = Field(description="for it: doit (the hub) or a folder with a copy of it")
    tuning: dict[str, Any] = Field(description="for it: settings of `learn.qlora.Finetuning`")
    exams: list[str] = Field(description="for it: out-of-domain exams: files of CMMLU, AGIEval or DoIT")
    new_tokens: int = Field(ge=0, le=100_000, description="for it: the longest answer in tokens; 0: none is written")

    @field_validator("model", "corpus", mode="after")
    @classmethod
    def _files_by_their_whole_path(cls, value: str | None) -> str | None:
        """A notebook runs in another folder than the command that names a file."""
        return str(Path(value).resolve()) if value and Path(value).exists() else value

    @field_validator("exams", mode="after")
    @classmethod
    def _exams_by_their_whole_path(cls, value: list[str]) -> list[str]:
        parts = [one.partition("@") for one in value]
        return ["".join([str(Path(at).resolve()) if Path(at).exists() else at, *more]) for at, *more in parts]

    @model_validator(mode="after")
    def _together(self) -> "Params":
        for ability in self.abilities:
            if self.model is None:
                data.family(ability)
            elif ability not in DOIT:
                raise unknown("ability", ability, DOIT)
        for source in self.sources:
            if source not in data.SOURCES:
                raise unknown("source", source, data.SOURCES)
        if self.volumes != sorted(self.volumes):
            raise BadRequest(f"volumes = {self.volumes} do not rise")
        if self.width not in self.widths:
            raise BadRequest(f"width = {self.width} is none of widths = {self.widths}")
        if odd := [width for width in self.widths if width % self.heads]:
            raise BadRequest(f"heads = {self.heads} does not divide width = {odd[0]}")
        if self.transference and self.transference not in self.volumes:
            raise BadRequest(f"transference = {self.transference} is none of volumes = {self.volumes}, nor 0")
        if both := set(self.seeds) & set(self.fresh_seeds):
            raise BadRequest(f"seed {min(both)} is in seeds and in fresh_seeds: fresh seeds are others")
        for mix in self.mixes:
            if mix not in growth_plan.DESIGNS and not (mix.startswith("mix-") and mix[4:].isdecimal()):
                raise unknown("mix", mix, (*growth_plan.DESIGNS, "mix-N"))
        floor, most = self.least * len(self.abilities), self.volumes[-1] * len(self.abilities)
        if self.mixes and self.budget < floor:
            raise BadRequest(f"budget = {self.budget} is too small: least = {self.least} of each ability make {floor}")
        if self.mixes and self.model is None and self.budget > most:
            raise BadRequest(f"budget = {self.budget} is more than the last volume of all abilities, {most}")
        Teacher(self.wrong, self.repertoire, self.exponent)
        if self.model is not None:
            if own := {"model", "seed"} & set(self.tuning):
                raise BadRequest(f"tuning sets '{min(own)}', which is a parameter of its own")
            qlora.settings(self.model, "default", **self.tuning)
        return self

    def reading(self) -> data.Reading:
        """How small models read."""
        return data.Reading(tuple(self.abilities), self.question, self.answer)

    def repeats(self) -> float:
        """How often a run reads its examples: `passes`, or more where `steps` ask for it."""
        return max(self.passes, self.steps * self.batch_size / (self.volumes[-1] * len(self.abilities)))


class Cell(symbolic.ModelCell):
    """One training run of a small model: everything its result depends on."""

    study: Literal["ability_growth"] = "ability_growth"
    version: Literal[1] = 1
    vocabulary: str
    question: int
    answer: int
    design: Literal["ladder", "without", "alone", "mix"]
    arm: str
    source: str
    size: str
    abilities: tuple[str, ...]
    levels: tuple[int, ...]
    rungs: tuple[int, ...]  # examples of each ability; none for a mix
    counts: dict[str, dict[str, int]] | None
    predicted: dict[str, Any] | None
    passes: float
    teacher: dict[str, Any] | None

    def reading(self) -> data.Reading:
        return data.Reading(self.abilities, self.question, self.answer)

    def layout(self) -> learn.TextLayout:
        """Word pieces of the abilities; every question begins with its instruction."""
        return self.reading().layout()

    @property
    def shape(self) -> None:
        """Ladders branch, each at its own time: no fleet."""
        return None

    def sets(self) -> list[dict[str, dict[str, tuple[int, int]]]]:
        """For each rung which examples it adds: {ability: {source: (from, to)}}."""
        if self.counts is not None:
            return [
                {name: {of: (0, n) for of, n in sources.items() if n} for name, sources in self.counts.items()},
            ]
        names = {"without": [name for name in self.abilities if name != self.arm], "alone": [self.arm]}
        return [
            {name: {self.source: part} for name in names.get(self.design, self.abilities)}
            for part in pairwise([0, *self.rungs])
        ]


def points(params: Params) -> Sequence[Cell | TunedCell]:
    """The first stage: ladders, the longest first, then runs without an ability and of one alone.

    Raises:
        BadRequest: for a volume beyond what an ability has, an exam longer than it has questions, a rung too small for
            an optimiser step, or files that are not there.
    """
    if params.model is not None:
        return tuned_growth.points(params, params.model)
    _check(params)
    every, main = tuple(params.volumes), params.width
    part = tuple(volume for volume in every if volume <= params.transference)
    dials: list[dict[str, Any]] = [
        {"width": width, "design": "ladder", "arm": "all", "source": source, "seed": seed, "rungs": every}
        for width in sorted(params.widths, reverse=True)
        for source in params.sources
        for seed in params.seeds
        if source == "curated" or width == main or "curated" not in params.sources
    ]
    first = params.sources[0] if "curated" not in params.sources else "curated"
    runs: list[tuple[str, tuple[int, ...]]] = [("without", part), ("alone", part[-1:])]
    dials += [
        {"width": main, "design": design, "arm": arm, "source": first, "seed": seed, "rungs": rungs}
        for design, rungs in runs
        for seed in params.seeds
        for arm in params.abilities
        if part
    ]
    return _cells(params, dials)


def _cells(params: Params, dials: Sequence[Mapping[str, Any]]) -> list[Cell]:
    reading = language.reading(tuple(params.abilities), params.question, params.answer)
    teacher = {"wrong": params.wrong, "instructions": params.repertoire, "exponent": params.exponent}
    own = []
    for dial in dials:
        synthetic = dial["source"] == "synthetic" or "synthetic" in {
            source for sources in (dial.get("counts") or {}).values() for source in sources
        }
        passes = params.alone_passes if dial["design"] == "alone" else params.repeats()
        more = {"size": f"width {dial['width']}", "passes": passes, "teacher": teacher if synthetic else None}
        own.append({"counts": None, "predicted": None, "steps": 0, **reading, **more, **dial})
    return symbolic.cells(Cell, params, own)


def _check(params: Params) -> None:
    """What the families must have, tried for one seed: the others differ little."""
    reading, levels, seed = params.reading(), tuple(params.levels), params.seeds[0]
    for name in params.abilities:
        data.training(name, params.volumes[-1], levels, seed, reading)
        if "synthetic" in params.sources:
            data.training(name, 1, levels, seed, reading, Teacher(params.wrong, params.repertoire, params.exponent))
        data.different(name, params.n_test, "test", levels, seed, reading)
    fewest = len(params.abilities) - bool(params.transference)
    plans = [("passes", params.repeats(), fewest, params.volumes)]
    plans += [("alone_passes", params.alone_passes, 1, [params.transference])] * bool(params.transference)
    for what, passes, many, volumes in plans:
        steps = [round(passes * many * volume / params.batch_size) for volume in [0, *volumes]]
        for (before, after), volume in zip(pairwise(steps), volumes, strict=True):
            if before == after:
                raise BadRequest(
                    f"{what} = {passes:g}: {volume} examples of {many} abilities are too few for another step of "
                    f"batch_size = {params.batch_size}"
                )
    for mix in params.mixes:
        if mix != "planned":
            growth_plan.named(params, mix, growth_plan.available(params))


def later(params: Params, frame: "pd.DataFrame") -> Sequence[Cell | TunedCell]:
    """The second stage: a run for each mix and fresh seed, its prediction in the point."""
    mixes = growth_plan.designs(params, frame) if "curated" in params.sources else {}
    if params.model is not None:
        predicted = {name: one.predicted for name, one in mixes.items() if one.predicted}
        return tuned_growth.mixes(params, params.model, {name: one.counts for name, one in mixes.items()}, predicted)
    dials = [
        {
            "width": params.width,
            "design": "mix",
            "arm": name,
            "source": "curated",
            "seed": seed,
            "rungs": (),
            "counts": one.counts,
            "predicted": one.predicted,
        }
        for seed in params.fresh_seeds
        for name, one in mixes.items()
    ]
    return _cells(params, dials)


def measure(cell: Cell | TunedCell, record: Record) -> dict[str, Any]:
    """Train one model and grade it at its rungs: all of a ladder, else the last."""
    if isinstance(cell, TunedCell):
        return tuned_growth.measure(cell, record)
    device, layout, reading = learn.best_device(), cell.layout(), cell.reading()
    exam = data.exam(cell.abilities, cell.n_test, cell.levels, cell.seed, reading)
    teacher = Teacher(**cell.teacher) if cell.teacher else None
    sets = cell.sets()
    encoded, sizes = [], [0]
    for parts in sets:
        tasks = [
            task
            for name, sources in parts.items()
            for source, (begin, end) in sources.items()
            for task in data.training(
                name, end, cell.levels, cell.seed, reading, teacher if source == "synthetic" else None
            )[begin:]
        ]
        encoded.append(language.encode(tasks, layout))
        sizes.append(sizes[-1] + len(tasks))
    model = learn.build(cell.recipe, cell.model_shape(), cell.seed).to(device)
    kept = range(len(sets)) if cell.design == "ladder" else [len(sets) - 1]
    graded: list[data.Graded] = []
    seen: list[dict[str, Any]] = []

    def look(number: int, branch: Any, steps: int, tokens: int, loss: float) -> None:
        if number in kept:
            graded.append(exam.grade(branch, device))
            finite = round(loss, 4) if loss == loss and abs(loss) != float("inf") else None
            seen.append({"steps_taken": steps, "tokens": tokens, "loss": finite})
            right = {name: float(verdicts.mean()) for name, verdicts in graded[-1].verdicts.items()}
            record.log(step=steps, rung=number, examples=sizes[number + 1], loss=finite, **right)

    trained = learn.train_ladder(
        model,
        cell.recipe,
        encoded,
        batch_size=cell.batch_size,
        seed=cell.seed,
        passes=cell.passes,
        cooldown=COOLDOWN,
        learning_rate=cell.learning_rate,
        device=device,
        on_rung=look,
    )
    learn.save(record.folder, learn.Learner(model, cell.recipe, cell.model_shape(), layout))
    volumes = [cell.rungs[i] for i in kept] if cell.rungs else [sizes[-1] / len(cell.abilities)]
    return {
        "exam": cell.seed,
        "others": [],
        "gradings": list(data.GRADINGS),
        "parameters": sum(p.numel() for p in model.parameters()),
        "volumes": volumes,
        "totals": [sizes[i + 1] for i in kept],
        **{name: [line[name] for line in seen] for name in ("steps_taken", "tokens", "loss")},
        "train_seconds": round(sum(one.seconds for one in trained), 2),
        "learned": seen[-1]["loss"] is not None,
        "device": device,
        **data.rows(graded),
    }


def notes(params: Params) -> list[str]:
    """What was decided for the person."""
    few = len(params.volumes) < 4 or len(params.seeds) < 2
    return [
        *([f"volumes = {params.volumes} and {len(params.seeds)} seeds: no growth curve is fitted and nothing is "
           "planned, which needs four volumes and two seeds; all else runs"] * few),
        *(["sources lack 'curated': nothing is planned"] * ("curated" not in params.sources and bool(params.mixes))),
        *(["fine-tuned models: no ability is left out or alone"] * (params.model is not None)),
    ]  # fmt: skip


STUDY = Study(
    name="ability_growth",
    question="How does each ability grow with data volume, model size and data source, and what mix follows?",
    paper="Song et al. 2025: arXiv 2310.19651 (Dynamics of Instruction Tuning)",
    minutes={
        "smoke": "under 1 minute",
        "laptop": "10 to 13 minutes on two cores",
        "qlora": "weeks of a GPU (estimated, not run)",
    },
    scales=SCALES,
    Params=Params,
    points=points,
    measure=measure,
    later=later,
    summarise=results.summarise,
    chart=shown.chart,
    finding=results.finding,
    compare=results.compare,
    summary_table=shown.summary_table,
    describe=shown.describe,
    notes=notes,
    figures=shown.FIGURES,
    tables=shown.TABLES,
)
