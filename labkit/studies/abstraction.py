"""Abstraction: are equational rules followed that were never seen, and what mix makes the better specialist?

An instruction is an identity LHS = RHS, applied at one place inside an expression (`labkit.instructions.equations`).
*Generalists* learn n rules and are graded on unseen rules of the same kind. *Specialists* learn a fixed number of rules
from a fixed number of examples, some specialised (rules with a square) and some diversifying (rules without), and are
graded on unseen rules with a square, of the depth they were trained on and of a greater one. A model of diversifying
rules alone is both a generalist and the end of the mixes. Diversifying rules may be as deep as the deeper test rules
(`depths`); how much of their help is depth alone shows where they are not.

An answer is right when it follows the rule up to the order of operands (`Equation.follows`), decoded greedily. The
stricter equality of texts stands beside it, and the looser equality to algebra (`Equation.equals`), which a model could
have without reading the rule: what blindly swapping two operands scores is given with it.
Source: Zhang, Wang and Charton, arXiv 2410.04717, section 3. The paper's rules and trees are not public: rules, depths
and the specialist's field are ours at every scale; at `paper` scale the 50,000 instances, numbers of rules, mixes and
depths are the paper's, the model and optimiser those of its rewriting study, and epochs and batch size ours.
"""

import dataclasses
from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, model_validator

from labkit import grade, learn
from labkit.design import allocate
from labkit.errors import BadRequest
from labkit.grade.peak import peak
from labkit.instructions import equations
from labkit.instructions.equations import Equation, InputTask, RuleClass, draw_equations
from labkit.studies.cell import ModelCell, cells
from labkit.studies.lesson import Exam, Judge, Lesson
from labkit.studies.params import MODEL_GROUP, ModelParams, about, check_asked, check_counts, drawn_note
from labkit.studies.study import Results, Study
from labkit.studies.views import Curve, Fit, ranged

if TYPE_CHECKING:
    import pandas as pd

Share = Annotated[float, Field(ge=0, le=1)]
EXAMS = ("unseen", "special", "deeper")  # beside "seen"; see `Cell.lesson`
VERDICTS = {"": Equation.follows, "equal": Equation.equals}
Drawn = tuple[learn.Encoded, list[str], Judge]


class Dials(BaseModel):
    """What parameters and cells share."""

    depths: list[int] = Field(min_length=1, description="levels of a rule's left side, specialised rules apart")
    special_depths: list[int] = Field(min_length=1, description="the same for specialised training rules")
    test_depths: list[int] = Field(min_length=1, description="the same for the specialists' deeper test rules")
    pattern_length: int = Field(description="symbols of a side, at most")
    input_length: int = Field(le=1000, description="symbols of an input, and of an answer, at most")
    expression_depth: int = Field(ge=1, le=100, description="levels of an input, at most")
    grounding_share: float = Field(ge=0, le=1, description="chance that a metavariable stands for a sub-expression")
    leaves: str = Field(description="variables (lower-case letters) and constants (digits) of the inputs")
    budget: int = Field(ge=1, le=100000000, description="training examples of a model, spread evenly over its rules")
    test_rules: int = Field(ge=2, description="unseen rules to grade on, for each exam")


class Params(Dials, ModelParams):
    """What a person may set; see `catalogue.yaml` for the values each scale gives."""

    groups: ClassVar = {
        "rules": ("depths", "special_depths", "test_depths", "pattern_length", "test_rules"), "model": MODEL_GROUP,
        "inputs": ("input_length", "expression_depth", "grounding_share", "leaves", "budget", "n_test"),
    }  # fmt: skip
    n_rules: list[int] = Field(min_length=1, description="generalists: numbers of training rules, one model each")
    mix_rules: int = Field(ge=2, description="specialists: training rules of each mix, in all")
    diverse_shares: list[Share] = Field(min_length=1, description="shares of diversifying rules in the mixes")

    @model_validator(mode="after")
    def _together(self) -> "Params":
        input_task(self)
        deep, special = self.test_depths, self.special_depths
        if min(deep) <= max(special):
            raise BadRequest(f"test_depths = {deep} are not all deeper than special_depths = {special}")
        shares, total = self.diverse_shares, self.mix_rules
        if set(shares) == {1.0}:
            raise BadRequest("diverse_shares = [1.0] leaves no specialised rules: give a share below 1 beside it")
        check_asked(self.n_test, test_rules=self.test_rules)
        mixes = [mix(share, total) for share in shares]
        if len({*mixes}) < len(mixes):
            raise BadRequest(f"diverse_shares = {shares}: of {total} rules two come to one number")
        check_counts("n_rules", [*self.n_rules, self.mix_rules], self.budget)
        wanted = {"train": max(*self.n_rules, *(d for d, _ in mixes)), **dict.fromkeys(EXAMS, self.test_rules)}
        for seed in self.seeds:
            for name, n in wanted.items():
                rule_class(self, seed, name).check(n, "test_rules" if name in EXAMS else "n_rules or mix_rules")
            rule_class(self, seed, "special", "train").check(max(n for _, n in mixes), "mix_rules")
        return self


