"""String rewriting: the vectorised generator against the plain interpreter, and the module's guarantees."""

import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from labkit.errors import BadRequest
from labkit.instructions import (
    Inputs,
    RewritingTask,
    Rule,
    Rules,
    decode,
    draw_example_plain,
    draw_inputs,
    draw_rules,
)
from labkit.instructions.rewriting import Split

LETTERS = "abcdefghijklmnopqrstuvwxyz"
SYMBOLS = LETTERS + LETTERS.upper() + "0123456789+/"
PAPER = RewritingTask(pattern_length=20, input_length=50)

SPLITS: tuple[Split, ...] = ("train", "test")
seeds = st.integers(0, 2**63)


@st.composite
def tasks(draw: st.DrawFn) -> RewritingTask:
    """Tasks of every shape that leave chance some room: x occurs less than once in two inputs by chance."""
    symbols = draw(st.integers(2, len(SYMBOLS)))
    pattern_length = draw(st.integers(2, 12))
    input_length = draw(st.integers(pattern_length, 60))
    assume(2 * (input_length - pattern_length) <= symbols**pattern_length)
    most = input_length // pattern_length
    occurrences = draw(st.integers(1, most) | st.lists(st.integers(1, most), min_size=1, max_size=4).map(tuple))
    noop_share = draw(st.floats(0, 1))
    return RewritingTask(pattern_length, input_length, occurrences, noop_share, SYMBOLS[:symbols])


def some_rules(task: RewritingTask, seed: int, n: int = 10) -> Rules:
    """Up to n training rules, as many as the split holds."""
    capacity = task.capacity("train", seed)
    assume(capacity >= 1)
    return draw_rules(task, min(n, capacity), seed=seed)


def texts(task: RewritingTask, rules: Rules, inputs: Inputs) -> list[tuple[Rule, str, str, bool]]:
    """Rule, input, answer and no-op flag of each row, as plain strings."""
    return [
        (rules.rule(int(i)), decode(z, task.alphabet), decode(answer, task.alphabet), bool(noop))
        for i, z, answer, noop in zip(inputs.index, inputs.z, inputs.answer, inputs.noop, strict=True)
    ]


# Rules


@pytest.mark.parametrize(
    ("rule", "z", "answer"),
    [
        ("iss -> art", "mississippi", "martissippi"),
        ("iss -> art", "canada", "canada"),
        ("aa -> bac", "caaba", "cbacba"),
        ("aba->c", "xababa", "xcba"),
        ("  ab ->", "cab", "c"),
    ],
)
def test_known_answers(rule: str, z: str, answer: str) -> None:
    assert Rule.parse(rule).apply(z) == answer


@given(st.text("ab", min_size=1, max_size=4), st.text("abc", max_size=4), st.text("ab", max_size=30))
def test_apply_is_the_first_replacement(pattern: str, replacement: str, z: str) -> None:
    assert Rule(pattern, replacement).apply(z) == z.replace(pattern, replacement, 1)


@given(st.text(SYMBOLS, min_size=1), st.text(SYMBOLS))
def test_rule_reads_what_it_writes(pattern: str, replacement: str) -> None:
    rule = Rule(pattern, replacement)
    assert Rule.parse(str(rule)) == rule


@pytest.mark.parametrize("text", ["ab", "ab => c", "a -> b -> c", "a b -> c", "a -> b c", "-> a", ""])
def test_malformed_rules_are_refused_and_quoted(text: str) -> None:
    with pytest.raises(BadRequest) as error:
        Rule.parse(text)
    assert text in str(error.value)


@given(tasks(), seeds)
def test_rules_are_distinct_and_change_something(task: RewritingTask, seed: int) -> None:
    rules = some_rules(task, seed, 200)
    pairs = {(x.tobytes(), y.tobytes()) for x, y in zip(rules.x, rules.y, strict=True)}
    assert len(pairs) == len(rules)
    assert all(x != y for x, y in pairs)
    assert rules.x.shape == rules.y.shape == (len(rules), task.pattern_length)
    assert max(rules.x.max(), rules.y.max()) < len(task.alphabet)


