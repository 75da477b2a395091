"""Readers of exams: what they promise, on made files and on the published samples where these are."""

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from labkit import BadRequest
from labkit.grade import choice
from labkit.instructions import corpora
from labkit.instructions.exams import DOIT, Question, closed, read_exam

DATA = Path(__file__).parents[2] / "shared" / "data"
CMMLU = {
    "business_ethics": 209,
    "chinese_history": 323,
    "computer_science": 204,
    "elementary_chinese": 252,
    "high_school_biology": 169,
    "logical": 123,
    "modern_chinese": 116,
    "world_history": 161,
}
AGIEVAL = {
    "gaokao-biology": 210,
    "gaokao-history": 235,
    "gaokao-chinese": 246,
    "logiqa-zh": 651,
    "logiqa-en": 651,
    "sat-math": 220,
}


def lines(path: Path, *records: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), "utf-8")
    return path


def table(path: Path, *rows: tuple[str, ...]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(
            [("", "Question", "A", "B", "C", "D", "Answer"), *((str(i), *r) for i, r in enumerate(rows))]
        )
    return path


def asked(question: str, said: str, **more: Any) -> dict[str, Any]:
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": said}]
    return {"messages": turns, "question_format": 0} | more


def test_cmmlu_is_asked_in_chinese_with_examples_of_its_subject(tmp_path: Path) -> None:
    for subject in ("a", "b"):
        table(tmp_path / "test" / f"{subject}.csv", (f"{subject}问", "甲", "乙", "丙", "丁", "C"))
        table(
            tmp_path / "dev" / f"{subject}.csv",
            (f"{subject}例", "一", "二", "三", "四", "B"),
            ("例", "1", "2", "3", "4", "A"),
        )
    exam = read_exam(tmp_path)
    assert [(q.options[q.right], q.gold, q.group) for q in exam.questions] == [("丙", "C", "a"), ("丙", "C", "b")]
    bare, shown = exam.ask(exam.questions[1]), read_exam(tmp_path, shots=1)
    assert bare.instruction.endswith("问题：b问\nA. 甲\nB. 乙\nC. 丙\nD. 丁\n答案：")
    assert bare.output == "C"
    few = shown.ask(shown.questions[1]).instruction
    assert "问题：b例\nA. 一\nB. 二\nC. 三\nD. 四\n答案：B\n\n问题：b问" in few
    assert "a例" not in few
    assert shown.name.endswith("_1_shot")
    with pytest.raises(BadRequest, match="has 2 few-shot examples, not 3"):
        read_exam(tmp_path, shots=3)


def test_agieval_labels_name_marks_and_not_places(tmp_path: Path) -> None:
    """As in logiqa, whose options are listed (A), (C), (B), (D) where the print had two columns."""

    def options(*given: str, label: str = "B") -> tuple[tuple[str, ...], str]:
        record = {"passage": "P.", "question": "Which?", "options": list(given), "label": label}
        (question,) = read_exam(lines(tmp_path / "x.jsonl", record)).questions
        return question.options, question.options[question.right]

    assert options("(A)one", "(C)three", "(B)two", "(D)four") == (("one", "two", "three", "four"), "two")
    assert options("A one", "B two", "C three", "D．four", label="D") == (("one", "two", "three", "four"), "four")
    assert options("(A)one", "(B)two", "(C)three", "(C)four", label="D") == (("one", "two", "three", "four"), "four")
    assert options("A dog", "A cat", "Birds") == (("A dog", "A cat", "Birds"), "A cat")
    assert options("(A)A is it", "(B)B is it") == (("A is it", "B is it"), "B is it")
    exam = read_exam(tmp_path / "x.jsonl")
    assert exam.ask(exam.questions[0]).instruction.endswith("Question: P.\nWhich?\nA. A is it\nB. B is it\nAnswer:")
    with pytest.raises(BadRequest, match="no few-shot examples"):
        read_exam(tmp_path / "x.jsonl", shots=2)


BAD = {
    "no question": {"question": " "},
    "no options": {"options": None},
    "fewer than two options": {"options": ["(A)x"]},
    "an empty option": {"options": ["(A)x", "(B) "]},
    "duplicate options": {"options": ["(A)x", "(B)x "]},
    "several right options": {"label": ["A", "B"]},
    "no right option": {"label": None},
}


@pytest.mark.parametrize("reason", [*BAD, "broken JSON"])
def test_bad_questions_are_left_out_and_counted(reason: str, tmp_path: Path) -> None:
    good = {"passage": None, "question": "Q?", "options": ["(A)x", "(B)y"], "label": "A"}
    path = lines(tmp_path / "x.jsonl", good, good, *([good | BAD[reason]] if reason in BAD else []))
    if reason not in BAD:
        path.write_text(path.read_text() + '{"question": \n')
    exam = read_exam(path)
    assert (len(exam.questions), exam.bad) == (2, {reason: 1})


def test_what_is_no_exam_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match=r"is no exam: a \.csv"):
        read_exam(tmp_path)
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(BadRequest, match=r"is no exam: \.csv"):
        read_exam(tmp_path / "a.txt")
    path = lines(tmp_path / "x.jsonl", {"question": "Q?", "options": ["x", "y"], "label": "E"})
    with pytest.raises(BadRequest, match=r"holds no usable question: no right option \(1\)"):
        read_exam(path)
    (tmp_path / "b.csv").write_text("a,b\n1,2\n")
    with pytest.raises(BadRequest, match="no columns Question and Answer"):
        read_exam(tmp_path / "b.csv")


