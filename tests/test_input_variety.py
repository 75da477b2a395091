"""Input variety: what each model trains and is tested on, and the table beside the paper's."""

import numpy as np
import pytest
from fabricated import around, estimates, verdicts

from labkit import BadRequest
from labkit.lab import sweep
from labkit.studies.input_variety import STUDY
from labkit.studies.rows import long_rows


def times(tokens: np.ndarray, vocabulary: str, p: int = 3, n: int = 12) -> list[int]:
    """How often x occurs in the input of each sequence."""
    rows = ["".join(vocabulary[token] for token in row) for row in tokens]
    return [row[2 * p + 2 : 2 * p + 2 + n].count(row[:p]) for row in rows]


def test_training_and_exams_hold_the_occurrences_they_are_named_for() -> None:
    params = STUDY.resolve({"scale": "smoke", "variety": [1, 3, [4, 1]], "n_instructions": [20]})
    once, three, mixed = STUDY.points(params)
    assert (once.occurrences, three.occurrences, mixed.occurrences) == (1, 3, (1, 4))
    for cell, wanted in ((once, {1}), (three, {3}), (mixed, {1, 4})):
        lesson = cell.lesson()
        count = lambda data: times(data.tokens, data.vocabulary)  # noqa: E731
        assert set(count(lesson.data)) == set(count(lesson.exams["unseen"].data)) == wanted
        varied = count(lesson.exams["varied"].data)
        for t in (1, 3, 4):
            assert lesson.exams["varied"].kinds[f"x{t}"].tolist() == [time == t for time in varied]
        assert set(varied) == {1, 3, 4}
        assert max(varied.count(t) for t in (1, 3, 4)) - min(varied.count(t) for t in (1, 3, 4)) <= 1
    first, other = (cell.lesson().exams["varied"].data.tokens for cell in (once, mixed))
    assert np.array_equal(first, other)  # one exam for all


def test_a_mixture_of_one_is_no_mixture() -> None:
    one, other = (STUDY.resolve({"variety": given}) for given in ([2, [4]], [2, 4]))
    assert [p.address for p in STUDY.points(one)] == [p.address for p in STUDY.points(other)]


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"variety": [1, 6]}, "occurrences 6 of pattern_length 3 do not fit into input_length 12: use 4 at most"),
        ({"variety": [[1, 9]]}, "occurrences 9 .* use 4 at most"),
        ({"variety": [0]}, "occurrences is 0"),
        ({"variety": []}, "variety"),
        ({"variety": [1, [1]]}, "variety = .* names a value twice"),
        ({"n_instructions": [60_000]}, "n_instructions = 60000 is more than budget = 48000"),
    ],
)
def test_a_bad_request_is_one_sentence(given: dict, complaint: str) -> None:
    with pytest.raises(BadRequest, match=complaint) as refusal:
        STUDY.resolve(given)
    assert "\n" not in str(refusal.value)


def test_it_runs_and_stands_beside_the_published_table(own_store: object) -> None:
    params = STUDY.resolve({"scale": "smoke", "steps": 3})
    results = STUDY.summarise(long_rows(sweep(STUDY.points(params), STUDY.measure, jobs=0)))
    assert {line["trained"] for line in results["varied"].lines("varied")} == {"1", "mixed 1, 4"}
    assert {"x occurs in training", "1 in the exam [95 %]", "4 in the exam [95 %]"} <= set(results.table("numbers")[0])
    (table,) = STUDY.tables.values()
    published = [row for row in table(results) if row["table"] == "published"]
    assert {row["x occurs in training"]: row["I = 2,000"] for row in published} == {
        "1": "0.71", "10": "0.88", "20": "0.73", "mixed": "0.94",
    }  # fmt: skip
    assert all("[" in row["I = 200"] for row in table(results) if row["table"].startswith("ours"))
    assert [row["verdict"] for row in results.claims] == ["cannot tell"]  # nobody follows unseen rules yet
    for view in results.views():
        assert results.chart(view).to_dict()


def test_the_verdict_is_on_the_mixture() -> None:
    def verdict(mixed: tuple[float, float], fixed: tuple[float, float]) -> str:
        cells = [
            {"exam": "varied", "trained": name, "mixed": name != "1", "n_instructions": n, **around(scores[i], 0.1)}
            for i, n in enumerate((100, 1000))
            for name, scores in (("mixed 1, 5", mixed), ("1", fixed))
        ]
        return verdicts(STUDY, {"varied": estimates(*cells)})[0]

    assert verdict((0.5, 0.9), (0.1, 0.6)) == "supports"
    assert verdict((0.1, 0.2), (0.4, 0.8)) == "contradicts"
    assert verdict((0.5, 0.9), (0.4, 0.85)) == "cannot tell"
    assert verdict((0.5, 0.2), (0.1, 0.8)) == "contradicts"
