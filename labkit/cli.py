"""The command line: see `labkit --help`.

Exit codes: 0 done; 1 a run failed (says where); 2 a bad request (one sentence; nothing was started); 130 interrupted,
by Ctrl-C or by a signal that asks to leave.

What holds for every command is done once: `main` turns exceptions into sentences and exit codes, and prints what a
terminal cannot show as escapes; `labkit.commands.command` takes care of paths.
"""

import shutil
import sys

import typer

from labkit import entry
from labkit.commands import app
from labkit.entry import leave
from labkit.errors import BadRequest

# A module registers its commands when it is imported, and `--help` lists them in this order.
# isort: off
from labkit.commands import studies
from labkit.commands import runs
from labkit.commands import sweeps
from labkit.commands import teaching
from labkit.commands import models
from labkit.commands import exams
from labkit.commands import data
from labkit.commands import which_data
from labkit.commands import code
from labkit.commands import trust
from labkit.commands import store
from labkit.commands import machine
# isort: on

SUBJECTS = (studies, runs, sweeps, teaching, models, exams, data, which_data, code, trust, store, machine)


def main() -> None:
    """Entry point: turns whatever ends a command into one sentence and an exit code."""
    try:
        with entry.signals_as_ctrl_c():
            entry.show_what_can_be_shown()
            code = app(sys.argv[1:] or ["--help"], standalone_mode=False)  # which is typer's, 130 after Ctrl-C
            print(end="", flush=True)  # a full disk or a closed pipe is noticed here, not after the exit code is given
    except BadRequest as refusal:
        leave(str(refusal), 2)
    except (typer.Abort, KeyboardInterrupt):
        code = 130
    except OSError as error:
        entry.give_up_output()
        if isinstance(error, BrokenPipeError):  # `labkit ... | head`: the reader has what it wanted
            sys.exit(1)
        why = error.args[0][0][2] if isinstance(error, shutil.Error) else error.strerror or error
        leave(f"{why}{f': {error.filename}' if error.filename else ''}", 1)
    except ModuleNotFoundError as missing:
        if missing.name is None or missing.name.startswith("labkit"):
            raise
        leave(f"this needs {missing.name}, which is not installed: `labkit doctor` says how to get it", 2)
    except Exception as error:
        sentence = getattr(error, "format_message", None)  # typer's own: an unknown option, a missing argument
        if sentence is None:
            raise
        leave(f"{sentence().rstrip('.')}; `labkit COMMAND --help` says what is allowed", 2)
    if code == 130:
        leave("interrupted", 130)
    sys.exit(code)


if __name__ == "__main__":
    main()
