"""Which ability helps which: a transference matrix.

Two designs, both at one fixed volume of each ability that is trained on:
- *leave one out*: ability A after training on all abilities, less A after training on all but B. What is measured is
  what B still adds to everything else; the set without B is smaller by B's examples.
- *leave one in*: ability A after training on one ability more, less A without it. The base is either A alone (then
  `added[B]` is A + B, and B = A has no cell) or the untrained model (then `added[B]` is B alone, and the diagonal is
  what A's own data do). The two answer different questions: what B adds to A's data, and what it does instead of them.

An effect above 0 means that B's data help A. It is the mean difference, paired by seed, with a 95 % interval that is
the wider of two: the resampled one of `sweet_spot.paired_difference`, and mean +- t s.e. A handful of seeds makes the
former too narrow by far (three are all of one sign one time in four), so the variance between seeds is pooled over all
sources that act on one target, which assumes that they scatter alike, and t has seeds - 1 times that many degrees of
freedom, halved because the sources share the base's runs.

*Multiplicity.* Of 90 cells without any effect some four or five are outside 0 by chance: `expected_by_chance` says how
many, beside `outright`, how many are. `discovered` marks the cells that survive Benjamini & Hochberg (1995) at a false
discovery rate of 5 %: read those.

*The paper's words.* Its later version (arXiv 2310.19651v3, COLING 2025) explains how sensitive an ability is to scaling
by its Complexity and its Transference. Of that version only the summary could be read here, not the formulas; this
definition is therefore this lab's own, and may differ: *transference* received by A is its mean gain from the others'
data, measured before the growth that it is to explain. Complexity is not measured.
Left open: effects depend on the volume; sums of cells say nothing of training on three abilities together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from labkit.errors import BadRequest, unknown
from labkit.grade.intervals import Floats, Range, numbers
from labkit.grade.sweet_spot import paired_difference

Scores = Sequence[ArrayLike]  # of one trained recipe: for each seed, the score of each question
LEVEL = 0.95
RATE = 0.05  # of false discoveries


class Cell(NamedTuple):
    """What `source`'s data do for `target`: the effect with its interval, its p, and whether it is a discovery."""

    source: str
    target: str
    effect: float
    lo: float
    hi: float
    p: float
    discovered: bool = False


@dataclass(frozen=True)
class Transference:
    """A transference matrix.

    Attributes:
        design: `leave one out` or `leave one in`.
        abilities: The targets; the sources are among them.
        cells: One for each source and target measured.
        received: For each ability the mean effect of the other abilities' data: its transference.
        seeds: The fewest seeds behind a cell.
        outright: Cells with 0 outside their interval, and `expected_by_chance` how many without any effect would be.
    """

    design: str
    abilities: list[str]
    cells: list[Cell]
    received: dict[str, Range]
    seeds: int
    outright: int
    expected_by_chance: float

    @property
    def discovered(self) -> list[Cell]:
        return [cell for cell in self.cells if cell.discovered]

    def matrix(self) -> Floats:
        """Effects [source, target], in the order of `abilities`; NaN where there is no cell."""
        table = np.full((len(self.abilities),) * 2, np.nan)
        for cell in self.cells:
            table[self.abilities.index(cell.source), self.abilities.index(cell.target)] = cell.effect
        return table

    def as_dict(self) -> dict[str, Any]:
        """The matrix for a result file."""
        cells = [cell._asdict() for cell in self.cells]
        received = {ability: known.as_dict() for ability, known in self.received.items()}
        return vars(self) | {"cells": cells, "received": received, "discovered": len(self.discovered)}


def leave_one_out(together: Mapping[str, Scores], without: Mapping[str, Mapping[str, Scores]], *,
                  draws: int = 2000, seed: int = 0) -> Transference:  # fmt: skip
    """The matrix of what each ability's data add to all the others'.

    Args:
        together: For each ability its scores after training on all: for each seed one score per question, [P].
        without: The same after training on all but one ability, under that ability's name; a target that it leaves out
            has no cell.
        draws: Replicates of an interval; `seed` is theirs.

    Raises:
        BadRequest: for an ability that is not among those trained together, seeds or questions that do not pair up, or
            fewer than two seeds: how two trainings differ is then unknown.
    """
    return _transference("leave one out", together, without, draws, seed)


