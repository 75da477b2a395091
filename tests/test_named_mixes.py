"""The paper's own mixes, to the example; budgets met exactly, and what cannot be met refused."""

import pytest

from labkit.design.named_mixes import baseline, maximum, mix_n, reconstruct
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


# refusals


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
