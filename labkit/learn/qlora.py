"""Fine-tuning of a Hugging Face causal language model by LoRA, its base in 4, 8 or 16 bits (QLoRA, arXiv 2305.14314).

Guaranteed:
- Equal settings, examples and seed give equal adapters on one machine with one process (CPU: with one thread).
- A run that was killed goes on from its last whole checkpoint and ends with the same adapter; a finished folder is
  returned as it is; a folder of other settings or examples is refused (the base model goes by its name).
- What would not fit into the device's free memory is refused before any weight is loaded.
- `adapter/` is plain PEFT, and its tokenizer carries the prompt's template.
Left open: several GPUs each hold the whole base model (data parallelism: `accelerate launch -m labkit finetune ...`).
On a CPU 8-bit layers round their inputs to 16 bits.

The adapters are kept and updated in 32 bits. TRL rounds those of a quantised model to bfloat16, where a step of the
papers' learning rate, 1e-5, is lost on three of four weights of the matrix A beside a layer of width 4096.
"""

import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import psutil
import torch
from torch import nn

from labkit.errors import BadRequest, unknown
from labkit.instructions import Example
from labkit.learn import chat

QUANTISATIONS = ("nf4", "int8", "none")
_SHARES = ("dropout", "warmup_ratio")
_MAY_BE_ZERO = (*_SHARES, "weight_decay", "seed")
SCHEDULES = ("constant", "constant_with_warmup", "linear", "cosine")
_TRAINERS = ("learning_rate", "weight_decay", "max_grad_norm", "gradient_checkpointing", "seed")  # same name there
_TILE = (4096, 32_768)  # tokens and words of the vocabulary in TRL's tile of the head; allocated whole
_LAST = 10  # the final loss is the mean over so many last steps


@dataclass(frozen=True)
class Finetuning:
    """What a fine-tuning run depends on, besides its examples. Defaults: QLoRA's for 7B models (Table 9).

    Attributes:
        model: A Hugging Face id, or the path of a folder that `save_pretrained` wrote.
        revision: The commit of a hub model.
        quantisation: `nf4` (4 bits), `int8`, or `none` (16 bits on a GPU, 32 on a CPU).
        double_quantisation: With `nf4`: the quantisation constants are quantised, too.
        rank, alpha, dropout, targets: LoRA's; `targets` is `all-linear` or module names, comma-separated.
        learning_rate, schedule, warmup_ratio, weight_decay, max_grad_norm: AdamW's.
        batch_size: Rows in one pass on one device; a row is an example, or several when packing.
        accumulation: Passes in one step.
        epochs, steps: How long; exactly one of them.
        max_length: Tokens of the longest row.
        overlong: Whether longer examples are refused or dropped.
        packing: Several examples in a row; they do not see one another.
        gradient_checkpointing: Recompute activations in the backward pass: less memory, about a third more time.
        template: One of `chat.TEMPLATES`; None: the tokenizer's own, else `alpaca`.
        save_every: Steps between checkpoints.

    Raises:
        BadRequest: for a value out of range.
    """

    model: str
    revision: str | None = None
    quantisation: Literal["nf4", "int8", "none"] = "nf4"
    double_quantisation: bool = True
    rank: int = 64
    alpha: float = 16
    dropout: float = 0.1
    targets: str = "all-linear"
    learning_rate: float = 2e-4
    schedule: str = "constant"
    warmup_ratio: float = 0.0
    weight_decay: float = 0.0
    max_grad_norm: float = 0.3
    batch_size: int = 16
    accumulation: int = 1
    epochs: float | None = None
    steps: int | None = None
    max_length: int = 512
    overlong: Literal["refuse", "drop"] = "refuse"
    packing: bool = False
    gradient_checkpointing: bool = True
    template: str | None = None
    save_every: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        for name, allowed in (
            ("quantisation", QUANTISATIONS),
            ("schedule", SCHEDULES),
            ("overlong", ("refuse", "drop")),
        ):
            if getattr(self, name) not in allowed:
                raise unknown(name, str(getattr(self, name)), allowed)
        if (self.epochs is None) == (self.steps is None):
            raise BadRequest(f"epochs = {self.epochs} and steps = {self.steps}: give exactly one of the two")
        if self.template is not None and self.template not in chat.TEMPLATES:
            raise unknown("template", str(self.template), chat.TEMPLATES)
        for name, kind in self.__annotations__.items():
            value, zero, share = getattr(self, name), name in _MAY_BE_ZERO, name in _SHARES
            if kind is bool and not isinstance(value, bool):
                raise BadRequest(f"{name} = {value!r} is neither true nor false")
            whole = kind in (int, int | None)
            if not (whole or kind in (float, float | None)) or (value is None and kind not in (int, float)):
                continue
            fits = type(value) in ((int,) if whole else (int, float)) and math.isfinite(value)
            if not fits or value < 0 or (value == 0 and not zero) or (value >= 1 and share):
                limit = ("of at least 0" if zero else "above 0") + " and below 1" * share
                raise BadRequest(f"{name} = {value!r} is not a {'whole ' * whole}number {limit}")


