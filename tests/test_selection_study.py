"""The study of selection: pools of which everything is known, equal compute, planted gains, and all of it, small."""

import json
from typing import Any

import numpy as np
import pytest
from ability_rows import made

from labkit import BadRequest, studies
from labkit.design.selection import METHODS, TRAINED
from labkit.lab import Store
from labkit.studies.rows import long_rows
from labkit.studies.run import Run

STUDY = studies.find("selection")


def params(**given: Any) -> Any:
    return STUDY.resolve({"scale": "smoke", **given})


def test_a_pool_is_what_its_shares_say() -> None:
    (cell, *_) = STUDY.points(params(pool=200, steps=60, seeds=[1000]))
    pool, told = cell.pool.made(cell.spec, cell.seed), cell.pool
    assert len(pool) == told.size == 200
    assert sum(known.copied for known in pool) == round(told.copies * 200)
    own = [known for known in pool if not known.copied]
    assert sum(known.on_target for known in own) == pytest.approx(told.on_target * len(own), abs=2)
    assert sum(not known.right for known in own) == pytest.approx(told.wrong * len(own), abs=20)
    for known in pool:
        assert known.on_target == (known.example.source in told.target)
        assert known.right == (known.example.output == known.task.example.output)
    questions = {(known.example.instruction, known.example.input) for known in own}
    assert len(questions) == len(own)
    aims = [example for part in told.aim(cell.spec, cell.seed) for example in part]
    assert len(aims) == told.aims * len(told.target)
    assert not questions & {(example.instruction, example.input) for example in aims}
    assert pool == cell.pool.made(cell.spec, cell.seed)
    asked = {q.example.instruction_id for exam in cell.task.exams(cell.spec, cell.seed, cell.abilities, 10)
             for q in exam.questions}  # fmt: skip
    assert not asked & {known.example.instruction_id for known in pool if known.on_target}


@pytest.mark.parametrize("scale", ["smoke", "laptop"])
def test_all_arms_spend_the_same(scale: str) -> None:
    chosen = STUDY.resolve({"scale": scale})
    whole = TRAINED * chosen.steps * chosen.batch_size
    for cell in STUDY.points(chosen):
        spent = cell.spent + TRAINED * cell.steps * chosen.batch_size
        assert whole - TRAINED * chosen.batch_size < spent <= whole  # less than a step is left over
        assert (cell.steps == chosen.steps) == (cell.spent == 0)
        assert (cell.spent > 0) == (cell.arm in METHODS and METHODS[cell.arm].needs == "model")


def runs(gain: float, seeds: int = 4) -> Any:
    """The representation's model scores so much above all others."""
    about = {"on target": 0.5, "wrong": 0.2}
    rows = [
        made("together", {"role": [0.4 + gain * (arm == "representation")]}, [64], seed=seed, arm=arm)
        | {"chosen": about, "selecting": 0.0, "steps": 9}
        for seed in range(seeds)
        for arm in ("random", "representation", "known")
    ]  # fmt: skip
    return STUDY.summarise(long_rows(rows).assign(scored_by="likelihood"))


def test_a_planted_gain_is_found_and_none_where_there_is_none() -> None:
    for gain in (0.0, 0.3):
        found = runs(gain)
        json.dumps(found.as_dict(), allow_nan=False)
        found.chart("gains").to_dict()
        line = found["gains"].line("score", arm="representation")
        assert line["lo"] <= gain <= line["hi"]
        assert (line["lo"] > 0) == (gain > 0)
        assert len(STUDY.tables["What each method chose"](found)) == 3


def test_the_whole_study_small(tmp_path_factory: Any) -> None:
    store, chosen = Store(tmp_path_factory.mktemp("store")), params(seeds=[0])
    found = Run(STUDY, chosen, store).measure(jobs=0)
    assert set(found.views()) == {"gains"}
    told = {arm: dict(group["chosen"].iloc[0]) for arm, group in found.rows.groupby("arm")}
    assert set(told) == set(chosen.arms)
    assert (told["known"]["on target"], told["known"]["wrong"], told["known"]["different"]) == (1, 0, 1)
    assert told["quality"]["wrong"] < told["random"]["wrong"] + 0.2
    assert told["longest"]["letters per answer"] == max(one["letters per answer"] for one in told.values())
    with np.load(next(store.root.glob("selection_scores/points/*/scores.npz"))) as scores:
        assert set(scores) == {"loss", "ifd", "mfd", "gradient", "representation"}
        assert all(np.isfinite(scores[name]).all() for name in scores if name != "mfd")
        assert len(scores["loss"]) == chosen.pool


@pytest.mark.parametrize(("given", "says"), [
    ({"arms": ["random", "lost"]}, "unknown arm 'lost': did you mean 'loss'"),
    ({"arms": ["loss", "known"]}, "'random' is what the others are compared with"),
    ({"budget": 60}, "a budget of 60 of 60 records"),
    ({"steps": 2}, "forward passes, all of steps = 2"),
    ({"others": ["role"]}, "'role' is of the target and of the others"),
    ({"embedder": "minilmm"}, "unknown embedder"),
    ({"on_target": 1.0}, "less than 1"),
])  # fmt: skip
def test_bad_settings_are_one_sentence(given: dict[str, Any], says: str) -> None:
    with pytest.raises(BadRequest, match=says):
        STUDY.points(params(**given))
