"""Automatic curricula: bandits on known rewards, a planted regret, and the whole study, small."""

import json
from collections import Counter
from typing import Any

import numpy as np
import pytest
from ability_rows import made

from labkit import studies
from labkit.design import scorer
from labkit.design.bandits import BANDITS
from labkit.lab import Store
from labkit.studies import foretelling
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
    assert len(STUDY.tables["What was chosen"](found)) == 6
    assert [line["task"] for line in STUDY.tables["How well the scorer foretells"](found)] == chosen.abilities
    cells = [*STUDY.points(chosen), *STUDY.stages[0](chosen, found.rows)]
    assert cells[-1].arm == "learned"
    assert cells[-1].address in set(found.rows["address"])
    log = [line for cell in cells for line in store.log(cell.study, cell.address)]
    assert len(log) == len(cells) * chosen.rounds
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


def fixed(losses: Any, seeds: int = 2) -> Any:
    """Rows of the fixed mixes of two tasks, whose losses are made by `losses(task, share)`: a list over rounds."""
    rows = []
    for seed in range(seeds):
        for arm, shares in {"uniform": (0.5, 0.5), "always:role": (0.75, 0.25), "always:dates": (0.25, 0.75)}.items():
            both = [losses(task, share) for task, share in enumerate(shares)]
            row = made("together", {"role": [0.5], "dates": [0.5]}, [64], seed=seed, arm=arm)
            rows.append(row | {"losses": np.transpose(both).tolist(), "abilities": ["role", "dates"], "chosen": []})
    return long_rows(rows)


def halved(pace: float, rounds: int = 12) -> Any:
    """A loss that falls by `pace` x share of itself in each round."""
    return lambda task, share: [(2.0 + task) * (1 - pace * share) ** number for number in range(rounds + 1)]


def test_a_scorer_foretells_a_task_that_it_never_saw() -> None:
    rounds = foretelling.fixed_rounds(fixed(halved(0.3)))
    weights = foretelling.scorers(rounds)
    for told in rounds:
        own = weights[told.seed, told.task]
        assert np.corrcoef(scorer.foretold(own, told.rounds), told.rounds.falls)[0, 1] > 0.98
        high, low = (scorer.worth(own, scorer.shown([loss], 12)) for loss in (2.0, 0.5))
        assert high > low


def test_a_scorer_knows_nothing_of_its_own_task_nor_of_its_own_seed() -> None:
    rows = fixed(halved(0.3))
    other = fixed(lambda task, share: halved(0.3 if task == 0 else 0.9)(task, share))
    both = rows.assign(losses=np.where(rows["seed"] == 1, rows["losses"], other["losses"]))
    before, after = (foretelling.scorers(foretelling.fixed_rounds(some)) for some in (rows, both))
    assert after[1, "dates"] == before[1, "dates"], "the task that changed, judged by the other one"
    assert (after[0, "role"], after[0, "dates"]) == (before[0, "role"], before[0, "dates"]), (
        "by the seed that is the same"
    )
    assert after[1, "role"] != before[1, "role"]


def test_the_scorer_takes_the_task_that_is_worth_most() -> None:
    (cell, *_) = STUDY.points(params(seeds=[0]))
    wants_loss = (0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    chooses = cell.model_copy(update={"arm": "learned", "weights": (wants_loss,) * 3})
    assert chooses._choice([], [[1.0, 3.0, 2.0]]) == 1
    assert chooses._choice([(1, 1.0)], [[1.0, 3.0, 2.0], [1.0, 1.5, 2.0]]) == 2
