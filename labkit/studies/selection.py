"""Selection: which records of a pool should a small model learn, when selecting costs compute, too?

A pool (`labkit.studies.pools`) holds kinds of tasks that are asked for and others, right and wrong answers, and copies.
Each arm chooses a budget of records by one method of `labkit.design.selection` and trains the same base on them. All
arms spend the same: what an arm spends on selecting (models that learn a little of the pool, forward and backward
passes over it), counted in forward passes of one example, it does not train. Random and other cheap methods so train
the longest. The exam asks for unseen instructions of the target's kinds.

`known` is what nobody can do outside a lab: records that are right, on target and different. Where it gains nothing
over random, there is little to be gained. What is not counted: a judge, and the scores that `quality` is given.

With `model`, a Hugging Face model learns from a corpus and is asked a target: `labkit.studies.selected_files`.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import Field, field_validator, model_validator

from labkit.design import selection
from labkit.design.selection import METHODS, TRAINED
from labkit.errors import BadRequest, unknown
from labkit.grade.questions import GRADINGS
from labkit.learn.embedders import embed
from labkit.studies import abilities, learners, scores, selected_files
from labkit.studies.params import MODEL_GROUP, about, whole_paths
from labkit.studies.pools import Pool
from labkit.studies.read_exams import EXAMS
from labkit.studies.rows import records
from labkit.studies.scores import MACRO
from labkit.studies.selected import KNOWN, RANDOM, Cell
from labkit.studies.study import Results, Study
from labkit.studies.views import Gains, Records, View, signed_gain, verdict

IDEAL = {KNOWN: "right, on target and different (known)"}
WORDS = {name: f"{method.words} ({name})" for name, method in METHODS.items()} | IDEAL  # a finding says the name


class Params(abilities.AbilityParams):
    """What a person may set; see `catalogue.yaml` for the values each scale gives."""

    groups: ClassVar = {
        "data": ("pool", "on_target", "wrong", "copies", "aims", "noise"),
        "task": ("outside", "levels", "question", "answer", "n_test", "grading"),
        "small": MODEL_GROUP,
        "base": ("loss", "base_steps", "base_batch", "base_tokens", "base_answered", "base_gate"),
        "files": ("corpus", "target", "tuning"),
    }
    _whole = field_validator("model", "corpus", "target", mode="after")(whole_paths)
    model: str = Field(description="small: a small transformer, on the lab's own kinds of tasks; or a Hugging Face id")
    corpus: str = Field(description="of a Hugging Face model: the pool, a corpus or file, or corpus=file")
    target: str = Field(description="of a Hugging Face model: records that say what is asked for, and others as exam")
    tuning: dict[str, Any] = Field(description="settings of fine-tuning, see `labkit.learn.finetuning.Finetuning`")
    arms: list[str] = Field(min_length=2, description="methods of selection: names of `design.selection`, and known")
    others: list[str] = Field(min_length=1, description="kinds of tasks in the pool that are not asked for")
    budget: int = Field(ge=1, le=10**7, description="records that an arm chooses")
    pool: int = Field(ge=selection.FEWEST, le=10**7, description="records of the pool")
    on_target: float = Field(gt=0, lt=1, description="share of the pool of the kinds that are asked for")
    wrong: float = Field(ge=0, lt=1, description="share of wrong answers")
    copies: float = Field(ge=0, lt=1, description="share of exact copies of other records")
    aims: int = Field(ge=1, le=10**5, description="records, of each kind if there are any, that say what is asked for")
    noise: float = Field(ge=0, le=100, description="standard deviation of a quality score, where right is 1, wrong 0")
    fitting: int = Field(ge=1, le=10**9, description="steps on half of the pool of each model that scores")
    embedder: str = Field(description="what makes vectors of questions: lexical, wordllama, minilm or a folder")

    @model_validator(mode="after")
    def _together(self) -> "Params":
        for name in (*self.abilities, *self.others, *self.outside):
            abilities.known(name)
        if both := {*self.abilities} & {*self.others}:
            raise BadRequest(f"'{min(both)}' is of the target and of the others")
        if RANDOM not in self.arms:
            raise BadRequest(f"arms = {self.arms}: '{RANDOM}' is what the others are compared with")
        for arm in self.arms:
            if arm not in WORDS:
                raise unknown("arm", arm, WORDS)
            if self.trained(arm) < 1:
                raise BadRequest(f"selecting by '{arm}' takes {self.spent(arm):,} forward passes, all of steps = "
                                 f"{self.steps}: raise steps, or lower pool or fitting")  # fmt: skip
        if self.model != learners.SMALL and KNOWN in self.arms:
            raise BadRequest(f"arms holds '{KNOWN}', and of real data nobody knows what is right: leave it out")
        selection.check(RANDOM, self.budget, self.pool, None)
        return self

    def spent(self, arm: str) -> int:
        """Forward passes of one example that an arm spends on selecting."""
        small = self.model == learners.SMALL  # elsewhere the model is asked as it comes, and aims are of one kind
        price = TRAINED * self.fitting * self.batch_size * small
        aims = self.aims * (len(self.abilities) if small else 1)
        return 0 if arm == KNOWN else selection.cost(arm, self.pool, aims, price)

    def trained(self, arm: str) -> int:
        """Steps that are left to an arm for training."""
        return (TRAINED * self.steps * self.batch_size - self.spent(arm)) // (TRAINED * self.batch_size)


def points(params: Params) -> Sequence[Cell | selected_files.Cell]:
    """A model per arm and seed.

    Raises:
        BadRequest: for an embedder that is not there, a kind with too few examples or questions, or files as
            `selected_files.cells`.
    """
    embed(["is it there?"], params.embedder)
    if params.model != learners.SMALL:
        return selected_files.cells(params)
    reads = (*params.abilities, *params.others, *params.outside)
    spec = learners.based(params, reads, params.question, params.answer, params.levels)
    levels, names = tuple(params.levels), tuple(params.abilities)
    pool = Pool(target=names, others=tuple(params.others), levels=levels, size=params.pool, on_target=params.on_target,
                wrong=params.wrong, copies=params.copies, aims=params.aims)  # fmt: skip
    pool.tasks(spec, params.seeds[0])
    task = abilities.FamilyTask(levels=levels, outside=tuple(params.outside))
    task.exams(spec, params.seeds[0], names, params.n_test)
    shared = {name: getattr(params, name) for name in ("budget", "noise", "embedder", "fitting", "n_test")}
    return [
        Cell(seed=seed, steps=params.trained(arm), spent=params.spent(arm), spec=spec, task=task, arm=arm, pool=pool,
             source="pool", abilities=names, gradings=GRADINGS, counts={"pool": {"pool": params.budget}}, **shared)
        for seed in params.seeds for arm in params.arms
    ]  # fmt: skip


GAIN: Any = {"title": "What each method gains over random selection at equal compute, in pairs", "arm": "arm",
             "arm_label": lambda arm: WORDS[arm], "arm_name": "method", "baseline": RANDOM}  # fmt: skip
VIEWS: dict[str, View] = {
    "gains": Gains(exam="score", exam_label="macro score", where=lambda rows: rows["ability"] == MACRO, **GAIN),
    "followed": Gains(exam=selected_files.EXAM, exam_label=EXAMS[selected_files.EXAM], **GAIN),
}


def finding(found: Results) -> str:
    """What each method gains over random selection."""
    shown = [view for view in VIEWS if view in found.views()]
    if not shown:
        return "Two arms at one seed are needed for a comparison"
    parts: dict[str, list[str]] = {"better": [], "worse": [], "not decided": []}
    for line in sorted(records(found[shown[0]].estimates), key=lambda line: -line["mean"]):
        parts[verdict(line)].append(f"{line['arm']} {signed_gain(line)}" if verdict(line) == "better" else line["arm"])
    better, worse, undecided = (", ".join(names) or "nothing" for names in parts.values())
    return f"Above random selection at equal compute: {better}; below it: {worse}; not told apart from it: {undecided}"


def what(found: Results) -> Records:
    """What each method chose, and how its compute was spent; means over seeds."""
    import pandas as pd

    models, lines = found.rows.drop_duplicates("address"), Records()
    for arm, group in models.groupby("arm", sort=False):
        (means,) = records(pd.DataFrame(group["chosen"].tolist()).mean().round(2).to_frame().T)
        spent = {"compute spent on selecting": round(float(group["selecting"].mean()), 2)}
        lines.append({"method": WORDS[str(arm)]} | means | spent | {"steps": int(group["steps"].iloc[0])})
    return lines


STUDY = Study(
    **about("selection"), Params=Params, points=points, views=VIEWS, finding=finding,
    columns=lambda rows: scores.scored(rows) if "design" in rows else rows.assign(ability=""),
    dials={"arm": "chosen by"}, tables={"What each method chose": what},
    marks=lambda params: {"scored_by": params.grading}, measure_many=None,
)  # fmt: skip
