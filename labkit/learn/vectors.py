"""Examples as vectors: what a model's head reads of them (`states`), and the gradients of their losses (`gradients`).

States are a mean over the positions of question and answer, the k-th weighing k, at length 1: as RDS+ pools them
(arXiv 2503.01807, after SGPT, arXiv 2202.08904). A gradient is that of the mean loss over an answer's tokens: of all
weights of a small model, of the matrices B of a Hugging Face model's adapter. Where it has none it gets one for as long
as is needed, whose B is 0: its gradients are a random projection of those of the weights beside it.

Guaranteed: a vector does not depend on the other examples, but for rounding; nothing is learned. Left open: gradients
are computed one example at a time.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from labkit.instructions import Example
from labkit.learn import chat
from labkit.learn.decoding import left_padded
from labkit.learn.encoding import Encoded
from labkit.learn.finetuning import Finetuning
from labkit.learn.finite import check_scores
from labkit.learn.inference import forced
from labkit.learn.memory import lora_config
from labkit.learn.train import precision
from labkit.learn.transformer import norm

Of = Literal["states", "gradients"]
Placed = tuple[int, NDArray[np.float32]]  # an example's place, and its vector [d] or [P]

ROWS = 16  # read at once


def small_states(model: Any, data: Encoded, device: str) -> Iterator[Placed]:
    """The states of a small model's examples."""
    model.eval()
    for places in torch.arange(len(data.tokens)).split(ROWS):
        tokens = torch.from_numpy(data.tokens[places.numpy()]).long()
        with torch.no_grad(), precision(device):
            hidden = norm(model.states(tokens[None].to(device)))[0].cpu()
        real = tokens != (-1 if data.filling is None else data.filling)
        yield from zip(places.tolist(), _pooled(hidden, real), strict=True)
    model.train()


def small_gradients(model: nn.Module, data: Encoded, device: str) -> Iterator[Placed]:
    """The gradients of a small model's examples."""
    for rows, _, logits, target in forced(model, data, device, 1):
        yield int(rows[0]), _gradient(logits, target, list(model.parameters()))


def tuned_states(model: Any, tokenizer: Any, examples: Sequence[Example], _: Finetuning) -> Iterator[Placed]:
    """The states of a Hugging Face model's examples, an adapter's doing included."""
    body = (model.get_base_model() if hasattr(model, "get_base_model") else model).base_model
    rows = [row.tolist() for row, _ in _rows(model, tokenizer, examples)]
    for places in chat.in_batches(sorted(range(len(rows)), key=lambda place: len(rows[place])), ROWS):
        ids, mask, positions = left_padded([rows[place] for place in places], tokenizer.pad_token_id, model.device)
        with torch.no_grad():
            hidden = body(input_ids=ids, attention_mask=mask, position_ids=positions).last_hidden_state
        yield from zip(places, _pooled(hidden.cpu(), mask.cpu() > 0), strict=True)


def tuned_gradients(model: Any, tokenizer: Any, examples: Sequence[Example],
                    settings: Finetuning) -> Iterator[Placed]:  # fmt: skip
    """The gradients of a Hugging Face model's examples; equal seeds give equal adapters."""
    from peft import get_peft_model

    given = hasattr(model, "get_base_model")
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        adapted = model if given else get_peft_model(model, lora_config(settings)).eval()
    weights = [weight.requires_grad_() for name, weight in adapted.named_parameters() if "lora_B" in name]
    try:
        for place, (row, prompt) in enumerate(_rows(adapted, tokenizer, examples)):
            ids = torch.tensor(row, device=adapted.device, dtype=torch.long)[None]
            logits = adapted(input_ids=ids, logits_to_keep=len(row) - prompt + 1).logits[0, :-1]
            yield place, _gradient(logits, ids[0, prompt:], weights)
    finally:
        if not given:
            adapted.unload()


SMALL: dict[Of, Callable[..., Iterator[Placed]]] = {"states": small_states, "gradients": small_gradients}
TUNED: dict[Of, Callable[..., Iterator[Placed]]] = {"states": tuned_states, "gradients": tuned_gradients}


def _pooled(hidden: Tensor, real: Tensor) -> NDArray[np.float32]:
    """From hidden states [B, T, d], and where they are an example's own, to [B, d]."""
    check_scores(hidden)
    weights = (real.cumsum(1) * real).float()
    return F.normalize((hidden.float() * weights[..., None]).sum(1)).numpy()


def _gradient(logits: Tensor, target: Tensor, weights: Sequence[Tensor]) -> NDArray[np.float32]:
    found = torch.autograd.grad(F.cross_entropy(logits.float(), target), weights)
    return torch.cat([part.flatten().float() for part in found]).cpu().numpy()


def _rows(model: Any, tokenizer: Any, examples: Sequence[Example]) -> list[tuple[Any, int]]:
    """The tokens of each example, and how many of them are the prompt's."""
    encoded = chat.encode(tokenizer, examples)
    chat.check_tokens(tokenizer, int(encoded.tokens.max()), model.get_input_embeddings().weight.shape[0])
    return list(zip(np.split(encoded.tokens, np.cumsum(encoded.lengths)[:-1]), encoded.prompts.tolist(), strict=True))
