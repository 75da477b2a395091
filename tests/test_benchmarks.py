"""MT-Bench and AlpacaEval: the public tools read what is written here, and what they wrote is read."""

import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from command import labkit
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labkit import BadRequest
from labkit.instructions.families import EVERY
from labkit.instructions.family import draw
from labkit.teach import benchmarks, prompts
from labkit.teach.benchmarks import Annotation, Judgment, Output, Question
from labkit.teach.client import Failure, Reply, Request
from labkit.teach.distil import question_of
from labkit.teach.judge import Judge, position_bias, win_rate

DATA = Path(__file__).parents[2] / "shared" / "data"
BENCH = DATA / "mt_bench"
beside_data = pytest.mark.skipif(not DATA.exists(), reason="no ../shared/data beside this checkout")
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


class Fake:
    """A judge: a function of the quoted parts of a request. Keeps what it was asked."""

    def __init__(self, says: Callable[[dict[str, str]], str]) -> None:
        self.says = says
        self.asked: list[dict[str, str]] = []

    def ask_many(self, requests: Sequence[Request]) -> list[Reply | Failure]:
        parts = [prompts.sections(request.messages[-1]["content"]) for request in requests]
        self.asked += parts
        return [Reply(self.says(part), 1, 1, "fake", "stop") for part in parts]


def by_length(parts: dict[str, str]) -> str:
    """Longer is better; prose for the answer `mute`."""
    if "answer A" in parts:
        a, b = len(parts["answer A"]), len(parts["answer B"])
        return f"[[{'A' if a > b else 'B' if b > a else 'C'}]]"
    last = parts[max(name for name in parts if name.startswith("answer"))]
    return "How lovely!" if last == "mute" else f"Fine. [[{min(10, len(last))}]]"


QUESTIONS = [
    Question(1, "math", ("1 + 1?", "And 2 + 2?"), ("2", "4")),
    Question(2, "writing", ("A poem.", "Shorter.")),
    Question(3, "math", ("3 + 3?", "Why?"), ("6", "")),
]
ANSWERS = {1: ("22", "four"), 2: ("A long poem", "mute"), 3: ("six", "Because")}


def test_both_turns_are_scored_beside_their_references() -> None:
    asker = Fake(by_length)
    found = benchmarks.score_mt_bench(Judge(asker), QUESTIONS, "ours", ANSWERS, judge_name="fake")
    assert [(j.question_id, j.turn, j.score) for j in found] == [
        (1, 1, 2),
        (1, 2, 4),
        (2, 1, 10),
        (2, 2, None),
        (3, 1, 3),
        (3, 2, 7),
    ]
    first, second = asker.asked[:5:2], asker.asked[1:6:2]  # and the answer that got no rating is asked for once more
    assert [part.get("reference answer") for part in first] == ["2", None, "6"]
    assert second[0]["reference answer 2"] == "4"
    assert second[0]["answer 1"] == "22"
    assert not [name for name in second[1] if "reference" in name]
    assert [name for name in second[2] if "reference" in name] == ["reference answer 1"]
    assert asker.asked[6:] == [second[1]]


def test_references_given_come_before_a_questions_own() -> None:
    asker = Fake(by_length)
    benchmarks.score_mt_bench(Judge(asker), QUESTIONS, "ours", ANSWERS, {1: ("two", "four")})
    assert [part.get("reference answer") for part in asker.asked[:5:2]] == ["two", None, "6"]


