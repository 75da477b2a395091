"""The worst habits stay out of what people read: "a" for "per", sentences turned round, private words."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from labkit import studies
from labkit.show.glossary import glossary

ROOT = Path(__file__).parent.parent
COUNTED = (
    "examples|sequences|models|lines|rows|tokens|seeds|points|steps|questions|runs|files|samples|rules|notebooks|answers|"
    "minutes|seconds|hours|calls|requests|records|cells|boxes|numbers|threads|workers|programs|problems|epochs"
)
UNIT = (
    "seed|model|study|rule|step|point|run|cell|notebook|round|batch|question|ability|record|line|instruction|token|"
    "example|kind|source|core|GPU|machine|node|problem|task|mix|file|set|row|arm|program|measure|message|panel|setting|"
    "combination|group|family|member|page|cluster|day|week"
)
HABITS = {
    "'a' for 'per'": rf"\b(?i:(?:one|two|three|four|five|\d[\d,]*)(?: (?!of|on|without|in|for|with)\w+)?|"
                     rf"(?:{COUNTED})) an? (?:{UNIT})"
                     r"(?= *$|[,.;:)\"]| (?:and|or|in|for|with|to|at|follow|is|are)\b)",
    "a sentence turned round": r"(?:^|[.:;] )(?:Beside|Behind|Below|Above|Under|Among|Between|Next to|On it|In it) "
                               r"(?:\w+ ){0,3}(?:stands?|lies?|comes?|goes|follows?)\b"
                               r"|(?:^|[.:;] )(?:Never|Nor|Seldom|Rarely|Hardly|Nowhere|Not only) "
                               r"(?:is|are|was|were|does|do|did|has|have|can|will|must)\b"
                               r"|(?:^|[.] )What (?:is|are|was|were) (?:\w+ ){1,5}(?:decides|counts|matters)\b",
    "nobody's word": r"\b(?:has-op|undone|un-done|votes for|folk|whilst|amongst|thereof|therein)\b",
}  # fmt: skip
# Words of the trade, and of this lab, that a reader may not know: whoever uses one explains it.
SPECIAL = {
    *("arm", "adapter", "bandit", "cell", "claim", "cluster", "delta", "discovery", "distractor", "endpoint", "exp3"),
    *("fleet", "floor", "gate", "generalist", "ladder", "lesson", "macro", "mirror", "nats", "no-op", "oracle", "pace"),
    *("periodic", "plateau", "probe", "recipe", "regret", "rehearsal", "specialist", "trigram", "verdict"),
}


def strings(path: Path) -> Iterator[str]:
    """What a module says: its docstrings, messages and descriptions, each joined to one line."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield " ".join(node.value.split())
        elif isinstance(node, ast.JoinedStr):
            yield "".join(part.value if isinstance(part, ast.Constant) else "N" for part in node.values)


def texts() -> dict[str, list[str]]:
    """Everything that people read, by file."""
    pages = ("README.md", "Makefile", "pyproject.toml", "notebooks/TEACHING.md", "notebooks/GLOSSARY.md")
    found = {name: (ROOT / name).read_text("utf-8").splitlines() for name in pages}
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        cells = json.loads(path.read_text("utf-8"))["cells"]
        found[f"notebooks/{path.name}"] = [line for cell in cells for line in "".join(cell["source"]).splitlines()]
    for path in (ROOT / "labkit").rglob("*"):
        name = path.relative_to(ROOT).as_posix()
        if path.suffix == ".py":
            comments = re.findall(r"(?m)#\s(.+)$", path.read_text("utf-8"))
            found[name] = [*strings(path), *comments]
        elif path.suffix in (".yaml", ".json", ".j2"):
            found[name] = path.read_text("utf-8").splitlines()
    for study in studies.every().values():
        fields = study.Params.model_fields
        found[f"parameters of {study.name}"] = [f"{name}: {field.description}" for name, field in fields.items()]
    return found


@pytest.mark.parametrize("habit", list(HABITS))
def test_bad_habits_stay_out(habit: str) -> None:
    hits = [f"{name}: {line[max(0, at.start() - 50) : at.end() + 30]}" for name, lines in texts().items()
            for line in lines for at in re.finditer(HABITS[habit], line)]  # fmt: skip
    assert hits == [], habit


@pytest.mark.parametrize(
    ("habit", "bad", "good"),
    [
        ("'a' for 'per'", "One model a seed, drawn anew", "One model per seed, drawn anew"),
        ("'a' for 'per'", "examples a rule follow f(u)", "which examples a step reads"),
        ("'a' for 'per'", "64 sequences a step.", "two models train side by side"),
        ("a sentence turned round", "Beside it stand the answers", "The answers stand beside it"),
        ("a sentence turned round", "Never is it known", "It is never known"),
        ("a sentence turned round", "What is learned of their growth decides the next", "Their growth decides"),
        ("nobody's word", "it is undone by", "it is removed by"),
    ],
)
def test_the_patterns_see_what_they_are_for(habit: str, bad: str, good: str) -> None:
    assert re.search(HABITS[habit], bad)
    assert not re.search(HABITS[habit], good)


def test_special_words_are_explained() -> None:
    known = {entry.term.casefold() for entry in glossary()}
    words = " ".join(line for name, lines in texts().items() if name.endswith((".md", ".ipynb")) for line in lines)
    used = [word for word in SPECIAL if re.search(rf"\b{word}s?\b", words)]
    assert len(used) > 20
    assert [word for word in used if word.casefold() not in known] == []
