"""Cores: which ones embedding may take, pinning a process to them, and what the processor can do."""

import os
from pathlib import Path

from anamnesis.contracts.embedding import CpuShare
from anamnesis.kit.errors import BadRequest

_QUOTA = Path("/sys/fs/cgroup/cpu.max")
_CPUINFO = Path("/proc/cpuinfo")


def usable() -> tuple[int, ...]:
    """The cores that this process may run on, in order."""
    if hasattr(os, "sched_getaffinity"):
        return tuple(sorted(os.sched_getaffinity(0)))
    return tuple(range(os.cpu_count() or 1))


def allot(share: CpuShare) -> tuple[int, ...]:
    """The cores of a share, at least one. Raises `BadRequest` for a core that is not there.

    A percentage takes the last cores, as the service's own process and the kernel favour the first;
    a container's quota counts as its number of cores.
    """
    cores = usable()
    if share.cores is not None:
        absent = sorted(set(share.cores) - set(cores))
        if absent:
            raise BadRequest(f"there is no core {absent[0]}: choose from {', '.join(map(str, cores))}")
        return tuple(sorted(set(share.cores)))
    count = max(1, int(_within_quota(len(cores)) * (share.percent or 100) / 100))
    return cores[-count:]


def _within_quota(cores: int) -> int:
    try:
        quota, period = _QUOTA.read_text().split()
        return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):
        return cores


def pin(pid: int, cores: tuple[int, ...]) -> None:
    """Bind all threads of a process to these cores; does nothing where the system has no such call."""
    if not hasattr(os, "sched_setaffinity"):
        return
    for thread in _threads(pid):
        try:
            os.sched_setaffinity(thread, cores)
        except OSError:  # the thread has ended, or the core went away: pinning is a wish, not a condition
            continue


def raise_priority(pid: int) -> bool:
    """Take back a niceness; false where the system does not let us."""
    try:
        for thread in _threads(pid):
            os.setpriority(os.PRIO_PROCESS, thread, 0)
    except OSError:
        return False
    return True


def _threads(pid: int) -> list[int]:
    try:
        return [int(entry.name) for entry in Path(f"/proc/{pid}/task").iterdir()]
    except OSError:
        return [pid]


def has_bf16() -> bool:
    """Whether the processor multiplies bfloat16 by itself; without that bf16 is slower than fp32."""
    try:
        lines = _CPUINFO.read_text().splitlines()
    except OSError:
        return False
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith(("flags", "Features"))), [])
    return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(flags)
