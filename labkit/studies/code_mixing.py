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
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from labkit import grade
from labkit.errors import BadRequest, unknown
from labkit.grade import sandbox
from labkit.instructions import functions
from labkit.instructions.families import FAMILIES
from labkit.lab import Record
from labkit.learn import qlora
from labkit.studies import language, symbolic, tuned_code
from labkit.studies.contract import Study
from labkit.studies.symbolic import Lesson, interval
from labkit.studies.tuned_code import TunedCell

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

CODE = functions.FUNCTIONS.name
FEWEST = 4  # shares of general data, to look for a sweet spot
BENCHMARKS = ("humaneval", "humaneval_plus", "mbpp", "mbpp_plus")
EXAMS = {
    "code": "pass@1 on unseen compositions",
    "general": "accuracy on unseen general instructions",
    "seen": "accuracy on training code",
    "own": "pass@1 on own problems",
    "humaneval": "HumanEval pass@1",
    "humaneval_plus": "HumanEval+ pass@1",
    "mbpp": "MBPP pass@1",
    "mbpp_plus": "MBPP+ pass@1",
}
MAIN = ("code", "humaneval", "mbpp", "own")  # the first of them that was sat is what the sweet spot is of
VERDICTS = {"located": "yes", "lowest is best": "no", "highest is best": "no", "not decided": "not decided"}
AXES: dict[str, Any] = {
    "x": "general_share",
    "log_x": False,
    "x_label": "General data (share of the training set)",
    "y_label": "Share of test problems solved",
}
Share = Annotated[float, Field(ge=0, lt=1)]

SMALL: dict[str, Any] = {
    **language.SMALL,
    "families": list(FAMILIES),
    "general_levels": [1],
    "budget": [50_000],
    "passes": 16,
}
SCALES: dict[str, dict[str, Any]] = {
    "smoke": {
        **SMALL,
        "general_shares": [0, 0.1, 0.25, 0.5],
        "families": ["rewriting", "sorting"],
        "seeds": [0],
        "layers": 2,
        "width": 32,
        "budget": [8000],
        "passes": 2,
        "batch_size": 32,
        "n_test": 20,
    },
    "laptop": {**SMALL, "general_shares": [0, 0.05, 0.1, 0.25, 0.5, 0.75], "seeds": [0, 1, 2], "n_test": 300},
    "qlora": {
        **SMALL,
        "general_shares": [0],
        "seeds": [0],
        "n_test": 300,
        "model": "deepseek-ai/deepseek-coder-6.7b-base",
        "mixes": [
            *([20, 0, 0], [19, 1, 0], [18, 2, 0], [17, 3, 0], [16, 4, 0], [15, 5, 0], [18, 1, 1], [16, 2, 2]),
            *([75, 0, 0], [74, 1, 0], [72.5, 2.5, 0], [67.5, 7.5, 0], [60, 15, 0]),
            *([74, 0.5, 0.5], [72.5, 1.25, 1.25], [67.5, 3.25, 3.25], [60, 7.5, 7.5]),
        ],
        "plus": ["humaneval", "mbpp"],
        "tuning": {"overlong": "drop"},
    },
}
QLORA: dict[str, Any] = {  # what a model that is fine-tuned starts from, at any scale
    "mixes": [],
    "corpora": ["oss_instruct", "alpaca", "cot_collection"],
    "tuning": {},
    "plus": [],
    "problems": [],
    "new_tokens": 512,
}
SCALES = {scale: {**QLORA, **values} for scale, values in SCALES.items()}


