"""A judge: what it says is counted, what it does not say is never guessed, and its biases show."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu

from labkit import BadRequest
from labkit.grade.intervals import cluster_bootstrap
from labkit.teach import prompts
from labkit.teach.client import Failure, Reply, Request
from labkit.teach.judge import (
    Contest,
    Judge,
    agreement,
    ask,
    clustered,
    difficulties,
    position_bias,
    win_rate,
)
from labkit.teach.prompts import Pair

PROSE = "A fine answer, warm and to the point."


class Fake:
    """Answers by a function of the request's text and sample; None is a failure. Keeps what it was asked."""

    def __init__(
        self, says: Callable[[str, int], str | None], ends: Callable[[int], str] = lambda sample: "stop"
    ) -> None:
        self.says, self.ends = says, ends
        self.asked: list[Request] = []

    def ask_many(self, requests: Sequence[Request]) -> list[Reply | Failure]:
        self.asked += requests
        return [self._one(self.says(r.messages[-1]["content"], r.sample), self.ends(r.sample)) for r in requests]

    def _one(self, text: str | None, end: str) -> Reply | Failure:
        if text is None:
            return Failure("the endpoint answers 500, five times in a row", 5)
        return Reply(text, prompt_tokens=1, completion_tokens=1, model="fake", finish_reason=end)


def shortest(text: str, sample: int) -> str:
    """An honest judge: the shorter answer is the better one."""
    parts = prompts.sections(text)
    if "answer" in parts:
        return f"So long. [[{max(1, 10 - len(parts['answer']))}]]"
    a, b = len(parts["answer A"]), len(parts["answer B"])
    return f"Compared. [[{'A' if a < b else 'B' if b < a else 'C'}]]"


def pairs(*responses: str) -> list[Pair]:
    return [Pair(f"question {i}", response) for i, response in enumerate(responses)]


CONTESTS = [Contest("p", "a", "bbb"), Contest("q", "aaaa", "b"), Contest("r", "aa", "bb")]


def test_scores_are_read_and_counted() -> None:
    asker = Fake(shortest)
    found = Judge(asker).score(pairs("a", "bbbb", "c" * 30), ["a", None, None])
    assert found.values == [9, 6, 1]
    assert found.counts == {"asked": 3, "scored": 3, "unreadable": 0, "failed": 0, "asked_again": 0}
    assert found.texts[1] == "So long. [[6]]"
    assert prompts.kind_of(asker.asked[0].messages) == "score"
    assert prompts.sections(asker.asked[0].messages[1]["content"])["reference answer"] == "a"
    assert "reference answer" not in prompts.sections(asker.asked[1].messages[1]["content"])


def test_turns_are_scored_as_a_conversation() -> None:
    asker = Fake(lambda text, sample: "[[7]]")
    found = Judge(asker).score_turns([("q1", "q2")], [("a1", "a2")], [("r1",)])
    assert found.values == [7]
    names = {"instruction 1", "reference answer 1", "answer 1", "instruction 2", "answer 2"}
    assert set(prompts.sections(asker.asked[0].messages[1]["content"])) == names


@pytest.mark.parametrize("said", [PROSE, "[[11]]", "[[0]]", "[7]", "seven", "", "[[-3]]", "7/10", "[[A]]"])
def test_what_is_no_rating_is_none_and_counted(said: str) -> None:
    asker = Fake(lambda text, sample: said)
    found = Judge(asker).score(pairs("a", "b"))
    assert found.values == [None, None]
    assert found.counts == {"asked": 2, "scored": 0, "unreadable": 2, "failed": 0, "asked_again": 2}
    assert [request.sample for request in asker.asked] == [0, 0, 1, 1]


def test_only_the_unreadable_is_asked_again_and_a_failure_is_not() -> None:
    def says(text: str, sample: int) -> str | None:
        answer = prompts.sections(text)["answer"]
        return {"mute": PROSE if sample == 0 else "[[4]]", "gone": None, "worse": PROSE if sample == 0 else None}.get(
            answer, "[[8]]"
        )

    asker = Fake(says)
    found = Judge(asker).score(pairs("mute", "gone", "fine", "worse"))
    assert found.values == [4, None, 8, None]
    assert found.counts == {"asked": 4, "scored": 2, "unreadable": 0, "failed": 2, "asked_again": 2}
    assert found.texts == ["[[4]]", None, "[[8]]", None]
    assert len(asker.asked) == 6