def test_doit_questions_of_every_form(tmp_path: Path) -> None:
    """The forms that the authors' scorer tells apart, with its chance levels; shapes made up after it."""

    def one(record: dict[str, Any]) -> Question | str:
        exam = read_exam(lines(tmp_path / "made_test.json", record, *others))
        return exam.questions[0] if not exam.bad else next(iter(exam.bad))

    others = [asked("选\nA. 甲\nB. 乙", "A", type="biology")]
    letter = one(asked("选哪个？\nA. 甲\nB. 乙\nC. 丙\nD. 丁", "B", type="biology"))
    assert isinstance(letter, Question)
    assert (letter.answers, letter.gold, letter.group) == (("A", "B", "C", "D"), "B", "made")
    three = one(asked("女：好。\n问\nA. 甲\nB. 乙\nC. 丙", "C", type="understanding"))
    assert isinstance(three, Question)
    assert three.answers == ("A", "B", "C")
    unmarked = one(asked("图中哪个？", "D", type="biology"))
    assert isinstance(unmarked, Question)
    assert len(unmarked.options) == 4
    wrong = one(asked("地球是平的。", "错", type="history"))
    assert isinstance(wrong, Question)
    assert (wrong.answers, wrong.gold) == (("对", "错"), "错")
    two = one(asked("选\nA. 甲\nB. 乙\nC. 丙\nD. 丁", "分析\nA、C", type="ethics"))
    assert isinstance(two, Question)
    assert (two.kind, two.gold, len(two.options)) == ("sets", "AC", 6)
    ranked = one(asked("写诗", "好诗", question_format=1, choices=["好诗", "坏诗", "不是诗"]))
    assert isinstance(ranked, Question)
    assert (ranked.kind, ranked.gold, len(ranked.options)) == ("open", "好诗", 3)
    assert one(asked("选\nA. 甲\nB. 乙", "AB", type="ethics")) == "nothing to choose from"
    assert one(asked("选\nA. 甲\nB. 乙\nC. 丙", "D", type="biology")) == "no right option"
    assert one(asked("选\nA. 甲\nB. 乙\nC. 丙", "AB", type="biology")) == "several right options"
    false = one(asked("地球是平的。", "F", type="history"))
    assert isinstance(false, Question)
    assert false.answers == ("T", "F")
    assert one(asked("写诗", "好诗", question_format=1)) == "no distractors"
    assert one(asked("写诗", "好诗", question_format=1, choices=["好诗", "好诗", "诗"])) == "duplicate options"
    assert one({"messages": [], "question_format": 0}) == "no question with its answer"
    assert one(asked("选", "A") | {"question_format": None}) == "no question_format"


