"""The rebuilt lab makes of frozen rows what the lab before it made of them."""

from typing import Any

import pytest
from golden import frozen, lengthened, same, scales

from labkit import studies
from labkit.studies.study import Results


def results_of(study: str, scale: str, exams: list[str]) -> tuple[Results, dict[str, Any]]:
    golden = frozen(study, scale)
    return studies.find(study).summarise(lengthened(golden["rows"], exams)), golden["summary"]


def estimate(line: dict[str, Any]) -> list[Any]:
    return [line["mean"], line["lo"], line["hi"]]


@pytest.mark.parametrize("scale", scales("diversity_sweep"))
def test_diversity_sweep(scale: str) -> None:
    results, summary = results_of("diversity_sweep", scale, ["unseen", "seen"])
    for row in summary["curve"]:
        unseen, seen = (
            results["growth"].line(exam, n_instructions=row["n_instructions"]) for exam in ("unseen", "seen")
        )
        same([*estimate(unseen), *estimate(seen)], [row["mean"], *row["ci95"], row["seen_mean"], *row["seen_ci95"]])
        assert (unseen["seeds"], unseen["not_learned"], unseen["lowest"]) == (
            row["seeds"], row["not_learned"], row["lowest_seed"]
        )  # fmt: skip
    same(results.fit("growth").numbers, summary["transition"])
    for row in summary["noops"]:
        for kind in {"op", "noop"} & row.keys():
            at = {name: row[name] for name in ("noop_share", "n_instructions")}
            same(estimate(results["no-ops"].line(f"unseen:{kind}", **at)), [row[kind], *row[f"{kind}_ci95"]])


@pytest.mark.parametrize("scale", scales("input_variety"))
def test_input_variety(scale: str) -> None:
    results, summary = results_of("input_variety", scale, ["varied", "unseen", "seen"])
    for row in summary["cells"]:
        at = {"trained": row["occurrences"], "n_instructions": row["n_instructions"]}
        numbers = {f"varied:x{times}": f"varied_x{times}" for times in summary["varied"]}
        for view, exams in {"varied": {"varied": "varied"}, "own": {"unseen": "unseen"}, "numbers": numbers}.items():
            for exam, name in exams.items():
                same(estimate(results[view].line(exam, **at)), [row[name], *row[f"{name}_ci95"]])


@pytest.mark.parametrize("scale", scales("long_tail"))
def test_long_tail(scale: str) -> None:
    results, summary = results_of("long_tail", scale, ["unseen", "seen", "rare"])
    for row in summary["cells"]:
        at = {"n_instructions": row["n_instructions"], "alpha": row["alpha"]}
        for exam in ("unseen", "seen", "rare"):
            same(estimate(results["sets"].line(exam, **at)), [row[exam], *row[f"{exam}_ci95"]])
        (one, *_) = results.rows[
            (results.rows["n_instructions"] == at["n_instructions"]) & (results.rows["alpha"] == at["alpha"])
        ].to_dict("records")
        same(one, row["effective"])
    for name, row in summary["effective"].items():
        (line,) = [one for one in results["worth"].estimates.to_dict("records") if one["number"] == name]
        fit = {key: value for key, value in row.items() if key not in ("share", "share_ci95")}
        same(line["fit"], fit)
        if row["share"] is not None:
            same(estimate(line), [row["share"], *row["share_ci95"]])
    assert results.fit("worth").numbers["best"] == summary["best"]
