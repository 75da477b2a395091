"""Commands about this machine: speed, the tour in JupyterLab, what is installed."""

import os
import sys

from labkit.commands import command
from labkit.errors import BadRequest


@command("bench")
def run_bench() -> None:
    """Speed, side by side in one run: recipes, generators, and the share of the machine's peak."""
    from labkit import bench

    bench.main()


@command("tour")
def open_tour() -> None:
    """Open the tour in JupyterLab: answer a rule, draw a prediction, watch two models train."""
    from importlib.util import find_spec

    from labkit.lab import Store
    from labkit.studies.study import NotebookPlaces

    if missing := [name for name in ("jupyterlab", "anywidget", "altair", "vl_convert") if find_spec(name) is None]:
        raise BadRequest(f"the tour needs what is not installed ({', '.join(missing)}): pip install 'labkit[lab]'")
    notebook = next(path for folder in NotebookPlaces if (path := folder / "00_tour.ipynb").exists())
    os.environ["LABKIT_RUNS"] = str(Store.default().root.resolve())  # wherever the notebook lies
    os.execv(sys.executable, [sys.executable, "-m", "jupyterlab", str(notebook)])  # Ctrl-C is JupyterLab's from here


@command("doctor")
def look_around() -> None:
    """What this machine offers, and what each missing piece would enable."""
    from labkit.lab import doctor

    for finding in doctor.examine():
        print(f"{'ok ' if finding.found else '-  '} {finding.name:<12} {finding.says}")
