"""The oracle's server: the protocol over real sockets, by OpenAI's own client and by hand; starting and stopping."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import openai
import pytest
import uvicorn

from labkit.errors import BadRequest
from labkit.instructions.families import EVERY
from labkit.instructions.family import draw
from labkit.teach import completions, prompts, server
from labkit.teach.client import Client, Reply, Request, Settings
from labkit.teach.oracle import Flaws, reply

QUESTION = 'replace the first "b" by "xz"\nbcdb'
CHAT = prompts.answer(QUESTION)
BODY = {"model": "oracle", "messages": CHAT}
EXPAND = prompts.expand([(*QUESTION.split("\n"), "xzcdb")], "editing", 5)  # type: ignore[list-item]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with server.running() as url:
        yield url


def client(url: str, key: str = "any") -> openai.OpenAI:
    return openai.OpenAI(
        base_url=url, api_key=key, max_retries=0, http_client=openai.DefaultHttpxClient(trust_env=False)
    )


def say(client: openai.OpenAI, **fields: Any) -> Any:
    return client.chat.completions.create(**{"model": "oracle", "messages": CHAT, **fields})


class Answer(NamedTuple):
    status: int
    content: Any
    text: str


def send(
    url: str, body: Any = None, *, path: str = "/chat/completions", method: str = "POST", key: str | None = "Bearer any"
) -> Answer:
    """A request by hand, its body bytes as they are or anything else as JSON."""
    address = httpx.URL(url)
    with closing(http.client.HTTPConnection(address.host, address.port or 0, timeout=20)) as connection:
        sent = body if isinstance(body, bytes) else json.dumps(body)
        connection.request(method, address.path + path, sent, {} if key is None else {"Authorization": key})
        response = connection.getresponse()
        text = response.read().decode()
        return Answer(response.status, json.loads(text), text)


# OpenAI's client


def test_openais_client_gets_the_oracles_answer(url: str) -> None:
    found = say(client(url))
    assert found.choices[0].message.content == "xzcdb" == reply(CHAT)
    assert (found.choices[0].finish_reason, found.model, found.object) == ("stop", "oracle", "chat.completion")
    assert found.usage.completion_tokens == 1
    assert found.usage.total_tokens == found.usage.prompt_tokens + 1 > 10


@pytest.mark.parametrize("messages", [CHAT, EXPAND])
def test_a_stream_says_the_same_in_pieces(url: str, messages: Any) -> None:
    whole = say(client(url), messages=messages, n=2)
    pieces = list(say(client(url), messages=messages, n=2, stream=True, stream_options={"include_usage": True}))
    for index, choice in enumerate(whole.choices):
        own = [chunk.choices[0] for chunk in pieces if chunk.choices and chunk.choices[0].index == index]
        assert "".join(one.delta.content or "" for one in own) == choice.message.content
        assert own[0].delta.role == "assistant"
        assert [one.finish_reason for one in own if one.finish_reason] == [choice.finish_reason]
    assert pieces[-1].usage == whole.usage
    assert not pieces[-1].choices
    assert {chunk.id for chunk in pieces} == {pieces[0].id}


def test_a_stream_without_being_asked_holds_no_usage(url: str) -> None:
    assert all(chunk.usage is None and chunk.choices for chunk in say(client(url), stream=True))


def test_max_tokens_cut_and_say_so(url: str) -> None:
    long = say(client(url), messages=EXPAND).choices[0].message.content
    for name in ("max_tokens", "max_completion_tokens"):
        cut = say(client(url), messages=EXPAND, **{name: 7})
        assert cut.choices[0].finish_reason == "length"
        assert cut.usage.completion_tokens == 7
        assert long.startswith(cut.choices[0].message.content)
    exact = say(client(url), messages=EXPAND).usage.completion_tokens
    assert say(client(url), messages=EXPAND, max_tokens=exact).choices[0].finish_reason == "stop"
    chunks = list(say(client(url), messages=EXPAND, max_tokens=7, stream=True))
    assert chunks[-1].choices[0].finish_reason == "length"


def test_seeds_and_choices_draw_others_and_repeat(url: str) -> None:
    def text(**fields: Any) -> list[str]:
        return [choice.message.content for choice in say(client(url), messages=EXPAND, **fields).choices]

    assert text(n=3, seed=5) == [text(seed=seed)[0] for seed in (5, 6, 7)]
    assert len(set(text(n=3, seed=5))) == 3
    assert text() == text(seed=0)


def test_stop_ends_before_its_text(url: str) -> None:
    assert say(client(url), stop="cd").choices[0].message.content == "xz"
    assert say(client(url), stop=["d", "z", "q"]).choices[0].message.content == "x"


def test_imperfect_models_need_no_registration(url: str) -> None:
    judged = prompts.score(QUESTION, "xzcdb")
    assert prompts.read_score(say(client(url), messages=judged).choices[0].message.content) == 10
    model = "oracle:mumbles=1"
    found = say(client(url), messages=judged, model=model)
    assert found.model == model
    assert found.choices[0].message.content == reply(judged, flaws=Flaws(mumbles=1))
    assert client(url).models.retrieve(model).id == model


def test_models_are_listed() -> None:
    models = ["oracle", "oracle:noise=1.5"]
    with server.running(models=models) as url:
        assert [model.id for model in client(url).models.list()] == models
        assert client(url).models.retrieve("oracle").owned_by == "labkit"


def test_content_in_parts_and_developers_are_read(url: str) -> None:
    parts = [{"type": "text", "text": QUESTION[:9]}, {"type": "text", "text": QUESTION[9:]}]
    chat = [{"role": "developer", "content": "You are kind."}, {"role": "user", "content": parts}]
    assert say(client(url), messages=chat).choices[0].message.content == "xzcdb"


def test_errors_are_raised_as_openai_raises_them(url: str) -> None:
    with pytest.raises(openai.NotFoundError, match="listed: oracle") as missing:
        say(client(url), model="gpt-4o")
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        client(url).models.retrieve("oracle:noise=lots")
    with pytest.raises(openai.BadRequestError, match="max_tokens"):
        say(client(url), max_tokens=0)
    with pytest.raises(openai.BadRequestError, match="tools"):
        say(client(url), tools=[{"type": "function", "function": {"name": "f"}}])
    with server.running(key="open sesame") as closed:
        with pytest.raises(openai.AuthenticationError, match="wrong"):
            say(client(closed, "open barley"))
        with pytest.raises(openai.AuthenticationError):
            client(closed, "open barley").models.list()
        assert say(client(closed, "open sesame")).choices[0].message.content == "xzcdb"


def test_the_projects_client_asks_teacher_and_judge(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(server.URL, url)
    monkeypatch.setenv(server.KEY, "any")
    tasks = [task for name in ("sorting", "arithmetic", "functions") for task in draw(EVERY[name], 9)]
    questions = [f"{task.example.instruction}\n{task.example.input}" for task in tasks]
    with Client(Settings(model="oracle"), tmp_path / "cache.sqlite") as asker:
        assert asker.check() == ["oracle"]
        answers = asker.ask_many([Request(tuple(prompts.answer(question))) for question in questions])
        texts = [answer.text for answer in answers if isinstance(answer, Reply)]
        assert texts == [task.example.output for task in tasks]
        judged = [Request(tuple(prompts.score(*pair))) for pair in zip(questions, texts, strict=True)]
        ratings = [prompts.read_score(one.text) for one in asker.ask_many(judged) if isinstance(one, Reply)]
        assert ratings == [10] * len(tasks)
        assert asker.spent().replies == 2 * len(tasks)


# By hand


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": ["hello"]}, "messages[0]"),
        ({"messages": [{"role": "king", "content": "hello"}]}, "messages[0]"),
        ({"messages": [{"role": ["user"], "content": "hello"}]}, "messages[0]"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages[0]"),
        ({"messages": [{"role": "user"}]}, "messages[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0]"),
        ({"model": None}, "model"),
        ({"model": 7}, "model"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"max_completion_tokens": 0}, "max_completion_tokens"),
        ({"max_tokens": 5, "max_completion_tokens": 5}, "max_tokens"),
        ({"n": 0}, "n"),
        ({"n": 129}, "n"),
        ({"n": "2"}, "n"),
        ({"seed": "a"}, "seed"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stop": [1]}, "stop"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"stop": ""}, "stop"),
        ({"temperature": 3}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": -1}, "top_p"),
        ({"logprobs": True}, "logprobs"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_bad_fields_are_named(url: str, fields: dict[str, Any], param: str) -> None:
    answer = send(url, BODY | fields)
    assert answer.status == 400
    error = answer.content["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    assert error["param"].startswith(param)
    assert "Traceback" not in answer.text


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[1]", b'"text"', b"null", b"\xff\xfe\x00", b"[" * 100_000, b'{"a":' + b"9" * 5000 + b"}"]
)
def test_what_is_not_a_json_object_is_refused(url: str, body: bytes) -> None:
    answer = send(url, body)
    assert answer.status == 400
    assert "JSON" in answer.content["error"]["message"]


@pytest.mark.parametrize("key", [None, "", "Bearer", "Bearer  ", "Basic any", "any"])
def test_without_a_key_nothing_is_answered(url: str, key: str | None) -> None:
    for path, method in (("/chat/completions", "POST"), ("/models", "GET"), ("/models/oracle", "GET")):
        answer = send(url, BODY, path=path, method=method, key=key)
        assert answer.status == 401
        assert answer.content["error"]["code"] == "invalid_api_key"


def test_other_methods_and_addresses(url: str) -> None:
    assert send(url, path="/chat/completions", method="GET").status == 405
    assert send(url, BODY, path="/models").status == 405
    for path in ("/completions", "/../etc/passwd", "/%00", "/chat"):
        assert send(url, BODY, path=path).status == 404
        assert set(send(url, BODY, path=path).content) == {"error"}


def test_a_request_too_large_is_refused_and_the_next_one_answered(url: str) -> None:
    message = {"role": "user", "content": "x" * server.LARGEST}
    with pytest.raises(openai.APIStatusError, match="at most") as refused:
        say(client(url), messages=[message])
    assert refused.value.status_code == 413
    with httpx.Client(trust_env=False) as http_client:  # in chunks, of which nobody says how many
        headers = {"Authorization": "Bearer any"}
        chunks = (b" " * 2**16 for _ in range(40))
        with suppress(httpx.TransportError):  # the refusal may come while the rest is still being sent
            sent = http_client.post(f"{url}/chat/completions", content=chunks, headers=headers)
            assert sent.status_code == 413
        assert http_client.post(f"{url}/chat/completions", json=BODY, headers=headers).status_code == 200


def test_fields_of_null_and_fields_without_effect_are_passed_over(url: str) -> None:
    fields = {"temperature": 0.7, "top_p": 1, "user": "me", "logprobs": False, "tools": None, "n": None, "stop": None}
    fields |= {"response_format": {"type": "text"}, "metadata": {"a": "b"}, "max_tokens": None}
    assert send(url, BODY | fields).content["choices"][0]["message"]["content"] == "xzcdb"


@pytest.mark.parametrize("text", ["\ud800", "\x00", "🙂" * 50, "[The start of answer]\n" * 20, "a\u2028b", "'; DROP"])
def test_any_text_is_quoted_safely(url: str, text: str) -> None:
    for messages in (prompts.answer(text), prompts.refine(text, text, "code"), prompts.score(QUESTION, text, text)):
        answer = send(url, {"model": "oracle:noise=1,wrong=0.5", "messages": messages})
        assert answer.status == 200
        assert answer.content["choices"][0]["message"]["content"] == reply(messages, flaws=Flaws(noise=1, wrong=0.5))


def test_a_failure_inside_shows_nothing_of_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> str:
        raise RuntimeError("a secret of the house")

    monkeypatch.setattr(completions, "reply", fail)
    with server.running() as url:
        answer = send(url, BODY)
        assert answer.status == 500
        assert answer.content["error"]["type"] == "server_error"
        assert "secret" not in answer.text
        assert "Traceback" not in answer.text
        with pytest.raises(openai.InternalServerError):
            say(client(url))


def test_many_clients_at_once_get_their_own_answers(url: str) -> None:
    def ask(number: int) -> bool:
        text = "b" * (1 + number % 7) + "c"
        messages = prompts.answer(f"{QUESTION.splitlines()[0]}\n{text}")
        return bool(say(shared, messages=messages).choices[0].message.content == "xz" + text[1:])

    with client(url) as shared, ThreadPoolExecutor(16) as pool:
        assert all(pool.map(ask, range(300)))


def test_a_client_that_hangs_up_disturbs_nobody(url: str) -> None:
    address = httpx.URL(url)
    for text in (b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\n", b"\r\n\r\n", b"\x16\x03"):
        with socket.create_connection((address.host, address.port or 0)) as rude:
            rude.sendall(text + b"Authorization: Bearer any\r\n\r\n{")
    assert send(url, BODY).status == 200


# Starting and stopping


def test_models_that_there_are_not_are_refused_before_anything_starts() -> None:
    with pytest.raises(BadRequest, match="unknown model 'gpt-4o'"), server.running(models=["gpt-4o"]):
        pass
    with pytest.raises(BadRequest, match="did you mean 'noise'"):
        server.serve(0, models=["oracle:nois=1"])


def test_replies_are_sent_without_delay() -> None:
    with server._listener(0) as listener:
        assert listener.proto == socket.IPPROTO_TCP  # what asyncio goes by


def test_a_server_lasts_as_long_as_its_block() -> None:
    urls = []
    with suppress(KeyboardInterrupt), server.running() as url:
        urls.append(url)
        assert send(url, BODY).status == 200
        raise KeyboardInterrupt
    (url,) = urls
    with pytest.raises(ConnectionRefusedError):
        send(url, BODY)


def test_a_server_that_does_not_start_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uvicorn.Server, "run", lambda self, sockets: None)
    with pytest.raises(RuntimeError, match="did not start"), server.running():
        pass


def test_the_environments_key_is_not_the_study_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(server.KEY, "of the hosted model")
    with server.running() as url:
        assert send(url, BODY, key="Bearer something").status == 200


def python(code: str, **environment: str) -> subprocess.Popen[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LABKIT")} | environment
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)


def until_refused(url: str) -> None:
    """Wait until nobody listens any more."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            send(url, BODY)
        except OSError:
            return
        time.sleep(0.05)
    raise AssertionError(f"{url} still answers")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_server_ends_with_its_parent(number: int) -> None:
    code = (
        "import time\nfrom labkit.teach.server import running\n"
        "with running() as url:\n    print(url, flush=True)\n    time.sleep(60)"
    )
    with python(code) as parent:
        assert parent.stdout is not None
        url = parent.stdout.readline().strip()
        assert send(url, BODY).status == 200
        parent.send_signal(number)
        parent.wait(20)
        until_refused(url)


