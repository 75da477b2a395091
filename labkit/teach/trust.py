"""How far a teacher, judge and classifier can be trusted: its word beside the exact grading of the lab's families.

Asked of each family are unseen instructions. Of each its right answer and a wrong one of the same form are rated, the
instruction is sorted into a kind of task, and it is answered. Shares come with intervals, whole instructions resampled.
"""

from collections.abc import Sequence
from random import Random
from typing import Any

from labkit.grade.intervals import Estimate
from labkit.instructions.families import EVERY
from labkit.instructions.family import Task, draw
from labkit.teach import distil, prompts
from labkit.teach.client import Failure
from labkit.teach.judge import Asker, Judge, agreement, ask, clustered

TIE = 0.5
JUDGED = "right rated above wrong (chance .5)"


def trust(asker: Asker, families: Sequence[str], n: int, seed: int = 0) -> list[dict[str, Any]]:
    """One row per family, `n` questions of level 1 each, and one of all of them.

    `answers right` are those that the family's oracle accepts, as written; of the kinds a guess would be right once in
    their number. A share of which nothing could be read is empty.
    """
    tasks = [task for name in families for task in draw(EVERY[name], n, split="test", levels=[1], seed=seed)]
    rng = Random(f"trust {seed}")
    wrong = [EVERY[t.example.source].distractors(t.instruction, t.example.input, rng, 1)[0] for t in tasks]
    questions, judge = [distil.question_of(task.example) for task in tasks], Judge(asker)
    pairs = [prompts.Pair(*pair) for pair in zip(questions, (task.example.output for task in tasks), strict=True)]
    good, bad = judge.score(pairs).values, judge.score(list(map(prompts.Pair, questions, wrong))).values
    kinds: dict[str, str] = {EVERY[name].task_type: "" for name in families}
    named = distil.classify_all(asker, questions, kinds).kinds
    replies = ask(asker, [prompts.answer(question) for question in questions])
    above = [_above(*both) for both in zip(good, bad, strict=True)]
    lines = list[dict[str, Any]]()
    for name in ("all", *families):
        own = [i for i, task in enumerate(tasks) if name in ("all", task.example.source)]
        lines.append({
            "family": name, "questions": len(own),
            JUDGED: _share(tasks, [(i, share) for i in own if (share := above[i]) is not None]),
            f"kind named right (chance {1 / len(kinds):.2f})": _share(
                tasks, [(i, float(named[i] == EVERY[tasks[i].example.source].task_type)) for i in own]
            ),
            "answers right": _share(tasks, [(i, _accepted(tasks[i], replies[i])) for i in own]),
        })  # fmt: skip
    keys = [task.instruction.key for task in tasks]
    if any(value is not None for value in [*good, *bad]):
        found = agreement([*good, *bad], [True] * len(tasks) + [False] * len(tasks), [*keys, *keys])
        lines[0]["AUC of the rating"] = found.auc and _words(found.auc)
    return lines


def _above(right: float | None, wrong: float | None) -> float | None:
    """Is the right answer rated above the wrong one? None where a rating is missing."""
    if right is None or wrong is None:
        return None
    return TIE if right == wrong else float(right > wrong)


def _accepted(task: Task, reply: Any) -> float:
    """Does the family's oracle accept what was written?"""
    if isinstance(reply, Failure):
        return 0.0
    family, text = EVERY[task.example.source], prompts.without_reasoning(reply.text).strip()
    return float(family.accepts(task.instruction, task.example.input, text))


def _share(tasks: Sequence[Task], values: Sequence[tuple[int, float]]) -> str:
    """The mean with its interval, instructions resampled."""
    if not values:
        return ""
    return _words(clustered([value for _, value in values], [tasks[i].instruction.key for i, _ in values]))


def _words(found: Estimate) -> str:
    return f"{found.mean:.3f} [{found.lo:.3f}, {found.hi:.3f}]"
