"""Points of studies of abilities, made up: scores that are known, with binomial noise."""

from collections.abc import Callable
from typing import Any

import numpy as np

from labkit import grade
from labkit.grade.growth import Curves
from labkit.studies.rows import graded_line

INSTRUCTIONS, ASKED = 60, 5


def made(design_: str, scores: dict[str, list[float]], volumes: list[float], **given: Any) -> dict[str, Any]:
    """A point with chance-corrected scores [R] by ability (chance 1/3), with some binomial noise."""
    outside = given.pop("outside", [])
    row = {
        "study": "made",
        "design": design_,
        "arm": "all",
        "source": "curated",
        "least_alone": 0.3,
        "seed": 0,
        "learned": True,
        "counts": None,
        "predicted": None,
        "train_seconds": 1.0,
        **given,
    }
    row["address"] = "/".join(str(row[name]) for name in ("design", "arm", "source", "seed")) + str(volumes)
    rng = np.random.default_rng([row["seed"], *map(int, volumes), *map(ord, design_ + row["arm"] + row["source"])])
    graded = []
    for name, some in scores.items():
        for grading, chance in (("likelihood", 1 / 3), ("generated", 0.0)):
            for volume, score in zip(volumes, some, strict=True):
                right = rng.binomial(ASKED, chance + (1 - chance) * score, INSTRUCTIONS)
                counts = grade.Counts(right, np.full(INSTRUCTIONS, ASKED))
                line = graded_line("outside" if name in outside else "unseen", name, grading, counts)
                about = {"chance": chance, "volume": volume, "examples": int(len(scores) * volume)}
                graded.append(line | about)
        costs = [rng.gamma(20, (1.2 - score) / 20, INSTRUCTIONS).tolist() for score in some]
        for line in (line for line in graded if line["kind"] == name and line["grading"] == "likelihood"):
            nats = given.get("nats", costs[volumes.index(line["volume"])])
            line |= {"nats": nats, "nats_tokens": [1] * INSTRUCTIONS}
    return row | {"graded": graded}


def curve(plateau: float, pace: float, steepness: float = 2.0) -> Callable[[list[float]], list[float]]:
    known = Curves.of({"plateau": plateau, "pace": pace, "steepness": steepness, "sudden": True})
    return lambda volumes: known.at(volumes)[0].tolist()


SHAPES = {"early": curve(0.9, 20), "late": curve(0.9, 2000, 1.5), "deaf": curve(1e-6, 100), "mid": curve(0.6, 200)}
VOLUMES = [16.0, 64.0, 256.0, 1024.0]
