"""How the arms of the curriculum study are measured: gates, a first student, what a judge thinks of it, the rounds.

Every arm of a seed goes on from the same first student, which has learned one half of the public set; what is hard is
mined in the other half, which it has not seen, and of which all arms are made (`Rounds.pool`). All train for the same
rounds of the same number of optimiser steps; arms differ in what a round trains on alone (`ARMS`). What a teacher or
judge said is in the client's cache: arms that ask the same are answered once, and a killed run asks nothing twice.

The parts of TAPIR (Yue et al. 2024, arXiv 2405.13448), and where they are:
    seed selection by Model Fitting Difficulty   `teach.tapir.mine`, `design.curriculum.select`, `within_kinds`
    task-aware re-balancing                      `design.curriculum.published_target` and `rising_round`
    expansion with in-context seeds              `teach.tapir`, `distil.expand_all`
    response refinement                          `teach.tapir`, `distil.refine_all`
    rounds with a rising share of hard examples  `design.curriculum.schedule`, `Rounds.rising`; re-mined every round

Guaranteed: a killed arm goes on in the round that it was in, from the student of the last whole round, with the
material that it had; equal cells give equal rows. Left open: requests that failed are asked again after a kill; each
round begins with a fresh optimiser, in every arm alike.
"""

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import yaml
from pydantic import Field

from labkit.design import curriculum as design
from labkit.instructions import Example
from labkit.instructions.family import LEVELS
from labkit.lab import Point, Record, Row, write_json
from labkit.learn.learner import Learner
from labkit.studies.followed_sets import FamilySource, Source
from labkit.studies.learners import Student
from labkit.studies.lesson import Lesson
from labkit.studies.levels import Gate, place
from labkit.studies.rows import GRADED, flag_line
from labkit.teach import distil, tapir
from labkit.teach.client import Client
from labkit.teach.tapir import Item, Mined, Teaching
from labkit.teach.teacher import Counted, Teacher

HARD = {"random": None, "within": 1.0, "rehearsal": 0.75}  # share of an arm's seeds from the harder half of each kind
REPEATS = 4  # times at most that a round of TAPIR repeats an example for the sake of alpha
CHECKED, LEARNED = 100, 0.1  # examples of the last round, and the share of them that a student has to write


def learn(
    student: Learner, examples: list[Example], steps: int, seed: int, folder: Path, rate: float = 1.0
) -> dict[str, Any]:
    """A student learns; what that cost, its tokens by the mean cost of an example."""
    done = student.learn(examples, steps=steps, seed=seed, folder=folder, rate=rate)
    tokens = round(done.steps * student.batch * float(np.mean([cost or 0 for cost in student.costs(examples)])))
    loss = done.loss if done.loss is not None and math.isfinite(done.loss) else None
    return {"steps": done.steps, "tokens": tokens, "seconds": done.seconds, "loss": loss}


class Arm(NamedTuple):
    """What an arm trains on; see `arms.yaml`."""

    label: str
    seeds: str
    taught: bool
    pace: Literal["even", "rising", "constant"]
    target: Literal["published", "own"] = "published"
    reference: Literal["teacher", "public"] = "teacher"


LISTED = yaml.safe_load(resources.files(__package__).joinpath("arms.yaml").read_text("utf-8"))
ARMS = {name: Arm(**arm) for name, arm in LISTED["arms"].items()}
SIZED = ("taught", "within", "tapir")  # arms that students of other widths repeat
INGREDIENTS = {(one, other): added for one, other, added in LISTED["ingredients"]}


