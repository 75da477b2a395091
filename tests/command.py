"""The command line, as a person calls it, in this process: one of its own spends two seconds on imports alone."""

import io
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import pytest

from labkit import cli


class Done(NamedTuple):
    """What `subprocess.run` tells of a command."""

    returncode: int
    stdout: str
    stderr: str


def labkit(*words: str | Path, **environment: str) -> Done:
    """`labkit *words` through its entry point; what it does not turn into an exit code is raised here."""
    code, out, err = 0, io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["labkit", *map(str, words)])
        patch.setenv("PYTHONIOENCODING", "utf-8")  # which the command sets, for good
        patch.delenv("COLUMNS", raising=False)  # which pytest's workers inherit
        for name, value in environment.items():
            patch.setenv(name, value)
        try:
            cli.main()
        except SystemExit as left:
            code = int(left.code or 0)
    return Done(code, out.getvalue(), err.getvalue())
