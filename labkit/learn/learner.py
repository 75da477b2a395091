"""What learns and is asked: small transformers from scratch and Hugging Face models, behind one interface.

A learner says what an example costs in tokens, learns from data for some optimiser steps, again and again (its
optimiser and schedule begin anew each time, its weights do not), and is asked in three ways: is the whole answer the
right one under teacher forcing (`right`), what does it write (`answer`), and how likely does it find given answers
(`likelihood`). It also makes vectors of examples, from its hidden states or its gradients (`vectors`).

Guaranteed, and held by one test suite for all learners: `right` is true exactly where `answer` equals the gold answer;
`costs` is None exactly where `learn` refuses an example; a saved learner answers alike when restored; `learn` that was
killed and is called again in the same folder ends in equal weights, where the learner keeps checkpoints.
"""

import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from labkit.errors import BadRequest
from labkit.instructions import Example
from labkit.learn import chat, checkpoint, memory, qlora, scoring, vectors
from labkit.learn.decoding import Flags
from labkit.learn.encoding import Encoded, Layout
from labkit.learn.finetuning import Finetuning
from labkit.learn.inference import generate, log_likelihood, predict
from labkit.learn.scoring import Scores
from labkit.learn.text import TextLayout
from labkit.learn.train import RECIPES, Loss, Member, Trained, best_device, train_fleet
from labkit.learn.transformer import Shape

Data = Encoded | Sequence[Example]
Look = Callable[["Learner", int, float, float], None]  # the learner, step, loss (nats per learned token), seconds

AT_ONCE = 512  # questions that a small model answers at once


class Learned(NamedTuple):
    """What learning cost, and what became of it.

    Attributes:
        steps: Optimiser steps.
        tokens: Tokens of questions and answers that were read.
        seconds: Of training alone.
        loss: Nats per learned token at the end; None where nothing was learned.
        about: What else a result should say of the run.
    """

    steps: int
    tokens: int
    seconds: float
    loss: float | None
    about: Mapping[str, Any] = MappingProxyType({})


class Learner(ABC):
    """See the module.

    Attributes:
        batch: Examples per optimiser step.
        shares_run: Whether its models are looked at while they learn.
    """

    batch: int
    shares_run: ClassVar[bool] = False

    @abstractmethod
    def costs(self, examples: Sequence[Example]) -> list[int | None]:
        """Tokens of each example's question and answer; None where it is too long to be learned from."""

    @abstractmethod
    def learn(
        self, data: Data, *, steps: int, seed: int, folder: Path, rate: float = 1.0, look: Look | None = None,
        every: int = 0,
    ) -> Learned:  # fmt: skip
        """Learn from data for so many steps, at a share of the usual rate.

        `folder` is for what shall survive a kill; `look` is called every `every` steps.

        Raises:
            BadRequest: for an example that does not fit, a model that cannot be had, or too little memory.
        """

    def room_for(self, questions: Sequence[Example], answers: Sequence[Sequence[str]]) -> Flags:
        """Whether each question fits into the model with its longest answer, bool [N]."""
        return np.ones(len(questions), np.bool_)

    @abstractmethod
    def followed(self, data: Data) -> list[Flags]:
        """For each token of each answer, its end included: would it be written next, after the right ones? Bool [n]."""

    def right(self, data: Data) -> Flags:
        """For each example: would greedy decoding give exactly its answer, then stop? Bool [N], without generation."""
        return np.array([row.all() for row in self.followed(data)], np.bool_)

    @abstractmethod
    def answer(self, data: Data) -> list[str]:
        """Greedy answers to the questions; "" where one is too long. The data's own answers are not looked at."""

    @abstractmethod
    def likelihood(self, questions: Sequence[Example], answers: Sequence[Sequence[str]]) -> Scores:
        """The log-likelihood of each answer to each question, nats, [N, O]; see `learn.scoring.Scores`."""

    @abstractmethod
    def vectors(self, examples: Sequence[Example], of: vectors.Of) -> Iterator[vectors.Placed]:
        """A vector per example with the example's place, in an order of their own: hidden `states`, or `gradients`."""

    def about(self) -> dict[str, Any]:
        """What a result should say of the learner."""
        return {}

    @abstractmethod
    def gold(self, data: Data) -> list[str]:
        """The data's own answers as texts."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Keep the learner in a folder."""

    @abstractmethod
    def restore(self, folder: Path) -> None:
        """Become the learner that was kept in a folder."""

    def fitting(self, examples: Sequence[Example]) -> list[Example]:
        """Those that are short enough to be learned from."""
        return [example for example, cost in zip(examples, self.costs(examples), strict=True) if cost is not None]

    def written(self, data: Data, right: Flags) -> list[str]:
        """What the learner writes: the gold answer where it is right, and decoded greedily elsewhere."""
        answers, wrong = self.gold(data), np.flatnonzero(~right)
        if len(wrong):
            for place, text in zip(wrong.tolist(), self.answer(subset(data, wrong)), strict=True):
                answers[place] = text
        return answers