# Hyper-parameters by name. What a paper does not state stays at the default above.
PRESETS: dict[str, dict[str, Any]] = {
    # QLoRA, arXiv 2305.14314, Table 9, 7B on Alpaca-sized sets
    "default": {"epochs": 1},
    # Code mixing, arXiv 2410.04717, Tables 1 and 2
    "code_mixing": {"learning_rate": 1e-5, "batch_size": 4, "epochs": 3, "quantisation": "int8", "max_length": 768},
    # Encrypted rewriting, arXiv 2402.10891, Fig. 5
    "encrypted_rewriting": {
        "rank": 512,
        "alpha": 1024,
        "learning_rate": 1e-5,
        "batch_size": 64,
        "quantisation": "int8",
        "steps": 2000,
    },
}


class Memory(NamedTuple):
    """Bytes that training needs, by use; what the GPU's libraries take themselves is not in it."""

    weights: int
    adapters: int
    optimiser: int
    activations: int

    @property
    def total(self) -> int:
        return sum(self)


@dataclass(frozen=True)
class Finetuned:
    """A finished run.

    Attributes:
        adapter: The folder with the PEFT adapter and the tokenizer.
        loss: Training loss, nats a learned token: the mean over the last 10 steps.
        steps: Optimiser steps.
        examples, dropped: How many examples were trained on, and how many did not fit.
        tokens: Tokens trained on, filling not counted; where the last epoch is partial, by the mean of a row.
        seconds: Of training, in the process that finished it; `seconds_steps` of the steps fell into it.
        trainable: Trained parameters.
        estimated: What `estimate_memory` said, bytes in all.
        peak: Bytes that the GPU's allocator held at most; None on a CPU.
    """

    adapter: Path
    loss: float
    steps: int
    examples: int
    dropped: int
    tokens: int
    seconds: float
    seconds_steps: int
    trainable: int
    estimated: int
    peak: int | None


def settings(model: str, preset: str = "default", /, **changes: Any) -> Finetuning:
    """A preset for a model, with changes; `steps` replaces a preset's `epochs`, and the other way round.

    Raises:
        BadRequest: for an unknown preset or setting, or a value out of range.
    """
    if preset not in PRESETS:
        raise unknown("preset", preset, PRESETS)
    names = [field.name for field in fields(Finetuning)]
    for name in changes:
        if name not in names:
            raise unknown("setting", name, names)
    values = dict(PRESETS[preset])
    if {"steps", "epochs"} & set(changes):
        values = {name: value for name, value in values.items() if name not in ("steps", "epochs")}
    return Finetuning(**{"model": model, **values, **changes})


