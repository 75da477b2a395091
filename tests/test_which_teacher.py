"""Which teacher: teachers and filters, planted ranks that are found, and the whole study, small."""

import json
from typing import Any

import numpy as np
import pytest
from ability_rows import made

from labkit import studies
from labkit.errors import BadRequest
from labkit.instructions import EVERY, draw
from labkit.lab import Store
from labkit.studies.rows import flag_line, long_rows
from labkit.studies.run import Run
from labkit.teach.imperfect import answers, flawed, kept

STUDY = studies.find("which_teacher")
TASKS = [task for name in ("translation", "sorting") for task in draw(EVERY[name], 200, levels=[1], seed=5)]


def accepted(given: list[Any]) -> list[bool]:
    pairs = zip(TASKS, given, strict=True)
    return [EVERY[t.example.source].accepts(t.instruction, t.example.input, text or "") for t, text in pairs]


def params(**given: Any) -> Any:
    return STUDY.resolve({"scale": "smoke", **given})


@pytest.mark.parametrize(("teacher", "low", "high"), [("right", 1, 1), ("worked", 1, 1), ("wrong:0.3", 0.6, 0.8)])
def test_teachers_are_as_often_right_as_they_say(teacher: str, low: float, high: float) -> None:
    right = accepted(answers(teacher, TASKS, 0))
    assert low <= np.mean(right) <= high
    assert answers(teacher, TASKS, 0) == answers(teacher, TASKS, 0)


def test_a_flaw_is_one_rule_for_one_kind_of_question() -> None:
    given = answers("flaw:0.3", TASKS, 0)
    wrong = [not right for right in accepted(given)]
    assert 0.2 < np.mean(wrong[:200]) < 0.4
    assert not any(wrong[200:]), "only translations are flawed"
    assert all(text in (task.example.output, flawed(task, 1)) for task, text in zip(TASKS, given, strict=True))
    assert set(np.flatnonzero(wrong)) > {
        i for i, text in enumerate(answers("flaw:0.1", TASKS, 1)) if text != TASKS[i].example.output
    }, "a larger flaw holds the smaller one"


def test_what_filters_leave() -> None:
    given = answers("flaw:0.3", TASKS, 0)
    assert kept("", given, TASKS, 0) == given
    agreed, voted, judged = (kept(how, given, TASKS, 0) for how in ("agree", "majority", "judge"))
    assert all(right for right, text in zip(accepted(agreed), agreed, strict=True) if text is not None)
    assert 0.7 < sum(text is not None for text in agreed) / (len(given) * 0.85) < 1
    assert sum(accepted(voted)) > sum(accepted(given)), "two right teachers outvote the flawed one"
    wrong = np.array(accepted(given)) == 0
    gone = np.array([text is None for text in judged])
    assert gone[wrong].mean() > gone[~wrong].mean()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"teachers": ["right", "wrong:2"]}, "wrong:2"),
        ({"teachers": ["right", "wrong:x"]}, "wrong:x"),
        ({"teachers": ["right", "flaw"]}, "flaw"),
        ({"teachers": ["right", "best"]}, "best"),
        ({"filtered": ["weak+vote"]}, "vote"),
        ({"teachers": ["worked", "weak"]}, "right"),
        ({"abilities": ["translation", "poems"]}, "poems"),
    ],
)
def test_bad_parameters_are_refused_in_a_sentence(given: dict[str, Any], message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        params(**given)


ARMS = ("right", "worked", "wrong:0.1", "wrong:0.3", "weak")


def planted(by: str, seeds: int = 3) -> Any:
    """Students whose scores follow one of the numbers."""
    known = {"teacher_right": [1.0, 1.0, 0.9, 0.7, 0.5], "loss_before": [3.0, 2.0, 3.1, 3.3, 1.0]}
    scores = {"teacher_right": [0.9, 0.9, 0.7, 0.4, 0.1], "loss_before": [0.4, 0.7, 0.25, 0.1, 0.95]}[by]
    rows = []
    for seed in range(seeds):
        for width in (16, 32):
            for place, arm in enumerate(ARMS):
                about = {name: values[place] for name, values in known.items()} | {"arm": arm, "width": width}
                about |= {"right_kept": 1.0, "wrong_kept": 0.0, "chrf": 0.5, "seed": seed, "source": arm}
                row = made("together", {"translation": [scores[place]], "role": [scores[place]]}, [64 + width], **about)
                row["address"] += str(width)
                row["graded"].append(flag_line("flaw", "translation", [0, 1, 1]) | {"grading": "flawed"})
                rows.append(row)
    return STUDY.summarise(long_rows(rows).assign(scored_by="generated"))


def test_the_number_that_the_scores_follow_is_found() -> None:
    by_accuracy, by_loss = planted("teacher_right"), planted("loss_before")
    line = {
        name: found["ranks"].line("rank", number=name) for name, found in (("accuracy", by_accuracy), ("ease", by_loss))
    }
    assert all(one["lo"] > 0.5 for one in line.values())
    assert by_loss["ranks"].line("rank", number="accuracy")["hi"] < 0.5
    assert by_accuracy["ranks"].line("difference")["hi"] < 0 < by_loss["ranks"].line("difference")["lo"]
    for found, verdict in ((by_accuracy, "contradicts"), (by_loss, "supports")):
        json.dumps(found.as_dict(), allow_nan=False)
        assert [claim["verdict"] for claim in found.claims] == [verdict]
        for view in found.views():
            found.chart(view).to_dict()
            assert found.table(view)


def test_students_of_a_seed_differ_in_teacher_and_width_alone() -> None:
    cells = STUDY.points(params())
    assert len({cell.address for cell in cells}) == len(cells) == 2 * (2 * 4 + 1)
    assert {cell.arm for cell in cells if cell.task.teacher} == {"weak"}
    assert {tuple(cell.counts["role"]) for cell in cells if cell.arm == "weak"} == {("weak",)}


def test_the_whole_study_small(tmp_path_factory: Any) -> None:
    chosen = params(seeds=[0], teachers=["right", "weak", "flaw:0.3"], widths=[16], filtered=["flaw:0.3+agree"])
    found = Run(STUDY, chosen, Store(tmp_path_factory.mktemp("store"))).measure(jobs=0)
    assert set(found.views()) == {"ranks", "gains", "flaw"}
    assert all(line["lo"] < line["hi"] for line in found["ranks"].lines("rank")), "no certainty from nothing"
    told = {line["teacher"]: line for line in STUDY.tables["What was known of the teachers"](found)}
    assert told["right"]["right among the kept"] == 1 > told["flaw:0.3"]["right among the kept"]
    assert told["flaw:0.3+agree"]["wrong and kept"] == 0 < told["flaw:0.3"]["wrong and kept"]
    assert all(0 <= line["chrF of translations"] <= 1 for line in told.values())
