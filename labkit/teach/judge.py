"""A judge that answers in prose: scores and comparisons in bulk, and how far they can be trusted.

Guaranteed: a reply that cannot be read, or was cut off before its end, is asked for once more (another sample) and then
stays None, never a guess, with the reason in `missing`; every `counts` adds up to what was asked; a comparison is made
in both orders, so that a judge who prefers a position cannot decide one; every share comes with an interval clustered
by question (see `labkit.grade.intervals`).
Left open: an interval covers other questions, not another judge; a judge may prefer long answers, or its own.

Sources: single answers, pairs in both orders and position bias as in Zheng et al. 2023 (arXiv 2306.05685); Model
Fitting Difficulty of TAPIR (Yue et al. 2024, arXiv 2405.13448); agreement as Cohen's kappa (1960) and as the area under
the ROC curve, the chance that a right answer outscores a wrong one (Hanley & McNeil 1982).
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np

from labkit.errors import BadRequest
from labkit.grade.intervals import Estimate, Floats, at_least, cluster_bootstrap, numbers, percentiles, resample
from labkit.teach import prompts
from labkit.teach.client import Failure, Reply, Request

QUESTIONS = "questions"
TIE = 0.5
_POINTS = {"won": 1.0, "lost": 0.0, "tied": TIE, "mixed": TIE}
_UNIT = 900  # parts of a point: halves of a win and hundredths of a rating from 1 to 10 are whole numbers of them
_DRAWS = 2000

Chats = Sequence[list[prompts.Message]]
_T = TypeVar("_T")


class Asker(Protocol):
    """What is asked: `labkit.teach.client.Client`, or a test's own."""

    def ask_many(self, requests: Sequence[Request], /) -> list[Reply | Failure]:
        """A reply or a failure for each request, in order."""


class Contest(NamedTuple):
    """Two answers to one question."""

    question: str
    one: str
    other: str
    reference: str | None = None


class Scores(NamedTuple):
    """Ratings from 1 to 10, None where there is none, and the replies they were read from.

    `counts`: asked = scored + unreadable + failed; `asked_again` is how many got a second request. `missing`: why a
    place has no score, in a sentence.
    """

    values: list[float | None]
    texts: list[str | None]
    counts: dict[str, int]
    missing: dict[int, str]


class Comparison(NamedTuple):
    """What became of contests, each held in both orders.

    Attributes:
        contests: As asked.
        scores: 1 where `one` won in both orders, 0 where `other` did, 1/2 for any other pair of verdicts (two ties, a
            tie and a win, or two that contradict each other), None where a verdict is missing.
        verdicts: What was said in each order, `one` first and `other` first: A, B, tie or None.
        texts: The two replies.
        counts: asked = won + lost + tied + mixed + unreadable + failed; `asked_again` counts second requests.
        missing: Why a contest has no score, in a sentence: the first of its two orders that is at fault.
    """

    contests: list[Contest]
    scores: list[float | None]
    verdicts: list[tuple[prompts.Winner | None, prompts.Winner | None]]
    texts: list[tuple[str | None, str | None]]
    counts: dict[str, int]
    missing: dict[int, str]


class Bias(NamedTuple):
    """How far a judge follows the position of an answer, over contests with a winner in both orders.

    Attributes:
        follows: Share of the contests in which the same position won twice: 0 for a judge who looks at answers alone,
            1/2 for one who guesses, 1 for one who looks at positions alone. None without such a contest.
        first: Share of the verdicts that went to the answer shown first; 1/2 is fair.
        contests: How many had a winner in both orders.
    """

    follows: Estimate | None
    first: Estimate | None
    contests: int


class Difficulties(NamedTuple):
    """Model Fitting Difficulty of each pair, None where a score is missing; the scores; counts of what is missing."""

    mfd: list[float | None]
    student: Scores
    public: Scores
    counts: dict[str, int]


class Level(NamedTuple):
    """How often answers of one rating were right."""

    score: float
    answers: int
    share_right: Estimate


