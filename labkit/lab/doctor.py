"""What this machine offers to the lab, and what each missing piece would enable. Nothing is downloaded or changed."""

import logging
import os
import platform
import shutil
import socket
import subprocess
from collections.abc import Callable
from importlib.util import find_spec
from typing import NamedTuple
from urllib.parse import urlparse

import psutil
import torch

from labkit.lab.provenance import PACKAGES, cpu_name, installed
from labkit.lab.sweep import cores


class Finding(NamedTuple):
    """One line of the examination."""

    name: str
    found: bool
    says: str


def examine() -> list[Finding]:
    """All findings, in the order in which a newcomer meets them."""
    checks: list[Callable[[], Finding]] = [
        _python, _cpu, _memory, _gpu, _bf16, _four_bit, _sandbox, _hub, _teacher, _notebooks, _versions,
    ]  # fmt: skip
    return [check() for check in checks]


def _python() -> Finding:
    return Finding("python", True, platform.python_version())


def _cpu() -> Finding:
    return Finding("cpu", True, f"{cpu_name()}, {cores()} cores: a sweep measures as many points at once")


def _memory() -> Finding:
    memory = psutil.virtual_memory()
    return Finding("memory", True, f"{memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB free")


def _gpu() -> Finding:
    if not torch.cuda.is_available():
        return Finding(
            "gpu", False, "none: `laptop` scale runs here as it is; a CUDA GPU would enable `paper` scale and QLoRA"
        )
    free, total = torch.cuda.mem_get_info()
    return Finding("gpu", True, f"{torch.cuda.get_device_name()}, {free / 2**30:.0f} of {total / 2**30:.0f} GiB free")


def _bf16() -> Finding:
    if torch.cuda.is_available():
        has = torch.cuda.is_bf16_supported()
        return Finding("bf16", has, "on the GPU" if has else "not on this GPU: training stays in float32")
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # not in every version of torch
    has = any(getattr(torch.cpu, name, bool)() for name in names)
    return Finding("bf16", has, "this CPU has it; small models stay in float32, where their steps are faster" if has
                   else "not on this CPU: training stays in float32")  # fmt: skip


def _four_bit() -> Finding:
    if find_spec("bitsandbytes") is None:
        return Finding(
            "4-bit", False, "bitsandbytes is not installed: `pip install labkit[qlora]` would enable QLoRA fine-tuning"
        )
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it remarks on optional kernels
    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        from bitsandbytes.functional import dequantize_4bit, quantize_4bit

        weight = torch.randn(64, 64, device=device)
        restored = dequantize_4bit(*quantize_4bit(weight, quant_type="nf4"))
        error = (restored - weight).abs().mean().item()
    except Exception as problem:  # whatever a native library raises on hardware it does not know
        return Finding("4-bit", False, f"bitsandbytes does not quantise on {device}: {problem}")
    return Finding(
        "4-bit", True, f"bitsandbytes quantises to NF4 on {device} (mean error {error:.2f} on unit normal weights)"
    )


def _sandbox() -> Finding:
    without = "would enable running programs that models write (code studies)"
    if shutil.which("bwrap") is None:
        return Finding("sandbox", False, f"bubblewrap is not installed; it {without}")
    probe = subprocess.run(["bwrap", "--unshare-all", "--ro-bind", "/", "/", "true"], capture_output=True, text=True)
    if probe.returncode:
        return Finding(
            "sandbox", False, f"bubblewrap may not make namespaces here ({probe.stderr.strip()}); it {without}"
        )
    return Finding("sandbox", True, "bubblewrap can shut a program off from network, files and processes")


def _hub() -> Finding:
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    host = urlparse(endpoint).hostname or endpoint
    try:
        socket.create_connection((host, 443), timeout=3).close()
    except OSError:
        return Finding("hub", False, "the Hugging Face hub does not answer: data sets and models must be local files")
    return Finding("hub", True, "the Hugging Face hub answers: data sets and models can be downloaded")


def _teacher() -> Finding:
    missing = [name for name in ("openai", "starlette", "uvicorn") if find_spec(name) is None]
    if missing:
        return Finding(
            "teacher",
            False,
            f"{', '.join(missing)} missing: `pip install labkit[teacher]` would enable teachers and judges",
        )
    address = os.environ.get("LABKIT_TEACHER_URL") or os.environ.get("OPENAI_BASE_URL")
    if not address:
        return Finding("teacher", True, "offline; LABKIT_TEACHER_URL and LABKIT_TEACHER_KEY would name a hosted one")
    return Finding("teacher", True, f"offline, and the endpoint at {urlparse(address).hostname}")


def _notebooks() -> Finding:
    missing = [
        name
        for name in ("papermill", "ipykernel", "altair", "vl_convert", "duckdb", "ipywidgets")
        if find_spec(name) is None
    ]
    if missing:
        return Finding(
            "notebooks",
            False,
            f"{', '.join(missing)} missing: `pip install labkit[lab]` would enable `labkit run` and charts",
        )
    return Finding("notebooks", True, "papermill, charts and SQL are there")


def _versions() -> Finding:
    return Finding("versions", True, ", ".join(f"{name} {number}" for name, number in installed(PACKAGES).items()))
