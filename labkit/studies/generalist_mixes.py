"""Training sets of one size that differ in diversity, and the exams that tell what follows demands: small and real.

`DemandMix`: requests that make demands (`instructions.demands`), of few or many combinations of kinds of demand, with
or without general instructions in the place of some. `SourceMix`: public instruction data of one source or several in
equal parts, and samples of public exams (`instructions.written_exams`). Both say of a cell what is learned and which
exams are sat; nothing else of the study knows which of them it has.
"""

import json
import os
from collections.abc import Sequence
from functools import cache, lru_cache
from itertools import chain
from pathlib import Path
from random import Random
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel

from labkit.design import Decontaminator
from labkit.design.mixture import Mixture, digest
from labkit.errors import BadRequest
from labkit.grade import written
from labkit.instructions import written_exams
from labkit.instructions.corpora import CORPORA
from labkit.instructions.demands import DEMANDS, KINDS, Combination, every
from labkit.instructions.family import Task
from labkit.instructions.written_exams import Asked
from labkit.learn.learner import Flags
from labkit.studies import language, read_exams
from labkit.studies.lesson import Exam, Lesson
from labkit.studies.mixes import composed

SIZES = (2, 3)  # demands of a request
TRIED = 1000  # orders of the combinations, until three begin one that hold every kind


