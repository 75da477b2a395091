"""Exact match without a generation loop.

Greedy decoding writes argmax p(. | prompt, what it wrote so far). If it has written the target up to position
t, it conditions on the very prefix that teacher forcing feeds for t + 1; so, by induction, it yields exactly
the target if and only if the argmax under teacher forcing equals the target at every position. One forward
pass over prompt + target therefore grades a greedy decoder; where the two part, *what* it would have written
stays unknown.

Two conditions. Answers of varying length end in a stop token that counts as part of the target, else a longer
answer with the right start would pass. And both sides compute the same numbers: half precision or a key-value
cache can break a near tie differently.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from labkit.errors import BadRequest
from labkit.grade.intervals import Counts

if TYPE_CHECKING:  # the caller brings the tensors: reading results needs no torch
    from torch import Tensor


def exact_match(predicted: Tensor, target: Tensor, *, ignore: int = -100) -> Tensor:
    """Whole answers right: bool [N], from tokens `predicted` and `target` (both int [N, T], on one device).

    `predicted[:, t]` is the teacher-forced argmax *for* the token `target[:, t]`, that is, already shifted.
    Positions where the target is `ignore` (prompt, padding; the label mask's -100) are not compared.

    Raises `BadRequest` where the shapes differ, and where a row has nothing to compare: it would pass unseen.
    """
    if predicted.shape != target.shape or target.ndim != 2:
        shapes = f"{tuple(predicted.shape)} and {tuple(target.shape)}"
        raise BadRequest(f"predicted and target tokens must be of one shape [N, T], not {shapes}")
    counted = target != ignore
    if not bool(counted.any(dim=1).all()):
        raise BadRequest("a row of the target has no answer token to compare: check its label mask")
    return ((predicted == target) | ~counted).all(dim=1)


def per_rule_counts(matches: Tensor, rule_index: Tensor, n_rules: int) -> Counts:
    """Right answers and questions a rule, (right, asked), each int [n_rules]: what the intervals resample.

    `matches` is bool [N]; `rule_index`, int [N], says which rule an answer belongs to. A rule never asked
    counts (0, 0).

    Raises `BadRequest` where the lengths differ or an index is not among the `n_rules`.
    """
    marks, rule = matches.cpu().numpy(), rule_index.cpu().numpy()
    if not np.isin(marks, (0, 1)).all() or (rule.size and rule.dtype.kind not in "iu"):
        raise BadRequest("matches are right or wrong, and rules are named by whole numbers")
    right = marks.astype(bool)
    if right.shape != rule.shape or right.ndim != 1:
        raise BadRequest(f"every answer needs the index of its rule: {right.shape} answers, {rule.shape} indices")
    if np.any(rule < 0) or np.any(rule >= n_rules):
        raise BadRequest(f"a rule index lies outside 0..{n_rules - 1}")
    return Counts(np.bincount(rule[right], minlength=n_rules), np.bincount(rule, minlength=n_rules))
