"""Code mixing: exact token budgets, arms that can be compared in pairs, programs graded by running them."""

import json
from pathlib import Path
from typing import Any

import pytest
from fabricated import model
from needs import needs_bubblewrap
from tiny import tiny_llama

from labkit import BadRequest, learn, studies
from labkit.instructions import functions
from labkit.instructions.family import draw, split_of
from labkit.lab import Store, sweep
from labkit.studies import language
from labkit.studies.rows import GRADED, long_rows, points_of

STUDY = studies.find("code_mixing")
DATA = Path(__file__).parents[2] / "shared" / "data"
LAYOUT = learn.TextLayout(language.vocabulary(), 40, 48)
TINY = {"rank": 4, "batch_size": 8, "steps": 4, "max_length": 512, "overlong": "drop", "quantisation": "nf4"}


def cost(tasks: list[Any]) -> int:
    return sum(
        len(LAYOUT.split(language.question_of(task))) + len(LAYOUT.split(task.example.output)) + 2 for task in tasks
    )


@pytest.mark.parametrize("family", ["functions", "sorting"])
def test_a_budget_in_tokens_is_exact_to_one_example_and_a_smaller_one_is_its_beginning(family: str) -> None:
    small, large = (language.fill(family, budget, LAYOUT, levels=[1, 2], seed=3) for budget in (1500, 2600))
    assert small.tasks == large.tasks[: len(small.tasks)]
    for filled, budget in ((small, 1500), (large, 2600)):
        assert filled.tokens == cost(filled.tasks) <= budget
    assert cost(large.tasks[: len(small.tasks) + 1]) > 1500


def cells(**given: Any) -> list[Any]:
    return list(STUDY.points(STUDY.resolve({"scale": "smoke", **given})))


@needs_bubblewrap
def test_arms_have_equal_tokens_share_their_code_and_sit_the_same_exams() -> None:
    lessons = {cell.task.general_share: cell.lesson() for cell in cells(general_shares=[0, 0.25, 0.5])}
    longest = max(LAYOUT.question + LAYOUT.answer + 1, 60)
    for lesson in lessons.values():
        assert 8000 - 3 * longest < lesson.about["training_tokens"] <= 8000
    whole = lessons[0].data
    for share in (0.25, 0.5):
        n = lessons[share].about["code_examples"]
        assert lessons[share].data[:n] == whole[:n]
        for exam in ("code", "general"):
            assert lessons[share].exams[exam].data == lessons[0].exams[exam].data


def test_unseen_functions_share_neither_wording_nor_behaviour_with_training() -> None:
    trained = language.fill("functions", 20_000, LAYOUT, levels=[1, 2, 3], seed=0).tasks
    asked = language.held_out("functions", 50, LAYOUT, levels=[1, 2, 3], seed=0, distinct=True)
    assert all(split_of(task.instruction.key) == "test" for task in asked)
    assert not {t.instruction.key for t in trained} & {t.instruction.key for t in asked}
    assert not {t.instruction.composition for t in trained} & {t.instruction.composition for t in asked}
    assert len({t.instruction.key for t in asked}) == 50


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
        ({"general_shares": [1.0]}, "less than 1"),
        ({"levels": [7]}, "levels"),
        ({"model": "m", "plus": ["mbpp"], "mixes": [[1, 0, 0]], "tuning": {"model": "b"}}, "sets 'model'"),
        ({"model": "some/model"}, "needs mixes to train on, and plus or problems"),
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
def test_steps_that_a_person_sets_are_taken(own_store: Path) -> None:
    given = {"general_shares": [0.25], "budget": [1000], "n_test": 4, "passes": 1}
    for steps in (7, 0):
        (cell,) = cells(**given, steps=steps)
        (row,) = sweep([cell], STUDY.measure, jobs=0)
        assert row["steps_taken"] == (steps or cell.lesson().steps) > 0


def test_the_published_mixes_are_summarised_whatever_is_missing() -> None:
    """One of the paper's mixes adds up to 74, not 75 thousand: a size with an arm of three sources alone."""
    rows = [
        model(
            {"humaneval": ([int(i % 5 < 3) for i in range(164)], [1] * 164)},
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
    assert results.finding.startswith("With 0% general data pass@1 on own problems is 0.000 [0.0")
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
