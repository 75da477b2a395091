"""The long tail: exact budgets by a power law, what they amount to, and the study that trains on them."""

import json

import numpy as np
import pytest
from fabricated import around, estimates, model, verdicts
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from labkit import BadRequest
from labkit.design import allocate, allocate_long_tail, hill_number, shares
from labkit.lab import sweep
from labkit.studies.long_tail import EFFECTIVE, STUDY
from labkit.studies.rows import long_rows

ALPHAS = st.one_of(st.just("uniform"), st.floats(0.02, 5))


def test_a_tiny_alpha_is_still_an_allocation() -> None:
    counts = allocate_long_tail(48_000, 10_000, 1e-9, floor=1)
    assert counts.sum() == 48_000
    assert (counts.min(), counts.max()) == (1, 38_001)


@given(st.integers(1, 60), st.integers(0, 3000), ALPHAS, st.sampled_from(["weight", "rank"]), st.integers(1, 3))
def test_the_budget_is_met_exactly_and_no_rule_is_left_out(
    n: int, more: int, alpha: float, law: str, floor: int
) -> None:
    budget = n * floor + more
    counts = allocate_long_tail(budget, n, alpha, law=law, floor=floor)
    assert counts.sum() == budget
    assert counts.min() >= floor
    assert (np.diff(counts) <= 0).all()
    assert np.abs(counts - floor - shares(n, alpha, law) * more).max() <= 1 + 1e-9


@pytest.mark.parametrize("alpha", [2.0, 0.5, 0.1])
def test_the_laws_are_what_they_say(alpha: float) -> None:
    """Weights: their distribution function at u is u^alpha; ranks: a bin holds the density's integral."""
    weights = shares(100_000, alpha, "weight")
    u = weights / weights[0]
    for at in (0.2, 0.5, 0.9):
        assert (u <= at).mean() == pytest.approx(at**alpha, abs=1e-3)
    bins = shares(5, alpha, "rank")
    density = lambda u: alpha * u ** (alpha - 1)  # noqa: E731
    masses = [quad(density, i / 5, (i + 1) / 5)[0] for i in range(5)]
    assert bins == pytest.approx(sorted(masses, reverse=True), rel=1e-4)


def test_uniform_is_the_even_split() -> None:
    for law, alpha in (("weight", "uniform"), ("rank", "uniform"), ("rank", 1)):
        assert np.array_equal(allocate_long_tail(1003, 10, alpha, law=law), allocate(1003, 10))
    assert shares(50, 1e9, "weight") == pytest.approx(np.full(50, 1 / 50))


def test_a_rule_without_examples_is_refused_with_what_would_work() -> None:
    with pytest.raises(BadRequest) as refusal:
        allocate_long_tail(1000, 500, 0.1)
    words = str(refusal.value).split()
    empty, works = int(words[4]), int(words[words.index("most") + 1])
    assert "alpha = 0.1 leaves" in str(refusal.value)
    wanted = shares(500, 0.1) * 1000
    assert empty == pytest.approx((wanted < 0.5).sum(), abs=10)
    assert allocate_long_tail(1000, works, 0.1).min() >= 1
    with pytest.raises(BadRequest):
        allocate_long_tail(1000, works + 1, 0.1)


def test_hill_numbers_count_what_they_should() -> None:
    for order in (0, 1, 2):
        assert hill_number([7] * 12, order) == pytest.approx(12)
        assert hill_number([7] * 12 + [0] * 5, order) == pytest.approx(12)
    counts = allocate_long_tail(10_000, 100, 0.3, floor=1)
    zero, one, two = (hill_number(counts, order) for order in (0, 1, 2))
    assert 100 == zero > one > two > 1
    p = counts / counts.sum()
    assert two == pytest.approx(1 / (p**2).sum())
    large = shares(10**6, 0.2)  # weights u = q^(1/alpha): the ratio of moments in closed form
    assert hill_number(large, 2) / 10**6 == pytest.approx(0.2 * 2.2 / 1.2**2, rel=1e-3)


