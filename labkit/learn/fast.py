"""The `fast` recipe: the small transformer, Muon for its matrices, Adam for the rest, a rate that falls to zero.

Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon) replaces the momentum of a matrix by the nearest
orthogonal one, so that every direction of the matrix moves by the same amount. The attention and perceptron matrices
take that well; embeddings, positions and the output map, where rows stand for single tokens, keep Adam (Kingma and Ba
2015). Every member of a fleet has its own learning rate and its own number of steps.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from labkit.learn.transformer import Shape, Transformer

VERSION = 2  # raised when the same settings come to train another model
LEARNING_RATE = 0.02  # of Muon; Adam's rates below are in fixed ratio to it
EMBEDDING_RATE, HEAD_RATE = 2.0, 0.5
WARM_UP_STEPS = 10
EXPANSION = 0  # attention only: the tasks are copying and matching
FLEET = True  # many models can be trained as one
BRANCHES = True  # a copy of model and optimiser trains on by itself


def build(shape: Shape) -> Transformer:
    """The model of this recipe."""
    return Transformer(shape)


def schedule(step: int, steps: int) -> float:
    """The factor on a rate: up over the first steps, then linearly down to zero."""
    return min((steps - step) / steps, (step + 1) / WARM_UP_STEPS)


class Optimiser:
    """Muon and Adam behind one `step`; `rates` hold a value a member."""

    def __init__(self, model: Transformer, rates: Sequence[float]) -> None:
        self.rates = torch.tensor(rates, device=model.tokens.device)
        self.muon = Muon(list(model.blocks.parameters()), model.shape.width)
        tables = [(model.tokens, EMBEDDING_RATE), (model.positions, EMBEDDING_RATE)]
        self.adam = Adam([*tables, (model.head, HEAD_RATE)])

    @torch.no_grad()
    def step(self, step: int, factors: Sequence[float]) -> None:
        """Update the weights by their gradients at step 0, 1, ..., each member's rate times its factor; clear these."""
        rates = self.rates * torch.tensor(factors).to(self.rates.device, non_blocking=True)
        self.muon.step(rates)
        self.adam.step(step, rates)

    def keep(self, model: Transformer, which: Tensor) -> None:
        """Go on with those members alone, in a model that holds only them."""
        self.rates, self.muon.average = self.rates[which], self.muon.average[which]
        self.muon.matrices = list(model.blocks.parameters())
        self.adam.parameters = [model.tokens, model.positions, model.head]
        self.adam.moments = [(mean[which], square[which]) for mean, square in self.adam.moments]


class Muon:
    """Momentum made orthogonal, for matrices [M, a x width, b x width].

    Every matrix is taken as squares of `width` (queries, keys and values are three squares that live in one), and all
    squares of all members are orthogonalised in one batch.
    """

    def __init__(self, matrices: list[nn.Parameter], width: int, momentum: float = 0.95) -> None:
        self.matrices, self.width, self.momentum = matrices, width, momentum
        self.average = torch.zeros_like(self._squares([p.data for p in matrices]))

    def step(self, rates: Tensor) -> None:
        gradient = self._squares([p.grad for p in self.matrices if p.grad is not None])
        self.average.lerp_(gradient, 1 - self.momentum)
        update = orthogonal(gradient.lerp(self.average, self.momentum).flatten(0, 1)).view_as(gradient)
        sizes = [p[0].numel() // self.width**2 for p in self.matrices]
        for p, squares in zip(self.matrices, update.split(sizes, dim=1), strict=True):
            p.addcmul_(squares.reshape(p.shape), rates[:, None, None], value=-1)
            p.grad = None

    def _squares(self, matrices: list[Tensor]) -> Tensor:
        return torch.cat([p.reshape(len(p), -1, self.width, self.width) for p in matrices], dim=1)


class Adam:
    """Adam for parameters [M, rows, width], each at its own multiple of its member's rate."""

    def __init__(self, parameters: Sequence[tuple[nn.Parameter, float]], betas: tuple[float, float] = (0.8, 0.95)):
        self.parameters, self.ratios, self.betas = [p for p, _ in parameters], [ratio for _, ratio in parameters], betas
        self.moments = [(torch.zeros_like(p.data), torch.zeros_like(p.data)) for p in self.parameters]

    def step(self, step: int, rates: Tensor) -> None:
        first, second = (1 - beta ** (step + 1) for beta in self.betas)
        for p, ratio, (mean, square) in zip(self.parameters, self.ratios, self.moments, strict=True):
            assert p.grad is not None
            mean.lerp_(p.grad, 1 - self.betas[0])
            square.mul_(self.betas[1]).addcmul_(p.grad, p.grad, value=1 - self.betas[1])
            update = mean / (square / second).sqrt_().add_(1e-8)
            p.addcmul_(update, (rates * (ratio / first))[:, None, None], value=-1)
            p.grad = None


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
