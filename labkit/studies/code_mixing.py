"""Code mixing: how much general instruction data does a code model want?

The training set has one size, in tokens; a share of it is general instructions, the rest asks for code. Each model is
graded on code it has never been asked for, by running what it writes (pass@1), and on general instructions it has never
seen.

Small models, trained from scratch (`model = None`): code is small Python functions, whose unseen compositions share
neither their wording nor their behaviour with any training function (`labkit.instructions.functions`); general is the
other families in equal parts. All arms of a seed share the beginning of their code data and sit the same exams on
unseen instructions, so they are compared in pairs. Every token is seen equally often (`passes`); general examples are
shorter, so that an arm with more of them takes more optimiser steps and learns fewer answer tokens: both are in its
row, and `steps` sets equal steps instead. At level 1 functions are few, and seeds share many of their unseen ones.

Fine-tuned models (`model`, a Hugging Face id or folder; `qlora` scale): code, general and chain-of-thought examples in
the paper's numbers, of three corpora or of files in their place, decontaminated against the problems; QLoRA; programs
written greedily for HumanEval and MBPP, by EvalPlus (`plus`) or in our own sandbox (`problems`). A share is one of
examples there, and the arms draw their problems alike.

Source of the question: Zhang, Wang, Charton, arXiv 2410.04717, section 4, Tables 1 and 2, where pre-trained code models
are fine-tuned on OSS-Instruct with Alpaca and CoT-Collection mixed in. A model from scratch has no general ability that
such data could keep alive: what it can show is whether practice in following other instructions helps to follow new
ones for code.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, cast

from pydantic import Field, field_validator, model_validator

from labkit.errors import BadRequest, unknown
from labkit.grade import sandbox
from labkit.instructions.families import FAMILIES
from labkit.lab import Record
from labkit.learn import finetuning
from labkit.learn.embedded import is_converted
from labkit.learn.learner import Learner
from labkit.studies import cell as study_cell
from labkit.studies import language, learners
from labkit.studies.lesson import Lesson
from labkit.studies.mixes import FamilyMix, Mix, corpus_mixes
from labkit.studies.params import MODEL_GROUP, about
from labkit.studies.study import Results, Study
from labkit.studies.sweet_spots import SweetSpots
from labkit.studies.views import Curve, Matrix, ranged

if TYPE_CHECKING:
    import pandas as pd

EXAMS = {
    "code": "pass@1 on unseen compositions",
    "humaneval": "HumanEval pass@1",
    "humaneval/plus": "HumanEval+ pass@1",
    "mbpp": "MBPP pass@1",
    "mbpp/plus": "MBPP+ pass@1",
    "own": "pass@1 on own problems",
    "general": "accuracy on unseen general instructions",
    "seen": "accuracy on training code",
}
MAIN = {exam: EXAMS[exam] for exam in ("code", "humaneval", "mbpp", "own")}  # the first that was sat is looked at
Size = Annotated[int, Field(ge=1, le=10**10)]
Share = Annotated[float, Field(ge=0, lt=1)]


class Params(language.LanguageParams):
    """What a person may set; see `catalogue.yaml` for the values each scale gives."""

    groups: ClassVar = {
        "general": ("families", "general_levels"),
        "task": ("levels", "passes", "n_test", "confirm_unsafe"),
        "small": MODEL_GROUP,
        "tuned": ("mixes", "corpora", "tuning", "plus", "problems", "new_tokens"),
    }
    budget: list[Size] = Field(min_length=1, description="sizes of training sets, in tokens of questions and answers")
    general_levels: list[Literal[1, 2, 3]] = Field(min_length=1, description="difficulties of the general families")
    general_shares: list[Share] = Field(min_length=1, description="shares of the training tokens that are general")
    families: list[str] = Field(min_length=1, description="the general families, in equal parts")
    confirm_unsafe: bool = Field(default=False, description="run the models' programs even without bubblewrap")
    model: str = Field(description="a Hugging Face id or folder to fine-tune; small: small models from scratch")
    mixes: list[tuple[float, float, float]] = Field(description="thousands of code, general and reasoning examples")
    corpora: tuple[str, str, str] = Field(description="what these come from: corpora, files, or corpus=file")
    tuning: dict[str, Any] = Field(description="settings of `learn.qlora.Finetuning` over the preset code_mixing")
    plus: list[Literal["humaneval", "mbpp"]] = Field(description="sets that EvalPlus grades, with its added tests")
    problems: list[str] = Field(description="files of HumanEval- or MBPP-shaped problems to grade in the sandbox")
    new_tokens: int = Field(ge=1, le=100000, description="the longest program a fine-tuned model may write, in tokens")

    @field_validator("model", "problems", "corpora", mode="after")
    @classmethod
    def _files_by_their_whole_path(cls, value: Any) -> Any:
        """A notebook runs in another folder than the command that names a file."""
        whole = lambda one: str(Path(one).resolve()) if Path(one).exists() else one  # noqa: E731
        if isinstance(value, str):
            return whole(value)
        parts = [one.rpartition("=") for one in value or ()]
        found = [f"{corpus}{equals}{whole(path)}" for corpus, equals, path in parts]
        return type(value)(found)

    @model_validator(mode="after")
    def _together(self) -> "Params":
        for name in self.families:
            if name not in FAMILIES:
                raise unknown("general family", name, FAMILIES)
        if self.model == learners.SMALL:
            return self
        if not self.mixes or not (self.plus or self.problems):
            raise BadRequest(f"model = {self.model!r} needs mixes to train on, and plus or problems to be graded on")
        for mix in self.mixes:
            whole = (0 <= part < math.inf and abs(1000 * part - round(1000 * part)) < 1e-6 for part in mix)
            if not all(whole) or not mix[0]:
                raise BadRequest(f"the mix {list(mix)} is not of whole examples, 0 or more and some of code")
        if own := {"model", "seed"} & set(self.tuning):
            raise BadRequest(f"tuning sets '{min(own)}', which is a parameter of its own")
        finetuning.settings(self.model, "code_mixing", **self.tuning)
        return self


class Cell(study_cell.Cell):
    """One model: everything its result depends on."""

    study: Literal["code_mixing"] = "code_mixing"
    version: Literal[2] = 2
    spec: learners.Spec
    task: Mix
    n_test: int

    def learner(self, record: Record) -> Learner:
        return self.spec.make(self.seed, record)

    def lesson(self) -> Lesson:
        return self.task.lesson(self.spec, self.seed, self.n_test)


def points(params: Params) -> Sequence[Cell]:
    """A cell for each training set and seed; seeds outermost.

    Raises:
        BadRequest: for what is missing: bubblewrap, a corpus, a file, a model.
    """
    sandbox.available(params.confirm_unsafe)
    mixes: Sequence[Mix]
    spec: learners.Spec
    if params.model == learners.SMALL:
        spec = learners.small(params, language.FAMILIES, language.QUESTION, language.ANSWER)
        shared = params.model_dump(include=FAMILY_FIELDS)
        dials = product(params.budget, sorted(params.general_shares))
        mixes = [FamilyMix(budget=budget, general_share=share, **shared) for budget, share in dials]
    else:
        given = params.model_dump(include={"corpora", "plus", "problems", "confirm_unsafe"})
        mixes = corpus_mixes(given, params.mixes, params.model)
        spec = learners.tuned(params.model, "code_mixing", params.tuning, params.new_tokens)
    arms = product(params.seeds, mixes)
    return [Cell(seed=seed, steps=params.steps, spec=spec, task=mix, n_test=params.n_test) for seed, mix in arms]


FAMILY_FIELDS = {"passes", "levels", "families", "general_levels", "confirm_unsafe"}


def arms(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """What the training sets of the first seed hold, before anything is trained."""
    first = [cell for cell in cells if cell.seed == cells[0].seed]
    hidden = ("two_way", "sandbox", "same_questions", "manifest")
    return [{name: value for name, value in cell.lesson().about.items() if name not in hidden} for cell in first]


def two_way(rows: "pd.DataFrame") -> "pd.Series[bool]":
    """Mixes of two sources: those that lie on the dial."""
    return rows["two_way"].astype(bool)


KINDS = {f"code:level{level}": f"code, level {level}" for level in (1, 2, 3)}
KINDS |= {f"general:{name}": name for name in FAMILIES}
ARM: Any = {"dials": ("size", "general_share", "mix"), "label": lambda row: f"{row['mix']} of {row['size']}"}
VIEWS = {
    "mix": Curve(
        title="Scores by the share of general data in the training set", exams=EXAMS, where=two_way,
        x="general_share", x_label="General data (share of the training set)", log=False,
        y_label="Share of test problems solved", by="size", by_name="training set", beside={"mix": "mix"},
    ),
    "gains": SweetSpots(
        title="What general data gains over the smallest share, on the same problems", where=two_way, mains=MAIN,
        exam="code", exam_label=EXAMS["code"], arm="general_share", arm_name="general data, share",
        arm_label=lambda share: f"{share:.4g}", by="size",
    ),
    "kinds": Matrix(
        title="Unseen tasks by kind: code by difficulty, general instructions by family", exams=KINDS, **ARM
    ),
    "mixes": Matrix(title="Every training set, three sources among them", exams=EXAMS, **ARM),
}  # fmt: skip


def drawn(rows: "pd.DataFrame", exam: str) -> Any:
    """For a notebook's controls: one exam along the share of general data."""
    view = replace(cast(Curve, VIEWS["mix"]), exams={exam: EXAMS[exam]})
    return view.chart(view.measure(rows))


