"""The named mixes of "ability growth" (arXiv 2310.19651): how many examples of which ability, from which source.

Guaranteed: a budget is spent to the example, no ability gives more than there is, and what cannot be met is refused.
Where equal parts of what is left do not fit into what an ability has, it gives all and the others fill in.
"""

from collections.abc import Mapping

from labkit.errors import BadRequest, unknown

Sources = Mapping[str, Mapping[str, int]]  # {ability: {source: examples}}

# The paper's early saturated abilities and the examples that it leaves them, of 10,000 in all.
SMALL = {"ethics": 64, "role_play": 64, "creative_writing": 1000}
AT = 10_000


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
