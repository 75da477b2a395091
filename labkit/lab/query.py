"""SQL over the store: the points' rows, read and checked here, as tables of DuckDB.

Tables: one per study, named by it, and `points`, which is all of them (or the one study asked for). A row is a point:
its settings and what was measured. Lists of counts by rule are left out of `points` unless a query names them through
the study's own table.

A column's type follows from all its values: whole numbers, numbers, true and false, text, lists or records of these.
Where values differ in kind, within a study or between two, the column is text. Texts stay as they are written.

Limits: an answer has to fit into `MEMORY`; a study called `points`, or as another in other case, has no
table of its own.
"""

import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import TYPE_CHECKING, Any

from labkit.errors import BadRequest, first_line
from labkit.lab.store import Row, Store

if TYPE_CHECKING:
    import duckdb
    import pandas as pd

MEMORY = "1GB"
DEEPEST = 8  # records within records that become columns of columns; what lies deeper is JSON
ALL_POINTS = "points"
# what cannot be taken out of DuckDB, or not be shown, as it is: time zones (they would need pytz), bytes, ...
SHOWN_AS_TEXT = re.compile(r"TIME|DATE|BLOB|UUID|INTERVAL|BIT|UNION|MAP")


def query(store: Store, *args: Any, **options: Any) -> "pd.DataFrame":
    """The answer to a query, as `answer` gives it, as a frame of Python's own values; raises as it does."""
    import pandas as pd

    columns, rows = answer(store, *args, **options)
    return pd.DataFrame(rows, columns=columns, dtype=object)


def answer(
    store: Store, study: str | None = None, sql: str | None = None, warn: Callable[[str], None] | None = None,
    only: Collection[str] | None = None,
) -> tuple[list[str], list[tuple[Any, ...]]]:  # fmt: skip
    """The columns and rows of the answer to `sql`, default every scalar column of `points`.

    Args:
        warn: Takes a sentence for each entry of the store that cannot be read, while the others are; default: the
            first such entry is refused.
        only: The addresses of the points that are looked at; default all.

    Raises:
        BadRequest: for an empty or damaged store, or a query that DuckDB refuses.
    """
    import duckdb

    rows = rows_by_study(store, study, warn, only)
    try:
        with duckdb.connect(config={"memory_limit": MEMORY, "temp_directory": "", "threads": 2}) as db:
            tables = [_create(db, name, its_rows) for name, its_rows in rows.items() if name.casefold() != ALL_POINTS]
            if len(rows) == len(tables) == 1:  # all that there is stands in that table: nothing is read twice
                db.execute(f"create view {ALL_POINTS} as {tables[0]}")
            else:
                _create(db, ALL_POINTS, list(chain.from_iterable(rows.values())), lists=False)
            db.execute("set enable_external_access = false")
            db.execute("set lock_configuration = true")
            return _answer(db, _checked(db, sql) if sql else f"from {ALL_POINTS}")
    except duckdb.Error as error:
        raise BadRequest(f"the query was refused: {first_line(error)}") from None


def rows_by_study(store: Store, study: str | None = None, warn: Callable[[str], None] | None = None,
                  only: Collection[str] | None = None) -> dict[str, list[Row]]:  # fmt: skip
    """The finished rows by study. What cannot be read is named, and refused where nothing else is left; see `query`."""
    rows: dict[str, list[Row]] = {}
    complaints: list[str] = []
    for name in [study] if study else store.studies():
        found, troubles = store.read(name)
        complaints += troubles
        if chosen := [row for row in found if only is None or row["address"] in only]:
            rows[name] = chosen
    if complaints and (warn is None or not rows):
        raise BadRequest(complaints[0])
    if warn:
        for complaint in complaints:
            warn(complaint)
    if not rows:
        which = f" of {study}" * bool(study) + " among those asked for" * (only is not None)
        raise BadRequest(f"no finished points{which} in {store.root}: `labkit run` makes some")
    return rows


def shown_rows(store: Store, rows: Mapping[str, Sequence[Row]]) -> list[Row]:
    """The rows for people, sorted by the settings that vary; these come first, then accuracies, last what is constant.

    Lists, and settings that do not vary, are left out.
    """
    settings, every = settings_of(store, rows), [*chain.from_iterable(rows.values())]
    columns = {key: [row.get(key) for row in every] for key in dict.fromkeys(chain.from_iterable(every))}
    constant = {key for key, values in columns.items() if len(set(map(str, values))) == 1}
    varying = sorted((key for key in settings if key not in constant), key="seed".__eq__)  # the seeds stand together
    first, *plain = [
        key for key, values in columns.items() if key not in settings and not isinstance(_type(values), list)
    ]
    plain.sort(key=lambda key: (not key.startswith("accuracy_"), key in constant))
    every.sort(key=lambda row: [sort_key(row.get(key)) for key in varying])
    return [{key: row.get(key) for key in (first, *varying, *plain)} for row in every]


def sort_key(value: Any) -> tuple[bool, float, str]:
    """Numbers by their size, then everything else by its text."""
    number = isinstance(value, int | float)
    return not number, value if number else 0, str(value)


