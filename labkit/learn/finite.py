"""Training that failed is not a result: losses, weights and scores are finite numbers, or nothing is kept of them.

Checked: the loss and the weights while a model is trained and at its end, weights that are loaded, and what a model
says of answers. Left open: a model that diverged without leaving the finite numbers; its loss shows that.
"""

import math
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

from labkit.errors import BadRequest


class NotFinite(BadRequest):
    """A loss, weight or score is NaN or infinite; one sentence, as of any refusal."""


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether all numbers are finite. Allocates next to nothing: NaN and infinities show in a tensor's extremes."""
    numbers = (t.detach() for t in tensors if t.is_floating_point() and t.numel())
    wide = (t if t.itemsize > 1 else t.float() for t in numbers)  # torch compares no 8-bit floats
    ends = [torch.stack(torch.aminmax(t)).isfinite().all() for t in wide]
    return not ends or bool(torch.stack([end.to(ends[0].device) for end in ends]).all())  # waits for the device once


def check_training(loss: float, weights: Iterable[Tensor], step: int, learning_rate: float) -> None:
    """Refuse a state of training that is not finite.

    Raises:
        NotFinite: says at which step, and what may help.
    """
    what = f"its loss is {loss}" if not math.isfinite(loss) else None
    if what is None and not all_finite(weights):
        what = "its weights are not finite"
    if what:
        raise NotFinite(f"training diverged, nothing of it is kept: {what} after step {step}; lower learning_rate = "
                        f"{learning_rate:g}, or look for damaged data")  # fmt: skip


def check_weights(model: nn.Module, name: str) -> None:
    """Refuse a model with a weight that is not finite.

    Of 8-bit weights the constants show it, of 4-bit ones nothing does: `check_files`.

    Raises:
        NotFinite: names the first such weight.
    """
    for weight, parameter in model.named_parameters():
        scales = getattr(parameter, "SCB", None)  # bitsandbytes'
        if not all_finite([parameter] if scales is None else [parameter, scales]):
            raise _damaged(name, weight)


def check_files(folder: Path, name: str) -> None:
    """The same of the weights in a folder's `*.safetensors`, before they are quantised."""
    from safetensors import safe_open

    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as weights:
            for weight in weights.keys():  # noqa: SIM118  # no mapping
                if not all_finite([weights.get_tensor(weight)]):
                    raise _damaged(name, weight)


def check_scores(logits: Tensor) -> None:
    """Refuse a model's scores of tokens when one is NaN, which would be taken for the likeliest."""
    if logits.isnan().any():
        raise NotFinite("the model gives scores that are not numbers: its weights are damaged, or too large")


def _damaged(name: str, weight: str) -> NotFinite:
    return NotFinite(f"the weights of '{name}' are not all finite numbers ({weight}): get the model anew")
