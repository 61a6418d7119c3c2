"""The CPU kernels (``cpu.c``): loaded with ctypes, called on tensors. ``build.py`` compiles them.

A compiled kernel is worth having because PyTorch has no operation that reads a row of logits once and leaves sums,
nucleus and order behind: composed of its operations, the same work passes over memory 10 to 20 times. Plain C, rather
than a C++ extension, needs no headers of PyTorch, builds in a second, and serves every version of it.

Where there is no C compiler (or AUTODECO_KERNELS=0), :func:`load` returns ``None`` and callers use PyTorch.
"""

from __future__ import annotations

import ctypes
import functools
import os
import subprocess
import warnings
from typing import NamedTuple

import torch
from torch import Tensor

from autodeco.kernels.build import built_library, reason_of

_BLOCK = 64  # as in cpu.c
_SUMS = 4  # doubles of row_sums in cpu.c


class KernelRows(NamedTuple):
    """Rows of scaled logits with the kernel's sums over them.

    Attributes:
        scaled: ``[n, V]`` float32, logits divided by the temperature.
        maxima: ``[n, ceil(V / 64)]`` float32, the largest of each block.
        sums: ``[n, 4]`` float64: ``Σ e^x``, ``Σ x e^x``, ``Σ e^2x``, the largest scaled logit (x is relative to it).
        temperature: ``[n]`` float32, the divisor.
    """

    scaled: Tensor
    maxima: Tensor
    sums: Tensor
    temperature: Tensor


class Scaled(NamedTuple):
    """Result of :meth:`Kernels.scale`; fields that were not asked for are ``None``."""

    rows: KernelRows
    statistics: Tensor | None  # [n, 4] float32
    base_largest: Tensor  # [n] float32, the largest unscaled logit
    base_normaliser: Tensor | None  # [n] float64, Σ exp(l - max l)
    argmax: Tensor | None  # [n] int64, the first of equals


class HeadLayers(ctypes.Structure):
    """``head_layers`` of ``cpu.c``: what follows the first layers of both heads.

    Made by :meth:`of`, which also keeps the tensors that it points to.
    """

    _fields_ = (
        ("width", ctypes.c_int64),
        ("temperature_weights", ctypes.c_void_p),
        ("top_p_weights", ctypes.c_void_p),
        ("extra", ctypes.c_void_p),
        *((name, ctypes.c_float) for name in ("temperature_bias", "top_p_bias", "max_temperature")),
        *((name, ctypes.c_float) for name in ("min_temperature", "penalty")),
        ("statistics", ctypes.c_int32),
    )

    @classmethod
    def of(
        cls,
        temperature_output: torch.nn.Linear,
        top_p_output: torch.nn.Linear,
        extra: Tensor,
        *,
        max_temperature: float,
        min_temperature: float,
        penalty: float,
    ) -> HeadLayers:
        """Describes the second layers of both heads.

        Args:
            temperature_output: ``width → 1``, float32.
            top_p_output: likewise.
            extra: ``[1 or 5, width]``: the top-p head's first-layer columns for T and, if there are 5, the statistics.
            max_temperature: of the temperature head.
            min_temperature: lower bound of the divisor.
            penalty: subtracted outside the nucleus.
        """
        kept = [layer.weight.detach().reshape(-1).contiguous() for layer in (temperature_output, top_p_output)]
        kept.append(extra.contiguous())
        made = cls(
            extra.shape[1],
            *(tensor.data_ptr() for tensor in kept),
            float(temperature_output.bias),
            float(top_p_output.bias),
            max_temperature,
            min_temperature,
            penalty,
            len(extra) == 5,
        )
        made.kept = kept
        return made


