"""Ability growth: sources and exams that hold what they promise, curves, the plan and what became of it."""

import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import yaml

from labkit import BadRequest, design, grade, learn, studies
from labkit.design.mixture import mix
from labkit.grade.questions import GRADINGS, Question, of_task
from labkit.instructions import EVERY
from labkit.instructions.family import Family, Task, draw, split_of
from labkit.instructions.imperfect import Teacher
from labkit.lab import Record, Store, sweep
from labkit.studies import language
from labkit.studies.ability_growth import convergence, families, held, plan
from labkit.studies.ability_growth.design import later, marks
from labkit.studies.ability_growth.results import growths
from labkit.studies.growing import curves_of
from labkit.studies.rows import graded_line, long_rows, points_of
from labkit.studies.run import Run
from labkit.studies.study import Results

STUDY = studies.find("ability_growth")
READING = language.Reading(("knowledge", "classification", "role", "functions"), 24, 24)
NAMES = ["knowledge", "role", "functions"]


def params(**given: Any) -> Any:
    return STUDY.resolve({"scale": "smoke", **given})


def keys(tasks: list[Any]) -> set[str]:
    return {task.instruction.key for task in tasks}


# What is taught and tested


@pytest.mark.parametrize("name", ["knowledge", "functions", "editing"])
def test_a_smaller_set_is_the_beginning_and_curated_questions_are_different(name: str) -> None:
    for teacher in (None, Teacher()):
        large, small = (language.tasks(name, n, "train", (1,), 3, READING, teacher) for n in (60, 20))
        assert large[:20] == small
    curated = language.tasks(name, 60, "train", (1,), 3, READING)
    assert len({language.question_of(task) for task in curated}) == 60


def test_no_training_set_holds_an_instruction_of_an_exam() -> None:
    for name in READING.reads:
        asked = keys(language.tasks(name, 20, "test", (1,), 5, READING))
        for teacher in (None, Teacher()):
            assert not asked & keys(language.tasks(name, 100, "train", (1,), 0, READING, teacher))
            assert {split_of(key) for key in asked} == {"test"}
    with pytest.raises(BadRequest, match=r"'role' has only 0 different test examples of levels .1. that fit into 6"):
        language.tasks("role", 5, "test", (1,), 0, READING._replace(question=6))


def test_every_question_has_one_right_answer_and_chance_follows_from_the_options() -> None:
    exams = families.exams(READING.reads, 12, (1,), 0, READING)
    for one in (one for exam in exams for one in exam.questions):
        assert [one.accepts(answer) for answer in one.answers].count(True) == 1
        assert one.accepts(one.answers[one.right])
        assert len(set(one.answers)) == len(one.answers)
    levels = [[exam.chance(grading) for grading in GRADINGS] for exam in exams]
    assert levels == [[1 / 4, 1 / 4], [1 / 2, 1 / 2], [1 / 3, 0], [1 / 3, 0]]


def asked(task: Task) -> Question:
    return of_task(task, Random(0), lambda text: READING.layout().fits("", text))


def test_written_answers_are_parsed() -> None:
    (task,) = language.tasks("knowledge", 1, "test", (1,), 0, READING)
    one = asked(task)
    right, other = one.answers[one.right], one.answers[one.right - 1]
    letter = "abcd"[one.right]
    for text in (right, letter, f"{letter} {right}", f"it is {right}"):
        assert one.accepts(text)
    for text in (other, "", f"{right} or {other}", "nobody"):
        assert not one.accepts(text)


class Odd(Family):
    """A family that lacks something."""

    name, task_type = "odd", "reasoning"

    def instruction(self, rng: Random, level: int) -> Any:
        return EVERY["editing"].instruction(rng, level)

    def input(self, instruction: Any, rng: Random, level: int) -> str:
        return EVERY["editing"].input(instruction, rng, level)

    def answer(self, instruction: Any, text: str) -> str:
        return "right"


class Unanswerable(Odd):
    def options(self, instruction: Any, text: str) -> tuple[str, ...]:
        return ("wrong", "worse")