class Rounds:
    """The rounds of one arm of a `Cell`. `run` does them; `even` and `rising` say what one trains on."""

    def __init__(self, cell: "Cell", student: Learner, client: Client, first: Path, lasting: Path) -> None:
        self.cell, self.student, self.lasting, self.client = cell, student, lasting, client
        self.arm, self.source, self.begin = ARMS[cell.arm], cell.task, first / "student"
        self.teaching, self.look = Teaching(client), partial(cell.task.look, student, cell.spec, cell.seed)
        found = json.loads((first / "mined.json").read_text("utf-8"))
        self.mined = Mined(**{name: found[name] for name in Mined._fields})
        self.public = [one.example for one in self.source.public_set(cell.spec, cell.seed)]
        unseen = self.public[cell.half : cell.half + cell.mined]  # by the first student
        self.pool = [
            Item(example, kind, None if score is None else tapir.BEST - score)
            for example, kind, score in zip(unseen, found["kinds"], self.mined.student, strict=True)
        ]
        alphas = design.schedule(cell.alpha_0, cell.delta_alpha, cell.rounds)
        self.alphas = alphas if self.arm.pace == "rising" else (float(np.mean(alphas)),) * cell.rounds
        targets = {"published": cell.target, "own": cell.own_target}
        self.target = dict(zip(self.source.tasks, targets[self.arm.target], strict=True))
        self.material: list[Item] = []

    def run(self) -> dict[str, Any]:
        """Every round that is not done yet; returns what is known of all: JSON."""
        state = self._resumed()
        while (number := len(state["rounds"])) < self.cell.rounds:
            chosen = self._chosen(number)
            examples = self.student.fitting([item.example for item in chosen])
            self.teaching.count("too long", asked=len(chosen), left_out=len(chosen) - len(examples))
            folder, different, steps = self.lasting / f"learning-{number}", set(examples), self.cell.round_steps
            done = learn(self.student, examples, steps, self._seed(number), folder, self.cell.round_rate)
            alpha = None if self.arm.pace == "even" else self.alphas[number]
            kinds = tapir.shares([item for item in chosen if item.example in different])
            about = {"round": number + 1, "alpha": alpha, "examples": len(examples), "different": len(different)}
            seen = {
                "shares": kinds,
                "learned": self.source.learned(self.student, examples[:CHECKED]),
                "looked": self.look(),
            }
            state["rounds"].append(about | done | seen)
            self._keep(number, state)
        return state

    def even(self, number: int) -> list[Item]:
        """All alike, epoch after epoch."""
        places = design.even_round(len(self.material), self.cell.round_size, number, self.cell.seed)
        return [self.material[i] for i in places.tolist()]

    def rising(self, number: int) -> list[Item]:
        """Balanced, and of every kind a share alpha of what the student of the round before finds hard (TAPIR).

        Hard are the mined examples that are hard now, and all new pairs, which were written after such. At a constant
        pace the first student decides what is hard for all rounds, and all new pairs are written at once.
        """
        mined, again = self.mined, self.arm.pace == "rising"
        n_new = design.apportion([1] * (self.cell.rounds if again else 1), self.cell.expanded)
        if number and again:
            types = [self.source.task_type(item.kind) for item in self.pool]
            mined = self.teaching.mined(self.student.answer, [item.example for item in self.pool], types)
        places, mfd = self._hard(mined), mined.mfd(self.arm.reference)
        self.material += self._expanded(
            [self.pool[i] for i in places], sum(n_new[number : number + 1]), number, spread=True
        )
        items, among = [*self.pool, *self.material], set(places)
        rest = [i for i in range(len(self.pool)) if i not in among and mfd[i] is not None]
        hard = [*places, *range(len(self.pool), len(items))]
        kinds, alpha, seed = [item.kind for item in items], self.alphas[number], self._seed(number)
        drawn = design.rising_round(
            kinds, hard, rest, self.target, alpha, self.cell.round_size, repeats=REPEATS, seed=seed
        )
        self.teaching.count("resampled", **drawn.manifest, mined=len(self.pool), hard_now=len(among))
        order = np.random.default_rng([self.cell.seed, number]).permutation(drawn.indices)
        return [items[i] for i in order.tolist()]

    def _chosen(self, number: int) -> list[Item]:
        """What a round trains on: as it was kept by a process that was killed in this round, or drawn now."""
        path = self.lasting / f"chosen-{number}.json"
        if path.exists():
            kept = json.loads(path.read_text("utf-8"))
            self._take(kept)
            return [Item.of_line(line) for line in kept["chosen"]]
        if not self.material:
            self.material = self._first_material()
        chosen = self.even(number) if self.arm.pace == "even" else self.rising(number)
        chosen = self.teaching.refined(chosen, self.source.task_type) if self.arm.taught else chosen
        write_json(path, {**self._progressed(), "chosen": [item.line for item in chosen]})
        return chosen

    def _progressed(self) -> dict[str, Any]:
        """What has to be known after a kill, beside the student and the rounds that are done; `_take` takes it up."""
        return {"material": [item.line for item in self.material], **self.teaching.as_dict()}

    def _take(self, kept: Mapping[str, Any]) -> None:
        self.material = [Item.of_line(line) for line in kept["material"]]
        self.teaching = Teaching(self.client, kept)

    def _first_material(self) -> list[Item]:
        """What the arm's rounds draw from: its seeds and, where a teacher expands them, its new pairs.

        TAPIR's rounds begin with nothing: they expand what is hard anew.
        """
        if self.arm.pace != "even":
            return []
        kinds, mfd = [item.kind for item in self.pool], self.mined.mfd(self.arm.reference)
        halves = lambda: design.within_kinds(mfd, kinds, HARD[self.arm.seeds], self.cell.seed).tolist()  # noqa: E731
        places = self._hard(self.mined) if self.arm.seeds == "hard" else halves()
        seeds = [self.pool[i] for i in places]
        return [*seeds, *(self._expanded(seeds, self.cell.expanded, 0, False) if self.arm.taught else [])]

    def _hard(self, mined: Mined) -> list[int]:
        """Places of what a student finds hard; where that is nothing or everything, of the harder half."""
        mfd = mined.mfd(self.arm.reference)
        short = {-value > self.cell.delta for value in mfd if value is not None}
        if len(short) == 1:
            self.teaching.count("hard", by_halves=1)
            return list(design.within_kinds(mfd, ["any"] * len(mfd), 1.0, self.cell.seed).tolist())
        return list(design.select(mfd, self.cell.delta).hard.tolist())

    def _expanded(self, seeds: Sequence[Item], n: int, number: int, spread: bool) -> list[Item]:
        """New pairs after the seeds: as many of each kind as it has seeds, or by the target distribution (`spread`)."""
        return self.teaching.expanded(
            seeds, n, target=self.target if spread else None, types=self.source.task_type,
            known=[*self.public, *(item.example for item in self.material)],
            keep_out=tapir.Exclusions(self.source.forbidden(), self.source.guard()), seed=self._seed(number),
        )  # fmt: skip

    def _seed(self, number: int) -> int:
        return 1000 * self.cell.seed + number

    def _keep(self, number: int, state: dict[str, Any]) -> None:
        """The student and the state after a round; the state comes last, so that what it names is whole."""
        folder = self.lasting / f"student-{number}"
        shutil.rmtree(folder, ignore_errors=True)
        self.student.save(folder)
        state |= self._progressed()
        write_json(self.lasting / "state.json", state)

    def _resumed(self) -> dict[str, Any]:
        """The state of the last whole round, and its student; or the beginning."""
        path = self.lasting / "state.json"
        if not path.exists():
            self.lasting.mkdir(parents=True, exist_ok=True)
            self.student.restore(self.begin)
            return {"rounds": [], "begun": self.look(), **self._progressed()}
        state: dict[str, Any] = json.loads(path.read_text("utf-8"))
        self.student.restore(self.lasting / f"student-{len(state['rounds']) - 1}")
        self._take(state)
        return state


