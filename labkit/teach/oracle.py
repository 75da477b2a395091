"""An offline teacher, judge and classifier: the instruction families' oracles behind the prompts of `labkit.teach`.

`reply` takes a chat as `labkit.teach.prompts` renders it and answers as a hosted model would, with answers computed:
a question gets the family's answer; a response to refine gets the worked answer; examples get new instructions of the
same family and level, worked where steps are asked for; an instruction gets its kind; an answer gets a rating; two
answers a verdict.

Guaranteed: equal messages, seed and flaws give equal replies; new examples are of the training split, never of a
seed's instruction, and right; a rating is 10 exactly for what `Family.accepts` takes, a fence around it aside; what a
judged text says of itself (a rating, a mark of a section) changes nothing, because it is compared and never obeyed or
run. What the oracle does not know it says in prose, which every reader of `prompts` counts as a failure; an unknown
response to refine it gives back.

Left open: only the families' own instructions are known. A judge reads and does not run: right code in other words
than the reference is rated below 10, so agreement with exact grading has to be reported beside ratings of code.

A wrong answer is rated 1 to 9 by `similarity` to the right one, workings by their share of right lines on top.
`Flaws` makes all of this worse on purpose, to show what a study makes of an imperfect teacher or judge.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from functools import lru_cache
from hashlib import sha256
from math import inf
from random import Random
from typing import Any, NamedTuple

from labkit.errors import BadRequest, unknown
from labkit.instructions.families import EVERY
from labkit.instructions.family import Family, Instruction, split_of
from labkit.instructions.recognise import recognise
from labkit.instructions.steps import PIECE, StepFamily
from labkit.teach import prompts
from labkit.teach.prompts import Message

MODEL = "oracle"  # its id; flaws are named behind a colon
VERSION = 1  # raised when it comes to say something else, so that nobody's cache keeps what it said before
AT_A_TIME = 100  # the most new pairs of one reply
LONG = 4_000  # letters: no question of a family comes near
COMPARED = 400  # the pieces of an answer, and
READ = 20_000  # its letters, that are compared with the right one
NOT_KNOWN = "I do not know how to do that."
CANNOT_TELL = "I cannot tell."
CANNOT_JUDGE = "I cannot judge this: I know neither the instruction nor a reference answer."
CANNOT_EXPAND = "I do not know how to write more of these."
_TRIES = 400  # draws in a row without a new instruction, before a level counts as exhausted
_ALSO = {  # what else a list of kinds may call a kind of task
    "mathematics": ("math", "maths", "arithmetic", "numbers"), "reasoning": ("logical reasoning", "logic", "deduction"),
    "code": ("coding", "programming", "code generation"), "editing": ("rewriting", "text editing"),
    "extraction": ("reading comprehension", "information extraction", "closed qa", "question answering", "reading"),
    "classification": ("labelling", "labeling"), "formatting": ("format", "form"), "writing": ("creative writing",),
    "knowledge": ("open qa", "facts", "world knowledge", "humanities"),
    "dialogue": ("conversation", "chat", "dialogue understanding"),
    "role-play": ("roleplay", "role play", "role-play chat"),
}  # fmt: skip
_CATCH_ALL = ("other", "others", "general", "miscellaneous")


class Flaws(NamedTuple):
    """What an imperfect teacher or judge does wrong; each is settled by a hash of the seed and the text.

    Attributes:
        wrong: Share of a teacher's answers, refinements, new pairs and classifications that are wrong: the answer to
            another instruction, another kind.
        noise: Standard deviation of a judge's error, in points of the rating; equal answers get equal errors.
        position_bias: Probability that a comparison of answers within `within` points goes to A.
        within: Points.
        mumbles: Share of a judge's replies that hold no rating or verdict.
        terse: Share of refinements and of new pairs that give the answer alone, without the steps to it.
    """

    wrong: float = 0.0
    noise: float = 0.0
    position_bias: float = 0.0
    within: float = 1.0
    mumbles: float = 0.0
    terse: float = 0.0


class Solved(NamedTuple):
    """A question that a family answers; `level` is the lowest that has its instruction (see `level_of`)."""

    family: Family
    instruction: Instruction
    level: int
    input: str
    answer: str
    worked: str


def reply(messages: Sequence[Mapping[str, Any]], *, seed: int = 0, flaws: Flaws = Flaws()) -> str:  # noqa: B008
    """What the oracle says to a chat.

    Args:
        messages: As a function of `prompts` renders them. Under another system message, or none, the last message of
            the user is read as a question: an instruction, and below it its input.
        seed: Equal seeds give equal replies; another gives other new pairs, and other flaws.
        flaws: What goes wrong on purpose.
    """
    chat: list[Message] = [{"role": m["role"], "content": m["content"]} for m in messages]
    text = next((message["content"] for message in reversed(chat) if message["role"] == "user"), "")
    kind = prompts.kind_of(chat) or "answer"
    luck = _Luck(seed, f"{kind}\0{text}")
    slow = text.count("[The start of ") * len(text) > 2e7  # to take apart; no request of `prompts` comes near
    parts = prompts.sections(text) if kind != "answer" and not slow else {}
    return _ANSWERS[kind](text, parts, luck, flaws)


@lru_cache(maxsize=256)
def flaws_of(model: str) -> Flaws:
    """The flaws that a model's id names: `oracle` has none, `oracle:noise=1.5,mumbles=0.1` has two.

    Raises:
        BadRequest: for any other id, an unknown flaw or a value outside its range.
    """
    name, _, settings = model.partition(":")
    if name != MODEL or (settings == "") != (model == MODEL):
        raise BadRequest(f"unknown model '{model}': there is `{MODEL}`, and `{MODEL}:noise=1.5` and the like")
    values: dict[str, float] = {}
    for part in settings.split(",") if settings else []:
        flaw, _, value = part.partition("=")
        if flaw not in Flaws._fields:
            raise unknown(f"flaw of the model '{MODEL}'", flaw, Flaws._fields)
        most = 100.0 if flaw in ("noise", "within") else 1.0
        with suppress(ValueError):
            values[flaw] = float(value)
        if not 0 <= values.get(flaw, -1) <= most:
            raise BadRequest(f"'{part}' of the model '{model}': {flaw} is a number from 0 to {most:g}")
    return Flaws(**values)


def similarity(answer: str, right: str) -> float:
    """How much of the right answer an answer holds, 0 to 1; 1 for equal pieces, whatever the white space.

    The mean of two shares of the longer text's pieces (words, single letters, digits, marks): those that stand in
    their place, and those in the longest common subsequence. Putting something foreign in the place of a piece never
    raises it.

    >>> similarity("4 2 3", "1 2 3") == 2 / 3
    True
    """
    one, other = (PIECE.findall(" ".join(text[:READ].lower().split()))[:COMPARED] for text in (answer, right))
    longer = max(len(one), len(other))
    if not longer:
        return 1.0
    in_place: int = sum(a == b for a, b in zip(one, other, strict=False))
    return (in_place + _common(one, other)) / (2 * longer)


def rate(question: str, response: str, reference: str | None = None) -> float | None:
    """A response's rating before rounding: 10 right, else 1 to 9; None without a known instruction or a reference."""
    known = solve(question)
    if known is None:
        if reference is None:
            return None
        return 10.0 if response.split() == reference.split() else 1 + 8 * similarity(response, reference)
    said = _bare(response)
    if _accepted(known, said):
        return 10.0
    final = similarity(known.family.final(said), known.family.final(known.answer))
    if known.worked != known.answer:
        *steps, _ = known.worked.split("\n")
        *shown, _ = said.split("\n")
        right = sum(a.strip() == b.strip() for a, b in zip(shown, steps, strict=False))
        final += (1 - final) * right / (4 * len(steps))
    return 1 + 8 * final


