"""Files of records, read as a stream: JSON, JSON lines, CSV, TSV, Parquet and folders by `datasets.save_to_disk`.

Guaranteed:
- a record is whole, or `Broken` with its reason: one above `LIMIT` characters is never cut, a key is never overwritten;
- where one fault makes it doubtful where records begin and end (a quote that does not close, a broken array), the file
  is refused with the place: no text within a record becomes a record of its own, no record is swallowed;
- one record is held at a time (of Parquet a batch within one row group; of a `datasets` folder what it maps);
- a file that is not what its name says is refused with what it looks like.
Left open: quotes that open in one row of a CSV and close in another so that the number of fields is right.
"""

import csv
import gzip
import io
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import yaml

from labkit.errors import BadRequest, first_line

LIMIT = 1 << 24  # characters of one record; a longer one counts as broken
_CHUNK = 1 << 20
_TEXT = 200  # characters kept of what is broken
_COLUMNS = 30  # columns named in a message
_NOT_JSON, _TOO_DEEP = "broken JSON", "nested too deeply"
_ENDS = ("\n", "\r")
_BETWEEN = re.compile(r"[\s,]*")  # elements of an array
# How files of other kinds begin, and what they look like.
_LOOKS = {
    begin.encode("latin-1"): looks
    for begin, looks in yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text("utf-8")).items()
}


class Broken(NamedTuple):
    """What stands in a file where a record should be."""

    reason: str
    text: str


class _Line(NamedTuple):
    """A line, its number of quotes, and whether it is cut because it is above `LIMIT`."""

    text: str
    quotes: int
    cut: bool


def shown(names: Iterable[Any]) -> str:
    """Names from a file as part of a sentence: on one line, printable, not endless."""
    listed = ["".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(name)[:60]) for name in names]
    more = f" and {len(listed) - _COLUMNS} more" if len(listed) > _COLUMNS else ""
    return ", ".join(listed[:_COLUMNS]) + more


def too_long() -> str:
    return f"longer than {LIMIT:,} characters"


def utf8(*texts: str) -> bool:
    """Whether texts hold no lone surrogate, which a file that is no UTF-8 or an escape of JSON leaves."""
    try:
        return bool("".join(texts).encode())
    except UnicodeEncodeError:
        return False


def counted(reasons: Counter[str]) -> str:
    return ", ".join(f"{reason} ({count})" for reason, count in reasons.most_common())


def needed(package: str, what: str) -> Any:
    """A package that not every installation has."""
    try:
        return import_module(package)
    except ImportError:
        name = package.split(".")[0]
        raise BadRequest(f"{what} needs the package {name}: pip install 'labkit[qlora]'") from None


def records(path: Path, *, headless: bool = False) -> Iterator[tuple[int, Any]]:
    """The records of a file or folder with their numbers (the line, where a record is a line), `Broken` among them.

    Raises:
        BadRequest: for a missing file, an unknown format, or a file that cannot be read on.
    """
    row = None
    try:
        for row in _rows(path, headless):
            yield row
    except (OSError, EOFError, zlib.error) as error:
        raise BadRequest(f"{path} cannot be read: {first_line(error)}") from None
    if row is None:
        raise BadRequest(f"{path} is empty")


def _rows(path: Path, headless: bool) -> Iterator[tuple[int, Any]]:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):
        raise BadRequest(f"{path} does not exist") from None
    if path.is_dir():
        return _saved(path)
    if not path.is_file():
        raise BadRequest(f"{path} is no regular file: a device or pipe is not read")
    zipped = path.suffix.lower() == ".gz"
    suffix = (path.with_suffix("") if zipped else path).suffix.lower()
    if suffix == ".parquet" and not zipped:
        return _parquet(path)
    if suffix not in (".json", ".jsonl", ".csv", ".tsv"):
        raise BadRequest(f"{path}: unknown format; .json, .jsonl, .csv, .tsv (each also .gz) and .parquet can be read")
    return _text(path, suffix, zipped, headless)


def _refuse_other(path: Path, file: BinaryIO, but: str = "") -> None:
    """Refuse a file that begins as data of another kind than `but`."""
    head = file.read(512)
    file.seek(0)
    looks = next((looks for begin, looks in _LOOKS.items() if re.match(begin, head, re.DOTALL)), "")
    if looks and not (but and looks.startswith(but)):
        raise BadRequest(f"{path} cannot be read: it looks like {looks}")


