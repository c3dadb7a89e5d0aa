"""Does the memory that streamed training takes grow with the data set?

    python bench/memory/streamed.py            # makes two sets in a temporary folder, a few minutes

Two sets of 32x32 JPEG pictures in Parquet, of 20,000 and of 200,000, are trained on with `data.memory = 0`, each in a
process of its own, for the same number of steps. The private memory of the process and its workers (shared pages
counted by share: PSS) is sampled while it runs; the largest sum counts. Results go to bench/results/memory.json.
"""

import argparse
import io
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

SIZES = (20_000, 200_000)
STEPS = 60
RESULTS = Path(__file__).resolve().parents[1] / "results" / "memory.json"


def make(folder: Path, count: int) -> None:
    """`count` pictures in shards of 20,000; 2,000 different ones take turns, which changes nothing for memory."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq
    from PIL import Image

    rng = np.random.default_rng(0)
    encoded = []
    for _ in range(2000):
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(file, "JPEG", quality=75)
        encoded.append(file.getvalue())
    shards = count // 20_000
    folder.mkdir()
    for shard in range(shards):
        images = [{"bytes": encoded[(shard + index) % 2000], "path": None} for index in range(20_000)]
        labels = [index % 10 for index in range(20_000)]
        table = pa.table({"image": images, "label": labels})
        pq.write_table(table, folder / f"train-{shard:05d}-of-{shards:05d}.parquet", row_group_size=1000)


def measure(folder: Path) -> None:
    """Train in this process and print the peaks as JSON."""
    from engram.recipe import build
    from engram.training.assemble import assemble
    from engram.training.events import Step
    from engram.training.loop import train

    peak: dict[str, int] = {"all": 0}
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(1.0):
            peak["all"] = max(peak["all"], tree_pss(os.getpid()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    settings = {"data": str(folder), "data.memory": 0, "data.workers": 2, "data.validation": 0.0, "model": "resnet20"}
    assembled = assemble(build({**settings, "epochs": 5, "device.threads": 1}))
    opened = tree_pss(os.getpid())
    steps = 0
    for event in train(assembled.parts, assembled.state):
        steps += isinstance(event, Step)
        if steps == STEPS:
            break
    training = tree_pss(os.getpid())
    stop.set()
    watcher.join()
    print(json.dumps({"opened_mib": opened >> 20, "training_mib": training >> 20, "peak_mib": peak["all"] >> 20}))


def tree_pss(process: int) -> int:
    """Bytes of a process and its children, shared pages by share; one that ends meanwhile counts nothing."""
    total = 0
    try:
        for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += 1024 * int(line.split()[1])
        for thread in os.listdir(f"/proc/{process}/task"):
            children = Path(f"/proc/{process}/task/{thread}/children").read_text().split()
            total += sum(tree_pss(int(child)) for child in children)
    except (OSError, ValueError):
        pass
    return total


def main() -> None:
    """Make both sets, measure both, write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", type=Path, help="measure one folder in this process")
    arguments = parser.parse_args()
    if arguments.measure:
        return measure(arguments.measure)
    import torch

    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    result = {
        "command": "python bench/memory/streamed.py",
        "commit": commit.stdout.strip(),
        "date": time.strftime("%Y-%m-%d"),
        "machine": {"cores": os.cpu_count(), "platform": platform.platform(), "torch": torch.__version__},
        "steps": STEPS,
        "batch_size": 128,
        "workers": 2,
        "sets": {},
    }
    with tempfile.TemporaryDirectory() as temporary:
        environment = {**os.environ, "ENGRAM_CACHE": str(Path(temporary) / "cache")}
        for size in SIZES:
            folder = Path(temporary) / str(size)
            make(folder, size)
            command = [sys.executable, __file__, "--measure", str(folder)]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            result["sets"][str(size)] = json.loads(done.stdout)
            print(size, result["sets"][str(size)], flush=True)
    small, large = (result["sets"][str(size)]["peak_mib"] for size in SIZES)
    result["growth_mib"] = large - small
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    return None


if __name__ == "__main__":
    main()
