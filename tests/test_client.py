"""The teacher's client against a server that fails by plan: nothing lost, nothing asked twice, no key anywhere."""

import json
import logging
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import traceback
from base64 import b64encode
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

pytest.importorskip("httpx", reason="the teacher needs labkit[teacher]")

from flaky import FAULTS, Flaky, Plan, share

from labkit.errors import BadRequest
from labkit.teach.client import (
    BudgetSpent,
    Client,
    EndpointGone,
    Failure,
    Message,
    Reply,
    Request,
    Settings,
    TeacherFailed,
)
from labkit.teach.ledger import Bound, Budget, Claim, Ledger, Prices
from labkit.teach.pace import REFUSALS, Health, Pace
from labkit.teach.redaction import Redactor
from labkit.teach.transport import retry_after

KEY = 'sk-live+"\\/=%7Qe9'  # every character that some encoding changes
FAST = Settings("teacher", timeout=2.0, backoff=0.02, concurrency=8, patience=0.3)


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LABKIT_TEACHER_URL", "LABKIT_TEACHER_KEY", "OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.setenv(name, "")  # as good as unset, and undone whatever a test writes there


def at(url: str, key: str | None = None) -> None:
    """Name the endpoint in the environment; the fixture above takes it back."""
    os.environ["LABKIT_TEACHER_URL"] = url
    if key is not None:
        os.environ["LABKIT_TEACHER_KEY"] = key


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "replies.sqlite"


def client(server: Flaky, cache: Path, settings: Settings = FAST, **given: object) -> Client:
    at(server.url, server.key)
    return Client(settings, cache, **given)  # type: ignore[arg-type]


def changed(**fields: object) -> Settings:
    return Settings(**{**FAST.model_dump(), **fields})  # type: ignore[arg-type]


def questions(count: int, start: int = 0) -> list[Request]:
    return [Request([{"role": "user", "content": f"question {n}"}]) for n in range(start, start + count)]


def right(requests: list[Request], replies: list[Reply | Failure]) -> bool:
    wanted = [request.messages[-1]["content"][::-1] for request in requests]
    return wanted == [reply.text if isinstance(reply, Reply) else reply.sentence for reply in replies]


def always(fault: str, times: int = 10**9) -> Plan:
    return lambda question, attempt: fault if attempt <= times else None


# Nothing lost, nothing asked twice.


def test_a_thousand_requests_through_faults_of_every_kind(cache: Path) -> None:
    requests = questions(1000)
    with Flaky(share(0.05, seed=1)) as server:
        with client(server, cache, changed(concurrency=16)) as teacher:
            started = time.perf_counter()
            replies = teacher.ask_many(requests)
            seconds = time.perf_counter() - started
            spent = teacher.spent()
        assert right(requests, replies)
        assert set(server.faults()) == set(FAULTS)
        assert server.answered() == {f"question {n}": 1 for n in range(1000)}
        asked = len(server.log)
        with client(server, cache) as teacher:
            again = teacher.ask_many(requests)
            assert right(requests, again)
            assert all(isinstance(reply, Reply) and reply.cached for reply in again)
            assert teacher.spent() == spent
        assert len(server.log) == asked
    print(f"\n1,000 requests in {seconds:.1f} s; {asked} attempts, of which failed {dict(server.faults())}; {spent}")


