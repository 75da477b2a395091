"""Generalist mix: does a more diverse mix of one size make a model that follows demands it has never met together?

All arms of a seed have equally many examples and optimiser steps and sit the same exams, so they are compared in pairs.
What differs is the diversity of the mix.

Small models (`model = "small"`), from scratch: requests such as "write animals, use 3 words, end with fox". The least
diverse set has three combinations of kinds of demand, which hold all nine kinds; the most diverse has a hundred. The
exam asks for combinations that no set has; whatever meets all demands is right. So no arm lacks a kind: what is
compared is putting kinds together. Beside it, a general mix: half the requests give way to general instructions, and
unseen ones of these are an exam, too.

Fine-tuned models (`model`, a Hugging Face id, folder or embedded name; scale `real`): public instruction data of the
first source alone, or of the first few in equal parts, by LoRA; samples of IFEval, GSM8K, BBH and AGIEval, answered in
writing.

Source of the question: Zhang, Wang, Charton, arXiv 2410.04717, the section on generalist models (Table 3).
"""

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from labkit.errors import BadRequest, check_known
from labkit.instructions.demands import DEMANDS, KINDS, every
from labkit.instructions.families import EVERY
from labkit.instructions.written_exams import EXAMS as PUBLIC
from labkit.learn import embedded
from labkit.studies import learners
from labkit.studies.generalist_mixes import SIZES, DemandMix, SourceMix, source_mixes
from labkit.studies.params import MODEL_GROUP, ModelParams, about
from labkit.studies.study import Results, Study
from labkit.studies.views import Curve, Gains, Matrix, View, ranged, signed

if TYPE_CHECKING:
    import pandas as pd

MAIN = "followed"  # unseen combinations of demands, or IFEval's prompts
EXAMS = {
    MAIN: "unseen combinations of demands followed",
    "seen": "trained combinations followed",
    "general": "unseen general instructions followed",
    "gsm8k": "GSM8K, five-shot",
    "bbh": "BBH, three-shot",
    "agieval": "AGIEval in English",
}
POOLS = {MAIN: ("unseen", "ifeval")}
Mix = Annotated[DemandMix | SourceMix, Field(discriminator="kind")]


class Params(ModelParams):
    """What a person may set; see `catalogue.yaml` for the values each scale gives."""

    groups: ClassVar = {
        "task": ("families", "levels", "question", "answer", "n_test"),
        "small": MODEL_GROUP,
        "tuned": ("data", "sources", "exams", "tuning", "new_tokens"),
    }
    model: str = Field(description="small: small models from scratch; else a Hugging Face id, folder, or smollm2")
    budget: int = Field(ge=2, le=10**7, description="examples of every training set")
    varieties: list[Annotated[int, Field(ge=1)]] = Field(
        min_length=1, description="combinations of demands in a set, or sources, the first so many"
    )
    general_shares: list[Annotated[float, Field(ge=0, lt=1)]] = Field(
        min_length=1, description="shares of general instructions in the place of demands"
    )
    families: list[str] = Field(min_length=1, description="families of general instructions, in equal parts")
    levels: list[Literal[1, 2, 3]] = Field(min_length=1, description="difficulties of general instructions")
    question: int = Field(ge=8, le=1000, description="the most word pieces of a question")
    answer: int = Field(ge=8, le=1000, description="the most word pieces of an answer")
    data: str = Field(description="folder of sources and exams; empty: the one that LABKIT_DATA names")
    sources: list[str] = Field(description="corpora, files of that folder, or corpus=file; the first is the base")
    exams: list[str] = Field(description="public exams: ifeval, gsm8k, bbh, agieval")
    tuning: dict[str, Any] = Field(description="settings of `learn.qlora.Finetuning`")
    new_tokens: int = Field(ge=1, le=100000, description="the longest answer of a fine-tuned model, in tokens")

    @model_validator(mode="after")
    def _together(self) -> "Params":
        check_known("general family", self.families, EVERY)
        check_known("exam", self.exams, PUBLIC)
        there = len(every("train", SIZES))
        if self.model == learners.SMALL and max(self.varieties) > there:
            raise BadRequest(f"varieties = {self.varieties}: there are {there} combinations to train")
        if self.model != learners.SMALL and not (self.sources and self.exams):
            raise BadRequest(f"model = {self.model!r} needs sources to train on, and exams")
        return self


