"""Executing a study's notebook with papermill, into a folder of its own.

    papermill_runs/<study>/runs/<stamp>-<hash>/{notebook.ipynb, report.html, params.yaml, result.json, provenance.json}

The notebook itself writes all but its own executed copy (`labkit.studies.finish`), so a run by hand in JupyterLab
leaves the same files. Everything is written under a temporary name and moved in when it is whole; a notebook that
fails is kept, as `failed.ipynb`, for a look at the cell that failed.

The kernel learns of its surroundings by the environment: `LABKIT_RUNS` (the store), `LABKIT_RUN_DIR` (where the run's
files go), `LABKIT_JOBS` and `LABKIT_EXECUTOR` (of a sweep), `LABKIT_BATCH=1` (plain lines instead of bars and widgets).
"""

import hashlib
import json
import logging
import os
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from labkit.errors import BadRequest
from labkit.lab.store import Store, ensure_writable

RUN_FILES = ("notebook.ipynb", "report.html", "params.yaml", "result.json", "provenance.json")


class RunFailed(RuntimeError):
    """The notebook raised; the message says in which cell and why, and where the failed copy is."""


def run_folder(store: Store, study: str, params: Mapping[str, Any]) -> Path:
    """Make a new folder for one run of a study, named by the time and a hash of the parameters."""
    text = json.dumps(dict(params), sort_keys=True, default=str)
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    runs = store.root / study / "runs"
    while True:
        try:
            (runs / name).mkdir(parents=True)
            return runs / name
        except FileExistsError:  # an equal run started within the same second
            name += "+"


def check_out(folder: Path, study: str) -> None:
    """Refuse a folder in which something could be lost.

    Raises:
        BadRequest: when it cannot be written, or holds files other than those of an earlier run of the same study.
    """
    ensure_writable(folder)
    strange = [path.name for path in folder.iterdir() if path.name not in (*RUN_FILES, "failed.ipynb")]
    if strange:
        raise BadRequest(
            f"{folder} already holds '{sorted(strange)[0]}': name an empty folder or one of an earlier run"
        )
    if (result := folder / "result.json").exists():
        try:
            holder = json.loads(result.read_text("utf-8"))["study"]
        except (ValueError, KeyError, TypeError):
            holder = "something else"
        if holder != study:
            raise BadRequest(f"{folder} holds a run of {holder}: name another folder")


def execute(
    notebook: Path,
    folder: Path,
    params: Mapping[str, Any],
    *,
    store: Store,
    jobs: int | None = None,
    fleet: int | None = None,
    executor: str | None = None,
) -> Path:
    """Execute a notebook with the given parameters; its printed lines appear on standard output as they come.

    Returns:
        The path of the executed copy, `folder/notebook.ipynb`.

    Raises:
        RunFailed: when a cell raised.
    """
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    folder.mkdir(parents=True, exist_ok=True)
    scratch = folder / f".tmp-{os.getpid()}.ipynb"
    surroundings = {
        "LABKIT_RUNS": str(store.root.resolve()),
        "LABKIT_RUN_DIR": str(folder.resolve()),
        "LABKIT_BATCH": "1",
    }
    if jobs is not None:
        surroundings["LABKIT_JOBS"] = str(jobs)
    if fleet is not None:
        surroundings["LABKIT_FLEET"] = str(fleet)
    if executor is not None:
        surroundings["LABKIT_EXECUTOR"] = executor
    before = {name: os.environ.get(name) for name in surroundings}
    os.environ.update(surroundings)
    logging.getLogger("papermill").setLevel(logging.WARNING)
    try:
        papermill.execute_notebook(
            str(notebook),
            str(scratch),
            parameters=dict(params),
            kernel_name="python3",
            progress_bar=False,
            extra_arguments=["--log-level=ERROR"],  # the kernel's own remarks are not the study's
            stdout_file=sys.stdout,
            stderr_file=sys.stderr,
            cwd=str(notebook.parent),
        )
        (folder / "failed.ipynb").unlink(missing_ok=True)
        return scratch.replace(folder / "notebook.ipynb")
    except PapermillExecutionError as error:
        if error.ename == "KeyboardInterrupt":  # Ctrl-C reached the kernel before it reached us
            raise KeyboardInterrupt from None
        scratch.replace(folder / "failed.ipynb")
        where = f"cell {error.exec_count} of {notebook.name}"
        raise RunFailed(f"{where} raised {error.ename}: {error.evalue}\nsee {folder / 'failed.ipynb'}") from None
    except DeadKernelError:
        scratch.replace(folder / "failed.ipynb")
        raise RunFailed(f"the kernel of {notebook.name} died\nsee {folder / 'failed.ipynb'}") from None
    finally:
        scratch.unlink(missing_ok=True)
        with suppress(OSError):  # only when nothing came of it
            folder.rmdir()
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
