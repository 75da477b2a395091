"""A curriculum's public set as a corpus or file, whose exam is published answers that a language model follows.

`Source` is what a cell of the curriculum may learn from; `kind_of` and `digests` make it from parameters.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from labkit.design import Decontaminator
from labkit.design.mixture import digest
from labkit.instructions import Example
from labkit.learn.learner import Learner
from labkit.studies import read_exams
from labkit.studies.public_sets import CorpusSource, FamilySource, Forbidden, Graded
from labkit.teach import benchmarks, distil
from labkit.teach import judge as judging

FEW = 16  # examples of a round that a student is looked at by


class FollowedSource(CorpusSource, frozen=True):
    """A corpus or file, with `n_test` questions of each file of published answers, a kind of task each (`held`)."""

    source: Literal["followed"] = "followed"  # type: ignore[assignment]
    held: tuple[str, ...]
    n_test: int

    def forbidden(self) -> Forbidden:
        asked = {distil.normal(distil.question_of(one)) for entry in self.held for one in read_exams.answered(entry)}
        return lambda question: "question of the exam" if distil.normal(question) in asked else None

    def named_kinds(self, kinds: Sequence[str | None]) -> list[str | None]:
        """The same; a small classifier may know no kind, and then all are of the first."""
        found = super().named_kinds(kinds)
        return found if any(found) else [self.tasks[0]] * len(found)

    def guard(self) -> Decontaminator:
        """Keeps out what shares words with the exam's questions or answers."""
        return Decontaminator([source["path"] for source in map(read_exams.source_of, self.held) if "path" in source])

    def learned(self, learner: Learner, examples: Sequence[Example]) -> list[int]:
        """Long answers are no word-for-word matter: would at least half of the tokens be written next?"""
        return [int(row.mean() >= 0.5) for row in learner.followed(examples[:FEW])]

    def graded(self, learner: Learner, asker: judging.Asker, cell: Any, folder: Path) -> Graded:
        """The lines of each file."""
        return read_exams.graded(self.held, self.n_test, learner), {"same_questions": True}


Source = Annotated[FamilySource | CorpusSource | FollowedSource, Field(discriminator="source")]


def kind_of(params: Any) -> type[FamilySource | CorpusSource | FollowedSource]:
    """Where the examples and exams of some parameters come from."""
    return FamilySource if params.small else FollowedSource if params.held else CorpusSource


def digests(given: Mapping[str, Any]) -> dict[str, str]:
    """The files that the result of a model on a corpus depends on, by content.

    Raises:
        BadRequest: for a corpus, a file of published answers or one of MT-Bench's that is not there.
    """
    bench = [] if given["held"] else [name for name in (given["questions"], given["references"]) if name]
    for name, read in zip(bench, (benchmarks.read_questions, benchmarks.read_answers), strict=False):
        read(name)
    files = {name: digest(Path(name)) for name in (*bench, given["model"]) if Path(name).exists()}
    return files | read_exams.digests([given["corpus"], *given["held"]])
