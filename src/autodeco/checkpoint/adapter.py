"""A LoRA adapter on a base model: made, put on, written, switched off, folded into the weights. PEFT does the work.

Which files of a checkpoint an adapter is in is the business of ``adapter_files.py``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from autodeco.checkpoint.adapter_files import StoredAdapter
from autodeco.checkpoint.source import to_json
from autodeco.errors import CheckpointError, ConfigError, MissingDependencyError

if TYPE_CHECKING:
    from peft import LoraModel

    from autodeco.modeling import AutoDecoForCausalLM

_NAME = "default"  # PEFT's own name of an only adapter
_PREFIX = "base_model.model."  # of tensors in PEFT's files


@dataclass(frozen=True)
class SavedAdapter:
    """The contents of an adapter's two files."""

    config: bytes
    weights: bytes

    @property
    def sha256(self) -> str:
        """What the heads' configuration records, in hexadecimal."""
        return hashlib.sha256(self.weights).hexdigest()


def require_peft() -> Any:
    """PEFT, the package.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import peft
        import peft.functional
    except ImportError as error:
        raise MissingDependencyError(
            f"a LoRA adapter needs PEFT, which is not installed ({error}): pip install 'autodeco[lora]'."
        ) from None
    return peft


def add_adapter(base: Any, *, rank: int, alpha: float, targets: str | Sequence[str]) -> None:
    """Puts a new LoRA adapter on a base model, in place; it changes nothing until it is trained.

    Args:
        base: a loaded causal LM, without heads: their layers are not to be adapted.
        rank: of each layer's change, ``(alpha / rank) · B A``.
        alpha: its scale.
        targets: ``"all-linear"`` (of PEFT: every linear layer but ``lm_head``), or the last parts of layers' names.

    Raises:
        MissingDependencyError: PEFT is not installed.
        ConfigError: no layer has such a name, or ``lm_head`` or the embedding has.
    """
    peft = require_peft()
    # No dropout: the base is in evaluation mode while heads are trained, and stays so.
    config = peft.LoraConfig(
        r=rank,
        lora_alpha=alpha,
        target_modules=targets if isinstance(targets, str) else list(targets),
        lora_dropout=0.0,
        bias="none",
        task_type="CAUSAL_LM",
    )
    try:
        _adapted(base, config)
    except ValueError as error:
        linear = sorted({name.rpartition(".")[2] for name, part in base.named_modules() if type(part) is nn.Linear})
        raise ConfigError(f"lora_targets: {error} Linear layers of this model: {', '.join(linear)}.") from None
    for layer in (base.get_output_embeddings(), base.get_input_embeddings()):
        if hasattr(layer, "base_layer"):
            raise ConfigError(
                "lora_targets: lm_head and the embedding cannot be adapted (found "
                f"{targets!r}): the heads read the input of lm_head, and T and P are to move, not the words."
            )


def put_adapter(base: Any, stored: StoredAdapter) -> LoraModel:
    """Puts a stored adapter on a base model, in place.

    Args:
        base: a loaded causal LM, without heads.
        stored: as :func:`autodeco.checkpoint.adapter_files.find_adapter` gives it.

    Returns:
        PEFT's tuner around the base.

    Raises:
        MissingDependencyError: PEFT is not installed.
        CheckpointError: the adapter is of another base model: its layers are not there, or of other sizes.
    """
    peft = require_peft()
    tensors = stored.tensors()
    name = getattr(base.config, "_name_or_path", None) or type(base).__name__
    try:
        config = peft.PeftConfig.from_peft_type(**stored.config)
        config.inference_mode = True  # adds no gradient
        tuner = _adapted(base, config)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{stored.label} does not fit base model '{name}': {error}") from error
    set_adapter_weights(base, tensors, f"{stored.label} does not fit base model '{name}'")
    return tuner


def set_adapter_weights(model: Any, tensors: dict[str, Tensor], problem: str) -> None:
    """Overwrites the weights of the adapter that is on a model.

    Args:
        model: with or without heads.
        tensors: under the names in PEFT's files.
        problem: how an error begins.

    Raises:
        CheckpointError: names or shapes differ from those of the adapter's layers.
    """
    peft = require_peft()
    expected = {_PREFIX + name: tensor.shape for name, tensor in _state(model).items()}
    missing, superfluous = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
    other = sorted(name for name in expected.keys() & tensors.keys() if expected[name] != tensors[name].shape)
    for what, names in (("are missing", missing), ("have no layer", superfluous), ("are of another size", other)):
        if names:
            raise CheckpointError(f"{problem}: {len(names)} tensors {what} ({', '.join(names[:3])}).")
    own = {name.removeprefix(_PREFIX): tensor for name, tensor in tensors.items()}
    peft.set_peft_model_state_dict(model, own, adapter_name=_NAME)


def saved_adapter(model: AutoDecoForCausalLM) -> SavedAdapter | None:
    """What to write of the adapter that a model has beside its heads; ``None`` if it has none.

    Raises:
        CheckpointError: it is none that :func:`put_adapter` could put on again, or a weight is NaN or infinite.
    """
    if not has_adapter(model):
        return None
    configs = model.peft_config
    kinds = ", ".join(f"{name}: {config.peft_type}" for name, config in configs.items())
    if [str(config.peft_type.value) for config in configs.values()] != ["LORA"] or _NAME not in configs:
        raise CheckpointError(
            f"heads are saved with one LoRA adapter named '{_NAME}', and this model has others ({kinds}). Merge them "
            f"into the base before heads are put on it."
        )
    tensors = {_PREFIX + name: tensor.detach().cpu().contiguous() for name, tensor in _state(model).items()}
    bad = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    if bad:
        raise CheckpointError(f"the adapter was not written: {len(bad)} tensors hold NaN or infinity ({bad[0]}).")
    base = model.decoding_heads.config.base_model_name_or_path
    values = {**configs[_NAME].to_dict(), "base_model_name_or_path": base, "inference_mode": True}
    values = json.loads(json.dumps(values, default=_plain))
    return SavedAdapter(to_json(values).encode(), to_safetensors(tensors, metadata={"format": "pt"}))


def has_adapter(model: nn.Module) -> bool:
    """Whether PEFT has put an adapter on a model."""
    return bool(getattr(model, "peft_config", None))


def adapter_parameters(model: nn.Module) -> list[nn.Parameter]:
    """The weights of the adapter on a model, in order of its layers."""
    return [parameter for name, parameter in model.named_parameters() if is_adapter_weight(name)]


def is_adapter_weight(name: str) -> bool:
    """Whether a parameter of a model is the adapter's, by its name."""
    return ".lora_" in name


