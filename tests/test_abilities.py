"""Knowledge, dialogue and roles: answers by hand, what training tells, and what a talk or a habit leaves open."""

from collections import Counter

import pytest

from labkit.instructions.ability_families import HABITS, HAVING, RELATIONS, WORLD
from labkit.instructions.families import EVERY
from labkit.instructions.family import LEVELS, draw, draw_instructions, split_of
from labkit.instructions.lexicon import CATEGORIES, NAMES
from labkit.instructions.recognise import recognise
from labkit.learn import TextLayout, pieces

ABILITIES = ("knowledge", "dialogue", "role")
NEW = (*ABILITIES, "encrypted", "programs")


def worked(text: str, given: str) -> str:
    found = recognise(text)
    assert found is not None, text
    return EVERY[found.family].worked(found.instruction, given)


def options(text: str, given: str) -> tuple[str, ...]:
    found = recognise(text)
    assert found is not None, text
    return EVERY[found.family].options(found.instruction, given)


# Knowledge


def test_the_world_is_fixed() -> None:
    assert len(WORLD) == len(NAMES) * len(RELATIONS) == 120
    assert [WORLD["anna", verb] for verb in RELATIONS] == ["london", "plum", "train", "horse", "rope", "willow"]
    assert sorted(name for some in HAVING.values() for name in some) == sorted(NAMES * len(RELATIONS))
    assert {len(some) for some in HAVING.values()} == {2, 3}


def test_questions_on_the_world() -> None:
    town, food = WORLD["anna", "lives in"], WORLD["anna", "sells"]
    towns = [town, *[one for one in CATEGORIES["towns"] if one != town][:3]]
    shown = "a {3}, b {1}, c {0}, d {2}".format(*towns)
    assert options("tell which town anna lives in", shown) == (towns[3], towns[1], towns[0], towns[2])
    assert worked("tell which town anna lives in", shown) == town
    assert worked("say what comes after anna lives in", shown) == town
    strangers = [name for name in NAMES if name not in HAVING[f"lives in {town}"]][:3]
    who = "a {}, b {}, c {}, d anna".format(*strangers)
    assert worked(f"name who lives in {town}", who) == "anna"
    assert worked(f"name who lives in {town} and sells {food}", who) == "anna\nanna"
    (neighbour, *_) = (name for name in HAVING[f"lives in {town}"] if name != "anna")
    who = "a {}, b {}, c {}, d {}".format(*strangers, neighbour)
    assert worked("find who lives in the same town as anna", who) == f"{town}\n{neighbour}"
    foods = [food, *[one for one in CATEGORIES["foods"] if one not in told_of(town)][:3]]
    shown = "a {}, b {}, c {}, d {}".format(*foods)
    who_sells = next(name for name in HAVING[f"lives in {town}"] if WORLD[name, "sells"] == food)
    assert worked(f"tell which food someone who lives in {town} sells", shown) == f"{who_sells}\n{food}"


def told_of(town: str) -> list[str]:
    return [WORLD[name, "sells"] for name in HAVING[f"lives in {town}"]]


def test_training_tells_every_fact_that_a_test_asks_for() -> None:
    told = set()
    for name, verb in WORLD:
        noun, article = RELATIONS[verb].noun, RELATIONS[verb].article
        said = RELATIONS[verb].says(WORLD[name, verb])
        for form in (f"which {noun} {name} {verb}", f"what comes after {name} {verb}{article}", f"who {said}"):
            found = recognise(f"tell {form}")
            assert found is not None
            assert found.level == 1
            if split_of(found.instruction.key) == "train":
                told.add((name, verb))
    assert told == set(WORLD)
    family = EVERY["knowledge"]
    test = draw_instructions(family, 40, split="test", levels=[1], seed=0)
    train = draw_instructions(family, 200, split="train", levels=[1], seed=0)
    assert not {one.key for one in test} & {one.key for one in train}


def test_options_hold_one_right_answer_and_its_letter_counts() -> None:
    family = EVERY["knowledge"]
    places = Counter[int]()
    for task in draw(family, 1200, seed=5):
        one, text, right = task.instruction, task.example.input, task.example.output
        shown = family.options(one, text)
        assert len(set(shown)) == 4
        assert family.chance(one, text) == 1 / 4
        place = shown.index(right)
        places[place] += 1
        for letter, option in zip("abcd", shown, strict=True):
            for answer in (letter, option, f"{letter} {option}"):
                assert family.accepts(one, text, answer) == (option == right)
    assert all(240 < n < 360 for n in places.values())


# Dialogue

TALK = "anna: i want rice. ben: me too. anna: now i want plum. leo: i cook plum."


