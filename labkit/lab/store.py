"""The store: every measured point, kept as plain files under its own address.

    papermill_runs/<study>/points/<address>/{point.json, result.json, provenance.json, log.jsonl, ...}

Guarantees
- A point's address is a hash of everything that decides its result, so equal points share one folder.
- A folder is written under a temporary name, brought to the disk with all its files, and renamed: a finished point is
  whole, also after a power cut; a half-written one is ignored and redone. A failed point leaves `error.json` (with its
  traceback) and is tried again by the next sweep.
- `result.json` ends with a seal: a digest of the row, and the size of every file beside it. A row that was edited is
  named by every reader, a file that was cut by `check`. `provenance.json` says what the point was made with and what
  it cost; it is no part of the row, so that equal points have equal rows. Points of earlier versions, without a seal,
  are read as well.
- Processes may share a store: a point is worked on under a file lock that the system frees when a process dies, and
  whose file goes with it.
- Stores merge by copying folders; DuckDB answers SQL over their rows.

Limits: the lock is an advisory one of the local machine, so two machines on one network folder may both measure a
point (the first to finish is kept). A damaged finished point is never
overwritten: it is named, and the person decides.
"""

import hashlib
import json
import os
import re
import shutil
import stat
import time
import traceback
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict

from labkit.design.durable import sync, write_text
from labkit.design.scratch import HERE
from labkit.errors import BadRequest, expanded
from labkit.lab.places import ensure_writable
from labkit.lab.provenance import Meter, code

Row = dict[str, Any]
ADDRESS_LENGTH = 16
ELSEWHERE = ".elsewhere-"  # begins the name of a file that says where a run lies that is not in the store
PROVENANCE = "provenance.json"  # of a point: beside its row, which it is no part of


class Point(BaseModel):
    """One cell of a study's design: frozen, JSON-serialisable, addressed by its content.

    A study derives its own class and adds the fields that decide the result. `version` is raised when the same
    fields come to mean another measurement, so that old results are not mistaken for new ones.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    study: str
    version: int

    @property
    def address(self) -> str:
        """The first 16 hex digits of the SHA-256 of the point's canonical JSON."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:ADDRESS_LENGTH]

    @property
    def shape(self) -> Hashable:
        """Points of equal shape may be measured together; None: never."""
        return None

    def needs(self) -> "Sequence[Point]":
        """Points that are measured first, in the same store."""
        return ()


class Record:
    """Where one measurement leaves its traces: a folder for artefacts and `log.jsonl`, one JSON object per line.

    `lasting` is a folder for what is to survive a kill, such as checkpoints: the next attempt at the same point finds
    it as it was left. When the point is finished it is removed. What the point needs (`Point.needs`) lies finished in
    the same store: `row_of` and `folder_of` say what was measured of it, and where its files are.
    """

    def __init__(self, folder: Path, lasting: Path | None = None, store: "Store | None" = None) -> None:
        self.folder, self.lasting, self.store = folder, lasting or folder / "lasting", store

    def log(self, **fields: Any) -> None:
        """Append a line to the log; it can be read while the measurement runs."""
        self._append("log.jsonl", json.dumps(fields))

    def note(self, text: str) -> None:
        """Append a line for people to `notes.txt`."""
        self._append("notes.txt", text)

    def _append(self, name: str, line: str) -> None:
        with (self.folder / name).open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def row_of(self, point: Point) -> Row:
        """The row of a point that this one needs."""
        row = self.store.result(point) if self.store else None
        if row is None:
            raise LookupError(f"{point.study} {point.address} is not finished: the point that needs it must say so")
        return row

    def folder_of(self, point: Point) -> Path:
        """The folder of a point that this one needs."""
        self.row_of(point)
        assert self.store is not None
        return self.store.folder(point)


Measure = Callable[[Any, Record], Row]
MeasureMany = Callable[[Any, Sequence[Record]], list[Row]]


