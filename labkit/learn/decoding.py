"""Asking a Hugging Face causal model: greedy answers, and whether given answers are those it would write.

Answers are written many at a time: a row that has ended leaves, and the next prompt joins.

Guaranteed: what is written is what greedy decoding of each prompt alone would write, but for rounding (in 16 bits two
tokens that are about equally likely may change places with the rows beside them). Prompts are read once, keys and
values are kept, and no more than a quarter of the rows is ever computed in vain.
Left open: models that keep more than the keys and values of transformers' `DynamicCache`.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from labkit.instructions import Example
from labkit.learn import chat
from labkit.learn.finite import check_scores
from labkit.learn.inference import GONE

ROOM = 64  # tokens that keys and values grow by at once
LOGITS = 2**26  # that a forward pass writes at once on a CPU, where memory is short: 256 MiB of them
Flags = NDArray[np.bool_]


@dataclass
class _Batch:
    """Rows that are written together.

    Attributes:
        which: The number of each row's prompt.
        past: Keys and values of W positions.
        mask: 1 where a position is a row's own, int64 [B, W]; filling is on the left.
        token: The token that each row goes on with, not read yet, int64 [B].
    """

    which: list[int]
    past: Any
    mask: Tensor
    token: Tensor


def answer(
    model: Any, tokenizer: Any, questions: Sequence[Example], *, max_new_tokens: int = 256, batch_size: int = 16,
    plain: bool = False, until: Sequence[str] = (),
    told: Callable[[int, str, bool], None] = lambda number, text, cut: None,
) -> list[str]:  # fmt: skip
    """Answers by greedy decoding, in the order of the questions, whose own outputs are not looked at.

    Nothing but the likeliest token counts: a model's own repetition penalty would make it differ from `followed`.

    Args:
        plain: Whether a question is a text to go on with, without the chat template; its `input` is not looked at.
        until: Texts that end an answer, and are no part of it.
        told: Hears of each answer as it ends: the question's number, the answer, and whether `max_new_tokens` cut it.

    Raises:
        BadRequest: as `chat.prompt_tokens` and `chat.check_tokens`.
        NotFinite: when the model's scores are NaN.
    """
    frame, prompts = chat.answer_frame(tokenizer), prompts_of(tokenizer, questions, plain)
    _check_tokens(model, tokenizer, prompts)
    stops = {tokenizer.eos_token_id, frame.stop}
    answers = [""] * len(prompts)

    def over(row: list[int]) -> bool:
        tail = tokenizer.decode(row[-max(map(len, until)) :]) if until else ""  # a token is a character at least
        return any(text in tail for text in until)

    def ended(number: int, row: list[int], cut: bool) -> None:
        text = tokenizer.decode(row) if plain else frame.strip(tokenizer.decode(row))
        places = [text.index(end) for end in until if end in text]
        answers[number] = text[: min(places)] if places else text
        told(number, answers[number], cut and not places)

    greedy(model, prompts, stops, tokenizer.pad_token_id, new_tokens=max_new_tokens, rows=batch_size, over=over,
           told=ended)  # fmt: skip
    return answers


def prompts_of(tokenizer: Any, questions: Sequence[Example], plain: bool) -> list[list[int]]:
    """The tokens that each answer follows: of the chat template's prompt, or of the plain question."""
    if plain:
        return [tokenizer(question.instruction)["input_ids"] for question in questions]
    return chat.prompt_tokens(tokenizer, questions)


def followed(model: Any, tokenizer: Any, examples: Sequence[Example], *, batch_size: int = 16) -> list[Flags]:
    """For each token of each example's output and its end mark: is it the likeliest after those before it? Bool [n].

    Raises:
        BadRequest, NotFinite: as `answer`.
    """
    encoded = chat.encode(tokenizer, examples)
    rows = np.split(encoded.tokens, np.cumsum(encoded.lengths)[:-1])
    _check_tokens(model, tokenizer, rows)
    found = [np.empty(0, np.bool_)] * len(rows)
    widest = int((encoded.lengths - encoded.prompts).max(initial=0)) + 1
    for batch in chat.in_batches(
        np.argsort(encoded.lengths, kind="stable").tolist(), at_once(model, widest, batch_size)
    ):
        ids, mask, positions = left_padded([rows[i].tolist() for i in batch], tokenizer.pad_token_id, model.device)
        answers = [int(encoded.lengths[i] - encoded.prompts[i]) for i in batch]
        keep = max(answers) + 1
        with torch.inference_mode():
            logits = model(input_ids=ids, attention_mask=mask, position_ids=positions, logits_to_keep=keep).logits
        hits = (logits[:, -keep:-1].argmax(-1) == ids[:, 1 - keep :]).cpu().numpy()
        for row, (i, n) in enumerate(zip(batch, answers, strict=True)):
            check_scores(logits[row, -n - 1 :])
            found[i] = hits[row, -n:]
    return found


