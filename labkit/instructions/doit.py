"""DoIT, the data set of "Dynamics of Instruction Fine-Tuning", by ability and source, and the exams around it.

The published synthetic data are one pool without abilities: an ability's part is every tenth of its seeded order, the
same number for each, unless a local copy has `synthetic/full/<ability>_full.json`. Of one seed and source a smaller
volume is the beginning of a larger one.
"""

from functools import lru_cache
from pathlib import Path

import numpy as np

from labkit.errors import BadRequest, unknown
from labkit.instructions import exams
from labkit.instructions.corpora import fetch, read
from labkit.instructions.example import Example

HUB = "doit"  # the corpus whose files are had from the hub; anything else is a local copy of it
POOL = "synthetic/40960/general_instruction_gpt4_41k.json"
OUTSIDE = ("ceval_physician", "ceval_teacher_qualification", "ceval_urban_and_rural_planner")


def ordered(corpus: str, ability: str, source: str, seed: int) -> list[Example]:
    """All usable examples of an ability from a source, in the order of a seed.

    Raises:
        BadRequest: for a source or a file that is not there.
    """
    file, place, step = _part(corpus, ability, source)
    pool, own = _usable(file)[0], 0 if step > 1 else 1 + exams.DOIT.index(ability)
    return [pool[i] for i in np.random.default_rng([seed, own]).permutation(len(pool))[place::step].tolist()]


def bad_records(corpus: str, parts: set[tuple[str, str]]) -> int:
    """How many records of the files of some abilities and sources cannot be used."""
    return sum(_usable(file)[1] for file in {_part(corpus, *part)[0] for part in parts})


def exam(corpus: str, entry: str) -> exams.Exam:
    """An ability's test file, one of `OUTSIDE`, or an exam's file (`cmmlu@5`: with five answered examples)."""
    if entry in (*exams.DOIT, *OUTSIDE):
        name = entry if entry in OUTSIDE else f"{entry}_test"
        return exams.read_exam(fetch(HUB, f"curated/test/{name}.json", _copy(corpus)))
    path, _, shots = entry.partition("@")
    if shots and not shots.isdecimal():
        raise BadRequest(f"exams: {entry}: what follows @ is the number of answered examples")
    return exams.read_exam(path, shots=int(shots or 0))


def _copy(corpus: str) -> str | None:
    """The local copy, None for the hub."""
    if corpus != HUB and not Path(corpus).is_dir():
        raise BadRequest(f"corpus = {corpus}: neither '{HUB}', for the hub, nor a folder with a copy of it")
    return None if corpus == HUB else corpus


def _part(corpus: str, ability: str, source: str) -> tuple[Path, int, int]:
    """Where the examples of an ability from a source lie: in a file, every so many of a seeded order from a place on.

    The answer is (file, place, every).
    """
    copy, own = _copy(corpus), f"{source}/full/{ability}_full.json"
    if copy is None or not (Path(copy) / own).is_file():
        if source == "synthetic":
            return fetch(HUB, POOL, copy), exams.DOIT.index(ability), len(exams.DOIT)
        if source != "curated":
            raise unknown("source", source, ("curated", "synthetic"))
    return fetch(HUB, own, copy), 0, 1


def _usable(file: Path) -> tuple[list[Example], int]:
    """The usable examples of a file, and how many records are bad."""
    return _read(file, file.stat().st_mtime_ns)


@lru_cache(maxsize=32)
def _read(file: Path, changed: int) -> tuple[list[Example], int]:
    reader = read(HUB, path=file, on_bad="skip")
    return list(reader), reader.bad.total()
