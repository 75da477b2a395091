"""Constrained rule spaces, the semantic-diversity study, and the heat map that shows it."""

import re

import numpy as np
import pytest
from fabricated import model
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit import BadRequest, learn, show
from labkit.instructions import RewritingTask, decode, draw_inputs
from labkit.instructions.spaces import (
    KINDS,
    UNCONSTRAINED,
    Space,
    belongs,
    belongs_plain,
    capacity,
    divisors,
    draw_space_rules,
    mixture,
    shares,
)
from labkit.lab import Store, sweep
from labkit.show.heat_map import heat_map
from labkit.studies.rows import long_rows
from labkit.studies.semantic_diversity import COLUMNS, STUDY

TASK = RewritingTask(12, 14)
LETTERS = TASK.alphabet
QUICK = {"scale": "smoke", "steps": 8, "n_instructions": [40]}


def texts(codes: np.ndarray) -> list[str]:
    return [decode(row, LETTERS) for row in codes]


# The spaces


@pytest.mark.parametrize(
    ("text", "kind", "k"),
    [("aaabbbccc", "repeated", 3), ("abcabc", "periodic", 2), ("abccbaabc", "mirror", 3), ("abccba", "mirror", 2)],
)
def test_the_papers_examples_belong_to_their_space_and_to_no_other(text: str, kind: str, k: int) -> None:
    codes = np.array([[LETTERS.index(letter) for letter in text]], np.uint8)
    inside = {space for space in mixture(KINDS, divisors(len(text), 2)) if belongs(space, codes)}
    assert inside == {(kind, k)}
    assert all(belongs_plain(space, text) == (space in inside) for space in mixture(KINDS, divisors(len(text), 2)))


@given(st.sampled_from(KINDS), st.sampled_from(divisors(12)), st.integers(2, 3), st.integers(0, 2**32), st.booleans())
@settings(max_examples=60, deadline=None)
def test_belonging_is_what_the_plain_oracle_says(kind: str, k: int, symbols: int, seed: int, near: bool) -> None:
    rng = np.random.default_rng(seed)
    strings = rng.integers(symbols, size=(50, 12), dtype=np.uint8)
    if near:  # half of them in some space, one letter changed in some of these
        few = RewritingTask(12, 14, alphabet="abcdef")
        strings[:25] = draw_space_rules(few, [Space(kind, 4)], 25, seed=seed % 1000).rules.x
        strings[:12, rng.integers(12)] = 0
    space = Space(kind, k)
    assert belongs(space, strings).tolist() == [belongs_plain(space, text) for text in texts(strings)]


@pytest.mark.parametrize("space", mixture(KINDS, divisors(12)), ids=str)
@pytest.mark.parametrize("split", ["train", "test", None])
def test_every_rule_is_in_its_space_and_in_no_narrower_one(space: Space, split: str | None) -> None:
    n = min(300, capacity(TASK, space, split, 5))
    rules = draw_space_rules(TASK, [space], n, seed=5, split=split).rules
    assert len({str(rules.rule(i)) for i in range(n)}) == n
    assert (rules.x != rules.y).any(axis=1).all()
    others = [s for s in mixture(KINDS, divisors(12, 2)) if s.k > space.k or (s.k == space.k and s.kind != space.kind)]
    for text in texts(np.concatenate([rules.x, rules.y])):
        assert belongs_plain(space, text)
        assert space.k == 12 or not any(belongs_plain(other, text) for other in others)


def test_capacity_is_exact_where_strings_are_few() -> None:
    task = RewritingTask(4, 6, alphabet="abc")
    every = [a + b + c + d for a in "abc" for b in "abc" for c in "abc" for d in "abc"]
    for space in mixture(KINDS, [2]):
        others = [Space(kind, 2) for kind in KINDS if kind != space.kind] + [Space("repeated", 4)]
        pure = [t for t in every if belongs_plain(space, t) and not any(belongs_plain(o, t) for o in others)]
        assert capacity(task, space, None, 0) == len(pure) * (len(pure) - 1)
        drawn = draw_space_rules(task, [space], capacity(task, space, None, 0), seed=0, split=None).rules
        assert {t for side in (drawn.x, drawn.y) for t in texts(side)} == set(pure)


