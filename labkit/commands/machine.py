"""Commands about this machine: speed, the tour in JupyterLab, what is installed."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from labkit.commands import TEXT, command
from labkit.errors import BadRequest, unknown


@command("bench")
def run_bench(
    what: Annotated[str, typer.Argument(metavar="WHAT", help="small, language (needs a model) or gpu")] = "small",
    model: Annotated[str, typer.Option(**TEXT, help="for language: what is fine-tuned and asked")] = "smollm2",
    data: Annotated[str | None, typer.Option(**TEXT, help="for language: records; default the lab's requests")] = None,
    out: Annotated[Path, typer.Option(help="for gpu: where the results go")] = Path("papermill_runs/reference/h200"),
    smoke: Annotated[bool, typer.Option("--smoke", help="for gpu: tiny shapes, on any machine")] = False,
) -> None:
    """Speed against the plain way, side by side in one run: small models, fine-tuning and writing, one GPU."""
    from labkit import bench
    from labkit.bench import gpu, language

    ways = {"small": bench.main, "language": lambda: language.main(model, data), "gpu": lambda: gpu.main(out, smoke)}
    if what not in ways:
        raise unknown("bench", what, ways)
    ways[what]()


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
