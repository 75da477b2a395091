"""Instruction families: oracles against answers by hand, splits, levels, texts, and code against its interpreter."""

import pickle
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from itertools import product
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_functions import interpret

from labkit.errors import BadRequest
from labkit.instructions import markov
from labkit.instructions.draws import Rule
from labkit.instructions.encrypted import encrypt_plain
from labkit.instructions.families import ABILITIES, EVERY, FAMILIES
from labkit.instructions.family import (
    LEVELS,
    SPLITS,
    TASK_TYPES,
    Family,
    Instruction,
    Split,
    Task,
    draw,
    draw_instructions,
    split_of,
)
from labkit.instructions.functions import (
    BATTERY,
    FUNCTIONS,
    KEEP,
    RETURN,
    SOURCES,
    Program,
    build,
    fingerprint,
    problem,
)
from labkit.instructions.functions import tests as unit_tests
from labkit.instructions.lexicon import CONSONANTS, LETTERS, WORDS
from labkit.instructions.recognise import recognise
from labkit.instructions.steps import PIECE, StepFamily
from labkit.instructions.told_families import LANGUAGES, translated

ALL: dict[str, Any] = {**FAMILIES, FUNCTIONS.name: FUNCTIONS}
FRESH = {  # inputs that no battery holds
    "list of numbers": [[9, -5, 0, 13, 2, 2], [1, 3, 5], [100, 50, 4, 7, 8, 6, 14], [-1, -2, -6, 12, 11]],
    "text": ["the quick brown fox jumps", "a bb ccc dddd eeeee gggggg", "rats lead", "open the small gate"],
    "whole number": [6, 14, 57, 128, 305],
}

DRAWN = {  # of each family, what a few draws came to when studies were first frozen
    "rewriting": "566bb99b", "sorting": "215e7896", "counting": "a208f28e", "arithmetic": "11c889ef",
    "dates": "65ed33ae", "editing": "b027c6d6", "reading": "e3889363", "deduction": "3167175b",
    "classification": "5bcea247", "formatting": "03d64c80", "functions": "606fa4ca", "encrypted": "bf9b73ba",
    "programs": "5a48bb66", "knowledge": "af6dc546", "dialogue": "92aff2e9", "role": "73dd1f00",
    "speaking": "a5e22faa", "summaries": "a7c87d39", "translation": "0f10287f",
}  # fmt: skip


@pytest.mark.parametrize("name", EVERY)
def test_draws_stay_what_they_were(name: str) -> None:
    """Stored points name tasks by their seeds alone."""
    family, drawn = EVERY[name], []
    for split, level in product(SPLITS, LEVELS):
        for task in draw(family, 8, split=split, levels=[level], seed=3):
            shown, one = task.example, task.instruction
            worked = family.worked(one, shown.input)
            drawn.append((shown.instruction, shown.input, shown.output, one.key, one.phrasings, worked))
    assert sha256(repr(drawn).encode()).hexdigest()[:8] == DRAWN[name]


def wanted(name: str, level: int, *texts: str) -> Callable[[str], str]:
    """The oracle of an instruction of a level whose steps are worded like this."""
    rng = Random(0)
    family = EVERY[name]
    assert isinstance(family, StepFamily)
    for number, kind in enumerate(family.kinds):
        if level in kind.levels and len(kind.pools) == len(texts):
            settled = [settle(pool, text, rng, level) for pool, text in zip(kind.pools, texts, strict=True)]
            if all(settled):
                return lambda text: family.worked(family.settle(number, settled), text)
    raise AssertionError(f"no instruction of {name} says {texts}")


def settle(pool: Any, text: str, rng: Random, level: int) -> Any:
    for i, step in enumerate(pool):
        start = {wording.split("{")[0] for wording in step.texts}
        for _ in range(20_000 if text.startswith(tuple(start)) else 0):
            values = step.values(rng, level)
            if any(wording.format(*values) == text for wording in step.texts):
                return i, values
    return None


