"""A ladder of data volumes in one training run: a model a rung, for little more than the last one costs.

Warm-up, stable, decay (Hu et al. 2024, arXiv 2404.06395; Haegele et al. 2024, arXiv 2405.18392): a *trunk* is trained
at a constant rate on the examples that each rung adds, and at each rung a *branch*, a copy of weights and optimiser, is
annealed linearly to zero on everything so far. The branch is what is graded; the trunk goes on.

    trunk   o-----------+-----------+-----------------------+      constant rate; between rungs, the new examples only
                         \\           \\                       \\
    branches              V1          V2                      V3   rate down to zero; any of the rung's examples

Guarantees: every example of a rung's set has been seen equally often by its model, `passes` x (1 + `cooldown`) times
up to the rounding of an epoch and of a batch; the same model, data and seed end in the same weights, whatever a
callback does with the branches; the first rung's model is the one that `train` gives with `stable(cooldown)` as its
schedule and as many steps, and what follows does not change it.

What a rung's model is not: a later one is not what training on its set alone gives, even with that schedule, since its
trunk read the set in the order of the rungs (with several passes, each rung's examples `passes` times in close
succession); nor what the recipe's own schedule gives. Rungs share their trunk, so that their errors are correlated:
intervals come from other seeds, not from other rungs. Steps grow with the volume; a ladder cannot tell more data from
longer training.
"""

import copy
import math
import time
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from types import ModuleType

import numpy as np
from torch import nn

from labkit.errors import BadRequest, unknown
from labkit.learn.batches import Batches, Stream
from labkit.learn.encoding import Encoded
from labkit.learn.finite import check_training
from labkit.learn.train import RECIPES, Loss, Schedule, Trained, advance, rate, together

WARM_UP_STEPS = 10
OnRung = Callable[[int, nn.Module, int, int, float], object]


def stable(cooldown: float, warm_up: int = WARM_UP_STEPS) -> Schedule:
    """The schedule of a ladder's model, for `train`: up, constant, and linearly down over the last steps.

    The last steps are `cooldown` times as many as those before them (at least one of each).
    """

    def schedule(step: int, steps: int) -> float:
        constant = min(round(steps / (1 + cooldown)), steps - 1)
        return min((step + 1) / warm_up, 1.0, (steps - step) / (steps - constant))

    return schedule


def train_ladder(model: nn.Module, recipe: str, rungs: Sequence[Encoded], *, batch_size: int, seed: int,
                 passes: float = 1.0, cooldown: float = 0.2, learning_rate: float | None = None, device: str = "cpu",
                 loss: Loss = "token", on_rung: OnRung | None = None) -> list[Trained]:  # fmt: skip
    """Train one model on growing volumes of data; in place, it ends as the model of the last rung.

    Args:
        model: On `device`; see `train_fleet`.
        recipe: One whose models and optimisers can be copied: `fast` or `paper`.
        rungs: The examples that each rung adds, of one layout: the set of rung k is those of rungs 0 to k.
        batch_size: Sequences a step.
        seed: Decides the order of the data.
        passes: How often the trunk reads each example: it has done `passes` x volume / `batch_size` steps at a rung.
        cooldown: Steps of a branch, as a share of the trunk's at that rung.
        learning_rate: The constant rate; None: the recipe's own.
        device: Where the model is.
        loss: As in `train_fleet`.
        on_rung: Called with a rung's number (from 0), its model, the steps and tokens this model has seen, and the loss
            of its last batch. The model is a copy of its own, except that the last is `model` itself.

    Returns:
        What each rung cost: steps and tokens that its model has seen, the trunk's included; the seconds that it added
        to the run, without `on_rung`.

    Raises:
        BadRequest: for an unknown recipe or one without copies, no rungs, a rung of another layout or too small for a
            step, or shares that are not positive.
        NotFinite: when the loss or a weight of a rung's model is NaN or infinite.
    """
    module, volumes = _checked(recipe, rungs, batch_size, passes, cooldown)
    optimiser = module.Optimiser(model, [rate(module, learning_rate)])
    data, schedule = together(rungs, device), stable(cooldown)
    constant, length, trained = 0, rungs[0].tokens.shape[1], list[Trained]()
    model.train()
    for number, (begin, end) in enumerate(pairwise([0, *volumes])):
        began = time.perf_counter()
        before, constant = constant, round(passes * end / batch_size)
        steps = constant + max(1, round(cooldown * constant))
        batches = Batches(*data, [Stream(begin, end, _seed(seed, number, 0))], batch_size)
        for step in range(before, constant):
            losses = advance(model, optimiser, batches.next(), step, [schedule(step, steps)], loss)
        last = end == volumes[-1]
        branch, own = (model, optimiser) if last else copy.deepcopy((model, optimiser))
        if number:  # the first rung's trunk has read from the rung's whole set: its branch reads on
            batches = Batches(*data, [Stream(0, end, _seed(seed, number, 1))], batch_size)
        for step in range(constant, steps):
            losses = advance(branch, own, batches.next(), step, [schedule(step, steps)], loss)
        (last_loss,) = losses.tolist()
        check_training(last_loss, branch.parameters(), steps, rate(module, learning_rate))
        trained.append(Trained(steps, steps * batch_size * length, time.perf_counter() - began, last_loss))
        if on_rung:
            on_rung(number, branch, steps, trained[-1].tokens, last_loss)
    return trained


def _seed(seed: int, number: int, kind: int) -> int:
    """Of each stream of examples its own; the first one's is the ladder's, as in `train`."""
    return int(np.random.SeedSequence((seed, number, kind)).generate_state(1)[0]) if number else seed


def _checked(recipe: str, rungs: Sequence[Encoded], batch_size: int, passes: float,
             cooldown: float) -> tuple[ModuleType, list[int]]:  # fmt: skip
    """The recipe's module, and how many examples each rung's set has."""
    if recipe not in RECIPES:
        raise unknown("recipe", recipe, RECIPES)
    if not RECIPES[recipe].BRANCHES:
        able = ", ".join(name for name, module in RECIPES.items() if module.BRANCHES)
        raise BadRequest(f"recipe '{recipe}' cannot climb a ladder: its optimiser cannot be copied (allowed: {able})")
    for name, value in {"passes": passes, "cooldown": cooldown}.items():
        if not 0 < value < math.inf:
            raise BadRequest(f"{name} = {value} is not above 0")
    if not rungs:
        raise BadRequest("a ladder without rungs: at least one set of examples")
    if len({(rung.tokens.shape[1], rung.answer_length, rung.filling) for rung in rungs}) > 1:
        raise BadRequest("the rungs of a ladder differ in length, answer length or filling: give them one layout")
    volumes = list(accumulate(len(rung.tokens) for rung in rungs))
    for number, (before, volume) in enumerate(pairwise([0, *volumes])):
        if round(passes * volume / batch_size) == round(passes * before / batch_size):
            added = f"rung {number} adds {volume - before} examples"
            raise BadRequest(f"{added}: too few for one step of batch_size = {batch_size} at passes = {passes:g}")
    return RECIPES[recipe], volumes
