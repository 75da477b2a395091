"""Measures of diversity: known answers, invariances, and the trial's training sets as their dials say."""

import needs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit import BadRequest, studies
from labkit.design import diversity
from labkit.design.diversity import MEASURES, Sample, measured, near_groups
from labkit.learn import embedded, embedders
from labkit.studies.correlated import correlations
from labkit.studies.diversity_measures import training_set

WORDS = [f"{verb} the {noun} {place}" for verb in ("sort", "count", "name", "draw") for noun in ("cats", "numbers")
         for place in ("by size", "in london", "backwards", "that are red")]  # fmt: skip
BY_USE = ("hill_1", "hill_2", "vendi", "clusters")


def orthogonal(n: int, counts: list[int] | None = None) -> Sample:
    return Sample([f"text {i}" for i in range(n)], np.eye(n, dtype=np.float32), np.array(counts or [1] * n))


def test_instructions_that_share_nothing_count_as_many_as_they_are() -> None:
    found = measured(orthogonal(30))
    assert found["distinct"] == 30
    assert found["vendi"] == pytest.approx(30)
    assert found["hill_1"] == pytest.approx(30)
    assert found["pairwise"] == pytest.approx(1)
    assert found["nearest"] == pytest.approx(1)
    assert found["log_det"] == pytest.approx(30 * np.log(2))


def test_the_vendi_score_is_the_entropy_of_the_kernel() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(40, 5))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    counts = rng.integers(1, 9, 40)
    weights = np.sqrt(counts / counts.sum())
    values = np.linalg.eigvalsh(weights[:, None] * (vectors @ vectors.T) * weights)
    values = values[values > 1e-12]
    own = Sample([str(i) for i in range(40)], vectors.astype(np.float32), counts)
    assert measured(own, ["vendi"])["vendi"] == pytest.approx(np.exp(-(values * np.log(values)).sum()), rel=1e-4)


def known(found: dict[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in found.items() if value is not None}


@given(st.lists(st.sampled_from(WORDS), min_size=1, max_size=60), st.randoms())
def test_the_order_of_a_set_does_not_matter(instructions: list[str], random: object) -> None:
    names = [name for name in MEASURES if name not in ("clusters", "compressed")]  # of which the order is a part
    lexical = lambda texts: embedders.embed(texts, "lexical")  # noqa: E731
    one = known(measured(diversity.sample(instructions, lexical), names))
    shuffled = list(instructions)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert known(measured(diversity.sample(shuffled, lexical), names)) == pytest.approx(one, rel=1e-3, abs=1e-4)


def test_one_instruction_over_and_over_lowers_what_goes_by_use() -> None:
    vectors = embedders.embed(WORDS, "lexical")
    even, uneven = (Sample(WORDS, vectors, np.array([1] * 31 + [last])) for last in (1, 500))
    before, after = measured(even), measured(uneven)
    assert all(after[name] < before[name] for name in BY_USE)  # type: ignore[operator]
    assert all(after[name] == before[name] for name in MEASURES if name not in BY_USE and name != "log_det")


def test_near_copies_are_groups_and_others_are_not() -> None:
    texts = ["Write a short poem about the sea in winter.", "write a short poem about  the sea in winter",
             "Write a short poem about the sea in the winter.", "Give three tips for staying healthy.",
             "hi", ""]  # fmt: skip
    groups = near_groups(texts)
    assert len(set(groups[:3])) == 1
    assert len(set(groups)) == 4


def test_too_few_instructions_have_no_number() -> None:
    found = measured(orthogonal(3))
    assert {name for name, value in found.items() if value is None} == {n for n, m in MEASURES.items() if m.least > 3}
    assert found["vendi"] is None
    with pytest.raises(BadRequest, match="without instructions"):
        measured(orthogonal(0))


def test_an_embedder_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadRequest, match="unknown embedder, nor folder of one, 'minilmm': did you mean 'minilm'"):
        embedders.embed(["a"], "minilmm")
    monkeypatch.setattr(embedded, "shipped", lambda _: None)
    embedders._table.cache_clear()
    with pytest.raises(BadRequest, match="the embedder 'wordllama' is not installed: make models"):
        embedders.embed(["a"], "wordllama")
    assert embedders.here() == ["lexical"]


