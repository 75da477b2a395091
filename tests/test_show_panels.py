"""Charts of many rows and panels: what each specification holds, what is refused, and that nothing is hidden."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

alt = pytest.importorskip("altair", reason="labkit[lab] is not installed")
pytest.importorskip("vl_convert", reason="labkit[lab] is not installed")
pd = pytest.importorskip("pandas", reason="labkit[lab] is not installed")

from labkit import show  # noqa: E402
from labkit.errors import BadRequest  # noqa: E402
from labkit.show import parts, theme  # noqa: E402

TEN = ["arithmetic", "code", "common sense", "writing", "ethics", "history", "logic", "role play", "science", "tongues"]
PLAIN = {"panel": "a", "series": "", "n": 1, "mean": 0.5, "lo": None, "hi": None}


def leaves(spec: dict[str, Any]) -> Iterator[tuple[str, list[dict[str, Any]], dict[str, Any], dict[str, Any]]]:
    """Each layer's mark, rows, encoding and definition, in whichever concatenation it lies."""

    def walk(part: dict[str, Any], data: Any = None) -> Iterator[Any]:
        data = part.get("data", data)  # layers of the same rows leave them to what holds them
        for key in ("hconcat", "layer"):
            for child in part.get(key, []):
                yield from walk(child, data)
        if "spec" in part:  # of all panels
            yield from walk(part["spec"], data)
        if "mark" in part:
            yield part["mark"]["type"], spec["datasets"][data["name"]], part["encoding"], part["mark"]

    return walk(spec)


def words(spec: dict[str, Any]) -> list[str]:
    """Every text that is written: in the picture, along its axes, and below its title."""
    return [*_written(spec), " ".join(spec["title"].get("subtitle", []))]


def _written(spec: dict[str, Any]) -> list[str]:
    texts = [row["text"] for mark, rows, _, _ in leaves(spec) if mark == "text" for row in rows]
    names = [
        name for _, _, encoding, _ in leaves(spec) for name in encoding.get("y", {}).get("scale", {}).get("domain", [])
    ]
    return texts + [str(name).split("\t")[-1].replace("\n", " ") for name in dict.fromkeys(map(str, names))]


def forest(**options: Any) -> dict[str, Any]:
    rows = [
        {"arm": "random subset", "mean": 0.4, "ci95": [0.3, 0.5]},
        {"arm": "hardest", "mean": 0.6, "ci95": (0.5, 0.7), "gain": 0.2, "gain_ci95": [0.1, 0.3]},
        {"arm": "easiest", "mean": 0.2, "ci95": None, "gain": -0.2, "gain_ci95": None},
    ]
    return theme.themed(show.forest_chart(**{"rows": rows, "name": "arm", "x_label": "Accuracy"} | options))


def panels(**options: Any) -> dict[str, Any]:
    rows = options.pop("curves", None) or [
        {"panel": task, "series": arm, "n": n, "mean": 0.1 * i, "lo": 0.1 * i - 0.05, "hi": 0.1 * i + 0.05}
        for task in TEN for arm in ("random", "curated") for i, n in enumerate((10, 100, 1000, 10000))
    ]  # fmt: skip
    given: dict[str, Any] = {"x": "n", "x_label": "Examples", "y_domain": (-0.1, 1.0)}
    frames = {name: pd.DataFrame(options.pop(name, [])) for name in ("models", "lines")}
    return theme.themed(show.curve_chart(pd.DataFrame(rows), **frames, **given | options))


# The forest


def test_a_forest_keeps_its_rows_and_draws_every_interval_and_model() -> None:
    models = [{"arm": arm, "value": at} for arm, at in (("hardest", 0.55), ("hardest", 0.65), ("easiest", 0.2))]
    spec = forest(models=models, reference=0.4, title="Hard examples help")
    said = words(spec)
    assert [said.index(name) for name in ("random subset", "hardest", "easiest")] == sorted(
        said.index(name) for name in ("random subset", "hardest", "easiest")
    )
    assert {"0.40 [0.30, 0.50]", "0.60 [0.50, 0.70]", "0.20"} <= set(said)
    assert "single models" in said[-1]
    bars = [rows for mark, rows, encoding, _ in leaves(spec) if mark == "rule" and encoding["x"].get("field") == "lo"]
    assert [len(rows) for rows in bars] == [2], "the arm without an interval shows none"
    hollow = [rows for mark, rows, _, look in leaves(spec) if mark == "point" and look.get("fill") == theme.PAPER]
    assert list(map(len, hollow)) == [3], "every model"
    assert spec["title"]["text"] == ["Hard examples help"]


