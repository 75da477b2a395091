"""One attempt to get one answer: a reply, or what was in the way.

The address and the key are read from the environment here and leave this module in no form: whatever went wrong comes
back as a `Trouble`, a sentence without secrets. An address may hold `user:password@`, which is sent as Basic
authorization. What the environment holds for other programs is not sent: an organisation, a project, headers or
credentials of theirs, and their proxies. Who wants a proxy or further headers says so in `LABKIT_TEACHER_PROXY` and
`LABKIT_TEACHER_HEADERS` (`Name: value`, one a line); this machine's own addresses are asked without a proxy.
"""

import base64
import difflib
import email.utils
import ipaddress
import json
import logging
import os
import re
import time
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple
from urllib.parse import unquote, urljoin, urlsplit

from labkit.errors import BadRequest, unknown
from labkit.teach import replies
from labkit.teach.ledger import Reply
from labkit.teach.redaction import Redactor, guard_logs
from labkit.teach.wire import Answer, Broken, Wire

URLS, KEYS = ("LABKIT_TEACHER_URL", "OPENAI_BASE_URL"), ("LABKIT_TEACHER_KEY", "OPENAI_API_KEY")
PROXY, HEADERS = "LABKIT_TEACHER_PROXY", "LABKIT_TEACHER_HEADERS"
PROXIES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")  # of other programs; lower case counts as well
EXAMPLE = "http://localhost:8000/v1"
QUOTED = 200  # characters of a server's own words
LISTED = 20  # models that a refusal names
CHECK_TIMEOUT = 10.0  # seconds
# Bytes of an answer: what surrounds a reply, what a token takes in a stream of its own records, and a limit to both.
ROOM, BYTES_A_TOKEN, LARGEST = 1 << 18, 1 << 10, 1 << 26
WITHOUT_LIST = (404, 405, 501)  # statuses of an endpoint that lists no models


class Trouble(NamedTuple):
    """Why an attempt brought no reply. `what`: "again" may pass, "request" is refused, "endpoint" refuses all requests.

    `lost`: the endpoint may have answered, and charged; `used` is what it says it charged. `down`: it is no sign of
    life. `after`: seconds that the server asks to wait.
    """

    sentence: str
    what: Literal["again", "request", "endpoint"]
    lost: bool = False
    down: bool = False
    after: float | None = None
    used: replies.Usage | None = None


