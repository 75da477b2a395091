"""Demands: requests with many right answers, verified by a program, and combinations that no training set holds."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.instructions.demands import DEMANDS, KINDS, every
from labkit.instructions.family import Instruction, draw, split_of
from labkit.instructions.recognise import recognise


def wanted(*demands: tuple[str, str]) -> Instruction:
    return Instruction("", (), ("animals", demands), "")


@pytest.mark.parametrize(
    ("demands", "right", "wrong"),
    [
        ((("count", "3"),), "fox cat dog", "fox cat"),
        ((("begin", "fox"), ("end", "cat")), "fox cat", "cat fox"),
        ((("include", "fox"),), "cat fox dog", "cat dog"),
        ((("avoid", "fox"),), "cat dog", "cat fox"),
        ((("sorted", ""),), "cat dog fox", "dog cat fox"),
        ((("commas", ""),), "cat, dog", "cat dog"),
        ((("quotes", ""), ("numbered", "")), '"1 cat 2 dog"', "1 cat 2 dog"),
        ((), "cat", "cat, dog"),  # a mark that was not demanded
        ((), "cat dog", "cat cat"),
        ((), "cat", "axe"),
        ((), "cat", ""),
    ],
)
def test_verified_by_hand(demands: tuple[tuple[str, str], ...], right: str, wrong: str) -> None:
    assert DEMANDS.accepts(wanted(*demands), "", right)
    assert not DEMANDS.accepts(wanted(*demands), "", wrong)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(every("train") + every("test")))
def test_every_combination_can_be_met(seed: int, combination: tuple[str, ...]) -> None:
    task = DEMANDS.task(combination, Random(seed))
    assert DEMANDS.accepts(task.instruction, "", task.example.output)
    assert tuple(kind for kind in KINDS if kind in dict(task.instruction.setting[1])) == combination
    assert DEMANDS.answer(task.instruction, "") == task.example.output
    assert recognise(task.example.instruction) is None  # no other family says it


def test_no_combination_is_in_both_splits() -> None:
    train, test = (set(every(split)) for split in ("train", "test"))  # type: ignore[arg-type]
    assert not train & test
    assert len(train | test) == 9 + 36 + 84
    assert {kind for one in test for kind in one} == set(KINDS)
    drawn = draw(DEMANDS, 30, split="test", levels=(2, 3), seed=5)
    assert drawn == draw(DEMANDS, 30, split="test", levels=(2, 3), seed=5)
    assert {split_of(task.instruction.key) for task in drawn} == {"test"}
