"""Compiled versions of the distribution's mathematics, for CPUs (C) and CUDA devices (Triton); PyTorch is their test."""

from autodeco.kernels.cpu import KernelRows

__all__ = ["KernelRows"]
