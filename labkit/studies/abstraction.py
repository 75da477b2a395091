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
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from labkit import grade, learn
from labkit.design import allocate
from labkit.errors import BadRequest
from labkit.grade.peak import peak
from labkit.instructions.equations import (
    METAVARIABLES,
    OPERATORS,
    Equation,
    InputTask,
    RuleClass,
    draw_equations,
    infix,
    swapped,
)
from labkit.instructions.equations import generator as input_generator
from labkit.studies.cell import ModelCell, cells
from labkit.studies.lesson import Exam, Lesson
from labkit.studies.params import MODEL_GROUP, ModelParams, about, check_asked, check_counts, drawn_note
from labkit.studies.study import Results, Study
from labkit.studies.views import Curve, Fit, ranged

if TYPE_CHECKING:
    import pandas as pd

EXAMS = ("unseen", "special", "deeper")  # beside "seen"; see `Cell.lesson`


class Params(ModelParams):
    """What a person may set; see `catalogue.yaml` for the values each scale gives."""

    groups: ClassVar = {
        "rules": ("depths", "special_depths", "test_depths", "pattern_length", "test_rules"),
        "inputs": ("input_length", "expression_depth", "grounding_share", "leaves", "budget", "n_test"),
        "model": MODEL_GROUP,
    }
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
        check_asked(self.n_test, test_rules=self.test_rules)
        mixes = [mix(share, self.mix_rules) for share in self.diverse_shares]
        if len({*mixes}) < len(mixes):
            raise BadRequest(
                f"diverse_shares = {self.diverse_shares}: of {self.mix_rules} rules two come to one number"
            )
        check_counts("n_rules", [*self.n_rules, self.mix_rules], self.budget)
        wanted = {"train": max(*self.n_rules, *(d for d, _ in mixes)), **dict.fromkeys(EXAMS, self.test_rules)}
        for seed in self.seeds:
            for name, n in wanted.items():
                check_rules(rule_class(self, seed, name), n, "test_rules" if name in EXAMS else "n_rules or mix_rules")
            check_rules(rule_class(self, seed, "special", "train"), max(s for _, s in mixes), "mix_rules")
        return self


class Cell(ModelCell):
    """One model: everything its result depends on."""

    study: Literal["abstraction"] = "abstraction"
    version: Literal[3] = 3
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

    def lesson(self) -> Lesson:
        """The budget spread evenly over the rules, and the exams.

        Rules of one polynomial are one cluster of an interval.

        `seen`: fresh inputs of the training rules; `unseen`: unseen diversifying rules; `special`, `deeper`: unseen
        rules with a square, of the specialised training rules' depths and of greater ones.
        """
        task, layout = input_task(self), self.layout()
        rules = draw_equations(rule_class(self, self.seed, "train"), self.n_diverse)
        rules += draw_equations(rule_class(self, self.seed, "special", "train"), self.n_special)

        blind: dict[str, float] = {}

        def draw(rules: list[Equation], index: NDArray[np.int64], stream: int, name: str = "") -> Exam:
            rng = input_generator(self.seed, 2, stream)
            drawn = [(rules[i], *task.draw(rules[i], rng)) for i in index.tolist()]
            data = layout.encode(
                [(rule.lhs, rule.rhs, text) for rule, text, _ in drawn], [right for *_, right in drawn]
            )

            def judge(answers: list[str]) -> dict[str, NDArray[np.bool_]]:
                verdicts = {"": Equation.follows, "equal": Equation.equals}
                rows = [(rule, text, found) for (rule, text, _), found in zip(drawn, answers, strict=True)]
                return {verdict: np.array([right(*row) for row in rows]) for verdict, right in verdicts.items()}

            if not name:
                return Exam(data, index, len(rules))
            swaps = judge([swapped(text) for _, text, _ in drawn])
            blind.update(
                {f"blind_{name}": float(swaps[""].mean()), f"blind_{name}_equal": float(swaps["equal"].mean())}
            )
            cluster = np.unique([rule.polynomial() % 2**62 for rule in rules], return_inverse=True)[1]
            return Exam(data, cluster[index], int(cluster.max()) + 1, {}, judge)

        training = draw(rules, np.repeat(np.arange(len(rules)), allocate(self.budget, len(rules))), 0)
        asked = {"seen": rules}
        asked |= {name: draw_equations(rule_class(self, self.seed, name), self.test_rules) for name in EXAMS}
        exams: dict[str, Exam] = {
            name: draw(own, np.arange(self.n_test) % len(own), stream, name)
            for stream, (name, own) in enumerate(asked.items(), 1)
        }
        return Lesson(training.data, exams, blind)


def mix(share: float, total: int) -> tuple[int, int]:
    """The numbers of diversifying and of specialised rules."""
    return round(share * total), total - round(share * total)


def input_task(settings: "Params | Cell") -> InputTask:
    """The settings of the inputs."""
    return InputTask(
        settings.pattern_length,
        settings.input_length,
        settings.expression_depth,
        settings.grounding_share,
        settings.leaves,
    )


