"""How the study of ability growth is shown: charts and tables of what `growth_results` has found."""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from labkit.grade import choice
from labkit.studies.contract import Chart
from labkit.studies.growth_results import Row, main_curves, plan_sentence, ranged, rho, signed, verdicts_of
from labkit.studies.symbolic import interval

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

SCORE = "Score (0: chance, 1: all right)"
VOLUME = "Training examples of each ability"
Rows = list[dict[str, Any]]


def drawn(draw: Callable[[dict[str, Any]], "alt.TopLevelMixin | str"]) -> Chart:
    """A chart of the summary alone; where there is nothing to draw, the sentence that says why."""

    def chart(frame: "pd.DataFrame", summary: dict[str, Any], published: Rows) -> "alt.TopLevelMixin":
        import altair as alt
        import pandas as pd

        found = draw(summary)
        if not isinstance(found, str):
            return found
        return alt.Chart(pd.DataFrame({"text": [found]})).mark_text(fontSize=15).encode(text="text:N")

    return chart


def _panels(
    curves: Sequence[Row], series: str | None, title: str, subtitle: str, verdicts: dict[str, str] | None = None
) -> "alt.TopLevelMixin":
    from labkit import show

    def rows(parts: Iterable[tuple[Row, Row]]) -> Rows:
        return [{"ability": c["ability"], "series": c[series] if series else "", **part} for c, part in parts]

    points = rows((curve, point) for curve in curves for point in curve["points"])
    fits = rows((curve, point) for curve in curves if curve["fit"] for point in curve["fit"]["line"])
    if series:  # bands over bands would hide each other
        fits = [{key: value for key, value in fit.items() if key != "ci95"} for fit in fits]
    return show.panel_chart(
        points,
        panel="ability",
        x="volume",
        series="series" if series else None,
        models=[] if series else [{**point, "value": value} for point in points for value in point["models"]],
        fits=fits,
        chance=0.0,
        verdicts=verdicts,
        log_x=True,
        y_domain=None,
        x_label=VOLUME,
        y_label=SCORE,
        title=title,
        subtitle=subtitle,
    )


def _growth(summary: Row) -> "alt.TopLevelMixin":
    """A panel an ability: the main size's growth from curated data, with its fit and verdict."""
    curves, verdicts = main_curves(summary), verdicts_of(summary)
    found = list(verdicts.values())
    title = f"Of {len(found)} abilities: " + ", ".join(f"{found.count(kind)} {kind}" for kind in dict.fromkeys(found))
    return _panels(curves, None, title, f"{summary['main']}, {curves[0]['source']} data", verdicts)


def _by_size(summary: Row) -> "alt.TopLevelMixin":
    source = main_curves(summary)[0]["source"]
    curves = [one for one in summary["growth"] if one["source"] == source]
    gains = [gain for gain in summary["by_size"].values() if gain]
    better = sum(gain["verdict"] == "higher" for gain in gains)
    title = f"At the last volume the largest model is above the smallest in {better} of {len(gains)} abilities"
    return _panels(curves, "size", title if gains else "One model size", f"{source} data")


def _by_source(summary: Row) -> "alt.TopLevelMixin":
    curves = [one for one in summary["growth"] if one["size"] == summary["main"]]
    if not summary["by_source"]:
        return _panels(curves, "source", "One source", summary["main"])
    gains = [summary["by_source"][-1]["gains"][ability] for ability in summary["abilities"]]
    better = sum(bool(gain) and gain["verdict"] == "higher" for gain in gains)
    title = f"At the last volume curated data are above synthetic in {better} of {len(gains)} abilities"
    return _panels(curves, "source", title, summary["main"])


def _matrix(name: str, title: str, subtitle: str, label: str) -> Chart:
    def draw(summary: Row) -> "alt.TopLevelMixin | str":
        from labkit import show

        about = summary["transference"]
        matrix = about.get(name)
        if matrix is None:
            return str(about["why"] or "this matrix was not measured")
        return show.heat_map(
            matrix["cells"],
            x="target",
            y="source",
            value="effect",
            x_order=matrix["abilities"],
            y_order=matrix["abilities"],
            outlined="discovered",
            x_label="tested on",
            y_label="data of",
            label=label,
            diverging=True,
            title=f"{title}: {matrix['discovered']} of {len(matrix['cells'])} effects are discoveries (framed)",
            subtitle=f"{subtitle}, {about['volume']:,} examples of each; {matrix['outright']} intervals leave out 0, "
            f"{matrix['expected_by_chance']:.1f} would by chance; {matrix['seeds']} seeds",
        )

    return drawn(draw)


