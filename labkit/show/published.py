"""The papers' own figures as data, so that a chart can draw them beside ours.

Every record of `published.json` is a table value, a threshold or a finding that a paper states: nothing is read off a
picture, and no result is ever tuned towards one.
"""

import json
from importlib.resources import files
from typing import Any


def published(study: str) -> list[dict[str, Any]]:
    """The published records of one study; none for a study that reproduces no paper.

    Studies: diversity_sweep, no_ops, long_tail, semantic_diversity, input_variety, encrypted_rewriting, abstraction,
    code_mixing, curriculum, ability_growth, ability_transfer, loss_weighting, generalist_mix, selection and
    which_teacher. A record has `study`, `figure` (where in the paper), `source` (authors, year), `citation`, `arxiv`
    (or where else it was said), `setting` (with the units of its scores) and `kind`:

    - `threshold`: named by the column it cuts, a number or range (`n_instructions: 300` or `[400, 500]`), with a short
      `label`, the `statement`, and the `side` that is meant (not for a range);
    - `value`: a table cell under the names of its columns (`n_instructions: 2000, accuracy_unseen: 0.71`);
    - `finding`: a `statement` that has no place on an axis.
    """
    data = json.loads(files(__package__).joinpath("published.json").read_text(encoding="utf-8"))
    entry = data["studies"].get(study, {"arxiv": None, "setting": "", "records": []})
    shared = {"study": study, "arxiv": entry["arxiv"], "setting": entry["setting"]}
    return [shared | data["citations"][entry["arxiv"]] | record for record in entry["records"]]