class SmallLearner(Learner):
    """A small transformer, from scratch or from a lab base, that reads a layout's symbols or word pieces."""

    shares_run = True

    def __init__(
        self, recipe: str, shape: Shape, layout: Layout | TextLayout, *, seed: int, batch: int, rate: float,
        loss: Loss = "token",
    ) -> None:  # fmt: skip
        self.recipe, self.shape, self.layout, self.batch, self.rate = recipe, shape, layout, batch, rate
        self.loss: Loss = loss
        self.device = best_device()
        self.model: nn.Module = checkpoint.build(recipe, shape, seed).to(self.device)

    @classmethod
    def learn_together(
        cls, learners: Sequence["SmallLearner"], data: Sequence[Encoded], *, steps: Sequence[int],
        seeds: Sequence[int], rates: Sequence[float], look: Callable[[int, "SmallLearner", int, float, float], None],
        every: int,
    ) -> list[Trained]:  # fmt: skip
        """Several learners of one shape, each on its own data: a fleet where the recipe can (`learn.train_fleet`)."""
        members = [Member(*one) for one in zip(data, seeds, steps, rates, strict=True)]

        def looked(number: int, model: nn.Module, step: int, loss: float, seconds: float) -> None:
            look(number, learners[number].holding(model), step, loss, seconds)

        first = learners[0]
        return train_fleet(
            [learner.model for learner in learners], first.recipe, members, batch_size=first.batch, device=first.device,
            every=every, loss=first.loss, on_step=looked,
        )  # fmt: skip

    def holding(self, model: nn.Module) -> "SmallLearner":
        """The same learner with another model in its place."""
        if model is self.model:
            return self
        other = object.__new__(SmallLearner)
        other.__dict__ = {**self.__dict__, "model": model}
        return other

    def encode(self, data: Data) -> Encoded:
        """Data as tokens of the layout."""
        if isinstance(data, Encoded):
            return data
        assert isinstance(self.layout, TextLayout)
        return self.layout.encode([question(example) for example in data], [example.output for example in data])

    def costs(self, examples: Sequence[Example]) -> list[int | None]:
        assert isinstance(self.layout, TextLayout)
        sizes = [(len(self.layout.split(question(e))), len(self.layout.split(e.output))) for e in examples]
        return [q + a + 2 if q <= self.layout.question and a < self.layout.answer else None for q, a in sizes]

    def learn(
        self, data: Data, *, steps: int, seed: int, folder: Path, rate: float = 1.0, look: Look | None = None,
        every: int = 0,
    ) -> Learned:  # fmt: skip
        tokens = self.encode(data)

        def looked(_: int, learner: "SmallLearner", step: int, loss: float, seconds: float) -> None:
            if look is not None:
                look(learner, step, loss, seconds)

        (done,) = self.learn_together(
            [self], [tokens], steps=[steps], seeds=[seed], rates=[rate * self.rate], look=looked, every=every
        )
        return Learned(done.steps, done.tokens, done.seconds, done.loss)

    def followed(self, data: Data) -> list[Flags]:
        asked = self.encode(data)
        target = asked.tokens[:, asked.prompt_length :]
        hits = predict(self.model, asked, device=self.device).numpy() == target
        return [
            row if asked.filling is None else row[own != asked.filling] for row, own in zip(hits, target, strict=True)
        ]

    def answer(self, data: Data) -> list[str]:
        prompts, places = self._prompts(data)
        answers = [""] * (len(data.tokens) if isinstance(data, Encoded) else len(data))
        for start in range(0, len(places), AT_ONCE):
            tokens = torch.from_numpy(prompts[start : start + AT_ONCE]).long().to(self.device)
            written = generate(self.model, tokens, self.layout.answer, self.layout.end)
            for place, row in zip(places[start:], written.tolist(), strict=False):
                answers[place] = self.layout.text(row)
        return answers

    def _prompts(self, data: Data) -> tuple[NDArray[Any], list[int]]:
        """The questions that fit as tokens, [n, P], and their places in the data."""
        if isinstance(data, Encoded):
            return data.tokens[:, : data.prompt_length], list(range(len(data.tokens)))
        assert isinstance(self.layout, TextLayout)
        texts = [question(example) for example in data]
        places = [i for i, text in enumerate(texts) if len(self.layout.split(text)) <= self.layout.question]
        rows = [self.layout.prompt((texts[i],)) for i in places]
        return (np.concatenate(rows) if rows else np.empty((0, 0), np.int64)), places

    def likelihood(self, questions: Sequence[Example], answers: Sequence[Sequence[str]]) -> Scores:
        pairs = [replace(e, output=text) for e, texts in zip(questions, answers, strict=True) for text in texts]
        shape = len(questions), max(map(len, answers), default=0)
        total, tokens = np.full(shape, np.nan), np.zeros(shape, np.int64)
        if pairs:
            scores = log_likelihood(self.model, self.encode(pairs), device=self.device)
            where = [(i, place) for i, texts in enumerate(answers) for place in range(len(texts))]
            rows, columns = np.array(where).T
            total[rows, columns], tokens[rows, columns] = scores.total.numpy(), scores.tokens.numpy()
        return Scores(total, tokens)

    def vectors(self, examples: Sequence[Example], of: vectors.Of) -> Iterator[vectors.Placed]:
        return vectors.SMALL[of](self.model, self.encode(examples), self.device)

    def gold(self, data: Data) -> list[str]:
        if isinstance(data, Encoded):
            return [self.layout.text(row) for row in data.tokens[:, data.prompt_length :].tolist()]
        return [example.output for example in data]

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        checkpoint.save(folder, checkpoint.Learner(self.model, self.recipe, self.shape, self.layout))

    def restore(self, folder: Path) -> None:
        kept = checkpoint.load(folder)
        same_model = RECIPES[kept.recipe].build is RECIPES[self.recipe].build
        if not same_model or kept.shape != self.shape:
            raise BadRequest(f"the model in {folder} is of another recipe or shape: {kept.recipe}, {kept.shape}")
        self.model = kept.model.to(self.device)

    def about(self) -> dict[str, Any]:
        return {"parameters": sum(p.numel() for p in self.model.parameters()), "device": self.device}


