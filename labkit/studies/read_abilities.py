"""Abilities of files that a person names, for Hugging Face models that are fine-tuned: each has data and an exam.

An exam's published answer is ranked, by perplexity per token, against two wrong ones (chance 1/3): the same working
with another result where it ends in a number, else those answers of the same exam that share most words with it. A file
of closed questions (CMMLU, AGIEval) has its own options.
Guaranteed: exact numbers of examples; of one seed a smaller volume is the beginning of a larger one; all models are
asked the same; what shares words with an exam is not trained on (`design.decontamination`); every run takes equally
many optimiser steps.
Left open: an answer that shares few words with any other is easy to tell from these.
"""

import re
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from random import Random
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from labkit.design import Decontaminator
from labkit.design.mixture import digest
from labkit.errors import BadRequest, check_known
from labkit.grade.questions import DISTRACTORS, Exam, Question, of_exam
from labkit.instructions import Example, exams
from labkit.lab import Point, Record
from labkit.studies import learners, read_exams

SMALL: dict[str, int] = {}  # no ability of the paper's named designs has a counterpart here
SOURCES = ("curated",)
RESULT = re.compile(r"(?<=The answer is )\d{1,9}(?=\.?$)")


class FilesTask(BaseModel):
    """What is taught and asked: by ability the file to learn from and the file to be asked, and exams beside."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["files"] = "files"
    files: dict[str, tuple[str, str]]
    beside: tuple[str, ...]
    digests: dict[str, str]

    def needs(self) -> Sequence[Point]:
        """Nothing: the data are files."""
        return ()

    def examples(self, spec: Any, seed: int, name: str, source: str, end: int, record: Record) -> list[Example]:
        """The first so many examples of an ability."""
        usable, own = _usable(*self.files[name]), list(self.files).index(name)
        order = np.random.default_rng([seed, own]).permutation(len(usable))[:end]
        return [usable[i] for i in order.tolist()]

    def exams(self, spec: Any, seed: int, abilities: tuple[str, ...], n: int) -> list[Exam]:
        """An exam per ability and those beside, of at most `n` questions each."""
        beside = [("outside", read_exams.name_of(entry), entry) for entry in self.beside]
        entries = [*(("unseen", name, self.files[name][1]) for name in abilities), *beside]
        return [_asked(entry, n)._replace(name=exam, kind=kind) for exam, kind, entry in entries]

    def about(self, parts: set[tuple[str, str]], record: Record) -> dict[str, Any]:
        """What a row should say of the data."""
        return {"same_questions": True}


def available(params: Any) -> dict[str, dict[str, int]]:
    """How many usable examples there are of each ability.

    Raises:
        BadRequest: for an ability without files, or a file that is not there or holds no answers.
    """
    check_known("ability with files", params.abilities, params.files)
    return {name: {"curated": len(_usable(*params.files[name]))} for name in params.abilities}


def known(ability: str) -> None:
    """Any name is an ability's; `available` says which have files."""


def check(params: Any) -> None:
    """That the files are there, and that each exam can be asked."""
    available(params)
    for entry in [*(params.files[name][1] for name in params.abilities), *params.exams]:
        _asked(entry, 1)


def task(params: Any, seed: int, sources: set[str]) -> FilesTask:
    """What the cells of these parameters are taught and asked."""
    files = {name: params.files[name] for name in params.abilities}
    entries = [entry for pair in files.values() for entry in pair] + params.exams
    found = {entry: digest(_path(entry)) for entry in entries}
    return FilesTask(files=files, beside=tuple(params.exams), digests=found)


def spec(params: Any, examples: int) -> learners.TunedSpec:
    """The learner of a run; `examples` does not matter to it: all take the parameters' steps."""
    tuning = {"steps": params.steps, **params.tuning}
    return learners.tuned(params.model, "default", tuning, params.new_tokens or 1)


@lru_cache(maxsize=32)
def _usable(taught: str, asked: str) -> list[Example]:
    """The examples of a file that share nothing with its exam."""
    guard = Decontaminator([_path(asked)])
    found = [example for example in read_exams.answered(taught) if not guard.overlaps(example)]
    if not found:
        raise BadRequest(f"{taught} holds nothing that its exam {asked} does not hold")
    return found


def _asked(entry: str, n: int) -> Exam:
    """So many questions of a file, their answers to be ranked or chosen from."""
    path = _path(entry)
    if "=" not in entry and _is_closed(path):
        return of_exam("unseen", exams.read_exam(path), n)
    pool = read_exams.questions(entry, n)
    if len(pool) <= DISTRACTORS:
        raise BadRequest(f"{path} holds {len(pool)} questions with answers: too few to rank one answer against others")
    words = [set(example.output.split()) for example in pool]
    asked = []
    for place, example in enumerate(pool[:n]):
        near = sorted(range(len(pool)), key=lambda i: (-len(words[i] & words[place]), i))
        others = _other_results(example.output, place) or [pool[i].output for i in near]
        answers = (
            example.output,
            *list(dict.fromkeys(text for text in others if text != example.output))[:DISTRACTORS],
        )
        asked.append(Question(example, answers, 0, False, partial(_same, example.output), str(place)))
    return Exam("unseen", "", asked, {})


def _other_results(answer: str, seed: int) -> list[str]:
    """The answer with other numbers of about the size of the one that it ends in; none where it ends otherwise."""
    end = RESULT.search(answer)
    if end is None:
        return []
    number, rng = int(end[0]), Random(seed)
    others = rng.sample([n for n in range(max(0, number // 2), 2 * number + 10) if n != number], DISTRACTORS)
    return [answer[: end.start()] + str(n) + answer[end.end() :] for n in others]


def _path(entry: str) -> Path:
    path = Path(read_exams.source_of(entry).get("path", entry))
    if not path.exists():
        raise BadRequest(f"{path} is no file: an ability needs a file to learn from, and one to be asked")
    return path


def _is_closed(path: Path) -> bool:
    try:
        exams.read_exam(path)
    except BadRequest:
        return False
    return True


def _same(gold: str, text: str) -> bool:
    return text.strip() == gold.strip()
