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
"""

import math
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


class Block(nn.Module):
    """Attention, then a perceptron unless there is none, each added to the stream it reads."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        d, self.heads, self.hidden = shape.width, shape.heads, shape.expansion * shape.width
        self.qkv = nn.Parameter(torch.randn(3 * d, d) / math.sqrt(d))
        self.out = nn.Parameter(torch.zeros(d, d))
        if self.hidden:
            self.up = nn.Parameter(torch.randn(self.hidden, d) / math.sqrt(d))
            self.down = nn.Parameter(torch.zeros(d, self.hidden))

    def forward(self, x: Tensor, last: int | None = None) -> Tensor:
        """From [B, T, d] to [B, T, d], or to [B, last, d] when only the last positions are wanted."""
        B, T, _ = x.shape
        q, k, v = F.linear(norm(x), self.qkv).view(B, T, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        if last is None:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            x, q = x[:, -last:], q[:, :, -last:]
            visible = torch.ones(last, T, dtype=torch.bool, device=x.device).tril(T - last)
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=visible)
        x = x + F.linear(y.transpose(1, 2).reshape(x.shape), self.out)
        if self.hidden:
            x = x + F.linear(F.relu(F.linear(norm(x), self.up)), self.down)
        return x


class Transformer(nn.Module):
    """Maps tokens [B, T] to the logits [B, answer, V] of the tokens that follow the last `answer` positions."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        # one table a place in the context, each with a row for "before the beginning"
        self.tokens = nn.Parameter(torch.randn(shape.context * (shape.vocabulary + 1), shape.width))
        self.positions = nn.Parameter(0.5 * torch.randn(shape.length, shape.width))
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.head = nn.Parameter(torch.zeros(shape.vocabulary, shape.width))

    def forward(self, tokens: Tensor, answer: int) -> Tensor:
        V, T = self.shape.vocabulary, tokens.shape[1]
        before = F.pad(tokens, (self.shape.context - 1, 0), value=V)
        x = self.positions[:T]
        for back in range(self.shape.context):
            start = self.shape.context - 1 - back
            x = x + F.embedding(before[:, start : start + T] + back * (V + 1), self.tokens)
        x = norm(x)
        for block in self.blocks[:-1]:
            x = block(x)
        return F.linear(norm(self.blocks[-1](x, answer)), self.head)
