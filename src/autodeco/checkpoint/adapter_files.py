"""A LoRA adapter as it lies beside the heads that were trained with it: found, checked, read. Needs no PEFT.

The two files are PEFT's own. The heads' configuration holds the SHA-256 of the weights, so that heads are never used
with another adapter, nor with none.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from autodeco.checkpoint.heads import StoredHeads
from autodeco.checkpoint.layout import ADAPTER_CONFIG, ADAPTER_FILE
from autodeco.checkpoint.shards import StoredTensor, read_header
from autodeco.checkpoint.source import read_json
from autodeco.errors import CheckpointError
from autodeco.files import sha256_of


@dataclass(frozen=True)
class StoredAdapter:
    """An adapter on disk.

    Attributes:
        config: PEFT's settings of it.
        path: its weights.
        label: how errors name the weights.
        stored: where each tensor lies.
    """

    config: dict[str, Any]
    path: Path
    label: str
    stored: dict[str, StoredTensor]

    def tensors(self) -> dict[str, Tensor]:
        """The tensors under PEFT's names, in the dtype they were stored in.

        Raises:
            CheckpointError: the file cannot be read, or a value is NaN or infinite.
        """
        try:
            tensors: dict[str, Tensor] = load_file(self.path)
        except SafetensorError as error:
            raise CheckpointError(f"{self.label} cannot be read: {error}. Get the file again.") from error
        bad = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
        if bad:
            raise CheckpointError(f"{self.label}: {len(bad)} tensors hold NaN or infinity ({', '.join(bad[:3])}).")
        return tensors


def find_adapter(found: StoredHeads) -> StoredAdapter | None:
    """The adapter that heads were trained with; ``None`` for heads of a plain base.

    Raises:
        CheckpointError: a file is missing or damaged, or it is the adapter of other heads, of another base model, or
            no LoRA.
    """
    expected = found.config.adapter_sha256
    if expected is None:
        return None
    source = found.source
    label = source.label(ADAPTER_FILE)
    config = read_json(source.need(ADAPTER_CONFIG))
    path = source.need(ADAPTER_FILE)
    stored = read_header(path)
    if config.get("peft_type") != "LORA":
        raise CheckpointError(
            f"{source.label(ADAPTER_CONFIG)}: an adapter of type 'LORA' is needed, found {config.get('peft_type')!r}."
        )
    base, recorded = config.get("base_model_name_or_path"), found.config.base_model_name_or_path
    if base != recorded:
        raise CheckpointError(
            f"{source.label(ADAPTER_CONFIG)} is of an adapter for base model {base!r}, and the heads beside it are for "
            f"{recorded!r}. Get both from one run; where the base was only moved, correct both files."
        )
    if (digest := sha256_of(path)) != expected:
        raise CheckpointError(
            f"{label} is not the adapter that these heads were trained with, or it is damaged (SHA-256 "
            f"{digest[:12]}..., recorded {expected[:12]}...). Get the folder again."
        )
    return StoredAdapter(config, path, label, stored)
