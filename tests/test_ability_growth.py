"""Ability growth: sources and exams that hold what they promise, curves, the plan and what became of it."""

import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import yaml

from labkit import BadRequest, design, learn, show, studies
from labkit.design.mixture import mix
from labkit.instructions import EVERY
from labkit.instructions.family import Family, split_of
from labkit.instructions.imperfect import Teacher
from labkit.lab import Record, Store, sweep
from labkit.studies import ability_growth, growth_data, growth_plan, growth_results, language

STUDY = studies.find("ability_growth")
READING = growth_data.Reading(("knowledge", "classification", "role", "functions"), 24, 24)
NAMES = ["knowledge", "role", "functions"]


def params(**given: Any) -> Any:
    return STUDY.resolve({"scale": "smoke", **given})


def keys(tasks: list[Any]) -> set[str]:
    return {task.instruction.key for task in tasks}


# What is taught and tested


@pytest.mark.parametrize("name", ["knowledge", "functions", "editing"])
def test_a_smaller_set_is_the_beginning_and_curated_questions_are_different(name: str) -> None:
    for teacher in (None, Teacher()):
        large, small = (growth_data.training(name, n, (1,), 3, READING, teacher) for n in (60, 20))
        assert large[:20] == small
    curated = growth_data.training(name, 60, (1,), 3, READING)
    assert len({language.question_of(task) for task in curated}) == 60


def test_no_training_set_holds_an_instruction_of_an_exam() -> None:
    for name in READING.abilities:
        asked = keys(growth_data.different(name, 20, "test", (1,), 5, READING))
        for teacher in (None, Teacher()):
            assert not asked & keys(growth_data.training(name, 100, (1,), 0, READING, teacher))
            assert {split_of(key) for key in asked} == {"test"}
    with pytest.raises(BadRequest, match=r"'role' has only 0 different test examples of levels .1. that fit into 6"):
        growth_data.different("role", 5, "test", (1,), 0, READING._replace(question=6))


def test_every_question_has_one_right_answer_and_chance_follows_from_the_options() -> None:
    exam = growth_data.exam(READING.abilities, 12, (1,), 0, READING)
    for one in exam.questions:
        of, text = EVERY[one.task.example.source], one.task.example.input
        assert [of.accepts(one.task.instruction, text, answer) for answer in one.answers].count(True) == 1
        assert len(set(one.answers)) == len(one.answers)
    levels = [[exam.chances(g, slice(12 * i, 12 * i + 12)) for g in growth_data.GRADINGS] for i in range(4)]
    assert levels == [[1 / 4, 1 / 4], [1 / 2, 1 / 2], [1 / 3, 0], [1 / 3, 0]]


def test_written_answers_are_parsed() -> None:
    (task,) = growth_data.different("knowledge", 1, "test", (1,), 0, READING)
    one = growth_data.question(task, Random(0), READING.layout())
    right, other = one.answers[one.right], one.answers[one.right - 1]
    letter = "abcd"[one.right]
    for text in (right, letter, f"{letter} {right}", f"it is {right}"):
        assert growth_data.accepted(one, text)
    for text in (other, "", f"{right} or {other}", "nobody"):
        assert not growth_data.accepted(one, text)


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
    (task,) = growth_data.draw(EVERY["odd"], 1)
    with pytest.raises(BadRequest, match="question 0 has no right options"):
        growth_data.question(task, Random(0), READING.layout())


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
    monkeypatch.setattr(growth_data, "_TRIES", 3)
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
    assert all((cell.teacher is not None) == (cell.source == "synthetic") for cell in cells)
    assert max(cell.steps for cell in STUDY.points(params(steps=5))) == 0  # a floor below the passes changes nothing
    assert STUDY.points(params(steps=5)) == STUDY.points(params())


# Summaries of made rows

INSTRUCTIONS, ASKED = 60, 5


