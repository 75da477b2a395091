"""QLoRA on a tiny Llama: what a run promises, tried on the CPU."""

import json
import math
import os
import platform
import shutil
import signal
import subprocess
import sys
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import tiny_examples, tiny_llama
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from labkit import BadRequest
from labkit.cli import main
from labkit.learn import chat, memory, qlora, scoring
from labkit.learn.finite import NotFinite

for package in ("trl", "peft", "bitsandbytes"):
    pytest.importorskip(package, reason="needs labkit[qlora]")

EXAMPLES = tiny_examples(24)
SMALL = {"rank": 8, "batch_size": 4, "max_length": 96, "template": "plain", "learning_rate": 3e-3, "save_every": 1000}

Settings = Callable[..., qlora.Finetuning]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def settings(base: Path) -> Settings:
    def chosen(model: Path | str = base, preset: str = "default", **changes: Any) -> qlora.Finetuning:
        return qlora.settings(str(model), preset, **{**SMALL, "steps": 6, **changes})

    return chosen


@pytest.fixture(scope="module")
def trained(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run long enough to be right on some examples and wrong on others."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    changes = {"steps": 60, "rank": 32, "alpha": 64, "dropout": 0.0, "batch_size": 12, "gradient_checkpointing": False}
    qlora.finetune(EXAMPLES, settings(quantisation="none", **changes), folder, say=lambda text: None)
    return folder


def adapter(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter" / "adapter_model.safetensors")


def train(settings: qlora.Finetuning, folder: Path) -> tuple[list[float], dict[str, torch.Tensor]]:
    """The losses of all steps, and the adapter."""
    qlora.finetune(EXAMPLES, settings, folder, say=lambda text: None)
    log = json.loads((folder / "log.json").read_text())
    return [entry["loss"] for entry in log if "loss" in entry], adapter(folder)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("quantisation", qlora.QUANTISATIONS)
def test_equal_seeds_give_equal_adapters(settings: Settings, tmp_path: Path, quantisation: str) -> None:
    """With every kind of base, with packing, dropout and checkpointing; every linear layer is adapted, in 32 bits."""
    chosen = settings(quantisation=quantisation, packing=True)
    losses, first = train(chosen, tmp_path / "a")
    assert len(losses) == 6
    assert same(first, train(chosen, tmp_path / "b")[1])
    if quantisation == "nf4":
        assert not same(first, train(settings(packing=True, seed=1), tmp_path / "c")[1])
    layers = {name.split(".")[-3] for name in first}
    assert layers == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert {value.dtype for value in first.values()} == {torch.float32}
    assert all(value.abs().max() > 0 for value in first.values())


KILLED = """
import json, os, signal, sys
sys.path.insert(0, sys.argv[2])
import torch
torch.set_num_threads(1)
from pathlib import Path
from labkit.learn import qlora
from tiny import tiny_examples
settings = qlora.Finetuning(**json.loads(sys.argv[3]))
def die(log):
    if log["step"] == 5:
        os.kill(os.getpid(), signal.SIGKILL)
qlora.finetune(tiny_examples(24), settings, Path(sys.argv[1]), on_log=die)
"""


def test_a_killed_run_ends_as_an_uninterrupted_one(settings: Settings, tmp_path: Path) -> None:
    """Killed in step 5 of 8, in the second epoch, with checkpoints at 2 and 4; dropout and a moving learning rate."""
    chosen = settings(steps=8, save_every=2, schedule="cosine", warmup_ratio=0.25)
    given = json.dumps({name: getattr(chosen, name) for name in chosen.__annotations__})
    command = [sys.executable, "-c", KILLED, str(tmp_path / "killed"), str(Path(__file__).parent), given]
    assert subprocess.run(command, capture_output=True, timeout=300).returncode == -signal.SIGKILL
    assert not (tmp_path / "killed" / "finetuned.json").exists()
    with pytest.raises(BadRequest, match="is not finished"):
        qlora.load(tmp_path / "killed")
    broken = tmp_path / "killed" / "checkpoints" / "checkpoint-5"  # as if killed while saving
    broken.mkdir()
    (broken / "adapter_model.safetensors").write_bytes(b"")

    steps: list[int] = []
    resumed = qlora.finetune(EXAMPLES, chosen, tmp_path / "killed", on_log=lambda log: steps.append(log["step"]))
    assert steps == [5, 6, 7, 8]
    assert resumed.steps == 8
    losses, whole = train(chosen, tmp_path / "whole")
    assert same(adapter(tmp_path / "killed"), whole)
    assert resumed.loss == pytest.approx(sum(losses) / 8, abs=1e-12)

    about = json.loads((tmp_path / "killed" / "settings.json").read_text())
    assert about["resolved"] == {"precision": "float32", "gradient_checkpointing": False}
    for name in ("loss", "precision"):  # a run from before there was a choice is the same run
        del about["settings"][name]
    (tmp_path / "killed" / "settings.json").write_text(json.dumps(about))
    again = qlora.finetune(EXAMPLES, chosen, tmp_path / "killed", on_log=lambda log: pytest.fail("it trained again"))
    assert again == resumed
    with pytest.raises(BadRequest, match="holds a run that differs in rank, seed: choose another folder"):
        qlora.finetune(EXAMPLES, settings(**{**vars(chosen), "rank": 4, "seed": 3}), tmp_path / "killed")
    with pytest.raises(BadRequest, match="differs in examples"):
        qlora.finetune(EXAMPLES[1:], chosen, tmp_path / "killed")


def test_a_run_killed_after_its_last_step_is_not_lost(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*given: Any) -> None:
        raise KeyboardInterrupt

    chosen = settings(steps=3, quantisation="none")
    losses, whole = train(chosen, tmp_path / "whole")
    keep = qlora._keep
    monkeypatch.setattr(qlora, "_keep", die)
    with pytest.raises(KeyboardInterrupt):
        train(chosen, tmp_path / "cut")
    monkeypatch.setattr(qlora, "_keep", keep)
    assert train(chosen, tmp_path / "cut")[0] == losses
    assert same(adapter(tmp_path / "cut"), whole)


@pytest.mark.parametrize("loss", ["token", "example"])
def test_one_batch_of_eight_is_eight_of_one(settings: Settings, tmp_path: Path, loss: str) -> None:
    plain = {"quantisation": "none", "dropout": 0.0, "steps": 3, "loss": loss}
    whole, big = train(settings(**plain, batch_size=8, accumulation=1), tmp_path / "8x1")
    parts, small = train(settings(**plain, batch_size=1, accumulation=8), tmp_path / "1x8")
    assert parts == pytest.approx(whole, rel=1e-5)
    for name in big:
        torch.testing.assert_close(small[name], big[name], rtol=1e-3, atol=1e-5)


def test_every_run_prints_an_example_with_its_mask(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = qlora.finetune(EXAMPLES, settings(steps=None, epochs=2, quantisation="none"), tmp_path)
    said = capsys.readouterr().out
    one = EXAMPLES[0]
    assert (
        f"### Instruction:\n{one.instruction}\n\n### Input:\n{one.input}\n\n### Response:\n⟦{one.output}</s>⟧" in said
    )
    assert "memory: about" in said
    _, tokenizer = qlora.load(tmp_path)
    encoded = chat.encode(tokenizer, EXAMPLES)
    assert (result.steps, result.examples, result.tokens) == (12, 24, 2 * len(encoded.tokens))
    assert result.trainable == sum(value.numel() for value in adapter(tmp_path).values())


def teacher_forced(*given: Any, **how: Any) -> list[bool]:
    """Whether each whole answer is the one that greedy decoding gives."""
    return [bool(row.all()) for row in qlora.followed(*given, **how)]


def test_teacher_forced_equals_generated(trained: Path) -> None:
    model, tokenizer = qlora.load(trained)
    fresh = tiny_examples(30, seed=7)
    right = teacher_forced(model, tokenizer, EXAMPLES + fresh)
    answers = qlora.answer(model, tokenizer, EXAMPLES + fresh, max_new_tokens=24)
    assert right == [answer == one.output for answer, one in zip(answers, EXAMPLES + fresh, strict=True)]
    assert 10 < sum(right) < 50
    assert right == teacher_forced(model, tokenizer, EXAMPLES + fresh, batch_size=1)
    assert answers == qlora.answer(model, tokenizer, EXAMPLES + fresh, max_new_tokens=24, batch_size=1)


def test_a_run_is_asked_by_its_folder(
    trained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = qlora.load(trained)
    right = teacher_forced(model, tokenizer, EXAMPLES)
    known = EXAMPLES[right.index(True)]
    monkeypatch.setattr(sys, "argv", ["labkit", "ask", str(trained), "--instruction", known.instruction,
                                      "--input", known.input])  # fmt: skip
    with suppress(SystemExit):
        main()
    assert capsys.readouterr().out.splitlines()[-1] == known.output
    monkeypatch.setattr(sys, "argv", ["labkit", "ask", str(trained), "--rule", "a -> b"])
    with pytest.raises(SystemExit, match="2"):
        main()
    assert "holds a fine-tuned language model: ask it with --instruction" in capsys.readouterr().err


def logits(model: Any, tokenizer: Any) -> torch.Tensor:
    ids = torch.tensor([chat.encode(tokenizer, EXAMPLES[:1]).row(0).tolist()])
    with torch.no_grad():
        return model(input_ids=ids).logits


def test_plain_peft_reloads_the_adapter(trained: Path, base: Path) -> None:
    from peft import AutoPeftModelForCausalLM, PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = qlora.load(trained)
    ours = logits(model, tokenizer)
    plain = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), trained / "adapter").eval()
    assert torch.equal(logits(plain, AutoTokenizer.from_pretrained(trained / "adapter")), ours)
    found = AutoPeftModelForCausalLM.from_pretrained(trained / "adapter").eval()
    assert torch.equal(logits(found, tokenizer), ours)
    by_name, _ = qlora.load(base, trained / "adapter")
    assert torch.equal(logits(by_name, tokenizer), ours)
    untrained, _ = qlora.load(base, template="plain")
    assert not torch.allclose(logits(untrained, tokenizer), ours, atol=0.1)


class Peak(TorchDispatchMode):
    """The most bytes alive at once in tensors that came into being inside."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[int, int] = {}
        self.now = self.peak = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        inputs = {t.untyped_storage()._cdata for t in tree_iter((args, kwargs)) if isinstance(t, torch.Tensor)}
        out = function(*args, **(kwargs or {}))
        for tensor in tree_iter(out):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in self.alive and storage._cdata not in inputs:
                    self.alive[storage._cdata] = storage.nbytes()
                    self.now += storage.nbytes()
                    self.peak = max(self.peak, self.now)
                    weakref.finalize(storage, self.drop, storage._cdata)
        return out

    def drop(self, key: int) -> None:
        self.now -= self.alive.pop(key)


@pytest.mark.parametrize(
    "changes",
    [
        {"quantisation": "none", "gradient_checkpointing": False},
        {"quantisation": "nf4", "gradient_checkpointing": True},
        {"quantisation": "int8", "gradient_checkpointing": False, "rank": 64},
    ],
)
def test_the_memory_estimate_is_what_training_takes(
    settings: Settings, tmp_path: Path, base: Path, changes: dict[str, Any]
) -> None:
    """Weights, adapters and optimiser to a few per cent; activations against the peak of a real step."""
    chosen = settings(batch_size=8, packing=True, **changes)
    estimate = qlora.estimate_memory(qlora.load_config(str(base)), chosen)
    tokenizer = qlora.load_tokenizer(str(base))
    chat.set_template(tokenizer, "plain")
    data = chat.dataset(chat.encode(tokenizer, tiny_examples(60)), 96)
    trainer = qlora.build_trainer(chosen, tmp_path, tokenizer, data, None)
    parameters = list(trainer.model.parameters())
    frozen = sum(p.numel() * p.itemsize for p in parameters if not p.requires_grad)
    trained = sum(p.numel() * p.itemsize for p in parameters if p.requires_grad)
    assert estimate.weights == pytest.approx(frozen, rel=0.05)  # parameters without the quantisation's constants
    assert estimate.adapters == 2 * trained
    trainer.create_optimizer()
    trainer.model.train()
    if chosen.gradient_checkpointing:
        trainer.model.gradient_checkpointing_enable({"use_reentrant": False})
    rows = list(data)
    trainer.training_step(trainer.model, trainer.data_collator(rows[8:]), torch.tensor(100))
    trainer.optimizer.step()
    state = [v for s in trainer.optimizer.state.values() for v in s.values()]
    assert estimate.optimiser == pytest.approx(sum(v.numel() * v.itemsize for v in state), rel=0.01)
    trainer.model.zero_grad()
    with Peak() as measured:
        trainer.training_step(trainer.model, trainer.data_collator(rows[:8]), torch.tensor(100))
    assert estimate.activations == pytest.approx(measured.peak - trained, rel=0.3)


def test_what_does_not_fit_is_refused_with_what_would(
    settings: Settings, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = qlora.load_config(str(base))
    wish = settings(batch_size=16, quantisation="int8", max_length=512)
    smaller = settings(batch_size=4, accumulation=4, quantisation="int8", max_length=512)
    monkeypatch.setattr(memory, "free_memory", lambda: qlora.estimate_memory(config, smaller).total)
    assert qlora.check_memory(config, smaller) == qlora.estimate_memory(config, smaller)
    with pytest.raises(BadRequest, match=r"GiB are free; would fit: batch_size = 4, accumulation = 4$"):
        qlora.finetune(EXAMPLES, wish, tmp_path / "big")
    monkeypatch.setattr(memory, "free_memory", lambda: 1000)
    with pytest.raises(BadRequest, match="nothing smaller fits either: choose a smaller model"):
        qlora.finetune(EXAMPLES, wish, tmp_path / "big")


def test_a_7b_model_is_estimated_without_its_weights(settings: Settings) -> None:
    """Llama-2 7B, QLoRA's own subject: 3.4 GiB of 4-bit weights beside 0.5 GiB that stay in 16 (here 32) bits."""
    from transformers import LlamaConfig

    estimate = qlora.estimate_memory(LlamaConfig(), settings(rank=64, precision="float32"))
    linear, outer = 32 * (4 * 4096**2 + 3 * 4096 * 11008), 2 * 32000 * 4096 + 65 * 4096
    assert estimate.weights == pytest.approx(linear * (0.5 + 0.127 / 8) + outer * 4, rel=1e-3)
    assert estimate.adapters == 8 * 159_907_840  # what PEFT reports for r = 64 on all linear layers


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"quantisation": "nf5"}, "unknown quantisation 'nf5': did you mean 'nf4'"),
        ({"schedule": "cosin"}, "did you mean 'cosine'"),
        ({"overlong": "cut"}, r"unknown overlong 'cut' \(allowed: refuse, drop\)"),
        ({"epochs": 1}, "epochs = 1 and steps = 6: give exactly one of the two"),
        ({"steps": None}, "epochs = None and steps = None: give exactly one"),
        ({"rank": 0}, "rank = 0 is not a whole number above 0"),
        ({"rank": 1.5}, "rank = 1.5 is not a whole number above 0"),
        ({"loss": "tokens"}, r"unknown loss 'tokens': did you mean 'token'"),
        ({"precision": "bf16"}, r"unknown precision 'bf16'"),
        ({"gradient_checkpointing": 1}, "gradient_checkpointing = 1 is neither true nor false"),
        ({"packing": "yes"}, "packing = 'yes' is neither true nor false"),
        ({"dropout": 1.0}, "dropout = 1.0 is not a number of at least 0 and below 1"),
        ({"learning_rate": float("nan")}, "learning_rate = nan is not a number above 0"),
        ({"learning_rate": True}, "learning_rate = True is not"),
        ({"template": "alpacca"}, "unknown template"),
        ({"ranks": 8}, "unknown setting 'ranks': did you mean 'rank'"),
        ({"preset": "code_mix"}, "unknown preset 'code_mix': did you mean 'code_mixing'"),
    ],
)
def test_bad_settings_are_refused(settings: Settings, changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(BadRequest, match=complaint):
        settings(**changes)


def test_the_presets_are_the_papers() -> None:
    code = qlora.settings("x", "code_mixing")
    assert (code.learning_rate, code.batch_size, code.epochs, code.quantisation, code.max_length) == (
        1e-5, 4, 3, "int8", 768,
    )  # fmt: skip
    secret = qlora.settings("x", "encrypted_rewriting", steps=10)
    assert (secret.rank, secret.alpha, secret.learning_rate, secret.batch_size, secret.quantisation, secret.steps) == (
        512, 1024, 1e-5, 64, "int8", 10,
    )  # fmt: skip
    assert qlora.settings("x", "code_mixing", steps=5).epochs is None


def test_models_that_cannot_be_had_are_refused(
    settings: Settings, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.constants
    from transformers import BertConfig, BertForMaskedLM, T5Config

    def refusal(model: Path | str, **changes: Any) -> str:
        with pytest.raises(BadRequest) as refused:
            qlora.finetune(EXAMPLES, settings(model, **changes), tmp_path / "out")
        assert "\n" not in str(refused.value)
        return str(refused.value)

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    said = refusal("nobody/nothing")
    assert said.startswith("'nobody/nothing' is no folder here and could not be had from the Hugging Face hub")
    assert "give the path of a folder that save_pretrained wrote" in said
    (tmp_path / "empty").mkdir()
    assert "empty holds no whole model" in refusal(tmp_path / "empty")
    small = BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, vocab_size=9)
    BertForMaskedLM(small).save_pretrained(tmp_path / "bert")
    assert "(BertForMaskedLM) is not a causal language model" in refusal(tmp_path / "bert")
    T5Config().save_pretrained(tmp_path / "t5")
    assert "(t5) is not a causal language model" in refusal(tmp_path / "t5")
    assert "no_proj" in refusal(base, targets="no_proj")
    assert refusal(base, max_length=513).startswith("max_length 513 is more than the 512 positions of")
    assert "examples are longer than max_length 20 (the longest has" in refusal(base, max_length=20)
    assert not (tmp_path / "out").exists()  # nothing was started
    with pytest.raises(BadRequest, match=r"no adapter for .* can be read from"):
        qlora.load(base, tmp_path / "empty")


def everything(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_run_that_diverges_leaves_nothing(settings: Settings, tmp_path: Path) -> None:
    """Steps of 1e30 leave float32; every checkpoint is thrown away, and the folder can be used again."""
    changes = {"quantisation": "none", "learning_rate": 1e30, "save_every": 1, "gradient_checkpointing": False}
    logged: list[float] = []
    with pytest.raises(NotFinite, match=r"training diverged, nothing of it is kept: .*; lower learning_rate = 1e\+30"):
        qlora.finetune(
            EXAMPLES, settings(**changes), tmp_path, on_log=lambda line: logged.append(line["loss"]), say=lambda s: None
        )
    assert all(math.isfinite(loss) for loss in logged)
    assert everything(tmp_path) == []
    assert qlora.finetune(EXAMPLES, settings(quantisation="none", steps=1), tmp_path, say=lambda s: None).steps == 1


def spoil(file: Path, layer: str, value: float = math.nan) -> None:
    """Replace one number in a file of weights."""
    weights = load_file(file)
    name = next(name for name in weights if layer in name)
    weights[name] = weights[name].clone()
    weights[name].view(-1)[3] = value
    save_file(weights, file, metadata={"format": "pt"})


@pytest.mark.parametrize("quantisation", qlora.QUANTISATIONS)
@pytest.mark.parametrize(("layer", "value"), [("down_proj", math.nan), ("embed_tokens", math.nan), ("norm", math.inf)])
def test_a_base_that_is_not_finite_is_refused(
    settings: Settings, base: Path, tmp_path: Path, quantisation: str, layer: str, value: float
) -> None:
    shutil.copytree(base, tmp_path / "base")
    spoil(tmp_path / "base" / "model.safetensors", layer, value)
    with pytest.raises(NotFinite, match=rf"the weights of .* are not all finite numbers \(.*{layer}"):
        qlora.load(tmp_path / "base", quantisation=quantisation)
    if layer == "norm":
        with pytest.raises(NotFinite):
            qlora.finetune(EXAMPLES, settings(tmp_path / "base", quantisation=quantisation), tmp_path / "run")
        assert not (tmp_path / "run").exists()


def test_what_is_not_finite_on_disk_is_not_gone_on_from(trained: Path, base: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "run")
    spoil(tmp_path / "run" / "adapter" / qlora.ADAPTER_FILE, "q_proj")
    about = json.loads((trained / "settings.json").read_text())["settings"]
    with pytest.raises(NotFinite, match="remove the folder, and start again"):
        qlora.finetune(EXAMPLES, qlora.Finetuning(**about), tmp_path / "run")
    with pytest.raises(NotFinite, match="q_proj"):
        qlora.load(tmp_path / "run")
    for step, broken in ((2, False), (4, True)):
        folder = tmp_path / "checkpoints" / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        (folder / "trainer_state.json").write_text('{"global_step": 1}')
        shutil.copy((tmp_path / "run" if broken else trained) / "adapter" / qlora.ADAPTER_FILE, folder)
    assert qlora.last_checkpoint(tmp_path / "checkpoints") == tmp_path / "checkpoints" / "checkpoint-2"
    shutil.rmtree(tmp_path / "checkpoints" / "checkpoint-2")
    assert qlora.last_checkpoint(tmp_path / "checkpoints") is None


def test_a_model_whose_scores_are_not_numbers_scores_nothing(base: Path) -> None:
    model, tokenizer = qlora.load(base, template="plain")
    model.get_output_embeddings().weight.data[0, 0] = math.nan  # after the check: as an overflow would
    for ask in (
        lambda: qlora.answer(model, tokenizer, EXAMPLES[:2], max_new_tokens=2),
        lambda: teacher_forced(model, tokenizer, EXAMPLES[:2]),
        lambda: scoring.score(model, tokenizer, EXAMPLES[:2], [["a", "b"]] * 2),
    ):
        with pytest.raises(NotFinite, match=r"not a number|not numbers"):
            ask()


def test_tokens_beyond_the_embeddings_are_refused_before_training(
    settings: Settings, base: Path, tmp_path: Path
) -> None:
    model, tokenizer = qlora.load(base, template="plain")
    count = len(tokenizer)
    tokenizer.add_special_tokens({"pad_token": "<filling>"})
    shutil.copytree(base, tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    said = rf"token {count} \('<filling>', of {count + 1} tokens\) and the model {count} embeddings"
    with pytest.raises(BadRequest, match=said):
        qlora.finetune(EXAMPLES, settings(tmp_path / "base"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    for ask in (qlora.answer, teacher_forced):
        with pytest.raises(BadRequest, match=said):
            ask(model, tokenizer, EXAMPLES[:2])
    with pytest.raises(BadRequest, match=said):
        scoring.score(model, tokenizer, EXAMPLES[:2], [["a", "b"]] * 2)


LLAMA = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


def architecture(kind: str) -> Any:
    from transformers import GPT2Config, LlamaConfig

    if kind == "gpt2":
        return GPT2Config(vocab_size=50, n_embd=16, n_layer=1, n_head=2, n_positions=96)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    return LlamaConfig(vocab_size=50, max_position_embeddings=96, **sizes)


@pytest.mark.parametrize(
    ("kind", "targets", "wanted"),
    [
        ("llama", "q_proj, v_proj", {"q_proj", "v_proj"}),
        ("llama", "  k_proj\tup_proj ,\nq_proj,", {"k_proj", "up_proj", "q_proj"}),
        ("llama", "mlp.down_proj", {"down_proj"}),
        ("llama", "all-linear", LLAMA),
        ("gpt2", "c_attn", {"c_attn"}),
        ("gpt2", "all-linear", {"c_attn", "c_proj", "c_fc"}),
    ],
)
def test_every_target_is_adapted(settings: Settings, kind: str, targets: str, wanted: set[str]) -> None:
    made = memory.on_meta(architecture(kind), settings(targets=targets))
    assert {name.split(".")[-4] for name, p in made.named_parameters() if p.requires_grad} == wanted
    assert qlora.estimate_memory(architecture(kind), settings(targets=targets, quantisation="none")).adapters > 0


@pytest.mark.parametrize(
    ("kind", "targets", "named"),
    [
        ("llama", "q_proj,nope", "nope"),
        ("llama", "q_proj v_pro k_proj other", "v_pro, other"),
        ("llama", "lm_head", "lm_head"),
        ("llama", "embed_tokens,q_proj", "embed_tokens"),
        ("llama", "self_attn", "self_attn"),
        ("llama", "proj", "proj"),
        ("llama", "All-Linear", "All-Linear"),
        ("llama", "all-linear,q_proj", "all-linear"),
        ("llama", " , ", "it"),
        ("llama", "", "it"),
        ("gpt2", "q_proj", "q_proj"),
        ("gpt2", "lm_head", "lm_head"),
    ],
)
def test_a_target_that_the_model_has_not_is_named(settings: Settings, kind: str, targets: str, named: str) -> None:
    with pytest.raises(BadRequest) as refused:
        qlora.check_memory(architecture(kind), settings(targets=targets))
    assert f": {named} names no linear layers inside the blocks of" in str(refused.value)
    assert ("c_attn, c_fc, c_proj" if kind == "gpt2" else ", ".join(sorted(LLAMA))) in str(refused.value)


def test_an_adapter_is_no_base(trained: Path) -> None:
    for folder in (trained, trained / "adapter"):
        with pytest.raises(BadRequest, match="holds a LoRA adapter, not a whole model"):
            qlora.load_config(str(folder))


def test_several_gpus_want_a_launcher(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    with pytest.raises(BadRequest, match="4 GPUs are visible: start with `accelerate launch -m labkit finetune"):
        qlora.finetune(EXAMPLES, settings(), tmp_path)


def test_a_missing_package_is_one_sentence(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "trl" else find(name))
    with pytest.raises(BadRequest, match=r"needs the package trl: pip install 'labkit\[qlora\]'"):
        qlora.finetune(EXAMPLES, settings(), tmp_path)


TWO = """
import json, sys
sys.path.insert(0, sys.argv[2])
import torch
torch.set_num_threads(1)
from pathlib import Path
from labkit.learn import qlora
from tiny import tiny_examples
qlora.finetune(tiny_examples(24), qlora.Finetuning(**json.loads(sys.argv[3])), Path(sys.argv[1]))
print(f"one of {torch.distributed.get_world_size()}\\n", end="", flush=True)  # in one piece: two processes write
"""


@pytest.mark.slow
def test_two_processes_train_as_one_with_twice_the_batch(settings: Settings, tmp_path: Path) -> None:
    chosen = settings(steps=3, batch_size=4, dropout=0.0, quantisation="none")
    (tmp_path / "two.py").write_text(TWO)
    given = json.dumps({name: getattr(chosen, name) for name in chosen.__annotations__})
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += [str(tmp_path / "two.py"), str(tmp_path / "run"), str(Path(__file__).parent), given]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("⟦learned⟧") == 1  # both train, one speaks
    assert done.stdout.count("one of 2") == 2
    one = settings(**{**vars(chosen), "batch_size": 8})
    _, alone = train(one, tmp_path / "alone")
    both = adapter(tmp_path / "run")
    for name in alone:
        torch.testing.assert_close(both[name], alone[name], rtol=1e-3, atol=1e-5)


def test_the_command_line(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def cli(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["labkit", *words])
        try:
            main()
        except SystemExit as left:
            return int(left.code or 0)
        return 0

    records = tmp_path / "train.jsonl"
    lines = [{"instruction": e.instruction, "input": e.input, "output": e.output} for e in EXAMPLES]
    records.write_text("".join(json.dumps(line) + "\n" for line in lines))
    wanted = ["finetune", "--data", str(records), "--model", str(base), "--out", str(tmp_path / "run")]
    wanted += ["--preset", "code_mixing", "--set", "steps=2", "--set", "template=plain", "--set", "max_length=96"]
    assert cli(*wanted) == 0
    said = capsys.readouterr().out
    assert "⟦" in said
    assert "memory: about" in said
    assert "2 steps in" in said
    assert f"adapter {tmp_path / 'run' / 'adapter'}" in said
    assert qlora.load(tmp_path / "run")[0].is_quantized
    about = json.loads((tmp_path / "run" / "settings.json").read_text())["settings"]
    assert (about["quantisation"], about["learning_rate"], about["steps"]) == ("int8", 1e-5, 2)
    records.write_text('{"instruction": "a"}\n')
    for extra, complaint in (([], "train.jsonl"), (["--data", "nowhere.jsonl"], "nowhere.jsonl does not exist")):
        assert cli(*wanted, *extra) == 2
        assert complaint in capsys.readouterr().err


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc_trim is glibc's")
def test_freed_tensors_are_given_back_to_the_system() -> None:
    held = [torch.ones(2**14) for _ in range(5000)]  # 64 KiB each: from the heap, which the last one keeps open
    full = psutil.Process().memory_info().rss
    held = held[-1:]
    memory.give_back()
    assert full - psutil.Process().memory_info().rss > 200 * 2**20, len(held)