class Store:
    """The points below one folder, usually `papermill_runs/`."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = Path(root)

    @classmethod
    def default(cls) -> Self:
        """`$LABKIT_RUNS`, else the nearest `papermill_runs/` at or above the working directory, else a new one here."""
        if named := os.environ.get("LABKIT_RUNS"):
            return cls(expanded(named))  # no shell has seen what a .env or a kernel.json says
        here = Path.cwd()
        found = (folder / "papermill_runs" for folder in (here, *here.parents))
        return cls(next((path for path in found if path.is_dir()), here / "papermill_runs"))

    def points_folder(self, study: str) -> Path:
        return self.root / study / "points"

    def folder(self, point: Point) -> Path:
        return self.points_folder(point.study) / point.address

    def check(self, study: str | None = None) -> dict[str, Row]:
        """Look the store over before work starts; the finished rows by address.

        Raises:
            BadRequest: when the folder cannot be written, or holds a foreign or damaged entry, or a point of which a
                file is empty or cut; names it.
        """
        ensure_writable(self.root)
        rows = {}
        for folder in (folder for name in ([study] if study else self.studies()) for folder in self._entries(name)):
            row = _read_finished(folder, files=True) if len(folder.name) == ADDRESS_LENGTH else None
            if row is None:  # a finished point is known by its files: only what is none is looked at twice
                _checked(folder)
            else:
                rows[folder.name] = row
        return rows

    def studies(self) -> list[str]:
        """The studies that have points here."""
        return sorted(path.parent.name for path in self.root.glob("*/points"))

    def result(self, point: Point) -> Row | None:
        """The point's row, or None when it has not been finished.

        Raises:
            BadRequest: when its folder is damaged.
        """
        return _read_finished(self.folder(point))

    def read(self, study: str, files: bool = False) -> tuple[list[Row], list[str]]:
        """The finished rows of a study that can be read, by address; and a sentence for each entry that cannot.

        With `files` a row is read only where its point's files are whole.
        """
        rows, complaints = [], []
        for path in self._entries(study):
            try:  # a finished point is known by its files: only what is none is looked at twice
                row = _read_finished(path, files) if len(path.name) == ADDRESS_LENGTH else None
                if row is None:
                    _checked(path)
            except BadRequest as damage:
                complaints.append(str(damage))
            else:
                rows += [row] if row is not None else []
        return rows, complaints

    def row(self, study: str, address: str) -> Row:
        """The row of a finished point.

        Raises:
            BadRequest: when it is damaged, or not there.
        """
        folder = self.points_folder(study) / address
        if (row := _read_finished(folder)) is None:
            raise BadRequest(f"no finished point {address} of {study} in {self.root}")
        return row

    def settings(self, study: str, address: str) -> Row:
        """What a finished point was to be: its `point.json`."""
        return _load(self.points_folder(study) / address / "point.json")

    def provenance(self, study: str, address: str) -> Row:
        """What a finished point was made with; empty for a point of an earlier version."""
        path = self.points_folder(study) / address / PROVENANCE
        return _load(path) if path.exists() else {}

    def log(self, study: str, address: str) -> list[Row]:
        """The lines that the measurement of a point logged (say, its learning curve)."""
        path = self.points_folder(study) / address / "log.jsonl"
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []

    def being_measured(self, study: str) -> list[tuple[str, Path]]:
        """The addresses of points that are being measured, each with its log as far as it has come."""
        logs = self.points_folder(study).glob(".tmp-*/log.jsonl")
        return [(re.split("[.-]", path.parent.name)[2], path) for path in logs]

    def find(self, address: str) -> Path:
        """The folder of the one finished point whose address starts with `address`.

        Raises:
            BadRequest: when there is none, or more than one.
        """
        folders = [
            folder
            for study in self.studies()
            for folder in self._entries(study)
            if len(folder.name) == ADDRESS_LENGTH and folder.name.startswith(address)
            if (folder / "result.json").exists()
        ]
        if len(folders) == 1:
            return folders[0]
        how_many = f"{len(folders)} points" if folders else "no finished point"
        raise BadRequest(f"'{address}' names {how_many} in {self.root}: `labkit results` lists the addresses")

    def measure(self, point: Point, measure: Measure) -> Row:
        """The point's row: read when finished, else measured, kept and returned.

        Raises:
            Exception: whatever `measure` raised, after `error.json` has been left in the point's folder.
        """
        (row,) = self.measure_many([point], lambda points, records: [measure(points[0], records[0])])
        return row

    def measure_many(self, points: Sequence[Point], measure: MeasureMany) -> list[Row]:
        """The rows of different points of one study, in their order; those not finished are measured together.

        Raises:
            Exception: whatever `measure` raised, or a row that cannot be written. Of one point alone `error.json` is
                left; of several the rows written before are kept, and no error, since the culprit is not known.
        """
        rows = self.measure_free(points, measure, timeout=-1)
        return [rows[point.address] for point in points]

    def measure_free(self, points: Sequence[Point], measure: MeasureMany, timeout: float = 0) -> dict[str, Row]:
        """The same by address, without the points that another process is at for longer than `timeout` seconds."""
        with self.holding(points, timeout) as free:
            rows = {point.address: row for point in free if (row := self.result(point)) is not None}
            if missing := [point for point in free if point.address not in rows]:
                rows |= self._measured(missing, measure)
            return rows

    @contextmanager
    def holding(self, points: Sequence[Point], timeout: float = 0) -> Iterator[list[Point]]:
        """Hold the locks of those points that no other process is at, which are given, in their order."""
        held = set()
        with ExitStack() as locks:
            for point in sorted(points, key=lambda point: point.address):  # one order for all: no deadlock
                with suppress(Timeout):
                    locks.enter_context(self.lock(point.study, point.address, timeout))
                    held.add(point.address)
            yield [point for point in points if point.address in held]

    def _measured(self, points: Sequence[Point], measure: MeasureMany) -> dict[str, Row]:
        """The rows of points whose locks are held, each kept before the next is written."""
        rows, records = {}, []
        with ExitStack() as scratches:
            for point in points:
                scratch = self._scratch(point)
                scratches.callback(shutil.rmtree, scratch, ignore_errors=True)
                records.append(Record(scratch, self.points_folder(point.study) / f".work-{point.address}", self))
            try:
                meter = Meter()
                every = measure(points, records)
                cost = meter.read() | {"points_measured_together": len(points)}
                for point, record, measured in zip(points, records, every, strict=True):
                    row = {"address": point.address, **point.model_dump(mode="json"), **measured}
                    row["finished"] = time.strftime("%Y-%m-%dT%H:%M:%S%z")
                    needs = [f"{need.study}/{need.address}" for need in point.needs()]
                    made = {**code(), **cost, "precision": row.get("precision"), "needs": needs}
                    _write_plain(record.folder / PROVENANCE, made)
                    _seal(record.folder, row)
                    self._move_in(record.folder, self.folder(point))
                    shutil.rmtree(record.lasting, ignore_errors=True)
                    rows[point.address] = row
            except Exception as error:
                if len(points) == 1:
                    with suppress(OSError):  # where not even this can be written, the error itself is what counts
                        message = f"{type(error).__name__}: {error}"
                        self._fail(points[0], records[0].folder, message, traceback.format_exc())
                raise
        return rows

    def take_in(self, study: str, address: str, fill: Callable[[Path], object]) -> None:
        """Keep the folder of a point that was measured elsewhere, which `fill` writes; the point's lock is held."""
        scratch = self._empty(study, address)
        try:
            fill(scratch)
            _sync_all(scratch)
            self._move_in(scratch, self.points_folder(study) / address)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def tidy(self, study: str, addresses: Collection[str] = ()) -> None:
        """Remove what processes that are gone left of points that nobody is at: scratch folders and locks.

        It is removed where they ran on this machine, and wherever they ran for the points with these addresses.
        """
        for scratch in self.points_folder(study).glob(".tmp-*"):
            _, _, address, machine, *_ = [*re.split("[.-]", scratch.name), ""]
            if len(address) == ADDRESS_LENGTH and (machine == HERE or address in addresses):
                with suppress(Timeout, OSError), self.lock(study, address):
                    shutil.rmtree(scratch, ignore_errors=True)
        for lock in (self.points_folder(study) / ".locks").glob("*.lock"):
            with suppress(Timeout, OSError), self.lock(study, lock.stem):
                pass

    @contextmanager
    def lock(self, study: str, address: str, timeout: float = 0) -> Iterator[None]:
        """Held by the process that is at work on a point; raises Timeout where another one is, -1: it is waited for."""
        path = self.points_folder(study) / ".locks" / f"{address}.lock"
        with FileLock(path, timeout=timeout):
            try:
                yield
            finally:
                with suppress(OSError):  # who waits for it sees that it is gone, and makes a new one
                    path.unlink()

    def _empty(self, study: str, address: str) -> Path:
        scratch = self.points_folder(study) / f".tmp-{address}-{HERE}-{uuid4().hex[:8]}"
        scratch.mkdir()
        return scratch

    def _scratch(self, point: Point) -> Path:
        """A new folder for a point whose lock is held."""
        scratch = self._empty(point.study, point.address)
        _write_plain(scratch / "point.json", point.model_dump(mode="json"))
        return scratch

    def fail(self, point: Point, error: str, detail: str) -> None:
        """Leave `error.json` for a point whose process died before it could do so itself.

        Where another process has taken the point up, or finished it, nothing is left and nothing is touched.
        """
        with suppress(Timeout), self.lock(point.study, point.address):
            if not (self.folder(point) / "result.json").exists():
                self._fail(point, self._scratch(point), error, detail)

    def _fail(self, point: Point, scratch: Path, error: str, detail: str) -> None:
        (scratch / "result.json").unlink(missing_ok=True)  # it could not be written whole
        _write_plain(scratch / "error.json", {"error": error, "traceback": detail})
        _sync_all(scratch)
        self._move_in(scratch, self.folder(point))

    @staticmethod
    def _move_in(scratch: Path, final: Path) -> None:
        """Give a scratch folder, of which everything has reached the disk, its name."""
        if (final / "result.json").exists():  # another machine was faster, or what failed came after: it stays
            shutil.rmtree(scratch)
            return
        old = scratch.with_name(f"{scratch.name}-old")
        if final.exists():  # an earlier failure of the same point, which this attempt replaces: aside in one step
            final.rename(old)
        scratch.rename(final)
        shutil.rmtree(old, ignore_errors=True)
        for folder in (final.parent, final.parent.parent):
            sync(folder)

    def _entries(self, study: str) -> list[Path]:
        points = self.points_folder(study)
        if not points.is_dir():
            return [points] if points.is_file() else []
        return [points / name for name in sorted(os.listdir(points)) if not name.startswith(".")]  # noqa: PTH208 (speed)