@given(st.lists(st.sampled_from(["[[5]]", PROSE, "[[11]]", None]), max_size=12))
def test_counts_add_up_whatever_a_judge_says(replies: list[str | None]) -> None:
    found = Judge(Fake(lambda text, sample: replies[int(prompts.sections(text)["answer"])])).score(
        pairs(*map(str, range(len(replies))))
    )
    counts = found.counts
    assert counts["asked"] == len(replies) == counts["scored"] + counts["unreadable"] + counts["failed"]
    assert counts["scored"] == sum(value is not None for value in found.values) == replies.count("[[5]]")
    games = Judge(Fake(lambda text, sample: replies[int(prompts.sections(text)["instruction"])])).compare(
        [Contest(str(i), "a", "b") for i in range(len(replies))]
    )
    assert games.counts["asked"] == sum(
        games.counts[k] for k in ("won", "lost", "tied", "mixed", "unreadable", "failed")
    )
    assert games.scores == [None] * len(replies)


@pytest.mark.parametrize("recovers", [True, False])
def test_a_reply_that_was_cut_off_has_come_to_no_verdict(recovers: bool) -> None:
    def ends(sample: int) -> str:
        return "stop" if recovers and sample else "length"

    asker = Fake(lambda text, sample: f"It may seem a [[{3 + sample}]]", ends)
    scores = Judge(asker).score(pairs("a", "b"))
    assert scores.values == ([4, 4] if recovers else [None, None])
    assert scores.counts["asked_again"] == 2
    assert scores.counts["unreadable"] == (0 if recovers else 2)
    assert len(asker.asked) == 4  # once more and never again
    games = Judge(Fake(lambda text, sample: "It may seem [[C]]", ends)).compare(CONTESTS)
    assert games.scores == ([0.5] * 3 if recovers else [None] * 3)
    assert games.counts["asked_again"] == 6
    for missing, number in ((scores.missing, 2), (games.missing, 3)):
        assert set(missing) == (set() if recovers else set(range(number)))
        assert all("cut off (finish_reason 'length')" in why for why in missing.values())


def test_what_has_no_verdict_is_named_with_its_reason() -> None:
    def says(text: str, sample: int) -> str | None:
        parts = prompts.sections(text)
        return {"mute": PROSE, "gone": None}.get(parts.get("answer") or parts["answer A"], "[[8]] [[A]]")

    scores = Judge(Fake(says)).score(pairs("fine", "mute", "gone"))
    assert set(scores.missing) == {1, 2}
    assert scores.missing[1] == f"the judge gives no single rating from 1 to 10 in the form [[7]]: {PROSE!r}"
    assert scores.missing[2] == "the endpoint answers 500, five times in a row"
    games = Judge(Fake(says)).compare([Contest("p", "x", "y"), Contest("q", "gone", "mute"), Contest("r", "x", "mute")])
    assert list(games.missing) == [1, 2]
    assert "500" in games.missing[1]
    assert "no single verdict" in games.missing[2]


def test_a_rating_of_nan_is_none() -> None:
    found = agreement([1.0, float("nan"), 9.0, None], [False, True, True, True])
    assert found == agreement([1.0, None, 9.0, None], [False, True, True, True])
    assert found.counts == {"answers": 4, "scored": 2, "unscored": 2, "right": 1}


def test_lists_that_do_not_pair_up_are_one_sentence() -> None:
    judge = Judge(Fake(shortest))
    games = judge.compare(CONTESTS)
    for call in (
        lambda: judge.score(pairs("a"), ["r", "s"]),
        lambda: judge.score_turns([["q"]], []),
        lambda: win_rate(games, ["p"]),
        lambda: position_bias(games, ["p"]),
    ):
        with pytest.raises(BadRequest, match="as many of each"):
            call()


def test_nothing_asked_is_nothing_sent() -> None:
    asker = Fake(shortest)
    assert ask(asker, []) == []
    assert Judge(asker).score([]).counts["asked"] == 0
    assert asker.asked == []