def test_equal_requests_are_asked_once(cache: Path) -> None:
    with Flaky(delay=0.05) as server, client(server, cache) as one, client(server, cache) as other:
        requests = questions(3) * 5
        replies: dict[int, list[Reply | Failure]] = {}
        threads = [
            threading.Thread(target=lambda n=n, teacher=teacher: replies.update({n: teacher.ask_many(requests)}))
            for n, teacher in enumerate((one, one, other))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(replies) == 3
        assert all(right(requests, found) for found in replies.values())
        assert server.answered() == {f"question {n}": 1 for n in range(3)}
        paid = [reply for found in replies.values() for reply in found if isinstance(reply, Reply) and not reply.cached]
        assert len(paid) == 3


def test_what_decides_a_reply_is_in_its_key(cache: Path) -> None:
    with Flaky() as server:
        message: Message = {"role": "user", "content": "a"}
        variants = [
            (changed(), Request([message])),
            (changed(), Request([message], sample=1)),
            (changed(), Request([message], max_tokens=7)),
            (changed(), Request([message], temperature=1.0)),
            (changed(), Request([message], stop=("x",))),
            (changed(seed=5), Request([message])),
            (changed(seed=None), Request([message])),
            (changed(model="other"), Request([message])),
            (changed(), Request([{"role": "system", "content": "b"}, message])),
        ]
        keys = []
        for settings, request in variants:
            with client(server, cache, settings) as teacher:
                keys.append(teacher.key(request))
        assert len(set(keys)) == len(variants)
        with client(server, cache, changed(timeout=9, retries=1, concurrency=3, token_budget=10**6)) as teacher:
            assert teacher.key(variants[0][1]) == keys[0]
            teacher.ask_many([request for _, request in variants[:3]])
        assert [body.get("seed") for body in server.bodies] in ([0, 1, 0], [1, 0, 0], [0, 0, 1])


WORKER = """
import sys
from labkit.teach.client import Client, Request, Settings, BudgetSpent
cache, count, budget = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) or None
settings = Settings("teacher", timeout=5, backoff=0.02, concurrency=4, max_tokens=30, token_budget=budget)
requests = [Request([{"role": "user", "content": f"question {n}"}]) for n in range(count)]
with Client(settings, cache) as teacher:
    try:
        print(sum(not reply.cached for reply in teacher.ask_many(requests)))
    except BudgetSpent as error:
        print(error)
"""


def start(cache: Path, count: int, budget: int = 0) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", WORKER, str(cache), str(count), str(budget)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_a_killed_process_loses_only_what_was_in_flight(cache: Path) -> None:
    requests = questions(80)
    with Flaky(delay=0.02) as server:
        at(server.url)
        worker = start(cache, 80)
        while len(server.log) < 30:
            time.sleep(0.01)
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        time.sleep(0.1)
        before = server.answered()
        with client(server, cache, changed(max_tokens=30)) as teacher:
            kept = teacher.spent()
            replies = teacher.ask_many(requests)
        assert kept.replies >= len(before) - 4  # those whose answers it could not read any more
        assert right(requests, replies)
        twice = [question for question, count in server.answered().items() if count > 1]
        assert len(twice) <= 4  # the killed worker's requests at once
        assert set(server.answered()) == {f"question {n}" for n in range(80)}
        done = {f"question {n}" for n, reply in enumerate(replies) if isinstance(reply, Reply) and reply.cached}
        assert len(done) == kept.replies
        assert not done & set(twice)
        assert kept.lost_tokens > 0  # what was in flight may have been charged


def test_processes_share_a_file_and_its_budget(cache: Path) -> None:
    budget = 3000
    with Flaky(delay=0.01) as server:
        at(server.url)
        workers = [start(cache, 1000, budget) for _ in range(2)]
        said = [worker.communicate()[0] for worker in workers]
        assert all("the teacher's budget of 3,000 tokens is spent" in line for line in said)
        assert set(server.answered().values()) == {1}
        used = sum(2 * len(question) + 9 for question in server.answered())
        with client(server, cache) as teacher:
            assert teacher.spent().tokens == used
        bound = len("userquestion 100") + 16 + 128 + 30
        assert budget - bound < used <= budget  # not a request too many, nor one too few


# The budget.


@hypothesis_settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 400),
    st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60), st.floats(0, 1), st.sampled_from("alr")), max_size=30),
    st.randoms(use_true_random=False),
)
def test_the_budget_is_never_exceeded(
    tmp_path_factory: pytest.TempPathFactory, tokens: int, plan: list[tuple[int, int, float, str]], draw: object
) -> None:
    prices = Prices(1.0, 3.0)
    money = tokens * 2e-6
    ledger = Ledger(tmp_path_factory.mktemp("ledger") / "l", prices, Budget(tokens, money))
    open_claims: list[tuple[Claim, float, str]] = []
    used, cost = 0, 0

    def finish() -> None:
        nonlocal used, cost
        claim, part, end = open_claims.pop(draw.randrange(len(open_claims)))  # type: ignore[attr-defined]
        actual = Bound(int(claim.bound.prompt * part), int(claim.bound.completion * part))
        if end == "a":
            ledger.book(claim, Reply("", *actual, "m", "stop"))
        else:
            ledger.release(claim, lost=end == "l")
            actual = claim.bound if end == "l" else Bound(0, 0)
        used, cost = used + sum(actual), cost + prices.nano(*actual)

    for number, (prompt, completion, part, end) in enumerate(plan):
        bound = Bound(prompt, completion)
        try:
            while (claim := ledger.claim(f"{number}", bound, 60)) is None:
                finish()  # it waits only while something is in flight
        except BudgetSpent:
            assert used + sum(bound) > tokens or cost + prices.nano(*bound) > int(money * 10**9)
            continue
        assert isinstance(claim, Claim)
        open_claims.append((claim, part, end))
        held = sum(sum(claim.bound) for claim, *_ in open_claims)
        assert used + held <= tokens
        assert cost + sum(claim.cost for claim, *_ in open_claims) <= money * 10**9
    while open_claims:
        finish()
    assert (ledger.spent().tokens, ledger.spent().cost) == (used, cost / 10**9)
    ledger.close()