def test_training_and_test_rules_share_neither_side() -> None:
    spaces = mixture(KINDS, [3, 4, 6, 12])
    train = draw_space_rules(TASK, spaces, 3000, seed=2).rules
    known = {text for side in (train.x, train.y) for text in texts(side)}
    for tested, split in ((spaces, "test"), (mixture(KINDS, [2]), None), ([UNCONSTRAINED], None)):
        unseen = draw_space_rules(TASK, tested, 500, seed=2, split=split).rules
        assert not known & {text for side in (unseen.x, unseen.y) for text in texts(side)}


def test_draws_are_nested_equal_by_seed_and_different_by_seed() -> None:
    spaces = mixture(KINDS, [6, 12])
    many, few, other = (draw_space_rules(TASK, spaces, n, seed=s) for n, s in ((3000, 1), (700, 1), (700, 2)))
    for name in ("x", "y"):
        assert np.array_equal(getattr(many.rules, name)[:700], getattr(few.rules, name))
    assert np.array_equal(many.of[:700], few.of)
    assert not np.array_equal(few.rules.x, other.rules.x)


@given(st.integers(1, 2000), st.sampled_from([(6, 12), (3, 4, 6), (12,)]), st.sampled_from([1, 2, 3]))
@settings(max_examples=60, deadline=None)
def test_shares_are_even_where_they_can_be_and_always_whole(n: int, ks: tuple[int, ...], classes: int) -> None:
    spaces = mixture(KINDS[:classes], ks)
    most = [capacity(TASK, space, "train", 0) for space in spaces if space.k < 12 or space.kind == "repeated"]
    if n > sum(most):
        with pytest.raises(BadRequest, match=f"use {sum(most)} at most"):
            shares(TASK, spaces, n, seed=0)
        return
    given = list(shares(TASK, spaces, n, seed=0).values())
    assert sum(given) == n
    assert all(count <= top for count, top in zip(given, most, strict=True))
    assert all(count >= max(given) - 1 for count, top in zip(given, most, strict=True) if count < top)
    assert np.bincount(draw_space_rules(TASK, spaces, n, seed=0).of, minlength=len(given)).tolist() == given


@pytest.mark.parametrize("occurrences", [1, 2])
def test_inputs_can_be_drawn_for_every_space(occurrences: int) -> None:
    """Patterns that overlap themselves (aaaa beside an a) still occur exactly as often as asked."""
    task = RewritingTask(6, 14, occurrences)
    drawn = draw_space_rules(task, mixture(KINDS, divisors(6, 2)), 300, seed=0)
    inputs = draw_inputs(task, drawn.rules, np.arange(300), seed=0)
    for i in range(300):
        rule, z = drawn.rules.rule(i), decode(inputs.z[i], LETTERS)
        assert z.count(rule.pattern) == occurrences
        assert decode(inputs.answer[i], LETTERS) == rule.apply(z)


# The study


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"k_ranges": [(3, 5)]}, "k = 5 does not divide pattern_length = 12 .* 2, 3, 4, 6, 12"),
        ({"k_ranges": [(1, 3)]}, "k = 1 does not divide"),
        ({"k_ranges": [(6, 3)]}, "must go up"),
        (
            {"k_ranges": [(12, 12)], "n_instructions": [2000]},
            r"n_instructions = 2000 is more than the \d+ .* use \d+ at",
        ),
        ({"mixtures": ["repeatd"], "varied": []}, "unknown rule space 'repeatd': did you mean 'repeated'"),
        ({"crossed": ["mirror"], "mixtures": ["repeated"], "varied": []}, "'mirror' is none of the mixtures repeated"),
        ({"occurrences": 2}, "do not fit into input_length 14: use 1 at most"),
        ({"n_instructions": [10**6]}, r"at most \d+ work"),
        ({"n_instructions": [0]}, "at least 1"),
        ({"test_rules": 500}, "fewer than one example for each"),
        ({"k_ranges": [3, 6]}, "k_ranges"),
    ],
)
def test_bad_requests_are_refused_in_one_sentence(given: dict, words: str) -> None:
    with pytest.raises(BadRequest, match=words) as refusal:
        STUDY.resolve(given)
    assert "\n" not in str(refusal.value)


