"""Selection: which records of a pool that is larger than the budget are trained on.

Data functions: scores and vectors in, places of the pool out, in the order in which they were chosen. What a learner
says of records (losses, gradients, hidden states) is `learn.appraisal`; here nothing knows of models.

Guaranteed: as many different places as were asked for; equal arguments give equal places; of equal scores the earlier
record comes first. Left open: equal records are as good as each other to every method but those that look for
diversity; a quality score is worth what its source is worth.
"""

from collections.abc import Sequence
from heapq import heapify, heappop, heappush
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from labkit.design.diversity import Floats
from labkit.errors import BadRequest, unknown

Indices = NDArray[np.int64]

TRAINED = 3  # what a forward and a backward pass cost, in forward passes
MISLED = 1.0  # IFD above which an instruction does not help its answer: such records are misaligned (Cherry LLM)
ALIKE = 0.9  # cosine from which a record adds nothing to one that was chosen (DEITA's threshold)
FEWEST = 20  # records of a pool below which nothing is selected


class Method(NamedTuple):
    """One way to select.

    Attributes:
        words: For people.
        source: Where it was published.
        needs: What it looks at beside the records: a model, an embedder's vectors, or nothing.
        target: Whether it wants records of what the selection is for.
        passes: Forward passes of a model per record of the pool (and of the target): what selecting costs. Writing an
            answer counts as one.
        fitted: How many models it wants that have learned a little of the pool first, where none is given.
    """

    words: str
    source: str
    needs: Literal["", "model", "embedder"] = ""
    target: bool = False
    passes: int = 0
    fitted: int = 0


METHODS: dict[str, Method] = {
    "random": Method("drawn at random", "none"),
    "longest": Method("the longest answers", "Zhao et al. 2024, arXiv 2402.04833"),
    "loss": Method("the highest loss", "none", "model", passes=1, fitted=2),
    "ifd": Method("instruction-following difficulty", "Li et al. 2024, arXiv 2308.12032", "model", passes=2, fitted=2),
    "mfd": Method("what the model's own answer lacks", "Yue et al. 2024, arXiv 2405.13448", "model", passes=1,
                  fitted=2),
    "gradient": Method("gradients like the target's", "Xia et al. 2024, arXiv 2402.04333", "model", True, TRAINED, 1),
    "representation": Method("hidden states like the target's", "Ivison et al. 2025, arXiv 2503.01807", "model", True,
                             1, 1),
    "facility": Method("facility location: near to all others", "Lin and Bilmes 2011", "embedder"),
    "quality": Method("quality, near duplicates left out", "Liu et al. 2024, arXiv 2312.15685", "embedder"),
}  # fmt: skip


def check(method: str, n: int, pool: int, target: int | None) -> Method:
    """The method of a name, where it can choose `n` of a pool; `target`: how many records there are, None for none.

    Raises:
        BadRequest: for an unknown method, too few records, a budget below 1 or not below the pool, or no target.
    """
    if method not in METHODS:
        raise unknown("method of selection", method, METHODS)
    if pool < FEWEST:
        raise BadRequest(f"a pool of {pool} records is too small to select from: {FEWEST} are needed")
    if not 1 <= n < pool:
        raise BadRequest(f"a budget of {n} of {pool} records: use 1 to {pool - 1}")
    if METHODS[method].target and not target:
        raise BadRequest(f"the method '{method}' needs a target with at least one instruction")
    return METHODS[method]


def cost(method: str, pool: int, target: int, fitting: int = 0) -> int:
    """What selecting costs, in forward passes of one example; `fitting` is the price of one fitted model."""
    one = METHODS[method]
    return one.passes * (pool + target * one.target) + one.fitted * fitting


def highest(scores: Sequence[float] | Floats, n: int) -> Indices:
    """The `n` places of the highest scores."""
    return np.argsort(-np.asarray(scores, float), kind="stable")[:n]


def helped(ifd: Floats, n: int) -> Indices:
    """The `n` highest IFD among those whose instruction helps (at most 1); where these are fewer, the lowest others.

    As the public code of Cherry LLM, which leaves out what is above 1; filling up is ours, so that budgets are met.
    """
    return highest(np.where(ifd <= MISLED, ifd, -ifd), n)


def in_turn(likeness: Floats, n: int) -> Indices:
    """Each record of a target in turn names its next nearest, until `n` different ones are named (RDS+'s round robin).

    Args:
        likeness: Of each record of the target with each of the pool, [m, N].
    """
    ranked = np.argsort(-likeness, axis=1, kind="stable")
    return np.array(list(dict.fromkeys(ranked.T.ravel().tolist()))[:n], np.int64)


def by_model(method: str, found: Floats, n: int) -> Indices:
    """The `n` places by what a model says: scores [N], or of RDS+ likenesses [m, N] (`learn.appraisal`)."""
    chosen = {"ifd": helped, "representation": in_turn}.get(method, highest)
    return chosen(found, n)


def facility_location(vectors: Floats, n: int) -> Indices:
    """The `n` records that stand for all: greedy for F(S) = sum over i of max over j in S of max(0, cos(i, j)).

    Lazy (Minoux 1978): a gain never grows, so that one is computed anew only where it was the highest. Cosines are
    never all held at once.

    Args:
        vectors: Of length 1, [N, d].
    """
    blocks = range(0, len(vectors), 512)
    gains = [np.maximum(vectors @ vectors[at : at + 512].T, 0).sum(axis=0) for at in blocks]
    heap = [(-float(gain), place) for place, gain in enumerate(np.concatenate(gains))]
    heapify(heap)
    chosen, best = list[int](), np.zeros(len(vectors), vectors.dtype)
    while len(chosen) < n:
        _, place = heappop(heap)
        near = np.maximum(vectors @ vectors[place], best)
        gain = float((near - best).sum())
        if heap and (-gain, place) > heap[0]:
            heappush(heap, (-gain, place))
        else:
            chosen.append(place)
            best = near
    return np.array(chosen, np.int64)


def good_and_new(quality: Sequence[float] | Floats, vectors: Floats, n: int, alike: float = ALIKE) -> Indices:
    """The best first, passing over what is `alike` to one that was chosen (DEITA); where too few are left, these, too.

    Args:
        quality: Of each record, the higher the better, [N].
        vectors: Of length 1, [N, d].
    """
    kept, passed = list[int](), list[int]()
    held = np.empty((n, vectors.shape[1]), vectors.dtype)
    for place in highest(quality, len(vectors)).tolist():
        if len(kept) == n:
            break
        if kept and float((held[: len(kept)] @ vectors[place]).max()) >= alike:
            passed.append(place)
        else:
            held[len(kept)] = vectors[place]
            kept.append(place)
    return np.array([*kept, *passed][:n], np.int64)