def leave_one_in(base: Mapping[str, Scores], added: Mapping[str, Mapping[str, Scores]], *,
                 draws: int = 2000, seed: int = 0) -> Transference:  # fmt: skip
    """The matrix of what one ability's data add to a base: each ability alone, or the untrained model.

    `base` holds each ability's scores without the addition, and `added[B]` with B's data; the rest is as in
    `leave_one_out`.
    """
    return _transference("leave one in", base, added, draws, seed)


def _transference(design: str, base: Mapping[str, Scores], arms: Mapping[str, Mapping[str, Scores]], draws: int,
                  seed: int) -> Transference:  # fmt: skip
    pairs: dict[str, dict[str, list[Floats]]] = {target: {} for target in base}
    for source, targets in arms.items():
        for name in (source, *targets):
            if name not in base:
                raise unknown("ability", name, base)
        for target, scores in targets.items():
            tables = _paired(base[target], scores, f"'{target}' with and without '{source}'")
            # with the source's data first, without them second
            pairs[target][source] = tables if design == "leave one in" else [table[::-1] for table in tables]
    cells, received = list[Cell](), dict[str, Range]()
    for target, sources in pairs.items():
        variances = [_gains(tables).var(ddof=1) for tables in sources.values()]
        freedom = max(1.0, sum(len(tables) - 1 for tables in sources.values()) / (2 if len(sources) > 1 else 1))
        for source, tables in sources.items():
            cells.append(Cell(source, target, *_known(tables, float(np.mean(variances)), freedom, draws, seed)))
        if others := [tables for source, tables in sources.items() if source != target]:
            means = [np.mean(of_seed, axis=0) for of_seed in zip(*others, strict=False)]  # of the seeds that all have
            effect, lo, hi, _ = _known(means, float(_gains(means).var(ddof=1)), len(means) - 1, draws, seed)
            received[target] = Range(effect, lo, hi)
    if not cells:
        raise BadRequest("a transference matrix needs at least one pair of abilities")
    discovered = stats.false_discovery_control([cell.p for cell in cells]) <= RATE
    cells = [cell._replace(discovered=bool(is_one)) for cell, is_one in zip(cells, discovered, strict=True)]
    fewest = min(len(tables) for sources in pairs.values() for tables in sources.values())
    outright = sum(cell.lo > 0 or cell.hi < 0 for cell in cells)
    return Transference(design, list(base), cells, received, fewest, outright, (1 - LEVEL) * len(cells))


def _paired(base: Scores, arm: Scores, what: str) -> list[Floats]:
    """Scores of one seed each, [2, P]: the arm above the base."""
    if len(base) != len(arm) or len(base) < 2:
        raise BadRequest(f"{what} needs the same seeds, two or more: there are {len(arm)} and {len(base)}")
    tables = []
    for pair in zip(arm, base, strict=True):
        rows = [numbers(row, f"scores of {what}") for row in pair]
        if rows[0].shape != rows[1].shape or rows[0].ndim != 1 or not rows[0].size:
            raise BadRequest(f"{what} needs one score for each question, the same questions in one seed")
        tables.append(np.stack(rows))
    return tables


def _gains(tables: Sequence[Floats]) -> Floats:
    """The mean difference of each seed."""
    return np.array([(table[0] - table[1]).mean() for table in tables])


def _known(tables: Sequence[Floats], variance: float, freedom: float, draws: int,
           seed: int) -> tuple[float, float, float, float]:  # fmt: skip
    """Effect, interval and p, from the variance between seeds; see the head of this module."""
    effect, lo, hi = paired_difference(tables, 0, 1, draws=draws, seed=seed)
    error = float(np.sqrt(variance / len(tables)))
    half = float(stats.t.ppf((1 + LEVEL) / 2, freedom)) * error
    p = 2 * float(stats.t.sf(abs(effect) / error, freedom)) if error else 1.0
    return effect, min(lo, effect - half), max(hi, effect + half), p
