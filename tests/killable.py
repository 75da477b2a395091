"""Sweeps and notebooks as processes to be killed; a measurement that ends leaves a line in the file `$KILLABLE`."""

import os
import sys
import time
from pathlib import Path

import killable  # by its name, under which workers find it
from toy import ToyPoint, square

from labkit.lab import Progress, Record, Row, Store, check_out, execute, run_points

POINTS = [ToyPoint(number=n) for n in range(40)]


def square_after_a_moment(point: ToyPoint, record: Record) -> Row:
    time.sleep(0.05)
    with Path(os.environ["KILLABLE"]).open("a") as file:
        file.write(f"{point.number}\n")
    return square(point, record)


def swept() -> bool:
    """Whether a sweep of all points, in the store of the surroundings, was whole."""
    quiet = Progress(bar=False, describe=lambda row: "")
    outcomes = run_points(POINTS, killable.square_after_a_moment, jobs=2, progress=quiet)
    return all(outcome.row is not None for outcome in outcomes)


if __name__ == "__main__":
    if len(sys.argv) == 1:
        sys.exit(not swept())
    check_out(Path(sys.argv[2]), "toy")  # as a run does
    execute(Path(sys.argv[1]), Path(sys.argv[2]), {}, store=Store.default())