def solve(question: str) -> Solved | None:
    """The family's answer to a question, its instruction on the first line or lines; None when no family knows it."""
    return _solve(question.strip()) if len(question) <= LONG else None


def level_of(known: Solved) -> int:
    """The level of a question; levels of one wording are told apart by how much there is to be worked out."""
    family, instruction = known.family, known.instruction
    if not isinstance(family, StepFamily):
        return known.level
    said = [[[step.texts for step in pool] for pool in kind.pools] for kind in family.kinds]
    own = said[instruction.setting[0]]
    levels = {level for says, kind in zip(said, family.kinds, strict=True) if says == own for level in kind.levels}
    rng, far = Random(0), dict[int, float]()
    for level in sorted(level for level in levels if level >= known.level and len(levels) > 1):
        like = [one for one in (family.instruction(rng, level) for _ in range(5)) if said[one.setting[0]] == own]
        lines = [family.worked(one, family.input(one, rng, level)).count("\n") for one in like]
        far[level] = abs(known.worked.count("\n") - sum(lines) / len(lines)) if lines else inf
    return min(far, key=far.__getitem__, default=known.level)


@lru_cache(maxsize=4096)
def _solve(question: str) -> Solved | None:
    lines = question.split("\n")
    for n in range(1, min(len(lines), 6) + 1):
        text = "\n".join(lines[n:])
        found = recognise("\n".join(lines[:n]), text)
        if found and (known := _carried_out(EVERY[found.family], found.instruction, found.level, text)):
            return known
    return None


