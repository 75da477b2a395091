"""Code mixing: arms that can be compared in pairs, an exam with shift, programs graded by running, a decision."""

import json
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from fabricated import model
from needs import needs_bubblewrap
from tiny import tiny_llama

from labkit import BadRequest, grade, studies
from labkit.instructions import constraints, functions
from labkit.instructions.family import draw, split_of
from labkit.instructions.lexicon import CRIES
from labkit.lab import Store, sweep
from labkit.studies import code_mixing, family_mix, language, learners
from labkit.studies.rows import GRADED, long_rows, points_of
from labkit.studies.sweet_spots import decide

STUDY = studies.find("code_mixing")
DATA = Path(__file__).parents[2] / "shared" / "data"
TINY = {"rank": 4, "batch_size": 8, "steps": 4, "max_length": 512, "overlong": "drop", "quantisation": "nf4"}


def cells(**given: Any) -> list[Any]:
    return list(STUDY.points(STUDY.resolve({"scale": "smoke", **given})))


def lessons(**given: Any) -> dict[float, Any]:
    return {cell.task.general_share: cell.lesson() for cell in cells(**given) if not cell.task.gate}


@needs_bubblewrap
def test_arms_have_equal_examples_and_steps_share_their_data_and_sit_the_same_exams() -> None:
    by_share = lessons(general_shares=[0, 0.25, 0.5])
    whole, half = by_share[0].data, by_share[0.5].data
    for share, lesson in by_share.items():
        code = round(40 * (1 - share))
        assert (len(lesson.data), lesson.steps) == (40, by_share[0].steps)
        assert [example.source == "functions" for example in lesson.data] == [True] * code + [False] * (40 - code)
        assert list(lesson.data[:code]) == list(whole[:code])
        assert list(lesson.data[code:]) == list(half[20:][: 40 - code])
        for exam in ("same", "reworded", "constrained", "general"):
            assert lesson.exams[exam].data == by_share[0].exams[exam].data


@needs_bubblewrap
def test_exams_ask_for_compositions_that_no_training_set_holds_each_stratum_for_its_own() -> None:
    exams = lessons(n_test=30)[0].exams
    trained = {task.instruction.key for task in draw(functions.FUNCTIONS, 500, levels=[1, 2], seed=0)}
    keys = [{example.instruction_id for example in exams[stratum].data} for stratum in code_mixing.STRATA]
    assert all(len(some) == 30 and {split_of(key) for key in some} == {"test"} for some in keys)
    assert not set.union(*keys) & trained
    assert len(set.union(*keys)) == 90


def test_held_out_wordings_are_of_the_same_program_and_in_no_drawn_task() -> None:
    """Every table's held-out wording, against all wordings of its entries; and tasks as a whole."""
    tables = (functions.KEEP, functions.CHANGE, functions.RETURN)
    entries = [entry for table in tables for domain in table.values() for entry in domain.values()]
    assert all(entry.held_out for entry in entries)
    drawn = draw(functions.FUNCTIONS, 300, levels=[1, 2], seed=1)
    asked = {task.example.instruction for task in drawn}
    for task in drawn:
        other = functions.reworded(task, Random(0))
        assert other
        assert (other.instruction, other.example.output) == (task.instruction, task.example.output)
        assert other.example.instruction not in asked
        assert other.example.instruction not in task.instruction.phrasings
    (countdown,) = [task for task in draw(functions.FUNCTIONS, 200, levels=[3], seed=0)
                    if task.instruction.setting.shape == "countdown"][:1]  # fmt: skip
    assert functions.reworded(countdown, Random(0)) is None


def test_a_constraint_is_met_by_its_own_answer_alone() -> None:
    (task,) = draw(functions.FUNCTIONS, 1, levels=[2], seed=5)
    for place in constraints.PLACES:
        for word in CRIES:
            demand = constraints.Constraint(place, word)
            asked = demand.of(task).example
            assert asked.instruction == f'{task.example.instruction}, {place} with "{word}"'
            assert demand.rest(asked.output) == task.example.output
            assert demand.rest(task.example.output) is None
            others = [constraints.Constraint(p, w) for p in constraints.PLACES for w in CRIES]
            met = [other for other in others if other.of(task).example.output == asked.output]
            assert met == [demand]


