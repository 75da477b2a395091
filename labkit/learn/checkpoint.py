"""A trained model on disk: `model.safetensors` (weights) beside `model.json` (how to build it, how to ask it)."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from labkit.errors import BadRequest, first_line, unknown
from labkit.instructions import Rule
from labkit.learn.encoding import Layout
from labkit.learn.finite import check_weights
from labkit.learn.inference import generate
from labkit.learn.memory import estimate_training
from labkit.learn.text import TextLayout
from labkit.learn.train import RECIPES
from labkit.learn.transformer import Shape


class Learner(NamedTuple):
    """A model, the recipe that built it and the layout of the sequences it was trained on."""

    model: nn.Module
    recipe: str
    shape: Shape
    layout: Layout | TextLayout

    def answer(self, question: Sequence[str]) -> str:
        """The model's answer to one question, given in parts, by greedy decoding.

        Raises:
            BadRequest: for a symbol outside the alphabet, or lengths the model was not trained on.
        """
        prompt = torch.from_numpy(self.layout.prompt(question)).long()
        return self.layout.text(generate(self.model, prompt, self.layout.answer, self.layout.end)[0].tolist())


class Answer(NamedTuple):
    """What a model answered, and what is right."""

    answer: str
    oracle: str

    @property
    def correct(self) -> bool:
        return self.answer == self.oracle


def build(recipe: str, shape: Shape, seed: int) -> nn.Module:
    """A fresh model; equal seeds give equal weights.

    Raises:
        BadRequest: for an unknown recipe.
    """
    if recipe not in RECIPES:
        raise unknown("recipe", recipe, RECIPES)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return RECIPES[recipe].build(shape)


def save(folder: Path, learner: Learner) -> None:
    """Write the learner into an existing folder."""
    weights = {name: p.detach().cpu().contiguous() for name, p in learner.model.named_parameters()}
    save_file(weights, folder / "model.safetensors")
    about = {"recipe": learner.recipe, "shape": asdict(learner.shape), "layout": asdict(learner.layout)}
    (folder / "model.json").write_text(json.dumps(about, indent=1) + "\n", "utf-8")


def load(folder: Path) -> Learner:
    """Read a learner back.

    Raises:
        BadRequest: when the folder holds no model, or a damaged one.
        NotFinite: when a weight is NaN or infinite.
    """
    try:
        about = json.loads((folder / "model.json").read_text("utf-8"))
        weights = load_file(folder / "model.safetensors")
        learner = _empty(about, sum(weight.numel() for weight in weights.values()))
    except FileNotFoundError as missing:
        raise BadRequest(f"no trained model in {folder}: {Path(missing.filename).name} is missing") from None
    except (
        OSError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        ArithmeticError,
        RuntimeError,
        SafetensorError,
    ) as e:
        raise BadRequest(f"the model in {folder} is damaged or not one of labkit: {first_line(e)}") from None
    # GPT-2 ties its head to its embedding and saves it once
    expected = {name: parameter.shape for name, parameter in learner.model.named_parameters()}
    if expected != {name: weight.shape for name, weight in weights.items()}:
        raise BadRequest(f"the model in {folder} is damaged: its weights are not those that model.json describes")
    learner.model.load_state_dict(weights, strict=False)
    check_weights(learner.model, str(folder))
    return learner


def _empty(about: Any, numbers: int) -> Learner:
    """The learner that `model.json` describes, its weights still to be read; any error says that it describes none."""
    lists = {name: tuple(value) for name, value in about["layout"].items() if isinstance(value, list)}
    sizes: dict[str, Any] = about["layout"] | lists
    layout: Layout | TextLayout = TextLayout(**sizes) if "pieces" in sizes else Layout(**sizes)
    recipe, shape = about["recipe"], Shape(**about["shape"])
    symbols = list(layout.vocabulary)
    if not all(isinstance(symbol, str) for symbol in symbols):
        raise TypeError("its symbols are no texts")
    if (layout.length, len(symbols)) != (shape.length, shape.vocabulary):
        raise ValueError("the sizes in model.json contradict each other")
    if estimate_training(recipe, shape, 1, layout.answer).weights > 4 * 4 * numbers:  # before memory is taken for it
        raise ValueError("its weights are not those that model.json describes")
    return Learner(build(recipe, shape, seed=0), recipe, shape, layout)


def ask(learner: Learner, rule: Rule, text: str) -> Answer:
    """What a model trained on rewriting makes of one rule and input, beside the oracle's answer.

    Raises:
        BadRequest: as `Learner.answer`.
    """
    return Answer(learner.answer((rule.pattern, rule.replacement, text)), rule.apply(text))
