"""EvalPlus' inputs and rules on labkit's judge: no sample reaches a verdict but its own."""

import json
from pathlib import Path
from typing import Any

import needs
import pytest

from labkit.grade import plus
from labkit.grade.code_eval import Sample

FORGER = """
import json, os, sys, glob
for folder in ("/out", "/cache", "/tmp", ".", "/data", "/packages"):
    for name in ("samples_eval_results.json", "expected.jsonl"):
        try:
            open(os.path.join(folder, name), "w").write('{"eval": {}}')
        except OSError:
            pass
for module in [*sys.modules.values()]:
    try: module.compare = module.check = module.close = module.holds = lambda *a: True
    except Exception: pass
"""
ADD = {
    "task_id": "HumanEval/0",
    "prompt": "def add(a, b):\n",
    "entry_point": "add",
    "canonical_solution": "    return a + b\n",
}
MEAN = {
    "task_id": "HumanEval/1",
    "prompt": "def mean(xs):\n",
    "entry_point": "mean",
    "canonical_solution": "    return sum(xs) / len(xs)\n",
}
PROBLEMS: list[dict[str, Any]] = [
    {**ADD, "base_input": [[1, 2], ["a", "b"]], "plus_input": [[1 << 70, 1], [[1], [2]]], "atol": 0},
    {**MEAN, "base_input": [[[1, 2]]], "plus_input": [[[0.1, 0.2, 0.3]]], "atol": 1e-6},
]


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    pytest.importorskip("evalplus")
    needs.bubblewrap()
    folder = tmp_path_factory.mktemp("plus")
    path = folder / "problems.jsonl"
    path.write_text("\n".join(map(json.dumps, PROBLEMS)) + "\n")
    adds = ["return a + b", "return 3", "return a + b if isinstance(a, (int, str)) else None"]
    means = [
        "return sum(xs) / len(xs) + 1e-9",
        "import numpy as np\n    return np.mean(xs)",
        "return [sum(xs) / len(xs)]",
    ]
    samples = [Sample("HumanEval/0", f"def add(a, b):\n    {body}") for body in adds]
    samples += [Sample("HumanEval/0", FORGER + "def add(a, b): return None")]
    samples += [Sample("HumanEval/1", f"def mean(xs):\n    {body}") for body in means]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        return plus.evaluate("humaneval", samples, path, workers=2)


def test_base_and_plus_have_their_verdicts(graded: dict[str, Any]) -> None:
    add, mean = graded["problems"]["HumanEval/0"], graded["problems"]["HumanEval/1"]
    assert add["base"] == ["pass", "fail", "pass", "fail"]
    assert add["plus"] == ["pass", "fail", "fail", "fail"]
    assert mean["base"] == mean["plus"] == ["pass", "pass", "fail"]
    assert graded["plus"]["pass@1"]["mean"] == pytest.approx((1 / 4 + 2 / 3) / 2)


def test_the_comparison_is_evalplus(tmp_path: Path) -> None:
    """Of the judge's test, on values, beside the function that it stands for."""
    evalplus = pytest.importorskip("evalplus.eval")
    space: dict[str, Any] = {}
    exec(
        plus.TEST.format(inputs="", reference="", oracles="", entry="", rule="", atol=0)
        .rpartition("\ncheck(")[0]
        .replace("import copy, json, wire", ""),
        space,
    )
    values = [
        1,
        1.0,
        True,
        None,
        "a",
        [1.0, 2.0],
        [1.0, 2.0 + 1e-7],
        (1.0, 2.0),
        [],
        [[1.0], [2.0]],
        {1: 2},
        float("inf"),
    ]
    values += [float("nan"), 1.0 + 1e-8, [1, 2], [float("inf")], -1, ["a", 1.5]]
    for out in values:
        for expected in values:
            for atol in (0, 1e-6, 0.5):
                assert ours(space, out, expected, atol) == theirs(evalplus, out, expected, atol), (out, expected, atol)


def ours(space: dict[str, Any], out: Any, expected: Any, atol: float) -> bool:
    try:
        space["compare"](out, expected, [], "", 1e-6 if atol == 0 and space["is_floats"](expected) else atol)
    except Exception:
        return False
    return True


def theirs(evalplus: Any, out: Any, expected: Any, atol: float) -> bool:
    """The lines of `unsafe_execute` that compare."""
    exact = out == expected
    atol = 1e-6 if atol == 0 and evalplus.is_floats(expected) else atol
    try:
        if not exact and atol != 0:
            assert type(out) is type(expected)
            assert not isinstance(expected, list | tuple) or len(out) == len(expected)
            assert evalplus.np.allclose(out, expected, rtol=1e-07, atol=atol)
        else:
            assert exact
    except Exception:
        return False
    return True
