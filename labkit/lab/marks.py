"""Learning curves while they grow: the lines of `log.jsonl` of points that are being measured on this machine."""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any

from labkit.lab.store import Point, Store

LOOK = 0.5  # seconds between two looks


class Marks:
    """The lines of the logs of what is being measured on this machine, each told once."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.read: dict[Path, int] = {}

    def new(self, studies: Sequence[str]) -> list[tuple[str, dict[str, Any]]]:
        """Addresses and lines that have come since the last look."""
        found = []
        for address, path in (pair for study in studies for pair in self.store.being_measured(study)):
            with suppress(OSError):  # it was moved in meanwhile
                whole = path.read_text("utf-8").split("\n")[:-1]  # a line that is being written has no end yet
                found += [(address, json.loads(line)) for line in whole[self.read.get(path, 0) :]]
                self.read[path] = len(whole)
        return found


class Follower:
    """Tells of new marks of some points, with the steps that each will take if it says so, until it is closed."""

    def __init__(
        self, store: Store, points: Sequence[Point], tell: Callable[[str, Mapping[str, Any], int | None], None]
    ) -> None:
        self._over, self._marks, self._tell = Event(), Marks(store), tell
        self._steps = {point.address: getattr(point, "steps", None) for point in points}
        self._studies = sorted({point.study for point in points})
        self._thread = Thread(target=self._look, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(LOOK):
            for address, line in self._marks.new(self._studies):
                if address in self._steps:
                    self._tell(address, line, self._steps[address])
