"""What a server's answer says: a reply, an error, a list of models. Pure functions of bytes.

Servers that call themselves OpenAI-compatible differ, and each form below is one that some of them send: content as a
list of parts, reasoning in parts or fields of its own, a stream where none was asked for, an error in an answer whose
status says that all is well, models as a bare list or by name. What is understood is read; the rest is named at once.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

LARGEST_COUNT = 1 << 40  # tokens; more is no count
_WORDS = ("message", "msg", "detail", "error", "errors", "status_msg", "base_resp", "reason", "title", "description")
_CODES = ("status_code", "code", "status", "type")
_COUNTS = (("prompt_tokens", "input_tokens"), ("completion_tokens", "output_tokens"))
_FIELDS = ("", "data", "event", "id", "retry")  # of server-sent events; "" begins a comment
_MODEL = ("id", "name", "model", "model_name", "model_id", "modelId", "slug", "key")  # of an entry in a list of models
_PASSING = re.compile(
    r"rate.?limit|too.many|overload|busy|capacity|throttl|temporar|tim(ed|e).?out|again|unavailable|exhausted", re.I
)
_REASONING = re.compile(r"think|thought|reason|analysis|summary", re.I)


class Usage(NamedTuple):
    """The tokens that a server says it used."""

    prompt: int
    completion: int


class Said(NamedTuple):
    """A reply."""

    text: str
    usage: Usage | None
    model: str
    finish_reason: str


class Fault(NamedTuple):
    """An answer without a reply.

    `kind`: an "error" of the server's, "garbled" (no JSON, or half of it), "empty" (no reply in it), or "odd" (a reply
    that is no text). `words`: the server's own, or what was odd. `status`, `code`: the error's, as in HTTP.
    """

    kind: Literal["error", "garbled", "empty", "odd"]
    words: str = ""
    status: int | None = None
    code: str = ""
    usage: Usage | None = None

    @property
    def may_pass(self) -> bool:
        """An error that speaks of load."""
        return bool(_PASSING.search(f"{self.code} {self.words}"))


class _Odd(Exception):
    """Content that is no text; says what it is."""


def read_reply(body: bytes) -> Said | Fault:
    """The reply in an answer; reasoning is no part of it."""
    whole = _json(body)
    if whole is None and (chunks := _events(body)) is not None:
        if not chunks:
            return Fault("garbled", "it broke off its stream")
        whole = _assembled(chunks)
    if whole is None:
        begun = body.lstrip()[:1] in (b"{", b"[")
        return Fault("garbled", "broken JSON" if begun else "no JSON in it")
    record = _first(whole)
    usage, choice = _usage(record), _first(record.get("choices"))
    error = record.get("error") or choice.get("error")
    if error or not choice:
        return _fault(error or record, usage, sure=bool(error))
    if choice.get("finish_reason") == "error":
        return Fault("error", "it gave up its reply", 500, usage=usage)
    message = choice.get("message") or choice.get("delta")
    if isinstance(choice.get("text"), str):  # as completions without a chat have it
        message = message or {"content": choice["text"]}
    if not isinstance(message, dict):
        return Fault("empty", usage=usage)
    try:
        text = _text(message.get("content")) or _text(message.get("refusal"))
    except _Odd as odd:
        return Fault("odd", str(odd), usage=usage)
    return Said(text, usage, str(record.get("model") or ""), str(choice.get("finish_reason") or ""))


def read_error(body: bytes) -> Fault:
    """The error in an answer whose status says that it is one; its words are empty where it has none."""
    record = _first(_json(body))
    return _fault(record.get("error") or record)


def read_models(body: bytes) -> list[str] | Fault | None:
    """The names of the models that an answer lists; None where it is no such list."""
    if not body.strip():
        return []
    whole = _json(body)
    if isinstance(whole, dict) and whole.get("error"):
        return _fault(whole["error"])
    try:
        return _names(whole)
    except RecursionError:
        return None


def _names(value: Any) -> list[str] | None:
    """The names in a list of models, in one under a key, or in a table by name; None: no such list."""
    if isinstance(value, list):
        names = [_name(entry) for entry in value]
        return None if value and not any(names) else [name for name in names if name]
    if not isinstance(value, dict):
        return None
    for key in sorted({"data", "models"} & value.keys()):
        inner = value[key]
        by_name = isinstance(inner, dict) and not {"data", "models"} & inner.keys()
        return list(inner) if by_name else [] if inner is None else _names(inner)
    tables = [entry for entry in value.values() if isinstance(entry, dict) and "id" in entry]
    return list(value) if value and len(tables) == len(value) else None


def _name(entry: Any) -> str:
    names = [entry.get(key) for key in _MODEL] if isinstance(entry, dict) else [entry]
    return next((name for name in names if isinstance(name, str)), "")


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _events(body: bytes) -> list[dict[str, Any]] | None:
    """The records of a stream: server-sent events, or one record per line; none where it broke off, None where it is
    no stream."""
    pending, chunks, ended = list[str](), list[dict[str, Any]](), False
    for line in [*re.split("\r\n|\n|\r", body.decode("utf-8", "replace").lstrip("\ufeff")), ""]:
        field, _, value = ("data", "", line) if line.startswith("{") else line.partition(":")
        if line and field not in _FIELDS:
            return None
        if value.strip() == "[DONE]":
            ended = True
        elif field == "data":
            pending.append(value)
        # A record is a line, or the lines up to an empty one.
        record = _json("\n".join(pending).encode()) if len(pending) == 1 or not line else None
        if isinstance(record, dict):
            chunks.append(record)
            pending.clear()
        elif pending and not line:
            return []
    ended = ended or any(chunk.get("error") or _first(chunk.get("choices")).get("finish_reason") for chunk in chunks)
    return chunks if ended else [] if chunks else None


def _assembled(chunks: list[dict[str, Any]]) -> dict[str, Any]:
    """The answer that a stream would have been in one piece."""
    whole: dict[str, Any] = {}
    choice: dict[str, Any] = {}
    texts: dict[str, list[str]] = {"content": [], "refusal": []}
    for chunk in chunks:
        whole |= {key: chunk[key] for key in ("model", "usage", "error") if chunk.get(key)}
        for part in _parts(chunk.get("choices")):
            if not isinstance(part, dict) or part.get("index"):
                continue  # another choice
            choice |= {key: part[key] for key in ("finish_reason", "error") if part.get(key)}
            delta = part.get("delta") or part.get("message") or {"content": part.get("text")}
            for key, pieces in texts.items():
                pieces += _parts(delta.get(key) if isinstance(delta, dict) else delta)
            whole["choices"] = [choice]
    choice["message"] = {"role": "assistant", **texts}
    return whole


def _parts(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _first(value: Any) -> dict[str, Any]:
    """A record, or the first of a list; an empty one where there is none."""
    first = value[0] if isinstance(value, list) and value else value
    return first if isinstance(first, dict) else {}


def _text(content: Any) -> str:
    """The text of a message's content: a text, or parts, of which reasoning is left out.

    Raises:
        _Odd: for content or a part that is no text.
    """
    return "".join(map(_part, _parts(content)))


def _part(part: Any) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, dict):
        raise _Odd(f"content of the type {type(part).__name__}")
    kind = str(part.get("type", "text"))
    if _REASONING.search(kind) or part.get("thought") is True:
        return ""
    text = part.get("text", part.get("refusal", part.get("content")))
    text = text.get("value") if isinstance(text, dict) else text
    if text is None and kind in ("text", "output_text", "refusal"):
        return ""
    if not isinstance(text, str):
        raise _Odd(f"a part of the type '{kind}'")
    return text


def _usage(record: Mapping[str, Any]) -> Usage | None:
    """What a server says it used; None where it does not say both numbers."""
    usage = record.get("usage")
    if not isinstance(usage, dict):
        return None
    counts = [usage.get(name, usage.get(other)) for name, other in _COUNTS]
    prompt, completion = (n if type(n) is int and 0 <= n < LARGEST_COUNT else None for n in counts)
    return None if prompt is None or completion is None else Usage(prompt, completion)


def _fault(error: Any, usage: Usage | None = None, *, sure: bool = True) -> Fault:
    """An error as a server words it; `sure`: it is one, even where it has no words."""
    words, codes = _words(error), list(_codes(error))
    status = next((int(code) for code in codes if re.fullmatch("[45][0-9]{2}", code)), None)
    code = next((code for code in codes if not code.lstrip("-").isdigit()), "")
    kind: Literal["error", "empty"] = "error" if sure or words else "empty"
    return Fault(kind, words or code, status, code, usage)


def _words(value: Any, depth: int = 0) -> str:
    """The first text in an error, by the fields that servers put one in."""
    if isinstance(value, str):
        return value
    inner = [value.get(key) for key in _WORDS] if isinstance(value, dict) else value
    if not isinstance(inner, list) or depth > 5:
        return ""
    return next(filter(None, (_words(part, depth + 1) for part in inner)), "")


def _codes(error: Any) -> Iterator[str]:
    """What may be a code, of an error or one level inside."""
    inside = error.values() if isinstance(error, dict) else ()
    for record in (part for part in (error, *inside) if isinstance(part, dict)):
        values = [record.get(key) for key in _CODES]
        yield from (str(value) for value in values if isinstance(value, str | int) and value is not True)
