"""Real instruction data: named corpora and local files, read as a stream of examples.

Guaranteed:
- one record is held at a time, of at most `LIMIT` characters (of Parquet a batch within one row group; of a `datasets`
  folder what it maps): a file of any size is read in bounded memory;
- a bad record is counted by its reason and the first few are quoted; it is refused, or skipped where that is asked for;
- equal files give equal examples in equal order, whatever the format.
Left open: what a record says is not checked; a conversation of several turns becomes one example (see `Fields`); the
hub's stream is trusted at the pinned revision and has no checksum of ours.
"""

import csv
import gzip
import io
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import yaml

from labkit.errors import BadRequest, unknown
from labkit.instructions.example import Example

TaskType = Literal["code", "general", "reasoning", "mathematics", "knowledge", "writing"]
OnBad = Literal["refuse", "skip"]
LIMIT = 1 << 24  # characters of one record; a longer one counts as broken
_CHUNK = 1 << 20
_QUOTED = 3  # bad records quoted in a message
_AHEAD = 10_000  # records read on after the first bad one, to say how many more there are


class Fields(NamedTuple):
    """Which columns of a record make an example.

    Each of the three names a column (`question`; `instances.0.input` looks inside; `0` is the first column of a file
    without header) or is a template of columns (`"{rationale} The answer is {target}."`). Where `instruction` and
    `output` name one column, it is a conversation, a list of `{role, content}`: the last turn is the output; the
    instruction is the turn before, or, of several, all of them as lines `role: content`. `input` may be missing or
    empty in a record, the other two may not.

    Attributes:
        rewrite: Regular expressions with what replaces them, applied to all three.
    """

    instruction: str
    output: str
    input: str = ""
    rewrite: Sequence[tuple[str, str]] = ()


SHAPES = (
    Fields("instruction", "output", "input"),
    Fields("instruction", "response", "context"),
    Fields("instruction", "response", "input"),
    Fields("question", "answer"),
    Fields("problem", "solution"),
    Fields("prompt", "completion"),
    Fields("messages", "messages"),
)


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """A published instruction set.

    Attributes:
        hub: Id on the Hugging Face hub; None: not there, so that only a local copy can be read.
        revision: The pinned commit; a `refs/` name where it is not a commit.
        home: Where it comes from: paper or repository.
        files: Which of the hub repository's files, where not all.
        subset: The hub's configuration name, where it has several.
    """

    name: str
    revision: str
    licence: str
    fields: Fields
    task_type: TaskType
    home: str
    hub: str | None = None
    split: str = "train"
    files: str | None = None
    subset: str | None = None


def _published() -> dict[str, Corpus]:
    found = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text("utf-8"))
    return {name: Corpus(name=name, **{**row, "fields": Fields(**row["fields"])}) for name, row in found.items()}


CORPORA: dict[str, Corpus] = _published()


class Broken(NamedTuple):
    """What stands in a file where a record should be."""

    reason: str
    text: str


def read(
    source: str | Path,
    *,
    path: str | Path | None = None,
    fields: Mapping[str, str | int] | None = None,
    on_bad: OnBad = "refuse",
) -> "Reader":
    """The examples of a corpus or a file, as an iterable that can be gone through again.

    Args:
        source: A name in `CORPORA`, read from the hub at its pinned revision; or a local file (`.json`, an array or
            JSON lines; `.jsonl`; `.csv`; `.tsv`; each also `.gz`; `.parquet`), or a folder by `datasets.save_to_disk`.
        path: A local copy of a named corpus, to be read in place of the hub.
        fields: `instruction`, `output` and perhaps `input` (see `Fields`); default: the corpus' own, else detected.
        on_bad: What becomes of a bad record: `refuse` raises when the reader is iterated and meets the first (having
            read on for at most 10,000 records, to count them); `skip` goes on, and `reader.bad` has the counts.

    Raises:
        BadRequest: at once, for an unknown corpus or format, a missing or empty file, columns that do not fit; when
            iterated, for bad records, a source without a usable one, no access to the hub.
    """
    if on_bad not in get_args(OnBad):
        raise unknown("rule for bad records", on_bad, get_args(OnBad))
    corpus = CORPORA.get(str(source))
    if corpus is None and (path is not None or not Path(source).exists()):
        if path is None and (len(Path(source).parts) > 1 or Path(source).suffix):
            raise BadRequest(f"{source} does not exist: neither a corpus nor a file or folder")
        raise unknown("corpus", str(source), CORPORA)
    local = Path(path if path is not None else source) if path is not None or corpus is None else None
    if local is None and corpus and corpus.hub is None:
        raise BadRequest(f"{corpus.name} is not on the hub: give `path`, a local copy from {corpus.home}")
    chosen = _fields(fields) if fields else corpus.fields if corpus else None
    name = str(source) if corpus else Path(source).name.split(".")[0]
    reader = Reader(name, corpus, local, chosen, on_bad)
    if local is not None:
        reader.settle()
    return reader


