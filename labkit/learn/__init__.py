"""What learns: the small transformer and its two recipes, and the one training loop they share, for one model or many.

Each file is meant to be read as teaching material: `transformer` (the model), `fast` and `paper` (the recipes;
`adamw` fine-tunes what `fast` has trained, `llama` makes Hugging Face models), `encoding` and `text` (from examples to
tokens), `batches` (which of them a step reads), `train` (the loop), `inference` (answers and their likelihood),
`checkpoint` (saved, reloaded and asked). What either kind of model says of records: `appraisal`, `vectors`.

Hugging Face models, by `from labkit.learn import chat, qlora`: `chat` (templates, label masks, packing), `qlora`,
`scoring` (likelihoods of several answers to a prompt).
"""

from labkit.learn.checkpoint import Answer, Learner, ask, build, load, save
from labkit.learn.encoding import Encoded, Layout, encode_rewriting, rewriting_layout
from labkit.learn.inference import Likelihood, generate, log_likelihood, predict
from labkit.learn.paper import gpt2_configuration
from labkit.learn.text import TextLayout, pieces
from labkit.learn.train import (
    LOSSES,
    RECIPES,
    Loss,
    Member,
    Schedule,
    Trained,
    best_device,
    precision_name,
    train,
    train_fleet,
)
from labkit.learn.transformer import Shape

__all__ = [
    "LOSSES", "RECIPES", "Answer", "Encoded", "Layout", "Learner", "Likelihood", "Loss", "Member", "Schedule", "Shape",
    "TextLayout", "Trained", "ask", "best_device", "build", "encode_rewriting", "generate", "gpt2_configuration",
    "load", "log_likelihood", "pieces", "precision_name", "predict", "rewriting_layout", "save", "train",
    "train_fleet",
]  # fmt: skip
