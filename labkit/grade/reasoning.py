"""What a model says after it has thought: reasoning that is written into an answer is no part of it.

Guaranteed: marked reasoning is dropped, whatever it holds, also where a template wrote its opening mark (what stands
before a lone closing mark goes), and reasoning that never closes leaves nothing. Left open: reasoning without marks.
"""

import re

_NAME = r"(?:seed:)?(?:think(?:ing)?|thoughts?|reason(?:ing)?|reflection|analysis)"
_OPEN = rf"(?:<{_NAME}\b[^<>]*>|\[THINK\]|◁think▷|<\|begin_of_thought\|>)"
_CLOSE = rf"(?:</{_NAME}\s*>|\[/THINK\]|◁/think▷|<\|end_of_thought\|>)"
_UP_TO_CLOSE = re.compile(rf"\A.*{_CLOSE}", re.DOTALL | re.IGNORECASE)
_UNCLOSED = re.compile(rf"{_OPEN}.*\Z", re.DOTALL | re.IGNORECASE)
_BETWEEN = re.compile(rf"{_OPEN}(?:(?!{_OPEN}).)*?{_CLOSE}", re.DOTALL | re.IGNORECASE)
_FINAL = re.compile(r"<\|channel\|>final\b.*?<\|message\|>(.*?)(?:<\|(?:end|return|start)\|>|\Z)", re.DOTALL)
_CHANNEL = re.compile(r"<\|channel\|>.*", re.DOTALL)


def without_reasoning(text: str) -> str:
    """The answer alone, its outer blanks dropped.

    >>> without_reasoning("<think>A or B?</think> B"), without_reasoning("first A ...</think>B")
    ('B', 'B')
    """
    if final := _FINAL.findall(text):
        return str(final[-1]).strip()
    for closed in (_BETWEEN, _UP_TO_CLOSE, _UNCLOSED, _CHANNEL):
        text = closed.sub("", text)
    return text.strip()
