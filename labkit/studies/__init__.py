"""The studies: one module each. `every` and `find` look them up, `begin` opens a run of one.

A module of this package that defines `STUDY` is a study; nothing else has to be registered. So is any Python file that
defines one (`find("path/to/study.py")`), and what an installed package offers under the entry point `labkit.studies`.
"""

import importlib
import pkgutil
import sys
from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from labkit.errors import BadRequest, unknown
from labkit.lab import check_injected
from labkit.studies import run as _run
from labkit.studies.params import StudyParams, parse_settings, parse_value
from labkit.studies.run import Run
from labkit.studies.study import Results, Study

__all__ = [
    "Results", "Run", "Study", "StudyParams", "begin", "every", "find", "parse_settings", "parse_value",
]  # fmt: skip


@cache
def every() -> dict[str, Study]:
    """All studies by name: this package's, and those that installed packages offer under `labkit.studies`.

    A package offers one by an entry point of the group `labkit.studies` that names a `Study`.
    """
    modules = (importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__))
    own = [module.STUDY for module in modules if hasattr(module, "STUDY")]
    others = [entry.load() for entry in entry_points(group="labkit.studies")]
    return {study.name: study for study in [*own, *others]}


def find(name: str) -> Study:
    """The study of that name, or the one that a Python file defines as `STUDY`.

    Raises:
        BadRequest: when there is none; suggests the nearest. In a notebook also for a parameter that papermill set
            and that the study does not have.
    """
    study = _from_file(Path(name).resolve()) if name.endswith(".py") else _of_the_lab(name)
    check_injected(study.names())  # in a notebook: this is where each of ours begins
    return study


def _of_the_lab(name: str) -> Study:
    studies = every()
    if name not in studies:
        raise unknown("study", name, studies)
    return studies[name]


def _from_file(path: Path) -> Study:
    """The study of a module anywhere on disk. Its folder joins `sys.path`, where worker processes look for it, too."""
    if not path.is_file():
        raise BadRequest(f"{path} is not a file: name a study from `labkit studies`, or a Python file with a STUDY")
    if path.parent.as_posix() not in sys.path:
        sys.path.insert(0, path.parent.as_posix())
    module = importlib.import_module(path.stem)
    if Path(module.__file__ or "").resolve() != path:
        raise BadRequest(f"{path}: a module named '{path.stem}' is there already; give the file another name")
    if not isinstance(study := getattr(module, "STUDY", None), Study):
        raise BadRequest(f"{path} defines no STUDY, which a study's module must")
    return study


def begin(name: str, namespace: Mapping[str, Any]) -> Run:
    """A run of a study with the parameters that a notebook's first cell sets: `begin(NAME, globals())`."""
    return _run.begin(find(name), namespace)
