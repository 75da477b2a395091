"""Provenance: what a result was made with: code, versions, machine."""

import os
import platform
import subprocess
import sys
import time
from contextlib import suppress
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


def cpu_name() -> str:
    """The processor's name for people."""
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
