"""Compiled versions of the distribution's mathematics: C for CPUs, Triton for CUDA devices. PyTorch is their test."""

from autodeco.kernels.cpu import KernelRows

__all__ = ["KernelRows"]
