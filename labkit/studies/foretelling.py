"""What a learned scorer (`labkit.design.scorer`) gets from rounds of fixed mixes, and how well it foretells them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from labkit.design import scorer
from labkit.studies.correlated import correlations
from labkit.studies.study import Results
from labkit.studies.views import Records, signed

if TYPE_CHECKING:
    import pandas as pd

UNIFORM, ALWAYS = "uniform", "always:"  # the arms that are fixed mixes: equal parts, and half of all for one task


class Told(NamedTuple):
    """The rounds of a task in a run."""

    seed: int
    task: str
    rounds: scorer.Rounds


def fixed_rounds(rows: "pd.DataFrame") -> list[Told]:
    """The rounds of the fixed mixes, for each run and task."""
    fixed = rows[rows["arm"].eq(UNIFORM) | rows["arm"].str.startswith(ALWAYS)].drop_duplicates("address")
    found = list[Told]()
    for run in fixed.to_dict("records"):
        for name, losses in zip(run["abilities"], np.array(run["losses"], float).T, strict=True):
            share = (1 + (run["arm"] == UNIFORM)) / 2 / len(run["abilities"]) + 0.5 * (run["arm"] == ALWAYS + name)
            found.append(Told(run["seed"], name, scorer.Rounds.of(losses, [share] * (len(losses) - 1))))
    return found


def scorers(rounds: Sequence[Told]) -> dict[tuple[int, str], tuple[float, ...]]:
    """By seed and task the weights from the other tasks at the other seeds (where there is one seed: at this one)."""
    one = len({told.seed for told in rounds}) == 1
    kept = lambda seed, task: [told.rounds for told in rounds if told.task != task and (one or told.seed != seed)]  # noqa: E731
    keys = dict.fromkeys((told.seed, told.task) for told in rounds)
    return {key: scorer.fit(kept(*key)) for key in keys}


def foretold(results: Results) -> Records:
    """How well the scorer ranks the falls of a task's loss in rounds of the fixed mixes that it was not fitted on.

    Intervals resample runs, with all their rounds.
    """
    rounds, lines = fixed_rounds(results.rows), Records()
    weights = scorers(rounds)
    for name in results.rows["abilities"].iloc[0]:
        runs = [told for told in rounds if told.task == name]
        told = np.concatenate([scorer.foretold(weights[run.seed, name], run.rounds) for run in runs])
        falls = np.concatenate([run.rounds.falls for run in runs])
        losses = np.concatenate([run.rounds.shown[:, 1] for run in runs])
        places = np.arange(len(falls)).reshape(len(runs), -1)
        drawn = np.random.default_rng(0).integers(len(runs), size=(500, len(runs)))
        draws = places[np.vstack([np.arange(len(runs)), drawn])].reshape(501, -1)  # the first: the runs themselves
        own, plain = (correlations(values, falls, draws) for values in (told, losses))
        ends = {"Spearman [95 %]": own, "less that of the loss alone [95 %]": own - plain}
        told_of = {words: signed(draw[0], *np.quantile(draw[1:], [0.025, 0.975])) for words, draw in ends.items()}
        lines.append({"task": name, "runs": len(runs)} | told_of)
    return lines
