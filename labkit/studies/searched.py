"""A search for the transition in the place of a grid: which number of rules and seed the next model gets."""

from typing import TYPE_CHECKING, Protocol

from labkit import grade
from labkit.errors import BadRequest
from labkit.studies.rows import counts_of

if TYPE_CHECKING:
    import pandas as pd

Places = list[tuple[int, int]]  # number of instructions and seed, one per model
MOST = 100  # models of a search, and so stages of a study that makes one
FEWEST = 4


class Settings(Protocol):
    """What a search goes by: `search` is how many models it may train, 0 for a grid."""

    @property
    def search(self) -> int: ...
    @property
    def n_instructions(self) -> list[int]: ...
    @property
    def seeds(self) -> list[int]: ...


def check(params: Settings) -> None:
    """BadRequest for a search that has nothing to choose from."""
    if params.search and (params.search < FEWEST or len(params.n_instructions) < 2 or len(params.seeds) < 2):
        raise BadRequest(f"search = {params.search}: a search takes {FEWEST} models or more, between the least and the "
                         "most of n_instructions, with at least two seeds")  # fmt: skip


def first(params: Settings) -> Places:
    """The ends of what is asked, one model each."""
    return [(n, params.seeds[0]) for n in (max(params.n_instructions), min(params.n_instructions))]


def following(params: Settings, rows: "pd.DataFrame") -> Places:
    """The model that tells most of where the transition is (`grade.next_count`); none when enough are trained."""
    unseen = rows[rows["key"] == "unseen"]
    if len(unseen) >= params.search:
        return []
    groups = {int(str(n)): counts_of(group) for n, group in unseen.groupby("n_instructions")}
    n = grade.next_count(list(groups), list(groups.values()), len(params.seeds))
    return [] if n is None else [(n, params.seeds[len(groups.get(n, []))])]
