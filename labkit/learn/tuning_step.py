"""What makes a step of fine-tuning quick, in the hands of whoever trains a PEFT model.

- `lighten`: adapters multiply in the type of their input, and add to the base's output in place. Their weights,
  gradients and updates stay in 32 bits; PEFT would cast every activation to 32 bits and back instead.
- `learn_labels`: the output head, whose vocabulary outweighs many blocks, works only where there is a label, and its
  gradient is computed with the loss, some positions at a time, so that no logits are kept.

Guaranteed: losses and gradients are those of the plain model, but for rounding; what is saved is plain PEFT.
"""

from collections.abc import Callable
from functools import partial
from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

POSITIONS = 64  # that the head works on at once: their logits stay in a CPU's cache


def lighten(model: nn.Module) -> None:
    """Give the LoRA layers of a PEFT model, which has one adapter, a forward pass in the type of their input."""
    from peft.tuners.lora import LoraLayer

    for layer in model.modules():
        if isinstance(layer, LoraLayer):
            layer.forward = partial(_adapted, layer)


def _adapted(layer: Any, x: Tensor) -> Tensor:
    ((name, down),) = layer.lora_A.items()
    dropped = layer.lora_dropout[name](x)
    return _Adapter.apply(layer.base_layer(x), dropped, down.weight, layer.lora_B[name].weight, layer.scaling[name])


class _Adapter(torch.autograd.Function):
    """base [..., O] + scaling * x [..., I] A^T [I, R] B^T [R, O], in place."""

    @staticmethod
    def forward(ctx: Any, base: Tensor, x: Tensor, A: Tensor, B: Tensor, scaling: float) -> Tensor:
        x = x.reshape(-1, x.shape[-1])
        inner = x @ A.to(x.dtype).T
        base.view(-1, base.shape[-1]).addmm_(inner, B.to(x.dtype).T, alpha=scaling)
        ctx.mark_dirty(base)
        ctx.save_for_backward(x, inner, A, B)
        ctx.scaling = scaling
        return base

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, inner, A, B = ctx.saved_tensors
        rows = gradient.reshape(-1, gradient.shape[-1])
        back = (rows @ B.to(x.dtype)) * ctx.scaling
        of_x = (back @ A.to(x.dtype)).view(*gradient.shape[:-1], -1) if ctx.needs_input_grad[1] else None
        return gradient, of_x, (back.T @ x).to(A.dtype), (rows.T @ inner).to(B.dtype) * ctx.scaling, None


def learn_labels(model: Any) -> None:
    """Let a causal model's `forward`, given `labels` and `weights`, return the weighted sum of their losses as `loss`.

    To be called before PEFT wraps the model. `labels` int64 [B, L] are -100 where nothing is learned, `weights` float32
    [B, L] count where something is; a label is predicted from the position before it.
    """
    plain = model.forward
    quick = _head_is_last(model)

    def forward(self: Any, *given: Any, labels: Tensor | None = None, weights: Tensor | None = None,
                **others: Any) -> Any:  # fmt: skip
        if labels is None or weights is None:
            return plain(*given, labels=labels, **others)
        others = {name: value for name, value in others.items() if value is not None}  # PEFT passes on its defaults
        learned = labels[:, 1:] >= 0
        target, counts = labels[:, 1:][learned], weights[:, 1:][learned]
        if quick:
            states = self.base_model(*given, **others).last_hidden_state[:, :-1][learned]
            return {"loss": _HeadLoss.apply(states, self.get_output_embeddings(), target, counts)}
        logits = plain(*given, **others).logits[:, :-1][learned]
        return {"loss": (F.cross_entropy(logits.float(), target, reduction="none") * counts).sum()}

    model.forward = MethodType(forward, model)


@torch.no_grad()
def _head_is_last(model: Any) -> bool:
    """Whether logits are the head's output and nothing more; some models scale or cap them."""
    ids = torch.arange(4, device=model.device)[None]
    logits = model(input_ids=ids).logits.float()
    plainly = model.get_output_embeddings()(model.base_model(input_ids=ids).last_hidden_state).float()
    return bool((logits - plainly).abs().max() <= 0.01 * plainly.abs().max())


class _HeadLoss(torch.autograd.Function):
    """The sum of cross-entropies at n positions, each times its weight; the frozen head gets no gradient."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, head: Callable[[Tensor], Tensor], target: Tensor, weights: Tensor) -> Tensor:
        gradient, loss = torch.empty_like(states), weights.new_zeros(())
        matrix = head.weight  # type: ignore[attr-defined]
        parts = (part.split(POSITIONS) for part in (states, target[:, None], weights[:, None], gradient))
        for state, label, weight, into in zip(*parts, strict=True):
            scores = head(state).float()
            total = scores.logsumexp(1, keepdim=True)
            loss += ((total - scores.gather(1, label)) * weight).sum()
            likely = scores.sub_(total).exp_()
            likely.scatter_add_(1, label, torch.full_like(total, -1))
            torch.mm(likely.mul_(weight).to(matrix.dtype), matrix, out=into)
        ctx.save_for_backward(gradient)
        return loss

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (of_states,) = ctx.saved_tensors
        return of_states * gradient, None, None, None
