"""Real instruction data: named corpora and local files, read as a stream of examples.

Guaranteed:
- one record is held at a time, of at most `LIMIT` characters: a file of any size is read in bounded memory (`files`);
- a bad record is counted by its reason and the first few are quoted; it is refused, or skipped where that is asked for;
- what is not used is counted, column by column (`Reader.notes`); of a detected shape no column is left out that changes
  what is asked or answered: such a record is bad (`shapes`). Columns are looked for in each record, not in the first;
- equal files give equal examples in equal order, whatever the format.
Left open: what a record says is not checked; a conversation of several turns becomes one example (see `Fields`); the
hub's stream is trusted at the pinned revision and has no checksum of ours.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from labkit.errors import BadRequest, unknown
from labkit.instructions import shapes
from labkit.instructions.example import Example
from labkit.instructions.files import LIMIT, Broken, counted, needed, records, shown, too_long, utf8
from labkit.instructions.hub import hub_or_cache
from labkit.instructions.shapes import Fields

TaskType = Literal["code", "general", "reasoning", "mathematics", "knowledge", "writing"]
OnBad = Literal["refuse", "skip"]
_QUOTED = 3  # bad records quoted in a message
_AHEAD = 10_000  # records read on after the first bad one, to say how many more there are; and in search of the columns
_NOTED = 100  # columns that are not used and counted one by one


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
    files: str | None = None
    subset: str | None = None


CORPORA = {
    name: Corpus(name=name, **{**row, "fields": Fields(**row["fields"])})
    for name, row in yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text("utf-8")).items()
}


def read(source: str | Path, *, path: str | Path | None = None, fields: Mapping[str, str | int] | None = None,
         on_bad: OnBad = "refuse") -> "Reader":  # fmt: skip
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
    corpus, file = CORPORA.get(str(source)), Path(source)
    if corpus is None and (path is not None or not os.path.exists(file)):  # noqa: PTH110 (which raises for long names)
        if path is None and (len(file.parts) > 1 or file.suffix):
            raise BadRequest(f"{str(source)[:200]} does not exist: neither a corpus nor a file or folder")
        raise unknown("corpus", str(source), CORPORA)
    local = Path(path) if path is not None else None if corpus else file
    if corpus and local is None:
        _hub_id(corpus)
    chosen = shapes.fields_of(fields) if fields else corpus.fields if corpus else None
    reader = Reader(corpus.name if corpus else file.name.split(".")[0], corpus, local, chosen, on_bad)
    if local is not None:
        reader.settle()
    return reader


class Reader:
    """Goes through a source; `bad` (reason: number), `quoted`, `good` and `unused` tell of the latest passage.

    Of a hub's corpus, `revision` is then the commit that was read. `unused` counts the records in which a column held
    something that did not become part of the example.
    """

    def __init__(self, name: str, corpus: Corpus | None, path: Path | None, fields: Fields | None,
                 on_bad: OnBad) -> None:  # fmt: skip
        self.name, self.corpus, self.path, self.on_bad = name, corpus, path, on_bad
        self.revision = corpus.revision if corpus else None
        self._what = str(path or name)
        self._shape = shapes.Shape(fields, detected=False) if fields else None
        self._settled = False
        self._reset()

    def _reset(self) -> None:
        self.bad, self.unused, self.good = Counter[str](), Counter[str](), 0
        self.quoted: list[str] = []

    @property
    def notes(self) -> list[str]:
        """What the latest passage left out of the examples, one sentence per column."""
        return [f"not used: {shown([name])} (records: {count:,})" for name, count in self.unused.items()]

    def settle(self, rows: Iterable[Any] | None = None) -> None:
        """Find the columns in the first records: the first of a known shape, or those that the fields name."""
        rows = (record for _, record in self._rows()) if rows is None else rows
        first: dict[str, Any] = {}
        missing = self._shape.columns if self._shape else []
        for record in islice((row for row in rows if isinstance(row, dict)), _AHEAD):
            first = first or record
            self._shape = self._shape or shapes.detect(record)
            missing = [column for column in missing if not shapes.has(record, column)]
            if self._shape and not missing:
                break
        if first and self._shape is None:
            raise BadRequest(f"{self._what}: {shapes.unknown_shape(first)}")
        if first and missing:
            raise BadRequest(f"{self._what} has no column '{missing[0]}'; its columns: "
                             f"{shown(first)}{shapes.inside(first)}")  # fmt: skip
        self._settled = bool(first)

    def _rows(self) -> Iterator[tuple[int, Any]]:
        if self.path is None:
            return self._hub()
        headless = self._shape is not None and all(column.isdecimal() for column in self._shape.columns)
        return records(self.path, headless=headless)

    def __iter__(self) -> Iterator[Example]:
        self._reset()
        rows = self._rows()
        for number, record in rows:
            example = self._taken(number, record)
            if example:
                yield example
            elif self.on_bad == "refuse":
                for row in islice(rows, _AHEAD):  # to say how many more are bad
                    self._taken(*row)
                seen = self.good + self.bad.total()
                raise BadRequest(f"{self._complaint()}; of {seen} records read; on_bad = skip would leave them out")
        if not self.good:
            raise BadRequest(f"no usable record in {self._complaint()}")

    def _complaint(self) -> str:
        quoted = "; ".join(self.quoted)
        return f"{self._what}: {self.bad.total()} bad record(s): {counted(self.bad)}; such as {quoted}"

    def _taken(self, number: int, record: Any) -> Example | None:
        """The example in a record; where it has none, the reason is counted."""
        made = self._example(record)
        if isinstance(made, Example):
            self.good += 1
            return made
        self.bad[made] += 1
        if len(self.quoted) < _QUOTED:
            self.quoted.append(f"record {number}: {_excerpt(record)[:60]!a}")
        return None

    def _example(self, record: Any) -> Example | str:
        """The example in a record, or why it has none."""
        if not isinstance(record, dict):
            return record.reason if isinstance(record, Broken) else "not an object"
        if not self._settled:
            self.settle([record])
        assert self._shape  # for the type checker
        parts = self._shape.parts(record)
        if not isinstance(parts, str):
            parts = _texts(parts, self._shape.fields.rewrite)
        if isinstance(parts, str):
            return _COLUMN_WISE if parts.endswith("no text") and shapes.column_wise(record) else parts
        names, lost = self._shape.left_out(record, list(parts.values()))
        if lost:
            which = f"columns {shown(lost)}" if len(lost) > 1 else f"column {shown(lost)}"
            return f"{which} would be left out: name `fields` if that is meant"
        for name in names:
            if name in self.unused or len(self.unused) < _NOTED:
                self.unused[name] += 1
        key = sha256(f"{parts['instruction']}\0{parts['input']}".encode()).hexdigest()[:16]
        return Example(**parts, source=self.name, instruction_id=key)

    def _hub(self) -> Iterator[tuple[int, Any]]:
        corpus, datasets = self.corpus, needed("datasets", "this source")
        assert corpus  # for the type checker
        try:
            self.revision = _commit(corpus)
            stream = datasets.load_dataset(corpus.hub, corpus.subset, data_files=corpus.files, split="train",
                                           revision=self.revision, streaming=True)  # fmt: skip
            yield from enumerate(stream, 1)
        except Exception as error:  # hub, HTTP client and file systems each have exceptions of their own
            raise BadRequest(
                f"{corpus.name} cannot be read from the hub ({corpus.hub}: {type(error).__name__}); offline, give "
                "`path`: a file of it (.json, .jsonl, .csv, .parquet) or a folder written by datasets.save_to_disk"
            ) from None


_COLUMN_WISE = "column-wise (each column holds the values of all records; pandas writes records with orient='records')"


def _texts(parts: Mapping[str, Any], rewrite: Iterable[tuple[str, str]]) -> dict[str, str] | str:
    """The parts of an example, rewritten; or, in a few words, why they are none."""
    texts = {}
    for name, text in parts.items():
        if not isinstance(text, str):
            return f"{name} is missing" if text is None else f"{name} is no text"
        for pattern, new in rewrite:
            text = re.sub(pattern, new, text)
        if not text.strip() and name != "input":
            return f"{name} is empty"
        texts[name] = text
    if sum(map(len, texts.values())) > LIMIT:
        return too_long()
    return texts if utf8(*texts.values()) else "not UTF-8"


def _excerpt(record: Any) -> str:
    try:
        return record.text if isinstance(record, Broken) else json.dumps(record, default=str)
    except (RecursionError, TypeError, ValueError):
        return "(cannot be shown)"


def _hub_id(corpus: Corpus) -> str:
    if corpus.hub is None:
        raise BadRequest(f"{corpus.name} is not on the hub: give `path`, a local copy from {corpus.home}")
    return corpus.hub


def _commit(corpus: Corpus) -> str | None:
    """The commit that the hub has at the pinned revision.

    Asked before anything else: what is out of reach is known at once, without the retries of a stream or a download.
    """
    from huggingface_hub import HfApi

    with hub_or_cache():
        return HfApi().dataset_info(_hub_id(corpus), revision=corpus.revision, timeout=20).sha


def fetch(name: str, file: str, copy: str | Path | None = None) -> Path:
    """Where one file of a corpus' repository lies: in a local copy of it, else in the hub's cache, downloaded once.

    Raises:
        BadRequest: for a file that the copy lacks, or that cannot be had.
    """
    corpus = CORPORA[name]
    if copy is not None:
        if not (Path(copy) / file).is_file():
            raise BadRequest(f"{copy} holds no {file}: a local copy of {name} is laid out as its repository "
                             f"{corpus.hub}")  # fmt: skip
        return Path(copy) / file
    from huggingface_hub import hf_hub_download

    where = _hub_id(corpus)
    try:
        with hub_or_cache():
            return Path(hf_hub_download(where, file, repo_type="dataset", revision=corpus.revision))
    except Exception as error:  # hub, HTTP client and file systems each have exceptions of their own
        raise BadRequest(f"{file} of {name} cannot be had from the hub ({corpus.hub}: {type(error).__name__}): give a "
                         "local copy of its repository") from None  # fmt: skip