def test_distractors_of_open_questions_are_others_of_the_file(tmp_path: Path) -> None:
    records = [asked(f"{n}加{n}", f"所以{2 * n}", type="math", answer=str(2 * n)) for n in range(5)]
    exam = read_exam(lines(tmp_path / "math_test.json", *records))
    for number, question in enumerate(exam.questions):
        assert (question.gold, question.final) == (f"所以{2 * number}", str(2 * number))
        assert len(set(question.options)) == 3
        assert set(question.options) <= {f"所以{2 * n}" for n in range(5)}
    again = read_exam(lines(tmp_path / "math_test.json", *reversed(records)))
    assert sorted(again.questions) == sorted(exam.questions)
    with pytest.raises(BadRequest, match="no two other answers to rank it against"):
        read_exam(lines(tmp_path / "math_test.json", *records[:2]))


def test_upper_and_lower_case_tell_options_apart() -> None:
    found = closed("哪个？", ["Aa", "aa"], "B", "biology")
    assert isinstance(found, Question)
    assert found.right == 1


def test_files_of_a_corpus_are_had_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the pinned commit: what is in the hub's cache is not asked for again."""
    import huggingface_hub

    corpus = corpora.CORPORA["doit"]
    asked = []

    def download(hub: str, file: str, *, repo_type: str, revision: str) -> str:
        asked.append((hub, file, repo_type, revision))
        return str(tmp_path / file)

    with monkeypatch.context() as patch:
        patch.setattr(huggingface_hub, "hf_hub_download", download)
        assert corpora.fetch("doit", "x.json") == tmp_path / "x.json"
    assert asked == [(corpus.hub, "x.json", "dataset", corpus.revision)]
    stored = tmp_path / f"datasets--{str(corpus.hub).replace('/', '--')}" / "snapshots" / corpus.revision / "x.json"
    stored.parent.mkdir(parents=True)
    stored.write_text("{}")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", lambda *_, **__: pytest.fail("the hub was asked"))
    assert corpora.fetch("doit", "x.json") == stored
    with pytest.raises(BadRequest, match=r"holds no x\.json: a local copy of doit is laid out as its repository"):
        corpora.fetch("doit", "x.json", tmp_path)
    with pytest.raises(BadRequest, match="flan_cot is not on the hub"):
        corpora.fetch("flan_cot", "x.tsv")


def test_out_of_reach_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub

    def unreachable(*args: Any, **options: Any) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", unreachable)
    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", unreachable)
    with pytest.raises(BadRequest, match=r"cannot be had from the hub .*ConnectionError.*: give a local copy"):
        corpora.fetch("doit", f"curated/full/{DOIT[0]}_full.json")


def _published(name: str) -> Path:
    if not (DATA / name).exists():
        pytest.skip(f"the published {name} is not here")
    return DATA / name


def test_the_published_cmmlu() -> None:
    exam = read_exam(_published("cmmlu"), shots=5)
    assert Counter(question.group for question in exam.questions) == CMMLU
    assert len(exam.questions) == 1557
    assert (exam.bad, exam.name) == ({}, "cmmlu_5_shot")
    assert choice.chance_level([len(question.options) for question in exam.questions]) == 0.25
    assert {question.language for question in exam.questions} == {"zh"}
    assert {group: len(shots) for group, shots in exam.shots.items()} == dict.fromkeys(CMMLU, 5)


@pytest.mark.parametrize("name", AGIEVAL)
def test_the_published_agieval(name: str) -> None:
    exam = read_exam(_published(f"agieval/{name}.jsonl"))
    assert (len(exam.questions), exam.bad) == (AGIEVAL[name], {})
    assert choice.chance_level([len(question.options) for question in exam.questions]) == 0.25
    language = "en" if name in ("logiqa-en", "sat-math") else "zh"
    assert {question.language for question in exam.questions} == {language}
    left = sum(option.startswith(("(A)", "(B)", "(C)", "(D)")) for q in exam.questions for option in q.options)
    assert left == 0
    if name == "logiqa-en":  # opened are valves 2 and 3, by the rules given; the option is listed third and marked (B)
        assert exam.questions[108].options[exam.questions[108].right] == "No.2 valve and No.3 valve."