def test_differences_stand_beside_their_rows() -> None:
    spec = forest(difference="gain", difference_interval="gain_ci95", versus="random subset")
    assert {"+0.20 [0.10, 0.30]", "−0.20", "the reference"} <= set(words(spec))
    first, second = spec["hconcat"]
    assert first["height"] == second["height"]
    places = [{json.dumps(encoding["y"]["scale"]) for _, _, encoding, _ in leaves(part | {"datasets": spec["datasets"]})
               if "scale" in encoding.get("y", {})} for part in (first, second)]  # fmt: skip
    assert places[0] == places[1]
    assert len(places[0]) == 1


def test_groups_have_headings_and_may_share_names() -> None:
    rows = [{"g": g, "arm": arm, "mean": 0.5} for g in ("pruning", "curricula") for arm in ("easy", "hard")]
    spec = forest(rows=rows, group="g", models=[{"g": "curricula", "arm": "easy", "value": 0.4}])
    assert words(spec).count("easy") == 2
    assert {"pruning", "curricula"} <= set(words(spec))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"rows": []}, "nothing to draw"),
        ({"name": "am"}, "unknown column 'am': did you mean 'arm'"),
        ({"rows": [{"arm": "a", "mean": 1}] * 2}, "the arm 'a' is given twice"),
        ({"difference": "mean", "difference_interval": "ci"}, "unknown column 'ci'"),
        ({"rows": [{"arm": "a", "mean": 1, "ci95": [2, 1]}]}, "begins with its lowest value"),
        ({"rows": [{"arm": "a", "mean": 1, "ci95": 0.1}]}, "lowest and highest value, or None"),
        ({"rows": [{"arm": "a", "mean": "high"}]}, "'mean' holds what is not a number"),
        ({"rows": [{"arm": None, "mean": 1}]}, "a row has no 'arm'"),
        ({"models": [{"arm": "hardst", "value": 1}]}, "unknown arm of a model 'hardst': did you mean 'hardest'"),
        ({"versus": "none"}, "unknown arm in versus 'none'"),
        ({"difference": "loss"}, "unknown column 'loss'"),
    ],
)
def test_a_forest_refuses_what_it_cannot_draw(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadRequest, match=sentence):
        forest(**options)


# The panels


@pytest.mark.parametrize(("n_panels", "columns"), [(2, 2), (3, 3), (4, 2), (5, 3), (6, 3), (8, 4), (9, 5), (10, 5)])
def test_panels_share_two_axes_in_even_rows(n_panels: int, columns: int) -> None:
    rows = [PLAIN | {"panel": task, "n": n} for task in TEN[:n_panels] for n in (1, 2)]
    spec = panels(curves=rows, y_label="Accuracy")
    assert (spec["columns"], spec["usermeta"]["columns"]) == (columns, columns)
    assert spec["facet"]["sort"] == TEN[:n_panels]
    assert spec["facet"]["title"] == "Examples (log scale)", "once, below all panels"
    assert "resolve" not in spec, "all panels are on the same axes"
    assert columns * spec["spec"]["width"] <= 640
    assert spec["spec"]["height"] * -(-n_panels // columns) <= 300


def test_series_differ_by_colour_dash_and_mark_and_none_hides_another() -> None:
    spec = panels()
    means = [row for rows in spec["datasets"].values() for row in rows if row["what"] == "mean"]
    assert len(means) == 80
    assert len({row["x"] for row in means}) == 8, "four places, two series side by side"
    assert {row["at"] for row in means} == {10, 100, 1000, 10000}
    found = {channel: encoding[channel]["scale"]["range"] for layer in spec["spec"]["layer"]
             for encoding in [layer["encoding"]] for channel in ("color", "strokeDash", "shape")
             if "scale" in encoding.get(channel, {})}  # fmt: skip
    assert {channel: len({json.dumps(look) for look in looks}) for channel, looks in found.items()} == {
        "color": 2, "strokeDash": 2, "shape": 2
    }  # fmt: skip
    many = parts.looks([str(i) for i in range(12)])
    pairs = zip(many["color"].range, many["strokeDash"].range[:12], many["shape"].range, strict=True)
    assert len({json.dumps(look) for look in pairs}) == 12, "more series than colours stay apart"


def test_models_fits_and_chance_are_drawn_and_named() -> None:
    code = {"panel": "code", "series": "random"}
    models = [code | {"n": 10, "accuracy": v} for v in (0.1, 0.1, 0.3)]
    fits = [code | {"n": n, "mean": 0.2, "lo": 0.1, "hi": 0.3} for n in range(10, 100)]
    spec = panels(models=models, lines=fits, chance=0.25, subtitle="still growing")
    said = " ".join(spec["title"]["subtitle"])
    assert all(word in said for word in ("still growing", "single models", "fits", "chance"))
    (rows,) = spec["datasets"].values()
    assert len({row["x"] for row in rows if row["what"] == "model"}) == 3, "equal models do not hide each other"
    assert sum(row["what"] == "line" and row["lo"] == 0.1 for row in rows) == 90
    joined = {(row["panel"], row["series"]): row["joined"] for row in rows if row["what"] == "mean"}
    assert not joined.pop(("code", "random")), "the fit joins its means"
    assert all(joined.values())


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"curves": [{k: v for k, v in PLAIN.items() if k != "series"}]}, "unknown column 'series'"),
        ({"curves": [PLAIN | {"n": 0}]}, "a log axis cannot show column 'n'"),
        ({"curves": [PLAIN | {"mean": 1.2}]}, "1.2 lies outside the y axis, which covers -0.1 to 1"),
        ({"curves": [PLAIN | {"n": None}], "log": False}, "a row has no 'n'"),
        ({"models": [{"panel": "cod", "series": "random", "n": 1, "accuracy": 0}]}, "unknown panel 'cod'"),
        ({"lines": [{"panel": "code", "series": "x", "n": 1, "mean": 0}]}, "unknown series 'x'"),
        ({"chance": 50}, "50 lies outside the y axis"),
    ],
)
def test_panels_refuse_what_they_cannot_draw(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadRequest, match=sentence):
        panels(**options)