def at_once(model: Any, tokens: int, most: int) -> int:
    """How many rows of so many tokens are read together: `most`, and on a CPU no more than the logits have room for."""
    if model.device.type != "cpu":
        return most
    return max(1, min(most, LOGITS // (tokens * int(model.get_input_embeddings().weight.shape[0]))))


def _check_tokens(model: Any, tokenizer: Any, rows: Sequence[Any]) -> None:
    """`chat.check_tokens` of all rows."""
    highest = max((int(max(row)) for row in rows if len(row)), default=0)
    chat.check_tokens(tokenizer, highest, model.get_input_embeddings().weight.shape[0])


@torch.inference_mode()
def greedy(
    model: Any, prompts: Sequence[list[int]], stops: Collection[int], pad: int, *, new_tokens: int, rows: int,
    over: Callable[[list[int]], bool] = lambda row: False,
    told: Callable[[int, list[int], bool], None] = lambda number, row, cut: None,
) -> list[list[int]]:  # fmt: skip
    """The tokens that follow each prompt, up to one of `stops` (left out) or `new_tokens`.

    Args:
        rows: Prompts that are answered at once.
        over: Whether what is written so far is enough.
        told: Hears of each row as it ends: the prompt's number, its tokens, and whether `new_tokens` cut it.

    Raises:
        NotFinite: when the model's scores are NaN.
    """
    written: list[list[int]] = [[] for _ in prompts]
    waiting = sorted(range(len(prompts)), key=lambda i: len(prompts[i]), reverse=True)
    ended, batch = set[int](), None
    while waiting or batch:
        free = rows - (len(batch.which) if batch else 0)
        if waiting and free >= GONE * rows:
            fresh = _read(model, prompts, [waiting.pop() for _ in range(min(free, len(waiting)))], pad)
            batch = _joined(batch, fresh) if batch else fresh
        assert batch
        for i, token in zip(batch.which, batch.token.tolist(), strict=True):
            if i in ended:
                continue
            if token not in stops:
                written[i].append(token)
            if token in stops or len(written[i]) == new_tokens or over(written[i]):
                ended.add(i)
                told(i, written[i], token not in stops)
        stay = [place for place, i in enumerate(batch.which) if i not in ended]
        if len(stay) <= (1 - GONE) * len(batch.which):
            batch = _kept(batch, stay) if stay else None
        if batch:
            _advance(model, batch)
    return written


def left_padded(rows: Sequence[list[int]], pad: int, device: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Token rows filled up on the left: tokens, attention mask and positions, all int64 [B, L]."""
    longest = max(map(len, rows))
    ids = torch.tensor([[pad] * (longest - len(row)) + row for row in rows], device=device)
    mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=device)
    return ids, mask, (mask.cumsum(1) - 1).clamp(min=0)


def _read(model: Any, prompts: Sequence[list[int]], which: list[int], pad: int) -> _Batch:
    from transformers import DynamicCache

    ids, mask, positions = left_padded([prompts[i] for i in which], pad, model.device)
    past = DynamicCache()
    past.layer_class_to_replicate = _roomy_layer()
    return _Batch(which, past, mask, _next(model, ids, mask, positions, past))


@cache
def _roomy_layer() -> Any:
    """A layer of keys and values that grows in place, where transformers' own is copied whole for every token."""
    from transformers.cache_utils import DynamicLayer

    class RoomyLayer(DynamicLayer):
        keys: Tensor
        values: Tensor
        stores: dict[str, tuple[Tensor, Tensor]]  # of each: a tensor with room, and the part that is in use

        def update(self, keys: Tensor, values: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
            if not self.is_initialized:
                self.lazy_initialization(keys, values)
                self.stores = {}
            self.keys, self.values = self.grown("keys", self.keys, keys), self.grown("values", self.values, values)
            return self.keys, self.values

        def grown(self, name: str, old: Tensor, new: Tensor) -> Tensor:
            if not old.numel():
                return new
            n, total = old.shape[2], old.shape[2] + new.shape[2]
            store, held = self.stores.get(name, (old, None))
            if held is not old or store.shape[2] < total:  # rows have joined or left, or there is no room
                store = old.new_empty(*old.shape[:2], total + ROOM, old.shape[3])
                store[:, :, :n] = old
            store[:, :, n:total] = new
            self.stores[name] = store, store[:, :, :total]
            return self.stores[name][1]

    return RoomyLayer


def _advance(model: Any, batch: _Batch) -> None:
    """Read the rows' tokens, and choose those after them."""
    positions = batch.mask.sum(1, keepdim=True)
    batch.mask = F.pad(batch.mask, (0, 1), value=1)
    batch.token = _next(model, batch.token[:, None], batch.mask, positions, batch.past)


def _next(model: Any, ids: Tensor, mask: Tensor, positions: Tensor, past: Any) -> Tensor:
    scores = model(input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=past, use_cache=True,
                   logits_to_keep=1).logits[:, -1]  # fmt: skip
    check_scores(scores)
    return scores.argmax(-1)


def _joined(one: _Batch, other: _Batch) -> _Batch:
    """Both batches as one, filled up to the same width."""
    width = max(one.mask.shape[1], other.mask.shape[1])
    left, right = width - one.mask.shape[1], width - other.mask.shape[1]
    for mine, theirs in zip(one.past.layers, other.past.layers, strict=True):
        mine.keys = torch.cat([F.pad(mine.keys, (0, 0, left, 0)), F.pad(theirs.keys, (0, 0, right, 0))])
        mine.values = torch.cat([F.pad(mine.values, (0, 0, left, 0)), F.pad(theirs.values, (0, 0, right, 0))])
    mask = torch.cat([F.pad(one.mask, (left, 0)), F.pad(other.mask, (right, 0))])
    return _Batch(one.which + other.which, one.past, mask, torch.cat([one.token, other.token]))


def _kept(batch: _Batch, stay: list[int]) -> _Batch:
    """Those rows alone, without the filling that they have in common."""
    places = torch.tensor(stay, device=batch.mask.device)
    mask = batch.mask[places]
    spare = int((mask.cumsum(1) == 0).all(0).sum())
    for layer in batch.past.layers:
        layer.keys, layer.values = layer.keys[places, :, spare:], layer.values[places, :, spare:]
    return _Batch([batch.which[place] for place in stay], batch.past, mask[:, spare:], batch.token[places])
