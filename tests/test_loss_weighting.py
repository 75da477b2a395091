"""Loss weighting: its design, differences that are there and found, and the whole study, small."""

import json
from typing import Any

from ability_rows import SHAPES, made

from labkit import studies
from labkit.lab import Store
from labkit.studies.rows import long_rows
from labkit.studies.run import Run

STUDY = studies.find("loss_weighting")
PIECES = dict(zip(SHAPES, range(2, 2 + len(SHAPES)), strict=True))  # the first abilities have the shortest answers
SHORT = list(SHAPES)[: len(SHAPES) // 2]


def params(**given: Any) -> Any:
    return STUDY.resolve({"scale": "smoke", **given})


def models(gain: float, seeds: int = 3) -> list[dict[str, Any]]:
    """Abilities with short answers gain by the mean over examples, the others lose as much."""
    rows = []
    for seed in range(seeds):
        token = {name: [0.5] for name in SHAPES}
        example = {name: [0.5 + (gain if name in SHORT else -gain)] for name in SHAPES}
        for arm, scores in {"token": token, "example": example}.items():
            rows.append(made("together", scores, [256], seed=seed, arm=arm) | {"answer_pieces": PIECES})
    return rows


def test_a_difference_between_the_halves_is_found_and_none_where_there_is_none() -> None:
    for gain in (0.2, 0.0):
        rows = long_rows(models(gain)).assign(scored_by="likelihood", baseline="token")
        results = STUDY.summarise(rows)
        json.dumps(results.as_dict(), allow_nan=False)
        results.chart("gains").to_dict()
        shorter, longer = (results["gains"].line("score", ability=f"{half} answers") for half in ("shorter", "longer"))
        assert shorter["lo"] <= gain <= shorter["hi"]
        assert longer["lo"] <= -gain <= longer["hi"]
        assert (shorter["lo"] > 0) == (longer["hi"] < 0) == (gain > 0)
        (claim,) = results.claims
        assert claim["verdict"] == ("supports" if gain else "cannot tell")


def test_the_baseline_is_what_the_parameters_say() -> None:
    rows = long_rows(models(0.2)).assign(scored_by="likelihood", baseline="example")
    results = STUDY.summarise(rows)
    assert results["gains"].line("score", ability="shorter answers")["hi"] < 0
    assert results.finding.startswith("A mean over tokens, less a mean over examples")


def test_models_of_a_seed_differ_in_nothing_but_the_loss() -> None:
    cells = STUDY.points(params())
    assert {(cell.arm, cell.spec.loss) for cell in cells} == {("token", "token"), ("example", "example")}
    one = {"arm": "", "spec": cells[0].spec}
    alike = [cell.model_copy(update=one) for cell in cells]
    assert len({cell.address for cell in alike}) == len(params().seeds)


def test_the_whole_study_small(tmp_path_factory: Any) -> None:
    store = Store(tmp_path_factory.mktemp("store"))
    results = Run(STUDY, params(), store).measure(jobs=0)
    assert set(results.views()) == {"gains"}
    weights = STUDY.tables["The weight of each ability in the loss"](results)
    assert (
        sum(line["weight, mean over tokens"] for line in weights) == 1
        or abs(sum(line["weight, mean over tokens"] for line in weights) - 1) < 0.01
    )
    assert weights[-1]["ability"] == "functions"  # the longest answers
