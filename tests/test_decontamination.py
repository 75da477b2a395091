"""Decontamination: equal texts are found however they are written, and no test is passed over unsaid."""

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labkit import BadRequest
from labkit.design.decontamination import Decontaminator
from labkit.design.mixture import Mixture, compose
from labkit.instructions import Example

SPANISH = "¿Qué niño pidió añil, café y jamón después del corazón de maíz en el árbol de Cádiz?"
ENGLISH = (
    'Explain why the efficient officer didn\'t find five different flutes - or any "shelf" - in the old waffle house'
)
LONG = "Count how many of the blue lanterns are still lit when the second night watch walks home"
SHORT = "Who painted the seven bells?"


def full_width(text: str) -> str:
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else "\u3000" if c == " " else c for c in text)


def between(text: str, mark: str) -> str:
    """The mark after every second letter of each word, as web pages and PDFs allow a line to break."""
    return " ".join(mark.join(word[i : i + 2] for i in range(0, len(word), 2)) for word in text.split())


FORMS = {
    "composed": lambda text: unicodedata.normalize("NFC", text),
    "decomposed": lambda text: unicodedata.normalize("NFD", text),
    "full width": full_width,
    "ligatures": lambda text: text.replace("ffi", "ﬃ").replace("fi", "ﬁ").replace("fl", "ﬂ").replace("ff", "ﬀ"),
    "capitals": str.upper,
    "quotes and dashes": lambda text: text.replace("'", "’").replace('"', "”").replace(" - ", " — "),
    "no-break spaces": lambda text: text.replace(" ", "\u00a0"),
    "thin and wide spaces": lambda text: text.replace(" ", "\u2009\u3000"),
    "lines of Windows": lambda text: text.replace(" ", "\r\n"),
    "line separators": lambda text: text.replace(" ", "\u2028"),
    "soft hyphens": lambda text: between(text, "\u00ad"),
    "soft hyphens at line ends": lambda text: between(text, "\u00ad\n"),
    "zero width": lambda text: between(text, "\u200b"),
    "joiners": lambda text: between(text, "\u2060\u034f"),
    "zero width between words": lambda text: text.replace(" ", "\u200b"),
    "variation selectors": lambda text: text.replace(" ", "\ufe0f "),
    "controls": lambda text: between(text, "\b\0"),
    "letters as apostrophes": lambda text: text.replace("'", "ʼ"),
    "mark of order": lambda text: "\ufeff" + text,
    "direction marks": lambda text: "\u202a" + text.replace(" ", " \u200f") + "\u202c",
    "mathematical letters": lambda text: "".join(
        chr(0x1D41A + ord(c) - ord("a")) if "a" <= c <= "z" else c for c in text
    ),
}


def guard_of(folder: Path, *tests: Any, **options: Any) -> Decontaminator:
    lines = [test if isinstance(test, str) else json.dumps(test, ensure_ascii=False) for test in tests]
    (folder / "t.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return Decontaminator([folder / "t.jsonl"], **options)


def example(instruction: str, output: str = "ok", given: str = "") -> Example:
    return Example(instruction, given, output, "s", "i")


def matches(guard: Decontaminator, *parts: str) -> list[tuple[str, str]]:
    return [(one.test, one.match) for one in guard.overlaps(example(*parts))]


@pytest.mark.parametrize("text", [SPANISH, ENGLISH, SHORT])
@pytest.mark.parametrize("form", FORMS)
def test_a_text_is_found_in_every_form(form: str, text: str, tmp_path: Path) -> None:
    """The same normalisation on both sides: whichever of the two is written in the other form."""
    assert matches(guard_of(tmp_path, {"id": "a", "prompt": text}), FORMS[form](text))
    assert matches(guard_of(tmp_path, {"id": "a", "prompt": FORMS[form](text)}), "Hello.", text)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30),
    first=st.sampled_from(sorted(FORMS)),
    second=st.sampled_from(["composed", "decomposed", "capitals", "no-break spaces"]),
)
def test_forms_combine(text: str, first: str, second: str, tmp_path: Path) -> None:
    """Whatever odd letters stand in a question: a copy of the copy is found, here only if all of it is equal."""
    question = f"{text} {LONG}"
    assert matches(guard_of(tmp_path, {"prompt": question}, n=100), FORMS[second](FORMS[first](question)))


