"""What is asked of a teacher and of a judge, and how their replies are read.

One contract for both sides: the client renders a request with a function of this module and reads the reply with its
`read_*`; the offline server (`labkit.teach.oracle`) takes the same request apart with `kind_of` and `sections`. The
texts are plain English, so that any chat model can stand in for the oracle.

Guaranteed: what is quoted in a request (a question, a student's answer) cannot close its own section or pass for
another, because brackets of section marks are taken out of it; a reply that does not say what was asked for is read as
None, never as a guess. Left open: a judge may still be talked into a score by the text it reads.

Sources: single-answer grading on a scale of 1 to 10 with `[[7]]` at the end and pairwise comparison with `[[A]]`,
`[[B]]`, `[[C]]` follow the form of Zheng et al. 2023 (arXiv 2306.05685), in words of our own; task classification,
expansion and refinement are steps of TAPIR (Yue et al. 2024, arXiv 2405.13448).
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, TypedDict

Kind = Literal["answer", "refine", "expand", "classify", "score", "compare"]


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
REFINEMENTS = {  # what a good response of a kind of task looks like; any other kind gets DEFAULT
    "mathematics": "Work it out step by step: write each intermediate result on a line of its own, and the final "
    "answer alone on the last line.",
    "reasoning": "Reason step by step: write each intermediate result on a line of its own, and the final answer alone "
    "on the last line.",
    "editing": "Apply one change after the other: write the text after each change on a line of its own, so that the "
    "finished text is alone on the last line.",
    "code": "Write complete, correct code that is easy to read, and nothing but code.",
    "role-play": "Stay in character throughout, and keep every constraint of the role.",
    "writing": "Write vividly and to the point, in the form that is asked for.",
}
DEFAULT = "Make it correct, complete and to the point, in exactly the form that is asked for."
_RATING = re.compile(r"\[\[\s*(\d+(?:\.\d+)?)\s*\]\]")
_WINNER = re.compile(r"\[\[\s*(A|B|C|tie)\s*\]\]", re.IGNORECASE)
_SECTION = re.compile(r"\[The start of (?P<name>[^\]]+)\]\n(?P<text>.*?)\n?\[The end of (?P=name)\]", re.DOTALL)
_MARK = re.compile(r"\[(The (?:start|end) of [^\]]*)\]")


def answer(question: str) -> list[Message]:
    """Ask for the answer to a question."""
    return _chat("answer", question)


def refine(question: str, response: str, task_type: str) -> list[Message]:
    """Ask for a better response, in the way that suits the kind of task (TAPIR, response refinement)."""
    how = REFINEMENTS.get(task_type, DEFAULT)
    return _chat(
        "refine",
        f"{section('instruction', question)}\n{section('response', response)}\n"
        f"Rewrite the response. {how} Write the new response alone.",
    )


def expand(seeds: Sequence[tuple[str, str, str]], kind: str, n: int, task_type: str | None = None) -> list[Message]:
    """Ask for `n` new pairs like the seeds (instruction, input, output), of the same kind and about as difficult.

    With a `task_type` their outputs are asked for as `refine` would ask for them.
    """
    shown = "\n".join(_line(seed) for seed in seeds)
    how = f" Of the outputs: {REFINEMENTS.get(task_type, DEFAULT)}" if task_type is not None else ""
    return _chat(
        "expand",
        f"{section('examples', shown)}\n"
        f"These are examples of the kind '{kind}'. Write {n} new ones of the same kind that are about as "
        "difficult and no copies, each as one JSON object on a line of its own, with the keys instruction, input and "
        f"output.{how} Write nothing else.",
    )


def classify(question: str, kinds: Mapping[str, str]) -> list[Message]:
    """Ask which kind of task a question is; `kinds` maps each name to a description."""
    listed = "\n".join(f"- {name}: {text}" if text else f"- {name}" for name, text in kinds.items())
    return _chat(
        "classify",
        f"{section('kinds', listed)}\n{section('instruction', question)}\n"
        "Which kind is the instruction? Write the name of the kind alone.",
    )


def score(question: str, response: str, reference: str | None = None) -> list[Message]:
    """Ask for a score of one response from 1 to 10, after a reason."""
    return _chat(
        "score",
        f"{section('instruction', question)}\n{_reference(reference)}{section('answer', response)}\n"
        "How good is the answer? Begin with a short reason, then rate it on a scale of 1 to 10, where 10 is a correct "
        "answer in exactly the form that is asked for, and end with the rating in this form: [[5]]",
    )


def score_turns(questions: Sequence[str], responses: Sequence[str], reference: Sequence[str] = ()) -> list[Message]:
    """Ask for a score of the last response of a conversation (MT-Bench's second turn)."""
    turns = [
        part
        for number, (question, response) in enumerate(zip(questions, responses, strict=True), 1)
        for part in (
            section(f"instruction {number}", question),
            *([section(f"reference answer {number}", reference[number - 1])] if len(reference) >= number else []),
            section(f"answer {number}", response),
        )
    ]
    return _chat(
        "score",
        "\n".join(turns)
        + "\nHow good is the last answer, as an answer to the last instruction after what came before? Begin with a "
        "short reason, then rate it on a scale of 1 to 10, and end with the rating in this form: [[5]]",
    )


def compare(question: str, a: str, b: str, reference: str | None = None) -> list[Message]:
    """Ask which of two responses is better."""
    return _chat(
        "compare",
        f"{section('instruction', question)}\n{_reference(reference)}{section('answer A', a)}\n"
        f"{section('answer B', b)}\n"
        "Which answer is better? Neither length nor order counts. Begin with a short reason, and end with your verdict "
        "in this form: [[A]] if answer A is better, [[B]] if answer B is, [[C]] for a tie.",
    )


def read_score(text: str) -> float | None:
    """The rating of a judge, 1 to 10: the last one it wrote; None when it wrote none, or one outside the scale."""
    found = _RATING.findall(text)
    rating = float(found[-1]) if found else None
    return rating if rating is not None and 1 <= rating <= 10 else None


def read_winner(text: str) -> Winner | None:
    """The verdict of a comparison, the last one written; None when there is none."""
    found = _WINNER.findall(text)
    if not found:
        return None
    last = found[-1].upper()
    return "A" if last == "A" else "B" if last == "B" else "tie"


def read_kind(text: str, kinds: Sequence[str]) -> str | None:
    """The kind of task that a classifier named, whatever stands around it; None when it named none or several."""
    said = text.strip().strip("\"'`.*").casefold()
    exact = [kind for kind in kinds if kind.casefold() == said]
    if exact:
        return exact[0]
    named = [kind for kind in kinds if re.search(rf"(?<![\w-]){re.escape(kind)}(?![\w-])", text, re.IGNORECASE)]
    return named[0] if len(named) == 1 else None


def read_pairs(text: str) -> Written:
    """The new pairs that a teacher wrote, a JSON object a line; other lines that are not empty count as unreadable.

    A fence around the lines is passed over.
    """
    pairs, unreadable = [], 0
    for line in text.splitlines():
        if not line.strip() or line.strip().startswith("```"):
            continue
        try:
            record = json.loads(line.strip().rstrip(","))
            parts = tuple(record[key] for key in ("instruction", "input", "output"))
        except (ValueError, KeyError, TypeError):
            parts = ()
        if len(parts) == 3 and all(isinstance(part, str) for part in parts) and parts[0].strip() and parts[2].strip():
            pairs.append((parts[0], parts[1], parts[2]))
        else:
            unreadable += 1
    return Written(pairs, unreadable)


def kind_of(messages: Sequence[Message]) -> Kind | None:
    """What a request asks for, by its system message; None for a chat of somebody else's."""
    system = next((message["content"] for message in messages if message["role"] == "system"), "")
    return next((kind for kind, text in SYSTEM.items() if text == system), None)


def asks_for_steps(text: str) -> bool:
    """Does a request want intermediate results, one a line?"""
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
    return "\n".join(_line(pair) for pair in pairs)


def _line(pair: tuple[str, str, str]) -> str:
    return json.dumps(dict(zip(("instruction", "input", "output"), pair, strict=True)), ensure_ascii=False)


def _reference(reference: str | None) -> str:
    return "" if reference is None else section("reference answer", reference) + "\n"


def _chat(kind: Kind, text: str) -> list[Message]:
    return [{"role": "system", "content": SYSTEM[kind]}, {"role": "user", "content": text}]
