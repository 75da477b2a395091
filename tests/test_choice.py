"""Closed and open questions: what is picked, what is named, and what is left when chance is taken off."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from labkit.errors import BadRequest
from labkit.grade.choice import (
    NONE,
    chance_level,
    correct,
    gold_index,
    named_option,
    pick,
)
from labkit.grade.intervals import cluster_bootstrap

LOGLIK = arrays.arrays(np.float64, (6, 4), elements=st.floats(-50, -0.01).map(lambda x: round(x, 3)))


def test_sums_prefer_short_options_and_means_do_not():
    loglik, tokens = [[-4.0, -6.0]], [[2, 6]]
    assert pick(loglik).tolist() == [0]
    assert pick(loglik, tokens).tolist() == [1]


@settings(max_examples=50, deadline=None)
@given(LOGLIK, st.permutations(range(4)))
def test_the_order_of_options_does_not_matter_and_a_tie_picks_none(loglik, order):
    picked, moved = pick(loglik), pick(loglik[:, order])
    assert np.array_equal(picked, np.where(moved == NONE, NONE, np.array(order)[moved]))
    for row, chosen in zip(loglik, picked, strict=True):
        best = np.flatnonzero(row == row.max())
        assert chosen == (best[0] if len(best) == 1 else NONE)


def test_ties_and_missing_options():
    nan = np.nan
    assert pick([[-1, -1, -2], [-1, nan, nan], [nan, nan, nan], [-2, -1, nan]]).tolist() == [NONE, 0, NONE, 1]
    assert pick([[-np.inf, -np.inf]]).tolist() == [NONE]


def test_gold_is_a_hit_only_where_it_is_strictly_the_likeliest():
    tokens = np.full((4, 3), 2)
    loglik = [[-2, -3, -4], [-3, -2, -4], [-2, -2, -4], [-2, -3, np.nan]]
    assert pick(loglik, tokens).tolist() == [0, 1, NONE, 0]
    assert pick([[-3, -4, -5]], [[1, 2, 2]]).tolist() == [1]


def test_a_model_that_knows_nothing_scores_chance():
    loglik = np.random.default_rng(0).normal(-20, 3, (3000, 3))
    hits = pick(loglik, np.full((3000, 3), 10)) == 0
    accuracy = cluster_bootstrap(hits.astype(int))
    lo, hi = correct([accuracy.lo, accuracy.hi], chance_level(np.full(3000, 3)))
    assert lo < 0 < hi
    assert hi - lo < 0.06


@pytest.mark.parametrize(("loglik", "tokens"), [([-1, -2], [1, 1]), ([[-1, -2]], [[1]]), ([[-1, -2]], [[1, 0]])])
def test_rankings_that_would_pass_unseen_are_refused(loglik, tokens):
    with pytest.raises(BadRequest):
        pick(loglik, tokens)


def test_a_question_has_exactly_one_right_option():
    assert gold_index([[0, 1, 0], [1, 0, 0]]).tolist() == [1, 0]
    with pytest.raises(BadRequest, match="question 1 has no right options"):
        gold_index([[1, 0], [0, 0]])
    with pytest.raises(BadRequest, match="question 0 has 2 right options"):
        gold_index([[1, 1], [1, 0]])
    with pytest.raises(BadRequest):
        gold_index([1, 0])


CITIES = ["Paris", "London", "New London", "Rome"]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("B", 1),
        (" b. ", 1),
        ("(C)", 2),
        ("D) Rome", 3),
        ("The answer is B.", 1),
        ("answer: (d)", 3),
        ("I would choose option A because it is large", 0),
        ("答案是C", 2),
        ("选B", 1),
        ("It is ROME, of course", 3),
        ("new  london", 2),
        ("London", 1),
        ("A big city such as Rome", 3),
        ("B. London", 1),
        ("B. Paris", None),
        ("Paris or Rome", None),
        ("A or B", None),
        ("Romes", None),
        ("E", None),
        ("", None),
        ("I do not know", None),
        ("The answer is big", None),
    ],
)
def test_which_option_a_free_answer_names(text, named):
    assert named_option(text, CITIES) == named


def test_numbers_and_single_letters_as_options():
    assert named_option("it makes 12", ["2", "12", "1"]) == 1
    assert named_option("the letter is b", ["b", "a"]) is None  # the option's text, or the second letter?
    assert named_option("42", ["42", "4"]) == 0


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.text("pqrs tuv", min_size=2, max_size=8).map(str.strip).filter(lambda s: len(s) > 1),
        min_size=2,
        max_size=5,
        unique=True,
    ),
    st.data(),
)
def test_an_option_given_back_word_for_word_is_found(options, data):
    if len({" ".join(option.split()) for option in options}) < len(options):
        return
    place = data.draw(st.integers(0, len(options) - 1))
    assert named_option(f"It is {options[place]}!", options) in (place, None)
    assert named_option("ABCDE"[place], options) == place


@pytest.mark.parametrize("options", [[], ["a", ""], ["yes", "Yes "], [str(i) for i in range(27)]])
def test_options_that_cannot_be_told_apart_are_refused(options):
    with pytest.raises(BadRequest):
        named_option("yes", options)


# chance


def test_chance_of_mixed_questions_is_the_mean():
    assert chance_level(4) == 0.25
    assert chance_level([4, 4, 2, 0]) == pytest.approx(0.25)
    for bad in (1, [], [2.5], [-2]):
        with pytest.raises(BadRequest):
            chance_level(bad)


def test_the_ends_of_the_scale():
    assert correct([0.25, 1, 0], 0.25) == pytest.approx([0, 1, -1 / 3])
    assert correct([0.5, 0.5], [0, 0.5]) == pytest.approx([0.5, 0])
    for chance in (1, -0.1, np.nan):
        with pytest.raises(BadRequest, match="chance level"):
            correct(0.5, chance)
