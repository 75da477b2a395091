"""The `adamw` recipe: the model of the `fast` recipe, AdamW for all of it, a rate that falls to zero.

For fine-tuning what the `fast` recipe pre-trained. Muon moves every matrix by the same amount at every step, however
small its gradient is, and so writes over what a model knows; AdamW (Loshchilov and Hutter 2019) does not.
"""

from collections.abc import Sequence

import torch

from labkit.learn import fast
from labkit.learn.transformer import Transformer

VERSION = 1  # raised when the same settings come to train another model
LEARNING_RATE = 0.003
EXPANSION, FLEET, BRANCHES, build, schedule = fast.EXPANSION, fast.FLEET, fast.BRANCHES, fast.build, fast.schedule
BETAS, DECAY = (0.9, 0.95), 0.01


class Optimiser:
    """AdamW behind one `step`; `rates` hold a value a member."""

    def __init__(self, model: Transformer, rates: Sequence[float]) -> None:
        self.rates = torch.tensor(rates, device=model.tokens.device)
        self.adam = fast.Adam([(p, 1.0) for p in model.parameters()], BETAS)

    @torch.no_grad()
    def step(self, step: int, factors: Sequence[float]) -> None:
        """Update the weights by their gradients at step 0, 1, ..., each member's rate times its factor; clear these."""
        rates = self.rates * torch.tensor(factors).to(self.rates.device, non_blocking=True)
        for p in self.adam.parameters:
            p.mul_((1 - DECAY * rates)[:, None, None])
        self.adam.step(step, rates)

    def keep(self, model: Transformer, which: torch.Tensor) -> None:
        """Go on with those members alone, in a model that holds only them."""
        self.rates, self.adam.parameters = self.rates[which], list(model.parameters())
        self.adam.moments = [(mean[which], square[which]) for mean, square in self.adam.moments]
