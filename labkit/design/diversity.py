"""How diverse a set of instructions is: measures from the literature, each a number that rises with diversity.

A set is its different instructions, how often each occurs, and a vector per instruction (`learn.embedders`). No measure
looks at answers. Which of them tell unseen accuracy is put on trial in the study `diversity_measures`; `RECOMMENDED`
holds what passed, the best first.

Guaranteed: equal sets give equal numbers; a measure that needs more instructions than there are gives None. What is
quadratic in the set is computed on `SAMPLED` instructions of it, the same ones in every call. Left open: numbers of
different embedders, and of sets of very different size, are on different scales.

Sources: Hill 1973 (numbers of order 0, 1, 2); Friedman and Dieng 2023, arXiv 2210.02410 (Vendi score); Wang et al.
2024, arXiv 2402.02318 (log determinant); Yang et al. 2025, arXiv 2502.17184 (NovelSum, here without a reference corpus:
densities are those within the set); Shaib et al. 2024, arXiv 2403.00553 (compression); Broder 1997 (MinHash).
"""

import zlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from labkit.design.long_tail import hill_number
from labkit.errors import BadRequest

Floats = NDArray[np.floating]
Ints = NDArray[np.int64]

SAMPLED = 1000  # instructions that quadratic measures look at
FEWEST = 20  # instructions below which nothing is said of distances
SHAKEN, PASSES = 1e-6, 100
CLUSTERS = 64
NEIGHBOURS = 10  # of which NovelSum takes the density
ALIKE = 0.7  # share of common character trigrams from which two instructions are near duplicates
_HASHES, _BAND = 64, 4  # of a MinHash: pairs 0.7 alike share one of 16 bands of 4 in 99 of 100 cases


class Sample(NamedTuple):
    """A set: its different instructions [n], their vectors of length 1 [n, d], and how often each occurs [n]."""

    texts: Sequence[str]
    vectors: Floats
    counts: Ints

    @property
    def shares(self) -> NDArray[np.float64]:
        return np.asarray(self.counts / self.counts.sum(), np.float64)


class Measure(NamedTuple):
    """One way to count diversity; `words` are for people, `least` the fewest different instructions that it needs."""

    words: str
    of: Callable[[Sample], float]
    least: int = 1


def sample(instructions: Sequence[str], vectors_of: Callable[[Sequence[str]], Floats]) -> Sample:
    """The set that a list of instructions is, repetitions included."""
    counts: dict[str, int] = {}
    for text in instructions:
        counts[text] = counts.get(text, 0) + 1
    texts = list(counts)
    return Sample(texts, vectors_of(texts), np.array(list(counts.values()), np.int64))


def measured(of: Sample, names: Sequence[str] = ()) -> dict[str, float | None]:
    """The measures (default: all) of a set, by name; None where it has too few instructions.

    Raises:
        BadRequest: for a set of none.
    """
    if not len(of.texts):
        raise BadRequest("a set without instructions has no diversity")
    chosen = {name: MEASURES[name] for name in names or MEASURES}
    return {name: m.of(of) if len(of.texts) >= m.least else None for name, m in chosen.items()}


def near_groups(texts: Sequence[str], alike: float = ALIKE) -> Ints:
    """The group of near duplicates that each text is in: [n], numbered from 0.

    Two texts are near duplicates when they share `alike` of their character trigrams (estimated by a MinHash of 64).
    Of the texts that agree in a band only neighbours in sorted order are compared, and groups are chained: both ends of
    one may share less.
    """
    from rensa import RMinHash
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    rows = np.argsort(np.array(texts, object), kind="stable")  # so that groups do not depend on the order of texts
    grams = [{text[i : i + 3] for i in range(max(1, len(text) - 2))} for text in (normal(texts[row]) for row in rows)]
    marks = np.array(RMinHash.digest_matrix_from_token_sets(grams, _HASHES, 0).to_rows(), np.uint32)
    pairs = []
    for start in range(0, _HASHES, _BAND):
        order = np.lexsort(marks[:, start : start + _BAND].T)
        same = (np.diff(marks[order, start : start + _BAND], axis=0) == 0).all(axis=1)
        pairs.append(np.column_stack([order[:-1][same], order[1:][same]]))
    close = np.unique(np.concatenate(pairs), axis=0)
    close = close[(marks[close[:, 0]] == marks[close[:, 1]]).mean(axis=1) >= alike]
    graph = coo_array((np.ones(len(close), np.int8), close.T), shape=(len(texts),) * 2)
    groups = np.empty(len(texts), np.int64)
    groups[rows] = connected_components(graph, directed=False)[1]
    return groups


