"""What a learner says of records, one number or vector each: what methods of selection look at (`design.selection`).

Guaranteed: nothing is learned; a record's number does not depend on the others, but for rounding. Unlike LESS, whose
gradients are those of Adam at several states of a model, projected at random, gradients here are plain ones at one
state; see `learn.vectors` for the weights that they are of.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from labkit.instructions import Example
from labkit.learn.learner import Learner

Floats = NDArray[np.floating]


def losses(learner: Learner, examples: Sequence[Example]) -> Floats:
    """Nats per token of each answer, its end mark included, [N]."""
    found = learner.likelihood(examples, [[example.output] for example in examples])
    return -found.total[:, 0] / found.tokens[:, 0]


def ifd(learner: Learner, examples: Sequence[Example]) -> Floats:
    """Instruction-following difficulty s(A | Q) / s(A), s in nats per token, [N] (Li et al. 2024, arXiv 2308.12032).

    A without Q is the answer to an empty question, so that templates and end marks are in both.
    """
    alone = [replace(example, instruction="", input="") for example in examples]
    return losses(learner, examples) / losses(learner, alone)


def gradient_likeness(learner: Learner, pool: Sequence[Example], target: Sequence[Sequence[Example]]) -> Floats:
    """How far learning a record goes the way of a target (LESS, Xia et al. 2024, arXiv 2402.04333), [N].

    The mean cosine of its gradient with those of a part's records, of the target's parts the highest.
    """
    aims = np.stack([np.mean([_unit(vector) for _, vector in learner.vectors(part, "gradients")], 0)
                     for part in target])  # fmt: skip
    found = np.zeros(len(pool))
    for place, vector in learner.vectors(pool, "gradients"):
        found[place] = (aims @ _unit(vector)).max()
    return found


def states(learner: Learner, examples: Sequence[Example]) -> Floats:
    """What the learner reads of each example, [N, d]."""
    found = dict(learner.vectors(examples, "states"))
    return np.stack([found[place] for place in range(len(examples))])


def state_likeness(learner: Learner, pool: Sequence[Example], target: Sequence[Example]) -> Floats:
    """Cosines of the pooled hidden states of each record of a target with each of a pool (RDS+), [m, N]."""
    return states(learner, target) @ states(learner, pool).T


def _unit(vector: Floats) -> Floats:
    return vector / max(float(np.linalg.norm(vector)), 1e-12)
