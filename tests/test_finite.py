"""Training that failed gives no result, and what a machine cannot hold is not begun: small models."""

import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from labkit import BadRequest, learn, studies
from labkit.instructions import RewritingTask, draw_inputs, draw_rules
from labkit.lab import Store
from labkit.lab.sweep import run_points
from labkit.learn import checkpoint, inference, memory
from labkit.learn.finite import NotFinite, all_finite
from labkit.learn.transformer import Transformer
from labkit.studies import base_model

TASK = RewritingTask(pattern_length=2, input_length=4, alphabet="abcdef")
RULES = draw_rules(TASK, 10, seed=0)
DATA = learn.encode_rewriting(TASK, RULES, draw_inputs(TASK, RULES, np.arange(60) % 10, seed=0))
SHAPE = learn.Shape(len(DATA.vocabulary), DATA.tokens.shape[1], layers=2, width=16, heads=2, expansion=1)
RECIPES = list(learn.RECIPES)


def model(recipe: str = "fast", broken: float | None = None, seed: int = 0) -> nn.Module:
    """A fresh model, one of its weights replaced."""
    made = learn.build(recipe, SHAPE, seed)
    if broken is not None:
        *_, weight = (p for p in made.parameters() if p.ndim > 1)
        weight.data.view(-1)[0] = broken
    return made


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_a_single_number_that_is_not_finite_is_found(dtype: torch.dtype) -> None:
    good = torch.linspace(-3, 3, 20).to(dtype)
    assert all_finite([good, torch.arange(3), torch.zeros(0)])
    bad = good.clone().float()
    bad[7] = math.nan
    assert not all_finite([good, bad.to(dtype)])
    if dtype != torch.float8_e4m3fn:  # has no infinity
        for value in (math.inf, -math.inf):
            bad[7] = value
            assert not all_finite([bad.to(dtype)])
    assert all_finite([])


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("every", [0, 1])
def test_a_run_that_is_not_finite_ends_with_a_sentence(
    recipe: str, every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a few steps, not at the end of ten million; whoever looks on is shown no loss of NaN."""
    monkeypatch.setattr(sys.modules["labkit.learn.train"], "CHECKED", 2)
    seen: list[float] = []
    with pytest.raises(
        NotFinite, match=r"training diverged, nothing of it is kept: its loss is (nan|inf) after step [12];"
    ):
        learn.train(
            model(recipe, math.nan), recipe, DATA, steps=10**7, batch_size=4, seed=0, every=every,
            on_step=lambda step, loss, seconds: seen.append(loss),
        )  # fmt: skip
    assert seen == []


def test_a_weight_that_plays_no_part_in_the_loss_is_found_at_the_end() -> None:
    made = learn.build("fast", replace(SHAPE, length=SHAPE.length + 1), 0)
    assert isinstance(made, Transformer)
    made.positions.data[:, -1] = math.nan  # of a place that no sequence reaches
    with pytest.raises(NotFinite, match="its weights are not finite after step 1"):
        learn.train(made, "fast", DATA, steps=1, batch_size=4, seed=0)


def test_a_broken_model_scores_nothing() -> None:
    for ask in (
        lambda broken: inference.predict(broken, DATA),
        lambda broken: inference.log_likelihood(broken, DATA),
        lambda broken: inference.generate(broken, torch.from_numpy(DATA.tokens[:3, : DATA.prompt_length]).long(), 4),
    ):
        ask(model())
        with pytest.raises(NotFinite, match="scores that are not numbers"):
            ask(model(broken=math.nan))


def test_one_diverged_member_of_a_fleet_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = studies.find("diversity_sweep")
    few = {"scale": "smoke", "n_instructions": [4], "noop_shares": [], "steps": 2, "n_test": 10, "test_rules": 2}
    points = study.points(study.resolve({**few, "seeds": [0, 1, 2, 3]}))
    build = checkpoint.build

    def broken(recipe: str, shape: learn.Shape, seed: int) -> nn.Module:
        made = build(recipe, shape, seed)
        if seed == 2:
            next(made.parameters()).data.fill_(math.nan)
        return made

    monkeypatch.setattr(checkpoint, "build", broken)
    store = Store(tmp_path)
    outcomes = run_points(points, study.measure, measure_many=study.measure_many, store=store, jobs=0, fleet=4)
    assert [outcome.row is not None for outcome in outcomes] == [True, True, False, True]
    assert "training diverged, nothing of it is kept" in str(outcomes[2].error)
    assert all(math.isfinite(outcome.row["loss"]) for outcome in outcomes if outcome.row)
    assert store.result(points[2]) is None
    assert not list(store.folder(points[2]).glob("model*"))


# Memory


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("expansion", [0, 1, 3])
def test_the_estimate_is_what_training_takes(recipe: str, expansion: int) -> None:
    """Weights and optimiser against a model's own; activations against what autograd keeps."""
    shape = learn.Shape(40, DATA.tokens.shape[1], layers=3, width=64, heads=2, expansion=expansion)
    made = learn.build(recipe, shape, 0)
    estimate = memory.estimate_training(recipe, shape, 16, DATA.answer_length)
    size = sum(p.numel() * p.itemsize for p in made.parameters())
    assert estimate.weights == estimate.gradients == pytest.approx(size, rel=0.05)
    kept: dict[int, int] = {p.untyped_storage()._cdata: 0 for p in made.parameters()}
    alive = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept.setdefault(tensor.untyped_storage()._cdata, tensor.untyped_storage().nbytes())
        alive.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        tokens = torch.zeros((1, 16, shape.length - 1), dtype=torch.long)
        logits = made(tokens, DATA.answer_length).flatten(0, -2)
        loss = torch.nn.functional.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long))
    assert estimate.activations == pytest.approx(sum(kept.values()), rel=0.35)
    work = 24 * shape.layers * (4 + (3 if recipe == "llama" else 2) * max(expansion, recipe != "fast")) * 64**2
    optimiser = learn.RECIPES[recipe].Optimiser(made, [0.1])
    loss.backward()
    optimiser.step(0, [1.0])
    states = [s for part in ("adamw", "adam") for s in [getattr(optimiser, part, None)] if s is not None]
    held = sum(
        t.numel() * t.itemsize
        for state in states
        for values in (getattr(state, "state", {}).values() if hasattr(state, "state") else [])
        for t in values.values()
    )
    held += sum(t.numel() * t.itemsize for pair in getattr(states[0], "moments", []) for t in pair)
    held += optimiser.muon.average.numel() * 4 if hasattr(optimiser, "muon") else 0
    working = max(0, work - estimate.activations) if hasattr(optimiser, "muon") else 0
    assert estimate.optimiser == pytest.approx(held + working, rel=0.05)


