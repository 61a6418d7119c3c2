"""The last layers of a base on their own, fed with what the frozen ones below give for each row. Trains nothing.

An adapter of the last layers leaves those below as they were, so these run over each row once, not at every step. What
they gave, and the last hidden states of the base without its adapter, lie in a file without a name: it takes no memory
that something else needs, and is gone with the process.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from autodeco.checkpoint.adapter import adapter_disabled
from autodeco.errors import ConfigError
from autodeco.files import check_space
from autodeco.layers import decoder_layers
from autodeco.modeling import AutoDecoForCausalLM

_TOLERANCE = 1e-2  # of the hidden states' own size; layers that cannot be run alone are off by all of it


def targets_in(base: Any, targets: str | Sequence[str], layers: int) -> list[str]:
    """Names of the linear layers that an adapter of the last ``layers`` layers changes.

    Args:
        base: a loaded causal LM.
        targets: ``"all-linear"``, or the last parts of names.
        layers: how many.

    Raises:
        ConfigError: the base has no such list of layers, or fewer, or none of them has such a part.
    """
    stack = decoder_layers(base, "lora_layers")
    if layers > len(stack):
        raise ConfigError(f"lora_layers: {layers} of the last layers are to be adapted, and there are {len(stack)}.")
    prefix = next(name for name, part in base.named_modules() if part is stack)
    chosen = tuple(f"{prefix}.{number}." for number in range(len(stack) - layers, len(stack)))
    ends = ("",) if targets == "all-linear" else tuple(f".{target}" for target in targets)
    found = [
        name
        for name, part in base.named_modules()
        if isinstance(part, nn.Linear) and name.startswith(chosen) and name.endswith(ends)
    ]
    if not found:
        raise ConfigError(f"lora_targets: none of {targets!r} is a linear layer of the last {layers} layers.")
    return found


class UpperLayers:
    """Runs the last layers of a base with an adapter on rows of the training data.

    Args:
        model: whose base has an adapter on its last layers.
        layers: how many of them.
        lengths: tokens of each row.
        folder: where the file lies.

    Raises:
        ConfigError: see :func:`targets_in`; or the last layers alone do not give what the base gives.
        RunFolderError: the disk has no room.
    """

    def __init__(self, model: AutoDecoForCausalLM, layers: int, lengths: Sequence[int], folder: Path) -> None:
        self._model = model
        self._stack = decoder_layers(model, "lora_layers")
        self._first = len(self._stack) - layers
        self._starts = [0, *accumulate(lengths)]
        self._is_known = [False] * len(lengths)
        shape = (2, self._starts[-1], model.autodeco_config.hidden_size)
        size = int(np.prod(shape)) * model.dtype.itemsize
        check_space(folder, size, "what the lower layers give")
        with tempfile.TemporaryFile(dir=folder) as file:  # the mapping outlives it
            kept = np.memmap(file, dtype=np.uint8, mode="w+", shape=(size,))
        self._lower, self._last = torch.from_numpy(kept).view(model.dtype).view(shape)

    def check(self, input_ids: Tensor) -> None:
        """Checks on a row of token ids ``[S]`` that the last layers alone give what the whole base gives.

        Raises:
            ConfigError: they do not.
        """
        ids, mask = input_ids.unsqueeze(0), torch.ones_like(input_ids).unsqueeze(0)
        with torch.no_grad():
            expected, lower = self._through_all(ids, mask)
            found = self._through_last(lower, mask)
        error = float((found - expected).abs().max() / expected.abs().max())
        if not error < _TOLERANCE:
            raise ConfigError(
                f"lora_layers: run alone, the last layers of {type(self._model.base_model).__name__} give other hidden "
                f"states than the whole model (relative error {error:.2g}). Leave lora_layers at 0."
            )

    def __call__(self, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Hidden states ``[B, S, H]`` of a batch: with the adapter, with gradient; and without it.

        Args:
            inputs: a batch padded on the right: ``input_ids``, ``attention_mask``, and ``row``, their places in the
                data.
        """
        rows = inputs["row"].tolist()
        if not all(self._is_known[row] for row in rows):
            with torch.no_grad(), adapter_disabled(self._model):
                last, lower = self._through_all(inputs["input_ids"], inputs["attention_mask"])
            for place, row in enumerate(rows):
                start, end = self._starts[row : row + 2]
                self._last[start:end], self._lower[start:end] = (own[place, : end - start] for own in (last, lower))
                self._is_known[row] = True
        lower, last = (self._of_rows(kept, rows, inputs["input_ids"]) for kept in (self._lower, self._last))
        return self._through_last(lower, inputs["attention_mask"]), last

    def _of_rows(self, kept: Tensor, rows: list[int], input_ids: Tensor) -> Tensor:
        states = torch.zeros(*input_ids.shape, kept.shape[-1], dtype=kept.dtype)
        for place, row in enumerate(rows):
            start, end = self._starts[row : row + 2]
            states[place, : end - start] = kept[start:end]
        return states.to(input_ids.device)

    def _through_all(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """The base's last hidden states, and what the first of the last layers took in."""
        taken: list[Tensor] = []
        hook = self._stack[self._first].register_forward_pre_hook(
            lambda _, args, kwargs: taken.append(args[0] if args else kwargs["hidden_states"]), with_kwargs=True
        )
        try:
            last = self._model.lm_head_inputs(input_ids, attention_mask)
        finally:
            hook.remove()
        return last, taken[0]

    def _through_last(self, lower: Tensor, attention_mask: Tensor) -> Tensor:
        with self._alone():
            output = self._model.base_model(
                inputs_embeds=lower, attention_mask=attention_mask, use_cache=False, return_dict=True
            )
        states: Tensor = output.last_hidden_state
        return states

    @contextmanager
    def _alone(self) -> Iterator[None]:
        decoder = self._model.base_model
        decoder.layers = self._stack[self._first :]
        try:
            yield
        finally:
            decoder.layers = self._stack
