"""The curriculum study: equal budgets, shared first students, exact re-balancing, rounds that resume, refusals."""

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flaky import Flaky

from labkit import BadRequest, grade, lab, learn, show, studies
from labkit.instructions import EVERY, draw
from labkit.instructions.family import split_of
from labkit.learn.learner import Learner, SmallLearner, TunedLearner
from labkit.studies.curriculum import STUDY, Params, check
from labkit.studies.curriculum.rounds import ARMS, Cell, First, Rounds
from labkit.studies.rows import graded_line, long_rows
from labkit.studies.study import Results
from labkit.studies.views import verdict
from labkit.teach import server, tapir
from labkit.teach.client import Client
from labkit.teach.teacher import Teacher

TINY: dict[str, Any] = {
    "scale": "smoke",
    "tasks": ["formatting", "classification"],
    "shares": [0.7, 0.3],
    "target": [0.4, 0.6],
    "own_target": [0.75, 0.25],
    "base_steps": 0,
    "steps": 8,
    "public": 180,
    "mined": 40,
    "round_size": 24,
    "round_steps": 4,
    "expanded": 8,
    "n_test": 6,
    "widths": [],
}


@pytest.fixture(scope="module")
def teacher_url() -> Iterator[str]:
    with server.running() as url:
        yield url


def resolve(**given: Any) -> Params:
    return STUDY.resolve({**TINY, **given})


def cell_of(**given: Any) -> Cell:
    """A cell without gates of its own."""
    (cell,) = STUDY.points(resolve(**{"arms": ["tapir"], **given}))
    assert isinstance(cell, Cell)
    return cell.model_copy(update={"gated": False})


def first_of(cell: Cell) -> First:
    return cell.first()


def measured(cell: Cell, runs: Path) -> dict[str, Any]:
    """The row of a cell, its first student measured first."""
    lab.Store(runs).measure(first_of(cell), STUDY.measure)
    return lab.Store(runs).measure(cell, STUDY.measure)


def client_of(cell: Cell, runs: Path) -> Client:
    return cell.teacher.connect(cell.asking, runs)


def rounds_of(cell: Cell, client: Client, runs: Path, lasting: Path) -> Rounds:
    student = cell.spec.make(cell.seed, None)  # type: ignore[arg-type]
    return Rounds(cell, student, client, lab.Store(runs).folder(first_of(cell)), lasting)


def lines(row: dict[str, Any], exam: str, kind: str = "") -> list[dict[str, Any]]:
    return [line for line in row["graded"] if (line["exam"], line["kind"]) == (exam, kind)]


def same(row: dict[str, Any]) -> dict[str, Any]:
    """What must not depend on time, or on what was asked before."""
    timed = ("seconds", "finished", "first")
    rounds = [{k: v for k, v in line.items() if k != "seconds"} for line in row["rounds_of"]]
    return {k: v for k, v in row.items() if not any(word in k for word in timed)} | {"rounds_of": rounds}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("curriculum")


@pytest.fixture(scope="module")
def rows(runs: Path) -> list[dict[str, Any]]:
    """Every arm once, of two seeds."""
    points = STUDY.points(resolve(arms=list(ARMS), seeds=[0, 1]))
    return lab.sweep(points, STUDY.measure, jobs=0, store=lab.Store(runs))


def summarised(rows: list[dict[str, Any]]) -> Results:
    return STUDY.summarise(long_rows(rows).assign(**STUDY.marks(resolve())))


def test_every_arm_takes_the_same_optimiser_steps(rows: list[dict[str, Any]]) -> None:
    params = resolve()
    for row in rows:
        assert [line["steps"] for line in row["rounds_of"]] == [params.round_steps] * params.rounds, row["arm"]


def test_the_gates_train_as_long_as_an_arm_on_one_kind_and_level(rows: list[dict[str, Any]]) -> None:
    (cell, *_) = STUDY.points(resolve(arms=["random"], seeds=[1, 0]))
    assert isinstance(cell, Cell)
    gates = cell.gates()
    assert [(gate.kind, gate.level) for gate in gates] == [
        (kind, level) for kind in ("formatting", "classification") for level in (1, 2, 3)
    ]
    assert {(gate.seed, gate.steps, gate.examples, gate.spec) for gate in gates} == {(1000, 16, 28, cell.spec)}
    for gate in gates:
        assert {example.source for example in gate.lesson().data} == {gate.kind}
    assert all(set(row["gate"]) == {f"{gate.kind} {gate.level}" for gate in gates} for row in rows)


