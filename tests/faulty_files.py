"""Files that fail: the n-th write, sync or rename of this process goes wrong, as on a bad disk or in a power cut.

    with faulty_files(root, 3, "power cut") as layer:
        ...  # the third operation below `root` raises Killed, and so does every later one
    layer.reached  # was there a third one?

Kinds: "full" (ENOSPC) and "broken" (EIO) fail once, a write after half of its text; "kill" ends everything from there
on, as SIGKILL does: nothing is cleaned up; "power cut" is a kill after which files that were not synced are empty.

Limits: sees what goes through `open`, pathlib and `os`, not what native code writes; one process, one thread.
"""

import builtins
import errno
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

ONCE = {"full": errno.ENOSPC, "broken": errno.EIO}
KINDS = [*ONCE, "kill", "power cut"]


class Killed(BaseException):
    """The process is no more: no handler of errors sees this."""


class Layer:
    """Counts the operations below a folder and fails one."""

    def __init__(self, root: Path, nth: int, kind: str) -> None:
        self.root, self.nth, self.kind = root, nth, kind
        self.operations, self.reached = 0, False
        self.unsynced: set[int] = set()

    def fails(self) -> bool:
        """Is this operation the one? A dead process makes no other."""
        self.operations += 1
        if self.operations < self.nth or (self.reached and self.kind in ONCE):
            return False
        self.reached = True
        return True

    def fail(self) -> None:
        if self.kind in ONCE:
            raise OSError(ONCE[self.kind], os.strerror(ONCE[self.kind]), str(self.root))
        raise Killed

    def check(self) -> None:
        if self.fails():
            self.fail()

    def cut_power(self) -> None:
        """What was not synced is empty, though its name may be there."""
        for path in self.root.rglob("*"):
            if path.is_file() and path.stat().st_ino in self.unsynced:
                os.truncate(path, 0)


class FaultyFile:
    """A file open for writing."""

    def __init__(self, file: Any, layer: Layer) -> None:
        self.file, self.layer = file, layer
        layer.unsynced.add(os.fstat(file.fileno()).st_ino)

    def write(self, text: Any) -> Any:
        if self.layer.fails():
            self.file.write(text[: len(text) // 2])
            self.file.flush()
            self.layer.fail()
        return self.file.write(text)

    def __enter__(self) -> "FaultyFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


@contextmanager
def faulty_files(root: Path, nth: int, kind: str) -> Iterator[Layer]:
    """Let the `nth` operation (from 1) on files below `root` fail in the way of `kind`."""
    layer = Layer(root, nth, kind)
    plain_open = io.open

    def opened(path: Any, mode: str = "r", *rest: Any, **options: Any) -> Any:
        file = plain_open(path, mode, *rest, **options)
        return FaultyFile(file, layer) if set(mode) & set("wax+") and str(path).startswith(str(root)) else file

    def synced(handle: int) -> None:
        layer.check()  # nothing is really synced: that would only take time
        layer.unsynced.discard(os.fstat(handle).st_ino)

    def counted(plain: Callable[..., Any]) -> Callable[..., Any]:
        def operation(path: Any, *rest: Any, **options: Any) -> Any:
            layer.check()
            return plain(path, *rest, **options)

        return operation

    def refused_after_death(plain: Callable[..., Any]) -> Callable[..., Any]:
        def operation(*words: Any, **options: Any) -> Any:
            if layer.reached and kind not in ONCE:
                raise Killed
            return plain(*words, **options)

        return operation

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(io, "open", opened)
        patch.setattr(builtins, "open", opened)
        patch.setattr(os, "fsync", synced)
        for name in ("rename", "replace"):
            patch.setattr(os, name, counted(getattr(os, name)))
        for name in ("mkdir", "unlink", "rmdir"):
            patch.setattr(os, name, refused_after_death(getattr(os, name)))
        with suppress(Killed):
            yield layer
    if kind == "power cut" and layer.reached:
        layer.cut_power()
