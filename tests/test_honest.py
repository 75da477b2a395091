"""What a small or mixed set of models may say: nothing of other seeds, nothing at smoke scale, no mixed means."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from command import labkit

from labkit import BadRequest, studies
from labkit.instructions import Rule
from labkit.lab import Store
from labkit.studies.rows import long_rows
from labkit.studies.run import Run

STUDY = studies.find("diversity_sweep")


def rows(scale: str = "smoke", **settings: Any) -> pd.DataFrame:
    """Long rows of made-up models of a sweep."""
    small: dict[str, Any] = {"noop_shares": [], "n_instructions": [10, 100, 300, 1000], "budget": 4000}
    params = STUDY.resolve({"scale": scale, **small, **settings})

    def row(point: Any) -> dict[str, Any]:
        rng = np.random.default_rng(point.seed)
        right = {"unseen": rng.binomial(4, 0.9 / (1 + (200 / point.n_instructions) ** 4), 50), "seen": [4] * 50}
        graded = [
            {"exam": exam, "kind": "", "grading": "", "right": list(r), "asked": [4] * 50} for exam, r in right.items()
        ]
        return {"address": point.address, **point.model_dump(mode="json"), "learned": True, "graded": graded}

    return long_rows([row(point) for point in STUDY.points(params)])


def test_one_seed_says_so_and_claims_no_interval_over_seeds() -> None:
    one, three = (STUDY.summarise(rows(seeds=seeds)) for seeds in ([0], [0, 1, 2]))
    assert "(one seed: no interval says anything of other seeds)" in one.finding
    assert "half of the plateau" in one.finding
    assert "95 % interval" not in one.finding
    assert "95 % interval" in three.finding
    assert "one seed" not in three.finding
    title = one.chart().to_dict()["title"]
    assert "one seed" in " ".join([*title["text"], *title["subtitle"]])


def test_smoke_says_that_its_numbers_mean_nothing() -> None:
    smoke, laptop = (STUDY.summarise(rows(), scale=scale) for scale in ("smoke", "laptop"))
    assert "these numbers mean nothing" in smoke.finding
    assert "mean nothing" not in laptop.finding
    assert STUDY.remarks(STUDY.resolve({"scale": "smoke"}))[0].startswith("smoke scale: these numbers mean nothing")
    assert not any("mean nothing" in note for note in STUDY.remarks(STUDY.resolve({})))


def test_models_of_mixed_settings_are_no_seeds_of_one() -> None:
    mixed = pd.concat([rows(width=64), rows(width=32, seeds=[1])], ignore_index=True)
    with pytest.raises(BadRequest, match="models of different width are no repetitions"):
        STUDY.summarise(mixed).table()


def test_equal_addresses_count_once() -> None:
    once = rows(seeds=[0, 1])
    twice = STUDY.summarise(pd.concat([once, once], ignore_index=True))
    assert set(twice["growth"].estimates["seeds"]) == {2}
    pd.testing.assert_frame_equal(twice["growth"].estimates, STUDY.summarise(once)["growth"].estimates)


# Mistakes


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A store with one small model, and its address."""
    root = tmp_path_factory.mktemp("mistakes") / "papermill_runs"
    settings = {"scale": "smoke", "n_instructions": [40], "noop_shares": [], "width": 16, "layers": 2}
    run = Run(STUDY, STUDY.resolve(settings), Store(root))
    return root, run.measure(jobs=0).rows["address"].iloc[0]


def test_mistakes_are_what_was_graded_wrong(kept: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    root, address = kept
    monkeypatch.setenv("LABKIT_RUNS", str(root))
    found, row = studies.mistakes(address[:9]), Store(root).row("diversity_sweep", address)
    assert len(found.asked) == row["n_test"]
    assert 1 - len(found.wrong()) / row["n_test"] == pytest.approx(row["accuracy_unseen"])
    for one in found.asked:
        x, y, z = one["question"].rstrip("=").split("|")
        assert one["right"] == Rule(x, y).apply(z)
        assert one["correct"] == (one["written"] == one["right"])
        assert one["kinds"]
    every, *kinds = found.by_kind()
    assert (every["kind"], every["wrong"], every["asked"]) == ("all questions", len(found.wrong()), row["n_test"])
    assert [line["share"] for line in kinds] == sorted((line["share"] for line in kinds), reverse=True)
    with pytest.raises(BadRequest, match="exam of diversity_sweep"):
        studies.mistakes(address, "unsen")
    with pytest.raises(BadRequest, match=f"no finished point {address} of long_tail"):
        studies.mistakes(address, study="long_tail")


def test_the_command_lists_mistakes(kept: tuple[Path, str]) -> None:
    root, address = kept
    done = labkit("mistakes", address, "--most", "2", LABKIT_RUNS=str(root))
    assert done.returncode == 0, done.stderr
    kinds, listed = done.stdout.split("\n\n")
    assert kinds.split()[:4] == ["kind", "wrong", "asked", "share"]
    assert len(listed.splitlines()) == 3
    assert labkit("mistakes", "nobody", LABKIT_RUNS=str(root)).returncode == 2
