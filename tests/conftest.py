"""What the tests share: a store of their own, one thread, and no deadline."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

os.environ["OMP_NUM_THREADS"] = "1"  # before torch looks; kernels and other processes inherit it
import torch

torch.set_num_threads(1)
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # in the background: the processes under test shall heed Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)
settings.register_profile("unhurried", deadline=None)  # other work on the machine is no failure
settings.load_profile("unhurried")


@pytest.fixture(autouse=True)
def own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test sees or touches the results of a person."""
    runs = tmp_path / "papermill_runs"
    monkeypatch.setenv("LABKIT_RUNS", str(runs))
    monkeypatch.setenv("LABKIT_JOBS", "1")
    own = ("LABKIT_RUN_DIR", "LABKIT_BATCH", "LABKIT_TEACHER_URL", "LABKIT_TEACHER_KEY")
    for name in own:
        monkeypatch.delenv(name, raising=False)
    return runs


@pytest.fixture
def double() -> Iterator[None]:
    """Models in double precision: two ways of computing one thing then agree whatever order a processor adds in.

    In single precision their difference is a processor's rounding, which training multiplies.
    """
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def in_ci() -> bool:
    """In CI nothing may be skipped for want of a Debian package."""
    return os.environ.get("CI") == "true"
