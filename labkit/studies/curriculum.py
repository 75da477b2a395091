"""Curriculum: does choosing, balancing and pacing what a teacher explains beat training on a random subset?

Distillation with task-aware curriculum planning (TAPIR: Yue, Wang, Huang, Wang, EMNLP 2024 Findings, arXiv 2405.13448),
whole and runnable: a student learns a public set, a judge finds out what it finds hard, a teacher expands that and
rewrites responses, kinds of tasks are re-balanced, and difficulty rises over rounds. `curriculum_rounds` does it,
`curriculum_data` says what is taught and tested, `curriculum_results` what came out.

The arms form a ladder, so that each ingredient is compared in pairs: random subset, the same taught, hard examples
instead of random ones, balanced, and TAPIR's rounds; beside it the full set, and two automatic curricula, which the
paper leaves open. All arms of a seed go on from one first student, train for the same rounds and tokens, and sit the
same exam on unseen instructions.

Small students (`model = None`) learn kinds of tasks from the instruction families; their teacher and judge are an
offline server that speaks a hosted model's protocol over HTTP (`labkit serve-teacher`). With `model`, a Hugging Face
student is fine-tuned by QLoRA on Alpaca, `teacher` is a model of the endpoint that LABKIT_TEACHER_URL and
LABKIT_TEACHER_KEY name, and the exam is MT-Bench.
"""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from labkit import learn
from labkit.design.curriculum import TARGET, apportion
from labkit.errors import BadRequest, unknown
from labkit.grade import sandbox
from labkit.instructions.corpora import CORPORA
from labkit.instructions.families import EVERY
from labkit.instructions.functions import FUNCTIONS
from labkit.learn import qlora
from labkit.studies import curriculum_results as results
from labkit.studies import language, symbolic
from labkit.studies.contract import Study
from labkit.studies.curriculum_rounds import ARMS, PROBED, SETTINGS, measure, offline, teacher
from labkit.teach import benchmarks, oracle, prompts
from labkit.teach.client import Client, Settings

QUESTION, ANSWER = 28, 28  # the most pieces of each; longer tasks are passed over
DECIDE = ("max_tokens", "temperature", "seed")  # the settings of a teacher that decide its replies
SERVING = "LABKIT_TEACHER_SERVING"  # whom a running service asks and how, so that a notebook starts no second one
Share = Annotated[float, Field(ge=0, le=1)]

SMALL: dict[str, Any] = {
    **symbolic.MODEL,
    "arms": list(ARMS),
    "tasks": [
        *("formatting", "classification", "functions", "rewriting", "sorting", "arithmetic", "programs", "encrypted"),
    ],
    "shares": [0.32, 0.3, 0.1, 0.1, 0.06, 0.06, 0.03, 0.03],
    "target": [0.06, 0.06, 0.16, 0.18, 0.14, 0.14, 0.14, 0.12],
    "levels": [1],
    "wrong": 0.1,
    "delta": 2,
    "alpha_0": 0.3,
    "delta_alpha": 0.2,
    "round_rate": 0.5,
    "teacher": oracle.MODEL,
    "asking": {"max_tokens": 2048},
}
TUNED: dict[str, Any] = {  # what a model that is fine-tuned starts from, at any scale
    "corpus": "alpaca",
    "tuning": {},
    "questions": "question.jsonl",
    "references": None,
    "new_tokens": 512,
}
SCALES: dict[str, dict[str, Any]] = {
    "smoke": {
        **SMALL,
        **TUNED,
        "arms": ["random", "tapir", "progress", "competence"],
        "tasks": ["formatting", "classification", "rewriting"],
        "shares": [0.5, 0.3, 0.2],
        "target": [0.2, 0.3, 0.5],
        "seeds": [0],
        "layers": 2,
        "width": 32,
        "steps": 30,
        "batch_size": 32,
        "public": 200,
        "mined": 120,
        "rounds": 2,
        "round_size": 64,
        "expanded": 24,
        "budget": 8000,
        "n_test": 20,
    },
    "laptop": {
        **SMALL,
        **TUNED,
        "seeds": [0, 1, 2],
        "steps": 1000,
        "public": 12_000,
        "mined": 2000,
        "rounds": 4,
        "round_size": 4000,
        "expanded": 12_000,
        "budget": 1_400_000,
        "n_test": 60,
    },
    "qlora": {
        **SMALL,
        **TUNED,
        "seeds": [0],
        "model": "meta-llama/Llama-2-7b-hf",
        "teacher": "gpt-4o-mini",
        "asking": {"max_tokens": 2048, "token_budget": 100_000_000},
        "tasks": list(TARGET),
        "shares": [1 / len(TARGET)] * len(TARGET),
        "target": list(TARGET.values()),
        "steps": 1000,
        "public": 20_000,
        "mined": 10_000,
        "rounds": 3,
        "round_size": 10_000,
        "expanded": 10_000,
        "budget": 6_000_000,
        "n_test": 80,
        "tuning": {"overlong": "drop"},
    },
}


