"""A teacher by its name: the oracle of this process and the same one behind HTTP say the same, at the same price."""

from pathlib import Path
from typing import Any

import pytest

from labkit import BadRequest
from labkit.instructions import EVERY, draw
from labkit.teach import prompts, server
from labkit.teach.client import Client, Failure, Reply, Request, Settings
from labkit.teach.teacher import Counted, connect, offline

FAMILIES = ("rewriting", "arithmetic", "functions")
TASKS = [draw(EVERY[name], 1, levels=[1], seed=seed)[0] for seed, name in enumerate(FAMILIES)]


def chats(task: Any) -> list[list[prompts.Message]]:
    """Every kind of request about one task."""
    one, kind = task.example, EVERY[task.example.source].task_type
    question = f"{one.instruction}\n{one.input}"
    return [
        prompts.answer(question),
        prompts.score(question, one.output),
        prompts.score(question, one.output[:-1]),
        prompts.classify(question, {kind: "this", "other": "that"}),
        prompts.refine(question, one.output[1:], kind),
        prompts.expand([(one.instruction, one.input, one.output)], kind, 2, kind),
        prompts.answer("write a poem about the sea"),
    ]


REQUESTS = [
    *(Request(chat) for task in TASKS for chat in chats(task)),
    Request(chats(TASKS[1])[5], sample=3),
    Request(chats(TASKS[1])[4], max_tokens=2),
    Request(chats(TASKS[0])[1], stop=("[[",)),
    Request(chats(TASKS[0])[0], stop=("a", "b", "c", "d", "e")),  # one too many: refused
    Request([{"role": "system", "content": ""}, {"role": "user", "content": "\u00e4\u4e2d\n\n"}]),
    Request(chats(TASKS[0])[0]),  # again
]


@pytest.mark.parametrize("model", ["oracle", "oracle:noise=1.5,wrong=0.3,mumbles=0.2"])
def test_the_oracle_of_this_process_and_the_endpoint_answer_alike(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(model=model, max_tokens=300, seed=5)
    with connect(settings, tmp_path / "here" / "replies.sqlite") as client:  # no endpoint is named
        here, counted_here = client.ask_many(REQUESTS), Counted(client)
        counted_here.ask_many(REQUESTS)
        spent, models = client.spent(), client.check()
    with server.running(models=(model,)) as url:
        monkeypatch.setenv("LABKIT_TEACHER_URL", url)
        monkeypatch.setenv("LABKIT_TEACHER_KEY", "any")
        with Client(settings, tmp_path / "there.sqlite") as client:
            there, counted_there = client.ask_many(REQUESTS), Counted(client)
            counted_there.ask_many(REQUESTS)
            assert (client.spent(), client.check()) == (spent, models)
    assert counted_here.counts == counted_there.counts
    for one, other in zip(here, there, strict=True):
        if isinstance(other, Reply):
            assert one == other
        else:
            assert isinstance(one, Failure)
            assert (one.refused, one.attempts) == (other.refused, other.attempts)
            assert one.sentence.endswith("'stop' is a text, or a list of up to four")
    assert sum(isinstance(one, Failure) for one in here) == 1


def test_replies_of_this_process_are_kept_and_its_budget_is_one(tmp_path: Path) -> None:
    file = tmp_path / "replies.sqlite"
    with connect(Settings(model="oracle"), file) as client:
        (reply,) = client.ask_many(REQUESTS[:1])
    with connect(Settings(model="oracle", token_budget=0), file) as client:
        (again,) = client.ask_many(REQUESTS[:1])
        assert isinstance(reply, Reply)
        assert again == reply._replace(cached=True)
        with pytest.raises(BadRequest, match="budget"):
            client.ask_many(REQUESTS[1:2])


def test_only_the_oracle_is_asked_here(tmp_path: Path) -> None:
    assert [offline(name) for name in ("oracle", "oracle:noise=1", "gpt-4o-mini")] == [True, True, False]
    with pytest.raises(BadRequest, match="nose"):
        connect(Settings(model="oracle:nose=1"), tmp_path / "a.sqlite")
    with pytest.raises(BadRequest, match="LABKIT_TEACHER_URL"):
        connect(Settings(model="gpt-4o-mini"), tmp_path / "b.sqlite")