def finetune(
    examples: Sequence[Example],
    settings: Finetuning,
    folder: Path,
    *,
    on_log: Callable[[dict[str, Any]], None] | None = None,
    say: Callable[[str], None] = print,
) -> Finetuned:
    """Fine-tune, or finish what a killed run began in `folder`, or return what is finished there.

    Args:
        on_log: Called after each step with `step`, `loss`, `learning_rate` and what else TRL measures.
        say: Told, in words, what is about to happen: memory, and a decoded example with its mask.

    Raises:
        BadRequest: for a model that cannot be had or is not causal, examples that do not fit, too little memory, or a
            folder of another run.
    """
    folder, done = Path(folder), Path(folder) / "finetuned.json"
    main = int(os.environ.get("RANK", 0)) == 0
    wanted = _fingerprint(examples, settings)
    _check_folder(folder, wanted)
    if done.exists():
        found = json.loads(done.read_text("utf-8"))
        return Finetuned(**{name: found[name] for name in Finetuned.__annotations__} | {"adapter": folder / "adapter"})
    _import("trl", "peft", "datasets", "accelerate")
    if torch.cuda.device_count() > 1 and "LOCAL_RANK" not in os.environ:
        raise BadRequest(
            f"{torch.cuda.device_count()} GPUs are visible: start with `accelerate launch -m labkit finetune ...` to "
            "use all, or name one in CUDA_VISIBLE_DEVICES"
        )
    config = load_config(settings.model, settings.revision)
    tokenizer = load_tokenizer(settings.model, settings.revision)
    chat.set_template(tokenizer, settings.template)
    if settings.max_length > getattr(config, "max_position_embeddings", settings.max_length):
        raise BadRequest(
            f"max_length {settings.max_length} is more than the {config.max_position_embeddings} positions of "
            f"'{settings.model}'"
        )
    encoded = chat.encode(tokenizer, examples, settings.max_length, settings.overlong)
    memory = check_memory(config, settings)
    if main:
        say(f"memory: {describe(memory)}")
        say(f"{len(encoded.lengths)} examples, {encoded.dropped} too long and dropped; one, ⟦learned⟧:")
        say(chat.show_row(tokenizer, encoded))
    data = chat.dataset(encoded, settings.max_length if settings.packing else None)
    trainer = _trainer(settings, folder, tokenizer, data, on_log)
    checkpoint = last_checkpoint(folder / "checkpoints")
    before = int(checkpoint.name.split("-")[1]) if checkpoint else 0
    if settings.packing and not chat.isolates(trainer.model, len(tokenizer)):
        raise BadRequest(f"'{settings.model}' lets packed examples see one another: set packing to false")
    if main:
        folder.mkdir(parents=True, exist_ok=True)
        _write_json(folder / "settings.json", wanted)
    seconds = _run(trainer, checkpoint)
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    result = Finetuned(
        adapter=folder / "adapter",
        loss=float(np.mean(losses[-_LAST:])),
        steps=trainer.state.global_step,
        examples=len(encoded.lengths),
        dropped=encoded.dropped,
        tokens=round(len(encoded.tokens) * trainer.state.epoch),
        seconds=seconds,
        seconds_steps=trainer.state.global_step - before,
        trainable=sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),
        estimated=memory.total,
        peak=torch.cuda.max_memory_allocated(_device()) if torch.cuda.is_available() else None,
    )
    if main:
        _keep(folder, trainer, tokenizer, result)
    trainer.accelerator.wait_for_everyone()
    return result


def load(
    model: str | Path,
    adapter: str | Path | None = None,
    *,
    revision: str | None = None,
    quantisation: str | None = None,
    template: str | None = None,
) -> tuple[Any, Any]:
    """A model to ask, and its tokenizer: a folder of `finetune`, or a base model with or without a PEFT adapter.

    Args:
        quantisation: Of the base; None: as it was trained, for a folder of `finetune`, else `none`.
        template: One of `chat.TEMPLATES`; None: the tokenizer's own, else `alpaca`.

    Raises:
        BadRequest: when something is missing, damaged, or not a causal language model.
    """
    if quantisation not in (None, *QUANTISATIONS):
        raise unknown("quantisation", str(quantisation), QUANTISATIONS)
    run = Path(model) / "settings.json"
    if run.exists():
        if not (Path(model) / "finetuned.json").exists():
            raise BadRequest(f"the run in {model} is not finished: start it again, and it goes on where it stopped")
        about = json.loads(run.read_text("utf-8"))["settings"]
        adapter = Path(model) / "adapter"
        model, revision = about["model"], about["revision"]
        double = about["double_quantisation"]
        quantisation = quantisation or about["quantisation"]
    else:
        double = True
    name = str(model)
    load_config(name, revision)
    tokens = adapter if adapter and (Path(adapter) / "tokenizer_config.json").exists() else None
    tokenizer = load_tokenizer(str(tokens or name), None if tokens else revision)
    chat.set_template(tokenizer, template)
    found = _base(name, revision, quantisation or "none", double)
    if adapter:
        _import("peft")
        from peft import PeftModel

        try:
            found = PeftModel.from_pretrained(found, str(adapter))
        except (OSError, ValueError, RuntimeError) as damage:
            raise BadRequest(f"no adapter for '{name}' can be read from {adapter}: {_first_line(damage)}") from None
    return found.eval(), tokenizer


