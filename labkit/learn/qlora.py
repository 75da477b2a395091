"""Fine-tuning of a Hugging Face causal language model by LoRA, its base in 4, 8 or 16 bits (QLoRA, arXiv 2305.14314).

Guaranteed:
- Equal settings, examples and seed give equal adapters on one machine with one process (CPU: with one thread).
- A run that was killed goes on from its last whole checkpoint and ends with the same adapter; a finished folder is
  returned as it is; a folder of other settings or examples is refused (the base model goes by its name).
- What would not fit into the device's free memory is refused before any weight is loaded.
- A run whose loss or weights stop being finite numbers ends with a sentence; nothing of it is kept.
- `adapter/` is plain PEFT, and its tokenizer carries the prompt's template.
Left open: several GPUs each hold the whole base model (data parallelism: `accelerate launch -m labkit finetune ...`).
On a CPU 8-bit layers round their inputs to 16 bits.

The adapters are kept and updated in 32 bits, and multiply in the base's type. TRL rounds those of a quantised model to
bfloat16, where a step of the papers' learning rate, 1e-5, is lost on three of four weights of the matrix A beside a
layer of width 4096.
"""

import json
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, fields, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError

from labkit.design.durable import write_text
from labkit.errors import BadRequest, first_line, unknown
from labkit.instructions import Example
from labkit.instructions.hub import hub_or_cache
from labkit.learn import chat, embedded
from labkit.learn.decoding import answer, followed
from labkit.learn.finetuning import PRESETS, QUANTISATIONS, Finetuning, settings
from labkit.learn.finite import NotFinite, all_finite, check_files, check_training, check_weights
from labkit.learn.memory import (
    check_memory,
    describe,
    estimate_memory,
    lora_config,
    resolved,
    training_device,
    training_dtype,
)
from labkit.learn.probe import bfloat16_gain
from labkit.learn.tuning_step import learn_labels, lighten

_TRAINERS = ("learning_rate", "weight_decay", "max_grad_norm", "seed")  # same name there
__all__ = ["PRESETS", "Finetuned", "Finetuning", "answer", "check_memory", "describe", "estimate_memory", "finetune",
           "followed", "load", "load_config", "load_tokenizer", "settings"]  # fmt: skip
_RESOLVED = ("precision", "gradient_checkpointing")  # where left open, chosen for the machine that a run began on
ADAPTER_FILE = "adapter_model.safetensors"  # as PEFT names it
_LAST = 10  # the final loss is the mean over so many last steps


@dataclass(frozen=True)
class Finetuned:
    """A finished run.

    Attributes:
        adapter: The folder with the PEFT adapter and the tokenizer.
        loss: Training loss, nats per learned token (averaged as the settings say): the mean over the last 10 steps.
        steps: Optimiser steps.
        examples, dropped: How many examples were trained on, and how many did not fit.
        tokens: Tokens trained on, filling not counted; where the last epoch is partial, by the mean per row.
        seconds: Of training, in the process that finished it.
        trainable: Trained parameters.
        peak: Bytes that the GPU's allocator held at most; None on a CPU.
    """

    adapter: Path
    loss: float
    steps: int
    examples: int
    dropped: int
    tokens: int
    seconds: float
    trainable: int
    peak: int | None


