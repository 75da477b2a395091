"""The curriculum study: equal budgets, shared first students, exact re-balancing, rounds that resume, refusals."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from flaky import Flaky

from labkit import BadRequest, lab, learn, show, studies
from labkit.instructions import EVERY, Example, draw
from labkit.instructions.family import split_of
from labkit.studies import curriculum_data, curriculum_results, curriculum_rounds
from labkit.studies.curriculum import STUDY, Cell, First, Params, service
from labkit.studies.curriculum_rounds import ARMS, Item, Rounds
from labkit.studies.students import SmallStudent, TunedStudent
from labkit.teach import server

TINY: dict[str, Any] = {
    "scale": "smoke",
    "tasks": ["formatting", "classification"],
    "shares": [0.7, 0.3],
    "target": [0.4, 0.6],
    "steps": 8,
    "public": 90,
    "mined": 40,
    "round_size": 24,
    "expanded": 8,
    "budget": 2400,
    "n_test": 6,
}


@pytest.fixture(scope="module")
def teacher_url() -> Iterator[str]:
    with server.running(thread=True) as url:
        yield url


@pytest.fixture
def offline(teacher_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A teacher that is already there."""
    monkeypatch.setenv("LABKIT_TEACHER_URL", teacher_url)
    monkeypatch.setenv("LABKIT_TEACHER_KEY", "offline")
    return teacher_url


def resolve(**given: Any) -> Params:
    return STUDY.resolve({**TINY, **given})


def cell_of(**given: Any) -> Cell:
    (cell,) = STUDY.points(resolve(**{"arms": ["tapir"], **given}))
    return cell


