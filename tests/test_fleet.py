"""The fleet: many models trained as one end as they would alone, each with its own data, seed, rate and steps.

Tolerance: in float32 on the CPU, weights after 40 steps agree to 1e-4 of the largest (batched products may add in
another order), and what a model answers agrees on all but one example in a hundred.
"""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import nn

from labkit import learn, studies
from labkit.instructions import RewritingTask, draw_inputs, draw_rules
from labkit.lab import Store, sweep
from labkit.learn.fast import Adam
from labkit.learn.transformer import Transformer

TASK = RewritingTask(pattern_length=2, input_length=5, alphabet="abcdef")
STEPS = 40


def data(seed: int, n: int = 300) -> learn.Encoded:
    rules = draw_rules(TASK, 20, seed=seed)
    return learn.encode_rewriting(TASK, rules, draw_inputs(TASK, rules, np.arange(n) % 20, seed=seed))


def shape(expansion: int = 0) -> learn.Shape:
    layout = learn.rewriting_layout(TASK)
    return learn.Shape(len(layout.vocabulary), layout.length, layers=2, width=16, heads=2, expansion=expansion)


MEMBERS = [
    learn.Member(data(0), seed=0, steps=STEPS),
    learn.Member(data(1, n=250), seed=1, steps=STEPS, learning_rate=0.01),
    learn.Member(data(2), seed=5, steps=STEPS // 2),
    learn.Member(data(0), seed=3, steps=STEPS, learning_rate=0.04),
]


def models(recipe: str = "fast", expansion: int = 0) -> list[nn.Module]:
    return [learn.build(recipe, shape(expansion), member.seed) for member in MEMBERS]


def alone(recipe: str = "fast", expansion: int = 0) -> tuple[list[nn.Module], list[learn.Trained]]:
    each = models(recipe, expansion)
    done = [
        learn.train(model, recipe, m.data, steps=m.steps, batch_size=16, seed=m.seed, learning_rate=m.learning_rate)
        for model, m in zip(each, MEMBERS, strict=True)
    ]
    return each, done


def assert_equal(fleet: Sequence[nn.Module], loop: Sequence[nn.Module]) -> None:
    for ours, theirs, member in zip(fleet, loop, MEMBERS, strict=True):
        for name, weights in theirs.state_dict().items():
            apart = (ours.state_dict()[name] - weights).abs().max()
            assert apart <= 1e-4 * weights.abs().max(), name
        agree = (learn.predict(ours, member.data) == learn.predict(theirs, member.data)).all(1)
        assert agree.float().mean() >= 0.99


@pytest.mark.parametrize(("recipe", "expansion"), [("fast", 0), ("fast", 1), ("paper", 1)])
def test_a_fleet_ends_as_the_loop_does(double: None, recipe: str, expansion: int) -> None:
    fleet = models(recipe, expansion)
    done = learn.train_fleet(fleet, recipe, MEMBERS, batch_size=16)
    loop, expected = alone(recipe, expansion)
    assert_equal(fleet, loop)
    for got, wanted in zip(done, expected, strict=True):
        assert (got.steps, got.tokens) == (wanted.steps, wanted.tokens)
        assert got.loss == pytest.approx(wanted.loss, rel=1e-3)
    first, last = (next(fleet[i].parameters()) for i in (0, 3))
    assert not torch.allclose(first, last)  # equal data, other seeds and rates


def test_members_whose_answers_differ_in_length_end_as_the_loop_does(double: None) -> None:
    layout = learn.TextLayout(tuple("abc"), question=4, answer=9)
    texts = [(["ab", "a", "cc"], ["a", "", "b"]), (["ab", "ba", "bbbb"], ["abcabc", "b", "ab"])]
    members = [
        learn.Member(layout.encode(*text), seed=number, steps=20 - 5 * number) for number, text in enumerate(texts)
    ]
    shape = learn.Shape(len(layout.vocabulary), layout.length, layers=2, width=16, heads=2)
    fleet, loop = ([learn.build("fast", shape, seed=0) for _ in members] for _ in range(2))
    done = learn.train_fleet(fleet, "fast", members, batch_size=2)
    for ours, theirs, member, got in zip(fleet, loop, members, done, strict=True):
        wanted = learn.train(theirs, "fast", member.data, steps=member.steps, batch_size=2, seed=member.seed)
        assert got.loss == pytest.approx(wanted.loss, rel=1e-3)
        for weights, others in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert (weights - others).abs().max() <= 1e-3 * others.abs().max()


def test_a_member_that_stops_early_leaves_the_others_as_they_are() -> None:
    fleet, looks = models(), []

    def look(number: int, model: nn.Module, step: int, loss: float, seconds: float) -> bool:
        looks.append((number, step))
        assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in fleet[0].parameters())
        return number == 0 and step == 10

    done = learn.train_fleet(fleet, "fast", MEMBERS, batch_size=16, every=10, on_step=look)
    assert [trained.steps for trained in done] == [10, 40, 20, 40]
    assert [step for number, step in looks if number == 0] == [1, 10]
    assert [step for number, step in looks if number == 1] == [1, 10, 20, 30, 40]
    loop, _ = alone()
    for number in (1, 2, 3):
        for name, weights in loop[number].state_dict().items():
            torch.testing.assert_close(fleet[number].state_dict()[name], weights, rtol=1e-3, atol=1e-4)


