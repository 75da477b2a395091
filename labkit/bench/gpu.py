"""What one GPU gives in at most eight minutes: device checks, Figure 2a, fine-tuning speed, a code mixture.

1. Checks: what a CPU writes and scores in float32 comes out on the GPU, too, and what it trains ends nearby.
2. Figure 2a of arXiv 2402.10891 at the paper's sizes, this lab's `fast` recipe and one pass over the data, at as many
   numbers of rules as fit into their share of the time.
3. Tokens per second of QLoRA beside `trl.SFTTrainer` at its defaults, on random weights in the shapes of Qwen2.5-1.5B
   and Llama-2-7B, with the share of the measured product peak.
4. SmolLM2 fine-tuned on three shares of code and general requests, asked new ones of both.

Everything is printed and kept in one file with hardware, versions and command. A part that would not fit any more is
left out and named. `smoke` runs the same with tiny shapes on any machine, to see that it runs: it measures nothing.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from labkit import lab, learn, studies
from labkit.bench import language
from labkit.errors import BadRequest
from labkit.instructions.families import EVERY
from labkit.instructions.family import draw
from labkit.learn import qlora
from labkit.learn.learner import TunedLearner
from labkit.learn.memory import training_dtype
from labkit.learn.probe import product_rate

SECONDS = 480
FIGURE_SECONDS = 180  # the share of Figure 2a
COUNTS = (1000, 100, 300, 500, 10_000, 400, 200, 2500, 600, 100_000)  # the step between 300 and 500 first
TOGETHER = 4  # models trained as one fleet
SHAPES = {  # of transformers' Llama; random weights, and SmolLM2's vocabulary
    "1.5B": {"hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12,
             "num_key_value_heads": 2},
    "7B": {"hidden_size": 4096, "intermediate_size": 11_008, "num_hidden_layers": 32, "num_attention_heads": 32},
}  # fmt: skip
TINY = {"tiny": {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}}
SHARES = (0.0, 0.25, 0.5)  # of general requests among those of code
GENERAL = ("editing", "sorting", "formatting")


def main(out: Path, smoke: bool = False) -> None:
    """Run all parts, and keep what they gave.

    Raises:
        BadRequest: without a GPU, unless `smoke`.
    """
    if not (smoke or torch.cuda.is_available()):
        raise BadRequest("`labkit bench gpu` needs an NVIDIA GPU, and torch sees none here; with --smoke it runs tiny "
                         "shapes on any machine")  # fmt: skip
    device, ends = learn.best_device(), time.perf_counter() + SECONDS
    lab.ensure_writable(out)
    dtype = training_dtype() if device == "cuda" else torch.float32
    peak = product_rate(dtype, 128 if smoke else 8192, 0.05 if smoke else 1.0, device)
    found: dict[str, Any] = {"command": " ".join(["labkit", *sys.argv[1:]]), "made with": lab.provenance(),
                             "smoke": smoke, "product peak, FLOP/s": peak, "precision": str(dtype)}  # fmt: skip
    shapes = TINY if smoke else SHAPES
    parts: dict[str, Callable[[], Any]] = {"checks": lambda: checks(device), "figure 2a": lambda: figure(smoke)}
    parts |= {f"qlora {name}": partial(throughput, shape, smoke, peak) for name, shape in shapes.items()}
    parts["code mixing"] = lambda: mixing(smoke)
    lasted = 0.0
    for name, part in parts.items():
        began = time.perf_counter()
        if began + lasted > ends:
            found[name] = f"left out: {ends - began:.0f} s were left"
        else:
            found[name] = part()
            lasted = time.perf_counter() - began if name.startswith("qlora") else 0.0
        print(f"{name}: {json.dumps(found[name])} ({time.perf_counter() - began:.0f} s)", flush=True)
    path = out / f"{time.strftime('%Y-%m-%d-%H%M%S')}{'-smoke' * smoke}.json"
    lab.write_json(path, found)
    print(path)


def checks(device: str) -> dict[str, float]:
    """How far the device is from the CPU: answers and a loss in float32, a small model's loss after training."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    model: Any = LlamaForCausalLM(LlamaConfig(vocab_size=200, max_position_embeddings=256, **TINY["tiny"])).eval()
    prompts = [torch.randint(3, 200, (n,)).tolist() for n in (5, 9, 3, 12, 7)]
    batch = torch.randint(3, 200, (4, 64))
    answers, losses = [], []
    for place in ("cpu", device):
        model.to(place)
        answers.append(language.greedy(model, prompts, {0}, 2, new_tokens=24, rows=3))
        with torch.no_grad():
            losses.append(float(model(input_ids=batch.to(place), labels=batch.to(place)).loss))
    cells: Any = _points({"scale": "smoke", "n_instructions": [20]})
    ends = []
    for place in ("cpu", device):
        built = learn.build("fast", cells[0].model_shape(), 0).to(place)
        data = cells[0].lesson().data
        ends.append(learn.train(built, "fast", data, steps=20, batch_size=32, seed=0, device=place).loss)
    return {
        "answers equal": float(np.mean([a == b for a, b in zip(*answers, strict=True)])),
        "loss differs by": abs(losses[1] - losses[0]), "trained loss differs by": abs(ends[1] - ends[0]),
    }  # fmt: skip


