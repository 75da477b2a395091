"""Ability growth of fine-tuned models, the whole path on a tiny Llama and a made copy of DoIT, laid out as it is.

What the made records look like follows the authors' scripts (see labkit.instructions.exams); no real one was seen.
"""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import tiny_llama

from labkit import BadRequest, studies
from labkit.design import named_mixes
from labkit.grade.questions import GRADINGS, comes_to
from labkit.instructions.doit import OUTSIDE, POOL
from labkit.instructions.exams import DOIT, Question, read_exam
from labkit.lab import Store
from labkit.learn import qlora
from labkit.studies.ability_growth.design import _cells, points

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
    for name in OUTSIDE:
        write(f"curated/test/{name}.json", [doit_record("biology", rng, True) for _ in range(6)])
    write(POOL, [doit_record(rng.choice(DOIT), rng, False) for _ in range(100)])
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_llama(tmp_path_factory.mktemp("base")))


def params(doit: Path, base: str, **changes: Any) -> Any:
    tuning = {"rank": 4, "steps": 3, "quantisation": "none", "batch_size": 4, "accumulation": 1, "max_length": 256}
    settings = {
        "scale": "qlora",
        "model": base,
        "corpus": str(doit),
        "abilities": list(DOIT),
        "sources": ["curated", "synthetic"],
        "volumes": [1, 4],
        "seeds": [0, 1],
        "fresh_seeds": [7],
        "mixes": [],
        "exams": ["ceval_physician"],
        "tuning": tuning | {"template": "plain", "gradient_checkpointing": False},
        "n_test": 8,
        "new_tokens": 4,
    }
    return studies.find("ability_growth").resolve({**settings, **changes})


def training_set(cell: Any) -> list[Any]:
    return list(cell.data(None))  # the data are files, and need no record


def volume(cell: Any) -> int:
    return cell.counts["biology"][cell.source]


