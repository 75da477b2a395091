"""Where a model learns: the GPU when there is one, one core of the CPU otherwise."""

import torch


def best_device() -> str:
    """`cuda` when a CUDA device answers, else `cpu`."""
    return "cuda" if torch.cuda.is_available() else "cpu"
