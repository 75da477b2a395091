"""Abstraction: are equational rules followed that were never seen, and what mix makes the better specialist?

An instruction is an identity LHS = RHS, applied at one place inside an expression (`labkit.instructions.equations`).
*Generalists* learn n rules and are graded on unseen rules of the same kind. *Specialists* learn a fixed number of rules
from a fixed number of examples, some specialised (rules with a square) and some diversifying (rules without), and are
graded on unseen rules with a square, of the depth they were trained on and of a greater one. A model of diversifying
rules alone is both a generalist and the end of the mixes. Diversifying rules may be as deep as the deeper test rules
(`depths`); how much of their help is depth alone shows where they are not.

An answer is right when it follows the rule up to the order of operands (`Equation.follows`), decoded greedily. Beside
it stand the stricter equality of texts, and the looser equality to algebra (`Equation.equals`), which a model could
have without reading the rule: what blindly swapping two operands scores is given with it.
Source: Zhang, Wang and Charton, arXiv 2410.04717, section 3. The paper's rules and trees are not public: rules, depths
and the specialist's field are ours at every scale; at `paper` scale the 50,000 instances, numbers of rules, mixes and
depths are the paper's, the model and optimiser those of its rewriting study, and epochs and batch size ours.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from labkit import grade, learn
from labkit.design import allocate
from labkit.errors import BadRequest
from labkit.grade.intervals import percentiles
from labkit.instructions.equations import (
    METAVARIABLES,
    OPERATORS,
    Equation,
    InputTask,
    RuleClass,
    draw_equations,
    swapped,
)
from labkit.instructions.equations import generator as input_generator
from labkit.lab import Record
from labkit.studies import symbolic
from labkit.studies.contract import Study
from labkit.studies.symbolic import interval

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

SOME = 0.05  # accuracy from which a mix can be said to be the best
EXAMS = ("unseen", "special", "deeper")  # beside "seen"; see `lesson_of`

SMALL: dict[str, Any] = {
    **symbolic.MODEL,
    "n_rules": [40, 160, 1000],
    "mix_rules": 160,
    "diverse_shares": [0.0, 0.2, 0.5, 1.0],
    "seeds": [0, 1, 2],
    "budget": 38_400,
    "depths": [3, 4],
    "special_depths": [3],
    "test_depths": [4],
    "pattern_length": 7,
    "input_length": 13,
    "expression_depth": 5,
    "grounding_share": 0.0,
    "leaves": "abcdefghij23",
    "steps": 600,
    "test_rules": 100,
    "n_test": 300,
}
SMOKE = {"n_rules": [4, 40], "mix_rules": 20, "diverse_shares": [0.0, 0.5, 1.0], "seeds": [0]}
SCALES: dict[str, dict[str, Any]] = {
    "smoke": {**SMALL, **SMOKE, "budget": 640, "steps": 20, "batch_size": 32, "test_rules": 20, "n_test": 40},
    "laptop": SMALL,
    "paper": {
        **SMALL,
        **symbolic.PAPER_MODEL,
        "n_rules": [10, 20, 40],
        "mix_rules": 50,
        "diverse_shares": [0.0, 0.02, 0.1, 0.2, 0.5, 1.0],
        "budget": 50_000,
        "grounding_share": 0.2,
        "input_length": 25,
        "expression_depth": 6,
        "steps": 50 * 50_000 // 512,
        "n_test": 10_000,
    },
}


class Params(symbolic.ModelParams):
    """What a person may set; see `SCALES` for the values each scale gives."""

    n_rules: list[int] = Field(min_length=1, description="generalists: numbers of training rules, one model each")
    mix_rules: int = Field(ge=2, description="specialists: training rules of each mix, in all")
    diverse_shares: list[float] = Field(min_length=1, description="shares of diversifying rules in the mixes")
    budget: int = Field(ge=1, le=100000000, description="training examples of a model, spread evenly over its rules")
    depths: list[int] = Field(min_length=1, description="levels of a rule's left side, specialised rules apart")
    special_depths: list[int] = Field(min_length=1, description="the same for specialised training rules")
    test_depths: list[int] = Field(min_length=1, description="the same for the specialists' deeper test rules")
    pattern_length: int = Field(description="symbols of a side, at most")
    input_length: int = Field(le=1000, description="symbols of an input, and of an answer, at most")
    expression_depth: int = Field(ge=1, le=100, description="levels of an input, at most")
    grounding_share: float = Field(ge=0, le=1, description="chance that a metavariable stands for a sub-expression")
    leaves: str = Field(description="variables (lower-case letters) and constants (digits) of the inputs")
    test_rules: int = Field(ge=2, description="unseen rules to grade on, for each exam")

    @model_validator(mode="after")
    def _together(self) -> "Params":
        input_task(self)
        if min(self.test_depths) <= max(self.special_depths):
            raise BadRequest(
                f"test_depths = {self.test_depths} are not all deeper than special_depths = {self.special_depths}"
            )
        if bad := [share for share in self.diverse_shares if not 0 <= share <= 1]:
            raise BadRequest(f"diverse_shares = {bad[0]}: a share lies between 0 and 1")
        if set(self.diverse_shares) == {1.0}:
            raise BadRequest("diverse_shares = [1.0] leaves no specialised rules: give a share below 1 beside it")
        if self.n_test < self.test_rules:
            raise BadRequest(f"n_test = {self.n_test} is less than an example for each of {self.test_rules} test_rules")
        mixes = [mix(share, self.mix_rules) for share in self.diverse_shares]
        if len({*mixes}) < len(mixes):
            raise BadRequest(
                f"diverse_shares = {self.diverse_shares}: of {self.mix_rules} rules two come to one number"
            )
        for n in [*self.n_rules, self.mix_rules]:
            if n < 1:
                raise BadRequest(f"n_rules = {n}: at least 1 is needed")
            allocate(self.budget, n)
        wanted = {"train": max(*self.n_rules, *(d for d, _ in mixes)), **dict.fromkeys(EXAMS, self.test_rules)}
        for seed in self.seeds:
            for name, n in wanted.items():
                check_rules(rule_class(self, seed, name), n, "test_rules" if name in EXAMS else "n_rules or mix_rules")
            check_rules(rule_class(self, seed, "special", "train"), max(s for _, s in mixes), "mix_rules")
        return self


class Cell(symbolic.ModelCell):
    """One model: everything its result depends on."""

    study: Literal["abstraction"] = "abstraction"
    version: Literal[2] = 2
    n_diverse: int
    n_special: int
    budget: int
    depths: list[int]
    special_depths: list[int]
    test_depths: list[int]
    pattern_length: int
    input_length: int
    expression_depth: int
    grounding_share: float
    leaves: str
    test_rules: int

    def layout(self) -> learn.Layout:
        alphabet = self.leaves + "".join(OPERATORS) + METAVARIABLES
        widths, names = (
            (self.pattern_length, self.pattern_length, self.input_length),
            ("left side", "right side", "input"),
        )
        return learn.Layout(alphabet, widths, self.input_length, padded=True, names=names)


def mix(share: float, total: int) -> tuple[int, int]:
    """The numbers of diversifying and of specialised rules."""
    return round(share * total), total - round(share * total)


def input_task(of: Params | Cell) -> InputTask:
    """The settings of the inputs."""
    return InputTask(of.pattern_length, of.input_length, of.expression_depth, of.grounding_share, of.leaves)


def rule_class(of: Params | Cell, seed: int, name: str, split: Literal["train", "test"] = "test") -> RuleClass:
    """The rules of "train", and of the exams "unseen" (of that kind), "special" (with a square) and "deeper" (both)."""
    depths = {"special": of.special_depths, "deeper": of.test_depths}.get(name, of.depths)
    split = "train" if name == "train" else split
    return RuleClass(seed, split, of.pattern_length, tuple(depths), name in ("special", "deeper"))


def check_rules(rules: RuleClass, wanted: int, name: str) -> None:
    """BadRequest where a class holds too few rules; says how many it holds, or the largest depth with enough."""
    if wanted <= rules.capacity:
        return
    depths, kind = " or ".join(map(str, rules.depths)), "with a square" if rules.special else "without squares"
    others = [d for d in range(2, rules.pattern_length + 1) if rules._replace(depths=(d,)).capacity >= wanted]
    most = f"ask for {rules.capacity}" if rules.capacity else f"depth {max(others, default='?')}"
    raise BadRequest(
        f"{name} asks for {wanted} {rules.split} rules {kind} of depth {depths}, and seed {rules.seed} with "
        f"pattern_length = {rules.pattern_length} has {rules.capacity}: {most} at most"
    )


def points(params: Params) -> list[Cell]:
    """A cell for each generalist and each mix; seeds outermost, so that first whole curves come early."""
    mixes = [mix(share, params.mix_rules) for share in params.diverse_shares]
    counts = [(n, 0) for n in sorted(params.n_rules, reverse=True)]
    dials = [
        {"seed": seed, "n_diverse": diverse, "n_special": special}
        for seed in params.seeds
        for diverse, special in dict.fromkeys(counts + mixes)
    ]
    return symbolic.cells(Cell, params, dials)


def lesson_of(cell: Cell) -> symbolic.Lesson:
    """The budget spread evenly over the rules, and the exams; rules of one polynomial are one cluster of an interval.

    `seen`: fresh inputs of the training rules; `unseen`: unseen diversifying rules; `special`, `deeper`: unseen rules
    with a square, of the specialised training rules' depths and of greater ones.
    """
    task, layout = input_task(cell), cell.layout()
    rules = draw_equations(rule_class(cell, cell.seed, "train"), cell.n_diverse)
    rules += draw_equations(rule_class(cell, cell.seed, "special", "train"), cell.n_special)

    blind: dict[str, float] = {}

    def draw(of: list[Equation], index: NDArray[np.int64], stream: int, name: str = "") -> symbolic.Exam:
        rng = input_generator(cell.seed, 2, stream)
        drawn = [(of[i], *task.draw(of[i], rng)) for i in index.tolist()]
        data = layout.encode([(rule.lhs, rule.rhs, text) for rule, text, _ in drawn], [right for *_, right in drawn])

        def judge(answers: list[str]) -> dict[str, NDArray[np.bool_]]:
            verdicts = {"": Equation.follows, "equal": Equation.equals}
            rows = [(rule, text, found) for (rule, text, _), found in zip(drawn, answers, strict=True)]
            return {verdict: np.array([right(*row) for row in rows]) for verdict, right in verdicts.items()}

        if not name:
            return symbolic.Exam(data, index, len(of))
        swaps = judge([swapped(text) for _, text, _ in drawn])
        blind.update({f"blind_{name}": float(swaps[""].mean()), f"blind_{name}_equal": float(swaps["equal"].mean())})
        cluster = np.unique([rule.polynomial() % 2**62 for rule in of], return_inverse=True)[1]
        return symbolic.Exam(data, cluster[index], int(cluster.max()) + 1, {}, judge)

    training = draw(rules, np.repeat(np.arange(len(rules)), allocate(cell.budget, len(rules))), 0)
    asked = {"seen": rules}
    asked |= {name: draw_equations(rule_class(cell, cell.seed, name), cell.test_rules) for name in EXAMS}
    exams: dict[str, symbolic.Exam] = {
        name: draw(of, np.arange(cell.n_test) % len(of), stream, name)
        for stream, (name, of) in enumerate(asked.items(), 1)
    }
    return symbolic.Lesson(training.data, exams, blind)


def measure(cell: Cell, record: Record) -> dict[str, Any]:
    """Train one model and grade it; see `symbolic.measure_many`."""
    return symbolic.measure(cell, record, lesson_of)


def measure_many(cells: Sequence[Cell], records: Sequence[Record]) -> list[dict[str, Any]]:
    """The same for a fleet."""
    return symbolic.measure_many(cells, records, lesson_of)


def summarise(frame: "pd.DataFrame") -> dict[str, Any]:
    """Generalists by number of rules, specialists by share of diversifying rules, and the best share located.

    Intervals resample seeds and, within a seed, polynomials with all their rules (`labkit.grade.intervals`).
    """
    generalists = [
        {
            "n_diverse": n,
            "blind_equal": float(group["blind_unseen_equal"].mean()),
            **symbolic.estimates(group, ("seen", "unseen", "unseen_string", "unseen_equal")),
        }
        for n, group in frame[frame["n_special"] == 0].groupby("n_diverse")
    ]
    mixes, per_mix = [], []
    for share, group in _mixed(frame).groupby("share"):
        row = {"share": share, **{name: int(group[name].iloc[0]) for name in ("n_diverse", "n_special")}}
        row["blind_equal"] = float(group["blind_deeper_equal"].mean())
        mixes.append(row | symbolic.estimates(group, ("seen", "special", "deeper", "deeper_string", "deeper_equal")))
        per_mix.append(symbolic.counts(group, "deeper"))
    return {"generalists": generalists, "mixes": mixes, "peak": peak([row["share"] for row in mixes], per_mix)}


def _mixed(frame: "pd.DataFrame") -> "pd.DataFrame":
    """The specialists' rows, with their share of diversifying rules: all models of as many rules as the mixes."""
    total = frame["n_diverse"] + frame["n_special"]
    return frame.assign(share=frame["n_diverse"] / total)[total == total[frame["n_special"] > 0].max()]


