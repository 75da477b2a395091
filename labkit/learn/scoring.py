"""How likely a Hugging Face causal model finds given answers: what ranks the options of a question.

Guaranteed: each answer is scored as it is learned (`learn.chat`): after the chat template's prompt, its own tokens and
the end mark after them, in nats. A prompt is read once for all of its answers. No result depends on the batch, or on
the other answers, but for rounding; `int8` layers are the exception, as they look at a whole batch to find outliers.
Left open: models that keep more than the keys and values of transformers' `DynamicCache`.
"""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from labkit.instructions import Example
from labkit.learn import chat
from labkit.learn.decoding import at_once, left_padded
from labkit.learn.finite import NotFinite

Answers = list[list[int]]  # the tokens of each answer to one question


class Scores(NamedTuple):
    """How likely the answers of N questions are; questions with fewer than O answers are filled up.

    Attributes:
        total: Log-likelihood of each answer with its end mark, nats, float64 [N, O]; NaN where there is none.
        tokens: How many tokens these are, int64 [N, O]; 0 where there is none.
    """

    total: NDArray[np.float64]
    tokens: NDArray[np.int64]


@torch.inference_mode()
def score(model: Any, tokenizer: Any, questions: Sequence[Example], answers: Sequence[Sequence[str]], *,
          batch_tokens: int = 8192) -> Scores:  # fmt: skip
    """The log-likelihood of each answer to each question (whose own `output` is not looked at).

    Args:
        answers: Of each question, at least one; different numbers of them are fine.
        batch_tokens: Tokens held at once, each answer with its prompt and filling, and fewer on a CPU (`at_once`); a
            question that has more goes alone.

    Raises:
        BadRequest: as `chat.turns` and `chat.check_tokens`.
        NotFinite: when the model gives a likelihood of NaN.
    """
    prompts, rows = _tokens(tokenizer, questions, answers)
    highest = max((max(ids) for ids in chain(prompts, *rows)), default=0)
    chat.check_tokens(tokenizer, highest, model.get_input_embeddings().weight.shape[0])
    shape = len(rows), max(map(len, rows), default=0)
    total, tokens = np.full(shape, np.nan), np.zeros(shape, np.int64)
    for batch in _batches([len(prompt) for prompt in prompts], rows, at_once(model, 1, batch_tokens)):
        found = iter(_scored(model, [prompts[i] for i in batch], [rows[i] for i in batch], tokenizer.pad_token_id))
        for i in batch:
            for place, row in enumerate(rows[i]):
                total[i, place], tokens[i, place] = next(found), len(row)
    if np.isnan(total[tokens > 0]).any():
        raise NotFinite(f"'{tokenizer.name_or_path}' gives a likelihood that is not a number: its weights are damaged")
    return Scores(total, tokens)


def sizes(tokenizer: Any, questions: Sequence[Example], answers: Sequence[Sequence[str]]) -> NDArray[np.int64]:
    """Tokens of each question's prompt with the longest of its answers, [N]: what a model must have room for."""
    prompts, rows = _tokens(tokenizer, questions, answers)
    return np.array([len(p) + max(map(len, row)) for p, row in zip(prompts, rows, strict=True)], np.int64)


def _tokens(
    tokenizer: Any, questions: Sequence[Example], answers: Sequence[Sequence[str]]
) -> tuple[list[list[int]], list[Answers]]:
    """The tokens of prompts and answers, end marks included."""
    if not questions:
        return [], []
    repeated = [question for question, group in zip(questions, answers, strict=True) for _ in group]
    rows = (answer for _, answer in chat.turns(tokenizer, repeated, [text for group in answers for text in group]))
    return chat.prompt_tokens(tokenizer, questions), [[next(rows) for _ in group] for group in answers]


def _batches(lengths: Sequence[int], rows: Sequence[Answers], limit: int) -> Iterator[list[int]]:
    """Questions that are read together: of about one length, with at most `limit` tokens in all."""
    batch: list[int] = []
    width = count = 0
    for i in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        wider, more = max(width, *map(len, rows[i])), count + len(rows[i])
        if batch and (lengths[i] + wider) * more > limit:
            yield batch
            batch, wider, more = [], max(map(len, rows[i])), len(rows[i])
        batch, width, count = [*batch, i], wider, more
    if batch:
        yield batch


def _scored(model: Any, prompts: list[list[int]], rows: list[Answers], pad: int) -> list[float]:
    """The log-likelihood of every answer, question by question: prompts filled up on the left, answers on the right."""
    device = model.device
    ids, mask, positions = left_padded(prompts, pad, device)
    sizes = mask.sum(1)
    read = model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=True, logits_to_keep=1)
    of = torch.tensor([i for i, row in enumerate(rows) for _ in row], device=device)
    texts = [text for row in rows for text in row]
    width = max(map(len, texts))
    first = read.logits[:, -1].float().log_softmax(-1)[of]
    scores = [float(first[i, text[0]]) for i, text in enumerate(texts)]
    if width == 1:
        return scores
    read.past_key_values.batch_select_indices(of)
    ids = torch.tensor([[*text[:-1], *[pad] * (width - len(text))] for text in texts], device=device)
    real = torch.tensor([[1] * (len(text) - 1) + [0] * (width - len(text)) for text in texts], device=device)
    places = torch.arange(width - 1, device=device)
    logits = model(input_ids=ids, attention_mask=torch.cat([mask[of], real], 1), position_ids=sizes[of, None] + places,
                   past_key_values=read.past_key_values, use_cache=True).logits  # fmt: skip
    for i, text in enumerate(texts):
        target = torch.tensor(text[1:], device=device)
        later = F.cross_entropy(logits[i, : len(target)].float(), target, reduction="none")
        scores[i] -= float(later.double().sum())
    return scores
