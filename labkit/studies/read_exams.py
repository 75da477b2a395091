"""Files of published answers as exams that a language model follows; see `studies.lesson.Followed`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from labkit.design.mixture import digest
from labkit.errors import BadRequest, unknown
from labkit.grade import code_eval
from labkit.instructions import CORPORA, Example
from labkit.instructions.corpora import read
from labkit.instructions.files import data_file, records
from labkit.studies.lesson import Followed

REQUEST = "Write a Python function that solves this problem. Answer with the whole code."
PROBLEMS = "problems"  # the source of examples that are programs
SPARE = 4  # times as many questions are drawn as are asked, because some are too long


def source_of(entry: str) -> dict[str, str]:
    """A corpus of the hub, a file, or `corpus=file`, its local copy: what `corpora.read` and mixtures take."""
    corpus, equals, path = entry.partition("=")
    if equals and corpus not in CORPORA:
        raise unknown("corpus", corpus, CORPORA)
    if entry in CORPORA:
        return {"corpus": entry}
    where = {"path": str(data_file(path if equals else entry).resolve())}
    return {"corpus": corpus, **where} if equals else where


def whole_path(entry: str) -> str:
    """The entry with the whole path of its file, for a notebook that runs in another folder."""
    corpus, equals, path = entry.rpartition("=")
    return f"{corpus}{equals}{Path(path).resolve()}" if Path(path).exists() else entry


def digests(entries: Sequence[str]) -> dict[str, str]:
    """What the entries hold, by name: the digests of files, the revisions of corpora.

    Raises:
        BadRequest: for what is neither.
    """
    found = {}
    for entry in entries:
        source = source_of(entry)
        if "path" in source and not Path(source["path"]).exists():
            raise BadRequest(f"{source['path']} is neither a corpus ({', '.join(CORPORA)}) nor a file")
        found[entry] = digest(Path(source["path"])) if "path" in source else CORPORA[source["corpus"]].revision
    return found


def question_of(problem: Any) -> str:
    """What is asked for a program."""
    return f"{REQUEST}\n\n{problem.request or problem.prompt}"


def name_of(entry: str) -> str:
    """How the exam of an entry is named: by its corpus, else by its file."""
    source = source_of(entry)
    return source.get("corpus") or Path(source["path"]).name.partition(".")[0].replace("-", "_")


def followed(entries: Sequence[str], n: int) -> dict[str, Followed]:
    """Exams of files of problems (`mbpp_followed`...), and one of all records (`answers_followed`).

    Of each file `n` questions are asked, the same ones of everybody.

    Raises:
        BadRequest: for a file of which nothing can be asked.
    """
    parts: dict[str, list[list[Example]]] = {}
    for entry in entries:
        drawn = questions(entry, n)
        name = exam_of([drawn[0].instruction_id]) if drawn[0].source == PROBLEMS else "answers"
        parts.setdefault(f"{name}_followed", []).append(drawn)
    return {name: Followed(own, n) for name, own in parts.items()}


def questions(entry: str, n: int) -> list[Example]:
    """Questions with their answers, in an order that is the same for all, some to spare."""
    examples = answered(entry)
    order = np.random.default_rng(0).permutation(len(examples))[: SPARE * n].tolist()
    return [examples[i] for i in order]


def exam_of(tasks: Sequence[str]) -> str:
    """Which exam a file of problems is, by its first id: `humaneval`, `mbpp`, or somebody's `own`."""
    return {"HumanEval": "humaneval", "Mbpp": "mbpp"}.get(tasks[0].partition("/")[0], "own")


def answered(entry: str) -> list[Example]:
    """All questions of an entry with their answers; raises as `followed`."""
    source = source_of(entry)
    path = Path(source["path"]) if "path" in source else None
    if path and "corpus" not in source and _holds_problems(path):
        problems = code_eval.load_problems(path).items()
        found = [Example(question_of(p), "", p.reference.replace("\r", ""), PROBLEMS, task)
                 for task, p in problems if p.reference]  # fmt: skip
        if not found:
            raise BadRequest(f"{path} holds no solution to follow")
        return found
    return list(read(source.get("corpus") or str(path), path=path if "corpus" in source else None, on_bad="skip"))


def _holds_problems(path: Path) -> bool:
    first = next((record for _, record in records(path) if isinstance(record, dict)), {})
    return bool({"test_list", "canonical_solution"} & set(first))