class Transport:
    """The endpoint that the environment names.

    Raises:
        BadRequest: when it names none, or something that is no address.
    """

    def __init__(self, model: str, timeout: float, connections: int) -> None:
        try:
            import httpx  # noqa: F401
        except ImportError:
            raise BadRequest("a teacher needs the package httpx: pip install 'labkit[teacher]'") from None
        self._model, self._timeout, self._noted = model, timeout, False
        place = _place()
        if isinstance(place, str):
            raise BadRequest(place)
        self._proxied, self._local = place.proxy is not None, _is_local(place.host)
        self.host = f"{place.host} (through {PROXY})" if self._proxied else place.host
        self.identity, self.redact = place.identity, Redactor(place.secrets)
        self._key_name, self._url_name, self._has_key = place.key_name, place.url_name, bool(place.key)
        guard_logs(self.redact)
        complaint = ""
        try:
            self._wire = Wire(place.headers, connections, place.proxy)
        except Exception as error:
            complaint = self.redact(str(error).split("\n")[0])
        if complaint:  # raised here, so that no traceback leads to the other package's frames
            named = PROXY if self._proxied else "SSL_CERT_FILE or SSL_CERT_DIR"
            raise BadRequest(f"{named} is of no use to the package httpx: {complaint}")

    def close(self) -> None:
        self._wire.close()

    def attempt(self, body: Mapping[str, Any], tokens: int) -> Reply | Trouble:
        """Send one chat request, for a reply of up to `tokens`; where its `counted` is False it has no token counts."""
        most = min(ROOM + BYTES_A_TOKEN * tokens, LARGEST)
        url, content = f"{self.identity}/chat/completions", json.dumps(body).encode()
        outcome = self._wire.exchange("POST", url, content, self._timeout, most)
        if isinstance(outcome, Broken):
            return self._broken(outcome, self._timeout)
        if 200 <= outcome.status < 300:
            trouble = self._read(outcome, most)
        else:
            trouble = self._refused(outcome.status, replies.read_error(outcome.body), outcome.headers)
        if isinstance(trouble, Trouble) and trouble.what != "again" and not trouble.lost and not trouble.used:
            models = self.models()
            if not isinstance(models, Trouble) and (missing := self.missing(models)):
                return Trouble(missing, "endpoint")
        return trouble

    def models(self) -> list[str] | Trouble:
        """What the endpoint lists; an empty list where it has no such list, or keeps it from this key."""
        seconds = min(self._timeout, CHECK_TIMEOUT)
        outcome = self._wire.exchange("GET", f"{self.identity}/models", None, seconds, LARGEST)
        if isinstance(outcome, Broken):
            return self._broken(outcome, seconds)._replace(lost=False)
        if not 200 <= outcome.status < 300:
            return self._without_list(outcome)
        names = replies.read_models(outcome.body) if outcome.whole else None
        if isinstance(names, list):
            return names
        if names:
            return self._refused(names.status or 200, names, outcome.headers)
        why = f"what answers at {self.host} is no OpenAI-compatible endpoint, since its /models is no list of models"
        return Trouble(f"{why}; the address in {self._url_name} usually ends in /v1", "endpoint")

    def _without_list(self, answer: Answer) -> list[str] | Trouble:
        """A list that is kept from us says nothing about chats, unless it is the key that is unknown."""
        fault = replies.read_error(answer.body)
        if answer.status in WITHOUT_LIST:
            return []
        passing = answer.status in (407, 408, 409, 429) or not 400 <= answer.status < 500
        if passing or (answer.status == 401 and not re.search("scope|permission|privilege", fault.words, re.I)):
            return self._refused(answer.status, fault, answer.headers)
        if not self._noted:
            said = f"{self.host} does not list its models ({answer.status}){self._told(fault.words)}"
            logging.getLogger(__name__).warning("%s; it is asked all the same", said)
        self._noted = True
        return []

    def missing(self, models: list[str]) -> str | None:
        """The refusal of this client's model where the endpoint lists models, and not this one."""
        wanted = self._model
        # Some endpoints list `models/name` or `name:latest` and answer to the bare name as well.
        if not models or any(wanted in (name, name.split(":")[0], name.rsplit("/", 1)[-1]) for name in models):
            return None
        near = difflib.get_close_matches(wanted, models, n=LISTED, cutoff=0.0) if len(models) > LISTED else models
        return self.redact(str(unknown(f"model at {self.host}", wanted, near)))

    def _read(self, answer: Answer, most: int) -> Reply | Trouble:
        if not answer.whole:
            sentence = f"{self.host} answered with more than {most:,} bytes, too many for the tokens asked for"
            return Trouble(sentence, "request", lost=True)
        said = replies.read_reply(answer.body)
        if isinstance(said, replies.Said):
            usage = said.usage or (0, 0)
            named = self._clean(said.model or self._model), self._clean(said.finish_reason)
            return Reply(self._clean(said.text), *usage, *named, counted=said.usage is not None)
        if said.kind == "error":
            return self._refused(said.status or 200, said, answer.headers)
        return self._without_reply(said)

    def _without_reply(self, fault: replies.Fault) -> Trouble:
        """An answer that is none. One that was charged, or is whole and no text, would be the same another time."""
        words = {"empty": "no reply in it", "odd": f"{fault.words}, which is no text"}.get(fault.kind, fault.words)
        charged = sum(fault.usage or (0,))
        said = self.redact(f"{self.host} answered with {words}" + (f", and charged {charged:,} tokens" * (charged > 0)))
        final = charged > 0 or fault.kind == "odd"
        return Trouble(said, "request" if final else "again", lost=not fault.usage, down=not final, used=fault.usage)

    def _clean(self, text: str) -> str:
        """Without secrets, and without halves of surrogate pairs, which no file can hold."""
        return self.redact(re.sub("[\ud800-\udfff]", "\ufffd", text))

    def _broken(self, broken: Broken, seconds: float) -> Trouble:
        if broken.sent:
            late = f"gave no {'whole ' * broken.begun}answer in {seconds:g} s"
            said = late if broken.late else f"broke off its answer ({broken.why})"
            return Trouble(f"{self.host} {said}", "again", lost=True, down=True)
        why = self.redact(broken.why)
        if self._proxied and not broken.tls:
            return Trouble(f"the proxy in {PROXY} does not connect ({why})", "again", down=True)
        ignored = [name for name in PROXIES if not self._local and (_set(name) or _set(name.lower()))]
        hint = f"; {ignored[0]} is not used: a proxy for the teacher belongs into {PROXY}" if ignored else ""
        sentence = f"no endpoint answers at {self.host} ({why}): start it, or correct {self._url_name}{hint}"
        return Trouble(sentence, "again", down=True)

    def _refused(self, status: int, fault: replies.Fault, headers: Mapping[str, str]) -> Trouble:
        """An error, by its status; 200 is one that says nothing but its words."""
        return self._status(status, self._told(fault.words), headers, fault)._replace(used=fault.usage)

    def _status(self, status: int, told: str, headers: Mapping[str, str], fault: replies.Fault) -> Trouble:
        if 300 <= status < 400:
            return self._redirected(status, headers)
        host, key, proxy = self.host, self._key_name, f"the proxy in {PROXY}"
        unknown_key = f"{host} refuses the key in {key} ({status}): set it to one that it knows"
        forbidden = f"{host} forbids the request with the key in {key} (403){told}"
        no_key = f"{host} refuses the key in {key} ({status}): it is not set"
        where = f"the address in {self._url_name} usually ends in /v1"
        of_all: dict[int | str, str] = {  # what is said of every request, by status or code: the first that fits
            401: unknown_key if self._has_key else no_key,
            403: forbidden if self._has_key else no_key,
            407: f"{proxy if self._proxied else f'a proxy before {host}'} wants other credentials (407){told}",
            "insufficient_quota": f"the account of the key in {key} is used up, says {host} ({status}){told}",
            404: f"{host} has no /chat/completions for '{self._model}' (404){told}; {where}",
        }
        for name, sentence in of_all.items():
            if name in (status, fault.code):
                return Trouble(sentence, "endpoint")
        if status in (408, 409, 429) or status >= 500 or (status == 200 and fault.may_pass):
            sentence = f"{self.host} answered {status if status > 200 else 'with an error'}{told}"
            return Trouble(sentence, "again", down=status >= 500, after=retry_after(headers, time.time()))
        shown = f" ({status})" if status > 200 else ", in an answer without a status of its own"
        hint = "; set limit_name to 'max_completion_tokens'" if "max_completion_tokens" in fault.words else ""
        return Trouble(f"{self.host} refuses the request{shown}{told}{hint}", "request")

    def _redirected(self, status: int, headers: Mapping[str, str]) -> Trouble:
        """Not followed: whoever is named there would get the prompt, and its answer would pass for the endpoint's."""
        try:
            place = urlsplit(urljoin(self.identity, headers.get("location", "")))
            where = self.redact(f"{place.scheme}://{place.netloc.rpartition('@')[2]}{place.path}")[:QUOTED]
        except ValueError:
            where = "what is no address"
        sentence = f"{self.host} sends requests on to {where} ({status}), where they do not go by themselves"
        return Trouble(f"{sentence}: correct {self._url_name} if that is the endpoint", "endpoint")

    def _told(self, words: str) -> str:
        """A server's own words, as the end of a sentence of ours."""
        # Redacted before it is cut: half a key is no secret's form.
        said = self.redact(" ".join(words.split())).rstrip(".")
        return f": {said[:QUOTED]}" if said and not said.startswith("<") else ""


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