def made(design_: str, scores: dict[str, list[float]], volumes: list[int], **given: Any) -> dict[str, Any]:
    """A row with chance-corrected scores [R] by ability (chance 1/3), with some binomial noise."""
    row = {
        "design": design_,
        "arm": "all",
        "source": "curated",
        "size": "width 32",
        "parameters": 32,
        "seed": 0,
        "abilities": list(scores),
        "others": [],
        "gradings": ["likelihood", "generated"],
        "volumes": volumes,
        "totals": [len(scores) * volume for volume in volumes],
        "counts": None,
        "predicted": None,
        "train_seconds": 1.0,
        **given,
    }
    row.setdefault("exam", row["seed"])
    rng = np.random.default_rng([row["seed"], *volumes, *map(ord, design_ + row["arm"] + row["source"])])
    for name, some in scores.items():
        for grading, chance in (("likelihood", 1 / 3), ("generated", 0.0)):
            right = [rng.binomial(ASKED, chance + (1 - chance) * score, INSTRUCTIONS).tolist() for score in some]
            row |= {f"{name}_{grading}_right": right, f"{name}_{grading}_asked": [ASKED] * INSTRUCTIONS}
            row |= {f"{name}_{grading}_chance": chance}
            row[f"accuracy_{name}_{grading}"] = sum(right[-1]) / (ASKED * INSTRUCTIONS)
        nats = [rng.gamma(20, (1.2 - score) / 20, INSTRUCTIONS).tolist() for score in some]
        row |= {f"{name}_gold_nats": nats, f"{name}_gold_nats_tokens": [1] * INSTRUCTIONS}
    return row


def curve(plateau: float, pace: float, steepness: float = 2.0) -> Callable[[list[int]], list[float]]:
    known = design.plan.Curves.of({"plateau": plateau, "pace": pace, "steepness": steepness, "sudden": True})
    return lambda volumes: known.at(volumes)[0].tolist()


SHAPES = {"early": curve(0.9, 20), "late": curve(0.9, 2000, 1.5), "deaf": curve(1e-6, 100), "mid": curve(0.6, 200)}
VOLUMES = [16, 64, 256, 1024]


def ladders(volumes: list[int] = VOLUMES, seeds: int = 3, factor: float = 0.5) -> list[dict[str, Any]]:
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


def summary_of(rows: list[dict[str, Any]], grading: str = "likelihood") -> tuple[Any, dict[str, Any]]:
    frame = studies.frame(rows).assign(grading=grading)
    summary = STUDY.summarise(frame)
    json.dumps(summary, allow_nan=False)  # a result file takes it
    return frame, summary


def drawn(frame: Any, summary: dict[str, Any]) -> None:
    """Every chart and table can be made, and every sentence."""
    for draw in (STUDY.chart, *STUDY.figures.values()):
        draw(frame, summary, []).to_dict()
    for table in (STUDY.summary_table, *STUDY.tables.values()):
        table(summary)
    assert STUDY.finding(summary)
    published = show.published(STUDY.name)
    assert len(STUDY.compare(summary, published)) == len(published) > 0


def test_known_curves_are_found_again() -> None:
    frame, summary = summary_of(ladders() + parts() + mixed())
    fits = {one["ability"]: one["fit"] for one in summary["growth"] if one["size"] == "width 32"} | {
        one["ability"]: one["fit"]
        for one in summary["growth"]
        if (one["size"], one["source"]) == ("width 32", "curated")
    }
    assert fits["early"]["verdict"] == "saturated"
    assert fits["late"]["verdict"] == "still growing"
    assert fits["deaf"]["verdict"] == "not responding"
    assert summary["main"] == "width 32"
    assert summary["sizes"] == ["width 16", "width 32"]
    for name, plateau in (("early", 0.9), ("mid", 0.6)):
        lo, hi = fits[name]["plateau"]["ci95"]
        assert lo <= plateau <= hi
    assert summary["by_source"][-1]["gains"]["macro"]["verdict"] == "higher"
    assert summary["by_source"][-1]["gains"]["macro"]["mean"] == pytest.approx(0.215, abs=0.05)
    assert summary["by_size"]["early"]["verdict"] == "higher"
    drawn(frame, summary)


def test_a_transfer_that_is_there_is_discovered_and_no_other() -> None:
    _, summary = summary_of(ladders() + parts())
    out = summary["transference"]["out_score"]
    assert summary["transference"]["volume"] == 256
    assert [(c["source"], c["target"]) for c in out["cells"] if c["discovered"]] == [("early", "mid")]
    (cell,) = (c for c in out["cells"] if c["discovered"])
    assert cell["lo"] < 0.3 < cell["hi"]
    found = {(c["source"], c["target"]) for c in summary["transference"]["in_score"]["cells"] if c["discovered"]}
    assert {(name, name) for name in SHAPES} <= found
    complexities = {row["ability"]: row["complexity"]["value"] for row in summary["features"]["rows"]}
    assert min(complexities, key=lambda name: complexities[name]) == "early"


