"""Problems with tests, read from files, and whether their tests can run here.

HumanEval-shaped: task_id, prompt, entry_point and a test (a `check(candidate)`, a function of `candidate` alone,
unittest classes, functions `test_...`, or asserts of its own), and where there are, canonical_solution and suffix.
MBPP-shaped: task_id, test_list, and where there are, code, test_setup_code, test_imports. As JSON lines, gzipped or
not, or one JSON list; null is the same as missing.

Guaranteed: a malformed record is refused in one sentence that names it. A test that cannot run in the sandbox whatever
the program has an `obstacle`, so that no program is failed by it; a file of such tests alone is refused.

Left open: what only shows when the test runs; `code_eval.evaluate` tries the reference solutions.
"""

import ast
import builtins
import gzip
import json
import re
import sys
import zlib
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any, NamedTuple

from labkit.errors import BadRequest
from labkit.grade.extraction import ERRORS, above, bound, compiles, parse, tree_of

LONGEST = 1 << 26  # bytes of a record, or of a file that is one JSON list
LARGEST = 1 << 31  # bytes of a file, unpacked
BLANK = 1_000_000  # blank lines of a file
# What models for infilling are given: a hole in the prompt, or its two ends in their own marks.
ENDS = re.compile(
    r"\s*<[|｜]?(?:fim.prefix|fim.begin|PRE)[|｜]?>(.*)<[|｜]?(?:fim.suffix|fim.hole|SUF)[|｜]?>(.*)"
    r"<[|｜]?(?:fim.middle|fim.end|MID)[|｜]?>\s*",
    re.DOTALL,
)
HOLE = re.compile(r"<\|?(?:FILL_ME|FILL|INFILL|fill|infill|MASK|mask)\|?>|\[(?:insert|INSERT|FILL|MASK)\]")
HOLE_LINE = re.compile(rf"(?<=\n)([ \t]*)(?:#[ \t]*)?(?:{HOLE.pattern})[ \t]*(?=\n|\Z)")
STRING = re.compile(r"(\"{3}|'{3}).*?\1|\"[^\"\n]*\"|'[^'\n]*'", re.DOTALL)
Function = ast.FunctionDef | ast.AsyncFunctionDef


class Problem(NamedTuple):
    """`prompt` is what a completion continues, `test` runs on `candidate`; `reference` is a program that passes.

    `request` is the problem in words, where the prompt does not say it all; `suffix` follows a completion; `reference`
    is empty where there is none; `obstacle` says why the test cannot run here.
    """

    task_id: str
    prompt: str
    entry_point: str
    test: str
    reference: str
    request: str = ""
    suffix: str = ""
    obstacle: str = ""


def load_problems(path: Path) -> dict[str, Problem]:
    """Problems by task_id. Raises `BadRequest` for a file that is missing or malformed, a task_id given twice, and
    tests of which none can run here."""
    problems: dict[str, Problem] = {}
    for where, record in records(path):
        own_test = record.get("test") is not None or ("test" in record and "test_list" not in record)
        problem = _humaneval(where, record) if own_test else _mbpp(where, record)
        if problem.task_id in problems:
            raise BadRequest(f"{where}: the task_id {problem.task_id} was given before")
        problems[problem.task_id] = problem
    if all(problem.obstacle for problem in problems.values()):
        raise none_runs({task: problem.obstacle for task, problem in problems.items()})
    return problems


def none_runs(reasons: dict[str, str]) -> BadRequest:
    """The refusal of problems of which none can be judged here."""
    task, reason = next(iter(reasons.items()))
    others = f", and {len(reasons) - 1} more that cannot either" if len(reasons) > 1 else ""
    return BadRequest(f"no problem can be judged here: {task} ({reason}){others}")


