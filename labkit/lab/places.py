"""Places for results, looked at before the work starts: that they can be written, and that nothing is lost there."""

import os
from collections.abc import Iterable
from pathlib import Path

from labkit.design.durable import refusing
from labkit.design.scratch import beside, tidy
from labkit.errors import BadRequest


def ensure_writable(folder: Path) -> None:
    """Make the folder if need be; BadRequest when nothing can be written into it."""
    try:
        tidy(folder)
        folder.mkdir(parents=True, exist_ok=True)
        probe = beside(folder / "probe")
        probe.touch()
        probe.unlink()
    except OSError as error:
        reason = "it is a file" if os.path.isfile(folder) else error.strerror or error  # noqa: PTH113 (long names)
        raise BadRequest(f"cannot write to {folder}: {reason}; name a writable folder") from None


def ensure_file(path: Path) -> None:
    """The same for one file, which is written when the work is done."""
    ensure_writable(path.parent)
    with refusing(f"cannot write to {path}"):  # its name may be too long
        if path.is_dir():
            raise BadRequest(f"cannot write to {path}: it is a folder; name a file")


def refuse_overwriting(out: Path, given: Iterable[str | Path]) -> None:
    """BadRequest where a result would take the place of what the same command reads; `given` may hold other texts."""
    same = [one for one in given if os.path.exists(one) and out.exists() and os.path.samefile(out, one)]  # noqa: PTH110, PTH121
    if same:
        raise BadRequest(f"--out {out} is what this command reads: name another place")