class Params(symbolic.ModelParams):
    """What a person may set; see `SCALES` for the values each scale gives."""

    groups: ClassVar = {
        "pace": ("rounds", "round_size", "expanded", "budget", "round_rate", "alpha_0", "delta_alpha"),
        "tuned": ("model", "corpus", "tuning", "questions", "references", "new_tokens"),
    }
    arms: list[str] = Field(min_length=1, description="what is compared: names of `curriculum_rounds.ARMS`")
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
    teacher: str = Field(description="oracle (the offline server) or a model of the endpoint of LABKIT_TEACHER_URL")
    asking: dict[str, Any] = Field(description="settings of `teach.client.Settings`, such as token_budget")
    model: str | None = Field(default=None, description="a Hugging Face student to fine-tune; None: small students")
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
        for arm in self.arms:
            if arm not in ARMS:
                raise unknown("arm", arm, ARMS)
        known = EVERY if self.model is None else dict.fromkeys(TARGET)
        for task in self.tasks:
            if task not in known:
                raise unknown("task", task, known)
        for name, values in (("shares", self.shares), ("target", self.target)):
            if len(values) != len(self.tasks):
                raise BadRequest(f"{name} has {len(values)} numbers for {len(self.tasks)} tasks")
            if abs(sum(values) - 1) > 1e-6:
                raise BadRequest(f"{name} = {values} sums to {sum(values):g}, not to 1")
        for task, share, n in zip(self.tasks, self.target, apportion(self.shares, self.mined), strict=True):
            if self.model is None and share and not n:
                raise BadRequest(f"the target has a share of {share:g} of '{task}', but no seed of it is mined")
        if self.mined > self.public:
            raise BadRequest(f"mined = {self.mined} is more than public = {self.public}")
        if "progress" in self.arms and self.public < self.mined + PROBED * len(self.tasks):
            raise BadRequest(
                f"the arm 'progress' probes {PROBED} public examples for each task beside those that are mined: "
                f"public = {self.public} must be {self.mined + PROBED * len(self.tasks)} or more"
            )
        if own := {"model"} & set(self.asking):
            raise BadRequest(f"asking sets '{min(own)}', which is the parameter teacher")
        for name in self.asking:
            if name not in Settings.__dataclass_fields__:
                raise unknown("setting of a teacher", name, Settings.__dataclass_fields__)
        Settings(model=self.teacher, **self.asking)
        if offline(self.teacher):
            oracle.flaws_of(self.teacher)
        if self.model is not None:
            if own := {"model", "seed", "steps", "epochs", "packing"} & set(self.tuning):
                raise BadRequest(f"tuning sets '{min(own)}', which this study decides")
            qlora.settings(self.model, "default", **self.tuning)
        return self


class First(symbolic.ModelCell):
    """The first student of a seed, and what a judge thinks of it: what all its arms share."""

    study: Literal["curriculum_first", "curriculum"] = "curriculum_first"
    version: Literal[1] = 1
    vocabulary: str
    question: int
    answer: int
    tasks: tuple[str, ...]
    shares: tuple[float, ...]
    levels: tuple[int, ...]
    wrong: float
    public: int
    mined: int
    confirm_unsafe: bool
    teacher: str
    decisive: dict[str, Any]
    oracle: int
    model: str | None
    corpus: str
    settings: dict[str, Any]
    questions: str
    references: str | None
    new_tokens: int
    digests: dict[str, str]

    def layout(self) -> learn.TextLayout:
        """Word pieces of the tasks; every question begins with its instruction."""
        return learn.TextLayout(language.vocabulary(self.tasks), self.question, self.answer)

    @property
    def shape(self) -> None:
        """Students ask a teacher between rounds, each at its own time: no fleet."""
        return None


class Cell(First):
    """One arm: everything its result depends on."""

    study: Literal["curriculum"] = "curriculum"
    arm: str
    target: tuple[float, ...]
    delta: float
    alpha_0: float
    delta_alpha: float
    rounds: int
    round_size: int
    expanded: int
    budget: int
    round_rate: float

    def first(self) -> First:
        """The first student that this arm goes on from."""
        own = {name: value for name, value in self if name in First.model_fields and name != "study"}
        return First(**own)


def points(params: Params) -> Sequence[Cell]:
    """A cell for each arm and seed; seeds innermost, so that workers begin with different first students.

    Raises:
        BadRequest: for what is missing: bubblewrap, a corpus, MT-Bench's questions, a model.
    """
    digests: dict[str, str] = {}
    settings: dict[str, Any] = {}
    reading = {"vocabulary": "", "question": 0, "answer": 0}
    if params.model is None:
        if FUNCTIONS.name in params.tasks:
            sandbox.available(params.confirm_unsafe)
        reading = language.reading(tuple(params.tasks), QUESTION, ANSWER)
    else:
        digests = _digests(params, params.model)
        settings = asdict(qlora.settings(params.model, "default", **params.tuning))
    dials = [
        {
            "arm": arm,
            "seed": seed,
            "decisive": {name: params.asking[name] for name in DECIDE if name in params.asking},
            "oracle": oracle.VERSION if offline(params.teacher) else 0,
            "settings": settings,
            "digests": digests,
            **reading,
        }
        for arm in params.arms
        for seed in params.seeds
    ]
    return symbolic.cells(Cell, params, dials)


