"""Paper scale, dry: every study's published sizes are built, trained for two steps and graded on the CPU."""

from typing import Any

import pytest

from labkit import studies
from labkit.lab import Store, sweep

FEW = {"seeds": [0], "steps": 2, "batch_size": 4}
RULES = {"budget": 2000, "test_rules": 4, "n_test": 4}
SHRUNK: dict[str, dict[str, Any]] = {  # what is cut is the number of examples and models, never a size
    "diversity_sweep": {**RULES, "n_instructions": [500], "noop_shares": [], "input_lengths": []},
    "long_tail": {**RULES, "n_instructions": [500], "alphas": [0.03]},
    "semantic_diversity": {**RULES, "n_instructions": [500], "k_ranges": [(3, 60)]},
    "abstraction": {"budget": 600, "test_rules": 4, "n_test": 4},
    "markov_programs": {"n_programs": [100], "n_beside": [100], "budget": 2000, "test_programs": 4, "n_test": 4},
    "input_variety": {**RULES, "n_instructions": [200], "variety": [[1, 5, 10, 15, 20]]},
}
# They start from a model of the hub; tests of their own take a local one in its place.
HUB = {"ability_growth", "code_mixing", "curriculum", "encrypted_rewriting"}
# No paper has them for small models: the large scale is our own.
OWN = {"ability_transfer", "automatic_curricula", "diversity_measures", "generalist_mix", "loss_weighting"}
OWN |= {"mix_finder", "selection", "which_teacher"}


def test_no_study_is_left_out() -> None:
    assert set(SHRUNK) | HUB | OWN == set(studies.every())


@pytest.mark.slow
@pytest.mark.parametrize("name", list(SHRUNK))
def test_the_paper_scale_runs_at_its_full_shapes(name: str, own_store: object) -> None:
    study = studies.find(name)
    params = study.resolve({"scale": "paper", **FEW, **SHRUNK[name]})
    assert (params.layers, params.width, params.heads, params.recipe) == (6, 256, 4, "paper")
    point = study.points(params)[0]
    (row,) = sweep([point], study.measure, jobs=0)
    assert 4_500_000 < row["parameters"] < 6_000_000  # GPT-2's blocks of this size, and its positions
    assert row["tokens"] == 2 * 4 * point.layout().length
    if name == "diversity_sweep":
        assert point.layout().length == 2 * 20 + 2 * 50 + 3


@pytest.mark.slow
def test_a_fleet_runs_at_the_papers_full_shapes(own_store: object) -> None:
    """How a GPU is to be filled: the fast recipe at the paper's sizes, several models at once."""
    study = studies.find("diversity_sweep")
    given = {"scale": "paper", "recipe": "fast", **FEW, **SHRUNK["diversity_sweep"], "n_instructions": [200, 500]}
    points = study.points(study.resolve(given))
    rows = sweep(points, study.measure, measure_many=study.measure_many, store=Store.default(), jobs=0, fleet=2)
    assert [row["fleet"] for row in rows] == [2, 2]
    assert all(row["tokens"] == 2 * 4 * 143 for row in rows)
