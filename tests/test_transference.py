"""Which ability helps which: found where it does, rarely where nothing does, refused where nothing pairs up."""

import json

import numpy as np
import pytest

from labkit.errors import BadRequest
from labkit.grade.transference import leave_one_in, leave_one_out

NAMES = [f"ability {i}" for i in range(10)]


def runs(level, thresholds, rng, noise):
    """One recipe's scores: each seed's model a little off its level, the questions with their own difficulties."""
    return [(threshold < level + rng.normal(0, noise)).astype(float) for threshold in thresholds]


def study(rng, effects=None, names=NAMES, seeds=3, problems=150, noise=0.03):
    thresholds = {name: [rng.uniform(size=problems) for _ in range(seeds)] for name in names}
    together = {name: runs(0.6, thresholds[name], rng, noise) for name in names}
    without = {
        source: {
            name: runs(0.6 - (effects or {}).get((source, name), 0), thresholds[name], rng, noise)
            for name in names
            if name != source
        }
        for source in names
    }
    return together, without


def effects_of(matrix):
    return {(cell.source, cell.target): cell.effect for cell in matrix.cells}


def test_without_effects_as_many_cells_are_outright_as_chance_has_it_and_few_are_discoveries():
    rng = np.random.default_rng(0)
    found = [leave_one_out(*study(rng), draws=200) for _ in range(12)]
    assert found[0].expected_by_chance == pytest.approx(4.5)
    assert np.mean([matrix.outright for matrix in found]) <= 6
    assert np.mean([bool(matrix.discovered) for matrix in found]) <= 0.2


def test_a_strong_effect_is_discovered_with_its_sign_and_covered():
    rng = np.random.default_rng(1)
    effects = {("ability 0", "ability 1"): 0.3, ("ability 2", "ability 3"): -0.3}
    covered, hits = [], 0
    for _ in range(8):
        found = leave_one_out(*study(rng, effects), draws=200)
        of = {(cell.source, cell.target): cell for cell in found.cells}
        covered += [of[pair].lo <= effect <= of[pair].hi for pair, effect in effects.items()]
        hits += sum(of[pair].discovered for pair in effects)
        assert of["ability 0", "ability 1"].effect > 0 > of["ability 2", "ability 3"].effect
        assert not any(source == target for source, target in of)
    assert hits >= 14
    assert np.mean(covered) >= 0.9


def test_leave_one_in_has_the_other_sign_and_a_diagonal_where_the_base_is_untrained():
    rng = np.random.default_rng(2)
    base, added = study(rng, {(source, "ability 0"): -0.2 for source in NAMES}, seeds=4)
    added["ability 0"]["ability 0"] = [np.ones_like(row) for row in base["ability 0"]]
    found = leave_one_in(base, added, draws=200)
    effects = effects_of(found)
    assert effects["ability 0", "ability 0"] > effects["ability 1", "ability 0"] > 0
    gain = found.received["ability 0"]
    assert gain.value == pytest.approx(np.mean([effects[source, "ability 0"] for source in NAMES[1:]]))
    assert gain.lo < 0.2 < gain.hi
    assert gain.lo > 0
    mirrored = leave_one_out(base, added, draws=200)
    assert effects_of(mirrored) == pytest.approx({pair: -effect for pair, effect in effects.items()})


def test_the_interval_holds_the_effect_and_its_p_agrees_with_it():
    found = leave_one_out(*study(np.random.default_rng(3)), draws=200)
    for cell in found.cells:
        assert cell.lo < cell.effect < cell.hi
        assert 0 <= cell.p <= 1
        if cell.lo > 0 or cell.hi < 0:
            assert cell.p < 0.05


def test_no_cell_has_zero_width_where_all_score_alike():
    ones = {name: [np.ones(30)] * 3 for name in NAMES[:3]}
    found = leave_one_out(ones, {NAMES[0]: ones}, draws=200)
    assert all(cell.lo < 0 < cell.hi and cell.p == 1 for cell in found.cells)
    assert found.outright == len(found.discovered) == 0


def test_the_record_is_json():
    out = json.loads(json.dumps(leave_one_out(*study(np.random.default_rng(4), names=NAMES[:3]), draws=200).as_dict()))
    assert len(out["cells"]) == 6
    assert set(out["received"]) == set(NAMES[:3])
    assert out["seeds"] == 3


@pytest.mark.parametrize(
    ("arms", "said"),
    [
        ({"b": {"a": [np.ones(5)] * 2}}, "same seeds, two or more: there are 2 and 3"),
        ({"b": {"a": [np.ones(4)] * 3}}, "one score for each question"),
        ({"b": {"aa": [np.ones(5)] * 3}}, "unknown ability 'aa'"),
        ({"c": {"a": [np.ones(5)] * 3}}, "unknown ability 'c'"),
        ({}, "at least one pair"),
    ],
)
def test_studies_that_do_not_pair_up_are_refused(arms, said):
    with pytest.raises(BadRequest, match=said):
        leave_one_out({"a": [np.ones(5)] * 3, "b": [np.ones(5)] * 3}, arms)


def test_one_seed_is_refused():
    with pytest.raises(BadRequest, match="two or more"):
        leave_one_in({"a": [np.ones(5)], "b": [np.ones(5)]}, {"b": {"a": [np.ones(5)]}})
