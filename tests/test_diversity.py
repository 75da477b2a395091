"""The diversity sweep: its design, what a measurement holds, and what is read off it."""

import json

import numpy as np
import pytest
from command import labkit
from fabricated import accuracies, model

from labkit import BadRequest, learn, show, studies
from labkit.design import allocate
from labkit.instructions import draw_rules
from labkit.lab import Store, sweep
from labkit.studies.diversity_sweep import STUDY
from labkit.studies.rewriting import task_of
from labkit.studies.rows import GRADED, long_rows
from labkit.studies.study import Results

QUICK = {"scale": "smoke", "n_instructions": [4, 40], "noop_shares": [], "seeds": [0], "steps": 10}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict], Store]:
    store = Store(tmp_path_factory.mktemp("store"))
    return sweep(STUDY.points(STUDY.resolve(QUICK)), STUDY.measure, store=store, jobs=0), store


def test_the_budget_is_met_exactly() -> None:
    for n in (1, 3, 7, 10, 999, 1000):
        counts = allocate(1000, n)
        assert counts.sum() == 1000
        assert counts.max() - counts.min() <= 1
    with pytest.raises(BadRequest, match="1 instructions would have none; at most 1000 work"):
        allocate(1000, 1001)


def test_an_uneven_budget_is_said() -> None:
    (note,) = STUDY.notes(STUDY.resolve({"n_instructions": [1000, 10_000]}))
    assert note.startswith("budget = 48000 is not a multiple of 10000 instructions: 8000 of them get 5 examples")


def test_examples_that_are_never_seen_are_said() -> None:
    (note,) = STUDY.notes(STUDY.resolve({"n_instructions": [1000], "steps": 100}))
    assert "41600 examples of each model are never seen" in note
    for scale in STUDY.scales:
        params = STUDY.resolve({"scale": scale})
        assert not any("never seen" in note for note in STUDY.notes(params))


def test_a_cell_holds_what_the_recipe_decides() -> None:
    """What is left to the recipe and what is set to the same are one cell; another version of the recipe is another."""
    plain, told = (STUDY.points(STUDY.resolve(given))[0] for given in ({}, {"learning_rate": 0.02, "expansion": 0}))
    assert plain.address == told.address
    assert (STUDY.resolve().learning_rate, STUDY.resolve().expansion) == (0.02, 0)
    assert (STUDY.resolve({"recipe": "paper"}).learning_rate, STUDY.resolve({"recipe": "paper"}).expansion) == (1e-3, 4)
    assert plain.address != plain.model_copy(update={"recipe_version": 99}).address
    one, mixed = (STUDY.points(STUDY.resolve({"occurrences": given}))[0] for given in (1, [1]))
    assert one.address == mixed.address


@pytest.mark.slow
def test_laptop_models_follow_unseen_rules_after_1000_but_not_after_30(own_store: object) -> None:
    params = STUDY.resolve({"n_instructions": [30, 1000], "noop_shares": [], "input_lengths": [], "seeds": [0]})
    many, few = sweep(STUDY.points(params), STUDY.measure)
    assert few["accuracy_seen"] >= 0.95
    assert many["accuracy_seen"] >= 0.95
    assert few["accuracy_unseen"] <= 0.05
    assert many["accuracy_unseen"] >= 0.90


def test_points_differ_in_instructions_and_seed_only() -> None:
    points = STUDY.points(
        STUDY.resolve({"n_instructions": [10, 1000], "noop_shares": [], "input_lengths": [], "seeds": [0, 1, 2]})
    )
    assert {(point.n_instructions, point.seed) for point in points} == {(n, s) for n in (10, 1000) for s in range(3)}
    rest = [point.model_dump(exclude={"n_instructions", "seed"}) for point in points]
    assert all(one == rest[0] for one in rest)


