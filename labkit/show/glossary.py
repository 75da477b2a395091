"""The lab's words, each with a plain sentence and where it comes from; HTML explains them under the mouse."""

import re
from functools import cache
from html import escape
from importlib.resources import files
from typing import NamedTuple

import yaml


class Entry(NamedTuple):
    """A word, what it means, and its source."""

    term: str
    says: str
    source: str


@cache
def glossary() -> tuple[Entry, ...]:
    """All entries, in alphabetical order."""
    text = files("labkit.show").joinpath("glossary.yaml").read_text("utf-8")
    entries = (Entry(term, **told) for term, told in yaml.safe_load(text).items())
    return tuple(sorted(entries, key=lambda entry: entry.term.casefold()))


@cache
def _known() -> tuple[re.Pattern[str], dict[str, str]]:
    says = {entry.term.casefold(): entry.says for entry in glossary()}
    longest_first = sorted(map(re.escape, says), key=len, reverse=True)
    return re.compile(rf"(<[^>]*>)|(?<![\w-])({'|'.join(longest_first)})(s?)(?![\w-])", re.IGNORECASE), says


def glossed(html: str) -> str:
    """HTML in which each term, where it first occurs, says what it means under the mouse and to a screen reader."""
    pattern, says = _known()
    done: set[str] = set()

    def explained(found: re.Match[str]) -> str:
        tag, term, plural = found.groups()
        if tag or (key := term.casefold()) in done:
            return found[0]
        done.add(key)
        return f'<abbr title="{escape(says[key])}">{term}{plural}</abbr>'

    return pattern.sub(explained, html)


def page() -> str:
    """The glossary as Markdown."""
    lines = [f"| **{entry.term}** | {entry.says} | {entry.source} |" for entry in glossary()]
    head = ["# Glossary", "", "Made by `labkit glossary --out FILE`.", "", "| word | what it means | source |"]
    return "\n".join([*head, "| --- | --- | --- |", *lines, ""])
