"""The panel that asks models (`ask.js`) as a notebook's widget, and the same as a static picture.

Guaranteed: keys that are pressed in the panel stay there; a model is sent to the page when it is first asked; what goes
wrong is a sentence in the panel. Left open: without a kernel the panel is not there, and its picture is.
"""

from collections.abc import Callable, Mapping, Sequence
from html import escape
from importlib.resources import files
from itertools import islice
from typing import Any

import anywidget
import traitlets

from labkit.errors import BadRequest
from labkit.instructions import markov
from labkit.learn import Learner
from labkit.show.asking import script
from labkit.show.choice import Pictured
from labkit.show.tour import letters, read_letters

MOST = 12  # steps of a run that a picture shows
STEP, PART = "display: flex; flex-wrap: wrap; gap: 4px 18px; padding: 6px 0", "min-width: 6.5em; max-width: 100%"


class AskPanel(Pictured, anywidget.AnyWidget):
    """The panel.

    Args:
        models: What a person reads of each model, by its address; `chosen` are asked at first.
        find: From an address to the model as a page runs it (`show.asking.portable`, with its questions).
        practise: From an address and a kind of question to the address and name of a model that has trained on it; it
            may say how far it is. Runs on the kernel's own thread.
        picture: What stands in a saved copy: HTML.
    """

    _esm = script("draw", "model", "ask", "panel")
    _css = files("labkit.show").joinpath("ask.css").read_text("utf-8")
    models: Any = traitlets.List().tag(sync=True)
    chosen: Any = traitlets.List().tag(sync=True)
    rules = traitlets.Unicode().tag(sync=True)
    text = traitlets.Unicode().tag(sync=True)
    said = traitlets.Unicode().tag(sync=True)

    def __init__(self, models: Mapping[str, str], chosen: Sequence[str], find: Callable[[str], Mapping[str, Any]],
                 practise: Callable[[str, str, Callable[[str], None]], tuple[str, str]], picture: str = "",
                 **fields: str) -> None:  # fmt: skip
        listed = [{"address": address, "name": name} for address, name in models.items()]
        super().__init__(models=listed, chosen=list(chosen), **fields)
        self._find, self._practise, self.picture = find, practise, picture
        self.on_msg(self._heard)

    def _heard(self, _: Any, wish: Mapping[str, str], __: Any) -> None:
        try:
            if wish["want"] == "model":
                self.send({"address": wish["address"], "parts": self._find(wish["address"])})
            else:
                address, name = self._practise(wish["address"], wish["kind"], self._say)
                self.send({"added": {"address": address, "name": name}})
        except BadRequest as problem:
            self._say(str(problem))
            self.send({"address": wish["address"], "problem": str(problem)})

    def _say(self, words: str) -> None:
        self.said = words


def answers_picture(learners: Mapping[str, Learner], rules: str, text: str) -> str:
    """The run of some rules step by step, and what each model makes of each step, as HTML.

    Raises:
        BadRequest: for what is no rule, or a text that is not of letters.
    """
    run = markov.run(markov.parse(str(rules)), read_letters("input", text), 1000, on_limit="return")
    steps = []
    for number, step in enumerate(islice(run.trace, MOST), 1):
        x, y, at = step.production.pattern, step.production.replacement, step.position
        parts = {f"step {number}, rule": f"<code>{escape(str(step.production))}</code>",
                 "the text": letters(step.before, framed=range(at, at + len(x))),
                 "becomes": letters(step.after, framed=range(at, at + len(y)))}  # fmt: skip
        parts |= {name: _answer(learner, (x, y, step.before), step.after) for name, learner in learners.items()}
        blocks = "".join(
            f"<div style='{PART}'><small>{escape(name)}</small><br>{part}</div>" for name, part in parts.items()
        )
        steps.append(f"<div style='{STEP}'>{blocks}</div>")
    more = f"; the first {MOST} are shown" if run.steps > MOST else ""
    return "".join(steps) + f"<p>{run.steps} steps{more}; {run.halted}: <b>{escape(run.output)}</b></p>"


def _answer(learner: Learner, question: tuple[str, str, str], right: str) -> str:
    try:
        return letters(learner.answer(question), right)
    except BadRequest as problem:
        return escape(str(problem))
