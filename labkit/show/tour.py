"""The tour's stations: answer a rule, draw a prediction, watch a race, see points land beside the prediction.

Guaranteed: training runs on threads of its own and the kernel stays free; a prediction is kept as long as the kernel
runs, and a trained model for good, in the store; what cannot be read is said in a sentence beside its field; right and
wrong letters, and all curves, are told apart without colour. Every station is a widget where a person watches; where
nobody does (papermill, nbclient) it does its work at once and gives the picture that the widget would end with.

Left open: who watches is guessed from the session that a Jupyter server names; elsewhere (an editor's own kernels) say
`watched=True`.
"""

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from html import escape
from numbers import Integral
from queue import Empty, Queue
from threading import RLock, Thread
from typing import Any, Literal

import altair as alt
import anywidget
import ipywidgets as w
import pandas as pd
import traitlets
from IPython.display import HTML

from labkit.errors import BadRequest
from labkit.instructions import Rule
from labkit.lab import Point, Store
from labkit.learn.live import ASKED, RECIPE, TASK, Live
from labkit.show import parts, theme
from labkit.show.asking import script
from labkit.show.choice import Box, Pictured

COLUMNS = [10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000]  # numbers of rules at which a prediction is drawn
ALIKE = {"recipe": RECIPE, **vars(TASK)}  # stored models that may stand beside this tour's
LONGEST = 40  # letters of what a person types
SETTLED = 0.8  # seconds without another move after which the slider is held to be dropped
LABELS = {"ready": "Start", "running": "Stop", "stopped": "Go on", "finished": "Once more", "failed": "Once more"}
INK, LINE = (theme.with_variables(f'"{colour}"')[1:-1] for colour in (theme.INK, theme.GRID))
LINES = {"line": [1, 0], "dashed": [9, 5], "own": [3, 4]}  # kinds of series with a line, and those with marks
DOTS = ("dot", "ring", "own")
BOX = "display: inline-block; box-sizing: border-box; width: 26px; margin: 1px; text-align: center"
ROW = "display: inline-block; max-width: 100%; overflow-x: auto; white-space: nowrap"  # a word breaks nowhere
CURVE: dict[str, Any] = {
    "x": {"title": "Number of training rules (log scale)", "ends": [8, 12_500], "log": True,
          "ticks": [10, 100, 1000, 10_000]},
    "y": {"title": "Accuracy on unseen rules", "ends": [0, 1], "ticks": [0, 0.2, 0.4, 0.6, 0.8, 1]},
}  # fmt: skip


class Plot(Pictured, anywidget.AnyWidget):
    """Axes with series of points, as wide as their place; with `columns`, what is drawn there by hand is in `drawn`."""

    _esm = script("draw", "plot")
    view = traitlets.Dict().tag(sync=True)
    columns: Any = traitlets.List().tag(sync=True)
    drawn = traitlets.Dict().tag(sync=True)


class Slider(anywidget.AnyWidget):
    """A whole number between two ends, on a log scale; `value` follows when it is let go."""

    _esm = script("draw", "slider")
    name = traitlets.Unicode().tag(sync=True)
    ends: Any = traitlets.List().tag(sync=True)
    value = traitlets.Int().tag(sync=True)


class Model(Point):
    """A model that the slider asked for, in the store."""

    study: Literal["tour"] = "tour"
    version: Literal[1] = 1
    rules: int
    steps: int
    seed: int


