"""The mix finder: regret and coverage where the optimum is known, refusals, and specs that `labkit mix` takes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import labkit
from fabricated import model

from labkit import BadRequest, studies
from labkit.design import mix_finder
from labkit.design.mix_finder import Runs, dirichlet, find
from labkit.design.mixture import Mixture, compose
from labkit.instructions import EVERY, draw
from labkit.studies import mix_problems
from labkit.studies.mix_finder import runs_of
from labkit.studies.mix_problems import PROBLEMS, solved
from labkit.studies.rows import long_rows

SEEDS = range(9)


@pytest.fixture(scope="module")
def solutions() -> dict[str, list[dict[str, object]]]:
    return {name: [solved(problem, seed) for seed in SEEDS] for name, problem in PROBLEMS.items()}


def mean(solutions: list[dict[str, object]], arm: str) -> float:
    return float(np.mean([one["regret"][arm] for one in solutions]))  # type: ignore[index]


@pytest.mark.parametrize("what", ["covered", "gain_covered"])
def test_what_is_predicted_holds_the_truth_in_ninety_of_a_hundred_cases(what: str, solutions: dict[str, list]) -> None:
    """The score of the found mix, and what the mix that was sought gains over equal parts."""
    covered = [one[what] for many in solutions.values() for one in many]
    assert len(covered) >= 100
    assert np.mean(covered) >= 0.9


def test_it_beats_equal_parts_and_random_search_on_average(solutions: dict[str, list]) -> None:
    assert len(solutions) >= 10
    regret = {arm: np.mean([mean(many, arm) for many in solutions.values()])
              for arm in ("found", "equal parts", "random search")}  # fmt: skip
    assert regret["found"] < regret["random search"] < regret["equal parts"]
    assert all(mean(many, "found") <= mean(many, "equal parts") + 1e-9 for many in solutions.values())


@pytest.mark.parametrize("name", ["nothing matters", "peak at equal parts", "all saturate alike"])
def test_where_equal_parts_are_best_there_is_no_plan(name: str, solutions: dict[str, list]) -> None:
    assert sum(one["planned"] for one in solutions[name]) <= 1
    assert mean(solutions[name], "found") < 0.02


def test_where_one_source_is_best_it_is_found() -> None:
    plan = mix_problems.planned(PROBLEMS["one source is best"], seed=3)
    assert plan.reason == ""
    assert plan.shares[0] > 0.9
    assert plan.gain.lo > 0
    json.dumps(plan.as_dict())
    lo, hi = plan.as_dict()["optimum_ci95"][0]
    assert lo > 0.5
    assert hi <= 1


def test_the_noise_floor_is_that_of_the_runs() -> None:
    plan = mix_problems.planned(PROBLEMS["much noise"], seed=0, floor=40)
    assert plan.noise == pytest.approx(0.1, rel=0.4)


def test_too_few_runs_are_refused() -> None:
    with pytest.raises(BadRequest, match="7 mixes are too few: at least 8"):
        find(Runs(dirichlet(7, 3, 0), np.zeros(7)))


def test_what_are_no_shares_is_refused() -> None:
    with pytest.raises(BadRequest, match="sum to 1"):
        find(Runs(np.ones((12, 2)), np.zeros(12)))
    with pytest.raises(BadRequest, match="a mix of one source"):
        dirichlet(3, 1, 0)


def test_each_source_is_tried_alone() -> None:
    assert np.array_equal(mix_finder.mixes(12, 4, 0)[:4], np.eye(4))
    assert np.allclose(mix_finder.mixes(12, 4, 0).sum(axis=1), 1)
    with pytest.raises(BadRequest, match="3 mixes are too few for 3 sources"):
        mix_finder.mixes(3, 3, 0)


def written(path: Path, kind: str, n: int, seed: int) -> Path:
    tasks = draw(EVERY[kind], n, split="train", levels=(1, 2), seed=seed)
    rows = [{"instruction": t.example.instruction, "input": t.example.input, "output": t.example.output} for t in tasks]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    for kind in ("dates", "editing", "sorting"):
        written(tmp_path / f"{kind}.jsonl", kind, 150, 0)
    written(tmp_path / "target.jsonl", "dates", 60, 9)
    path = tmp_path / "spec.yaml"
    sources = "\n".join(f"  - {{path: {kind}.jsonl, weight: 1}}" for kind in ("dates", "editing", "sorting"))
    path.write_text(f"sources:\n{sources}\nexamples: 120\nnormalise: true\ndecontaminate: []\n")
    return path


def test_the_command_finds_the_source_of_the_target_and_writes_a_spec_for_mix(spec: Path, tmp_path: Path) -> None:
    out = tmp_path / "other" / "found.yaml"
    out.parent.mkdir()
    done = labkit("find-mix", spec, "--target", tmp_path / "target.jsonl", "--out", out, "--budget", "90")
    assert done.returncode == 0, done.stderr
    assert "The found mix gains over equal parts: predicted" in done.stdout
    mixture = Mixture.load(out)
    shares = {Path(source.path or "").stem: source.weight for source in mixture.sources}
    assert shares["dates"] == max(shares.values()) > 0.6
    assert len(compose(mixture, out.parent).examples) == mixture.budget == 90
    assert "predicted" in out.read_text().splitlines()[0]


@pytest.mark.parametrize(("options", "says"), [
    (["--budget", "2"], "a budget of 2 is below one example for each of 3 sources"),
    (["--target", "few.jsonl"], "few.jsonl has 5 records: a target needs 20"),
    (["--target", "spec.yaml"], "spec.yaml"),
])  # fmt: skip
def test_bad_requests_are_one_sentence(
    spec: Path, options: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    written(Path("few.jsonl"), "dates", 5, 9)
    given = {"--target": "target.jsonl", "--out": "found.yaml"} | dict(zip(options[::2], options[1::2], strict=True))
    done = labkit("find-mix", spec.name, *[word for pair in given.items() for word in pair])
    assert done.returncode == 2
    assert says in done.stderr
    assert not Path("found.yaml").exists()


def test_a_spec_of_one_source_is_refused(spec: Path, tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text("sources: [{path: dates.jsonl, weight: 1}]\nexamples: 9\n")
    done = labkit(
        "find-mix", tmp_path / "one.yaml", "--target", tmp_path / "target.jsonl", "--out", tmp_path / "o.yaml"
    )
    assert done.returncode == 2
    assert "has 1 source: a mix is found of 2 to 31" in done.stderr


def test_every_set_of_the_study_holds_its_rules_and_shares_no_side_with_the_exams() -> None:
    study = studies.find("mix_finder")
    params = study.resolve({"scale": "smoke", "seeds": [1000]})
    for cell in study.points(params)[:4]:
        lesson = cell.lesson()
        assert sum(cell.counts) == params.rules == cell.n_instructions
        assert set(lesson.exams) == {"seen", *mix_finder_kinds()}
        assert len(lesson.data.tokens) == params.budget


def mix_finder_kinds() -> list[str]:
    from labkit.studies.mix_finder import SOURCES

    return list(SOURCES)


def test_a_problems_score_pools_its_kinds() -> None:
    import pandas as pd

    lines = [{"address": at, "arm": "tried", "counts": (3, 1, 0, 0), "key": key, "right": [hit, 0], "asked": [2, 2]}
             for at in "ab" for key, hit in (("free", 2), ("mirror", 0))]  # fmt: skip
    runs = runs_of(pd.DataFrame(lines), ["free", "mirror"], ["tried"])
    assert runs.scores.tolist() == [0.25, 0.25]
    assert runs.shares[0].tolist() == [0.75, 0.25, 0, 0]
    assert len(runs.scores) < mix_finder.LEAST_RUNS


def test_no_mix_holds_more_of_a_source_than_there_is() -> None:
    shares, most = np.vstack([np.eye(3), dirichlet(200, 3, 0)]), [0.5, 0.4, 1.0]
    fitting = mix_finder.within(shares, most)
    assert np.allclose(fitting.sum(axis=1), 1)
    assert (fitting <= np.array(most) + 1e-12).all()
    kept = (shares <= most).all(axis=1)
    assert np.array_equal(fitting[kept], shares[kept])
    assert 0 < kept.sum() < len(shares)
    assert np.allclose(mix_finder.within(shares, [1 / 3] * 3), 1 / 3)
    tried = dirichlet(32, 3, 1)
    plan = find(Runs(tried, tried[:, 0]), most=most)
    assert plan.reason == ""
    assert 0.45 < plan.shares[0] <= 0.5


def test_every_prediction_meets_its_measurement() -> None:
    """Free rules gain by free training rules, narrow ones by nothing: a plan, and a mix sought that is not trusted."""
    study = studies.find("mix_finder")
    params = study.resolve({"scale": "smoke", "runs": {"tried": 32, "floor": 5}})
    rng = np.random.default_rng(0)

    def measured(cells: Any) -> list[dict[str, Any]]:
        rows = []
        for cell in cells:
            free = 0.2 + 0.6 * cell.counts[0] / sum(cell.counts)
            rates = [free, *[0.5 + rng.normal(0, 0.02)] * 3]
            exams = {kind: ([round(1000 * rate)] * 2, [1000] * 2)
                     for kind, rate in zip(mix_finder_kinds(), rates, strict=True)}  # fmt: skip
            rows.append(model(exams, **cell.model_dump()))
        return rows

    first = measured(study.points(params))
    second = study.stages[0](params, long_rows(first))
    assert {cell.problem for cell in second if cell.arm == "sought"} == {"narrow rules"}
    found = study.summarise(long_rows(first + measured(second)))
    table = {row["problem"]: row for row in study.tables["Predictions and regret"](found)}
    free, narrow = table["unseen free rules"], table["unseen narrow rules"]
    assert (free["a plan"], free["prediction holds it"], narrow["a plan"]) == ("yes", "yes", "no")
    assert narrow["measured gain [95 %]"] != "+0.000 [+0.000, +0.000]"
    assert "measured" in found.finding


@pytest.mark.parametrize(("given", "says"), [
    ({"fresh_seeds": [-1]}, "a seed is 0 or more"),
    ({"seeds": [0], "fresh_seeds": [11]}, "none is in fresh_seeds"),
    ({"seeds": [0, 1]}, "none is in fresh_seeds"),
])  # fmt: skip
def test_seeds_of_the_trial_are_fresh(given: dict[str, Any], says: str) -> None:
    with pytest.raises(BadRequest, match=says):
        studies.find("mix_finder").resolve({"scale": "smoke"} | given)
