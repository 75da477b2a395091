"""What a model says outside of its reasoning: the one reader of the marks that models and servers write around it.

Guaranteed: marked reasoning is dropped, whatever it holds: between its marks, before a lone closing mark (the prompt
opened it), after a mark that nothing closes, and in every channel but the final one. A mark in ticks or quotation marks
is only spoken of. Left open: reasoning without marks; a mark as plain text takes what it seems to hold with it.
"""

import re
from collections.abc import Callable

_WORD = r"(?:\w+[:_-]|ant)?(?:think(?:ing)?|thoughts?|reasoning|reflection|scratchpad|monologue)(?:[_-]\w+)?"
_PLAIN = r"(?:reason|analysis|plan(?:ning)?|cot)"  # names of other things, too: reasoning at the head of a text alone
_SHOUT = r"(?:THINK(?:ING)?|THOUGHTS?|REASON(?:ING)?)"
MARK = re.compile(
    rf"""(?:
    (?i:<(?:/\|?|\|/){_WORD}\s*\|?> | <{_WORD}\s*/> | <\|end_(?:of_)?{_WORD}\|> | (?P<plain></{_PLAIN}>))
        | \[/{_SHOUT}\] | ◁/think▷ | <channel\|> | <unused95>
    | (?P<opening> (?i:<\|?{_WORD}(?:\s[^<>/|]*)?\|?> | \A\s*<{_PLAIN}>)
        | \[{_SHOUT}\] | ◁think▷ | <unused94> | <\|channel>\s*(?:thought|analysis))
    )(?!["'][,)\]:;]|\))""",
    re.VERBOSE,
)
_CHANNEL = re.compile(r"""(?<![`"'“‘«])(?:<\|channel\|>|\A\s*(?:analysis|commentary)<\|message\|>)""")
_LETTERS = re.compile(r"\s*analysis(?=[A-Z\s]).*assistantfinal|\s*analysis(?=[A-Z])", re.DOTALL)  # marks left out
_FINAL = re.compile(
    r"<\|channel\|>\s*final\b\s*(?:<\|constrain\|>\s*\w+\s*)?(?:<\|message\|>)?"
    r"(.*?)(?=<\|(?:end|return|start|channel|call)\|>|\Z)",
    re.DOTALL,
)
_ANSWER = re.compile(  # marks around what follows the reasoning
    r"\s*(?:<answer>|<\|begin_of_solution\|>|<\|START_(?:RESPONSE|TEXT)\|>)(.*?)"
    r"(?:</answer>|<\|end_of_solution\|>|<\|END_(?:RESPONSE|TEXT)\|>)?\s*",
    re.DOTALL,
)
_FOLDED = re.compile(
    r"""<details\s[^<>]*\btype=["']?reasoning\b[^<>]*>.*?(?:</details>|\Z)""", re.DOTALL | re.IGNORECASE
)
Own = Callable[[re.Match[str]], bool]


def without_reasoning(text: str) -> str:
    """The answer alone: empty where the reasoning has not come to one; a text without marks as it is.

    >>> without_reasoning("<think>A or B?</think> B"), without_reasoning("first A ...</think>B")
    ('B', 'B')
    """
    kept, ended = _outside(text, lambda mark: False)
    if kept == text or not ended:
        return kept if ended else ""
    wrapped = _ANSWER.fullmatch(kept.strip())
    return wrapped[1].strip() if wrapped else kept.strip()


def outside_reasoning(text: str, own: Own = lambda mark: False) -> str:
    """What stands outside of reasoning, blanks included, also before some that never ended.

    A mark for which `own` holds is the text's own.
    """
    return _outside(text, own)[0]


def final_channel(text: str) -> str:
    """What a text says in its final channel; all of it where it has none, but for reasoning that is folded away."""
    text = _FOLDED.sub("", text)
    if _CHANNEL.search(text):
        return "\n".join(_FINAL.findall(text))
    return re.sub(r"\A.*assistantfinal|\A.*\Z", "", text, count=1, flags=re.DOTALL) if _LETTERS.match(text) else text


def _outside(text: str, own: Own) -> tuple[str, bool]:
    """What stands outside, and whether all reasoning ended."""
    text = final_channel(text)
    kept, end, inside = "", 0, False
    marks = [mark for mark in MARK.finditer(text) if not _quoted(mark) and not own(mark)]
    last = max((mark.start() for mark in marks if not mark["opening"]), default=-1)
    for mark in marks:
        before = text[end : mark.start()]
        if not inside and (mark["plain"] or (before[-1:].isalnum() and last < mark.start())):
            continue  # a closing mark of something else, or a type's name, as in `List<Thought>`
        if not inside:
            kept = kept + before if mark["opening"] else ""
        inside, end = bool(mark["opening"]), mark.end()
    return kept if inside else kept + text[end:], not inside


def _quoted(mark: re.Match[str]) -> bool:
    """Is a mark only spoken of? A closing one also follows upon what the reasoning quotes."""
    line, after = mark.string[: mark.start()].rpartition("\n")[2], mark.string[mark.end() :][:3]
    before = line[-1:]
    if line.endswith("```") or (before in ('"', "`") and line.count(before) % 2 == 0):
        return False
    if mark["opening"] and before != "(":
        return bool(re.match(r"""["'“‘«`\\]""", before))
    return bool(re.match(r"""["'“‘«`(\\]""", before) and re.match(r"""(?:\\\w)?["'”’»`)]""", after))
