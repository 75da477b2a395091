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
PLAIN = {"task": "a", "n": 1, "mean": 0.5}


def leaves(spec: dict[str, Any]) -> Iterator[tuple[str, list[dict[str, Any]], dict[str, Any], dict[str, Any]]]:
    """Each layer's mark, rows, encoding and definition, in whichever concatenation it lies."""

    def walk(part: dict[str, Any], data: Any = None) -> Iterator[Any]:
        data = part.get("data", data)  # layers of the same rows leave them to what holds them
        for key in ("vconcat", "hconcat", "concat", "layer"):
            for child in part.get(key, []):
                yield from walk(child, data)
        if "mark" in part:
            yield part["mark"]["type"], spec["datasets"][data["name"]], part["encoding"], part["mark"]

    return walk(spec)


def words(spec: dict[str, Any]) -> list[str]:
    return [row["text"] for mark, rows, _, _ in leaves(spec) if mark == "text" for row in rows]


def forest(**options: Any) -> dict[str, Any]:
    rows = [
        {"arm": "random subset", "mean": 0.4, "ci95": [0.3, 0.5]},
        {"arm": "hardest", "mean": 0.6, "ci95": (0.5, 0.7), "gain": 0.2, "gain_ci95": [0.1, 0.3]},
        {"arm": "easiest", "mean": 0.2, "ci95": None, "gain": -0.2, "gain_ci95": None},
    ]
    return theme.themed(show.forest_chart(**{"rows": rows, "name": "arm", "x_label": "Accuracy"} | options))


def panels(**options: Any) -> dict[str, Any]:
    rows = options.pop("curves", None) or [
        {"task": task, "arm": arm, "n": n, "mean": 0.1 * i, "ci95": [0.1 * i - 0.05, 0.1 * i + 0.05]}
        for task in TEN for arm in ("random", "curated") for i, n in enumerate((10, 100, 1000, 10000))
    ]  # fmt: skip
    return theme.themed(show.panel_chart(rows, **{"panel": "task", "x": "n", "series": "arm"} | options))


# The forest


def test_a_forest_keeps_its_rows_and_draws_every_interval_and_model() -> None:
    models = [{"arm": arm, "value": at} for arm, at in (("hardest", 0.55), ("hardest", 0.65), ("easiest", 0.2))]
    spec = forest(models=models, reference=0.4, reference_label="a random subset", title="Hard examples help")
    said = words(spec)
    assert [said.index(name) for name in ("random subset", "hardest", "easiest")] == sorted(
        said.index(name) for name in ("random subset", "hardest", "easiest")
    )
    assert {"0.40 [0.30, 0.50]", "0.60 [0.50, 0.70]", "0.20", "a random subset", "one model"} <= set(said)
    bars = [rows for mark, rows, encoding, _ in leaves(spec) if mark == "rule" and encoding["x"].get("field") == "lo"]
    assert [len(rows) for rows in bars] == [2], "the arm without an interval shows none"
    hollow = [rows for mark, rows, _, look in leaves(spec) if mark == "point" and look.get("fill") == "white"]
    assert sorted(map(len, hollow)) == [1, 3], "one in the legend, three models"
    assert spec["title"]["text"] == ["Hard examples help"]


def test_differences_stand_beside_their_rows() -> None:
    spec = forest(difference="gain", difference_interval="gain_ci95", versus="random subset")
    assert {"+0.20 [0.10, 0.30]", "−0.20", "the reference", "no difference"} <= set(words(spec))
    first, second = spec["vconcat"][1]["hconcat"]
    assert first["height"] == second["height"]
    places = [{row["place"] for _, rows, _, _ in leaves(part | {"datasets": spec["datasets"]})
               for row in rows if "place" in row} for part in (first, second)]  # fmt: skip
    assert places[0] == places[1]


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
        ({"interval": "ci"}, "unknown column 'ci'"),
        ({"rows": [{"arm": "a", "mean": 1, "ci95": [2, 1]}]}, "begins with its lowest value"),
        ({"rows": [{"arm": "a", "mean": 1, "ci95": 0.1}]}, "lowest and highest value, or None"),
        ({"rows": [{"arm": "a", "mean": "high"}]}, "'mean' holds what is not a number"),
        ({"rows": [{"arm": None, "mean": 1}]}, "a row has no 'arm'"),
        ({"models": [{"arm": "hardst", "value": 1}]}, "unknown arm of a model 'hardst': did you mean 'hardest'"),
        ({"versus": "none"}, "unknown arm in versus 'none'"),
        ({"x_domain": (0, 0.5)}, "0.6 lies outside the x axis, which covers 0 to 0.5"),
        ({"x_domain": (1, 0)}, "has no room"),
        ({"difference": "loss"}, "unknown column 'loss'"),
    ],
)
def test_a_forest_refuses_what_it_cannot_draw(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadRequest, match=sentence):
        forest(**options)


