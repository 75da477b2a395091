"""Ability growth of fine-tuned models, the whole path on a tiny Llama and a made copy of DoIT, laid out as it is.

What the made records look like follows the authors' scripts (see labkit.instructions.exams); no real one was seen.
"""

import json
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tiny import tiny_llama

from labkit import BadRequest
from labkit.design import plan
from labkit.instructions.exams import DOIT, Question, read_exam
from labkit.lab import Store
from labkit.learn import qlora
from labkit.studies import tuned_growth

for package in ("trl", "peft", "bitsandbytes"):
    pytest.importorskip(package, reason="needs labkit[qlora]")

DATA = Path(__file__).parents[2] / "shared" / "data"
OPEN = ("code", "creative_writing", "role_play")
ALPHABET = "abcdefghijklmnop"


def word(rng: random.Random, length: int = 3) -> str:
    return "".join(rng.choice(ALPHABET) for _ in range(length))


def doit_record(ability: str, rng: random.Random, test: bool) -> dict[str, Any]:
    """A record of an ability's form: letters, right or wrong, sets of letters, worked numbers, or three whole texts."""
    record: dict[str, Any] = {"type": ability, "question_format": int(ability in OPEN)}
    user, answer = f"{ability} {word(rng)}?\nA. a\nB. b\nC. c\nD. d", rng.choice("ABCD")
    if ability in OPEN:
        user, answer = f"{ability} {word(rng)}", word(rng, 6)
        record |= {"choices": [answer, word(rng, 6), word(rng, 6)]} if test else {}
    elif ability == "math":
        one, other = rng.randrange(50), rng.randrange(50)
        user, answer = f"{one} + {other} = ?", f"{one}, {other}: 答案是{one + other}"
        record["answer"] = str(one + other)
    elif ability == "ethics":
        answer = "".join(sorted(rng.sample("ABCD", 2)))
    elif ability == "history" and rng.random() < 0.5:
        user, answer = word(rng), rng.choice(["对", "错"])
    turns = [{"role": "user", "content": user}, {"role": "assistant", "content": answer}]
    if ability == "understanding":
        turns = [{"role": "user", "content": word(rng)}, {"role": "assistant", "content": "?"}, *turns]
    return record | {"messages": turns}


