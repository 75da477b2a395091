"""Curriculum: does choosing, balancing and pacing what a teacher explains beat training on a random subset?

Distillation with task-aware curriculum planning (TAPIR: Yue, Wang, Huang, Wang, EMNLP 2024 Findings, arXiv 2405.13448),
whole and runnable: a student learns one half of a public set, a judge finds out what it finds hard in the other, a
teacher expands that and rewrites responses, kinds of tasks are re-balanced, and difficulty rises over rounds. `rounds`
does it, `shown` says what came out, and `studies.public_sets` what is taught and tested.

The arms add one ingredient at a time: random examples, the same taught, the harder half of each kind in their place,
a quarter of rehearsal, TAPIR mined once, and TAPIR's rounds, towards the published distribution over kinds of tasks or
the lab's own; others are named in `arms.yaml`. All arms of a seed go on from one first student, train for the same
rounds and optimiser steps, and sit the same exams.

Small students (`model = "small"`) begin with a text base and learn kinds of tasks from the instruction families, each
at three levels; a kind and level that a student of this size and budget does not learn even alone is left out of means
(its *gate*). Students of other `widths` repeat some arms; they count by the gates of the main width. A Hugging Face
student (`model`) is fine-tuned by QLoRA on Alpaca, and its exam is MT-Bench, or published answers that it follows
(`held`). The teacher and judge is the families' oracle, asked in this process, or (`teacher`) a language model of this
machine (`smollm2`, a folder, `hf:ID`) or of the endpoint that LABKIT_TEACHER_URL and LABKIT_TEACHER_KEY name.
"""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

from pydantic import Field, field_validator, model_validator

from labkit.design.curriculum import TARGET, apportion, check_shares, published_target
from labkit.errors import BadRequest, check_known
from labkit.instructions.families import EVERY
from labkit.instructions.family import LEVELS
from labkit.lab import Store
from labkit.studies import abilities, followed_sets, learners
from labkit.studies.curriculum import shown
from labkit.studies.curriculum.rounds import ARMS, SIZED, Cell
from labkit.studies.params import MODEL_GROUP, about, check_heads, whole_paths
from labkit.studies.study import Study
from labkit.teach.teacher import Teacher, checked

Share = Annotated[float, Field(ge=0, le=1)]