class Reader:
    """Goes through a source; `bad` (reason: number), `quoted` and `good` tell of the latest passage.

    Of a hub's corpus, `revision` is then the commit that was read.
    """

    def __init__(
        self, name: str, corpus: Corpus | None, path: Path | None, fields: Fields | None, on_bad: OnBad
    ) -> None:
        self.name, self.corpus, self.path, self.on_bad = name, corpus, path, on_bad
        self.revision = corpus.revision if corpus else None
        self.bad: Counter[str] = Counter()
        self.quoted: list[str] = []
        self.good = 0
        self._fields, self._settled = fields, False

    def settle(self) -> None:
        """Find the fields in the first record there is."""
        first = next((record for _, record in self._rows() if isinstance(record, dict)), None)
        if first is not None:
            self._settle(first)

    def _rows(self) -> Iterator[tuple[int, Any]]:
        if self.path is None:
            return self._hub()
        headless = self._fields is not None and all(column.isdigit() for column in _columns(self._fields))
        return records(self.path, headless=headless)

    def __iter__(self) -> Iterator[Example]:
        self.bad, self.quoted, self.good = Counter(), [], 0
        seen = ahead = 0
        for number, record in self._rows():
            made = self._example(record)
            seen += 1
            if not isinstance(made, Example):
                self._note(number, record, made)
            elif self.on_bad == "skip" or not self.bad:
                self.good += 1
                yield made
            if self.on_bad == "refuse" and self.bad:
                ahead += 1
                if ahead > _AHEAD:
                    break
        if self.bad and self.on_bad == "refuse":
            raise BadRequest(f"{self._complaint()}; of {seen} records read; on_bad = skip would leave them out")
        if not self.good:
            raise BadRequest(f"no usable record in {self._complaint()}")

    def _what(self) -> str:
        return str(self.path or self.name)

    def _complaint(self) -> str:
        counts = ", ".join(f"{reason} ({count})" for reason, count in self.bad.most_common())
        return f"{self._what()}: {self.bad.total()} bad record(s): {counts}; such as {'; '.join(self.quoted)}"

    def _note(self, number: int, record: Any, reason: str) -> None:
        self.bad[reason] += 1
        if len(self.quoted) < _QUOTED:
            text = record.text if isinstance(record, Broken) else json.dumps(record, default=str)
            self.quoted.append(f"record {number}: {text[:60]!a}")

    def _settle(self, record: dict[str, Any]) -> Fields:
        if self._fields is None:
            self._fields = _detect(record, self._what())
        else:
            for column in _columns(self._fields):
                if column not in record and column.split(".")[0] not in record:
                    raise BadRequest(f"{self._what()} has no column '{column}'; its columns: {', '.join(record)}")
        self._settled = True
        return self._fields

    def _example(self, record: Any) -> Example | str:
        """The example in a record, or why it has none."""
        if isinstance(record, Broken):
            return record.reason
        if not isinstance(record, dict):
            return "not an object"
        fields = self._fields if self._settled and self._fields else self._settle(record)
        if fields.instruction == fields.output:
            found = conversation(record.get(fields.output))
        else:
            found = {name: _get(record, spec) for name, spec in zip(Fields._fields, fields[:3], strict=False) if spec}
            found["input"] = found.get("input") or ""
        for name, value in found.items():
            if not isinstance(value, str):
                return f"{name} is missing" if value is None else f"{name} is no text"
            for pattern, new in fields.rewrite:
                value = re.sub(pattern, new, value)
            if not value.strip() and name != "input":
                return f"{name} is empty"
            found[name] = value
        try:
            key = sha256(f"{found['instruction']}\0{found['input']}".encode()).hexdigest()[:16]
            found["output"].encode()
        except UnicodeEncodeError:
            return "not UTF-8"
        return Example(found["instruction"], found["input"], found["output"], self.name, key)

    def _hub(self) -> Iterator[tuple[int, Any]]:
        corpus, datasets = self.corpus, _datasets()
        assert corpus  # for the type checker
        assert corpus.hub
        from huggingface_hub import HfApi

        try:
            # Asked first: what is out of reach is known at once, without the stream's retries.
            self.revision = HfApi().dataset_info(corpus.hub, revision=corpus.revision, timeout=20).sha
            stream = datasets.load_dataset(
                corpus.hub,
                corpus.subset,
                data_files=corpus.files,
                split=corpus.split,
                revision=self.revision,
                streaming=True,
            )
            yield from enumerate(stream, 1)
        except Exception as error:  # hub, HTTP client and file systems each have exceptions of their own
            raise BadRequest(
                f"{corpus.name} cannot be read from the hub ({corpus.hub}: {type(error).__name__}); offline, give "
                "`path`: a file of it (.json, .jsonl, .csv, .parquet) or a folder written by datasets.save_to_disk"
            ) from None