@contextmanager
def _without_future_warnings() -> Iterator[None]:
    """transformers warns of names that its version 6 will drop; older ones know no others."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


@_without_future_warnings()
def finetune(examples: Sequence[Example], settings: Finetuning, folder: Path, *, start: Path | None = None,
             on_log: Callable[[dict[str, Any]], None] | None = None,
             say: Callable[[str], None] = print) -> Finetuned:  # fmt: skip
    """Fine-tune, or finish what a killed run began in `folder`, or return what is finished there.

    Args:
        start: Folder of an adapter of the same base and shape to go on from; None: a new one.
        on_log: Called after each step with `step`, `loss`, `learning_rate` and what else the trainer measures.
        say: Told, in words, what is about to happen: memory, and a decoded example with its mask.

    Raises:
        BadRequest: for a model that cannot be had or is not causal, examples that do not fit, too little memory, or a
            folder of another run.
        NotFinite: for a base model or a training run with numbers that are NaN or infinite.
    """
    folder, done = Path(folder), Path(folder) / "finetuned.json"
    main = int(os.environ.get("RANK", 0)) == 0
    wanted = _fingerprint(examples, settings, start)
    _check_folder(folder, wanted)
    if done.exists():
        if not _finite_adapter(folder / "adapter"):
            raise NotFinite(f"the adapter in {folder} is not of finite numbers: remove the folder, and start again")
        kept = json.loads(done.read_text("utf-8")) | {"adapter": folder / "adapter"}
        return Finetuned(**{name: kept[name] for name in Finetuned.__annotations__})
    _import("trl", "peft", "datasets", "accelerate")  # trl: what packs
    if torch.cuda.device_count() > 1 and "LOCAL_RANK" not in os.environ:
        raise BadRequest(f"{torch.cuda.device_count()} GPUs are visible: start with `accelerate launch -m labkit "
                         "finetune ...` to use all, or name one in CUDA_VISIBLE_DEVICES")  # fmt: skip
    config = load_config(settings.model, settings.revision)
    tokenizer = load_tokenizer(settings.model, settings.revision)
    chat.set_template(tokenizer, settings.template)
    if settings.max_length > getattr(config, "max_position_embeddings", settings.max_length):
        raise BadRequest(f"max_length {settings.max_length} is more than the {config.max_position_embeddings} "
                         f"positions of '{settings.model}'")  # fmt: skip
    encoded = chat.encode(tokenizer, examples, settings.max_length, settings.overlong)
    chat.check_tokens(tokenizer, int(encoded.tokens.max()), config.get_text_config().vocab_size)
    chosen = replace(settings, **_resolved_before(folder))
    settings = resolved(config, chosen)
    memory = check_memory(config, settings)
    if main:
        say(f"precision: {settings.precision}{_why(chosen.precision)}")
        say(f"memory: {describe(memory)}" + "; activations are recomputed" * bool(settings.gradient_checkpointing))
        say(f"{len(encoded.lengths)} examples, {encoded.dropped} too long and dropped; one, ⟦learned⟧:")
        say(chat.show_row(tokenizer, encoded))
    data = chat.dataset(encoded, settings.max_length if settings.packing else None)
    trainer = build_trainer(settings, folder, tokenizer, data, on_log)
    if start:
        _go_on(trainer.model, start)
    checkpoint = last_checkpoint(folder / "checkpoints")
    if settings.packing and not trainer.data_collator.join:
        raise BadRequest(f"'{settings.model}' lets packed examples see one another: set packing to false")
    if main:
        folder.mkdir(parents=True, exist_ok=True)
        chosen_here = {name: getattr(settings, name) for name in _RESOLVED}
        _write_json(folder / "settings.json", wanted | {"resolved": chosen_here})
    try:
        seconds = _run(trainer, checkpoint)
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        check_training(sum(losses), _trained(trainer.model), trainer.state.global_step, settings.learning_rate)
    except NotFinite:
        if main:
            shutil.rmtree(folder / "checkpoints", ignore_errors=True)  # it would only diverge again
            (folder / "settings.json").unlink(missing_ok=True)
        raise
    result = Finetuned(
        adapter=folder / "adapter", loss=float(np.mean(losses[-_LAST:])), steps=trainer.state.global_step,
        examples=len(encoded.lengths), dropped=encoded.dropped, tokens=round(len(encoded.tokens) * trainer.state.epoch),
        seconds=seconds, trainable=sum(p.numel() for p in _trained(trainer.model)),
        peak=torch.cuda.max_memory_allocated(training_device()) if torch.cuda.is_available() else None,
    )  # fmt: skip
    if main:
        _keep(folder, trainer, tokenizer, result)
    trainer.accelerator.wait_for_everyone()
    return result


def load(model: str | Path, adapter: str | Path | None = None, *, revision: str | None = None,
         quantisation: str | None = None, template: str | None = None) -> tuple[Any, Any]:  # fmt: skip
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
    double, precision = True, None
    if run.exists():
        if not (Path(model) / "finetuned.json").exists():
            raise BadRequest(f"the run in {model} is not finished: start it again, and it goes on where it stopped")
        precision = _resolved_before(Path(model)).get("precision")
        about, adapter = json.loads(run.read_text("utf-8"))["settings"], Path(model) / "adapter"
        model, revision, double = about["model"], about["revision"], about["double_quantisation"]
        quantisation = quantisation or about["quantisation"]
    name = str(model)
    load_config(name, revision)
    tokens = adapter if adapter and (Path(adapter) / "tokenizer_config.json").exists() else None
    tokenizer = load_tokenizer(str(tokens or name), None if tokens else revision)
    chat.set_template(tokenizer, template)
    asked = _base(name, revision, quantisation or "none", double, precision)
    if adapter:
        _import("peft")
        from peft import PeftModel

        try:
            asked = PeftModel.from_pretrained(asked, str(adapter), autocast_adapter_dtype=False)
        except (OSError, ValueError, RuntimeError) as damage:
            raise BadRequest(f"no adapter for '{name}' can be read from {adapter}: {first_line(damage)}") from None
        check_weights(asked, str(adapter))
        for name, weight in asked.named_parameters():
            if "lora_" in name:  # in the base's type, or PEFT would cast what each layer reads and writes
                weight.data = weight.data.to(asked.dtype)
    return asked.eval(), tokenizer


def load_config(model: str, revision: str | None = None) -> Any:
    """A model's configuration.

    Raises:
        BadRequest: when there is none, or it is not that of a causal language model.
    """
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CAUSAL

    if (Path(model) / "adapter_config.json").exists() or (Path(model) / "finetuned.json").exists():
        raise BadRequest(
            f"{model} holds a LoRA adapter, not a whole model: PEFT's merge_and_unload adds it to its base"
        )
    model, revision = embedded.located(model, revision)
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

    model, revision = embedded.located(model, revision)
    with _refusals(model):
        return AutoTokenizer.from_pretrained(model, revision=revision)


def last_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint of finite weights: the trainer writes `trainer_state.json` last."""
    whole = [path.parent for path in folder.glob("checkpoint-*/trainer_state.json") if _is_json(path)]
    return max(filter(_finite_adapter, whole), key=lambda path: int(path.name.split("-")[1]), default=None)


