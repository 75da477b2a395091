"""How one arm of the curriculum study is measured: a first student, what a judge thinks of it, and the rounds.

Every arm of a seed goes on from the same first student, which has learned the whole public set, and then trains for the
same rounds, each worth the same number of tokens; arms differ in what a round trains on alone (`ARMS`). What a teacher
or judge said is in the client's cache: arms that ask the same are answered once, and a killed run asks nothing twice.

The parts of TAPIR (Yue et al. 2024, arXiv 2405.13448), and where they are:
    seed selection by Model Fitting Difficulty   `mine`, `design.curriculum.select`
    task-aware re-balancing                      `design.curriculum.rebalance`, `apportion` and `mixed_round`
    expansion with in-context seeds              `teach.distil.expand_all`
    response refinement                          `teach.distil.refine_all`
    rounds with a rising share of hard examples  `design.curriculum.schedule`, `Rounds.rising`; re-mined every round

Guaranteed: a killed arm goes on in the round that it was in, from the student of the last whole round, with the
material that it had; equal cells give equal rows. Rounds are worth equal tokens up to half an optimiser step, counted
by the mean cost of what is trained on. Left open: requests that failed are asked again after a kill.
"""

import json
import math
import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from labkit.design import curriculum as design
from labkit.instructions import Example
from labkit.lab import Record, Store, write_json
from labkit.studies import curriculum_data as data
from labkit.studies import language, symbolic
from labkit.studies.students import SmallStudent, Student, TunedStudent
from labkit.teach import distil, oracle, prompts
from labkit.teach import judge as judging
from labkit.teach.client import Client, Failure, Reply, Request, Settings

if TYPE_CHECKING:
    from labkit.studies.curriculum import Cell, First

SETTINGS = "LABKIT_TEACHER_SETTINGS"  # those that decide no reply (budgets, concurrency...), as JSON
CACHE = Path("teacher") / "replies.sqlite"  # in the store
BEST = 10.0  # a judge's best rating
PROBED = 20  # public examples for each kind of task whose scores tell learning progress; they are not mined
REPEATS = 4  # times at most that a round of TAPIR repeats an example for the sake of alpha
WRITTEN = 20  # new pairs that a teacher is asked for at once
COMPETENCE = 0.2  # share of the examples, the easiest, that the first round of that arm admits
CHECKED = 200  # examples of a round that tell whether the student has learned them


class Arm(NamedTuple):
    """What an arm trains on.

    Attributes:
        label: For people.
        seeds: Where its examples come from: all of the public set, a random subset of it, or what the first student
            finds hard. A taught arm has as many seeds as are hard; a subset that is not taught is as large as a round.
        taught: Are the seeds expanded, and all responses refined by the teacher?
        pace: What a round takes of them: `even` (all alike), `balanced` (by the target distribution), `rising`
            (balanced, with a rising share of what the current student finds hard), `progressing`, `competence`.
    """

    label: str
    seeds: str
    taught: bool
    pace: str


ARMS = {
    "random": Arm("random subset", "random", False, "even"),
    "full": Arm("full set", "all", False, "even"),
    "taught": Arm("random subset, taught", "random", True, "even"),
    "hard": Arm("hard subset, taught", "hard", True, "even"),
    "balanced": Arm("hard subset, taught, balanced", "hard", True, "balanced"),
    "tapir": Arm("TAPIR: taught, balanced, in rounds", "hard", True, "rising"),
    "progress": Arm("automatic: learning progress, taught", "random", True, "progressing"),
    "competence": Arm("automatic: competence, taught", "random", True, "competence"),
}


class Asked:
    """A client that counts what is asked through it: each different request once, whoever paid for it."""

    def __init__(self, client: Client, before: Mapping[str, int] | None = None, keys: Sequence[str] = ()) -> None:
        self.client, self.counts, self.keys = client, Counter(before or {}), set(keys)

    def ask_many(self, requests: Sequence[Request], /) -> list[Reply | Failure]:
        outcomes = self.client.ask_many(requests)
        for request, outcome in zip(requests, outcomes, strict=True):
            key = self.client.key(request)[:16]
            if isinstance(outcome, Failure):
                self.counts["failures"] += 1
            elif key not in self.keys:
                self.keys.add(key)
                self.counts["requests"] += 1
                self.counts["prompt_tokens"] += outcome.prompt_tokens
                self.counts["completion_tokens"] += outcome.completion_tokens
        return outcomes