def fetch(name: str, file: str, copy: str | Path | None = None) -> Path:
    """Where one file of a corpus' repository lies: in a local copy of it, else in the hub's cache, downloaded once.

    Raises:
        BadRequest: for a file that the copy lacks, or that cannot be had.
    """
    corpus = CORPORA[name]
    if copy is not None:
        if not (Path(copy) / file).is_file():
            raise BadRequest(
                f"{copy} holds no {file}: a local copy of {name} is laid out as its repository {corpus.hub}"
            )
        return Path(copy) / file
    if corpus.hub is None:
        raise BadRequest(f"{name} is not on the hub: give a local copy from {corpus.home}")
    from huggingface_hub import HfApi, hf_hub_download

    where: dict[str, Any] = {"repo_id": corpus.hub, "filename": file, "repo_type": "dataset"}
    try:
        return Path(hf_hub_download(**where, revision=corpus.revision, local_files_only=True))
    except OSError:
        pass  # not downloaded yet
    try:
        # Asked first: what is out of reach is known at once, without the download's retries.
        revision = HfApi().dataset_info(corpus.hub, revision=corpus.revision, timeout=20).sha
        return Path(hf_hub_download(**where, revision=revision))
    except Exception as error:  # hub, HTTP client and file systems each have exceptions of their own
        raise BadRequest(
            f"{file} of {name} cannot be had from the hub ({corpus.hub}: {type(error).__name__}): give a local copy of "
            "its repository"
        ) from None


def records(path: Path, *, headless: bool = False) -> Iterator[tuple[int, Any]]:
    """The records of a file or folder with their numbers (the line, where a record is a line), `Broken` among them.

    Raises:
        BadRequest: for a missing file, an unknown format, or a file that cannot be read on.
    """
    if not path.exists():
        raise BadRequest(f"{path} does not exist")
    suffix = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    if not path.is_dir() and suffix not in (".json", ".jsonl", ".csv", ".tsv", ".parquet"):
        raise BadRequest(f"{path}: unknown format; .json, .jsonl, .csv, .tsv (each also .gz) and .parquet can be read")
    rows = _saved(path) if path.is_dir() else _parquet(path) if suffix == ".parquet" else _text(path, suffix, headless)
    row = None
    try:
        for row in rows:
            yield row
    except (OSError, EOFError, zlib.error) as error:
        raise BadRequest(f"{path} cannot be read: {error}") from None
    if row is None:
        raise BadRequest(f"{path} is empty")


def _text(path: Path, suffix: str, headless: bool) -> Iterator[tuple[int, Any]]:
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as raw:
        # What is no UTF-8 becomes lone surrogates, which no example may hold.
        text = io.TextIOWrapper(raw, "utf-8-sig", "surrogateescape", "" if suffix == ".csv" else "\n")
        if suffix == ".json":
            yield from _json(text, path)
        elif suffix == ".jsonl":
            yield from _jsonl(text)
        else:
            yield from _table(text, suffix == ".tsv", headless)


def _lines(text: io.TextIOWrapper) -> Iterator[str]:
    return iter(partial(text.readline, LIMIT), "")


def _jsonl(text: io.TextIOWrapper) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(_lines(text), 1):
        if line.strip():
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                record = Broken("broken JSON", line.strip())
            yield number, record


def _json(text: io.TextIOWrapper, path: Path) -> Iterator[tuple[int, Any]]:
    """The elements of an array, decoded one after the other from a window on the file; or JSON lines."""
    window = text.read(_CHUNK).lstrip()
    if not window.startswith("["):
        text.seek(0)
        yield from _jsonl(text)
        return
    decode, between = json.JSONDecoder().raw_decode, re.compile(r"[\s,]*")
    at, number = 1, 0
    while True:
        at = between.match(window, at).end()  # type: ignore[union-attr]
        if window[at : at + 1] == "]":
            if (window[at + 1 :] + text.read(_CHUNK)).strip():
                raise BadRequest(f"{path} goes on after its array: it is not one JSON value")
            return
        try:
            record, end = decode(window, at)
        except (ValueError, RecursionError):
            end = len(window)
        if end < len(window):
            number, at = number + 1, end
            yield number, record
            continue
        more = text.read(_CHUNK)  # what ends with the window may go on after it
        if not more or end - at > LIMIT:
            raise BadRequest(
                f"{path} is broken from record {number + 1} on, {window[at : at + 60]!a}: "
                "an array cannot be read past that (JSON lines could)"
            )
        window, at = window[at:] + more, 0


