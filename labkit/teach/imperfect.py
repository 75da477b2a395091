"""Teachers that are wrong on purpose, and filters of what they say.

    right     the oracle's answer, terse            worked    the same after its intermediate results
    wrong:s   a share s of other, random answers    weak      a model's own answers, which come from elsewhere
    flaw:s    one wrong rule: a translation whose subject is one of a share s of nouns has its verb first

A filter may follow a name, as in `flaw:0.3+majority`. It has two more teachers, `wrong:0.1`, whose slips are their own:
`agree` keeps what one of them says too, `majority` what two of three say, `judge` what a noisy judge rates 9 or more.

Guaranteed: equal tasks and seeds get equal answers; a wrong answer is wrong by the family's oracle, a flawed one is no
answer that the grammar allows. Left open: random slips are independent between teachers, which those of real ones are
not.
"""

from collections.abc import Sequence
from random import Random

from labkit.errors import BadRequest, unknown
from labkit.instructions.families import EVERY
from labkit.instructions.family import Task
from labkit.instructions.lexicon import TOY
from labkit.teach import oracle, prompts
from labkit.teach.distil import question_of

FLAWED = "translation"  # the family that a systematic flaw is in
TEACHERS, FILTERS = ("right", "worked", "wrong", "weak", "flaw"), ("", "agree", "majority", "judge")
OTHERS = "wrong:0.1"  # a filter's other teachers
JUDGE, LEAST = (
    oracle.Flaws(noise=1.0),
    9,
)  # standard deviation of the judge's error, and the rating that keeps an answer
PLACES = {word: place for place, pair in enumerate(TOY["NOUN"]) for word in pair}
VERBS = {word for pair in TOY["VERB"] for word in pair}


def parts(teacher: str) -> tuple[str, float, str]:
    """Kind, share and filter of a teacher's name.

    Raises:
        BadRequest: for an unknown teacher or filter, or a share that is none, or too much.

    >>> parts("flaw:0.3+judge"), parts("weak")
    (('flaw', 0.3, 'judge'), ('weak', 0.0, ''))
    """
    name, plus, how = teacher.partition("+")
    kind, colon, text = name.partition(":")
    if kind not in TEACHERS:
        raise unknown("teacher", kind, TEACHERS)
    if how not in FILTERS or (plus and not how):
        raise unknown("filter", how, FILTERS[1:])
    try:
        share = float(text) if colon else 0.0
    except ValueError:
        share = -1.0
    if (kind in ("wrong", "flaw")) != (0 < share <= 1) or (colon and not share):
        raise BadRequest(f"teacher '{teacher}': wrong and flaw, and no others, have a share above 0 to 1")
    return kind, share, how


def flawed(task: Task, share: float) -> str:
    """The answer of a teacher with the systematic flaw."""
    words = task.example.output.split()
    if task.example.source != FLAWED or PLACES[next(w for w in words if w in PLACES)] >= round(
        share * len(TOY["NOUN"])
    ):
        return task.example.output
    return " ".join(sorted(words, key=lambda word: word not in VERBS))


def answers(teacher: str, tasks: Sequence[Task], seed: int) -> list[str]:
    """What a teacher that is not trained answers."""
    kind, share, _ = parts(teacher)
    rng, found = Random(f"{teacher} {seed}"), list[str]()
    for task in tasks:
        family, settled = EVERY[task.example.source], (task.instruction, task.example.input)
        slips = kind == "wrong" and rng.random() < share
        plain = flawed(task, share) if kind == "flaw" else task.example.output
        found.append(family.worked(*settled) if kind == "worked" else
                     family.distractors(*settled, rng, 1)[0] if slips else plain)  # fmt: skip
    return found


def kept(how: str, given: Sequence[str], tasks: Sequence[Task], seed: int) -> list[str | None]:
    """What a filter leaves of some answers; None: nothing."""
    one, other = (answers(OTHERS, tasks, 10_000 * n + seed) for n in (1, 2))
    if how == "agree":
        return [a if a == b else None for a, b in zip(given, one, strict=True)]
    if how == "majority":
        return [a if a in (b, c) else b if b == c else None for a, b, c in zip(given, one, other, strict=True)]
    if how == "judge":
        chats = [prompts.score(question_of(task.example), text) for task, text in zip(tasks, given, strict=True)]
        rated = [prompts.read_score(oracle.reply(chat, seed=seed, flaws=JUDGE)) for chat in chats]
        return [text if (points or 0) >= LEAST else None for text, points in zip(given, rated, strict=True)]
    return list(given)
