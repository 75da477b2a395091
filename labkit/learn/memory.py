"""What fine-tuning takes of a device's memory, known before any weight is loaded.

Left open: what the GPU's libraries take themselves, and fragmentation.
"""

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import psutil
import torch
from torch import nn

from labkit.errors import BadRequest, first_line
from labkit.learn.finetuning import Finetuning

_TILE = (4096, 32_768)  # tokens and words of the vocabulary in TRL's tile of the head; allocated whole


class Memory(NamedTuple):
    """Bytes that training needs, by use; what the GPU's libraries take themselves is not in it."""

    weights: int
    adapters: int
    optimiser: int
    activations: int

    @property
    def total(self) -> int:
        return sum(self)


def estimate_memory(config: Any, settings: Finetuning) -> Memory:
    """What training would take, from the model's configuration alone: the model is built on the `meta` device.

    Activations are those that autograd saves in a forward pass of the same shape, and the tiles in which TRL computes
    the head. 4-bit weights take half a byte and their share of the constants (QLoRA, sec. 3), adapters 4 bytes for
    the weight and 4 for its gradient, AdamW 8.

    Raises:
        BadRequest: for targets that the model does not have.
    """
    size = training_dtype().itemsize
    model = _on_meta(config, settings)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    head = model.get_output_embeddings()
    linear = [m for m in model.modules() if _is_linear(m, head) and not m.weight.requires_grad]
    inner = sum(m.weight.numel() for m in linear)
    outer = sum(p.numel() for p in model.parameters() if not p.requires_grad) - inner
    constants = (1 + 4 / 256) / 64 if settings.double_quantisation else 4 / 64
    rate = {"nf4": 0.5 + constants, "int8": 1.0, "none": float(size)}[settings.quantisation]
    text, tokens = config.get_text_config(), settings.batch_size * settings.max_length
    saved = _saved_bytes(model, settings)
    if settings.gradient_checkpointing:
        saved = saved // text.num_hidden_layers + text.num_hidden_layers * tokens * text.hidden_size * size
    mask = tokens * settings.max_length * (1 + size)
    tile = min(tokens, _TILE[0]) * (
        _TILE[1] * size + (0 if torch.cuda.is_available() else 16 * min(text.vocab_size, _TILE[1]))
    )
    largest = max(m.weight.numel() for m in linear) * size if settings.quantisation != "none" else 0
    working = mask + tile + tokens * text.hidden_size * (4 + size) + largest
    return Memory(round(inner * rate) + outer * size, 8 * trained, 8 * trained, saved + working)


def check_memory(config: Any, settings: Finetuning) -> Memory:
    """`estimate_memory`, refused when the device has less free.

    Raises:
        BadRequest: says what would fit.
    """
    needed, free = estimate_memory(config, settings), free_memory()
    if needed.total <= free:
        return needed
    tried, changes = settings, dict[str, Any]()
    for change in _savings(settings):
        changes |= change
        tried = replace(settings, **changes)
        if estimate_memory(config, tried).total <= free:
            hint = "would fit: " + ", ".join(f"{name} = {value}" for name, value in changes.items())
            break
    else:
        hint = "nothing smaller fits either: choose a smaller model"
    raise BadRequest(
        f"fine-tuning '{settings.model}' takes about {needed.total / 2**30:.1f} GiB and {free / 2**30:.1f} GiB are "
        f"free; {hint}"
    )


def describe(memory: Memory) -> str:
    """An estimate in words, in MiB."""
    parts = ", ".join(f"{name} {value / 2**20:.0f}" for name, value in memory._asdict().items())
    return f"about {memory.total / 2**20:.0f} MiB ({parts}); free {free_memory() / 2**20:.0f} MiB"


def free_memory() -> int:
    """Bytes free on the device that training would use."""
    device = training_device()
    return int(torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available)


