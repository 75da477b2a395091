"""Ability growth: how each ability grows with data volume and data source, and the mix that follows.

The dynamics of instruction tuning (Song et al., COLING 2025, arXiv 2310.19651) as a study, with what its reviewers
missed: uncertainty, scores with chance taken off, evidence of convergence, and a plan for the next data set that is
written down before it is tried. `labkit.studies.abilities` and `doit` say what is taught
and tested, `plan` what mix follows.

*First stage.* A ladder of volumes of every ability, for each source and seed; every ability alone at the last
volume: its *gate*; and proxy runs at random mixes of one budget, for fewer steps. What fails its gate is listed and
left out of means. *Second stage* (`later`): the mix that `design.mix_finder` reads off the proxy runs, or equal parts
where it finds no plan, and named designs are trained on fresh seeds, whose exams ask fresh questions. What is predicted
is part of a point, and so lies in the store before anything is measured.

*What is held fixed.* Every small model takes the same number of optimiser steps from the same base, whatever its data:
a rung differs from the next in how many different examples there are, and not in how long it is trained. (The paper's
epochs let both rise together.) Each example counts alike in the loss. Models of one seed share the exam, and are
compared in pairs; one base serves all seeds, so that intervals say nothing of other bases.

Small models learn abilities of the instruction families. With `model`, a Hugging Face model is fine-tuned on DoIT's
abilities for the paper's epochs, or on `files` for equal steps, beside its untrained base; no ability has a gate then.
That our abilities resemble those of the paper is an analogy.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labkit.studies import scores
from labkit.studies.ability_growth.design import Params, later, marks, points
from labkit.studies.growing import GROWTH, Growing, Records, curves_of, open_ended
from labkit.studies.params import about
from labkit.studies.scores import MACRO, Graders, Paired
from labkit.studies.study import Results, Study
from labkit.studies.views import Matrix, View, signed, signed_gain

if TYPE_CHECKING:
    import pandas as pd

MATTERS = 0.02  # a score by which a mix has to be better to beat another, where nothing is registered
EQUAL = ("planned", "baseline", "reconstruct")  # designs of one budget


def _mixes(rows: "pd.DataFrame") -> "pd.Series[bool]":
    return rows["design"] == "mix"


@dataclass(frozen=True, kw_only=True)
class Designs(Matrix):
    """Mixes against abilities."""

    def select(self, rows: "pd.DataFrame", exams: Sequence[str]) -> "pd.DataFrame":
        chosen = super().select(rows, ["score"])
        return chosen.assign(exam=chosen["ability"])


VIEWS: dict[str, View] = {
    "growth": GROWTH,
    "outside": Growing(
        title="How families grow that are never taught",
        where=lambda rows: rows["main_source"] & rows["exam"].eq("outside"),
    ),
    "sources": Growing(title="Growth by source of the data", by="source", where=lambda rows: rows["exam"].eq("unseen")),
    "source gains": Paired(
        title="What each source scores above synthetic data, in pairs",
        where=lambda rows: rows["design"] == "ladder", arm="source", baseline="synthetic",
    ),
    "graders": Graders(
        title="Both graders, at the last volume",
        where=lambda rows: (rows["design"] == "ladder") & rows["main_source"] & rows["last"],
        dials=["ability"], label=lambda row: row["ability"], rows_name="ability", x_label="graded by", diverging=True,
        exams={"likelihood": "by likelihood", "generated": "as written"},
    ),
    "designs": Designs(
        title="What each mix scores", where=_mixes, dials=["arm"], label=lambda row: row["arm"], exams={},
        rows_name="design", x_label="ability", colour_label="Score", diverging=True, drawn=["task"],
    ),
    "gains": Paired(
        title="What each mix scores above the baseline, in pairs", where=_mixes, arm="arm", arm_name="design",
        baseline="baseline", by_volume=False,
    ),
    "regret": Paired(
        title="The plan's regret: what each other mix of its budget scores above it, in pairs",
        where=lambda rows: _mixes(rows) & rows["arm"].isin(EQUAL), arm="arm", arm_name="design", baseline="planned",
        by_volume=False,
    ),
}  # fmt: skip


def finding(found: Results) -> str:
    """How many abilities grow in which way, each source against synthetic data, and whether the plan is beaten."""
    parts, failed = [found.fit("growth").sentence], scores.failing(found.rows)
    parts += [f"Not learned even alone, and left out of means: {', '.join(failed)}"] * bool(failed)
    if "source gains" in found.views():
        gains = found["source gains"].lines("score", ability=MACRO)
        last = [gain for gain in gains if gain["volume"] == gains[-1]["volume"]]
        said = ", ".join(f"{gain['source']} {signed_gain(gain)}" for gain in last)
        parts += [f"Above synthetic data at {gain['volume']:,} examples of each: {said}" for gain in last[:1]]
    return ". ".join(parts + [plan_sentence(found)] * ("designs" in found.views()))


def plan_sentence(found: Results) -> str:
    """Whether the plan is beaten by another mix of its budget, and what it gains over equal parts."""
    regrets, gains = (found[view].lines("score", ability=MACRO) if view in found.views() else []
                      for view in ("regret", "gains"))  # fmt: skip
    predicted = _predicted(found)
    if predicted.get("reason"):
        others = ", ".join(f"{line['arm']} {signed_gain(line)}" for line in gains)
        return f"No plan: {predicted['reason']}. Equal parts stand for it" + f" (above them: {others})" * bool(others)
    if not regrets or not gains:
        return "The planned mix and the others of its budget were not all trained"
    least = found.promise.smallest_effect if found.promise else MATTERS
    sure = regrets[0]["seeds"] > 1
    beaten = [line["arm"] for line in regrets if line["lo"] > least]
    verdict = "may be beaten or not"
    if sure and beaten:
        verdict = f"is beaten by {' and '.join(beaten)}"
    elif sure and all(line["hi"] < least for line in regrets):
        verdict = "is not beaten"
    others = ", ".join(f"{line['arm']} {signed_gain(line)}" for line in regrets)
    gain = next(signed_gain(line) for line in gains if line["arm"] == "planned")
    return (f"The planned mix {verdict} by more than {least:g} (regret: {others}); it gains over equal parts: "
            f"predicted {signed(*predicted['gain'])}, measured {gain}"
            f"{'' if sure else ' (one seed decides nothing)'}")  # fmt: skip


def _predicted(found: Results) -> dict[str, Any]:
    """What was predicted of the plan before the second stage, or why there was none."""
    return next((known for known in found.rows["predicted"] if isinstance(known, dict)), {})


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


def teacher(found: Results) -> Records:
    """The share of the weak teacher's answers that is right, over its seeds: what synthetic data are made of."""
    if "teacher_right" not in found.rows:
        return []
    models = found.rows.drop_duplicates("address").dropna(subset="teacher_right")
    shares = {str(source): group["teacher_right"].apply(dict).tolist() for source, group in models.groupby("source")}
    names = next(iter(shares.values()))[0]
    return [{"ability": name} | {f"right, {source}": round(sum(one[name] for one in each) / len(each), 3)
                                 for source, each in shares.items()} for name in names]  # fmt: skip