class Params(language.LanguageParams):
    """What a person may set; see `SCALES` for the values each scale gives."""

    budget: list[Annotated[int, Field(ge=1, le=10**10)]] = Field(
        min_length=1, description="sizes of training sets, in tokens of questions and answers"
    )
    general_levels: list[Literal[1, 2, 3]] = Field(
        min_length=1, description="difficulties of the general families, 1 to 3"
    )
    general_shares: list[Share] = Field(min_length=1, description="shares of the training tokens that are general")
    families: list[str] = Field(min_length=1, description="the general families, in equal parts")
    confirm_unsafe: bool = Field(default=False, description="run the models' programs even without bubblewrap")
    model: str | None = Field(
        default=None, description="a Hugging Face id or folder to fine-tune; None: small models from scratch"
    )
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
        return type(value)(found) if value is not None else None

    @model_validator(mode="after")
    def _together(self) -> "Params":
        for name in self.families:
            if name not in FAMILIES:
                raise unknown("general family", name, FAMILIES)
        if self.model is None:
            return self
        if not self.mixes or not (self.plus or self.problems):
            raise BadRequest(f"model = {self.model!r} needs mixes to train on, and plus or problems to be graded on")
        for mix in self.mixes:
            if (
                not all(0 <= part < math.inf and abs(1000 * part - round(1000 * part)) < 1e-6 for part in mix)
                or not mix[0]
            ):
                raise BadRequest(f"the mix {list(mix)} is not of whole examples, 0 or more and some of code")
        if own := {"model", "seed"} & set(self.tuning):
            raise BadRequest(f"tuning sets '{min(own)}', which is a parameter of its own")
        qlora.settings(self.model, "code_mixing", **self.tuning)
        return self


class Cell(language.LanguageCell):
    """One small model: everything its result depends on."""

    study: Literal["code_mixing"] = "code_mixing"
    version: Literal[1] = 1
    general_share: float
    families: tuple[str, ...]
    general_levels: tuple[int, ...]
    confirm_unsafe: bool


def points(params: Params) -> Sequence[Cell | TunedCell]:
    """A cell for each training set and seed; seeds outermost."""
    sandbox.available(params.confirm_unsafe)
    if params.model is not None:
        return tuned_code.points(params, params.model)
    dials = [
        {"budget": budget, "general_share": share, "seed": seed, **language.reading()}
        for seed in params.seeds
        for budget in params.budget
        for share in sorted(params.general_shares)
    ]
    return symbolic.cells(Cell, params, dials)


