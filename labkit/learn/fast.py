"""The `fast` recipe: the small transformer, Muon for its matrices, AdamW for the rest, a rate that falls to zero.

Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon) replaces the momentum of a matrix by the nearest
orthogonal one, so that every direction of the matrix moves by the same amount. The attention and perceptron matrices
take that well; embeddings, positions and the output map, where rows stand for single tokens, keep AdamW.
"""

import torch
from torch import Tensor, nn

from labkit.learn.transformer import Shape, Transformer

VERSION = 1  # raised when the same settings come to train another model
LEARNING_RATE = 0.02  # of Muon; AdamW's rates below are in fixed ratio to it
EMBEDDING_RATE, HEAD_RATE = 2.0, 0.5
WARM_UP_STEPS = 10
EXPANSION = 0  # attention only: the tasks are copying and matching


def build(shape: Shape) -> Transformer:
    """The model of this recipe."""
    return Transformer(shape)


def schedule(step: int, steps: int) -> float:
    """The factor on every learning rate: up over the first steps, then linearly down to zero."""
    return min((step + 1) / WARM_UP_STEPS, (steps - step) / steps)


class Optimiser:
    """Muon and AdamW behind one `step`."""

    def __init__(self, model: Transformer, steps: int, learning_rate: float | None = None) -> None:
        rate = LEARNING_RATE if learning_rate is None else learning_rate
        self.steps = steps
        self.muon = Muon(list(model.blocks.parameters()), model.shape.width, rate)
        tables = {"params": [model.tokens, model.positions], "lr": EMBEDDING_RATE * rate}
        head = {"params": [model.head], "lr": HEAD_RATE * rate}
        self.adamw = torch.optim.AdamW([tables, head], betas=(0.8, 0.95), weight_decay=0.0, fused=True)
        self.rates = [group["lr"] for group in self.adamw.param_groups]

    def step(self, step: int) -> None:
        factor = schedule(step, self.steps)
        self.muon.step(factor)
        for group, rate in zip(self.adamw.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor
        self.adamw.step()
        self.adamw.zero_grad()


class Muon:
    """Momentum made orthogonal, for matrices of the model's width.

    Every matrix is taken as squares of `width` (queries, keys and values are three squares that live in one), and all
    squares of the model are orthogonalised in one batch.
    """

    def __init__(self, matrices: list[nn.Parameter], width: int, learning_rate: float, momentum: float = 0.95) -> None:
        self.matrices, self.width, self.learning_rate, self.momentum = (
            matrices,
            width,
            learning_rate,
            momentum,
        )
        self.average = torch.zeros_like(self._squares([p.data for p in matrices]))

    @torch.no_grad()
    def step(self, factor: float) -> None:
        gradient = self._squares([p.grad for p in self.matrices if p.grad is not None])
        self.average.lerp_(gradient, 1 - self.momentum)
        update = orthogonal(gradient.lerp(self.average, self.momentum))
        for p, squares in zip(
            self.matrices, update.split([p.numel() // self.width**2 for p in self.matrices]), strict=True
        ):
            p.add_(squares.reshape(p.shape), alpha=-self.learning_rate * factor)
            p.grad = None

    def _squares(self, matrices: list[Tensor]) -> Tensor:
        return torch.cat([matrix.reshape(-1, self.width, self.width) for matrix in matrices])


def orthogonal(matrices: Tensor, iterations: int = 5) -> Tensor:
    """The nearest orthogonal matrices, roughly: singular values end between about 0.7 and 1.2.

    A Newton-Schulz iteration with the quintic coefficients of Jordan et al. (2024); [n, d, d] to [n, d, d].
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    X = matrices / (matrices.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(iterations):
        A = X @ X.mT
        X = torch.baddbmm(X, torch.baddbmm(A, A, A, beta=b, alpha=c), X, beta=a)
    return X
