"""Names of what is written aside: by machine and process, so that what a killed process left can be told and removed.

Limits: a process is looked for by its number. Machines of one name, or containers with process numbers of their own,
that share a folder would take each other's work for left over.
"""

import hashlib
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory
from uuid import uuid4

import psutil

HERE = hashlib.sha256(platform.node().encode()).hexdigest()[:8]  # this machine, in the names of what it may tidy up
SCRATCH = f".tmp-{HERE}-"  # then the process, a dot, and whatever tells its files apart


def beside(path: Path) -> Path:
    """A new name in the same folder; short: where a name is as long as a name may be, this one fits, too."""
    return path.with_name(f"{SCRATCH}{os.getpid()}.{uuid4().hex[:8]}")


def in_use(scratch: Path) -> bool:
    """Whether the process that made it is still there."""
    process = scratch.stem.removeprefix(SCRATCH)
    return process.isdecimal() and psutil.pid_exists(int(process))


def tidy(folder: Path) -> None:
    """Remove what killed processes of this machine left in a folder, and the folder, if that was all."""
    for scratch in list(folder.glob(f"{SCRATCH}*")):
        if not in_use(scratch):
            with suppress(OSError):
                rmtree(scratch) if scratch.is_dir() else scratch.unlink()
                folder.rmdir()  # which fails as long as something is in it


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A temporary folder; what killed processes left beside it is removed."""
    with TemporaryDirectory(prefix=f"{SCRATCH}{os.getpid()}.") as folder:
        tidy(Path(folder).parent)
        yield Path(folder)
