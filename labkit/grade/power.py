"""How small a difference a design would have found."""

import math
from statistics import NormalDist

from labkit.errors import BadRequest


def detectable(lo: float, hi: float, *, level: float = 0.95, power: float = 0.8) -> float:
    """The smallest true difference whose interval would leave out 0 in a share `power` of repetitions.

    From the width of an interval that was measured, in the units of the interval: (z of level + z of power) standard
    errors (Bloom 1995; for evaluations of language models, Miller 2024, arXiv 2411.00640, section 5). Assumes an
    estimate that is about normal and an interval that is as wide as it should be; from a handful of seeds intervals
    are too narrow, and the true figure is larger.

    Raises:
        BadRequest: for ends that are no interval.
    """
    if not -math.inf < lo <= hi < math.inf:
        raise BadRequest(f"[{lo}, {hi}] is no interval")
    z = NormalDist().inv_cdf(0.5 + level / 2)
    return (z + NormalDist().inv_cdf(power)) * (hi - lo) / (2 * z)