CHAIN = "vera is shorter than tom. ida is taller than tom. vera is taller than leo."


@pytest.mark.parametrize(
    ("family", "level", "steps", "text", "answer"),
    [
        ("sorting", 1, ["sort numbers by last digit, ascending"], "31 42 20 11", "20 31 11 42"),
        ("sorting", 1, ["sort words by length, descending"], "cat mouse axe rope", "mouse rope cat axe"),
        ("sorting", 2, ["rank words by the alphabet, ascending", "keep the first 2"], "rose axe cat lima", "axe cat"),
        ("sorting", 3, ["keep numbers that are even", "sort numbers by size, descending", "keep the last 2"], "10 31 42 20 77", "20 10"),  # noqa: E501
        ("counting", 1, ["how many numbers are odd"], "10 31 42 77 99", "3"),
        ("counting", 1, ["how many words name animals"], "cat axe wolf rome", "2"),
        ("counting", 2, ["count numbers that are above 30 and end in 2"], "12 32 31 42", "2"),
        ("counting", 2, ["count numbers that are above 30 or end in 2"], "12 32 31 14", "3"),
        ("arithmetic", 1, ["add 37"], "85", "122"),
        ("arithmetic", 1, ["subtract 99"], "85", "-14"),
        ("arithmetic", 2, ["double it", "add 15"], "48", "111"),
        ("arithmetic", 3, ["halve it, rounding down", "add 15", "multiply by 3"], "49", "117"),
        ("dates", 1, ["which weekday is 10 days after this"], "friday", "monday"),
        ("dates", 1, ["which weekday is 10 days before this"], "monday", "friday"),
        ("dates", 1, ["write the date as day month year, with . between"], "march 5 2023", "5.3.2023"),
        ("dates", 2, ["which date is 30 days later"], "february 1", "march 3"),
        ("dates", 2, ["which date is 40 days earlier"], "january 31", "december 22"),
        ("dates", 2, ["how many days after july 4 is this"], "december 25", "174"),
        ("dates", 3, ["give the date and weekday 2 weeks and 3 days later"], "december 20 monday", "january 6 thursday"),  # noqa: E501
        ("editing", 1, ["delete word 2"], "cat axe dog", "cat dog"),
        ("editing", 1, ["swap words 1 and 3"], "cat axe dog rome", "dog axe cat rome"),
        ("editing", 1, ["move word 2 to the front"], "cat axe dog", "axe cat dog"),
        ("editing", 1, ["put cheese before word 2"], "cat axe", "cat cheese axe"),
        ("editing", 2, ["double word 1", "put word 3 in brackets"], "cat axe dog", "cat cat (axe) dog"),
        ("reading", 1, ["what does anna like"], "ben likes soup. anna likes rice.", "rice"),
        ("reading", 1, ["who drives the bus"], "anna drives the car. otto drives the bus.", "otto"),
        ("reading", 1, ["does anna visit rome"], "anna visits oslo. ben visits rome.", "no"),
        ("reading", 2, ["what does the one who feeds the cat like"], "sam feeds the cat. tom likes plum. sam likes rice.", "rice"),  # noqa: E501
        ("reading", 3, ["who visits the same as the one who likes plum"], "sam visits rome. tom likes plum. tom visits rome.", "sam"),  # noqa: E501
        ("deduction", 1, ["is anna older than ben"], "ben is younger than anna. leo is older than tom.", "yes"),
        ("deduction", 2, ["who is taller, leo or ida"], CHAIN, "ida"),
        ("deduction", 3, ["how many are taller than vera"], CHAIN, "2"),
        ("deduction", 3, ["list all who are taller than vera, the tallest first"], CHAIN, "ida tom"),
        ("deduction", 3, ["name the one who is just taller than vera"], CHAIN, "tom"),
        ("formatting", 1, ["join words with ;"], "cat axe dog", "cat;axe;dog"),
        ("formatting", 1, ["join pairs with =, these with ;"], "cat axe dog rome", "cat=axe;dog=rome"),
        ("formatting", 3, ["reverse the words", "label words with numbers and :", "join words with ;"], "cat axe", "1:axe;2:cat"),  # noqa: E501
    ],
)  # fmt: skip
def test_answers_by_hand(family: str, level: int, steps: list[str], text: str, answer: str) -> None:
    assert EVERY[family].final(wanted(family, level, *steps)(text)) == answer