# The panels


@pytest.mark.parametrize("n_panels", [1, 2, 5, 8, 9, 10])
def test_only_outer_axes_are_labelled_and_every_column_has_its_x_axis(n_panels: int) -> None:
    rows = [{"task": task, "arm": "a", "n": n, "mean": 0.5} for task in TEN[:n_panels] for n in (1, 2)]
    spec = panels(curves=rows, x_label="Examples", y_label="Accuracy")
    grid = spec["vconcat"][1]
    charts, columns = grid["concat"], min(5, n_panels)
    axes = [chart["layer"][0]["encoding"] for chart in charts]
    assert [axis["x"]["axis"]["labels"] for axis in axes] == [i + columns >= n_panels for i in range(n_panels)]
    assert [axis["y"]["axis"]["labels"] for axis in axes] == [i % columns == 0 for i in range(n_panels)]
    assert [axis["x"]["axis"]["title"] for axis in axes].count("Examples") == 1
    assert sum(axis["y"]["axis"]["title"] is not None for axis in axes) == 1
    assert {json.dumps([a["x"]["scale"], a["y"]["scale"]]) for a in axes} == {
        json.dumps([axes[0]["x"]["scale"], axes[0]["y"]["scale"]])
    }
    assert sum(chart["width"] for chart in charts[:columns]) <= 1080


def test_series_differ_by_colour_dash_and_mark_and_none_hides_another() -> None:
    spec = panels(log_x=True)
    lines = [look for mark, _, _, look in leaves(spec) if mark == "line"]
    assert len({(look["color"], tuple(look["strokeDash"])) for look in lines}) == 2
    points = [(rows, look) for mark, rows, _, look in leaves(spec) if mark == "point" and "panel" in rows[0]]
    assert len(points) == 20
    assert len({look["shape"] for _, look in points}) == 2
    assert len({row["x"] for rows, _ in points for row in rows}) == 8, "four places, two series side by side"
    assert {row["at"] for rows, _ in points for row in rows} == {10, 100, 1000, 10000}
    bars = [rows for mark, rows, encoding, _ in leaves(spec) if mark == "rule" and encoding["y"].get("field") == "lo"]
    assert [len(rows) for rows in bars[-20:]] == [4] * 20
    assert {"random", "curated", "95 % interval"} <= set(words(spec))


def test_models_fits_chance_and_verdicts_are_drawn_and_named() -> None:
    models = [{"task": "code", "arm": "random", "n": 10, "value": v} for v in (0.1, 0.1, 0.3)]
    fits = [{"task": "code", "arm": "random", "n": n, "mean": 0.2, "ci95": [0.1, 0.3]} for n in range(10, 100)]
    spec = panels(models=models, fits=fits, chance={"code": 0.25}, verdicts={"code": "still growing"}, log_x=True)
    code, ethics = (spec["vconcat"][1]["concat"][i] for i in (1, 4))
    assert code["title"]["subtitle"] == ["still growing"]
    assert len(ethics["title"]["subtitle"]) == 1, "names stand on one height"
    assert {"one model", "fit with its 95 % interval", "chance"} <= set(words(spec))
    own = list(leaves(code | {"datasets": spec["datasets"]}))
    (hollow,) = [rows for mark, rows, _, look in own if mark == "point" and look.get("fill") == "white"]
    assert len({row["x"] for row in hollow}) == 3, "equal models do not hide each other"
    assert [len(rows) for mark, rows, _, _ in own if mark == "area"] == [90]
    assert sorted(len(rows) for mark, rows, _, _ in own if mark == "line") == [2, 4, 90], "the fit joins its means"
    assert not [rows for mark, rows, _, look in leaves(ethics | {"datasets": spec["datasets"]}) if mark == "area"]


