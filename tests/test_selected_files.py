"""Selection on real data: every method trains a fine-tuned model at equal compute, and all are asked the same."""

import json
from pathlib import Path
from typing import Any

import pytest
from tiny import tiny_llama

from labkit import BadRequest, studies
from labkit.design.selection import METHODS, TRAINED
from labkit.lab import Store
from labkit.studies.cell import measure
from labkit.studies.selection import WORDS

STUDY = studies.find("selection")


def records(path: Path, n: int, what: str) -> str:
    lines = [{"instruction": f"Say {what} {i}.", "input": "", "output": f"{what} {what} {i}"} for i in range(n)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A pool, a target and a tiny model, at settings of real scale but for sizes."""
    folder = tmp_path_factory.mktemp("data")
    tuning = {"quantisation": "none", "rank": 2, "alpha": 2, "batch_size": 2, "accumulation": 2, "max_length": 128,
              "overlong": "drop"}  # fmt: skip
    return {"scale": "real", "model": str(tiny_llama(tmp_path_factory.mktemp("llama"), width=16)), "tuning": tuning,
            "corpus": records(folder / "pool.jsonl", 40, "one"), "target": records(folder / "aim.jsonl", 12, "two"),
            "arms": list(METHODS), "data": {"pool": 24, "aims": 3}, "budget": 6, "batch_size": 4, "embedder": "lexical",
            "steps": 16, "task": {"n_test": 5}}  # fmt: skip


def test_every_method_spends_the_same_and_is_asked_the_same(real: dict[str, Any], tmp_path: Path) -> None:
    params = STUDY.resolve(real)
    cells, store = STUDY.points(params), Store(tmp_path)
    assert [cell.arm for cell in cells] == list(METHODS)
    for cell in cells:
        left = TRAINED * params.steps * params.batch_size - (cell.spent + TRAINED * cell.steps * params.batch_size)
        assert 0 <= left < TRAINED * params.batch_size  # what is left is less than a step
    rows = [store.measure(cell, measure) for cell in cells]
    found = STUDY.summarise(studies.rows.long_rows(rows), scale="real")
    assert found.views() == ["followed"]
    assert {line["arm"] for line in found["followed"].lines("answers_followed")} == set(METHODS) - {"random"}
    assert {len(row["graded"][0]["asked"]) for row in rows} == {5}
    assert len({str(row["graded"][0]["asked"]) for row in rows}) == 1
    assert "longest" in found.finding
    by = {row["method"]: row for row in STUDY.tables["What each method chose"](found)}
    letters = {method: row["letters per answer"] for method, row in by.items()}
    assert letters[WORDS["longest"]] == max(letters.values())


def test_the_exam_is_no_part_of_what_says_what_is_asked_for(real: dict[str, Any]) -> None:
    cell = STUDY.points(STUDY.resolve(real))[0]
    learner = cell.spec.make(0, None)
    aim, exam = cell.files.asked(learner, cell.n_test)
    assert len(aim) == 3
    assert not {one.instruction for one in aim} & {one.instruction for one in exam.parts[0]}
    first, again = (cell.files.pool(learner, 0) for _ in range(2))
    assert first == again != cell.files.pool(learner, 1)


def test_what_the_target_holds_is_not_in_the_pool(real: dict[str, Any], tmp_path: Path) -> None:
    words = " ".join(f"word{i}" for i in range(30))
    for name, n in (("pool", 30), ("aim", 12)):
        path = tmp_path / f"{name}.jsonl"
        records(path, n, name)
        line = json.dumps({"instruction": words, "input": "", "output": "yes"})
        path.write_text(path.read_text() + f"{line}\n")
    given = {
        "corpus": str(tmp_path / "pool.jsonl"),
        "target": str(tmp_path / "aim.jsonl"),
        "data": {"pool": 30, "aims": 3},
    }
    cell = STUDY.points(STUDY.resolve(real | given | {"arms": ["random", "longest"]}))[0]
    assert words not in {one.instruction for one in cell.files.pool(cell.spec.make(0, None), 0)}


@pytest.mark.parametrize(("change", "says"), [
    ({"corpus": ""}, "needs a corpus to choose from, and a file as target"),
    ({"target": ""}, "needs a corpus to choose from, and a file as target"),
    ({"target": "dolly"}, "needs a corpus to choose from, and a file as target"),
    ({"data": {"pool": 24, "aims": 12}}, r"aims = 12, n_test = 5: .* gives 12 questions that fit"),
    ({"data": {"pool": 60, "aims": 3}, "steps": 40}, r"pool = 60, but .* gives 40 records that fit"),
    ({"tuning": {"steps": 3}}, "tuning sets 'steps', which is a parameter of its own"),
    ({"tuning": {"model": "other"}}, "tuning sets 'model', which is a parameter of its own"),
    ({"target": "/no/file.jsonl"}, "/no/file.jsonl is neither a corpus"),
    ({"arms": ["random", "known"]}, "arms holds 'known', and of real data nobody knows"),
    ({"batch_size": 8, "steps": 8}, "batch_size = 8, but by tuning a step takes 4 examples"),
    ({"steps": 2}, "forward passes, all of steps = 2: raise steps"),
    ({"embedder": "nosuch"}, "nor folder of one, 'nosuch'"),
])  # fmt: skip
def test_refusals(real: dict[str, Any], change: dict[str, Any], says: str) -> None:
    with pytest.raises(BadRequest, match=says):
        STUDY.points(STUDY.resolve({**real, **change}))


def test_a_pool_that_is_all_of_the_target_is_said(real: dict[str, Any]) -> None:
    with pytest.raises(BadRequest, match=r"pool = 24, but .* gives 0 records that fit"):
        STUDY.points(STUDY.resolve({**real, "target": real["corpus"]}))


def test_files_are_found_from_where_they_are_named(real: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook runs in another folder than who names them."""
    monkeypatch.chdir(Path(real["corpus"]).parent)
    params = STUDY.resolve({**real, "corpus": "pool.jsonl", "target": "aim.jsonl"})
    assert (params.corpus, params.target) == (real["corpus"], real["target"])
