"""Executing a study's notebook with papermill, into a folder of its own.

    papermill_runs/<study>/runs/<stamp>-<label>-<hash>/
        {notebook.ipynb, report.html, params.yaml, result.json, provenance.json}

The notebook itself writes all but its own executed copy (`labkit.studies.finish`), so a run by hand in JupyterLab
leaves the same files. Everything is written under a temporary name and moved in when it is whole; a notebook that
fails is kept, as `failed.ipynb`, for a look at the cell that failed.

The kernel learns of its surroundings by the environment: `LABKIT_RUNS` (the store), `LABKIT_RUN_DIR` (where the run's
files go), `LABKIT_JOBS` and `LABKIT_EXECUTOR` (of a sweep), `LABKIT_BATCH=1` (plain lines instead of bars and widgets).
"""

import ast
import hashlib
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from labkit.design.durable import sync
from labkit.design.scratch import SCRATCH, tidy
from labkit.errors import BadRequest, first_line, unknown
from labkit.lab import light
from labkit.lab.places import ensure_writable
from labkit.lab.store import Store
from labkit.lab.sweep import checked_executor, default_fleet, default_jobs
from labkit.lab.tracking import checked_trackers

RUN_FILES = ("notebook.ipynb", "report.html", "params.yaml", "result.json", "provenance.json")


class RunFailed(RuntimeError):
    """The notebook did not run to its end; the message says in which cell and why, and where the failed copy is."""


def run_folder(store: Store, study: str, params: Mapping[str, Any], label: str = "run") -> Path:
    """Make a new folder for one run of a study, named by the time, a label for people and a hash of the parameters."""
    text = json.dumps(dict(params), sort_keys=True, default=str)
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{label}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    runs = store.root / study / "runs"
    for folder in [runs, *runs.glob("*")]:
        tidy(folder)
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
    known = (*RUN_FILES, "failed.ipynb")
    strange = [path.name for path in folder.iterdir() if path.name not in known and not path.name.startswith(SCRATCH)]
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


def check_surroundings(jobs: int | None = None, fleet: int | None = None, executor: str | None = None) -> None:
    """Refuse (BadRequest) what a sweep would, of the options or else of the environment, before a kernel starts."""
    checked_executor(executor)
    checked_trackers(None)
    if jobs is None:
        default_jobs()
    if fleet is None:
        default_fleet()


def check_notebook(path: Path) -> Any:
    """The notebook in that file.

    Raises:
        BadRequest: when there is none, or when no cell, or more than one, is tagged `parameters`: what was asked for
            would be overwritten by the notebook's own values.
    """
    light.jsonschema()
    import nbformat
    import papermill  # noqa: F401 (a want of it is said here, before anything starts)

    try:
        notebook = nbformat.reads(path.read_text("utf-8"), as_version=4)
        nbformat.validate(notebook)
        tagged = _tagged(notebook)
    except OSError as error:
        raise BadRequest(f"cannot read {path}: {error.strerror}") from None
    except Exception as error:  # nbformat raises what it meets on its way through a broken file
        raise BadRequest(f"{path} is no notebook: {type(error).__name__}: {first_line(error)[:200]}") from None
    if len(tagged) != 1:
        raise BadRequest(f"{path} has {len(tagged)} cells with the tag 'parameters', not one: nothing could be set")
    return notebook


def _check_parameters(notebook: Any, given: Mapping[str, Any]) -> None:
    """Refuse a parameter that the notebook's own cell does not have."""
    (cell,) = _tagged(notebook)
    names = assigned(cell.source)
    for name in given:
        if name not in names:
            raise unknown("parameter of the notebook", name, names)


def _tagged(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]


def check_injected(names: Collection[str]) -> None:
    """In a kernel, look at what papermill has set, by whatever command; elsewhere this does nothing.

    Args:
        names: The parameters of the study; those of an earlier cell of the notebook are known as well.

    Raises:
        BadRequest: for a name that would set nothing, or a value that the notebook has overwritten since.
    """
    ipython = sys.modules.get("IPython")
    shell: Any = ipython.get_ipython() if ipython else None
    cells = [str(source) for source in shell.user_ns.get("In", [])[1:]] if shell else []
    for place, source in enumerate(cells):
        if not source.startswith("# Parameters\n"):  # papermill's own heading
            continue
        known = dict.fromkeys([*names, *(name for cell in cells[:place] for name in assigned(cell))])
        for name, value in assigned(source).items():
            if name not in known:
                raise unknown("parameter of the notebook", name, known)
            if place == 0 and value is not ... and shell.user_ns.get(name) != value:
                raise BadRequest(f"{name} = {value!r} was overwritten: the notebook has no cell tagged 'parameters'")


def assigned(source: str) -> dict[str, Any]:
    """The names that lines of `name = value` set, with their values; Ellipsis for one that is no literal."""
    values: dict[str, Any] = {}
    statements: list[ast.stmt] = []
    with suppress(SyntaxError):  # of lines that only a kernel understands
        statements = ast.parse(source).body
    for statement in statements:
        match statement:
            case (
                ast.Assign(targets=[ast.Name(id=name), *_], value=value)
                | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
            ):
                values[name] = ...
                with suppress(ValueError):
                    values[name] = ast.literal_eval(value)
    return values


