"""One attempt to get one answer over the wire, with the `openai` package: a reply, or what was in the way.

The address and the key are read from the environment here and leave this module in no form: whatever went wrong comes
back as a `Trouble`, a sentence without secrets, and no exception of another package gets out, since those hold requests
with their headers. An address may hold `user:password@`, which is sent as Basic authorization.
"""

import base64
import difflib
import email.utils
import json
import os
import re
import time
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple
from urllib.parse import unquote, urlsplit

from labkit.errors import BadRequest, unknown
from labkit.teach.ledger import Reply
from labkit.teach.redaction import Redactor, guard_logs

URLS, KEYS = ("LABKIT_TEACHER_URL", "OPENAI_BASE_URL"), ("LABKIT_TEACHER_KEY", "OPENAI_API_KEY")
QUOTED = 200  # characters of a server's own words
LISTED = 20  # models that a refusal names
CHECK_TIMEOUT = 10.0  # seconds
UNSENT = ("ConnectError", "ConnectTimeout", "PoolTimeout", "UnsupportedProtocol", "ProxyError")  # httpx's names
LARGEST_COUNT = 1 << 40  # tokens; more is no count


class Trouble(NamedTuple):
    """Why an attempt brought no reply. `what`: "again" may pass, "request" is refused, "endpoint" refuses all requests.

    `lost`: the endpoint may have answered, and charged. `down`: it is no sign of life. `after`: seconds that the server
    asks to wait.
    """

    sentence: str
    what: Literal["again", "request", "endpoint"]
    lost: bool = False
    down: bool = False
    after: float | None = None


class Transport:
    """The endpoint that the environment names.

    Raises:
        BadRequest: when it names none, or something that is no address.
    """

    def __init__(self, model: str, timeout: float, connections: int) -> None:
        try:
            import httpx  # noqa: F401
            import openai
        except ImportError:
            raise BadRequest("a teacher needs the package openai: pip install 'labkit[teacher]'") from None
        self._openai, self._model, self._timeout = openai, model, timeout
        place = _place()
        if isinstance(place, str):
            raise BadRequest(place)
        self.host, self.identity, self.redact = place.host, place.identity, Redactor(place.secrets)
        self._key_name, self._url_name, self._has_key = place.key_name, place.url_name, bool(place.key)
        guard_logs(self.redact)
        complaint = ""
        try:
            self._api = openai.OpenAI(
                api_key=place.key or "none",
                base_url=place.identity,
                max_retries=0,
                timeout=timeout,
                default_headers=place.headers,
            )
        except Exception as error:
            complaint = self.redact(str(error))
        if complaint:  # raised here, so that no traceback leads to the other package's frames
            raise BadRequest(f"{place.url_name} is of no use to the package openai: {complaint}")

    def close(self) -> None:
        self._api.close()

    def attempt(self, body: Mapping[str, Any]) -> Reply | Trouble:
        """Send one chat request. A reply whose `counted` is False has no token counts."""
        try:
            # The package's typed `chat.completions.create` builds pydantic models, and takes twice the time.
            answer = self._api.post("/chat/completions", cast_to=object, body=dict(body))
        except Exception as error:
            trouble = self._trouble(error, self._timeout)
        else:
            return self._read(answer)
        if trouble.what != "again" and (missing := self._missing_model()):
            return Trouble(missing, "endpoint")
        return trouble

    def models(self) -> list[str] | Trouble:
        """What the endpoint lists; an empty list where it has no such list."""
        seconds = min(self._timeout, CHECK_TIMEOUT)
        try:
            answer = self._api.get("/models", cast_to=object, options={"timeout": seconds})
        except Exception as error:
            if getattr(error, "status_code", 0) in (404, 405, 501):
                return []
            return self._trouble(error, seconds)
        try:
            record: Any = json.loads(answer) if isinstance(answer, str) else answer
            return [str(entry["id"]) for entry in record["data"]]
        except (ValueError, KeyError, TypeError):
            pass
        return Trouble(
            f"what answers at {self.host} is no OpenAI-compatible endpoint, since its /models is no list of models; "
            f"the address in {self._url_name} usually ends in /v1",
            "endpoint",
        )

    def _missing_model(self) -> str | None:
        models = self.models()
        return None if isinstance(models, Trouble) else self.missing(models)

    def missing(self, models: list[str]) -> str | None:
        """The refusal of this client's model where the endpoint lists models, and not this one."""
        wanted = self._model
        # Some endpoints list `models/name` or `name:latest` and answer to the bare name as well.
        if not models or any(wanted in (name, name.split(":")[0], name.rsplit("/", 1)[-1]) for name in models):
            return None
        near = difflib.get_close_matches(wanted, models, n=LISTED, cutoff=0.0) if len(models) > LISTED else models
        return self.redact(str(unknown(f"model at {self.host}", wanted, near)))

    def _read(self, answer: object) -> Reply | Trouble:
        try:
            record: Any = json.loads(answer) if isinstance(answer, str) else answer
            choice = record["choices"][0]
            message = choice["message"]
            text = message["content"] if message["content"] is not None else message.get("refusal") or ""
            if not isinstance(text, str):
                raise TypeError("content")
        except (ValueError, KeyError, TypeError, IndexError, AttributeError):
            said = "no JSON" if isinstance(answer, str) else "no reply"
            return Trouble(f"{self.host} answered with {said} in it", "again", lost=True, down=True)
        prompt, completion = _count(record, "prompt_tokens"), _count(record, "completion_tokens")
        counted = prompt is not None and completion is not None
        model, reason = (
            self._clean(str(name)) for name in (record.get("model") or self._model, choice.get("finish_reason") or "")
        )
        return Reply(self._clean(text), prompt or 0, completion or 0, model, reason, counted=counted)

    def _clean(self, text: str) -> str:
        """Without secrets, and without halves of surrogate pairs, which no file can hold."""
        return self.redact(re.sub("[\ud800-\udfff]", "\ufffd", text))

    def _trouble(self, error: Exception, seconds: float) -> Trouble:
        if isinstance(error, self._openai.APIStatusError):
            return self._status(error.status_code, self._told(error.body), error.response.headers, error.code)
        if isinstance(error, self._openai.APIConnectionError):
            cause = type(error.__cause__).__name__
            if cause in UNSENT:
                why = _root(error)
                return Trouble(
                    f"no endpoint answers at {self.host} ({self.redact(why)}): start it, or correct {self._url_name}",
                    "again",
                    down=True,
                )
            if isinstance(error, self._openai.APITimeoutError):
                return Trouble(f"{self.host} gave no answer in {seconds:g} s", "again", lost=True, down=True)
            return Trouble(f"{self.host} broke off its answer ({cause})", "again", lost=True, down=True)
        if isinstance(error, ValueError):
            return Trouble(f"{self.host} answered with broken JSON", "again", lost=True, down=True)
        return Trouble(
            self.redact(f"{self.host} could not be asked: {type(error).__name__}: {error}"), "endpoint", lost=True
        )

    def _status(self, status: int, told: str, headers: Mapping[str, str], code: str | None) -> Trouble:
        if status == 401 or (status == 403 and not self._has_key):
            wanted = "set it to one that it knows" if self._has_key else "it is not set"
            return Trouble(f"{self.host} refuses the key in {self._key_name} ({status}): {wanted}", "endpoint")
        if status == 403:
            return Trouble(f"{self.host} forbids the request with the key in {self._key_name} (403){told}", "endpoint")
        if code == "insufficient_quota":
            return Trouble(
                f"the account of the key in {self._key_name} is used up, says {self.host} ({status}){told}", "endpoint"
            )
        if status == 404:
            where = f"the address in {self._url_name} usually ends in /v1"
            return Trouble(f"{self.host} has no /chat/completions for '{self._model}' (404){told}; {where}", "endpoint")
        if status in (408, 409, 429) or status >= 500:
            return Trouble(
                f"{self.host} answered {status}{told}",
                "again",
                down=status >= 500,
                after=retry_after(headers, time.time()),
            )
        return Trouble(f"{self.host} refuses the request ({status}){told}", "request")

    def _told(self, body: object) -> str:
        """A server's own words, as the end of a sentence of ours."""
        said = body.get("message") or body.get("detail") if isinstance(body, dict) else body
        words = self.redact(" ".join(str(said or "").split())).rstrip(
            "."
        )  # before it is cut: half a key is no secret's form
        return f": {words[:QUOTED]}" if words and not words.startswith("<") else ""


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """The seconds that a server asks to wait: in milliseconds, in seconds, or as a date; None where it does not say."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        told = headers.get(name, "")
        if re.fullmatch(r"\d{1,9}(\.\d*)?", told.strip()):
            return float(told) / unit
    try:
        return max(0.0, email.utils.parsedate_to_datetime(headers.get("retry-after", "")).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return None


def _count(record: Any, name: str) -> int | None:
    """A number of tokens that a server says it used; None where it does not."""
    usage = record.get("usage")
    count = usage.get(name) if isinstance(usage, dict) else None
    return count if type(count) is int and 0 <= count < LARGEST_COUNT else None


def _root(error: BaseException) -> str:
    """The system's own word for a connection that failed, such as `Connection refused`."""
    while (deeper := error.__cause__ or error.__context__) is not None:
        error = deeper
    return getattr(error, "strerror", None) or type(error).__name__