class Mined(NamedTuple):
    """What a judge thinks of a student's answers and of the public ones; lists by place in the mined examples."""

    mfd: list[float | None]
    student: list[float | None]
    public: list[float | None]
    answers: list[str]
    counts: dict[str, Any]


class Item(NamedTuple):
    """Something to train on: its kind, and how many points the first student's answer to it (or to its seeds) lacked.

    Not the MFD, which a wrong public answer makes look easy. None: it was not judged.
    """

    example: Example
    kind: str | None
    lacked: float | None


def teacher(asking: Mapping[str, Any], name: str) -> Client:
    """A client of the teacher, whose replies are kept in the store.

    Raises:
        BadRequest: when the environment names no endpoint, or a setting makes no sense.
    """
    path = Store.default().root / CACHE
    path.parent.mkdir(parents=True, exist_ok=True)
    others = json.loads(os.environ.get(SETTINGS, "{}"))
    identity = f"offline {oracle.MODEL} {oracle.VERSION}" if offline(name) else None
    return Client(Settings(model=name, **{**others, **asking}), path, identity=identity)


def offline(name: str) -> bool:
    """Is a teacher of this name the offline server?"""
    return name.partition(":")[0] == oracle.MODEL


def student_of(cell: "First") -> Student:
    """A student that has learned nothing."""
    return SmallStudent(cell) if cell.model is None else TunedStudent(cell.settings, cell.new_tokens)


def mine(student: Student, examples: Sequence[Example], asker: judging.Asker) -> Mined:
    """The Model Fitting Difficulty of examples (TAPIR, seed selection): the student answers, the judge scores both.

    MFD(x_i) = f_J(x_i, ~y_i) - f_J(x_i, y_i): negative where the student falls short of the public answer.
    """
    answers = student.answer(examples)
    questions = [distil.question_of(example) for example in examples]
    found = judging.difficulties(judging.Judge(asker), questions, answers, [example.output for example in examples])
    return Mined(found.mfd, found.student.values, found.public.values, answers, found.counts)


def measure_first(first: "First", record: Record) -> dict[str, Any]:
    """Train the first student on the whole public set, and let the judge say what it finds hard."""
    student, public = student_of(first), data.public_set(first)
    fitting = data.fitting([one.example for one in public], student)
    done = student.learn(fitting, first.steps, first.seed, record.lasting / "first")
    student.save(record.folder / "student")
    with teacher(first.decisive, first.teacher) as client:
        asker = Asked(client)
        some = public[: first.mined]
        mined = mine(student, [one.example for one in some], asker)
        questions = [distil.question_of(one.example) for one in public[: 2 * first.mined]]  # the second half is probed
        classified = distil.classify_all(asker, questions, data.kinds(first))
    kinds = [None if kind == data.OTHER else kind for kind in classified.kinds]
    write_json(record.folder / "mined.json", {**mined._asdict(), "kinds": kinds})
    row: dict[str, Any] = {
        "tokens": done.tokens,
        "train_seconds": round(done.seconds, 2),
        "loss": done.loss if math.isfinite(done.loss) else None,
        "judging": mined.counts,
        "classifying": classified.counts,
        **{f"teacher_{name}": count for name, count in asker.counts.items()},
    }
    if first.model is not None:
        return row
    tasks = [one.task for one in some if one.task is not None]
    right = language.accepted(tasks, first.confirm_unsafe)(mined.answers)[""].tolist()
    agreed = judging.agreement(mined.student, right, [task.instruction.key for task in tasks])
    known = [one.kind for one in public[: len(kinds)]]
    return row | {
        "agreement": {
            name: one and [one.mean, one.lo, one.hi]
            for name, one in (("accuracy", agreed.accuracy), ("kappa", agreed.kappa), ("auc", agreed.auc))
        },
        "calibration": [[level.score, level.answers, *level.share_right[:3]] for level in agreed.table],
        "kinds_right": float(np.mean([a == b for a, b in zip(kinds, known, strict=True)])),
    }


