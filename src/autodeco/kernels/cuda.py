"""The CUDA kernels: Triton's version of what ``cpu.c`` does when a token is decoded.

One program takes a row, without a sort and without a wait for the host. It passes over the vocabulary twice to scale
and sum, once more for the statistics, and twice to cut the nucleus, with a search in between that reads only tokens
that may be in it. Speed has not been measured on a GPU yet: sizes are reasoned from Triton 3.9's machine code for an
H200, not tuned. With TRITON_INTERPRET=1 set before Triton is imported, all runs on CPU tensors, slowly, for tests.
"""

# Kernels are Triton's language in Python's syntax; their parameters are pointers and numbers on the device.
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators

from __future__ import annotations

import functools
import os
import warnings
from typing import NamedTuple

import torch
from torch import Tensor

try:
    import triton  # type: ignore[import-not-found, import-untyped, unused-ignore]
    import triton.language as tl  # type: ignore[import-not-found, import-untyped, unused-ignore]

    _jit, _constant = triton.jit, tl.constexpr
    # Triton decides when it is imported whether its own functions are compiled or interpreted.
    _INTERPRETED = not isinstance(tl.sum, triton.JITFunction)
except ImportError:  # PyTorch for CPUs comes without it
    triton, _jit, _constant, _INTERPRETED = None, lambda function: function, int, False

# A few rows are decoded at a time, so a program has a whole multiprocessor to itself, and keeps its memory busy alone:
# 512 threads (16 of at most 64 warps) with 16 loads under way each, 32 KiB together, in tiles of 4 x 2048 tokens.
_LANES = _constant(2048)  # no fewer than threads, see _sift
_STACK, _TILE = _constant(4), _constant(4 * 2048)
_WARPS = 16
# Thresholds that one pass of the search tries. In registers: 4 lanes a thread x 8 float64 sums = 64 of its 128.
_THRESHOLDS = _constant(8)


class CudaRows(NamedTuple):
    """Rows of scaled logits with the kernel's sums over them."""

    scaled: Tensor  # [n, V] float32, logits divided by the temperature
    sums: Tensor  # [n, 2] float64: Σ exp(s - max s) and max s, s the scaled logits


class Scaled(NamedTuple):
    """Result of :meth:`Kernels.scale`; ``statistics`` is ``None`` if not asked for."""

    rows: CudaRows
    statistics: Tensor | None  # [n, 4] float32