def plain_name(name: str) -> str:
    """The name that a base's parameter has without an adapter."""
    return name.replace(".base_layer.", ".")


@contextmanager
def adapter_disabled(model: nn.Module) -> Iterator[None]:
    """Within this context a model's base is what it is without its adapter, as with PEFT's ``disable_adapter``."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    enabled = [layer for layer in model.modules() if isinstance(layer, BaseTunerLayer) and not layer.disable_adapters]
    before = [(parameter, parameter.requires_grad) for parameter in adapter_parameters(model)]
    try:
        for layer in enabled:
            layer.enable_adapters(False)
        yield
    finally:
        for layer in enabled:
            layer.enable_adapters(True)
        for parameter, required in before:  # PEFT makes those of enabled adapters trainable
            parameter.requires_grad_(required)


def folded(base: Any, stored: StoredAdapter) -> Any:
    """A base model with a stored adapter added to its weights: ``W + (alpha / r) B A``, rounded as the base is.

    Args:
        base: a loaded causal LM, which is changed in place.
        stored: the adapter.

    Raises:
        MissingDependencyError: PEFT is not installed.
        CheckpointError: the adapter is of another base model, or a sum is NaN or infinite.
    """
    tuner = put_adapter(base, stored)
    try:
        with torch.no_grad():
            return tuner.merge_and_unload(safe_merge=True)
    except ValueError as error:
        raise CheckpointError(f"{stored.label} cannot be folded into the base's weights: {error}") from error


def _adapted(base: Any, config: Any) -> LoraModel:
    """PEFT's tuner of a base that now has an adapter, in float32 whatever the base's precision is."""
    peft = require_peft()
    tuner: LoraModel = peft.LoraModel(base, config, _NAME)
    # Steps of training are smaller than what bfloat16 can tell from nothing. PEFT does so for its own models alone.
    peft.functional.cast_adapter_dtype(base, adapter_name=_NAME)
    return tuner


def _state(model: Any) -> dict[str, Tensor]:
    peft = require_peft()
    # The embedding is never adapted; "auto" would look for the base on the hub to see whether it was resized.
    state: dict[str, Tensor] = peft.get_peft_model_state_dict(model, adapter_name=_NAME, save_embedding_layers=False)
    return state


def _plain(value: Any) -> Any:
    """What PEFT's settings hold besides JSON's types: sets of layers' names."""
    if isinstance(value, set):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")