def _mixes(summary: Row) -> "alt.TopLevelMixin | str":
    from labkit import show

    rows = [
        {"design": one["design"], "ability": ability, "share": of["examples"] / one["examples"], "n": of["examples"]}
        for one in summary["stage"]
        for ability, of in one["abilities"].items()
    ]
    if not rows:
        return "the second stage has not been run"
    most = max((row for row in rows if row["design"] == rows[0]["design"]), key=lambda row: row["n"])
    title = f"What the designs hold: '{most['design']}' gives most to {most['ability']}"
    return show.distribution_chart(rows, kind="ability", share="share", count="n", state="design", title=title)


def _predicted(summary: Row) -> "alt.TopLevelMixin | str":
    """Each ability's measured score against the one predicted of it before the run, a panel a design."""
    from labkit import show

    stage = [one for one in summary["stage"] if one["predicted"]]
    rows = [
        {"design": one["design"], "predicted": one["predicted"]["abilities"][name]["value"], **of}
        for one in stage
        for name, of in one["abilities"].items()
    ]
    if not rows:
        return "no prediction was put to the test"
    ends = [pick(row["predicted"] for row in rows) for pick in (min, max)]
    pairs = [(one["predicted"]["abilities"][name]["ci95"], one["abilities"][name]["ci95"])
             for one in stage for name in one["abilities"]]  # fmt: skip
    agree = sum(said[0] <= found[1] and found[0] <= said[1] for said, found in pairs)
    return show.panel_chart(
        rows,
        panel="design",
        x="predicted",
        fits=[{"design": one["design"], "predicted": x, "mean": x} for one in stage for x in ends],
        columns=len(stage),
        y_domain=None,
        x_label="Score predicted of an ability before the run",
        y_label="Score measured",
        title=f"{agree} of {len(pairs)} predictions overlap with what was measured, intervals taken together",
        subtitle="A mark an ability; on the line prediction and measurement are equal",
    )


def _designs(summary: Row) -> "alt.TopLevelMixin | str":
    """The designs' macro scores, predicted and measured, and what each gains over the baseline."""
    from labkit import show

    rows, models = [], []
    for one in summary["stage"]:
        group, gain = {"group": f"{one['design']}, {one['examples']:,} examples"}, one["gain"] or {}
        if said := one["predicted"]:
            ahead = said.get("difference") or {}
            more = {"mean": said["macro"]["value"], "ci95": said["macro"]["ci95"], "gain": ahead.get("value")}
            rows.append(group | {"name": "predicted before the run", "gain_ci95": ahead.get("ci95")} | more)
        more = {"gain": gain.get("mean"), "gain_ci95": gain.get("ci95")}
        rows.append(group | {"name": "measured", **one["measured"]} | more)
        models += [group | {"name": "measured", "value": value} for value in one["models"]]
    if not rows:
        return "the second stage has not been run"
    paired: dict[str, Any] = {"difference": "gain", "difference_interval": "gain_ci95"}
    return show.forest_chart(
        rows,
        name="name",
        group="group",
        models=models,
        x_label=f"{SCORE}, mean of the abilities",
        difference_label="Gain over the baseline, in pairs",
        title=plan_sentence(summary),
        subtitle="Fresh seeds and fresh questions",
        **(paired if any(row["gain"] is not None for row in rows) else {}),
    )


chart = drawn(_growth)
FIGURES: dict[str, Chart] = {
    "Growth by model size.": drawn(_by_size),
    "Growth by source.": drawn(_by_source),
    "What an ability's data add to the others: score.": _matrix(
        "out_score", "What the data of an ability add", "Trained on all abilities, less all but one", "Score"
    ),
    "What an ability's data add to the others: likelihood of right answers.": _matrix(
        "out_nats",
        "What the data of an ability add",
        "The same runs; log-likelihood of right answers, nats a token",
        "Nats a token",
    ),
    "What an ability's data do alone: score.": _matrix(
        "in_score", "What the data of an ability do alone", "Trained on one ability, against guessing", "Score"
    ),
    "The mixes.": drawn(_mixes),
    "Predicted and measured.": drawn(_predicted),
    "Designs of one budget.": drawn(_designs),
}


def _fitted(one: Row, name: str, digits: int = 3) -> str:
    return ranged(one["fit"][name], digits) if one["fit"] else ""


def summary_table(summary: dict[str, Any]) -> Rows:
    """A row an ability: the main size, curated."""
    return [
        {
            "ability": one["ability"],
            f"score at {last['volume']:,} [95 %]": interval(last["mean"], last["ci95"]),
            "plateau [95 %]": _fitted(one, "plateau"),
            "pace: examples to half of it [95 %]": _fitted(one, "pace", 0),
            "verdict": one["fit"]["verdict"] if one["fit"] else "no curve",
            "why": one["fit"]["reason"] if one["fit"] else one["why"],
        }
        for one in main_curves(summary)
        for last in one["points"][-1:]
    ]


