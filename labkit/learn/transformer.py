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

A model alone can also read on where it stopped (`read`): the keys and values of what it has read are kept in a `Past`,
so that a token costs one position and not the whole sequence again.
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


def pick(x: Tensor, where: Tensor | None) -> Tensor:
    """Of vectors [M, B, A, d] the ones numbered `where` [M, n] among each member's B x A, as [M, n, d]; None: all."""
    if where is None:
        return x
    begins = torch.arange(len(x), device=x.device)[:, None] * (x.shape[1] * x.shape[2])
    return x.reshape(-1, x.shape[-1]).index_select(0, (where + begins).flatten()).view(*where.shape, -1)


def product(x: Tensor, weight: Tensor) -> Tensor:
    """Each member's linear map: [M, ..., d] with [M, k, d] to [M, ..., k]."""
    return torch.bmm(x.flatten(1, -2), weight.mT).unflatten(1, x.shape[1:-1])


class Past:
    """What a model alone has read of B sequences, so that it can read on.

    Attributes:
        length: Tokens read so far; there is room for `room`.
        last: The last `context - 1` tokens, int64 [B, context - 1].
        layers: Each block's keys and values, [2, B, heads, room, d / heads], of which the first `length` are filled.
    """

    def __init__(self, shape: Shape, rows: int, room: int, device: torch.device, dtype: torch.dtype) -> None:
        self.length = 0
        self.last = torch.full((rows, shape.context - 1), shape.vocabulary, device=device)
        size = (2, rows, shape.heads, room, shape.width // shape.heads)
        self.layers = [torch.empty(size, device=device, dtype=dtype) for _ in range(shape.layers)]

    def keep(self, which: Tensor) -> None:
        """Go on with those rows alone."""
        self.last, self.layers = self.last[which], [layer[:, which] for layer in self.layers]


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

    def forward(self, x: Tensor, last: int | None = None, past: Tensor | None = None) -> Tensor:
        """From [M, B, T, d] to [M, B, T, d], or to [M, B, last, d] when only the last positions are wanted.

        `past`: keys and values [2, B, heads, S, d / heads] of the last S positions; those of these T are written into
        it. Either T is S, or T and `last` are 1.
        """
        M, B, T, _ = x.shape
        qkv = product(norm(x), self.qkv).view(M * B, T, 3, self.heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        if past is not None:
            past[0, :, :, -T:], past[1, :, :, -T:] = k, v
            k, v = past.unbind(0)
        if last is None:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            x, q = x[:, :, -last:], q[:, :, -last:]
            visible = None  # a position that reads on sees all there is
            if past is None:
                visible = torch.ones(last, T, dtype=torch.bool, device=x.device).tril(T - last)
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=visible)
        x = x + product(y.transpose(1, 2).reshape(x.shape), self.out)
        if self.hidden:
            x = x + product(F.relu(product(norm(x), self.up)), self.down)
        return x


class Transformer(nn.Module):
    """Maps tokens [M, B, T] to the logits [M, B, answer, V] of the tokens that follow the last `answer` positions.

    With `where` [M, n], to those [M, n, V] of some of these positions only, see `pick`.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        # one table a place in the context, each with a row for "before the beginning"
        self.tokens = nn.Parameter(torch.randn(1, shape.context * (shape.vocabulary + 1), shape.width))
        self.positions = nn.Parameter(0.5 * torch.randn(1, shape.length, shape.width))
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.head = nn.Parameter(torch.zeros(1, shape.vocabulary, shape.width))

    def forward(self, tokens: Tensor, answer: int, where: Tensor | None = None) -> Tensor:
        return product(norm(pick(self.states(tokens, answer), where)), self.head)

    def states(self, tokens: Tensor, last: int | None = None) -> Tensor:
        """The stream behind the last block, [M, B, T, d], or at the last positions only, [M, B, last, d]."""
        x = self._embed(F.pad(tokens, (self.shape.context - 1, 0), value=self.shape.vocabulary), 0)
        for block in self.blocks[:-1]:
            x = block(x)
        return self.blocks[-1](x, last)

    def past(self, rows: int, prompt: int, answer: int, dtype: torch.dtype) -> Past:
        """Nothing read yet of some rows, with room for a prompt and an answer."""
        return Past(self.shape, rows, prompt + answer, self.tokens.device, dtype)

    def read(self, tokens: Tensor, past: Past) -> Tensor:
        """Read on: tokens [B, T] that follow those of `past` (T is 1 unless it is empty), to logits [B, V] of the next.

        For a model alone.
        """
        before = torch.cat([past.last, tokens], dim=1)
        x = self._embed(before[None], past.length)
        past.length += tokens.shape[1]
        past.last = before[:, tokens.shape[1] :]
        for number, (block, layer) in enumerate(zip(self.blocks, past.layers, strict=True)):
            one = tokens.shape[1] == 1 or number == len(self.blocks) - 1
            x = block(x, 1 if one else None, layer[:, :, :, : past.length])
        return product(norm(x), self.head)[0, :, 0]

    def _embed(self, before: Tensor, first: int) -> Tensor:
        """Vectors [M, B, T, d] of the tokens at positions `first` and on, from them and the `context - 1` before."""
        V, context = self.shape.vocabulary, self.shape.context
        M, rows, width = self.tokens.shape
        T = before.shape[2] - (context - 1)
        own = rows * torch.arange(M, device=before.device)[:, None, None]  # where a member's tables begin
        before = before + own
        x = self.positions[:, None, first : first + T]
        for back in range(context):
            start = context - 1 - back
            x = x + F.embedding(before[..., start : start + T] + back * (V + 1), self.tokens.view(-1, width))
        return norm(x)

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
