"""An endpoint that misbehaves: each call ends in time, in bounds, in a sentence; nothing goes where it must not."""

import gzip
import json
import logging
import socket
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

pytest.importorskip("httpx", reason="the teacher needs labkit[teacher]")

from labkit.errors import BadRequest
from labkit.teach.client import Client, Settings, TeacherFailed
from labkit.teach.ledger import Reply
from labkit.teach.transport import Transport

SETTINGS = Settings("m", timeout=5.0, retries=0, backoff=0.0, patience=1e5)
USAGE = {"prompt_tokens": 5, "completion_tokens": 3}
SURROUNDINGS = {
    **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:9"),
    **dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "socks5://127.0.0.1:9"),
    **{
        name: f"ambient-{name}" for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID")
    },
    "OPENAI_CUSTOM_HEADERS": "X-Mine: ambient-header\nAuthorization: Bearer ambient-key",
}


class Server:
    """A socket whose every connection is handed to a function, once it has sent a whole request."""

    def __init__(self, answer: Callable[[socket.socket, str], None]) -> None:
        self.heads: list[str] = []
        self._answer, self._listener = answer, socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=self._serve, args=(self._listener.accept()[0],), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError), connection.makefile("rb") as sent:
            head = "".join(iter(lambda: sent.readline().decode(), "\r\n"))
            length = [line.split(":")[1] for line in head.lower().split("\r\n") if line.startswith("content-length")]
            sent.read(int((*length, "0")[0]))
            if head:
                self.heads.append(head)
                self._answer(connection, head)

    def stop(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@contextmanager
def serving(answer: Callable[[socket.socket, str], None] | bytes) -> Iterator[Server]:
    def send(connection: socket.socket, head: str) -> None:
        connection.sendall(answer)  # type: ignore[arg-type]

    server = Server(send if isinstance(answer, bytes) else answer)
    try:
        yield server
    finally:
        server.stop()


def http(body: object, status: str = "200 OK", **headers: str) -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items()]
    head = f"HTTP/1.1 {status}\r\ncontent-length: {len(data)}\r\nconnection: close\r\n{''.join(lines)}\r\n"
    return head.encode() + data


def chat(text: object = "five", **fields: object) -> dict[str, object]:
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return {"model": "m", "choices": [choice], "usage": USAGE, **fields}


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LABKIT_TEACHER_PROXY", "LABKIT_TEACHER_HEADERS", *SURROUNDINGS):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LABKIT_TEACHER_KEY", "sk-teacher-123")
    monkeypatch.delenv("NO_PROXY", raising=False)


@pytest.fixture
def at(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Client]:
    def client(server: Server | str, **settings: object) -> Client:
        url = server if isinstance(server, str) else f"http://127.0.0.1:{server.port}/v1"
        monkeypatch.setenv("LABKIT_TEACHER_URL", url)
        return Client(Settings(**{**SETTINGS.model_dump(), **settings}), tmp_path / "ledger")  # type: ignore[arg-type]

    return client


# In time


def _forever(first: bytes, then: bytes, pause: float = 0.01) -> Callable[[socket.socket, str], None]:
    def answer(connection: socket.socket, head: str) -> None:
        connection.sendall(first)
        for _ in range(10_000):
            connection.sendall(then)
            threading.Event().wait(pause)

    return answer


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
SLOW = {
    "white space": _forever(HEAD + b"\r\n", b" "),
    "a byte at a time": _forever(HEAD + b"content-length: 100000\r\n\r\n", b"{"),
    "chunks": _forever(HEAD + b"transfer-encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    "header lines": _forever(HEAD, b"x: y\r\n"),
    "half a header": _forever(b"HTTP/1.1 200 OK\r\nx: ", b"y"),
    "100 Continue": _forever(b"", b"HTTP/1.1 100 Continue\r\n\r\n", pause=0.001),
    "comments of a stream": _forever(HEAD + b"\r\n", b": wait\n\n"),
    "nothing": _forever(b"", b"", pause=0.1),
}


@pytest.mark.parametrize("how", SLOW)
def test_a_call_ends_by_its_deadline(how: str, at: Callable[..., Client]) -> None:
    with serving(SLOW[how]) as server, at(server, timeout=0.3) as teacher:
        with pytest.raises(TeacherFailed, match=r"gave no (whole )?answer in 0\.3 s$"):
            teacher.ask("a")
        assert len(server.heads) == 1
        assert teacher.spent().lost_tokens > 1024  # it may have answered
        if how == "white space":
            with pytest.raises(BadRequest, match=r"gave no whole answer in 0\.3 s$"):
                teacher.check()


# In bounds


def _bomb() -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    return b"".join(packer.compress(b" " * 2**20) for _ in range(64)) + packer.flush()


@pytest.mark.parametrize(
    "answer",
    [
        http(chat("x" * 500_000)),
        http(b" " * 500_000 + json.dumps(chat()).encode()),
        http(_bomb(), content_encoding="gzip"),
        _forever(HEAD + b"\r\n", b" " * 65536, pause=0.0),
        http(chat(), x="y" * 200_000),
    ],
    ids=["text", "white space", "gzip", "endless", "headers"],
)
def test_an_answer_beyond_measure_is_not_kept(
    answer: bytes | Callable[[socket.socket, str], None], at: Callable[..., Client], tmp_path: Path
) -> None:
    with serving(answer) as server, at(server, max_tokens=64, retries=3) as teacher:
        with pytest.raises(
            (BadRequest, TeacherFailed), match=r"more than 327,680 bytes, too many for the tokens|broke off"
        ) as caught:
            teacher.ask("a")
        assert len(server.heads) == 1 or "broke off" in str(caught.value)
        assert teacher.spent().replies == 0
        assert teacher.spent().lost_tokens > 64  # it may be charged
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 100_000


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress])
def test_a_long_or_compressed_reply_within_measure_is_read(
    pack: Callable[[bytes], bytes], at: Callable[..., Client]
) -> None:
    body = pack(json.dumps(chat("x" * 400_000)).encode())
    kind = "gzip" if pack is gzip.compress else "deflate"
    with serving(http(body, content_encoding=kind)) as server, at(server) as teacher:
        assert teacher.ask("a").text == "x" * 400_000


