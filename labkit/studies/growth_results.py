"""What came out of the study of ability growth: curves, transference, the plan beside what became of it.

A row is a training run, graded at one or several rungs; scores are corrected for chance, 0 being a guess and 1 all
right, and a *macro* score is their mean over abilities. The main score is that of the grading which the frame's column
`grading` names (else of likelihood). Runs of one seed sit one exam and are compared in pairs: seeds are resampled and,
within each, instructions (`grade.paired_difference`); one thing beats another only where the whole interval lies above
zero, and never from one seed.

Seeds may be asked questions with different numbers of options: the chance level taken off is then their mean, which is
exact to second order in how far they differ.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from labkit import grade
from labkit.design.plan import Curves, Growth
from labkit.errors import BadRequest
from labkit.grade import choice, growth, transference
from labkit.grade.intervals import Counts, Floats

if TYPE_CHECKING:
    import pandas as pd

Row = Mapping[str, Any]
COUNTERPARTS = {  # our abilities and the published ones that they resemble: an analogy
    "ethics": "classification",
    "role-play": "role",
    "creative writing": "formatting",
    "code": "functions",
    "biology": "knowledge",
    "history": "knowledge",
    "reasoning": "deduction",
    "mathematics": "arithmetic",
}
AS_THEY_ARE = {"role-play": "role_play", "creative writing": "creative_writing", "mathematics": "math"}  # DoIT's names


class Run(NamedTuple):
    """A run at one rung."""

    row: Row
    rung: int

    def counts(self, exam: str, grading: str) -> Counts:
        right, asked = self.row[f"{exam}_{grading}_right"][self.rung], self.row[f"{exam}_{grading}_asked"]
        return Counts(np.asarray(right), np.asarray(asked))

    def scores(self, exams: Sequence[str], grading: str) -> Floats:
        """A score for each instruction, all exams' together, so weighed that their mean is the macro score."""
        parts = [self.counts(exam, grading) for exam in exams]
        total = sum(len(np.asarray(part.asked)) for part in parts)
        found = []
        for exam, part in zip(exams, parts, strict=True):
            share = np.asarray(part.right) / np.asarray(part.asked).mean()
            corrected = choice.correct(share, float(self.row[f"{exam}_{grading}_chance"]))
            found.append(corrected * total / (len(exams) * len(corrected)))
        return np.concatenate(found)

    def nats(self, exam: str) -> Floats:
        """Log-likelihood of each instruction's right answers; the mean is that a token."""
        tokens = np.asarray(self.row[f"{exam}_gold_nats_tokens"])
        return np.asarray(-np.asarray(self.row[f"{exam}_gold_nats"][self.rung]) / tokens.mean(), np.float64)


class Frame(NamedTuple):
    """The rows of a study, and what they have in common."""

    rows: list[Row]
    abilities: list[str]
    others: list[str]
    grading: str
    gradings: list[str]
    sizes: list[str]
    main: str

    def runs(self, volume: int | None = None, **settings: Any) -> list[Run]:
        """Runs with these settings (at one volume, or at each of their last ones), by seed."""
        found = []
        for row in self.rows:
            if all(row[name] == value for name, value in settings.items()):
                places = range(len(row["volumes"]))
                at = places[-1:] if volume is None else [i for i in places if row["volumes"][i] == volume]
                found += [Run(row, i) for i in at]
        return sorted(found, key=lambda run: int(run.row["seed"]))

    def volumes(self, **settings: Any) -> list[int]:
        rows = [row for row in self.rows if all(row[name] == value for name, value in settings.items())]
        return sorted({volume for row in rows for volume in row["volumes"] if volume > 0})

    def last(self, size: str, source: str) -> list[Run]:
        """A ladder's models of the last volume."""
        where = {"design": "ladder", "size": size, "source": source}
        return self.runs(self.volumes(**where)[-1], **where)

    def same(self, runs: Sequence[Run]) -> bool:
        """Do all seeds sit the same exam?"""
        return len({run.row["exam"] for run in runs}) == 1 < len({run.row["seed"] for run in runs})