class Kernels:
    """The compiled kernels, on tensors. A row's result depends on that row alone, and is the same every time."""

    def scale(self, logits: Tensor, temperature: Tensor, *, statistics: bool = False) -> Scaled:
        """Divides rows by their temperatures and sums over them.

        Args:
            logits: ``[n, V]`` float32, bfloat16 or float16.
            temperature: ``[n]`` float32, bounded from below already.
            statistics: also the four statistics of :func:`autodeco.distribution.probability_statistics`.
        """
        count, vocab_size = logits.shape
        if logits.stride(-1) != 1:
            logits = logits.contiguous()
        scaled = torch.empty(count, vocab_size, dtype=torch.float32, device=logits.device)
        sums = torch.empty(count, 2, dtype=torch.float64, device=logits.device)
        found = torch.empty(count, 4, dtype=torch.float32, device=logits.device) if statistics else None
        column = triton.next_power_of_2(-(-vocab_size // int(_LANES)))  # tokens of a lane, or somewhat more
        if count:
            with torch.cuda.device_of(logits):
                arguments = logits, logits.stride(0), temperature.contiguous(), scaled, sums, found, vocab_size
                _scale_kernel[(count,)](*arguments, column, num_warps=_WARPS)
        return Scaled(CudaRows(scaled, sums), found)

    def cut(self, rows: CudaRows, top_p: Tensor, penalty: float) -> None:
        """Subtracts ``penalty`` in place from the logits outside each row's hard nucleus at ``top_p`` ``[n]``."""
        scaled, sums = rows
        count, vocab_size = scaled.shape
        size = -(-vocab_size // int(_LANES)) * int(_LANES)
        candidates = torch.empty(count, size, dtype=torch.int32, device=scaled.device)
        if count:
            with torch.cuda.device_of(scaled):
                arguments = scaled, sums, top_p.contiguous(), candidates, size, penalty, vocab_size
                _cut_kernel[(count,)](*arguments, num_warps=_WARPS)


def can_take(logits: Tensor, *others: Tensor) -> bool:
    """Whether the kernels are for these tensors: on one CUDA device, no gradient wanted, 16 or 32 bits, not empty."""
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (logits, *others)):
        return False
    supported = logits.dtype in (torch.float32, torch.bfloat16, torch.float16) and all(
        tensor.device == logits.device and tensor.dtype != torch.float64 for tensor in others
    )
    device = "cpu" if _INTERPRETED else "cuda"
    return supported and logits.device.type == device and logits.numel() > 0 and not torch.compiler.is_compiling()


@functools.cache
def load() -> Kernels | None:
    """The kernels, tried out once; ``None`` where they cannot be had.

    Why they cannot be compiled is said once, in a warning; that there is no Triton, no device, or AUTODECO_KERNELS=0,
    is not. Decode rows of a data type and a vocabulary once before a CUDA graph is captured: they are compiled then.
    """
    here = _INTERPRETED or (triton is not None and torch.cuda.is_available())
    if not here or os.environ.get("AUTODECO_KERNELS", "1") == "0":
        return None
    try:
        kernels = Kernels()
        row = torch.ones(1, 16, device="cpu" if _INTERPRETED else "cuda")
        kernels.cut(kernels.scale(row, row[:, 0], statistics=True).rows, row[:, 0] / 2, 1.0)
        return kernels
    except Exception as error:  # Triton raises what its compiler, its C compiler and the driver raise
        warnings.warn(
            f"autodeco's CUDA kernels could not be compiled ({type(error).__name__}: {error}); PyTorch is used instead:"
            " same results, slower. AUTODECO_KERNELS=0 silences this.", RuntimeWarning, stacklevel=2,
        )  # fmt: skip
        return None


@_jit
def _tile(width: tl.constexpr):
    """Positions of a tile's tokens, ``[_STACK, _LANES]``, of which a thread loads and stores ``width`` neighbours."""
    # The hint keeps loads and stores of different widths in one layout, a lane's numbers all in one thread. Without it
    # the compiler chooses a layout for each and moves numbers between threads through shared memory.
    tile = tl.arange(0, _STACK)[:, None] * _LANES + tl.arange(0, _LANES)[None, :]
    return tl.max_contiguous(tile, (1, width))


@_jit
def _scale_kernel(logits, stride, temperature, scaled, sums, statistics, vocab_size, column: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    logits += row * stride
    scaled += row * vocab_size
    sums += row * 2
    divisor = tl.load(temperature + row)
    maxima = tl.full((_LANES,), float("-inf"), tl.float32)
    for start in range(0, vocab_size, _TILE):
        token = start + _tile(4)
        values = tl.load(logits + token, mask=token < vocab_size, other=float("-inf")).to(tl.float32)
        maxima = tl.maximum(maxima, tl.max(values, 0))
    largest = tl.div_rn(tl.max(maxima, 0), divisor)
    # A lane adds four terms in float32, and such sums in float64: one conversion, which is slow, instead of four.
    totals = tl.zeros((_LANES,), tl.float64)
    for start in range(0, vocab_size, _TILE):
        token = start + _tile(4)
        values = tl.load(logits + token, mask=token < vocab_size, other=float("-inf")).to(tl.float32)
        quotients = tl.div_rn(values, divisor)  # `/` would be an approximation
        tl.store(scaled + token, quotients, mask=token < vocab_size)
        totals += tl.sum(tl.exp(quotients - largest), 0).to(tl.float64)
    normaliser = tl.sum(totals, 0)
    tl.store(sums, normaliser)
    tl.store(sums + 1, largest.to(tl.float64))
    if statistics is not None:
        tl.debug_barrier()  # a thread may read what another wrote
        statistics += row * 4
        share = (1.0 / normaliser).to(tl.float32)
        tl.store(statistics, share)
        _entropy_and_variance(scaled, largest, share, vocab_size, statistics)
        five = _five_largest(scaled, tl.div_rn(maxima, divisor), largest, vocab_size, column)
        tl.store(statistics + 3, (five / normaliser).to(tl.float32))


@_jit
def _entropy_and_variance(scaled, largest, share, vocab_size, statistics):
    entropies = tl.zeros((_LANES,), tl.float32)
    squares = tl.zeros((_LANES,), tl.float32)
    for start in range(0, vocab_size, _TILE):
        token = start + _tile(4)
        values = tl.load(scaled + token, mask=token < vocab_size, other=float("-inf"))
        probabilities = tl.exp(values - largest) * share
        entropies -= tl.sum(probabilities * tl.log(probabilities + 1e-8), 0)
        deviations = tl.where(token < vocab_size, probabilities - 1.0 / vocab_size, 0.0)
        squares += tl.sum(deviations * deviations, 0)
    tl.store(statistics + 1, tl.sum(entropies, 0))
    tl.store(statistics + 2, tl.sum(squares, 0) / tl.maximum(vocab_size - 1, 1))


@_jit
def _five_largest(scaled, maxima, largest, vocab_size, column: tl.constexpr):
    """Σ exp(s - max s) over the five largest. They lie in the five lanes with the largest ``maxima``."""
    lane = tl.arange(0, _LANES)
    entry = tl.arange(0, 8 * column)  # 8: the next power of two
    token = tl.full((8 * column,), 0, tl.int32) + vocab_size
    for i in tl.static_range(5):
        value, position = tl.max(maxima, 0, return_indices=True)
        first = tl.where(value > float("-inf"), position, vocab_size)  # no lane is left: beyond the row
        token = tl.where(entry // column == i, first + (entry % column) * _LANES, token)
        maxima = tl.where(lane == position, float("-inf"), maxima)
    values = tl.load(scaled + token, mask=token < vocab_size, other=float("-inf"))
    total = largest * 0.0
    for _ in tl.static_range(5):
        value, position = tl.max(values, 0, return_indices=True)
        total += tl.exp(value - largest)
        values = tl.where(entry == position, float("-inf"), values)  # this one only: equals are tokens of their own
    return total


@_jit
def _cut_kernel(scaled, sums, top_p, candidates, size, penalty, vocab_size):
    row = tl.program_id(0).to(tl.int64)
    scaled += row * vocab_size
    candidates += row * size
    threshold = tl.load(top_p + row)
    normaliser = tl.load(sums + row * 2)
    largest = tl.load(sums + row * 2 + 1).to(tl.float32)
    if (threshold < 1.0) & (normaliser < float("inf")):  # neither is true of NaN
        threshold = tl.maximum(threshold, 0.0)
        wanted = tl.maximum(threshold.to(tl.float64) * normaliser, 1.0)  # the most likely token weighs 1, and stays
        # All tokens deeper than this weigh less than V exp(-depth) = (1 - threshold) * normaliser together, so that the
        # nucleus ends before them. The rest is for rounding.
        depth = tl.log(vocab_size / ((1.0 - threshold) * normaliser.to(tl.float32)))
        lowest = largest - (depth + 1.0 + tl.abs(largest) * 1e-6)
        counts = _collect(scaled, candidates, lowest, vocab_size)
        # First by value, then, among equals of the value at which the sum crosses, by token id.
        first, last, mass = _rank(lowest), _rank(largest), wanted * 0.0
        counts, rank, mass = _search(scaled, candidates, counts, first, last, mass, wanted, largest, True)
        zero = tl.full((), 0, tl.int32)
        counts, last, mass = _search(scaled, candidates, counts, zero - vocab_size, zero, mass, wanted, largest, False)
        value = (rank ^ ((rank >> 31) & 0x7FFFFFFF)).to(tl.float32, bitcast=True)
        for start in range(0, vocab_size, _TILE):
            token = start + _tile(1)
            values = tl.load(scaled + token, mask=token < vocab_size, other=float("inf"))
            outside = (values < value) | ((values == value) & (token > -last))
            tl.store(scaled + token, values - penalty, mask=outside & (token < vocab_size))


@_jit
def _rank(values):
    """int32 numbers in the order of float32 values."""
    bits = tl.where(values == 0.0, 0.0, values).to(tl.int32, bitcast=True)  # -0.0 is 0.0
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


@_jit
def _collect(scaled, candidates, lowest, vocab_size):
    """Lists the tokens of at least ``lowest``, entry k of lane l at k * _LANES + l. Returns each lane's length."""
    lane = tl.arange(0, _LANES)[None, :]
    counts = tl.zeros((_LANES,), tl.int32)
    for start in range(0, vocab_size, _TILE):
        token = start + _tile(1)
        values = tl.load(scaled + token, mask=token < vocab_size, other=float("-inf"))
        found = (values >= lowest) & (token < vocab_size)
        one = found.to(tl.int32)
        entry = counts[None, :] + tl.cumsum(one, 0) - one
        tl.store(candidates + entry * _LANES + lane, token, mask=found)
        counts += tl.sum(one, 0)
    tl.debug_barrier()
    return counts


@_jit
def _search(scaled, candidates, counts, first, last, mass, wanted, largest, by_value: tl.constexpr):
    """Leaves in the lists those tokens at whose rank the sum of weights, from the last rank down, reaches ``wanted``.

    A rank is of the value or, among equal ones, minus the token id. ``first`` and ``last`` enclose those in the lists;
    ``mass`` is the sum before them. Returns the lists' lengths, the rank of what is left, and the sum before it.
    """
    low, high = first.to(tl.int64), last.to(tl.int64) + 1  # the sum reaches `wanted` at low, and not yet at high
    while first < last:
        thresholds = low + tl.maximum((high - low) * (tl.arange(0, _THRESHOLDS) + 1) // (_THRESHOLDS + 1), 1)
        counts, masses, first, last = _sift(
            scaled, candidates, counts, low.to(tl.int32), high.to(tl.int32), thresholds.to(tl.int32), largest, by_value
        )
        masses += mass
        enough = masses >= wanted
        mass = tl.max(tl.where(enough, mass, masses), 0)
        low = tl.maximum(tl.max(tl.where(enough, thresholds, low), 0), first)
        high = tl.minimum(tl.min(tl.where(enough, high, thresholds), 0), last.to(tl.int64) + 1)
        high = tl.maximum(high, low + 1)  # should rounding keep the sum below `wanted`: the last token of all
    return counts, first, mass


@_jit
def _sift(scaled, candidates, counts, low, high, thresholds, largest, by_value: tl.constexpr):
    """Keeps low <= rank < high. Returns lengths, sums of weights from each threshold up, and the extreme ranks kept."""
    lane = tl.max_contiguous(tl.arange(0, _LANES), 1)  # as in _tile
    kept = tl.zeros((_LANES,), tl.int32)
    masses = tl.zeros((_THRESHOLDS, _LANES), tl.float64)
    first = tl.full((_LANES,), 0x7FFFFFFF, tl.int32)
    last = tl.full((_LANES,), -0x7FFFFFFF, tl.int32)
    for entry in range(0, tl.max(counts, 0)):
        token = tl.load(candidates + entry * _LANES + lane, mask=entry < counts, other=0)
        value = tl.load(scaled + token, mask=entry < counts, other=0.0)
        rank = _rank(value) if by_value else -token
        inside = (entry < counts) & (rank >= low) & (rank < high)
        # In place: never beyond the entry just read, which one thread alone has read, there being no fewer lanes.
        tl.store(candidates + kept * _LANES + lane, token, mask=inside)
        kept += inside.to(tl.int32)
        weight = tl.where(inside, tl.exp(value - largest), 0.0).to(tl.float64)
        masses += tl.where(rank[None, :] >= thresholds[:, None], weight[None, :], 0.0)
        first = tl.minimum(first, tl.where(inside, rank, 0x7FFFFFFF))
        last = tl.maximum(last, tl.where(inside, rank, -0x7FFFFFFF))
    tl.debug_barrier()
    return kept, tl.sum(masses, 1), tl.min(first, 0), tl.max(last, 0)