class Tour:
    """What the stations share: the prediction, the race, and the models that were trained here.

    Args:
        counts: Training rules of the models that race.
        steps: Optimiser steps of every model.
        watched: Is a person there to use widgets? None: as the module says.

    Raises:
        BadRequest: for counts or steps with which nothing can be trained.
    """

    def __init__(self, counts: Sequence[int] = (10, 1000), steps: int = 200, watched: bool | None = None) -> None:
        theme.enable()
        in_session = "JPY_SESSION_NAME" in os.environ and os.environ.get("LABKIT_BATCH") != "1"
        self.watched = in_session if watched is None else watched
        given = list(counts) if isinstance(counts, Iterable) else []
        if not given or not all(isinstance(n, Integral) for n in given):
            raise BadRequest(f"counts = {counts!r}: a list of whole numbers, such as [10, 1000]")
        self.counts, self.steps, self.store = [int(n) for n in given], whole("steps", steps), Store.default()
        self.live = Live(self.counts, steps=steps)
        self.prediction: dict[int, float] = {}
        self.trained: list[tuple[int, float]] = []
        self.before = stored(self.store, steps)
        self._lock = RLock()  # of what is on the screen: the kernel and a training both draw

    def answer(self, rule: str = "iss -> art", text: str = "mississippi") -> Any:
        """Three fields, and the trace of what is right."""
        made, text = read_rule(rule), read_letters("input", text)
        picture = trace(made, text, made.apply(text))
        if not self.watched:
            return HTML(picture)
        fields = {"rule": rule, "input": text, "answer": ""}
        boxes = {name: w.Text(value, description=name, continuous_update=False) for name, value in fields.items()}
        beside, below, button = {name: w.HTML() for name in boxes}, w.HTML(), w.Button(description="Check")

        def check(_: Any) -> None:
            given: list[Any] = []
            for name, box in boxes.items():
                try:
                    given.append(read_rule(box.value) if name == "rule" else read_letters(name, box.value))
                    beside[name].value = ""
                except BadRequest as error:
                    beside[name].value = escape(str(error))
            below.value = trace(*given) if len(given) == len(boxes) else ""

        for box in boxes.values():
            box.observe(check, names="value")
        button.on_click(check)
        rows = [w.HBox([box, beside[name]], layout=w.Layout(flex_flow="row wrap")) for name, box in boxes.items()]
        return Box([*rows, button, below], picture=picture)

    def predict(self) -> Any:
        """Empty axes to draw the expected curve on; what was drawn before is still there."""
        if not self.watched:
            return self.curve()
        before, image = {str(n): y for n, y in self.prediction.items()}, f"<img src='{theme.data_uri(self.curve())}'>"
        plot = Plot(view=CURVE | {"series": []}, columns=COLUMNS, drawn=before, picture=image)

        def keep(change: Any) -> None:
            self.prediction = {int(n): float(value) for n, value in change.new.items()}

        plot.observe(keep, names="drawn")
        return plot

    def race(self) -> Any:
        """The models train side by side: a button, one answer's letters, the losses."""
        self.live.close()
        button, letters, plot = w.Button(button_style="primary"), w.HTML(), Plot()

        def show(live: Live) -> None:
            with self._lock:
                if live is self.live:
                    button.description = LABELS[live.state]
                    letters.value, plot.view = standing(live), seen(losses(live))

        self.live = Live(self.counts, steps=self.steps, tell=show)
        if not self.watched:
            self.live.go()
            self.live.wait()
            return race_picture(self.live)

        def press(_: Any) -> None:
            if self.live.state in ("finished", "failed"):
                self.live = Live(self.counts, steps=self.steps, tell=show)
            (self.live.stop if self.live.state == "running" else self.live.go)()
            show(self.live)

        button.on_click(press)
        show(self.live)
        return Box([button, letters, plot], picture=letters.value)

    def slide(self, n: int = 100) -> Any:
        """A slider for the number of rules; seconds after it is let go, one more model stands beside the prediction."""
        if not self.watched:
            self.train(n)
            return self.curve()
        if not COLUMNS[0] <= whole("n", n) <= COLUMNS[-1]:
            raise BadRequest(f"n = {n}: the slider goes from {COLUMNS[0]} to {COLUMNS[-1]:,} rules")
        slider = Slider(name="rules", ends=[COLUMNS[0], COLUMNS[-1]], value=int(n))
        said, plot, wishes = w.HTML("Move the slider and let it go."), Plot(), Queue[int]()

        def show(words: str) -> None:
            with self._lock:
                said.value, plot.view = escape(words), seen(CURVE | {"series": self.series()})

        def tell(live: Live) -> None:
            show(" ".join(f"{n:,} rules: {progress(live, n)}" for n in live.looks))

        def work() -> None:
            while True:
                wish = wishes.get()
                with suppress(Empty):
                    while True:  # an arrow key that is held down, or what was asked for meanwhile: the last counts
                        wish = wishes.get(timeout=SETTLED)
                try:
                    followed = self.train(wish, tell)
                    show(f"{wish:,} rules: {100 * followed:.0f} % of the unseen rules are followed.")
                except (BadRequest, OSError) as error:
                    show(f"{wish:,} rules: {error}")

        slider.observe(lambda change: wishes.put(change.new), names="value")
        Thread(target=work, daemon=True).start()
        show("Move the slider and let it go.")
        return Box([slider, said, plot], picture=f"<img src='{theme.data_uri(self.curve())}'>")

    def train(self, n: int, tell: Callable[[Live], None] = lambda live: None) -> float:
        """One more model on n rules, with a seed that the store does not have yet; the share of rules it follows."""

        def measure(point: Model, _: Any) -> dict[str, Any]:
            live = Live([n], steps=point.steps, seed=point.seed, tell=tell)
            live.go()
            live.wait()
            if live.state == "failed":
                raise BadRequest(live.problem)
            return {"loss": live.looks[n][-1].loss, "followed": live.looks[n][-1].followed}

        n, rows = whole("n", n), self.store.read("tour")[0]
        seed = max((row["seed"] + 1 for row in rows if (row["rules"], row["steps"]) == (n, self.steps)), default=0)
        followed = float(self.store.measure(Model(rules=n, steps=self.steps, seed=seed), measure)["followed"])
        self.trained.append((n, followed))
        return followed

    def curve(self) -> alt.LayerChart:
        """The axes as a chart."""
        n = len(self.trained) + sum(map(len, self.before.values()))
        return picture(CURVE | {"series": self.series()}, f"{len(self.prediction)} predicted points, {n:,} models")

    def series(self) -> list[dict[str, Any]]:
        """What stands on the axes of the curve: ghosts first, then the prediction, then the models trained here."""
        named = [(f"stored: {name}", "ring", theme.QUIET, points) for name, points in self.before.items()]
        named.append(("your prediction", "own", theme.INK, sorted(self.prediction.items())))
        named.append(("trained here", "dot", theme.PALETTE[0], self.trained))
        return [dict(zip(("name", "kind", "colour", "points"), one, strict=True)) for one in named if one[-1]]


