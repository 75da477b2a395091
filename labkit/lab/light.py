"""Imports that would take long by themselves."""

import sys


def jsonschema() -> None:
    """Import jsonschema, for Altair and nbformat, without the grammar of international addresses.

    Compiling that grammar (`rfc3987-syntax`) takes longer than all of Altair, in every process, for a check of formats
    that neither asks for. jsonschema does without where the package cannot be imported; afterwards it can be.
    """
    if "jsonschema" in sys.modules or "rfc3987_syntax" in sys.modules:
        return
    sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]  # that is: it cannot be imported
    try:
        import jsonschema  # type: ignore[import-untyped]  # noqa: F401
    finally:
        del sys.modules["rfc3987_syntax"]
