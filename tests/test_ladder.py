"""A ladder of data volumes: its models are those of the definition, its trunk is shared, its examples are seen equally.

Tolerance: bit for bit where the same steps are taken on the same batches.
"""

from collections import Counter
from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from labkit import BadRequest, learn
from labkit.instructions import RewritingTask, draw_inputs, draw_rules
from labkit.learn import fast, ladder
from labkit.learn.batches import Epochs

TASK = RewritingTask(pattern_length=2, input_length=5, alphabet="abcdef")
BATCH = 16


def data(n: int, seed: int = 0) -> learn.Encoded:
    rules = draw_rules(TASK, 20, seed=seed)
    return learn.encode_rewriting(TASK, rules, draw_inputs(TASK, rules, np.arange(n) % 20, seed=seed))


RUNGS = [data(200), data(160, 1), data(320, 2)]


def fresh(recipe: str = "fast") -> nn.Module:
    layout = learn.rewriting_layout(TASK)
    return learn.build(recipe, learn.Shape(len(layout.vocabulary), layout.length, 2, 16, 2, 1), seed=0)


def weights(model: nn.Module) -> list[torch.Tensor]:
    return [p.detach().clone() for p in model.parameters()]


def climb(recipe: str = "fast", rungs: list[learn.Encoded] = RUNGS, spoil: bool = False, **given):
    """The models' weights and reports, rung by rung."""
    found = []

    def look(number: int, model: nn.Module, steps: int, tokens: int, loss: float) -> None:
        found.append((weights(model), steps, tokens, loss))
        if spoil and number < len(rungs) - 1:
            for p in model.parameters():
                p.data.zero_()

    model = fresh(recipe)
    done = learn.train_ladder(model, recipe, rungs, batch_size=BATCH, seed=3, on_rung=look, **given)
    assert [(d.steps, d.tokens, d.loss) for d in done] == [f[1:] for f in found]
    assert all(torch.equal(p, q) for p, q in zip(weights(model), found[-1][0], strict=True))
    return [f[0] for f in found], done


