"""What processes use: seconds of processor time and memory, as the kernel counts them."""

from collections.abc import Mapping

import psutil

from services.cluster.errors import CannotDo


def cpu_s(pids: Mapping[str, int]) -> dict[str, float]:
    """Seconds of processor time that each process has used in its life. Raises CannotDo when one is gone."""
    used = {name: _process(name, pid).cpu_times() for name, pid in pids.items()}
    return {name: times.user + times.system for name, times in used.items()}


def rss_mib(pids: Mapping[str, int]) -> dict[str, float]:
    """Memory that each process holds now, in MiB. Raises CannotDo when one is gone."""
    return {name: round(_process(name, pid).memory_info().rss / 2**20, 1) for name, pid in pids.items()}


def _process(name: str, pid: int) -> psutil.Process:
    try:
        return psutil.Process(pid)
    except psutil.NoSuchProcess:
        raise CannotDo(f"{name} ended while it was measured") from None
