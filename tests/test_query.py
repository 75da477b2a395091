"""SQL over the store: every study, every type and every format, and one damaged entry hides nothing else."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from command import labkit
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit import BadRequest
from labkit.lab import Store
from labkit.lab.query import query

FINISHED = "2026-11-29T22:58:27+0000"


@pytest.fixture
def store(own_store: Path) -> Store:
    return Store(own_store)


def put(store: Store, study: str, number: int, **row: Any) -> Path:
    """A finished point as an earlier version left it, without a seal."""
    folder = store.points_folder(study) / f"{number:016x}"
    folder.mkdir(parents=True)
    head = {"study": study, "version": 1}
    (folder / "point.json").write_text(json.dumps(head))
    row = {"address": folder.name, **head, **row, "finished": FINISHED}
    (folder / "result.json").write_text(json.dumps(row))
    return folder


VALUES = {
    "flag": True,
    "whole": 3,
    "large": 2**62 + 1,
    "beyond": 10**30,
    "number": 0.1,
    "text": "zwölf",
    "date": "2024-01-02",
    "digits": "007",
    "nothing": None,
    "list": [1, 2.5],
    "lists": [[1], []],
    "record": {"a": 1, "t": FINISHED},
    "other record": {"b": {"c": [None]}},
    "bare record": {},
    "records": [{"a": 1}, {"b": "x"}],
    "twins": {"a": 1, "A": 2},
    "deep": json.loads("[" * 40 + "]" * 40),
    "half": "\ud800",
}


@pytest.mark.parametrize("form", ["table", "csv", "json"])
@pytest.mark.parametrize("study", [None, "long_tail"])
def test_columns_of_any_two_types_are_shown_in_every_format(store: Store, form: str, study: str | None) -> None:
    """Within one study and between two."""
    pairs = {f"{one} and {other}": (VALUES[one], VALUES[other]) for one in VALUES for other in VALUES}
    put(store, "long_tail", 1, **{name: first for name, (first, _) in pairs.items()})
    put(store, "long_tail", 2, **{name: second for name, (_, second) in pairs.items()}, late=1)
    put(store, "curriculum", 3, **{name: second for name, (_, second) in pairs.items()})
    done = labkit("results", *([study] if study else []), "--format", form)
    assert done.returncode == 0, done.stderr
    if form == "csv":
        rows = list(csv.DictReader(io.StringIO(done.stdout)))
        assert [row["finished"] for row in rows] == [FINISHED] * (2 if study else 3)
        shown = [row["whole and text"] for row in rows if row["study"] == "long_tail"]
        assert shown == ["3", "zwölf"]


@pytest.mark.parametrize("name", [name for name in VALUES if name not in ("half", "beyond", "list", "lists", "deep")])
def test_a_column_of_one_type_keeps_its_values(store: Store, name: str) -> None:
    put(store, "long_tail", 1, value=VALUES[name])
    put(store, "long_tail", 2)
    (first, second) = query(store, sql="select value from long_tail order by address")["value"]
    assert (first, second) == (VALUES[name] if name != "bare record" else {}, None) or name == "records"


def test_a_question_on_the_command_line_takes_no_pandas(store: Store) -> None:
    """To load it takes longer than to answer a question about thousands of points."""
    put(store, "long_tail", 1, value=4)
    code = (
        "import sys; from labkit.lab import Store, query; print(query.answer(Store.default()), 'pandas' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "'value'" in done.stdout
    assert done.stdout.endswith("False\n")


def test_lists_are_in_the_table_of_their_study_alone(store: Store) -> None:
    put(store, "long_tail", 1, hits=[1, 2], per={"a": 4})
    assert "hits" not in query(store)
    assert query(store, sql="select sum(u) as s from (select unnest(hits) as u from long_tail)")["s"].tolist() == [3]
    assert query(store, sql="select per.a from points")["a"].tolist() == [4]


@given(st.dictionaries(st.text(max_size=3), st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2), max_leaves=4),
    max_size=3))  # fmt: skip
@settings(max_examples=10)
def test_any_row_of_json_can_be_queried(tmp_path_factory: pytest.TempPathFactory, row: dict[str, Any]) -> None:
    store = Store(tmp_path_factory.mktemp("any"))
    heads = {"address", "study", "version", "finished"}
    for number, study in enumerate(["toy", "toy", "other"]):
        fields = row if number else {}
        put(store, study, number, **{key: value for key, value in fields.items() if key not in (*heads, "store")})
    assert query(store, sql="select count(*) as n from points")["n"].tolist() == [3]


@pytest.mark.parametrize(
    "name", ["points", "Points", 'say "x"', "it's", "a.b", "select", "ü ☃", "answer", "-1", "rows as JSON"]
)
def test_a_study_may_have_any_name(store: Store, name: str) -> None:
    put(store, name, 1, n=1)
    put(store, "long_tail", 2, n=2)
    assert sorted(query(store)["n"]) == [1, 2]
    assert sorted(query(store, sql="select n from points")["n"]) == [1, 2]
    if name.lower() != "points":
        quoted = name.replace('"', '""')
        assert query(store, sql=f'select n from "{quoted}"')["n"].tolist() == [1]


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"address": "another"}', "NaN", '{"a":' * 100_000])
@pytest.mark.parametrize("form", ["table", "csv", "json"])
def test_one_damaged_entry_hides_nothing_else(store: Store, damage: str, form: str) -> None:
    bad = put(store, "curriculum", 1, n=1)
    (bad / "result.json").write_text(damage)
    put(store, "curriculum", 2, n=22)
    put(store, "long_tail", 3, n=33)
    done = labkit("results", "--format", form)
    assert done.returncode == 1
    assert "22" in done.stdout
    assert "33" in done.stdout
    assert str(bad) in done.stderr
    assert done.stderr.count("\n") == 1
    assert labkit("results", "long_tail", "--format", form).returncode == 0
    with pytest.raises(BadRequest, match="damaged result"):
        query(store)


def test_a_store_of_damaged_points_alone_is_refused(store: Store) -> None:
    (store.points_folder("toy") / "@eaDir").mkdir(parents=True)
    done = labkit("results")
    assert (done.returncode, done.stdout) == (2, "")
    assert "@eaDir" in done.stderr


@pytest.mark.parametrize(
    ("sql", "complaint"),
    [
        ("select '\ud800'", "half a character"),
        ("select 1; select 2", "not one SELECT"),
        ("create table x as select 1", "not one SELECT"),
        ("copy points to 'x.csv'", "not one SELECT"),
        ("select * from read_text('/etc/hostname')", "refused"),
        ("select * from glob('*')", "refused"),
        ("from range(10000000000)", "refused: Out of Memory"),
        ("select (" * 5000, "refused"),
        ("", "no rows"),
    ],
)
def test_a_query_reads_the_store_and_nothing_else(
    store: Store, sql: str, complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("labkit.lab.query.MEMORY", "100MB")
    put(store, "toy", 1)
    done = labkit("results", "--sql", sql or "select 1 where false")
    assert complaint in done.stderr + done.stdout
    assert done.returncode == (2 if sql else 0)


@pytest.mark.parametrize("form", ["table", "csv", "json"])
def test_every_kind_of_answer_is_shown(store: Store, form: str) -> None:
    put(store, "toy", 1)
    sql = (
        "select now(), {'t': now()}, [now()], 1.5 as d, 'nan'::double, '-inf'::float, uuid(), interval 1 day, null, "
        "date '9999-12-31', timestamp '0001-01-01', map {'a': 1}, [1, null], 10::hugeint, time '10:00', '1'::bit, "
        "'x'::blob, 1 as d"
    )
    done = labkit("results", "--sql", sql, "--format", form)
    assert done.returncode == 0, done.stderr
    if form == "json":
        assert json.loads(done.stdout)[0]["d"] == 1.5


def test_an_endless_query_heeds_ctrl_c(store: Store) -> None:
    put(store, "toy", 1)
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    endless = "with recursive r as (select 1 as n union all select n % 7 from r) select count(*) from r"
    began = time.monotonic()
    done = labkit("results", "--sql", endless)
    assert (done.returncode, done.stderr) == (130, "labkit: interrupted\n")
    assert time.monotonic() - began < 60  # it came back at all


def test_thousands_of_points_fit_into_the_memory_of_a_small_machine(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DuckDB used to book 32 MiB per file: 2,000 points would have been 62 GiB."""
    rows = [{"address": f"{n:016x}", "study": "toy", "n": n, "right": [n] * 9} for n in range(2000)]
    monkeypatch.setattr(Store, "studies", lambda _: ["toy"])
    monkeypatch.setattr(Store, "read", lambda *_: (rows, []))
    monkeypatch.setattr("labkit.lab.query.MEMORY", "100MB")
    assert query(store)["n"].tolist() == list(range(2000))
