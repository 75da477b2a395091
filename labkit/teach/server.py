"""The oracle behind HTTP, in the protocol of OpenAI's chat completions, as a hosted model would be.

    POST /v1/chat/completions     in one piece, or as server-sent events (`stream`)
    GET  /v1/models, /v1/models/{id}

`serve` runs it for a person, `running` in a thread for as long as a block lasts. Models are `oracle` and, without
further ado, imperfect ones by name (`oracle:noise=1.5`, see `labkit.teach.oracle.flaws_of`). Equal requests get equal
texts; `seed` draws others, and choice number i of `n` has seed + i.

Guaranteed: errors come in the protocol's form, with its status codes, and never hold a traceback; a key is never
printed. Tokens are counted by a rule of `completions`: up to six letters or digits in a row, or one mark, with the
white space before it; `max_tokens` cuts there. Fields that the protocol has and an oracle has no use for are checked
where they could be wrong in type and otherwise passed over (temperature, penalties); fields that would change the form
of the reply (tools, logprobs, JSON schemas, audio) are refused, and so is what the protocol does not have.

Left open: no TLS, no limits of rate, one process. It listens on this machine alone, so whoever sends or reads slowly is
waited for.
"""

import json
import os
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from hmac import compare_digest
from typing import Any
from uuid import uuid4

from labkit.errors import BadRequest
from labkit.teach.completions import Choice, Refused, check_model, read
from labkit.teach.oracle import MODEL, flaws_of

try:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import Response, StreamingResponse
    from starlette.routing import Route
except ImportError:
    needs = "the teacher's server needs the packages starlette and uvicorn: pip install 'labkit[teacher]'"
    raise BadRequest(needs) from None

KEY, URL = "LABKIT_TEACHER_KEY", "LABKIT_TEACHER_URL"
LARGEST = 2**20  # bytes of a request
HOST = "127.0.0.1"
CONNECTIONS = 900  # beyond these a request is told to come back (503); a process may often open 1,024 files


def app(*, models: Sequence[str] = (MODEL,), key: str | None = None) -> Starlette:
    """The application, for any ASGI server.

    Args:
        models: The ids that are listed; any other id of an imperfect oracle is answered, too.
        key: What a bearer has to present; None: any text will do.

    Raises:
        BadRequest: for a model that there is not.
    """
    for model in models:
        flaws_of(model)
    began = int(time.time())

    def described(model: str) -> dict[str, Any]:
        return {"id": model, "object": "model", "created": began, "owned_by": "labkit"}

    async def chat(request: Request) -> Response:
        _check_key(request, key)
        asked = read(await _body(request), models)
        choices = asked.choices()
        head = {"id": f"chatcmpl-{uuid4().hex}", "created": int(time.time()), "model": asked.model}
        head |= {"system_fingerprint": "labkit"}
        heard, said = asked.tokens(), sum(len(choice.tokens) for choice in choices)
        usage = {"prompt_tokens": heard, "completion_tokens": said, "total_tokens": heard + said}
        if asked.stream:
            wanted = usage if asked.stream_options.get("include_usage") is True else None
            events = _events({**head, "object": "chat.completion.chunk"}, choices, wanted)
            return StreamingResponse(events, media_type="text/event-stream", headers={"cache-control": "no-cache"})
        messages = [{"role": "assistant", "content": choice.text, "refusal": None} for choice in choices]
        listed = [
            {"index": i, "message": message, "logprobs": None, "finish_reason": choice.finish}
            for i, (message, choice) in enumerate(zip(messages, choices, strict=True))
        ]
        return _json({**head, "object": "chat.completion", "choices": listed, "usage": usage})

    async def list_models(request: Request) -> Response:
        _check_key(request, key)
        return _json({"object": "list", "data": [described(model) for model in models]})

    async def show_model(request: Request) -> Response:
        _check_key(request, key)
        check_model(request.path_params["model"], models)
        return _json(described(request.path_params["model"]))

    routes = [Route("/v1/models", list_models), Route("/v1/models/{model:path}", show_model)]
    routes += [Route("/v1/chat/completions", chat, methods=["POST"])]
    handlers: dict[Any, Any] = dict.fromkeys((Refused, HTTPException, ClientDisconnect, Exception), _failed)
    return Starlette(routes=routes, exception_handlers=handlers)


