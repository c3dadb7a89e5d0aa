"""How much of a data set may lie in memory: what is free, within the limits of a container."""

import os
import shutil
from pathlib import Path

import torch

UNKNOWN = 4 * 2**30  # bytes taken for free where the system does not say


def budget(wanted: float | None, device: torch.device) -> int:
    """Bytes the resident set may take: `wanted` GiB, else half of what is free on the device."""
    if wanted is not None:
        return int(wanted * 2**30)
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] // 2
    return free_memory() // 2


def free_memory(root: Path = Path("/")) -> int:
    """Bytes of main memory this process could still take: what the system has free, within a container's limit.

    Args:
        root: of the file system that tells.
    """
    free = _system(root)
    for limit, used in _limits(root):
        free = min(free, limit - used)
    return max(0, free)


def shared_memory() -> int:
    """Bytes free for what processes share; containers are often given only 64 MiB."""
    try:
        return shutil.disk_usage("/dev/shm").free
    except OSError:  # not Linux: nothing of the kind, and no such limit
        return 2**62


def _system(root: Path) -> int:
    try:
        rows = dict(line.split(":", 1) for line in (root / "proc/meminfo").read_text(encoding="ascii").splitlines())
        return int(rows["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        pass
    try:
        return (
            os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
        )  # macOS says how much, not how much is free
    except (AttributeError, OSError, ValueError):
        return UNKNOWN


def _limits(root: Path) -> list[tuple[int, int]]:
    """(limit, use) in bytes of every control group this process is in: version 2, version 1, and those above them."""
    try:
        own = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    found: list[tuple[int, int]] = []
    for line in own:
        number, controllers, path = [*line.split(":", 2), "", ""][:3]
        if number == "0":
            top, names = root / "sys/fs/cgroup", ("memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            top, names = root / "sys/fs/cgroup/memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        inside = [part for part in path.split("/") if part not in ("", "..")]
        for depth in range(len(inside) + 1):
            group = top.joinpath(*inside[:depth])
            try:
                limit, used = (int((group / name).read_text(encoding="ascii")) for name in names)
            except (OSError, ValueError):  # no such file at the top; "max" where there is no limit
                continue
            found.append((limit, used - _reclaimable(group)))
    return found


def _reclaimable(group: Path) -> int:
    """Bytes of files read earlier, which the system gives up when they are wanted for something else."""
    try:
        rows = dict(line.split() for line in (group / "memory.stat").read_text(encoding="ascii").splitlines())
    except (OSError, ValueError):
        return 0
    return int(rows.get("total_inactive_file", rows.get("inactive_file", 0)))
