"""Abilities of the lab: examples of two sources and the exam, from instruction families with an oracle.

Curated examples are drawn from the family: right, of all its instructions and wordings, all questions different.
Synthetic ones come from an imperfect teacher (`instructions.imperfect`): some wrong, few instructions, one wording
each. Both are balanced over abilities alike; of one seed a smaller set is the beginning of a larger one. The exam asks
for held-out instructions, other ones for each seed (so that what is said of a recipe does not hang on one draw of
questions), the same ones for all models of a seed.

Guaranteed: no training set holds an instruction of an exam, whatever the seeds; how many different examples an ability
has is found out before anything is trained. Left open: texts that do not fit into a sequence are passed over,
distractors too.
"""

from functools import lru_cache
from itertools import pairwise
from random import Random
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from labkit.design import plan
from labkit.errors import BadRequest, unknown
from labkit.grade.questions import Exam, of_task
from labkit.instructions import Example
from labkit.instructions.families import EVERY
from labkit.instructions.family import Family
from labkit.instructions.imperfect import Teacher
from labkit.learn.memory import check_training_memory
from labkit.studies import language, learners

SOURCES = ("curated", "synthetic")
SMALL = {  # the paper's early saturated abilities and our counterparts, with the examples that it leaves them
    "classification": plan.SMALL["ethics"],
    "role": plan.SMALL["role_play"],
    "formatting": plan.SMALL["creative_writing"],
}


class FamilyTask(BaseModel):
    """What is taught and asked: the abilities' families at some levels, and the teacher of the synthetic examples."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["families"] = "families"
    levels: tuple[int, ...]
    teacher: dict[str, Any] | None

    def examples(self, spec: Any, seed: int, name: str, source: str, end: int) -> list[Example]:
        """The first so many examples of an ability from a source."""
        teacher = Teacher(**self.teacher or {}) if source == "synthetic" else None
        return [task.example for task in language.tasks(name, end, "train", self.levels, seed, _reading(spec), teacher)]

    def exams(self, spec: Any, seed: int, abilities: tuple[str, ...], n: int) -> list[Exam]:
        """An exam per ability, of `n` questions each."""
        return exams(abilities, n, self.levels, seed, _reading(spec))

    def about(self, parts: set[tuple[str, str]]) -> dict[str, Any]:
        """What a row should say of the data."""
        return {}


def _reading(spec: learners.SmallSpec) -> language.Reading:
    return language.Reading(spec.reads, spec.question, spec.answer)


def known(name: str) -> Family:
    """The ability of that name, with what grades it.

    Raises:
        BadRequest: for an unknown one, or one without a grader.
    """
    if name not in EVERY:
        raise unknown("ability", name, EVERY)
    family = EVERY[name]
    if type(family).wrong is Family.wrong and type(family).options is Family.options:
        raise BadRequest(f"the ability '{name}' has no grader: neither options nor wrong answers to rank against")
    return family


def available(params: Any) -> dict[str, dict[str, int]]:
    """Examples there are: as many as the ladder tries, so that no plan goes beyond what was seen."""
    return {name: dict.fromkeys(SOURCES, params.volumes[-1]) for name in params.abilities}


def check(params: Any) -> None:
    """What the families must have, tried for one seed (the others differ little), and steps for every rung."""
    reading, levels, seed = params.reading(), tuple(params.levels), params.seeds[0]
    for name in params.abilities:
        language.tasks(name, params.volumes[-1], "train", levels, seed, reading)
        if "synthetic" in params.sources:
            language.tasks(name, 1, "train", levels, seed, reading, params.teacher())
        language.tasks(name, params.n_test, "test", levels, seed, reading)
    for made in (spec(params, width, 0) for width in params.widths):
        check_training_memory("a model of these settings", made.recipe, made.shape(), made.batch_size, made.answer)
    plans = [("passes", params.repeats(), len(params.abilities) - bool(params.transference), params.volumes)]
    plans += [("alone_passes", params.alone_passes, 1, [params.transference])] * bool(params.transference)
    for what, passes, many, volumes in plans:
        steps = [round(passes * many * volume / params.batch_size) for volume in [0, *volumes]]
        for (before, after), volume in zip(pairwise(steps), volumes, strict=True):
            if before == after:
                raise BadRequest(
                    f"{what} = {passes:g}: {volume} examples of {many} abilities are too few for another step of "
                    f"batch_size = {params.batch_size}"
                )


def task(params: Any, synthetic: bool) -> FamilyTask:
    """What the cells of these parameters are taught and asked."""
    own = {"wrong": params.wrong, "instructions": params.repertoire, "exponent": params.exponent}
    return FamilyTask(levels=params.levels, teacher=own if synthetic else None)


def spec(params: Any, width: int, examples: int) -> learners.SmallSpec:
    """The learner of a run; `examples` does not matter to it."""
    return learners.small(params, tuple(params.abilities), params.question, params.answer, width=width)


@lru_cache(maxsize=4)
def exams(
    abilities: tuple[str, ...], n: int, levels: tuple[int, ...], seed: int, reading: language.Reading
) -> list[Exam]:
    """The exams of a seed; a process keeps a few."""
    rng, layout = Random(f"exam {seed}"), reading.layout()
    asked = [(name, language.tasks(name, n, "test", levels, seed, reading)) for name in abilities]
    fits = lambda text: layout.fits("", text)  # noqa: E731
    return [Exam("unseen", name, [of_task(one, rng, fits) for one in group], {}) for name, group in asked]
