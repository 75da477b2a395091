"""From examples to the tokens of a Hugging Face causal language model: template, loss mask, packing.

Guaranteed:
- The prompt is what the tokenizer's chat template makes of the instruction, and the same in training and generation.
- Loss on the answer and the end mark after it, on nothing else.
- An example longer than `max_length` is refused or dropped, as the caller chooses, and counted; none is ever cut.
- A special token that a record spells out in its text is read as text, so that no record can end its own answer.
- Packed examples do not see one another: each restarts its positions, from which transformers (5.0 or newer, `sdpa`
  or `eager` attention, no cache) builds a block-diagonal mask; `isolates` checks this on the very model.
Left open: templates that print today's date encode differently tomorrow.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from labkit.errors import BadRequest, unknown
from labkit.instructions import Example

if TYPE_CHECKING:
    from datasets import Dataset

IGNORED = -100  # the label of a token without loss, by PyTorch's convention
_CHUNK = 1_000  # examples tokenised at a time: bounds the memory that Python lists take


def _template(question: str) -> str:
    """A chat template (Jinja) of one question and one answer. Line breaks at its joints stand in expressions: Jinja
    swallows one after a block. `instruction` and `input` are there when labkit asks, else all is `content`."""
    return (
        "{% for message in messages %}{% if message.role == 'user' %}{{ "
        + question
        + " }}{% else %}{{ message.content + eos_token }}{% endif %}{% endfor %}"
    )


_QUESTION = (
    r"'### Instruction:\n' + (message.instruction or message.content)"
    r" + ('\n\n### Input:\n' + message.input if message.input else '') + '\n\n### Response:\n'"
)
# By name: Alpaca's (Taori et al., 2023), the same without its preamble, Magicoder's (arXiv 2312.02120), and hardly any.
TEMPLATES = {
    "alpaca": _template(
        "'Below is an instruction that describes a task' + (', paired with an input that provides further context' if "
        "message.input else '') + '. Write a response that appropriately completes the request.\\n\\n' + " + _QUESTION
    ),
    "plain": _template(_QUESTION),
    "magicoder": _template(
        "'You are an exceptionally intelligent coding assistant that consistently delivers accurate and reliable "
        r"responses to user instructions.\n\n@@ Instruction\n' + message.content + '\n\n@@ Response\n'"
    ),
    "bare": _template(r"message.content + '\n'"),
}


class Encoded(NamedTuple):
    """Examples as tokens, end to end.

    Attributes:
        tokens: int32 [T], of all examples.
        lengths: int64 [N], tokens of each.
        prompts: int64 [N], how many of these are the prompt's and carry no loss; the rest are learned.
        kept: int64 [N], which of the given examples each is.
        dropped: How many of the given did not fit.
    """

    tokens: npt.NDArray[np.int32]
    lengths: npt.NDArray[np.int64]
    prompts: npt.NDArray[np.int64]
    kept: npt.NDArray[np.int64]
    dropped: int

    def row(self, number: int) -> npt.NDArray[np.int32]:
        """The tokens of one example."""
        end = int(self.lengths[: number + 1].sum())
        return self.tokens[end - int(self.lengths[number]) : end]


def set_template(tokenizer: Any, name: str | None = None) -> None:
    """Make `name` the tokenizer's chat template; None keeps its own, or sets `alpaca` where it has none.

    The template is saved with the tokenizer, so that whoever loads the model asks it as it was trained.

    Raises:
        BadRequest: for an unknown name, or a tokenizer without an end-of-sequence token.
    """
    if tokenizer.eos_token_id is None:
        raise BadRequest(
            f"the tokenizer of '{tokenizer.name_or_path}' has no end-of-sequence token to end answers with"
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if name is None and tokenizer.chat_template:
        return
    if name is not None and name not in TEMPLATES:
        raise unknown("template", name, TEMPLATES)
    starts = tokenizer("")["input_ids"][:1] == [tokenizer.bos_token_id]  # only where the model is used to it
    tokenizer.chat_template = "{{ bos_token }}" * starts + TEMPLATES[name or "alpaca"]


def prompt_tokens(tokenizer: Any, examples: Sequence[Example]) -> list[list[int]]:
    """The tokens of each example's prompt, up to where the answer begins."""
    conversations = [[_message(example)] for example in examples]
    spelled = any(mark in e.instruction or mark in e.input for mark in tokenizer.added_tokens_encoder for e in examples)
    return tokenizer.apply_chat_template(
        conversations,
        add_generation_prompt=True,
        **({"sanitize_control_tokens": True} if spelled else {}),  # takes three times as long
    )["input_ids"]