def peak(shares: Sequence[float], per_mix: Sequence[Sequence[grade.Counts]], draws: int = 2000) -> dict[str, Any]:
    """Where accuracy is highest along the shares (ascending), with 95 % percentile intervals.

    The place is the vertex of the parabola through the best mix and its two neighbours, or the best mix itself at an
    end; the interval refits it to `grade.replicates` of every mix (seeds and rules resampled, mixes independent, which
    for models that share their test rules errs on the wide side). `located` says that the interval holds neither end.
    """
    if len(shares) < 3:
        return {"located": False, "note": "fewer than 3 mixes: no peak to locate"}
    rng = np.random.default_rng(0)
    means = np.array([grade.intervals.accuracies(models).mean() for models in per_mix])
    resampled = np.column_stack([grade.replicates(models, draws=draws, seed=rng) for models in per_mix])
    x, best = np.array(shares), int(means.argmax())
    low, high = percentiles(np.array([_vertex(x, curve) for curve in resampled]))
    located = shares[0] < low and high < shares[-1]
    note = "" if located else f"the best share may be an end: it lies between {low:.2f} and {high:.2f}"
    place = {"share": _vertex(x, means), "ci95": [low, high], "best": shares[best]}
    return {"located": located, "note": note, **place}


def _vertex(x: NDArray[np.float64], curve: NDArray[np.float64]) -> float:
    best = int(curve.argmax())
    if best in (0, len(x) - 1):
        return float(x[best])
    near = slice(best - 1, best + 2)
    bend, slope, _ = np.polyfit(x[near], curve[near], 2)
    return float(-slope / (2 * bend)) if bend < 0 else float(x[best])


