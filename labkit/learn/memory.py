"""What training takes of a device's memory, known before any weight is there: fine-tuning, and small models.

Left open: what the GPU's libraries take themselves, fragmentation, the training data, and how much several small models
take that are trained side by side.
"""

import ctypes
import gc
import os
import re
import resource
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import torch
from torch import nn

from labkit.errors import BadRequest, first_line
from labkit.learn.finetuning import Finetuning
from labkit.learn.probe import FAST, bfloat16_gain
from labkit.learn.train import best_device, precision_name
from labkit.learn.transformer import Shape
from labkit.learn.tuning_step import POSITIONS

_CGROUP, _CGROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
_LIMITS = (("", "memory.max"), ("memory", "memory.limit_in_bytes"))  # versions 2 and 1
_WIDE = 256  # a model at least so wide is not small: in smaller ones, conversions cost more than products gain


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

    Activations are those that autograd saves in a forward pass of the same shape, and the positions at which the head
    works at once. 4-bit weights take half a byte and their share of the constants (QLoRA, sec. 3), adapters 4 bytes for
    the weight and 4 for its gradient, AdamW 8.

    Raises:
        BadRequest: for targets that the model does not have.
    """
    size = training_dtype(config, settings.precision).itemsize
    model = on_meta(config, settings)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    head = model.get_output_embeddings()
    linear = [m for m in model.modules() if _is_linear(m, head) and not m.weight.requires_grad]
    inner = sum(m.weight.numel() for m in linear)
    outer = sum(p.numel() for p in model.parameters() if not p.requires_grad) - inner
    constants = (1 + 4 / 256) / 64 if settings.double_quantisation else 4 / 64
    rate = {"nf4": 0.5 + constants, "int8": 1.0, "none": float(size)}[settings.quantisation]
    text, tokens = config.get_text_config(), settings.batch_size * settings.max_length
    saved = _saved_bytes(model, settings)
    if settings.gradient_checkpointing is not False:
        saved = saved // text.num_hidden_layers + text.num_hidden_layers * tokens * text.hidden_size * size
    mask = tokens * settings.max_length * (1 + size)
    tile = min(tokens, POSITIONS) * text.vocab_size * (2 * size + 8)
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
    changes: dict[str, Any] = {}
    hint = "nothing smaller fits either: choose a smaller model"
    for change in _savings(settings):
        changes |= change
        if estimate_memory(config, replace(settings, **changes)).total <= free:
            hint = "would fit: " + ", ".join(f"{name} = {value}" for name, value in changes.items())
            break
    raise BadRequest(f"fine-tuning '{settings.model}' takes about {needed.total / 2**30:.1f} GiB and "
                     f"{free / 2**30:.1f} GiB are free; {hint}")  # fmt: skip


class Training(NamedTuple):
    """Bytes that training a small model from scratch needs, by use."""

    weights: int
    gradients: int
    optimiser: int
    activations: int


class _Sizes(NamedTuple):
    """What a recipe's models are made of, in widths; measured by tests/test_finite.py.

    Attributes:
        tables: Vectors per token of the vocabulary, besides those of `fast` for each place in the context.
        matrices: Of each hidden unit of a perceptron.
        attention, perceptron, hidden: Numbers that autograd keeps per token and block: always, where there is a
            perceptron, and for each of its expansions.
        muon: Whether Muon updates the matrices.
    """

    tables: int
    matrices: int
    attention: int
    perceptron: int
    hidden: int
    muon: bool


_SMALL = {"fast": _Sizes(1, 2, 6, 2, 1, True), "adamw": _Sizes(1, 2, 6, 2, 1, False),
          "llama": _Sizes(2, 3, 10, 0, 4, True), "paper": _Sizes(1, 2, 8, 0, 5, False)}  # fmt: skip


def estimate_training(recipe: str, shape: Shape, batch_size: int, answer: int) -> Training:
    """What one small model takes while it is trained, from its sizes alone.

    Adam keeps 8 bytes per parameter. Muon keeps 4 per parameter of its matrices, and works on six copies of these when
    the activations are gone: what it takes beyond the activations' room counts as the optimiser's.
    """
    sizes, width, own = _SMALL[recipe], shape.width, recipe in ("fast", "adamw")
    expansion = shape.expansion if own else max(1, shape.expansion)
    matrices = shape.layers * (4 + sizes.matrices * expansion) * width**2
    tables = sizes.tables + (shape.context if own else 0)
    others = (tables * shape.vocabulary + shape.length) * width
    tokens, number = batch_size * shape.length, 2 if precision_name(best_device()) == "bfloat16" else 4
    kept = sizes.attention + (sizes.perceptron + sizes.hidden * expansion) * (expansion > 0)
    backward = max(3, expansion)
    inner, head = tokens * width * (shape.layers * kept + backward), 12 * batch_size * answer * shape.vocabulary
    activations = inner * number + head
    optimiser = (4 if sizes.muon else 8) * matrices + 8 * others + max(0, 24 * matrices * sizes.muon - activations)
    return Training(4 * (matrices + others), 4 * (matrices + others), optimiser, activations)


def check_training_memory(name: str, recipe: str, shape: Shape, batch_size: int, answer: int) -> None:
    """Refuse a small model that the machine could not train even if it did nothing else.

    Raises:
        BadRequest: says how much it takes and how much there is.
    """
    needed, there = estimate_training(recipe, shape, batch_size, answer), machine_memory()
    if sum(needed) > there:
        parts = ", ".join(f"{use} {size / 2**30:.1f}" for use, size in needed._asdict().items())
        batch = f", or batch_size = {batch_size}" * (needed.activations > needed.weights)
        raise BadRequest(f"{name} takes about {sum(needed) / 2**30:.1f} GiB of memory to train ({parts}), and this "
                         f"machine has {there / 2**30:.1f}: lower width, layers or expansion{batch}")  # fmt: skip


def machine_memory() -> int:
    """Bytes that training could use at most: the GPU's, or the machine's within the limits set to this process."""
    device = training_device()
    return int(torch.cuda.mem_get_info(device)[1] if device.type == "cuda" else _limited(psutil.virtual_memory().total))


def _limited(size: int) -> int:
    """A size, or the smallest limit set to the process (`ulimit -v`) or to the container around it."""
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    limits = [] if soft == resource.RLIM_INFINITY else [soft]
    with suppress(OSError):  # no Linux
        own = [line.rpartition(":")[2].strip("/") for line in _CGROUPS.read_text().splitlines()]
        groups = {folder for path in ["", *own] for folder in (Path(path), *Path(path).parents)}
        files = [_CGROUP / base / group / file for base, file in _LIMITS for group in groups]
        limits += [int(text) for file in files if file.exists() and (text := file.read_text().strip()).isdecimal()]
    return min([size, *limits])


def describe(memory: Memory) -> str:
    """An estimate in words, in MiB."""
    parts = ", ".join(f"{name} {value / 2**20:.0f}" for name, value in memory._asdict().items())
    return f"about {memory.total / 2**20:.0f} MiB ({parts}); free {free_memory() / 2**20:.0f} MiB"


def free_memory() -> int:
    """Bytes free on the device that training would use."""
    device = training_device()
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return _limited(psutil.virtual_memory().available)


def give_back() -> None:
    """Return what glibc keeps of freed tensors to the system: a gigabyte after a training. Does nothing elsewhere."""
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def lora_config(settings: Finetuning) -> Any:
    from peft import LoraConfig

    targets: Any = "all-linear" if settings.targets == "all-linear" else _names(settings.targets)
    return LoraConfig(task_type="CAUSAL_LM", r=settings.rank, lora_alpha=settings.alpha, lora_dropout=settings.dropout,
                      target_modules=targets)  # fmt: skip


def training_device() -> torch.device:
    """This process's own GPU, or the CPU."""
    own = int(os.environ.get("LOCAL_RANK", 0))
    return torch.device("cuda", own) if torch.cuda.is_available() else torch.device("cpu")


