"""Ability growth: sources and exams that hold what they promise, curves, the plan and what became of it."""

import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from ability_rows import SHAPES, VOLUMES, made

from labkit import BadRequest, learn, studies
from labkit.grade.questions import GRADINGS, Question, of_task
from labkit.instructions import EVERY
from labkit.instructions.family import Family, Task, draw, split_of
from labkit.lab import Record, Store, sweep
from labkit.studies import abilities, language
from labkit.studies.ability_growth.design import later, marks
from labkit.studies.growing import curves_of
from labkit.studies.rows import long_rows, points_of
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
    for few in (None, 6):
        drawn = {n: language.tasks(name, n, "train", (1,), 3, READING, few) for n in (20, 60, 10)}  # goes on, and back
        language._drawing.cache_clear()
        assert language.tasks(name, 60, "train", (1,), 3, READING, few) == (large := drawn[60])
        assert (large[:20], large[:10]) == (drawn[20], drawn[10])
        assert len(keys(large)) == few or few is None
    curated = language.tasks(name, 60, "train", (1,), 3, READING)
    assert len({language.question_of(task) for task in curated}) == 60


def test_no_training_set_holds_an_instruction_of_an_exam() -> None:
    for name in READING.reads:
        asked = keys(language.tasks(name, 20, "test", (1,), 5, READING))
        for few in (None, 6):
            assert not asked & keys(language.tasks(name, 100, "train", (1,), 0, READING, few))
            assert {split_of(key) for key in asked} == {"test"}
    said = r"'role' has only 0 different test examples of levels .1. that fit into 6"
    for _ in range(2):  # what was refused is refused again
        with pytest.raises(BadRequest, match=said):
            language.tasks("role", 5, "test", (1,), 0, READING._replace(question=6))


@pytest.mark.parametrize("name", STUDY.scales["laptop"]["abilities"])
def test_a_held_out_instruction_can_be_answered_from_what_training_shows(name: str) -> None:
    """Its question and answer are made of pieces that training shows; that it can be learned, the gate shows."""
    chosen = STUDY.resolve({})
    reading = language.Reading((*chosen.abilities, *chosen.outside), chosen.question, chosen.answer)
    shown, asked = (
        [set(reading.layout().split(f"{language.question_of(task)}\n{task.example.output}")) for task in tasks]
        for tasks in (language.tasks(name, n, split, (1,), 0, reading) for split, n in (("train", 1024), ("test", 150)))
    )
    known = set().union(*shown)
    assert np.mean([pieces <= known for pieces in asked]) > 0.9