def test_an_ability_without_a_grader_and_choices_without_a_right_answer_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(EVERY, "odd", Odd())
    with pytest.raises(BadRequest, match="'odd' has no grader: neither options nor wrong answers"):
        params(abilities=["role", "odd"])
    monkeypatch.setitem(EVERY, "odd", Unanswerable())
    (task,) = draw(EVERY["odd"], 1)
    with pytest.raises(BadRequest, match="question 0 has no right options"):
        asked(task)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"abilities": ["knowlege", "role"]}, "unknown ability 'knowlege': did you mean 'knowledge'"),
        ({"abilities": ["biology", "math", "role"], "model": "m"}, "unknown ability 'role'"),
        ({"sources": ["curatd"]}, "unknown source 'curatd': did you mean 'curated'"),
        ({"volumes": [8, 4]}, "do not rise"),
        ({"widths": [16, 32], "width": 64}, r"width = 64 is none of widths = \[16, 32\]"),
        ({"widths": [15, 32]}, "heads = 2 does not divide width = 15"),
        ({"transference": 5}, r"transference = 5 is none of volumes = \[4, 8, 16, 32\]"),
        ({"fresh_seeds": [1]}, "seed 1 is in seeds and in fresh_seeds"),
        ({"mixes": ["planed"]}, "unknown mix 'planed': did you mean 'planned'"),
        ({"budget": 15}, "budget = 15 is too small: least = 4 of each ability make 16"),
        ({"budget": 129}, "budget = 129 is more than the last volume of all abilities, 128"),
        ({"wrong": 1.5}, "wrong = 1.5"),
        ({"grading": "guessed"}, "grading = 'guessed'"),
        ({"model": "m", "abilities": ["math", "code"], "tuning": {"seed": 1}}, "tuning sets 'seed'"),
    ],
)
def test_bad_parameters_are_one_sentence(given: dict[str, Any], says: str) -> None:
    with pytest.raises(BadRequest, match=says):
        params(**given)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"question": 6}, "'classification' has only 0 different train examples of levels .1. that fit into 6"),
        ({"batch_size": 64}, "passes = 2: 4 examples of 3 abilities are too few for another step of batch_size = 64"),
        ({"alone_passes": 0.1}, "alone_passes = 0.1: 16 examples of 1 abilities are too few"),
        ({"repertoire": 9999}, "'knowledge' has no train instructions of level 1 that are not among the"),
        ({"abilities": ["role", "classification", "formatting", "functions"]}, "a budget of 64 examples cannot be met"),
    ],
)
def test_what_the_data_do_not_give_is_refused_before_any_work(
    given: dict[str, Any], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(language, "TRIES", 3)
    with pytest.raises(BadRequest, match=says):
        STUDY.points(params(**given))


def test_runs_of_a_seed_share_what_they_say_they_share() -> None:
    cells = list(STUDY.points(params()))
    ladder = next(cell for cell in cells if cell.design == "ladder")
    apart = next(cell for cell in cells if cell.design == "without" and cell.seed == ladder.seed)
    alone = next(cell for cell in cells if cell.design == "alone" and cell.arm == apart.arm)
    assert ladder.sets()[0] == {name: {"curated": (0, 4)} for name in ladder.abilities}
    assert ladder.sets()[3] == {name: {"curated": (16, 32)} for name in ladder.abilities}
    without = [{name: part for name, part in one.items() if name != apart.arm} for one in ladder.sets()[:3]]
    assert apart.sets() == without
    assert alone.sets() == [{alone.arm: {"curated": (0, 16)}}]
    assert {cell.seed for cell in cells} == {0, 1}
    assert {cell.size for cell in cells if cell.source == "synthetic"} == {"width 32"}
    assert all((cell.task.teacher is not None) == (cell.source == "synthetic") for cell in cells)
    assert max(cell.steps for cell in STUDY.points(params(steps=5))) == 0  # a floor below the passes changes nothing
    assert STUDY.points(params(steps=5)) == STUDY.points(params())


# Summaries of made rows

INSTRUCTIONS, ASKED = 60, 5


def made(design_: str, scores: dict[str, list[float]], volumes: list[float], **given: Any) -> dict[str, Any]:
    """A point with chance-corrected scores [R] by ability (chance 1/3), with some binomial noise."""
    outside = given.pop("outside", [])
    row = {
        "study": "ability_growth",
        "design": design_,
        "arm": "all",
        "source": "curated",
        "size": "width 32",
        "parameters": 32,
        "seed": 0,
        "learned": True,
        "counts": None,
        "predicted": None,
        "train_seconds": 1.0,
        **given,
    }
    row["address"] = "/".join(str(row[name]) for name in ("design", "arm", "source", "size", "seed")) + str(volumes)
    rng = np.random.default_rng([row["seed"], *map(int, volumes), *map(ord, design_ + row["arm"] + row["source"])])
    graded = []
    for name, some in scores.items():
        for grading, chance in (("likelihood", 1 / 3), ("generated", 0.0)):
            for volume, score in zip(volumes, some, strict=True):
                right = rng.binomial(ASKED, chance + (1 - chance) * score, INSTRUCTIONS)
                counts = grade.Counts(right, np.full(INSTRUCTIONS, ASKED))
                line = graded_line("outside" if name in outside else "unseen", name, grading, counts)
                about = {"chance": chance, "volume": volume, "examples": int(len(scores) * volume)}
                graded.append(line | about)
        costs = [rng.gamma(20, (1.2 - score) / 20, INSTRUCTIONS).tolist() for score in some]
        for line in (line for line in graded if line["kind"] == name and line["grading"] == "likelihood"):
            nats = given.get("nats", costs[volumes.index(line["volume"])])
            line |= {"nats": nats, "nats_tokens": [1] * INSTRUCTIONS}
    return row | {"graded": graded}


def curve(plateau: float, pace: float, steepness: float = 2.0) -> Callable[[list[float]], list[float]]:
    known = design.plan.Curves.of({"plateau": plateau, "pace": pace, "steepness": steepness, "sudden": True})
    return lambda volumes: known.at(volumes)[0].tolist()


SHAPES = {"early": curve(0.9, 20), "late": curve(0.9, 2000, 1.5), "deaf": curve(1e-6, 100), "mid": curve(0.6, 200)}
VOLUMES = [16.0, 64.0, 256.0, 1024.0]


def ladders(volumes: list[float] = VOLUMES, seeds: int = 3, factor: float = 0.5) -> list[dict[str, Any]]:
    best = {name: shape(volumes) for name, shape in SHAPES.items()}
    poor = {name: [factor * score for score in scores] for name, scores in best.items()}
    rows = [made("ladder", best, volumes, seed=seed) for seed in range(seeds)]
    rows += [made("ladder", poor, volumes, seed=seed, source="synthetic") for seed in range(seeds)]
    return rows + [made("ladder", poor, volumes, seed=seed, size="width 16", parameters=16) for seed in range(seeds)]


def parts(seeds: int = 3, helps: float = 0.3) -> list[dict[str, Any]]:
    """Without `early`, `mid` loses; alone, each does itself some good."""
    rows = []
    for seed in range(seeds):
        for arm in SHAPES:
            whole = {name: shape([256]) for name, shape in SHAPES.items()}
            if arm == "early":
                whole["mid"] = [whole["mid"][0] - helps]
            rows.append(made("without", whole, [256], seed=seed, arm=arm))
            rows.append(made("alone", {name: [0.5 * (name == arm)] for name in SHAPES}, [256], seed=seed, arm=arm))
    return rows


def mixed(gain: float = 0.2, seeds: int = 3) -> list[dict[str, Any]]:
    base = {name: [0.4] for name in SHAPES}
    known = {"value": 0.4, "ci95": [0.3, 0.5]}
    predicted = {"macro": known, "abilities": dict.fromkeys(SHAPES, known)}
    rows = []
    for seed in range(100, 100 + seeds):
        for arm, more in (("planned", gain), ("baseline", 0.0)):
            ahead = {"difference": {"value": 0.25, "ci95": [0.2, 0.3]}} if arm == "planned" else {}
            scores = {name: [score[0] + more] for name, score in base.items()}
            own = {"arm": arm, "counts": {name: {"curated": 64} for name in SHAPES}, "predicted": predicted | ahead}
            rows.append(made("mix", scores, [64], seed=seed, **own))
    return rows


def results_of(points: list[dict[str, Any]], grading: str = "likelihood") -> Results:
    results = STUDY.summarise(long_rows(points).assign(scored_by=grading))
    json.dumps(results.as_dict(), allow_nan=False)  # a result file takes it
    return results


def drawn(results: Results) -> None:
    """Every chart and table can be made, and every sentence."""
    for view in results.views():
        results.chart(view).to_dict()
        assert results.table(view)
    convergence(results)
    held(results)
    assert results.finding
    assert len(results.claims) == len(results.published) > 0


def fits_of(results: Results, view: str = "growth") -> dict[str, Any]:
    return {one["ability"]: one["fit"] for one in curves_of(results[view])}


def discovered(results: Results, view: str) -> set[tuple[str, str]]:
    return {(c["source"], c["target"]) for c in results.fit(view).numbers["cells"] if c["discovered"]}


def test_known_curves_are_found_again() -> None:
    results = results_of(ladders() + parts() + mixed())
    fits = fits_of(results)
    assert fits["early"]["verdict"] == "saturated"
    assert fits["late"]["verdict"] == "still growing"
    assert fits["deaf"]["verdict"] == "not responding"
    assert {one["size"] for one in curves_of(results["growth"])} == {"width 32"}
    assert list(dict.fromkeys(one["size"] for one in curves_of(results["sizes"]))) == ["width 16", "width 32"]
    for name, plateau in (("early", 0.9), ("mid", 0.6)):
        lo, hi = fits[name]["plateau"]["ci95"]
        assert lo <= plateau <= hi
    gain = results["source gains"].lines("score", ability="macro")[-1]
    assert gain["lo"] > 0
    assert gain["mean"] == pytest.approx(0.215, abs=0.05)
    assert results["size gains"].line("score", ability="early")["lo"] > 0
    drawn(results)


def test_claims_are_judged_on_intervals() -> None:
    """Abilities under published names: one that saturates supports, one that grows contradicts that it resists."""
    names = {"early": "ethics", "late": "math", "deaf": "understanding", "mid": "code"}
    points = ladders()
    for line in (line for point in points for line in point["graded"]):
        line["kind"] = names[line["kind"]]
    verdicts = [claim["verdict"] for claim in results_of(points).claims]
    assert verdicts == ["supports", "cannot tell", "contradicts", "supports", "not tested here"]


def test_a_transfer_that_is_there_is_discovered_and_no_other() -> None:
    results = results_of(ladders() + parts())
    assert set(results["without"].models["volume"]) == {256}
    assert discovered(results, "without") == {("early", "mid")}
    (cell,) = (c for c in results.fit("without").numbers["cells"] if c["discovered"])
    assert cell["lo"] < 0.3 < cell["hi"]
    assert {(name, name) for name in SHAPES} <= discovered(results, "alone")
    complexities = results.fit("features").numbers["complexity"]
    assert min(complexities, key=lambda name: complexities[name]["value"]) == "early"


@pytest.mark.parametrize(
    ("gain", "says"), [(0.2, "beats"), (0.0, "is not told apart from"), (-0.2, "falls behind")]
)  # fmt: skip
def test_whether_the_plan_beats_the_baseline_is_said_as_measured(gain: float, says: str) -> None:
    results = results_of(ladders() + mixed(gain))
    assert f"the planned mix {says} the baseline: predicted +0.250 [+0.200, +0.300], measured" in results.finding
    assert results["gains"].line("score", arm="planned", ability="macro")["mean"] == pytest.approx(gain, abs=0.05)


def test_the_main_score_is_the_grading_that_the_rows_name() -> None:
    likely, written = results_of(ladders()), results_of(ladders(), "generated")
    assert all(one["chance"] == pytest.approx(1 / 3) for one in curves_of(likely["growth"]))
    assert {one["chance"] for one in curves_of(written["growth"])} == {0.0}
    assert likely["graders"].as_dict() == written["graders"].as_dict()
    assert marks(params(grading="generated")) == {"scored_by": "generated"}


@pytest.mark.parametrize(
    ("points", "why"),
    [
        (ladders([16, 64, 256]), "needs 4 different volumes at least, not 3"),
        (ladders(seeds=1), "needs 2 seeds at each volume"),
    ],
)
def test_without_a_fit_it_says_so_and_the_rest_is_there(points: list[dict[str, Any]], why: str) -> None:
    results = results_of(points)
    curves = curves_of(results["growth"])
    assert all(one["fit"] is None and why in one["why"] for one in curves)
    assert growths(curves, list(SHAPES)) is None
    assert results.finding.startswith("no curve: early, late, deaf, mid")
    drawn(results)


def test_transference_of_one_seed_is_left_out_with_the_reason() -> None:
    results = results_of(ladders() + parts(seeds=1))
    assert "without" not in results.views()
    whys = {one["feature"]: one["why"] for one in results.fit("features").numbers["correlations"]}
    assert "two or more" in whys["transference_score"]
    drawn(results)


def test_fine_tuned_models_are_summarised_alike() -> None:
    """A run a volume, one exam for all seeds, a base model, an exam outside, and no run without an ability."""
    shared = {"size": "tiny", "outside": ["cmmlu"], "same_questions": True}
    points = []
    for seed in (0, 1):
        for place, volume in enumerate(VOLUMES):
            scores = {name: [shape(VOLUMES)[place]] for name, shape in SHAPES.items()}
            points.append(made("ladder", scores | {"cmmlu": [0.1]}, [volume], seed=seed, **shared))
    none = {name: [0.0] for name in (*SHAPES, "cmmlu")}
    base = made("untrained", none, [0.0], arm="", nats=[2.0] * INSTRUCTIONS, **shared)
    results = results_of([*points, base])
    assert list(fits_of(results)) == [*SHAPES, "cmmlu"]
    assert set(growths(curves_of(results["growth"]), list(SHAPES)) or ()) == set(SHAPES)
    assert [line["volume"] for line in results["growth"].lines("score", ability="early")] == VOLUMES
    assert {one["value"] for one in results.fit("features").numbers["complexity"].values()} == {2.0}
    assert [line["ability"] for line in results["graders"].lines("likelihood")] == [*SHAPES, "cmmlu"]
    drawn(results)


# The whole study, small


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Both stages at smoke scale, measured in this process."""
    store = Store(tmp_path_factory.mktemp("store"))
    chosen = params(abilities=["classification", *NAMES], widths=[32])
    study = Run(STUDY, chosen, store)
    first = study.measure(stages=0, jobs=0)
    return {"store": store, "params": chosen, "run": study, "first": first.rows, "results": study.measure(jobs=0)}


def raw(rows: Any) -> Any:
    """The long rows as they were measured, without those that the views add."""
    return rows[rows["key"].isin(GRADINGS)]


def test_rows_have_the_columns_that_views_read(run: dict[str, Any]) -> None:
    rows = raw(run["results"].rows)
    for _, lines in rows.groupby("address"):
        first = lines.iloc[0]
        rungs = lines["volume"].nunique()
        assert rungs == (4 if first["design"] == "ladder" else 1)
        assert len(first["steps_taken"]) == len(first["tokens"]) == len(first["loss"]) == rungs
        assert len(lines) == rungs * 4 * len(GRADINGS)
        for line in lines.to_dict("records"):
            right, asked_ = np.array(line["right"]), np.array(line["asked"])
            assert right.shape == asked_.shape
            assert (right <= asked_).all()
            assert asked_.sum() == run["params"].n_test
            if line["grading"] == "likelihood":
                assert len(line["nats"]) == len(line["nats_tokens"]) == len(asked_)
        last = lines[(lines["volume"] == lines["volume"].max()) & (lines["grading"] == "likelihood")]
        rates = [sum(line["right"]) / sum(line["asked"]) for line in last.to_dict("records")]
        assert first["accuracy_likelihood"] == pytest.approx(np.mean(rates))
        assert STUDY.describe(first.to_dict())
    assert "nats" not in points_of(run["results"].rows)
    drawn(run["results"])


def test_equal_points_give_equal_rows(run: dict[str, Any], tmp_path: Path) -> None:
    cells = [cell for cell in STUDY.points(run["params"]) if cell.design in ("ladder", "without")]
    for number, cell in enumerate((cells[0], cells[-1])):
        folder = tmp_path / str(number)
        folder.mkdir()
        again = STUDY.measure(cell, Record(folder))
        before = run["store"].result(cell)
        assert {**again, "train_seconds": 0} == {**{name: before[name] for name in again}, "train_seconds": 0}
        assert learn.load(folder).shape == cell.spec.shape()


def test_the_prediction_lies_in_the_point_before_anything_is_measured(run: dict[str, Any]) -> None:
    cells = later(run["params"], raw(run["first"]))
    assert [(cell.arm, cell.seed) for cell in cells] == [
        (arm, seed) for seed in (100, 101) for arm in ("planned", "baseline", "reconstruct")
    ]
    for cell in cells:
        point = json.loads((run["store"].folder(cell) / "point.json").read_text())
        assert point["predicted"]["macro"] == cell.predicted["macro"]
        assert sum(n for sources in point["counts"].values() for n in sources.values()) == 64
    assert "difference" in cells[0].predicted
    assert run["results"].fit("designs").numbers["designs"]["planned"]["predicted"] == cells[0].predicted
    kept = sweep(cells, lambda *_: pytest.fail("measured twice"), store=run["store"], jobs=0)
    assert len(kept) == len(cells)


def test_without_curves_named_designs_run_unpredicted(run: dict[str, Any]) -> None:
    rows = raw(run["first"])
    few = later(run["params"], rows[rows["seed"] == 0])
    assert {cell.arm for cell in few} == {"baseline", "reconstruct"}
    assert all(cell.predicted is None for cell in few)
    other = params(mixes=["maximum", "mix-20"], abilities=["classification", *NAMES], widths=[32])
    made_ = {cell.arm: cell for cell in later(other, rows)}
    assert sum(of["synthetic"] for of in made_["mix-20"].counts.values()) == 20
    assert made_["mix-20"].predicted is None
    assert made_["maximum"].predicted is not None
    assert made_["mix-20"].task.teacher is not None
    assert made_["mix-20"].sets()[0]["role"].keys() == {"curated", "synthetic"}


def test_a_plan_from_a_run_is_a_mixture_that_composes(
    run: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABKIT_RUN_DIR", str(tmp_path / "run"))
    folder = run["run"].finish(run["results"])
    out = tmp_path / "plan"
    planned = plan.plan_from(folder, 60, out)
    assert sum(row["examples"] for row in planned.rows) == 60
    assert "60 examples: a mean score of" in planned.sentence
    manifest = mix(out / "plan.yaml", tmp_path / "mixed")
    assert manifest["examples"] == 60
    lines = [json.loads(line) for line in (tmp_path / "mixed" / "train.jsonl").read_text().splitlines()]
    assert len({(line["instruction"], line["input"]) for line in lines}) == 60
    assert json.loads((out / "plan.json").read_text())["counts"] == planned.plan.counts
    assert yaml.safe_load((out / "plan.yaml").read_text())["examples"] == 60
    assert plan.plan_from(folder / "result.json", 60).plan.counts == planned.plan.counts
    with pytest.raises(BadRequest, match="holds a plan already"):
        plan.plan_from(folder, 60, out)
    with pytest.raises(BadRequest, match="a budget of 3 is too small"):
        plan.plan_from(folder, 3)
    with pytest.raises(BadRequest, match="cannot be met"):
        plan.plan_from(folder, 10**6)


def test_what_is_no_run_of_this_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match=r"holds no result\.json"):
        plan.plan_from(tmp_path, 100)
    given = {"study": STUDY.name, "params": params().model_dump(mode="json")}
    older = json.dumps(given | {"summary": {"growth": []}})
    for text, says in (
        ("{", "is no result of a study"),
        ('{"study": "no_ops"}', "is of the study 'no_ops'"),
        (older, "is a result of an older labkit"),
    ):
        (tmp_path / "result.json").write_text(text)
        with pytest.raises(BadRequest, match=says):
            plan.plan_from(tmp_path, 100)
    summary = results_of(ladders([16, 64, 256])).as_dict()
    (tmp_path / "result.json").write_text(json.dumps(given | {"summary": summary}))
    with pytest.raises(BadRequest, match="has no growth curve of every ability"):
        plan.plan_from(tmp_path, 100)