def _carried_out(family: Family, instruction: Instruction, level: int, text: str) -> Solved | None:
    """An instruction carried out; None for an input that is not of the family's form."""
    with suppress(Exception):  # an oracle may fail in any way on what its family would never draw
        answer, worked = family.answer(instruction, text), family.worked(instruction, text)
        return Solved(family, instruction, level, text, answer, worked)
    return None


def _accepted(known: Solved, answer: str) -> bool:
    with suppress(Exception):  # what a student wrote may be read in any way
        return known.family.accepts(known.instruction, known.input, answer)
    return False


# What each kind of request gets: of the request's text and quoted parts, luck and flaws

Parts = dict[str, str]


def _answer(text: str, parts: Parts, luck: "_Luck", flaws: Flaws) -> str:
    known = solve(text)
    return _given_out(known, luck, flaws).answer if known else NOT_KNOWN


def _refine(text: str, parts: Parts, luck: "_Luck", flaws: Flaws) -> str:
    known = solve(parts.get("instruction", ""))
    if not known:
        return parts.get("response", NOT_KNOWN)
    given = _given_out(known, luck, flaws)
    return given.answer if luck.share("terse") < flaws.terse else given.worked


def _given_out(known: Solved, luck: "_Luck", flaws: Flaws) -> Solved:
    return _mistaken(known, luck.rng("mistake")) if luck.share("wrong") < flaws.wrong else known


def _expand(text: str, parts: Parts, luck: "_Luck", flaws: Flaws) -> str:
    shown = prompts.pairs_of(parts.get("examples", "")).pairs
    known = (solve(f"{instruction}\n{given}" if given else instruction) for instruction, given, _ in shown)
    seeds = [seed for seed in known if seed]
    request = text.rpartition("[The end of examples]")[2]
    asked, stepwise = re.search(r"\bWrite (\d{1,6}) new ones\b", request), prompts.asks_for_steps(request)
    if not seeds or not asked:
        return CANNOT_EXPAND
    rng, mistakes = luck.rng("new"), luck.rng("mistake")
    taken = {seed.instruction.key for seed in seeds}
    levels = [(seed.family, level_of(seed)) for seed in seeds]  # each of which supplies in turn, until it is exhausted
    made: list[tuple[str, str, str]] = []
    while levels and len(made) < min(int(asked[1]), AT_A_TIME):
        family, level = levels.pop(0)
        new = _drawn(family, level, rng, taken)
        if new is None:
            levels = [other for other in levels if other != (family, level)]
            continue
        levels.append((family, level))
        taken.add(new.instruction.key)
        answered = _mistaken(new, mistakes) if mistakes.random() < flaws.wrong else new
        output = answered.worked if stepwise and luck.share("terse") >= flaws.terse else answered.answer
        made.append((rng.choice(new.instruction.phrasings), new.input, output))
    return prompts.written(made) if made else CANNOT_EXPAND


def _classify(text: str, parts: Parts, luck: "_Luck", flaws: Flaws) -> str:
    kinds = [line[2:].split(": ", 1)[0] for line in parts.get("kinds", "").split("\n") if line.startswith("- ")]
    known = solve(parts.get("instruction", ""))
    kind = known and _kind(known.family, kinds)
    if kind is None:
        return CANNOT_TELL
    others = [other for other in kinds if other != kind]
    return luck.rng("mistake").choice(others) if others and luck.share("wrong") < flaws.wrong else kind


def _score(text: str, parts: Parts, luck: "_Luck", flaws: Flaws) -> str:
    turns = [name.split()[1] for name in parts if re.fullmatch(r"instruction \d+", name)]
    turn = f" {turns[-1]}" if turns else ""
    question, response = parts.get(f"instruction{turn}"), parts.get(f"answer{turn}")
    if question is None or response is None:
        return CANNOT_JUDGE
    points = _points(question, response, parts.get(f"reference answer{turn}"), luck, flaws)
    if points is None:
        return CANNOT_JUDGE
    if luck.share("mumbles") < flaws.mumbles:
        return "There is something to be said for this answer, and something against it."
    return f"{_reason(points)} [[{points}]]"


