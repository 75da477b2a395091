"""Every way of training and of asking works on a device that is not the CPU, and ends as on the CPU."""

import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from elsewhere import AWAY, Away, Elsewhere, MixedDevices, Seen
from tiny import tiny_examples, tiny_llama

from labkit import learn
from labkit.learn import chat, qlora, scoring
from labkit.studies.diversity_sweep import STUDY, points

CELL = points(STUDY.resolve({"scale": "smoke", "n_instructions": [20], "seeds": [0], "noop_shares": [0.5]}))[-1]
EXAMPLES = tiny_examples(8)
FUSED = "_get_fused_kernels_supported_devices"


def gradients_off(mode: Any) -> Any:
    """One `no_grad` for each use of inference mode."""
    return mode.__dict__.setdefault("_off", torch.no_grad())


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The second device, of which torch is told that it has fused optimisers and nothing to do for autocast.

    Inference mode only switches gradients off: in it, operations that are made of others would come whole.
    """
    monkeypatch.setattr(torch.inference_mode, "__enter__", lambda self: self.off.__enter__())
    monkeypatch.setattr(torch.inference_mode, "__exit__", lambda self, *error: self.off.__exit__(*error))
    monkeypatch.setattr(torch.inference_mode, "off", property(gradients_off), raising=False)
    monkeypatch.setattr(sys.modules[torch.optim.Optimizer.__module__], FUSED, lambda: ["cpu", AWAY.type])
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    torch.__future__.set_swap_module_params_on_conversion(True)  # or weights that are tied would come apart
    with Seen(), Elsewhere():
        yield str(AWAY)
    torch.__future__.set_swap_module_params_on_conversion(False)


def test_the_second_device_refuses_what_a_gpu_would(away: str) -> None:
    there, here = torch.ones(3, device=away), torch.ones(3)
    assert float((there + torch.tensor(1.0)).sum()) == 6
    assert there[torch.tensor([0])].device == AWAY
    assert type(there.cpu()) is torch.Tensor
    with pytest.raises(MixedDevices):
        there + here
    with pytest.raises(MixedDevices):
        here.index_add_(0, there.long(), here)


@pytest.mark.parametrize("recipe", learn.RECIPES)
def test_small_models_are_trained_and_asked(away: str, recipe: str) -> None:
    data = CELL.lesson().data
    answers, losses, likely = [], [], []
    for device in ("cpu", away):
        model = learn.build(recipe, CELL.model_shape(), 0).to(device)
        torch.manual_seed(0)  # of dropout
        losses.append(learn.train(model, recipe, data, steps=3, batch_size=16, seed=0, device=device).loss)
        assert {p.device for p in model.parameters()} == {torch.device(device)}
        few = data._replace(tokens=data.tokens[:20])
        guesses = learn.predict(model, few, device=device)
        prompts = torch.from_numpy(few.tokens[:, : few.prompt_length]).long().to(device)
        answers.append((guesses.tolist(), learn.generate(model, prompts, few.answer_length, 1).tolist()))
        likely.append(learn.log_likelihood(model, few, device=device).total.numpy())
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
    assert answers[1] == answers[0]
    np.testing.assert_allclose(likely[1], likely[0], rtol=1e-5)


def test_a_fleet_is_trained(away: str) -> None:
    """Members leave at different steps: model and optimiser are cut on the device."""
    data, ends = CELL.lesson().data, []
    for device in ("cpu", away):
        models = [learn.build("fast", CELL.model_shape(), seed).to(device) for seed in range(3)]
        members = [learn.Member(data, seed, 2 + seed) for seed in range(3)]
        done = learn.train_fleet(models, "fast", members, batch_size=8, device=device)
        ends.append([one.loss for one in done])
    assert ends[1] == pytest.approx(ends[0], rel=1e-5)


@pytest.mark.parametrize("loss", ["token", "example"])
def test_a_language_model_is_fine_tuned_and_asked(away: str, loss: Any, tmp_path: Path) -> None:
    pytest.importorskip("peft", reason="needs labkit[qlora]")
    base = tiny_llama(tmp_path / "base")
    settings = qlora.settings(str(base), quantisation="none", rank=4, steps=1, dropout=0.0, max_length=128, loss=loss,
                              template="plain", gradient_checkpointing=False)  # fmt: skip
    tokenizer = qlora.load_tokenizer(str(base))
    chat.set_template(tokenizer, "plain")
    rows = list(chat.dataset(chat.encode(tokenizer, EXAMPLES)))
    found = []
    for device in ("cpu", away):
        trainer = qlora.build_trainer(settings, tmp_path, tokenizer, rows, None)
        model = trainer.model.to(device)
        batch = {name: tensor.to(device) for name, tensor in trainer.data_collator(rows).items()}
        optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 1e-2)
        losses = []
        for _ in range(2):
            value = trainer.compute_loss(model, dict(batch), num_items_in_batch=batch["weights"].sum())
            value.backward()
            optimiser.step()
            optimiser.zero_grad()
            losses.append(float(value.detach()))
        model.eval()
        written = qlora.answer(model, tokenizer, EXAMPLES, max_new_tokens=6, batch_size=3)
        right = [row.tolist() for row in qlora.followed(model, tokenizer, EXAMPLES)]
        scores = scoring.score(model, tokenizer, EXAMPLES, [["a", "bcd"]] * len(EXAMPLES)).total
        found.append((losses, written, right, scores))
        assert isinstance(value, Away) == (device == away)
        assert chat.isolates(model, len(tokenizer))
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-4)
    assert found[1][1:3] == found[0][1:3]
    np.testing.assert_allclose(found[1][3], found[0][3], rtol=1e-4)
