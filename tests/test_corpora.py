"""Real instruction data: every format reads alike, nothing bad passes silently, memory stays bounded."""

import csv
import gzip
import io
import json
import shutil
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labkit import BadRequest
from labkit.instructions import Example
from labkit.instructions.corpora import CORPORA, SHAPES, Reader, TaskType, read

DATA = Path(__file__).parents[2] / "shared" / "data"
text = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30).filter(str.strip)
messy = st.text(st.sampled_from('a,"\n\r\té語{}[]\\'), min_size=1, max_size=8).filter(str.strip)
rows = st.lists(
    st.fixed_dictionaries({"instruction": text | messy, "input": st.just("") | text, "output": text | messy}),
    min_size=1,
    max_size=8,
)


def write(path: Path, records: list[dict[str, Any]]) -> Path:
    """A file of the format its name says."""
    kind = path.name.removesuffix(".gz").split(".")[-1]
    if kind == "parquet":
        pyarrow = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(pyarrow.Table.from_pylist(records), path)
        return path
    if kind == "saved":
        pytest.importorskip("datasets").Dataset.from_list(records).save_to_disk(str(path))
        return path
    if kind == "json":
        content = json.dumps(records, indent=len(records) % 3 or None)
    elif kind == "jsonl":
        content = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    else:
        buffer = io.StringIO()
        table = csv.DictWriter(buffer, list(records[0]))
        table.writeheader()
        table.writerows(records)
        content = buffer.getvalue()
    path.write_bytes(gzip.compress(content.encode()) if path.suffix == ".gz" else content.encode())
    return path


def parts(examples: Any) -> list[tuple[str, str, str]]:
    return [(e.instruction, e.input, e.output) for e in examples]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(records=rows)
def test_every_format_reads_alike(records: list[dict[str, str]], tmp_path: Path) -> None:
    asked = [(r["instruction"], r["input"], r["output"]) for r in records]
    for name in ("a.json", "a.json.gz", "a.jsonl", "a.jsonl.gz", "a.csv", "a.csv.gz", "a.parquet", "a.saved"):
        path = tmp_path / name
        if path.is_dir():
            shutil.rmtree(path)
        reader = read(write(path, records))
        assert parts(reader) == asked, name
        assert parts(reader) == asked, name  # and again
    lines = tmp_path / "b.json"  # JSON lines under the name .json, as DoIT has them
    lines.write_bytes((tmp_path / "a.jsonl").read_bytes())
    assert parts(read(lines)) == asked


def test_tables_without_header_have_numbers_for_columns(tmp_path: Path) -> None:
    flat = tmp_path / "x_train.tsv.gz"
    flat.write_bytes(gzip.compress(b'Say "hi"?\\nNow.\tyes\tIt is polite.\r\nq\tno\tr\n'))
    assert parts(read("flan_cot", path=flat)) == [
        ('Say "hi"?\nNow.', "", "It is polite. The answer is yes."),
        ("q", "", "r The answer is no."),
    ]
    assert parts(read(flat, fields={"instruction": 0, "output": 1})) == [
        ('Say "hi"?\\nNow.', "", "yes"),
        ("q", "", "no"),
    ]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape.instruction}-{shape.output}-{shape.input}")
def test_known_shapes_are_found(shape: Any, tmp_path: Path) -> None:
    if shape.instruction == shape.output:
        turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
        two = [*turns, {"role": "user", "content": "r"}, {"role": "assistant", "content": "b"}]
        found = read(write(tmp_path / "a.jsonl", [{shape.output: turns, "n": 1}, {shape.output: two}]))
        assert parts(found) == [("q", "", "a"), ("user: q\nassistant: a\nuser: r", "", "b")]
    else:
        record = {"n": 1, shape.instruction: "q", shape.output: "a"} | ({shape.input: "i"} if shape.input else {})
        assert parts(read(write(tmp_path / "a.jsonl", [record]))) == [("q", "i" if shape.input else "", "a")]