def measure(cell: "Cell", record: Record) -> dict[str, Any]:
    """The rounds of one arm, from the first student on, and its exam."""
    store, first = Store.default(), cell.first()
    about = store.measure(first, measure_first)
    with teacher(cell.decisive, cell.teacher) as client:
        rounds = Rounds(cell, client, store.folder(first), record.lasting)
        state = rounds.run()
        for line in state["rounds"]:
            record.log(**{name: value for name, value in line.items() if name not in ("looked", "learned")})
        rounds.student.save(record.folder / "student" if cell.model else record.folder)  # `labkit ask` looks there
        exam = data.exam(first, judging.Judge(Asked(client)), record.folder).grade(rounds.student)
    learned = state["rounds"][-1]["learned"]
    return {
        "label": rounds.arm.label,
        "kinds": list(rounds.exam.kinds),
        **exam,
        **symbolic.graded("seen", torch.tensor(learned, dtype=torch.bool), np.arange(len(learned)), len(learned), {}),
        "learned": float(np.mean(learned)) >= symbolic.LEARNED,
        "begun": state["begun"],
        "rounds_of": state["rounds"],
        "training_tokens": sum(line["tokens"] for line in state["rounds"]),
        "optimiser_steps": sum(line["steps"] for line in state["rounds"]),
        "train_seconds": round(sum(line["seconds"] for line in state["rounds"]), 2),
        "distilled": state["distilled"],
        "difficulty": difficulty(rounds.mined, [item.kind for item in rounds.pool]),
        "public_shares": shares([item.kind for item in rounds.pool if item.kind]),
        "first": {name: about[name] for name in about if name not in type(first).model_fields},
        **{f"teacher_{name}": count for name, count in rounds.asker.counts.items()},
    }


def difficulty(mined: Mined, kinds: Sequence[str | None]) -> dict[str, dict[str, int]]:
    """How many examples of each kind have which MFD, rounded to a point."""
    found: dict[str, Counter[str]] = {}
    for kind, value in zip(kinds, mined.mfd, strict=True):
        if kind is not None and value is not None:
            found.setdefault(kind, Counter()).update([str(round(value))])
    return {kind: dict(counts) for kind, counts in sorted(found.items())}


def shares(kinds: Sequence[str]) -> dict[str, float]:
    """The share of each kind."""
    return {kind: count / len(kinds) for kind, count in sorted(Counter(kinds).items())}