class Agreement(NamedTuple):
    """Ratings against exact grading.

    Attributes:
        accuracy: Share of the answers on which "rated at least the threshold" and "right" agree.
        kappa: Agreement beyond chance, -1 to 1; None where one of the two hardly varies.
        auc: Chance that a right answer is rated above a wrong one, ties as half; None without enough of both.
        table: From the lowest rating to the highest, how often it was right.
        threshold: From which rating an answer counts as called right.
        counts: answers = scored + unscored; right answers among the scored.
    """

    accuracy: Estimate
    kappa: Estimate | None
    auc: Estimate | None
    table: list[Level]
    threshold: float
    counts: dict[str, int]

    def as_dict(self) -> dict[str, Any]:
        """For a row of results: the shares with their intervals, and how often each rating was right."""
        shares = {"accuracy": self.accuracy, "kappa": self.kappa, "auc": self.auc}
        agreement = {name: one and [one.mean, one.lo, one.hi] for name, one in shares.items()}
        calibration = [[level.score, level.answers, *level.share_right[:3]] for level in self.table]
        return {"agreement": agreement, "calibration": calibration}


class _Heard(NamedTuple):
    """What was read of each reply, its text (None of a failure), why nothing was read, how many were asked again."""

    values: list[Any]
    texts: list[str | None]
    missing: dict[int, str]
    again: int


