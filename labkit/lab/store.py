"""The store: every measured point, kept as plain files under its own address.

    papermill_runs/<study>/points/<address>/{point.json, result.json, log.jsonl, ...}

Guarantees
- A point's address is a hash of everything that decides its result, so equal points share one folder.
- A folder is written under a temporary name and renamed: a finished point is whole, a half-written one is ignored
  and redone. A failed point leaves `error.json` (with its traceback) and is tried again by the next sweep.
- Two processes may share a store: a point is worked on under a file lock that the system frees when a process dies.
- Stores merge by copying folders; DuckDB answers SQL over them.

Limits: the lock is an advisory one of the local machine, so two machines on one network folder may both measure a
point (the first to finish is kept). A damaged finished point is never
overwritten: it is named, and the person decides.
"""

import hashlib
import json
import os
import shutil
import time
import traceback
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict

from labkit.errors import BadRequest

Row = dict[str, Any]
ADDRESS_LENGTH = 16


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


class Record:
    """Where one measurement leaves its traces: a folder for artefacts and `log.jsonl`, one JSON object a line.

    `lasting` is a folder for what is to survive a kill, such as checkpoints: the next attempt at the same point finds
    it as it was left. When the point is finished it is removed.
    """

    def __init__(self, folder: Path, lasting: Path | None = None) -> None:
        self.folder, self.lasting = folder, lasting or folder / "lasting"
        self._log = (folder / "log.jsonl").open("a", encoding="utf-8")

    def log(self, **fields: Any) -> None:
        """Append a line to the log; it can be read while the measurement runs."""
        self._log.write(json.dumps(fields) + "\n")
        self._log.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._log.close()


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
            return cls(named)
        here = Path.cwd()
        found = (folder / "papermill_runs" for folder in (here, *here.parents))
        return cls(next((path for path in found if path.is_dir()), here / "papermill_runs"))

    def points_folder(self, study: str) -> Path:
        return self.root / study / "points"

    def folder(self, point: Point) -> Path:
        return self.points_folder(point.study) / point.address

    def check(self, study: str | None = None) -> None:
        """Look the store over before work starts.

        Raises:
            BadRequest: when the folder cannot be written, or holds a foreign or damaged entry; names it.
        """
        ensure_writable(self.root)
        for name in [study] if study else self.studies():
            for folder in self._folders(name):
                _read_finished(folder)

    def studies(self) -> list[str]:
        """The studies that have points here."""
        return sorted(path.parent.name for path in self.root.glob("*/points"))

    def result(self, point: Point) -> Row | None:
        """The point's row, or None when it has not been finished.

        Raises:
            BadRequest: when its folder is damaged.
        """
        return _read_finished(self.folder(point))

    def finished(self, study: str) -> list[Path]:
        """The `result.json` of every finished point of a study, by address."""
        return [path for folder in self._folders(study) if (path := folder / "result.json").exists()]

    def rows(self, study: str) -> list[Row]:
        """Every finished row of a study, by address.

        Raises:
            BadRequest: at the first foreign or damaged entry.
        """
        found = (_read_finished(folder) for folder in self._folders(study))
        return [row for row in found if row is not None]

    def log(self, study: str, address: str) -> list[Row]:
        """The lines that the measurement of a point logged (say, its learning curve)."""
        path = self.points_folder(study) / address / "log.jsonl"
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []

    def find(self, address: str) -> Path:
        """The folder of the one finished point whose address starts with `address`.

        Raises:
            BadRequest: when there is none, or more than one.
        """
        everything = (path.parent for study in self.studies() for path in self.finished(study))
        found = [folder for folder in everything if folder.name.startswith(address)]
        if len(found) == 1:
            return found[0]
        how_many = f"{len(found)} points" if found else "no finished point"
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
        folder = self.points_folder(points[0].study)
        (folder / ".locks").mkdir(parents=True, exist_ok=True)
        with ExitStack() as locks:
            for point in sorted(points, key=lambda point: point.address):  # one order for all: no deadlock
                locks.enter_context(FileLock(folder / ".locks" / f"{point.address}.lock"))
            rows: dict[str, Row | None] = {point.address: self.result(point) for point in points}
            missing = [point for point in points if rows[point.address] is None]
            if missing:
                scratches = {point.address: self._scratch(point) for point in missing}
                try:
                    with ExitStack() as stack:
                        records = [
                            stack.enter_context(Record(scratch, folder / f".work-{address}"))
                            for address, scratch in scratches.items()
                        ]
                        measured = measure(missing, records)
                    for point, found in zip(missing, measured, strict=True):  # each is safe before the next is written
                        row = {"address": point.address, **point.model_dump(mode="json"), **found}
                        row["finished"] = time.strftime("%Y-%m-%dT%H:%M:%S%z")
                        write_json(scratches[point.address] / "result.json", row)
                        self._move_in(scratches[point.address], self.folder(point))
                        shutil.rmtree(folder / f".work-{point.address}", ignore_errors=True)
                        rows[point.address] = row
                except Exception as error:
                    if len(missing) == 1:
                        trace = traceback.format_exc()
                        self._fail(missing[0], scratches[missing[0].address], f"{type(error).__name__}: {error}", trace)
                    for scratch in scratches.values():
                        shutil.rmtree(scratch, ignore_errors=True)
                    raise
            return [whole for point in points if (whole := rows[point.address]) is not None]

    def _scratch(self, point: Point) -> Path:
        """A new folder for a point whose lock is held; whatever a killed process left of it is removed."""
        points = self.points_folder(point.study)
        for stale in points.glob(f".tmp-{point.address}-*"):
            shutil.rmtree(stale, ignore_errors=True)
        scratch = points / f".tmp-{point.address}-{uuid4().hex[:8]}"
        scratch.mkdir()
        write_json(scratch / "point.json", point.model_dump(mode="json"))
        return scratch

    def fail(self, point: Point, error: str, detail: str) -> None:
        """Leave `error.json` for a point whose process died before it could do so itself.

        Where another process has taken the point up, or finished it, nothing is left and nothing is touched.
        """
        points = self.points_folder(point.study)
        (points / ".locks").mkdir(parents=True, exist_ok=True)
        with suppress(Timeout), FileLock(points / ".locks" / f"{point.address}.lock", timeout=0):
            if (self.folder(point) / "result.json").exists():
                return
            self._fail(point, self._scratch(point), error, detail)

    def _fail(self, point: Point, scratch: Path, error: str, detail: str) -> None:
        (scratch / "result.json").unlink(missing_ok=True)  # it could not be written whole
        write_json(scratch / "error.json", {"error": error, "traceback": detail})
        self._move_in(scratch, self.folder(point))

    @staticmethod
    def _move_in(scratch: Path, final: Path) -> None:
        if (final / "result.json").exists():  # another machine was faster: its result stays
            shutil.rmtree(scratch)
            return
        if final.exists():  # an earlier failure of the same point, which this attempt replaces
            shutil.rmtree(final)
        scratch.rename(final)

    def _folders(self, study: str) -> Iterator[Path]:
        points = self.points_folder(study)
        if not points.exists():
            return
        if not points.is_dir():
            raise BadRequest(f"foreign entry in the store: {points} is a file where the points' folder belongs")
        for path in sorted(points.iterdir()):
            if path.name.startswith("."):
                continue
            if not path.is_dir() or len(path.name) != ADDRESS_LENGTH or not (path / "point.json").exists():
                raise BadRequest(
                    f"foreign entry in the store: {path} is not the folder of a point; move it away and start again"
                )
            yield path


