"""A teacher or judge behind any OpenAI-compatible endpoint: asked once, answered for good.

The address and the key come from the environment and from nowhere else: `LABKIT_TEACHER_URL` and `LABKIT_TEACHER_KEY`,
or `OPENAI_BASE_URL` and `OPENAI_API_KEY` (whose key is not sent to the address of `LABKIT_TEACHER_URL`).

Guaranteed
- A reply is paid for once: it is kept in one SQLite file (`ledger.py`) under a hash of all that decides it, so that a
  rerun costs nothing, whatever ended the run before. The budget of that file stops before it is exceeded.
- What may pass is tried again, with exponential backoff and full jitter, or after the server's Retry-After: timeouts,
  broken connections, 408, 409, 429, 5xx, errors that speak of load, and answers that are no whole reply. What will not
  pass is one sentence, and so is an answer that was charged and holds no reply.
- A call ends within `timeout` whatever the server does, and an answer is read up to a size that suits its tokens.
- What the server says it charged is booked, up to what can have been used; an error is booked as nothing.
- An endpoint that is gone stops the run in seconds (`patience`); the replies so far are kept.
- The key appears in no message, log, repr, traceback or file (`redaction.py`).

Limits: threads, so a client is made in the process that uses it. The rate limit is of one client. No stream is asked
for; one that comes is read to its end. A reply's text holds what the model wrote, marks of reasoning included (see
`prompts.without_reasoning`). A reply is the cached one even where the model behind a name has changed: name another
file to ask anew.
"""

import hashlib
import json
import os
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from labkit.errors import BadRequest
from labkit.teach.completions import Oracle
from labkit.teach.language_model import LanguageModel
from labkit.teach.ledger import Bound, Budget, Claim, Ledger, Prices, Reply, Spent
from labkit.teach.ledger import BudgetSpent as BudgetSpent
from labkit.teach.pace import REFUSALS, Health, Pace
from labkit.teach.prompts import Message
from labkit.teach.transport import Transport, Trouble

# What a chat template may add in tokens: around a message, and of its own accord (dates, a default system prompt).
TOKENS_PER_MESSAGE, TOKENS_PER_REQUEST = 16, 128
BELIEVED = 8  # times its bound: servers add prompts of their own, and reasoning may be charged beyond max_tokens
CHECKS = 3  # attempts to list the models
KEPT = "the run ends here, and what was answered is kept"
LONGEST_BACKOFF = 20.0  # seconds
LONGEST_WAIT = 300.0  # seconds that a server may ask us to wait

Endpoint = Transport | Oracle | LanguageModel
Wait = Callable[[threading.Event, float], object]


class EndpointGone(BadRequest):
    """The endpoint has stopped answering; everything answered so far is in the ledger."""


class TeacherFailed(RuntimeError):
    """One request went without a reply after every retry; `str(error)` is one sentence."""


@dataclass(frozen=True)
class Request:
    """One conversation to be answered. `max_tokens` and `temperature`: None means the client's; `sample` numbers the
    answers to one conversation, each with a seed of its own."""

    messages: Sequence[Message]
    max_tokens: int | None = None
    temperature: float | None = None
    stop: tuple[str, ...] = ()
    sample: int = 0


class Failure(NamedTuple):
    """Why a request has no reply, in one sentence. `refused`: the endpoint will not answer it, however often asked."""

    sentence: str
    attempts: int
    refused: bool = False


