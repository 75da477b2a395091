"""Answers: with kept keys and values the model writes what it writes without, and likelihoods are computed right."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from labkit import learn
from labkit.instructions import RewritingTask, draw_inputs, draw_rules
from labkit.learn.inference import ROWS
from labkit.learn.text import END, PAD

QUESTIONS = ["sort the letters of qzv", "add 37 to 5", "sort the words", "say it"]
ANSWERS = ["qvz", "42", "f(x) == 2", ""]
LAYOUT = learn.TextLayout(learn.pieces(QUESTIONS * 2, at_least=2), question=24, answer=12)
DATA = LAYOUT.encode(QUESTIONS, ANSWERS)
MODELS = [("fast", 0, 3), ("fast", 1, 1), ("llama", 1, 3), ("paper", 1, 3)]


def assert_greedy(model: nn.Module, prompt: Tensor, written: Tensor, end: int | None = None) -> None:
    """Each token is the likeliest one after those before it, read at once; up to rounding, which may decide a tie."""
    with torch.no_grad():
        logits = model(torch.cat([prompt, written], dim=1)[None, :, :-1], written.shape[1])[0]
    short_of_best = logits.max(-1).values - logits.gather(-1, written[..., None])[..., 0]
    ends = (written == (-1 if end is None else end)).int()
    ended = ends.cumsum(1) - ends > 0  # behind the first end
    assert (short_of_best[~ended] < 1e-3).all()
    assert end is None or (written[ended] == end).all()


def model_of(recipe: str, expansion: int, context: int, steps: int = 0) -> nn.Module:
    """Trained on `DATA`, or with all matrices random (fresh models are silent: their logits are zero)."""
    model = learn.build(
        recipe, learn.Shape(len(LAYOUT.vocabulary), LAYOUT.length, 2, 16, 2, expansion, context), seed=0
    )
    if steps:
        hurried = 5e-3 if recipe == "paper" else None
        learn.train(model, recipe, DATA, steps=steps, batch_size=4, seed=0, learning_rate=hurried)
    else:
        drawn = torch.Generator().manual_seed(1)
        for weights in model.parameters():
            if weights.ndim > 1:
                weights.data = torch.randn(weights.shape, generator=drawn) / math.sqrt(weights.shape[-1])
    return model


@pytest.mark.parametrize("end", [None, END])
@pytest.mark.parametrize("steps", [0, 120])
@pytest.mark.parametrize(("recipe", "expansion", "context"), MODELS)
def test_kept_keys_and_values_write_the_tokens_of_the_plain_way(
    recipe: str, expansion: int, context: int, steps: int, end: int | None
) -> None:
    model = model_of(recipe, expansion, context, steps)
    drawn = np.random.default_rng(0)
    words = ["sort ", "add ", "letters", " of", " 3", "qv"]
    questions = ["".join(drawn.choice(words, drawn.integers(1, 6)).tolist())[:24] for _ in range(ROWS + 20)]
    prompts = torch.from_numpy(LAYOUT.encode(questions, [""] * len(questions)).tokens[:, : -LAYOUT.answer]).long()
    prompts = torch.cat([prompts, torch.from_numpy(DATA.tokens[:, : DATA.prompt_length]).long()])
    found = learn.generate(model, prompts, LAYOUT.answer, end)
    assert_greedy(model, prompts, found, end)
    assert len(found.unique(dim=0)) > 3  # not one answer to all
    if end is not None and steps:
        assert len(set((found == end).int().argmax(1).tolist())) > 1  # rows end at different places
    assert model.training


def test_the_longest_sequence_that_a_model_can_read() -> None:
    """A question and an answer as long as the model's positions; the last token is written and not read."""
    model = model_of("fast", 0, 3)
    prompts = torch.randint(3, len(LAYOUT.vocabulary), (5, LAYOUT.length - 1))
    assert_greedy(model, prompts, learn.generate(model, prompts, 2))