@pytest.mark.parametrize(
    ("question", "talk", "answer"),
    [
        ("does anna want rice", "anna: i want rice. ben: i want plum.", "yes"),
        ("does ben want rice", "anna: i want rice. ben: i want plum.", "no"),
        ("who loves oslo", "anna: i love rome. ben: i love oslo.", "ben"),
        ("who wants the same as anna", "anna: i want rice. ben: me too. leo: i cook rice.", "rice\nben"),
        ("do anna and leo want the same", "anna: i want rice. ben: me too. leo: me too.", "rice rice\nyes"),
        ("do anna and leo want the same", "anna: i want rice. ben: me too. leo: i want soup.", "rice soup\nno"),
        ("what does anna want in the end", TALK, "rice plum\nplum"),
        ("what does anna want at first", TALK, "rice plum\nrice"),
        ("who wants rice in the end", TALK, "ben"),
        ("does ben change the mind", TALK, "no"),
        ("does anna change the mind", TALK, "yes"),
        ("does ben change the mind", "ben: i want rice. anna: i want plum. ben: me too.", "yes"),
    ],
)
def test_talks_by_hand(question: str, talk: str, answer: str) -> None:
    assert worked(question, talk) == answer


def test_options_of_talks() -> None:
    assert options("who wants rice in the end", TALK) == ("anna", "ben", "leo")
    assert options("who wants the same as anna", TALK) == ("ben", "leo")
    assert options("does ben change the mind", TALK) == ("yes", "no")
    assert options("what does anna want in the end", TALK) == ()


def test_minds_change_at_level_three_alone() -> None:
    for level in LEVELS:
        for task in draw(EVERY["dialogue"], 200, levels=[level]):
            text = task.example.input
            said = [(who, *words.split()[-2:]) for who, words in (part.split(": ") for part in text[:-1].split(". "))]
            assert len({who for who, *_ in said}) == (2 if level == 1 else 3)
            assert level > 1 or "me too" not in text
            if level < 3:
                assert "now" not in text
            elif "me too" not in text:
                assert "now" in text


def test_yes_is_as_likely_as_no() -> None:
    for level in LEVELS:
        answers = Counter(task.example.output for task in draw(EVERY["dialogue"], 800, levels=[level]))
        assert 0.4 < answers["yes"] / (answers["yes"] + answers["no"]) < 0.6


# Role


@pytest.mark.parametrize(
    ("persona", "said", "answer"),
    [
        ("be a sailor who ends with ahoy", "who are you", "i am a sailor ahoy"),
        ("be a sailor who says jack for i", "who are you", "jack is a sailor"),
        ("act as a king who greets with oyez", "i am anna", "oyez anna"),
        ("act as a king who greets with oyez", "rice, axe or boot", "i take rice"),
        ("play a miller who takes the third offer", "rice, axe or boot", "i take boot"),
        ("play a miller who never speaks of tools", "rice, axe or boot", "i do not speak of tools"),
        ("play a miller who never speaks of towns", "rice, axe or boot", "i take rice"),
        ("be a queen who takes the second offer and says ida for i", "rice, axe or boot", "i take axe\nida takes axe"),
        (
            "be a queen who never speaks of foods, says ida for i and starts with aha",
            "rice, axe or boot",
            "i do not speak of foods\nida does not speak of foods\naha ida does not speak of foods",
        ),
    ],
)
def test_replies_by_hand(persona: str, said: str, answer: str) -> None:
    assert worked(persona, said) == answer


def test_habits_are_of_different_sorts_in_one_order() -> None:
    sorts = list(HABITS)
    for level in LEVELS:
        for task in draw(EVERY["role"], 200, levels=[level]):
            (_, (_, *habits)) = task.instruction.setting[1][0]
            places = [sorts.index(habit.name) for habit in habits]
            assert places == sorted(set(places))
            assert len(places) == level


def test_a_habit_makes_a_difference() -> None:
    """Of most examples the reply is another one than that of a person without habits."""
    tasks = draw(EVERY["role"], 300, levels=[1])
    plain = ("hello ", "i am a ", "i take ")
    assert sum(not task.example.output.startswith(plain) for task in tasks) > 120


# Size


def test_new_families_are_short() -> None:
    """In pieces of a vocabulary that they make together: questions of at most 40, worked answers of fewer than 48."""
    tasks = [task for name in NEW for task in draw(EVERY[name], 600)]
    questions = [f"{task.example.instruction}\n{task.example.input}" for task in tasks]
    answers = [EVERY[task.example.source].worked(task.instruction, task.example.input) for task in tasks]
    layout = TextLayout(pieces([*questions, *answers], 8), 40, 48)
    assert all(layout.fits(question, answer) for question, answer in zip(questions, answers, strict=True))
    lengths = [len(layout.split(question)) for question in questions]
    assert sum(lengths) / len(lengths) < 26
