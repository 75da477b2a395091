"""Graded programs: problems with tests, samples of a model, pass@k.

Problems are HumanEval-shaped (task_id, prompt, entry_point, test that defines `check`) or MBPP-shaped (task_id, code,
test_list, and either test_setup_code or test_imports), as JSON lines, gzipped or not, or one JSON list. Samples are
JSON lines of {task_id, completion} or {task_id, solution}: a completion continues the prompt (of an MBPP-shaped
problem, whose prompt is prose, it is the program), a solution stands for itself.

Guaranteed: bad input is refused before any program runs; every program runs in `sandbox.py`; programs that are equal
run once; each verdict is in the partial file as soon as it is known, and the same call goes on from there.

Left open: a test passes what it fails to test. The judge's process runs the helper functions that a HumanEval prompt
defines above its entry point from the prompt, not from the solution; other names that a test does not define (the
classes of some MBPP programs) are the solution's.
"""

import ast
import gzip
import json
import platform
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import labkit
from labkit.errors import BadRequest, unknown
from labkit.grade import sandbox
from labkit.grade.pass_at_k import estimate
from labkit.grade.sandbox import OUTCOMES, Limits, Program, Verdict


class Problem(NamedTuple):
    """`prompt` is what a completion continues, `test` runs on `candidate`; `reference` is a program that passes.

    `request` is the problem in words, where the prompt does not say it all.
    """

    task_id: str
    prompt: str
    entry_point: str
    test: str
    reference: str
    request: str = ""


class Sample(NamedTuple):
    """One program of a model, complete."""

    task_id: str
    solution: str


def evaluate(
    problems: Mapping[str, Problem],
    samples: Sequence[Sample],
    k: Sequence[int] = (1,),
    *,
    workers: int | None = None,
    limits: Limits | None = None,
    unsafe: bool = False,
    partial: Path | None = None,
) -> dict[str, Any]:
    """Run every sample against its problem's test; the result as JSON.

    `partial` (JSON lines) keeps verdicts as they come, and is read first. Raises `BadRequest` for samples that do not
    fit the problems (see `by_problem`), a k above the samples a problem, and a sandbox that cannot start.
    """
    limits = limits or Limits()
    grouped = by_problem(problems, samples, k)
    contained = sandbox.available(unsafe)
    context = [limits, contained, platform.python_version()]
    programs: dict[str, Program] = {}
    keys: dict[Sample, str] = {}
    for sample in samples:
        problem = problems[sample.task_id]
        program = Program(sample.solution, problem.test, problem.entry_point)
        keys[sample] = sha256(json.dumps([program, *context]).encode()).hexdigest()
        programs[keys[sample]] = program
    known = _read_partial(partial)
    todo = [key for key in programs if key not in known]
    with partial.open("a") if partial else nullcontext() as file:
        for index, verdict in sandbox.stream([programs[key] for key in todo], limits, workers=workers, unsafe=unsafe):
            known[todo[index]] = verdict
            if file:
                file.write(json.dumps([todo[index], *verdict]) + "\n")
                file.flush()
    verdicts = {task: [known[keys[sample]] for sample in own] for task, own in grouped.items()}
    return {
        **estimates({task: [verdict.outcome == "passed" for verdict in own] for task, own in verdicts.items()}, k),
        "outcomes": {kind: sum(v.outcome == kind for own in verdicts.values() for v in own) for kind in OUTCOMES},
        "problems": {task: [verdict._asdict() for verdict in own] for task, own in verdicts.items()},
        "sandbox": sandbox.described(contained),
        "limits": limits._asdict(),
        "versions": {"labkit": labkit.__version__, "python": platform.python_version()},
    }


def estimates(passed: Mapping[str, Sequence[bool]], k: Sequence[int]) -> dict[str, Any]:
    """{"pass@k": mean, interval and what it covers} for every k, from what passed of each problem."""
    n, c = [len(own) for own in passed.values()], [sum(own) for own in passed.values()]
    found = {f"pass@{size}": estimate(n, c, size) for size in k}
    counts = {"n_problems": len(n), "n_samples": sum(n)}
    return {name: {"mean": e.mean, "ci95": [e.lo, e.hi], "over": e.over} | counts for name, e in found.items()}


def by_problem(problems: Iterable[str], samples: Sequence[Sample], k: Sequence[int]) -> dict[str, list[Sample]]:
    """The samples of every problem; `BadRequest` for samples of no problem, problems without, and a k beyond them."""
    grouped: dict[str, list[Sample]] = {task: [] for task in problems}
    for sample in samples:
        if sample.task_id not in grouped:
            raise unknown("task_id", sample.task_id, list(grouped)[:5] + ["..."][: len(grouped) - 5])
        grouped[sample.task_id].append(sample)
    if missing := [task for task, own in grouped.items() if not own]:
        raise BadRequest(
            f"{len(missing)} of {len(grouped)} problems have no sample, the first of them {missing[0]}: every problem "
            "needs one, so give an empty completion where the model gave none"
        )
    fewest = min(grouped, key=lambda task: len(grouped[task]))
    for size in k:
        if not 1 <= size <= len(grouped[fewest]):
            raise BadRequest(
                f"pass@{size} needs k from 1 to the number of samples a problem: {fewest} has {len(grouped[fewest])}"
            )
    return grouped