def test_examples_are_known_by_what_they_ask(tmp_path: Path) -> None:
    records = [{"instruction": i, "input": z, "output": y} for i, z, y in ("abx", "aby", "ab2", "acx", "dbx")]
    ids = [example.instruction_id for example in read(write(tmp_path / "a.jsonl", records))]
    assert ids[0] == ids[1] == ids[2]
    assert len(set(ids)) == 3
    assert {example.source for example in read("alpaca", path=tmp_path / "a.jsonl")} == {"alpaca"}
    assert isinstance(next(iter(read(tmp_path / "a.jsonl"))), Example)


GOOD = b'{"instruction": "i", "output": "o"}\n'
BAD = {
    "broken JSON": b'{"instruction": "i", "outp\n',
    "not an object": b"[1]\n",
    "instruction is missing": b'{"output": "o"}\n',
    "output is missing": b'{"instruction": "i", "output": null}\n',
    "output is empty": b'{"instruction": "i", "output": " "}\n',
    "instruction is no text": b'{"instruction": 3, "output": "o"}\n',
    "not UTF-8": b'{"instruction": "i\xff", "output": "o"}\n',
}


@pytest.mark.parametrize("reason", BAD)
def test_bad_records_are_counted_and_refused_or_skipped(reason: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(GOOD + BAD[reason] + GOOD + 4 * BAD[reason])
    reader = read(path, on_bad="skip")
    assert len(list(reader)) == 2
    assert reader.bad == {reason: 5}
    assert len(list(reader)) == 2  # counts are of one passage
    assert reader.bad == {reason: 5}
    stream = iter(read(path))
    next(stream)
    with pytest.raises(
        BadRequest, match=rf"a\.jsonl: 5 bad record\(s\): {reason} \(5\); such as record 2: .*; record 4"
    ):
        next(stream)
    path.write_bytes(GOOD.replace(b'"i"', b'""'))
    with pytest.raises(BadRequest, match="no usable record"):
        list(read(path, on_bad="skip"))


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.jsonl", b"", "is empty"),
        ("a.json", b" [ ] ", "is empty"),
        ("a.csv", b"instruction,output\n", "is empty"),
        ("a.json", b'[{"instruction": "i", "output": "o"}, {"instr', "broken from record 2 on"),
        ("a.json", b'[{"instruction": "i", "output": "o"}', "broken from record 1 on"),
        ("a.json", b'[{"instruction": "i", "output": "o"}] x', "goes on after its array"),
        ("a.jsonl.gz", gzip.compress(1000 * GOOD)[:-20], "cannot be read"),
        ("a.jsonl.gz", GOOD, "cannot be read"),
        ("a.parquet", GOOD, "no whole Parquet file"),
        ("a.txt", GOOD, "unknown format"),
        ("a.jsonl", b'{"foo": "i", "bar": "o"}\n', "none of the known shapes.*its columns: foo, bar"),
    ],
)
def test_bad_files_are_one_sentence(name: str, content: bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(BadRequest, match=says) as refusal:
        list(read(path))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("attempt", "says"),
    [
        (lambda path: read("alpacca"), "did you mean 'alpaca'"),
        (lambda path: read(path / "none.jsonl"), "does not exist"),
        (lambda path: read("alpaca", path=path / "none.jsonl"), "does not exist"),
        (lambda path: read("flan_cot"), "not on the hub: give `path`"),
        (lambda path: read(path), "no folder written by datasets"),
        (lambda path: read("dolly", path=path / "a.jsonl"), "no column 'response'; its columns: instruction, output"),
        (lambda path: read(path / "a.jsonl", fields={"instruction": "q", "output": "output"}), "no column 'q'"),
        (
            lambda path: read(path / "a.jsonl", fields={"instruction": "q"}),
            "fields name instruction: instruction and output are needed",
        ),
        (lambda path: read(path / "a.jsonl", fields={"question": "q"}), "fields name question: "),
        (lambda path: read(path / "a.jsonl", on_bad="ignore"), "unknown rule for bad records"),
    ],
)
def test_bad_requests_are_refused_at_once(attempt: Callable[[Path], Reader], says: str, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(GOOD)
    with pytest.raises(BadRequest, match=says):
        attempt(tmp_path)


def test_no_hub_and_no_datasets_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("datasets")
    import huggingface_hub

    def unreachable(*args: Any, **options: Any) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", unreachable)
    with pytest.raises(
        BadRequest, match=r"alpaca cannot be read from the hub \(tatsu-lab/alpaca: ConnectionError\); off"
    ):
        list(read("alpaca"))
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(BadRequest, match=r"labkit\[qlora\]"):
        list(read("alpaca"))


def test_the_hub_is_asked_for_the_pinned_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    import huggingface_hub

    asked = {}

    def resolve(self: Any, hub: str, *, revision: str, timeout: float) -> Any:
        return type("Info", (), {"sha": f"commit of {revision}"})

    def stream(hub: str, subset: str | None, **options: Any) -> list[dict[str, str]]:
        asked.update(hub=hub, subset=subset, **options)
        return [{"question": "q", "answer": "1 <<1+1=2>>2\n#### 2"}]

    monkeypatch.setattr(huggingface_hub.HfApi, "dataset_info", resolve)
    monkeypatch.setattr(datasets, "load_dataset", stream)
    reader = read("gsm8k")
    assert parts(reader) == [("q", "", "1 2\nThe answer is 2.")]
    assert reader.revision == asked["revision"] == f"commit of {CORPORA['gsm8k'].revision}"
    assert asked["streaming"]
    assert (asked["hub"], asked["subset"], asked["split"]) == ("openai/gsm8k", "main", "train")


def test_corpora_say_all_there_is_to_say() -> None:
    for corpus in CORPORA.values():
        assert corpus.task_type in get_args(TaskType)
        assert corpus.licence
        assert corpus.home
        pinned = len(corpus.revision) == 40 and int(corpus.revision, 16) >= 0
        assert pinned or corpus.name == "cot_collection", corpus.name


@pytest.mark.parametrize("kind", ["json", "jsonl.gz"])
def test_a_big_file_is_read_in_bounded_memory(kind: str, tmp_path: Path) -> None:
    record = json.dumps({"instruction": "i", "output": "x" * 1000}).encode()
    path = tmp_path / f"big.{kind}"
    with gzip.open(path, "wb", 1) if kind.endswith("gz") else path.open("wb") as file:
        file.write(b"[" if kind == "json" else b"")
        for number in range(20_000):
            file.write((b",\n" if number and kind == "json" else b"\n" if number else b"") + record)
        file.write(b"]" if kind == "json" else b"")
    tracemalloc.start()
    assert sum(1 for _ in read(path)) == 20_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 << 20  # of 20 MB


@pytest.mark.parametrize(
    ("name", "file", "examples", "bad"),
    [
        ("alpaca", "alpaca/alpaca_random_9k.jsonl.gz", 9225, 4),
        ("code_alpaca", "code_alpaca/code_alpaca_2k.jsonl.gz", 2015, 2),
        ("evol_code", "evol_code/seed_evol.json", 21, 0),
        ("flan_cot", "cot_flan/qasc_train.tsv.gz", 1084, 0),
        ("gsm8k", "gsm8k/test.jsonl", 1319, 0),
        ("self_instruct_seeds", "self_instruct/seed_tasks.jsonl", 175, 0),
    ],
)
def test_published_files(name: str, file: str, examples: int, bad: int) -> None:
    if not (DATA / file).exists():
        pytest.skip("the published files are not here")
    reader = read(name, path=DATA / file, on_bad="skip")
    found = list(reader)
    assert (len(found), reader.bad.total()) == (examples, bad)
    if name in ("gsm8k", "flan_cot"):
        assert all("The answer is " in example.output for example in found)
        assert not any("<<" in e.output or "####" in e.output or "\\n" in e.output for e in found)
