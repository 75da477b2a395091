"""The benchmark: this lab beside the plain way, in one run, so that a noisy machine slows both alike.

1. Seconds of training until 90 % of unseen rules are followed at I = 1,000: the `fast` recipe at its laptop sizes
   against `transformers.Trainer` with a `GPT2LMHeadModel` of the same sizes under the paper's recipe.
2. Examples per second of the vectorised generator against the plain interpreter (readable Python, one example at a
   time, the oracle's own search for the leftmost occurrence; not `str.replace`), at the paper's lengths.
3. Training steps per second, and the share of the machine's measured matrix-product peak that they attain.
4. Models per minute of a sweep over 16 models of one size, steps and batch: one after another with
   `transformers.Trainer`, one after another in our loop, as one fleet, and as the sweep itself decides.

5. What the lab itself costs (`labkit.lab.timing`).

1 to 3 run on one thread of the CPU, as a worker of a sweep does; in 4 the Trainer gets all cores, as it would by
default, and the sweep its processes. Only training is timed; grading is not.

`labkit.bench.language` is about fine-tuning, `labkit.bench.gpu` about one GPU.
"""

import random
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from io import StringIO
from typing import Any, NamedTuple

import numpy as np
import torch

from labkit import lab, learn
from labkit.design import allocate
from labkit.instructions import RewritingTask, draw_example_plain, draw_inputs, draw_rules
from labkit.lab import timing
from labkit.learn.learner import encoded
from labkit.learn.probe import product_rate
from labkit.studies.diversity_sweep import STUDY, Cell, points

TARGET = 0.9
PEER_PATIENCE = 10  # the peer is stopped when it has taken this many times as long: a lower bound is then printed
LOOK_EVERY = 25  # steps between gradings
SWEPT, SWEPT_STEPS = 16, 150  # the sweep's models, and their steps: enough that starting processes is no large part
ONE_BY_ONE = "transformers.Trainer, one after another"


class Race(NamedTuple):
    """A learner's way to the target: training seconds and steps, and the unseen accuracy it ended with."""

    seconds: float
    steps: int
    accuracy: float

    @property
    def reached(self) -> bool:
        return self.accuracy >= TARGET

    def __str__(self) -> str:
        bound = "" if self.reached else "more than "
        return f"{bound}{self.seconds:.1f} s ({self.steps} steps, unseen accuracy {self.accuracy:.3f})"


def main(seed: int = 0) -> None:
    """Run and print all five."""
    torch.set_num_threads(1)
    cell = cell_at(1000, seed)
    print(f"one thread, I = {cell.n_instructions}, {cell.layers} layers of width {cell.width}, seed {seed}", flush=True)
    ours = race_ours(cell)
    print(f"fast recipe to {TARGET:.0%} unseen:          {ours}", flush=True)
    peer = race_peer(cell, patience=PEER_PATIENCE * ours.seconds)
    print(f"Trainer, GPT-2, paper recipe:         {peer}")
    print(f"  -> {'' if peer.reached else 'more than '}{peer.seconds / ours.seconds:.1f} times sooner", flush=True)
    fast, plain = generator_rates()
    print(f"examples drawn at paper lengths:      {fast:,.0f} per second vectorised, {plain:,.0f} by the plain "
          f"interpreter\n  -> {fast / plain:.0f} times as many", flush=True)  # fmt: skip
    rate, share, peak = training_rate(cell)
    print(f"training:                             {rate:.1f} steps per second of {cell.batch_size} sequences\n"
          f"  -> {share:.0%} of the measured float32 matrix-product peak of one core ({peak / 1e9:.0f} GFLOP/s)\n"
          f"sweep of {SWEPT} models, {SWEPT_STEPS} steps of {cell.batch_size}, perceptron of one width, models per "
          "minute:", flush=True)  # fmt: skip
    rates = sweep_rates(SWEPT, SWEPT_STEPS)
    for name, value in rates.items():
        print(f"  {name:<58} {value:6.1f}   {value / rates[ONE_BY_ONE]:4.1f} times", flush=True)
    timing.main()


def cell_at(n_instructions: int, seed: int) -> Cell:
    """The laptop cell of the diversity sweep at one number of instructions."""
    return points(STUDY.resolve({"n_instructions": [n_instructions], "seeds": [seed], "noop_shares": []}))[0]


def sequences(cell: Cell) -> tuple[learn.Encoded, learn.Encoded]:
    """Training data and the exam on unseen rules."""
    lesson = cell.lesson()
    return encoded(lesson.data), encoded(lesson.exams["unseen"].data)


