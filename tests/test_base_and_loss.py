"""The loss as a choice, the text base, and what is promised before a run."""

from dataclasses import replace
from itertools import islice
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from labkit import BadRequest, grade, learn, studies
from labkit.instructions.families import EVERY
from labkit.instructions.family import draw, split_of
from labkit.instructions.functions import FUNCTIONS
from labkit.instructions.lexicon import CRIES
from labkit.instructions.plain_text import document, plain_text
from labkit.lab import Store
from labkit.learn.batches import batch_of, sizes
from labkit.learn.train import weights
from labkit.studies import language, learners, registration
from labkit.studies.cell import measure
from labkit.studies.registration import Endpoint, Registration
from labkit.studies.views import Found

LAYOUT = learn.TextLayout(learn.pieces(["a bb"], 1), 4, 6)


def test_every_example_counts_alike_or_every_token_does() -> None:
    """Against the loop over examples, in two members with fillings of their own."""
    rows = LAYOUT.encode(["a"] * 6, ["a", "bb a", "abab", "b", "", "a b a"])
    tokens = torch.from_numpy(rows.tokens).view(2, 3, -1)
    (size,) = sizes(tokens[None, ..., -rows.answer_length :] != learn.text.PAD)
    batch = batch_of(tokens, rows.answer_length, learn.text.PAD, size)
    for loss in learn.LOSSES:
        found = torch.zeros(tokens[..., -batch.answer :].shape).flatten(1)
        found.scatter_(1, batch.where, weights(batch, loss))
        real = (batch.tokens[..., -batch.answer :] != learn.text.PAD).float()
        wanted = real / real.sum((1, 2), keepdim=True) if loss == "token" else real / real.sum(2, keepdim=True) / 3
        torch.testing.assert_close(found, wanted.flatten(1))


def test_both_losses_are_one_where_answers_are_equally_long() -> None:
    tokens = torch.randint(0, 5, (2, 3, 8))
    batch = batch_of(tokens, 4, None, None)
    for loss in learn.LOSSES:
        torch.testing.assert_close(weights(batch, loss), torch.full((2, 12), 1 / 12))


def test_the_loss_that_is_chosen_is_the_one_that_is_minimised() -> None:
    """One long and one short answer that contradict each other: what is learned follows the weights."""
    shape = learn.Shape(len(LAYOUT.vocabulary), LAYOUT.length, 1, 8, 1, 0)
    data = LAYOUT.encode(["a", "a"], ["a", "bbbbb"])
    ends = {}
    for loss in learn.LOSSES:
        model = learn.build("paper", replace(shape, expansion=1), seed=0)
        learn.train(model, "paper", data, steps=60, batch_size=2, seed=0, loss=loss)
        logits = model(torch.from_numpy(data.tokens[None, :1, :-1]).long(), LAYOUT.answer)
        first = F.softmax(logits[0, 0, 0], 0)
        ends[loss] = first[data.tokens[0, -LAYOUT.answer]].item()
    assert ends["example"] > ends["token"]


def test_plain_text_holds_no_held_out_instruction_and_no_request_with_its_answer() -> None:
    rng = Random(0)
    for name, family in EVERY.items():
        for task in draw(family, 40, seed=3):
            assert split_of(task.instruction.key) == "train"
            text = document(task, rng)
            if name != FUNCTIONS.name:
                lines = text.split("\n")
                assert lines == [task.example.instruction] or task.example.instruction not in lines
    assert list(islice(plain_text(["sorting", "functions"], levels=[1], seed=1), 30)) == list(
        islice(plain_text(["sorting", "functions"], levels=[1], seed=1), 30)
    )


def test_answered_text_has_requests_over_their_answers_and_is_another_base() -> None:
    """Half of the general documents, and half of these with a demand; code's have none."""
    rng, headed, demands = Random(0), 0, 0
    for task in draw(EVERY["sorting"], 200, seed=3):
        head, *rest = document(task, rng, answered=True).split("\n")
        if head.startswith(f"# {task.example.instruction}"):
            headed += 1
            demands += head.endswith('"')
            assert [line for line in rest if line not in CRIES] == [task.example.input, task.example.output]
    assert 70 < headed < 130
    assert 0.3 * headed < demands < 0.7 * headed
    code = draw(FUNCTIONS, 60, seed=3)
    assert [document(task, Random(1), answered=True) for task in code] == [document(task, Random(1)) for task in code]
    plain = base(0.0)
    assert "answered" not in plain.model_dump()
    assert plain.model_copy(update={"answered": True}).address != plain.address


READS = ("sorting", "functions")