@needs_bubblewrap
def test_code_with_a_constraint_passes_when_both_are_right() -> None:
    exam = lessons()[0].exams["constrained"]
    answers = [example.output for example in exam.data]
    bare = [next(rest for place in constraints.PLACES for word in CRIES
                 if (rest := constraints.Constraint(place, word).rest(answer))) for answer in answers]  # fmt: skip
    wrong = [answer.replace("def f(x):", "def f(x):\n    return None") for answer in answers]
    for written, right, met in ((answers, True, True), (bare, False, False), (wrong, False, True)):
        found = exam.judge(written)
        assert (found[""].all(), found["met"].all()) == (right, met)
        assert found[""].any() == right


DIAL = [0, 0.025, 0.05, 0.1, 0.25, 0.5]
# pass@1 of each arm: what was planted, the decision it calls for, and how often the rule must come to it, or may
PLANTED = {
    "sweet spot": ([0.40, 0.44, 0.48, 0.52, 0.52, 0.36], "supports", 0.9, 1.0),
    "gain that stays": ([0.30, 0.34, 0.38, 0.42, 0.46, 0.52], "supports", 0.0, 0.05),
    "nothing": ([0.45] * 6, "supports", 0.0, 0.05),
    "nothing, called so": ([0.45] * 6, "contradicts", 0.3, 1.0),
    "decline, called so": ([0.50, 0.49, 0.48, 0.46, 0.40, 0.30], "contradicts", 0.8, 1.0),
}


@pytest.mark.parametrize("planted", PLANTED)
def test_the_decision_finds_what_was_planted_at_its_rate(planted: str) -> None:
    """200 simulated studies each, of the registered size: problems differ in difficulty, models in their luck."""
    curve, decision, least, most = PLANTED[planted]
    rng, calls = np.random.default_rng(0), []
    for _ in range(200):
        levels = np.array(curve) + rng.normal(0, 0.015, (5, 6))
        scores = [(rng.uniform(size=200) < level[:, None]).astype(float) for level in levels]
        spot = grade.sweet_spot(DIAL, scores, draws=200)
        arms = range(1, 6) if decision == "contradicts" else ()  # the gains' ends never make a "supports"
        ends = [grade.paired_difference(scores, arm, 0, draws=200)[2] for arm in arms]
        calls.append(decide(spot, ends or [1.0], code_mixing.LEAST) == decision)
    assert least <= np.mean(calls) <= most


def study_of(reworded: list[float], constrained: list[float], gate: float = 1.0) -> Any:
    """Results with exactly these scores in every seed."""
    flags = lambda share: ([int(place < round(100 * share)) for place in range(100)], [1] * 100)  # noqa: E731
    same = {"size": "400 examples", "gate": False, "two_way": True}
    rows = [model({"same": flags(0.5), "reworded": flags(one), "constrained": flags(other), "general": flags(0.5),
                   "general:role": flags(0.8), "general:dates": flags(0.2)},
                  **same, general_share=share, mix=f"{share}", seed=seed)
            for seed in range(3) for share, one, other in zip(DIAL, reworded, constrained, strict=True)]  # fmt: skip
    gates = [model({"general": flags(1.0), f"general:{name}": flags(score)}, size="400 examples", gate=True, seed=0,
                   two_way=False, general_share=1.0, mix=f"{name} alone")
             for name, score in (("role", 1.0), ("dates", gate))]  # fmt: skip
    return STUDY.summarise(long_rows([*gates, *rows]))


def test_gains_of_the_constraint_alone_are_called_coverage() -> None:
    spot = [0.2, 0.3, 0.4, 0.6, 0.5, 0.1]
    for reworded, said in (([0.4] * 6, True), (spot, False)):
        results = study_of(reworded, spot)
        assert results.fit("gains").numbers["decision"] == "supports"
        assert ("coverage of the exam's constraints" in results.finding) is said
        assert [row["verdict"] for row in results.claims] == ["supports"]


def test_where_nothing_is_gained_a_sweet_spot_is_contradicted() -> None:
    for constrained, floored in ([0.1] * 6, False), ([0.04] * 6, True):
        results = study_of([0.5, 0.5, 0.49, 0.48, 0.4, 0.3], constrained)
        assert results.finding.startswith("There is no sweet spot, by the registered rule")
        assert ("with a constraint is at its floor in every arm" in results.finding) is floored
        assert [row["verdict"] for row in results.claims] == ["contradicts"]


