"""Real instruction data: every format reads alike, nothing bad passes silently, memory stays bounded."""

import bz2
import csv
import gzip
import io
import json
import lzma
import os
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
from labkit.instructions import Example, corpora, files
from labkit.instructions.corpora import CORPORA, Reader, TaskType, read
from labkit.instructions.shapes import SHAPES

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
        ("a.jsonl.gz", gzip.compress(1000 * GOOD, mtime=0)[:-20], "cannot be read"),
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


def jsonl(path: Path, *records: Any) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    return path


def outcome(path: Path, **given: Any) -> tuple[list[tuple[str, str, str]], dict[str, int]]:
    """The examples of a file whose bad records are skipped, and the counts of these."""
    reader = read(path, on_bad="skip", **given)
    return parts(reader), dict(reader.bad)


ASK, SAY = {"instruction": "Add.", "output": "Done."}, {"instruction": "Add.", "response": "Done."}
NO_TEXT = [0, 0.0, 7, False, True, [], ["x"], {}, {"a": "b"}, float("nan")]


@pytest.mark.parametrize("value", NO_TEXT, ids=repr)
@pytest.mark.parametrize("column", ["instruction", "output", "input"])
def test_text_is_text_in_every_field(column: str, value: Any, tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", ASK, {**ASK, column: value})
    wanted = ([("Add.", "", "Done.")], {f"{column} is no text": 1})
    assert outcome(path) == wanted
    assert outcome(path, fields={name: name for name in ("instruction", "output")} | {column: column}) == wanted


@pytest.mark.parametrize("column", ["input", "context"])
@pytest.mark.parametrize("first", [{}, {"context": None}, {"input": None}, {"input": "", "context": None}], ids=repr)
@pytest.mark.parametrize("pair", [ASK, SAY, {"question": "Add.", "answer": "Done."}], ids=lambda pair: next(iter(pair)))
def test_the_first_record_does_not_decide_where_inputs_stand(
    pair: dict[str, Any], first: dict[str, Any], column: str, tmp_path: Path
) -> None:
    path = jsonl(tmp_path / "a.jsonl", pair | first, pair | {column: "1, 2"}, pair, pair | first | {column: "3"})
    assert [given for _, given, _ in parts(read(path))] == ["", "1, 2", "", "3"]


def test_columns_that_are_named_may_come_late(tmp_path: Path) -> None:
    named = {"instruction": "ask", "output": "say", "input": "on"}
    late = {"ask": "a", "say": "b", "on": "c"}
    path = jsonl(tmp_path / "a.jsonl", [1], {"version": 2}, {"ask": "a", "say": "b"}, late)
    assert outcome(path, fields=named)[0] == [("a", "", "b"), ("a", "c", "b")]
    with pytest.raises(BadRequest, match="has no column 'onn'; its columns: version"):
        read(path, fields=named | {"input": "onn"})
    two = jsonl(tmp_path / "b.jsonl", ASK | {"input": "x", "context": "y"}, ASK | {"input": "x", "context": "x"})
    assert outcome(two) == ([("Add.", "x", "Done.")], {"input and context both hold something: name `fields`": 1})


MEANT = {
    "system": "Be brief.",
    "system_prompt": "Be brief.",
    "history": [["Hi", "Hello"]],
    "choices": ["one", "two"],
    "options": {"A": "one"},
    "documents": ["Page one."],
    "image_path": "cat.png",
    "tools": [{"name": "add"}],
    "backgroundText": "Once upon a time.",
    "response": "Another.",
    "messages": [{"role": "user", "content": "More."}],
    "B": "two",
    "persona": "Add",
    "candidates": ["Add", "Done"],
}
HARMLESS = {"id": 3, "source": "web", "category": "sum", "prompt_id": "p1", "choices": 4, "system": " ", "history": []}


@pytest.mark.parametrize("column", MEANT)
def test_no_column_that_means_something_is_left_out_unsaid(column: str, tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", ASK, ASK | {column: MEANT[column]}, ASK)
    reason = f"column {column} would be left out: name `fields` if that is meant"
    assert outcome(path) == (2 * [("Add.", "", "Done.")], {reason: 1})
    with pytest.raises(BadRequest, match=f"{column} would be left out.*such as record 2"):
        list(read(path))
    reader = read(path, fields={"instruction": "instruction", "output": "output"})
    assert len(list(reader)) == 3
    assert reader.notes == [f"not used: {column} (records: 1)"]


def test_what_is_not_used_is_counted(tmp_path: Path) -> None:
    text = "### Instruction: Add. ### Response: Done."  # repeats what is used
    reader = read(jsonl(tmp_path / "a.jsonl", ASK | HARMLESS, ASK | {"id": 4, "text": text, "prompt": "Add."}))
    for _ in range(2):  # counts are of one passage
        assert len(list(reader)) == 2
        assert reader.unused == {
            "id": 2,
            "source": 1,
            "category": 1,
            "prompt_id": 1,
            "choices": 1,
            "text": 1,
            "prompt": 1,
        }
    named = {"instruction": "tasks.0.q", "output": "tasks.0.a"}
    task = {"q": "q", "a": "a"}
    reader = read(jsonl(tmp_path / "b.jsonl", {"tasks": [task]}, {"tasks": [task, task]}), fields=named)
    assert len(list(reader)) == 2
    assert reader.notes == ["not used: further elements of tasks (records: 1)"]
    odd = jsonl(tmp_path / "c.jsonl", *(ASK | {f"n\ud800\n{n}": 1} for n in range(300)))
    reader = read(odd)
    assert len(list(reader)) == 300
    assert len(reader.notes) == 100
    assert all(note.isprintable() for note in reader.notes)


def chat(*turns: tuple[str, Any], keys: tuple[str, str] = ("role", "content"), **more: Any) -> list[dict[str, Any]]:
    return [dict(zip(keys, turn, strict=True)) | more for turn in turns]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    keys=st.sampled_from([("role", "content"), ("from", "value")]),
    user=st.sampled_from(["user", "human", "Human", " USER "]),
    assistant=st.sampled_from(["assistant", "gpt", "model", "Assistant", "bot", "chatgpt"]),
    system=st.sampled_from([None, "", "Be brief."]),
    split=st.booleans(),
)
def test_turns_are_read_by_role_whatever_they_are_called(
    keys: tuple[str, str], user: str, assistant: str, system: str | None, split: bool, tmp_path: Path
) -> None:
    turns = chat((user, "q"), (assistant, "a"), keys=keys)
    before = [] if system is None else chat(("System", system), keys=keys)
    if split:
        turns[0][keys[1]] = [{"type": "text", "text": "q"}, {"type": "text", "text": ""}]
    wanted = [("system: Be brief.\nuser: q" if system else "q", "", "a")]
    for column in ("messages", "conversations"):
        path = jsonl(tmp_path / "a.jsonl", {column: before + turns})
        assert parts(read(path)) == wanted
    named = {"instruction": "talk", "output": "talk"}
    assert parts(read(jsonl(tmp_path / "b.jsonl", {"talk": before + turns}), fields=named)) == wanted
    path = jsonl(tmp_path / "c.jsonl", {"prompt": [*before, turns[0]], "completion": [turns[1]]})
    assert parts(read(path)) == wanted


Q, A = ("user", "q"), ("assistant", "a")
BAD_TALK: list[tuple[Any, str]] = [
    (chat(Q, A, Q), "the last turn is the user's, not the assistant's"),
    (chat(Q, ("narrator", "x"), A), "unknown role 'narrator'"),
    (chat(Q, A, A), "the turn before the last is not the user's"),
    (chat(("system", "s"), A), "the turn before the last is not the user's"),
    (chat(A), "the turn before the last is not the user's"),
    (chat(Q, ("assistant", None)), "a turn without text content"),
    (chat(Q, ("assistant", 3)), "a turn whose content is no text"),
    (chat(Q, ("assistant", "a"), weight=0), "the last turn is marked as not to be learned (weight: 0)"),
    (chat(Q, ("assistant", "a"), train=False), "the last turn is marked as not to be learned (train: False)"),
    (chat(Q, ("assistant", "a"), tool_calls=[{"id": 1}]), "a turn with tool_calls"),
    (chat(Q, ("function_call", "{}"), ("observation", "1"), A), "a turn of a tool"),
    (chat(("user", [{"type": "image_url", "image_url": "x"}]), A), "a turn with a part of type 'image_url'"),
    (chat(Q, ("assistant", ""), Q, A), "an empty turn"),
    (chat(Q, ("assistant", " ")), "output is empty"),
    ([{"content": "q"}, *chat(A)], "a turn without a role"),
    ([{"role": 1, "content": "q"}, *chat(A)], "a turn without a role"),
    (["q", "a"], "a turn that is no object"),
    ({"role": ["user"], "content": ["q"]}, "a conversation that is no list of turns"),
    ([], "no turns"),
    (None, "messages is missing"),
]


@pytest.mark.parametrize(("talk", "reason"), BAD_TALK, ids=[reason for _, reason in BAD_TALK])
def test_what_is_wrong_with_a_conversation_is_named(talk: Any, reason: str, tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", {"messages": chat(Q, A, name=None, tool_calls=[])}, {"messages": talk})
    assert outcome(path) == ([("q", "", "a")], {reason: 1})


def test_consecutive_turns_are_kept_as_lines(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", {"messages": chat(("AI", "hi"), Q, ("human", "r"), A)})
    assert parts(read(path)) == [("assistant: hi\nuser: q\nuser: r", "", "a")]


@pytest.mark.parametrize("keys", [("role", "content"), ("from", "value")], ids=repr)
def test_places_do_not_teach_a_turn_of_another_role(keys: tuple[str, str], tmp_path: Path) -> None:
    named = {"instruction": f"talk.0.{keys[1]}", "output": f"talk.1.{keys[1]}"}
    talks = [chat(Q, A, keys=keys), chat(("system", "s"), Q, A, keys=keys), chat(A, Q, keys=keys)]
    examples, bad = outcome(jsonl(tmp_path / "a.jsonl", *({"talk": talk} for talk in talks)), fields=named)
    assert examples == [("q", "", "a")]
    assert sorted(reason.split(":")[0] for reason in bad) == [
        f"instruction ({named['instruction']}) is a turn of the assistant",
        f"instruction ({named['instruction']}) is a turn of the system",
    ]
    other = jsonl(tmp_path / "b.jsonl", {"prompt": chat(Q), "completion": "a"})
    with pytest.raises(BadRequest, match="instruction is a list of turns, the other is none"):
        list(read(other))


HEAD = "instruction,output\n"
QUOTES = {  # what follows the header: line in which the row begins that is named
    "one row": ('"a,b\nc,d\ne,f\n', 2),
    "later": ('a,b\nc,"d\ne,f\n', 3),
    "met by another quote": ('a,b\n"c,d\ne,f\n"g",h\n', 3),
    "odd within a line": ('"He said "hi", then,b\nc,d\n', 2),
    "old Mac": ('"a,b\rc,d\re,f\r', 2),
}


@pytest.mark.parametrize("name", QUOTES)
def test_a_quote_that_swallows_rows_is_refused_with_its_line(name: str, tmp_path: Path) -> None:
    rest, line = QUOTES[name]
    path = tmp_path / "a.csv"
    path.write_text(HEAD + rest, newline="")
    with pytest.raises(BadRequest, match=f"a quote of the row that begins in line {line} is out of place"):
        list(read(path, on_bad="skip"))


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("a,b,c", "more fields than the header"),
        ("a", "fewer fields than the header"),
        ('"a\nb",c,d', "more fields than the header, over 2 lines"),
        ('"a" b,c', "a quote out of place"),
    ],
)
def test_bad_rows_of_a_table_have_their_reason(row: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f'{HEAD}x,5" disk\n{row}\ny,"z\nz"\n')
    assert outcome(path) == ([("x", "", '5" disk'), ("y", "", "z\nz")], {reason: 1})


def test_quotes_of_a_csv_in_a_tsv_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text('instruction\toutput\n"x"\ty\n"say ""x"""\ty\n"""\t"a""\n')
    reason = "a field in quotes with others doubled, as in a .csv: a .tsv has none"
    assert outcome(path) == ([('"x"', "", "y"), ('"""', "", '"a""')], {reason: 1})


def test_nothing_stands_twice(tmp_path: Path) -> None:
    for name, mark in (("a.csv", ","), ("a.tsv", "\t")):
        path = tmp_path / name
        path.write_text(mark.join(["instruction", "output", "output"]) + "\n" + mark.join("abc") + "\n")
        with pytest.raises(BadRequest, match="column 'output' stands twice"):
            read(path)
    twice = '{"instruction": "i", "output": "o", "output": "p"}'
    for name, content in (("a.jsonl", GOOD.decode() + twice), ("a.json", f"[{GOOD.decode()}, {twice}]")):
        (tmp_path / name).write_text(content)
        assert outcome(tmp_path / name) == ([("i", "", "o")], {"key 'output' twice": 1})
    talk = '{"messages": [{"role": "user", "content": "q", "content": "r"}, {"role": "assistant", "content": "a"}]}'
    (tmp_path / "b.jsonl").write_text(talk)
    with pytest.raises(BadRequest, match="key 'content' twice"):
        list(read(tmp_path / "b.jsonl"))
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = pyarrow.Table.from_arrays([pyarrow.array([c]) for c in "abc"], names=["instruction", "output", "output"])
    parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(BadRequest, match="column 'output' stands twice"):
        read(tmp_path / "a.parquet")


@pytest.mark.parametrize("kind", ["jsonl", "tsv", "csv", "csv quoted", "json", "parquet"])
def test_a_record_above_the_limit_is_broken_and_never_cut(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (files, corpora):
        monkeypatch.setattr(module, "LIMIT", 3000)
    records = [{"instruction": name, "output": size * "x"} for name, size in (("a", 10), ("b", 7000), ("c", 2900))]
    path = tmp_path / f"a.{kind.split()[0]}"
    if kind in ("tsv", "csv", "csv quoted"):
        quote = '"' if kind == "csv quoted" else ""
        rows = [list(records[0]), *(list(record.values()) for record in records)]
        path.write_text(
            "".join(("\t" if kind == "tsv" else f"{quote},{quote}").join(row).join(2 * [quote]) + "\n" for row in rows)
        )
    else:
        write(path, records)
    examples, bad = outcome(path)
    assert [(instruction, len(output)) for instruction, _, output in examples] == [("a", 10), ("c", 2900)]
    assert bad == {"longer than 3,000 characters": 1}


LINES = GOOD.decode()
LOOKS = {
    "gzip data": ("a.jsonl", gzip.compress(GOOD, mtime=0)),
    "gzip data ": ("a.csv.gz", gzip.compress(gzip.compress(GOOD, mtime=0))),
    "xz data": ("a.json.gz", lzma.compress(GOOD)),
    "bzip2 data": ("a.tsv", bz2.compress(GOOD)),
    "Zstandard data": ("a.json", b"\x28\xb5\x2f\xfd\x04"),
    "a zip archive": ("a.parquet", b"PK\x03\x04"),
    "Parquet data": ("a.jsonl", b"PAR1\x15\x04"),
    "UTF-16 text": ("a.csv", LINES.encode("utf-16")),
    "UTF-16 text ": ("a.jsonl.gz", gzip.compress(LINES.encode("utf-16"), mtime=0)),
    "UTF-32 text": ("a.json", LINES.encode("utf-32")),
    "binary data, or UTF-16": ("a.tsv", LINES.encode("utf-16-le")),
    "binary data, or UTF-16 ": ("a.jsonl", LINES.encode("utf-16-be")),
    "a Git LFS pointer": ("a.jsonl", b"version https://git-lfs.github.com/spec/v1\n"),
    "a web page": ("a.json", b"\n<!DOCTYPE html>"),
}


@pytest.mark.parametrize("looks", LOOKS)
def test_what_is_not_what_its_name_says_is_named(looks: str, tmp_path: Path) -> None:
    name, content = LOOKS[looks]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadRequest, match=rf"cannot be read: it looks like {looks.strip()}"):
        read(tmp_path / name)


ONE = json.dumps(ASK, indent=1)
SINGLE = {
    "column-wise": json.dumps({"instruction": {"0": "a", "1": "b"}, "output": {"0": "x", "1": "y"}}),
    "column-wise ": json.dumps({"instruction": ["a", "b"], "output": ["x", "y"]}, indent=1),
    r"one JSON object.*those in train, test": json.dumps({"train": [ASK], "test": [ASK]}, indent=1),
    r"one JSON object.*those in rows": json.dumps({"version": "1", "rows": [ASK, ASK]}),
    "one JSON object of objects": json.dumps({"0": ASK, "1": ASK}, indent=1),
    "neither an array nor JSON lines": f"{ONE}\n{ONE}",
    "nested too deeply": f'[{ONE}, {{"x": {100_000 * "["}',
    "nested too deeply ": f'{{"x": {100_000 * "["}{100_000 * "]"}}}',
}


@pytest.mark.parametrize("says", SINGLE)
@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_json_of_another_form_is_named(says: str, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(SINGLE[says])
    with pytest.raises(BadRequest, match=says.strip()) as refusal:
        list(read(tmp_path / name))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "A.JSONL", "a.Json.GZ"])