def answer(
    model: Any,
    tokenizer: Any,
    questions: Sequence[Example | str],
    *,
    max_new_tokens: int = 256,
    batch_size: int = 16,
) -> list[str]:
    """Answers by greedy decoding, in the order of the questions.

    An `Example` is asked through the chat template (its output is not looked at); a text is a prompt, taken as it is.
    """
    from transformers import GenerationConfig

    lead, ending = chat.answer_frame(tokenizer)
    stops = sorted({tokenizer.eos_token_id, ending[-1]})
    asked = [q for q in questions if isinstance(q, Example)]
    templated = iter(chat.prompt_tokens(tokenizer, asked) if asked else [])
    prompts = [next(templated) if isinstance(q, Example) else tokenizer(q)["input_ids"] for q in questions]
    # Greedy and nothing else: a model's own repetition penalty would make it differ from `teacher_forced`.
    plan = GenerationConfig(
        max_new_tokens=max_new_tokens,
        do_sample=False,
        repetition_penalty=1.0,
        no_repeat_ngram_size=0,
        eos_token_id=stops,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
    )
    answers = [""] * len(prompts)
    by_length = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    for batch in chat.in_batches(by_length, batch_size):
        ids, mask = _left_padded([prompts[i] for i in batch], tokenizer.pad_token_id, model.device)
        with torch.inference_mode():
            out = model.generate(input_ids=ids, attention_mask=mask, generation_config=plan)[:, ids.shape[1] :]
        for i, row in zip(batch, out.tolist(), strict=True):
            end = next((place for place, token in enumerate(row) if token in stops), len(row))
            answers[i] = tokenizer.decode(row[:end]).removeprefix(lead if isinstance(questions[i], Example) else "")
    return answers


def teacher_forced(model: Any, tokenizer: Any, examples: Sequence[Example], *, batch_size: int = 16) -> list[bool]:
    """For each example: would greedy decoding give exactly its output, then stop? One forward pass, no generation."""
    encoded = chat.encode(tokenizer, examples)
    rows = np.split(encoded.tokens, np.cumsum(encoded.lengths)[:-1])
    right = [False] * len(rows)
    for batch in chat.in_batches(np.argsort(encoded.lengths, kind="stable").tolist(), batch_size):
        ids, mask = _left_padded([rows[i].tolist() for i in batch], tokenizer.pad_token_id, model.device)
        answers = [int(encoded.lengths[i] - encoded.prompts[i]) for i in batch]
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        keep = max(answers) + 1
        with torch.inference_mode():
            logits = model(input_ids=ids, attention_mask=mask, position_ids=positions, logits_to_keep=keep).logits
        hits = logits[:, -keep:-1].argmax(-1) == ids[:, 1 - keep :]
        for row, (i, n) in enumerate(zip(batch, answers, strict=True)):
            right[i] = bool(hits[row, -n:].all())
    return right


def merge(folder: Path, out: Path) -> Path:
    """Add a finished run's adapter to its base model and save both as one, in bfloat16, for plain transformers.

    The sum is taken in 32 bits (4 bytes of memory a parameter) and rounded once. The base is the one before
    quantisation, so that answers may differ a little from those of the quantised base with its adapter.

    Raises:
        BadRequest: when the run is not finished, or `out` exists.
    """
    if out.exists():
        raise BadRequest(f"{out} exists: choose another folder for the merged model")
    model, tokenizer = load(folder, quantisation="none")
    merged = model.float().merge_and_unload().to(torch.bfloat16)
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    merged.save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    partial.rename(out)
    return out


def estimate_memory(config: Any, settings: Finetuning) -> Memory:
    """What training would take, from the model's configuration alone: the model is built on the `meta` device.

    Activations are those that autograd saves in a forward pass of the same shape, and the tiles in which TRL computes
    the head. 4-bit weights take half a byte and their share of the constants (QLoRA, sec. 3), adapters 4 bytes for
    the weight and 4 for its gradient, AdamW 8.

    Raises:
        BadRequest: for targets that the model does not have.
    """
    size = _dtype().itemsize
    model = _on_meta(config, settings)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    head = model.get_output_embeddings()
    linear = [m for m in model.modules() if isinstance(m, nn.Linear) and m is not head and not m.weight.requires_grad]
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
    device = _device()
    return int(torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available)


