"""What a person may set: parameters with descriptions, checked before anything starts; and how text becomes a value."""

import ast
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from labkit import learn
from labkit.design import allocate, plain_yaml
from labkit.errors import BadRequest, expanded

MODEL: dict[str, Any] = {"recipe": "fast", "layers": 4, "width": 64, "heads": 2, "steps": 750, "batch_size": 64}
DEEPEST, MOST = 20, 100_000  # lists and dicts in one another, and values in all, that one parameter may be made of
MODEL_GROUP = ("recipe", "layers", "width", "heads", "expansion", "steps", "batch_size", "learning_rate")


class StudyParams(BaseModel):
    """What a person may set. Every field has a description; the notebook's parameters cell has the same names.

    `groups` names fields that the cell sets together, as a dict under the group's name, so that it stays short.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)
    groups: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    scale: str


class SeedParams(StudyParams):
    """What a person may set of any study that trains models; the study adds its own dials."""

    seeds: list[int] = Field(
        min_length=1, max_length=1000, description="each seed draws its own instructions, inputs and weights"
    )

    @field_validator("*", mode="before")
    @classmethod
    def _one_is_a_list(cls, value: Any, info: Any) -> Any:
        wanted = str(cls.model_fields[info.field_name].annotation)
        return [value] if wanted.startswith("list[") and not isinstance(value, list | tuple) else value

    @model_validator(mode="after")
    def _lists_hold_together(self) -> "SeedParams":
        for name, values in self:
            if isinstance(values, list) and len({str(value) for value in values}) < len(values):
                raise BadRequest(f"{name} = {values} names a value twice")
        for name in ("seeds", "fresh_seeds"):
            if not all(0 <= seed < 2**32 for seed in getattr(self, name, ())):
                raise BadRequest(f"{name} = {getattr(self, name)}: a seed is 0 or more, and below {2**32}")
        return self


class ModelParams(SeedParams):
    """What a person may set of the small transformers trained from scratch; the study adds its own dials."""

    recipe: Literal["fast", "adamw", "paper"] = Field(
        description="fast: the lab's; adamw: its model; paper: GPT-2, AdamW"
    )
    layers: int = Field(ge=1, le=48, description="transformer blocks")
    width: int = Field(ge=2, le=16384, description="length of a token's vector")
    heads: int = Field(ge=1, le=1024, description="attention heads per block; must divide width")
    expansion: int | None = Field(
        default=None, ge=0, le=64,
        description="perceptron units per block, in widths; None: the recipe's own (fast 0, paper 4)"
    )  # fmt: skip
    steps: int = Field(ge=1, le=1000000000, description="optimiser steps of a model")
    batch_size: int = Field(ge=1, le=1000000, description="examples per step")
    learning_rate: float | None = Field(default=None, gt=0, le=1000, description="None: the recipe's own")
    n_test: int = Field(ge=2, le=10000000, description="graded examples, for each exam")

    @model_validator(mode="before")
    @classmethod
    def _what_the_recipe_decides(cls, given: dict[str, Any]) -> dict[str, Any]:
        recipe = learn.RECIPES.get(str(given.get("recipe")))
        own = {"expansion": recipe.EXPANSION, "learning_rate": recipe.LEARNING_RATE} if recipe else {}
        return own | {name: value for name, value in given.items() if value is not None}

    @model_validator(mode="after")
    def _model_holds_together(self) -> "ModelParams":
        check_heads(self.heads, "width", [self.width])
        if self.recipe == "paper" and self.expansion == 0:
            raise BadRequest("expansion = 0: the GPT-2 of the paper recipe has a perceptron in every block; at least 1")
        return self


def drawn_note(params: ModelParams, budget: int) -> list[str]:
    """A warning where the steps do not see the whole budget."""
    drawn = params.steps * params.batch_size
    return [f"{params.steps} steps of {params.batch_size} draw {drawn} examples, fewer than budget = {budget}: "
            f"{budget - drawn} examples of each model are never seen"] * (drawn < budget)  # fmt: skip


def check_counts(name: str, counts: Iterable[int], budget: int) -> None:
    """BadRequest for a number of instructions that the budget of examples cannot be spread over."""
    for n in counts:
        if n < 1:
            raise BadRequest(f"{name} = {n}: at least 1 is needed")
        allocate(budget, n)


def check_heads(heads: int, name: str, widths: Iterable[int]) -> None:
    """BadRequest for a width that the attention heads do not divide; `name` is the parameter's."""
    if odd := [width for width in widths if width % heads]:
        raise BadRequest(f"heads = {heads} does not divide {name} = {odd[0]}")


def check_asked(n_test: int, **asked: int) -> None:
    """BadRequest where an exam has fewer examples than instructions, which `asked` names."""
    for name, n in asked.items():
        if n_test < n:
            raise BadRequest(f"n_test = {n_test} is fewer than one example for each of {name} = {n}")


