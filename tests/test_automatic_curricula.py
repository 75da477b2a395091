"""Automatic curricula: bandits on known rewards, a planted regret, and the whole study, small."""

import json
from collections import Counter
from typing import Any

import numpy as np
import pytest
from ability_rows import made

from labkit import studies
from labkit.design.bandits import BANDITS
from labkit.lab import Store
from labkit.studies.rows import long_rows
from labkit.studies.run import Run

STUDY = studies.find("automatic_curricula")


def params(**given: Any) -> Any:
    return STUDY.resolve({"scale": "smoke", **given})


def played(bandit: str, best: Any, rounds: int, seed: int) -> list[int]:
    """Which of three tasks a bandit chooses, where `best(round)` has the reward 1 and the others 0, with noise."""
    rng, chosen = np.random.default_rng([7, seed]), list[tuple[int, float]]()
    for number in range(rounds):
        task = BANDITS[bandit](chosen, 3, seed)
        chosen.append((task, float(task == best(number)) + rng.normal(0, 0.2)))
    return [task for task, _ in chosen]


@pytest.mark.parametrize("bandit", BANDITS)
def test_a_bandit_finds_the_best_task_and_follows_it_when_it_changes(bandit: str) -> None:
    counts, late = Counter[int](), Counter[int]()
    for seed in range(10):
        counts.update(played(bandit, lambda number: 2, 60, seed))
        late.update(played(bandit, lambda number: 2 if number < 40 else 0, 160, seed)[-60:])
    assert counts[2] > 0.45 * counts.total()
    assert late[0] > 0.4 * late.total()
    assert played(bandit, lambda number: 1, 20, 3) == played(bandit, lambda number: 1, 20, 3)


def runs(bandit: float, seeds: int = 4) -> Any:
    """The mix that favours role scores .7 and the others .5, the bandits as given."""
    scores = {"exp3": bandit, "thompson": bandit, "uniform": 0.5, "always:role": 0.7, "always:translation": 0.5}
    rows = [
        made("together", {"role": [score], "translation": [score]}, [64], seed=seed, arm=arm)
        | {"chosen": ["role", "translation"], "abilities": ["role", "translation"]}
        for seed in range(seeds)
        for arm, score in scores.items()
    ]
    return STUDY.summarise(long_rows(rows).assign(scored_by="likelihood"))


def test_a_planted_regret_is_found_and_none_where_there_is_none() -> None:
    for score in (0.5, 0.7):
        found = runs(score)
        json.dumps(found.as_dict(), allow_nan=False)
        found.chart("gains").to_dict()
        assert set(found.rows["mix"].dropna()) == {"always:role"}
        lines = {line["arm"]: line for line in found["gains"].lines("score")}
        assert lines["uniform"]["hi"] < 0
        assert (lines["exp3"]["hi"] < 0) == (score < 0.7)
        assert lines["exp3"]["lo"] <= score - 0.7 <= lines["exp3"]["hi"]
        assert lines["always:role"]["mean"] == 0


def test_the_whole_study_small(tmp_path_factory: Any) -> None:
    store, chosen = Store(tmp_path_factory.mktemp("store")), params(seeds=[0])
    found = Run(STUDY, chosen, store).measure(jobs=0)
    assert set(found.views()) == {"gains"}
    told = {arm: group["chosen"].iloc[0] for arm, group in found.rows.groupby("arm")}
    assert told["always:role"] == ["role"] * chosen.rounds
    assert told["uniform"] == ["uniform"] * chosen.rounds
    assert set(told["exp3"]) <= set(chosen.abilities)
    assert len(STUDY.tables["What the bandits chose"](found)) == 4
    log = [line for cell in STUDY.points(chosen) for line in store.log(cell.study, cell.address)]
    assert len(log) == len(STUDY.points(chosen)) * chosen.rounds
    assert {line["step"] for line in log} == {chosen.steps * (number + 1) for number in range(chosen.rounds)}


def test_all_arms_of_a_round_train_on_as_many_examples() -> None:
    from labkit.instructions import Example

    (cell, *_) = STUDY.points(params(seeds=[0]))
    pools = [[Example(str(i), "", "", name, "") for i in range(5)] for name in cell.abilities]
    for task in (None, 0, 2):
        found = Counter(example.source for example in cell._examples(pools, task, 1))
        assert cell.steps * cell.spec.batch_size - len(pools) < found.total() <= cell.steps * cell.spec.batch_size
        if task is not None:
            assert found[cell.abilities[task]] > found.total() / 2