def test_stacking_and_taking_apart_are_inverse() -> None:
    each = [model for model in models() if isinstance(model, Transformer)]
    fleet = Transformer.stack(each)
    tokens = torch.from_numpy(data(0).tokens[:6]).long()
    together = fleet(tokens.expand(len(each), -1, -1), 5)
    for number, model in enumerate(each):
        again = fleet.members([number])
        assert all(torch.equal(p, q) for p, q in zip(again.parameters(), model.parameters(), strict=True))
        torch.testing.assert_close(together[number], model(tokens[None], 5)[0])


def test_adam_is_torchs_adam_with_a_rate_a_member() -> None:
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(2, 5, 4, generator=generator)
    ours = nn.Parameter(start.clone())
    theirs = [nn.Parameter(start[i].clone()) for i in range(2)]
    adam = Adam([(ours, 2.0)])
    peers = [
        torch.optim.Adam([p], lr=2.0 * rate, betas=(0.8, 0.95)) for p, rate in zip(theirs, (0.1, 0.3), strict=True)
    ]
    for step in range(4):
        slope = torch.randn(2, 5, 4, generator=generator)
        ours.grad = slope.clone()
        with torch.no_grad():
            adam.step(step, torch.tensor([0.1, 0.3]))
        for p, peer, own in zip(theirs, peers, slope, strict=True):
            p.grad = own.clone()
            peer.step()
    torch.testing.assert_close(ours.data, torch.stack([p.data for p in theirs]))


def test_the_sweep_gives_a_study_the_same_rows_in_fleets_as_one_by_one(
    double: None, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = studies.find("diversity_sweep")
    given = {"n_instructions": [4, 40], "noop_shares": [], "seeds": [0, 1], "steps": 30, "width": 32, "layers": 2}
    points = study.points(study.resolve({"scale": "smoke", **given}))
    assert len({point.shape for point in points}) == 1
    loop = sweep(points, study.measure, store=Store(tmp_path_factory.mktemp("loop")), jobs=0)
    monkeypatch.setenv("LABKIT_FLEET", "4")
    store = Store(tmp_path_factory.mktemp("fleet"))
    fleet = sweep(points, study.measure, measure_many=study.measure_many, store=store, jobs=0)
    for ours, theirs in zip(fleet, loop, strict=True):
        assert (ours["fleet"], theirs["fleet"]) == (4, 1)
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-3)
        assert ours["accuracy_seen"] == pytest.approx(theirs["accuracy_seen"], abs=0.02)
        assert len(store.log(study.name, ours["address"])) == 7
        assert learn.load(store.find(ours["address"])).layout == learn.rewriting_layout(RewritingTask(3, 8))
