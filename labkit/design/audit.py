"""What a set of instruction data holds, how diverse it is, what of a target it covers, and how two sets differ.

`audited` gives tables (name: rows) and sentences; nothing is drawn and no model is trained. The caller says what makes
vectors of texts (`learn.embedders`).

Guaranteed: bad records are counted by reason and left out; a number that too few records stand behind is not given, and
a note says so; equal files give equal tables. Held in memory: all examples and a vector per different instruction.
Left open: what answers are worth; licences are what the catalogue or a column says.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import zeta
from scipy.stats import binomtest

from labkit.design import diversity
from labkit.design.decontamination import Decontaminator, questions
from labkit.design.diversity import Floats, Sample, normal
from labkit.design.long_tail import hill_number
from labkit.errors import BadRequest
from labkit.instructions import Example
from labkit.instructions.corpora import read
from labkit.instructions.files import records

Embed = Callable[[Sequence[str]], Floats]
Rows = list[dict[str, Any]]

FEWEST = 50  # records below which no tail is fitted and no sets are compared
LABELS, LABEL = 50, 40  # most values of a column that says of what kind a record is, and their most characters
REGION, REGIONS = 30, 24  # least instructions of a target per region, and most regions
NEAR = 0.25  # a set covers what it lies nearer to than this share of a target's own instructions lie to any other
DRAWS, TAIL_DRAWS = 100, 200
COMPARED = 500  # most records of each set in a comparison
PLACED = 2000  # instructions that the map's layout is computed from; others lie between the nearest of these
LISTED, WORDS = 15, 5
COMPARABLE = [name for name in diversity.MEASURES if name != "clusters"]  # which are another draw's own


class Collection(NamedTuple):
    """A file of records as the audit has it; `labels` counts the values of columns that tell kinds of records apart."""

    name: str
    examples: list[Example]
    bad: Mapping[str, int]
    notes: list[str]
    licence: str
    labels: Mapping[str, Counter[str]]


class Audit(NamedTuple):
    """Tables by caption, sentences, and what a map shows: instructions, the region of each, the regions' names."""

    name: str
    tables: dict[str, Rows]
    notes: list[str]
    sample: Sample
    regions: NDArray[np.int64]
    names: list[str]


def load(source: str | Path, fields: Mapping[str, str | int] | None = None) -> Collection:
    """The usable records of a corpus or a file, and what is to be said of the others; see `corpora.read`.

    Raises:
        BadRequest: as `corpora.read`; nothing usable.
    """
    reader = read(source, fields=fields, on_bad="skip")
    examples = list(reader)
    labels = _labels(reader.path) if reader.path else {}
    stated = next((", ".join(labels[name]) for name in labels if name.lower() in ("licence", "license")), "")
    licence = stated or (reader.corpus.licence if reader.corpus else "not stated")
    notes = [note for note in reader.notes if not any(f"'{name}'" in note or f" {name} " in note for name in labels)]
    return Collection(reader.name, examples, dict(reader.bad), notes, licence, labels)


def _labels(path: Path) -> dict[str, Counter[str]]:
    """The values of columns that hold few different short texts, each several times."""
    counts: dict[str, Counter[str]] = {}
    for _, record in records(path):
        for name, value in record.items() if isinstance(record, dict) else ():
            if isinstance(value, str) and len(counts.setdefault(name, Counter())) <= LABELS:
                counts[name][value if len(value) <= LABEL else f"text {len(counts[name])}"] += 1
    return {name: seen for name, seen in counts.items() if 1 < len(seen) <= min(LABELS, seen.total() / 5)}


def audited(data: Collection, embed: Embed, *, against: str | Path | None = None,
            compare: Collection | None = None) -> Audit:  # fmt: skip
    """The audit of a set; `against` is a file of a target, `compare` another set.

    Raises:
        BadRequest: for a target without instructions.
    """
    target = _asked(against) if against else []
    own = diversity.sample([normal(example.instruction) for example in data.examples], embed)
    groups, names = _named_regions(own)
    notes = [f"{data.name}: {note}" for note in data.notes]
    tables = {"Records": _records(data), "Instructions": _instructions(data, own), "Lengths in words": _lengths(data),
              "Kinds of records": _kinds(data, own, groups, names), "Tail": _tail(data, notes),
              "Diversity": _diversity(own, notes)}  # fmt: skip
    if against:
        tables |= _covered(own, target, embed, Path(against).name, notes)
        tables["Contamination"] = _contamination(data, own.texts, against, notes)
    if compare:
        tables["Overlap with the other set"] = _overlap(data, compare)
        tables["The two sets compared"] = _compared(data, compare, own, embed, notes)
    return Audit(data.name, tables, notes, own, groups, names)