class TunedLearner(Learner):
    """A Hugging Face model with a LoRA adapter, its base in 4, 8 or 16 bits; learning goes on from the last adapter."""

    def __init__(self, settings: Finetuning, new_tokens: int = 256, say: Callable[[str], None] = print) -> None:
        self.settings, self.new_tokens, self.say = settings, new_tokens, say
        self.batch = settings.batch_size * settings.accumulation
        self.tokenizer = qlora.load_tokenizer(settings.model, settings.revision)
        chat.set_template(self.tokenizer, settings.template)
        self.adapter: Path | None = None
        self._model: Any = None

    def costs(self, examples: Sequence[Example]) -> list[int | None]:
        lengths = chat.encode(self.tokenizer, examples).lengths.tolist()
        return [length if length <= self.settings.max_length else None for length in lengths]

    def learn(
        self, data: Data, *, steps: int, seed: int, folder: Path, rate: float = 1.0, look: Look | None = None,
        every: int = 0,
    ) -> Learned:  # fmt: skip
        self._model = None  # one model at a time fits
        memory.give_back()
        settings = self.settings
        if steps:  # 0: as many as the settings say
            settings = replace(settings, steps=steps, epochs=None)
        settings = replace(settings, seed=seed, learning_rate=rate * settings.learning_rate)
        began = perf_counter()
        done = qlora.finetune(
            self._examples(data),
            settings,
            folder,
            start=self.adapter,
            on_log=lambda line: look(self, line["step"], line["loss"], perf_counter() - began) if look else None,
            say=self.say,
        )
        self.adapter = done.adapter
        memory.give_back()
        about = {"dropped": done.dropped, "trainable": done.trainable, "peak_bytes": done.peak}
        return Learned(done.steps, done.tokens, done.seconds, done.loss, about)

    def room_for(self, questions: Sequence[Example], answers: Sequence[Sequence[str]]) -> Flags:
        room = getattr(self.model.config, "max_position_embeddings", None) or np.inf
        return np.asarray(scoring.sizes(self.tokenizer, questions, answers) <= room, np.bool_)

    def followed(self, data: Data) -> list[Flags]:
        return qlora.followed(self.model, self.tokenizer, self._examples(data), batch_size=self.settings.batch_size)

    def answer(self, data: Data) -> list[str]:
        return qlora.answer(self.model, self.tokenizer, list(self._examples(data)), max_new_tokens=self.new_tokens)

    def likelihood(self, questions: Sequence[Example], answers: Sequence[Sequence[str]]) -> Scores:
        return scoring.score(self.model, self.tokenizer, questions, answers)

    def vectors(self, examples: Sequence[Example], of: vectors.Of) -> Iterator[vectors.Placed]:
        return vectors.TUNED[of](self.model, self.tokenizer, examples, self.settings)

    def gold(self, data: Data) -> list[str]:
        return [example.output for example in self._examples(data)]

    def about(self) -> dict[str, Any]:
        """The parameters of the base; transformers counts 4-bit ones for what they stand for."""
        base = self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model
        adapter = sum(p.numel() for name, p in self.model.named_parameters() if "lora_" in name)
        return {"parameters": int(base.num_parameters()) - adapter}

    def save(self, folder: Path) -> None:
        if self.adapter is None:
            raise BadRequest("a learner that has learned nothing has no adapter to keep")
        shutil.copytree(self.adapter, folder, dirs_exist_ok=True)

    def restore(self, folder: Path) -> None:
        self._model, self.adapter = None, folder

    @property
    def model(self) -> Any:
        """The base with the adapter, loaded when it is first asked."""
        if self._model is None:
            about = self.settings
            self._model, _ = qlora.load(
                about.model,
                self.adapter,
                revision=about.revision,
                quantisation=about.quantisation,
                template=about.template,
            )
        return self._model

    def _examples(self, data: Data) -> Sequence[Example]:
        if isinstance(data, Encoded):
            raise TypeError("a Hugging Face model reads examples, not tokens of a small model's layout")
        return data


def question(example: Example) -> str:
    """Instruction and input as one text, as small models read them."""
    return example.instruction + (f"\n{example.input}" if example.input else "")


def subset(data: Data, places: NDArray[np.int64]) -> Data:
    """The data at some places."""
    if isinstance(data, Encoded):
        return data._replace(tokens=data.tokens[places])
    return [data[i] for i in places.tolist()]


def encoded(data: Data) -> Encoded:
    """Data that are tokens already, as studies of one layout make them."""
    assert isinstance(data, Encoded)
    return data


def size_of(data: Data) -> int:
    """How many examples there are."""
    return len(data.tokens) if isinstance(data, Encoded) else len(data)