class First(Student):
    """The first student of a seed, and what a judge thinks of it: what all its arms share.

    `asking` decides no reply (budgets, concurrency...), so it is no part of the address.
    """

    study: Literal["curriculum_first", "curriculum"] = "curriculum_first"
    version: Literal[3] = 3
    task: Source
    teacher: Teacher
    mined: int
    asking: dict[str, Any] = Field(default_factory=dict, exclude=True)

    @property
    def half(self) -> int:
        """How many public examples the first student learns; what is mined comes after them."""
        return self.task.public // 2

    def lesson(self) -> Lesson:
        """The first half of the public set; what is graded of the student is told by the judge."""
        return Lesson([one.example for one in self.task.public_set(self.spec, self.seed)[: self.half]], {})

    def ask(self, record: Record) -> Client:
        """A client of the teacher, whose replies are kept in the record's store."""
        assert record.store is not None
        return self.teacher.connect(self.asking, record.store.root)

    def measured(self, record: Record) -> Row:
        """Train on one half of the public set, and let the judge say what is hard in the other."""
        student, public = self.learner(record), self.task.public_set(self.spec, self.seed)
        examples = student.fitting([one.example for one in public[: self.half]])
        done = learn(student, examples, self.steps, self.seed, record.lasting / "first")
        student.save(record.folder / "student")
        unseen = public[self.half : self.half + self.mined]
        with self.ask(record) as client:
            asker, pool = Counted(client), [one.example for one in unseen]
            classified = distil.classify_all(asker, [distil.question_of(one) for one in pool], self.task.kinds())
            kinds = self.task.named_kinds(classified.kinds)
            mined = tapir.mine(student.answer, pool, [self.task.task_type(kind) for kind in kinds], asker)
        write_json(record.folder / "mined.json", {**mined._asdict(), "kinds": kinds})
        took = {"tokens": done["tokens"], "train_seconds": round(done["seconds"], 2), "loss": done["loss"]}
        counts = {f"teacher_{name}": count for name, count in asker.counts.items()}
        trust = self.task.trust(unseen, kinds, mined.student, mined.answers)
        return {**took, "judging": mined.counts, "classifying": classified.counts, **counts, **trust}