def _asked(target: str | Path) -> list[str]:
    """The different instructions of a target, without their inputs where the file has columns of both."""
    try:
        return list(dict.fromkeys(normal(example.instruction) for example in read(target, on_bad="skip")))
    except BadRequest:
        return questions(target)


def _records(data: Collection) -> Rows:
    bad = [{"what": f"broken: {reason}", "records": n} for reason, n in data.bad.items()]
    total = len(data.examples) + sum(data.bad.values())
    return [{"what": "read", "records": total}, {"what": "usable", "records": len(data.examples)}, *bad,
            {"what": f"licence: {data.licence}", "records": total}]  # fmt: skip


def _instructions(data: Collection, own: Sample) -> Rows:
    pairs = {normal(f"{example.instruction}\n{example.input}") for example in data.examples}
    groups, n = int(diversity.near_groups(own.texts).max()) + 1, len(data.examples)
    counts = {"different instructions": len(own.texts), "different instructions with their inputs": len(pairs),
              "instructions without near duplicates": groups}  # fmt: skip
    return [{"what": what, "number": count, "per 100 records": round(100 * count / n, 1)}
            for what, count in counts.items()]  # fmt: skip


def _lengths(data: Collection) -> Rows:
    rows = []
    for part in ("instruction", "input", "output"):
        words = np.array([len(getattr(example, part).split()) for example in data.examples])
        low, middle, high = np.quantile(words, [0.05, 0.5, 0.95])
        rows.append({"part": part, "5 %": low, "median": middle, "95 %": high, "longest": int(words.max())})
    return rows


def _kinds(data: Collection, own: Sample, groups: NDArray[np.int64], names: Sequence[str]) -> Rows:
    """Labels that the file has, first words of instructions, and regions of the embedding."""
    first = Counter((example.instruction.split() or [""])[0].lower().strip(",.:;") for example in data.examples)
    regions = np.bincount(groups, own.counts, minlength=len(names))
    kinds = dict(data.labels) | {"first word": first} | {"region": Counter(dict(zip(names, regions, strict=True)))}
    return [{"by": name, "kinds": len(seen), "effective number": round(hill_number(list(seen.values()), 1), 1),
             "most frequent": ", ".join(f"{value} {int(n):,}" for value, n in seen.most_common(LISTED))}
            for name, seen in kinds.items() if seen.total()]  # fmt: skip


def openings(examples: Sequence[Example]) -> NDArray[np.int64]:
    """How many records begin with each pair of words, from the most frequent on."""
    counts = Counter(" ".join(normal(example.instruction).split()[:2]) for example in examples)
    return np.array(sorted(counts.values(), reverse=True), np.int64)


def exponent(counts: NDArray[np.int64], least: int = 1) -> float:
    """The exponent a of P(k) ~ k^-a, k >= `least`, by maximum likelihood (Clauset et al. 2009, eq. 3.5)."""
    tail = counts[counts >= least]
    logs = np.log(tail).mean()
    found = minimize_scalar(lambda a: a * logs + np.log(zeta(a, least)), bounds=(1.01, 12), method="bounded")
    return float(found.x)


