"""One exchange of bytes with an endpoint: within a deadline, within a size, and with nobody else.

Guaranteed
- A deadline is one for all of it: name lookup, connecting, TLS, sending, and every byte of the answer.
- An answer is read up to a size, compressed or not; what is longer is not kept in memory.
- What the environment holds for other programs is left alone: no proxy, no `.netrc`, no header but those handed in.
  Redirects are not followed. `SSL_CERT_FILE` and `SSL_CERT_DIR` count, since they name whom to trust, not whom to tell.
- No exception of another package gets out: what failed is a `Broken`.

Limits: one thread of its own runs the event loop, so a wire is of the process that made it.
"""

import asyncio
import os
import ssl
import threading
import zlib
from collections.abc import Mapping
from concurrent.futures import CancelledError
from contextlib import suppress
from functools import cache
from typing import Any, NamedTuple


class Answer(NamedTuple):
    """What came back; `whole` is False where it is longer than allowed, and `body` its beginning."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    whole: bool


class Broken(NamedTuple):
    """No answer. `why`: the system's word, or the kind of error; `sent`: the request may have been read.

    `late`: the deadline passed. `begun`: some of the answer had come. `tls`: the two could not agree on a secret.
    """

    why: str
    sent: bool
    late: bool = False
    begun: bool = False
    tls: bool = False


Outcome = Answer | Broken


class Wire:
    """Connections to one endpoint, kept open between requests.

    Raises:
        ImportError, ValueError: for a proxy whose kind httpx does not know, or needs another package for.
    """

    def __init__(self, headers: Mapping[str, str], connections: int, proxy: str | None) -> None:
        import httpx

        own = {"accept": "application/json", "accept-encoding": "identity", "user-agent": "labkit", **headers}
        # No timeout: the deadline of an exchange bounds every part of it.
        self._http = httpx.AsyncClient(
            headers=own, timeout=None, trust_env=False, follow_redirects=False, proxy=proxy,
            verify=_trusted(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR")),
            limits=httpx.Limits(max_keepalive_connections=connections),
        )  # fmt: skip
        self._loop = asyncio.new_event_loop()
        self._lock, self._closed = threading.Lock(), False
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def exchange(self, method: str, url: str, content: bytes | None, seconds: float, most: int) -> Outcome:
        """Send a request and read its answer, in `seconds` and up to `most` bytes. An interrupt ends it."""
        with self._lock:
            if self._closed:
                return Broken("the client is closed", sent=False)
            future = asyncio.run_coroutine_threadsafe(self._exchange(method, url, content, seconds, most), self._loop)
        try:
            return future.result()
        except CancelledError:
            return Broken("the client is closed", sent=True)
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        """End what is in flight."""
        with self._lock:
            was_closed, self._closed = self._closed, True
        if not was_closed:
            asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    async def _end(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._http.aclose()

    async def _exchange(self, method: str, url: str, content: bytes | None, seconds: float, most: int) -> Outcome:
        sent, body, answer = False, bytearray(), None

        async def trace(name: str, info: Mapping[str, Any]) -> None:
            nonlocal sent
            # A proxy's CONNECT is not our request yet.
            sent = sent or (name.endswith("send_request_headers.started") and info["request"].method != b"CONNECT")

        try:
            async with asyncio.timeout(seconds):
                kind = {"content-type": "application/json"} if content is not None else {}
                more: dict[str, Any] = {"content": content, "headers": kind, "extensions": {"trace": trace}}
                async with self._http.stream(method, url, **more) as answer:
                    async for part in answer.aiter_raw():
                        body += part
                        if len(body) > most:
                            break
        except TimeoutError:
            return Broken("no connection in time", sent, late=True, begun=answer is not None)
        except Exception as error:
            why, tls = (type(error).__name__, False) if sent else _root(error)
            return Broken(why, sent, begun=answer is not None, tls=tls)
        plain, whole = _inflated(bytes(body[: most + 1]), answer.headers.get("content-encoding", ""), most)
        return Answer(answer.status_code, answer.headers, plain, whole)


@cache
def _trusted(file: str | None, folder: str | None) -> ssl.SSLContext:
    """Whom to trust; httpx looks into the environment itself, and reading the certificates takes a while."""
    import httpx

    return httpx.create_ssl_context()


def _inflated(body: bytes, encoding: str, most: int) -> tuple[bytes, bool]:
    """The body as it was before a server compressed it, unasked, up to a size; whether that is all of it."""
    if len(body) <= most and encoding.lower() in ("gzip", "x-gzip", "deflate"):
        with suppress(zlib.error):  # which is no JSON either
            body = zlib.decompressobj(wbits=47).decompress(body, most + 1)  # 47: a header of gzip or of zlib
    return body[:most], len(body) <= most


def _root(error: BaseException) -> tuple[str, bool]:
    """The system's own word for a connection that failed, such as `Connection refused`; whether it is TLS's."""
    while (deeper := error.__cause__ or error.__context__) is not None:
        error = deeper
        if isinstance(error, BaseExceptionGroup):  # one for each address of a name
            error = error.exceptions[-1]
    number = getattr(error, "errno", None)
    if isinstance(error, OSError) and number and number > 0 and not isinstance(error, ssl.SSLError):
        return os.strerror(number), False
    return getattr(error, "strerror", None) or str(error) or type(error).__name__, isinstance(error, ssl.SSLError)