@pytest.mark.parametrize(
    ("family", "level", "steps", "text", "worked"),
    [
        ("arithmetic", 1, ["add 37"], "85", "5+7=12\n8+3+1=12\n122"),
        ("arithmetic", 1, ["subtract 99"], "85", "9-5=4\n9-8=1\n-14"),
        ("arithmetic", 3, ["halve it, rounding down", "add 15", "multiply by 3"], "49", "24\n39\n117"),
        ("sorting", 2, ["rank words by the alphabet, ascending", "keep the first 2"], "rose axe cat lima", "axe cat lima rose\naxe cat"),  # noqa: E501
        ("counting", 2, ["count numbers that are above 30 and end in 2"], "12 32 31 42", "32 42\n2"),
        ("dates", 3, ["give the date and weekday 2 weeks and 3 days later"], "december 20 monday", "january 3 monday\njanuary 6 thursday"),  # noqa: E501
        ("reading", 2, ["what does the one who feeds the cat like"], "sam feeds the cat. tom likes plum. sam likes rice.", "sam\nrice"),  # noqa: E501
        ("deduction", 1, ["is anna older than ben"], "ben is younger than anna. leo is older than tom.", "yes"),
        ("deduction", 3, ["how many are taller than vera"], CHAIN, "ida tom vera leo\n2"),
        ("summaries", 1, ["sum up in 2 words what anna likes"], "anna likes soup. ben likes rice. anna likes plum.", "soup plum"),  # noqa: E501
        ("summaries", 2, ["sum up in 1 word what anna and ben both like"], "anna likes soup. anna likes rice. ben likes rice.", "soup rice\nrice\nrice"),  # noqa: E501
        ("summaries", 3, ["sum up in 1 word what anna likes but ben does not"], "anna likes soup. anna likes rice. ben likes rice.", "soup rice\nrice\nsoup"),  # noqa: E501
    ],
)  # fmt: skip
def test_worked_answers_by_hand(family: str, level: int, steps: list[str], text: str, worked: str) -> None:
    assert wanted(family, level, *steps)(text) == worked


@pytest.mark.parametrize(
    ("kind", "rules", "shift", "text", "worked"),
    [
        (0, [("every", "b", "xz")], 3, "bcbz", "xzcxzz\nacfacc"),
        (1, [("last", "bc", "dfg")], 1, "bcbcb", "bcdfgb\ncdeghc"),
        (2, [("first", "b", "d"), ("last", "d", "zz")], 1, "bcb", "dcb\nzzcb\naadc"),
    ],
)
def test_encrypted_rewriting_by_hand(
    kind: int, rules: list[tuple[str, ...]], shift: int, text: str, worked: str
) -> None:
    family = EVERY["encrypted"]
    assert isinstance(family, StepFamily)
    one = family.settle(kind, [*((0, rule) for rule in rules), (0, (shift,))])
    assert family.worked(one, text) == worked
    *_, rewritten, answer = worked.split("\n")
    assert encrypt_plain(rewritten, shift, LETTERS) == answer == family.answer(one, text)


@pytest.mark.parametrize(
    ("asked", "worked"),
    [
        ('translate "mano dari beli mu" into tarska', "keste skeno dorun ka\nkeste ka dorun skeno"),
        ('translate "ka dorun rostig keste skeno" into lomi', "mu beli bua mano dari\nbua beli mu dari mano"),
        ('translate "bua beli mu ne dari mano" into tarska', None),
        ('translate "mano dari" into tarska', ""),
    ],
)
def test_translations_by_hand(asked: str, worked: str | None) -> None:
    found = recognise(asked)
    if worked == "":
        assert found is None, "that is no sentence"
        return
    assert found is not None
    if worked is None:
        assert EVERY["translation"].answer(found.instruction, "") == "ka dorun rostig keste skeno oz"
    else:
        assert EVERY["translation"].worked(found.instruction, "") == worked


