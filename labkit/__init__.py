"""labkit: which instruction data makes a language model follow instructions it has never seen?

Every study draws examples from instructions, composes them under a budget, lets a learner learn, grades it on
instructions it has never seen, remembers the result and shows it:

    instructions -> design -> learn -> grade -> lab -> show

Imports point along that arrow; only `studies` and the command line see every room.
"""

from importlib.metadata import PackageNotFoundError, version

from labkit.errors import BadRequest

try:
    __version__ = version("labkit")
except PackageNotFoundError:  # run from a plain copy of the sources, as on a borrowed GPU machine
    __version__ = "0.1.0"

__all__ = ["BadRequest", "__version__"]
