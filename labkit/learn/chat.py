"""From examples to the tokens of a Hugging Face causal language model: template, loss mask, packing.

Guaranteed:
- The prompt is what the tokenizer's chat template makes of the instruction, and the same in training and generation.
- The answer's tokens are those of the template's own text up to the end mark, control tokens that it writes included;
  where a token would join prompt and answer, the two are tokenised apart, as in generation.
- Loss on what follows the prompt (what the template puts before the answer, the answer, its end mark), on nothing else.
- A template that cannot be applied, or leaves out part of a question or an answer, is refused.
- An example longer than `max_length` is refused or dropped, as the caller chooses, and counted; none is ever cut.
- A control token that a record spells out in its text is read as text, so that no record can end its own answer.
- Packed examples do not see one another: each restarts its positions, from which transformers (5.0 or newer, `sdpa`
  or `eager` attention, no cache) builds a block-diagonal mask; `isolates` checks this on the very model. What is
  learned in a step does not depend on whether its examples share rows.
Left open: templates that print today's date encode differently tomorrow.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
import yaml

from labkit.errors import BadRequest, first_line, unknown
from labkit.instructions import Example
from labkit.learn.train import Loss

if TYPE_CHECKING:
    from datasets import Dataset

IGNORED = -100  # the label of a token without loss, by PyTorch's convention
_PROBES = ("a question, 7 words long, to look for", "an answer, 7 words long, to look for")
_MARKS = ("\U000f0000", "\U000f0001")  # transformers': before and after a control token that is to be read as text
_CHUNK = 1_000  # examples tokenised at a time: bounds the memory that Python lists take
_QUESTIONS: dict[str, str] = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text("utf-8"))
TEMPLATES = {name: f"{{% for message in messages %}}{{% if message.role == 'user' %}}{{{{ {question} }}}}"
             "{% else %}{{ message.content + eos_token }}{% endif %}{% endfor %}"
             for name, question in _QUESTIONS.items()}  # fmt: skip


class Encoded(NamedTuple):
    """Examples as tokens, end to end.

    Attributes:
        tokens: int32 [T], of all examples.
        lengths: int64 [N], tokens of each.
        prompts: int64 [N], how many of these are the prompt's and carry no loss; the others are learned.
        dropped: How many of the given did not fit.
    """

    tokens: npt.NDArray[np.int32]
    lengths: npt.NDArray[np.int64]
    prompts: npt.NDArray[np.int64]
    dropped: int

    def row(self, number: int) -> npt.NDArray[np.int32]:
        """The tokens of one example."""
        end = int(self.lengths[: number + 1].sum())
        return self.tokens[end - int(self.lengths[number]) : end]


def set_template(tokenizer: Any, name: str | None = None) -> None:
    """Make `name` the tokenizer's chat template; None keeps its own, or sets `alpaca` where it has none.

    The template is saved with the tokenizer, so that whoever loads the model asks it as it was trained.

    Raises:
        BadRequest: for an unknown name, a tokenizer without an end-of-sequence token, or one that has several
            templates and none of the name `default`.
    """
    if tokenizer.eos_token_id is None:
        raise BadRequest(f"the tokenizer of '{tokenizer.name_or_path}' has no end-of-sequence token to end answers "
                         "with")  # fmt: skip
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if name is None and tokenizer.chat_template:
        named = tokenizer.chat_template  # transformers' own choice among several is `default`
        if isinstance(named, dict) and "default" not in named:
            raise _useless(tokenizer, f"is one of several ({', '.join(sorted(named))}), none of them named 'default'")
        return
    if name is not None and name not in TEMPLATES:
        raise unknown("template", name, TEMPLATES)
    starts = tokenizer("")["input_ids"][:1] == [tokenizer.bos_token_id]  # only where the model is used to it
    tokenizer.chat_template = "{{ bos_token }}" * starts + TEMPLATES[name or "alpaca"]


def prompt_tokens(tokenizer: Any, examples: Sequence[Example]) -> list[list[int]]:
    """The tokens of each example's prompt, up to where the answer begins.

    Raises:
        BadRequest: when the template cannot be applied, or leaves out part of a question.
    """
    texts = [prompt for prompt, _ in _texts(tokenizer, examples, None)]
    return _tokenised(tokenizer, texts)


def turns(tokenizer: Any, questions: Sequence[Example],
          answers: Sequence[str]) -> Iterator[tuple[list[int], list[int]]]:  # fmt: skip
    """The tokens of each prompt, and those of the answer with its end mark, as the template writes the two together.

    Where a token would join the two, the prompt's tokens are those of the prompt alone, as in generation.

    Raises:
        BadRequest: as `answer_frame`, and when the template leaves out part of a question or an answer.
    """
    frame = answer_frame(tokenizer)
    break_ids = tokenizer("\n", add_special_tokens=False)["input_ids"]
    for start in range(0, len(questions), _CHUNK):
        texts = _texts(tokenizer, questions[start : start + _CHUNK], answers[start : start + _CHUNK])
        if not all(answer.endswith(frame.ending) for _, answer in texts):
            raise _useless(tokenizer, "ends different answers in different ways")
        rests = [frame.close(answer) for _, answer in texts]
        prompts = _tokenised(tokenizer, [prompt for prompt, _ in texts])
        wholes = _tokenised(tokenizer, [prompt + rest for (prompt, _), rest in zip(texts, rests, strict=True)])
        for prompt, whole, rest in zip(prompts, wholes, rests, strict=True):
            ids = whole[len(prompt) :] if whole[: len(prompt)] == prompt else _inside(tokenizer, rest, break_ids)
            yield prompt, ids + frame.appended


class Frame(NamedTuple):
    """What a template puts around an answer.

    Attributes:
        lead: Its text before the answer, often none.
        ending: Its text after it.
        kept: What of this is learned: up to the first control token, or all of it.
        appended: The end-of-sequence token where the ending has no control token, else nothing.
        stop: The token that ends an answer.
    """

    lead: str
    ending: str
    kept: str
    appended: list[int]
    stop: int

    def close(self, rest: str) -> str:
        """What follows a prompt, cut after the answer's end mark."""
        return rest.removesuffix(self.ending) + self.kept

    def strip(self, written: str) -> str:
        """The answer in a text that was written up to `stop`."""
        kept = self.kept if self.appended else ""
        return written.removesuffix(kept).removeprefix(self.lead)


