"""Methods of selection: known answers, public implementations on the same input, what learners say, the command."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from command import labkit
from hypothesis import given
from hypothesis import strategies as st
from tiny import tiny_examples, tiny_llama

from labkit import BadRequest, learn
from labkit.design import selection
from labkit.design.selection import METHODS
from labkit.learn import appraisal, chat
from labkit.learn.finetuning import Finetuning
from labkit.learn.learner import Learner, SmallLearner, TunedLearner
from labkit.studies import selecting

# Of `directions()` and a budget of 12, with max(0, cosine) as the kernel: what the naive and the lazy greedy of
# apricot-select 0.6.1 (metric "precomputed") and of submodlib-py 0.0.3 (mode "dense") chose, all four alike.
PUBLIC = [10, 15, 24, 21, 18, 16, 22, 7, 0, 37, 23, 28]
EXAMPLES = tiny_examples(12)


def directions(n: int = 60, d: int = 8, seed: int = 7) -> Any:
    vectors = np.random.default_rng(seed).normal(size=(n, d))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_facility_location_is_that_of_two_public_libraries() -> None:
    assert selection.facility_location(directions(), 12).tolist() == PUBLIC


@given(st.integers(0, 99), st.integers(1, 9))
def test_lazy_is_greedy(seed: int, n: int) -> None:
    """Each record that it takes gains as much as any would."""
    vectors = directions(20, 4, seed)
    kernel, best = np.maximum(vectors @ vectors.T, 0), np.zeros(20)
    for place in selection.facility_location(vectors, n).tolist():
        gains = np.maximum(kernel - best[:, None], 0).sum(axis=0)
        assert gains[place] == pytest.approx(gains.max(), abs=1e-9)
        best = np.maximum(best, kernel[:, place])


@given(st.lists(st.floats(0, 2), min_size=3, max_size=30), st.data())
def test_every_method_chooses_so_many_different_records(scores: list[float], data: Any) -> None:
    n, vectors = data.draw(st.integers(1, len(scores) - 1)), directions(len(scores), 3)
    likeness = directions(2, 3, 1) @ vectors.T
    for chosen in (
        selection.highest(scores, n), selection.helped(np.array(scores), n), selection.in_turn(likeness, n),
        selection.facility_location(vectors, n), selection.good_and_new(scores, vectors, n),
    ):  # fmt: skip
        assert len(set(chosen.tolist())) == len(chosen) == n
        assert 0 <= chosen.min() <= chosen.max() < len(scores)


def test_ifd_above_one_is_chosen_last() -> None:
    """As the public code, which drops a rate above 1 and takes the highest of the others; filled up from the lowest."""
    rates = np.array([0.5, 1.2, 0.9, 3.0, 1.0])
    assert selection.helped(rates, 3).tolist() == [4, 2, 0]
    assert selection.helped(rates, 5).tolist() == [4, 2, 0, 1, 3]


def test_the_targets_records_choose_in_turn() -> None:
    likeness = np.array([[0.9, 0.8, 0.1, 0.0], [0.9, 0.2, 0.7, 0.0]])
    assert selection.in_turn(likeness, 3).tolist() == [0, 1, 2]
    assert selection.in_turn(likeness, 4).tolist() == [0, 1, 2, 3]


def test_near_duplicates_of_better_records_wait() -> None:
    vectors = np.array([[1.0, 0], [1.0, 0], [0, 1.0], [0.6, 0.8]])
    assert selection.good_and_new([4, 3, 2, 1], vectors, 3).tolist() == [0, 2, 3]
    assert selection.good_and_new([4, 3, 2, 1], vectors, 4).tolist() == [0, 2, 3, 1]
    assert selection.good_and_new([4, 3, 2, 1], vectors, 3, alike=0.7).tolist() == [0, 2, 1]


def test_what_selecting_costs() -> None:
    free = [name for name in METHODS if not selection.cost(name, 1000, 10, 50)]
    assert free == ["random", "longest", "facility", "quality"]
    assert selection.cost("loss", 1000, 10, 50) == 1000 + 2 * 50
    assert selection.cost("gradient", 1000, 10, 50) == 3 * 1010 + 50
    assert selection.cost("representation", 1000, 10) == 1010


def small() -> SmallLearner:
    layout = learn.TextLayout(learn.pieces([e.instruction for e in EXAMPLES], 1), 12, 12)
    learner = SmallLearner(
        "fast", learn.Shape(len(layout.vocabulary), layout.length, 2, 16, 2, 0), layout, seed=0, batch=4, rate=0.02
    )
    learner.learn(EXAMPLES, steps=3, seed=0, folder=Path())
    return learner


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("llama"), width=16)


@pytest.fixture(scope="module", params=["small", "tuned"])
def learner(request: pytest.FixtureRequest, llama: Path) -> Learner:
    if request.param == "small":
        return small()
    about = Finetuning(str(llama), quantisation="none", rank=4, dropout=0.0, steps=1, template="alpaca")
    return TunedLearner(about, new_tokens=8, say=lambda _: None)


def test_states_are_of_length_one_and_of_one_example_alone(learner: Learner) -> None:
    vectors = appraisal.states(learner, EXAMPLES)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    alone = np.concatenate([appraisal.states(learner, [example]) for example in EXAMPLES])
    assert np.allclose(vectors, alone, atol=1e-4)
    other = appraisal.states(learner, [replace(EXAMPLES[0], output=EXAMPLES[0].output + "a")])
    assert not np.allclose(other, vectors[:1], atol=1e-4)  # answers are read, too


def test_gradients_say_how_far_a_step_lowers_a_loss(learner: Learner) -> None:
    """A record's gradient is likest to its own; it comes out the same again, and the learner is as it was."""
    before = appraisal.losses(learner, EXAMPLES)
    found = dict(learner.vectors(EXAMPLES, "gradients"))
    assert sorted(found) == list(range(len(EXAMPLES)))
    vectors = np.stack([found[place] for place in range(len(EXAMPLES))])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = vectors @ vectors.T
    for place, example in enumerate(EXAMPLES):
        likeness = appraisal.gradient_likeness(learner, EXAMPLES, [[example]])
        assert np.allclose(likeness, cosines[place], atol=1e-3)
        assert likeness.max() == pytest.approx(1, abs=1e-3)
    parts = appraisal.gradient_likeness(learner, EXAMPLES, [EXAMPLES[:2], EXAMPLES[2:5]])
    means = np.stack([cosines[:, :2].mean(axis=1), cosines[:, 2:5].mean(axis=1)])
    assert np.allclose(parts, means.max(axis=0), atol=1e-3)  # as `matching.py` of LESS: mean, then max over parts
    assert np.allclose(appraisal.losses(learner, EXAMPLES), before, atol=1e-5)