class DemandMix(BaseModel, frozen=True):
    """So many combinations of demands in turn, and a share of general instructions, in `budget` examples."""

    kind: Literal["demands"] = "demands"
    variety: int
    general_share: float
    budget: int
    families: tuple[str, ...]
    levels: tuple[int, ...]

    def lesson(self, spec: Any, seed: int, n_test: int) -> Lesson:
        """The set, and its exams: combinations in training, unseen ones, and unseen general instructions."""
        reading, n_general = spec.reading(), round(self.general_share * self.budget)
        general = self._general(reading, n_general, "train", seed)
        own = ordered(seed)[: self.variety]
        tasks = [*requests(own, self.budget - n_general, f"train {seed}", reading), *general]
        unseen = requests(every("test", SIZES), n_test, f"unseen {seed}", reading)
        other = self._general(reading, n_test, "test", seed)
        exams = {"seen": asked(requests(own, n_test, f"seen {seed}", reading)), "unseen": asked(unseen)}
        about = {"variety": self.variety, "general_share": self.general_share, "mix": mix_name(self.general_share),
                 "combinations": len(own), "general_examples": len(general)}  # fmt: skip
        return Lesson(language.examples(tasks), exams | {"general": language.exam(other)}, about)

    def _general(self, reading: language.Reading, n: int, split: Literal["train", "test"], seed: int) -> list[Task]:
        """So many tasks, the families in turn."""
        each = -(-n // len(self.families))
        drawn = [language.tasks(name, each, split, self.levels, seed, reading) for name in self.families if n]
        return list(chain.from_iterable(zip(*drawn, strict=True)))[:n]


def mix_name(share: float) -> str:
    """How people read a share of general instructions."""
    return f"{share:.0%} general instructions" if share else "demands alone"


@lru_cache(maxsize=8)
def ordered(seed: int) -> list[Combination]:
    """The combinations that may be trained, in the order in which sets take them: the first three hold every kind."""
    rng, found = Random(f"combinations {seed}"), every("train", SIZES)
    for _ in range(TRIED):
        rng.shuffle(found)
        found.sort(key=lambda one: len(one) != SIZES[-1])  # those of three first; the order among them stays
        if {kind for one in found[:3] for kind in one} == set(KINDS):
            break
    rest = found[3:]
    rng.shuffle(rest)
    return [*found[:3], *rest]


def requests(combinations: Sequence[Combination], n: int, seed: str, reading: language.Reading) -> list[Task]:
    """`n` requests of these combinations in turn, those that fit into a sequence."""
    rng, layout, tasks = Random(f"requests {seed}"), reading.layout(), list[Task]()
    while len(tasks) < n:
        one = DEMANDS.task(combinations[len(tasks) % len(combinations)], rng)
        if layout.fits(language.question_of(one), one.example.output):
            tasks.append(one)
    return tasks


def asked(tasks: Sequence[Task]) -> Exam:
    """An exam in which whatever meets all demands is right; kinds are numbers of demands, and each kind of demand."""

    def judge(answers: list[str]) -> dict[str, Flags]:
        pairs = zip(tasks, answers, strict=True)
        return {"": np.array([DEMANDS.accepts(one.instruction, "", answer) for one, answer in pairs], np.bool_)}

    made = [{kind for kind, _ in one.instruction.setting[1]} for one in tasks]
    kinds = {f"{size} demands": np.array([len(one) == size for one in made]) for size in SIZES}
    kinds |= {kind: np.array([kind in one for one in made]) for kind in KINDS}
    return language.exam(tasks, judge)._replace(kinds=kinds, gold=False)


class SourceMix(BaseModel, frozen=True):
    """Equal parts of public data of several sources, kept apart from the exams' questions; samples of public exams."""

    kind: Literal["sources"] = "sources"
    variety: int
    general_share: float = 0.0
    budget: int
    data: str
    sources: tuple[str, ...]
    exams: tuple[str, ...]
    digests: dict[str, str]

    def lesson(self, spec: Any, seed: int, n_test: int) -> Lesson:
        """The mixture, and an exam of `n_test` questions of each public exam."""
        mixed = composed(self.mixture(seed))
        about = {"variety": self.variety, "general_share": 0.0, "mix": "public data", "same_questions": True,
                 "contaminated": mixed.manifest["contaminated"]["pairs"],
                 "manifest": json.dumps(mixed.manifest)}  # fmt: skip
        sat = {name: written_exams.read(name, Path(self.data))[:n_test] for name in self.exams}
        return Lesson(mixed.examples, {name: public(questions) for name, questions in sat.items()}, about)

    def mixture(self, seed: int) -> Mixture:
        """The training set: exact numbers of examples, nothing of the exams in it."""
        sources = [source_of(entry, self.data) | {"weight": 1, "on_bad": "skip"} for entry in self.sources]
        apart = [str(file) for file in asked_of(self.exams, self.data) if in_words(file)]
        spec = {"sources": sources, "examples": self.budget, "normalise": True, "seed": seed, "decontaminate": apart}
        return Mixture.model_validate(spec)


def public(questions: Sequence[Asked]) -> Exam:
    """An exam of public questions, graded by each of its own gradings; its tasks are the kinds."""

    def right(grading: str, answers: list[str]) -> Flags:
        pairs = zip(questions, answers, strict=True)
        counts = [written.judged(one, answer)[grading] for one, answer in pairs]
        return np.array([n == of for n, of in counts], np.bool_)

    def judge(answers: list[str]) -> dict[str, Flags]:
        first, *others = written.judged(questions[0], answers[0])
        return {"": right(first, answers)} | {
            name: right(name, answers) for name in others if "instruction" not in name
        }

    tasks = np.array([one.task for one in questions])
    kinds = {task: tasks == task for task in dict.fromkeys(tasks.tolist()) if task}
    return Exam([one.example for one in questions], np.arange(len(questions)), len(questions), kinds, judge, gold=False)


def source_mixes(varieties: Sequence[int], budget: int, data: str, sources: Sequence[str], exams: Sequence[str],
                 model: str) -> list[SourceMix]:  # fmt: skip
    """A set of the first so many sources, for each of `varieties`.

    Raises:
        BadRequest: for a folder, a file or an exam that is not there.
    """
    data = data or os.environ.get("LABKIT_DATA", "")
    if not Path(data).is_dir() or not data:
        raise BadRequest(f"data = {data!r} is no folder: name the one that holds sources and exams, or set LABKIT_DATA")
    for name in exams:
        written.check_demands(written_exams.read(name, Path(data)))
    made = []
    for variety in varieties:
        if variety > len(sources):
            raise BadRequest(f"varieties asks for {variety} sources, and there are {len(sources)}")
        chosen = tuple(sources[:variety])
        parts = [source_of(entry, data) for entry in chosen]
        files = [part["path"] for part in parts if "path" in part] + [model] * Path(model).is_dir()
        files += map(str, asked_of(exams, data))
        digests = {name: digest(Path(name)) for name in files}
        digests |= {one: CORPORA[one].revision for part in parts if (one := part.get("corpus")) and "path" not in part}
        made.append(SourceMix(variety=variety, budget=budget, data=str(Path(data).resolve()), sources=chosen,
                              exams=tuple(exams), digests=digests))  # fmt: skip
    return made


def source_of(entry: str, data: str) -> dict[str, str]:
    """A corpus of the hub, a file of the folder, or `corpus=file`, its local copy."""
    source = read_exams.source_of(entry, Path(data))
    if "path" in source and not Path(source["path"]).is_file():
        raise BadRequest(f"{source['path']} is not there, and '{entry}' is no corpus ({', '.join(CORPORA)})")
    return source


def asked_of(exams: Sequence[str], data: str) -> list[Path]:
    """The files that hold the exams' questions."""
    return [file for name in exams for file in written_exams.files(name, Path(data))]


@cache
def in_words(file: Path) -> bool:
    """Whether a file's questions can be looked for: bare sums have too few words."""
    try:
        Decontaminator([file])
    except BadRequest:
        return False
    return True