class Kernels:
    """The compiled functions of ``cpu.c``, on tensors.

    Args:
        library: the loaded shared library.
    """

    def __init__(self, library: ctypes.CDLL) -> None:
        pointer, integer, size, real = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64, ctypes.c_double
        self._scale = library.autodeco_scale
        self._scale.argtypes = [pointer, integer, integer, size, size, size, *[pointer] * 8]
        self._scale.restype = None
        self._cut = library.autodeco_cut
        self._cut.argtypes = [pointer, size, size, pointer, pointer, pointer, ctypes.c_float]
        self._shape = library.autodeco_shape
        self._shape.argtypes = [pointer, integer, size, size, size, *[pointer] * 6]
        self._soft_nucleus = library.autodeco_soft_nucleus
        self._soft_nucleus.argtypes = [pointer, size, size, *[pointer] * 6, real, real, real, integer, pointer]

    def scale(
        self,
        logits: Tensor,
        temperature: Tensor,
        *,
        statistics: bool = False,
        base: bool = False,
        shifted: bool = False,
        out: Tensor | None = None,
    ) -> Scaled:
        """Divides rows by their temperatures and sums over them.

        Args:
            logits: ``[n, V]`` float32 or bfloat16, rows contiguous.
            temperature: ``[n]`` float32, bounded from below already.
            statistics: also the four statistics of :func:`autodeco.distribution.probability_statistics`.
            base: also the normaliser at temperature 1, and the arg-max.
            shifted: subtract each row's largest logit before dividing. At a low temperature the quotients are too
                large for float32 to tell likely tokens apart as well as it does near 0.
            out: ``[n, V]`` float32, contiguous, to write the scaled logits to; ``logits`` itself if it is such.
        """
        rows, vocab_size = logits.shape
        if logits.stride(-1) != 1:
            logits = logits.contiguous()
        temperature = temperature.contiguous()
        blocks = -(-vocab_size // _BLOCK)
        scaled = torch.empty(rows, vocab_size) if out is None else out
        maxima, sums = torch.empty(rows, blocks), torch.empty(rows, _SUMS, dtype=torch.float64)
        own_statistics = torch.empty(rows, 4) if statistics else None
        largest = torch.empty(rows)
        normaliser = torch.empty(rows, dtype=torch.float64) if base else None
        argmax = torch.empty(rows, dtype=torch.int64) if base else None
        self._scale(
            logits.data_ptr(), logits.dtype == torch.bfloat16, shifted, rows, vocab_size, logits.stride(0),
            temperature.data_ptr(), scaled.data_ptr(), maxima.data_ptr(), sums.data_ptr(), largest.data_ptr(),
            _pointer(own_statistics), _pointer(normaliser), _pointer(argmax),
        )  # fmt: skip
        return Scaled(KernelRows(scaled, maxima, sums, temperature), own_statistics, largest, normaliser, argmax)

    def cut(self, rows: KernelRows, top_p: Tensor, penalty: float) -> None:
        """Subtracts ``penalty`` in place from the scaled logits outside each row's hard nucleus at ``top_p`` ``[n]``.

        Raises:
            MemoryError: no memory for a row's candidates.
        """
        count, vocab_size = rows.scaled.shape
        top_p = top_p.contiguous()
        failed = self._cut(
            rows.scaled.data_ptr(), count, vocab_size, rows.maxima.data_ptr(), rows.sums.data_ptr(),
            top_p.data_ptr(), penalty,
        )  # fmt: skip
        if failed:
            raise MemoryError(f"no memory to cut the nucleus of a row of {vocab_size} logits.")

    def shape(self, logits: Tensor, first: Tensor, layers: HeadLayers) -> tuple[Tensor, Tensor, Tensor]:
        """All of a decoding step after the heads' first layers, a row at a time.

        Args:
            logits: ``[n, V]`` float32 or bfloat16.
            first: ``[n, 2 * width]`` float32, the first layers of the temperature and the top-p head (of the latter the
                part that reads the hidden state); overwritten.
            layers: the rest of the heads.

        Returns:
            Shaped logits ``[n, V]``, temperature ``[n]``, top-p ``[n]``, all float32.

        Raises:
            MemoryError: no memory for a row's candidates.
        """
        count, vocab_size = logits.shape
        if logits.stride(-1) != 1:
            logits = logits.contiguous()
        shaped = torch.empty(count, vocab_size)
        maxima = torch.empty(count, -(-vocab_size // _BLOCK))
        temperature, top_p = torch.empty(count), torch.empty(count)
        failed = self._shape(
            logits.data_ptr(), logits.dtype == torch.bfloat16, count, vocab_size, logits.stride(0), first.data_ptr(),
            ctypes.byref(layers), maxima.data_ptr(), shaped.data_ptr(), temperature.data_ptr(), top_p.data_ptr(),
        )  # fmt: skip
        if failed:
            raise MemoryError(f"no memory to cut the nucleus of a row of {vocab_size} logits.")
        return shaped, temperature, top_p

    def soft_nucleus(
        self,
        rows: KernelRows,
        targets: Tensor,
        top_p: Tensor,
        wanted: Tensor,
        decay: float,
        epsilon: float,
        smallest: float,
        *,
        exclusive: bool = False,
    ) -> Tensor:
        """``log p̃_y`` with its derivatives by temperature and top-p, ``[n, 3]`` float64.

        Args:
            rows: from :meth:`scale`.
            targets: ``[n]`` int64.
            top_p: ``[n]`` float64.
            wanted: ``[n]`` boolean; other rows cost nothing and come out as zeros.
            decay: α.
            epsilon: added to the normaliser.
            smallest: probability below which tokens are integrated over instead of summed.
            exclusive: whether cumulative sums end before the token.

        Raises:
            MemoryError: no memory for a row's candidates.
        """
        count, vocab_size = rows.scaled.shape
        targets, top_p, wanted = targets.contiguous(), top_p.contiguous(), wanted.contiguous()
        terms = torch.empty(count, 3, dtype=torch.float64)
        failed = self._soft_nucleus(
            rows.scaled.data_ptr(), count, vocab_size, rows.maxima.data_ptr(), rows.sums.data_ptr(),
            rows.temperature.data_ptr(), targets.data_ptr(), top_p.data_ptr(), wanted.data_ptr(), decay, epsilon,
            smallest, exclusive, terms.data_ptr(),
        )  # fmt: skip
        if failed:
            raise MemoryError(f"no memory for the soft nucleus of a row of {vocab_size} logits.")
        return terms


def can_take(logits: Tensor, *others: Tensor) -> bool:
    """Whether the kernels are for these tensors: on the CPU, no gradient wanted, float32 or bfloat16, not empty."""
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (logits, *others)):
        return False
    supported = logits.dtype in (torch.float32, torch.bfloat16) and all(
        tensor.device.type == "cpu" and tensor.dtype != torch.float64 for tensor in (logits, *others)
    )
    return supported and logits.numel() > 0 and not torch.compiler.is_compiling()


def _pointer(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


@functools.cache
def load() -> Kernels | None:
    """The kernels, built first if this machine has not built them yet; ``None`` where they cannot be had.

    Why they cannot be had is said once, in a warning, unless they were switched off with AUTODECO_KERNELS=0.
    """
    if os.environ.get("AUTODECO_KERNELS", "1") == "0":
        return None
    try:
        library = built_library()
        try:
            return Kernels(ctypes.CDLL(str(library)))
        except (OSError, AttributeError):  # damaged since it was built
            library.unlink()
            return Kernels(ctypes.CDLL(str(built_library())))
    except (OSError, AttributeError, subprocess.SubprocessError) as error:
        warnings.warn(
            f"autodeco's CPU kernels could not be built ({reason_of(error)}); PyTorch is used instead: same results, "
            f"slower. A C compiler with OpenMP (Debian: gcc, libc6-dev) is needed; AUTODECO_KERNELS=0 silences this.",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
