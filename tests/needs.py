"""What some tests need of the machine: skipped elsewhere with a reason, never in CI."""

import os
import shutil

import pytest

needs_bubblewrap = pytest.mark.skipif(
    shutil.which("bwrap") is None and os.environ.get("CI") != "true", reason="bubblewrap is not installed"
)


def bubblewrap() -> None:
    """Skip where there is no bubblewrap; in CI its absence is a failure."""
    if shutil.which("bwrap") is None:
        assert os.environ.get("CI") != "true", "CI must run the programs in bubblewrap: bwrap is missing"
        pytest.skip("no bubblewrap to run programs in")
