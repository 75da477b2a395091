"""What a notebook's controls are made of: a choice that a keyboard can make, and boxes whose saved copy is a picture.

ipywidgets' own lists let JupyterLab take the arrow keys (jupyter-widgets/ipywidgets#3912); these keep their keys.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets as w
import traitlets


class Choice(anywidget.AnyWidget):
    """Labels of which one is chosen, or with `several` any number: `chosen` holds their places, in order."""

    _esm = Path(__file__).with_name("choice.js").read_text("utf-8")
    title = traitlets.Unicode().tag(sync=True)
    labels: Any = traitlets.List().tag(sync=True)
    chosen: Any = traitlets.List().tag(sync=True)
    several = traitlets.Bool().tag(sync=True)

    def __init__(self, title: str, labels: Sequence[Any], several: bool = False) -> None:
        first = list(range(len(labels) if several else min(1, len(labels))))
        super().__init__(title=title, labels=[str(label) for label in labels], chosen=first, several=several)

    @property
    def place(self) -> int:
        """The place of the one that is chosen."""
        return int(self.chosen[0])


class Pictured(traitlets.HasTraits):
    """A widget whose saved copy shows `picture`, which is HTML, where there is no kernel to show the widget."""

    picture = traitlets.Unicode()

    def _repr_mimebundle_(self, **options: Any) -> Any:
        found: Any = super()._repr_mimebundle_(**options)  # type: ignore[misc]
        data, *about = found if isinstance(found, tuple) else (found,)
        bundle = {**data, "text/html": self.picture} if data and self.picture else data
        return (bundle, *about) if about else bundle


class Box(Pictured, w.VBox):
    """Controls below one another."""
