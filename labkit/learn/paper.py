"""The `paper` recipe: GPT-2 from scratch, AdamW at 1e-3, a linear schedule (arXiv 2402.10891, section 3).

The architecture is transformers' own `GPT2LMHeadModel`; at the paper's sizes it has 6 layers, 4 heads and width 256.
The papers state no batch size, weight decay or dropout. Ours: weight decay 0.01 and no gradient clipping (torch's
defaults), no dropout, so that the data alone decides what is learned; the study chooses the batch size.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from labkit.learn.transformer import Shape, pick

VERSION = 1  # raised when the same settings come to train another model
LEARNING_RATE = 1e-3
EXPANSION = 4  # GPT-2's own
FLEET = False  # transformers' model is one model
BRANCHES = True  # a copy of model and optimiser trains on by itself


class HubPast:
    """What one of transformers' models has read, so that it can read on."""

    def __init__(self) -> None:
        from transformers import DynamicCache

        self.cache = DynamicCache()

    def read(self, body: nn.Module, head: nn.Module, tokens: Tensor) -> Tensor:
        """Read on, from tokens [B, T] to logits [B, V] of the next."""
        stream = body(input_ids=tokens, past_key_values=self.cache, use_cache=True).last_hidden_state
        return head(stream[:, -1])

    def keep(self, which: Tensor) -> None:
        """Go on with those rows alone."""
        self.cache.batch_select_indices(which)


class HubModel(nn.Module):
    """One of transformers' models, of its `body` and `head`, as a `labkit.learn.transformer.Transformer`."""

    def parts(self) -> tuple[nn.Module, nn.Module]:
        """What gives the hidden states, and the map from these to logits."""
        raise NotImplementedError

    def forward(self, tokens: Tensor, answer: int, where: Tensor | None = None) -> Tensor:
        return self.parts()[1](pick(self.states(tokens)[:, :, -answer:], where))

    def states(self, tokens: Tensor) -> Tensor:
        """The hidden states that the head reads, [1, B, T, d]."""
        return self.parts()[0](input_ids=tokens.squeeze(0), use_cache=False).last_hidden_state[None]

    def past(self, *_: object) -> HubPast:
        """Nothing read yet; see `labkit.learn.transformer.Transformer.past`."""
        return HubPast()

    def read(self, tokens: Tensor, past: HubPast) -> Tensor:
        """Read on, from tokens [B, T] to logits [B, V] of the next."""
        return past.read(*self.parts(), tokens)


class GPT2(HubModel):
    """transformers' GPT-2."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        from transformers import GPT2LMHeadModel

        self.shape = shape
        self.gpt2 = GPT2LMHeadModel(gpt2_configuration(shape))

    def parts(self) -> tuple[nn.Module, nn.Module]:
        return self.gpt2.transformer, self.gpt2.lm_head


def gpt2_configuration(shape: Shape):  # type: ignore[no-untyped-def]  # transformers' config, imported late
    """GPT-2's configuration at the given sizes, with a perceptron of one width at least; `context` plays no part."""
    from transformers import GPT2Config

    return GPT2Config(vocab_size=shape.vocabulary, n_positions=shape.length, n_layer=shape.layers, n_head=shape.heads,
                      n_embd=shape.width, n_inner=max(1, shape.expansion) * shape.width, resid_pdrop=0.0,
                      embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=None, eos_token_id=None)  # fmt: skip


def build(shape: Shape) -> GPT2:
    """The model of this recipe."""
    return GPT2(shape)


def schedule(step: int, steps: int) -> float:
    """The factor on a rate: linearly down to zero."""
    return (steps - step) / steps


class Optimiser:
    """AdamW behind one `step`."""

    def __init__(self, model: nn.Module, rates: Sequence[float]) -> None:
        (self.rate,) = rates
        self.adamw = torch.optim.AdamW(model.parameters(), lr=self.rate, weight_decay=0.01, fused=True)

    def step(self, _: int, factors: Sequence[float]) -> None:
        """Update the weights by their gradients, at the rate times the factor, and clear these."""
        for group in self.adamw.param_groups:
            group["lr"] = self.rate * factors[0]
        self.adamw.step()
        self.adamw.zero_grad()
