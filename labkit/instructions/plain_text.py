"""Plain text of the instruction families: what a small base model is pre-trained on.

Documents show what a family's inputs, answers and requests look like, without the form of an instruction: no document
of a general family holds a request together with its answer, and no text has a question's or an answer's mark. Code is
the exception that code files make: a function may stand below a comment that says what it does. Where texts are
`answered`, general families make it as well: half of their documents are a request as a heading, its input and its
answer, and half of these requests make a demand on the answer's form (`constraints`); code's never do. Everything is
drawn from the training split, so that held-out instructions stay unseen.
"""

from collections.abc import Iterator, Sequence
from random import Random

from labkit.instructions.constraints import any_constraint
from labkit.instructions.families import EVERY
from labkit.instructions.family import Task, draw
from labkit.instructions.functions import FUNCTIONS

AT_ONCE = 2000  # tasks of each family that are drawn together


def plain_text(families: Sequence[str], *, levels: Sequence[int], seed: int, answered: bool = False) -> Iterator[str]:
    """Endless documents, the families in turn; equal seeds give equal texts.

    Raises:
        BadRequest: for a level that is not 1, 2 or 3.
    """
    rng, number = Random(f"plain text {seed}"), 0
    while True:
        drawn = [draw(EVERY[name], AT_ONCE, levels=levels, seed=1_000_000 * (seed + 1) + number) for name in families]
        number += 1
        for tasks in zip(*drawn, strict=True):
            yield from (document(task, rng, answered) for task in tasks)


def document(task: Task, rng: Random, answered: bool = False) -> str:
    """One document about a task: its code, or its input and answer in some order, or its request; see the module."""
    example = task.example
    if example.source == FUNCTIONS.name:
        return rng.choice((example.output, f"# {example.instruction}\n{example.output}"))
    if answered and rng.random() < 0.5:
        example = any_constraint(rng).of(task).example if rng.random() < 0.5 else example
        return "\n".join(text for text in (f"# {example.instruction}", example.input, example.output) if text)
    worked = EVERY[example.source].worked(task.instruction, example.input)
    pair = [text for text in (example.input, rng.choice((example.output, worked))) if text]
    rng.shuffle(pair)
    return rng.choice(("\n".join(pair), "\n".join(pair), example.instruction))
