"""Graded programs: problems with tests, samples of a model, pass@k.

Problems are those of `problems.py`. Samples are JSON lines of {task_id, completion} or {task_id, solution}: a
completion continues the prompt (of an MBPP-shaped problem, whose prompt is prose, it is the program), a solution
stands for itself; with `markdown` both are a model's answers, and `extraction.py` takes the program out.

Guaranteed: bad input is refused before any program runs; every program runs in `sandbox.py`; programs that are equal
run once; each verdict is in the partial file as soon as it is known, and the same call goes on from there. The
reference solutions run first: a problem whose test cannot run here, or fails its own reference, is named and not
scored. A program that cannot be judged here ("unjudged") counts neither as passed nor as failed.

Left open: a test passes what it fails to test; a problem without a reference is `unchecked`. The judge's process runs
the helper functions that a HumanEval prompt defines above its entry point from the prompt, not from the solution;
other names that a test does not define (the classes of some MBPP programs) are the solution's.
"""

import json
import math
import platform
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import labkit
from labkit.errors import BadRequest, unknown
from labkit.grade import sandbox
from labkit.grade.extraction import Extracted, complete, extract, free
from labkit.grade.pass_at_k import PROBLEMS, estimate
from labkit.grade.problems import Problem, continued, field, none_runs, records, task_id_of
from labkit.grade.problems import load_problems as load_problems
from labkit.grade.sandbox import OUTCOMES, Limits, Program, Verdict

UNJUDGED = "unjudged"  # the outcome of a program that cannot be judged here
MOST = 60  # times the limits: what a reference may take where samples are given as much as it took


class Sample(NamedTuple):
    """One program of a model, complete; `definitions` counts those of the entry point that it was taken from."""

    task_id: str
    solution: str
    definitions: int = 1


def evaluate(problems: Mapping[str, Problem], samples: Sequence[Sample], k: Sequence[int] = (1,), *,
             workers: int | None = None, limits: Limits | None = None, times: float = 0, packages: Sequence[str] = (),
             unsafe: bool = False, partial: Path | None = None) -> dict[str, Any]:  # fmt: skip
    """Run every sample against its problem's test; the result as JSON.

    With `times`, limits on time are wider where the reference is slow: whole multiples of `limits` that allow `times`
    as long as it took. `packages` are as in `sandbox.stream`. `partial` (JSON lines) keeps verdicts as they come, and
    is read first. Raises `BadRequest` for samples that do not fit the problems (see `by_problem`), a k above the number
    of samples per problem, and a sandbox that cannot start.
    """
    limits = limits or Limits()
    grouped = by_problem(problems, samples, k)
    contained = sandbox.available(unsafe)
    known = _read_partial(partial)

    def judged(programs: Iterable[Program], allowed: Limits) -> dict[Program, Verdict]:
        context = [allowed, contained, platform.python_version()]
        keys = {p: sha256(json.dumps([p, *context]).encode()).hexdigest() for p in programs}
        todo = [program for program, key in keys.items() if key not in known]
        options: dict[str, Any] = {"workers": workers, "unsafe": unsafe, "packages": packages}
        for index, verdict in sandbox.stream(todo, allowed, **options) if todo else ():
            known[keys[todo[index]]] = verdict
            if file:
                file.write(json.dumps([keys[todo[index]], *verdict]) + "\n")
                file.flush()
        return {program: known[key] for program, key in keys.items()}

    with partial.open("a") if partial else nullcontext() as file:
        tried = {task: _program(problem.reference, problem) for task, problem in problems.items()
                 if problem.reference.strip() and not problem.obstacle}  # fmt: skip
        references = judged(tried.values(), _wider(limits, MOST if times else 1))
        fared = {task: references[program] for task, program in tried.items()}
        excluded = {
            task: reason for task, problem in problems.items() if (reason := _against(problem, fared.get(task)))
        }
        if len(excluded) == len(problems):
            raise none_runs(excluded)
        scored = {task: own for task, own in grouped.items() if task not in excluded}
        by_limits = defaultdict[Limits, dict[Sample, Program]](dict)
        for task, own in scored.items():
            factor = math.ceil(times * fared[task].seconds / limits.cpu_seconds) if task in fared else 1
            by_limits[_wider(limits, max(factor, 1))] |= {s: _program(s.solution, problems[task]) for s in own}
        by_sample = dict[Sample, Verdict]()
        for allowed, programs in by_limits.items():
            by_program = judged(programs.values(), allowed)
            by_sample |= {sample: by_program[program] for sample, program in programs.items()}
    verdicts = {task: [by_sample[sample] for sample in own] for task, own in scored.items()}
    given = [sample for own in scored.values() for sample in own]
    outcomes = [by_sample[sample].outcome for sample in given]
    fenced = [o == "syntax" and "```" in sample.solution for o, sample in zip(outcomes, given, strict=True)]
    passed = {task: [v.outcome == "passed" for v in own if v.outcome != UNJUDGED] for task, own in verdicts.items()}
    return {**estimates(passed, k),
            "outcomes": {kind: outcomes.count(kind) for kind in dict.fromkeys([*OUTCOMES, *outcomes])},
            "problems": {task: [verdict._asdict() for verdict in own] for task, own in verdicts.items()},
            "not_scored": excluded, "unchecked": [task for task in scored if not problems[task].reference.strip()],
            "no_definition": [sample.task_id for sample in given if not sample.definitions],
            "several_definitions": [sample.task_id for sample in given if sample.definitions > 1],
            "fenced": sum(fenced), "sandbox": sandbox.described(contained), "limits": limits._asdict(),
            "versions": {"labkit": labkit.__version__, "python": platform.python_version()}}  # fmt: skip