def test_the_budget_stops_a_run_and_keeps_its_replies(cache: Path) -> None:
    requests = questions(100)
    with Flaky() as server:
        limits = {"max_tokens": 20, "price_in": 1.0, "price_out": 2.0}
        with client(server, cache, changed(cost_budget=0.002, **limits)) as teacher:
            with pytest.raises(
                BudgetSpent, match=r"budget of 0\.002 of money is spent: 0\.0\d+ used .*might cost 0\.0\d+"
            ):
                teacher.ask_many(requests)
            spent = teacher.spent()
            assert 0.0015 < spent.cost <= 0.002
            assert spent.replies == len(server.log) > 10
        asked = len(server.log)
        with client(server, cache, changed(cost_budget=1.0, **limits)) as teacher:  # raised, it goes on from there
            assert right(requests, teacher.ask_many(requests))
        assert len(server.log) == 100 > asked


def test_without_counts_the_bound_is_booked(cache: Path) -> None:
    with Flaky(usage=False) as server, client(server, cache, changed(max_tokens=50)) as teacher:
        reply = teacher.ask("äb")
        assert (reply.prompt_tokens, reply.completion_tokens, reply.counted) == (len("user") + 3 + 16 + 128, 50, False)
        assert teacher.spent().tokens == reply.prompt_tokens + 50


def test_the_claims_of_a_dead_process_are_booked_as_lost(cache: Path) -> None:
    ledger = Ledger(cache, Prices(), Budget(1000))
    assert isinstance(ledger.claim("gone", Bound(300, 300), 60), Claim)
    expired = ledger.claim("expired", Bound(100, 100), -1)
    assert isinstance(expired, Claim)
    assert ledger.claim("gone", Bound(1, 1), 60) is None  # in flight, for all one knows
    with sqlite3.connect(cache) as file:
        file.execute("UPDATE held SET pid = 0, started = 0 WHERE key = 'gone'")
    assert isinstance(ledger.claim("gone", Bound(1, 1), 60), Claim)
    assert ledger.spent().lost_tokens == 800
    with pytest.raises(BudgetSpent):
        ledger.claim("next", Bound(101, 100), 60)
    ledger.book(expired, Reply("late", 10, 10, "m", "stop"))  # it was slow, not dead
    assert ledger.spent().tokens == 620
    ledger.close()