def test_an_honest_judge_wins_in_both_orders() -> None:
    found = Judge(Fake(shortest)).compare(CONTESTS)
    assert found.scores == [1, 0, 0.5]
    assert found.verdicts == [("A", "B"), ("B", "A"), ("tie", "tie")]
    assert [found.counts[name] for name in ("won", "lost", "tied", "mixed", "unreadable", "failed")] == [
        1,
        1,
        1,
        0,
        0,
        0,
    ]
    bias = position_bias(found)
    assert bias.follows is not None
    assert bias.first is not None
    assert (bias.follows.mean, bias.first.mean, bias.contests) == (0, 0.5, 2)
    rate = win_rate(found)
    assert (rate.mean, rate.n_rules, rate.over) == (0.5, 3, "questions")
    assert rate.lo < 0.5 < rate.hi


@pytest.mark.parametrize("position", ["A", "B"])
def test_a_judge_of_positions_decides_nothing_and_is_found_out(position: str) -> None:
    contests = [Contest(str(i), "a", "b") for i in range(40)]
    found = Judge(Fake(lambda text, sample: f"[[{position}]]")).compare(contests)
    assert found.scores == [0.5] * 40
    assert found.counts["mixed"] == 40
    bias = position_bias(found)
    assert bias.follows is not None
    assert bias.first is not None
    assert (bias.follows.mean, bias.first.mean) == (1, float(position == "A"))
    assert bias.follows.lo > 0.9
    assert win_rate(found).mean == 0.5


def test_a_judge_who_guesses_follows_the_position_half_the_time() -> None:
    rng = np.random.default_rng(0)
    contests = [Contest(str(i), "a", "b") for i in range(400)]
    found = Judge(Fake(lambda text, sample: f"[[{'AB'[rng.integers(2)]}]]")).compare(contests)
    bias, rate = position_bias(found), win_rate(found)
    assert bias.follows is not None
    assert bias.first is not None
    for share in (bias.follows, bias.first, rate):
        assert share.lo < 0.5 < share.hi
    assert 0.08 < bias.follows.hi - bias.follows.lo < 0.12


def test_a_judge_without_verdicts_has_no_win_rate() -> None:
    found = Judge(Fake(lambda text, sample: PROSE)).compare(CONTESTS)
    assert found.scores == [None] * 3
    assert found.counts["unreadable"] == 3
    assert position_bias(found) == (None, None, 0)
    with pytest.raises(BadRequest) as refused:
        win_rate(found)
    assert str(refused.value) == "none of 3 contests has two readable verdicts: no win rate"
    half = Judge(Fake(lambda text, sample: "[[A]]" if prompts.sections(text)["answer A"] == "a" else PROSE))
    assert half.compare(CONTESTS[:1]).scores == [None]  # one order alone decides nothing
    gone = Judge(Fake(lambda text, sample: "[[A]]" if prompts.sections(text)["answer A"] == "a" else None))
    assert gone.compare(CONTESTS[:1]).counts["failed"] == 1


def test_swapping_the_sides_swaps_the_scores() -> None:
    judge = Judge(Fake(shortest))
    there = judge.compare([Contest(c.question, c.other, c.one) for c in CONTESTS])
    assert there.scores == [1 - s for s in judge.compare(CONTESTS).scores if s is not None]


def test_difficulties_are_the_shortfall_and_say_what_is_missing() -> None:
    def says(text: str, sample: int) -> str:
        answer = prompts.sections(text)["answer"]
        return PROSE if answer == "?" else f"[[{answer}]]"

    found = difficulties(Judge(Fake(says)), list("wxyz"), ["3", "9", "?", "5"], ["10", "8", "9", "?"])
    assert found.mfd == [-7, 1, None, None]
    assert found.counts == {"pairs": 4, "scored": 2, "student_unscored": 1, "public_unscored": 1}
    assert found.student.counts["asked_again"] == 1
    with pytest.raises(BadRequest) as refused:
        difficulties(Judge(Fake(says)), ["w"], ["3"], [])
    assert str(refused.value) == "1 questions, 1 student's and 0 public answers: as many of each"


def test_clustered_is_the_bootstrap_of_the_house() -> None:
    values, groups = [1.0, 0.0, 1.0, 1.0, 0.5], ["p", "p", "q", "r", "r"]
    found = clustered(values, groups)
    house = cluster_bootstrap([2, 2, 3], [4, 2, 4])  # in halves
    assert (found.mean, found.n_rules) == (0.7, 3)
    assert (found.lo, found.hi) == pytest.approx((house.lo, house.hi), abs=1e-12)