def _program(solution: str, problem: Problem) -> Program:
    return Program(solution, problem.test, problem.entry_point)


def _wider(limits: Limits, times: int) -> Limits:
    return limits._replace(cpu_seconds=times * limits.cpu_seconds, wall_seconds=times * limits.wall_seconds)


def _against(problem: Problem, fared: Verdict | None) -> str:
    """Why a problem is not scored: what stands against its test, or how its reference fared."""
    if problem.obstacle or fared is None or fared.outcome == "passed":
        return problem.obstacle
    said = " ".join(fared.detail.split())[:200]
    return f"its own reference solution is not passed here, but {fared.outcome}: {said}"


def table(result: Mapping[str, Any], k: Sequence[int]) -> list[dict[str, Any]]:
    """For people: one row per set of tests (EvalPlus has two) and size of k."""
    rows = list[dict[str, Any]]()
    for name in [kind for kind in ("base", "plus") if kind in result] or [""]:
        own = [verdicts[name] for verdicts in result["problems"].values()] if name else []
        unjudged = {"unjudged": sum(statuses.count(UNJUDGED) for statuses in own)} if name else {}
        for size in k:
            found = (result[name] if name else result)[f"pass@{size}"]
            low, high = found["ci95"]
            rows.append({"": f"{name} pass@{size}".strip(), "mean": found["mean"], "95 % low": low, "high": high})
            rows[-1] |= unjudged
    return rows


def remarks(result: Mapping[str, Any]) -> list[str]:
    """What a person should know of a result of `evaluate` beside its numbers, one line each."""
    excluded, own = result["not_scored"], result["problems"]
    unjudged = [v["detail"] for verdicts in own.values() for v in verdicts if v["outcome"] == UNJUDGED]
    lines = [f"not scored: {task}: {reason}" for task, reason in list(excluded.items())[:5]]
    if excluded:
        lines.append(f"{len(excluded)} of {len(excluded) + len(own)} problems not scored: no program is failed by them")
    if unjudged:
        reason = unjudged[0][:200]
        lines.append(f"programs that cannot be judged here, left out of pass@k: {len(unjudged)}, as {reason}")
    few = "problems with too few judged programs for {}, left out of it"
    listed = {few.format(name): result[name]["left_out"] for name in result if name.startswith("pass@")}
    listed["problems without a reference solution that their tests were tried on"] = result["unchecked"]
    listed["answers with several definitions of the entry point, the first taken"] = result["several_definitions"]
    listed["answers without a definition of the entry point"] = result["no_definition"]
    lines += [_listed(what, tasks) for what, tasks in listed.items() if tasks]
    if result["fenced"]:
        lines.append(f"no Python, but with a code fence: {result['fenced']} (--markdown takes programs out of answers)")
    return lines


def _listed(what: str, tasks: Sequence[str]) -> str:
    names = list(dict.fromkeys(tasks))
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return f"{what}: {len(tasks)} ({', '.join(names[:5])}{more})"