@pytest.fixture(scope="module")
def doit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the data set: 12 training records and 8 test questions an ability, 100 synthetic records in a pool."""
    folder, rng = tmp_path_factory.mktemp("doit"), random.Random(0)

    def write(name: str, records: list[dict[str, Any]]) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in records)
        (folder / name).write_text("".join(lines), "utf-8")

    for ability in DOIT:
        write(f"curated/full/{ability}_full.json", [doit_record(ability, rng, False) for _ in range(12)])
        write(f"curated/test/{ability}_test.json", [doit_record(ability, rng, True) for _ in range(8)])
    for name in tuned_growth.OUTSIDE:
        write(f"curated/test/{name}.json", [doit_record("biology", rng, True) for _ in range(6)])
    write(tuned_growth.POOL, [doit_record(rng.choice(DOIT), rng, False) for _ in range(100)])
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_llama(tmp_path_factory.mktemp("base")))


def params(doit: Path, **changes: Any) -> Any:
    tuning = {"rank": 4, "steps": 3, "quantisation": "none", "batch_size": 4, "accumulation": 1, "max_length": 256}
    settings = {
        "corpus": str(doit),
        "abilities": list(DOIT),
        "sources": ["curated", "synthetic"],
        "volumes": [1, 4],
        "seeds": [0, 1],
        "fresh_seeds": [7],
        "exams": ["ceval_physician"],
        "tuning": tuning | {"template": "plain", "gradient_checkpointing": False},
        "n_test": 8,
        "new_tokens": 4,
    }
    return SimpleNamespace(**{**settings, **changes})


def test_volumes_are_exact_and_nested(doit: Path, base: str) -> None:
    given = params(doit)
    assert tuned_growth.available(given, base) == {a: {"curated": 12, "synthetic": 10} for a in DOIT}
    cells = tuned_growth.points(given, base)
    assert [cell.design for cell in cells] == ["untrained"] + ["ladder"] * 8
    assert len({cell.address for cell in cells}) == len(cells)
    for one, four in zip(cells[1::2], cells[2::2], strict=True):
        assert (one.source, one.seed) == (four.source, four.seed)
        few, many = tuned_growth.training_set(one), tuned_growth.training_set(four)
        assert (len(few), len(many)) == (10, 40)
        assert [many[4 * i] for i in range(10)] == few  # the first of each ability's four
        assert len({(e.instruction, e.output) for e in many}) == 40  # no record of the pool in two abilities
    assert tuned_growth.training_set(cells[2]) != tuned_growth.training_set(cells[6])  # another seed
    first = tuned_growth.training_set(cells[2])[0]
    assert first.instruction.startswith("biology")
    assert cells[1].settings["epochs"] is None
    paper = tuned_growth.points(params(doit, tuning={}), base)
    assert [cell.settings["epochs"] for cell in paper[1:3]] == [25, 20]
    assert paper[1].settings["learning_rate"] == 1e-5


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"volumes": [1, 11]}, "volumes: 'biology' has 10 examples from 'synthetic', not 11"),
        ({"abilities": ["biologie"]}, "unknown ability 'biologie': did you mean 'biology'"),
        ({"sources": ["human"]}, "unknown source 'human'"),
        ({"corpus": "nowhere"}, "corpus = nowhere: neither 'doit', for the hub, nor a folder"),
        ({"exams": ["ceval_physician", "ceval_physician"]}, "hold 'ceval_physician' twice"),
        ({"exams": ["nowhere.csv"]}, "is no exam"),
        ({"exams": ["cmmlu@five"]}, "what follows @ is the number of answered examples"),
    ],
)
def test_bad_requests_are_one_sentence(doit: Path, base: str, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(BadRequest, match=says) as said:
        tuned_growth.points(params(doit, **changes), base)
    assert "\n" not in str(said.value)


def test_a_copy_that_lacks_a_file_is_refused(tmp_path: Path, base: str) -> None:
    with pytest.raises(BadRequest, match=r"holds no curated/full/biology_full\.json"):
        tuned_growth.points(params(tmp_path), base)


def test_synthetic_data_by_ability_are_taken_where_a_copy_has_them(doit: Path, base: str) -> None:
    own = doit / "synthetic/full/math_full.json"
    own.parent.mkdir()
    own.write_bytes((doit / "curated/full/math_full.json").read_bytes())
    try:
        have = tuned_growth.available(params(doit), base)
        assert (have["math"]["synthetic"], have["code"]["synthetic"]) == (12, 10)
    finally:
        own.unlink()


def test_the_papers_mixes_are_cells(doit: Path, base: str) -> None:
    given = params(doit)
    have = tuned_growth.available(given, base)
    small = {"ethics": 1, "role_play": 1, "creative_writing": 6}
    designs = {
        "baseline": plan.baseline(have, 50),
        "reconstruct": plan.reconstruct(have, 50, small=small, at=50),
        "maximum": plan.maximum(have, small=small),
        "mix_20": plan.mix_n(have, 20, small=small),
    }
    cells = tuned_growth.mixes(given, base, designs, {"reconstruct": {"macro": {"value": 0.1}}})
    assert [(cell.design, cell.arm, cell.seed) for cell in cells] == [("mix", name, 7) for name in designs]
    assert [len(tuned_growth.training_set(cell)) for cell in cells] == [50, 50, 92, 112]
    assert [cell.predicted for cell in cells] == [None, {"macro": {"value": 0.1}}, None, None]
    with pytest.raises(BadRequest, match="more: 'code' has 12 examples from 'curated', not 13"):
        tuned_growth.mixes(given, base, {"more": {"code": {"curated": 13}}}, {})


def check(row: dict[str, Any], exams: list[str]) -> None:
    """The columns that both halves of the study share (R = 1)."""
    assert json.loads(json.dumps(row)) == row
    assert row["gradings"] == ["likelihood", "generated"]
    assert len(row["volumes"]) == len(row["totals"]) == len(row["steps_taken"]) == len(row["loss"]) == 1
    for exam in exams:
        for grading in row["gradings"]:
            (right,), asked = row[f"{exam}_{grading}_right"], row[f"{exam}_{grading}_asked"]
            assert set(right) <= {0, 1}
            assert asked == [1] * len(right)
            assert row[f"accuracy_{exam}_{grading}"] == np.mean(right)
            assert 0 <= row[f"{exam}_{grading}_chance"] <= 0.5


def test_the_whole_path(doit: Path, base: str, tmp_path: Path) -> None:
    """A base model and a run: graded on ten abilities and an exam outside them, near chance as it must be."""
    store, given = Store(tmp_path / "store"), params(doit)
    untrained, cell, *_ = tuned_growth.points(given, base)
    exams = [*DOIT, "ceval_physician"]
    zero, row = (store.measure(point, tuned_growth.measure) for point in (untrained, cell))
    for found in (zero, row):
        check(found, exams)
        assert (found["others"], found["abilities"]) == (["ceval_physician"], list(DOIT))
        expected = [found[f"{exam}_likelihood_chance"] for exam in exams]
        assert abs(np.mean([found[f"accuracy_{exam}_likelihood"] for exam in exams]) - np.mean(expected)) < 0.2
    assert (zero["volumes"], zero["totals"], zero["learned"]) == ([0], [0], True)
    assert (row["volumes"], row["totals"], row["steps_taken"], row["learned"]) == ([1], [10], [3], True)
    assert row["parameters"] == zero["parameters"] == qlora.load(base)[0].num_parameters()
    assert (row["ethics_likelihood_chance"], row["code_likelihood_chance"]) == (1 / 6, 1 / 3)
    assert (row["code_generated_chance"], row["biology_likelihood_chance"]) == (0, 0.25)
    assert 0.25 < row["history_likelihood_chance"] < 0.5
    assert len(zero["math_nats"]) == len(zero["math_nats_tokens"]) == 8
    assert all(nats > 0 for nats in zero["math_nats"])
    assert "math_nats" not in row
    folder = store.folder(cell)
    assert len((folder / "answers.jsonl").read_text().splitlines()) == 8 * 10 + 6
    assert (folder / "adapter").is_dir()


def test_what_a_written_answer_must_say() -> None:
    def asked(options: tuple[str, ...], place: int, kind: Any, final: str = "") -> Question:
        return Question("?", options, place, "x", "zh", kind, final)

    letters = asked(("one", "two", "three"), 1, "listed")
    assert [tuned_growth.right(letters, text) for text in ("B", "答案：B", "two", "C", "A B", "")] == [True] * 3 + [
        False
    ] * 3
    cases = asked(("Aa", "aa", "AA"), 1, "listed")  # no texts to tell apart by: only the letter counts
    assert [tuned_growth.right(cases, text) for text in ("B", "aa", "A")] == [True, False, False]
    sets = asked(("AB", "AC", "BC"), 1, "sets")
    assert [tuned_growth.right(sets, text) for text in ("AC", "因为A不错\nC、A", "ABC", "B", "")] == [True] * 2 + [
        False
    ] * 3
    whole = asked(("好 诗", "坏", "无"), 0, "open")
    assert [tuned_growth.right(whole, text) for text in (" 好 诗\n", "坏")] == [True, False]
    number = asked(("…72", "…1", "…2"), 0, "open", "72")
    said = ("72", "The answer is 72.", "答案是72个", "48 / 2 = 24, so 48 + 24 = 72", r"So \boxed{72}", "答案：$72$")
    assert all(tuned_growth.right(number, text) for text in said)
    assert not any(tuned_growth.right(number, text) for text in ("172", "72 / 2 = 36", r"72 \boxed{36}", ""))
    fraction = asked(("x", "y", "z"), 0, "open", r"\frac{3}{4}")
    assert tuned_growth.right(fraction, r"we get $\boxed{\frac{3}{4}}$")


@pytest.mark.slow
def test_the_published_samples(doit: Path, tmp_path: Path) -> None:
    """CMMLU and AGIEval, zero- and few-shot, by a random model, 200 questions of each: near chance."""
    if not (DATA / "cmmlu").exists():
        pytest.skip("the published cmmlu is not here")
    texts = [question.text for question in read_exam(DATA / "cmmlu").questions[:300]]
    base = tiny_llama(tmp_path / "base", width=16, layers=1, texts=texts)
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 2048}))
    names = [f"{DATA}/cmmlu", f"{DATA}/cmmlu@2", *map(str, sorted((DATA / "agieval").glob("*.jsonl")))]
    given = params(doit, exams=names, abilities=["biology"], new_tokens=0, n_test=200)
    row = Store(tmp_path / "store").measure(tuned_growth.points(given, str(base))[0], tuned_growth.measure)
    assert row["others"][:2] == ["cmmlu", "cmmlu_2_shot"]
    assert row["gradings"] == ["likelihood"]
    asked = {exam: sum(row[f"{exam}_likelihood_asked"]) + row[f"{exam}_too_long"] for exam in row["others"]}
    assert list(asked.values()) == [200] * 8
    for exam in row["others"]:
        assert (row[f"{exam}_bad"], row[f"{exam}_likelihood_chance"]) == (0, 0.25)
        (right,) = row[f"{exam}_likelihood_right"]
        assert abs(np.mean(right) - 0.25) < 0.25 / 2