def test_an_error_beyond_measure_is_an_error(at: Callable[..., Client]) -> None:
    body = http(b"<html>" + b"x" * 3_000_000, "500 Oh")
    with serving(body) as server, at(server) as teacher, pytest.raises(TeacherFailed, match=r"answered 500$"):
        teacher.ask("a")


# Nowhere else


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
def test_redirects_are_not_followed(status: int, at: Callable[..., Client]) -> None:
    with serving(http(chat())) as elsewhere:
        place = f"http://me:secret@127.0.0.1:{elsewhere.port}/v2/x?key=hidden"
        with serving(http(b"", f"{status} Moved", location=place)) as server, at(server, retries=3) as teacher:
            where = rf"sends requests on to http://127.0.0.1:{elsewhere.port}/v2/x \({status}\)"
            for refused in (lambda: teacher.ask("a"), teacher.check):
                with pytest.raises(BadRequest, match=where) as caught:
                    refused()
                assert "secret" not in str(caught.value)
                assert "hidden" not in str(caught.value)
            assert teacher.spent().tokens == 0
        assert elsewhere.heads == []


@pytest.mark.parametrize(
    ("location", "where"), [("/v2/chat", "http://127.0.0.1:{}/v2/chat"), ("http://[", "what is no address")]
)
def test_a_redirect_is_named_as_far_as_it_goes(location: str, where: str, at: Callable[..., Client]) -> None:
    with serving(http(b"", "308 Moved", location=location)) as server, at(server) as teacher:
        with pytest.raises(BadRequest) as caught:
            teacher.ask("a")
        assert f"on to {where.format(server.port)} (308)" in str(caught.value)


