"""Equational rules: the algebra and its judge, the classes of rules, the inputs; then the study on top of them."""

import itertools
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import sympy
import torch
from fabricated import accuracies
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit import BadRequest, learn
from labkit.grade import Counts
from labkit.grade.peak import peak
from labkit.instructions.equations import (
    OPERATORS,
    TEXTBOOK,
    Equation,
    InputTask,
    RuleClass,
    depth,
    draw_equations,
    equivalent,
    fold,
    generator,
    infix,
    ordered,
    swapped,
)
from labkit.lab import Record, Store, sweep
from labkit.studies.abstraction import STUDY
from labkit.studies.rows import long_rows
from labkit.studies.views import Fit

TASK = InputTask(pattern_length=7, input_length=15, expression_depth=5, grounding_share=0.3, leaves="abcdefgh23")
RULES = draw_equations(RuleClass(0, depths=(2, 3, 4)), 60)


def trees(leaves: str, size: int = 4) -> st.SearchStrategy[str]:
    grow = lambda below: st.one_of(  # noqa: E731
        below.map("^".__add__), st.tuples(st.sampled_from("+-*"), below, below).map("".join)
    )
    return st.recursive(st.sampled_from(leaves), grow, max_leaves=size)


def polynomial(expression: str) -> sympy.Poly:
    """Another library's reading of an expression."""
    apply = {"+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b, "^": lambda a: a**2}
    leaf = lambda s: sympy.Integer(s) if s.isdigit() else sympy.Symbol(s)  # noqa: E731
    return sympy.expand(fold(expression, leaf, lambda op, below: apply[op](*below)))


@settings(deadline=None)
@given(trees("abc2"), trees("abc2"))
def test_equivalence_is_sympys(left: str, right: str) -> None:
    assert equivalent(left, right) == (polynomial(left) == polynomial(right))


@settings(deadline=None)
@given(trees("abc"))
def test_infix_means_the_same(expression: str) -> None:
    text = infix(expression).replace("²", "**2").replace("·", "*")
    assert sympy.expand(sympy.sympify(text)) == polynomial(expression)


@pytest.mark.parametrize("text", ["", "+", "+a", "ab", "+abc", "a+b", "^", "+a?", "(a)"])
def test_what_is_no_expression(text: str) -> None:
    with pytest.raises(BadRequest, match="is not one expression in prefix notation"):
        depth(text)


def test_depth_counts_levels() -> None:
    assert [depth(text) for text in ("a", "+ab", "^^a", "-^a^b", "*+ab-ab", "+a*b-cd")] == [1, 2, 3, 3, 3, 4]


KNOWN = [  # from algebra's textbooks
    Equation("*A+BC", "+*AB*AC"),
    Equation("*^A^B", "^*AB"),
    Equation("^-AB", "-+^A^B+*AB*AB"),
    Equation("+A+BC", "++ABC"),
]


@pytest.mark.parametrize("rule", [*TEXTBOOK.values(), *KNOWN, *RULES], ids=str)
def test_rules_are_true(rule: Equation) -> None:
    assert polynomial(rule.lhs) == polynomial(rule.rhs)
    assert rule.lhs != rule.rhs


@pytest.mark.parametrize(
    ("left", "right", "complaint"),
    [
        ("+AB", "-AB", r"no identity: A \+ B and A - B differ"),
        ("+AB", "+AB", "rewrites nothing"),
        ("A", "-+ABB", "rewrites nothing"),
        ("*AB", "-*AB-CC", "rewrites nothing"),
        ("+A", "A", "not one expression"),
    ],
)
def test_what_is_no_rule(left: str, right: str, complaint: str) -> None:
    with pytest.raises(BadRequest, match=complaint):
        Equation(left, right)


def test_rewriting_by_hand() -> None:
    squares = TEXTBOOK["difference of squares"]
    assert squares.apply("+c-^a^d") == "+c*+ad-ad"
    assert squares.apply("-^+ab^2") == "*++ab2-+ab2"  # a metavariable stands for a sub-expression
    assert squares.apply("-^a+bc") == "-^a+bc"
    assert squares.apply("+-^a^b-^c^d") == "+*+ab-ab-^c^d"  # leftmost
    assert Equation("*AA", "^A").matches("*+ab+ab")[0].grounding == {"A": "+ab"}
    assert Equation("*AA", "^A").matches("*+ab+ba") == []


@pytest.mark.parametrize(
    ("answer", "follows", "equals"),
    [
        ("+c*+ad-ad", True, True),  # the target
        ("+c*-ad+ad", True, True),  # the same, operands in another order
        ("+c*+da-ad", True, True),
        ("+c-*aa*dd", False, True),  # equal, but not by this rule
        ("+c-^a^d", False, False),  # not rewritten
        ("+*+ad-adc", False, False),  # the context moved
        ("+b*+ad-ad", False, False),  # another context
        ("+c*+ad+ad", False, False),  # not equal
        ("+c*+ad-a", False, False),  # malformed
        ("+c*+ad-add", False, False),
        ("+c", False, False),
        ("", False, False),
        ("+c+*+ad-ad-AA", False, False),  # equal, but no expression of the inputs
    ],
)
def test_the_judges(answer: str, follows: bool, equals: bool) -> None:
    rule = TEXTBOOK["difference of squares"]
    assert rule.follows("+c-^a^d", answer) is follows
    assert rule.equals("+c-^a^d", answer) is equals


def test_swapping_without_a_rule_is_equal_but_follows_nothing() -> None:
    """Why algebra alone is no judge: an answer that never looked at the rule passes it more often than not."""
    rng = generator(0)
    drawn = [
        (rule, TASK.draw(rule, rng)[0]) for rule in draw_equations(RuleClass(0, depths=(3, 4), special=False), 200)
    ]
    assert np.mean([rule.equals(text, swapped(text)) for rule, text in drawn]) > 0.3
    assert not any(rule.follows(text, swapped(text)) for rule, text in drawn)


@given(trees("abc"))
def test_order_is_all_that_ordering_forgets(expression: str) -> None:
    assert ordered(swapped(expression)) == ordered(expression)
    assert equivalent(ordered(expression), expression)
    assert ordered("-" + "a" + expression) != ordered("-" + expression + "a") or expression == "a"


@settings(deadline=None)
@given(st.sampled_from(RULES), st.integers(0, 2**32 - 1))
def test_an_input_holds_its_rule_once(rule: Equation, seed: int) -> None:
    text, answer = TASK.draw(rule, generator(seed))
    (match,) = rule.matches(text)
    assert rule.apply(text) == answer != text
    assert polynomial(text) == polynomial(answer)
    assert max(len(text), len(answer)) <= TASK.input_length
    assert rule.follows(text, answer)
    assert rule.equals(text, answer)
    assert not rule.equals(text, text)
    assert set(text) <= {*TASK.leaves, *OPERATORS}
    assert answer == text[: match.start] + answer[match.start : len(answer) - len(text) + match.end] + text[match.end :]


def renamings(expression: str) -> set[str]:
    return {expression.translate(str.maketrans("ABCD", "".join(new))) for new in itertools.permutations("ABCD")}


def test_train_and_test_rules_share_no_polynomial() -> None:
    train, test = (draw_equations(RuleClass(1, split, 7, (3, 4)), 150) for split in ("train", "test"))
    held = {str(polynomial(name)) for rule in train for name in renamings(rule.lhs)}
    assert not held & {str(polynomial(rule.lhs)) for rule in test}


def test_rules_are_distinct_nested_and_of_their_class() -> None:
    for special in (True, False, None):
        rules = RuleClass(3, "test", 7, (3, 4), special)
        drawn = draw_equations(rules, rules.capacity)
        assert len({(rule.lhs, rule.rhs) for rule in drawn}) == rules.capacity
        assert drawn[:50] == draw_equations(rules, 50)
        assert {depth(rule.lhs) for rule in drawn} == {3, 4}
        if special is not None:
            assert all(("^" in str(rule)) == special for rule in drawn)
    with pytest.raises(BadRequest, match=f"holds 0 to {rules.capacity} rules"):
        draw_equations(rules, rules.capacity + 1)


def test_a_class_is_enumerated_without_gaps() -> None:
    """All identities with sides of 3 symbols, found by trying every pair of expressions."""
    every = ["A", "^A", "^^A", *(op + a + b for op in "+-*" for a in "AB" for b in "AB"), "B", "^B", "^^B"]
    pairs = {
        (lhs, rhs)
        for lhs, rhs in itertools.product(every, every)
        if ordered(lhs) != ordered(rhs)
        and len(lhs) > 1
        and polynomial(lhs) == polynomial(rhs)
        and not polynomial(lhs).is_number
    }
    first = {(lhs, rhs) for lhs, rhs in pairs if "B" not in lhs or ("A" in lhs and lhs.index("A") < lhs.index("B"))}
    classes = [RuleClass(0, split, 3, (2, 3)) for split in ("train", "test")]
    drawn = {(rule.lhs, rule.rhs) for rules in classes for rule in draw_equations(rules, rules.capacity)}
    assert drawn == first == {("*AA", "^A"), ("^A", "*AA")}


# The study.


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    params = STUDY.resolve({"scale": "smoke", "steps": 5})
    store = Store(tmp_path_factory.mktemp("store"))
    return sweep(STUDY.points(params), STUDY.measure, store=store, jobs=0)


def test_points_are_generalists_and_mixes_of_one_size() -> None:
    cells = STUDY.points(STUDY.resolve({"n_rules": [10, 160], "seeds": [0, 1]}))
    assert {(c.n_diverse, c.n_special) for c in cells} >= {(10, 0), (160, 0), (0, 160), (80, 80)}
    assert len(cells) == len({(c.seed, c.n_diverse, c.n_special) for c in cells}) == 2 * 5  # 160:0 is one model
    assert {c.n_diverse + c.n_special for c in cells} == {10, 160}


def test_a_lesson_meets_its_budget_and_its_exams_are_apart() -> None:
    few, many = STUDY.points(STUDY.resolve({"scale": "smoke", "n_rules": [30], "diverse_shares": [0.5]}))
    lessons = few.lesson(), many.lesson()
    for lesson in lessons:
        assert len(lesson.data.tokens) == few.budget
        trained = {lesson.data.decode(i).rsplit("|", 1)[0] for i in range(few.budget)}
        for name in ("unseen", "special", "deeper"):
            data = lesson.exams[name].data
            assert not trained & {data.decode(i).rsplit("|", 1)[0] for i in range(few.n_test)}
    for name in ("unseen", "special", "deeper"):
        assert np.array_equal(*(lesson.exams[name].data.tokens for lesson in lessons))


def test_a_right_answer_in_another_form_counts_for_algebra_alone(measured: list[dict], tmp_path: Path) -> None:
    """The exam decodes greedily: a stub that always writes the same answer is judged on just that."""
    cell = STUDY.points(STUDY.resolve({"scale": "smoke"}))[0]
    exam, layout = cell.lesson().exams["unseen"], cell.layout()
    target = torch.from_numpy(exam.data.tokens[0].astype(np.int64))
    start, seen = exam.data.prompt_length, []

    class Stub(torch.nn.Module):
        def forward(self, tokens: torch.Tensor, answer: int, where: None = None) -> torch.Tensor:
            ahead = torch.arange(tokens.shape[2] - answer, tokens.shape[2]) + 1
            return torch.nn.functional.one_hot(target[ahead], len(layout.vocabulary)).expand(1, tokens.shape[1], -1, -1)

        def past(self, *sizes: object) -> SimpleNamespace:
            return SimpleNamespace(read=0)

        def read(self, tokens: torch.Tensor, past: SimpleNamespace) -> torch.Tensor:
            past.read += tokens.shape[1]
            return torch.nn.functional.one_hot(target[past.read], len(layout.vocabulary)).expand(len(tokens), -1)

    judge = lambda answers: {"": np.array([seen.append(a) or False for a in answers])}  # noqa: E731
    learner = cell.learner(Record(tmp_path)).holding(Stub())
    assert exam.verdicts(learner)["string"][0]
    exam._replace(judge=judge).verdicts(learner)
    assert seen[1:] == [layout.text(target[start:].tolist())] * (cell.n_test - 1)
    assert exam.verdicts(learner)[""][0]
    for place, row in enumerate(measured):
        accuracy = accuracies(measured, place)
        for name in ("seen", "unseen", "special", "deeper"):
            assert accuracy[f"{name}/string"] <= accuracy[name] <= accuracy[f"{name}/equal"]
            assert row[f"blind_{name}"] == 0


def test_the_summary_charts_and_tables(measured: list[dict]) -> None:
    results = STUDY.summarise(long_rows(measured))
    assert [line["n_diverse"] for line in results["generalists"].lines("unseen")] == [4, 20, 40]
    assert [line["share"] for line in results["specialists"].lines("deeper")] == [0, 0.5, 1]
    json.dumps(results.as_dict())
    for view in results.views():
        assert results.chart(view).to_dict()
    assert len(results.table()) == 3
    assert [row["verdict"] for row in results.claims] == ["cannot tell", "cannot tell"]  # five steps teach nothing


def test_a_best_mix_that_is_located_can_be_drawn(measured: list[dict]) -> None:
    results = STUDY.summarise(long_rows(measured))
    found = results["specialists"]
    spot = Fit("best at .5", {"located": True, "share": 0.5, "ci95": [0.3, 0.7], "note": ""})
    assert results.study.views["specialists"].chart(found._replace(fit=spot)).to_dict()


def test_the_peak_of_made_up_mixes() -> None:
    rng = np.random.default_rng(0)
    shares = [0.0, 0.2, 0.5, 0.8, 1.0]

    def models(accuracies: list[float]) -> list[list[Counts]]:
        return [[Counts(rng.binomial(10, a, 100), 10) for _ in range(3)] for a in accuracies]

    found = peak(shares, models([0.80 - 2 * (s - 0.55) ** 2 for s in shares]))
    assert found.located
    assert found.ci95[0] < 0.55 < found.ci95[1]
    for lone in ([0.1, 0.2, 0.3, 0.5, 0.9], [0.9, 0.5, 0.3, 0.2, 0.1], [0.4] * 5):
        assert not peak(shares, models(lone)).located
    assert not peak([0.0, 1.0], models([0.1, 0.9])).located


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"n_rules": [10**6], "budget": 10**7}, r"n_rules or mix_rules asks for 1000000 .* ask for \d+ at most"),
        ({"test_depths": [3]}, "are not all deeper than special_depths"),
        ({"test_depths": [9]}, "rules with a square of depth 9, .* depth 5 at most"),
        ({"depths": [5]}, "rules without squares of depth 5, .* depth 4 at most"),
        ({"test_rules": 5000, "n_test": 5000}, r"test_rules asks for 5000 .* ask for \d+ at most"),
        ({"n_rules": [0]}, "n_rules = 0: at least 1"),
        ({"n_rules": [50_000]}, "more than budget = 38400"),
        ({"diverse_shares": [0.5, 1.5]}, "diverse_shares = 1.5"),
        ({"diverse_shares": [1.0]}, "leaves no specialised rules"),
        ({"diverse_shares": [0.5, 0.501]}, "two come to one number"),
        ({"pattern_length": 12, "input_length": 30}, "a side may have 3 to 8 symbols"),
        ({"input_length": 6}, "use 7 at least"),
        ({"grounding_share": 0.5}, "use 15 at least"),
        ({"leaves": "abA"}, "4 different"),
        ({"leaves": "aabcd"}, "4 different"),
        ({"n_test": 10}, "n_test = 10"),
    ],
)
def test_a_bad_request_is_one_sentence(given: dict, complaint: str) -> None:
    with pytest.raises(BadRequest, match=complaint) as refusal:
        STUDY.resolve(given)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("scale", ["smoke", "laptop", "paper"])
def test_every_scale_fits_its_layout(scale: str) -> None:
    params = STUDY.resolve({"scale": scale, "budget": 500, "n_rules": [10], "n_test": 100, "seeds": [0]})
    for cell in STUDY.points(params)[:2]:
        assert cell.lesson().data.tokens.shape == (500, cell.layout().length)
    assert isinstance(cell.layout(), learn.Layout)


def test_the_paper_scale_is_the_papers() -> None:
    params = STUDY.resolve({"scale": "paper"})
    assert (params.budget, params.n_rules, params.depths) == (50_000, [10, 20, 40], [3, 4])
    assert params.steps * params.batch_size == pytest.approx(50 * params.budget, rel=1e-2)
    mixes = {(c.n_diverse, c.n_special) for c in STUDY.points(params)}
    assert mixes >= {(1, 49), (5, 45), (10, 40)}
