import os
import subprocess
import sys

import pytest

from anamnesis.contracts.embedding import CpuShare
from anamnesis.kit.errors import BadRequest
from services.memory.embedding import cpu


def test_percent_takes_at_least_one_core() -> None:
    """One percent of few cores is still one core; a hundred are all."""
    assert len(cpu.allot(CpuShare(percent=1))) == 1
    assert set(cpu.allot(CpuShare(percent=1))) <= set(cpu.usable())
    assert len(cpu.allot(CpuShare(percent=100))) <= len(cpu.usable())


def test_named_cores_are_taken_as_they_are() -> None:
    """Explicit cores are used, each once."""
    first = cpu.usable()[0]
    assert cpu.allot(CpuShare(cores=(first, first))) == (first,)


def test_absent_core_is_refused() -> None:
    """A core that is not there is named, with those that are."""
    with pytest.raises(BadRequest, match=r"there is no core 4095: choose from \d"):
        cpu.allot(CpuShare(cores=(cpu.usable()[0], 4095)))


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system has no sched_setaffinity")
def test_pin_binds_a_process() -> None:
    """Another process ends up on the cores given; a process that is gone does no harm."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        last = cpu.usable()[-1]
        cpu.pin(child.pid, (last,))
        assert os.sched_getaffinity(child.pid) == {last}
    finally:
        child.communicate(b"\n", timeout=10)
    cpu.pin(child.pid, (cpu.usable()[0],))


def test_without_the_call_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a system without affinity all cores count and pinning does nothing."""
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    assert cpu.usable() == tuple(range(os.cpu_count() or 1))
    cpu.pin(os.getpid(), (0,))
