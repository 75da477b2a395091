"""The studies: one module each. `every` and `find` look them up, `begin` opens a run of one.

A module of this package that defines `STUDY` is a study; nothing else has to be registered. So is any Python file that
defines one (`find("path/to/study.py")`), and what an installed package offers under the entry point `labkit.studies`:

    [project.entry-points."labkit.studies"]
    swaps = "my_package.swaps:STUDY"
"""

import importlib
import pkgutil
import sys
from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.errors import BadRequest, first_line, unknown
from labkit.lab import Store, check_injected
from labkit.lab.runs import find_run
from labkit.studies import past
from labkit.studies import run as _run
from labkit.studies.params import StudyParams, parse_settings, parse_value, read_params
from labkit.studies.past import Comparison
from labkit.studies.run import Run
from labkit.studies.study import Results, Study

if TYPE_CHECKING:
    from labkit.studies.playing import Playground
    from labkit.studies.wrong import Mistakes

GROUP = "labkit.studies"

__all__ = [
    "Comparison", "Results", "Run", "Study", "StudyParams", "begin", "compare", "every", "find", "mistakes",
    "parse_settings", "parse_value", "playground", "read_params",
]  # fmt: skip


@cache
def every() -> dict[str, Study]:
    """All studies by name: this package's, and those that installed packages offer.

    A package offers one by an entry point of the group `labkit.studies`, named as the study, that is a `Study`.
    """
    own = [study for name in _modules() if (study := _defined_in(name))]
    offered = [entry.load() for entry in entry_points(group=GROUP)]
    return {study.name: study for study in [*own, *offered]}


def find(name: str) -> Study:
    """The study of that name, or the one that a Python file defines as `STUDY`; imports no other study.

    Raises:
        BadRequest: when there is none; suggests the nearest. In a notebook also for a parameter that papermill set
            and that the study does not have.
    """
    study = _from_file(Path(name).resolve()) if name.endswith(".py") else _of_the_lab(name)
    check_injected(study.names())  # in a notebook: this is where each of ours begins
    return study


def _modules() -> list[str]:
    return [module.name for module in pkgutil.iter_modules(__path__)]


def _defined_in(module: str) -> Any:
    return getattr(importlib.import_module(f"{__name__}.{module}"), "STUDY", None)


def _of_the_lab(name: str) -> Study:
    if name in _modules() and (study := _defined_in(name)) and study.name == name:
        return study
    for entry in entry_points(group=GROUP, name=name):
        return entry.load()
    if name not in every():
        raise unknown("study", name, every())
    return every()[name]


def _from_file(path: Path) -> Study:
    """The study of a module anywhere on disk. Its folder joins `sys.path`, where worker processes look for it, too."""
    if not path.is_file():
        raise BadRequest(f"{path} is not a file: name a study from `labkit studies`, or a Python file with a STUDY")
    if path.parent.as_posix() not in sys.path:
        sys.path.insert(0, path.parent.as_posix())
    importlib.invalidate_caches()  # it may have been written a moment ago
    try:
        module = importlib.import_module(path.stem)
    except Exception as error:
        raise BadRequest(f"{path} cannot be imported: {type(error).__name__}: {first_line(error)}") from error
    if Path(module.__file__ or "").resolve() != path:
        raise BadRequest(f"{path}: a module named '{path.stem}' is there already; give the file another name")
    if not isinstance(study := getattr(module, "STUDY", None), Study):
        raise BadRequest(f"{path} defines no STUDY, which a study's module must")
    return study


def begin(name: str, namespace: Mapping[str, Any]) -> Run:
    """A run of a study with the parameters that a notebook's first cell sets: `begin(NAME, globals())`."""
    return _run.begin(find(name), namespace)


def compare(one: str, other: str, study: str | None = None) -> Comparison:
    """Two runs of one study side by side, each named as `labkit runs` does, or by its folder.

    `study` is the path of its module where it is one of your own.
    """
    store = Store.default()
    runs = {label: find_run(store, name) for label, name in (("A", one), ("B", other))}
    return past.compare(find(study or runs["A"].result["study"]), runs, store)


def mistakes(address: str, exam: str | None = None, study: str | None = None) -> "Mistakes":
    """What a finished model gets wrong, question by question; `address` may be shortened as long as it names one.

    `study` is the path of its module where it is one of your own.
    """
    from labkit.studies.wrong import mistakes as made

    folder = Store.default().find(address)
    return made(find(study or folder.parent.parent.name), Store.default(), folder.name, exam)


def playground(scale: str = "classroom", **given: Any) -> "Playground":
    """The playground on the store's models of the diversity sweep; without any, a few are trained, as `given` says."""
    from labkit.studies.playing import opened

    return opened(find("diversity_sweep"), {"scale": scale, **given})


def __getattr__(name: str) -> Any:
    """Modules for notebooks, imported when they are first asked for (`studies.toys`)."""
    if name in ("toys", "rewriting"):
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
