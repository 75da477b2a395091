"""An OpenAI-compatible server that fails by plan, and remembers what it did.

It runs in a thread, on a port of its own. `plan(question, attempt)` names the fault of the n-th time that a question is
asked, or None. The answer to a question is its reverse. The log has one entry a request: the question, the attempt, and
what was done, which is "answered" only when the whole reply was handed to the system.
"""

import asyncio
import json
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple, Self

FAULTS = ("timeout", "429", "429 wait", "500", "broken JSON", "no choices", "truncated", "cut stream", "reset", "408")
Plan = Callable[[str, int], str | None]


def share(share: float, seed: int = 0) -> Plan:
    """A plan in which each attempt fails with a probability, in every way in turn: the same in every run."""

    def plan(question: str, attempt: int) -> str | None:
        draw = random.Random(f"{seed} {question} {attempt}")
        return draw.choice(FAULTS) if draw.random() < share else None

    return plan


class Entry(NamedTuple):
    question: str
    attempt: int
    done: str


class Flaky:
    """The server; use it as a context manager. `say` replaces fields of every reply, `echo` ends every error."""

    def __init__(
        self,
        plan: Plan = lambda question, attempt: None,
        *,
        key: str | None = None,
        models: tuple[str, ...] | None = ("teacher",),
        delay: float = 0.0,
        usage: bool = True,
        say: dict[str, Any] | None = None,
        echo: str = "",
    ) -> None:
        self.echo = echo
        self.plan, self.key, self.models, self.delay, self.usage, self.say = plan, key, models, delay, usage, say or {}
        self.log: list[Entry] = []
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self._attempts: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._started, self._stop = threading.Event(), asyncio.Event()
        self._loop: asyncio.AbstractEventLoop
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def answered(self) -> Counter[str]:
        """How often each question was answered."""
        return Counter(entry.question for entry in self.log if entry.done == "answered")

    def faults(self) -> Counter[str]:
        return Counter(entry.done for entry in self.log if entry.done != "answered")

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        self._started.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Go for good: connections break, and later ones are refused."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        server = await asyncio.start_server(self._connection, "127.0.0.1", self.port, backlog=512)
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._stop.wait()
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while await self._request(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; whether the connection goes on."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:]) if name}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        self.headers.append(headers)
        if self.key is not None and headers.get("authorization") != f"Bearer {self.key}":
            sent = headers.get("authorization")
            return await _send(
                writer, 401, {"error": {"message": f"wrong key: {sent}{self.echo}"}}, {"x-echo": str(sent)}
            )
        if head[0].startswith("GET /v1/models"):
            if self.models is None:
                return await _send(writer, 404, {"error": {"message": "no such page"}})
            return await _send(writer, 200, {"object": "list", "data": [{"id": name} for name in self.models]})
        if not head[0].startswith("POST /v1/chat/completions"):
            return await _send(writer, 404, {"error": {"message": "no such page"}})
        record = json.loads(body)
        self.bodies.append(record)
        if self.models is not None and record["model"] not in self.models:
            return await _send(writer, 404, {"error": {"message": f"no model {record['model']}{self.echo}"}})
        question = record["messages"][-1]["content"]
        self._attempts[question] += 1
        attempt = self._attempts[question]
        fault = self.plan(question, attempt)
        await asyncio.sleep(self.delay)
        if fault:
            self.log.append(Entry(question, attempt, fault))
            return await self._fail(fault, writer)
        self.log.append(Entry(question, attempt, "answered"))  # before it is: who reads the answer may read the log
        place = len(self.log) - 1
        try:
            return await _send(writer, 200, self._reply(record))
        except ConnectionError:
            self.log[place] = Entry(question, attempt, "hung up")
            raise

    def _reply(self, record: dict[str, Any]) -> dict[str, Any]:
        text = record["messages"][-1]["content"][::-1]
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        reply: dict[str, Any] = {"id": "r", "object": "chat.completion", "created": 0, "model": record["model"]}
        reply["choices"] = [choice]
        if self.usage:
            reply["usage"] = {"prompt_tokens": len(text) + 9, "completion_tokens": len(text)}
        return {**reply, **self.say}

    async def _fail(self, fault: str, writer: asyncio.StreamWriter) -> bool:
        whole = json.dumps({"choices": [{"message": {"role": "assistant", "content": "half an answer"}}]}).encode()
        json_type = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
        if fault == "timeout":
            await asyncio.sleep(60)
        elif fault == "429 wait":
            return await _send(writer, 429, {"error": {"message": "slow down"}}, {"retry-after": "0.05"})
        elif fault == "429 long":
            return await _send(writer, 429, {"error": {"message": "come back tomorrow"}}, {"retry-after": "9999"})
        elif fault == "quota":
            return await _send(writer, 429, {"error": {"message": "pay first", "code": "insufficient_quota"}})
        elif fault.isdigit():
            return await _send(writer, int(fault), {"error": {"message": f"fault {fault}{self.echo}"}})
        elif fault == "broken JSON":
            return await _raw(writer, json_type + b"content-length: 12\r\n\r\n" + whole[:12])
        elif fault == "no choices":
            return await _send(writer, 200, {"choices": []})
        elif fault == "truncated":
            await _raw(writer, json_type + b"content-length: %d\r\n\r\n" % len(whole) + whole[:20])
        elif fault == "cut stream":
            await _raw(writer, json_type + b"transfer-encoding: chunked\r\n\r\n14\r\n" + whole[:20] + b"\r\n")
        elif fault == "reset":
            raw: socket.socket = writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        return False


async def _send(writer: asyncio.StreamWriter, status: int, body: object, more: dict[str, str] | None = None) -> bool:
    data = json.dumps(body).encode()
    headers = {"content-type": "application/json", "content-length": str(len(data)), **(more or {})}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return await _raw(writer, f"HTTP/1.1 {status} Said\r\n{lines}\r\n".encode() + data)


async def _raw(writer: asyncio.StreamWriter, data: bytes) -> bool:
    writer.write(data)
    await writer.drain()
    return True