def same(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> bool:
    return all(torch.equal(p, q) for p, q in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("recipe", ["fast", "paper"])
def test_a_ladder_of_one_rung_is_training_with_its_schedule(recipe: str) -> None:
    (found,), (done,) = climb(recipe, RUNGS[:1], passes=3)
    model = fresh(recipe)
    schedule = learn.stable(0.2)
    alone = learn.train(model, recipe, RUNGS[0], steps=done.steps, batch_size=BATCH, seed=3, schedule=schedule)
    assert same(found, weights(model))
    assert (done.steps, done.tokens, done.loss) == (alone.steps, alone.tokens, alone.loss)
    assert done.steps == 38 + 8  # round(3 x 200 / 16), and a fifth


@pytest.mark.parametrize("recipe", ["fast", "paper"])
def test_a_rung_is_what_it_is_whatever_follows_and_whatever_is_done_with_it(recipe: str) -> None:
    whole, _ = climb(recipe)
    assert same(whole[0], climb(recipe, RUNGS[:1])[0][0])
    assert same(whole[1], climb(recipe, RUNGS[:2])[0][1])
    spoiled, _ = climb(recipe, spoil=True)
    assert all(same(ours, theirs) for ours, theirs in zip(whole, spoiled, strict=True))


def test_a_second_rung_by_hand(double: None) -> None:
    (_, found), _ = climb(rungs=RUNGS[:2])
    model = fresh()
    optimiser = fast.Optimiser(model, [fast.LEARNING_RATE])
    first, second = (torch.from_numpy(rung.tokens).long() for rung in RUNGS[:2])
    streams = [
        (12, first, Epochs(200, 3)),
        (22, second, Epochs(160, ladder._seed(3, 1, 0))),
        (26, torch.cat([first, second]), Epochs(360, ladder._seed(3, 1, 1))),
    ]
    step = 0
    for until, tokens, epochs in streams:
        while step < until:
            batch = tokens[epochs.take(BATCH)]
            F.cross_entropy(model(batch[None, :, :-1], 5)[0].flatten(0, 1), batch[:, -5:].flatten()).backward()
            optimiser.step(step, [min(1, (step + 1) / 10, (26 - step) / 4)])
            step += 1
    for ours, theirs in zip(found, weights(model), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("passes", [1, 2.5])
def test_every_example_of_a_rungs_set_is_seen_equally_often(passes: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to one for the rounding of an epoch, one for that of the branch's, and one for a batch that is not full."""
    numbered = []
    for begin, end in ((0, 160), (160, 320), (320, 800)):
        tokens = np.zeros((end - begin, 3), np.int16)
        tokens[:, 0] = np.arange(begin, end)
        numbered.append(learn.Encoded(tokens, 1, "ab"))
    trunk, branch, models = Counter[int](), Counter[int](), []
    model = fresh()

    def advance(of: nn.Module, optimiser: object, batch, *_: object) -> torch.Tensor:
        seen = trunk if of is model else branch
        seen.update(batch.tokens[0, :, 0].tolist())
        return torch.zeros(1)

    def look(number: int, *_: object) -> None:
        models.append(trunk + branch)
        branch.clear()

    monkeypatch.setattr(ladder, "advance", advance)
    learn.train_ladder(model, "fast", numbered, batch_size=BATCH, seed=0, passes=passes, cooldown=0.4, on_rung=look)
    for volume, seen in zip((160, 320, 800), models, strict=True):
        assert set(seen) <= set(range(volume))
        assert all(abs(seen[i] - 1.4 * passes) < 2 for i in range(volume))
        assert sum(seen.values()) == pytest.approx(1.4 * passes * volume, abs=BATCH)


def test_the_last_steps_are_the_branchs_at_every_length() -> None:
    for constant, cooldown in product(range(1, 200), (0.05, 0.2, 0.5, 1.0, 3.0)):
        steps = constant + max(1, round(cooldown * constant))
        factors = [learn.stable(cooldown, warm_up=1)(step, steps) for step in range(steps)]
        assert all(factor == 1 for factor in factors[: constant + 1])
        assert factors[constant:] == sorted(factors[constant:], reverse=True)
        assert all(0 < factor < 1 for factor in factors[constant + 1 :])
    assert [learn.stable(0.2)(step, 120) for step in (0, 4, 9, 50, 100, 110, 119)] == [0.1, 0.5, 1, 1, 1, 0.5, 0.05]


def test_equal_seeds_climb_alike_and_others_do_not() -> None:
    assert all(same(ours, theirs) for ours, theirs in zip(climb()[0], climb()[0], strict=True))
    other = fresh()
    learn.train_ladder(other, "fast", RUNGS, batch_size=BATCH, seed=4)
    assert not same(climb()[0][-1], weights(other))


def test_a_rung_learns_what_it_adds() -> None:
    """Seen once and then 200 times more, a batch goes from chance to known by heart: from -10 to -0.02, not by luck."""
    exam, right = data(BATCH), []
    again = exam._replace(tokens=np.tile(exam.tokens, (200, 1)))

    def look(_: int, model: nn.Module, *__: object) -> None:
        right.append(float(learn.log_likelihood(model, exam).total.mean()))

    learn.train_ladder(fresh(), "fast", [exam, again], batch_size=BATCH, seed=0, on_rung=look)
    first, second = right
    assert first < -5
    assert second > -1


@pytest.mark.parametrize(
    ("recipe", "rungs", "given", "says"),
    [
        ("llama", RUNGS, {}, r"'llama' cannot climb .* \(allowed: fast, paper\)"),
        ("fats", RUNGS, {}, "did you mean 'fast'"),
        ("fast", [], {}, "without rungs"),
        ("fast", [RUNGS[2], data(5)], {}, "rung 1 adds 5 examples: too few for one step of batch_size = 16"),
        ("fast", [RUNGS[0], RUNGS[1]._replace(answer_length=4)], {}, "one layout"),
        ("fast", RUNGS, {"passes": 0}, "passes = 0"),
        ("fast", RUNGS, {"cooldown": -0.1}, "cooldown = -0.1"),
        ("fast", RUNGS, {"cooldown": float("nan")}, "cooldown = nan"),
    ],
)
def test_ladders_that_cannot_be_climbed(recipe: str, rungs: list[learn.Encoded], given: dict, says: str) -> None:
    with pytest.raises(BadRequest, match=says):
        learn.train_ladder(fresh(), recipe, rungs, batch_size=BATCH, seed=0, **given)