@pytest.mark.parametrize(("recipe", "expansion", "context"), MODELS)
def test_reading_on_gives_the_logits_of_reading_at_once(recipe: str, expansion: int, context: int) -> None:
    model = model_of(recipe, expansion, context)
    tokens = torch.from_numpy(DATA.tokens).long()
    with torch.no_grad():
        past = model.past(*tokens[:, :20].shape, 10, torch.float32)
        found = [model.read(tokens[:, :20], past)]
        past.keep(torch.tensor([0, 3]))
        found += [model.read(tokens[[0, 3], place : place + 1], past) for place in range(20, 26)]
        for place, logits in enumerate(found):
            rows = tokens if not place else tokens[[0, 3]]
            torch.testing.assert_close(logits, model(rows[None, :, : 20 + place], 1)[0, :, 0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("recipe", "expansion", "context"), MODELS)
def test_log_likelihood_is_the_sum_over_the_answers_tokens(recipe: str, expansion: int, context: int) -> None:
    model = model_of(recipe, expansion, context)
    found = learn.log_likelihood(model, DATA)
    for row, answer in enumerate(ANSWERS):
        spelled = [*LAYOUT.split(answer), END]
        total = 0.0
        for place, token in enumerate(spelled):
            with torch.no_grad():
                logits = model(
                    torch.from_numpy(DATA.tokens[row : row + 1, : DATA.prompt_length + place])[None].long(), 1
                )
            total += float(logits[0, 0, 0].log_softmax(-1)[token])
        assert float(found.total[row]) == pytest.approx(total, rel=1e-4)
        assert int(found.tokens[row]) == len(spelled)
    assert found.total.dtype == torch.float64


@pytest.mark.parametrize("layout", ["text", "symbols"])
def test_no_answer_depends_on_the_rows_beside_it(double: None, layout: str) -> None:
    if layout == "text":
        model, data = model_of("fast", 0, 3), DATA
    else:
        task = RewritingTask(pattern_length=2, input_length=5, alphabet="abcdef")
        rules = draw_rules(task, 4, seed=0)
        data = learn.encode_rewriting(task, rules, draw_inputs(task, rules, np.arange(11) % 4, seed=0))
        model = model_of("fast", 0, 3)
    whole, words = learn.log_likelihood(model, data), learn.predict(model, data)
    for batch_size in (1, 3):
        again = learn.log_likelihood(model, data, batch_size=batch_size)
        torch.testing.assert_close(again.total, whole.total, rtol=1e-5, atol=0)
        assert torch.equal(again.tokens, whole.tokens)
        assert torch.equal(learn.predict(model, data, batch_size=batch_size), words)


def test_log_likelihood_is_minus_the_loss_of_training() -> None:
    model = model_of("fast", 0, 3)
    found = learn.log_likelihood(model, DATA)
    done = learn.train(model, "fast", DATA, steps=1, batch_size=len(DATA.tokens), seed=0)
    assert float(-found.total.sum() / found.tokens.sum()) == pytest.approx(done.loss, rel=1e-5)


def test_what_was_learned_is_likely_and_other_options_are_not() -> None:
    model = model_of("fast", 0, 3, steps=400)
    options = learn.log_likelihood(model, LAYOUT.encode([QUESTIONS[1]] * 3, ["42", "24", "4"]))
    assert options.total.argmax() == 0
    assert options.total[0] > math.log(0.9)


def test_predictions_are_the_most_likely_tokens_up_to_the_end_and_filling_behind_it() -> None:
    model = model_of("fast", 0, 3)
    tokens = torch.from_numpy(DATA.tokens).long()
    target = tokens[:, DATA.prompt_length :]
    with torch.no_grad():
        expected = model(tokens[None, :, :-1], DATA.answer_length)[0].argmax(-1)
    expected[target == PAD] = PAD
    assert torch.equal(learn.predict(model, DATA), expected)
