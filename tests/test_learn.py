"""The learner: what it may see, that it repeats itself, and that teacher forcing grades as generation does."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from labkit import BadRequest, learn
from labkit.instructions import RewritingTask, Rule, draw_inputs, draw_rules
from labkit.learn.batches import Batch, Batches, Epochs, Stream
from labkit.learn.fast import Muon, orthogonal, schedule
from labkit.learn.text import PAD

TASK = RewritingTask(pattern_length=2, input_length=5, alphabet="abcdef")
LAYOUT = learn.rewriting_layout(TASK)
RECIPES = list(learn.RECIPES)
# Rates at which a few steps of a tiny model show something.
HURRIED = {"adamw": 1e-2, "fast": None, "llama": None, "paper": 5e-3}


def data(n: int = 400, rules: int = 20, seed: int = 0) -> learn.Encoded:
    drawn = draw_rules(TASK, rules, seed=seed)
    return learn.encode_rewriting(TASK, drawn, draw_inputs(TASK, drawn, np.arange(n) % rules, seed=seed))


def shape(of: learn.Encoded) -> learn.Shape:
    return learn.Shape(len(of.vocabulary), of.tokens.shape[1], layers=2, width=16, heads=2, expansion=1)


def trained(recipe: str, seed: int = 0, steps: int = 30) -> tuple[torch.nn.Module, learn.Encoded]:
    examples = data()
    model = learn.build(recipe, shape(examples), seed)
    learn.train(model, recipe, examples, steps=steps, batch_size=32, seed=seed, learning_rate=HURRIED[recipe])
    return model, examples


def test_a_sequence_is_rule_input_answer() -> None:
    rules = draw_rules(TASK, 3, seed=1)
    inputs = draw_inputs(TASK, rules, np.arange(3), seed=1)
    encoded = learn.encode_rewriting(TASK, rules, inputs)
    for i in range(3):
        head, answer = encoded.decode(i).split("=")
        x, y, z = head.split("|")
        assert (x, y) == (rules.rule(i).pattern, rules.rule(i).replacement)
        assert Rule(x, y).apply(z) == answer
        assert "".join(s for s, learned in zip(encoded.decode(i), encoded.mask(), strict=True) if learned) == answer


@pytest.mark.parametrize("recipe", RECIPES)
def test_no_position_sees_what_follows_it(recipe: str) -> None:
    model, examples = trained(recipe, steps=3)
    tokens = torch.from_numpy(examples.tokens[:8]).long()
    length = tokens.shape[1]
    whole = model(tokens[None], length - 1)[0]
    for cut in (3, 9, length - 1):
        changed = tokens.clone()
        changed[:, cut:] = (changed[:, cut:] + 1) % len(examples.vocabulary)
        torch.testing.assert_close(
            model(changed[None], length - 1)[0, :, : cut - 1], whole[:, : cut - 1], rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("answer", [1, 5])
def test_working_only_where_the_answer_is_changes_nothing(recipe: str, answer: int) -> None:
    model, examples = trained(recipe, steps=3)
    tokens = torch.from_numpy(examples.tokens[:8]).long()
    everywhere = model(tokens[None], tokens.shape[1])
    torch.testing.assert_close(model(tokens[None], answer), everywhere[:, :, -answer:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("recipe", RECIPES)
def test_teacher_forced_accuracy_is_generated_accuracy(recipe: str) -> None:
    """On answers that the model wrote itself, every other one of them spoilt, so that there are rights and wrongs."""
    model, examples = trained(recipe, steps=3)
    prompts = torch.from_numpy(examples.tokens[:, : examples.prompt_length]).long()
    answers = learn.generate(model, prompts, examples.answer_length).clone()
    answers[::2, 2] = (answers[::2, 2] + 1) % len(examples.vocabulary)
    tokens = np.concatenate([examples.tokens[:, : examples.prompt_length], answers.numpy()], axis=1)
    examples = examples._replace(tokens=tokens.astype(examples.tokens.dtype))
    with torch.no_grad():
        best = model(torch.from_numpy(tokens)[None, :, :-1], examples.answer_length)[0].topk(2).values
    clear = ((best[..., 0] - best[..., 1]) > 1e-4).all(1)  # elsewhere rounding may choose another token
    forced = (learn.predict(model, examples) == answers).all(1)
    generated = torch.arange(len(forced)) % 2 == 1
    assert torch.equal(forced[clear], generated[clear])
    assert clear.float().mean() > 0.5


@pytest.mark.parametrize("recipe", RECIPES)
def test_equal_seeds_give_equal_models_and_others_do_not(recipe: str) -> None:
    once, twice, other = (trained(recipe, seed)[0].state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(once[name], twice[name]) for name in once)
    assert any(not torch.equal(once[name], other[name]) for name in once)


@pytest.mark.parametrize("recipe", RECIPES)
def test_building_and_training_leave_the_global_seed_alone(recipe: str) -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    trained(recipe, steps=2)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("recipe", RECIPES)
def test_training_learns(recipe: str) -> None:
    """One batch again and again: its loss falls to a few hundredths of what it was, or a tenth, far below the half."""
    examples = data(32, rules=8)
    model = learn.build(recipe, shape(examples), 0)
    losses: list[float] = []
    learn.train(
        model,
        recipe,
        examples,
        steps=200,
        learning_rate=HURRIED[recipe],
        batch_size=32,
        seed=0,
        every=1,
        on_step=lambda step, loss, seconds: losses.append(loss),
    )
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])


def test_the_first_loss_is_the_logarithm_of_the_vocabulary() -> None:
    examples = data()
    model = learn.build("fast", shape(examples), 0)
    seen: list[float] = []
    learn.train(
        model,
        "fast",
        examples,
        steps=1,
        batch_size=16,
        seed=0,
        every=1,
        on_step=lambda step, loss, seconds: seen.append(loss),
    )
    assert seen[0] == pytest.approx(np.log(len(examples.vocabulary)), abs=1e-4)


def test_every_example_comes_once_an_epoch() -> None:
    stream = Epochs(10, seed=0)
    epochs = [torch.cat([stream.take(3), stream.take(7)]).tolist() for _ in range(3)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert epochs[0] != epochs[1]


def test_training_can_be_ended_early() -> None:
    examples = data()
    model = learn.build("fast", shape(examples), 0)
    done = learn.train(
        model,
        "fast",
        examples,
        steps=50,
        batch_size=8,
        seed=0,
        every=5,
        on_step=lambda step, loss, seconds: step >= 10,
    )
    assert done.steps == 10
    assert done.tokens == 10 * 8 * examples.tokens.shape[1]


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_saved_model_answers_the_same(recipe: str, tmp_path: Path) -> None:
    model, examples = trained(recipe, steps=60)
    learn.save(tmp_path, learn.Learner(model, recipe, shape(examples), LAYOUT))
    again = learn.load(tmp_path)
    assert torch.equal(learn.predict(again.model, examples), learn.predict(model, examples))
    assert again.layout == LAYOUT
    x, y, z = examples.decode(0).split("=")[0].split("|")
    answer = learn.ask(again, Rule(x, y), z)
    assert answer.oracle == Rule(x, y).apply(z)
    forced = "".join(examples.vocabulary[t] for t in learn.predict(model, examples)[0].tolist())
    assert answer.correct == (forced == answer.oracle)


@pytest.mark.parametrize("recipe", RECIPES)
def test_rounds_with_a_saved_model_between_them_are_rounds_without(recipe: str, tmp_path: Path) -> None:
    first, second = data(), data(seed=1)
    kept = learn.build(recipe, shape(first), 0)
    stored = copy.deepcopy(kept)
    for examples in (first, second, first):
        learn.train(kept, recipe, examples, steps=12, batch_size=32, seed=4)
        learn.train(stored, recipe, examples, steps=12, batch_size=32, seed=4)
        learn.save(tmp_path, learn.Learner(stored, recipe, shape(examples), LAYOUT))
        stored = learn.load(tmp_path).model
    again = stored.state_dict()
    assert all(torch.equal(weights, again[name]) for name, weights in kept.state_dict().items())


@pytest.mark.parametrize("recipe", RECIPES)
def test_leaving_the_filling_out_changes_neither_loss_nor_gradients(recipe: str) -> None:
    """As the plain computation: every position to logits, and those of filling ignored by the loss."""
    layout = learn.TextLayout(tuple("ab"), question=4, answer=9)
    examples = layout.encode(["ab", "a", "bbbb", ""], ["a", "", "abba", "bab"])
    model, _ = trained(recipe)
    tokens = torch.from_numpy(examples.tokens).long()
    logits = model(tokens[None, :, :-1], 9)[0].flatten(0, 1)
    expected = F.cross_entropy(logits, tokens[:, -9:].flatten(), ignore_index=PAD)
    expected.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    batch = next_batch(examples)
    assert (batch.answer, batch.target.shape) == (5, (1, 2 + 1 + 5 + 4))
    found = F.cross_entropy(model(batch.tokens[..., :-1], batch.answer, batch.where)[0], batch.target[0])
    found.backward()
    torch.testing.assert_close(found, expected)
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.grad, gradients[name], rtol=1e-3, atol=1e-5)


def next_batch(examples: learn.Encoded) -> Batch:
    """The first batch of all examples."""
    tokens = torch.from_numpy(examples.tokens)
    stream = Stream(0, len(tokens), seed=0)
    return Batches(tokens, examples.answer_length, examples.filling, [stream], len(tokens)).next()


@pytest.mark.parametrize(
    ("rule", "text", "complaint"),
    [
        ("abc -> aa", "abcde", "pattern 'abc' has 3 symbols; this model was trained on 2"),
        ("ab -> a", "abcde", "replacement 'a' has 1"),
        ("ab -> cd", "abc", "input 'abc' has 3"),
        ("ab -> cz", "abcde", "z"),
    ],
)
def test_a_question_the_model_cannot_take(tmp_path: Path, rule: str, text: str, complaint: str) -> None:
    learner = learn.Learner(learn.build("fast", shape(data()), 0), "fast", shape(data()), LAYOUT)
    with pytest.raises(BadRequest, match=complaint):
        learn.ask(learner, Rule.parse(rule), text)


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="no trained model"):
        learn.load(tmp_path)


@pytest.mark.parametrize("damage", ["weights", "description", "missing"])
def test_a_damaged_model_is_refused(tmp_path: Path, damage: str) -> None:
    model, examples = trained("fast", steps=1)
    learn.save(tmp_path, learn.Learner(model, "fast", shape(examples), LAYOUT))
    if damage == "weights":
        (tmp_path / "model.safetensors").write_text("rubbish")
    elif damage == "description":
        (tmp_path / "model.json").write_text("{}")
    else:
        weights = load_file(tmp_path / "model.safetensors")
        del weights["head"]
        save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(BadRequest, match="damaged"):
        learn.load(tmp_path)


def test_an_unknown_recipe() -> None:
    with pytest.raises(BadRequest, match="did you mean 'fast'"):
        learn.build("fats", shape(data()), 0)


def test_an_alphabet_with_a_marker() -> None:
    with pytest.raises(BadRequest, match="must not hold"):
        learn.rewriting_layout(RewritingTask(pattern_length=2, input_length=5, alphabet="ab|"))


def test_orthogonal_is_orthogonal() -> None:
    matrices = torch.randn(3, 24, 24, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonal(matrices))
    assert values.max() < 1.3
    assert (values > 0.5).float().mean() > 0.9
    left, _, right = torch.linalg.svd(matrices)
    assert (orthogonal(matrices) * (left @ right)).sum((-2, -1)).div(24).min() > 0.8  # near the nearest one


def test_muon_in_one_batch_is_muon_matrix_by_matrix() -> None:
    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(1, rows, 8, generator=generator) for rows in (24, 8, 8)]
    slopes = [torch.randn_like(p) for p in start]
    together = [torch.nn.Parameter(p.clone()) for p in start]
    alone = [torch.nn.Parameter(p.clone()) for p in start]
    one = Muon(together, 8)
    many = [Muon([p], 8) for p in alone]
    for _ in range(3):
        for group in (together, alone):
            for p, slope in zip(group, slopes, strict=True):
                p.grad = slope.clone()
        with torch.no_grad():
            for muon in (one, *many):
                muon.step(torch.tensor([0.1]))
    for p, q in zip(together, alone, strict=True):
        torch.testing.assert_close(p, q)


def test_the_rate_rises_then_falls_to_nothing() -> None:
    factors = [schedule(step, 100) for step in range(100)]
    assert factors[0] < factors[9]
    assert np.argmax(factors) < 10
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert 0 < factors[-1] < 0.02


def test_gpt2_is_the_papers_at_paper_sizes() -> None:
    configuration = learn.gpt2_configuration(learn.Shape(28, 143, layers=6, width=256, heads=4, expansion=4))
    assert (configuration.n_layer, configuration.n_head, configuration.n_embd) == (6, 4, 256)
    assert configuration.n_inner == 1024
    assert configuration.n_positions == 143
