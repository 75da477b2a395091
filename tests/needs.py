"""What some tests need of the machine: skipped elsewhere with a reason, never in CI."""

import os
import shutil
import signal

import pytest

needs_bubblewrap = pytest.mark.skipif(
    shutil.which("bwrap") is None and os.environ.get("CI") != "true", reason="bubblewrap is not installed"
)


def heeds_ctrl_c() -> None:
    """For a child process, before its program starts: whoever runs the tests in the background ignores Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
