"""The heads' own values, dealt to other tokens: same temperatures and top-p, no link to the context."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from autodeco.errors import ConfigError, DataError
from autodeco.files import atomic_write_bytes
from autodeco.heads import RowOptions, ShapedLogits
from autodeco.strategies.base import Strategy, check_range, shape_at


@dataclass(frozen=True)
class Shuffled(Strategy):
    """Draws each row's pair of temperature and top-p from a bank of pairs that the heads chose.

    A pair stays together, so the joint distribution of ``T`` and ``P`` is the heads' own; which token gets which is
    chance. Pairs are drawn by a generator of its own: the engine's randomness is not touched, and the same calls in
    the same order give the same pairs.

    Attributes:
        bank: file written by :func:`save_bank`.
        seed: of the draws.
    """

    name: ClassVar[str] = "shuffled"

    bank: str
    seed: int = 0

    def __post_init__(self) -> None:
        check_range(self.name, "seed", self.seed, 0, 2**63 - 1)
        _ = self.pairs  # a bank that cannot be used is found now rather than at the first token

    @cached_property
    def pairs(self) -> Tensor:
        """``[N, 2]``: temperature and top-p."""
        return load_bank(self.bank)

    @cached_property
    def _generator(self) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed)

    def shape(self, hidden_states: Tensor, logits: Tensor, options: RowOptions | None = None) -> ShapedLogits:
        """See :meth:`Strategy.shape`."""
        drawn = torch.randint(len(self.pairs), logits.shape[:-1], generator=self._generator)
        pairs = self.pairs[drawn].to(logits.device)
        return shape_at(logits, pairs[..., 0], pairs[..., 1], options)


def save_bank(path: str | Path, temperature: Tensor, top_p: Tensor) -> None:
    """Writes a bank of pairs, as a safetensors file.

    Args:
        path: where to.
        temperature: what the heads chose, of any shape; entries that are NaN in either (after a sequence's end) are
            left out.
        top_p: of the same shape.

    Raises:
        DataError: the shapes differ, or no pair is left.
    """
    temperature, top_p = chosen_pairs(temperature, top_p)
    atomic_write_bytes(path, save({"temperature": temperature, "top_p": top_p}))


def load_bank(path: str | Path) -> Tensor:
    """Reads a bank.

    Returns:
        ``[N, 2]`` float32: temperature and top-p.

    Raises:
        ConfigError: there is no such file.
        DataError: it is no bank, or holds values that no heads can have chosen.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(
            f"strategy 'shuffled': there is no bank of pairs at '{path}'. Record one from the heads, on training data, "
            f"with autodeco.strategies.save_bank."
        )
    try:
        tensors = load(path.read_bytes())
        pairs = torch.stack([tensors["temperature"].float(), tensors["top_p"].float()], dim=-1)
    except (SafetensorError, KeyError, RuntimeError) as error:
        raise DataError(f"'{path}' is no bank of temperature and top-p pairs ({error}). Record it again.") from error
    temperature, top_p = pairs.unbind(-1)
    if pairs.dim() != 2 or not len(pairs) or not pairs.isfinite().all() or temperature.min() < 0 or top_p.min() < 0:
        raise DataError(f"'{path}' holds no pairs, or negative or infinite ones. Record it again.")
    return pairs


def chosen_pairs(temperature: Tensor, top_p: Tensor) -> tuple[Tensor, Tensor]:
    """Flattens recorded values and leaves out NaN: temperature and top-p ``[N]``, float32, on the CPU.

    Raises:
        DataError: the shapes differ, or no pair is left.
    """
    if temperature.shape != top_p.shape:
        raise DataError(f"temperatures {list(temperature.shape)} and top-p {list(top_p.shape)} are not pairs.")
    temperature, top_p = (values.detach().reshape(-1).float().cpu() for values in (temperature, top_p))
    chosen = ~(temperature.isnan() | top_p.isnan())
    if not chosen.any():
        raise DataError("there is no pair of temperature and top-p among the recorded values.")
    return temperature[chosen].contiguous(), top_p[chosen].contiguous()
