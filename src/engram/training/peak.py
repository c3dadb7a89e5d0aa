"""What the machine could do at best: the rate of one large matrix product, to hold a run's own rate against."""

import time

import torch

from engram.training.device import Machine

SIDE = 1024
SECONDS = 0.15


def matmul_gflops(machine: Machine) -> float:
    """GFLOP/s of square matrix products of side 1024 in the machine's precision, with its present thread count.

    The best of several short runs, because anything else that runs can only make it slower.
    """
    a = torch.ones(SIDE, SIDE, device=machine.device, dtype=machine.dtype)
    best = float("inf")
    end = time.perf_counter() + SECONDS
    while True:
        begin = time.perf_counter()
        product = a @ a
        product[0, 0].item()  # waits for an accelerator
        now = time.perf_counter()
        best = min(best, now - begin)
        if now > end:
            break
    return 2 * SIDE**3 / best / 1e9
