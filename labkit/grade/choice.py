"""Graders of closed and open questions: which option a model prefers, or names, and its score with chance taken off.

Three ways to grade, as in "ability growth" (arXiv 2310.19651):
- by *likelihood*: the option to which the model gives the highest log-likelihood, as a sum or per token (`pick`);
- by *perplexity ranking*, for open questions: the gold answer against distractors, a hit where gold has the highest
  log-likelihood per token, which is the lowest perplexity (`pick`);
- by *parsing*: the option whose letter or text a free answer names (`grade.naming.named_option`).

Decided here: a tie at the top is a wrong answer, never half a right one: counts stay whole numbers, and a model that
tells two options apart by nothing has answered nothing. (The paper's released scorer counts such ties as hits.) An
answer that names no option, or several, is wrong as well.
Guaranteed: the chance-corrected score is (accuracy - chance) / (1 - chance), of the mean chance over the questions
asked: 0 for guessing and 1 for all right, below 0 where a model does worse than guessing; its interval is the
accuracy's (grade.intervals, clustered by instruction), mapped by the same line (`correct` of its ends).
Left open: sums favour short options and means long ones; perplexity ranks how likely a text is, not how good.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labkit.errors import BadRequest
from labkit.grade import intervals
from labkit.grade.intervals import Floats
from labkit.grade.naming import named_option

__all__ = ["NONE", "chance_level", "correct", "gold_index", "named_option", "pick"]

NONE = -1  # no option: a tie, or nothing to choose from


def gold_index(right: ArrayLike) -> NDArray[np.int64]:
    """The right option of each question, int [N], from marks bool [N, options].

    Raises:
        BadRequest: where a question has no right option, or two.
    """
    marks = intervals.numbers(right, "marks of right options")
    if marks.ndim != 2 or not np.isin(marks, (0, 1)).all():
        raise BadRequest(f"right options are marked 0 or 1 as [questions, options], not as {marks.shape}")
    many = marks.sum(axis=1).astype(int)
    if odd := np.flatnonzero(many != 1).tolist():
        raise BadRequest(
            f"question {odd[0]} has {many[odd[0]] or 'no'} right options: a closed question has exactly one"
        )
    return np.asarray(marks.argmax(axis=1), np.int64)


def pick(loglik: ArrayLike, tokens: ArrayLike | None = None) -> NDArray[np.int64]:
    """The option that a model finds likeliest, int [N]; `NONE` for a tie, or a question without options.

    Args:
        loglik: Log-likelihood of each option's tokens given the question, summed: [N, options]; NaN where a question
            has fewer options than others.
        tokens: Each option's length in tokens, [N, options]; given, the mean per token decides.

    Raises:
        BadRequest: for shapes that differ, or an option of no token.
    """
    scores = _table(loglik) if tokens is None else -_nats(loglik, tokens)
    scores = np.where(np.isnan(scores), -np.inf, scores)
    best = scores.max(axis=1, keepdims=True)
    alone = ((scores == best) & np.isfinite(best)).sum(axis=1) == 1
    return np.where(alone, scores.argmax(axis=1), NONE)


def chance_level(n_options: ArrayLike) -> float:
    """The accuracy of guessing: the mean over questions of one over the number of options (0 stands for no chance).

    Raises:
        BadRequest: for a question with one option only, whose answer shows nothing.
    """
    options = np.atleast_1d(intervals.numbers(n_options, "numbers of options"))
    if (
        not options.size
        or np.any(options < 0)
        or np.any(options == 1)
        or not np.array_equal(options, np.floor(options))
    ):
        raise BadRequest("a question has two options or more, or 0 where nothing can be guessed")
    return float(np.where(options > 0, 1 / np.maximum(options, 1), 0).mean())


def correct(accuracy: ArrayLike, chance: ArrayLike) -> Floats:
    """(accuracy - chance) / (1 - chance), elementwise: 0 for guessing, 1 for all right, below 0 for worse than chance.

    Raises:
        BadRequest: for a chance level outside [0, 1), or an accuracy that is no finite number.
    """
    level = np.asarray(chance, float)
    if not np.all((level >= 0) & (level < 1)):
        raise BadRequest("a chance level lies in [0, 1): at 1 every answer is right and nothing is measured")
    return np.asarray((intervals.numbers(accuracy, "accuracies") - level) / (1 - level), np.float64)


def _table(values: ArrayLike) -> Floats:
    table = np.asarray(values, float)
    if table.ndim != 2 or not table.shape[1]:
        raise BadRequest(f"options come as [questions, options], not as {table.shape}")
    return table


def _nats(loglik: ArrayLike, tokens: ArrayLike) -> Floats:
    """Negative log-likelihood per token, [N, options]."""
    table, lengths = _table(loglik), np.asarray(tokens, float)
    if lengths.shape != table.shape:
        raise BadRequest(f"every option needs its length in tokens: {lengths.shape} for {table.shape}")
    if np.any(~np.isnan(table) & ~(lengths >= 1)):
        raise BadRequest("an option of no token has no likelihood per token")
    return np.asarray(-table / np.where(np.isnan(table), 1, lengths), np.float64)
