"""Controls for a notebook's last section: choose what a chart shows, ask a trained model a rule of your own.

Widget state does not survive batch execution, so a notebook shows the same picture as a static chart beside
them; under papermill and nbclient the controls are built, and nothing more. ipywidgets is imported only then.
"""

from collections.abc import Callable, Mapping
from html import escape
from typing import TYPE_CHECKING, Any

import altair as alt

from labkit.errors import BadRequest
from labkit.show.theme import data_uri

if TYPE_CHECKING:
    import ipywidgets
    import pandas as pd


def explore(
    frame: "pd.DataFrame", draw: Callable[..., alt.TopLevelMixin], quantities: Mapping[str, str], by: str = "seed"
) -> "ipywidgets.VBox":
    """A chart redrawn for the chosen quantity and the chosen seeds.

    `draw(rows, column)` gets the rows of `frame` whose `by` is chosen, and the chosen value of `quantities`
    (what a person reads -> column). A `BadRequest` of `draw` is shown as its sentence.
    """
    import ipywidgets as w

    from labkit.show.choice import Box, Choice

    values, names = sorted(frame[by].unique().tolist()), list(quantities)
    chosen, quantity, view = Choice(f"{by}:", values, several=True), Choice("show:", names), w.HTML()
    box = Box([quantity, chosen, view])

    def redraw(_: Any = None) -> None:
        try:
            if not chosen.chosen:
                raise BadRequest(f"choose at least one {by}")
            rows, name = frame[frame[by].isin([values[place] for place in chosen.chosen])], names[quantity.place]
            picture = data_uri(draw(rows, quantities[name]))
            view.value = f'<img src="{picture}" alt="{escape(name)}" style="max-width: 100%">'
        except BadRequest as error:
            view.value = _sentence(error)
        box.picture = view.value

    for control in (chosen, quantity):
        control.observe(redraw, names="chosen")
    redraw()
    return box


def ask_widget(
    ask: Callable[..., Any], models: Mapping[str, Any], rule: str = "aa -> bac", text: str = "caaba"
) -> "ipywidgets.VBox":
    """Ask a trained model to apply a rule: its answer beside the oracle's.

    `ask(key, rule, text)` returns what has an `answer`, an `oracle` (strings) and `correct` (bool), as
    `labkit.learn.Answer`; `key` is the chosen value of `models` (what a person reads -> key). A `BadRequest` of
    `ask` is shown as its sentence.
    """
    import ipywidgets as w

    from labkit.show.choice import Box, Choice

    model = Choice("model:", list(models))
    boxes = [w.Text(value=rule, description="rule"), w.Text(value=text, description="input")]
    button, said, keys = w.Button(description="Ask", button_style="primary"), w.HTML(), list(models.values())
    whole = Box([model, *boxes, button, said])

    def answer(_: Any = None) -> None:
        try:
            got = ask(keys[model.place], *(box.value for box in boxes))
        except BadRequest as error:
            said.value = _sentence(error)
            return
        asked = ", ".join(escape(str(words)) for words in ([*models][model.place], *(box.value for box in boxes)))
        lines = [f"{who}: <code>{escape(str(getattr(got, who)))}</code>" for who in ("answer", "oracle")]
        lines.append("<b>✓ the same</b>" if got.correct else "<b>✗ not the same</b>")
        said.value = f"<p style='font-size: 1.2em'>{'<br>'.join(lines)}</p>"
        whole.picture = f"<p>{asked}</p>{said.value}"

    button.on_click(answer)
    answer()
    return whole


def _sentence(error: BadRequest) -> str:
    return f"<p><b>Not possible:</b> {escape(str(error))}</p>"
