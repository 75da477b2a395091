"""A mix is whole or known as unfinished, whatever the disk does, and the same command goes on."""

import json
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from labkit import BadRequest
from labkit.design import durable, mixture
from labkit.design.durable import UNFINISHED, write_folder
from labkit.design.mixture import mix

TEST = "one two three four five six seven eight nine ten eleven twelve thirteen"


class Killed(BaseException):
    """The process is gone: nothing that it does from here on reaches the disk."""


LOST = {"power": slice(None), "power, odd": slice(None, None, 2), "power, even": slice(1, None, 2)}


class Disk:
    """Files whose n-th write, sync or change of names fails: `full` says so; `kill` and `power` end the process.

    With a `power` cut also goes what was not synced: the bytes of files, and of the changes of names in folders all,
    every second or the others, since a disk may write them in any order.
    """

    def __init__(self, patch: pytest.MonkeyPatch, n: int, how: str) -> None:
        self.left, self.how, self.dead = n, how, False
        self.unsynced: dict[int, Path] = {}  # files by inode
        self.undo: list[tuple[int, Callable[[], object]]] = []  # changes of names by their folder's inode
        self.real = {name: getattr(os, name) for name in ("fsync", "replace", "unlink", "mkdir", "rmdir")}
        for name in self.real:
            patch.setattr(os, name, getattr(self, name))
        opening = Path.open
        patch.setattr(
            Path, "open", lambda path, mode="r", **kw: self.opened(opening(path, mode, **kw), path) if mode == "w" else
            opening(path, mode, **kw),
        )  # fmt: skip

    def step(self) -> None:
        if self.dead:
            raise Killed
        self.left -= 1
        if self.left == 0:
            if self.how == "full":
                raise OSError(28, "No space left on device")
            self.dead = True
            if self.how in LOST:
                self.cut()
            raise Killed

    def cut(self) -> None:
        inodes = {inode for inode, _ in self.unsynced.items()}
        for _, change in self.undo[LOST[self.how]][::-1]:
            change()
        for path in {path.parent for path in self.unsynced.values()} | {
            p.parent.parent for p in self.unsynced.values()
        }:
            for file in path.glob("*") if path.exists() else ():
                if file.is_file() and file.stat().st_ino in inodes:
                    os.truncate(file, 0)

    def opened(self, file: Any, path: Path) -> Any:
        disk = self

        class Writing:
            def __enter__(self) -> "Writing":
                return self

            def __exit__(self, *_: object) -> None:
                file.close()

            def writelines(self, lines: Iterable[str]) -> None:
                text = "".join(lines)
                disk.unsynced[os.fstat(file.fileno()).st_ino] = path
                file.write(text[: len(text) // 2])
                file.flush()
                disk.step()
                file.write(text[len(text) // 2 :])

            flush, fileno = file.flush, file.fileno

        disk.step()
        return Writing()

    def fsync(self, handle: int) -> None:
        self.step()
        inode = os.fstat(handle).st_ino
        self.unsynced.pop(inode, None)
        self.undo = [(folder, change) for folder, change in self.undo if folder != inode]
        self.real["fsync"](handle)

    def changed(self, path: Path, change: Callable[[], object]) -> None:
        self.undo.append((path.parent.stat().st_ino, change))

    def replace(self, old: Path, new: Path) -> None:
        self.step()
        former = new.read_bytes() if new.exists() else None
        self.real["replace"](old, new)

        def back() -> None:
            if new.exists() and old.parent.exists():
                self.real["replace"](new, old)
            if former is not None:
                new.write_bytes(former)

        self.changed(Path(new), back)

    def unlink(self, path: Any, **where: Any) -> None:
        self.step()
        former = None if where else Path(path).read_bytes() if Path(path).exists() else None
        self.real["unlink"](path, **where)
        if former is not None:
            self.changed(Path(path), lambda: Path(path).exists() or Path(path).write_bytes(former))

    def mkdir(self, path: Path, mode: int = 0o777) -> None:
        self.step()
        self.real["mkdir"](path, mode)

    def rmdir(self, path: Any, **where: Any) -> None:
        self.step()
        self.real["rmdir"](path, **where)


def source(folder: Path, words: str) -> Path:
    asked = [*(f"{words} {i}" for i in range(5)), TEST]
    (folder / "a.jsonl").write_text("".join(json.dumps({"instruction": t, "output": "o"}) + "\n" for t in asked))
    (folder / "t.jsonl").write_text(json.dumps({"prompt": TEST}))
    return spec(folder, seed=0)


def spec(folder: Path, **more: Any) -> Path:
    plan = {"sources": [{"path": "a.jsonl", "weight": 1}], "examples": 5, "decontaminate": ["t.jsonl"], **more}
    (folder / "spec.yaml").write_text(json.dumps(plan))
    return folder / "spec.yaml"


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def check(out: Path) -> bool:
    """Whether the folder holds a finished set; what has a manifest is whole."""
    if not (out / "manifest.json").exists():
        return False
    manifest = json.loads((out / "manifest.json").read_text())
    seal = sha256(json.dumps(manifest["spec"], sort_keys=True).encode() + (out / "train.jsonl").read_bytes())
    assert manifest["fingerprint"] == seal.hexdigest()
    pairs = (out / "contaminated.jsonl").read_text().splitlines()
    assert len(pairs) == manifest["contaminated"]["pairs"]
    return True


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # the machine stays up


def write(out: Path, words: str) -> None:
    """A result of one spec, made of other words each time, as after a change of its sources."""
    manifest = json.dumps({"spec": "s", "seal": sha256(words.encode()).hexdigest()})
    write_folder(out, "s", {"train.jsonl": [words] * 9, "contaminated.jsonl": None, "manifest.json": [manifest]})


def whole(out: Path, words: str) -> bool:
    """Whether the folder is finished; what has a manifest is of one run."""
    if not (out / "manifest.json").exists():
        return False
    assert json.loads((out / "manifest.json").read_text())["seal"] == sha256(words.encode()).hexdigest()
    assert (out / "train.jsonl").read_text() == words * 9
    return True


@pytest.mark.parametrize("former", [False, True], ids=["new", "former"])
@pytest.mark.parametrize("how", ["full", "kill", *LOST])
def test_after_any_fault_a_result_is_whole_or_unfinished_and_goes_on(how: str, former: bool, tmp_path: Path) -> None:
    """Each access to the disk fails in turn: the first, the second, ..."""
    for n in count(1):
        out = tmp_path / str(n) / "out"
        if former:
            write(out, "former")
            (out / "contaminated.jsonl").write_text("former")
        before = contents(out)
        with pytest.MonkeyPatch.context() as patch:
            disk = Disk(patch, n, how)
            try:
                write(out, "new")
            except (Killed, BadRequest) as error:
                failure: BaseException | None = error
            else:
                failure = None
        if disk.left > 0:  # all were tried
            assert n > 15
            return
        is_new = (out / "train.jsonl").exists() and "new" in (out / "train.jsonl").read_text()
        finished = whole(out, "new" if is_new else "former")
        assert finished or failure
        if isinstance(failure, BadRequest):
            assert str(failure) == f"{out} cannot be written: No space left on device"
            assert not (out / UNFINISHED / "train.jsonl").exists() or is_new
            if not is_new:
                assert former == out.parent.exists()
                assert contents(out) == before or not finished
        write(out, "new")
        assert whole(out, "new")
        assert sorted(contents(out)) == ["manifest.json", "train.jsonl"]


def test_the_same_command_goes_on_after_a_kill(tmp_path: Path) -> None:
    made = source(tmp_path, "a")
    mix(made, tmp_path / "whole")
    for n in range(1, 26, 6):
        with pytest.MonkeyPatch.context() as patch:
            Disk(patch, n, "kill")
            with pytest.raises(Killed):
                mix(made, tmp_path / str(n))
        mix(made, tmp_path / str(n))
        assert contents(tmp_path / str(n)) == contents(tmp_path / "whole")


def test_ctrl_c_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    made, former = source(tmp_path, "a"), tmp_path / "former"
    mix(made, former)
    before = contents(former)
    monkeypatch.setattr(os, "fsync", interrupt)
    for out in (former, tmp_path / "new" / "er"):
        with pytest.raises(KeyboardInterrupt):
            mix(made, out)
    assert contents(former) == before
    assert not (former / UNFINISHED).exists()
    assert not (tmp_path / "new").exists()


def test_only_the_same_spec_goes_on_where_files_are_in_place(tmp_path: Path) -> None:
    made, out = source(tmp_path, "a"), tmp_path / "out"
    mix(made, out)
    stage = out / UNFINISHED
    stage.mkdir()
    (stage / "spec.json").write_text(json.dumps({"spec": json.loads((out / "manifest.json").read_text())["spec"]}))
    (out / "manifest.json").unlink()
    with pytest.raises(BadRequest, match="holds no mix of this very spec"):
        mix(spec(tmp_path, seed=1), out)
    mix(source(tmp_path, "a"), out)
    assert check(out)
    assert not stage.exists()


def test_what_was_never_put_in_place_stops_nobody(tmp_path: Path) -> None:
    stage = tmp_path / "out" / UNFINISHED
    stage.mkdir(parents=True)
    for name in ("spec.json", "train.jsonl"):
        (stage / name).write_text('{"spec": ')
    mix(source(tmp_path, "a"), tmp_path / "out")
    assert sorted(contents(tmp_path / "out")) == ["contaminated.jsonl", "manifest.json", "train.jsonl"]
    assert not stage.exists()


@pytest.mark.parametrize("name", ["train.jsonl", "notes.txt", "manifest.json", f"{UNFINISHED}/spec.json"])
def test_the_files_of_others_are_left_alone(name: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / name).parent.mkdir(parents=True)
    (out / name).write_text("[" * 9)
    (out / "mine.txt").write_text("mine")
    before = contents(out)
    with pytest.raises(BadRequest, match="is not empty"):
        mix(source(tmp_path, "a"), out)
    assert contents(out) == before


def test_two_at_once_make_one_set(tmp_path: Path) -> None:
    made, out = source(tmp_path, "a"), tmp_path / "out"
    with ThreadPoolExecutor(4) as pool:
        manifests = list(pool.map(lambda _: mix(made, out), range(8)))
    assert all(manifest == manifests[0] for manifest in manifests)
    assert check(out)
    assert not (out / UNFINISHED).exists()


def test_a_folder_is_not_judged_while_another_process_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the removal of the former manifest and the new one there is nothing to know its owner by."""
    made, out = source(tmp_path, "a"), tmp_path / "out"
    asked = mixture.Mixture.load(made).model_dump(mode="json")
    mix(made, out)
    put, judged = durable._put_in_place, []

    def put_in_place(folder: Path, contents: durable.Contents) -> None:
        (folder / "manifest.json").unlink()
        (folder / UNFINISHED / "spec.json").unlink()
        judged.append(pool.submit(durable.check_folder, out, asked))
        with pytest.raises(TimeoutError):  # it waits, however long this takes
            judged[0].result(timeout=0.2)
        put(folder, contents)

    monkeypatch.setattr(durable, "_put_in_place", put_in_place)
    with ThreadPoolExecutor(1) as pool:
        mix(made, out)
        judged[0].result(timeout=60)
    assert check(out)


@pytest.mark.parametrize(
    ("out", "says"),
    [
        ("x" * 300, "name too long"),
        ("/".join(["x" * 200] * 30), "name too long"),
        ("a.jsonl", "a.jsonl is no folder"),
        ("a.jsonl/out", "a.jsonl is no folder"),
        ("/proc/none/out", "cannot be written"),
    ],
)
def test_a_folder_that_cannot_be_made_is_one_sentence(out: str, says: str, tmp_path: Path) -> None:
    made = source(tmp_path, "a")
    before = contents(tmp_path)
    with pytest.raises(BadRequest, match=says) as refusal:
        mix(made, tmp_path / out)
    assert "\n" not in str(refusal.value)
    assert contents(tmp_path) == before


def test_a_read_only_folder_is_refused_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(mixture, "compose", lambda *_: pytest.fail("work was done"))
    with pytest.raises(BadRequest, match=r"out cannot be written: .* is read-only; name a new folder"):
        mix(source(tmp_path, "a"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_home_folder_is_meant_by_its_sign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source(tmp_path, "a")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setenv("HOME", str(tmp_path))
    spec(tmp_path, sources=[{"path": "~/a.jsonl", "weight": 1}], decontaminate=["~/t.jsonl"])
    mix("~/spec.yaml", "~/out")
    assert check(tmp_path / "out")
    (tmp_path / "~a.jsonl").write_bytes((tmp_path / "a.jsonl").read_bytes())  # a name, and nobody's home
    mix(spec(tmp_path, sources=[{"path": "~a.jsonl", "weight": 1}]), tmp_path / "other")
    assert not list((tmp_path / "elsewhere").iterdir())
