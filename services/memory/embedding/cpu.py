"""Cores: which ones embedding may take, pinning a process to them, and what the processor can do."""

import os
import time
from pathlib import Path

from anamnesis.contracts.embedding import CpuShare
from anamnesis.kit.errors import BadRequest

_QUOTA = Path("/sys/fs/cgroup/cpu.max")
_CPUINFO = Path("/proc/cpuinfo")
_WORTH_IT = 0.9
"""Share of the time of fp32 below which bf16 is worth its lesser precision."""


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


def bf16_is_faster() -> bool:
    """Whether this processor multiplies faster in bfloat16 than in fp32, on torch's present threads.

    Measured, in a tenth of a second, because having the instructions is not enough: a layer of the default model
    took 0.4 of the time of fp32 on one processor that has them and 1.8 times as long on another.
    """
    if not _has_bf16():
        return False
    import torch  # here, as the service itself must not carry torch

    def seconds(dtype: torch.dtype) -> float:
        rows, weights = torch.ones(256, 384, dtype=dtype), torch.ones(1536, 384, dtype=dtype)
        began = time.perf_counter()
        torch.nn.functional.linear(rows, weights)
        return time.perf_counter() - began

    with torch.inference_mode():
        turns = [(seconds(torch.float32), seconds(torch.bfloat16)) for _ in range(8)]
    # The first turn warms up; of the others the best counts, as neighbours on the machine only ever make it slower.
    fp32, bf16 = (min(turn[at] for turn in turns[1:]) for at in (0, 1))
    return bool(bf16 < _WORTH_IT * fp32)


def _has_bf16() -> bool:
    try:
        lines = _CPUINFO.read_text().splitlines()
    except OSError:
        return False
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith(("flags", "Features"))), [])
    return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(flags)