@given(st.integers(2, 5), st.integers(2, 5), seeds)
def test_train_and_test_share_no_string(symbols: int, length: int, seed: int) -> None:
    task = RewritingTask(length, 60, alphabet=SYMBOLS[:symbols])
    strings: dict[str, set[bytes]] = {"train": set(), "test": set()}
    for split in SPLITS:
        if n := min(2000, task.capacity(split, seed)):
            rules = draw_rules(task, n, seed=seed, split=split)
            strings[split] = {string.tobytes() for string in np.concatenate([rules.x, rules.y])}
    assert not strings["train"] & strings["test"]


def test_test_takes_its_share_of_the_strings() -> None:
    task = RewritingTask(4, 50)
    pools = {split: round(task.capacity(split, 0) ** 0.5) for split in SPLITS}
    assert abs(pools["test"] / 26**4 - 0.1) < 0.005
    assert abs(pools["train"] + pools["test"] - 26**4) <= 2


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("task", [PAPER, RewritingTask(3, 9, alphabet="abcd")])
def test_the_first_rules_are_the_rules_drawn_alone(task: RewritingTask, split: Split) -> None:
    many = draw_rules(task, min(30_000, task.capacity(split, 5)), seed=5, split=split)
    for n in (1, 2, len(many) // 2):
        few = draw_rules(task, n, seed=5, split=split)
        assert np.array_equal(few.x, many.x[:n])
        assert np.array_equal(few.y, many.y[:n])


def test_seeds_draw_different_rules() -> None:
    first, second = (draw_rules(PAPER, 100, seed=seed) for seed in (0, 1))
    assert not np.array_equal(first.x, second.x)


@pytest.mark.parametrize(("alphabet", "length", "split"), [("ab", 1, "train"), ("ab", 5, "train"), ("abcd", 4, "test")])
def test_a_small_space_is_drawn_to_its_last_rule(alphabet: str, length: int, split: Split) -> None:
    task = RewritingTask(length, 20, alphabet=alphabet)
    seed = next(seed for seed in range(100) if task.capacity(split, seed))
    capacity = task.capacity(split, seed)
    rules = draw_rules(task, capacity, seed=seed, split=split)
    pairs = {(x.tobytes(), y.tobytes()) for x, y in zip(rules.x, rules.y, strict=True)}
    strings = {x for x, _ in pairs} | {y for _, y in pairs}
    assert len(pairs) == capacity == len(strings) * (len(strings) - 1)
    with pytest.raises(BadRequest, match=f"use {capacity} at most"):
        draw_rules(task, capacity + 1, seed=seed, split=split)


@pytest.mark.parametrize("length", [2, 20, 60, 250])
def test_letters_of_rules_are_uniform(length: int) -> None:
    rules = draw_rules(RewritingTask(length, 500), 2_000, seed=0)
    for letters in (rules.x[:, 0], rules.x[:, -1], rules.y[:, 0], rules.y[:, -1]):
        if length > 2:  # the pool of a small space is itself a sample
            assert np.abs(np.bincount(letters, minlength=26) - 2_000 / 26).max() < 6 * (2_000 / 26) ** 0.5
    assert len(np.unique(rules.x, axis=0)) > 500


# Inputs


@given(tasks(), seeds, st.integers(1, 300))
def test_vectorised_equals_the_plain_interpreter(task: RewritingTask, seed: int, size: int) -> None:
    rules = some_rules(task, seed)
    index = np.random.default_rng(seed).integers(len(rules), size=size)
    inputs = draw_inputs(task, rules, index, seed=seed)
    assert inputs.z.shape == inputs.answer.shape == (size, task.input_length)
    assert np.array_equal(inputs.index, index)
    assert int(inputs.noop.sum()) == round(task.noop_share * size)
    for rule, z, answer, noop in texts(task, rules, inputs):
        assert answer == rule.apply(z)
        assert (z.count(rule.pattern) in task.mixture) if not noop else (rule.pattern not in z and answer == z)


@given(st.sampled_from(["ab", "abc"]), st.integers(1, 3), st.integers(0, 6), st.integers(1, 3), seeds)
def test_patterns_that_overlap_themselves(alphabet: str, p: int, extra: int, times: int, seed: int) -> None:
    """Short patterns over few letters: accidental and overlapping occurrences are the rule there."""
    assume(alphabet == "abc" or times * p + extra <= 6)  # else chance leaves too little room
    task = RewritingTask(p, times * p + extra, occurrences=times, noop_share=0.3, alphabet=alphabet)
    rules = some_rules(task, seed)
    for rule, z, answer, noop in texts(task, rules, draw_inputs(task, rules, np.arange(40) % len(rules), seed=seed)):
        assert z.count(rule.pattern) == (0 if noop else times)
        assert answer == rule.apply(z)


@given(
    st.floats(0, 1),
    st.lists(st.integers(1, 5), min_size=1, max_size=4, unique=True).map(tuple),
    st.lists(st.integers(0, 7), min_size=1, max_size=200),
    seeds,
)
def test_no_ops_and_mixtures_are_spread_over_the_rules(
    share: float, mixture: tuple[int, ...], index: list[int], seed: int
) -> None:
    task = RewritingTask(4, 20, occurrences=mixture, noop_share=share)
    rules = draw_rules(task, 8, seed=seed)
    inputs = draw_inputs(task, rules, np.array(index), seed=seed)
    noops = round(share * len(index))
    seen: dict[int, Counter[int]] = {i: Counter() for i in index}
    for i, (rule, z, _, _) in zip(index, texts(task, rules, inputs), strict=True):
        seen[i][z.count(rule.pattern)] += 1
    for counts in [*seen.values(), sum(seen.values(), Counter())]:
        total = sum(counts.values())
        assert abs(counts[0] - total * noops / len(index)) < 1
        for times in mixture:
            assert abs(counts[times] - (total - counts[0]) / len(mixture)) < 1


def test_no_rule_is_first_in_line_for_the_odd_no_op() -> None:
    task = RewritingTask(4, 20, noop_share=1 / 3)
    rules = draw_rules(task, 3, seed=0)
    hits = sum(draw_inputs(task, rules, np.arange(3), seed=seed).noop.astype(int) for seed in range(900))
    assert np.abs(hits - 300).max() < 6 * 200**0.5


@given(tasks(), seeds)
def test_equal_seeds_draw_equal_inputs(task: RewritingTask, seed: int) -> None:
    rules = some_rules(task, seed)
    index = np.arange(50) % len(rules)
    one, same = (draw_inputs(task, rules, index, seed=seed) for _ in range(2))
    assert np.array_equal(one.z, same.z)
    assert np.array_equal(one.answer, same.answer)
    by_generator = draw_inputs(task, rules, index, seed=np.random.default_rng(seed))
    assert by_generator.z.shape == one.z.shape


def test_chunks_join_without_a_seam() -> None:
    """More inputs than are drawn at once, of all kinds, against `str.replace`."""
    task = RewritingTask(20, 400, occurrences=(1, 5, 20), noop_share=0.25)
    rules = draw_rules(task, 50, seed=3)
    inputs = draw_inputs(task, rules, np.arange(4_000) % 50, seed=3)
    for rule, z, answer, _ in texts(task, rules, inputs):
        assert answer == z.replace(rule.pattern, rule.replacement, 1)
    assert inputs.noop.sum() == 1_000


@pytest.mark.parametrize("times", [1, 3])
def test_vectorised_and_plain_draw_from_one_distribution(times: int) -> None:
    """Where x first stands and how often each letter occurs, by a two-sample test at six standard errors."""
    task, size = RewritingTask(2, 9, occurrences=times, alphabet="abc"), 20_000
    rules = Rules(np.array([[0, 0]], np.uint8), np.array([[1, 2]], np.uint8), "abc")
    inputs = draw_inputs(task, rules, np.zeros(size, np.int64), seed=0)
    rule, rng = rules.rule(0), random.Random(0)
    fast = Counter(z for _, z, _, _ in texts(task, rules, inputs))
    plain = Counter(draw_example_plain(task, rule, rng, occurrences=times)[0] for _ in range(size))
    for z in fast | plain:
        assert abs(fast[z] - plain[z]) < 6 * (fast[z] + plain[z]) ** 0.5


@given(tasks(), seeds)
def test_plain_example(task: RewritingTask, seed: int) -> None:
    rule, rng = some_rules(task, seed, 1).rule(0), random.Random(seed)
    for times in (0, *task.mixture):
        z, answer = draw_example_plain(task, rule, rng, noop=times == 0, occurrences=max(times, 1))
        assert len(z) == task.input_length
        assert z.count(rule.pattern) == times
        assert answer == rule.apply(z)


def test_plantings_are_uniform() -> None:
    rules = draw_rules(PAPER, 1, seed=0)
    inputs = draw_inputs(PAPER, rules, np.zeros(31_000, np.int64), seed=0)
    starts = Counter(z.index(rule.pattern) for rule, z, _, _ in texts(PAPER, rules, inputs))
    assert set(starts) == set(range(31))
    assert all(abs(count - 1_000) < 6 * 1_000**0.5 for count in starts.values())


def test_letters_of_inputs_are_uniform() -> None:
    task = RewritingTask(20, 50, noop_share=1.0)
    inputs = draw_inputs(task, draw_rules(task, 100, seed=0), np.arange(26_000) % 100, seed=0)
    for place in range(50):
        counts = np.bincount(inputs.z[:, place], minlength=26)
        assert np.abs(counts - 1_000).max() < 6 * 1_000**0.5


# Refusals


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"alphabet": "abca"}, "'a' more than once"),
        ({"alphabet": "a"}, "1 symbols: it must have 2 to 64"),
        ({"alphabet": SYMBOLS + "!"}, "65 symbols: it must have 2 to 64"),
        ({"pattern_length": 0}, "pattern_length is 0: it must be a whole number, 1 or more"),
        ({"pattern_length": 2.5}, "pattern_length is 2.5"),
        ({"input_length": -1}, "input_length is -1"),
        ({"pattern_length": 51}, "pattern_length 51 does not fit into input_length 50: use 50 at most"),
        ({"occurrences": 0}, "occurrences is 0"),
        ({"occurrences": ()}, "empty tuple"),
        (
            {"occurrences": (1, 3)},
            "occurrences 3 of pattern_length 20 do not fit into input_length 50: use 2",
        ),
        ({"noop_share": 1.1}, "noop_share is 1.1: it must be a number from 0 to 1"),
        ({"noop_share": float("nan")}, "noop_share is nan"),
        ({"noop_share": "half"}, "noop_share is 'half'"),
    ],
)
def test_settings_that_contradict_each_other(wrong: dict[str, object], sentence: str) -> None:
    with pytest.raises(BadRequest, match=sentence.replace("(", r"\(")):
        RewritingTask(**{"pattern_length": 20, "input_length": 50, **wrong})  # type: ignore[arg-type]