def _read_finished(folder: Path) -> Row | None:
    path = folder / "result.json"
    if not path.exists():
        return None
    try:
        row, point = json.loads(path.read_text("utf-8")), json.loads((folder / "point.json").read_text("utf-8"))
        whole = row["address"] == folder.name and all(row[name] == point[name] for name in point) and "finished" in row
    except (OSError, ValueError, KeyError, TypeError):
        whole = False
    if not whole:
        raise BadRequest(
            f"damaged result in the store: {path} is not what its folder's name promises; move {folder} away"
        )
    return dict(row)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object as `write_text` does, a line a key; NaN is refused, since other readers refuse it too."""
    lines = (f" {json.dumps(key)}: {json.dumps(item, allow_nan=False)}" for key, item in value.items())
    write_text(path, "{\n" + ",\n".join(lines) + "\n}\n")


def write_text(path: Path, text: str) -> None:
    """Write a file under a temporary name and rename it, so that a reader never sees half of it."""
    scratch = path.with_name(f".tmp-{path.name}-{uuid4().hex[:8]}")
    with scratch.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)


def ensure_writable(folder: Path) -> None:
    """Make the folder if need be; BadRequest when nothing can be written into it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".tmp-probe-{uuid4().hex[:8]}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        reason = "it is a file" if folder.is_file() else error.strerror or error
        raise BadRequest(f"cannot write to {folder}: {reason}; name a writable folder") from None
