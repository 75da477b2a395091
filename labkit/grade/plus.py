"""HumanEval+ and MBPP+ by the `evalplus` package (Liu et al. 2023, arXiv 2305.01210), run in bubblewrap.

Guaranteed: the verdicts are EvalPlus' own, on its own files (a local copy, or fetched by the package); samples and
data are read-only for it, no network, no other file of the machine. Its expected outputs are computed once a data set,
before any sample is at hand, and kept in the user's cache folder ($XDG_CACHE_HOME).

Left open: EvalPlus runs test and solution in one process, so a program written to deceive it can pass; its time
limits are wall time, so a busy machine fails slow programs; an interrupted evaluation starts again.
"""

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from labkit.errors import BadRequest, unknown
from labkit.grade import sandbox
from labkit.grade.code_eval import Problem, Sample, by_problem, estimates, field, records

SETS = ("humaneval", "mbpp")

# Run inside: the expected outputs (trusted programs only), or the evaluation, as a user without rights.
RUNNER = """
import os, resource, sys
step, data, samples, workers = sys.argv[1:]
if step == "evaluate" and os.geteuid() == 0 and os.getpid() < 10:
    resource.setrlimit(resource.RLIMIT_NPROC, (512, 512))
    os.setgroups([]), os.setresgid(61000, 61000, 61000), os.setresuid(61000, 61000, 61000)
from evalplus import evaluate as plus
if step == "evaluate":
    plus.evaluate(data, samples, parallel=int(workers))
    os._exit(0)  # it would wait up to 20 s for a thread of its own
elif data == "humaneval":
    plus.get_groundtruth(plus.get_human_eval_plus(), plus.get_human_eval_plus_hash(), [])
else:
    plus.get_groundtruth(plus.get_mbpp_plus(), plus.get_mbpp_plus_hash(), plus.MBPP_OUTPUT_NOT_NONE_TASKS)
"""


class Failed(RuntimeError):
    """EvalPlus gave no verdict; the message says what it said."""


def evaluate(
    data: str,
    samples: Sequence[Sample],
    path: Path,
    k: Sequence[int] = (1,),
    *,
    workers: int | None = None,
    unsafe: bool = False,
) -> dict[str, Any]:
    """EvalPlus' verdict on samples of every problem in `path` (of `find`); the result as JSON, base and plus.

    Raises `BadRequest` as `code_eval.by_problem` and `sandbox.available` do, `Failed` where EvalPlus fails.
    """
    grouped = by_problem(load_problems(path), samples, k)
    contained = sandbox.available(unsafe)
    workers = workers or len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="labkit-") as folder:
        out = Path(folder, "out")
        out.mkdir()
        out.chmod(0o777)  # for the user that it becomes; nobody else passes the folder above
        lines = [json.dumps(sample._asdict()) for own in grouped.values() for sample in own]
        (out / "samples.jsonl").write_text("\n".join(lines) + "\n")
        expected = _expected_outputs(data, path, contained)
        said = _run("evaluate", data, path, expected, out, workers, contained, 600 + 60 * len(samples) / workers)
        try:
            verdicts = json.loads((out / "samples_eval_results.json").read_text())["eval"]
        except (OSError, ValueError, KeyError):
            raise Failed(f"EvalPlus ended without a verdict: {said}") from None
    base = {task: [one["base_status"] for one in verdicts.get(task, ())] for task in grouped}
    plus = {task: [one["plus_status"] for one in verdicts.get(task, ())] for task in grouped}
    if any(len(base[task]) != len(own) for task, own in grouped.items()):
        raise Failed(f"EvalPlus gave no verdict on some samples: {said}")
    both = {task: [a == b == "pass" for a, b in zip(base[task], plus[task], strict=True)] for task in grouped}
    return {
        "base": estimates({task: [status == "pass" for status in own] for task, own in base.items()}, k),
        "plus": estimates(both, k),
        "problems": {task: {"base": base[task], "plus": plus[task]} for task in grouped},
        "sandbox": sandbox.described(contained),
        "versions": {"evalplus": version("evalplus")},
    }


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
        raise BadRequest(
            f"evalplus cannot fetch its problems ({error}): give a copy of HumanEvalPlus.jsonl.gz or MbppPlus.jsonl.gz "
            "from the evalplus releases with --problems"
        ) from None


def load_problems(path: Path) -> dict[str, Problem]:
    """The problems of an EvalPlus file by task_id; their tests stay with EvalPlus."""
    names = ("task_id", "prompt", "entry_point", "canonical_solution")
    rows = ([field(where, record, name, str) for name in names] for where, record in records(path))
    return {task: Problem(task, prompt, entry, "", prompt + solution) for task, prompt, entry, solution in rows}


def _expected_outputs(data: str, path: Path, contained: bool) -> Path:
    """The cache folder with the expected outputs of this file, computed where they are missing (about a minute)."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "labkit")
    kept = cache / "evalplus" / f"{hashlib.md5(path.read_bytes()).hexdigest()}.pkl"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            said = _run("expected", data, path, Path(folder), Path(folder), 1, contained, 3600)
            found = Path(folder, "evalplus", kept.name)
            if not found.exists():
                raise Failed(f"EvalPlus could not compute its expected outputs: {said}")
            found.replace(kept)
    return cache


def _run(step: str, data: str, path: Path, cache: Path, out: Path, workers: int, contained: bool, most: float) -> str:
    """One step in the sandbox; the last line it wrote. Only `out` can be written to."""
    spec = importlib.util.find_spec("evalplus")
    assert spec is not None  # `find` looked
    hosts = {"/packages": Path(str(spec.origin)).parents[1], "/cache": cache, "/out": out, f"/data/{path.name}": path}
    binds = ["--perms", "0755", "--dir", "/data"]
    binds += [part for inside, host in hosts.items() for part in ("--ro-bind", str(host.resolve()), inside)]
    binds += ["--bind", str(out.resolve()), "/cache" if step == "expected" else "/out"]
    binds += ["--perms", "1777", "--tmpfs", "/dev/shm", "--proc", "/proc"]
    packages, caches, outs, problems = list(hosts) if contained else [str(host.resolve()) for host in hosts.values()]
    environment = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": "/tmp", "OMP_NUM_THREADS": "1"}
    environment |= {"PYTHONPATH": packages, "XDG_CACHE_HOME": caches, f"{data.upper()}_OVERRIDE_PATH": problems}
    command = [os.path.realpath(sys.executable), "-s", "-P", "-S", "-c", RUNNER]
    command += [step, data, f"{outs}/samples.jsonl", str(workers)]
    full = [*sandbox.bubblewrap(*binds), *command] if contained else command
    try:
        done = subprocess.run(full, env=environment, capture_output=True, text=True, timeout=most, check=False)
    except subprocess.TimeoutExpired:
        return f"no end after {most:g} s"
    return (done.stderr.strip().splitlines() or ["no message"])[-1]