def _text(path: Path, suffix: str, zipped: bool, headless: bool) -> Iterator[tuple[int, Any]]:
    with path.open("rb") as stored:
        _refuse_other(path, stored, "gzip" if zipped else "")
        raw = cast(BinaryIO, gzip.GzipFile(fileobj=stored)) if zipped else stored
        if zipped:
            _refuse_other(path, raw)
        # What is no UTF-8 becomes lone surrogates, which no example may hold.
        text = io.TextIOWrapper(raw, "utf-8-sig", "surrogateescape", "" if suffix == ".csv" else "\n")
        if suffix in (".json", ".jsonl"):
            yield from _json(text, path, lines=suffix == ".jsonl")
        else:
            yield from _table(text, path, suffix == ".tsv", headless)


def _lines(text: io.TextIOWrapper) -> Iterator[_Line]:
    while line := text.readline(LIMIT + 1):
        start, quotes, cut = line, line.count('"'), len(line) > LIMIT and not line.endswith(_ENDS)
        while cut and not line.endswith(_ENDS) and (line := text.readline(_CHUNK)):
            quotes += line.count('"')
        yield _Line(start[:_TEXT] if cut else start, quotes, cut)


def _object(pairs: list[tuple[str, Any]]) -> Any:
    """A JSON object, or `Broken` where a key stands twice."""
    record = dict(pairs)
    if len(record) == len(pairs):
        return record
    key, _ = Counter(key for key, _ in pairs).most_common(1)[0]
    return Broken(f"key '{shown([key])}' twice", str(pairs)[:_TEXT])


_DECODER = json.JSONDecoder(object_pairs_hook=_object)


def _decoded(text: str, at: int = 0) -> tuple[Any, int]:
    """The JSON value that begins at a place and where it ends; where there is none, `Broken` to the end of the text."""
    try:
        return _DECODER.raw_decode(text, at)
    except (ValueError, RecursionError) as error:
        reason = _NOT_JSON if isinstance(error, ValueError) else _TOO_DEEP
        return Broken(reason, text[at : at + _TEXT]), len(text)


def _value(text: str) -> Any:
    """The JSON value that a text is, or `Broken`."""
    value, end = _decoded(text)
    return value if end == len(text) else Broken(_NOT_JSON, text[:_TEXT])


def _failed(value: Any) -> bool:
    return isinstance(value, Broken) and value.reason in (_NOT_JSON, _TOO_DEEP)


def _json(text: io.TextIOWrapper, path: Path, *, lines: bool) -> Iterator[tuple[int, Any]]:
    """The elements of an array, or JSON lines, whatever the name says; or one object over several lines."""
    window = text.read(_CHUNK).lstrip()
    if re.match(r"\[\s*\{" if lines else r"\[", window):
        yield from _array(text, path, window)
        return
    first, _, others = window.partition("\n")
    # Where the first line alone is no value, the whole file may be one; where that is none, the line is broken.
    if first.startswith("{") and others.strip() and _failed(_value(first.strip())):
        window += text.read(LIMIT)
        whole, end = _decoded(window)
        others = window[end:].strip()
        if others.startswith("{"):
            raise BadRequest(f"{path} is neither an array nor JSON lines: its objects go over several lines")
        if not others and not _failed(whole):
            yield 1, whole
            return
        if _failed(whole) and len(window) > LIMIT and first.strip() == "{":
            raise BadRequest(f"{path} is one JSON object, {too_long()}, not a list of records")
    text.seek(0)
    for number, line in enumerate(_lines(text), 1):
        if line.cut:
            yield number, Broken(too_long(), line.text)
        elif stripped := line.text.strip().lstrip("\ufeff"):  # the mark of a file that was appended
            yield number, _value(stripped)


def _array(text: io.TextIOWrapper, path: Path, window: str) -> Iterator[tuple[int, Any]]:
    """The elements, decoded one after the other from a window on the file."""
    at, number = 1, 1
    while True:
        at = _BETWEEN.match(window, at).end()  # type: ignore[union-attr]
        if window[at : at + 1] == "]":
            if (window[at + 1 :] + text.read(_CHUNK)).strip():
                raise BadRequest(f"{path} goes on after its array: it is not one JSON value")
            return
        record, end = _decoded(window, at)
        if isinstance(record, Broken) and record.reason == _TOO_DEEP:
            raise BadRequest(f"{path}: record {number} is {_TOO_DEEP}")
        if end < len(window):
            yield number, Broken(too_long(), window[at : at + _TEXT]) if end - at > LIMIT else record
            at, number = end, number + 1
            continue
        more = text.read(_CHUNK)  # what ends with the window may go on after it
        if not more or end - at > LIMIT:
            long = f", or this record is {too_long()}" if more else ""
            raise BadRequest(f"{path} is broken from record {number} on, {window[at : at + 60]!a}: an array cannot "
                             f"be read past that (JSON lines could){long}")  # fmt: skip
        window, at = window[at:] + more, 0


