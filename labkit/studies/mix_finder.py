"""Mix finder: a few dozen small runs at random shares, a mix read off them, and its trial on fresh seeds.

The sources are kinds of rewriting rules: free ones, and three narrow classes (`labkit.instructions.spaces`, k = 2). A
training set has a fixed number of rules; its mix says how many come from each source. Three problems share the runs:
unseen rules of all kinds, of the free kind alone, of the narrow kinds alone. First stage: each source alone and random
mixes to fit laws to, equal parts over seeds for the noise floor, and as many random mixes more as make random search
equal in runs. `labkit.design.mix_finder` says what mix follows for each problem, or that no plan does; that prediction
is part of the cells of the second stage. There the found mix, equal parts, the natural shares, the best mix tried and
random search's best are trained on fresh seeds, and compared in pairs; where there is no plan, also the mix that was
sought and not trusted, so that every prediction meets its measurement.

How good the finder is where the optimum is known: `labkit.studies.mix_problems`.
"""

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from labkit.design import allocate, mix_finder, whole
from labkit.design.mix_finder import Runs, dirichlet
from labkit.errors import BadRequest
from labkit.instructions import Rules, Space, draw_space_rules
from labkit.instructions.spaces import UNCONSTRAINED
from labkit.studies.cell import cells
from labkit.studies.lesson import Lesson
from labkit.studies.params import about, check_asked, drawn_note
from labkit.studies.rewriting import SEEN, TRAINING, UNSEEN, RewritingCell, RewritingParams, draw_exam, spread, task_of
from labkit.studies.rows import records
from labkit.studies.study import Results, Study
from labkit.studies.views import Gains, Records, View, signed, signed_gain

if TYPE_CHECKING:
    import pandas as pd

SOURCES = {"free": UNCONSTRAINED, **{kind: Space(kind, 2) for kind in ("repeated", "periodic", "mirror")}}
NARROW = ("repeated", "periodic", "mirror")
PROBLEMS = {"all kinds": tuple(SOURCES), "free rules": ("free",), "narrow rules": NARROW}
EQUAL, FOUND, SOUGHT = "equal parts", "found", "sought"
SHARED = {EQUAL: "equal parts", "natural": "natural shares"}  # arms that are of every problem


class Params(RewritingParams):
    """What a person may set; see `catalogue.yaml` for the values each scale gives."""

    groups: ClassVar = RewritingParams.groups | {"runs": ("tried", "floor", "proxy_steps")}

    rules: int = Field(ge=8, le=10**5, description="rules of a training set, shared out over the sources")
    natural: tuple[int, int, int, int] = Field(description="natural shares of free, repeated, periodic, mirror rules")
    tried: int = Field(ge=mix_finder.LEAST_RUNS, le=1000, description="mixes tried: each source alone, and random ones")
    floor: int = Field(ge=2, le=100, description="runs of equal parts, for the noise of one run")
    proxy_steps: int = Field(ge=1, le=10**9, description="optimiser steps of a run of the first stage")
    fresh_seeds: list[int] = Field(min_length=1, description="seeds of the trial")

    @model_validator(mode="after")
    def _together(self) -> "Params":
        if self.pattern_length % 2 or sum(self.natural) <= 0 or min(self.natural) < 0:
            raise BadRequest("pattern_length is even, and natural holds four shares of 0 or more")
        first = range(self.seeds[0], self.seeds[0] + max(self.tried, self.floor))
        if set(first) & set(self.fresh_seeds) or len(self.seeds) != 1:
            raise BadRequest(
                f"seeds = {self.seeds}: one, which with those after it draws the runs; none is in fresh_seeds"
            )
        check_asked(self.n_test, test_rules=self.test_rules)
        return self


class Cell(RewritingCell):
    """One model: everything its result depends on, and what was predicted of it before."""

    study: Literal["mix_finder"] = "mix_finder"
    version: Literal[1] = 1
    arm: str
    problem: str = ""
    counts: tuple[int, int, int, int]
    predicted: str = ""
    noop_share: float = 0.0
    occurrences: int = 1

    def lesson(self) -> Lesson:
        """The budget spread evenly over the rules of all sources; an exam on unseen rules of each kind."""
        task, seed = task_of(self), self.seed
        parts = [draw_space_rules(task, (space,), n, seed=seed).rules for space, n in
                 zip(SOURCES.values(), self.counts, strict=True) if n]  # fmt: skip
        x, y = (np.concatenate([getattr(part, side) for part in parts]) for side in "xy")
        rules = Rules(x, y, self.alphabet)
        examples = np.repeat(np.arange(len(rules)), allocate(self.budget, len(rules)))
        asked = spread(np.arange(min(len(rules), self.test_rules)), self.n_test)
        exams = {"seen": draw_exam(task, rules, asked, seed, SEEN)}
        for stream, (kind, space) in enumerate(SOURCES.items(), UNSEEN):
            unseen = draw_space_rules(task, (space,), self.test_rules, seed=seed, split="test").rules
            exams[kind] = draw_exam(task, unseen, spread(np.arange(self.test_rules), self.n_test), seed, stream)
        return Lesson(draw_exam(task, rules, examples, seed, TRAINING).data, exams)


def _counts(params: Params, shares: Sequence[float]) -> tuple[int, ...]:
    return tuple(whole(np.asarray(shares, float) / sum(shares), params.rules).tolist())


