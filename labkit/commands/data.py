"""Commands about data: run a Markov algorithm, mix sources."""

from pathlib import Path
from typing import Annotated

import typer

from labkit.commands import command
from labkit.table import print_each, print_table


@command("markov")
def run_markov(
    file: Annotated[Path, typer.Argument(help="rules, one per line: `ab -> c`, stop rule `ab ->. c`")],
    text: Annotated[str, typer.Argument(metavar="INPUT")],
    trace: Annotated[bool, typer.Option("--trace", help="print every step")] = False,
    max_steps: Annotated[int, typer.Option(min=0, help="give up after so many steps")] = 10_000,
) -> None:
    """Run a Markov algorithm."""
    from labkit.instructions import markov

    algorithm = markov.load(file)
    run = markov.run(algorithm, text, max_steps, on_limit="return")
    print_each("", markov.format_trace(run) if trace else ())
    if run.halted == "limit":
        raise markov.over_limit(algorithm, max_steps)
    print(run.output)


@command("mix")
def mix_sources(
    spec: Annotated[Path, typer.Argument(metavar="SPEC.yaml", help="sources, weights, budget; see design/mixture.py")],
    out: Annotated[Path, typer.Option(help="folder for train.jsonl and manifest.json")],
) -> None:
    """Compose a training set from real instruction data, under an exact budget."""
    from labkit.design import mixture

    manifest = mixture.mix(spec, out)
    columns = ("source", "asked", "examples", "tokens", "epochs", "bad", "contaminated", "duplicates")
    print_table([{c: row[c] for c in columns} | {"bad": sum(row["bad"].values())} for row in manifest["sources"]])
    print(f"\n{manifest['examples']} examples, {manifest['tokens']} tokens ({manifest['spec']['tokenizer']})")
    if manifest["reached"] < manifest["asked"]:
        print(f"note: of {manifest['asked']} {manifest['unit']} asked for, the sources supply {manifest['reached']}")
    print_each("note: ", manifest["notes"])
    print_each("  ", sorted(out.iterdir()))
