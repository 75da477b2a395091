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
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import yaml

from labkit.errors import BadRequest, first_line

LIMIT = 1 << 24  # characters of one record; a longer one counts as broken
_CHUNK = 1 << 20
_TEXT = 200  # characters kept of what is broken
_COLUMNS = 30  # columns named in a message
_NOT_JSON = "broken JSON"
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
    """A line, whole or, where it is above `LIMIT`, cut; then with how many quotes it had."""

    text: str
    cut: bool = False
    quotes: int = 0


def shown(names: Iterable[Any]) -> str:
    """Names from a file as part of a sentence: on one line, printable, not endless."""
    listed = ["".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(name)[:60]) for name in names]
    more = f" and {len(listed) - _COLUMNS} more" if len(listed) > _COLUMNS else ""
    return ", ".join(listed[:_COLUMNS]) + more


def exists(path: Path) -> bool:
    """Whether there is such a file; a name that cannot be one, or is too long, is none."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def too_long() -> str:
    return f"longer than {LIMIT:,} characters"


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


def _refuse_other(path: Path, head: bytes, but: str = "") -> None:
    """Refuse what begins as data of another kind than `but`."""
    looks = next((looks for begin, looks in _LOOKS.items() if re.match(begin, head, re.DOTALL)), "")
    if looks and not (but and looks.startswith(but)):
        raise BadRequest(f"{path} cannot be read: it looks like {looks}")


def _text(path: Path, suffix: str, zipped: bool, headless: bool) -> Iterator[tuple[int, Any]]:
    with path.open("rb") as raw:
        _refuse_other(path, raw.read(512), "gzip" if zipped else "")
    with cast(BinaryIO, gzip.open(path)) if zipped else path.open("rb") as raw:
        if zipped:
            _refuse_other(path, raw.read(512))
            raw.seek(0)
        # What is no UTF-8 becomes lone surrogates, which no example may hold.
        text = io.TextIOWrapper(raw, "utf-8-sig", "surrogateescape", "" if suffix == ".csv" else "\n")
        if suffix in (".json", ".jsonl"):
            yield from _json(text, path, lines=suffix == ".jsonl")
        else:
            yield from _table(text, path, suffix == ".tsv", headless)


def _lines(text: io.TextIOWrapper) -> Iterator[_Line]:
    while line := text.readline(LIMIT + 1):
        if len(line) <= LIMIT or line.endswith("\n"):
            yield _Line(line)
            continue
        start, quotes = line[:_TEXT], line.count('"')
        while not line.endswith(("\n", "\r")) and (line := text.readline(_CHUNK)):
            quotes += line.count('"')
        yield _Line(start, True, quotes)


def _object(pairs: list[tuple[str, Any]]) -> Any:
    """A JSON object, or `Broken` where a key stands twice."""
    record = dict(pairs)
    if len(record) == len(pairs):
        return record
    key, _ = Counter(key for key, _ in pairs).most_common(1)[0]
    return Broken(f"key '{shown([key])}' twice", str(pairs)[:_TEXT])


_DECODER = json.JSONDecoder(object_pairs_hook=_object)


def _value(text: str) -> Any:
    try:
        return _DECODER.decode(text)
    except RecursionError:
        return Broken("nested too deeply", text[:_TEXT])
    except ValueError:
        return Broken(_NOT_JSON, text[:_TEXT])


def _jsonl(text: io.TextIOWrapper) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(_lines(text), 1):
        if line.cut:
            yield number, Broken(too_long(), line.text)
        elif stripped := line.text.strip().lstrip("\ufeff"):  # the mark of a file that was appended
            yield number, _value(stripped)


def _json(text: io.TextIOWrapper, path: Path, *, lines: bool) -> Iterator[tuple[int, Any]]:
    """The elements of an array, or JSON lines, whatever the name says; or one object over several lines."""
    window = text.read(_CHUNK).lstrip()
    if re.match(r"\[\s*\{" if lines else r"\[", window):
        yield from _array(text, path, window)
        return
    whole = _one_object(text, path, window)
    if whole is not None:
        yield 1, whole
        return
    text.seek(0)
    yield from _jsonl(text)


def _one_object(text: io.TextIOWrapper, path: Path, window: str) -> Any:
    """The object that a file is, written over several lines; None for JSON lines, and what may be such."""
    first, _, others = window.partition("\n")
    line = _value(first)
    if not (first.startswith("{") and others.strip() and isinstance(line, Broken) and line.reason == _NOT_JSON):
        return None
    window += text.read(LIMIT)
    try:
        record, end = _DECODER.raw_decode(window)
    except (ValueError, RecursionError):
        if len(window) > LIMIT and first.strip() == "{":
            raise BadRequest(f"{path} is one JSON object, {too_long()}, not a list of records") from None
        return None
    others = window[end:].strip()
    if others.startswith("{"):
        raise BadRequest(f"{path} is neither an array nor JSON lines: its objects go over several lines")
    return None if others else record


def _array(text: io.TextIOWrapper, path: Path, window: str) -> Iterator[tuple[int, Any]]:
    """The elements, decoded one after the other from a window on the file."""
    between = re.compile(r"[\s,]*")
    at, number = 1, 0
    while True:
        at = between.match(window, at).end()  # type: ignore[union-attr]
        if window[at : at + 1] == "]":
            if (window[at + 1 :] + text.read(_CHUNK)).strip():
                raise BadRequest(f"{path} goes on after its array: it is not one JSON value")
            return
        try:
            record, end = _DECODER.raw_decode(window, at)
        except RecursionError:
            raise BadRequest(f"{path}: record {number + 1} is nested too deeply") from None
        except ValueError:
            end = len(window)
        if end < len(window):
            number += 1
            yield number, Broken(too_long(), window[at : at + _TEXT]) if end - at > LIMIT else record
            at = end
            continue
        more = text.read(_CHUNK)  # what ends with the window may go on after it
        if not more or end - at > LIMIT:
            long = f", or this record is {too_long()}" if more else ""
            raise BadRequest(f"{path} is broken from record {number + 1} on, {window[at : at + 60]!a}: an array cannot "
                             f"be read past that (JSON lines could){long}")  # fmt: skip
        window, at = window[at:] + more, 0


class _Feed:
    """Lines for the csv module; of the row being read it knows the first line and how many it took."""

    def __init__(self, lines: Iterator[_Line]) -> None:
        self.lines, self.number = lines, 0
        self.next_row()

    def next_row(self) -> None:
        self.first, self.size, self.cut = self.number + 1, 0, False
        self.line: _Line | None = None

    def __iter__(self) -> "_Feed":
        return self

    def __next__(self) -> str:
        line = next(self.lines)
        self.number += 1
        self.line = self.line or line
        self.size += len(line.text)
        if self.size > LIMIT:
            raise csv.Error(too_long())
        if not line.cut:
            return line.text
        self.cut = True  # what follows is read on from the same side of a quote as after the whole line
        return '"\n' if line.quotes % 2 else "\n"

    @property
    def over(self) -> int:
        """How many lines the row went over."""
        return self.number - self.first + 1

    @property
    def text(self) -> str:
        return self.line.text[:_TEXT] if self.line else ""

    @property
    def balanced(self) -> bool:
        """Whether as many quotes close as open in the first line."""
        return not self.line or (self.line.quotes or self.line.text.count('"')) % 2 == 0


def _table(text: io.TextIOWrapper, path: Path, tabs: bool, headless: bool) -> Iterator[tuple[int, Any]]:
    csv.field_size_limit(LIMIT + 1)
    form: dict[str, Any] = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if tabs else {}
    feed = _Feed(_lines(text))
    rows, columns = csv.reader(feed, strict=True, **form), list[str]()
    while True:
        feed.next_row()
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            reason = _wrong_quote(feed, path, tabs, str(error))
            if not columns:
                raise BadRequest(f"{path}: its first row cannot be read: {reason}") from None
            yield feed.first, Broken(reason, feed.text)
            continue
        if feed.cut and not columns:
            raise BadRequest(f"{path}: its first row is {too_long()}")
        if feed.cut:
            yield feed.first, Broken(too_long(), feed.text)
        elif row and not columns:
            columns = [str(i) for i in range(len(row))] if headless else _header(row, path, tabs)
            if headless:
                yield feed.first, dict(zip(columns, row, strict=True))
        elif len(row) == len(columns):
            yield feed.first, dict(zip(columns, row, strict=True))
        elif row:
            which = "more" if len(row) > len(columns) else "fewer"
            over = f", over {feed.over} lines" if feed.over > 1 else ""
            header = "first row" if headless else "header"
            yield feed.first, Broken(f"{which} fields than the {header}{over}", feed.text)


def _wrong_quote(feed: _Feed, path: Path, tabs: bool, error: str) -> str:
    """The reason of a row that is bad by itself; where it may have swallowed others, the file is refused."""
    if tabs:
        return "a line break within a row"
    if feed.cut and feed.over == 1:
        return too_long()
    closed = feed.balanced or "end of data" in error  # at the end no other row is behind an open quote
    if feed.over == 1 and closed:
        return "a quote out of place"
    raise BadRequest(f"{path}: a quote of the row that begins in line {feed.first} is out of place or does not close "
                     f"(it was read to line {feed.number}): where the rows after it begin is unknown; mend "
                     f"{feed.text.strip()[:60]!a}")  # fmt: skip


def _header(row: list[str], path: Path, tabs: bool) -> list[str]:
    if twice := [name for name, count in Counter(row).items() if count > 1 and name.strip()]:
        raise BadRequest(f"{path}: column '{shown(twice[:1])}' stands twice in the header")
    other = next((mark for mark in (",;|" if tabs else ";\t|") if mark in row[0]), None)
    if len(row) == 1 and other:
        name = "a tab" if other == "\t" else f"'{other}'"
        raise BadRequest(f"{path} has one column, {shown(row)}: its separator seems to be {name}; a .csv has commas, a "
                         ".tsv tabs")  # fmt: skip
    return row


def _parquet(path: Path) -> Iterator[tuple[int, Any]]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise BadRequest(f"{path}: Parquet needs pyarrow: pip install 'labkit[qlora]'") from None
    with path.open("rb") as raw:
        _refuse_other(path, raw.read(512), "Parquet")
    try:
        table = parquet.ParquetFile(path, pre_buffer=False)
        if twice := [name for name, count in Counter(table.schema_arrow.names).items() if count > 1]:
            raise BadRequest(f"{path}: column '{shown(twice[:1])}' stands twice")
        batches = table.iter_batches(256)
        yield from enumerate((row for batch in batches for row in batch.to_pylist()), 1)
    except ArrowException as error:
        raise BadRequest(f"{path} is no whole Parquet file: {first_line(error)}") from None


def needs_datasets() -> Any:
    """The package `datasets`, which not every installation has."""
    try:
        import datasets
    except ImportError:
        raise BadRequest("this source needs the package datasets: pip install 'labkit[qlora]'") from None
    return datasets


def _saved(path: Path) -> Iterator[tuple[int, Any]]:
    datasets = needs_datasets()
    try:
        stored = datasets.load_from_disk(str(path))
    except (FileNotFoundError, ValueError):
        raise BadRequest(f"{path} is no folder written by datasets.save_to_disk") from None
    if isinstance(stored, datasets.DatasetDict):
        if "train" not in stored:
            raise BadRequest(f"{path} has no split 'train'; give the folder of one of its splits: {', '.join(stored)}")
        stored = stored["train"]
    yield from enumerate(stored, 1)
