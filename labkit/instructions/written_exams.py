"""Public exams that are answered in writing: the prompt of each question, and what its answer is judged by.

    ifeval    `ifeval/input_data.jsonl`: 541 prompts with demands that a program checks (arXiv 2311.07911)
    gsm8k     `gsm8k/test.jsonl` after the first five of `gsm8k/train.jsonl(.gz)`, worked (arXiv 2110.14168)
    bbh       `bbh/<task>.json` after the three examples of `bbh/cot-prompts/<task>.txt`, whose answers stand without
              their reasoning (arXiv 2210.09261), as SmolLM2's authors ask them
    agieval   the English files of `agieval/*.jsonl`, answered by letter (arXiv 2304.06364)

Guaranteed: `read` gives the questions in one fixed random order in which the tasks of an exam take turns, so the first
k of n are those of k. Left open: which examples the published scores stood on.
"""

import re
from collections.abc import Callable
from itertools import chain, islice, zip_longest
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from labkit.errors import BadRequest, unknown
from labkit.instructions.example import Example
from labkit.instructions.exams import read_exam
from labkit.instructions.files import records

SHOTS = {"gsm8k": 5, "bbh": 3}
FILES = {"ifeval": "ifeval/input_data.jsonl", "gsm8k": "gsm8k/test.jsonl", "bbh": "bbh/*.json",
         "agieval": "agieval/*.jsonl"}  # fmt: skip
STOPS = {"gsm8k": ("Question:",), "bbh": ("\nQ:", "\n\n")}  # what a model goes on with when the answer is over
WORDS = {str: "a text", list: "a list", int: "a whole number"}
_ANSWERED = re.compile(r"^Q: (.*?)\nA: .*?So the answer is (.*?)\.?\s*$", re.DOTALL)


class Asked(NamedTuple):
    """A question: its prompt with the answer that people read as right, its task, and what judges an answer."""

    example: Example
    task: str
    reference: Any


def read(name: str, data: Path) -> list[Asked]:
    """All questions of an exam in a folder of data, in the order in which they are asked.

    Raises:
        BadRequest: for an unknown exam, a file that is not there, or a record without what its exam needs.
    """
    if name not in EXAMS:
        raise unknown("exam", name, EXAMS)
    questions, tasks = EXAMS[name](data), dict[str, list[Asked]]()
    for number in Random(0).sample(range(len(questions)), len(questions)):
        tasks.setdefault(questions[number].task, []).append(questions[number])
    turns = chain.from_iterable(zip_longest(*(tasks[task] for task in sorted(tasks))))
    return [question for question in turns if question]


def files(name: str, data: Path) -> list[Path]:
    """The files that hold an exam's questions; BadRequest where there are none."""
    if not (found := sorted(data.glob(FILES[name]))):
        raise BadRequest(f"{data / FILES[name]} is not there: the folder of data needs it")
    return found


def _ifeval(data: Path) -> list[Asked]:
    questions = []
    for record in _fields(files("ifeval", data)[0], key=int, prompt=str, instruction_id_list=list, kwargs=list):
        given = record["kwargs"]
        if len(given) != len(record["instruction_id_list"]) or not all(isinstance(one, dict) for one in given):
            raise BadRequest(f"IFEval's prompt {record['key']} has not an object in kwargs for each instruction")
        settings = [{name: value for name, value in given.items() if value} for given in record["kwargs"]]
        reference = record["instruction_id_list"], settings
        questions.append(Asked(_example("ifeval", record["key"], record["prompt"], ""), "", reference))
    return questions


def _gsm8k(data: Path) -> list[Asked]:
    train = next((p for p in (data / "gsm8k" / f"train.jsonl{end}" for end in ("", ".gz")) if p.is_file()), None)
    path = _there(train or data / "gsm8k" / "train.jsonl")
    shots = list(islice(_fields(path, question=str, answer=str), SHOTS["gsm8k"]))
    before = "".join(f"Question: {shot['question']}\nAnswer: {shot['answer']}\n\n" for shot in shots)
    asked = enumerate(_fields(files("gsm8k", data)[0], question=str, answer=str))
    return [
        Asked(_example("gsm8k", i, f"{before}Question: {one['question']}\nAnswer:", one["answer"]), "", one["answer"])
        for i, one in asked
    ]


def _bbh(data: Path) -> list[Asked]:
    questions = []
    for path in files("bbh", data):
        prompt = _there(data / "bbh" / "cot-prompts" / f"{path.stem}.txt").read_text("utf-8", "replace")
        shots = [_ANSWERED.match(part) for part in re.split(r"\n\n(?=Q: )", prompt)[1:]]
        before = "".join(f"Q: {shot[1]}\nA: {shot[2]}\n\n" for shot in shots if shot)
        if len(shots) != SHOTS["bbh"] or not all(shots) or "\ufffd" in prompt:
            raise BadRequest(f"{path.stem}.txt has not {SHOTS['bbh']} examples in UTF-8 that end in 'So the answer is'")
        for i, one in enumerate(next(_fields(path, examples=list))["examples"]):
            _checked(one, f"{path}, example {i}", input=str, target=str)
            example = _example("bbh", f"{path.stem} {i}", f"{before}Q: {one['input']}\nA:", one["target"])
            questions.append(Asked(example, path.stem, one["target"]))
    return questions


def _agieval(data: Path) -> list[Asked]:
    questions = []
    for path in files("agieval", data):
        exam = read_exam(path)
        for i, one in enumerate(exam.questions):
            if one.language == "en":
                example = _example("agieval", f"{path.stem} {i}", exam.ask(one).instruction, one.gold)
                questions.append(Asked(example, path.stem, one))
    return questions


EXAMS: dict[str, Callable[[Path], list[Asked]]] = {"ifeval": _ifeval, "gsm8k": _gsm8k, "bbh": _bbh, "agieval": _agieval}


def _example(exam: str, key: Any, prompt: str, answer: str) -> Example:
    return Example(prompt, "", answer, exam, f"{exam} {key}")


def _fields(path: Path, **kinds: type) -> Any:
    """The records of a file, each with all of these fields."""
    for number, record in records(path):
        yield _checked(record, f"{path}, record {number}", **kinds)


def _checked(record: Any, where: str, **kinds: type) -> Any:
    """A record with all of these fields, each of its kind."""
    wrong = [name for name, kind in kinds.items() if not isinstance(record, dict) or type(record.get(name)) is not kind]
    if wrong:
        lacks = f"has no '{wrong[0]}' ({WORDS[kinds[wrong[0]]]})" if isinstance(record, dict) else "is no object"
        raise BadRequest(f"{where}, {lacks}: its exam needs {', '.join(kinds)}")
    return record


def _there(path: Path) -> Path:
    if not path.is_file():
        raise BadRequest(f"{path} is not there: the folder of data needs it")
    return path
