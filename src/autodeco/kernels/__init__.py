"""Compiled versions of the distribution's mathematics: C for CPUs, Triton for CUDA devices. PyTorch is their test."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from autodeco.kernels import cpu
from autodeco.kernels.cpu import KernelRows

if TYPE_CHECKING:
    from autodeco.kernels import cuda


def decoding_kernels(logits: Tensor, *others: Tensor) -> cpu.Kernels | cuda.Kernels | None:
    """The kernels that decode these tensors; ``None`` where PyTorch's operations have to."""
    if logits.device.type == "cuda":
        from autodeco.kernels import cuda  # brings in Triton

        return cuda.load() if cuda.can_take(logits, *others) else None
    return cpu.load() if cpu.can_take(logits, *others) else None


__all__ = ["KernelRows", "decoding_kernels"]
