"""Loading a model with its tokenizer, as everything that generates text with Transformers needs them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from autodeco.errors import ModelNotFoundError


def load_model_and_tokenizer(
    path: str, base_model: str | None = None, *, revision: str | None = None, dtype: str = "auto"
) -> tuple[Any, Any]:
    """Loads an AutoDeco model and the tokenizer of its folder or, if it has none there, of its base.

    Args:
        path: heads' folder, merged or released checkpoint, or hub id.
        base_model: base to use instead of the recorded one.
        revision: hub revision of ``path``.
        dtype: of the base model: ``auto`` (as it is stored), ``bfloat16``, ``float32``.

    Raises:
        AutoDecoError: as :meth:`AutoDecoForCausalLM.from_pretrained` does.
    """
    from autodeco.modeling import AutoDecoForCausalLM

    options = {"base_model": base_model} if base_model else {}
    model = AutoDecoForCausalLM.from_pretrained(path, revision=revision, dtype=dtype, **options)
    folder = Path(path)
    source = path if (folder / "tokenizer_config.json").exists() else model.autodeco_config.base_model_name_or_path
    if source is None:
        source = path
    return model, load_tokenizer(base_model or source)


def context_length(model: Any) -> int | None:
    """Tokens that a loaded model reads at most, prompt and answer together; ``None`` if its configuration has none."""
    found: int | None = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return found


def load_tokenizer(model: str) -> Any:
    """The tokenizer of a model: folder, hub id, ``smollm2-135m``.

    Raises:
        ModelNotFoundError: there is none.
    """
    from transformers import AutoTokenizer

    from autodeco.bundled import resolve_model

    try:
        return AutoTokenizer.from_pretrained(resolve_model(model))
    except OSError as error:
        reason = " ".join(str(error).split())
        raise ModelNotFoundError(f"no tokenizer was found for '{model}' ({reason:.300}).") from None
