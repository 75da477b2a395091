"""The whole search for a mix of real sources, as `labkit find-mix` makes it: cheap runs, a plan, and its trial.

A run draws a training set at some shares and asks how well it foretells a target: the mean log-probability per n-gram
(nats; words and pairs of words, smoothed) of the target's text under the counts of the set. That is a language model
that trains in milliseconds, and no more: it ranks sets by likeness of wording (as DSIR does, Xie et al. 2023, arXiv
2302.03169), and whether it ranks fine-tuned models alike is not known. Half of the target's records find the mix, the
other half judges it.
"""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from numpy.typing import NDArray

from labkit.design import mix_finder, plain_yaml, whole
from labkit.design.decontamination import located
from labkit.design.mix_finder import Plan, Range, Runs, dirichlet
from labkit.design.mixture import Mixture
from labkit.errors import BadRequest
from labkit.instructions import Example, read
from labkit.lab import write_text

Floats = NDArray[np.float64]

TRIED, FLOOR, FRESH = 32, 5, 5
SMOOTHING, FEATURES = 0.1, 30_000
FEWEST = 20  # records of a target


class Found(NamedTuple):
    """A plan and its trial: by arm its mix, its score on fresh seeds, and what it gains over equal parts, paired."""

    plan: Plan
    sources: list[str]
    arms: dict[str, Floats]
    scores: dict[str, Range]
    gains: dict[str, Range]


class Counted:
    """Sources and target as counts of n-grams, so that a run is a sum."""

    def __init__(self, sources: list[list[Example]], target: list[Example], budget: int) -> None:
        from sklearn.feature_extraction.text import CountVectorizer

        self.budget, self.sizes = budget, [len(source) for source in sources]
        table = CountVectorizer(ngram_range=(1, 2), token_pattern=r"\w+|[^\w\s]", max_features=FEATURES)
        texts = [[f"{e.instruction}\n{e.input}\n{e.output}" for e in part] for part in (*sources, target)]
        table.fit([text for part in texts for text in part])
        *self.parts, counted = (table.transform(part).tocsr() for part in texts)
        self.pairs = np.array([" " in name for name in table.get_feature_names_out()])
        self.halves = [np.asarray(counted[start::2].sum(axis=0)).ravel() for start in (0, 1)]

    def scored(self, shares: Floats, seed: int, half: int) -> float:
        """The score of one run on one half of the target."""
        rng, counts = np.random.default_rng([seed, 7]), np.zeros(len(self.pairs))
        for part, wanted in zip(self.parts, whole(shares, self.budget).tolist(), strict=True):
            n = part.shape[0]
            times, rest = divmod(wanted, n)
            chosen = np.full(n, times) + np.isin(np.arange(n), rng.choice(n, rest, replace=False))
            counts += chosen @ part
        scores = []
        for kind in (self.pairs, ~self.pairs):
            smooth = counts[kind] + SMOOTHING
            wanted_text = self.halves[half][kind]
            scores.append(float(wanted_text @ np.log(smooth / smooth.sum()) / max(1, wanted_text.sum())))
        return sum(scores) / 2

    @cached_property
    def natural(self) -> Floats:
        """Shares as the sources' sizes."""
        return np.array(self.sizes) / sum(self.sizes)


