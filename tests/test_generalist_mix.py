"""Generalist mix: sets of one size that differ in diversity, exams with many right answers, and real data by name."""

import json
from pathlib import Path
from typing import Any

import needs
import numpy as np
import pytest
from public_exams import exam_folder, write
from tiny import tiny_llama

from labkit import BadRequest, studies
from labkit.instructions.demands import DEMANDS, KINDS, every
from labkit.instructions.written_exams import read
from labkit.lab import Store
from labkit.studies.cell import measure
from labkit.studies.generalist_mixes import SIZES, ordered, public

STUDY = studies.find("generalist_mix")


def test_sets_are_of_one_size_and_the_least_diverse_holds_every_kind() -> None:
    cells = STUDY.points(STUDY.resolve({"scale": "smoke", "seeds": [0]}))
    lessons = [cell.lesson() for cell in cells]
    assert {len(lesson.data) for lesson in lessons} == {64}
    for cell, lesson in zip(cells, lessons, strict=True):
        demanded = [one for one in lesson.data if one.source == DEMANDS.name]
        assert len(demanded) == 64 * (1 - cell.task.general_share)
        combinations = {one.instruction_id for one in demanded}
        assert len(combinations) == cell.task.variety == lesson.about["combinations"]
        assert {kind for one in combinations for kind in one.removeprefix("demands: ").split(" + ")} == set(KINDS)
        unseen = {one.instruction_id for one in lesson.exams["unseen"].data}
        assert not unseen & combinations
        assert len(unseen) == len(every("test", SIZES))


def test_arms_of_a_seed_sit_one_exam_and_grow_from_one_order() -> None:
    cells = STUDY.points(STUDY.resolve({"scale": "smoke", "seeds": [0, 1]}))
    asked = {(cell.seed, tuple(one.instruction for one in cell.lesson().exams["unseen"].data)) for cell in cells}
    assert len(asked) == 2
    assert sorted(ordered(0)) == sorted(every("train", SIZES))
    assert ordered(0) != ordered(1)


def test_whatever_meets_the_demands_is_right() -> None:
    (cell, *_) = STUDY.points(STUDY.resolve({"scale": "smoke", "seeds": [0]}))
    exam = cell.lesson().exams["unseen"]
    right = [one.output for one in exam.data]
    assert exam.judge(right)[""].all()
    assert not exam.judge(["" for _ in right])[""].any()
    sized = [exam.kinds[f"{size} demands"] for size in SIZES]
    assert np.array_equal(sized[0], ~sized[1])


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Real data by name: two sources, public exams, and a tiny model."""
    folder = exam_folder(tmp_path_factory.mktemp("data"))
    for name in ("one", "two"):
        records = [{"instruction": f"Say {name} {i}.", "input": "", "output": f"{name} {i}"} for i in range(20)]
        write(folder / f"{name}.jsonl", "".join(json.dumps(record) + "\n" for record in records))
    tuning = {"quantisation": "none", "rank": 2, "alpha": 2, "batch_size": 2, "max_length": 128, "overlong": "drop"}
    return {"scale": "real", "model": str(tiny_llama(tmp_path_factory.mktemp("llama"))), "data": str(folder),
            "sources": ["one.jsonl", "two.jsonl"], "exams": ["ifeval", "gsm8k", "bbh", "agieval"], "varieties": [1, 2],
            "budget": 8, "steps": 2, "seeds": [0], "n_test": 2, "new_tokens": 4, "tuning": tuning}  # fmt: skip


def test_real_data_go_the_same_way(real: dict[str, Any], tmp_path: Path) -> None:
    needs.package("langdetect")
    params = STUDY.resolve(real)
    cells, store = STUDY.points(params), Store(tmp_path)
    assert [{one.source for one in cell.lesson().data} for cell in cells] == [{"one"}, {"one", "two"}]
    rows = [store.measure(cell, measure) for cell in cells]
    assert {line["exam"] for line in rows[0]["graded"]} == {"ifeval", "gsm8k", "bbh", "agieval"}
    assert [row["variety"] for row in rows] == [1, 2]
    assert len(list((store.folder(cells[0])).glob("ifeval.jsonl"))) == 1  # answers are kept


def test_public_answers_are_graded_by_every_grading(real: dict[str, Any]) -> None:
    exam = public(read("bbh", Path(real["data"])))
    assert set(exam.kinds) == {"apples", "pears"}
    verdicts = exam.judge([f"The answer is {one.output}." for one in exam.data])
    assert (verdicts[""].sum(), verdicts["named"].sum()) == (0, 6)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"data": "/nowhere"}, "is no folder"),
        ({"sources": ["three.jsonl"]}, "three.jsonl is not there"),
        ({"varieties": [3]}, "asks for 3 sources, and there are 2"),
        ({"exams": ["ifevl"]}, "did you mean 'ifeval'"),
        ({"exams": []}, "needs sources to train on, and exams"),
        ({"model": "small", "varieties": [200]}, "there are 100 combinations to train"),
    ],
)
def test_refusals(real: dict[str, Any], change: dict[str, Any], said: str) -> None:
    with pytest.raises(BadRequest, match=said):
        STUDY.points(STUDY.resolve({**real, **change}))