class Cell(First):
    """One arm: everything its result depends on. Students of other widths are not `gated`."""

    study: Literal["curriculum"] = "curriculum"
    arm: str
    width: int
    target: tuple[float, ...]
    own_target: tuple[float, ...]
    delta: float
    alpha_0: float
    delta_alpha: float
    rounds: int
    round_size: int
    round_steps: int
    expanded: int
    round_rate: float
    gated: bool

    def needs(self) -> Sequence[Point]:
        """The first student that this arm goes on from, and the gates."""
        return [self.first(), *self.gates()]

    def first(self) -> First:
        return First(**{name: value for name, value in self if name in First.model_fields and name != "study"})

    def gates(self) -> list[Gate]:
        """A model per kind and level, of the size, optimiser steps and number of examples of an arm."""
        if not self.gated or not isinstance(self.task, FamilySource):
            return []
        steps, examples = self.steps + self.rounds * self.round_steps, self.mined // 2 + self.expanded
        own: dict[str, Any] = {"spec": self.spec, "steps": steps, "examples": examples, "n_test": self.task.n_test}
        return [Gate(**own, kind=kind, level=level) for kind in self.task.tasks for level in LEVELS]

    def measured(self, record: Record) -> Row:
        """The rounds of the arm, from the first student on, and its exam."""
        about = {name: value for name, value in record.row_of(self.first()).items() if name not in First.model_fields}
        with self.ask(record) as client:
            rounds = Rounds(self, self.learner(record), client, record.folder_of(self.first()), record.lasting)
            state = rounds.run()
            rounds.student.save(record.folder)
            lines, of_exam = self.task.graded(rounds.student, Counted(client), self, record.folder)
        learned = state["rounds"][-1]["learned"]
        looks = [state["begun"], *(line.pop("looked") for line in state["rounds"])]
        lines.append(flag_line("seen", "", learned))
        for number, found in enumerate(looks):  # 0: the first student
            lines += [line | {"round": number} for line in found]
        for line in state["rounds"]:
            del line["learned"]
            record.log(**line)
        sums = {name: sum(line[name] for line in state["rounds"]) for name in ("tokens", "steps", "seconds")}
        took = {"training_tokens": sums["tokens"], "optimiser_steps": sums["steps"], "train_seconds": sums["seconds"]}
        asked = {f"teacher_{name}": count for name, count in rounds.teaching.asker.counts.items()}
        unseen = [sum(x["right"]) / sum(x["asked"]) for x in lines if x["exam"] == "unseen" and not x["grading"]]
        gates = {place(gate.kind, gate.level): record.row_of(gate)["score"] for gate in self.gates()}
        return {
            "learned": float(np.mean(learned)) >= LEARNED, "first": about, "gate": gates,
            "accuracy_unseen": float(np.mean(unseen)), **of_exam, **took, **asked,
            "rounds_of": state["rounds"], "distilled": state["distilled"],
            "difficulty": rounds.mined.difficulty([item.kind for item in rounds.pool], rounds.arm.reference),
            "public_shares": tapir.shares(rounds.pool), "target_shares": rounds.target, GRADED: lines,
        }  # fmt: skip
