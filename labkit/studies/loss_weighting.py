"""Loss weighting: what the loss is a mean over, and which abilities gain by it.

A batch's loss is a mean over its learned tokens (the habit of most trainers) or over its examples' own means
(`learn.train.weights`). With the first, an ability has weight in proportion to the length of its answers; with the
second, all examples weigh the same. People who train ask which to take (huggingface/transformers#34510,
CarperAI/trlx#452); one trainer's author found that long answers get worse with the second (imoneoi/openchat#182).

Both models of a seed learn the same examples of all abilities, in the same batches, for equally many optimiser steps,
from the same base, and sit one exam; they are compared in pairs, ability by ability, and for the halves of the
abilities with the shorter and with the longer answers.
"""

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from labkit import learn
from labkit.lab import Record, Row
from labkit.studies import abilities, scores
from labkit.studies.params import about
from labkit.studies.scores import MACRO, Paired
from labkit.studies.study import Results, Study
from labkit.studies.views import Records, View, signed

if TYPE_CHECKING:
    import pandas as pd

SHORTER, LONGER = "shorter answers", "longer answers"  # halves of the abilities


class Params(abilities.AbilityParams):
    """What a person may set; see `catalogue.yaml` for the values each scale gives."""

    groups: ClassVar = abilities.AbilityParams.groups | {
        "base": ("base_steps", "base_batch", "base_tokens", "base_answered", "base_gate"),
    }
    loss: learn.Loss = Field(description="the loss that the others are compared with: token or example")
    volume: int = Field(ge=1, le=10**7, description="examples of each ability")


class Cell(abilities.TogetherCell):
    """One model: everything its result depends on. `arm` is its loss."""

    study: Literal["loss_weighting"] = "loss_weighting"
    version: Literal[1] = 1

    def measured(self, record: Record) -> Row:
        """As any model of abilities, with the mean length of each ability's answers in word pieces, end included."""
        layout, lengths = self.spec.layout(), dict[str, float]()
        for name, sources in self.counts.items():
            (source, n) = next(iter(sources.items()))
            drawn = self.task.examples(self.spec, self.seed, name, source, n, record)
            lengths[name] = round(float(np.mean([len(layout.split(one.output)) + 1 for one in drawn])), 2)
        return super().measured(record) | {"answer_pieces": lengths}


def points(params: Params) -> list[Cell]:
    """A model per loss and seed.

    Raises:
        BadRequest: for more examples than an ability has, or more questions.
    """
    abilities.enough(params, params.volume)
    shared = abilities.shared(params, params.abilities)
    return [
        Cell(seed=seed, spec=abilities.spec(params.model_copy(update={"loss": loss}), 0), arm=loss, **shared)
        for loss in learn.LOSSES
        for seed in params.seeds
    ]


def columns(rows: "pd.DataFrame") -> "pd.DataFrame":
    """The rows with their scores (`scores.scored`), and those of the halves; `against` is empty for the baseline."""
    import pandas as pd

    known = scores.scored(rows)
    mean = pieces(known)
    order = sorted(mean, key=lambda name: mean[name])
    own: Any = known[known["key"] == "score"]
    parts = [known]
    for half, names in ((SHORTER, order[: len(order) // 2]), (LONGER, order[len(order) // 2 :])):
        for _, group in own[own["ability"].isin(names)].groupby("address", sort=False):
            parts.append(scores.together(group, half))
    joined = pd.concat(parts, ignore_index=True)
    return joined.assign(against=joined["arm"].where(joined["arm"] != joined["baseline"], ""))


def pieces(rows: "pd.DataFrame") -> dict[str, float]:
    """Mean length of an ability's answers in word pieces, over the models' training sets."""
    each = rows.drop_duplicates("address")["answer_pieces"].apply(dict).tolist()
    return {name: float(np.mean([one[name] for one in each])) for name in each[0]}


VIEWS: dict[str, View] = {
    "gains": Paired(
        title="What each ability scores above the baseline's loss, in pairs", arm="against", by_volume=False,
        arm_label=lambda loss: f"mean over {loss}s", where=lambda rows: rows["ability"] != scores.OUTSIDE,
    ),
}  # fmt: skip


def finding(found: Results) -> str:
    """What the other loss does to abilities with shorter and with longer answers."""
    baseline = found.rows["baseline"].iloc[0]
    if "gains" not in found.views():
        return "Models of both losses are needed for a comparison"
    told = []
    for name in (SHORTER, LONGER, MACRO):
        for line in found["gains"].lines("score", ability=name):
            words = "all abilities" if name == MACRO else f"abilities with {name}"
            told.append(f"{words} {signed(line['mean'], line['lo'], line['hi'])}")
    seeds = found["gains"].estimates["seeds"].max()
    told += ["one seed decides nothing"] * bool(seeds == 1)
    other = "example" if baseline == "token" else "token"
    return f"A mean over {other}s, less a mean over {baseline}s, at equal steps: {'; '.join(told)}"


def weights(found: Results) -> Records:
    """What weight each ability has in the loss, by what the loss is a mean over, in equal numbers of examples."""
    mean = pieces(found.rows)
    return [
        {"ability": name, "word pieces per answer": round(length, 1), "weight, mean over tokens": round(share, 3),
         "weight, mean over examples": round(1 / len(mean), 3)}
        for name, length in sorted(mean.items(), key=lambda one: one[1]) for share in [length / sum(mean.values())]
    ]  # fmt: skip


STUDY = Study(
    **about("loss_weighting"), Params=Params, points=points, views=VIEWS, finding=finding, columns=columns,
    dials={"arm": "mean over"}, tables={"The weight of each ability in the loss": weights},
    marks=lambda params: {"scored_by": params.grading, "baseline": params.loss}, measure_many=None,
)  # fmt: skip
