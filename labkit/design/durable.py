"""Several files as one result in a folder: whole, or known as unfinished.

All files are written and synced where nobody takes them for finished, then put in place; a manifest, which repeats the
spec it was made from, is the last. After a kill, a power cut or a full disk a former result is whole or has no
manifest, and the same work goes on in that folder.
Left open: on file systems without locks, two processes that write into one folder at once.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from errno import EINVAL
from pathlib import Path
from shutil import rmtree
from typing import Any

from labkit.design.scratch import beside, tidy
from labkit.errors import BadRequest

MANIFEST = "manifest.json"
UNFINISHED = ".unfinished-mix"

Contents = Mapping[str, Iterable[str] | None]  # lines of each file; None: it is not to be there


@contextmanager
def refusing(what: str) -> Iterator[None]:
    """Trouble with files as one sentence."""
    try:
        yield
    except OSError as error:
        where = f" ({error.filename})" if error.filename and str(error.filename) not in what else ""
        raise BadRequest(f"{what}: {error.strerror or error}{where}") from None


def check_folder(out: Path, spec: Any) -> None:
    """Refuse a folder that cannot be written, or that holds anything but a result of this spec, finished or not."""
    place = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        why = "read-only" if place.is_dir() else "no folder"
        raise BadRequest(f"{out} cannot be written: {place} is {why}; name a new folder")
    if place == out:
        with _locked(out):  # what another process is putting in place is neither the old result nor the new one
            _check_owner(out, spec)


def _check_owner(out: Path, spec: Any) -> None:
    """Refuse a folder with files by which no result of this spec can be known."""
    names = {file.name for file in out.iterdir()}
    if names <= {UNFINISHED}:
        return
    try:
        file = out / MANIFEST if MANIFEST in names else out / UNFINISHED / "spec.json"
        former = json.loads(file.read_text("utf-8"))["spec"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        former = None
    if former != spec:
        raise BadRequest(f"{out} is not empty and holds no mix of this very spec: name a new folder")


def write_folder(out: Path, spec: Any, contents: Contents) -> None:
    """Write the files of a result, `MANIFEST` last; where that fails, a new folder goes again.

    Raises:
        BadRequest: as `check_folder`; for whatever the disk refuses.
    """
    with refusing(f"{out} cannot be written"), _made(out), _locked(out):
        _check_owner(out, spec)  # another process may have finished meanwhile
        try:
            _stage(out / UNFINISHED, spec, contents)
            _put_in_place(out, contents)
        finally:
            _clear(out, contents)


@contextmanager
def _made(out: Path) -> Iterator[None]:
    """Make a folder and those above it; where the work in it fails, those that are empty go again."""
    new = [folder for folder in (out, *out.absolute().parents) if not folder.exists()]
    try:
        out.mkdir(parents=True, exist_ok=True)
        for folder in new:
            sync(folder.absolute().parent)
        yield
    except BaseException:
        for folder in new:
            with suppress(OSError):
                folder.rmdir()
        raise


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One writer at a time; a process that dies gives the lock back."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(ImportError, OSError):
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _stage(stage: Path, spec: Any, contents: Contents) -> None:
    """Write the files aside, first of all the spec: by it the next process knows whose they are."""
    stage.mkdir(exist_ok=True)
    write_text(stage / "spec.json", json.dumps({"spec": spec}))
    for name, lines in contents.items():
        (stage / name).unlink(missing_ok=True)
        if lines is not None:
            _write(stage / name, lines)
    sync(stage)
    sync(stage.parent)


def _put_in_place(out: Path, contents: Contents) -> None:
    """A former manifest goes first and the new one comes last: none ever stands beside files of another run."""
    (out / MANIFEST).unlink(missing_ok=True)
    for name in sorted(contents, key=MANIFEST.__eq__):
        sync(out)
        if contents[name] is None:
            (out / name).unlink(missing_ok=True)
        else:
            (out / UNFINISHED / name).replace(out / name)
    sync(out)


def _clear(out: Path, contents: Contents) -> None:
    """Remove what is unfinished; the spec stays as long as files without a manifest are to be known by it."""
    with suppress(OSError):
        for name in contents:
            (out / UNFINISHED / name).unlink(missing_ok=True)
        if (out / MANIFEST).exists() or not any((out / name).exists() for name in contents):
            rmtree(out / UNFINISHED)


def _write(path: Path, lines: Iterable[str]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(lines)
        file.flush()
        os.fsync(file.fileno())


def write_text(path: Path, text: str) -> None:
    """Write a file under a temporary name, bring it to the disk and rename it: a reader never sees half of it."""
    scratch = beside(path)
    try:
        _write(scratch, [text])
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
    sync(path.parent)
    tidy(path.parent)


def sync(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk, where the system can, so that no power cut undoes it."""
    if os.name == "nt" and path.is_dir():  # folders cannot be opened there, and need not
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != EINVAL or not path.is_dir():  # some network file systems sync no folder
            raise
    finally:
        os.close(handle)