def load_config(model: str, revision: str | None = None) -> Any:
    """A model's configuration.

    Raises:
        BadRequest: when there is none, or it is not that of a causal language model.
    """
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CAUSAL

    with _refusals(model):
        config = AutoConfig.from_pretrained(model, revision=revision)
    wanted = CAUSAL.get(config.model_type)
    if wanted is None or (config.architectures and wanted not in config.architectures):
        what = ", ".join(config.architectures or [config.model_type])
        raise BadRequest(f"'{model}' ({what}) is not a causal language model" + (f" ({wanted})" if wanted else ""))
    return config


def load_tokenizer(model: str, revision: str | None = None) -> Any:
    """A model's tokenizer; raises as `load_config`."""
    from transformers import AutoTokenizer

    with _refusals(model):
        return AutoTokenizer.from_pretrained(model, revision=revision)


def last_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint: the trainer writes `trainer_state.json` last."""
    whole = [path.parent for path in folder.glob("checkpoint-*/trainer_state.json") if _is_json(path)]
    return max(whole, key=lambda path: int(path.name.split("-")[1]), default=None)


def _trainer(
    settings: Finetuning, folder: Path, tokenizer: Any, data: Any, on_log: Callable[[dict[str, Any]], None] | None
) -> Any:
    """TRL's trainer on rows that are already encoded."""
    from transformers import PrinterCallback, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    class Log(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **others: Any) -> None:
            if on_log is not None and state.is_world_process_zero and "loss" in logs:
                on_log({"step": state.global_step, **logs})

    on_gpu = torch.cuda.is_available()
    arguments = SFTConfig(
        output_dir=str(folder / "checkpoints"),
        per_device_train_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.accumulation,
        num_train_epochs=settings.epochs or 1,
        max_steps=settings.steps or -1,
        lr_scheduler_type=settings.schedule,
        warmup_steps=settings.warmup_ratio,
        **{name: getattr(settings, name) for name in _TRAINERS},
        gradient_checkpointing_kwargs={"use_reentrant": False} if settings.gradient_checkpointing else None,
        bf16=on_gpu and _dtype() == torch.bfloat16,
        fp16=on_gpu and _dtype() == torch.float16,
        use_cpu=not on_gpu,
        logging_steps=1,
        save_steps=settings.save_every,
        save_total_limit=2,
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
        report_to="none",
        disable_tqdm=True,
    )
    model = _base(settings.model, settings.revision, settings.quantisation, settings.double_quantisation)
    trainer = SFTTrainer(
        model=model,
        args=arguments,
        data_collator=chat.Collator(tokenizer.pad_token_id),
        train_dataset=data,
        processing_class=tokenizer,
        callbacks=[Log()],
        peft_config=_lora(settings),
    )
    trainer.remove_callback(PrinterCallback)
    for parameter in trainer.model.parameters():  # undoes TRL's rounding to bfloat16; the optimiser is built later
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return trainer


def _run(trainer: Any, checkpoint: Path | None) -> float:
    """Train from a checkpoint, if there is one; the seconds it took."""
    from transformers import TrainerState

    if checkpoint:
        state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
        if state.global_step >= state.max_steps:  # killed after the last step: the trainer would add one more
            trainer._load_from_checkpoint(str(checkpoint))
            trainer.state = state
            return 0.0
    return float(trainer.train(resume_from_checkpoint=checkpoint and str(checkpoint)).metrics["train_runtime"])


def _base(model: str, revision: str | None, quantisation: str, double: bool) -> Any:
    """The base model, frozen by nobody yet, on the device of this process."""
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    if quantisation != "none":
        _import("bitsandbytes", "accelerate")
    how: dict[str, Any] = {"load_in_8bit": True}
    if quantisation == "nf4":
        how = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": double}
        how["bnb_4bit_compute_dtype"] = _dtype()
    with _refusals(model):
        found = AutoModelForCausalLM.from_pretrained(
            model,
            revision=revision,
            dtype=_dtype(),
            quantization_config=BitsAndBytesConfig(**how) if quantisation != "none" else None,
            device_map={"": _device()},
            attn_implementation="sdpa",  # flash attention reads restarting positions in batches of one row only
        )
    # On some CPUs 4-bit layers would repack themselves for inference, for good, and round their constants to bfloat16.
    for module in found.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return found


