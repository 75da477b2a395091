"""Nothing that labkit says, logs or stores holds the teacher's key: it reads `***`.

Guaranteed: a secret is replaced wherever it stands whole, as it is or percent-encoded (any of its characters), escaped
as in JSON or Python, or in base64 (alone, or after `user:` as in a Basic header). `guard_logs` does so for every log
record of the process, its traceback included, whoever logs it: openai, httpx and httpcore log headers and addresses.

Limits: a secret of fewer than 8 characters is taken for none at all (`none`, `EMPTY`) and left alone, since it would
be a word of ordinary replies; a part of a secret is not found; a log record factory that is installed later and does
not call ours switches the guard off until the next client is made.
"""

import base64
import json
import logging
import re
from collections.abc import Iterable
from typing import Any

SHORTEST = 8  # characters
HIDDEN = "***"


class Redactor:
    """`redact(text)`: the text with every secret hidden."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self.secrets = {secret for secret in secrets if len(secret) >= SHORTEST}
        # The longest first: a form may be a part of another.
        self._forms = sorted({form for secret in self.secrets for form in _forms(secret)}, key=len, reverse=True)
        patterns = ("".join(map(_any_spelling, secret)) for secret in sorted(self.secrets, key=len, reverse=True))
        self._encoded = re.compile("|".join(patterns) or "(?!)")

    def __repr__(self) -> str:
        return f"Redactor({len(self.secrets)} secrets)"

    def __call__(self, text: str) -> str:
        for form in self._forms:
            text = text.replace(form, HIDDEN)
        return self._encoded.sub(HIDDEN, text) if "%" in text or "\\" in text else text


def _forms(secret: str) -> set[str]:
    raw = secret.encode()
    basic = {base64.b64encode(raw), base64.urlsafe_b64encode(raw), base64.b64encode(b":" + raw)}
    coded = {form.decode().rstrip("=") for form in basic}
    return {secret, json.dumps(secret)[1:-1], repr(secret)[1:-1], *coded}


def _any_spelling(character: str) -> str:
    """A pattern of one character as it is, percent-encoded (once or twice), or escaped."""
    percent = "".join(f"%(?:25)?{byte:02X}" for byte in character.encode())
    escaped = rf"\\{{1,4}}(?:u00|x){ord(character):02x}"
    return rf"(?:\\{{0,4}}{re.escape(character)}|(?i:{percent}|{escaped}))"


_hidden = Redactor(())
_factory: Any = None


def guard_logs(redact: Redactor) -> None:
    """From now on hide what `redact` hides in every log record of this process."""
    global _hidden, _factory
    _hidden = Redactor(_hidden.secrets | redact.secrets)
    if logging.getLogRecordFactory() is not _factory:
        before = logging.getLogRecordFactory()

        def guarded(*args: Any, **kwargs: Any) -> logging.LogRecord:
            return _redacted(before(*args, **kwargs))

        _factory = guarded
        logging.setLogRecordFactory(guarded)


def _redacted(record: logging.LogRecord) -> logging.LogRecord:
    try:
        said = record.getMessage()
    except Exception:  # a record that cannot be formatted is its handler's to report
        said = f"{record.msg!r} {record.args!r}"
    if (hidden := _hidden(said)) != said:
        record.msg, record.args = hidden, ()
    if record.exc_info and record.exc_info[0]:
        trace = logging.Formatter().formatException(record.exc_info)
        if (hidden := _hidden(trace)) != trace:
            record.exc_info, record.exc_text = None, hidden
    return record
