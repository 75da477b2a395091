"""Ability growth: how each ability grows with data volume, model size and data source, and the mix that follows.

The dynamics of instruction tuning (Song et al., COLING 2025, arXiv 2310.19651) as a study, with what its reviewers
missed: uncertainty, scores with chance taken off, evidence of convergence, a transference matrix, and a plan for the
next data set that is written down before it is tried. `families` and `doit` say what is taught and tested, `results`
what came out, `plan` what mix follows.

*First stage.* A ladder of volumes of every ability, for each model size, source and seed; then, at one volume and the
main size, every ability left out, and every ability alone. *Second stage* (`later`): from the growth curves a plan for
a budget; the planned mix and named designs of the same budget are trained on fresh seeds, whose exams ask fresh
questions. What is predicted of them is part of their points, and so lies in the store before anything is measured.

*What is shared.* A small model's ladder is one training run (`learn.train_ladder`): its rungs share the trunk, weights
and data, and differ in their annealed branches, so that errors of one seed's rungs are correlated; intervals come from
other seeds. Curated and synthetic runs, sizes, and runs with an ability left out share the seed, so the weights they
begin with and the exam, and are compared in pairs; a set without an ability is the whole set without its examples.
Steps grow with the volume, as the paper's epochs do: more data and longer training are not told apart. Runs of an
ability alone are one rung, read `alone_passes` times, because a tenth of the steps teaches a small model nothing.

Small models are trained from scratch on ten abilities of the instruction families. With `model`, a Hugging Face model
is fine-tuned on DoIT's abilities, beside its untrained base: each volume is a run of its own, since a run repeats its
examples for many epochs on a schedule of its own (the paper, too, trains each anew), and no ability is left out. A
model from scratch has no knowledge to be elicited: that its abilities resemble those of the paper is an analogy.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from labkit.studies import learners
from labkit.studies.ability_growth import results
from labkit.studies.ability_growth.design import Params, later, marks, points
from labkit.studies.growing import Growing, Records, curves_of, open_ended
from labkit.studies.params import scales
from labkit.studies.study import Results, Study
from labkit.studies.transfers import Effects
from labkit.studies.views import View, signed

if TYPE_CHECKING:
    import pandas as pd


def _at_last(rows: "pd.DataFrame") -> "pd.Series[bool]":
    return (rows["design"] == "ladder") & rows["main_source"] & rows["last"]


VIEWS: dict[str, View] = {
    "growth": results.GROWTH,
    "sizes": Growing(title="Growth by model size", by="size", where=lambda rows: rows["main_source"]),
    "sources": Growing(title="Growth by source of the data", by="source", where=lambda rows: rows["main_size"]),
    "source gains": results.Paired(
        title="What curated data score above synthetic data, in pairs",
        where=lambda rows: (rows["design"] == "ladder") & rows["main_size"],
        arm="source", baseline="synthetic",
    ),
    "size gains": results.Paired(
        title="What the largest model scores above the smallest, in pairs",
        where=lambda rows: _at_last(rows) & rows["rank"].notna(),
        arm="rank", arm_name="size", baseline="smallest",
    ),
    "graders": results.Graders(
        title="Both graders, at the last volume", where=lambda rows: _at_last(rows) & rows["main_size"],
        dials=["ability"], label=lambda row: row["ability"], rows_name="ability", x_label="graded by", diverging=True,
        exams={"likelihood": "by likelihood", "generated": "as written"},
    ),
    "without": Effects(title="What the data of an ability add to the others' score", design="without"),
    "without, likelihood": Effects(
        title="What the data of an ability add to the likelihood of right answers, nats per token", design="without",
        key="nats",
    ),
    "alone": Effects(title="What the data of an ability do alone, against guessing", design="alone"),
    "features": results.Features(title="Complexity and transference of each ability, and how they go with its pace"),
    "designs": results.Designs(title="The designs of one budget: predicted before the run, and measured"),
    "gains": results.Paired(
        title="What each design scores above the baseline, in pairs", where=lambda rows: rows["design"] == "mix",
        arm="arm", arm_name="design", baseline="baseline",
    ),
}  # fmt: skip


def finding(found: Results) -> str:
    """How many abilities grow in which way, curated against synthetic, and whether the plan beat the baseline."""
    parts = [found.fit("growth").sentence]
    if "source gains" in found.views():
        gain = found["source gains"].lines("score", ability=results.MACRO)[-1]
        parts.append(f"curated less synthetic at {gain['volume']:,.0f} examples: {_signed(gain)}")
    return ". ".join(parts + [plan_sentence(found)] * ("designs" in found.views()))


def plan_sentence(found: Results) -> str:
    """Whether the plan beat the baseline at the same budget, as measured, beside what was predicted."""
    gains = found["gains"].lines("score", arm="planned", ability=results.MACRO) if "gains" in found.views() else []
    if not gains:
        return "The planned mix and the baseline were not both trained"
    about, (gain,) = found.fit("designs").numbers["designs"]["planned"], gains
    examples = sum(n for sources in about["counts"].values() for n in sources.values())
    ahead = about["predicted"].get("difference")
    predicted = f"predicted {signed(ahead['value'], *ahead['ci95'])}, " if ahead else ""
    sure = gain["seeds"] > 1 and not gain["lo"] <= 0 <= gain["hi"]
    what = "is not told apart from" if not sure else "beats" if gain["lo"] > 0 else "falls behind"
    lone = " (one seed decides nothing)" if gain["seeds"] == 1 else ""
    return f"At {examples:,} examples the planned mix {what} the baseline: {predicted}measured {_signed(gain)}{lone}"


def _signed(gain: Mapping[str, Any]) -> str:
    return signed(gain["mean"], gain["lo"], gain["hi"])


def convergence(found: Results) -> Records:
    """What the verdicts rest on: the last step, what more data are predicted to add, which shape predicts best."""
    names = {"step": "last step", "gain": "four times the data would add", "reached": "share of the plateau reached"}
    lines = Records()
    for ability, fit in [(curve["ability"], curve["fit"]) for curve in curves_of(found["growth"]) if curve["fit"]]:
        densities = {name: f"held-out log density, {name}" for name in fit["held_out"]}
        line = {"ability": ability} | {f"{words} [95 %]": open_ended(fit[name]) for name, words in names.items()}
        line |= {"shape": fit["shape"]} | {words: round(fit["held_out"][name], 2) for name, words in densities.items()}
        lines.append(line | {"misfit p": round(fit["misfit"], 3), "note": fit["note"]})
    return lines


def held(found: Results) -> Records:
    """What each design holds: examples of each ability."""
    designs = found.fit("designs").numbers["designs"] if "designs" in found.views() else {}
    sums = {arm: {name: sum(one.values()) for name, one in of["counts"].items()} for arm, of in designs.items()}
    return [{"design": arm, **counts} for arm, counts in sums.items()]


def notes(params: Params) -> list[str]:
    """What was decided for the person."""
    few, curated = len(params.volumes) < 4 or len(params.seeds) < 2, "curated" in params.sources
    return [
        *([f"volumes = {params.volumes} and {len(params.seeds)} seeds: no growth curve is fitted and nothing is "
           "planned, which needs four volumes and two seeds; all else runs"] * few),
        *(["sources lack 'curated': nothing is planned"] * (not curated and bool(params.mixes))),
        *(["fine-tuned models: no ability is left out or alone"] * (params.model != learners.SMALL)),
    ]  # fmt: skip


STUDY = Study(
    name="ability_growth",
    question="How does each ability grow with data volume, model size and data source, and what mix follows?",
    paper="Song et al. 2025: arXiv 2310.19651 (Dynamics of Instruction Fine-Tuning for Chinese Large Language Models)",
    minutes={
        "smoke": "under 1 minute",
        "laptop": "10 to 13 minutes on two cores",
        "qlora": "weeks of a GPU (estimated, not run)",
    },
    scales=scales("ability_growth"),
    Params=Params,
    points=points,
    dials={"design": "design", "arm": "arm", "source": "source", "size": "size"},
    views=VIEWS,
    finding=finding,
    notes=notes,
    columns=results.scored,
    marks=marks,
    tables={"Evidence of convergence": convergence, "What each design holds, in examples": held},
    stages=[later],
    measure_many=None,
)