def test_nothing_of_the_environment_is_sent(
    at: Callable[..., Client], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login ambient password ambient-password\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name, value in SURROUNDINGS.items():
        monkeypatch.setenv(name, value)
    with serving(http(chat())) as server, at(server) as teacher:
        assert teacher.ask("a").text == "five"
        names = {line.split(":")[0].lower() for line in server.heads[0].split("\r\n")[1:] if line}
        assert names == {
            *("host", "accept", "accept-encoding", "user-agent", "connection", "content-type", "content-length"),
            "authorization",
        }
        assert "authorization: bearer sk-teacher-123\r\n" in server.heads[0].lower()
        assert "ambient" not in server.heads[0]


def test_headers_are_sent_where_they_are_asked_for_and_hidden(
    at: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABKIT_TEACHER_HEADERS", "OpenAI-Organization: org-12345678\n\nX-Title: lab\n")
    with serving(lambda c, head: c.sendall(http({"error": head}, "400 No"))) as server, at(server) as teacher:
        with pytest.raises(BadRequest) as caught:
            teacher.ask("a")
        assert {"openai-organization: org-12345678", "x-title: lab"} <= set(server.heads[0].split("\r\n"))
        assert "org-12345678" not in str(caught.value)
    monkeypatch.setenv("LABKIT_TEACHER_HEADERS", "org-12345678")
    with pytest.raises(BadRequest, match=r"^LABKIT_TEACHER_HEADERS holds a line that is no header.*'Name: value'"):
        at("http://127.0.0.1:1/v1")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1.2.3", "[::1]", "a.localhost", "[::ffff:127.0.0.1]"])
def test_this_machine_is_asked_without_a_proxy(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_TEACHER_PROXY", "socks9://nonsense")
    monkeypatch.setenv("LABKIT_TEACHER_URL", f"http://{host}:9/v1")
    Transport("m", 1.0, 1).close()


@pytest.mark.parametrize("name", ["HTTP_PROXY", "https_proxy", "ALL_PROXY"])
def test_a_proxy_that_is_not_used_is_named(
    name: str, at: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "http://127.0.0.1:9")
    hint = rf"{name.upper()} is not used: .* belongs into LABKIT_TEACHER_PROXY$"
    with at("http://192.0.2.1:9/v1", timeout=0.1) as teacher:
        with pytest.raises(TeacherFailed, match=hint):
            teacher.ask("a")
        assert teacher.spent().tokens == 0


def test_a_proxy_is_used_where_it_is_asked_for(at: Callable[..., Client], monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(http(chat())) as proxy:
        monkeypatch.setenv("LABKIT_TEACHER_PROXY", f"http://me:pass-word-1@127.0.0.1:{proxy.port}")
        with at("http://192.0.2.1/v1") as teacher:
            assert teacher.ask("a").text == "five"
            assert teacher._transport.redact("pass-word-1") == "***"
        assert proxy.heads[0].startswith("POST http://192.0.2.1/v1/chat/completions HTTP/1.1\r\n")


@pytest.mark.parametrize("answer", [b"", http(b"", "407 Pay"), http(b"", "502 Gone")])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_at_fault_is_the_one_that_is_named(
    answer: bytes, scheme: str, at: Callable[..., Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(answer) as proxy:
        if not answer:
            proxy.stop()  # its port is free again
        monkeypatch.setenv("LABKIT_TEACHER_PROXY", f"http://127.0.0.1:{proxy.port}")
        with at(f"{scheme}://192.0.2.1/v1") as teacher:
            with pytest.raises((TeacherFailed, BadRequest)) as caught:
                teacher.ask("a")
            assert "LABKIT_TEACHER_PROXY" in str(caught.value)
            assert "LABKIT_TEACHER_URL" not in str(caught.value)
            assert teacher.spent().tokens == 0


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:9", "gopher://127.0.0.1:9", "127.0.0.1:9", "http://["])
def test_a_proxy_of_no_use_is_named(proxy: str, at: Callable[..., Client], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABKIT_TEACHER_PROXY", proxy)
    with pytest.raises(BadRequest, match=r"^LABKIT_TEACHER_PROXY is "):
        at("http://192.0.2.1/v1")


# What is charged is booked, and nothing else


@pytest.mark.parametrize(
    ("body", "requests", "sentence"),
    [
        ({"error": {"message": "too long a prompt", "code": 400}}, 1, "refuses the request (400): too long a prompt"),
        ({"error": "no such thing"}, 1, "refuses the request, in an answer without a status of its own: no such"),
        ({"error": {"message": "Slow down", "code": "429"}}, 3, "answered 429: Slow down"),
        ({"error": {"message": "m is overloaded", "type": "overloaded_error"}}, 3, "answered with an error: m is over"),
        ({"detail": [{"msg": "field required"}]}, 1, "refuses the request, in an answer without a status of its own"),
        ({"object": "error", "message": "bad", "code": 400}, 1, "refuses the request (400): bad"),
        ({"choices": None, "base_resp": {"status_code": 1002, "status_msg": "rate limit"}}, 3, "an error: rate limit"),
        ({"error": {"code": 401, "message": "who?"}}, 1, "refuses the key in LABKIT_TEACHER_KEY (401)"),
        ({"error": {"code": "insufficient_quota", "message": "pay"}}, 1, "is used up"),
        ({"choices": [{"error": {"code": 502, "message": "gone"}, "finish_reason": "error"}]}, 3, "answered 502: gone"),
        ([{"error": {"code": 400, "message": "API key", "status": "INVALID_ARGUMENT"}}], 1, "(400): API key"),
    ],
)
def test_an_error_in_an_answer_is_an_error(
    body: object, requests: int, sentence: str, at: Callable[..., Client]
) -> None:
    def answer(connection: socket.socket, head: str) -> None:
        connection.sendall(http(body) if head.startswith("POST") else http({"data": None}))

    with serving(answer) as server, at(server, retries=2) as teacher:
        with pytest.raises((BadRequest, TeacherFailed)) as caught:
            teacher.ask("a")
        assert sentence in str(caught.value)
        assert sum(head.startswith("POST") for head in server.heads) == requests
        assert teacher.spent() == (0, 0, 0, 0, 0.0)


@pytest.mark.parametrize(
    ("body", "requests", "lost"),
    [
        (chat(5), 1, 8),
        (chat([{"type": "image_url", "image_url": "x"}]), 1, 8),
        ({"choices": [], "usage": USAGE}, 1, 8),
        ({"choices": [{"message": None}], "usage": USAGE}, 1, 8),
        ({"choices": [], "usage": {"prompt_tokens": 0, "completion_tokens": 0}}, 3, 0),
    ],
)
def test_an_answer_without_a_reply_is_not_paid_for_again(
    body: object, requests: int, lost: int, at: Callable[..., Client]
) -> None:
    with serving(http(body)) as server, at(server, retries=2, price_out=10.0) as teacher:
        with pytest.raises((BadRequest, TeacherFailed), match=f"charged {lost}" if lost else "no reply in it"):
            teacher.ask("a")
        assert len(server.heads) == requests
        assert (teacher.spent().lost_tokens, teacher.spent().cost) == (lost, 3 * 10 / 10**6 if lost else 0.0)


@pytest.mark.parametrize("usage", [10**11, 2**63, -5, "5", None, 1.5, True, {}, [], 10**5])
def test_no_budget_ends_by_what_cannot_have_been_used(usage: object, at: Callable[..., Client]) -> None:
    body = chat(usage={"prompt_tokens": 5, "completion_tokens": usage})
    with serving(http(body)) as server, at(server, token_budget=10_000, max_tokens=100) as teacher:
        reply = teacher.ask("a")
        assert (reply.text, reply.counted, reply.completion_tokens) == ("five", False, 100)
        assert isinstance(teacher.ask("b"), Reply)
    with serving(http({"choices": [], "usage": body["usage"]})) as server, at(server, max_tokens=100) as teacher:
        with pytest.raises((BadRequest, TeacherFailed)):
            teacher.ask("c")
        assert teacher.spent().lost_tokens < 500


def test_more_than_was_asked_for_is_booked_where_it_may_be_true(at: Callable[..., Client]) -> None:
    body = chat(usage={"prompt_tokens": 300, "completion_tokens": 250})
    with serving(http(body)) as server, at(server, max_tokens=100) as teacher:
        assert teacher.ask("a").counted
        assert teacher.spent().tokens == 550


# Lists of models


@pytest.mark.parametrize(
    ("answer", "models"),
    [
        (http([{"id": "m"}, {"id": "n"}]), ["m", "n"]),
        (http(["m"]), ["m"]),
        (http({"data": ["m"]}), ["m"]),
        (http({"data": {"m": {"object": "model"}}}), ["m"]),
        (http({"models": [{"name": "models/m"}, {"model": "n"}, None]}), ["models/m", "n"]),
        (http({"m": {"id": "m"}, "n": {"id": "n"}}), ["m", "n"]),
        (http({"data": [{"model_name": "m"}, {"slug": "n"}]}), ["m", "n"]),
        (http({"data": None}), []),
        (http({"data": []}), []),
        (http([]), []),
        (http(b"", "204 Empty"), []),
        *[
            (http({"error": {"message": "not for you"}}, f"{status} No"), [])
            for status in (400, 402, 403, 404, 405, 422)
        ],
        (http({"error": "Missing scopes: models"}, "401 No"), []),
    ],
)
def test_lists_of_models_and_none(answer: bytes, models: list[str], at: Callable[..., Client]) -> None:
    with serving(answer) as server, at(server) as teacher:
        assert teacher.check() == models


def test_a_list_that_is_kept_from_us_is_noted_once(at: Callable[..., Client], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    with serving(http({"detail": "not for you"}, "403 No")) as server, at(server) as teacher:
        assert teacher.check() == teacher.check() == []
    assert [r.getMessage().partition(" ")[2] for r in caplog.records if r.name.startswith("labkit")] == [
        "does not list its models (403): not for you; it is asked all the same"
    ]


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (http({"error": {"message": "down for repair", "code": 503}}), "answered 503: down for repair"),
        (http({"hello": "world"}), "no OpenAI-compatible endpoint"),
        (http([{"hello": "world"}]), "no OpenAI-compatible endpoint"),
        (http(b"<html>"), "no OpenAI-compatible endpoint"),
        (http(b'{"data":' * 5000), "no OpenAI-compatible endpoint"),
        (http({"error": "who are you?"}, "401 No"), "refuses the key"),
    ],
)
def test_what_is_no_list_is_named(answer: bytes, sentence: str, at: Callable[..., Client]) -> None:
    with serving(answer) as server, at(server) as teacher, pytest.raises(BadRequest, match=sentence):
        teacher.check()
