"""What the kernel holds a sandbox to: calls that are not there, memory and files that are counted, users of its own."""

import ctypes
import os
import struct
from pathlib import Path

import needs
import pytest

from labkit.grade import confine, sandbox
from labkit.grade.sandbox import Limits, Program, Verdict, run

CALLS = "import ctypes, os, socket\nlibc = ctypes.CDLL(None, use_errno=True)\n"
CALLS += "def call(*args): return libc.syscall(*args) if libc.syscall(*args) < 0 else 0\n"
SHORT = Limits(cpu_seconds=5, wall_seconds=10, memory_bytes=256 << 20)


@pytest.fixture(autouse=True)
def _bubblewrap() -> None:
    needs.bubblewrap()


def graded(*solutions: str, test: str = "assert f()") -> list[Verdict]:
    return run([Program(CALLS + solution, test, "f") for solution in solutions], SHORT, workers=1)


def test_what_no_limit_counts_and_what_is_not_the_programs_is_not_there() -> None:
    if not confine.filter_program():
        pytest.skip("no filter for this processor")
    column = confine.MACHINES[os.uname().machine][0]
    numbers = [pair[column] for pair in confine.DENIED.values()] + [confine.KEYCTL[column]]
    clone = confine.CLONE[column]
    tried = f"""import subprocess
def f():
  seen = [(n, call(n, 0, 0, 0, 0), ctypes.get_errno()) for n in {numbers}]
  seen += [({clone}, call({clone}, flag | 17, 0, 0, 0, 0), ctypes.get_errno()) for flag in (1 << 29, 1 << 17, 1 << 7)]
  made = []
  for family in range(46):
    try: made.append(socket.socket(family, 3 if family > 10 else 1).family)
    except OSError: pass
  return [one for one in seen if one[1] != -1 or one[2] not in (1, 38)], [*map(int, made)]
def g(): return subprocess.run(['true']).returncode
"""
    test = f"assert f() == ([], {sorted(map(int, confine.FAMILIES))}), f()\nassert g() == 0"
    (verdict,) = graded(tried, test=test)
    assert verdict.outcome == "passed", verdict


def test_the_filter_sends_other_architectures_and_x32_away() -> None:
    """By an interpreter of the four instructions that the filter is made of."""
    steps = [
        struct.unpack("HBBI", part) for part in struct.iter_unpack("8s", confine.filter_program()) for part in part
    ]
    if not steps:
        pytest.skip("no filter for this processor")
    column, architecture = confine.MACHINES[os.uname().machine]

    def decided(number: int, arch: int, *args: int) -> int:
        data = struct.pack("iIQ6Q", number, arch, 0, *(args + (0,) * 6)[:6])
        at, value = 0, 0
        while True:
            code, yes, no, k = steps[at]
            at += 1
            if code == confine.RETURN:
                return k
            if code == confine.LOAD:
                (value,) = struct.unpack_from("I", data, k)
            else:
                holds = {confine.EQUAL: value == k, confine.AT_LEAST: value >= k, confine.ANY_BIT: bool(value & k)}
                at += yes if holds[code] else no

    getpid = (39, 172)[column]
    assert decided(getpid, architecture) == confine.ALLOW
    assert decided(getpid, 0x40000003) != confine.ALLOW  # 32 bits
    assert column or decided(getpid | 0x40000000, architecture) != confine.ALLOW
    assert decided(confine.KEYCTL[column], architecture, 1) == confine.ALLOW  # a ring without a name
    assert decided(confine.KEYCTL[column], architecture, 1, 1 << 32) != confine.ALLOW
    assert decided(confine.KEYCTL[column], architecture, 11) != confine.ALLOW
    assert decided(confine.CLONE[column], architecture, 17) == confine.ALLOW
    for name, number in confine.DENIED.items():
        assert decided(number[column], architecture) != confine.ALLOW, name


