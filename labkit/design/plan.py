"""Which examples of which ability: a budget shared out by growth curves, and the paper's own named designs.

An ability's growth curve says what score it reaches from so many examples of its own. `allocate` spends a budget where
the next example is predicted to buy the most; `baseline`, `reconstruct`, `maximum` and `mix_n` are the designs of
"ability growth" (arXiv 2310.19651), and `spec` writes any of them as the mapping that `labkit mix` composes.

Guaranteed:
- *Exact.* A plan spends the budget to the example, gives every ability its `least` and none more than there is.
- *Best for these curves, but for one rise.* On the upper concave hull of the mean predicted curves greedy marginal
  gains are optimal (Fox 1966): a sudden ability gets its whole rise or none of it. Only the last rise bought can be cut
  short by the budget's end; the plan then takes the better of that and of leaving it out.
- *Written down beforehand.* A plan carries what it predicts, with intervals: for itself, for equal parts, and for their
  difference; and names the abilities it takes further than any volume tried.
Assumed: an ability's score depends on its own examples alone (see grade.transference for how far that is from true),
the abilities' curves are known independently of one another, and their scores weigh alike in the mean. The intervals
are those of the curves, for the mean over new seeds: one training run scatters more widely. Left open: curves fitted to
one size of model or one source of data say nothing of another.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labkit.errors import BadRequest, unknown

Floats = NDArray[np.float64]
Sources = Mapping[str, Mapping[str, int]]  # {ability: {source: examples}}

# The paper's early saturated abilities and the examples that it leaves them, of 10,000 in all.
SMALL = {"ethics": 64, "role_play": 64, "creative_writing": 1000}
AT = 10_000
KNOTS = 256  # volumes at which an ability's mean curve is known, denser where it is small; straight in between


class Range(NamedTuple):
    """A number with its two-sided 95 % interval; an end is None where the data leave it open."""

    value: float | None
    lo: float | None
    hi: float | None

    def as_dict(self) -> dict[str, Any]:
        """For a result file: `{"value", "ci95": [lo, hi]}`."""
        return {"value": self.value, "ci95": [self.lo, self.hi]}


class Curves(NamedTuple):
    """A sample of growth curves, each array [draws]: what is known of one ability's growth, and how well.

    Of the chance-corrected score as a function of the volume V, the examples of the ability trained on, a curve is

        saturating  plateau max(0, 1 - (V / pace)^-steepness / 2)      a power law that has nothing left to learn
        sudden      plateau / (1 + (V / pace)^-steepness)              a logistic in log V

    so that `pace` is the volume at which half the plateau is reached, and without examples the score is 0: chance.
    """

    plateau: Floats
    pace: Floats
    steepness: Floats
    sudden: NDArray[np.bool_]

    def at(self, volumes: ArrayLike) -> Floats:
        """The scores at `volumes` [k], of every curve: [draws, k]."""
        with np.errstate(divide="ignore", over="ignore"):
            left = (np.asarray(volumes, float) / self.pace[:, None]) ** -self.steepness[:, None]
        shape = np.where(self.sudden[:, None], 1 / (1 + left), np.maximum(0, 1 - left / 2))
        return np.asarray(self.plateau[:, None] * shape, np.float64)

    def as_dict(self) -> dict[str, list[float] | list[bool]]:
        """For a result file, to four digits; `Curves.of` reads it back."""
        numbers: dict[str, list[float] | list[bool]] = {
            name: [float(f"{x:.4g}") for x in getattr(self, name)] for name in self._fields[:3]
        }
        return numbers | {"sudden": [bool(x) for x in self.sudden]}

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "Curves":
        """The curves of a result file, or of numbers: one curve each."""
        plateau, pace, steepness = (np.atleast_1d(np.asarray(record[name], float)) for name in cls._fields[:3])
        return cls(plateau, pace, steepness, np.atleast_1d(np.asarray(record["sudden"], bool)))

    def first(self, draws: int) -> "Curves":
        """The first `draws` curves of the sample."""
        return Curves(self.plateau[:draws], self.pace[:draws], self.steepness[:draws], self.sudden[:draws])


@dataclass(frozen=True)
class Growth:
    """What a plan needs to know of one ability.

    Attributes:
        curves: Its growth, as grade.growth fits it.
        tried: The largest volume that the curves were fitted to: beyond it they extrapolate.
        responds: False where training was seen to make no difference; it then gets the least.
    """

    curves: Curves
    tried: int
    responds: bool = True


class Prediction(NamedTuple):
    """Chance-corrected scores expected of a mix, by ability and on average over abilities (`macro`)."""

    abilities: dict[str, Range]
    macro: Range

    def as_dict(self) -> dict[str, Any]:
        ranges = {ability: known.as_dict() for ability, known in self.abilities.items()}
        return {"macro": self.macro.as_dict(), "abilities": ranges}


@dataclass(frozen=True)
class Plan:
    """How many examples each ability gets, and what is expected of that.

    Attributes:
        counts: Examples of each ability; they sum to the budget.
        planned: Scores predicted for them.
        against: The counts compared with: equal parts, unless others were given.
        compared: Scores predicted for those.
        difference: `planned` less `compared`, curve by curve.
        extrapolated: Abilities given more than the largest volume that their curve was fitted to.
    """

    counts: dict[str, int]
    planned: Prediction
    against: dict[str, int]
    compared: Prediction
    difference: Prediction
    extrapolated: list[str]

    def as_dict(self) -> dict[str, Any]:
        """The plan for a result file."""
        parts = ("planned", "compared", "difference")
        return asdict(self) | {part: getattr(self, part).as_dict() for part in parts}


def allocate(fits: Mapping[str, Growth], budget: int, *, available: Mapping[str, int], least: int = 1,
             against: Mapping[str, int] | None = None) -> Plan:  # fmt: skip
    """The allocation of `budget` examples with the highest mean predicted score.

    Args:
        fits: What is known of each ability's growth.
        budget: Examples in all.
        available: Examples there are of each ability.
        least: What every ability gets, where that many exist; one that does not respond gets no more, unless all others
            have run out.
        against: Counts to compare with; without them equal parts (an ability with less gives all it has).

    Raises:
        BadRequest: for an ability not among the fits, a budget too small for `least` of each or larger than what is
            available.
    """
    names = list(fits)
    for given in (available, against or {}):
        if odd := [name for name in given if name not in fits]:
            raise unknown("ability", odd[0], names)
    if missing := [name for name in names if name not in available]:
        raise BadRequest(f"how many examples there are of '{missing[0]}' is not said")
    floor = {name: min(least, available[name]) for name in names}
    _within(budget, sum(available[name] for name in names))
    if budget < sum(floor.values()):
        raise BadRequest(f"a budget of {budget} is too small: {least} for each of {len(names)} abilities need "
                         f"{sum(floor.values())}")  # fmt: skip
    moved = {name: growth.curves for name, growth in fits.items() if growth.responds}
    segments = {name: _segments(curves, floor[name], available[name]) for name, curves in moved.items()}
    counts, cut = _greedy(floor, budget, segments)
    if cut:
        name, place = cut
        others, _ = _greedy(floor, budget, segments | {name: segments[name][:place]})
        if sum(others.values()) == budget:
            counts = max(counts, others, key=lambda mix: sum(scores.mean() for scores in _scores(fits, mix).values()))
    if left := budget - sum(counts.values()):
        room = {name: available[name] - counts[name] for name in names if not fits[name].responds}
        for name, more in _evenly(left, room).items():
            counts[name] += more
    equal = dict(against) if against else _evenly(budget, {name: available[name] for name in names})
    if short := [name for name in names if name not in equal]:
        raise BadRequest(f"the counts to compare with leave out '{short[0]}'")
    planned, compared = (_scores(fits, given) for given in (counts, equal))
    difference = {name: planned[name] - compared[name] for name in names}
    beyond = [name for name in names if counts[name] > fits[name].tried]
    return Plan(counts, _prediction(planned), equal, _prediction(compared), _prediction(difference), beyond)


def predict(fits: Mapping[str, Growth], counts: Mapping[str, int]) -> Prediction:
    """What is expected of a mix of `counts` examples of each ability, as `allocate` predicts it.

    Raises:
        BadRequest: for an ability not among the fits.
    """
    if odd := [name for name in counts if name not in fits]:
        raise unknown("ability", odd[0], fits)
    return _prediction(_scores(fits, counts))


def baseline(available: Sources, budget: int = AT, *, source: str = "curated") -> dict[str, dict[str, int]]:
    """Equal parts of the budget; when it does not divide, the first abilities get one example more.

    Raises:
        BadRequest: where an ability has less than its part.
    """
    have = _have(available, source)
    part, rest = divmod(budget, len(have))
    counts = {name: part + (place < rest) for place, name in enumerate(have)}
    for name, count in counts.items():
        if count > have[name]:
            raise BadRequest(f"'{name}' has {have[name]} examples from '{source}', not the {count} that equal parts "
                             "need")  # fmt: skip
    return {name: {source: count} for name, count in counts.items()}


def reconstruct(available: Sources, budget: int = AT, *, small: Mapping[str, int] = SMALL, at: int = AT,
                source: str = "curated") -> dict[str, dict[str, int]]:  # fmt: skip
    """The early saturated abilities get small counts, the others what is left, evenly.

    `small` says how many of `at` examples; for another budget they keep their share of it. An ability with less than
    its even part gives all it has and the others fill in, as the paper's own data do: of its biology all 1,041, and
    about 1,305 of the other six.

    Raises:
        BadRequest: for an ability of `small` that there is not, and where there is less than the design needs.
    """
    have = _have(available, source)
    fixed = _fixed(have, {name: max(1, round(count * budget / at)) for name, count in small.items()}, source)
    rest = {name: count for name, count in have.items() if name not in fixed}
    if budget <= sum(fixed.values()):
        raise BadRequest(f"a budget of {budget} is too small: the small counts alone are {sum(fixed.values())}")
    _within(budget, sum(fixed.values()) + sum(rest.values()))
    counts = fixed | _evenly(budget - sum(fixed.values()), rest)
    return {name: {source: counts[name]} for name in have}


def maximum(
    available: Sources, *, small: Mapping[str, int] = SMALL, source: str = "curated"
) -> dict[str, dict[str, int]]:
    """The small counts of the early saturated abilities, and all there is of the others.

    Raises:
        BadRequest: for an ability of `small` that there is not, or of which there is less.
    """
    have = _have(available, source)
    counts = have | _fixed(have, small, source)
    return {name: {source: count} for name, count in counts.items()}


def mix_n(available: Sources, n: int, *, small: Mapping[str, int] = SMALL, source: str = "curated",
          synthetic: str = "synthetic") -> dict[str, dict[str, int]]:  # fmt: skip
    """`maximum`, and `n` synthetic examples on top, the same number of each ability.

    The paper draws its synthetic examples from one pool without abilities; balanced, the two sources can be compared.
    An ability with less than its even part gives all it has and the others fill in.

    Raises:
        BadRequest: as `maximum`, and where there are fewer than `n` synthetic examples.
    """
    counts = maximum(available, small=small, source=source)
    if n:
        have = _have(available, synthetic)
        _within(n, sum(have.values()), f" from '{synthetic}'")
        for name, more in _evenly(n, have).items():
            counts[name] |= {synthetic: more}
    return counts


def _greedy(
    floor: Mapping[str, int], budget: int, segments: Mapping[str, list[tuple[float, int]]]
) -> tuple[dict[str, int], tuple[str, int] | None]:
    """Counts bought on top of `floor`, steepest segment first; and which ability's which segment was cut short."""
    counts, left = dict(floor), budget - sum(floor.values())
    queue = [(gain, name, place, n) for name, parts in segments.items() for place, (gain, n) in enumerate(parts)]
    for _, name, place, n in sorted(queue, key=lambda part: -part[0]):  # stable: each ability's in their own order
        counts[name] += min(n, left)
        if n > left:
            return counts, (name, place) if left else None
        left -= n
    return counts, None


