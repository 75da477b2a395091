"""The benchmark runs and counts right, at a size that takes seconds; its figures are no test."""

import json
from pathlib import Path
from typing import Any

import needs
import pytest
import torch
from tiny import tiny_llama

from labkit import BadRequest, bench
from labkit.bench import gpu, language
from labkit.lab import timing
from labkit.learn import qlora
from labkit.learn.probe import product_rate
from labkit.studies.diversity_sweep import STUDY, points

CELL = points(STUDY.resolve({"scale": "smoke", "n_instructions": [20], "seeds": [0]}))[0]


@pytest.mark.slow
def test_both_learners_run_and_are_graded() -> None:
    ours = bench.race_ours(CELL.model_copy(update={"steps": bench.LOOK_EVERY}))
    peer = bench.race_peer(CELL, patience=0.0)
    for race in (ours, peer):
        assert race.steps == bench.LOOK_EVERY
        assert race.seconds > 0
        assert not race.reached
        assert str(race).startswith("more than")


@pytest.mark.slow
def test_a_sweep_is_timed_in_every_way() -> None:
    rates = bench.sweep_rates(models=2, steps=2, jobs=0)
    assert bench.ONE_BY_ONE in rates
    assert len(rates) == 4
    assert min(rates.values()) > 0


def test_generators_and_peak_have_rates() -> None:
    assert min(bench.generator_rates(n_fast=2000, n_plain=20, rounds=1)) > 0
    assert product_rate(size=64, seconds=0.01) > 0


def test_flops_are_those_of_the_parameters_where_every_position_counts() -> None:
    """Six FLOPs a matrix parameter and token; the last block's queries, outputs and the head work on answers only."""
    data = CELL.lesson().data
    d, V, B, T, A = CELL.width, len(data.vocabulary), CELL.batch_size, data.tokens.shape[1] - 1, data.answer_length
    blocks = (CELL.layers - 1) * 4 * d * d * T + 2 * d * d * T + 2 * d * d * A
    assert bench.flops_a_step(CELL, data) == 6 * B * (blocks + d * V * A)


@pytest.mark.slow
def test_what_the_lab_costs_is_timed(capsys: pytest.CaptureFixture[str]) -> None:
    timing.main(tiny=3, shared=2, stored=4)
    said = capsys.readouterr().out
    for words in ("overhead of a point, two workers, 3 points", "ratio", "start of a sweep over 4", "query over 4"):
        assert words in said


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("trl", reason="needs labkit[qlora]")
    return tiny_llama(tmp_path_factory.mktemp("base"))


def test_the_labs_requests_are_ragged_and_without_end() -> None:
    examples = language.examples_of(None, 40)
    assert len({example.source for example in examples}) == len(language.WORKED)
    assert examples[:7] == language.examples_of(None, 7)
    assert len({len(example.output) for example in examples}) > 10


def test_both_sides_take_the_same_steps(base: Path) -> None:
    """The losses of three steps, TRL's in its own precision; tokens without filling; the products that are needed."""
    settings = language.plain_settings(str(base), steps=3, batch_size=4, rank=4)
    examples = language.examples_of(None, 12)
    ours, theirs = (side(settings, examples) for side in (language.train_ours, language.train_trl))
    assert ours.losses == pytest.approx(theirs.losses, rel=5e-3)
    assert ours.losses[0] > ours.losses[-1]
    _, _, encoded = language.prepared(settings, examples)
    assert ours.tokens == theirs.tokens == len(encoded.tokens)
    frozen, head = 2 * (4 * 64**2 + 3 * 64 * 128), 64 * qlora.load_config(str(base)).vocab_size
    trained = 2 * 4 * (4 * 128 + 3 * 192)
    labels = int((encoded.lengths - encoded.prompts).sum())
    needed = len(encoded.tokens) * (4 * frozen + 6 * trained) + 4 * labels * head
    assert language.flops(qlora.load_config(str(base)), settings, encoded) == needed


def test_both_write_the_same(base: Path) -> None:
    written = language.write(language.plain_settings(str(base), 1, 1, 1), language.examples_of(None, 6), 5, rows=4)
    mine, plain = written["float32"]
    assert mine.answers == plain.answers
    assert mine.tokens == sum(map(len, plain.answers)) > 0


@pytest.mark.slow
def test_the_comparison_is_printed(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    language.main(str(base), steps=2, batch_size=2, rank=2, questions=4, new_tokens=4)
    said = capsys.readouterr().out
    for part in ("SFTTrainer:", "times the tokens per second", "of the measured peak of", "4 of 4 answers are equal"):
        assert part in said


def test_without_a_gpu_there_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BadRequest, match="needs an NVIDIA GPU, and torch sees none here"):
        gpu.main(tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_gpus_script_runs_small(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    needs.smollm2()
    gpu.main(tmp_path, smoke=True)
    (file,) = tmp_path.iterdir()
    found: dict[str, Any] = json.loads(file.read_text())
    assert found["checks"]["answers equal"] == 1
    assert found["checks"]["loss differs by"] == pytest.approx(0, abs=1e-4)
    assert set(found["figure 2a"]) == {"20", "not reached"}
    assert found["qlora tiny"]["losses"][0] == pytest.approx(found["qlora tiny"]["losses"][1], rel=5e-3)
    assert set(found["code mixing"]["0.0"]) == {"code", "general", "loss", "tokens per second"}
    assert found["made with"]["packages"]["torch"]
    assert str(file) in capsys.readouterr().out
