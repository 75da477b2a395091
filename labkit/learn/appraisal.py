"""What a learner says of records, one number or vector each: what methods of selection look at (`design.selection`).

Guaranteed: nothing is learned; a record's number does not depend on the others, but for rounding. Left open: against
LESS, gradients are plain ones (no Adam moments) at one state of the model, and exact (no random projection); of a
Hugging Face model they are those of its adapter, and a fresh one is itself a random projection.
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
    parts = []
    for part in target:
        units = [gradient / max(float(np.linalg.norm(gradient)), 1e-12) for _, gradient in learner.gradients(part)]
        parts.append(np.mean(units, axis=0))
    aims, found = np.stack(parts), np.zeros(len(pool))
    for place, gradient in learner.gradients(pool):
        found[place] = (aims @ gradient).max() / max(float(np.linalg.norm(gradient)), 1e-12)
    return found


def state_likeness(learner: Learner, pool: Sequence[Example], target: Sequence[Example]) -> Floats:
    """Cosines of the pooled hidden states of each record of a target with each of a pool (RDS+), [m, N]."""
    return learner.states(target) @ learner.states(pool).T