def _segments(curves: Curves, least: int, available: int) -> list[tuple[float, int]]:
    """Gain an example and number of examples, along the upper concave hull of the mean curve: gains never rise."""
    if available <= least:
        return []
    knots = np.unique(np.round(np.geomspace(max(1, least), available, KNOTS)).astype(np.int64))
    volumes = np.union1d([least], knots)
    scores = curves.at(volumes).mean(axis=0)
    hull: list[int] = []
    for place in range(len(volumes)):
        while len(hull) > 1 and (scores[hull[-1]] - scores[hull[-2]]) * (volumes[place] - volumes[hull[-2]]) <= (
            scores[place] - scores[hull[-2]]
        ) * (volumes[hull[-1]] - volumes[hull[-2]]):
            hull.pop()
        hull.append(place)
    lengths = np.diff(volumes[hull])
    return [(float(gain), int(n)) for gain, n in zip(np.diff(scores[hull]) / lengths, lengths, strict=True)]


def _scores(fits: Mapping[str, Growth], counts: Mapping[str, int]) -> dict[str, Floats]:
    """Predicted scores of each ability, [draws]; as many draws as the ability with the fewest has."""
    draws = min(len(growth.curves.pace) for growth in fits.values())
    return {name: fits[name].curves.at([count])[:draws, 0] for name, count in counts.items()}


