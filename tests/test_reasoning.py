"""What a reply says stands outside its reasoning and its quotations; pairs are whole, however they are laid out."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.instructions import Example
from labkit.teach import prompts
from labkit.teach.client import Reply
from labkit.teach.distil import classify_all, expand_all, refine_all
from labkit.teach.prompts import read_kind, read_pairs, read_score, read_winner, without_reasoning

FEW = settings(max_examples=20, deadline=None)
MARKS = [
    ("<think>", "</think>"),
    ("<Thinking>", "</THINKING>"),
    ('<reasoning effort="low">', "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("<inner_thoughts>", "</inner_thoughts>"),
    ("<|think|>", "<|/think|>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|channel>thought", "<channel|>"),
    ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
]
PLAIN = st.text(st.characters(exclude_characters="<[◁>]▷", exclude_categories=["Cs"])).map(lambda text: f"x{text}x")


@pytest.mark.parametrize(("opening", "closing"), MARKS)
@FEW
@given(thought=PLAIN, answer=PLAIN)
def test_reasoning_is_no_part_of_an_answer(opening: str, closing: str, thought: str, answer: str) -> None:
    assert without_reasoning(f"{opening}\n{thought}\n{closing}\n\n{answer}\n").strip() == answer
    assert without_reasoning(f"{opening}{thought}{answer}") == ""  # it has not come to an answer


@pytest.mark.parametrize(("opening", "closing"), MARKS[:9])
@FEW
@given(first=PLAIN, thought=PLAIN, answer=PLAIN)
def test_marks_by_turns_nested_or_half(opening: str, closing: str, first: str, thought: str, answer: str) -> None:
    block = f"{opening}{thought}{closing}"
    assert without_reasoning(f"{first}{block}{answer}") == first + answer
    assert without_reasoning(f"{thought}{closing}{answer}") == answer  # the opening mark stood in the prompt
    assert without_reasoning(f"{opening}{thought}{opening}{thought}{closing}{answer}") == answer
    assert without_reasoning(f"{block}{answer}\n{opening}{thought}") == ""


@FEW
@given(st.text())
def test_a_text_without_marks_comes_back_as_it_is(text: str) -> None:
    if not any(mark in text for mark in "<[◁"):
        assert without_reasoning(text) == text


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Write `<think>` before, `</think>` after.", "Write `<think>` before, `</think>` after."),
        ('the tag "<think>" opens', 'the tag "<think>" opens'),
        ("<think/>b", "b"),
        ('<think>they call it "x"</think>"b"', '"b"'),
        ("it ends in `x`</think>`b` it is", "`b` it is"),
        ("<plan>a</plan>b", "b"),
        ("<trip><plan>a</plan></trip>", "<trip><plan>a</plan></trip>"),
        ("<think>a</think>List<Thought> b;", "List<Thought> b;"),
        ("<think>a</think><answer>b</answer>", "b"),
        ("<answer>b</answer>", "<answer>b</answer>"),
        ("analysisLet me see.assistantfinalb", "b"),
        ("analysis of a text", "analysis of a text"),
        ("<|channel|>commentary<|message|>a<|call|>", ""),
        ("analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|constrain|>json<|message|>{}<|return|>", "{}"),
        ("1 < 2 and [think] of it", "1 < 2 and [think] of it"),
    ],
)
def test_marks_that_are_spoken_of_and_odd_ones(text: str, answer: str) -> None:
    assert without_reasoning(text) == answer


QUOTED = [
    '"{}"',
    "“{}”",
    "«{}»",
    "`{}`",
    "‘{}’",
    "'{}'",
    "> {}",
    "```\n{}\n```",
    "~~~ text\n{}\n~~~",
    '"so\n{} he says"',
]


@pytest.mark.parametrize("form", QUOTED + [f"{opening}{{}}{closing}" for opening, closing in MARKS])
def test_a_mark_that_is_quoted_or_thought_is_no_verdict(form: str) -> None:
    for mark, other, read in (("[[9]]", "[[2]]", read_score), ("[[A]]", "[[b]]", read_winner)):
        before = form.format(f"it says {mark}")
        assert read(f"{before}\nwhich isn't so.") is None
        assert read(f"{before}\nIt isn't so: {other}") == read(other) is not None  # type: ignore[operator]


@pytest.mark.parametrize(
    ("text", "score", "winner"),
    [
        ("[[4]]", 4.0, None),
        ("**[[ 4.0 ]]**, that is [[4]].", 4.0, None),
        ("[[4]] or [[5]]", None, None),
        ("[[4]] of [[11]]", None, None),
        ("[[0]]", None, None),
        ("[[A]] [[a]]", None, "A"),
        ("[[C]], a [[tie]]", None, "tie"),
        ("[[A]], or rather [[B]]", None, None),
        ("the students' one is [[A]], the teachers' worse", None, "A"),
        ('5" or 6", so [[A]]', None, "A"),
        ("", None, None),
    ],
)
def test_a_verdict_is_one(text: str, score: float | None, winner: str | None) -> None:
    assert (read_score(text), read_winner(text)) == (score, winner)


def test_a_kind_is_read_after_the_reasoning() -> None:
    kinds = ["code", "writing"]
    assert read_kind("<think>code, or rather writing?</think>\nWriting.", kinds) == "writing"
    assert read_kind("<think>It must be code", kinds) is None
    assert read_kind("code, no, writing", kinds) is None


MARKUP = "\n\t{}[]\"'\\`,"
ODD = "\u2028\u2029\x85\v\f\x1c\x1d\x1e\r"
TEXTS = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from(ODD + MARKUP)).map(lambda t: f"x{t}")
PAIRS = st.lists(st.tuples(TEXTS, TEXTS, TEXTS), min_size=1, max_size=4)


def _raw(pairs: list[tuple[str, str, str]]) -> str:
    """Line breaks and marks as they are, where JSON would have them escaped."""
    text = prompts.written(pairs)
    for escaped, character in (("\\f", "\f"), ("\\u000b", "\v"), ("\\u001c", "\x1c"), ("\\t", "\t")):
        text = text.replace(f"\\{escaped}", "\0").replace(escaped, character).replace("\0", f"\\{escaped}")
    return text


@pytest.mark.parametrize(
    "layout",
    [
        "{}",
        "```json\n{}\n```",
        "```{}```",
        "~~~\n{}\n~~~\n",
        "\n[\n{},\n]",
        "<think>\n" + prompts.written([("a draft", "", "b")]) + "\n</think>\n{}",
        "\r\n{}\r\n",
    ],
)
@FEW
@given(pairs=PAIRS)
def test_pairs_are_whole_in_every_layout(layout: str, pairs: list[tuple[str, str, str]]) -> None:
    assert read_pairs(layout.replace("{}", prompts.written(pairs))) == (pairs, 0)
    assert read_pairs(layout.replace("{}", _raw(pairs).replace("}\n{", "},\n{"))) == (pairs, 0)


@pytest.mark.parametrize(
    ("text", "pairs", "unreadable"),
    [
        ('{\n "instruction": "a",\n "input": "",\n "output": "b"\n}', 1, 0),
        ('{"pairs": [{"instruction": "a", "input": "", "output": "b"}]}', 1, 0),
        (
            '1. {"instruction": "a", "input": "", "output": "b"}\n2) {"instruction": "c", "input": "", "output": "d"}',
            2,
            0,
        ),
        ('Here:\n- {"instruction": "a", "input": "", "output": "b"}\nThat is all.', 1, 2),
        ('{"instruction": "a", "inp\n{"instruction": "c", "input": "", "output": "d"}', 1, 1),
        ('{"instruction": "a", "input": 5, "output": "b"}', 0, 1),
        ('{"instruction": " ", "input": "", "output": "b"}', 0, 1),
        ('{"a":' * 100_000, 0, 1),
        ("nothing\n\nat all", 0, 2),
        ("", 0, 0),
    ],
)
def test_what_is_no_pair_is_counted_by_the_line(text: str, pairs: int, unreadable: int) -> None:
    written = read_pairs(text)
    assert (len(written.pairs), written.unreadable) == (pairs, unreadable)


class Says:
    def __init__(self, text: str, finish: str = "stop") -> None:
        self.reply = Reply(text, 1, 1, "m", finish)

    def ask_many(self, requests: object) -> list[Reply]:
        return [self.reply for _ in requests]  # type: ignore[attr-defined]


@pytest.mark.parametrize(("opening", "closing"), MARKS)
def test_no_reasoning_becomes_training_data(opening: str, closing: str) -> None:
    seeds, before = [Example("Reverse ab.", "", "ba", "toy", "toy 1")], f"{opening}writing? code? "
    refined = refine_all(Says(f"{before}{closing}\nThe word is ba."), seeds, ["code"])  # type: ignore[arg-type]
    assert refined.examples[0].output == "The word is ba."
    kept = refine_all(Says(before), seeds, ["code"])  # type: ignore[arg-type]
    assert (kept.examples, kept.counts["empty"]) == (seeds, 1)
    named = classify_all(Says(f"{before}{closing}\ncode"), ["q"], {"code": "", "writing": ""})  # type: ignore[arg-type]
    assert named.kinds == ["code"]
    draft, pair = prompts.written([("draft", "", "x")]), prompts.written([("Reverse cd.", "", "dc")])
    made = expand_all(Says(f"{opening}\n{draft}\n{closing}\n{pair}"), seeds, ["code"], 1)  # type: ignore[arg-type]
    assert [example.instruction for example in made.examples] == ["Reverse cd."]


@pytest.mark.parametrize("finish", ["length", "max_tokens", "content_filter"])
def test_a_response_that_was_cut_off_is_not_kept(finish: str) -> None:
    seeds = [Example("Reverse ab.", "", "ba", "toy", "toy 1")]
    assert refine_all(Says("The word", finish), seeds, ["code"]).counts["truncated"] == 1  # type: ignore[arg-type]