def test_a_question_without_an_answer_is_not_judged() -> None:
    found = benchmarks.score_mt_bench(Judge(Fake(by_length)), QUESTIONS, "ours", {1: ANSWERS[1]})
    assert [(judgment.question_id, judgment.turn) for judgment in found] == [(1, 1), (1, 2)]
    mute = benchmarks.score_mt_bench(Judge(Fake(lambda parts: "no")), QUESTIONS, "ours", ANSWERS)
    assert [judgment.score for judgment in mute] == [None] * 6
    for answers, said in [
        ({}, "'ours' answers none of the 3 questions"),
        ({1: ("one",)}, "question 1 has 2 turns, and 'ours' answers 1"),
    ]:
        with pytest.raises(BadRequest) as refused:
            benchmarks.score_mt_bench(Judge(Fake(by_length)), QUESTIONS, "ours", answers)
        assert str(refused.value) == said


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(answers=st.dictionaries(st.integers(81, 160), st.tuples(text, text), min_size=1, max_size=5), said=text)
def test_what_is_written_is_read(answers: dict[int, tuple[str, str]], said: str, tmp_path: Path) -> None:
    path = tmp_path / "new" / "ours.jsonl"
    benchmarks.write_answers(path, "ours", answers)
    assert benchmarks.read_answers(path) == answers
    judgments = [Judgment(q, "ours", t, s, said, "fake") for q in answers for t, s in ((1, 7.5), (2, None))]
    benchmarks.write_judgments(path, judgments)
    assert benchmarks.read_judgments(path) == judgments
    outputs = [Output(one, two, "ours", "set") for one, two in answers.values()]
    benchmarks.write_outputs(path, outputs)
    assert benchmarks.read_outputs(path) == outputs
    notes = [
        Annotation(one, two, "ref", said, "ours", "fake", p, said)
        for (one, two) in answers.values()
        for p in (2.0, None)
    ]
    benchmarks.write_annotations(path, notes)
    assert benchmarks.read_annotations(path) == notes
    assert [file.name for file in path.parent.iterdir()] == [path.name]  # nothing half-written is left


def test_fastchat_reads_the_answers_and_the_scores(tmp_path: Path) -> None:
    """The fields that FastChat's `load_model_answers` and `show_result` name, and the means that the latter shows."""
    pandas = pytest.importorskip("pandas")
    benchmarks.write_answers(tmp_path / "ours.jsonl", "ours", ANSWERS, tstamp=5.0)
    records = [json.loads(line) for line in (tmp_path / "ours.jsonl").read_text().splitlines()]
    assert records[0] == {
        "question_id": 1,
        "answer_id": records[0]["answer_id"],
        "model_id": "ours",
        "choices": [{"index": 0, "turns": ["22", "four"]}],
        "tstamp": 5.0,
    }
    assert len({record["answer_id"] for record in records}) == 3
    found = benchmarks.score_mt_bench(Judge(Fake(by_length)), QUESTIONS, "ours", ANSWERS, judge_name="fake")
    benchmarks.write_judgments(tmp_path / "fake_single.jsonl", found)
    frame = pandas.read_json(tmp_path / "fake_single.jsonl", lines=True)
    fields = ["question_id", "model", "judge", "user_prompt", "judgment", "score", "turn", "tstamp"]
    assert list(frame) == fields
    assert frame["judge"].tolist()[:2] == [["fake", "labkit-single-v1"], ["fake", "labkit-single-v1-multi-turn"]]
    frame = frame[["model", "score", "turn"]]
    frame = frame[frame["score"] != -1]
    turns = frame.groupby(["model", "turn"]).mean()["score"]
    assert [turns["ours", 1], turns["ours", 2]] == pytest.approx([5, 5.5])
    assert frame[["model", "score"]].groupby("model").mean()["score"]["ours"] == pytest.approx(5.2)


def test_fastchats_judgments_are_read(tmp_path: Path) -> None:
    single = {
        "question_id": 81,
        "model": "vicuna",
        "judge": ["gpt-4", "single-v1"],
        "user_prompt": "...",
        "judgment": "Good. Rating: [[8.5]]",
        "score": 8.5,
        "turn": 1,
        "tstamp": 1.0,
    }
    path = tmp_path / "gpt-4_single.jsonl"
    path.write_text("\n".join(map(json.dumps, [single, single | {"score": -1, "turn": 2}])) + "\n")
    assert benchmarks.read_judgments(path) == [
        Judgment(81, "vicuna", 1, 8.5, "Good. Rating: [[8.5]]", "gpt-4"),
        Judgment(81, "vicuna", 2, None, "Good. Rating: [[8.5]]", "gpt-4"),
    ]