def race_ours(cell: Cell) -> Race:
    """Train by the cell's recipe until the target, graded now and then off the clock."""
    data, unseen = sequences(cell)
    answers = torch.from_numpy(unseen.tokens[:, unseen.prompt_length :])
    model = learn.build(cell.recipe, cell.model_shape(), cell.seed)
    reached: dict[str, float] = {}

    def look(step: int, loss: float, seconds: float) -> bool:
        reached["accuracy"] = float((learn.predict(model, unseen) == answers).all(1).float().mean())
        return reached["accuracy"] >= TARGET

    trained = learn.train(model, cell.recipe, data, learning_rate=cell.learning_rate, steps=cell.steps,
                          batch_size=cell.batch_size, seed=cell.seed, every=LOOK_EVERY, on_step=look)  # fmt: skip
    return Race(trained.seconds, trained.steps, reached["accuracy"])


def race_peer(cell: Cell, patience: float) -> Race:
    """`transformers.Trainer` on a GPT-2 of the same layers, width and heads (and a perceptron of one width, its least).

    The paper's recipe: AdamW at 1e-3, a linear schedule planned for 50 epochs. Only training is on the clock.
    """
    from transformers import TrainerCallback

    data, unseen = sequences(cell)
    model = peer(cell)
    answers = torch.from_numpy(unseen.tokens).long()

    class Clock(TrainerCallback):
        """Grades off the clock and stops at the target or when patience ends."""

        def __init__(self) -> None:
            self.seconds, self.accuracy, self.since = 0.0, 0.0, time.perf_counter()

        def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
            if state.global_step % LOOK_EVERY == 0:
                self.seconds += time.perf_counter() - self.since
                with torch.inference_mode():
                    model.eval()
                    guesses = [model(batch).logits[:, -unseen.answer_length - 1 : -1].argmax(-1)
                               for batch in answers.split(512)]  # fmt: skip
                    model.train()
                right = (torch.cat(guesses) == answers[:, -unseen.answer_length :]).all(1)
                self.accuracy = float(right.float().mean())
                control.should_training_stop = self.accuracy >= TARGET or self.seconds > patience
                self.since = time.perf_counter()

    clock = Clock()
    state = train_peer(model, cell, data, [clock], use_cpu=True, num_train_epochs=50)
    return Race(clock.seconds, state.global_step, clock.accuracy)


def peer(cell: Cell) -> Any:
    """transformers' GPT-2 at the cell's sizes."""
    from transformers import GPT2LMHeadModel

    torch.manual_seed(cell.seed)
    return GPT2LMHeadModel(learn.gpt2_configuration(cell.model_shape()))


def train_peer(model: Any, cell: Cell, data: learn.Encoded, callbacks: list[Any], **settings: Any) -> Any:
    """Train by `transformers.Trainer` with the paper's rate and our paper recipe's decay; its final state."""
    from transformers import PrinterCallback, Trainer, TrainingArguments, logging

    logging.set_verbosity_error()

    tokens = torch.from_numpy(data.tokens).long()
    labels = tokens.clone()
    labels[:, : data.prompt_length] = -100
    rows = [{"input_ids": words, "labels": label} for words, label in zip(tokens, labels, strict=True)]
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder, per_device_train_batch_size=cell.batch_size, learning_rate=1e-3,
            lr_scheduler_type="linear", optim="adamw_torch",
            weight_decay=0.01, max_grad_norm=0.0,  # as in labkit.learn.paper, and no clipping
            report_to=[], logging_strategy="no", save_strategy="no", disable_tqdm=True, seed=cell.seed, **settings,
        )  # fmt: skip
        trainer = Trainer(model=model, args=arguments, train_dataset=rows, callbacks=callbacks)
        trainer.remove_callback(PrinterCallback)
        for callback in callbacks:
            callback.since = time.perf_counter()
        return trainer.train()


