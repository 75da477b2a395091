"""The training loop, one for every recipe and any number of models, and teacher-forced answers.

Guarantees: with equal model, data, seed and one CPU thread, two runs on one machine end in the same weights (CUDA
kernels may add in another order); a model ends the same whether it is trained alone or in a fleet, up to the order in
which batched products add (tests/test_fleet.py states the tolerance); the loop reads the data as an endless stream of
shuffled epochs; only answer tokens carry loss.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate
from types import ModuleType
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labkit.errors import unknown
from labkit.learn import fast, llama, paper
from labkit.learn.encoding import Encoded

RECIPES = {"fast": fast, "llama": llama, "paper": paper}
NONE = -100  # no token: nothing is filled up
PICKED = 50  # steps whose batches are chosen at once, so that a GPU gets one copy and not fifty


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


OnStep = Callable[[int, float, float], bool | None]
OnMember = Callable[[int, nn.Module, int, float, float], bool | None]


class Epochs:
    """The numbers below `size` in endless shuffled epochs, drawn on the CPU: the same on every device."""

    def __init__(self, size: int, seed: int) -> None:
        self.size, self.generator = size, torch.Generator().manual_seed(seed)
        self.order = torch.empty(0, dtype=torch.long)

    def take(self, count: int) -> Tensor:
        """The next `count`; an epoch's remainder opens the next draw."""
        while len(self.order) < count:
            self.order = torch.cat([self.order, torch.randperm(self.size, generator=self.generator)])
        taken, self.order = self.order[:count], self.order[count:]
        return taken


def train(
    model: nn.Module,
    recipe: str,
    data: Encoded,
    *,
    steps: int,
    batch_size: int,
    seed: int,
    learning_rate: float | None = None,
    device: str = "cpu",
    every: int = 0,
    on_step: OnStep | None = None,
) -> Trained:
    """Train one model in place on the answers of `data`: a fleet of one, see `train_fleet`.

    `on_step(step, loss, seconds)` is called after every `every` steps and the last; True from it ends the training.
    """
    look = None if on_step is None else (lambda _, __, *state: on_step(*state))
    member = Member(data, seed, steps, learning_rate)
    (trained,) = train_fleet([model], recipe, [member], batch_size=batch_size, device=device, every=every, on_step=look)
    return trained


def train_fleet(
    models: Sequence[nn.Module],
    recipe: str,
    members: Sequence[Member],
    *,
    batch_size: int,
    device: str = "cpu",
    every: int = 0,
    on_step: OnMember | None = None,
) -> list[Trained]:
    """Train each model in place on its member's data: together where the recipe can, else one after another.

    Args:
        models: Of one shape, on `device`. Each maps tokens int64 [1, B, T] and the answer length A to logits
            [1, B, A, V]: at each of the last A positions, the prediction of the token that follows.
        recipe: A name of `RECIPES`.
        members: A model's data, seed, steps and rate.
        batch_size: Sequences a step, of each member.
        device: Where the models are.
        every: Call `on_step(member, model, step, loss, seconds)` for each member after each so many steps and its last
            (0: never); True from it ends that member's training. The model passed is a copy in a larger fleet.

    Raises:
        BadRequest: for an unknown recipe.
    """
    if recipe not in RECIPES:
        raise unknown("recipe", recipe, RECIPES)
    run = partial(_train, recipe=RECIPES[recipe], batch_size=batch_size, device=device, every=every)
    if RECIPES[recipe].FLEET or len(models) == 1:
        return run(models, members, on_step=on_step)
    trained = []
    for number, (model, member) in enumerate(zip(models, members, strict=True)):
        look = None if on_step is None else (lambda _, *state, number=number: on_step(number, *state))
        trained += run([model], [member], on_step=look)
    return trained


def _train(
    models: Sequence[nn.Module],
    members: Sequence[Member],
    *,
    recipe: ModuleType,
    batch_size: int,
    device: str,
    every: int,
    on_step: OnMember | None,
) -> list[Trained]:
    fleet: Any = models[0] if len(models) == 1 else type(models[0]).stack(models)  # type: ignore[attr-defined]
    rates = [recipe.LEARNING_RATE if m.learning_rate is None else m.learning_rate for m in members]
    optimiser = recipe.Optimiser(fleet, [m.steps for m in members], rates)
    ((answer, filling),) = {(m.data.answer_length, m.data.filling) for m in members}
    filling = NONE if filling is None else filling
    tokens = torch.cat([torch.from_numpy(m.data.tokens) for m in members]).to(device)
    begins = [0, *accumulate(len(m.data.tokens) for m in members)]
    epochs = [Epochs(len(m.data.tokens), m.seed) for m in members]
    active, done = list(range(len(members))), dict[int, Trained]()
    seconds, step, began = 0.0, 0, time.perf_counter()
    fleet.train()
    while active:
        if step % PICKED == 0:
            picked = torch.stack([(epochs[i].take(PICKED * batch_size) + begins[i]).view(PICKED, -1) for i in active])
            picked = picked.to(device)
        batch = tokens[picked[:, step % PICKED]].long()
        with precision(device):
            logits = fleet(batch[..., :-1], answer)
        target = batch[..., -answer:].flatten()
        losses = F.cross_entropy(logits.float().flatten(0, 2), target, reduction="none", ignore_index=filling)
        losses = losses.view(len(active), -1).sum(1) / (target != filling).view(len(active), -1).sum(1)
        losses.sum().backward()
        optimiser.step(step)
        step += 1
        last = [members[i].steps == step for i in active]
        if any(last) or (every and step % every == 0):
            values = losses.tolist()  # waits for the device, so the clock is read when the work is done
            seconds += (time.perf_counter() - began) / len(active)
            stay = []
            for place, number in enumerate(active):
                ends = last[place]
                if every and on_step and (ends or step % every == 0):
                    model = fleet if fleet is models[0] else fleet.members([place])
                    ends = bool(on_step(number, model, step, values[place], seconds)) or ends
                if ends:
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
                picked = picked[which]
            active = [active[place] for place in stay]
            began = time.perf_counter()
    return [done[number] for number in range(len(members))]


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
            logits = model(batch[None, :, :-1].long().to(device), data.answer_length)
        found.append(logits[0].argmax(-1).cpu())
    model.train()
    return torch.cat(found)


@torch.inference_mode()
def generate(model: nn.Module, prompt: Tensor, answer_length: int, end: int | None = None) -> Tensor:
    """Greedy decoding: from prompts int64 [B, P] to answers int64 [B, A], one forward pass a token.

    A row that has written the token `end` is done, and filled up with it.
    """
    model.eval()
    answers = prompt.new_full((len(prompt), answer_length), -1 if end is None else end)
    sequence, going = prompt, torch.arange(len(prompt), device=prompt.device)
    for place in range(answer_length):
        with precision(prompt.device.type):
            logits = model(sequence[None], 1)[0]
        sequence = torch.cat([sequence, logits.argmax(-1)], dim=1)
        answers[going, place] = sequence[:, -1]
        if end is not None:
            stay = sequence[:, -1] != end
            sequence, going = sequence[stay], going[stay]
            if not len(going):
                break
    model.train()
    return answers
