"""One look for every chart and number, and a way to show charts that needs no network.

Guaranteed: a chart shown after `enable()` is visible in JupyterLab, nbconvert pages and other viewers of an executed
notebook, offline, trusted or not. Left open: tooltips, which only JupyterLab and a report have.

What draws offline was tried in JupyterLab 4.6.6 (headless Chromium, no network, an untrusted notebook):

- `text/html`, Altair's default: nothing. It loads Vega from a CDN, and untrusted HTML runs no script.
- `image/svg+xml`: nothing. JupyterLab holds SVG to be unsafe until the notebook is trusted.
- `application/vnd.vegalite.v6+json`: nothing. JupyterLab bundles Vega-Lite 5.6, Altair writes 6.4.
- `application/vnd.vega.v5+json`: drawn, with tooltips. vl-convert compiles our charts to it beforehand.
- `image/png`: drawn, there and in every other viewer.

Hence the pair that `enable()` emits: the PNG as the reliable picture, Vega 5 beside it for JupyterLab.
"""

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import altair as alt
import vl_convert as vlc

INK: Final = "#1b1b1b"  # text, and the estimates of our fits
QUIET: Final = "#6a6a6a"  # what was published, and what is said aside
PAPER: Final = "#fffffe"  # the page, and the inside of hollow marks
GRID: Final = "#e2e2e2"
# After Okabe and Ito, dark and light in turn: neighbours stay apart in greyscale, and shape or dash says the same.
# Every colour stands out from white and from black paper.
PALETTE: Final = ("#0068ad", "#e08a00", "#9a32bd", "#3aabdf", "#b0400f", "#48b382")
GREYS: Final = ("#777777", "#9a9a9a")  # what follows the palette
SHAPES: Final = ("circle", "square", "triangle-up", "diamond", "triangle-down", "triangle-right")
DASHES: Final = ([1, 0], [7, 4], [2, 3], [10, 3, 2, 3], [4, 4], [12, 4])
_THEMED: Final = {  # the variable of a page (a report's, JupyterLab's) that says what a colour is there
    INK: "var(--ink, var(--jp-content-font-color0, #1b1b1b))",
    QUIET: "var(--quiet, var(--jp-content-font-color2, #6a6a6a))",
    PAPER: "var(--paper, var(--jp-layout-color0, #fff))",
    GRID: "var(--line, var(--jp-border-color2, #e2e2e2))",
}
COLOURS: Final = """:root { color-scheme: light dark;
  --ink: #1b1b1b; --quiet: #5f5f5f; --line: #d8d8d8; --paper: #fff; --blue: #00477f; }
@media (prefers-color-scheme: dark) { :root {
  --ink: #ededed; --quiet: #b0b0b0; --line: #474a50; --paper: #16181b; --blue: #7fc0ff; } }"""  # of a page of ours
ROOMS: Final = (200, 300, 400, 500, 600, 700, 800, 900, 1000, 1200, 1500)  # pixels that tables may need
_ALWAYS, _, _NARROW = (Path(__file__).parent / "fitted.css").read_text("utf-8").partition("/*")
FITTED: Final = f"<style>{_ALWAYS}{''.join('/*' + _NARROW.replace('ROOM', str(room)) for room in ROOMS)}</style>"
ROOM: Final = "clamp(windowSize()[0] - 570, 260, 960)"  # pixels for panels beside all that JupyterLab shows
_VEGA_LITE: Final = ".".join(alt.SCHEMA_VERSION.lstrip("v").split(".")[:2])  # what Altair writes
_VEGA_LITE_5: Final = "5.21"  # the newest that compiles to JupyterLab's Vega 5


@alt.theme.register("labkit", enable=False)
def _theme() -> alt.theme.ThemeConfig:
    """Large type, a thin grid, no frame: legible from the last row of a classroom."""
    config: dict[str, Any] = {
        "axis": {"domainColor": QUIET, "gridColor": GRID, "tickColor": QUIET, "labelPadding": 5, "titlePadding": 9,
                 "labelLimit": 0},
        "background": PAPER,
        "facet": {"spacing": 14},
        "font": "Helvetica, Arial, 'Liberation Sans', sans-serif",
        "header": {"labelFontSize": 14, "labelFontWeight": "bold", "labelLimit": 0, "labelPadding": 5,
                   "titleFontSize": 14, "titleFontWeight": "normal", "titleColor": INK, "labelColor": INK},
        "legend": {"labelLimit": 0, "titleLimit": 0, "symbolSize": 100, "symbolStrokeWidth": 2, "orient": "top",
                   "columnPadding": 16, "offset": 8},
        "line": {"strokeWidth": 2.6},
        "padding": 8,
        "range": {"category": list(PALETTE), "symbol": list(SHAPES)},
        "style": {
            "group-subtitle": {"fill": QUIET, "fontSize": 13},
            "group-title": {"fill": INK, "fontSize": 18},
            "guide-label": {"fill": INK, "fontSize": 13},
            "guide-title": {"fill": INK, "fontSize": 14, "fontWeight": "normal"},
        },
        "text": {"fontSize": 13},
        "title": {"anchor": "start", "frame": "bounds", "offset": 10, "subtitlePadding": 5},
        "view": {"stroke": None},
    }  # fmt: skip
    return {"config": config}


def enable() -> None:
    """Give every Altair chart of this process labkit's theme and its offline display."""
    alt.theme.enable("labkit")
    alt.renderers.register("labkit", _mimebundle)
    alt.renderers.enable("labkit")
    alt.data_transformers.disable_max_rows()  # a chart carries its rows with it