def answer_frame(tokenizer: Any) -> Frame:
    """What the template puts around an answer.

    Raises:
        BadRequest: when the template cannot be applied, leaves out the question or the answer, or does not keep the
            prompt as it was once the answer is there.
    """
    conversation = [{"role": "user", "content": _PROBES[0]}, {"role": "assistant", "content": _PROBES[1]}]
    (prompt,), (whole,) = _rendered(tokenizer, [conversation[:1]], True), _rendered(tokenizer, [conversation], False)
    if _PROBES[0] not in prompt:
        raise _useless(tokenizer, "leaves out the question")
    if not whole.startswith(prompt):
        raise _useless(tokenizer, "rewrites the prompt when it adds the answer")
    lead, answer, ending = whole[len(prompt) :].partition(_PROBES[1])
    if not answer:
        raise _useless(tokenizer, "leaves out the answer")
    mark = _control(tokenizer).search(ending)
    if mark is None:
        return Frame(lead, ending, ending, [tokenizer.eos_token_id], tokenizer.eos_token_id)
    return Frame(lead, ending, ending[: mark.end()], [], tokenizer.convert_tokens_to_ids(mark.group()))


def encode(tokenizer: Any, examples: Sequence[Example], max_length: int | None = None,
           overlong: Literal["refuse", "drop"] = "refuse") -> Encoded:  # fmt: skip
    """Examples as tokens, prompt then answer then end mark.

    Raises:
        BadRequest: as `turns`, when examples are longer than `max_length` and `overlong` is `refuse`, or when none is
            left.
    """
    rows, prompts = list[npt.NDArray[np.int32]](), list[int]()
    for question, answer in turns(tokenizer, examples, [example.output for example in examples]):
        rows.append(np.array([*question, *answer], np.int32))
        prompts.append(len(question))
    lengths = np.array(list(map(len, rows)), np.int64)
    fits = lengths <= (max_length or lengths.max(initial=0))
    misfits = int((~fits).sum())
    if misfits and overlong == "refuse":
        raise BadRequest(f"{misfits} of {len(examples)} examples are longer than max_length {max_length} (the longest "
                         f"has {lengths.max()} tokens): raise max_length, or set overlong to 'drop'")  # fmt: skip
    if not fits.any():
        raise BadRequest(f"no example is left to train on: {len(examples)} given, {misfits} too long")
    tokens = np.concatenate([rows[i] for i in np.flatnonzero(fits)])
    return Encoded(tokens, lengths[fits], np.array(prompts, np.int64)[fits], misfits)