def test_outputs_are_compared_in_both_orders(tmp_path: Path) -> None:
    ours = [
        Output("p", "longest", "ours", "set"),
        Output("q", "a", "ours"),
        Output("p", "x", "ours"),
        Output("z", "", "o"),
    ]
    theirs = [Output("q", "bb", "ref"), Output("p", "long", "ref"), Output("p", "y", "ref"), Output("w", "", "ref")]
    found = benchmarks.compare_outputs(Judge(Fake(by_length)), ours, theirs, annotator="fake")
    assert [(a.instruction, a.output_1, a.output_2, a.preference) for a in found.annotations] == [
        ("p", "long", "longest", 2.0),  # 2: the model, output_2
        ("q", "bb", "a", 1.0),
        ("p", "y", "x", 1.5),
    ]
    assert found.counts == {"outputs": 4, "references": 4, "compared": 3, "outputs_alone": 1, "references_alone": 1}
    assert (win_rate(found.comparison).mean, win_rate(found.comparison).n_rules) == (0.5, 2)  # two questions
    assert position_bias(found.comparison).contests == 2
    path = tmp_path / "annotations.json"
    benchmarks.write_annotations(path, found.annotations)
    # AlpacaEval's own win rate: the mean of the preferences less one, without those that are none
    kept = [record["preference"] for record in json.loads(path.read_text()) if record["preference"] is not None]
    assert sum(kept) / len(kept) - 1 == win_rate(found.comparison).mean
    with pytest.raises(BadRequest) as refused:
        benchmarks.compare_outputs(Judge(Fake(by_length)), ours[3:], theirs)
    assert str(refused.value) == "1 outputs and 4 references have no instruction in common"


def test_outputs_are_judged_from_the_command_line(tmp_path: Path) -> None:
    """The oracle knows its families' right answers, in whatever order it reads them."""
    tasks = draw(EVERY["arithmetic"], 6, levels=[1], seed=0)
    asked = [question_of(task.example) for task in tasks]
    right = [Output(one, task.example.output, "right") for one, task in zip(asked, tasks, strict=True)]
    benchmarks.write_outputs(tmp_path / "right.json", right)
    benchmarks.write_outputs(tmp_path / "none.json", [Output(one, "no idea", "none") for one in asked])
    files = (tmp_path / "right.json", tmp_path / "none.json")
    out = tmp_path / "annotations.json"
    done = labkit("judge-outputs", *files, "--judge", "oracle", "--out", out, LABKIT_RUNS=str(tmp_path / "runs"))
    assert done.returncode == 0, done.stderr
    assert "win rate, a tie as half" in done.stdout
    assert "1.000 [" in done.stdout
    assert {note.preference for note in benchmarks.read_annotations(out)} == {2.0}
    lost = labkit("judge-outputs", files[0], tmp_path / "gone.json", "--judge", "oracle")
    assert lost.returncode == 2
    assert "gone.json cannot be read" in lost.stderr


def test_alpaca_evals_own_files_are_read(tmp_path: Path) -> None:
    path = tmp_path / "outputs.json"
    output = {"instruction": "p", "output": "o", "generator": "example", "dataset": "koala", "datasplit": "eval"}
    path.write_text(json.dumps([output, {**output, "dataset": None}]))
    assert benchmarks.read_outputs(path) == [Output("p", "o", "example", "koala"), Output("p", "o", "example", "")]
    note = {
        "instruction": "p",
        "output_1": "r",
        "generator_1": "gpt4_1106_preview",
        "dataset": "koala",
        "output_2": "o",
        "generator_2": "example",
        "annotator": "weighted_alpaca_eval_gpt4_turbo",
        "preference": 1.25,
        "preference_raw_completion": {"tokens": ["m"]},
    }
    path.write_text(json.dumps([note, {**note, "preference": None}, {**note, "preference": 0}]))
    assert [a.preference for a in benchmarks.read_annotations(path)] == [1.25, None, 1.5]


