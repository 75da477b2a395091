"""What learns: the small transformer and its two recipes, and the one training loop they share.

Each file is meant to be read as teaching material: `transformer` (the model), `fast` and `paper` (the recipes),
`encoding` (from examples to tokens), `train` (the loop), `checkpoint` (saved, reloaded and asked).
"""

from labkit.learn.checkpoint import RECIPES, Answer, Learner, ask, build, load, save
from labkit.learn.encoding import Encoded, encode_prompt, encode_rewriting, vocabulary
from labkit.learn.paper import gpt2_configuration
from labkit.learn.train import Trained, best_device, generate, precision_name, predict, train
from labkit.learn.transformer import Shape

__all__ = [
    "RECIPES",
    "Answer",
    "Encoded",
    "Learner",
    "Shape",
    "Trained",
    "ask",
    "best_device",
    "build",
    "encode_prompt",
    "encode_rewriting",
    "generate",
    "gpt2_configuration",
    "load",
    "precision_name",
    "predict",
    "save",
    "train",
    "vocabulary",
]