def test_the_session_ring_of_the_starter_is_not_the_sandboxes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the filter, which would hide it anyway."""
    libc, machine = ctypes.CDLL(None, use_errno=True), os.uname().machine
    if machine not in confine.MACHINES:
        pytest.skip("the number of the call is not known")
    keyctl = confine.KEYCTL[confine.MACHINES[machine][0]]
    ours = libc.syscall(keyctl, 0, -3, 0)
    if ours < 0:
        pytest.skip("no key rings here")
    monkeypatch.setattr(sandbox, "filter_program", lambda: b"")
    (verdict,) = graded(f"def f(): return libc.syscall({keyctl}, 0, -3, 0)", test=f"assert f() not in (-1, {ours})")
    assert verdict.outcome == "passed", verdict


def test_files_are_counted() -> None:
    many = "def f():\n  for n in range(10**6): os.close(os.open(str(n), os.O_CREAT))"
    verdict, after = graded(many, "def f(): return os.listdir('/tmp') == []")
    assert verdict.outcome in ("crash", "memory", "timeout")
    assert after.outcome == "passed", after


def test_memory_of_all_processes_is_counted_together() -> None:
    small = Limits(cpu_seconds=5, wall_seconds=10, memory_bytes=128 << 20)
    group = sandbox.group(small)
    group.close()
    if not group.version:
        pytest.skip("no control group can be made here")
    hoard = """import time
def f():
  for n in range(8):
    if os.fork() == 0:
      kept = bytearray(70 << 20)
      for i in range(0, len(kept), 4096): kept[i] = 1
      time.sleep(0.5)
      os._exit(0)
  return {os.wait()[1] for n in range(8)} == {0}"""
    programs = [Program(CALLS + text, "assert f()", "f") for text in (hoard, "def f(): return True")]
    verdict, after = run(programs, small, workers=1)
    assert (verdict.outcome, after.outcome) == ("memory", "passed"), (verdict, after)


def test_a_group_leaves_nothing_and_says_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    group = sandbox.group(Limits())
    folders = list(group.folders.values())
    group.close()
    assert not any(folder.exists() for folder in folders)
    monkeypatch.setattr(confine, "_places", list)
    none = sandbox.group(Limits())
    assert (none.version, none.killed(), none.entering(["true"])) == (0, 0, ["true"])
    assert "no control group" in sandbox.described(True)
    assert graded("def f(): return True")[0].outcome == "passed"


def test_groups_of_both_versions_are_found_where_they_are_mounted(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {
        "/proc/self/cgroup": "4:memory:/a/b\n3:pids:/\n0::/user/mine\n",
        "/proc/self/mountinfo": "1 0 0:1 / /c/memory rw - cgroup cgroup rw,memory\n"
        "2 0 0:2 / /c/pids rw - cgroup cgroup rw,pids\n3 0 0:3 /user /c/two rw - cgroup2 cgroup2 rw\n",
    }
    monkeypatch.setattr(confine.Path, "read_text", lambda path, *_: texts[str(path)])
    monkeypatch.setattr(confine, "_delegated", lambda folder: True)
    one = (1, {"memory": Path("/c/memory/a/b"), "pids": Path("/c/pids")})
    two = [(2, {"memory": Path(at), "pids": Path(at)}) for at in ("/c/two/mine", "/c/two")]
    assert confine._places() == [*two, one]


def test_user_ids_are_nobody_elses() -> None:
    several = [confine.UserIds() for _ in range(20)]
    pairs = {uid for ids in several for uid in ids.pair}
    assert len(pairs) == 40
    assert pairs <= set(range(confine.FIRST_UID, confine.FIRST_UID + confine.USERS))
    for ids in several:
        ids.close()


def test_two_runs_at_once_do_not_share_their_limits() -> None:
    from threading import Thread

    threads = """import threading, time
def f():
  several = [threading.Thread(target=time.sleep, args=(0.4,)) for _ in range(6)]
  for t in several: t.start()
  for t in several: t.join()
  return True"""
    verdicts: list[Verdict] = []
    runs = [Thread(target=lambda: verdicts.extend(run([Program(threads, "assert f()", "f")]))) for _ in range(3)]
    for thread in runs:
        thread.start()
    for thread in runs:
        thread.join()
    assert [verdict.outcome for verdict in verdicts] == ["passed"] * 3, verdicts