def test_every_question_has_one_right_answer_and_chance_follows_from_the_options() -> None:
    exams = abilities.exams(READING.reads, (), 12, (1,), 0, READING)
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
        ({"compared": [5]}, r"compared = 5 is none of volumes = \[4, 8, 16, 32\]"),
        ({"teacher_width": 15}, "heads = 2 does not divide teacher_width = 15"),
        ({"outside": ["role"]}, "'role' is in abilities and in outside"),
        ({"outside": ["rolle"]}, "unknown ability 'rolle': did you mean 'role'"),
        ({"model": "m", "abilities": ["math", "code"], "sources": ["narrow"]}, "unknown source 'narrow'"),
        ({"fresh_seeds": [1]}, "seed 1 is of the first stage and in fresh_seeds"),
        ({"fresh_seeds": [7]}, "seed 7 is of the first stage and in fresh_seeds"),
        ({"tried": 7}, "tried = 7"),
        ({"mixes": ["planed"]}, "unknown mix 'planed': did you mean 'planned'"),
        ({"budget": 2}, "budget = 2 is too small for 3 abilities"),
        ({"budget": 97}, "budget = 97 is more than the last volume of all abilities, 96"),
        ({"gate": 1.5}, "gate = 1.5"),
        ({"grading": "guessed"}, "grading = 'guessed'"),
        ({"tuning": {"seed": 1}}, "tuning sets 'seed'"),
    ],
)
def test_bad_parameters_are_one_sentence(given: dict[str, Any], says: str) -> None:
    with pytest.raises(BadRequest, match=says):
        params(**given)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"question": 6}, "'knowledge' has only 0 different train examples of levels .1. that fit into 6"),
        ({"repertoire": 9999}, "'knowledge' has no train instructions of level 1 that are not among the"),
        ({"mixes": ["mix-97"]}, "a budget of 97 examples from 'synthetic' cannot be met: there are 96"),
    ],
)
def test_what_the_data_do_not_give_is_refused_before_any_work(
    given: dict[str, Any], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(language, "TRIES", 3)
    with pytest.raises(BadRequest, match=says):
        STUDY.points(params(**given))


def test_only_the_data_of_models_differ() -> None:
    cells = list(STUDY.points(params()))
    assert {cell.steps for cell in cells if cell.design != "proxy"} == {8}
    assert len({cell.spec for cell in cells}) == 1
    assert all(cell.spec.base in cell.needs() for cell in cells)
    assert STUDY.points(params(base_steps=0))[0].needs() == []
    ladder = {(c.source, c.counts["role"][c.source]) for c in cells if c.design == "ladder"}
    others = {(source, n) for source in ("narrow", "answered", "synthetic") for n in (16, 32)}
    assert ladder == {("curated", n) for n in (4, 8, 16, 32)} | others
    assert {c.arm: c.counts for c in cells if c.design == "gate"} == {
        name: {name: {"curated": 32}} for name in cells[0].abilities
    }
    assert not any(cell.counts["role"] for cell in cells if cell.design == "untrained")
    for cell in cells:
        taught = cell.source in ("answered", "synthetic")
        assert [need.study for need in cell.needs()] == ["text_base"] + ["weak_teacher"] * taught
        assert not taught or cell.task.teacher.seed == cell.seed


def test_correctness_and_repertoire_are_varied_one_at_a_time(run: dict[str, Any]) -> None:
    store, cells = run["store"], STUDY.points(run["params"])
    one = {c.source: c for c in cells if c.design == "ladder" and c.seed == 0 and c.counts["role"].get(c.source) == 16}
    sets = {source: cell.data(Record(Path("unused"), store=store)) for source, cell in one.items()}
    asked = {source: [(e.instruction, e.input) for e in data] for source, data in sets.items()}
    assert asked["answered"] == asked["curated"] != asked["narrow"]
    assert asked["synthetic"] == asked["narrow"]
    for source, data in sets.items():
        own = [task for task in data if task.source == "role"]
        assert (len({task.instruction for task in own}) <= 6 * 8) or source in ("curated", "answered")
    teacher = one["synthetic"].task.teacher
    answers = json.loads((store.folder(teacher) / "answers.json").read_text())
    assert [e.output for e in sets["synthetic"] if e.source == "role"] == answers["synthetic"]["role"][:16]
    right = store.result(one["answered"])["teacher_right"]
    assert right == store.result(teacher)["right"]["answered"]
    pairs = zip(sets["answered"], sets["curated"], strict=True)
    assert np.mean([a.output == b.output for a, b in pairs]) <= max(right.values())


# Summaries of made rows


def ladders(volumes: list[float] = VOLUMES, seeds: int = 3, factor: float = 0.5) -> list[dict[str, Any]]:
    best = {name: shape(volumes) for name, shape in SHAPES.items()}
    poor = {name: [factor * score for score in scores] for name, scores in best.items()}
    return [made("ladder", scores, [at], seed=seed, source=source)
            for source, shapes in (("curated", best), ("synthetic", poor))
            for place, at in enumerate(volumes)
            for scores in [{name: [shape[place]] for name, shape in shapes.items()}]
            for seed in range(seeds)]  # fmt: skip


def alone(**own: float) -> list[dict[str, Any]]:
    """A gate for each ability; those that are not named pass."""
    each = {name: own.get(name, 0.9) for name in SHAPES}
    return [made("gate", {name: [score if name == arm else 0.0] for name in SHAPES}, [1024.0], arm=arm)
            for arm, score in each.items()]  # fmt: skip


def mixed(gain: float = 0.2, seeds: int = 3, reason: str = "") -> list[dict[str, Any]]:
    predicted = {"score": [0.4, 0.3, 0.5], "gain": [0.25, 0.2, 0.3], "noise of one run": [0.02], "reason": reason}
    arms = {"baseline": 0.0, "reconstruct": -0.2} | ({} if reason else {"planned": gain})
    rows = []
    for seed in range(100, 100 + seeds):
        for arm, more in arms.items():
            known = predicted if arm == ("baseline" if reason else "planned") else None
            own = {"arm": arm, "counts": {name: {"curated": 64} for name in SHAPES}, "predicted": known}
            rows.append(made("mix", {name: [0.4 + more] for name in SHAPES}, [64], seed=seed, **own))
    return rows


def proxies(score: Callable[[list[int]], float], budget: int = 48) -> list[dict[str, Any]]:
    """Proxy runs as the study draws them, whose abilities all score so of the examples of each."""
    rows = []
    for cell in STUDY.points(params(tried=26, budget=budget, fresh_seeds=[100])):
        if cell.design == "proxy":
            counts = [of["curated"] for of in cell.counts.values()]
            scores = {name: [score(counts)] for name in NAMES}
            rows.append(made("proxy", scores, [16.0], arm=cell.arm, seed=cell.seed, counts=cell.counts))
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
    for table in STUDY.tables.values():
        table(results)
    assert results.finding
    assert len(results.claims) == len(results.published) > 0


def fits_of(results: Results, view: str = "growth") -> dict[str, Any]:
    return {one["ability"]: one["fit"] for one in curves_of(results[view])}


def test_known_curves_are_found_again() -> None:
    results = results_of(ladders() + alone() + mixed())
    fits = fits_of(results)
    assert fits["early"]["verdict"] == "saturated"
    assert fits["late"]["verdict"] == "still growing"
    assert fits["deaf"]["verdict"] == "not responding"
    assert [one["source"] for one in curves_of(results["growth"])] == ["curated"] * 4
    assert {one["source"] for one in curves_of(results["sources"])} == {"curated", "synthetic"}
    for name, plateau in (("early", 0.9), ("mid", 0.6)):
        lo, hi = fits[name]["plateau"]["ci95"]
        assert lo <= plateau <= hi
    gain = results["source gains"].lines("score", ability="macro")[-1]
    assert gain["lo"] > 0
    assert gain["mean"] == pytest.approx(0.215, abs=0.05)
    drawn(results)


def test_claims_are_judged_on_intervals() -> None:
    """Abilities under published names: one that saturates supports, one that grows contradicts that it resists."""
    names = {"early": "ethics", "late": "math", "deaf": "understanding", "mid": "code"}
    points = ladders()
    for line in (line for point in points for line in point["graded"]):
        line["kind"] = names[line["kind"]]
    verdicts = [claim["verdict"] for claim in results_of(points).claims]
    assert verdicts == ["supports", "cannot tell", "contradicts", "supports"]


def test_what_fails_its_gate_is_listed_and_left_out_of_means() -> None:
    passed, failed = results_of(ladders() + alone() + mixed()), results_of(ladders() + alone(deaf=0.1) + mixed())
    assert "Not learned even alone, and left out of means: deaf" in failed.finding
    assert "not learned even alone" not in passed.finding
    verdicts = {line["ability"]: line["verdict"] for line in STUDY.tables["Gates: each ability alone"](failed)}
    assert verdicts == dict.fromkeys(SHAPES, "passes") | {"deaf": "fails: left out of means"}
    means = [found["designs"].line("macro", arm="baseline")["mean"] for found in (passed, failed)]
    each = [failed["designs"].line(name, arm="baseline")["mean"] for name in SHAPES if name != "deaf"]
    assert means[1] == pytest.approx(np.mean(each))
    assert means[0] != pytest.approx(means[1])


@pytest.mark.parametrize(
    ("gain", "says"), [(0.2, "is not beaten"), (-0.15, "is beaten by baseline"), (-0.4, "by baseline and reconstruct")]
)  # fmt: skip
def test_whether_the_plan_is_beaten_is_said_as_measured(gain: float, says: str) -> None:
    results = results_of(ladders() + mixed(gain))
    assert says in results.finding
    assert "equal parts: predicted +0.250 [+0.200, +0.300], measured" in results.finding
    assert results["gains"].line("score", arm="planned", ability="macro")["mean"] == pytest.approx(gain, abs=0.05)
    assert results["regret"].line("score", arm="baseline", ability="macro")["mean"] == pytest.approx(-gain, abs=0.05)
    assert "one seed decides nothing" in results_of(ladders() + mixed(gain, seeds=1)).finding


def test_without_a_plan_the_reason_is_said_and_equal_parts_stand_for_it() -> None:
    results = results_of(ladders() + mixed(reason="the gain may be none"))
    assert "No plan: the gain may be none. Equal parts stand for it (above them: reconstruct -0." in results.finding
    assert "regret" not in results.views()
    drawn(results)
    drawn(results_of(ladders() + mixed()))


def test_the_main_score_is_the_grading_that_the_rows_name() -> None:
    likely, written = results_of(ladders()), results_of(ladders(), "generated")
    assert all(one["chance"] == pytest.approx(1 / 3) for one in curves_of(likely["growth"]))
    assert {one["chance"] for one in curves_of(written["growth"])} == {0.0}
    assert likely["graders"].as_dict() == written["graders"].as_dict()
    assert marks(params(grading="generated")) == {"scored_by": "generated", "least_alone": -1}


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
    assert results.finding.startswith("no curve: early, late, deaf, mid")
    drawn(results)


def test_fine_tuned_models_are_summarised_alike() -> None:
    """One exam for all seeds, a base model, an exam outside, and no gates."""
    shared = {"outside": ["cmmlu"], "same_questions": True}
    points = []
    for seed in (0, 1):
        for place, volume in enumerate(VOLUMES):
            scores = {name: [shape(VOLUMES)[place]] for name, shape in SHAPES.items()}
            points.append(made("ladder", scores | {"cmmlu": [0.1]}, [volume], seed=seed, **shared))
    none = {name: [0.0] for name in (*SHAPES, "cmmlu")}
    base = made("untrained", none, [0.0], arm="", **shared)
    results = results_of([*points, base])
    assert list(fits_of(results)) == [*SHAPES]
    assert list(fits_of(results, "outside")) == ["cmmlu"]
    assert [line["volume"] for line in results["growth"].lines("score", ability="early")] == VOLUMES
    assert [line["ability"] for line in results["graders"].lines("likelihood")] == [*SHAPES, "cmmlu"]
    drawn(results)


# The whole study, small


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Both stages at smoke scale, measured in this process."""
    store = Store(tmp_path_factory.mktemp("store"))
    chosen = params()
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
        assert lines["volume"].nunique() == 1
        assert first["steps_taken"] == {"untrained": 0, "proxy": 4}.get(first["design"], 8)
        assert len(lines) == 4 * len(GRADINGS)  # three abilities, one family outside
        for line in lines.to_dict("records"):
            right, asked_ = np.array(line["right"]), np.array(line["asked"])
            assert right.shape == asked_.shape
            assert (right <= asked_).all()
            assert asked_.sum() == run["params"].n_test
            if line["grading"] == "likelihood":
                assert len(line["nats"]) == len(line["nats_tokens"]) == len(asked_)
        last = lines[(lines["exam"] == "unseen") & (lines["grading"] == "likelihood")]
        rates = [sum(line["right"]) / sum(line["asked"]) for line in last.to_dict("records")]
        assert first["accuracy_likelihood"] == pytest.approx(np.mean(rates))
        assert STUDY.describe(first.to_dict())
    assert "nats" not in points_of(run["results"].rows)
    drawn(run["results"])


def test_equal_points_give_equal_rows(run: dict[str, Any], tmp_path: Path) -> None:
    cells = [cell for cell in STUDY.points(run["params"]) if cell.design == "ladder"]
    for number, cell in enumerate((cells[0], cells[-1])):
        folder = tmp_path / str(number)
        folder.mkdir()
        again = STUDY.measure(cell, Record(folder, store=run["store"]))
        before = run["store"].result(cell)
        assert {**again, "train_seconds": 0} == {**{name: before[name] for name in again}, "train_seconds": 0}
        assert learn.load(folder).shape == cell.spec.model_shape()


def test_proxy_runs_are_mixes_of_the_budget_within_what_there_is(run: dict[str, Any]) -> None:
    cells = [cell for cell in STUDY.points(run["params"]) if cell.design == "proxy"]
    assert [(cell.arm, cell.seed) for cell in cells] == [
        (arm, seed) for arm, n in (("tried", 12), ("floor", 2)) for seed in range(n)
    ]
    counts = np.array([[of["curated"] for of in cell.counts.values()] for cell in cells])
    assert (counts.sum(axis=1) == 48).all()
    assert counts.max() == 32  # all there is; some draws were above it
    assert (counts[-2:] == 16).all()
    assert {cell.steps for cell in cells} == {4}
    assert not [cell for cell in STUDY.points(params(mixes=["baseline"])) if cell.design == "proxy"]


def test_the_prediction_lies_in_the_point_before_anything_is_measured(run: dict[str, Any]) -> None:
    cells = later(run["params"], raw(run["first"]))
    planned, *others = dict.fromkeys(cell.arm for cell in cells)
    assert [(cell.arm, cell.seed) for cell in cells] == [
        (arm, seed) for seed in (100, 101) for arm in (planned, *others)
    ]
    for cell in cells:
        point = json.loads((run["store"].folder(cell) / "point.json").read_text())
        assert point["predicted"] == cell.predicted
        assert (cell.predicted is not None) == (cell.arm == planned)
        assert (cell.arm == "baseline") <= (cell.counts == {name: {"curated": 16} for name in NAMES})
        total = sum(n for sources in point["counts"].values() for n in sources.values())
        assert total == 48 or (cell.arm == "maximum" and total > 48)
    assert planned == ("baseline" if cells[0].predicted["reason"] else "planned")
    kept = sweep(cells, lambda *_: pytest.fail("measured twice"), store=run["store"], jobs=0)
    assert len(kept) == len(cells)


def second(score: Callable[[list[int]], float], rows: list[dict[str, Any]], **given: Any) -> dict[str, Any]:
    """The second stage after such proxy runs, by arm."""
    own = params(tried=26, fresh_seeds=[100], gate=0.3, **given)
    return {cell.arm: cell for cell in later(own, long_rows([*rows, *proxies(score)]))}


def ladder() -> list[dict[str, Any]]:
    return [made("ladder", {name: [0.5] for name in NAMES}, [16.0])]


def test_the_mix_finder_plans_where_one_ability_helps_and_does_not_where_none_does() -> None:
    cells = second(lambda counts: 0.2 + 0.6 * counts[0] / 48, ladder())
    assert list(cells) == ["planned", "baseline", "reconstruct", "maximum"]
    assert cells["planned"].counts["knowledge"]["curated"] > 26
    assert cells["planned"].predicted["gain"][1] > 0
    assert cells["baseline"].predicted is None
    cells = second(lambda counts: 0.5, ladder())
    assert list(cells) == ["baseline", "reconstruct", "maximum"]
    assert cells["baseline"].predicted["reason"]
    assert list(second(lambda counts: 0.5, ladder(), mixes=["planned"])) == ["baseline"]


def test_a_plan_is_sought_for_the_abilities_that_passed_their_gate() -> None:
    gates = [made("gate", {name: [0.0] for name in NAMES}, [16.0], arm=name) for name in NAMES]
    (cell,) = second(lambda counts: 0.5, ladder() + gates, mixes=["planned"]).values()
    assert cell.predicted == {"reason": "no ability passed its gate"}
    assert cell.counts == {name: {"curated": 16} for name in NAMES}


def test_mixes_with_synthetic_examples_bring_their_teacher(run: dict[str, Any]) -> None:
    own = params(mixes=["maximum", "mix-20"])
    cells = {cell.arm: cell for cell in later(own, raw(run["first"]))}
    assert sum(of["synthetic"] for of in cells["mix-20"].counts.values()) == 20
    assert cells["mix-20"].predicted is None
    assert cells["mix-20"].task.teacher is not None
    assert cells["mix-20"].counts["role"].keys() == {"curated", "synthetic"}