def test_volumes_are_exact_and_nested(doit: Path, base: str) -> None:
    given = params(doit, base)
    assert given.origin.available(given) == {a: {"curated": 12, "synthetic": 10} for a in DOIT}
    cells = points(given)
    assert [cell.design for cell in cells] == ["untrained"] + ["ladder"] * 8
    assert len({cell.address for cell in cells}) == len(cells)
    ladders = sorted(cells[1:], key=lambda cell: (cell.seed, cell.source, volume(cell)))
    for one, four in zip(ladders[::2], ladders[1::2], strict=True):
        assert (one.source, one.seed) == (four.source, four.seed)
        few, many = training_set(one), training_set(four)
        assert (len(few), len(many)) == (10, 40)
        assert [many[4 * i] for i in range(10)] == few  # the first of each ability's four
        assert len({(e.instruction, e.output) for e in many}) == 40  # no record of the pool in two abilities
    assert training_set(ladders[1]) != training_set(ladders[5])  # another seed
    first = training_set(ladders[1])[0]
    assert first.instruction.startswith("biology")
    assert ladders[0].spec.settings["epochs"] is None
    paper = sorted(points(params(doit, base, tuning={}))[1:], key=lambda cell: (cell.seed, cell.source, volume(cell)))
    assert [cell.spec.settings["epochs"] for cell in paper[:2]] == [25, 20]
    assert paper[0].spec.settings["learning_rate"] == 1e-5


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"volumes": [1, 11]}, "volumes: 'biology' has 10 examples from 'synthetic', not 11"),
        ({"abilities": ["biologie", "math"]}, "unknown ability 'biologie': did you mean 'biology'"),
        ({"sources": ["human"]}, "unknown source 'human'"),
        ({"corpus": "nowhere"}, "corpus = nowhere: neither 'doit', for the hub, nor a folder"),
        ({"exams": ["ceval_physician", "ceval_physician"]}, "names a value twice"),
        ({"exams": ["nowhere.csv"]}, "is no exam"),
        ({"exams": ["cmmlu@five"]}, "what follows @ is the number of answered examples"),
    ],
)
def test_bad_requests_are_one_sentence(doit: Path, base: str, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(BadRequest, match=says) as said:
        points(params(doit, base, **changes))
    assert "\n" not in str(said.value)


def test_an_exam_is_sat_once(doit: Path, base: str) -> None:
    again = str(doit / "curated/test/ceval_physician.json")
    with pytest.raises(BadRequest, match="hold 'ceval_physician' twice"):
        points(params(doit, base, exams=["ceval_physician", again]))


def test_a_copy_that_lacks_a_file_is_refused(tmp_path: Path, base: str) -> None:
    with pytest.raises(BadRequest, match=r"holds no curated/full/biology_full\.json"):
        points(params(tmp_path, base))


def test_synthetic_data_by_ability_are_taken_where_a_copy_has_them(doit: Path, base: str) -> None:
    own = doit / "synthetic/full/math_full.json"
    own.parent.mkdir()
    own.write_bytes((doit / "curated/full/math_full.json").read_bytes())
    try:
        given = params(doit, base)
        have = given.origin.available(given)
        assert (have["math"]["synthetic"], have["code"]["synthetic"]) == (12, 10)
    finally:
        own.unlink()


def test_the_papers_mixes_are_cells(doit: Path, base: str) -> None:
    given = params(doit, base)
    have = given.origin.available(given)
    small = {"ethics": 1, "role_play": 1, "creative_writing": 6}
    designs = {
        "baseline": named_mixes.baseline(have, 50),
        "reconstruct": named_mixes.reconstruct(have, 50, small=small, at=50),
        "maximum": named_mixes.maximum(have, small=small),
        "mix_20": named_mixes.mix_n(have, 20, small=small),
    }
    shared = {"design": "mix", "source": "curated", "seed": 7}
    cells = _cells(given, [{**shared, "arm": name, "counts": counts} for name, counts in designs.items()])
    assert [(cell.design, cell.arm, cell.seed) for cell in cells] == [("mix", name, 7) for name in designs]
    assert [len(training_set(cell)) for cell in cells] == [50, 50, 92, 112]
    with pytest.raises(BadRequest, match="more: 'code' has 12 examples from 'curated', not 13"):
        _cells(given, [{**shared, "arm": "more", "counts": {"code": {"curated": 13}}}])


def lines_of(row: dict[str, Any], grading: str) -> dict[str, dict[str, Any]]:
    return {line["kind"]: line for line in row["graded"] if line["grading"] == grading}


def check(row: dict[str, Any], exams: list[str]) -> None:
    """The lines that small and fine-tuned models share."""
    assert json.loads(json.dumps(row)) == row
    for grading in ("likelihood", "generated"):
        lines = lines_of(row, grading)
        assert list(lines) == exams
        for line in lines.values():
            assert set(line["right"]) <= {0, 1}
            assert line["asked"] == [1] * len(line["right"])
            assert 0 <= line["chance"] <= 0.5


def test_the_whole_path(doit: Path, base: str, tmp_path: Path) -> None:
    """A base model and a run: graded on ten abilities and an exam outside them, near chance as it must be."""
    store, study = Store(tmp_path / "store"), studies.find("ability_growth")
    untrained, cell, *_ = points(params(doit, base))
    exams = [*DOIT, "ceval_physician"]
    zero, row = (store.measure(point, study.measure) for point in (untrained, cell))
    for found in (zero, row):
        check(found, exams)
        lines = lines_of(found, "likelihood").values()
        assert [line["kind"] for line in lines if line["exam"] == "outside"] == ["ceval_physician"]
        accuracies = [np.mean(line["right"]) for line in lines]
        assert abs(np.mean(accuracies) - np.mean([line["chance"] for line in lines])) < 0.2
    at = {"volume", "examples"}
    assert {tuple(line[name] for name in sorted(at)) for line in zero["graded"]} == {(0, 0)}
    assert {tuple(line[name] for name in sorted(at)) for line in row["graded"]} == {(10, 1)}
    assert (zero["learned"], row["steps_taken"], row["learned"]) == (True, 3, True)
    assert row["parameters"] == zero["parameters"] == qlora.load(base)[0].num_parameters()
    chances = {name: {kind: line["chance"] for kind, line in lines_of(row, name).items()} for name in GRADINGS}
    assert (chances["likelihood"]["ethics"], chances["likelihood"]["code"]) == (1 / 6, 1 / 3)
    assert (chances["generated"]["code"], chances["likelihood"]["biology"]) == (0, 0.25)
    assert 0.25 < chances["likelihood"]["history"] < 0.5
    math = lines_of(zero, "likelihood")["math"]
    assert len(math["nats"]) == len(math["nats_tokens"]) == 8
    assert all(nats > 0 for nats in math["nats"])
    folder = store.folder(cell)
    assert len((folder / "answers.jsonl").read_text().splitlines()) == 8 * 10 + 6
    assert (folder / "adapter_config.json").is_file()


def test_what_a_written_answer_must_say() -> None:
    def asked(options: tuple[str, ...], place: int, kind: Any, final: str = "") -> Question:
        return Question("?", options, place, "x", "zh", kind, final)

    letters = asked(("one", "two", "three"), 1, "listed")
    assert [comes_to(letters, text) for text in ("B", "答案：B", "two", "C", "A B", "")] == [True] * 3 + [False] * 3
    cases = asked(("Aa", "aa", "AA"), 1, "listed")  # no texts to tell apart by: only the letter counts
    assert [comes_to(cases, text) for text in ("B", "aa", "A")] == [True, False, False]
    sets = asked(("AB", "AC", "BC"), 1, "sets")
    assert [comes_to(sets, text) for text in ("AC", "因为A不错\nC、A", "ABC", "B", "")] == [True] * 2 + [False] * 3
    whole = asked(("好 诗", "坏", "无"), 0, "open")
    assert [comes_to(whole, text) for text in (" 好 诗\n", "坏")] == [True, False]
    number = asked(("…72", "…1", "…2"), 0, "open", "72")
    said = ("72", "The answer is 72.", "答案是72个", "48 / 2 = 24, so 48 + 24 = 72", r"So \boxed{72}", "答案：$72$")
    assert all(comes_to(number, text) for text in said)
    assert not any(comes_to(number, text) for text in ("172", "72 / 2 = 36", r"72 \boxed{36}", ""))
    fraction = asked(("x", "y", "z"), 0, "open", r"\frac{3}{4}")
    assert comes_to(fraction, r"we get $\boxed{\frac{3}{4}}$")


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
    given = params(doit, str(base), exams=names, abilities=["biology", "math"], new_tokens=0, n_test=200)
    row = Store(tmp_path / "store").measure(points(given)[0], studies.find("ability_growth").measure)
    lines = [line for line in row["graded"] if line["exam"] == "outside"]
    assert [line["kind"] for line in lines[:2]] == ["cmmlu", "cmmlu_2_shot"]
    assert {line["grading"] for line in lines} == {"likelihood"}
    assert [sum(line["asked"]) + line["too_long"] for line in lines] == [200] * 8
    for line in lines:
        assert (line["bad"], line["chance"]) == (0, 0.25)
        assert abs(np.mean(line["right"]) - 0.25) < 0.25 / 2