def test_scale_is_no_part_of_a_point() -> None:
    """A point is the same whatever scale asked for it, but for the promise that it is measured under."""
    smoke = STUDY.resolve({"scale": "smoke"})
    same = STUDY.resolve({**smoke.model_dump(), "scale": "laptop"})
    free = {"registration": ""}
    asked = [[p.model_copy(update=free).address for p in STUDY.points(params)] for params in (smoke, same)]
    assert asked[0] == asked[1]


def test_exams_share_nothing_with_training() -> None:
    cell = STUDY.points(STUDY.resolve({"n_instructions": [500], "seeds": [3]}))[0]
    data, exams, *_ = cell.lesson()
    p = cell.pattern_length
    halves = lambda tokens: {bytes(row) for row in np.concatenate([tokens[:, :p], tokens[:, p + 1 : 2 * p + 1]])}  # noqa: E731
    assert not halves(data.tokens) & halves(exams["unseen"].data.tokens)
    assert halves(exams["seen"].data.tokens) <= halves(data.tokens)
    fresh = {bytes(row) for row in exams["seen"].data.tokens} - {bytes(row) for row in data.tokens}
    assert len(fresh) > 0.9 * len(exams["seen"].data.tokens)


def test_seeds_test_on_one_set_of_rules_whatever_the_count() -> None:
    few, many = (STUDY.points(STUDY.resolve({"n_instructions": [n], "seeds": [1]}))[0] for n in (10, 1000))
    assert np.array_equal(few.lesson().exams["unseen"].data.tokens, many.lesson().exams["unseen"].data.tokens)
    task = task_of(few)
    assert np.array_equal(draw_rules(task, 10, seed=1).x, draw_rules(task, 1000, seed=1).x[:10])


def test_a_row_holds_what_the_contract_names(measured: tuple[list[dict], Store]) -> None:
    rows, store = measured
    for row in rows:
        for name in (
            "n_instructions",
            "examples_per_instruction",
            "seed",
            "steps",
            "tokens",
            "train_seconds",
            "n_test",
        ):
            assert name in row
        for name in ("seen", "unseen"):
            (line,) = [line for line in row[GRADED] if line["exam"] == name]
            assert sum(line["asked"]) == row["n_test"]
            assert sum(line["right"]) / row["n_test"] == row[f"accuracy_{name}"]
        assert row["examples_per_instruction"] == 600 / row["n_instructions"]
        assert row["tokens"] == row["steps"] * row["batch_size"] * 25
        assert len(store.log("diversity_sweep", row["address"])) == 10
        learn.load(store.find(row["address"]))
    for line in STUDY.summarise(long_rows(rows))["growth"].estimates.to_dict("records"):
        assert line["lo"] <= line["mean"] <= line["hi"]


def test_equal_seeds_give_equal_results(
    measured: tuple[list[dict], Store], tmp_path_factory: pytest.TempPathFactory
) -> None:
    again = sweep(
        STUDY.points(STUDY.resolve(QUICK)), STUDY.measure, store=Store(tmp_path_factory.mktemp("again")), jobs=0
    )
    for one, other in zip(measured[0], again, strict=True):
        timing = {"finished", "train_seconds"}
        assert {k: v for k, v in one.items() if k not in timing} == {k: v for k, v in other.items() if k not in timing}


def test_noops_are_graded_apart(own_store: object) -> None:
    params = STUDY.resolve({**QUICK, "n_instructions": [40], "noop_share": 0.25})
    row = accuracies(sweep(STUDY.points(params), STUDY.measure, jobs=0))
    for name in ("seen", "unseen"):
        assert 0.25 * row[f"{name}:noop"] + 0.75 * row[f"{name}:op"] == pytest.approx(row[name], abs=1e-6)