def _digests(params: Params, model: str) -> dict[str, str]:
    """The files that a fine-tuned student's result depends on, by content."""
    from labkit.design.mixture import digest

    if params.corpus not in CORPORA and not Path(params.corpus).exists():
        raise BadRequest(f"{params.corpus} is neither a corpus ({', '.join(CORPORA)}) nor a file")
    benchmarks.read_questions(params.questions)
    if params.references:
        benchmarks.read_answers(params.references)
    qlora.load_config(model, params.tuning.get("revision"))
    files = [params.questions, *([params.references] if params.references else [])]
    files += [name for name in (params.corpus, model) if Path(name).exists()]
    found = {name: digest(Path(name)) for name in files}
    return found | ({params.corpus: CORPORA[params.corpus].revision} if params.corpus in CORPORA else {})


@contextmanager
def service(params: Params) -> Iterator[None]:
    """The teacher, for as long as points are measured: the offline server, or a check of the endpoint.

    A second one inside it (the notebook that `labkit run` has started) finds the first and starts nothing.

    Raises:
        BadRequest: no endpoint, a wrong key, a model that the endpoint does not have, a judge that gives no rating or
            a classifier that names no kind; or another teacher is at work for the same run.
    """
    others = json.dumps({name: value for name, value in params.asking.items() if name not in DECIDE})
    own = json.dumps([params.teacher, others])
    if serving := os.environ.get(SERVING):
        if serving != own:
            raise BadRequest("a run has one teacher and one way of asking it: start another run for another one")
        yield
        return
    surroundings = {SERVING: own, SETTINGS: others}
    if offline(params.teacher):
        from labkit.teach import server

        with server.running(models=(params.teacher,)) as url:
            local = {"LABKIT_TEACHER_URL": url, "LABKIT_TEACHER_KEY": "offline"}
            with _environment(surroundings | local):
                yield
        return
    with _environment(surroundings):
        with teacher({name: params.asking[name] for name in DECIDE if name in params.asking}, params.teacher) as client:
            client.check()
            _try_out(client)
        yield


def _try_out(client: Client) -> None:
    """One rating and one classification, before more is paid for."""
    rating = client.ask(prompts.score("How much is 2 + 3?", "5")).text
    if prompts.read_score(rating) is None:
        raise BadRequest(f"the teacher gives no rating in the form [[7]] when asked for one; it says: {rating[:200]!r}")
    kinds = {"mathematics": "calculation", "writing": "stories and poems"}
    kind = client.ask(prompts.classify("How much is 2 + 3?", kinds)).text
    if prompts.read_kind(kind, list(kinds)) is None:
        raise BadRequest(f"the teacher names no kind of task when asked for one; it says: {kind[:200]!r}")


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Variables that measuring processes inherit."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def notes(params: Params) -> list[str]:
    """What was decided for the person."""
    runs = params.model is None and FUNCTIONS.name in params.tasks
    unsafe = runs and params.confirm_unsafe and not sandbox.available(unsafe=True)
    return [
        *(["programs are run without bubblewrap: what they may touch is not contained"] * unsafe),
        *(
            [f"the teacher is the offline server '{params.teacher}', started for this run; nothing leaves the machine"]
            if offline(params.teacher)
            else [f"'{params.teacher}' at the endpoint of LABKIT_TEACHER_URL is asked, and what it says is kept"]
        ),
        *(
            ["no token_budget or cost_budget is set for the endpoint: asking = {'token_budget': N} sets one"]
            * (not offline(params.teacher) and not {"token_budget", "cost_budget"} & set(params.asking))
        ),
    ]


STUDY = Study(
    name="curriculum",
    question="Does choosing, balancing and pacing what a teacher explains beat training on a random subset?",
    paper="Yue, Wang, Huang and Wang 2024: arXiv 2405.13448 (TAPIR)",
    minutes={
        "smoke": "1 to 2 minutes",
        "laptop": "11 to 12 minutes on two cores",
        "qlora": "days of a GPU and an endpoint's tokens (estimated, not run)",
    },
    scales=SCALES,
    Params=Params,
    points=points,
    measure=measure,
    summarise=results.summarise,
    chart=results.chart,
    finding=results.finding,
    compare=results.compare,
    summary_table=results.summary_table,
    describe=results.describe,
    notes=notes,
    figures={
        "What the first student finds hard.": results.difficulty_chart,
        "Kinds of tasks before and after.": results.shares_chart,
        "Every kind of task by round.": results.rounds_chart,
    },
    tables={
        "What each ingredient gains, in pairs": results.ingredients,
        "By kind of task": results.by_kind,
        "What became of what was asked of the teacher": results.distilled,
        "The judge beside exact grading": results.judged,
    },
    service=service,
)