def _points(given: dict[str, Any]) -> Any:
    """Cells of the diversity sweep's main design, one seed."""
    study = studies.find("diversity_sweep")
    return study.points(study.resolve({"noop_shares": [], "input_lengths": [], "seeds": [0], **given}))


def figure(smoke: bool) -> dict[str, Any]:
    """Accuracy on unseen and on training rules, by the number of rules, and the seconds of each fleet."""
    study, began, found = studies.find("diversity_sweep"), time.perf_counter(), dict[str, Any]()
    given = {"scale": "smoke"} if smoke else {"scale": "paper", "recipe": "fast", "steps": 1953, "n_test": 10_000}
    counts, lasted = list((20,) if smoke else COUNTS), 0.0
    with tempfile.TemporaryDirectory() as folder:
        while counts and time.perf_counter() - began + lasted < FIGURE_SECONDS:
            now, counts, start = counts[:TOGETHER], counts[TOGETHER:], time.perf_counter()
            cells = _points({**given, "n_instructions": now})
            rows = lab.sweep(cells, study.measure, measure_many=study.measure_many, store=lab.Store(Path(folder)),
                             jobs=0, progress=lab.Progress(bar=False))  # fmt: skip
            lasted = time.perf_counter() - start
            for row in rows:
                found[str(row["n_instructions"])] = {
                    name: value for name, value in row.items() if name.startswith(("accuracy", "loss", "train_seconds"))
                }
    return found | {"not reached": counts}


def throughput(shape: dict[str, int], smoke: bool, peak: float) -> dict[str, Any]:
    """Training tokens per second of QLoRA, ours and TRL's, on random weights of a shape."""
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = qlora.load_tokenizer("smollm2")
    with tempfile.TemporaryDirectory() as folder:
        with torch.device(learn.best_device()):
            config = LlamaConfig(vocab_size=len(tokenizer), bos_token_id=1, eos_token_id=2, **shape)
            torch.set_default_dtype(torch.float32 if smoke else torch.bfloat16)
            try:
                model = LlamaForCausalLM(config)
            finally:
                torch.set_default_dtype(torch.float32)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        del model
        batch, steps = (2, 2) if smoke else (16, 8)
        quantisation = "none" if smoke else "nf4"
        settings = qlora.settings(folder, quantisation=quantisation, rank=4 if smoke else 64, dropout=0.0, steps=steps,
                                  batch_size=batch, max_length=1024, schedule="linear", max_grad_norm=1.0)  # fmt: skip
        examples = language.examples_of(None, steps * batch)
        sides = [
            work(settings, examples) if smoke else language.apart(work, settings, examples)
            for work in (language.train_ours, language.train_trl)
        ]
        encoded = language.prepared(settings, examples)[2]
        needed = language.flops(config, settings, encoded) * sides[0].tokens / len(encoded.tokens)
    rates = [side.tokens / side.seconds for side in sides]
    return {
        "tokens per second": rates[0], "SFTTrainer": rates[1], "ratio": rates[0] / rates[1],
        "share of peak": needed / sides[0].seconds / peak, "peak MiB": [side.peak for side in sides],
        "losses": [side.losses for side in sides],
    }  # fmt: skip


def mixing(smoke: bool) -> dict[str, Any]:
    """For each share of general requests: exact answers to new requests of code and of the general families."""
    n, steps, asked = (8, 1, 4) if smoke else (2048, 64, 200)
    found: dict[str, Any] = {}
    for share in SHARES[:1] if smoke else SHARES:
        code, general = (_requests(names, n, "train") for names in (("functions",), GENERAL))
        cut = round(share * n)
        data = [*general[:cut], *code[: n - cut]]
        settings = qlora.settings("smollm2", quantisation="none", rank=16, dropout=0.0, steps=steps, max_length=512,
                                  batch_size=2 if smoke else 32)  # fmt: skip
        learner = TunedLearner(settings, say=lambda _: None)
        with tempfile.TemporaryDirectory() as folder:
            done = learner.learn(data, steps=steps, seed=0, folder=Path(folder) / "run")
            right = {
                name: float(learner.right(_requests(names, asked, "test")).mean())
                for name, names in (("code", ("functions",)), ("general", GENERAL))
            }
        found[str(share)] = {**right, "loss": done.loss, "tokens per second": done.tokens / done.seconds}
    return found


def _requests(names: tuple[str, ...], n: int, split: Any) -> list[Any]:
    """Requests of families in equal parts, in turn, with short answers."""
    drawn = [draw(EVERY[name], -(-n // len(names)), split=split, levels=(1,), seed=0) for name in names]
    return [task.example for group in zip(*drawn, strict=True) for task in group][:n]