def test_students_of_another_width_repeat_some_arms_without_gates() -> None:
    cells = STUDY.points(resolve(arms=["random", "taught"], widths=[16]))
    assert [(cell.arm, cell.width, cell.spec.width, cell.gated) for cell in cells if isinstance(cell, Cell)] == [
        ("random", 32, 32, True), ("taught", 32, 32, True), ("taught", 16, 16, False)
    ]  # fmt: skip


def test_students_begin_with_a_text_base_unless_told_otherwise() -> None:
    params = resolve(base_steps=4, loss="example")
    (cell,) = STUDY.points(params.model_copy(update={"arms": ["random"]}))
    assert isinstance(cell, Cell)
    (base,) = cell.first().needs()
    assert {base} == {gate.needs()[0] for gate in cell.gates()}
    assert (cell.spec.recipe, base.spec.recipe) == ("adamw", "fast")  # type: ignore[union-attr, attr-defined]
    assert (cell.spec.loss, cell_of().spec.base) == ("example", None)  # type: ignore[union-attr]


def test_what_is_mined_was_not_learned(rows: list[dict[str, Any]], runs: Path) -> None:
    cell = cell_of(arms=["within"])
    public = [one.example for one in cell.task.public_set(cell.spec, cell.seed)]
    assert cell.first().lesson().data == public[: cell.half]
    with client_of(cell, runs) as client:
        arm = rounds_of(cell, client, runs, runs / "lasting")
    assert [item.example for item in arm.pool] == public[cell.half : cell.half + cell.mined]
    assert arm.mined.public != arm.mined.teacher  # some public answers are wrong, and no teacher's is
    assert set(arm.mined.teacher) == {10.0}


def test_random_and_hard_seeds_are_of_the_same_kinds(rows: list[dict[str, Any]], runs: Path) -> None:
    seeds = {}
    for name in ("random", "taught", "within", "rehearsal"):
        cell = cell_of(arms=[name], expanded=0)
        with client_of(cell, runs) as client:
            seeds[name] = rounds_of(cell, client, runs, runs / "lasting")._first_material()
    counts = {name: sorted(item.kind or "" for item in some) for name, some in seeds.items()}
    assert counts["taught"] == counts["within"] == counts["rehearsal"]
    assert seeds["random"] == seeds["taught"]
    lacked = {name: np.mean([item.lacked or 0 for item in some]) for name, some in seeds.items()}
    assert lacked["within"] >= lacked["rehearsal"]
    assert lacked["within"] >= lacked["random"]


def test_the_arms_of_a_seed_share_their_first_student_and_their_exam(rows: list[dict[str, Any]]) -> None:
    for seed in (0, 1):
        group = [row for row in rows if row["seed"] == seed]
        begun = [[line for line in row["graded"] if line.get("round") == 0] for row in group]
        assert len({json.dumps(looks) for looks in begun}) == 1
        assert len({json.dumps(line["asked"]) for row in group for line in lines(row, "unseen", "formatting 1")}) == 1
        assert {line["kind"] for line in begun[0]} == {"formatting", "classification"}