def records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where, record) of a file of JSON lines, or of one JSON list, gzipped or not; `BadRequest` at what is neither."""
    empty = True
    try:
        with path.open("rb") as raw:
            packed = path.suffix == ".gz" or raw.peek(2)[:2] == b"\x1f\x8b"
            with gzip.open(raw) if packed else raw as file:
                for number, line in _lines(path, file):
                    empty = False
                    yield from _parsed(path, number, line)
    except (OSError, EOFError, zlib.error) as error:
        raise BadRequest(f"cannot read {path}: {error}") from None
    except UnicodeDecodeError as error:
        raise BadRequest(f"cannot read {path}: it is not UTF-8 text ({error.reason}; save it as UTF-8)") from None
    if empty:
        raise BadRequest(f"{path} is empty: one JSON line per record is expected")


def _lines(path: Path, file: gzip.GzipFile | BufferedReader) -> Iterator[tuple[int, str]]:
    """(number, text) of each line that is not blank; number 0 and everything where the file is one JSON list."""
    number = size = blank = 0
    while line := file.readline(LONGEST + 1):
        number, size = number + 1, size + len(line)
        line = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
        whole = number == blank + 1 and line.lstrip().startswith(b"[")
        line += file.read(LONGEST + 1) if whole else b""
        if len(line) > LONGEST or size > LARGEST or blank > BLANK:
            raise BadRequest(f"{path}, line {number}: a record, or a JSON list, has at most {LONGEST >> 20} MB, and a "
                             f"file at most {LARGEST >> 30} GB unpacked and {BLANK:,} blank lines")  # fmt: skip
        if line.strip():
            yield 0 if whole else number, line.decode()
        else:
            blank += 1


def _parsed(path: Path, number: int, line: str) -> Iterator[tuple[str, dict[str, Any]]]:
    where = f"{path}, line {number or 1}"
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"{where}: not JSON ({error})") from None
    for record in [value] if number else value:
        if not isinstance(record, dict):
            raise BadRequest(f"{where}: a JSON object is expected, not {type(record).__name__}")
        yield (where if number else str(path)), record


def field(where: str, record: dict[str, Any], name: str, kind: Any) -> Any:
    """A field that must be there, of a type; text is also no half of a surrogate pair, a number no bool."""
    if name not in record:
        names = [repr(key)[:40] for key in list(record)[:12]]
        raise BadRequest(f"{where}: the field '{name}' is missing; it has {', '.join(names) or 'none'}")
    value = record[name]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise BadRequest(f"{where}: the field '{name}' is of type {type(value).__name__}")
    return value


def optional(where: str, record: dict[str, Any], name: str, kind: Any = str) -> Any:
    """The same of a field that may be missing or null: then an empty value."""
    return kind() if record.get(name) is None else _text(where, name, field(where, record, name, kind))


def _text(where: str, name: str, value: Any) -> Any:
    if isinstance(value, str) and re.search("[\ud800-\udfff]", value):
        raise BadRequest(f"{where}: the field '{name}' holds half of a surrogate pair, which no text can hold")
    return value


def _texts(where: str, record: dict[str, Any], name: str) -> list[str]:
    values = optional(where, record, name, list)
    if odd := [value for value in values if not isinstance(value, str)]:
        raise BadRequest(f"{where}: the field '{name}' holds a {type(odd[0]).__name__} where text is due")
    return [_text(where, name, value) for value in values]


def task_id_of(where: str, record: dict[str, Any]) -> str:
    """MBPP numbers its tasks; EvalPlus writes Mbpp/2, and so do we."""
    given = str(_text(where, "task_id", field(where, record, "task_id", str | int)))
    return f"Mbpp/{given}" if re.fullmatch("[0-9]+", given) else given


def _humaneval(where: str, record: dict[str, Any]) -> Problem:
    prompted = "prompt" if record.get("prompt") is not None or "complete_prompt" not in record else "complete_prompt"
    names = (prompted, "entry_point", "test")
    prompt, entry, test = (_text(where, name, field(where, record, name, str)) for name in names)
    if not entry.isidentifier():
        raise BadRequest(f"{where}: the entry_point '{entry[:40]}' is no name of Python's")
    prompt, suffix = _around_the_hole(prompt, optional(where, record, "suffix"))
    solution = optional(where, record, "canonical_solution")
    tree = parse(prompt) or (parse(above(prompt, entry)) if _can_go_on(prompt, solution, suffix) else None)
    if tree is None:
        raise BadRequest(f"{where}: the prompt does not parse as Python, nor does it with a body")
    tree.body = [node for node in tree.body if getattr(node, "name", None) != entry]
    preamble = _unparsed(where, tree)
    problem = Problem(task_id_of(where, record), prompt, entry, test, "", suffix=suffix)
    reference, own = continued(problem, solution) if solution.strip() else "", _test_tree(where, problem)
    call, obstacle = _call(own)
    obstacle = _lacks("prompt", tree) or _lacks("test", own) or obstacle
    problem = problem._replace(test=f"{preamble}\n{test}\n{call}\n", reference=reference, obstacle=obstacle)
    _test_tree(where, problem)
    return problem


def _around_the_hole(prompt: str, suffix: str) -> tuple[str, str]:
    """What stands before and after a completion, where the prompt marks its place."""
    if ends := ENDS.fullmatch(prompt):
        return ends[1], ends[2] + suffix
    code = STRING.sub(lambda string: "." * len(string[0]), prompt)  # a docstring may speak of such marks
    hole = HOLE_LINE.search(code) or HOLE.search(code)
    if hole is None:
        return prompt, suffix
    indentation = hole[1] if hole.lastindex else ""
    return prompt[: hole.start()] + indentation, prompt[hole.end() :] + suffix


def _can_go_on(prompt: str, solution: str, suffix: str) -> bool:
    """Does a prompt that does not parse alone do so with its solution or with a body?"""
    last = (prompt.rstrip().split("\n") or [""])[-1]
    margin = last[: len(last) - len(last.lstrip())]
    bodies = [f"\n{indentation}pass\n" for indentation in (margin, margin + "    ", margin + "\t", margin + "  ")]
    return any(parse(prompt + body + suffix) for body in [solution, "", *bodies])


def continued(problem: Problem, completion: str) -> str:
    """A prompt with its completion; where they make no program: on a new line, or the completion in the prompt's place,
    if they make one so."""
    program = problem.prompt + completion + problem.suffix
    if not problem.prompt or compiles(program):
        return program
    forms = [f"{problem.prompt}\n{completion}{problem.suffix}"]
    if problem.entry_point in bound(parse(completion)):
        forms.append(above(problem.prompt, problem.entry_point) + completion)
    return next(filter(compiles, forms), program)


def _mbpp(where: str, record: dict[str, Any]) -> Problem:
    if "test_list" not in record and ("base_input" in record or "plus_input" in record):
        hint = "grade it with --plus humaneval or --plus mbpp"
        raise BadRequest(f"{where}: a record of EvalPlus has inputs for a test: {hint}")
    task = task_id_of(where, record)
    field(where, record, "test_list", list)
    tests, code = _texts(where, record, "test_list"), optional(where, record, "code")
    setup = optional(where, record, "test_setup_code")
    test = "\n".join([*_texts(where, record, "test_imports"), setup, *tests])
    asked = optional(where, record, "text") or optional(where, record, "prompt")
    request = f"{asked}\nThe program must pass this test: {tests[0]}" if asked and tests else ""
    problem = Problem(task, "", "", test, code, request)
    tree, reference = _test_tree(where, problem), parse(code)
    if reference is None:
        raise BadRequest(f"{where}: 'code' does not parse as Python")
    called = re.findall(r"(?<![\w.])([A-Za-z_]\w*)\s*\(", "\n".join(tests))
    known = bound(tree) | set(dir(builtins))
    defining = [node for node in reference.body if not isinstance(node, ast.Import | ast.ImportFrom)]
    functions = {node.name for node in defining if isinstance(node, Function)}
    defined = set().union(*map(bound, defining)) if code.strip() else set(called) - known
    entries = [name for group in (functions, defined) for name in called if name in group]
    if not entries:
        raise BadRequest(f"{where}: the tests call no function that 'code' defines")
    return problem._replace(entry_point=entries[0], obstacle=_lacks("test", tree))


def _test_tree(where: str, problem: Problem) -> ast.Module:
    try:
        return tree_of(problem.test, compiled=True)
    except ERRORS as error:
        said = getattr(error, "msg", None) or "nested too deeply"
        raise BadRequest(f"{where}: the test of {problem.task_id} is no Python ({said})") from None


def _unparsed(where: str, tree: ast.Module) -> str:
    try:
        return ast.unparse(tree)
    except RecursionError:
        raise BadRequest(f"{where}: the prompt is nested too deeply") from None


def _lacks(part: str, tree: ast.Module) -> str:
    """What a test, or the prompt above it, imports that the sandbox has not; where it does without, that counts not."""
    tries = [node for node in ast.walk(tree) if isinstance(node, ast.Try) and node.handlers]
    bodies = [statement for attempt in tries for statement in attempt.body]
    bodies += [node for node in ast.walk(tree) if isinstance(node, ast.If) and _is_elsewhere(node.test)]
    guarded = {node for body in bodies for node in ast.walk(body)}
    names = set[str]()
    for node in set(ast.walk(tree)) - guarded:
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").split(".")[0] if not node.level else "." * node.level)
    if not (missing := sorted(names - sys.stdlib_module_names)):
        return ""
    hint = "; HumanEval+ and MBPP+ are graded with --plus" if "numpy" in missing else ""
    return f"its {part} imports {', '.join(missing)}, but the sandbox has the standard library alone{hint}"


def _is_elsewhere(condition: ast.expr) -> bool:
    """Does it hold for a script, or for a type checker, and never here?"""
    return any(name in ast.unparse(condition) for name in ("__name__", "TYPE_CHECKING"))


def _call(tree: ast.Module) -> tuple[str, str]:
    """(what runs a test, why nothing can)."""
    functions = [node for node in tree.body if isinstance(node, Function)]
    awaited = {node.name for node in functions if isinstance(node, ast.AsyncFunctionDef)}
    checks = [node for node in functions if node.name == "check"]
    checks = checks or [node for node in functions if _required(node) == ["candidate"]]
    tests = [node for node in functions if node.name.startswith("test") and not _required(node)]
    if checks and len(_required(checks[-1])) > 1:
        return "", f"its {checks[-1].name} wants more than the candidate: {', '.join(_required(checks[-1]))}"
    made = ["check(candidate)"] if "check" in bound(tree) else [f"{test.name}()" for test in tests]
    if calls := [f"{check.name}({'candidate' if _takes_any(check) else ''})" for check in checks[-1:]] or made:
        run = "import asyncio\n" if awaited else ""
        return run + "\n".join(f"asyncio.run({c})" if c.split("(")[0] in awaited else c for c in calls), ""
    if cases := [node.name for node in tree.body if isinstance(node, ast.ClassDef) and _is_case(node)]:
        load = "unittest.defaultTestLoader.loadTestsFromTestCase"
        suite = f"unittest.TestSuite(map({load}, [{', '.join(cases)}]))"
        # `debug` raises what a test raises. Tests of which there is none would all pass.
        return f"import unittest\nassert {suite}.countTestCases(), 'no tests'\n{suite}.debug()", ""
    at_once = [node for node in tree.body if not isinstance(node, Function | ast.ClassDef)]
    nothing = "its test defines no check(candidate), no unittest class and no test function, and asserts nothing itself"
    return "", "" if any(isinstance(node, ast.Assert) for top in at_once for node in ast.walk(top)) else nothing


def _required(node: Function) -> list[str]:
    names = [arg.arg for arg in [*node.args.posonlyargs, *node.args.args]]
    return names[: len(names) - len(node.args.defaults)]


def _takes_any(node: Function) -> bool:
    return bool(node.args.posonlyargs or node.args.args or node.args.vararg)


def _is_case(node: ast.ClassDef) -> bool:
    """Is it a unittest class, by its base or, where it derives from another of the test's, by its tests?"""
    bases = [ast.unparse(base) for base in node.bases]
    tests = [inner.name for inner in node.body if isinstance(inner, Function)]
    return any("TestCase" in base for base in bases) or (bool(bases) and any(n.startswith("test") for n in tests))
