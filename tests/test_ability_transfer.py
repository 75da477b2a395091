"""Ability transfer: its design, effects that are there and found, and the whole study, small."""

import json
from typing import Any

import pytest
from ability_rows import SHAPES, made

from labkit import BadRequest, studies
from labkit.lab import Store
from labkit.studies.rows import long_rows
from labkit.studies.run import Run
from labkit.studies.study import Results

STUDY = studies.find("ability_transfer")


def params(**given: Any) -> Any:
    return STUDY.resolve({"scale": "smoke", **given})


def parts(seeds: int = 3, helps: float = 0.3, wider: float = 0.1) -> list[dict[str, Any]]:
    """Without `early`, `mid` loses; alone, each does itself some good; a wider model is better at all."""
    rows = []
    for seed in range(seeds):
        whole = {name: shape([256]) for name, shape in SHAPES.items()}
        rows.append(made("together", whole, [256], seed=seed, width=32))
        more = {name: [score + wider] for name, (score,) in whole.items()}
        rows.append(made("together", more, [256], seed=seed, width=64, arm="wider"))
        for arm in SHAPES:
            others = whole | ({"mid": [whole["mid"][0] - helps]} if arm == "early" else {})
            rows.append(made("without", others, [256], seed=seed, arm=arm, width=32))
            own = {name: [0.9 * (name == arm)] for name in SHAPES}
            rows.append(made("alone", own, [256], seed=seed, arm=arm, width=32))
    return rows


def results_of(points: list[dict[str, Any]]) -> Results:
    results = STUDY.summarise(long_rows(points).assign(scored_by="likelihood"))
    json.dumps(results.as_dict(), allow_nan=False)
    for view in results.views():
        results.chart(view).to_dict()
        assert results.table(view)
    assert results.finding
    return results


def discovered(results: Results, view: str) -> set[tuple[str, str]]:
    return {(c["source"], c["target"]) for c in results.fit(view).numbers["cells"] if c["discovered"]}


def test_a_transfer_that_is_there_is_discovered_and_no_other() -> None:
    results = results_of(parts())
    assert discovered(results, "without") == {("early", "mid")}
    (cell,) = (c for c in results.fit("without").numbers["cells"] if c["discovered"])
    assert cell["lo"] < 0.3 < cell["hi"]
    assert {(name, name) for name in SHAPES} <= discovered(results, "alone")


def test_a_wider_model_is_compared_with_the_narrowest() -> None:
    line = results_of(parts())["size gains"].line("score", ability="macro")
    assert line["width"] == 64
    assert line["lo"] < 0.1 < line["hi"]


def test_effects_of_one_seed_are_left_out() -> None:
    results = results_of(parts(seeds=1))
    assert "without" not in results.views()
    assert results.finding.startswith("Two seeds or more show an effect")


def test_only_what_a_cell_is_named_after_differs() -> None:
    cells = STUDY.points(params())
    assert {cell.steps for cell in cells} == {8}
    for cell in cells:
        taught = {"together": {*cell.abilities}, "without": {*cell.abilities} - {cell.arm}, "alone": {cell.arm}}
        assert cell.counts == {name: {"curated": 16} for name in taught[cell.design]}
        assert cell.spec.width == cell.spec.base.spec.width == cell.width
    assert {cell.width for cell in cells if cell.design != "together"} == {16}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"width": 64}, r"width = 64 is none of widths = \[16, 32\]"),
        ({"widths": [15, 16]}, "heads = 2 does not divide width = 15"),
        ({"abilities": ["rolle", "functions"]}, "unknown ability 'rolle': did you mean 'role'"),
    ],
)
def test_bad_parameters_are_one_sentence(given: dict[str, Any], says: str) -> None:
    with pytest.raises(BadRequest, match=says):
        params(**given)


def test_the_whole_study_small(tmp_path_factory: pytest.TempPathFactory) -> None:
    store = Store(tmp_path_factory.mktemp("store"))
    results = Run(STUDY, params(seeds=[0, 1]), store).measure(jobs=0)
    assert set(results.views()) == set(STUDY.views)
    assert len(results.claims) == len(results.published) > 0
    assert {line["ability"] for line in STUDY.tables["Each ability alone"](results)} == {*params().abilities}