def test_a_family_that_fails_its_gate_is_listed_and_left_out_of_averages() -> None:
    for gate, mean, said in ((1.0, 0.5, False), (0.1, 0.8, True)):
        results = study_of([0.5] * 6, [0.5] * 6, gate)
        assert {round(line["mean"], 9) for line in results["mix"].lines("general")} == {mean}
        assert ("not learned even alone: dates" in results.finding) is said


def test_the_decision_is_the_registered_one() -> None:
    for promise in STUDY.registrations.values():
        view = STUDY.views[promise.endpoint.view]
        assert promise.smallest_effect == view.least
    assert {family_mix.GATE, learners.LEARNED} <= set(STUDY.registrations["laptop"].gates.values())


@needs_bubblewrap
def test_programs_are_judged_by_what_they_do() -> None:
    (task,) = draw(functions.FUNCTIONS, 1, levels=[1], seed=5)
    own = task.example.output
    answers = {
        own: True,
        own + "\n# the same, in other words": True,
        own.replace("def f(x):", "def f(x):\n    x = x"): True,
        "def f(x):\n    return None": False,
        "def f(x": False,
        "": False,
        "import os\nos._exit(0)": False,
    }
    verdicts = language.runs([task] * len(answers), unsafe=False)(list(answers))
    assert verdicts[""].tolist() == list(answers.values())
    assert verdicts["valid"].tolist() == [True, True, True, True, False, True, True]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"families": ["sortin"]}, "'sorting'"),
        ({"families": ["functions"]}, "general family 'functions'"),
        ({"constrained": 1.5}, "constrained = 1.5"),
        ({"general_shares": [1.0]}, "less than 1"),
        ({"levels": [7]}, "levels"),
        ({"model": "m", "plus": ["mbpp"], "mixes": [[1, 0, 0]], "tuning": {"model": "b"}}, "sets 'model'"),
        ({"model": "some/model"}, "needs mixes to train on, and plus, problems or held"),
        ({"model": "m", "plus": ["humaneval"], "mixes": [[0, 1, 0]]}, r"\[0.0, 1.0, 0.0\] is not of whole examples"),
        ({"model": "m", "plus": ["humaneval"], "mixes": [[1, 0, 0]], "tuning": {"rank": 0}}, "rank = 0"),
    ],
)
def test_bad_parameters_are_one_sentence(given: dict[str, Any], says: str) -> None:
    with pytest.raises(BadRequest, match=says):
        STUDY.resolve({"scale": "smoke", **given})


@needs_bubblewrap
def test_a_file_that_is_not_there_is_named_before_anything_starts() -> None:
    given = {"model": "m", "problems": ["none.jsonl"], "mixes": [[1, 0, 0]], "corpora": ["alpaca"] * 3}
    with pytest.raises(BadRequest, match=r"none\.jsonl"):
        cells(**given)


@needs_bubblewrap
def test_steps_that_a_person_sets_are_taken_and_a_base_is_left_out(own_store: Path) -> None:
    given = {"general_shares": [0.25], "budget": [20], "families": ["role"], "n_test": 4, "passes": 1, "base_steps": 0}
    for steps in (3, 0):
        gate, cell = cells(**given, steps=steps)
        assert (gate.task.gate, cell.needs()) == (True, [])
        (row,) = sweep([cell], STUDY.measure, jobs=0)
        assert row["steps_taken"] == (steps or cell.lesson().steps) > 0


def test_models_begin_with_one_base_that_read_all_families() -> None:
    for seeds in ([0], [1, 2]):
        (base,) = {cell.needs()[0] for cell in cells(seeds=seeds)}
        assert base.spec.reads == ("role", "speaking", "functions")
        assert cells(seeds=seeds, base_tokens=6000)[0].needs() != [base]


def test_the_published_mixes_are_summarised_whatever_is_missing() -> None:
    """One of the paper's mixes adds up to 74, not 75 thousand: a size with an arm of three sources alone."""
    rng = Random(0)
    rows = [
        model(
            {"humaneval": ([int(rng.random() < 0.6) for _ in range(164)], [1] * 164)},
            size=f"{round(1000 * sum(mix)):,} examples",
            mix="+".join(f"{part:g}" for part in mix),
            general_share=sum(mix[1:]) / sum(mix),
            two_way=not mix[2],
            seed=seed,
        )
        for mix in STUDY.scales["qlora"]["mixes"]
        for seed in (0, 1)
    ]
    for some in (rows, rows[:-1], [row for row in rows if not row["two_way"]]):
        results = STUDY.summarise(long_rows(some))
        assert results.finding
        assert all(row["verdict"] in ("cannot tell", "not tested here") for row in results.claims)
        assert len(results.table("mixes")) == len({row["mix"] for row in some})
        assert ("mix" in results.views()) == any(row["two_way"] for row in some)
        for view in results.views():
            results.chart(view).to_dict()
        (published,) = STUDY.tables.values()
        assert published(results)


