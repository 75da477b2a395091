"""Provenance: what a run and each of its points was made with: code, versions, machine, time and memory.

Limits: the commit is that of labkit's own checkout, as it was when this process first asked; what a study of one's own
lies in is not looked at. Peak memory is this process's, its children's programs left out; without Linux's `/proc` it is
what was in use at the end.
"""

import os
import platform
import subprocess
import sys
import time
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from labkit import __version__

PACKAGES = ("torch", "numpy", "scipy", "transformers", "pydantic", "pandas", "altair", "papermill", "jupyterlab",
            "duckdb", "ipywidgets", "vl-convert-python", "peft", "bitsandbytes", "datasets", "accelerate")  # fmt: skip


def provenance() -> dict[str, Any]:
    """Code, versions and machine, as JSON-friendly values; no names of people, hosts or folders."""
    import torch

    return {
        "labkit": __version__,
        "git": git_state(),
        "python": platform.python_version(),
        "packages": installed(PACKAGES),
        "system": platform.platform(),
        "cpu": cpu_name(),
        "cores": cores(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


@cache
def code() -> dict[str, Any]:
    """The code of this process: version, commit, whether files differ from it, and the packages that decide results."""
    commit, changes, _ = (git_state() or "").partition("+changes")
    packages = installed(("torch", "numpy", "transformers"))
    return {"labkit": __version__, "commit": commit or None, "dirty": bool(changes), "packages": packages}


class Meter:
    """What a measurement costs, from the moment that this is made."""

    def __init__(self) -> None:
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # the peak of this process starts anew
        if cuda := _cuda():
            cuda.reset_peak_memory_stats()
        self.began, self.used = time.perf_counter(), sum(os.times()[:4])

    def read(self) -> dict[str, Any]:
        """Seconds on the wall and of processors (children included), peak memory, device and threads."""
        torch, cuda = sys.modules.get("torch"), _cuda()
        return {
            "device": cuda.get_device_name() if cuda else cpu_name(),
            "threads": torch.get_num_threads() if torch else 1,
            "wall_seconds": round(time.perf_counter() - self.began, 3),
            "processor_seconds": round(sum(os.times()[:4]) - self.used, 2), "peak_memory_mib": _peak_memory() >> 20,
            "peak_gpu_memory_mib": cuda.max_memory_allocated() >> 20 if cuda else None,
        }  # fmt: skip


def _cuda() -> Any:
    """torch's view of the GPU, where this process works on one."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch and torch.cuda.is_initialized() else None


def _peak_memory() -> int:
    with suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text("utf-8").splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) << 10
    memory = psutil.Process().memory_info()
    return int(getattr(memory, "peak_wset", memory.rss))


def cores() -> int:
    """The number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def installed(packages: tuple[str, ...]) -> dict[str, str]:
    """The versions of those packages that are installed."""
    versions = {}
    for name in packages:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions


@cache
def git_state() -> str | None:
    """The commit of the checkout the code runs from, with `+changes` when files differ from it; None outside one."""
    root = Path(__file__).parent.parent.parent
    if not (root / ".git").exists():
        return None
    try:
        commit = _git(root, "rev-parse", "HEAD")
        return commit + ("+changes" if _git(root, "status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(root: Path, *words: str) -> str:
    return subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=True).stdout.strip()


@cache
def cpu_name() -> str:
    """The processor's name for people."""
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