def show_row(tokenizer: Any, encoded: Encoded, number: int = 0) -> str:
    """One encoded example decoded, with what is learned between ⟦ and ⟧."""
    tokens, learned = encoded.row(number).tolist(), int(encoded.prompts[number])
    prompt, answer = (tokenizer.decode(part) if part else "" for part in (tokens[:learned], tokens[learned:]))
    return f"{prompt}⟦{answer}⟧" if tokens[learned:] else prompt


def dataset(encoded: Encoded, packed_length: int | None = None) -> "Dataset":
    """Rows of `input_ids`, `labels` and `seq_lengths`: one example per row, or examples packed up to `packed_length`.

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
        sizes = pa.LargeListArray.from_arrays(ones, pa.array(encoded.lengths))
        return Dataset(pa.table(lists | {"seq_lengths": sizes}))
    disable_progress_bars()
    return pack_dataset(Dataset(pa.table(lists)), packed_length, "bfd", {"batch_size": 10_000})


class Collator:
    """Rows of `dataset` as a batch: `input_ids`, `labels`, `position_ids`, int64 [B, L], and `weights`, float32 [B, L].

    Short rows are joined up to the longest one's length, where the model keeps them apart; the others are filled up on
    the right, and the filling counts as a sequence of its own. There is no attention mask on purpose: transformers
    reads the block-diagonal one from positions that restart, and only where no other mask is given. TRL's own collator
    would instead flatten a batch into one row, whose mask grows with the square of the batch.

    Attributes:
        loss: Which mean the weights make of the labels' losses, once divided by their sum, a name of `train.LOSSES`.
        join: Whether rows are joined.
    """

    def __init__(self, pad: int, loss: Loss = "token", join: bool = True) -> None:
        self.pad, self.loss, self.join = pad, loss, join

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        longest = max(len(row["input_ids"]) for row in rows)
        groups = _best_fit(rows, longest) if self.join else [[row] for row in rows]
        parts: dict[str, list[torch.Tensor]] = {name: [] for name in ("input_ids", "labels", "position_ids", "weights")}
        for group in groups:
            lengths = [int(length) for row in group for length in row["seq_lengths"]]
            lengths.append(longest - sum(lengths))
            for name in ("input_ids", "labels"):
                tokens = torch.cat([torch.as_tensor(row[name], dtype=torch.int64) for row in group])
                filling = self.pad if name == "input_ids" else IGNORED
                parts[name].append(F.pad(tokens, (0, lengths[-1]), value=filling))
            learned = (parts["labels"][-1] != IGNORED).float().split(lengths)
            parts["position_ids"].append(torch.cat([torch.arange(length) for length in lengths]))
            counts = [each / each.sum().clamp(min=1) if self.loss == "example" else each for each in learned]
            parts["weights"].append(torch.cat(counts))
        return {name: torch.stack(tensors) for name, tensors in parts.items()}


def _best_fit(rows: Sequence[dict[str, Any]], size: int) -> list[list[dict[str, Any]]]:
    """Rows in groups of at most `size` tokens: each, the longest first, into the fullest group that has room for it."""
    groups: list[list[dict[str, Any]]] = []
    room: list[int] = []
    for row in sorted(rows, key=lambda row: len(row["input_ids"]), reverse=True):
        length = len(row["input_ids"])
        best = min((place for place, left in enumerate(room) if left >= length), key=room.__getitem__, default=None)
        if best is None:
            best = len(room)
            groups.append([])
            room.append(size)
        groups[best].append(row)
        room[best] -= length
    return groups


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


def check_tokens(tokenizer: Any, highest: int, embeddings: int) -> None:
    """Refuse a token, the filling included, for which a model has no embedding.

    Raises:
        BadRequest: names the token, and how many embeddings there are.
    """
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
    if (beyond := max(highest, pad)) >= embeddings:
        raise BadRequest(f"the tokenizer of '{tokenizer.name_or_path}' has the token {beyond} "
                         f"('{tokenizer.convert_ids_to_tokens(beyond)}', of {len(tokenizer)} tokens) and the model "
                         f"{embeddings} embeddings: resize the model's embeddings (resize_token_embeddings), or take "
                         "the model's own tokenizer")  # fmt: skip


def _control(tokenizer: Any) -> re.Pattern[str]:
    """Control tokens: the special ones, and added ones that the template writes (blanks are ordinary text)."""
    template = str(tokenizer.get_chat_template())
    added = [token.content
             for token in tokenizer.added_tokens_decoder.values() if token.special
             or (token.content in template and not token.content.isspace())]  # fmt: skip
    longest_first = sorted(added, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or "(?!)")


def _texts(tokenizer: Any, questions: Sequence[Example], answers: Sequence[str] | None) -> list[tuple[str, str]]:
    """What the template writes: each prompt, and what follows it; without answers nothing does.

    Control tokens that a record spells out are marked as text, see `_tokenised`.
    """
    control = _control(tokenizer)
    asked = [[_marked(_message(question), control)] for question in questions]
    prompts = _rendered(tokenizer, asked, True)
    _check_whole(tokenizer, "question", prompts, [[m["instruction"], m["input"]] for (m,) in asked])
    if answers is None:
        return [(prompt, "") for prompt in prompts]
    replies = [_marked({"role": "assistant", "content": answer}, control) for answer in answers]
    wholes = _rendered(tokenizer, [[*a, reply] for a, reply in zip(asked, replies, strict=True)], False)
    if not all(whole.startswith(prompt) for prompt, whole in zip(prompts, wholes, strict=True)):
        raise _useless(tokenizer, "rewrites the prompt when it adds the answer")
    rests = [whole[len(prompt) :] for prompt, whole in zip(prompts, wholes, strict=True)]
    _check_whole(tokenizer, "answer", rests, [[reply["content"]] for reply in replies])
    return list(zip(prompts, rests, strict=True))


def _rendered(tokenizer: Any, conversations: Sequence[list[dict[str, str]]], prompt: bool) -> list[str]:
    """What the template makes of conversations; a template is foreign code, and may raise anything."""
    if not conversations:
        return []
    try:
        return tokenizer.apply_chat_template(conversations, add_generation_prompt=prompt, tokenize=False)
    except Exception as error:
        reason = f"cannot be applied ({type(error).__name__}: {first_line(error)})"
        raise _useless(tokenizer, reason) from None


def _tokenised(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Tokens of rendered texts; marked control tokens become text, which takes three times as long."""
    marked = [any(mark in text for mark in _MARKS) for text in texts]
    plain = [text for text, is_marked in zip(texts, marked, strict=True) if not is_marked]
    quickly = iter(tokenizer(plain, add_special_tokens=False)["input_ids"] if plain else [])
    try:
        return [tokenizer(text, add_special_tokens=False, sanitize_control_tokens=True)["input_ids"] if mark
                else next(quickly) for text, mark in zip(texts, marked, strict=True)]  # fmt: skip
    except ValueError as refusal:
        raise BadRequest(f"a record spells out a control token that '{tokenizer.name_or_path}' cannot read as text: "
                         f"{first_line(refusal)}") from None  # fmt: skip


