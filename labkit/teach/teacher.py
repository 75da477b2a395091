"""A teacher by its name: the oracle of this process, a model of this machine, or one of the endpoint that is named.

All are asked through one client, so that all have its cache, budget and counts. A teacher is tried out before it is
paid for, and what is asked of it is counted.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, model_serializer

from labkit.errors import BadRequest, unknown
from labkit.teach import language_model, prompts
from labkit.teach.client import Client, Failure, Reply, Request, Settings
from labkit.teach.completions import Oracle
from labkit.teach.language_model import local
from labkit.teach.oracle import MODEL, VERSION, flaws_of

DECISIVE = ("max_tokens", "temperature", "seed")  # the settings that decide a reply
CACHE = Path("teacher") / "replies.sqlite"  # in a store
TRIED = "How much is 2 + 3?"
KINDS = {"mathematics": "calculation", "writing": "stories and poems"}


def offline(name: str) -> bool:
    """Is a teacher of this name an oracle of this process?"""
    return name.partition(":")[0] == MODEL


class Teacher(BaseModel):
    """Whom a study's cell asks: the name, the settings that decide replies, and the oracle's version or the weights."""

    model_config = ConfigDict(frozen=True)

    name: str
    decisive: dict[str, Any]
    oracle: int
    weights: str = ""

    @model_serializer(mode="wrap")
    def _as_before(self, dump: Any) -> dict[str, Any]:
        """Cells whose teacher has no weights keep the addresses that they had before any had."""
        return {name: value for name, value in dump(self).items() if value or name != "weights"}

    @classmethod
    def named(cls, name: str, asking: Mapping[str, Any]) -> "Teacher":
        """The teacher of a name; of how it is asked only what decides replies is a part of it.

        Raises:
            BadRequest: for a model of this machine that is not there.
        """
        decisive = {setting: asking[setting] for setting in DECISIVE if setting in asking}
        oracle, weights = VERSION if offline(name) else 0, language_model.revision(name)
        return cls(name=name, decisive=decisive, oracle=oracle, weights=weights)

    def connect(self, asking: Mapping[str, Any], store: Path) -> Client:
        """A client whose replies are kept in a store's folder; `asking` says how else it asks."""
        return connect(Settings(model=self.name, **{**asking, **self.decisive}), store / CACHE)

    def check(self, asking: Mapping[str, Any], store: Path) -> None:
        """Try out a teacher at an endpoint before anything is spent; see `try_out`."""
        if not offline(self.name) and not self.weights:
            with self.connect(asking, store) as client:
                try_out(client)

    def notes(self, asking: Mapping[str, Any]) -> list[str]:
        """Who is asked, for people."""
        if offline(self.name):
            return [f"the teacher is the oracle '{self.name}', asked in this process; nothing leaves the machine"]
        if self.weights:
            return [f"the teacher is the model '{self.name}' of this machine; `labkit trust-teacher` measures it"]
        asked = f"'{self.name}' at the endpoint of LABKIT_TEACHER_URL is asked, and what it says is kept"
        budget = "no token_budget or cost_budget is set for the endpoint: asking = {'token_budget': N} sets one"
        return [asked] if {"token_budget", "cost_budget"} & set(asking) else [asked, budget]


def checked(name: str, asking: Mapping[str, Any]) -> Settings:
    """How a teacher is asked.

    Raises:
        BadRequest: for an unknown setting or a value that makes no sense, or an oracle that there is not.
    """
    if "model" in asking:
        raise BadRequest("the setting 'model' is not set like others: it is the teacher's name")
    if strange := [setting for setting in asking if setting not in Settings.model_fields]:
        raise unknown("setting of a teacher", strange[0], Settings.model_fields)
    if offline(name):
        flaws_of(name)
    return Settings(model=name, **asking)


def connect(settings: Settings, cache: Path) -> Client:
    """A client of the teacher that the settings name, whose replies are kept in a file.

    Raises:
        BadRequest: when the environment names no endpoint, or there is no such oracle.
    """
    cache.parent.mkdir(parents=True, exist_ok=True)
    return Client(settings, cache, at=Oracle(settings.model) if offline(settings.model) else local(settings.model))


def try_out(client: Client) -> None:
    """See that a teacher is there, and ask for one rating and one classification before more is paid for.

    Raises:
        BadRequest: no endpoint, a wrong key, a model that it does not have, no rating, or no kind.
    """
    client.check()
    rating = client.ask(prompts.score(TRIED, "5")).text
    if prompts.read_score(rating) is None:
        raise BadRequest(f"the teacher gives no rating in the form [[7]] when asked for one; it says: {rating[:200]!r}")
    kind = client.ask(prompts.classify(TRIED, KINDS)).text
    if prompts.read_kind(kind, list(KINDS)) is None:
        raise BadRequest(f"the teacher names no kind of task when asked for one; it says: {kind[:200]!r}")


class Counted:
    """A client that counts what is asked through it: each different request once, whoever paid for it."""

    def __init__(self, client: Client, before: Mapping[str, int] | None = None, keys: Sequence[str] = ()) -> None:
        self.client, self.counts, self.keys = client, Counter(before or {}), set(keys)

    def ask_many(self, requests: Sequence[Request], /) -> list[Reply | Failure]:
        outcomes = self.client.ask_many(requests)
        for request, outcome in zip(requests, outcomes, strict=True):
            key = self.client.key(request)[:16]
            if isinstance(outcome, Failure):
                self.counts["failures"] += 1
            elif key not in self.keys:
                self.keys.add(key)
                tokens = {"prompt_tokens": outcome.prompt_tokens, "completion_tokens": outcome.completion_tokens}
                self.counts.update(tokens, requests=1)
        return outcomes
