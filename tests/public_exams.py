"""A folder of public exams in their published form, with a few questions of our own."""

import json
from pathlib import Path
from typing import Any

DEMANDED: list[dict[str, Any]] = [
    {"key": 1, "prompt": "Name a bird. No commas.", "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]},
    {"key": 2, "prompt": "Name two birds.",
     "instruction_id_list": ["punctuation:no_comma", "length_constraints:number_words"],
     "kwargs": [{"num_words": None}, {"num_words": 2, "relation": "at least"}]},
    {"key": 3, "prompt": "Say a title.", "instruction_id_list": ["detectable_format:title"], "kwargs": [{}]},
]  # fmt: skip
STEPS = "Q: {} and {}\nA: Let's think.\nWell. So the answer is {}."


def exam_folder(folder: Path) -> Path:
    """The files, as their publishers lay them out; returns the folder."""
    sums = [{"question": f"{n} and {n}?", "answer": f"{n} + {n} = <<{2 * n}>>\n#### {2 * n}"} for n in range(1, 8)]
    lines = {"ifeval/input_data.jsonl": DEMANDED, "gsm8k/train.jsonl": sums[:5], "gsm8k/test.jsonl": sums[5:]}
    for name, records in lines.items():
        write(folder / name, "".join(json.dumps(record) + "\n" for record in records))
    for task in ("apples", "pears"):
        examples = [{"input": f"{n} {task}", "target": str(n)} for n in range(3)]
        write(folder / "bbh" / f"{task}.json", json.dumps({"canary": "none", "examples": examples}))
        shots = "\n\n".join(STEPS.format(n, task, n) for n in range(3))
        write(folder / "bbh" / "cot-prompts" / f"{task}.txt", f"canary\n-----\nCount {task}.\n\n{shots}")
    choice = {"passage": None, "question": "Which?", "options": ["(A)one", "(B)two"], "label": "B", "answer": None}
    write(folder / "agieval" / "which.jsonl", f"{json.dumps(choice)}\n{json.dumps(choice | {'label': 'A'})}\n")
    return folder


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
