"""Plans: the paper's own designs to the example, budgets met exactly, and no allocation that beats the plan."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.design.plan import (
    Curves,
    Growth,
    allocate,
    baseline,
    maximum,
    mix_n,
    predict,
    reconstruct,
)
from labkit.errors import BadRequest

# what the authors' release holds to train on: its data sets' sizes less 200 or so for validation and test
FULL = {
    "biology": 1041,
    "history": 1893,
    "code": 4968,
    "creative_writing": 1000,
    "chinese": 1450,
    "understanding": 4885,
    "role_play": 1000,
    "reasoning": 12751,
    "math": 11501,
    "ethics": 1000,
}
AVAILABLE = {ability: {"curated": n, "synthetic": 4096} for ability, n in FULL.items()}


def totals(design):
    return {ability: sum(sources.values()) for ability, sources in design.items()}


def growth(plateau=0.8, pace=50.0, steepness=0.8, sudden=False, tried=1000, responds=True):
    return Growth(
        Curves.of({"plateau": plateau, "pace": pace, "steepness": steepness, "sudden": sudden}), tried, responds
    )


# the paper's designs


def test_baseline_is_a_thousand_of_each():
    assert totals(baseline(AVAILABLE)) == dict.fromkeys(FULL, 1000)
    uneven = totals(baseline(AVAILABLE, 1004))
    assert sum(uneven.values()) == 1004
    assert set(uneven.values()) == {100, 101}


def test_reconstruct_is_the_papers_ten_thousand():
    """The authors' make_data.py: 64, 64, 1,000, all of biology, 1,305 of the others, one more for the remainder."""
    counts = totals(reconstruct(AVAILABLE))
    assert sum(counts.values()) == 10_000
    assert (counts["ethics"], counts["role_play"], counts["creative_writing"]) == (64, 64, 1000)
    assert counts["biology"] == 1041
    others = sorted(counts[name] for name in ("history", "code", "chinese", "understanding", "reasoning", "math"))
    assert others == [1305, 1305, 1305, 1305, 1305, 1306]


def test_reconstruct_keeps_its_shares_at_another_budget():
    counts = totals(reconstruct(AVAILABLE, 1000))
    assert (counts["ethics"], counts["role_play"], counts["creative_writing"]) == (6, 6, 100)
    assert sum(counts.values()) == 1000


def test_maximum_is_all_there_is_of_what_is_not_small():
    counts = totals(maximum(AVAILABLE))
    assert counts == FULL | {"ethics": 64, "role_play": 64, "creative_writing": 1000}


@pytest.mark.parametrize("n", [0, 2560, 40960])
def test_mix_n_adds_n_synthetic_examples_evenly(n):
    design = mix_n(AVAILABLE, n)
    synthetic = [sources.get("synthetic", 0) for sources in design.values()]
    assert sum(synthetic) == n
    assert max(synthetic) - min(synthetic) <= 1
    assert {name: {"curated": sources["curated"]} for name, sources in design.items()} == maximum(AVAILABLE)


def test_a_source_that_runs_out_gives_all_it_has():
    few = {ability: {"curated": n, "synthetic": 10 if ability == "math" else 4096} for ability, n in FULL.items()}
    synthetic = {name: sources["synthetic"] for name, sources in mix_n(few, 1000).items()}
    assert synthetic["math"] == 10
    assert sum(synthetic.values()) == 1000
    assert max(synthetic.values()) == 110


# allocation


ABILITIES = st.lists(
    st.builds(
        growth,
        plateau=st.floats(0.05, 1),
        pace=st.floats(1, 2000),
        steepness=st.floats(0.3, 6),
        sudden=st.booleans(),
        responds=st.booleans(),
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=60, deadline=None)
@given(ABILITIES, st.data())
def test_the_budget_is_met_exactly_within_what_there_is(growths, data):
    fits = {f"ability {i}": growth for i, growth in enumerate(growths)}
    available = {name: data.draw(st.integers(1, 3000)) for name in fits}
    least = data.draw(st.integers(0, 5))
    floor = {name: min(least, there) for name, there in available.items()}
    budget = data.draw(st.integers(max(1, sum(floor.values())), sum(available.values())))
    plan = allocate(fits, budget, available=available, least=least)
    assert sum(plan.counts.values()) == sum(plan.against.values()) == budget
    assert all(floor[name] <= count <= available[name] for name, count in plan.counts.items())
    if budget <= sum(available[name] if fits[name].responds else floor[name] for name in fits):
        assert all(plan.counts[name] == floor[name] for name in fits if not fits[name].responds)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(0.2, 1), st.floats(3, 40), st.floats(0.3, 3)), min_size=3, max_size=3))
def test_no_allocation_is_better_where_curves_bend_one_way(parameters):
    """Against every allocation of 40 examples to three abilities."""
    # beyond its onset the saturating curve is concave; the least lies beyond it
    fits = {name: growth(a, pace, c) for name, (a, pace, c) in zip("abc", parameters, strict=True)}
    least = max(int(np.ceil(pace * 0.5 ** (1 / c))) for _, pace, c in parameters)
    budget = 3 * least + 40
    plan = allocate(fits, budget, available=dict.fromkeys("abc", budget), least=least)
    table = {name: fits[name].curves.at(np.arange(least, least + 41))[0] for name in "abc"}
    best = max(
        table["a"][i] + table["b"][j] + table["c"][40 - i - j]
        for i, j in itertools.product(range(41), repeat=2)
        if i + j <= 40
    )
    assert 3 * plan.planned.macro.value >= best - 0.002