def test_re_balanced_arms_meet_the_target_and_others_do_not(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        aim = 0.75 if row["arm"] == "tapir_own" else 0.4
        drawn = [line["shares"].get("formatting", 0) for line in row["rounds_of"]]
        exact = [abs(share - aim) <= 0.5 / 24 for share in drawn]
        if ARMS[row["arm"]].pace in ("balanced", "rising", "constant"):
            assert row["target_shares"]["formatting"] == aim
            assert sum(row["distilled"]["resampled"].values()) > 0
        if ARMS[row["arm"]].pace == "even":
            assert not all(exact)


def test_only_taught_arms_ask_a_teacher(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        assert bool(row.get("teacher_requests", 0) > 0) == ARMS[row["arm"]].taught
        assert ("refined" in row["distilled"]) == ARMS[row["arm"]].taught
        assert ("expanded" in row["distilled"]) == ARMS[row["arm"]].taught


def test_alpha_rises_in_tapirs_rounds_alone(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        alphas = [line["alpha"] for line in row["rounds_of"]]
        assert alphas == {"rising": [0.3, 0.5], "constant": [0.4, 0.4]}.get(ARMS[row["arm"]].pace, [None, None])


def test_a_rerun_trains_and_asks_nothing(
    rows: list[dict[str, Any]], runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even a teacher is needed."""
    monkeypatch.setattr(Teacher, "connect", lambda *_: pytest.fail("a teacher was asked"))
    run = studies.Run(STUDY, resolve(arms=list(ARMS), seeds=[0, 1]), lab.Store(runs))
    again = run.measure(jobs=0).rows.drop_duplicates("address")
    assert set(again["address"]) == {row["address"] for row in rows}


def test_a_finished_student_can_be_asked(rows: list[dict[str, Any]], runs: Path) -> None:
    folder = lab.Store(runs).find(rows[0]["address"])
    assert isinstance(learn.load(folder).answer(("join words with ~\nfox ant",)), str)


def test_the_summary_pairs_arms_and_draws(rows: list[dict[str, Any]]) -> None:
    results = summarised(rows)
    arms = results["arms"].estimates.to_dict("records")
    assert [line["arm"] for line in arms] == list(ARMS)

    def macro(row: dict[str, Any]) -> float:
        kept = [one for one in row["graded"] if one["exam"] == "unseen" and not one["grading"]]
        assert len(kept) == 6
        return float(np.mean([(sum(o["right"]) / sum(o["asked"]) - o["chance"]) / (1 - o["chance"]) for o in kept]))

    mean = {arm: np.mean([macro(row) for row in rows if row["arm"] == arm]) for arm in ARMS}
    for line in arms:
        assert line["mean"] == pytest.approx(mean[line["arm"]])
        assert line["lo"] <= line["mean"] <= line["hi"]
        if line["arm"] != "random":
            assert line["gain"]["mean"] == pytest.approx(mean[line["arm"]] - mean["random"])
    said = {row["verdict"] for row in results.table("ingredients")}
    assert said <= {"better", "worse", "not decided"}
    assert results.views() == list(STUDY.views)
    for view in results.views():
        assert show.png(results.chart(view)).startswith(b"\x89PNG")
    assert [row["verdict"] for row in results.claims] == ["cannot tell", "not tested here"]  # little is learned here
    json.dumps(results.as_dict(), allow_nan=False)


@pytest.mark.parametrize("arms", [["hard"], ["taught"], ["random", "rehearsal"]])
def test_some_arms_make_a_whole_run(arms: list[str], rows: list[dict[str, Any]], runs: Path, tmp_path: Path) -> None:
    """Without the arms that others are compared with; and where no looks between rounds were taken."""
    some = [row for row in rows if row["arm"] in arms]
    blind = [row | {"graded": [line for line in row["graded"] if line["exam"] != "look"]} for row in some]
    for group in (some, blind):
        results = summarised(group)
        assert results.finding
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("LABKIT_RUN_DIR", str(tmp_path))
            studies.Run(STUDY, resolve(arms=arms, seeds=[0, 1]), lab.Store(runs)).finish(results)
        assert (tmp_path / "report.html").exists()


def test_one_seed_decides_nothing(rows: list[dict[str, Any]]) -> None:
    alone = summarised([row for row in rows if row["seed"] == 0])
    assert {line["decision"] for line in STUDY.tables["Registered statements, decided"](alone)} == {"cannot tell"}
    gains = [line["gain"] for line in alone["arms"].estimates.to_dict("records") if line["gain"]]
    assert {verdict(gain) for gain in gains} == {"not decided"}
    assert "one seed decides nothing" in alone.finding


def known_rows(lift: int, gates: dict[str, float] | None = None) -> list[dict[str, Any]]:
    """Two arms and three seeds with 100 questions, the second arm right on `lift` more; another kind gets none."""
    rows = []
    for seed in (0, 1, 2):
        for arm, more in (("random", 0), ("taught", lift)):
            right = np.array([1] * (40 + more) + [0] * (60 - more))
            row: dict[str, Any] = {"address": f"{arm} {seed}", "arm": arm, "seed": seed, "delta": 2, "learned": True}
            row |= {"training_tokens": 1, "rounds_of": [{"shares": {"a": 1.0}}], "distilled": {}, "difficulty": {}}
            row |= {"public_shares": {"a": 1.0}, "target_shares": {"a": 1.0}, "first": {"judging": {}}, "width": 32}
            counts = {"a 1": grade.Counts(right, np.ones(100, int)), "b 1": grade.Counts(0 * right, np.ones(100, int))}
            lines = [graded_line("unseen", kind, "", of) | {"chance": 0.0} for kind, of in counts.items()]
            rows.append(row | {"gate": gates or {}, "graded": lines})
    return rows


@pytest.mark.parametrize(("lift", "says"), [(30, "supports"), (-30, "contradicts"), (0, "contradicts")])
def test_the_finding_says_what_was_measured(lift: int, says: str) -> None:
    """0: no gain of the size that matters."""
    found = summarised(known_rows(lift, {"a 1": 0.9, "b 1": -2.0})).finding
    assert f"{says} that a teacher helps ({lift / 100:+.3f}" in found
    assert "left out: b 1" in found


def test_what_fails_its_gate_enters_no_mean() -> None:
    for gates, score in (({"a 1": 0.9, "b 1": -2.0}, 0.4), ({"a 1": 0.9, "b 1": 0.5}, 0.2), ({}, 0.2)):
        assert summarised(known_rows(0, gates))["arms"].line("macro", arm="random")["mean"] == pytest.approx(score)


def test_the_public_set_is_imbalanced_and_now_and_then_wrong() -> None:
    cell = cell_of(public=400, mined=100, wrong=0.25)
    public = cell.task.public_set(cell.spec, 0)
    assert sum(one.kind == "formatting" for one in public) == 280
    wrong = [one for one in public if one.task and one.example.output != one.task.example.output]
    assert 60 <= len(wrong) <= 140  # 100 expected
    assert not any(
        EVERY[one.example.source].accepts(one.task.instruction, one.example.input, one.example.output)
        for one in wrong
        if one.task
    )
    assert public == cell.task.public_set(cell.spec, 0)


def test_what_the_exam_asks_is_forbidden_in_training() -> None:
    forbidden = cell_of().task.forbidden()
    for split, reason in (("test", "instruction of the exam"), ("train", None)):
        for task in draw(EVERY["formatting"], 20, split=split, levels=[1], seed=5):  # type: ignore[arg-type]
            assert split_of(task.instruction.key) == split
            assert forbidden(f"{task.example.instruction}\n{task.example.input}") == reason
    assert forbidden("write a poem about the sea") == "not recognised"


def test_rising_takes_alpha_of_what_is_hard_and_mines_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = cell_of(alpha_0=0.5, expanded=0, public=320, mined=150)
    store = lab.Store(tmp_path)
    store.measure(first_of(cell), STUDY.measure)
    mined = json.loads((store.folder(first_of(cell)) / "mined.json").read_text())
    with client_of(cell, tmp_path) as client:
        arm = rounds_of(cell, client, tmp_path, tmp_path / "lasting")
        # half of each kind is hard, whatever the student says
        fake = [1.0 if place % 2 else 10.0 for place in range(cell.mined)]
        arm.mined = arm.mined._replace(student=fake, teacher=[10.0] * cell.mined)
        chosen = arm.rising(0)
        hard = {arm.pool[i].example for i in range(1, cell.mined, 2)}
        assert sum(item.example in hard for item in chosen) == pytest.approx(0.5 * len(chosen), abs=1)
        asked: list[int] = []
        monkeypatch.setattr(tapir, "mine", lambda answer, examples, types, asker: asked.append(len(types)) or arm.mined)
        arm.rising(1)
        assert asked == [cell.mined]
    assert len(mined["student"]) == cell.mined


@pytest.mark.parametrize("arm", ["tapir", "within"])
def test_a_killed_arm_goes_on_in_its_round_and_asks_nothing_twice(
    arm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = cell_of(arms=[arm], rounds=3)
    whole = measured(cell, tmp_path / "whole")
    learned = SmallLearner.learn
    begun: list[int] = []

    def dying(self: SmallLearner, *args: Any, seed: int, **more: Any) -> Any:
        begun.append(seed)
        if len(begun) == 4:  # the first student, two rounds, and the third is cut off
            raise KeyboardInterrupt
        return learned(self, *args, seed=seed, **more)

    monkeypatch.setattr(SmallLearner, "learn", dying)
    with pytest.raises(KeyboardInterrupt):
        measured(cell, tmp_path / "killed")
    again: list[int] = []

    def counting(self: SmallLearner, *args: Any, seed: int, **more: Any) -> Any:
        again.append(seed)
        return learned(self, *args, seed=seed, **more)

    monkeypatch.setattr(SmallLearner, "learn", counting)
    resumed = measured(cell, tmp_path / "killed")
    assert again == [2]  # the third round alone
    assert same(resumed) == same(whole)
    paid = []
    for name in ("whole", "killed"):
        with client_of(cell, tmp_path / name) as client:
            paid.append(client.spent())
    assert paid[0] == paid[1]


@pytest.mark.slow
def test_a_killed_process_leaves_what_the_next_one_goes_on_from(tmp_path: Path) -> None:
    """kill -9 in the middle of an arm, from outside."""
    cell = cell_of(rounds=6, round_steps=60)
    script = (
        "import json, sys\n"
        "from labkit import lab\n"
        "from labkit.studies.cell import measure\n"
        "from labkit.studies.curriculum.rounds import Cell\n"
        "cell = Cell.model_validate_json(sys.argv[1])\n"
        "(row,) = lab.sweep([cell], measure, jobs=0)\n"
        "print(json.dumps(row))\n"
    )
    command = [sys.executable, "-c", script, cell.model_dump_json()]
    rows = {}
    for name in ("whole", "killed"):
        runs = tmp_path / name
        env = {**os.environ, "LABKIT_RUNS": str(runs), "OMP_NUM_THREADS": "1"}
        if name == "killed":
            child = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL)
            state = runs / "curriculum" / "points" / f".work-{cell.address}" / "state.json"
            while not state.exists() and child.poll() is None:
                time.sleep(0.02)
            child.send_signal(signal.SIGKILL)
            child.wait()
            assert not lab.Store(runs).result(cell)
            assert 1 <= len(json.loads(state.read_text())["rounds"]) < 6
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
        rows[name] = json.loads(done.stdout.splitlines()[-1])
    assert same(rows["killed"]) == same(rows["whole"])


def test_a_noisy_judge_is_another_teacher() -> None:
    exact, noisy = (cell_of(teacher=name) for name in ("oracle", "oracle:noise=2"))
    assert first_of(exact).address != first_of(noisy).address
    assert "another" not in STUDY.notes(resolve())[0]
    assert "asked in this process" in STUDY.notes(resolve())[0]


def test_budgets_and_patience_decide_no_result() -> None:
    """A run that was stopped by its budget goes on with a larger one: nothing is measured again."""
    plain, richer = (cell_of(asking=asking) for asking in ({}, {"token_budget": 10, "timeout": 5}))
    assert plain.address == richer.address
    assert plain.address != cell_of(asking={"temperature": 1.0}).address


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"arms": ["tapyr"]}, r"unknown arm 'tapyr': did you mean 'tapir'\?"),
        ({"tasks": ["formatting", "poetry"]}, "unknown task 'poetry'"),
        ({"target": [0.4, 0.5]}, r"target = \(0.4, 0.5\) sums to 0.9, not to 1"),
        ({"target": [0.4, 0.3, 0.3]}, "target has 3 numbers for 2 tasks"),
        ({"shares": [1, 0]}, "the target has a share of 0.6 of 'classification', but no seed of it is mined"),
        ({"delta": 9}, "delta = 9: input should be less than 9"),
        ({"mined": 91}, "mined = 91 is more than the half of public = 180 that is not learned"),
        ({"level_shares": [0.5, 0.5]}, "level_shares has 2 numbers for 3 tasks"),
        ({"own_target": [0.5, 0.6]}, r"own_target = \(0.5, 0.6\) sums to 1.1, not to 1"),
        ({"widths": [15]}, "heads = 2 does not divide widths = 15"),
        ({"outside": ["poetry"]}, "unknown ability 'poetry'"),
        ({"asking": {"model": "x"}}, "it is the teacher's name"),
        ({"asking": {"tokn_budget": 1}}, r"unknown setting of a teacher 'tokn_budget': did you mean 'token_budget'\?"),
        ({"asking": {"timeout": 0}}, "the teacher's timeout is 0"),
        ({"teacher": "oracle:nose=1"}, "nose"),
        ({"wrong": 1.5}, "wrong = 1.5"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_sentence(given: dict[str, Any], complaint: str) -> None:
    with pytest.raises(BadRequest, match=complaint) as refusal:
        resolve(**given)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(("reply", "complaint"), [("Quite good.", "gives no rating"), ("[[7]]", "names no kind")])
def test_a_teacher_that_answers_prose_is_refused_before_it_is_paid(
    reply: str, complaint: str, own_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = {"role": "assistant", "content": reply}
    said = {"choices": [{"index": 0, "finish_reason": "stop", "message": message}]}
    with Flaky(models=("gpt-4o-mini",), say=said) as hosted:
        monkeypatch.setenv("LABKIT_TEACHER_URL", hosted.url)
        monkeypatch.setenv("LABKIT_TEACHER_KEY", "any")
        with pytest.raises(BadRequest, match=complaint):
            check(resolve(teacher="gpt-4o-mini"), lab.Store(own_store))


@pytest.mark.parametrize(
    ("surroundings", "complaint"),
    [
        ({}, "LABKIT_TEACHER_URL"),
        ({"LABKIT_TEACHER_URL": "http://127.0.0.1:9/v1"}, "127.0.0.1:9"),
        ({"LABKIT_TEACHER_URL": "here"}, "oracle"),
    ],
)
def test_an_endpoint_is_checked_before_anything_is_spent(
    surroundings: dict[str, str], complaint: str, teacher_url: str, own_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No endpoint, none that answers, and one that lacks the model."""
    for name in ("LABKIT_TEACHER_URL", "LABKIT_TEACHER_KEY", "OPENAI_BASE_URL", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"LABKIT_TEACHER_KEY": "any", **surroundings}.items():
        monkeypatch.setenv(name, teacher_url if value == "here" else value)
    params = resolve(teacher="gpt-4o-mini", asking={"timeout": 2, "retries": 0}, arms=["random"])
    with pytest.raises(BadRequest, match=complaint):
        studies.Run(STUDY, params, lab.Store(own_store)).measure(jobs=0)
    assert not list(own_store.glob("curriculum*/points/*"))


def test_a_wrong_key_is_one_sentence_without_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with server.running(key="right") as url:
        monkeypatch.setenv("LABKIT_TEACHER_URL", url)
        monkeypatch.setenv("LABKIT_TEACHER_KEY", "sk-very-secret")
        with pytest.raises(BadRequest) as refusal:
            check(resolve(teacher="gpt-4o-mini"), lab.Store(tmp_path))
    assert "key" in str(refusal.value)
    assert "very-secret" not in str(refusal.value)


def test_a_spent_budget_stops_the_run_and_keeps_what_was_answered(tmp_path: Path) -> None:
    cell = cell_of(asking={"token_budget": 20_000})
    with pytest.raises(BadRequest, match="budget"):
        measured(cell, tmp_path)
    with client_of(cell, tmp_path) as client:
        before = client.spent()
    assert 0 < before.tokens <= 20_000
    assert measured(cell_of(), tmp_path)["accuracy_unseen"] >= 0


def test_how_a_teacher_is_asked_reaches_worker_processes() -> None:
    """Budgets are no part of the address, and travel with the cell all the same, to its first student as well."""
    cell = pickle.loads(pickle.dumps(cell_of(asking={"token_budget": 20_000, "temperature": 1.0})))
    assert cell.asking["token_budget"] == first_of(cell).asking["token_budget"] == 20_000
    assert cell.teacher.decisive == {"temperature": 1.0}
    assert "token_budget" not in cell.model_dump_json()


def test_replies_lie_in_the_store_that_is_used(tmp_path: Path, own_store: Path) -> None:
    """What the teacher said stays said: nothing is paid twice, and no other store is touched."""
    whole = measured(cell_of(), tmp_path)
    shutil.rmtree(lab.Store(tmp_path).folder(cell_of()))
    with client_of(cell_of(), tmp_path) as client:
        before = client.spent()
    assert same(measured(cell_of(), tmp_path)) == same(whole)
    with client_of(cell_of(), tmp_path) as client:
        assert client.spent() == before
    assert not list(own_store.glob("**/replies.sqlite"))


@pytest.mark.slow
def test_a_hugging_face_student_goes_through_every_round(tmp_path: Path) -> None:
    """Records in Alpaca's form, a tiny Llama in 4 bits, questions in MT-Bench's form."""
    from tiny import tiny_llama

    tasks = [task for name in ("rewriting", "counting") for task in draw(EVERY[name], 40, levels=[1], seed=0)]
    corpus = tmp_path / "public.jsonl"
    records = [
        {"instruction": t.example.instruction, "input": t.example.input, "output": t.example.output} for t in tasks
    ]
    corpus.write_text("".join(json.dumps(record) + "\n" for record in records))
    exam = [draw(EVERY[name], 3, split="test", levels=[1], seed=1) for name in ("rewriting", "counting")]
    questions = [
        {"question_id": 10 * n + m, "category": name, "turns": [f"{t.example.instruction}\n{t.example.input}"] * 2}
        for n, (name, some) in enumerate(zip(("one", "two"), exam, strict=True))
        for m, t in enumerate(some)
    ]
    (tmp_path / "question.jsonl").write_text("".join(json.dumps(question) + "\n" for question in questions))
    model = tiny_llama(tmp_path / "llama", texts=[json.dumps(record) for record in records])
    cell = cell_of(
        model=str(model),
        corpus=str(corpus),
        questions=str(tmp_path / "question.jsonl"),
        tasks=["editing", "mathematics"],
        public=60,
        mined=30,
        round_size=8,
        expanded=4,
        delta=8,
        steps=2,
        round_steps=2,
        outside=[],
        new_tokens=12,
        tuning={"rank": 4, "batch_size": 2, "max_length": 256, "quantisation": "nf4", "gradient_checkpointing": False},
    )
    student: Learner = cell.learner(lab.Record(tmp_path))
    assert isinstance(student, TunedLearner)
    row = measured(cell, tmp_path / "runs")
    assert [line["kind"] for line in row["graded"] if line["exam"] == "unseen"] == ["one", "two"]
    assert 0 <= row["accuracy_unseen"] <= 1
    assert len(row["rounds_of"]) == 2
    assert row["distilled"]["refined"]["asked"] > 0
    folder = lab.Store(tmp_path / "runs").folder(cell)
    assert (folder / "adapter_model.safetensors").exists()
    assert len((folder / "mt_bench_answers.jsonl").read_text().splitlines()) == 6
    results = summarised([row])
    assert [one["exam"] for one in results["kinds"].estimates.to_dict("records")] == ["unseen:one", "unseen:two"]
    assert results.rows["same_questions"].all()


def test_first_and_cell_share_what_the_first_student_depends_on() -> None:
    one, other = STUDY.points(resolve(arms=["random", "tapir"]))
    assert isinstance(one, Cell)
    assert isinstance(other, Cell)
    assert first_of(one) == first_of(other)
    assert type(first_of(one)) is First
    assert first_of(one).address != first_of(cell_of(wrong=0.3)).address


def test_a_group_of_parameters_is_its_members() -> None:
    """As the notebook's parameters cell gives them; what is given twice or in the wrong place is refused."""
    assert resolve(expanded=None, pace={"expanded": 999, "alpha_0": None}) == resolve(expanded=999)
    params = resolve()
    assert STUDY.resolve(STUDY.grouped(params.model_dump(mode="json"))) == params
    for given, complaint in (
        ({"pace": {"epxanded": 9}}, "unknown parameter in pace 'epxanded': did you mean 'expanded'"),
        ({"pace": {"expanded": 9}}, "'expanded' is given twice"),
        ({"tuned": "gpt2"}, "tuned = 'gpt2': a dict of some of model, corpus"),
    ):
        with pytest.raises(BadRequest, match=complaint):
            resolve(**given)
