"""Curriculum: does choosing, balancing and pacing what a teacher explains beat training on a random subset?

Distillation with task-aware curriculum planning (TAPIR: Yue, Wang, Huang, Wang, EMNLP 2024 Findings, arXiv 2405.13448),
whole and runnable: a student learns a public set, a judge finds out what it finds hard, a teacher expands that and
rewrites responses, kinds of tasks are re-balanced, and difficulty rises over rounds. `rounds` does it, `shown`
says what came out, and `studies.public_sets` what is taught and tested.

The arms form a ladder, so that each ingredient is compared in pairs: random subset, the same taught, hard examples
instead of random ones, balanced, and TAPIR's rounds; beside it the full set, and two automatic curricula, which the
paper leaves open. All arms of a seed go on from one first student, train for the same rounds and tokens, and sit the
same exam on unseen instructions.

Small students (`model = "small"`) learn kinds of tasks from the instruction families. A Hugging Face student (`model`)
is fine-tuned by QLoRA on Alpaca, and its exam is MT-Bench. The teacher and judge is the families' oracle, asked in this
process, or (`teacher`) a model of the endpoint that LABKIT_TEACHER_URL and LABKIT_TEACHER_KEY name.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from labkit.design.curriculum import TARGET, apportion, check_shares
from labkit.errors import BadRequest, unknown
from labkit.grade import sandbox
from labkit.instructions.families import EVERY
from labkit.instructions.functions import FUNCTIONS
from labkit.lab import Store
from labkit.learn import finetuning
from labkit.studies import learners
from labkit.studies.curriculum import shown
from labkit.studies.curriculum.rounds import ARMS, PROBED, Cell
from labkit.studies.params import MODEL_GROUP, ModelParams, scales
from labkit.studies.public_sets import CorpusSource, FamilySource
from labkit.studies.public_sets import digests as _digests
from labkit.studies.study import Study
from labkit.teach.teacher import Teacher, checked

QUESTION, ANSWER = 28, 28  # the most pieces of each; longer tasks are passed over
Share = Annotated[float, Field(ge=0, le=1)]


class Params(ModelParams):
    """What a person may set; see `scales.yaml` for the values each scale gives."""

    groups: ClassVar = {"data": ("tasks", "shares", "target", "levels", "wrong", "public", "mined", "delta", "n_test"),
                        "pace": ("rounds", "round_size", "expanded", "budget", "round_rate", "alpha_0", "delta_alpha"),
                        "small": MODEL_GROUP,
                        "tuned": ("model", "corpus", "tuning", "questions", "references", "new_tokens")}  # fmt: skip
    arms: list[str] = Field(min_length=1, description="what is compared: names of `curriculum.rounds.ARMS`")
    tasks: list[str] = Field(min_length=2, description="kinds of tasks: instruction families, or task types with model")
    shares: tuple[Share, ...] = Field(description="of the public set, in the order of the tasks")
    target: tuple[Share, ...] = Field(description="shares after re-balancing, in the order of the tasks")
    levels: list[Literal[1, 2, 3]] = Field(min_length=1, description="difficulties 1 to 3, in equal parts")
    wrong: Share = Field(description="share of the public answers that are wrong")
    public: int = Field(ge=1, le=10**7, description="examples of the public set")
    mined: int = Field(ge=2, le=10**7, description="the first so many are answered by the student and judged")
    delta: float = Field(ge=0, lt=9, description="an example is hard above this shortfall (points, 1 to 10 are given)")
    alpha_0: Share = Field(description="share of hard examples in TAPIR's first round")
    delta_alpha: Share = Field(description="what it rises by each round")
    rounds: int = Field(ge=1, le=1000, description="rounds of training after the first student")
    round_size: int = Field(ge=1, le=10**7, description="examples a round draws")
    expanded: int = Field(ge=0, le=10**7, description="new pairs that the teacher writes for an arm, in all")
    budget: int = Field(ge=1, le=10**12, description="training tokens of an arm, in all rounds")
    round_rate: float = Field(gt=0, le=10, description="learning rate of the rounds, as a share of the first student's")
    steps: int = Field(ge=1, le=10**9, description="optimiser steps of the first student")
    confirm_unsafe: bool = Field(default=False, description="run the students' programs even without bubblewrap")
    teacher: str = Field(description="oracle (asked in this process) or a model of the endpoint of LABKIT_TEACHER_URL")
    asking: dict[str, Any] = Field(description="settings of `teach.client.Settings`, such as token_budget")
    model: str = Field(description="a Hugging Face student to fine-tune; small: small students from scratch")
    corpus: str = Field(description="for it: the public set, a corpus or a file")
    tuning: dict[str, Any] = Field(description="for it: settings of `learn.qlora.Finetuning` over the default preset")
    questions: str = Field(description="for it: MT-Bench's question.jsonl")
    references: str | None = Field(default=None, description="for it: reference answers, or None")
    new_tokens: int = Field(ge=1, le=100_000, description="for it: the longest answer, in tokens")

    @field_validator("model", "corpus", "questions", "references", mode="after")
    @classmethod
    def _files_by_their_whole_path(cls, value: str | None) -> str | None:
        """A notebook runs in another folder than the command that names a file."""
        return str(Path(value).resolve()) if value and Path(value).exists() else value

    @model_validator(mode="after")
    def _together(self) -> "Params":
        known = EVERY if self.small else TARGET
        for what, name, names in [("arm", arm, ARMS) for arm in self.arms] + [("task", t, known) for t in self.tasks]:
            if name not in names:
                raise unknown(what, name, names)
        check_shares("shares", self.shares, self.tasks)
        check_shares("target", self.target, self.tasks)
        for task, share, n in zip(self.tasks, self.target, apportion(self.shares, self.mined), strict=True):
            if self.small and share and not n:
                raise BadRequest(f"the target has a share of {share:g} of '{task}', but no seed of it is mined")
        if self.mined > self.public:
            raise BadRequest(f"mined = {self.mined} is more than public = {self.public}")
        if "progress" in self.arms and self.public < (least := self.mined + PROBED * len(self.tasks)):
            probes = f"the arm 'progress' probes {PROBED} public examples for each task beside those that are mined"
            raise BadRequest(f"{probes}: public = {self.public} must be {least} or more")
        checked(self.teacher, self.asking)
        if not self.small:
            if own := {"model", "seed", "steps", "epochs", "packing"} & set(self.tuning):
                raise BadRequest(f"tuning sets '{min(own)}', which this study decides")
            finetuning.settings(self.model, "default", **self.tuning)
        return self

    @property
    def small(self) -> bool:
        """Are the students small models from scratch?"""
        return self.model == learners.SMALL


def points(params: Params) -> Sequence[Cell]:
    """A cell for each arm and seed; seeds innermost, so that workers begin with different first students.

    Raises:
        BadRequest: for what is missing: bubblewrap, a corpus, MT-Bench's questions, a model.
    """
    given = params.model_dump()
    source: type[FamilySource | CorpusSource]
    spec: learners.Spec
    if params.small:
        if FUNCTIONS.name in params.tasks:
            sandbox.available(params.confirm_unsafe)
        source, spec = FamilySource, learners.small(params, tuple(params.tasks), QUESTION, ANSWER)
    else:
        given["digests"] = _digests(given)
        source, spec = CorpusSource, learners.tuned(params.model, "default", params.tuning, params.new_tokens)
    task = source(**{name: given[name] for name in source.model_fields if name in given})
    dials = {name: given[name] for name in Cell.model_fields if name in given} | {"spec": spec, "task": task}
    dials["teacher"] = Teacher.named(params.teacher, params.asking)
    return [Cell(**{**dials, "arm": arm, "seed": seed}) for arm in params.arms for seed in params.seeds]


def check(params: Params, store: Store) -> None:
    """An endpoint is tried out before anything is spent; see `teach.teacher.Teacher.check`."""
    Teacher.named(params.teacher, params.asking).check(params.asking, store.root)


def notes(params: Params) -> list[str]:
    """What was decided for the person."""
    runs = params.small and FUNCTIONS.name in params.tasks
    unsafe = runs and params.confirm_unsafe and not sandbox.available(unsafe=True)
    unheld = ["programs are run without bubblewrap: what they may touch is not contained"] * unsafe
    return [*unheld, *Teacher.named(params.teacher, params.asking).notes(params.asking)]


STUDY = Study(
    name="curriculum",
    question="Does choosing, balancing and pacing what a teacher explains beat training on a random subset?",
    paper="Yue, Wang, Huang and Wang 2024: arXiv 2405.13448 (TAPIR)",
    minutes={
        "smoke": "under 1 minute",
        "laptop": "11 to 12 minutes on two cores",
        "qlora": "days of a GPU and an endpoint's tokens (estimated, not run)",
    },
    scales=scales("curriculum"), Params=Params, points=points, check=check, notes=notes, dials={"arm": "arm"},
    views=shown.VIEWS, finding=shown.finding, columns=shown.ordered, tables=shown.TABLES, measure_many=None,
)  # fmt: skip