def build_trainer(
    settings: Finetuning, folder: Path, tokenizer: Any, data: Any, on_log: Callable[[dict[str, Any]], None] | None
) -> Any:
    """transformers' trainer on rows that are already encoded, with the quick step of `tuning_step`."""
    from peft import get_peft_model
    from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments, set_seed

    class Log(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any, model: Any, **others: Any) -> None:
            if "loss" in logs:  # in every process, and before a checkpoint is written
                check_training(logs["loss"], _trained(model), state.global_step, settings.learning_rate)
            if on_log is not None and state.is_world_process_zero and "loss" in logs:
                on_log({"step": state.global_step, **logs})

    class Weighted(Trainer):
        """The loss of a step is the weighted sum over all of its passes and processes, by the sum of the weights."""

        def _get_num_items_in_batch(self, batch_samples: list[Any], device: Any) -> torch.Tensor:
            total = torch.stack([batch["weights"].sum() for batch in batch_samples]).sum().to(device)
            return self.accelerator.gather(total).sum()

        def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False,
                         num_items_in_batch: Any = None) -> Any:  # fmt: skip
            return model(**inputs, use_cache=False)["loss"] * self.accelerator.num_processes / num_items_in_batch

    on_gpu, checkpointing = torch.cuda.is_available(), settings.gradient_checkpointing is not False
    set_seed(settings.seed)
    model = _base(settings.model, settings.revision, settings.quantisation, settings.double_quantisation,
                  settings.precision)  # fmt: skip
    isolates = chat.isolates(model, len(tokenizer))
    learn_labels(model)
    model = get_peft_model(model, lora_config(settings))  # its adapters are in 32 bits
    lighten(model)
    if checkpointing:
        model.enable_input_require_grads()
    arguments = TrainingArguments(
        output_dir=str(folder / "checkpoints"), per_device_train_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.accumulation, num_train_epochs=settings.epochs or 1,
        max_steps=settings.steps or -1, lr_scheduler_type=settings.schedule, warmup_steps=settings.warmup_ratio,
        **{name: getattr(settings, name) for name in _TRAINERS}, gradient_checkpointing=checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False} if checkpointing else None,
        fp16=on_gpu and model.dtype == torch.float16, use_cpu=not on_gpu, logging_steps=1,
        logging_nan_inf_filter=False,  # the filter logs other losses in the place of NaN
        save_steps=settings.save_every, save_total_limit=2, report_to="none", disable_tqdm=True,
        remove_unused_columns=False,
    )  # fmt: skip
    collator = chat.Collator(tokenizer.pad_token_id, settings.loss, join=isolates)
    trainer = Weighted(model=model, args=arguments, data_collator=collator, train_dataset=data,
                       processing_class=tokenizer, callbacks=[Log()])  # fmt: skip
    trainer.model_accepts_loss_kwargs = True  # the loss is that of the whole step already
    trainer.remove_callback(PrinterCallback)
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


def quantised(quantisation: str, double: bool, dtype: torch.dtype) -> Any:
    """transformers' configuration of a base in 4 or 8 bits, computing in `dtype`; None for `none`."""
    from transformers import BitsAndBytesConfig

    if quantisation == "nf4":
        return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=double,
                                  bnb_4bit_compute_dtype=dtype)  # fmt: skip
    return BitsAndBytesConfig(load_in_8bit=True) if quantisation == "int8" else None


