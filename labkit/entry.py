"""Between the command line and the system: signals, terminals, exit codes, paths; used by every command."""

import os
import signal
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from decimal import Decimal
from math import isfinite
from pathlib import Path
from typing import Any, NoReturn

from labkit.errors import BadRequest


def leave(sentence: str, code: int) -> NoReturn:
    print(f"labkit: {sentence}", file=sys.stderr)
    sys.exit(code)


def give_up_output() -> None:
    """Where what was printed cannot be written, Python is not to try again, and complain, when it leaves."""
    try:
        print(end="", flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def show_what_can_be_shown() -> None:
    """Marks that the terminal's encoding lacks are printed as escapes, here and in every process started from here."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    encoding, _, errors = os.environ.get("PYTHONIOENCODING", "").partition(":")
    os.environ["PYTHONIOENCODING"] = f"{encoding}:{errors or 'backslashreplace'}"


@contextmanager
def signals_as_ctrl_c() -> Iterator[None]:
    """A request to leave, or a closed terminal, ends a command as Ctrl-C does: tidily, and with its processes."""
    before = {}
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:  # `nohup` has asked for another thing
            with suppress(ValueError):  # not the main thread, which alone may say so
                before[number] = signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def refuse_devices(path: Path) -> None:
    with suppress(OSError):  # a path that is not there, or cannot be, is said where it is used
        mode = path.stat().st_mode
        if stat.S_ISCHR(mode) or stat.S_ISBLK(mode) or stat.S_ISSOCK(mode):
            raise BadRequest(f"{path} is a device, not a file or a folder")


def as_json(value: Any) -> Any:
    """What DuckDB gives as JSON has it: NaN and infinities have no form there, decimals are numbers."""
    if isinstance(value, dict):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    number = float(value) if isinstance(value, Decimal) else value
    return None if isinstance(number, float) and not isfinite(number) else number
