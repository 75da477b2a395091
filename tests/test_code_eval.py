"""Problems, samples and pass@k; EvalPlus' verdicts beside ours."""

import gzip
import json
import math
from itertools import combinations
from pathlib import Path
from typing import Any

import needs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from labkit import BadRequest
from labkit.cli import app
from labkit.grade import code_eval, plus, sandbox
from labkit.grade.code_eval import Sample
from labkit.grade.extraction import extract
from labkit.grade.pass_at_k import estimate, pass_at_k

DATA = Path(__file__).parents[2] / "shared" / "data"

HUMANEVAL = {
    "task_id": "Mine/0",
    "prompt": 'import math\n\ndef half(x):\n    return x / 2\n\ndef f(x):\n    """Twice x."""\n',
    "entry_point": "f",
    "canonical_solution": "    return 2 * x\n",
    "test": "def check(candidate):\n    assert candidate(math.floor(2.5)) == 4\n    assert half(candidate(3)) == 3\n",
}
MBPP = {
    "task_id": 7,
    "text": "Write a function to add the values of a pair.",
    "code": "class Pair:\r\n  def __init__(self, a, b):\r\n    self.a, self.b = a, b\r\n\r\n"
    "def total(pair):\r\n  return pair.a + pair.b",
    "test_setup_code": "one = Pair(1, 2)\r\none.b = 5",
    "test_list": ["assert total(one) == 6", "assert total(Pair(3, 4)) == 7"],
}
SANITISED = {
    "task_id": 8,
    "prompt": "Write a function to take a root.",
    "code": "def root(x):\n  return x ** 0.5",
    "test_imports": ["import math"],
    "test_list": ["assert math.isclose(root(4), 2)"],
}


@pytest.fixture
def _bubblewrap() -> None:
    needs.bubblewrap()


def write(path: Path, rows: list[Any]) -> Path:
    text = "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n"
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def data(name: str) -> Path:
    if not (DATA / name).exists():
        pytest.skip(f"no {name} here")
    return DATA / name


@given(st.integers(1, 12), st.data())
def test_pass_at_k_is_the_share_of_draws_that_hold_a_right_program(n: int, draw: st.DataObject) -> None:
    c, k = draw.draw(st.integers(0, n)), draw.draw(st.integers(1, n))
    subsets = list(combinations([index < c for index in range(n)], k))
    assert pass_at_k([n], [c], k)[0] == pytest.approx(sum(map(any, subsets)) / len(subsets))


def test_pass_at_k_of_many_samples() -> None:
    assert pass_at_k([10_000], [3], 100)[0] == pytest.approx(1 - math.comb(9_997, 100) / math.comb(10_000, 100))
    evalplus = pytest.importorskip("evalplus.eval")
    n, c = np.array([200, 200, 150, 100]), np.array([0, 3, 150, 1])
    for k in (1, 10, 100):
        assert pass_at_k(n, c, k) == pytest.approx(evalplus.estimate_pass_at_k(n, c, k))


def test_the_interval_of_pass_at_k_is_clustered_by_problem() -> None:
    alike = estimate([1] * 50, [1] * 25 + [0] * 25, 1)
    assert alike.mean == 0.5
    assert alike.hi - alike.lo == pytest.approx(2 * 1.96 * 0.5 / 50**0.5, rel=0.1)  # the binomial over problems
    more = estimate([100] * 50, [100] * 25 + [0] * 25, 1)
    assert (more.lo, more.hi) == (alike.lo, alike.hi)  # samples of a problem that agree add nothing
    assert estimate([5] * 50, [5] * 50, 5).lo < 1
    assert "problems" in alike.over


@pytest.mark.parametrize(
    ("n", "c", "k", "complaint"),
    [
        ([5, 3], [1, 1], 4, "pass@4 needs k from 1 to the samples per problem: the fewest are 3"),
        ([5], [1], 0, "pass@0"),
        ([], [], 1, "at least one problem"),
        ([2], [3], 1, "from 0 to all"),
    ],
)
def test_pass_at_k_refuses(n: list[int], c: list[int], k: int, complaint: str) -> None:
    with pytest.raises(BadRequest, match=complaint):
        pass_at_k(n, c, k)


