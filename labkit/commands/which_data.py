"""Commands about which data to take next: audit a set, select records of it, find a mix."""

from pathlib import Path
from typing import Annotated

import typer

from labkit.commands import TEXT, command
from labkit.errors import BadRequest
from labkit.table import print_each, print_table

Embedder = Annotated[str | None, typer.Option(**TEXT, help="wordllama, minilm, lexical, or a folder of a sentence "
                                              "transformer; default: the light one that is installed")]  # fmt: skip
Fields = Annotated[list[str] | None, typer.Option("--field", metavar="NAME=COLUMN", help="of instruction, input, "
                                                  "output (repeatable)")]  # fmt: skip
Data = Annotated[str, typer.Argument(**TEXT, help="a corpus, or a file of records")]


@command("audit")
def audit_data(
    data: Data,
    against: Annotated[Path | None, typer.Option(help="a target, such as a test set: what is covered?")] = None,
    compare: Annotated[str | None, typer.Option(**TEXT, help="another corpus or file: what differs?")] = None,
    fields: Fields = None,
    embedder: Embedder = None,
    out: Annotated[Path | None, typer.Option(help="folder for report.html, map.html and audit.json")] = None,
) -> None:  # fmt: skip
    """What a set of instruction data holds, how diverse it is, what it covers; with --out also a map to explore."""
    from labkit import lab, studies
    from labkit.studies import audits

    if out:
        lab.ensure_writable(out)
    if against and not against.is_file():
        raise BadRequest(f"--against {against} is no file")
    columns = studies.parse_settings(fields or [], "--field") or None
    found = audits.audit(data, against=against, compare=compare, fields=columns, embedder=embedder)
    for caption, rows in found.tables.items():
        print(f"{caption}\n")
        print_table(audits.flat(rows))
        print()
    print_each("note: ", found.notes)
    print_each("  ", audits.write(found, out) if out else ())


@command("select")
def select_records(
    data: Data,
    budget: Annotated[int, typer.Option(help="how many records are chosen")],
    method: Annotated[str, typer.Option(help="random, longest, loss, ifd, mfd, gradient, representation, facility or "
                                        "quality")],
    against: Annotated[str | None, typer.Option(**TEXT, help="records of the target, for gradient and representation")]
    = None,
    embedder: Embedder = None,
    model: Annotated[str, typer.Option(**TEXT, help="a Hugging Face model, for methods that score")] = "smollm2",
    fields: Fields = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="leave out records that a model cannot score")] = False,
    seed: Annotated[int, typer.Option(min=0, help="draws random records")] = 0,
    out: Annotated[Path | None, typer.Option(help="file for what is chosen, as JSON lines")] = None,
) -> None:  # fmt: skip
    """Choose records of a pool by one of nine methods; the study `selection` puts them on trial."""
    from labkit import studies
    from labkit.lab import ensure_file
    from labkit.studies import selecting

    if out:
        ensure_file(out)
    columns = studies.parse_settings(fields or [], "--field") or None
    found = selecting.select(data, budget, method, against=against, embedder=embedder, model=model, fields=columns,
                             skip_bad=skip_bad, seed=seed)  # fmt: skip
    print_table(selecting.table(found))
    print_each("note: ", found.notes)
    print_each("  ", [selecting.written(found, out)] if out else ())


@command("find-mix")
def find_mix(
    spec: Annotated[Path, typer.Argument(metavar="SPEC.yaml", help="sources, as `labkit mix` takes them")],
    target: Annotated[str, typer.Option(**TEXT, help="records of what the mix is for: a corpus, or a file")],
    out: Annotated[Path, typer.Option(help="the spec with the found weights, for `labkit mix`")],
    budget: Annotated[
        int | None, typer.Option(min=1, help="examples (or tokens) of the mix; default: the spec's")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="draws mixes and training sets")] = 0,
) -> None:
    """The shares at which sources foretell a target best: runs, laws, a prediction, and its trial; or no plan."""
    from labkit.design.decontamination import located
    from labkit.design.mixture import Mixture
    from labkit.lab.places import ensure_file, refuse_overwriting
    from labkit.studies import mix_search

    ensure_file(out)
    refuse_overwriting(out, [located(spec.parent, one.path) for one in Mixture.load(spec).sources if one.path])
    found = mix_search.search(spec, target, budget, seed)
    print_table(mix_search.table(found))
    laws = [{"law": name, "error on held-out mixes": law["error"], "weight": round(law["weight"], 3)}
            for name, law in found.plan.laws.items()]  # fmt: skip
    print()
    print_table(laws)
    print(f"\n{mix_search.sentence(found)}\n{mix_search.written(spec, found, out, budget)}")
