"""Tables for a terminal: aligned, no wider than it is. Where output goes to a file or a pipe nothing is left out."""

import shutil
from collections.abc import Mapping, Sequence
from typing import Any

ENDLESS = 10**9  # the width of a pipe or a file
NARROWEST = 20  # what is left of a text that is cut
APART = "  "


def width() -> int:
    """The columns of the terminal, or what the variable COLUMNS says."""
    return shutil.get_terminal_size((ENDLESS, 24)).columns


def print_table(rows: Sequence[Mapping[Any, Any]], cut: str | None = None) -> list[str]:
    """Print rows, numbers to the right and floats to four digits; return the names of columns that found no room.

    The first column is always shown; the text in the column `cut` is shortened before anything is left out.
    """
    room = width() - NARROWEST if cut else width() + len(APART)
    texts: dict[Any, list[str]] = {}
    sizes: dict[Any, int] = {}
    shown: list[Any] = []
    for name in rows[0] if rows else ():
        texts[name] = [str(name), *(_cell(row[name]) for row in rows)]
        sizes[name] = max(map(len, texts[name]))
    for name, size in sizes.items():
        if name == cut or not shown or size + len(APART) <= room:
            room -= 0 if name == cut else size + len(APART)
            shown.append(name)
    if cut in texts:
        sizes[cut] = min(sizes[cut], NARROWEST + max(0, room))
        texts[cut] = [text if len(text) <= sizes[cut] else text[: sizes[cut] - 3] + "..." for text in texts[cut]]
    sides = {name: ">" if isinstance(rows[0][name], int | float) else "<" for name in shown}
    columns = [[f"{text:{sides[name]}{sizes[name]}}" for text in texts[name]] for name in shown]
    for line in zip(*columns, strict=True):
        print(APART.join(line).rstrip())
    return [str(name) for name in texts if name not in shown]


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "-" if value is None else str(value)
