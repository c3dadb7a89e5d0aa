"""What the machine can do at best: the rate of square matrix products in float32 and bfloat16, as a program to drive.

`run N W` multiplies for about N tenths of a second in each precision and answers with GFLOP/s, by wall time and by CPU
time of the process.
"""

import argparse
import sys
import time

import protocol
import torch

SIDES = (1024, 2048)


def gflops(dtype: torch.dtype, seconds: float) -> dict[str, float]:
    """The best rate of any single product in that time: other work on the machine can only make it slower."""
    best = {"wall": 0.0, "cpu": 0.0}
    for side in SIDES:
        a = torch.randn(side, side).to(dtype)
        end = time.perf_counter() + seconds / len(SIDES)
        while time.perf_counter() < end:
            wall, cpu = time.perf_counter(), time.process_time()
            a @ a
            work = 2 * side**3 / 1e9
            best["wall"] = max(best["wall"], work / (time.perf_counter() - wall))
            best["cpu"] = max(best["cpu"], work / (time.process_time() - cpu))
    return best


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    say = protocol.claim_stdout()
    torch.set_num_threads(chosen.threads)
    say({"ready": True, "versions": {"torch": torch.__version__}})
    for line in sys.stdin:
        if line.startswith("quit"):
            return
        seconds = int(line.split()[1]) / 10
        say({name: gflops(getattr(torch, name), seconds) for name in ("float32", "bfloat16")})


if __name__ == "__main__":
    main()