def _inside(tokenizer: Any, text: str, break_ids: list[int]) -> list[int]:
    """The tokens of a text that others come before: SentencePiece puts a blank before a text that stands alone."""
    ids, alone = _tokenised(tokenizer, ["\n" + text, text])
    return ids[len(break_ids) :] if ids[: len(break_ids)] == break_ids else alone


def _marked(message: dict[str, str], control: re.Pattern[str]) -> dict[str, str]:
    """A message whose control tokens, spelled out in a record, stand between transformers' marks."""
    if not any(control.search(text) for text in message.values()):
        return message
    from transformers.utils.chat_template_utils import mark_control_tokens

    return mark_control_tokens(message, control)


def _check_whole(tokenizer: Any, what: str, texts: Sequence[str], parts: Sequence[Sequence[str]]) -> None:
    """Refuse a template that leaves out part of a record; it may trim, and change white space."""

    def bare(text: str) -> str:
        return re.sub(rf"\s|{'|'.join(_MARKS)}", "", text)

    cut = [i for i, text in enumerate(texts) if any(bare(part) not in bare(text) for part in parts[i])]
    if cut:
        first = re.sub("|".join(_MARKS), "", " ".join(parts[cut[0]]))[:60]
        raise _useless(tokenizer, f"leaves out part of the {what} of {len(cut)} examples, the first {first!r}")


def _useless(tokenizer: Any, why: str) -> BadRequest:
    return BadRequest(f"the chat template of '{tokenizer.name_or_path}' {why}; choose one of the templates "
                      f"{', '.join(TEMPLATES)}")  # fmt: skip


def _message(example: Example) -> dict[str, str]:
    """What a chat template sees: the whole question as `content`, and for labkit's own templates its two parts."""
    content = f"{example.instruction}\n\n{example.input}" if example.input else example.instruction
    return {"role": "user", "content": content, "instruction": example.instruction, "input": example.input}
