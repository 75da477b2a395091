"""A real browser, driven over Chrome's DevTools protocol: enough to load a page, press keys, move the mouse, look.

Needs Debian's chromium and the websocket client that JupyterLab brings along.
"""

import base64
import itertools
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

KEYS = {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Delete": 46, "Enter": 13, " ": 32}
PATIENCE = 300  # seconds: other work on the machine is no failure


def chromium() -> str:
    """The browser's path; skips without one, and in CI its absence is a failure."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not found:
        assert os.environ.get("CI") != "true", "CI must look at pages in a browser: chromium is missing"
        pytest.skip("no chromium to open pages with")
    return found


class Browser:
    """One page."""

    def __init__(self, socket: Any) -> None:
        self.socket, self.numbers, self.url = socket, itertools.count(1), ""

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self.numbers)
        self.socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while (answer := json.loads(self.socket.recv())).get("id") != number:
            pass
        assert "error" not in answer, answer
        return answer["result"]

    def js(self, expression: str) -> Any:
        """The value of an expression in the page."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, expression: str) -> None:
        """Until an expression is true of a page that has begun; fails when that takes too long."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            if self.js(f"Boolean(document.body && ({expression}))"):
                return
            time.sleep(0.2)
        raise AssertionError(f"never came true: {expression}")

    def size(self, width: int, height: int) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def press(self, *keys: str, shift: bool = False) -> None:
        for key in keys:
            text = {"text": {"Enter": "\r"}.get(key, key)} if key in ("Enter", " ") else {}
            about = {"key": key, "code": key, "windowsVirtualKeyCode": KEYS[key], "modifiers": 8 * shift} | text
            self.call("Input.dispatchKeyEvent", type="keyDown", **about)
            self.call("Input.dispatchKeyEvent", type="keyUp", **about)

    def type(self, text: str) -> None:
        self.call("Input.insertText", text=text)

    def drag(self, *places: tuple[float, float]) -> None:
        """Press the mouse at the first place, move over the others, let go at the last; one place: a click."""
        for kind, (x, y) in [("mousePressed", places[0]), *(("mouseMoved", place) for place in places[1:]),
                             ("mouseReleased", places[-1])]:  # fmt: skip
            buttons = 0 if kind == "mouseReleased" else 1
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=buttons, clickCount=1)

    def box(self, element: str) -> dict[str, float]:
        """Where an element (an expression) is on the screen, once it has been scrolled to and the page stands still."""
        look = (f"(() => {{ const e = {element}; e.scrollIntoView({{block: 'center'}}); "
                "const {left, top, width, height} = e.getBoundingClientRect(); "
                "return {left, top, width, height}; })()")  # fmt: skip
        before, now = None, self.js(look)
        while before != now:
            time.sleep(0.3)
            before, now = now, self.js(look)
        return now

    def click(self, element: str) -> None:
        box = self.box(element)
        self.drag((box["left"] + box["width"] / 2, box["top"] + box["height"] / 2))

    def picture(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))


@contextmanager
def opened(url: str, profile: Path) -> Iterator[Browser]:
    """A page in a browser of its own, that reaches nothing but this machine."""
    import websocket

    command = [chromium(), "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
               "--remote-debugging-port=0", "--remote-allow-origins=*", f"--user-data-dir={profile}",
               "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", url]  # fmt: skip
    with (profile.parent / "chromium.log").open("w+") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            port = read(profile.parent / "chromium.log", r"ws://127\.0\.0\.1:(\d+)/", process)
            page = first_page(port)
            socket = websocket.create_connection(page, timeout=PATIENCE)
            browser = Browser(socket)
            browser.call("Page.enable")
            yield browser
            socket.close()
        finally:
            process.kill()
            process.wait()


def first_page(port: str) -> str:
    from urllib.request import urlopen

    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        with urlopen(f"http://127.0.0.1:{port}/json") as listed:
            for target in json.load(listed):
                if target["type"] == "page":
                    return str(target["webSocketDebuggerUrl"])
        time.sleep(0.2)
    raise AssertionError("the browser has no page")


def read(log: Path, pattern: str, process: "subprocess.Popen[Any]") -> str:
    """What a process has written that matches, as soon as it has."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if found := re.search(pattern, log.read_text(errors="replace")):
            return found.group(1)
        assert process.poll() is None, log.read_text(errors="replace")[-2000:]
        time.sleep(0.2)
    raise AssertionError(f"{pattern} never came in {log}")


@contextmanager
def jupyterlab(folder: Path, notebook: str, settings: Path) -> Iterator[str]:
    """The address of a notebook in a JupyterLab that serves a folder."""
    import sys

    log = settings / "jupyterlab.log"
    news = settings / "user" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    news.parent.mkdir(parents=True, exist_ok=True)
    news.write_text('{"fetchNews": "false"}')
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", "--port=0", "--allow-root",
               "--ServerApp.token=", "--ServerApp.password=", f"--ServerApp.root_dir={folder}",
               "--LabApp.extension_manager=readonly", "--LabApp.news_url=", "--LabApp.check_for_updates_class="
               "jupyterlab.NeverCheckForUpdate"]  # fmt: skip
    homes = {name: str(settings / name) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")}
    homes |= {"JUPYTERLAB_SETTINGS_DIR": str(settings / "user"), "JUPYTERLAB_WORKSPACES_DIR": str(settings / "spaces")}
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, env=os.environ | homes)
        try:
            port = read(log, r"http://127\.0\.0\.1:(\d+)/lab", process)
            yield f"http://127.0.0.1:{port}/lab/tree/{notebook}?reset"
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
