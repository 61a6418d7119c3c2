"""A sampler for whatever a user names as a model, on the engine that is there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from autodeco.checkpoint import load_base
from autodeco.errors import ConfigError, did_you_mean
from autodeco.rollouts.sampler import Sampler
from autodeco.serving.checkpoint import has_heads
from autodeco.serving.vllm import launch

ENGINES = ("auto", "vllm", "transformers")


def chosen_engine(engine: str) -> str:
    """``"vllm"`` or ``"transformers"``: for ``"auto"`` vLLM where it is installed.

    Raises:
        ConfigError: there is no such engine.
        MissingDependencyError: vLLM was asked for, and is missing or of a version that is not supported.
    """
    if engine not in ENGINES:
        raise ConfigError(f"unknown engine '{engine}'.{did_you_mean(engine, ENGINES)}")
    if engine == "vllm" or (engine == "auto" and launch.is_installed()):
        launch.check_version()
        return "vllm"
    return "transformers"


@contextmanager
def open_sampler(
    model: str,
    *,
    base: str | None = None,
    engine: str = "auto",
    dtype: str = "auto",
    batch_size: int = 64,
    max_length: int | None = None,
) -> Iterator[Sampler]:
    """Loads a model to draw completions with; gives its memory back at the end.

    Args:
        model: a plain base, heads, a merged or a released checkpoint.
        base: base model, instead of the one that heads record.
        engine: one of :data:`ENGINES`.
        dtype: ``auto`` (as it is stored), ``bfloat16``, ``float32``.
        batch_size: most completions at a time (on vLLM, as many as its memory holds if that is fewer).
        max_length: longest prompt and completion together, in tokens, for which vLLM reserves memory; ``None`` for
            what the model can take.

    Raises:
        ConfigError: there is no such engine.
        ModelNotFoundError: model or base was not found.
        CheckpointError: a file is damaged, or heads and base do not belong together.
        MissingDependencyError: vLLM was asked for, and cannot be used.
    """
    if chosen_engine(engine) == "vllm":
        from autodeco.serving.vllm.sampler import VllmSampler

        sampler = VllmSampler(model, base=base, dtype=dtype, batch_size=batch_size, max_length=max_length)
        try:
            yield sampler
        finally:
            sampler.close()
        return
    from autodeco.rollouts import TransformersSampler
    from autodeco.serving.load import load_model_and_tokenizer, load_tokenizer

    if has_heads(model):
        yield TransformersSampler(*load_model_and_tokenizer(model, base, dtype=dtype))
    else:
        yield TransformersSampler(load_base(model, dtype=dtype).eval(), load_tokenizer(model))
