"""The show room: what a chart holds, what a report loads, what the papers say."""

import json
import re
import shutil
import struct
import subprocess
import sys
import zlib
from collections import Counter
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

alt = pytest.importorskip("altair", reason="labkit[lab] is not installed")
vl_convert = pytest.importorskip("vl_convert", reason="labkit[lab] is not installed")
pd = pytest.importorskip("pandas", reason="labkit[lab] is not installed")

from labkit import show  # noqa: E402
from labkit.errors import BadRequest  # noqa: E402
from labkit.learn import Answer  # noqa: E402
from labkit.show import charts, report, theme  # noqa: E402

LOCATED = {"located": True, "midpoint": 143.0, "ci95": [98, 210], "plateau": 0.96, "note": ""}
NOWHERE = {"located": False, "midpoint": None, "ci95": None, "plateau": None, "note": "nothing rises"}


def sweep(counts=(10, 100, 300, 1000), seeds=3, not_learned=()) -> tuple[Any, Any]:
    """A made-up diversity sweep: its means, one line per number and exam, and its models."""
    means, models = [], []
    for i, n in enumerate(counts):
        unseen = [min(1.0, i / (len(counts) - 1) + 0.01 * seed) for seed in range(seeds)]
        seen = [0.4 if (n, seed) in not_learned else 0.99 for seed in range(seeds)]
        for exam, scores in (("unseen", unseen), ("seen", seen)):
            dials = {"n_instructions": n, "exam": exam, "series": f"{exam} rules", "panel": ""}
            mean = sum(scores) / seeds
            lo, hi = (mean - 0.02, mean + 0.02) if seeds > 1 else (float("nan"), float("nan"))
            means.append(dials | {"mean": mean, "lo": lo, "hi": hi})
            models += [
                dials | {"seed": seed, "accuracy": score, "learned": (n, seed) not in not_learned}
                for seed, score in enumerate(scores)
            ]
    return pd.DataFrame(means), pd.DataFrame(models)


def curve(**options) -> Any:
    """A chart of a made-up sweep."""
    means, models = options.pop("data", None) or sweep()
    given: dict[str, Any] = {"x": "n_instructions", "x_label": "Number of training instructions", "fit": LOCATED}
    return show.curve_chart(means, models, **given | options)


def picture(**options) -> dict[str, Any]:
    """Its validated specification."""
    return theme.themed(curve(**options))


def table(spec: dict[str, Any], what: str) -> list[dict[str, Any]]:
    """The lines of the one table that are of a kind: mean, model, line, published or mark."""
    (rows,) = spec["datasets"].values()
    return [row for row in rows if row["what"] == what]