def _tail(data: Collection, notes: list[str]) -> Rows:
    counts = openings(data.examples)
    if len(counts) < FEWEST:
        notes.append(f"{len(counts)} different openings are too few to fit a tail to: {FEWEST} are needed")
        return []
    rng = np.random.default_rng(0)
    drawn = [exponent(rng.choice(counts, len(counts))) for _ in range(TAIL_DRAWS)]
    lo, hi = np.quantile(drawn, [0.025, 0.975])
    top = counts[: max(1, len(counts) // 100)].sum() / counts.sum()
    return [{"records by the first two words": f"{len(counts):,} openings", "exponent": round(exponent(counts), 2),
             "ci95": [round(float(lo), 2), round(float(hi), 2)], "share of the top 1 %": round(float(top), 3),
             "effective number": round(hill_number(counts, 1), 1)}]  # fmt: skip


def _diversity(own: Sample, notes: list[str]) -> Rows:
    found = diversity.measured(own)
    if none := [diversity.MEASURES[name].words for name, value in found.items() if value is None]:
        notes.append(f"{len(own.texts)} different instructions are too few for: {', '.join(none)}")
    order = [*diversity.RECOMMENDED, *(name for name in found if name not in diversity.RECOMMENDED)]
    return [{"measure": diversity.MEASURES[name].words, "value": shortened(value),
             "on trial": "passed" if name in diversity.RECOMMENDED else ""}
            for name in order if (value := found[name]) is not None]  # fmt: skip


def shortened(value: float) -> float:
    """A number for people: four digits, or whole."""
    return round(value) if abs(value) >= 1000 else float(f"{value:.4g}")


def _named_regions(own: Sample) -> tuple[NDArray[np.int64], list[str]]:
    """Regions of the embedding, each named by the words that mark it out."""
    k = min(REGIONS, len(own.texts) // REGION)
    if k < 2:
        return np.zeros(len(own.texts), np.int64), ["all"]
    groups, _ = diversity.regions(own.vectors, k)
    return groups, words_of(own.texts, groups, k)


def words_of(texts: Sequence[str], groups: NDArray[np.int64], k: int) -> list[str]:
    """Three words that mark out each of k groups of texts: those of the highest TF-IDF."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    joined = [" ".join(text for text, group in zip(texts, groups, strict=True) if group == one) for one in range(k)]
    try:
        table = TfidfVectorizer(max_df=0.5 if k > 2 else 1.0, token_pattern=r"[^\W\d_]{3,}")
        weights, words = table.fit_transform(joined).toarray(), table.get_feature_names_out()
    except ValueError:  # no words of three letters
        return [f"region {one + 1}" for one in range(k)]
    return [", ".join(words[np.argsort(-row)[:3]]) for row in weights]


def _covered(own: Sample, target: list[str], embed: Embed, name: str, notes: list[str]) -> dict[str, Rows]:
    """Which instructions of a target have one of the set near by, region by region, the emptiest first."""
    if len(target) < diversity.FEWEST:
        notes.append(f"{name} has {len(target)} instructions: too few to say what of it is covered")
        return {}
    vectors = embed(target)
    some = np.random.default_rng(0).choice(len(target), min(len(target), 2 * diversity.SAMPLED), replace=False)
    within = vectors[some] @ vectors.T
    within[np.arange(len(some)), some] = -1
    least = float(np.quantile(within.max(axis=1), NEAR))
    near = diversity.nearest(vectors, own.vectors) >= least
    k = min(REGIONS, len(target) // REGION)
    groups = diversity.regions(vectors, k)[0] if k > 1 else np.zeros(len(target), np.int64)
    names = words_of(target, groups, k) if k > 1 else ["all"]
    rows = [_share(f"{name}: {names[one]}", near[groups == one]) for one in range(max(1, k)) if (groups == one).any()]
    empty = [row["region"] for row in rows if row["ci95"][1] < 0.5]
    notes.append(f"a target instruction counts as covered when the set has one as near to it (cosine {least:.2f}) as "
                 f"{1 - NEAR:.0%} of the target's own have another; regions less than half covered: "
                 f"{'; '.join(empty) or 'none'}")  # fmt: skip
    return {"Coverage of the target": [_share(f"{name}: all", near), *sorted(rows, key=lambda row: row["covered"])]}


def _share(region: str, flags: NDArray[np.bool_]) -> dict[str, Any]:
    lo, hi = binomtest(int(flags.sum()), len(flags)).proportion_ci(method="wilson")
    return {"region": region, "instructions": len(flags), "covered": round(float(flags.mean()), 3),
            "ci95": [round(float(lo), 3), round(float(hi), 3)]}  # fmt: skip


def _contamination(data: Collection, texts: Sequence[str], against: str | Path, notes: list[str]) -> Rows:
    guard = Decontaminator([against])
    found = [guard.overlaps(example) for example in data.examples]
    tests = Counter(overlap.test for overlaps in found for overlap in overlaps)
    notes += guard.notes
    whole = guard.test_sets[0].records
    return [{"what": "records that share text with a test", "number": sum(map(bool, found)), "of": len(found)},
            {"what": "tests that share text with a record", "number": len(tests), "of": whole},
            {"what": "questions that hold a whole instruction", **holding(questions(against), texts)}]  # fmt: skip


def holding(asked: Sequence[str], texts: Sequence[str]) -> dict[str, int]:
    """How many questions hold all words of one of the texts in a row, texts of fewer than `WORDS` words left aside."""
    starts: dict[tuple[str, ...], list[list[str]]] = {}
    for text in texts:
        words = re.findall(r"\w+", text.lower())
        if len(words) >= WORDS:
            starts.setdefault(tuple(words[:WORDS]), []).append(words)
    held = 0
    for question in asked:
        words = re.findall(r"\w+", question.lower())
        pairs = ((at, text) for at in range(len(words)) for text in starts.get(tuple(words[at : at + WORDS]), ()))
        held += any(words[at : at + len(text)] == text for at, text in pairs)
    return {"number": held, "of": len(asked)}


def _overlap(data: Collection, other: Collection) -> Rows:
    """Equal records of two sets: by instruction and input, by instruction, by near-duplicate instruction."""
    keys = {"instructions with their inputs": lambda e: normal(f"{e.instruction}\n{e.input}"),
            "instructions": lambda e: normal(e.instruction)}  # fmt: skip
    rows = []
    for what, key in keys.items():
        one, two = ({key(example) for example in one.examples} for one in (data, other))
        rows.append(
            {"what": what, "in both": len(one & two), f"of {data.name}": len(one), f"of {other.name}": len(two)}
        )
    one, two = ({normal(e.instruction) for e in one.examples} for one in (data, other))
    texts = [*one, *two]
    groups = diversity.near_groups(texts)
    ours, theirs = set(groups[: len(one)]), set(groups[len(one) :])
    return [*rows, {"what": "groups of near-duplicate instructions", "in both": len(ours & theirs),
                    f"of {data.name}": len(ours), f"of {other.name}": len(theirs)}]  # fmt: skip


def _compared(data: Collection, other: Collection, own: Sample, embed: Embed, notes: list[str]) -> Rows:
    """Every measure of half-samples of both sets, and the interval of their difference."""
    m = min(len(data.examples) // 2, len(other.examples) // 2, COMPARED)
    if 2 * m < FEWEST:
        notes.append(f"sets of fewer than {FEWEST} records are not compared")
        return []
    theirs = diversity.sample([normal(example.instruction) for example in other.examples], embed)
    drawn = [[_part(one, m, seed) for seed in range(DRAWS)] for one in (own, theirs)]
    notes.append(f"the two sets are compared on {m} records of each, drawn {DRAWS} times without replacement: "
                 "intervals are for other records of the same kind, as many as are in the smaller set")  # fmt: skip
    rows = []
    for name, measure in diversity.MEASURES.items():
        one, two = (np.array([part[name] for part in parts], float) for parts in drawn)
        if np.isnan([one, two]).any() or np.ptp([one, two]) == 0:
            continue  # too few records for it, or no two draws differ
        lo, hi = np.quantile(one - two, [0.025, 0.975])
        verdict = "more" if lo > 0 else "less" if hi < 0 else "not told apart"
        means = {data.name: one.mean(), other.name: two.mean(), "difference": (one - two).mean()}
        rows.append({"measure": measure.words} | {what: shortened(mean) for what, mean in means.items()}
                    | {"ci95": [shortened(lo), shortened(hi)], f"{data.name} is": verdict})  # fmt: skip
    return rows


def _part(of: Sample, m: int, seed: int) -> dict[str, float | None]:
    """The measures of m records of a set."""
    rows = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(of.texts)), of.counts))[:m]
    kept, counts = np.unique(rows, return_counts=True)
    part = Sample([of.texts[row] for row in kept], of.vectors[kept], counts)
    return diversity.measured(part, COMPARABLE) | dict.fromkeys(set(diversity.MEASURES) - set(COMPARABLE))


def layout(of: Sample) -> NDArray[np.float64]:
    """A place on a map for every instruction, [n, 2]: neighbours stay near (t-SNE, van der Maaten 2008).

    Of a large set `PLACED` instructions are laid out; each other one lies at the mean of the three nearest of these.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    n, rng = len(of.texts), np.random.default_rng(0)
    if n < diversity.FEWEST:
        return np.column_stack([np.arange(n), np.zeros(n)])
    chosen = np.sort(rng.choice(n, min(n, PLACED), replace=False))
    vectors = of.vectors[chosen]
    flat = PCA(min(40, len(chosen) - 1, vectors.shape[1]), random_state=0).fit_transform(vectors)
    placed = TSNE(perplexity=min(30, len(chosen) / 4), init="pca", max_iter=500, random_state=0).fit_transform(flat)
    places = np.empty((n, 2))
    for at in range(0, n, 1024):
        near = np.argpartition(-(of.vectors[at : at + 1024] @ vectors.T), 3, axis=1)[:, :3]
        places[at : at + 1024] = placed[near].mean(axis=1) + rng.normal(0, 0.3, (len(near), 2))
    places[chosen] = placed
    return places
