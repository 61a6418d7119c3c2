"""How many positions the objectives take over the vocabulary at once."""

from __future__ import annotations

import math

import torch

from autodeco.memory import free_memory

# Logits of a chunk, where memory allows: 64 MB of float32. Matrix products of fewer rows are slower, of more no faster.
_CHUNK_ELEMENTS = 16_777_216
_LARGE_VOCABULARY = 131_072
# Bytes that a chunk takes for each of its logits at most: those of the kernels are 8 (bfloat16 logits and scaled ones),
# 4 more where the temperature head takes statistics; those of PyTorch's operations with temporary results up to 40.
_BYTES_PER_ELEMENT = {"cpu": 12, "other": 40}


def chunk_size(count: int, vocab_size: int | None, device: torch.device) -> int:
    """Positions a chunk: as many as :data:`_CHUNK_ELEMENTS` holds, fewer where memory is short.

    Args:
        count: positions in all.
        vocab_size: of the logits; ``None`` where it is not known before they are there.
        device: that they are on.
    """
    vocab_size = vocab_size or _LARGE_VOCABULARY
    bytes_per_element = _BYTES_PER_ELEMENT.get(device.type, _BYTES_PER_ELEMENT["other"])
    affordable = free_memory(device) // 2 // bytes_per_element
    size = max(1, min(count, _CHUNK_ELEMENTS // vocab_size, affordable // vocab_size))
    return max(1, math.ceil(count / math.ceil(count / size))) if count else 1  # all alike: no small one at the end
