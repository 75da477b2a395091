"""The playground: models of rewriting asked on rules of your own, taken apart by heads, fooled, and trained further.

    ground = studies.playground()  # the store's models, or a few that are trained now
    ground.panel("aaa -> bbb", "aaaaaaaa")

Every part of the panel is a plain function, too: `answers`, `heads`, `mistakes_by_kind`, `practise`.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from labkit import learn
from labkit.errors import BadRequest, unknown
from labkit.instructions.kinds import KINDS, PLAIN, Question, draw_kind
from labkit.lab import Row, Store
from labkit.learn import Encoded, Learner
from labkit.learn.inference import predict
from labkit.learn.live import LONGEST
from labkit.learn.train import Member, train_fleet
from labkit.show.asking import portable
from labkit.studies import wall
from labkit.studies.run import Run
from labkit.studies.study import Study

if TYPE_CHECKING:
    from labkit.show.panel import AskPanel

OFFERED, BATCH, FRESH = 6, 64, 1000  # models; examples per step; added to a seed whose questions nobody graded on


@dataclass
class Playground:
    """Models by address: their rows (what they were trained as), and those that are loaded."""

    store: Store
    rows: dict[str, Row]
    names: dict[str, str]
    learners: dict[str, Learner] = field(default_factory=dict)

    def row(self, address: str) -> Row:
        """What a model was trained as.

        Raises:
            BadRequest: for an address that is none of the playground's.
        """
        if str(address) not in self.rows:
            raise unknown("model", str(address), self.rows)
        return self.rows[str(address)]

    def learner(self, address: str) -> Learner:
        """A model, loaded once.

        Raises:
            BadRequest: for an address that is none of the playground's.
        """
        self.row(address)
        if address not in self.learners:
            self.learners[address] = learn.load(self.store.find(address))
        return self.learners[address]

    def answers(self, rules: str, text: str) -> Any:
        """The run of the rules step by step, with every model's answers: HTML."""
        from IPython.display import HTML

        from labkit.show.panel import answers_picture

        return HTML(answers_picture({name: self.learner(one) for one, name in self.names.items()}, rules, text))

    def accuracy(self, address: str, asked: list[list[str]], learner: Learner | None = None) -> int:
        """How many of some questions (pattern, replacement, input, right answer) a model gets right."""
        data = self._encoded(address, [Question(x, y, z) for x, y, z, _ in asked])
        right = torch.from_numpy(data.tokens).long()[:, data.prompt_length :]
        return int((predict((learner or self.learner(address)).model, data) == right).all(1).sum())

    def heads(self, address: str) -> list[dict[str, Any]]:
        """The share of unseen rules that a model follows whole, and with each of its heads switched off."""
        asked, learner = wall.questions(self.row(address)), self.learner(address)
        wide = learner.shape.width // learner.shape.heads
        lines = [{"head off": "none", "unseen rules followed": self.accuracy(address, asked) / len(asked)}]
        for layer in range(learner.shape.layers):
            for head in range(learner.shape.heads):
                less = learner._replace(model=copy.deepcopy(learner.model))
                with torch.no_grad():
                    less.model.blocks[layer].out[:, :, head * wide : (head + 1) * wide] = 0  # type: ignore[index, union-attr]
                share = self.accuracy(address, asked, less) / len(asked)
                lines.append({"head off": f"layer {layer + 1}, head {head + 1}", "unseen rules followed": share})
        return lines

    def mistakes_by_kind(self, address: str) -> list[dict[str, Any]]:
        """How many questions of each kind a model gets wrong, most mistakes first, with one of them."""
        lines = []
        for kind, asked in wall.kinds(self.row(address)).items():
            wrong = [one for one in asked if not self.accuracy(address, [one])]
            example = "{} -> {} on {}: {}".format(*wrong[0]) if wrong else ""
            lines.append({"kind": kind, "wrong": len(wrong), "asked": len(asked), "such as (right answer)": example})
        return sorted(lines, key=lambda line: -line["wrong"])

    def practise(self, address: str, kind: str, steps: int = 150,
                 tell: Callable[[str], None] = print) -> tuple[str, str]:  # fmt: skip
        """Train a copy of a model on, half on usual questions and half on those of a kind; its address and name.

        What it is graded on before and after is drawn by another seed than what it learns from.

        Raises:
            BadRequest: for an unknown kind or model, steps that are no number, or sizes that leave the kind no room.
        """
        if str(kind) not in KINDS:
            raise unknown("kind", str(kind), KINDS)
        if not isinstance(steps, int) or not 1 <= steps <= LONGEST:
            raise BadRequest(f"steps = {steps!r}: a whole number from 1 to {LONGEST:,}")
        learner, row = self.learner(address), self.row(address)
        sizes: dict[str, Any] = {"alphabet": row["alphabet"], "pattern": row["pattern_length"],
                                 "length": row["input_length"], "seed": row["seed"] + FRESH}  # fmt: skip
        n = steps * BATCH // 2
        data = self._encoded(address, [*draw_kind(PLAIN, n, **sizes), *draw_kind(kind, n, **sizes)])
        made = learner._replace(model=copy.deepcopy(learner.model))
        before = self._both(address, kind)

        def look(_: int, __: Any, step: int, loss: float, ___: float) -> bool:
            tell(f"training on “{kind}”: step {step} of {steps}, loss {loss:.3f}")
            return False

        rate = learn.RECIPES[learner.recipe].LEARNING_RATE / 4  # it has learned already
        train_fleet([made.model], learner.recipe, [Member(data, row["seed"], steps, rate)], batch_size=BATCH,
                    every=max(1, steps // 10), on_step=look)  # fmt: skip
        number = 1 + sum(one.startswith(f"{address}+") for one in self.rows)
        new, name = f"{address}+{number}", f"{self.names[address]}, then on “{kind}”"
        self.rows[new], self.names[new], self.learners[new] = row, name, made
        tell(f"“{kind}”: {before[0]} right before, {self._both(new, kind)[0]} after {steps} steps; "
             f"unseen rules: {before[1]} before, {self._both(new, kind)[1]} after")  # fmt: skip
        return new, name

    def _both(self, address: str, kind: str) -> tuple[str, str]:
        row = self.rows[address]
        asked = (wall.kinds(row)[kind], wall.questions(row))
        of_kind, unseen = (f"{self.accuracy(address, some)} of {len(some)}" for some in asked)
        return of_kind, unseen

    def _encoded(self, address: str, questions: list[Question]) -> Encoded:
        layout = self.learner(address).layout
        assert isinstance(layout, learn.Layout)
        return layout.encode([tuple(question) for question in questions], [question.answer for question in questions])

    def portable(self, address: str) -> Mapping[str, Any]:
        """A model as a page runs it, with its questions."""
        row, parts = self.row(address), portable(self.learner(address))
        return parts | {"asked": wall.questions(row), "kinds": wall.kinds(row)}

    def panel(self, rules: str = "aaa -> bbb", text: str = "aaaaaaaa") -> "AskPanel":
        """The widget; a saved copy of the notebook shows the answers instead."""
        from labkit.show.panel import AskPanel

        chosen = [*self.names][:1] + [*self.names][-1:] * (len(self.names) > 1)
        return AskPanel(self.names, chosen, self.portable, lambda *wish: self.practise(wish[0], wish[1], tell=wish[2]),
                        self.answers(rules, text).data, rules=str(rules), text=str(text))  # fmt: skip


def opened(study: Study, given: Mapping[str, Any]) -> Playground:
    """The store's models of a diversity sweep: of the settings with most models, one per number of rules.

    Where there is none, models are trained as `given` says (parameters of the study), which takes half a minute.
    """
    store, params = Store.default(), study.resolve(given)
    rows = [row for row in store.read(study.name)[0] if wall.asks_rules(row) and row["steps"] >= 100]
    if not rows:
        addresses = set(Run(study, params, store).measure().rows["address"])
        rows = [store.row(study.name, address) for address in sorted(addresses)]
    same = [name for name in store.settings(study.name, rows[0]["address"]) if name not in ("seed", "n_instructions")]
    groups: dict[str, dict[int, Row]] = {}
    for row in rows:
        groups.setdefault(str([row.get(name) for name in same]), {}).setdefault(row["n_instructions"], row)
    chosen = sorted(max(groups.values(), key=len).items(), reverse=True)
    kept = chosen[:: -(-len(chosen) // OFFERED)]
    return Playground(
        store, {row["address"]: row for _, row in kept}, {row["address"]: f"{n:,} rules" for n, row in kept}
    )