@cache
def _catalogue() -> dict[str, Any]:
    return dict(yaml.safe_load(resources.files("labkit.studies").joinpath("catalogue.yaml").read_text("utf-8")))


def about(study: str) -> dict[str, Any]:
    """What `catalogue.yaml` says of a study: its name, question, paper, minutes and scales, as `Study` takes them."""
    return {"name": study, **_catalogue()[study]["about"], "scales": scales(study)}


def scales(study: str) -> dict[str, dict[str, Any]]:
    """What each scale of a study sets, from `catalogue.yaml`."""
    sets = _catalogue()["sets"]
    own = {name: given for name, given in _catalogue()[study].items() if name != "about"}

    def whole(given: Mapping[str, Any]) -> dict[str, Any]:
        shared: dict[str, Any] = {}
        for name in given.get("like", ()):
            shared |= whole(own[name] if name in own else sets[name])
        return shared | {name: value for name, value in given.items() if name != "like"}

    return {scale: whole(given) for scale, given in own.items()}


def sentence(error: ValidationError) -> str:
    """Pydantic's first complaint, as one sentence that names the parameter, its value and what is allowed."""
    first = error.errors()[0]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, BadRequest):
        return str(cause)
    message = first["msg"].removesuffix(" after validation, not 0")
    name = f"{first['loc'][0]} = " if first["loc"] else ""
    return f"{name}{first['input']!r}: {message[0].lower()}{message[1:]}"


def leaves(value: Any) -> Iterator[Any]:
    """What a value holds, lists in lists taken apart."""
    if isinstance(value, list | tuple):
        for item in value:
            yield from leaves(item)
    else:
        yield value


def parse_value(text: str) -> Any:
    """A value from the command line: JSON, else a Python literal, else the text itself (`~/` is the home folder).

    Raises:
        BadRequest: for brackets in brackets, without end.

    >>> parse_value("[0, 1]"), parse_value("1e5"), parse_value("fast"), parse_value("(1, 2)")
    ([0, 1], 100000.0, 'fast', (1, 2))
    """
    for parse in (json.loads, ast.literal_eval):
        try:
            return _shallow(parse(text))
        except (ValueError, SyntaxError):
            continue
        except (RecursionError, MemoryError):  # Python's parsers also say this of brackets in brackets
            raise BadRequest(f"'{text[:20]}...' is nested too deeply for a value") from None
    return expanded(text) if text.startswith("~/") else text


def _shallow(value: Any) -> Any:
    """The value; RecursionError where it is deeper or larger than any parameter, as an anchor in itself makes it."""
    if sum(1 for _ in islice(_nodes(value, DEEPEST), MOST)) == MOST:
        raise RecursionError
    return value


def _nodes(value: Any, allowed: int) -> Iterator[Any]:
    if isinstance(value, dict | list | tuple | set):
        if not allowed:
            raise RecursionError
        for item in value.values() if isinstance(value, dict) else value:
            yield from _nodes(item, allowed - 1)
    yield value


def read_params(path: Path) -> dict[str, Any]:
    """What a parameter file gives: values by name, as `--set` takes them, groups of parameters included.

    Raises:
        BadRequest: for a file that cannot be read, is no mapping of names, or whose anchors lead into themselves.
    """
    given = plain_yaml.load(path)
    if not isinstance(given, dict) or not all(isinstance(name, str) for name in given):
        raise BadRequest(f"{path} is not a mapping from names of parameters to values, such as `seeds: [0, 1]`")
    try:
        return _shallow(given)
    except RecursionError:
        raise BadRequest(f"{path} is nested too deeply for parameters: does an anchor repeat itself?") from None


def from_text(value: Any) -> Any:
    """A notebook's value, where papermill was given JSON for it (`papermill -p seeds '[0]'`); other texts stay."""
    parsed = parse_value(value) if isinstance(value, str) else value
    return parsed if isinstance(parsed, list | dict | tuple) or parsed is None else value


def parse_settings(settings: Sequence[str], what: str = "--set") -> dict[str, str]:
    """`["name=value", ...]` as a dict of texts.

    Raises:
        BadRequest: for a text without `=`, or a name given twice.
    """
    given: dict[str, str] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not (equals and name and value):
            raise BadRequest(f"{what} {setting!r} is not of the form name=value")
        if name in given:
            raise BadRequest(f"{what} gives '{name}' twice")
        given[name] = value
    return given


def whole_paths(entries: Any) -> Any:
    """An entry, or several, with the whole paths of files: a notebook runs in another folder than who names them."""
    if not isinstance(entries, str):
        return entries and type(entries)(map(whole_paths, entries))
    corpus, equals, named = entries.rpartition("=")
    path = named if Path(named).exists() else named.partition("@")[0]  # before the number of examples shown
    return f"{corpus}{equals}{Path(path).resolve()}{named[len(path) :]}" if path and Path(path).exists() else entries
