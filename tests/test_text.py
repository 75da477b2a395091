"""Texts of any length as token sequences: spelled exactly, graded to the end mark, learned without the filling."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from labkit import BadRequest, learn
from labkit.learn.text import END, PAD, SYMBOLS

TEXTS = ["sort the letters of qzv", "sort the words", "def f(x):\n    return sum(v for v in x)", "add 37 to 5"] * 2
LAYOUT = learn.TextLayout(learn.pieces(TEXTS, at_least=2), question=30, answer=24)
QUESTIONS, ANSWERS = ["sort the letters of qzv", "add 37 to 5", "sort the words"], ["qvz", "42", "f(x) == 2"]


@given(st.text(SYMBOLS, max_size=200))
def test_every_text_over_the_symbols_is_the_join_of_its_pieces(text: str) -> None:
    layout = replace(LAYOUT, question=1000, answer=1000)
    data = layout.encode([text], [text])
    assert layout.text(data.tokens[0, -1000:].tolist()) == text
    assert "".join(layout.vocabulary[t] for t in data.tokens[0, :1000] if t != PAD) == text


def test_words_that_texts_share_are_one_piece_and_random_letters_are_spelled() -> None:
    assert len(LAYOUT.split("sort the")) == 2
    assert len(LAYOUT.split(" qx")) == 3
    assert len(LAYOUT.split("37")) == 2


def test_what_does_not_fit_or_cannot_be_spelled_is_refused() -> None:
    assert not LAYOUT.fits("x" * 31, "")
    assert not LAYOUT.fits("", "x" * 24)
    assert LAYOUT.fits("q" * 30, "q" * 23)
    for question, answer, says in [("q" * 31, "", "at most 30"), ("", "q" * 24, "at most 23"), ("é", "", "'é'")]:
        with pytest.raises(BadRequest, match=says):
            LAYOUT.encode([question], [answer])


def model_of(layout: learn.TextLayout) -> torch.nn.Module:
    shape = learn.Shape(len(layout.vocabulary), layout.length, layers=2, width=16, heads=2)
    model = learn.build("fast", shape, seed=0)
    data = layout.encode(QUESTIONS, ANSWERS)
    learn.train(model, "fast", data, steps=300, batch_size=3, seed=0)
    return model


def test_a_small_model_learns_answers_of_different_lengths_and_says_where_they_end(tmp_path) -> None:
    model, data = model_of(LAYOUT), LAYOUT.encode(QUESTIONS, ANSWERS)
    target = torch.from_numpy(data.tokens[:, data.prompt_length :]).long()
    assert ((learn.predict(model, data) == target) | (target == PAD)).all()
    learner = learn.Learner(model, "fast", model.shape, LAYOUT)
    learn.save(tmp_path, learner)
    assert [learn.load(tmp_path).answer((question,)) for question in QUESTIONS] == ANSWERS
    with pytest.raises(BadRequest, match="reads one text"):
        learn.load(tmp_path).answer(("ab", "cd", "abab"))


def test_the_filling_is_not_learned(double: None) -> None:
    """Longer room for the answer changes neither the loss nor the weights, but for the positions that are added."""
    assert (LAYOUT.encode(QUESTIONS, ANSWERS).tokens[:, -8:] == PAD).all()
    shape = learn.Shape(len(LAYOUT.vocabulary), LAYOUT.length, layers=2, width=16, heads=2)
    losses = []
    for layout in (LAYOUT, replace(LAYOUT, answer=LAYOUT.answer - 8)):
        model = learn.build("fast", shape, seed=0)
        seen: list[float] = []
        learn.train(
            model,
            "fast",
            layout.encode(QUESTIONS, ANSWERS),
            steps=5,
            batch_size=3,
            seed=0,
            every=1,
            on_step=lambda step, loss, seconds, seen=seen: seen.append(loss),
        )
        losses.append(seen)
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_a_row_that_has_ended_is_filled_with_its_end_and_the_others_go_on() -> None:
    model = model_of(LAYOUT)
    prompts = torch.cat([torch.from_numpy(LAYOUT.prompt((question,))) for question in QUESTIONS]).long()
    together = learn.generate(model, prompts, LAYOUT.answer, END)
    assert [LAYOUT.text(row) for row in together.tolist()] == ANSWERS
    for row, prompt in zip(together, prompts, strict=True):
        alone = learn.generate(model, prompt[None], LAYOUT.answer)[0]
        end = alone.tolist().index(END)
        assert torch.equal(row[: end + 1], alone[: end + 1])
        assert (row[end:] == END).all()