def test_a_lesson_holds_the_allocation() -> None:
    cell = STUDY.points(STUDY.resolve({"scale": "smoke", "n_instructions": [20], "alphas": [0.3], "even": []}))[0]
    lesson = cell.lesson()
    counts = allocate_long_tail(cell.budget, 20, 0.3, floor=1)
    rules = {}
    for row in lesson.data.tokens:
        rules[bytes(row[:7])] = rules.get(bytes(row[:7]), 0) + 1
    assert sorted(rules.values(), reverse=True) == counts.tolist()
    asked = np.bincount(lesson.exams["seen"].instruction, minlength=20)
    assert np.abs(asked / asked.sum() - counts / counts.sum()).max() < 0.02  # as often as in training
    assert set(lesson.exams["rare"].instruction) == set(range(10, 20))
    assert (lesson.about["most_frequent"], lesson.about["rarest"]) == (counts[0], counts[-1])


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"floor": 0}, r"leaves \d+ of \d+ rules without examples at budget = 48000: at most \d+ rules work"),
        ({"floor": 10**30}, "floor = .* is more than budget = 48000: a floor of 1"),
        ({"floor": 5, "n_instructions": [10_000]}, "at most 9600 rules work"),
        ({"alphas": [0]}, "alpha = 0.0: a power law needs a number above 0, or 'uniform'"),
        ({"alphas": ["even"]}, "alphas"),
        ({"alphas": [0.1, 0.1]}, "names a value twice"),
        ({"law": "zipf"}, "law = 'zipf': input should be 'weight' or 'rank'"),
        ({"occurrences": 3}, "use 2 at most"),
        ({"threshold": 0}, "threshold = 0"),
    ],
)
def test_a_bad_request_is_one_sentence(given: dict, complaint: str) -> None:
    with pytest.raises(BadRequest, match=complaint) as refusal:
        STUDY.resolve(given)
    assert "\n" not in str(refusal.value)


def test_even_sets_come_beside_the_others_once() -> None:
    params = STUDY.resolve({"n_instructions": [300], "alphas": ["uniform", 0.1], "even": [300, 100], "seeds": [7]})
    assert [(cell.n_instructions, cell.alpha) for cell in STUDY.points(params)] == [
        (300, "uniform"), (300, 0.1), (100, "uniform"),
    ]  # fmt: skip


def test_it_runs_and_says_what_it_found(own_store: object) -> None:
    params = STUDY.resolve({"scale": "smoke", "steps": 5})
    results = STUDY.summarise(long_rows(sweep(STUDY.points(params), STUDY.measure, jobs=0)))
    json.dumps(results.as_dict(), allow_nan=False)
    lines = results["sets"].lines("unseen")
    assert {(line["n_instructions"], line["alpha"]) for line in lines} == {
        (200, "uniform"), (200, "0.1"), (20, "uniform"), (20, "0.1"), (50, "uniform"),
    }  # fmt: skip
    even = results.rows[(results.rows["n_instructions"] == 200) & (results.rows["alpha"] == "uniform")].iloc[0]
    assert {name: even[name] for name in EFFECTIVE} == {
        name: pytest.approx(200 if "5" not in name else 0) for name in EFFECTIVE
    }
    assert "have not learned their own training set" in results.finding
    assert {row["verdict"] for row in results.claims} == {"not tested here"}
    for view in results.views():
        assert results.chart(view).to_dict()
    assert len(results.table("sets")) == 5
    assert "floor = 1 gives each one" in STUDY.notes(params)[-1]
    assert STUDY.notes(params)[0].startswith("a threshold is 167 rules here (diversity sweep, laptop scale")


