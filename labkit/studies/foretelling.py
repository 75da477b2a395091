"""What a learned scorer (`labkit.design.scorer`) gets from rounds of fixed mixes, and how well it foretells them."""

from typing import TYPE_CHECKING

import numpy as np

from labkit.design import scorer
from labkit.studies.correlated import correlations
from labkit.studies.study import Results
from labkit.studies.views import Records, signed

if TYPE_CHECKING:
    import pandas as pd

UNIFORM, ALWAYS = "uniform", "always:"  # the arms that are fixed mixes: equal parts, and half of all for one task
Weights = tuple[tuple[float, ...], ...]  # of a scorer, one for each task
DRAWS = 500


def fixed_rounds(rows: "pd.DataFrame") -> dict[int, list[list[scorer.Rounds]]]:
    """The rounds of the fixed mixes: by seed, of each run, of each task."""
    found: dict[int, list[list[scorer.Rounds]]] = {}
    fixed = rows[rows["arm"].eq(UNIFORM) | rows["arm"].str.startswith(ALWAYS)]
    for run in fixed.drop_duplicates("address").to_dict("records"):
        names, losses = run["abilities"], np.array(run["losses"], float).T
        each = (1.0 if run["arm"] == UNIFORM else 0.5) / len(names)
        shares = [each + 0.5 * (run["arm"] == ALWAYS + name) for name in names]
        found.setdefault(int(run["seed"]), []).append(
            [scorer.Rounds.of(own, [share] * (len(own) - 1)) for own, share in zip(losses, shares, strict=True)]
        )
    return found


def scorers(rounds: dict[int, list[list[scorer.Rounds]]]) -> dict[int, Weights]:
    """By seed the weights for each task, from the other tasks at the other seeds (of one seed: at this one)."""
    weights = dict[int, Weights]()
    for seed, own in rounds.items():
        runs = [run for other, group in rounds.items() if other != seed for run in group] or own
        tasks = range(len(own[0]))
        weights[seed] = tuple(scorer.fit([run[at] for run in runs for at in tasks if at != task]) for task in tasks)
    return weights


def foretold(results: Results) -> Records:
    """How well the scorer ranks the falls of a task's loss in rounds of the fixed mixes that it was not fitted on.

    Intervals resample runs, with all their rounds.
    """
    rounds, lines = fixed_rounds(results.rows), Records()
    weights = scorers(rounds)
    for task, name in enumerate(results.rows["abilities"].iloc[0]):
        runs = [(run[task], weights[seed][task]) for seed, group in rounds.items() for run in group]
        told, falls, losses = (
            np.array([pick(*pair) for pair in runs]).ravel()
            for pick in (
                lambda one, own: scorer.foretold(own, one),
                lambda one, _: one.falls,
                lambda one, _: one.shown[:, 1],
            )
        )
        places = np.arange(len(falls)).reshape(len(runs), -1)
        drawn = np.random.default_rng(0).integers(len(runs), size=(DRAWS, len(runs)))
        draws = places[np.vstack([np.arange(len(runs)), drawn])].reshape(
            DRAWS + 1, -1
        )  # the first: the runs themselves
        own, plain = (correlations(values, falls, draws) for values in (told, losses))
        ends = {"Spearman [95 %]": own, "less that of the loss alone [95 %]": own - plain}
        lines.append({"task": name, "runs": len(runs)} | {
            words: signed(draw[0], *np.quantile(draw[1:], [0.025, 0.975])) for words, draw in ends.items()
        })  # fmt: skip
    return lines