def _prediction(scores: Mapping[str, Floats]) -> Prediction:
    def known(values: Floats) -> Range:
        lo, hi = np.quantile(values, [0.025, 0.975])
        return Range(float(values.mean()), float(lo), float(hi))

    mean = np.mean(list(scores.values()), 0)
    return Prediction({name: known(values) for name, values in scores.items()}, known(mean))


def _evenly(budget: int, have: Mapping[str, int]) -> dict[str, int]:
    """Equal parts of what fits into `have`; one with less gives all, and the first of the others the remainder."""
    counts: dict[str, int] = {}
    order = sorted(have, key=lambda name: have[name])  # stable
    left = budget
    for place, name in enumerate(order):
        part = left // (len(order) - place)
        if have[name] > part:
            full = [name for name in have if name not in counts]
            rest = left - part * len(full)
            return counts | {name: part + (place < rest) for place, name in enumerate(full)}
        counts[name] = have[name]
        left -= have[name]
    return counts


def _have(available: Sources, source: str) -> dict[str, int]:
    if not available:
        raise BadRequest("a design needs at least one ability")
    for name, sources in available.items():
        if source not in sources:
            raise BadRequest(f"'{name}' has no examples from '{source}': it has {', '.join(sources) or 'none'}")
    return {name: sources[source] for name, sources in available.items()}


def _fixed(have: Mapping[str, int], small: Mapping[str, int], source: str) -> dict[str, int]:
    for name, count in small.items():
        if name not in have:
            raise unknown("ability", name, have)
        if count > have[name]:
            raise BadRequest(f"'{name}' has {have[name]} examples from '{source}', not {count}")
    return dict(small)


def _within(budget: int, there_are: int, of: str = "") -> None:
    if not 0 < budget <= there_are:
        raise BadRequest(f"a budget of {budget} examples{of} cannot be met: there are {there_are}")
