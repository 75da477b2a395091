"""How the arms of the curriculum study are measured: a first student, what a judge thinks of it, and the rounds.

Every arm of a seed goes on from the same first student, which has learned the whole public set, and then trains for the
same rounds, each worth the same number of tokens; arms differ in what a round trains on alone (`ARMS`). What a teacher
or judge said is in the client's cache: arms that ask the same are answered once, and a killed run asks nothing twice.

The parts of TAPIR (Yue et al. 2024, arXiv 2405.13448), and where they are:
    seed selection by Model Fitting Difficulty   `teach.tapir.mine`, `design.curriculum.select`
    task-aware re-balancing                      `design.curriculum.rebalance`, `apportion` and `rising_round`
    expansion with in-context seeds              `teach.tapir`, `distil.expand_all`
    response refinement                          `teach.tapir`, `distil.refine_all`
    rounds with a rising share of hard examples  `design.curriculum.schedule`, `Rounds.rising`; re-mined every round

Guaranteed: a killed arm goes on in the round that it was in, from the student of the last whole round, with the
material that it had; equal cells give equal rows. Rounds are worth equal tokens up to half an optimiser step, counted
by the mean cost of what is trained on. Left open: requests that failed are asked again after a kill.
"""

import json
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import yaml
from pydantic import Field

from labkit.design import curriculum as design
from labkit.instructions import Example
from labkit.lab import Point, Record, Row, write_json
from labkit.learn.learner import Learner
from labkit.studies import cell as study_cell
from labkit.studies import harness, learners
from labkit.studies.lesson import Lesson
from labkit.studies.public_sets import OTHER, Source
from labkit.studies.rows import GRADED, flag_line
from labkit.teach import distil, tapir
from labkit.teach.client import Client
from labkit.teach.tapir import Item, Mined, Teaching
from labkit.teach.teacher import Counted, Teacher

PROBED = 20  # public examples for each kind of task whose scores tell learning progress; they are not mined
REPEATS = 4  # times at most that a round of TAPIR repeats an example for the sake of alpha
COMPETENCE = 0.2  # share of the examples, the easiest, that the first round of that arm admits
CHECKED = 200  # examples of a round that tell whether the student has learned them


def learn(
    student: Learner, examples: list[Example], steps: int, seed: int, folder: Path, rate: float = 1.0
) -> dict[str, Any]:
    """A student learns; what that cost, its tokens by the mean cost of an example."""
    done = student.learn(examples, steps=steps, seed=seed, folder=folder, rate=rate)
    tokens = round(done.steps * student.batch * float(np.mean([cost or 0 for cost in student.costs(examples)])))
    loss = done.loss if done.loss is not None and math.isfinite(done.loss) else None
    return {"steps": done.steps, "tokens": tokens, "seconds": done.seconds, "loss": loss}


class Arm(NamedTuple):
    """What an arm trains on; see `arms.yaml`. `pace` is a name of `PACES`."""

    label: str
    seeds: str
    taught: bool
    pace: str


LISTED = yaml.safe_load(resources.files(__package__).joinpath("arms.yaml").read_text("utf-8"))
ARMS = {name: Arm(**arm) for name, arm in LISTED["arms"].items()}
INGREDIENTS = {(one, other): added for one, other, added in LISTED["ingredients"]}