def _table(text: io.TextIOWrapper, tabs: bool, headless: bool) -> Iterator[tuple[int, Any]]:
    csv.field_size_limit(LIMIT)
    quoting: dict[str, Any] = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if tabs else {}
    rows, columns = csv.reader(_lines(text), strict=True, **quoting), list[str]()
    while True:
        number = rows.line_num + 1
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield number, Broken("broken row", str(error))
            continue
        if not columns:
            columns = [str(i) for i in range(len(row))] if headless else row
            if not headless:
                continue
        if len(row) == len(columns):
            yield number, dict(zip(columns, row, strict=True))
        elif row:
            yield number, Broken("columns missing", ", ".join(row))


def _parquet(path: Path) -> Iterator[tuple[int, Any]]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise BadRequest(f"{path}: Parquet needs pyarrow: pip install 'labkit[qlora]'") from None
    try:
        batches = parquet.ParquetFile(path, pre_buffer=False).iter_batches(256)
        yield from enumerate((row for batch in batches for row in batch.to_pylist()), 1)
    except ArrowException as error:
        raise BadRequest(f"{path} is no whole Parquet file: {error}") from None


def _datasets() -> Any:
    try:
        import datasets
    except ImportError:
        raise BadRequest("this source needs the package datasets: pip install 'labkit[qlora]'") from None
    return datasets


def _saved(path: Path) -> Iterator[tuple[int, Any]]:
    datasets = _datasets()
    try:
        found = datasets.load_from_disk(str(path))
    except (FileNotFoundError, ValueError):
        raise BadRequest(f"{path} is no folder written by datasets.save_to_disk") from None
    if isinstance(found, datasets.DatasetDict):
        if "train" not in found:
            raise BadRequest(f"{path} has no split 'train'; give the folder of one of its splits: {', '.join(found)}")
        found = found["train"]
    yield from enumerate(found, 1)


def _fields(given: Mapping[str, str | int]) -> Fields:
    columns = {name: str(column) for name, column in given.items()}
    if not {"instruction", "output"} <= columns.keys() <= {"instruction", "output", "input"}:
        raise BadRequest(f"fields name {', '.join(given)}: instruction and output are needed, input may be added")
    return Fields(columns["instruction"], columns["output"], columns.get("input", ""))


def _columns(fields: Fields) -> list[str]:
    return [column for spec in fields[:3] if spec for column in (re.findall(r"{([^{}]+)}", spec) or [spec])]


def _detect(record: Mapping[str, Any], what: str) -> Fields:
    """The known shape of a record; one with its input wins over the same without."""
    fits = [shape for shape in SHAPES if shape.instruction in record and shape.output in record]
    if not fits:
        known = "; ".join(" + ".join(dict.fromkeys(shape[:2])) for shape in SHAPES)
        raise BadRequest(f"{what}: none of the known shapes ({known}); give `fields`; its columns: {', '.join(record)}")
    return next((shape for shape in fits if shape.input in record), fits[0])


def _get(record: Mapping[str, Any], spec: str) -> Any:
    if spec in record:
        return record[spec]
    if "{" in spec:
        parts = {column: _get(record, column) for column in re.findall(r"{([^{}]+)}", spec)}
        wrong = [part for part in parts.values() if not isinstance(part, str) or not part.strip()]
        return wrong[0] if wrong else re.sub(r"{([^{}]+)}", lambda found: parts[found[1]], spec)
    value: Any = record
    for step in spec.split("."):
        if isinstance(value, list) and step.isdigit() and int(step) < len(value):
            value = value[int(step)]
        else:
            value = value.get(step) if isinstance(value, dict) else None
    return value


def conversation(turns: Any) -> dict[str, Any]:
    """The parts of an example in a list of turns, as `Fields` says; what a bad list lacks is None, or no text."""
    if not isinstance(turns, list) or not all(
        isinstance(turn, dict) and isinstance(turn.get("role"), str) and isinstance(turn.get("content"), str)
        for turn in turns
    ):
        return {"instruction": turns if turns is None else []}  # missing, or no text
    if len(turns) < 2 or turns[-1]["role"] != "assistant":
        return {"output": None}
    *before, last = turns
    lines = (f"{turn['role']}: {turn['content']}" for turn in before)
    instruction = before[0]["content"] if len(before) == 1 else "\n".join(lines)
    return {"instruction": instruction, "input": "", "output": last["content"]}