def test_a_small_models_gradient_is_that_of_its_loss() -> None:
    learner = small()
    (_, found), *_ = learner.vectors(EXAMPLES[:1], "gradients")
    weights, step = list(learner.model.parameters()), 1e-3
    with torch.no_grad():
        for sign in (1, -2):
            at = 0
            for weight in weights:
                part = torch.from_numpy(found[at : at + weight.numel()]).view_as(weight)
                weight += sign * step * part
                at += weight.numel()
            if sign == 1:
                above = appraisal.losses(learner, EXAMPLES[:1])
    below = appraisal.losses(learner, EXAMPLES[:1])
    assert (above - below)[0] / (2 * step) == pytest.approx(float((found**2).sum()), rel=0.05)


def test_ifd_and_states_are_those_of_the_public_code(llama: Path) -> None:
    """From transformers' own outputs as Cherry LLM (`data_analysis.py`, `data_by_IFD.py`) and the authors of RDS+
    (`compute_influence_cosinesim.py`) compute them: labels masked up to the answer, positions that weigh 1, 2, ..."""
    about = Finetuning(str(llama), quantisation="none", steps=1, template="alpaca", dropout=0.0)
    learner = TunedLearner(about, say=lambda _: None)
    found, states = appraisal.ifd(learner, EXAMPLES), appraisal.states(learner, EXAMPLES)
    for place, example in enumerate(EXAMPLES):
        losses = []
        for asked in (example, replace(example, instruction="", input="")):
            encoded = chat.encode(learner.tokenizer, [asked])
            ids = torch.tensor(encoded.row(0).tolist())[None]
            labels = ids.clone()
            labels[0, : int(encoded.prompts[0])] = -100
            with torch.no_grad():
                out = learner.model(ids, labels=labels, output_hidden_states=True)
            losses.append(float(out.loss))
            if asked is example:
                hidden = out.hidden_states[-1]
                weights = torch.arange(hidden.shape[1]) + 1.0
                pooled = F.normalize((hidden * (weights / weights.sum())[None, :, None]).sum(1))[0].numpy()
        assert found[place] == pytest.approx(losses[0] / losses[1], rel=1e-4)
        assert np.allclose(states[place], pooled, atol=1e-4)


