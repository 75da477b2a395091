"""The audit: what is known of made and of real data comes out, and what cannot be said is not."""

import json
import os
from pathlib import Path

import needs
import numpy as np
import pytest
from browser import opened
from command import labkit

from labkit import BadRequest
from labkit.design import audit
from labkit.instructions import EVERY, draw
from labkit.show import write_map
from labkit.studies import audits

SHARED = Path(os.environ.get("LABKIT_DATA", Path(__file__).parents[2] / "shared" / "data"))


def written(path: Path, kinds: dict[str, int], more: list[dict[str, str]] | None = None, seed: int = 0) -> Path:
    drawn = [draw(EVERY[kind], n, split="train", levels=(1, 2), seed=seed) for kind, n in kinds.items()]
    rows = [
        {"instruction": task.example.instruction, "output": task.example.output, "kind": task.example.source}
        for tasks in drawn
        for task in tasks
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, *(more or [])]), "utf-8")
    return path


def numbers(found: audit.Audit, caption: str, key: str, value: str) -> dict[str, float]:
    return {row[key]: row[value] for row in found.tables[caption]}


def real(name: str) -> Path:
    if not (SHARED / name).exists():
        pytest.skip("no real data: LABKIT_DATA names their folder")
    needs.packaged("wordllama")
    return SHARED / name


def test_what_is_known_of_a_made_set_comes_out(tmp_path: Path) -> None:
    more = [{"instruction": "Say hello.", "output": "", "kind": "greeting"}, *[
        {"instruction": "say HELLO ", "output": "hello", "kind": "greeting"}] * 7]  # fmt: skip
    data = written(tmp_path / "own.jsonl", {"sorting": 60, "dates": 30}, more)
    target = written(tmp_path / "target.jsonl", {"dates": 60, "programs": 60}, seed=1)
    found = audits.audit(data, against=target, embedder="lexical")
    assert numbers(found, "Records", "what", "records")["broken: output is empty"] == 1
    assert numbers(found, "Records", "what", "records")["usable"] == 97
    assert {row["most frequent"] for row in found.tables["Kinds of records"] if row["by"] == "kind"} == {
        "sorting 60, dates 30, greeting 8"
    }
    different = len({e.instruction for e in audit.load(data).examples if e.instruction != "say HELLO "}) + 1
    assert numbers(found, "Instructions", "what", "number")["different instructions"] == different
    regions = found.tables["Coverage of the target"][1:]
    empty = [row for row in regions if "applies" in row["region"] or "rules" in row["region"]]  # programs
    assert empty
    assert all(row["ci95"][1] < 0.5 for row in empty)
    assert max(row["covered"] for row in regions) > 0.7


def test_the_exponent_of_a_known_tail_comes_back() -> None:
    counts = np.random.default_rng(0).zipf(2.2, 4000)
    assert audit.exponent(counts) == pytest.approx(2.2, abs=0.06)
    assert audit.exponent(counts, 3) == pytest.approx(2.2, abs=0.2)


def test_two_halves_of_one_set_are_not_told_apart_and_a_narrow_set_is(tmp_path: Path) -> None:
    wide = dict.fromkeys(("sorting", "dates", "editing", "counting", "programs", "knowledge", "role"), 40)
    one, two = (written(tmp_path / f"{seed}.jsonl", wide, seed=seed) for seed in (0, 1))
    narrow = written(tmp_path / "narrow.jsonl", {"dates": 280})
    alike = audits.audit(one, compare=two, embedder="lexical").tables["The two sets compared"]
    told = audits.audit(one, compare=narrow, embedder="lexical").tables["The two sets compared"]
    more = [row["measure"] for row in told if row["0 is"] == "more"]
    assert "Vendi score, by use" in more
    assert "mean pairwise distance" in more
    assert sum(row["0 is"] == "not told apart" for row in alike) > len(alike) / 2
    assert all(row["ci95"][0] < row["ci95"][1] for row in alike + told)


