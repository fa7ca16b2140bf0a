from __future__ import annotations

from pathlib import Path

import pytest

from hodios import machine


def put(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def siblings(*pairs: tuple[int, str]) -> dict[str, str]:
    return {f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list": f"{text}\n" for cpu, text in pairs}


def test_this_machine_has_something() -> None:
    assert machine.num_physical_cores() >= 1
    assert 0 < machine.free_memory_bytes() <= machine.total_memory_bytes()
    assert machine.cpu_model()


def test_siblings_are_one_core(tmp_path: Path) -> None:
    put(tmp_path, siblings((0, "0,2"), (1, "1,3"), (2, "0,2"), (3, "1,3")))
    assert machine.num_physical_cores(tmp_path, lambda: [0, 1, 2, 3]) == 2
    assert machine.num_physical_cores(tmp_path, lambda: [0, 2]) == 1
    assert machine.num_physical_cores(tmp_path, lambda: [1, 2]) == 2


def test_without_topology_every_cpu_counts(tmp_path: Path) -> None:
    assert machine.num_physical_cores(tmp_path, lambda: [0, 1, 5]) == 3


@pytest.mark.parametrize(
    ("quota", "cores"), [("200000 100000", 2), ("150000 100000", 1), ("50000 100000", 1), ("max 100000", 4)]
)
def test_a_quota_is_a_ceiling(tmp_path: Path, quota: str, cores: int) -> None:
    put(tmp_path, {"proc/self/cgroup": "0::/box\n", "sys/fs/cgroup/box/cpu.max": quota})
    assert machine.num_physical_cores(tmp_path, lambda: range(4)) == cores


def test_the_smallest_quota_of_all_groups_above_counts(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "0::/a/b\n",
        "sys/fs/cgroup/a/b/cpu.max": "400000 100000",
        "sys/fs/cgroup/a/cpu.max": "300000 100000",
    }
    assert machine.cpu_quota(put(tmp_path, files)) == 3.0


def test_old_control_groups(tmp_path: Path) -> None:
    files = {
        "proc/self/cgroup": "4:memory:/job\n1:cpu,cpuacct:/job\n",
        "sys/fs/cgroup/cpu/job/cpu.cfs_quota_us": "250000",
        "sys/fs/cgroup/cpu/job/cpu.cfs_period_us": "100000",
        "sys/fs/cgroup/memory/job/memory.limit_in_bytes": "1000000",
        "sys/fs/cgroup/memory/job/memory.usage_in_bytes": "700000",
        "sys/fs/cgroup/memory/job/memory.stat": "cache 1\ninactive_file 100000\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
        "proc/meminfo": "MemTotal: 16000 kB\nMemAvailable: 9000 kB\n",
    }
    put(tmp_path, files)
    assert machine.cpu_quota(tmp_path) == 2.5
    assert machine.total_memory_bytes(tmp_path) == 1_000_000
    assert machine.free_memory_bytes(tmp_path) == 400_000


def test_features_are_those_that_matter(tmp_path: Path) -> None:
    put(tmp_path, {"proc/cpuinfo": "model name\t: Some CPU\nflags\t\t: fpu avx2 avx512_vnni amx_tile sse\n"})
    assert machine.cpu_features(tmp_path) == ("avx2", "avx512_vnni", "amx_tile")
    assert machine.cpu_model(tmp_path) == "Some CPU"


def test_a_machine_that_tells_nothing(tmp_path: Path) -> None:
    assert machine.cpu_features(tmp_path) == ()
    assert machine.cpu_model(tmp_path) == "unknown"
    assert machine.cpu_quota(tmp_path) is None