def test_other_texts_stay_clean(tmp_path: Path) -> None:
    guard = guard_of(tmp_path, {"prompt": SPANISH}, {"prompt": "What is 7 - 2?"}, {"prompt": SHORT})
    assert not matches(guard, "¿Qué niña pidió añil, té y jamón después del corazón de trigo en el árbol de Cádiz?")
    assert not matches(guard, "What is 7 + 2?")
    assert not matches(guard, f"In my book they ask: {SHORT} I do not know.")  # documented: short and embedded
    assert not matches(guard, "\u200b", "!?")


CHAT = [{"role": "system", "content": "You are " + LONG}, {"role": "user", "content": SPANISH}]
PARTS = [{"type": "text", "text": LONG[:40]}, {"type": "image_url", "image_url": {"url": "x"}}]


@pytest.mark.parametrize(
    ("record", "text", "match"),
    [
        ({"prompt": CHAT}, SPANISH, "question"),
        ({"messages": [*CHAT, {"role": "assistant", "content": ENGLISH}]}, ENGLISH, "answer"),
        ({"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": ENGLISH}]}, ENGLISH, "answer"),
        ({"prompt": [{"role": "user", "content": [*PARTS, {"type": "text", "text": LONG[40:]}]}]}, LONG, "question"),
        ({"prompt": {"messages": {"content": LONG}}}, LONG, "question"),
        ({"doc": {"Question": LONG, "prompt": None}}, LONG, "question"),
        ({"data": {"item": [{"question_text": LONG}]}}, LONG, "question"),
        ({"turns": ["Hi.", LONG]}, LONG, "question"),
        ({"instruction": LONG[:39], "input": LONG[39:]}, LONG, "question"),
        ({"prompt": "x", "answer": LONG}, LONG, "answer"),
        ({"prompt": "x", "output": LONG}, LONG, "answer"),
        ({"prompt": "x", "target": [LONG]}, LONG, "answer"),
        ({"prompt": "x", "canonical_solution": LONG}, LONG, "answer"),
        ({"prompt": "x", "reference_solutions": ["y", LONG]}, LONG, "answer"),
        ({"prompt": "x", "choices": {"text": ["no", LONG], "label": ["A", "B"]}}, LONG, "answer"),
        ({"prompt": "x", "options": [{"key": "A", "value": LONG}]}, LONG, "answer"),
        ({"Question": "x", "A": "no", "B": LONG, "Answer": "B"}, LONG, "answer"),
        ({"question": "x", "Correct Answer": LONG}, LONG, "answer"),
        ({"prompt": "x", "idealResponse": {"en": LONG}}, LONG, "answer"),
        ({"question": "x", "answers": {"text": [LONG], "answer_start": [3]}}, LONG, "answer"),
    ],
)
def test_questions_and_answers_are_found_wherever_a_test_holds_them(
    record: dict[str, Any], text: str, match: str, tmp_path: Path
) -> None:
    guard = guard_of(tmp_path, {"id": "a", **record})
    for parts in ((text,), ("Hello.", text), ("Hello.", "ok", text), (f"user: Hi\nassistant: {text}\nuser: Go on",)):
        assert matches(guard, *parts) == [("a", match)]


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": CHAT},  # the system's
        {"prompt": "x", "source": LONG, "question_id": LONG},
        {"prompt": "x", "test_list": [f"assert '{LONG}'"], "test": LONG},
    ],
)
def test_what_many_records_share_is_not_looked_for(record: dict[str, Any], tmp_path: Path) -> None:
    assert not matches(guard_of(tmp_path, record), LONG)


def test_a_short_question_is_found_where_it_is_the_whole_of_a_text(tmp_path: Path) -> None:
    guard = guard_of(tmp_path, {"id": "a", "question": SHORT, "answer": "Mia"})
    short = [("a", "whole question")]
    assert matches(guard, SHORT) == matches(guard, "“who painted the seven bells”…\n") == short
    assert matches(guard, "Answer me.", "Mia", SHORT) == matches(guard, "Ask me.", SHORT) == short
    assert matches(guard, f"user: Hi\nassistant: Hi\nuser: {SHORT}", "Mia") == short
    assert not matches(guard, SHORT, "Ann", "In the second picture.")  # asks of something else
    assert not matches(guard, "Who is it?", "Mia")
    assert guard.test_sets[0].whole_only == ["a"]
    assert "1 of 1 tests ask in fewer than 8 words: found only where they are the whole of a text (a)" in guard.notes[0]


