"""An audit as people ask for it: a set by name, an embedder by name, a folder with report, map and numbers."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from labkit.design import audit as design_audit
from labkit.design.audit import Audit
from labkit.lab import ensure_writable, write_text
from labkit.learn import embedders


def audit(data: str | Path, *, against: str | Path | None = None, compare: str | Path | None = None,
          fields: Mapping[str, str | int] | None = None, embedder: str | None = None) -> Audit:  # fmt: skip
    """The audit of a corpus or file; its notes end with how far the embedder can be trusted.

    Raises:
        BadRequest: as `design.audit`; for an embedder that is not there.
    """
    name = embedder or embedders.best()
    share, chance, n = embedders.trust(name)
    own = design_audit.load(data, fields)
    other = design_audit.load(compare) if compare else None
    found = design_audit.audited(own, lambda texts: embedders.embed(texts, name), against=against, compare=other)
    found.notes.append(
        f"vectors are by {name}: of {n:,} instructions of the lab's families the nearest other is of the same family "
        f"for {share:.0%} (by chance {chance:.0%}); spelling helps there more than in free text"
    )
    return found


def flat(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows for a terminal: an interval as a text."""
    return [{"95 %" if key == "ci95" else key: f"{value[0]:g} to {value[1]:g}" if key == "ci95" else value
             for key, value in row.items()} for row in rows]  # fmt: skip


def write(found: Audit, out: Path) -> list[Path]:
    """Write report.html, map.html and audit.json into a folder, and return their paths.

    Raises:
        BadRequest: for a folder that cannot be written.
    """
    from labkit import show

    ensure_writable(out)
    out.mkdir(parents=True, exist_ok=True)
    kinds = [found.names[region] for region in found.regions]
    title = f"{found.name}: {len(kinds):,} different instructions"
    tables = [(caption, rows) for caption, rows in found.tables.items() if rows]
    write_text(out / "audit.json", json.dumps({"tables": found.tables, "notes": found.notes}, indent=1) + "\n")
    page = show.write_report(out / "report.html", title=f"Audit of {found.name}", question="What is in these data?",
                             finding=title, tables=tables, notes=found.notes)  # fmt: skip
    places = design_audit.layout(found.sample)
    return [out / "audit.json", show.write_map(out / "map.html", places, found.sample.texts, kinds, title), page]
