"""Commands for who teaches or publishes: the glossary, slides of a run, executed notebooks for a code-hosting site."""

import base64
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from labkit.commands import RESUMED, Jobs, RunName, Scale, command
from labkit.commands.studies import conduct
from labkit.design.scratch import scratch_folder
from labkit.entry import leave
from labkit.errors import unknown
from labkit.table import print_table

MOST = 2_000_000  # bytes of a notebook that such a site still shows
LIVE = ("application/vnd.vega.v5+json", "application/vnd.jupyter.widget-view+json")  # nobody draws these there


@command("glossary")
def show_glossary(
    term: Annotated[str | None, typer.Argument(metavar="[WORD]", help="entries that hold it; default all")] = None,
    out: Annotated[Path | None, typer.Option(help="leave the whole glossary there, as Markdown")] = None,
) -> None:
    """The lab's words: what each means, and where it comes from."""
    from labkit.lab import ensure_file, write_text
    from labkit.show import glossary

    if out:
        ensure_file(out)
        write_text(out, glossary.page())
        return
    found = [entry._asdict() for entry in glossary.glossary() if (term or "").casefold() in entry.term.casefold()]
    if not found:
        raise unknown("word", term or "", [entry.term for entry in glossary.glossary()])
    print_table(found, cut=["says", "source"])


@command("slides")
def write_slides(
    name: RunName,
    out: Annotated[Path, typer.Option(help="the page that is made")] = Path("slides.html"),
) -> None:
    """A run as slides for a projector: one page that opens offline; arrow keys turn it."""
    from labkit.lab import Store, ensure_file
    from labkit.lab.runs import find_run
    from labkit.show.slides import write_slides as written

    ensure_file(out)
    print(written(find_run(Store.default(), name).folder / "notebook.ipynb", out))


@command("reference", RESUMED)
def make_reference(
    names: Annotated[list[str] | None, typer.Argument(metavar="[STUDY]...", help="default: every study")] = None,
    out: Annotated[Path, typer.Option(help="where they go")] = Path("papermill_runs/reference"),
    train: Annotated[bool, typer.Option("--train", help="measure what the store lacks")] = False,
    scale: Scale = "laptop", jobs: Jobs = None,
) -> None:  # fmt: skip
    """Execute studies' notebooks over the store, and keep light copies and the main pictures."""
    from labkit import lab, studies

    store, left_out = lab.Store.default(), 0
    lab.ensure_writable(out)
    for study in [studies.find(name) for name in names or studies.every()]:
        params = study.resolve({"scale": scale})
        points = study.points(params)
        missing = sum(store.result(point) is None for point in points)
        if missing and not train:
            left_out += 1
            print(f"{study.name}: {missing} of {len(points)} points are not in {store.root}, so it is left out")
            continue
        with scratch_folder() as folder:
            executed = conduct(study, params, store, folder / "run", jobs=jobs) / "notebook.ipynb"
            notebook, picture = light(json.loads(executed.read_text("utf-8")))
        text = json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"
        if len(text.encode()) > MOST:
            leave(f"{study.name}: {len(text.encode()):,} bytes are more than the {MOST:,} that such a site shows", 1)
        lab.write_text(out / f"{study.name}.ipynb", text)
        if picture:
            (out / f"{study.name}.png").write_bytes(picture)
    if left_out:
        leave(f"{left_out} studies were left out: --train measures what they lack", 1)


def light(notebook: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
    """An executed notebook with pictures alone where there is more than a picture; and the study's main picture."""
    picture = b""
    for cell in notebook["cells"]:
        cell["metadata"] = {name: cell["metadata"][name] for name in ("tags", "slideshow") if name in cell["metadata"]}
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            for kind in (*LIVE, *["text/html"] * ("image/png" in data)):
                data.pop(kind, None)
            if "image/png" in data and not picture and "results.chart(" in "".join(cell["source"]):
                picture = base64.b64decode("".join(data["image/png"]))
    kept = {
        name: notebook["metadata"][name] for name in ("kernelspec", "language_info") if name in notebook["metadata"]
    }
    return notebook | {"metadata": kept}, picture
