"""Training sets of real code, general and reasoning examples, the models that they fine-tune, and the exams.

Programs are written for sets of problems and run; published answers (`held`) are followed, which costs a pass and has
no floor. A file whose name begins with `$LABKIT_DATA/` lies in the folder that the variable names.

`labkit.studies.family_mix` holds the same for small models: both say of a cell what is learned and which exams are sat;
nothing else of code mixing knows which of them it has.
"""

import json
import math
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from labkit.design.mixture import Mixed, Mixture, compose, digest
from labkit.errors import BadRequest
from labkit.grade import code_eval, plus, sandbox
from labkit.instructions import Example
from labkit.learn.learner import Flags
from labkit.studies import learners, read_exams
from labkit.studies.lesson import Exam, Lesson
from labkit.studies.params import SeedParams, whole_paths
from labkit.studies.read_exams import data_file, exam_of, question_of, source_of


class CorpusParams(SeedParams):
    """What a person may set of fine-tuned models and what they learn."""

    model: str = Field(description="a Hugging Face id or folder to fine-tune; small: small models from the lab's base")
    mixes: list[tuple[float, float, float]] = Field(description="thousands of code, general and reasoning examples")
    corpora: tuple[str, str, str] = Field(description="what these come from: corpora, files, or corpus=file")
    tuning: dict[str, Any] = Field(description="settings of `learn.qlora.Finetuning` over the preset code_mixing")
    plus: list[Literal["humaneval", "mbpp"]] = Field(description="sets that EvalPlus grades, with its added tests")
    problems: list[str] = Field(description="files of HumanEval- or MBPP-shaped problems to grade in the sandbox")
    held: list[str] = Field(description="files whose answers are followed, not written: problems, records, corpus=file")
    written: int = Field(ge=1, le=10**7, description="programs written per set of problems, at most")
    new_tokens: int = Field(ge=1, le=100000, description="the longest program a fine-tuned model may write, in tokens")

    _whole = field_validator("model", "problems", "held", "corpora", mode="after")(whole_paths)

    @model_validator(mode="after")
    def _together(self) -> "CorpusParams":
        if self.model == learners.SMALL:
            return self
        if not self.mixes or not (self.plus or self.problems or self.held):
            raise BadRequest(
                f"model = {self.model!r} needs mixes to train on, and plus, problems or held to be graded on"
            )
        for mix in self.mixes:
            whole = (0 <= part < math.inf and abs(1000 * part - round(1000 * part)) < 1e-6 for part in mix)
            if not all(whole) or not mix[0]:
                raise BadRequest(f"the mix {list(mix)} is not of whole examples, 0 or more and some of code")
        learners.check_tuning(self.model, "code_mixing", self.tuning, {"model", "seed"})
        return self


def composed(mixture: Mixture) -> Mixed:
    """A mixture of real sources; BadRequest for a source that has fewer examples than are asked of it."""
    mixed = compose(mixture)
    if few := [source for source in mixed.manifest["sources"] if source["examples"] < source["asked"]]:
        raise BadRequest(f"'{few[0]['source']}' has {few[0]['examples']} examples to give, not {few[0]['asked']}")
    return mixed


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
    held: tuple[str, ...]
    written: int
    digests: dict[str, str]
    evalplus: str
    confirm_unsafe: bool

    def lesson(self, spec: Any, seed: int, n_test: int) -> Lesson:
        """The mixture, and an exam for each set of problems."""
        mixed = composed(self.mixture(seed))
        about = {"size": f"{sum(self.parts):,} examples", "mix": "+".join(f"{part / 1000:g}" for part in self.parts),
                 "general_share": sum(self.parts[1:]) / sum(self.parts), "two_way": not self.parts[2],
                 "contaminated": mixed.manifest["contaminated"]["pairs"], "manifest": json.dumps(mixed.manifest),
                 "same_questions": True, "sandbox": self._sandbox()}  # fmt: skip
        return Lesson(mixed.examples, {**self._exams(), **read_exams.followed(self.held, n_test)}, about)

    def _sandbox(self) -> str:
        """Where programs are run, if any are."""
        ran = self.plus or self.problems
        return sandbox.described(sandbox.available(self.confirm_unsafe)) if ran else "no program was run"

    def mixture(self, seed: int) -> Mixture:
        """The training set: exact numbers of examples, nothing of the problems in it."""
        files = [*(plus.find(name) for name in self.plus), *map(data_file, self.problems)]
        files += [Path(source["path"]) for entry in self.held if "path" in (source := source_of(entry))]
        sources = [source_of(entry) | {"weight": part / sum(self.parts), "on_bad": "skip"}
                   for entry, part in zip(self.corpora, self.parts, strict=True) if part]  # fmt: skip
        spec = {"sources": sources, "examples": sum(self.parts), "normalise": True, "seed": seed}
        return Mixture.model_validate(spec | {"decontaminate": [str(file.resolve()) for file in files]})

    def _exams(self) -> dict[str, Exam]:
        exams = {}
        for name in self.plus:
            path = plus.find(name)
            exams[name] = _asked(plus.load_problems(path), self._by_evalplus(name, path))  # whole: as it is published
        for file in self.problems:
            problems = self._some(code_eval.load_problems(data_file(file)))
            references = [code_eval.Sample(task, problem.reference) for task, problem in problems.items()]
            self._evaluated(problems, references)  # what cannot be judged here is refused before a model is trained
            exams[exam_of(list(problems))] = _asked(problems, self._in_sandbox(problems))
        return exams

    def _some(self, problems: dict[str, code_eval.Problem]) -> dict[str, code_eval.Problem]:
        """As many of a set's problems as programs are written for, the same ones for all."""
        order = np.random.default_rng(0).permutation(len(problems))[: self.written]
        return {task: problems[task] for task in (list(problems)[i] for i in np.sort(order).tolist())}

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


def corpus_mixes(given: dict[str, Any], mixes: Sequence[Sequence[float]], model: str) -> list[CorpusMix]:
    """A training set per mix of thousands of examples, its files checked before anything starts.

    Raises:
        BadRequest: for a file that is not there, problems without a solution, or a set of problems named twice.
    """
    own = read_exams.digests([*given["corpora"], *given["problems"], *given["held"]])
    sets = [
        *given["plus"],
        *(exam_of(list(code_eval.load_problems(data_file(problems)))) for problems in given["problems"]),
    ]
    if twice := [name for name in sets if sets.count(name) > 1]:
        raise BadRequest(f"plus and problems hold '{twice[0]}' twice: each set of problems is graded once")
    files = {str(path): path for path in (plus.find(name) for name in given["plus"])}
    files |= {model: Path(model)} if Path(model).is_dir() else {}
    digests = own | {name: digest(path) for name, path in files.items()}
    shared = given | {"digests": digests, "evalplus": version("evalplus") if given["plus"] else ""}
    return [CorpusMix.model_validate(shared | {"parts": [round(1000 * part) for part in mix]}) for mix in mixes]


def samples_of(problems: Mapping[str, code_eval.Problem], answers: Sequence[str]) -> list[code_eval.Sample]:
    """The program in each answer."""
    pairs = zip(problems.items(), answers, strict=True)
    return [code_eval.Sample(task, code_eval.program(answer, problem).code) for (task, problem), answer in pairs]


def _asked(problems: Mapping[str, code_eval.Problem], judge: Any) -> Exam:
    """An exam of one program per problem."""
    asked = [Example(question_of(problem), "", "", read_exams.PROBLEMS, task) for task, problem in problems.items()]
    return Exam(asked, np.arange(len(asked)), len(asked), judge=judge, gold=False)
