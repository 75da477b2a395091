"""Which option a free answer names: dress and explanations change nothing, and several options are none."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.grade.naming import named_option
from labkit.instructions.reasoning import outside_reasoning

RIVERS = ["Nile", "Amazon", "Lower Danube", "Rhine"]

SECOND = [
    *("B", "b", "(b)", "B.", "b)", "[B]", "B!", "- B", "> B", "B: Amazon", "B) Amazon", "B - Amazon", "(B) Amazon"),
    *("Amazon", "amazon.", "It is the Amazon", "AMAZON!", "*Amazon*", "The answer is `Amazon`."),
    *("Answer: B", "answer is b.", "Answer - B", "Answer:\nB", "### Answer\n\nB", "My answer: (B)", "answer=B"),
    *(
        "The correct answer would be option B.",
        "The best choice here is B",
        "Choice B",
        "Option B",
        "So, B.",
        "It's B.",
    ),
    *("I choose B", "I'd go with option B.", "I think the answer is B", "B is correct", "B is the right answer."),
    *("B, because option A is wrong", "B because A is no river", "B — C is shorter", "B\n\nOption A is wrong."),
    *("The answer is not A but B", "The answer isn't A, but B.", "It is (B), not (C).", "Neither A nor C; it is (B)"),
    *("Rather than A, I choose B", "Option A is wrong, so the answer is B", "Not the Nile, but the Amazon."),
    *(
        "~~A~~ B",
        "A good question. B",
        "I first said the answer is A. Final answer: B",
        "The Nile? The answer is Amazon",
    ),
    *("A) Nile\nB) Amazon\nC) Lower Danube\n\nAnswer: B", "B\nA) too short\nC) too narrow", '{"answer": "B"}'),
    *("Ｂ", "（Ｂ）", "答案：Ｂ", "答案是B", "选B，因为A错了", "Ⓑ", "Antwort: B", "La respuesta es B"),
    *("<answer>B</answer>", "#### B", "So we get \\boxed{B}", "$\\boxed{\\text{B}}$", "\\(\\boxed{\\mathbf{(B)}}\\)"),
    *(
        "Answer: B<|eot|>",
        "( B )",
        "B\\.",
        "B (A is the usual slip)",
        "The answer is\n\n(B) Amazon\n\nWhy:\n(A) no\n(C) no",
    ),
    *("</think>\\boxed{B}", '<think>They say "A"</think>B'),
    *("<think>The answer is A.</think>B", "The answer is A.</think>\nB", "[THINK]A[/THINK]B"),
]
NONE = [
    *("", "E", "A or B", "Either A or B", "A and B", "A, B", "A/B", "(A) or (B)", "Answer: A or B", "Nile or Rhine"),
    *("The answer is A. The answer is B.", "B. Nile", "\\boxed{A} or \\boxed{B}", "I think so", "I do not know"),
    *("A good answer takes time", "a question", "Answer: a long one", "I like vitamin B", "Niles", "Rhineland"),
    *("The answer is not B", "B is wrong", "<think>B", "<think>B</think>", "None of these", "It has A-level length"),
]


@pytest.mark.parametrize("text", SECOND)
def test_the_second_option_is_named(text: str) -> None:
    assert named_option(text, RIVERS) == 1


@pytest.mark.parametrize("text", NONE)
def test_no_option_or_several_are_none(text: str) -> None:
    assert named_option(text, RIVERS) is None


@pytest.mark.parametrize(
    ("text", "options", "named"),
    [
        ("A", RIVERS, 0),
        ("The Lower Danube", RIVERS, 2),
        ("A Danube barge sails the Rhine", RIVERS, 3),
        ("3.5", ["3", "5", "3.5"], 2),
        ("it is 3.5", ["3", "5"], None),
        ("it is -4", ["4", "5"], None),
        ("x = \u22124", ["4", "\u20134"], 1),
        ("a range of 3\u20134", ["4", "5"], None),
        ("A: no. B: yes. C: no. D: no.", RIVERS, 1),
        ("A \u2717\nB \u2713\nC \u2717\nD \u2717", RIVERS, 1),
        ("A) false, B) false, C) true", RIVERS, 2),
        ("It is neither A, B nor D.", RIVERS, None),
        ("A, B and C are all wrong. So: D", RIVERS, 3),
        ("Not A, and B is right.", RIVERS, 1),
        ("I say B. Wait, it's C.", RIVERS, None),
        ("Wait, actually B.", RIVERS, 1),
        ("\uc815\ub2f5\uc740 B\uc785\ub2c8\ub2e4.", RIVERS, 1),
        ("No, A.", RIVERS, 0),
        ("$x^2$", ["x^2", "x^3"], 0),
        ("x²", ["x2", "x²"], 1),
        ("The tag is <b>.", ["<b>", "<i>"], 0),
        ("Both A and B", ["one", "two", "Both A and B"], 2),
        ("答案是莱茵河", ["尼罗河", "莱茵河"], 1),
        ("not", ["not", "and"], 0),
    ],
)
def test_options_of_every_kind(text: str, options: list[str], named: int | None) -> None:
    assert named_option(text, options) == named


INLINE = ["{}", "**{}**", "*{}*", "__{}__", "`{}`", "({})", "[{}]", '"{}"', "“{}”", "'{}'", "${}$", "<b>{}</b>"]
INLINE += ["\\text{{{}}}", "\\mathbf{{{}}}"]
WHOLE = ["{}", "\\boxed{{{}}}", "# {}", "> {}", "- {}", "{}.", "{}\n", " {} ", "Answer: {}", "The answer is {}."]
AFTER = ["", "\n\nExplanation: option {} is wrong.", ", because option {} is wrong.", "\n\nOption {} is a common slip."]
AFTER += ["\n\n({}) would be too short.", ". As for option {}, it fails.", "\n\nNot {}."]
inline, place = st.sampled_from(INLINE), st.integers(0, 3)


@given(inline, inline, st.sampled_from(WHOLE), st.sampled_from(AFTER), place, place, st.booleans(), st.booleans())
@settings(max_examples=150)
def test_neither_dress_nor_explanation_nor_reasoning_changes_an_answer(
    inner: str, outer: str, whole: str, after: str, chosen: int, other: int, by_text: bool, thinks: bool
) -> None:
    core, wrong = RIVERS[chosen] if by_text else "ABCD"[chosen], "ABCD"[other]
    before = f"<think>The answer is {wrong}.</think>" if thinks else ""
    answer = whole.format(outer.format(inner.format(core))).rstrip(" \n.") + after.format(wrong)
    if other != chosen:
        assert named_option(before + answer, RIVERS) == chosen


@given(st.text(max_size=60), st.sampled_from(RIVERS))
def test_any_text_is_read_and_one_option_at_most_comes_of_it(text: str, river: str) -> None:
    assert named_option(text, RIVERS) in (None, 0, 1, 2, 3)
    assert named_option(f"{river} or {'Rhine' if river != 'Rhine' else 'Nile'}", RIVERS) is None


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("plain", "plain"),
        ("<think>a</think> b", "b"),
        ("<thinking type='x'>a <think>n</think></thinking>b", "b"),
        ("a</think>b", "b"),
        ("b <think>never closed", "b"),
        ("<think>never closed", ""),
        ("<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>b<|return|>", "b"),
        ("<|channel|>analysis<|message|>cut", ""),
        ("◁think▷a◁/think▷b", "b"),
        ("<antThinking>a</antThinking>b", "b"),
        ("<unused94>thought\na<unused95>b", "b"),
        ('<details type="reasoning" done="true">\n<summary>Thought</summary>\n> a\n</details>\nb', "b"),
        ("<details><summary>More</summary>b</details>", "<details><summary>More</summary>b</details>"),
    ],
)
def test_reasoning_is_dropped(text: str, answer: str) -> None:
    assert outside_reasoning(text).strip() == answer
