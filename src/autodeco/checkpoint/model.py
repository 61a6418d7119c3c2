"""Loading a model with its heads from any layout."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autodeco.checkpoint.adapter import put_adapter, require_peft
from autodeco.checkpoint.adapter_files import find_adapter
from autodeco.checkpoint.auto_class import is_ours
from autodeco.checkpoint.base import load_base, load_weights
from autodeco.checkpoint.heads import StoredHeads, build_heads, find_heads
from autodeco.checkpoint.layout import CONFIG, RELEASED_PREFIX, Layout
from autodeco.checkpoint.released import base_config, transformers_config
from autodeco.checkpoint.source import Source, read_json
from autodeco.errors import CheckpointError
from autodeco.modeling import attach_heads

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from autodeco.modeling import AutoDecoForCausalLM

logger = logging.getLogger(__name__)


def load_model(
    path_or_id: str | Path, *, base_model: str | Path | None = None, revision: str | None = None, **kwargs: Any
) -> AutoDecoForCausalLM:
    """Loads heads with their base, a merged checkpoint, or a released checkpoint of either layout.

    Args:
        path_or_id: local folder or hub id.
        base_model: base to use instead of the recorded one (or the one in the checkpoint). Another id than the
            recorded one is allowed, with a warning, as long as its sizes fit.
        revision: hub revision of ``path_or_id``.
        **kwargs: for Transformers' ``from_pretrained`` of the base.

    Raises:
        ModelNotFoundError: the checkpoint or its base was not found.
        CheckpointError: a file is damaged, or heads, their adapter and base do not belong together.
        MissingDependencyError: the heads have an adapter, and PEFT is not installed.
    """
    source = Source.open(path_or_id, revision)
    found = find_heads(source)
    heads = build_heads(found)  # before the base: seconds, where the base may take minutes
    adapter = find_adapter(found)
    if adapter is not None:
        require_peft()
    if base_model is not None:
        warn_of_other_base(found, str(base_model))
        base = load_base(base_model, **kwargs)
    elif found.layout.has_base_weights:
        base = _load_own_base(found, **kwargs)
    else:
        base = load_base(recorded_base(found), revision=found.config.base_model_revision, **kwargs)
    if adapter is not None:
        put_adapter(base, adapter)
    try:
        return attach_heads(base, heads)
    except CheckpointError as error:
        raise CheckpointError(f"{found.label}: {error}") from None


def recorded_base(found: StoredHeads) -> str:
    """The base model that a checkpoint of heads records.

    Raises:
        CheckpointError: it records none.
    """
    if found.base_name is None:
        raise CheckpointError(
            f"'{found.source.name}' does not record its base model (base_model_name_or_path is empty). Name it: "
            f"from_pretrained(..., base_model=...), or --base on the command line."
        )
    return found.base_name


def warn_of_other_base(found: StoredHeads, base: str) -> None:
    """Logs a warning if ``base`` is not the model that the heads record."""
    recorded = found.base_name
    if recorded is None or base in (recorded, found.config.base_model_name_or_path):
        return
    if Path(base).is_dir() and Path(recorded).is_dir() and Path(base).samefile(recorded):
        return
    logger.warning(
        "heads '%s' were made for base model '%s' and are used with '%s'; temperatures and top-p are only meaningful "
        "if the two have the same weights.",
        found.source.name,
        recorded,
        base,
    )


def _load_own_base(found: StoredHeads, **kwargs: Any) -> PreTrainedModel:
    """Loads the base weights that lie in the checkpoint itself."""
    source = found.source.fetched(weights=True)
    assert source.folder is not None
    if found.layout is Layout.RELEASED_FULL:
        where = source.label(CONFIG)
        values = base_config(read_json(source.need(CONFIG)), where)
        kwargs = {
            "config": transformers_config(values, where),
            "key_mapping": {"^" + RELEASED_PREFIX.replace(".", r"\."): ""},
            **kwargs,
        }
    elif is_ours(read_json(source.need(CONFIG))):
        kwargs.pop("trust_remote_code", None)  # Transformers would ask our class again
    return load_weights(source.folder, source.name, **kwargs)
