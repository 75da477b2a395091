"""Problems in the shapes in which people have them: understood, or refused or named before any program is failed."""

import gzip
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import needs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit import BadRequest
from labkit.grade import code_eval, problems, sandbox
from labkit.grade.code_eval import Sample, evaluate, load_problems, load_samples, parse_k, remarks
from labkit.grade.pass_at_k import pass_at_k
from labkit.grade.sandbox import Verdict

PROMPT = 'def twice(x):\n    """Two times x."""\n'
PROBLEM = {
    "task_id": "T/0",
    "prompt": PROMPT,
    "entry_point": "twice",
    "canonical_solution": "    return 2 * x\n",
    "test": "def check(candidate):\n    assert candidate(2) == 4\n",
}
MBPP = {
    "task_id": 5,
    "text": "Double.",
    "code": "def twice(x):\n    return 2 * x\n",
    "test_list": ["assert twice(2) == 4"],
}


@pytest.fixture
def _bubblewrap() -> None:
    needs.bubblewrap()


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


# Each test calls its function right and wrong: a right program passes, a wrong one fails.
TESTS = {
    "check": PROBLEM["test"],
    "check of another name": "def check_twice(candidate):\n    assert candidate(2) == 4\n",
    "check without an argument": "def check():\n    assert twice(2) == 4\n",
    "coroutine": "async def check(candidate):\n    assert candidate(2) == 4\n",
    "asserts": "for n in range(3):\n    assert twice(n) == n + n\n",
    "functions": "def test_small():\n    assert twice(1) == 2\n\ndef test_large():\n    assert twice(2) == 4\n",
    "unittest": "import unittest\n\nclass Twice(unittest.TestCase):\n    def setUp(self):\n        self.n = 2\n\n"
    "    def test_it(self):\n        self.assertEqual(twice(self.n), 4)\n\n"
    "if __name__ == '__main__':\n    unittest.main()\n",
    "own base": "from unittest import TestCase\nclass Base(TestCase):\n    pass\nclass Twice(Base):\n"
    "    def test_it(self):\n        self.assertEqual(twice(2), 4)\n",
    "script": str(PROBLEM["test"]) + "if __name__ == '__main__':\n    import pytest\n    pytest.main()\n",
    "guarded import": "try:\n    import numpy as np\nexcept ImportError:\n    np = None\n" + str(PROBLEM["test"]),
}
PROMPTS = {
    "docstring": (PROMPT, "    return 2 * x\n"),
    "signature": ("def twice(x):\n", "    return 2 * x\n"),
    "no line end": ("def twice(x):", "    y = x\n    return y + x\n"),
    "comment": ("def twice(x):\n    # two times x\n", "    return 2 * x\n"),
    "comment alone": ("# Write twice(x).\n", "def twice(x):\n    return 2 * x\n"),
    "nothing": ("", "def twice(x):\n    return 2 * x\n"),
    "decorated": ("import functools\n\n@functools.cache\ndef twice(x):\n", "    return 2 * x\n"),
    "several lines": ("def twice(\n    x,\n):\n\t# tabs\n", "\treturn 2 * x\n"),
    "a hole": ("def twice(x):\n    <FILL_ME>\n    return y\n", "y = 2 * x"),
    "a hole in a line": ("def twice(x):\n    return <FILL_ME> * x\n", "2"),
    "a hole in brackets": ("def twice(x):\n    y = [MASK]\n    return y\n", "2 * x"),
    "no hole": ('def twice(x):\n    """Fills nothing in.\n\n    <mask>\n    """\n', "    return 2 * x\n"),
    "two ends": ("<fim_prefix>def twice(x):\n    y = <fim_suffix>\n    return y\n<fim_middle>", "2 * x"),
}


