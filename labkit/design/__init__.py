"""How a set of examples is composed: exact budgets and long tails; mixtures and curricula as the studies need them."""

from labkit.design.budget import allocate
from labkit.design.long_tail import allocate_long_tail, hill_number, shares

__all__ = ["allocate", "allocate_long_tail", "hill_number", "shares"]
