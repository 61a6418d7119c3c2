"""What the machine's processor is and can do, as far as its system says. Knows no models."""

from __future__ import annotations

import platform
import sysconfig
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
# Names of instructions on bfloat16 numbers: x86's two kinds, Arm's.
_BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}


def description() -> str:
    """What sets one kind of processor apart from another: its features where the system lists them."""
    try:
        lines = _CPUINFO.read_text(encoding="utf-8").splitlines()
        return next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        return f"{platform.machine()} {platform.processor()} {sysconfig.get_platform()}"


def lacks_bfloat16() -> bool:
    """Whether it is known to have no instructions on bfloat16 numbers: arithmetic on them is slower than float32's."""
    features = description()
    return features.startswith(("flags", "Features")) and _BFLOAT16.isdisjoint(features.split())