class Cell(learners.MixStudent):
    """One model: everything its result depends on."""

    study: Literal["generalist_mix"] = "generalist_mix"
    version: Literal[1] = 1
    task: Mix


def points(params: Params) -> Sequence[Cell]:
    """A cell per training set and seed, seeds outermost.

    Raises:
        BadRequest: for a source, an exam or a model that is not there.
    """
    mixes: Sequence[Mix]
    spec: learners.Spec
    if params.model == learners.SMALL:
        shared = {"budget": params.budget, "families": params.families, "levels": params.levels}
        dials = product(params.varieties, params.general_shares)
        mixes = [DemandMix.model_validate({**shared, "variety": v, "general_share": share}) for v, share in dials]
        spec = learners.small(params, (DEMANDS.name, *params.families), params.question, params.answer)
    else:
        given = params.model_dump(include={"varieties", "budget", "data", "sources", "exams", "model"})
        mixes = source_mixes(**given)
        spec = learners.tuned(params.model, "default", params.tuning, params.new_tokens)
    return [Cell(seed=seed, steps=params.steps, spec=spec, task=mix, n_test=params.n_test)
            for seed, mix in product(params.seeds, mixes)]  # fmt: skip


KIND_EXAMS = {f"unseen:{size} demands": f"any {size}" for size in SIZES} | {f"unseen:{kind}": kind for kind in KINDS}
GAIN: Any = {"exam": MAIN, "exam_label": "share of prompts whose demands are all met", "pools": POOLS}
VIEWS: dict[str, View] = {
    "mix": Curve(
        title="What is followed, by the diversity of a mix of one size", exams=EXAMS, pools=POOLS, x="variety",
        x_label="Diversity (combinations of demands, or sources, in the training set)", by="mix", by_name="mix",
        y_label="Share of test prompts",
    ),
    "gains": Gains(
        title="What diversity gains over the least diverse mix, on the same prompts", arm="variety", by="mix",
        arm_name="diversity", **GAIN,
    ),
    "general": Gains(
        title="What general instructions in the place of demands gain, on the same prompts", arm="general_share",
        by="diversity", arm_label=lambda share: f"{share:.0%} general", arm_name="general instructions", **GAIN,
    ),
    "kinds": Matrix(
        title="Unseen combinations by number and kind of demands", exams=KIND_EXAMS, dials=("variety", "mix"),
        label=lambda row: f"{row['variety']}, {row['mix']}", x_label="requests with",
    ),
}  # fmt: skip


def named(rows: "pd.DataFrame") -> "pd.DataFrame":
    """The rows with a name of each diversity, for people."""
    return rows.assign(diversity=rows["variety"].map(lambda n: f"diversity {n}"))


def finding(results: Results) -> str:
    """What diversity gains, with its intervals."""
    parts = []
    for mix in dict.fromkeys(results["mix"].estimates["mix"]):
        lines = results["mix"].lines(MAIN, mix=mix)
        ends = " and ".join(f"{ranged(line)} at {line['variety']}" for line in (lines[0], lines[-1]))
        gains = results["gains"].lines(MAIN, mix=mix) if "gains" in results.views() else []
        gain = [f"a gain of {signed(one['mean'], one['lo'], one['hi'])}" for one in gains[-1:]]
        parts.append(f"{mix} {', '.join([ends, *gain])}")
    return f"Prompts followed, by the diversity of a mix of one size: {'; '.join(parts)}"


def notes(params: Params) -> list[str]:
    """What was decided for the person."""
    if params.model == learners.SMALL:
        return []
    unused = ["general_shares are those of small models: they are not used"] * (params.general_shares != [0])
    bare = params.model not in embedded.MODELS and not Path(params.model).is_dir() and "revision" not in params.tuning
    return unused + [f"'{params.model}' is not pinned: tuning = {{'revision': COMMIT}} pins it"] * bare


STUDY = Study(
    **about("generalist_mix"), Params=Params, points=points, dials={"variety": "diversity", "mix": "mix"}, views=VIEWS,
    finding=finding, columns=named, notes=notes, measure_many=None,
)  # fmt: skip