def _checked(path: Path) -> Path:
    for _ in range(3):  # a failed point that is being retried is moved away, and another moved in, while this looks
        if len(path.name) == ADDRESS_LENGTH and ((path / "point.json").exists() or not os.path.lexists(path)):
            return path
    raise BadRequest(f"foreign entry in the store: {path} is not the folder of a point; move it away and start again")


def _read_finished(folder: Path, files: bool = False, retry: bool = True) -> Row | None:
    """The row of a finished point, else None; with `files` its files are looked at, too."""
    path = f"{folder}/result.json"  # of thousands of points: pathlib would take half of the time
    try:
        row, point = _load(path), _load(f"{folder}/point.json")
        whole = row["address"] == folder.name and all(row[name] == point[name] for name in point) and "finished" in row
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        if not os.path.lexists(path):
            return None
        if retry and isinstance(error, FileNotFoundError):  # it was moved in while this looked
            return _read_finished(folder, files, retry=False)
        whole = False
    if not whole:
        raise _damaged(path, "is not what its folder's name promises")
    seal = row.pop("seal", None)
    if seal is not None and (not isinstance(seal, dict) or seal.get("row") != _digest(row)):
        raise _damaged(path, "was changed after it was measured")
    if files:
        _check_files(folder, seal)
    return row