@pytest.mark.usefixtures("_bubblewrap")
def test_every_shape_of_test_and_prompt_is_judged(tmp_path: Path) -> None:
    rows = [{**PROBLEM, "task_id": f"test/{name}", "test": test} for name, test in TESTS.items()]
    for name, (prompt, solution) in PROMPTS.items():
        rows.append({**PROBLEM, "task_id": f"prompt/{name}", "prompt": prompt, "canonical_solution": solution})
    rows.append({**PROBLEM, "task_id": "suffix", "prompt": "def twice(x):\n", "suffix": "    return y\n"})
    rows[-1]["canonical_solution"] = "    y = 2 * x\n"
    rows += [
        MBPP,
        {**MBPP, "task_id": 6, "code": "class twice:\n    def __init__(self, n):\n        self.n = 2 * n\n"},
    ]
    rows[-1]["test_list"] = ["assert twice(2).n == 4"]
    known = load_problems(write(tmp_path / "p.jsonl", *rows))
    completions = [{"task_id": r["task_id"], "completion": r["canonical_solution"]} for r in rows if "prompt" in r]
    right = load_samples(write(tmp_path / "s.jsonl", *completions), known)
    right += [Sample(task, problem.reference) for task, problem in known.items() if task.startswith("Mbpp")]
    wrong = [Sample(task, "def twice(x):\n    return 3\n") for task in known]
    result = evaluate(known, [*right, *wrong])
    assert result["not_scored"] == {}
    outcomes = {task: [one["outcome"] for one in own] for task, own in result["problems"].items()}
    assert outcomes == {task: ["passed", "failed"] for task in known}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            {"test": "import numpy as np\n" + TESTS["check"]},
            "its test imports numpy, .*standard library alone; .*--plus",
        ),
        ({"test": "def check(candidate):\n    from pandas.core import x\n"}, "its test imports pandas"),
        ({"test": "from solution import twice\nassert twice(2) == 4"}, "its test imports solution"),
        ({"prompt": "import torch\n" + PROMPT}, "its prompt imports torch"),
        ({"test": "def verify(one, two):\n    assert one == two\n"}, "defines no check"),
        ({"test": ""}, "defines no check"),
        ({"test": "def check(candidate, inputs):\n    pass\n"}, "wants more than the candidate: candidate, inputs"),
    ],
)
def test_a_test_that_cannot_run_here_is_named(tmp_path: Path, change: dict[str, str], reason: str) -> None:
    broken = {**PROBLEM, "task_id": "T/1"} | change
    known = load_problems(write(tmp_path / "p.jsonl", PROBLEM, broken))
    assert not known["T/0"].obstacle
    assert known["T/1"].obstacle
    with pytest.raises(BadRequest, match=rf"no problem can be judged here: T/1 \(.*{reason}"):
        load_problems(write(tmp_path / "p.jsonl", broken))


@pytest.mark.usefixtures("_bubblewrap")
def test_problems_that_fail_their_own_solution_are_named_and_not_scored(tmp_path: Path) -> None:
    rows = [
        PROBLEM,
        {**PROBLEM, "task_id": "wrong", "canonical_solution": "    return x\n"},
        {**PROBLEM, "task_id": "late", "test": "def check(candidate):\n    __import__('numpy')\n"},
        {**PROBLEM, "task_id": "none", "canonical_solution": None},
        {**PROBLEM, "task_id": "lacks", "test": "import pytest\n" + str(TESTS["check"])},
    ]
    known = load_problems(write(tmp_path / "p.jsonl", *rows))
    partial = tmp_path / "partial"
    result = evaluate(known, [Sample(task, "def twice(x): return x + x") for task in known], partial=partial)
    assert set(result["not_scored"]) == {"wrong", "late", "lacks"}
    assert set(result["problems"]) == {"T/0", "none"}
    assert result["unchecked"] == ["none"]
    assert result["pass@1"]["mean"] == 1
    assert result["outcomes"]["passed"] == 2
    said = "\n".join(remarks(result))
    assert "not scored: wrong: its own reference solution is not passed here, but failed: AssertionError" in said
    assert "3 of 5 problems not scored" in said
    assert "problems without a reference solution that their tests were tried on: 1 (none)" in said
    with pytest.raises(BadRequest, match=r"no problem can be judged here: wrong .* and 1 more"):
        evaluate({t: known[t] for t in ("wrong", "late")}, [Sample("wrong", ""), Sample("late", "")], partial=partial)


def test_what_cannot_be_judged_is_left_out_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def stream(programs: Any, *args: Any, **named: Any) -> Any:
        return ((n, Verdict(p.solution.split()[0], "told", 0.0)) for n, p in enumerate(programs))

    monkeypatch.setattr(sandbox, "stream", stream)
    monkeypatch.setattr(sandbox, "available", lambda unsafe: False)
    known = {name: problems.Problem(name, "", "f", "", "") for name in ("a", "b")}
    given = {"a": ["passed 1", "failed 1", "unjudged 1"], "b": ["unjudged 2", "unjudged 3", "unjudged 4"]}
    result = evaluate(known, [Sample(task, text) for task, own in given.items() for text in own], [1, 2, 3])
    assert (result["pass@1"]["mean"], result["pass@2"]["mean"], result["pass@3"]["mean"]) == (0.5, 1, None)
    assert result["pass@1"]["left_out"] == ["b"]
    assert result["pass@1"]["n_samples"] == 2
    assert result["outcomes"]["unjudged"] == 4
    said = "\n".join(remarks(result))
    assert "programs that cannot be judged here, left out of pass@k: 4, as told" in said
    assert "too few judged programs for pass@3, left out of it: 2 (a, b)" in said