def whole(name: str, value: Any) -> int:
    """A whole number of a person's cell; BadRequest says in a sentence what is none."""
    if not isinstance(value, Integral):
        raise BadRequest(f"{name} = {value!r}: a whole number, such as 100")
    return int(value)


def read_rule(text: str) -> Rule:
    """A rule of letters; BadRequest says in a sentence what it is not."""
    rule = Rule.parse(str(text))
    read_letters("rule", rule.pattern + rule.replacement)
    return rule


def read_letters(name: str, text: str) -> str:
    """Some letters that a person typed; BadRequest says in a sentence what they are not."""
    text = str(text).strip()
    if not text:
        raise BadRequest(f"the {name} is empty: type letters from a to z")
    if foreign := [letter for letter in text if letter not in TASK.alphabet]:
        raise BadRequest(f"'{foreign[0]}' in the {name} is not one of the letters from a to z")
    if len(text) > LONGEST:
        raise BadRequest(f"the {name} has {len(text)} letters: {LONGEST} at most")
    return text


def trace(rule: Rule, text: str, answer: str) -> str:
    """What a rule makes of an input, and how an answer compares, as HTML: frames mark what is replaced."""
    at, right = text.find(rule.pattern), rule.apply(text)
    here, there = (range(at, at + len(side)) if at >= 0 else () for side in (rule.pattern, rule.replacement))
    shown = (letters(text, framed=here), letters(right, framed=there), letters(answer, right))
    named = zip(("input", "right", "yours"), shown, strict=True)
    why = f"the leftmost “{rule.pattern}” becomes “{rule.replacement}”" if at >= 0 else (
        f"“{rule.pattern}” does not occur, so the answer is the input")  # fmt: skip
    rows = "".join(
        f"<div style='display: flex'><span style='flex: 0 0 4em'>{name}</span><div>{boxes}</div></div>"
        for name, boxes in named
    )
    return f"{rows}<p><b>{'Right' if answer == right else 'Not right'}</b>: {escape(why)}.</p>"


def letters(text: str, right: str | None = None, framed: Sequence[int] = ()) -> str:
    """Letters in boxes, as HTML; against what is right, ✓ stands below a right one, ✗ and dashes around a wrong one."""
    boxes = []
    for place, letter in enumerate(text if right is None else text.ljust(len(right), "·")):
        good = right is None or letter == right[place : place + 1]
        border = f"2px solid {INK}" if place in framed else f"1px solid {LINE}" if good else f"2px dashed {INK}"
        below = "" if right is None else f"<br>{'✓' if good else '✗'}"
        boxes.append(f"<span style='{BOX}; font: 16px monospace; border: {border}'>{escape(letter)}{below}</span>")
    return f"<span style='{ROW}'>{''.join(boxes)}</span>"


def progress(live: Live, n: int) -> str:
    """How far a model has come, in words."""
    if live.problem or not live.looks[n]:
        return live.problem or f"not trained yet, {live.steps} steps to go"
    look = live.looks[n][-1]
    return f"step {look.step} of {live.steps}, loss {look.loss:.3f}, unseen rules followed: {100 * look.followed:.0f} %"