def test_sizes_are_told_in_thresholds() -> None:
    """1,000 rules of the paper, whose step is near 447, are as many thresholds as 373 of ours at a threshold of 167."""
    asked = np.full(50, 4)
    sizes = {373: "373 rules (2.2 thresholds)", 10_000: "10,000 rules (59.9 thresholds)"}
    cells = STUDY.points(
        STUDY.resolve({"n_instructions": list(sizes), "alphas": ["uniform", 0.1], "even": [], "seeds": [0, 1]})
    )
    right = {"uniform": asked, 0.1: asked // 4}
    models = [model({"unseen": (right[c.alpha], asked), "seen": (asked, asked), "rare": (asked, asked)},
                    **c.model_dump(), most_frequent=1, median=1, rarest=1) for c in cells]  # fmt: skip
    told = STUDY.summarise(long_rows(models).assign(threshold=167))
    lines = {line["n_instructions"]: line for line in told["sets"].lines("unseen")}
    assert {n: line["size"] for n, line in lines.items()} == sizes
    assert set(told.rows["paper_size"]) == {999, 26_779}
    assert [row["verdict"] for row in told.claims] == ["supports", "contradicts"]
    assert "373 rules (2.2 thresholds)" in told.finding
    plain = STUDY.summarise(long_rows(models))
    assert set(plain["sets"].estimates["size"]) == {"373 rules", "10,000 rules"}
    assert {row["verdict"] for row in plain.claims} == {"not tested here"}


def test_the_count_that_decides_is_found() -> None:
    """Where accuracy is made to hang on the rules with two examples or more, that count explains it best."""
    params = STUDY.resolve(
        {"n_instructions": [300, 1000, 3000], "alphas": ["uniform", 0.3, 0.1, 0.03], "seeds": [0, 1]}
    )
    rng, models, asked = np.random.default_rng(0), [], np.full(500, 4)
    for cell in STUDY.points(params):
        counts = allocate_long_tail(cell.budget, cell.n_instructions, cell.alpha, floor=1)
        accuracy = 0.95 / (1 + (150 / (counts >= 2).sum()) ** 2)
        exams = {name: (rng.binomial(asked, accuracy), asked) for name in ("unseen", "seen", "rare")}
        models.append(model(exams, **cell.model_dump(), most_frequent=counts[0], median=1, rarest=1))
    results = STUDY.summarise(long_rows(models))
    best = results.fit("worth").numbers["best"]
    assert best == "rules with 2 examples or more"
    (line,) = [line for line in results["worth"].estimates.to_dict("records") if line["number"] == best]
    assert line["mean"] > 0.98
    assert line["lo"] <= line["mean"] <= line["hi"]
    assert line["fit"]["ci95"][0] < 150 < line["fit"]["ci95"][1]
    assert len(results.table("worth")) == len(EFFECTIVE)


def test_a_collapse_is_told_from_robustness() -> None:
    def cell(n: int, alpha: str, unseen: float, wide: float = 0.05) -> dict:
        place = 4.0 if alpha == "uniform" else float(alpha)
        at = {"exam": "unseen", "n_instructions": n, "size": f"{n} rules", "paper_size": n}
        return at | {"alpha": alpha, "place": place, **around(unseen, wide)}

    def judge(few: dict, many: dict, even: float = 0.9) -> list[str]:
        cells = [cell(1000, "uniform", even), few, cell(10_000, "uniform", even), many]
        return verdicts(STUDY, {"sets": estimates(*cells)})

    assert judge(cell(1000, "0.1", 0.2), cell(10_000, "0.1", 0.8)) == ["supports"] * 2
    assert judge(cell(1000, "0.1", 0.8), cell(10_000, "0.1", 0.1)) == ["contradicts"] * 2
    assert judge(cell(1000, "0.1", 0.4, 0.2), cell(10_000, "0.1", 0.4, 0.2)) == ["cannot tell"] * 2
    assert judge(cell(1000, "0.1", 0.0), cell(10_000, "0.1", 0.0), even=0.0) == ["not tested here"] * 2
