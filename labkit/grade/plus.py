"""HumanEval+ and MBPP+ (Liu et al. 2023, arXiv 2305.01210): their inputs and rules, in labkit's own sandbox.

Guaranteed: inputs, solutions, tolerances and special rules are those of EvalPlus' own files (a local copy, or fetched
by the `evalplus` package) and of that package; every sample is run and judged as `sandbox.py` says, so it reaches
neither another sample nor the verdicts. Programs may import numpy, as with EvalPlus. The judge computes the expected
outputs with the data set's own solution, which the process of the sample never sees.

Differences from EvalPlus: time is CPU time of a whole test, `TIMES` what the data set's solution took for it, in whole
multiples of 10 s (there: wall time of an input); numbers within the tolerance must also have the same shape; what
cannot be carried out of the sandbox is "unjudged", and counts as not passed. Left open: an interrupted evaluation
starts again.
"""

import importlib.util
import inspect
import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from labkit.errors import BadRequest, unknown
from labkit.grade import code_eval, wire
from labkit.grade.code_eval import Sample
from labkit.grade.problems import Problem, field, records
from labkit.grade.sandbox import Limits

SETS = ("humaneval", "mbpp")
KINDS = ("base", "plus")  # of inputs
PACKAGES = ("numpy", "numpy.libs")  # that programs may import

TIMES = 4  # the factor is EvalPlus' own
LIMITS = Limits(memory_bytes=4 << 30)  # as EvalPlus
STATUSES = {"passed": "pass", "timeout": "timeout", "unjudged": "unjudged"}  # any other is "fail"

# The test of a problem, in the judge: the comparison of `evalplus.eval.unsafe_execute`, without numpy.
TEST = """
import copy, json, wire
INPUTS = {inputs!r}
REFERENCE = {reference!r}
{oracles}
def is_floats(x):
    return isinstance(x, float) or (isinstance(x, (list, tuple)) and bool(x) and all(isinstance(i, float) for i in x))

def close(out, exp, atol):
    if isinstance(exp, (list, tuple)):
        return len(out) == len(exp) and all(close(a, b, atol) for a, b in zip(out, exp))
    return out == exp or abs(out - exp) <= atol + 1e-07 * abs(exp) < float("inf")

def holds(out, exp, inp, rule, atol):
    if rule == "set":
        return set(out) == set(exp)
    if rule == "not none":
        return (exp is not None) == (out if isinstance(out, bool) else out is not None)
    if rule == "sum_div" and out == 0 or rule == "are_equivalent":
        return True
    surface = rule == "surface_Area" and abs(out - _surface_Area(*inp)) <= atol
    return surface or out == exp or rule == "digit_distance_nums" and out == _digit_distance_nums(*inp)

def compare(out, exp, inp, rule, atol):
    if rule == "find_zero":
        assert abs(_poly(*inp, out)) <= atol
    elif not holds(out, exp, inp, rule, atol):
        assert atol != 0 and type(out) == type(exp) and close(out, exp, atol)

def check(entry, rule, atol):
    names = {{}}
    exec(REFERENCE, names)
    for inp in wire.Unpacker(wire.Peer(None, {{}}, ""), (), json.loads(INPUTS)).values[0]:
        exp = names[entry](*copy.deepcopy(inp))
        out = candidate(*inp)
        compare(out, exp, inp, rule, 1e-6 if atol == 0 and is_floats(exp) and rule != "find_zero" else atol)

check({entry!r}, {rule!r}, {atol!r})
"""


class Failed(RuntimeError):
    """There is no verdict by EvalPlus' rules; the message says why."""