@pytest.mark.usefixtures("_bubblewrap")
def test_every_shape_of_problem_and_sample_through_the_command(tmp_path: Path) -> None:
    problems = write(tmp_path / "p.jsonl.gz", [HUMANEVAL, MBPP, SANITISED])
    fenced = "Here:\n```python\ndef root(x):\n    return x ** 0.5\n```\n"
    rows = [
        {"task_id": "Mine/0", "completion": "    return 2 * x\n"},
        {"task_id": "Mine/0", "solution": "def f(x): return x + 2\ndef half(x): return 3\n"},
        {"task_id": "Mbpp/7", "solution": MBPP["code"]},
        {"task_id": 7, "completion": "def total(pair): return pair.c"},
        {"task_id": "8", "completion": fenced},
        {"task_id": "Mbpp/8", "completion": "def root(x: return x"},
    ]
    out = tmp_path / "deep.json"
    arguments = ["code-eval", "--problems", str(problems), "--samples", str(write(tmp_path / "s.jsonl", rows))]
    ran = CliRunner().invoke(app, [*arguments, "--k", "1,2", "--out", str(out), "--markdown"], catch_exceptions=False)
    assert ran.exit_code == 0
    assert "3 passed, 2 failed, 0 timeout, 0 memory, 0 crash, 1 syntax" in ran.stdout
    result = json.loads(out.read_text())
    outcomes = {task: [one["outcome"] for one in own] for task, own in result["problems"].items()}
    assert outcomes == {"Mine/0": ["passed", "failed"], "Mbpp/7": ["passed", "failed"], "Mbpp/8": ["passed", "syntax"]}
    assert (result["pass@1"]["mean"], result["pass@2"]["mean"]) == (0.5, 1)
    assert result["sandbox"].startswith("bubblewrap")
    assert [path.name for path in tmp_path.iterdir() if "deep" in path.name] == [
        "deep.json"
    ]  # the partial file is gone


@pytest.mark.usefixtures("_bubblewrap")
def test_an_interrupted_evaluation_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    problems = code_eval.load_problems(
        write(tmp_path / "p.jsonl", [{**HUMANEVAL, "task_id": f"A/{i}"} for i in range(6)])
    )
    samples = [Sample(task, f"def f(x): return {i % 2 + 1} * x") for i, task in enumerate(problems)]
    whole, partial, stream = code_eval.evaluate(problems, samples), tmp_path / "partial", sandbox.stream
    asked: list[int] = []

    def interrupted(programs: Any, *args: Any, **named: Any) -> Any:
        asked.append(len(programs))
        for count, found in enumerate(stream(programs, *args, **named)):
            if len(asked) == 2 and count == 1:
                raise KeyboardInterrupt
            yield found

    monkeypatch.setattr(sandbox, "stream", interrupted)
    with pytest.raises(KeyboardInterrupt):
        code_eval.evaluate(problems, samples, partial=partial)
    with partial.open("a") as file:
        file.write('["cut off')
    resumed = code_eval.evaluate(problems, samples, partial=partial)
    assert asked == [1, 2, 1]  # one reference; six samples are two different programs, and one of them was done
    assert resumed["pass@1"] == whole["pass@1"]
    assert resumed["outcomes"] == whole["outcomes"] == {**whole["outcomes"], "passed": 3, "failed": 3}


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("def f(x):\n    return x", "def f(x):\n    return x"),
        ("```\na = 1\n```\n```python\ndef f(x): pass\n```", "def f(x): pass\n"),
        ("```py\na = 1\n```\n```\nb = 2\n```", "a = 1\n"),
        ("Cut off:\n```python\ndef f(x):\n    return", "def f(x):\n    return"),
        ("", ""),
    ],
)
def test_code_is_taken_out_of_an_answer(answer: str, code: str) -> None:
    assert extract(answer, "f").code == code


GOOD = [{"task_id": "Mine/0", "completion": ""}]


