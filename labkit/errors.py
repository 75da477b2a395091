"""The one way labkit refuses work.

`BadRequest` carries a single sentence that names the offending thing and what is allowed. It is raised before
any work starts; the command line prints the sentence and leaves with exit code 2.
"""

import difflib
import os
from collections.abc import Collection, Iterable
from os import PathLike


class BadRequest(ValueError):
    """A request that cannot be carried out; `str(error)` is one sentence for the person who made it.

    In a notebook the sentence is all that is shown: where in our source it was found does not help anybody.
    """

    def _render_traceback_(self) -> list[str]:
        return [f"{type(self).__name__}: {self}"]


def unknown(kind: str, name: str, allowed: Iterable[str]) -> BadRequest:
    """The refusal of a name that does not exist, with the nearest one that does.

    >>> str(unknown("scale", "labtop", ["smoke", "laptop"]))
    "unknown scale 'labtop': did you mean 'laptop'? (allowed: smoke, laptop)"
    """
    names = list(allowed)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f": did you mean '{near[0]}'?" if near else ""
    return BadRequest(f"unknown {kind} '{name}'{hint} (allowed: {', '.join(names)})")


def check_known(kind: str, names: Iterable[str], allowed: Collection[str]) -> None:
    """The refusal of the first of some names that does not exist; see `unknown`."""
    for name in names:
        if name not in allowed:
            raise unknown(kind, name, allowed)


def expanded(path: str | PathLike[str]) -> str:
    """A path with `~` as the home folder, for places that no shell has seen; a home of nobody stays as it is."""
    return os.path.expanduser(path)  # noqa: PTH111 (which does not raise, as Path's does)


def first_line(error: Exception) -> str:
    """What another package complained of, as the end of a sentence of ours."""
    return str(error).strip().split("\n")[0].rstrip(".")
