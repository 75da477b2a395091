"""A folder laid out like that of the data sets, made on the spot: what scales of real data name, a few records each."""

import gzip
import json
import re
from pathlib import Path
from typing import Any

from labkit.instructions import functions
from labkit.instructions.families import EVERY
from labkit.instructions.family import draw

CATALOGUE = Path(__file__).parents[1] / "labkit" / "studies" / "catalogue.yaml"
NAMED = re.compile(r"\$LABKIT_DATA/([\w./-]+)")


def made(folder: Path, n: int = 60) -> Path:
    """Every file that the catalogue names below `$LABKIT_DATA`, `n` records in each; returns the folder."""
    for name in sorted({*NAMED.findall(CATALOGUE.read_text("utf-8"))}):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = _text(path, n)
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return folder


def _text(path: Path, n: int) -> str:
    if path.parent.name in ("mbpp", "humaneval"):
        tasks = draw(functions.FUNCTIONS, 12, split="test", levels=[1], seed=0)
        problems = list({task.instruction.key: functions.problem(task) for task in tasks}.values())
        for number, problem in enumerate(problems):
            problem["task_id"] = f"{'HumanEval' if path.parent.name == 'humaneval' else 'Mbpp'}/{number}"
        return json.dumps(problems) if path.suffix == ".json" else _lines(problems)
    if path.parent.name == "agieval":
        asked = {"passage": None, "options": [f"({letter}){i}" for i, letter in enumerate("ABCD")], "label": "B"}
        return _lines([{**asked, "question": f"Which is {i}?"} for i in range(12)])
    names = {"gsm8k": "arithmetic", "code_alpaca": "functions", "cot_flan": "deduction"}
    tasks = draw(EVERY[names.get(path.parent.name, "editing")], n, levels=[1], seed=len(path.name))
    if ".tsv" in path.suffixes:
        flat = [task.example.input.replace("\n", " ") for task in tasks]
        return "".join(f"{number} {text}\t{text}\tbecause\n" for number, text in enumerate(flat))
    asks, answers = ("question", "answer") if path.parent.name == "gsm8k" else ("instruction", "output")
    more = {} if asks == "question" else {"input": ""}
    texts = [(f"{task.example.instruction} {task.example.input}", task.example.output) for task in tasks]
    return _lines([{asks: f"{i}: {text}", answers: answer, **more} for i, (text, answer) in enumerate(texts)])


def _lines(records: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)