@settings(deadline=None, max_examples=100)
@given(st.sampled_from(LEVELS), st.integers(0, 10**6))
def test_a_translation_put_back_is_the_sentence(level: int, seed: int) -> None:
    into, sentence = EVERY["translation"].instruction(Random(seed), level).setting[1][0][1]
    (other,) = {*LANGUAGES} - {into}
    assert translated(translated(sentence, into), other) == sentence


def test_any_summary_of_so_many_true_words_is_right() -> None:
    found = recognise("sum up in 2 words what anna likes")
    assert found is not None
    said = partial(EVERY["summaries"].accepts, found.instruction, "anna likes soup. anna likes rice. anna likes plum.")
    assert all(map(said, ("soup rice", "plum soup", "so:\nrice plum")))
    assert not any(map(said, ("soup", "soup soup", "soup rice plum", "soup lemon", "")))


@pytest.mark.parametrize(
    ("rules", "text", "worked"),
    [
        ("bc -> d, d -> fg", "xbcd", "xdd\nxfgd\nxfgfg"),
        ("d -> fg, bc -> d", "xbcd", "xbcfg\nxdfg\nxfgfg"),  # the same rules in another order
        ("ba -> ab, ca -> ac, cb -> bc", "cba", "cab\nacb\nabc"),  # the textbook's sorting
        ("1a -> a11, a -> b, 0a -> a", "10a", "10b"),  # the first rule that applies, not the first place
        ("bc -> d", "xyz", ""),
    ],
)
def test_markov_programs_in_words(rules: str, text: str, worked: str) -> None:
    family = EVERY["programs"]
    one = family.instruction(Random(0), 1)
    one = one._replace(setting=(0, ((0, (rules,)),)))
    assert family.worked(one, text) == (worked or text)
    assert family.answer(one, text) == markov.run(markov.parse(rules.replace(", ", "\n")), text).output


@settings(deadline=None, max_examples=150)
@given(st.integers(0, 10**6), st.sampled_from(LEVELS), st.text("bcdfghjkl", max_size=12))
def test_drawn_programs_halt_on_every_text(seed: int, level: int, text: str) -> None:
    family, rng = EVERY["programs"], Random(seed)
    one = family.instruction(rng, level)
    rules = one.setting[1][0][1][0]
    drawn = family.input(one, rng, level)
    assert family.worked(one, drawn).count("\n") == level - 1
    for given_ in (text, drawn, "".join(rng.choices(rules.replace(" -> ", "").replace(", ", ""), k=12))):
        assert markov.run(markov.parse(rules.replace(", ", "\n")), given_, 500).halted == "no rule applies"


@settings(deadline=None, max_examples=400)
@given(st.sampled_from(sorted(EVERY)), st.sampled_from(LEVELS), st.sampled_from(SPLITS), st.integers(0, 10**6))
def test_answers_options_and_distractors_agree(name: str, level: int, split: Split, seed: int) -> None:
    family = EVERY[name]
    (task,) = draw(family, 1, split=split, levels=[level], seed=seed)
    one, text, right = task.instruction, task.example.input, task.example.output
    worked, options = family.worked(one, text), family.options(one, text)
    wrong = family.distractors(one, text, Random(seed))
    assert wrong == family.distractors(one, text, Random(seed))
    assert family.final(worked) == family.final(f"let me see\n\n {right} \n") == right or name == "functions"
    assert family.accepts(one, text, worked)
    assert not any(family.accepts(one, text, other) for other in wrong)
    if options:
        assert options.count(right) == 1
        assert len(set(options)) == len(options) > 1
        assert set(wrong) < set(options)
        assert family.chance(one, text) == family.chance(one, text, 2) == 1 / len(options)
    else:
        assert len(set(wrong)) == 2
        assert all(other and other != right for other in wrong)
        assert (family.chance(one, text), family.chance(one, text, 2)) == (0, 1 / 3)
    if level == 1 and name not in ("arithmetic", "encrypted", "functions", "translation"):
        assert worked == right


