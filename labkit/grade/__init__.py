"""What is measured, and how well it is known.

`intervals` turns right answers, counted rule by rule, into an accuracy with an interval that names what it covers;
`transition` locates, in a sweep over the number of instructions, where generalisation sets in; `sweet_spot` where a
dial does best; `power` says how small a difference a design finds; `choice` grades closed and ranked questions with
chance taken off; `growth` fits curves over data volume; `transference` says which data move which ability. Programs
are run by `code_eval` in a `sandbox`. Nothing here trains.
"""

from labkit.grade.intervals import Counts, Estimate, cluster_bootstrap, replicates, seed_cluster_bootstrap
from labkit.grade.next_count import next_count
from labkit.grade.power import detectable
from labkit.grade.sweet_spot import SweetSpot, paired_difference, sweet_spot
from labkit.grade.transition import Explained, Transition, explained, fit_transition

__all__ = ["Counts", "Estimate", "Explained", "SweetSpot", "Transition", "cluster_bootstrap", "detectable", "explained",
           "fit_transition", "next_count", "paired_difference", "replicates", "seed_cluster_bootstrap",
           "sweet_spot"]  # fmt: skip