WRONG = {
    "no right option": {
        "label": [0, 1, True, float("nan"), "", "b", "None", "NaN", "Because", "C", [None], [1], {"A": 1}]
    },
    "several right options": {"label": ["AB", "A, B", ["A", "B"]]},
    "no question": {"question": [None, 3, float("nan"), [], "\n"]},
    "no options": {"options": [None, "AB", {"A": "x", "B": "y"}, float("nan")]},
    "an option is no text": {"options": [["(A)x", 3], ["(A)x", float("nan")], ["(A)x", ["y"]], [True, False]]},
    "an empty option": {"options": [["(A)x", None], ["x", ""]]},
    "passage is no text": {"passage": [0, False, [], ["p"], float("nan")]},
    "not UTF-8": {"question": ["\ud83d"], "options": [["x", "\udc00"]]},
}


@pytest.mark.parametrize(
    ("reason", "change"),
    [(reason, {name: value}) for reason, forms in WRONG.items() for name, values in forms.items() for value in values],
    ids=ascii,
)
def test_every_field_of_another_type_is_a_bad_question(reason: str, change: dict[str, Any], tmp_path: Path) -> None:
    good = {"passage": None, "question": "Q?", "options": ["(A)x", "(B)y"], "label": "A"}
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps(good) + "\n" + json.dumps(good | change) + "\n")
    exam = read_exam(path)
    assert (len(exam.questions), exam.bad) == (1, {reason: 1})


@pytest.mark.parametrize("label", ["B", " B ", "(B)", "B.", "Ｂ", ["B"]])
def test_a_label_is_a_letter(label: Any) -> None:
    question = closed("Q?", ["x", "y"], label, "g")
    assert isinstance(question, Question)
    assert question.gold == "B"


def test_options_of_a_table_are_those_of_their_letters(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("Question,B,A,Answer\nq,second,first,A\n")
    (question,) = read_exam(path).questions
    assert question.options[question.right] == "first"
    for header, says in (
        ("Question,A,B,D,Answer", "options A, B, D: a letter is left out"),
        ("Question,A,B,B,Answer", "column 'B' stands twice"),
    ):
        path.write_text(f"{header}\nq,x,y,z,B\n")
        with pytest.raises(BadRequest, match=says):
            read_exam(path)
    path.write_text('Question,A,B,Answer\n"q,x,y,A\nr,x,y,B\n')
    with pytest.raises(BadRequest, match="a quote of the row that begins in line 2"):
        read_exam(path)


def test_a_bad_few_shot_example_is_not_passed_over(tmp_path: Path) -> None:
    table(tmp_path / "test" / "a.csv", ("问", "甲", "乙", "丙", "丁", "C"))
    table(
        tmp_path / "dev" / "a.csv",
        ("例", "一", "二", "三", "四", "E"),
        ("例", "1", "2", "3", "4", "A"),
        ("例", "1", "2", "3", "4", "B"),
    )
    with pytest.raises(BadRequest, match=r"a few-shot example is bad: a\.csv, record 2: no right option"):
        read_exam(tmp_path, shots=2)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        *(
            (asked("问", "二", answer=value), "no right answer")
            for value in (True, [2], " ", float("nan"), float("inf"))
        ),
        *(
            (asked("问", "好", question_format=1, choices=value), "no distractors")
            for value in ("ab", ["a", 1], ["a", " "])
        ),
        (asked("问", "A") | {"messages": "A"}, "a conversation that is no list of turns"),
        (asked("问", "A") | {"messages": [{"role": "user", "content": None}]}, "a turn without text content"),
        (asked("问", "A") | {"messages": [{"role": "user", "content": "问"}]}, "the last turn is the user's"),
        (asked(" ", "A"), "no question with its answer"),
        (asked("问", " "), "no question with its answer"),
        (asked("\ud83d", "A"), "not UTF-8"),
    ],
    ids=ascii,
)
def test_bad_records_of_doit_are_named(record: dict[str, Any], reason: str, tmp_path: Path) -> None:
    good = asked("选\nA. 甲\nB. 乙", "A", type="biology", answer=None)  # null is none
    path = tmp_path / "made_test.json"
    path.write_text(json.dumps(good) + "\n" + json.dumps(record) + "\n")
    exam = read_exam(path)
    assert len(exam.questions) == 1
    assert next(iter(exam.bad)).startswith(reason)
    named = [{"from": "human", "value": "选\nA. 甲\nB. 乙"}, {"from": "gpt", "value": "B"}]
    (question,) = read_exam(lines(path, good | {"messages": named})).questions
    assert (question.kind, question.gold) == ("given", "B")