def test_abilities_are_some_of_all_families() -> None:
    assert next(iter(ABILITIES)) == "knowledge"
    assert len(ABILITIES) == len(FAMILIES) == 10
    assert EVERY.keys() > {*FAMILIES, *ABILITIES}
    assert all(family.name == name for name, family in EVERY.items())
    assert {family.task_type for family in EVERY.values()} == set(TASK_TYPES) - {"writing"}


def test_draws_of_older_families_stay_as_they_are() -> None:
    """Results in people's stores rest on them."""
    seen = sha256()
    for family in (*FAMILIES.values(), FUNCTIONS):
        for task in draw(family, 30, split="test", seed=7) + draw(family, 30, seed=0, n_instructions=20):
            seen.update(repr(tuple(task)).encode())
    assert seen.hexdigest()[:16] == "38daae680203ac23"


def test_an_answer_to_something_else_is_refused() -> None:
    for name in ("arithmetic", "dates", "reading", "deduction", "knowledge", "dialogue"):
        one = EVERY[name].instruction(Random(1), 1)
        with pytest.raises(BadRequest, match=name):
            EVERY[name].answer(one, "what? no!")


def test_rewriting_and_classification_by_hand() -> None:
    for settled, text, answer in (
        (("first", "bc", "xyz"), "dbcbc", "dxyzbc"),
        (("last", "bc", "xyz"), "dbcbc", "dbcxyz"),
        (("every", "bc", "xyz"), "dbcbc", "dxyzxyz"),
        (("first", "bc", "xyz"), "dddd", "dddd"),
    ):
        one = FAMILIES["rewriting"].instruction(Random(0), 2)
        assert FAMILIES["rewriting"].answer(one._replace(setting=(1, ((0, settled),))), text) == answer
    three = ("cat", "dog", "axe", Rule("are above {}", 30), Rule("are even", "-"))
    one = next(
        task.instruction for task in draw(FAMILIES["classification"], 50, levels=[3]) if task.example.input.isdigit()
    )
    one = one._replace(setting=(one.setting[0], ((0, three),)))
    assert [FAMILIES["classification"].answer(one, text) for text in ("31", "30", "29")] == ["cat", "dog", "axe"]


@pytest.mark.parametrize("name", EVERY)
def test_a_family_keeps_its_promises(name: str) -> None:
    family = EVERY[name]
    assert family.name == name
    assert family.task_type in TASK_TYPES
    for level in LEVELS:
        train, test = (
            draw_instructions(family, n, split=split, levels=[level], seed=1)
            for n, split in ((100, "train"), (25, "test"))
        )
        assert len({one.key for one in train + test}) == 125
        assert {split_of(one.key) for one in train} == {"train"}
        assert {split_of(one.key) for one in test} == {"test"}
        assert draw_instructions(family, 40, split="train", levels=[level], seed=1) == train[:40]
        assert min(len(set(one.phrasings)) for one in train + test) >= 4
        tasks = draw(family, 300, levels=[level], seed=2)
        assert tasks == draw(family, 300, levels=[level], seed=2)
        assert tasks != draw(family, 300, levels=[level], seed=3)
        assert {task.level for task in tasks} == {level}
        assert pickle.loads(pickle.dumps(tasks)) == tasks
        for task in tasks:
            check_text(task)
            assert family.accepts(task.instruction, task.example.input, f" {task.example.output} ")
            assert not family.accepts(task.instruction, task.example.input, task.example.output + " x")
        answers = [task.example.output for task in tasks]
        assert max(map(answers.count, set(answers))) < 0.4 * len(answers)


