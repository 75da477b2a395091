"""Models and questions as a page has them: weights as text, questions as letters, the scripts that ask.

A page's own JavaScript (`model.js`, `ask.js`) runs the small transformer; what it answers equals `labkit.learn.ask`
(tests/test_asking.py asks both). Only models of the recipe `fast` that read rules can be taken along.
"""

import base64
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from labkit.errors import BadRequest
from labkit.learn import Layout, Learner

NAMES = ("pattern", "replacement", "input")  # the parts of a question that a page knows how to ask


def portable(learner: Learner) -> dict[str, Any]:
    """A model as a page runs it: `about` (sizes, layout, where each weight begins) and `weights`, float32 in base64.

    Raises:
        BadRequest: for a model that is not a small transformer that reads rules.
    """
    layout = learner.layout
    if learner.recipe != "fast" or not isinstance(layout, Layout) or layout.names != NAMES:
        raise BadRequest("a page can ask models of the recipe 'fast' that were trained on rules x -> y, and no others")
    places: dict[str, list[int]] = {}
    parts, at = [], 0
    for name, weight in learner.model.named_parameters():
        numbers = weight.detach().cpu().numpy().astype("<f4").ravel()
        places[name] = [at, len(numbers)]
        parts.append(numbers)
        at += len(numbers)
    about = {"shape": asdict(learner.shape), "layout": asdict(layout), "places": places}
    return {"about": about, "weights": base64.b64encode(np.concatenate(parts).tobytes()).decode()}


def script(*names: str) -> str:
    """The scripts of those names, one behind the other; they share one scope."""
    return "\n".join(Path(__file__).with_name(f"{name}.js").read_text("utf-8") for name in names)
