"""Batches: which examples a step reads, and which of their positions are worth computing.

Guarantees: the data are an endless stream of shuffled epochs, the same on every device. Where answers are filled up on
their right, a batch is cut behind its longest answer and names the positions that are learned: nothing before a
position depends on what follows it, so that leaving the filling out changes results by rounding alone. Left open: the
filling on the left of questions stays, since models attend to it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

PICKED = 50  # steps whose batches are chosen at once, so that a GPU gets one copy and not fifty


class Batch(NamedTuple):
    """Sequences of M members, B each.

    Attributes:
        tokens: int64 [M, B, T]; the model reads all but the last.
        answer: The last so many tokens A are answers and their filling.
        where: The n positions that are learned and graded among each member's B x A, int64 [M, n]; None: all. A member
            with fewer than another has positions of filling among them.
        target: The tokens to be predicted there, int64 [M, n].
        filling: The target that is none; None: there is no filling.
    """

    tokens: Tensor
    answer: int
    where: Tensor | None
    target: Tensor
    filling: int | None = None


class Epochs:
    """The numbers below `size` in endless shuffled epochs, drawn on the CPU: the same on every device."""

    def __init__(self, size: int, seed: int) -> None:
        self.size, self.generator = size, torch.Generator().manual_seed(seed)
        self.order = torch.empty(0, dtype=torch.long)

    def take(self, count: int) -> Tensor:
        """The next `count`; an epoch's remainder opens the next draw."""
        while len(self.order) < count:
            self.order = torch.cat([self.order, torch.randperm(self.size, generator=self.generator)])
        taken, self.order = self.order[:count], self.order[count:]
        return taken


class Stream(NamedTuple):
    """Where a member's batches come from: the sequences numbered `begin` to `end`, in an order that `seed` decides."""

    begin: int
    end: int
    seed: int


class Batches:
    """An endless supply of batches for some members, from sequences [N, T] that lie on the device."""

    def __init__(
        self, tokens: Tensor, answer: int, filling: int | None, streams: Sequence[Stream], batch_size: int
    ) -> None:
        self.tokens, self.answer, self.filling, self.batch_size = tokens, answer, filling, batch_size
        self.begins = [stream.begin for stream in streams]
        self.epochs = [Epochs(stream.end - stream.begin, stream.seed) for stream in streams]
        self.given, self.picked = 0, torch.empty(0)

    def next(self) -> Batch:
        """The batch of the next step."""
        place = self.given % PICKED
        if place == 0:
            self._choose()
        self.given += 1
        size = None if self.filling is None else self.sizes[place]
        return batch_of(self.tokens[self.picked[:, place]], self.answer, self.filling, size)

    def keep(self, which: Tensor) -> None:
        """Go on for those members alone."""
        self.begins = [self.begins[i] for i in which.tolist()]
        self.epochs = [self.epochs[i] for i in which.tolist()]
        self.picked = self.picked[which]

    def _choose(self) -> None:
        chosen = [e.take(PICKED * self.batch_size) + begin for e, begin in zip(self.epochs, self.begins, strict=True)]
        self.picked = torch.stack(chosen).view(len(chosen), PICKED, -1).to(self.tokens.device)
        if self.filling is not None:
            self.sizes = sizes(self.tokens[:, -self.answer :][self.picked].transpose(0, 1) != self.filling)


def sizes(real: Tensor) -> list[list[int]]:
    """Of K batches, what `batch_of` wants to know: their real positions and longest answer, from masks [K, M, B, A]."""
    places = torch.arange(1, real.shape[-1] + 1, device=real.device)
    longest = (real.any(2).any(1) * places).amax(-1).clamp(min=1)
    return torch.stack([real.sum((2, 3)).amax(-1), longest], dim=1).tolist()


def batch_of(tokens: Tensor, answer: int, filling: int | None, size: Sequence[int] | None) -> Batch:
    """A batch from whole sequences [M, B, T]; `size` is its entry of `sizes`, None where there is no filling."""
    tokens = tokens.long()
    if size is None or filling is None:
        return Batch(tokens, answer, None, tokens[..., -answer:].flatten(1))
    count, longest = size
    tokens = tokens[..., : tokens.shape[2] - answer + longest]
    target = tokens[..., -longest:].flatten(1)
    where = target.eq(filling).byte().argsort(dim=1, stable=True)[:, :count]
    return Batch(tokens, longest, where, target.gather(1, where), filling)