@pytest.mark.parametrize("jump", [-3600, 3600, 10**8])
def test_setting_the_clock_frees_no_claim(cache: Path, monkeypatch: pytest.MonkeyPatch, jump: int) -> None:
    one, other = Ledger(cache, Prices(), Budget()), Ledger(cache, Prices(), Budget())
    claim = one.claim("a", Bound(1, 1), 60)
    now, boot = time.time, psutil._psplatform.boot_time  # the kernel shifts the time of its start along
    monkeypatch.setattr(time, "time", lambda: now() + jump)
    monkeypatch.setattr(psutil._psplatform, "boot_time", lambda: boot() + jump)
    later = Ledger(cache, Prices(), Budget())
    for ledger in (one, other, later):
        assert ledger.claim("a", Bound(1, 1), 60) is None
    assert isinstance(claim, Claim)
    one.book(claim, Reply("text", 1, 1, "m", "stop"))
    assert other.claim("a", Bound(1, 1), 60) == Reply("text", 1, 1, "m", "stop", cached=True)
    assert other.spent().lost_tokens == 0
    for ledger in (one, other, later):
        ledger.close()


def test_a_claim_that_hangs_is_waited_for_as_long_as_a_lease(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = Ledger(cache, Prices(), Budget()), Ledger(cache, Prices(), Budget())
    one.claim("a", Bound(1, 1), 1000)
    now, passed = time.monotonic, 0
    monkeypatch.setattr(time, "monotonic", lambda: now() + passed)
    assert other.claim("a", Bound(1, 1), 60) is None
    passed = 50
    assert other.claim("a", Bound(1, 1), 60) is None
    passed = 70
    assert isinstance(other.claim("a", Bound(1, 1), 60), Claim)
    one.close()
    other.close()


# Retries and rates.


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != "timeout"])
def test_what_may_pass_is_tried_again(cache: Path, fault: str) -> None:
    with Flaky(always(fault, 2)) as server, client(server, cache) as teacher:
        assert teacher.ask("abc").text == "cba"
        assert len(server.log) == 3


def test_a_request_may_fail_alone(cache: Path) -> None:
    def plan(question: str, attempt: int) -> str | None:
        return {"question 3": "500", "question 4": "400"}.get(question)

    with Flaky(plan) as server, client(server, cache, changed(retries=2)) as teacher:
        replies = teacher.ask_many(questions(10))
        wrong = {n: reply for n, reply in enumerate(replies) if isinstance(reply, Failure)}
        host = server.url.removesuffix("/v1")
        assert wrong == {
            3: Failure(f"no reply after 3 attempts, at last since {host} answered 500: fault 500", 3),
            4: Failure(f"{host} refuses the request (400): fault 400", 1, refused=True),
        }
        with pytest.raises(TeacherFailed, match="no reply after 3 attempts"):
            teacher.ask("question 3")
        with pytest.raises(BadRequest, match="refuses the request"):
            teacher.ask("question 4")
        server.plan = always("400")
        with pytest.raises(BadRequest, match=f"refuses the request.*so with {REFUSALS} requests in a row"):
            teacher.ask_many(questions(500, 100))
        assert len(server.bodies) < 100


def test_delays_grow_with_full_jitter_after_what_the_server_asks(cache: Path) -> None:
    slept: list[float] = []
    with Flaky(always("500", 4)) as server:
        settings = changed(backoff=1.0, patience=1e5)
        with client(server, cache, settings, random=lambda: 0.5, wait=lambda _, s: slept.append(s)) as teacher:
            teacher.ask("a")
            assert slept == [0.5, 1, 2, 4]
            server.plan, slept[:] = always("429 wait", 1), []
            teacher.ask("b")
            assert slept == [0.55]


def test_an_endpoint_that_asks_for_too_long_a_wait_ends_the_run(cache: Path) -> None:
    with Flaky(always("429 long")) as server, client(server, cache) as teacher:
        with pytest.raises(EndpointGone, match=r"answered 429: come back tomorrow, and asks to wait 9,999 s"):
            teacher.ask_many(questions(100))
        assert len(server.log) <= FAST.concurrency


def test_an_account_that_is_used_up_ends_the_run(cache: Path) -> None:
    with Flaky(always("quota")) as server, client(server, cache) as teacher:
        with pytest.raises(BadRequest, match=r"the account of the key in LABKIT_TEACHER_KEY is used up.*: pay first$"):
            teacher.ask_many(questions(100))
        assert len(server.log) <= FAST.concurrency