class Rounds:
    """The rounds of one arm. `run` does them; the methods that an `Arm.pace` names say what one round trains on."""

    def __init__(self, cell: "Cell", client: Client, first: Path, lasting: Path) -> None:
        self.cell, self.lasting, self.asker = cell, lasting, Asked(client)
        self.arm, self.first = ARMS[cell.arm], cell.first()
        self.student, self.begin = student_of(self.first), first / "student"
        found = json.loads((first / "mined.json").read_text("utf-8"))
        self.known: list[str | None] = found.pop("kinds")
        self.mined = Mined(**found)
        self.public = [one.example for one in data.public_set(self.first)]
        self.pool = [
            Item(example, kind, None if score is None else BEST - score)
            for example, kind, score in zip(self.public, self.known, self.mined.student, strict=False)
        ]
        self.exam = data.exam(self.first, judging.Judge(self.asker), lasting)
        self.alphas = design.schedule(cell.alpha_0, cell.delta_alpha, cell.rounds)
        self.target = dict(zip(cell.tasks, cell.target, strict=True))
        self.material: list[Item] = []
        self.distilled: dict[str, Counter[str]] = {}
        self.progress: dict[str, Any] | None = None

    def run(self) -> dict[str, Any]:
        """Every round that is not done yet; returns what is known of all: JSON."""
        state = self._resumed()
        while (number := len(state["rounds"])) < self.cell.rounds:
            chosen = self._chosen(number)
            examples = data.fitting([item.example for item in chosen], self.student)
            self._count("too long", asked=len(chosen), left_out=len(chosen) - len(examples))
            steps = self.student.steps_for(examples, self.cell.budget // self.cell.rounds)
            folder = self.lasting / f"learning-{number}"
            done = self.student.learn(examples, steps, self._seed(number), folder, self.cell.round_rate)
            fits = set(examples)
            kept = [item for item in chosen if item.example in fits]
            state["rounds"].append(
                {
                    "round": number + 1,
                    "alpha": self.alphas[number] if self.arm.pace == "rising" else None,
                    "examples": len(examples),
                    "different": len(fits),
                    "shares": shares([item.kind for item in kept if item.kind]),
                    **done._asdict(),
                    "loss": done.loss if math.isfinite(done.loss) else None,
                    "learned": self._learned(examples),
                    "looked": self.exam.look(self.student),
                }
            )
            self._keep(number, state)
        return state

    def even(self, number: int) -> list[Item]:
        """The next of an endless stream of shuffled epochs, so that rounds together go through everything evenly."""
        items, n = self.material, self.cell.round_size
        rng = np.random.default_rng([self.cell.seed, len(items)])
        order = np.concatenate([rng.permutation(len(items)) for _ in range(-(-n * (number + 1) // len(items)))])
        return [items[i] for i in order[n * number : n * (number + 1)].tolist()]

    def balanced(self, number: int) -> list[Item]:
        """By the target distribution over kinds of tasks (TAPIR, task-aware re-balancing)."""
        kinds = [item.kind for item in self.material]
        return self._resampled(kinds, design.among(self.target, kinds), number)

    def rising(self, number: int) -> list[Item]:
        """Balanced, and of every kind a share alpha of what the student of the round before finds hard (TAPIR).

        Hard are the mined examples that are hard now, and all new pairs, which were written after such. A kind that has
        too few examples on one side to be repeated at most `REPEATS` times gets more of the other.
        """
        mined = self.mined
        if number:
            mined = mine(self.student, [item.example for item in self.pool], self.asker)
            self._count("judged", **{name: n for name, n in mined.counts.items() if isinstance(n, int)})
        places = self._hard(mined)
        n_new = design.apportion([1] * self.cell.rounds, self.cell.expanded)[number]
        self.material += self._expanded([self.pool[i] for i in places], n_new, number, spread=True)
        items, among = [*self.pool, *self.material], set(places)
        rest = [i for i in range(len(self.pool)) if i not in among and mined.mfd[i] is not None]
        hard = [*places, *range(len(self.pool), len(items))]
        target = design.among(self.target, [items[i].kind for i in (*hard, *rest)])
        chosen: list[int] = []
        for kind, n in zip(target, design.apportion(list(target.values()), self.cell.round_size), strict=True):
            mine_hard, mine_rest = ([i for i in part if items[i].kind == kind] for part in (hard, rest))
            if n:
                share = max(min(self.alphas[number], REPEATS * len(mine_hard) / n), 1 - REPEATS * len(mine_rest) / n)
                alpha = min(1.0, max(0.0, share)) if mine_hard else 0.0
                drawn = design.mixed_round(mine_hard, mine_rest, alpha, n, seed=self._seed(number), repeat=True)
                self._count("resampled", drawn=n, hard=drawn.manifest["hard"], repeats=drawn.manifest["repeats"])
                chosen += drawn.indices.tolist()
        self._count("hard", mined=len(self.pool), hard=len(among))
        return [items[i] for i in np.random.default_rng([self.cell.seed, number]).permutation(chosen).tolist()]

    def progressing(self, number: int) -> list[Item]:
        """More of the kinds whose scores on a probe of public examples move (Matiisen et al. 2017)."""
        kinds = sorted({item.kind for item in self.material if item.kind})
        state = self.progress and design.LearningProgress.from_dict(self.progress)
        state = (state or design.LearningProgress(tuple(kinds))).update(self._probed(kinds))
        self.progress = state.as_dict()
        return self._resampled([item.kind for item in self.material], state.distribution, number)

    def competence(self, number: int) -> list[Item]:
        """From what the first student finds easy to all that was judged (Platanios et al. 2019)."""
        items, n = [item for item in self.material if item.lacked is not None], self.cell.round_size
        ties = np.random.default_rng([self.cell.seed, 11]).permutation(len(items)) / len(items)  # in a fixed order
        hardness = [(item.lacked or 0) + tie for item, tie in zip(items, ties, strict=True)]
        state = design.Competence(total=max(1, self.cell.rounds - 1), c0=COMPETENCE, time=number)
        return [items[i] for i in state.draw(hardness, n, seed=self._seed(number)).tolist()]

    def _chosen(self, number: int) -> list[Item]:
        """What a round trains on: as it was kept by a process that was killed in this round, or drawn now."""
        path = self.lasting / f"chosen-{number}.json"
        if path.exists():
            found = json.loads(path.read_text("utf-8"))
            self.progress, self.material = found["progress"], _items(found["material"])
            self.distilled = {name: Counter(part) for name, part in found["distilled"].items()}
            self.asker = Asked(self.asker.client, found["asked"], found["keys"])
            return _items(found["chosen"])
        if not self.material:
            self.material = self._first_material()
        chosen = getattr(self, self.arm.pace)(number)
        chosen = self._refined(chosen) if self.arm.taught else chosen
        write_json(path, {**self._progressed(), "chosen": [_line(item) for item in chosen]})
        return chosen

    def _progressed(self) -> dict[str, Any]:
        """What has to be known after a kill, beside the student and the rounds that are done."""
        return {
            "progress": self.progress,
            "material": [_line(item) for item in self.material],
            "distilled": {name: dict(part) for name, part in self.distilled.items()},
            "asked": dict(self.asker.counts),
            "keys": sorted(self.asker.keys),
        }

    def _first_material(self) -> list[Item]:
        """What the arm's rounds draw from: its seeds and, where a teacher expands them, its new pairs.

        TAPIR's rounds begin with nothing: they expand what is hard anew.
        """
        if self.arm.seeds == "all":
            return [Item(one, kind, None) for one, kind in zip_longest(self.public, self.known)]
        rng = np.random.default_rng([self.cell.seed, 7])
        if not self.arm.taught:
            order = sorted(rng.permutation(len(self.public))[: self.cell.round_size].tolist())
            known = dict(enumerate(self.known))
            return [Item(self.public[i], known.get(i), None) for i in order]
        hard = self._hard(self.mined)
        if self.arm.pace == "rising":
            return []
        order = sorted(rng.permutation(len(self.pool))[: len(hard)].tolist())
        seeds = [self.pool[i] for i in (hard if self.arm.seeds == "hard" else order)]
        spread = self.arm.pace == "balanced"
        if spread:  # a kind without anything hard still has its share
            absent = [kind for kind in self.target if kind not in {item.kind for item in seeds}]
            seeds += [item for item in self.pool if item.kind in absent]
            self._count("kinds without a hard seed", kinds=len(absent))
        return [*seeds, *self._expanded(seeds, self.cell.expanded, 0, spread)]

    def _hard(self, mined: Mined) -> list[int]:
        """Places of what a student finds hard; where that is nothing or everything, what the first student did."""
        short = [-value > self.cell.delta for value in mined.mfd if value is not None]
        if mined is not self.mined and (all(short) or not any(short)):
            self._count("hard", rounds_without_a_selection=1)
            mined = self.mined
        return list(design.select(mined.mfd, self.cell.delta).hard.tolist())

    def _resampled(self, kinds: Sequence[str | None], target: Mapping[str, float], number: int) -> list[Item]:
        drawn = design.rebalance(kinds, target, self.cell.round_size, seed=self._seed(number))
        manifest = drawn.manifest
        self._count("resampled", drawn=manifest["n"], repeats=manifest["repeats"], left_out=manifest["left_out"])
        return [self.material[i] for i in drawn.indices.tolist()]

    def _expanded(self, seeds: Sequence[Item], n: int, number: int, spread: bool) -> list[Item]:
        """New pairs after the seeds: as many of each kind as it has seeds, or by the target distribution (`spread`)."""
        kinds = [item.kind for item in seeds]
        if n < 1 or not any(kinds):
            return []
        wanted: int | dict[str, int] = n
        if spread:
            target = design.among(self.target, kinds)
            wanted = dict(zip(target, design.apportion(list(target.values()), n), strict=True))
        found = distil.expand_all(
            self.asker,
            [item.example for item in seeds],
            kinds,
            wanted,
            difficulty=["unknown" if item.lacked is None else round(item.lacked) for item in seeds],
            each=WRITTEN,
            known=[*self.public, *(item.example for item in self.material)],
            forbidden=data.forbidden(self.first),
            guard=data.guard(self.first),
            types={kind: data.task_type(self.first, kind) for kind in kinds if kind},
            seed=self._seed(number),
        )
        self._count("expanded", **found.counts)
        judged = [[seeds[i].lacked for i in places] for places in found.origins]
        lacked = [float(np.mean([x for x in some if x is not None])) if any(some) else some[0] for some in judged]
        return [Item(*item) for item in zip(found.examples, found.kinds, lacked, strict=True)]

    def _refined(self, items: Sequence[Item]) -> list[Item]:
        """The items with the teacher's responses; those that it has written itself have them."""
        public = list(dict.fromkeys(item for item in items if item.example.source != distil.SOURCE))
        types = [data.task_type(self.first, item.kind) for item in public]
        found = distil.refine_all(self.asker, [item.example for item in public], types)
        self._count("refined", **found.counts)
        better = dict(zip(public, found.examples, strict=True))
        return [item._replace(example=better.get(item, item.example)) for item in items]

    def _probed(self, kinds: Sequence[str]) -> dict[str, float | None]:
        """The judge's mean score of the student on some public examples of each kind that are not mined."""
        later = list(zip(self.public, self.known, strict=False))[len(self.pool) :]
        some = {kind: [example for example, other in later if other == kind][:PROBED] for kind in kinds}
        examples = [example for part in some.values() for example in part]
        pairs = [
            prompts.Pair(distil.question_of(example), answer)
            for example, answer in zip(examples, self.student.answer(examples), strict=True)
        ]
        judged = judging.Judge(self.asker).score(pairs)
        self._count("judged", **{name: n for name, n in judged.counts.items() if isinstance(n, int)})
        scores = iter(judged.values)
        found = {kind: [score for _ in part if (score := next(scores)) is not None] for kind, part in some.items()}
        return {kind: float(np.mean(part)) if part else None for kind, part in found.items()}

    def _learned(self, examples: Sequence[Example]) -> list[int]:
        """Of some of a round's examples: is the final answer the one that was taught? 0 or 1."""
        some = examples[:CHECKED]
        last = lambda text: text.strip().rpartition("\n")[2].strip()  # noqa: E731
        answers = self.student.answer(some)
        return [int(last(answer) == last(example.output)) for answer, example in zip(answers, some, strict=True)]

    def _seed(self, number: int) -> int:
        return 1000 * self.cell.seed + number

    def _count(self, part: str, **counts: int) -> None:
        self.distilled.setdefault(part, Counter()).update(counts)

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
            return {"rounds": [], "begun": self.exam.look(self.student), **self._progressed()}
        state: dict[str, Any] = json.loads(path.read_text("utf-8"))
        self.student.restore(self.lasting / f"student-{len(state['rounds']) - 1}")
        self.progress, self.material = state["progress"], _items(state["material"])
        self.distilled = {name: Counter(part) for name, part in state["distilled"].items()}
        self.asker = Asked(self.asker.client, state["asked"], state["keys"])
        return state


def _line(item: Item) -> list[Any]:
    one = item.example
    return [one.instruction, one.input, one.output, one.source, one.instruction_id, item.kind, item.lacked]


def _items(lines: Sequence[Sequence[Any]]) -> list[Item]:
    return [Item(Example(*line[:5]), *line[5:]) for line in lines]