def training_dtype(config: Any = None, precision: str | None = None) -> torch.dtype:
    """What a model computes in, unless `precision` names it: on a GPU 16 bits (bfloat16 where it can).

    On a CPU bfloat16 where the processor multiplies it fast (`probe.bfloat16_gain`) and the model, by its
    configuration, is not a small one; else float32.
    """
    if precision is not None:
        return getattr(torch, precision)
    if torch.cuda.is_available():
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    wide = config is not None and config.get_text_config().hidden_size >= _WIDE
    return torch.bfloat16 if wide and bfloat16_gain() >= FAST else torch.float32


def resolved(config: Any, settings: Finetuning) -> Finetuning:
    """The settings with what depends on the machine chosen: the precision, and whether activations are recomputed.

    Raises:
        BadRequest: as `estimate_memory`.
    """
    precision: Any = str(training_dtype(config, settings.precision)).removeprefix("torch.")
    chosen = replace(settings, precision=precision)
    if settings.gradient_checkpointing is not None:
        return chosen
    keeping = replace(chosen, gradient_checkpointing=False)
    return replace(chosen, gradient_checkpointing=estimate_memory(config, keeping).total > free_memory() / 2)


def on_meta(config: Any, settings: Finetuning) -> Any:
    """The model with its adapters, without any weights."""
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        try:
            model = AutoModelForCausalLM.from_config(
                config, dtype=training_dtype(config, settings.precision), attn_implementation="sdpa"
            )
        except ValueError as refusal:
            raise BadRequest(f"'{settings.model}' cannot be fine-tuned here: {first_line(refusal)}") from None
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

    def matches(name: str, paths: list[str]) -> bool:
        return any(f".{path}".endswith(f".{name}") for path in paths)

    wrong = [name for name in names if not matches(name, linear) or matches(name, others)]
    if wrong or not linear or not (names or settings.targets == "all-linear"):
        has = ", ".join(sorted({path.rpartition(".")[2] for path in linear})) or "none"
        raise BadRequest(f"targets = '{settings.targets}': {', '.join(wrong) or 'it'} names no linear layers inside "
                         f"the blocks of '{settings.model}', which LoRA adapts (there are: {has}; all-linear takes "
                         "them all)")  # fmt: skip


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
        model.get_base_model().base_model(input_ids=ids, attention_mask=mask, use_cache=False)
    return sum(storage.nbytes() for storage in kept.values())


def _savings(settings: Finetuning) -> Iterator[dict[str, Any]]:
    """Changes that save memory, the harmless first."""
    if settings.gradient_checkpointing is False:
        yield {"gradient_checkpointing": True}
    batch, accumulation = settings.batch_size, settings.accumulation
    while batch % 2 == 0:
        batch, accumulation = batch // 2, accumulation * 2
        yield {"batch_size": batch, "accumulation": accumulation}
    if settings.quantisation != "nf4":
        yield {"quantisation": "nf4"}
    length = settings.max_length
    while length > 128:
        length //= 2
        yield {"max_length": length}