def _lora(settings: Finetuning) -> Any:
    from peft import LoraConfig

    return LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=settings.targets if settings.targets == "all-linear" else settings.targets.split(","),
    )


def _device() -> torch.device:
    """This process's own GPU, or the CPU."""
    return (
        torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if torch.cuda.is_available() else torch.device("cpu")
    )


def _dtype() -> torch.dtype:
    """16 bits on a GPU (bfloat16 where it can), 32 on a CPU."""
    if not torch.cuda.is_available():
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def _on_meta(config: Any, settings: Finetuning) -> Any:
    """The model with its adapters, without any weights."""
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=_dtype(), attn_implementation="sdpa")
        try:
            return get_peft_model(model, _lora(settings), autocast_adapter_dtype=False)
        except ValueError as refusal:
            raise BadRequest(f"targets = '{settings.targets}' for '{settings.model}': {_first_line(refusal)}") from None


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


def _left_padded(rows: Sequence[list[int]], pad: int, device: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Token rows as int64 [B, L] with their attention mask, filled up on the left."""
    longest = max(map(len, rows))
    ids = torch.tensor([[pad] * (longest - len(row)) + row for row in rows], device=device)
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=device)
    return ids, mask


def _fingerprint(examples: Sequence[Example], settings: Finetuning) -> dict[str, Any]:
    """What a run depends on, its examples by their hash."""
    digest = sha256()
    for example in examples:
        digest.update(json.dumps([example.instruction, example.input, example.output]).encode())
    return {"settings": asdict(settings), "examples": len(examples), "sha256": digest.hexdigest()}


def _check_folder(folder: Path, wanted: dict[str, Any]) -> None:
    """Refuse a folder that holds another run."""
    path = folder / "settings.json"
    if path.exists():
        found = json.loads(path.read_text("utf-8"))
        differing = [name for name in wanted["settings"] if found["settings"].get(name) != wanted["settings"][name]]
        if found["sha256"] != wanted["sha256"]:
            differing.append("examples")
        if differing:
            raise BadRequest(f"{folder} holds a run that differs in {', '.join(differing)}: choose another folder")


def _keep(folder: Path, trainer: Any, tokenizer: Any, result: Finetuned) -> None:
    """Write the adapter, the learning curve and, last of all, the result; then let the checkpoints go."""
    partial = folder / "adapter.partial"
    shutil.rmtree(partial, ignore_errors=True)
    trainer.accelerator.unwrap_model(trainer.model).save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    shutil.rmtree(folder / "adapter", ignore_errors=True)
    partial.rename(folder / "adapter")
    _write_json(folder / "log.json", trainer.state.log_history)
    _write_json(folder / "finetuned.json", asdict(result) | {"adapter": "adapter"})
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)


def _write_json(path: Path, value: Any) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(value, indent=1) + "\n", "utf-8")
    partial.rename(path)


def _is_json(path: Path) -> bool:
    try:
        return bool(json.loads(path.read_text("utf-8")))
    except ValueError:
        return False


def _import(*names: str) -> None:
    """Refuse, in one sentence, what needs a package that is not there."""
    from importlib.util import find_spec

    for name in names:
        if find_spec(name) is None:
            raise BadRequest(f"fine-tuning needs the package {name}: pip install 'labkit[qlora]'")


@contextmanager
def _refusals(model: str) -> Iterator[None]:
    """Turns what transformers says of a model that cannot be had into one sentence."""
    try:
        yield
    except (OSError, ValueError) as error:
        if Path(model).is_dir():
            raise BadRequest(f"the folder {model} holds no whole model: {_first_line(error)}") from None
        raise BadRequest(
            f"'{model}' is no folder here and could not be had from the Hugging Face hub ({_first_line(error)}): give "
            f"the path of a folder that save_pretrained wrote, or run `hf download {model}` where there is hub access "
            "and copy its cache (HF_HOME)"
        ) from None


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0].rstrip(".")