@pytest.mark.parametrize(
    ("gain", "says"), [(0.2, "beats"), (0.0, "is not told apart from"), (-0.2, "falls behind")]
)  # fmt: skip
def test_whether_the_plan_beats_the_baseline_is_said_as_measured(gain: float, says: str) -> None:
    _, summary = summary_of(ladders() + mixed(gain))
    assert f"the planned mix {says} the baseline: predicted +0.250 [+0.200, +0.300], measured" in STUDY.finding(summary)
    planned = next(one for one in summary["stage"] if one["design"] == "planned")
    assert planned["gain"]["mean"] == pytest.approx(gain, abs=0.05)


def test_the_main_score_is_the_grading_that_the_frame_names() -> None:
    _, likely = summary_of(ladders())
    _, written = summary_of(ladders(), "generated")
    assert (likely["grading"], written["grading"]) == ("likelihood", "generated")
    assert all(one["chance"] == pytest.approx(1 / 3) for one in likely["growth"])
    assert {one["chance"] for one in written["growth"]} == {0.0}
    assert likely["graders"] == written["graders"]


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        (ladders([16, 64, 256]), "needs 4 different volumes at least, not 3"),
        (ladders(seeds=1), "needs 2 seeds at each volume"),
    ],
)
def test_without_a_fit_it_says_so_and_the_rest_is_there(rows: list[dict[str, Any]], why: str) -> None:
    frame, summary = summary_of(rows)
    assert all(one["fit"] is None and why in one["why"] for one in summary["growth"])
    assert growth_results.growths(summary) is None
    assert STUDY.finding(summary).startswith("no curve: early, late, deaf, mid")
    drawn(frame, summary)


def test_transference_of_one_seed_is_left_out_with_the_reason() -> None:
    frame, summary = summary_of(ladders() + parts(seeds=1))
    assert "two or more" in summary["transference"]["why"]
    drawn(frame, summary)


def test_fine_tuned_models_are_summarised_alike() -> None:
    """A run a volume, one exam for all seeds, a base model, an exam outside, and no run without an ability."""
    rows = []
    for seed in (0, 1):
        for place, volume in enumerate(VOLUMES):
            scores = {name: [shape(VOLUMES)[place]] for name, shape in SHAPES.items()}
            row = made("ladder", scores | {"cmmlu": [0.1]}, [volume], seed=seed, exam=0, size="tiny")
            rows.append(row | {"abilities": list(SHAPES), "others": ["cmmlu"]})
    base = made("untrained", {name: [0.0] for name in (*SHAPES, "cmmlu")}, [0], exam=0, size="tiny", arm="")
    nats = {f"{name}_nats": [2.0] * INSTRUCTIONS for name in SHAPES}
    nats |= {f"{name}_nats_tokens": [1] * INSTRUCTIONS for name in SHAPES}
    frame, summary = summary_of([*rows, base | nats | {"abilities": list(SHAPES), "others": ["cmmlu"]}])
    assert [one["ability"] for one in summary["growth"]] == [*SHAPES, "cmmlu"]
    assert set(growth_results.growths(summary) or ()) == set(SHAPES)
    assert [one["volume"] for one in summary["growth"][0]["points"]] == VOLUMES
    assert {row["complexity"]["value"] for row in summary["features"]["rows"]} == {2.0}
    assert [row["ability"] for row in summary["graders"]] == [*SHAPES, "cmmlu"]
    drawn(frame, summary)


