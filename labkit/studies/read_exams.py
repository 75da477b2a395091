"""Published answers as exams that a language model follows: how many of their tokens would it write next?

One pass over each answer, and nothing at a floor, so that a small model on a laptop tells arms apart. Left open: right
answers in other words than the published ones do not count, so this says how near a model's writing is to them.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from labkit.design.mixture import digest
from labkit.errors import BadRequest, unknown
from labkit.grade import Counts, code_eval
from labkit.instructions import CORPORA, Example
from labkit.instructions.corpora import Reader, read
from labkit.instructions.files import records
from labkit.learn.learner import Flags, Learner
from labkit.studies.rows import graded_line

REQUEST = "Write a Python function that solves this problem. Answer with the whole code."
DATA = "$LABKIT_DATA/"  # what the name of a file in the folder of the data sets begins with
PROBLEMS = "problems"  # the source of examples that are programs
EXAMS = {
    "solutions_followed": "tokens foreseen of published solutions",
    "mbpp_followed": "tokens foreseen of MBPP's solutions",
    "humaneval_followed": "tokens foreseen of HumanEval's solutions",
    "own_followed": "tokens foreseen of own problems' solutions",
    "answers_followed": "tokens foreseen of general answers",
}  # by name, and how a person reads them; a study looks at the first of which all was sat
POOLS = {"solutions_followed": ("mbpp_followed", "humaneval_followed")}
LEAST = 0.02  # the smallest gain that matters, in the share of tokens that are foreseen
SPARE = 4  # times as many questions are drawn as are asked, because some are too long


class Followed(NamedTuple):
    """An exam as a lesson has it; each question is a cluster.

    Attributes:
        parts: Questions with their answers, by where they come from, more than are asked.
        n: How many are asked of each part: the first that are short enough to be learned from.
        gold: For learning curves, which are not followed.
    """

    parts: Sequence[Sequence[Example]]
    n: int
    gold: bool = False

    def verdicts(self, learner: Learner, keep: Path | None = None) -> dict[str, list[Flags]]:
        """Of each question, whether each token would be written next."""
        return {"": learner.followed([e for part in self.parts for e in learner.fitting(part)[: self.n]])}

    def lines(self, name: str, verdicts: Mapping[str, Sequence[Flags]]) -> list[dict[str, Any]]:
        """The graded line of the exam."""
        right, asked = [int(row.sum()) for row in verdicts[""]], [len(row) for row in verdicts[""]]
        return [graded_line(name, "", "", Counts(right, asked))]


def data_file(name: str) -> Path:
    """A file by its name; one that begins with `$LABKIT_DATA/` lies in the folder that this variable names.

    Raises:
        BadRequest: where the variable names no folder.
    """
    if not name.startswith(DATA):
        return Path(name)
    root = os.environ.get("LABKIT_DATA", "")
    if not root or not Path(root).is_dir():
        found = f"LABKIT_DATA names no folder ({root or 'it is not set'})"
        raise BadRequest(f"{name}: {found}: set it to the folder of the data sets, or name another file in its place")
    return Path(root) / name.removeprefix(DATA)


def source_of(entry: str, folder: Path | None = None) -> dict[str, str]:
    """A corpus of the hub, a file, or `corpus=file`, its local copy: what `corpora.read` and mixtures take.

    Files lie in `folder`, or where `data_file` says.
    """
    corpus, equals, path = entry.partition("=")
    if equals and corpus not in CORPORA:
        raise unknown("corpus", corpus, CORPORA)
    if entry in CORPORA:
        return {"corpus": entry}
    name = path if equals else entry
    where = {"path": str((folder / name if folder else data_file(name)).resolve())}
    return {"corpus": corpus, **where} if equals else where


def digests(entries: Sequence[str]) -> dict[str, str]:
    """What the entries hold, by name: the digests of files, the revisions of corpora.

    Raises:
        BadRequest: for what is neither, and for a file without questions and answers.
    """
    found = {}
    for entry in entries:
        source = source_of(entry)
        if "path" in source and not Path(source["path"]).exists():
            raise BadRequest(f"{source['path']} is neither a corpus ({', '.join(CORPORA)}) nor a file")
        if "path" in source and not _problems(source):
            next(iter(_reader(source)))  # or it is refused
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


def graded(entries: Sequence[str], n: int, learner: Learner) -> list[dict[str, Any]]:
    """The graded lines of `n` questions of each entry, as kinds of one exam of unseen instructions."""
    found = []
    for entry in entries:
        exam = Followed([questions(entry, n)], n)
        lines = exam.lines("unseen", exam.verdicts(learner))
        found += [{**line, "kind": name_of(entry), "chance": 0.0} for line in lines]
    return found


def exam_of(tasks: Sequence[str]) -> str:
    """Which exam a file of problems is, by its first id: `humaneval`, `mbpp`, or somebody's `own`."""
    return {"HumanEval": "humaneval", "Mbpp": "mbpp"}.get(tasks[0].partition("/")[0], "own")


def answered(entry: str) -> list[Example]:
    """All questions of an entry with their answers; raises as `followed`."""
    source = source_of(entry)
    problems = _problems(source)
    if not problems:
        return list(_reader(source))
    found = [Example(question_of(p), "", p.reference.replace("\r", ""), PROBLEMS, task)
             for task, p in problems.items() if p.reference]  # fmt: skip
    if not found:
        raise BadRequest(f"{source['path']} holds no solution to follow")
    return found


def _problems(source: Mapping[str, str]) -> dict[str, Any]:
    """The problems in a file that holds some."""
    if "corpus" in source:
        return {}
    first = next((record for _, record in records(Path(source["path"])) if isinstance(record, dict)), {})
    return code_eval.load_problems(Path(source["path"])) if {"test_list", "canonical_solution"} & set(first) else {}


def _reader(source: Mapping[str, str]) -> Reader:
    """The records of a file or corpus, whose columns are looked for at once."""
    named = "corpus" in source
    return read(source["corpus" if named else "path"], path=source.get("path") if named else None, on_bad="skip")