def _compare(text: str, parts: Parts, luck: "_Luck", flaws: Flaws) -> str:
    asked, reference = parts.get("instruction", ""), parts.get("reference answer")
    answers = [parts[name] for name in ("answer A", "answer B") if name in parts]
    rated = (_points(asked, answer, reference, luck, flaws) for answer in answers)
    points = [rating for rating in rated if rating is not None]
    if len(points) < 2:
        return CANNOT_JUDGE
    if luck.share("mumbles") < flaws.mumbles:
        return "Both answers have something to be said for them."
    a, b = points
    if abs(a - b) <= flaws.within and luck.share("position") < flaws.position_bias:
        return "Answer A makes the better impression. [[A]]"
    if a == b:
        return "The answers are equally good. [[C]]"
    better = "A" if a > b else "B"
    return f"Answer {better} is closer to what is right. [[{better}]]"


_ANSWERS: dict[prompts.Kind, Callable[[str, Parts, "_Luck", Flaws], str]] = {
    "answer": _answer, "refine": _refine, "expand": _expand, "classify": _classify, "score": _score,
    "compare": _compare,
}  # fmt: skip


class _Luck(NamedTuple):
    """Chance that is settled by a seed and a text."""

    seed: int
    text: str

    def share(self, purpose: str) -> float:
        """A number from 0 to 1."""
        return int.from_bytes(self._digest(purpose)[:7], "big") / 2**56

    def rng(self, purpose: str) -> Random:
        return Random(self._digest(purpose))

    def _digest(self, purpose: str) -> bytes:
        return sha256(f"{self.seed}\0{purpose}\0{self.text}".encode("utf-8", "surrogatepass")).digest()


def _points(question: str, response: str, reference: str | None, luck: _Luck, flaws: Flaws) -> int | None:
    """A rating as it is given out, in whole points; equal answers to a question get the same error."""
    rating = rate(question, response, reference)
    if rating is None:
        return None
    best = 9 if rating < 10 and not flaws.noise else 10  # 10 is for what is right
    if flaws.noise:
        rating += _Luck(luck.seed, f"{question}\0{response}").rng("noise").gauss(0, flaws.noise)
    return min(best, max(1, round(rating)))


def _reason(points: int) -> str:
    if points == 10:
        return "The answer is right, in the form that is asked for."
    share = "most" if points > 6 else "some" if points > 2 else "little"
    return f"The answer is wrong; {share} of it is as it is to be."


def _drawn(family: Family, level: int, rng: Random, taken: set[str]) -> Solved | None:
    """A new training instruction with a fresh input; None when the level has no other left."""
    for _ in range(_TRIES):
        one = family.instruction(rng, level)
        if one.key not in taken and split_of(one.key) == "train":
            return _carried_out(family, one, level, family.input(one, rng, level))
    return None


def _mistaken(known: Solved, rng: Random) -> Solved:
    """The same input under another instruction of the family that leads to another answer.

    An input that no other instruction can be carried out on is replaced by the other's own.
    """
    family, level, text = known.family, known.level, known.input
    for attempt in range(60):
        one = family.instruction(rng, level)
        given = text if attempt < 30 else family.input(one, rng, level)
        other = _carried_out(family, one, level, given)
        if other and not _accepted(known, other.answer):
            return other
    return known


def _kind(family: Family, kinds: Sequence[str]) -> str | None:
    """The kind that fits a family best among those offered."""
    offered = {kind.casefold(): kind for kind in reversed(kinds)}
    names = [family.name, family.task_type, *_ALSO.get(family.task_type, ())]
    near = [match for name in names[:2] for match in get_close_matches(name.casefold(), offered, n=1, cutoff=0.8)]
    return next((offered[name] for name in (*names, *near, *_CATCH_ALL) if name in offered), None)


def _bare(response: str) -> str:
    """A response without white space around it, and without a fence around code."""
    text = response.strip()
    fenced = re.fullmatch(r"```[a-z]*\n(.*?)\n?```", text, re.DOTALL)
    return fenced[1] if fenced else text


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """The length of the longest common subsequence, by rows of bits (Hyyrö 2004)."""
    places: dict[str, int] = {}
    for place, piece in enumerate(other):
        places[piece] = places.get(piece, 0) | 1 << place
    whole = row = (1 << len(other)) - 1
    for piece in one:
        met = row & places.get(piece, 0)
        row = ((row + met) | (row - met)) & whole
    return (whole & ~row).bit_count()
