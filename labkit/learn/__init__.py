"""What learns: the small transformer and its two recipes, and the one training loop they share, for one model or many.

Each file is meant to be read as teaching material: `transformer` (the model), `fast` and `paper` (the recipes;
`llama` is a third, whose models are Hugging Face models), `encoding` and `text` (from examples to tokens), `train` (the
loop), `checkpoint` (saved, reloaded and asked).

Hugging Face models, by `from labkit.learn import chat, qlora`: `chat` (templates, label masks, packing), `qlora`.
"""

from labkit.learn.checkpoint import Answer, Learner, ask, build, load, save
from labkit.learn.encoding import Encoded, Layout, encode_rewriting, rewriting_layout
from labkit.learn.paper import gpt2_configuration
from labkit.learn.text import TextLayout, pieces
from labkit.learn.train import (
    RECIPES,
    Member,
    Trained,
    best_device,
    generate,
    precision_name,
    predict,
    train,
    train_fleet,
)
from labkit.learn.transformer import Shape

__all__ = [
    "RECIPES",
    "Answer",
    "Encoded",
    "Layout",
    "Learner",
    "Member",
    "Shape",
    "TextLayout",
    "Trained",
    "ask",
    "best_device",
    "build",
    "encode_rewriting",
    "generate",
    "gpt2_configuration",
    "load",
    "pieces",
    "precision_name",
    "predict",
    "rewriting_layout",
    "save",
    "train",
    "train_fleet",
]
