"""The training loop, one for every recipe, and teacher-forced answers.

Guarantees: with equal model, data, seed and one CPU thread, two runs on one machine end in the same weights (CUDA
kernels may add in another order); the loop reads the data as an endless stream of shuffled epochs; only answer tokens
carry loss.
"""

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labkit.learn.encoding import Encoded


class Optimiser(Protocol):
    """Updates the weights at step 0, 1, ... and clears the gradients."""

    def step(self, step: int) -> None: ...


class Trained(NamedTuple):
    """What training cost. `tokens` counts every token of every sequence seen; `seconds` leaves out evaluations."""

    steps: int
    tokens: int
    seconds: float
    loss: float


def batches(data: Tensor, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Endless shuffled epochs of `data` [N, T] as int64 [batch_size, T]; an epoch's remainder opens the next one.

    Batches are where the data is; their order is drawn on the CPU, so that it is the same on every device.
    """
    order = torch.empty(0, dtype=torch.long)
    while True:
        while len(order) < batch_size:
            order = torch.cat([order, torch.randperm(len(data), generator=generator)])
        picked, order = order[:batch_size], order[batch_size:]
        yield data[picked.to(data.device)].long()


def train(
    model: nn.Module,
    optimiser: Optimiser,
    data: Encoded,
    *,
    steps: int,
    batch_size: int,
    seed: int,
    device: str = "cpu",
    every: int = 0,
    on_step: Callable[[int, float, float], bool | None] | None = None,
) -> Trained:
    """Train `model` in place on the answers of `data`.

    Args:
        model: Maps tokens int64 [B, T] and the answer length A to logits [B, A, V]: at each of the last A positions,
            the prediction of the token that follows.
        steps: Optimiser steps.
        batch_size: Sequences a step.
        seed: Decides the order of the data.
        device: Where the model is.
        every: Call `on_step(step, loss, seconds)` after each so many steps and the last (0: never); True from it ends
            the training.
    """
    answer = data.answer_length
    tokens = torch.from_numpy(data.tokens).to(device)
    stream = batches(tokens, batch_size, torch.Generator().manual_seed(seed))
    model.train()
    seconds, loss, step, began = 0.0, torch.zeros(()), 0, time.perf_counter()
    for step in range(1, steps + 1):
        batch = next(stream)
        with precision(device):
            logits = model(batch[:, :-1], answer)
        loss = F.cross_entropy(logits.float().flatten(0, 1), batch[:, -answer:].flatten())
        loss.backward()
        optimiser.step(step - 1)
        if step == steps or (every and step % every == 0):
            value = loss.item()  # waits for the device, so the clock is read when the work is done
            seconds += time.perf_counter() - began
            if every and on_step and on_step(step, value, seconds):
                break
            began = time.perf_counter()
    return Trained(step, step * batch_size * data.tokens.shape[1], seconds, loss.item())


def best_device() -> str:
    """`cuda` when a CUDA device answers, else `cpu`."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def precision_name(device: str) -> str:
    """`bfloat16` where the hardware multiplies it fast (CUDA from Ampere on), `float32` otherwise.

    On the CPU the small models stay in float32: their steps are bound by memory traffic and by the number of
    operations, not by the products that bfloat16 would speed up.
    """
    fast = torch.device(device).type == "cuda" and torch.cuda.is_bf16_supported()
    return "bfloat16" if fast else "float32"


def precision(device: str) -> torch.autocast:
    """The context in which a model runs, see `precision_name`."""
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision_name(device) == "bfloat16")


@torch.inference_mode()
def predict(model: nn.Module, data: Encoded, *, device: str = "cpu", batch_size: int = 512) -> Tensor:
    """The most likely answer tokens under teacher forcing, int64 [N, A], on the CPU.

    Greedy decoding gives exactly the target if and only if these equal the target at every position, so exact-match
    accuracy takes one forward pass.
    """
    model.eval()
    found = []
    for batch in torch.from_numpy(data.tokens).split(batch_size):
        with precision(device):
            logits = model(batch[:, :-1].long().to(device), data.answer_length)
        found.append(logits.argmax(-1).cpu())
    model.train()
    return torch.cat(found)


@torch.inference_mode()
def generate(model: nn.Module, prompt: Tensor, answer_length: int) -> Tensor:
    """Greedy decoding: from prompts int64 [B, P] to answers int64 [B, A], one forward pass a token."""
    model.eval()
    sequence = prompt
    for _ in range(answer_length):
        sequence = torch.cat([sequence, model(sequence, 1).argmax(-1)], dim=1)
    model.train()
    return sequence[:, prompt.shape[1] :]
