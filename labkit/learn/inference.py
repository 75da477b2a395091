"""What a trained model answers: teacher-forced, written greedily, and how likely it finds answers that it is shown.

Guarantees: no result depends on the other rows of its batch, but for rounding. `generate` writes the tokens that a
forward pass over the whole sequence for each token would give; where two tokens are equally likely up to rounding
(seldom in float32, now and then in the bfloat16 of GPUs) the two may choose differently. A model that gives a score of
NaN is refused (`NotFinite`) by all of them.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labkit.learn.batches import batch_of, sizes
from labkit.learn.encoding import Encoded
from labkit.learn.finite import check_scores
from labkit.learn.train import precision, precision_name

ROWS = 128  # prompts that a CPU reads at once: more would push each other out of its cache
GONE = 0.25  # share of rows that are done before the others' keys and values are copied together


class Likelihood(NamedTuple):
    """How likely a model finds some answers.

    Attributes:
        total: The sum of the log-probabilities (nats) of each answer's tokens, its end mark included, float64 [N].
        tokens: How many tokens these are, int64 [N]; `(-total / tokens).exp()` is the answer's perplexity.
    """

    total: Tensor
    tokens: Tensor


@torch.inference_mode()
def predict(model: nn.Module, data: Encoded, *, device: str = "cpu", batch_size: int = 512) -> Tensor:
    """The most likely answer tokens under teacher forcing, int64 [N, A], on the CPU; the filling where the target is.

    Greedy decoding gives exactly the target if and only if these equal the target at every position, so exact-match
    accuracy takes one forward pass.
    """
    found = torch.full((len(data.tokens), data.answer_length), -1 if data.filling is None else data.filling)
    for rows, places, logits, _ in forced(model, data, device, batch_size):
        found[rows, places] = logits.argmax(-1).cpu()
    return found


@torch.inference_mode()
def log_likelihood(model: nn.Module, data: Encoded, *, device: str = "cpu", batch_size: int = 512) -> Likelihood:
    """The log-probability of each row's answer given its question, both on the CPU.

    Pairs of a question and an option rank the options of closed questions; over a set's rows, minus the mean of
    `total / tokens` is the training loss where answers are equally long.
    """
    total = torch.zeros(len(data.tokens), dtype=torch.float64)
    tokens = torch.zeros(len(data.tokens), dtype=torch.long)
    for rows, _, logits, target in forced(model, data, device, batch_size):
        scores = -F.cross_entropy(logits.float(), target, reduction="none").cpu()
        total.index_add_(0, rows, scores.double())
        tokens.index_add_(0, rows, torch.ones_like(rows))
    return Likelihood(total, tokens)


def forced(model: nn.Module, data: Encoded, device: str,
            batch_size: int) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:  # fmt: skip
    """Batch by batch, the n real answer positions: their rows and places (on the CPU), logits [n, V] and targets.

    Rows with answers of about one length go together, so that little filling is computed.
    """
    model.eval()
    sequences = torch.from_numpy(data.tokens)
    real = torch.ones(len(sequences), data.answer_length, dtype=torch.bool)
    if data.filling is not None:
        real = sequences[:, data.prompt_length :].ne(data.filling)
    for rows in real.sum(1).argsort(stable=True).split(batch_size):
        size = None if data.filling is None else sizes(real[rows][None, None])[0]
        batch = batch_of(sequences[rows][None].to(device), data.answer_length, data.filling, size)
        with precision(device):
            logits = model(batch.tokens[..., :-1], batch.answer, batch.where)
        check_scores(logits)
        where = torch.arange(batch.target.shape[1]) if batch.where is None else batch.where[0].cpu()
        yield rows[where // batch.answer], where % batch.answer, logits.flatten(0, -2), batch.target[0]
    model.train()


@torch.inference_mode()
def generate(model: nn.Module, prompt: Tensor, answer_length: int, end: int | None = None) -> Tensor:
    """Greedy decoding: from prompts int64 [B, P] to answers int64 [B, A].

    A row that has written the token `end` is done, and filled up with it. Prompts are read once; after that a token
    costs one position, since keys and values are kept, and a row that is done costs nothing soon after.
    """
    model.eval()
    rows = ROWS if prompt.device.type == "cpu" else max(1, len(prompt))
    answers = torch.cat([_write(model, some, answer_length, end) for some in prompt.split(rows)])
    model.train()
    return answers


def _write(model: Any, prompt: Tensor, answer_length: int, end: int | None) -> Tensor:
    """`generate` for prompts that are read at once."""
    answers = prompt.new_full((len(prompt), answer_length), -1 if end is None else end)
    past = model.past(*prompt.shape, answer_length, getattr(torch, precision_name(prompt.device.type)))
    here, token = torch.arange(len(prompt), device=prompt.device), prompt
    done = torch.zeros_like(here, dtype=torch.bool)
    for place in range(answer_length):
        with precision(prompt.device.type):
            logits = model.read(token, past)
        check_scores(logits)
        token = logits.argmax(-1, keepdim=True)
        if end is not None:
            token[done] = end
            done |= token[:, 0] == end
        answers[here, place] = token[:, 0]
        gone = int(done.sum())
        if gone == len(done):
            break
        if gone >= GONE * len(done):
            stay = torch.nonzero(~done)[:, 0]
            past.keep(stay)
            here, token, done = here[stay], token[stay], done[stay]
    return answers
