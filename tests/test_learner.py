"""What every learner promises, tried on a small transformer and on fine-tuned Hugging Face models alike."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import OPERATIONS, tiny_examples, tiny_llama

from labkit import BadRequest, learn
from labkit.instructions import Example
from labkit.learn import chat, qlora
from labkit.learn.finetuning import Finetuning
from labkit.learn.learner import Learner, SmallLearner, TunedLearner, question, size_of, subset

EIGHT = list({example.input: example for example in tiny_examples(40)}.values())[:8]
LONG = Example("Copy it.", "abcdefgh" * 30, "abcdefgh" * 30, "tiny", "Copy it.")
STEPS, KILLED = 6, 4
Make = Callable[[], Learner]


class Killed(Exception):
    """What ends a run in the middle of these tests."""


def small(layers: int = 1) -> SmallLearner:
    layout = learn.TextLayout(learn.pieces([*OPERATIONS], 1), 12, 12)
    shape = learn.Shape(len(layout.vocabulary), layout.length, layers, 32, 2, 0)
    return SmallLearner("fast", shape, layout, seed=0, batch=4, rate=learn.RECIPES["fast"].LEARNING_RATE)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("llama"), width=32)


@pytest.fixture(scope="module", params=["small", "tuned, nf4", "tuned, none"])
def make(request: pytest.FixtureRequest, llama: Path) -> Make:
    """A fresh learner each time, always of the same beginning."""
    if request.param == "small":
        return small
    about = Finetuning(
        str(llama), quantisation=request.param.split()[-1], rank=4, alpha=8, dropout=0.0, learning_rate=0.01,
        batch_size=4, steps=STEPS, max_length=128, save_every=2, gradient_checkpointing=False,
    )  # fmt: skip
    return lambda: TunedLearner(about, new_tokens=16, say=lambda _: None)


def taught(learner: Learner, folder: Path, **more: Any) -> Learner:
    learner.learn(EIGHT, steps=STEPS, seed=0, folder=folder, **more)
    return learner


@pytest.fixture(scope="module")
def learned(make: Make, tmp_path_factory: pytest.TempPathFactory) -> Learner:
    """One that has learned a little, to be asked and not to be changed."""
    return taught(make(), tmp_path_factory.mktemp("run"))


def texts(examples: list[Example]) -> list[tuple[str]]:
    return [(example.output,) for example in examples]


def test_right_is_where_the_answer_is_the_gold_answer(learned: Learner) -> None:
    """On what was learned and on what was not, and after any number of steps."""
    learner, others = learned, tiny_examples(6, seed=9)
    for data in (EIGHT, others):
        right, answers = learner.right(data), learner.answer(data)
        assert learner.gold(data) == [example.output for example in data]
        assert right.tolist() == [answer == gold for answer, gold in zip(answers, learner.gold(data), strict=True)]
        assert learner.written(data, right) == answers
        blank = [replace(example, output="") for example in data]
        assert learner.answer(blank) == answers  # the data's own answers are not looked at


def test_it_says_of_its_own_answers_that_they_are_right(learned: Learner) -> None:
    """What a learner has written and ended is right as the gold answer; with another letter it is not."""
    learner = learned
    own = [replace(e, output=text) for e, text in zip(EIGHT, learner.answer(EIGHT), strict=True)]
    whole = [example for example, cost in zip(own, learner.costs(own), strict=True) if cost and len(example.output) < 6]
    if whole:
        assert learner.right(whole).all()
        assert not learner.right([replace(example, output=example.output + "x") for example in whole]).any()


def test_loss_falls_on_eight_examples(make: Make, tmp_path: Path) -> None:
    learner, told = make(), list[tuple[int, float, float]]()
    done = learner.learn(
        EIGHT, steps=20, seed=0, folder=tmp_path / "run", look=lambda _, *now: told.append(now), every=1
    )
    _, losses, seconds = zip(*told, strict=True)
    assert done.steps == len(losses) == 20
    assert 0 < seconds[0] < seconds[-1]
    assert done.tokens > 0
    assert np.mean(losses[-4:]) < 0.8 * np.mean(losses[:4])


def test_what_does_not_fit_costs_nothing_and_is_refused_in_one_sentence(make: Make, tmp_path: Path) -> None:
    learner = make()
    costs = learner.costs([*EIGHT, LONG])
    assert costs[-1] is None
    assert all(cost is not None and cost > 0 for cost in costs[:-1])
    with pytest.raises(BadRequest) as refused:
        learner.learn([*EIGHT, LONG], steps=1, seed=0, folder=tmp_path / "run")
    assert "\n" not in str(refused.value)
    learner.learn(EIGHT, steps=1, seed=0, folder=tmp_path / "again")


@pytest.mark.parametrize("letters", range(7, 13))
def test_costs_are_known_exactly_where_learning_is_possible(letters: int, tmp_path: Path) -> None:
    """Around the limits of a small model: 12 pieces of question, 11 of answer."""
    for asked, answered in (("ab", "c" * letters), ("c" * letters, "ab")):
        learner, example = small(), Example("Copy it.", asked, answered, "tiny", "Copy it.")
        if learner.costs([example]) == [None]:
            with pytest.raises(BadRequest, match=re.compile("of .* pieces; at most")):
                learner.learn([example] * 4, steps=1, seed=0, folder=tmp_path)
        else:
            learner.learn([example] * 4, steps=1, seed=0, folder=tmp_path)


def test_a_restored_learner_answers_alike(make: Make, learned: Learner, tmp_path: Path) -> None:
    learner = learned
    learner.save(tmp_path / "kept")
    again = make()
    again.restore(tmp_path / "kept")
    assert again.answer(EIGHT) == learner.answer(EIGHT)
    assert np.array_equal(again.right(EIGHT), learner.right(EIGHT))
    ours, theirs = (one.likelihood(EIGHT, texts(EIGHT)) for one in (again, learner))
    np.testing.assert_allclose(ours.total, theirs.total, rtol=1e-6)


def test_a_killed_run_ends_where_it_would_have_ended(make: Make, learned: Learner, tmp_path: Path) -> None:
    """From its last checkpoint, or from the start: with equal results."""

    def kill(_: Learner, step: int, *__: Any) -> None:
        if step >= KILLED:
            raise Killed

    with pytest.raises(Killed):
        taught(make(), tmp_path / "run", look=kill, every=1)
    seen: list[int] = []
    resumed = taught(make(), tmp_path / "run", look=lambda _, step, *__: seen.append(step), every=1)
    assert seen[-1] == STEPS
    assert seen[0] == (
        1 if isinstance(resumed, SmallLearner) else 3
    )  # checkpoints lie at steps 2 and 4; 4 was not kept
    assert resumed.answer(EIGHT) == learned.answer(EIGHT)
    ours, theirs = (one.likelihood(EIGHT, texts(EIGHT)).total for one in (resumed, learned))
    np.testing.assert_array_equal(ours, theirs)


def test_learning_goes_on_from_what_was_learned(make: Make, tmp_path: Path) -> None:
    """A second call begins with the first one's weights, not anew."""
    learner = taught(make(), tmp_path / "one")
    before = learner.likelihood(EIGHT, texts(EIGHT)).total
    learner.learn(EIGHT, steps=1, seed=1, folder=tmp_path / "two", rate=1e-6)
    np.testing.assert_allclose(learner.likelihood(EIGHT, texts(EIGHT)).total, before, atol=1e-2)


