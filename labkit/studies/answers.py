"""What the lab answers to an exercise: one small function per kind of question, over its own oracles and statistics.

The functions of the first part give what is right; exercises also use them for mistakes, which are right answers to
another question. Those of the second part are for questions with many right answers: they take what a person wrote
first, and return "" where it is right, else a hint that fits it.
"""

from collections.abc import Mapping, Sequence
from itertools import islice
from math import inf, prod

import numpy as np
import torch
from scipy import stats

from labkit.design import bandits, curriculum, hill_number
from labkit.design.diversity import MEASURES, Sample
from labkit.grade import choice, decision, growth, pass_at_k, sweet_spot, transference
from labkit.instructions import KINDS, Rule, Space, belongs_plain, equations, markov
from labkit.instructions.encrypted import encrypt_plain
from labkit.instructions.spaces import Kind
from labkit.learn.batches import Batch
from labkit.learn.train import LOSSES, Loss, weights
from labkit.studies.harness import LEARNED
from labkit.studies.ranks import spearman

Losses = Sequence[tuple[float, int]]  # of each answer: the loss at every token, and how many tokens it has


def product(of: Sequence[float]) -> float:
    return prod(of)


def total(of: Sequence[float]) -> float:
    return sum(of)


def ratio(of: Sequence[float], to: Sequence[float]) -> float:
    return prod(of) / prod(to)


def part(of: float, share: float) -> float:
    return of * share


def share_of(part: float, others: Sequence[float]) -> float:
    return part / (part + sum(others))


def rewritten(rule: str, text: str) -> str:
    return Rule.parse(rule).apply(text)


def last_rewritten(rule: str, text: str) -> str:
    one = Rule.parse(rule)
    before, _, after = text.rpartition(one.pattern)
    return before + one.replacement + after


def all_rewritten(rule: str, text: str) -> str:
    one = Rule.parse(rule)
    return text.replace(one.pattern, one.replacement)


def last_text(rules: str, text: str) -> str:
    return markov.run(markov.parse(rules), text).output


def text_after(rules: str, text: str, steps: int) -> str:
    *_, last = islice(markov.run(markov.parse(rules), text).trace, steps)
    return last.after


def steps_of(rules: str, text: str) -> int:
    return markov.run(markov.parse(rules), text).steps


def encrypted(text: str, shift: int, alphabet: str) -> str:
    return encrypt_plain(text, shift, alphabet)


def needing_the_rule(budget: int, noop_share: float) -> float:
    return budget * (1 - noop_share)


def adapter_numbers(rank: int, inputs: int, outputs: int) -> int:
    """A is [rank, inputs], B is [outputs, rank] (Hu et al. 2021, arXiv 2106.09685)."""
    return rank * (inputs + outputs)


def follows(rule: str, text: str, answer: str) -> str:
    return "yes" if equations.TEXTBOOK[rule].follows(text, answer) else "no"


def verdict(lo: float, hi: float, low: float = -inf, high: float = inf, seeds: int = 2) -> str:
    return decision.decide([decision.Evidence(lo, hi, low, high, seeds)])


def least_difference(one: tuple[float, float], other: tuple[float, float]) -> float:
    return decision.difference(one, other)[0]


def passes_the_gate(accuracy: float) -> str:
    return "yes" if accuracy >= LEARNED else "no"


def hill(counts: Sequence[int], order: float) -> float:
    return hill_number(counts, order)


def passing(n: int, c: int, k: int) -> float:
    return float(pass_at_k.pass_at_k([n], [c], k)[0])


def with_replacement(n: int, c: int, k: int) -> float:
    return 1.0 - (1 - c / n) ** k


def spot(dial: Sequence[float], means: Sequence[float], seeds: int, problems: int = 100) -> str:
    """What is said of a dial where so many problems of each seed pass."""
    passed = np.arange(problems) < np.round(problems * np.array(means))[:, None]
    return sweet_spot(dial, [passed.astype(float)] * seeds).verdict


def hard(mfd: Sequence[float], delta: float) -> int:
    return len(curriculum.select(mfd, delta).hard)


def last_share(alpha_0: float, delta_alpha: float, rounds: int) -> float:
    return curriculum.schedule(alpha_0, delta_alpha, rounds)[-1]


def above_chance(accuracy: float, options: int) -> float:
    return float(choice.correct(accuracy, choice.chance_level([options])))


def on_curve(plateau: float, pace: float, steepness: float, volume: int) -> float:
    curve = {"plateau": plateau, "pace": pace, "steepness": steepness, "sudden": False}
    return float(growth.Curves.of(curve).at([volume])[0, 0])


def most_gained(curves: Mapping[str, tuple[float, float, float]], volume: int, more: int) -> str:
    return max(curves, key=lambda name: on_curve(*curves[name], volume + more) - on_curve(*curves[name], volume))


def effect(together: float, without: float) -> float:
    return together - without


def by_chance(cells: int) -> float:
    return (1 - transference.LEVEL) * cells