def normal(text: str) -> str:
    """Lower case, single spaces: what counts as the same text."""
    return " ".join(text.lower().split())


def regions(vectors: Floats, k: int, seed: int = 0) -> tuple[Ints, Floats]:
    """k-means: the region of every vector [n], and the regions' centres [k, d].

    A vector just between two centres goes where noise of size `SHAKEN` sends it, and not where a processor's rounding
    does; whole passes to a fixed point forget the rounding of their steps, which small batches keep.
    """
    from sklearn.cluster import KMeans

    shaken = vectors + np.random.default_rng(seed).normal(0, SHAKEN, vectors.shape)  # in 64 bits
    found = KMeans(k, random_state=seed, n_init=3, max_iter=PASSES, tol=0).fit(shaken)
    return np.asarray(found.labels_, np.int64), found.cluster_centers_


def nearest(vectors: Floats, to: Floats) -> Floats:
    """The cosine of each vector [n] with the nearest of `to` [m], in bounded memory."""
    blocks = range(0, len(vectors), 1024)
    return np.concatenate([(vectors[at : at + 1024] @ to.T).max(axis=1) for at in blocks])


def _some(of: Sample) -> Floats:
    if len(of.texts) <= SAMPLED:
        return of.vectors
    return of.vectors[np.random.default_rng(0).choice(len(of.texts), SAMPLED, replace=False)]


def _distances(of: Sample) -> Floats:
    """Cosine distances of some instructions, those to themselves infinite."""
    some = _some(of)
    distances = 1 - some @ some.T
    np.fill_diagonal(distances, np.inf)
    return np.maximum(distances, 0)


def _spectrum(of: Sample) -> Floats:
    """Shares of the total variance about 0 by direction: the eigenvalues of the kernel of cosines, weighted by use."""
    values = np.linalg.eigvalsh((of.vectors * of.shares[:, None]).T.astype(np.float64) @ of.vectors)
    return np.asarray(np.maximum(values, 0), np.float64)


def _novel_sum(of: Sample) -> float:
    distances = _distances(of)
    near = np.sort(distances, axis=1)[:, :NEIGHBOURS]
    density = 1 / np.maximum(near.mean(axis=1), 1e-6) ** 0.5
    order = np.argsort(distances, axis=1)[:, :-1]  # the last is the instruction itself
    weights = 1 / np.arange(1, order.shape[1] + 1)
    novelty = (np.take_along_axis(distances, order, 1) * density[order]) @ weights / weights.sum()
    return float(novelty.mean() * len(of.texts))


def _effective_clusters(of: Sample) -> float:
    groups, _ = regions(of.vectors, min(CLUSTERS, len(of.texts) // 2))
    return hill_number(np.bincount(groups, of.counts), 1)


def _pairwise(of: Sample) -> float:
    n = len(of.texts)
    together = float((of.vectors.sum(axis=0, dtype=np.float64) ** 2).sum())
    return 1 - (together - n) / (n * (n - 1))


def _compressed(of: Sample) -> float:
    return float(len(zlib.compress("\n".join(of.texts).encode(), 9)))


MEASURES: dict[str, Measure] = {
    "distinct": Measure("different instructions (Hill number of order 0)", lambda of: float(len(of.texts))),
    "hill_1": Measure("Hill number of order 1, by use", lambda of: hill_number(of.counts, 1)),
    "hill_2": Measure("Hill number of order 2, by use", lambda of: hill_number(of.counts, 2)),
    "groups": Measure("instructions left without near duplicates", lambda of: float(near_groups(of.texts).max() + 1)),
    "vendi": Measure("Vendi score, by use", lambda of: hill_number(_spectrum(of), 1), FEWEST),
    "log_det": Measure("log determinant", lambda of: float(np.log1p(_spectrum(of) * len(of.texts)).sum()), FEWEST),
    "clusters": Measure(f"effective number of {CLUSTERS} clusters, by use", _effective_clusters, FEWEST),
    "pairwise": Measure("mean pairwise distance", _pairwise, FEWEST),
    "nearest": Measure("mean distance to the nearest", lambda of: float(_distances(of).min(axis=1).mean()), FEWEST),
    "novel_sum": Measure("NovelSum, without a reference", _novel_sum, FEWEST),
    "trigrams": Measure("different character trigrams", lambda of: float(len({
        text[i : i + 3] for text in of.texts for i in range(len(text) - 2)}))),
    "compressed": Measure("compressed size in bytes", _compressed),
}  # fmt: skip

# What passed the trial (`studies.diversity_measures`, LABLOG.md), the best first.
RECOMMENDED: tuple[str, ...] = ("trigrams",)
