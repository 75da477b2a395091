"""Ability transfer: which ability's data help which, and what a wider model gains.

The dynamics of instruction tuning (Song et al., COLING 2025, arXiv 2310.19651) explain how sensitive an ability is by
what it gains from the others' data; the matrix of who helps whom is what the paper's reviewers asked for. At one volume
of each ability a model is trained on all of them *together*, on all *without* one, and on one *alone*; and on all
together in other widths.

Every model takes the same number of optimiser steps from a base of its width, so a set without an ability spends the
steps of its examples on the others: an effect is what the ability's examples do in the place of more repetitions of the
rest. All models of a seed sit one exam and are compared in pairs.
"""

from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from labkit.errors import BadRequest
from labkit.grade.questions import GRADINGS
from labkit.studies import abilities, scores
from labkit.studies.params import about, check_heads
from labkit.studies.scores import MACRO, Paired
from labkit.studies.study import Results, Study
from labkit.studies.transfers import Effects
from labkit.studies.views import View, signed_gain

if TYPE_CHECKING:
    import pandas as pd


class Params(abilities.GatedParams):
    """What a person may set; see `catalogue.yaml` for the values each scale gives."""

    volume: int = Field(ge=1, le=10**7, description="examples of each ability")
    widths: list[Annotated[int, Field(ge=2, le=16384)]] = Field(description="widths in which all are taught together")

    @model_validator(mode="after")
    def _widths(self) -> "Params":
        if self.width not in self.widths:
            raise BadRequest(f"width = {self.width} is none of widths = {self.widths}")
        check_heads(self.heads, "width", self.widths)
        return self


class Cell(abilities.AbilityCell):
    """One model: everything its result depends on."""

    study: Literal["ability_transfer"] = "ability_transfer"
    version: Literal[1] = 1
    task: abilities.FamilyTask
    design: Literal["together", "without", "alone"]
    width: int


def points(params: Params) -> list[Cell]:
    """All abilities together in every width, and in the main one without each, and each alone.

    Raises:
        BadRequest: for more examples than an ability has, or more questions.
    """
    abilities.enough(params, params.volume)
    names, seeds, main = params.abilities, params.seeds, params.width
    dials: list[tuple[Any, str, int, list[str]]] = [("together", "all", width, names) for width in params.widths]
    dials += [("without", arm, main, [name for name in names if name != arm]) for arm in names]
    dials += [("alone", arm, main, [arm]) for arm in names]
    return [
        Cell(
            seed=seed, spec=abilities.spec(params, 0, width=width), design=design, arm=arm, width=width,
            **abilities.shared(params, taught),
        )
        for design, arm, width, taught in dials
        for seed in seeds
    ]  # fmt: skip


def columns(rows: "pd.DataFrame") -> "pd.DataFrame":
    """The rows with their scores (`scores.scored`), and lines of key `nats`: log-likelihood per token."""
    import pandas as pd

    known = scores.scored(rows)
    likely = known[(known["key"] == GRADINGS[0]) & (known["exam"] == "unseen")]
    pairs = zip(likely["nats"], likely["nats_tokens"], strict=True)
    right = [(-np.asarray(nats) / np.mean(tokens)).tolist() for nats, tokens in pairs]
    own: Any = {"right": right, "asked": [[1] * len(numbers) for numbers in right]}
    return pd.concat([known, likely.assign(key="nats", counted=False, **own)], ignore_index=True)


VIEWS: dict[str, View] = {
    "without": Effects(title="What the data of an ability add to the others' score", design="without"),
    "without, likelihood": Effects(
        title="What the data of an ability add to the likelihood of right answers, nats per token", design="without",
        key="nats",
    ),
    "alone": Effects(title="What the data of an ability do alone, against guessing", design="alone"),
    "size gains": Paired(
        title="What wider models score above the narrowest, in pairs", arm="width", by_volume=False,
        where=lambda rows: rows["design"] == "together", arm_label=lambda width: f"width {width}",
    ),
}  # fmt: skip


def finding(found: Results) -> str:
    """How many effects are discoveries, and what a wider model gains."""
    parts = [found.fit("without").sentence] if "without" in found.views() else ["Two seeds or more show an effect"]
    for line in found["size gains"].lines("score", ability=MACRO) if "size gains" in found.views() else []:
        parts.append(f"width {line['width']} scores above the narrowest: {signed_gain(line)} on average over abilities")
    return "; ".join(parts)


STUDY = Study(
    **about("ability_transfer"), Params=Params, points=points, views=VIEWS, finding=finding, columns=columns,
    dials={"design": "design", "arm": "arm", "width": "width"}, tables={"Each ability alone": scores.alone},
    marks=lambda params: {"scored_by": params.grading, "least_alone": params.gate}, measure_many=None,
)  # fmt: skip