def sweep_rates(models: int, steps: int, jobs: int | None = None) -> dict[str, float]:
    """Models per minute of one sweep, in each way of doing it; equal sizes, steps and batch.

    Ours have a perceptron of one width here, the least that GPT-2 can have, so that the models are equal, too.
    """
    given = {"n_instructions": [1000], "seeds": list(range(models)), "expansion": 1, "steps": steps}
    given |= {"noop_shares": [], "input_lengths": []}
    cells = points(STUDY.resolve(given))

    def trainer() -> None:
        for cell in cells:
            train_peer(peer(cell), cell, encoded(cell.lesson().data), [], max_steps=steps)

    fleet = lab.default_fleet()
    picked = f"fleets of up to {fleet}" if fleet > 1 else f"{lab.default_jobs()} processes of one thread"
    ways: dict[str, Callable[[], None]] = {
        ONE_BY_ONE: trainer,
        "our loop, one after another, one thread": lambda: _swept(cells, fleet=1, jobs=0),
        "our fleet of all, one process, one thread": lambda: _swept(cells, fleet=models, jobs=0),
        f"what the sweep picks ({picked})": lambda: _swept(cells, fleet=None, jobs=jobs),
    }
    rates = {}
    threads = torch.get_num_threads()
    for name, way in ways.items():
        torch.set_num_threads(lab.cores() if name == ONE_BY_ONE else 1)
        rates[name] = 60 * models / seconds_of(way)
    torch.set_num_threads(threads)
    return rates


def _swept(cells: Sequence[Cell], fleet: int | None, jobs: int | None) -> None:
    """A sweep that only trains, in a store of its own, without a word."""
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(StringIO()):
        quiet = lab.Progress(bar=False)
        store = lab.Store(folder)
        lab.sweep(cells, train_only, measure_many=train_only_many, store=store, jobs=jobs, fleet=fleet, progress=quiet)


def train_only(cell: Cell, record: lab.Record) -> dict[str, Any]:
    """A measurement without its exams."""
    return train_only_many([cell], [record])[0]


def train_only_many(cells: Sequence[Cell], records: Sequence[lab.Record]) -> list[dict[str, Any]]:
    """The same for a fleet."""
    device = learn.best_device()
    models = [learn.build(cell.recipe, cell.model_shape(), cell.seed).to(device) for cell in cells]
    members = [learn.Member(encoded(cell.lesson().data), cell.seed, cell.steps, cell.learning_rate) for cell in cells]
    done = learn.train_fleet(models, cells[0].recipe, members, batch_size=cells[0].batch_size, device=device)
    return [{"loss": trained.loss} for trained in done]


def generator_rates(n_fast: int = 500_000, n_plain: int = 5_000, rounds: int = 5) -> tuple[float, float]:
    """Examples per second at the paper's lengths (input 50, pattern 20): vectorised, and plain one by one.

    The two take turns, and the best round of each counts: a busy moment of the machine hits neither alone.
    """
    task = RewritingTask(pattern_length=20, input_length=50)
    rules = draw_rules(task, 1000, seed=0)
    index = np.repeat(np.arange(1000), allocate(n_fast, 1000))
    rng, sample = random.Random(0), [rules.rule(i) for i in range(100)]

    def draw_plainly() -> None:
        for i in range(n_plain):
            draw_example_plain(task, sample[i % 100], rng)

    fast, plain = [], []
    for turn in range(rounds):
        fast.append(n_fast / seconds_of(draw_inputs, task, rules, index, seed=turn))
        plain.append(n_plain / seconds_of(draw_plainly))
    return max(fast), max(plain)


def seconds_of(work: Callable[..., object], *given: Any, **settings: Any) -> float:
    """How long a piece of work takes."""
    began = time.perf_counter()
    work(*given, **settings)
    return time.perf_counter() - began


def training_rate(cell: Cell, steps: int = 60) -> tuple[float, float, float]:
    """Steps per second, their share of the matrix-product peak, and that peak in FLOP/s."""
    data = encoded(cell.lesson().data)
    model = learn.build(cell.recipe, cell.model_shape(), cell.seed)
    for n in (5, steps):  # the first few steps are slower
        trained = learn.train(model, cell.recipe, data, steps=n, batch_size=cell.batch_size, seed=0)
    rate, peak = steps / trained.seconds, product_rate()
    return rate, rate * flops_a_step(cell, data) / peak, peak


def flops_a_step(cell: Cell, data: learn.Encoded) -> float:
    """Floating-point operations of the matrix products of one training step (forward and twice that backward).

    A multiplication and an addition count as two. Left out: attention scores, embeddings, norms, the optimiser.
    """
    shape, length = cell.model_shape(), data.tokens.shape[1] - 1
    d, answer = shape.width, data.answer_length
    everywhere = (4 + 2 * shape.expansion) * d * d  # q, k, v, out, up and down, for a token
    last = length * 2 * d * d + answer * (2 + 2 * shape.expansion) * d * d  # keys and values everywhere, the rest not
    forward = (shape.layers - 1) * length * everywhere + last + answer * d * shape.vocabulary
    return 3 * 2 * cell.batch_size * forward
