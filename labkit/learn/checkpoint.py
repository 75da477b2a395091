"""A trained model on disk: `model.safetensors` (weights) beside `model.json` (how to build it, how to ask it)."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
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
        about = _About.model_validate_json((folder / "model.json").read_bytes())
        weights = load_file(folder / "model.safetensors")
        learner = _empty(about, sum(weight.numel() for weight in weights.values()))
    except FileNotFoundError as missing:
        raise BadRequest(f"no trained model in {folder}: {Path(missing.filename).name} is missing") from None
    except ValidationError as error:
        where, why = ".".join(map(str, error.errors()[0]["loc"])), error.errors()[0]["msg"]
        raise BadRequest(f"the model in {folder} is damaged or not one of labkit: model.json: {where} {why}") from None
    except (OSError, ValueError, SafetensorError) as damage:
        raise BadRequest(f"the model in {folder} is damaged or not one of labkit: {first_line(damage)}") from None
    # GPT-2 ties its head to its embedding and saves it once
    expected = {name: parameter.shape for name, parameter in learner.model.named_parameters()}
    if expected != {name: weight.shape for name, weight in weights.items()}:
        raise BadRequest(f"the model in {folder} is damaged: its weights are not those that model.json describes")
    learner.model.load_state_dict(weights, strict=False)
    check_weights(learner.model, str(folder))
    return learner


class _About(BaseModel):
    """What `model.json` says."""

    model_config = ConfigDict(strict=True, extra="forbid")
    recipe: Literal["adamw", "fast", "llama", "paper"]
    shape: Shape
    layout: Layout | TextLayout

    @model_validator(mode="after")
    def _holds_together(self) -> "_About":
        shape, layout = self.shape, self.layout
        least = min(shape.layers, shape.width, shape.heads, shape.context, shape.expansion + 1, layout.answer)
        sizes = shape.length == layout.length and shape.vocabulary == len(layout.vocabulary)
        if least < 1 or not sizes or shape.width % shape.heads:
            raise ValueError("its sizes contradict each other")
        return self


def _empty(about: _About, numbers: int) -> Learner:
    """The learner that `model.json` describes, its weights still to be read."""
    needed = estimate_training(about.recipe, about.shape, 1, about.layout.answer).weights
    if needed > 4 * 4 * numbers:  # before memory is taken for it
        raise ValueError("its weights are not those that model.json describes")
    return Learner(build(about.recipe, about.shape, seed=0), about.recipe, about.shape, about.layout)


def ask(learner: Learner, rule: Rule | str, text: str) -> Answer:
    """What a model trained on rewriting makes of one rule and input, beside the oracle's answer.

    Raises:
        BadRequest: as `Learner.answer`, and for a text that is no rule.
    """
    rule = Rule.parse(rule) if isinstance(rule, str) else rule
    return Answer(learner.answer((rule.pattern, rule.replacement, text)), rule.apply(text))