def test_a_few_records_get_no_numbers_and_a_sentence_each(tmp_path: Path) -> None:
    few, other = (written(tmp_path / f"{name}.jsonl", {"dates": 5}) for name in ("few", "other"))
    found = audits.audit(few, against=other, compare=other, embedder="lexical")
    assert found.tables["Tail"] == []
    assert found.tables["The two sets compared"] == []
    assert "Coverage of the target" not in found.tables
    for words in (
        "too few to fit a tail",
        "too few for: Vendi score",
        "too few to say what of it is covered",
        "not compared",
    ):
        assert any(words in note for note in found.notes)


@pytest.mark.parametrize(("arguments", "says"), [
    (["nothing.jsonl"], "nothing.jsonl does not exist"),
    (["own.jsonl", "--embedder", "minilmm"], "did you mean 'minilm'"),
    (["own.jsonl", "--against", "nothing.jsonl"], "--against nothing.jsonl is no file"),
    (["own.jsonl", "--against", "odd.jsonl"], "odd.jsonl has no instructions"),
    (["own.jsonl", "--field", "instruction"], "not of the form name=value"),
    (["own.jsonl", "--out", "own.jsonl"], "own.jsonl"),
])  # fmt: skip
def test_bad_requests_are_one_sentence(
    arguments: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    written(Path("own.jsonl"), {"dates": 30})
    Path("odd.jsonl").write_text('{"number": 3}\n')
    done = labkit("audit", *arguments)
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_command_writes_a_report_and_a_map_that_opens_offline(tmp_path: Path) -> None:
    data = written(
        tmp_path / "own.jsonl", {"sorting": 60, "dates": 60}, [{"instruction": "<b>bold</b>", "output": "x"}]
    )
    done = labkit("audit", str(data), "--embedder", "lexical", "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert "different instructions" in done.stdout
    assert set(json.loads((tmp_path / "out" / "audit.json").read_text())) == {"tables", "notes"}
    page = tmp_path / "out" / "map.html"
    with opened(page.as_uri(), tmp_path / "profile") as browser:
        browser.wait("document.querySelectorAll('.legend .traces').length > 0")
        marks = browser.js("document.querySelector('.js-plotly-plot').data.map(one => one.hovertext.length)")
        different = len({e.instruction.lower() for e in audit.load(data).examples})
        assert sum(marks) == different
        assert browser.js("document.querySelectorAll('b').length") == 0


def test_a_map_wants_a_text_and_a_kind_for_each_place(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="a text and a kind for each place: got 1, 2, 2"):
        write_map(tmp_path / "map.html", [[0, 0], [1, 1]], ["a"], ["b", "c"], "title")


def test_dollys_eight_categories() -> None:
    found = audits.audit(real("dolly/dolly_3k.jsonl.gz"))
    (category,) = [row for row in found.tables["Kinds of records"] if row["by"] == "category"]
    assert category["kinds"] == 8
    assert category["most frequent"].startswith("open_qa 943, classification 641, general_qa 483, brainstorming 386")


def test_the_alpaca_samples_share_what_their_readme_says() -> None:
    one, two = (audit.load(real(f"alpaca/alpaca_{name}.jsonl.gz")) for name in ("random_9k", "5000"))
    shared = audit._overlap(one, two)[0]
    assert shared["in both"] in (874, 875)  # one of the 875 has no output, and is no usable record


def test_mbpp_plus_lies_inside_mbpp() -> None:
    data = audit.load(real("mbpp/mbpp.jsonl"), {"instruction": "text", "output": "code"})
    texts = [audit.normal(example.instruction) for example in data.examples]
    *_, held = audit._contamination(data, texts, real("evalplus/MbppPlus.jsonl.gz"), [])
    assert held["of"] == 378
    assert held["number"] > 378 / 2  # the others were reworded when MBPP was sanitised


def test_evolved_instructions_are_near_those_they_came_from() -> None:
    evolved, own = real("evol_code/evol-codealpaca-2k-1.jsonl.gz"), real("code_alpaca/code_alpaca_2k.jsonl.gz")
    covered = [
        audits.audit(data, against=evolved).tables["Coverage of the target"][0]["covered"]
        for data in (own, real("dolly/dolly_3k.jsonl.gz"))
    ]
    assert covered[0] > 0.75
    assert covered[1] < 0.1
