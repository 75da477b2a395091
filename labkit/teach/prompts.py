"""What is asked of a teacher and of a judge, and how their replies are read.

One contract for both sides: the client renders a request with a function of this module and reads the reply with its
`read_*`; the offline server (`labkit.teach.oracle`) takes the same request apart with `kind_of` and `sections`. The
texts are plain English, so that any chat model can stand in for the oracle.

Guaranteed: what is quoted in a request (a question, a student's answer) cannot close its own section or pass for
another, because brackets of section marks are taken out of it; a reply that does not say what was asked for, or says
two things, is read as None, never as a guess; reasoning is no part of what a reply says (`without_reasoning`).
Left open: a judge may still be talked into a score by the text it reads; a reply that writes a mark of reasoning as
plain text, neither quoted nor in ticks, loses what the mark seems to hold.

Sources: single-answer grading on a scale of 1 to 10 with `[[7]]` at the end and pairwise comparison with `[[A]]`,
`[[B]]`, `[[C]]` follow the form of Zheng et al. 2023 (arXiv 2306.05685), in words of our own; task classification,
expansion and refinement are steps of TAPIR (Yue et al. 2024, arXiv 2405.13448).
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple, TypedDict, TypeVar

from labkit.instructions.reasoning import without_reasoning as without_reasoning

Kind = Literal["answer", "refine", "expand", "classify", "score", "compare"]
_T = TypeVar("_T")


class Message(TypedDict):
    """One message of a chat."""

    role: Literal["system", "user", "assistant"]
    content: str


class Pair(NamedTuple):
    """A question (an instruction and, below it, its input) and a response to it."""

    question: str
    response: str


class Written(NamedTuple):
    """New pairs as a teacher wrote them: instruction, input, output; and how many lines could not be read."""

    pairs: list[tuple[str, str, str]]
    unreadable: int


Winner = Literal["A", "B", "tie"]

SYSTEM: dict[Kind, str] = {
    "answer": "You follow instructions exactly. Write the answer alone.",
    "refine": "You improve training data. You rewrite a response so that a student can learn from it.",
    "expand": "You write training data: new instructions of a given kind, each with its right answer.",
    "classify": "You sort instructions into kinds of tasks.",
    "score": "You are a strict and impartial judge of answers.",
    "compare": "You are a strict and impartial judge of two answers to one instruction.",
}
_KEYS = ("instruction", "input", "output")
_STEPS = "write each intermediate result on a line of its own, and the final answer alone on the last line."
REFINEMENTS = {  # what a good response of a kind of task looks like; any other kind gets DEFAULT
    "mathematics": f"Work it out step by step: {_STEPS}",
    "reasoning": f"Reason step by step: {_STEPS}",
    "editing": "Apply one change after the other: write the text after each change on a line of its own, so that the "
    "finished text is alone on the last line.",
    "code": "Write complete, correct code that is easy to read, and nothing but code.",
    "role-play": "Stay in character throughout, and keep every constraint of the role.",
    "writing": "Write vividly and to the point, in the form that is asked for.",
}
DEFAULT = "Make it correct, complete and to the point, in exactly the form that is asked for."
_RATE = "end with the rating in this form: [[5]]"
_VERDICT = "[[A]] if answer A is better, [[B]] if answer B is, [[C]] for a tie."
_RATING = re.compile(r"\[\[\s*(\d+(?:\.\d+)?)\s*\]\]")
_VERDICTS: dict[str, Winner] = {"A": "A", "B": "B", "C": "tie", "TIE": "tie"}
_WINNER = re.compile(r"\[\[\s*(A|B|C|tie)\s*\]\]", re.IGNORECASE)
# What a judge repeats is not what it finds: block quotations, fences, ticks, and every kind of quotation mark.
_QUOTATION = re.compile(
    r"""^[ \t]*>.*?$ | (?P<fence>```|~~~).*?(?:(?P=fence)|\Z) | `[^`\n]*` | "[^"]*"
    | “[^”]*” | „[^“”]*[“”] | «[^»]*» | ‘[^’]*’ | (?<!\w)'(?:[^'\n]|(?<=\w)'(?=\w))*'(?!\w)""",
    re.MULTILINE | re.DOTALL | re.VERBOSE,
)
_NO_PAIR = re.compile(r"```[\w-]*|~~~[\w-]*|^\s*(?:[-*>]\s*|\d+[.)]\s*)+$|[\s,\[\]]")  # what may stand around pairs
_SECTION = re.compile(r"\[The start of (?P<name>[^\]]+)\]\n(?P<text>.*?)\n?\[The end of (?P=name)\]", re.DOTALL)
_MARK = re.compile(r"\[(The (?:start|end) of [^\]]*)\]")


def answer(question: str) -> list[Message]:
    """Ask for the answer to a question."""
    return _chat("answer", question)


def refine(question: str, response: str, task_type: str) -> list[Message]:
    """Ask for a better response, in the way that suits the kind of task (TAPIR, response refinement)."""
    how = REFINEMENTS.get(task_type, DEFAULT)
    task = f"Rewrite the response. {how} Write the new response alone."
    return _chat("refine", section("instruction", question), section("response", response), task)


def expand(seeds: Sequence[tuple[str, str, str]], kind: str, n: int, task_type: str | None = None) -> list[Message]:
    """Ask for `n` new pairs like the seeds (instruction, input, output), of the same kind and about as difficult.

    With a `task_type` their outputs are asked for as `refine` would ask for them.
    """
    how = f" Of the outputs: {REFINEMENTS.get(task_type, DEFAULT)}" if task_type is not None else ""
    like = f"These are examples of the kind '{kind}'. Write {n} new ones of the same kind that are about as difficult"
    form = "each as one JSON object on a line of its own, with the keys instruction, input and output"
    return _chat(
        "expand", section("examples", written(seeds)), f"{like} and no copies, {form}.{how} Write nothing else."
    )


def classify(question: str, kinds: Mapping[str, str]) -> list[Message]:
    """Ask which kind of task a question is; `kinds` maps each name to a description."""
    listed = "\n".join(f"- {name}: {text}" if text else f"- {name}" for name, text in kinds.items())
    task = "Which kind is the instruction? Write the name of the kind alone."
    return _chat("classify", section("kinds", listed), section("instruction", question), task)


def score(question: str, response: str, reference: str | None = None) -> list[Message]:
    """Ask for a score of one response from 1 to 10, after a reason."""
    scale = "a scale of 1 to 10, where 10 is a correct answer in exactly the form that is asked for"
    task = f"How good is the answer? Begin with a short reason, then rate it on {scale}, and {_RATE}"
    return _chat("score", *_turn("", question, response, reference), task)


def score_turns(questions: Sequence[str], responses: Sequence[str], reference: Sequence[str] = ()) -> list[Message]:
    """Ask for a score of the last response of a conversation (MT-Bench's second turn); of one turn as `score` does."""
    if len(questions) == 1:
        return score(*questions, *responses, *reference[:1])
    turns: list[str] = []
    for place, (question, response) in enumerate(zip(questions, responses, strict=True)):
        turns += _turn(f" {place + 1}", question, response, next(iter(reference[place : place + 1]), None))
    asked = "How good is the last answer, as an answer to the last instruction after what came before?"
    return _chat("score", *turns, f"{asked} Begin with a short reason, then rate it on a scale of 1 to 10, and {_RATE}")


def compare(question: str, a: str, b: str, reference: str | None = None) -> list[Message]:
    """Ask which of two responses is better."""
    *before, first = _turn("", question, a, reference, answer="answer A")
    asked = "Which answer is better? Neither length nor order counts."
    task = f"{asked} Begin with a short reason, and end with your verdict in this form: {_VERDICT}"
    return _chat("compare", *before, first, section("answer B", b), task)


def read_score(text: str) -> float | None:
    """The rating of a judge, 1 to 10; None when it wrote none or several, or one outside the scale."""
    rating = _single(float(rating) for rating in _RATING.findall(_own_words(text)))
    return rating if rating is not None and 1 <= rating <= 10 else None


def read_winner(text: str) -> Winner | None:
    """The verdict of a comparison; None when there is none, or there are several that differ."""
    return _single(_VERDICTS[verdict.upper()] for verdict in _WINNER.findall(_own_words(text)))


def read_kind(text: str, kinds: Sequence[str]) -> str | None:
    """The kind of task that a classifier named, whatever stands around it; None when it named none or several."""
    text = without_reasoning(text)
    said = text.strip().strip("\"'`.*").casefold()
    exact = [kind for kind in kinds if kind.casefold() == said]
    named = [kind for kind in kinds if re.search(rf"(?<![\w-]){re.escape(kind)}(?![\w-])", text, re.IGNORECASE)]
    return exact[0] if exact else _single(named)


def read_pairs(text: str) -> Written:
    """The new pairs that a teacher wrote as JSON objects, on a line, over several, in a list or in a fence.

    Lines that are not empty and hold no part of a pair count as unreadable.
    """
    return pairs_of(without_reasoning(text))


def pairs_of(text: str) -> Written:
    """Likewise, of a text that may speak of reasoning."""
    decoder = json.JSONDecoder(strict=False)  # teachers write line ends and tabs into their texts as they are
    pairs: list[tuple[str, str, str]] = []
    unreadable, end = 0, 0
    while (start := text.find("{", end)) >= 0:
        unreadable += _lines_without_pair(text[end:start], after=end > 0, before=True)
        try:
            record, end = decoder.raw_decode(text, start)
            found = _pairs_in(record)
        except (ValueError, RecursionError):
            found, end = [], len(text) if (line := text.find("\n", start)) < 0 else line
        pairs += found
        unreadable += not found
    return Written(pairs, unreadable + _lines_without_pair(text[end:], after=end > 0, before=False))


def kind_of(messages: Sequence[Message]) -> Kind | None:
    """What a request asks for, by its system message; None for a chat of somebody else's."""
    system = next((message["content"] for message in messages if message["role"] == "system"), "")
    return next((kind for kind, text in SYSTEM.items() if text == system), None)


def asks_for_steps(text: str) -> bool:
    """Does a request want intermediate results, one per line?"""
    return any(how in text for how in REFINEMENTS.values() if "on a line of its own" in how)


def sections(text: str) -> dict[str, str]:
    """The quoted parts of a request by name."""
    return {found["name"]: found["text"] for found in _SECTION.finditer(text)}


def section(name: str, text: str) -> str:
    """A quoted part of a request. Marks of sections inside the text lose their brackets."""
    inner = _MARK.sub(r"(\1)", text)
    return f"[The start of {name}]\n{inner}\n[The end of {name}]"


def written(pairs: Sequence[tuple[str, str, str]]) -> str:
    """New pairs as `read_pairs` reads them."""
    return "\n".join(json.dumps(dict(zip(_KEYS, pair, strict=True)), ensure_ascii=False) for pair in pairs)


def _own_words(text: str) -> str:
    """What a judge says itself: neither its reasoning nor what it quotes."""
    return _QUOTATION.sub("", _SECTION.sub("", without_reasoning(text)))


def _single(values: Iterable[_T]) -> _T | None:
    """The value that all of them are, where there is one."""
    different = set(values)
    return different.pop() if len(different) == 1 else None


def _pairs_in(value: object) -> list[tuple[str, str, str]]:
    """The pairs in a JSON value: a pair itself, or a record or list that holds some."""
    if isinstance(value, list):
        return [pair for item in value for pair in _pairs_in(item)]
    if not isinstance(value, dict):
        return []
    texts = [text for key in _KEYS if isinstance(text := value.get(key), str)]
    if len(texts) < len(_KEYS):
        return _pairs_in([item for item in value.values() if isinstance(item, list)])
    instruction, given, output = texts
    return [(instruction, given, output)] if instruction.strip() and output.strip() else []


def _lines_without_pair(between: str, *, after: bool, before: bool) -> int:
    """How many lines of a text between two objects say something; those that it shares with an object are the object's.

    Split at line feeds alone: a text may hold other characters that Python takes for line ends.
    """
    lines = between.split("\n")
    alone = lines[int(after) : len(lines) - int(before)]
    return sum(bool(_NO_PAIR.sub("", line)) for line in alone)


def _turn(number: str, question: str, response: str, reference: str | None, answer: str = "answer") -> list[str]:
    """A question, what it should have got where that is known, and what it got."""
    known = [] if reference is None else [section(f"reference answer{number}", reference)]
    return [section(f"instruction{number}", question), *known, section(f"{answer}{number}", response)]


def _chat(kind: Kind, *parts: str) -> list[Message]:
    return [{"role": "system", "content": SYSTEM[kind]}, {"role": "user", "content": "\n".join(parts)}]
