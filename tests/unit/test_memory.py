"""What is free is read from the system and from every container the process is in."""

import torch

from engram.data import memory

GIB = 2**30


def system(root, available, *, cgroup="", files=None):
    (root / "proc" / "self").mkdir(parents=True)
    (root / "proc" / "meminfo").write_text(f"MemTotal: 99 kB\nMemAvailable:  {available // 1024} kB\nHugepages: 0\n")
    if cgroup:
        (root / "proc" / "self" / "cgroup").write_text(cgroup)
    for name, content in (files or {}).items():
        path = root / "sys" / "fs" / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    return root


def test_what_the_system_has_free(tmp_path):
    assert memory.free_memory(system(tmp_path, 3 * GIB)) == 3 * GIB


def test_a_container_of_version_2_with_its_files_given_up(tmp_path):
    files = {
        "memory.max": 4 * GIB,
        "memory.current": 3 * GIB,
        "memory.stat": f"anon 5\ninactive_file {GIB}",
    }
    assert memory.free_memory(system(tmp_path, 9 * GIB, cgroup="0::/", files=files)) == 2 * GIB


def test_the_tightest_of_the_groups_around_counts(tmp_path):
    files = {
        "memory.max": "max",
        "memory.current": GIB,
        "jobs/memory.max": 8 * GIB,
        "jobs/memory.current": 7 * GIB,
        "jobs/mine/memory.max": 6 * GIB,
        "jobs/mine/memory.current": 2 * GIB,
    }
    assert memory.free_memory(system(tmp_path, 20 * GIB, cgroup="0::/jobs/mine\n", files=files)) == GIB


def test_a_container_of_version_1(tmp_path):
    files = {
        "memory/box/memory.limit_in_bytes": 5 * GIB,
        "memory/box/memory.usage_in_bytes": 4 * GIB,
        "memory/box/memory.stat": f"inactive_file 1\ntotal_inactive_file {2 * GIB}",
    }
    cgroup = "5:cpu,cpuacct:/box\n4:memory:/box\n"
    assert memory.free_memory(system(tmp_path, 20 * GIB, cgroup=cgroup, files=files)) == 3 * GIB


def test_more_used_than_allowed_is_nothing_free(tmp_path):
    files = {"memory.max": GIB, "memory.current": 2 * GIB}
    assert memory.free_memory(system(tmp_path, 9 * GIB, cgroup="0::/", files=files)) == 0


def test_a_system_that_does_not_say(tmp_path, monkeypatch):
    monkeypatch.setattr(memory.os, "sysconf", {"SC_PHYS_PAGES": 1000, "SC_PAGE_SIZE": 4096}.__getitem__)
    assert memory.free_memory(tmp_path) == 2_048_000
    monkeypatch.delattr(memory.os, "sysconf")
    assert memory.free_memory(tmp_path) == memory.UNKNOWN


def test_the_budget_is_asked_for_or_half_of_what_is_free(monkeypatch):
    cpu = torch.device("cpu")
    monkeypatch.setattr(memory, "free_memory", lambda: 1000)
    assert memory.budget(0.5, cpu) == 2**29
    assert memory.budget(None, cpu) == 500
    monkeypatch.setattr(memory.torch.cuda, "mem_get_info", lambda device: (3000, 9000))
    assert memory.budget(None, torch.device("cuda")) == 1500


def test_shared_memory(monkeypatch):
    assert memory.shared_memory() >= 0

    def missing(path):
        raise FileNotFoundError(path)

    monkeypatch.setattr(memory.shutil, "disk_usage", missing)
    assert memory.shared_memory() > 2**50