def test_the_largest_number_that_works_works() -> None:
    with pytest.raises(BadRequest) as refusal:
        STUDY.resolve({"k_ranges": [(12, 12)], "n_instructions": [2000], "seeds": [0]})
    most = int(re.search(r"use (\d+) at most", str(refusal.value)).group(1))  # type: ignore[union-attr]
    STUDY.resolve({"k_ranges": [(12, 12)], "n_instructions": [most], "seeds": [0]})


def test_the_design_varies_one_dial_at_a_time_or_crosses_them() -> None:
    triple = "+".join(KINDS)
    count = lambda **given: len(STUDY.points(STUDY.resolve({"seeds": [0], **given})))  # noqa: E731
    assert count() == 7 + 1
    assert count(k_ranges=[(3, 6), (3, 4)]) == 7 + 1 + 1
    assert count(k_ranges=[(3, 6), (3, 4)], varied=[], crossed=[triple]) == 7 + 3
    assert count(varied=[]) == 7
    one, other = (
        STUDY.points(STUDY.resolve({"mixtures": [m], "varied": []}))[0] for m in ("mirror+periodic", "periodic+mirror")
    )
    assert one.address == other.address
    paper = STUDY.resolve({"scale": "paper", "batch_size": 4})  # of a size that every machine can train
    assert (paper.pattern_length, paper.input_length, len(STUDY.points(paper))) == (60, 500, 7 * 6 * 4)


def test_a_lesson_holds_every_column_and_shares_no_side_with_training() -> None:
    one, *_, all_three = STUDY.points(STUDY.resolve({"seeds": [1], "varied": []}))
    data, exams, *_ = all_three.lesson()
    assert len(data.tokens) == all_three.budget
    assert list(exams)[:2] == ["seen", "unconstrained"]
    assert set(exams) == {name for name in COLUMNS if "higher" not in name}  # above k = 6 only one letter is left
    assert exams["one_letter"].n_instructions <= 26
    sides = lambda tokens: {bytes(row) for row in np.concatenate([tokens[:, :12], tokens[:, 13:25]])}  # noqa: E731
    known = sides(data.tokens)
    assert all(bool(sides(exam.data.tokens) & known) == (name == "seen") for name, exam in exams.items())
    same = one.lesson().exams["mirror_same"]  # rows are compared on equal rules
    assert np.array_equal(same.data.tokens, exams["mirror_same"].data.tokens)


def test_measured_summarised_and_drawn(tmp_path_factory: pytest.TempPathFactory) -> None:
    store = Store(tmp_path_factory.mktemp("store"))
    rows = sweep(STUDY.points(STUDY.resolve(QUICK)), STUDY.measure, store=store, jobs=0)
    results = STUDY.summarise(long_rows(rows))
    assert all(line["not_learned"] for line in results["gate"].estimates.to_dict("records"))
    assert "no model passed the gate" in results.finding
    lines = results["matrix"].estimates
    cells = lines[lines["exam"].isin(list(COLUMNS))]
    assert lines["label"].nunique() == 2
    columns = {exam for exam in COLUMNS if not exam.endswith("higher")}  # above k = 6 only one letter is left
    assert set(zip(cells["label"], cells["exam"], strict=True)) == {
        (label, exam) for label in set(lines["label"]) for exam in columns
    }
    assert ((lines["lo"] <= lines["mean"]) & (lines["mean"] <= lines["hi"])).all()
    assert cells["framed"].sum() == 1 + 3
    assert [row["verdict"] for row in results.claims] == ["cannot tell", "not tested here", "cannot tell"]
    assert show.png(results.chart()).startswith(b"\x89PNG")
    learn.load(store.find(rows[0]["address"]))