class _Place(NamedTuple):
    """What the environment says, with the secrets apart from the rest."""

    host: str
    identity: str
    url_name: str
    key_name: str
    key: str
    headers: dict[str, str]
    secrets: list[str]
    proxy: str | None

    def __repr__(self) -> str:  # tracebacks may show local variables
        return f"_Place({self.host!r})"


def _place() -> _Place | str:
    """The endpoint that the environment names, or what is wrong with it. Raises nothing: its locals are secret."""
    url_name = next((name for name in URLS if _set(name)), None)
    if url_name is None:
        return f"no teacher is named: set {URLS[0]}, such as {EXAMPLE}, and {KEYS[0]} where it wants a key"
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
        return f"{url_name} is no address: it must look like {EXAMPLE}"
    if not address or parts.scheme not in ("http", "https") or parts.query or parts.fragment:
        return f"{url_name} is no address of an endpoint: it must look like {EXAMPLE}, with no ? and no #"
    host = f"{parts.scheme}://" + (f"[{address}]" if ":" in address else address) + (f":{port}" if port else "")
    headers, secrets = _own_headers(), [key]
    if isinstance(headers, str):
        return headers
    secrets += headers.values()
    headers = {"authorization": f"Bearer {key or 'none'}"} | headers
    if parts.username or parts.password:
        if key:
            return f"{url_name} holds a user, and {key_name} is set too: a request can carry only one of them"
        name, password = unquote(parts.username or ""), unquote(parts.password or "")
        headers["authorization"] = "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()
        secrets += [f"{name}:{password}", password, name]
    proxy = None if _is_local(host) else _set(PROXY) or None
    if proxy:
        try:
            secrets += [unquote(secret) for secret in (urlsplit(proxy).password, urlsplit(proxy).username) if secret]
        except ValueError:
            return f"{PROXY} is no address: it must look like http://proxy:8080"
    return _Place(host, host + parts.path.rstrip("/"), url_name, key_name, key, headers, secrets, proxy)


def _own_headers() -> dict[str, str] | str:
    """The further headers that a person wants, or what is wrong with them."""
    lines = [line.strip() for line in _set(HEADERS).split("\n") if line.strip()]
    pairs = [re.fullmatch(r"([!#$%&'*+.^_`|~\w-]+):\s*([\x20-\x7e]+)", line, re.ASCII) for line in lines]
    if None in pairs:
        return f"{HEADERS} holds a line that is no header: it must look like 'Name: value', in ASCII"
    return {pair[1].lower(): pair[2] for pair in pairs if pair}


def _is_local(host: str) -> bool:
    """Whether an address is this machine's own, by its name alone."""
    name = (urlsplit(host).hostname or "").rstrip(".")
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")
    mapped = getattr(address, "ipv4_mapped", None)
    return address.is_loopback or address.is_unspecified or bool(mapped and mapped.is_loopback)


def _set(name: str) -> str:
    return os.environ.get(name, "").strip()
