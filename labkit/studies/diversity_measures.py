"""Diversity measures: which of them tell, before any training, how well a model will follow unseen instructions?

Many training sets of rewriting rules differ in five ways at once, each drawn at random: the number of rules, how
unevenly examples are spread over them, the letters that rules use, the share of rules of one narrow class (x and y a
block of two that stands twice), and the share that are near copies of others (one letter of y is another). Each trains
one small model, all with equally many steps, and every model is asked the same kind of unseen rule: all letters, no
constraint. Each measure of `labkit.design.diversity` is then a number per set, and its rank correlation with unseen
accuracy says what it is worth.

Rules are letters; the embedder's vectors of them are what the lexical fallback makes (`embedder`). What ranks sets of
rules need not rank sets of essays: the trial can fail a measure, it cannot pass it for all data.
"""

from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from labkit.design import allocate_long_tail, diversity
from labkit.design.long_tail import Alpha
from labkit.errors import BadRequest
from labkit.instructions import Rules, draw_rules
from labkit.instructions.rewriting import in_split
from labkit.learn.embedders import embed
from labkit.studies.cell import cells
from labkit.studies.correlated import Ranks
from labkit.studies.lesson import Lesson
from labkit.studies.params import about, check_asked, drawn_note
from labkit.studies.rewriting import UNSEEN, RewritingCell, RewritingParams, evenly, task_of, taught
from labkit.studies.study import Results, Study
from labkit.studies.views import Curve

if TYPE_CHECKING:
    import pandas as pd

RULES, DESIGN = 30, 31  # streams of a seed
NUMBERS = {name: measure.words for name, measure in diversity.MEASURES.items()}