def test_noops_are_a_design_of_their_own() -> None:
    params = STUDY.resolve(
        {"n_instructions": [10, 300], "noop_shares": [0.1, 0.5], "noop_counts": [300], "noop_seeds": 1, "seeds": [4, 5]}
        | {"input_lengths": []}
    )
    cells = {(cell.noop_share, cell.n_instructions, cell.seed) for cell in STUDY.points(params)}
    assert cells == {(0.0, n, s) for n in (10, 300) for s in (4, 5)} | {(share, 300, 4) for share in (0.1, 0.5)}
    again = STUDY.resolve({**params.model_dump(), "noop_seeds": 2, "noop_shares": [0.0, 0.1]})
    assert len(STUDY.points(again)) == 4 + 2  # a share of none is the main design


def test_lengths_are_a_design_of_their_own() -> None:
    given = {"n_instructions": [10, 300], "noop_shares": [], "seeds": [4, 5], "length_counts": [300]}
    params = STUDY.resolve({**given, "input_lengths": [16, [20, 6]], "length_seeds": 1})
    cells = {(c.n_instructions, c.seed, c.input_length, c.pattern_length) for c in STUDY.points(params)}
    assert cells == {(n, s, 8, 3) for n in (10, 300) for s in (4, 5)} | {(300, 4, 16, 3), (300, 4, 20, 6)}
    usual = STUDY.resolve({**given, "input_lengths": [8, [8, 3]]})
    assert len(STUDY.points(usual)) == 4  # the usual length is the main design
    longest = STUDY.points(params)[-1].lesson()
    assert longest.data.tokens.shape[1] == 2 * 6 + 2 * 20 + 3


def test_a_longer_input_is_told_from_the_main_design() -> None:
    longer = fabricated({400: [0.2] * 2}, length=16)
    found = results([*with_noops({0.1: 0.9}), *longer])
    assert found["growth"].estimates.equals(results(fabricated(STEP))["growth"].estimates)
    assert found["no-ops"].estimates.equals(results(with_noops({0.1: 0.9}))["no-ops"].estimates)
    lines = found["lengths"].lines("unseen")
    assert [(line["n_instructions"], line["input_length"], line["seeds"]) for line in lines] == [
        (400, 8, 3),
        (400, 16, 2),
    ]
    assert "lengths" not in results(fabricated(STEP)).views()
    assert found.chart("lengths").to_dict()


def fabricated(
    by_count: dict[int, list[float]], seen: float = 1.0, share: float = 0.0, kinds: bool = False, length: int = 8
) -> list[dict]:
    """Models as a sweep would leave them, with the given unseen accuracies by number of instructions and seed."""
    rng, asked = np.random.default_rng(0), np.full(500, 4)
    models = []
    for n, by_seed in by_count.items():
        for seed, accuracy in enumerate(by_seed):
            unseen = rng.binomial(asked, accuracy), asked
            exams = {"unseen": unseen, "seen": ((asked * seen).astype(int), asked)}
            exams |= {"unseen:op": unseen, "unseen:noop": (asked, asked)} if kinds else {}
            models.append(
                model(
                    exams,
                    n_instructions=n,
                    seed=seed,
                    pattern_length=3,
                    noop_share=share,
                    input_length=length,
                    learned=seen >= 0.95,
                )
            )
    return models


def results(models: list[dict]) -> Results:
    return STUDY.summarise(long_rows(models))


def verdicts(models: list[dict]) -> list[str]:
    return [row["verdict"] for row in results(models).claims]


def with_noops(by_share: dict[float, float], seeds: int = 2) -> list[dict]:
    """A sweep, and models at 400 and 1,000 rules whose accuracy where x occurs is given by share."""
    mixed = [
        fabricated({n: [accuracy] * seeds for n in (400, 1000)}, share=share, kinds=True)
        for share, accuracy in by_share.items()
    ]
    return [*fabricated(STEP), *(one for models in mixed for one in models)]


STEP = {
    10: [0.0] * 3,
    100: [0.1, 0.2, 0.15],
    200: [0.6, 0.7, 0.65],
    400: [0.9] * 3,
    1000: [0.97] * 3,
    10_000: [0.98] * 3,
}