def answer_frame(tokenizer: Any) -> tuple[str, list[int]]:
    """What the template puts before an answer (a text, often empty), and the tokens that end it.

    Raises:
        BadRequest: when the template does not keep the prompt as it was once the answer is there.
    """
    question, answer = {"role": "user", "content": "?"}, {"role": "assistant", "content": "ANSWER"}
    prompt = tokenizer.apply_chat_template([question], add_generation_prompt=True, tokenize=False)
    whole = tokenizer.apply_chat_template([question, answer], tokenize=False)
    if not whole.startswith(prompt) or "ANSWER" not in whole[len(prompt) :]:
        raise BadRequest(
            f"the chat template of '{tokenizer.name_or_path}' rewrites the prompt when it adds the answer; "
            f"choose one of the templates {', '.join(TEMPLATES)}"
        )
    lead, _, ending = whole[len(prompt) :].partition("ANSWER")
    tokens = tokenizer(ending, add_special_tokens=False)["input_ids"]
    stops = [place for place, token in enumerate(tokens) if token in tokenizer.all_special_ids]
    return lead, tokens[: stops[0] + 1] if stops else [*tokens, tokenizer.eos_token_id]


def encode(
    tokenizer: Any,
    examples: Sequence[Example],
    max_length: int | None = None,
    overlong: Literal["refuse", "drop"] = "refuse",
) -> Encoded:
    """Examples as tokens, prompt then answer then end mark.

    Raises:
        BadRequest: when examples are longer than `max_length` and `overlong` is `refuse`, or when none is left.
    """
    lead, ending = answer_frame(tokenizer)
    tokens, lengths, prompts = [np.zeros(0, np.int32)], [], []
    for start in range(0, len(examples), _CHUNK):
        chunk = examples[start : start + _CHUNK]
        questions = prompt_tokens(tokenizer, chunk)
        answers = tokenizer([lead + e.output for e in chunk], add_special_tokens=False, split_special_tokens=True)
        for question, answer in zip(questions, answers["input_ids"], strict=True):
            tokens.append(np.array([*question, *answer, *ending], np.int32))
            lengths.append(len(tokens[-1]))
            prompts.append(len(question))
    sizes = np.array(lengths, np.int64)
    fits = sizes <= (max_length or sizes.max(initial=0))
    misfits = int((~fits).sum())
    if misfits and overlong == "refuse":
        raise BadRequest(
            f"{misfits} of {len(examples)} examples are longer than max_length {max_length} (the longest has "
            f"{sizes.max()} tokens): raise max_length, or set overlong to 'drop'"
        )
    if not fits.any():
        raise BadRequest(f"no example is left to train on: {len(examples)} given, {misfits} too long")
    kept = np.flatnonzero(fits)
    return Encoded(
        np.concatenate([tokens[i + 1] for i in kept]), sizes[kept], np.array(prompts, np.int64)[kept], kept, misfits
    )


def show(tokenizer: Any, tokens: Sequence[int], learned: Sequence[bool]) -> str:
    """A sequence decoded, with what is learned between ⟦ and ⟧."""
    text = ""
    for mask, run in groupby(zip(tokens, learned, strict=True), key=lambda pair: bool(pair[1])):
        part = tokenizer.decode([int(token) for token, _ in run])
        text += f"⟦{part}⟧" if mask else part
    return text