class Settings(BaseModel):
    """How a teacher is asked. Raises BadRequest for a value that makes no sense."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)

    model: str = Field(pattern=r"\S")
    # Seconds for a whole call, from its connection to the last byte of its answer.
    timeout: float = Field(60.0, gt=0, lt=1e6)
    retries: int = Field(6, ge=0)
    # Seconds before the first retry, at most; doubled for each further one.
    backoff: float = Field(0.5, ge=0, lt=1e6)
    concurrency: int = Field(8, ge=1, le=1024)
    requests_a_minute: float | None = Field(None, gt=0)
    max_tokens: int = Field(1024, ge=1)  # of a reply
    # Temperature and seed, None: the server's own. A whole number stays one: it is a part of a reply's key.
    temperature: int | float | None = Field(0.0, ge=0, le=100)
    seed: int | None = 0
    # Budgets of the ledger's file, for its lifetime; money in the currency of the prices.
    token_budget: int | None = Field(None, ge=0)
    cost_budget: float | None = Field(None, ge=0, lt=1e9)
    price_in: float = Field(0.0, ge=0, lt=1e9)  # per million input tokens
    price_out: float = Field(0.0, ge=0, lt=1e9)  # per million output tokens
    # Seconds without any answer after which a failing endpoint counts as gone.
    patience: float = Field(10.0, ge=0, lt=1e6)
    # OpenAI's reasoning models want "max_completion_tokens".
    limit_name: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"

    def __init__(self, model: str, **others: Any) -> None:
        try:
            super().__init__(model=model, **others)
        except ValidationError as invalid:
            first = invalid.errors()[0]
            what = f"the teacher's {first['loc'][0]} is {first['input']!r}"
            raise BadRequest(f"{what}: {first['msg'][0].lower()}{first['msg'][1:]}") from None
        if self.cost_budget is not None and not self.price_in and not self.price_out:
            raise BadRequest("a cost_budget needs price_in or price_out: without prices it would never be spent")


class Client:
    """Asks one model at the endpoint that the environment names; replies and budget live in the file `cache`.

    `at` takes the endpoint's place: the oracle of this process (`completions.Oracle`), or a model of this machine
    (`language_model.LanguageModel`). `clock`, `wait` and `random` are there for tests.

    Raises:
        BadRequest: when the environment names no endpoint, or the file is damaged or cannot be written.
    """

    def __init__(
        self, settings: Settings, cache: str | os.PathLike[str], *, at: Endpoint | None = None,
        clock: Callable[[], float] = time.monotonic, wait: Wait = threading.Event.wait,
        random: Callable[[], float] = random.random,
    ) -> None:  # fmt: skip
        self.settings = settings
        self._shown = f"Client({settings.model!r})"  # tracebacks may show a client that is not made yet
        self._transport: Endpoint = at or Transport(settings.model, settings.timeout, settings.concurrency)
        budget = Budget(settings.token_budget, settings.cost_budget)
        try:
            self._ledger = Ledger(cache, Prices(settings.price_in, settings.price_out), budget)
        except BaseException:
            self._transport.close()
            raise
        self._shown = self._transport.redact(f"Client({settings.model!r} at {self._transport.host}, {self._ledger})")
        self._wait, self._random = wait, random
        self._pace = Pace(settings.requests_a_minute, clock)
        self._health = Health(settings.concurrency, settings.patience, clock)

    def __repr__(self) -> str:
        return self._shown

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self._ledger.close()
        self._transport.close()

    def check(self) -> list[str]:
        """Ask the endpoint for its models, which costs nothing; returns them (empty where it lists none).

        Raises:
            BadRequest: no endpoint answers, it refuses the key, or it does not have the model.
        """
        attempt = 0
        while isinstance(models := self._transport.models(), Trouble):
            attempt += 1
            if attempt == CHECKS or models.what != "again" or (models.after or 0) > self.settings.timeout:
                raise BadRequest(models.sentence)
            self._wait(threading.Event(), self._delay(attempt - 1, models))
        return models

    def ask(self, messages: Sequence[Message] | str) -> Reply:
        """The reply to a conversation, or to one question.

        Raises:
            TeacherFailed: no reply after every retry.
            BadRequest: the endpoint refuses the request; BudgetSpent and EndpointGone are kinds of it.
        """
        request = Request([{"role": "user", "content": messages}] if isinstance(messages, str) else messages)
        key = self.key(request)
        outcome = self._ledger.find([key]).get(key) or self._answer(request, key, threading.Event())
        if isinstance(outcome, Reply):
            return outcome
        raise BadRequest(outcome.sentence) if outcome.refused else TeacherFailed(outcome.sentence)

    def ask_many(self, requests: Sequence[Request]) -> list[Reply | Failure]:
        """The replies to requests, in their order; equal requests are asked once.

        Ends early where the rest could not be answered either; what was answered by then is in the ledger. An interrupt
        returns at once, and what is in flight is still kept if it arrives before the client is closed.

        Raises:
            BudgetSpent, EndpointGone, BadRequest: as above.
        """
        keys = [self.key(request) for request in requests]
        asked = dict(zip(keys, requests, strict=True))
        outcomes: dict[str, Reply | Failure] = {**self._ledger.find(list(asked))}
        outcomes |= self._answers({key: asked[key] for key in asked if key not in outcomes})
        # An equal request has the same outcome, and cost nothing.
        again = {key: o._replace(cached=True) if isinstance(o, Reply) else o for key, o in outcomes.items()}
        return [outcomes.pop(key, again[key]) for key in keys]

    def key(self, request: Request) -> str:
        """The hash of all that decides a reply: endpoint, model, messages, sampling, seed and sample.

        Raises:
            BadRequest: for what no endpoint would answer, before anything is sent.
        """
        limit, sample = request.max_tokens, request.sample
        if not request.messages:
            raise BadRequest("a request has no messages: it needs at least one")
        if (limit or 1) < 1 or sample < 0:
            raise BadRequest(f"a request has max_tokens {limit} and sample {sample}: 1 and 0 are the least")
        try:
            "".join(message["content"] for message in request.messages).encode()
        except UnicodeEncodeError:
            raise BadRequest("a message holds half of a surrogate pair, which cannot be sent as UTF-8") from None
        canonical = json.dumps([self._transport.identity, self._body(request), request.sample], sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()

    def spent(self) -> Spent:
        """What the ledger's file has seen, of every process and model."""
        return self._ledger.spent()

    def _body(self, request: Request) -> dict[str, Any]:
        settings = self.settings
        temperature = settings.temperature if request.temperature is None else request.temperature
        limit = settings.max_tokens if request.max_tokens is None else request.max_tokens
        turns = [{"role": message["role"], "content": message["content"]} for message in request.messages]
        body: dict[str, Any] = {"model": settings.model, "messages": turns, settings.limit_name: limit}
        seed = None if settings.seed is None else settings.seed + request.sample
        optional = {"temperature": temperature, "seed": seed, "stop": list(request.stop) or None}
        return body | {name: value for name, value in optional.items() if value is not None}

    def _answers(self, todo: dict[str, Request]) -> dict[str, Reply | Failure]:
        """The outcomes; at the first error all threads stop, and it is raised when they have."""
        feed = iter(list(todo.items()))  # whose next item is taken by one thread alone
        outcomes, errors, over = dict[str, Reply | Failure](), list[Exception](), threading.Event()

        def work() -> None:
            try:
                while not over.is_set():
                    key, request = next(feed)
                    outcomes[key] = self._answer(request, key, over)
            except (StopIteration, _Over):
                return
            except Exception as error:
                errors.append(error)
                over.set()

        # Daemons: an interrupted notebook does not hang on requests in flight.
        threads = [threading.Thread(target=work, daemon=True) for _ in range(min(self.settings.concurrency, len(todo)))]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:  # after an error, too: what they still get is kept
                thread.join()
        finally:
            over.set()
        if errors:
            raise errors[0]
        return outcomes

    def _answer(self, request: Request, key: str, over: threading.Event) -> Reply | Failure:
        body = self._body(request)
        # A byte-level tokenizer makes at most one token of a byte.
        size = sum(len(message[part].encode()) for message in body["messages"] for part in ("role", "content"))
        size += TOKENS_PER_MESSAGE * len(body["messages"]) + TOKENS_PER_REQUEST
        bound = Bound(size, body[self.settings.limit_name])
        attempts = self.settings.retries + 1
        for attempt in range(1, attempts + 1):
            self._pause(self._pace.turn(), over)
            claim = self._claim(key, bound, over)
            if isinstance(claim, Reply):
                return claim
            outcome = self._attempt(body, claim)
            if isinstance(outcome, Reply):
                self._health.answered()
                return outcome
            if outcome.what == "request" and not self._health.refused():
                return Failure(outcome.sentence, attempt, refused=True)
            self._stop(outcome)
            last = outcome.sentence
            if attempt < attempts:
                self._pause(self._delay(attempt - 1, outcome), over)
        sentence = f"no reply after {attempts} attempts, at last since {last}"
        if self._health.refused():
            raise EndpointGone(f"{sentence}; so with {REFUSALS} requests in a row: {KEPT}")
        return Failure(sentence, attempts)

    def _stop(self, trouble: Trouble) -> None:
        """Raise where no further request would fare better."""
        if trouble.what == "endpoint":
            raise BadRequest(trouble.sentence)
        if trouble.what == "request":
            raise BadRequest(f"{trouble.sentence}; so with {REFUSALS} requests in a row")
        if (trouble.after or 0) > LONGEST_WAIT:
            raise EndpointGone(f"{trouble.sentence}, and asks to wait {trouble.after:,.0f} s: {KEPT}")
        if trouble.down and (silent := self._health.failed()) is not None:
            raise EndpointGone(f"{trouble.sentence}; there was no answer for {silent:.0f} s: {KEPT}")

    def _claim(self, key: str, bound: Bound, over: threading.Event) -> Reply | Claim:
        poll = 0.002
        while (claim := self._ledger.claim(key, bound, 2 * self.settings.timeout + 60)) is None:
            self._pause(poll, over)
            poll = min(2 * poll, 0.1)
        return claim

    def _attempt(self, body: dict[str, Any], claim: Claim) -> Reply | Trouble:
        try:
            outcome = self._transport.attempt(body, claim.bound.completion)
        except BaseException:  # an interrupt: what was sent may be charged
            self._ledger.release(claim, lost=True)
            raise
        if isinstance(outcome, Trouble):
            used = outcome.used and _believable(Bound(*outcome.used), claim.bound)
            self._ledger.release(claim, lost=outcome.lost, used=used)
            return outcome
        usage = Bound(outcome.prompt_tokens, outcome.completion_tokens)
        if not outcome.counted or _believable(usage, claim.bound) != usage:
            prompt, completion = claim.bound
            outcome = outcome._replace(prompt_tokens=prompt, completion_tokens=completion, counted=False)
        return self._ledger.book(claim, outcome)

    def _delay(self, attempt: int, trouble: Trouble) -> float:
        """Full jitter (aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter)."""
        longest = min(LONGEST_BACKOFF, self.settings.backoff * 2.0**attempt)
        return (trouble.after or 0.0) + self._random() * longest

    def _pause(self, seconds: float, over: threading.Event) -> None:
        if seconds > 0:
            self._wait(over, seconds)
        if over.is_set():
            raise _Over


class _Over(Exception):
    """The run has ended while this thread was waiting."""


def _believable(usage: Bound, bound: Bound) -> Bound:
    """What a server says it used, or the bound where it says far more than any tokenizer makes of the request."""
    return usage if all(used <= BELIEVED * most for used, most in zip(usage, bound, strict=True)) else bound
