"""The training loop, one for every recipe and any number of models.

Guarantees: with equal model, data, seed and one CPU thread, two runs on one machine end in the same weights (CUDA
kernels may add in another order); a model ends the same whether it is trained alone or in a fleet, up to the order in
which batched products add (tests/test_fleet.py states the tolerance); the loop reads the data as an endless stream of
shuffled epochs; only answer tokens carry loss; a run whose loss or weights are not finite numbers gives no result. A
model may be trained again, on other data: each call begins with a fresh optimiser and schedule, so that rounds may be
saved and loaded between (tests/test_learn.py).
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate, pairwise
from types import ModuleType
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labkit.errors import unknown
from labkit.learn import adamw, fast, llama, paper
from labkit.learn.batches import Batch, Batches, Stream
from labkit.learn.encoding import Encoded
from labkit.learn.finite import check_training

RECIPES = {"adamw": adamw, "fast": fast, "llama": llama, "paper": paper}
CHECKED = 100  # steps after which losses are looked at, whether or not anybody else does
NONE = -100  # no token: nothing is filled up

Loss = Literal["token", "example"]
# Of small models and of Hugging Face models alike (`train_fleet`, `finetuning.Finetuning`).
LOSSES: dict[Loss, str] = {
    "token": "mean over the learned tokens of a batch: a kind of task counts by the length of its answers",
    "example": "mean over a batch's examples of their own means: every example counts alike, however long its answer",
}


class Member(NamedTuple):
    """What one model of a fleet is trained on.

    Attributes:
        data: Its examples; all members' are equally long, with answers equally long.
        seed: Decides the order of the data.
        steps: Optimiser steps; a member with fewer leaves the fleet earlier.
        learning_rate: None: the recipe's own.
    """

    data: Encoded
    seed: int
    steps: int
    learning_rate: float | None = None


class Trained(NamedTuple):
    """What training cost.

    `tokens` counts every token of every sequence seen; `seconds` leaves out evaluations, and is a member's equal share
    of the time that its fleet took.
    """

    steps: int
    tokens: int
    seconds: float
    loss: float


Schedule = Callable[[int, int], float]  # from a step (0, 1, ...) and how many there are to the factor on the rate
OnStep = Callable[[int, float, float], bool | None]
OnMember = Callable[[int, nn.Module, int, float, float], bool | None]


def train(model: nn.Module, recipe: str, data: Encoded, *, steps: int, batch_size: int, seed: int,
          learning_rate: float | None = None, schedule: Schedule | None = None, device: str = "cpu", every: int = 0,
          loss: Loss = "token", on_step: OnStep | None = None) -> Trained:  # fmt: skip
    """Train one model in place on the answers of `data`: a fleet of one, see `train_fleet`.

    `on_step(step, loss, seconds)` is called after the first step, every `every` steps and the last; True from it ends
    the training.
    """
    look = None if on_step is None else (lambda _, __, *state: on_step(*state))
    member = Member(data, seed, steps, learning_rate)
    (trained,) = train_fleet(
        [model], recipe, [member], batch_size=batch_size, schedule=schedule, device=device, every=every, loss=loss,
        on_step=look,
    )  # fmt: skip
    return trained


def train_fleet(models: Sequence[nn.Module], recipe: str, members: Sequence[Member], *, batch_size: int,
                schedule: Schedule | None = None, device: str = "cpu", every: int = 0, loss: Loss = "token",
                on_step: OnMember | None = None) -> list[Trained]:  # fmt: skip
    """Train each model in place on its member's data: together where the recipe can, else one after another.

    Args:
        models: Of one shape, on `device`. Each maps tokens int64 [1, B, T] and the answer length A to logits
            [1, B, A, V]: at each of the last A positions, the prediction of the token that follows; or at some of
            them, see `labkit.learn.transformer.Transformer`.
        recipe: A name of `RECIPES`.
        members: A model's data, seed, steps and rate.
        batch_size: Sequences per step, of each member.
        schedule: The factor on the rates at each step; None: the recipe's own.
        device: Where the models are.
        loss: How the losses of a batch's tokens are averaged, a name of `LOSSES`.
        every: Call `on_step(member, model, step, loss, seconds)` for each member after its first step, each so many and
            its last (0: never); True from it ends that member's training. The model passed is a copy in a larger fleet.

    Raises:
        BadRequest: for an unknown recipe.
        NotFinite: when a loss, or a weight of a model that has finished, is NaN or infinite.
    """
    if recipe not in RECIPES:
        raise unknown("recipe", recipe, RECIPES)
    chosen = schedule or RECIPES[recipe].schedule
    run = partial(
        _train, recipe=RECIPES[recipe], batch_size=batch_size, schedule=chosen, device=device, every=every, loss=loss
    )
    if RECIPES[recipe].FLEET or len(models) == 1:
        return run(models, members, on_step=on_step)
    trained = []
    for number, (model, member) in enumerate(zip(models, members, strict=True)):
        look = None if on_step is None else (lambda _, *state, number=number: on_step(number, *state))
        trained += run([model], [member], on_step=look)
    return trained


def _train(models: Sequence[nn.Module], members: Sequence[Member], *, recipe: ModuleType, batch_size: int,
           schedule: Schedule, device: str, every: int, loss: Loss,
           on_step: OnMember | None) -> list[Trained]:  # fmt: skip
    fleet: Any = models[0] if len(models) == 1 else type(models[0]).stack(models)  # type: ignore[attr-defined]
    optimiser = recipe.Optimiser(fleet, [rate(recipe, m.learning_rate) for m in members])
    ends = [0, *accumulate(len(m.data.tokens) for m in members)]
    streams = [Stream(*part, m.seed) for part, m in zip(pairwise(ends), members, strict=True)]
    batches = Batches(*together([m.data for m in members], device), streams, batch_size)
    active, done = list(range(len(members))), dict[int, Trained]()
    seconds, step, began = 0.0, 0, time.perf_counter()
    fleet.train()
    while active:
        factors = [schedule(step, members[i].steps) for i in active]
        losses = advance(fleet, optimiser, batches.next(), step, factors, loss)
        step += 1
        last = [members[i].steps == step for i in active]
        look = bool(every) and (step == 1 or step % every == 0)
        if any(last) or look or step % CHECKED == 0:
            values = losses.tolist()  # waits for the device, so the clock is read when the work is done
            for place, number in enumerate(active):
                check_training(values[place], (), step, rate(recipe, members[number].learning_rate))
        if any(last) or look:
            seconds += (time.perf_counter() - began) / len(active)
            stay = []
            for place, number in enumerate(active):
                leaves = last[place]
                if every and on_step and (leaves or look):
                    model = fleet if fleet is models[0] else fleet.members([place])
                    leaves = bool(on_step(number, model, step, values[place], seconds)) or leaves
                if leaves:
                    seen = step * batch_size * members[number].data.tokens.shape[1]
                    done[number] = Trained(step, seen, seconds, values[place])
                    if fleet is not models[0]:
                        models[number].load_state_dict(fleet.members([place]).state_dict())
                else:
                    stay.append(place)
            if 0 < len(stay) < len(active):
                which = torch.tensor(stay, device=device)
                fleet = fleet.members(which)
                optimiser.keep(fleet, which)
                batches.keep(which)
            active = [active[place] for place in stay]
            began = time.perf_counter()
    for number, (model, member) in enumerate(zip(models, members, strict=True)):
        check_training(done[number].loss, model.parameters(), done[number].steps, rate(recipe, member.learning_rate))
    return [done[number] for number in range(len(members))]


def together(parts: Sequence[Encoded], device: str) -> tuple[Tensor, int, int | None]:
    """Data sets of one layout as one: tokens [N, T] on the device, answer length and filling."""
    ((answer, filling),) = {(part.answer_length, part.filling) for part in parts}
    return torch.cat([torch.from_numpy(part.tokens) for part in parts]).to(device), answer, filling


def rate(recipe: ModuleType, learning_rate: float | None) -> float:
    """A learning rate, or the recipe's own."""
    return float(recipe.LEARNING_RATE) if learning_rate is None else learning_rate