def lora_config(settings: Finetuning) -> Any:
    from peft import LoraConfig

    return LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules="all-linear" if settings.targets == "all-linear" else _names(settings.targets),
    )


def training_device() -> torch.device:
    """This process's own GPU, or the CPU."""
    return (
        torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if torch.cuda.is_available() else torch.device("cpu")
    )


def training_dtype() -> torch.dtype:
    """16 bits on a GPU (bfloat16 where it can), 32 on a CPU."""
    if not torch.cuda.is_available():
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def _on_meta(config: Any, settings: Finetuning) -> Any:
    """The model with its adapters, without any weights."""
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=training_dtype(), attn_implementation="sdpa")
        _check_targets(model, settings)
        try:
            return get_peft_model(model, lora_config(settings), autocast_adapter_dtype=False)
        except ValueError as refusal:
            raise BadRequest(f"targets = '{settings.targets}' for '{settings.model}': {first_line(refusal)}") from None


def _names(targets: str) -> list[str]:
    """Module names that stand apart by commas, blanks or both."""
    return [name for name in re.split(r"[,\s]+", targets) if name]


def _check_targets(model: Any, settings: Finetuning) -> None:
    """Refuse every target that is not the name, or the end of the path, of linear layers inside the model's blocks."""
    linear = [path for path, module in model.named_modules() if _is_linear(module, model.get_output_embeddings())]
    others = [path for path, _ in model.named_modules() if path not in set(linear)]
    names = [] if settings.targets == "all-linear" else _names(settings.targets)
    matches = lambda name, paths: any(f".{path}".endswith(f".{name}") for path in paths)  # noqa: E731
    wrong = [name for name in names if not matches(name, linear) or matches(name, others)]
    if wrong or not linear or not (names or settings.targets == "all-linear"):
        has = ", ".join(sorted({path.rpartition(".")[2] for path in linear})) or "none"
        raise BadRequest(
            f"targets = '{settings.targets}': {', '.join(wrong) or 'it'} names no linear layers inside the blocks of "
            f"'{settings.model}', which LoRA adapts (there are: {has}; all-linear takes them all)"
        )


def _is_linear(module: nn.Module, head: nn.Module | None) -> bool:
    """Whether LoRA adapts a module: a linear layer (GPT-2 calls it Conv1D) that is not the output head."""
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, nn.Linear | Conv1D) and module is not head


def _saved_bytes(model: Any, settings: Finetuning) -> int:
    """What autograd would keep for the backward pass of one batch, without checkpointing and without the head.

    On `meta` attention takes the plain way, which keeps its scores. The kernels of CPU and GPU do not; nor does this.
    """
    rows, length = settings.batch_size, settings.max_length
    scores = rows * model.config.get_text_config().num_attention_heads * length * length
    own = {p.untyped_storage()._cdata for p in model.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own and not (tensor.shape[-2:] == (length, length) and tensor.numel() == scores):
            kept[storage._cdata] = storage
        return tensor

    model.train()
    ids = torch.zeros((rows, length), dtype=torch.int64, device="meta")
    mask = torch.ones((rows, 1, length, length), dtype=torch.bool, device="meta")
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        states = model.get_base_model().base_model(input_ids=ids, attention_mask=mask, use_cache=False)
    del states
    return sum(storage.nbytes() for storage in kept.values())


def _savings(settings: Finetuning) -> Iterator[dict[str, Any]]:
    """Changes that save memory, the harmless first."""
    if not settings.gradient_checkpointing:
        yield {"gradient_checkpointing": True}
    batch, accumulation = settings.batch_size, settings.accumulation
    while batch > 1 and batch % 2 == 0:
        batch, accumulation = batch // 2, accumulation * 2
        yield {"batch_size": batch, "accumulation": accumulation}
    if settings.quantisation != "nf4":
        yield {"quantisation": "nf4"}
    length = settings.max_length
    while length > 128:
        length //= 2
        yield {"max_length": length}