@pytest.mark.parametrize(
    ("reader", "content", "said"),
    [
        (benchmarks.read_questions, '{"question_id": 1}', "{path}: record 1 has no 'category'; it needs"),
        (benchmarks.read_questions, "[1]", "{path}: record 1 is no object; it needs question_id, category, turns"),
        (benchmarks.read_questions, "{", "{path}: line 1 is no JSON"),
        (
            benchmarks.read_answers,
            '{"question_id": 1}',
            "{path}: record 1 has no 'choices'; it needs question_id",
        ),
        (benchmarks.read_judgments, '{"question_id": 1}', "{path}: record 1 has no 'model'; it needs"),
        (benchmarks.read_outputs, "{", "{path} is no JSON"),
        (benchmarks.read_outputs, "{}", "{path} is no JSON list of records"),
        (
            benchmarks.read_outputs,
            '[{"instruction": ""}]',
            "{path}: record 1 has no 'output'; it needs instruction",
        ),
        (benchmarks.read_annotations, "[{}]", "{path}: record 1 has no 'instruction'; it needs"),
    ],
)
def test_a_file_of_another_kind_is_refused(
    reader: Callable[[Path], Any], content: str, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    with pytest.raises(BadRequest, match="cannot be read"):
        reader(path)
    path.write_text(content + "\n")
    with pytest.raises(BadRequest) as refused:
        reader(path)
    assert str(refused.value).startswith(said.format(path=path))


@beside_data
def test_the_real_mt_bench(tmp_path: Path) -> None:
    questions = benchmarks.read_questions(BENCH / "question.jsonl")
    gpt4 = benchmarks.read_answers(BENCH / "reference_answer_gpt-4.jsonl")
    assert Counter(q.category for q in questions) == dict.fromkeys(
        ["writing", "roleplay", "reasoning", "math", "coding", "extraction", "stem", "humanities"], 10
    )
    assert {len(q.turns) for q in questions} == {2}
    assert sum(bool(q.reference) for q in questions) == 39
    assert {q.category for q in questions if q.id in gpt4} == {"math", "reasoning", "coding"}
    # byte for byte what FastChat wrote, but for ids and times
    benchmarks.write_answers(tmp_path / "gpt-4.jsonl", "gpt-4", gpt4)
    theirs = [json.loads(line) for line in (BENCH / "reference_answer_gpt-4.jsonl").read_text("utf-8").splitlines()]
    ours = [json.loads(line) for line in (tmp_path / "gpt-4.jsonl").read_text("utf-8").splitlines()]
    for one, other in zip(ours, theirs, strict=True):
        assert list(one) == list(other)
        for record in (one, other):
            record["answer_id"] = record["tstamp"] = None
        assert one == other
    asker = Fake(lambda parts: f"[[{1 + len(max(parts.values())) % 10}]]")
    answers = {q.id: ("First.", "Second.") for q in questions}
    found = benchmarks.score_mt_bench(Judge(asker), questions, "stub", answers, gpt4)
    assert len(found) == 160
    assert Counter(judgment.turn for judgment in found if judgment.score) == {1: 80, 2: 80}
    beside = [part for part in asker.asked if any("reference" in name for name in part)]
    # turns beside a reference: 60 of GPT-4's, and of the questions' own where those have none and it is not empty
    own = [q.reference for q in questions if q.id not in gpt4 and q.reference and q.reference[0]]
    assert len(beside) == 60 + 2 * len(own)
    benchmarks.write_judgments(tmp_path / "judged.jsonl", found)
    assert benchmarks.read_judgments(tmp_path / "judged.jsonl") == found


@beside_data
def test_the_real_vicuna_questions_have_one_turn() -> None:
    questions = benchmarks.read_questions(DATA / "vicuna_bench" / "question.jsonl")
    gpt4 = benchmarks.read_answers(DATA / "vicuna_bench" / "reference_answer_gpt-4.jsonl")
    found = benchmarks.score_mt_bench(
        Judge(Fake(by_length)), questions, "stub", {q.id: ("An answer.",) for q in questions}, gpt4
    )
    assert len(found) == 80
    assert {judgment.turn for judgment in found} == {1}


JUDGMENT = {"question_id": 7, "model": "m", "judge": ["j", "v"], "judgment": "", "score": 4, "turn": 1}
ANNOTATION = {"instruction": "i", "output_1": "a", "generator_1": "r", "output_2": "b", "generator_2": "m"}
ANNOTATION |= {"annotator": "j", "preference": 1.25}
OUTPUT = {"instruction": "i", "output": "o", "generator": "g"}
QUESTION = {"question_id": 7, "category": "c", "turns": ["t"]}
ANSWER = {"question_id": 7, "choices": [{"turns": ["t"]}]}
SHAPES = {
    benchmarks.read_judgments: JUDGMENT,
    benchmarks.read_annotations: ANNOTATION,
    benchmarks.read_outputs: OUTPUT,
    benchmarks.read_questions: QUESTION,
    benchmarks.read_answers: ANSWER,
}
NAN = float("nan")


def kept(tmp_path: Path, read: Any, *records: dict[str, Any]) -> Any:
    """What is read of records, in the form of the file that holds them."""
    path = tmp_path / "records"
    listed = read in (benchmarks.read_outputs, benchmarks.read_annotations)
    path.write_text(json.dumps(records) if listed else "\n".join(map(json.dumps, records)), "utf-8-sig")
    return read(path)


@pytest.mark.parametrize(
    ("read", "field", "value", "attribute", "expected"),
    [
        (benchmarks.read_judgments, "judge", "gpt", "judge", "gpt"),
        (benchmarks.read_judgments, "judge", ["gpt", "v1"], "judge", "gpt"),
        (benchmarks.read_judgments, "score", None, "score", None),
        (benchmarks.read_judgments, "score", NAN, "score", None),
        (benchmarks.read_judgments, "score", -1, "score", None),
        (benchmarks.read_judgments, "score", "6.5", "score", 6.5),
        (benchmarks.read_annotations, "preference", None, "preference", None),
        (benchmarks.read_annotations, "preference", NAN, "preference", None),
        (benchmarks.read_annotations, "preference", 0, "preference", 1.5),
        (benchmarks.read_annotations, "preference", 1.5, "preference", 1.5),
        (benchmarks.read_annotations, "dataset", None, "dataset", ""),
        (benchmarks.read_questions, "reference", None, "reference", ()),
        (benchmarks.read_questions, "reference", ["r"], "reference", ("r",)),
    ],
)
def test_forms_of_a_field(tmp_path: Path, read: Any, field: str, value: Any, attribute: str, expected: Any) -> None:
    (found,) = kept(tmp_path, read, SHAPES[read] | {field: value})
    assert getattr(found, attribute) == expected


ODD: list[tuple[Any, str, list[Any]]] = [
    (benchmarks.read_judgments, "score", [True, "good", 11, 0, -2, float("inf"), 10**400, [7]]),
    (benchmarks.read_judgments, "judge", [None, [], 4, [None]]),
    (benchmarks.read_judgments, "turn", [None, 0, "1"]),
    (benchmarks.read_annotations, "preference", [5, -1, True, "A", float("inf"), [1]]),
    (benchmarks.read_annotations, "output_2", [None, ["b"], 3]),
    (benchmarks.read_outputs, "output", [None, NAN, ["o"], {}]),
    (benchmarks.read_outputs, "generator", [None]),
    (benchmarks.read_outputs, "dataset", [3]),
    (benchmarks.read_questions, "turns", [None, [], "t", [None]]),
    (benchmarks.read_questions, "reference", ["r", [None], 0, {}]),
    (benchmarks.read_questions, "question_id", [None, 1.5, [1], True]),
    (benchmarks.read_answers, "choices", [None, [], [{}], ["t"], [{"turns": [None]}]]),
]


@pytest.mark.parametrize(("read", "field", "value"), [(read, field, v) for read, field, vs in ODD for v in vs])
def test_a_field_of_another_kind_is_refused_by_its_record(tmp_path: Path, read: Any, field: str, value: Any) -> None:
    good, bad = SHAPES[read] | {"question_id": 1}, SHAPES[read] | {field: value}
    with pytest.raises(BadRequest, match=rf"record 2 has .* as its '{field}': it must be ") as refused:
        kept(tmp_path, read, good, bad)
    assert "\n" not in str(refused.value)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(BadRequest, match="no file that is there"):
        benchmarks.read_outputs(tmp_path / "pipe.json")


@pytest.mark.parametrize("read", [benchmarks.read_questions, benchmarks.read_answers])
def test_a_question_comes_once(tmp_path: Path, read: Any) -> None:
    with pytest.raises(BadRequest, match="records 1 and 3 are of one question, 7"):
        kept(tmp_path, read, SHAPES[read], SHAPES[read] | {"question_id": 8}, SHAPES[read])