def points(params: Params) -> list[Cell]:
    """The first stage: mixes tried and for random search, and equal parts on several seeds."""
    (seed,), k = params.seeds, len(SOURCES)
    tried = mix_finder.mixes(params.tried, k, seed), dirichlet(params.floor, k, seed + 1)
    dials = [
        {"arm": arm, "counts": _counts(params, shares), "seed": seed + at}
        for arm, drawn in zip(("tried", "more"), tried, strict=True)
        for at, shares in enumerate(drawn)
    ]
    dials += [{"arm": "floor", "counts": _counts(params, [1] * k), "seed": seed + at} for at in range(params.floor)]
    return _cells(params, [dial | {"steps": params.proxy_steps} for dial in dials])


def _cells(params: Params, dials: list[dict[str, Any]]) -> list[Cell]:
    return cells(Cell, params, [{"n_instructions": params.rules, **dial} for dial in dials])


def runs_of(rows: "pd.DataFrame", kinds: Sequence[str], arms: Sequence[str]) -> Runs:
    """The runs of some arms: shares and accuracy on unseen rules of some kinds."""
    own = rows[rows["key"].isin(kinds) & rows["arm"].isin(arms)]
    models = own.assign(hit=own["right"].map(sum), of=own["asked"].map(sum)).groupby("address", sort=False)
    shares = np.array(list(models["counts"].first()), float)
    return Runs(shares / shares.sum(axis=1, keepdims=True), (models["hit"].sum() / models["of"].sum()).to_numpy(float))


def plans(rows: "pd.DataFrame") -> dict[str, mix_finder.Plan]:
    """What the first stage says of each problem."""
    runs = {name: [runs_of(rows, kinds, [arm]) for arm in ("tried", "floor")] for name, kinds in PROBLEMS.items()}
    return {name: mix_finder.find(tried, floor.scores) for name, (tried, floor) in runs.items()}


def trial(params: Params, rows: "pd.DataFrame") -> list[Cell]:
    """The second stage: each arm of each problem on fresh seeds, the prediction in the found mix's cells."""
    arms = [("", EQUAL, [1.0] * len(SOURCES), ""), ("", "natural", list(map(float, params.natural)), "")]
    for name, plan in plans(rows).items():
        tried = runs_of(rows, PROBLEMS[name], ["tried"])
        search = runs_of(rows, PROBLEMS[name], ["tried", "more"])
        told = {"gain": [round(end, 4) for end in plan.gain], "reason": plan.reason}
        arms.append((name, FOUND, plan.shares.tolist(), json.dumps(told)))
        arms += [(name, SOUGHT, plan.best.tolist(), "")] * bool(plan.reason)
        for arm, runs in (("best tried", tried), ("random search", search)):
            arms.append((name, arm, runs.shares[runs.scores.argmax()].tolist(), ""))
    return _cells(params, [
        {"problem": name, "arm": arm, "counts": _counts(params, shares), "predicted": told, "seed": seed}
        for seed in params.fresh_seeds for name, arm, shares, told in arms
    ])  # fmt: skip


def _of(problem: str) -> Callable[["pd.DataFrame"], "pd.Series[bool]"]:
    shared = lambda rows: rows["problem"].eq("") & rows["arm"].isin(list(SHARED))  # noqa: E731
    return lambda rows: rows["problem"].eq(problem) | shared(rows)


def gains(problem: str, baseline: str = EQUAL) -> Gains:
    """What each mix scores above another on a problem's unseen rules."""
    return Gains(
        title=f"What each mix gains over {baseline} on unseen {problem}, in pairs", where=_of(problem), arm="arm",
        arm_name="mix", baseline=baseline, exam=problem, exam_label=f"unseen {problem}", pools=PROBLEMS,
    )  # fmt: skip


VIEWS: dict[str, View] = {name: gains(name) for name in PROBLEMS}


def _told(results: Results, problem: str) -> dict[str, Any]:
    """What was predicted for a problem, and of its lines those of what was found and of what it was predicted for."""
    models = results.rows[results.rows["problem"].eq(problem) & results.rows["arm"].eq(FOUND)]
    told: dict[str, Any] = json.loads(models["predicted"].iloc[0])
    lines = {line["arm"]: line for line in results[problem].lines(problem)}
    return told | {"found": lines[FOUND], "sought": lines.get(SOUGHT, lines[FOUND])}


def finding(results: Results) -> str:
    """For each problem what the found mix was predicted to gain over equal parts, and gains."""
    parts = []
    for name in results.views():
        told = _told(results, name)
        plan = f"no plan ({told['reason']})" if told["reason"] else f"predicted {signed(*told['gain'])}"
        parts.append(f"on {name} {plan}, measured {signed_gain(told['found'])}")
    return f"Gain of the found mix over equal parts: {'; '.join(parts)}"


def kept(results: Results) -> Records:
    """By problem: did the mix that was sought gain what was predicted, and what do others score above the found one?

    The best of the others is named after the fact, so that the regret is rather too high.
    """
    lines = Records()
    for name in results.views():
        told = _told(results, name)
        best = max(records(gains(name, FOUND).measure(results.rows).estimates), key=lambda line: line["mean"])
        lines.append({
            "problem": f"unseen {name}", "a plan": "no" if told["reason"] else "yes",
            "predicted gain [95 %]": signed(*told["gain"]), "measured gain [95 %]": signed_gain(told["sought"]),
            "prediction holds it": "yes" if told["gain"][1] <= told["sought"]["mean"] <= told["gain"][2] else "no",
            "best other mix": best["arm"], "regret: what it scores above the found one [95 %]": signed_gain(best),
        })  # fmt: skip
    return lines


STUDY = Study(
    **about("mix_finder"),
    Params=Params,
    points=points,
    dials={"arm": "mix", "problem": "problem"},
    views=VIEWS,
    finding=finding,
    notes=lambda params: drawn_note(params, params.budget),
    stages=[trial],
    tables={"Predictions and regret": kept},
)
