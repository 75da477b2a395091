"""Public exams that are answered in writing: they are sat, every answer is kept as it comes, and judged.

An answer's marks are, by grading, how many of how many things it got right:

    ifeval    `prompt`: all demands of the prompt are met; `instruction`: each of them; both also `loose` (see `ifeval`)
    gsm8k     `strict`: the number after `####`; `flexible`: the last number of the answer
    bbh       `exact`: the answer is the very text; `named`: or "the answer is" it, or it comes first
    agieval   `named`: the answer names the right option, by letter or text

The main score of IFEval is the mean of prompt and instruction level, as SmolLM2's model card has it; of the others the
first grading. Intervals hold 95 % of resamples of questions. Assumed: questions are independent draws.
Left open: an answer that `new_tokens` cut is judged as it stands; how many were is told.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from labkit.errors import BadRequest
from labkit.grade import ifeval
from labkit.grade.intervals import Counts, Estimate, at_least, cluster_bootstrap, percentiles, resample
from labkit.grade.questions import comes_to
from labkit.instructions import written_exams
from labkit.instructions.written_exams import Asked
from labkit.learn import decoding

Marks = Mapping[str, tuple[int, int]]  # by grading: right, of so many
LEVELS = ("prompt", "instruction")
BOTH = "mean of both levels"
NEW_TOKENS = {"ifeval": 1280, "gsm8k": 256, "bbh": 64, "agieval": 32}  # IFEval's and GSM8K's as published scores had
DRAWS = 2000


class Written(NamedTuple):
    """An answer, and whether it was cut."""

    answer: str
    cut: bool


def sit(model: Any, tokenizer: Any, questions: Sequence[Asked], kept: Path, *, new_tokens: int,
        rows: int, plain: bool = False) -> list[Written]:  # fmt: skip
    """The answers to some questions: those in the file `kept`, and the others, which are added to it one by one.

    An answer belongs to its prompt, and holds for a longer limit where its own did not cut it. A line that was itself
    cut off, by a kill, is answered again.

    Raises:
        BadRequest: as `decoding.answer`.
    """
    keys = [sha256(f"{'plain ' * plain}{one.example.instruction}".encode()).hexdigest()[:16] for one in questions]
    known = dict(_kept(kept, new_tokens))
    missing = [i for i, key in enumerate(keys) if key not in known]
    with kept.open("a", encoding="utf-8") as file:

        def told(number: int, answer: str, cut: bool) -> None:
            key, about = keys[missing[number]], questions[missing[number]].example.instruction_id
            known[key] = Written(answer, cut)
            line = {"key": key, "question": about, "answer": answer, "cut": cut, "limit": new_tokens}
            file.write(f"\n{json.dumps(line, ensure_ascii=False)}")  # a line that was cut off before does not join it
            file.flush()

        asked = [questions[i].example for i in missing]
        decoding.answer(
            model, tokenizer, asked, max_new_tokens=new_tokens, batch_size=rows, plain=plain, told=told,
            until=written_exams.STOPS.get(questions[0].example.source, ()),
        )  # fmt: skip
    return [known[key] for key in keys]


def _kept(file: Path, new_tokens: int) -> Iterator[tuple[str, Written]]:
    """The answers in a file that this limit would give, too, by the keys of their prompts."""
    for text in file.read_text("utf-8", "replace").splitlines() if file.exists() else ():
        with suppress(ValueError, KeyError, TypeError):
            line = json.loads(text)
            if line["limit"] == new_tokens or (line["limit"] < new_tokens and not line["cut"]):
                yield line["key"], Written(line["answer"], line["cut"])


def check(questions: Sequence[Asked], model: Any, tokenizer: Any, new_tokens: int, plain: bool = False) -> None:
    """BadRequest for demands that cannot be checked, and for a prompt that the model has no room for."""
    check_demands(questions)
    room = getattr(model.config, "max_position_embeddings", None) or np.inf
    prompts = decoding.prompts_of(tokenizer, [one.example for one in questions], plain)
    for one, prompt in zip(questions, prompts, strict=True):
        if len(prompt) + new_tokens > room:
            raise BadRequest(f"'{one.example.instruction_id}' has {len(prompt)} tokens, and with {new_tokens} of an "
                             f"answer the model has room for {room}: ask for shorter answers")  # fmt: skip


def check_demands(questions: Sequence[Asked]) -> None:
    """BadRequest for a demand of IFEval that cannot be checked."""
    for one in questions:
        if one.example.source == "ifeval":
            for kind, given in zip(*one.reference, strict=True):
                ifeval.check(kind, given)


def judged(question: Asked, answer: str) -> Marks:
    """The marks of an answer; see the module."""
    return JUDGES[question.example.source](question.reference, answer)


def _ifeval(reference: Any, answer: str) -> Marks:
    marks = dict[str, tuple[int, int]]()
    for loose, check in (("", ifeval.followed), (", loose", ifeval.followed_loosely)):
        met = check(answer, *reference)
        marks |= {f"prompt{loose}": (all(met), 1), f"instruction{loose}": (sum(met), len(met))}
    return marks


def _gsm8k(reference: str, answer: str) -> Marks:
    right = _number(reference.rpartition("####")[2])
    found = {"strict": re.findall(r"#### (-?[0-9.,]+)", answer)[:1],
             "flexible": re.findall(r"-?[$0-9.,]{2,}|-?[0-9]+", answer)[-1:]}  # fmt: skip
    return {grading: ([_number(text) for text in texts] == [right], 1) for grading, texts in found.items()}


def _number(text: str) -> str:
    return re.sub(r"[,$]", "", text).strip().removesuffix(".")


def _bbh(reference: str, answer: str) -> Marks:
    said, right = answer.strip(), re.escape(reference)
    named = re.search(rf"(?:^|answer is:? *)(?:A: *)?[\s*\"']*{right}(?!\w)", said) is not None
    return {"exact": (said == reference, 1), "named": (named, 1)}


JUDGES: dict[str, Callable[[Any, str], Marks]] = {
    "ifeval": _ifeval, "gsm8k": _gsm8k, "bbh": _bbh,
    "agieval": lambda reference, answer: {"named": (comes_to(reference, answer), 1)},
}  # fmt: skip


def scores(marks: Sequence[Marks]) -> dict[str, Estimate]:
    """The estimate of each grading over the questions, the main one first."""
    counts = {name: Counts(*zip(*(own[name] for own in marks), strict=True)) for name in marks[0]}
    found = {name: cluster_bootstrap(*counted, draws=DRAWS) for name, counted in counts.items()}
    return ({BOTH: _both(marks)} if LEVELS[0] in counts else {}) | found


def results(questions: Sequence[Asked], said: Sequence[Written], card: Mapping[str, float]) -> list[dict[str, Any]]:
    """For people: one row per grading, the main one beside the model card's figure."""
    found = scores([judged(one, given.answer) for one, given in zip(questions, said, strict=True)])
    name, main = questions[0].example.source, next(iter(found))
    return [
        {"exam": name, "grading": grading, "score": e.mean, "95 % low": e.lo, "high": e.hi,
         "model card": card.get(name) if grading == main else None, "questions": len(said),
         "cut": sum(one.cut for one in said)}
        for grading, e in found.items()
    ]  # fmt: skip


def _both(marks: Sequence[Marks]) -> Estimate:
    """The mean of IFEval's two levels, its interval over prompts."""
    table = np.array([[1, own[LEVELS[0]][0], *own[LEVELS[1]]] for own in marks], float)
    level = lambda sums: (sums[..., 1] / sums[..., 0] + sums[..., 2] / sums[..., 3]) / 2  # noqa: E731
    mean = float(level(table.sum(0)))
    drawn = percentiles(level(resample(table, DRAWS, np.random.default_rng(0))))
    return Estimate(mean, *at_least(drawn, mean, len(table)), len(table), 1, "prompts")


def refuse_other(folder: Path, about: dict[str, Any]) -> None:
    """BadRequest where the answers in a folder are of another model; else the folder says whose they are."""
    path = folder / "model.json"
    try:
        there = json.loads(path.read_text("utf-8")) if path.exists() else about
    except ValueError:
        there = "nobody knows whom"  # it is not ours
    if there != about:
        raise BadRequest(f"{folder} holds answers of {there}, not of {about}: name another folder")
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(about, indent=1) + "\n", "utf-8")