def held(found: Results) -> Records:
    """What each design holds: examples of each ability."""
    mixes = found.rows[_mixes(found.rows)].drop_duplicates("arm")
    return [{"design": arm} | {name: sum(sources.values()) for name, sources in counts.items()}
            for arm, counts in zip(mixes["arm"], mixes["counts"], strict=True)]  # fmt: skip


def foretold(found: Results) -> Records:
    """What the mix finder said of its mix before the second stage: at the steps of proxy runs."""
    return [{"predicted": name, "what": ", ".join(f"{value:+.3f}" for value in known) if name != "reason" else known}
            for name, known in _predicted(found).items()]  # fmt: skip


def notes(params: Params) -> list[str]:
    """What was decided for the person."""
    few, curated = len(params.volumes) < 4 or len(params.seeds) < 2, "curated" in params.sources
    return [
        *([f"volumes = {params.volumes} and {len(params.seeds)} seeds: no growth curve is fitted, which needs four "
           "volumes and two seeds; all else runs"] * few),
        *(["sources lack 'curated': nothing is planned"] * (not curated and bool(params.mixes))),
        *(["fine-tuned models: no ability has a gate"] * (not params.small)),
    ]  # fmt: skip


STUDY = Study(
    **about("ability_growth"),
    Params=Params,
    points=points,
    dials={"design": "design", "arm": "arm", "source": "source"},
    views=VIEWS,
    finding=finding,
    notes=notes,
    columns=scores.scored,
    marks=marks,
    tables={
        "Gates: each ability alone": scores.alone,
        "Evidence of convergence": convergence,
        "Right answers of the weak teacher": teacher,
        "What each design holds, in examples": held,
        "What the mix finder predicted": foretold,
    },
    stages=[later],
    measure_many=None,
)