class Judge:
    """Asks for ratings and verdicts, and reads them."""

    def __init__(self, asker: Asker) -> None:
        self.asker = asker

    def score(self, pairs: Sequence[prompts.Pair], references: Sequence[str | None] | None = None) -> Scores:
        """Rate single answers from 1 to 10, beside a reference answer where there is one."""
        beside = [None] * len(pairs) if references is None else references
        _as_many(answers=pairs, references=beside)
        known = [[] if reference is None else [reference] for reference in beside]
        return self.score_turns([[pair.question] for pair in pairs], [[pair.response] for pair in pairs], known)

    def score_turns(
        self, questions: Sequence[Sequence[str]], responses: Sequence[Sequence[str]],
        references: Sequence[Sequence[str]] | None = None,
    ) -> Scores:  # fmt: skip
        """Rate the last answers of conversations; a row holds the turns of one."""
        beside = [()] * len(questions) if references is None else references
        _as_many(conversations=questions, responses=responses, references=beside)
        chats = list(map(prompts.score_turns, questions, responses, beside))
        heard = self._heard(chats, prompts.read_score, "no single rating from 1 to 10 in the form [[7]]")
        lost, failed = len(heard.missing), heard.texts.count(None)
        counts = {"asked": len(chats), "scored": len(chats) - lost, "unreadable": lost - failed, "failed": failed}
        return Scores(heard.values, heard.texts, counts | {"asked_again": heard.again}, heard.missing)

    def compare(self, contests: Sequence[Contest]) -> Comparison:
        """Hold every contest twice, with either answer first."""
        orders = [order for c in contests for order in (c, c._replace(one=c.other, other=c.one))]
        form = "no single verdict in the form [[A]], [[B]] or [[C]]"
        heard = self._heard([prompts.compare(*order) for order in orders], prompts.read_winner, form)
        verdicts, texts = (list(zip(both[::2], both[1::2], strict=True)) for both in (heard.values, heard.texts))
        outcomes = list(map(_outcome, verdicts, texts))
        counts = {name: outcomes.count(name) for name in (*_POINTS, "unreadable", "failed")}
        missing: dict[int, str] = {}
        for place, why in heard.missing.items():
            missing.setdefault(place // 2, why)
        counts = {"asked": len(contests), **counts, "asked_again": heard.again}
        return Comparison(list(contests), list(map(_POINTS.get, outcomes)), verdicts, texts, counts, missing)

    def _heard(self, chats: Chats, read: Callable[[str], object], form: str) -> _Heard:
        """What is read of the replies; what cannot be read is asked for once more."""
        replies = ask(self.asker, chats)
        again = [i for i, reply in enumerate(replies) if isinstance(reply, Reply) and _read(reply, read) is None]
        for place, reply in zip(again, ask(self.asker, [chats[i] for i in again], sample=1), strict=True):
            replies[place] = reply
        values = [_read(reply, read) for reply in replies]
        texts = [reply.text if isinstance(reply, Reply) else None for reply in replies]
        missing = {i: _why(reply, form) for i, reply in enumerate(replies) if values[i] is None}
        return _Heard(values, texts, missing, len(again))


def ask(asker: Asker, chats: Chats, sample: int = 0) -> list[Reply | Failure]:
    """The replies to chats of `labkit.teach.prompts`, in order; nothing is sent when there are none."""
    requests = [Request(chat, sample=sample) for chat in chats]
    return asker.ask_many(requests) if requests else []


def difficulties(judge: Judge, questions: Sequence[str], student: Sequence[str], public: Sequence[str]) -> Difficulties:
    """How far the student's answers fall short of the public ones (TAPIR, Model Fitting Difficulty).

        MFD(x_i) = f_J(x_i, ~y_i) - f_J(x_i, y_i)

    in points of the judge's scale, -9 to 9, negative where the student falls short.

    Raises:
        BadRequest: when the three lists differ in length.
    """
    _as_many(**{"questions": questions, "student's": student, "public answers": public})
    ours, theirs = (judge.score(list(map(prompts.Pair, questions, side))) for side in (student, public))
    scores = zip(ours.values, theirs.values, strict=True)
    mfd = [None if mine is None or given is None else mine - given for mine, given in scores]
    counts = {"pairs": len(mfd), "scored": len(mfd) - mfd.count(None)}
    counts |= {"student_unscored": ours.values.count(None), "public_unscored": theirs.values.count(None)}
    return Difficulties(mfd, ours, theirs, counts)


def win_rate(comparison: Comparison, groups: Sequence[Hashable] | None = None) -> Estimate:
    """The share of contests that `one` won, ties and contradictions as half; clustered by question, or by `groups`.

    Raises:
        BadRequest: when no contest was decided.
    """
    keys = _groups(comparison, groups)
    decided = [(s, key) for s, key in zip(comparison.scores, keys, strict=True) if s is not None]
    if not decided:
        raise BadRequest(f"none of {len(comparison.scores)} contests has two readable verdicts: no win rate")
    return clustered(*zip(*decided, strict=True))


def position_bias(comparison: Comparison, groups: Sequence[Hashable] | None = None) -> Bias:
    """How far the verdicts follow positions; clustered by question, or by `groups`."""
    keys = _groups(comparison, groups)
    rows = [(verdict, key) for verdict, key in zip(comparison.verdicts, keys, strict=True) if {*verdict} <= {"A", "B"}]
    if not rows:
        return Bias(None, None, 0)
    verdicts, names = zip(*rows, strict=True)
    follows = clustered([float(one == other) for one, other in verdicts], names)
    first = clustered([verdict.count("A") / 2 for verdict in verdicts], names)
    return Bias(follows, first, len(rows))


def agreement(
    scores: Sequence[float | None], right: Sequence[bool], groups: Sequence[Hashable] | None = None,
    threshold: float = 10.0, seed: int = 0,
) -> Agreement:  # fmt: skip
    """How far ratings agree with exact grading, where there is an oracle.

    Args:
        scores: Ratings from 1 to 10; None, or NaN as tables have it, is left out and counted.
        right: Whether each answer is right.
        groups: What is resampled together, such as the question or the instruction; each answer alone by default.
        threshold: From which rating an answer counts as called right.
        seed: Of the resampling.

    Raises:
        BadRequest: for lists of different lengths, grades that are neither right nor wrong, a rating or threshold that
            is infinite or no number, or when nothing was rated.
    """
    keys = list(groups) if groups is not None else list(range(len(scores)))
    _as_many(ratings=scores, grades=right, groups=keys)
    graded = numbers(right, "grades, right or wrong,")
    if not np.isin(graded, (0, 1)).all():
        raise BadRequest("a grade is right or wrong, True or False")
    numbers(threshold, "the threshold")
    rated_as = [None if score is None or score != score else float(numbers(score, "ratings")) for score in scores]
    rows = [(s, bool(r), key) for s, r, key in zip(rated_as, graded, keys, strict=True) if s is not None]
    if not rows:
        raise BadRequest(f"none of {len(scores)} answers has a rating: no agreement to measure")
    rated, truth, names = (list(column) for column in zip(*rows, strict=True))
    levels = sorted(set(rated))
    table = []
    for level in levels:
        own = [(float(r), key) for score, r, key in rows if score == level]
        table.append(Level(level, len(own), clustered(*zip(*own, strict=True))))
    places = _numbered(names)
    cells = np.zeros((max(places) + 1, len(levels), 2))
    np.add.at(cells, (places, [levels.index(score) for score in rated], [int(mark) for mark in truth]), 1)
    called = np.array(levels) >= threshold

    def kappa(counts: Floats) -> Floats:
        both = np.stack([counts[..., ~called, :].sum(-2), counts[..., called, :].sum(-2)], -2)
        total = both.sum((-2, -1))
        observed = (both[..., 0, 0] + both[..., 1, 1]) / total
        chance = (both.sum(-1) * both.sum(-2)).sum(-1) / total**2
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(chance < 1, (observed - chance) / (1 - chance), np.nan)

    return Agreement(
        clustered([float((s >= threshold) == r) for s, r, _ in rows], names),
        _resampled(cells, kappa, seed, lowest=-1.0), _resampled(cells, _auc, seed, lowest=0.0), table, threshold,
        {"answers": len(scores), "scored": len(rows), "unscored": len(scores) - len(rows), "right": sum(truth)},
    )  # fmt: skip


def clustered(values: Sequence[float], groups: Sequence[Hashable]) -> Estimate:
    """The mean of values from 0 to 1 (in 900ths) with its interval, whole groups resampled (`cluster_bootstrap`).

    Raises:
        BadRequest: for no values, values that are no numbers from 0 to 1, or groups of another number.
    """
    _as_many(values=values, groups=groups)
    shares = numbers(values, "shares")
    if not shares.size or np.any((shares < 0) | (shares > 1)):
        raise BadRequest("the mean of shares needs at least one, and each from 0 to 1")
    places = _numbered(groups)
    sums = np.bincount(places, np.round(shares * _UNIT)), np.bincount(places) * _UNIT
    return cluster_bootstrap(*sums)._replace(over=QUESTIONS)


def _numbered(keys: Sequence[Hashable]) -> list[int]:
    """The number of each key, in the order in which they come."""
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    return [numbers[key] for key in keys]


def _read(reply: Reply | Failure, read: Callable[[str], _T | None]) -> _T | None:
    """What a reply says; nothing where it was cut off, before it came to its verdict."""
    return None if isinstance(reply, Failure) or reply.truncated else read(reply.text)


def _why(reply: Reply | Failure, lacks: str) -> str:
    if isinstance(reply, Failure):
        return reply.sentence
    if reply.truncated:
        return f"the judge was cut off (finish_reason '{reply.finish_reason}'): raise its max_tokens"
    return f"the judge gives {lacks}: {reply.text[-200:]!r}"


def _as_many(**lists: Sequence[object]) -> None:
    if len({len(values) for values in lists.values()}) > 1:
        *first, last = (f"{len(values)} {name}" for name, values in lists.items())
        raise BadRequest(f"{', '.join(first)} and {last}: as many of each")


def _groups(comparison: Comparison, groups: Sequence[Hashable] | None) -> Sequence[Hashable]:
    keys = [contest.question for contest in comparison.contests] if groups is None else groups
    _as_many(contests=comparison.contests, groups=keys)
    return keys


def _outcome(verdicts: tuple[Any, Any], texts: tuple[str | None, str | None]) -> str:
    """Of `one`, shown first and then second."""
    if None in verdicts:
        return "failed" if None in texts else "unreadable"
    return {("A", "B"): "won", ("B", "A"): "lost", ("tie", "tie"): "tied"}.get(verdicts, "mixed")


def _auc(counts: Floats) -> Floats:
    wrong, right = counts[..., 0], counts[..., 1]
    below = np.cumsum(wrong, -1) - wrong / 2
    pairs = wrong.sum(-1) * right.sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(pairs > 0, (right * below).sum(-1) / pairs, np.nan)


def _resampled(cells: Floats, statistic: Callable[[Floats], Floats], seed: int, lowest: float) -> Estimate | None:
    """A statistic of the table [groups, ...] summed over groups, from `lowest` to 1, with its percentile interval.

    Resamples in which it is undefined are passed over; where they are more than half, so is the statistic. The interval
    is no narrower than `at_least` allows a share.
    """
    value = float(statistic(cells.sum(0)))
    sums = resample(cells.reshape(len(cells), -1), _DRAWS, np.random.default_rng(seed))
    values = statistic(sums.reshape(_DRAWS, *cells.shape[1:]))
    values = values[~np.isnan(values)]
    if np.isnan(value) or len(values) < _DRAWS / 2:
        return None
    lo, hi = percentiles(values)
    width = 1 - lowest
    floor = at_least(((lo - lowest) / width, (hi - lowest) / width), (value - lowest) / width, len(cells))
    lo, hi = (lowest + width * end for end in floor)
    return Estimate(value, lo, hi, len(cells), 1, QUESTIONS)