def test_a_folder_without_a_model_is_no_embedder(tmp_path: object) -> None:
    with pytest.raises(BadRequest, match="no folder of a sentence transformer"):
        embedders.embed(["a"], str(tmp_path))


def test_families_lie_together_far_above_chance() -> None:
    share, chance, n = embedders.trust("lexical", 10)
    assert share > 0.5 > 5 * chance
    assert n > 100


@pytest.mark.parametrize("name", ["wordllama", "minilm"])
def test_installed_embedders_know_what_is_meant(name: str) -> None:
    needs.packaged(name)
    same, other, empty = "How do I cook rice?", "Best way to boil rice", ""
    vectors = embedders.embed([same, other, "Translate this into French", empty], name)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2
    assert np.allclose(np.linalg.norm(vectors[:3], axis=1), 1, atol=1e-5)


def test_training_sets_are_what_their_dials_say() -> None:
    study = studies.find("diversity_measures")
    params = study.resolve({"scale": "laptop", "seeds": [1000]})
    for cell in study.points(params):
        own = training_set(cell)
        n, p = cell.n_instructions, cell.pattern_length
        both = np.concatenate([own.rules.x, own.rules.y], axis=1)
        assert len(np.unique(both, axis=0)) == n == len(own.counts)
        assert own.counts.sum() == cell.budget
        assert len(np.unique(both)) <= cell.letters
        narrow = (both[:, : p // 2] == both[:, p // 2 : p]).all(axis=1).sum()
        asked = round(cell.narrow * (n - min(round(cell.copies * n), n - 1)))
        assert narrow >= asked
        assert (training_set(cell).rules.x == own.rules.x).all()


def test_dials_take_their_values_equally_often() -> None:
    study = studies.find("diversity_measures")
    params = study.resolve({"scale": "laptop"})
    cells = study.points(params)
    assert len(cells) >= 60
    for name, values in (("letters", params.letters), ("narrow", params.narrow), ("copies", params.copies)):
        counts = [sum(getattr(cell, name) == value for cell in cells) for value in values]
        assert max(counts) == min(counts)


def test_correlations_are_scipys() -> None:
    from scipy.stats import spearmanr

    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 9, 40).astype(float), rng.normal(size=40)
    draws = np.vstack([np.arange(40), rng.integers(40, size=(3, 40))])
    expected = [spearmanr(one[draw], other[draw]).statistic for draw in draws]
    assert correlations(one, other, draws) == pytest.approx(expected)
    one[3] = np.nan
    kept = np.delete(np.arange(40), 3)
    assert correlations(one, other, kept[None]) == pytest.approx([spearmanr(one[kept], other[kept]).statistic])


@pytest.mark.parametrize(("given", "says"), [
    ({"sizes": [50, 20]}, "they rise"), ({"copies": [1.0]}, "below 1"), ({"letters": [3]}, "narrow rules"),
    ({"pattern_length": 3}, "even number"),
])  # fmt: skip
def test_bad_settings_are_one_sentence(given: dict[str, object], says: str) -> None:
    with pytest.raises(BadRequest, match=says):
        studies.find("diversity_measures").resolve({"scale": "smoke", **given})


def test_rounding_decides_no_cluster() -> None:
    """Rules of few letters have many vectors just between two centres; another processor rounds otherwise."""
    study = studies.find("diversity_measures")
    cell = next(cell for cell in study.points(study.resolve({"scale": "laptop"})) if cell.n_instructions > 300)
    own = training_set(cell)
    vectors = embedders.embed([str(own.rules.rule(i)) for i in range(len(own.rules))], "lexical").astype(np.float64)
    rounded = vectors * (1 + np.random.default_rng(0).normal(0, 2e-16, vectors.shape))
    assert np.array_equal(diversity.regions(vectors, 64)[0], diversity.regions(rounded, 64)[0])
