"""One attempt to get one answer: a reply, or what was in the way.

The address and the key are read from the environment here and leave this module in no form: whatever went wrong comes
back as a `Trouble`, a sentence without secrets. An address may hold `user:password@`, which is sent as Basic
authorization. What the environment holds for other programs is not sent: an organisation, a project, headers or
credentials of theirs, and their proxies. Who wants a proxy or further headers says so in `LABKIT_TEACHER_PROXY` and
`LABKIT_TEACHER_HEADERS` (`Name: value`, one per line); this machine's own addresses are asked without a proxy.
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

from labkit.errors import BadRequest, first_line, unknown
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
ROOM, BYTES_PER_TOKEN, LARGEST = 1 << 18, 1 << 10, 1 << 26
WITHOUT_LIST = (404, 405, 501)  # statuses of an endpoint that lists no models
PASSING = (408, 409, 429)  # statuses after which another attempt may fare better, beside 500 and more


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
        complaint = ""
        try:
            self._place = place = _place()
            self.redact, self.identity = Redactor(place.secrets), place.identity
            guard_logs(self.redact)
            self._wire = Wire(place.headers, connections, place.proxy)
        except BadRequest as refusal:
            complaint = str(refusal)
        except Exception as error:
            named = PROXY if place.proxy else "SSL_CERT_FILE or SSL_CERT_DIR"
            complaint = f"{named} is of no use to the package httpx: {self.redact(first_line(error))}"
        if complaint:  # raised here, so that no traceback leads to frames that hold secrets
            raise BadRequest(complaint)
        self.host = f"{place.host} (through {PROXY})" if place.proxy else place.host
        self._address_hint = f"the address in {place.url_name} usually ends in /v1"

    def close(self) -> None:
        self._wire.close()

    def attempt(self, body: Mapping[str, Any], tokens: int) -> Reply | Trouble:
        """Send one chat request, for a reply of up to `tokens`; where its `counted` is False it has no token counts."""
        most = min(ROOM + BYTES_PER_TOKEN * tokens, LARGEST)
        url, content = f"{self.identity}/chat/completions", json.dumps(body).encode()
        answer = self._wire.exchange("POST", url, content, self._timeout, most)
        outcome = self._broken(answer, self._timeout) if isinstance(answer, Broken) else self._read(answer, most)
        if isinstance(outcome, Trouble) and outcome.what != "again" and not outcome.lost and not outcome.used:
            models = self._listed()  # the list tells better than a refusal that the model is not there
            return (None if isinstance(models, Trouble) else self._missing(models)) or outcome
        return outcome

    def models(self) -> list[str] | Trouble:
        """What the endpoint lists, with the model in it; empty where it has no list, or keeps it from this key."""
        models = self._listed()
        return models if isinstance(models, Trouble) else self._missing(models) or models

    def _listed(self) -> list[str] | Trouble:
        seconds = min(self._timeout, CHECK_TIMEOUT)
        answer = self._wire.exchange("GET", f"{self.identity}/models", None, seconds, LARGEST)
        if isinstance(answer, Broken):
            return self._broken(answer, seconds)._replace(lost=False)
        if not 200 <= answer.status < 300:
            return self._without_list(answer)
        names = replies.read_models(answer.body) if answer.whole else None
        if isinstance(names, list):
            return names
        if names:
            return self._refused(names, answer, names.status or 200)
        why = f"what answers at {self.host} is no OpenAI-compatible endpoint, since its /models is no list of models"
        return Trouble(f"{why}; {self._address_hint}", "endpoint")

    def _without_list(self, answer: Answer) -> list[str] | Trouble:
        """A list that is kept from us says nothing about chats, unless it is the key that is unknown."""
        fault, status = replies.read_error(answer.body), answer.status
        if status in WITHOUT_LIST:
            return []
        unknown_key = status == 401 and not re.search("scope|permission|privilege", fault.words, re.I)
        if unknown_key or status in (407, *PASSING) or not 400 <= status < 500:
            return self._refused(fault, answer, status)
        if not self._noted:
            said = f"{self.host} does not list its models ({status}){self._quoted(fault.words)}"
            logging.getLogger(__name__).warning("%s; it is asked all the same", said)
        self._noted = True
        return []

    def _missing(self, models: list[str]) -> Trouble | None:
        """The refusal of this client's model where the endpoint lists models, and not this one."""
        wanted = self._model
        # Some endpoints list `models/name` or `name:latest` and answer to the bare name as well.
        if not models or any(wanted in (name, name.split(":")[0], name.rsplit("/", 1)[-1]) for name in models):
            return None
        near = difflib.get_close_matches(wanted, models, n=LISTED, cutoff=0.0) if len(models) > LISTED else models
        return Trouble(self.redact(str(unknown(f"model at {self.host}", wanted, near))), "endpoint")

    def _read(self, answer: Answer, most: int) -> Reply | Trouble:
        if not 200 <= answer.status < 300:
            return self._refused(replies.read_error(answer.body), answer, answer.status)
        if not answer.whole:
            sentence = f"{self.host} answered with more than {most:,} bytes, too many for the tokens asked for"
            return Trouble(sentence, "request", lost=True)
        said = replies.read_reply(answer.body)
        if isinstance(said, replies.Said):
            model, finish = self._clean(said.model or self._model), self._clean(said.finish_reason)
            return Reply(self._clean(said.text), *said.usage or (0, 0), model, finish, counted=said.usage is not None)
        if said.kind == "error":
            return self._refused(said, answer, said.status or 200)
        # An answer that was charged, or is whole and no text, would be the same another time.
        words = {"empty": "no reply in it", "odd": f"{said.words}, which is no text"}.get(said.kind, said.words)
        charged = sum(said.usage or (0,))
        words += f", and charged {charged:,} tokens" if charged else ""
        final = charged > 0 or said.kind == "odd"
        sentence = self.redact(f"{self.host} answered with {words}")
        what: Literal["request", "again"] = "request" if final else "again"
        return Trouble(sentence, what, lost=not said.usage, down=not final, used=said.usage)

    def _clean(self, text: str) -> str:
        """Without secrets, and without halves of surrogate pairs, which no file can hold."""
        return self.redact(re.sub("[\ud800-\udfff]", "\ufffd", text))

    def _broken(self, broken: Broken, seconds: float) -> Trouble:
        place = self._place
        if broken.sent:
            late = f"gave no {'whole ' * broken.begun}answer in {seconds:g} s"
            said = late if broken.late else f"broke off its answer ({broken.why})"
            return Trouble(f"{self.host} {said}", "again", lost=True, down=True)
        why = self.redact(broken.why)
        sentence = f"no endpoint answers at {self.host} ({why}): start it, or correct {place.url_name}"
        if place.proxy and not broken.tls:
            sentence = f"the proxy in {PROXY} does not connect ({why})"
        elif not _is_local(place.host) and (ignored := [n for n in PROXIES if _set(n) or _set(n.lower())]):
            sentence += f"; {ignored[0]} is not used: a proxy for the teacher belongs into {PROXY}"
        return Trouble(sentence, "again", down=True)

    def _refused(self, fault: replies.Fault, answer: Answer, status: int) -> Trouble:
        """An error, by its status; 200 is one that says nothing but its words."""
        if 300 <= status < 400:
            return self._redirected(answer)
        host, key, has_key, quoted = self.host, self._place.key_name, bool(self._place.key), self._quoted(fault.words)
        what_to_do = "set it to one that it knows" if has_key else "it is not set"
        key_refused = f"{host} refuses the key in {key} ({status}): {what_to_do}"
        forbidden = f"{host} forbids the request with the key in {key} (403){quoted}"
        proxy = f"the proxy in {PROXY}" if self._place.proxy else f"a proxy before {host}"
        of_all: dict[int | str, str] = {  # what is said of every request, by status or code: the first that fits
            401: key_refused,
            403: forbidden if has_key else key_refused,
            407: f"{proxy} wants other credentials (407){quoted}",
            "insufficient_quota": f"the account of the key in {key} is used up, says {host} ({status}){quoted}",
            404: f"{host} has no /chat/completions for '{self._model}' (404){quoted}; {self._address_hint}",
        }
        for name, sentence in of_all.items():
            if name in (status, fault.code):
                return Trouble(sentence, "endpoint", used=fault.usage)
        if status in PASSING or status >= 500 or (status == 200 and fault.may_pass):
            sentence = f"{host} answered {status if status > 200 else 'with an error'}{quoted}"
            after = retry_after(answer.headers, time.time())
            return Trouble(sentence, "again", down=status >= 500, after=after, used=fault.usage)
        shown = f" ({status})" if status > 200 else ", in an answer without a status of its own"
        hint = "; set limit_name to 'max_completion_tokens'" if "max_completion_tokens" in fault.words else ""
        return Trouble(f"{host} refuses the request{shown}{quoted}{hint}", "request", used=fault.usage)

    def _redirected(self, answer: Answer) -> Trouble:
        """Not followed: whoever is named there would get the prompt, and its answer would pass for the endpoint's."""
        try:
            target = urlsplit(urljoin(self.identity, answer.headers.get("location", "")))
            where = self.redact(f"{target.scheme}://{target.netloc.rpartition('@')[2]}{target.path}")[:QUOTED]
        except ValueError:
            where = "what is no address"
        sentence = f"{self.host} sends requests on to {where} ({answer.status}), where they do not go by themselves"
        return Trouble(f"{sentence}: correct {self._place.url_name} if that is the endpoint", "endpoint")

    def _quoted(self, words: str) -> str:
        """A server's own words, as the end of a sentence of ours."""
        # Redacted before it is cut: half a key is no secret's form.
        said = self.redact(" ".join(words.split())).rstrip(".")
        return f": {said[:QUOTED]}" if said and not said.startswith("<") else ""


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """The seconds that a server asks to wait: in milliseconds, in seconds, or as a date; None where it does not say."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        value = headers.get(name, "").strip()
        if re.fullmatch(r"\d{1,9}(\.\d*)?", value):
            return float(value) / unit
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


def _place() -> _Place:
    """The endpoint that the environment names.

    Raises:
        BadRequest: says what is wrong with it; the frames of its traceback hold secrets.
    """
    url_name = next((name for name in URLS if _set(name)), None)
    if url_name is None:
        raise BadRequest(f"no teacher is named: set {URLS[0]}, such as {EXAMPLE}, and {KEYS[0]} where it wants a key")
    # A key of OpenAI is no business of an endpoint that was named for labkit alone.
    allowed = KEYS if url_name == URLS[1] else KEYS[:1]
    key_name = next((name for name in allowed if _set(name)), KEYS[0])
    key = _set(key_name)
    if not re.fullmatch(r"[\x21-\x7e]*", key):
        why = "holds a space or a character that is not ASCII, which no header can hold"
        raise BadRequest(f"the key in {key_name} {why}")
    try:
        parts = urlsplit(_set(url_name))
        address, port = parts.hostname, parts.port
    except ValueError:
        raise BadRequest(f"{url_name} is no address: it must look like {EXAMPLE}") from None
    if not address or parts.scheme not in ("http", "https") or parts.query or parts.fragment:
        wanted = f"it must look like {EXAMPLE}, with no ? and no #"
        raise BadRequest(f"{url_name} is no address of an endpoint: {wanted}")
    host = f"{parts.scheme}://" + (f"[{address}]" if ":" in address else address) + (f":{port}" if port else "")
    headers = _own_headers()
    secrets = [key, *headers.values()]
    headers = {"authorization": f"Bearer {key or 'none'}"} | headers
    if parts.username or parts.password:
        if key:
            why = f"holds a user, and {key_name} is set too: a request can carry only one of them"
            raise BadRequest(f"{url_name} {why}")
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        headers["authorization"] = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        secrets += [f"{user}:{password}", password, user]
    proxy = None if _is_local(host) else _set(PROXY) or None
    try:
        through = urlsplit(proxy or "")
    except ValueError:
        raise BadRequest(f"{PROXY} is no address: it must look like http://proxy:8080") from None
    secrets += [unquote(secret) for secret in (through.password, through.username) if secret]
    return _Place(host, host + parts.path.rstrip("/"), url_name, key_name, key, headers, secrets, proxy)


def _own_headers() -> dict[str, str]:
    """The further headers that a person wants."""
    lines = [line.strip() for line in _set(HEADERS).split("\n") if line.strip()]
    pairs = [re.fullmatch(r"([!#$%&'*+.^_`|~\w-]+):\s*([\x20-\x7e]+)", line, re.ASCII) for line in lines]
    if None in pairs:
        raise BadRequest(f"{HEADERS} holds a line that is no header: it must look like 'Name: value', in ASCII")
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
