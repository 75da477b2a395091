"""What a teacher makes of a training set for one student (TAPIR, Yue et al. 2024, arXiv 2405.13448), and what it cost.

What is hard is found by a judge (`mine`), expanded into new pairs, and responses are refined. The student is a function
from questions to answers. Every part counts what became of what was asked; `Teaching.as_dict` keeps the counts, so that
a killed run goes on with them.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple
from typing import Any, NamedTuple

import numpy as np

from labkit.design import curriculum as design
from labkit.design.decontamination import Decontaminator
from labkit.instructions import Example
from labkit.teach import distil, prompts
from labkit.teach import judge as judging
from labkit.teach.client import Client
from labkit.teach.teacher import Counted

BEST = 10.0  # a judge's best rating
WRITTEN = 20  # new pairs that a teacher is asked for at once
Answer = Callable[[Sequence[Example]], list[str]]


class Mined(NamedTuple):
    """A judge's scores of a student's answers, of the public ones and of the teacher's; lists by place."""

    student: list[float | None]
    public: list[float | None]
    teacher: list[float | None]
    answers: list[str]
    counts: dict[str, Any]

    def mfd(self, reference: str) -> list[float | None]:
        """The Model Fitting Difficulty against the `public` answers or the `teacher`'s (TAPIR, seed selection).

        MFD(x_i) = f_J(x_i, ~y_i) - f_J(x_i, y_i): negative where the student falls short of the reference.
        """
        pairs = zip(self.student, self.teacher if reference == "teacher" else self.public, strict=True)
        return [None if ours is None or theirs is None else ours - theirs for ours, theirs in pairs]

    def difficulty(self, kinds: Sequence[str | None], reference: str) -> dict[str, dict[str, int]]:
        """How many examples of each kind have which MFD, rounded to a point."""
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        for kind, value in zip(kinds, self.mfd(reference), strict=True):
            if kind is not None and value is not None:
                counts[kind][str(round(value))] += 1
        return {kind: dict(points) for kind, points in sorted(counts.items())}


class Item(NamedTuple):
    """Something to train on: its kind, and how many points the first student's answer to it (or to its seeds) lacked.

    Not the MFD, which a wrong public answer makes look easy. None: it was not judged.
    """

    example: Example
    kind: str | None
    lacked: float | None

    @classmethod
    def of_line(cls, line: Sequence[Any]) -> "Item":
        """An item from `line`."""
        return cls(Example(*line[:5]), *line[5:])

    @property
    def line(self) -> list[Any]:
        """For JSON."""
        return [*astuple(self.example), self.kind, self.lacked]


class Exclusions(NamedTuple):
    """What must not be trained on: a reason why a question may not be, and a guard against words of a test."""

    forbidden: Callable[[str], str | None]
    guard: Decontaminator | None


def mine(answer: Answer, examples: Sequence[Example], types: Sequence[str], asker: judging.Asker) -> Mined:
    """What is hard for a student: it answers, the teacher answers in the way of the task types, the judge scores all.

    `Mined.mfd` makes difficulties of the scores. Where the teacher gave no answer the public one stands for it.
    """
    answers = answer(examples)
    questions = [distil.question_of(example) for example in examples]
    judge, refined = judging.Judge(asker), distil.refine_all(asker, examples, types).examples
    scored = judging.difficulties(judge, questions, answers, [example.output for example in examples])
    taught = judge.score(list(map(prompts.Pair, questions, (one.output for one in refined)))).values
    counts = {**scored.counts, "teacher_unscored": taught.count(None)}
    return Mined(scored.student.values, scored.public.values, taught, answers, counts)


def shares(items: Sequence[Item]) -> dict[str, float]:
    """The share of each kind, of the items whose kind is known."""
    kinds = Counter(item.kind for item in items if item.kind)
    return {kind: count / kinds.total() for kind, count in sorted(kinds.items())}


class Teaching:
    """Asks a teacher for one arm; `counts` says by part what became of it, `asker` what was asked."""

    def __init__(self, client: Client, kept: Mapping[str, Any] | None = None) -> None:
        kept = kept or {"distilled": {}, "asked": {}, "keys": []}
        self.asker = Counted(client, kept["asked"], kept["keys"])
        self.counts = {name: Counter(part) for name, part in kept["distilled"].items()}

    def as_dict(self) -> dict[str, Any]:
        """What has to be known after a kill: JSON, taken up by a new `Teaching`."""
        distilled = {name: dict(part) for name, part in self.counts.items()}
        return {"distilled": distilled, "asked": dict(self.asker.counts), "keys": sorted(self.asker.keys)}

    def count(self, part: str, **counts: int) -> None:
        self.counts.setdefault(part, Counter()).update(counts)

    def mined(self, answer: Answer, examples: Sequence[Example], types: Sequence[str]) -> Mined:
        """What the student finds hard now."""
        mined = mine(answer, examples, types, self.asker)
        self._judged(mined.counts)
        return mined

    def expanded(
        self, seeds: Sequence[Item], n: int, *, target: Mapping[str, float] | None, types: Callable[[str | None], str],
        known: Sequence[Example], keep_out: Exclusions, seed: int,
    ) -> list[Item]:  # fmt: skip
        """`n` new pairs after the seeds: as many of each kind as it has seeds, or by a target distribution."""
        kinds = [item.kind for item in seeds]
        if n < 1 or not any(kinds):
            return []
        wanted: int | dict[str, int] = n
        if target is not None:
            among = design.among(target, kinds)
            wanted = dict(zip(among, design.apportion(list(among.values()), n), strict=True))
        steps = ["unknown" if item.lacked is None else round(item.lacked) for item in seeds]
        new = distil.expand_all(
            self.asker, [item.example for item in seeds], kinds, wanted, difficulty=steps, each=WRITTEN, known=known,
            types={kind: types(kind) for kind in kinds if kind}, seed=seed, **keep_out._asdict(),
        )  # fmt: skip
        self.count("expanded", **new.counts)
        # The seeds of a pair are of one difficulty: judged, all of them, or none.
        judged = [[seeds[i].lacked for i in places] for places in new.origins]
        lacked = [float(np.mean([x for x in group if x is not None])) if any(group) else group[0] for group in judged]
        return list(map(Item, new.examples, new.kinds, lacked))

    def refined(self, items: Sequence[Item], types: Callable[[str | None], str]) -> list[Item]:
        """The items with the teacher's responses; those that it has written itself have them."""
        public = list(dict.fromkeys(item for item in items if item.example.source != distil.SOURCE))
        examples = [item.example for item in public]
        refined = distil.refine_all(self.asker, examples, [types(item.kind) for item in public])
        self.count("refined", **refined.counts)
        better = dict(zip(public, refined.examples, strict=True))
        return [item._replace(example=better.get(item, item.example)) for item in items]

    def _judged(self, counts: Mapping[str, Any]) -> None:
        self.count("judged", **{name: n for name, n in counts.items() if isinstance(n, int)})