def measured(cell: Cell, runs: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("LABKIT_RUNS", str(runs))
    return lab.Store(runs).measure(cell, STUDY.measure)


def same(row: dict[str, Any]) -> dict[str, Any]:
    """What must not depend on time, or on what was asked before."""
    timed = ("seconds", "finished", "first")
    rounds = [{k: v for k, v in line.items() if k != "seconds"} for line in row["rounds_of"]]
    return {k: v for k, v in row.items() if not any(word in k for word in timed)} | {"rounds_of": rounds}


@pytest.fixture(scope="module")
def rows(teacher_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[pd.DataFrame]:
    """Every arm once, of two seeds."""
    with pytest.MonkeyPatch.context() as patch:
        runs = tmp_path_factory.mktemp("curriculum")
        patch.setenv("LABKIT_TEACHER_URL", teacher_url)
        patch.setenv("LABKIT_TEACHER_KEY", "offline")
        patch.setenv("LABKIT_RUNS", str(runs))
        points = STUDY.points(resolve(arms=list(ARMS), seeds=[0, 1]))
        frame = studies.frame(lab.sweep(points, STUDY.measure, jobs=0, store=lab.Store(runs)))
        frame.attrs["runs"] = runs
        yield frame


def test_every_arm_sees_the_same_training_tokens(rows: pd.DataFrame) -> None:
    params = resolve()
    half_a_step = params.batch_size * 30 / 2  # tokens; questions and answers take at most some 30
    for row in rows.to_dict("records"):
        assert abs(row["training_tokens"] - params.budget) <= params.rounds * half_a_step, row["arm"]
        assert len(row["rounds_of"]) == params.rounds


def test_the_arms_of_a_seed_share_their_first_student_and_their_exam(rows: pd.DataFrame) -> None:
    for _, group in rows.groupby("seed"):
        assert len({json.dumps(begun) for begun in group["begun"]}) == 1
        assert len({json.dumps(asked) for asked in group["unseen_asked"]}) == 1
    (one, other) = (group["begun"].iloc[0] for _, group in rows.groupby("seed"))
    assert set(one) == set(other) == {"formatting", "classification"}


def test_re_balanced_arms_meet_the_target_and_others_do_not(rows: pd.DataFrame) -> None:
    for row in rows.to_dict("records"):
        exact = [abs(line["shares"].get("formatting", 0) - 0.4) <= 0.5 / 24 for line in row["rounds_of"]]
        if row["arm"] in ("balanced", "tapir"):
            assert all(exact), row["arm"]
            assert sum(row["distilled"]["resampled"].values()) > 0
        if row["arm"] == "full":
            assert not all(exact)


def test_only_taught_arms_ask_a_teacher(rows: pd.DataFrame) -> None:
    for row in rows.to_dict("records"):
        assert bool(row.get("teacher_requests", 0) > 0) == ARMS[row["arm"]].taught
        assert ("refined" in row["distilled"]) == ARMS[row["arm"]].taught
        assert ("expanded" in row["distilled"]) == ARMS[row["arm"]].taught


def test_alpha_rises_in_tapirs_rounds_alone(rows: pd.DataFrame) -> None:
    for row in rows.to_dict("records"):
        alphas = [line["alpha"] for line in row["rounds_of"]]
        assert alphas == ([0.3, 0.5] if row["arm"] == "tapir" else [None, None])


def test_a_rerun_trains_and_asks_nothing(rows: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even an endpoint is needed."""
    monkeypatch.delenv("LABKIT_TEACHER_URL", raising=False)
    monkeypatch.setattr(server, "running", lambda **_: pytest.fail("a server was started"))
    store = lab.Store(rows.attrs["runs"])
    again = studies.run(STUDY, resolve(arms=list(ARMS), seeds=[0, 1]), jobs=0, store=store)
    assert again["address"].tolist() == rows["address"].tolist()


def test_a_finished_student_can_be_asked(rows: pd.DataFrame) -> None:
    folder = lab.Store(rows.attrs["runs"]).find(rows["address"].iloc[0])
    assert isinstance(learn.load(folder).answer(("join words with ~\nfox ant",)), str)


def test_the_summary_pairs_arms_and_draws(rows: pd.DataFrame) -> None:
    summary = STUDY.summarise(rows)
    assert [arm["arm"] for arm in summary["arms"]] == list(ARMS)
    for arm in summary["arms"]:
        lo, hi = arm["unseen_ci95"]
        assert lo <= arm["unseen"] <= hi
        if arm["arm"] != "random":
            one, other = (rows[rows["arm"] == name]["accuracy_unseen"].mean() for name in ("random", arm["arm"]))
            assert arm["gain"]["mean"] == pytest.approx(other - one)
    assert {row["verdict"] for row in curriculum_results.ingredients(summary)} <= {"better", "worse", "not decided"}
    published = show.published(STUDY.name)
    for draw_one in (STUDY.chart, *STUDY.figures.values()):
        assert show.png(draw_one(rows, summary, published)).startswith(b"\x89PNG")
    assert {row["agrees"] for row in STUDY.compare(summary, published)} == {"not tested here"}
    json.dumps(summary, allow_nan=False)


@pytest.mark.parametrize("arms", [["hard"], ["full"], ["random", "competence"]])
def test_some_arms_make_a_whole_run(arms: list[str], rows: pd.DataFrame, tmp_path: Path) -> None:
    """Without the arms that others are compared with; and where no looks between rounds were taken."""
    some = rows[rows["arm"].isin(arms)]
    for frame in (some, some.assign(begun=[{}] * len(some))):
        summary = STUDY.summarise(frame)
        assert STUDY.finding(summary)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("LABKIT_RUN_DIR", str(tmp_path))
            studies.finish(STUDY, resolve(arms=arms, seeds=[0, 1]), frame, summary, 1.0)
        assert (tmp_path / "report.html").exists()


def test_one_seed_decides_nothing(rows: pd.DataFrame) -> None:
    alone = STUDY.summarise(rows[rows["seed"] == 0])
    assert {arm["gain"]["verdict"] for arm in alone["arms"] if arm["gain"]} == {"not decided"}
    assert "one seed decides nothing" in STUDY.finding(alone)


def known_frame(lift: int) -> pd.DataFrame:
    """Two arms and three seeds with 100 questions, the second arm right on `lift` more of them."""
    frame = []
    for seed in (0, 1, 2):
        for arm, more in (("random", 0), ("tapir", lift)):
            right = [1] * (40 + more) + [0] * (60 - more)
            line = {"different": 1, "shares": {"a": 1.0}, "looked": {}}
            frame.append(
                {
                    "arm": arm,
                    "seed": seed,
                    "kinds": ["a"],
                    "model": None,
                    "delta": 2,
                    "learned": True,
                    "unseen_right": right,
                    "unseen_asked": [1] * 100,
                    "unseen_a_right": right,
                    "unseen_a_asked": [1] * 100,
                    "training_tokens": 1,
                    "optimiser_steps": 1,
                    "rounds_of": [line],
                    "begun": {},
                    "distilled": {},
                    "difficulty": {},
                    "public_shares": {"a": 1.0},
                    "tasks": ["a"],
                    "target": [1.0],
                    "first": {"judging": {}},
                    "accuracy_unseen": np.mean(right),
                }
            )
    return pd.DataFrame(frame)


@pytest.mark.parametrize(("lift", "says"), [(30, "beats"), (-30, "falls behind"), (0, "is not told apart from")])
def test_the_finding_says_what_was_measured(lift: int, says: str) -> None:
    summary = STUDY.summarise(known_frame(lift))
    assert f"TAPIR {says} a random subset: {lift / 100:+.3f}" in STUDY.finding(summary)


def test_the_public_set_is_imbalanced_and_now_and_then_wrong() -> None:
    first = cell_of(public=400, mined=100, wrong=0.25).first()
    public = curriculum_data.public_set(first)
    assert sum(one.kind == "formatting" for one in public) == 280
    wrong = [one for one in public if one.task and one.example.output != one.task.example.output]
    assert 60 <= len(wrong) <= 140  # 100 expected
    assert not any(curriculum_data.right(wrong, [one.example.output for one in wrong]))
    assert public == curriculum_data.public_set(first)
    exam = curriculum_data.exam(first, None, Path())  # type: ignore[arg-type]
    assert exam.kinds == ("formatting", "classification")


def test_what_the_exam_asks_is_forbidden_in_training() -> None:
    first = cell_of().first()
    forbidden = curriculum_data.forbidden(first)
    for split, reason in (("test", "instruction of the exam"), ("train", None)):
        for task in draw(EVERY["formatting"], 20, split=split, levels=[1], seed=5):  # type: ignore[arg-type]
            assert split_of(task.instruction.key) == split
            assert forbidden(f"{task.example.instruction}\n{task.example.input}") == reason
    assert forbidden("write a poem about the sea") == "not recognised"


def test_rising_takes_alpha_of_what_is_hard_and_mines_anew(
    offline: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABKIT_RUNS", str(tmp_path))
    cell = cell_of(alpha_0=0.5, expanded=0, public=200, mined=150)
    store = lab.Store(tmp_path)
    store.measure(cell.first(), curriculum_rounds.measure_first)
    mined = json.loads((store.folder(cell.first()) / "mined.json").read_text())
    with curriculum_rounds.teacher({}, "oracle") as client:
        rounds = Rounds(cell, client, store.folder(cell.first()), tmp_path / "lasting")
        # half of each kind is hard, whatever the student says
        fake = [-9.0 if place % 2 else 0.0 for place in range(cell.mined)]
        rounds.mined = rounds.mined._replace(mfd=fake)
        chosen = rounds.rising(0)
        hard = {rounds.pool[i].example for i in range(1, cell.mined, 2)}
        assert sum(item.example in hard for item in chosen) == pytest.approx(0.5 * len(chosen), abs=1)
        asked: list[int] = []
        monkeypatch.setattr(
            curriculum_rounds, "mine", lambda student, examples, asker: asked.append(len(examples)) or rounds.mined
        )
        rounds.rising(1)
        assert asked == [cell.mined]
    assert len(mined["mfd"]) == cell.mined


def test_competence_goes_from_easy_to_hard(offline: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = measured(cell_of(arms=["random"]), tmp_path, monkeypatch)
    assert row["accuracy_unseen"] >= 0
    cell = cell_of(arms=["competence"])
    with curriculum_rounds.teacher({}, "oracle") as client:
        rounds = Rounds(cell, client, lab.Store(tmp_path).folder(cell.first()), tmp_path / "lasting")
        levels = [0.0] * 28 + [float(i) for i in range(1, 10)]  # most are right already, as they are at laptop scale
        rounds.material = [Item(Example("a", str(i), "b", "", ""), "formatting", x) for i, x in enumerate(levels)]
        rounds.material.append(Item(Example("a", "not judged", "b", "", ""), "formatting", None))
        begin, end = ([item.lacked for item in rounds.competence(number)] for number in (0, 1))
    assert set(begin) == {0.0}
    assert max(x for x in end if x is not None) == 9  # the last round leaves nothing out but what was not judged
    assert None not in end


@pytest.mark.parametrize("arm", ["tapir", "progress"])
def test_a_killed_arm_goes_on_in_its_round_and_asks_nothing_twice(
    arm: str, offline: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = cell_of(arms=[arm], rounds=3, budget=3600)
    whole = measured(cell, tmp_path / "whole", monkeypatch)
    learned = SmallStudent.learn
    rounds: list[int] = []

    def dying(self: SmallStudent, *args: Any) -> Any:
        rounds.append(args[2])
        if len(rounds) == 4:  # the first student, two rounds, and the third is cut off
            raise KeyboardInterrupt
        return learned(self, *args)

    monkeypatch.setattr(SmallStudent, "learn", dying)
    with pytest.raises(KeyboardInterrupt):
        measured(cell, tmp_path / "killed", monkeypatch)
    monkeypatch.setattr(SmallStudent, "learn", learned)
    again: list[int] = []
    monkeypatch.setattr(SmallStudent, "learn", lambda self, *args: again.append(args[2]) or learned(self, *args))
    resumed = measured(cell, tmp_path / "killed", monkeypatch)
    assert again == [2]  # the third round alone
    assert same(resumed) == same(whole)
    paid = []
    for name in ("whole", "killed"):
        monkeypatch.setenv("LABKIT_RUNS", str(tmp_path / name))
        with curriculum_rounds.teacher({}, "oracle") as client:
            paid.append(client.spent())
    assert paid[0] == paid[1]


@pytest.mark.slow
def test_a_killed_process_leaves_what_the_next_one_goes_on_from(offline: str, tmp_path: Path) -> None:
    """kill -9 in the middle of an arm, from outside."""
    cell = cell_of(rounds=6, budget=30_000)
    script = (
        "import json, sys\n"
        "from labkit import lab\n"
        "from labkit.studies.curriculum import STUDY, Cell\n"
        "cell = Cell.model_validate_json(sys.argv[1])\n"
        "row = lab.Store.default().measure(cell, STUDY.measure)\n"
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


def test_a_noisy_judge_is_another_teacher(offline: str) -> None:
    exact, noisy = (cell_of(teacher=name) for name in ("oracle", "oracle:noise=2"))
    assert exact.first().address != noisy.first().address
    assert "another" not in STUDY.notes(resolve())[0]
    assert "offline server" in STUDY.notes(resolve())[0]


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
        ({"mined": 91}, "mined = 91 is more than public = 90"),
        ({"asking": {"model": "x"}}, "asking sets 'model', which is the parameter teacher"),
        ({"arms": ["progress"], "public": 70}, "the arm 'progress' probes 20 public examples for each task"),
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
        with pytest.raises(BadRequest, match=complaint), service(resolve(teacher="gpt-4o-mini")):
            pass


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
        studies.run(STUDY, params, jobs=0)
    assert not list(own_store.glob("curriculum*/points/*"))


def test_a_wrong_key_is_one_sentence_without_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    with server.running(key="right", thread=True) as url:
        monkeypatch.setenv("LABKIT_TEACHER_URL", url)
        monkeypatch.setenv("LABKIT_TEACHER_KEY", "sk-very-secret")
        with pytest.raises(BadRequest) as refusal, service(resolve(teacher="gpt-4o-mini")):
            pass
    assert "key" in str(refusal.value)
    assert "very-secret" not in str(refusal.value)


def test_a_spent_budget_stops_the_run_and_keeps_what_was_answered(
    offline: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = cell_of()
    monkeypatch.setenv(curriculum_rounds.SETTINGS, json.dumps({"token_budget": 20_000}))
    with pytest.raises(BadRequest, match="budget"):
        measured(cell, tmp_path, monkeypatch)
    with curriculum_rounds.teacher({}, "oracle") as client:
        before = client.spent()
    assert 0 < before.tokens <= 20_000
    monkeypatch.setenv(curriculum_rounds.SETTINGS, "{}")
    assert measured(cell, tmp_path, monkeypatch)["accuracy_unseen"] >= 0


def test_the_offline_teachers_address_does_not_matter(
    offline: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its port is another one in every run, and what it said stays said."""
    whole = measured(cell_of(), tmp_path, monkeypatch)
    shutil.rmtree(lab.Store(tmp_path).folder(cell_of()))
    with curriculum_rounds.teacher({}, "oracle") as client:
        before = client.spent()
    monkeypatch.setenv("LABKIT_TEACHER_URL", "http://127.0.0.1:9/v1")
    assert same(measured(cell_of(), tmp_path, monkeypatch)) == same(whole)
    with curriculum_rounds.teacher({}, "oracle") as client:
        assert client.spent() == before


def test_the_offline_server_is_started_and_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LABKIT_TEACHER_URL", raising=False)
    with service(resolve()):
        url = os.environ["LABKIT_TEACHER_URL"]
        with curriculum_rounds.teacher({}, "oracle") as client:
            assert client.check() == ["oracle"]
        with service(resolve()):  # the notebook under `labkit run`
            assert os.environ["LABKIT_TEACHER_URL"] == url
        with pytest.raises(BadRequest, match="one teacher"), service(resolve(teacher="oracle:noise=1")):
            pass
    assert "LABKIT_TEACHER_URL" not in os.environ


@pytest.mark.slow
def test_a_hugging_face_student_goes_through_every_round(
    offline: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records in Alpaca's form, a tiny Llama in 4 bits, questions in MT-Bench's form, judged over HTTP."""
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
        budget=2000,
        new_tokens=12,
        tuning={"rank": 4, "batch_size": 2, "max_length": 256, "quantisation": "nf4", "gradient_checkpointing": False},
    )
    assert isinstance(curriculum_rounds.student_of(cell.first()), TunedStudent)
    row = measured(cell, tmp_path / "runs", monkeypatch)
    assert row["kinds"] == ["one", "two"]
    assert 0 <= row["accuracy_unseen"] <= 1
    assert len(row["rounds_of"]) == 2
    assert row["distilled"]["refined"]["asked"] > 0
    folder = lab.Store(tmp_path / "runs").folder(cell)
    assert (folder / "student" / "adapter_model.safetensors").exists()
    assert len((folder / "mt_bench_answers.jsonl").read_text().splitlines()) == 6
    summary = STUDY.summarise(pd.DataFrame([row]))
    assert not summary["small"]


def test_first_and_cell_share_what_the_first_student_depends_on() -> None:
    one, other = STUDY.points(resolve(arms=["random", "tapir"]))
    assert one.first() == other.first()
    assert type(one.first()) is First
    assert one.first().address != cell_of(wrong=0.3).first().address


def test_a_group_of_parameters_is_its_members() -> None:
    """As the notebook's parameters cell gives them; what is given twice or in the wrong place is refused."""
    assert resolve(budget=None, pace={"budget": 999, "alpha_0": None}) == resolve(budget=999)
    params = resolve()
    assert STUDY.resolve(STUDY.grouped(params.model_dump(mode="json"))) == params
    for given, complaint in (
        ({"pace": {"bugdet": 9}}, "unknown parameter in pace 'bugdet': did you mean 'budget'"),
        ({"pace": {"budget": 9}}, "'budget' is given twice"),
        ({"tuned": "gpt2"}, "tuned = 'gpt2': a dict of some of model, corpus"),
    ):
        with pytest.raises(BadRequest, match=complaint):
            resolve(**given)