@pytest.mark.parametrize(
    "value", [None, 3, 1.5, True, [], [None], {}, "\ud800", "", "x" * 40, "(" * 500, "-" * 20_000 + "1", "\0"]
)
@pytest.mark.parametrize("shape", [PROBLEM, MBPP])
def test_any_value_in_any_field_is_understood_or_one_sentence(
    tmp_path: Path, shape: dict[str, Any], value: Any
) -> None:
    more = ("suffix", "test_imports", "test_setup_code", "complete_prompt")
    for name in [*shape, *more]:
        path = write(tmp_path / "p.jsonl", {**shape, name: value})
        with suppress(BadRequest):
            load_problems(path)
            continue
        with pytest.raises(BadRequest, match=r"^[^\n]{1,500}\Z") as caught:
            load_problems(path)
        str(caught.value).encode()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"\xff\xfe{\x00", "not UTF-8 text"),
        (gzip.compress(b" " * 2000, mtime=0), "at most"),
        (gzip.compress(b"\n" * 2000, mtime=0), "blank lines"),
        (b"[" + b" " * 2000 + b"]", "at most"),
        (b'{"task_id": 1, "base_input": [], "plus_input": []}', "grade it with --plus"),
    ],
)
def test_files_are_bounded_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, complaint: str
) -> None:
    monkeypatch.setattr(problems, "LONGEST", 1000)
    monkeypatch.setattr(problems, "BLANK", 1000)
    (tmp_path / "p.jsonl").write_bytes(content)
    with pytest.raises(BadRequest, match=complaint):
        load_problems(tmp_path / "p.jsonl")


@pytest.mark.parametrize("pack", [lambda text: b"\xef\xbb\xbf" + text, gzip.compress, lambda text: b"\r\n\r\n" + text])
def test_marks_of_an_editor_and_a_packer_are_passed_over(tmp_path: Path, pack: Any) -> None:
    (tmp_path / "p.jsonl").write_bytes(pack(json.dumps(PROBLEM).encode()))
    assert list(load_problems(tmp_path / "p.jsonl")) == ["T/0"]
    (tmp_path / "p.jsonl").write_bytes(pack(json.dumps([PROBLEM], indent=1).encode()))
    assert list(load_problems(tmp_path / "p.jsonl")) == ["T/0"]


def test_a_sample_with_one_empty_kind_has_the_other(tmp_path: Path) -> None:
    rows = [{"task_id": "T/0", "completion": None, "solution": "a = 1"}]
    assert load_samples(write(tmp_path / "s.jsonl", *rows), {})[0].solution == "a = 1"


@pytest.mark.parametrize("text", ["²", "1,²", "9" * 5000, "", "1,,2", "0", "-1", "1.0", "٣", "1e3", "nan"])
def test_k_is_whole_numbers(text: str) -> None:
    with pytest.raises(BadRequest, match="--k takes whole numbers from 1") as caught:
        parse_k(text)
    assert len(str(caught.value)) < 150


def test_k_is_read() -> None:
    assert parse_k(" 1, 10,001,100") == [1, 10, 100]


NO_COUNTS = [float("nan"), float("inf"), 0.5, 1.25, "1", None, [1], object()]


@given(st.sampled_from(NO_COUNTS), st.sampled_from(["n", "c", "k"]))
def test_pass_at_k_takes_whole_numbers_alone(value: Any, place: str) -> None:
    counts: dict[str, Any] = {"n": [2, 2], "c": [1, 1], "k": 1} | {place: value if place == "k" else [2, value]}
    with pytest.raises(BadRequest, match=r"whole number|needs k from"):
        pass_at_k(**counts)
    with pytest.raises(BadRequest):
        pass_at_k([2], [-1], 1)


def test_the_program_of_an_answer_is_the_same_for_every_caller() -> None:
    problem = problems.Problem("T/0", "def twice(x):\n", "twice", "", "")
    pair = problems.Problem("T/1", "", "first", "assert first(Pair(1, 2)) == 1", "")
    both = "```\nclass Pair: pass\n```\n```\ndef first(pair): return pair.one\n```"
    assert code_eval.program(both, pair).code.startswith("class Pair: pass")  # which the test alone needs
    for answer in ("```\n    return 2 * x\n```", "```\ndef twice(x):\n    return 2 * x\n```", "return 2 * x"):
        names: dict[str, Any] = {}
        exec(code_eval.program(answer, problem).code, names)
        assert names["twice"](4) == 8


def test_a_raw_completion_may_repeat_its_prompt(tmp_path: Path) -> None:
    known = load_problems(write(tmp_path / "p.jsonl", {**PROBLEM, "prompt": "import math\ndef twice(x):\n"}))
    rows = [{"task_id": "T/0", "completion": text} for text in ("def twice(x):\n    return 2 * x\n", "    return\nif")]
    samples = load_samples(write(tmp_path / "s.jsonl", *rows), known)
    assert samples[0].solution == "import math\ndef twice(x):\n    return 2 * x\n"
    assert samples[1].solution == "import math\ndef twice(x):\n    return\nif"
