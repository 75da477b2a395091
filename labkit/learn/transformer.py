"""A small decoder-only transformer, as plain as one that learns fast can be.

What it is: tokens become vectors, `layers` blocks of causal attention and a two-layer perceptron refine them, a linear
map reads the next token off the last ones. What it leaves out, because the tasks are short and the model small: no
biases, no dropout, no learned gains in the norms.

What it adds to the textbook, and why (LABLOG.md has measurements of the first two):
- *The vector of a token knows the tokens just before it.* Each position sums one embedding for its own token and one
  for each of the `context - 1` tokens before (a causal convolution over one-hot tokens). Matching a pattern of a few
  symbols is then one comparison of vectors; without it the first layer is spent on looking at neighbours.
- *Deep and thin.* A perceptron that is narrow, or none, leaves time for more blocks, which is what lets every seed
  find the solution. Where a task is copying and matching, attention alone learns it (Elhage et al. 2021) and has less
  room to memorise single rules.
- *Zero-initialised outputs.* Every block starts as the identity and the logits start at zero.
- *The last block works only where the answer is.* Earlier positions matter to it as keys and values alone.

One object may be many models: every parameter has a leading axis of M members, which share their shape and nothing
else, and every product is a batch of M (`stack` and `members` go to and fro). A model alone is a fleet of one.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Shape:
    """The sizes of a transformer.

    Attributes:
        vocabulary: Number of tokens V.
        length: Longest sequence T.
        layers: Number of blocks.
        width: Length of a token's vector; a multiple of `heads`.
        heads: Attention heads a block.
        expansion: Hidden units of the perceptron, in widths; 0 leaves the perceptron out (attention only).
        context: Tokens that a position's first vector sums up: itself and `context - 1` before it.
    """

    vocabulary: int
    length: int
    layers: int = 4
    width: int = 64
    heads: int = 2
    expansion: int = 0
    context: int = 3


def norm(x: Tensor) -> Tensor:
    """LayerNorm without gain or bias: on CPUs one fused kernel, which RMSNorm is not."""
    return F.layer_norm(x, x.shape[-1:])


def product(x: Tensor, weight: Tensor) -> Tensor:
    """Each member's linear map: [M, ..., d] with [M, k, d] to [M, ..., k]."""
    return torch.bmm(x.flatten(1, -2), weight.mT).unflatten(1, x.shape[1:-1])


class Block(nn.Module):
    """Attention, then a perceptron unless there is none, each added to the stream it reads."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        d, self.heads, self.hidden = shape.width, shape.heads, shape.expansion * shape.width
        self.qkv = nn.Parameter(torch.randn(1, 3 * d, d) / math.sqrt(d))
        self.out = nn.Parameter(torch.zeros(1, d, d))
        if self.hidden:
            self.up = nn.Parameter(torch.randn(1, self.hidden, d) / math.sqrt(d))
            self.down = nn.Parameter(torch.zeros(1, d, self.hidden))

    def forward(self, x: Tensor, last: int | None = None) -> Tensor:
        """From [M, B, T, d] to [M, B, T, d], or to [M, B, last, d] when only the last positions are wanted."""
        M, B, T, _ = x.shape
        qkv = product(norm(x), self.qkv).view(M * B, T, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        if last is None:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            x, q = x[:, :, -last:], q[:, :, -last:]
            visible = torch.ones(last, T, dtype=torch.bool, device=x.device).tril(T - last)
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=visible)
        x = x + product(y.transpose(1, 2).reshape(x.shape), self.out)
        if self.hidden:
            x = x + product(F.relu(product(norm(x), self.up)), self.down)
        return x


class Transformer(nn.Module):
    """Maps tokens [M, B, T] to the logits [M, B, answer, V] of the tokens that follow the last `answer` positions."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        # one table a place in the context, each with a row for "before the beginning"
        self.tokens = nn.Parameter(torch.randn(1, shape.context * (shape.vocabulary + 1), shape.width))
        self.positions = nn.Parameter(0.5 * torch.randn(1, shape.length, shape.width))
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.head = nn.Parameter(torch.zeros(1, shape.vocabulary, shape.width))

    def forward(self, tokens: Tensor, answer: int) -> Tensor:
        V, T, context = self.shape.vocabulary, tokens.shape[2], self.shape.context
        M, rows, width = self.tokens.shape
        own = rows * torch.arange(M, device=tokens.device)[:, None, None]  # where a member's tables begin
        before = F.pad(tokens, (context - 1, 0), value=V) + own
        x = self.positions[:, None, :T]
        for back in range(context):
            start = context - 1 - back
            x = x + F.embedding(before[..., start : start + T] + back * (V + 1), self.tokens.view(-1, width))
        x = norm(x)
        for block in self.blocks[:-1]:
            x = block(x)
        return product(norm(self.blocks[-1](x, answer)), self.head)

    @classmethod
    def stack(cls, models: Sequence["Transformer"]) -> "Transformer":
        """The members of several models of one shape, in one."""
        fleet = copy.deepcopy(models[0])
        for name, parameter in fleet.named_parameters():
            parameter.data = torch.cat([model.get_parameter(name).data for model in models])
        return fleet

    def members(self, which: Tensor | Sequence[int]) -> "Transformer":
        """A copy with those members alone."""
        some = copy.deepcopy(self)
        for parameter in some.parameters():
            parameter.data = parameter.data[torch.as_tensor(which)]
        return some