def test_the_share_of_noops_is_told_from_the_number_of_rules() -> None:
    found = results(with_noops({0.1: 0.9, 0.5: 0.3}))
    assert found["growth"].estimates.equals(results(fabricated(STEP))["growth"].estimates)
    lines = found["no-ops"].estimates.to_dict("records")
    assert {(line["noop_share"], line["n_instructions"]) for line in lines} == {
        (share, n) for share in (0.0, 0.1, 0.5) for n in (400, 1000)
    }
    assert all(line["mean"] == 1.0 for line in lines if line["exam"] == "unseen:noop")
    assert {row["published"]: row["verdict"] for row in found.claims[-2:]} == {
        "generalises from about 400 rules": "contradicts", "the share of no-ops hardly matters": "contradicts"
    }  # fmt: skip
    assert verdicts(with_noops({0.1: 0.9, 0.5: 0.9}))[-2] == "supports"
    assert verdicts(with_noops({0.1: 0.9, 0.5: 0.3}, seeds=1))[-2:] == ["cannot tell", "cannot tell"]
    assert '"50%"' in json.dumps(found.chart("no-ops").to_dict())
    assert len(found.table("no-ops")) == 6


def test_the_summary_has_the_promised_form_and_is_json() -> None:
    found = results(fabricated(STEP))
    again = json.loads(json.dumps(found.as_dict(), allow_nan=False))["growth"]
    curve = [line for line in again["estimates"] if line["exam"] == "unseen"]
    assert [line["n_instructions"] for line in curve] == sorted(STEP)
    assert all(line["lo"] <= line["mean"] <= line["hi"] for line in curve)
    low, high = again["fit"]["ci95"]
    assert low <= again["fit"]["midpoint"] <= high
    assert 100 < again["fit"]["midpoint"] < 400
    assert "half of the plateau is reached at about" in found.finding


def test_published_statements_are_met_or_contradicted_as_measured() -> None:
    rows = results(fabricated(STEP)).claims
    records = [*show.published("diversity_sweep"), *show.published("no_ops")]
    assert [row["published"] for row in rows] == [record["statement"] for record in records]
    # 200 rules already generalise here: a disagreement is said
    assert [row["verdict"] for row in rows] == ["contradicts", "contradicts", "supports", *["not tested here"] * 2]
    published = {10: 0.0, 300: 0.1, 400: 0.4, 500: 0.6, 1000: 0.98, 10_000: 0.98}
    two, one = ({n: [accuracy] * seeds for n, accuracy in published.items()} for seeds in (2, 1))
    assert verdicts(fabricated(two))[:3] == ["supports"] * 3
    assert verdicts(fabricated(one))[:3] == ["cannot tell"] * 3  # one seed decides nothing
    assert verdicts(fabricated({500: [0.5], 600: [0.6], 700: [0.6]}))[0] == "not tested here"


def test_runs_that_have_not_learned_are_said() -> None:
    found = results(fabricated(STEP, seen=0.5))
    assert "18 models have not learned their own training set" in found.finding
    assert all(row["not learned"] == 3 for row in found.table())


def test_no_transition_is_said() -> None:
    found = results(fabricated({10: [0.0], 100: [0.0], 1000: [0.1]}))
    assert found.fit("growth").numbers["midpoint"] is None
    assert found.finding.startswith("On unseen rules, no transition is located: accuracy never reaches 0.5")


