"""The rebuilt lab makes of frozen rows what the lab before it made of them."""

import json
from dataclasses import replace
from typing import Any

import pytest
from golden import frozen, lengthened, made_of, reports, same, scales

from labkit import studies
from labkit.studies import code_mixing, markov_programs, semantic_diversity
from labkit.studies.rows import long_rows
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


@pytest.mark.parametrize("scale", scales("semantic_diversity"))
def test_semantic_diversity(scale: str) -> None:
    """Of all models: since then those that fail the gate enter no mean."""
    names = [*semantic_diversity.COLUMNS, "seen"]
    results, summary = results_of("semantic_diversity", scale, names)
    found = replace(semantic_diversity.VIEWS["matrix"], where=None).measure(results.rows)
    for row in summary["rows"]:
        at = {dial: row[dial] for dial in ("n_instructions", "k_low", "k_high", "mixture")}
        for exam in [*(name for name in names if name in row), "outside"]:
            same(estimate(found.line(exam, **at)), [row[exam], *row[f"{exam}_ci95"]])
    framed = {(cell["row"], cell["column"]) for cell in summary["cells"] if cell["own"]}
    ours = found.estimates
    assert {
        (one["label"], semantic_diversity.COLUMNS[one["exam"]]) for one in ours[ours["framed"]].to_dict("records")
    } == framed


def named(row: dict[str, Any]) -> str:
    steps = row["run_steps"]
    return markov_programs.setting(row["rules"], steps if steps == "halt" else int(steps))


@pytest.mark.parametrize("scale", scales("markov_programs"))
def test_markov_programs(scale: str) -> None:
    results, summary = results_of("markov_programs", scale, ["unseen", "seen", "shorter", "longer"])
    for row in summary["curve"]:
        at = {"setting": named(row), "n_programs": row["n_programs"]}
        for exam in {"unseen", "seen", "shorter", "longer"} & row.keys():
            same(estimate(results["growth"].line(exam, **at)), [row[exam], *row[f"{exam}_ci95"]])
        for kind in markov_programs.KINDS:
            if f"unseen_{kind}" in row:
                same(
                    estimate(results["kinds"].line(f"unseen:{kind}", **at)),
                    [row[f"unseen_{kind}"], *row[f"unseen_{kind}_ci95"]],
                )
    fits = results.fit("growth").numbers["settings"]
    for row in summary["transitions"]:
        same(fits[named(row)], {key: value for key, value in row.items() if key not in ("rules", "run_steps")})


@pytest.mark.parametrize("scale", scales("abstraction"))
def test_abstraction(scale: str) -> None:
    results, summary = results_of("abstraction", scale, ["unseen", "seen", "special", "deeper"])
    for view, rows, dial in (("generalists", "generalists", "n_diverse"), ("specialists", "mixes", "share")):
        for row in summary[rows]:
            for exam in results.study.views[view].exams:
                line = results[view].line(exam, **{dial: row[dial]})
                name = exam.replace("/", "_")
                same(estimate(line), [row[name], *row[f"{name}_ci95"]])
                blind = "blind_unseen_equal" if view == "generalists" else "blind_deeper_equal"
                assert line[blind] == pytest.approx(row["blind_equal"], abs=1e-12)
    numbers = results.fit("specialists").numbers
    same(numbers, {name: summary["peak"][name] for name in ("located", "share", "best")})
    assert numbers["ci95"] == [0, 1]  # frozen as [0, 0]: all mixes tie


@pytest.mark.parametrize("scale", scales("encrypted_rewriting"))
def test_encrypted_rewriting(scale: str) -> None:
    results, summary = results_of("encrypted_rewriting", scale, ["unseen", "seen"])
    for row in summary["cells"]:
        at = {name: row[name] for name in ("n_instructions", "sampling")}
        for kind in ("op", "noop"):
            ours = estimate(results["halves"].line(f"unseen:{kind}", **at))
            same(ours, [row[f"unseen_{kind}"], *row[f"unseen_{kind}_ci95"]])
        if row["sampling"] == "whole":
            same(
                estimate(results["rules"].line("seen", n_instructions=row["n_instructions"])),
                [row["seen"], *row["seen_ci95"]],
            )


@pytest.mark.parametrize("scale", scales("code_mixing"))
def test_code_mixing(scale: str) -> None:
    exams = ["seen", *code_mixing.STRATA, "general"]
    results, summary = results_of("code_mixing", scale, exams)
    for arm in summary["arms"]:
        at = {name: arm[name] for name in ("size", "general_share", "mix")}
        for exam in [exam for exam in (*code_mixing.SHIFTED, *exams) if exam in arm]:
            same(estimate(results["mixes"].line(exam, **at)), [arm[exam], *arm[f"{exam}_ci95"]])
        for kind, (mean, ends) in arm["kinds"].items():
            same(estimate(results["kinds"].line(kind.replace("_", ":", 1), **at)), [mean, *ends])
    for size in summary["sizes"]:
        for gain in size["gains"]:
            line = results["gains"].line("shifted", size=size["size"], general_share=gain["general_share"])
            same(estimate(line), [gain["gain"], *gain["gain_ci95"]])
        ours, frozen_spot = results.fit("gains").numbers["sizes"][size["size"]]["spot"], size["sweet_spot"]
        same(ours, frozen_spot)


@pytest.mark.parametrize("scale", scales("curriculum"))
def test_curriculum(scale: str) -> None:
    """Frozen as whole points, with all that was made of them."""
    golden, study = frozen("curriculum", scale), studies.find("curriculum")
    results = study.summarise(long_rows(golden["rows"]).assign(**study.marks(study.resolve({"scale": scale}))))
    same(json.loads(json.dumps(results.as_dict())), golden["summary"])
    assert results.finding == golden["finding"]


@pytest.mark.parametrize("scale", scales("ability_growth"))
def test_ability_growth(scale: str) -> None:
    """Frozen as whole points, with all that was made of them; the second stage follows from the first."""
    golden, study = frozen("ability_growth", scale), studies.find("ability_growth")
    params = study.resolve({"scale": scale})
    rows = long_rows(golden["rows"]).assign(**study.marks(params))
    results = study.summarise(rows)
    same(json.loads(json.dumps(results.as_dict())), golden["summary"])
    assert results.finding == golden["finding"]
    (stage,) = study.stages
    first = long_rows([row for row in golden["rows"] if row["design"] != "mix"])
    cells = [*study.points(params), *stage(params, first)]
    told = ("design", "arm", "source", "seed", "counts", "predicted")
    same(sorted([str(getattr(cell, name)) for name in told] for cell in cells),
         sorted([str(row[name]) for name in told] for row in golden["rows"]))  # fmt: skip


@pytest.mark.parametrize(("study", "scale"), reports())
def test_reports(study: str, scale: str) -> None:
    """Report seeds of the designs of today: estimates, fits, the finding, every verdict and the registered endpoint."""
    golden = frozen(study, f"{scale}-report")
    same(made_of(studies.find(study), scale, golden["points"]), golden["made"])
