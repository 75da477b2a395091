"""A teacher's part in a training set: what it fails at stays as it was, and everything lost is counted."""

import json
from collections.abc import Callable, Sequence
from itertools import count, islice
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tiny_llama

from labkit import BadRequest
from labkit.design import Decontaminator, curriculum
from labkit.instructions import FAMILIES, Example, draw
from labkit.instructions.corpora import read
from labkit.learn import qlora
from labkit.teach import oracle, prompts
from labkit.teach.client import Failure, Reply, Request
from labkit.teach.distil import classify_all, expand_all, normal, question_of, refine_all
from labkit.teach.judge import Judge, agreement, difficulties

DATA = Path(__file__).parents[2] / "shared" / "data"
KINDS = {"code": "programs", "editing": "changes of a text", "role-play": "a character's words"}


class Fake:
    """A teacher: a function of the kind of request, its quoted parts and its sample; None is a failure."""

    def __init__(self, says: Callable[[str, dict[str, str], int], str | None], cut: bool = False) -> None:
        self.says, self.cut = says, cut
        self.asked: list[Request] = []

    def ask_many(self, requests: Sequence[Request]) -> list[Reply | Failure]:
        self.asked += requests
        return [self._one(request) for request in requests]

    def _one(self, request: Request) -> Reply | Failure:
        text = request.messages[-1]["content"]
        kind = prompts.kind_of(request.messages)
        said = self.says(kind or "", prompts.sections(text) | {"all": text}, request.sample)
        if said is None:
            return Failure("the endpoint answers 500, five times in a row", 5)
        return Reply(said, 1, 1, "fake", "length" if self.cut else "stop")


def seed(i: int, instruction: str = "", text: str = "") -> Example:
    return Example(instruction or f"Reverse the text number {i}.", text, f"answer {i}", "toy", f"toy {i}")


COUNT = count()


def numbered(kind: str, parts: dict[str, str], sample: int) -> str:
    """New pairs, never the same twice, as many as asked for."""
    wanted = int(parts["all"].split("Write ")[1].split(" new")[0])
    return prompts.written([(f"New instruction {i}", "", f"answer {i}") for i in islice(COUNT, wanted)])


def test_kinds_are_read_and_what_is_not_is_counted() -> None:
    said = {"a": "code", "b": "It is 'Editing'.", "c": "code or editing", "d": "poetry", "e": None, "f": "ROLE-PLAY"}
    found = classify_all(Fake(lambda kind, parts, sample: said[parts["instruction"]]), list(said), KINDS)
    assert found.kinds == ["code", "editing", None, None, None, "role-play"]
    assert found.counts == {"asked": 6, "classified": 3, "unreadable": 2, "failed": 1}
    with pytest.raises(BadRequest) as refused:
        classify_all(Fake(numbered), ["a"], {})
    assert str(refused.value) == "a classifier needs kinds of tasks to choose from"