def tuned(tmp_path: Path, problems: Path, corpora: list[str], mixes: list[Any], steps: int, **more: Any) -> Any:
    texts = [problem["prompt"] for problem in map(json.loads, (tmp_path / "few.jsonl").read_text().splitlines())]
    model = tiny_llama(tmp_path / "model", texts=texts)
    given = {"model": str(model), "problems": [str(problems)], "corpora": corpora, "mixes": mixes, "new_tokens": 24}
    params = STUDY.resolve({"scale": "smoke", **given, "tuning": {**TINY, "epochs": None, "steps": steps}, **more})
    rows = sweep(STUDY.points(params), STUDY.measure, measure_many=STUDY.measure_many, jobs=0)
    return params, rows


def write_records(path: Path, n: int, what: str) -> str:
    records = ({"instruction": f"{what} number {i} please", "output": f"{what} {i * i}"} for i in range(n))
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


@needs_bubblewrap
def test_a_fine_tuned_model_is_mixed_trained_and_graded(tmp_path: Path, own_store: Store) -> None:
    tasks = draw(functions.FUNCTIONS, 6, split="test", levels=[1], seed=0)
    unique = {task.instruction.key: functions.problem(task) for task in tasks}
    problems = tmp_path / "few.jsonl"
    problems.write_text("".join(json.dumps(problem) + "\n" for problem in unique.values()))
    corpora = [write_records(tmp_path / f"{name}.jsonl", 60, name) for name in ("code", "general", "thought")]
    params, rows = tuned(tmp_path, problems, corpora, [[0.04, 0, 0], [0.03, 0.01, 0], [0.03, 0.005, 0.005]], 2)
    results = STUDY.summarise(long_rows(rows))
    frame = points_of(results.rows)
    assert frame["mix"].tolist() == ["0.04+0+0", "0.03+0.01+0", "0.03+0.005+0.005"]
    assert frame["two_way"].tolist() == [True, True, False]
    assert frame["general_share"].tolist() == [0, 0.25, 0.25]
    assert set(frame["size"]) == {"40 examples"}
    assert all(json.loads(manifest)["examples"] == 40 for manifest in frame["manifest"])
    assert [sum(line["asked"]) for row in rows for line in row[GRADED]] == [len(unique)] * 3
    assert results.finding.startswith("It cannot be told whether there is a sweet spot; ")
    assert "; with 0% general data pass@1 on own problems is 0.000 [0.0" in results.finding
    assert len(results.table("mixes")) == 3
    results.chart().to_dict()
    again = sweep(STUDY.points(params), lambda *_: pytest.fail("measured twice"), jobs=0)
    assert [row["address"] for row in again] == frame["address"].tolist()


@needs_bubblewrap
@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="needs the real data beside the project")
def test_real_records_end_to_end(tmp_path: Path, own_store: Store) -> None:
    """Code Alpaca, Alpaca and CoT, kept apart from HumanEval and MBPP, to pass@1 on HumanEval (near zero)."""
    corpora = [
        f"code_alpaca={DATA / 'code_alpaca/code_alpaca_2k.jsonl.gz'}",
        f"alpaca={DATA / 'alpaca/alpaca_random_9k.jsonl.gz'}",
        f"flan_cot={DATA / 'cot_flan/strategyqa_train.tsv.gz'}",
    ]
    few = {"prompt": "def f(x):\n    return [v for v in x if v > 0]\n"}
    (tmp_path / "few.jsonl").write_text(json.dumps(few) + "\n")
    problems = DATA / "humaneval/HumanEval.jsonl.gz"
    _, (row,) = tuned(tmp_path, problems, corpora, [[0.6, 0.2, 0.2]], 6)
    assert row["size"] == "1,000 examples"
    assert row["contaminated"] > 0  # Code Alpaca holds some of HumanEval
    (line,) = row[GRADED]
    assert len(line["right"]) == sum(line["asked"]) == 164
    assert row["accuracy_humaneval"] <= 0.05