def _base(model: str, revision: str | None, quantisation: str, double: bool, precision: str | None) -> Any:
    """The base model, frozen by nobody yet, on the device of this process."""
    from transformers import AutoModelForCausalLM
    from transformers.utils import cached_file

    if quantisation != "none":
        _import("bitsandbytes", "accelerate")
    dtype = training_dtype(load_config(model, revision), precision)
    model, revision = embedded.located(model, revision)
    with _refusals(model):
        if quantisation == "nf4":
            check_files(Path(str(cached_file(model, "config.json", revision=revision))).parent, model)
        loaded = AutoModelForCausalLM.from_pretrained(
            model, revision=revision, dtype=dtype, device_map={"": training_device()},
            quantization_config=quantised(quantisation, double, dtype),
            attn_implementation="sdpa",  # flash attention reads restarting positions in batches of one row only
        )  # fmt: skip
    check_weights(loaded, model)
    # On some CPUs 4-bit layers would repack themselves for inference, for good, and round their constants to bfloat16.
    for module in loaded.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return loaded


def _trained(model: Any) -> Iterator[torch.Tensor]:
    return (parameter for parameter in model.parameters() if parameter.requires_grad)


def _finite_adapter(folder: Path) -> bool:
    """Whether a folder's adapter can be read and holds finite numbers alone."""
    from safetensors.torch import load_file

    try:
        return all_finite(load_file(folder / ADAPTER_FILE).values())
    except (OSError, SafetensorError):
        return False


def _go_on(model: Any, adapter: Path) -> None:
    """Give a new adapter the weights of a trained one."""
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    try:
        missing = set_peft_model_state_dict(model, load_file(adapter / ADAPTER_FILE))
    except (OSError, ValueError, RuntimeError) as damage:
        raise BadRequest(f"no adapter of this base and shape can be read from {adapter}: "
                         f"{first_line(damage)}") from None  # fmt: skip
    check_weights(model, str(adapter))
    if missing.unexpected_keys or any("lora_" in key for key in missing.missing_keys):
        raise BadRequest(f"the adapter in {adapter} is not of this base and shape")


def _fingerprint(examples: Sequence[Example], settings: Finetuning, start: Path | None) -> dict[str, Any]:
    """What a run depends on; its examples, and the adapter that it goes on from, by their hash."""
    digest = sha256()
    for example in examples:
        digest.update(json.dumps([example.instruction, example.input, example.output]).encode())
    if start:
        if not (start / ADAPTER_FILE).is_file():
            raise BadRequest(f"{start} holds no adapter to go on from: no {ADAPTER_FILE}")
        digest.update((start / ADAPTER_FILE).read_bytes())
    return {"settings": asdict(settings), "examples": len(examples), "sha256": digest.hexdigest()}


def _check_folder(folder: Path, wanted: dict[str, Any]) -> None:
    """Refuse a folder that holds another run."""
    path = folder / "settings.json"
    if not path.exists():
        if folder.exists() and any(folder.iterdir()):
            raise BadRequest(f"{folder} holds something other than a fine-tuning run: name a new folder")
        return
    try:
        kept = {"settings": {}, "sha256": ""} | json.loads(path.read_text("utf-8"))
    except (ValueError, TypeError):
        raise BadRequest(f"{path} is damaged, or not of a fine-tuning run: name a new folder") from None
    before = {field.name: field.default for field in fields(Finetuning)} | kept["settings"]
    differing = [name for name, value in wanted["settings"].items() if before[name] != value]
    if kept["sha256"] != wanted["sha256"]:
        differing.append("examples")
    if differing:
        raise BadRequest(f"{folder} holds a run that differs in {', '.join(differing)}: choose another folder")


def _resolved_before(folder: Path) -> dict[str, Any]:
    """What was chosen for the machine on which the run in a folder began."""
    path = folder / "settings.json"
    return json.loads(path.read_text("utf-8")).get("resolved", {}) if path.exists() else {}


def _why(precision: str | None) -> str:
    """How the precision came about, where nobody named it and this CPU was measured."""
    if precision is not None or torch.cuda.is_available():
        return ""
    return f" (bfloat16 products are {bfloat16_gain():.1f} times as fast as float32 ones here)"


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
    write_text(path, json.dumps(value, indent=1) + "\n")


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
        with nullcontext() if Path(model).is_dir() else hub_or_cache():
            yield
    except BadRequest:
        raise
    except (OSError, ValueError, SafetensorError) as error:
        if Path(model).is_dir():
            raise BadRequest(f"the folder {model} holds no whole model: {first_line(error)}") from None
        raise BadRequest(f"'{model}' is no folder here and could not be had from the Hugging Face hub "
                         f"({first_line(error)}): give the path of a folder that save_pretrained wrote, or run `hf "
                         f"download {model}` where there is hub access "
                         "and copy its cache (HF_HOME)") from None  # fmt: skip