class Params(learners.BasedParams):
    """What a person may set; see `catalogue.yaml` for the values each scale gives."""

    groups: ClassVar = {
        "data": ("tasks", "shares", "level_shares", "target", "own_target", "outside", "wrong"),
        "mining": ("public", "mined", "delta", "question", "answer", "n_test", "widths", "gate"),
        "pace": ("rounds", "round_size", "round_steps", "expanded", "round_rate", "alpha_0", "delta_alpha"),
        "small": MODEL_GROUP,
        "base": ("loss", "base_steps", "base_batch", "base_tokens", "base_answered", "base_gate"),
        "tuned": ("model", "corpus", "tuning", "held", "questions", "references", "new_tokens"),
    }  # fmt: skip
    arms: list[str] = Field(min_length=1, description="what is compared: names of `curriculum.rounds.ARMS`")
    tasks: list[str] = Field(min_length=2, description="kinds of tasks: instruction families, or task types with model")
    shares: tuple[Share, ...] = Field(description="of the public set, in the order of the tasks")
    level_shares: tuple[Share, ...] = Field(description="of each kind in the public set, for levels 1, 2 and 3")
    target: tuple[Share, ...] = Field(description="shares after re-balancing, by task; (): TAPIR's published ones")
    own_target: tuple[Share, ...] = Field(description="the lab's own target, for the arm tapir_own")
    outside: list[str] = Field(description="families that are examined and never taught")
    wrong: Share = Field(description="share of the public answers that are wrong")
    public: int = Field(ge=2, le=10**7, description="examples of the public set; the first student learns one half")
    mined: int = Field(ge=2, le=10**7, description="so many of the other half are answered by the student and judged")
    delta: float = Field(ge=0, lt=9, description="an example is hard above this shortfall (points, 1 to 10 are given)")
    alpha_0: Share = Field(description="share of hard examples in TAPIR's first round")
    delta_alpha: Share = Field(description="what it rises by each round")
    rounds: int = Field(ge=1, le=1000, description="rounds of training after the first student")
    round_size: int = Field(ge=1, le=10**7, description="examples a round draws")
    round_steps: int = Field(ge=1, le=10**9, description="optimiser steps of a round")
    expanded: int = Field(ge=0, le=10**7, description="new pairs that the teacher writes for an arm, in all")
    round_rate: float = Field(gt=0, le=10, description="learning rate of the rounds, as a share of the first student's")
    steps: int = Field(ge=1, le=10**9, description="optimiser steps of the first student")
    question: int = Field(ge=4, le=1000, description="the most pieces of a question; longer tasks are passed over")
    answer: int = Field(ge=4, le=1000, description="the most pieces of an answer, its end included")
    gate: float = Field(ge=-1, le=1, description="score that a kind and level alone needs to count in means")
    widths: list[Annotated[int, Field(ge=2, le=16384)]] = Field(
        description="other widths of students, who repeat three arms"
    )
    teacher: str = Field(description="oracle, smollm2, a model's folder, hf:ID, or a model of the endpoint")
    asking: dict[str, Any] = Field(description="settings of `teach.client.Settings`, such as token_budget")
    model: str = Field(description="a Hugging Face student to fine-tune; small: small students of the lab")
    corpus: str = Field(description="for it: the public set, a corpus or a file")
    tuning: dict[str, Any] = Field(description="for it: settings of `learn.qlora.Finetuning` over the default preset")
    questions: str = Field(description="for it: MT-Bench's question.jsonl")
    held: list[str] = Field(description="for it: files of published answers to follow, in the place of MT-Bench")
    references: str | None = Field(default=None, description="for it: reference answers, or None")
    new_tokens: int = Field(ge=1, le=100_000, description="for it: the longest answer, in tokens")

    _whole = field_validator("model", "teacher", "corpus", "questions", "references", "held", mode="after")(whole_paths)

    @model_validator(mode="after")
    def _together(self) -> "Params":
        check_known("arm", self.arms, ARMS)
        check_known("task", self.tasks, EVERY if self.small else TARGET)
        for name in (*self.tasks, *self.outside) if self.small else ():
            abilities.known(name)
        for name, shares in (("shares", self.shares), ("target", self.aims), ("own_target", self.own_target)):
            check_shares(name, shares, self.tasks)
        check_shares("level_shares", self.level_shares, [f"level {level}" for level in LEVELS])
        for task, share, n in zip(self.tasks, self.aims, apportion(self.shares, self.mined), strict=True):
            if self.small and share and not n:
                raise BadRequest(f"the target has a share of {share:g} of '{task}', but no seed of it is mined")
        if self.mined > self.public - self.public // 2:
            raise BadRequest(
                f"mined = {self.mined} is more than the half of public = {self.public} that is not learned"
            )
        check_heads(self.heads, "widths", self.widths)
        checked(self.teacher, self.asking)
        if not self.small:
            own = {"model", "seed", "steps", "epochs", "packing"}
            learners.check_tuning(self.model, "default", self.tuning, own, "this study decides")
        return self

    @property
    def small(self) -> bool:
        """Are the students small models?"""
        return self.model == learners.SMALL

    @property
    def aims(self) -> tuple[float, ...]:
        """The target of re-balancing."""
        types = {name: EVERY[name].task_type if self.small else name for name in self.tasks}
        return self.target or tuple(published_target(types).values())


def points(params: Params) -> Sequence[Cell]:
    """A cell for each arm and seed; seeds innermost, so that workers begin with different first students.

    Raises:
        BadRequest: for what is missing: a corpus, MT-Bench's questions, a model.
    """
    given = params.model_dump()
    source = followed_sets.kind_of(params)
    given |= {} if params.small else {"digests": followed_sets.digests(given)}
    task = source(**{name: given[name] for name in source.model_fields if name in given})
    dials = {name: given[name] for name in Cell.model_fields if name in given} | {"task": task, "target": params.aims}
    dials["teacher"] = Teacher.named(params.teacher, params.asking)
    arms = [(width, arm) for width in params.widths if params.small for arm in params.arms if arm in SIZED]
    arms = [*((params.width, arm) for arm in params.arms), *(one for one in arms if one[0] != params.width)]
    return [Cell(**dials | {"spec": _spec(params, width), "width": width, "arm": arm, "seed": seed,
                            "gated": params.small and width == params.width})
            for width, arm in arms for seed in params.seeds]  # fmt: skip


def _spec(params: Params, width: int) -> learners.Spec:
    """The student of a width."""
    if not params.small:
        return learners.tuned(params.model, "default", params.tuning, params.new_tokens)
    reads = (*params.tasks, *params.outside)
    return learners.based(params, reads, params.question, params.answer, LEVELS, width=width)


def check(params: Params, store: Store) -> None:
    """An endpoint is tried out before anything is spent; see `teach.teacher.Teacher.check`."""
    Teacher.named(params.teacher, params.asking).check(params.asking, store.root)


STUDY = Study(
    **about("curriculum"), Params=Params, points=points, check=check, dials={"arm": "arm", "width": "width"},
    notes=lambda params: Teacher.named(params.teacher, params.asking).notes(params.asking), views=shown.VIEWS,
    marks=lambda params: {"least": params.gate, "main_width": params.width}, columns=shown.ordered,
    finding=shown.finding, tables=shown.TABLES, measure_many=None,
)  # fmt: skip