def discoveries(p: Sequence[float]) -> int:
    return int((stats.false_discovery_control(p) <= transference.RATE).sum())


def mean_loss(losses: Losses, over: Loss) -> float:
    """The loss of a batch of such answers, weighed as training weighs it."""
    longest = max(tokens for _, tokens in losses)
    real = torch.tensor([[place < tokens for place in range(longest)] for _, tokens in losses])
    nats = torch.tensor([[loss] * longest for loss, _ in losses]).flatten()
    batch = Batch(real[None].long(), longest, torch.arange(real.numel())[None], real.flatten()[None].long(), filling=0)
    return float((weights(batch, over)[0] * nats).sum())


def same_mean(losses: Losses) -> str:
    """Which loss the mean of batches of one answer each is."""
    alone = float(np.mean([mean_loss([one], "token") for one in losses]))
    return next(name for name in LOSSES if abs(mean_loss(losses, name) - alone) < 1e-6)


def rank_correlation(one: Sequence[float], other: Sequence[float]) -> float:
    return float(spearman(np.array(one, float), np.array(other, float)))


def least_chance(tasks: int) -> float:
    return bandits.EXPLORATION / tasks


def first_informed_round(tasks: int) -> int:
    """The first round in which Thompson sampling has seen a reward of every task."""
    chosen: list[tuple[int, float]] = []
    while len({task for task, _ in chosen}) < tasks:
        chosen.append((bandits.thompson(chosen, tasks, 0), 0.0))
    return len(chosen) + 1


def trigrams(texts: Sequence[str]) -> float:
    return MEASURES["trigrams"].of(Sample(texts, np.zeros((len(texts), 1), np.float64), np.ones(len(texts), np.int64)))


def vendi(alike: Sequence[int]) -> float:
    """Of groups of so many instructions: equal vectors within a group, right angles between groups."""
    vectors = np.repeat(np.eye(len(alike)), alike, axis=0)
    texts = [str(place) for place in range(len(vectors))]
    return MEASURES["vendi"].of(Sample(texts, vectors, np.ones(len(texts), np.int64)))


def best_of(n: int, spread: float) -> float:
    """How far above their common truth the best of n runs lies, on average over 20,000 draws."""
    return float(np.random.default_rng(0).normal(0, spread, (20_000, n)).max(axis=1).mean())


def judge_shared_out(answer: str, rules: int, total: int, least: float) -> str:
    """Uneven counts of so many rules that add up and are worth enough by the Hill number of order 2."""
    words = answer.replace(",", " ").split()
    if not all(word.isdecimal() for word in words) or len(words) != rules:
        return f"Write {rules} whole numbers."
    counts = [int(word) for word in words]
    if sum(counts) != total:
        return f"These add up to {sum(counts)}, not to {total}."
    if len(set(counts)) == 1:
        return "These are equal parts. Make them uneven."
    worth = hill_number(counts, 2)
    return "" if worth >= least else f"This set is worth {worth:.2f} rules: too uneven."


def judge_ambiguous(answer: str, rule: str, longest: int) -> str:
    """An input on which the leftmost and the rightmost occurrence give different answers."""
    if len(answer) > longest:
        return f"That has {len(answer)} letters: {longest} at most."
    if Rule.parse(rule).pattern not in answer:
        return "The pattern does not occur in it, so both leave it as it is."
    same = rewritten(rule, answer) == last_rewritten(rule, answer)
    return f"Leftmost and rightmost both give {rewritten(rule, answer)}: the pattern occurs once." if same else ""


def judge_of_kind(answer: str, kind: Kind, k: int, length: int, but: Kind) -> str:
    """A string of one constrained kind and not of another."""
    if len(answer) != length or not answer.isalpha():
        return f"Write {length} letters: that has {len(answer)}."
    if not belongs_plain(Space(kind, k), answer):
        also = next((other for other in KINDS if other != kind and belongs_plain(Space(other, k), answer)), None)
        return f"That is {also}, not {kind}." if also else f"That is not {kind} at k = {k}."
    return f"That is {kind}, but {but} as well: use a block that differs from itself backwards." * belongs_plain(
        Space(but, k), answer
    )


def judge_followed(answer: str, rule: str, text: str) -> str:
    """An expression after a rule was applied inside it."""
    one = equations.TEXTBOOK[rule]
    if one.follows(text, answer):
        return ""
    if answer == text:
        return "That is the expression itself. Where does the left side of the rule occur in it?"
    if one.equals(text, answer):
        return "That is equal for all values, but the rule was not applied."
    return "That is not equal to the expression. Check the order: an operator stands before its operands."


def judge_order_decides(answer: str, rules: Sequence[str], longest: int) -> str:
    """An input on which a program gives another answer when its rules change places."""
    if len(answer) > longest:
        return f"That has {len(answer)} letters: {longest} at most."
    one, other = (last_text("\n".join(order), answer) for order in (rules, rules[::-1]))
    return f"In both orders the answer is {one}." if one == other else ""
