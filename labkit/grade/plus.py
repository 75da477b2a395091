"""HumanEval+ and MBPP+ (Liu et al. 2023, arXiv 2305.01210): their inputs and rules, in labkit's own sandbox.

Guaranteed: inputs, expected outputs, tolerances and special rules are those of the `evalplus` package and of its own
files (a local copy, or fetched by the package); every sample is run and judged as `sandbox.py` says, so it reaches
neither another sample nor the verdicts. Programs may import numpy, as with EvalPlus. Expected outputs are computed once
a data set, from its own solutions, in bubblewrap, before any sample is at hand, and kept in the user's cache folder
($XDG_CACHE_HOME).

Differences from EvalPlus: time is CPU time of a whole test, `TIMES` that of the data set's solution and 10 s at least
(there: wall time of an input); numbers within the tolerance must also have the same shape; what cannot be carried out
of the sandbox is "unjudged", and counts as not passed. Left open: an interrupted evaluation starts again.
"""

import hashlib
import importlib.util
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from labkit.errors import BadRequest, unknown
from labkit.grade import sandbox
from labkit.grade.code_eval import Problem, Sample, by_problem, estimates, field, records
from labkit.grade.sandbox import Limits, Program

SETS = ("humaneval", "mbpp")

TIMES, LEAST = 4, 10  # CPU seconds of a test: the factor is EvalPlus' own
MEMORY_BYTES = 4 << 30  # as EvalPlus
STATUSES = {"passed": "pass", "timeout": "timeout", "unjudged": "unjudged"}  # any other is "fail"

# Run inside, trusted programs only: inputs, expected outputs and rules as JSON lines, values as in `wire.py`.
EXPECTED = """
import inspect, json, sys
data, out, at = sys.argv[1:]
sys.path.insert(0, at)
import wire
del sys.path[0]
from evalplus.data import get_human_eval_plus, get_mbpp_plus
from evalplus.eval import _special_oracle as oracles
from evalplus.gen.util import trusted_exec
problems = (get_human_eval_plus if data == "humaneval" else get_mbpp_plus)(err_incomplete=False)
with open(out, "w") as file:
    for task, problem in problems.items():
        entry, program = problem["entry_point"], problem["prompt"] + problem["canonical_solution"]
        row = {"task": task, "atol": problem["atol"], "rule": entry if data == "mbpp" or entry == "find_zero" else ""}
        row["rule"] = "set" if entry in oracles.MBPP_OUTPUT_SET_EQ_TASKS and data == "mbpp" else row["rule"]
        there = data == "mbpp" and entry in oracles.MBPP_OUTPUT_NOT_NONE_TASKS
        row["rule"] = "not none" if there else row["rule"]
        row["oracles"] = "import math\\n" + "\\n".join(map(inspect.getsource, (
            oracles._poly, oracles._surface_Area, oracles._digit_distance_nums)))
        for kind in ("base", "plus"):
            inputs = problem[kind + "_input"]
            expected, seconds = trusted_exec(program, inputs, entry, record_time=True, output_not_none=there)
            packer = wire.Packer(wire.Peer(None, {}, ""))
            packer.ref([inputs, expected])
            row[kind] = {"seconds": sum(seconds), "nodes": packer.finish()}
        file.write(json.dumps(row) + "\\n")
"""

# The test of a problem, in the judge: the comparison of `evalplus.eval.unsafe_execute`, without numpy.
TEST = """
import json, wire
NODES = {nodes!r}
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
        return out == exp if isinstance(out, bool) else exp == (out is not None)
    if rule == "sum_div" and out == 0 or rule == "are_equivalent":
        return True
    surface = rule == "surface_Area" and abs(out - _surface_Area(*inp)) <= atol
    return surface or out == exp or rule == "digit_distance_nums" and out == _digit_distance_nums(*inp)

def compare(out, exp, inp, rule, atol):
    if rule == "find_zero":
        assert abs(_poly(*inp, out)) <= atol
    elif not holds(out, exp, inp, rule, atol):
        assert atol != 0 and type(out) == type(exp) and close(out, exp, atol)

def check(rule, atol):
    for inp, exp in zip(*wire.Unpacker(wire.Peer(None, {{}}, ""), (), json.loads(NODES)).values[0]):
        out = candidate(*inp)
        atol = 1e-6 if atol == 0 and is_floats(exp) and rule != "find_zero" else atol
        compare(out, exp, inp, rule, atol)

check({rule!r}, {atol!r})
"""


class Failed(RuntimeError):
    """EvalPlus gave no verdict; the message says what it said."""


