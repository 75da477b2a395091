"""Training sets of code and general instructions, from the lab's families or from corpora.

Both say of a cell what is learned and which exams are sat; nothing else of the study knows which of them it has.
"""

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from labkit.design.mixture import Mixture, compose, digest
from labkit.errors import BadRequest, unknown
from labkit.grade import code_eval, plus, sandbox
from labkit.instructions import CORPORA, Example, functions
from labkit.instructions.family import Task
from labkit.learn.learner import Flags
from labkit.studies import language
from labkit.studies.learners import SmallSpec
from labkit.studies.lesson import Exam, Lesson

CODE = functions.FUNCTIONS.name
REQUEST = "Write a Python function that solves this problem. Answer with the whole code."


class FamilyMix(BaseModel):
    """Small Python functions and the general instruction families, mixed by tokens."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["families"] = "families"
    budget: int
    passes: float
    levels: tuple[int, ...]
    general_share: float
    families: tuple[str, ...]
    general_levels: tuple[int, ...]
    confirm_unsafe: bool

    def lesson(self, spec: Any, seed: int, n_test: int) -> Lesson:
        """Code and general families up to the budget, and three exams: training code, unseen code, unseen general."""
        code, general = self._training(spec, seed)
        tasks = [task for part in (code, *general) for task in part.tasks]
        return Lesson(language.examples(tasks), self._exams(spec, seed, n_test, code.tasks[:n_test]),
                      self._about(code, general, len(tasks)),
                      round(self.passes * len(tasks) / spec.batch_size) or 1)  # fmt: skip

    def _training(self, spec: SmallSpec, seed: int) -> tuple[language.Filled, list[language.Filled]]:
        layout = spec.layout()
        share = self.general_share
        code = language.fill(CODE, round((1 - share) * self.budget), layout, levels=self.levels, seed=seed)
        each = round(share * self.budget / len(self.families))
        names = self.families if share else ()
        return code, [language.fill(name, each, layout, levels=self.general_levels, seed=seed) for name in names]

    def _exams(self, spec: SmallSpec, seed: int, n_test: int, seen: list[Task]) -> dict[str, Exam]:
        layout, each = spec.layout(), max(1, n_test // len(self.families))
        unseen = language.held_out(CODE, n_test, layout, levels=self.levels, seed=seed, distinct=True)
        general = [task for name in self.families
                   for task in language.held_out(name, each, layout, levels=self.general_levels,
                                                 seed=seed)]  # fmt: skip
        sources = np.array([task.example.source for task in general])
        return {"seen": language.exam(seen), "code": language.exam(unseen, language.runs(unseen, self.confirm_unsafe)),
                "general": language.exam(general)._replace(kinds={name: sources == name
                                                                  for name in self.families})}  # fmt: skip

    def _about(self, code: language.Filled, general: Sequence[language.Filled], examples: int) -> dict[str, Any]:
        return {"size": f"{self.budget:,} tokens",
                "mix": f"{100 * (1 - self.general_share):.4g}% code, {100 * self.general_share:.4g}% general",
                "general_share": self.general_share, "two_way": True,
                "training_tokens": code.tokens + sum(part.tokens for part in general), "training_examples": examples,
                "code_examples": len(code.tasks),
                "code_instructions": len({task.instruction.key for task in code.tasks}),
                "sandbox": sandbox.described(sandbox.available(self.confirm_unsafe))}  # fmt: skip


class CorpusMix(BaseModel):
    """Real data in exact numbers of examples, decontaminated against the problems; programs for HumanEval and MBPP.

    A source that cannot give what a mix asks of it is refused, so that arms of one size are of one size. Files are
    named, and part of the address by content (`digests`).
    """

    model_config = ConfigDict(frozen=True)

    kind: Literal["corpora"] = "corpora"
    parts: tuple[int, int, int]
    corpora: tuple[str, str, str]
    plus: tuple[str, ...]
    problems: tuple[str, ...]
    digests: dict[str, str]
    evalplus: str
    confirm_unsafe: bool

    def lesson(self, spec: Any, seed: int, n_test: int) -> Lesson:
        """The mixture, and an exam for each set of problems."""
        mixed = compose(self.mixture(seed))
        for source in mixed.manifest["sources"]:
            if source["examples"] < source["asked"]:
                raise BadRequest(f"'{source['source']}' has {source['examples']} examples to give, not "
                                 f"{source['asked']}")  # fmt: skip
        about = {"size": f"{sum(self.parts):,} examples", "mix": "+".join(f"{part / 1000:g}" for part in self.parts),
                 "general_share": sum(self.parts[1:]) / sum(self.parts), "two_way": not self.parts[2],
                 "contaminated": mixed.manifest["contaminated"]["pairs"], "manifest": json.dumps(mixed.manifest),
                 "same_questions": True,
                 "sandbox": sandbox.described(sandbox.available(self.confirm_unsafe))}  # fmt: skip
        return Lesson(mixed.examples, self._exams(), about)

    def mixture(self, seed: int) -> Mixture:
        """The training set: exact numbers of examples, nothing of the problems in it."""
        files = [*(plus.find(name) for name in self.plus), *map(Path, self.problems)]
        sources = [source_of(entry) | {"weight": part / sum(self.parts), "on_bad": "skip"}
                   for entry, part in zip(self.corpora, self.parts, strict=True) if part]  # fmt: skip
        spec = {"sources": sources, "examples": sum(self.parts), "normalise": True, "seed": seed}
        return Mixture.model_validate(spec | {"decontaminate": [str(file.resolve()) for file in files]})

    def _exams(self) -> dict[str, Exam]:
        exams = {}
        for name in self.plus:
            path = plus.find(name)
            exams[name] = _asked(plus.load_problems(path), self._by_evalplus(name, path))
        for file in self.problems:
            problems = code_eval.load_problems(Path(file))
            references = [code_eval.Sample(task, problem.reference) for task, problem in problems.items()]
            self._evaluated(problems, references)  # what cannot be judged here is refused before a model is trained
            exams[exam_of(problems)] = _asked(problems, self._in_sandbox(problems))
        return exams

    def _evaluated(self, problems: Mapping[str, code_eval.Problem], samples: list[code_eval.Sample]) -> dict[str, Any]:
        """The verdicts by problem; those that cannot be scored here are missing."""
        return dict(code_eval.evaluate(problems, samples, unsafe=self.confirm_unsafe, workers=1)["problems"])

    def _by_evalplus(self, name: str, path: Path) -> Any:
        def judge(answers: list[str]) -> dict[str, Flags]:
            problems = plus.load_problems(path)
            found = plus.evaluate(name, samples_of(problems, answers), path, unsafe=self.confirm_unsafe)["problems"]
            base, more = (
                np.array([all(v == "pass" for v in one[kind]) for one in found.values()]) for kind in ("base", "plus")
            )
            return {"": base, "plus": base & more}

        return judge

    def _in_sandbox(self, problems: Mapping[str, code_eval.Problem]) -> Any:
        def judge(answers: list[str]) -> dict[str, Flags]:
            found = self._evaluated(problems, samples_of(problems, answers))
            outcomes = [found[task][0]["outcome"] if task in found else code_eval.UNJUDGED for task in problems]
            unjudged = [outcome == code_eval.UNJUDGED for outcome in outcomes]
            return {"": np.ma.masked_array([outcome == "passed" for outcome in outcomes], unjudged)}

        return judge


Mix = Annotated[FamilyMix | CorpusMix, Field(discriminator="kind")]


def corpus_mixes(given: dict[str, Any], mixes: Sequence[Sequence[float]], model: str) -> list[CorpusMix]:
    """A training set per mix of thousands of examples, its files checked before anything starts.

    Raises:
        BadRequest: for a file that is not there, problems without a solution, or a set of problems named twice.
    """
    sources = [source_of(entry) for entry in given["corpora"]]
    files = [source["path"] for source in sources if "path" in source] + given["problems"]
    if missing := [name for name in files if not Path(name).exists()]:
        raise BadRequest(f"{missing[0]} is neither a corpus ({', '.join(CORPORA)}) nor a file")
    sets = [*given["plus"], *(exam_of(code_eval.load_problems(Path(problems))) for problems in given["problems"])]
    if twice := [name for name in sets if sets.count(name) > 1]:
        raise BadRequest(f"plus and problems hold '{twice[0]}' twice: each set of problems is graded once")
    files += [str(plus.find(name)) for name in given["plus"]]
    digests = {name: digest(Path(name)) for name in [*files, *([model] if Path(model).is_dir() else [])]}
    digests |= {c: CORPORA[c].revision for source in sources if (c := source.get("corpus")) and "path" not in source}
    shared = given | {"digests": digests, "evalplus": version("evalplus") if given["plus"] else ""}
    return [CorpusMix.model_validate(shared | {"parts": [round(1000 * part) for part in mix]}) for mix in mixes]


def source_of(entry: str) -> dict[str, str]:
    """A corpus of the hub, a file, or `corpus=file`, its local copy."""
    corpus, equals, path = entry.partition("=")
    if equals and corpus not in CORPORA:
        raise unknown("corpus", corpus, CORPORA)
    where = {"path": str(Path(path if equals else entry).resolve())}
    return {"corpus": entry} if entry in CORPORA else {"corpus": corpus, **where} if equals else where


def exam_of(problems: Mapping[str, code_eval.Problem]) -> str:
    """Which exam a file of problems is, by their ids: `humaneval`, `mbpp`, or somebody's `own`."""
    return {"HumanEval": "humaneval", "Mbpp": "mbpp"}.get(next(iter(problems)).partition("/")[0], "own")


def samples_of(problems: Mapping[str, code_eval.Problem], answers: Sequence[str]) -> list[code_eval.Sample]:
    """The program in each answer."""
    pairs = zip(problems.items(), answers, strict=True)
    return [code_eval.Sample(task, code_eval.program(answer, problem).code) for (task, problem), answer in pairs]


def _asked(problems: Mapping[str, code_eval.Problem], judge: Any) -> Exam:
    """An exam of one program per problem."""
    asked = [Example(f"{REQUEST}\n\n{p.request or p.prompt}", "", "", "problems", task) for task, p in problems.items()]
    return Exam(asked, np.arange(len(asked)), len(asked), judge=judge, gold=False)