# Distributions


SHARES = [
    {"kind": task, "state": name, "share": share}
    for name, shares in (("public", (0.9, 0.1)), ("selected", (0.998, 0.002)), ("target", (0.5, 0.5)))
    for task, share in zip(("code", "writing"), shares, strict=True)
]


def test_a_distribution_says_its_shares_in_columns_of_one_scale() -> None:
    spec = theme.themed(show.distribution_chart(pd.DataFrame(SHARES), target="target", title="Writing is lost"))
    assert spec["facet"]["sort"] == ["public", "selected"]
    assert {"90 %", "10 %", "0.2 %", "code", "writing"} <= set(words(spec))
    assert "Upright strokes: target." in words(spec)[-1]
    assert "50 %" not in words(spec), "the target is a tick, not a column"
    (bars,) = spec["datasets"].values()
    assert [row["aim"] for row in bars] == [0.5] * 4
    scales = {json.dumps(e["x"]["scale"]) for _, _, e, _ in leaves(spec) if e["x"].get("field") in ("share", "end")}
    assert len(scales) == 1


@pytest.mark.parametrize(
    ("rows", "target", "sentence"),
    [
        ([SHARES[0] | {"share": 90}], "target", "share = 90: a share lies between 0 and 1"),
        (SHARES[:1] * 2, "target", "the share of 'code' in 'public' is given twice"),
        (SHARES, "aim", "unknown target 'aim'"),
        (SHARES[-2:], "target", "0 states"),
        ([{"kind": "code", "state": "public"}], "target", "unknown column 'share'"),
    ],
)
def test_a_distribution_refuses_what_it_cannot_draw(rows: list[dict[str, Any]], target: str, sentence: str) -> None:
    with pytest.raises(BadRequest, match=sentence):
        show.distribution_chart(pd.DataFrame(rows), target=target)


def scores(*counts: tuple[Any, ...]) -> Any:
    return pd.DataFrame(counts, columns=["kind", "score", "count"])


def test_a_histogram_counts_scores_and_says_the_share_beyond() -> None:
    counts = scores(("code", -9, 1), ("code", 0, 1), ("code", 2, 2), ("code", 9, 1), ("art", 0, 1))
    spec = theme.themed(show.histogram_chart(counts, threshold=2))
    assert {"60 % at or above\nof 5 examples", "0 % at or above\nof 1 example"} <= set(words(spec))
    assert "threshold: 2" in words(spec)[-1]
    (bars,) = [rows for mark, rows, _, _ in leaves(spec) if mark == "rect"]
    assert [(bar["left"], bar["right"], bar["count"]) for bar in bars if bar["kind"] == "code"] == [
        (-9.5, -8.5, 1), (-0.5, 0.5, 1), (1.5, 2.5, 2), (8.5, 9.5, 1)
    ]  # fmt: skip
    assert spec["facet"]["row"]["sort"] == ["code", "art"]
    again = scores(("code", -9, 1), ("code", 0, 1), ("code", 2, 1), ("code", 2, 1), ("code", 9, 1), ("art", 0, 1))
    assert theme.themed(show.histogram_chart(again, threshold=2)) == spec, "equal scores are one bar"


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        (("a", None, 1), "a row has no 'score'"),
        (("a", 1, -1), "'count' holds a count below 0"),
        (("a", 1, 0), "kind 'a' has no examples"),
    ],
)
def test_a_histogram_refuses_what_it_cannot_draw(row: tuple[Any, ...], sentence: str) -> None:
    with pytest.raises(BadRequest, match=sentence):
        show.histogram_chart(scores(row), threshold=1)


