"""A tiny Llama with a tiny tokenizer, made on the spot: what the tests fine-tune where nothing can be downloaded."""

from collections.abc import Sequence
from pathlib import Path

import torch

from labkit.instructions import Example
from labkit.learn.chat import TEMPLATES

LETTERS = "abcdefgh"
OPERATIONS = {"Reverse it.": lambda text: text[::-1], "Double it.": lambda text: text * 2, "Copy it.": str}


def tiny_examples(n: int, seed: int = 0) -> list[Example]:
    """`n` examples of three string operations on short words; outputs of 1 to 10 letters."""
    rng = torch.Generator().manual_seed(seed)
    found = []
    for number in range(n):
        length = int(torch.randint(1, 6, (), generator=rng))
        text = "".join(LETTERS[i] for i in torch.randint(len(LETTERS), (length,), generator=rng))
        instruction, operation = list(OPERATIONS.items())[number % len(OPERATIONS)]
        found.append(Example(instruction, text, operation(text), "tiny", instruction))
    return found


def tiny_llama(
    folder: Path,
    *,
    width: int = 64,
    layers: int = 2,
    texts: Sequence[str] = (),
    chat_template: str | None = None,
    seed: int = 0,
) -> Path:
    """A Llama with random weights and a byte-level BPE tokenizer (with `<s>`, `</s>`) saved in `folder`; returns it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<s>", "</s>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator([*texts, *OPERATIONS, *TEMPLATES.values()], trainer)
    raw.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<s>", eos_token="</s>", pad_token="<pad>", chat_template=chat_template
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        max_position_embeddings=512,
        initializer_range=0.1,  # wide enough for a frozen random head to be sure of a word
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder
