"""Programs of several rules: the fast path against the plain interpreter, what a draw guarantees, and the study."""

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fabricated import model
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.errors import BadRequest
from labkit.instructions import decode, markov
from labkit.instructions.programs import (
    Programs,
    ProgramTask,
    Runs,
    able_runs,
    draw_programs,
    draw_runs,
    run_programs,
)
from labkit.lab import Store, sweep
from labkit.studies.markov_programs import STUDY, Cell, _exam, layout_of, task_of
from labkit.studies.rows import GRADED, long_rows

settings.register_profile("unhurried", deadline=None)  # other work on the machine is no failure
settings.load_profile("unhurried")

TASK = ProgramTask(rules=2, steps=2, pattern_length=2, input_length=6)
SETTINGS = {
    "one rule": ProgramTask(1, 2, 2, 6),
    "one step": ProgramTask(2, 1, 2, 4),
    "two steps": TASK,
    "three rules, three steps": ProgramTask(3, 3, 2, 6, alphabet="abcdefghijklmnop"),
    "to halt": ProgramTask(2, 3, 2, 6, halts=True),
    "halts after just three": ProgramTask(2, 3, 2, 6, halts=True, fewest=3),
}


def drawn(task: ProgramTask, n: int = 20, each: int = 10, seed: int = 0) -> tuple[Programs, np.ndarray, Runs]:
    programs = draw_programs(task, n, seed=seed)
    index = np.repeat(np.arange(n), each)
    return programs, index, draw_runs(task, programs, index, seed=seed)


def written(programs: Programs, rows: np.ndarray) -> list[str]:
    return [decode(row, programs.alphabet) for row in rows]


# The fast path


@given(st.data())
def test_many_runs_equal_the_plain_interpreter(data: st.DataObject) -> None:
    """Any programs over two letters, so that rules overlap, undo each other and run on without end."""
    p, R, n = (data.draw(st.integers(1, high)) for high in (3, 3, 8))
    n = max(n, p)
    words = st.text("ab", min_size=p, max_size=p)
    rules = data.draw(st.lists(st.tuples(words, words), min_size=R, max_size=R))
    texts = data.draw(st.lists(st.text("ab", min_size=n, max_size=n), min_size=1, max_size=4))
    limit = data.draw(st.integers(0, 6))
    x, y = (np.array([[["ab".index(letter) for letter in rule[side]] for rule in rules]], np.uint8) for side in (0, 1))
    programs = Programs(x, y, "ab")
    inputs = np.array([["ab".index(letter) for letter in text] for text in texts], np.uint8)
    found = run_programs(programs, np.zeros(len(texts), int), inputs, limit)
    for i, text in enumerate(texts):
        right = markov.run(programs.algorithm(0), text, limit, on_limit="return")
        assert decode(found.output[i], "ab") == right.output
        assert found.steps[i] == right.steps
        assert found.halted[i] == (right.halted == "no rule applies")
        assert found.rewritten[i] == rewritten(right)


def rewritten(run: markov.Run) -> bool:
    """Does a step of this run rewrite a letter that an earlier step wrote? In plain Python."""
    places: set[int] = set()
    for step in run.trace:
        window = set(range(step.position, step.position + len(step.production.pattern)))
        if window & places:
            return True
        places |= window
    return False


def leftmost_of_any(algorithm: markov.MarkovAlgorithm, text: str, limit: int) -> str:
    """The text after `limit` steps that take the leftmost x of any rule, the earlier rule where two begin there."""
    for _ in range(limit):
        places = [(text.find(rule.pattern), i) for i, rule in enumerate(algorithm.productions) if rule.pattern in text]
        if not places:
            break
        at, i = min(places)
        rule = algorithm.productions[i]
        text = text[:at] + rule.replacement + text[at + len(rule.pattern) :]
    return text


@pytest.mark.parametrize("name", SETTINGS)
def test_ordered_runs_are_those_that_end_elsewhere_without_the_order(name: str) -> None:
    task = SETTINGS[name]
    programs, index, runs = drawn(task)
    for i, z, answer, ordered in zip(
        index, written(programs, runs.input), written(programs, runs.output), runs.ordered, strict=True
    ):
        assert ordered == (leftmost_of_any(programs.algorithm(i), z, task.steps) != answer)


# What a draw guarantees


@pytest.mark.parametrize("name", SETTINGS)
def test_every_run_is_the_one_asked_for(name: str) -> None:
    task = SETTINGS[name]
    programs, index, runs = drawn(task)
    texts = zip(index, written(programs, runs.input), written(programs, runs.output), runs.steps, strict=True)
    for i, z, answer, steps in texts:
        right = markov.run(programs.algorithm(i), z, task.steps, on_limit="return")
        assert (right.output, right.steps) == (answer, steps)
        if task.halts:
            assert right.halted == "no rule applies"
            assert task.fewest <= steps <= task.steps
        else:
            assert steps == task.steps
    share = task.order_share if task.asks_order else runs.ordered.mean()
    assert runs.ordered.sum() == round(share * len(index))
    assert name != "one rule" or not runs.ordered.any()


def test_longer_runs_rewrite_what_they_wrote() -> None:
    """A link that fires on another's text is the rule from two steps on, and cannot be at one."""
    assert not drawn(SETTINGS["one step"])[2].rewritten.any()
    assert drawn(TASK, 50, 20)[2].rewritten.mean() > 0.2


@pytest.mark.parametrize("rules", [1, 2, 3])
def test_programs_are_distinct_nested_and_share_nothing_with_test_programs(rules: int) -> None:
    task = replace(TASK, rules=rules, alphabet="abcdefghijklmnop")
    many, few = (draw_programs(task, n, seed=4) for n in (500, 40))
    assert len({many.text(i) for i in range(500)}) == 500
    assert np.array_equal(many.x[:40], few.x)
    assert np.array_equal(many.y[:40], few.y)
    test = draw_programs(task, 40, seed=4, split="test")
    sides = [{bytes(side) for side in np.concatenate([of.x, of.y]).reshape(-1, 2)} for of in (many, test)]
    assert not sides[0] & sides[1]
    assert not np.array_equal(draw_programs(task, 40, seed=5).x, few.x)


@given(st.integers(0, 50), st.integers(1, 3))
def test_a_program_is_a_chain_in_some_order(seed: int, rules: int) -> None:
    programs = draw_programs(replace(TASK, rules=rules), 8, seed=seed)
    for i in range(8):
        links = {rule.pattern: rule.replacement for rule in programs.algorithm(i).productions}
        (at,) = set(links) - set(links.values())
        passed = [at]
        while at in links:
            passed.append(at := links[at])
        assert len(set(passed)) == len(passed) == rules + 1


def test_equal_seeds_give_equal_runs() -> None:
    one, same, other = (drawn(TASK, seed=seed)[2] for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(one, same, strict=True))
    assert not np.array_equal(one.input, other.input)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"rules": 0}, "rules is 0"),
        ({"steps": 4}, "4 steps of 2 rules .* use 3 steps at most"),
        ({"steps": 7, "order_share": 0}, "use 6 steps at most"),
        ({"halts": True, "fewest": 3}, "fewest is 3: use steps = 2 at most"),
        ({"order_share": 2}, "order_share is 2"),
        ({"steps": 1, "input_length": 3}, "2 rules have no order in input_length 3: use 4"),
    ],
)
def test_settings_that_contradict_each_other(change: dict, complaint: str) -> None:
    with pytest.raises(BadRequest, match=complaint):
        replace(TASK, **change)


def test_more_programs_than_there_are() -> None:
    with pytest.raises(BadRequest, match=r"the test split holds .* programs of 2 rules .* use .* at most"):
        draw_programs(TASK, 10_000, seed=0, split="test")


def test_a_run_that_never_comes_is_refused() -> None:
    """`ab -> ab` never halts."""
    loop = Programs(np.array([[[0, 1]]], np.uint8), np.array([[[0, 1]]], np.uint8), "ab")
    task = ProgramTask(1, 2, 2, 2, halts=True, fewest=1, alphabet="ab")
    with pytest.raises(BadRequest, match="no input gave"):
        draw_runs(task, loop, np.zeros(1, int), seed=0)


def test_an_exam_leaves_out_a_program_that_gives_no_such_run() -> None:
    """Of two programs `ab -> ab` never halts: it is asked nothing, the other as often as it was to be."""
    x, y = (np.array([[[0, 1]], [[0, 1]]], np.uint8), np.array([[[0, 1]], [[1, 0]]], np.uint8))
    programs, index = Programs(x, y, "ab"), np.array([0, 1, 0, 1, 1])
    task = ProgramTask(1, 2, 2, 2, halts=True, fewest=1, alphabet="ab")
    able, runs = able_runs(task, programs, index, seed=0, partly=True)
    assert able.tolist() == [1, 1, 1]
    assert (runs.output == [1, 0]).all()
    settings = {"alphabet": "ab", "pattern_length": 2, "input_length": 2}
    cell: Any = SimpleNamespace(seed=0, **settings, layout=lambda: layout_of(cell, 1))
    exam = _exam(cell, task, programs, index, 0, partly=True)
    assert exam.instruction.tolist() == [1, 1, 1]
    for asked, partly in ((index, False), (np.zeros(2, int), True)):
        with pytest.raises(BadRequest, match="no input gave"):
            _exam(cell, task, programs, asked, 0, partly=partly)


# The study


QUICK = {"scale": "smoke", "n_programs": [20], "n_beside": [20], "steps": 3}


def test_three_dials_meet_in_a_centre() -> None:
    points = STUDY.points(STUDY.resolve())
    settings = {(point.rules, point.run_steps) for point in points}
    assert settings == {(2, 1), (1, 1), (3, 1), (2, 2), (2, "halt")}
    assert {p.n_programs for p in points if (p.rules, p.run_steps) == (2, 1)} >= {p.n_programs for p in points}