def check_text(task: Task) -> None:
    example, code = task.example, task.example.source == "functions"
    for text in (example.instruction, example.input, example.output):
        assert text.isascii()
        assert text == text.lower()
        assert text.strip() == text
        assert code or "\n" not in text
    assert example.output
    assert bool(example.input) == (example.source not in ("speaking", "translation")), "there, the instruction says all"
    assert len(example.instruction.split()) <= (25 if code else 20)
    assert len(example.input.split()) <= (20 if example.source == "dialogue" else 16)
    assert len(example.input.split()) > 1 or len(example.input) <= 24
    assert code or len(example.output.split()) <= 12
    assert len(PIECE.findall(example.output)) <= (50 if code else 24)


def test_a_model_needs_few_words() -> None:
    tasks = [
        task
        for family in ALL.values()
        for level in LEVELS
        for task in draw(family, 400, levels=[level], n_instructions=300 if family is FUNCTIONS else None)
    ]
    texts = [text for task in tasks for text in (*task.instruction.phrasings, task.example.input, task.example.output)]
    words = {piece for text in texts for piece in PIECE.findall(text) if len(piece) > 1 and piece.isalpha()}
    assert set(WORDS) < words
    assert len(words) <= 450
    assert all(set(word) & set("aeiouy") for word in words), "a string of random letters may be taken for a word"
    assert not set(CONSONANTS) & set("aeiouy")


@pytest.mark.parametrize("name", FAMILIES)
def test_answers_depend_on_inputs_and_levels_on_length(name: str) -> None:
    family = FAMILIES[name]
    lengths = []
    for level in LEVELS:
        tasks = draw(family, 400, levels=[level], n_instructions=20)
        answers: dict[str, set[str]] = {}
        for task in tasks:
            answers.setdefault(task.instruction.key, set()).add(task.example.output)
        assert sum(len(some) > 1 for some in answers.values()) >= 19
        lengths.append(sum(len(PIECE.findall(task.example.instruction + task.example.input)) for task in tasks) / 400)
    assert lengths[0] < lengths[2] > lengths[1]


@pytest.mark.parametrize("family", [FAMILIES["counting"], FUNCTIONS], ids=lambda family: family.name)
def test_inputs_are_of_the_level_of_their_instruction(family: Family) -> None:
    for task in draw(family, 60, levels=[1, 3], n_instructions=5):
        place = draw_instructions(family, 5, split="train", levels=[1, 3], seed=0).index(task.instruction)
        assert task.level == (1, 3)[place % 2]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"levels": [0, 1]}, "level 0"),
        ({"levels": []}, "no level"),
        ({"n_instructions": 0}, "n_instructions = 0"),
        ({"n_instructions": 5000, "levels": [1]}, "ask for fewer"),
    ],
)
def test_refusals(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        draw(FAMILIES["arithmetic"], 3, **asked)


# Functions


def compiled(code: str) -> Callable[[Any], Any]:
    names: dict[str, Any] = {}
    exec(code, names)
    return names["f"]


def passes(code: str, instruction: Instruction) -> bool:
    names: dict[str, Any] = {}
    try:
        exec(code + "\n" + unit_tests(instruction), names)
    except Exception:
        return False
    return True


def drawn(n: int, split: Any = "train", seed: int = 0) -> list[Instruction]:
    return draw_instructions(FUNCTIONS, n, split=split, levels=LEVELS, seed=seed)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.sampled_from(LEVELS), st.data())
def test_code_does_what_the_interpreter_does(seed: int, level: int, data: st.DataObject) -> None:
    one = FUNCTIONS.instruction(Random(seed), level)
    takes = SOURCES[one.setting.source].takes
    inputs = {
        "list of numbers": st.lists(st.integers(-30, 30), max_size=12),
        "text": st.text("abcdeginorst  ", max_size=30),
        "whole number": st.integers(0, 400),
    }
    f, run = compiled(FUNCTIONS.answer(one, "")), partial(interpret, one.setting)
    for x in [*data.draw(st.lists(inputs[takes], min_size=5, max_size=5)), *FRESH[takes], *BATTERY[takes]]:
        assert (f(x), type(f(x))) == (run(x), type(run(x)))


