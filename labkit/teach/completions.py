"""The oracle in the words of OpenAI's chat completions: a request read and checked, its choices and what they cost.

Pure functions of a request's body: `labkit.teach.server` carries them over HTTP, and `Oracle` is asked in this process,
in the place of an endpoint. Both say the same of the same request.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from labkit.errors import BadRequest
from labkit.teach.ledger import Reply
from labkit.teach.oracle import MODEL, VERSION, flaws_of, reply
from labkit.teach.transport import Trouble

_TOKEN = re.compile(r"\s*(?:\w{1,6}|[^\w\s])|\s+")
_PASSED_OVER = {
    *("logit_bias", "user", "store", "metadata", "service_tier", "reasoning_effort", "verbosity", "safety_identifier"),
    *("parallel_tool_calls", "tool_choice", "prompt_cache_key", "prompt_cache_retention", "prompt_cache_options"),
    *("prediction", "moderation"),
}
_REFUSED = {
    *("tools", "functions", "function_call", "logprobs", "top_logprobs", "audio", "web_search_options"),
    *("response_format", "modalities"),
}
# Values of refused fields that ask for nothing.
_HARMLESS: tuple[Any, ...] = (None, False, [], {"type": "text"}, ["text"])
_Role = Literal["system", "developer", "user", "assistant", "tool", "function"]
_CODES = {"missing": "missing_required_parameter", "extra_forbidden": "unknown_parameter"}  # else "invalid_value"


class Refused(Exception):
    """A request that gets an error: its status, a sentence, and the protocol's names for what is wrong."""

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code


class _Part(BaseModel):
    """A part of a message's content."""

    type: Literal["text"]
    text: str


class _Message(BaseModel):
    """A message; only an assistant's may be without content."""

    role: _Role
    content: str | list[_Part] | None = None

    @model_validator(mode="after")
    def _has_content(self) -> Self:
        if self.content is None and self.role != "assistant":
            raise ValueError("no content")
        return self

    def plain(self) -> dict[str, str]:
        """The message as the oracle reads it."""
        parts = self.content if isinstance(self.content, list) else []
        text = self.content if isinstance(self.content, str) else "".join(part.text for part in parts)
        return {"role": "system" if self.role == "developer" else self.role, "content": text}


class Asked(BaseModel):
    """A request, read and checked; a description ends the sentence that refuses the field."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    model: str = Field(description="a text, and must be there")
    messages: list[_Message] = Field(min_length=1, description="a list of one message or more, and must be there")
    n: int = Field(1, ge=1, le=128, description="a whole number from 1 to 128")  # as OpenAI has it
    seed: int = Field(0, description="a whole number")
    stop: list[str] = Field([], max_length=4, description="a text, or a list of up to four")
    max_tokens: int | None = Field(None, ge=1, description="a whole number from 1 on")
    max_completion_tokens: int | None = Field(None, ge=1, description="a whole number from 1 on")
    stream: bool = Field(False, description="true or false")
    stream_options: dict[str, Any] = Field({}, description="an object")
    temperature: float = Field(1, ge=0, le=2, description="a number from 0 to 2")
    top_p: float = Field(1, ge=0, le=1, description="a number from 0 to 1")
    frequency_penalty: float = Field(0, ge=-2, le=2, description="a number from -2 to 2")
    presence_penalty: float = Field(0, ge=-2, le=2, description="a number from -2 to 2")

    @field_validator("stop", mode="before")
    @classmethod
    def _as_list(cls, stop: Any) -> Any:
        stops = [stop] if isinstance(stop, str) else stop
        if isinstance(stops, list) and "" in stops:
            raise ValueError("a stop is empty")
        return stops

    def tokens(self) -> int:
        """The tokens of the messages."""
        return sum(len(_TOKEN.findall(message.plain()["content"])) for message in self.messages)

    def choices(self) -> list["Choice"]:
        """The replies: each up to a stop, and no longer than the limit."""
        chat, flaws = [message.plain() for message in self.messages], flaws_of(self.model)
        return [self._cut(reply(chat, seed=self.seed + i, flaws=flaws)) for i in range(self.n)]

    def _cut(self, text: str) -> "Choice":
        for stop in self.stop:
            text = text.partition(stop)[0]
        tokens, limit = _TOKEN.findall(text), self.max_tokens or self.max_completion_tokens
        if limit is not None and len(tokens) > limit:
            return Choice(tokens[:limit], "length")
        return Choice(tokens, "stop")


class Choice(NamedTuple):
    """One reply: its tokens as text, and why it ends."""

    tokens: list[str]
    finish: str

    @property
    def text(self) -> str:
        return "".join(self.tokens)


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
        (choice,) = asked.choices()
        return Reply(choice.text, asked.tokens(), len(choice.tokens), asked.model, choice.finish)

    def models(self) -> list[str] | Trouble:
        return [self._model]

    def redact(self, text: str) -> str:
        return text

    def close(self) -> None: ...


def read(body: Any, models: Sequence[str]) -> Asked:
    """A request's fields, checked; null stands for a field that is not there.

    Raises:
        Refused: for the first field that is not as it must be.
    """
    if not isinstance(body, dict):
        raise Refused(400, "the body is not a JSON object")
    for name in _REFUSED & body.keys():
        if body[name] not in _HARMLESS:
            raise Refused(400, f"this model does not offer '{name}'", name, "unsupported_parameter")
    given = {k: v for k, v in body.items() if v is not None and k not in _REFUSED | _PASSED_OVER}
    try:
        asked = Asked.model_validate(given)
    except ValidationError as invalid:
        raise _refusal(invalid) from None
    check_model(asked.model, models)
    if asked.max_tokens and asked.max_completion_tokens:
        raise Refused(400, "'max_tokens' and 'max_completion_tokens' exclude each other", "max_tokens")
    if asked.stream_options and not asked.stream:
        raise Refused(400, "'stream_options' is only allowed with 'stream'", "stream_options")
    return asked


def _refusal(invalid: ValidationError) -> Refused:
    """The first error, by the field that it is in."""
    error = invalid.errors()[0]
    name, *place = map(str, error["loc"])
    code = _CODES.get(error["type"], "invalid_value")
    if name not in Asked.model_fields:
        return Refused(400, f"unrecognized request argument: {name!r:.100}", name[:100], code)
    if name == "messages" and place:
        where = f"messages[{place[0]}]"
        wanted = f"a role, one of {', '.join(get_args(_Role))}, and content that is text or parts of type text"
        return Refused(400, f"'{where}' has {wanted}", where, code)
    return Refused(400, f"'{name}' is {Asked.model_fields[name].description}", name, code)


def check_model(model: str, models: Sequence[str]) -> None:
    """Refuse a model that there is not; `models` are those that are listed."""
    try:
        flaws_of(model)
    except BadRequest as refusal:
        message = f"{refusal} (listed: {', '.join(models)})"
        raise Refused(404, message[:1000], "model", "model_not_found") from None
