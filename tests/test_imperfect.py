"""The imperfect teacher: as wrong and as little varied as it is said to be."""

from collections import Counter

import pytest

from labkit import BadRequest
from labkit.instructions import ABILITIES, EVERY
from labkit.instructions.family import Family, Task, split_of
from labkit.instructions.imperfect import Teacher, draw_imperfect


def right(task: Task, family: Family) -> bool:
    return family.accepts(task.instruction, task.example.input, task.example.output)


@pytest.mark.parametrize("name", list(ABILITIES))
def test_the_share_of_wrong_answers_is_the_one_asked_for(name: str) -> None:
    tasks = draw_imperfect(EVERY[name], 400, Teacher(wrong=0.25, instructions=12), levels=(1,), seed=1)
    mistakes = sum(not right(task, EVERY[name]) for task in tasks)
    assert 60 <= mistakes <= 140  # 100 +- 4.6 standard deviations
    assert all(right(task, EVERY[name]) for task in draw_imperfect(EVERY[name], 30, Teacher(wrong=0), levels=(1,)))


@pytest.mark.parametrize("name", ["editing", "role", "functions"])
def test_it_asks_for_few_instructions_in_one_wording_each_and_some_far_more_often(name: str) -> None:
    tasks = draw_imperfect(EVERY[name], 1000, Teacher(instructions=10, exponent=1), levels=(1, 2), seed=0)
    asked = Counter(task.instruction.key for task in tasks)
    assert len(asked) == 10
    assert len({task.example.instruction for task in tasks}) == 10
    most, *_, least = (count for _, count in asked.most_common())
    assert 5 < most / least < 20  # Zipf: 10
    assert all(split_of(key) == "train" for key in asked)
    assert {task.level for task in tasks} == {1, 2}


def test_equal_seeds_give_equal_tasks_and_fewer_are_the_first_of_more() -> None:
    long, short = (draw_imperfect(EVERY["editing"], n, Teacher(), levels=(1,), seed=4) for n in (50, 20))
    assert long[:20] == short
    assert draw_imperfect(EVERY["editing"], 20, Teacher(), levels=(1,), seed=5) != short


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"wrong": 1.5}, "wrong = 1.5 is no probability"),
        ({"instructions": 0}, "instructions = 0"),
        ({"exponent": -1.0}, "exponent = -1"),
    ],
)
def test_a_teacher_that_cannot_be_is_refused(given: dict[str, float], says: str) -> None:
    with pytest.raises(BadRequest, match=says):
        Teacher(**given)  # type: ignore[arg-type]


def test_more_instructions_than_a_family_has_are_refused() -> None:
    with pytest.raises(BadRequest, match="'role' has no train instructions of level 1 that are not among"):
        draw_imperfect(EVERY["role"], 1, Teacher(instructions=100_000), levels=(1,))