def drawn_as(spec: dict[str, Any], what: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """The marks and encodings of the layers of a kind."""
    layers = spec.get("layer") or spec["spec"]["layer"]
    return [
        (layer["mark"], layer["encoding"])
        for layer in layers
        if any(f"datum.what == '{what}'" in step["filter"] for step in layer.get("transform", []))
    ]


def words(spec: dict[str, Any]) -> str:
    return " ".join([*(row["text"] for row in table(spec, "mark")), *spec["title"].get("subtitle", [])])


def test_every_model_every_mean_and_every_interval_is_drawn_on_a_log_axis():
    spec = picture(title="Unseen rules are followed from 143 rules on")
    assert spec["title"]["text"] == ["Unseen rules are followed from 143 rules on"] == [spec["description"]]
    x = spec["layer"][0]["encoding"]["x"]
    assert (x["scale"]["type"], x["axis"]["title"]) == ("log", "Number of training instructions (log scale)")
    assert x["axis"]["values"] == [10, 100, 300, 1000], "ticks stand where was tried"
    means, models = table(spec, "mean"), table(spec, "model")
    assert (len(means), len(models)) == (8, 24)
    assert all(row["lo"] < row["y"] < row["hi"] for row in means)
    kinds = [mark["type"] for mark, _ in drawn_as(spec, "mean")]
    assert {"line", "rule", "point"} <= set(kinds)
    assert any(encoding.get("y2") for mark, encoding in drawn_as(spec, "mean") if mark["type"] == "rule")
    for name in ("unseen rules", "seen rules"):
        assert len({row["x"] for row in models if row["series"] == name}) == 12, "models must not hide each other"
    assert len({row["x"] for row in means}) == 8, "nor must series"
    assert all(low <= row["x"] <= high for row in models for low, high in [x["scale"]["domain"]])


def test_a_linear_axis_and_another_column_need_no_new_chart():
    means = pd.DataFrame({"share": [0.0, 0.1, 0.2], "mean": [62.2, 68.3, 65.2], "series": "HumanEval", "panel": ""})
    means = means.assign(lo=means["mean"] - 1, hi=means["mean"] + 1)
    chart = show.curve_chart(means, x="share", log=False, y_domain=(50, 80), x_label="General share")
    x = theme.themed(chart)["layer"][0]["encoding"]["x"]
    assert (x["scale"]["type"], x["axis"]["title"]) == ("linear", "General share")


def test_published_marks_are_labelled_dashed_and_apart_from_ours():
    spec = picture(published=show.published("diversity_sweep"))
    assert "published, Zhang et al. 2024, Fig. 2a" in words(spec)
    assert all(
        label in words(spec)
        for label in ("never below 300", "step", "always from 1,000", "our midpoint: 143 [98, 210]")
    )
    marks = table(spec, "mark")
    assert sorted(row["x"] for row in marks if row["x"] == row["to"]) == [300, 1000]
    assert [(row["x"], row["to"]) for row in marks if row["text"] == "step"] == [(400, 500)]
    rules = [mark for mark, encoding in drawn_as(spec, "mark") if mark["type"] == "rule" and "y" not in encoding]
    assert all(mark["strokeDash"] and mark["color"] == theme.QUIET for mark in rules)
    heights = [row["height"] for row in marks]
    assert min(heights) > 1, "labels stand above the data"
    assert len(set(heights)) == 4, "one per line"
    low, high = drawn_as(spec, "model")[0][1]["y"]["scale"]["domain"]
    assert low < 0 and max(heights) < high, "within the frame"  # noqa: PT018


def test_published_values_are_drawn_beside_ours_and_named():
    spec = picture(published=show.published("input_variety"))
    assert len(table(spec, "published")) == 16
    assert {row["y"] for row in table(spec, "published")} >= {0.71, 0.94, 0.0}
    assert "diamonds: published, Zhang et al. 2024, Table 1" in " ".join(spec["title"]["subtitle"])
    ((mark, _),) = drawn_as(spec, "published")
    assert (mark["stroke"], mark["fill"]) == (theme.QUIET, theme.PAPER)
    percent = [record | {"accuracy_unseen": 71} for record in show.published("input_variety")]
    assert not table(picture(published=percent), "published"), "never in another unit"


def test_a_run_that_did_not_learn_has_its_own_shape():
    spec = picture(data=sweep(not_learned=[(300, 1)]))
    assert sum(not row["learned"] for row in table(spec, "model")) == 2
    hollow, cross = [mark for mark, _ in drawn_as(spec, "model")]
    assert (hollow["fill"], cross["shape"]) == (theme.PAPER, "cross")
    assert "crosses" in words(spec)
    assert "crosses" not in words(picture()), "only what is there is named"


@pytest.mark.parametrize(
    "options",
    [
        {"fit": NOWHERE},
        {"fit": None},
        {"fit": LOCATED | {"ci95": None}},
        {"data": sweep(seeds=1)},
        {"data": sweep(counts=(10, 20, 40))},
        {"data": sweep(counts=(500, 1000), seeds=2)},
        {"data": (sweep()[0], None)},
        {"data": (sweep()[0], sweep()[1].drop(columns="learned"))},
        {"data": (sweep()[0].assign(mean=float("nan")), None)},
    ],
    ids=["not located", "no fit", "no interval", "one seed", "three counts", "two counts",
          "no models", "unsure", "no mean"],
)  # fmt: skip
def test_edge_cases_are_drawn(options):
    chart = curve(published=show.published("diversity_sweep"), title="A finding", **options)
    assert show.svg(chart).startswith("<svg")


def test_a_transition_that_was_not_located_is_said_once():
    spec = picture(fit=NOWHERE, subtitle="laptop scale")
    assert spec["title"]["subtitle"][0] == "laptop scale"
    assert " ".join(spec["title"]["subtitle"]).endswith("No midpoint located: nothing rises.")
    assert "our midpoint" not in words(spec)
    said = picture(fit=NOWHERE, title="No transition located: nothing rises")["title"]["subtitle"]
    assert "nothing rises" not in " ".join(said)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda f: f.head(0), "no rows"),
        (lambda f: f.drop(columns="mean"), "unknown column 'mean'"),
        (lambda f: f.assign(n_instructions=0), "log axis"),
        (lambda f: f.assign(mean=1.2), "1.2 lies outside the y axis, which covers 0 to 1"),
        (lambda f: f.assign(series="other"), "unknown series 'unseen rules'"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_a_sentence(change, sentence):
    means, models = sweep()
    with pytest.raises(BadRequest, match=sentence):
        curve(data=(change(means), models))


def test_a_long_title_takes_two_lines_and_goes_on_below():
    title = "Only a re-balanced curriculum beats a random subset of the same size " * 4
    heading = picture(title=title)["title"]
    assert len(heading["text"]) == 2
    assert " ".join([*heading["text"], *heading["subtitle"]]).startswith(title.strip())


def test_learning_curves_take_any_number_of_rows_and_order_their_shades():
    rows = [
        {"step": step, "accuracy_unseen": 0.5, "n_instructions": n, "seed": seed}
        for step in range(1000) for n in (1000, 10, 100) for seed in (0, 1)
    ]  # fmt: skip
    spec = theme.themed(show.learning_curves(rows))  # 6,000 rows: more than Altair's own limit
    colour = spec["encoding"]["color"]
    assert (colour["type"], colour["scale"]["scheme"]["name"]) == ("ordinal", "viridis")
    assert theme.themed(show.learning_curves([{"step": 1, "loss": 2.0, "n_instructions": 3}], y="loss"))
    with pytest.raises(BadRequest, match="unknown column 'accuracy_sen': did you mean 'accuracy_unseen'"):
        show.learning_curves(rows, y="accuracy_sen")


def test_the_strip_shows_every_token_and_wraps():
    tokens = list("ab|c|") + ["xa bx"] * 20 + ["\n"]
    (rows,) = theme.themed(show.example_strip(tokens, [False] * 25 + [True]))["datasets"].values()
    assert [row["text"] for row in rows] == [*"ab|c|", *["xa·bx"] * 20, "¶"]
    assert [row["part"] for row in rows] == [charts.PROMPT] * 25 + [charts.ANSWER]
    assert max(row["right"] for row in rows) <= charts.WIDTH
    assert rows[-1]["top"] > 0
    with pytest.raises(BadRequest, match="2 and 1"):
        show.example_strip(["a", "b"], [True])


def test_neighbouring_colours_differ_in_lightness():
    light = [sum(w * int(c[i : i + 2], 16) for w, i in ((0.299, 1), (0.587, 3), (0.114, 5))) for c in theme.PALETTE]
    assert all(abs(a - b) > 45 for a, b in pairwise(light))


def test_a_shown_chart_is_a_picture_and_needs_no_network():
    before = alt.theme.active, alt.renderers.active, alt.data_transformers.active
    try:
        show.enable()
        bundle, metadata = curve()._repr_mimebundle_()
    finally:
        for registry, name in zip((alt.theme, alt.renderers, alt.data_transformers), before, strict=True):
            registry.enable(name)
    size = struct.unpack(">II", bundle["image/png"][16:24])
    assert size == tuple(2 * metadata["image/png"][side] for side in ("width", "height"))
    assert bundle["application/vnd.vega.v5+json"]["$schema"].endswith("/vega/v5.json"), "JupyterLab 4 bundles Vega 5"
    assert "text/html" not in bundle
    assert metadata["application/vnd.vega.v5+json"]["embed_options"]["renderer"] == "svg", "a canvas knows no variables"
    assert "--jp-content-font-color0" in json.dumps(bundle["application/vnd.vega.v5+json"]), (
        "text has the colour of the theme"
    )


def test_the_packed_png_is_the_same_picture():
    chart = show.example_strip(list("ab"), [False, True])
    raw = vl_convert.vegalite_to_png(theme.themed(chart), scale=2)
    packed = show.png(chart)
    assert pixels(packed) == pixels(raw)
    assert len(packed) < len(raw)


def pixels(png: bytes) -> tuple[bytes, bytes]:
    """Header and pixels of a PNG whose checksums hold."""
    chunks, at = [], 8
    while at < len(png):
        size = int.from_bytes(png[at : at + 4], "big")
        body, check = png[at + 4 : at + 8 + size], png[at + 8 + size : at + 12 + size]
        assert zlib.crc32(body).to_bytes(4, "big") == check
        chunks.append((body[:4], body[4:]))
        at += 12 + size
    assert (chunks[0][0], chunks[-1]) == (b"IHDR", (b"IEND", b""))
    return chunks[0][1], zlib.decompress(b"".join(data for kind, data in chunks if kind == b"IDAT"))


# The report


class Page(HTMLParser):
    """Everything a page asks a browser to fetch, and the text outside scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.tags: Counter[str] = Counter()
        self.text = ""
        self.inside = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.inside = tag
        self.tags[tag] += 1
        for name, value in attrs:
            if name in ("src", "srcset", "href", "data", "poster", "action"):
                (self.links if tag == "a" else self.loads).append(value or "")

    def handle_data(self, data):
        if self.inside not in ("script", "style"):
            self.text += data


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    means, models = sweep(not_learned=[(300, 1)])
    measured = [{"n_instructions": 10, "mean": 0.34, "ci95": [0.32, 0.36]}]
    return show.write_report(
        tmp_path_factory.mktemp("run") / "deep" / "report.html",
        title="Diversity sweep",
        question="How many instructions?",
        finding="About 143 <script>alert(1)</script> rules",
        charts=[
            (
                "Growth </script>",
                curve(data=(means, models), published=show.published("diversity_sweep"), title="</script>"),
            ),
            ("An example", show.example_strip(list("ab|c|xabx=xcx"), [False] * 10 + [True] * 3)),
        ],
        tables=[("What was measured", measured), ("Every model", models), ("Nothing", [])],
        notes=["a < b & c"],
        params={"budget": 100_000, "seeds": [0, 1]},
        provenance={"gpu": None},
        paper="Zhang, Wang, Charton (arXiv 2402.10891, 2410.04717), Fig. 2a",
    )


def test_a_report_loads_nothing_and_escapes_everything(page):
    html = page.read_text(encoding="utf-8")
    read = Page(html)
    assert read.loads
    assert all(load.startswith("data:") for load in read.loads)
    assert read.links == ["https://arxiv.org/abs/2402.10891", "https://arxiv.org/abs/2410.04717"]
    assert not re.search(r"@import|url\(\s*['\"]?http", html)
    assert html.count("</script>") == html.count("<script>") == 3, "text must not end a script"
    assert "<script>alert(1)</script> rules" in read.text
    assert "a < b & c" in read.text
    assert len(html) < 2_000_000
    assert not list(page.parent.glob(".tmp-*"))


def test_a_report_reads_as_people_write(page):
    text = Page(page.read_text(encoding="utf-8")).text
    assert "0.34 [0.32, 0.36]" in text
    assert "100,000" in text
    assert "0, 1" in text
    assert "ci95" not in text
    assert "Nothing" not in text


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_a_report_draws_its_charts_in_a_browser(page, tmp_path, scripts, in_ci):
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not browser:
        assert not in_ci, "CI must open the report in a browser: chromium is missing"
        pytest.skip("no chromium to open the report with")
    if not scripts:
        policy = """<head><meta http-equiv="Content-Security-Policy" content="script-src 'none'">"""
        html = page.read_text(encoding="utf-8").replace("<head>", policy)
        page = tmp_path / "no-scripts.html"
        page.write_text(html, encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    options += [f"--user-data-dir={tmp_path / 'profile'}", "--host-resolver-rules=MAP * ~NOTFOUND"]
    command = [browser, *options, "--virtual-time-budget=10000", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    seen = Page(done.stdout)
    assert seen.tags["img"] == (0 if scripts else 2), "the live chart takes the place of the picture"
    assert len(re.findall(r'<svg[^>]*class="marks"', done.stdout)) == (2 if scripts else 0), done.stderr
    assert ("mark-symbol" in done.stdout.split("<script", 1)[0]) == scripts


@pytest.mark.parametrize(
    ("value", "interval", "text"),
    [
        (0.96, [0.94, 0.98], "0.96 [0.94, 0.98]"),
        (143.0, (98, 210), "143 [98, 210]"),
        (0.0, [0.0, 0.003], "0.000 [0.000, 0.003]"),
        (1000, None, "1,000"),
        (1e-5, None, "1e-05"),
        (12.34, None, "12.3"),
        (True, None, "yes"),
        (None, [0, 1], "–"),
        (float("nan"), None, "–"),
        ([10, 1000], None, "10, 1,000"),
        ({"torch": "2.9"}, None, "torch 2.9"),
        (Path("a"), None, "a"),
    ],
)
def test_values_are_shown_for_people(value, interval, text):
    assert theme.shown(value, interval) == text


def test_intervals_join_their_columns():
    rows = [
        {"n": 10, "mean": 0.5, "ci95": [0.4, 0.6], "acc": 0.7, "acc_lo": 0.6, "acc_hi": 0.8},
        {"n": 20, "mean": None},
    ]
    assert report.table(rows) == (
        ["n", "mean", "acc"],
        [["10", "0.50 [0.40, 0.60]", "0.70 [0.60, 0.80]"], ["20", "–", "–"]],
    )
    assert report.table(pd.DataFrame(rows[:1])) == (["n", "mean", "acc"], report.table(rows[:1])[1])


# What the papers say: checked by hand against the papers' tables


def test_published_thresholds_of_the_diversity_sweep():
    below, step, above = show.published("diversity_sweep")
    assert (below["n_instructions"], below["side"]) == (300, "below")
    assert step["n_instructions"] == [400, 500]
    assert (above["n_instructions"], above["side"]) == (1000, "above")
    assert all(record["arxiv"] == "2410.04717" and "width 256" in record["setting"] for record in (below, step, above))


def test_published_tables():
    values = [record for record in show.published("input_variety") if record["kind"] == "value"]
    variety = {(r["occurrences"], r["n_instructions"]): r["accuracy_unseen"] for r in values}
    assert len(variety) == 16
    assert [variety["1", n] for n in (2000, 1000, 500, 200)] == [0.71, 0.41, 0.0, 0.0]
    assert [variety["20", n] for n in (2000, 1000, 500, 200)] == [0.73, 0.28, 0.07, 0.0]
    assert [variety["mixed", n] for n in (2000, 1000, 500, 200)] == [0.94, 0.94, 0.62, 0.0]
    mixes = {
        (r["model"], r["oss_k"], r["alpaca_k"], r["cot_k"]): [
            r[k] for k in ("humaneval", "humaneval_plus", "mbpp", "mbpp_plus")
        ]
        for r in show.published("code_mixing")
        if r["kind"] == "value"
    }
    assert len(mixes) == 6 + 9 + 6
    assert mixes["DeepSeek-Coder-6.7B-Base", 18, 2, 0] == [68.3, 61.6, 75.4, 63.2]
    assert mixes["DeepSeek-Coder-6.7B-Base", 72.5, 1.25, 1.25] == [68.3, 62.2, 77.8, 65.1]
    assert mixes["CodeQwen-7B-Base", 18, 1, 1] == [68.9, 63.4, 77.4, 64.2]
    assert {r["model"]: r["alpaca_eval_2"] for r in show.published("curriculum") if r["kind"] == "value"} == {
        "TAPIR, LLaMA2-7B student": 7.8,
        "Vicuna-13B": 6.72,
    }


def test_published_records_are_whole():
    assert show.published("no such study") == []
    names = json.loads(Path(theme.__file__).with_name("published.json").read_text(encoding="utf-8"))["studies"]
    assert set(names) <= set(re.findall(r"\w+", show.published.__doc__ or "")), "the docstring names every study"
    for record in (record for name in names for record in show.published(name)):
        assert {"study", "figure", "source", "citation", "arxiv", "setting", "kind"} <= set(record)
        assert record["arxiv"] in record["citation"]
        assert ("statement" in record) == (record["kind"] != "value")
        assert ("label" in record) == (record["kind"] == "threshold")


# The widgets


def test_explore_redraws_and_says_what_it_refuses():
    pytest.importorskip("ipywidgets")
    frame = pd.DataFrame({"step": [10, 100, 10, 100, 10], "n_instructions": 3, "seed": [0, 0, 1, 1, 2]})
    frame = frame.assign(accuracy_unseen=0.5, accuracy_seen=0.9)
    asked = []

    def draw(rows, column):
        asked.append((sorted(set(rows["seed"])), column))
        if len(asked) == 3:
            raise BadRequest("not <this> one")
        return show.learning_curves(rows, y=column)

    box = show.explore(frame, draw, {"unseen": "accuracy_unseen", "seen": "accuracy_seen"})
    quantity, seeds, view = box.children
    assert view.value.startswith("<img")
    assert box._repr_mimebundle_()["text/html"] == view.value, "a saved copy shows the picture"
    quantity.chosen = [1]
    seeds.chosen = [2]
    assert asked == [([0, 1, 2], "accuracy_unseen"), ([0, 1, 2], "accuracy_seen"), ([2], "accuracy_seen")]
    assert "not &lt;this&gt; one" in view.value
    seeds.chosen = []
    assert "choose at least one seed" in view.value


def test_ask_shows_both_answers_or_the_refusal():
    pytest.importorskip("ipywidgets")

    def ask(key, rule, text):
        if "->" not in rule:
            raise BadRequest(f"'{rule}' is not a rule")
        return Answer(answer=f"{key}<", oracle="cbacba")

    box = show.ask_widget(ask, {"1,000 instructions": 1000, "10 instructions": 10})
    model, rule, _, button, said = box.children
    assert "1000&lt;" in box._repr_mimebundle_()["text/html"]
    model.chosen = [1]
    button.click()
    assert "10&lt;" in said.value
    assert "cbacba" in said.value
    assert "not the same" in said.value
    rule.value = "aa"
    button.click()
    assert "Not possible" in said.value
    assert "not a rule" in said.value


def test_the_room_imports_without_widgets():
    absent = "sys.modules['ipywidgets'] = sys.modules['anywidget'] = None"  # Altair takes anywidget where it is
    code = f"import sys; {absent}; import labkit.show"
    assert subprocess.run([sys.executable, "-c", code], timeout=300).returncode == 0


def test_a_printed_interval_has_a_width_and_holds_0_only_if_it_does() -> None:
    assert theme.shown(-0.041, [-0.078, -0.003]) == "-0.041 [-0.078, -0.003]"
    assert theme.shown(0.0, [-0.014, 0.014]) == "0.00 [-0.01, 0.01]"
    assert theme.shown(0.0, [-0.002, 0.003]) == "0.000 [-0.002, 0.003]"
    assert theme.shown(0.5, [0.4, 0.6]) == "0.50 [0.40, 0.60]"