def test_requests_that_cannot_be_carried_out() -> None:
    rules = draw_rules(PAPER, 3, seed=0)
    with pytest.raises(BadRequest, match="n is 0"):
        draw_rules(PAPER, 0, seed=0)
    with pytest.raises(BadRequest, match="did you mean 'train'"):
        draw_rules(PAPER, 1, seed=0, split="trian")  # type: ignore[arg-type]
    with pytest.raises(BadRequest, match="seed is -1"):
        draw_rules(PAPER, 1, seed=-1)
    with pytest.raises(BadRequest, match="none outside 0 to 2"):
        draw_inputs(PAPER, rules, np.array([0, 3]), seed=0)
    with pytest.raises(BadRequest, match="at least one rule number"):
        draw_inputs(PAPER, rules, np.array([], np.int64), seed=0)
    with pytest.raises(BadRequest, match="another alphabet or pattern_length"):
        draw_inputs(RewritingTask(10, 50), rules, np.array([0]), seed=0)


@pytest.mark.parametrize(("noop", "times"), [(True, 0), (False, 1)])
def test_a_rule_without_room_is_named(noop: bool, times: int) -> None:
    """One letter of two, 60 places: hardly any string holds it once or never."""
    task = RewritingTask(1, 60, noop_share=float(noop), alphabet="ab")
    rules = Rules(np.array([[0]], np.uint8), np.array([[1]], np.uint8), "ab")
    sentence = f'60 letters the left side of "a -> b" never occurred exactly {times} times'
    with pytest.raises(BadRequest, match=sentence):
        draw_inputs(task, rules, np.zeros(5, np.int64), seed=0)
    with pytest.raises(BadRequest, match=sentence):
        draw_example_plain(task, rules.rule(0), random.Random(0), noop=noop)
