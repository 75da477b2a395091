"""The quick step of fine-tuning: the plain model's losses and gradients, and answers that refill their batch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tiny import tiny_examples, tiny_llama

from labkit.instructions import Example
from labkit.learn import chat, decoding, memory, probe, qlora
from labkit.learn.tuning_step import learn_labels, lighten

pytest.importorskip("peft", reason="needs labkit[qlora]")
EXAMPLES = [*tiny_examples(10), Example("Copy it.", "abcdefgh" * 8, "abcdefgh" * 8, "tiny", "Copy it.")]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("base"), chat_template=None)


@pytest.fixture(scope="module")
def tokenizer(base: Path) -> Any:
    made = qlora.load_tokenizer(str(base))
    chat.set_template(made, "plain")
    return made


@pytest.fixture(scope="module")
def rows(tokenizer: Any) -> list[Any]:
    return list(chat.dataset(chat.encode(tokenizer, EXAMPLES)))


def llama(vocabulary: int) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    return LlamaForCausalLM(LlamaConfig(vocab_size=vocabulary, num_key_value_heads=2, **sizes))


def gpt2(vocabulary: int) -> Any:
    """Layers that PEFT wraps in another way, positions that are looked up, a head tied to the embedding."""
    from transformers import GPT2Config, GPT2LMHeadModel

    dropout = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    return GPT2LMHeadModel(GPT2Config(vocab_size=vocabulary, n_embd=32, n_layer=2, n_head=2, **dropout))


def granite(vocabulary: int) -> Any:
    """Logits are scaled after the head."""
    from transformers import GraniteConfig, GraniteForCausalLM

    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    return GraniteForCausalLM(GraniteConfig(vocab_size=vocabulary, logits_scaling=3.0, **sizes))


def adapted(make: Callable[[int], Any], vocabulary: int, quick: bool) -> Any:
    """A model with adapters that do something, in the plain way or in ours."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    model = make(vocabulary)
    if quick:
        learn_labels(model)
    model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=4, target_modules="all-linear"))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1, generator=torch.Generator().manual_seed(len(name)))
    if quick:
        lighten(model)
    return model.train()


def gradients(model: Any, loss: torch.Tensor) -> list[torch.Tensor]:
    return list(torch.autograd.grad(loss, [p for p in model.parameters() if p.requires_grad]))


@pytest.mark.parametrize("loss", ["token", "example"])
@pytest.mark.parametrize("make", [llama, gpt2, granite])
def test_losses_and_gradients_are_the_plain_models(
    tokenizer: Any, rows: list[Any], make: Callable[[int], Any], loss: Any
) -> None:
    """Each example alone through plain PEFT, against all in joined rows through the quick step."""
    batch = chat.Collator(tokenizer.pad_token_id, loss)(rows)
    assert len(batch["input_ids"]) < len(rows)
    model = adapted(make, len(tokenizer), quick=True)
    ours = model(**batch, use_cache=False)["loss"] / batch["weights"].sum()
    plain = adapted(make, len(tokenizer), quick=False)
    each, counts = [], []
    for row in rows:
        ids, labels = torch.tensor([row["input_ids"]]), torch.tensor(row["labels"])
        scores = plain(input_ids=ids, use_cache=False).logits[0, :-1]
        each.append(F.cross_entropy(scores, labels[1:], reduction="sum"))
        counts.append(int((labels[1:] >= 0).sum()))
    if loss == "token":
        theirs = torch.stack(each).sum() / sum(counts)
    else:
        theirs = torch.stack([total / n for total, n in zip(each, counts, strict=True)]).mean()
    assert len(set(counts)) > 2  # or the two means would be one
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    for one, other in zip(gradients(model, ours), gradients(plain, theirs), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)


def test_in_16_bits_adapters_stay_in_32(tokenizer: Any, rows: list[Any]) -> None:
    batch = chat.Collator(tokenizer.pad_token_id)(rows)
    exact = adapted(llama, len(tokenizer), quick=True)
    rounded = adapted(lambda n: llama(n).bfloat16(), len(tokenizer), quick=True)
    losses = [model(**batch, use_cache=False)["loss"] / batch["weights"].sum() for model in (exact, rounded)]
    assert float(losses[1].detach()) == pytest.approx(float(losses[0].detach()), rel=0.02)
    for one, other in zip(gradients(exact, losses[0]), gradients(rounded, losses[1]), strict=True):
        assert other.dtype == torch.float32
        assert F.cosine_similarity(one.flatten(), other.flatten(), dim=0) > 0.98


def test_rows_are_joined_only_where_a_model_keeps_them_apart(tokenizer: Any, rows: list[Any]) -> None:
    alone = chat.Collator(tokenizer.pad_token_id, join=False)(rows)
    joined = chat.Collator(tokenizer.pad_token_id)(rows)
    assert len(alone["input_ids"]) == len(rows)
    assert joined["input_ids"].numel() < alone["input_ids"].numel()
    assert joined["weights"].sum() == alone["weights"].sum() == (alone["labels"] >= 0).sum()
    assert chat.Collator(tokenizer.pad_token_id, "example")(rows)["weights"].sum() == pytest.approx(len(rows))


@pytest.mark.parametrize("rows_at_once", [1, 3, 8, 64])
def test_answers_are_those_of_generate(base: Path, tokenizer: Any, rows_at_once: int) -> None:
    """Ragged answers, token for token; and few rows are computed in vain."""
    from labkit.bench.language import generated

    model, _ = qlora.load(base, template="plain")
    prompts = [[*prompt, 5 + n % 7] for n, prompt in enumerate(chat.prompt_tokens(tokenizer, tiny_examples(20)))]
    stops = list(range(0, len(tokenizer), 9))
    theirs = generated(model, prompts, stops, tokenizer.pad_token_id, 40, rows=4)
    sizes: list[int] = []
    watch = model.register_forward_pre_hook(
        lambda _, args, given: sizes.append(len(given["input_ids"])), with_kwargs=True
    )
    ours = decoding.greedy(model, prompts, stops, tokenizer.pad_token_id, new_tokens=40, rows=rows_at_once)
    watch.remove()
    assert ours == theirs
    lengths = list(map(len, ours))
    assert min(lengths) < 5 < 20 < max(lengths)
    assert max(sizes) <= rows_at_once
    needed = sum(min(length + 1, 40) for length in lengths)
    assert needed <= sum(sizes) <= needed / (1 - decoding.GONE)


def test_precision_is_chosen_by_size_and_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import LlamaConfig

    wide, small = LlamaConfig(hidden_size=512), LlamaConfig(hidden_size=64)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for gain, wanted in ((7.0, torch.bfloat16), (0.3, torch.float32)):
        monkeypatch.setattr(memory, "bfloat16_gain", lambda gain=gain: gain)
        assert memory.training_dtype(wide) == wanted
        assert memory.training_dtype(small) == torch.float32
        assert memory.training_dtype(wide, "float32") == torch.float32
    assert probe.bfloat16_gain() > 0


def test_activations_are_recomputed_where_they_would_not_fit(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = qlora.load_config(str(base))
    settings = qlora.settings(str(base), quantisation="none", steps=1)
    kept = qlora.estimate_memory(config, qlora.settings(str(base), quantisation="none", steps=1,
                                                         gradient_checkpointing=False)).total  # fmt: skip
    for room, wanted in ((2 * kept, False), (2 * kept - 2, True)):
        monkeypatch.setattr(memory, "free_memory", lambda room=room: room)
        assert memory.resolved(config, settings).gradient_checkpointing is wanted