def search(spec: str | Path, target: str | Path, budget: int | None = None, seed: int = 0) -> Found:
    """Find the mix of a spec's sources (as `labkit mix` takes it) for a target, and try it on fresh seeds.

    Raises:
        BadRequest: for one source, a budget below one example per source, a target with too few records, or what
            `corpora.read` refuses.
    """
    path = located(".", spec)
    mixture = Mixture.load(path)
    budget, k = budget or mixture.budget, len(mixture.sources)
    if not 2 <= k < TRIED:
        raise BadRequest(f"{spec} has {k} source{'s' * (k > 1)}: a mix is found of 2 to {TRIED - 1}")
    if budget < k:
        raise BadRequest(f"a budget of {budget} is below one example for each of {k} sources")
    asked = list(read(target, on_bad="skip"))
    if len(asked) < FEWEST:
        raise BadRequest(f"{target} has {len(asked)} records: a target needs {FEWEST} at least")
    known = {(example.instruction, example.input) for example in asked}
    readers = [source.reader(path.parent) for source in mixture.sources]
    sources = [[e for e in reader if (e.instruction, e.input) not in known] for reader in readers]
    for reader, examples in zip(readers, sources, strict=True):
        if not examples:
            raise BadRequest(f"'{reader.name}' holds nothing but the target's own records")
    counted = Counted(sources, asked, budget)

    def runs(shares: Floats, start: int, half: int = 0) -> Runs:
        return Runs(shares, np.array([counted.scored(row, start + at, half) for at, row in enumerate(shares)]))

    equal = np.full((1, k), 1 / k)
    tried = runs(mix_finder.mixes(TRIED, k, seed), 1000)
    floor = runs(np.repeat(equal, FLOOR, axis=0), 3000).scores
    plan = mix_finder.find(tried, floor, seed=seed)
    random = runs(dirichlet(TRIED + FLOOR, k, seed + 2), 4000)
    best = tried.shares[tried.scores.argmax()]
    arms = {"found": plan.shares, "equal parts": equal[0], "natural shares": counted.natural, "best seen": best,
            "random search": random.shares[random.scores.argmax()]}  # fmt: skip
    fresh = {arm: runs(np.repeat(shares[None], FRESH, axis=0), 5000, 1).scores for arm, shares in arms.items()}
    gains = {arm: paired(scores - fresh["equal parts"]) for arm, scores in fresh.items() if arm != "equal parts"}
    return Found(plan, [reader.name for reader in readers], arms, {arm: paired(s) for arm, s in fresh.items()}, gains)


def paired(values: Floats) -> Range:
    """The mean over seeds with Student's interval."""
    from scipy.stats import t

    reach = float(t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return Range(float(values.mean()), float(values.mean()) - reach, float(values.mean()) + reach)


def table(found: Found) -> list[dict[str, Any]]:
    """One row per arm of the trial."""
    rows = []
    for arm, shares in found.arms.items():
        gain = found.gains.get(arm)
        rows.append({"mix": arm} | dict(zip(found.sources, shares.round(3).tolist(), strict=True))
                    | {"score, nats per n-gram": round(found.scores[arm].mean, 4),
                       "gain over equal parts [95 %]": "" if gain is None else
                       f"{gain.mean:+.4f} [{gain.lo:+.4f}, {gain.hi:+.4f}]"})  # fmt: skip
    return rows


def sentence(found: Found) -> str:
    """What was found, with its prediction, and what became of it."""
    if found.plan.reason:
        return f"No plan: {found.plan.reason}. The mix is equal parts."
    predicted, gain = found.plan.gain, found.gains["found"]
    return (f"The found mix gains over equal parts: predicted {predicted.mean:+.4f} [{predicted.lo:+.4f}, "
            f"{predicted.hi:+.4f}], measured on fresh seeds and the other half of the target {gain.mean:+.4f} "
            f"[{gain.lo:+.4f}, {gain.hi:+.4f}] nats per n-gram.")  # fmt: skip


def written(spec: str | Path, found: Found, out: Path, budget: int | None = None) -> Path:
    """The spec with the found weights, as a file for `labkit mix`; what was found stands in it as comments."""
    mapping: dict[str, Any] = plain_yaml.load(located(".", spec))
    shares = [round(float(share), 4) for share in found.plan.shares]
    base = located(".", spec).resolve().parent
    rows: list[Mapping[str, Any]] = mapping["sources"]
    mapping["sources"] = [
        {**row, "weight": share} | ({"path": str(located(base, row["path"]))} if row.get("path") else {})
        for row, share in zip(rows, shares, strict=True) if share > 0
    ]  # fmt: skip
    mapping["normalise"] = True
    if budget:
        mapping["tokens" if mapping.get("tokens") else "examples"] = budget
    comments = [f"# {sentence(found)}", *(f"# {row}" for row in table(found))]
    write_text(out, "\n".join(comments) + "\n" + yaml.safe_dump(mapping, sort_keys=False, allow_unicode=True))
    return out