def test_every_seed_is_in_the_chart() -> None:
    models = fabricated(STEP)
    spec = results(models).chart().to_dict()
    assert "300" in json.dumps(spec)
    assert [rows for rows in spec["datasets"].values() if len(rows) >= len(models)]


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"n_instruction": [10]}, "did you mean 'n_instructions'"),
        ({"scale": "labtop"}, "did you mean 'laptop'"),
        ({"steps": "many"}, "steps = 'many': input should be a valid integer"),
        ({"steps": 0}, "steps = 0: input should be greater than or equal to 1"),
        ({"seeds": []}, "seeds"),
        ({"seeds": [0, 0]}, "seeds = .* names a value twice"),
        ({"seeds": [-1]}, "a seed is 0 or more"),
        ({"n_instructions": [0]}, "n_instructions = 0"),
        ({"pattern_length": 9}, "pattern_length 9 does not fit into input_length 8"),
        ({"occurrences": 3}, "occurrences 3 .* use 2 at most"),
        ({"alphabet": "aab"}, "alphabet holds 'a' more than once"),
        ({"alphabet": "ab", "n_instructions": [1000]}, "n_instructions = 1000 is more than the .* rules"),
        ({"budget": 100, "n_instructions": [1000]}, "n_instructions = 1000 is more than budget = 100"),
        ({"heads": 3}, "heads = 3 does not divide width = 64"),
        ({"n_test": 10}, "n_test = 10 is fewer than one example"),
        ({"recipe": "slow"}, "recipe = 'slow': input should be 'fast', 'adamw' or 'paper'"),
        ({"noop_share": 1.5}, "noop_share = 1.5"),
        ({"noop_shares": [0.1, 1.5]}, "a share lies between 0 and 1"),
        ({"input_lengths": [2]}, "pattern_length 3 does not fit into input_length 2"),
        (
            {"input_lengths": [16], "length_counts": []},
            "length_counts = .*: input_lengths need a number of training rules",
        ),
        ({"length_counts": [10**6]}, "n_instructions = 1000000 is more than"),
        ({"noop_counts": [10**6]}, "n_instructions = 1000000 is more than"),
        ({"learning_rate": 0}, "learning_rate = 0"),
        ({"learning_rate": float("inf")}, "learning_rate = inf"),
        ({"seeds": [2**40]}, "a seed is 0 or more, and below 4294967296"),
        ({"alphabet": "abc="}, "must not hold '='"),
        ({"recipe": "paper", "expansion": 0}, "expansion = 0"),
    ],
)
def test_a_bad_request_is_one_sentence(given: dict, complaint: str) -> None:
    with pytest.raises(BadRequest, match=complaint) as refusal:
        STUDY.resolve(given)
    assert "\n" not in str(refusal.value)


def test_an_unknown_study() -> None:
    with pytest.raises(BadRequest, match="did you mean 'diversity_sweep'"):
        studies.find("diversity")


def test_a_search_trains_cells_of_the_grid_one_at_a_time() -> None:
    """So that what either has trained serves the other."""
    import pandas as pd

    from labkit.studies.diversity_sweep import STUDY, search

    grid = STUDY.points(STUDY.resolve({"scale": "laptop", "noop_shares": [], "input_lengths": []}))
    params = STUDY.resolve({"scale": "laptop", "search": 4})
    first = STUDY.points(params)
    assert {cell.n_instructions for cell in first} == {10, 10000}
    assert {cell.address for cell in first} < {cell.address for cell in grid}

    def rows(accuracies: dict[int, float]) -> pd.DataFrame:
        lines = [{"key": "unseen", "n_instructions": n, "right": [round(10 * share)] * 20, "asked": [10] * 20}
                 for n, share in accuracies.items()]  # fmt: skip
        return pd.DataFrame(lines)

    (second,) = search(params, rows({10: 0.0, 10000: 0.9}))
    assert second.n_instructions == 316
    assert second.seed == params.seeds[0]
    assert search(params, rows({10: 0.0, 10000: 0.1})) == []
    assert search(params, rows({10: 0.0, 100: 0.1, 316: 0.8, 10000: 0.9})) == []  # enough models


def test_a_search_is_asked_for_by_an_option() -> None:
    for study, number, says in (("long_tail", 5, "unknown parameter of long_tail 'search'"),
                                ("diversity_sweep", 3, "a search takes 4 models or more")):  # fmt: skip
        done = labkit("run", study, "--search", str(number))
        assert (done.returncode, done.stdout) == (2, "")
        assert says in done.stderr
