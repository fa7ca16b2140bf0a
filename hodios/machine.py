"""What this machine has: processor cores and memory that this process may use. Only reads /proc and /sys."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

CPU_FEATURES = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_tile", "amx_int8", "amx_bf16")
_UNLIMITED_BYTES = 2**60


def cpu_model(root: Path = Path("/")) -> str:
    return _cpuinfo(root, "model name") or _cpuinfo(root, "CPU part") or "unknown"


def cpu_features(root: Path = Path("/")) -> tuple[str, ...]:
    """Those of CPU_FEATURES that the processor has, in that order."""
    flags = set((_cpuinfo(root, "flags") or _cpuinfo(root, "Features")).split())
    return tuple(feature for feature in CPU_FEATURES if feature in flags)


def num_physical_cores(
    root: Path = Path("/"), affinity: Callable[[], Iterable[int]] = lambda: os.sched_getaffinity(0)
) -> int:
    """Physical cores this process may use: siblings of one core count once, and a cgroup's CPU quota is a ceiling."""
    cores = set()
    for cpu in affinity():
        siblings = _read(root / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        cores.add(siblings or str(cpu))
    quota = cpu_quota(root)
    return max(1, min(len(cores), int(quota) if quota else len(cores)))


def cpu_quota(root: Path = Path("/")) -> float | None:
    """CPUs that the control groups allow, the smallest over all of them; None where there is no limit."""
    quotas = []
    for folder in _cgroup_folders(root, "cpu"):
        quota, period = [*_read(folder / "cpu.max").split(), "", ""][:2]
        if not quota:
            quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
        if quota.isdigit() and period.isdigit() and int(period):
            quotas.append(int(quota) / int(period))
    return min(quotas, default=None)


def total_memory_bytes(root: Path = Path("/")) -> int:
    """Of the machine, or the control group's limit where that is less."""
    return min([_meminfo(root, "MemTotal"), *(limit for limit, _ in _memory_limits(root))])


def free_memory_bytes(root: Path = Path("/")) -> int:
    """What can be taken without swapping: the kernel's estimate, or what the control group still allows."""
    return max(0, min([_meminfo(root, "MemAvailable"), *(limit - used for limit, used in _memory_limits(root))]))


def _memory_limits(root: Path) -> list[tuple[int, int]]:
    """(limit, used without reclaimable file pages) for each control group that has a limit."""
    limits = []
    for folder in _cgroup_folders(root, "memory"):
        limit = _read(folder / "memory.max") or _read(folder / "memory.limit_in_bytes")
        used = _read(folder / "memory.current") or _read(folder / "memory.usage_in_bytes")
        if limit.isdigit() and used.isdigit() and int(limit) < _UNLIMITED_BYTES:
            stat = dict(line.split() for line in _read(folder / "memory.stat").splitlines() if len(line.split()) == 2)
            limits.append((int(limit), max(0, int(used) - int(stat.get("inactive_file", "0")))))
    return limits


def _cgroup_folders(root: Path, controller: str) -> list[Path]:
    """This process's group and those above it, in the unified hierarchy or in the controller's own."""
    folders = []
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers and controller not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / (controller if controllers else "")
        group = mount / path.lstrip("/")
        folders += [folder for folder in (group, *group.parents) if folder == mount or mount in folder.parents]
    return folders


def _cpuinfo(root: Path, field: str) -> str:
    for line in _read(root / "proc/cpuinfo").splitlines():
        name, _, value = line.partition(":")
        if name.strip() == field:
            return value.strip()
    return ""


def _meminfo(root: Path, field: str) -> int:
    for line in _read(root / "proc/meminfo").splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024
    return _UNLIMITED_BYTES


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