@pytest.mark.parametrize("content", [ONE, f"[{ONE}\n]", json.dumps([ASK]), json.dumps(ASK), "\ufeff" + json.dumps(ASK)])
def test_json_is_read_by_what_it_holds(content: str, name: str, tmp_path: Path) -> None:
    raw = content.encode()
    (tmp_path / name).write_bytes(gzip.compress(raw) if name.endswith("GZ") else raw)
    assert parts(read(tmp_path / name)) == [("Add.", "", "Done.")]


@pytest.mark.parametrize(("mark", "said"), [(";", "';'"), ("|", r"'\|'"), ("\t", "a tab")])
def test_another_separator_is_named(mark: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"instruction{mark}output\na{mark}b\n")
    with pytest.raises(BadRequest, match=f"its separator seems to be {said}"):
        read(tmp_path / "a.csv")


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "zero.jsonl").symlink_to("/dev/zero")
    for path in (tmp_path / "pipe.jsonl", tmp_path / "zero.jsonl", Path("/dev/zero")):
        with pytest.raises(BadRequest, match="is no regular file"):
            read(path)
    for name in ("x" * 300 + ".jsonl", "a\0b.jsonl", "a.jsonl/b.jsonl"):
        with pytest.raises(BadRequest, match="does not exist"):
            read(tmp_path / name)


def test_messages_can_be_printed_whatever_the_file_holds(tmp_path: Path) -> None:
    for name, content in (("a.csv", b'r\xe9ponse,"x\ny"\na,b\n'), ("a.jsonl", rb'{"\ud800\n": {"\udfff": [1]}}')):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(BadRequest, match="none of the known shapes") as refusal:
            read(tmp_path / name)
        assert str(refusal.value).encode()
        assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("file", sorted(DATA.rglob("*.*")), ids=lambda file: file.name)
def test_no_record_of_a_published_file_is_broken(file: Path) -> None:
    if file.suffix not in (".txt", ".md"):
        assert all(isinstance(record, dict) for _, record in files.records(file))
