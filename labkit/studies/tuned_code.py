"""Code mixing of fine-tuned models: a mixture of real data, QLoRA, and programs for HumanEval and MBPP.

The other half of `labkit.studies.code_mixing`, which says what is studied. A cell's training set is decontaminated
against its own problems; its programs are written greedily, one a problem. A source that cannot give what a mix asks of
it is refused, so that arms of one size are of one size; examples longer than `max_length` are dropped where `overlong`
says so, and counted (`dropped`). The hub's model is the commit that `tuning` names as `revision`, else its newest.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from labkit import learn
from labkit.design.mixture import Mixture, compose, digest
from labkit.errors import BadRequest, unknown
from labkit.grade import code_eval, plus, sandbox
from labkit.instructions import CORPORA, Example
from labkit.lab import Point, Record, write_json
from labkit.learn import qlora
from labkit.studies import symbolic
from labkit.studies.tuned import Tuned, tune

if TYPE_CHECKING:
    from labkit.studies.code_mixing import Params

REQUEST = "Write a Python function that solves this problem. Answer with the whole code."


class TunedCell(Point):
    """One fine-tuned model: everything its result depends on; files by name and content."""

    study: Literal["code_mixing"] = "code_mixing"
    version: Literal[1] = 1
    precision: str
    seed: int
    evalplus: str
    parts: tuple[int, int, int]
    corpora: tuple[str, str, str]
    settings: dict[str, Any]
    plus: tuple[str, ...]
    problems: tuple[str, ...]
    digests: dict[str, str]
    new_tokens: int
    confirm_unsafe: bool


def points(params: "Params", model: str) -> list[TunedCell]:
    """A cell for each mix and seed; seeds outermost."""
    sources = [_source(entry) for entry in params.corpora]
    files = [source["path"] for source in sources if "path" in source] + params.problems
    if missing := [name for name in files if not Path(name).exists()]:
        raise BadRequest(f"{missing[0]} is neither a corpus ({', '.join(CORPORA)}) nor a file")
    sets = [*params.plus, *(_exam(code_eval.load_problems(Path(problems))) for problems in params.problems)]
    if twice := [name for name in sets if sets.count(name) > 1]:
        raise BadRequest(f"plus and problems hold '{twice[0]}' twice: each set of problems is graded once")
    files += [str(plus.find(name)) for name in params.plus]
    qlora.load_config(model, params.tuning.get("revision"))
    digests = {name: digest(Path(name)) for name in [*files, *([model] if Path(model).is_dir() else [])]}
    digests |= {c: CORPORA[c].revision for source in sources if (c := source.get("corpus")) and "path" not in source}
    shared = params.model_dump(include={"corpora", "plus", "problems", "new_tokens", "confirm_unsafe"})
    shared |= {
        "precision": learn.precision_name(learn.best_device()),
        "digests": digests,
        "evalplus": version("evalplus") if params.plus else "",
    }
    return [
        TunedCell.model_validate(
            {
                **shared,
                "seed": seed,
                "parts": [round(1000 * part) for part in mix],
                "settings": asdict(qlora.settings(model, "code_mixing", **{**params.tuning, "seed": seed})),
            }
        )
        for seed in params.seeds
        for mix in params.mixes
    ]


def _source(entry: str) -> dict[str, str]:
    """A corpus of the hub, a file, or `corpus=file`, its local copy."""
    corpus, equals, path = entry.partition("=")
    if equals and corpus not in CORPORA:
        raise unknown("corpus", corpus, CORPORA)
    where = {"path": str(Path(path if equals else entry).resolve())}
    return {"corpus": entry} if entry in CORPORA else {"corpus": corpus, **where} if equals else where


def mixture_of(cell: TunedCell) -> Mixture:
    """The training set of a fine-tuned model: exact numbers of examples, nothing of the problems in it."""
    files = [*(plus.find(name) for name in cell.plus), *map(Path, cell.problems)]
    sources = [
        _source(entry) | {"weight": part / sum(cell.parts), "on_bad": "skip"}
        for entry, part in zip(cell.corpora, cell.parts, strict=True)
        if part
    ]
    spec = {"sources": sources, "examples": sum(cell.parts), "normalise": True, "seed": cell.seed}
    return Mixture.model_validate(spec | {"decontaminate": [str(file.resolve()) for file in files]})


def measure(cell: TunedCell, record: Record) -> dict[str, Any]:
    """Fine-tune one model on its mixture, let it write a program for each problem, and run these."""
    for file in cell.problems:  # problems that cannot be judged here are refused before a model is trained for them
        problems = code_eval.load_problems(Path(file))
        references = [code_eval.Sample(task, problem.reference) for task, problem in problems.items()]
        code_eval.evaluate(problems, references, unsafe=cell.confirm_unsafe, workers=1)
    mixed = compose(mixture_of(cell))
    write_json(record.folder / "manifest.json", mixed.manifest)
    for source in mixed.manifest["sources"]:
        if source["examples"] < source["asked"]:
            raise BadRequest(f"'{source['source']}' has {source['examples']} examples to give, not {source['asked']}")
    tuned = tune(mixed.examples, qlora.Finetuning(**cell.settings), record)
    general = sum(cell.parts[1:])
    row = tuned.about | {
        "size": f"{sum(cell.parts):,} examples",
        "mix": "+".join(f"{part / 1000:g}" for part in cell.parts),
        "two_way": not cell.parts[2],
        "general_share": general / sum(cell.parts),
        "contaminated": mixed.manifest["contaminated"]["pairs"],
        "learned": True,
        "sandbox": sandbox.described(sandbox.available(cell.confirm_unsafe)),
    }
    for name in cell.plus:
        path = plus.find(name)
        problems = plus.load_problems(path)
        found = plus.evaluate(name, _written(problems, tuned, cell, record), path, unsafe=cell.confirm_unsafe)
        verdicts = [
            [all(v == "pass" for v in one[kind]) for one in found["problems"].values()] for kind in ("base", "plus")
        ]
        both = [base and more for base, more in zip(*verdicts, strict=True)]
        row |= _solved(name, verdicts[0]) | _solved(f"{name}_plus", both)
    for file in cell.problems:
        problems = code_eval.load_problems(Path(file))
        found = code_eval.evaluate(
            problems, _written(problems, tuned, cell, record), unsafe=cell.confirm_unsafe, workers=1
        )
        name = _exam(problems)
        outcomes = [verdict["outcome"] for (verdict,) in found["problems"].values()]
        if judged := [outcome == "passed" for outcome in outcomes if outcome != code_eval.UNJUDGED]:
            row |= _solved(name, judged)
        row[f"{name}_not_scored"] = len(found["not_scored"])
        row |= {f"{name}_outcome_{kind}": count for kind, count in found["outcomes"].items()}
    return row


def _exam(problems: Mapping[str, code_eval.Problem]) -> str:
    """Which exam a file of problems is, by their ids: `humaneval`, `mbpp`, or somebody's `own`."""
    return {"HumanEval": "humaneval", "Mbpp": "mbpp"}.get(next(iter(problems)).partition("/")[0], "own")


def _written(
    problems: Mapping[str, code_eval.Problem], tuned: Tuned, cell: TunedCell, record: Record
) -> list[code_eval.Sample]:
    """A program for each problem, as the model writes it greedily; its answers stay beside the result."""
    asked = [Example(f"{REQUEST}\n\n{p.request or p.prompt}", "", "", "problems", task) for task, p in problems.items()]
    answers = qlora.answer(tuned.model, tuned.tokenizer, asked, max_new_tokens=cell.new_tokens)
    samples = []
    for (task, problem), answer in zip(problems.items(), answers, strict=True):
        samples.append(code_eval.Sample(task, code_eval.program(answer, problem).code))
    lines = (json.dumps(sample._asdict()) + "\n" for sample in samples)
    with (record.folder / "samples.jsonl").open("a", encoding="utf-8") as file:
        file.writelines(lines)
    return samples


def _solved(exam: str, passed: Sequence[bool]) -> dict[str, Any]:
    """The columns of one set of problems, a program each."""
    return symbolic.graded(exam, torch.tensor(passed), np.arange(len(passed)), len(passed), {})
