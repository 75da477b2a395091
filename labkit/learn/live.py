"""Models in training that a person watches: on a thread of their own, stopped and gone on with at any time.

Guaranteed: all models train in lockstep as one fleet, on one CPU thread, so that whoever watches (a notebook's kernel)
stays free; each sees every one of its examples once; all are asked the same unseen rules; a stopped training goes on
with the very next step. Left open: a stop takes hold at the next look, not in the middle of a step, and torch's number
of CPU threads stays 1 in this process afterwards.
"""

from collections.abc import Callable, Sequence
from threading import Event, Lock, Thread
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import nn

from labkit.errors import BadRequest, first_line
from labkit.instructions import RewritingTask, Rule, decode, draw_inputs, draw_rules
from labkit.learn.checkpoint import build
from labkit.learn.encoding import Encoded, encode_rewriting
from labkit.learn.inference import generate, predict
from labkit.learn.train import Member, train_fleet
from labkit.learn.transformer import Shape

TASK = RewritingTask(pattern_length=3, input_length=8)
RECIPE, BATCH, ASKED = "fast", 64, 200
LONGEST = 100_000  # steps
State = Literal["ready", "running", "stopped", "finished", "failed"]


class Look(NamedTuple):
    """A model at one step: the loss of its last batch, its answer to the one question that is shown (as written, letter
    after letter), and the share of all unseen rules that it follows to the letter."""

    step: int
    loss: float
    answer: str
    followed: float


class Live:
    """One model per number of rules in `counts`, not yet started.

    Attributes:
        state: What they are doing; `problem` says in one sentence why, where it is "failed".
        looks: What was seen of each so far, by its number of rules.
        rule, text, right: The question that is shown, of an unseen rule, and its answer.

    Raises:
        BadRequest: for no steps or too many, or for fewer rules than one or more than the examples.
    """

    def __init__(
        self, counts: Sequence[int], *, steps: int, seed: int = 0, every: int = 5,
        tell: Callable[["Live"], None] = lambda live: None,
    ) -> None:  # fmt: skip
        """`tell(live)` is called on the training's thread after each look at all models, and at the end."""
        if not 1 <= steps <= LONGEST:
            raise BadRequest(f"steps = {steps}: a training that is watched has from 1 to {LONGEST:,}")
        for n in counts:
            if not 1 <= n <= steps * BATCH:
                raise BadRequest(f"{n:,} rules: {steps * BATCH:,} examples teach from 1 to {steps * BATCH:,} rules")
        self.looks: dict[int, list[Look]] = {n: [] for n in counts}
        self.state: State = "ready"
        self.steps, self.problem = steps, ""
        self._seed, self._every, self._tell, self._closed = seed, every, tell, False
        unseen = draw_rules(TASK, ASKED, seed=seed, split="test")
        asked = draw_inputs(TASK, unseen, np.arange(ASKED), seed=seed)
        self._exam = encode_rewriting(TASK, unseen, asked)
        self.rule: Rule = unseen.rule(0)
        self.text, self.right = decode(asked.z[0], TASK.alphabet), decode(asked.answer[0], TASK.alphabet)
        self._going, self._lock, self._thread = Event(), Lock(), Thread(target=self._run, daemon=True)

    def go(self) -> None:
        """Start, or go on; nothing where it runs already or is over."""
        if self._move({"ready", "stopped"}, "running"):
            self._going.set()
            if self._thread.ident is None:
                self._thread.start()

    def stop(self) -> None:
        """Stand still after the next look; nothing where it does not run."""
        if self._move({"running"}, "stopped"):
            self._going.clear()

    def close(self) -> None:
        """End the training for good, wherever it is."""
        self._closed = True
        self._going.set()

    def wait(self, seconds: float | None = None) -> None:
        """Until it is over, or so long."""
        if self._thread.ident is not None:
            self._thread.join(seconds)

    def _move(self, before: set[State], after: State) -> bool:
        with self._lock:
            moves = self.state in before
            self.state = after if moves else self.state
        return moves

    def _run(self) -> None:
        try:
            torch.set_num_threads(1)
            shape = Shape(len(self._exam.vocabulary), self._exam.tokens.shape[1])
            members = [Member(self._examples(n), self._seed, self.steps) for n in self.looks]
            models = [build(RECIPE, shape, self._seed) for _ in members]
            train_fleet(models, RECIPE, members, batch_size=BATCH, every=self._every, on_step=self._look)
            self._move({"running", "stopped"}, "finished")
        except Exception as error:  # nobody else would see it: it is a thread's
            self.problem = first_line(error)
            self._move({"running", "stopped"}, "failed")
        if not self._closed:
            self._tell(self)

    def _examples(self, n: int) -> Encoded:
        """As many as are seen, spread evenly over the first n rules."""
        rules = draw_rules(TASK, n, seed=self._seed)
        index = np.arange(self.steps * BATCH) % n
        return encode_rewriting(TASK, rules, draw_inputs(TASK, rules, index, seed=self._seed))

    def _look(self, member: int, model: nn.Module, step: int, loss: float, _: float) -> bool:
        exam, tokens = self._exam, torch.from_numpy(self._exam.tokens).long()
        followed = (predict(model, exam) == tokens[:, exam.prompt_length :]).all(1).float().mean().item()
        (written,) = generate(model, tokens[:1, : exam.prompt_length], exam.answer_length).tolist()
        answer = "".join(exam.vocabulary[token] for token in written)
        list(self.looks.values())[member].append(Look(step, loss, answer, followed))
        if member == len(self.looks) - 1 and not self._closed:
            self._tell(self)
            self._going.wait()
        return self._closed
