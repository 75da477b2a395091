"""Likelihoods of answers from a Hugging Face model: equal to a plain loop, whatever the batch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import tiny_examples, tiny_llama

from labkit.grade import choice
from labkit.instructions import Example
from labkit.learn import chat, qlora, scoring

CHATML = (
    "{% for message in messages %}{{ '<s>' + message.role + '\\n' + message.content + '</s>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<s>assistant\\n' }}{% endif %}"
)
QUESTIONS = [
    *(Example(e.instruction, e.input, "", "tiny", e.instruction) for e in tiny_examples(7)),
    Example("Which is right? " * 9, "</s>", "", "tiny", "x"),  # a special token, spelled out
    Example("哪个？", "", "", "tiny", "y"),
]
ANSWERS = [
    ["A", "B", "C", "D"],
    ["yes", "no"],
    ["a b c d e f g", "h", "abc"],
    *[["A", "B"]] * 4,
    ["x</s>", "x"],
    ["对"],
]


def plain(model: Any, tokenizer: Any, question: Example, answer: str) -> tuple[float, int]:
    """One pass a pair, no padding, no cache."""
    pair = Example(question.instruction, question.input, answer, "", "")
    encoded = chat.encode(tokenizer, [pair])
    ids, start = torch.tensor([encoded.row(0).tolist()], device=model.device), int(encoded.prompts[0])
    with torch.no_grad():
        found = model(input_ids=ids).logits[0].double().log_softmax(-1)
    row = ids[0].tolist()
    return sum(float(found[i - 1, row[i]]) for i in range(start, len(row))), len(row) - start


def check(model: Any, tokenizer: Any, questions: Sequence[Example] = QUESTIONS, tolerance: float = 1e-4) -> None:
    found = scoring.score(model, tokenizer, questions, ANSWERS)
    assert found.total.shape == (len(questions), 4)
    for i, (question, answers) in enumerate(zip(questions, ANSWERS, strict=True)):
        for place in range(4):
            if place < len(answers):
                total, tokens = plain(model, tokenizer, question, answers[place])
                assert found.total[i, place] == pytest.approx(total, abs=tolerance, rel=1e-5)
                assert found.tokens[i, place] == tokens
            else:
                assert np.isnan(found.total[i, place])
                assert found.tokens[i, place] == 0
    for limit in (1, 60, 300):
        other = scoring.score(model, tokenizer, questions, ANSWERS, batch_tokens=limit)
        np.testing.assert_allclose(other.total, found.total, atol=tolerance, rtol=1e-5)
        assert (other.tokens == found.tokens).all()


@pytest.mark.parametrize("template", [None, "plain", "chatml"])
def test_scores_are_those_of_a_plain_loop(tmp_path: Path, template: str | None) -> None:
    folder = tiny_llama(tmp_path, chat_template=CHATML if template == "chatml" else None)
    model, tokenizer = qlora.load(folder, template=None if template == "chatml" else template)
    check(model, tokenizer)
    sizes = scoring.sizes(tokenizer, QUESTIONS, ANSWERS)
    longest = chat.encode(tokenizer, [Example(QUESTIONS[2].instruction, QUESTIONS[2].input, ANSWERS[2][0], "", "")])
    assert sizes[2] == longest.lengths[0]
    found = scoring.score(model, tokenizer, QUESTIONS[:2], ANSWERS[:2])
    assert set(choice.pick(*found)) <= {-1, 0, 1, 2, 3}
    assert len(scoring.score(model, tokenizer, [], []).total) == 0


@pytest.mark.parametrize("quantisation", ["none", "nf4"])
def test_scores_of_a_trained_adapter_are_its_training_loss(tmp_path: Path, quantisation: str) -> None:
    for package in ("trl", "peft", "bitsandbytes"):
        pytest.importorskip(package, reason="needs labkit[qlora]")
    examples = tiny_examples(8)
    how = {"rank": 8, "batch_size": 8, "max_length": 96, "template": "plain", "learning_rate": 3e-3, "dropout": 0.0}
    folder = tiny_llama(tmp_path / "base")
    chosen = qlora.settings(str(folder), "default", **how, steps=12, quantisation=quantisation)
    qlora.finetune(examples, chosen, tmp_path / "run", say=lambda text: None)
    model, tokenizer = qlora.load(tmp_path / "run")
    check(model, tokenizer, tolerance=1e-3)
    before = scoring.score(*qlora.load(folder, template="plain"), examples, [[e.output] for e in examples])
    after = scoring.score(model, tokenizer, examples, [[e.output] for e in examples])
    assert after.total.sum() > before.total.sum() + 10
    assert (after.tokens == before.tokens).all()
    again = qlora.finetune(
        examples, qlora.settings(str(folder), "default", **how, steps=1, quantisation="none"), tmp_path / "one"
    )
    assert again.loss == pytest.approx(-before.total.sum() / before.tokens.sum(), rel=1e-4)  # the first step's loss