SIZES = {"layers": 48, "width": 16384, "heads": 64}


@pytest.mark.parametrize("name", ["diversity_sweep", "long_tail", "markov_programs", "semantic_diversity"])
@pytest.mark.parametrize("recipe", ["fast", "paper"])
def test_points_that_no_memory_holds_are_not_made(name: str, recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    study = studies.find(name)
    monkeypatch.setattr(memory, "machine_memory", lambda: 2**32)
    study.points(study.resolve({"scale": "smoke"}))
    with pytest.raises(BadRequest) as refused:
        study.points(study.resolve({"scale": "smoke", "recipe": recipe, **SIZES}))
    said = str(refused.value)
    assert "\n" not in said
    assert "GiB of memory to train (weights " in said
    assert "this machine has 4.0: lower width, layers or expansion" in said


def test_a_batch_that_no_memory_holds_names_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "machine_memory", lambda: 2**30)
    with pytest.raises(BadRequest, match=r"or batch_size = 100000$"):
        memory.check_training_memory("a model", "fast", SHAPE, 100_000, 4)
    with pytest.raises(BadRequest, match=r"the base model takes about .* GiB"):
        base_model.base_of({"width": 8192, "layers": 40})


def test_the_limits_around_a_process_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the process, of its own group and of those around it, in both versions; what is no number is no limit."""
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    monkeypatch.setattr(memory, "_CGROUPS", tmp_path / "own")
    unlimited = memory.resource.RLIM_INFINITY
    monkeypatch.setattr(memory.resource, "getrlimit", lambda which: (unlimited, unlimited))
    assert memory._limited(1000) == 1000  # no groups at all
    (tmp_path / "own").write_text("0::/a/b\n")
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "memory.max").write_text("max\n")
    assert memory._limited(1000) == 1000
    (tmp_path / "a" / "memory.max").write_text("300\n")
    assert memory._limited(1000) == 300
    assert memory._limited(200) == 200
    (tmp_path / "own").write_text("4:memory:/x\n3:cpu:/y\n")
    (tmp_path / "memory" / "x").mkdir(parents=True)
    (tmp_path / "memory" / "x" / "memory.limit_in_bytes").write_text("250\n")
    assert memory._limited(1000) == 250
    monkeypatch.setattr(memory.resource, "getrlimit", lambda which: (70, unlimited))
    assert memory._limited(1000) == 70


# Models on disk


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    learn.save(folder, learn.Learner(model(), "fast", SHAPE, learn.rewriting_layout(TASK)))
    return folder


WRONG: list[Any] = [None, "x", -1, 0, 1.5, 10**12, [], {}, [None], "6"]


def test_a_model_json_of_another_shape_is_one_sentence(saved: Path, tmp_path: Path) -> None:
    """Each value of it replaced by each of many: loaded is only what describes the same model."""
    whole = json.loads((saved / "model.json").read_text())
    (tmp_path / "model.safetensors").write_bytes((saved / "model.safetensors").read_bytes())
    texts = ["[]", "3", "null", '"x"', "{}", "", "{", "[" * 100_000, "\x00"]
    for name, value in whole.items():
        texts += [json.dumps(whole | {name: wrong}) for wrong in WRONG]
        if isinstance(value, dict):
            for inner in value:
                texts += [json.dumps(whole | {name: value | {inner: wrong}}) for wrong in WRONG]
                texts.append(json.dumps(whole | {name: {k: v for k, v in value.items() if k != inner}}))
    refusals = []
    for text in texts:
        (tmp_path / "model.json").write_text(text)
        try:
            learn.load(tmp_path).answer(("ab", "cd", "abab"))
        except BadRequest as refused:
            refusals.append(str(refused))
    assert all("\n" not in refusal and len(refusal) < 400 for refusal in refusals)
    assert len(refusals) > 0.8 * len(texts)


def test_weights_that_are_cut_or_not_finite_are_one_sentence(saved: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    (tmp_path / "model.json").write_bytes((saved / "model.json").read_bytes())
    whole, file = (saved / "model.safetensors").read_bytes(), tmp_path / "model.safetensors"
    for part in (b"", whole[:5], whole[:200], whole[:-1], b"\xff" * 100):
        file.write_bytes(part)
        with pytest.raises(BadRequest, match="is damaged or not one of labkit"):
            learn.load(tmp_path)
    weights = load_file(saved / "model.safetensors")
    for name, value in weights.items():
        for changed in (value[..., :-1], value.double().fill_(math.inf)):
            save_file(weights | {name: changed.contiguous()}, file)
            with pytest.raises(BadRequest, match=r"damaged|not all finite numbers"):
                learn.load(tmp_path)


def test_a_file_where_the_base_model_should_go_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(BadRequest, match="file is a file: name an empty or a new folder"):
        base_model.pretrain_into(base_model.base_of({}), tmp_path / "file", Store(tmp_path / "store"))
    assert (tmp_path / "file").read_text() == "mine"
