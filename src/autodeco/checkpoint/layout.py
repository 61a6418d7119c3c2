"""Which of the layouts a folder or hub repository is in, and which of its files holds which tensor."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import PurePosixPath

from autodeco.checkpoint.shards import StoredTensor, read_header
from autodeco.checkpoint.source import Source, no_connection, read_json
from autodeco.errors import CheckpointError

HEADS_CONFIG = "autodeco_config.json"
HEADS_FILE = "autodeco_heads.safetensors"
ADAPTER_CONFIG = "adapter_config.json"  # both of PEFT's
ADAPTER_FILE = "adapter_model.safetensors"
SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
CONFIG = "config.json"
SECTION = "autodeco"  # of a merged checkpoint's config.json
RELEASED_MODEL_TYPE = "autodeco"
RELEASED_PREFIX = "llm."
HEAD_TENSOR = re.compile(r"^(temp_head|top_p_head)\.")


class Layout(StrEnum):
    """The four layouts of a checkpoint with heads, and a model without any."""

    HEADS = "heads"
    MERGED = "merged"
    RELEASED_HEADS = "released-heads"
    RELEASED_FULL = "released-full"
    BASE = "base"

    @property
    def has_base_weights(self) -> bool:
        """Whether the base model's weights are in the checkpoint."""
        return self not in (Layout.HEADS, Layout.RELEASED_HEADS)


def detect_layout(source: Source) -> Layout:
    """Tells a checkpoint's layout from its configuration and the names of its tensors.

    Raises:
        ModelNotFoundError: a hub repository that cannot be had.
        CheckpointError: the folder is no checkpoint, or its configuration is damaged.
    """
    if source.find(HEADS_CONFIG) is not None:
        return Layout.HEADS
    path = source.find(CONFIG)
    if path is None:
        if source.folder is None:
            asked = "cannot be reached, and among the files it gave before there is" if no_connection() else "has"
            raise source.not_found(f"it {asked} neither {HEADS_CONFIG} nor {CONFIG}")
        raise CheckpointError(
            f"{source.folder} has neither {HEADS_CONFIG} (heads) nor {CONFIG} (a model), so it is no checkpoint. "
            f"Give the folder that 'autodeco train' or 'autodeco merge' wrote, or a model's folder."
        )
    config = read_json(path)
    if config.get("model_type") == RELEASED_MODEL_TYPE:
        full = any(name.startswith(RELEASED_PREFIX) for name in tensor_files(source))
        return Layout.RELEASED_FULL if full else Layout.RELEASED_HEADS
    return Layout.MERGED if SECTION in config else Layout.BASE


def tensor_files(source: Source) -> dict[str, str]:
    """Tensor name → name of the file that holds it, from the index or, without one, the only weight file.

    Raises:
        CheckpointError: there are no safetensors weights, or the index is damaged.
    """
    index = source.find(INDEX_FILE)
    if index is not None:
        weight_map = read_json(index).get("weight_map")
        if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
            raise CheckpointError(f"{index}: 'weight_map' (tensor name → file name) is missing or malformed.")
        for name in set(weight_map.values()):
            if PurePosixPath(name).name != name or "\\" in name:
                raise CheckpointError(f"{index}: '{name}' is no plain file name; weights must lie beside the index.")
        return weight_map
    for name in (SINGLE_FILE, HEADS_FILE):
        path = source.find(name)
        if path is not None:
            return dict.fromkeys(read_header(path), name)
    raise CheckpointError(f"{source.label('')} has no safetensors weights.{_other_weights(source)}")


def stored_tensors(source: Source, names: dict[str, str]) -> dict[str, StoredTensor]:
    """Finds tensors in their files.

    Args:
        source: the checkpoint.
        names: tensor name → file name, all or some of :func:`tensor_files`.

    Raises:
        CheckpointError: a file is missing or damaged, or lacks a tensor that the index places in it.
    """
    headers = {name: read_header(source.need(name)) for name in sorted(set(names.values()))}
    for tensor, file in names.items():
        if tensor not in headers[file]:
            raise CheckpointError(f"{source.label(file)} lacks the tensor '{tensor}', which {INDEX_FILE} places there.")
    return {tensor: headers[file][tensor] for tensor, file in names.items()}


def _other_weights(source: Source) -> str:
    needed = f" Needed: {SINGLE_FILE}, or {INDEX_FILE} and its files."
    if source.folder is None:
        return needed
    weights = {".bin", ".pt", ".pth", ".gguf", ".onnx", ".h5", ".msgpack", ".safetensors"}
    others = sorted(path.name for path in source.folder.iterdir() if path.suffix in weights)
    if not others:
        return needed
    return (
        f" Found: {', '.join(others[:4])}.{needed} Transformers can rewrite most models: "
        f"AutoModelForCausalLM.from_pretrained(folder).save_pretrained(new_folder)."
    )
