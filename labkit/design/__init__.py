"""How a set of examples is composed: exact budgets now; mixtures, long tails and curricula as the studies need them."""

from labkit.design.budget import allocate

__all__ = ["allocate"]