def pool_file(path: Path, n: int = 40, **more: str) -> Path:
    lines = [{"instruction": e.instruction, "input": e.input, "output": e.output} for e in tiny_examples(n)]
    path.write_text("".join(json.dumps(line | more) + "\n" for line in lines))
    return path


@pytest.mark.parametrize("method", METHODS)
def test_the_command_writes_what_it_chose(method: str, tmp_path: Path, llama: Path) -> None:
    data, out = pool_file(tmp_path / "pool.jsonl"), tmp_path / "out.jsonl"
    target = pool_file(tmp_path / "target.jsonl", 3)
    found = labkit("select", str(data), "--budget", "7", "--method", method, "--model", str(llama), "--embedder",
                   "lexical", "--against", str(target), "--out", str(out))  # fmt: skip
    assert found.returncode == 0, found.stderr
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    pool = [json.loads(line) for line in data.read_text().splitlines()]
    assert len(lines) == 7
    assert all(line in pool for line in lines)
    assert ("forward passes" in found.stdout) == (METHODS[method].needs == "model")


@pytest.mark.parametrize(("changes", "says"), [
    ({"budget": 0}, "a budget of 0 of 40 records: use 1 to 39"),
    ({"budget": 40}, "a budget of 40 of 40 records: use 1 to 39"),
    ({"method": "lost"}, "unknown method of selection 'lost': did you mean 'loss'"),
    ({"method": "gradient"}, "the method 'gradient' needs a target with at least one instruction"),
    ({"method": "facility", "embedder": "minilmm"}, "unknown embedder, nor folder of one, 'minilmm'"),
    ({"method": "random", "embedder": "minilmm"}, "unknown embedder, nor folder of one, 'minilmm'"),
    ({"method": "ifd", "model": "no/such"}, "'no/such' is no folder here"),
    ({"data": 9}, "a pool of 9 records is too small to select from: 20 are needed"),
])  # fmt: skip
def test_bad_requests_are_one_sentence(changes: dict[str, Any], says: str, tmp_path: Path) -> None:
    data = pool_file(tmp_path / "pool.jsonl", changes.pop("data", 40))
    with pytest.raises(BadRequest, match=says):
        selecting.select(data, **{"budget": 5, "method": "random"} | changes)


@pytest.mark.parametrize("method", ["loss", "ifd"])
def test_a_record_without_an_answer_is_not_scored(method: str, tmp_path: Path, llama: Path) -> None:
    data = pool_file(tmp_path / "pool.jsonl")
    data.write_text(data.read_text() + json.dumps({"instruction": "Copy it.", "input": "a", "output": ""}) + "\n")
    with pytest.raises(BadRequest, match=rf"'{method}' scores every record of .*, and 1 cannot be scored \(out"):
        selecting.select(data, 5, method, model=str(llama))
    assert len(selecting.select(data, 5, method, model=str(llama), skip_bad=True).pool) == 40
    assert "output is empty" in selecting.select(data, 5, "random").notes[0]


@pytest.mark.parametrize("text", ["", json.dumps({"instruction": "", "output": "x"})])
def test_a_target_without_instructions_is_one_sentence(text: str, tmp_path: Path) -> None:
    (tmp_path / "target.jsonl").write_text(text)
    with pytest.raises(BadRequest, match=r"target\.jsonl"):
        selecting.select(pool_file(tmp_path / "pool.jsonl"), 5, "gradient", against=tmp_path / "target.jsonl")