def test_likelihoods_are_sums_of_what_the_model_says(learned: Learner) -> None:
    learner = learned
    options = [("a", "abc", example.output)[: 2 + i % 2] for i, example in enumerate(EIGHT)]  # two or three each
    scores = learner.likelihood(EIGHT, options)
    assert scores.total.shape == scores.tokens.shape == (8, 3)
    for i, answers in enumerate(options):
        for place, answer in enumerate(answers):
            total, tokens = by_hand(learner, replace(EIGHT[i], output=answer))
            assert scores.tokens[i, place] == tokens
            assert scores.total[i, place] == pytest.approx(total, abs=1e-3, rel=1e-4)
        assert np.isnan(scores.total[i, len(answers) :]).all()
        assert not scores.tokens[i, len(answers) :].any()


@torch.inference_mode()
def by_hand(learner: Learner, example: Example) -> tuple[float, int]:
    """The log-probabilities of an answer's tokens, one forward pass per token, no batches."""
    if isinstance(learner, SmallLearner):
        data = learner.encode([example])
        tokens, first = torch.from_numpy(data.tokens).long(), data.prompt_length
        real = [i for i in range(first, tokens.shape[1]) if int(tokens[0, i]) != data.filling]
        last = lambda i: learner.model(tokens[None, :, :i], 1)[0, 0, -1]  # noqa: E731
    else:
        assert isinstance(learner, TunedLearner)
        encoded = chat.encode(learner.tokenizer, [example])
        tokens, first = torch.from_numpy(encoded.tokens)[None].long(), int(encoded.prompts[0])
        real = list(range(first, tokens.shape[1]))
        last = lambda i: learner.model(input_ids=tokens[:, :i]).logits[0, -1]  # noqa: E731
    parts = [float(last(i).float().log_softmax(-1)[tokens[0, i]]) for i in real]
    return sum(parts), len(parts)


def test_data_are_taken_apart_by_place() -> None:
    encoded = small().encode(EIGHT)
    places = np.array([5, 0])
    assert subset(EIGHT, places) == [EIGHT[5], EIGHT[0]]
    assert np.array_equal(subset(encoded, places).tokens, encoded.tokens[[5, 0]])
    assert size_of(EIGHT) == size_of(encoded) == 8
    assert question(Example("Say it.", "", "", "", "")) == "Say it."


def test_tokens_of_a_small_model_are_no_examples(llama: Path) -> None:
    tuned = TunedLearner(Finetuning(str(llama), quantisation="none", steps=1))
    with pytest.raises(TypeError, match="reads examples"):
        tuned.right(small().encode(EIGHT))


def test_a_learner_of_another_shape_is_not_restored(tmp_path: Path) -> None:
    small(layers=2).save(tmp_path)
    with pytest.raises(BadRequest, match="of another recipe or shape"):
        small().restore(tmp_path)


def test_what_has_learned_nothing_has_no_adapter(llama: Path, tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="no adapter to keep"):
        TunedLearner(Finetuning(str(llama), quantisation="none", steps=1)).save(tmp_path)
    assert qlora.last_checkpoint(tmp_path) is None