def base(least: float) -> learners.TextBase:
    spec = learners.SmallSpec(
        recipe="fast", recipe_version=1, precision="float32", layers=1, width=16, heads=1, expansion=0, batch_size=8,
        learning_rate=0.01, reads=READS, **language.reading(READS),
    )  # fmt: skip
    return learners.TextBase(
        seed=0, steps=4, spec=spec, levels=(1,), text_tokens=2000, least=least, gate_examples=8, gate_steps=2
    )


def test_a_learner_begins_with_its_base_and_not_with_what_the_gate_learned(tmp_path: Path) -> None:
    store, text_base = Store(tmp_path), base(0.0)
    store.measure(text_base, measure)
    spec = text_base.spec.model_copy(update={"base": text_base})
    (needed,) = spec.needs()
    assert needed == text_base
    learner = spec.make(5, Needing(store))
    kept = learn.load(store.folder(text_base)).model.state_dict()
    assert all(torch.equal(kept[name], value) for name, value in learner.model.state_dict().items())
    text = text_base.lesson().data
    assert isinstance(text, learn.Encoded)
    assert text.filling is None
    assert text.answer_length == text.tokens.shape[1] - 1


class Needing:
    """A record of a point in a store, as far as a learner asks it."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def row_of(self, point: learners.TextBase) -> dict:
        return self.store.result(point) or {}

    def folder_of(self, point: learners.TextBase) -> Path:
        return self.store.folder(point)


def test_a_base_that_fails_its_gate_is_one_sentence(tmp_path: Path) -> None:
    store, text_base = Store(tmp_path), base(1.0)
    store.measure(text_base, measure)
    spec = text_base.spec.model_copy(update={"base": text_base})
    with pytest.raises(BadRequest, match=r"the text base reaches 0\.00 of its gate of 1 on small functions"):
        spec.make(5, Needing(store))


PROMISE = Registration(
    hypothesis="more rules help", endpoint=Endpoint(view="growth", exam="unseen"), smallest_effect=0.05,
    rule="supported when the interval lies above 0", seeds=(0, 1),
)  # fmt: skip


def test_another_promise_means_other_cells() -> None:
    study = replace(studies.find("diversity_sweep"), registrations={"smoke": PROMISE})
    params = study.resolve({"scale": "smoke"})
    before, after = study.points(params), replace(
        study, registrations={"smoke": PROMISE.model_copy(update={"smallest_effect": 0.1})}
    ).points(params)  # fmt: skip
    assert {cell.registration for cell in before} == {PROMISE.digest}
    assert {cell.address for cell in before}.isdisjoint(cell.address for cell in after)


@pytest.mark.parametrize(
    ("changes", "seeds", "says"),
    [
        (
            {"endpoint": Endpoint(view="decline", exam="unseen")},
            [0],
            "the view 'decline', which the study",
        ),
        ({"seeds": (0, 1000)}, [0], "reports seed 1000: seeds from 1000 on are for development"),
        ({}, [0, 1001], "report seeds are below 1000, and never run with those above"),
    ],
)
def test_a_registration_that_does_not_fit_is_one_sentence(changes: dict, seeds: list[int], says: str) -> None:
    promise = PROMISE.model_copy(update=changes)
    study = replace(studies.find("diversity_sweep"), registrations={"smoke": promise})
    with pytest.raises(BadRequest, match=says):
        study.points(study.resolve({"scale": "smoke", "seeds": seeds}))


@pytest.mark.parametrize("name", studies.every())
def test_every_registration_fits_its_study(name: str) -> None:
    study = studies.find(name)
    for scale, promise in study.registrations.items():
        params = study.resolve({"scale": scale})
        promise.check(name, list(study.views), params)
        assert list(promise.seeds) == params.seeds
    assert registration.registered("no such study") == {}


def test_the_endpoint_is_told_place_by_place_with_what_would_have_been_found() -> None:
    import pandas as pd

    lines = [{"rules": n, "exam": "unseen", "mean": 0.5, "lo": 0.4, "hi": 0.6, "seeds": n} for n in (1, 2)]
    one, two = PROMISE.measured({"growth": Found(pd.DataFrame(lines), pd.DataFrame(), None)})
    assert (one["primary endpoint"], one["measured [95 %]"]) == ("rules 1", "0.500 [0.400, 0.600]")
    assert one["would be found in 80 of 100 cases"] == "not known from one seed"
    assert two["would be found in 80 of 100 cases"] == f"{grade.detectable(0.4, 0.6):.3f}"
    assert PROMISE.measured({}) == []


@pytest.mark.parametrize("power", [0.5, 0.8, 0.95])
def test_the_detectable_difference_is_found_as_often_as_it_says(power: float) -> None:
    """10,000 estimates of a true difference of that size: so many of their intervals leave out 0."""
    half = 1.96 * 0.3
    effect = grade.detectable(-half, half, power=power)
    estimates = np.random.default_rng(0).normal(effect, 0.3, 10_000)
    assert abs((estimates - half > 0).mean() - power) < 0.02