def test_an_endpoint_that_always_wants_us_slower_ends_the_run(cache: Path) -> None:
    with Flaky(always("429")) as server, client(server, cache, changed(retries=1)) as teacher:
        with pytest.raises(EndpointGone, match=f"answered 429: fault 429; so with {REFUSALS} requests in a row"):
            teacher.ask_many(questions(1000))
        assert len(server.log) <= 2 * (REFUSALS + FAST.concurrency)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "2"}, 2.0),
        ({"retry-after": " 1.5 "}, 1.5),
        ({"retry-after": "9", "retry-after-ms": "250"}, 0.25),
        ({"retry-after": "Thu, 01 Jan 1970 00:01:40 GMT"}, 10.0),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:40 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-4"}, None),
        ({"retry-after": "inf"}, None),
        ({}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, now=90.0) == seconds


@given(st.floats(1, 1000), st.lists(st.floats(0, 30), min_size=2, max_size=100))
def test_turns_keep_the_rate(a_minute: float, gaps: list[float]) -> None:
    now = 0.0
    pace = Pace(a_minute, lambda: now)
    turns = []
    for gap in gaps:
        now += gap
        turns.append(now + pace.turn())
    assert all(later - earlier >= 60 / a_minute - 1e-6 for earlier, later in pairwise(turns))
    assert turns[0] == gaps[0]  # nobody waits for nothing


def test_the_rate_holds_across_threads(cache: Path) -> None:
    now, lock, slept = 0.0, threading.Lock(), []

    def wait(over: threading.Event, seconds: float) -> None:
        with lock:
            slept.append(seconds)

    with (
        Flaky() as server,
        client(server, cache, changed(requests_a_minute=60), clock=lambda: now, wait=wait) as teacher,
    ):
        teacher.ask_many(questions(20))
        assert sorted(s for s in slept if s >= 1) == list(range(1, 20))  # a busy ledger is waited for in milliseconds


def test_an_endpoint_is_given_up_after_many_failures_over_some_time() -> None:
    now = 0.0
    health = Health(2, 10.0, lambda: now)
    assert [health.failed() for _ in range(9)] == [None] * 9  # many, at one time
    now = 10.0
    assert health.failed() == 10.0
    assert [health.failed() for _ in range(3)] == [None] * 3  # counted anew
    now = 99.0
    health.answered()
    assert health.failed() is None  # a long time, but one
    assert not any(health.refused() for _ in range(REFUSALS - 1))
    assert health.refused()


def test_an_endpoint_that_goes_ends_the_run_in_seconds(cache: Path) -> None:
    requests = questions(5000)
    with Flaky(delay=0.001) as server, client(server, cache) as teacher:
        threading.Timer(0.5, server.stop).start()
        with pytest.raises(
            EndpointGone, match=r"no endpoint answers at .*Connection refused.*what was answered is kept"
        ):
            teacher.ask_many(requests)
        # A reply that was handed to the system and never read is in the server's log alone.
        assert 0 < len(server.log) - teacher.spent().replies + FAST.concurrency <= 2 * FAST.concurrency
        with Flaky() as other:
            at(other.url)


