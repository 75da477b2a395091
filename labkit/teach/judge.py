"""A judge that answers in prose: scores and comparisons in bulk, and how far they can be trusted.

Guaranteed: a reply that cannot be read is asked for once more (another sample) and then stays None, never a guess;
every `counts` adds up to what was asked; a comparison is made in both orders, so that a judge who prefers a position
cannot decide one; every share comes with an interval clustered by question (see `labkit.grade.intervals`).
Left open: an interval covers other questions, not another judge; a judge may prefer long answers, or its own.

Sources: single answers, pairs in both orders and position bias as in Zheng et al. 2023 (arXiv 2306.05685); Model
Fitting Difficulty of TAPIR (Yue et al. 2024, arXiv 2405.13448); agreement as Cohen's kappa (1960) and as the area under
the ROC curve, the chance that a right answer outscores a wrong one (Hanley & McNeil 1982).
"""

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from labkit.errors import BadRequest
from labkit.grade.intervals import Estimate, Floats, at_least, cluster_bootstrap, percentiles
from labkit.teach import prompts
from labkit.teach.client import Failure, Reply, Request

QUESTIONS = "questions"
TIE = 0.5
_UNIT = 900  # parts of a point: halves of a win and hundredths of a rating from 1 to 10 are whole numbers of them
_DRAWS = 2000


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

    `counts`: asked = scored + unreadable + failed; `asked_again` is how many got a second request.
    """

    values: list[float | None]
    texts: list[str | None]
    counts: dict[str, int]


class Comparison(NamedTuple):
    """What became of contests, each held in both orders.

    Attributes:
        contests: As asked.
        scores: 1 where `one` won in both orders, 0 where `other` did, 1/2 for any other pair of verdicts (two ties, a
            tie and a win, or two that contradict each other), None where a verdict is missing.
        verdicts: What was said in each order, `one` first and `other` first: A, B, tie or None.
        texts: The two replies.
        counts: asked = won + lost + tied + mixed + unreadable + failed; `asked_again` counts second requests.
    """

    contests: list[Contest]
    scores: list[float | None]
    verdicts: list[tuple[prompts.Winner | None, prompts.Winner | None]]
    texts: list[tuple[str | None, str | None]]
    counts: dict[str, int]


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


class Judge:
    """Asks for ratings and verdicts, and reads them.

    Args:
        asker: What is asked.
        ask_again: Ask once more, for another sample, where a reply cannot be read.
    """

    def __init__(self, asker: Asker, ask_again: bool = True) -> None:
        self.asker, self.ask_again = asker, ask_again

    def score(self, pairs: Sequence[prompts.Pair], references: Sequence[str | None] | None = None) -> Scores:
        """Rate single answers from 1 to 10, beside a reference answer where there is one."""
        beside = references or [None] * len(pairs)
        return self._scores([prompts.score(*pair, one) for pair, one in zip(pairs, beside, strict=True)])

    def score_turns(
        self,
        questions: Sequence[Sequence[str]],
        responses: Sequence[Sequence[str]],
        references: Sequence[Sequence[str]] | None = None,
    ) -> Scores:
        """Rate the last answers of conversations; a row holds the turns of one."""
        beside = references or [()] * len(questions)
        rows = zip(questions, responses, beside, strict=True)
        return self._scores([prompts.score_turns(*row) for row in rows])

    def compare(self, contests: Sequence[Contest]) -> Comparison:
        """Hold every contest twice, with either answer first."""
        chats = [
            prompts.compare(c.question, *pair, c.reference)
            for c in contests
            for pair in ((c.one, c.other), (c.other, c.one))
        ]
        texts, failed, again = self._texts(chats, prompts.read_winner)
        read = [None if text is None else prompts.read_winner(text) for text in texts]
        verdicts = list(zip(read[::2], read[1::2], strict=True))
        outcomes = [
            "failed" if any(failed[2 * i : 2 * i + 2]) else _outcome(*verdict) for i, verdict in enumerate(verdicts)
        ]
        points = {"won": 1.0, "lost": 0.0, "tied": TIE, "mixed": TIE}
        found = Counter(outcomes)
        kinds = (*points, "unreadable", "failed")
        counts = {"asked": len(contests), **{kind: found[kind] for kind in kinds}, "asked_again": again}
        scores = [points.get(outcome) for outcome in outcomes]
        return Comparison(list(contests), scores, verdicts, list(zip(texts[::2], texts[1::2], strict=True)), counts)

    def _scores(self, chats: Sequence[list[prompts.Message]]) -> Scores:
        texts, failed, again = self._texts(chats, prompts.read_score)
        values = [None if text is None else prompts.read_score(text) for text in texts]
        scored = sum(value is not None for value in values)
        counts = {"asked": len(chats), "scored": scored, "unreadable": len(chats) - scored - sum(failed)}
        return Scores(values, texts, counts | {"failed": sum(failed), "asked_again": again})

    def _texts(
        self, chats: Sequence[list[prompts.Message]], read: Callable[[str], object]
    ) -> tuple[list[str | None], list[bool], int]:
        """The text of each reply, whether the request failed, and how many were asked again: those not readable."""
        replies = ask(self.asker, chats)
        mute = [i for i, r in enumerate(replies) if isinstance(r, Reply) and read(r.text) is None]
        again = mute if self.ask_again else []
        for place, reply in zip(again, ask(self.asker, [chats[i] for i in again], sample=1), strict=True):
            replies[place] = reply
        texts = [reply.text if isinstance(reply, Reply) else None for reply in replies]
        return texts, [isinstance(reply, Failure) for reply in replies], len(again)


def ask(asker: Asker, chats: Sequence[list[prompts.Message]], sample: int = 0) -> list[Reply | Failure]:
    """The replies to chats of `labkit.teach.prompts`, in order; nothing is sent when there are none."""
    requests = [Request(chat, sample=sample) for chat in chats]
    return asker.ask_many(requests) if requests else []


def difficulties(
    judge: Judge,
    questions: Sequence[str],
    student: Sequence[str],
    public: Sequence[str],
    references: Sequence[str | None] | None = None,
) -> Difficulties:
    """How far the student's answers fall short of the public ones (TAPIR, Model Fitting Difficulty).

        MFD(x_i) = f_J(x_i, ~y_i) - f_J(x_i, y_i)

    in points of the judge's scale, -9 to 9, negative where the student falls short.

    Raises:
        BadRequest: when the three lists differ in length.
    """
    if not len(questions) == len(student) == len(public):
        raise BadRequest(
            f"{len(questions)} questions, {len(student)} student's and {len(public)} public answers: as many of each"
        )
    ours, theirs = (
        judge.score([prompts.Pair(*pair) for pair in zip(questions, answers, strict=True)], references)
        for answers in (student, public)
    )
    mfd = [
        None if mine is None or given is None else mine - given
        for mine, given in zip(ours.values, theirs.values, strict=True)
    ]
    counts = {
        "pairs": len(mfd),
        "scored": sum(value is not None for value in mfd),
        "student_unscored": ours.values.count(None),
        "public_unscored": theirs.values.count(None),
    }
    return Difficulties(mfd, ours, theirs, counts)


def win_rate(comparison: Comparison, groups: Sequence[Hashable] | None = None) -> Estimate:
    """The share of contests that `one` won, ties and contradictions as half; clustered by question, or by `groups`.

    Raises:
        BadRequest: when no contest was decided.
    """
    keys = groups or [contest.question for contest in comparison.contests]
    decided = [(s, key) for s, key in zip(comparison.scores, keys, strict=True) if s is not None]
    if not decided:
        raise BadRequest(f"none of {len(comparison.scores)} contests has two readable verdicts: no win rate")
    return clustered(*zip(*decided, strict=True))


def position_bias(comparison: Comparison, groups: Sequence[Hashable] | None = None) -> Bias:
    """How far the verdicts follow positions; clustered by question, or by `groups`."""
    keys = groups or [contest.question for contest in comparison.contests]
    rows = [(verdict, key) for verdict, key in zip(comparison.verdicts, keys, strict=True) if {*verdict} <= {"A", "B"}]
    if not rows:
        return Bias(None, None, 0)
    names = [key for _, key in rows]
    follows = [float(a == b) for (a, b), _ in rows]
    first = [((a == "A") + (b == "A")) / 2 for (a, b), _ in rows]
    return Bias(clustered(follows, names), clustered(first, names), len(rows))


def agreement(
    scores: Sequence[float | None],
    right: Sequence[bool],
    groups: Sequence[Hashable] | None = None,
    threshold: float = 10.0,
    seed: int = 0,
) -> Agreement:
    """How far ratings agree with exact grading, where there is an oracle.

    Args:
        scores: Ratings from 1 to 10; None is left out and counted.
        right: Whether each answer is right.
        groups: What is resampled together, such as the question or the instruction; each answer alone by default.
        threshold: From which rating an answer counts as called right.
        seed: Of the resampling.

    Raises:
        BadRequest: for lists of different lengths, or when nothing was rated.
    """
    keys = list(groups) if groups is not None else list(range(len(scores)))
    if not len(scores) == len(right) == len(keys):
        raise BadRequest(f"{len(scores)} ratings, {len(right)} grades and {len(keys)} groups: as many of each")
    rows = [(s, bool(r), key) for s, r, key in zip(scores, right, keys, strict=True) if s is not None]
    if not rows:
        raise BadRequest(f"none of {len(scores)} answers has a rating: no agreement to measure")
    rated, truth, names = (list(column) for column in zip(*rows, strict=True))
    levels = sorted(set(rated))
    table = [
        Level(level, len(of), clustered([float(r) for _, r, _ in of], [key for _, _, key in of]))
        for level in levels
        for of in [[row for row in rows if row[0] == level]]
    ]
    order = {key: place for place, key in enumerate(dict.fromkeys(names))}
    cells = np.zeros((len(order), len(levels), 2))
    np.add.at(cells, ([order[key] for key in names], [levels.index(s) for s in rated], [int(r) for r in truth]), 1)
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
        _resampled(cells, kappa, seed, lowest=-1.0),
        _resampled(cells, _auc, seed, lowest=0.0),
        table,
        threshold,
        {"answers": len(scores), "scored": len(rows), "unscored": len(scores) - len(rows), "right": sum(truth)},
    )


def clustered(values: Sequence[float], groups: Sequence[Hashable]) -> Estimate:
    """The mean of values from 0 to 1 (in 900ths) with its interval, whole groups resampled (`cluster_bootstrap`)."""
    places = {key: place for place, key in enumerate(dict.fromkeys(groups))}
    sums = np.zeros((len(places), 2))
    for value, key in zip(values, groups, strict=True):
        sums[places[key]] += (round(value * _UNIT), _UNIT)
    return cluster_bootstrap(sums[:, 0], sums[:, 1])._replace(over=QUESTIONS)


def _outcome(first: prompts.Winner | None, second: prompts.Winner | None) -> str:
    """Of `one`, shown first and then second."""
    if first is None or second is None:
        return "unreadable"
    named = {("A", "B"): "won", ("B", "A"): "lost", ("tie", "tie"): "tied"}
    return named.get((first, second), "mixed")


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
    kinds, times = np.unique(cells.reshape(len(cells), -1), axis=0, return_counts=True)
    weights = np.random.default_rng(seed).multinomial(len(cells), times / len(cells), size=_DRAWS)
    found = statistic((weights @ kinds).reshape(_DRAWS, *cells.shape[1:]))
    found = found[~np.isnan(found)]
    if np.isnan(value) or len(found) < _DRAWS / 2:
        return None
    lo, hi = percentiles(found)
    width = 1 - lowest
    floor = at_least(((lo - lowest) / width, (hi - lowest) / width), (value - lowest) / width, len(cells))
    return Estimate(value, lowest + width * floor[0], lowest + width * floor[1], len(cells), 1, QUESTIONS)