class _Place(NamedTuple):
    """What the environment says, with the secrets apart from the rest."""

    host: str
    identity: str
    url_name: str
    key_name: str
    key: str
    headers: dict[str, str]
    secrets: list[str]

    def __repr__(self) -> str:  # tracebacks may show local variables
        return f"_Place({self.host!r})"


def _place() -> _Place | str:
    """The endpoint that the environment names, or what is wrong with it. Raises nothing: its locals are secret."""
    url_name = next((name for name in URLS if _set(name)), None)
    if url_name is None:
        return (
            f"no teacher is named: set {URLS[0]}, such as http://localhost:8000/v1, and {KEYS[0]} where it wants a key"
        )
    # A key of OpenAI is no business of an endpoint that was named for labkit alone.
    allowed = KEYS if url_name == URLS[1] else KEYS[:1]
    key_name = next((name for name in allowed if _set(name)), KEYS[0])
    key = _set(key_name)
    if not re.fullmatch(r"[\x21-\x7e]*", key):
        return f"the key in {key_name} holds a space or a character that is not ASCII, which no header can hold"
    try:
        parts = urlsplit(_set(url_name))
        address, port = parts.hostname, parts.port
    except ValueError:
        return f"{url_name} is no address: it must look like http://localhost:8000/v1"
    if not address or parts.scheme not in ("http", "https") or parts.query or parts.fragment:
        return (
            f"{url_name} is no address of an endpoint: it must look like http://localhost:8000/v1, with no ? and no #"
        )
    host = f"{parts.scheme}://" + (f"[{address}]" if ":" in address else address) + (f":{port}" if port else "")
    headers, secrets = {}, [key]
    if parts.username or parts.password:
        if key:
            return f"{url_name} holds a user, and {key_name} is set too: a request can carry only one of them"
        name, password = unquote(parts.username or ""), unquote(parts.password or "")
        headers["Authorization"] = "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()
        secrets += [f"{name}:{password}", password, name]
    return _Place(host, host + parts.path.rstrip("/"), url_name, key_name, key, headers, secrets)


def _set(name: str) -> str:
    return os.environ.get(name, "").strip()
