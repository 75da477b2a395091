"""What this machine offers to the lab, and what each missing piece would enable. Nothing is downloaded or changed."""

import logging
import os
import platform
import shutil
import socket
import subprocess
from importlib.util import find_spec
from typing import NamedTuple
from urllib.parse import urlparse

import psutil
import torch

from labkit.lab.provenance import PACKAGES, cores, cpu_name, installed


class Finding(NamedTuple):
    """One line of the examination."""

    name: str
    found: bool
    says: str


Check = tuple[bool, str]  # is it there, and what that says


def examine() -> list[Finding]:
    """All findings, in the order in which a newcomer meets them."""
    checks = {"python": _python, "cpu": _cpu, "memory": _memory, "gpu": _gpu, "bf16": _bf16, "4-bit": _four_bit}
    checks |= {"sandbox": _sandbox, "hub": _hub, "teacher": _teacher, "notebooks": _notebooks, "versions": _versions}
    return [Finding(name, *check()) for name, check in checks.items()]


def _python() -> Check:
    return True, platform.python_version()


def _cpu() -> Check:
    return True, f"{cpu_name()}, {cores()} cores: a sweep measures as many points at once"


def _memory() -> Check:
    memory = psutil.virtual_memory()
    return True, f"{memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB free"


def _gpu() -> Check:
    if not torch.cuda.is_available():
        return False, "none: `laptop` scale runs here as it is; a CUDA GPU would enable `paper` scale and QLoRA"
    free, total = torch.cuda.mem_get_info()
    return True, f"{torch.cuda.get_device_name()}, {free / 2**30:.0f} of {total / 2**30:.0f} GiB free"


def _bf16() -> Check:
    if torch.cuda.is_available():
        has = torch.cuda.is_bf16_supported()
        return has, "on the GPU" if has else "not on this GPU: training stays in float32"
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # not in every version of torch
    has = any(getattr(torch.cpu, name, bool)() for name in names)
    return has, "this CPU has it; small models stay in float32, where their steps are faster" if has else (
        "not on this CPU: training stays in float32")  # fmt: skip


def _four_bit() -> Check:
    if find_spec("bitsandbytes") is None:
        return False, "bitsandbytes is not installed: `pip install labkit[qlora]` would enable QLoRA fine-tuning"
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it remarks on optional kernels
    device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        from bitsandbytes.functional import dequantize_4bit, quantize_4bit

        weight = torch.randn(64, 64, device=device)
        restored = dequantize_4bit(*quantize_4bit(weight, quant_type="nf4"))
        error = (restored - weight).abs().mean().item()
    except Exception as problem:  # whatever a native library raises on hardware it does not know
        return False, f"bitsandbytes does not quantise on {device}: {problem}"
    return True, f"bitsandbytes quantises to NF4 on {device} (mean error {error:.2f} on unit normal weights)"


def _sandbox() -> Check:
    without = "would enable running programs that models write (code studies)"
    if shutil.which("bwrap") is None:
        return False, f"bubblewrap is not installed; it {without}"
    probe = subprocess.run(["bwrap", "--unshare-all", "--ro-bind", "/", "/", "true"], capture_output=True, text=True)
    if probe.returncode:
        return False, f"bubblewrap may not make namespaces here ({probe.stderr.strip()}); it {without}"
    return True, "bubblewrap can shut a program off from network, files and processes"


def _hub() -> Check:
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    try:
        socket.create_connection((urlparse(endpoint).hostname or endpoint, 443), timeout=3).close()
    except OSError:
        return False, "the Hugging Face hub does not answer: data sets and models must be local files"
    return True, "the Hugging Face hub answers: data sets and models can be downloaded"


def _missing(*packages: str) -> str:
    return ", ".join(name for name in packages if find_spec(name) is None)


def _teacher() -> Check:
    if missing := _missing("openai", "starlette", "uvicorn"):
        return False, f"{missing} missing: `pip install labkit[teacher]` would enable teachers and judges"
    address = os.environ.get("LABKIT_TEACHER_URL") or os.environ.get("OPENAI_BASE_URL")
    if not address:
        return True, "offline; LABKIT_TEACHER_URL and LABKIT_TEACHER_KEY would name a hosted one"
    return True, f"offline, and the endpoint at {urlparse(address).hostname}"


def _notebooks() -> Check:
    if missing := _missing("papermill", "ipykernel", "altair", "vl_convert", "duckdb", "ipywidgets", "anywidget"):
        return False, f"{missing} missing: `pip install labkit[lab]` would enable `labkit run` and charts"
    return True, "papermill, charts and SQL are there"


def _versions() -> Check:
    return True, ", ".join(f"{name} {number}" for name, number in installed(PACKAGES).items())
