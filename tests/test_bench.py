"""The benchmark runs and counts right, at a size that takes seconds; its figures are no test."""

import pytest

from labkit import bench
from labkit.lab import timing
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
    assert bench.matrix_peak(size=64, seconds=0.01) > 0


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