def execute(notebook: Path, folder: Path, params: Mapping[str, Any], *, store: Store, jobs: int | None = None,
            fleet: int | None = None, executor: str | None = None, minutes: float | None = None) -> Path:  # fmt: skip
    """Execute a notebook with the given parameters; its printed lines appear on standard output as they come.

    A kernel that has not come to the end within `minutes` is killed.

    The kernel is this very Python, whatever kernels Jupyter finds on this machine.

    Returns:
        The path of the executed copy, `folder/notebook.ipynb`.

    Raises:
        BadRequest: for a notebook without its parameters cell, or a parameter that the cell does not have.
        RunFailed: when a cell raised, the kernel died, the time was up, or the copy could not be written.
    """
    source = check_notebook(notebook)
    _check_parameters(source, params)
    folder.mkdir(parents=True, exist_ok=True)
    surroundings = {"LABKIT_RUNS": store.root.resolve(), "LABKIT_RUN_DIR": folder.resolve(), "LABKIT_BATCH": 1,
                    "LABKIT_JOBS": jobs, "LABKIT_FLEET": fleet, "LABKIT_EXECUTOR": executor}  # fmt: skip
    scratch = folder.resolve() / f"{SCRATCH}{os.getpid()}.ipynb"  # and `.json`, of its kernel's connection
    try:
        _run(source, notebook, scratch, params, _own_kernel(surroundings, scratch.with_suffix(".json"), minutes))
        (folder / "failed.ipynb").unlink(missing_ok=True)
        sync(scratch)
        return scratch.replace(folder / "notebook.ipynb")
    finally:
        scratch.unlink(missing_ok=True)
        scratch.with_suffix(".json").unlink(missing_ok=True)
        with suppress(OSError):  # only when nothing came of it
            folder.rmdir()


def _run(source: Any, notebook: Path, scratch: Path, params: Mapping[str, Any], kernel: Any) -> None:
    """Let papermill execute a notebook into `scratch`; what fails becomes one RunFailed."""
    import papermill
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    logging.getLogger("papermill").setLevel(logging.ERROR)  # its warnings are on parameters, which are checked here
    try:
        papermill.execute_notebook(
            source,
            str(scratch).replace("{", "{{").replace("}", "}}"),  # papermill formats it with the parameters
            parameters=dict(params), kernel_name="python3", kernel_manager_class=kernel, progress_bar=False,
            language="python",  # of a notebook that was written by hand, and does not say so
            extra_arguments=["--log-level=CRITICAL"],  # the kernel's own remarks are not the study's
            stdout_file=sys.stdout, stderr_file=sys.stderr, cwd=str(notebook.parent),
        )  # fmt: skip
    except PapermillExecutionError as error:
        if error.ename == "KeyboardInterrupt":  # Ctrl-C reached the kernel before it reached us
            raise KeyboardInterrupt from None
        where = f"cell {error.exec_count} of {notebook.name}"
        raise _failed(f"{where} raised {error.ename}: {error.evalue}", scratch) from None
    except KeyboardInterrupt:
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # it would list what was left half-done
        raise
    except DeadKernelError:
        raise _failed(f"the kernel of {notebook.name} {kernel.died}", scratch) from None
    except RuntimeError as error:  # jupyter_client's word for a kernel that does not come up
        if kernel.died != "died":
            raise _failed(f"the kernel of {notebook.name} {kernel.died}", scratch) from None
        raise _failed(f"the kernel of {notebook.name} could not start ({sys.executable}): {error}", scratch) from None
    except OSError as error:
        raise RunFailed(f"{notebook.name} stopped, {error.strerror or error}: {error.filename or scratch}") from None


def _failed(sentence: str, scratch: Path) -> RunFailed:
    """A failure whose notebook is kept for a look, where papermill has written it."""
    kept = scratch.with_name("failed.ipynb")
    with suppress(FileNotFoundError):
        scratch.replace(kept)
        sentence += f"\nsee {kept}"
    return RunFailed(sentence)


def _own_kernel(surroundings: Mapping[str, Any], connection: Path, minutes: float | None = None) -> Any:
    """A kernel that is this Python, in these surroundings: one called python3 may be that of another installation.

    The file of its connection, with its key, lies beside the notebook, where the next run finds what a kill has left.
    """
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager

    words = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    # jupyter_client fills in what looks like a variable, of which a folder's name knows nothing
    env = {name: str(value).replace("$", "$$") for name, value in surroundings.items() if value is not None}

    class OwnKernel(AsyncKernelManager):
        died = "died"

        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self.connection_file = str(connection)

        async def start_kernel(self, **options: Any) -> None:  # type: ignore[override]
            await super().start_kernel(**options)
            if minutes is not None:
                process: Any = self.provisioner
                clock = threading.Timer(60 * minutes, self.out_of_time, [psutil.Process(process.pid)])
                clock.daemon = True
                clock.start()

        def out_of_time(self, kernel: psutil.Process) -> None:
            with suppress(psutil.NoSuchProcess):  # it has long been through
                type(self).died = f"was stopped: its {minutes:g} minutes were up"
                kernel.kill()

        @property
        def kernel_spec(self) -> KernelSpec:
            return KernelSpec(argv=words, display_name="Python 3", language="python", env=env)

    return OwnKernel