# The diverging map


def transfer(n: int = 10) -> list[dict[str, Any]]:
    return [
        {"to": TEN[j], "of": TEN[i], "mean": m, "lo": m - 0.1, "hi": m + 0.1}
        for i in range(n) for j in range(n) for m in [round(0.4 - 0.1 * abs(i - j), 2)]
    ]  # fmt: skip


def test_a_diverging_map_is_white_at_0_signs_its_numbers_and_fits_a_page() -> None:
    spec = theme.themed(show.heat_map(transfer(), x="to", y="of", diverging=True))
    (scale,) = [e["color"]["scale"] for _, _, e, _ in leaves(spec) if "scale" in e.get("color", {})]
    assert scale["domain"] == [-0.5, 0.5]
    assert scale["range"][len(scale["range"]) // 2] == "#ffffff"
    texts = {row["text"] for rows in spec["datasets"].values() for row in rows}
    assert {"+0.40", "0.00", "−0.50"} <= texts
    assert {"−0.10 to 0.10", "−0.60 to −0.40"} <= {r["interval"] for rows in spec["datasets"].values() for r in rows}
    assert (spec["width"], spec["height"]) == (720, 380)
    small = theme.themed(show.heat_map(transfer(3), x="to", y="of", diverging=True))
    assert (small["width"], small["height"]) == (3 * 88, 3 * 44)


# What all share


def nasty() -> dict[str, Any]:
    long = "a name that goes on and on, with-hyphens, until nobody in the last row can read any of it"
    one = pd.DataFrame([PLAIN | {"mean": 1.0, "lo": 1.0, "hi": 1.0}])
    never = pd.DataFrame([PLAIN | {"panel": t, "n": n, "mean": None if t == "never" else 0.0}
                          for t in (long, "never") for n in (1, 10)])  # fmt: skip
    axis: Any = {"x": "n", "x_label": long}

    def shares(*rows: tuple[Any, ...], title: str = "") -> Any:
        frame = pd.DataFrame([*rows, ("a", "aim", 0.5)], columns=["kind", "state", "share"])
        return show.distribution_chart(frame, target="aim", title=title)

    return {
        "one point": show.curve_chart(one, **axis),
        "never measured": show.curve_chart(never, y_domain=None, chance=0.1, **axis),
        "two arms": show.forest_chart([{"a": "x", "mean": 0}, {"a": long, "mean": None}], name="a"),
        "24 arms": show.forest_chart([{"a": i, "mean": i, "ci95": [i - 1, i + 1]} for i in range(24)], name="a"),
        "0 and 1": shares((long, "x", 1), ("b", long, 0)),
        "no share": shares(("a", "x", None), title=long * 3),
        "one score": show.histogram_chart(scores((long, 0, 1)), threshold=5),
        "20 rows": show.histogram_chart(scores(*((i, i, 1) for i in range(20))), threshold=-3),
        "all zero": show.heat_map([{"x": "a", "y": "b", "mean": 0, "lo": None, "hi": None}], x="x", y="y",
                                  diverging=True, outlined="lo"),
    }  # fmt: skip


@pytest.mark.parametrize("name", list(nasty()))
def test_edge_cases_are_drawn_offline_and_in_jupyterlab(name: str) -> None:
    chart = nasty()[name]
    bundle, _ = theme._mimebundle(theme.themed(chart))
    assert bundle["application/vnd.vega.v5+json"]["$schema"].endswith("/vega/v5.json")
    assert "http" not in show.svg(chart).replace("http://www.w3.org", "")


def test_titles_and_names_are_wrapped() -> None:
    title = "Only a re-balanced curriculum beats a random subset of the same size " * 4
    assert len(forest(title=title)["title"]["text"]) == 2
    assert parts.wrapped("easy to hard, then re-balanced", 24) == "easy to hard, then\nre-balanced"
    assert parts.legend(["a long label of a series"] * 9, width=600).to_dict()["columns"] == 3


def test_every_chart_says_what_it_shows_and_colours_are_told_apart_on_any_paper() -> None:
    assert forest(title="Hard examples help")["description"] == "Hard examples help"

    def luminance(colour: str) -> float:
        shares = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in shares]
        return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    for colour in theme.PALETTE:
        for paper in (0.0, 1.0):
            dark, light = sorted((luminance(colour), paper))
            assert (light + 0.05) / (dark + 0.05) > 2.4, colour