def fabricated(accuracy: dict[str, float], n: int = 5000, seen: float = 1.0, seeds: int = 2) -> list[dict]:
    """A model per mixture and seed, with the given accuracy on unconstrained rules and 400 answers an exam."""
    answers = lambda share: ([4] * round(100 * share) + [0] * round(100 * (1 - share)), [4] * 100)  # noqa: E731
    at = {"k_low": 3, "k_high": 6, "n_instructions": n, "learned": seen >= 0.95}
    return [
        model({"seen": answers(seen), "unconstrained": answers(mean)}, mixture=mixed, seed=seed, **at)
        for mixed, mean in accuracy.items()
        for seed in range(seeds)
    ]


def test_the_published_outcome_is_recognised_and_so_is_its_opposite() -> None:
    results = lambda models: STUDY.summarise(long_rows(models))  # noqa: E731
    verdicts = lambda models: [row["verdict"] for row in results(models).claims]  # noqa: E731
    three = "+".join(KINDS)
    assert verdicts(fabricated({"mirror": 0.0, three: 0.9}) + fabricated({three: 0.1}, n=500)) == ["supports"] * 3
    assert verdicts(fabricated({"mirror": 0.9, three: 0.2}) + fabricated({three: 0.6}, n=500)) == ["contradicts"] * 3
    lazy = fabricated({"mirror": 0.0, three: 0.0}, seen=0.5)
    assert verdicts(lazy) == ["cannot tell", "cannot tell", "not tested here"]  # decided by no model that has learned
    finding = results(fabricated({"mirror": 0.25, three: 0.9}, seeds=1)).finding
    assert "0.250 [" in finding.split("from one class")[0]
    assert "0.900 [" in finding.split("from one class")[1]


def test_a_model_that_fails_its_gate_is_listed_and_not_averaged_in() -> None:
    three = "+".join(KINDS)
    failed = [{**one, "seed": 7} for one in fabricated({"mirror": 1.0}, seen=0.5, seeds=1)]
    results = STUDY.summarise(long_rows([*fabricated({"mirror": 0.0, three: 0.9}), *failed]))
    line, gate = (
        results["matrix"].line("unconstrained", mixture="mirror"),
        results["gate"].line("seen", mixture="mirror"),
    )
    assert (line["mean"], line["seeds"], line["not_learned"]) == (0.0, 2, 0)
    assert (gate["seeds"], gate["not_learned"]) == (3, 1)
    assert [row["verdict"] for row in results.claims][:2] == ["supports"] * 2
    none = STUDY.summarise(long_rows([*fabricated({"mirror": 0.0}, seen=0.5), *fabricated({three: 0.9})]))
    assert none["matrix"].line("seen", mixture="mirror")["not_learned"] == 2  # a row that fails is seen to fail
    assert "from one class" not in none.finding


# The heat map

CELLS = [
    {"to": to, "of": of, "mean": m, "lo": m - 0.1, "hi": m + 0.1} for to, of, m in (("a", "r", 0.2), ("b", "r", 0.9))
]


def test_a_heat_map_prints_every_mean_and_interval() -> None:
    cells = [*CELLS, {"to": "a", "of": "s", "mean": 0.5, "lo": None, "hi": None}]
    picture = show.svg(heat_map(cells, x="to", y="of", x_order=["b", "a"], title="A finding"))
    for text in ("0.20", "0.10 – 0.30", "0.90", "0.80 – 1.00", "0.50", "A finding"):
        assert f">{text}<" in picture
    assert picture.index(">b<") < picture.index(">a<")


@pytest.mark.parametrize(
    ("cells", "given", "words"),
    [
        ([], {}, "nothing to draw"),
        (CELLS, {"outlined": "men"}, "unknown column 'men': did you mean 'mean'"),
        (CELLS + CELLS[:1], {}, "of to 'a' and of 'r' is given twice"),
        (CELLS, {"x_order": ["a"]}, "unknown name in 'to' 'b'"),
        ([CELLS[0] | {"mean": 1.2}], {}, "mean = 1.2: the domain of the colours is 0 to 1"),
    ],
)
def test_a_heat_map_refuses_what_it_cannot_draw(cells: list, given: dict, words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        heat_map(cells, x="to", y="of", **given)