def fit() -> None:
    """In a notebook: what is wider than its place, or higher than a small screen, is drawn smaller.

    Where a copy of the notebook is not trusted the style is left out, and such charts scroll.
    """
    from IPython.display import HTML, display

    display(HTML(FITTED))


def themed(chart: alt.TopLevelMixin) -> dict[str, Any]:
    """The chart as a validated Vega-Lite specification with labkit's theme, whichever theme is enabled."""
    with alt.theme.enable("labkit"), alt.data_transformers.disable_max_rows():
        return chart.to_dict()


def svg(chart: alt.TopLevelMixin) -> str:
    """The chart as SVG text, drawn without a browser."""
    return vlc.vegalite_to_svg(themed(chart), vl_version=_VEGA_LITE)


def data_uri(chart: alt.TopLevelMixin, variables: str = "") -> str:
    """The chart as the `src` of an HTML image; `variables` is CSS that says what its colours are in the dark."""
    text = svg(chart)
    if variables:
        at = text.index(">") + 1
        text = f"{text[:at]}<style>{variables}</style>{with_variables(text[at:])}"
    return "data:image/svg+xml;base64," + base64.b64encode(text.encode()).decode()


def with_variables(text: str) -> str:
    """A specification or an SVG, as text, whose colours of text and paper are those of the page that it is shown on."""
    for colour, variable in _THEMED.items():
        text = text.replace(f'"{colour}"', f'"{variable}"')
    return text


def png(chart: alt.TopLevelMixin | dict[str, Any], scale: float = 2) -> bytes:
    """The chart (or a specification, as it is) as a PNG of `scale` pixels per unit; 2 is sharp on a projector.

    vl-convert compresses for speed, and a notebook keeps the picture: packed again, a third of it is left.
    """
    spec = chart if isinstance(chart, dict) else themed(chart)
    raw = vlc.vegalite_to_png(spec, vl_version=_VEGA_LITE, scale=scale)
    at, pixels = 33, b""  # behind the signature and the header
    while at < len(raw):
        size, kind = int.from_bytes(raw[at : at + 4], "big"), raw[at + 4 : at + 8]
        pixels += raw[at + 8 : at + 8 + size] if kind == b"IDAT" else b""
        at += 12 + size
    data = b"IDAT" + zlib.compress(zlib.decompress(pixels), 9)
    return raw[:33] + (len(data) - 4).to_bytes(4, "big") + data + zlib.crc32(data).to_bytes(4, "big") + raw[-12:]


def javascript() -> str:
    """Vega, Vega-Lite and vega-embed as one script (0.9 MB) for a page that loads nothing."""
    return vlc.javascript_bundle("window.vegaEmbed = vegaEmbed;", _VEGA_LITE)


def shown(value: Any, interval: Sequence[float] | None = None) -> str:
    """A value for people: '1,000', '0.96 [0.94, 0.98]', 'yes', and an en dash for what is not known."""
    value = value.tolist() if hasattr(value, "tolist") else value  # from numpy
    if isinstance(value, Mapping):
        return "; ".join(f"{key} {shown(item)}" for key, item in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(shown, value))
    if value is None or value != value:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, int | float):
        return str(value)
    ends = [end for end in interval or () if end is not None and end == end]
    if isinstance(value, int) and not ends:
        return f"{value:,}"
    size = max(abs(number) for number in (value, *ends))
    digits = 0 if size >= 100 else 1 if size >= 10 else 2
    if not ends:
        return f"{value:,.{digits}f}" if size >= 0.01 or not size else f"{value:.2g}"
    while digits < 4 and ends[0] < ends[1] and not _told(ends[0], ends[1], digits):
        digits += 1
    return f"{value:z,.{digits}f} [{ends[0]:z,.{digits}f}, {ends[1]:z,.{digits}f}]"


def _told(lo: float, hi: float, digits: int) -> bool:
    """Whether an interval so printed has a width, and holds 0 only if it does."""
    return round(lo, digits) != round(hi, digits) and (0 not in (round(lo, digits), round(hi, digits)) or lo * hi <= 0)


def _mimebundle(spec: dict[str, Any], **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Altair renderer: a PNG that every viewer shows, and Vega 5, which JupyterLab prefers and draws in its colours."""
    picture, mime = png(spec), "application/vnd.vega.v5+json"
    width, height = (int.from_bytes(picture[at : at + 4], "big") // 2 for at in (16, 20))
    vega = json.loads(with_variables(json.dumps(_fluid(vlc.vegalite_to_vega(spec, vl_version=_VEGA_LITE_5)))))
    bundle = {"image/png": picture, mime: vega, "text/plain": spec.get("description", "[chart]")}
    options = {"actions": False, "renderer": "svg"}  # a canvas knows no CSS variables
    return bundle, {"image/png": {"width": width, "height": height}, mime: {"embed_options": options}}


def _fluid(vega: dict[str, Any]) -> dict[str, Any]:
    """The specification with panels as wide as the window leaves room for.

    A cell's own width is of no use: JupyterLab makes an output as wide as what it holds, which then grows for ever.
    """
    columns = vega.get("usermeta", {}).get("columns")
    if columns == 1 and "width" in vega:
        vega["width"] = {"signal": ROOM}
    for signal in vega.get("signals", []):
        if columns and signal["name"] == "child_width":
            signal |= {"value": None, "update": f"({ROOM} - {14 * (columns - 1)}) / {columns}"}
    return vega