def load_problems(path: Path) -> dict[str, Problem]:
    """Problems by task_id. Raises `BadRequest` for a file that is missing or malformed, and a task_id given twice."""
    problems: dict[str, Problem] = {}
    for where, record in records(path):
        problem = _humaneval(where, record) if "test" in record else _mbpp(where, record)
        if problem.task_id in problems:
            raise BadRequest(f"{where}: the task_id {problem.task_id} was given before")
        problems[problem.task_id] = problem
    return problems


def load_samples(path: Path, problems: Mapping[str, Problem], *, markdown: bool = False) -> list[Sample]:
    """Samples in the order of the file; with `markdown`, the program in each is a model's answer: see `extract_code`.

    Raises `BadRequest` for a file that is missing or malformed, and a sample with both or neither kind of program.
    """
    samples = []
    for where, record in records(path):
        task = _task_id(field(where, record, "task_id", str | int))
        problem = problems.get(task, Problem(task, "", "", "", ""))
        if ("completion" in record) == ("solution" in record):
            raise BadRequest(f"{where}: a sample has either a 'completion' or a 'solution'")
        kind = "solution" if "solution" in record else "completion"
        text = field(where, record, kind, str)
        text = extract_code(text, problem.entry_point) if markdown else text
        samples.append(Sample(task, text if kind == "solution" else problem.prompt + text))
    return samples


def extract_code(answer: str, entry_point: str = "") -> str:
    """The program in a model's markdown answer: the first fenced block that defines `entry_point`, else the first
    block, else the answer as it is. A fence that is never closed reaches to the end.

    >>> extract_code("Sure:\\n```python\\ndef f(x):\\n    return x\\n```\\nThis is `f`.")
    'def f(x):\\n    return x\\n'
    """
    blocks = re.findall(r"^[ \t]*```[^\n]*\n(.*?)(?:^[ \t]*```|\Z)", answer, re.DOTALL | re.MULTILINE)
    defining = [block for block in blocks if re.search(rf"^\s*def {re.escape(entry_point)}\b", block, re.MULTILINE)]
    return (defining or blocks or [answer])[0]


def records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where, record) of a file of JSON lines, or of one JSON list, gzipped or not; `BadRequest` at what is neither."""
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode()
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise BadRequest(f"cannot read {path}: {error}") from None
    whole = text.lstrip().startswith("[")
    lines = [(1, text)] if whole else [(n, line) for n, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not lines:
        raise BadRequest(f"{path} is empty: a JSON line a record is expected")
    for number, line in lines:
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise BadRequest(f"{path}, line {number}: not JSON ({error})") from None
        for record in value if whole else [value]:
            if not isinstance(record, dict):
                raise BadRequest(f"{path}, line {number}: a JSON object is expected, not {type(record).__name__}")
            yield f"{path}, line {number}" if not whole else str(path), record


def field(where: str, record: dict[str, Any], name: str, kind: Any) -> Any:
    if name not in record:
        raise BadRequest(f"{where}: the field '{name}' is missing; it has {', '.join(map(repr, record)) or 'none'}")
    if not isinstance(record[name], kind):
        raise BadRequest(f"{where}: the field '{name}' is of type {type(record[name]).__name__}")
    return record[name]


def _task_id(given: str | int) -> str:
    """MBPP numbers its tasks; EvalPlus writes Mbpp/2, and so do we."""
    return f"Mbpp/{given}" if str(given).isdigit() else str(given)


def _humaneval(where: str, record: dict[str, Any]) -> Problem:
    task, prompt, entry, test = (field(where, record, key, str) for key in ("task_id", "prompt", "entry_point", "test"))
    try:
        above = ast.parse(prompt)
    except SyntaxError:
        raise BadRequest(f"{where}: the prompt does not parse as Python") from None
    above.body = [node for node in above.body if getattr(node, "name", None) != entry]
    test = f"{ast.unparse(above)}\n{test}\ncheck(candidate)\n"
    return _checked(where, Problem(task, prompt, entry, test, prompt + record.get("canonical_solution", "")))


def _mbpp(where: str, record: dict[str, Any]) -> Problem:
    task = _task_id(field(where, record, "task_id", str | int))
    tests, code = field(where, record, "test_list", list), field(where, record, "code", str)
    test = "\n".join([*record.get("test_imports", []), record.get("test_setup_code", ""), *map(str, tests)])
    asked = record.get("text") or record.get("prompt") or ""
    request = f"{asked}\nThe program must pass this test: {tests[0]}" if asked and tests else ""
    called = re.findall(r"\b([A-Za-z_]\w*)\s*\(", "\n".join(map(str, tests)))
    defined = [name for name in called if re.search(rf"^def {name}\b", code, re.MULTILINE)]
    if not defined:
        raise BadRequest(f"{where}: the tests call no function that 'code' defines")
    return _checked(where, Problem(task, "", defined[0], test, code, request))


def _checked(where: str, problem: Problem) -> Problem:
    try:
        compile(problem.test, "<test>", "exec", dont_inherit=True)
    except SyntaxError as error:
        raise BadRequest(f"{where}: the test of {problem.task_id} is no Python ({error.msg})") from None
    return problem


def _read_partial(partial: Path | None) -> dict[str, Verdict]:
    """The verdicts in a partial file; a line that was cut off by an interrupt is left out."""
    known = {}
    for line in partial.read_text().splitlines() if partial and partial.exists() else ():
        with suppress(ValueError, TypeError):
            key, *verdict = json.loads(line)
            known[key] = Verdict(*verdict)
    return known
