"""Commands about teachers and judges: how far one can be trusted, and what it says of two models."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from labkit.commands import TEXT, Settings, command, values_of
from labkit.errors import unknown
from labkit.table import print_each, print_table

if TYPE_CHECKING:
    from labkit.teach.client import Client

KEPT = "interrupted; what was answered is kept, and the same command goes on from there"
WHO = "smollm2, a folder, hf:ID, oracle, or one of the endpoint"


@command("trust-teacher", KEPT)
def trust_teacher(
    teacher: Annotated[str, typer.Option(**TEXT, help=WHO)],
    families: Annotated[list[str] | None,
                        typer.Option("--family", help="of instructions (repeatable); default: all")] = None,
    n: Annotated[int, typer.Option("--n", min=2, max=1000, help="questions of each family")] = 20,
    settings: Settings = None,
) -> None:  # fmt: skip
    """How far a teacher, judge and classifier agrees with exact grading on the lab's families, with intervals."""
    from labkit.instructions.families import EVERY
    from labkit.teach.trust import trust

    for name in families or ():
        if name not in EVERY:
            raise unknown("family", name, EVERY)
    with _connected(teacher, values_of(settings)) as client:
        lines = trust(client, families or list(EVERY), n)
    print_table([{name: value for name, value in line.items() if name in lines[1]} for line in lines])
    print(f"AUC of the rating, all families: {lines[0].get('AUC of the rating') or 'no rating could be read'}")


@command("judge-outputs", KEPT)
def judge_outputs(
    outputs: Annotated[Path, typer.Argument(help="a model's outputs, the JSON list that alpaca_eval takes")],
    references: Annotated[Path, typer.Argument(help="those of the model that it is compared with")],
    judge: Annotated[str, typer.Option(**TEXT, help=WHO)],
    out: Annotated[Path | None, typer.Option(help="file for the annotations, as alpaca_eval writes them")] = None,
    settings: Settings = None,
) -> None:  # fmt: skip
    """Which of two models answers better: each pair of outputs judged in both orders, with intervals."""
    from labkit.lab import ensure_file
    from labkit.teach import benchmarks
    from labkit.teach.judge import Judge, position_bias, win_rate

    ours, theirs = benchmarks.read_outputs(outputs), benchmarks.read_outputs(references)
    if out:
        ensure_file(out)
    with _connected(judge, values_of(settings)) as client:
        found = benchmarks.compare_outputs(Judge(client), ours, theirs, judge)
    if out:
        benchmarks.write_annotations(out, found.annotations)
    bias = position_bias(found.comparison)
    shares = {
        "win rate, a tie as half": win_rate(found.comparison),
        "verdicts for the answer shown first (fair: .5)": bias.first,
        "pairs in which the same place won twice (0: answers alone count)": bias.follows,
    }
    print_table([{"share": name, "[95 %], instructions resampled": f"{one.mean:.3f} [{one.lo:.3f}, {one.hi:.3f}]"}
                 for name, one in shares.items() if one])  # fmt: skip
    counts = found.counts | found.comparison.counts
    print(", ".join(f"{name.replace('_', ' ')} {n}" for name, n in counts.items()))
    print_each("  ", [out] if out else ())


def _connected(teacher: str, asking: Mapping[str, Any]) -> "Client":
    """A client of a teacher that was tried out; its replies are kept in the store."""
    from labkit.lab import Store
    from labkit.teach.teacher import Teacher, checked

    checked(teacher, asking)
    asked, store = Teacher.named(teacher, asking), Store.default()
    asked.check(asking, store.root)
    return asked.connect(asking, store.root)