def finding(results: Results) -> str:
    """What the study shows, in one sentence per size of training set, with its intervals."""
    if "gains" not in results.views():
        return "No training set is a mix of two sources, so no share of general data can be told"
    main = next(exam for exam in MAIN if len(results["mix"].lines(exam)))
    first = results["mix"].lines(main)[0]
    begins = f"With {first['general_share']:.0%} general data {EXAMS[main]} is {ranged(first)}"
    return f"{begins}; {results.fit('gains').sentence}"


def published_scores(results: Results) -> list[dict[str, Any]]:
    """The paper's Tables 1 and 2, in per cent."""
    names = {"model": "model", "mix": "OSS + Alpaca + CoT, thousands"}
    names |= {"humaneval": "HumanEval", "humaneval_plus": "HumanEval+", "mbpp": "MBPP", "mbpp_plus": "MBPP+"}
    values = [record for record in results.published if record["kind"] == "value"]
    mixed = [{**value, "mix": "{oss_k:g}+{alpaca_k:g}+{cot_k:g}".format(**value)} for value in values]
    return [{words: record[name] for name, words in names.items()} for record in mixed]


def notes(params: Params) -> list[str]:
    """What was decided for the person."""
    unsafe = params.confirm_unsafe and not sandbox.available(unsafe=True)
    pinned = params.model == learners.SMALL or Path(params.model).is_dir() or is_converted(params.model)
    pinned = pinned or "revision" in params.tuning
    contained = ["programs are run without bubblewrap: what they may touch is not contained"]
    loose = [f"'{params.model}' is not pinned: tuning = {{'revision': COMMIT}} pins it"]
    return contained * unsafe + loose * (not pinned)


STUDY = Study(
    **about("code_mixing"), Params=Params, points=points, dials={"size": "training set", "mix": "mix"},
    views=VIEWS, finding=finding, notes=notes, tables={"The paper's Tables 1 and 2": published_scores},
    measure_many=None,
)  # fmt: skip
