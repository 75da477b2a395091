"""The real scale with tiny models and made data; a language model as teacher, judge and classifier."""

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import real_data
import torch
from needs import smollm2
from tiny import tiny_llama

from labkit import BadRequest, studies
from labkit.instructions import Example
from labkit.lab import Store, sweep
from labkit.learn import chat, finetuning, qlora, scoring
from labkit.learn.learner import TunedLearner
from labkit.studies import read_abilities, read_exams
from labkit.studies.rows import long_rows
from labkit.teach import language_model, prompts
from labkit.teach.client import Client, Failure, Reply, Request, Settings
from labkit.teach.teacher import Teacher, connect
from labkit.teach.trust import JUDGED, trust

for package in ("trl", "peft"):
    pytest.importorskip(package, reason="needs labkit[qlora]")

TUNING = {
    "rank": 4,
    "batch_size": 4,
    "max_length": 400,
    "quantisation": "none",
    "overlong": "drop",
    "template": "plain",
}
KINDS = {"calculation": "", "stories": "", "code": ""}
CHATS = [
    *(prompts.answer(f"Say {word}.") for word in ("yes", "no", "perhaps")),
    prompts.score("Say yes.", "yes"),
    prompts.score("Say yes.", "no"),
    prompts.compare("Say yes.", "yes", "no"),
    prompts.classify("How much is 2 + 3?", KINDS),
    prompts.refine("Say yes.", "no", "reasoning"),
]
REQUESTS = [Request(chat) for chat in CHATS]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    texts = [message["content"] for chat in CHATS for message in chat]
    return str(tiny_llama(tmp_path_factory.mktemp("tiny"), texts=texts))


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = real_data.made(tmp_path / "data")
    monkeypatch.setenv("LABKIT_DATA", str(folder))
    return folder


def settings(model: str, **others: Any) -> Settings:
    return Settings(model=model, **{"max_tokens": 6, "timeout": 600.0, **others})


def test_what_is_chosen_can_always_be_read_and_what_is_written_is_greedy(tiny: str, tmp_path: Path) -> None:
    with connect(settings(tiny), tmp_path / "replies.sqlite") as client:
        replies = client.ask_many(REQUESTS)
    assert all(isinstance(reply, Reply) for reply in replies)
    texts = [reply.text for reply in replies if isinstance(reply, Reply)]
    assert 1 <= (prompts.read_score(texts[3]) or 0) <= 10
    assert prompts.read_winner(texts[5]) in ("A", "B", "tie")
    assert prompts.read_kind(texts[6], list(KINDS)) in KINDS
    model, tokenizer = qlora.load(tiny)
    asked = [Example("\n\n".join(m["content"] for m in chat), "", "", "", "") for chat in CHATS]
    assert texts[:3] == qlora.answer(model, tokenizer, asked[:3], max_new_tokens=6)
    likely = np.exp(scoring.score(model, tokenizer, [asked[3]], [language_model.RATINGS]).total[0])
    assert prompts.read_score(texts[3]) == pytest.approx(likely @ np.arange(1, 11) / likely.sum(), abs=0.06)


