"""Fine-tuning and asking a language model: this lab beside `trl.SFTTrainer` and `model.generate`, in one run.

Both sides train the same adapters on the same batches for the same steps, each in a process of its own, so that its
peak of memory is its own; TRL is at its defaults (float32 weights, bfloat16 by autocast, recomputed activations). The
losses of both are shown side by side: equal but for rounding. What counts is tokens that were given, filling not
counted, per second on the wall and per second of processor time; where others work on the machine, the second is fair.

The share of the peak is that of the products that training cannot do without (`flops`), against products
measured in the same process. Answers are written in float32, in which both sides write the same.
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import torch

from labkit.instructions import Example
from labkit.instructions.corpora import read
from labkit.instructions.families import EVERY
from labkit.instructions.family import draw
from labkit.lab.provenance import Meter, cpu_name
from labkit.learn import chat, embedded, qlora
from labkit.learn.decoding import greedy, left_padded
from labkit.learn.finetuning import Finetuning
from labkit.learn.memory import lora_config, on_meta, resolved, training_dtype
from labkit.learn.probe import product_rate

WORKED = ("arithmetic", "functions", "dialogue", "editing", "dates", "counting")  # requests with answers of any length


class Trained(NamedTuple):
    """What one side did: the loss of each step, tokens, seconds, processor seconds, peak of memory in MiB."""

    losses: list[float]
    tokens: int
    seconds: float
    processor: float
    peak: int


class Written(NamedTuple):
    """Answers as tokens, and the seconds that they took."""

    answers: list[list[int]]
    seconds: float
    processor: float

    @property
    def tokens(self) -> int:
        return sum(map(len, self.answers))


def main(model: str = "smollm2", data: str | None = None, steps: int = 6, batch_size: int = 8, rank: int = 16,
         questions: int = 48, new_tokens: int = 96) -> None:  # fmt: skip
    """Run and print both comparisons."""
    examples = examples_of(data, max(steps * batch_size, questions))
    settings = plain_settings(model, steps, batch_size, rank)
    config = qlora.load_config(model, settings.revision)
    encoded, dtype = prepared(settings, examples)[2], training_dtype(config)
    print(f"{model}, {steps} steps of {batch_size} examples, rank {rank}, {cpu_name()}, "
          f"{torch.get_num_threads()} threads, {str(dtype).removeprefix('torch.')}", flush=True)  # fmt: skip
    ours = apart(train_ours, settings, examples)
    print(f"labkit:     {_said(ours)}", flush=True)
    theirs = apart(train_trl, settings, examples)
    print(f"SFTTrainer: {_said(theirs)}")
    print("losses:     " + ", ".join(f"{a:.3f} {b:.3f}" for a, b in zip(ours.losses, theirs.losses, strict=True)))
    ratios = [theirs.seconds / ours.seconds, theirs.processor / ours.processor]
    print(f"  -> {ratios[0]:.1f} times the tokens per second ({ratios[1]:.1f} times per second of processor time), "
          f"{ours.peak / theirs.peak:.2f} times the memory")  # fmt: skip
    peak, needed = product_rate(dtype), flops(config, settings, encoded) * ours.tokens / len(encoded.tokens)
    for by, name in (("seconds", "wall"), ("processor", "processor")):
        spent = getattr(ours, by)
        print(f"  -> {needed / spent / peak:.0%} of the measured peak of {peak / 1e9:.0f} GFLOP/s ({name} time)")
    print(flush=True)
    written = apart(write, settings, examples[:questions], new_tokens)
    (mine, plain), quick = written["float32"], written["quick"]
    same = sum(a == b for a, b in zip(mine.answers, plain.answers, strict=True))
    lengths = sorted(map(len, mine.answers))
    print(
        f"{questions} answers of {lengths[0]} to {lengths[-1]} tokens (median {lengths[len(lengths) // 2]}), float32:"
    )
    for name, side in (("labkit", mine), ("model.generate", plain), (f"labkit, {quick[0]}", quick[1])):
        print(f"{name + ':':<22} {side.tokens / side.seconds:6.1f} tokens per second, "
              f"{side.tokens / side.processor:6.1f} per second of processor time")  # fmt: skip
    print(f"  -> {plain.seconds / mine.seconds:.1f} times as fast ({plain.processor / mine.processor:.1f} times by "
          f"processor time); {same} of {questions} answers are equal")  # fmt: skip


def examples_of(data: str | None, n: int) -> list[Example]:
    """The first examples of a file of records or a corpus, or the lab's own requests with worked answers."""
    if data:
        return list(islice(read(data), n))
    drawn = [draw(EVERY[name], -(-n // len(WORKED)), seed=0) for name in WORKED]
    return [
        Example(t.example.instruction, t.example.input, EVERY[name].worked(t.instruction, t.example.input), name, name)
        for group in zip(*drawn, strict=True)
        for name, t in zip(WORKED, group, strict=True)
    ][:n]


def plain_settings(model: str, steps: int, batch_size: int, rank: int) -> Finetuning:
    """TRL's defaults, as the lab's settings."""
    return qlora.settings(
        model, quantisation="none", rank=rank, alpha=16, dropout=0.0, learning_rate=2e-4, schedule="linear",
        batch_size=batch_size, steps=steps, max_length=1024, overlong="drop", max_grad_norm=1.0,
    )  # fmt: skip


def apart(work: Callable[..., Any], *given: Any) -> Any:
    """What a piece of work gives in a new process with as many threads as this one has."""
    with ProcessPoolExecutor(1, get_context("spawn"), torch.set_num_threads, (torch.get_num_threads(),)) as pool:
        return pool.submit(work, *given).result()


def prepared(settings: Finetuning, examples: Sequence[Example]) -> tuple[Any, Any, chat.Encoded]:
    """Tokenizer, rows to train on, and what they were made of."""
    tokenizer = qlora.load_tokenizer(settings.model, settings.revision)
    chat.set_template(tokenizer, settings.template)
    encoded = chat.encode(tokenizer, examples, settings.max_length, settings.overlong)
    return tokenizer, chat.dataset(encoded), encoded


def train_ours(settings: Finetuning, examples: Sequence[Example]) -> Trained:
    """Fine-tune as `labkit finetune` does."""
    tokenizer, rows, encoded = prepared(settings, examples)
    chosen = resolved(qlora.load_config(settings.model, settings.revision), settings)
    with tempfile.TemporaryDirectory() as folder:
        return _timed(qlora.build_trainer(chosen, Path(folder), tokenizer, rows, None), encoded)


def train_trl(settings: Finetuning, examples: Sequence[Example]) -> Trained:
    """Fine-tune with `trl.SFTTrainer` at its defaults; only what logs and saves is turned off."""
    from transformers import PrinterCallback, set_seed
    from trl import SFTConfig, SFTTrainer

    tokenizer, rows, encoded = prepared(settings, examples)
    set_seed(settings.seed)
    with tempfile.TemporaryDirectory() as folder:
        arguments = SFTConfig(
            output_dir=folder, max_steps=settings.steps or 1, per_device_train_batch_size=settings.batch_size,
            learning_rate=settings.learning_rate, seed=settings.seed, use_cpu=not torch.cuda.is_available(),
            report_to="none", save_strategy="no", logging_steps=1, disable_tqdm=True,
        )  # fmt: skip
        trainer = SFTTrainer(
            embedded.located(settings.model, settings.revision)[0], arguments, processing_class=tokenizer,
            train_dataset=rows.remove_columns("seq_lengths"), peft_config=lora_config(settings),
            quantization_config=qlora.quantised(settings.quantisation, True, torch.bfloat16),
        )  # fmt: skip
        trainer.remove_callback(PrinterCallback)
        return _timed(trainer, encoded)


def _timed(trainer: Any, encoded: chat.Encoded) -> Trained:
    """Train, and say what it took."""
    meter = Meter()
    seconds = float(trainer.train().metrics["train_runtime"])
    measured = meter.read()
    losses = [float(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]
    memory = measured["peak_gpu_memory_mib"] or measured["peak_memory_mib"]
    return Trained(
        losses, round(len(encoded.tokens) * trainer.state.epoch), seconds, measured["processor_seconds"], memory
    )


def write(settings: Finetuning, examples: Sequence[Example], new_tokens: int, rows: int = 16) -> dict[str, Any]:
    """Answers by this lab and by `model.generate`, in float32; and by this lab as it would write them here."""
    tokenizer = prepared(settings, examples[:1])[0]
    prompts = chat.prompt_tokens(tokenizer, examples)
    stops, pad = sorted({tokenizer.eos_token_id, chat.answer_frame(tokenizer).stop}), tokenizer.pad_token_id
    model, _ = qlora.load(settings.model, revision=settings.revision)
    name = str(model.dtype).removeprefix("torch.")
    quick = _clocked(lambda: greedy(model, prompts, stops, pad, new_tokens=new_tokens, rows=rows))
    model.float()
    mine = _clocked(lambda: greedy(model, prompts, stops, pad, new_tokens=new_tokens, rows=rows))
    plain = _clocked(lambda: generated(model, prompts, stops, pad, new_tokens, rows))
    return {"quick": (name, quick), "float32": (mine, plain)}


@torch.inference_mode()
def generated(
    model: Any, prompts: Sequence[list[int]], stops: list[int], pad: int, new_tokens: int, rows: int
) -> list[list[int]]:
    """The same by transformers, prompts of about one length together."""
    from transformers import GenerationConfig

    plan = GenerationConfig(max_new_tokens=new_tokens, do_sample=False, eos_token_id=stops, pad_token_id=pad)
    answers: list[list[int]] = [[] for _ in prompts]
    for batch in chat.in_batches(sorted(range(len(prompts)), key=lambda i: len(prompts[i])), rows):
        ids, mask, _ = left_padded([prompts[i] for i in batch], pad, model.device)
        found = model.generate(input_ids=ids, attention_mask=mask, generation_config=plan)[:, ids.shape[1] :].tolist()
        for i, row in zip(batch, found, strict=True):
            answers[i] = row[: next((place for place, token in enumerate(row) if token in stops), len(row))]
    return answers


def _clocked(work: Callable[[], list[list[int]]]) -> Written:
    began, used = time.perf_counter(), time.process_time()
    answers = work()
    return Written(answers, time.perf_counter() - began, time.process_time() - used)


def flops(config: Any, settings: Finetuning, encoded: chat.Encoded) -> float:
    """Floating-point operations of the products that one epoch cannot do without.

    Of each frozen matrix parameter 2 forward and 2 for the gradient of its input, per token; of each trained one 6; of
    the head 4, per label. Left out: attention scores, norms, activations, the optimiser.
    """
    model = on_meta(config, settings)
    head = model.get_output_embeddings()
    weights = [m.weight for m in model.modules() if isinstance(m, torch.nn.Linear) and m is not head]
    a_token = sum((6 if weight.requires_grad else 4) * weight.numel() for weight in weights)
    labels = int((encoded.lengths - encoded.prompts).sum())
    return float(len(encoded.tokens) * a_token + labels * 4 * head.weight.numel())


def _said(side: Trained) -> str:
    return (f"{side.tokens / side.seconds:6.1f} tokens per second, {side.tokens / side.processor:6.1f} per second of "
            f"processor time, at most {side.peak:,} MiB")  # fmt: skip