def advance(
    fleet: nn.Module, optimiser: Any, batch: Batch, step: int, factors: Sequence[float], loss: Loss = "token"
) -> Tensor:
    """One step of the optimiser; the loss of each member [M]."""
    with precision(batch.tokens.device.type):
        logits = fleet(batch.tokens[..., :-1], batch.answer, batch.where)
    # positions of filling, where a member has fewer real ones than another
    nothing = NONE if batch.filling is None else batch.filling
    each = F.cross_entropy(
        logits.float().flatten(0, -2), batch.target.flatten(), reduction="none", ignore_index=nothing
    ).view(batch.target.shape)
    losses = (each * weights(batch, loss)).sum(1)
    losses.sum().backward()
    optimiser.step(step, factors)
    return losses


def weights(batch: Batch, loss: Loss) -> Tensor:
    """How much each target counts in its member's loss, float32 [M, n]; filling counts nothing, all others sum to 1."""
    real = torch.ones_like(batch.target, dtype=torch.float32)
    if batch.filling is not None:
        real = batch.target.ne(batch.filling).float()
    if loss == "token" or batch.where is None:  # where answers are equally long both are one
        return real / real.sum(1, keepdim=True)
    example, n = batch.where // batch.answer, batch.tokens.shape[1]
    lengths = real.new_zeros(len(real), n).scatter_add(1, example, real)
    return real / lengths.gather(1, example).clamp(min=1) / n


def best_device() -> str:
    """`cuda` when a CUDA device answers, else `cpu`."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def precision_name(device: str) -> str:
    """`bfloat16` where the hardware multiplies it fast (CUDA from Ampere on), `float32` otherwise.

    On the CPU the small models stay in float32, even where it has bfloat16 products: their steps are bound by memory
    traffic, and the conversions made them 2.5 times slower (LABLOG.md, "the fleet").
    """
    fast = torch.device(device).type == "cuda" and torch.cuda.is_bf16_supported()
    return "bfloat16" if fast else "float32"


def precision(device: str) -> torch.autocast:
    """The context in which a model runs, see `precision_name`."""
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=precision_name(device) == "bfloat16")
