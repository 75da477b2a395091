"""A view of a transference matrix: what the data of each ability do for each ability (`grade.transference`).

Rows of key `score` or `nats` hold one number per instruction as right answers; `design` says whether a model was
trained without the ability `arm` (`without`), on it alone (`alone`), or on all (`together`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from labkit.errors import BadRequest
from labkit.grade import transference
from labkit.studies.views import Fit, Found, Matrix

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd


def effects(rows: "pd.DataFrame", design: str, key: str) -> transference.Transference:
    """What each ability's data add to all (`without`) or do alone (`alone`), over the seeds that have every run.

    Raises:
        BadRequest: where no such run was made, or by one seed only.
    """
    lines = rows[rows["key"] == key]
    apart = lines[lines["design"] == design]
    if apart.empty:
        raise BadRequest("no ability was left out or trained alone")
    whole = lines[(lines["design"] == "together") & (lines["width"] == apart["width"].iloc[0])]
    abilities = apart["arm"].unique().tolist()
    blocks = {arm: apart[apart["arm"] == arm] for arm in abilities}
    seeds = set.intersection(*(set(block["seed"]) for block in (whole, *blocks.values())))

    def scores(block: "pd.DataFrame") -> dict[str, list[Any]]:
        kept = block[block["seed"].isin(seeds)].sort_values("seed", kind="stable")
        return {name: [np.array(right) for right in kept[kept["ability"] == name]["right"]] for name in abilities}

    together, arms = scores(whole), {arm: scores(block) for arm, block in blocks.items()}
    if design == "alone":  # an untrained model guesses: its score is 0
        return transference.leave_one_in({name: [0 * s for s in own] for name, own in together.items()}, arms)
    others = {arm: {name: own for name, own in block.items() if name != arm} for arm, block in arms.items()}
    return transference.leave_one_out(together, others)


@dataclass(frozen=True, kw_only=True)
class Effects(Matrix):
    """The matrix, its discoveries framed. Where it was not measured there are no estimates, and the fit says why."""

    design: str
    key: str = "score"
    dials: Sequence[str] = ("source",)
    label: Callable[[Mapping[str, Any]], str] = str
    exams: Mapping[str, str] = field(default_factory=dict)
    rows_name: str = "data of"
    diverging: bool = True

    def measure(self, rows: "pd.DataFrame") -> Found:
        import pandas as pd

        try:
            known = effects(rows, self.design, self.key)
        except BadRequest as refusal:
            return Found(pd.DataFrame(), pd.DataFrame(), Fit(str(refusal), {}))
        lines = pd.DataFrame([cell._asdict() for cell in known.cells])
        lines = lines.assign(
            label=lines["source"], exam=lines["target"], mean=lines["effect"], framed=lines["discovered"]
        )
        lines = lines.assign(seeds=known.seeds, not_learned=0, over="seeds and questions, in pairs")
        models = rows[rows["design"] == self.design].drop(columns=["right", "asked"])
        volume = f"{models['volume'].iloc[0]:,.0f} examples of each"
        words = (
            f"{len(known.discovered)} of {len(lines)} effects are discoveries (framed), with {volume}; {known.outright}"
            f" intervals leave out 0, {known.expected_by_chance:.1f} would by chance"
        )
        return Found(lines, models, Fit(words, known.as_dict()))

    def chart(self, found: Found, published: Sequence[Mapping[str, Any]] = (), title: str = "") -> "alt.TopLevelMixin":
        return super().chart(found, published, f"{self.title}: {found.fit.sentence if found.fit else ''}")
