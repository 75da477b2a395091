"""Public exams in writing: their prompts, marks by hand, resuming, and scores with intervals."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import needs
import pytest
from command import labkit
from public_exams import DEMANDED, exam_folder, write
from tiny import tiny_llama

from labkit import BadRequest
from labkit.grade import written
from labkit.instructions.written_exams import EXAMS, read
from labkit.learn import decoding, qlora


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exam_folder(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("llama"))


def test_prompts_hold_their_shots_and_tasks_take_turns(data: Path) -> None:
    (one, *_), numbers = read("gsm8k", data), read("bbh", data)
    assert one.example.instruction.count("Question: ") == 6
    assert one.example.instruction.startswith("Question: 1 and 1?\nAnswer: 1 + 1 = <<2>>\n#### 2\n\nQuestion: 2 and 2?")
    assert [question.task for question in numbers] == ["apples", "pears"] * 3
    shots = "Q: 0 and apples\nA: 0\n\nQ: 1 and apples\nA: 1\n\nQ: 2 and apples\nA: 2\n\nQ: "
    assert numbers[0].example.instruction == f"{shots}{numbers[0].reference} apples\nA:"
    assert {name: len(read(name, data)) for name in EXAMS} == {"ifeval": 3, "gsm8k": 2, "bbh": 6, "agieval": 2}


def marks(data: Path, exam: str, answer: str, reference: Any = None) -> dict[str, tuple[int, int]]:
    question = read(exam, data)[0]
    return dict(written.judged(question if reference is None else question._replace(reference=reference), answer))


def test_marks_by_hand(data: Path) -> None:
    both = (["punctuation:no_comma", "startend:quotation"], [{}, {}])
    assert marks(data, "ifeval", "so", both) == {
        "prompt": (0, 1), "instruction": (1, 2), "prompt, loose": (0, 1), "instruction, loose": (1, 2)
    }  # fmt: skip
    for answer, strict, flexible in [
        ("#### 1,200.", 1, 1), ("It is $1200.", 0, 1), ("1200 or 3", 0, 0), ("#### 12", 0, 0)
    ]:  # fmt: skip
        assert marks(data, "gsm8k", answer, "so\n#### 1,200") == {"strict": (strict, 1), "flexible": (flexible, 1)}
    for answer, exact, named in [("(B)", 1, 1), ("(B) two", 0, 1), ("The answer is (B).", 0, 1), ("(A)", 0, 0)]:
        assert marks(data, "bbh", answer, "(B)") == {"exact": (exact, 1), "named": (named, 1)}
    for answer, named in [("3", 1), ("-3", 0), ("34", 0), ("A: 3", 1), ("A 3", 0)]:
        assert marks(data, "bbh", answer, "3")["named"] == (named, 1)
    right = read("agieval", data)[0]
    assert marks(data, "agieval", f"The answer is {right.example.output}.") == {"named": (1, 1)}


def test_the_main_score_of_ifeval_is_the_mean_of_both_levels() -> None:
    given = [{"prompt": (1, 1), "instruction": (2, 2)}, {"prompt": (0, 1), "instruction": (1, 4)}] * 20
    found = written.scores(given)
    both = found[written.BOTH]
    assert next(iter(found)) == written.BOTH
    assert both.mean == pytest.approx((found["prompt"].mean + found["instruction"].mean) / 2) == (1 / 2 + 3 / 6) / 2
    assert found["prompt"].lo < both.lo < both.mean < both.hi < found["prompt"].hi


def test_answers_are_kept_as_they_come_and_asked_once(
    data: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    questions, kept = read("bbh", data), tmp_path / "bbh.jsonl"
    loaded = qlora.load(model)
    whole = written.sit(*loaded, questions, tmp_path / "whole.jsonl", new_tokens=4, rows=2)
    assert any(answer.cut for answer in whole)
    written.sit(*loaded, questions[:3], kept, new_tokens=4, rows=2)
    write(kept, kept.read_text("utf-8")[:-9])  # killed while the third was written
    counted, asked = decoding.answer, []

    def answer(model: Any, tokenizer: Any, questions: Any, **settings: Any) -> list[str]:
        asked.append(len(questions))
        return counted(model, tokenizer, questions, **settings)

    monkeypatch.setattr(decoding, "answer", answer)
    assert written.sit(*loaded, questions, kept, new_tokens=4, rows=2) == whole
    assert written.sit(*loaded, questions, kept, new_tokens=4, rows=2) == whole
    assert asked == [4, 0]


def test_an_answer_ends_where_its_exam_says(model: Path) -> None:
    loaded, question = qlora.load(model), read_one("What?")
    (free,) = decoding.answer(*loaded, [question], max_new_tokens=12)
    end = free[len(free) // 2 :][:2]
    heard = []
    (ended,) = decoding.answer(
        *loaded, [question], max_new_tokens=12, until=[end], told=lambda number, text, cut: heard.append((text, cut))
    )
    assert ended == free[: free.index(end)]
    assert heard == [(ended, False)]


def test_a_plain_question_is_gone_on_with(model: Path) -> None:
    loaded, question = qlora.load(model), read_one("Say a")
    (chat,) = decoding.prompts_of(loaded[1], [question], plain=False)
    (plain,) = decoding.prompts_of(loaded[1], [question], plain=True)
    assert loaded[1].decode(plain, skip_special_tokens=True) == "Say a"
    assert len(chat) > len(plain)
    (row,) = decoding.greedy(loaded[0], [plain], {loaded[1].eos_token_id}, loaded[1].pad_token_id, new_tokens=5, rows=1)
    assert decoding.answer(*loaded, [question], max_new_tokens=5, plain=True) == [loaded[1].decode(row)]


def read_one(text: str) -> Any:
    from labkit.instructions import Example

    return Example(text, "", "", "test", "test")


def test_the_command_sits_exams_and_goes_on(data: Path, model: Path, tmp_path: Path) -> None:
    needs.package("langdetect")
    words = ["exam", model, "--data", data, "--out", tmp_path / "out", "--exams", "ifeval,gsm8k,bbh,agieval"]
    done = labkit(*words, "--new-tokens", "4", "--questions", "2")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out" / "result.json").read_text("utf-8"))["results"]
    assert [row["exam"] for row in found] == ["ifeval"] * 5 + ["gsm8k"] * 2 + ["bbh"] * 2 + ["agieval"]
    assert all(row["questions"] == 2 and row["95 % low"] <= row["score"] <= row["high"] for row in found)
    again = labkit(*words, "--new-tokens", "4")
    assert again.returncode == 0
    assert len((tmp_path / "out" / "bbh.jsonl").read_text("utf-8").split("\n")) == 1 + 6


BROKEN = {
    '{"prompt": 5}': "has no 'prompt' (a text)",
    '{"key": null}': "has no 'key' (a whole number)",
    '{"instruction_id_list": "punctuation:no_comma"}': "has no 'instruction_id_list' (a list)",
    '{"kwargs": {"a": 1}}': "has no 'kwargs' (a list)",
    '{"kwargs": [3]}': "has not an object in kwargs",
    '{"kwargs": [{}, {}]}': "has not an object in kwargs",
}


def test_refusals_come_before_any_work(data: Path, model: Path, tmp_path: Path) -> None:
    def refused(*words: str | Path) -> str:
        done = labkit("exam", model, "--out", tmp_path / "none", *words)
        assert done.returncode == 2
        assert not (tmp_path / "none").exists()
        return done.stderr

    assert "ifeval/input_data.jsonl is not there" in refused("--data", tmp_path)
    assert "did you mean 'gsm8k'" in refused("--data", data, "--exams", "gsm8")
    assert "the model has room for 512" in refused("--data", data, "--exams", "gsm8k", "--new-tokens", "600")
    broken = exam_folder(tmp_path / "broken")
    write(broken / "ifeval" / "input_data.jsonl", '{"key": 1, "prompt": "Hi", "kwargs": []}\n')
    assert "has no 'instruction_id_list'" in refused("--data", broken, "--exams", "ifeval")
    for changed, said in BROKEN.items():
        write(broken / "ifeval" / "input_data.jsonl", json.dumps(DEMANDED[0] | json.loads(changed)))
        assert said in refused("--data", broken, "--exams", "ifeval")
    write(broken / "bbh" / "pears.json", '{"examples": [1]}')
    assert "example 0, is no object" in refused("--data", broken, "--exams", "bbh")
    (broken / "bbh" / "cot-prompts" / "pears.txt").write_bytes(b"\xff\xe8")
    assert "pears.txt has not 3 examples in UTF-8" in refused("--data", broken, "--exams", "bbh")
    write(broken / "bbh" / "cot-prompts" / "pears.txt", "Q: one\nA: two")
    assert "pears.txt has not 3 examples" in refused("--data", broken, "--exams", "bbh")


def test_answers_of_another_model_are_not_mixed_in(tmp_path: Path) -> None:
    written.refuse_other(tmp_path / "out", {"model": "one"})
    written.refuse_other(tmp_path / "out", {"model": "one"})
    with pytest.raises(BadRequest, match="holds answers of"):
        written.refuse_other(tmp_path / "out", {"model": "two"})
    write(tmp_path / "out" / "model.json", '{"mod')
    with pytest.raises(BadRequest, match="holds answers of nobody knows whom"):
        written.refuse_other(tmp_path / "out", {"model": "one"})


def test_an_answer_belongs_to_its_prompt(data: Path, model: Path, tmp_path: Path) -> None:
    questions, loaded, kept = read("gsm8k", data), qlora.load(model), tmp_path / "gsm8k.jsonl"
    changed = [one._replace(example=replace(one.example, instruction=f"{one.task}Other?")) for one in questions[:1]]
    for asked in (questions, changed, questions):
        written.sit(*loaded, asked, kept, new_tokens=2, rows=2)
    assert len(dict(written._kept(kept, 2))) == len(questions) + 1


def test_an_answer_that_was_not_cut_holds_for_a_longer_limit(tmp_path: Path) -> None:
    lines = [
        {"key": "a", "answer": "so", "cut": False, "limit": 5},
        {"key": "b", "answer": "we", "cut": True, "limit": 5},
    ]
    write(tmp_path / "kept.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    with (tmp_path / "kept.jsonl").open("ab") as file:  # of a broken disk, or of another program
        file.write(b'\xff\xe8\n[1]\n{"key": "c", "answer": "so", "cut": 0, "limit": "x"}\n')
    kept = {limit: set(dict(written._kept(tmp_path / "kept.jsonl", limit))) for limit in (4, 5, 6)}
    assert kept == {4: set(), 5: {"a", "b"}, 6: {"a"}}