def serve(port: int, *, models: Sequence[str] = (MODEL,)) -> None:
    """Serve until Ctrl-C or SIGTERM; prints the address, and what a client's environment has to hold.

    Args:
        port: 0 takes a free one.
        models: The ids that are listed.

    The key is the environment's `LABKIT_TEACHER_KEY`; without one, any text will do.

    Raises:
        BadRequest: for a port in use or not to be had, or a model that there is not.
    """
    key = os.environ.get(KEY) or None
    server = _server(app(models=models, key=key))
    with _listener(port) as listener:
        before = {number: signal.signal(number, server.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            url = _url(listener)
            given = "...  # the key that this server was started with" if key else "any  # any text will do"
            print(f"the oracle answers at {url} (models: {', '.join(models)}; Ctrl-C stops it)")
            print(f"export {URL}={url}\nexport {KEY}={given}", flush=True)
            server.run(sockets=[listener])
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextmanager
def running(*, models: Sequence[str] = (MODEL,), key: str | None = None) -> Iterator[str]:
    """A server on a free port of this machine, as long as the block lasts; yields its base URL, which ends in `/v1`.

    Args:
        models: The ids that are listed.
        key: What a bearer has to present; None: any text will do, whatever the environment holds.

    It runs in a thread of this process, and so ends with the block or with the process.

    Raises:
        BadRequest: for a model that there is not.
        RuntimeError: when the server does not start.
    """
    server = _server(app(models=models, key=key))
    with _listener(0) as listener:
        url = _url(listener)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener.dup()]}, daemon=True)
        thread.start()
    try:
        while thread.is_alive() and not server.started:
            time.sleep(0.005)
        if not server.started:
            raise RuntimeError("the teacher's server did not start; its own messages are above")
        yield url
    finally:
        server.should_exit = True
        thread.join()


# Starting and stopping


def _server(application: Starlette) -> uvicorn.Server:
    # A connection is kept for long, since a study trains between its questions.
    config = uvicorn.Config(
        application, http="h11", lifespan="off", ws="none", log_config=None, log_level="warning", access_log=False,
        server_header=False, limit_concurrency=CONNECTIONS, timeout_keep_alive=300, timeout_graceful_shutdown=2,
    )  # fmt: skip
    return uvicorn.Server(config)


def _listener(port: int) -> socket.socket:
    try:
        made = socket.create_server((HOST, port))
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or "a port is a number from 0 to 65535"
        raise BadRequest(f"cannot listen on port {port} of {HOST} ({reason}): take another, or 0 for any") from None
    # asyncio turns Nagle's delay (40 ms per reply) off for sockets that say they are TCP; create_server's do not.
    return socket.socket(fileno=made.detach())


def _url(listener: socket.socket) -> str:
    return f"http://{HOST}:{listener.getsockname()[1]}/v1"


# Reading requests


def _check_key(request: Request, key: str | None) -> None:
    kind, _, given = request.headers.get("authorization", "").partition(" ")
    given = given.strip() if kind.lower() == "bearer" else ""
    if not given:
        raise Refused(401, "a key is missing: send it as 'Authorization: Bearer KEY'", code="invalid_api_key")
    if key is not None and not compare_digest(given.encode("utf-8", "surrogateescape"), key.encode()):
        raise Refused(401, "the key is wrong", code="invalid_api_key")


async def _body(request: Request) -> Any:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > LARGEST:
            raise Refused(413, f"a request holds at most {LARGEST} bytes", code="request_too_large")
    try:
        return json.loads(bytes(body))
    except (ValueError, RecursionError):
        raise Refused(400, "the body is not JSON") from None


# Writing replies


async def _events(head: dict[str, Any], choices: list[Choice], usage: dict[str, int] | None) -> AsyncIterator[str]:
    """Server-sent events: one chunk per token, one that says why a choice ends, the usage where it is asked for."""
    more = {} if usage is None else {"usage": None}  # as the protocol has it: null before the last

    def chunk(index: int, delta: dict[str, str], finish: str | None = None) -> str:
        listed = [{"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}]
        return f"data: {json.dumps({**head, 'choices': listed, **more})}\n\n"

    for index, choice in enumerate(choices):
        yield chunk(index, {"role": "assistant", "content": ""})
        for token in choice.tokens:
            yield chunk(index, {"content": token})
        yield chunk(index, {}, choice.finish)
    if usage is not None:
        yield f"data: {json.dumps({**head, 'choices': [], 'usage': usage})}\n\n"
    yield "data: [DONE]\n\n"


def _json(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """JSON in ASCII, which holds whatever text a client may send, halves of surrogate pairs included."""
    return Response(json.dumps(content), status, headers, media_type="application/json")


async def _failed(request: Request, error: Exception) -> Response:
    """Whatever went wrong, in the protocol's form; of a client that is gone nobody reads it any more."""
    headers = None
    if isinstance(error, HTTPException):
        asked, headers = f"{request.method} {request.url.path}"[:200], dict(error.headers or {})
        method = error.status_code == 405
        words = f"{asked}: not this method" if method else f"there is no {asked}"
        error = Refused(error.status_code, words, code="method_not_supported" if method else "unknown_url")
    elif not isinstance(error, Refused):
        error = Refused(500, "the server had an error; its own output says which", code="internal_error")
    kind = "server_error" if error.status >= 500 else "invalid_request_error"
    about = {"message": error.message, "type": kind, "param": error.param, "code": error.code}
    return _json({"error": about}, error.status, headers)