def convergence(summary: dict[str, Any]) -> Rows:
    """What the verdicts rest on: the last step, what more data are predicted to add, and which shape predicts best."""
    return [
        {
            "ability": one["ability"],
            "last step [95 %]": _fitted(one, "step"),
            "four times the data would add [95 %]": _fitted(one, "gain"),
            "share of the plateau reached [95 %]": _fitted(one, "reached"),
            "shape": fit["shape"],
            "held-out log density: " + ", ".join(fit["held_out"]): ", ".join(
                f"{x:.2f}" for x in fit["held_out"].values()
            ),
            "misfit p": round(fit["misfit"], 3),
            "note": fit["note"],
        }
        for one in main_curves(summary)
        if (fit := one["fit"])
    ]


def paces(summary: dict[str, Any]) -> Rows:
    """Every curve: by ability, size and source."""
    return [
        {
            **{name: one[name] for name in ("ability", "size", "source")},
            "last score [95 %]": interval(one["points"][-1]["mean"], one["points"][-1]["ci95"]),
            "plateau [95 %]": _fitted(one, "plateau"),
            "pace [95 %]": _fitted(one, "pace", 0),
            "verdict": one["fit"]["verdict"] if one["fit"] else f"no curve: {one['why']}",
        }
        for one in sorted(summary["growth"], key=lambda one: str(one["ability"]))
    ]


def graders(summary: dict[str, Any]) -> Rows:
    """Both graders on the main size's last rung: the score with chance taken off, and the chance level."""
    return [
        {"exam": row["ability"]}
        | {f"{name} [95 %]": interval(known["mean"], known["ci95"]) for name, known in row["by"].items()}
        | {f"{name}: chance": f"{known['chance']:.3f}" for name, known in row["by"].items()}
        for row in summary["graders"]
    ]


def features(summary: dict[str, Any]) -> Rows:
    """Complexity and transference of each ability beside its pace; below, how they go together in ranks."""
    names = {
        "complexity": "complexity, nats a token",
        "transference_score": "transference, score",
        "transference_nats": "transference, nats a token",
    }
    rows = [
        {"ability": row["ability"]}
        | {words: ranged(row[name]) if row[name] else "" for name, words in names.items()}
        | {
            "pace": "no curve"
            if "late" not in row
            else "not within the ladder"
            if row["late"]
            else f"{row['pace']:,.0f}"
        }
        for row in summary["features"]["rows"]
    ]
    told = {names[one["feature"]]: one["why"] or rho(one) for one in summary["features"]["correlations"]}
    return [*rows, {"ability": "rank correlation with pace", **told, "pace": ""}]


def stage(summary: dict[str, Any]) -> Rows:
    """A row a design: predicted before the run, measured after."""
    return [
        {
            "design": one["design"],
            "examples": one["examples"],
            "predicted [95 %]": ranged(said.get("macro")),
            "measured [95 %]": interval(one["measured"]["mean"], one["measured"]["ci95"]),
            "predicted gain over the baseline": ranged(said.get("difference")),
            "measured gain, in pairs [95 %]": signed(one["gain"]),
            "verdict": (one["gain"] or {}).get("verdict", ""),
            "seeds": one["seeds"],
        }
        for one in summary["stage"]
        for said in [one["predicted"] or {}]
    ]


def stage_by_ability(summary: dict[str, Any]) -> Rows:
    """A row an ability, for each design its examples, predicted and measured score."""
    rows = []
    for name in summary["abilities"]:
        row: dict[str, Any] = {"ability": name}
        for one in summary["stage"]:
            of, said = one["abilities"][name], (one["predicted"] or {}).get("abilities", {})
            row[f"{one['design']}: examples"] = of["examples"]
            row[f"{one['design']}: predicted"] = ranged(said.get(name), 2)
            row[f"{one['design']}: measured"] = interval(of["mean"], of["ci95"])
        rows.append(row)
    return rows if summary["stage"] else []


TABLES: dict[str, Callable[[dict[str, Any]], Rows]] = {
    "Evidence of convergence": convergence,
    "Plateau and pace by size and source": paces,
    "Both graders": graders,
    "Complexity, transference and pace": features,
    "The second stage: predicted and measured": stage,
    "The second stage by ability": stage_by_ability,
}


def describe(row: dict[str, Any]) -> str:
    """A row in a few words."""
    grading, names = row["gradings"][0], row["abilities"]
    pairs = [(row[f"accuracy_{name}_{grading}"], row[f"{name}_{grading}_chance"]) for name in names]
    score = np.mean([choice.correct(accuracy, chance) for accuracy, chance in pairs])
    return (
        f"{row['design']} {row['arm']}, {row['source']}, {row['size']}, seed={row['seed']}: score {score:.3f} from "
        f"{row['totals'][-1]:,} examples, {row['train_seconds']:.0f} s"
    )