def evaluate(data: str, samples: Sequence[Sample], path: Path, k: Sequence[int] = (1,), *, workers: int | None = None,
             unsafe: bool = False) -> dict[str, Any]:  # fmt: skip
    """EvalPlus' verdict on samples of every problem in `path` (of `find`); the result as JSON, base and plus.

    Raises `BadRequest` as `code_eval.by_problem` and `sandbox.available` do, `Failed` where EvalPlus fails.
    """
    problems = load_problems(path)
    grouped = by_problem(problems, samples, k)
    contained = sandbox.available(unsafe)
    expected = _expected_outputs(data, path, contained)
    rows = {row["task"]: row for row in map(json.loads, expected.read_text().splitlines())}
    kinds = ("base", "plus")
    asked = [(kind, sample) for kind in kinds for own in grouped.values() for sample in own]
    verdicts = _verdicts(asked, problems, rows, workers, unsafe)
    base, plus = ({task: [verdicts[kind, s] for s in own] for task, own in grouped.items()} for kind in kinds)
    both = {task: [a == b == "pass" for a, b in zip(base[task], plus[task], strict=True)] for task in grouped}
    return {"base": estimates({task: [status == "pass" for status in own] for task, own in base.items()}, k),
            "plus": estimates(both, k),
            "problems": {task: {"base": base[task], "plus": plus[task]} for task in grouped},
            "sandbox": sandbox.described(contained), "versions": {"evalplus": version("evalplus")}}  # fmt: skip


def _verdicts(asked: Sequence[tuple[str, Sample]], problems: Mapping[str, Problem], rows: Mapping[str, dict[str, Any]],
              workers: int | None, unsafe: bool) -> dict[tuple[str, Sample], str]:  # fmt: skip
    """EvalPlus' words for the verdicts on (base or plus, sample); problems with the same limits are run together."""
    by_seconds, verdicts = dict[int, list[tuple[str, Sample]]](), dict[tuple[str, Sample], str]()
    for kind, sample in asked:
        seconds = math.ceil(TIMES * rows[sample.task_id][kind]["seconds"])
        by_seconds.setdefault(max(seconds, LEAST), []).append((kind, sample))
    for most, group in sorted(by_seconds.items()):
        tests = [(s, _test(rows[s.task_id], kind)) for kind, s in group]
        programs = [Program(s.solution, test, problems[s.task_id].entry_point) for s, test in tests]
        limits = Limits(cpu_seconds=most, wall_seconds=4 * most, memory_bytes=MEMORY_BYTES)
        graded = sandbox.run(programs, limits, workers=workers, unsafe=unsafe, packages=("numpy", "numpy.libs"))
        verdicts |= {pair: STATUSES.get(v.outcome, "fail") for pair, v in zip(group, graded, strict=True)}
    return verdicts


def _test(row: Mapping[str, Any], kind: str) -> str:
    nodes = json.dumps(row[kind]["nodes"])
    return TEST.format(nodes=nodes, oracles=row["oracles"], rule=row["rule"], atol=row["atol"])


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


def _expected_outputs(data: str, path: Path, contained: bool) -> Path:
    """The file of the inputs and expected outputs of this data, computed where it is missing (about a minute)."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "labkit", "evalplus")
    recipe = [EXPECTED, version("evalplus"), data, sandbox.WIRE.read_text(), sandbox.REMOTE.read_text()]
    named = hashlib.sha256("\0".join(recipe).encode() + path.read_bytes()).hexdigest()
    kept = cache / f"{named}.jsonl"
    if not kept.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            if words := _compute(data, path, Path(folder), contained):
                raise Failed(f"EvalPlus could not compute its expected outputs: {words}")
            Path(folder, "expected.jsonl").replace(kept)
    return kept


def _compute(data: str, path: Path, out: Path, contained: bool) -> str:
    """Write the expected outputs to a file in `out`, which alone can be written to; what it said where that failed."""
    spec = importlib.util.find_spec("evalplus")
    assert spec is not None  # `find` looked
    hosts = {"/packages": Path(str(spec.origin)).parents[1], f"/data/{path.name}": path}
    ours = {f"/{file.name}": file for file in (sandbox.WIRE, sandbox.REMOTE)}
    binds = ["--perms", "0755", "--dir", "/data"]
    binds += [part for inside, host in (hosts | ours).items() for part in ("--ro-bind", str(host.resolve()), inside)]
    binds += ["--bind", str(out.resolve()), "/out"]
    packages, problems = list(hosts) if contained else [str(host.resolve()) for host in hosts.values()]
    environment = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": "/tmp", "OMP_NUM_THREADS": "1"}
    environment |= {"PYTHONPATH": packages, f"{data.upper()}_OVERRIDE_PATH": problems}
    target, modules = ("/out", "/") if contained else (str(out.resolve()), str(sandbox.WIRE.parent))
    command = [os.path.realpath(sys.executable), "-s", "-P", "-S", "-c", EXPECTED]
    command += [data, f"{target}/expected.jsonl", modules]
    full = [*sandbox.bubblewrap(*binds), *command] if contained else command
    try:
        done = subprocess.run(full, env=environment, capture_output=True, text=True, timeout=3600, check=False)
    except subprocess.TimeoutExpired:
        return "no end after an hour"
    return (done.stderr.strip().splitlines() or ["no message"])[-1] if done.returncode else ""
