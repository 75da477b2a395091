"""A command about teachers: how far one can be trusted."""

from typing import Annotated

import typer

from labkit.commands import TEXT, Settings, command, values_of
from labkit.errors import unknown
from labkit.table import print_table


@command("trust-teacher", "interrupted; what was answered is kept, and the same command goes on from there")
def trust_teacher(
    teacher: Annotated[str, typer.Option(**TEXT, help="smollm2, a folder, hf:ID, oracle, or one of the endpoint")],
    families: Annotated[list[str] | None,
                        typer.Option("--family", help="of instructions (repeatable); default: all")] = None,
    n: Annotated[int, typer.Option("--n", min=2, help="questions of each family")] = 20,
    settings: Settings = None,
) -> None:  # fmt: skip
    """How far a teacher, judge and classifier agrees with exact grading on the lab's families, with intervals."""
    from labkit.instructions.families import EVERY
    from labkit.lab import Store
    from labkit.teach.teacher import Teacher, checked
    from labkit.teach.trust import trust

    asking = values_of(settings, fixed="model")
    for name in families or ():
        if name not in EVERY:
            raise unknown("family", name, EVERY)
    checked(teacher, asking)
    asked, store = Teacher.named(teacher, asking), Store.default()
    asked.check(asking, store.root)
    with asked.connect(asking, store.root) as client:
        lines = trust(client, families or list(EVERY), n)
    print_table([{name: value for name, value in line.items() if name in lines[1]} for line in lines])
    print(f"AUC of the rating, all families: {lines[0].get('AUC of the rating') or 'no rating could be read'}")