def _read(frame: "pd.DataFrame") -> Frame:
    rows: list[Row] = [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]
    ladders = [row for row in rows if row["design"] == "ladder"]
    if not ladders:
        raise BadRequest("there is no ladder among these rows: nothing grows")
    sizes = list(dict.fromkeys(str(row["size"]) for row in sorted(ladders, key=lambda row: row["parameters"])))
    used = [row["size"] for row in rows if row["design"] in ("without", "alone", "mix") or row["source"] == "synthetic"]
    main = used[0] if used and used[0] in sizes else sizes[len(sizes) // 2]
    gradings = [str(name) for name in ladders[0]["gradings"]]
    wanted = next((row["grading"] for row in rows if isinstance(row.get("grading"), str)), gradings[0])
    grading = wanted if wanted in gradings else gradings[0]
    return Frame(rows, list(ladders[0]["abilities"]), list(ladders[0]["others"]), grading, gradings, sizes, main)


def summarise(frame: "pd.DataFrame") -> dict[str, Any]:
    """Growth of every ability by size and source, transference, features, and the second stage where it was run."""
    about = _read(frame)
    sources = list(dict.fromkeys(str(row["source"]) for row in about.rows if row["design"] == "ladder"))
    curves = [
        _growth(about, exam, size, source)
        for size in about.sizes
        for source in sources
        if about.volumes(design="ladder", size=size, source=source)
        for exam in (*about.abilities, *about.others)
    ]
    first = sources[0]
    matrices = _matrices(about)
    return {
        "abilities": about.abilities,
        "others": about.others,
        "grading": about.grading,
        "sizes": about.sizes,
        "main": about.main,
        "sources": sources,
        "seeds": len({row["seed"] for row in about.rows if row["design"] == "ladder"}),
        "growth": curves,
        "graders": [_graders(about, exam, first) for exam in (*about.abilities, *about.others)],
        "by_source": _by_source(about) if {"curated", "synthetic"} <= set(sources) else [],
        "by_size": _by_size(about, first),
        "transference": matrices,
        "features": _features(about, curves, matrices),
        "stage": _stage(about),
    }


def _growth(about: Frame, exam: str, size: str, source: str) -> dict[str, Any]:
    """The points of one curve and its fit, or why there is none."""
    where = {"design": "ladder", "size": size, "source": source}
    volumes = about.volumes(**where)
    runs = [about.runs(volume, **where) for volume in volumes]
    chance = _chance([run for some in runs for run in some], exam, about.grading)
    counts = [[run.counts(exam, about.grading) for run in some] for some in runs]
    start = about.runs(design="untrained")
    row = {"ability": exam, "size": size, "source": source, "chance": chance}
    try:
        fit = growth.fit_growth(
            volumes,
            counts,
            chance=chance,
            same_rules=about.same([run for some in runs for run in some]),
            untrained=start[0].counts(exam, about.grading) if start else None,
        )
    except BadRequest as refusal:
        points = [
            {"volume": v, **_corrected(some, chance, about.same(rs))}
            for v, some, rs in zip(volumes, counts, runs, strict=True)
        ]
        return row | {"points": points, "fit": None, "why": str(refusal)}
    known = fit.as_dict(200 if size == about.main else 0)
    least = -chance / (1 - chance)  # a score's ends: nothing right, and all
    points = [
        {"volume": p.volume, "mean": p.score, "ci95": [max(p.lo, least), min(p.hi, 1.0)], "models": p.seeds}
        for p in fit.points
    ]
    grid = np.geomspace(volumes[0], volumes[-1], 25)
    line = [
        {"volume": float(x), "mean": float(mean), "ci95": [float(lo), float(hi)]}
        for x, mean, lo, hi in zip(grid, *fit.at(grid), strict=True)
    ]
    return row | {"points": points, "fit": known | {"line": line}, "why": ""}


def _chance(runs: Sequence[Run], exam: str, grading: str) -> float:
    return float(np.mean([run.row[f"{exam}_{grading}_chance"] for run in runs]))


def _corrected(counts: Sequence[Counts], chance: float, same: bool) -> dict[str, Any]:
    """A score with its interval over seeds and instructions, and each model's."""
    one = grade.seed_cluster_bootstrap(counts, same_rules=same)
    mean, lo, hi = choice.correct([one.mean, one.lo, one.hi], chance).tolist()
    models = [float(choice.correct(np.sum(c.right) / np.sum(c.asked), chance)) for c in counts]
    return {"mean": mean, "ci95": [lo, hi], "models": models, "over": one.over}


def _graders(about: Frame, exam: str, source: str) -> dict[str, Any]:
    """Both gradings of the main size's last rung."""
    runs = about.last(about.main, source)
    by: dict[str, Any] = {}
    for grading in about.gradings:
        chance = _chance(runs, exam, grading)
        counts = [run.counts(exam, grading) for run in runs]
        by[grading] = {"chance": chance, **_corrected(counts, chance, about.same(runs))}
    return {"ability": exam, "by": by}


def _difference(about: Frame, one: Sequence[Run], other: Sequence[Run], exams: Sequence[str]) -> dict[str, Any] | None:
    """What the first runs score above the second, over the seeds that have both."""
    second = {run.row["seed"]: run for run in other}
    pairs = [(run, second[run.row["seed"]]) for run in one if run.row["seed"] in second]
    if not pairs:
        return None
    tables = [np.stack([run.scores(exams, about.grading) for run in pair]) for pair in pairs]
    mean, lo, hi = grade.paired_difference(tables, 0, 1, same_problems=about.same([run for run, _ in pairs]))
    sure = len(pairs) > 1
    verdict = "higher" if sure and lo > 0 else "lower" if sure and hi < 0 else "not decided"
    return {"mean": mean, "ci95": [lo, hi], "seeds": len(pairs), "verdict": verdict}


def _by_source(about: Frame) -> list[dict[str, Any]]:
    """Curated above synthetic at every volume of the main size: the macro score, and each ability."""
    found = []
    for volume in about.volumes(design="ladder", size=about.main, source="synthetic"):
        one, other = (
            about.runs(volume, design="ladder", size=about.main, source=source) for source in ("curated", "synthetic")
        )
        gains = {"macro": _difference(about, one, other, about.abilities)}
        gains |= {exam: _difference(about, one, other, [exam]) for exam in about.abilities}
        found.append({"volume": volume, "gains": gains})
    return found


def _by_size(about: Frame, source: str) -> dict[str, Any]:
    """The largest size above the smallest at the last volume."""
    one, other = (about.last(size, source) for size in (about.sizes[-1], about.sizes[0]))
    if len(about.sizes) < 2:
        return {}
    return {exam: _difference(about, one, other, [exam]) for exam in about.abilities}


def _matrices(about: Frame) -> dict[str, Any]:
    """What each ability's data add to all, and do alone, in score and in likelihood; or why that is not known."""
    apart, alone = (
        {arm: about.runs(design=design, arm=arm) for arm in about.abilities} for design in ("without", "alone")
    )
    if not any(apart.values()) and not any(alone.values()):
        return {"why": "no ability was left out or trained alone"}
    volume = next(run.row["volumes"][0] for runs in (*apart.values(), *alone.values()) for run in runs)
    whole = about.runs(volume, design="ladder", size=about.main, source=about.runs(design="without")[0].row["source"])
    seeds = sorted(set.intersection(*({run.row["seed"] for run in runs} for runs in (*apart.values(), whole))))

    def of(runs: Sequence[Run], scores: Any) -> list[Floats]:
        return [scores(run) for run in runs if run.row["seed"] in seeds]

    measures: dict[str, Any] = {
        "score": lambda exam: lambda run: run.scores([exam], about.grading),
        "nats": lambda exam: lambda run: run.nats(exam),
    }
    found: dict[str, Any] = {"volume": volume, "seeds": len(seeds), "why": ""}
    try:
        for name, measure in measures.items():
            together = {exam: of(whole, measure(exam)) for exam in about.abilities}
            without = {
                arm: {exam: of(runs, measure(exam)) for exam in about.abilities if exam != arm}
                for arm, runs in apart.items()
            }
            found[f"out_{name}"] = transference.leave_one_out(together, without).as_dict()
            added = {
                arm: {exam: of(runs, measure(exam)) for exam in about.abilities} for arm, runs in alone.items() if runs
            }
            if name == "score" and added:  # an untrained model guesses: its score is 0
                base = {exam: [0 * scores for scores in some] for exam, some in together.items()}
                found["in_score"] = transference.leave_one_in(base, added).as_dict()
    except BadRequest as refusal:
        return {"why": str(refusal)}
    return found


def _features(about: Frame, curves: Sequence[Row], matrices: Row) -> dict[str, Any]:
    """Complexity and transference of each ability, and how they go with its pace."""
    rows = []
    for exam in about.abilities:
        fit = next((c["fit"] for c in curves if c["ability"] == exam and c["size"] == about.main), None)
        row: dict[str, Any] = {"ability": exam, "complexity": _complexity(about, exam)}
        for name in ("score", "nats"):
            received = matrices.get(f"out_{name}", {}).get("received", {})
            row[f"transference_{name}"] = received.get(exam)
        if fit is not None:
            pace = fit["pace"]["value"]
            row |= {"pace": pace, "late": pace is None, "verdict": fit["verdict"]}
        rows.append(row)
    found = []
    for feature in ("complexity", "transference_score", "transference_nats"):
        xs = {row["ability"]: row[feature]["value"] for row in rows if row[feature]}
        paces = {row["ability"]: np.inf if row["late"] else row["pace"] for row in rows if "late" in row}
        try:
            found.append({"feature": feature, **transference.rank_correlation(xs, paces).as_dict(), "why": ""})
        except BadRequest as refusal:
            found.append({"feature": feature, "rho": None, "why": str(refusal)})
    return {"rows": rows, "correlations": found}


def _complexity(about: Frame, exam: str) -> dict[str, Any] | None:
    """What a model pays for right answers that has not been trained for the ability: with the others, or not at all."""
    runs = about.runs(design="without", arm=exam)
    pairs = [(run.row[f"{exam}_gold_nats"][run.rung], run.row[f"{exam}_gold_nats_tokens"]) for run in runs]
    if not pairs:
        pairs = [
            (run.row[f"{exam}_nats"], run.row[f"{exam}_nats_tokens"])
            for run in about.runs(design="untrained")
            if f"{exam}_nats" in run.row
        ]
    if not pairs:
        return None
    nats, tokens = (np.concatenate([np.asarray(pair[i], float) for pair in pairs]) for i in (0, 1))
    of = np.concatenate([np.arange(len(pair[1])) + 10_000 * i for i, pair in enumerate(pairs)])
    return transference.complexity(-nats, tokens, of).as_dict()


def _stage(about: Frame) -> list[dict[str, Any]]:
    """The designs of one budget: what was predicted of each, what was measured, and how far it is from the baseline."""
    arms = list(dict.fromkeys(row["arm"] for row in about.rows if row["design"] == "mix"))
    found = []
    for arm in arms:
        runs = about.runs(design="mix", arm=arm)
        row, baseline = runs[0].row, about.runs(design="mix", arm="baseline")
        paired = baseline if arm != "baseline" else []
        zero = [np.stack([s, 0 * s]) for s in (run.scores(about.abilities, about.grading) for run in runs)]
        mean, lo, hi = grade.paired_difference(zero, 0, 1, same_problems=about.same(runs))
        abilities = {}
        for exam in about.abilities:
            chance = _chance(runs, exam, about.grading)
            counts = [run.counts(exam, about.grading) for run in runs]
            abilities[exam] = _corrected(counts, chance, about.same(runs)) | {
                "gain": _difference(about, runs, paired, [exam]),
                "examples": sum(row["counts"][exam].values()) if exam in row["counts"] else 0,
            }
        predicted = row["predicted"] if isinstance(row["predicted"], dict) else None
        found.append(
            {
                "design": arm,
                "examples": int(row["totals"][-1]),
                "counts": row["counts"],
                "predicted": predicted,
                "measured": {"mean": mean, "ci95": [lo, hi]},
                "models": [float(run.scores(about.abilities, about.grading).mean()) for run in runs],
                "gain": _difference(about, runs, paired, about.abilities),
                "abilities": abilities,
                "seeds": len(runs),
            }
        )
    return found


def growths(summary: Row) -> dict[str, Growth] | None:
    """What a plan needs of the main size's curated curves; None where an ability has none."""
    found = {}
    for one in main_curves(summary):
        if one["ability"] not in summary["abilities"]:
            continue
        if one["fit"] is None:
            return None
        tried = int(one["points"][-1]["volume"])
        responds = one["fit"]["verdict"] != "not responding"
        found[one["ability"]] = Growth(Curves.of(one["fit"]["curves"]), tried, responds)
    return found or None


def main_curves(summary: Row, source: str | None = None) -> list[dict[str, Any]]:
    first = source or ("curated" if "curated" in summary["sources"] else summary["sources"][0])
    return [one for one in summary["growth"] if one["size"] == summary["main"] and one["source"] == first]


def verdicts_of(summary: Row) -> dict[str, str]:
    return {one["ability"]: one["fit"]["verdict"] if one["fit"] else "no curve" for one in main_curves(summary)}


def finding(summary: dict[str, Any]) -> str:
    """How many abilities grow in which way, curated against synthetic, and whether the plan beat the baseline."""
    verdicts = verdicts_of(summary)
    kinds = [*growth.VERDICTS, "no curve"]
    told = [f"{kind}: {', '.join(n for n, v in verdicts.items() if v == kind)}" for kind in kinds]
    parts = ["; ".join(one for one in told if not one.endswith(": "))]
    if summary["by_source"]:
        gain = summary["by_source"][-1]["gains"]["macro"]
        parts.append(f"curated less synthetic at {summary['by_source'][-1]['volume']:,} examples: {signed(gain)}")
    parts += [plan_sentence(summary)] * bool(summary["stage"])
    return ". ".join(parts)


def plan_sentence(summary: Row) -> str:
    """Whether the plan beat the baseline at the same budget, as measured, beside what was predicted."""
    planned = next((one for one in summary["stage"] if one["design"] == "planned"), None)
    if planned is None or planned["gain"] is None:
        return "The planned mix and the baseline were not both trained"
    gain, predicted = planned["gain"], (planned["predicted"] or {}).get("difference")
    what = {"higher": "beats", "lower": "falls behind", "not decided": "is not told apart from"}[gain["verdict"]]
    said = f"predicted {signed({'mean': predicted['value'], **predicted})}, " if predicted else ""
    return f"At {planned['examples']:,} examples the planned mix {what} the baseline: {said}measured {signed(gain)}" + (
        " (one seed decides nothing)" if gain["seeds"] == 1 else ""
    )


def signed(gain: Row | None) -> str:
    """A difference and its interval for people."""
    if gain is None:
        return ""
    lo, hi = gain["ci95"]
    return f"{gain['mean']:+.3f} [{lo:+.3f}, {hi:+.3f}]"


def compare(summary: dict[str, Any], published: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The published findings beside ours. That our abilities stand for theirs is an analogy."""

    rows = []
    for record in published:
        ours, agrees = _compared(summary, record)
        said = f"{', '.join(record.get('abilities', []))}: {record['statement']}".removeprefix(": ")
        rows.append(
            {"published": said, "ours": ours, "agrees": agrees, "source": f"{record['source']}, {record['figure']}"}
        )
    return rows


def _compared(summary: Row, record: Row) -> tuple[str, str]:
    verdicts, said = verdicts_of(summary), record["statement"]
    if names := record.get("abilities"):
        alike = [own for name in names for own in (name, AS_THEY_ARE.get(name), COUNTERPARTS.get(name))]
        found = {own: verdicts[own] for own in alike if own in verdicts}
        if not found:
            return "none of these abilities was trained", "not tested here"
        wanted = "saturated" if "saturate" in said else "still growing" if "growing" in said else "not responding"
        told = ", ".join(f"{name}: {verdict}" for name, verdict in found.items())
        against = [v for v in found.values() if v not in (wanted, "not decided", "no curve")]
        if all(verdict == wanted for verdict in found.values()):
            return told, "yes"
        return told, "no" if against else "not decided"
    if "synthetic" in said:
        if not summary["by_source"]:
            return "one source only", "not tested here"
        last = summary["by_source"][-1]
        gain = last["gains"]["macro"]
        kinds = {
            source: [one["fit"]["verdict"] for one in main_curves(summary, source) if one["fit"]]
            for source in ("curated", "synthetic")
        }
        grow = {source: found.count("still growing") for source, found in kinds.items()}
        told = (
            f"curated less synthetic at {last['volume']:,}: {signed(gain)}; still growing: {grow['curated']} curated, "
            f"{grow['synthetic']} synthetic"
        )
        if gain is None or gain["verdict"] == "not decided":
            return told, "not decided"
        return told, "yes" if gain["verdict"] == "higher" and grow["curated"] > grow["synthetic"] else "no"
    found_at = [one for one in summary["features"]["correlations"] if one["rho"] is not None]
    told = "; ".join(f"{_named(one['feature'])} and pace: {rho(one)}" for one in found_at)
    if not found_at:
        return summary["features"]["correlations"][0]["why"], "not tested here"
    clear = [one["p"] < 0.05 for one in found_at]
    return told, "yes" if all(clear) else "not decided"


def _named(feature: str) -> str:
    name, _, how = feature.partition("_")
    return f"{name} in {how}" if how else name


def rho(one: Row) -> str:
    return f"rho {one['rho']:+.2f} [{one['ci95'][0]:+.2f}, {one['ci95'][1]:+.2f}], p {one['p']:.3f}"


def ranged(known: Row | None, digits: int = 3) -> str:
    """A number with its interval for people; ends that are open say so."""
    if known is None:
        return ""
    value, lo, hi = ("open" if x is None else f"{x:,.{digits}f}" for x in (known["value"], *known["ci95"]))
    return f"{value} [{lo}, {hi}]"