class Cell(Dials, ModelCell):
    """One model: everything its result depends on."""

    study: Literal["abstraction"] = "abstraction"
    version: Literal[3] = 3
    n_diverse: int
    n_special: int

    def layout(self) -> learn.Layout:
        alphabet = self.leaves + "".join(equations.OPERATORS) + equations.METAVARIABLES
        widths = self.pattern_length, self.pattern_length, self.input_length
        names = "left side", "right side", "input"
        return learn.Layout(alphabet, widths, self.input_length, padded=True, names=names)

    def lesson(self) -> Lesson:
        """The budget spread evenly over the rules, and the exams.

        Rules of one polynomial are one cluster of an interval.

        `seen`: fresh inputs of the training rules; `unseen`: unseen diversifying rules; `special`, `deeper`: unseen
        rules with a square, of the specialised training rules' depths and of greater ones.
        """
        rules = draw_equations(rule_class(self, self.seed, "train"), self.n_diverse)
        rules += draw_equations(rule_class(self, self.seed, "special", "train"), self.n_special)
        data, *_ = self._drawn(rules, np.repeat(np.arange(len(rules)), allocate(self.budget, len(rules))), 0)
        asked = {"seen": rules}
        asked |= {name: draw_equations(rule_class(self, self.seed, name), self.test_rules) for name in EXAMS}
        exams, blind = dict[str, Exam](), dict[str, float]()
        for stream, (name, own) in enumerate(asked.items(), 1):
            index = np.arange(self.n_test) % len(own)
            questions, texts, judge = self._drawn(own, index, stream)
            cluster = np.unique([rule.polynomial() % 2**62 for rule in own], return_inverse=True)[1]
            exams[name] = Exam(questions, cluster[index], int(cluster.max()) + 1, {}, judge)
            swaps = judge([equations.swapped(text) for text in texts])
            blind |= {f"blind_{name}": float(swaps[""].mean()), f"blind_{name}_equal": float(swaps["equal"].mean())}
        return Lesson(data, exams, blind)

    def _drawn(self, rules: list[Equation], index: NDArray[np.int64], stream: int) -> Drawn:
        """One input for each rule number in `index`: as tokens, as texts, and the judge of answers to them."""
        rng, task = equations.generator(self.seed, 2, stream), input_task(self)
        drawn = [(rules[i], *task.draw(rules[i], rng)) for i in index.tolist()]
        questions = [(rule.lhs, rule.rhs, text) for rule, text, _ in drawn]

        def judge(answers: list[str]) -> dict[str, NDArray[np.bool_]]:
            rows = [(rule, text, answer) for (rule, text, _), answer in zip(drawn, answers, strict=True)]
            return {name: np.array([right(*row) for row in rows]) for name, right in VERDICTS.items()}

        data = self.layout().encode(questions, [right for *_, right in drawn])
        return data, [text for _, text, _ in drawn], judge


def mix(share: float, total: int) -> tuple[int, int]:
    """The numbers of diversifying and of specialised rules."""
    return round(share * total), total - round(share * total)


def input_task(settings: Dials) -> InputTask:
    """The settings of the inputs."""
    return InputTask(**{field.name: getattr(settings, field.name) for field in dataclasses.fields(InputTask)})


def rule_class(settings: Dials, seed: int, name: str, split: Literal["train", "test"] = "test") -> RuleClass:
    """The rules of "train", and of the exams "unseen" (of that kind), "special" (with a square) and "deeper" (both)."""
    depths = {"special": settings.special_depths, "deeper": settings.test_depths}.get(name, settings.depths)
    split = "train" if name == "train" else split
    return RuleClass(seed, split, settings.pattern_length, tuple(depths), name in ("special", "deeper"))


def points(params: Params) -> list[Cell]:
    """A cell for each generalist and each mix; seeds outermost, so that first whole curves come early."""
    mixes = [mix(share, params.mix_rules) for share in params.diverse_shares]
    counts = [(n, 0) for n in sorted(params.n_rules, reverse=True)]
    sets = product(params.seeds, dict.fromkeys(counts + mixes))
    return cells(Cell, params, [{"seed": seed, "n_diverse": d, "n_special": s} for seed, (d, s) in sets])


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
    low, high = found.ci95 or (0.0, 1.0)
    where = f"{found.share or 0:.2f} diversifying rules (95 % interval {low:.2f} to {high:.2f})"
    words = f"specialists meet deeper unseen rules best at a share of {where}"
    return Fit(words if found.located else f"no best mix is located: {found.note}", numbers)


VIEWS = {
    "generalists": Curve(
        title="Accuracy on equational rules, by the number of training rules", where=generalists,
        exams={"unseen": "unseen rules, followed", "unseen/string": "unseen, as text", "unseen/equal": "unseen, equal",
               "seen": "training rules"},
        x="n_diverse", x_label="Number of training rules", beside={"blind_unseen_equal": "equal, swapping blindly"},
    ),
    "specialists": Curve(
        title="Unseen rules with a square, by the mix of training rules", where=mixes, fit=best_mix,
        exams={"deeper": "deeper unseen special rules", "deeper/string": "deeper, as text",
               "deeper/equal": "deeper, equal", "special": "unseen special rules", "seen": "training rules"},
        x="share", x_label="Share of diversifying rules, of a fixed number of rules", log=False,
        beside={"n_diverse": "diversifying rules", "n_special": "special rules",
                "blind_deeper_equal": "equal, swapping blindly"},
    ),
}  # fmt: skip


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
    budget, total = params.budget, params.mix_rules
    uneven = [n for n in dict.fromkeys([*params.n_rules, total]) if budget % n]
    rounded = [share for share in params.diverse_shares if (share * total) % 1]
    said = [f"budget = {budget} is no multiple of {n} rules: {budget % n} get one more example" for n in uneven]
    said += [f"a share of {share} of {total} rules is {mix(share, total)[0]} rules" for share in rounded]
    return drawn_note(params, budget) + said


STUDY = Study(
    **about("abstraction"), Params=Params, points=points,
    dials={"n_diverse": "diversifying rules", "n_special": "special rules"}, views=VIEWS, finding=finding,
    notes=notes, columns=columns,
)  # fmt: skip