def lesson_of(cell: Cell) -> Lesson:
    """Code and general families up to the budget, and three exams: training code, unseen code, unseen general."""
    layout, seed = cell.layout(), cell.seed
    code = language.fill(CODE, round((1 - cell.general_share) * cell.budget), layout, levels=cell.levels, seed=seed)
    parts = {CODE: code}
    if cell.general_share:
        each = round(cell.general_share * cell.budget / len(cell.families))
        parts |= {
            name: language.fill(name, each, layout, levels=cell.general_levels, seed=seed) for name in cell.families
        }
    tasks = [task for part in parts.values() for task in part.tasks]
    tokens = sum(part.tokens for part in parts.values())
    unseen = language.held_out(CODE, cell.n_test, layout, levels=cell.levels, seed=seed, distinct=True)
    each = max(1, cell.n_test // len(cell.families))
    general = [
        task
        for name in cell.families
        for task in language.held_out(name, each, layout, levels=cell.general_levels, seed=seed)
    ]
    sources = np.array([task.example.source for task in general])
    exams = {
        "seen": language.exam(code.tasks[: cell.n_test], layout),
        "code": language.exam(unseen, layout, language.runs(unseen, cell.confirm_unsafe)),
        "general": language.exam(general, layout)._replace(kinds={name: sources == name for name in cell.families}),
    }
    data = language.encode(tasks, layout)
    steps = cell.steps or round(cell.passes * len(tasks) / cell.batch_size) or 1
    about = {
        "size": f"{cell.budget:,} tokens",
        "mix": f"{100 * (1 - cell.general_share):.4g}% code, {100 * cell.general_share:.4g}% general",
        "two_way": True,
        "steps_taken": steps,
        "answer_tokens": int((data.tokens[:, data.prompt_length :] != data.filling).sum()),
        "sandbox": sandbox.described(sandbox.available(cell.confirm_unsafe)),
        "training_tokens": tokens,
        "training_examples": len(tasks),
        "code_examples": len(code.tasks),
        "code_instructions": len({task.instruction.key for task in code.tasks}),
    }
    return Lesson(data, exams, about, steps)


def arms(cells: Sequence[Cell | TunedCell]) -> list[dict[str, Any]]:
    """What the training sets of the first seed hold, before anything is trained."""
    first = [cell for cell in cells if cell.seed == cells[0].seed]
    rows = [lesson_of(cell).about if isinstance(cell, Cell) else {"examples": cell.parts} for cell in first]
    return [{name: value for name, value in row.items() if name not in ("two_way", "sandbox")} for row in rows]


def measure(cell: Cell | TunedCell, record: Record) -> dict[str, Any]:
    """Train or fine-tune one model and grade it; see `symbolic.measure_many` and `tuned_code`."""
    if isinstance(cell, TunedCell):
        return tuned_code.measure(cell, record)
    return symbolic.measure(cell, record, lesson_of)


def measure_many(cells: Sequence[Any], records: Sequence[Record]) -> list[dict[str, Any]]:
    """The same for a fleet of small models; fine-tuned ones never share one."""
    return symbolic.measure_many(cells, records, lesson_of)


def summarise(frame: "pd.DataFrame") -> dict[str, Any]:
    """Each arm's scores on every exam and, for each size of training set, where on the dial code is written best."""
    exams = [exam for exam in EXAMS if f"accuracy_{exam}" in frame]
    main = next(exam for exam in exams if exam in MAIN)
    same = "parts" in frame  # fine-tuned models of all seeds sit the same problems
    by_arm = ["size", "general_share", "mix"]
    arms = []
    for arm, group in frame.groupby(by_arm, sort=True):
        found = {kind: symbolic.estimate(group, kind) for kind in _kinds(frame)}
        kinds = {kind: (one.mean, (one.lo, one.hi)) for kind, one in found.items()}
        own = symbolic.estimates(group, exams, same)
        arms.append(
            dict(zip(by_arm, arm, strict=True)) | own | {"two_way": bool(group["two_way"].all()), "kinds": kinds}
        )
    sizes = []
    for size in sorted(frame["size"].unique(), key=_number):
        dial = frame[frame["two_way"] & (frame["size"] == size)]
        sizes.append({"size": size, **_optimum(sorted(dial["general_share"].unique()), _scores(dial, main), same)})
    return {"arms": arms, "exams": exams, "main": main, "sizes": sizes}


def _number(size: str) -> int:
    return int(size.split()[0].replace(",", ""))


def _widest(summary: dict[str, Any]) -> str:
    """The size of training set with the most arms; of several the largest."""
    return str(max(summary["sizes"], key=lambda one: (len(one["gains"]), _number(one["size"])))["size"])


def _curve(summary: dict[str, Any], size: str) -> list[dict[str, Any]]:
    return [arm for arm in summary["arms"] if arm["size"] == size and arm["two_way"]]


def _kinds(frame: "pd.DataFrame") -> list[str]:
    """The kinds of tasks within the exams on unseen code and general instructions."""
    found = [str(name).removesuffix("_right") for name in frame if str(name).endswith("_right")]
    levels = [name for name in found if name.startswith("code_level")]
    return levels + [name for name in found if name.removeprefix("general_") in FAMILIES]


def _scores(frame: "pd.DataFrame", exam: str) -> list[NDArray[np.float64]]:
    """For each seed that has every arm, the share of right answers of each arm on each problem: [G, P]."""
    n_arms, tables = frame["general_share"].nunique(), []
    for _, group in frame.sort_values("general_share").groupby("seed"):
        if len(group) == n_arms:
            tables.append(np.array([np.divide(c.right, c.asked) for c in symbolic.counts(group, exam)]))
    return tables


def _optimum(shares: Sequence[float], scores: Sequence[NDArray[np.float64]], same: bool) -> dict[str, Any]:
    """The sweet spot, where there are arms enough to look for one, and what each share gains over the lowest."""
    if not scores:  # no seed has every arm, or no arm is of two sources
        return {"lowest": None, "gains": [], "sweet_spot": None, "paired_seeds": 0}
    gains = []
    for place in range(1, len(shares)):
        mean, lo, hi = grade.paired_difference(scores, place, 0, same_problems=same)
        gains.append({"general_share": shares[place], "gain": mean, "gain_ci95": [lo, hi]})
    enough = len(shares) >= FEWEST
    spot = grade.sweet_spot(shares, scores, same_problems=same).as_dict() if enough else None
    return {"lowest": shares[0], "gains": gains, "sweet_spot": spot, "paired_seeds": len(scores)}


def chart(frame: "pd.DataFrame", summary: dict[str, Any], published: list[dict[str, Any]]) -> "alt.TopLevelMixin":
    """Every exam's score against the share of general data, the largest training set."""
    from labkit import show

    size = _widest(summary)
    series = [show.Series(EXAMS[e], f"accuracy_{e}", e, f"{e}_ci95") for e in summary["exams"] if e != "seen"]
    return show.growth_chart(
        frame[frame["two_way"] & (frame["size"] == size)],
        _curve(summary, size),
        series=series,
        title=finding(summary),
        subtitle=f"Training sets of {size}",
        **AXES,
    )


def published_chart(
    frame: "pd.DataFrame", summary: dict[str, Any], published: list[dict[str, Any]]
) -> "alt.TopLevelMixin":
    """The paper's scores of mixes of two sources over the same dial, beside ours."""
    from labkit import show

    main, size = summary["main"], _widest(summary)
    column = main if main in BENCHMARKS else "humaneval"
    values = [record for record in published if record["kind"] == "value" and not record["cot_k"]]
    theirs = [record | {f"accuracy_{main}": record[column] / 100} for record in values]
    return show.growth_chart(
        frame[frame["two_way"] & (frame["size"] == size)],
        _curve(summary, size),
        None,
        theirs,
        series=[show.Series(EXAMS[main], f"accuracy_{main}", main, f"{main}_ci95")],
        title=f"Ours beside the published {EXAMS[column]} of fine-tuned 7B models (diamonds)",
        subtitle="Theirs: two models and two sizes, a share of examples"
        + (". Ours: small models from scratch, a share of tokens" if main == "code" else ""),
        **AXES,
    )


def finding(summary: dict[str, Any]) -> str:
    """What the study shows, in one sentence a size of training set, with its intervals."""
    told = []
    for one in summary["sizes"]:
        arms, main = _curve(summary, one["size"]), summary["main"]
        if not arms:
            continue
        none = min(arms, key=lambda arm: arm["general_share"])
        begins = (
            f"{one['size']}: with {none['general_share']:.0%} general data {EXAMS[main]} is "
            f"{interval(none[main], none[f'{main}_ci95'])}"
        )
        told.append(f"{begins}; {_verdict(one)}")
    return ". ".join(told) or "No training set is a mix of two sources, so no share of general data can be told"


def _verdict(one: dict[str, Any]) -> str:
    """Whether there is a sweet spot, in words."""
    spot = one["sweet_spot"]
    if spot is None:
        return f"fewer than {FEWEST} shares in every seed, so no sweet spot was looked for"
    if spot["nearest"] == one["lowest"] and all(gain["gain"] == 0 for gain in one["gains"]):
        return "no sweet spot is established: all arms score alike"
    lo, hi = spot["peak_ci95"]
    where = f"{spot['peak']:.0%} [{lo:.0%}, {hi:.0%}]"
    if spot["verdict"] == "located":
        return f"the sweet spot lies at {where} general data, worth {_signed(spot)} at the nearest share tried"
    if spot["verdict"] == "lowest is best":
        return f"there is no sweet spot: the smallest share of general data is best, the fit's peak is {where}"
    if spot["verdict"] == "highest is best":
        return f"there is no sweet spot within the range: the largest share is best, the fit's peak is {where}"
    why = " (from one seed, training noise is not known)" if spot["seeds"] == 1 else ""
    worth = f", where the nearest share tried gains {_signed(spot)}" if spot["nearest"] > one["lowest"] else ""
    return f"no sweet spot is established{why}: the fit's peak is {where}{worth}"


def _signed(row: dict[str, Any]) -> str:
    lo, hi = row["gain_ci95"]
    return f"{row['gain']:+.3f} [{lo:+.3f}, {hi:+.3f}]"


def compare(summary: dict[str, Any], published: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The published sweet spot and decline beside ours."""
    told = [record for record in published if record["kind"] == "finding"]
    rows = []
    for one in summary["sizes"]:
        spot = one["sweet_spot"]
        agrees = VERDICTS[spot["verdict"]] if spot else "not tested here"
        ours = "; ".join(f"{gain['general_share']:.0%}: {_signed(gain)}" for gain in one["gains"])
        for record in told:
            source = f"{record['source']}, {record['figure']}"
            rows.append(
                {
                    "published": record["statement"],
                    "ours": f"{one['size']}, gains over the smallest share: {ours or 'none'}",
                    "agrees": agrees,
                    "source": source,
                }
            )
    return rows


def summary_table(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """A row an arm."""
    return [
        {
            "training set": arm["size"],
            "mix": arm["mix"],
            **{f"{EXAMS[e]} [95 %]": interval(arm[e], arm[f"{e}_ci95"]) if e in arm else "" for e in summary["exams"]},
            "seeds": arm["seeds"],
            "not learned": arm["not_learned"],
            "interval over": arm["interval_over"],
        }
        for arm in summary["arms"]
    ]


def gains(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """What each share of general data gains over the smallest, in pairs."""
    return [
        {
            "training set": one["size"],
            "general data": f"{100 * row['general_share']:.4g}%",
            f"gain over {one['lowest']:.0%}, {EXAMS[summary['main']]} [95 %]": _signed(row),
        }
        for one in summary["sizes"]
        for row in one["gains"]
    ]


def by_kind(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """A row a kind of unseen task, code by level and general by family, a column an arm."""
    kinds = dict.fromkeys(kind for arm in summary["arms"] for kind in arm["kinds"])
    several = len(summary["sizes"]) > 1
    return [
        {"unseen tasks": kind.replace("_", ", ")}
        | {
            f"{arm['size']}: {arm['mix']}" if several else arm["mix"]: interval(*arm["kinds"][kind])
            for arm in summary["arms"]
            if kind in arm["kinds"]
        }
        for kind in kinds
    ]


def published_table(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """The paper's Tables 1 and 2, in per cent."""
    from labkit import show

    return [
        {
            "model": record["model"],
            "OSS + Alpaca + CoT, thousands": f"{record['oss_k']:g}+{record['alpaca_k']:g}+{record['cot_k']:g}",
            **{EXAMS[name]: record[name] for name in BENCHMARKS},
        }
        for record in show.published("code_mixing")
        if record["kind"] == "value"
    ]


def describe(row: dict[str, Any]) -> str:
    """A row in a few words."""
    scores = ", ".join(f"{exam} {row[f'accuracy_{exam}']:.3f}" for exam in EXAMS if f"accuracy_{exam}" in row)
    return f"{row['size']}, {row['mix']}, seed={row['seed']}: {scores}, {row['train_seconds']:.0f} s"


def notes(params: Params) -> list[str]:
    """What was decided for the person."""
    unsafe = params.confirm_unsafe and not sandbox.available(unsafe=True)
    pinned = params.model is None or Path(params.model).is_dir() or "revision" in params.tuning
    return [
        *(["programs are run without bubblewrap: what they may touch is not contained"] * unsafe),
        *([f"'{params.model}' is not pinned: tuning = {{'revision': COMMIT}} pins it"] * (not pinned)),
    ]


STUDY = Study(
    name="code_mixing",
    question="How much general instruction data does a code model want?",
    paper="Zhang, Wang and Charton 2024: arXiv 2410.04717 (section 4, Tables 1 and 2)",
    minutes={
        "smoke": "under 1 minute",
        "laptop": "10 to 12 minutes on two cores",
        "qlora": "days of a GPU (estimated, not run)",
    },
    scales=SCALES,
    Params=Params,
    points=points,
    measure=measure,
    summarise=summarise,
    chart=chart,
    finding=finding,
    compare=compare,
    summary_table=summary_table,
    describe=describe,
    notes=notes,
    measure_many=measure_many,
    figures={"Beside the published scores of fine-tuned 7B models.": published_chart},
    tables={
        "What general data gains": gains,
        "Code by difficulty, general instructions by family": by_kind,
        "The paper's Tables 1 and 2": published_table,
    },
)
