"""What people look at: charts, the report of a run, a notebook's controls, and the papers' figures as data.

The room computes no results: it draws what it is given. After one call of `enable()`, every Altair chart of a
notebook wears labkit's theme and shows offline.
"""
# ruff: noqa: E402

from labkit.lab import light

light.jsonschema()  # before Altair is imported

from labkit.show.atlas import write_map
from labkit.show.charts import example_strip, learning_curves, rank_chart
from labkit.show.curves import curve_chart
from labkit.show.distributions import distribution_chart, histogram_chart
from labkit.show.forest import forest_chart
from labkit.show.heat_map import heat_map
from labkit.show.published import published
from labkit.show.report import tidy, write_report
from labkit.show.theme import enable, fit, png, svg
from labkit.show.wall import write_wall
from labkit.show.widgets import ask_widget, explore

__all__ = [
    "ask_widget", "curve_chart", "distribution_chart", "enable", "example_strip", "explore", "fit", "forest_chart",
    "heat_map", "histogram_chart", "learning_curves", "png", "published", "rank_chart", "svg", "tidy", "write_map",
    "write_report", "write_wall",
]  # fmt: skip