def test_exams_share_nothing_with_training_and_answers_are_right() -> None:
    for cell in STUDY.points(STUDY.resolve(QUICK)):
        data, exams, *_ = cell.lesson()
        assert len(data.tokens) == cell.budget
        width, p = 2 * cell.pattern_length * cell.rules, cell.pattern_length
        sides = [{bytes(side) for side in of.tokens[:, :width].reshape(-1, p)} for of in (data, exams["unseen"].data)]
        assert not sides[0] & sides[1]
        for exam in exams.values():
            for row in range(5):
                check_answer(cell, exam.data.decode(row))


def check_answer(cell: Cell, text: str) -> None:
    program, rest = text.split("|")
    z, answer = rest.split("=")
    p = cell.pattern_length
    sides = [program[i : i + p] for i in range(0, len(program), p)]
    rules = tuple(markov.Production(x, y) for x, y in zip(sides[::2], sides[1::2], strict=True))
    limit = 20 if cell.run_steps == "halt" else cell.run_steps
    assert markov.run(markov.MarkovAlgorithm(rules), z, limit, on_limit="return").output == answer


def test_a_row_grades_every_exam_and_kind(tmp_path_factory: pytest.TempPathFactory) -> None:
    store = Store(tmp_path_factory.mktemp("store"))
    rows = sweep(STUDY.points(STUDY.resolve(QUICK)), STUDY.measure, store=store, jobs=0)
    of = {(row["rules"], row["run_steps"]): row for row in rows}
    assert "accuracy_shorter" in of[2, 2]
    assert "accuracy_shorter" not in of[2, 1]
    assert "accuracy_longer" in of[2, "halt"]
    assert of[2, 2]["share_ordered"] == pytest.approx(0.3, abs=1e-3)
    for row in rows:
        asked = {line["kind"]: sum(line["asked"]) for line in row[GRADED] if line["exam"] == "unseen"}
        assert sum(asked.get(kind, 0) for kind in ("plain", "ordered", "rewritten")) >= row["n_test"] == asked[""]
    results = STUDY.summarise(long_rows(rows))
    json.dumps(results.as_dict(), allow_nan=False)
    assert len(results.table()) == len(rows)
    assert "R = 2, to halt: not located" in results.finding
    results.chart().to_dict()


def fabricated(accuracies: dict[tuple, list[float]]) -> list[dict]:
    """Models as a sweep of two seeds would leave them, with the unseen accuracy by (R, steps, I)."""
    models = []
    for (rules, steps, n), by_seed in accuracies.items():
        for seed, accuracy in enumerate(by_seed):
            right = np.random.default_rng(seed).binomial(10, accuracy, size=100)
            exams = {"unseen": (right, [10] * 100), "seen": ([10] * 100, [10] * 100)}
            models.append(model(exams, rules=rules, run_steps=steps, n_programs=n, seed=seed))
    return models


def test_transitions_are_located_where_they_can_be() -> None:
    rise = {30: [0.0, 0.0], 100: [0.2, 0.3], 300: [0.8, 0.7], 3000: [0.95, 0.95]}
    models = fabricated({(2, 1, n): of for n, of in rise.items()} | {(2, "halt", 100): [0.5, 0.5]})
    results = STUDY.summarise(long_rows(models))
    fits = results.fit("growth").numbers["settings"]
    assert {name: fit["located"] for name, fit in fits.items()} == {"R = 2, 1 step": True, "R = 2, to halt": False}
    midpoint = fits["R = 2, 1 step"]["midpoint"]
    assert 100 < midpoint < 300
    assert f"R = 2, 1 step: {midpoint:,.0f} [" in results.finding


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"n_programs": [0]}, "n_programs = 0: at least 1"),
        ({"n_programs": [100_000]}, "100000 is more than budget"),
        ({"rules": [0]}, "rules = 0: input should be greater than or equal to 1"),
        ({"run_steps": [3]}, "3 steps of 2 rules .* use 2 steps at most"),
        ({"run_steps": ["stop"]}, "run_steps = "),
        ({"test_programs": 900}, "the test split holds .* programs of 2 rules"),
        ({"alphabet": "abc|"}, "must not hold '|'"),
        ({"n_test": 10}, "n_test = 10 is fewer than one example for each of test_programs"),
        ({"order_share": 1.5}, "order_share = 1.5"),
        ({"longest": 0}, "longest = 0"),
        ({"pattern_length": 5}, "pattern_length 5 does not fit into input_length 4"),
    ],
)
def test_a_bad_request_is_one_sentence(given: dict, complaint: str) -> None:
    with pytest.raises(BadRequest, match=complaint) as refusal:
        STUDY.resolve(given)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("scale", ["smoke", "laptop", "paper"])
def test_every_scale_resolves_and_its_tasks_can_be_drawn(scale: str) -> None:
    params = STUDY.resolve({"scale": scale})
    trainable = params.model_copy(update={"batch_size": 4})  # on every machine
    for cell in STUDY.points(trainable):
        if cell.seed == 0 and cell.n_programs == max(params.n_programs):
            task = task_of(cell, cell.rules, cell.run_steps)
            draw_runs(task, draw_programs(task, 10, seed=0), np.arange(10), seed=0)
    assert any("no paper has this task" in note for note in STUDY.notes(params)) == (scale == "paper")
