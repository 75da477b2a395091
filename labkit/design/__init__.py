"""How a set of examples is composed: exact budgets, long tails, mixtures of sources, nothing of the tests among them.

`budget` and `long_tail` share a budget out; `mixture` composes a training set of real sources (its spec is read by
`plain_yaml`, its files are written by `durable`); `decontamination` keeps it apart from test sets. `curriculum` says
what is trained on round by round, `selection` which records of a pool; `named_mixes` holds a paper's
mixes of abilities, and `mix_finder` reads one off small runs.

What reads whole corpora is imported when it is first asked for: the store needs `durable` alone, and is opened often.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from labkit.design.budget import allocate, whole
from labkit.design.long_tail import allocate_long_tail, hill_number, shares

if TYPE_CHECKING:
    from labkit.design import bandits, curriculum, selection
    from labkit.design.decontamination import Decontaminator
    from labkit.design.mixture import Mixed, Mixture, compose

__all__ = ["Decontaminator", "Mixed", "Mixture", "allocate", "allocate_long_tail", "bandits", "compose",
           "curriculum", "hill_number", "selection", "shares", "whole"]  # fmt: skip
_LATER = {"Decontaminator": "decontamination", "Mixed": "mixture", "Mixture": "mixture", "compose": "mixture"}


def __getattr__(name: str) -> Any:
    if name in ("bandits", "curriculum", "selection"):
        return import_module(f"{__name__}.{name}")
    if name in _LATER:
        return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