def test_intervals_may_be_bands() -> None:
    spec = panels(bands=True)
    assert [len(rows) for mark, rows, _, _ in leaves(spec) if mark == "area"] == [4] * 20


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"curves": [PLAIN], "series": "arms"}, "unknown column 'arms'"),
        ({"curves": [PLAIN | {"n": 0}], "series": None, "log_x": True}, "a log axis cannot show column 'n'"),
        ({"curves": [PLAIN | {"mean": 1.2}], "series": None}, "1.2 lies outside the y axis, which covers 0 to 1"),
        ({"curves": [PLAIN | {"n": None}], "series": None}, "a row has no 'n'"),
        ({"curves": [PLAIN | {"arm": i} for i in range(7)]}, "7 series are more than the 6"),
        ({"models": [{"task": "cod", "arm": "random", "n": 1, "value": 0}]}, "unknown panel 'cod'"),
        ({"fits": [{"task": "code", "arm": "x", "n": 1, "mean": 0}]}, "unknown series 'x'"),
        ({"chance": {"cod": 0.5}}, "unknown panel in chance 'cod': did you mean 'code'"),
        ({"chance": 50}, "50 lies outside the y axis"),
        ({"verdicts": {"cod": ""}}, "unknown panel in verdicts 'cod'"),
        ({"columns": 0}, "one panel at least"),
    ],
)
def test_panels_refuse_what_they_cannot_draw(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadRequest, match=sentence):
        panels(**options)


# Distributions


SHARES = [
    {"task": task, "set": name, "share": share, "count": 1000 * share}
    for name, shares in (("public", (0.9, 0.1)), ("selected", (0.998, 0.002)), ("target", (0.5, 0.5)))
    for task, share in zip(("code", "writing"), shares, strict=True)
]


def test_a_distribution_says_its_shares_and_counts_in_columns_of_one_scale() -> None:
    options: Any = {"kind": "task", "share": "share", "state": "set", "count": "count"}
    spec = theme.themed(show.distribution_chart(SHARES, **options, target="target", title="Writing is lost"))
    columns = spec["vconcat"][1]["hconcat"]
    assert [column["title"]["text"] for column in columns] == [["public"], ["selected"]]
    assert {"90 % (900)", "10 % (100)", "0.2 % (2)", "target", "code", "writing"} <= set(words(spec))
    assert "50 % (500)" not in words(spec), "the target is a tick, not a column"
    scales = {json.dumps(e["x"]["scale"]) for _, _, e, _ in leaves(spec) if e["x"].get("field") in ("y", "end")}
    assert len(scales) == 1
    order = ["target", "never drawn", "selected", "public"]
    bare = theme.themed(show.distribution_chart(SHARES, **options, state_order=order))
    assert [column["title"]["text"][0] for column in bare["vconcat"][0]["hconcat"]] == ["target", "selected", "public"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"rows": [SHARES[0] | {"share": 90}]}, "share = 90: a share lies between 0 and 1"),
        ({"rows": SHARES[:1] * 2}, "the share of 'code' in 'public' is given twice"),
        ({"target": "aim"}, "unknown set as target 'aim'"),
        ({"rows": SHARES[-2:], "target": "target"}, "0 states"),
        ({"kind_order": ["code"]}, "unknown task 'writing'"),
        ({"share": "part"}, "unknown column 'part'"),
    ],
)
def test_a_distribution_refuses_what_it_cannot_draw(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadRequest, match=sentence):
        show.distribution_chart(**{"rows": SHARES, "kind": "task", "share": "share", "state": "set"} | change)


def test_a_histogram_counts_whole_scores_and_says_the_share_beyond() -> None:
    rows = [{"task": "code", "mfd": v} for v in (-9, 0, 2, 2, 9)] + [{"task": "art", "mfd": 0}]
    options: Any = {"value": "mfd", "group": "task", "threshold": 2, "x_domain": (-9, 9)}
    spec = theme.themed(show.histogram_chart(rows, **options))
    assert {"60 % at or above", "of 5 examples", "0 % at or above", "of 1 example", "threshold: 2"} <= set(words(spec))
    (bars,) = [rows for mark, rows, _, _ in leaves(spec) if mark == "rect"]
    assert [(bar["left"], bar["right"], bar["count"]) for bar in bars if bar["group"] == "code"] == [
        (-9.5, -8.5, 1), (-0.5, 0.5, 1), (1.5, 2.5, 2), (8.5, 9.5, 1)
    ]  # fmt: skip
    counted = [{"task": "code", "mfd": v, "n": n} for v, n in ((-9, 1), (0, 1), (2, 2), (9, 1))]
    again = theme.themed(show.histogram_chart([*counted, {"task": "art", "mfd": 0, "n": 1}], count="n", **options))
    assert again == spec, "examples and their counts are one picture"