def settings_of(store: Store, rows: Mapping[str, Sequence[Row]]) -> list[str]:
    """The columns that are settings, not measurements: what `point.json` of the last point of each study holds."""
    latest = {name: max(its_rows, key=lambda row: str(row["finished"])) for name, its_rows in rows.items()}
    return list(dict.fromkeys(key for name, row in latest.items() for key in store.settings(name, row["address"])))


def _create(db: "duckdb.DuckDBPyConnection", name: str, rows: Sequence[Row], *, lists: bool = True) -> str:
    """Make a table of rows, which DuckDB reads as JSON by types that hold for all of them; SQL for it without lists."""
    types = {key: _type([row.get(key) for row in rows]) for key in dict.fromkeys(chain.from_iterable(rows))}
    chosen = [key for key, kind in types.items() if lists or not isinstance(kind, list)]
    places = {f"c{i}": types[key] for i, key in enumerate(chosen)}
    columns = ", ".join(f"line.{place} as {_quoted(key)}" for place, key in zip(places, chosen, strict=True))
    structure = json.dumps(places).replace("'", "''")
    db.execute(
        f"create table if not exists {_quoted(name)} as select {columns} "
        f"from (select from_json_strict(line, '{structure}') as line from (select unnest($lines) as line))",
        {"lines": [_line(row, chosen) for row in rows]},
    )
    made = db.execute(f"describe {_quoted(name)}").fetchall()  # names that differ in case alone are changed
    scalars = [_quoted(there[0]) for there, key in zip(made, chosen, strict=True) if not isinstance(types[key], list)]
    return f"select {', '.join(scalars)} from {_quoted(name)}"


def _line(row: Row, keys: Sequence[str]) -> str:
    text = json.dumps({f"c{i}": row.get(key) for i, key in enumerate(keys)}, ensure_ascii=False)
    return _whole_characters(text)


def _type(values: Iterable[Any], depth: int = 0) -> Any:
    """The type of a column in the form of DuckDB's `from_json`: a name, [type] for lists, {key: type} for records."""
    known = [value for value in values if value is not None]
    kinds = {type(value) for value in known}
    if kinds == {bool}:
        return "BOOLEAN"
    if kinds == {int}:
        return "BIGINT" if all(-(2**63) <= value < 2**63 for value in known) else "DOUBLE"
    if kinds and kinds <= {int, float}:
        return "DOUBLE"
    if kinds == {list} and depth < DEEPEST:
        return [_type(chain.from_iterable(known), depth + 1)]
    return _record_type(known, depth) if kinds == {dict} and depth < DEEPEST else "VARCHAR"


def _record_type(records: Sequence[Row], depth: int) -> Any:
    keys = set(chain.from_iterable(records))
    named = {key.casefold() for key in keys if key and key.isprintable()}
    if not keys or len(named) < len(keys) or any(record.keys() != keys for record in records):
        return "JSON"  # records of different fields, or of names that DuckDB has not or would not tell apart
    return {key: _type((record[key] for record in records), depth + 1) for key in records[0]}


def _checked(db: "duckdb.DuckDBPyConnection", sql: str) -> str:
    """The one SELECT that a query is."""
    try:
        sql.encode()
    except UnicodeEncodeError:
        raise BadRequest(f"--sql {sql!r} holds half a character") from None
    statements = db.extract_statements(sql)
    if [statement.type.name for statement in statements] != ["SELECT"]:
        raise BadRequest(f"--sql {sql!r} is not one SELECT: results are read, never changed")
    return str(statements[0].query).strip().rstrip(";")


def _answer(db: "duckdb.DuckDBPyConnection", select: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    """What a SELECT says, with values as Python's own: whole numbers stay whole beside empty places."""

    def run() -> tuple[list[str], list[tuple[Any, ...]]]:
        db.execute(f"create temp table answer as {select}")  # within the memory limit, unlike what leaves DuckDB
        kinds = db.execute("describe answer").fetchall()
        as_text = "{0}::varchar as {0}".format
        names = [(_quoted(column), kind) for column, kind, *_ in kinds]
        shown = [as_text(name) if SHOWN_AS_TEXT.search(kind) else name for name, kind in names]
        rows = db.execute(f"select {', '.join(shown)} from answer").fetchall()
        if records := {place for place, (_, kind, *_) in enumerate(kinds) if kind == "JSON"}:
            rows = [tuple(json.loads(value) if value and place in records else value
                          for place, value in enumerate(row)) for row in rows]  # fmt: skip
        return [column for column, *_ in kinds], rows

    with ThreadPoolExecutor(1) as pool:  # this thread heeds Ctrl-C while DuckDB is at work
        waiting = pool.submit(run)
        try:
            return waiting.result()
        except BaseException:
            db.interrupt()
            raise


def _quoted(name: str) -> str:
    return '"' + (_whole_characters(name).replace('"', '""') or " ") + '"'


def _whole_characters(text: str) -> str:
    """DuckDB takes no halves of surrogate pairs, as a model's answer or a folder's name may hold them."""
    return text.encode("utf-8", "replace").decode()
