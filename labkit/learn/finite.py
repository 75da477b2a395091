"""Training that failed is not a result: losses, weights and scores are finite numbers, or nothing is kept of them.

Checked: the loss and the weights while a model is trained and at its end, weights that are loaded, and what a model
says of answers. Left open: a model that diverged without leaving the finite numbers; its loss shows that.
"""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from labkit.errors import BadRequest


class NotFinite(BadRequest):
    """A loss, weight or score is NaN or infinite; one sentence, as of any refusal."""


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether all numbers are finite. Allocates next to nothing: NaN and infinities show in a tensor's extremes."""
    ends = [torch.stack(torch.aminmax(t.detach())).float() for t in tensors if t.is_floating_point() and t.numel()]
    return not ends or bool(torch.stack([end.isfinite().all().to(ends[0].device) for end in ends]).all())


def check_training(loss: float, weights: Iterable[Tensor], step: int, learning_rate: float) -> None:
    """Refuse a state of training that is not finite.

    Raises:
        NotFinite: says at which step, and what may help.
    """
    what = f"its loss is {loss}" if not math.isfinite(loss) else None
    if what is None and not all_finite(weights):
        what = "its weights are not finite"
    if what:
        raise NotFinite(
            f"training diverged, nothing of it is kept: {what} after step {step}; lower learning_rate = "
            f"{learning_rate:g}, or look for damaged data"
        )


def check_weights(model: nn.Module, name: str) -> None:
    """Refuse a model with a weight that is not finite; of quantised weights the constants are looked at.

    Raises:
        NotFinite: names the first such weight.
    """
    for weight, parameter in model.named_parameters():
        if not all_finite(_numbers(parameter)):
            raise NotFinite(f"the weights of '{name}' are not all finite numbers ({weight}): get the model anew")


def _numbers(parameter: Any) -> list[Tensor]:
    """A parameter, with the constants of its quantisation (bitsandbytes')."""
    state = getattr(parameter, "quant_state", None)
    nested = getattr(state, "state2", None)
    found = [parameter, getattr(parameter, "SCB", None), *(getattr(s, "absmax", None) for s in (state, nested))]
    return [tensor for tensor in found if isinstance(tensor, Tensor)]
