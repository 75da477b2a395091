"""The layout of sequences: what goes in comes out, and what does not fit is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit import BadRequest, learn
from labkit.instructions import RewritingTask, decode, draw_inputs, draw_rules

LAYOUT = learn.Layout("abc+", widths=(3, 5), answer=4, padded=True)


@given(
    st.lists(
        st.tuples(st.text("abc+", max_size=3), st.text("abc+", max_size=5), st.text("abc+", max_size=4)), min_size=1
    )
)
def test_parts_and_answers_come_back(examples: list[tuple[str, str, str]]) -> None:
    encoded = LAYOUT.encode([example[:2] for example in examples], [example[2] for example in examples])
    assert encoded.tokens.shape == (len(examples), LAYOUT.length)
    assert encoded.tokens.dtype == np.uint8
    for row, (first, second, answer) in enumerate(examples):
        prompt, filled = encoded.decode(row).split("=")
        assert prompt == f"{first:.<3}|{second:.<5}"
        assert filled == f"{answer:.<4}"
        assert LAYOUT.text(encoded.tokens[row, encoded.prompt_length :]) == answer
        assert np.array_equal(LAYOUT.prompt((first, second))[0], encoded.tokens[row, : encoded.prompt_length])


def test_the_fast_path_of_rewriting_is_the_plain_one() -> None:
    task = RewritingTask(3, 8, noop_share=0.3)
    rules = draw_rules(task, 20, seed=0)
    inputs = draw_inputs(task, rules, np.arange(100) % 20, seed=0)
    questions = [
        (rules.rule(int(i)).pattern, rules.rule(int(i)).replacement, decode(z, task.alphabet))
        for i, z in zip(inputs.index, inputs.z, strict=True)
    ]
    plain = learn.rewriting_layout(task).encode(questions, [decode(answer, task.alphabet) for answer in inputs.answer])
    assert np.array_equal(plain.tokens, learn.encode_rewriting(task, rules, inputs).tokens)


@pytest.mark.parametrize(
    ("question", "answer", "complaint"),
    [
        (("abca", "a"), "a", "the part 1 'abca' has 4 symbols; this model was trained on 3"),
        (("a", "axb"), "a", "'x' in the part 2 'axb' is not in the alphabet"),
        (("a", "b"), "aaaaa", "the answer 'aaaaa' has 5"),
        (("a",), "a", "a question of 1 parts; this model was trained on 2"),
        (("a", "."), "a", r"'\.' in the part 2"),
    ],
)
def test_what_does_not_fit_is_refused(question: tuple[str, ...], answer: str, complaint: str) -> None:
    with pytest.raises(BadRequest, match=complaint):
        LAYOUT.encode([question], [answer])


@pytest.mark.parametrize("mark", ["|", "=", "."])
def test_an_alphabet_must_not_hold_a_mark(mark: str) -> None:
    with pytest.raises(BadRequest, match="must not hold"):
        learn.Layout("ab" + mark, (1,), 1, padded=True)