def show_row(tokenizer: Any, encoded: Encoded, number: int = 0) -> str:
    """`show` of one encoded example."""
    tokens = encoded.row(number)
    return show(tokenizer, tokens.tolist(), (np.arange(len(tokens)) >= encoded.prompts[number]).tolist())


def dataset(encoded: Encoded, packed_length: int | None = None) -> "Dataset":
    """Rows of `input_ids`, `labels` and `seq_lengths`: an example a row, or examples packed up to `packed_length`.

    Packing is TRL's best fit decreasing, which keeps each example whole as none is longer than the row.
    """
    import pyarrow as pa
    from datasets import Dataset, disable_progress_bars
    from trl import pack_dataset

    ends = np.cumsum(encoded.lengths)
    starts = ends - encoded.lengths
    place = np.arange(len(encoded.tokens)) - np.repeat(starts, encoded.lengths)
    labels = np.where(place < np.repeat(encoded.prompts, encoded.lengths), IGNORED, encoded.tokens)
    offsets = pa.array(np.concatenate([[0], ends]), pa.int64())
    columns = {"input_ids": encoded.tokens, "labels": labels.astype(np.int32)}
    lists = {name: pa.LargeListArray.from_arrays(offsets, pa.array(values)) for name, values in columns.items()}
    if packed_length is None:
        ones = pa.array(np.arange(len(encoded.lengths) + 1), pa.int64())
        return Dataset(
            pa.table(lists | {"seq_lengths": pa.LargeListArray.from_arrays(ones, pa.array(encoded.lengths))})
        )
    disable_progress_bars()
    return pack_dataset(Dataset(pa.table(lists)), packed_length, "bfd", {"batch_size": 10_000})


class Collator:
    """Rows of `dataset` as a batch: `input_ids`, `labels` and `position_ids`, int64 [B, L], filled up on the right.

    There is no attention mask on purpose: transformers reads the block-diagonal one from positions that restart, and
    only where no other mask is given. The filling counts as a sequence of its own. TRL's own collator would instead
    flatten a batch into one row, whose mask grows with the square of the batch.
    """

    def __init__(self, pad: int) -> None:
        self.pad = pad

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        longest = max(len(row["input_ids"]) for row in rows)
        ids = torch.full((len(rows), longest), self.pad)
        labels = torch.full((len(rows), longest), IGNORED)
        positions = torch.zeros((len(rows), longest), dtype=torch.int64)
        for i, row in enumerate(rows):
            n = len(row["input_ids"])
            ids[i, :n] = torch.as_tensor(row["input_ids"])
            labels[i, :n] = torch.as_tensor(row["labels"])
            lengths = [*map(int, row["seq_lengths"]), longest - n]
            positions[i] = torch.cat([torch.arange(length) for length in lengths])
        return {"input_ids": ids, "labels": labels, "position_ids": positions}


def isolates(model: Any, vocabulary: int) -> bool:
    """Whether a model keeps packed examples apart: what it says of the second must not depend on the first.

    The yardstick is how much it does depend on it where the two are one sequence; 8-bit layers look at a whole batch
    to find their outliers, so that the dependence is small there and not zero.
    """
    rows = torch.arange(12).repeat(2, 1) % vocabulary
    rows[1, :6] = (rows[1, :6] + 1) % vocabulary
    was_training = model.training
    model.eval()
    changes = []
    for positions in (torch.arange(6).repeat(2, 2), torch.arange(12).repeat(2, 1)):
        with torch.no_grad():
            batch = {"input_ids": rows.to(model.device), "position_ids": positions.to(model.device)}
            logits = model(**batch, use_cache=False).logits[:, 6:].float()
        changes.append(float((logits[0] - logits[1]).abs().max()))
    model.train(was_training)
    return changes[0] <= 0.1 * changes[1]


def in_batches(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """The items, `size` at a time."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _message(example: Example) -> dict[str, str]:
    """What a chat template sees: the whole question as `content`, and for labkit's own templates its two parts."""
    content = f"{example.instruction}\n\n{example.input}" if example.input else example.instruction
    return {"role": "user", "content": content, "instruction": example.instruction, "input": example.input}
