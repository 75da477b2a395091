"""Recognising instructions: every wording of every family is read back, and nothing else is."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.instructions import EVERY, draw, recognise
from labkit.instructions.family import LEVELS, SPLITS, Split
from labkit.instructions.functions import NOTHING, Program, settle

every = given(st.sampled_from(sorted(EVERY)), st.sampled_from(LEVELS), st.sampled_from(SPLITS), st.integers(0, 10**6))


@settings(deadline=None, max_examples=600)
@every
def test_every_wording_is_read_back(name: str, level: int, split: Split, seed: int) -> None:
    family = EVERY[name]
    (task,) = draw(family, 1, split=split, levels=[level], seed=seed)
    one, text = task.instruction, task.example.input
    for wording in one.phrasings:
        found = recognise(wording, text)
        assert found is not None
        assert found.family == name
        assert found.level <= task.level
        assert found.instruction[:2] == one[:2]
        assert found.instruction.phrasings == one.phrasings
        for given_ in (text, family.input(one, Random(seed), level)):
            assert family.worked(found.instruction, given_) == family.worked(one, given_)
            assert family.answer(found.instruction, given_) == family.answer(one, given_)


@settings(deadline=None, max_examples=300)
@every
def test_without_the_input_a_wording_still_says_what_it_says(name: str, level: int, split: Split, seed: int) -> None:
    (task,) = draw(EVERY[name], 1, split=split, levels=[level], seed=seed)
    found = recognise(task.example.instruction)
    assert found is not None
    assert found.instruction.key == task.instruction.key or name == "functions"
    assert task.example.instruction in found.instruction.phrasings


def test_steps_may_be_worded_and_joined_at_will() -> None:
    for wording in ("double it, then add 15", "take it twice; next go up by 15", "multiply by 2; then raise it by 15"):
        found = recognise(wording)
        assert found is not None
        assert EVERY[found.family].worked(found.instruction, "4") == "8\n23"
    found = recognise("keep odd numbers; next double each; then return the sum")
    assert found is not None
    assert EVERY["functions"].answer(found.instruction, "") == (
        "def f(x):\n    return sum(2 * v for v in x if v % 2 == 1)"
    )


def test_the_input_tells_functions_apart() -> None:
    keys = set()
    for x in ("x is a list of numbers", "x is a text"):
        found = recognise("return the first 2", x) or recognise("let f return the first 2", x)
        assert found is not None
        assert x.endswith("text") == (found.instruction.setting.source == "letters")
        keys.add(found.instruction.key)
    assert len(keys) == 2


def said(program: Program) -> str:
    instruction = settle(program)
    assert instruction is not None
    return instruction.phrasings[0]


def test_the_level_is_the_lowest_that_has_the_request() -> None:
    for name, wording, level in (
        ("deduction", "is anna taller than ben", 1),
        ("arithmetic", "double it, then add 15", 2),
        ("functions", said(Program("chain", "list", (("even", 0), NOTHING, ("sum", 0)))), 1),
        ("functions", said(Program("chain", "list", (("even", 0), ("double", 0), ("sum", 0)))), 2),
        ("functions", said(Program("loop", "list", (("even", 0), ("add", 0), ("plus", 4), ("start", 3)))), 3),
        ("role", "be a king who says otto for i and ends with ahoy", 2),
    ):
        found = recognise(wording)
        assert found is not None
        assert (found.family, found.level) == (name, level)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "delete",
        "delete word 9",
        "delete word 2 ",
        "Delete word 2",
        "delete word 2, then",
        "delete word 2, then sing",
        "delete word 2 then delete word 3",
        "sort numbers by colour, ascending",
        "sort words by size, ascending",
        "who is taller, anna or zorro",
        'replace the first "ab" by "xyz"',
        "list all who are taller than anna, the oldest first",
        "apply the rules b -> b, c -> d, first rule first, until none applies",
        "apply the rules b -> c, c -> b, first rule first, until none applies",
        "tell which town anna sells",
        "does anna want rome",
        "be a king who ends with ahoy and ends with aha",
        "be a king who ends with ahoy and says otto for i",
        "keep even numbers; then",
        "return",
        "write a poem about the sea",
        "word " * 5000,
        "[[[(((\\",
        "{0}",
    ],
)
def test_anything_else_is_nothing(text: str) -> None:
    assert recognise(text) is None


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(sorted(EVERY)), st.integers(0, 10**6), st.data())
def test_a_changed_wording_says_something_else_or_nothing(name: str, seed: int, data: st.DataObject) -> None:
    """With a word dropped, doubled or exchanged: no wording, or that of another instruction."""
    (task,) = draw(EVERY[name], 1, seed=seed)
    words = task.example.instruction.split(" ")
    place = data.draw(st.integers(0, len(words) - 1))
    words[place : place + 1] = data.draw(st.sampled_from([[], [words[place]] * 2, ["2"], ["the"], [words[-1]]]))
    found = recognise(text := " ".join(words))
    same = text in task.instruction.phrasings or name == "functions"
    assert found is None or same or found.instruction.key != task.instruction.key
