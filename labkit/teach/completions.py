"""The oracle in the words of OpenAI's chat completions: a request read and checked, its choices and what they cost.

Pure functions of a request's body: `labkit.teach.server` carries them over HTTP, and `Oracle` is asked in this process,
in the place of an endpoint. Both say the same of the same request.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from labkit.errors import BadRequest
from labkit.teach.ledger import Reply
from labkit.teach.oracle import MODEL, VERSION, Flaws, flaws_of, reply
from labkit.teach.transport import Trouble

CHOICES = 128  # the most of one request, as OpenAI has it
_TOKEN = re.compile(r"\s*(?:\w{1,6}|[^\w\s])|\s+")
_ROLES = ("system", "developer", "user", "assistant", "tool", "function")
_PASSED_OVER = {
    *("temperature", "top_p", "frequency_penalty", "presence_penalty", "logit_bias", "user", "store", "metadata"),
    *("service_tier", "reasoning_effort", "verbosity", "safety_identifier", "parallel_tool_calls", "tool_choice"),
    *("prompt_cache_key", "prompt_cache_retention", "prompt_cache_options", "prediction", "moderation"),
}
_REFUSED = {
    *("tools", "functions", "function_call", "logprobs", "top_logprobs", "audio", "web_search_options"),
    *("response_format", "modalities"),
}
_READ = {*("model", "messages", "n", "stream", "stream_options", "seed", "stop", "max_tokens", "max_completion_tokens")}
_RANGES = {"temperature": (0, 2), "top_p": (0, 1), "frequency_penalty": (-2, 2), "presence_penalty": (-2, 2)}
# Values of refused fields that ask for nothing.
_HARMLESS: tuple[Any, ...] = (None, False, [], {"type": "text"}, ["text"])


class Refused(Exception):
    """A request that gets an error: its status, a sentence, and the protocol's names for what is wrong."""

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code


class Asked(NamedTuple):
    """A request, read and checked."""

    model: str
    flaws: Flaws
    messages: list[dict[str, str]]
    seed: int
    n: int
    limit: int | None
    stop: list[str]
    stream: bool
    usage: bool


class Choice(NamedTuple):
    """One reply: its tokens as text, and why it ends."""

    tokens: list[str]
    finish: str


class Oracle:
    """The oracle of this process in the place of an endpoint, as `labkit.teach.client.Client` asks one.

    Raises:
        BadRequest: for a model that there is not.
    """

    host, identity = "the oracle of this process", f"offline {MODEL} {VERSION}"

    def __init__(self, model: str) -> None:
        self._model = model
        flaws_of(model)

    def attempt(self, body: Mapping[str, Any], tokens: int) -> Reply | Trouble:
        try:
            asked = read(dict(body), [self._model])
        except Refused as refused:
            return Trouble(f"{self.host} refuses the request ({refused.status}): {refused.message}", "request")
        tokens_said, finish = as_asked(asked, reply(asked.messages, seed=asked.seed, flaws=asked.flaws))
        return Reply("".join(tokens_said), told(asked), len(tokens_said), asked.model, finish)

    def models(self) -> list[str] | Trouble:
        return [self._model]

    def missing(self, models: list[str]) -> str | None:
        return None

    def redact(self, text: str) -> str:
        return text

    def close(self) -> None: ...


def read(body: Any, models: Sequence[str]) -> Asked:
    """A request's fields, checked; null stands for a field that is not there."""
    if not isinstance(body, dict):
        raise Refused(400, "the body is not a JSON object")
    given = {name: value for name, value in body.items() if value is not None}
    for name, value in given.items():
        if name in _REFUSED and value not in _HARMLESS:
            raise Refused(400, f"this model does not offer '{name}'", name, "unsupported_parameter")
        if name not in _READ | _REFUSED | _PASSED_OVER:
            raise Refused(400, f"unrecognized request argument: {name!r:.100}", name[:100], "unknown_parameter")
    for name, (low, high) in _RANGES.items():
        value = given.get(name, 0)
        if type(value) not in (int, float) or not low <= value <= high:
            raise Refused(400, f"'{name}' is a number from {low} to {high}", name, "invalid_value")
    model = given.get("model")
    if not isinstance(model, str):
        raise Refused(400, "you must provide a model: 'model' is a text", "model", "missing_required_parameter")
    wrong = flaws(model, models)
    limits = [_whole(given, name, 1, None) for name in ("max_tokens", "max_completion_tokens")]
    if None not in limits:
        raise Refused(400, "'max_tokens' and 'max_completion_tokens' exclude each other", "max_tokens")
    stream = given.get("stream", False)
    if not isinstance(stream, bool):
        raise Refused(400, "'stream' is true or false", "stream", "invalid_type")
    options = given.get("stream_options", {})
    if not isinstance(options, dict) or (options and not stream):
        raise Refused(400, "'stream_options' is an object, and only allowed with 'stream'", "stream_options")
    return Asked(
        model, wrong, _messages(given.get("messages")), _whole(given, "seed", None, None) or 0,
        _whole(given, "n", 1, CHOICES) or 1, limits[0] or limits[1], _stop(given.get("stop", [])), stream,
        options.get("include_usage") is True,
    )  # fmt: skip


def flaws(model: str, models: Sequence[str]) -> Flaws:
    try:
        return flaws_of(model)
    except BadRequest as refusal:
        message = f"{refusal} (listed: {', '.join(models)})"
        raise Refused(404, message[:1000], "model", "model_not_found") from None


def _whole(given: Mapping[str, Any], name: str, low: int | None, high: int | None) -> int | None:
    value = given.get(name)
    if value is None:
        return None
    if type(value) is not int or (low is not None and value < low) or (high is not None and value > high):
        span = "" if low is None else f" from {low} on" if high is None else f" from {low} to {high}"
        raise Refused(400, f"'{name}' is a whole number{span}", name, "invalid_value")
    return value


def _messages(given: Any) -> list[dict[str, str]]:
    if not isinstance(given, list) or not given:
        raise Refused(400, "'messages' is a list of one message or more", "messages", "missing_required_parameter")
    read = []
    for number, message in enumerate(given):
        where = f"messages[{number}]"
        role = message.get("role") if isinstance(message, dict) else None
        if role not in _ROLES:
            raise Refused(400, f"'{where}' has a role, one of {', '.join(_ROLES)}", where, "invalid_value")
        content = message.get("content")
        if isinstance(content, list):
            parts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
            content = "".join(map(str, parts)) if len(parts) == len(content) else None
        if not isinstance(content, str) and not (content is None and role == "assistant"):
            raise Refused(400, f"'{where}.content' is text, or a list of parts of type text", where, "invalid_type")
        read.append({"role": "system" if role == "developer" else role, "content": content or ""})
    return read


def _stop(given: Any) -> list[str]:
    stops = [given] if isinstance(given, str) else given
    if not isinstance(stops, list) or len(stops) > 4 or not all(isinstance(one, str) and one for one in stops):
        raise Refused(400, "'stop' is a text, or a list of up to four", "stop", "invalid_value")
    return stops


def as_asked(asked: Asked, text: str) -> Choice:
    """A reply as the request wants it: up to a stop, and no longer than its limit."""
    for stop in asked.stop:
        text = text.partition(stop)[0]
    tokens = _TOKEN.findall(text)
    if asked.limit is not None and len(tokens) > asked.limit:
        return Choice(tokens[: asked.limit], "length")
    return Choice(tokens, "stop")


def told(asked: Asked) -> int:
    """The tokens of a request's messages."""
    return sum(len(_TOKEN.findall(message["content"])) for message in asked.messages)
