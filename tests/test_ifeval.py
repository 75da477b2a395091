"""IFEval's verifiers: by hand for every kind, and against the verdicts of the published checkers."""

import gzip
import json
import os
from pathlib import Path
from typing import Any

import needs
import pytest

from labkit import BadRequest
from labkit.grade import ifeval

VERDICTS = Path(__file__).parent / "golden" / "ifeval_verdicts.jsonl.gz"
BY_HAND: list[tuple[str, dict[str, Any], str, str]] = [  # a kind, its settings, what meets it, and what does not
    ("keywords:existence", {"keywords": ["fox", "hen"]}, "A Fox and a hen.", "A fox."),
    ("keywords:frequency", {"keyword": "a", "frequency": 2, "relation": "at least"}, "a cat", "one"),
    ("keywords:forbidden_words", {"forbidden_words": ["fox"]}, "Foxes.", "The fox."),
    ("keywords:letter_frequency", {"letter": "E", "let_frequency": 3, "let_relation": "less than"}, "eel", "eels see"),
    ("length_constraints:number_sentences", {"num_sentences": 2, "relation": "less than"}, "Dr. Fox ran", "Run. Hide!"),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "one\n***\ntwo\n***", "one\n***\n***\ntwo"),
    ("length_constraints:number_words", {"num_words": 3, "relation": "at least"}, "one two-three", "one two"),
    ("length_constraints:nth_paragraph_first_word", {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "two"},
     "one\n\n'Two, three", "one\n\nthree two"),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[a] and [b]", "[a]"),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "Well.\nP. S. done", "Well.\nPS done"),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "p.p.s: done", "P.S. done"),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* one\n- two", "* one\n** two"),
    ("detectable_format:constrained_response", {}, "So: My answer is no.", "No."),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*one* and *two*", "*one* and **"),
    ("detectable_format:multiple_sections", {"section_spliter": "Day", "num_sections": 2}, "Day 1 a Day 2", "Day 1 a"),
    ("detectable_format:json_format", {}, '```json\n{"a": 1}\n```', "{a: 1}"),
    ("detectable_format:title", {}, "<<A title>>\ntext", "<< >>"),
    ("combination:two_responses", {}, "one\n******\ntwo", "one\n******\none"),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say it. "}, "say it. It.", "It."),
    ("startend:end_checker", {"end_phrase": "the end."}, 'So. "The end."', "The end. So"),
    ("startend:quotation", {}, ' "so" ', '"so'),
    ("change_case:capital_word_frequency", {"capital_frequency": 3, "capital_relation": "at least"}, "I DON'T", "I DO"),
    ("punctuation:no_comma", {}, "one two", "one, two"),
]  # fmt: skip
BY_LANGUAGE: list[tuple[str, dict[str, Any], str, str]] = [
    ("language:response_language", {"language": "de"}, "Das ist ein kurzer Satz.", "A short sentence in English."),
    ("change_case:english_capital", {}, "THIS IS A SHORT SENTENCE.", "This is a short sentence."),
    ("change_case:english_lowercase", {}, "this is a short sentence.", "das ist ein kurzer deutscher satz."),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "settings", "met", "missed"), [*BY_HAND, *BY_LANGUAGE])
def test_by_hand(kind: str, settings: dict[str, Any], met: str, missed: str) -> None:
    if (kind, settings, met, missed) in BY_LANGUAGE:
        needs.package("langdetect")
    assert ifeval.followed(met, [kind], [settings]) == [True]
    assert ifeval.followed(missed, [kind], [settings]) == [False]


def test_every_kind_is_tried_by_hand() -> None:
    assert {kind for kind, *_ in [*BY_HAND, *BY_LANGUAGE]} == set(ifeval.KINDS)


def test_loosely_a_first_line_and_asterisks_may_go() -> None:
    kinds, settings = ["startend:quotation"], [{}]
    text = 'Sure, here it is:\n"so"'
    assert (ifeval.followed(text, kinds, settings), ifeval.followed_loosely(text, kinds, settings)) == ([False], [True])
    assert ifeval.followed_loosely('*"so"*', kinds, settings) == [True]
    assert ifeval.followed_loosely("", ["punctuation:no_comma"], [{}]) == [False]


def test_demands_that_cannot_be_checked_are_refused() -> None:
    with pytest.raises(BadRequest, match="did you mean 'punctuation:no_comma'"):
        ifeval.check("punctuation:no_coma", {})
    for kind, given in (("punctuation:no_comma", {"n": 1}), ("keywords:frequency", {"keyword": "a"}),
                        ("keywords:existence", {"keywords": ["("]}),
                        ("length_constraints:number_words", {"num_words": 3, "relation": "about"})):  # fmt: skip
        with pytest.raises(BadRequest, match=f"the demand '{kind}' does not go with"):
            ifeval.check(kind, given)


def test_verdicts_agree_with_the_published_checkers() -> None:
    """On answers of SmolLM2: the verdicts kept are those of lm-evaluation-harness 0.4.13, demand by demand."""
    needs.package("langdetect")
    path = Path(os.environ.get("LABKIT_DATA", "")) / "ifeval" / "input_data.jsonl"
    if not os.environ.get("LABKIT_DATA") or not path.exists():
        pytest.skip("LABKIT_DATA does not hold ifeval/input_data.jsonl, which has the demands")
    prompts = {record["key"]: record for record in map(json.loads, path.read_text("utf-8").splitlines())}
    lines = [json.loads(line) for line in gzip.decompress(VERDICTS.read_bytes()).decode().splitlines()]
    assert len(lines) >= 100
    for line in lines:
        asked = prompts[line["key"]]
        settings = [{name: value for name, value in one.items() if value} for one in asked["kwargs"]]
        assert ifeval.followed(line["answer"], asked["instruction_id_list"], settings) == line["strict"]
        assert ifeval.followed_loosely(line["answer"], asked["instruction_id_list"], settings) == line["loose"]
