"""Measurements for the tests of the lab: module-level, so that a worker process can import them."""

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from labkit.lab import Point, Record, Row, Store


class ToyPoint(Point):
    study: Literal["toy"] = "toy"
    version: Literal[1] = 1
    number: int
    traces: str = ""


def rows_of(store: Store) -> list[Row]:
    """The finished rows of a store in which every entry can be read."""
    rows, complaints = store.read("toy")
    assert not complaints
    return rows


def square(point: ToyPoint, record: Record) -> dict[str, Any]:
    """Squares the number; leaves a line in a file for each time it really ran."""
    record.log(step=1, number=point.number)
    if point.traces:
        with Path(point.traces).open("a") as file:
            file.write(f"{point.number}\n")
    return {"squared": point.number**2}


def square_but_not_13(point: ToyPoint, record: Record) -> dict[str, Any]:
    if point.number == 13:
        raise ArithmeticError("13 is not squared here")
    return square(point, record)


def square_or_die(point: ToyPoint, record: Record) -> dict[str, Any]:
    if point.number == 13:
        os.kill(os.getpid(), signal.SIGKILL)
    return square(point, record)


def square_to_nan(point: ToyPoint, record: Record) -> dict[str, Any]:
    return {"squared": float("nan")}


def square_slowly(point: ToyPoint, record: Record) -> dict[str, Any]:
    time.sleep(0.3)
    return square(point, record)


class ShapedPoint(ToyPoint):
    """A point that can be measured together with others of its colour."""

    colour: str = "red"

    @property
    def shape(self) -> str:
        return self.colour


def square_many(points: Sequence[ShapedPoint], records: Sequence[Record]) -> list[dict[str, Any]]:
    """Squares all numbers at once; the row says how many there were."""
    assert len({point.colour for point in points}) == 1
    return [square_but_not_13(p, r) | {"together": len(points)} for p, r in zip(points, records, strict=True)]


def square_many_or_die(points: Sequence[ShapedPoint], records: Sequence[Record]) -> list[dict[str, Any]]:
    return [square_or_die(point, record) for point, record in zip(points, records, strict=True)]
