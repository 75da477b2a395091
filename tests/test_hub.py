"""A hub that does not answer is asked once, and what is not in the cache fails at once."""

import socket
import threading
from collections.abc import Iterator

import pytest
from huggingface_hub import constants

from labkit import BadRequest
from labkit.instructions import hub
from labkit.learn import qlora


@pytest.fixture(params=["refuses", "is silent"])
def asked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A hub at a free port of this machine that refuses or never answers; the connections that it saw."""
    seen: list[str] = []
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if request.param == "is silent":
            listener.listen(50)
            threading.Thread(target=_accept, args=(listener, seen), daemon=True).start()
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{listener.getsockname()[1]}")
        monkeypatch.setattr(hub, "PATIENCE", 0.5)
        hub.answers.cache_clear()
        yield seen
    hub.answers.cache_clear()


def _accept(listener: socket.socket, seen: list[str]) -> None:
    held = []
    while True:
        try:
            held.append(listener.accept()[0])
        except OSError:
            return
        seen.append("a connection")


def test_what_cannot_be_had_is_said_after_one_question(asked: list[str]) -> None:
    before = constants.HF_HUB_OFFLINE
    for load in (qlora.load_config, qlora.load_tokenizer, qlora.load_config):
        with pytest.raises(BadRequest, match="could not be had from the Hugging Face hub"):
            load("nobody/no-such-model")
    assert len(asked) <= 1
    assert before == constants.HF_HUB_OFFLINE