def rule_class(settings: "Params | Cell", seed: int, name: str, split: Literal["train", "test"] = "test") -> RuleClass:
    """The rules of "train", and of the exams "unseen" (of that kind), "special" (with a square) and "deeper" (both)."""
    depths = {"special": settings.special_depths, "deeper": settings.test_depths}.get(name, settings.depths)
    split = "train" if name == "train" else split
    return RuleClass(seed, split, settings.pattern_length, tuple(depths), name in ("special", "deeper"))


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
    return cells(Cell, params, dials)


def toy_rules(params: Params) -> list[dict[str, Any]]:
    """For a notebook: the kinds of rules, how many there are, and two of each."""
    kinds: dict[str, tuple[str, Literal["train", "test"]]] = {
        "diversifying, training": ("train", "train"), "diversifying, unseen": ("unseen", "test"),
        "special, training": ("special", "train"), "special, unseen": ("special", "test"),
        "special and deeper, unseen": ("deeper", "test"),
    }  # fmt: skip
    lines = []
    for words, (name, split) in kinds.items():
        rules = rule_class(params, params.seeds[0], name, split)
        first = "; ".join(f"{infix(rule.lhs)} = {infix(rule.rhs)}" for rule in draw_equations(rules, 2))
        lines.append({"rules": words, "how many": rules.capacity, "such as": first})
    return lines


def toy_questions(params: Params) -> list[tuple[Equation, str, str]]:
    """For a notebook: unseen rules, each with an expression and its answer."""
    task, rng = input_task(params), input_generator(0)
    rules = draw_equations(rule_class(params, params.seeds[0], "unseen"), 5)
    return [(rule, *task.draw(rule, rng)) for rule in rules]


def generalists(rows: "pd.DataFrame") -> "pd.Series[bool]":
    """Models of diversifying rules alone."""
    return rows["n_special"] == 0


def mixes(rows: "pd.DataFrame") -> "pd.Series[bool]":
    """Models of as many rules as the mixes have."""
    total = rows["n_diverse"] + rows["n_special"]
    return total == total[rows["n_special"] > 0].max()


def columns(rows: "pd.DataFrame") -> "pd.DataFrame":
    """The share of diversifying rules."""
    return rows.assign(share=rows["n_diverse"] / (rows["n_diverse"] + rows["n_special"]))


def best_mix(shares: Sequence[float], answers: Sequence[Sequence[grade.Counts]]) -> Fit:
    """At which share of diversifying rules specialists do best (`grade.peak`)."""
    found = peak(shares, answers)
    numbers = {name: value for name, value in found._asdict().items() if value is not None}
    if found.share is None or found.ci95 is None or not found.located:
        return Fit(f"no best mix is located: {found.note}", numbers)
    low, high = found.ci95
    where = f"{found.share:.2f} diversifying rules (95 % interval {low:.2f} to {high:.2f})"
    return Fit(f"specialists meet deeper unseen rules best at a share of {where}", numbers)


VIEWS = {
    "generalists": Curve(
        title="Accuracy on equational rules, by the number of training rules",
        exams={"unseen": "unseen rules, followed", "unseen/string": "unseen, as text", "unseen/equal": "unseen, equal"}
        | {"seen": "training rules"},
        where=generalists,
        x="n_diverse",
        x_label="Number of training rules",
        beside={"blind_unseen_equal": "equal, swapping blindly"},
    ),
    "specialists": Curve(
        title="Unseen rules with a square, by the mix of training rules",
        exams={"deeper": "deeper unseen special rules", "deeper/string": "deeper, as text"}
        | {"deeper/equal": "deeper, equal", "special": "unseen special rules", "seen": "training rules"},
        where=mixes,
        x="share",
        x_label="Share of diversifying rules, of a fixed number of rules",
        log=False,
        fit=best_mix,
        beside={"n_diverse": "diversifying rules", "n_special": "special rules"}
        | {"blind_deeper_equal": "equal, swapping blindly"},
    ),
}


def finding(results: Results) -> str:
    """What was found about generalists, then about specialists, with intervals."""
    lines = results["generalists"].lines("unseen")
    few, many = lines[0], lines[-1]
    return (
        f"Accuracy on unseen rules goes from {ranged(few)} at {few['n_diverse']:,} training rules to {ranged(many)} at "
        f"{many['n_diverse']:,}; {results.fit('specialists').sentence}"
    )


def notes(params: Params) -> list[str]:
    """What was decided for the person."""
    uneven = [n for n in dict.fromkeys([*params.n_rules, params.mix_rules]) if params.budget % n]
    rounded = [share for share in params.diverse_shares if (share * params.mix_rules) % 1]
    return (
        drawn_note(params, params.budget)
        + [
            f"budget = {params.budget} is no multiple of {n} rules: {params.budget % n} get one more example"
            for n in uneven
        ]
        + [f"a share of {s} of {params.mix_rules} rules is {mix(s, params.mix_rules)[0]} rules" for s in rounded]
    )


STUDY = Study(
    **about("abstraction"),
    Params=Params,
    points=points,
    dials={"n_diverse": "diversifying rules", "n_special": "special rules"},
    views=VIEWS,
    finding=finding,
    notes=notes,
    columns=columns,
)