def chart(frame: "pd.DataFrame", summary: dict[str, Any], published: list[dict[str, Any]]) -> "alt.TopLevelMixin":
    """The generalists: seen and unseen accuracy against the number of rules, every seed visible."""
    exams = {
        "unseen": "unseen rules, followed",
        "unseen_string": "unseen rules, as text",
        "seen": "training rules",
    }
    rows = frame[frame["n_special"] == 0]
    axis = {"x": "n_diverse", "x_label": "Number of training rules (log scale)", "published": published}
    return _chart(rows, summary["generalists"], exams, **axis, title=finding(summary).split("; ")[0])


def mix_chart(frame: "pd.DataFrame", summary: dict[str, Any], published: list[dict[str, Any]]) -> "alt.TopLevelMixin":
    """The specialists: accuracy on unseen specialised rules against the share of diversifying training rules."""
    exams = {"deeper": "unseen special rules, deeper", "special": "unseen special rules", "seen": "training rules"}
    axis = {"x": "share", "x_label": "Share of diversifying rules, of a fixed number of rules", "log_x": False}
    return _chart(_mixed(frame), summary["mixes"], exams, **axis, title=finding(summary).split("; ")[1].capitalize())


def _chart(rows: "pd.DataFrame", curve: list[dict[str, Any]], exams: dict[str, str], **how: Any) -> "alt.LayerChart":
    from labkit import show

    series = [show.Series(label, f"accuracy_{name}", name, f"{name}_ci95") for name, label in exams.items()]
    return show.growth_chart(rows, curve, series=series, y_label="Accuracy (share of test examples)", **how)


