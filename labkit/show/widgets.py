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

    values = sorted(frame[by].unique().tolist())
    chosen = w.SelectMultiple(options=values, value=values, rows=min(6, len(values)), description=by)
    quantity = w.Dropdown(options=list(quantities.items()), description="show")
    view = w.HTML()

    def redraw(_: Any = None) -> None:
        try:
            if not chosen.value:
                raise BadRequest(f"choose at least one {by}")
            picture = data_uri(draw(frame[frame[by].isin(chosen.value)], quantity.value))
            view.value = f'<img src="{picture}" alt="{escape(quantity.label)}" style="max-width: 100%">'
        except BadRequest as error:
            view.value = _sentence(error)

    for control in (chosen, quantity):
        control.observe(redraw, names="value")
    redraw()
    return w.VBox([w.HBox([quantity, chosen]), view])


def ask_widget(
    ask: Callable[..., Any], models: Mapping[str, Any], rule: str = "aa -> bac", text: str = "caaba"
) -> "ipywidgets.VBox":
    """Ask a trained model to apply a rule: its answer beside the oracle's.

    `ask(key, rule, text)` returns what has an `answer`, an `oracle` (strings) and `correct` (bool), as
    `labkit.learn.Answer`; `key` is the chosen value of `models` (what a person reads -> key). A `BadRequest` of
    `ask` is shown as its sentence.
    """
    import ipywidgets as w

    model = w.Dropdown(options=list(models.items()), description="model")
    boxes = [w.Text(value=rule, description="rule"), w.Text(value=text, description="input")]
    button, said = w.Button(description="Ask", button_style="primary"), w.HTML()

    def answer(_: Any = None) -> None:
        try:
            got = ask(model.value, *(box.value for box in boxes))
        except BadRequest as error:
            said.value = _sentence(error)
            return
        lines = [f"{who}: <code>{escape(str(getattr(got, who)))}</code>" for who in ("answer", "oracle")]
        lines.append("<b>✓ the same</b>" if got.correct else "<b>✗ not the same</b>")
        said.value = f"<p style='font-size: 1.2em'>{'<br>'.join(lines)}</p>"

    button.on_click(answer)
    return w.VBox([model, *boxes, button, said])


def _sentence(error: BadRequest) -> str:
    return f"<p><b>Not possible:</b> {escape(str(error))}</p>"