def test_replies_are_kept_like_those_of_an_endpoint_and_asked_once(
    tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "replies.sqlite"
    with connect(settings(tiny, concurrency=3), file) as client:
        first = client.ask_many(REQUESTS[:5])  # the process ends here
    with connect(settings(tiny, concurrency=8), file) as client:
        whole, spent = client.ask_many(REQUESTS), client.spent()
    assert [reply.cached for reply in whole if isinstance(reply, Reply)] == [True] * 5 + [False] * 3
    assert [reply.text for reply in first if isinstance(reply, Reply)] == [
        reply.text for reply in whole[:5] if isinstance(reply, Reply)
    ]
    monkeypatch.setattr(language_model, "_loaded", lambda name: pytest.fail("asked twice"))
    with connect(settings(tiny), file) as client:
        again = client.ask_many(REQUESTS)
        assert client.spent() == spent
    assert [one.text for one in again if isinstance(one, Reply)] == [w.text for w in whole if isinstance(w, Reply)]


def test_requests_that_wait_are_answered_together(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one is answered, the others come in, and are settled at once."""
    model, sizes = language_model.LanguageModel(tiny), list[int]()
    begun, others = threading.Event(), threading.Event()
    settle = model._settle

    def counted(waiting: Any) -> None:
        sizes.append(len(waiting))
        if len(sizes) == 1:
            begun.set()
            assert others.wait(60)
        settle(waiting)

    monkeypatch.setattr(model, "_settle", counted)
    monkeypatch.setattr(language_model, "GATHERED", 0)
    attempt = lambda chat: model.attempt({"messages": chat}, 4)  # noqa: E731
    threads = [threading.Thread(target=attempt, args=(chat,)) for chat in CHATS]
    threads[0].start()
    assert begun.wait(60)
    for thread in threads[1:]:
        thread.start()
    while model._arrived.qsize() < len(threads) - 1:
        time.sleep(0.01)
    others.set()
    for thread in threads:
        thread.join()
    assert sizes == [1, len(CHATS) - 1]


def test_what_does_not_fit_is_refused_alone(tiny: str, tmp_path: Path) -> None:
    long = Request(prompts.answer("a b c d e f g h " * 200))
    with connect(settings(tiny), tmp_path / "replies.sqlite") as client:
        refused, other = client.ask_many([long, REQUESTS[0]])
    assert isinstance(refused, Failure)
    assert "has 512 positions, and the request with its reply takes" in refused.sentence
    assert isinstance(other, Reply)


def test_a_teacher_is_a_model_of_this_machine_by_its_name(tiny: str, tmp_path: Path) -> None:
    names = ("smollm2", "hf:some/model", tiny, "oracle", "gpt-4o-mini", "weights.gguf")
    assert [language_model.is_local(name) for name in names] == [True, True, True, False, False, True]
    assert "weights" not in Teacher.named("oracle", {}).model_dump()  # whose cells keep their addresses
    assert Teacher.named(tiny, {}).weights == language_model.revision(tiny)
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadRequest, match="holds no whole model"):
        Teacher.named(str(tmp_path / "empty"), {})
    with pytest.raises(BadRequest, match=r"none\.gguf is no file"):
        Teacher.named("none.gguf", {})


def test_trust_is_measured_beside_exact_grading(tiny: str, tmp_path: Path) -> None:
    families = ("arithmetic", "sorting")
    with connect(settings("oracle", max_tokens=200), tmp_path / "a.sqlite") as client:
        every, *_ = trust(client, families, 6)
        assert every[JUDGED].startswith("1.000")
        assert every["answers right"].startswith("1.000")
        assert every["kind named right (chance 0.50)"].startswith("1.000")
    with connect(settings(tiny), tmp_path / "b.sqlite") as client:
        lines = trust(client, families, 3)
    assert [line["questions"] for line in lines] == [6, 3, 3]
    assert all(" [" in line[JUDGED] for line in lines)
    assert lines[0]["answers right"].startswith("0.000")


def tuned(model: str) -> TunedLearner:
    return TunedLearner(finetuning.Finetuning(model=model, steps=1, **TUNING), 8, say=lambda _: None)


def test_tokens_are_followed_where_they_are_the_likeliest(tiny: str) -> None:
    """Against a plain pass over each example alone; an answer is right where all of its tokens are followed."""
    learner = tuned(tiny)
    asked = [Example(f"Say {word}.", "", word * 3, "", "") for word in ("yes", "no", "a")]
    rows, encoded = learner.followed(asked), chat.encode(learner.tokenizer, asked)
    for number, row in enumerate(rows):
        ids, prompt = torch.tensor(encoded.row(number)).long()[None], int(encoded.prompts[number])
        with torch.inference_mode():
            likeliest = learner.model(input_ids=ids).logits[0].argmax(-1)
        assert row.tolist() == (likeliest[prompt - 1 : -1] == ids[0, prompt:]).tolist()
    assert learner.right(asked).tolist() == [bool(row.all()) for row in rows]


def test_exams_that_are_followed_count_tokens_by_question(tiny: str, data: Path) -> None:
    held = ["$LABKIT_DATA/mbpp/sanitized-mbpp.json", "$LABKIT_DATA/dolly/dolly_3k.jsonl.gz"]
    exams = read_exams.followed(held, 5)
    assert list(exams) == ["mbpp_followed", "answers_followed"]
    assert exams["mbpp_followed"].parts == read_exams.followed(held, 5)["mbpp_followed"].parts
    learner = tuned(tiny)
    for name, exam in exams.items():
        verdicts = exam.verdicts(learner)
        (line,) = exam.lines(name, verdicts)
        assert line["asked"] == [len(row) for row in verdicts[""]]
        assert len(line["asked"]) == 5
        assert all(right <= asked for right, asked in zip(line["right"], line["asked"], strict=True))


def code_mixing(tiny: str, **changes: Any) -> Any:
    given = {"model": tiny, "tuning": TUNING, "steps": 2, "n_test": 4, "seeds": [0, 1], "scale": "real"}
    mixes = [[0.012, 0, 0], [0.01, 0.002, 0], [0.009, 0.003, 0], [0.006, 0.006, 0]]
    return studies.find("code_mixing").resolve({**given, "mixes": mixes, **changes})


def test_code_mixing_at_real_scale(tiny: str, data: Path, own_store: Store) -> None:
    study, params = studies.find("code_mixing"), code_mixing(tiny)
    rows = sweep(study.points(params), study.measure, jobs=0)
    results = study.summarise(long_rows(rows), study.registration(params), "real")
    assert "; with 0% general data tokens foreseen of published solutions is " in results.finding
    assert len(results["followed"].estimates) == 3
    assert {row["steps_taken"] for row in rows} == {2}
    assert all(line["asked"] == rows[0]["graded"][0]["asked"] for line in (row["graded"][0] for row in rows))
    assert len(results.endpoint) == 0 or "measured [95 %]" in results.endpoint[0]
    for view in results.views():
        results.chart(view).to_dict()
        results.table(view)
    again = sweep(study.points(params), lambda *_: pytest.fail("measured twice"), jobs=0)
    assert [row["address"] for row in again] == [row["address"] for row in rows]


def test_addresses_do_not_depend_on_where_the_data_lie(
    tiny: str, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = studies.find("code_mixing").points
    before = [point.address for point in points(code_mixing(tiny))]
    monkeypatch.setenv("LABKIT_DATA", str(data.rename(tmp_path / "elsewhere")))
    assert [point.address for point in points(code_mixing(tiny))] == before


def ability_growth(tiny: str, **changes: Any) -> Any:
    given = {"model": tiny, "tuning": TUNING, "steps": 2, "n_test": 5, "volumes": [2, 6], "scale": "real"}
    return studies.find("ability_growth").resolve({**given, **changes})


def test_abilities_of_files_grow(tiny: str, data: Path, own_store: Path) -> None:
    study, params = studies.find("ability_growth"), ability_growth(tiny)
    points = study.points(params)
    few, many = [cell.data(None) for cell in points if cell.design == "ladder"]
    assert [len(few), len(many)] == [6, 18]
    assert [many[6 * i] for i in range(3)] == few[::2]  # the smaller volume is the beginning of the larger
    rows = sweep([points[0], points[-1]], study.measure, jobs=0)
    assert [row["steps_taken"] for row in rows] == [0, 2]
    kinds = [line["kind"] for line in rows[0]["graded"]]
    assert kinds == ["code", "mathematics", "general", "sat_math"]
    assert [round(line["chance"], 2) for line in rows[0]["graded"]] == [0.33, 0.33, 0.33, 0.25]


def test_a_result_is_ranked_against_other_results() -> None:
    answer = "2 + 3 = 5.\nThe answer is 5."
    others = read_abilities._other_results(answer, 0)
    assert len({answer, *others}) == 3
    assert all(text.startswith("2 + 3 = 5.\nThe answer is ") for text in others)
    assert read_abilities._other_results("no number", 0) == []


def test_encrypted_rewriting_tells_letters_apart(tiny: str, own_store: Path) -> None:
    study = studies.find("encrypted_rewriting")
    small = {"n_instructions": [4], "steps": 2, "budget": 8, "test_rules": 4, "n_test": 4, "rank": 4, "seeds": [0]}
    params = study.resolve({"scale": "real", "model": tiny, **small})
    (cell,) = study.points(params)
    example = cell.lesson().data[0]
    assert set(example.input[1::2]) == set(example.output[1::2]) == {" "}
    assert len(example.input) == len(example.output) == 11
    (row,) = sweep([cell], study.measure, jobs=0)
    assert row["steps_taken"] == 2
    assert {line["exam"] for line in row["graded"]} == {"seen", "unseen"}


@pytest.mark.parametrize("study", ["code_mixing", "curriculum"])
def test_without_the_data_one_sentence_says_so(study: str, tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for value, says in (("", "it is not set"), ("/nowhere", "/nowhere")):
        monkeypatch.setenv("LABKIT_DATA", value)
        found = studies.find(study)
        params = found.resolve({"scale": "real", "model": tiny} | ({"teacher": tiny} if study == "curriculum" else {}))
        with pytest.raises(BadRequest, match=rf"^\$LABKIT_DATA/\S+: LABKIT_DATA names no folder \({says}\)"):
            found.points(params)


@pytest.mark.parametrize("text", ['[{"instruction": "Say yes."}]', '[{"instruction": "Say yes.", "output": ""}]', ""])
def test_a_file_without_answers_is_refused_before_anything_starts(text: str, tiny: str, data: Path) -> None:
    (data / "mbpp" / "sanitized-mbpp.json").write_text(text)
    with pytest.raises(BadRequest, match="sanitized-mbpp"):
        studies.find("code_mixing").points(code_mixing(tiny))


def curriculum(tiny: str, **changes: Any) -> Any:
    sizes = {"public": 24, "mined": 8, "rounds": 2, "round_size": 8, "round_steps": 1, "expanded": 4, "n_test": 3}
    tuning = {name: value for name, value in TUNING.items() if name != "steps"}
    given = {"model": tiny, "teacher": tiny, "tuning": tuning, "steps": 1, "new_tokens": 6, "scale": "real"}
    asking = {"max_tokens": 6, "concurrency": 8, "timeout": 600.0}
    return studies.find("curriculum").resolve({**given, **sizes, "asking": asking, **changes})


def test_tapir_runs_whole_without_an_endpoint_and_asks_nothing_twice(
    tiny: str, data: Path, own_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, params = studies.find("curriculum"), curriculum(tiny, arms=["random", "tapir"])
    points = study.points(params)
    rows = sweep(points, study.measure, jobs=0)
    results = study.summarise(long_rows(rows).assign(**study.marks(params)), study.registration(params), "real")
    assert "at equal optimiser steps" in results.finding.lower()
    kinds = [line["kind"] for line in rows[0]["graded"] if line["exam"] == "unseen"]
    assert kinds == ["gsm8k", "sanitized_mbpp", "dolly_3k"]
    for view in results.views():
        results.chart(view).to_dict()
    for table in study.tables.values():
        table(results)
    for point in points:  # as after a kill: what the teacher said is kept
        (own_store / point.study / "points" / point.address).rename(own_store / point.address)
    monkeypatch.setattr(language_model, "_loaded", lambda name: pytest.fail("asked twice"))
    again = sweep(points, study.measure, jobs=0)
    assert [row["graded"] for row in again] == [row["graded"] for row in rows]


def test_smollm2_judges_and_classifies(tmp_path: Path) -> None:
    smollm2()
    client: Client
    with connect(Settings(model="smollm2", max_tokens=4), tmp_path / "replies.sqlite") as client:
        replies = client.ask_many([REQUESTS[3], REQUESTS[6]])
    rating, kind = (reply.text for reply in replies if isinstance(reply, Reply))
    assert 1 <= (prompts.read_score(rating) or 0) <= 10
    assert prompts.read_kind(kind, list(KINDS)) in KINDS