def test_expansion_shows_seeds_of_one_kind_and_difficulty() -> None:
    seeds = [seed(i) for i in range(12)]
    kinds = ["code", "editing", None] * 4
    teacher = Fake(numbered)
    found = expand_all(teacher, seeds, kinds, 9, difficulty=[1, 1, 1, 2, 2, 2] * 2, shown=2, each=2)
    assert found.counts == {
        "wanted": 9,
        "requests": 5,
        "failed": 0,
        "written": 9,
        "unreadable": 0,
        "duplicates": 0,
        "forbidden": 0,
        "contaminated": 0,
        "surplus": 0,
        "kept": 9,
        "missing": 0,
        "untyped": 4,
    }
    assert sorted(found.kinds) == ["code"] * 5 + ["editing"] * 4
    for example, kind, origins in zip(found.examples, found.kinds, found.origins, strict=True):
        assert example.source == "expansion"
        assert len(set(origins)) == 2
        assert {kinds[i] for i in origins} == {kind}
        assert len({(i // 3) % 2 for i in origins}) == 1  # one difficulty
    shown = prompts.sections(teacher.asked[0].messages[-1]["content"])["examples"].splitlines()
    assert [json.loads(line)["output"] for line in shown] == [seeds[i].output for i in found.origins[0]]
    by_kind = expand_all(Fake(numbered), seeds, kinds, {"editing": 5})
    assert by_kind.kinds == ["editing"] * 5


def test_what_a_teacher_writes_again_is_left_out_and_asked_for_once_more() -> None:
    seeds = [seed(0), seed(1)]

    def says(kind: str, parts: dict[str, str], sample: int) -> str:
        copies = [("reverse  THE text number 0.", "", "x"), ("new", "a", "x"), ("NEW", " a ", "y"), ("test", "", "z")]
        return prompts.written(copies) + "\nHere you are!\n" if sample == 0 else prompts.written([("newer", "", "x")])

    found = expand_all(
        Fake(says),
        seeds,
        ["code", "code"],
        4,
        tries=3,
        forbidden=lambda question: "is a test's" if question.startswith("test") else None,
    )
    assert [(e.instruction, e.input) for e in found.examples] == [("new", "a"), ("newer", "")]
    counts = found.counts
    assert counts["written"] == counts["kept"] + counts["duplicates"] + counts["forbidden"] == 6
    assert (counts["duplicates"], counts["forbidden"], counts["unreadable"]) == (3, 1, 1)
    assert (counts["requests"], counts["missing"]) == (3, 2)
    assert found.examples[0].instruction_id != found.examples[1].instruction_id
    known = expand_all(Fake(says), seeds, ["code", "code"], 4, tries=1, known=[Example("new", "A", "", "", "")])
    assert [e.instruction for e in known.examples] == ["test"]


def test_what_shares_words_with_a_test_is_left_out(tmp_path: Path) -> None:
    words = "write a function that returns the sum of all even numbers in a list of numbers"
    test = tmp_path / "tests.jsonl"
    test.write_text(json.dumps({"task_id": "t/1", "prompt": words}) + "\n")
    written = prompts.written([("Please", words, "x"), ("Add two numbers.", "", "x"), ("Subtract.", "", "x")])
    found = expand_all(
        Fake(lambda kind, parts, sample: written), [seed(0)], ["code"], 1, guard=Decontaminator([test]), tries=1
    )
    assert [e.instruction for e in found.examples] == ["Add two numbers."]
    assert found.counts["contaminated"] == 1
    assert found.counts["surplus"] == 1  # more than was asked for


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.sampled_from(["code", "editing", None]), min_size=1, max_size=10).filter(any),
    st.integers(1, 20),
    st.lists(st.sampled_from(["new", "copy", "prose", "gone", "many"]), min_size=1, max_size=8),
    st.integers(1, 3),
)
def test_expansion_counts_add_up_whatever_a_teacher_says(
    kinds: list[str | None], n: int, moods: list[str], tries: int
) -> None:
    turn = count()

    def says(kind: str, parts: dict[str, str], sample: int) -> str | None:
        number = next(turn)
        mood = moods[number % len(moods)]
        if mood == "gone":
            return None
        if mood == "prose":
            return "I would rather not.\nReally."
        if mood == "copy":
            return prompts.written([(seed(0).instruction, "", "x")] * 2)
        return prompts.written([(f"new {number} {i}", "", "x") for i in range(9 if mood == "many" else 1)])

    seeds = [seed(i) for i in range(len(kinds))]
    found = expand_all(Fake(says), seeds, kinds, n, tries=tries, each=3)
    counts = found.counts
    lost = sum(counts[name] for name in ("duplicates", "forbidden", "contaminated", "surplus"))
    assert counts["written"] == counts["kept"] + lost
    assert counts["wanted"] == n == counts["kept"] + counts["missing"]
    assert len(found.examples) == len(found.kinds) == len(found.origins) == counts["kept"]
    assert len({normal(e.instruction, e.input) for e in found.examples}) == counts["kept"]
    assert counts["untyped"] == kinds.count(None)


def test_equal_seeds_ask_equal_questions() -> None:
    seeds = [seed(i) for i in range(9)]

    def texts(number: int) -> list[str]:
        teacher = Fake(lambda kind, parts, sample: "")
        expand_all(teacher, seeds, ["code"] * 9, 8, seed=number)
        return [request.messages[-1]["content"] for request in teacher.asked]

    assert texts(1) == texts(1) != texts(2)
    assert len(texts(1)) == 6  # two requests, three tries


def test_what_expansion_refuses() -> None:
    seeds = [seed(0), seed(1)]
    for kinds, n, more, said in [
        (["code"], 1, {}, "2 seeds, 1 kinds and 2 difficulties: as many of each"),
        ([None, None], 1, {}, "none of the 2 seeds has a kind: there is nothing to write new pairs after"),
        (["code", "code"], 0, {}, "n = 0: ask for one new pair or more, and for no negative number"),
        (["code", "code"], {"code": 2, "editing": 1}, {}, "unknown kind of the seeds 'editing'"),
        (["code", "code"], 1, {"each": 0}, "shown = 4, each = 0 and tries = 3 must be 1 or more"),
    ]:
        with pytest.raises(BadRequest) as refused:
            expand_all(Fake(numbered), seeds, kinds, n, **more)  # type: ignore[arg-type]
        assert str(refused.value).startswith(said)


def test_refinement_keeps_what_the_teacher_does_not_better() -> None:
    said = {"answer 0": "better", "answer 1": None, "answer 2": "  ", "answer 3": "answer 3\n", "answer 4": "ok"}
    examples = [seed(i) for i in range(5)]
    teacher = Fake(lambda kind, parts, sample: said[parts["response"]])
    found = refine_all(teacher, examples, ["mathematics", "code", "code", None, "writing"])
    assert [e.output for e in found.examples] == ["better", "answer 1", "answer 2", "answer 3", "ok"]
    assert [e.instruction_id for e in found.examples] == [e.instruction_id for e in examples]
    assert found.counts == {
        "asked": 5,
        "refined": 2,
        "same": 1,
        "empty": 1,
        "truncated": 0,
        "failed": 1,
        "untyped": 1,
    }
    texts = [request.messages[-1]["content"] for request in teacher.asked]
    assert prompts.REFINEMENTS["mathematics"] in texts[0]
    assert prompts.DEFAULT in texts[3]
    cut = refine_all(Fake(lambda kind, parts, sample: "bett", cut=True), examples[:1], ["code"])
    assert cut.examples == examples[:1]
    assert cut.counts["truncated"] == 1
    with pytest.raises(BadRequest) as refused:
        refine_all(teacher, examples, ["code"])
    assert str(refused.value) == "5 examples and 1 kinds: as many of each"


def test_the_oracle_understands_what_is_asked() -> None:
    """Every step, with the offline teacher behind the same protocol."""

    class Offline:
        def ask_many(self, requests: Sequence[Request]) -> list[Reply | Failure]:
            return [Reply(oracle.reply(r.messages, seed=r.sample), 1, 1, "oracle", "stop") for r in requests]

    tasks = [task for family in FAMILIES.values() for task in draw(family, 3, seed=1)]
    examples = [task.example for task in tasks]
    truth = [FAMILIES[e.source].task_type for e in examples]
    kinds = dict.fromkeys(sorted(set(truth)), "")
    found = classify_all(Offline(), [question_of(e) for e in examples], kinds)
    assert found.kinds == truth
    answers = [e.output if i % 2 else "no idea" for i, e in enumerate(examples)]
    questions, public = [question_of(e) for e in examples], [e.output for e in examples]
    hard = difficulties(Judge(Offline()), questions, answers, public)
    assert hard.counts["scored"] == len(examples)
    right = [bool(i % 2) for i in range(len(examples))]
    assert agreement(hard.student.values, right).accuracy.mean == 1
    chosen = curriculum.select(hard.mfd, 2)
    assert set(chosen.hard.tolist()) <= set(range(0, len(examples), 2))
    new = expand_all(Offline(), examples, found.kinds, 12)
    assert new.counts["kept"] >= 10
    assert new.counts["unreadable"] == 0
    again = classify_all(Offline(), [question_of(e) for e in new.examples], kinds)
    assert sum(a == b for a, b in zip(again.kinds, new.kinds, strict=True)) >= 10
    refined = refine_all(Offline(), examples, found.kinds)
    assert refined.counts["failed"] == refined.counts["empty"] == 0


RECORDED = [  # new pairs as a large model writes them, with the talk around them
    ("Sort these prices from low to high.", "3.20, 1.99, 10.00", "1.99, 3.20, 10.00"),
    ("Give three tips for staying healthy.", "", "Sleep, move, eat vegetables."),  # Alpaca's own first record
    ("Write a regular expression for a date like 2024-05-01.", "", r"\d{4}-\d{2}-\d{2}"),
    ("Explain why ice floats.", "", "It is less dense than water."),
]


def heuristic(kind: str, parts: dict[str, str], sample: int) -> str:
    """A judge that likes answers of some length, a classifier that looks for words, and recorded answers."""
    if kind == "score":
        words = len(parts["answer"].split())
        if words == 0:
            return "There is no answer, and I am at a loss."  # no rating: None
        return f"{words} words. [[{min(10, 1 + words // 3)}]]"
    if kind == "classify":
        text = parts["instruction"].lower()
        marks = {"code": ("function", "code", "program", "python", "sql"), "writing": ("write", "poem", "story")}
        found = [name for name, words in marks.items() if any(word in text for word in words)]
        return (
            found[0] if found else "knowledge" if "?" in text or text.startswith(("what", "name")) else "other things"
        )
    if kind == "expand":
        first = json.loads(parts["examples"].splitlines()[0])["instruction"]
        return "Sure!\n" + prompts.written([(f"{a} ({first})", b, c) for a, b, c in RECORDED[1:]] + RECORDED[:1])
    return "" if len(parts["response"]) % 5 == 0 else f"{parts['response']}\nThat is all."


@pytest.mark.skipif(not DATA.exists(), reason="no ../shared/data beside this checkout")
def test_real_alpaca_passes_every_stage() -> None:
    public = list(islice(read("alpaca", path=DATA / "alpaca" / "alpaca_random_9k.jsonl.gz"), 200))
    questions, outputs = [question_of(e) for e in public], [e.output for e in public]
    student = [" ".join(output.split()[: i % 9]) for i, output in enumerate(outputs)]  # tires at once
    teacher = Fake(heuristic)
    hard = difficulties(Judge(teacher), questions, student, outputs)
    assert hard.counts["pairs"] == 200
    assert hard.counts["student_unscored"] >= 23  # every ninth says nothing
    assert hard.counts["scored"] == 200 - sum(v is None for v in hard.mfd)
    chosen = curriculum.select(hard.mfd, 2)
    assert chosen.counts["selected"] + len(chosen.rest) + chosen.counts["unscored"] == 200
    kinds = classify_all(teacher, questions, {"code": "", "writing": "", "knowledge": ""})
    assert kinds.counts["classified"] + kinds.counts["unreadable"] == kinds.counts["asked"] == 200
    assert {"code", "writing", "knowledge"} <= set(kinds.kinds)
    seeds = [public[i] for i in chosen.hard]
    of_seeds = [kinds.kinds[i] for i in chosen.hard]
    target = curriculum.among({"code": 0.6, "knowledge": 0.3, "writing": 0.1}, of_seeds)
    known = [i for i, kind in enumerate(of_seeds) if kind]
    balanced = curriculum.rising_round(of_seeds, known, [], target, 1.0, 60, repeats=60)
    drawn = [of_seeds[i] for i in balanced.indices]
    assert [drawn.count(name) for name in target] == [36, 18, 6]
    mfd = [str(hard.mfd[i]) for i in chosen.hard]
    new = expand_all(
        teacher,
        seeds,
        of_seeds,
        40,
        difficulty=mfd,
        known=public,
        forbidden=lambda q: "is about ice" if "ice floats" in q else None,
        guard=Decontaminator([DATA / "wizardlm" / "WizardLM_testset.jsonl", DATA / "mt_bench" / "question.jsonl"]),
    )
    counts = new.counts
    lost = sum(counts[name] for name in ("duplicates", "forbidden", "contaminated", "surplus"))
    assert counts["written"] == counts["kept"] + lost
    assert counts["kept"] + counts["missing"] == 40
    assert counts["unreadable"] == counts["requests"] - counts["failed"]  # "Sure!" each time
    assert counts["forbidden"] > 0
    every = [*(seeds[i] for i in balanced.indices), *new.examples]
    refined = refine_all(teacher, every, [*drawn, *new.kinds])
    counts = refined.counts
    assert counts["asked"] == len(every) == counts["refined"] + counts["empty"]
    assert all(
        new == old or new.output.endswith("That is all.") for new, old in zip(refined.examples, every, strict=True)
    )
    hard_places = range(len(every))
    mixed = curriculum.mixed_round(hard_places, range(len(every), len(every) + 50), 0.5, 80)
    assert len(mixed.indices) == 80


@pytest.mark.slow
@pytest.mark.skipif(not DATA.exists(), reason="no ../shared/data beside this checkout")
def test_what_a_small_model_finds_hard_in_real_alpaca_is_selected_and_balanced(tmp_path: Path) -> None:
    """The student is a tiny Llama that answers for itself; the judge is the heuristic one above."""
    records = read("alpaca", path=DATA / "alpaca" / "alpaca_random_9k.jsonl.gz", on_bad="skip")
    public = list(islice((e for e in records if len(question_of(e)) < 250), 60))
    questions, outputs = [question_of(e) for e in public], [e.output for e in public]
    student = qlora.answer(*qlora.load(tiny_llama(tmp_path / "llama", texts=questions)), public, max_new_tokens=12)
    judge = Fake(heuristic)
    hard = difficulties(Judge(judge), questions, student, outputs)
    chosen = curriculum.select(hard.mfd, 2)
    assert all(-(hard.mfd[i] or 0) > 2 for i in chosen.hard)
    assert 0 < chosen.counts["selected"] < chosen.counts["scored"] <= 60
    kinds = classify_all(judge, questions, {"code": "", "writing": "", "knowledge": ""})
    of_hard = [kinds.kinds[i] for i in chosen.hard]
    target = curriculum.among({"code": 0.2, "knowledge": 0.5, "writing": 0.3}, of_hard)
    known = [i for i, kind in enumerate(of_hard) if kind]
    drawn = curriculum.rising_round(of_hard, known, [], target, 1.0, 20, repeats=20)
    shares = [[of_hard[i] for i in drawn.indices].count(kind) for kind in target]
    assert shares == curriculum.apportion(list(target.values()), 20)
