"""Exercises as people meet them: a question, an answer, a check that helps on, hints in steps.

Everything works by keyboard. A saved copy of a notebook shows the questions, with hints and solutions to unfold.
"""

import re
from collections.abc import Sequence
from html import escape
from typing import Protocol

import ipywidgets as w

from labkit.show.choice import Box, Choice
from labkit.show.glossary import glossed

HEAD = "Exercises"


class Asked(Protocol):
    """An exercise. `check` returns `Right.`, a sentence that fits a mistake, or "" for one that nobody foresaw."""

    @property
    def question(self) -> str: ...
    @property
    def minutes(self) -> int: ...
    @property
    def hints(self) -> Sequence[str]: ...
    @property
    def options(self) -> Sequence[str]: ...
    def check(self, answer: str) -> str: ...
    def solved(self) -> str: ...


def exercises_box(exercises: Sequence[Asked]) -> Box:
    """The exercises below one another."""
    boxes = map(_box, range(1, len(exercises) + 1), exercises)
    return Box([w.HTML(_heading(exercises)), *boxes], picture=pictured(exercises))


def pictured(exercises: Sequence[Asked]) -> str:
    """The same as HTML that needs no kernel."""
    parts = [_heading(exercises)]
    for number, one in enumerate(exercises, 1):
        told = [
            *((f"Hint {place}", hint) for place, hint in enumerate(one.hints, 1)),
            ("Solution", f"`{one.solved()}`"),
        ]
        parts.append(_question(number, one) + f"<p>{' · '.join(map(escape, one.options))}</p>" * bool(one.options))
        parts += [f"<details><summary>{name}</summary>{marked(text)}</details>" for name, text in told]
    return "".join(parts)


def marked(text: str) -> str:
    """Plain text with `code` and *emphasis* as HTML, its terms explained."""
    html = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
    return glossed(re.sub(r"\*([^*]+)\*", r"<em>\1</em>", html))


def _heading(exercises: Sequence[Asked]) -> str:
    return f"<h3>{HEAD} ({sum(one.minutes for one in exercises)} minutes)</h3>"


def _question(number: int, one: Asked) -> str:
    return f"<p><b>{number}.</b> {marked(one.question)} <small>({one.minutes} minutes)</small></p>"


def _box(number: int, one: Asked) -> w.VBox:
    choice = Choice("your answer:", one.options) if one.options else None
    text = w.Text(description="answer", continuous_update=False)
    buttons = {name: w.Button(description=name) for name in ("Check", "Hint", "Solution")}
    said, given = w.HTML(), 0

    def say(words: str) -> None:
        said.value = f'<p role="status">{words}</p>'

    def hint(_: object = None, before: str = "") -> None:
        nonlocal given
        given = min(given + 1, len(one.hints))
        say(before + "<br>".join(f"Hint {place}: {marked(one.hints[place - 1])}" for place in range(1, given + 1)))

    def check(_: object = None) -> None:
        found = one.check(one.options[choice.place] if choice else text.value)
        if not found:
            hint(before="Not right. ")
        else:
            say(f"<b>✓</b> {found}" if found.startswith("Right") else f"<b>✗</b> {marked(found)}")

    buttons["Check"].on_click(check)
    buttons["Hint"].on_click(hint)
    buttons["Solution"].on_click(lambda _: say(f"A right answer: <code>{escape(one.solved())}</code>"))
    text.observe(check, names="value")
    row = w.HBox(list(buttons.values()), layout=w.Layout(flex_flow="row wrap"))
    return w.VBox([w.HTML(_question(number, one)), choice or text, row, said])
