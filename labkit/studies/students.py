"""Students of a curriculum: small transformers from scratch and fine-tuned Hugging Face models behind one interface.

A student answers questions, says what an example costs in tokens, and learns from examples for some optimiser steps,
again and again: its optimiser and schedule begin anew in each round, its weights do not. `save` and `restore` carry it
from one round, or one process, to the next.
"""

import shutil
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from labkit import learn
from labkit.errors import BadRequest
from labkit.instructions import Example
from labkit.learn import chat, qlora
from labkit.studies.symbolic import ModelCell

GENERATED = 512  # questions answered at once


class Learned(NamedTuple):
    """What a round of learning cost: optimiser steps, tokens of questions and answers seen, seconds; and the loss."""

    steps: int
    tokens: int
    seconds: float
    loss: float


class Student(ABC):
    """See the module; `batch` is the number of examples a step."""

    batch: int

    @abstractmethod
    def costs(self, examples: Sequence[Example]) -> list[int | None]:
        """Tokens of each example's question and answer; None where it is too long to be learned from."""

    @abstractmethod
    def answer(self, examples: Sequence[Example]) -> list[str]:
        """Greedy answers to the examples' questions; nothing where a question is too long."""

    @abstractmethod
    def learn(self, examples: Sequence[Example], steps: int, seed: int, folder: Path, rate: float = 1.0) -> Learned:
        """Learn from examples, none of them too long, at a share of the usual rate.

        `folder` is for what shall survive a kill.
        """

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Keep the student in a folder."""

    @abstractmethod
    def restore(self, folder: Path) -> None:
        """Become the student that was kept in a folder."""

    def steps_for(self, examples: Sequence[Example], tokens: int) -> int:
        """The optimiser steps in which about so many tokens are seen, to half a step."""
        costs = [cost or 0 for cost in self.costs(examples)]
        return max(1, round(tokens / (self.batch * float(np.mean(costs)))))


class SmallStudent(Student):
    """A small transformer that reads word pieces."""

    def __init__(self, cell: ModelCell) -> None:
        self.cell, self.batch = cell, cell.batch_size
        layout = cell.layout()
        assert isinstance(layout, learn.TextLayout)
        self.layout = layout
        self.device = learn.best_device()
        self.model = learn.build(cell.recipe, cell.model_shape(), cell.seed).to(self.device)

    def costs(self, examples: Sequence[Example]) -> list[int | None]:
        sizes = [(len(self.layout.split(_question(e))), len(self.layout.split(e.output))) for e in examples]
        return [q + a + 2 if q <= self.layout.question and a < self.layout.answer else None for q, a in sizes]

    def answer(self, examples: Sequence[Example]) -> list[str]:
        questions = [_question(example) for example in examples]
        answers = [""] * len(questions)
        fitting = [i for i, text in enumerate(questions) if len(self.layout.split(text)) <= self.layout.question]
        prompts = [torch.from_numpy(self.layout.prompt((questions[i],))).long() for i in fitting]
        for start in range(0, len(fitting), GENERATED):
            tokens = torch.cat(prompts[start : start + GENERATED]).to(self.device)
            found = learn.generate(self.model, tokens, self.layout.answer, self.layout.end)
            for place, row in zip(fitting[start:], found.tolist(), strict=False):
                answers[place] = self.layout.text(row)
        return answers

    def learn(self, examples: Sequence[Example], steps: int, seed: int, folder: Path, rate: float = 1.0) -> Learned:
        data = self.layout.encode([_question(e) for e in examples], [e.output for e in examples])
        cell = self.cell
        done = learn.train(
            self.model,
            cell.recipe,
            data,
            steps=steps,
            batch_size=self.batch,
            seed=seed,
            learning_rate=rate * cell.learning_rate,
            device=self.device,
        )
        mean = float(np.mean([cost or 0 for cost in self.costs(examples)]))
        return Learned(done.steps, round(done.steps * self.batch * mean), done.seconds, done.loss)

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        learn.save(folder, learn.Learner(self.model, self.cell.recipe, self.cell.model_shape(), self.layout))

    def restore(self, folder: Path) -> None:
        self.model = learn.load(folder).model.to(self.device)


class TunedStudent(Student):
    """A Hugging Face model with a LoRA adapter, its base in 4 bits; each round goes on from the last one's adapter."""

    def __init__(self, settings: dict[str, Any], new_tokens: int) -> None:
        self.settings, self.new_tokens = qlora.Finetuning(**settings), new_tokens
        self.batch = self.settings.batch_size * self.settings.accumulation
        self.tokenizer = qlora.load_tokenizer(self.settings.model, self.settings.revision)
        chat.set_template(self.tokenizer, self.settings.template)
        self.adapter: Path | None = None
        self._model: Any = None

    def costs(self, examples: Sequence[Example]) -> list[int | None]:
        lengths = chat.encode(self.tokenizer, examples).lengths.tolist()
        return [length if length <= self.settings.max_length else None for length in lengths]

    def answer(self, examples: Sequence[Example]) -> list[str]:
        if self._model is None:
            about = self.settings
            self._model, _ = qlora.load(
                about.model,
                self.adapter,
                revision=about.revision,
                quantisation=about.quantisation,
                template=about.template,
            )
        return qlora.answer(self._model, self.tokenizer, list(examples), max_new_tokens=self.new_tokens)

    def learn(self, examples: Sequence[Example], steps: int, seed: int, folder: Path, rate: float = 1.0) -> Learned:
        self._model = None  # one model at a time fits
        usual = self.settings.learning_rate
        settings = replace(self.settings, steps=steps, epochs=None, seed=seed, learning_rate=rate * usual)
        said: list[str] = []
        done = qlora.finetune(examples, settings, folder, start=self.adapter, say=said.append)
        self.adapter = done.adapter
        return Learned(done.steps, done.tokens, done.seconds, done.loss)

    def save(self, folder: Path) -> None:
        if self.adapter is None:
            raise BadRequest("a student that has learned nothing has no adapter to keep")
        shutil.copytree(self.adapter, folder, dirs_exist_ok=True)

    def restore(self, folder: Path) -> None:
        self._model, self.adapter = None, folder


def _question(example: Example) -> str:
    return example.instruction + (f"\n{example.input}" if example.input else "")
