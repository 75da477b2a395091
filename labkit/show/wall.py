"""The wall: one page over a whole store, from a file that opens offline, or served while a sweep runs.

Guaranteed: the page loads nothing from anywhere else; it holds the numbers that it was given, unrounded; served, it
listens on this machine alone, answers GET alone, and no request of another site's page reads it. Left open: a page from
a file asks the models that it holds and no others.
"""

import json
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2

from labkit.errors import BadRequest
from labkit.lab import write_text
from labkit.show.asking import script
from labkit.show.theme import COLOURS

SCRIPTS = ("draw", "figure", "model", "ask", "wall")


def write_wall(path: Path, data: Mapping[str, Any], models: Mapping[str, Mapping[str, Any]]) -> Path:
    """The page as one file, with the models of these addresses in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, page(data, models))
    return path


def page(data: Mapping[str, Any] | None, models: Mapping[str, Mapping[str, Any]]) -> str:
    """The page; without data it asks its server for them."""
    environment = jinja2.Environment(loader=jinja2.PackageLoader("labkit.show", ""), autoescape=True)
    return environment.get_template("wall.html.j2").render(
        data=_inert(data), models={address: _inert(model) for address, model in models.items()},
        script=script(*SCRIPTS), style=files("labkit.show").joinpath("ask.css").read_text("utf-8"), colours=COLOURS,
    )  # fmt: skip


def _inert(value: Any) -> str:
    """JSON that ends no script element."""
    return json.dumps(value, allow_nan=False).replace("<", "\\u003c")


class Server(ThreadingHTTPServer):
    """Serves the page at `/`, and below it `data`, `model/ADDRESS` and `compare/RUN/RUN` as JSON.

    Args:
        port: Of this machine; 0: a free one.
        data: The wall's data, and a `version` that changes with them.
        model, compare: From what stands in the path to the answer; a `BadRequest` is told as its sentence.
    """

    daemon_threads = True

    def __init__(self, port: int, data: Callable[[], Mapping[str, Any]], model: Callable[[str], Any],
                 compare: Callable[[str, str], Any]) -> None:  # fmt: skip
        self.answers: dict[tuple[str, int], Callable[..., Any]] = {
            ("data", 0): data, ("model", 1): model, ("compare", 2): compare,
        }  # fmt: skip
        try:
            super().__init__(("127.0.0.1", port), _Handler)
        except OSError as error:
            raise BadRequest(f"--port {port}: {error.strerror}") from None

    @property
    def address(self) -> str:
        """Where a browser finds it."""
        return f"http://127.0.0.1:{self.server_address[1]}/"


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        path = self.path.partition("?")[0].strip("/")
        name, *rest = path.split("/")
        server = self.server
        assert isinstance(server, Server)
        if self.headers.get("Host", "").partition(":")[0] not in ("127.0.0.1", "localhost"):
            return self._send(HTTPStatus.FORBIDDEN, "text/plain", "this page is for this machine")
        if not path:
            return self._send(HTTPStatus.OK, "text/html", page(None, {}))
        if (name, len(rest)) not in server.answers:
            return self._tell(HTTPStatus.NOT_FOUND, {"problem": f"there is no {path} here"})
        try:
            return self._tell(HTTPStatus.OK, server.answers[name, len(rest)](*rest))
        except BadRequest as problem:
            return self._tell(HTTPStatus.BAD_REQUEST, {"problem": str(problem)})

    def _tell(self, status: HTTPStatus, value: Any) -> None:
        self._send(status, "application/json", json.dumps(value, allow_nan=False, default=str))

    def _send(self, status: HTTPStatus, kind: str, text: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing: a page asks every two seconds."""