class Rounds:
    """The rounds of one arm of a `Cell`. `run` does them; a pace of `PACES` says what one round trains on."""

    def __init__(self, cell: "Cell", student: Learner, client: Client, first: Path, lasting: Path) -> None:
        self.cell, self.student, self.lasting, self.client = cell, student, lasting, client
        self.arm, self.source, self.begin = ARMS[cell.arm], cell.task, first / "student"
        self.teaching = Teaching(client)
        found = json.loads((first / "mined.json").read_text("utf-8"))
        self.known: list[str | None] = found.pop("kinds")
        self.mined = Mined(**found)
        self.public = [one.example for one in self.source.public_set(cell.spec, cell.seed)]
        self.pool = [
            Item(example, kind, None if score is None else tapir.BEST - score)
            for example, kind, score in zip(self.public, self.known, self.mined.student, strict=False)
        ]
        self.alphas = design.schedule(cell.alpha_0, cell.delta_alpha, cell.rounds)
        self.target = dict(zip(self.source.tasks, cell.target, strict=True))
        self.material: list[Item] = []
        self.progress: dict[str, Any] | None = None

    def run(self) -> dict[str, Any]:
        """Every round that is not done yet; returns what is known of all: JSON."""
        state = self._resumed()
        while (number := len(state["rounds"])) < self.cell.rounds:
            chosen = self._chosen(number)
            examples = self.student.fitting([item.example for item in chosen])
            self.teaching.count("too long", asked=len(chosen), left_out=len(chosen) - len(examples))
            steps = self.student.steps_for(examples, self.cell.budget // self.cell.rounds)
            folder, different = self.lasting / f"learning-{number}", set(examples)
            done = learn(self.student, examples, steps, self._seed(number), folder, self.cell.round_rate)
            alpha = self.alphas[number] if self.arm.pace == "rising" else None
            kinds = tapir.shares([item for item in chosen if item.example in different])
            counts = {"examples": len(examples), "different": len(different), "shares": kinds}
            seen = {"learned": self._learned(examples), "looked": self._look()}
            state["rounds"].append({"round": number + 1, "alpha": alpha, **counts, **done, **seen})
            self._keep(number, state)
        return state

    def even(self, number: int) -> list[Item]:
        """All alike, epoch after epoch."""
        return self._at(design.even_round(len(self.material), self.cell.round_size, number, self.cell.seed))

    def balanced(self, number: int) -> list[Item]:
        """By the target distribution over kinds of tasks (TAPIR, task-aware re-balancing)."""
        return self._resampled(design.among(self.target, [item.kind for item in self.material]), number)

    def rising(self, number: int) -> list[Item]:
        """Balanced, and of every kind a share alpha of what the student of the round before finds hard (TAPIR).

        Hard are the mined examples that are hard now, and all new pairs, which were written after such.
        """
        pool = [item.example for item in self.pool]
        mined = self.teaching.mined(self.student.answer, pool) if number else self.mined
        places = self._hard(mined)
        n_new = design.apportion([1] * self.cell.rounds, self.cell.expanded)[number]
        self.material += self._expanded([self.pool[i] for i in places], n_new, number, spread=True)
        items, among = [*self.pool, *self.material], set(places)
        rest = [i for i in range(len(self.pool)) if i not in among and mined.mfd[i] is not None]
        hard = [*places, *range(len(self.pool), len(items))]
        kinds, alpha, n = [item.kind for item in items], self.alphas[number], self.cell.round_size
        drawn = design.rising_round(kinds, hard, rest, self.target, alpha, n, repeats=REPEATS, seed=self._seed(number))
        self.teaching.count("resampled", **drawn.manifest)
        self.teaching.count("hard", mined=len(self.pool), hard=len(among))
        order = np.random.default_rng([self.cell.seed, number]).permutation(drawn.indices)
        return [items[i] for i in order.tolist()]

    def progressing(self, number: int) -> list[Item]:
        """More of the kinds whose scores on a probe of public examples move (Matiisen et al. 2017)."""
        kinds = sorted({item.kind for item in self.material if item.kind})
        later = list(zip(self.public, self.known, strict=False))[len(self.pool) :]
        probe = {kind: [example for example, other in later if other == kind][:PROBED] for kind in kinds}
        before = self.progress and design.LearningProgress.from_dict(self.progress)
        scores = self.teaching.probed(self.student.answer, probe)
        state = (before or design.LearningProgress(tuple(kinds))).update(scores)
        self.progress = state.as_dict()
        return self._resampled(state.distribution, number)

    def competence(self, number: int) -> list[Item]:
        """From what the first student finds easy to all that was judged (Platanios et al. 2019)."""
        lacked, n, rounds = [item.lacked for item in self.material], self.cell.round_size, self.cell.rounds
        seeds = self.cell.seed, self._seed(number)
        return self._at(design.competence_round(lacked, n, number, rounds, c0=COMPETENCE, seeds=seeds))

    def _chosen(self, number: int) -> list[Item]:
        """What a round trains on: as it was kept by a process that was killed in this round, or drawn now."""
        path = self.lasting / f"chosen-{number}.json"
        if path.exists():
            kept = json.loads(path.read_text("utf-8"))
            self._take(kept)
            return [Item.of_line(line) for line in kept["chosen"]]
        if not self.material:
            self.material = self._first_material()
        chosen = PACES[self.arm.pace](self, number)
        chosen = self.teaching.refined(chosen, self.source.task_type) if self.arm.taught else chosen
        write_json(path, {**self._progressed(), "chosen": [item.line for item in chosen]})
        return chosen

    def _progressed(self) -> dict[str, Any]:
        """What has to be known after a kill, beside the student and the rounds that are done; `_take` takes it up."""
        material = [item.line for item in self.material]
        return {"progress": self.progress, "material": material, **self.teaching.as_dict()}

    def _take(self, kept: Mapping[str, Any]) -> None:
        self.progress, self.material = kept["progress"], [Item.of_line(line) for line in kept["material"]]
        self.teaching = Teaching(self.client, kept)

    def _first_material(self) -> list[Item]:
        """What the arm's rounds draw from: its seeds and, where a teacher expands them, its new pairs.

        TAPIR's rounds begin with nothing: they expand what is hard anew.
        """
        everything = [Item(one, kind, None) for one, kind in zip_longest(self.public, self.known)]
        if self.arm.seeds == "all":
            return everything
        rng = np.random.default_rng([self.cell.seed, 7])
        if not self.arm.taught:
            return [everything[i] for i in sorted(rng.permutation(len(everything))[: self.cell.round_size].tolist())]
        places = self._hard(self.mined)
        if self.arm.pace == "rising":
            return []
        if self.arm.seeds == "random":
            places = sorted(rng.permutation(len(self.pool))[: len(places)].tolist())
        seeds, spread = [self.pool[i] for i in places], self.arm.pace == "balanced"
        if spread:  # a kind without anything hard still has its share
            absent = [kind for kind in self.target if kind not in {item.kind for item in seeds}]
            seeds += [item for item in self.pool if item.kind in absent]
            self.teaching.count("kinds without a hard seed", kinds=len(absent))
        return [*seeds, *self._expanded(seeds, self.cell.expanded, 0, spread)]

    def _hard(self, mined: Mined) -> list[int]:
        """Places of what a student finds hard; where that is nothing or everything, what the first student did."""
        short = [-value > self.cell.delta for value in mined.mfd if value is not None]
        if mined is not self.mined and (all(short) or not any(short)):
            self.teaching.count("hard", rounds_without_a_selection=1)
            mined = self.mined
        return list(design.select(mined.mfd, self.cell.delta).hard.tolist())

    def _resampled(self, target: Mapping[str, float], number: int) -> list[Item]:
        kinds = [item.kind for item in self.material]
        drawn = design.rebalance(kinds, target, self.cell.round_size, seed=self._seed(number))
        about = drawn.manifest
        self.teaching.count("resampled", drawn=about["n"], repeats=about["repeats"], left_out=about["left_out"])
        return self._at(drawn.indices)

    def _at(self, places: design.Indices) -> list[Item]:
        return [self.material[i] for i in places.tolist()]

    def _expanded(self, seeds: Sequence[Item], n: int, number: int, spread: bool) -> list[Item]:
        """New pairs after the seeds: as many of each kind as it has seeds, or by the target distribution (`spread`)."""
        return self.teaching.expanded(
            seeds, n, target=self.target if spread else None, types=self.source.task_type,
            known=[*self.public, *(item.example for item in self.material)],
            keep_out=tapir.Exclusions(self.source.forbidden(), self.source.guard()), seed=self._seed(number),
        )  # fmt: skip

    def _learned(self, examples: Sequence[Example]) -> list[int]:
        """Of some of a round's examples: is the final answer the one that was taught? 0 or 1."""
        some, last = examples[:CHECKED], lambda text: text.strip().rpartition("\n")[2].strip()
        answers = self.student.answer(some)
        return [int(last(answer) == last(example.output)) for answer, example in zip(answers, some, strict=True)]

    def _look(self) -> dict[str, list[int]]:
        return self.source.look(self.student, self.cell.spec, self.cell.seed)

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
            return {"rounds": [], "begun": self._look(), **self._progressed()}
        state: dict[str, Any] = json.loads(path.read_text("utf-8"))
        self.student.restore(self.lasting / f"student-{len(state['rounds']) - 1}")
        self._take(state)
        return state


ALL = (Rounds.even, Rounds.balanced, Rounds.rising, Rounds.progressing, Rounds.competence)
PACES: dict[str, Callable[[Rounds, int], list[Item]]] = {pace.__name__: pace for pace in ALL}


class First(study_cell.Cell):
    """The first student of a seed, and what a judge thinks of it: what all its arms share.

    `asking` decides no reply (budgets, concurrency...), so it is no part of the address.
    """

    study: Literal["curriculum_first", "curriculum"] = "curriculum_first"
    version: Literal[2] = 2
    spec: learners.Spec
    task: Source
    teacher: Teacher
    mined: int
    asking: dict[str, Any] = Field(default_factory=dict, exclude=True)

    def learner(self, record: Record) -> Learner:
        return self.spec.make(self.seed, record)

    def lesson(self) -> Lesson:
        """The public set; what is graded of the student is told by the judge."""
        return Lesson([one.example for one in self.task.public_set(self.spec, self.seed)], {})

    def ask(self, record: Record) -> Client:
        """A client of the teacher, whose replies are kept in the record's store."""
        assert record.store is not None
        return self.teacher.connect(self.asking, record.store.root)

    def measured(self, record: Record) -> Row:
        """Train on the whole public set, and let the judge say what is hard."""
        student, public = self.learner(record), self.task.public_set(self.spec, self.seed)
        examples = student.fitting([one.example for one in public])
        done = learn(student, examples, self.steps, self.seed, record.lasting / "first")
        student.save(record.folder / "student")
        with self.ask(record) as client:
            asker = Counted(client)
            mined = tapir.mine(student.answer, [one.example for one in public[: self.mined]], asker)
            # The second half is probed by an automatic curriculum.
            questions = [distil.question_of(one.example) for one in public[: 2 * self.mined]]
            classified = distil.classify_all(asker, questions, self.task.kinds())
        kinds = [None if kind == OTHER else kind for kind in classified.kinds]
        write_json(record.folder / "mined.json", {**mined._asdict(), "kinds": kinds})
        took = {"tokens": done["tokens"], "train_seconds": round(done["seconds"], 2), "loss": done["loss"]}
        asked = {f"teacher_{name}": count for name, count in asker.counts.items()}
        trust = self.task.trust(public, kinds, mined.student, mined.answers)
        return {**took, "judging": mined.counts, "classifying": classified.counts, **asked, **trust}


class Cell(First):
    """One arm: everything its result depends on."""

    study: Literal["curriculum"] = "curriculum"
    arm: str
    target: tuple[float, ...]
    delta: float
    alpha_0: float
    delta_alpha: float
    rounds: int
    round_size: int
    expanded: int
    budget: int
    round_rate: float

    def needs(self) -> Sequence[Point]:
        """The first student that this arm goes on from."""
        return [First(**{name: value for name, value in self if name in First.model_fields and name != "study"})]

    def measured(self, record: Record) -> Row:
        """The rounds of the arm, from the first student on, and its exam."""
        (first,) = self.needs()
        about = {name: value for name, value in record.row_of(first).items() if name not in First.model_fields}
        with self.ask(record) as client:
            rounds = Rounds(self, self.learner(record), client, record.folder_of(first), record.lasting)
            state = rounds.run()
            rounds.student.save(record.folder)
            lines, of_exam = self.task.graded(rounds.student, Counted(client), self, record.folder)
        learned = state["rounds"][-1]["learned"]
        looks = [state["begun"], *(line.pop("looked") for line in state["rounds"])]
        lines.append(flag_line("seen", "", learned))
        for number, kinds in enumerate(looks):  # 0: the first student
            lines += [flag_line("look", kind, right) | {"round": number} for kind, right in kinds.items()]
        for line in state["rounds"]:
            del line["learned"]
            record.log(**line)
        costs = [(line["tokens"], line["steps"], line["seconds"]) for line in state["rounds"]]
        tokens, steps, seconds = map(sum, zip(*costs, strict=True))
        took = {"training_tokens": tokens, "optimiser_steps": steps, "train_seconds": round(seconds, 2)}
        asked = {f"teacher_{name}": count for name, count in rounds.teaching.asker.counts.items()}
        return {
            "label": rounds.arm.label, "learned": float(np.mean(learned)) >= harness.LEARNED, "first": about,
            **of_exam, **harness.accuracies_of(lines), **took, **asked,
            "rounds_of": state["rounds"], "distilled": state["distilled"],
            "difficulty": rounds.mined.difficulty([item.kind for item in rounds.pool]),
            "public_shares": tapir.shares(rounds.pool), "target_shares": rounds.target, GRADED: lines,
        }  # fmt: skip