def test_what_cannot_be_looked_for_is_named(tmp_path: Path) -> None:
    tests = [
        {"id": "whole", "prompt": LONG},
        {"id": "null", "prompt": None, "answer": None},
        {"id": "elsewhere", "footer": LONG, "test_list": LONG, "source": LONG},
        {"id": "digits", "prompt": " ".join(map(str, range(30)))},
        {"id": "letter", "answer": "B"},
        {"id": None, "prompt": "  "},
        {"id": 7, "prompt": [{"role": "system", "content": LONG}]},
        {"id": "image", "prompt": [{"role": "user", "content": [PARTS[1]]}]},
    ]
    guard = guard_of(tmp_path, *tests)
    assert guard.test_sets[0].records == 8
    assert guard.test_sets[0].unchecked == ["null", "elsewhere", "digits", "letter", "t/6", "t/7", "image"]
    assert "7 of 8 tests hold nothing to look for (null, elsewhere" in guard.notes[0]
    assert "not looked for: footer (tests: 1)" in guard.notes[1]
    assert len(guard.notes) == 2
    with pytest.raises(BadRequest, match=r"none of the columns .* with a text that can be looked for; its columns"):
        guard_of(tmp_path, *tests[1:])


@pytest.mark.parametrize(
    "file",
    [
        {"version": 1, "examples": [{"input": LONG, "target": "x"}, {"input": SHORT}]},
        {"data": [{"title": "x", "paragraphs": [{"context": LONG, "qas": []}, {"context": SHORT}]}, {"n": 1}]},
        {"question": [LONG, SHORT], "answer": ["x", "y"]},
    ],
)
def test_a_file_of_one_object_holds_many_tests(file: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(json.dumps(file))
    guard = Decontaminator([tmp_path / "t.json"])
    assert guard.test_sets[0].records >= 2
    assert [match for _, match in matches(guard, LONG)] == ["question"]
    assert [match for _, match in matches(guard, SHORT)] == ["whole question"]


@pytest.mark.parametrize("broken", ["[]", '"text"', "{", "7", '{"prompt": ' + "[" * 900 + "]" * 900 + "}"])
def test_a_broken_record_is_refused_in_one_sentence(broken: str, tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match=r"record 2 is|none of the columns") as refusal:
        guard_of(tmp_path, *([] if "prompt" in broken else [{"prompt": LONG}]), broken)
    assert "\n" not in str(refusal.value)


def test_the_manifest_counts_by_test_set_and_match(tmp_path: Path) -> None:
    for folder, tests in (("a", [{"id": 1, "prompt": LONG, "answer": SPANISH}, {"id": 2}]), ("b", [{"prompt": SHORT}])):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "t.jsonl").write_text("\n".join(map(json.dumps, tests)))
    asked = [LONG, f"{LONG} {LONG}", "Translate: " + SPANISH, SHORT, "Clean."]
    lines = [json.dumps({"instruction": text, "output": "o"}) for text in asked]
    (tmp_path / "d.jsonl").write_text("\n".join(lines))
    spec = {"sources": [{"path": "d.jsonl", "weight": 1}], "examples": 1, "decontaminate": ["a/t.jsonl", "b/t.jsonl"]}
    manifest = compose(Mixture.model_validate(spec), tmp_path).manifest
    counts = manifest["contaminated"]
    assert counts["pairs"] == sum(counts["by_test_set"].values()) == sum(counts["by_match"].values()) == 4
    assert counts["by_test_set"] == {"a/t.jsonl": 3, "b/t.jsonl": 1}
    assert counts["by_match"] == {"question": 2, "answer": 1, "whole question": 1}
    assert manifest["tests_not_looked_for"] == {"a/t.jsonl": ["t/2"], "b/t.jsonl": []}
    assert [note.split(":")[0] for note in manifest["notes"]] == ["a/t.jsonl", "b/t.jsonl"]
    assert str(tmp_path) not in json.dumps(manifest)