def test_an_interrupt_ends_at_once_and_keeps_what_arrives(cache: Path) -> None:
    with Flaky(delay=0.2) as server, client(server, cache) as teacher:
        threading.Timer(0.3, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            teacher.ask_many(questions(500))
        while teacher.spent().replies < len(server.bodies):
            time.sleep(0.01)
        assert len(server.bodies) <= 2 * FAST.concurrency


def test_nobody_waits_for_a_client_that_was_closed(cache: Path) -> None:
    with Flaky(always("timeout", 1)) as server:
        teacher = client(server, cache)

        def ask() -> None:
            with suppress(sqlite3.ProgrammingError):  # nothing can be written any more
                teacher.ask_many(questions(1))

        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        while not server.log:
            time.sleep(0.01)
        teacher.close()
        teacher.close()
        with client(server, cache) as other:
            assert right(questions(1), other.ask_many(questions(1)))
            assert other.spent().lost_tokens > 1024
        server.stop()
        thread.join()


def test_a_truncated_reply_says_so(cache: Path) -> None:
    choice = {"message": {"role": "assistant", "content": None}, "finish_reason": "length"}
    with Flaky(say={"choices": [choice], "model": None}) as server, client(server, cache) as teacher:
        reply = teacher.ask("a")
        assert (reply.text, reply.truncated, reply.model) == ("", True, "teacher")
        again = teacher.ask("a")
        assert again == reply._replace(cached=True)


@pytest.mark.parametrize("text", ["\0", "\ud800", "😀", "a\r\nb", ""])
def test_odd_replies_are_kept(cache: Path, text: str) -> None:
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    with Flaky(say={"choices": [choice]}) as server, client(server, cache) as teacher:
        assert teacher.ask("a").text == teacher.ask("a").text == text.replace("\ud800", "\ufffd")


# What is refused, in one sentence each, before anything is spent.


def test_the_models_are_asked_first(cache: Path) -> None:
    with Flaky(models=("teacher", "judge")) as server, client(server, cache) as teacher:
        assert teacher.check() == ["teacher", "judge"]
        assert server.log == []
    with Flaky(models=None) as server, client(server, cache) as teacher:
        assert teacher.check() == []
    with Flaky(models=("models/teacher",)) as server, client(server, cache) as teacher:
        assert teacher.check() == ["models/teacher"]


def test_an_unknown_model_is_named_with_the_nearest(cache: Path) -> None:
    with Flaky(models=("teacher", "judge")) as server, client(server, cache, changed(model="teecher")) as teacher:
        for refused in (teacher.check, lambda: teacher.ask("a"), lambda: teacher.ask_many(questions(50))):
            with pytest.raises(
                BadRequest, match=r"unknown model.*'teecher': did you mean 'teacher'\? .*: teacher, judge"
            ):
                refused()
        assert len(server.bodies) <= 1 + FAST.concurrency
        assert teacher.spent() == (0, 0, 0, 0, 0.0)


def test_a_wrong_key_is_refused(cache: Path) -> None:
    with Flaky(key=KEY) as server:
        for key, why in (("sk-another-key", "set it to one that it knows"), ("", "it is not set")):
            at(server.url, key)
            with Client(FAST, cache) as teacher:
                for refused in (teacher.check, lambda: teacher.ask("a"), lambda: teacher.ask_many(questions(50))):
                    with pytest.raises(BadRequest, match=rf"refuses the key in LABKIT_TEACHER_KEY \(401\): {why}$"):
                        refused()


def test_no_endpoint_is_refused(cache: Path) -> None:
    with Flaky() as server:
        pass  # its port is free again
    with client(server, cache) as teacher:
        sentence = rf"^no endpoint answers at http://127.0.0.1:{server.port} \(Connection refused\): start it"
        with pytest.raises(BadRequest, match=sentence):
            teacher.check()


def test_an_address_without_v1_is_refused(cache: Path) -> None:
    with Flaky() as server:
        at(server.url.removesuffix("/v1"))
        with Client(FAST, cache) as teacher, pytest.raises(BadRequest, match=r"LABKIT_TEACHER_URL usually ends in /v1"):
            teacher.ask("a")


@pytest.mark.parametrize(
    ("url", "key", "sentence"),
    [
        ("", "", "^no teacher is named: set LABKIT_TEACHER_URL"),
        ("localhost:8000/v1", "", "^LABKIT_TEACHER_URL is no address"),
        ("ftp://h/v1", "", "is no address"),
        ("http:///v1", "", "is no address"),
        ("http://h:99999/v1", "", "is no address"),
        ("http://h/v1?key=1234567890", "", r"is no address.*no \?"),
        ("http://me:password9@h/v1", "sk-1234567890", "holds a user, and LABKIT_TEACHER_KEY is set too"),
        ("http://h/v1", "sk-äöü-1234567", "^the key in LABKIT_TEACHER_KEY holds a space or a character"),
        ("http://h/v1", "sk 1234567890", "^the key in LABKIT_TEACHER_KEY holds a space"),
    ],
)
def test_an_environment_without_sense_is_refused(cache: Path, url: str, key: str, sentence: str) -> None:
    at(url, key)
    with pytest.raises(BadRequest, match=sentence) as caught:
        Client(FAST, cache)
    shown = everything_of(caught.value)
    assert not any(secret in shown for secret in ("1234567", "password9"))
    assert not cache.exists()


def test_the_key_of_openai_goes_to_its_own_address_alone(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Flaky() as server:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-openai-1234")
        at(server.url)
        with Client(FAST, cache) as teacher:
            teacher.ask("a")
        monkeypatch.delenv("LABKIT_TEACHER_URL")
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        with Client(FAST, cache) as teacher:
            teacher.ask("b")
        assert [headers["authorization"] for headers in server.headers] == ["Bearer none", "Bearer sk-openai-1234"]


@pytest.mark.parametrize(
    "fields",
    [
        {"model": " "},
        {"timeout": 0},
        {"retries": -1},
        {"concurrency": 0},
        {"requests_a_minute": 0},
        {"max_tokens": 0},
        {"temperature": float("nan")},
        {"token_budget": -1},
        {"cost_budget": float("inf"), "price_in": 1},
        {"cost_budget": 1},
        {"price_out": -1},
        {"limit_name": "n"},
    ],
)
def test_settings_without_sense_are_refused(fields: dict[str, object]) -> None:
    with pytest.raises(BadRequest, match=next(iter(fields))):
        changed(**fields)


@pytest.mark.parametrize(
    "request_", [Request([]), Request([{"role": "user", "content": "\ud800"}]), Request([], 0), Request([], sample=-1)]
)
def test_a_request_without_sense_is_refused_before_any_is_sent(cache: Path, request_: Request) -> None:
    with Flaky() as server, client(server, cache) as teacher:
        with pytest.raises(BadRequest):
            teacher.ask_many([*questions(3), request_])
        assert server.bodies == []


def test_a_damaged_or_foreign_file_is_refused(cache: Path, tmp_path: Path) -> None:
    with Flaky() as server:
        with client(server, cache) as teacher:
            teacher.ask_many(questions(100))
        whole = cache.read_bytes()
        for name, content in {"text": b"no database " * 999, "half": whole[:5000], "hole": _hole(whole)}.items():
            damaged = tmp_path / name
            damaged.write_bytes(content)
            with pytest.raises(
                BadRequest, match=f"^damaged file of the teacher's replies: {damaged} .*; move it away$"
            ):
                client(server, damaged)
            assert damaged.read_bytes() == content
        foreign = tmp_path / "foreign"
        with sqlite3.connect(foreign) as file:
            file.execute("CREATE TABLE mine (x INT)")
        with pytest.raises(BadRequest, match=f"^{foreign} is a database, but not one of a teacher's replies"):
            client(server, foreign)
        with pytest.raises(BadRequest, match=r"^cannot write the teacher's replies to .*/replies.sqlite/x"):
            client(server, cache / "x")
        with pytest.raises(BadRequest, match=f"^cannot write the teacher's replies to {tmp_path}:"):
            client(server, tmp_path)


def _hole(data: bytes) -> bytes:
    return data[:8192] + b"\xff" * 4096 + data[12288:]


# The key is nowhere.


@pytest.fixture
def _logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.DEBUG):
        for name in ("openai", "httpx", "httpcore", "httpx2", "httpcore2"):
            logging.getLogger(name).setLevel(logging.DEBUG)
        yield
        for name in ("openai", "httpx", "httpcore", "httpx2", "httpcore2"):
            logging.getLogger(name).setLevel(logging.NOTSET)


def shapes(secret: str) -> list[str]:
    """The forms in which a secret may turn up."""
    lower = "".join(f"%{byte:02x}" for byte in secret.encode())
    coded = [b64encode(text.encode()).decode().rstrip("=") for text in (secret, f":{secret}", f"{secret}")]
    return [secret, quote(secret, safe=""), quote(secret), lower, json.dumps(secret)[1:-1], repr(secret)[1:-1], *coded]


def no_secret(text: str, secret: str = KEY) -> bool:
    return not any(shape in text for shape in shapes(secret))


def everything_of(error: BaseException) -> str:
    """All that a traceback may show: chained exceptions, even those suppressed, and local variables."""
    parts = []
    seen: BaseException | None = error
    while seen is not None:
        frames = [(f, line) for f, line in traceback.walk_tb(seen.__traceback__) if f.f_code.co_filename != __file__]
        assert frames
        parts += [
            *traceback.StackSummary.extract(iter(frames), capture_locals=True).format(),
            repr(seen),
            repr(vars(seen)),
        ]
        seen = seen.__cause__ or seen.__context__
    return "".join(parts)


@pytest.mark.usefixtures("_logged")
def test_the_key_is_in_no_message_log_repr_or_file(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    echo = " ".join(shapes(KEY))
    for status in ("400", "401", "403", "404", "500", "429"):
        with Flaky(key="another", echo=echo) as server:
            at(server.url, KEY)
            with Client(changed(retries=1), cache) as teacher:
                if status != "401":
                    server.key = KEY
                    server.plan = always(status)
                for refused in (teacher.check, lambda: teacher.ask("a"), lambda: teacher.ask_many(questions(2))):
                    try:
                        outcome: object = refused()
                    except (BadRequest, TeacherFailed) as error:
                        outcome = everything_of(error)
                    assert no_secret(str(outcome)), status
                assert no_secret(repr(teacher) + repr(vars(teacher)) + repr(vars(teacher._transport)))
    choice = {"message": {"role": "assistant", "content": f"you sent {echo}"}, "finish_reason": KEY}
    with Flaky(key=KEY, say={"choices": [choice], "model": KEY}) as server, client(server, cache) as teacher:
        reply = teacher.ask("a")
        assert no_secret(str(reply))
        assert reply.text.startswith("you sent *** ***")
        teacher.ask(f"the key is {KEY}")
        for file in cache.parent.iterdir():
            assert no_secret(file.read_bytes().decode("latin-1"))
    try:
        raise RuntimeError(f"Bearer {KEY}")
    except RuntimeError:
        logging.getLogger("somebody").exception("with %s and %s", KEY, quote(KEY, safe=""))
    assert "Sending HTTP Request" in caplog.text or "HTTP Request" in caplog.text
    assert "receive_response_headers" in caplog.text  # where the server's echo would be
    assert "***" in caplog.text
    assert no_secret(caplog.text)


def test_a_user_in_the_address_is_sent_and_not_shown(cache: Path) -> None:
    password = "p@ss word/9:x"
    with Flaky() as server:
        at(server.url.replace("http://", f"http://me:{quote(password, safe='')}@"))
        with Client(FAST, cache) as teacher:
            assert teacher.ask("a").text == "a"
            code = b64encode(f"me:{password}".encode()).decode()
            assert server.headers[-1]["authorization"] == f"Basic {code}"
            assert code not in repr(teacher) + repr(vars(teacher._transport))
            assert no_secret(repr(teacher), password)
            assert teacher._transport.redact(f"{code.rstrip('=')} {password} {quote(password)}") == "*** *** ***"
            server.stop()
            with pytest.raises(BadRequest) as caught:
                teacher.check()
            assert str(caught.value).startswith(f"no endpoint answers at http://127.0.0.1:{server.port} (")
            assert no_secret(everything_of(caught.value), password)
    at(server.url)
    with Client(FAST, cache) as teacher:  # who asks does not decide what is answered
        assert teacher.ask("a").cached


@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=8, max_size=40), st.text(), st.text())
def test_every_form_of_a_secret_is_hidden(secret: str, before: str, after: str) -> None:
    redact = Redactor([secret])
    for shape in shapes(secret):
        assert shape not in redact(f"{before}{shape}{after}") or shape in before + after
    assert redact("a word of a reply") == "a word of a reply"


def test_a_placeholder_is_no_secret() -> None:
    assert Redactor(["EMPTY", "none", ""])("EMPTY or none") == "EMPTY or none"