class Params(RewritingParams):
    """What a person may set; see `catalogue.yaml` for the values each scale gives."""

    groups: ClassVar = RewritingParams.groups | {"varied": ("alphas", "letters", "narrow", "copies")}

    sets: int = Field(ge=4, le=10**4, description="training sets per seed, one model each")
    sizes: tuple[int, int] = Field(description="fewest and most rules of a set; sets lie evenly between on a log scale")
    alphas: list[Alpha] = Field(min_length=1, description="exponents of the power law of examples per rule, or uniform")
    letters: list[int] = Field(min_length=1, description="how many letters of the alphabet rules use")
    narrow: list[float] = Field(min_length=1, description="shares of rules whose x and y are a block that stands twice")
    copies: list[float] = Field(min_length=1, description="shares of rules that copy another with one letter changed")
    embedder: str = Field(description="what makes vectors of rules: lexical, wordllama, minilm or a folder")

    @model_validator(mode="after")
    def _together(self) -> "Params":
        low, high = self.sizes
        if self.pattern_length % 2:
            raise BadRequest(f"pattern_length = {self.pattern_length}: a block that stands twice needs an even number")
        if not 2 <= low < high <= self.budget:
            raise BadRequest(f"sizes = {self.sizes}: they rise, from 2 on, up to budget = {self.budget}")
        for name in ("narrow", "copies"):
            if not all(0 <= share < 1 for share in getattr(self, name)):
                raise BadRequest(f"{name} = {getattr(self, name)}: a share is 0 or more, and below 1")
        blocks = min(self.letters) ** (self.pattern_length // 2)
        if not 2 <= min(self.letters) <= max(self.letters) <= len(self.alphabet) or blocks**2 < 4 * high:
            raise BadRequest(
                f"letters = {self.letters}: up to {len(self.alphabet)}, and enough for {high} narrow rules"
            )
        check_asked(self.n_test, test_rules=self.test_rules)
        return self


class Cell(RewritingCell):
    """One model: everything its result depends on."""

    study: Literal["diversity_measures"] = "diversity_measures"
    version: Literal[1] = 1
    number: int
    alpha: Alpha
    letters: int
    narrow: float
    copies: float
    noop_share: float = 0.0
    occurrences: int = 1

    def lesson(self) -> Lesson:
        """The set's examples, and exams on its own rules and on unseen ones of any letters."""
        drawn = taught(self, *training_set(self))
        unseen = draw_rules(task_of(self), self.test_rules, seed=self.seed, split="test")
        return drawn._replace(exams={**drawn.exams, "unseen": evenly(self, unseen, UNSEEN)})


class TrainingSet(NamedTuple):
    """Rules, and the examples of each [n]."""

    rules: Rules
    counts: NDArray[np.int64]


def training_set(cell: Any) -> TrainingSet:
    """The rules of a cell (or of its row): narrow ones, free ones, then near copies, in a random order."""
    rng = np.random.default_rng(np.random.SeedSequence(cell.seed, spawn_key=(RULES, cell.number)))
    n, symbols, p = cell.n_instructions, len(cell.alphabet), cell.pattern_length
    letters = rng.permutation(symbols)[: cell.letters].astype(np.uint8)
    copied = min(round(cell.copies * n), n - 1)
    narrow = round(cell.narrow * (n - copied))

    def strings(many: int, half: bool) -> NDArray[np.uint8]:
        drawn = letters[rng.integers(len(letters), size=(p // 2 if half else p, many))]
        drawn = np.concatenate([drawn, drawn]) if half else drawn
        return drawn[:, in_split(drawn, symbols, "train", cell.seed)]

    def pairs(half: bool) -> NDArray[np.uint8]:
        made = strings(4096, half)
        one, other = made[:, : made.shape[1] // 2], made[:, made.shape[1] // 2 : made.shape[1] // 2 * 2]
        return np.concatenate([one, other])[:, (one != other).any(axis=0)]

    def near(made: NDArray[np.uint8]) -> NDArray[np.uint8]:
        copy = made[:, rng.integers(made.shape[1], size=4096)]
        copy[p + rng.integers(p, size=4096), np.arange(4096)] = letters[rng.integers(len(letters), size=4096)]
        kept = in_split(copy[p:], symbols, "train", cell.seed) & (copy[:p] != copy[p:]).any(axis=0)
        return copy[:, kept]

    made = _grown(np.zeros((2 * p, 0), np.uint8), narrow, lambda _: pairs(True))
    made = _grown(made, n - copied, lambda _: pairs(False))
    originals = made
    made = _grown(made, n, lambda _: near(originals))
    counts = allocate_long_tail(cell.budget, n, cell.alpha, floor=1)
    return TrainingSet(Rules.of(made[:, rng.permutation(n)], cell.alphabet), counts)


def _grown(made: NDArray[np.uint8], n: int, more: Any) -> NDArray[np.uint8]:
    """The first n different columns of what there is and what comes."""
    while made.shape[1] < n:
        made = np.concatenate([made, more(made)], axis=1)
        made = made[:, np.sort(np.unique(made, axis=1, return_index=True)[1])]
    return made[:, :n]


def points(params: Params) -> list[Cell]:
    """A cell per seed and set; each dial takes its values equally often, in a random order of its own."""
    dials = []
    for seed in params.seeds:
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(DESIGN,)))
        sizes = np.geomspace(*params.sizes, params.sets).round().astype(int).tolist()
        columns = {"n_instructions": sizes} | {
            name: [values[i % len(values)] for i in rng.permutation(params.sets)]
            for name in ("alphas", "letters", "narrow", "copies")
            for values in [getattr(params, name)]
        }
        columns["alpha"] = columns.pop("alphas")
        for number, values in enumerate(zip(*columns.values(), strict=True)):
            dials.append({"seed": seed, "number": number, **dict(zip(columns, values, strict=True))})
    return cells(Cell, params, dials)


@cache
def measured(embedder: str, **dials: Any) -> dict[str, float | None]:
    """Every measure of a set, from the settings of its cell."""
    own = training_set(Cell.model_construct(**dials))
    texts = [str(own.rules.rule(i)) for i in range(len(own.rules))]
    return diversity.measured(diversity.Sample(texts, embed(texts, embedder), own.counts))


def columns(rows: "pd.DataFrame") -> "pd.DataFrame":
    """The rows with every measure of their training sets."""
    import pandas as pd

    names = ["seed", "number", "n_instructions", "budget", "alphabet", "pattern_length", "alpha", "letters", "narrow",
             "copies"]  # fmt: skip
    own = [measured(**dict(zip([*names, "embedder"], dials, strict=True)))
           for dials in rows[[*names, "embedder"]].itertuples(index=False, name=None)]  # fmt: skip
    return rows.join(pd.DataFrame(own, index=rows.index).astype(float))


VIEWS = {
    "ranks": Ranks(
        title="How well each measure ranks accuracy on unseen rules", numbers=NUMBERS, baseline="distinct",
        exam="unseen", exam_label="accuracy on unseen rules",
    ),
    "sets": Curve(
        title="Mean over training sets of a size; each seed draws alpha, letters and copies anew",
        drawn=("alpha", "letters", "copies"), x="n_instructions", x_label="Number of training rules",
        exams={"unseen": "unseen rules"}, by="narrow", by_name="narrow rules", by_label="{:.0%}".format,
    ),
}  # fmt: skip


def finding(results: Results) -> str:
    """Which measure ranks best, and which are not told apart from it."""
    return (
        results.fit("ranks").sentence
        if "ranks" in results.views()
        else "Too few models, or all alike: nothing is ranked"
    )


STUDY = Study(
    **about("diversity_measures"),
    Params=Params,
    points=points,
    dials={"n_instructions": "rules", "alpha": "alpha", "letters": "letters", "narrow": "narrow", "copies": "copies"},
    views=VIEWS,
    finding=finding,
    notes=lambda params: drawn_note(params, params.budget),
    columns=columns,
    marks=lambda params: {"embedder": params.embedder},
)