def parse_k(text: str) -> list[int]:
    """The k of pass@k, separated by commas, each once.

    >>> parse_k("1,10,1")
    [1, 10]
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(re.fullmatch("0*[1-9][0-9]{0,8}", part) for part in parts):
        shown = text if len(text) <= 40 else f"{text[:40]}..."
        raise BadRequest(f"--k takes whole numbers from 1, separated by commas, not '{shown}'")
    return list(dict.fromkeys(map(int, parts)))


def estimates(passed: Mapping[str, Sequence[bool]], k: Sequence[int]) -> dict[str, Any]:
    """{"pass@k": mean, interval and what it covers} for every k, from what passed of each problem.

    Problems with fewer than k programs are `left_out`, by name; where all are, the mean is None.
    """
    return {f"pass@{size}": _estimated(passed, size) for size in k}


def _estimated(passed: Mapping[str, Sequence[bool]], k: int) -> dict[str, Any]:
    own = [verdicts for verdicts in passed.values() if len(verdicts) >= k]
    left_out = [task for task, verdicts in passed.items() if len(verdicts) < k]
    e = estimate([len(verdicts) for verdicts in own], [sum(verdicts) for verdicts in own], k) if own else None
    mean, interval = (e.mean, [e.lo, e.hi]) if e else (None, [None, None])
    counts = {"n_problems": len(own), "n_samples": sum(map(len, own)), "left_out": left_out}
    return {"mean": mean, "ci95": interval, "over": PROBLEMS, **counts}


def by_problem(problems: Iterable[str], samples: Sequence[Sample], k: Sequence[int]) -> dict[str, list[Sample]]:
    """The samples of every problem; `BadRequest` for samples of no problem, problems without, and a k beyond them."""
    grouped: dict[str, list[Sample]] = {task: [] for task in problems}
    for sample in samples:
        if sample.task_id not in grouped:
            raise unknown("task_id", sample.task_id, list(grouped)[:5] + ["..."][: len(grouped) - 5])
        grouped[sample.task_id].append(sample)
    if missing := [task for task, own in grouped.items() if not own]:
        raise BadRequest(f"{len(missing)} of {len(grouped)} problems have no sample, the first of them {missing[0]}: "
                         "every problem needs one, so give an empty completion where the model gave none")  # fmt: skip
    fewest = min(grouped, key=lambda task: len(grouped[task]))
    least = len(grouped[fewest])
    if beyond := [size for size in k if not 1 <= size <= least]:
        raise BadRequest(f"pass@{beyond[0]} needs k from 1 to the number of samples per problem: {fewest} has {least}")
    return grouped


def load_samples(path: Path, problems: Mapping[str, Problem], *, markdown: bool = False) -> list[Sample]:
    """Samples in the order of the file; with `markdown`, the program in each is a model's answer: see `extraction`.

    Raises `BadRequest` for a file that is missing or malformed, and a sample with both or neither kind of program.
    """
    samples = []
    for where, record in records(path):
        task = task_id_of(where, record)
        problem = problems.get(task, Problem(task, "", "", "", ""))
        given = [kind for kind in ("completion", "solution") if kind in record]
        kinds = [kind for kind in given if record[kind] is not None] or given
        if len(kinds) != 1:
            raise BadRequest(f"{where}: a sample has either a 'completion' or a 'solution'")
        text, completes = field(where, record, kinds[0], str), kinds == ["completion"]
        whole = continued(problem, text) if completes and not markdown else text
        samples.append(Sample(task, *(program(text, problem, continues=completes) if markdown else (whole, 1))))
    return samples


def program(answer: str, problem: Problem, *, continues: bool = True) -> Extracted:
    """The program in a model's answer to a problem, which may continue the prompt."""
    wanted = free(problem.test)  # beside the entry point, as some MBPP tests want a class
    if continues and problem.prompt:
        return complete(answer, problem.entry_point, problem.prompt, problem.suffix, wanted)
    return extract(answer, problem.entry_point, wanted)


def _read_partial(partial: Path | None) -> dict[str, Verdict]:
    """The verdicts in a partial file; a line that was cut off by an interrupt is left out."""
    known = {}
    for line in partial.read_text().splitlines() if partial and partial.exists() else ():
        with suppress(ValueError, TypeError):
            key, *verdict = json.loads(line)
            known[key] = Verdict(*verdict)
    return known