def standing(live: Live) -> str:
    """The race as it stands, as HTML: each model's answer to one unseen rule, letter for letter."""
    asked = f"<p>No model has seen the rule <b>{live.rule}</b>. Input {live.text}, right answer {live.right}.</p>"
    cards = [
        f"<div style='flex: 1 1 300px'><b>{n:,} rules</b><br>{escape(progress(live, n))}<br>"
        f"{letters(looks[-1].answer if looks else '', live.right)}</div>"
        for n, looks in live.looks.items()
    ]
    row = f"<div style='display: flex; flex-wrap: wrap; gap: 12px'>{''.join(cards)}</div>"
    return f"<div style='line-height: 1.5'>{asked}{row}</div>"


def losses(live: Live) -> dict[str, Any]:
    """The race's losses, for a `Plot`."""
    return {
        "x": {"title": "Training step", "ends": [0, live.steps], "ticks": [0, live.steps // 2, live.steps]},
        "y": {"title": "Loss (log scale)", "ends": [0.001, 4], "log": True, "ticks": [0.001, 0.01, 0.1, 1]},
        "series": [
            {"name": f"{n:,} rules", "kind": ("line", "dashed")[i % 2], "colour": theme.PALETTE[i % 6],
             "points": [[look.step, look.loss] for look in looks]}
            for i, (n, looks) in enumerate(live.looks.items())
        ],
    }  # fmt: skip


def race_picture(live: Live) -> alt.LayerChart:
    """The race's losses and last answers as a chart."""
    last = {n: looks[-1] for n, looks in live.looks.items() if looks}
    said = [f"{n:,} rules: {look.answer}; loss {look.loss:.3f} at step {look.step}" for n, look in last.items()]
    asked = f"{live.rule} on {live.text}: {live.right} is right"
    followed = " and ".join(str(round(look.followed * ASKED)) for look in last.values())
    return picture(losses(live), f"Right: {followed} of {ASKED} unseen rules", [asked, *said])


def seen(view: Mapping[str, Any]) -> Any:
    """The same in the colours of the page that a `Plot` is on."""
    return json.loads(theme.with_variables(json.dumps(view)))


def picture(view: Mapping[str, Any], title: str, below: str | Sequence[str] = "") -> alt.LayerChart:
    """What a `Plot` shows, as a chart."""
    series: Sequence[Any] = view["series"]
    names, keyed = [one["name"] for one in series], not any(one["kind"] in DOTS for one in series)
    looks, key = parts.looks(names), parts.legend(names)
    rows = [(one["name"], one["kind"], *point) for one in series for point in one["points"]]

    def axis(make: Any, end: str) -> Any:
        about, log = view[end], "log" if view[end].get("log") else "linear"
        made = make(f"{end}:Q", title=about["title"]).scale(type=log, domain=about["ends"], nice=False, clamp=True)
        return made.axis(values=about["ticks"], format=",~r", grid=end == "y")

    colours = alt.Scale(domain=names, range=[one["colour"] for one in series])
    base = alt.Chart(pd.DataFrame(rows, columns=["name", "kind", "x", "y"])).encode(
        axis(alt.X, "x"), axis(alt.Y, "y"), alt.Color("name:N", legend=key, scale=colours),
        tooltip=["name:N", "x:Q", "y:Q"],
    )  # fmt: skip
    # scales of one domain share a legend, whose marks dashes would blur
    dashed = [LINES.get(one["kind"], [1, 0]) for one in series]
    dashes = alt.Scale(domain=names if keyed else [*names, "–"], range=dashed)
    dash = alt.StrokeDash("name:N", scale=dashes, legend=key if keyed else None)
    layers = [base.transform_filter(alt.FieldOneOfPredicate("kind", [*LINES])).mark_line().encode(dash)]
    if not keyed:
        shape = alt.Shape("name:N", legend=key, scale=looks["shape"])
        for kinds, filled in ((["ring", "own"], False), (["dot"], True)):
            marks = base.transform_filter(alt.FieldOneOfPredicate("kind", kinds))
            layers.append(marks.mark_point(size=80, opacity=1, filled=filled).encode(shape))
    return parts.drawn(alt.layer(*layers, width=parts.WIDTH, height=parts.HEIGHT), parts.heading(title, below), 1)


def stored(store: Store, steps: int) -> dict[str, list[tuple[int, float]]]:
    """Models of this task that the store holds already: of this tour, and of the diversity sweep, trained as long or
    longer; by who trained them, as numbers of rules and shares of unseen rules that are followed."""
    tour = [(row["rules"], row["followed"]) for row in store.read("tour")[0] if row["steps"] == steps]
    found = {"this tour": tour} if tour else {}
    for row in store.read("diversity_sweep")[0]:
        if row["steps"] >= steps and all(row.get(name) == value for name, value in ALIKE.items()):
            name = f"diversity sweep, {row['steps']:,} steps"
            found.setdefault(name, []).append((row["n_instructions"], row["accuracy_unseen"]))
    return found