def test_a_histogram_of_many_examples_carries_only_its_bars() -> None:
    frame = pd.DataFrame({"score": [i / 1e4 for i in range(30_000)]})
    spec = theme.themed(show.histogram_chart(frame, value="score", step=0.5, threshold=1.25))
    (bars,) = [rows for mark, rows, _, _ in leaves(spec) if mark == "rect"]
    assert [bar["left"] for bar in bars] == [0, 0.5, 1, 1.5, 2, 2.5]
    assert all(bar["count"] == 5000 for bar in bars)
    assert "58 % at or above" in words(spec)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"rows": [{"mfd": None}]}, "a row has no 'mfd'"),
        ({"rows": [{"mfd": 12}], "x_domain": (-9, 9)}, "12 lies outside the x axis, which covers -9 to 9"),
        ({"step": 0}, "a bar has a width above 0"),
        ({"rows": [{"mfd": 1, "n": -1}], "count": "n"}, "'n' holds a count below 0"),
        ({"rows": [{"mfd": 1, "n": 0, "g": "a"}], "count": "n", "group": "g"}, "group 'a' has no examples"),
        ({"rows": [{"mfd": 1, "g": "a"}], "group": "g", "group_order": ["a", "b"]}, "group 'b' has no examples"),
    ],
)
def test_a_histogram_refuses_what_it_cannot_draw(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadRequest, match=sentence):
        show.histogram_chart(**{"rows": [{"mfd": 1}], "value": "mfd"} | options)


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
    assert (spec["width"], spec["height"]) == (880, 540)
    small = theme.themed(show.heat_map(transfer(3), x="to", y="of", diverging=True))
    assert (small["width"], small["height"]) == (3 * 96, 3 * 58)


def test_a_diverging_map_refuses_a_lopsided_domain() -> None:
    with pytest.raises(BadRequest, match="as wide below 0 as above: a domain from -1 to 2 is not"):
        show.heat_map(transfer(), x="to", y="of", diverging=True, domain=(-1, 2))
    with pytest.raises(BadRequest, match=r"mean = 0\.4: the domain of the colours is -0\.2 to 0\.2"):
        show.heat_map(transfer(), x="to", y="of", diverging=True, domain=(-0.2, 0.2))


# What all share


def nasty() -> dict[str, Any]:
    long = "a name that goes on and on, with-hyphens, until nobody in the last row can read any of it"
    one = [{"task": "only", "n": 5, "mean": 1.0, "ci95": [1, 1]}]
    never = [{"task": t, "n": n, "mean": None if t == "never" else 0.0} for t in (long, "never") for n in (1, 10)]
    share: Any = {"kind": "k", "share": "p", "state": "s"}
    return {
        "one point": show.panel_chart(one, panel="task", x="n"),
        "never measured": show.panel_chart(never, panel="task", x="n", y_domain=None, chance=0.1, bands=True),
        "two arms": show.forest_chart([{"a": "x", "mean": 0}, {"a": long, "mean": None}], name="a"),
        "24 arms": show.forest_chart([{"a": i, "mean": i, "ci95": [i - 1, i + 1]} for i in range(24)], name="a"),
        "0 and 1": show.distribution_chart([{"k": long, "s": "x", "p": 1}, {"k": "b", "s": long, "p": 0}], **share),
        "no share": show.distribution_chart([{"k": "a", "s": "x", "p": None}], **share, title=long * 3),
        "one score": show.histogram_chart([{"v": 0.1}], value="v", threshold=5),
        "20 rows": show.histogram_chart([{"v": i, "g": i} for i in range(20)], value="v", group="g", threshold=-3),
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
    assert len(forest(title=title)["title"]["text"]) > 2
    assert parts.wrapped("easy to hard, then re-balanced", 24) == ["easy to hard, then", "re-balanced"]
    legend = theme.themed(parts.legend([parts.Key("a long label of a series")] * 9, 600))
    rows = [row for rows in legend["datasets"].values() for row in rows]
    assert len({row["y"] for row in rows}) == 5, "two keys a row of the legend"
