"""Abilities of DoIT: the paper's data and exams, for Hugging Face models that are fine-tuned.

Guaranteed: exact numbers of examples; of one seed and source a smaller volume is the beginning of a larger one; every
question is a cluster of its own, and all seeds sit the same. Bad questions, and those longer than the model's
positions, are left out and counted.
Decided here: LoRA on a 4-bit base instead of full fine-tuning. `PAPER` holds what carries over of the paper's
settings; AdamW's betas stay at (0.9, 0.999) where the paper has (0.9, 0.95), the rate falls to 0 and not to 1e-6, and
LoRA often wants a higher one (`tuning`). The last epoch is graded; of a dialogue only the last answer is learned.
Left open: whether training and test data overlap is counted by identical questions only (`seen_questions`).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from labkit.design import named_mixes
from labkit.design.mixture import digest
from labkit.errors import BadRequest, unknown
from labkit.grade.questions import Exam, of_exam
from labkit.instructions import CORPORA, Example, doit, exams
from labkit.lab import Point, Record
from labkit.studies import learners

SMALL = named_mixes.SMALL
SOURCES = ("curated", "synthetic")
PAPER: dict[str, Any] = {"learning_rate": 1e-5, "schedule": "linear", "weight_decay": 0.1, "max_length": 2048}
PAPER |= {"batch_size": 8, "accumulation": 8}  # the authors' eight GPUs
EPOCHS, MORE_EPOCHS = {10: 25, 40: 20, 160: 18}, 15  # by the number of examples in all; else


class DoitTask(BaseModel):
    """What is taught and asked: a copy of DoIT and exams beside it, by name and content."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["doit"] = "doit"
    corpus: str
    beside: tuple[str, ...]
    digests: dict[str, str]

    def needs(self) -> Sequence[Point]:
        """Nothing: the data are files."""
        return ()

    def examples(self, spec: Any, seed: int, name: str, source: str, end: int, record: Record) -> list[Example]:
        """The first so many examples of an ability from a source."""
        return doit.ordered(self.corpus, name, source, seed)[:end]

    def exams(self, spec: Any, seed: int, abilities: tuple[str, ...], n: int) -> list[Exam]:
        """An exam per ability and those beside, of at most `n` questions each."""
        entries = [("unseen", name) for name in abilities] + [("outside", entry) for entry in self.beside]
        return [of_exam(name, doit.exam(self.corpus, entry), n) for name, entry in entries]

    def about(self, parts: set[tuple[str, str]], record: Record) -> dict[str, Any]:
        """What a row should say of the data."""
        return {"same_questions": True, "bad_examples": doit.bad_records(self.corpus, parts)}


def known(ability: str) -> None:
    """Raises `BadRequest` for an ability that DoIT has not."""
    if ability not in exams.DOIT:
        raise unknown("ability", ability, exams.DOIT)


def available(params: Any) -> dict[str, dict[str, int]]:
    """How many usable examples there are of each ability, by source.

    Raises:
        BadRequest: for an ability, a source or a file that is not there.
    """
    for ability in params.abilities:
        known(ability)
    return {a: {s: len(doit.ordered(params.corpus, a, s, 0)) for s in params.sources} for a in params.abilities}


def check(params: Any) -> None:
    """That the data are there, and that no exam is sat twice."""
    available(params)
    names = [*params.abilities, *(doit.exam(params.corpus, entry).name for entry in params.exams)]
    if twice := [name for name in names if names.count(name) > 1]:
        raise BadRequest(f"abilities and exams hold '{twice[0]}' twice: each exam is sat once")


def task(params: Any, seed: int, sources: set[str]) -> DoitTask:
    """What the cells of these parameters are taught and asked."""
    beside = [entry if entry in doit.OUTSIDE else str(Path(entry).resolve()) for entry in params.exams]
    corpus = params.corpus if params.corpus == doit.HUB else str(Path(params.corpus).resolve())
    files = [entry.partition("@")[0] for entry in beside if entry not in doit.OUTSIDE]
    files += [name for name in (params.model, corpus) if Path(name).is_dir()]
    pinned = {doit.HUB: CORPORA[doit.HUB].revision} if corpus == doit.HUB else {}
    return DoitTask(corpus=corpus, beside=tuple(beside), digests={file: digest(Path(file)) for file in files} | pinned)


def spec(params: Any, examples: int) -> learners.TunedSpec:
    """The learner of a run on so many examples."""
    own = {} if {"steps", "epochs"} & set(params.tuning) else {"epochs": EPOCHS.get(examples, MORE_EPOCHS)}
    return learners.tuned(params.model, "default", {**PAPER, **own, **params.tuning}, params.new_tokens)
