"""What some tests need of the machine: skipped elsewhere with a reason, never in CI."""

import os
import shutil
from importlib.util import find_spec

import pytest

needs_bubblewrap = pytest.mark.skipif(
    shutil.which("bwrap") is None and os.environ.get("CI") != "true", reason="bubblewrap is not installed"
)


def bubblewrap() -> None:
    """Skip where there is no bubblewrap; in CI its absence is a failure."""
    if shutil.which("bwrap") is None:
        assert os.environ.get("CI") != "true", "CI must run the programs in bubblewrap: bwrap is missing"
        pytest.skip("no bubblewrap to run programs in")


def smollm2() -> None:
    """Skip without the embedded language model; in CI it is there."""
    packaged("smollm2", "gguf")


def packaged(name: str, reader: str = "tokenizers") -> None:
    """Skip without a model that comes as a package, or without what reads it; in CI both are there."""
    from labkit.learn import embedded

    if embedded.shipped(name) is None or find_spec(reader) is None:
        assert os.environ.get("CI") != "true", "make models installs the embedded models, and CI wants them"
        pytest.skip("the embedded models are not installed: make models")


def package(name: str) -> None:
    """Skip without a package that is an extra; in CI all extras are there."""
    if find_spec(name) is None:
        assert os.environ.get("CI") != "true", f"CI installs all extras: {name} is missing"
        pytest.skip(f"{name} is not installed")
