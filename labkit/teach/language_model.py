"""A language model of this machine as teacher, judge and classifier, in the place of an endpoint.

What is asked for in words (an answer, a better response, new pairs) is written greedily, all waiting requests together.
What is chosen is read off likelihoods, in one pass and always readable: of a rating the mean over 1 to 10, each weighed
by its probability (as in Liu et al. 2023, arXiv 2303.16634); the likeliest verdict; the kind of task whose name is
likeliest per token. System message and question are one text to the model, whose template may know no system message.

Guaranteed: the name of the weights (`revision`) is part of what a reply is kept under; a request that does not fit into
the model's positions is refused, and no other with it.
Left open: replies are greedy: another sample, seed or temperature gets the same. In 16 bits a written one may depend
on the requests beside it; the first is kept. A small model may be talked into any rating by the text that it reads.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple

import numpy as np

from labkit.design.mixture import digest
from labkit.grade import choice
from labkit.instructions import Example
from labkit.teach import prompts
from labkit.teach.ledger import Reply
from labkit.teach.transport import Trouble

HUB = "hf:"  # what stands before an id of the hub; a plain name is a model of the endpoint
VERSION = 1  # raised when requests come to be put to a model in other words
GATHERED = 0.02  # seconds in which requests that are made together arrive
RATINGS = [f"[[{points}]]" for points in range(1, 11)]
VERDICTS = ["[[A]]", "[[B]]", "[[C]]"]


class _Waiting(NamedTuple):
    """A request, and where its outcome goes."""

    body: Mapping[str, Any]
    limit: int
    outcome: "Future[Reply | Trouble]"

    @property
    def question(self) -> Example:
        """All messages as one question."""
        text = "\n\n".join(message["content"] for message in self.body["messages"])
        return Example(text, "", "", "teacher", "teacher")


def is_local(name: str) -> bool:
    """Is a teacher of this name a model of this machine: embedded, a GGUF file, a folder, or `hf:` and an id?"""
    from labkit.learn import embedded

    return embedded.is_converted(name) or name.startswith(HUB) or Path(name).is_dir()


def local(name: str) -> "LanguageModel | None":
    """The model of a name; None where it means none of this machine."""
    return LanguageModel(name) if is_local(name) else None


@lru_cache(maxsize=8)
def revision(name: str) -> str:
    """What tells the weights behind a name from others, of the hub's the id; "" where it means no local model.

    Raises:
        BadRequest: for one that is not installed, no whole folder, or no causal language model.
    """
    from labkit.learn import embedded, qlora

    if not is_local(name):
        return ""
    qlora.load_config(name.removeprefix(HUB))
    if embedded.is_converted(name):
        return embedded.revision(name)
    return name.removeprefix(HUB) if name.startswith(HUB) else digest(Path(name))[:12]


@lru_cache(maxsize=1)
def _loaded(name: str) -> tuple[Any, Any]:
    from labkit.learn import qlora

    return qlora.load(name.removeprefix(HUB))


class LanguageModel:
    """A model in the place of an endpoint, as `labkit.teach.client.Client` asks one, from several threads.

    Raises:
        BadRequest: for a model that cannot be had.
    """

    def __init__(self, name: str) -> None:
        self.host, self.identity = f"the model '{name}' of this machine", f"model {name} {revision(name)} {VERSION}"
        self._name = name
        self._arrived: SimpleQueue[_Waiting] = SimpleQueue()
        self._turn = threading.Lock()

    def attempt(self, body: Mapping[str, Any], tokens: int) -> Reply | Trouble:
        """One reply; the first of the threads that ask at once settles what all of them ask."""
        one = _Waiting(body, tokens, Future())
        self._arrived.put(one)
        with self._turn:
            if not one.outcome.done():
                time.sleep(GATHERED)
                self._settle([self._arrived.get() for _ in range(self._arrived.qsize())])
        return one.outcome.result()

    def models(self) -> list[str] | Trouble:
        return [self._name]

    def redact(self, text: str) -> str:
        return text

    def close(self) -> None: ...

    def _settle(self, waiting: Sequence[_Waiting]) -> None:
        """Every request gets its reply, or the error that kept it from one."""
        try:
            model, tokenizer = _loaded(self._name)
            sizes = self._sizes(tokenizer, waiting)
            room = getattr(model.config, "max_position_embeddings", None) or max(sizes, default=0)
            fitting = []
            for one, size in zip(waiting, sizes, strict=True):
                if size > room:
                    why = f"{self.host} has {room} positions, and the request with its reply takes {size}"
                    one.outcome.set_result(Trouble(why, "request"))
                else:
                    fitting.append((one, size - one.limit))
            for way, group in groupby(sorted(fitting, key=lambda pair: _kind(pair[0])), lambda pair: _kind(pair[0])):
                self._answer(_WAYS.get(way, _written), list(group))
        except BaseException as error:
            for one in waiting:
                if not one.outcome.done():
                    one.outcome.set_exception(error)

    def _sizes(self, tokenizer: Any, waiting: Sequence[_Waiting]) -> list[int]:
        """Tokens of each request with the longest reply that it allows."""
        from labkit.learn import chat

        rows = chat.prompt_tokens(tokenizer, [one.question for one in waiting])
        return [len(row) + one.limit for row, one in zip(rows, waiting, strict=True)]

    def _answer(self, way: Callable[..., list[tuple[str, bool]]], group: Sequence[tuple[_Waiting, int]]) -> None:
        model, tokenizer = _loaded(self._name)
        texts = way(model, tokenizer, [one for one, _ in group])
        for (one, asked), (text, cut) in zip(group, texts, strict=True):
            for stop in one.body.get("stop", ()):
                text = text.partition(stop)[0]
            size = len(tokenizer(text, add_special_tokens=False)["input_ids"])
            one.outcome.set_result(Reply(text, asked, size, self._name, "length" if cut else "stop"))


def _kind(one: _Waiting) -> str:
    return prompts.kind_of(one.body["messages"]) or "answer"


def _written(model: Any, tokenizer: Any, group: Sequence[_Waiting]) -> list[tuple[str, bool]]:
    """Greedy replies, each up to its own limit; whether they were cut there."""
    from labkit.learn import decoding

    limit = max(one.limit for one in group)
    texts = decoding.answer(
        model, tokenizer, [one.question for one in group], max_new_tokens=limit, batch_size=len(group)
    )
    found = []
    for one, text in zip(group, texts, strict=True):
        tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
        found.append((tokenizer.decode(tokens[: one.limit]) if len(tokens) > one.limit else text,
                      len(tokens) >= one.limit))  # fmt: skip
    return found


def _likelihoods(model: Any, tokenizer: Any, group: Sequence[_Waiting], options: Sequence[Sequence[str]]) -> Any:
    from labkit.learn import scoring

    return scoring.score(model, tokenizer, [one.question for one in group], options)


def _rated(model: Any, tokenizer: Any, group: Sequence[_Waiting]) -> list[tuple[str, bool]]:
    """The mean rating, to a tenth of a point."""
    total = _likelihoods(model, tokenizer, group, [RATINGS] * len(group)).total
    shares = np.exp(total - total.max(axis=1, keepdims=True))
    means = shares @ np.arange(1, 11) / shares.sum(axis=1)
    return [(f"[[{mean:.1f}]]", False) for mean in means.tolist()]


def _decided(model: Any, tokenizer: Any, group: Sequence[_Waiting]) -> list[tuple[str, bool]]:
    """The likeliest verdict; a tie where two are."""
    best = choice.pick(_likelihoods(model, tokenizer, group, [VERDICTS] * len(group)).total)
    return [(VERDICTS[place], False) for place in best.tolist()]


def _sorted(model: Any, tokenizer: Any, group: Sequence[_Waiting]) -> list[tuple[str, bool]]:
    """The kind whose name is likeliest per token; nothing where two are."""
    asked = [prompts.sections(one.body["messages"][-1]["content"])["kinds"] for one in group]
    kinds = [[line[2:].split(": ", 1)[0] for line in text.split("\n") if line.startswith("- ")] for text in asked]
    best = choice.pick(*_likelihoods(model, tokenizer, group, kinds)).tolist()
    return [(names[place] if place >= 0 else "", False) for names, place in zip(kinds, best, strict=True)]


_WAYS: dict[str, Callable[..., list[tuple[str, bool]]]] = {"score": _rated, "compare": _decided, "classify": _sorted}
