"""How a language model is fine-tuned: the settings, and those of the papers by name."""

import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import yaml

from labkit.errors import BadRequest, unknown
from labkit.learn import chat, embedded
from labkit.learn.train import LOSSES, Loss

QUANTISATIONS = ("nf4", "int8", "none")
SCHEDULES = ("constant", "constant_with_warmup", "linear", "cosine")
_CHOICES = {"quantisation": QUANTISATIONS, "schedule": SCHEDULES, "overlong": ("refuse", "drop"),
            "template": chat.TEMPLATES, "loss": LOSSES, "precision": ("float32", "bfloat16", "float16")}  # fmt: skip
_SHARES = ("dropout", "warmup_ratio")
_MAY_BE_ZERO = (*_SHARES, "weight_decay", "seed")


@dataclass(frozen=True)
class Finetuning:
    """What a fine-tuning run depends on, besides its examples. Defaults: QLoRA's for 7B models (Table 9).

    Attributes:
        model: A Hugging Face id, or the path of a folder that `save_pretrained` wrote.
        revision: The commit of a hub model.
        quantisation: `nf4` (4 bits), `int8`, or `none` (as `precision` says).
        double_quantisation: With `nf4`: the quantisation constants are quantised, too.
        rank, alpha, dropout, targets: LoRA's; `targets` is `all-linear`, or names of modules apart by commas or blanks.
        learning_rate, schedule, warmup_ratio, weight_decay, max_grad_norm: AdamW's.
        batch_size: Rows in one pass on one device; a row is an example, or several when packing.
        accumulation: Passes in one step.
        epochs, steps: How long; exactly one of them.
        max_length: Tokens of the longest row.
        overlong: Whether longer examples are refused or dropped.
        packing: Several examples in a row; they do not see one another.
        gradient_checkpointing: Recompute activations in the backward pass: less memory, about a third more time. None:
            where they would take more than half of the free memory.
        loss: Which mean of its tokens' losses a step follows, a name of `labkit.learn.train.LOSSES`.
        precision: What the model computes in; None: as `labkit.learn.memory.training_dtype` chooses. Adapters are kept
            and updated in 32 bits whatever it is.
        template: One of `chat.TEMPLATES`; None: the tokenizer's own, else `alpaca`.
        save_every: Steps between checkpoints.

    Raises:
        BadRequest: for a value out of range.
    """

    model: str
    revision: str | None = None
    quantisation: Literal["nf4", "int8", "none"] = "nf4"
    double_quantisation: bool = True
    rank: int = 64
    alpha: float = 16
    dropout: float = 0.1
    targets: str = "all-linear"
    learning_rate: float = 2e-4
    schedule: str = "constant"
    warmup_ratio: float = 0.0
    weight_decay: float = 0.0
    max_grad_norm: float = 0.3
    batch_size: int = 16
    accumulation: int = 1
    epochs: float | None = None
    steps: int | None = None
    max_length: int = 512
    overlong: Literal["refuse", "drop"] = "refuse"
    packing: bool = False
    gradient_checkpointing: bool | None = None
    template: str | None = None
    save_every: int = 100
    seed: int = 0
    loss: Loss = "token"
    precision: Literal["float32", "bfloat16", "float16"] | None = None

    def __post_init__(self) -> None:
        for name, allowed in _CHOICES.items():
            value = getattr(self, name)
            if value not in allowed and not (name in ("template", "precision") and value is None):
                raise unknown(name, str(value), allowed)
        if (self.epochs is None) == (self.steps is None):
            raise BadRequest(f"epochs = {self.epochs} and steps = {self.steps}: give exactly one of the two")
        for name, kind in self.__annotations__.items():
            value = getattr(self, name)
            if (kind is bool or (kind == bool | None and value is not None)) and not isinstance(value, bool):
                raise BadRequest(f"{name} = {value!r} is neither true nor false")
            if kind in (int, float) or (kind in (int | None, float | None) and value is not None):
                _check_number(name, value, whole=kind in (int, int | None))


def _check_number(name: str, value: Any, *, whole: bool) -> None:
    zero, share = name in _MAY_BE_ZERO, name in _SHARES
    fits = type(value) in ((int,) if whole else (int, float)) and math.isfinite(value)
    if not fits or value < 0 or (value == 0 and not zero) or (value >= 1 and share):
        limit = ("of at least 0" if zero else "above 0") + " and below 1" * share
        raise BadRequest(f"{name} = {value!r} is not a {'whole ' * whole}number {limit}")


# Hyper-parameters by name. What a paper does not state stays at the default above.
PRESETS: dict[str, dict[str, Any]] = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text("utf-8"))


def settings(model: str, preset: str = "default", /, **changes: Any) -> Finetuning:
    """A preset for a model, with changes; `steps` replaces a preset's `epochs`, and the other way round.

    Raises:
        BadRequest: for an unknown preset or setting, or a value out of range.
    """
    if preset not in PRESETS:
        raise unknown("preset", preset, PRESETS)
    names = [field.name for field in fields(Finetuning)]
    for name in changes:
        if name not in names:
            raise unknown("setting", name, names)
    replaced = ("steps", "epochs") if {"steps", "epochs"} & set(changes) else ()
    kept = {name: value for name, value in PRESETS[preset].items() if name not in replaced}
    return Finetuning(**{"model": model, **kept, **embedded.pins(model), **changes})
