"""How much memory is free, so that chunks are sized to fit instead of a process being killed."""

from __future__ import annotations

from pathlib import Path

import psutil
import torch

_CGROUP = Path("/sys/fs/cgroup")


def free_memory(device: torch.device) -> int:
    """Bytes that can still be allocated on a device; on CPUs within this process's container.

    Args:
        device: CPU, or any kind that tells its free memory; for others the CPU's is taken.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + cached)
    available = int(psutil.virtual_memory().available)
    limit, used = _cgroup_bytes("memory.max"), _cgroup_bytes("memory.current")
    if limit is None or used is None:
        return available
    reclaimable = _cgroup_file_cache()
    return max(0, min(available, limit - used + reclaimable))


def _cgroup_bytes(name: str) -> int | None:
    """A number of control group v2; ``None`` where there is no limit or no such file."""
    try:
        text = (_CGROUP / name).read_text(encoding="ascii").strip()
        return int(text)
    except (OSError, ValueError):  # "max": no limit
        return None


def _cgroup_file_cache() -> int:
    """Bytes of the container's own that the kernel gives back when asked: cached files."""
    try:
        lines = (_CGROUP / "memory.stat").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))
