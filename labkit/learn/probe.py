"""How fast this machine multiplies matrices: it decides the precision of fine-tuning on a CPU, and is a yardstick."""

import time
from functools import cache

import torch

FAST = 1.5  # times as many products in bfloat16 as in float32: fewer, and the conversions eat them up


def product_rate(dtype: torch.dtype = torch.float32, size: int = 1024, seconds: float = 1.0,
                 device: str | torch.device = "cpu") -> float:  # fmt: skip
    """The best rate of matrix products, FLOP/s, over some sizes around `size`; `seconds` are spent on each.

    On a CPU that is the rate of this process's threads, `torch.get_num_threads()`.
    """
    best = 0.0
    for n in (size // 4, size // 2, size):
        a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
        ends = time.perf_counter() + seconds
        while (began := time.perf_counter()) < ends:
            torch.matmul(a, b)
            if a.is_cuda:
                torch.cuda.synchronize(a.device)
            best = max(best, 2 * n**3 / (time.perf_counter() - began))
    return best


@cache
def bfloat16_gain() -> float:
    """How many times as fast this CPU multiplies bfloat16 as float32, measured once in about a fifth of a second."""
    rates = [product_rate(dtype, 512, 0.03) for dtype in (torch.bfloat16, torch.float32)]
    return rates[0] / rates[1]
