"""Tables for a terminal: aligned, no wider than it is. Where output goes to a file or a pipe nothing is left out."""

import shutil
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

ENDLESS = 10**9  # the width of a pipe or a file
NARROWEST = 12  # what is left of a text that is cut
APART = "  "


def print_each(before: str, lines: Iterable[Any]) -> None:
    """Print lines, each after the same words."""
    for line in lines:
        print(f"{before}{line}")


def print_table(rows: Sequence[Mapping[Any, Any]], cut: Sequence[str] = ()) -> None:
    """Print rows, numbers to the right and floats to four digits, and the names of columns that found no room.

    The first column is always shown; texts in the columns `cut` are shortened before another column is left out.
    """
    names = dict.fromkeys(name for row in rows for name in row)
    texts = {name: [str(name), *(_cell(row.get(name, "")) for row in rows)] for name in names}
    sizes = {name: max(map(len, column)) for name, column in texts.items()}
    cut = [name for name in cut if name in texts]
    width = shutil.get_terminal_size((ENDLESS, 24)).columns  # or what the variable COLUMNS says
    room = width + len(APART) - sum(min(sizes[name], NARROWEST) + len(APART) for name in cut)
    shown: list[Any] = []
    for name, size in sizes.items():
        if name in cut or not shown or size + len(APART) <= room:
            room -= 0 if name in cut else size + len(APART)
            shown.append(name)
    for left, name in enumerate(cut, -len(cut)):  # what room there is they share
        size = min(sizes[name], min(sizes[name], NARROWEST) + max(0, room) // -left)
        room -= max(0, size - NARROWEST)
        texts[name] = [text if len(text) <= size else text[: size - 3] + "..." for text in texts[name]]
        sizes[name] = size
    sides = {name: ">" if isinstance(rows[0].get(name), int | float) else "<" for name in shown}
    columns = [[f"{text:{sides[name]}{sizes[name]}}" for text in texts[name]] for name in shown]
    for line in zip(*columns, strict=True):
        print(APART.join(line).rstrip())
    if len(shown) < len(texts):
        print(f"no room for {', '.join(str(name) for name in texts if name not in shown)}: a wider terminal has it")


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "-" if value is None else str(value)