@pytest.mark.parametrize(
    ("problems", "samples", "more", "complaint"),
    [
        (["{"], GOOD, [], "line 1: not JSON"),
        ([HUMANEVAL, "[1]"], GOOD, [], "line 2: a JSON object is expected, not list"),
        ([""], GOOD, [], "is empty"),
        ([{"task_id": 1}], GOOD, [], "the field 'test_list' is missing"),
        ([{**HUMANEVAL, "prompt": 3}], GOOD, [], "the field 'prompt' is of type int"),
        ([{**HUMANEVAL, "prompt": "def f("}], GOOD, [], "does not parse"),
        ([{**HUMANEVAL, "test": "def check("}], GOOD, [], "the test of Mine/0 is no Python"),
        ([{**MBPP, "test_list": ["assert True"]}], GOOD, [], "call no function"),
        ([HUMANEVAL, HUMANEVAL], GOOD, [], "line 2: the task_id Mine/0 was given before"),
        ([HUMANEVAL, SANITISED], GOOD, [], "1 of 2 problems have no sample, the first of them Mbpp/8"),
        ([HUMANEVAL], [{"task_id": "Mine/1", "solution": ""}], [], "unknown task_id 'Mine/1': did you mean 'Mine/0'"),
        ([HUMANEVAL], [{"task_id": "Mine/0"}], [], "either a 'completion' or a 'solution'"),
        ([HUMANEVAL], [{"task_id": "Mine/0", "solution": None}], [], "the field 'solution' is of type NoneType"),
        ([HUMANEVAL], [{"completion": ""}], [], "the field 'task_id' is missing"),
        (
            [HUMANEVAL],
            GOOD,
            ["--k", "1,10"],
            "pass@10 needs k from 1 to the number of samples per problem: Mine/0 has 1",
        ),
        ([HUMANEVAL], GOOD, ["--k", "one"], "--k takes whole numbers"),
        ([HUMANEVAL], GOOD, ["--plus", "humanval"], "did you mean 'humaneval'"),
    ],
)
def test_bad_input_is_one_sentence(
    tmp_path: Path, problems: list[Any], samples: list[Any], more: list[str], complaint: str
) -> None:
    paths = str(write(tmp_path / "p.jsonl", problems)), str(write(tmp_path / "s.jsonl", samples))
    ran = CliRunner().invoke(app, ["code-eval", "--problems", paths[0], "--samples", paths[1], *more])
    assert isinstance(ran.exception, BadRequest)  # which `main` turns into exit code 2
    assert complaint in str(ran.exception)
    assert "\n" not in str(ran.exception)
    assert not list(tmp_path.glob("*results*"))


def test_missing_files_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="cannot read"):
        code_eval.load_problems(tmp_path / "none.jsonl")
    (tmp_path / "p.jsonl.gz").write_text("not gzipped")
    with pytest.raises(BadRequest, match="cannot read"):
        code_eval.load_problems(tmp_path / "p.jsonl.gz")


def test_evalplus_is_asked_for_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plus.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BadRequest, match=r"pip install 'labkit\[code\]'"):
        plus.find("mbpp")


@pytest.mark.usefixtures("_bubblewrap")
@pytest.mark.parametrize(
    ("name", "step", "count"),
    [
        ("humaneval/HumanEval.jsonl.gz", 1, 164),
        ("mbpp/sanitized-mbpp.json", 4, 107),
        pytest.param("mbpp/mbpp.jsonl", 1, 974, marks=pytest.mark.slow),  # one of them computes for 6 s
    ],
)
def test_canonical_solutions_pass(name: str, step: int, count: int) -> None:
    problems = dict(list(code_eval.load_problems(data(name)).items())[::step])
    result = code_eval.evaluate(problems, [Sample(task, problem.reference) for task, problem in problems.items()])
    assert result["outcomes"]["passed"] == len(problems) == count


@pytest.mark.slow
@pytest.mark.usefixtures("_bubblewrap")
def test_verdicts_agree_with_evalplus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten problems of HumanEval, each with its canonical solution and mutants of it, on the original tests."""
    pytest.importorskip("evalplus")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    ours = code_eval.load_problems(data("humaneval/HumanEval.jsonl.gz"))
    with gzip.open(data("evalplus/HumanEvalPlus-Mini.jsonl.gz"), "rt") as file:
        theirs = write(tmp_path / "plus.jsonl", file.read().splitlines()[40:50])
    problems = {task: ours[task] for task in plus.load_problems(plus.find("humaneval", theirs))}
    mutations = [("", ""), ("return", "return not"), ("<", ">"), ("0", "1"), ("+", "-"), ("==", "!=")]
    samples = [
        Sample(task, text[0] + text[1] + text[2].replace(*mutation) if mutation[0] else problem.reference)
        for task, problem in problems.items()
        for text in [problem.reference.rpartition('"""')]
        for mutation in mutations
    ] + [Sample(task, "def broken(") for task in problems]
    expected = plus.evaluate("humaneval", samples, theirs, workers=2)
    found = code_eval.evaluate(problems, samples)
    base = {task: [status == "pass" for status in one["base"]] for task, one in expected["problems"].items()}
    assert base == {task: [v["outcome"] == "passed" for v in own] for task, own in found["problems"].items()}
    assert found["pass@1"] == expected["base"]["pass@1"]
    assert 0.1 < found["pass@1"]["mean"] < 0.9
    assert expected["plus"]["pass@1"]["mean"] < expected["base"]["pass@1"]["mean"]  # two canonical ones fail there