def _damaged(path: str, how: str) -> BadRequest:
    return BadRequest(f"damaged result in the store: {path} {how}; move {Path(path).parent} away")


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


_JSON = json.JSONDecoder(parse_constant=_refuse)  # of files of `write_json`, which never writes NaN


def _load(path: str | Path) -> Row:
    """A file of `write_json`; nor is a pipe waited for, which nobody may ever write to."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    try:
        about = os.fstat(handle)
        if not stat.S_ISREG(about.st_mode):
            raise OSError(f"{path} is no file")
        return dict(_JSON.decode(os.read(handle, about.st_size).decode("utf-8")))
    finally:
        os.close(handle)


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


def _digest(row: Row) -> str:
    return hashlib.sha256(_CANONICAL.encode(row).encode()).hexdigest()


def _seal(folder: Path, row: Row) -> None:
    """Write `result.json`, the row and what shows that it or a file was changed; then bring all files to the disk."""
    files = {path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    as_read = json.loads(json.dumps(row, allow_nan=False))  # keys of dicts as text
    _write_plain(folder / "result.json", {**row, "seal": {"row": _digest(as_read), "files": files}})
    _sync_all(folder)


def _sync_all(folder: Path) -> None:
    for path in [*folder.rglob("*"), folder]:
        if not path.is_symlink():
            sync(path)


def _check_files(folder: Path, seal: Row | None) -> None:
    """Refuse a finished point with a file that is missing, empty or cut, as a power cut or a full disk leaves them."""
    for path in folder.iterdir() if seal is None else ():  # of an earlier version: what no measurement leaves empty
        if path.suffix in (".json", ".safetensors") and not path.stat().st_size:
            raise _cut(folder, path)
    for name, size in seal["files"].items() if seal else ():
        try:
            about = os.stat(f"{folder}/{name}")  # noqa: PTH116 (speed)
        except OSError:
            raise _cut(folder, folder / name) from None
        if not stat.S_ISREG(about.st_mode) or about.st_size != size:
            raise _cut(folder, folder / name)


def _cut(folder: Path, path: Path) -> BadRequest:
    sentence = f"damaged point in the store: {path} is empty, cut or missing; move {folder} away, and the point is "
    return BadRequest(sentence + "measured again")


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object as `write_text` does, one line per key; NaN is refused, since other readers refuse it too."""
    write_text(path, _as_text(value))


def _as_text(value: Mapping[str, Any]) -> str:
    lines = (f" {json.dumps(key)}: {json.dumps(item, allow_nan=False)}" for key, item in value.items())
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _write_plain(path: Path, value: Mapping[str, Any]) -> None:
    """The same in a scratch folder, whose files are brought to the disk together."""
    path.write_text(_as_text(value), "utf-8")