# The whole study, small


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Both stages at smoke scale, measured in this process."""
    store = Store(tmp_path_factory.mktemp("store"))
    chosen = params(abilities=["classification", *NAMES], widths=[32])
    first = studies.run(STUDY, chosen, store=store, jobs=0).assign(grading=chosen.grading)
    frame = studies.run_later(STUDY, chosen, first, store=store, jobs=0)
    return {"store": store, "params": chosen, "first": first, "frame": frame, "summary": STUDY.summarise(frame)}


def test_rows_have_the_columns_that_summaries_read(run: dict[str, Any]) -> None:
    for row in run["frame"].to_dict("records"):
        rungs = len(row["volumes"])
        assert rungs == (4 if row["design"] == "ladder" else 1)
        assert len(row["totals"]) == len(row["steps_taken"]) == len(row["tokens"]) == len(row["loss"]) == rungs
        for name in row["abilities"]:
            for grading in row["gradings"]:
                right, asked = np.array(row[f"{name}_{grading}_right"]), np.array(row[f"{name}_{grading}_asked"])
                assert right.shape == (rungs, len(asked))
                assert (right <= asked).all()
                assert asked.sum() == run["params"].n_test
                assert right[-1].sum() / asked.sum() == row[f"accuracy_{name}_{grading}"]
        assert STUDY.describe(row)
    drawn(run["frame"], run["summary"])


def test_equal_points_give_equal_rows(run: dict[str, Any], tmp_path: Path) -> None:
    cells = [cell for cell in STUDY.points(run["params"]) if cell.design in ("ladder", "without")]
    for number, cell in enumerate((cells[0], cells[-1])):
        folder = tmp_path / str(number)
        folder.mkdir()
        with Record(folder) as record:
            again = STUDY.measure(cell, record)
        before = run["store"].result(cell)
        assert {**again, "train_seconds": 0} == {**{name: before[name] for name in again}, "train_seconds": 0}
        assert learn.load(folder).shape == cell.model_shape()


def test_the_prediction_lies_in_the_point_before_anything_is_measured(run: dict[str, Any]) -> None:
    later = STUDY.later(run["params"], run["first"])
    assert [(cell.arm, cell.seed) for cell in later] == [
        (arm, seed) for seed in (100, 101) for arm in ("planned", "baseline", "reconstruct")
    ]
    for cell in later:
        point = json.loads((run["store"].folder(cell) / "point.json").read_text())
        assert point["predicted"]["macro"] == cell.predicted["macro"]
        assert sum(n for sources in point["counts"].values() for n in sources.values()) == 64
    assert "difference" in later[0].predicted
    shown = run["summary"]["stage"][0]
    assert shown["predicted"] == later[0].predicted
    kept = sweep(later, lambda *_: pytest.fail("measured twice"), store=run["store"], jobs=0)
    assert len(kept) == len(later)


def test_without_curves_named_designs_run_unpredicted(run: dict[str, Any]) -> None:
    few = run["first"][run["first"]["seed"] == 0]
    mixes = growth_plan.designs(run["params"], few)
    assert list(mixes) == ["baseline", "reconstruct"]
    assert all(one.predicted is None for one in mixes.values())
    other = params(mixes=["maximum", "mix-20"], abilities=["classification", *NAMES], widths=[32])
    found = growth_plan.designs(other, run["first"])
    assert sum(of["synthetic"] for of in found["mix-20"].counts.values()) == 20
    assert found["mix-20"].predicted is None
    assert found["maximum"].predicted is not None
    (cell, *_) = ability_growth.later(other, run["first"])[1:]
    assert cell.teacher is not None
    assert cell.sets()[0]["role"].keys() == {"curated", "synthetic"}


def test_a_plan_from_a_run_is_a_mixture_that_composes(
    run: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABKIT_RUN_DIR", str(tmp_path / "run"))
    folder = studies.finish(STUDY, run["params"], run["frame"], run["summary"], 1.0)
    out = tmp_path / "plan"
    planned = growth_plan.plan_from(folder, 60, out)
    assert sum(row["examples"] for row in planned.rows) == 60
    assert "60 examples: a mean score of" in planned.sentence
    manifest = mix(out / "plan.yaml", tmp_path / "mixed")
    assert manifest["examples"] == 60
    lines = [json.loads(line) for line in (tmp_path / "mixed" / "train.jsonl").read_text().splitlines()]
    assert len({(line["instruction"], line["input"]) for line in lines}) == 60
    assert json.loads((out / "plan.json").read_text())["counts"] == planned.plan.counts
    assert yaml.safe_load((out / "plan.yaml").read_text())["examples"] == 60
    assert growth_plan.plan_from(folder / "result.json", 60).plan.counts == planned.plan.counts
    with pytest.raises(BadRequest, match="holds a plan already"):
        growth_plan.plan_from(folder, 60, out)
    with pytest.raises(BadRequest, match="a budget of 3 is too small"):
        growth_plan.plan_from(folder, 3)
    with pytest.raises(BadRequest, match="cannot be met"):
        growth_plan.plan_from(folder, 10**6)


def test_what_is_no_run_of_this_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match=r"holds no result\.json"):
        growth_plan.plan_from(tmp_path, 100)
    for text, says in (("{", "is no result of a study"), ('{"study": "no_ops"}', "is of the study 'no_ops'")):
        (tmp_path / "result.json").write_text(text)
        with pytest.raises(BadRequest, match=says):
            growth_plan.plan_from(tmp_path, 100)
    _, summary = summary_of(ladders([16, 64, 256]))
    result = {"study": STUDY.name, "params": params().model_dump(mode="json"), "summary": summary}
    (tmp_path / "result.json").write_text(json.dumps(result))
    with pytest.raises(BadRequest, match="has no growth curve of every ability"):
        growth_plan.plan_from(tmp_path, 100)