def _table(text: io.TextIOWrapper, path: Path, tabs: bool, headless: bool) -> Iterator[tuple[int, Any]]:
    csv.field_size_limit(LIMIT + 1)
    form: dict[str, Any] = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if tabs else {}
    lines, columns = list[_Line](), list[str]()  # the lines of the row that is being read
    rows = csv.reader(_fed(text, lines), strict=True, **form)
    while True:
        lines.clear()
        number, row, reason = rows.line_num + 1, list[str](), ""
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            reason = _wrong_quote(lines, number, path, tabs, str(error))
        if any(line.cut for line in lines):
            reason = too_long()
        if not columns and reason:
            raise BadRequest(f"{path}: its first row cannot be read: {reason}")
        if not columns and row:
            columns = [str(i) for i in range(len(row))] if headless else _header(row, path, tabs)
            if not headless:
                continue
        if row and not reason and len(row) != len(columns):
            which, first = "more" if len(row) > len(columns) else "fewer", "first row" if headless else "header"
            over = f", over {len(lines)} lines" if len(lines) > 1 else ""
            reason = f"{which} fields than the {first}{over}"
        if tabs and any(map(_doubled, row)):
            reason = reason or "a field in quotes with others doubled, as in a .csv: a .tsv has none"
        if reason:
            yield number, Broken(reason, lines[0].text[:_TEXT])
        elif row:
            yield number, dict(zip(columns, row, strict=True))


def _doubled(field: str) -> bool:
    """Was a field written in quotes, its own doubled? Quotes around it alone may be its own."""
    inner = field[1:-1]
    return field[:1] == field[-1:] == '"' and '""' in inner and '"' not in inner.replace('""', "")


def _fed(text: io.TextIOWrapper, row: list[_Line]) -> Iterator[str]:
    """Lines for the csv module; `row` collects those of the row that is being read."""
    size = 0
    for line in _lines(text):
        size = len(line.text) + (size if row else 0)
        row.append(line)
        if size > LIMIT + 1:
            raise csv.Error(too_long())
        # After a cut line it is read on from the same side of a quote as after the whole line.
        yield line.text if not line.cut else '"\n' if line.quotes % 2 else "\n"


def _wrong_quote(lines: list[_Line], number: int, path: Path, tabs: bool, error: str) -> str:
    """The reason of a row that is bad by itself; where it may have swallowed others, the file is refused."""
    if tabs:
        return "a line break within a row"
    first = lines[0]
    # At the end of the file no other row is behind an open quote.
    if len(lines) == 1 and (first.cut or first.quotes % 2 == 0 or "end of data" in error):
        return "a quote out of place"
    raise BadRequest(f"{path}: a quote of the row that begins in line {number} is out of place or does not close "
                     f"(it was read to line {number + len(lines) - 1}): where the rows after it begin is unknown; mend "
                     f"{first.text.strip()[:60]!a}")  # fmt: skip


def _refuse_twice(path: Path, names: Iterable[str], where: str = "") -> None:
    if twice := [name for name, count in Counter(names).items() if count > 1 and name.strip()]:
        raise BadRequest(f"{path}: column '{shown(twice[:1])}' stands twice{where}")


def _header(row: list[str], path: Path, tabs: bool) -> list[str]:
    _refuse_twice(path, row, " in the header")
    other = next((mark for mark in (",;|" if tabs else ";\t|") if mark in row[0]), None)
    if len(row) == 1 and other:
        name = "a tab" if other == "\t" else f"'{other}'"
        raise BadRequest(f"{path} has one column, {shown(row)}: its separator seems to be {name}; a .csv has commas, a "
                         ".tsv tabs")  # fmt: skip
    return row


def _parquet(path: Path) -> Iterator[tuple[int, Any]]:
    parquet, arrow = needed("pyarrow.parquet", f"{path}: Parquet"), needed("pyarrow", f"{path}: Parquet")
    with path.open("rb") as raw:
        _refuse_other(path, raw, "Parquet")
    try:
        table = parquet.ParquetFile(path, pre_buffer=False)
        _refuse_twice(path, table.schema_arrow.names)
        batches = table.iter_batches(256)
        yield from enumerate((row for batch in batches for row in batch.to_pylist()), 1)
    except arrow.ArrowException as error:
        raise BadRequest(f"{path} is no whole Parquet file: {first_line(error)}") from None


def _saved(path: Path) -> Iterator[tuple[int, Any]]:
    datasets = needed("datasets", "this source")
    try:
        stored = datasets.load_from_disk(str(path))
    except (FileNotFoundError, ValueError):
        raise BadRequest(f"{path} is no folder written by datasets.save_to_disk") from None
    if isinstance(stored, datasets.DatasetDict):
        if "train" not in stored:
            raise BadRequest(f"{path} has no split 'train'; give the folder of one of its splits: {', '.join(stored)}")
        stored = stored["train"]
    yield from enumerate(stored, 1)
