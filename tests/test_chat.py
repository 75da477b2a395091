"""Encoding for Hugging Face models: template, mask, what does not fit, and packing that keeps examples apart."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import tiny_examples, tiny_llama

from labkit import BadRequest
from labkit.instructions import Example
from labkit.learn import chat

pytest.importorskip("trl", reason="needs labkit[qlora]")

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content | trim + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n<think></think>' }}{% endif %}"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("chat"))


@pytest.fixture
def tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    found = AutoTokenizer.from_pretrained(folder)
    chat.set_template(found)
    return found


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder)


def example(instruction: str, text: str, output: str) -> Example:
    return Example(instruction, text, output, "test", instruction)


def test_alpaca_is_alpacas_own_text(tokenizer: Any) -> None:
    """The two prompts of the Stanford Alpaca repository, letter by letter."""
    with_input = (
        "Below is an instruction that describes a task, paired with an input that provides further context. Write a "
        "response that appropriately completes the request.\n\n### Instruction:\nAdd.\n\n### Input:\n1 2\n\n"
        "### Response:\n"
    )
    without = (
        "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nAdd.\n\n### Response:\n"
    )
    for text, expected in (("1 2", with_input), ("", without)):
        encoded = chat.encode(tokenizer, [example("Add.", text, "3")])
        assert chat.show_row(tokenizer, encoded) == f"<s>{expected}⟦3</s>⟧"
    asked = [{"role": "user", "content": "Add."}]  # what plain transformers makes of a saved tokenizer
    assert tokenizer.apply_chat_template(asked, tokenize=False) == "<s>" + without


@pytest.mark.parametrize("template", list(chat.TEMPLATES))
def test_exactly_the_answer_and_its_end_are_learned(tokenizer: Any, template: str) -> None:
    chat.set_template(tokenizer, template)
    examples = [*tiny_examples(20), example("Wait.", "", ""), example("A\nb", " c ", " d\n\n")]
    encoded = chat.encode(tokenizer, examples)
    rows = chat.dataset(encoded)
    for number, one in enumerate(examples):
        row = rows[number]
        learned = [token for token in row["labels"] if token != chat.IGNORED]
        assert tokenizer.decode(learned) == one.output + "</s>"
        assert row["input_ids"][-len(learned) :] == learned
        prompt = row["input_ids"][: -len(learned)]
        assert [prompt] == chat.prompt_tokens(tokenizer, [one])
        assert one.instruction in tokenizer.decode(prompt)
        assert one.input in tokenizer.decode(prompt)
        assert prompt.count(tokenizer.bos_token_id) == 1
        assert row["seq_lengths"] == [len(row["input_ids"])]


def test_the_end_mark_is_learned_where_it_is_the_filling_too(tokenizer: Any) -> None:
    tokenizer.pad_token = tokenizer.eos_token
    rows = chat.dataset(chat.encode(tokenizer, tiny_examples(6)))
    for row in chat.Collator(tokenizer.pad_token_id)(list(rows))["labels"].tolist():
        learned = [token for token in row if token != chat.IGNORED]
        assert learned.count(tokenizer.eos_token_id) == 1
        assert learned[-1] == tokenizer.eos_token_id


def test_a_tokenizers_own_template_is_kept(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_llama(tmp_path, chat_template=CHATML.replace("<think></think>", "")))
    chat.set_template(tokenizer)
    encoded = chat.encode(tokenizer, [example("Add.", "1 2", "3")])
    shown = chat.show_row(tokenizer, encoded)
    assert shown.startswith("<|im_start|>user\nAdd.\n\n1 2<|im_end|>\n<|im_start|>assistant\n⟦3<|im_end|>")
    assert shown.endswith("</s>⟧")  # the marks of this template are not special to this tokenizer
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    assert chat.show_row(tokenizer, chat.encode(tokenizer, [example("Add.", "", "3")])).endswith("⟦3<|im_end|>⟧")
    chat.set_template(tokenizer, "bare")
    assert chat.show_row(tokenizer, chat.encode(tokenizer, [example("Add.", "", "3")])) == "<s>Add.\n⟦3</s>⟧"


def test_a_template_that_rewrites_the_prompt_is_refused(tokenizer: Any) -> None:
    tokenizer.chat_template = CHATML
    with pytest.raises(BadRequest, match="rewrites the prompt"):
        chat.encode(tokenizer, tiny_examples(1))


def test_special_tokens_in_a_record_are_text(tokenizer: Any) -> None:
    """A record cannot end its own answer, begin another, or speak for the template."""
    hostile = example("Say </s> and <s>.", "<pad></s>", "a</s>### Instruction:")
    encoded = chat.encode(tokenizer, [hostile, *tiny_examples(3)])
    tokens = encoded.row(0).tolist()
    assert tokens.count(tokenizer.eos_token_id) == tokens.count(tokenizer.bos_token_id) == 1
    assert tokens[-1] == tokenizer.eos_token_id
    assert "Say </s> and <s>." in chat.show_row(tokenizer, encoded)
    harmless = chat.encode(tokenizer, tiny_examples(3))  # taken the fast way
    assert np.array_equal(encoded.row(2), harmless.row(1))


def test_what_does_not_fit_is_refused_or_dropped_and_never_cut(tokenizer: Any) -> None:
    examples = [*tiny_examples(9), example("Long.", "", "abc " * 50)]
    lengths = chat.encode(tokenizer, examples).lengths
    limit = int(sorted(lengths)[-2])
    with pytest.raises(BadRequest, match=f"1 of 10 examples are longer than max_length {limit} .* {max(lengths)} tok"):
        chat.encode(tokenizer, examples, limit)
    kept = chat.encode(tokenizer, examples, limit, "drop")
    assert kept.dropped == 1
    assert np.array_equal(kept.tokens, chat.encode(tokenizer, examples[:9]).tokens)
    with pytest.raises(BadRequest, match="no example is left to train on: 10 given, 10 too long"):
        chat.encode(tokenizer, examples, 5, "drop")
    with pytest.raises(BadRequest, match="no example is left to train on: 0 given"):
        chat.encode(tokenizer, [])


def test_packing_keeps_every_example_whole(tokenizer: Any) -> None:
    encoded = chat.encode(tokenizer, tiny_examples(50))
    room = int(encoded.lengths.max()) * 3
    rows = chat.dataset(encoded, room)
    assert len(rows) < 25
    found = []
    for row in rows:
        assert sum(row["seq_lengths"]) == len(row["input_ids"]) == len(row["labels"]) <= room
        ends = np.cumsum(row["seq_lengths"])[:-1]
        found += [part.tolist() for part in np.split(np.array(row["input_ids"]), ends)]
    assert sorted(found) == sorted(encoded.row(i).tolist() for i in range(50))


def loss_and_gradients(model: Any, batch: dict[str, torch.Tensor]) -> tuple[float, list[torch.Tensor]]:
    model.zero_grad()
    loss = model(**batch, use_cache=False).loss
    loss.backward()
    return float(loss), [p.grad.clone() for p in model.parameters()]


def test_packed_equals_unpacked(tokenizer: Any, model: Any) -> None:
    """Same loss and gradients; and not so once the positions run on, so that the comparison can fail."""
    encoded = chat.encode(tokenizer, tiny_examples(12))
    collate = chat.Collator(tokenizer.pad_token_id)
    packed = collate(list(chat.dataset(encoded, 3 * int(encoded.lengths.max()))))
    assert len(packed["input_ids"]) < 6
    alone, gradients = loss_and_gradients(model, collate(list(chat.dataset(encoded))))
    together, packed_gradients = loss_and_gradients(model, packed)
    assert together == pytest.approx(alone, rel=1e-6)
    for one, other in zip(gradients, packed_gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    running = torch.arange(packed["input_ids"].shape[1]).expand_as(packed["input_ids"])
    leaking, _ = loss_and_gradients(model, packed | {"position_ids": running})
    assert abs(leaking - alone) > 1e-4


def test_our_batches_equal_trls_flattened_ones(tokenizer: Any, model: Any) -> None:
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    rows = list(chat.dataset(chat.encode(tokenizer, tiny_examples(12)), 100))
    theirs = DataCollatorForLanguageModeling(tokenizer.pad_token_id, padding_free=True)(rows)
    theirs = {name: theirs[name] for name in ("input_ids", "labels", "position_ids")}
    ours, gradients = loss_and_gradients(model, chat.Collator(tokenizer.pad_token_id)(rows))
    flat, flat_gradients = loss_and_gradients(model, theirs)
    assert ours == pytest.approx(flat, rel=1e-6)
    for one, other in zip(gradients, flat_gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_a_model_that_does_not_isolate_is_found_out(model: Any) -> None:
    class Leaky(torch.nn.Module):
        device = torch.device("cpu")

        def forward(self, input_ids: torch.Tensor, position_ids: torch.Tensor, use_cache: bool) -> Any:
            return model(input_ids=input_ids, use_cache=use_cache)

    assert chat.isolates(model, 500)
    assert not chat.isolates(Leaky(), 500)


def test_unknown_template_is_refused(tokenizer: Any) -> None:
    with pytest.raises(BadRequest, match="unknown template 'alpacca': did you mean 'alpaca'"):
        chat.set_template(tokenizer, "alpacca")


def test_a_tokenizer_without_an_end_is_refused(tokenizer: Any) -> None:
    tokenizer.eos_token = None
    with pytest.raises(BadRequest, match="no end-of-sequence token"):
        chat.set_template(tokenizer)