def test_a_fork_that_leaves_the_block_leaves_the_server() -> None:
    code = (
        "import os, sys\nfrom labkit.teach.server import running\n"
        "with running() as url:\n    child = os.fork()\n    if child:\n        os.waitpid(child, 0)\n"
        "        print(url, flush=True)\n        sys.stdin.read()\n"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LABKIT")}
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdin is not None
        url = parent.stdout.readline().strip()
        assert send(url, BODY).status == 200
        parent.stdin.close()
        assert parent.wait(20) == 0
        until_refused(url)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("key", ["", "open sesame"])
def test_serve_says_what_to_export_and_stops_cleanly(number: int, key: str) -> None:
    code = "from labkit.teach.server import serve\nserve(0)\nprint('stopped')"
    with python(code, LABKIT_TEACHER_KEY=key) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline().strip() for _ in range(3)]
        url = lines[1].removeprefix("export LABKIT_TEACHER_URL=")
        assert url in lines[0]
        assert url.endswith("/v1")
        assert lines[2].startswith("export LABKIT_TEACHER_KEY=")
        assert "sesame" not in "".join(lines)
        assert ("any text will do" in lines[2]) == (not key)
        assert send(url, BODY, key=f"Bearer {key or 'whatever'}").status == 200
        assert send(url, BODY, key="Bearer barley").status == (401 if key else 200)
        with httpx.Client(trust_env=False) as idle:  # a connection that is kept open holds nobody up
            idle.get(f"{url}/models", headers={"Authorization": f"Bearer {key or 'any'}"})
            process.send_signal(number)
            assert process.wait(20) == 0
        assert process.stdout.read() == "stopped\n"


def test_a_signal_right_after_the_first_line_is_not_lost() -> None:
    with python("from labkit.teach.server import serve\nserve(0)") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.terminate()
        assert process.wait(20) == 0


def test_a_port_in_use_is_refused_in_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BadRequest, match=f"cannot listen on port {port} of 127.0.0.1") as refused:
            server.serve(port)
    assert "\n" not in str(refused.value)
    for port in (-1, 65536):
        with pytest.raises(BadRequest, match="0 to 65535"):
            server.serve(port)


def test_the_offline_teacher_is_asked_without_the_proxies_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "LABKIT_TEACHER_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with server.running() as url:
        monkeypatch.setenv("LABKIT_TEACHER_URL", url)
        with Client(Settings("oracle", retries=0), tmp_path / "ledger") as teacher:
            assert teacher.ask(CHAT).text == "xzcdb"
