"""The commands, one module per subject; what holds for every command is here: options, paths, Ctrl-C."""

import os
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from labkit import entry
from labkit.entry import leave
from labkit.errors import BadRequest, expanded

app = typer.Typer(
    add_completion=False, context_settings={"max_content_width": 120}, pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help in half the time: rich is not imported
    help="Which instruction data makes a language model follow instructions it has never seen?",
)  # fmt: skip

StudyName = Annotated[str, typer.Argument(metavar="STUDY", help="a name from `labkit studies`, or path/to/study.py")]
Scale = Annotated[str, typer.Option(help="a scale of the study; `labkit studies` names them")]
Settings = Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="set a parameter (repeatable)")]
Jobs = Annotated[int | None, typer.Option(min=0, help="worker processes; default one per core, 0 none")]
Fleet = Annotated[int | None, typer.Option(min=1, help="models trained as one; default 1 on a CPU, up to 32 on a GPU")]

RunName = Annotated[str, typer.Argument(metavar="RUN", help="its folder, or how its name in `labkit runs` begins")]
Own = Annotated[str | None, typer.Option("--study", metavar="path/to/study.py", help="of runs of a study of your own")]

TEXT: dict[str, Any] = {"parser": expanded, "metavar": "TEXT"}  # a name, or a path whose `~` is the home folder
Executor = Annotated[str | None, typer.Option(help="processes (default) or ray")]
TELLS = "tell tensorboard, mlflow, wandb or trackio of each new model"
Track = Annotated[str | None, typer.Option("--track", envvar="LABKIT_TRACK", metavar="NAME,...", help=TELLS)]
Form = Annotated[str | None, typer.Option("--progress", metavar="FORM", help="json: an object per line; or auto")]
RESUMED = "interrupted; what was finished is in the store, and the same command goes on from there"


def command(
    name: str, interrupted: str = "interrupted", of: typer.Typer = app
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a command, of a group of them or by itself, with what it says on Ctrl-C.

    `~` in its paths is the home folder, devices are no files, `--out` is nothing that is read, and a refusal leaves no
    new folder behind.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        @wraps(function)
        def prepared(**options: Any) -> None:
            paths = {key: Path(expanded(value)) for key, value in options.items() if isinstance(value, Path)}
            for path in paths.values():
                entry.refuse_devices(path)
            if "out" in paths and os.path.lexists(paths["out"]):
                from labkit.lab import places

                given = [expanded(one) for key, one in options.items() if key != "out" and isinstance(one, str | Path)]
                places.refuse_overwriting(paths["out"], given)
            new = [folder for path in paths.values() for folder in (path, *path.parents) if not os.path.lexists(folder)]
            try:
                function(**options | paths)
            except BadRequest:
                for folder in new:
                    with suppress(OSError):  # it was never made, or something is in it
                        folder.rmdir()
                raise
            except KeyboardInterrupt:
                leave(interrupted, 130)

        return of.command(name)(prepared)

    return register


def _print_version(wanted: bool) -> None:
    if wanted:
        from labkit import __version__

        print(f"labkit {__version__}")
        raise typer.Exit


Version = Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True, help="and leave")]


@app.callback()
def _common(version: Version = False) -> None:
    pass


def track(names: str | None, form: str | None = None) -> None:
    """What is told of new models, and how progress is told, here and in every process started from here."""
    from labkit.lab.progress import checked_form

    if names:
        os.environ["LABKIT_TRACK"] = names
    if form:
        os.environ["LABKIT_PROGRESS"] = checked_form(form)


def values_of(settings: list[str] | None, *, fixed: str = "") -> dict[str, Any]:
    """What was given by `--set`, which is not to be what has an option of its own."""
    from labkit import studies

    given = {name: studies.parse_value(value) for name, value in studies.parse_settings(settings or []).items()}
    if fixed in given:
        raise BadRequest(f"the {fixed} is set by --{fixed}, not by --set")
    return given