def test_agreement_known_answers() -> None:
    scores = [10, 10, 10, 4, 4, None, 1, 10, 1, 4]
    right = [True, True, True, False, True, True, False, False, False, False]
    found = agreement(scores, right)
    assert found.counts == {"answers": 10, "scored": 9, "unscored": 1, "right": 4}
    assert found.accuracy.mean == pytest.approx(7 / 9)
    assert found.kappa is not None
    assert found.kappa.mean == pytest.approx((7 / 9 - 41 / 81) / (1 - 41 / 81))
    assert found.auc is not None
    assert found.auc.mean == pytest.approx((3 * (4 + 0.5) + (2 + 2 / 2)) / 20)
    assert [(level.score, level.answers, level.share_right.mean) for level in found.table] == [
        (1, 2, 0),
        (4, 3, pytest.approx(1 / 3)),
        (10, 4, 0.75),
    ]
    for estimate in (found.accuracy, found.kappa, found.auc, *(level.share_right for level in found.table)):
        assert estimate.lo < estimate.hi
        assert estimate.lo <= estimate.mean <= estimate.hi
    assert agreement(scores, right) == found


def test_the_area_under_the_curve_is_what_scipy_finds() -> None:
    rng = np.random.default_rng(1)
    right = rng.random(300) < 0.4
    scores = np.clip(np.round(4 + 3 * right + 2 * rng.normal(size=300)), 1, 10)
    found = agreement(scores.tolist(), right.tolist(), threshold=7).auc
    u = mannwhitneyu(scores[right], scores[~right]).statistic
    assert found is not None
    assert found.mean == pytest.approx(u / (right.sum() * (~right).sum()))
    assert found.lo < found.mean < found.hi
    assert 0.05 < found.hi - found.lo < 0.12  # Hanley and McNeil's standard error is about 0.02


def test_a_perfect_judge_and_a_blind_one() -> None:
    right = [i % 3 == 0 for i in range(60)]
    perfect = agreement([10 if r else 1 for r in right], right)
    blind = agreement([10] * 60, right)
    assert perfect.kappa is not None
    assert perfect.auc is not None
    assert (perfect.accuracy.mean, perfect.kappa.mean, perfect.auc.mean) == (1, 1, 1)
    assert perfect.kappa.lo < 1  # no interval without width
    assert blind.auc is not None
    assert blind.auc.mean == 0.5
    assert blind.kappa is not None
    assert blind.kappa.mean == 0
    assert agreement([10, 1], [True, True]).auc is None
    assert agreement([10, 10], [True, True]).kappa is None


def test_clusters_widen_the_intervals() -> None:
    rng = np.random.default_rng(0)
    hard = np.repeat(rng.random(20) < 0.5, 20)
    right = (rng.random(400) < np.where(hard, 0.05, 0.95)).tolist()
    scores = np.where(hard, 10, rng.integers(9, 11, 400)).tolist()  # wrong on the hard questions, all alike
    alone = agreement(scores, right).accuracy
    together = agreement(scores, right, groups=np.repeat(np.arange(20), 20).tolist()).accuracy
    assert together.hi - together.lo > 2 * (alone.hi - alone.lo)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.integers(1, 10), st.booleans()), min_size=2, max_size=30))
def test_the_order_of_the_answers_does_not_matter(rows: list[tuple[int, bool]]) -> None:
    one = agreement([s for s, _ in rows], [r for _, r in rows])
    other = agreement([s for s, _ in reversed(rows)], [r for _, r in reversed(rows)])
    assert one.accuracy.mean == other.accuracy.mean
    assert [(level.score, level.answers) for level in one.table] == [
        (level.score, level.answers) for level in other.table
    ]
    assert (one.auc and one.auc.mean) == pytest.approx(other.auc and other.auc.mean)


def test_what_agreement_refuses() -> None:
    for scores, right, said in [
        ([1], [], "1 ratings, 0 grades and 1 groups: as many of each"),
        ([None, None], [True, False], "none of 2 answers has a rating: no agreement to measure"),
    ]:
        with pytest.raises(BadRequest) as refused:
            agreement(scores, right)
        assert str(refused.value) == said