def evaluate(data: str, samples: Sequence[Sample], path: Path, k: Sequence[int] = (1,), *, workers: int | None = None,
             unsafe: bool = False) -> dict[str, Any]:  # fmt: skip
    """EvalPlus' verdict on samples of every problem in `path` (of `find`); the result as JSON, base and plus.

    Raises `BadRequest` as `code_eval.evaluate` does, `Failed` where a solution of the data set does not pass here.
    """
    options: dict[str, Any] = {"workers": workers, "limits": LIMITS, "times": TIMES, "packages": PACKAGES}
    results = {kind: code_eval.evaluate(problems, samples, k, unsafe=unsafe, **options)
               for kind, problems in _with_tests(data, path).items()}  # fmt: skip
    for kind, result in results.items():
        for task, reason in result["not_scored"].items():
            raise Failed(f"EvalPlus' {kind} test of {task} cannot be run here: {reason}")
    statuses = {task: {kind: [STATUSES.get(verdict["outcome"], "fail") for verdict in result["problems"][task]]
                       for kind, result in results.items()} for task in results["base"]["problems"]}  # fmt: skip
    base = {task: [status == "pass" for status in own["base"]] for task, own in statuses.items()}
    both = {task: [a == b == "pass" for a, b in zip(*own.values(), strict=True)] for task, own in statuses.items()}
    return {"base": code_eval.estimates(base, k), "plus": code_eval.estimates(both, k), "problems": statuses,
            "sandbox": results["base"]["sandbox"], "versions": {"evalplus": version("evalplus")}}  # fmt: skip


def _with_tests(data: str, path: Path) -> dict[str, dict[str, Problem]]:
    """The problems with the test of each kind of inputs, by kind."""
    from evalplus.data.mbpp import mbpp_deserialize_inputs
    from evalplus.eval import _special_oracle as oracles

    used = (oracles._poly, oracles._surface_Area, oracles._digit_distance_nums)
    sources = "import math\n" + "\n".join(map(inspect.getsource, used))
    rules = dict.fromkeys(oracles.MBPP_OUTPUT_SET_EQ_TASKS, "set")
    rules |= dict.fromkeys(oracles.MBPP_OUTPUT_NOT_NONE_TASKS, "not none")
    problems, tested = load_problems(path), {kind: dict[str, Problem]() for kind in KINDS}
    for where, record in records(path):
        problem, atol = problems[record["task_id"]], field(where, record, "atol", int | float)
        entry = problem.entry_point
        rule = rules.get(entry, entry) if data == "mbpp" or entry == "find_zero" else ""
        for kind in KINDS:
            inputs = field(where, record, f"{kind}_input", list | dict)  # one of MBPP+ has {}
            packer = wire.Packer(wire.Peer(None, {}, ""))  # type: ignore[arg-type]  # no socket is used
            packer.ref(mbpp_deserialize_inputs(problem.task_id, inputs) if data == "mbpp" else inputs)
            test = TEST.format(inputs=json.dumps(packer.finish()), reference=problem.reference, oracles=sources,
                               entry=entry, rule=rule, atol=atol)  # fmt: skip
            tested[kind][problem.task_id] = problem._replace(test=test)
    return tested


def find(data: str, path: Path | None = None) -> Path:
    """The problems of `data` (of `SETS`): `path`, or fetched once by evalplus; `BadRequest` where there are none."""
    if data not in SETS:
        raise unknown("set of EvalPlus", data, SETS)
    if importlib.util.find_spec("evalplus") is None:
        raise BadRequest("HumanEval+ and MBPP+ need the package evalplus: pip install 'labkit[code]'")
    if path is not None:
        return path
    from evalplus.data import humaneval, mbpp

    try:
        return Path(humaneval._ready_human_eval_plus_path() if data == "humaneval" else mbpp._ready_mbpp_plus_path())
    except OSError as error:
        raise BadRequest(f"evalplus cannot fetch its problems ({error}): give a copy of HumanEvalPlus.jsonl.gz or "
                         "MbppPlus.jsonl.gz from the evalplus releases with --problems") from None  # fmt: skip


def load_problems(path: Path) -> dict[str, Problem]:
    """The problems of an EvalPlus file by task_id; their tests stay with EvalPlus."""
    names = ("task_id", "prompt", "entry_point", "canonical_solution")
    rows = ([field(where, record, name, str) for name in names] for where, record in records(path))
    return {task: Problem(task, prompt, entry, "", prompt + solution) for task, prompt, entry, solution in rows}