def finding(summary: dict[str, Any]) -> str:
    """What was found about generalists, then about specialists, with intervals."""
    few, many, found = summary["generalists"][0], summary["generalists"][-1], summary["peak"]
    lazy = sum(row["not_learned"] for row in summary["generalists"] + summary["mixes"] if row.get("n_special", 1))
    told = (
        f"Accuracy on unseen rules goes from {interval(few['unseen'], few['unseen_ci95'])} at {few['n_diverse']:,} "
        f"training rules to {interval(many['unseen'], many['unseen_ci95'])} at {many['n_diverse']:,}"
    )
    if found["located"]:
        low, high = found["ci95"]
        told += (
            f"; specialists meet deeper unseen rules best at a share of {found['share']:.2f} diversifying rules "
            f"(95 % interval {low:.2f} to {high:.2f})"
        )
    else:
        told += f"; no best mix located: {found['note']}"
    return told + f" (models that have not learned their training rules: {lazy})" * bool(lazy)


def compare(summary: dict[str, Any], published: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The two published findings beside ours: a rise that the intervals confirm, and a peak that excludes both ends."""
    few, many, found = summary["generalists"][0], summary["generalists"][-1], summary["peak"]
    falls, rises = (many["unseen_ci95"][1] < few["unseen_ci95"][0]), (few["unseen_ci95"][1] < many["unseen_ci95"][0])
    grows = None if few is many else True if rises else False if falls else None
    some = any(row["deeper"] >= SOME for row in summary["mixes"])
    ends = some and any(found.get("ci95") == [at, at] for at in (0.0, 1.0))
    peaks = True if found["located"] else False if ends else None
    curve = "; ".join(f"{r['n_diverse']:,}: {interval(r['unseen'], r['unseen_ci95'])}" for r in summary["generalists"])
    mixes = "; ".join(
        f"{r['n_diverse']}:{r['n_special']}: {interval(r['deeper'], r['deeper_ci95'])}" for r in summary["mixes"]
    )
    rows = []
    for record in published:
        ours, agrees = (mixes, peaks) if "mixes" in record else (curve, grows)
        rows.append(
            {
                "published": record["statement"],
                "ours": ours,
                "agrees": {True: "yes", False: "no", None: "not decided"}[agrees],
                "source": f"{record['source']}, {record['figure']}",
            }
        )
    return rows


def _table(rows: list[dict[str, Any]], heads: dict[str, str], exams: dict[str, str]) -> list[dict[str, Any]]:
    return [
        {head: row[name] for name, head in heads.items()}
        | {f"{head} [95 %]": interval(row[name], row[f"{name}_ci95"]) for name, head in exams.items()}
        | {"equal, swapping blindly": f"{row['blind_equal']:.2f}"}
        | {"seeds": row["seeds"], "not learned": row["not_learned"], "interval over": row["interval_over"]}
        for row in rows
    ]


def summary_table(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """A row a generalist: unseen accuracy by rule, as text and to algebra alone, and seen accuracy."""
    exams = {"unseen": "unseen", "unseen_string": "unseen, as text", "unseen_equal": "unseen, equal", "seen": "seen"}
    return _table(summary["generalists"], {"n_diverse": "rules"}, exams)


def mix_table(summary: dict[str, Any]) -> list[dict[str, Any]]:
    """A row a mix: accuracy on unseen specialised rules, deeper (three ways) and as deep, and seen."""
    exams = {"deeper": "deeper", "deeper_string": "deeper, as text", "deeper_equal": "deeper, equal"}
    exams |= {"special": "special", "seen": "seen"}
    return _table(summary["mixes"], {"n_diverse": "diversifying rules", "n_special": "special rules"}, exams)


def describe(row: dict[str, Any]) -> str:
    """A row in a few words."""
    return (
        f"rules={row['n_diverse']}+{row['n_special']} seed={row['seed']}: unseen {row['accuracy_unseen']:.3f}, deeper "
        f"{row['accuracy_deeper']:.3f}, seen {row['accuracy_seen']:.3f}, {row['train_seconds']:.0f} s"
    )


def notes(params: Params) -> list[str]:
    """What was decided for the person."""
    uneven = [n for n in dict.fromkeys([*params.n_rules, params.mix_rules]) if params.budget % n]
    rounded = [share for share in params.diverse_shares if (share * params.mix_rules) % 1]
    return (
        symbolic.drawn_note(params, params.budget)
        + [
            f"budget = {params.budget} is no multiple of {n} rules: {params.budget % n} get one more example"
            for n in uneven
        ]
        + [f"a share of {s} of {params.mix_rules} rules is {mix(s, params.mix_rules)[0]} rules" for s in rounded]
    )


STUDY = Study(
    name="abstraction",
    question="Are equational rules followed that were never seen, and what mix of rules makes the better specialist?",
    paper="Zhang, Wang and Charton 2024: arXiv 2410.04717 (section 3, Fig. 5)",
    minutes={
        "smoke": "under 1 minute",
        "laptop": "6 to 8 minutes on two cores (estimated)",
        "paper": "one to two hours of a GPU (estimated, not run)",
    },
    scales=SCALES,
    Params=Params,
    points=points,
    measure=measure,
    summarise=summarise,
    chart=chart,
    finding=finding,
    compare=compare,
    summary_table=summary_table,
    describe=describe,
    notes=notes,
    measure_many=measure_many,
    figures={"Specialists: accuracy on unseen rules with squares by the mix of training rules.": mix_chart},
    tables={"Specialists": mix_table},
)
