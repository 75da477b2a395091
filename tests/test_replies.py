"""Every form in which servers put a reply is read, and its reasoning left out."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.teach.replies import Fault, Said, Usage, read_error, read_models, read_reply

USAGE = {"prompt_tokens": 5, "completion_tokens": 3}


def said(message: Any, **choice: Any) -> Said | Fault:
    record = {"choices": [{"message": message, "finish_reason": "stop", **choice}], "usage": USAGE, "model": "m"}
    return read_reply(json.dumps(record).encode())


THOUGHTS = [
    {"type": "thinking", "thinking": [{"type": "text", "text": "no"}]},
    {"type": "reasoning", "text": "no"},
    {"type": "redacted_thinking", "data": "no"},
    {"type": "reasoning.summary", "summary": "no"},
    {"text": "no", "thought": True},
]


@pytest.mark.parametrize("thoughts", [[], *([one] for one in THOUGHTS), THOUGHTS])
@pytest.mark.parametrize(
    "parts",
    [
        [{"type": "text", "text": "five"}],
        [{"type": "output_text", "text": "fi"}, {"type": "text", "text": "ve"}],
        ["fi", "ve"],
        [{"text": "five"}, {"type": "text", "text": None}],
        [{"type": "text", "text": {"value": "five", "annotations": []}}],
    ],
)
def test_parts_are_joined_and_thoughts_left_out(parts: list[Any], thoughts: list[Any]) -> None:
    for content in (thoughts + parts, parts + thoughts):
        assert said({"content": content}) == Said("five", Usage(5, 3), "m", "stop")


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": "five", "reasoning_content": "no", "reasoning": "no"}, "five"),
        ({"content": None, "reasoning_content": "no"}, ""),
        ({"content": "", "reasoning": "no"}, ""),
        ({"role": "assistant", "reasoning": "no"}, ""),
        ({"content": THOUGHTS}, ""),
        ({"content": []}, ""),
        ({"content": {"type": "text", "text": "five"}}, "five"),
        ({"content": None, "refusal": "I will not"}, "I will not"),
        ({"content": [{"type": "refusal", "refusal": "I will not"}]}, "I will not"),
        ({"content": None, "tool_calls": [{"id": "1"}]}, ""),
    ],
)
def test_fields_beside_the_content(message: dict[str, Any], text: str) -> None:
    assert said(message) == Said(text, Usage(5, 3), "m", "stop")


def test_a_completion_without_a_chat_is_read() -> None:
    assert said(None, text="five") == Said("five", Usage(5, 3), "m", "stop")
    assert said(None, delta={"content": "five"}) == Said("five", Usage(5, 3), "m", "stop")


@pytest.mark.parametrize(
    ("message", "kind"),
    [({"content": 5}, "odd"), ({"content": [{"type": "audio", "audio": "x"}]}, "odd"), (None, "empty"), ("x", "empty")],
)
def test_what_is_no_text_is_named(message: Any, kind: str) -> None:
    fault = said(message)
    assert isinstance(fault, Fault)
    assert (fault.kind, fault.usage) == (kind, Usage(5, 3))


# Streams where none was asked for


def chunks(text: str, usage: bool = True, finish: str | None = "stop") -> list[dict[str, Any]]:
    def chunk(**choice: Any) -> dict[str, Any]:
        return {"model": "m", "choices": [{"index": 0, "finish_reason": None, **choice}], "usage": None}

    first = chunk(delta={"role": "assistant", "content": "", "reasoning_content": "no"})
    other = {"choices": [{"index": 1, "delta": {"content": "another choice"}}]}
    end = [chunk(delta={}, finish_reason=finish)] if finish else []
    pieces = [chunk(delta={"content": character}) for character in text]
    return [first, other, *pieces, *end, *([{"choices": [], "usage": USAGE}] if usage else [])]


LAYOUTS = {
    "events": lambda records: "".join(f"data: {r}\n\n" for r in records) + "data: [DONE]\n\n",
    "no blanks": lambda records: "".join(f"data:{r}\n" for r in records) + "data:[DONE]",
    "CR LF, comments": lambda records: (
        ": hello\r\n\r\n" + "".join(f"event: x\r\nid: 1\r\ndata: {r}\r\n\r\n" for r in records)
    ),
    "lines": lambda records: "\n".join(records) + "\n",
    "CR": lambda records: "".join(f"data: {r}\r\r" for r in records),
    "byte order mark": lambda records: "\ufeff" + "".join(f"data: {r}\n\n" for r in records),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@settings(max_examples=15, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("\u2028\u2029\x85\v\f\n\r")))
def test_a_stream_is_read_to_its_end(layout: str, text: str) -> None:
    records = [json.dumps(chunk, ensure_ascii=False) for chunk in chunks(text)]
    assert read_reply(LAYOUTS[layout](records).encode()) == Said(text, Usage(5, 3), "m", "stop")


def test_a_record_over_several_lines_is_read() -> None:
    record = json.dumps(chunks("five", usage=False)[2], indent=1).replace("\n", "\ndata: ")
    assert read_reply(f"data: {record}\n\ndata: [DONE]\n\n".encode()) == Said("f", None, "m", "")


def test_a_whole_answer_as_an_event_is_read() -> None:
    record = {"choices": [{"index": 0, "message": {"content": "five"}, "finish_reason": "stop"}], "usage": USAGE}
    assert read_reply(f"data: {json.dumps(record)}\n\n".encode()) == Said("five", Usage(5, 3), "", "stop")


@pytest.mark.parametrize("cut", range(5, 300, 23))
def test_half_a_stream_is_no_reply(cut: int) -> None:
    whole = LAYOUTS["events"]([json.dumps(chunk) for chunk in chunks("five", finish=None, usage=False)])
    fault = read_reply(whole.encode()[:cut])
    assert isinstance(fault, Fault)
    assert fault.kind == "garbled"


def test_an_error_in_a_stream_is_an_error() -> None:
    records = [
        json.dumps(r) for r in [*chunks("fi", finish=None, usage=False), {"error": {"message": "gone", "code": 500}}]
    ]
    fault = read_reply(LAYOUTS["events"](records).encode())
    assert isinstance(fault, Fault)
    assert (fault.kind, fault.words, fault.status) == ("error", "gone", 500)


@settings(max_examples=60, deadline=None)
@given(st.binary() | st.text().map(str.encode))
def test_no_bytes_are_too_odd(body: bytes) -> None:
    for read in (read_reply, read_error, read_models):
        read(body)


KEYS = ["choices", "message", "content", "error", "usage", "data", "models", "delta", "text", "type", "code", "id"]
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(KEYS),
        inner,
        max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(JSON)
def test_no_json_is_too_odd(record: Any) -> None:
    body = json.dumps(record).encode()
    for read in (read_reply, read_error, read_models):
        read(body)
        read(b"data: " + body + b"\n\ndata: [DONE]\n\n")


@pytest.mark.parametrize("body", [b'{"a":' * 200_000, b"[" * 200_000, b"data: x\n" * 50_000, b"9" * 6000])
def test_deep_or_long_answers_end(body: bytes) -> None:
    assert isinstance(read_reply(body), Fault)