def test_a_sudden_ability_gets_its_whole_rise_or_none():
    fits = {"steady": growth(0.8, 30, 1), "sudden": growth(0.9, 500, 12, sudden=True)}
    available = dict.fromkeys(fits, 2000)
    poor, rich = (allocate(fits, budget, available=available) for budget in (300, 1200))
    assert poor.counts["sudden"] == 1
    assert fits["sudden"].curves.at([rich.counts["sudden"]])[0, 0] > 0.8
    for budget in (300, 700, 1200):
        plan = allocate(fits, budget, available=available)
        tried = [
            np.mean([fits[name].curves.at([n])[0, 0] for name, n in (("steady", budget - n), ("sudden", n))])
            for n in range(1, budget)
        ]
        assert plan.planned.macro.value >= max(tried) - 0.005


def test_the_plan_follows_the_pace_and_beats_equal_parts():
    fits = {
        "early": growth(0.8, 10, 1.5),
        "late": growth(0.8, 400, 0.8),
        "resists": growth(0.02, 100, 1, responds=False),
    }
    plan = allocate(fits, 3000, available=dict.fromkeys(fits, 10_000), least=16)
    assert plan.counts["resists"] == 16
    assert plan.counts["late"] > 3 * plan.counts["early"]
    assert plan.against == dict.fromkeys(fits, 1000)
    assert plan.difference.macro.value > 0
    assert plan.extrapolated == ["late"]
    assert plan.compared == predict(fits, plan.against)


def test_predictions_are_written_down_with_intervals():
    rng = np.random.default_rng(0)
    draws = Curves(rng.uniform(0.6, 0.8, 400), rng.uniform(100, 300, 400), np.full(400, 0.8), np.zeros(400, bool))
    fits = {"a": Growth(draws, 1024), "b": Growth(draws._replace(pace=draws.pace / 20), 1024)}
    plan = allocate(fits, 800, available={"a": 5000, "b": 5000})
    record = json.loads(json.dumps(plan.as_dict()))
    lo, hi = record["difference"]["macro"]["ci95"]
    assert 0 < lo < record["difference"]["macro"]["value"] < hi
    assert set(record["planned"]["abilities"]) == {"a", "b"}
    again = Curves.of(json.loads(json.dumps(draws.as_dict())))
    assert again.at([50, 500]) == pytest.approx(draws.at([50, 500]), abs=1e-3)


def test_a_curve_is_chance_without_data_and_half_its_plateau_at_its_pace():
    curves = Curves(np.array([0.8, 0.6]), np.array([50.0, 200]), np.array([0.7, 5]), np.array([False, True]))
    assert np.diag(curves.at([50, 200])) == pytest.approx([0.4, 0.3])
    assert curves.at([0, 10**12]) == pytest.approx(np.array([[0, 0.8], [0, 0.6]]), abs=1e-4)
    assert (np.diff(curves.at(np.arange(1, 2000))) >= 0).all()


# refusals


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"budget": 5}, "a budget of 5 is too small: 4 for each of 2 abilities need 8"),
        ({"budget": 900}, "there are 700"),
        ({"budget": 0}, "cannot be met"),
        ({"available": {"a": 400, "c": 300}}, "unknown ability 'c'"),
        ({"available": {"a": 400}}, "how many examples there are of 'b'"),
        ({"against": {"a": 50}}, "leave out 'b'"),
        ({"against": {"a": 50, "b": 50, "bb": 1}}, "did you mean 'b'"),
    ],
)
def test_an_allocation_that_cannot_be_is_refused_in_one_sentence(change, said):
    request = {"budget": 100, "available": {"a": 400, "b": 300}} | change
    with pytest.raises(BadRequest, match=said) as refused:
        allocate({"a": growth(), "b": growth()}, least=4, **request)
    assert "\n" not in str(refused.value)


def test_designs_beyond_the_data_say_how_much_there_is():
    with pytest.raises(BadRequest, match="'biology' has 1041 examples from 'curated', not the 2000"):
        baseline(AVAILABLE, 20_000)
    with pytest.raises(BadRequest, match=f"there are {sum(totals(maximum(AVAILABLE)).values())}"):
        reconstruct(AVAILABLE, 60_000, at=60_000)
    with pytest.raises(BadRequest, match="there are 40960"):
        mix_n(AVAILABLE, 40_961)
    with pytest.raises(BadRequest, match="unknown ability 'ethic': did you mean 'ethics'"):
        maximum(AVAILABLE, small={"ethic": 64})
    with pytest.raises(BadRequest, match="'ethics' has 1000 examples from 'curated', not 2000"):
        maximum(AVAILABLE, small={"ethics": 2000})
    with pytest.raises(BadRequest, match="no examples from 'human'"):
        baseline(AVAILABLE, source="human")
    with pytest.raises(BadRequest, match="small counts alone"):
        reconstruct(AVAILABLE, 1000, at=1000)
    with pytest.raises(BadRequest, match="unknown ability"):
        predict({"a": growth()}, {"b": 3})
