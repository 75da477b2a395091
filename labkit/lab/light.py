"""Imports that would take long by themselves."""

import sys
from typing import Any


def jsonschema() -> None:
    """Import jsonschema, for Altair and nbformat, without the grammar of international addresses.

    Compiling that grammar (`rfc3987-syntax`) takes longer than all of Altair, in every process, for a check of formats
    that neither asks for. jsonschema does without where the package cannot be imported; afterwards it can be.
    """
    loaded: dict[str, Any] = sys.modules  # None in it: cannot be imported
    if "jsonschema" in loaded or "rfc3987_syntax" in loaded:
        return
    loaded["rfc3987_syntax"] = None
    try:
        import jsonschema  # type: ignore[import-untyped]  # noqa: F401
    finally:
        del loaded["rfc3987_syntax"]