def test_keys_are_behaviours() -> None:
    def key(*parts: tuple[str, Any], source: str = "list") -> str | None:
        return fingerprint(Program("chain", source, parts))

    nothing = ("", 0)
    assert key(("above", 0), nothing, ("sum", 0)) != key(("above", 1), nothing, ("sum", 0))
    assert key(("even", 0), ("double", 0), ("sum", 0)) == key(("even", 0), nothing, ("times", 2))
    assert key(nothing, nothing, ("reverse", 0)) is not None
    assert key(nothing, ("upper", 0), ("count", 0), source="letters") is None  # counting does not see the case
    assert key(nothing, ("negate", 0), ("count", 0)) is None
    assert key(("below", 100), nothing, nothing) is None  # returns its input


def test_training_and_test_functions_differ_on_fresh_inputs() -> None:
    def behaviours(instructions: list[Instruction]) -> set[str]:
        rows = [(SOURCES[one.setting.source].takes, build(one.setting).run) for one in instructions]
        rng = Random(5)
        more = {
            "list of numbers": [[rng.randint(-9, 20) for _ in range(rng.randint(0, 9))] for _ in range(150)],
            "text": ["".join(rng.choices("abdegilmoprst  ", k=rng.randint(0, 20))) for _ in range(150)],
            "whole number": list(range(200)),
        }
        return {f"{takes} {[run(x) for x in more[takes] + FRESH[takes]]}" for takes, run in rows}

    train, test = drawn(300), drawn(100, "test")
    assert not behaviours(train) & behaviours(test)
    assert not {one.composition for one in train} & {one.composition for one in test}


def test_unit_tests_tell_a_program_from_all_others() -> None:
    some = drawn(60, seed=3) + drawn(30, "test", seed=3)
    codes = {one.key: FUNCTIONS.answer(one, "") for one in some}
    rng = Random(0)
    rejected = tried = 0
    for one in some:
        assert passes(codes[one.key], one)
        same = [other for other in some if other.setting.source == one.setting.source and other.key != one.key]
        for other in rng.sample(same, min(8, len(same))) + rng.sample([x for x in some if x.key != one.key], 2):
            tried += 1
            rejected += not passes(codes[other.key], one)
    assert tried > 500
    assert rejected == tried


def test_unit_tests_reject_small_faults() -> None:
    faults = (
        (">", ">="),
        ("<", "<="),
        ("% 2 == 0", "% 2 == 1"),
        ("sum(", "len("),
        ("+=", "-="),
        ("[::-1]", ""),
        (" + ", " - "),
    )
    tried = rejected = 0
    for one in drawn(120, seed=4):
        code = FUNCTIONS.answer(one, "")
        for old, new in faults:
            if old in code:
                tried += 1
                rejected += not passes(code.replace(old, new, 1), one)
    assert tried > 60
    assert rejected >= 0.98 * tried  # the rest differ from the reference on rare inputs alone


def test_a_problem_has_the_shape_of_human_eval() -> None:
    for task in draw(FUNCTIONS, 30, split="test", seed=1):
        one = problem(task)
        assert set(one) == {"task_id", "prompt", "entry_point", "canonical_solution", "test"}
        names: dict[str, Any] = {}
        exec(one["prompt"] + one["canonical_solution"] + "\n" + one["test"] + f"\ncheck({one['entry_point']})", names)
        assert task.example.instruction in names["f"].__doc__
        with pytest.raises(AssertionError):
            exec(one["prompt"] + "    return None\n\n" + one["test"] + f"\ncheck({one['entry_point']})", {})
        assert 10 <= one["test"].count("assert") <= 12


def test_every_part_is_drawn_and_compiles() -> None:
    seen = {
        part[0]
        for level in LEVELS
        for task in draw(FUNCTIONS, 500, levels=[level])
        for part in task.instruction.setting.parts
    }
    for tables in (KEEP, RETURN):
        for table in tables.values():
            assert set(table) <= seen
